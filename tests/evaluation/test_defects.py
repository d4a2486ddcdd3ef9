"""Defects are visible, lie within their masks, and are the same for the same seed."""

import numpy as np
import pytest
import torch

from pixelprior.evaluation.defects import KINDS, SMALLEST, VISIBLE, perlin, with_defects


@pytest.fixture(scope="module")
def made(heldout_images):
    normal = heldout_images.subset(torch.arange(200))
    return normal, with_defects(normal, seed=3)


def test_a_mask_is_where_a_pixel_has_changed(made):
    normal, found = made
    apart = (found.images.images.int() - normal.images.int()).abs().amax(1)
    assert torch.equal(found.masks, apart > VISIBLE)
    assert apart[~found.masks].max() == 0
    share = found.masks.float().mean((1, 2))
    assert share.min() >= SMALLEST and share.max() <= 0.5  # at most a half


def test_the_kinds_take_turns_and_have_their_looks(made):
    _, found = made
    assert (found.kinds == torch.arange(200) % len(KINDS)).float().mean() > 0.9
    share = found.masks.float().mean((1, 2))
    scratch, missing, half = (found.kinds == each for each in (1, 3, 4))
    assert share[scratch].mean() < share[missing].mean() < share[half].mean()
    lines = found.masks.any(2), found.masks.any(1)  # rows and columns with a defect
    one, other = (each[:, :16].any(1) ^ each[:, 16:].any(1) for each in lines)
    assert (one | other)[half].all()


def test_the_same_seed_makes_the_same_defects_whatever_follows(made):
    normal, found = made
    again = with_defects(normal.subset(torch.arange(120)), seed=3)
    assert torch.equal(again.images.images, found.images.images[:120])
    other = with_defects(normal, seed=4)
    assert not (other.images.images == found.images.images).flatten(1).all(1).any()


def test_perlin_noise_is_smooth_and_of_mean_zero():
    noise = perlin(np.random.default_rng(0), 64, 96, 8)
    assert abs(noise.mean()) < 0.1 and noise.std() > 0.15
    assert max(np.abs(np.diff(noise, axis=axis)).max() for axis in (0, 1)) < 0.35
