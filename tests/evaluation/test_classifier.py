"""The classifier learns classes but nothing from random labels, and is reproducible."""

from dataclasses import replace

import pytest
import torch

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


def accuracy(classifier, heldout) -> float:
    guesses = outputs(classifier, heldout).argmax(1)
    return guesses.eq(heldout.labels).float().mean().item()


def alike(one, other) -> bool:
    weights = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in weights)


# Fewer than 16 channels in residual blocks can crash torch 2.6 with two threads.
RESIDUAL = {"residual_blocks": 1, "augment": True, "batch_size": 50}


@pytest.mark.parametrize(
    "options, epochs, least", [({"hidden_channels": 8}, 8, 0.6), (RESIDUAL, 5, 0.5)]
)
def test_it_learns_classes_and_the_same_seed_learns_the_same(
    options, epochs, least, training_images, heldout_images
):
    trained = train_classifier(training_images, epochs=epochs, **options)
    assert accuracy(trained, heldout_images) > least
    one, two = (train_classifier(training_images, epochs=1, **options) for _ in "ab")
    assert alike(one, two)


@pytest.mark.parametrize(
    ("blocks", "layers_in_all", "parameters"), [(3, 20, 0.27e6), (9, 56, 0.85e6)]
)
def test_a_residual_network_has_the_layers_of_its_paper(
    blocks, layers_in_all, parameters
):
    """He et al. 2015, section 4.2 and table 6."""
    model = Classifier(3, 10, residual_blocks=blocks)
    layers = [
        name
        for name, part in model.named_modules()
        if isinstance(part, torch.nn.Conv2d | torch.nn.Linear)
    ]
    assert sum("downsample" not in name for name in layers) == layers_in_all
    count = sum(p.numel() for p in model.parameters())
    assert count == pytest.approx(parameters, rel=0.05)


def test_garments_are_mirrored_and_digits_are_not(training_images):
    images = torch.zeros(50, 1, 9, 9, dtype=torch.uint8)
    images[:, :, 4, 3] = 255
    dots = replace(training_images, images=images)
    for name, mirrored in (("mnist", set()), ("fashion_mnist", {6, 7})):
        data = LabelledImages(**vars(replace(dots, name=name)), augmented=True)
        columns = set(data.batch(torch.arange(50))[0].nonzero()[:, 3].tolist())
        assert 1 in columns and columns - {1, 2, 3, 4, 5} <= mirrored
        assert (7 in columns) == (7 in mirrored)


def test_labels_that_say_nothing_teach_it_nothing(training_images, heldout_images):
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(0))
    shuffled = replace(training_images, labels=training_images.labels[order])
    confused = train_classifier(shuffled, epochs=8, hidden_channels=8)
    assert accuracy(confused, heldout_images) < 0.3


def test_any_size_colour_and_number_of_classes():
    model = Classifier(in_channels=3, num_classes=7, hidden_channels=4).eval()
    for size in (4, 17, 64):
        images = torch.rand(2, 3, size, size)
        assert model(images).shape == (2, 7)
        assert model.features(images).shape == (2, 16)


def test_an_image_is_judged_alike_in_any_company(shipped_classifier, heldout_images):
    images = heldout_images[:8][0]
    with torch.no_grad():
        together, alone = map(shipped_classifier, (images, images[3:4]))
    torch.testing.assert_close(together[3:4], alone)


def test_one_class_cannot_be_told_apart(training_images):
    with pytest.raises(ValueError, match=r"1 class.*two or more"):
        train_classifier(replace(training_images, class_names=("all",)))


def test_a_classifier_can_be_trained_on_the_cpu_beside_a_gpu(
    training_images, monkeypatch
):
    """torch reports a GPU here, although there is none that could be used."""
    few = some_of_each_class(training_images, 50)
    alone = train_classifier(few, epochs=1, hidden_channels=4)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    # Older versions of torch ask a GPU this before each step, wherever the weights are.
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    beside = train_classifier(few, epochs=1, hidden_channels=4, on_cpu=True)
    assert alike(alone, beside)
