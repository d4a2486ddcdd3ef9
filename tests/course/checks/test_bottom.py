"""The checks of notebook 05 tell right answers from the usual mistakes."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from answers import refused, right, wrong

from pixelprior.course.checks import bottom as check
from pixelprior.evaluation.measures import erase_top, image_nats


def raises(*_):
    raise RuntimeError("no")


def gain_by_package(with_top, without_top, codes):
    nats = image_nats(without_top, erase_top(codes)) - image_nats(with_top, codes)
    return nats.mean() / codes.z_bottom[0].numel()


@torch.no_grad()
def gain_by_hand(with_top, without_top, codes):
    z_top, z_bottom, labels = codes.batch(torch.arange(len(codes)))
    right = F.cross_entropy(with_top(z_bottom, z_top, labels), z_bottom)
    alone = F.cross_entropy(without_top(z_bottom, 0 * z_top, labels), z_bottom)
    return (alone - right).item()


def per_code(network, codes):
    return image_nats(network, codes).mean().item() / codes.z_bottom[0].numel()


def by_index(top, height, width):
    rows = torch.arange(height) * top.shape[2] // height
    columns = torch.arange(width) * top.shape[3] // width
    return top[:, :, rows][..., columns]


def by_repetition(top, height, width):
    top = top.repeat_interleave(height // top.shape[2], 2)
    return top.repeat_interleave(width // top.shape[3], 3)


def by_interpolation(top, height, width, mode="nearest"):
    return F.interpolate(top, size=(height, width), mode=mode)


def tiled(top, height, width):
    return top.repeat(1, 1, height // top.shape[2], width // top.shape[3])


@right(
    {
        "order_of_levels": ["cfebda", "CFEBDA", [*"cfebda"], "c, f, e, b, d, a"],
        "conditional_gain": [gain_by_package, gain_by_hand],
        "upsample": [by_index, by_repetition, by_interpolation],
    }
)
def test_a_right_answer_passes_however_it_is_written(check, answer, judge):
    assert judge(check, answer)


@wrong(
    {
        "order_of_levels": [
            ("fcebda", "needs the label"),
            ("cbfeda", "needs the condition"),
            ("cefbda", "needs z_top"),
            ("cfedba", "needs z_bottom"),
            ("cfebad", "needs the vectors"),
            ("cfebd", "each of"),
            ("cfebdd", "each of"),
            ("", "none"),
        ],
        "conditional_gain": [
            (lambda *given: -gain_by_package(*given), "wrong sign"),
            (lambda *given: 64 * gain_by_package(*given), "nats per image"),
            (lambda *given: gain_by_package(*given) / math.log(2), "bits"),
            (
                lambda a, b, c: per_code(a, erase_top(c)) - per_code(a, c),
                "trained with them",
            ),
            (lambda a, b, c: per_code(b, c) - per_code(a, c), "never saw"),
            (lambda a, b, c: per_code(a, c), "one of the two"),
            (lambda *_: 100.0, "another gain"),
            (
                lambda a, b, c: gain_by_package(a, b, c) * c.z_bottom[0].numel() / 64,
                "6 × 10",  # right for one grid size alone
            ),
            (raises, "raised RuntimeError"),
        ],
        "upsample": [
            (tiled, "side by side"),
            (lambda t, h, w: t, "shape [2, 3, 8, 8], but [2, 3, 16, 16]"),
            (lambda t, h, w: by_index(t, w, h), "swapped"),
            (lambda t, h, w: by_index(t.mT, h, w), "swapped"),
            (lambda t, h, w: by_index(t.flip(2), h, w), "does not lie"),
            (lambda t, h, w: by_index(t, h, w).roll(1, 3), "does not lie"),
            (lambda t, h, w: by_index(t.flip(1), h, w), "another image or"),
            (lambda t, h, w: by_index(t.flip(0), h, w), "another image or"),
            (lambda t, h, w: by_interpolation(t, h, w, "bilinear"), "several mixed"),
            (lambda t, h, w: by_index(t, h, w).detach(), "no gradient"),
            (lambda t, h, w: by_index(t, h, w).long(), "no features"),
            (lambda t, h, w: by_index(t, h, w) * math.nan, "no features"),
            (
                lambda t, h, w: by_repetition(t, 2 * t.shape[2], 2 * t.shape[3]),
                "5 × 3 over",
            ),
            (raises, "raised RuntimeError"),
        ],
    }
)
def test_another_answer_hears_what_is_wrong_with_it(check, answer, words, judge):
    refused(judge(check, answer), *words)


def test_only_one_order_of_the_steps_can_be_gone_through():
    orders = itertools.permutations("abcdef")
    assert [*filter(check.order_of_levels, orders)] == [tuple("cfebda")]


@pytest.fixture(scope="module")
def losses(prior, codes):
    return prior.loss_function(*codes.batch(torch.arange(1)))


@pytest.fixture(scope="module")
def levels(prior, codes):
    """Nats of the first image by its top codes and by its bottom codes."""
    return [
        image_nats(level, codes)[0] for level in (prior.prior_top, prior.prior_bottom)
    ]


def test_the_sum_over_both_levels_is_the_nats_of_an_image(levels, losses, judge):
    assert judge("nats_per_image", sum(levels))
    by_losses = 16 * losses["top_loss"] + 64 * losses["bottom_loss"]
    assert judge("nats_per_image", by_losses.item())


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda top, bottom, _: top, "one level alone"),
        (lambda top, bottom, _: bottom.item(), "one level alone"),
        (lambda top, bottom, _: -(top + bottom), "sign"),
        (lambda top, bottom, _: (top + bottom) / 80, "a mean over codes"),
        (lambda top, bottom, losses: losses["total_loss"].item(), "count alike"),
        (lambda top, bottom, _: (top + bottom) / math.log(2), "in bits"),
        (lambda *_: 1e6, "a sum of what"),
    ],
)
def test_another_cost_of_an_image_is_named(answer, words, levels, losses, judge):
    refused(judge("nats_per_image", answer(*levels, losses)), words)
