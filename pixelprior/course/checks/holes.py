"""Checks for notebook 08: completions of a hole, with their weights."""

import torch
import torch.nn.functional as F
from torch import Tensor

from pixelprior.course.checks.verdict import (
    NotAttempted,
    Wrong,
    call,
    judged,
    kind,
    need_codes,
    need_tensor,
)
from pixelprior.editing import surprise
from pixelprior.prior import HierarchicalPixelCNN
from pixelprior.vqvae2 import VQVAE2

CANDIDATES = 32  # how many the reader's function is asked for
BLIND = 8  # number of the check's own draws, with which the candidates are compared
SEED = 80_000  # of the check's own draws; a reader is unlikely to choose it
CLOSE = 1e-3  # largest difference between a weight and the correct weight


@judged
@torch.no_grad()
def hole(
    answer, vqvae2: VQVAE2, prior: HierarchicalPixelCNN, images: Tensor, labels: Tensor
) -> str:
    """The answer is a function (known_top [Ht, Wt], known_bottom [Hb, Wb], label,
    count) → both grids of `count` candidates, [count, H, W] each, and their weights,
    [count].

    The check tries the function on a hole in each of the images [B, C, S, S]. It
    compares the weights with exp(-cost of the known codes), divided by their sum.
    """
    tried = []
    for number, known in enumerate(_holes(vqvae2.image_size, len(images))):
        label = labels[number : number + 1]  # [1]
        knowns = _known_grids(vqvae2, images[number : number + 1] * known, known)
        z, weight = _completed_by(answer, knowns, label, prior.num_embeddings)
        tried.append((weight, _costs(prior, z, knowns, label.expand(CANDIDATES))))
        _need_likely(prior, tried[-1][1]["drawn"], knowns, label)
    _need_dependence(answer, vqvae2, images, labels[:1])
    _need_weights(tried)
    sizes = ", ".join(f"{1 / weight.square().sum():.0f}" for weight, _ in tried)
    return (
        "known codes are kept, and the weights are those of the known codes; the "
        f"effective sample size of the {CANDIDATES} candidates is about {sizes} for "
        f"the {len(tried)} holes"
    )


def _need_dependence(answer, vqvae2: VQVAE2, images: Tensor, label: Tensor) -> None:
    """Raise `Wrong` if the drawn codes of a level do not depend on its known codes."""
    size, known = vqvae2.num_embeddings, _left_hidden(vqvae2.image_size)
    one = _known_grids(vqvae2, images[:1] * known, known)
    usual, _ = _completed_by(answer, one, label, size)
    for level, name in enumerate(("top", "bottom")):
        knowns = list(one)
        knowns[level] = torch.where(one[level] < 0, -1, (one[level] + 1) % size)
        changed, _ = _completed_by(answer, knowns, label, size)
        drawn = one[level] < 0
        if torch.equal(usual[level][:, drawn], changed[level][:, drawn]):
            raise Wrong(
                f"the {name} codes in the hole are the same whatever {name} codes are "
                "known beside it; draw them given the known ones, and do not paste "
                "these in afterwards"
            )


def _need_weights(tried) -> None:
    """Raise `Wrong` if a weight does not follow from the cost of the known codes."""
    correct = [(-costs["known"]).softmax(dim=0) for _, costs in tried]

    def near(instead) -> bool:
        return all(
            (weight - each).abs().max() < CLOSE
            for (weight, _), each in zip(tried, instead, strict=True)
        )

    if near(correct):
        return
    if all(torch.allclose(weight, weight[:1]) for weight, _ in tried):
        raise Wrong("all candidates weigh the same; ask what their known codes cost")
    usual = {
        "the known bottom codes alone; what was known in the top grid counts too": (
            lambda costs: costs["bottom"]
        ),
        "the known top codes alone; what was known in the bottom grid counts too": (
            lambda costs: costs["top"]
        ),
        "means, and the cost of the known codes is a sum, in which each code counts "
        "the same": lambda costs: costs["means"],
        "the drawn codes; ask what the known ones cost": lambda costs: costs["drawn"],
        "all codes; a candidate comes up by its drawn codes already, so ask what the "
        "known ones cost": lambda costs: costs["known"] + costs["drawn"],
        "+cost: the most expensive has the largest weight": lambda costs: (
            -costs["known"]
        ),
    }
    for words, cost in usual.items():
        if near([(-cost(costs)).softmax(dim=0) for _, costs in tried]):
            raise Wrong(f"your weights are those of {words}")
    if near([F.one_hot(weights.argmax(), len(weights)).float() for weights in correct]):
        raise Wrong(
            "the cheapest candidate has all the weight, but others that cost a few "
            "nats more have their share of it"
        )
    for (weight, _), each in zip(tried, correct, strict=True):
        worst = int((weight - each).abs().argmax())
        if (weight - each).abs()[worst] >= CLOSE:
            raise Wrong(
                f"candidate {worst} of one hole has weight {weight[worst]:.2f}, where "
                f"by the cost of its known codes it has {each[worst]:.2f}"
            )


def _holes(side: int, count: int) -> list[Tensor]:
    """Masks [S, S] of the known pixels, each with one of four holes in turn.

    The holes are the upper half, a window at the right-hand edge, the left half and a
    window at the upper edge.
    """
    rows, columns = torch.meshgrid(
        torch.arange(side), torch.arange(side), indexing="ij"
    )
    half, quarter = side // 2, side // 4
    masks = [
        rows >= half,
        ~((rows >= quarter) & (rows < half) & (columns >= quarter)),
        _left_hidden(side),
        ~((rows < 3 * quarter) & (columns >= quarter) & (columns < 3 * quarter)),
    ]
    return [masks[number % len(masks)] for number in range(count)]


def _left_hidden(side: int) -> Tensor:
    """The mask [S, S] in which the right-hand half is known.

    In raster order, known codes come both before and after the drawn codes of each row
    but the first.
    """
    return (torch.arange(side) >= side // 2).expand(side, side)


def _known_grids(vqvae2: VQVAE2, image: Tensor, known: Tensor) -> list[Tensor]:
    codes = vqvae2.get_code_indices(image)
    grids = []
    for z in (codes["indices_top"][0], codes["indices_bottom"][0]):
        hidden = F.adaptive_max_pool2d((~known)[None].float(), tuple(z.shape))[0] > 0
        grids.append(z.masked_fill(hidden, -1))
    return grids


def _completed_by(answer, knowns, label: Tensor, num_embeddings: int):
    """Both grids [count, H, W] and the weights [count] that the answer gives, if the
    grids are completions; otherwise raises `Wrong`."""
    given = call(
        answer, *(tensor.clone() for tensor in knowns), label.clone(), CANDIDATES
    )
    if not isinstance(given, (tuple, list)) or len(given) != 3:
        raise Wrong(
            f"your function gives {kind(given)}, but three are needed: z_top, "
            "z_bottom and the weights"
        )
    if any(value is None for value in given):
        raise NotAttempted
    grids = []
    for name, z, known in zip(("z_top", "z_bottom"), given[:2], knowns, strict=True):
        shape = CANDIDATES, *known.shape
        grids.append(need_codes(z, shape, num_embeddings, name))
        wrong = (known >= 0) & (grids[-1] != known)
        if wrong.any():
            number, y, x = wrong.nonzero()[0].tolist()
            raise Wrong(
                f"{name} of candidate {number} has code {int(grids[-1][number, y, x])} "
                f"at ({y}, {x}), where code {int(known[y, x])} was known; known codes "
                "are kept"
            )
    flat = torch.cat([z.flatten(1) for z in grids], dim=1)
    if (flat == flat[0]).all():
        raise Wrong(f"all {CANDIDATES} candidates are the same; does each have its u?")
    return grids, _weights(given[2])


def _weights(value) -> Tensor:
    """The value as weights that sum to 1; otherwise raises `Wrong`."""
    weight = need_tensor(value, (CANDIDATES,), "what you give as weights")
    if not weight.is_floating_point():
        raise Wrong(f"the weights are {weight.dtype}, but shares of 1 are needed")
    weight = weight.detach().cpu().float()
    if weight.isnan().any():
        raise Wrong(
            "a weight is NaN; exp(−cost) of hundreds of nats is 0 in 32 bits, and "
            "0 / 0 is NaN"
        )
    if weight.min() < 0 or (weight.sum() - 1).abs() > 1e-3:
        raise Wrong(
            f"the weights run from {weight.min():.3g} to {weight.max():.3g} and sum to "
            f"{weight.sum():.3g}; shares of 1 are needed"
        )
    return weight


def _need_likely(prior, cost: Tensor, knowns, label: Tensor) -> None:
    """Raise `Wrong` if the drawn codes cost far more than those of the check's own
    draws."""
    labels = label.expand(BLIND)
    blind = prior.sample(
        BLIND,
        tuple(knowns[0].shape),
        tuple(knowns[1].shape),
        labels=labels,
        seed=SEED,
        known_top=knowns[0].expand(BLIND, -1, -1),
        known_bottom=knowns[1].expand(BLIND, -1, -1),
    )
    usual = _costs(prior, blind, knowns, labels)["drawn"]
    if cost.mean() > 1.5 * usual.max():
        raise Wrong(
            "the known codes are kept, but the prior would hardly ever draw the others "
            "that you return; do they come from prior.sample, with the known codes and "
            "the label given?"
        )


def _costs(prior, grids, knowns, labels: Tensor) -> dict[str, Tensor]:
    """Nats [B] by name: "known" of all known codes, "top" and "bottom" of those of a
    level, "means" the sum of both levels' means per known code, "drawn" of the drawn
    codes."""
    nats = surprise(prior, *grids, labels)
    top, bottom = (
        (nats[level] * (known >= 0)).sum(dim=(1, 2))
        for level, known in zip(("top", "bottom"), knowns, strict=True)
    )
    means = top / (knowns[0] >= 0).sum() + bottom / (knowns[1] >= 0).sum()
    return {
        "known": top + bottom,
        "top": top,
        "bottom": bottom,
        "means": means,
        "drawn": nats["top"].sum(dim=(1, 2))
        + nats["bottom"].sum(dim=(1, 2))
        - top
        - bottom,
    }
