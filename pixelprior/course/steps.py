"""What notebook 06 draws with and measures: a cache that rolls by the reader's line,
the loop of `cached`, and how many times less it takes than `naive`."""

import copy
import json
from collections.abc import Callable
from importlib.resources import files
from statistics import median

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pixelprior.benchmark import timing
from pixelprior.benchmark.counting import multiply_adds
from pixelprior.benchmark.report import ratio
from pixelprior.cache import PixelCNNCache
from pixelprior.course import figures
from pixelprior.pixelcnn import PixelCNN
from pixelprior.sampling import inverse_cdf, probabilities, uniforms


def draw(logits: Tensor, u: Tensor) -> Tensor:
    """The codes [B] that the numbers u [B] draw from logits [B, K]."""
    return inverse_cdf(probabilities(logits), u)


def rolled(rows: Tensor) -> Tensor:
    """Rows [B, C, n, W], each moved up by one; the first comes last."""
    return rows.roll(-1, dims=2)


class Cache(PixelCNNCache):
    """A cache for grids of u [B, H, W] that rolls the rows of each block by `roll`."""

    def __init__(self, network: PixelCNN, u: Tensor, roll=rolled):
        super().__init__(network, len(u), u.shape[1:])
        for block in self.blocks:
            block.roll_rows = lambda block=block: self._roll(block, roll)

    @staticmethod
    def _roll(block, roll) -> None:
        block.rows.copy_(roll(block.rows))
        block.rows[:, :, -1] = 0  # the new row does not cover the margins


def by_steps(cache: PixelCNNCache, u: Tensor, condition: Tensor) -> Tensor:
    """The loop of `cached`: codes [B, H, W] by a new cache, from u [B, H, W] and a
    condition [B, p, H, 1 or W]."""
    codes = torch.zeros(u.shape, dtype=torch.long)
    for y in range(u.shape[1]):
        cache.row_step(condition[:, :, y : y + 1])
        for x in range(u.shape[2]):
            codes[:, y, x] = draw(cache.code_step(x), u[:, y, x])
            cache.keep_code(codes[:, y, x])
        cache.keep_row(codes[:, y])
    return codes


def with_stuck(network: PixelCNN, u: Tensor, condition: Tensor, block: int = 5):
    """Codes [B, H, W] from a cache in which one block does not roll its rows."""
    cache = Cache(network, u)
    cache.blocks[block].roll_rows = lambda: None
    return by_steps(cache, u, condition)


def levels(prior, batch: int):
    """Each level of a prior for images of 32×32 with u [B, H, W] and a condition
    [B, p, H, 1 or W], that of the bottom level from top codes that are all 0."""
    labels, above = prior.labels_in_turn(batch), None
    for network, side in ((prior.prior_top, 8), (prior.prior_bottom, 16)):
        shape = (batch, side, side)
        condition = network.conditioning(above, labels, shape).expand(-1, -1, side, -1)
        yield network, uniforms(0, 0, batch, side**2).view(shape), condition
        above = torch.zeros(shape, dtype=torch.long)


def of_top(prior, batch: int):
    """The top level in float64, with u and condition: sums in another order then draw
    the same codes."""
    return next(levels(copy.deepcopy(prior).double(), batch))


def decoded(vqvae2, prior, grids: dict[str, Tensor]) -> Figure:
    """Rows of images, one per class, with these top codes [10, 8, 8]."""
    rows, sample = {}, prior.sample_with_vqvae2
    for name, z in grids.items():
        rows[name] = sample(vqvae2, 10, labels=range(10), seed=0, known_top=z)
    return figures.image_rows(rows)


def _times_less(measure: Callable, batch: int, prior, loop, roll) -> float:
    """How many times less `loop` takes than `naive` for both levels, by a function that
    measures a run. All passes of `naive` are alike, so that one is measured."""

    def of_level(network, u, condition):
        z = torch.zeros(u.shape, dtype=torch.long)
        naive = z[0].numel() * measure(lambda: network.logits(z, condition))
        return naive, measure(lambda: loop(Cache(network, u, roll), u, condition))

    both = zip(*(of_level(*level) for level in levels(prior, batch)), strict=True)
    naive, by_loop = map(sum, both)
    return naive / by_loop


def counted(*mine) -> float:
    """Multiply-adds of `naive`, in those of the reader's prior, loop and roll."""
    return _times_less(multiply_adds, 1, *mine)


def _fastest(run: Callable) -> float:
    """Seconds of the fastest of at least five runs, after one that is not timed; what
    else runs on the machine makes it slower and never faster."""
    run()
    taken = []
    while len(taken) < 5 or sum(taken) < 0.5:
        taken.append(timing.seconds(run))
    return min(taken)


def race(*mine) -> dict[str, float]:
    """How many times as fast as `naive` the reader's loop is, with 1 image and with 32,
    and the package's with 256 in the kept result of `pixelprior benchmark`."""
    return {
        "1 image": _times_less(_fastest, 1, *mine),
        "32 images": _times_less(_fastest, 32, *mine),
        "256, kept result": median(ratio(benchmark(), 256, "naive", "cached")),
    }


def bars(race: dict[str, float]) -> Figure:
    label = "naive ÷ cached"
    return figures.bars(race, y_label=label, unit_format="{:.0f}", alike=True)


def benchmark() -> dict:
    """The kept result of `pixelprior benchmark`."""
    path = files("pixelprior.assets") / "benchmark.json"
    return json.loads(path.read_text(encoding="utf-8"))


class _Operations(TorchDispatchMode):
    count = 0

    def __torch_dispatch__(self, operation, _types, given=(), options=None):
        self.count += not operation.is_view  # a view launches nothing
        return operation(*given, **(options or {}))


def operations(run: Callable, *given) -> int:
    """The number of operations in a run, without views, to the nearest hundred: other
    releases of torch need a few more or less."""
    with _Operations() as seen:
        run(*given)
    return round(seen.count, -2)
