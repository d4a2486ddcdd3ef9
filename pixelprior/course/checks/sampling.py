"""Checks for notebook 06: how a cache rolls, the loop of `cached`, the block that was
not rolled, and the rows from which a CUDA graph pays."""

from unittest.mock import Mock

import torch

from pixelprior.cache import PixelCNNCache
from pixelprior.course.checks.verdict import Wrong, call, judged, need_tensor
from pixelprior.course.steps import with_stuck
from pixelprior.pixelcnn import PixelCNN
from pixelprior.sampling import sample_codes, uniforms
from pixelprior.settings import SamplingOptions


@judged
def roll(answer) -> str:
    """The answer is a function that moves rows [B, C, n, W] up by one; what it has in
    the last place is free."""
    for n in (3, 2, 1):
        rows = torch.randn(2, 3, n, 4)
        found = need_tensor(call(answer, rows.clone()), rows.shape)[:, :, :-1]
        if torch.equal(found, rows[:, :, 1:]):
            continue
        if torch.equal(found, rows.roll(1, 2)[:, :, :-1]):
            raise Wrong("the rows moved down; row 1 is to be in place 0")
        if torch.equal(found, rows.flip(2)[:, :, :-1]):
            raise Wrong("the rows are in reversed order")
        raise Wrong(f"of {n} rows, not every place has the row that was below it")
    return "two rows and three move up, and the last place is free"


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
    right = sample_codes(network, (3, 4), u, condition, SamplingOptions(method="naive"))
    cache = Mock(wraps=PixelCNNCache(network, 5, (3, 4)))  # counts calls
    times = {"row_step": 3, "code_step": 12, "keep_code": 12, "keep_row": 3}
    found = need_tensor(call(answer, cache, u.view(5, 3, 4), condition), (5, 3, 4))
    for name, needed in times.items():
        if (ran := getattr(cache, name).call_count) != needed:
            raise Wrong(
                f"{name} has to run once per {'row' if needed == 3 else 'code'}: on a "
                f"grid of 3 × 4, {needed} times and not {ran}"
            )
    if len(wrong := (found != right).any(dim=0).nonzero()):
        raise Wrong(
            f"all steps are there, but the codes at {tuple(wrong[0].tolist())} are not "
            "naive's: which codes do you keep, and at which x, and from which u and "
            "condition, do you draw them?"
        )
    return "60 codes of 5 small grids are those of naive, and each step ran once"


@judged
@torch.no_grad()
def stuck_block(answer, found, network: PixelCNN, u, condition) -> str:
    """The answer is the block whose rows did not roll when `found` was drawn."""
    codes = with_stuck(network, u, condition, int(answer))
    if different := int((codes != found).sum()):
        raise Wrong(f"with block {answer} stuck, {different} codes differ from these")
    return f"with block {answer} stuck, every code is drawn again as it was"


@judged
def rows_that_pay(answer) -> str:
    """The answer is a function of the times of a row, of a replay and of a capture: the
    fewest rows from which capture and replays take less than the rows by themselves."""
    for row, replay, capture in ((10, 2, 30), (10, 2, 32), (5, 4, 0.5)):
        n = call(answer, row, replay, capture)
        least = int(capture / (row - replay)) + 1
        if n != least:
            few = "not less yet" if n < least else "fewer rows already pay"
            raise Wrong(
                f"with {row} per row, {replay} per replay and {capture} to capture, "
                f"{n:g} rows take {n * row:g} without, {capture + n * replay:g} with "
                f"the capture: {few}"
            )
    return "for three cards, your rows pay, and one row fewer does not"
