"""Checks of notebook 03: what they accept, what they refuse, and in which words."""

import math

import pytest
import torch
import torch.nn.functional as F
from answers import refused, right, wrong
from torch import nn

from pixelprior.course.causality import count_faults
from pixelprior.course.checks import blocks as check
from pixelprior.layers import GatedBlock, MaskedConv2d
from pixelprior.layers import gate as package_gate


def halves(x):
    return x.chunk(2, dim=1)


def by_exponentials(x):
    features, gates = halves(x)
    e = torch.exp(2 * features)
    return (e - 1) / (e + 1) / (1 + torch.exp(-gates))


def vertical(v, block):
    v = F.pad(v, (1, 1, 1, 0))
    return block.vertical(v[:, :, :-1] if block.mask_a else v)


def horizontal(h, block):
    h = F.pad(h, (1, 0))
    return block.horizontal(h[..., :-1] if block.mask_a else h)


def wired(v, h, block, first, bias):
    features = vertical(v, block) + bias
    across = block.vertical_to_horizontal(features) + horizontal(h, block)
    out = block.horizontal_out(package_gate(across))
    new = package_gate(features)
    return (new, out) if first else (v + new, h + out)


def in_place(v, h, block, first, bias):
    features, across = vertical(v, block), horizontal(h, block)
    features += bias
    across += block.vertical_to_horizontal(features)
    stacks = [package_gate(features), block.horizontal_out(package_gate(across))]
    if not first:
        stacks = [new.add_(old) for new, old in zip(stacks, (v, h), strict=True)]
    return stacks


def but(change):
    """A right block, except for what `change` makes of (v, h, its outputs, first)."""
    return lambda v, h, block, first, bias: change(
        v, h, *wired(v, h, block, first, bias), first
    )


def apart(v, h, block, first, bias):
    out = block.horizontal_out(package_gate(horizontal(h, block)))
    return wired(v, h, block, first, bias)[0], out if first else h + out


def on_the_other_line(v, h, block, first, bias):
    across = block.vertical_to_horizontal(horizontal(h, block))
    out = block.horizontal_out(package_gate(vertical(v, block) + bias + across))
    return wired(v, h, block, first, bias)[0], out if first else h + out


def with_bias(to_v, to_h):
    """A right block, except for how often the bias is added on the way to each gate."""

    def wiring(v, h, block, first, bias):
        new_v, _ = wired(v, h, block, first, to_v * bias)
        return new_v, wired(v, h, block, first, to_h * bias)[1]

    return wiring


def by_mask(v, h, block, first, bias):
    return wired(v, h, block, block.mask_a, bias)


def without_zeros(v, h, block, first, bias):
    return package_gate(block.vertical(v)), h


def blocks_for(height, width, k):
    return math.ceil((max(height, width) - 1) / (k // 2))


@right(
    {
        "gate": [package_gate, by_exponentials],
        "wiring": [check.wired, wired, in_place],
        "blocks_needed": [
            blocks_for,
            lambda h, w, k: torch.tensor(blocks_for(h, w, k)),
            lambda h, w, k: -(-max(h - 1, w - 1) // (k // 2)),
        ],
    }
)
def test_a_right_answer_passes_however_it_is_written(check, answer, judge):
    assert judge(check, answer)


@wrong(
    {
        "gate": [
            (lambda x: halves(x)[1].tanh() * halves(x)[0].sigmoid(), "the other's"),
            (lambda x: halves(x)[0].tanh() * halves(x)[1].tanh(), "through tanh"),
            (lambda x: halves(x)[0].sigmoid() * halves(x)[1].sigmoid(), "through σ"),
            (lambda x: halves(x)[0].tanh() + halves(x)[1].sigmoid(), "added"),
            (lambda x: halves(x)[0] * halves(x)[1].sigmoid(), "without tanh"),
            (lambda x: halves(x)[0].tanh() * halves(x)[1], "without σ"),
            (lambda x: x[:, ::2].tanh() * x[:, 1::2].sigmoid(), "dealt out in turn"),
            (lambda x: package_gate(x) * 0.5, "differs from equation 2 by up to"),
            (lambda x: x.tanh() * x.sigmoid(), "shape [2, 8, 5, 5]"),
            (lambda x: package_gate(x.mul_(2)), "changed its input"),
            (lambda x: package_gate(x).log(), "not finite"),
        ],
        "wiring": [
            (apart, "does not see", "of its past"),
            # A residual around the first block is a leak.
            (but(lambda v, h, a, b, first: (a, b + h * first)), "sees the very code"),
            (
                but(lambda v, h, a, b, first: (a + v * first, b)),
                "the vertical stack at",
                "rows above alone",
            ),
            # Later blocks have one on both stacks.
            (
                but(lambda v, h, a, b, first: (a if first else a - v, b)),
                "new v lacks its residual",
            ),
            (
                but(lambda v, h, a, b, first: (a, b if first else b - h)),
                "are the residual and the box there",
            ),
            # A line from h to v is a leak.
            (
                but(lambda v, h, a, b, first: (a + b, b)),
                "the vertical stack at",
                "rows above alone",
            ),
            (but(lambda v, h, a, b, first: (b, a)), "the vertical stack at"),
            (on_the_other_line, "no leak", "new h of a block of type A differs"),
            (
                lambda v, h, block, *given: (
                    vertical(v, block),
                    wired(v, h, block, *given)[1],
                ),
                "the new v has shape [1, 8, 5, 5]",
            ),
            (
                but(lambda v, h, a, b, first: (a.detach(), b.detach())),
                "no gradient leads",
            ),
            (without_zeros, "the new v has shape"),
            (with_bias(0, 0), "with a bias", "another new v and another new h:"),
            (with_bias(1, 0), "with a bias", "gives another new h:"),
            (with_bias(0, 1), "with a bias", "gives another new v:"),
            (with_bias(1, 2), "with a bias", "which lines leave from there"),
            (by_mask, "first = False for a block of type A", "not the mask"),
        ],
        "blocks_needed": [
            (lambda h, w, k: h * w, "with one block fewer every position sees"),
            (lambda h, w, k: max(h, w), "for a grid of 4 × 4", "one block fewer"),
            (lambda h, w, k: h - 1, "a grid of 3 × 6 and k = 3 it returns 2", "leave"),
            (lambda h, w, k: w - 1, "a grid of 6 × 3 and k = 3 it returns 2", "leave"),
            (lambda h, w, k: max(h, w) - 1, "a grid of 6 × 6 and k = 5", "fewer"),
            (lambda h, w, k: (max(h, w) - 1) // (k // 2), "6 × 6", "it returns 2"),
            (lambda h, w, k: (max(h, w) - 1) / (k // 2), "2.5, which is no number"),
            (
                lambda h, w, k: max(h, w) // 2 * 10,
                "returns 20",
                "more than one for each code",
            ),
            (lambda h, w, k: 0, "0, which is no number of blocks"),
        ],
    }
)
def test_another_answer_hears_what_is_wrong_with_it(check, answer, words, judge):
    refused(judge(check, answer), *words)


SINGLE = nn.Sequential(*[MaskedConv2d("B" if n else "A", 4, 4) for n in range(5)])


@pytest.mark.parametrize(
    ("masks", "first", "faults"),
    [
        ("ABBBB", True, (0, 0)),
        ("AAAAA", True, count_faults(SINGLE, check.GRID, 4)),  # as one masked stack
        ("BBBBB", True, (25, 0)),
        ("ABBBB", False, (25, 0)),  # residuals in the first block
    ],
)
def test_each_slip_of_two_stacks_has_one_fault(masks, first, faults):
    network = check.two_stacks(masks, wired, first=first)
    assert count_faults(network, check.GRID, check.CHANNELS) == faults


@pytest.mark.parametrize(
    ("mask_type", "channels", "p", "k"),
    [("B", 24, 24, 3), ("A", 16, 24, 3), ("B", 8, 8, 5)],
)
def test_parameters_are_counted_and_typical_mistakes_named(mask_type, channels, p, k):
    def count(mask_type):
        block = GatedBlock(mask_type, channels, p, k)
        return [each.numel() for each in block.parameters()], block.extent

    def judge(answer):
        return check.parameters(answer, mask_type, channels, p, k)

    (sizes, span), (of_other, _) = count(mask_type), count("AB".replace(mask_type, ""))
    assert judge(sum(sizes))
    assert judge(torch.tensor(sum(sizes)))
    first_two = channels * p * (span * k + span)
    for answer, words in (
        (sum(sizes) - 7 * p, "what else does a convolution learn"),  # no biases
        (first_two + 2 * p + 2 * (p * p + p), "how many channels come out"),
        (2 * first_two + 4 * p, "two more"),
        (sum(of_other), "the other type"),
        (2 * channels * p * (k * k + k) + sum(sizes[4:]) + 4 * p, "not cropped"),
        (1, "fewer than were counted"),
        (10**7, "more than were counted"),
        (float("nan"), "not finite"),
    ):
        refused(judge(answer), words)
