"""Finds by gradient which input positions one output position of a network depends on.

The course draws receptive fields with this module and judges exercises by it. Input and
output of a network are feature maps of the same height and width.
"""

import itertools

import torch
from torch import Tensor, nn


def seen_by(
    network, position: tuple[int, int], shape: tuple[int, int], channels: int = 1
) -> Tensor:
    """Which positions of the input the output at (row, column) depends on, bool [H, W].

    The gradient of the output at `position` is taken at several random inputs, so that
    a unit that is inactive at one of these inputs does not hide a dependency.

    Args:
        network: a function from features [B, channels, H, W] to [B, any, H, W]. A
            network with dropout must be in evaluation mode.
    """
    generator = torch.Generator().manual_seed(0)
    probes = torch.randn(8, channels, *shape, generator=generator)
    if isinstance(network, nn.Module):  # in the type of its parameters
        probes = probes.to(next(network.parameters()))
    out = network(probes.requires_grad_())[:, :, position[0], position[1]]  # [8, any]
    # Each channel has its own weight, so that channels do not cancel each other.
    weights = torch.rand(out.shape, generator=generator) + 0.5
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
    """The number of positions whose output leaks, and the number of pairs of a position
    and a position of its past that it does not see; arguments as in `seen_by`."""
    leaks = unseen = 0
    for position in itertools.product(*map(range, shape)):
        seen = seen_by(network, position, shape, channels)
        leaks += leak(seen, position) is not None
        unseen += int(blind_spot(seen, position).sum())
    return leaks, unseen
