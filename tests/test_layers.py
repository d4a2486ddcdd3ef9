"""Masks, positions and bounds: what single layers compute."""

import itertools
import math

import pytest
import torch

from pixelprior import MaskedConv2d
from pixelprior.layers import BoundedRMS, positions


@pytest.mark.parametrize("channels", [8, 10])
def test_positions_are_encoded_by_the_sinusoids_of_the_paper(channels):
    """arXiv 1706.03762, section 3.5, with a quarter of the channels for each wave."""
    like, count = torch.zeros(1).double(), math.ceil(channels / 4)
    waves = positions(3, 5, channels, like).unflatten(0, (3, 5))
    for y, x in itertools.product(range(3), range(5)):
        angles = [[at / 10000 ** (i / count) for i in range(count)] for at in (y, x)]
        expected = [math.sin(a) for each in angles for a in each]
        expected += [math.cos(a) for each in angles for a in each]
        assert waves[y, x].tolist() == pytest.approx(expected[:channels], abs=1e-12)


def test_masks_a_and_b_differ_in_the_centre_alone_and_are_no_weights():
    a, b = (MaskedConv2d(kind, 1, 1, 5).mask for kind in "AB")
    assert (b - a).nonzero().tolist() == [[2, 2]]
    assert a.flatten().tolist() == [1.0] * 12 + [0.0] * 13
    assert MaskedConv2d("A", 1, 1).state_dict().keys() == {"weight", "bias"}


def test_a_masked_convolution_leaves_its_weight_alone():
    conv = MaskedConv2d("A", 2, 3)
    before = conv.weight.detach().clone()
    conv(torch.randn(1, 2, 4, 4)).sum().backward()
    assert torch.equal(conv.weight, before)
    assert (conv.weight.grad * (1 - conv.mask) == 0).all()


def test_a_bounded_condition_keeps_small_values_and_has_a_root_mean_square_below_1():
    x = torch.randn(2, 64, 5, 7, dtype=torch.float64)
    rms = x.square().mean(dim=1, keepdim=True).sqrt()
    for factor in (0, 1e-4, 1.0, 100.0):
        expected = factor * x / (1 + (factor * rms) ** 2).sqrt()
        assert torch.allclose(BoundedRMS()(factor * x), expected, rtol=1e-9, atol=0)
