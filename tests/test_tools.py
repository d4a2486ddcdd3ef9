"""The scripts in tools/ run as their documentation says, on the embedded images."""

import copy
import itertools
import json
import mmap
import os
import random
import signal
import subprocess
import sys
import time
from argparse import Namespace
from collections import Counter
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial
from io import StringIO
from pathlib import Path

import psutil
import pytest
import torch
import try_anomalies
import try_codes
import try_faults
import try_hostile
import try_kernels
import try_mutants
import try_options
import try_soak
import watched_tests

from pixelprior.assets import FOLDER, load_shipped_reference_models
from pixelprior.benchmark.scale import scale_markdown
from pixelprior.data import load_images
from pixelprior.evaluation import detection
from pixelprior.evaluation.detection import defects_markdown
from pixelprior.evaluation.suite import some_of_each_class
from pixelprior.evaluation.tried import (
    codes_table,
    faults_table,
    hostile_table,
    mutants_table,
    one_class_table,
    soak_table,
    survivors_table,
    tried_table,
)
from pixelprior.prior import HierarchicalPixelCNN

TOOLS = Path(__file__).parents[1] / "tools"


on_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="the limits of a process are Linux's"
)


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
    options = ["--options", "base", "learning rate 4e-3", "with mirrored copies"]
    where = [FOLDER / "fashion_mnist_vqvae2", file, "--dataset", "fashion_mnist_mini"]
    run("try_options.py", *where, *small, "--steps", 5, "--seeds", 3, *options)
    tried = json.loads(file.read_text(encoding="utf-8"))
    assert {(each["option"], each["seed"]) for each in tried["tried"]} == {
        (option, 3) for option in options[1:]
    }
    assert {each["steps"] for each in tried["tried"]} == {5}
    assert len({each["top"] for each in tried["tried"]}) == 3, "an option does nothing"
    assert "| nothing: the base |" in tried_table(tried)


def test_changed_copies_are_among_the_first_codes_of_a_training(tmp_path):
    """A short training sees no others."""
    where = {"vqvae2": FOLDER / "fashion_mnist_vqvae2", "file": tmp_path / "tried.json"}
    given = Namespace(dataset="fashion_mnist_mini", data_root=None, images=300, **where)
    plain, _ = try_options.codes_of(given, "none")
    both, heldout = try_options.codes_of(given, "flip")
    own = {codes.numpy().tobytes() for codes in plain.z_bottom}
    unchanged = sum(codes.numpy().tobytes() in own for codes in both.z_bottom[:200])
    assert len(both) == 600 and 60 < unchanged < 140
    assert len(heldout) == 200 and torch.equal(
        both.labels.bincount(), 2 * plain.labels.bincount()
    )


@on_linux
def test_training_beyond_memory_loses_nothing(tmp_path):
    """The small form of the measurement in docs/performance.md."""
    file, few = (
        tmp_path / "scale.json",
        ["--images", 1200, "--side", 32, "--never_fits"],
    )
    run("try_scale.py", file, *few, "--steps", 4, "--grid", 2, "--width", 8)
    found = json.loads(file.read_text(encoding="utf-8"))
    inside, beyond = found["without_limit"], found["under_the_limit"]
    assert inside["in_memory"] and not beyond["in_memory"]
    assert beyond["codes_mapped"] and not inside["codes_mapped"]
    for stage in ("vqvae2", "prior"):
        one, other = inside[stage], beyond[stage]
        assert one["train_total_loss"] == other["train_total_loss"]
    assert inside["codes_sha256"] == beyond["codes_sha256"]
    killed, large = found["killed_extraction"], found["large_images"]
    assert killed["kills"] == 5 and killed["codes_sha256"] == inside["codes_sha256"]
    assert 0 < killed["parts_done_after_each"][0] <= 2, "of two parts"
    alone, two = found["one_process"], found["two_processes"]
    assert (alone["processes"], two["processes"]) == (1, 2)
    assert two["heldout_total_loss"] == pytest.approx(
        alone["heldout_total_loss"], rel=1e-4
    )
    assert large["grids"] == [[2, 2], [4, 4]] and min(large["cached"]) > 0
    assert "it ended with the same bytes" in scale_markdown(found)
    for each in found["memory_of_a_step"]:
        assert each["side"] == 32 and each["bytes_per_image"] > 4 * 3 * 32 * 32
    # What the file has is not measured again.
    before = file.read_bytes()
    run("try_scale.py", file)
    assert file.read_bytes() == before


def test_kernels_that_started_are_stopped_when_one_does_not(tmp_path, monkeypatch):
    stopped, numbers = [], itertools.count()

    class Kernel:
        def stop_channels(self):
            pass

        def shutdown_kernel(self, now):
            stopped.append(self)

    def start(**_options):
        if next(numbers) == 1:
            raise RuntimeError("no room for a kernel")
        return Kernel(), Kernel()

    monkeypatch.setattr(try_kernels, "start_new_kernel", start)
    with pytest.raises(RuntimeError, match="no room for a kernel"):
        try_kernels.measure([], 3, str(tmp_path))
    assert len(stopped) == 2


@on_linux
def test_hostile_files_are_loaded_or_end_in_a_clear_error(tmp_path):
    """The small form of the table in docs/reliability.md."""
    run("try_hostile.py", tmp_path / "hostile.json", "--inputs", 200)
    found = json.loads((tmp_path / "hostile.json").read_text(encoding="utf-8"))
    assert found["inputs"] == 200 and found["failures"] == []
    for kind in found["kinds"].values():
        assert kind["loaded"] + kind["clear error"] == 25 and kind["FAILED"] == 0
    assert "| tar files of images | 25 |" in hostile_table(found)


def too_much_memory():
    bytearray(3 * 2**30)


@on_linux
@pytest.mark.parametrize(
    ("reads", "outcome"),
    [
        (lambda folder: None, "loaded"),
        (lambda folder: int("no number"), "clear error"),
        (lambda folder: {}["no key"], "FAILED"),
        (lambda folder: os._exit(3), "FAILED"),
        (lambda folder: time.sleep(60), "FAILED"),
        (lambda folder: list(itertools.count()), "FAILED"),
        (lambda folder: too_much_memory(), "FAILED"),
        (lambda folder: (folder / "new").touch(), "FAILED"),
        (lambda folder: (folder.parent / try_hostile.CANARY).touch(), "FAILED"),
        (lambda folder: (folder.parent / "code_was_run.npy").touch(), "FAILED"),
    ],
)
def test_a_loader_that_does_harm_is_found(reads, outcome, tmp_path, monkeypatch):
    class Harm(try_hostile.Kinds):
        def __init__(self):
            pass

        def weights(self, rng, folder):
            return lambda: reads(folder)

    monkeypatch.setattr(try_hostile, "SECONDS", 1)
    monkeypatch.setattr(try_hostile, "WAITS", 3)
    assert try_hostile.tried(Harm(), "weights", 0, tmp_path)[0] == outcome


@on_linux
def test_work_that_is_killed_or_has_no_disk_goes_on_to_the_same_files(tmp_path):
    """The small form of the command in docs/reliability.md."""
    file, few = tmp_path / "faults.json", ["--kills", 3, "--faults", 1]
    run("try_faults.py", file, *few, "--jobs", "train_prior", "extract")
    found = json.loads(file.read_text(encoding="utf-8"))
    assert set(found["jobs"]) == {"train_prior", "extract"}
    for job in found["jobs"].values():
        assert job["kills"] == 3 and job["at_a_step"] == 1 and not job["lost"]
    assert len(found["disks"]) in (0, 4)  # 0 if this process may not mount a disk
    for job in found["disks"].values():
        assert job["faults"] == 1 and not job["lost"]
    assert "| 3 | 3 | 0 |" in faults_table(found)


@on_linux
@pytest.mark.parametrize("careful", [True, False])
def test_work_that_loses_something_is_found(careful, tmp_path):
    def job(folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        file, written = folder / "file", folder / "written"
        if file.exists():
            return
        for half in ("half ", "and half"):
            with open(written if careful else file, "a") as out:
                out.write(half)
                out.flush()
                for _ in range(3):
                    os.fsync(out.fileno())
        if careful:
            written.write_text("half and half")
            os.replace(written, file)

    whole = try_faults.Whole(job, tmp_path)
    assert whole.steps == 6 + careful
    found = try_faults.kills(job, whole, 10, tmp_path, random.Random(0))
    assert found["kills"] == 10
    assert bool(found["lost"]) == bool(found["lost_times"]) == (not careful)


def test_changes_that_say_nothing_about_the_tests_are_left_out():
    source = """
def between(low: int | None, *, high: float = 1.0) -> bool | None:
    return low == 2 and low * high < 8
"""
    found = list(try_mutants.mutants(source))
    became = [try_mutants.changed_lines(source, each.source)[1] for each in found]
    assert {each.definition for each in found} == {"between"}
    assert {each.line for each in found} == {2, 3}
    assert len({each.source for each in found}) == len(found) > 15
    assert "return low == 2 and low / high < 8" in became
    assert "return low == 2 and low * high <= 8" in became
    assert any("high: float = 2.0" in line for line in became)
    assert any("low == 2 or" in line for line in became)
    for line in became:
        assert "/, high" not in line and "low is 2" not in line
        assert "int | None" in line or line.startswith("return")


@on_linux
def test_changes_that_no_test_notices_are_kept_with_what_was_judged(tmp_path):
    """The small form of the command in docs/reliability.md."""
    file, few = tmp_path / "mutants.json", ["--modules", "quantizer", "--share", 12]
    run("try_mutants.py", file, *few, "--workers", 1)
    results = json.loads(file.read_text(encoding="utf-8"))
    found = results["modules"]["quantizer"]
    assert found["mutants"] == 4
    ends = found["noticed"], found["timed out"], found["crashed"]
    assert sum(ends) + len(found["survivors"]) == 4 and found["noticed"] > 0
    assert {each["key"] for each in found["survivors"]} == set(results["judged"])
    assert "| `quantizer.py` | 4 |" in mutants_table(results)


def test_each_survivor_is_shown_with_its_line_what_it_becomes_and_why_it_is_no_gap():
    keys = {
        "cache.Row.load: if a < 1: -> if a <= 1:": 9,
        "cache: def f(a: int = 1) -> int: -> def f(a: int = 2) -> int:": 7,
        "cache.f: @no_grad() -> ": 8,
        "cache.f: a | b -> a & b": 8,
        "cache: A = 1  # `a` -> A = 2  # `a`": 1,
    }
    survivors = [{"name": "", "line": line, "key": key} for key, line in keys.items()]
    modules = {"cache": {"survivors": survivors}, "drawing": {"outcomes": {}}}
    judged = {key: f"why {line}" for key, line in keys.items()}
    assert survivors_table({"modules": modules, "judged": judged}).splitlines()[2:] == [
        "| `cache` | `` A = 1 # `a` `` | `= 2 #` | why 1 |",
        "| `cache` | `def f(a: int = 1) -> int:` | `= 2) ->` | why 7 |",
        "| `cache.f` | `@no_grad()` | removed | why 8 |",
        r"| `cache.f` | `a \| b` | `a & b` | why 8 |",
        "| `cache.Row.load` | `if a < 1:` | `a <= 1:` | why 9 |",
    ]


def in_place_of_processes(task) -> str:
    """The test of a module is whether it ends in 1."""
    _, source, _, groups, took = task
    assert groups == [["test_a"]] and took == {"test_a": 0.0}
    return "survived" if source.endswith("1") else "noticed"


@pytest.fixture
def trial(monkeypatch):
    """A trial of "a = 1 + 1"; `asked` has the sources that were tried."""
    monkeypatch.setattr(try_mutants, "outcome_of", in_place_of_processes)
    seen = {"seconds": {"test_a": 0.0}, "lines": {"1": ["test_a"]}}
    monkeypatch.setattr(try_mutants, "watched_of", lambda module: seen)
    trial = try_mutants.Trial(["quantizer"], 1, 2)
    trial.sources["quantizer"] = "a = 1 + 1"
    trial.asked = []

    class Pool:
        def map(self, function, tasks):
            if function is try_mutants.outcome_of:
                trial.asked += [source for _, source, *_ in tasks]
            return map(function, tasks)

    whole = trial.module
    trial.module = lambda before, keep=lambda found: None, judged={}: whole(
        "quantizer", before, judged, Pool(), keep
    )
    return trial


def test_a_module_is_tried_again_as_far_as_it_or_its_tests_have_changed(
    trial, monkeypatch
):
    found = trial.module({})
    assert trial.asked[:2] == ["a = 1 + 1"] * 2, "without a change on each worker"
    assert len(trial.asked) == 2 + found["mutants"] > 6
    left = {each["key"] for each in found["survivors"]}
    assert "quantizer: a = 1 + 1 -> a = 1 - 1" in left
    assert found["noticed"] + len(left) == found["mutants"]

    trial.asked.clear()
    assert trial.module(found) == found and not trial.asked
    trial.tests["quantizer"] = "other tests"
    again = trial.module(found)
    assert len(trial.asked) == 2 + len(left)
    assert again["noticed"] == found["noticed"]
    assert again["survivors"] == found["survivors"]

    trial.asked.clear()
    trial.tests["quantizer"] = "once more"
    judged = {key: "no gap" if key.endswith("- 1") else "" for key in left}
    again = trial.module(found, judged=judged)
    assert "a = 1 - 1" not in trial.asked and len(trial.asked) == 2 + len(left) - 1
    assert again["survivors"] == found["survivors"]
    assert again["noticed"] == found["noticed"]
    trial.asked.clear()
    again = trial.module(found, judged=dict.fromkeys(left, "no gap"))
    assert not trial.asked and again["survivors"] == found["survivors"]

    trial.asked.clear()
    trial.sources["quantizer"] = "a = 2 + 1"
    monkeypatch.setattr(try_mutants, "KEPT_EVERY", 2)
    kept = []
    trial.module(again, kept.append)
    assert len(trial.asked) == 2 + found["mutants"] and "outcomes" in kept[0]


def test_what_is_stopped_within_a_module_goes_on_there(trial, monkeypatch):
    monkeypatch.setattr(try_mutants, "KEPT_EVERY", 2)
    kept = []
    whole = trial.module({}, lambda found: kept.append(copy.deepcopy(found)))
    assert [len(each["outcomes"]) for each in kept[:2]] == [2, 4]
    done, count = kept[1]["outcomes"], whole["mutants"]
    assert "survived" in done.values()
    judged = {each["key"]: "" for each in whole["survivors"]}
    modules = {"cache": kept[1], "quantizer": whole}
    assert "cache" not in mutants_table({"modules": modules, "judged": judged})
    of_none = mutants_table({"modules": {"cache": kept[1]}, "judged": {}})
    assert of_none.endswith("| all | 0 | 0 | 0.0 % | 0 | 0 |")

    trial.asked.clear()
    again = trial.module(kept[1])
    assert len(trial.asked) == 2 + count - 4
    assert again | {"minutes": 0} == whole | {"minutes": 0}
    trial.asked.clear()
    trial.tests["quantizer"] = "other tests"
    assert trial.module(kept[1])["noticed"] == whole["noticed"]
    noticed = sum(each != "survived" for each in done.values())
    assert len(trial.asked) == 2 + count - noticed


@pytest.mark.parametrize("name", ["watched_of", "outcome_of"])
@pytest.mark.parametrize("worker", [0, 1])
def test_a_module_whose_tests_fail_on_a_worker_is_not_tried(
    trial, monkeypatch, name, worker
):
    right, workers = getattr(try_mutants, name), itertools.count()
    if name == "outcome_of":
        right = lambda task: "survived"  # noqa: E731
    wrong = None if name == "watched_of" else "noticed"
    monkeypatch.setattr(
        try_mutants,
        name,
        lambda task: wrong if next(workers) == worker else right(task),
    )
    with pytest.raises(SystemExit, match=r"pytest tests/test_vqvae2\.py"):
        trial.module({})


class Said:
    """In place of a workplace, whose runs of tests end with the outcomes in turn."""

    def __init__(self, *outcomes):
        self.outcomes, self.asked = list(outcomes), []
        self.noticed, self.folder = Counter(), Path("nowhere")

    def noted(self):
        return "tests/test_a.py::test_c"

    def outcome_of_tests(self, files, seconds, plugin):
        self.asked.append((files, plugin))
        return self.outcomes.pop(0)

    def path(self, module):
        return self

    def read_text(self, encoding):
        return "whole"

    def write(self, path, text):
        self.now = text


@pytest.mark.parametrize(
    ("outcomes", "files"),
    [
        (["noticed"], [["tests/test_a.py"]]),
        (["survived", "survived"], [["tests/test_a.py"], ["tests/test_vqvae2.py"]]),
        (["survived", "timed out"], [["tests/test_a.py"], ["tests/test_vqvae2.py"]]),
    ],
)
def test_what_the_tests_of_a_line_do_not_notice_is_shown_to_all(outcomes, files):
    said = Said(*outcomes)
    first = ["tests/test_a.py::test_b", "tests/test_a.py::test_c"]
    task = (
        "quantizer",
        "changed",
        9.0,
        [first[:1], first[1:]],
        dict.fromkeys(first, 0),
    )
    outcome = try_mutants.Workplace.outcome(said, *task)
    assert outcome == outcomes[-1] and [each[0] for each in said.asked] == files
    assert said.now == "whole"
    plugins = [each[1]() for each in said.asked]
    assert list(plugins[0].place) == first
    assert [each.names for each in plugins[1:]] == [set(first)] * (len(files) - 1)


def test_a_test_that_has_noticed_changes_is_run_before_other_slow_ones():
    said = Said("timed out", "noticed", "noticed")
    names = [f"tests/test_a.py::test_{name}" for name in "abcd"]
    took = dict(zip(names, (0.01, 2.0, 5.0, 0.01), strict=True))
    orders = []
    for _ in range(3):
        groups = [names[:3], names[3:]]
        try_mutants.Workplace.outcome(said, "quantizer", "changed", 9.0, groups, took)
        orders.append([name[-1] for name in said.asked[-1][1]().place])
    assert orders == [list("abcd"), list("abcd"), list("acbd")]


def test_the_first_test_that_fails_is_noted(tmp_path):
    place = Namespace(folder=tmp_path)
    assert try_mutants.Workplace.noted(place) == ""
    noted = watched_tests.Noted(tmp_path / "noted")
    for name, failed in (("a", False), ("b", True), ("c", True)):
        noted.pytest_runtest_logreport(Namespace(nodeid=name, failed=failed))
    assert try_mutants.Workplace.noted(place) == "b"


def test_a_line_that_no_test_runs_is_shown_to_all_tests_at_once():
    said = Said("survived")
    try_mutants.Workplace.outcome(said, "quantizer", "changed", 9.0, [[]], {})
    ((files, plugin),) = said.asked
    assert files == ["tests/test_vqvae2.py"] and plugin().names == set()


@on_linux
@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (0, "survived"),
        (5, "survived"),
        (1, "noticed"),
        (2, "noticed"),
        (4, "noticed"),
        (3, "crashed"),
        (-9, "crashed"),
        (-14, "timed out"),  # SIGALRM
        (None, "timed out"),
    ],
)
def test_how_pytest_ends_says_whether_a_change_was_noticed(monkeypatch, code, outcome):
    monkeypatch.setattr(try_mutants, "waited_for", lambda child, seconds: code)
    monkeypatch.setattr(try_mutants.os, "fork", lambda: 1)
    assert try_mutants.Workplace.outcome_of_tests(None, [], 9.0, None) == outcome


def test_a_change_is_shown_to_the_tests_that_run_its_line(tmp_path):
    source = (
        "LOW = 1\n\n"
        "def above(\n    x,\n    low=LOW,\n):\n"
        "    if (\n        x\n        > low\n    ):\n"
        "        return True\n"
        "    return False\n"
    )
    (tmp_path / "subject.py").write_text(source, encoding="utf-8")
    (tmp_path / "test_subject.py").write_text(
        "import time\nfrom subject import above\n"
        "def test_slow():\n    time.sleep(0.2)\n    assert above(2)\n"
        "def test_high():\n    assert above(3)\n"
        "def test_low():\n    assert not above(0)\n"
        "def test_other():\n    assert True\n",
        encoding="utf-8",
    )
    paths = f"{str(TOOLS)!r}, {str(tmp_path)!r}"
    program = (
        f"import sys, pytest; sys.path[:0] = [{paths}]\n"
        "from pathlib import Path\nfrom watched_tests import Watch\n"
        "watch = Watch(Path('subject.py').resolve(), Path('seen.json'))\n"
        "only = ['-q', '-p', 'no:cacheprovider', '-p', 'no:xdist', 'test_subject.py']\n"
        "sys.exit(pytest.main(only, plugins=[watch]))"
    )
    run = [sys.executable, "-c", program]
    subprocess.run(run, cwd=tmp_path, check=True, timeout=100)
    seen = json.loads((tmp_path / "seen.json").read_text(encoding="utf-8"))

    name = "test_subject.py::test_{}".format
    assert seen["seconds"][name("slow")] > 0.2
    quick = dict.fromkeys(seen["seconds"], 0.01)
    seen["seconds"] = quick | {name("slow"): 0.2, name("other"): 2.0}

    def tests(line: int) -> list[list[str]]:
        names = watched_tests.tests_for(line, source, seen)
        return [[each.removeprefix(name("")) for each in group] for group in names]

    assert tests(9) == [["high", "low", "slow"]], (
        "the tests of a condition, quick first"
    )
    assert tests(11) == [["high", "slow"]] and tests(12) == [["low"]]
    assert tests(1) == [[], ["high", "low", "slow", "other"]], "at import"
    assert tests(5) == tests(1), "a default"

    for plugin, ran in (("Chosen", ["low", "high"]), ("Others", ["slow", "other"])):
        of_two = program.replace("import Watch", f"import {plugin}").replace(
            "Watch(Path('subject.py').resolve(), Path('seen.json'))",
            f"{plugin}([{name('low')!r}, {name('high')!r}], {{}})",
        )
        run = [sys.executable, "-c", of_two.replace("'-q'", "'-v'")]
        said = subprocess.run(
            run, cwd=tmp_path, check=True, capture_output=True, text=True, timeout=100
        )
        lines = [line for line in said.stdout.splitlines() if "PASSED" in line]
        assert [line.split()[0].split("_")[-1] for line in lines] == ran


@on_linux
def test_one_test_that_hangs_ends_the_process_by_an_alarm(tmp_path):
    (tmp_path / "test_subject.py").write_text(
        "import time\n"
        "def test_slow():\n    time.sleep(2)\n"
        "def test_hangs():\n    time.sleep(60)\n",
        encoding="utf-8",
    )
    program = (
        f"import sys, pytest; sys.path.insert(0, {str(TOOLS)!r})\n"
        "import watched_tests\nwatched_tests.SECONDS_AT_LEAST = 1\n"
        "plugin = watched_tests.Others([], {'test_subject.py::test_slow': 1.0})\n"
        "only = ['-v', '-s', '-p', 'no:cacheprovider', '-p', 'no:xdist']\n"
        "sys.exit(pytest.main([*only, 'test_subject.py'], plugins=[plugin]))"
    )
    run = [sys.executable, "-u", "-c", program]
    said = subprocess.run(
        run, cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False
    )
    assert said.returncode == -signal.SIGALRM
    assert "test_slow PASSED" in said.stdout, "five times as long as it took is allowed"


@on_linux
def test_an_outer_alarm_goes_on_after_a_test(monkeypatch):
    times = iter([0.0, 30.0])
    monkeypatch.setattr(watched_tests.time, "monotonic", lambda: next(times))
    before = signal.alarm(100)
    try:
        limited = watched_tests.Limited({"a": 15.0})
        around = limited.pytest_runtest_protocol(Namespace(nodeid="a"))
        next(around)
        assert 70 < signal.getitimer(signal.ITIMER_REAL)[0] <= 75
        around.close()
        assert 65 < signal.getitimer(signal.ITIMER_REAL)[0] <= 70
    finally:
        signal.alarm(before)


@on_linux
def test_what_a_test_has_started_does_not_outlive_it():
    """Also if it is in a session of its own, and its parent ends by itself."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        started = subprocess.Popen(["sleep", "60"], start_new_session=True)
        os.write(writing, str(started.pid).encode())
        time.sleep(2)
        os._exit(0)
    assert try_mutants.waited_for(child, 30.0) == 0
    grandchild = int(os.read(reading, 20))
    for _ in range(100):
        if not psutil.pid_exists(grandchild):
            break
        if psutil.Process(grandchild).status() == psutil.STATUS_ZOMBIE:
            break
        time.sleep(0.02)
    else:
        pytest.fail("it goes on")


def test_random_numbers_of_a_test_do_not_depend_on_the_tests_before_it():
    def drawn(name: str) -> float:
        watched_tests.Seeded().pytest_runtest_setup(Namespace(nodeid=name))
        return torch.rand(()).item()

    first = drawn("a")
    assert drawn("b") != first and drawn("a") == first


@on_linux
@pytest.mark.parametrize(
    ("work", "code"),
    [
        (lambda: os._exit(0), 0),
        (lambda: os._exit(3), 3),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), -9),
        (lambda: time.sleep(60), None),
    ],
)
def test_the_tests_of_a_change_end_or_are_stopped(work, code):
    child = os.fork()
    if child == 0:
        os.setsid()
        work()
    assert try_mutants.waited_for(child, 1.0) == code
    assert not psutil.pid_exists(child)


@on_linux
def test_an_hour_of_work_keeps_its_memory_its_descriptors_and_its_files(tmp_path):
    """The small form of the command in docs/reliability.md, too short for its bound."""
    file = tmp_path / "soak.json"
    run("try_soak.py", file, "--minutes", 0.3, "--flat", 0.5)
    found = json.loads(file.read_text(encoding="utf-8"))
    assert set(found["jobs"]) == set(try_soak.JOBS)
    assert all(
        each["times"] >= 8 and not each["files"] for each in found["jobs"].values()
    )
    assert "| `sample`, 16 images per call |" in soak_table(found)


def new_pages() -> mmap.mmap:
    """16 megabytes that the process has not had before; it may have some thousands."""
    pages = mmap.mmap(-1, 2**24)
    pages.write(bytes(range(256)) * 2**16)
    return pages


@pytest.mark.parametrize(
    ("keep", "words"),
    [
        (lambda folder: new_pages(), "memory grew"),
        (lambda folder: os.dup(2), "descriptors more are open"),
        (lambda folder: (folder / str(time.time_ns())).touch(), "is there"),
        (lambda folder: None, None),
    ],
)
@on_linux
def test_work_that_keeps_something_is_found(tmp_path, keep, words):
    kept, watch = [], try_soak.Watch(every=0.02)
    watch.start()
    while len(watch.counts) < 40:
        kept.append(keep(tmp_path))
        time.sleep(0.01)
    odd = try_soak.unexpected(try_soak.names_in(tmp_path), set())
    found = watch.result() | {"files": odd}
    for each in kept:
        if isinstance(each, int):
            os.close(each)
    wrong = try_soak.faults(found, try_soak.FLAT)
    assert bool(wrong) == (words is not None)
    assert words is None or words in wrong[0]


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


def test_what_is_odd_is_measured_on_defects_and_for_each_class_once(
    tmp_path, monkeypatch, small_vqvae2
):
    """Small networks, one epoch; a second run measures only what is missing."""
    file, few = tmp_path / "found" / "anomalies.json", {}
    for split, count in (("train", 2500), ("test", 200)):
        data = load_images("fashion_mnist_mini", split)
        few[split] = some_of_each_class(data, min(count, len(data)))
    settings = {
        name: replace(each, epochs=1) for name, each in try_anomalies.SETTINGS.items()
    }
    torch.manual_seed(0)
    prior = HierarchicalPixelCNN(512, 8, 8, 2, num_classes=10).eval()
    small = {"embedding_dim": 8, "hidden_channels": 8}
    networks = {"vqvae2": {"num_embeddings": 8}, "prior": {"num_layers": 2}}
    judges, read = load_shipped_reference_models(), set()

    def images_of(dataset, split, data_root=None, **_):
        read.add((dataset, data_root))
        return few[split]

    for name, value in {
        "load_images": images_of,
        "load_shipped": lambda _: (small_vqvae2, prior),
        "load_shipped_reference_models": lambda *_: judges,
        "keep_freed_memory": lambda: None,
        "SHARE": 0.4,
        "HELD_OUT": 0.04,
        "SETTINGS": settings,
        "NETWORKS": {name: small | each for name, each in networks.items()},
    }.items():
        monkeypatch.setattr(try_anomalies, name, value)

    few_rounds = partial(detection.bootstrap, rounds=20)
    monkeypatch.setattr(detection, "bootstrap", few_rounds)

    def run_with(*flags: str) -> dict:
        where = [str(file), str(tmp_path / "runs"), "--images", "20", "--draws", "1"]
        monkeypatch.setattr(sys, "argv", ["try_anomalies.py", *where, *flags])
        try_anomalies.main()
        return json.loads(file.read_text(encoding="utf-8"))

    file.parent.mkdir()
    first = run_with("--classes", "1", "--cifar10", str(tmp_path))
    assert list(first["defects"]) == ["fashion_mnist", "cifar10"]
    assert ("imagefolder", tmp_path) in read
    last = tmp_path / "runs" / "class_1" / "prior" / "last"
    last.rename(last.with_name(".last.previous"))  # as if stopped between two renames
    first_run = first["one_class"].pop()
    file.write_text(json.dumps(first), encoding="utf-8")
    assert run_with("--classes", "1")["one_class"] == [first_run]
    first = json.loads(file.read_text(encoding="utf-8"))
    monkeypatch.setattr(try_anomalies, "evaluate_defects", None)
    asked, one = [], try_anomalies.one_class

    def watched(number, arguments):
        asked.append(number)
        return one(number, arguments)

    monkeypatch.setattr(try_anomalies, "one_class", watched)
    both = run_with("--classes", "1", "8")
    assert asked == [8] and both["defects"] == first["defects"]
    assert both["one_class"][:1] == first["one_class"]
    areas = [each["methods"]["find"]["roc_auc"]["value"] for each in both["one_class"]]
    assert [each["class"] for each in both["one_class"]] == ["Trouser", "Bag"]
    assert both["mean_roc_auc"]["find"] == pytest.approx(sum(areas) / 2)
    assert len(both["one_class"][0]["methods"]) == 6
    assert both["one_class"][0]["images"] == {"normal": 20, "odd": 20}
    table = one_class_table(both).splitlines()
    assert table[2].startswith(f"| Trouser | {areas[0]:.3f} |")
    assert table[4].startswith(f"| mean | {sum(areas) / 2:.3f} |")
    fashion = both["defects"]["fashion_mnist"]
    assert fashion["images"]["defects"] == 20
    assert fashion["false_alarms_over_divisions"]["images"] == len(few["test"])
    lines = defects_markdown(fashion).splitlines()
    by_kind = fashion["by_kind"]["scratch"]["find"]
    cell = f"{by_kind['roc_auc']:.3f}, {by_kind['pixel_roc_auc']:.3f}"
    assert any(line.startswith(f"| scratch | {cell} |") for line in lines)
    alarms = fashion["false_alarms"]["0.05"]["value"]
    assert f"at a rate of 5 %: {100 * alarms:.1f} ±" in "\n".join(lines)
