"""Changed images are shifted and mirrored copies, anew in each epoch, also as codes."""

import pytest
import torch
import torch.nn.functional as F

from pixelprior.data.augmentation import (
    AugmentedImages,
    EncodedImages,
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
    copies = [
        shifted
        for down in range(3)
        for right in range(3)
        for shifted in [padded[:, down : down + 5, right : right + 7]]
    ]
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


def test_images_that_are_not_changed_have_the_extracted_codes(clothes, vqvae2):
    codes, indices = extract_codes(vqvae2, clothes), torch.tensor([5, 0, 33])
    encoded = EncodedImages(AugmentedImages(clothes), codes.labels, vqvae2)
    pairs = zip(encoded.batch(indices), codes.batch(indices), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)
    assert len(encoded) == len(clothes)


def test_labels_follow_the_images_of_a_part(clothes, vqvae2):
    part = Part(EncodedImages(clothes, clothes.labels, vqvae2), torch.arange(30, 60))
    *_, labels = part.to("cpu").batch(torch.tensor([0, 7]))
    assert torch.equal(labels, clothes.labels[[30, 37]])


def test_mirrored_images_have_codes_of_their_own(clothes, vqvae2):
    mirrored = AugmentedImages(clothes, flip=True)
    encoded = EncodedImages(mirrored, None, vqvae2)
    torch.manual_seed(0)
    ours, _, labels = encoded.batch(torch.arange(60))
    torch.manual_seed(0)
    (images,) = mirrored.batch(torch.arange(60))
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
    data = AugmentedImages(clothes, flip=True, shift=2)
    if stage == "codes":
        data = EncodedImages(data, clothes.labels, vqvae2)
    settings = TrainingSettings(epochs=2, batch_size=10, save_steps=1)

    def train(folder, data, **options):
        torch.manual_seed(1)
        model = (
            VQVAE2(1, 32, 8, 4, 16)
            if stage == "images"
            else HierarchicalPixelCNN(16, 4, 8, 2, 10)
        )
        said = {"log": lambda line: None}
        fit(model, data, None, settings, tmp_path / folder, **said, **options)
        return model.state_dict()

    class Stopping(Part):
        def batches(self, parts):
            for number, batch in enumerate(super().batches(parts)):
                if number == 3:
                    raise Stopped
                yield batch

        def to(self, device):
            return Stopping(self.data.to(device), self.indices.to(device))

    whole = train("whole", data)
    everything = torch.arange(60)
    with pytest.raises(Stopped):
        train("stopped", Stopping(data, everything))
    resumed = train("stopped", Part(data, everything), resume=True)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    plain = clothes if stage == "images" else extract_codes(vqvae2, clothes)
    other = train("plain", plain)
    assert not all(torch.equal(whole[name], other[name]) for name in whole)
