"""The command line as a person uses it: the pipeline, and each kind of bad input."""

import errno
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from pixelprior import VQVAE2, assets, cli
from pixelprior.assets import FOLDER, SHIPPED
from pixelprior.checkpoints import load_model
from pixelprior.cli import doctor, prior_training
from pixelprior.cli import train as cli_train
from pixelprior.data.codes import extract_codes
from pixelprior.data.held_out import hold_out
from pixelprior.data.images import DATASETS, SPLITS
from pixelprior.evaluation import measures

VQVAE2_FOLDER = FOLDER / "fashion_mnist_vqvae2"
SAMPLE = ["sample", "--vqvae2_checkpoint", VQVAE2_FOLDER, "--num_samples", 2]
SAMPLE += ["--prior_checkpoint", FOLDER / "fashion_mnist_prior"]
SHORT = ["--dataset", "fashion_mnist_mini", "--max_images", 96, "--batch_size", 32]
SHORT_FLAGS = cli.TrainVQVAE2(dataset="fashion_mnist_mini", max_images=96)
SMALL = ["--hidden_channels", 16, "--num_layers", 2, "--epochs", 1]
TRAIN_VQVAE2 = ["train-vqvae2", *SHORT, "--epochs", 1, "--hidden_channels", 8]
TRAIN_PRIOR = ["train-prior", *SHORT, *SMALL, "--class_conditional"]
TRAIN_PRIOR += ["--vqvae2_checkpoint"]


def run(*arguments):
    cli.main([str(each) for each in arguments])


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """A folder in which both training commands ran, with 512 codes."""
    folder = tmp_path_factory.mktemp("pipeline")
    vqvae2, prior = folder / "vqvae2", folder / "prior"
    small = ["--hidden_channels", 16, "--embedding_dim", 8, "--epochs", 2]
    run("train-vqvae2", *SHORT, *small, "--output_dir", vqvae2)
    run(*TRAIN_PRIOR, vqvae2, "--label_dropout", 0.2, "--output_dir", prior)
    return folder


@pytest.fixture
def draw(pipeline):
    """The start of a command that draws from them."""
    flags = ["--vqvae2_checkpoint", pipeline / "vqvae2"]
    return ["sample", *flags, "--prior_checkpoint", pipeline / "prior"]


@pytest.fixture
def begin(pipeline, tmp_path, monkeypatch, capsys):
    """A function that begins to train: what it says, the parts of its data, notes."""
    given = []

    def stop(_model, *data, **options):
        given[:] = *data[:2], options["notes"]
        raise KeyboardInterrupt

    def run_with(*flags, start=(*TRAIN_PRIOR, pipeline / "vqvae2")):
        with pytest.raises(SystemExit):
            run(*start, "--output_dir", tmp_path, *flags)
        return "".join(capsys.readouterr()), *given

    monkeypatch.setattr(cli_train, "fit", stop)
    return run_with


def test_no_test_image_is_trained_on_or_chooses_the_best_epoch(tmp_path, monkeypatch):
    def bytes_of(data):
        return {image.numpy().tobytes() for image in data.images}

    def train(_flags, _accelerator, model, data, *_more):
        seen.extend(data)
        return model

    def measure(_model, data):
        seen.append(data)
        return torch.zeros(1)

    seen, images = [], (cli_train.images_of(SHORT_FLAGS, each, 32) for each in SPLITS)
    monkeypatch.setattr(cli_train, "train", train)
    monkeypatch.setattr(measures, "reconstruction_errors", measure)
    run(*TRAIN_VQVAE2, "--output_dir", tmp_path)
    (first, held_out, measured), (of_train, of_test) = seen, map(bytes_of, images)
    assert (len(first), len(held_out)) == (91, 5) and not of_train & of_test
    assert bytes_of(first.copied()) | bytes_of(held_out) == of_train
    assert bytes_of(measured) == of_test


def test_training_writes_codes_to_train_on_and_a_picture_of_the_last_epoch(
    pipeline, begin
):
    assert (pipeline / "vqvae2" / "samples" / "epoch_0002.png").is_file()
    codes = pipeline / "prior" / "codes" / "train"
    _, train, held_out, _ = begin(start=["train-prior", "--codes", codes])
    assert (len(train), len(held_out)) == (91, 5)


def test_a_prior_holds_out_the_images_of_its_vqvae2_or_says_so(pipeline, begin):
    images = cli_train.images_of(SHORT_FLAGS, "train", 32)
    codes = extract_codes(load_model(VQVAE2, pipeline / "vqvae2"), images)
    said, _, held_out, _ = begin("--seed", 1)
    assert torch.equal(held_out.z_bottom, hold_out(codes, 0.05)[1].z_bottom)
    assert "trained on some" not in said
    said, *_ = begin("--validation_share", 0.1)
    assert "the VQ-VAE-2 was trained on some of the images held out here" in said
    assert "give --validation_share 0.05" in said


def test_a_vqvae2_is_trained_on_images_that_are_changed_anew(begin):
    _, train, *_ = begin("--flip", start=TRAIN_VQVAE2)
    one, two = (train.batch(torch.arange(91))[0] for _ in range(2))
    assert not torch.equal(one, two)


@pytest.mark.parametrize("level", [[], ["--level", "bottom", "--without_top"]])
def test_a_prior_is_given_codes_of_changed_images_with_their_labels(
    begin, level, monkeypatch
):
    _, train, held_out, notes = begin("--flip", "--shift", 1, *level)
    assert notes["augmentation"] == {"flip": True, "shift": 1}
    images = cli_train.images_of(SHORT_FLAGS, "train", 32)
    one, two = (train.batch(torch.arange(90)) for _ in range(2))
    assert torch.equal(one[2].cpu(), images.labels[train.indices[:90]])
    assert not torch.equal(one[1], two[1])  # changed anew
    assert one[0].any() != bool(level)
    one, two = (held_out.batch(torch.arange(5)) for _ in range(2))
    assert torch.equal(one[1], two[1])  # what is held out stays as it is
    images.labels = images.labels.flip(0)
    monkeypatch.setattr(prior_training, "images_of", lambda *_: images)
    assert "96 images can be read, but there are codes of" in begin("--flip", *level)[0]


def test_sample_writes_images_and_the_grid(draw, tmp_path, capsys):
    run(
        *[*draw, "--num-samples", 7, "--batch-size", 3, "--save_grid"],
        *["--grid_nrow", 4, "--label", 2, "--temperature", 0.9, "--top_k", 50],
        *["--top_p", 0.95, "--guidance", 2, 0.5, "--output_dir", tmp_path / "new"],
    )
    names = [f"sample_{index:05d}.png" for index in range(7)]
    found = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert found == ["drawn_with.json", "grid.png", *names]
    grid = np.asarray(Image.open(tmp_path / "new" / "grid.png"))
    assert grid.shape == (2 * 34 + 2, 4 * 34 + 2, 3)
    assert "wrote 7 images" in capsys.readouterr().out


def test_every_method_writes_the_same_images(draw, tmp_path):
    written = []
    for method in ("naive", "cached"):
        folder = tmp_path / method
        run(*draw, "--num_samples", 2, "--method", method, "--output_dir", folder)
        written.append([path.read_bytes() for path in sorted(folder.glob("*.png"))])
    assert len(written[0]) == 2 and written[0] == written[1]


def test_images_that_are_missing_are_drawn_and_no_others(draw, tmp_path, fails):
    draw += ["--num_samples", 7, "--batch_size", 2, "--output_dir", tmp_path]
    run(*draw)
    files = sorted(tmp_path.glob("*.png"))
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
    files[3].unlink()
    run(*draw, "--resume", "--save_grid")  # which changes no image
    for path, (content, time) in before.items():
        assert path.read_bytes() == content
        drawn_again = path in files[2:4]  # the batch of the missing image
        assert (path.stat().st_mtime_ns != time) == drawn_again
    (tmp_path / "sample_other.png").write_text("mine")
    run(*draw, "--seed", 1, "--num_samples", 2)
    left = [path.name for path in sorted(tmp_path.glob("sample_*"))]
    assert left == ["sample_00000.png", "sample_00001.png", "sample_other.png"]
    error = fails(*draw, "--resume", "--label", 1)
    assert "was made with another num_samples, label, seed; resume it" in error


def test_the_doctor_names_each_fault_with_its_fix(capsys, monkeypatch):
    wanted = ["torch>=2", "tyro>=99", "no-such-package>=1", 'x>=1; extra == "dev"']
    monkeypatch.setattr("importlib.metadata.requires", lambda name: wanted)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "99.9")
    monkeypatch.setattr(doctor.Path, "exists", lambda path: True)
    with pytest.raises(SystemExit, match="1"):
        cli.main(["doctor"])
    out, fix = capsys.readouterr().out, '     -> pip install "no-such-package>=1"'
    assert f"FIX  no-such-package: not installed\n{fix}" in out
    assert "but >=99 is needed" in out and "the driver lacks CUDA 99.9" in out
    assert "ok   torch: " in out and f"{out.count('FIX  ')} to fix" in out


def test_the_doctor_finds_shipped_weights_that_are_damaged(tmp_path, monkeypatch):
    copied = shutil.copytree(FOLDER, tmp_path / "assets")
    monkeypatch.setattr(assets, "FOLDER", copied)
    assert "checksums correct" in doctor.shipped()
    weights = copied / "fashion_mnist_prior" / "model.safetensors"
    *rest, last = weights.read_bytes()
    weights.write_bytes(bytes([*rest, last ^ 1]))
    with pytest.raises(ValueError, match=f"{re.escape(str(weights))} is not .*; pip"):
        doctor.shipped()


SHIPPED_PRIOR = ["train-prior", *SHORT, "--vqvae2_checkpoint", VQVAE2_FOLDER]


@pytest.mark.parametrize(
    ("command", "flags", "words"),
    [
        (SAMPLE, "--guidance -1", "guidance is"),
        (SAMPLE, "--device abacus", "device 'abacus'"),
        (TRAIN_VQVAE2, "--max_images 1", "1 training image cannot be both"),
        (TRAIN_VQVAE2, "--image_size 1000000", "too large for this machine"),
        (TRAIN_VQVAE2, "--shift 32", "shift is 32; give a whole number of pixels"),
        (SHIPPED_PRIOR, "--label_dropout 0.2", "but there are no labels to withhold"),
        (["train-prior"], "--codes any.npz --flip", "--flip is for images"),
    ],
)
def test_bad_flags_end_in_one_line(fails, tmp_path, command, flags, words):
    """They are seen before any work is done: nothing is encoded or drawn."""
    error = fails(*command, *flags.split(), "--output_dir", tmp_path / "out")
    assert words in error
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_bad_checkpoints_end_in_one_line(fails, pipeline, tmp_path):
    vqvae2, prior = pipeline / "vqvae2", pipeline / "prior"
    junk, other = tmp_path / "junk.pth", tmp_path / "other"
    junk.write_bytes(b"junk")
    VQVAE2(1, 32, 16, 8, 512).save_pretrained(other)
    for given, words in (
        ((vqvae2, vqvae2), "holds a VQVAE2"),
        ((VQVAE2_FOLDER, prior), "512] codes, but the tokenizer has 2 of [30, 30]"),
        ((junk, prior), "junk.pth"),
        ((other, prior), "another VQ-VAE-2"),
        ((vqvae2, tmp_path / "two\nlines\x1b"), "two lines\\x1b"),
    ):
        models = "--vqvae2_checkpoint", given[0], "--prior_checkpoint", given[1]
        assert words in fails("sample", *models, "--output_dir", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("refused", "status", "words"),
    [
        (RuntimeError("CUDA out of memory."), 2, "memory.); choose smaller sizes"),
        (OSError(errno.ENOSPC, "full"), 2, "full; make room on the disk"),
        (RuntimeError("Connection closed by peer"), 1, "another process of this run"),
        (FloatingPointError("stopped at step 3"), 1, "stopped at step 3\n"),
    ],
)
def test_what_the_machine_refuses_ends_with_a_remedy(
    fails, monkeypatch, refused, status, words
):
    def refuse(_doctor):
        raise refused

    monkeypatch.setattr(cli.Doctor, "run", refuse)
    assert words in fails("doctor", status=status)


def test_help_loads_no_torch_and_names_the_data_sets():
    ask = (
        "import contextlib, sys\n"
        "from pixelprior import cli\n"
        "for name in ('', *cli.COMMANDS):\n"
        "    with contextlib.suppress(SystemExit):\n"
        "        cli.main([*filter(None, [name]), '--help'])\n"
        "print('loaded:', *{'torch', 'numpy', 'matplotlib'} & set(sys.modules))\n"
    )
    said = subprocess.check_output([sys.executable, "-c", ask], text=True)
    assert said.count("usage: pixelprior") == 1 + len(cli.COMMANDS)
    assert all(name in said for name in (*SHIPPED, *DATASETS))
    assert said.endswith("loaded:\n")
