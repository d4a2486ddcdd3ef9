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
    assert check.mask(mask_of(mask_type, size), mask_type, size).passed
    assert check.mask(mask_of(mask_type, size).bool(), mask_type, size).passed
    numbers = torch.arange(size * size).view(size, size)
    middle = size * size // 2
    by_number = numbers < middle + (mask_type == "B")
    assert check.mask(by_number.long(), mask_type, size).passed


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
    verdict = check.mask(mask, mask_type, 3)
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
    assert check.mask(None, "A", 3).passed is None
    assert check.mask_function(lambda size: None, "B").passed is None
    assert check.leaking_layer(None, suspect(2), (8, 8)).passed is None
