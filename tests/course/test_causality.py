"""What a position sees, found by gradient: the past, a leak, the blind spot."""

import itertools

import pytest
import torch
from torch import nn

from pixelprior import MaskedConv2d
from pixelprior.course.causality import blind_spot, count_faults, leak, seen_by


def masked_stack(layers, channels=6):
    torch.manual_seed(0)
    stack = [MaskedConv2d("A", 1, channels)]
    for _ in range(layers - 1):
        stack += [nn.ReLU(), MaskedConv2d("B", channels, channels)]
    return nn.Sequential(*stack).double()


@pytest.mark.parametrize("shape", [(4, 7), (7, 4)])
def test_a_masked_stack_is_blind_to_the_upper_right_of_45_degrees(shape):
    stack = masked_stack(sum(shape))
    for y, x in [(shape[0] - 1, 0), (shape[0] - 1, 2), (2, 1), (0, 3)]:
        seen = seen_by(stack, (y, x), shape)
        cells = itertools.product(*map(range, shape))
        hidden = [[a, b] for a, b in cells if a < y and b - x > y - a]
        assert blind_spot(seen, (y, x)).nonzero().tolist() == hidden
        assert leak(seen, (y, x)) is None


@pytest.mark.parametrize(
    ("mask", "where"),
    [
        ([[1, 1, 1], [1, 1, 0], [0, 0, 0]], (2, 3)),  # mask B in the first layer
        ([[1, 1, 1], [1, 0, 1], [0, 0, 0]], (2, 4)),
        ([[1, 1, 1], [1, 0, 0], [1, 0, 0]], (3, 2)),
        ([[1, 1, 1], [1, 0, 0], [0, 0, 0]], None),
    ],
)
def test_a_leak_is_found_where_it_is(mask, where):
    torch.manual_seed(0)
    layer = nn.Conv2d(2, 4, 3, padding=1)
    layer.weight.data *= torch.tensor(mask)
    assert leak(seen_by(layer, (2, 3), (5, 6), channels=2), (2, 3)) == where


@pytest.mark.parametrize(
    ("network", "faults"),
    [
        (lambda x: x.flatten(2).cumsum(2).view(x.shape) - x, (0, 0)),
        (lambda x: x.flatten(2).cumsum(2).view(x.shape), (6, 0)),
        (lambda x: x.roll(1, 3), (2, 11)),  # the first of a row sees its last
    ],
)
def test_the_faults_of_all_positions_are_counted(network, faults):
    assert count_faults(network, (2, 3)) == faults


@pytest.mark.parametrize(
    ("network", "channels"),
    [
        (lambda x: torch.relu(x - 1), 1),  # a unit that is off at one input
        (lambda x: torch.cat([x, -x], dim=1), 1),  # channels that could cancel
        (lambda x: x[:, 1:2], 3),
    ],
)
def test_what_is_seen_at_any_input_or_in_any_channel_is_seen(network, channels):
    seen = seen_by(lambda x: network(x.roll(1, dims=3)), (0, 2), (1, 4), channels)
    assert seen.nonzero().tolist() == [[0, 1]]
