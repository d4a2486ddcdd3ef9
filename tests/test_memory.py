"""The memory that is free is that of the tightest limit."""

import subprocess
import sys

import psutil
import pytest

from pixelprior import memory


@pytest.fixture
def no_container(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "ROOT", tmp_path)
    return tmp_path


def test_without_limits_it_is_the_machines(no_container):
    available = psutil.virtual_memory().available
    assert memory.free_memory() == pytest.approx(available, rel=0.05)


@pytest.mark.parametrize("names", memory.CGROUPS)
def test_a_containers_limit_counts_and_its_cache_of_files_is_free(no_container, names):
    stat = f"anon 3\n{names[3]} 200000\n"
    for name, content in zip(names, ("5000000\n", "4000000\n", stat), strict=False):
        (no_container / name).parent.mkdir(exist_ok=True)
        (no_container / name).write_text(content)
    assert memory.free_memory() == 1_200_000
    (no_container / names[1]).write_text("9000000\n")
    assert memory.free_memory() == 0
    (no_container / names[0]).write_text("max\n")
    assert memory.free_memory() > 1e8


@pytest.mark.skipif(sys.platform != "linux", reason="ulimit -d is Linux's")
def test_the_limit_of_a_process_counts():
    limit = 2 * 2**30
    ask = (
        "import resource\n"
        f"resource.setrlimit(resource.RLIMIT_DATA, ({limit}, {limit}))\n"
        "from pixelprior.memory import free_memory\n"
        "before = free_memory()\n"
        "taken = bytearray(300_000_000)\n"
        "print(before, before - free_memory())\n"
    )
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True)
    before, taken = map(int, done.stdout.split())
    assert 0 < before < limit and taken == pytest.approx(3e8, rel=0.05)
