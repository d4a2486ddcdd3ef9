"""Checks for notebook 06: the cached step of a block, the multiply-adds of `naive` and
of `rows`, and how many images fit into memory."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from pixelprior.benchmark.counting import multiply_adds
from pixelprior.cache import PixelCNNCache
from pixelprior.course.checks.verdict import (
    NotAttempted,
    Wrong,
    call,
    judged,
    need_number,
    need_tensor,
)
from pixelprior.layers import GatedBlock, gate
from pixelprior.pixelcnn import PixelCNN
from pixelprior.prior import HierarchicalPixelCNN
from pixelprior.sampling import rows_so_far

BATCH, CHANNELS, HEIGHT, WIDTH = 2, 3, 5, 6
TOLERANCE = 1e-6  # in float64; the reader's function may have used float32
MIB = 2**20
# Whoever takes a bottom pass for four top passes is 1 % off; wrong ideas, 16 % or more.
SPEED_UP_TOLERANCE = 0.05


@judged
@torch.no_grad()
def cached_step(row_step, code_step) -> str:
    """The answer is two functions that apply a block in raster order from kept inputs:

    row_step(block, kept [B, C, r, W], new [B, C, W]) → v [B, p, W], across [B, 2p, W],
    kept; code_step(block, kept [B, C, r], new [B, C], across [B, 2p]) → h [B, p], kept.

    The check compares them with `GatedBlock.forward` on random input, with both masks
    and two kernel sizes.
    """
    torch.manual_seed(0)
    cases = []
    for kernel_size in (3, 5):
        for mask_type in "BA":
            which = "a later block, mask B" if mask_type == "B" else "the first, mask A"
            block = GatedBlock(mask_type, CHANNELS, CHANNELS, kernel_size)
            v, h = torch.randn(2, BATCH, CHANNELS, HEIGHT, WIDTH, dtype=torch.float64)
            if mask_type == "A":
                h = v  # both are the embedded codes
            cases.append((f"{which}, k = {kernel_size}", block.double().eval(), (v, h)))
    for name, block, (v, _) in cases:
        _judge_rows(row_step, name, block, v)
    rows_are_right = "your row step is right; your code step"
    if code_step is None:
        raise Wrong(f"{rows_are_right} is None")
    try:
        for name, block, (v, h) in cases:
            _judge_codes(code_step, name, block, v, h)
    except NotAttempted:
        raise Wrong(f"{rows_are_right} gives None so far") from None
    return (
        f"at all {HEIGHT * WIDTH} positions of a grid your steps give what forward "
        "gives, in a first and in a later block, with kernels of 3 and of 5"
    )


def _judge_rows(row_step, name: str, block: GatedBlock, v: Tensor) -> None:
    """Judge the vertical stack row by row, on the input `v` [B, C, H, W]."""
    p, r = CHANNELS, block.padding
    wanted, _ = block(v, v)
    features = block.vertical(F.pad(v, (r, r, r, -int(block.mask_a))))  # [B, 2p, H, W]
    across = block.vertical_to_horizontal(features)
    kept = v.new_zeros(BATCH, CHANNELS, r, WIDTH)
    shapes = {
        "v": (BATCH, p, WIDTH),
        "across": (BATCH, 2 * p, WIDTH),
        "kept": tuple(kept.shape),
    }
    for y in range(HEIGHT):
        given, new, where = kept, v[:, :, y], f"in row {y} ({name})"
        found, sent, kept = _outputs(row_step, "row step", shapes, block, given, new)
        if block.mask_a:
            other = _outputs(row_step, "row step", shapes, block, given, new + 1)
            if not (_same(found, other[0]) and _same(sent, other[1])):
                raise Wrong(
                    f"your row step looks at the future {where}: what it gives changes "
                    f"with row {y} itself, whose codes are yet to be drawn"
                )
        if _same(found, wanted[:, :, y]) and _same(sent, across[:, :, y]):
            continue
        _judge_kept(given, F.pad(v, (0, 0, r, 0))[:, :, y : y + r], f"row {y}", name)
        if not _same(sent, across[:, :, y]):
            fault = "across is wrong"
            if _same(sent, features[:, :, y]):
                fault = "across has not been through vertical_to_horizontal"
            raise Wrong(f"{fault} {where}")
        fault, above = "v is wrong", v[:, :, y] if block.vertical_residual else 0
        if _same(found, gate(across)[:, :, y] + above):
            fault = "v is the gate of across; it goes its own way before that 1×1"
        elif _same(found, gate(features)[:, :, y]):
            fault = "the residual is missing: a later block adds to v"
        raise Wrong(f"{fault} {where}")


def _judge_codes(code_step, name: str, block: GatedBlock, v: Tensor, h: Tensor) -> None:
    """Judge the horizontal stack code by code, with the vertical stack's output."""
    p, r = CHANNELS, block.padding
    _, wanted = block(v, h)
    across = block.vertical(F.pad(v, (r, r, r, -int(block.mask_a))))  # [B, 2p, H, W]
    across = block.vertical_to_horizontal(across)
    for y in range(HEIGHT):
        kept = h.new_zeros(BATCH, CHANNELS, r)
        shapes = {"h": (BATCH, p), "kept": tuple(kept.shape)}
        for x in range(WIDTH):
            given, new, sent = kept, h[:, :, y, x], across[:, :, y, x]
            where = f"at position ({y}, {x}) ({name})"

            def step(new, sent, given=given, shapes=shapes):
                return _outputs(code_step, "code step", shapes, block, given, new, sent)

            found, kept = step(new, sent)
            if block.mask_a and not _same(found, step(new + 1, sent)[0]):
                raise Wrong(
                    f"your code step looks at the future {where}: h changes with the "
                    "code at that very position, which is yet to be drawn"
                )
            if _same(found, wanted[..., y, x]):
                continue
            if _same(found, step(new, sent + 1)[0]):
                raise Wrong(
                    f"h does not change with across {where}: nothing gives your step "
                    "what is in the rows above"
                )
            past = F.pad(h[:, :, y], (r, 0))[:, :, x : x + r]
            _judge_kept(given, past, f"position ({y}, {x})", name)
            raise Wrong(f"{_fault_of_a_code(block, step)} {where}")


def _fault_of_a_code(block: GatedBlock, step) -> str:
    """The most likely mistake in a wrong code step, in words, found on random input."""
    kept = torch.randn(BATCH, CHANNELS, block.padding, dtype=torch.float64)
    new = torch.randn(BATCH, CHANNELS, dtype=torch.float64)
    sent = torch.randn(BATCH, 2 * CHANNELS, dtype=torch.float64)
    found, _ = step(new, sent, kept)
    positions = torch.cat([kept, new[:, :, None]], dim=2)[:, :, None, : block.extent]
    gated = gate(block.horizontal(positions) + sent[:, :, None, None])  # [B, p, 1, 1]
    news, gated = block.horizontal_out(gated)[:, :, 0, 0], gated[:, :, 0, 0]
    left = news + kept[:, :, -1]
    faults = {
        "the residual is missing: a later block adds to h, and does not replace it": (
            news
        ),
        "the residual is the h of the position to the left, not of its own": left,
        "h has not been through horizontal_out": gated,
        "h has the residual, and has not been through horizontal_out": gated + new,
    }
    if block.mask_a:
        faults = {"the first block has no residual, and h got one": left}
    for fault, output in faults.items():
        if _same(found, output):
            return fault
    right = news if block.mask_a else news + new
    return (
        f"h differs from what it should be by up to {(found - right).abs().max():.2f}"
    )


def _judge_kept(given: Tensor, past: Tensor, what: str, name: str) -> None:
    """Raise `Wrong` unless what was kept, [B, C, r, …], is the past, oldest first."""
    if _same(given, past):
        return
    newest = past[:, :, -1]
    slots = [_same(given[:, :, slot], newest) for slot in range(given.shape[2])]
    if not any(slots):
        raise Wrong(
            f"stale: what you kept for {what} does not hold the one right before it "
            f"({name})"
        )
    raise Wrong(
        f"what you kept for {what} is out of order: the oldest comes first, the newest "
        f"last, and nothing in between is lost ({name})"
    )


def _outputs(step, what: str, shapes: dict, block, *given) -> list[Tensor]:
    """The outputs of the reader's step, if they have the right shapes; otherwise raises
    `Wrong`."""
    found = call(
        step, block, *(tensor.clone() for tensor in given), what=f"your {what}"
    )
    if not isinstance(found, (tuple, list)) or len(found) != len(shapes):
        raise Wrong(
            f"your {what} is to give {len(shapes)} tensors: {', '.join(shapes)}"
        )
    found = [
        need_tensor(each, shape, f"{name} of your {what}").double()
        for each, (name, shape) in zip(found, shapes.items(), strict=True)
    ]
    for each, name in zip(found, shapes, strict=True):
        if not each.isfinite().all():
            raise Wrong(f"{name} of your {what} is not finite everywhere")
    return found


def _same(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, atol=TOLERANCE, rtol=0)


@judged
def speed_up(answer, prior: HierarchicalPixelCNN, top_shape, bottom_shape) -> str:
    """The answer is naive ÷ cached in multiply-adds, which the check counts for both
    levels with grids of these shapes, without the condition of the bottom level."""
    answer, labels = need_number(answer), prior.labels_in_turn(1)
    top, bottom = prior.prior_top, prior.prior_bottom
    z_top = torch.zeros(1, *top_shape, dtype=torch.long)
    from_top = bottom.conditioning(z_top, labels, (1, *bottom_shape))
    one = _naive_and_cached(top, top_shape, top.label_condition(labels, 1))
    other = _naive_and_cached(bottom, bottom_shape, from_top)
    naive, cached = one[0] + other[0], one[1] + other[1]
    of_top, of_bottom = math.prod(top_shape), math.prod(bottom_shape)
    times = naive / cached
    if _near(answer, times, SPEED_UP_TOLERANCE):
        return (
            f"an image takes {naive / 1e6:,.0f} million multiply-adds by naive, and "
            f"{cached / 1e6:,.0f} million by cached, {times:.0f} times fewer"
        )
    for value, words in {
        1 / times: "is cached ÷ naive; turn it over",
        of_top: "is right for the top level alone",
        of_bottom: "is right for the bottom level alone",
        of_top + of_bottom: "passes are what naive takes; cached takes two of them",
        (of_top + of_bottom) / 2: "would be right if both passes cost the same",
    }.items():
        if _near(answer, value):
            raise Wrong(f"{answer:g} {words}")
    raise Wrong(
        f"{answer:g} is {'less' if answer < times else 'more'} than was counted: how "
        "many passes of each level does each method take, and what does each pass cost?"
    )


@torch.no_grad()
def _naive_and_cached(model: PixelCNN, shape, condition) -> tuple[int, int]:
    """Multiply-adds of a draw of one image by `naive` and by `cached`, from one pass,
    one row and one code, since all others cost the same."""
    (height, width), codes = shape, torch.zeros(1, *shape, dtype=torch.long)
    first = None if condition is None else condition[:, :, :1]
    cache = PixelCNNCache(model, 1, shape)
    row, code = multiply_adds(cache.row_step, first), multiply_adds(cache.code_step, 0)
    code += multiply_adds(cache.keep_code, codes[:, 0, 0])
    a_pass = multiply_adds(model.logits, codes, condition)
    return height * width * a_pass, height * (row + width * code)


@judged
def fewest_for_rows(answer, codes: int) -> str:
    """The answer is (height, width, rows ÷ cached) for grids with `codes` codes.

    Height and width are those of the grid on which a draw by `rows` takes the fewest
    multiply-adds. The third number is the ratio of these to the multiply-adds of
    `cached`. The check counts them with a network so small that this takes a moment.
    """
    try:
        values = list(answer)
    except TypeError:
        values = []
    if len(values) != 3:
        raise Wrong(
            f"your answer is {answer!r}, but three numbers are needed: (height, width, "
            "rows ÷ cached)"
        )
    height, width, times = map(need_number, values)
    for name, value in (("height", height), ("width", width)):
        if value % 1 or value < 1:
            raise Wrong(f"a {name} of {value:g} is none")
    if height * width != codes:
        raise Wrong(
            f"{height:g} × {width:g} are {height * width:g} codes, and not {codes}"
        )
    torch.manual_seed(0)
    model = PixelCNN(3, 2, 2, 2).eval()
    shapes = [(codes // w, w) for w in range(1, codes + 1) if codes % w == 0]
    by_rows = {shape: _counted_for_rows(model, shape) for shape in shapes}
    height, width = int(height), int(width)
    if by_rows[height, width] > min(by_rows.values()):
        raise Wrong(
            f"at {height} × {width} rows takes more than at another shape of {codes} "
            "codes; what does a pass for a code in row y cost, and how many codes are "
            "in that row?"
        )
    _, by_cached = _naive_and_cached(model, (height, width), None)
    counted = by_rows[height, width] / by_cached
    if not _near(times, counted):
        if times > 0 and _near(1 / times, counted):
            raise Wrong(
                "your shape is right; your ratio is cached ÷ rows, turn it over"
            )
        few = "less" if times < counted else "more"
        raise Wrong(
            f"your shape is right; {times:g} is {few} than was counted there: what "
            "does a pass for a code in row 0 cost, what one for a code in the last "
            "row, and what is the mean over all codes?"
        )
    return (
        f"of {len(shapes)} shapes with {codes} codes, {height} × {width} costs rows "
        f"the fewest multiply-adds, {counted:g} times those of cached"
    )


def _counted_for_rows(model: PixelCNN, shape: tuple[int, int]) -> float:
    """Multiply-adds of a whole draw by `rows`. Those of a code grow linearly with its
    row, so the first and the last row give their mean."""
    height, width = shape
    codes = torch.zeros(1, height, width, dtype=torch.long)
    first, last = (
        multiply_adds(rows_so_far, model, codes, None, y, 0) for y in (0, height - 1)
    )
    return height * width * (first + last) / 2


def _near(value: float, right: float, within: float = 0.002) -> bool:
    return abs(value - right) <= within * right


@judged
@torch.no_grad()
def batch_limit(answer, model: PixelCNN, shape: tuple[int, int], memory: int) -> str:
    """The answer is the largest batch that `cached` can draw if its cache may take
    `memory` bytes. The check measures the caches for one image and for two."""
    answer = need_number(answer)
    if answer % 1 or answer < 0:
        raise Wrong(f"{answer:g} is no number of images")
    one, two = (PixelCNNCache(model, n, shape).nbytes for n in (1, 2))
    an_image, fixed = two - one, 2 * one - two

    def needed(images: float) -> float:
        return fixed + images * an_image

    said = f"{answer:,.10g} images keep {needed(answer) / MIB:,.1f} MiB"
    if needed(answer) > memory:
        size = model.embedding.weight.element_size()
        hint = "which is more than there is"
        if needed(answer // size) <= memory < needed(answer // size + 2):
            hint += "; how many bytes has a number?"
        raise Wrong(f"{said}, {hint}")
    if needed(answer + 1) <= memory:
        raise Wrong(f"{said}, and there is room for more")
    return f"{said}, and one more would not fit"
