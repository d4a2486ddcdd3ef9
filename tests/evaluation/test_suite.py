"""`evaluate` and `reproduce` from end to end; kept results compared with new ones."""

import contextlib
import copy
import hashlib
import io
import json
import re
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from tried import codes_table, defects_markdown, one_class_table, tried_table

from pixelprior import VQVAE2, HierarchicalPixelCNN, cli
from pixelprior.assets import FOLDER, load_shipped, shipped_folder
from pixelprior.benchmark.training import training_markdown
from pixelprior.checkpoints import fingerprint, load_model, read_training_notes
from pixelprior.cli.evaluate import Evaluate
from pixelprior.cli.priors import load_without_top
from pixelprior.cli.recipes import RECIPES, Recipe
from pixelprior.cli.reproduce import Reproduce
from pixelprior.cli.reproduction import Reproduction
from pixelprior.cli.train_prior import TrainPrior
from pixelprior.cli.train_vqvae2 import TrainVQVAE2
from pixelprior.data import images
from pixelprior.data.images import ImageData, load_images
from pixelprior.evaluation import choosing, report, suite
from pixelprior.evaluation import classifier as judging
from pixelprior.evaluation.choosing import read_setting, settings_table
from pixelprior.evaluation.classifier import Classifier
from pixelprior.evaluation.measures import samples, some_of_each_class
from pixelprior.evaluation.report import sample_picture, table
from pixelprior.evaluation.suite import evaluate
from pixelprior.files import UNFINISHED
from pixelprior.training import TrainingRun

DOCS = Path(__file__).parents[2] / "docs"
TINY = Recipe(
    about="for a test",
    vqvae2={
        "dataset": "fashion_mnist_mini",
        "max_images": 320,
        "num_embeddings": 16,
        "embedding_dim": 8,
        "hidden_channels": 8,
        "epochs": 1,
        "batch_size": 32,
    },
    prior={
        "dataset": "fashion_mnist_mini",
        "max_images": 320,
        "class_conditional": True,
        "label_dropout": 0.2,
        "hidden_channels": 8,
        "num_layers": 2,
        "epochs": 2,
        "batch_size": 32,
    },
    classifier_epochs=1,
    num_samples=40,
    more_seeds=(1,),
)


class Evaluated(NamedTuple):
    found: dict  # results.json
    printed: str
    samples: ImageData  # given to `sample_picture`
    folder: Path


def judge_quickly(
    patch, classifier_images: int, resnet_epochs: int, heldout_images: int = 1000
) -> None:
    """Train small classifiers briefly, take times and intervals in few rounds, and let
    `evaluate` have fewer test images, as many of each class."""

    def load_some(name, split, **options):
        data, most = load_images(name, split, **options), heldout_images
        return data if split == "train" else some_of_each_class(data, most)

    small = {"residual_blocks": 1, "batch_size": 25}
    patch.setitem(judging.ACCURACY_SCORES, "accuracy_score_resnet", small)
    patch.setattr(judging, "CLASSIFIER_IMAGES", classifier_images)
    patch.setattr(judging, "RESNET_EPOCHS", resnet_epochs)
    patch.setattr(judging, "FRECHET_ROUNDS", 20)
    patch.setattr(suite, "_speed", partial(suite._speed, repeats=1))
    patch.setattr(images, "load_images", load_some)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """`evaluate` of the shipped weights on the embedded images.

    The setting of the second set of samples is one whose images differ little.
    """
    drawn, folder = [], tmp_path_factory.mktemp("evaluated")

    def watched(data, *options):
        drawn.append(data)
        return sample_picture(data, *options)

    command = ["evaluate", "--dataset", "fashion_mnist_mini", "--num_samples", "500"]
    command += ["--top_k", "2"]
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(io.StringIO()) as printed,
    ):
        judge_quickly(patch, 6000, resnet_epochs=5)
        patch.setattr(report, "sample_picture", watched)
        cli.main([*command, "--output_dir", str(folder)])
    found = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return Evaluated(found, printed.getvalue(), drawn[0], folder)


def test_the_accuracy_score_of_its_authors_goes_on_where_it_was_stopped(
    tmp_path, monkeypatch, capsys
):
    """Stopped before samples are drawn, in the training on them, and not at all."""
    brief = {"residual_blocks": 1, "augment": True, "epochs": 2, "batch_size": 25}
    monkeypatch.setattr(suite, "CAS", brief)
    trained, drawn, save = [], [], TrainingRun.save
    train, draw = suite.train_classifier, suite.samples

    def watched(data, **options):
        trained.append(data.name or "real")
        return train(data, **options)

    def stop(*_, **__):
        raise KeyboardInterrupt

    def save_and_stop(run, *arguments, **options):
        save(run, *arguments, **options)
        stop()

    monkeypatch.setattr(suite, "train_classifier", watched)

    def watched_draw(*arguments, **options):
        drawn.append(options)
        return draw(*arguments, **options)

    monkeypatch.setattr(suite, "samples", watched_draw)
    command = ["evaluate", "--protocol", "cas", "--dataset", "fashion_mnist_mini"]
    command += ["--num_samples", "100", "--output_dir"]

    def run(name: str, *flags: str) -> dict:
        cli.main([*command, str(tmp_path / name), *flags])
        return json.loads((tmp_path / name / "cas.json").read_text(encoding="utf-8"))

    whole = run("whole")
    scores = whole["classification_accuracy_score"]
    ratio = scores["samples"]["value"] / scores["real"]["value"]
    assert scores["samples_to_real"]["value"] == pytest.approx(ratio)
    assert [each.get("guidance") for each in drawn] == [None, [1, 1]], "as chosen"
    row = f"| samples | {100 * scores['samples']['value']:.2f} |"
    assert row in capsys.readouterr().out
    count, trained[:] = len(trained), []
    for owner, name, instead in (
        (suite, "samples", stop),
        (TrainingRun, "save", save_and_stop),
    ):
        flags = ["--resume"] if trained else []
        with monkeypatch.context() as patch, pytest.raises(SystemExit):
            patch.setattr(owner, name, instead)
            run("stopped", *flags)
    assert run("stopped", "--resume") == whole
    assert len(trained) == count + 1, "one of four was begun twice"
    with pytest.raises(SystemExit):
        run("stopped", "--resume", "--seed", "1")
    assert "made with another seed" in capsys.readouterr().err


@pytest.mark.slow
def test_a_subset_gives_the_kept_figures(evaluated):
    """The kept figures are of 10,000 test images, and the new ones of 1,000 of these.

    They agree within 1.5 times half the interval of the new figures, and within 4 %.
    """
    for part in (
        "likelihood top nats_per_code",
        "likelihood bottom nats_per_code",
        "likelihood both bits_per_dimension",
        "likelihood bottom gain_from_top",
        "reconstruction mean_squared_error",
        "reconstruction psnr",
    ):
        new, kept = evaluated.found, KEPT
        for key in part.split():
            new, kept = new[key], kept[key]
        reach = 1.5 * (new["high"] - new["low"]) / 2
        assert abs(new["value"] - kept["value"]) < reach, part
        assert new["value"] == pytest.approx(kept["value"], rel=0.04), part


def kept(name: str) -> dict:
    path = FOLDER / "results" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))


KEPT = kept("results")


def table_with_seed_1(results):
    return table(results, {1: kept("seed_1/results")})


def defects_of(dataset):
    return lambda results: defects_markdown(results["defects"][dataset])


@pytest.mark.parametrize(
    "page, name, words",
    [
        ("results", "results", table_with_seed_1),
        ("results", "settings", settings_table),
        ("results", "cifar10/results", table),
        ("results", "cifar10/settings", settings_table),
        ("results", "tried", tried_table),
        ("results", "depth", tried_table),
        ("results", "codes", codes_table),
        ("performance", "training", training_markdown),
        ("anomalies", "anomalies", one_class_table),
        ("anomalies", "anomalies", defects_of("fashion_mnist")),
        ("anomalies", "anomalies", defects_of("cifar10")),
    ],
)
def test_the_documents_have_the_tables_of_the_kept_results(page, name, words):
    shown = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    assert re.sub(" +", " ", words(kept(name))) in re.sub(" +", " ", shown)


@pytest.mark.parametrize("name", ["tried", "depth"])
def test_what_was_tried_was_tried_on_the_shipped_codes(shipped, name):
    assert kept(name)["vqvae2"] == fingerprint(shipped[0])


def images_in(path, alike=None, size: int = 32) -> torch.Tensor:
    """The images [N, 3, S, S] of a picture that shows them in a grid on white.

    White lines separate rows of images from captions, which are lower, and columns. If
    the images have white borders, they are sought where those of the picture `alike`
    are, which has the same layout.
    """
    pixels = np.asarray(Image.open(path).convert("RGB"))
    inked = np.asarray(Image.open(alike or path).convert("RGB")).min(axis=2) < 245

    def runs(line):
        found = np.flatnonzero(np.diff(np.pad(line.astype(int), 1))).reshape(-1, 2)
        return [run for run in found if run[1] - run[0] > size]  # no lines of text

    def middles(run):  # of the image's pixels, each drawn as a square of several
        return np.linspace(*run, 2 * size + 1)[1::2].astype(int)

    rows = runs(inked.any(axis=1))
    columns = runs(np.any([inked[slice(*row)].any(axis=0) for row in rows], axis=0))
    places = [(middles(row), middles(column)) for row in rows for column in columns]
    images = np.stack([pixels[np.ix_(*place)] for place in places])
    return torch.from_numpy(images).permute(0, 3, 1, 2).int()


@pytest.mark.slow
def test_the_command_measures_the_shipped_weights(evaluated):
    """The command prints its own figures and draws its own samples."""
    found = evaluated.found
    assert table(found) in evaluated.printed
    assert found["data"]["heldout_images"] == 1000 and found["data"]["samples"] == 500
    assert found["frechet"]["classifier"] == "shipped"
    shown = images_in(evaluated.folder / "samples.png")
    assert torch.equal(shown, by_class(evaluated.samples))


def by_class(data: ImageData) -> torch.Tensor:
    """Images [N, 3, S, S] in the order of `sample_picture`."""
    images = data.images[data.labels.argsort(stable=True)]
    return images.expand(-1, 3, -1, -1).int()


@pytest.mark.slow
@pytest.mark.parametrize("picture", ["samples", "chosen_samples"])
@pytest.mark.parametrize(
    "name, folder", [("fashion_mnist", ""), ("cifar10", "cifar10"), ("emoji", "emoji")]
)
def test_the_samples_in_the_readme_are_the_first_64_of_seed_0(name, folder, picture):
    chosen = picture == "chosen_samples"
    setting = read_setting(shipped_folder(name, "prior")) if chosen else {}
    drawn = by_class(samples(*load_shipped(name), 64, **setting))
    results, file = FOLDER / "results", f"{picture}.png"
    kept = images_in(results / folder / file, results / "cifar10" / file)
    apart = (drawn - kept).abs()
    # Another processor may round a level differently. Now and then it may draw another
    # code, which changes the later codes of the same image.
    assert (apart.amax(dim=(1, 2, 3)) > 2).sum() <= 2


@pytest.mark.slow
def test_the_figures_agree_with_each_other(evaluated):
    of = evaluated.found["likelihood"]
    nats = {level: of[level]["nats_per_image"]["value"] for level in of}
    assert nats["both"] == pytest.approx(nats["top"] + nats["bottom"])
    assert nats["top"] == pytest.approx(64 * of["top"]["nats_per_code"]["value"])
    assert nats["bottom"] == pytest.approx(256 * of["bottom"]["nats_per_code"]["value"])
    bits = of["both"]["bits_per_dimension"]["value"]
    assert bits * 32 * 32 == pytest.approx(nats["both"] * 1.442695)
    for level in ("top", "bottom"):
        found = of[level]
        assert found["nats_per_code"]["value"] < found["unigram"] < found["uniform"]


@pytest.mark.slow
def test_what_is_better_is_measured_as_better(evaluated):
    found = evaluated.found
    distances = found["frechet"]["distances"]
    for name in ("reconstructions", "training images"):
        assert distances[name]["value"] < distances["samples"]["value"]
    assert found["likelihood"]["bottom"]["gain_from_top"]["low"] > 0
    assert found["frechet"]["classifier_accuracy"] > 0.85
    scores = found["accuracy_score"]
    assert scores["samples"]["value"] > 0.8 * scores["real"]["value"]
    resnet = found["accuracy_score_resnet"]
    assert resnet["real"]["value"] > 0.5
    assert resnet["samples"]["value"] > 0.7 * resnet["real"]["value"]
    near = found["neighbours"]
    assert 0.9 < near["samples_to_heldout_rebuilt"]["value"] < 1.15


@pytest.mark.slow
def test_the_chosen_setting_is_measured_beside_the_prior_itself(evaluated):
    """It draws look-alikes: their recall is low, and they teach a classifier less."""
    found = evaluated.found
    assert found["setting"] == {"top_k": 2}
    recall, accuracy = found["frechet"]["recall"], found["accuracy_score"]
    assert recall["chosen_samples"]["value"] < recall["samples"]["value"] - 0.1
    assert accuracy["chosen_samples"]["value"] < accuracy["samples"]["value"]
    for each in found["frechet"]["of_another_class"].values():
        assert each["first"] == 64 and each["of_the_first"] <= 32
    assert "- chosen setting: top_k 2" in evaluated.printed
    assert (evaluated.folder / "chosen_samples.png").is_file()


def test_a_copy_of_the_training_images_is_found_out():
    """Samples that are training images have distance 0 to the training images."""
    train, heldout = (
        some_of_each_class(load_images("fashion_mnist_mini", split), 60)
        for split in ("train", "test")
    )
    near = suite._neighbours({"samples": train, "heldout": heldout}, train, 0, "cpu")
    assert near["samples_to_heldout"]["value"] < 0.01
    assert near["heldout"]["value"] > 1


def test_a_training_that_was_killed_between_two_renames_is_resumed(tmp_path):
    """Its checkpoint `last` has another name; weights beside it are not given ones."""
    kept = Reproduction(Reproduce(recipe="fashion_mnist_mini", output_dir=tmp_path))
    kept.folder = tmp_path
    assert not kept.run_folder("vqvae2")["resume"]
    shutil.copytree(FOLDER / "fashion_mnist_vqvae2", tmp_path / "weights/vqvae2")
    assert kept.given("vqvae2")
    (tmp_path / "runs/vqvae2/.last.previous").mkdir(parents=True)
    assert not kept.given("vqvae2") and kept.run_folder("vqvae2")["resume"]
    assert (tmp_path / "runs/vqvae2/last").is_dir()


def test_weights_that_were_given_are_not_trained_again(tmp_path, monkeypatch, capsys):
    run = Reproduction(Reproduce(recipe="fashion_mnist_mini", output_dir=tmp_path))
    run.folder = tmp_path

    def no_training(**_flags):
        raise AssertionError("it was trained")

    for command in (TrainVQVAE2, TrainPrior):
        monkeypatch.setattr(command, "of", no_training)
    for name, train in (
        ("vqvae2", run.train_vqvae2),
        ("prior", run.train_prior),
        ("without_top", run.train_without_top),
    ):
        run.vqvae2_flags = run.prior_flags = {}
        with pytest.raises(AssertionError, match="it was trained"):
            train()
        given = FOLDER / f"fashion_mnist_{name}"
        shutil.copytree(given, tmp_path / "weights" / name)
        train()
        kept = f"kept from before: {tmp_path / 'weights' / name}"
        assert kept in capsys.readouterr().out
        assert not run.seconds(name)


def test_what_a_killed_run_of_a_recipe_left_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(Reproduction, "all_parts", lambda *_: None)
    for inside in ("weights/prior", "results/seed_1"):
        (tmp_path / inside / f"{UNFINISHED}x").mkdir(parents=True)
    cli.main(["reproduce", "fashion_mnist_mini", "--output_dir", str(tmp_path)])
    assert not list(tmp_path.rglob(f"{UNFINISHED}*"))


def test_tried_options_are_ordered_by_pairs_of_the_same_seed():
    """The option "other" costs more than the base from its seed, if not in the mean."""

    def run(option, seed, nats):
        named = {"option": option, "seed": seed, "nats_per_image": nats, "steps": 1}
        return named | {"top": 1.0, "bottom": 1.0}

    tried = [run("base", 0, 10.0), run("base", 1, 30.0), run("other", 0, 11.0)]
    rows = tried_table({"tried": tried}).splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == ["| nothing: the base", "| other"]
    assert " +1.0 |" in rows[1]
    with pytest.raises(ValueError, match=r"'other' was tried with seeds \[2\]"):
        tried_table({"tried": [*tried, run("other", 2, 1.0)]})


@pytest.mark.slow
def test_a_recipe_gives_weights_figures_and_a_model_card(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(RECIPES, "fashion_mnist_mini", TINY)
    settings = [{}, {"top_k": 8}, {"guidance": [0.5, 0.0]}]
    monkeypatch.setattr(choosing, "SETTINGS", settings)
    judge_quickly(monkeypatch, 320, resnet_epochs=1, heldout_images=100)
    command = ["reproduce", "fashion_mnist_mini", "--output_dir", str(tmp_path)]
    cli.main(command)
    first = capsys.readouterr().out
    found = json.loads((tmp_path / "results" / "results.json").read_text())
    card = (tmp_path / "results" / "MODEL_CARD.md").read_text()
    vqvae2 = tmp_path / "weights" / "vqvae2"
    other = json.loads((tmp_path / "results" / "seed_1" / "results.json").read_text())
    assert table(found, {1: other}) in card and table(found) in first
    heading, *rows = table(found, {1: other}).splitlines()
    assert heading.endswith("| training seed 1 |")
    nats = f"{other['likelihood']['both']['nats_per_image']['value']:.1f} |"
    (row,) = [row for row in rows if row.startswith("| both levels: nats per image")]
    assert row.endswith(nats)  # another network
    (row,) = [row for row in rows if "PSNR" in row]
    assert row.endswith("| |")  # the same VQ-VAE-2, whose row says nothing new
    assert other["setting"] == found["setting"]
    assert "gain_from_top" in found["likelihood"]["bottom"]
    load_without_top(tmp_path / "weights" / "without_top", load_model(VQVAE2, vqvae2))
    trained = ("vqvae2", "prior", "without_top", "prior_seed_1", "classifier")
    assert {path.name for path in (tmp_path / "weights").iterdir()} == {*trained}
    for name in trained:
        weights = tmp_path / "weights" / name / "model.safetensors"
        assert hashlib.sha256(weights.read_bytes()).hexdigest() in card, name
    for name in ("samples", "reconstructions", "neighbours"):
        assert (tmp_path / "results" / f"{name}.png").is_file()
    compared = json.loads((tmp_path / "results" / "settings.json").read_text())
    assert [row["setting"] for row in compared["rows"]] == settings
    assert compared["heldout_images"] == 16
    assert read_setting(tmp_path / "weights" / "prior") == found["setting"]
    assert found["setting"] == (compared["chosen"] or None)  # {} is the prior itself
    paths = (tmp_path / "runs").glob("*/history.json")
    histories = {path: path.read_text() for path in paths}
    assert len(histories) == 4

    measured, again = [], lambda flags: measured.append(flags.output_dir) or found
    monkeypatch.setattr(Evaluate, "run", again)
    cli.main(command)
    assert measured == [tmp_path / "results"]
    assert all(path.read_text() == text for path, text in histories.items())
    log = (tmp_path / "reproduce.log").read_text()
    assert log.count("== prior:") == 2 and log.count("epoch 1/2") == 3


def test_a_recipe_without_the_third_training_leaves_it_out(tmp_path, monkeypatch):
    """It is neither trained nor measured."""
    recipe = replace(TINY, without_top=False, more_seeds=())
    ran = Reproduction(Reproduce(recipe="fashion_mnist_mini", output_dir=tmp_path))
    (tmp_path / "results").mkdir()
    ran.folder, measured = tmp_path, []
    for name in ("train_vqvae2", "train_prior", "train_classifier", "choose_setting"):
        monkeypatch.setattr(ran, name, lambda *_: None)
    monkeypatch.setattr(ran, "train_without_top", lambda: measured.append("trained"))
    monkeypatch.setattr(Evaluate, "run", lambda flags: measured.append(flags) or KEPT)
    ran.all_parts(recipe)
    assert [flags.without_top_checkpoint for flags in measured] == [None]
    card = (tmp_path / "results" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "--without_top" not in card


def test_weights_are_measured_on_their_data_set_with_their_own_classifier():
    for given, dataset in (
        ({"dataset": "cifar10"}, "cifar10"),
        ({"weights": "cifar10"}, "cifar10"),
        ({"dataset": "imagefolder", "weights": "cifar10"}, "imagefolder"),
    ):
        command = Evaluate(**given)
        assert command.dataset_name == dataset
        vqvae2, prior, without_top, classifier = command.models("cpu")
        assert vqvae2.in_channels == 3 and without_top is None
        assert classifier(torch.rand(2, 3, 32, 32)).shape == (2, prior.num_classes)
    assert Evaluate().dataset_name == "fashion_mnist"


def test_the_shipped_classes_of_cifar10_are_those_of_torchvision():
    classes = read_training_notes(shipped_folder("cifar10", "prior"))["class_names"]
    first = ["airplane", "automobile", "bird", "cat", "deer"]
    assert classes == [*first, "dog", "frog", "horse", "ship", "truck"]


PAIR = "--prior_checkpoint prior --vqvae2_checkpoint vqvae2"
SHIPPED = FOLDER / "fashion_mnist_vqvae2"


@pytest.mark.parametrize(
    "command, words",
    [
        ("evaluate --prior_checkpoint prior", "a VQ-VAE-2 and a prior go together"),
        ("evaluate --resume", "--resume is for --protocol cas"),
        ("evaluate --num_samples 0", "num_samples is 0"),
        ("evaluate --dataset mnist", "no shipped weights for 'mnist', only for"),
        (f"evaluate --weights cifar10 {PAIR}", "--weights cifar10 names shipped"),
        (f"train-prior --vqvae2_checkpoint {SHIPPED} --without_top", "--level bottom"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(command, words, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([*command.split(), "--output_dir", str(tmp_path / "new")])
    assert stop.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    "changed, words",
    [
        ({"class_names": ("a", "b", "c")}, "10 classes, but the images have 3"),
        ({"num_samples": 3}, "4 or more of each"),
        ({"setting": {"guidance": (0.5, 0.0)}}, "trained with all labels"),
        ({"setting": {"temperature": 0}}, "temperature is 0"),
        ({"classifier": Classifier(2, 3)}, "3 classes of images of 2 channel"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_work(shipped, changed, words):
    prior = HierarchicalPixelCNN(30, 4, 4, 1, num_classes=10)  # without label_dropout
    heldout = load_images("fashion_mnist_mini", "test")
    changed = dict(changed)
    heldout.class_names = changed.pop("class_names", heldout.class_names)
    with pytest.raises(ValueError, match=words):
        evaluate(shipped[0], prior, heldout, heldout, **changed)


def test_the_prior_of_garments_is_not_measured_on_digits(tmp_path, monkeypatch, capsys):
    digits = load_images("fashion_mnist_mini", "test")
    digits.class_names = tuple("0123456789")
    monkeypatch.setattr(images, "load_images", lambda *_, **__: digits)
    with pytest.raises(SystemExit) as stop:
        named = ["--weights", "fashion_mnist", "--output_dir", str(tmp_path)]
        cli.main(["evaluate", "--dataset", "mnist", *named])
    assert stop.value.code == 2
    assert "trained on the classes T-shirt/top" in capsys.readouterr().err


def test_what_passes_as_without_top_has_notes_that_say_so(shipped):
    prior = FOLDER / "fashion_mnist_prior"
    without_top = FOLDER / "fashion_mnist_without_top"
    load_without_top(without_top, shipped[0])
    with pytest.raises(ValueError, match="nothing says that the bottom level"):
        load_without_top(prior, shipped[0])
    other = copy.deepcopy(shipped[0])
    other.vq_top.vq.codebook[0] += 1
    with pytest.raises(ValueError, match="another VQ-VAE-2"):
        load_without_top(without_top, other)


@pytest.mark.parametrize("command", [["evaluate"], ["reproduce", "fashion_mnist_mini"]])
def test_several_processes_are_refused_before_the_work(
    command, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit) as stop:
        cli.main([*command, "--output_dir", str(tmp_path / "out")])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"{command[0]} was started in 2 process" in error
    assert "train-prior in several, by accelerate launch" in error
    assert not (tmp_path / "out").exists()
