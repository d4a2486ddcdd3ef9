"""The source of known entropy: its numbers are exact, and its samples follow them."""

import itertools
import math

import pytest
import torch

from pixelprior.course.causality import blind_spot, seen_by
from pixelprior.course.known_entropy import BlindSpotSource
from pixelprior.layers import MaskedConv2d


def log_probability(source, codes):
    """Of grids [N, H, W] in nats, code by code, float64 [N]."""
    other = source.noise / source.parts
    total = torch.zeros(len(codes)).double()
    u, w = codes // source.parts, codes % source.parts
    for part, down, right in ((u, 0, 1), (w, 1, -2)):
        for y, x in itertools.product(range(source.height), range(source.width)):
            if y - down < 0 or not 0 <= x - right < source.width:
                total -= math.log(source.parts)
            else:
                repeats = part[:, y, x] == part[:, y - down, x - right]
                total += (repeats.double() * (1 - source.noise) + other).log()
    return total


def test_all_grids_add_up_to_one_and_their_entropy_is_the_entropy():
    source = BlindSpotSource(2, 3, parts=2, noise=0.3)
    grids = torch.tensor(list(itertools.product(range(4), repeat=6))).view(-1, 2, 3)
    logs = log_probability(source, grids)
    assert logs.exp().sum().item() == pytest.approx(1, abs=1e-12)
    entropy = torch.special.entr(logs.exp()).sum().item()
    assert entropy == pytest.approx(source.entropy_by_position().sum().item())


def test_samples_are_as_likely_as_the_entropy_says_and_follow_the_seed():
    source = BlindSpotSource()
    codes = source.sample(20_000, seed=0)
    nats = -log_probability(source, codes)
    error = nats.std().item() / math.sqrt(len(nats))
    assert abs(nats.mean() - source.entropy_by_position().sum()) < 4 * error
    assert codes.max() < 16 and not codes.equal(source.sample(20_000, seed=1))


def test_the_whole_line_of_w_lies_in_the_blind_spot_and_costs_what_the_bound_says():
    layers = [MaskedConv2d("A", 1, 4), *(MaskedConv2d("B", 4, 4) for _ in range(11))]
    stack = torch.nn.Sequential(*layers).double()
    unseen = blind_spot(seen_by(stack, (7, 1), (8, 8)), (7, 1))
    assert all(unseen[7 - n, 1 + 2 * n] for n in range(1, 4))
    source = BlindSpotSource()
    price = (source.bound_by_position() - source.entropy_by_position()).sum()
    repeated = torch.special.entr(torch.tensor([0.925, *3 * [0.025]])).sum().item()
    assert price.item() == pytest.approx(42 * (math.log(4) - repeated))
