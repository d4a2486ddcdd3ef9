"""The classifier learns classes, and the same ones from the same seed."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from pixelprior.data.images import load_images
from pixelprior.evaluation.classifier import (
    Classifier,
    LabelledImages,
    outputs,
    train_classifier,
)
from pixelprior.evaluation.measures import some_of_each_class

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def training_images():
    return some_of_each_class(load_images("fashion_mnist_mini", "train"), 1000)


def test_it_learns_classes_and_the_same_seed_learns_the_same(
    training_images, heldout_images
):
    # Fewer than 16 channels in residual blocks can crash torch 2.6 with two threads.
    options = {"residual_blocks": 1, "augment": True, "batch_size": 50}
    trained = train_classifier(training_images, epochs=5, **options)
    guesses = outputs(trained, heldout_images).argmax(1)
    assert guesses.eq(heldout_images.labels).float().mean() > 0.5
    one, two = (train_classifier(training_images, epochs=1, **options) for _ in "ab")
    weights = zip(one.parameters(), two.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in weights)


def test_a_residual_network_has_the_layers_of_its_paper():
    """He et al. 2015, section 4.2 and table 6, for images of any size."""
    model, learned = Classifier(residual_blocks=9), (nn.Conv2d, nn.Linear)
    layers = [name for name, each in model.named_modules() if isinstance(each, learned)]
    assert sum("downsample" not in name for name in layers) == 56
    count = sum(p.numel() for p in model.parameters())
    assert count == pytest.approx(0.85e6, rel=0.05)
    assert model(torch.rand(2, 3, 17, 17)).shape == (2, 10)


def test_garments_are_mirrored_and_digits_are_not(training_images):
    images = torch.zeros(50, 1, 9, 9, dtype=torch.uint8)
    images[:, :, 4, 3] = 255
    dots = replace(training_images, images=images)
    for name, mirrored in (("mnist", set()), ("fashion_mnist", {6, 7})):
        data = LabelledImages(**vars(replace(dots, name=name)), augmented=True)
        columns = set(data.batch(torch.arange(50))[0].nonzero()[:, 3].tolist())
        assert 1 in columns and columns - {1, 2, 3, 4, 5} <= mirrored
        assert (7 in columns) == (7 in mirrored)


def test_one_class_cannot_be_told_apart(training_images):
    with pytest.raises(ValueError, match=r"1 class.*two or more"):
        train_classifier(replace(training_images, class_names=("all",)))
