"""The course's notebooks keep every rule, and the times and numbers that the README
states are those of the notebooks and of the kept results."""

import json
import re

import pytest
import rules
from parts import NOT_YET, RIGHT, ROOT, code_cells, of_the_course, read, words
from rules_of_exercises import READING, with_solutions
from rules_of_numbers import marked

from pixelprior.course.showing import alt_texts

build = of_the_course("build")
SOURCES = build.sources()
README = (ROOT / "README.md").read_text(encoding="utf-8")
TIMES = json.loads(build.TIMINGS.read_text(encoding="utf-8"))


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_each_notebook_keeps(rule, source):
    assert rules.problems(rule, read(source), source) == []


def test_notebooks_sources_alt_texts_and_times_belong_together():
    stems = [source.stem for source in SOURCES]
    assert [int(stem[:2]) for stem in stems] == list(range(len(stems))) != []
    assert sorted(path.stem for path in build.FOLDER.glob("*.ipynb")) == stems
    assert sorted(alt_texts()) == stems == list(TIMES)
    for source in SOURCES:
        text = source.read_text(encoding="utf-8")
        names = alt_texts()[source.stem]
        assert [name for name in names if f'"{name}"' not in text] == []


def test_stated_times_are_within_the_limits_for_each_and_for_all():
    limits = of_the_course("conftest")
    assert limits.over_time(TIMES) == []
    each, together = limits.SECONDS_EACH, limits.SECONDS_ALL
    (problem,) = limits.over_time({"00": each + 1})
    assert problem == f"00 took {each + 1} s; {each} are allowed"
    (problem,) = limits.over_time(dict.fromkeys(range(together // each + 1), each))
    assert problem.startswith("all notebooks took ")


def test_the_core_is_short():
    cores = [READING.totals(READING.sections(read(source)))[0] for source in SOURCES]
    assert max(cores) <= 40


def test_pages_say_how_long_the_course_takes():
    core, everything = (round(m / 60) for m in READING.minutes_of(READING.paths()))
    for page in (README, (build.FOLDER / "TEACHING.md").read_text(encoding="utf-8")):
        text = " ".join(page.split())
        said = f"the core takes {core} hours, and all sections with all exercises take"
        assert f"{said} {everything}." in text


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_reader_who_solves_each_turn_gets_to_the_end(source):
    solved, turns = with_solutions(build.unexecuted(source))
    assert len(turns) >= 2
    for cell in code_cells(build.executed(solved)):
        said = "\n".join(map(words, cell.outputs))
        assert NOT_YET not in said
        assert cell.id not in turns or RIGHT in said, f"{cell.id}: {said}"


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
