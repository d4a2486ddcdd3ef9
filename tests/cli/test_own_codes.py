"""The commands on codes from a file: a prior is trained, drawn from and measured."""

import errno
import json
import math
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from pixelprior import VQVAE2, HierarchicalPixelCNN, cli, load_images, read_codes
from pixelprior.assets import FOLDER
from pixelprior.checkpoints import fingerprint, load_model
from pixelprior.cli import sample as sampling
from pixelprior.data.codes import CodeData, extract_codes, save_codes

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


def test_a_folder_of_codes_trains_as_its_file_does(trained, tmp_path):
    for name, path in (("file", "part_00000.safetensors"), ("folder", "")):
        codes = read_codes(trained / "train.npz")
        about = f"{len(codes)} images in parts of 4096\nhere"
        save_codes(codes, tmp_path / "codes" / "part_00000.safetensors", about)
        given = ["train-prior", "--codes", tmp_path / "codes" / path, *SMALL]
        run(*given, "--epochs", 1, "--output_dir", tmp_path / name)
    one, two = (
        load_model(HierarchicalPixelCNN, tmp_path / n) for n in ("file", "folder")
    )
    assert fingerprint(one) == fingerprint(two)


def test_a_prior_over_a_file_of_codes_learns_and_says_what_it_reached(trained, capsys):
    best = load_model(HierarchicalPixelCNN, trained / "prior")
    notes = json.loads((trained / "prior" / "best" / "training.json").read_text())
    single = len(best.levels) == 1
    assert notes["grids"] == ([[3, 5]] if single else [[3, 5], [6, 10]])
    assert max(notes["heldout"].values()) < 0.1 * math.log(8)
    assert best.num_classes == 8 and notes["class_names"] == list("01234567")
    run(
        *["evaluate", "--codes", trained / "test.npz"],
        *["--prior_checkpoint", trained / "prior", "--output_dir", trained / "results"],
    )
    results = json.loads((trained / "results" / "results.json").read_text())
    likelihood, codes = results["likelihood"], read_codes(trained / "test.npz")
    assert ("both" in likelihood) == (not single)
    for name in best.level_names:
        found = likelihood[name]
        assert found["uniform"] == math.log(8) and found["unigram"] > 2
        per_code = found["nats_per_image"]["value"] / found["codes_per_image"]
        assert found["nats_per_code"]["value"] == pytest.approx(per_code)
    losses = best.loss_function(*codes.batch(torch.arange(len(codes))))
    name = best.level_names[0]
    first = likelihood[name]["nats_per_code"]["value"]
    assert first == pytest.approx(losses[f"{name}_loss"].item(), rel=1e-4)
    shown = capsys.readouterr().out
    assert "nats per code" in shown and "codes of 96 images, in grids" in shown
    assert "reconstruction" not in shown and "bits per dimension" not in shown


def test_codes_of_other_classes_or_without_labels_are_not_measured(fails, tmp_path):
    images = load_images("fashion_mnist_mini", "test", max_images=4)
    codes = extract_codes(load_model(VQVAE2, VQVAE2_FOLDER), images)
    measure = ["evaluate", "--prior_checkpoint", PRIOR_FOLDER, "--codes"]
    into = ["--output_dir", tmp_path / "out"]

    def saved(name, **changed):
        save_codes(replace(codes, **changed), tmp_path / name, "here")
        return tmp_path / name

    two = {"labels": codes.labels % 2, "class_names": ("cat", "dog")}
    error = fails(*measure, saved("animals.safetensors", **two), *into)
    assert "T-shirt/top" in error and "animals.safetensors has cat, dog" in error
    error = fails(*measure, saved("bare.safetensors", labels=None), *into)
    assert "trained with labels, but" in error and "bare.safetensors has none" in error
    assert not (tmp_path / "out").exists()
    run(*measure, saved("numbers.safetensors", class_names=()), *into)


def words(folder, name, *flags):
    command = ["sample", "--prior_checkpoint", folder / "prior", "--num_samples", 20]
    return [*command, "--output_dir", folder / name, *flags]


def sample(folder, *flags, name="drawn"):
    run(*words(folder, name, *flags))
    return folder / name / "codes.safetensors"


def test_codes_are_drawn_and_can_be_read_again(trained):
    path = sample(trained)
    codes = read_codes(path)
    prior = load_model(HierarchicalPixelCNN, trained / "prior")
    assert len(codes) == 20 and codes.labels.tolist() == [i % 8 for i in range(20)]
    grids, shapes = codes.grids, [tuple(grid.shape[1:]) for grid in codes.grids]
    drawn = prior.sample(20, shapes=shapes, labels=codes.labels, seed=0)
    for grid, same in zip(grids, drawn, strict=True):
        assert torch.equal(grid.long(), same)
    # Rows count up from the label, as in training.
    right = (grids[0][:, :, 0].long() == codes.labels[:, None]).float().mean()
    assert right > 0.9


def read(path):
    """What a file of codes says, in any order, and its tensors."""
    with safe_open(path, framework="pt") as file:
        about = file.metadata()
    return about, {name: value.tolist() for name, value in load_file(path).items()}


def test_drawing_goes_on_where_it_was_stopped_in_other_batches(
    fails, trained, monkeypatch
):
    """In parts of 3 images, stopped in the third by Ctrl-C, and then by a full disk,
    with batches of 2 and then of 5."""
    whole = read(sample(trained))
    monkeypatch.setattr(sampling, "PART", 3)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    draw, drawn, stops = HierarchicalPixelCNN.sample, [], [KeyboardInterrupt, full]

    def stopped(prior, count, *, first_index, **options):
        drawn.append(first_index)
        if first_index == 6 and stops:
            raise stops.pop(0)
        return draw(prior, count, first_index=first_index, **options)

    monkeypatch.setattr(HierarchicalPixelCNN, "sample", stopped)
    command = words(trained, "cut", "--batch_size", 2)
    assert "has --resume goes on with it" in fails(*command, status=130)
    error = fails(*command, "--resume")
    assert "No space left on device; go on with --resume" in error
    path = sample(trained, "--batch_size", 5, "--resume", name="cut")
    assert drawn == [0, 3, 6, 6, 6, 9, 12, 15, 18] and read(path) == whole
    sample(trained, "--resume", name="cut")  # nothing is left to draw
    assert len(drawn) == 9 and read(path) == whole
    left = sorted(path.name for path in path.parent.iterdir())
    assert left == ["codes.safetensors", "drawn_with.json"]


def test_a_part_of_codes_that_is_damaged_is_named(fails, trained, monkeypatch):
    """The merging of all parts is stopped, as by a kill."""
    monkeypatch.setattr(sampling, "PART", 10)
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(sampling, "merge", lambda *_: 1 / 0)
        sample(trained, name="damaged")
    part = trained / "damaged" / "codes_00001.safetensors"
    part.write_bytes(part.read_bytes()[:-1])
    error = fails(*words(trained, "damaged", "--resume"))
    assert "cannot be read" in error and "remove damaged parts; go on with" in error
    codes = CodeData((torch.zeros(10, 2, 2).byte(),) * 2, None, 8)
    save_codes(codes, part, "of other grids")
    assert "remove damaged parts" in fails(*words(trained, "damaged", "--resume"))
    part.unlink()
    assert read(sample(trained, "--resume", name="damaged")) == read(sample(trained))


def test_what_was_drawn_in_another_way_is_not_resumed(fails, trained):
    note = sample(trained, name="first").with_name("drawn_with.json")
    resume = words(trained, "first", "--resume")
    error = fails(*resume, "--seed", 3, "--temperature", 0.9)
    assert "was made with another temperature, seed; resume it with the same" in error
    assert "no run to resume in" in fails(*words(trained, "none", "--resume"))
    note.write_text("{")
    assert "drawn_with.json is damaged" in fails(*resume)


IN_SMALL_PARTS = """
import sys
from pixelprior import cli
from pixelprior.cli import sample
sample.PART = 3
cli.main(sys.argv[1:])
"""


@pytest.mark.slow
def test_several_processes_draw_the_codes_of_one(trained):
    """In seven parts of at most three images, so that both write several."""
    (trained / "small_parts.py").write_text(IN_SMALL_PARTS)
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += [trained / "small_parts.py", *words(trained, "two", "--batch_size", 4)]
    command = [sys.executable, *map(str, command)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("wrote 20 images as codes") == 1
    assert read(trained / "two" / "codes.safetensors") == read(sample(trained))


def test_bad_files_and_flags_are_named(fails, tmp_path, trained):
    single = len(read_codes(trained / "train.npz").grids) == 1
    train = ["train-prior", *SMALL, "--epochs", 1, "--output_dir", tmp_path / "out"]
    file = ["--codes", trained / "train.npz"]
    labels = np.zeros(20, int)
    np.savez(tmp_path / "other.npz", codes=np.zeros((20, 4, 4), int), labels=labels)
    np.savez(tmp_path / "bare.npz", codes=np.zeros((20, 3, 5), int))
    bare = ["--codes", tmp_path / "bare.npz", "--class_conditional"]
    for arguments, reason in (
        ([], "give one of --vqvae2_checkpoint and --codes"),
        ([*file, "--vqvae2_checkpoint", "x"], "give one of --vqvae2_checkpoint and"),
        ([*file, "--max_images", 9], "--max_images is for images; leave --max_images"),
        ([*file, "--codebook_size", 5], "but a codebook of 5 has codes 0 to 4; give"),
        ([*file, "--test_codes", tmp_path / "other.npz"], "two files of the same tok"),
        ([*file, "--level", 0, "--without_top"], "for the bottom of several"),
        (["--vqvae2_checkpoint", "x", "--codebook_size", 9], "is for codes from a"),
        (bare, "there are no labels in"),
    ):
        assert reason in fails(*train, *arguments), arguments
    if single:
        said = fails(*train, *file, "--level", "top")
        assert "the levels are level_0; give one of them, or its number from 0" in said
        assert "to 0\n" in said
    draw = words(trained, "bad", "--save_grid")
    assert "--save_grid is for images" in fails(*draw)
    measure = ["evaluate", "--codes", tmp_path / "other.npz"]
    assert "give --prior_checkpoint" in fails(*measure)
    measure += ["--prior_checkpoint", trained / "prior"]
    assert "--top_k is for images" in fails(*measure, "--top_k", 3)
    wrong = "grids of [[3, 5]], but" if single else "has 2 level(s), but the codes have"
    assert wrong in fails(*measure)


@pytest.mark.parametrize(
    "grids", [[[3, 5]] * 3, [3, 5], [[3, 0], [6, 10]], {"top": 3}, None]
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
    assert "have the grids None, but it needs 2 of (height, width)" in said
    assert "copy it again" in said
    assert "or give the --vqvae2_checkpoint that it was trained with" in said
    flags += ["--vqvae2_checkpoint", VQVAE2_FOLDER]
    run("sample", *flags, "--output_dir", tmp_path / "images")
    assert (tmp_path / "images" / "sample_00000.png").is_file()


def test_a_run_on_a_file_is_resumed_on_that_file_alone(fails, trained, tmp_path):
    start = ["train-prior", *SMALL, "--output_dir", tmp_path / "run"]
    run(*start, "--codes", trained / "train.npz", "--epochs", 1)
    run(*start, "--codes", trained / "train.npz", "--epochs", 2, "--resume")
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    assert len(history) == 2
    other = ["--codes", trained / "test.npz", "--epochs", 2, "--resume"]
    assert "the run in" in fails(*start, *other)
    assert load_model(HierarchicalPixelCNN, tmp_path / "run").num_classes is None


def test_three_levels_with_vectors_are_trained_level_by_level(tmp_path, fails):
    """Each level repeats the code above it, and the top code is the vector's sign."""
    vectors = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)
    top = (vectors[:, :1, None] > 0).astype(int)
    grids = [
        np.tile(top, (1, side, side)) + level for level, side in enumerate((1, 2, 4))
    ]
    named = {f"codes_{level}": grid for level, grid in enumerate(grids)}
    np.savez(tmp_path / "codes.npz", **named, labels=vectors)
    train = ["train-prior", "--codes", tmp_path / "codes.npz", "--class_conditional"]
    train += [*SMALL, "--epochs", 10, "--validation_share", 0, "--output_dir"]
    run(*train, tmp_path / "first", "--level", 0)
    error = "the level_1 level of .* was never trained; train it: .* --level level_1"
    draw = ["sample", "--output_dir", tmp_path, "--prior_checkpoint"]
    assert re.search(error, fails(*draw, tmp_path / "first"))
    start = ["--init_checkpoint", tmp_path / "first" / "best"]
    run(*train, tmp_path / "second", "--level", "level_1", *start)
    start = ["--init_checkpoint", tmp_path / "second" / "best"]
    run(*train, tmp_path / "third", "--level", 2, *start)
    prior = load_model(HierarchicalPixelCNN, tmp_path / "third")
    assert [level.num_embeddings for level in prior.levels] == [2, 3, 4]
    assert prior.levels[0].condition_dim == 2
    drawn = prior.sample(64, shapes=[(1, 1), (2, 2), (4, 4)], labels=vectors, seed=0)
    for found, wanted in zip(drawn, grids, strict=True):
        assert (found.numpy() == wanted).mean() > 0.95
