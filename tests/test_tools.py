"""The scripts in tools/ run as their documentation says, on the embedded images."""

import json
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
import torch
import try_codes
import try_options

from pixelprior.assets import FOLDER
from pixelprior.data import load_images
from pixelprior.evaluation.suite import some_of_each_class
from pixelprior.evaluation.tried import codes_table, tried_table

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
