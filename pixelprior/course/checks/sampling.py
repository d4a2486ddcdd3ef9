"""Checks for notebook 06: how a cache rolls, the loop of `cached`, the block that was
not rolled, and the rows from which a CUDA graph pays."""

import torch
from torch import Tensor

from pixelprior.cache import PixelCNNCache
from pixelprior.course.checks.verdict import (
    NOTHING_RETURNED,
    NotAttempted,
    Wrong,
    call,
    judged,
    need_codes,
    need_number,
    need_tensor,
)
from pixelprior.course.steps import with_stuck
from pixelprior.pixelcnn import PixelCNN
from pixelprior.sampling import sample_codes, uniforms
from pixelprior.settings import SamplingOptions


@judged
def roll(answer) -> str:
    """The answer is a function that moves rows [B, C, n, W] up by one; what it has in
    the last place is free. It is tried with two rows, with three and with one."""
    for n in (2, 3, 1):
        rows = torch.randn(2, 3, n, 4)
        found = need_tensor(call(answer, rows.clone()), None, "what you return")
        if n > 1 and found.shape == rows[:, :, 1:].shape:
            raise Wrong(
                f"of {n} rows you return {n - 1}; the tensor keeps its shape, and its "
                "last place is free for the new row"
            )
        found = need_tensor(found, rows.shape, "what you return").to(rows.dtype)
        faults = {
            "nothing moved: row 0 is where it was": rows,
            "the rows moved down; row 1 is to be in place 0": rows.roll(1, 2),
            "the rows are in reversed order": rows.flip(2),
            "the columns moved, and not the rows, dimension 2": rows.roll(-1, 3),
            "the channels moved, and not the rows, dimension 2": rows.roll(-1, 1),
            "all numbers moved as in one long list; give the dimension, 2": (
                rows.roll(-1)
            ),
            "not every place has the row that was below it": None,
        }
        for fault, output in faults.items():
            if torch.equal(found[:, :, :-1], rows[:, :, 1:]):
                break
            if output is None or torch.equal(found, output):
                raise Wrong(f"of {n} rows, {fault}" if output is None else fault)
    return "two rows and three move up, and the last place is free"


STEPS = {
    "row_step": ((5, 6, 1, 4), "one row of the condition, [B, p, 1, 1 or W]"),
    "code_step": (None, "the column x"),
    "keep_code": ((5,), "the codes at one position, [B]"),
    "keep_row": ((5, 4), "one row of codes, [B, W]"),
}  # what they take in the check of the loop


class _Watched(PixelCNNCache):
    """A cache that writes down which of its steps are called, and with what."""

    def __getattribute__(self, name):
        found = super().__getattribute__(name)
        if name not in STEPS:
            return found

        def step(given=None):
            shape = tuple(given.shape) if isinstance(given, Tensor) else None
            if shape != STEPS[name][0]:
                what = "no tensor" if shape is None else f"a tensor {list(shape)}"
                raise Wrong(f"{name} was given {what}, and takes {STEPS[name][1]}")
            self.calls.append((name, given.clone() if shape else given))
            return found(given)

        return step


@judged
@torch.no_grad()
def cached(answer) -> str:
    """The answer is a function of a cache, u [B, H, W] and a condition [B, p, H, W]
    that returns codes, which are compared with those of `naive`."""
    torch.manual_seed(0)
    network = PixelCNN(8, 4, 6, 3, num_classes=2).double().eval()
    for parameter in network.parameters():
        parameter.mul_(2)  # far from uniform
    u, condition = uniforms(0, 0, 5, 12), torch.randn(5, 6, 3, 4).double()
    naive = SamplingOptions(method="naive")
    right = sample_codes(network, (3, 4), u, condition, naive)
    cache = _Watched(network, 5, (3, 4))
    cache.calls = []
    if (found := answer(cache, u.view(right.shape), condition)) is None:
        raise NotAttempted(NOTHING_RETURNED)
    found = need_codes(found, right.shape, 8, "what you return")
    _judge_order([name for name, _ in cache.calls])
    kept = [given for name, given in cache.calls if name == "keep_code"]
    if not torch.equal(torch.stack(kept, 1), found.flatten(1)):
        raise Wrong("keep_code was given other codes than those that you return")
    rows = [given for name, given in cache.calls if name == "keep_row"]
    if not torch.equal(torch.stack(rows, 1), found.to(rows[0].dtype)):
        raise Wrong("keep_row was given other codes than those that you return")
    if len(wrong := (found != right).any(dim=0).nonzero()):
        raise Wrong(
            f"all steps are there, but the codes at {tuple(wrong[0].tolist())} are not "
            "naive's: which row of the condition, which logits and which u do you take?"
        )
    return "60 codes of 5 small grids are those of naive, and each step ran once"


def _judge_order(names: list[str]) -> None:
    """Raise `Wrong` unless each step was called as often and when it has to be."""
    right = ["row_step", *["code_step", "keep_code"] * 4, "keep_row"] * 3
    for name in STEPS:
        if (ran := names.count(name)) != (count := right.count(name)):
            raise Wrong(
                f"{name} ran {ran} time{'s' * (ran != 1)} on a grid of 3 × 4; it has "
                f"to run once per {'row' if count == 3 else 'code'}, {count} times"
            )
    for name, other in zip(names, right, strict=True):
        if name != other:
            raise Wrong(f"a {name} came where a {other} has to be")


@judged
@torch.no_grad()
def stuck_block(answer, found: Tensor, network: PixelCNN, u, condition) -> str:
    """The answer is the block whose rows did not roll when `found` was drawn."""
    number, last = need_number(answer), len(network.blocks) - 1
    if number not in range(last + 1):
        raise Wrong(f"{number:g} is no block; they are 0 to {last}")
    codes = with_stuck(network, u, condition, int(number))
    if different := int((codes != found).sum()):
        raise Wrong(f"with block {number:g} stuck, {different} codes differ from these")
    return f"with block {number:g} stuck, every code is drawn again as it was"


@judged
def rows_that_pay(answer) -> str:
    """The answer is a function of the times of a row, of a replay and of a capture: the
    fewest rows from which capture and replays take less than the rows by themselves."""
    for row, replay, capture in ((10, 2, 30), (10, 2, 32), (5, 4, 0.5)):
        n = need_number(call(answer, row, replay, capture), "what you return")
        if n % 1:
            raise Wrong(f"you return {n:g}, and a whole number of rows is needed")
        least = int(capture / (row - replay)) + 1
        if n != least:
            few = "not less yet" if n < least else "fewer rows already pay"
            raise Wrong(
                f"with {row} per row, {replay} per replay and {capture} to capture, "
                f"{n:g} rows take {n * row:g} without, {capture + n * replay:g} with "
                f"the capture: {few}"
            )
    return "for three cards, your rows pay, and one row fewer does not"
