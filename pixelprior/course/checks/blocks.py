"""Checks for notebook 03: the gate, the wiring of two stacks, parameters, the label."""

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelprior.course.causality import blind_spot, leak, seen_by
from pixelprior.course.checks.verdict import (
    Wrong,
    call,
    judged,
    need_number,
    need_tensor,
)
from pixelprior.layers import GatedBlock
from pixelprior.layers import gate as package_gate

GRID = (5, 5)
BLOCKS = 5  # enough for a kernel of 3 to see the whole past on that grid
CHANNELS = 4
TOLERANCE = 1e-9  # in float64


@dataclass(frozen=True)
class Parts:
    """The parts of one block, as functions of feature maps, for the reader to wire.

    Attributes:
        first: whether this is the first block, whose two convolutions are shifted.
        block: the block whose weights the parts have.
    """

    first: bool
    block: GatedBlock

    def look_up(self, v: Tensor) -> Tensor:
        """The vertical convolution, shifted if first: [B, p, H, W] to [B, 2p, H, W]."""
        r = self.block.padding
        return self.block.vertical(F.pad(v, (r, r, r, -int(self.block.mask_a))))

    def look_left(self, h: Tensor) -> Tensor:
        """The horizontal convolution, shifted if first: same shapes as `look_up`."""
        padding = (self.block.padding, -int(self.block.mask_a), 0, 0)
        return self.block.horizontal(F.pad(h, padding))

    def across(self, features: Tensor) -> Tensor:
        """The 1×1 convolution between the stacks: [B, 2p, H, W] to the same shape."""
        return self.block.vertical_to_horizontal(features)

    def gate(self, features: Tensor) -> Tensor:
        """The gate, arXiv 1606.05328, equation 2: [B, 2p, H, W] to [B, p, H, W]."""
        return package_gate(features)

    def out(self, gated: Tensor) -> Tensor:
        """The last 1×1 convolution: [B, p, H, W] to the same shape."""
        return self.block.horizontal_out(gated)


@judged
def gate(answer) -> str:
    """The answer is a function that returns tanh of the first half of the channels
    times σ of the second half. It is tried on random input [B, 2p, H, W]."""
    generator = torch.Generator().manual_seed(0)
    for shape in ((2, 2 * CHANNELS, *GRID), (1, 2, 1, 3)):
        x = torch.randn(shape, generator=generator, dtype=torch.float64)
        given = x.clone()
        found = call(answer, given)
        if not torch.equal(given, x):
            raise Wrong("your function changed its input; make a new tensor instead")
        batch, channels, *grid = shape
        found = need_tensor(found, (batch, channels // 2, *grid), "your output")
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
        "the two halves were added, and a sum cannot close": (
            one.tanh() + two.sigmoid()
        ),
        "the first half came through unbent, and may be of any size": (
            one * two.sigmoid()
        ),
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
    """The answer is the forward pass of a block, wired from `Parts`. The check looks by
    gradient at what both stacks of a small network see, and compares their outputs with
    those of the package."""
    torch.manual_seed(0)
    parts = [
        Parts(number == 0, GatedBlock("B" if number else "A", CHANNELS, CHANNELS))
        for number in range(BLOCKS)
    ]
    for part in parts:
        part.block.double()

    def both_stacks(features: Tensor) -> tuple[Tensor, Tensor]:
        v = h = features.double()  # [B, p, H, W]
        for part in parts:
            v, h = _one_block(answer, v, h, part)
        return v, h

    both_stacks(torch.randn(1, CHANNELS, *GRID))
    for position in _positions():
        seen = _seen(lambda x: both_stacks(x)[0], position, "the vertical stack")
        seen_beside = torch.zeros_like(seen)
        seen_beside[position[0] :] = seen[position[0] :]
        if seen_beside.any():
            wrong = tuple(seen_beside.nonzero()[0].tolist())
            raise Wrong(
                f"the vertical stack at {position} sees {wrong}; it is for the rows "
                "above alone"
            )
    for position in _positions():
        seen = _seen(lambda x: both_stacks(x)[1], position, "the horizontal stack")
        found = leak(seen, position)
        if found == position:
            raise Wrong(f"the horizontal stack at {position} sees the very code there")
        if found is not None:
            raise Wrong(
                f"the horizontal stack at {position} sees its own future at {found}"
            )
        unseen = blind_spot(seen, position)
        if unseen.any():
            first = tuple(unseen.nonzero()[0].tolist())
            raise Wrong(
                f"after {BLOCKS} blocks the horizontal stack at {position} does not "
                f"see {first}, which is in its past; {int(unseen.sum())} positions are "
                "missing"
            )
    _judge_residual(answer, parts[1])
    _judge_outputs(answer, parts)
    return (
        f"no leak and no blind spot at any of {GRID[0] * GRID[1]} positions, and both "
        "stacks are those of the package"
    )


def _one_block(answer, v: Tensor, h: Tensor, parts: Parts) -> tuple[Tensor, Tensor]:
    pair = call(answer, v.clone(), h.clone(), parts)
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


def _judge_residual(answer, parts: Parts) -> None:
    """With the last 1×1 convolution at zero, a later block must relay h unchanged."""
    silent = Parts(parts.first, copy.deepcopy(parts.block))
    nn.init.zeros_(silent.block.horizontal_out.weight)
    nn.init.zeros_(silent.block.horizontal_out.bias)
    v, h = torch.randn(2, 1, CHANNELS, *GRID, dtype=torch.float64)
    after = _one_block(answer, v, h, silent)[1].detach()
    if not torch.allclose(after, h, atol=TOLERANCE):
        raise Wrong(
            "no leak and no blind spot; but with `out` set to zero, a later block is "
            "to hand h on as it came, and yours does not"
        )


def _judge_outputs(answer, parts: list[Parts]) -> None:
    """Both stacks must be equal to those of the package."""
    v, h = torch.randn(2, 2, CHANNELS, *GRID, dtype=torch.float64)
    for part in parts[:2]:
        found = _one_block(answer, v, h, part)
        wanted = part.block(v, h)
        for name, mine, theirs in zip(
            ("vertical", "horizontal"), found, wanted, strict=True
        ):
            mine, theirs = mine.detach(), theirs.detach()
            if not torch.allclose(mine, theirs, atol=TOLERANCE):
                where = "first" if part.first else "second"
                if name == "vertical" and torch.allclose(mine + v, theirs):
                    raise Wrong(
                        "no leak and no blind spot; but in a later block the new v "
                        "lacks its residual: the old v is added to what the gate gives"
                    )
                raise Wrong(
                    f"no leak and no blind spot; but the {name} stack of the {where} "
                    "block differs from the drawing: follow its lines part by part, "
                    "and say which part each tensor goes through, and where two meet"
                )


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
        "the weights alone: what else does a convolution learn?": count - biases,
        "too few by what a gate needs: how many channels come out of the convolutions "
        "before it?": (in_channels * p * span * (k + 1) + 2 * p * p + 4 * p),
        "what it would be with kernels that are not cropped": (
            in_channels * 2 * p * (k * k + k) + one_by_one
        ),
        "what it would be with the kernels of the other mask": (
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


@judged
def label_bias(answer) -> str:
    """The answer is a function that adds each label's row of a table [classes, 2p] to
    features [B, 2p, H, W]. The check judges what the function adds, and the effect in a
    small network."""
    torch.manual_seed(0)
    classes, batch = 3, 4
    table = torch.randn(classes, 2 * CHANNELS, dtype=torch.float64)
    features, others = torch.randn(2, batch, 2 * CHANNELS, *GRID, dtype=torch.float64)
    labels = torch.tensor([2, 0, 1, 2])
    added = _added(answer, features, labels, table)
    if not torch.allclose(added, _added(answer, others, labels, table), atol=1e-6):
        if torch.allclose(features + added, _given(answer, others, labels, table)):
            raise Wrong("the features are lost: what you give is the same without them")
        raise Wrong(
            "what you add depends on the features; a bias depends on the label alone"
        )
    where = (added.abs() > 1e-6).any(dim=1)  # [B, H, W]
    if not where.any():
        raise Wrong("the features come out as they went in: no label reaches them")
    if not where.all():
        image, y, x = (~where).nonzero()[0].tolist()
        raise Wrong(f"no label reaches position ({y}, {x}) of image {image}")
    if not torch.allclose(added, added[:, :, :1, :1].expand_as(added), atol=1e-6):
        raise Wrong("a label is added differently at different positions of one image")
    rows = added[:, :, 0, 0]  # [B, 2p]
    for image, label in enumerate(labels.tolist()):
        if not torch.allclose(rows[image], table[label], atol=1e-6):
            raise Wrong(
                f"image {image} has label {label}, and does not get row {label} of the "
                "table"
            )
    _judge_labelled_network(answer, table)
    return (
        "the logits change with the label at every position, the first one too, and no "
        "position sees its future"
    )


def _given(answer, features: Tensor, labels: Tensor, table: Tensor) -> Tensor:
    found = call(answer, features.clone(), labels.clone(), table.clone())
    return need_tensor(found, features.shape, "your output").detach()


def _added(answer, features: Tensor, labels: Tensor, table: Tensor) -> Tensor:
    return _given(answer, features, labels, table) - features


def _judge_labelled_network(answer, table: Tensor) -> None:
    """Judge two blocks in which the answer adds the label to the vertical features."""
    blocks = [GatedBlock(mask, CHANNELS, CHANNELS).double() for mask in "AB"]

    def network(features: Tensor, label: int) -> Tensor:
        v = h = features.double()  # [B, p, H, W]
        labels = torch.full((len(features),), label)
        for number, block in enumerate(blocks):
            part = Parts(number == 0, block)
            up = call(answer, part.look_up(v), labels, table)  # [B, 2p, H, W]
            across = part.across(up) + part.look_left(h)
            out = part.out(part.gate(across))  # [B, p, H, W]
            new_v = part.gate(up)  # [B, p, H, W]
            v, h = (new_v, out) if part.first else (v + new_v, h + out)
        return h

    features = torch.randn(1, CHANNELS, *GRID)
    change = (network(features, 0) - network(features, 1)).abs().amax(dim=(0, 1))
    if (change < TOLERANCE).any():
        position = tuple((change < TOLERANCE).nonzero()[0].tolist())
        raise Wrong(f"the logits at {position} are the same for two labels")
    for position in _positions():
        found = leak(_seen(lambda x: network(x, 0), position, "the logits"), position)
        if found is not None:
            raise Wrong(f"with your label, {position} sees what it must not, {found}")
