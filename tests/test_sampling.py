"""Drawing: exact streams, exact distribution, and the same codes by every method."""

import math

import pytest
import torch

from pixelprior import HierarchicalPixelCNN
from pixelprior.sampling import draw, probabilities, uniforms

TOP, BOTTOM = (3, 4), (6, 8)
LABELS = torch.tensor([0, 1, 2, 0, 1])


def test_uniforms_are_those_of_philox_keyed_by_seed_and_index():
    # Bits fixed by the Philox 4×64 generator; they must never change.
    numbers = uniforms(seed=7, first_index=3, batch_size=2, count=2)
    assert numbers.dtype == torch.float64
    words = (numbers * 2**53).long().tolist()
    assert words == EXPECTED_WORDS


EXPECTED_WORDS = [
    [4342628383507864, 6522433390077937],
    [4970094447226067, 188221354325900],
]


def test_an_image_has_its_own_stream():
    many = uniforms(5, 0, 8, 20)
    assert torch.equal(many[6:7], uniforms(5, 6, 1, 20))
    assert len(many.flatten().unique()) == 160


def test_a_draw_follows_the_probabilities():
    probs = torch.tensor([[0.1, 0.0, 0.6, 0.3]], dtype=torch.float64)
    steps = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    counts = draw(probs.expand(1000, -1), steps).bincount(minlength=4)
    assert counts.tolist() == [100, 0, 600, 300]


def test_a_code_of_probability_zero_is_never_drawn():
    edge = torch.tensor([0.0, 1 - 2.0**-53], dtype=torch.float64)
    probs = torch.tensor([[0.0, 0.5, 0.5, 0.0]], dtype=torch.float64).expand(2, -1)
    assert draw(probs, edge).tolist() == [1, 2]
    tiny = torch.tensor([[0.1, 0.2, 0.7 - 1e-16, 0.0]], dtype=torch.float64)
    assert draw(tiny, edge[1:]).tolist() == [2]


def test_temperature_divides_the_logits():
    logits = torch.tensor([[0.0, 1.0, 3.0]])
    assert torch.allclose(
        probabilities(logits, 0.5), (logits.double() * 2).softmax(-1), atol=1e-15
    )


def test_top_k_keeps_the_likeliest_k():
    probs = probabilities(torch.tensor([[0.0, 3.0, 1.0, 2.0]]), top_k=2)
    assert (probs > 0).tolist() == [[False, True, False, True]]
    assert probs.sum().item() == pytest.approx(1)


@pytest.mark.parametrize(("top_p", "kept"), [(0.5, 1), (0.51, 2), (0.8, 2), (1.0, 4)])
def test_top_p_keeps_the_fewest_codes_that_hold_the_share(top_p, kept):
    logits = torch.tensor([[0.5, 0.1, 0.3, 0.1]], dtype=torch.float64).log()
    probs = probabilities(logits, top_p=top_p - 1e-12 if top_p < 1 else 1.0)
    assert (probs > 0).sum().item() == kept
    assert probs.sum().item() == pytest.approx(1)


def test_top_p_keeps_at_least_one_code():
    probs = probabilities(torch.zeros(1, 5), top_p=1e-9)
    assert (probs > 0).sum().item() == 1


def test_cached_codes_are_the_naive_codes(small_prior):
    for options in ({}, {"temperature": 0.7, "top_k": 40, "top_p": 0.9}):
        naive, cached = (
            small_prior.sample(
                5, TOP, BOTTOM, labels=LABELS, seed=3, method=method, **options
            )
            for method in ("naive", "cached")
        )
        assert all(torch.equal(a, b) for a, b in zip(naive, cached, strict=True))


@pytest.mark.parametrize("kernel_size", [3, 5])
def test_cached_codes_are_the_naive_codes_without_labels(kernel_size):
    torch.manual_seed(2)
    prior = HierarchicalPixelCNN(30, 5, 6, 4, kernel_size=kernel_size).double().eval()
    naive, cached = (
        prior.sample(3, (4, 3), (5, 9), seed=1, method=method)
        for method in ("naive", "cached")
    )
    assert all(torch.equal(a, b) for a, b in zip(naive, cached, strict=True))


@pytest.mark.parametrize("method", ["naive", "cached"])
def test_image_i_is_the_same_in_any_batch(small_prior, method):
    whole = small_prior.sample(5, TOP, BOTTOM, labels=LABELS, seed=3, method=method)
    alone = small_prior.sample(
        2, TOP, BOTTOM, labels=LABELS[3:], seed=3, first_index=3, method=method
    )
    assert all(torch.equal(a[3:], b) for a, b in zip(whole, alone, strict=True))


def test_the_seed_decides(small_prior):
    shared = {"top_shape": TOP, "bottom_shape": BOTTOM, "labels": LABELS}
    once, again = (small_prior.sample(5, seed=1, **shared)[1] for _ in range(2))
    other = small_prior.sample(5, seed=2, **shared)[1]
    assert torch.equal(once, again) and not torch.equal(once, other)
    unseeded = [small_prior.sample(5, **shared)[1] for _ in range(2)]
    assert not torch.equal(*unseeded)


@pytest.mark.parametrize("method", ["naive", "cached"])
def test_known_codes_are_kept_and_the_rest_depends_on_them(small_prior, method):
    shared = {"labels": LABELS, "seed": 3, "method": method}
    z_top, z_bottom = small_prior.sample(5, TOP, BOTTOM, **shared)
    known = torch.full_like(z_bottom, -1)
    known[:, :3] = z_bottom[:, :3]
    same = small_prior.sample(
        5, TOP, BOTTOM, known_top=z_top, known_bottom=known, **shared
    )
    assert torch.equal(same[0], z_top) and torch.equal(same[1], z_bottom)
    known[:, 0, 0] = (z_bottom[:, 0, 0] + 1) % 512
    other = small_prior.sample(5, TOP, BOTTOM, known_bottom=known, **shared)[1]
    assert torch.equal(other[:, 0, 0], known[:, 0, 0])
    assert torch.equal(other[:, 1:3], z_bottom[:, 1:3])


def test_samples_have_the_frequencies_of_the_exact_distribution():
    torch.manual_seed(4)
    prior = HierarchicalPixelCNN(2, 3, 4, 2).double().eval()
    for parameter in prior.prior_top.parameters():
        parameter.data.mul_(2)
    grids = torch.cartesian_prod(*[torch.arange(2)] * 4).view(-1, 2, 2)
    logs = prior.prior_top(grids).log_softmax(1)
    exact = logs.gather(1, grids[:, None]).sum((1, 2, 3)).exp()
    drawn, _ = prior.sample(4000, (2, 2), (1, 1), seed=0)
    names = (drawn.flatten(1) * torch.tensor([8, 4, 2, 1])).sum(1)
    shares = names.bincount(minlength=16) / 4000
    error = (exact * (1 - exact) / 4000).sqrt()
    assert ((shares - exact).abs() < 5 * error).all()


@pytest.mark.parametrize("method", ["naive", "cached"])
def test_sampling_restores_the_mode_and_ignores_dropout(small_prior, method):
    shared = {"top_shape": TOP, "bottom_shape": BOTTOM, "labels": LABELS, "seed": 1}
    shared["method"] = method
    codes = small_prior.sample(5, **shared)
    small_prior.train()
    assert all(
        torch.equal(a, b)
        for a, b in zip(codes, small_prior.sample(5, **shared), strict=True)
    )
    assert small_prior.training and small_prior.prior_top.blocks[0].dropout.training


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"temperature": math.inf}, "temperature is inf"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_p": 1.1}, "top_p is 1.1"),
        ({"top_p": math.nan}, "top_p is nan"),
        ({"top_k": 0}, "top_k is 0"),
        ({"top_k": 1.5}, "top_k is 1.5"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"labels": [0, 1, 2, 0, 1]}, "labels are a list"),
        ({"known_top": torch.zeros(5, 3, 4).bool()}, "torch.bool"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"method": "fast"}, "method is 'fast'.*naive, cached"),
        ({"top_shape": (0, 4)}, r"top_shape is \(0, 4\)"),
        ({"labels": torch.tensor([0, 1, 2, 0, 3])}, "label 3 is out of range"),
        ({"known_top": torch.full((5, 3, 3), -1)}, r"shape \[5, 3, 4\]"),
        ({"known_top": torch.full((5, 3, 4), 512)}, "512.*0 to 511"),
    ],
)
def test_wrong_arguments_are_named(small_prior, options, words):
    arguments = {
        "batch_size": 5,
        "top_shape": TOP,
        "bottom_shape": BOTTOM,
        "labels": LABELS,
    }
    with pytest.raises(ValueError, match=words):
        small_prior.sample(**arguments | options)


def test_images_are_drawn_only_with_a_matching_codebook(small_vqvae2):
    prior = HierarchicalPixelCNN(256, 8, 8, 2)
    with pytest.raises(ValueError, match="256 codes, but the VQ-VAE-2 has 512"):
        prior.sample_with_vqvae2(small_vqvae2, 2)


def test_images_of_codes_beyond_255_round_trip(small_vqvae2, small_prior):
    images = small_prior.float().sample_with_vqvae2(
        small_vqvae2, 5, labels=LABELS, seed=0
    )
    z_top, z_bottom = small_prior.sample(5, (8, 8), (16, 16), labels=LABELS, seed=0)
    assert z_bottom.max() > 255
    assert torch.equal(images, small_vqvae2.decode_codes(z_top, z_bottom))
    assert images.shape == (5, 1, 32, 32)
    assert images.min() >= 0 and images.max() <= 1
