"""Changed images are shifted and mirrored copies, anew in each epoch, also as codes."""

import itertools
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from pixelprior.data.augmentation import (
    augmented,
    augmented_and_encoded,
    shifted_and_flipped,
)
from pixelprior.data.codes import extract_codes
from pixelprior.data.held_out import Part
from pixelprior.data.images import load_images
from pixelprior.prior import HierarchicalPixelCNN
from pixelprior.settings import TrainingSettings
from pixelprior.training import fit
from pixelprior.vqvae2 import VQVAE2


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


def encoded(clothes, vqvae2, labels, **how):
    change = partial(augmented_and_encoded, vqvae2=vqvae2, labels=labels, **how)
    return Part(clothes, torch.arange(60), change)


def test_images_that_are_not_changed_have_the_extracted_codes(clothes, vqvae2):
    codes, indices = extract_codes(vqvae2, clothes), torch.tensor([5, 0, 33])
    plain = encoded(clothes, vqvae2, codes.labels, flip=False, shift=0)
    assert all(map(torch.equal, plain.batch(indices), codes.batch(indices)))
    assert len(plain) == len(clothes)
    part = Part(clothes, torch.arange(30, 60), plain.change).to("cpu")
    *_, labels = part.batch(torch.tensor([0, 7]))
    assert torch.equal(labels, clothes.labels[[30, 37]])


def test_mirrored_images_have_codes_of_their_own(clothes, vqvae2):
    mirrored = Part(clothes, torch.arange(60), partial(augmented, flip=True))
    torch.manual_seed(0)
    (images,) = mirrored.batch(torch.arange(60))
    torch.manual_seed(0)
    of_mirrored = encoded(clothes, vqvae2, None, flip=True)
    ours, _, labels = of_mirrored.batch(torch.arange(60))
    assert labels is None
    assert torch.equal(ours, vqvae2.get_code_indices(images)["indices_top"])
    plain = clothes.batch(torch.arange(60))[0]
    changed = (images != plain).flatten(1).any(1)
    assert 15 < changed.sum() < 45
    assert torch.equal(images[changed].flip(3), plain[changed])


class Stopped(Exception):
    pass


@pytest.mark.parametrize("stage", ["images", "codes"])
def test_a_run_stopped_within_an_epoch_goes_on_with_the_same_images(
    stage, clothes, vqvae2, tmp_path
):
    how = {"flip": True, "shift": 2}
    data = Part(clothes, torch.arange(60), partial(augmented, **how))
    if stage == "codes":
        data = encoded(clothes, vqvae2, clothes.labels, **how)
    settings = TrainingSettings(epochs=2, batch_size=10, save_steps=1)

    def train(folder, data, **options):
        torch.manual_seed(1)
        images = stage == "images"
        model = (
            VQVAE2(1, 32, 8, 4, 16) if images else HierarchicalPixelCNN(16, 4, 8, 2, 10)
        )
        options["log"] = lambda line: None
        fit(model, data, None, settings, tmp_path / folder, **options)
        return model.state_dict()

    class Stopping(Part):
        def batches(self, parts):
            for number, batch in enumerate(super().batches(parts)):
                if number == 3:
                    raise Stopped
                yield batch

    whole = train("whole", data)
    with pytest.raises(Stopped):
        train("stopped", Stopping(**vars(data)))
    resumed = train("stopped", data, resume=True)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    plain = clothes if stage == "images" else extract_codes(vqvae2, clothes)
    other = train("plain", plain)
    assert not all(torch.equal(whole[name], other[name]) for name in whole)
