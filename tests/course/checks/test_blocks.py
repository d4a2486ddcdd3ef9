"""Checks of notebook 03: what they accept, what they refuse, and in which words."""

import pytest
import torch
from answers import refused, right, wrong

from pixelprior.course.checks import blocks as check
from pixelprior.layers import GatedBlock
from pixelprior.layers import gate as package_gate


def halves(x):
    return x.chunk(2, dim=1)


def by_exponentials(x):
    features, gates = halves(x)
    e = torch.exp(2 * features)
    return (e - 1) / (e + 1) / (1 + torch.exp(-gates))


def wired(v, h, parts):
    up = parts.look_up(v)
    out = parts.out(parts.gate(parts.across(up) + parts.look_left(h)))
    new = parts.gate(up)
    return (new, out) if parts.first else (v + new, h + out)


def with_a_list(v, h, parts):
    up, left = parts.look_up(v), parts.look_left(h)
    left += parts.across(up)
    new_v, new_h = parts.gate(up), parts.out(parts.gate(left))
    if not parts.first:
        new_v += v
        new_h += h
    return [new_v, new_h]


def but(change):
    """A right block, except for what `change` makes of (v, h, its outputs, first)."""
    return lambda v, h, parts: change(v, h, *wired(v, h, parts), parts.first)


def apart(v, h, parts):
    out = parts.out(parts.gate(parts.look_left(h)))
    return parts.gate(parts.look_up(v)), out if parts.first else h + out


def on_the_other_line(v, h, parts):
    up = parts.look_up(v)
    out = parts.out(parts.gate(up + parts.across(parts.look_left(h))))
    return wired(v, h, parts)[0], out if parts.first else h + out


def label_in_place(features, labels, table):
    features += table[labels][:, :, None, None]
    return features


def by_one_hot(features, labels, table):
    one_hot = torch.nn.functional.one_hot(labels, len(table)).to(table)
    return features + torch.einsum("bk,kp->bp", one_hot, table)[..., None, None]


def spread(rows):
    return rows[:, :, None, None]


def at_the_first_place(features, labels, table):
    features[:, :, 0, 0] += table[labels]
    return features


def but_in_the_first_row(features, labels, table):
    features[:, :, 1:] += spread(table[labels])
    return features


@right(
    {
        "gate": [package_gate, by_exponentials],
        "wiring": [wired, with_a_list],
        "label_bias": [label_in_place, by_one_hot],
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
            (lambda x: halves(x)[0] * halves(x)[1].sigmoid(), "unbent"),
            (lambda x: x[:, ::2].tanh() * x[:, 1::2].sigmoid(), "dealt out in turn"),
            (lambda x: package_gate(x) * 0.5, "differs from equation 2 by up to"),
            (lambda x: x.tanh() * x.sigmoid(), "shape [2, 8, 5, 5]"),
            (lambda x: package_gate(x.mul_(2)), "changed its input"),
            (lambda x: package_gate(x).log(), "not finite"),
        ],
        "wiring": [
            (apart, "does not see", "are missing"),
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
            (but(lambda v, h, a, b, first: (a, b if first else b - h)), "hand h on"),
            # A line from h to v is a leak.
            (
                but(lambda v, h, a, b, first: (a + b, b)),
                "the vertical stack at",
                "rows above alone",
            ),
            (but(lambda v, h, a, b, first: (b, a)), "the vertical stack at"),
            (on_the_other_line, "no leak", "horizontal stack of the first"),
            (
                lambda v, h, parts: (parts.look_up(v), wired(v, h, parts)[1]),
                "the new v has shape [1, 8, 5, 5]",
            ),
            (
                but(lambda v, h, a, b, first: (a.detach(), b.detach())),
                "no gradient leads",
            ),
        ],
        "label_bias": [
            (lambda f, *_: f, "no label reaches them"),
            (at_the_first_place, "no label reaches position (0, 1)"),
            (but_in_the_first_row, "no label reaches position (0, 0)"),
            (lambda f, n, table: f * spread(table[n]), "depends on the features"),
            (lambda f, n, table: f + spread(table[n[:1]]), "image 1 has label 0"),
            (lambda f, n, table: f + spread(table[n].mean(0)[None]), "image 0"),
            (lambda f, n, table: f + spread(table[n - 1]), "does not get row 2"),
            (
                lambda f, n, table: f + spread(table[n]) * torch.arange(1, 6).double(),
                "differently at different positions",
            ),
            (lambda f, n, table: f + table[n], "your function raised"),
            (lambda f, n, table: spread(table[n]) + 0 * f, "features are lost"),
            (lambda f, n, table: f.roll(1, 3) + spread(table[n]), "features"),
        ],
    }
)
def test_another_answer_hears_what_is_wrong_with_it(check, answer, words, judge):
    refused(judge(check, answer), *words)


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
        (sum(of_other), "the other mask"),
        (2 * channels * p * (k * k + k) + sum(sizes[4:]) + 4 * p, "not cropped"),
        (1, "fewer than were counted"),
        (10**7, "more than were counted"),
        (float("nan"), "not finite"),
    ):
        refused(judge(answer), words)
