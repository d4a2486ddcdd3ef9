"""Checks of notebook 02: a mask is judged only by what it lets through."""

import pytest
import torch
from answers import refused, suspects, wrong

from pixelprior.course.checks import masks as check
from pixelprior.layers import MaskedConv2d


def mask_of(mask_type, size=3):
    return MaskedConv2d(mask_type, 1, 1, size).mask


def changed(mask, row, column):
    mask = mask.clone()
    mask[row, column] = 1 - mask[row, column]
    return mask


def raises(size):
    raise KeyError(size)


@pytest.mark.parametrize("mask_type", ["A", "B"])
@pytest.mark.parametrize("size", [3, 5, 7])
def test_the_right_mask_passes(mask_type, size):
    numbers = torch.arange(size * size).view(size, size)
    ones = size * size // 2 + (mask_type == "B")
    given = mask_of(mask_type, size)
    for mask in (given, given.bool(), (numbers < ones).long()):
        for predicted in (ones, torch.tensor([float(ones)])):
            assert check.mask(mask, mask_type, size, predicted)
    assert check.mask_function(lambda size: mask_of(mask_type, size), mask_type)


@pytest.mark.parametrize(
    ("ones", "words"),
    [(None, "how many ones did you predict"), (25, "have 25 ones")]
    + [(odd, "") for odd in ("24", [24], float("nan"), True)],
)
def test_the_number_of_ones_is_to_be_predicted_as_well(ones, words):
    refused(check.mask(mask_of("A", 7), "A", 7, ones), words)


@wrong(
    {
        "mask": [
            (mask_of("B"), "(3, 3) sees itself"),
            (changed(mask_of("A"), 1, 2), "its own future at (3, 4)"),
            (changed(mask_of("A"), 0, 2), "does not see its past at (2, 4)"),
            (mask_of("A").T, "its own future at (4, 2)"),
            (torch.ones(3, 3), "sees itself"),
            (torch.zeros(3, 3), "does not see its past at (2, 2)"),
            (mask_of("A") * 0.5, "other values than 0 and 1"),
            (mask_of("A") * float("nan"), "other values than 0 and 1"),
            (mask_of("A", 5), "has shape [5, 5], but [3, 3]"),
            ([[1, 1, 1], [1, 0, 0], [0, 0, 0]], "a tensor is needed"),
        ],
        "mask_b": [
            (mask_of("A"), "does not see itself"),
            (changed(mask_of("B"), 2, 0), "its own future at (4, 2)"),
        ],
        "mask_function": [
            (lambda size: mask_of("B", 3), "size 5"),
            (raises, "raised KeyError"),
            (mask_of, "raised ValueError"),
        ],
        "leaking_layer": [
            (0, "(4, 4) still sees"),
            (1, "is no convolution"),
            (5, "5 is no layer"),
            (0.5, "0.5 is no layer"),
        ],
    }
)
def test_another_answer_hears_what_is_wrong_with_it(check, answer, words, judge):
    refused(judge(check, answer), *words)


@pytest.mark.parametrize("broken", [0, 2, 4])
def test_the_layer_that_leaks_is_the_one_whose_correction_stops_the_leak(broken):
    layers = suspects(broken)
    assert check.leaking_layer(broken, layers, (8, 8))
    assert check.leaking_layer(torch.tensor(broken), layers, (8, 8))
    for other in {0, 2, 4} - {broken}:
        refused(check.leaking_layer(other, layers, (8, 8)), "(4, 4) still sees")
    assert layers[broken].mask[1, 2] == 1, "the learner's stack was changed"
