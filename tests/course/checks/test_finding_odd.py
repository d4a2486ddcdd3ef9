"""The checks of notebook 10 tell right answers from the usual mistakes."""

import math

import torch
from answers import refused, right, wrong

from pixelprior.course.checks import anomalies as check

ranked = check.rank_p_values


def lower(values, normal):
    return ranked(-values, -normal)


def two_sides(other, limit=1.0):
    """Twice the smaller of one's own p-value and another one."""
    return lambda v, n: (2 * torch.minimum(ranked(v, n), other(v, n))).clamp(max=limit)


def kth_largest(scores, rate, further=0):
    k = math.floor(rate * (len(scores) + 1) + 1e-9) + further
    return scores.sort(descending=True).values[k - 1] if k else math.inf


test_right_answers_in_several_forms = right(
    p_values=[
        ranked,
        lambda v, n: 1 - (n < v[:, None]).sum(1).double() / (1 + len(n)),
    ],
    both_sides=[check.twice_the_smaller, two_sides(lower)],
    threshold=[kth_largest, lambda *given: float(kth_largest(*given))],
)


test_a_wrong_answer_hears_what_is_wrong = wrong(
    p_values=[
        (lambda v, n: (n >= v[:, None]).float().mean(1), "this is c / N"),
        (lambda v, n: 1 + ranked(v, n), "you have 1.190, but 4/21 = 0.190"),
        (lambda v, n: ranked(v, n) * 21 / 20, "count the value itself among the N"),
        (lambda v, n: (1 + (n > v[:, None]).sum(1)) / (1 + len(n)), "is needed"),
        (lower, "those at most as large, not at least"),
        (lambda v, n: ranked(v.flatten(), n.flatten()), "[4, 5, 6] is needed"),
    ],
    both_sides=[
        (lambda v, n: torch.minimum(ranked(v, n), lower(v, n)), "both for 2α"),
        (two_sides(lambda v, n: 1 - ranked(v, n)), "1 − p can be 0"),
        (two_sides(lower, limit=2.0), "51/51 = 1.000 is needed"),
        (ranked, "for -1 you have 1.000, but 2/51"),
        (two_sides(lambda v, n: ranked(v, -n)), "for -1 you have 0.078, but"),
    ],
    threshold=[
        (
            lambda scores, rate: scores.quantile(1 - rate),
            "in 4 of 251 cases; 2 are",
        ),
        (lambda scores, rate: scores.max(), "in 1 of 251 cases; 2 are allowed"),
        (lambda *given: kth_largest(*given, further=1), "in 3 of 251 cases"),
        # 0.29 · 100 is slightly less than 29
        (lambda s, rate: kth_largest(s, rate - 1e-8), "28 of 100 cases; 29 are"),
        (
            lambda *given: min(kth_largest(*given), given[0].max()),
            "1 of 51 cases; 0",
        ),
    ],
)


def shares(scores):
    """What is right for `camera`, and the second share if it counts itself."""
    normal, new = scores
    pairs = (new, normal), (new[100:], new[:100]), (new, new[:100])
    return [(ranked(*pair) <= 0.05).double().mean() for pair in pairs]


def test_two_shares_are_judged_one_by_one(camera_scores):
    one, two, twice = shares(camera_scores)
    for given in (torch.stack([one, two]), [round(float(p), 2) for p in (one, two)]):
        assert check.camera(given, *camera_scores)
    for answer, words in (
        ((1 - one, two), "not that of all new scores"),
        ((one, twice), "the second share is of the last 100"),
        (one, "trying your answer ended in"),
    ):
        refused(check.camera(answer, *camera_scores), words)
