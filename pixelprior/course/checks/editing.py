"""Checks for notebook 08: completing, known codes, a mask that reveals, texture."""

import torch
import torch.nn.functional as F
from torch import Tensor

from pixelprior.cache import PixelCNNCache
from pixelprior.course.checks.verdict import (
    Wrong,
    call,
    judged,
    kind,
    need_codes,
    need_tensor,
)
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


def _need_unchanged(mine: Tensor, known: Tensor) -> None:
    if not torch.equal(mine, known):
        raise Wrong("your function changes `known`, which is needed later as it was")


@judged
def fill_in(answer) -> str:
    """The answer is a function of `logits_of`, known codes and uniform numbers, as
    `filled_in`. In each image of the check, other codes are known."""
    level, codes, uniform = _small(4, 4, 5)
    known = codes.masked_fill(torch.rand(codes.shape) < 0.5, -1)
    known[:, 1, 2] = 0

    def logits_of(z):
        if z.min() < 0:
            raise ValueError("the network is given −1; put the drawn code in the grid")
        return level(z)

    given = call(answer, logits_of, mine := known.clone(), uniform.clone())
    _need_unchanged(mine, known)
    got = need_codes(given, known.shape, 6, "what you return")
    for image, y, x in ((known >= 0) & (got != known)).nonzero().tolist():
        if known[image, y, x] or not torch.equal(got[known > 0], known[known > 0]):
            raise Wrong(
                f"code {known[image, y, x]} is known in image {image}, row {y}, column "
                f"{x}, and you return {got[image, y, x]}; known codes are kept"
            )
        raise Wrong("code 0 is drawn anew where it is known; only −1 is not known")
    free = filled_in(logits_of, torch.full_like(known, -1), uniform)
    if torch.equal(got, torch.where(known < 0, free, known)):
        raise Wrong(
            "the known codes are kept, but the others drawn as if nothing were known; "
            "the network has to see the known codes"
        )
    wanted = filled_in(logits_of, known, uniform)
    for image, y, x in (got != wanted).nonzero().tolist():
        raise Wrong(
            f"code {got[image, y, x]} is drawn in image {image}, row {y}, column {x}, "
            f"and the inverse CDF takes {wanted[image, y, x]}"
        )
    return "known codes are kept, and the others are drawn given those before them"


def all_known(known: Tensor, side: int) -> Tensor:
    """The codes [side, side] of which all pixels [S, S] are known."""
    return F.adaptive_max_pool2d((~known)[None].float(), (side, side))[0] == 0


@judged
def known_codes(answer) -> str:
    """The answer is a function of pixels [32, 32] and a side, as `all_known`."""
    torch.manual_seed(0)
    known = torch.rand(32, 32) < torch.linspace(0.8, 1, 32)[:, None]
    grids = {side: call(answer, mine := known.clone(), side) for side in (8, 16)}
    _need_unchanged(mine, known)
    for side, got in grids.items():
        need_tensor(got, (side, side), f"what you return for side {side}")
        if got.dtype != torch.bool:
            raise Wrong(f"what you return is {got.dtype}; True or False is needed")
        right, pixels = all_known(known, side), 32 // side
        usual = {
            "some pixel of a square": ~all_known(~known, side),
            "the first pixel of a square": known[::pixels, ::pixels],
        }
        for words, instead in usual.items():
            if torch.equal(got, instead):
                raise Wrong(f"yours is True where {words} is known; all are needed")
        for y, x in (got != right).nonzero().tolist():
            hidden = "a hidden pixel" if got[y, x] else "no hidden pixel"
            where = f"row {y}, column {x} of {side} × {side}"
            raise Wrong(f"the code at {where} has {hidden}, and yours is {got[y, x]}")
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
        raise Wrong(f"your mask is {mask.dtype}; True or False is needed")
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
    own, size, tried = vqvae2.get_code_indices(images), vqvae2.num_embeddings, []
    for told, seed in ((labels, 0), (labels, 0), (labels, 1), (labels.roll(1), 0)):
        given = call(answer, images.clone(), told.clone(), seed)
        if not isinstance(given, (tuple, list)) or len(given) != 2:
            raise Wrong(f"you return {kind(given)}; z_top and z_bottom are needed")
        z_top = need_codes(given[0], own["indices_top"].shape, size, "z_top")
        tried += [need_codes(given[1], own["indices_bottom"].shape, size, "z_bottom")]
        if not torch.equal(z_top, own["indices_top"]):
            raise Wrong("your top codes are not the images' own; which codes are kept?")
    if not torch.equal(tried[0], tried[1]):
        raise Wrong("the same seed gives other bottom codes; is `seed` passed on?")
    for name, z in zip(("seed", "labels"), tried[2:], strict=True):
        if torch.equal(tried[0], z):
            raise Wrong(f"no bottom code changes with `{name}`; do you draw by it?")
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
