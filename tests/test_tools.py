"""The scripts in tools/ run as their documentation says, on the embedded images."""

import json
import subprocess
import sys
from argparse import Namespace
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
import try_anomalies
import try_options
import try_stacks
from torch import nn
from tried import codes_table, one_class_table, tried_table

from pixelprior.assets import FOLDER
from pixelprior.course.causality import before, seen_by
from pixelprior.data.images import load_images
from pixelprior.evaluation import detectors as detection
from pixelprior.evaluation.classifier import load_shipped_reference_models
from pixelprior.evaluation.measures import some_of_each_class
from pixelprior.prior import HierarchicalPixelCNN

pytestmark = pytest.mark.slow

TOOLS = Path(__file__).parents[1] / "tools"


def run(name, *arguments, options):
    """What a script finds with some options and one seed, each in its own process."""
    command = [sys.executable, TOOLS / name, *arguments, "--seeds", 3]
    command += ["--dataset", "fashion_mnist_mini", "--options", *options]
    subprocess.run(list(map(str, command)), check=True, timeout=600)
    (file,) = (each for each in arguments if str(each).endswith(".json"))
    found = json.loads(file.read_text(encoding="utf-8"))
    tried = {(each["option"], each["seed"]) for each in found["tried"]}
    assert tried == {(option, 3) for option in options}
    return found


def test_options_are_tried_in_processes_of_their_own(tmp_path):
    where = FOLDER / "fashion_mnist_vqvae2", tmp_path / "tried.json"
    small = ["--hidden_channels", 4, "--num_layers", 2, "--steps", 5]
    small += ["--samples", 20, "--label_dropout", 0.1]
    options = ["base", "learning rate 4e-3", "with mirrored copies"]
    found = run("try_options.py", *where, *small, options=options)
    assert {each["steps"] for each in found["tried"]} == {5}
    assert len({each["top"] for each in found["tried"]}) == 3, "an option does nothing"
    assert "| nothing: the base |" in tried_table(found)
    for each in found["tried"]:
        distances = [
            each[name]["frechet"]
            for name in ("reconstructions", "samples", "guided_samples")
        ]
        assert 0 < distances[0] < min(distances[1:]) and distances[1] != distances[2]
        assert each["mean_squared_error"] < 0.001


def test_changed_copies_are_among_the_first_codes_of_a_training(tmp_path):
    """A short training sees no others."""
    where = {"vqvae2": FOLDER / "fashion_mnist_vqvae2", "file": tmp_path / "tried.json"}
    given = Namespace(dataset="fashion_mnist_mini", data_root=None, images=300, **where)
    plain, _ = try_options.codes_of(given, "none")
    both, heldout = try_options.codes_of(given, "flip")
    own = {codes.numpy().tobytes() for codes in plain.z_bottom}
    unchanged = sum(codes.numpy().tobytes() in own for codes in both.z_bottom[:200])
    assert len(both) == 600 and 60 < unchanged < 140
    assert len(heldout) == 200 and torch.equal(
        both.labels.bincount(), 2 * plain.labels.bincount()
    )


def test_other_codes_are_tried_with_a_prior_on_each(tmp_path):
    file, options = tmp_path / "codes.json", ["base", "32 codes"]
    found = run("try_codes.py", file, "--prior_steps", 2, "--steps", 4, options=options)
    assert "| nothing: the base |" in codes_table(found)
    for each in found["tried"]:
        assert 0 < each["mean_squared_error"] < 1
        assert each["frechet_of_reconstructions"] > 0
        nats = 64 * each["top"] + 256 * each["bottom"]
        assert each["nats_per_image"] == pytest.approx(nats)


def after_its_embedding(network):
    """A network as a function of features, since there is no gradient by a code."""

    def logits(v):
        h = v
        for block in network.blocks:
            v, h = block(v, h)
        return network.head(h)

    return network[1:] if isinstance(network, nn.Sequential) else logits


def test_stacks_are_of_equal_size_and_see_what_they_should(tmp_path):
    made = [make(5) for make in try_stacks.NETWORKS.values()]
    sizes = [try_stacks.weights_in_use(network) for network in made]
    assert max(sizes) < 1.03 * min(sizes)
    for at in ((5, 2), (7, 0)):
        single, two, blinded = (
            seen_by(after_its_embedding(network), at, (8, 8), 32) for network in made
        )
        assert blinded.equal(single) and single.sum() < two.sum()
        assert not (single & ~two).any() and not (two & ~before(at, (8, 8))).any()
    command = [TOOLS / "try_stacks.py", tmp_path / "s.json", "--steps", 2, "--seeds", 2]
    subprocess.run([sys.executable, *map(str, command)], check=True, timeout=600)
    found = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))
    for each in found["networks"].values():
        assert len(set(each["nats"])) == 2 and len(each["map"]) == 64
        assert each["mean"] == pytest.approx(sum(each["nats"]) / 2, abs=1e-5)
        assert sum(each["map"]) / 64 == pytest.approx(each["mean"], abs=1e-3)
    one, other = (found["networks"][name]["mean"] for name in ("two_stacks", "blinded"))
    assert found["price"]["mean"] == pytest.approx(other - one, abs=3e-5)


def test_what_is_odd_is_measured_on_defects_and_for_each_class_once(
    tmp_path, monkeypatch, small_vqvae2
):
    """Small networks, one epoch; a second run measures only what is missing."""
    file, few = tmp_path / "found" / "anomalies.json", {}
    for split, count in (("train", 2500), ("test", 200)):
        data = load_images("fashion_mnist_mini", split)
        few[split] = some_of_each_class(data, min(count, len(data)))
    settings = {
        name: replace(each, epochs=1) for name, each in try_anomalies.SETTINGS.items()
    }
    torch.manual_seed(0)
    prior = HierarchicalPixelCNN(512, 8, 8, 2, num_classes=10).eval()
    small = {"embedding_dim": 8, "hidden_channels": 8}
    networks = {"vqvae2": {"num_embeddings": 8}, "prior": {"num_layers": 2}}
    judges, read = load_shipped_reference_models(), set()

    def images_of(dataset, split, data_root=None, **_):
        read.add((dataset, data_root))
        return few[split]

    for name, value in {
        "load_images": images_of,
        "load_shipped": lambda _: (small_vqvae2, prior),
        "load_shipped_reference_models": lambda *_: judges,
        "keep_freed_memory": lambda: None,
        "SHARE": 0.4,
        "HELD_OUT": 0.04,
        "SETTINGS": settings,
        "NETWORKS": {name: small | each for name, each in networks.items()},
    }.items():
        monkeypatch.setattr(try_anomalies, name, value)

    few_rounds = partial(detection.bootstrap, rounds=20)
    monkeypatch.setattr(detection, "bootstrap", few_rounds)

    def run_with(*flags: str) -> dict:
        where = [str(file), str(tmp_path / "runs"), "--images", "20", "--draws", "1"]
        monkeypatch.setattr(sys, "argv", ["try_anomalies.py", *where, *flags])
        try_anomalies.main()
        return json.loads(file.read_text(encoding="utf-8"))

    file.parent.mkdir()
    first = run_with("--classes", "1", "--cifar10", str(tmp_path))
    assert list(first["defects"]) == ["fashion_mnist", "cifar10"]
    assert ("imagefolder", tmp_path) in read
    fashion = first["defects"]["fashion_mnist"]
    assert fashion["images"]["defects"] == 20
    assert fashion["false_alarms_over_divisions"]["images"] == len(few["test"])
    asked, one = [], try_anomalies.one_class
    watched = lambda number, *given: asked.append(number) or one(number, *given)  # noqa: E731
    monkeypatch.setattr(try_anomalies, "one_class", watched)
    monkeypatch.setattr(try_anomalies, "evaluate_defects", None)
    both = run_with("--classes", "1", "8")
    assert asked == [8] and both["defects"] == first["defects"]
    assert both["one_class_cifar10"] == first["one_class_cifar10"] != []
    lead = both["one_class"][0]["find_less_largest_nats"]["value"]
    of = both["one_class"][0]["methods"]
    of = [of[name]["roc_auc"]["value"] for name in ("find", "largest nats")]
    assert lead == pytest.approx(of[0] - of[1], abs=1e-6)
    assert both["one_class"][:1] == first["one_class"]
    assert len(both["one_class"][0]["methods"]) == 6
    assert both["one_class"][0]["images"] == {"normal": 20, "odd": 20}
    areas = [each["methods"]["find"]["roc_auc"]["value"] for each in both["one_class"]]
    assert both["mean_roc_auc"]["find"] == pytest.approx(sum(areas) / 2)
    assert f"\n| Bag | {areas[1]:.3f} |" in one_class_table(both)
