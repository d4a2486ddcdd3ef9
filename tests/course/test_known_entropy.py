"""The source of known entropy: its numbers are exact, and its samples follow them."""

import itertools
import math

import pytest
import torch
from torch import nn

from pixelprior.course.causality import blind_spot, seen_by
from pixelprior.course.known_entropy import BlindSpotSource, Embedded, train
from pixelprior.layers import MaskedConv2d
from pixelprior.pixelcnn import PixelCNN


@pytest.mark.parametrize(
    ("height", "width", "noise"), [(2, 3, 0.3), (3, 2, 0.0), (2, 3, 0.9)]
)
def test_all_grids_add_up_to_one_and_their_entropy_is_the_entropy(height, width, noise):
    source = BlindSpotSource(height, width, parts=2, noise=noise)
    grids = torch.tensor(list(itertools.product(range(4), repeat=height * width)))
    logs = source.log_probability(grids.view(-1, height, width))
    assert logs.exp().sum().item() == pytest.approx(1, abs=1e-12)
    entropy = torch.special.entr(logs.exp()).sum().item() / (height * width)
    assert entropy == pytest.approx(source.entropy(), abs=1e-12)


@pytest.mark.parametrize("shape", [(8, 8), (5, 9), (9, 4)])
@pytest.mark.parametrize("kernel_size", [3, 5])
def test_samples_are_as_likely_as_the_entropy_says(shape, kernel_size):
    source = BlindSpotSource(*shape, parts=3, noise=0.2, kernel_size=kernel_size)
    nats = -source.log_probability(source.sample(20_000, seed=0)) / math.prod(shape)
    error = nats.std().item() / math.sqrt(len(nats))
    assert abs(nats.mean().item() - source.entropy()) < 4 * error
    assert source.entropy() < source.masked_stack_bound() or shape[1] <= source.ahead


def test_the_same_seed_gives_the_same_codes_and_another_gives_others():
    source = BlindSpotSource()
    codes = source.sample(4, seed=0)
    assert codes.equal(source.sample(4, seed=0))
    assert not codes.equal(source.sample(4, seed=1))
    assert codes.min() >= 0 and codes.max() < source.num_embeddings


def masked_stack(layers, before, channels, kernel_size=3):
    torch.manual_seed(0)
    stack = [MaskedConv2d("A", before, channels, kernel_size), nn.ELU()]
    for _ in range(layers - 1):
        stack += [MaskedConv2d("B", channels, channels, kernel_size), nn.ELU()]
    return nn.Sequential(*stack)


@pytest.mark.parametrize("kernel_size", [3, 5])
def test_the_whole_line_of_w_lies_in_the_blind_spot(kernel_size):
    ahead = BlindSpotSource(12, 12, kernel_size=kernel_size).ahead
    stack = masked_stack(12, 1, 4, kernel_size).double()
    unseen = blind_spot(seen_by(stack, (8, 1), (12, 12)), (8, 1))
    line = [(8 - n, 1 + n * ahead) for n in range(1, 9) if 1 + n * ahead < 12]
    assert len(line) >= 3 and all(unseen[position] for position in line)


@pytest.mark.slow
def test_a_single_stack_stays_above_its_bound_and_two_stacks_reach_the_entropy():
    """After a short training, each loss is within a few percent of its limit."""
    source = BlindSpotSource()
    size = source.num_embeddings
    stack = masked_stack(5, 32, 32)
    single = nn.Sequential(Embedded(size, 32), *stack, nn.Conv2d(32, size, 1))
    two = PixelCNN(size, 32, 32, num_layers=5, dropout=0.0)
    for network, limit in (
        (single, source.masked_stack_bound()),
        (two, source.entropy()),
    ):
        losses = train(network, source)
        assert list(losses) == [*range(20, 201, 20)]
        assert losses[20] > losses[100] > losses[200]
        assert limit - 0.01 < losses[200] < 1.03 * limit


@pytest.mark.parametrize("wrong", [{"noise": 1.0}, {"parts": 0}, {"kernel_size": 4}])
def test_out_of_range_is_refused_with_the_limit(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        BlindSpotSource(**wrong)
