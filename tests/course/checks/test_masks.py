"""Checks of notebook 02: a mask is judged only by what it lets through."""

import pytest
import torch
from torch import nn

from pixelprior.course.checks import masks as check
from pixelprior.layers import MaskedConv2d


def mask_of(mask_type, size=3):
    return MaskedConv2d(mask_type, 1, 1, size).mask


def changed(mask, row, column):
    mask = mask.clone()
    mask[row, column] = 1 - mask[row, column]
    return mask


@pytest.mark.parametrize("mask_type", ["A", "B"])
@pytest.mark.parametrize("size", [3, 5, 7])
def test_the_right_mask_passes(mask_type, size):
    numbers = torch.arange(size * size).view(size, size)
    ones = size * size // 2 + (mask_type == "B")
    by_number = numbers < ones
    given = mask_of(mask_type, size)
    for mask in (given, given.bool(), by_number.long()):
        assert check.mask(mask, mask_type, size, ones).passed


def test_the_number_of_ones_is_to_be_predicted_as_well():
    def judge(ones):
        return check.mask(mask_of("A", 7), "A", 7, ones)

    for ones in (24, torch.tensor(24.0), torch.tensor([24])):
        assert judge(ones).passed
    for ones, words in [(None, "how many ones did you predict"), (25, "have 25 ones")]:
        assert judge(ones).passed is False and words in repr(judge(ones))
    for odd in ("24", [24], float("nan"), True):
        assert judge(odd).passed is False


@pytest.mark.parametrize(
    ("mask", "mask_type", "words"),
    [
        (mask_of("B"), "A", "(3, 3) sees itself"),
        (mask_of("A"), "B", "does not see itself"),
        (changed(mask_of("A"), 1, 2), "A", "its own future at (3, 4)"),
        (changed(mask_of("B"), 2, 0), "B", "its own future at (4, 2)"),
        (changed(mask_of("A"), 0, 2), "A", "does not see its past at (2, 4)"),
        (mask_of("A").T, "A", "its own future at (4, 2)"),
        (torch.ones(3, 3), "A", "sees itself"),
        (torch.zeros(3, 3), "A", "does not see its past at (2, 2)"),
        (mask_of("A") * 0.5, "A", "other values than 0 and 1"),
        (mask_of("A") * float("nan"), "A", "other values than 0 and 1"),
        (mask_of("A", 5), "A", "has shape [5, 5], but [3, 3]"),
        ([[1, 1, 1], [1, 0, 0], [0, 0, 0]], "A", "a tensor is needed"),
    ],
)
def test_a_wrong_mask_is_told_what_is_wrong(mask, mask_type, words):
    verdict = check.mask(mask, mask_type, 3, 4 + (mask_type == "B"))
    assert verdict.passed is False and words in verdict.words


def test_a_function_has_to_be_right_for_every_size():
    assert check.mask_function(lambda size: mask_of("B", size), "B").passed
    verdict = check.mask_function(lambda size: mask_of("B", 3), "B")
    assert verdict.passed is False and "size 5" in verdict.words

    def raises(size):
        raise KeyError(size)

    for odd in (3, raises, mask_of):
        assert check.mask_function(odd, "B").passed is False


def suspect(broken):
    torch.manual_seed(0)
    layers = [MaskedConv2d("A", 3, 4), nn.ELU(), MaskedConv2d("B", 4, 4)]
    layers += [nn.ELU(), MaskedConv2d("B", 4, 4)]
    layers[broken].mask[1, 1:] = 1
    return layers


@pytest.mark.parametrize("broken", [0, 2, 4])
def test_the_layer_that_leaks_is_the_one_whose_correction_stops_the_leak(broken):
    layers = suspect(broken)
    assert check.leaking_layer(broken, layers, (8, 8)).passed
    assert check.leaking_layer(torch.tensor(broken), layers, (8, 8)).passed
    for other in {0, 2, 4} - {broken}:
        verdict = check.leaking_layer(other, layers, (8, 8))
        assert verdict.passed is False and "(4, 4) still sees" in verdict.words
    assert layers[broken].mask[1, 2] == 1, "the learner's stack was changed"


@pytest.mark.parametrize("odd", [1, 5, -1, 0.5, "2", [2], float("nan"), True])
def test_an_odd_number_of_a_layer_is_told_so(odd):
    assert check.leaking_layer(odd, suspect(2), (8, 8)).passed is False


def test_stubs_are_not_attempted():
    assert check.mask(None, "A", 3, None).passed is None
    assert check.mask_function(lambda size: None, "B").passed is None
    assert check.leaking_layer(None, suspect(2), (8, 8)).passed is None
