"""Checks of notebook 00: right answers pass, and each mistake has its own message."""

import math

import torch
from answers import right, wrong

from pixelprior.course.checks import pipeline as check

PIXELS = (8, 11, 20, 23)


test_a_right_answer_passes_in_any_form = right(
    forward_passes=[2 * 3 + 4 * 6, torch.tensor(30.0)],
    pixels_of_code=[PIXELS, torch.tensor(PIXELS)],
    impostor=[5, torch.tensor([5])],
    bits=[check.bits_of_grid, lambda h, w, k: torch.tensor(k**-h).log2() * -w],
)


test_another_answer_hears_what_is_wrong_with_it = wrong(
    forward_passes=[
        (24, "24 is fewer"),  # the bottom alone
        (2 * 30, "60 is more"),  # one image at a time
        (6, "6 is fewer"),  # the top alone
    ],
    pixels_of_code=[
        ((4, 5, 10, 11), "2 rows and 2 columns"),  # of the bottom's codes
        ((8, 12, 20, 24), "5 rows and 5 columns"),  # the end left out
        ((20, 23, 8, 11), "which two of your numbers are rows"),
        ((9, 12, 21, 24), "count codes and pixels from 0"),
        ((8, 11, 24, 27), "other pixels change more"),  # the neighbour
        ((-4, -1, -4, -1), "other pixels change more"),
    ],
    bits=[
        (lambda h, w, k: h * w * math.log(k), "with base 2"),
        (lambda h, w, k: math.log2(k), "how many codes"),  # of one
        (lambda h, w, k: h * w * k, "of 1 × 1 codes, each one of 8, takes 8.00"),
        (lambda h, w, k: h * w * math.ceil(math.log2(k)), "each one of 30"),
    ],
    impostor=[
        (2, "given its top codes, image 2 costs ", "another image costs more"),
        (0, "given its top codes, image 0 costs ", "another image costs more"),
        (8, "8 is no image; count from 0 to 7"),
    ],
)


def test_one_of_the_suspects_has_top_codes_that_are_not_its_own(shipped, heldout_codes):
    before, eight = heldout_codes.z_top.clone(), check.suspects(heldout_codes)
    assert torch.equal(heldout_codes.z_top, before)
    tops = before.flatten(1)
    numbers = [
        int((heldout_codes.z_bottom == bottom).flatten(1).all(dim=1).nonzero()[0])
        for bottom in eight.z_bottom
    ]
    own = (tops[numbers] == eight.z_top.flatten(1)).all(dim=1).tolist()
    assert own.count(False) == 1
    assert check.impostor(own.index(False), shipped[1], eight)


def test_the_blocks_are_named_in_turn_and_none_is_lost():
    blocks = check.shuffled(*torch.arange(3.0).split(1))
    assert list(blocks) == ["block A", "block B", "block C"]
    assert sorted(map(float, blocks.values())) == [0, 1, 2]


def test_photographs_come_by_class_in_turn(heldout_images):
    images = check.of_each_class(heldout_images, 2)
    second = (heldout_images.labels == 3).nonzero()[1]
    assert len(images) == 20
    assert torch.equal(images[13], heldout_images[second][0][0])
