"""Checks for notebook 01: bits, gradients through a codebook, levels and dead codes."""

import torch
import torch.nn.functional as F
from torch import Tensor

from pixelprior.course.checks.verdict import (
    Wrong,
    call,
    judged,
    need_number,
    need_tensor,
)
from pixelprior.vqvae2 import VQVAE2, perplexity


@judged
def bits_per_image(answer, vqvae2: VQVAE2) -> str:
    """The answer is the bits per image before and after encoding.

    Before, each pixel value takes 8 bits. After, each code takes as many bits as it
    takes to distinguish K codes. The check counts both from the model's sizes.
    """
    try:
        before, after = answer
    except (TypeError, ValueError) as error:
        raise Wrong(
            f"your answer is {answer!r}, but two numbers are needed: bits before, bits "
            "after"
        ) from error
    before, after = need_number(before, "bits before"), need_number(after, "bits after")
    side, channels = vqvae2.image_size, vqvae2.in_channels
    pixels = 8 * torch.zeros(channels, side, side).numel()
    codes = vqvae2.latent_spatial_dim_top**2 + vqvae2.latent_spatial_dim_bottom**2
    width = (vqvae2.num_embeddings - 1).bit_length()
    if before != pixels:
        size = "too few" if before < pixels else "too many"
        raise Wrong(
            f"{before:g} bits before are {size}; how many pixels has an image, and how "
            "many bits has each?"
        )
    if after != codes * width:
        size = "too few" if after < codes * width else "too many"
        raise Wrong(
            f"{after:g} bits after are {size}; how many codes are there in both grids, "
            "and how many bits tell the codes of a codebook apart?"
        )
    return (
        f"{pixels} bits of pixels become {codes} codes of {width} bits, which is "
        f"{pixels / (codes * width):.1f} times less"
    )


@judged
def straight_through(answer) -> str:
    """The answer is a function (features, quantized) → the decoder's input, all
    [B, D, H, W].

    In the forward pass, the result must equal `quantized`. In the backward pass, all of
    the gradient must go to `features`.
    """
    generator = torch.Generator().manual_seed(0)
    features, quantized, sent = torch.randn(
        3, 2, 3, 4, 5, dtype=torch.float64, generator=generator
    )
    features.requires_grad_(True)
    quantized.requires_grad_(True)
    with torch.enable_grad():
        out = call(
            answer,
            features.clone(),
            quantized.clone(),
            what="your function",
        )
        out = need_tensor(out, features.shape, "what your function gives")
        if not torch.allclose(out.detach().double(), quantized.detach()):
            raise Wrong(
                "the decoder gets other values than the quantized ones; leave out "
                "every detach and work out what is left"
            )
        if not out.requires_grad:
            raise Wrong(
                "no gradient gets back from what your function gives; something of it "
                "must stay attached"
            )
        to_features, to_codes = torch.autograd.grad(
            (out * sent).sum(), (features, quantized), allow_unused=True
        )
    if to_features is None or not to_features.any():
        raise Wrong("the features get no gradient, so the encoder would not learn")
    if not torch.allclose(to_features, sent):
        raise Wrong(
            "the features get a gradient, but not the one that the decoder sent: the "
            f"first number should be {sent.flatten()[0]:.2f} and is "
            f"{to_features.flatten()[0]:.2f}"
        )
    if to_codes is not None and to_codes.any():
        raise Wrong(
            "the codebook gets a gradient as well; ours moves by averages alone, so "
            "nothing may get back to `quantized`"
        )
    return (
        "forward the decoder gets the quantized values, backward the features get the "
        "whole gradient and the codebook none"
    )


@judged
@torch.no_grad()
def outline_level(answer, vqvae2: VQVAE2, images: Tensor) -> str:
    """The answer is the level, "top" or "bottom", that holds the outline.

    The check takes the codes of each level from another of the images [B, C, S, S]. The
    right level is the one that changes the coarse picture more.
    """
    if not isinstance(answer, str) or answer not in ("top", "bottom"):
        raise Wrong(f"your answer is {answer!r}; give 'top' or 'bottom'")
    codes = vqvae2.get_code_indices(images)
    z_top, z_bottom = codes["indices_top"], codes["indices_bottom"]
    right = vqvae2.decode_codes(z_top, z_bottom)
    mixed = {
        "top": vqvae2.decode_codes(z_top.roll(1, 0), z_bottom),
        "bottom": vqvae2.decode_codes(z_top, z_bottom.roll(1, 0)),
    }
    coarse = {
        level: (F.avg_pool2d(each, 4) - F.avg_pool2d(right, 4)).square().mean().item()
        for level, each in mixed.items()
    }
    other = "bottom" if answer == "top" else "top"
    if coarse[answer] <= coarse[other]:
        raise Wrong(
            f"with {answer} codes of another image, the picture seen in squares of "
            "4 × 4 pixels changes less than with other codes of the level that you did "
            "not name"
        )
    return (
        f"with {answer} codes of another image, the picture in squares of 4 × 4 "
        f"pixels has {coarse[answer] / coarse[other]:.0f} times the mean squared "
        f"change that it has with {other} codes of another image"
    )


@judged
@torch.no_grad()
def renewal(answer, features: Tensor, steps: int = 30) -> str:
    """The answer is a function (e [K, D], counts [K], features [N, D]) → e [K, D].

    The function must move each dead code, which has an average count below 1, to one of
    the features. The check tries it on single codebooks first, and then in moving
    averages over `features` [N, D] that start far from these features.
    """
    generator = torch.Generator().manual_seed(0)
    e = torch.randn(8, features.shape[1], generator=generator)
    counts = torch.tensor([0.2, 5.0, 0.0, 3.0, 0.99, 1.0, 40.0, 7.0])
    some = torch.randn(200, features.shape[1], generator=generator)
    _judge_renewed(answer, e, counts, some)
    _judge_renewed(answer, e, counts + 1, some)
    # So many dead codes that two of them meet if rows are drawn with replacement.
    many = torch.randn(48, features.shape[1], generator=generator)
    _judge_renewed(answer, many, torch.arange(48.0) - 44, some)
    with torch.random.fork_rng(devices=[]):
        used = {
            name: _after_averages(renew, features, steps)
            for name, renew in (("with", answer), ("without", None))
        }
    if not used["with"] > 2 * used["without"]:
        raise Wrong(
            f"after {steps} steps from a bad start the perplexity is "
            f"{used['with']:.0f} with your renewal, and {used['without']:.0f} without "
            "any"
        )
    return (
        f"dead codes come to life and the others stay; after {steps} steps from a bad "
        "start the perplexity is more than twice what it is without renewal"
    )


def _judge_renewed(renew, e: Tensor, counts: Tensor, features: Tensor) -> None:
    new = _renewed(renew, e, counts, features)
    dead = counts < 1
    for code in (~dead).nonzero().flatten().tolist():
        if not torch.equal(new[code], e[code]):
            raise Wrong(
                f"code {code} has an average count of {counts[code]:g}, so it is not "
                "dead, and yet its vector changed"
            )
    distance = torch.cdist(new, features, compute_mode="donot_use_mm_for_euclid_dist")
    for code in dead.nonzero().flatten().tolist():
        if torch.equal(new[code], e[code]):
            raise Wrong(
                f"code {code} has an average count of {counts[code]:g} and was left "
                "where it was"
            )
        if distance[code].min() > 1e-5:
            raise Wrong(
                f"code {code} was dead and is now a vector that is none of the features"
            )
    if len(new[dead].unique(dim=0)) < dead.sum():
        raise Wrong("dead codes became one and the same vector; give each its own")


def _renewed(renew, e: Tensor, counts: Tensor, features: Tensor) -> Tensor:
    new = call(renew, e.clone(), counts.clone(), features.clone())
    new = need_tensor(new, e.shape, "what your function gives").to(e.dtype)
    if not new.isfinite().all():
        raise Wrong("what your function gives has numbers that are not finite")
    return new


def _after_averages(renew, features: Tensor, steps: int, decay: float = 0.8) -> float:
    """Perplexity of 64 codes after `steps` moving-average updates from random normal
    vectors; without renewal, `renew` is None."""
    torch.manual_seed(0)
    e = torch.randn(64, features.shape[1])
    counts, sums = torch.ones(64), e.clone()
    for _ in range(steps):
        batch = features[torch.randint(len(features), (1024,))]  # [1024, D]
        one_hot = F.one_hot(torch.cdist(batch, e).argmin(1), 64).float()  # [1024, K]
        counts = decay * counts + (1 - decay) * one_hot.sum(0)
        sums = decay * sums + (1 - decay) * one_hot.T @ batch
        e = sums / counts[:, None]
        if renew is not None:
            e, dead = _renewed(renew, e, counts, batch), counts < 1
            counts = torch.where(dead, torch.ones_like(counts), counts)
            sums = torch.where(dead[:, None], e, sums)
    return perplexity(torch.cdist(features, e).argmin(1), 64).item()
