"""Short runs of the command line on full data sets write all files and learn.

These tests need `PIXELPRIOR_DATA`, a folder with `FashionMNIST/raw/` or `cifar10/`.
Without it they are skipped, with a reason.
"""

import re

import pytest

from pixelprior import cli
from pixelprior.data import load_images

SOURCES = {
    "fashion_mnist": ("FashionMNIST", ["--num_embeddings", "256"]),
    "imagefolder": ("cifar10", ["--num_embeddings", "512"]),
}


@pytest.mark.parametrize("dataset", SOURCES)
def test_images_in_new_images_out(dataset, real_data, tmp_path, capsys):
    folder, codebook = SOURCES[dataset]
    if not (real_data / folder).is_dir():
        pytest.skip(f"there is no {folder} in PIXELPRIOR_DATA")
    root = real_data / folder if dataset == "imagefolder" else real_data
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
        "vqvae2/last/training_state.pt",
        "prior/best/config.json",
        "prior/codes/train.safetensors",
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
    if not (real_data / "cifar10").is_dir():
        pytest.skip("there is no cifar10 in PIXELPRIOR_DATA")
    data = load_images("imagefolder", "test", data_root=real_data / "cifar10")
    assert data.images.shape == (10_000, 3, 32, 32)
    assert data.labels.bincount().tolist() == [1000] * 10
    assert data.class_names[0] == "airplane"


def test_the_embedded_images_are_those_of_the_full_set(real_data):
    if not (real_data / "FashionMNIST").is_dir():
        pytest.skip("there is no FashionMNIST in PIXELPRIOR_DATA")
    for split in ("train", "test"):
        full = load_images("fashion_mnist", split, data_root=real_data)
        mini = load_images("fashion_mnist_mini", split)
        known = {
            (image.numpy().tobytes(), label.item())
            for image, label in zip(full.images, full.labels, strict=True)
        }
        for image, label in zip(mini.images, mini.labels, strict=True):
            assert (image.numpy().tobytes(), label.item()) in known
