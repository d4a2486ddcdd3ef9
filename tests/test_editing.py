"""Completing, varying and measuring images in code space."""

import pytest
import torch

from pixelprior import HierarchicalPixelCNN, complete, surprise, vary

SIDE = 32


def half(rows: slice) -> torch.Tensor:
    """A mask of pixels [32, 32], True in these rows."""
    known = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    known[rows] = True
    return known


UPPER = half(slice(0, 16))


@pytest.fixture(scope="module")
def some(heldout_images):
    images, labels = heldout_images[torch.arange(6)]
    return images, labels


def codes_of(vqvae2, images):
    codes = vqvae2.get_code_indices(images)
    return codes["indices_top"], codes["indices_bottom"]


def test_an_image_that_is_known_in_full_is_its_own_reconstruction(shipped, some):
    images, labels = some
    completed = complete(*shipped, images, half(slice(None)), labels=labels, seed=0)
    torch.testing.assert_close(completed, shipped[0](images))


def test_an_image_of_which_nothing_is_known_is_a_sample(shipped, some):
    images, labels = some
    vqvae2, prior = shipped
    completed = complete(*shipped, images, half(slice(0)), labels=labels, seed=3)
    drawn = prior.sample_with_vqvae2(vqvae2, len(images), labels=labels, seed=3)
    torch.testing.assert_close(completed, drawn)


def test_a_completion_does_not_depend_on_what_is_hidden(shipped, some):
    images, labels = some
    other = torch.where(UPPER, images, torch.rand_like(images))
    one, two = (
        complete(*shipped, each, UPPER, labels=labels, seed=0)
        for each in (images, other)
    )
    assert torch.equal(one, two)


def test_the_known_half_is_kept_and_each_seed_completes_in_another_way(shipped, some):
    images, labels = some
    one, two = (
        complete(*shipped, images, UPPER, labels=labels, seed=seed) for seed in (0, 1)
    )
    errors = (one - images).square()
    assert errors[:, :, :12].mean() < 0.005  # as for any reconstruction
    between = (one - two).abs()
    assert between[:, :, :12].mean() < 0.01
    assert between[:, :, 16:].amax(dim=(1, 2, 3)).min() > 0.1


def test_a_code_is_drawn_anew_where_one_of_its_pixels_is_hidden(
    shipped, some, monkeypatch
):
    vqvae2, prior = shipped
    images, labels = some
    known = half(slice(None))
    known[5, 9] = False  # in the top code (1, 2) and the bottom code (2, 4)
    asked = {}
    monkeypatch.setattr(
        prior, "sample_with_vqvae2", lambda *_, **options: asked.update(options)
    )
    complete(vqvae2, prior, images, known, labels=labels, looks=1)
    for known, position in zip(asked["known"], ((1, 2), (2, 4)), strict=True):
        hidden = (known < 0).nonzero()
        assert hidden.tolist() == [[image, *position] for image in range(len(images))]


def test_a_second_look_takes_the_black_out_of_a_hole(shipped, heldout_images):
    images, labels = heldout_images[torch.arange(100)]
    known = half(slice(None))
    known[8:20, 12:20] = False
    results = [
        complete(*shipped, images, known, labels=labels, seed=0, **looks)
        for looks in ({"looks": 1}, {"looks": 2}, {})
    ]
    one, two = ((r - images).square()[:, :, ~known].mean() for r in results[:2])
    assert two < 0.9 * one
    assert torch.equal(results[1], results[2])  # a second look is the default


def test_an_image_is_looked_at_once_or_more(shipped, some):
    with pytest.raises(ValueError, match="looks is 0"):
        complete(*shipped, some[0], UPPER, labels=some[1], looks=0)


def test_each_image_can_have_a_part_of_its_own(shipped, some):
    vqvae2, _ = shipped
    images, labels = some
    known = torch.stack([half(slice(0 if i % 2 else None)) for i in range(6)])
    completed = complete(*shipped, images, known[:, None], labels=labels, seed=0)
    rebuilt = vqvae2(images)
    same = (completed - rebuilt).abs().amax(dim=(1, 2, 3)) < 1e-5
    assert same.tolist() == [True, False] * 3


def test_completing_is_the_same_by_every_method(shipped, some):
    images, labels = some[0][:2], some[1][:2]
    one, two = (
        complete(*shipped, images, UPPER, labels=labels, seed=0, method=method)
        for method in ("cached", "rows")
    )
    torch.testing.assert_close(one, two)


@pytest.mark.parametrize(
    ("known", "words"),
    [
        (torch.ones(SIDE, SIDE), "float32 of shape"),
        (torch.ones(8, 8, dtype=torch.bool), r"shape \[8, 8\]"),
        (torch.ones(6, SIDE, SIDE, dtype=torch.bool), r"\[6, 1, 32, 32\] are needed"),
        ("upper", "known are a str"),
    ],
)
def test_what_is_known_is_named_when_it_is_no_mask(shipped, some, known, words):
    with pytest.raises(ValueError, match=words):
        complete(*shipped, some[0], known, labels=some[1])


@pytest.mark.parametrize("edit", [vary, lambda *a, **k: complete(*a, UPPER, **k)])
def test_what_is_edited_are_images_of_the_right_shape_and_prior(shipped, some, edit):
    vqvae2, prior = shipped
    images, labels = some
    with pytest.raises(ValueError, match="images have shape"):
        edit(vqvae2, prior, images[:, :, :16], labels=labels)
    with pytest.raises(ValueError, match="of \\[7, 7\\] codes"):
        edit(vqvae2, HierarchicalPixelCNN(7, 4, 4, 1), images)
    with pytest.raises(ValueError, match="label 19 is out of range"):
        edit(vqvae2, prior, images, labels=labels + 10)


def test_varying_keeps_the_top_codes_and_draws_the_bottom_given_them(shipped, some):
    vqvae2, prior = shipped
    images, labels = some
    z_top, _ = codes_of(vqvae2, images)
    drawn_top, z_bottom = prior.sample(
        6, (8, 8), (16, 16), labels=labels, seed=5, known_top=z_top
    )
    assert torch.equal(drawn_top, z_top)
    varied = vary(*shipped, images, labels=labels, seed=5)
    torch.testing.assert_close(varied, vqvae2.decode_codes(z_top, z_bottom))
    assert not torch.equal(varied, vary(*shipped, images, labels=labels, seed=6))


def test_the_mean_surprise_is_the_loss(shipped, some):
    vqvae2, prior = shipped
    images, labels = some
    codes = codes_of(vqvae2, images)
    nats = surprise(prior, *codes, labels)
    assert nats["top"].shape == (6, 8, 8) and nats["bottom"].shape == (6, 16, 16)
    with torch.no_grad():
        losses = prior.loss_function(*codes, labels)
    for level in ("top", "bottom"):
        torch.testing.assert_close(nats[level].mean(), losses[f"{level}_loss"])


def test_dropout_does_not_change_a_surprise_and_the_mode_is_as_it_was(small_prior):
    codes = (
        torch.zeros(2, 4, 4, dtype=torch.long),
        torch.zeros(2, 8, 8, dtype=torch.long),
    )
    labels = torch.tensor([0, 2])
    small_prior.train()
    one, two = (surprise(small_prior, *codes, labels) for _ in range(2))
    assert small_prior.training and torch.equal(one["bottom"], two["bottom"])


def test_what_is_edited_and_measured_has_no_graph(shipped, some):
    vqvae2, prior = shipped
    images, labels = some[0][:2].clone().requires_grad_(), some[1][:2]
    assert all(weight.requires_grad for weight in prior.parameters())
    results = [
        complete(*shipped, images, UPPER, labels=labels, seed=0),
        vary(*shipped, images, labels=labels, seed=0),
        *surprise(prior, *codes_of(vqvae2, images), labels).values(),
    ]
    assert not any(result.requires_grad for result in results)
