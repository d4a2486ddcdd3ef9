"""The command line as a person uses it: the pipeline, and each kind of bad input."""

import errno
import os
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

from pixelprior import VQVAE2, HierarchicalPixelCNN, assets, cli, devices, training
from pixelprior.assets import FOLDER, SHIPPED
from pixelprior.checkpoints import load_model
from pixelprior.cli import doctor, drawing, prior_training
from pixelprior.cli import flags as cli_flags
from pixelprior.cli import train as cli_train
from pixelprior.data.codes import extract_codes
from pixelprior.data.images import DATASETS
from pixelprior.evaluation import measures

VQVAE2_FOLDER = FOLDER / "fashion_mnist_vqvae2"
PRIOR_FOLDER = FOLDER / "fashion_mnist_prior"
SAMPLE = ["sample", "--vqvae2_checkpoint", VQVAE2_FOLDER]
SAMPLE += ["--prior_checkpoint", PRIOR_FOLDER, "--num_samples", 2]
SHORT = ["--dataset", "fashion_mnist_mini", "--max_images", 96, "--batch_size", 32]
SMALL = ["--hidden_channels", 16, "--num_layers", 2, "--epochs", 1]
TRAIN_VQVAE2 = ["train-vqvae2", *SHORT, "--epochs", 1, "--hidden_channels", 8]


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


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("vqvae2", ["samples/epoch_0002.png"]),
        (
            "prior",
            ["codes/test/part_00000.safetensors", "codes/train/part_00000.safetensors"],
        ),
        ("prior", ["samples/epoch_0001.png"]),
    ],
)
def test_training_writes_checkpoints_codes_history_and_pictures(pipeline, name, own):
    names = ("config.json", "model.safetensors", "training.json")
    wanted = [f"{kept}/{each}" for kept in ("best", "last") for each in names]
    assert {"history.json", *wanted, *own} <= set(files_below(pipeline / name))


def test_test_images_are_measured_once_and_at_the_end(pipeline, tmp_path, monkeypatch):
    """The images by which `best` is chosen are held out of the training images."""
    flags = cli.TrainVQVAE2(dataset="fashion_mnist_mini", max_images=96)

    def bytes_of(data):
        return [image.numpy().tobytes() for image in data.images]

    train, test = (
        set(bytes_of(cli_train.images_of(flags, split, 32)))
        for split in ("train", "test")
    )
    events, fit, measure = [], training.fit, measures.reconstruction_errors

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

    monkeypatch.setattr(training, "fit", watched_fit)
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

    monkeypatch.setattr(prior_training, "fit", stop)
    start = ["train-prior", *SHORT, *SMALL, "--class_conditional"]
    start += ["--vqvae2_checkpoint", pipeline / "vqvae2", "--output_dir"]

    def begin(name, *flags):
        with pytest.raises(SystemExit):
            run(*start, tmp_path / name, *flags)
        return capsys.readouterr().out

    assert "the VQ-VAE-2 was trained on some" not in begin("same")
    command = cli.TrainVQVAE2(dataset="fashion_mnist_mini", max_images=96)
    images = cli_train.images_of(command, "train", 32)
    _, heldout = cli_train.split(command, images)
    assert torch.equal(heldout.labels, given["heldout"].labels)
    vqvae2 = load_model(VQVAE2, pipeline / "vqvae2")
    _, codes = cli_train.split(command, extract_codes(vqvae2, images))
    assert torch.equal(codes.z_top, given["heldout"].z_top)
    assert "the VQ-VAE-2 was trained on some" not in begin("seed", "--seed", "1")
    assert torch.equal(codes.z_top, given["heldout"].z_top)  # whatever the seed
    said = begin("other", "--validation_share", "0.1")
    assert "the VQ-VAE-2 was trained on some of the images held out here" in said
    assert "give --validation_share 0.05" in said
    assert "trained on some" not in begin("all", "--validation_share", "0")
    assert given["heldout"] is None and len(given["train"]) == 96


def test_512_codes_keep_their_values_from_images_to_file(pipeline):
    vqvae2 = load_model(VQVAE2, pipeline / "vqvae2")
    stored = load_file(
        pipeline / "prior" / "codes" / "train" / "part_00000.safetensors"
    )
    command = cli.TrainVQVAE2(dataset="fashion_mnist_mini", max_images=96)
    images = cli_train.images_of(command, "train", 32)
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
    assert "was drawn with another num_samples, label, seed; resume it" in error


def test_images_are_the_same_by_every_method_and_others_in_bf16(draw, tmp_path):
    ways = {way: ["--method", way] for way in ("auto", "naive", "rows", "cached")}
    ways |= {"batches": ["--batch_size", 2], "bf16": ["--bf16"]}
    pictures = {}
    for way, flags in ways.items():
        into = ["--num_samples", 3, "--save_grid", "--output_dir", tmp_path / way]
        run(*draw, *flags, *into)
        pictures[way] = np.asarray(Image.open(tmp_path / way / "grid.png"))
    low = pictures.pop("bf16")
    first, *others = pictures.values()
    for other in others:
        assert (first == other).mean() > 0.9  # the rest are rounding ties
    assert low.shape == first.shape and (low != first).any()


def test_one_level_can_be_trained_after_the_other(fails, pipeline, tmp_path):
    start = ["train-prior", *SHORT, *SMALL]
    start += ["--vqvae2_checkpoint", pipeline / "vqvae2"]
    run(*start, "--level", "top", "--output_dir", tmp_path / "top")
    run(
        *[*start, "--level", "bottom", "--output_dir", tmp_path / "both"],
        *["--init_checkpoint", tmp_path / "top"],
    )
    top, both = (
        load_model(HierarchicalPixelCNN, tmp_path / n) for n in ("top", "both")
    )
    for a, b in zip(
        top.prior_top.parameters(), both.prior_top.parameters(), strict=True
    ):
        assert torch.equal(a, b)
    bottoms = [m.prior_bottom.head[-1].weight for m in (top, both)]
    assert not torch.equal(*bottoms)
    draw = ["sample", "--vqvae2_checkpoint", pipeline / "vqvae2", "--num_samples", 1]
    draw += ["--output_dir", tmp_path / "new", "--prior_checkpoint"]
    assert "bottom level" in fails(*draw, tmp_path / "top")
    run(*draw, tmp_path / "both")
    VQVAE2(1, 32, 16, 8, 512).save_pretrained(tmp_path / "other")
    error = fails(
        *["train-prior", *SHORT, *SMALL, "--output_dir", tmp_path / "mixed"],
        *["--vqvae2_checkpoint", tmp_path / "other"],
        *["--init_checkpoint", tmp_path / "top"],
    )
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
    "said", ["CUDA out of memory.", "No executable batch size found, reached zero."]
)
def test_a_device_that_holds_not_even_one_image_ends_in_one_line(
    fails, tmp_path, monkeypatch, said
):
    def full(*_):
        raise RuntimeError(said)

    monkeypatch.setattr(drawing.Drawing, "draw_in", full)
    error = fails(*SAMPLE, "--output_dir", tmp_path)
    assert "too large for this machine" in error and "smaller sizes" in error


def test_the_doctor_finds_shipped_weights_that_are_damaged(tmp_path, monkeypatch):
    copied = shutil.copytree(FOLDER, tmp_path / "assets")
    monkeypatch.setattr(assets, "FOLDER", copied)
    assert not doctor._shipped().fix and "checksums corr" in doctor._shipped().found
    weights = copied / "fashion_mnist_prior" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    (weights.parent / "SHA256SUMS").unlink(missing_ok=True)
    assert str(weights) in doctor._shipped().found and doctor._shipped().fix


@pytest.mark.parametrize(
    ("cuda", "why"),
    [(None, "it is a CPU build"), ("99.9", "the driver lacks CUDA 99.9")],
)
def test_the_doctor_names_a_gpu_that_torch_cannot_use(cuda, why, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(doctor.Path, "exists", lambda path: True)
    finding = doctor._gpu()
    assert why in finding.found and "pytorch.org" in finding.fix


@pytest.mark.parametrize(
    ("precision", "processes", "words"),
    [("no", 1, "float32, 1 process"), ("bf16", 4, "bf16, 4 processes")],
)
def test_training_says_where_it_takes_place(precision, processes, words):
    run = {"mixed_precision": precision, "num_processes": processes}
    run = SimpleNamespace(device=torch.device("cpu"), **run)
    assert devices.where(run) == f"training on cpu in {words}"


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


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--temperature", "0"], "temperature is 0"),
        (["--top_p", "1.5"], "top_p is 1.5"),
        (["--top_k", "0"], "top_k is 0"),
        (["--label", "10"], "label 10 is out of range"),
        (["--label", "-1"], "label -1 is out of range"),
        (["--label", str(10**30)], f"labels are {10**30}; give labels from 0 to 9"),
        (["--num_samples", "0"], "num_samples is 0"),
        (["--batch_size", "0"], "batch_size is 0"),
        (["--seed", "-1"], "seed is -1"),
        (["--device", "abacus"], "device 'abacus'"),
        (["--device", "meta"], "device 'meta'"),
    ],
)
def test_bad_flags_end_in_one_line(fails, tmp_path, flags, words):
    assert words in fails(*SAMPLE, "--output_dir", tmp_path / "out", *flags)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    "flags",
    [["--temperature", "warm"], ["--no_such_flag"], ["--method", "quickly"]],
)
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
        return fails(
            "sample", "--vqvae2_checkpoint", vqvae2, "--prior_checkpoint", prior, *out
        )

    assert "no checkpoint at" in sample(tmp_path / "nowhere", prior)
    assert "holds a VQVAE2" in sample(vqvae2, vqvae2)
    assert "of [512, 512] codes, but the tokenizer has 2 of [30, 30]" in sample(
        VQVAE2_FOLDER, prior
    )
    (tmp_path / "junk.pth").write_bytes(b"junk")
    assert "junk.pth" in sample(tmp_path / "junk.pth", prior)
    other = VQVAE2(1, 32, 16, 8, 512)
    other.save_pretrained(tmp_path / "other")
    assert "another VQ-VAE-2" in sample(tmp_path / "other", prior)
    assert not (tmp_path / "out").exists()


def test_a_prior_that_was_trained_for_guidance_is_sampled_with_it(
    pipeline, fails, tmp_path
):
    vqvae2 = ["--vqvae2_checkpoint", pipeline / "vqvae2"]
    train = ["train-prior", *SHORT, *SMALL, "--label_dropout", 0.2, *vqvae2]
    train += ["--output_dir", tmp_path / "prior"]
    error = fails(*train)
    assert "--label_dropout is 0.2" in error and "--class_conditional" in error
    run(*train, "--class_conditional")
    assert load_model(HierarchicalPixelCNN, tmp_path / "prior").label_dropout == 0.2
    sample = ["sample", *vqvae2, "--num_samples", 2]
    sample += ["--prior_checkpoint", tmp_path / "prior", "--output_dir"]
    for name, words in (("one", [1]), ("two", [2, 0.5]), ("none", [0])):
        run(*sample, tmp_path / name, "--guidance", *words)
        assert len(list((tmp_path / name).glob("*.png"))) == 2
    assert "guidance is" in fails(*sample, tmp_path / "x", "--guidance", -1)


@pytest.mark.parametrize(
    ("classes", "flag", "words"),
    [(None, "--label", "built without classes"), (10, "--guidance", "with all labels")],
)
def test_what_a_prior_was_not_trained_for_is_named(
    fails, tmp_path, classes, flag, words
):
    HierarchicalPixelCNN(30, 8, 8, 2, classes).save_pretrained(tmp_path)
    assert words in fails(*SAMPLE[:3], "--prior_checkpoint", tmp_path, flag, 1)


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


def test_codes_that_have_no_room_go_on_with_resume(fails, tmp_path, monkeypatch):
    """Without it, the command would begin anew. There are four parts of 8 images."""
    command = ["sample", "--prior_checkpoint", PRIOR_FOLDER, "--num_samples", 32]
    command += ["--output_dir", tmp_path]
    monkeypatch.setattr(drawing, "PART", 8)
    parts, save = [], drawing.save_codes

    def no_room(codes, path, source):
        parts.append(path.name)
        if len(parts) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(codes, path, source)

    monkeypatch.setattr(drawing, "save_codes", no_room)
    error = fails(*command)
    assert "No space left on device" in error and "; go on with --resume" in error
    run(*command, "--resume")
    drawn = [f"codes_{number:05d}.safetensors" for number in (0, 1, 2, 2, 3)]
    assert parts == [*drawn, "codes.safetensors"]
    assert files_below(tmp_path) == ["codes.safetensors", "drawn_with.json"]


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


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--max_images", "0"], "max_images is 0"),
        (["--max_images", "1"], "1 training image cannot be both"),
        (["--validation_share", "1"], "validation_share is 1"),
        (["--image_size", "31"], "image_size is 31"),
        (["--image_size", "1000000"], "too large for this machine"),
        (["--hidden_channels", "1000000000"], "too large for this machine"),
        (["--sample_every", "0"], "sample_every is 0"),
        (["--lr", "nan"], "lr is nan"),
        (["--lr", "1e300"], "lr is 1e+300"),
        (["--seed", str(2**40)], "seed is"),
    ],
)
def test_bad_training_flags_end_in_one_line(fails, tmp_path, flags, words):
    command = ["train-vqvae2", *SHORT, "--output_dir", tmp_path / "out", *flags]
    assert words in fails(*command)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_bad_prior_flags_are_seen_before_images_are_encoded(fails, tmp_path):
    start = ["train-prior", *SHORT, "--vqvae2_checkpoint", VQVAE2_FOLDER]
    start += ["--output_dir", tmp_path / "out"]
    assert "kernel_size is 4" in fails(*start, "--kernel_size", 4)
    assert "dropout is nan" in fails(*start, "--dropout", "nan")
    assert "no checkpoint at" in fails(*start, "--init_checkpoint", tmp_path / "no")
    assert not list((tmp_path / "out").iterdir())


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


@pytest.mark.parametrize("command", [None, *cli.COMMANDS])
def test_help_loads_no_torch(command):
    words = [] if command is None else [command]
    ask = (
        "import sys\n"
        "from pixelprior import cli\n"
        "try:\n"
        f"    cli.main({[*words, '--help']!r})\n"
        "finally:\n"
        "    print('loaded:', *{'torch', 'numpy', 'matplotlib'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True)
    assert done.returncode == 0 and "usage: pixelprior" in done.stdout
    assert done.stdout.splitlines()[-1].strip() == "loaded:"
