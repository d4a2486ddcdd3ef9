"""The checks of notebook 05 tell right answers from the usual mistakes."""

import math

import pytest
import torch
import torch.nn.functional as F

from pixelprior.course.checks import bottom as check
from pixelprior.data.codes import CodeData
from pixelprior.evaluation.measures import erase_top, image_nats
from pixelprior.pixelcnn import ConditionalPixelCNN
from pixelprior.prior import HierarchicalPixelCNN

ODD = ("words", object(), torch.zeros(2, 3), float("nan"), {"a": 1}, [None], True, -7)


def raises(*_):
    raise RuntimeError("no")


@pytest.fixture(scope="module")
def codes():
    generator = torch.Generator().manual_seed(1)
    return CodeData(
        torch.randint(5, (6, 4, 4), generator=generator),
        torch.randint(5, (6, 8, 8), generator=generator),
        None,
        5,
    )


@pytest.fixture(scope="module")
def pair():
    """Networks with the top and without it, whose predictions are far from uniform."""
    torch.manual_seed(3)
    networks = [ConditionalPixelCNN(5, 4, 4, 1).eval() for _ in range(2)]
    for network in networks:
        network.head[-1].weight.data *= 20
    return networks


@pytest.fixture(scope="module")
def prior():
    torch.manual_seed(4)
    prior = HierarchicalPixelCNN(5, 4, 4, 1).eval()
    for level in (prior.prior_top, prior.prior_bottom):
        level.head[-1].weight.data *= 20
    return prior


# The order of the levels.


def test_an_order_is_not_attempted_while_it_is_none():
    assert check.order_of_levels(None).passed is None


@pytest.mark.parametrize(
    "answer", ["cfebda", "CFEBDA", list("cfebda"), "c, f, e, b, d, a", tuple("cfebda")]
)
def test_label_top_condition_bottom_vectors_pixels_is_right(answer):
    assert check.order_of_levels(answer)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("fcebda", "needs the label"),
        ("cbfeda", "needs the condition"),
        ("cefbda", "needs z_top"),
        ("cfedba", "needs z_bottom"),
        ("cfebad", "needs the vectors"),
        ("cfebd", "each of"),
        ("cfebdd", "each of"),
        ("", "none"),
    ],
)
def test_a_step_that_comes_too_early_is_named(answer, words):
    verdict = check.order_of_levels(answer)
    assert verdict.passed is False and words in verdict.words


def test_only_one_order_of_the_steps_can_be_gone_through():
    from itertools import permutations

    right = [order for order in permutations("abcdef") if check.order_of_levels(order)]
    assert right == [tuple("cfebda")]


# The gain from the top codes.


def gain_by_package(with_top, without_top, codes):
    nats = image_nats(without_top, erase_top(codes)) - image_nats(with_top, codes)
    return nats.mean() / codes.z_bottom[0].numel()


@torch.no_grad()
def gain_by_hand(with_top, without_top, codes):
    z_top, z_bottom, labels = codes.batch(torch.arange(len(codes)))
    right = F.cross_entropy(with_top(z_bottom, z_top, labels), z_bottom)
    alone = F.cross_entropy(without_top(z_bottom, 0 * z_top, labels), z_bottom)
    return (alone - right).item()


@pytest.mark.parametrize("gain", [gain_by_package, gain_by_hand])
def test_the_nats_that_the_twin_without_top_costs_more_are_the_gain(gain, pair, codes):
    assert check.conditional_gain(gain, *pair, codes)


def test_a_gain_is_not_attempted_while_it_is_none(pair, codes):
    assert check.conditional_gain(None, *pair, codes).passed is None
    assert check.conditional_gain(lambda *_: None, *pair, codes).passed is None


def per_code(network, codes):
    return image_nats(network, codes).mean().item() / codes.z_bottom[0].numel()


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        (lambda a, b, c: -gain_by_package(a, b, c), "wrong sign"),
        (lambda a, b, c: 64 * gain_by_package(a, b, c), "nats per image"),
        (lambda a, b, c: gain_by_package(a, b, c) / math.log(2), "bits"),
        (
            lambda a, b, c: per_code(a, erase_top(c)) - per_code(a, c),
            "trained with them",
        ),
        (lambda a, b, c: per_code(b, c) - per_code(a, c), "never saw"),
        (lambda a, b, c: per_code(a, c), "one of the two"),
        (lambda a, b, c: 100.0, "another gain"),
    ],
)
def test_the_usual_mistakes_about_a_gain_are_named(gain, words, pair, codes):
    verdict = check.conditional_gain(gain, *pair, codes)
    assert verdict.passed is False and words in verdict.words


def test_a_gain_that_holds_for_one_grid_size_is_not_enough(pair, codes):
    def gain(with_top, without_top, codes):
        nats = image_nats(without_top, erase_top(codes)) - image_nats(with_top, codes)
        return nats.mean() / 64

    verdict = check.conditional_gain(gain, *pair, codes)
    assert verdict.passed is False and "6 × 10" in verdict.words


def test_judging_a_gain_leaves_the_random_numbers_as_they_were(pair, codes):
    torch.manual_seed(0)
    wanted = torch.rand(3)
    torch.manual_seed(0)
    check.conditional_gain(gain_by_package, *pair, codes)
    assert torch.equal(torch.rand(3), wanted)


# Enlarging.


def by_index(top, height, width):
    rows = torch.arange(height) * top.shape[2] // height
    columns = torch.arange(width) * top.shape[3] // width
    return top[:, :, rows][..., columns]


def by_repetition(top, height, width):
    top = top.repeat_interleave(height // top.shape[2], 2)
    return top.repeat_interleave(width // top.shape[3], 3)


def by_interpolation(top, height, width):
    return F.interpolate(top, size=(height, width))


def by_expansion(top, height, width):
    b, p, high, wide = top.shape
    top = top[:, :, :, None, :, None]
    top = top.expand(b, p, high, height // high, wide, width // wide)
    return top.reshape(b, p, height, width)


@pytest.mark.parametrize(
    "enlarge", [by_index, by_repetition, by_interpolation, by_expansion]
)
def test_each_code_repeated_over_its_square_is_enlarged_rightly(enlarge):
    assert check.upsample(enlarge)


def test_enlarging_is_not_attempted_while_it_is_none():
    assert check.upsample(None).passed is None
    assert check.upsample(lambda *_: None).passed is None


def tiled(top, height, width):
    return top.repeat(1, 1, height // top.shape[2], width // top.shape[3])


@pytest.mark.parametrize(
    ("enlarge", "words"),
    [
        (tiled, "side by side"),
        (lambda t, h, w: t, "shape [2, 3, 8, 8], but [2, 3, 16, 16]"),
        (lambda t, h, w: by_index(t, w, h), "swapped"),
        (lambda t, h, w: by_index(t.mT, h, w), "swapped"),
        (lambda t, h, w: by_index(t.flip(2), h, w), "does not lie"),
        (lambda t, h, w: by_index(t, h, w).roll(1, 3), "does not lie"),
        (lambda t, h, w: by_index(t.flip(1), h, w), "another image or"),
        (lambda t, h, w: by_index(t.flip(0), h, w), "another image or"),
        (
            lambda t, h, w: F.interpolate(t, size=(h, w), mode="bilinear"),
            "several mixed",
        ),
        (lambda t, h, w: by_index(t, h, w).detach(), "no gradient"),
        (lambda t, h, w: by_index(t, h, w).long(), "no features"),
        (lambda t, h, w: by_index(t, h, w) * math.nan, "no features"),
        (
            lambda t, h, w: t.repeat_interleave(2, 2).repeat_interleave(2, 3),
            "5 × 3 over 15 × 9",
        ),
        (raises, "raised RuntimeError"),
    ],
)
def test_the_usual_mistakes_about_enlarging_are_named(enlarge, words):
    verdict = check.upsample(enlarge)
    assert verdict.passed is False and words in verdict.words


# Nats of an image.


def test_the_sum_over_both_levels_is_the_nats_of_an_image(prior, codes):
    top, bottom = (
        image_nats(prior.prior_top, codes),
        image_nats(prior.prior_bottom, codes),
    )
    one = CodeData(codes.z_top[:1], codes.z_bottom[:1], None, 5)
    assert check.nats_per_image(top[:1] + bottom[:1], prior, one)
    losses = prior.loss_function(one.z_top, one.z_bottom)
    by_losses = 16 * losses["top_loss"] + 64 * losses["bottom_loss"]
    assert check.nats_per_image(by_losses.item(), prior, one)
    assert check.nats_per_image(None, prior, one).passed is None
    for wrong, words in (
        (top[0], "one level alone"),
        (bottom[0].item(), "one level alone"),
        (-(top[0] + bottom[0]), "sign"),
        ((top[0] + bottom[0]) / 80, "a mean over codes"),
        (losses["total_loss"].item(), "count alike"),
        ((top[0] + bottom[0]) / math.log(2), "in bits"),
        (1e6, "a sum of what"),
    ):
        verdict = check.nats_per_image(wrong, prior, one)
        assert verdict.passed is False and words in verdict.words, words


@pytest.mark.parametrize("odd", ODD)
def test_no_odd_answer_ends_in_an_exception(odd, prior, pair, codes):
    for verdict in (
        check.order_of_levels(odd),
        check.conditional_gain(odd, *pair, codes),
        check.conditional_gain(lambda *_: odd, *pair, codes),
        check.conditional_gain(raises, *pair, codes),
        check.upsample(odd),
        check.upsample(lambda *_: odd),
        check.nats_per_image(odd, prior, codes),
    ):
        assert verdict.passed is False and verdict.words.startswith("not yet: ")
