"""The shipped weights and the embedded images are those of the full data sets.

These tests need `PIXELPRIOR_DATA`, a folder with `FashionMNIST/raw/` or `cifar10/`.
Without it they are skipped, with a reason.
"""

import json
import re

import pytest
import torch

from pixelprior import cli
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

SOURCES = {
    "fashion_mnist": ("FashionMNIST", ["--num_embeddings", "256"]),
    "imagefolder": ("cifar10", ["--num_embeddings", "512"]),
}


def folder_of(name, real_data):
    if not (real_data / name).is_dir():
        pytest.skip(f"there is no {name} in PIXELPRIOR_DATA")
    return real_data / name


@pytest.mark.parametrize("dataset", SOURCES)
def test_images_in_new_images_out(dataset, real_data, tmp_path, capsys):
    folder, codebook = SOURCES[dataset]
    root = folder_of(folder, real_data)
    root = root if dataset == "imagefolder" else real_data
    data = ["--dataset", dataset, "--data_root", str(root), "--batch_size", "32"]
    data += ["--max_images", "2400", "--lr", "2e-3"]
    cli.main(
        ["train-vqvae2", *data, *codebook, "--epochs", "2", "--hidden_channels", "32"]
        + ["--embedding_dim", "16", "--output_dir", str(tmp_path / "vqvae2")]
    )
    cli.main(
        ["train-prior", *data, "--vqvae2_checkpoint", str(tmp_path / "vqvae2")]
        + ["--hidden_channels", "32", "--num_layers", "4", "--epochs", "4"]
        + ["--sample_every", "2", "--output_dir", str(tmp_path / "prior")]
    )
    printed = capsys.readouterr().out
    cli.main(
        ["sample", "--vqvae2_checkpoint", str(tmp_path / "vqvae2")]
        + ["--prior_checkpoint", str(tmp_path / "prior"), "--num_samples", "20"]
        + ["--save_grid", "--output_dir", str(tmp_path / "new")]
    )
    for written in (
        "vqvae2/best/model.safetensors",
        "vqvae2/last/state/run.json",
        "prior/best/config.json",
        "prior/codes/train/part_00000.safetensors",
        "prior/samples/epoch_0004.png",
        "prior/history.json",
        "new/grid.png",
        "new/sample_00019.png",
    ):
        assert (tmp_path / written).is_file(), written
    figures = re.findall(r"(\w+) codes: ([\d.]+) nats.*entropy ([\d.]+)", printed)
    assert [level for level, *_ in figures] == ["top", "bottom"]
    for level, nats, unigram in figures:
        assert float(nats) < float(unigram), f"{level}: no better than frequencies"


def test_cifar10_as_a_folder_is_whole(real_data):
    root = folder_of("cifar10", real_data)
    data = load_images("imagefolder", "test", data_root=root)
    assert data.images.shape == (10_000, 3, 32, 32)
    assert data.labels.bincount().tolist() == [1000] * 10
    assert data.class_names[0] == "airplane"


def test_the_shipped_weights_of_cifar10_have_their_kept_figures(real_data):
    """The kept figures are of all test images, and these of every tenth.

    They agree within 1.5 times half the interval of the new figures, and within 4 %.
    """
    root = folder_of("cifar10", real_data)
    data = load_images("imagefolder", "test", data_root=root)
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
        known = {
            (image.numpy().tobytes(), label.item())
            for image, label in zip(full.images, full.labels, strict=True)
        }
        for image, label in zip(mini.images, mini.labels, strict=True):
            assert (image.numpy().tobytes(), label.item()) in known
