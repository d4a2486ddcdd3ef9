"""The course's notebooks keep every rule, and the times and numbers that the README
states are those of the notebooks and of the kept results."""

import json
import math
import re

import pytest
import rules
from parts import ROOT, of_the_course, read
from rules_of_exercises import READING
from rules_of_numbers import marked

from pixelprior.course.showing import alt_texts

build = of_the_course("build")
SOURCES = build.sources()
README = (ROOT / "README.md").read_text(encoding="utf-8")
TIMES = json.loads(build.TIMINGS.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "rule", rules.OF_NOTEBOOKS + rules.OF_FILES, ids=lambda rule: rule.__name__
)
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_each_notebook_keeps(rule, source):
    assert rules.problems(rule, read(source), source) == []


def test_notebooks_sources_alt_texts_and_times_belong_together():
    stems = [source.stem for source in SOURCES]
    assert [int(stem[:2]) for stem in stems] == list(range(len(stems))) != []
    assert sorted(path.stem for path in build.FOLDER.glob("*.ipynb")) == stems
    assert sorted(alt_texts()) == stems == list(TIMES)
    names = [name for texts in alt_texts().values() for name in texts]
    assert len(names) == len(set(names)), "two notebooks have a name in common"


def test_stated_times_are_whole_seconds_within_the_limits():
    assert all(isinstance(each, int) and each > 0 for each in TIMES.values())
    assert of_the_course("conftest").over_time(TIMES) == []


def test_the_core_of_the_notebooks_takes_as_long_as_the_pages_say():
    notebooks = READING.paths()
    afternoon, _ = READING.minutes_of(notebooks[: READING.AFTERNOON])
    assert 180 < afternoon <= 240
    for notebook in notebooks[READING.AFTERNOON :]:
        assert READING.minutes_of([notebook])[0] <= 30
    hours = math.ceil(READING.minutes_of(notebooks)[1] / 60)
    for page in (README, (build.FOLDER / "TEACHING.md").read_text(encoding="utf-8")):
        text = " ".join(page.split())
        assert "core of the first ten takes four hours" in text
        assert "half an hour" in text
        assert f"all sections with all exercises take {hours}" in text


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_the_readme_has_a_row_for(source):
    number, address = source.stem[:2], f"(notebooks/{source.stem}.ipynb)"
    link = rf"(?m)^\|.*\[({number} · [^\]]+)\]{re.escape(address)}.*\|$"
    (row,) = re.finditer(link, README)
    assert read(source).cells[0].source.startswith(f"# {row[1]}")
    assert f"| {TIMES[source.stem]} s |" in row[0]


def test_the_numbers_of_the_readme_are_those_of_the_kept_results():
    problems, sources, _ = marked("README.md", README)
    assert problems == [] and len(sources) >= 20
