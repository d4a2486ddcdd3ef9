"""The checks of notebook 10 tell right answers from the usual mistakes."""

import math

import numpy as np
import pytest
import torch
from answers import refused, right, wrong

from pixelprior.anomalies.scores import Calibration
from pixelprior.course.checks import anomalies as check


def by_loops(values, normal):
    ranks = torch.zeros_like(values)
    for number, value in enumerate(values):
        for other in normal:
            ranks[number] += other >= value
    return (1 + ranks) / (1 + len(normal))


def of_maps(values, normal):
    """Right for maps alone."""
    count = (normal >= values[:, None, :, :]).sum(1)
    return (1 + count) / (1 + len(normal))


def counted(change):
    """p-values that `change` makes of the count c and of N."""
    return lambda values, normal: change(
        (normal >= values[:, None]).sum(1), len(normal)
    )


def anywhere(values, normal):
    count = (normal.flatten() >= values[..., None]).sum(-1)
    return (1 + count) / (1 + normal.numel())


def ranked(values, normal):
    return check.rank_p_values(values, normal)


def lower(values, normal):
    return ranked(-values, -normal)


def two_sides(other):
    """A two-sided p-value, with p-values of the other side of one's own."""
    return lambda v, n: (2 * torch.minimum(ranked(v, n), other(v, n))).clamp(max=1)


def kth_largest(scores, rate):
    k = math.floor(rate * (len(scores) + 1) + 1e-9)
    if k == 0:
        return math.inf
    return scores.sort(descending=True).values[k - 1]


def of_the_package(scores, rate):
    """The threshold of a calibration with these scores."""
    parts = {"nats": {}, "centres": None, "scales": None, "pixels": None, "draws": 1}
    whole = Calibration(
        **parts, scores=scores.sort().values, classes=None, models=("", "")
    )
    try:
        return whole.score_threshold(rate)
    except ValueError:  # there are too few scores for the rate
        return math.inf


@right(
    {
        "p_values": [
            check.rank_p_values,
            by_loops,
            lambda v, n: 1 - (n < v[:, None]).sum(1) / (1 + len(n)),
            lambda v, n: (
                torch.cat([n >= x for x in v[:, None]])
                .reshape(len(v), *n.shape)
                .double()
                .sum(1)
                .add(1)
                / (1 + len(n))
            ),
        ],
        "both_sides": [
            check.twice_the_smaller,
            lambda v, n: (
                torch.stack([ranked(v, n), lower(v, n)]).mul(2).amin(0).clip(0, 1)
            ),
        ],
        "threshold": [
            kth_largest,
            lambda scores, rate: float(kth_largest(scores, rate)),
            of_the_package,
        ],
    }
)
def test_right_answers_in_several_forms(check, answer, judge):
    verdict = judge(check, answer)
    assert verdict.passed, verdict


@wrong(
    {
        "p_values": [
            (counted(lambda c, n: c / n), "this is c / N"),
            (counted(lambda c, n: (1 + c) / n), "(1 + c) / N"),
            (counted(lambda c, n: c / (1 + n)), "c / (1 + N)"),
            (counted(lambda c, n: c), "p is a share"),
            (counted(lambda c, n: 1 - c / n), "nearly 1 − p"),
            (counted(lambda c, n: (1 + c) // (1 + n)), "but 4/21 = 0.190 is needed"),
            (counted(lambda c, n: 1 + c / (1 + n)), "you have 1.143"),
            (lambda v, n: (1 + (n > v[:, None]).sum(1)) / (1 + len(n)), "equal values"),
            (lower, "those at most as large, not at least"),
            (
                lambda v, n: (1 + (n < v[:, None]).sum(1)) / (1 + len(n)),
                "you count smaller",
            ),
            (anywhere, "= 0.238 is needed"),
            (of_maps, "IndexError"),
            (lambda v, n: (1 + (n >= v[:, None]).sum()) / (1 + len(n)), "has shape []"),
            (lambda v, n: (n >= v[:, None]).float().mean(0), "has shape [20]"),
            (lambda v, n: ranked(v, n).tolist(), "a tensor is needed"),
        ],
        "both_sides": [
            (lambda v, n: torch.minimum(ranked(v, n), lower(v, n)), "both for 2α"),
            (lambda v, n: 2 * torch.minimum(ranked(v, n), lower(v, n)), "above 1"),
            (ranked, "below all normal ones"),
            (lower, "above all normal ones"),
            (
                lambda v, n: 2 * torch.minimum(ranked(v, n), 1 - ranked(v, n)),
                "1 − p can be 0",
            ),
            (two_sides(lambda v, n: ranked(-v, n)), "for -1 you have 1.000, but 2/51"),
            (two_sides(lambda v, n: ranked(v, -n)), "for -1 you have 0.078, but"),
            (lambda v, n: ranked(v, n) * lower(v, n), "2/51 = 0.039 is needed"),
        ],
        "threshold": [
            (
                lambda scores, rate: scores.quantile(1 - rate),
                "4 of 251 cases; allowed are 2.51",
            ),
            (lambda scores, rate: scores.max() + 1, "a lower threshold"),
            (lambda scores, rate: -kth_largest(-scores, rate), "in 249 of 251 cases"),
            (
                lambda scores, rate: scores.max(),
                "a lower threshold keeps the promise: 2 of 251 cases",
            ),
            (
                lambda scores, rate: scores.sort(descending=True).values[
                    math.floor(rate * (len(scores) + 1))
                ],
                "in 3 of 251 cases",
            ),
            (  # 0.29 · 100 is slightly less than 29
                lambda scores, rate: kth_largest(scores, rate - 1e-8),
                "29 of 100 cases are allowed, and Python has 28.99999",
            ),
            (
                lambda scores, rate: scores.topk(
                    math.floor(rate * (len(scores) + 1) + 1e-9)
                ).values.min(),
                "return math.inf",
            ),
            (lambda scores, rate: scores[:2], "a number"),
            (
                lambda scores, rate: min(kth_largest(scores, rate), scores.max()),
                "return math.inf",
            ),
        ],
    }
)
def test_a_wrong_answer_hears_what_is_wrong(check, answer, words, judge):
    refused(judge(check, answer), *words)


def shares(scores):
    """What is right for `camera`, and the second share if it counts itself."""
    normal, new = scores
    pairs = (new, normal), (new[100:], new[:100]), (new, new[:100])
    return [(ranked(*pair) <= 0.05).double().mean() for pair in pairs]


@pytest.mark.parametrize(
    "as_given",
    [
        tuple,
        list,
        torch.stack,
        np.array,
        lambda both: [round(float(each), 2) for each in both],
    ],
)
def test_two_shares_may_be_given_in_any_form(camera_scores, as_given):
    verdict = check.camera(as_given(shares(camera_scores)[:2]), *camera_scores)
    assert verdict.passed and "of the normal images raise an alarm" in verdict.words


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda one, two, twice: (100 * one, 100 * two), "from 0 to 1"),
        (lambda one, two, twice: (1 - one, two), "raises *no* alarm"),
        (lambda one, two, twice: (two, one), "not that of all new scores"),
        (lambda one, two, twice: (one, twice), "of its own calibration"),
        (lambda one, two, twice: (one, one), "is another"),
        (lambda one, two, twice: one, "two numbers are needed"),
        (lambda one, two, twice: torch.stack([one, two, twice]), "two numbers"),
    ],
)
def test_wrong_shares_are_explained(camera_scores, change, words):
    answer = change(*shares(camera_scores))
    refused(check.camera(answer, *camera_scores), words)
