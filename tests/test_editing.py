"""Completing, varying and measuring images in code space."""

import pytest
import torch

from pixelprior import HierarchicalPixelCNN, complete, surprise, vary

ALL = torch.ones(32, 32, dtype=torch.bool)  # pixels that are known
UPPER = ALL.clone()
UPPER[16:] = False


@pytest.fixture(scope="module")
def some(heldout_images):
    images, labels = heldout_images[torch.arange(6)]
    return images, labels


def test_an_image_that_is_known_in_full_is_its_own_reconstruction(shipped, some):
    images, labels = some
    completed = complete(*shipped, images, ALL, labels=labels, seed=0)
    torch.testing.assert_close(completed, shipped[0](images))


def test_an_image_of_which_nothing_is_known_is_a_sample(shipped, some):
    images, labels = some
    vqvae2, prior = shipped
    completed = complete(*shipped, images, ~ALL, labels=labels, seed=3)
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
    known = ALL.clone()
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
    known = ALL.clone()
    known[8:20, 12:20] = False
    results = [
        complete(*shipped, images, known, labels=labels, seed=0, **looks)
        for looks in ({"looks": 1}, {"looks": 2}, {})
    ]
    one, two = ((r - images).square()[:, :, ~known].mean() for r in results[:2])
    assert two < 0.9 * one
    assert torch.equal(results[1], results[2])  # a second look is the default


def test_each_image_can_have_a_part_of_its_own(shipped, some):
    images, labels = some
    known = torch.stack([ALL, ~ALL] * 3)
    completed = complete(*shipped, images, known[:, None], labels=labels, seed=0)
    same = (completed - shipped[0](images)).abs().amax(dim=(1, 2, 3)) < 1e-5
    assert same.tolist() == [True, False] * 3


@pytest.mark.parametrize(
    ("known", "looks", "words"),
    [
        (ALL.float(), 1, "float32 of shape"),
        (ALL[:8, :8], 1, r"\[8, 8\], .*\[6, 1, 32, 32\] are"),
        ("upper", 1, "known are a str"),
        (UPPER, 0, "looks is 0"),
    ],
)
def test_what_is_known_is_a_mask_and_looked_at(shipped, some, known, looks, words):
    with pytest.raises(ValueError, match=words):
        complete(*shipped, some[0], known, labels=some[1], looks=looks)


@pytest.mark.parametrize("edit", [vary, lambda *a, **k: complete(*a, UPPER, **k)])
def test_what_is_edited_are_images_of_the_right_shape_and_prior(shipped, some, edit):
    vqvae2, prior = shipped
    images, labels = some
    with pytest.raises(ValueError, match="images have shape"):
        edit(vqvae2, prior, images[:, :, :16], labels=labels)
    with pytest.raises(ValueError, match="of \\[7, 7\\] codes"):
        edit(vqvae2, HierarchicalPixelCNN(7, 4, 4, 1), images)


def test_varying_keeps_the_top_codes_and_draws_the_bottom_given_them(shipped, some):
    vqvae2, prior = shipped
    images, labels = some
    z_top = vqvae2.get_code_indices(images)["indices_top"]
    codes = prior.sample(6, (8, 8), (16, 16), labels=labels, seed=5, known_top=z_top)
    varied = vary(*shipped, images, labels=labels, seed=5)
    torch.testing.assert_close(varied, vqvae2.decode_codes(z_top, codes[1]))


def test_the_mean_surprise_is_the_loss_without_dropout_in_any_mode(small_prior):
    codes = torch.randint(512, (2, 4, 4)), torch.randint(512, (2, 8, 8))
    losses = small_prior.loss_function(*codes, [0, 2])
    nats = surprise(small_prior.train(), *codes, [0, 2])
    assert small_prior.training and not nats["top"].requires_grad
    for level, grid in zip(("top", "bottom"), codes, strict=True):
        assert nats[level].shape == grid.shape
        torch.testing.assert_close(nats[level].mean(), losses[f"{level}_loss"])
