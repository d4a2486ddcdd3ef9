"""The command line as a person uses it: the pipeline, and each kind of bad input."""

import errno
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from pixelprior import VQVAE2, HierarchicalPixelCNN, assets, cli, devices
from pixelprior.assets import FOLDER, SHIPPED
from pixelprior.checkpoints import load_model
from pixelprior.cli import doctor
from pixelprior.cli import flags as cli_flags
from pixelprior.cli import train as cli_train
from pixelprior.data.codes import extract_codes
from pixelprior.data.held_out import hold_out
from pixelprior.data.images import DATASETS
from pixelprior.evaluation import measures

VQVAE2_FOLDER = FOLDER / "fashion_mnist_vqvae2"
PRIOR_FOLDER = FOLDER / "fashion_mnist_prior"
SAMPLE = ["sample", "--vqvae2_checkpoint", VQVAE2_FOLDER]
SAMPLE += ["--prior_checkpoint", PRIOR_FOLDER, "--num_samples", 2]
SHORT = ["--dataset", "fashion_mnist_mini", "--max_images", 96, "--batch_size", 32]
SHORT_FLAGS = cli.TrainVQVAE2(dataset="fashion_mnist_mini", max_images=96)
SMALL = ["--hidden_channels", 16, "--num_layers", 2, "--epochs", 1]
TRAIN_VQVAE2 = ["train-vqvae2", *SHORT, "--epochs", 1, "--hidden_channels", 8]
TRAIN_PRIOR = ["train-prior", *SHORT, "--vqvae2_checkpoint", VQVAE2_FOLDER]


def run(*arguments):
    cli.main([str(each) for each in arguments])


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """A folder in which both training commands ran, with 512 codes."""
    folder = tmp_path_factory.mktemp("pipeline")
    run(
        *["train-vqvae2", *SHORT, "--epochs", 2, "--hidden_channels", 16],
        *["--embedding_dim", 8, "--output_dir", folder / "vqvae2"],
    )
    run(
        *["train-prior", *SHORT, *SMALL, "--class_conditional", "--sample_every", 1],
        *["--vqvae2_checkpoint", folder / "vqvae2", "--output_dir", folder / "prior"],
    )
    return folder


@pytest.fixture
def draw(pipeline):
    """The start of a command that draws from them."""
    flags = ["--vqvae2_checkpoint", pipeline / "vqvae2"]
    return ["sample", *flags, "--prior_checkpoint", pipeline / "prior"]


def files_below(folder):
    files = filter(Path.is_file, folder.rglob("*"))
    return sorted(path.relative_to(folder).as_posix() for path in files)


def test_training_writes_checkpoints_codes_history_and_pictures(pipeline):
    names = ("config.json", "model.safetensors", "training.json")
    wanted = {f"{kept}/{each}" for kept in ("best", "last") for each in names}
    wanted.add("history.json")
    found = set(files_below(pipeline / "vqvae2"))
    assert wanted | {"samples/epoch_0002.png"} <= found
    codes = {f"codes/{split}/part_00000.safetensors" for split in ("train", "test")}
    found = set(files_below(pipeline / "prior"))
    assert wanted | codes | {"samples/epoch_0001.png"} <= found


def test_test_images_are_measured_once_and_at_the_end(pipeline, tmp_path, monkeypatch):
    """The images by which `best` is chosen are held out of the training images."""

    def bytes_of(data):
        return [image.numpy().tobytes() for image in data.images]

    train, test = (
        set(bytes_of(cli_train.images_of(SHORT_FLAGS, split, 32)))
        for split in ("train", "test")
    )
    events, fit, measure = [], cli_train.fit, measures.reconstruction_errors

    def watched_fit(model, train_data, heldout_data, *rest, **options):
        seen, held_out = bytes_of(train_data.copied()), bytes_of(heldout_data)
        assert (len(seen), len(held_out)) == (91, 5)
        assert {*seen, *held_out} == train and not {*held_out} & test
        events.append("training")
        return fit(model, train_data, heldout_data, *rest, **options)

    def watched_measure(model, data):
        assert set(bytes_of(data)) == test
        events.append("measuring")
        return measure(model, data)

    monkeypatch.setattr(cli_train, "fit", watched_fit)
    monkeypatch.setattr(measures, "reconstruction_errors", watched_measure)
    run(*TRAIN_VQVAE2, "--output_dir", tmp_path)
    assert events == ["training", "measuring"]


def test_a_prior_holds_out_the_images_of_its_vqvae2_or_says_so(
    pipeline, tmp_path, monkeypatch, capsys
):
    given = {}

    def stop(model, train_data, heldout_data, *_more, **_options):
        given.update(train=train_data, heldout=heldout_data)
        raise KeyboardInterrupt

    monkeypatch.setattr(cli_train, "fit", stop)
    start = ["train-prior", *SHORT, *SMALL, "--class_conditional"]
    start += ["--vqvae2_checkpoint", pipeline / "vqvae2", "--output_dir"]

    def begin(name, *flags):
        with pytest.raises(SystemExit):
            run(*start, tmp_path / name, *flags)
        return capsys.readouterr().out

    images = cli_train.images_of(SHORT_FLAGS, "train", 32)
    vqvae2 = load_model(VQVAE2, pipeline / "vqvae2")
    _, codes = hold_out(extract_codes(vqvae2, images), 0.05)
    assert "trained on some" not in begin("seed", "--seed", "1")
    assert torch.equal(codes.z_top, given["heldout"].z_top)  # whatever the seed
    assert torch.equal(codes.labels, given["heldout"].labels)
    said = begin("other", "--validation_share", "0.1")
    assert "the VQ-VAE-2 was trained on some of the images held out here" in said
    assert "give --validation_share 0.05" in said
    assert "trained on some" not in begin("all", "--validation_share", "0")
    assert given["heldout"] is None and len(given["train"]) == 96


def test_512_codes_keep_their_values_from_images_to_file(pipeline):
    vqvae2 = load_model(VQVAE2, pipeline / "vqvae2")
    stored = load_file(pipeline / "prior/codes/train/part_00000.safetensors")
    images = cli_train.images_of(SHORT_FLAGS, "train", 32)
    codes = vqvae2.get_code_indices(images.batch(torch.arange(96))[0])
    assert torch.equal(stored["z_bottom"].long(), codes["indices_bottom"])
    assert torch.equal(stored["z_top"].long(), codes["indices_top"])
    assert codes["indices_bottom"].max() > 255 and stored["z_top"].dtype == torch.int16


def test_sample_writes_images_and_the_grid(draw, tmp_path, capsys):
    run(
        *[*draw, "--num-samples", 7, "--batch-size", 3, "--save_grid"],
        *["--grid_nrow", 4, "--label", 2, "--temperature", 0.9, "--top_k", 50],
        *["--top_p", 0.95, "--output_dir", tmp_path / "new"],
    )
    names = [f"sample_{index:05d}.png" for index in range(7)]
    assert files_below(tmp_path / "new") == ["drawn_with.json", "grid.png", *names]
    grid = np.asarray(Image.open(tmp_path / "new" / "grid.png"))
    assert grid.shape == (2 * 34 + 2, 4 * 34 + 2, 3)
    assert "wrote 7 images" in capsys.readouterr().out


def test_images_that_are_missing_are_drawn_and_no_others(draw, tmp_path, fails):
    draw += ["--num_samples", 7, "--batch_size", 2, "--output_dir", tmp_path]
    run(*draw)
    files = sorted(tmp_path.glob("*.png"))
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
    files[3].unlink()
    run(*draw, "--resume")
    for path, (content, time) in before.items():
        assert path.read_bytes() == content
        drawn_again = path in files[2:4]  # the batch of the missing image
        assert (path.stat().st_mtime_ns != time) == drawn_again
    run(*draw, "--resume", "--save_grid")  # which changes no image
    (tmp_path / "sample_other.png").write_text("mine")
    run(*draw, "--seed", 1, "--num_samples", 2)
    left = [path.name for path in sorted(tmp_path.glob("sample_*"))]
    assert left == ["sample_00000.png", "sample_00001.png", "sample_other.png"]
    error = fails(*draw, "--resume", "--label", 1)
    assert "was made with another num_samples, label, seed; resume it" in error


def test_images_are_the_same_by_every_method_and_others_in_bf16(draw, tmp_path):
    def picture(name, *flags):
        into = ["--num_samples", 3, "--save_grid", "--output_dir", tmp_path / name]
        run(*draw, *flags, *into)
        return np.asarray(Image.open(tmp_path / name / "grid.png"))

    first, low = picture("auto"), picture("bf16", "--bf16")
    naive = picture("naive", "--method", "naive")
    assert (first == naive).mean() > 0.9  # the rest are rounding ties
    assert low.shape == first.shape and (low != first).any()


def test_one_level_can_be_trained_after_the_other(fails, pipeline, tmp_path):
    start = ["train-prior", *SHORT, *SMALL, "--vqvae2_checkpoint", pipeline / "vqvae2"]
    first, second = tmp_path / "top", tmp_path / "both"
    run(*start, "--level", "top", "--output_dir", first)
    given = ["--init_checkpoint", first]
    run(*start, "--level", "bottom", *given, "--output_dir", second)
    top, both = (load_model(HierarchicalPixelCNN, path) for path in (first, second))
    kept = zip(top.prior_top.parameters(), both.prior_top.parameters(), strict=True)
    assert all(torch.equal(*pair) for pair in kept)
    bottoms = [m.prior_bottom.head[-1].weight for m in (top, both)]
    assert not torch.equal(*bottoms)
    draw = ["sample", "--vqvae2_checkpoint", pipeline / "vqvae2", "--num_samples", 1]
    draw += ["--output_dir", tmp_path / "new", "--prior_checkpoint"]
    assert "bottom level" in fails(*draw, first)
    run(*draw, second)
    VQVAE2(1, 32, 16, 8, 512).save_pretrained(tmp_path / "other")
    into = ["--output_dir", tmp_path / "mixed"]
    error = fails(*start[:-1], tmp_path / "other", *given, *into)
    assert "another VQ-VAE-2" in error and not list((tmp_path / "mixed").iterdir())


def test_the_doctor_names_each_fault_with_its_fix(capsys, monkeypatch):
    wanted = ["torch>=2", "tyro>=99", "no-such-package>=1", 'x>=1; extra == "dev"']
    monkeypatch.setattr("importlib.metadata.requires", lambda name: wanted)
    with pytest.raises(SystemExit) as stop:
        cli.main(["doctor"])
    out = capsys.readouterr().out
    assert stop.value.code == 1
    fix = '     -> pip install "no-such-package>=1"'
    assert f"FIX  no-such-package: not installed\n{fix}" in out
    assert "but >=99 is needed" in out
    assert "ok   torch: " in out and "2 to fix" in out


@pytest.mark.parametrize(
    ("ending", "words"),
    [
        (RuntimeError("CUDA out of memory."), "too large for this machine"),
        (RuntimeError("No executable batch size found"), "choose smaller sizes"),
    ],
)
def test_what_a_machine_does_not_hold_ends_in_one_line(
    fails, tmp_path, monkeypatch, ending, words
):
    def full(*_, **__):
        raise ending

    monkeypatch.setattr(HierarchicalPixelCNN, "sample", full)
    assert words in fails(*SAMPLE, "--output_dir", tmp_path)


def test_the_doctor_finds_shipped_weights_that_are_damaged(tmp_path, monkeypatch):
    copied = shutil.copytree(FOLDER, tmp_path / "assets")
    monkeypatch.setattr(assets, "FOLDER", copied)
    assert "checksums correct" in doctor.shipped()
    weights = copied / "fashion_mnist_prior" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ValueError, match=f"{re.escape(str(weights))} is not .*; pip"):
        doctor.shipped()


@pytest.mark.parametrize(
    ("cuda", "why"),
    [(None, "it is a CPU build"), ("99.9", "the driver lacks CUDA 99.9")],
)
def test_the_doctor_names_a_gpu_that_torch_cannot_use(cuda, why, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(doctor.Path, "exists", lambda path: True)
    with pytest.raises(ValueError, match=f"{why}; install .* pytorch.org"):
        doctor.gpu()


def test_training_says_where_it_takes_place():
    run = {"mixed_precision": "bf16", "num_processes": 4}
    run = SimpleNamespace(device=torch.device("cpu"), **run)
    assert devices.where(run) == "training on cpu in bf16, 4 processes"


def test_help_gives_each_flag_its_choices_and_default(capsys):
    assert get_args(cli_flags.Shipped) == SHIPPED
    with pytest.raises(SystemExit) as stop:
        run("train-prior", "--help")
    assert stop.value.code == 0
    out = capsys.readouterr().out
    flags = "vqvae2_checkpoint dataset batch_size epochs lr hidden_channels num_layers"
    flags += " temperature sample_every output_dir use_wandb level resume"
    assert all(f"--{flag}" in out for flag in flags.split())
    assert all(name in out for name in DATASETS)
    assert "outputs/pixelcnn_prior" in out and "0.0003" in out


SHIFT = "give a whole number of pixels from 0, for none, to 31, for images of 32×32"


@pytest.mark.parametrize(
    ("command", "flags", "words"),
    [
        (SAMPLE, "--temperature 0", "temperature is 0"),
        (SAMPLE, "--label 10", "label 10 is out of range"),
        (SAMPLE, f"--label {10**30}", f"labels are {10**30}; give labels from 0 to 9"),
        (SAMPLE, "--num_samples 0", "num_samples is 0"),
        (SAMPLE, "--batch_size 0", "batch_size is 0"),
        (SAMPLE, "--device abacus", "device 'abacus'"),
        (SAMPLE, "--device meta", "device 'meta'"),
        (TRAIN_VQVAE2, "--max_images 1", "1 training image cannot be both"),
        (TRAIN_VQVAE2, "--validation_share 1", "validation_share is 1"),
        (TRAIN_VQVAE2, "--image_size 31", "image_size is 31"),
        (TRAIN_VQVAE2, "--image_size 1000000", "too large for this machine"),
        (TRAIN_VQVAE2, "--sample_every 0", "sample_every is 0"),
        (TRAIN_VQVAE2, "--lr nan", "lr is nan"),
        (TRAIN_VQVAE2, "--shift 32", f"shift is 32; {SHIFT}"),
        (TRAIN_PRIOR, "--shift -1", f"shift is -1; {SHIFT}"),
        (TRAIN_PRIOR, "--kernel_size 4", "kernel_size is 4"),
        (TRAIN_PRIOR, "--dropout nan", "dropout is nan"),
        (TRAIN_PRIOR, "--init_checkpoint nowhere", "no checkpoint at nowhere"),
        (TRAIN_PRIOR, "--without_top", "give --level bottom"),
        (
            TRAIN_PRIOR,
            "--label_dropout 0.2",
            "--label_dropout is 0.2, but there are no",
        ),
        (["train-prior"], "--codes any.npz --flip", "--flip is for images"),
    ],
)
def test_bad_flags_end_in_one_line(fails, tmp_path, command, flags, words):
    """They are seen before any work is done: nothing is encoded or drawn."""
    error = fails(*command, *flags.split(), "--output_dir", tmp_path / "out")
    assert words in error
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("flags", [["--no_such_flag"], ["--method", "quickly"]])
def test_flags_that_cannot_be_read_are_named(capsys, tmp_path, flags):
    with pytest.raises(SystemExit) as stop:
        run(*SAMPLE, *flags, "--output_dir", tmp_path)
    said = capsys.readouterr()
    assert stop.value.code == 2 and said.out == ""
    assert flags[-1] in said.err and "Traceback" not in said.err
    assert not list(tmp_path.iterdir())


def test_bad_checkpoints_end_in_one_line(fails, pipeline, tmp_path):
    out = ["--output_dir", tmp_path / "out"]
    vqvae2, prior = pipeline / "vqvae2", pipeline / "prior"

    def sample(vqvae2, prior):
        models = ["--vqvae2_checkpoint", vqvae2, "--prior_checkpoint", prior]
        return fails("sample", *models, *out)

    assert "no checkpoint at" in sample(tmp_path / "nowhere", prior)
    assert "holds a VQVAE2" in sample(vqvae2, vqvae2)
    assert "of [512, 512] codes, but the tokenizer has 2 of [30, 30]" in sample(
        VQVAE2_FOLDER, prior
    )
    (tmp_path / "junk.pth").write_bytes(b"junk")
    assert "junk.pth" in sample(tmp_path / "junk.pth", prior)
    VQVAE2(1, 32, 16, 8, 512).save_pretrained(tmp_path / "other")
    assert "another VQ-VAE-2" in sample(tmp_path / "other", prior)
    assert not (tmp_path / "out").exists()


def test_a_prior_that_was_trained_for_guidance_is_sampled_with_it(
    pipeline, fails, tmp_path
):
    vqvae2 = ["--vqvae2_checkpoint", pipeline / "vqvae2"]
    train = ["train-prior", *SHORT, *SMALL, "--label_dropout", 0.2, *vqvae2]
    run(*train, "--class_conditional", "--output_dir", tmp_path / "prior")
    assert load_model(HierarchicalPixelCNN, tmp_path / "prior").label_dropout == 0.2
    sample = ["sample", *vqvae2, "--num_samples", 2]
    sample += ["--prior_checkpoint", tmp_path / "prior", "--output_dir"]
    run(*sample, tmp_path / "new", "--guidance", 2, 0.5)
    assert len(list((tmp_path / "new").glob("*.png"))) == 2
    assert "guidance is" in fails(*sample, tmp_path / "x", "--guidance", -1)


def test_an_output_folder_that_cannot_be_written_ends_in_one_line(fails, tmp_path):
    (tmp_path / "file").write_text("")
    blocked = tmp_path / "file" / "below"
    for command in (["demo"], SAMPLE, TRAIN_VQVAE2):
        assert "cannot write" in fails(*command, "--output_dir", blocked)


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "make room on the disk"),
        (errno.EROFS, "ask for permission to write there, or choose another folder"),
        (errno.EACCES, "ask for permission, or choose another path"),
        (errno.EPERM, "ask for permission, or choose another path"),
        (getattr(errno, "EDQUOT", errno.ENOSPC), "make room on the disk"),
        (errno.ENXIO, None),
    ],
)
def test_what_the_system_refuses_ends_with_a_remedy(
    fails, tmp_path, monkeypatch, number, remedy
):
    """Here where `sample` notes how it draws, before it draws anything."""
    refused = OSError(number, os.strerror(number), "drawn_with.json")

    def refuse(*_, **__):
        raise refused

    monkeypatch.setattr("pixelprior.cli.resuming.write_texts", refuse)
    said = f"pixelprior: error: {refused}" + (f"; {remedy}" if remedy else "")
    assert fails(*SAMPLE, "--output_dir", tmp_path / "x") == said + "\n"


def test_images_of_other_channels_than_the_vqvae2_end_in_one_line(fails, tmp_path):
    (tmp_path / "in").mkdir()
    for index in range(10):
        Image.new("RGB", (40, 40), (index, 0, 0)).save(tmp_path / "in" / f"{index}.png")
    error = fails(
        *["train-prior", "--vqvae2_checkpoint", VQVAE2_FOLDER],
        *["--dataset", "imagefolder", "--data_root", tmp_path / "in"],
        *["--output_dir", tmp_path / "out"],
    )
    assert "3, 32, 32]" in error


def test_a_strange_file_name_does_not_break_the_line(fails, tmp_path):
    strange = tmp_path / "two\nlines\x1b"
    error = fails(*SAMPLE[:3], "--prior_checkpoint", strange)
    assert "two lines\\x1b" in error


def test_a_run_that_diverges_ends_with_status_1(fails, tmp_path):
    rate = ["--lr", "1e30", "--warmup", 0, "--epochs", 2]
    error = fails(*TRAIN_VQVAE2, *rate, "--output_dir", tmp_path / "out", status=1)
    assert "training stopped at step" in error and "--lr" in error


@pytest.mark.slow
def test_a_process_of_its_own_shows_no_bar_and_no_traceback(tmp_path):
    command = [sys.executable, "-m", "pixelprior.cli", *map(str, SAMPLE)]
    done, failed = (
        subprocess.run([*command, *flags], capture_output=True, text=True)
        for flags in (["--output_dir", str(tmp_path)], ["--temperature", "0"])
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert failed.returncode == 2 and failed.stdout == ""
    assert failed.stderr.count("\n") == 1 and "Traceback" not in failed.stderr


def test_help_loads_no_torch():
    ask = (
        "import sys\n"
        "from pixelprior import cli\n"
        f"for words in {[[], *([name] for name in cli.COMMANDS)]!r}:\n"
        "    try:\n"
        "        cli.main([*words, '--help'])\n"
        "    except SystemExit as stop:\n"
        "        assert not stop.code\n"
        "print('loaded:', *{'torch', 'numpy', 'matplotlib'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage: pixelprior") == 1 + len(cli.COMMANDS)
    assert done.stdout.splitlines()[-1].strip() == "loaded:"
