"""Which tests run which lines of a module, so that a change of a line is only shown to
tests that can notice it, quick ones first. `try_mutants.py` uses it.

A line that runs outside of a test, at import or in a fixture, may change any test; all
of them are run for it, those first that run it themselves. The lines of a process that
a test starts are not seen, so that a change which only such a test notices counts as
one that none does.
"""

import ast
import json
import time
from pathlib import Path

import coverage
import pytest

QUICK = 0.1, 1.0  # seconds; the tests below the first run first, then the others


class Watch:
    """A plugin of pytest that keeps which test runs which lines of a file.

    Args:
        path: the file. report: where to write what was seen, as JSON.
    """

    def __init__(self, path: Path, report: Path):
        self.path, self.report = path, report
        self.seconds: dict[str, float] = {}
        self.coverage = coverage.Coverage(
            data_file=None, include=[str(path)], config_file=False
        )
        self.coverage.set_option("run:core", "ctrace")  # the one that knows tests
        self.coverage.start()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item):
        self.coverage.switch_context(item.nodeid)
        started = time.monotonic()
        try:
            return (yield)
        finally:
            self.seconds[item.nodeid] = time.monotonic() - started
            self.coverage.switch_context("")

    def pytest_unconfigure(self):
        self.coverage.stop()
        lines = self.coverage.get_data().contexts_by_lineno(str(self.path))
        seen = {"seconds": self.seconds, "lines": lines}
        self.report.write_text(json.dumps(seen), encoding="utf-8")


class Chosen:
    """A plugin of pytest that runs these tests alone, in this order."""

    def __init__(self, names: list[str]):
        self.place = {name: number for number, name in enumerate(names)}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items):
        items[:] = sorted(
            (item for item in items if item.nodeid in self.place),
            key=lambda item: self.place[item.nodeid],
        )


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


def tests_for(line: int, source: str, seen: dict) -> list[str]:
    """The tests that may notice a change of a line, in the order to run them.

    Args:
        line: its number in the source. seen: what `Watch` has written.
    """
    lines = statement_at(source, line)
    names = {name for n in lines for name in seen["lines"].get(str(n), ())}
    order = list(seen["seconds"])

    def turn(name: str) -> tuple[bool, int, int]:
        slower = sum(seen["seconds"][name] > limit for limit in QUICK)
        return name not in names, slower, order.index(name)

    return sorted(order if "" in names else names, key=turn)
