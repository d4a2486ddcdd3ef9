"""The checks of notebook 08 tell right answers from the usual mistakes."""

import pytest
import torch
from answers import K, refused, right, wrong

from pixelprior.course.checks import editing as check
from pixelprior.editing import codes_of
from pixelprior.sampling import inverse_cdf, probabilities


def filling(choose, end=lambda codes, known: codes):
    """An answer whose code at a position is what `choose` makes of the drawn code and
    of what is known there."""

    @torch.no_grad()
    def answer(logits_of, known, uniform):
        codes = known.clamp(min=0)
        for y in range(known.shape[1]):
            for x in range(known.shape[2]):
                probs = probabilities(logits_of(codes)[:, :, y, x])
                drawn = inverse_cdf(probs, uniform[:, y, x])
                codes[:, y, x] = choose(drawn, known[:, y, x])
        return end(codes, known)

    return answer


def kept(drawn, given):
    return torch.where(given < 0, drawn, given)


def pasted(codes, known):
    return torch.where(known < 0, codes, known)


def squares(known, side):
    return known.view(side, 32 // side, side, 32 // side)


COLUMNS = torch.arange(8).expand(8, 8)
ROWS = COLUMNS.T
NONE = torch.zeros(8, 8).bool()


def masked(*at):
    mask = NONE.clone()
    mask[at] = True
    return mask


test_a_right_answer_passes_however_it_is_written = right(
    fill_in=[filling(kept), filling(lambda d, g: g + (d + 1) * (g < 0))],
    known_codes=[
        lambda known, side: squares(known.float(), side).amin(dim=(1, 3)) == 1,
        lambda known, side: squares(known, side).all(3).all(1),
    ],
)


test_another_answer_hears_what_is_wrong_with_it = wrong(
    fill_in=[
        (filling(lambda drawn, _: drawn), "is known in image 0"),
        (
            filling(lambda d, g: torch.where(g > 0, g, d)),
            "code 0 is known in image",
        ),
        (filling(lambda d, g: torch.where(g < 0, g, d)), "the network is given −1"),
        (filling(lambda d, _: d, pasted), "the network has never seen them"),
        (filling(lambda d, g: kept(d.flip(0), g)), "the inverse CDF draws others"),
    ],
    known_codes=[
        (
            lambda k, side: squares(k, side).any(3).any(1),
            "of 16 pixels of the code",
        ),
        (lambda k, side: k[:: 32 // side, :: 32 // side], "yours is True"),
        (lambda k, side: squares(k, side).all(3), "shape [8, 4, 8]"),
        (lambda k, side: check.all_known(k, side) & NONE, "yours is False"),
    ],
    reveals=[
        (COLUMNS < 4, "your mask has 32 known codes"),
        (masked(3, 7), "the last of its row"),
        (masked(3, 6).long(), "a mask of True and False is needed"),
    ],
)


@pytest.mark.parametrize("mask", [check.REVEALING, masked(0, 6), masked(7, 6)])
def test_a_code_that_is_not_the_last_of_its_row_reveals_the_mistake(mask, judge):
    verdict = judge("reveals", mask)
    assert verdict and "are equal" not in verdict.words


@pytest.fixture(scope="module")
def varied(vqvae2, prior):
    def answer(images, labels, seed):
        z_top, _ = codes_of(vqvae2, prior, images)
        told = {"labels": labels, "seed": seed, "known_top": z_top}
        return prior.sample(len(images), (4, 4), (8, 8), **told)

    return answer


def test_a_texture_is_right_if_the_top_is_kept_and_the_bottom_drawn(
    judge, varied, vqvae2, prior
):
    assert judge("texture", varied)

    def own(images):
        return codes_of(vqvae2, prior, images)

    def drawn(images, labels, seed):
        return prior.sample(len(images), (4, 4), (8, 8), labels=labels, seed=seed)

    def any_bottom(images, labels, seed):
        torch.manual_seed(seed)
        z = torch.randint(K, (len(labels), 8, 8)) + labels[:, None, None]
        return own(images)[0], z % K

    for answer, words in (
        (lambda i, n, s: own(i), "no bottom code changes with `seed`"),
        (lambda i, n, s: varied(i, n, None), "the same seed gives other bottom codes"),
        (lambda i, n, s: varied(i, 0 * n, s), "no bottom code changes with `labels`"),
        (lambda i, n, s: varied(i, n.flip(0), s), "labels of the other images"),
        (drawn, "not the images' own"),
        (any_bottom, "is the top known while yours are drawn"),
    ):
        refused(judge("texture", answer), words)


def test_the_cache_draws_what_the_passes_draw_unless_it_makes_the_mistake():
    level, codes, uniform = check._small(8, 8, 8)
    checkerboard = (ROWS + COLUMNS) % 2 == 0
    for mask, kept_right in ((ROWS < 4, True), (checkerboard, False)):
        known = codes.masked_fill(~mask, -1)
        wanted = check.filled_in(level, known, uniform)
        for mistaken in (False, True):
            given = check.cached(level, known, None, uniform, mistaken=mistaken)
            said = check.first_difference(wanted, given)
            assert (said == "the grids are equal") == (kept_right or not mistaken)
            assert torch.equal(given[:, mask], codes[:, mask])
