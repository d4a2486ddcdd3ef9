"""The scripts in tools/ run as their documentation says, on the embedded images."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pixelprior.assets import FOLDER
from pixelprior.evaluation.report import tried_table

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
    options = ["--options", "base", "learning rate 4e-3"]
    where = [FOLDER / "fashion_mnist_vqvae2", file, "--dataset", "fashion_mnist_mini"]
    run("try_options.py", *where, *small, "--steps", 5, "--seeds", 3, *options)
    tried = json.loads(file.read_text(encoding="utf-8"))
    assert {(each["option"], each["seed"]) for each in tried["tried"]} == {
        (option, 3) for option in options[1:]
    }
    assert {each["steps"] for each in tried["tried"]} == {5}
    assert tried["tried"][0]["top"] != tried["tried"][1]["top"]
    assert "| nothing: the base |" in tried_table(tried)


def test_other_codes_are_tried_with_a_prior_on_each(tmp_path):
    file, options = tmp_path / "codes.json", ["base", "32 codes"]
    flags = ["--dataset", "fashion_mnist_mini", "--steps", 4, "--prior_steps", 2]
    run("try_codes.py", file, *flags, "--seeds", 3, "--options", *options)
    tried = json.loads(file.read_text(encoding="utf-8"))["tried"]
    assert {(each["option"], each["seed"]) for each in tried} == {
        (option, 3) for option in options
    }
    for each in tried:
        assert 0 < each["mean_squared_error"] < 1
        assert each["frechet_of_reconstructions"] > 0
        nats = 64 * each["top"] + 256 * each["bottom"]
        assert each["nats_per_image"] == pytest.approx(nats)
