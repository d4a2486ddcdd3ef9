"""Checks for notebook 02: masks and leaks, judged by gradient."""

import copy

import torch
import torch.nn.functional as F
from torch import nn

from pixelprior.course.causality import before, leak, seen_by
from pixelprior.course.checks.verdict import (
    Wrong,
    call,
    judged,
    need_number,
    need_tensor,
)
from pixelprior.layers import MaskedConv2d


def _judge_mask(mask, mask_type: str, kernel_size: int, what: str) -> None:
    """Convolve with a mask; compare what a position sees with what it should see."""
    mask = need_tensor(mask, (kernel_size, kernel_size), what).detach().double()
    if not ((mask == 0) | (mask == 1)).all():
        raise Wrong(f"{what} has other values than 0 and 1")
    middle = kernel_size  # far enough from each border
    shape, position = (2 * kernel_size + 1, 2 * kernel_size + 1), (middle, middle)
    seen = seen_by(
        lambda x: F.conv2d(x, mask.to(x.dtype)[None, None], padding=kernel_size // 2),
        position,
        shape,
    )
    r = kernel_size // 2
    reach = torch.zeros(shape, dtype=torch.bool)
    reach[middle - r : middle + r + 1, middle - r : middle + r + 1] = True
    wanted = before(position, shape) & reach
    wanted[position] = mask_type == "B"
    found = leak(seen & ~wanted, position)
    if found == position:
        raise Wrong(f"with {what}, position {position} sees itself")
    if found is not None:
        raise Wrong(f"with {what}, position {position} sees its own future at {found}")
    missed = (wanted & ~seen).nonzero().tolist()
    if [*position] in missed:
        raise Wrong(
            f"with {what}, position {position} does not see itself, as B should"
        )
    if missed:
        raise Wrong(
            f"with {what}, position {position} does not see its past at "
            f"{tuple(missed[0])}, which the kernel reaches"
        )


@judged
def mask(answer, mask_type: str, kernel_size: int, predicted) -> str:
    """The answer is a mask [k, k] of ones and zeros; `predicted` is its number of ones.

    With this mask, a position must see everything that it may see, and no more.
    """
    _judge_mask(answer, mask_type, kernel_size, "your mask")
    if predicted is None:
        raise Wrong("your mask is as it should be; how many ones did you predict?")
    predicted = need_number(predicted, "your prediction")
    if predicted != torch.as_tensor(answer).sum():
        raise Wrong(
            f"your mask is as it should be, but it does not have {predicted:g} ones; "
            "how many positions under the kernel come before the middle?"
        )
    itself = "and itself, " if mask_type == "B" else ""
    return (
        f"a position sees all of its past under the kernel, {itself}and no more, with "
        f"{predicted:g} ones, as you predicted"
    )


@judged
def mask_function(answer, mask_type: str, kernel_sizes=(3, 5, 7)) -> str:
    """The answer is a function from the kernel size to such a mask."""
    for size in kernel_sizes:
        _judge_mask(call(answer, size), mask_type, size, f"your mask of size {size}")
    sizes = ", ".join(map(str, kernel_sizes))
    return f"masks of sizes {sizes} show what they should, and no more"


def suspect_stack() -> list[nn.Module]:
    """A stack of seven layers, [B, 32, H, W] to [B, 16, H, W], one of which leaks."""
    layers: list[nn.Module] = [MaskedConv2d("A", 32, 16)]
    for _ in range(3):
        layers += [nn.ELU(), MaskedConv2d("B", 16, 16)]
    layers[4].mask[1, 2] = 1
    return layers


@judged
def leaking_layer(answer, layers: list[nn.Module], shape: tuple[int, int]) -> str:
    """The answer is the number of the layer that leaks.

    The check gives this layer the mask that its position in the stack requires: A for
    the first convolution, B for all others. The corrected stack must not leak.
    """
    number = need_number(answer)
    if number not in range(len(layers)):
        raise Wrong(f"{number:g} is no layer; count from 0 to {len(layers) - 1}")
    corrected = copy.deepcopy(list(layers))
    layer = corrected[int(number)]
    if not isinstance(layer, nn.Conv2d):
        raise Wrong(
            f"layer {number:g} is no convolution: it looks at one position alone"
        )
    first = not any(isinstance(layer, nn.Conv2d) for layer in layers[: int(number)])
    right = MaskedConv2d(
        "A" if first else "B",
        layer.in_channels,
        layer.out_channels,
        *layer.kernel_size[:1],
    )
    nn.init.ones_(right.weight)
    corrected[int(number)] = right
    position = (shape[0] // 2, shape[1] // 2)
    channels = next(
        layer for layer in layers if isinstance(layer, nn.Conv2d)
    ).in_channels
    found = leak(
        seen_by(nn.Sequential(*corrected), position, shape, channels), position
    )
    if found is not None:
        raise Wrong(
            f"with layer {number:g} corrected, position {position} still sees {found}"
        )
    return f"with layer {number:g} corrected, position {position} sees its past alone"
