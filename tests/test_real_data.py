"""The shipped weights and the embedded images are those of the full data sets.

These tests need `PIXELPRIOR_DATA`, a folder with `FashionMNIST/raw/` or `cifar10/`.
Without it they are skipped, with a reason.
"""

import json

import pytest
import torch

from pixelprior.assets import FOLDER, load_shipped
from pixelprior.data.codes import extract_codes
from pixelprior.data.images import ImageData, load_images
from pixelprior.evaluation.measures import (
    image_nats,
    mean_with_interval,
    reconstructions,
    squared_errors,
)

pytestmark = pytest.mark.slow


def folder_of(name, real_data):
    if not (real_data / name).is_dir():
        pytest.skip(f"there is no {name} in PIXELPRIOR_DATA")
    return real_data / name


def test_the_shipped_weights_of_cifar10_have_their_kept_figures(real_data):
    """The kept figures are of all test images, and these of every tenth.

    They agree within 1.5 times half the interval of the new figures, and within 4 %.
    """
    root = folder_of("cifar10", real_data)
    data = load_images("imagefolder", "test", data_root=root)
    assert data.labels.bincount().tolist() == [1000] * 10
    tenth = torch.arange(0, 10_000, 10)
    some = ImageData(data.images[tenth], data.labels[tenth], data.class_names)
    vqvae2, prior = load_shipped("cifar10")
    codes = extract_codes(vqvae2, some)
    errors = squared_errors(some, reconstructions(vqvae2, some))
    kept = FOLDER / "results" / "cifar10" / "results.json"
    kept = json.loads(kept.read_text(encoding="utf-8"))
    stated = [(errors, kept["reconstruction"]["mean_squared_error"])]
    for name, level in zip(prior.level_names, prior.levels, strict=True):
        nats = image_nats(level, codes) / codes.grid(name)[0].numel()
        stated.append((nats, kept["likelihood"][name]["nats_per_code"]))
    for each, before in stated:
        now = mean_with_interval(each, seed=0)
        reach = 1.5 * (now["high"] - now["low"]) / 2
        assert abs(now["value"] - before["value"]) < reach
        assert now["value"] == pytest.approx(before["value"], rel=0.04)


def test_the_embedded_images_are_those_of_the_full_set(real_data):
    folder_of("FashionMNIST", real_data)
    for split in ("train", "test"):
        full = load_images("fashion_mnist", split, data_root=real_data)
        mini = load_images("fashion_mnist_mini", split)
        known, embedded = (
            {
                (i.numpy().tobytes(), n.item())
                for i, n in zip(d.images, d.labels, strict=True)
            }
            for d in (full, mini)
        )
        assert embedded <= known
