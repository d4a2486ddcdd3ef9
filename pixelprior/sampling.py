"""Drawing codes from one level or from several, in raster order.

All methods share the random streams, one per image, and draw each code by inverse CDF
from one uniform number. Therefore the same seed gives the same codes with every method
and in any batch size. `naive` runs the whole network once for every code and is the
reference for correctness. `rows` leaves out the rows below. With `cached`, each layer
computes only what is new. `graph` is `cached` as a CUDA graph.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from pixelprior.cache import Level, PixelCNNCache
from pixelprior.devices import evaluation_mode
from pixelprior.layers import INTEGERS, check_tensor
from pixelprior.progress import progress_bar
from pixelprior.settings import SamplingOptions, check_positive, whole_number

DEFAULT = SamplingOptions()
KEPT_GRAPHS = 4  # of each level: of two sizes of batch, with guidance and without


def uniforms(seed: int, first_index: int, batch_size: int, count: int) -> Tensor:
    """The random numbers of images first_index to first_index + batch_size - 1.

    Image i has its own stream, Philox keyed by (seed, i), so that its numbers do not
    depend on any other image. The 52 high bits of a 64-bit word make one number.

    Returns:
        Float64 [batch_size, count], each in [0, 1 - 2^-52].
    """
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


def inverse_cdf(probs: Tensor, uniform: Tensor) -> Tensor:
    """The first code whose cumulative probability exceeds `uniform`.

    Args:
        probs: float64 [B, K], not negative.
        uniform: float64 [B], in [0, 1 - 2^-52], so that its product with a sum is never
            rounded up to that sum.

    Returns:
        Codes [B], long; a code of probability 0 is never returned.
    """
    cumulative = probs.cumsum(-1)
    threshold = cumulative[:, -1:] * uniform[:, None]
    codes = torch.searchsorted(cumulative, threshold, right=True)[:, 0]
    return codes.clamp_(max=probs.shape[-1] - 1)  # nan gives an index past the end


def sample_codes(
    level: Level,
    shape: tuple[int, int],
    uniform: Tensor,
    condition: Tensor | None = None,
    options: SamplingOptions = DEFAULT,
    *,
    guidance: float = 0.0,
    known: Tensor | None = None,
    progress: bool = False,
    name: str = "codes",
) -> Tensor:
    """Draw a batch of grids from one level.

    Args:
        level: the level, in evaluation mode.
        shape: height H and width W of the grid.
        uniform: float64 [B, H * W], one number per code, as returned by `uniforms`; on
            any device.
        condition: [B, p, H or 1, W or 1], as `PixelCNN.logits` takes it. With guidance
            [2B, …]: the conditions with their labels, then those without.
        options: temperature, top_k, top_p and method are used here.
        guidance: w; the logits are (1 + w) · those with the label − w · those without.
        known: long [B, H, W], -1 where unknown. Known codes are kept, and the rest is
            drawn given the codes before it.
        progress: show a progress bar that advances once per row.
        name: of the codes, for the progress bar.

    Returns:
        Codes [B, H, W], long.

    Raises:
        ValueError: the method needs another device, or logits are not finite.
    """
    device = level.embedding.weight.device
    check_method(options.method, device)
    # Codes are drawn in float64, which Apple's GPUs lack: for them, the CPU draws.
    draw_device = torch.device("cpu") if device.type == "mps" else device
    copies = 2 if guidance else 1  # each image runs with its label and without it
    codes = torch.zeros(copies * len(uniform), *shape, dtype=torch.long, device=device)
    uniform = uniform.to(draw_device).unflatten(1, shape)  # [B, H, W]
    if known is not None:
        known = known.to(device).long()

    def choose(logits: Tensor, uniform: Tensor, known: Tensor | None) -> Tensor:
        """The codes at one position, [B] or twice [B], drawn from logits or known."""
        logits = logits.to(draw_device)
        if guidance:
            labelled, unlabelled = logits.double().chunk(2)
            logits = labelled + guidance * (labelled - unlabelled)
        probs = probabilities(logits, options.temperature, options.top_k, options.top_p)
        code = inverse_cdf(probs, uniform).to(device)
        if known is not None:
            code = torch.where(known < 0, code, known)
        return code.repeat(copies)

    given = (level, codes, condition, uniform, known, choose)
    if options.method == "naive":
        rows = _by_passes(whole_grid, *given)
    elif options.method == "rows":
        rows = _by_passes(rows_so_far, *given)
    else:
        baked = (options.temperature, options.top_k, options.top_p, guidance)
        graph_for = baked if options.method == "graph" else None
        rows = _by_steps(*given, graph_for)
    bar = progress_bar(rows, total=shape[0], desc=name, unit="row", enabled=progress)
    with torch.inference_mode():
        for logits in bar:  # the last of each row
            if not logits.isfinite().all():
                raise ValueError(
                    "the prior's logits are not finite, so its weights are not either; "
                    "load another checkpoint, or train again with a lower lr"
                )
    return codes[: len(uniform)]


def check_method(method: str, device: torch.device) -> None:
    """Raise ValueError unless the device can draw by this method."""
    if method == "graph" and device.type != "cuda":
        raise ValueError(
            f"method is 'graph', which needs a CUDA device, but the prior is on "
            f"{device}; give 'cached', or 'auto'"
        )


def whole_grid(level, codes, condition, y, x) -> Tensor:
    """Logits [B, K] at (y, x) from the network on all rows: a pass of `naive`."""
    # A copy, so that the logits of the other positions are not kept.
    return level.logits(codes, condition)[:, :, y, x].clone()


def rows_so_far(level, codes, condition, y, x) -> Tensor:
    """The same logits from rows 0 to y: half the multiplications on average."""
    above = _rows_of(condition, slice(y + 1))
    return level.logits(codes[:, : y + 1], above)[:, :, y, x].clone()


def _by_passes(
    network, level, codes, condition, uniform, known, choose
) -> Iterator[Tensor]:
    """Draw codes with one pass of `network` per code; yield the last logits of rows."""
    for y in range(codes.shape[1]):
        for x in range(codes.shape[2]):
            logits = network(level, codes, condition, y, x)
            fixed = None if known is None else known[:, y, x]
            codes[:, y, x] = choose(logits, uniform[:, y, x], fixed)
        yield logits


def _by_steps(
    level, codes, condition, uniform, known, choose, graph_for: tuple | None
) -> Iterator[Tensor]:
    """Draw codes by the steps of `cache.py`; yield the last logits of rows.

    A row of the vertical stack is followed by one code of the horizontal stack at a
    time. As a graph, the kernels of a row are captured once and replayed: for all rows,
    and for all later draws of the same kind.

    Args:
        graph_for: options that the graph depends on; None draws without a graph.
    """

    def inputs(y: int) -> tuple[Tensor | None, ...]:
        fixed = None if known is None else known[:, y]
        return _rows_of(condition, slice(y, y + 1)), uniform[:, y], fixed

    row, sample_row = None, None
    if graph_for is not None:
        graphs = vars(level).setdefault("_graphs", _Graphs())
        moved = tuple(each.data_ptr() for each in level.parameters())
        shapes = [None if each is None else each.shape for each in inputs(0)]
        dtype = level.embedding.weight.dtype
        kind = (codes.shape, codes.device, dtype, moved, *graph_for, *shapes)
        row, sample_row = graphs.pop(kind, (None, None))
    if row is None:
        cache = PixelCNNCache(level, len(codes), codes.shape[1:])
        row = _Row(cache, choose, codes[:, 0], inputs(0))
        sample_row = row.sample if graph_for is None else _capture(row.sample)
    if graph_for is not None:
        graphs.keep(kind, (row, sample_row))
        row.cache.start()
    for y in range(codes.shape[1]):
        row.load(inputs(y))
        sample_row()
        codes[:, y] = row.codes
        yield row.logits


class _Graphs(dict):
    """The rows of a level that were captured last, with their graphs, by their kind.

    A copy of a level has none: it has weights of its own.
    """

    def keep(self, kind: tuple, row: tuple) -> None:
        """Keep a row as the newest, and at most `KEPT_GRAPHS`."""
        self[kind] = row
        while len(self) > KEPT_GRAPHS:
            del self[next(iter(self))]

    def __reduce__(self):  # of copy and pickle
        return _Graphs, ()


def _capture(function: Callable[[], None]) -> Callable[[], None]:
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
    """The drawing of one row, with all that differs between rows in fixed tensors:
    condition, random numbers and known codes of the row."""

    def __init__(self, cache: PixelCNNCache, choose, like: Tensor, inputs):
        self.cache, self.choose = cache, choose
        self.codes = torch.zeros_like(like)  # [B, W]
        self.inputs = [None if each is None else each.clone() for each in inputs]

    def load(self, inputs) -> None:
        """Take the inputs of the next row."""
        for kept, new in zip(self.inputs, inputs, strict=True):
            if kept is not None:
                kept.copy_(new)

    def sample(self) -> None:
        """Draw the row into `codes`, and keep it for the rows below."""
        cache, (condition, uniform, known) = self.cache, self.inputs
        cache.row_step(condition)
        for x, code in enumerate(self.codes.unbind(1)):
            self.logits = cache.code_step(x)
            fixed = None if known is None else known[:, x]
            code.copy_(self.choose(self.logits, uniform[:, x], fixed))
            cache.keep_code(code)
        cache.keep_row(self.codes)


def _rows_of(condition: Tensor | None, rows: slice) -> Tensor | None:
    """Some rows of a condition [B, p, H or 1, W or 1]; a single row is for all rows."""
    if condition is None or condition.shape[2] == 1:
        return condition
    return condition[:, :, rows]


@torch.no_grad()
def sample_levels(
    levels: dict[str, Level],
    shapes,
    batch_size: int,
    options: SamplingOptions = DEFAULT,
    *,
    above: Tensor | None = None,
    labels=None,
    known=None,
    progress: bool = False,
) -> tuple[Tensor, ...]:
    """Draw the grids of one level, or of several, each given the grid before it.

    Args:
        levels: the levels by the names of their codes, on one device, in the order in
            which they are drawn.
        shapes: (height, width) of each level's grid.
        batch_size: number of images to draw.
        options: how to draw.
        above: long [B, h, w], the grids that the first level is given, or None.
        labels: in any form that `PixelCNN.check_labels` takes.
        known: long grids of each level, -1 where unknown; None where nothing is known.
        progress: show progress bars.

    Returns:
        Codes of each level, long [B, H, W].

    Raises:
        ValueError: batch_size, a shape or a known grid does not fit the levels.
    """
    check_positive(batch_size=batch_size)
    batch_size = whole_number(batch_size)
    shapes = _checked_shapes(shapes, levels)
    known = list(known) if known is not None else [None] * len(levels)
    if len(known) != len(levels):
        raise ValueError(
            f"known has {len(known)} grids for {len(levels)} level(s); give one per "
            "level, or None for a level of which nothing is known"
        )
    for (name, level), grid, shape in zip(levels.items(), known, shapes, strict=True):
        if grid is not None:
            _check_known(grid, (batch_size, *shape), level.num_embeddings, name)
    first = next(iter(levels.values()))
    device = first.embedding.weight.device
    if above is not None:
        check_tensor(above, "codes of the level above")
        above = above.to(device)
    labels = first.check_labels(labels, batch_size)
    guidance = checked_guidance(list(levels.values()), options, labels)
    seed = torch.randint(2**63 - 1, ()).item() if options.seed is None else options.seed
    counts = [math.prod(shape) for shape in shapes]
    numbers = uniforms(seed, options.first_index, batch_size, sum(counts))
    numbers = numbers.split(counts, dim=1)  # [B, H * W] of each level

    starts = range(0, batch_size, options.chunk_size)
    in_chunks = progress and len(starts) > 1
    bar = progress_bar(starts, desc="drawing", unit="batch", enabled=in_chunks)
    drawn: list[list[Tensor]] = []  # the grids of each chunk, level by level
    with (
        evaluation_mode(torch.nn.ModuleList(levels.values())),
        # A step cannot reuse what earlier steps kept in another number format.
        torch.autocast(device.type, enabled=False),
    ):
        for start in bar:
            chunk = slice(start, start + options.chunk_size)
            grid = None if above is None else above[chunk]
            label = None if labels is None else labels[chunk]
            grids = []
            each = zip(levels.items(), shapes, numbers, guidance, known, strict=True)
            for (name, level), shape, uniform, weight, fixed in each:
                uniform = uniform[chunk]
                condition = level.conditioning(
                    grid, label, (len(uniform), *shape), guided=bool(weight)
                )
                grid = sample_codes(
                    level,
                    shape,
                    uniform,
                    condition,
                    options,
                    guidance=weight,
                    known=None if fixed is None else fixed[chunk],
                    progress=progress and not in_chunks,
                    name=name,
                )
                grids.append(grid)
            drawn.append(grids)
    return tuple(torch.cat(grids) for grids in zip(*drawn, strict=True))


def checked_guidance(levels: list, options: SamplingOptions, labels) -> tuple:
    """The guidance of each level.

    Raises:
        ValueError: there are no labels to guide towards, or the prior was trained with
            all labels, or there is another number of levels.
    """
    guidance, withheld = options.guidance_for(len(levels)), levels[0].label_dropout
    if any(guidance) and (labels is None or not withheld):
        problem = "there are no labels to guide towards; give labels"
        if not withheld:
            problem = (
                "this prior was trained with all labels; train one with label_dropout, "
                "such as 0.1"
            )
        raise ValueError(
            f"guidance is {options.guidance}, but {problem}, or leave guidance at 0"
        )
    return guidance


def _checked_shapes(shapes, levels) -> list[tuple[int, int]]:
    """(height, width) of each level, as ints."""
    sides = [
        tuple(map(whole_number, shape)) if isinstance(shape, list | tuple) else ()
        for shape in shapes
    ]
    if len(sides) != len(levels) or not all(
        len(pair) == 2 and min(side or 0 for side in pair) >= 1 for pair in sides
    ):
        raise ValueError(
            f"the shapes of the grids are {shapes}; give (height, width), each at "
            f"least 1, for {len(levels)} level(s)"
        )
    return sides


def _check_known(known: Tensor, shape, num_embeddings: int, name: str) -> None:
    """Raise ValueError unless `known` holds codes, or -1, for all of `shape`."""
    name = f"known {name}"
    check_tensor(known, name)
    if tuple(known.shape) != tuple(shape) or known.dtype not in INTEGERS:
        raise ValueError(
            f"{name} are {known.dtype} of shape {list(known.shape)}, but integers of "
            f"shape {list(shape)} are needed, -1 where unknown"
        )
    if known.min() < -1 or known.max() >= num_embeddings:
        raise ValueError(
            f"{name} run from {known.min()} to {known.max()}; give codes from 0 to "
            f"{num_embeddings - 1}, or -1 where unknown"
        )
