"""Checks for notebook 03: the gate, the wiring of two stacks, the blocks that a grid
needs, and the parameters of a block."""

import itertools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from pixelprior.course.causality import count_faults, seen_by
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
CHANNELS = 4


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
    """The forward pass of a block: the new v and the new h, [B, p, H, W] each.

    Args:
        v, h: the stacks, [B, channels, H, W] each.
        block: the block whose four convolutions are used; with mask A they are shifted.
        first: whether to leave the residuals out.
        bias: what is added to the vertical features, [B, 2p, 1, 1] or 0.
    """
    up = vertical(v, block) + bias  # [B, 2p, H, W]
    across = block.vertical_to_horizontal(up)  # [B, 2p, H, W]
    left = horizontal(h, block)  # [B, 2p, H, W]
    new_v, new_h = package_gate(up), block.horizontal_out(package_gate(across + left))
    return (new_v, new_h) if first else (v + new_v, h + new_h)


def two_stacks(
    masks: str, wiring: Callable = wired, *, first: bool = True, kernel_size: int = 3
) -> Callable[[Tensor], Tensor]:
    """A network of blocks with these masks, such as "ABB", and random weights: features
    [B, CHANNELS, H, W] to h after the last block.

    Args:
        masks: the type of each block.
        wiring: the forward pass of a block, as `wired`.
        first: what the wiring is told of the first block; False gives it residuals.
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
    """The answer is a function of features [B, 2p, H, W], as the package's `gate`."""
    torch.manual_seed(0)
    x = torch.randn(2, 2 * CHANNELS, *GRID)
    one, two = x.chunk(2, dim=1)
    found = need_tensor(call(answer, x.clone()), one.shape, "your output")
    if _same(found, package_gate(x)):
        return "on random input your function is equation 2"
    if _same(found, two.tanh() * one.sigmoid()):
        raise Wrong("each half went through the other's function")
    if _same(found, one * two.sigmoid()):
        raise Wrong("the first half came through without tanh, and may be of any size")
    largest = (found - package_gate(x)).abs().max()
    raise Wrong(
        f"on random input your output differs from equation 2 by up to {largest:.2f}"
    )


def _same(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, atol=1e-5)


@judged
def wiring(answer) -> str:
    """The answer is the forward pass of a block, as `wired`.

    The check looks by gradient at what both stacks see at (0, 0), which has no past,
    and compares their outputs with those of `wired`.
    """
    torch.manual_seed(0)
    blocks = [GatedBlock(mask, CHANNELS, CHANNELS) for mask in "AB"]

    def stacks(v: Tensor, h: Tensor, *given) -> list[Tensor]:
        new_v, new_h = call(answer, v.clone(), h.clone(), *given)
        pairs = (("the new v", new_v), ("the new h", new_h))
        return [need_tensor(stack, v.shape, what) for what, stack in pairs]

    def after_two(features: Tensor) -> list[Tensor]:
        v, h = stacks(features, features, blocks[0], True, 0)
        return stacks(v, h, blocks[1], False, 0)

    for n, stack in enumerate(("vertical", "horizontal")):
        seen = seen_by(lambda x, n=n: after_two(x)[n], (0, 0), GRID, CHANNELS)
        if seen.any():
            raise Wrong(
                f"the {stack} stack at (0, 0) sees {tuple(seen.nonzero()[0].tolist())},"
                " and nothing comes before (0, 0). Does the first block have a "
                "residual, do you return the new v first, does anything lead from h to "
                "v?"
            )
    v, h = torch.randn(2, 2, CHANNELS, *GRID)
    biases, firsts = (0, torch.randn(1, 2 * CHANNELS, 1, 1)), (True, False)
    for bias, first, block in itertools.product(biases, firsts, blocks):
        given = v, h, block, first, bias
        for name, mine, right in zip("vh", stacks(*given), wired(*given), strict=True):
            if not _same(mine, right) and isinstance(bias, Tensor):
                raise Wrong(
                    f"no leak and no blind spot; but with a bias, the drawing gives "
                    f"another new {name}: where does the bias enter, and which lines "
                    "leave from there?"
                )
            if not _same(mine, right):
                box = {"v": "the gate", "h": "`horizontal_out`"}[name]
                raise Wrong(
                    f"no leak; but with first = {first} and a block of type "
                    f"{'BA'[block.mask_a]}, the new {name} is not that of the drawing: "
                    f"is it what {box} gives, and the old {name} besides, unless "
                    "`first` is true?"
                )
    return (
        f"no leak and no blind spot at any of {GRID[0] * GRID[1]} positions, and both "
        "stacks are those of the package"
    )


@judged
def blocks_needed(answer) -> str:
    """The answer is a function of height, width and kernel size: the fewest blocks with
    which every position of the grid sees all of its past."""
    for height, width, size in ((4, 4, 3), (3, 6, 3), (6, 3, 3), (6, 6, 5)):
        number = need_number(call(answer, height, width, size), "what it returns")
        found = f"for a grid of {height} × {width} and k = {size} it returns {number:g}"

        def unseen(count: int, shape=(height, width), size=size) -> int:
            network = two_stacks("A" + "B" * (count - 1), kernel_size=size)
            return count_faults(network, shape, CHANNELS)[1]

        if missing := unseen(int(number)):
            raise Wrong(
                f"{found}, and so many blocks leave {missing} pairs of a position and "
                "an earlier one that it does not see"
            )
        if number % 1 or not unseen(int(number) - 1):
            raise Wrong(
                f"{found}, and with one block fewer every position sees all of its "
                "past as well"
            )
    return "so many blocks see the whole past, and one fewer does not"


@judged
def parameters(answer, mask_type: str, channels: int, p: int) -> str:
    """The answer is the number of parameters of a `GatedBlock` of these sizes."""
    answer, k = need_number(answer), 3

    def sizes(mask_type: str) -> list[int]:
        block = GatedBlock(mask_type, channels, p, k)
        return [parameter.numel() for parameter in block.parameters()]

    count, of_other = sum(sizes(mask_type)), sum(sizes("AB".replace(mask_type, "")))
    if answer == count:
        return f"{count:,} numbers were counted in the block"
    biases, of_half = 3 * 2 * p + p, 2 * p * p + 4 * p
    kernels = count - biases - (2 * p) ** 2 - p * p  # vertical and horizontal
    full = 2 * p * channels * (k * k + k)
    faults = {
        count - biases: "without the biases: what else does a convolution learn?",
        kernels // 2 + of_half: "too few by what a gate needs: how many channels come "
        "out of the convolutions before it?",
        count - kernels + full: "what it would be with kernels that are not cropped",
        of_other: "what it would be with the kernels of the other type",
    }
    few = "fewer" if answer < count else "more"
    other = (
        f"{few} than were counted; write down the four convolutions, and for each: "
        "channels in, channels out, rows and columns of its kernel, and what is added"
    )
    raise Wrong(f"{answer:,g} is {faults.get(answer, other)}")
