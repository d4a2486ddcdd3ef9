"""Drawing codes from one PixelCNN, in raster order.

What every method shares stands here: the random streams, one for each image, and the
draw by inverse CDF from one uniform number a code. So the same seed gives the same
codes by every method, in any batch size. `naive` runs the whole network once for every
code and is the yardstick of correctness; `cached` lets each layer compute what is new.
"""

import math
from numbers import Real

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pixelprior.pixelcnn import PixelCNN
from pixelprior.progress import progress_bar
from pixelprior.validation import INTEGERS, check_tensor

METHODS = ("auto", "naive", "cached")


def uniforms(seed: int, first_index: int, batch_size: int, count: int) -> Tensor:
    """The random numbers of images first_index to first_index + batch_size - 1.

    Image i has its own stream, Philox keyed by (seed, i), so its numbers depend on no
    other image. The 53 high bits of each 64-bit word make a number.

    Returns:
        Float64 [batch_size, count], each in [0, 1).

    Raises:
        ValueError: seed or first_index does not fit 64 bits.
    """
    for name, value, limit in (
        ("seed", seed, 2**64),
        ("first_index", first_index, 2**64 - batch_size),
    ):
        if not isinstance(value, int) or not 0 <= value < limit:
            raise ValueError(f"{name} is {value}; give a whole number from 0 to 2^64-1")
    words = [
        np.random.Philox(key=[seed, first_index + i]).random_raw(count)
        for i in range(batch_size)
    ]
    return torch.from_numpy((np.stack(words) >> np.uint64(11)) * 2.0**-53)


def check_filters(temperature: float, top_k: int | None, top_p: float | None) -> None:
    """Raise ValueError unless the three are in range."""
    finite = isinstance(temperature, Real) and math.isfinite(temperature)
    if not finite or temperature <= 0:
        raise ValueError(
            f"temperature is {temperature}; give a number above 0 (1.0 samples the "
            "prior as it is, lower is safer, higher more diverse)"
        )
    if top_k is not None and not (isinstance(top_k, int) and top_k >= 1):
        raise ValueError(f"top_k is {top_k}; give at least 1, or leave it out")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(
            f"top_p is {top_p}; give a share above 0 and up to 1, or leave it out"
        )


def probabilities(logits: Tensor, temperature=1.0, top_k=None, top_p=None) -> Tensor:
    """Logits [..., K] to the probabilities that are drawn from, float64 [..., K].

    Temperature first, then the `top_k` likeliest codes, then the fewest of the
    likeliest codes that hold `top_p` of the probability; at least one code is kept.
    """
    logits = logits.double()
    # Without its maximum no logit overflows, however low the temperature.
    scaled = (logits - logits.amax(-1, keepdim=True)) / temperature
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
        uniform: float64 [B], in [0, 1).

    Returns:
        Codes [B], long; a code of probability 0 is never drawn.
    """
    cumulative = probs.cumsum(-1)
    total = cumulative[:, -1:]
    # u · total may round up to total itself, past the last code.
    threshold = torch.minimum(
        uniform[:, None] * total, torch.nextafter(total, torch.zeros_like(total))
    )
    return (cumulative <= threshold).sum(-1)


def sample_codes(
    model: PixelCNN,
    shape: tuple[int, int],
    uniform: Tensor,
    condition: Tensor | None = None,
    *,
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
        uniform: float64 [B, H * W] in [0, 1), one number a code; on any device.
        condition: [B, p, H or 1, W or 1], as `PixelCNN.logits` takes it.
        temperature, top_k, top_p: as in `probabilities`.
        known: long [B, H, W], -1 where unknown; known codes are kept, the rest is drawn
            given those before them.
        method: one of `METHODS`; "auto" takes the fastest.
        progress: show a bar, one tick a row.

    Returns:
        Codes [B, H, W], long.

    Raises:
        ValueError: an argument is out of its range.
    """
    check_filters(temperature, top_k, top_p)
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; give one of {', '.join(METHODS)}")
    batch_size, (height, width) = len(uniform), shape
    device = model.embedding.weight.device
    # Draws are in float64, which Apple's GPUs lack: theirs happen on the CPU.
    draw_device = torch.device("cpu") if device.type == "mps" else device
    codes = torch.zeros(batch_size, height, width, dtype=torch.long, device=device)
    if known is None:
        known = torch.full_like(codes, -1)
    _check_known(known, codes.shape, model.num_embeddings, f"known {name}")
    known = known.to(device)
    uniform = uniform.to(draw_device).view(batch_size, height, width)

    def settle(y: int, x: int, logits: Tensor) -> None:
        """Write the code at (y, x), drawn from logits [B, K] or known."""
        probs = probabilities(logits.to(draw_device), temperature, top_k, top_p)
        drawn = draw(probs, uniform[:, y, x]).to(device)
        codes[:, y, x] = torch.where(known[:, y, x] < 0, drawn, known[:, y, x])

    walk = _naive if method == "naive" else _cached
    with progress_bar(total=height, desc=name, unit="row", enabled=progress) as bar:
        for _ in walk(model, codes, condition, settle):
            bar.update()
    return codes


def _check_known(known: Tensor, shape, num_embeddings: int, name: str) -> None:
    check_tensor(known, name)
    if known.shape != shape or known.dtype not in INTEGERS:
        raise ValueError(
            f"{name} are {known.dtype} of shape {list(known.shape)}, but integers of "
            f"shape {list(shape)} are needed, -1 where unknown"
        )
    if known.min() < -1 or known.max() >= num_embeddings:
        raise ValueError(
            f"{name} run from {known.min()} to {known.max()}; give codes from 0 to "
            f"{num_embeddings - 1}, or -1 where unknown"
        )


def _naive(model, codes, condition, settle):
    """The whole network for each code: H · W passes over the grid."""
    for y in range(codes.shape[1]):
        for x in range(codes.shape[2]):
            settle(y, x, model.logits(codes, condition)[:, :, y, x])
        yield


def _cached(model, codes, condition, settle):
    """Each layer computes what is new: a row of the vertical stack, one code of the
    horizontal stack. All steps together multiply as often as one pass does."""
    batch_size, height, width = codes.shape
    blocks = model.blocks
    like = model.embedding.weight
    # The rows under each block's vertical kernel, zeros above the grid.
    rows = [
        like.new_zeros(batch_size, block.vertical.in_channels, block.span, width)
        for block in blocks
    ]
    above = rows[0][:, :, :1]
    for y in range(height):
        row_condition = condition
        if condition is not None and condition.shape[2] > 1:
            row_condition = condition[:, :, y : y + 1]
        across = []  # what each block's horizontal stack gets: [B, 2p, 1, W]
        row = above  # the first block sees rows above alone
        for layer, block in enumerate(blocks):
            rows[layer] = torch.cat([rows[layer][:, :, 1:], row], dim=2)
            row, to_horizontal = block.row_step(rows[layer], row_condition)
            across.append(to_horizontal)
        # The places of this row that each horizontal kernel has passed.
        passed = [
            F.pad(torch.zeros_like(rows[layer][:, :, 0]), (block.reach, 0))
            for layer, block in enumerate(blocks)
        ]
        left = torch.zeros_like(passed[0][:, :, 0])
        for x in range(width):
            h = left  # the first block sees codes to the left alone
            for layer, block in enumerate(blocks):
                passed[layer][:, :, x + block.reach - block.shift] = h
                window = passed[layer][:, :, x : x + block.span]
                h = block.code_step(window, across[layer][:, :, 0, x])
            settle(y, x, model.head(h[:, :, None, None])[:, :, 0, 0])
            left = model.embedding(codes[:, y, x])
        above = model.embed(codes[:, y : y + 1])
        yield
