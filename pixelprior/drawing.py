"""Drawing whole grids of codes: one level after another, in batches, from one seed.

`draw_grids` is what the `sample` methods of the priors share: it checks what it is
given, divides a large number of images into batches, and gives each image its own
random numbers. How the codes of one grid are drawn is in `sampling.py`.
"""

import math
import secrets
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pixelprior.cache import PixelCNNCache
from pixelprior.modes import evaluation_mode
from pixelprior.progress import progress_bar
from pixelprior.ranges import check_positive, whole_number
from pixelprior.sampling import sample_codes, uniforms
from pixelprior.validation import check_filters, check_known

if TYPE_CHECKING:
    from pixelprior.pixelcnn import PixelCNN

CHUNK_SIZE = 256  # the largest batch that `pixelprior benchmark` times
# What a batch takes at most, in [p, H, W] of features per image, beside its caches.
FEATURES_CACHED, FEATURES_WHOLE_GRID, FEATURES_DECODED = 6, 50, 6
# What logits take, per code of the codebook: in numbers, at each position of a grid
# whose logits are computed together, and in bytes, while one code is drawn (filters
# sort copies in float64, whatever the type of the weights).
LOGITS_WHOLE_GRID, BYTES_OF_ONE_DRAW = 3, 160


def chunks_of(batch_size: int, chunk_size: int) -> list[slice]:
    """Slices of a batch with `chunk_size` images each, the last with the rest."""
    size = whole_number(chunk_size)
    return [slice(first, first + size) for first in range(0, batch_size, size)]


def bytes_per_image(
    levels: dict[str, "PixelCNN"],
    shapes: list[tuple[int, int]],
    guidance: tuple[float, ...],
    method: str = "auto",
) -> int:
    """An upper bound of the memory that each image of a batch takes while it is drawn.

    The levels are drawn one after the other, so that it is the largest level's. Tests
    compare it with what drawing takes.

    Args:
        levels, guidance, method: as in `draw_grids`.
        shapes: (height, width) of each level's grid.
    """
    needed = []
    for level, shape, weight in zip(levels.values(), shapes, guidance, strict=True):
        whole = method in ("naive", "rows")
        kept = 0 if whole else PixelCNNCache(level, 1, shape).nbytes
        features = FEATURES_WHOLE_GRID if whole else FEATURES_CACHED
        numbers = features * len(level.head[1].weight) * math.prod(shape)
        if whole:
            numbers += LOGITS_WHOLE_GRID * level.num_embeddings * math.prod(shape)
        kept += numbers * level.embedding.weight.element_size()
        kept += BYTES_OF_ONE_DRAW * level.num_embeddings
        needed.append(kept * (2 if weight else 1))
    return max(needed)


@torch.no_grad()
def draw_grids(
    levels: dict[str, "PixelCNN"],
    shapes: dict[str, tuple[int, int]],
    batch_size: int,
    *,
    labels: Tensor | None = None,
    guidance: tuple[float, ...],
    z_top: Tensor | None = None,
    known: dict[str, Tensor | None],
    seed: int | None = None,
    first_index: int = 0,
    chunk_size: int = CHUNK_SIZE,
    progress: bool = False,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    method: str = "auto",
) -> list[Tensor]:
    """Draw the grids of one level, or of several, each given the grid before it.

    Args:
        levels: the levels by name, on one device, in the order in which they are drawn.
        shapes: (height, width) of each level's grid, by the name of the argument.
        batch_size: number of images to draw.
        labels: as `PixelCNN.check_labels` returns them.
        guidance: of each level, as `validation.check_guidance` returns it.
        z_top: long [B, Ht, Wt], the grids that the first level is given, or None.
        known: long grids by level, -1 where unknown; None where nothing is known.
        seed, first_index, chunk_size, progress, temperature, top_k, top_p, method: as
            in `HierarchicalPixelCNN.sample`.

    Returns:
        Codes of each level, long [B, H, W].

    Raises:
        ValueError: an argument is out of its range, or the weights are not finite.
    """
    check_positive(batch_size=batch_size, chunk_size=chunk_size)
    check_filters(temperature, top_k, top_p)
    batch_size = whole_number(batch_size)
    sides = [_checked(name, shape) for name, shape in shapes.items()]
    for (name, level), shape in zip(levels.items(), sides, strict=True):
        if known[name] is not None:
            check_known(
                known[name], (batch_size, *shape), level.num_embeddings, words_for(name)
            )
    counts = [math.prod(shape) for shape in sides]
    if seed is None:
        seed = secrets.randbits(63)
    numbers = uniforms(seed, first_index, batch_size, sum(counts)).split(counts, dim=1)
    chunks = chunks_of(batch_size, chunk_size)
    options = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "method": method,
        "progress": progress and len(chunks) == 1,
    }

    def draw(chunk: slice) -> list[Tensor]:
        """The grids of some images, level by level."""
        above = None if z_top is None else z_top[chunk]
        grids: list[Tensor] = []
        each = zip(levels.items(), sides, numbers, guidance, strict=True)
        for (name, level), shape, uniform, weight in each:
            of_level = None if known[name] is None else known[name][chunk]
            here = uniform[chunk]
            # With guidance, a second condition without the labels follows the first.
            of_labels = [None if labels is None else labels[chunk], None]
            conditions = [
                level.condition(labels, above, (len(here), *shape))
                for labels in of_labels[: 1 + bool(weight)]
            ]
            above = sample_codes(
                level,
                shape,
                here,
                None if conditions[0] is None else torch.cat(conditions),
                guidance=weight,
                known=of_level,
                name=words_for(name),
                **options,
            )
            grids.append(above)
        return grids

    device = next(iter(levels.values())).embedding.weight.device
    with (
        evaluation_mode(torch.nn.ModuleDict(levels)),
        # A step cannot reuse what earlier steps kept in another number format.
        torch.autocast(device.type, enabled=False),
    ):
        drawn = [
            draw(chunk)
            for chunk in progress_bar(
                chunks,
                desc="drawing",
                unit="batch",
                enabled=progress and len(chunks) > 1,
            )
        ]
    return [torch.cat(grids) for grids in zip(*drawn, strict=True)]


def words_for(level: str) -> str:
    """The codes of a level in words; the level of a prior with one is "codes"."""
    return level if level == "codes" else f"{level} codes"


def _checked(name: str, shape) -> tuple[int, int]:
    """(height, width) as ints; `name` is the argument's."""
    pair = shape if isinstance(shape, list | tuple) else (shape,)
    sides = tuple(map(whole_number, pair))
    if len(sides) != 2 or min(side or 0 for side in sides) < 1:
        raise ValueError(
            f"{name} is {tuple(pair)}; give (height, width), each at least 1"
        )
    return sides
