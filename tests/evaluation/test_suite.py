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

import numpy as np
import pytest
import torch
from PIL import Image
from tried import (
    codes_table,
    defects_markdown,
    one_class_table,
    tokenizers_table,
    tried_table,
)

from pixelprior import VQVAE2, HierarchicalPixelCNN, cli
from pixelprior.assets import FOLDER, load_shipped, shipped_class_names, shipped_folder
from pixelprior.benchmark.training import training_markdown
from pixelprior.checkpoints import load_model
from pixelprior.cli.evaluate import Evaluate
from pixelprior.cli.priors import load_without_top
from pixelprior.cli.recipes import RECIPES, Recipe
from pixelprior.cli.reproduce import Reproduce
from pixelprior.cli.reproduction import Reproduction
from pixelprior.cli.train_vqvae2 import TrainVQVAE2
from pixelprior.evaluation import choosing, suite
from pixelprior.evaluation import classifier as judging
from pixelprior.evaluation.choosing import read_setting, setting_in_words
from pixelprior.evaluation.classifier import Classifier
from pixelprior.evaluation.measures import samples
from pixelprior.evaluation.report import accuracy_table, sample_picture, table
from pixelprior.plotting import save_picture
from pixelprior.training import TrainingRun

CIFAR = "cifar10"
DOCS = Path(__file__).parents[2] / "docs"
SMALL = {"dataset": "fashion_mnist_mini", "max_images": 320, "batch_size": 32}
SMALL |= {"hidden_channels": 8}
LABELS = {"class_conditional": True, "label_dropout": 0.2}
TINY = Recipe(
    about="for a test",
    vqvae2=SMALL | {"num_embeddings": 16, "embedding_dim": 8, "epochs": 1},
    prior=SMALL | LABELS | {"num_layers": 2, "epochs": 2},
    top={"epochs": 1},
    classifier_epochs=1,
    num_samples=40,
    more_seeds=(1,),
)


def judge_quickly(patch, classifier_images: int, resnet_epochs: int):
    """Train small classifiers briefly, take times and intervals in few rounds."""
    small = {"residual_blocks": 1, "batch_size": 25}
    patch.setitem(judging.ACCURACY_SCORES, "accuracy_score_resnet", small)
    patch.setattr(judging, "CLASSIFIER_IMAGES", classifier_images)
    patch.setattr(judging, "RESNET_EPOCHS", resnet_epochs)
    patch.setattr(judging, "FRECHET_ROUNDS", 20)
    patch.setattr(suite, "_speed", partial(suite._speed, repeats=1))


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """Results of the shipped weights and of a setting whose samples differ little."""
    folder = tmp_path_factory.mktemp("evaluated")
    command = ["evaluate", "--dataset", "fashion_mnist_mini", "--num_samples", "500"]
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(io.StringIO()) as printed,
    ):
        judge_quickly(patch, 6000, resnet_epochs=5)
        cli.main([*command, "--top_k", "2", "--output_dir", str(folder)])
    found = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return found, printed.getvalue()


@pytest.mark.slow
def test_the_accuracy_score_of_its_authors_goes_on_where_it_was_stopped(
    tmp_path, monkeypatch, capsys
):
    brief = {"residual_blocks": 1, "augment": True, "epochs": 2, "batch_size": 25}
    monkeypatch.setattr(suite, "CAS", brief)
    trained, train, save = [], suite.train_classifier, TrainingRun.save

    def watched(data, **options):
        trained.append(data)
        return train(data, **options)

    def save_and_stop(run, *arguments, **options):
        save(run, *arguments, **options)
        if len(trained) == 4 + 3:  # in the training on samples of the second run
            raise KeyboardInterrupt

    monkeypatch.setattr(suite, "train_classifier", watched)
    monkeypatch.setattr(TrainingRun, "save", save_and_stop)
    command = ["evaluate", "--protocol", "cas", "--dataset", "fashion_mnist_mini"]
    command += ["--num_samples", "100", "--output_dir"]

    def run(name: str, *flags: str) -> dict:
        cli.main([*command, str(tmp_path / name), *flags])
        return json.loads((tmp_path / name / "cas.json").read_text(encoding="utf-8"))

    whole = run("whole")
    scores = whole["classification_accuracy_score"]
    assert not torch.equal(trained[2].images, trained[3].images)  # as chosen
    row = f"| samples | {100 * scores['samples']['value']:.2f} |"
    assert row in capsys.readouterr().out
    with pytest.raises(SystemExit):
        run("stopped")
    assert run("stopped", "--resume") == whole
    assert len(trained) == 4 + 3 + 2, "one of four was begun twice"


@pytest.mark.slow
def test_a_subset_gives_the_kept_figures(evaluated):
    """The kept figures are of 10,000 test images, the new ones of 1,000 of these."""
    for part in (
        "likelihood top nats_per_code",
        "likelihood both bits_per_dimension",
        "likelihood bottom gain_from_top",
        "reconstruction psnr",
    ):
        new, old = evaluated[0], kept("results")
        for key in part.split():
            new, old = new[key], old[key]
        reach = min(1.5 * (new["high"] - new["low"]) / 2, 0.04 * old["value"])
        assert new["value"] == pytest.approx(old["value"], abs=reach), part


def kept(name: str) -> dict:
    path = FOLDER / "results" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))


OTHERS = {"training seed 1": "seed_1", "bottom level anew": "bottom_anew"}
OTHERS = {title: kept(f"{folder}/results") for title, folder in OTHERS.items()}


@pytest.mark.parametrize(
    "page, name, words",
    [
        ("results", "results", lambda of: table(of, OTHERS)),
        ("results", "settings", choosing.settings_table),
        ("results", "cifar10/results", table),
        ("results", "cifar10/settings", choosing.settings_table),
        ("results", "cifar10/cas", accuracy_table),
        ("results", "tried", tried_table),
        ("results", "depth", tried_table),
        ("results", "codes", codes_table),
        ("results", "cifar10/tokenizers", tokenizers_table),
        ("performance", "training", training_markdown),
        ("anomalies", "anomalies", one_class_table),
        ("anomalies", "anomalies", lambda of: one_class_table(of, "_cifar10")),
        ("anomalies", "anomalies", lambda of: defects_markdown(of["defects"][CIFAR])),
    ],
)
def test_the_documents_have_the_tables_of_the_kept_results(page, name, words):
    shown = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    assert re.sub(" +", " ", words(kept(name))) in re.sub(" +", " ", shown)


@pytest.mark.slow
@pytest.mark.parametrize("picture", ["samples", "chosen_samples"])
@pytest.mark.parametrize("name", ["fashion_mnist", "cifar10", "emoji"])
def test_the_samples_in_the_readme_are_the_first_64_of_seed_0(name, picture, tmp_path):
    chosen = picture == "chosen_samples"
    setting = read_setting(shipped_folder(name, "prior")) if chosen else {}
    results = FOLDER / "results" / name.removeprefix("fashion_mnist")
    kept = np.asarray(Image.open(results / f"{picture}.png").convert("RGB"), int)
    options = {"class_names": shipped_class_names(name)} | setting
    drawn = samples(*load_shipped(name), 64, seed=0, **options)
    new = sample_picture(drawn, 0, setting_in_words(setting) if chosen else "")
    pixels = Image.open(save_picture(new, tmp_path / "new.png")).convert("RGB")
    # Another processor may draw another code. Of seed 1, this is above 10.
    assert np.abs(np.asarray(pixels, int) - kept).mean() < 1


@pytest.mark.slow
def test_what_is_better_is_measured_as_better(evaluated):
    found, printed = evaluated
    distances = found["frechet"]["distances"]
    for name in ("reconstructions", "training images"):
        assert distances[name]["value"] < distances["samples"]["value"]
    assert found["likelihood"]["bottom"]["gain_from_top"]["low"] > 0
    assert found["frechet"]["classifier_accuracy"] > 0.85
    for name, least in (("accuracy_score", 0.8), ("accuracy_score_resnet", 0.7)):
        scores = found[name]
        assert scores["real"]["value"] > 0.5
        assert scores["samples"]["value"] > least * scores["real"]["value"]
    near = {name: each["value"] for name, each in found["neighbours"].items()}
    ratio = near["samples"] / near["heldout"]
    assert near["samples_to_heldout"] == pytest.approx(ratio)
    recall, accuracy = found["frechet"]["recall"], found["accuracy_score"]
    assert table(found) in printed and "- chosen setting: top_k 2" in printed
    assert recall["chosen_samples"]["value"] < recall["samples"]["value"] - 0.1
    assert accuracy["chosen_samples"]["value"] < accuracy["samples"]["value"]


def reproduction(folder) -> Reproduction:
    run = Reproduction(Reproduce(recipe="fashion_mnist_mini", output_dir=folder))
    run.vqvae2_flags = {}
    return run


def test_weights_that_were_given_are_kept_and_a_killed_training_goes_on(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(TrainVQVAE2, "of", None)
    run = reproduction(tmp_path)
    shutil.copytree(FOLDER / "fashion_mnist_vqvae2", tmp_path / "weights/vqvae2")
    run.train_vqvae2()
    # A kill between two renames leaves the checkpoint `last` under another name.
    (tmp_path / "runs/vqvae2/.last.previous").mkdir(parents=True)
    with pytest.raises(TypeError, match="not callable"):
        run.train_vqvae2()
    assert run.run_folder("vqvae2")["resume"]


@pytest.mark.slow
def test_a_recipe_gives_weights_figures_and_a_model_card(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(RECIPES, "fashion_mnist_mini", TINY)
    settings = [{}, {"top_k": 8}, {"guidance": [0.5, 0.0]}]
    monkeypatch.setattr(choosing, "SETTINGS", settings)
    judge_quickly(monkeypatch, 320, resnet_epochs=1)
    command = ["reproduce", "fashion_mnist_mini", "--output_dir", str(tmp_path)]
    cli.main(command)
    results, kept = tmp_path / "results", tmp_path / "weights"
    found, other, compared = (
        json.loads((results / f"{name}.json").read_text())
        for name in ("results", "seed_1/results", "settings")
    )
    card = (results / "MODEL_CARD.md").read_text()
    assert table(found, {"training seed 1": other}) in card
    assert table(found) in capsys.readouterr().out
    load_without_top(kept / "without_top", load_model(VQVAE2, kept / "vqvae2"))
    trained = ("vqvae2", "prior", "without_top", "prior_seed_1", "classifier")
    assert {path.name for path in kept.iterdir()} == {*trained}
    for name in trained:
        weights = (kept / name / "model.safetensors").read_bytes()
        assert hashlib.sha256(weights).hexdigest() in card, name
    trained_alone = load_model(HierarchicalPixelCNN, tmp_path / "runs/prior_top")
    tops = (trained_alone, load_model(HierarchicalPixelCNN, kept / "prior"))
    first, second = (each.prior_top.half().state_dict().values() for each in tops)
    assert all(map(torch.equal, first, second)) and "--level top --epochs 1" in card
    assert (results / "neighbours.png").is_file()
    assert found["setting"] == (compared["chosen"] or None)  # {} is the prior itself
    assert read_setting(kept / "prior") == other["setting"] == found["setting"]
    paths = (tmp_path / "runs").glob("*/history.json")
    histories = {path: path.read_text() for path in paths}

    measured, again = [], lambda flags: measured.append(flags.output_dir) or found
    monkeypatch.setattr(Evaluate, "run", again)
    cli.main(command)
    assert measured == [results] and len(histories) == 6
    of_top = histories[tmp_path / "runs/prior_top/history.json"]
    assert len(json.loads(of_top)) == 1  # of its own, and the bottom level has 2
    assert all(path.read_text() == text for path, text in histories.items())
    assert (tmp_path / "reproduce.log").read_text().count("== prior:") == 2


def test_a_recipe_without_the_third_training_leaves_it_out(tmp_path, monkeypatch):
    run, parts = reproduction(tmp_path), []
    monkeypatch.setattr(run, "part", lambda name, *_: parts.append(name))
    run.all_parts(replace(TINY, without_top=False, more_seeds=()))
    names = ["VQ-VAE-2", "prior", "classifier", "setting of sampling", "results"]
    assert parts == names


def test_weights_are_measured_on_their_data_set_with_their_own_classifier():
    command = Evaluate(dataset="imagefolder", weights=CIFAR)
    assert command.dataset_name == "imagefolder"
    vqvae2, prior, without_top, classifier = command.models("cpu")
    assert vqvae2.in_channels == 3 and without_top is None
    assert classifier(torch.rand(2, 3, 32, 32)).shape == (2, prior.num_classes)


def test_flags_that_do_not_go_together_are_refused(tmp_path, capsys):
    for flags, words in (
        ("--prior_checkpoint prior", "a VQ-VAE-2 and a prior go together"),
        ("--resume", "--resume is for --protocol cas"),
        ("--dataset mnist", "no shipped weights for 'mnist', only for"),
    ):
        with pytest.raises(SystemExit):
            cli.main(["evaluate", *flags.split(), "--output_dir", str(tmp_path)])
        assert words in capsys.readouterr().err


def test_what_does_not_fit_is_refused_before_the_work(shipped, heldout_images):
    for classes, changed, words in (
        (10, {"num_samples": 3}, "4 or more of each"),
        (10, {"setting": {"guidance": (0.5, 0.0)}}, "trained with all labels"),
        (10, {"classifier": Classifier(2, 3)}, "3 classes of images of 2 channel"),
        (11, {}, "11 classes, but the images have 10"),
    ):
        prior = HierarchicalPixelCNN(30, 4, 4, 1, num_classes=classes)
        with pytest.raises(ValueError, match=words):
            suite.evaluate(shipped[0], prior, heldout_images, heldout_images, **changed)


def test_what_passes_as_without_top_has_notes_that_say_so(shipped):
    with pytest.raises(ValueError, match="nothing says that the bottom level"):
        load_without_top(FOLDER / "fashion_mnist_prior", shipped[0])
    other = copy.deepcopy(shipped[0])
    other.vq_top.vq.codebook[0] += 1
    with pytest.raises(ValueError, match="another VQ-VAE-2"):
        load_without_top(FOLDER / "fashion_mnist_without_top", other)


@pytest.mark.parametrize("command", ["evaluate", "reproduce fashion_mnist_mini"])
def test_several_processes_are_refused(command, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit):
        cli.main([*command.split(), "--output_dir", str(tmp_path / "out")])
    error = capsys.readouterr().err
    assert "was started in 2 process" in error and not (tmp_path / "out").exists()
    assert "train-prior in several, by accelerate launch" in error
