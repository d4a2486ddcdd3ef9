"""Which tests run which lines of a module, so that the tests which can notice a change
of a line are run first, quick ones before slow ones. `try_mutants.py` uses it.

A line that runs outside of a test, at import or in a fixture, may change any test. The
lines of a process that a test starts are not seen.
"""

import ast
import json
import math
import signal
import time
import zlib
from collections.abc import Iterable
from pathlib import Path

import coverage
import pytest
import torch

SECONDS_AT_LEAST = 60  # for a test, and for all tests of a change; more for slow ones
QUICK = 0.1, 1.0  # tests below 0.1 s run first, then those below 1 s, then the others


class Seeded:
    """A plugin of pytest that seeds torch by the name of each test before its fixtures,
    so that no test's random numbers depend on the tests before it."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item):
        torch.manual_seed(zlib.crc32(item.nodeid.encode()))


class Watch(Seeded):
    """A plugin of pytest that keeps which test runs which lines of a file.

    Args:
        path: the file. report: where to write what was seen, as JSON.
    """

    def __init__(self, path: Path, report: Path):
        self.path, self.report = path.resolve(), report
        self.seconds: dict[str, float] = {}
        self.coverage = coverage.Coverage(
            data_file=None, include=[str(self.path)], config_file=False
        )
        # The core that knows, on every Python, which test is running.
        self.coverage.set_option("run:core", "ctrace")
        self.coverage.start()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item):
        started = time.monotonic()
        try:
            return (yield)
        finally:
            self.seconds[item.nodeid] = time.monotonic() - started

    @pytest.hookimpl(wrapper=True)
    def pytest_pyfunc_call(self, pyfuncitem):
        self.coverage.switch_context(pyfuncitem.nodeid)
        try:
            return (yield)
        finally:
            self.coverage.switch_context("")

    def pytest_unconfigure(self):
        self.coverage.stop()
        lines = self.coverage.get_data().contexts_by_lineno(str(self.path))
        seen = {"seconds": self.seconds, "lines": lines}
        self.report.write_text(json.dumps(seen), encoding="utf-8")


class Limited(Seeded):
    """A plugin of pytest that ends the process by SIGALRM if a test takes longer than
    60 seconds, and longer than five times its time without a change. The signal ends C
    code as well.

    Args:
        took: by the name of a test, its seconds without a change.
    """

    def __init__(self, took: dict[str, float]):
        self.took = took

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item):
        limit = max(SECONDS_AT_LEAST, 5 * self.took.get(item.nodeid, 0.0))
        started, before = time.monotonic(), signal.alarm(math.ceil(limit))
        try:
            return (yield)
        finally:
            left = math.ceil(before - (time.monotonic() - started))
            signal.alarm(max(1, left) if before else 0)


class Chosen(Limited):
    """A plugin of pytest that runs these tests alone, in this order."""

    def __init__(self, names: list[str], took: dict[str, float]):
        super().__init__(took)
        self.place = {name: number for number, name in enumerate(names)}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items):
        items[:] = sorted(
            (item for item in items if item.nodeid in self.place),
            key=lambda item: self.place[item.nodeid],
        )


class Others(Limited):
    """A plugin of pytest that runs all tests but these."""

    def __init__(self, names: list[str], took: dict[str, float]):
        super().__init__(took)
        self.names = set(names)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items):
        items[:] = [item for item in items if item.nodeid not in self.names]


class Noted:
    """A plugin of pytest that writes the name of the first test that fails."""

    def __init__(self, path: Path):
        self.path = path

    def pytest_runtest_logreport(self, report):
        if report.failed and not self.path.exists():
            self.path.write_text(report.nodeid, encoding="utf-8")


def statement_at(source: str, line: int) -> range:
    """The lines of the innermost statement around a line, without its body."""
    found = range(line, line + 1)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.stmt) and node.lineno <= line <= node.end_lineno:
            body = getattr(node, "body", None)
            last = body[0].lineno - 1 if body else node.end_lineno
            if line <= last or not body:
                found = range(node.lineno, max(last, node.lineno) + 1)
    return found


def tests_for(line: int, source: str, seen: dict) -> list[list[str]]:
    """The tests that run a line, quick ones first; and as a second group the others, if
    the line also runs outside of a test.

    Args:
        line: its number in the source. seen: what `Watch` has written.
    """
    lines = statement_at(source, line)
    names = {name for n in lines for name in seen["lines"].get(str(n), ())}
    inside = quick_first(names - {""}, seen)
    if "" not in names:
        return [inside]
    return [inside, quick_first(seen["seconds"].keys() - names, seen)]


def quick_first(names: Iterable[str], seen: dict) -> list[str]:
    """Tests in three groups by their seconds, each in the order in which they ran."""
    order = {name: number for number, name in enumerate(seen["seconds"])}

    def sort_key(name: str) -> tuple[int, int]:
        return sum(seen["seconds"][name] > limit for limit in QUICK), order[name]

    return sorted(names, key=sort_key)


def useful_first(
    names: Iterable[str], noticed: dict[str, int], took: dict[str, float]
) -> list[str]:
    """Tests below 0.1 s first, as they come, and the others by how many changes each
    has noticed per second that it takes.

    Args:
        noticed: by name, how many; 0 if it is not there. took: by name, the seconds.
    """

    def sort_key(name: str) -> float:
        if took[name] <= QUICK[0]:
            return -math.inf
        return -noticed.get(name, 0) / took[name]

    return sorted(names, key=sort_key)
