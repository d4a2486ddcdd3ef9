"""Checks of notebook 07: the numbers that draw a code, top-p, a temperature within two
limits, and a number that finds copies."""

import pytest
import torch
from answers import P, refused, right, wrong

from pixelprior.course.checks import judging as check
from pixelprior.sampling import probabilities

SQUARES = (P.square() / P.square().sum()).cumsum(0)[1:3]
ROOTS = (P.sqrt() / P.sqrt().sum()).cumsum(0)[1:3]


def sorted_and_kept(logits, fits):
    """Probabilities [B, K] of which those are kept, and made up for, whose cumulative
    sums in falling order, with themselves and before themselves, `fits` accepts."""
    ranked, order = logits.softmax(1).sort(dim=1, descending=True)
    sums = ranked.cumsum(1)
    ranked = ranked * fits(sums, sums - ranked)
    kept = torch.zeros_like(ranked).scatter(1, order, ranked)
    return kept / kept.sum(1, keepdim=True)


def by_sorting(logits, p):
    return sorted_and_kept(logits, lambda _, before: before < p)


def in_a_loop(logits, p):
    rows = []
    for row in logits.double().softmax(1):
        kept, held = torch.zeros_like(row), 0.0
        for code in row.argsort(descending=True):
            if held < p:
                kept[code] = row[code]
                held += row[code]
        rows.append(kept / kept.sum())
    return torch.stack(rows)


def past_an_exact_share(logits, p):
    return sorted_and_kept(logits, lambda _, before: before <= p)


def not_made_up_for(logits, p):
    return logits.softmax(1) * (by_sorting(logits, p) > 0)


def without_the_last(logits, p):
    return sorted_and_kept(logits, lambda sums, _: sums <= p)


def one_too_few_but_never_none(logits, p):
    first = torch.arange(logits.shape[1]) == 0
    return sorted_and_kept(logits, lambda sums, _: (sums <= p) | first)


def one_too_many(logits, p):
    def fits(_, before):
        return torch.cat([before[:, :1], before[:, :-1]], dim=1) < p

    return sorted_and_kept(logits, fits)


def by_a_threshold(logits, p):
    probs = logits.softmax(1)
    kept = probs * (probs > 0.02)
    return kept / kept.sum(1, keepdim=True)


def as_many_as_the_first_row(logits, p):
    count = int((by_sorting(logits, p)[0] > 0).sum())
    return probabilities(logits, top_k=count)


def evened_out(logits, p):
    kept = (by_sorting(logits, p) > 0).float()
    return kept / kept.sum(1, keepdim=True)


def nearest(images, training):
    return torch.cdist(images.flatten(1), training.flatten(1)).min(1).values


def in_any_place(images, training):
    found = [nearest(images.roll(shift, (2, 3)), training) for shift in check.SHIFTS]
    return torch.stack(found).min(0).values


def by_spectrum(images, training):
    """Distances of the sizes of low frequencies, which no shift changes."""

    def spectrum(x):
        return torch.fft.rfft2(x[:, 0]).abs()[:, :8, :8].flatten(1)

    return torch.cdist(spectrum(images), spectrum(training)).min(1).values


@right(
    {
        "numbers_of_code": [
            (17 / 30, 21 / 30),
            SQUARES.tolist(),
            SQUARES,
            (0.567, 0.7),
        ],
        "top_p": [
            by_sorting,
            in_a_loop,
            lambda logits, p: probabilities(logits, top_p=p),
        ],
        "distance_to_copies": [in_any_place, by_spectrum],
    }
)
def test_a_right_answer_passes_however_it_is_written(check, answer, judge):
    verdict = judge(check, answer)
    assert verdict.passed, verdict


@wrong(
    {
        "numbers_of_code": [
            ((0.5, 0.7), "at temperature 1"),
            ((0.7, 0.5), "lower end first"),
            ((-0.1, 0.5), "not an interval"),
            ((0.0, 4 / 30), "lies elsewhere"),
            ((0.6, 0.65), "outside of your piece"),
            ((0.3, 0.65), "draws code 1"),
            (0.6, "two numbers"),
            ((0.2, 0.4, 0.6), "two numbers"),
            (tuple(ROOTS), "which way round"),
        ],
        "top_p": [
            (not_made_up_for, "add up to"),
            (without_the_last, "nan"),
            (one_too_few_but_never_none, "carries the sum past"),
            (one_too_many, "hold the share already"),
            (past_an_exact_share, "p = 0.5, row 0: 3 codes are kept"),
            (lambda logits, p: by_sorting(-logits, p), "the likeliest come first"),
            (
                lambda logits, p: by_sorting(logits, p).sort(descending=True).values,
                "go back to its place",
            ),
            (by_a_threshold, "too few"),
            (as_many_as_the_first_row, "row 1"),
            (evened_out, "have changed"),
            (lambda logits, p: logits, "no probabilities"),
            (lambda logits, p: logits.softmax(1), "hold the share already"),
            (lambda logits, p: torch.zeros_like(logits), "no code is kept"),
            (lambda logits, p: by_sorting(logits, p)[0], "shape"),
        ],
        "temperature": [(0, "above 0"), (-1.0, "above 0")],
        "distance_to_copies": [
            (nearest, "shifted by a pixel"),
            (lambda images, _: images.mean(dim=(1, 2, 3)), "copies as they are"),
            (lambda images, _: torch.zeros(len(images)), "50%"),
            (lambda images, _: torch.arange(len(images)), "stand out"),
            (lambda *given: -in_any_place(*given), "larger"),
            (lambda *given: nearest(*given).mean(), "shape"),
            (lambda *given: nearest(*given) / 0, "finite"),
        ],
    }
)
def test_another_answer_hears_what_is_wrong_with_it(check, answer, words, judge):
    refused(judge(check, answer), *words)


@pytest.mark.parametrize(
    ("answer", "code"), [((0.5, 0.7), 2), ((0, 0.1), 0)], ids=["inner", "first"]
)
def test_at_temperature_1_a_code_is_drawn_by_its_piece(answer, code):
    assert check.numbers_of_code(answer, P, code, 1.0)


@pytest.mark.slow
def test_a_temperature_that_keeps_both_limits_passes(shipped, heldout_images):
    verdict = check.temperature(0.85, *shipped, heldout_images)
    assert verdict.passed, verdict
    assert "0.85" not in verdict.words, "the same words on each machine"


@pytest.mark.slow
@wrong(
    {
        "temperature": [
            (0.7, "too much alike"),
            (torch.tensor([1.2]), "too little like photographs"),
            (0.3, "both limits"),
        ]
    }
)
def test_a_temperature_beyond_a_limit_is_told_which(check, answer, words, judge):
    refused(judge(check, answer), *words)
