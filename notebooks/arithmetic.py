"""Run a command under another arithmetic: `python notebooks/arithmetic.py avx2 pytest`.

Processors differ in the instructions with which they multiply, and therefore in the
order in which they add. A sum then differs in its last digits, and a training run that
starts with such a difference ends with different weights. `KINDS` are the arithmetics
under which the course is tested, on any processor that supports them. Three libraries
multiply, and each has its own variable: ATEN_CPU_CAPABILITY alone does not change
oneDNN and MKL. The libraries are therefore asked what is active before the command
runs, and a kind that is not active is an error.
"""

import os
import re
import subprocess
import sys

LOWEST = {
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "MKL_CBWR": "COMPATIBLE",
}
KINDS: dict[str, dict[str, str]] = {
    "native": {},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    "lowest": LOWEST,
    "without-bf16": {
        "PIXELPRIOR_BF16": "off",
        "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI",
    },
    "two-threads": {"PIXELPRIOR_COURSE_THREADS": "2"},
}
# What the libraries must report under a kind. Nothing else is checked.
ACTIVE = {
    "avx2": {"ATen": "AVX2", "oneDNN": r"Intel AVX2(?!\d)"},
    "lowest": {
        "ATen": "(DEFAULT|NO AVX)",
        "oneDNN": "SSE4.1",
        "MKL": "COMPATIBLE",
    },
    "without-bf16": {
        "oneDNN": "(?!.*AVX512_BF16)(?!.*bfloat16)",
        "bf16": "False",
    },
    "two-threads": {"threads": "2"},
}

ASK = """
import torch
from pixelprior.devices import has_bf16
print("ATen:", torch.backends.cpu.get_cpu_capability(), flush=True)
print("bf16:", has_bf16(), flush=True)
print("threads:", torch.get_num_threads(), flush=True)
with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
    torch.nn.Conv2d(32, 32, 3)(torch.randn(8, 32, 16, 16))
with torch.backends.mkl.verbose(torch.backends.mkl.VERBOSE_ON):
    torch.randn(64, 64) @ torch.randn(64, 64)
"""
ANSWERS = {
    "ATen": r"ATen: (.+)",
    "bf16": r"bf16: (.+)",
    "threads": r"threads: (.+)",
    "oneDNN": r"onednn_verbose.*cpu,isa:([^\n]+)",
    "MKL": r"MKL_VERBOSE .*CNR:(\S+)",
}


def environment(kind: str) -> dict[str, str]:
    """The environment of this process, with the variables that `kind` sets.

    Raises:
        ValueError: there is no such kind.
    """
    if kind not in KINDS:
        raise ValueError(
            f"arithmetic is {kind!r}; give one of {', '.join(KINDS)}"
        )
    changed = os.environ | KINDS[kind]
    threads = changed.get("PIXELPRIOR_COURSE_THREADS", "1")
    if int(threads) > 1:  # pytest otherwise starts one process per core
        changed["PYTEST_XDIST_AUTO_NUM_WORKERS"] = str(processes(kind))
    return changed | {"OMP_NUM_THREADS": threads}


def processes(kind: str) -> int:
    """How many processes can run side by side without more threads than cores: with
    more, threads that wait for one another take many times as long."""
    threads = int(KINDS[kind].get("PIXELPRIOR_COURSE_THREADS", "1"))
    return max(1, (os.cpu_count() or 1) // threads)


def active(kind: str) -> dict[str, str]:
    """What the libraries report under `kind`, by name; "not said" if nothing."""
    said = subprocess.run(
        [sys.executable, "-c", ASK],
        env=environment(kind),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = {
        name: re.search(answer, said) for name, answer in ANSWERS.items()
    }
    return {
        name: each[1] if each else "not said" for name, each in found.items()
    }


def not_active(kind: str, answers: dict[str, str]) -> list[str]:
    """What differs from what `kind` requires, in words."""
    return [
        f"{kind} is not active: {name} says {answers[name]!r}"
        for name, wanted in ACTIVE.get(kind, {}).items()
        if not re.search(f"^.*{wanted}", answers[name])
    ]


def main() -> None:
    """Run a command under one kind of arithmetic."""
    if len(sys.argv) < 3 or sys.argv[1] not in KINDS:
        sys.exit(f"usage: arithmetic.py {'|'.join(KINDS)} COMMAND …")
    kind, *command = sys.argv[1:]
    answers = active(kind)
    if problems := not_active(kind, answers):
        sys.exit("; ".join(problems))
    said = ", ".join(f"{name} {answer}" for name, answer in answers.items())
    print(f"arithmetic {kind}: {said}", flush=True)
    sys.exit(subprocess.run(command, env=environment(kind)).returncode)


if __name__ == "__main__":
    main()
