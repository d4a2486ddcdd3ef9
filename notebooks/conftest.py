"""How pytest runs the course: without widgets and within a time limit."""

import os
from collections import defaultdict
from pathlib import Path, PurePath

import pytest

# For the kernels that nbval starts, the variables are set as in build.py, except
# that `arithmetic.py` may choose the number of threads.
os.environ["PIXELPRIOR_WIDGETS"] = "off"
os.environ["PIXELPRIOR_CHECK_FIGURES"] = "on"
os.environ["OMP_NUM_THREADS"] = os.environ.get(
    "PIXELPRIOR_COURSE_THREADS", "1"
)

# The kernels keep freed memory, as `devices.keep_freed_memory` lets the command
# line do. It changes no number, and saves 8 % of the time. Only glibc reads the two
# variables.
os.environ["MALLOC_MMAP_MAX_"] = "0"
os.environ["MALLOC_TRIM_THRESHOLD_"] = str(2**31 - 1)

# More than twice what a quiet machine takes: a busy one is no fault of a notebook.
SECONDS_EACH = 150
SECONDS_ALL = 700
SIDE_BY_SIDE = 1.5  # times as long with others running beside it, measured
seconds_by_notebook: dict[str, float] = defaultdict(float)


def over_time(seconds: dict[str, float], slower: float = 1) -> list[str]:
    """What took longer than allowed, in words; `slower` multiplies the limits."""
    each_limit, all_limit = slower * SECONDS_EACH, slower * SECONDS_ALL
    problems = [
        f"{name} took {each:.0f} s; {each_limit} are allowed"
        for name, each in seconds.items()
        if each > each_limit
    ]
    if (total := sum(seconds.values())) > all_limit:
        problems.append(
            f"all notebooks took {total:.0f} s; {all_limit} are allowed"
        )
    return problems


def slower(config) -> float:
    """The factor by which a notebook is slower in this run than alone."""
    several = (config.getoption("numprocesses", None) or 0) > 1
    return SIDE_BY_SIDE if several else 1


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(config, items):
    config.option.nbval_sanitize_with = str(
        Path(__file__).with_name("sanitize.cfg")
    )
    for item in items:  # the cells of a notebook share its kernel
        if item.path.suffix == ".ipynb":
            item.add_marker(pytest.mark.xdist_group(item.path.name))


def pytest_runtest_logreport(report):
    path = PurePath(report.nodeid.split("::")[0])
    if path.suffix == ".ipynb":
        seconds_by_notebook[path.name] += report.duration


def pytest_terminal_summary(terminalreporter):
    if seconds_by_notebook:
        terminalreporter.section("seconds of each notebook")
        for name, seconds in seconds_by_notebook.items():
            terminalreporter.line(f"{seconds:6.1f} {name}")
        allowed = slower(terminalreporter.config)
        for problem in over_time(seconds_by_notebook, allowed):
            terminalreporter.line(f"TOO SLOW: {problem}", red=True)


def pytest_sessionfinish(session, exitstatus):
    allowed = slower(session.config)
    if over_time(seconds_by_notebook, allowed) and exitstatus == 0:
        session.exitstatus = 1
