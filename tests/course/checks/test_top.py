"""Checks of notebook 04: a baseline is judged by its number, a learning rate by
training with it, and images of a class by the classifier."""

import functools
import itertools
import math
import random

import pytest
import torch
from answers import refused, right, wrong

from pixelprior.course.checks import top as check


def frequencies(codes, num_embeddings):
    return torch.bincount(codes.flatten(), minlength=num_embeddings) / codes.numel()


def by_counting(codes, num_embeddings):
    p = frequencies(codes, num_embeddings)
    return -torch.xlogy(p, p).sum()


def by_distribution(codes, num_embeddings):
    p = frequencies(codes, num_embeddings)
    return torch.distributions.Categorical(probs=p).entropy().item()


def without_care_for_zeros(codes, num_embeddings):
    p = frequencies(codes, num_embeddings)
    return -(p * p.log()).sum()


@right({"unigram_entropy": [by_counting, by_distribution]})
def test_the_unigram_entropy_passes_however_it_is_written(check, answer, judge):
    assert judge(check, answer)


@wrong(
    {
        "unigram_entropy": [
            (without_care_for_zeros, "never occurs"),
            (lambda z, k: by_counting(z, k) / math.log(2), "bits"),
            (lambda z, k: -by_counting(z, k), "sign"),
            (lambda z, k: by_counting(z, k).exp(), "perplexity"),
            (lambda z, k: 0.5 * by_counting(z, k), "weigh"),
            (lambda z, k: by_counting(z, k) * z.numel(), "above that of the uniform"),
            (lambda z, k: math.log(k),),
        ],
        "learning_rate": [(-1e-3, "above 0"), (0, "above 0")],
    }
)
def test_another_answer_hears_what_is_wrong_with_it(check, answer, words, judge):
    refused(judge(check, answer), *words)


@pytest.mark.slow
@right({"learning_rate": [0.02, torch.tensor([0.01])]})
def test_a_rate_between_too_low_and_too_high_passes(check, answer, judge):
    assert judge(check, answer)


@pytest.mark.slow
@wrong(
    {
        "learning_rate": [
            (1e-7, "has learned little"),
            (1e-3, "ten times"),
            (1e20, "not"),
            (50.0, "learned little"),
        ]
    }
)
def test_a_rate_too_low_or_too_high_is_told_so(check, answer, words, judge):
    refused(judge(check, answer), *words)


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
    assert verdict.passed, verdict


def test_images_of_other_classes_are_named(shipped, kept):
    vqvae2, prior = shipped

    def all_that_are_drawn(label, count, seed):
        labels = torch.full((count,), label)
        return prior.sample_with_vqvae2(vqvae2, count, labels=labels, seed=seed)

    refused(check.images_of_class(all_that_are_drawn), "of your 16 images for ")
    verdict = check.images_of_class(lambda label, *others: kept(8, *others))
    refused(verdict, "0 of your 16 images for Shirt")
    assert verdict.words.endswith("is Bag")


def test_images_that_the_seed_does_not_fix_are_told_so(kept):
    calls = itertools.count()
    changing = check.images_of_class(
        lambda label, count, _: kept(label, count, 5 + next(calls) // 2)
    )
    refused(changing, "same seed")
    fixed = check.images_of_class(lambda label, count, _: kept(label, count, 1))
    refused(fixed, "for seeds 1 and 2")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda bags: bags[:8], "shape [8, 1, 32, 32]"),
        (lambda bags: bags[0], "shape"),
        (lambda bags: (bags * 255).byte(), "uint8"),
        (lambda bags: bags * 255, "[0, 1]"),
        (lambda bags: bags - 0.5, "[0, 1]"),
        (lambda bags: bags / 0, "not finite"),
        (lambda bags: bags[:1].repeat(16, 1, 1, 1), "equal"),
    ],
)
def test_images_that_are_none_are_told_why(kept, change, words):
    refused(check.images_of_class(lambda *_: change(kept(8, 16, 1))), words)
