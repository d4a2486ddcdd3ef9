"""The checks of notebook 08 tell right answers from the usual mistakes."""

import pytest
import torch
from answers import K, refused, right, wrong

from pixelprior import vary
from pixelprior.course.checks import editing as check
from pixelprior.editing import codes_of
from pixelprior.sampling import inverse_cdf, probabilities


def filling(choose, *, start=lambda known: known.clamp(min=0), end=None):
    """An answer whose code at a position is what `choose` makes of the drawn code, what
    is known there, and the same for the whole batch, with the position."""

    @torch.no_grad()
    def answer(logits_of, known, uniform):
        codes = start(known)
        for y in range(known.shape[1]):
            for x in range(known.shape[2]):
                probs = probabilities(logits_of(codes)[:, :, y, x])
                drawn = inverse_cdf(probs, uniform[:, y, x])
                codes[:, y, x] = choose(drawn, known[:, y, x])
        return codes if end is None else end(codes, known)

    return answer


def kept(drawn, given):
    return torch.where(given < 0, drawn, given)


def by_index(drawn, given):
    drawn[given >= 0] = given[given >= 0]
    return drawn


def image_by_image(drawn, given):
    both = zip(drawn.tolist(), given.tolist(), strict=True)
    return torch.tensor([d if g == -1 else g for d, g in both])


def pasted(codes, known):
    return torch.where(known < 0, codes, known)


def squares(known, side):
    return known.view(side, 32 // side, side, 32 // side)


def by_minimum(known, side):
    return squares(known.float(), side).amin(dim=(1, 3)) == 1


COLUMNS = torch.arange(8).expand(8, 8)
ROWS = COLUMNS.T
NONE = torch.zeros(8, 8).bool()


def masked(at):
    mask = NONE.clone()
    mask[at] = True
    return mask


@right(
    {
        "fill_in": [
            check.filled_in,
            filling(kept),
            filling(by_index),
            filling(image_by_image),
            filling(kept, end=lambda codes, _: codes.int()),
            filling(kept, start=lambda known: torch.zeros_like(known)),
        ],
        "known_codes": [
            check.all_known,
            by_minimum,
            lambda known, side: squares(known, side).all(3).all(1),
        ],
        "reveals": [
            check.REVEALING,
            *(masked((y, x)) for y in range(8) for x in range(7)),
        ],
    }
)
def test_a_right_answer_passes_however_it_is_written(check, answer, judge):
    verdict = judge(check, answer)
    assert verdict and "are equal" not in verdict.words


def raises(*_):
    raise RuntimeError("no")


def overwriting(logits_of, known, uniform):
    codes = check.filled_in(logits_of, known, uniform)
    return known.copy_(codes)


def hiding(known, side):
    codes = check.all_known(known, side)
    known[:] = False
    return codes


@wrong(
    {
        "fill_in": [
            (filling(lambda drawn, _: drawn), "is known in image"),
            (filling(lambda d, g: torch.where(g > 0, g, d)), "code 0 is drawn anew"),
            (filling(lambda d, g: torch.where(g < 0, g, d)), "the network is given −1"),
            (filling(lambda d, g: d if g[0] < 0 else g), "the network is given −1"),
            (filling(lambda d, g: d if (g < 0).any() else g), "is known in image"),
            (filling(lambda d, _: d, end=pasted), "as if nothing were known"),
            (filling(kept, start=lambda known: known), "the network is given −1"),
            (filling(lambda d, g: torch.where(g < 0, 0, g)), "the inverse CDF takes"),
            (filling(lambda d, g: kept(d.flip(0), g)), "the inverse CDF takes"),
            (filling(kept, end=lambda codes, _: codes[0]), "shape [4, 5]"),
            (filling(kept, end=lambda codes, _: codes.float()), "whole numbers"),
            (lambda logits_of, known, uniform: known, "still has −1"),
            (overwriting, "changes `known`"),
            (raises, "raised RuntimeError"),
        ],
        "known_codes": [
            (lambda k, side: squares(k, side).any(3).any(1), "some pixel"),
            (lambda k, side: ~check.all_known(k, side), "hidden pixel"),
            (lambda k, side: k[:: 32 // side, :: 32 // side], "the first pixel"),
            (lambda k, side: check.all_known(k.T, side), "hidden pixel"),
            (lambda k, side: squares(k, side).all(3).any(1), "has a hidden pixel"),
            (lambda k, side: check.all_known(k, side) & False, "no hidden pixel"),
            (lambda k, side: squares(k, side).all(3), "shape [8, 4, 8]"),
            (lambda k, side: check.all_known(k, 8), "shape [8, 8], but [16, 16]"),
            (lambda k, side: check.all_known(k, side).float(), "True or False"),
            (hiding, "changes `known`"),
            (raises, "raised RuntimeError"),
        ],
        "reveals": [
            (NONE, "your mask has 0 known codes"),
            (COLUMNS < 4, "your mask has 32 known codes"),
            (masked((5, slice(6, 8))), "your mask has 2 known codes"),
            (masked((3, 7)), "the last of its row"),
            (COLUMNS.clamp(max=1), "True or False"),
            (NONE[0], "shape [8]"),
            (NONE.numpy(), "a tensor is needed"),
        ],
    }
)
def test_another_answer_hears_what_is_wrong_with_it(check, answer, words, judge):
    refused(judge(check, answer), *words)


@pytest.fixture(scope="module")
def varied(vqvae2, prior):
    def answer(images, labels, seed):
        z_top, _ = codes_of(vqvae2, prior, images)
        told = {"labels": labels, "seed": seed, "known_top": z_top}
        return prior.sample(len(images), (4, 4), (8, 8), **told)

    return answer


def test_a_texture_is_right_if_the_top_is_kept_and_the_bottom_drawn(judge, varied):
    assert judge("texture", varied)
    assert judge("texture", lambda *given: [z.int() for z in varied(*given)])


def test_the_usual_mistakes_about_texture_are_named(judge, varied, vqvae2, prior):
    def own(images):
        return codes_of(vqvae2, prior, images)

    def drawn(images, labels, seed):
        return prior.sample(len(images), (4, 4), (8, 8), labels=labels, seed=seed)

    def any_codes(labels, seed):
        torch.manual_seed(seed + int(labels[1]))
        return torch.randint(K, (len(labels), 8, 8))

    for answer, words in (
        (lambda i, n, s: own(i), "changes with `seed`; do you draw by it"),
        (lambda i, n, s: varied(i, n, 0), "no bottom code changes with `seed`"),
        (lambda i, n, s: varied(i, n, None), "the same seed gives other bottom codes"),
        (lambda i, n, s: varied(i, 0 * n, s), "no bottom code changes with `labels`"),
        (drawn, "not the images' own"),
        (lambda i, n, s: (own(i)[0], any_codes(n, s)), "is the top known"),
        (lambda i, n, s: own(vary(vqvae2, prior, i, labels=n, seed=s)), "images' own"),
        (lambda i, n, s: varied(i, n, s)[::-1], "z_top has shape"),
        (lambda i, n, s: varied(i, n, s)[1], "a tensor of shape"),
        (lambda i, n, s: (own(i)[0], varied(i, n, s)[1] + K), "codes run from 0"),
    ):
        refused(judge("texture", answer), words)


# What the notebook draws.


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
    assert "differ first at row 0" in check.first_difference(codes, codes.flip(2))
