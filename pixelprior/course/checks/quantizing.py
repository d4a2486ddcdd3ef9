"""Checks for notebook 01: the nearest code, a gradient past it, and dead codes."""

import math
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
    torch.manual_seed(0)
    for count, size, length in ((60, 8, 2), (6, 6, 3)):
        points, e = torch.randn(count, length), 2 * torch.randn(size, length)
        what = f"what your function returns for {count} points and {size} codes"
        z = need_codes(call(answer, points, e), (count,), size, what)
        wanted = nearest_code(points, e)
        if (far := (z != wanted).nonzero()).numel():
            point = far[0].item()
            found = f"point {point} gets code {z[point]}, but {wanted[point]} is nearer"
            if torch.equal(z, (points @ e.T).argmax(dim=1)):
                raise Wrong(f"{found}; a large product is no small distance")
            raise Wrong(
                f"{found}; is the argmin over the codes, for each point, and is the "
                f"distance summed over all D = {length} squared differences?"
            )
    return "each point has the code of the nearest vector"


def passed_through(features: Tensor, quantized: Tensor) -> Tensor:
    """The value of `quantized`, whose gradient is given to `features`."""
    return features + (quantized - features).detach()


@judged
def straight_through(answer) -> str:
    """The answer is a function (features, quantized) → the decoder's input, all
    [B, D, H, W], as `passed_through`."""
    torch.manual_seed(0)
    features, quantized, sent = torch.randn(3, 2, 3, 4, 5, dtype=torch.float64)
    features.requires_grad_(True)
    quantized.requires_grad_(True)
    out = call(answer, features.clone(), quantized.clone())
    out = need_tensor(out, features.shape, "what your function gives")
    if not torch.allclose(out, quantized):
        raise Wrong(
            "the decoder gets other values than the quantized ones; leave out every "
            "detach and work out what is left"
        )
    if out.requires_grad:
        out.backward(sent)
    if features.grad is None or not torch.allclose(features.grad, sent):
        raise Wrong(
            "the features do not get the gradient that the decoder sent, so the "
            "encoder would not learn"
        )
    if quantized.grad is not None and quantized.grad.any():
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
    """The answer is a function (codes, K) → the perplexity of the codes."""
    for counts, num_embeddings in (((4,) * 5, 5), ((9, 9), 4), ((8, 4, 4), 6)):
        codes = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
        got = call(answer, codes.view(2, -1), num_embeddings)  # [2, N / 2]
        found = f"for K = {num_embeddings} and codes with the counts {counts}, "
        if isinstance(got, Tensor) and got.isnan().any():
            raise Wrong(f"{found}your function gives nan; what is the log of 0?")
        got = need_number(got, "what your function returns")
        found += f"your function gives {got:.4g}"
        shares = torch.tensor(counts) / sum(counts)
        entropy = -(shares * shares.log()).sum().item()
        if math.isclose(got, math.exp(entropy), abs_tol=1e-3):
            continue
        if math.isclose(got, entropy, abs_tol=1e-3):
            raise Wrong(f"{found}, the entropy; take exp of it")
        if got == len(counts):
            raise Wrong(
                f"{found}, the number of codes in use; does a rare one count as much?"
            )
        raise Wrong(
            f"{found}; does each code weigh as much as its share, and is there a minus "
            "before the natural logarithm?"
        )
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
    torch.manual_seed(0)
    # So many dead codes that two of them meet if rows are drawn with replacement.
    e, features = torch.randn(48, 3), torch.randn(100, 3)
    counts = torch.tensor([0.2, 5.0, 0.0, 3.0, 0.99, 1.0, 40.0, 7.0] + 40 * [0.0])
    new = call(answer, e.clone(), counts, features)
    new = need_tensor(new, e.shape, "what your function gives")
    is_feature = (new[:, None] == features).all(dim=2).any(dim=1)  # [K]
    for code, count in enumerate(counts):
        stayed, found = torch.equal(new[code], e[code]), f"code {code} has a count of"
        if count >= 1 and not stayed:
            raise Wrong(
                f"{found} {count:g}, so it is not dead, and yet its vector changed"
            )
        if count < 1 and stayed:
            raise Wrong(f"{found} {count:g} and was left where it was")
        if count < 1 and not is_feature[code]:
            raise Wrong(f"{found} {count:g} and is now none of the features")
    if len(new.unique(dim=0)) < len(e):
        raise Wrong("dead codes became one and the same vector; give each its own")
    return "dead codes are moved to features, and the others stay"


def train(
    net: nn.Module,
    encode: Callable,
    decode: Callable,
    data: ImageData,
    renewal: Callable | None,
    steps: int = 100,
) -> nn.Module:
    """Train a VQ-VAE-2 of notebook 01 by Adam, on batches of 32 random images, by its
    functions `encode` and `decode`.

    Every ten steps, `renewal` changes both codebooks, unless it is None.
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
    models = {}
    for name, part in parts.items():
        models[name] = load_model(VQVAE2, shipped_folder("fashion_mnist", part))
        models[name].requires_grad_(False)
    return models
