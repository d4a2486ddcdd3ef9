"""Checks of notebook 00: right answers pass, and each mistake has its own message."""

import math

import pytest
import torch
from answers import refused, right, wrong

from pixelprior.course.checks import pipeline as check
from pixelprior.evaluation.measures import image_nats

PIXELS = (8, 11, 20, 23)


@right(
    {
        "forward_passes": [2 * 3 + 4 * 6, torch.tensor(30.0)],
        "pixels_of_code": [PIXELS, [*PIXELS], torch.tensor(PIXELS)],
        "impostor": [5, 5.0, torch.tensor([5])],
        "bits": [check.bits_of_grid, lambda h, w, k: torch.tensor(k**-h).log2() * -w],
    }
)
def test_a_right_answer_passes_in_any_form(check, answer, judge):
    assert judge(check, answer)


@wrong(
    {
        "forward_passes": [
            (6, "6 is fewer"),  # the top alone
            (24, "24 is fewer"),  # the bottom alone
            (2 * 30, "60 is more"),  # one image at a time
        ],
        "pixels_of_code": [
            ((2, 2, 5, 5), "1 rows and 1 columns"),  # of codes, not of pixels
            ((4, 5, 10, 11), "2 rows and 2 columns"),  # of the bottom's codes
            ((8, 12, 20, 24), "5 rows and 5 columns"),  # the end left out
            ((11, 8, 23, 20), "the first row comes before the last"),
            ((20, 23, 8, 11), "which two of your numbers are rows"),
            ((9, 12, 21, 24), "other pixels change more"),  # counted from 1
            ((4, 7, 16, 19), "count codes and pixels from 0"),  # codes counted from 1
            ((8, 11, 24, 27), "other pixels change more"),  # the neighbour
            ((-4, -1, -4, -1),),
            ((30, 33, 30, 33),),
            ((0, 0, 0, 0),),
            ((8, 11, 20), "four whole numbers are needed"),
            (8, "four whole numbers are needed"),
        ],
        "bits": [
            (lambda h, w, k: h * w * math.log(k), "with base 2"),
            (lambda h, w, k: math.log2(k), "how many codes are there"),  # of one
            (lambda h, w, k: k * math.log2(h * w), "takes 0.00 bits"),
            (
                lambda h, w, k: h * w * k / 2,
                "of 1 × 1 codes, each one of 8, takes 4.00",
            ),
            (
                lambda h, w, k: h * w * math.ceil(math.log2(k)),
                "each one of 30, takes 40",
            ),
        ],
        "impostor": [
            (2, "given its top codes, image 2 costs "),
            (6, "another image costs more"),  # counted from 1
            (8, "8 is no image; count from 0 to 7"),
            (-3, "-3 is no image"),
            (4.5, "4.5 is no image"),
        ],
    }
)
def test_another_answer_hears_what_is_wrong_with_it(check, answer, words, judge):
    refused(judge(check, answer), *words)


def test_the_number_of_runs_is_said_of_a_right_answer_alone(judge):
    words = "right: 30 runs were counted while 2 images were drawn"
    assert repr(judge("forward_passes", 30)) == words
    assert "30" not in repr(judge("forward_passes", 60))


@pytest.mark.parametrize(
    ("answer", "top", "bottom"), [(7, (1, 3), (2, 2)), (320, (8, 8), (16, 16))]
)
def test_runs_are_counted_for_grids_of_any_shape(answer, top, bottom):
    assert check.forward_passes(answer, 1, top, bottom)


def test_another_code_covers_other_pixels(shipped, four_photographs):
    verdict = check.pixels_of_code(
        (12, 15, 16, 19), shipped[0], four_photographs, (3, 4)
    )
    assert verdict


def grids_of(codes):
    both = zip(codes.z_top.numpy(), codes.z_bottom.numpy(), strict=True)
    return [(top.tobytes(), bottom.tobytes()) for top, bottom in both]


def test_one_of_the_suspects_has_top_codes_that_are_not_its_own(shipped, heldout_codes):
    before, eight = heldout_codes.z_top.clone(), check.suspects(heldout_codes)
    assert eight.labels.tolist() == [*range(8)]
    assert torch.equal(heldout_codes.z_top, before)
    whole = {*grids_of(heldout_codes)}
    own = [grids in whole for grids in grids_of(eight)]
    assert own.count(False) == 1
    assert check.impostor(own.index(False), shipped[1], eight)


def test_the_cost_of_an_image_is_that_of_its_bottom_codes(shipped, heldout_codes):
    prior, codes = shipped[1], heldout_codes.subset(torch.arange(3))
    nats = image_nats(prior.prior_bottom, codes) / 256
    cheap, most = nats.argmin().item(), nats.argmax().item()
    assert f"costs {nats[cheap]:.1f} nats" in repr(check.impostor(cheap, prior, codes))
    words = f"image {most} costs {nats[most]:.1f} nats per bottom code, the next "
    assert f"{words}{nats.sort().values[-2]:.1f}" in repr(
        check.impostor(most, prior, codes)
    )


def test_the_blocks_are_named_in_turn_and_none_is_lost():
    given = torch.arange(3.0).split(1)
    blocks = check.shuffled(*given)
    assert list(blocks) == ["block A", "block B", "block C"]
    assert sorted(map(float, blocks.values())) == [0, 1, 2]


def test_photographs_come_by_class_in_turn(heldout_images):
    images = check.of_each_class(heldout_images, 2)
    assert len(images) == 20
    first, second = (heldout_images.labels == 3).nonzero().flatten()[:2]
    assert torch.equal(images[3], heldout_images[first[None]][0][0])
    assert torch.equal(images[13], heldout_images[second[None]][0][0])
