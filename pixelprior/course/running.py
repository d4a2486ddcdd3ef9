"""Runs the commands of the package from a notebook, and reads what a run has logged.

A `Terminal` runs each command in a process of its own, as a shell would, always on the
processor, and keeps what it logs on this machine. It prints the command and those lines
of its output that are asked for. In these lines it puts "…" in place of numbers that
depend on the processor, so that a notebook has the same outputs everywhere.
"""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

PROGRAMS = {
    "pixelprior": "pixelprior.cli",
    "accelerate": "accelerate.commands.accelerate_cli",
}
LOGGERS = ("tensorboard", "wandb")
TIMES_AND_LOSSES = r"\d[\d,]*\.\d+(?:e[+-]?\d+)?|\d[\d,]*(?= m?s\b)"
OF_A_STOPPED_RUN = r"(?<=step )\d+|(?<=\(loss )[^)]+"  # the flags stay readable
WIDTH = 76  # characters


class Terminal:
    """Runs commands in one folder.

    Attributes:
        folder: the folder, in which all temporary files lie too.
    """

    def __init__(self, folder):
        self.folder = Path(folder).resolve()

    def run(self, command: str, show: str = "wrote|images", status: int = 0) -> None:
        """Run a command to its end, and print those of its lines that match `show`.

        Args:
            command: the command; its lines are joined, as after a backslash.
            show: a regular expression.
            status: the status with which the command is expected to end; 0 means that
                all went well.
        """
        echo(command)
        done = subprocess.run(
            _words(command),
            cwd=self.folder,
            env=self._environment(),
            capture_output=True,
            text=True,
            encoding="utf-8",
        )
        said = done.stdout + done.stderr
        if done.returncode != status:
            raise RuntimeError(said)
        for line in said.splitlines():
            if re.search(show, line):
                print(re.sub(rf"(.{{1,{WIDTH}}})(?: |$)", r"\1\n", _same(line)).strip())

    def start(self, command: str) -> subprocess.Popen:
        """Start a command whose output is thrown away, and do not wait for its end."""
        echo(command)
        return subprocess.Popen(
            _words(command),
            cwd=self.folder,
            env=self._environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _environment(self) -> dict[str, str]:
        """This process's variables, and those that keep a command to the processor,
        its files in the folder, and its logs on this machine."""
        here = str(self.folder)
        return (
            os.environ
            | {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}
            | {"TMPDIR": here, "PYTHONIOENCODING": "utf-8"}
            | {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_CONSOLE": "off"}
            | {f"WANDB_{name}_DIR": here for name in ("CACHE", "CONFIG", "DATA")}
        )


def echo(command: str) -> None:
    """Print a command as one would type it, with a backslash after each line."""
    lines = [line.strip() for line in command.strip().splitlines()]
    print("$ " + " \\\n      ".join(lines))


def _words(command: str) -> list[str]:
    program, *rest = command.split()
    if program not in PROGRAMS:
        raise ValueError(
            f"the command begins with {program!r}; it begins with "
            f"{' or '.join(PROGRAMS)}"
        )
    return [sys.executable, "-m", PROGRAMS[program], *rest]


def _same(line: str) -> str:
    """A line with "…" in place of the numbers that depend on the processor."""
    error = "pixelprior: error" in line
    return re.sub(OF_A_STOPPED_RUN if error else TIMES_AND_LOSSES, "…", line)


def loggers() -> str:
    """The flags of the loggers that are installed, such as "--use_tensorboard"."""
    installed = [name for name in LOGGERS if importlib.util.find_spec(name)]
    return " ".join(f"--use_{name}" for name in installed)


def read_events(folder) -> dict[str, list[float]]:
    """What a run has logged to TensorBoard: the values of each name, one per epoch.

    Args:
        folder: the `--output_dir` of the run.
    """
    from tensorboard.backend.event_processing import event_accumulator

    logged = Path(folder) / "pixelprior"
    if not any(logged.glob("events.out.*")):
        raise FileNotFoundError(
            f"there is no event file in {logged}; start the run with --use_tensorboard"
        )
    events = event_accumulator.EventAccumulator(str(logged)).Reload()
    return {
        name: [event.value for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }
