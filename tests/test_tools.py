"""The scripts in tools/ run as their documentation says, on the embedded images."""

import json
import subprocess
import sys
from argparse import Namespace
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial
from io import StringIO
from pathlib import Path

import pytest
import torch
import try_anomalies
import try_codes
import try_options
from tried import codes_table, one_class_table, tried_table

from pixelprior.assets import FOLDER
from pixelprior.data.images import load_images
from pixelprior.evaluation import detection
from pixelprior.evaluation.classifier import load_shipped_reference_models
from pixelprior.evaluation.detection import defects_markdown
from pixelprior.evaluation.suite import some_of_each_class
from pixelprior.prior import HierarchicalPixelCNN

pytestmark = pytest.mark.slow

TOOLS = Path(__file__).parents[1] / "tools"


def run(name: str, *arguments) -> None:
    """Run a script in a process of its own; what it starts, it starts itself."""
    done = subprocess.run(
        [sys.executable, str(TOOLS / name), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


def test_options_are_tried_in_processes_of_their_own(tmp_path):
    file, small = tmp_path / "tried.json", ["--hidden_channels", 4, "--num_layers", 2]
    options = ["--options", "base", "learning rate 4e-3", "with mirrored copies"]
    where = [FOLDER / "fashion_mnist_vqvae2", file, "--dataset", "fashion_mnist_mini"]
    run("try_options.py", *where, *small, "--steps", 5, "--seeds", 3, *options)
    tried = json.loads(file.read_text(encoding="utf-8"))
    assert {(each["option"], each["seed"]) for each in tried["tried"]} == {
        (option, 3) for option in options[1:]
    }
    assert {each["steps"] for each in tried["tried"]} == {5}
    assert len({each["top"] for each in tried["tried"]}) == 3, "an option does nothing"
    assert "| nothing: the base |" in tried_table(tried)


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


class Finished:
    """A process that has ended, in place of one that was started with `flags`."""

    returncode = 0

    def __init__(self, *flags):
        self.args = [*sys.argv, *map(str, flags)]
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as out:
            patch.setattr(sys, "argv", self.args)
            patch.setattr(torch, "set_num_threads", lambda threads: None)
            try_codes.main()
        self.printed = out.getvalue()

    def poll(self) -> int:
        return self.returncode

    def communicate(self) -> tuple[str, None]:
        return self.printed, None


def test_other_codes_are_tried_with_a_prior_on_each(tmp_path, monkeypatch):
    """All in this process; the test above is of the processes."""
    file, options = tmp_path / "codes.json", ["base", "32 codes"]
    flags = ["--dataset", "fashion_mnist_mini", "--steps", "4", "--prior_steps", "2"]
    flags += ["--seeds", "3", "--options", *options]
    few = some_of_each_class(load_images("fashion_mnist_mini", "train"), 300)
    monkeypatch.setattr(try_codes, "load_images", lambda *_, **__: few)
    monkeypatch.setattr(try_codes, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(try_options, "start", Finished)
    monkeypatch.setattr(sys, "argv", ["try_codes.py", str(file), *flags])
    try_codes.main()
    found = json.loads(file.read_text(encoding="utf-8"))
    assert "| nothing: the base |" in codes_table(found)
    tried = found["tried"]
    assert {(each["option"], each["seed"]) for each in tried} == {
        (option, 3) for option in options
    }
    for each in tried:
        assert 0 < each["mean_squared_error"] < 1
        assert each["frechet_of_reconstructions"] > 0
        nats = 64 * each["top"] + 256 * each["bottom"]
        assert each["nats_per_image"] == pytest.approx(nats)


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
    last = tmp_path / "runs" / "class_1" / "prior" / "last"
    last.rename(last.with_name(".last.previous"))  # as if stopped between two renames
    first_run = first["one_class"].pop()
    file.write_text(json.dumps(first), encoding="utf-8")
    assert run_with("--classes", "1")["one_class"] == [first_run]
    first = json.loads(file.read_text(encoding="utf-8"))
    monkeypatch.setattr(try_anomalies, "evaluate_defects", None)
    asked, one = [], try_anomalies.one_class

    def watched(number, arguments):
        asked.append(number)
        return one(number, arguments)

    monkeypatch.setattr(try_anomalies, "one_class", watched)
    both = run_with("--classes", "1", "8")
    assert asked == [8] and both["defects"] == first["defects"]
    assert both["one_class"][:1] == first["one_class"]
    areas = [each["methods"]["find"]["roc_auc"]["value"] for each in both["one_class"]]
    assert [each["class"] for each in both["one_class"]] == ["Trouser", "Bag"]
    assert both["mean_roc_auc"]["find"] == pytest.approx(sum(areas) / 2)
    assert len(both["one_class"][0]["methods"]) == 6
    assert both["one_class"][0]["images"] == {"normal": 20, "odd": 20}
    table = one_class_table(both).splitlines()
    assert table[2].startswith(f"| Trouser | {areas[0]:.3f} |")
    assert table[4].startswith(f"| mean | {sum(areas) / 2:.3f} |")
    fashion = both["defects"]["fashion_mnist"]
    assert fashion["images"]["defects"] == 20
    assert fashion["false_alarms_over_divisions"]["images"] == len(few["test"])
    lines = defects_markdown(fashion).splitlines()
    by_kind = fashion["by_kind"]["scratch"]["find"]
    cell = f"{by_kind['roc_auc']:.3f}, {by_kind['pixel_roc_auc']:.3f}"
    assert any(line.startswith(f"| scratch | {cell} |") for line in lines)
    alarms = fashion["false_alarms"]["0.05"]["value"]
    assert f"at a rate of 5 %: {100 * alarms:.1f} ±" in "\n".join(lines)
