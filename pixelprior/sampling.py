"""Drawing codes from one PixelCNN, in raster order.

All methods share the random streams, one per image, and draw each code by inverse CDF
from one uniform number. Therefore the same seed gives the same codes with every method
and in any batch size. `naive` runs the whole network once for every code and is the
reference for correctness. `rows` leaves out the rows below. With `cached`, each layer
computes only what is new. `graph` is `cached` as a CUDA graph.
"""

import math
from functools import partial

import numpy as np
import torch
from torch import Tensor

from pixelprior.cache import Level, PixelCNNCache
from pixelprior.modes import evaluation_mode
from pixelprior.progress import progress_bar
from pixelprior.ranges import check_positive, whole_number
from pixelprior.validation import check_filters, check_known

CHUNK_SIZE = 256  # the largest batch that `pixelprior benchmark` times
METHODS = ("auto", "naive", "rows", "cached", "graph")


def uniforms(seed: int, first_index: int, batch_size: int, count: int) -> Tensor:
    """The random numbers of images first_index to first_index + batch_size - 1.

    Image i has its own stream, Philox keyed by (seed, i), so that its numbers do not
    depend on any other image. The 52 high bits of a 64-bit word make one number.

    Returns:
        Float64 [batch_size, count], each in [0, 1 - 2^-52].

    Raises:
        ValueError: the seed or the number of an image does not fit 64 bits.
    """
    keys = []
    for name, value, limit in (
        ("seed", seed, 2**64),
        ("first_index", first_index, 2**64 - batch_size + 1),
    ):
        key = whole_number(value)
        if key is None or not 0 <= key < limit:
            raise ValueError(
                f"{name} is {value}; give a whole number from 0 to "
                f"2^64-{2**64 - limit + 1}"
            )
        keys.append(key)
    seed, first_index = keys
    words = [
        np.random.Philox(
            # As a list, numpy would turn a key from 2^63 on into floats.
            key=np.array([seed, first_index + i], dtype=np.uint64)
        ).random_raw(count)
        for i in range(batch_size)
    ]
    return torch.from_numpy((np.stack(words) >> np.uint64(12)) * 2.0**-52)


def probabilities(logits: Tensor, temperature=1.0, top_k=None, top_p=None) -> Tensor:
    """Logits [..., K] to the probabilities that are drawn from, float64 [..., K].

    The temperature is applied first. Then the `top_k` most likely codes are kept, and
    of these the smallest number of most likely codes that together hold `top_p` of the
    probability. At least one code is kept.
    """
    scaled = logits.double()
    if temperature != 1:
        # With the maximum subtracted, no logit overflows at any temperature.
        scaled = (scaled - scaled.amax(-1, keepdim=True)) / temperature
    if top_k is not None and top_k < scaled.shape[-1]:
        ranked, order = scaled.topk(top_k)
        scaled = torch.full_like(scaled, -math.inf).scatter(-1, order, ranked)
    probs = scaled.softmax(-1)
    if top_p is not None and top_p < 1:
        ranked, order = probs.sort(dim=-1, descending=True, stable=True)
        kept_before = ranked.cumsum(-1) - ranked
        ranked = ranked.masked_fill(kept_before >= top_p, 0)
        probs = torch.zeros_like(probs).scatter(-1, order, ranked)
        probs = probs / probs.sum(-1, keepdim=True)
    return probs


def draw(probs: Tensor, uniform: Tensor) -> Tensor:
    """Inverse CDF: the first code whose cumulative probability exceeds `uniform`.

    Args:
        probs: float64 [B, K], not negative.
        uniform: float64 [B], in [0, 1 - 2^-52], so that its product with a sum is never
            rounded up to that sum.

    Returns:
        Codes [B], long; a code of probability 0 is never drawn.
    """
    cumulative = probs.cumsum(-1)
    threshold = cumulative[:, -1:] * uniform[:, None]
    drawn = torch.searchsorted(cumulative, threshold, right=True)[:, 0]
    return drawn.clamp_(max=probs.shape[-1] - 1)  # nan gives an index past the end


def sample_codes(
    model: Level,
    shape: tuple[int, int],
    uniform: Tensor,
    condition: Tensor | None = None,
    *,
    guidance: float = 0.0,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    known: Tensor | None = None,
    method: str = "auto",
    progress: bool = False,
    name: str = "codes",
) -> Tensor:
    """Draw a batch of grids from one level.

    Args:
        model: the level, in evaluation mode.
        shape: height H and width W of the grid.
        uniform: float64 [B, H * W], one number per code, as returned by `uniforms`; on
            any device.
        condition: [B, p, H or 1, W or 1], as `PixelCNN.logits` takes it. With guidance
            [2B, …]: the conditions with their labels, then those without.
        guidance: w; the logits are (1 + w) · those with the label − w · those without.
        temperature, top_k, top_p: as in `probabilities`.
        known: long [B, H, W], -1 where unknown. Known codes are kept, and the rest is
            drawn given the codes before it.
        method: one of `METHODS`; "auto" is "cached".
        progress: show a progress bar that advances once per row.
        name: of the codes, for the progress bar and for errors.

    Returns:
        Codes [B, H, W], long.

    Raises:
        ValueError: an argument is out of its range, or logits are not finite.
    """
    check_filters(temperature, top_k, top_p)
    device = model.embedding.weight.device
    check_method(method, device)
    batch_size, (height, width) = len(uniform), shape
    # Codes are drawn in float64, which Apple's GPUs lack: for them, the CPU draws.
    draw_device = torch.device("cpu") if device.type == "mps" else device
    copies = 2 if guidance else 1  # each image runs with its label and without it
    shape = (copies * batch_size, height, width)
    codes = torch.zeros(shape, dtype=torch.long, device=device)
    if known is not None:
        check_known(known, (batch_size, height, width), model.num_embeddings, name)
        known = known.to(device).long()
    uniform = uniform.to(draw_device).view(batch_size, height, width)

    def draw_code(logits: Tensor, uniform: Tensor, known: Tensor | None) -> Tensor:
        """The codes at one position, [B] or twice [B], drawn from logits or known."""
        logits = logits.to(draw_device)
        if guidance:
            labelled, unlabelled = logits.double().chunk(2)
            logits = labelled + guidance * (labelled - unlabelled)
        probs = probabilities(logits, temperature, top_k, top_p)
        drawn = draw(probs, uniform).to(device)
        if known is not None:
            drawn = torch.where(known < 0, drawn, known)
        return drawn.repeat(copies)

    # Each of these functions yields the last logits of a row when the row is drawn.
    walk = {
        "naive": partial(_pass_by_pass, whole_grid),
        "rows": partial(_pass_by_pass, rows_so_far),
        "graph": _graph,
    }.get(method, _cached)
    with (
        torch.inference_mode(),
        progress_bar(total=height, desc=name, unit="row", enabled=progress) as bar,
    ):
        for logits in walk(model, codes, condition, uniform, known, draw_code):
            if not logits.isfinite().all():
                raise ValueError(
                    "the prior's logits are not finite, so its weights are not either; "
                    "load another checkpoint, or train again with a lower lr"
                )
            bar.update()
    return codes[:batch_size]


def check_method(method: str, device: torch.device) -> None:
    """Raise ValueError unless `method` is one of `METHODS` that the device can do."""
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; give one of {', '.join(METHODS)}")
    if method == "graph" and device.type != "cuda":
        raise ValueError(
            f"method is 'graph', which needs a CUDA device, but the prior is on "
            f"{device}; give 'cached', or 'auto'"
        )


def whole_grid(model, codes, condition, y, x) -> Tensor:
    """Logits [B, K] at (y, x) from the network on all rows: a pass of `naive`."""
    # A copy, so that the logits of the other positions are not kept.
    return model.logits(codes, condition)[:, :, y, x].clone()


def rows_so_far(model, codes, condition, y, x) -> Tensor:
    """The same logits from rows 0 to y: half the multiplications on average."""
    above = _rows_of(condition, slice(y + 1))
    return model.logits(codes[:, : y + 1], above)[:, :, y, x].clone()


def _pass_by_pass(network, model, codes, condition, uniform, known, draw_code):
    """Draw codes with one pass of `network` per code."""
    for y in range(codes.shape[1]):
        for x in range(codes.shape[2]):
            logits = network(model, codes, condition, y, x)
            fixed = None if known is None else known[:, y, x]
            codes[:, y, x] = draw_code(logits, uniform[:, y, x], fixed)
        yield logits


def _cached(model, codes, condition, uniform, known, draw_code):
    """Draw codes so that each layer computes only what is new.

    This is one row of the vertical stack, and then one code of the horizontal stack at
    a time. All steps together perform as many multiplications as one pass.
    """
    row = _Row(model, codes, condition, uniform, known, draw_code)
    for y in range(codes.shape[1]):
        row.load(y)
        row.draw()
        codes[:, y] = row.codes
        yield row.logits


def _graph(model, codes, condition, uniform, known, draw_code):
    """Draw as `_cached` does, with the kernels of a row captured once and replayed."""
    row = _Row(model, codes, condition, uniform, known, draw_code)
    row.load(0)
    replay = _capture(row.draw)
    row.cache.clear()
    for y in range(codes.shape[1]):
        row.load(y)
        replay()
        codes[:, y] = row.codes
        yield row.logits


def _capture(function):
    """A CUDA graph of `function`, to be replayed by one call.

    `function` runs once before it is captured.
    """
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        function()  # initialises the libraries, which no graph may contain
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        function()
    return graph.replay


class _Row:
    """The drawing of one row, with all that differs between rows in fixed tensors."""

    def __init__(self, model, codes, condition, uniform, known, draw_code):
        self.draw_code = draw_code
        self.grids = (condition, uniform, known)
        self.cache = PixelCNNCache(model, len(codes), codes.shape[1:])
        self.codes = torch.zeros_like(codes[:, 0])
        self.condition, self.uniform, self.known = (
            None if tensor is None else tensor.clone() for tensor in self._at(0)
        )

    def _at(self, y: int):
        condition, uniform, known = self.grids
        row = None if known is None else known[:, y]
        return _rows_of(condition, slice(y, y + 1)), uniform[:, y], row

    def load(self, y: int) -> None:
        """Make y the row that `draw` draws; rows must be loaded in order."""
        here = (self.condition, self.uniform, self.known)
        for old, new in zip(here, self._at(y), strict=True):
            if old is not None:
                old.copy_(new)

    def draw(self) -> None:
        """Draw the row into `codes`, and keep it for the rows below."""
        cache, width = self.cache, self.codes.shape[1]
        uniform, codes = self.uniform.unbind(1), self.codes.unbind(1)
        known = [None] * width if self.known is None else self.known.unbind(1)
        cache.row_step(self.condition)
        for x in range(width):
            self.logits = cache.code_step(x)
            codes[x].copy_(self.draw_code(self.logits, uniform[x], known[x]))
            cache.keep_code(codes[x])
        cache.keep_row(self.codes)


def _rows_of(condition: Tensor | None, rows: slice) -> Tensor | None:
    """Some rows of a condition [B, p, H or 1, W or 1]; a single row is for all rows."""
    if condition is None or condition.shape[2] == 1:
        return condition
    return condition[:, :, rows]


def chunks_of(batch_size: int, chunk_size: int) -> list[slice]:
    """Slices of a batch with `chunk_size` images each, the last with the rest."""
    size = whole_number(chunk_size)
    return [slice(first, first + size) for first in range(0, batch_size, size)]


@torch.no_grad()
def draw_grids(
    levels: dict[str, Level],
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
        seed = torch.randint(2**63 - 1, ()).item()
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
            above = sample_codes(
                level,
                shape,
                here,
                level.condition(
                    None if labels is None else labels[chunk],
                    above,
                    (len(here), *shape),
                    guided=bool(weight),
                ),
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
    """The codes of a level in words; that of a `PixelCNN` by itself is "codes"."""
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
