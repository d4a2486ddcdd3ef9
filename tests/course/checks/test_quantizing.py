"""The checks of notebook 01 judge answers by trying them and say what is wrong."""

import pytest
import torch
import torch.nn.functional as F
from answers import refused, right, wrong

from pixelprior.course.checks import quantizing as check


def raises(*_):
    raise RuntimeError("no idea")


class Through(torch.autograd.Function):
    @staticmethod
    def forward(_, features, quantized):
        return quantized.clone()

    @staticmethod
    def backward(_, gradient):
        return gradient, None


def dead_to(choose):
    """A renewal that puts dead codes where `choose` says."""

    def renew(e, counts, features):
        dead = (counts < 1).nonzero().flatten()
        new = e.clone()
        new[dead] = choose(features, len(dead))
        return new

    return renew


def those_that(are_dead):
    """A renewal of the codes whose counts `are_dead`."""
    return lambda e, counts, features: torch.where(
        are_dead(counts)[:, None], features[: len(e)], e
    )


def in_place(e, counts, features):
    row = 0
    for code in range(len(e)):
        if counts[code] < 1:
            e[code], row = features[row], row + 1
    return e


@right(
    {
        # A codebook of 10 codes takes 4 bits per code; an image has 16 + 64 codes.
        "bits_per_image": [(2048, 320), [16 * 16 * 8.0, torch.tensor(320)]],
        "straight_through": [
            lambda f, q: f + (q - f).detach(),
            lambda f, q: q.detach() + f - f.detach(),
            Through.apply,
        ],
        "renewal": [dead_to(lambda f, n: f[torch.randperm(len(f))[:n]]), in_place],
    }
)
def test_a_right_answer_passes_however_it_is_written(check, answer, judge):
    assert judge(check, answer)


@wrong(
    {
        "bits_per_image": [
            ((256, 320), "bits before are too few"),
            ((256 * 24, 320), "bits before are too many"),
            ((2048, 80), "bits after are too few"),
            ((2048, 64 * 4), "bits after are too few"),
            ((2048, 80 * 10), "bits after are too many"),
            (2048, "two numbers are needed"),
            ((2048, None), "bits after is None"),
        ],
        "straight_through": [
            (lambda f, q: f, "other values"),
            (lambda f, q: q, "features get no gradient"),
            (lambda f, q: q.detach(), "no gradient gets back"),
            (lambda f, q: f + (q - f), "features get no gradient"),
            (lambda f, q: q + f - f.detach(), "codebook gets a gradient as well"),
            (lambda f, q: q.detach() + 2 * (f - f.detach()), "not the one that the"),
            (lambda f, q: (f + q).sum(), "shape []"),
            (lambda f: f, "raised TypeError"),
            (raises, "raised RuntimeError: no idea"),
            (3, "a function is needed"),
        ],
        "outline_level": [
            (answer, "'top' or 'bottom'") for answer in ("left", "Top codes", 1)
        ],
        "renewal": [
            (lambda e, counts, f: e, "was left where it was"),
            (those_that(lambda counts: counts == 0), "was left where it was"),
            (lambda e, counts, f: f[: len(e)], "is not dead, and yet its vector"),
            (those_that(lambda counts: counts <= 1), "is not dead, and yet its vector"),
            (dead_to(lambda f, n: torch.randn(n, f.shape[1])), "none of the features"),
            (dead_to(lambda f, n: f[:1]), "one and the same vector"),
            (dead_to(lambda f, n: torch.nan), "not finite"),
            (lambda e, counts, f: (e, counts), "is tuple"),
            (lambda e, counts, f: e[:3], "has shape [3, 8]"),
            (lambda e: e, "raised TypeError"),
            (raises, "raised RuntimeError: no idea"),
            # One that works on the first codebooks and then no more.
            (lambda e, *rest: in_place(e, *rest) if len(e) < 64 else e, "perplexity"),
        ],
    }
)
def test_another_answer_hears_what_is_wrong_with_it(check, answer, words, judge):
    refused(judge(check, answer), *words)


@pytest.mark.parametrize("seed", range(5))
def test_features_drawn_with_replacement_may_be_the_same_for_two_codes(seed, judge):
    generator = torch.Generator().manual_seed(seed)
    renew = dead_to(lambda f, n: f[torch.randint(len(f), (n,), generator=generator)])
    refused(judge("renewal", renew), "give each its own")


@pytest.mark.parametrize(("level", "other"), [("top", "bottom"), ("bottom", "top")])
def test_the_level_that_the_decoder_reads_holds_the_outline(
    vqvae2, pictures, monkeypatch, level, other
):
    """With a decoder that reads little but one level, this level is the answer."""

    def decode_codes(z_top, z_bottom):
        grid, faint = (z_top, z_bottom) if level == "top" else (z_bottom, z_top)
        grid, faint = (
            F.interpolate(each[:, None].float(), size=16) for each in (grid, faint)
        )
        return grid / 10 + faint / 1000

    monkeypatch.setattr(vqvae2, "decode_codes", decode_codes)
    assert check.outline_level(level, vqvae2, pictures[0])
    refused(check.outline_level(other, vqvae2, pictures[0]), "changes less")
