"""For notebook 06: caches that do not roll, and the check that asks which they are."""

import torch
from torch import Tensor

from pixelprior.cache import PixelCNNCache, neighbours
from pixelprior.course.checks.verdict import Wrong, judged, need_number
from pixelprior.pixelcnn import PixelCNN
from pixelprior.sampling import inverse_cdf, probabilities

SLIPS = ("rows", "positions")


def not_rolled(what: str, number: int):
    """A function that keeps a cache from rolling a block's "rows" or "positions"."""

    def spoil(cache: PixelCNNCache) -> None:
        if what == "rows":
            cache.blocks[number].roll_rows = lambda: None
            return
        blocks = [block.window for block in cache.blocks]  # [B, span, channels] each
        del blocks[number]
        cache.window_pairs = [
            pair for positions in blocks for pair in neighbours(positions.movedim(1, 0))
        ]

    return spoil


def two_draws(
    model: PixelCNN, shape: tuple[int, int], uniform: Tensor, condition: Tensor | None
) -> list[Tensor]:
    """Two draws of codes [B, H, W], one with rows not rolled and one with positions not
    rolled, each in one block after the first.

    The order of the two and their blocks are random, with a fixed seed.
    """
    generator = torch.Generator().manual_seed(8)
    order = torch.randperm(2, generator=generator)
    blocks = torch.randint(1, len(model.blocks), (2,), generator=generator)
    return [
        _with_a_slip(model, SLIPS[kind], number, shape, uniform, condition)
        for kind, number in zip(order.tolist(), blocks.tolist(), strict=True)
    ]


@judged
@torch.no_grad()
def which(
    answer,
    found: list[Tensor],
    model: PixelCNN,
    uniform: Tensor,
    condition: Tensor | None,
) -> str:
    """The answer is what was not rolled, and in which block, in each draw of `found`.

    The check draws the codes [B, H, W] once more with the mistakes that the answer
    names, and compares them.
    """
    for number, (codes, mine) in enumerate(zip(found, _pairs(answer), strict=True), 1):
        what, block = mine
        again = _with_a_slip(model, what, block, codes.shape[1:], uniform, condition)
        if different := int((again != codes).sum()):
            raise Wrong(
                f"map {number}: when block {block} does not roll its {what}, "
                f"{different} of the {codes.numel()} codes are others than those that "
                "were drawn"
            )
    return "with your slips, every code of both is drawn again as it was"


def _pairs(answer) -> list[tuple[str, int]]:
    """The answer as two pairs, each of "rows" or "positions" and a block's number."""
    pairs = []
    try:
        for what, number in answer:
            pairs.append((what, need_number(number, "a block of yours")))
    except (TypeError, ValueError):
        pairs = []
    if len(pairs) != 2:
        raise Wrong(
            f"your answer is {answer!r}, but two pairs are needed, such as "
            '(("rows", 0), ("positions", 0))'
        )
    for what, number in pairs:
        if not isinstance(what, str) or what not in SLIPS:
            raise Wrong(f'{what!r} is neither "rows" nor "positions"')
        if number % 1 or number < 0:
            raise Wrong(f"{number:g} is no block")
    return [(what, int(number)) for what, number in pairs]


@torch.no_grad()
def _with_a_slip(
    model: PixelCNN, what: str, number: int, shape, uniform: Tensor, condition
) -> Tensor:
    """Codes [B, H, W] drawn by the package's steps with one mistake in the cache."""
    if number >= len(model.blocks):
        raise Wrong(f"{number} is no block; they are 0 to {len(model.blocks) - 1}")
    cache = PixelCNNCache(model, len(uniform), shape)
    not_rolled(what, number)(cache)
    codes = torch.zeros(len(uniform), *shape, dtype=torch.long)
    uniform = uniform.view(codes.shape)
    for y in range(shape[0]):
        cache.row_step(condition)
        for x in range(shape[1]):
            probs = probabilities(cache.code_step(x))
            codes[:, y, x] = inverse_cdf(probs, uniform[:, y, x])
            cache.keep_code(codes[:, y, x])
        cache.keep_row(codes[:, y])
    return codes
