"""The checks of notebook 01 judge answers by trying them and say what is wrong."""

import math

import pytest
import torch

from pixelprior.course.checks import quantizing as check
from pixelprior.course.checks.verdict import Verdict
from pixelprior.vqvae2 import VQVAE2

ODD = [
    0,
    -1.5,
    math.nan,
    math.inf,
    True,
    "four",
    (),
    (1,),
    (1, 2, 3),
    ("a", "b"),
    (None, None),
    (math.nan, math.nan),
    {"a": 1},
    object(),
    print,
    torch.zeros(2),
    torch.full((3, 3), math.nan),
]


def gives(value):
    return lambda *_: value


def raises(*_):
    raise RuntimeError("no idea")


@pytest.fixture(scope="module")
def vqvae2():
    torch.manual_seed(0)
    model = VQVAE2(
        in_channels=1,
        image_size=16,
        hidden_channels=8,
        embedding_dim=4,
        num_embeddings=10,
        num_residual_blocks=1,
    )
    model.get_code_indices(torch.rand(8, 1, 16, 16))
    return model.eval()


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(1)
    return torch.rand(8, 1, 16, 16, generator=generator)


@pytest.fixture(scope="module")
def features():
    generator = torch.Generator().manual_seed(2)
    return 0.1 * torch.randn(3000, 8, generator=generator)


# Bits of an image.


def test_bits_are_not_attempted_in_the_stub(vqvae2):
    assert check.bits_per_image(None, vqvae2).passed is None


# A codebook of 10 codes takes 4 bits per code; a 16 × 16 image has 16 + 64 codes.
@pytest.mark.parametrize("answer", [(2048, 320), [16 * 16 * 8.0, torch.tensor(320)]])
def test_bits_are_those_of_pixels_and_of_codes_in_whole_digits(vqvae2, answer):
    assert check.bits_per_image(answer, vqvae2).passed is True


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((256, 320), "bits before are too few"),
        ((256 * 24, 320), "bits before are too many"),
        ((2048, 80), "bits after are too few"),
        ((2048, 64 * 4), "bits after are too few"),
        ((2048, 80 * 10), "bits after are too many"),
        (2048, "two numbers are needed"),
        ((2048, None), "bits after is None"),
    ],
)
def test_wrong_bits_are_too_few_or_too_many(vqvae2, answer, words):
    verdict = check.bits_per_image(answer, vqvae2)
    assert verdict.passed is False
    assert words in verdict.words


# The straight-through estimator.


def test_straight_through_is_not_attempted_in_the_stub():
    assert check.straight_through(gives(None)).passed is None
    assert check.straight_through(None).passed is None


class Through(torch.autograd.Function):
    @staticmethod
    def forward(_, features, quantized):
        return quantized.clone()

    @staticmethod
    def backward(_, gradient):
        return gradient, None


@pytest.mark.parametrize(
    "answer",
    [
        lambda features, quantized: features + (quantized - features).detach(),
        lambda features, quantized: quantized.detach() + features - features.detach(),
        Through.apply,
    ],
)
def test_straight_through_is_right_however_it_is_written(answer):
    assert check.straight_through(answer).passed is True


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda features, quantized: features, "other values"),
        (lambda features, quantized: quantized, "features get no gradient"),
        (lambda features, quantized: quantized.detach(), "no gradient gets back"),
        (
            lambda features, quantized: features + (quantized - features),
            "features get no gradient",
        ),
        (
            lambda features, quantized: quantized + features - features.detach(),
            "codebook gets a gradient as well",
        ),
        (
            lambda features, quantized: (
                quantized.detach() + 2 * (features - features.detach())
            ),
            "not the one that the decoder sent",
        ),
        (lambda features, quantized: (features + quantized).sum(), "shape []"),
        (lambda features: features, "raised TypeError"),
        (raises, "raised RuntimeError: no idea"),
        (3, "a function is needed"),
    ],
)
def test_a_gradient_that_goes_astray_is_found(answer, words):
    verdict = check.straight_through(answer)
    assert verdict.passed is False
    assert words in verdict.words


# The level of the outline.


def test_the_level_is_not_attempted_in_the_stub(vqvae2, images):
    assert check.outline_level(None, vqvae2, images).passed is None


@pytest.mark.parametrize(("level", "other"), [("top", "bottom"), ("bottom", "top")])
def test_the_level_that_the_decoder_reads_holds_the_outline(
    vqvae2, images, monkeypatch, level, other
):
    """With a decoder that reads little but one level, this level is the answer."""

    def decode_codes(z_top, z_bottom):
        grid, faint = (z_top, z_bottom) if level == "top" else (z_bottom, z_top)
        grid, faint = (
            torch.nn.functional.interpolate(each[:, None].float(), size=16)
            for each in (grid, faint)
        )
        return grid / 10 + faint / 1000

    monkeypatch.setattr(vqvae2, "decode_codes", decode_codes)
    assert check.outline_level(level, vqvae2, images).passed is True
    verdict = check.outline_level(other, vqvae2, images)
    assert verdict.passed is False
    assert "changes less" in verdict.words


@pytest.mark.parametrize("answer", ["left", "Top codes", 1, torch.zeros(3)])
def test_a_level_is_top_or_bottom(vqvae2, images, answer):
    verdict = check.outline_level(answer, vqvae2, images)
    assert verdict.passed is False
    assert "'top' or 'bottom'" in verdict.words


# Renewal of dead codes.


def dead_to(choose):
    """A renewal that puts dead codes where `choose` says."""

    def renew(e, counts, features):
        dead = (counts < 1).nonzero().flatten()
        new = e.clone()
        new[dead] = choose(features, len(dead))
        return new

    return renew


def in_place(e, counts, features):
    row = 0
    for code in range(len(e)):
        if counts[code] < 1:
            e[code], row = features[row], row + 1
    return e


def test_renewal_is_not_attempted_in_the_stub(features):
    assert check.renewal(gives(None), features).passed is None
    assert check.renewal(None, features).passed is None


@pytest.mark.parametrize(
    "answer",
    [dead_to(lambda f, n: f[torch.randperm(len(f))[:n]]), in_place],
)
def test_renewal_is_right_however_it_is_written(features, answer):
    assert check.renewal(answer, features).passed is True


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda e, counts, features: e, "was left where it was"),
        (
            lambda e, counts, features: features[: len(e)],
            "is not dead, and yet its vector changed",
        ),
        (
            lambda e, counts, features: torch.where(
                (counts <= 1)[:, None], features[: len(e)], e
            ),
            "is not dead, and yet its vector changed",
        ),
        (
            lambda e, counts, features: torch.where(
                (counts == 0)[:, None], features[: len(e)], e
            ),
            "was left where it was",
        ),
        (dead_to(lambda f, n: torch.randn(n, f.shape[1])), "none of the features"),
        (dead_to(lambda f, n: f[:1]), "one and the same vector"),
        (dead_to(lambda f, n: torch.nan), "not finite"),
        (lambda e, counts, features: (e, counts), "is tuple"),
        (lambda e, counts, features: e[:3], "has shape [3, 8]"),
        (lambda e: e, "raised TypeError"),
        (raises, "raised RuntimeError: no idea"),
    ],
)
def test_a_renewal_that_does_harm_or_nothing_is_found(features, answer, words):
    verdict = check.renewal(answer, features)
    assert verdict.passed is False
    assert words in verdict.words


def test_a_renewal_that_stops_when_it_counts_is_found(features):
    """This renewal works on the first codebooks and then no more."""

    def renew(e, counts, features):
        return in_place(e, counts, features) if len(e) < 64 else e

    verdict = check.renewal(renew, features)
    assert verdict.passed is False
    assert "perplexity" in verdict.words


@pytest.mark.parametrize("seed", range(5))
def test_features_drawn_with_replacement_may_be_the_same_for_two_codes(features, seed):
    generator = torch.Generator().manual_seed(seed)

    def renew(e, counts, batch):
        dead = counts < 1
        rows = torch.randint(len(batch), (int(dead.sum()),), generator=generator)
        e[dead] = batch[rows]
        return e

    verdict = check.renewal(renew, features)
    assert verdict.passed is False and "give each its own" in verdict.words


def test_judging_a_renewal_leaves_the_random_numbers_alone(features):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    check.renewal(in_place, features)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("odd", ODD)
def test_no_odd_answer_ends_in_a_traceback(vqvae2, images, features, odd):
    for verdict in (
        check.bits_per_image(odd, vqvae2),
        check.straight_through(odd),
        check.straight_through(gives(odd)),
        check.outline_level(odd, vqvae2, images),
        check.renewal(odd, features),
        check.renewal(gives(odd), features),
    ):
        assert isinstance(verdict, Verdict)
        assert not verdict
