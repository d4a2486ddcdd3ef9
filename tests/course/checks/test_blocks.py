"""Checks of notebook 03: what they accept, what they refuse, and in which words."""

import pytest
import torch

from pixelprior.course.checks import blocks as check
from pixelprior.course.checks.verdict import Verdict
from pixelprior.layers import GatedBlock
from pixelprior.layers import gate as package_gate

ODD = [
    3,
    "a gate",
    torch.zeros(2),
    lambda: 0,
    lambda *given: given,
    lambda *given: "no tensor",
    lambda *given: torch.zeros(3),
    lambda *given: given[0] * torch.nan,
    lambda *given: 1 / 0,
    lambda *given: (torch.zeros(1, 4, 5, 5), None),
]


def refused(verdict: Verdict, *words: str) -> None:
    assert verdict.passed is False, verdict
    for each in words:
        assert each in verdict.words, verdict


@pytest.mark.parametrize(
    "judge",
    [
        check.gate,
        check.wiring,
        check.label_bias,
        lambda answer: check.parameters(answer, "B", 4, 4),
    ],
)
def test_nothing_attempted_is_said_and_odd_answers_are_refused_in_words(judge):
    assert judge(None).passed is None
    for odd in ODD:
        verdict = judge(odd)
        assert verdict.passed is False, (odd, verdict)
        assert verdict.words.startswith("not yet: ")


@pytest.mark.parametrize("judge", [check.gate, check.wiring, check.label_bias])
def test_a_function_that_gives_none_is_not_attempted_yet(judge):
    assert judge(lambda *given: None).passed is None


def test_a_gate_is_a_gate_however_it_is_written():
    def by_slices(x):
        p = x.shape[1] // 2
        return x[:, :p].tanh() * x[:, p:].sigmoid()

    def by_exponentials(x):
        features, gates = x.split(x.shape[1] // 2, dim=1)
        e = torch.exp(2 * features)
        return (e - 1) / (e + 1) / (1 + torch.exp(-gates))

    for right in (package_gate, by_slices, by_exponentials):
        assert check.gate(right).passed, check.gate(right)


def halves(x):
    return x.chunk(2, dim=1)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
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
)
def test_a_wrong_gate_is_refused_for_what_is_wrong(wrong, words):
    refused(check.gate(wrong), words)


def wired(v, h, parts):
    up = parts.look_up(v)
    out = parts.out(parts.gate(parts.across(up) + parts.look_left(h)))
    new = parts.gate(up)
    return (new, out) if parts.first else (v + new, h + out)


def test_a_block_is_wired_right_in_two_ways():
    def with_a_list(v, h, parts):
        up, left = parts.look_up(v), parts.look_left(h)
        left += parts.across(up)
        new_v, new_h = parts.gate(up), parts.out(parts.gate(left))
        if not parts.first:
            new_v += v
            new_h += h
        return [new_v, new_h]

    assert check.wiring(wired).passed
    assert check.wiring(with_a_list).passed


def test_a_block_that_is_not_wired_across_has_most_of_its_past_missing():
    def apart(v, h, parts):
        out = parts.out(parts.gate(parts.look_left(h)))
        return parts.gate(parts.look_up(v)), out if parts.first else h + out

    refused(check.wiring(apart), "does not see", "are missing")


def test_a_residual_around_the_first_block_is_a_leak():
    def always(v, h, parts):
        new_v, new = wired(v, h, parts)
        return new_v, h + new if parts.first else new

    refused(check.wiring(always), "sees the very code there")


def test_a_residual_of_v_around_the_first_block_is_a_leak():
    def always(v, h, parts):
        new, new_h = wired(v, h, parts)
        return v + new if parts.first else new, new_h

    refused(check.wiring(always), "the vertical stack at", "rows above alone")


def test_a_later_block_whose_v_has_no_residual_is_named():
    def never(v, h, parts):
        new, new_h = wired(v, h, parts)
        return new if parts.first else new - v, new_h

    refused(check.wiring(never), "new v lacks its residual")


def test_a_later_block_without_a_residual_is_named():
    def never(v, h, parts):
        new_v, new = wired(v, h, parts)
        return new_v, new if parts.first else new - h

    refused(check.wiring(never), "hand h on")


def test_a_line_from_h_to_v_is_a_leak():
    def both_ways(v, h, parts):
        new_v, new_h = wired(v, h, parts)
        return new_v + new_h, new_h

    refused(check.wiring(both_ways), "the vertical stack at", "rows above alone")


def test_stacks_that_change_places_are_refused():
    refused(
        check.wiring(lambda v, h, parts: wired(v, h, parts)[::-1]),
        "the vertical stack at",
    )


def test_the_1x1_put_on_the_wrong_line_is_refused_though_nothing_leaks():
    def other_line(v, h, parts):
        up = parts.look_up(v)
        out = parts.out(parts.gate(up + parts.across(parts.look_left(h))))
        return wired(v, h, parts)[0], out if parts.first else h + out

    refused(check.wiring(other_line), "no leak", "horizontal stack of the first")


def test_a_vertical_stack_without_its_gate_is_refused():
    def ungated(v, h, parts):
        up = parts.look_up(v)
        return up, wired(v, h, parts)[1]

    refused(check.wiring(ungated), "the new v has shape [1, 8, 5, 5]")


def test_stacks_without_a_gradient_are_refused():
    def cut(v, h, parts):
        return tuple(each.detach() for each in wired(v, h, parts))

    refused(check.wiring(cut), "no gradient leads")


@pytest.mark.parametrize(
    ("mask_type", "channels", "p", "k"),
    [("B", 24, 24, 3), ("A", 16, 24, 3), ("B", 8, 8, 5)],
)
def test_parameters_are_counted_and_typical_mistakes_named(mask_type, channels, p, k):
    block = GatedBlock(mask_type, channels, p, k)
    sizes = [each.numel() for each in block.parameters()]

    def judge(answer):
        return check.parameters(answer, mask_type, channels, p, k)

    assert judge(sum(sizes)).passed
    assert judge(torch.tensor(sum(sizes))).passed
    biases = 7 * p
    refused(judge(sum(sizes) - biases), "what else does a convolution learn")
    span = block.span
    of_p = channels * p * (span * k + span) + 2 * p + 2 * (p * p + p)
    refused(judge(of_p), "how many channels come out")
    first_two = 2 * channels * p * (span * k + span) + 4 * p
    refused(judge(first_two), "two more")
    other = GatedBlock("A" if mask_type == "B" else "B", channels, p, k)
    refused(judge(sum(each.numel() for each in other.parameters())), "the other mask")
    uncropped = 2 * channels * p * (k * k + k) + sum(sizes[4:]) + 4 * p
    refused(judge(uncropped), "not cropped")
    refused(judge(1), "fewer than were counted")
    refused(judge(10**7), "more than were counted")
    refused(judge(float("nan")), "not finite")


def test_a_label_may_be_added_in_two_ways():
    def in_place(features, labels, table):
        features += table[labels][:, :, None, None]
        return features

    def by_one_hot(features, labels, table):
        one_hot = torch.nn.functional.one_hot(labels, len(table)).to(table)
        return features + torch.einsum("bk,kp->bp", one_hot, table)[..., None, None]

    for right in (in_place, by_one_hot):
        assert check.label_bias(right).passed, check.label_bias(right)


def spread(rows):
    return rows[:, :, None, None]


def at_the_first_place(features, labels, table):
    features[:, :, 0, 0] += table[labels]
    return features


def but_in_the_first_row(features, labels, table):
    features[:, :, 1:] += spread(table[labels])
    return features


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda features, *_: features, "no label reaches them"),
        (at_the_first_place, "no label reaches position (0, 1)"),
        (but_in_the_first_row, "no label reaches position (0, 0)"),
        (lambda f, labels, table: f * spread(table[labels]), "depends on the features"),
        (lambda f, labels, table: f + spread(table[labels[:1]]), "image 1 has label 0"),
        (lambda f, labels, table: f + spread(table[labels].mean(0)[None]), "image 0"),
        (lambda f, labels, table: f + spread(table[labels - 1]), "does not get row 2"),
        (
            lambda f, labels, table: (
                f + spread(table[labels]) * torch.arange(1, 6).double()
            ),
            "differently at different positions",
        ),
        (lambda f, labels, table: f + table[labels], "your function raised"),
        (lambda f, labels, table: spread(table[labels]) + 0 * f, "features are lost"),
        (lambda f, labels, table: f.roll(1, 3) + spread(table[labels]), "features"),
    ],
)
def test_a_wrong_label_bias_is_refused_for_what_is_wrong(wrong, words):
    refused(check.label_bias(wrong), words)
