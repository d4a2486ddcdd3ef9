"""Changed images are shifted and mirrored copies, anew in each epoch, also as codes."""

import itertools
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from pixelprior import VQVAE2, extract_codes, load_images
from pixelprior.data.augmentation import (
    augmented,
    augmented_and_encoded,
    shifted_and_flipped,
)
from pixelprior.data.held_out import Part


@pytest.mark.parametrize("mode", ["constant", "replicate"])
def test_images_are_shifted_and_mirrored_copies(mode):
    torch.manual_seed(0)
    image = torch.rand(2, 5, 7)
    options = {"reach": 1, "repeat_edge": mode == "replicate"}
    found = shifted_and_flipped(image.expand(400, -1, -1, -1), **options)
    padded = F.pad(image, (1, 1, 1, 1), mode=mode)
    corners = itertools.product(range(3), range(3))
    copies = [padded[:, down : down + 5, right : right + 7] for down, right in corners]
    copies += [copy.flip(2) for copy in copies]
    which = [[torch.equal(each, copy) for copy in copies].index(True) for each in found]
    assert set(which) == set(range(18))
    plain = shifted_and_flipped(image.expand(400, -1, -1, -1), **options, flip=False)
    assert all(any(torch.equal(each, copy) for copy in copies[:9]) for each in plain)


@pytest.fixture(scope="module")
def clothes():
    return load_images("fashion_mnist_mini", max_images=60)


@pytest.fixture(scope="module")
def vqvae2(clothes):
    torch.manual_seed(0)
    model = VQVAE2(1, 32, 8, 4, 16).eval()
    model.get_code_indices(clothes.batch(torch.arange(60))[0])  # fills the codebooks
    return model


def encoded(clothes, vqvae2, labels, indices, **how):
    change = partial(augmented_and_encoded, vqvae2=vqvae2, labels=labels, **how)
    return Part(clothes, indices, change)


def test_images_that_are_not_changed_have_the_extracted_codes(clothes, vqvae2):
    codes, indices = extract_codes(vqvae2, clothes), torch.tensor([5, 0, 23])
    half = torch.arange(30, 60)
    plain = encoded(clothes, vqvae2, codes.labels, half, flip=False, shift=0)
    assert len(plain) == 30
    assert all(map(torch.equal, plain.batch(indices), codes.batch(half[indices])))


def test_mirrored_images_have_codes_of_their_own(clothes, vqvae2):
    every = torch.arange(60)
    torch.manual_seed(0)
    (images,) = Part(clothes, every, partial(augmented, flip=True)).batch(every)
    torch.manual_seed(0)
    ours, _, labels = encoded(clothes, vqvae2, None, every, flip=True).batch(every)
    assert labels is None
    assert torch.equal(ours, vqvae2.get_code_indices(images)["indices_top"])
    plain = clothes.batch(every)[0]
    changed = (images != plain).flatten(1).any(1)
    assert 15 < changed.sum() < 45
    assert torch.equal(images[changed].flip(3), plain[changed])
