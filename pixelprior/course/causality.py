"""What the output of a network at one position depends on, by gradient.

The course draws receptive fields with it, and judges exercises by it. It takes any
network whose input and output are feature maps of the same height and width.
"""

import torch
from torch import Tensor, nn


def seen_by(
    network,
    position: tuple[int, int],
    shape: tuple[int, int],
    channels: int = 1,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Which positions of the input the output at `position` depends on.

    The gradient of the output at `position` is taken at several random inputs, so that
    a unit that happens to be off at one of them hides nothing.

    Args:
        network: a function of features [B, channels, H, W] to [B, any, H, W], in
            evaluation mode if it has dropout. A module is probed in its own type.
        position: (row, column) of the output.
        shape: (H, W) of the grid. channels: of the input.
        dtype: of the features, where the network is a function in another type than
            PyTorch's default.

    Returns:
        Bool [H, W].
    """
    if dtype is None and isinstance(network, nn.Module):
        dtype = next((parameter.dtype for parameter in network.parameters()), None)
    dtype = dtype or torch.get_default_dtype()
    generator = torch.Generator().manual_seed(0)
    probes = torch.randn(8, channels, *shape, generator=generator).to(dtype)
    probes.requires_grad_(True)
    with torch.enable_grad():
        out = network(probes)[:, :, position[0], position[1]]  # [8, any]
        # Each channel with a weight of its own, so that none cancels another.
        weights = torch.rand(out.shape, generator=generator).to(out.dtype) + 0.5
        (gradient,) = torch.autograd.grad((out * weights).sum(), probes)
    return (gradient != 0).any(dim=(0, 1))


def before(position: tuple[int, int], shape: tuple[int, int]) -> Tensor:
    """The positions before `position` in raster order, bool [H, W]."""
    numbers = torch.arange(shape[0] * shape[1]).view(shape)
    return numbers < position[0] * shape[1] + position[1]


def leak(seen: Tensor, position: tuple[int, int]) -> tuple[int, int] | None:
    """The first position that is seen and must not be: `position` or a later one."""
    wrong = seen & ~before(position, tuple(seen.shape))
    return tuple(wrong.nonzero()[0].tolist()) if wrong.any() else None


def blind_spot(seen: Tensor, position: tuple[int, int]) -> Tensor:
    """The past of `position` that is not seen, bool [H, W]."""
    return before(position, tuple(seen.shape)) & ~seen
