"""Defects are visible, lie within their masks, and are the same for the same seed."""

import numpy as np
import pytest
import torch

from pixelprior.data.images import ImageData
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


def test_the_kinds_take_turns(made):
    _, found = made
    assert len(found) == 200
    assert found.kinds.bincount(minlength=len(KINDS)).min() >= 35
    assert (found.kinds == torch.arange(200) % len(KINDS)).float().mean() > 0.9


def test_the_same_seed_makes_the_same_defects_whatever_follows(made):
    normal, found = made
    again = with_defects(normal.subset(torch.arange(120)), seed=3)
    assert torch.equal(again.images.images, found.images.images[:120])
    assert torch.equal(again.masks, found.masks[:120])
    other = with_defects(normal, seed=4)
    same = (other.images.images == found.images.images).flatten(1).all(1)
    assert not same.any()


def test_a_kind_has_its_look(heldout_images):
    normal = heldout_images.subset(torch.arange(60))
    by_kind = {kind: with_defects(normal, kinds=(kind,)) for kind in KINDS}
    share = {kind: each.masks.float().mean() for kind, each in by_kind.items()}
    assert share["scratch"] < share["missing part"] < share["wrong half"]
    for kind, each in by_kind.items():
        assert (each.kinds == KINDS.index(kind)).float().mean() > 0.9
    half = by_kind["wrong half"]
    lines = half.masks.any(2), half.masks.any(1)  # rows and columns with a defect
    one, other = (each[:, :16].any(1) ^ each[:, 16:].any(1) for each in lines)
    assert (one | other)[half.kinds == KINDS.index("wrong half")].all()


@pytest.mark.parametrize("channels, size", [(1, (8, 8)), (3, (8, 128))])
def test_images_of_any_size_and_of_one_colour(channels, size):
    torch.manual_seed(0)
    images = torch.randint(256, (8, channels, *size), dtype=torch.uint8)
    for image, level in zip(images, (0, 128, 200, 255), strict=False):
        image[:] = level
    flat = ImageData(images, torch.zeros(8, dtype=torch.long), ("thing",))
    found = with_defects(flat)
    assert found.images.images.shape == images.shape
    assert found.masks.any(2).any(1).all()


def test_perlin_noise_is_smooth_and_of_mean_zero():
    noise = perlin(np.random.default_rng(0), 64, 96, 8)
    assert noise.shape == (64, 96) and abs(noise.mean()) < 0.1
    steps = [np.abs(np.diff(noise, axis=axis)).max() for axis in (0, 1)]
    assert max(steps) < 0.35 and noise.std() > 0.15
