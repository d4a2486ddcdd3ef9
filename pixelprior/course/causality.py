"""Finds by gradient which input positions one output position of a network depends on.

The course draws receptive fields with this module and judges exercises by it. The
module works with any network whose input and output are feature maps of the same
height and width.
"""

import itertools

import torch
from torch import Tensor, nn


def seen_by(
    network,
    position: tuple[int, int],
    shape: tuple[int, int],
    channels: int = 1,
) -> Tensor:
    """Which positions of the input the output at `position` depends on.

    The gradient of the output at `position` is taken at several random inputs, so that
    a unit that is inactive at one of these inputs does not hide a dependency.

    Args:
        network: a function from features [B, channels, H, W] to [B, any, H, W]. A
            network with dropout must be in evaluation mode. A module is probed in the
            type of its parameters.
        position: (row, column) of the output.
        shape: (H, W) of the grid.
        channels: number of channels of the input.

    Returns:
        Bool [H, W], True at the positions that the output depends on.
    """
    parameters = network.parameters() if isinstance(network, nn.Module) else ()
    dtype = next((each.dtype for each in parameters), torch.float32)
    generator = torch.Generator().manual_seed(0)
    probes = torch.randn(8, channels, *shape, generator=generator).to(dtype)
    probes.requires_grad_(True)
    with torch.enable_grad():
        out = network(probes)[:, :, position[0], position[1]]  # [8, any]
        # Each channel has its own weight, so that channels do not cancel each other.
        weights = torch.rand(out.shape, generator=generator).to(out.dtype) + 0.5
        (gradient,) = torch.autograd.grad((out * weights).sum(), probes)
    return (gradient != 0).any(dim=(0, 1))


def before(position: tuple[int, int], shape: tuple[int, int]) -> Tensor:
    """The positions before `position` in raster order, bool [H, W]."""
    numbers = torch.arange(shape[0] * shape[1]).view(shape)
    return numbers < position[0] * shape[1] + position[1]


def leak(seen: Tensor, position: tuple[int, int]) -> tuple[int, int] | None:
    """The first seen position that is `position` itself or a later one, else None."""
    wrong = seen & ~before(position, tuple(seen.shape))
    return tuple(wrong.nonzero()[0].tolist()) if wrong.any() else None


def blind_spot(seen: Tensor, position: tuple[int, int]) -> Tensor:
    """The positions before `position` that are not seen, bool [H, W]."""
    return before(position, tuple(seen.shape)) & ~seen


def count_faults(network, shape: tuple[int, int], channels: int = 1) -> tuple[int, int]:
    """Positions whose output leaks, and past positions that some output does not see.

    Args:
        network, shape, channels: as in `seen_by`, for each position in turn.

    Returns:
        The number of positions with a leak, and the number of pairs of a position and a
        position of its past that it does not see.
    """
    leaks = unseen = 0
    for position in itertools.product(*map(range, shape)):
        seen = seen_by(network, position, shape, channels)
        leaks += leak(seen, position) is not None
        unseen += int(blind_spot(seen, position).sum())
    return leaks, unseen
