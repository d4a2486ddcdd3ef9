"""Checks for notebook 01: the nearest code, a gradient past it, and dead codes."""

import math
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelprior.assets import shipped_folder
from pixelprior.checkpoints import load_model
from pixelprior.course.checks.verdict import (
    Wrong,
    call,
    judged,
    need_codes,
    need_number,
    need_tensor,
)
from pixelprior.data.images import ImageData
from pixelprior.vqvae2 import VQVAE2

TRUTH = "ours: boot, without: pullover"  # of 01.5


def nearest_code(points: Tensor, e: Tensor) -> Tensor:
    """The number of the nearest row of e [K, D] for each of the points [N, D]: [N]."""
    return (points[:, None] - e).square().sum(dim=2).argmin(dim=1)


@judged
def nearest(answer) -> str:
    """The answer is a function (points [N, D], e [K, D]) → codes [N], as
    `nearest_code`."""
    generator = torch.Generator().manual_seed(0)
    for count, codes, length in ((60, 8, 2), (6, 6, 3), (1, 4, 5)):
        points = torch.randn(count, length, generator=generator)
        e = 2 * torch.randn(codes, length, generator=generator)
        z = call(answer, points.clone(), e.clone())
        z = need_tensor(z, what="what your function returns")
        for shape, words in {
            (count, length): "one number for each coordinate of a point",
            (count, codes): "one number for each point and each code",
            (codes,): "one number for each code",
        }.items():
            if z.shape == shape != (count,):
                raise Wrong(
                    f"for {count} points and {codes} codes your function returns "
                    f"{words}, {list(shape)}; one code for each point is needed"
                )
        z = need_codes(z, (count,), codes, "what your function returns")
        apart = (points[:, None] - e).abs()  # [N, K, D]
        distances = apart.square().sum(dim=2)  # [N, K]
        far = distances[torch.arange(count), z] > distances.min(dim=1).values + 1e-5
        if far.any():
            raise Wrong(_why_far(z, points, e, apart, int(far.nonzero()[0])))
    many, begun = torch.randn(50_000, 2, generator=generator), time.process_time()
    call(answer, many, many[:8])
    if time.process_time() - begun > 1:
        raise Wrong("your codes are right, but a loop over the points is too slow here")
    return "each point has the code of the nearest vector"


def _why_far(z, points, e, apart, point: int) -> str:
    found = (
        f"point {point} gets code {z[point]}, but code "
        f"{nearest_code(points, e)[point]} is nearer"
    )
    for mistaken, words in (
        (apart.square().sum(2).argmax(1), "your codes are those of the farthest"),
        (apart.sum(2).argmin(1), "are the differences squared before they are summed?"),
        ((points @ e.T).argmax(1), "a large product is no small distance"),
    ):
        if torch.equal(z, mistaken):
            return f"{found}; {words}"
    return (
        f"{found}; is the argmin over the codes, for each point, and is the distance "
        f"summed over all D = {e.shape[1]} squared differences?"
    )


def passed_through(features: Tensor, quantized: Tensor) -> Tensor:
    """The value of `quantized`, whose gradient is given to `features`."""
    return features + (quantized - features).detach()


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
        given = features.clone()
        out = call(answer, given, quantized.clone())
        out = need_tensor(out, features.shape, "what your function gives")
        if not torch.equal(given, features):
            raise Wrong("your function changed `features`; return a new tensor")
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
            "`quantized` gets a gradient as well, but the decoder's is for `features` "
            "alone; a term of the loss moves the codes"
        )
    return (
        "forward the decoder gets the quantized values, backward the features get the "
        "whole gradient and the codebook none"
    )


@judged
def perplexity(answer) -> str:
    """The answer is a function (codes, K) → the perplexity of the codes.

    The check tries one code alone, codes that are equally frequent, and codes that are
    not.
    """
    for counts, num_embeddings in (
        ((4,) * 5, 5),
        ((8,), 1),
        ((9, 9), 4),
        ((8, 4, 4), 6),
    ):
        codes = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
        codes = codes.view(2, -1)  # [2, N / 2]
        got = call(answer, codes.clone(), num_embeddings)
        given = f"for {len(counts)} of {num_embeddings} codes, "
        if isinstance(got, Tensor) and got.isnan().any():
            raise Wrong(f"{given}your function gives nan; what is the log of 0?")
        got = need_number(got, "what your function returns")
        shares = torch.tensor(counts) / sum(counts)
        entropy = -(shares * shares.log()).sum().item()
        alike = "equally frequent" if len({*counts}) == 1 else f"with counts {counts}"
        given = f"{given}{alike}, your function gives {got:.4g}"
        if abs(got - entropy) < 1e-3:
            raise Wrong(f"{given}, the entropy; take exp of it")
        if len({*counts}) == 1 and abs(got - len(counts)) > 1e-3:
            raise Wrong(
                f"{given}, and not {len(counts)}; do the shares sum to 1, is there a "
                "minus before the natural logarithm, and exp of the sum?"
            )
        if abs(got - len(counts)) < 1e-3 < abs(got - math.exp(entropy)):
            raise Wrong(
                f"{given}, the number of codes in use; does a rare one count as much?"
            )
        if abs(got - math.exp(entropy)) > 1e-3:
            raise Wrong(f"{given}; does each code weigh as much as its share?")
    return "it is the number of equally frequent codes with the same entropy"


def renewed(e: Tensor, counts: Tensor, features: Tensor) -> Tensor:
    """The codebook e [K, D] with each code whose count, of [K], is below 1 moved to
    one of the features [N, D], each to a different one."""
    rows, dead = torch.randperm(len(features)), counts < 1
    chosen = features[rows[: len(e)]]  # [K, D]
    return torch.where(dead[:, None], chosen, e)


@judged
@torch.no_grad()
def renewal(answer) -> str:
    """The answer is a function (e [K, D], counts [K], features [N, D]) → e [K, D], as
    `renewed`."""
    generator = torch.Generator().manual_seed(0)
    e = torch.randn(8, 3, generator=generator)
    counts = torch.tensor([0.2, 5.0, 0.0, 3.0, 0.99, 1.0, 40.0, 7.0])
    features = torch.randn(200, 3, generator=generator)
    _judge_renewed(answer, e, counts, features)
    _judge_renewed(answer, e, counts + 1, features)
    # So many dead codes that two of them meet if rows are drawn with replacement.
    many = torch.randn(48, 3, generator=generator)
    _judge_renewed(answer, many, torch.arange(48.0) - 44, features)
    return "dead codes are moved to features, and the others stay"


def _judge_renewed(renew, e: Tensor, counts: Tensor, features: Tensor) -> None:
    new = call(renew, e.clone(), counts.clone(), features.clone())
    new = need_tensor(new, e.shape, "what your function gives").to(e.dtype)
    if not new.isfinite().all():
        raise Wrong("what your function gives has numbers that are not finite")
    dead = counts < 1
    for code in (~dead).nonzero().flatten().tolist():
        if not torch.equal(new[code], e[code]):
            raise Wrong(
                f"code {code} has a count of {counts[code]:g}, so it is not "
                "dead, and yet its vector changed"
            )
    distance = torch.cdist(new, features, compute_mode="donot_use_mm_for_euclid_dist")
    for code in dead.nonzero().flatten().tolist():
        if torch.equal(new[code], e[code]):
            raise Wrong(
                f"code {code} has a count of {counts[code]:g} and was left where it was"
            )
        if distance[code].min() > 1e-5:
            raise Wrong(
                f"code {code} was dead and is now a vector that is none of the features"
            )
    if len(new[dead].unique(dim=0)) < dead.sum():
        raise Wrong("dead codes became one and the same vector; give each its own")


def train(
    net: nn.Module,
    encode: Callable,
    decode: Callable,
    data: ImageData,
    renewal: Callable | None = None,
    steps: int = 100,
) -> nn.Module:
    """Train a VQ-VAE-2 of notebook 01 by Adam, on batches of 32 random images.

    Args:
        net: the network with the codebooks `e_top` and `e_bottom`.
        encode: (network, images) → (quant_t, quant_b, z_top, z_bottom, loss).
        decode: (network, quant_t, quant_b) → images.
        renewal: a function like `renewed`, which changes both codebooks every ten
            steps; None for none.

    Returns:
        The network.
    """
    optimizer, found = torch.optim.Adam(net.parameters(), lr=2e-3), {}
    for level, part in (("top", net.encoder_top), ("bottom", net.to_bottom)):
        part.register_forward_hook(
            lambda _part, _given, features, level=level: found.update({level: features})
        )
    for step in range(steps):
        images, _ = data[torch.randint(len(data), (32,))]  # [32, C, S, S]
        quant_t, quant_b, z_top, z_bottom, loss = encode(net, images)
        loss = loss + F.mse_loss(decode(net, quant_t, quant_b), images)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if renewal is not None and step % 10 == 0:
            for level, z in (("top", z_top), ("bottom", z_bottom)):
                e = getattr(net, f"e_{level}").data  # [K, D]
                counts = torch.bincount(z.flatten(), minlength=len(e))
                rows = found[level].detach().permute(0, 2, 3, 1).flatten(0, 2)
                e.copy_(renewal(e, counts, rows))
    return net


def two_models() -> dict[str, VQVAE2]:
    """The VQ-VAE-2 that ships, "ours", and a smaller one that was trained "without"
    `bottom_dropout`; neither needs a gradient."""
    parts = {"ours": "vqvae2", "without": "unused_top"}
    return {
        name: load_model(VQVAE2, shipped_folder("fashion_mnist", part)).requires_grad_(
            False
        )
        for name, part in parts.items()
    }
