"""The commands on codes from a file: a prior is trained, drawn from and measured."""

import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pixelprior import VQVAE2, PixelCNN, cli, load_images, read_codes
from pixelprior.assets import FOLDER
from pixelprior.checkpoints import load_model
from pixelprior.cli.measuring import check_grids
from pixelprior.cli.priors import load_prior
from pixelprior.data import code_writer
from pixelprior.data.codes import extract_codes, save_codes

VQVAE2_FOLDER = FOLDER / "fashion_mnist_vqvae2"
PRIOR_FOLDER = FOLDER / "fashion_mnist_prior"
SMALL = ["--hidden_channels", "16", "--num_layers", "3", "--dropout", "0"]
SMALL += ["--batch_size", "16", "--lr", "1e-2", "--mixed_precision", "no"]


def run(*arguments):
    cli.main([str(each) for each in arguments])


def counting(count: int, seed: int):
    """Rows that count up from a start, which is the label: codes of one level."""
    start = np.random.default_rng(seed).integers(8, size=count)
    grid = (start[:, None, None] + np.arange(5)) % 8
    return {"codes": np.repeat(grid, 3, axis=1).astype(np.uint8), "labels": start}


def two_levels(count: int, seed: int):
    """The same, with each code four times below."""
    one = counting(count, seed)
    bottom = one["codes"].repeat(2, axis=1).repeat(2, axis=2)
    return {"z_top": one["codes"], "z_bottom": bottom, "labels": one["labels"]}


@pytest.fixture(scope="module", params=[1, 2])
def trained(request, tmp_path_factory):
    """A folder with files of codes of one level or two, and a prior trained on them."""
    folder, make = tmp_path_factory.mktemp("codes"), [counting, two_levels]
    for name, seed in (("train", 0), ("test", 1)):
        np.savez(folder / f"{name}.npz", **make[request.param - 1](96, seed))
    run(
        *["train-prior", "--codes", folder / "train.npz", "--class_conditional"],
        *["--test_codes", folder / "test.npz", *SMALL, "--epochs", 10],
        *["--output_dir", folder / "prior"],
    )
    return folder


def test_a_prior_over_a_file_of_codes_learns_and_says_what_it_reached(trained, capsys):
    best = load_prior(trained / "prior")
    notes = json.loads((trained / "prior" / "best" / "training.json").read_text())
    single = isinstance(best, PixelCNN)
    assert notes["grids"] == ([[3, 5]] if single else [[3, 5], [6, 10]])
    assert max(notes["heldout"].values()) < 0.1 * math.log(8)
    assert best.num_classes == 8 and notes["class_names"] == list("01234567")
    run(
        *["evaluate", "--codes", trained / "test.npz"],
        *["--prior_checkpoint", trained / "prior", "--output_dir", trained / "results"],
    )
    results = json.loads((trained / "results" / "results.json").read_text())
    likelihood = results["likelihood"]
    codes = read_codes(trained / "test.npz")
    for name in best.levels():
        found = likelihood[name]
        assert found["uniform"] == math.log(8) and found["unigram"] > 2
        grid = found["nats_per_image"]["value"] / found["codes_per_image"]
        assert found["nats_per_code"]["value"] == pytest.approx(grid)
    (loss, *_) = best.loss_function(*codes.batch(torch.arange(len(codes)))).values()
    total = likelihood["codes"] if single else likelihood["top"]
    if single:
        assert total["nats_per_code"]["value"] == pytest.approx(loss.item(), rel=1e-4)
    assert ("both" in likelihood) == (not single)
    shown = capsys.readouterr().out
    assert "nats per code" in shown and "codes of 96 images, in grids" in shown
    assert "reconstruction" not in shown and "bits per dimension" not in shown


def test_codes_of_other_classes_are_not_measured(fails, tmp_path):
    images = load_images("fashion_mnist_mini", "test", max_images=4)
    codes = extract_codes(load_model(VQVAE2, VQVAE2_FOLDER), images)
    measure = ["evaluate", "--prior_checkpoint", PRIOR_FOLDER, "--codes"]
    into = ["--output_dir", tmp_path / "out"]
    animals = replace(codes, labels=codes.labels % 2, class_names=("cat", "dog"))
    save_codes(animals, tmp_path / "animals.safetensors", "here")
    error = fails(*measure, tmp_path / "animals.safetensors", *into)
    assert "T-shirt/top" in error and "animals.safetensors has cat, dog" in error
    numbers = replace(codes, class_names=())
    save_codes(numbers, tmp_path / "numbers.safetensors", "here")
    run(*measure, tmp_path / "numbers.safetensors", *into)


def test_codes_without_labels_are_not_measured_by_a_prior_with_classes(fails, tmp_path):
    images = load_images("fashion_mnist_mini", "test", max_images=4)
    codes = extract_codes(load_model(VQVAE2, VQVAE2_FOLDER), images)
    path = tmp_path / "codes.safetensors"
    save_codes(replace(codes, labels=None), path, "here")
    error = fails(
        *["evaluate", "--codes", path, "--prior_checkpoint", PRIOR_FOLDER],
        *["--output_dir", tmp_path / "out"],
    )
    assert (
        "10 classes, but" in error and "codes.safetensors has no labels; wri" in error
    )
    assert not (tmp_path / "out").exists()


def sample(folder, *flags, name="drawn"):
    run(
        *["sample", "--prior_checkpoint", folder / "prior", "--num_samples", 20],
        *["--output_dir", folder / name, *flags],
    )
    return folder / name / "codes.safetensors"


def test_codes_are_drawn_and_can_be_read_again(trained):
    path = sample(trained)
    codes, prior = read_codes(path), load_prior(trained / "prior")
    assert len(codes) == 20 and codes.labels.tolist() == [i % 8 for i in range(20)]
    grids = [codes.grid(name) for name in codes.levels()]
    drawn = prior.sample(
        20, *(tuple(grid.shape[1:]) for grid in grids), labels=codes.labels, seed=0
    )
    drawn = (drawn,) if isinstance(drawn, torch.Tensor) else drawn
    for grid, same in zip(grids, drawn, strict=True):
        assert torch.equal(grid.long(), same)
    # Rows count up from the label, as in training.
    right = (grids[0][:, :, 0].long() == codes.labels[:, None]).float().mean()
    assert right > 0.9


@pytest.mark.parametrize("flags", [["--batch_size", 3], ["--batch_size", 20]])
def test_the_batch_size_changes_no_code(trained, flags):
    whole = sample(trained).read_bytes()
    assert sample(trained, *flags, name=f"batch_{flags[1]}").read_bytes() == whole


def test_drawing_goes_on_where_it_was_stopped(trained, monkeypatch):
    """With one image per part, stopped at the seventh."""
    from pixelprior.cli import drawing

    whole = sample(trained).read_bytes()
    monkeypatch.setattr(code_writer, "PART", 1)
    draw, drawn = drawing.Drawing.draw, []

    def stopped(self, images):
        if images.start == 7 and len(drawn) == 7:
            raise KeyboardInterrupt
        drawn.append(images.start)
        return draw(self, images)

    monkeypatch.setattr(drawing.Drawing, "draw", stopped)
    with pytest.raises(SystemExit):
        sample(trained, "--batch_size", 1, name="cut")
    assert not (trained / "cut" / "codes.safetensors").exists()
    drawn.append(None)
    path = sample(trained, "--batch_size", 1, "--resume", name="cut")
    assert drawn == [*range(7), None, *range(7, 20)]
    assert path.read_bytes() == whole
    sample(trained, "--resume", name="cut")  # nothing is left to draw
    assert len(drawn) == 21 and path.read_bytes() == whole


def test_what_was_drawn_in_another_way_is_not_resumed(fails, trained):
    sample(trained, name="first")
    start = ["sample", "--prior_checkpoint", trained / "prior", "--num_samples", 20]
    start += ["--resume", "--output_dir"]
    error = fails(*start, trained / "first", "--seed", 3)
    assert "was drawn with another seed; resume it with the same, or choose" in error
    error = fails(*start, trained / "first", "--temperature", 0.9)
    assert "with another temperature; resume" in error
    assert "there is no run of sample to resume in" in fails(*start, trained / "none")


def test_the_batch_size_may_change_between_a_stop_and_its_resumption(
    trained, monkeypatch
):
    """Parts of 3 images are stopped after the first, in batches of 2, then of 5."""
    from pixelprior.cli import drawing

    whole = sample(trained).read_bytes()
    monkeypatch.setattr(code_writer, "PART", 3)
    with monkeypatch.context() as patch:
        draw = drawing.Drawing.draw

        def stopped(self, images):
            if images.start:
                raise KeyboardInterrupt
            return draw(self, images)

        patch.setattr(drawing.Drawing, "draw", stopped)
        with pytest.raises(SystemExit):
            sample(trained, "--batch_size", 2, name="changed")
    path = sample(trained, "--batch_size", 5, "--resume", name="changed")
    assert path.read_bytes() == whole


IN_SMALL_PARTS = """
import sys
from pixelprior import cli
from pixelprior.data import code_writer
code_writer.PART = 3
cli.main(sys.argv[1:])
"""


@pytest.mark.slow
def test_several_processes_draw_the_codes_of_one(trained):
    """In seven parts of at most three images, so that both write several."""
    whole = sample(trained).read_bytes()
    (trained / "small_parts.py").write_text(IN_SMALL_PARTS)
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += [str(trained / "small_parts.py"), "sample", "--prior_checkpoint"]
    command += [str(trained / "prior"), "--num_samples", "20", "--batch_size", "4"]
    command += ["--output_dir", str(trained / "two")]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("wrote 20 images as codes") == 1
    assert (trained / "two" / "codes.safetensors").read_bytes() == whole


def test_bad_files_and_flags_are_named(fails, tmp_path, trained):
    single = isinstance(load_prior(trained / "prior"), PixelCNN)
    train = ["train-prior", *SMALL, "--epochs", 1, "--output_dir", tmp_path / "out"]
    file = ["--codes", trained / "train.npz"]
    other = {"codes": np.zeros((20, 4, 4), int), "labels": np.zeros(20, int)}
    np.savez(tmp_path / "other.npz", **other)
    np.savez(tmp_path / "bare.npz", codes=np.zeros((20, 3, 5), int))
    for arguments, words in (
        ([], "give one of --vqvae2_checkpoint and --codes"),
        ([*file, "--vqvae2_checkpoint", "x"], "give one of --vqvae2_checkpoint and"),
        ([*file, "--max_images", 9], "--max_images is for images, but the codes are"),
        ([*file, "--codebook_size", 5], "but a codebook of 5 has codes 0 to 4; give"),
        ([*file, "--test_codes", tmp_path / "other.npz"], "two files of the same tok"),
        (["--codes", tmp_path / "none.npz"], "there is no file"),
        (
            ["--vqvae2_checkpoint", "x", "--codebook_size", 9],
            "--codebook_size belongs to codes from a file; give --codes too",
        ),
        (
            ["--codes", tmp_path / "bare.npz", "--class_conditional"],
            "there are no labels in",
        ),
    ):
        assert words in fails(*train, *arguments), arguments
    if single:
        assert "has a single level" in fails(*train, *file, "--level", "top")
        flags = [*train, *file, "--level", "bottom", "--without_top"]
        assert "has a single level" in fails(*flags)
    draw = ["sample", "--prior_checkpoint", trained / "prior", "--output_dir", tmp_path]
    assert "--save_grid is for images" in fails(*draw, "--save_grid")
    measure = ["evaluate", "--codes", tmp_path / "other.npz"]
    assert "give --prior_checkpoint" in fails(*measure)
    measure += ["--prior_checkpoint", trained / "prior"]
    assert "--top_k is for images" in fails(*measure, "--top_k", 3)
    assert "--dataset is for images" in fails(*measure, "--dataset", "cifar10")
    if single:
        words = "was trained on grids of [[3, 5]], but"
    else:
        words = "the prior has 2 level(s), but the codes have 1"
    assert words in fails(*measure)
    np.savez(tmp_path / "unknown.npz", codes=np.zeros((2, 3, 5), int), labels=[0, -1])
    flags = ["--codes", tmp_path / "unknown.npz", "--class_conditional"]
    assert "leave out images whose class is not known" in fails(*train, *flags)


@pytest.mark.parametrize(
    "grids", [[[3, 5]] * 3, [[3]], [[3, 0], [6, 10]], [3, 5], {"top": 3}, "3x5", 15]
)
def test_grids_that_do_not_fit_the_prior_are_named(fails, trained, tmp_path, grids):
    """A file of notes that was changed by hand, or is another prior's."""
    shutil.copytree(trained / "prior", tmp_path / "prior")
    path = tmp_path / "prior" / "best" / "training.json"
    notes = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(notes | {"grids": grids}), encoding="utf-8")
    flags = ["--prior_checkpoint", tmp_path / "prior", "--output_dir", tmp_path / "new"]
    said = fails("sample", *flags, "--num_samples", 2)
    assert f"have the grids {grids!r}, but" in said
    assert "copy it again" in said and "--vqvae2_checkpoint" not in said
    assert not (tmp_path / "new").exists()


def test_a_prior_without_notes_can_be_given_its_vqvae2(fails, tmp_path):
    shutil.copytree(PRIOR_FOLDER, tmp_path / "prior")
    (tmp_path / "prior" / "training.json").unlink()
    flags = ["--prior_checkpoint", tmp_path / "prior", "--num_samples", 1]
    said = fails("sample", *flags, "--output_dir", tmp_path / "codes")
    assert "nothing says how large the grids" in said
    assert "give the --vqvae2_checkpoint that it was trained with, or copy" in said
    flags += ["--vqvae2_checkpoint", VQVAE2_FOLDER]
    run("sample", *flags, "--output_dir", tmp_path / "images")
    assert (tmp_path / "images" / "sample_00000.png").is_file()


def test_notes_with_a_number_for_the_grids_count_as_old_ones(trained, tmp_path):
    """`evaluate` compares the grids of the codes with those in the notes."""
    (tmp_path / "training.json").write_text('{"grids": 15}')
    file = trained / "test.npz"
    flags = SimpleNamespace(prior_checkpoint=tmp_path, codes=file)
    check_grids(flags, read_codes(file))
    (tmp_path / "training.json").write_text('{"grids": [[3, 4], [6, 10]]}')
    if len(read_codes(file).levels()) == 2:
        with pytest.raises(ValueError, match="was trained on grids of"):
            check_grids(flags, read_codes(file))


def test_a_run_on_a_file_is_resumed_on_that_file_alone(fails, trained, tmp_path):
    start = ["train-prior", *SMALL, "--output_dir", tmp_path / "run"]
    run(*start, "--codes", trained / "train.npz", "--epochs", 1)
    run(*start, "--codes", trained / "train.npz", "--epochs", 2, "--resume")
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    assert len(history) == 2
    other = ["--codes", trained / "test.npz", "--epochs", 2, "--resume"]
    assert "the run in" in fails(*start, *other)
    again = load_model(type(load_prior(trained / "prior")), tmp_path / "run")
    assert again.num_classes is None
