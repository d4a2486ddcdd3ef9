"""Other arithmetics: each kind is active, and a kind that is not active is found."""

import json
import os
import subprocess
import sys

import pytest
import torch
from parts import of_the_course

pytestmark = pytest.mark.slow

arithmetic = of_the_course("arithmetic")


def has(capability):
    """Whether this processor has the capability that a kind needs to be active."""
    order = ["DEFAULT", "AVX2", "AVX512"]
    own = torch.backends.cpu.get_cpu_capability()
    return own in order and order.index(own) >= order.index(capability)


@pytest.mark.parametrize("kind", arithmetic.KINDS)
def test_each_kind_is_active_where_the_processor_has_it(kind):
    if not has({"avx2": "AVX2", "without-bf16": "AVX512"}.get(kind, "DEFAULT")):
        pytest.skip(f"this processor has less than {kind}")
    assert arithmetic.not_active(kind, arithmetic.active(kind)) == []


@pytest.mark.skipif(not has("AVX512"), reason="native is as low as avx2 here")
@pytest.mark.parametrize("library", ["ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA"])
def test_a_kind_that_one_library_does_not_follow_is_found(library, monkeypatch):
    half = {library: arithmetic.KINDS["avx2"][library]}
    monkeypatch.setitem(arithmetic.KINDS, "avx2", half)
    (problem,) = arithmetic.not_active("avx2", arithmetic.active("avx2"))
    assert "avx2 is not active" in problem


def test_a_command_runs_under_its_kind_and_its_exit_code_comes_back():
    ask = "import os, json; print(json.dumps(dict(os.environ))); raise SystemExit(3)"
    command = [arithmetic.__file__, "two-threads", sys.executable, "-c", ask]
    run = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    said, environment = run.stdout.splitlines()
    assert run.returncode == 3, run.stderr
    assert said.startswith("arithmetic two-threads: ATen ")
    environment = json.loads(environment)
    assert environment["OMP_NUM_THREADS"] == "2"
    half = max(1, os.cpu_count() // 2)  # as many processes as leave a core per thread
    assert environment["PYTEST_XDIST_AUTO_NUM_WORKERS"] == str(half)


def test_an_unknown_kind_is_named():
    with pytest.raises(ValueError, match="'sse9'; give one of native, avx2"):
        arithmetic.environment("sse9")
