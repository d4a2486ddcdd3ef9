"""Checks of notebook 07: the numbers that draw a code, top-p, a temperature within two
limits, and a number that finds copies."""

import math

import pytest
import torch

from pixelprior.course.checks import judging as check
from pixelprior.data.images import load_images
from pixelprior.sampling import probabilities

P = torch.tensor([0.1, 0.4, 0.2, 0.3])
ODD = [
    "text",
    object(),
    [],
    {},
    True,
    math.nan,
    math.inf,
    -1,
    (1, "a"),
    (math.nan, 1),
    (0.2, 0.4, 0.6),
    torch.ones(2, 3),
    torch.tensor(math.nan),
    lambda *_: 1 / 0,
    lambda *_: "text",
    lambda *_: torch.ones(3),
    lambda *_: math.nan,
    lambda first, *_: first * math.nan,
    lambda first, *_: first.long(),
    lambda: 0,
]


@pytest.fixture(scope="module")
def training():
    return load_images("fashion_mnist_mini", "train")


@pytest.fixture(scope="module")
def heldout():
    return load_images("fashion_mnist_mini", "test")


# Which numbers draw a code.


def test_the_numbers_of_a_code_pass_as_a_pair_a_list_or_a_tensor():
    squares = P.square() / P.square().sum()
    ends = squares.cumsum(0)[1:3]
    for answer in ((17 / 30, 21 / 30), ends.tolist(), ends, (0.567, 0.7)):
        assert check.numbers_of_code(answer, P, 2, 0.5).passed
    assert check.numbers_of_code((0.5, 0.7), P, 2, 1.0).passed
    assert check.numbers_of_code((0, 0.1), P, 0, 1.0).passed


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((0.5, 0.7), "at temperature 1"),
        ((0.7, 0.5), "lower end first"),
        ((-0.1, 0.5), "not an interval"),
        ((0.0, 4 / 30), "lies elsewhere"),
        ((0.6, 0.65), "outside of your piece"),
        ((0.3, 0.65), "draws code 1"),
        (0.6, "two numbers"),
    ],
)
def test_wrong_numbers_are_told_what_they_draw(answer, words):
    verdict = check.numbers_of_code(answer, P, 2, 0.5)
    assert verdict.passed is False
    assert words in verdict.words


def test_a_temperature_taken_the_wrong_way_round_is_named():
    roots = P.sqrt() / P.sqrt().sum()
    verdict = check.numbers_of_code(tuple(roots.cumsum(0)[1:3]), P, 2, 0.5)
    assert verdict.passed is False
    assert "which way round" in verdict.words


# Top-p.


def by_sorting(logits, p):
    ranked, order = logits.softmax(1).sort(dim=1, descending=True)
    ranked = ranked * (ranked.cumsum(1) - ranked < p)
    kept = torch.zeros_like(ranked).scatter(1, order, ranked)
    return kept / kept.sum(1, keepdim=True)


def by_masking_logits(logits, p):
    order = logits.argsort(dim=1, descending=True)
    ranks = order.argsort(dim=1)
    sums = logits.softmax(1).gather(1, order).cumsum(1).double()
    count = 1 + (sums < p - 1e-7).sum(1, keepdim=True)
    return logits.masked_fill(ranks >= count, -math.inf).softmax(1)


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


def by_the_package(logits, p):
    return probabilities(logits, top_p=p)


@pytest.mark.parametrize(
    "answer", [by_sorting, by_masking_logits, in_a_loop, by_the_package]
)
def test_top_p_passes_however_it_is_written(answer):
    verdict = check.top_p(answer)
    assert verdict.passed, verdict.words


def past_an_exact_share(logits, p):
    ranked, order = logits.softmax(1).sort(dim=1, descending=True)
    ranked = ranked * (ranked.cumsum(1) - ranked <= p)
    kept = torch.zeros_like(ranked).scatter(1, order, ranked)
    return kept / kept.sum(1, keepdim=True)


def not_made_up_for(logits, p):
    probs = logits.softmax(1)
    return probs * (by_sorting(logits, p) > 0)


def without_the_last(logits, p):
    ranked, order = logits.softmax(1).sort(dim=1, descending=True)
    ranked = ranked * (ranked.cumsum(1) <= p)
    kept = torch.zeros_like(ranked).scatter(1, order, ranked)
    return kept / kept.sum(1, keepdim=True)


def one_too_few_but_never_none(logits, p):
    ranked, order = logits.softmax(1).sort(dim=1, descending=True)
    fits = ranked.cumsum(1) <= p
    fits[:, 0] = True
    kept = torch.zeros_like(ranked).scatter(1, order, ranked * fits)
    return kept / kept.sum(1, keepdim=True)


def one_too_many(logits, p):
    ranked, order = logits.softmax(1).sort(dim=1, descending=True)
    before = ranked.cumsum(1) - ranked
    before[:, 1:] = before[:, :-1].clone()
    kept = torch.zeros_like(ranked).scatter(1, order, ranked * (before < p))
    return kept / kept.sum(1, keepdim=True)


def the_least_likely(logits, p):
    return by_sorting(-logits, p)


def left_in_order(logits, p):
    return by_sorting(logits, p).sort(dim=1, descending=True).values


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


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (not_made_up_for, "add up to"),
        (without_the_last, "nan"),
        (one_too_few_but_never_none, "carries the sum past"),
        (one_too_many, "hold the share already"),
        (past_an_exact_share, "p = 0.5, row 0: 3 codes are kept"),
        (the_least_likely, "the likeliest come first"),
        (left_in_order, "go back to its place"),
        (by_a_threshold, "too few"),
        (as_many_as_the_first_row, "row 1"),
        (evened_out, "have changed"),
        (lambda logits, p: logits, "no probabilities"),
        (lambda logits, p: logits.softmax(1), "hold the share already"),
        (lambda logits, p: torch.zeros_like(logits), "no code is kept"),
        (lambda logits, p: by_sorting(logits, p)[0], "shape"),
    ],
)
def test_a_wrong_top_p_is_named(answer, words):
    verdict = check.top_p(answer)
    assert verdict.passed is False
    assert words in verdict.words


# A temperature.


@pytest.mark.slow
def test_a_temperature_that_keeps_both_limits_passes(shipped, heldout):
    verdict = check.temperature(0.85, *shipped, heldout)
    assert verdict.passed, verdict.words
    assert "0.85" not in verdict.words, "the same words on each machine"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (0.7, "too much alike"),
        (torch.tensor([1.2]), "too little like photographs"),
        (0.3, "both limits"),
        (0, "above 0"),
        (-1.0, "above 0"),
    ],
)
def test_a_temperature_beyond_a_limit_is_told_which(answer, words, shipped, heldout):
    verdict = check.temperature(answer, *shipped, heldout, count=100)
    assert verdict.passed is False
    assert words in verdict.words


# Copies.


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


@pytest.mark.parametrize("answer", [in_any_place, by_spectrum])
def test_a_number_that_knows_shifts_passes(answer, training, heldout):
    verdict = check.distance_to_copies(answer, training, heldout)
    assert verdict.passed, verdict.words


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (nearest, "shifted by a pixel"),
        (lambda images, training: images.mean(dim=(1, 2, 3)), "copies as they are"),
        (lambda images, training: torch.zeros(len(images)), "50%"),
        (lambda images, training: torch.arange(len(images)), "stand out"),
        (lambda images, training: -in_any_place(images, training), "larger"),
        (lambda images, training: nearest(images, training).mean(), "shape"),
        (lambda images, training: nearest(images, training) / 0, "finite"),
    ],
)
def test_what_misses_copies_is_told_which(answer, words, training, heldout):
    verdict = check.distance_to_copies(answer, training, heldout)
    assert verdict.passed is False
    assert words in verdict.words


# Any answer.


def verdicts(answer, shipped, training, heldout):
    yield check.numbers_of_code(answer, P, 2, 0.5)
    yield check.top_p(answer)
    yield check.temperature(answer, *shipped, heldout, count=20)
    yield check.distance_to_copies(answer, training, heldout)


@pytest.mark.parametrize("answer", ODD, ids=range(len(ODD)))
def test_an_odd_answer_gets_words_and_no_traceback(answer, shipped, training, heldout):
    for verdict in verdicts(answer, shipped, training, heldout):
        assert verdict.passed is False
        assert verdict.words.startswith("not yet: ")


def test_a_stub_is_not_attempted(shipped, training, heldout):
    for verdict in verdicts(None, shipped, training, heldout):
        assert verdict.passed is None
    for verdict in (
        check.top_p(lambda *_: None),
        check.distance_to_copies(lambda *_: None, training, heldout),
    ):
        assert verdict.passed is None
