"""The command line. Each command has a module with its flags and its `run`, which loads
what it needs.

Bad input ends in one line on stderr and exit status 2; `PIXELPRIOR_DEBUG=1` shows the
traceback instead. Flags that cannot be parsed end with the same status and tyro's own
message. torch is loaded when a command runs, and not for `--help`.
"""

import errno
import os
import sys
import warnings

from tyro.extras import subcommand_cli_from_dict

from pixelprior.cli.benchmark import Benchmark
from pixelprior.cli.demo import Demo
from pixelprior.cli.doctor import Doctor
from pixelprior.cli.evaluate import Evaluate
from pixelprior.cli.export_onnx import ExportOnnx
from pixelprior.cli.find_anomalies import FindAnomalies
from pixelprior.cli.lab import Lab
from pixelprior.cli.reproduce import Reproduce
from pixelprior.cli.sample import Sample
from pixelprior.cli.train_prior import TrainPrior
from pixelprior.cli.train_vqvae2 import TrainVQVAE2

COMMANDS = {
    "train-vqvae2": TrainVQVAE2,
    "train-prior": TrainPrior,
    "sample": Sample,
    "evaluate": Evaluate,
    "find-anomalies": FindAnomalies,
    "reproduce": Reproduce,
    "benchmark": Benchmark,
    "export-onnx": ExportOnnx,
    "demo": Demo,
    "doctor": Doctor,
    "lab": Lab,
}
# What to do about what the system refuses, where its message is all that there is.
REMEDIES = {
    "ENOSPC": "make room on the disk",
    "EDQUOT": "make room on the disk",
    "EROFS": "ask for permission to write there, or choose another folder",
    "EACCES": "ask for permission, or choose another path",
    "EPERM": "ask for permission, or choose another path",
}
# What gloo and NCCL say when another process is lost; torch and accelerate, when
# memory is.
LOST = ("closed by peer", "reset by peer", "remote process exited")
FULL = ("memory", "no executable batch size")


def _say(kind: str, message: object) -> None:
    """Print one line on stderr, whatever a file name or an error contains."""
    line = " ".join(str(message).split())
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
    print(f"pixelprior: {kind}: {line}", file=sys.stderr)


def _ending(error: BaseException) -> tuple[int, str] | None:
    """Exit status and line of what can go wrong; None for a fault in this program."""
    said = str(error)
    runtime = said if isinstance(error, RuntimeError) else ""
    if isinstance(error, KeyboardInterrupt):
        return 130, "interrupted; a command that has --resume goes on with it"
    if isinstance(error, FloatingPointError):
        return 1, said
    if isinstance(error, ValueError | OSError):
        name = errno.errorcode.get(getattr(error, "errno", None))
        remedy = REMEDIES.get(name)
        return 2, f"{said}; {remedy}" if remedy else said
    if any(words in runtime for words in LOST):
        return 1, (
            "another process of this run has ended: see its own message; a run that "
            "trains or draws goes on with --resume"
        )
    full = any(words in runtime.lower() for words in FULL)
    if full or isinstance(error, MemoryError | OverflowError):
        reason = said.partition("\n")[0] or "out of memory"
        return 2, f"too large for this machine ({reason}); choose smaller sizes"
    return None


def main(arguments: list[str] | None = None) -> None:
    """Run a command; exit status 2 for bad input, 1 for a run that failed."""
    warnings.showwarning = lambda message, *_, **__: _say("warning", message)
    try:
        command = subcommand_cli_from_dict(
            COMMANDS, prog="pixelprior", args=arguments, use_underscores=True
        )
        if not isinstance(command, Benchmark):  # it times torch with its defaults
            from pixelprior.devices import keep_freed_memory

            keep_freed_memory()
        command.run()
    except (Exception, KeyboardInterrupt) as error:
        ending = _ending(error)
        if ending is None or os.environ.get("PIXELPRIOR_DEBUG"):
            raise
        status, said = ending
        _say("error", said)
        raise SystemExit(status) from None
