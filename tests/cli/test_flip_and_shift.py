"""Both training commands on images that are mirrored and shifted at random."""

import json
import shutil

import pytest
import torch
from safetensors import safe_open

from pixelprior import cli
from pixelprior.assets import FOLDER
from pixelprior.cli import train as cli_train
from pixelprior.data.codes import load_codes, save_codes
from pixelprior.data.images import load_images

VQVAE2_FOLDER = FOLDER / "fashion_mnist_vqvae2"
SHORT = ["--dataset", "fashion_mnist_mini", "--max_images", "40", "--batch_size", "16"]
SMALL = ["--hidden_channels", "8", "--epochs", "1", "--lr", "1e-3"]
CHANGED = ["--flip", "--shift", "1"]


def run(*arguments):
    cli.main([str(each) for each in arguments])


def test_a_run_notes_how_images_are_changed_and_is_resumed_alike(fails, tmp_path):
    start = ["train-vqvae2", *SHORT, *SMALL, "--output_dir", tmp_path]
    run(*start, *CHANGED)
    notes = json.loads((tmp_path / "best" / "training.json").read_text())
    assert notes["augmentation"] == {"flip": True, "shift": 1}
    assert "augmentation" in fails(*start, "--epochs", 2, "--resume")
    run(*start, *CHANGED, "--epochs", 2, "--resume")


@pytest.mark.parametrize(("without_top", "share"), [(False, 0.2), (True, 0)])
def test_a_prior_is_given_codes_of_changed_images_with_their_labels(
    without_top, share, tmp_path, monkeypatch
):
    given, fit = {}, cli_train.fit

    def look(model, train_data, heldout_data, *more, **options):
        given.update(train=train_data, heldout=heldout_data)
        return fit(model, train_data, heldout_data, *more, **options)

    monkeypatch.setattr(cli_train, "fit", look)
    run(
        *["train-prior", *SHORT, *SMALL, *CHANGED, "--num_layers", 2],
        *["--class_conditional", "--vqvae2_checkpoint", VQVAE2_FOLDER],
        *["--validation_share", share, "--output_dir", tmp_path],
        *(["--level", "bottom", "--without_top"] if without_top else []),
    )
    train, images = given["train"], load_images("fashion_mnist_mini", max_images=40)
    count = 32 if share else 40
    assert len(train) == count
    trained_on = train.indices if share else torch.arange(40)
    one, two = (train.batch(torch.arange(count)) for _ in range(2))
    assert torch.equal(one[2].cpu(), images.labels[trained_on])
    assert not torch.equal(one[1], two[1])  # changed anew
    assert one[0].any() != without_top
    if share:  # what is held out stays as it is
        codes = given["heldout"].batch(torch.arange(8))
        again = given["heldout"].batch(torch.arange(8))
        assert torch.equal(codes[1], again[1])


def test_codes_of_other_images_are_not_taken_for_those_of_these(fails, tmp_path):
    command = ["train-prior", *SHORT, *SMALL, "--num_layers", 2, "--output_dir"]
    command += [tmp_path / "out", "--vqvae2_checkpoint", VQVAE2_FOLDER]
    run(*command, "--class_conditional")
    path = tmp_path / "out" / "codes" / "train" / "part_00000.safetensors"
    with safe_open(path, framework="pt") as file:
        source = file.metadata()["source"]
    # Other labels in files of the same state; fewer codes are extracted again.
    save_codes(load_codes(path).subset(torch.arange(39, -1, -1)), path, source)
    shutil.rmtree(tmp_path / "out" / "last")
    error = fails(*command, "--class_conditional", "--flip")
    assert "40 images can be read, but there are codes of" in error
