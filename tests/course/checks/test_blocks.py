"""Checks of notebook 03: what they accept, what they refuse, and in which words."""

import math

import torch
import torch.nn.functional as F
from answers import right, wrong

from pixelprior.course.causality import count_faults
from pixelprior.course.checks import blocks as check
from pixelprior.course.checks.blocks import package_gate, wired

# Of a block of type B with 4 channels and p = 4: four convolutions and their biases.
PARAMETERS = 8 * 4 * 6 + 8 * 4 * 2 + 8 * 8 + 4 * 4 + 3 * 8 + 4


def by_exponentials(x):
    features, gates = x.chunk(2, dim=1)
    e = torch.exp(2 * features)
    return (e - 1) / (e + 1) / (1 + torch.exp(-gates))


def in_place(v, h, block, first, bias):
    features, across = check.vertical(v, block), check.horizontal(h, block)
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


def with_bias(times):
    """A right block, except for how often the bias is added on the way to h."""
    return lambda *given: (
        wired(*given)[0],
        wired(*given[:4], times * given[4])[1],
    )


test_a_right_answer_passes_however_it_is_written = right(
    gate=[by_exponentials],
    wiring=[wired, in_place],
    blocks_needed=[lambda h, w, k: math.ceil((max(h, w) - 1) / (k // 2))],
    parameters=[PARAMETERS, torch.tensor(PARAMETERS)],
)


test_another_answer_hears_what_is_wrong_with_it = wrong(
    gate=[
        (lambda x: package_gate(x.roll(4, 1)), "the other's function"),
        (lambda x: F.glu(x, dim=1), "without tanh"),
        (lambda x: package_gate(x) * 0.5, "differs from equation 2 by up to"),
        (lambda x: x.chunk(2)[0], "has shape [1, 8, 5, 5], but [2, 4, 5, 5]"),
    ],
    wiring=[
        # A residual around the first block is a leak.
        (
            but(lambda v, h, a, b, first: (a, b + h * first)),
            "the horizontal stack at (0, 0) sees (0, 0)",
        ),
        # A line from h to v is another.
        (but(lambda v, h, a, b, first: (a + b, b)), "the vertical stack at (0, 0)"),
        (but(lambda v, h, a, b, first: (b, a)), "the vertical stack at (0, 0)"),
        # Later blocks have a residual on both stacks.
        (
            but(lambda v, h, a, b, first: (a if first else a - v, b)),
            "with first = False and a block of type A, the new v is not",
        ),
        (
            but(lambda v, h, a, b, first: (a, b if first else b - h)),
            "the new h is not that of the drawing: is it what `horizontal_out`",
        ),
        (
            lambda v, h, block, _, bias: wired(v, h, block, block.mask_a, bias),
            "with first = True and a block of type B, the new v is not",
        ),
        (with_bias(0), "with a bias", "another new h:"),
        (with_bias(2), "with a bias", "which lines leave from there"),
    ],
    blocks_needed=[
        (lambda h, w, k: max(h, w), "for a grid of 4 × 4", "one block fewer"),
        (lambda h, w, k: h - 1, "a grid of 3 × 6 and k = 3 it returns 2", "leave"),
        (lambda h, w, k: w - 1, "a grid of 6 × 3 and k = 3 it returns 2", "leave"),
        (lambda h, w, k: (max(h, w) - 1) // (k // 2), "6 × 6", "it returns 2"),
    ],
    parameters=[
        (PARAMETERS - 7 * 4, "what else does a convolution learn"),
        (4 * 4 * 8 + 2 * 4 * 4 + 4 * 4, "how many channels come out"),
        (PARAMETERS - 8 * 4 * 4, "the other type"),
        (PARAMETERS + 8 * 4 * 4, "not cropped"),
        (1, "fewer than were counted"),
        (10**7, "more than were counted"),
    ],
)


def test_each_stack_of_masks_has_the_faults_that_its_reader_is_told():
    for masks, faults in (("ABBBB", (0, 0)), ("BBBBB", (25, 0))):
        network = check.two_stacks(masks, check.wired)
        assert count_faults(network, check.GRID, check.CHANNELS) == faults
