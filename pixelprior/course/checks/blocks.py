"""Checks for notebook 03: the gate, the wiring of two stacks, the blocks that a grid
needs, and the parameters of a block."""

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelprior.course.causality import blind_spot, count_faults, leak, seen_by
from pixelprior.course.checks.verdict import (
    Wrong,
    call,
    judged,
    need_number,
    need_tensor,
)
from pixelprior.data.codes import CodeData
from pixelprior.layers import GatedBlock
from pixelprior.layers import gate as package_gate
from pixelprior.pixelcnn import PixelCNN

TRUTH = "seven blocks"  # of 03.4

GRID = (5, 5)
BLOCKS = 5  # enough for a kernel of 3 to see the whole past on that grid
CHANNELS = 4
TOLERANCE = 1e-9  # in float64


def vertical(v: Tensor, block: GatedBlock) -> Tensor:
    """[B, 2p, H, W]: what the vertical kernel makes of v, [B, channels, H, W]. With
    mask A the last row is cut off, so that each row sees those above it."""
    r = block.padding
    return block.vertical(F.pad(v, (r, r, r, -int(block.mask_a))))


def horizontal(h: Tensor, block: GatedBlock) -> Tensor:
    """[B, 2p, H, W]: what the horizontal kernel makes of h, [B, channels, H, W]. With
    mask A the last code is cut off, so that each code sees those before it."""
    return block.horizontal(F.pad(h, (block.padding, -int(block.mask_a), 0, 0)))


def wired(v: Tensor, h: Tensor, block: GatedBlock, first: bool, bias):
    """The forward pass of a block, with residuals unless it is the first.

    Args:
        v, h: the stacks, [B, channels, H, W] each.
        block: the block whose four convolutions are used; with mask A they are shifted.
        first: whether to leave the residuals out.
        bias: what is added to the vertical features, [B, 2p, 1, 1] or 0.

    Returns:
        The new v and the new h, [B, p, H, W] each.
    """
    up = vertical(v, block) + bias  # [B, 2p, H, W]
    across = block.vertical_to_horizontal(up)  # [B, 2p, H, W]
    left = horizontal(h, block)  # [B, 2p, H, W]
    new_v, new_h = package_gate(up), block.horizontal_out(package_gate(across + left))
    return (new_v, new_h) if first else (v + new_v, h + new_h)


def two_stacks(
    masks: str, wiring: Callable = wired, *, first: bool = True, kernel_size: int = 3
) -> Callable[[Tensor], Tensor]:
    """A network of blocks with these masks, such as "ABB", and random weights.

    Args:
        masks: the type of each block.
        wiring: the forward pass of a block, as `wired`.
        first: what the wiring is told of the first block; False gives it residuals.

    Returns:
        A function from features [B, CHANNELS, H, W] to h after the last block, of the
        same shape.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        blocks = [GatedBlock(mask, CHANNELS, CHANNELS, kernel_size) for mask in masks]

    def network(features: Tensor) -> Tensor:
        v = h = features
        for number, block in enumerate(blocks):
            v, h = wiring(v, h, block, first and number == 0, 0)
        return h

    return network


def train(network: PixelCNN, codes: CodeData, steps: int = 250) -> None:
    """Train a top prior by AdamW, on batches of 64 random grids."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
    for _ in range(steps):
        z_top, _, labels = codes.batch(torch.randint(len(codes), (64,)))
        loss = network.nats(z_top, labels=labels).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@judged
def gate(answer) -> str:
    """The answer is a function that returns tanh of the first half of the channels
    times σ of the second half. It is tried on random input [B, 2p, H, W]."""
    generator = torch.Generator().manual_seed(0)
    for shape in ((2, 2 * CHANNELS, *GRID), (1, 2, 1, 3)):
        x = torch.randn(shape, generator=generator, dtype=torch.float64)
        given = x.clone().requires_grad_().clone()
        found = call(answer, given)
        if not torch.equal(given, x):
            raise Wrong("your function changed its input; make a new tensor instead")
        batch, channels, *grid = shape
        found = need_tensor(found, (batch, channels // 2, *grid), "your output")
        if not found.requires_grad:
            raise Wrong(
                "no gradient leads back from your output, so that it cannot learn"
            )
        found = found.detach().double()
        if not found.isfinite().all():
            raise Wrong("your output is not finite everywhere")
        if torch.allclose(found, package_gate(x), atol=1e-6, rtol=0):
            continue
        raise Wrong(_fault_of_a_gate(x, found))
    return "on random input your function is equation 2"


def _fault_of_a_gate(x: Tensor, found: Tensor) -> str:
    """The most likely mistake in a wrong gate, in words."""
    one, two = x.chunk(2, dim=1)
    even, odd = x[:, ::2], x[:, 1::2]
    faults = {
        "each half went through the other's function": two.tanh() * one.sigmoid(),
        "both halves went through tanh, and one of them is to be a share from 0 to 1": (
            one.tanh() * two.tanh()
        ),
        "both halves went through σ, so that nothing negative can come out": (
            one.sigmoid() * two.sigmoid()
        ),
        "the two halves were added; a product lets nothing through where σ is near 0": (
            one.tanh() + two.sigmoid()
        ),
        "the first half came through without tanh, and may be of any size": (
            one * two.sigmoid()
        ),
        "the second half came through without σ": one.tanh() * two,
        "the channels were dealt out in turn, and not as a first and a second half": (
            even.tanh() * odd.sigmoid()
        ),
    }
    for fault, output in faults.items():
        if torch.allclose(found, output, atol=1e-6, rtol=0):
            return fault
    largest = (found - package_gate(x)).abs().max()
    return f"on random input your output differs from equation 2 by up to {largest:.2f}"


@judged
def wiring(answer) -> str:
    """The answer is the forward pass of a block, as `wired`.

    The check looks by gradient at what both stacks of a small network see, and compares
    their outputs with those of the package, with a bias and without.
    """
    torch.manual_seed(0)
    blocks = [
        GatedBlock(mask, CHANNELS, CHANNELS, condition_channels=CHANNELS).double()
        for mask in "A" + "B" * (BLOCKS - 1)
    ]

    def both_stacks(features: Tensor) -> tuple[Tensor, Tensor]:
        v = h = features.double()  # [B, p, H, W]
        for block in blocks:
            v, h = _one_block(answer, v, h, block, block.mask_a)
        return v, h

    both_stacks(torch.randn(1, CHANNELS, *GRID))
    for position in _positions():
        seen = _seen(lambda x: both_stacks(x)[0], position, "the vertical stack")
        seen[: position[0]] = False  # the rows above
        if seen.any():
            wrong = tuple(seen.nonzero()[0].tolist())
            raise Wrong(
                f"the vertical stack at {position} sees {wrong}; it is for the rows "
                "above alone. Does the first block have a residual, do you return the "
                "new v first, does anything lead from h to v?"
            )
    for position in _positions():
        seen = _seen(lambda x: both_stacks(x)[1], position, "the horizontal stack")
        found = leak(seen, position)
        if found == position:
            raise Wrong(
                f"the horizontal stack at {position} sees the very code there; does "
                "the first block have a residual?"
            )
        if found is not None:
            raise Wrong(
                f"the horizontal stack at {position} sees its own future at {found}"
            )
        unseen = blind_spot(seen, position)
        if unseen.any():
            first = tuple(unseen.nonzero()[0].tolist())
            raise Wrong(
                f"after {BLOCKS} blocks the horizontal stack at {position} does not "
                f"see {int(unseen.sum())} of its past, such as {first}; does the link "
                "lead from v to h?"
            )
    _judge_residual(answer, blocks[1])
    for judge in (_judge_outputs, _judge_first):
        for block in blocks[:2]:
            judge(answer, block)
    return (
        f"no leak and no blind spot at any of {GRID[0] * GRID[1]} positions, and both "
        "stacks are those of the package"
    )


def _one_block(answer, v: Tensor, h: Tensor, block, first: bool, bias=0):
    """The new v and the new h of the answer, [B, p, H, W] each."""
    try:
        pair = call(answer, v.clone(), h.clone(), block, first, bias)
    except Wrong as wrong:
        if "channels" not in str(wrong):
            raise
        raise Wrong(
            f"{wrong}. `vertical_to_horizontal` takes 2p channels: give it `up` before "
            "the gate. `horizontal_out` takes p"
        ) from wrong
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise Wrong("your function is to give two tensors: the new v and the new h")
    for name, stack in zip("vh", pair, strict=True):
        need_tensor(stack, v.shape, f"the new {name}")
    return pair[0], pair[1]


def _positions() -> list[tuple[int, int]]:
    return [(y, x) for y in range(GRID[0]) for x in range(GRID[1])]


def _seen(network, position: tuple[int, int], what: str) -> Tensor:
    """`seen_by`, with a message if no gradient leads from the output to the input."""
    try:
        return seen_by(network, position, GRID, CHANNELS)
    except RuntimeError as error:
        raise Wrong(f"no gradient leads from {what} back to the input") from error


def _judge_residual(answer, block: GatedBlock) -> None:
    """With the last 1×1 convolution at zero, a later block must relay h unchanged."""
    silent = copy.deepcopy(block)
    nn.init.zeros_(silent.horizontal_out.weight)
    nn.init.zeros_(silent.horizontal_out.bias)
    v, h = torch.randn(2, 1, CHANNELS, *GRID, dtype=torch.float64)
    after = _one_block(answer, v, h, silent, False)[1].detach()
    if not torch.allclose(after, h, atol=TOLERANCE):
        raise Wrong(
            "no leak and no blind spot; but in a later block the new h is not the old "
            "h plus what `horizontal_out` gives: are the residual and the box there?"
        )


@torch.no_grad()
def _judge_outputs(answer, block: GatedBlock) -> None:
    """Both stacks must be those of the package, without a bias and with one."""
    v, h = torch.randn(2, 2, CHANNELS, *GRID, dtype=torch.float64)
    label = torch.randn(2, CHANNELS, 1, 1, dtype=torch.float64)
    bias, fine = (
        block.condition(label),
        "no leak and no blind spot; but",
    )  # [2, 2p, 1, 1]
    found, wanted = _one_block(answer, v, h, block, block.mask_a), block(v, h)
    if wrong := _unlike(found, wanted):
        if wrong[0] == "v" and torch.allclose(found[0] + v, wanted[0]):
            raise Wrong(
                f"{fine} in a later block the new v lacks its residual: the old v is "
                "added to what the gate gives"
            )
        raise Wrong(
            f"{fine} the new {wrong[0]} of a block of type {'BA'[block.mask_a]} "
            "differs from the drawing: follow its lines box by box, and say which box "
            "each tensor goes through, and where two meet"
        )
    found = _one_block(answer, v, h, block, block.mask_a, bias)
    if wrong := _unlike(found, block(v, h, label)):
        raise Wrong(
            f"{fine} with a bias, the drawing gives another new "
            f"{' and another new '.join(wrong)}: where does the bias enter, and which "
            "lines leave from there?"
        )


@torch.no_grad()
def _judge_first(answer, block: GatedBlock) -> None:
    """The residuals must depend on what the block is told, and not on its mask."""
    v, h = torch.randn(2, 2, CHANNELS, *GRID, dtype=torch.float64)
    given = v, h, block, not block.mask_a, 0
    if _unlike(_one_block(answer, *given), wired(*given)):
        raise Wrong(
            f"no leak and no blind spot; but with first = {given[3]} for a block of "
            f"type {'BA'[block.mask_a]}, your stacks are not those of the drawing: "
            "`first` decides on the residuals, and not the mask"
        )


def _unlike(found, wanted) -> list[str]:
    """The names of the stacks that differ, "v" or "h"."""
    return [
        name
        for name, mine, theirs in zip("vh", found, wanted, strict=True)
        if not torch.allclose(mine, theirs, atol=TOLERANCE)
    ]


@judged
def blocks_needed(answer) -> str:
    """The answer is a function of height, width and kernel size: the fewest blocks with
    which every position of the grid sees all of its past."""
    for height, width, size in ((4, 4, 3), (3, 6, 3), (6, 3, 3), (6, 6, 5), (7, 7, 5)):
        number = need_number(call(answer, height, width, size), "what it returns")
        grid = f"a grid of {height} × {width} and k = {size}"
        if number % 1 or number < 1:
            raise Wrong(
                f"for {grid} it returns {number:g}, which is no number of blocks"
            )
        if number > height * width:
            raise Wrong(
                f"for {grid} it returns {number:g}, which is more than one for each "
                "code"
            )
        if missing := _unseen(int(number), (height, width), size):
            raise Wrong(
                f"for {grid} it returns {number:g}, and so many blocks leave {missing} "
                "pairs of a position and an earlier one that it does not see"
            )
        if number > 1 and not _unseen(int(number) - 1, (height, width), size):
            raise Wrong(
                f"for {grid} it returns {number:g}, and with one block fewer every "
                "position sees all of its past as well"
            )
    return "so many blocks see the whole past, and one fewer does not"


def _unseen(count: int, shape: tuple[int, int], kernel_size: int) -> int:
    """Pairs of a position and an earlier one that `count` blocks do not let it see."""
    network = two_stacks("A" + "B" * (count - 1), kernel_size=kernel_size)
    return count_faults(network, shape, CHANNELS)[1]


@judged
def parameters(
    answer,
    mask_type: str,
    in_channels: int,
    hidden_channels: int,
    kernel_size: int = 3,
) -> str:
    """The answer is the number of parameters of a `GatedBlock` of these sizes."""
    answer = need_number(answer)
    block = GatedBlock(mask_type, in_channels, hidden_channels, kernel_size)
    count = sum(parameter.numel() for parameter in block.parameters())
    if answer == count:
        return f"{count:,} numbers were counted in the block"
    p, k, span = hidden_channels, kernel_size, block.extent
    biases = sum(
        parameter.numel() for parameter in block.parameters() if parameter.dim() == 1
    )
    one_by_one = (2 * p) * (2 * p) + p * p + biases
    faults = {
        "without the biases: what else does a convolution learn?": count - biases,
        "too few by what a gate needs: how many channels come out of the convolutions "
        "before it?": (in_channels * p * span * (k + 1) + 2 * p * p + 4 * p),
        "what it would be with kernels that are not cropped": (
            in_channels * 2 * p * (k * k + k) + one_by_one
        ),
        "what it would be with the kernels of the other type": (
            in_channels * 2 * p * (k // 2 + (mask_type == "A")) * (k + 1) + one_by_one
        ),
        "the two convolutions that look up and left, and there are two more": (
            in_channels * 2 * p * span * (k + 1) + 4 * p
        ),
    }
    for fault, number in faults.items():
        if answer == number:
            raise Wrong(f"{answer:,g} is {fault}")
    few = "fewer" if answer < count else "more"
    raise Wrong(
        f"{answer:,g} is {few} than were counted; write down the four convolutions, "
        "and for each: channels in, channels out, rows and columns of its kernel, and "
        "what is added"
    )
