"""Other arithmetics: each kind is active, and a command runs under it."""

import json
import subprocess
import sys

import pytest
import torch
from parts import of_the_course

pytestmark = pytest.mark.slow

arithmetic = of_the_course("arithmetic")


@pytest.mark.parametrize("kind", arithmetic.KINDS)
def test_each_kind_is_active_where_the_processor_has_it(kind):
    needed = {"avx2": ("AVX2", "AVX512"), "without-bf16": ("AVX512",)}.get(kind)
    if needed and torch.backends.cpu.get_cpu_capability() not in needed:
        pytest.skip(f"this processor has less than {kind}")
    assert arithmetic.not_active(kind, arithmetic.active(kind)) == []


def test_a_command_runs_under_its_kind_and_its_exit_code_comes_back():
    ask = "import os, json; print(json.dumps(dict(os.environ))); raise SystemExit(3)"
    command = [arithmetic.__file__, "two-threads", sys.executable, "-c", ask]
    run = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    said, environment = run.stdout.splitlines()
    assert run.returncode == 3, run.stderr
    assert said.startswith("arithmetic two-threads: ATen ")
    assert json.loads(environment)["OMP_NUM_THREADS"] == "2"
