"""The commands on codes from a file: a prior is trained, drawn from and measured."""

import json
import math
import re
import shutil

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from pixelprior import HierarchicalPixelCNN, cli, read_codes
from pixelprior.assets import FOLDER
from pixelprior.checkpoints import load_model
from pixelprior.cli import sample as sampling
from pixelprior.data.codes import CodeData, save_codes

PRIOR_FOLDER = FOLDER / "fashion_mnist_prior"
SMALL = ["--hidden_channels", "16", "--num_layers", "3", "--dropout", "0"]
SMALL += ["--batch_size", "16", "--lr", "1e-2", "--mixed_precision", "no"]


def run(*arguments):
    cli.main([str(each) for each in arguments])


def counting(count: int, seed: int, levels: int):
    """Rows that count up from a start, which is the label; with a second level, each
    code is four times below."""
    start = np.random.default_rng(seed).integers(8, size=count)
    grid = (start[:, None, None] + np.arange(5)) % 8
    top = np.repeat(grid, 3, axis=1).astype(np.uint8)
    bottom = top.repeat(2, axis=1).repeat(2, axis=2)
    grids = {"codes": top} if levels == 1 else {"z_top": top, "z_bottom": bottom}
    return grids | {"labels": start}


@pytest.fixture(scope="module", params=[1, 2])
def trained(request, tmp_path_factory):
    """A folder with files of codes of one level or two, and a prior trained on them."""
    folder = tmp_path_factory.mktemp("codes")
    for name, seed in (("train", 0), ("test", 1)):
        np.savez(folder / f"{name}.npz", **counting(96, seed, request.param))
    train = ["train-prior", "--codes", folder / "train.npz", "--class_conditional"]
    train += ["--test_codes", folder / "test.npz", *SMALL, "--epochs", 10]
    run(*train, "--output_dir", folder / "prior")
    return folder


def test_a_prior_over_a_file_of_codes_learns_and_says_what_it_reached(trained, capsys):
    best = load_model(HierarchicalPixelCNN, trained / "prior")
    notes = json.loads((trained / "prior" / "best" / "training.json").read_text())
    assert notes["grids"] == [[3, 5], [6, 10]][: len(best.levels)]
    assert max(notes["heldout"].values()) < 0.1 * math.log(8)
    assert best.num_classes == 8 and notes["class_names"] == list("01234567")
    measure = ["evaluate", "--codes", trained / "test.npz", "--output_dir", trained]
    run(*measure, "--prior_checkpoint", trained / "prior")
    likelihood = json.loads((trained / "results.json").read_text())["likelihood"]
    assert ("both" in likelihood) == (len(best.levels) == 2)
    codes = read_codes(trained / "test.npz")
    losses = best.loss_function(*codes.batch(torch.arange(len(codes))))
    for name in best.level_names:
        found = likelihood[name]
        assert found["uniform"] == math.log(8) and found["unigram"] > 2
        nats = found["nats_per_code"]["value"]
        per_image = found["nats_per_image"]["value"]
        assert per_image == pytest.approx(nats * found["codes_per_image"])
        assert nats == pytest.approx(losses[f"{name}_loss"].item(), rel=1e-4)
    assert "codes of 96 images, in grids" in capsys.readouterr().out


def test_codes_of_other_classes_or_without_labels_are_not_measured(fails, tmp_path):
    grids = torch.zeros(4, 8, 8).byte(), torch.zeros(4, 16, 16).byte()

    def measure(name, labels, class_names=()):
        codes = CodeData(grids, labels, 30, class_names)
        save_codes(codes, tmp_path / name, "here")
        flags = ["--prior_checkpoint", PRIOR_FOLDER, "--codes", tmp_path / name]
        return ["evaluate", *flags, "--output_dir", tmp_path / "out"]

    labels = torch.arange(4)
    error = fails(*measure("animals.safetensors", labels % 2, ("cat", "dog")))
    assert "T-shirt/top" in error and "animals.safetensors has cat, dog" in error
    error = fails(*measure("bare.safetensors", None))
    assert "trained with labels, but" in error and "bare.safetensors has none" in error
    assert not (tmp_path / "out").exists()
    run(*measure("numbers.safetensors", labels))


def words(folder, name, *flags):
    command = ["sample", "--prior_checkpoint", folder / "prior", "--num_samples", 20]
    return [*command, "--output_dir", folder / name, *flags]


def sample(folder, *flags, name="drawn"):
    run(*words(folder, name, *flags))
    return folder / name / "codes.safetensors"


def test_codes_are_drawn_and_can_be_read_again(trained):
    codes = read_codes(sample(trained))
    prior = load_model(HierarchicalPixelCNN, trained / "prior")
    assert codes.labels.tolist() == [i % 8 for i in range(20)]
    shapes = [tuple(grid.shape[1:]) for grid in codes.grids]
    drawn = prior.sample(20, shapes=shapes, labels=codes.labels, seed=0)
    assert all(map(torch.equal, drawn, (grid.long() for grid in codes.grids)))
    # Rows count up from the label, as in training.
    assert (drawn[0][:, :, 0] == codes.labels[:, None]).float().mean() > 0.9


def read(path):
    """What a file of codes says, in any order, and its tensors."""
    with safe_open(path, framework="pt") as file:
        about = file.metadata()
    return about, {name: value.tolist() for name, value in load_file(path).items()}


def test_drawing_goes_on_where_it_was_stopped_and_names_a_damaged_part(
    fails, trained, monkeypatch
):
    """In parts of 3, stopped in the third by Ctrl-C, and then by a full disk."""
    whole = read(sample(trained))
    monkeypatch.setattr(sampling, "PART", 3)
    draw, drawn, stops = HierarchicalPixelCNN.sample, [], [KeyboardInterrupt, OSError]

    def stopped(prior, count, *, first_index, **options):
        drawn.append(first_index)
        if first_index == 6 and stops:
            raise stops.pop(0)("full")
        return draw(prior, count, first_index=first_index, **options)

    monkeypatch.setattr(HierarchicalPixelCNN, "sample", stopped)
    command = words(trained, "cut", "--batch_size", 2)
    assert "has --resume goes on with it" in fails(*command, status=130)
    assert "full; go on with --resume" in fails(*command, "--resume")
    part = trained / "cut" / "codes_00001.safetensors"
    part.write_bytes(part.read_bytes()[:-1])
    error = fails(*words(trained, "cut", "--resume"))
    assert "cannot be read" in error and "remove damaged parts; go on with" in error
    part.unlink()
    for _ in range(2):  # the second time, nothing is left to draw
        path = sample(trained, "--batch_size", 5, "--resume", name="cut")
        assert drawn == [0, 3, 6, 6, 6, 9, 12, 15, 18, 3] and read(path) == whole
    left = sorted(path.name for path in path.parent.iterdir())
    assert left == ["codes.safetensors", "drawn_with.json"]


def test_bad_files_and_flags_are_named(fails, tmp_path, trained):
    single = len(read_codes(trained / "train.npz").grids) == 1
    train = ["train-prior", *SMALL, "--output_dir", tmp_path / "out", "--codes"]
    file, other = trained / "train.npz", tmp_path / "other.npz"
    np.savez(other, codes=np.zeros((20, 4, 4), int), labels=np.zeros(20, int))
    np.savez(tmp_path / "bare.npz", codes=np.zeros((20, 3, 5), int))
    measure = ["evaluate", "--codes", other, "--prior_checkpoint", trained / "prior"]
    wrong = "grids of [[3, 5]], but" if single else "has 2 level(s), but the codes have"
    for command, reason in (
        ([*train, file, "--vqvae2_checkpoint", "x"], "give one of --vqvae2_checkpoint"),
        ([*train, file, "--codebook_size", 5], "a codebook of 5 has codes 0 to 4"),
        ([*train, file, "--test_codes", other], "two files of the same tok"),
        ([*train, file, "--level", "middle"], "give one of them, or its number from 0"),
        ([*train, tmp_path / "bare.npz", "--class_conditional"], "there are no labels"),
        (words(trained, "none", "--save_grid"), "--save_grid is for images"),
        (measure, wrong),
    ):
        assert reason in fails(*command), command


@pytest.mark.parametrize("grids", [[[8, 8], [16, 0]], [[8, 8]] * 3])
def test_notes_without_the_grids_of_the_prior_are_named(fails, tmp_path, grids):
    shutil.copytree(PRIOR_FOLDER, tmp_path / "prior")
    (tmp_path / "prior" / "training.json").write_text(json.dumps({"grids": grids}))
    said = fails(*words(tmp_path, "new"))
    assert f"grids {grids}, but it needs 2 of (height, width)" in said
    assert "or give the --vqvae2_checkpoint that it was trained with" in said


def test_a_run_on_a_file_is_resumed_on_that_file_alone(fails, trained, tmp_path):
    start = ["train-prior", *SMALL, "--output_dir", tmp_path, "--codes"]
    run(*start, trained / "train.npz", "--epochs", 1)
    again = trained / "test.npz", "--epochs", 2, "--resume"
    assert "the run in" in fails(*start, *again)
    run(*start, trained / "train.npz", "--epochs", 2, "--resume")


def test_three_levels_with_vectors_are_trained_level_by_level(tmp_path, fails):
    """Each level repeats the code above it, and the top code is the vector's sign."""
    vectors = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)
    top = (vectors[:, :1, None] > 0).astype(int)
    grids = [np.tile(top, (1, 2**n, 2**n)) + n for n in range(3)]
    named = {f"codes_{level}": grid for level, grid in enumerate(grids)}
    np.savez(tmp_path / "codes.npz", **named, labels=vectors)
    train = ["train-prior", "--codes", tmp_path / "codes.npz", "--class_conditional"]
    train += [*SMALL, "--epochs", 10, "--validation_share", 0]
    start = []
    for level in ("0", "level_1", "2"):
        into = tmp_path / level
        run(*train, "--level", level, *start, "--output_dir", into)
        start = ["--init_checkpoint", into / "best"]
    draw = ["sample", "--output_dir", tmp_path, "--prior_checkpoint", tmp_path / "0"]
    error = "the level_1 level of .* was never trained; train it: .* --level level_1"
    assert re.search(error, fails(*draw))
    prior = load_model(HierarchicalPixelCNN, into)
    drawn = prior.sample(64, shapes=[(1, 1), (2, 2), (4, 4)], labels=vectors, seed=0)
    for found, wanted in zip(drawn, grids, strict=True):
        assert (found.numpy() == wanted).mean() > 0.95
