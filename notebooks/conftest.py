"""How pytest runs the course: without widgets, and within its time."""

import os
from collections import defaultdict
from pathlib import Path, PurePath

# For the kernels that nbval starts: as build.py has it, but for `arithmetic.py`.
os.environ["PIXELPRIOR_WIDGETS"] = "off"
os.environ["OMP_NUM_THREADS"] = os.environ.get(
    "PIXELPRIOR_COURSE_THREADS", "1"
)

# Two side by side take about half as long again as timings.json says, which is what
# one alone takes; slower arithmetics more.
SECONDS_EACH = 240
SECONDS_ALL = 1200
seconds_by_notebook: dict[str, float] = defaultdict(float)


def over_time(seconds: dict[str, float]) -> list[str]:
    """What took longer than it may, in words."""
    problems = [
        f"{name} took {each:.0f} s; {SECONDS_EACH} are allowed"
        for name, each in seconds.items()
        if each > SECONDS_EACH
    ]
    if (total := sum(seconds.values())) > SECONDS_ALL:
        problems.append(
            f"all notebooks took {total:.0f} s; {SECONDS_ALL} are allowed"
        )
    return problems


def pytest_collection_modifyitems(config):
    config.option.nbval_sanitize_with = str(
        Path(__file__).with_name("sanitize.cfg")
    )


def pytest_runtest_logreport(report):
    path = PurePath(report.nodeid.split("::")[0])
    if path.suffix == ".ipynb":
        seconds_by_notebook[path.name] += report.duration


def pytest_terminal_summary(terminalreporter):
    if seconds_by_notebook:
        terminalreporter.section("seconds of each notebook")
        for name, seconds in seconds_by_notebook.items():
            terminalreporter.line(f"{seconds:6.1f} {name}")
        for problem in over_time(seconds_by_notebook):
            terminalreporter.line(f"TOO SLOW: {problem}", red=True)


def pytest_sessionfinish(session, exitstatus):
    if over_time(seconds_by_notebook) and exitstatus == 0:
        session.exitstatus = 1
