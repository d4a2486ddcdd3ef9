"""Checks of notebook 00: right answers pass, and each mistake has its own message."""

import pytest
import torch

from pixelprior.course.checks import pipeline as check
from pixelprior.data.codes import extract_codes
from pixelprior.evaluation.measures import image_nats

ODD = (
    ["seven", [], {}, (1, 2), object(), float("nan"), float("inf"), -1, True, 1e300]
    + [torch.ones(2), torch.tensor([]), "abcd", (None,) * 4, ("a", "b", "c", "d")]
    + [(float("inf"),) * 4, (0, 0, 0, 0), (-4, -1, -4, -1), (30, 33, 30, 33)]
)
each_odd_answer = pytest.mark.parametrize("answer", ODD)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """With so few numbers, more threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def images(heldout_images):
    return heldout_images[torch.arange(4)][0]


def runs(answer, shapes=((2, 3), (4, 6))):
    return check.forward_passes(answer, 2, *shapes)


@pytest.fixture
def pixels(shipped, images):
    return lambda answer, position=(2, 5): check.pixels_of_code(
        answer, shipped[0], images, position
    )


@pytest.fixture(scope="module")
def swapped(shipped, heldout_images):
    """Eight photographs in codes; the sixth one has the top codes of another one of its
    class."""
    vqvae2, prior = shipped
    codes = extract_codes(vqvae2, heldout_images)
    eight = codes.subset(torch.arange(8))
    of_class = (codes.labels == eight.labels[5]).nonzero().flatten()
    eight.z_top[5] = codes.z_top[of_class[of_class > 8][0]]
    return lambda answer: check.impostor(answer, prior, eight)


def test_one_of_the_suspects_has_top_codes_that_are_not_its_own(
    shipped, heldout_images
):
    codes = extract_codes(shipped[0], heldout_images)
    before, eight = codes.z_top.clone(), check.suspects(codes)
    assert eight.labels.tolist() == [*range(8)] and torch.equal(codes.z_top, before)
    whole = {(t.tobytes(), b.tobytes()) for t, b in zip(*grids_of(codes), strict=True)}
    own = [
        (t.tobytes(), b.tobytes()) in whole
        for t, b in zip(*grids_of(eight), strict=True)
    ]
    assert own.count(False) == 1
    assert check.impostor(own.index(False), shipped[1], eight)


def grids_of(codes):
    return codes.z_top.numpy(), codes.z_bottom.numpy()


def test_the_cost_of_an_image_is_that_of_its_bottom_codes(shipped, heldout_images):
    vqvae2, prior = shipped
    codes = extract_codes(vqvae2, heldout_images).subset(torch.arange(3))
    nats = image_nats(prior.prior_bottom, codes) / 256
    cheap, most = nats.argmin().item(), nats.argmax().item()
    assert f"costs {nats[cheap]:.1f} nats" in repr(check.impostor(cheap, prior, codes))
    others = nats[torch.arange(3) != most].median()
    words = f"costs {nats[most]:.1f} nats per bottom code, the others {others:.1f}"
    assert words in repr(check.impostor(most, prior, codes))


def test_stubs_are_not_attempted(pixels, swapped):
    for judge in (runs, pixels, swapped):
        assert judge(None).passed is None


def test_a_run_for_each_code_is_right():
    words = "right: 30 runs were counted while 2 images were drawn"
    assert repr(runs(2 * 3 + 4 * 6)) == words
    assert runs(torch.tensor(30.0)) and runs(3 + 4, ((1, 3), (2, 2)))


def test_rows_and_columns_that_changed_places_are_asked_for(pixels):
    assert "which two of your numbers are rows" in repr(pixels((20, 23, 8, 11)))
    assert "count rows and columns" in repr(pixels((12, 15, 16, 19)))


def test_the_grids_of_the_notebook_take_320_runs():
    assert check.forward_passes(320, 1, (8, 8), (16, 16))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (6, "6 is fewer"),  # the top alone
        (24, "24 is fewer"),  # the bottom alone
        (1, "1 is fewer"),
        (2 * 30, "60 is more"),  # one image at a time
        (8 * 12, "96 is more"),  # pixels
    ],
)
def test_another_number_of_runs_hears_whether_it_is_too_few_or_many(answer, words):
    verdict = runs(answer)
    assert verdict.passed is False
    assert words in repr(verdict) and "30" not in repr(verdict)


@pytest.mark.parametrize(
    ("answer", "position"),
    [
        ((8, 11, 20, 23), (2, 5)),
        ([8, 11, 20, 23], (2, 5)),
        (torch.tensor([8, 11, 20, 23]), (2, 5)),
        ((12, 15, 16, 19), (3, 4)),
    ],
)
def test_the_pixels_over_which_a_code_stands_are_right(pixels, answer, position):
    assert pixels(answer, position)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((2, 2, 5, 5), "1 rows and 1 columns"),  # of codes, not of pixels
        ((4, 5, 10, 11), "2 rows and 2 columns"),  # of the bottom's codes
        ((8, 12, 20, 24), "5 rows and 5 columns"),  # the end left out
        ((11, 8, 23, 20), "-2 rows"),
        ((20, 23, 8, 11), "other pixels change more"),  # row and column swapped
        ((9, 12, 21, 24), "other pixels change more"),  # counted from 1
        ((4, 7, 16, 19), "other pixels change more"),  # codes counted from 1
        ((8, 11, 24, 27), "other pixels change more"),  # the neighbour
        ((8, 11, 20), "four whole numbers are needed"),
        (8, "four whole numbers are needed"),
    ],
)
def test_other_pixels_hear_what_is_wrong_with_them(pixels, answer, words):
    verdict = pixels(answer)
    assert verdict.passed is False and words in repr(verdict)


@pytest.mark.parametrize("answer", [5, 5.0, torch.tensor(5), torch.tensor([5])])
def test_the_image_with_the_swapped_top_is_right(swapped, answer):
    assert swapped(answer)
    assert repr(swapped(answer)).startswith("right: given its top codes, image 5 costs")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (2, "given its top codes, image 2 costs "),
        (6, "another image costs more"),  # counted from 1
        (8, "8 is no image; count from 0 to 7"),
        (-3, "-3 is no image"),
        (4.5, "4.5 is no image"),
    ],
)
def test_another_image_hears_what_it_costs(swapped, answer, words):
    verdict = swapped(answer)
    assert verdict.passed is False and words in repr(verdict)


@each_odd_answer
def test_odd_answers_are_wrong_and_raise_nothing(answer, pixels, swapped):
    for judge in (runs, pixels, swapped):
        verdict = judge(answer)
        assert verdict.passed is False and repr(verdict).startswith("not yet: ")
