"""Checks for notebook 08: the most and the least surprising class and image, and
variations of texture that keep the outline. `holes.py` judges completions of holes."""

import math

import torch
from torch import Tensor

from pixelprior.course.checks.verdict import (
    NotAttempted,
    Wrong,
    call,
    judged,
    kind,
    need_codes,
    need_number,
    need_tensor,
)
from pixelprior.editing import surprise
from pixelprior.prior import HierarchicalPixelCNN
from pixelprior.vqvae2 import VQVAE2

SEED = 80_000  # of the check's own draw; a reader is unlikely to choose it


@judged
@torch.no_grad()
def extremes(
    answer,
    prior: HierarchicalPixelCNN,
    z_top: Tensor,
    z_bottom: Tensor,
    labels: Tensor,
) -> str:
    """The answer is four numbers: the class with the highest mean nats per image and
    that with the lowest, then the image with the most nats and that with the fewest.

    The check measures the nats of both levels for each image of the batch.
    """
    words = (
        f"your answer is {kind(answer)}, but four whole numbers are needed: the "
        "most expensive class and the cheapest, the most expensive image and "
        "the cheapest"
    )
    try:
        *classes, most, least = (need_number(value) for value in answer)
    except (TypeError, ValueError) as error:
        raise Wrong(words) from error
    if len(classes) != 2:
        raise Wrong(words)
    count = len(z_top)
    nats = surprise(prior, z_top, z_bottom, labels)
    sums = _of_image(nats)  # [B]
    _need_classes(classes, sums, labels)
    for number in (most, least):
        if number not in range(count):
            raise Wrong(f"{number:g} is no image; count from 0 to {count - 1}")
    top, bottom = (nats[level].sum(dim=(1, 2)) for level in ("top", "bottom"))
    given = int(most), int(least)
    high, low = sums.max(), sums.min()

    def near(value: Tensor, end: Tensor) -> bool:
        return bool((value - end).abs() < 1e-2)

    if near(sums[given[0]], high) and near(sums[given[1]], low):
        high, low, middle = (
            round(total.item(), -1) for total in (high, low, sums.median())
        )
        return (
            f"those are the classes, image {given[0]} costs about {high:.0f} nats and "
            f"image {given[1]} about {low:.0f}; the median of the {count} is "
            f"{middle:.0f}"
        )
    if near(sums[given[0]], low) and near(sums[given[1]], high):
        raise Wrong(
            "both images are in the wrong order; the most expensive comes first"
        )
    for part, what in (
        (top, "the top codes alone"),
        (bottom, "the bottom codes alone"),
    ):
        if near(part[given[0]], part.max()) and near(part[given[1]], part.min()):
            raise Wrong(f"those are the extremes of {what}; an image has two grids")
    means = nats["top"].mean(dim=(1, 2)) + nats["bottom"].mean(dim=(1, 2))
    if near(means[given[0]], means.max()) and near(means[given[1]], means.min()):
        raise Wrong(
            "those are the extremes of the sum of both means, in which a top code "
            "counts like four bottom codes; an image's cost is a sum over all codes"
        )
    more, less = int((sums > sums[given[0]]).sum()), int((sums < sums[given[1]]).sum())
    found = []
    if more:
        found.append(
            f"images of {count} that surprise more than image {given[0]}: {more}"
        )
    if less:
        found.append(f"images that surprise less than image {given[1]}: {less}")
    raise Wrong("; ".join(found))


def _need_classes(classes, sums: Tensor, labels: Tensor) -> None:
    """Raise `Wrong` unless the first class costs most per image, the second least."""
    present = labels.unique()
    for number in classes:
        if number not in present.tolist():
            raise Wrong(f"{number:g} is no class that occurs among the labels")
    means = {int(c): float(sums[labels == c].mean()) for c in present}
    totals = {int(c): float(sums[labels == c].sum()) for c in present}
    given = tuple(int(number) for number in classes)

    def ends(costs):
        return max(costs, key=costs.get), min(costs, key=costs.get)

    if given == ends(means):
        return
    if given[::-1] == ends(means):
        raise Wrong(
            "both classes are in the wrong order; the most expensive comes first"
        )
    if given == ends(totals):
        raise Wrong(
            "those are the classes that cost most and least in all, and they have "
            "different numbers of images; an average over the images is asked for"
        )
    more = sum(mean > means[given[0]] for mean in means.values())
    less = sum(mean < means[given[1]] for mean in means.values())
    found = []
    if more:
        found.append(f"classes that cost more per image than class {given[0]}: {more}")
    if less:
        found.append(f"classes that cost less than class {given[1]}: {less}")
    raise Wrong("; ".join(found))


@judged
@torch.no_grad()
def texture(
    answer, vqvae2: VQVAE2, prior: HierarchicalPixelCNN, images: Tensor, labels: Tensor
) -> str:
    """The answer is a function (images, labels, seed) → z_top, z_bottom and pictures.

    The top codes must be those of the images. The bottom codes must be drawn with the
    seed, conditioned on the top codes and labels, and the pictures must be decoded from
    both grids. The check tries the function on all images, with another seed and with
    other labels, and on one image alone.
    """
    codes = vqvae2.get_code_indices(images)
    tried = [
        _varied_by(answer, vqvae2, codes, images, labels, seed) for seed in (0, 0, 1)
    ]
    z_top, own = codes["indices_top"], codes["indices_bottom"]
    if torch.equal(tried[0], own):
        raise Wrong("the bottom codes are the images' own; nothing was drawn")
    if not torch.equal(tried[0], tried[1]):
        raise Wrong("the same seed gives other bottom codes when it is given again")
    if torch.equal(tried[0], tried[2]):
        raise Wrong("another seed gives the same bottom codes; where does yours go?")
    first = {level: z[:1] for level, z in codes.items()}
    _varied_by(answer, vqvae2, first, images[:1], labels[:1], 0)
    blind = prior.sample(
        len(images),
        tuple(z_top.shape[1:]),
        tuple(own.shape[1:]),
        labels=labels,
        seed=SEED,
        known_top=z_top,
    )
    half = own.shape[1] // 2
    for name, part in (("upper", slice(half)), ("lower", slice(half, None))):
        kept, usual = ((z == own)[:, part].float().mean() for z in (tried[0], blind[1]))
        if 1 - kept < (1 - usual) / 2:
            raise Wrong(
                f"in the {name} half {kept:.0%} of your bottom codes are the images' "
                f"own, where a draw given the top has {usual:.0%}; are all of them "
                "drawn?"
            )
    drawn, usual = (
        surprise(prior, z_top, z, labels)["bottom"].mean() for z in (tried[0], blind[1])
    )
    if not drawn < 1.5 * usual:
        raise Wrong(
            f"your bottom codes cost {drawn:.1f} nats each under the top codes that "
            f"you keep, where a draw costs about {usual:.1f}; are they drawn given "
            "this top, and with these labels?"
        )
    for number in range(len(images)):
        others = labels.clone()
        others[number] = (labels[number] + 1) % prior.num_classes
        told = _varied_by(answer, vqvae2, codes, images, others, 0)
        if torch.equal(tried[0][number], told[number]):
            raise Wrong(
                f"image {number} has the same bottom codes under another label; is "
                "each image drawn under its own?"
            )
    return "top codes are kept, seed and label decide the bottom codes, and both fit"


def _varied_by(answer, vqvae2, codes, images, labels, seed: int) -> Tensor:
    """The bottom codes that the answer gives, if its three parts fit together;
    otherwise raises `Wrong`."""
    given = call(answer, images.clone(), labels.clone(), seed)
    if isinstance(given, Tensor) or not isinstance(given, (tuple, list)):
        raise Wrong(
            f"your function gives {kind(given)}, but three things are needed: z_top, "
            "z_bottom and the pictures"
        )
    if len(given) != 3:
        raise Wrong(
            f"your function gives {len(given)} things, but three are needed: z_top, "
            "z_bottom and the pictures"
        )
    if any(value is None for value in given):
        raise NotAttempted
    own_top, own_bottom = codes["indices_top"], codes["indices_bottom"]
    z_top = need_codes(given[0], own_top.shape, vqvae2.num_embeddings, "z_top")
    z_bottom = need_codes(given[1], own_bottom.shape, vqvae2.num_embeddings, "z_bottom")
    wrong = (z_top != own_top).any(dim=0)
    if wrong.any():
        raise Wrong(
            f"{int((z_top != own_top).sum())} top codes are not those of the images, "
            "so that the outline is not kept; what does prior.sample keep?"
        )
    pictures = need_tensor(given[2], tuple(images.shape), "what you give as pictures")
    decoded = vqvae2.decode_codes(z_top, z_bottom).cpu().double()
    apart = (pictures.detach().cpu().double() - decoded).abs().max().item()
    if math.isnan(apart) or apart > 1e-3:
        raise Wrong("your pictures are not what your two grids decode to")
    return z_bottom


def _of_image(nats: dict[str, Tensor]) -> Tensor:
    """The nats of each image over both levels, [B]."""
    return nats["top"].sum(dim=(1, 2)) + nats["bottom"].sum(dim=(1, 2))
