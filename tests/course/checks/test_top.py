"""Checks of notebook 04: a baseline is judged by its number, a learning rate by
training with it, and images of a class by the classifier."""

import functools
import itertools
import math
import random

import pytest
import torch

from pixelprior.course.checks import top as check
from pixelprior.data.codes import CodeData

ODD = [
    "text",
    object(),
    [],
    {},
    True,
    math.nan,
    math.inf,
    -1,
    torch.ones(2, 3),
    torch.tensor(math.nan),
    lambda *_: 1 / 0,
    lambda *_: "text",
    lambda *_: torch.ones(3),
    lambda *_: math.nan,
    lambda: 0,
]


def frequencies(codes, num_embeddings):
    return torch.bincount(codes.flatten(), minlength=num_embeddings) / codes.numel()


def by_counting(codes, num_embeddings):
    p = frequencies(codes, num_embeddings)
    return -torch.xlogy(p, p).sum()


def by_distribution(codes, num_embeddings):
    p = frequencies(codes, num_embeddings)
    return torch.distributions.Categorical(probs=p).entropy().item()


def by_cost_of_each_code(codes, num_embeddings):
    p = frequencies(codes, num_embeddings)
    return -p[codes].log().mean()


@pytest.mark.parametrize("answer", [by_counting, by_distribution, by_cost_of_each_code])
def test_the_unigram_entropy_passes_however_it_is_written(answer):
    assert check.unigram_entropy(answer).passed


def without_care_for_zeros(codes, num_embeddings):
    p = frequencies(codes, num_embeddings)
    return -(p * p.log()).sum()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (without_care_for_zeros, "never occurs"),
        (lambda z, k: by_counting(z, k) / math.log(2), "bits"),
        (lambda z, k: -by_counting(z, k), "sign"),
        (lambda z, k: by_counting(z, k).exp(), "perplexity"),
        (lambda z, k: 0.5 * by_counting(z, k), "weigh"),
        (lambda z, k: by_counting(z, k) * z.numel(), "above that of the uniform"),
    ],
)
def test_a_wrong_entropy_is_named(answer, words):
    verdict = check.unigram_entropy(answer)
    assert verdict.passed is False
    assert words in verdict.words


def test_the_entropy_of_a_uniform_distribution_is_not_that_of_the_frequencies():
    assert check.unigram_entropy(lambda z, k: math.log(k)).passed is False


@pytest.fixture(scope="module")
def codes():
    """Codes that mostly repeat the one to the left, so that there is much to learn."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randint(16, (400, 6, 6), generator=generator)
    stays = torch.rand(z.shape, generator=generator) < 0.9
    for x in range(1, 6):
        z[:, :, x] = torch.where(stays[:, :, x], z[:, :, x - 1], z[:, :, x])
    labels = torch.arange(400) % 10
    return CodeData(z, z, labels, 16)


@pytest.mark.slow
def test_a_rate_between_too_low_and_too_high_passes(codes):
    assert check.learning_rate(0.02, codes, codes).passed
    assert check.learning_rate(torch.tensor([0.01]), codes, codes).passed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rate", "words"),
    [
        (1e-7, "has learned little"),
        (1e-3, "ten times"),
        (1e20, "not"),
        (50.0, "learned little"),
        (-1e-3, "above 0"),
        (0, "above 0"),
    ],
)
def test_a_rate_too_low_or_too_high_is_told_so(codes, rate, words):
    verdict = check.learning_rate(rate, codes, codes)
    assert verdict.passed is False
    assert words in verdict.words


def test_trying_a_rate_leaves_the_readers_random_numbers_alone(codes):
    torch.manual_seed(3)
    wanted = torch.rand(3)
    torch.manual_seed(3)
    assert check.learning_rate(torch.tensor(1e-7), codes, codes).passed is False
    assert torch.equal(torch.rand(3), wanted)


@pytest.fixture(scope="module")
def kept(shipped, shipped_classifier):
    """A right answer: draws until enough images are taken for the label."""

    @functools.cache
    def images_of(label, count, seed):
        vqvae2, prior = shipped
        seeds, images = random.Random(seed), torch.empty(0, 1, 32, 32)
        while len(images) < count:
            drawn = prior.sample_with_vqvae2(
                vqvae2, 16, labels=torch.full((16,), label), seed=seeds.getrandbits(32)
            )
            found = shipped_classifier(drawn).argmax(dim=1)
            images = torch.cat([images, drawn[found == label]])
        return images[:count]

    return images_of


def test_images_that_are_all_of_the_class_pass(kept):
    verdict = check.images_of_class(kept)
    assert verdict.passed, verdict.words


def test_images_of_other_classes_are_named(shipped, kept):
    vqvae2, prior = shipped

    def all_that_are_drawn(label, count, seed):
        labels = torch.full((count,), label)
        return prior.sample_with_vqvae2(vqvae2, count, labels=labels, seed=seed)

    verdict = check.images_of_class(all_that_are_drawn)
    assert verdict.passed is False
    assert "of your 16 images for " in verdict.words
    verdict = check.images_of_class(lambda label, *others: kept(8, *others))
    assert verdict.passed is False
    assert "0 of your 16 images for Shirt" in verdict.words
    assert verdict.words.endswith("is Bag")


def test_images_that_the_seed_does_not_fix_are_told_so(kept):
    calls = itertools.count()
    verdict = check.images_of_class(
        lambda label, count, _: kept(label, count, 5 + next(calls) // 2)
    )
    assert verdict.passed is False and "same seed" in verdict.words
    verdict = check.images_of_class(lambda label, count, _: kept(label, count, 1))
    assert verdict.passed is False and "for seeds 1 and 2" in verdict.words


def test_images_that_are_none_are_told_why(kept):
    bags = kept(8, 16, 1)
    for answer, words in (
        (bags[:8], "shape [8, 1, 32, 32]"),
        (bags[0], "shape"),
        ((bags * 255).byte(), "uint8"),
        (bags * 255, "[0, 1]"),
        (bags - 0.5, "[0, 1]"),
        (bags / 0, "not finite"),
        (bags[:1].repeat(16, 1, 1, 1), "equal"),
        (torch.zeros(16, 1, 32, 32), "equal"),
    ):
        verdict = check.images_of_class(lambda *_, answer=answer: answer)
        assert verdict.passed is False
        assert words in verdict.words


def test_what_was_not_attempted_is_no_failure(codes):
    assert check.unigram_entropy(None).passed is None
    assert check.unigram_entropy(lambda codes, k: None).passed is None
    assert check.learning_rate(None, codes, codes).passed is None
    assert check.images_of_class(None).passed is None
    assert check.images_of_class(lambda *_: None).passed is None


@pytest.mark.parametrize("odd", ODD)
def test_no_odd_answer_ends_in_a_traceback(codes, odd):
    for verdict in (
        check.unigram_entropy(odd),
        check.learning_rate(odd, codes, codes),
        check.images_of_class(odd),
    ):
        assert verdict.passed is False
        assert verdict.words
