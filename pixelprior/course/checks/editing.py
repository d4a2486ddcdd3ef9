"""Checks for notebook 08: completing, known codes, a mask that reveals, texture."""

import torch
import torch.nn.functional as F
from torch import Tensor

from pixelprior.cache import PixelCNNCache
from pixelprior.course.checks.verdict import Wrong, call, judged, need_tensor
from pixelprior.editing import surprise
from pixelprior.pixelcnn import PixelCNN
from pixelprior.sampling import inverse_cdf, probabilities, uniforms

REVEALING = torch.arange(64).view(8, 8) == 0  # a mask that `reveals` accepts


@torch.no_grad()
def filled_in(logits_of, known: Tensor, uniform: Tensor) -> Tensor:
    """Codes [B, H, W]: the known ones, and the others drawn, by a pass for each."""
    codes = known.clamp(min=0)
    for y in range(known.shape[1]):
        for x in range(known.shape[2]):
            probs = probabilities(logits_of(codes)[:, :, y, x])
            drawn, given = inverse_cdf(probs, uniform[:, y, x]), known[:, y, x]
            codes[:, y, x] = torch.where(given < 0, drawn, given)
    return codes


def pictures(vqvae2, prior, z_top, z_bottom, known: Tensor, labels) -> Tensor:
    """Images of top grids, with bottom codes drawn where `known` [8, 8] is False."""
    known = known.repeat_interleave(2, 0).repeat_interleave(2, 1)
    told = {"labels": labels, "known": (z_top, z_bottom.masked_fill(~known, -1))}
    return prior.sample_with_vqvae2(vqvae2, len(z_top), seed=0, **told)


def turned(columns: dict[str, Tensor]) -> dict[str, Tensor]:
    """Columns of images as numbered rows."""
    rows = torch.stack([*columns.values()], dim=1)
    return {f"image {number}": row for number, row in enumerate(rows)}


def _small(*shape: int) -> tuple[PixelCNN, Tensor, Tensor]:
    """An untrained level of 6 codes, with large weights, and codes and numbers."""
    torch.manual_seed(3)
    level = PixelCNN(6, 4, 8, 2).eval()
    for parameter in level.parameters():
        parameter.data *= 3
    codes = torch.randint(6, shape)
    return level, codes, uniforms(1, 0, len(codes), codes[0].numel()).view(shape)


@judged
def fill_in(answer) -> str:
    """The answer is a function of logits, known codes and numbers, as `filled_in`."""
    level, codes, uniform = _small(4, 4, 5)
    known = codes.masked_fill(torch.rand(codes.shape) < 0.5, -1)
    known[:, 1, 2] = 0

    def logits_of(z):
        if z.min() < 0:
            raise ValueError("the network is given −1; put the drawn code in the grid")
        return level(z)

    got = need_tensor(call(answer, logits_of, known.clone(), uniform), known.shape)
    for image, y, x in ((known >= 0) & (got != known)).nonzero().tolist():
        raise Wrong(
            f"code {known[image, y, x]} is known in image {image}, row {y}, column "
            f"{x}, and you return {got[image, y, x]}; only −1 is not known"
        )
    free = filled_in(level, torch.full_like(known, -1), uniform)
    if torch.equal(got, torch.where(known < 0, free, known)):
        raise Wrong("known codes are kept, but the network has never seen them")
    wanted = filled_in(level, known, uniform)
    if not torch.equal(got, wanted):
        raise Wrong(f"the inverse CDF draws others; {first_difference(got, wanted)}")
    return "known codes are kept, and the others are drawn given those before them"


def all_known(known: Tensor, side: int) -> Tensor:
    """The codes [side, side] of which all pixels [S, S] are known."""
    return F.adaptive_max_pool2d((~known)[None].float(), (side, side))[0] == 0


@judged
def known_codes(answer) -> str:
    """The answer is a function of pixels [32, 32] and a side, as `all_known`."""
    torch.manual_seed(0)
    known = torch.rand(32, 32) < torch.linspace(0.8, 1, 32)[:, None]
    for side in (8, 16):
        got = need_tensor(call(answer, known.clone(), side), (side, side))
        squares = known.view(side, 32 // side, side, 32 // side)
        for y, x in (got != all_known(known, side)).nonzero().tolist():
            pixels = squares[y, :, x]
            raise Wrong(
                f"{pixels.sum()} of {pixels.numel()} pixels of the code at row {y}, "
                f"column {x} are known, and yours is {got[y, x]}"
            )
    return "a code is known where all of its pixels are"


@torch.no_grad()
def cached(level, known: Tensor, labels, uniform: Tensor, *, mistaken: bool):
    """The codes of `filled_in`, with the cache. By the mistake, what is drawn is passed
    on along the row also where a code is known."""
    condition = level.conditioning(None, labels, known.shape)
    codes, cache = known.clone(), PixelCNNCache(level, len(known), known.shape[1:])
    for y in range(known.shape[1]):
        cache.row_step(condition)
        for x in range(known.shape[2]):
            probs = probabilities(cache.code_step(x))
            drawn, given = inverse_cdf(probs, uniform[:, y, x]), known[:, y, x]
            codes[:, y, x] = torch.where(given < 0, drawn, given)
            cache.keep_code(drawn if mistaken else codes[:, y, x])
        cache.keep_row(codes[:, y])
    return codes


def first_difference(one: Tensor, other: Tensor) -> str:
    """Where two batches of grids [B, H, W] differ first."""
    for image, y, x in (one != other).nonzero().tolist():
        return f"the grids differ first at row {y}, column {x} of image {image}"
    return "the grids are equal"


@judged
def reveals(answer) -> str:
    """The answer is a mask [8, 8] with a single known code, by which the mistake of
    `cached` changes what an untrained level draws."""
    mask = need_tensor(answer, (8, 8), "your mask")
    if mask.dtype != torch.bool:
        raise Wrong(f"a mask of True and False is needed, and yours is {mask.dtype}")
    if mask.sum() != 1:
        raise Wrong(f"your mask has {mask.sum()} known codes; make it a single one")
    if mask[:, -1].any():
        raise Wrong("your code is the last of its row; which codes hear of it?")
    level, codes, uniform = _small(64, 8, 8)
    given = level, codes.masked_fill(~mask, -1), None, uniform
    grids = (cached(*given, mistaken=mistaken) for mistaken in (False, True))
    return f"on a small network, {first_difference(*grids)}"


@judged
@torch.no_grad()
def texture(answer, vqvae2, prior, images: Tensor, labels: Tensor) -> str:
    """The answer is a function (images, labels, seed) → z_top and z_bottom, of which
    the first is the images' own, and the second drawn."""
    own, tried, other = vqvae2.get_code_indices(images), [], labels.clone()
    other[1:] = labels[:-1]
    for told, seed in ((labels, 0), (labels, 0), (labels, 1), (other, 0)):
        z_top, z_bottom = call(answer, images.clone(), told.clone(), seed)
        if not torch.equal(z_top, own["indices_top"]):
            raise Wrong("your top codes are not the images' own; which codes are kept?")
        tried.append(z_bottom)
    if not torch.equal(tried[0], tried[1]):
        raise Wrong("the same seed gives other bottom codes; is `seed` passed on?")
    for name, z in zip(("seed", "labels"), tried[2:], strict=True):
        if torch.equal(tried[0], z):
            raise Wrong(f"no bottom code changes with `{name}`; do you draw by it?")
    if not torch.equal(tried[0][0], tried[3][0]):
        raise Wrong("image 0 changes with the labels of the other images")
    shapes = [grid.shape[1:] for grid in own.values()]
    drawn = prior.sample(len(images), *shapes, labels=labels, seed=9, known_top=z_top)
    cost, usual = (
        surprise(prior, z_top, z, labels=labels)["bottom"].mean()
        for z in (tried[0], drawn[1])
    )
    if not cost < 1.5 * usual:
        raise Wrong(
            f"your bottom codes cost {cost:.1f} nats each, given this top, and those "
            f"of a draw {usual:.1f}; is the top known while yours are drawn?"
        )
    return "top codes are kept, and bottom codes drawn given them, by label and seed"
