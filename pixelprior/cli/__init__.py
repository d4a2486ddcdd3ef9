"""The command line. Each command has a module with its flags and its `run`, which loads
what it needs.

Bad input ends in one line on stderr and exit status 2; `PIXELPRIOR_DEBUG=1` shows the
traceback instead. Flags that cannot be parsed end with the same status and tyro's own
message. torch is loaded when a command runs, and not for `--help`.
"""

import errno
import functools
import os
import sys
import warnings
from typing import Annotated

import tyro

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


@functools.cache  # typing keeps each type that is made, also of a second call
def _any_command():
    union = None
    for name, command in COMMANDS.items():
        each = Annotated[command, tyro.conf.subcommand(name)]
        union = each if union is None else union | each
    return union


def _parse(arguments: list[str]):
    """The command's dataclass; tyro names what it cannot parse, and exits."""
    command = _any_command()
    return tyro.cli(command, prog="pixelprior", args=arguments, use_underscores=True)


# What to do about what the system refuses, where its message is all that there is.
REMEDIES = {
    errno.ENOSPC: "make room on the disk",
    getattr(errno, "EDQUOT", errno.ENOSPC): "make room on the disk",
    errno.EROFS: "ask for permission to write there, or choose another folder",
    errno.EACCES: "ask for permission, or choose another path",
    errno.EPERM: "ask for permission, or choose another path",
}


def _say(kind: str, message: str) -> None:
    """Print one line on stderr, whatever a file name or a library's error contains."""
    line = " ".join(message.split())
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
    print(f"pixelprior: {kind}: {line}", file=sys.stderr)


def _warn_in_one_line(message, *_details, **_more) -> None:
    _say("warning", str(message))


def _lacks_memory(error: Exception) -> bool:
    words = "memory", "no executable batch size"  # torch, accelerate
    return isinstance(error, MemoryError | OverflowError) or (
        isinstance(error, RuntimeError)
        and any(each in str(error).lower() for each in words)
    )


def _lost_process(error: Exception) -> bool:
    """Whether another process of a launch has ended, so that this one cannot go on."""
    words = "closed by peer", "reset by peer", "remote process exited"  # gloo, NCCL
    return isinstance(error, RuntimeError) and any(each in str(error) for each in words)


def main(arguments: list[str] | None = None) -> None:
    """Run a command; exit status 2 for bad input, 1 for a run that failed."""
    warnings.showwarning = _warn_in_one_line
    try:
        command = _parse(sys.argv[1:] if arguments is None else arguments)
        if not isinstance(command, Benchmark):  # it times torch with its defaults
            from pixelprior.devices import keep_freed_memory

            keep_freed_memory()
        command.run()
    except (ValueError, OSError, FloatingPointError) as error:
        if os.environ.get("PIXELPRIOR_DEBUG"):
            raise
        remedy = REMEDIES.get(getattr(error, "errno", None))
        _say("error", f"{error}; {remedy}" if remedy else str(error))
        raise SystemExit(1 if isinstance(error, FloatingPointError) else 2) from None
    except (RuntimeError, MemoryError, OverflowError) as error:
        if _lost_process(error) and not os.environ.get("PIXELPRIOR_DEBUG"):
            _say(
                "error",
                "another process of this run has ended: see its own message; a run "
                "that trains or draws goes on with --resume",
            )
            raise SystemExit(1) from None
        if os.environ.get("PIXELPRIOR_DEBUG") or not _lacks_memory(error):
            raise
        reason = str(error).splitlines()[0] if str(error) else "out of memory"
        _say("error", f"too large for this machine ({reason}); choose smaller sizes")
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        _say("error", "interrupted; a command that has --resume goes on with it")
        raise SystemExit(130) from None
