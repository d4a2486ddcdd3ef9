"""Runs the commands of the package from a notebook, on a folder of emoji.

A `Terminal` runs each command in a process of its own, as a shell would, always on the
processor. It prints the command and those lines of its output that are asked for. In
these lines it puts "…" in place of numbers that depend on the processor, so that a
notebook has the same outputs everywhere.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from matplotlib.figure import Figure

from pixelprior.course.figures import image_blocks
from pixelprior.data.images import load_images
from pixelprior.plotting import save_images
from pixelprior.training import read_history

TIMES_AND_LOSSES = r"\d[\d,]*\.\d+(?:e[+-]?\d+)?|\d[\d,]*(?= m?s\b)"
OF_A_STOPPED_RUN = r"(?<=step )\d+|(?<=\(loss )[^)]+"  # the flags stay readable
WIDTH = 76  # characters


class Terminal:
    """Runs commands in a temporary folder, which is removed when the kernel ends."""

    def __init__(self):
        self._scratch = tempfile.TemporaryDirectory()
        self.folder = Path(self._scratch.name).resolve()

    def run(self, command: str, show: str = "wrote", status: int = 0) -> None:
        """Run a command to its end, and print those of its lines that match `show`.

        Args:
            command: what follows `pixelprior`; its lines are joined, as after a
                backslash.
            show: a regular expression.
            status: the status with which the command is expected to end; 0 means that
                all went well.
        """
        started = self._start(command, subprocess.PIPE)
        said, _ = started.communicate()
        if started.returncode != status:
            raise RuntimeError(said)
        for line in said.splitlines():
            if re.search(show, line):
                print(re.sub(rf"(.{{1,{WIDTH}}})(?: |$)", r"\1\n", _same(line)).strip())

    def start(self, command: str, folder: str, epochs: int) -> subprocess.Popen:
        """Start a training that writes to `folder`, and return while it runs, as soon
        as so many epochs are done. Its output is thrown away."""
        started = self._start(f"{command} --output_dir {folder}", subprocess.DEVNULL)
        while started.poll() is None:
            if len(read_history(self.folder / folder)) >= epochs:
                return started
            time.sleep(0.005)
        raise RuntimeError(f"the run ended before {epochs} epochs were done")

    def _start(self, command: str, output) -> subprocess.Popen:
        lines = [line.strip() for line in command.strip().splitlines()]
        print("$ pixelprior " + " \\\n      ".join(lines))
        return subprocess.Popen(
            [sys.executable, "-m", "pixelprior.cli", *command.split()],
            cwd=self.folder,
            env=os.environ
            | {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}
            | {"TMPDIR": str(self.folder), "PYTHONIOENCODING": "utf-8"},
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
        )


def _same(line: str) -> str:
    """A line with "…" in place of the numbers that depend on the processor."""
    error = "pixelprior: error" in line
    return re.sub(OF_A_STOPPED_RUN if error else TIMES_AND_LOSSES, "…", line)


def write_emoji(kinds: Iterable[str], folder: Path, path_of: Callable) -> None:
    """Write the emoji of these kinds as files, to the paths that `path_of` returns for
    folder, kind and number."""
    emoji = load_images("emoji")
    for kind in kinds:
        of_kind = (emoji.labels == emoji.class_names.index(kind)).nonzero()[:, 0]
        images, _ = emoji[of_kind]
        save_images(images, [path_of(folder, kind, n) for n in range(len(images))])


def drawing(vqvae2, priors: dict, kinds: Iterable[str]) -> Callable[..., Figure]:
    """A function of options of sampling, such as the guidance, that draws eight images
    of each kind from each prior; `priors` has by title a prior and its class names."""
    columns = sorted(4 * [*kinds])

    def draw(**options) -> Figure:
        blocks = {}
        for title, (prior, names) in priors.items():
            labels = torch.tensor([names.index(kind) for kind in 2 * columns])
            blocks[title] = prior.sample_with_vqvae2(
                vqvae2, len(labels), labels=labels, **options
            )
        return image_blocks(blocks, column_names=columns)

    return draw
