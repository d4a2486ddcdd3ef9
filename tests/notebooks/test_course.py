"""The course's notebooks keep every rule, the stated times agree with the README's
table, and building twice gives the same bytes."""

import json
import math
import re

import nbformat
import pytest
import rules

build = rules.of_the_course("build")
limits = rules.of_the_course("conftest")

SOURCES = build.sources()
each_source = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
README = (rules.ROOT / "README.md").read_text(encoding="utf-8")


def executed(source):
    assert source.with_suffix(".ipynb").exists(), (
        f"{source.stem}.ipynb is not there; python notebooks/build.py "
        f"{source.stem[:2]} makes it"
    )
    return rules.read(source)


@pytest.mark.parametrize("rule", rules.OF_NOTEBOOKS, ids=lambda rule: rule.__name__)
@each_source
def test_each_notebook_keeps(rule, source):
    assert rule(executed(source)) == []


@pytest.mark.parametrize("rule", rules.OF_FILES, ids=lambda rule: rule.__name__)
@each_source
def test_the_files_of_each_notebook_keep(rule, source):
    executed(source)
    assert rule(source) == []


def test_each_alt_text_belongs_to_one_figure_of_its_notebook():
    shown = {source.stem: rules.shown(source) for source in SOURCES}
    for stem, names in shown.items():
        assert len(names) == len(set(names)), f"{stem} shows two figures by one name"
    assert {k: sorted(v) for k, v in shown.items()} == {
        stem: sorted(texts) for stem, texts in rules.alt_texts().items()
    }
    names = [name for texts in rules.alt_texts().values() for name in texts]
    assert len(names) == len(set(names)), "two notebooks have a name in common"


def test_the_core_of_the_notebooks_takes_as_long_as_the_pages_say():
    reading = rules.READING
    notebooks = reading.paths()
    afternoon, _ = reading.minutes_of(notebooks[: reading.AFTERNOON])
    assert 180 < afternoon <= 240
    for notebook in notebooks[reading.AFTERNOON :]:
        assert reading.minutes_of([notebook])[0] <= 30
    core, everything = reading.minutes_of(notebooks)
    heads = [reading.HEAD.search(executed(s).cells[0].source) for s in SOURCES]
    assert abs(sum(int(head[1]) for head in heads) - core) <= len(heads) / 2
    hours = math.ceil(everything / 60)
    for page in (README, (build.FOLDER / "TEACHING.md").read_text(encoding="utf-8")):
        text = " ".join(page.split())
        assert "core of the first ten takes four hours" in text
        assert "half an hour" in text
        assert f"all sections with all exercises take {hours}" in text


def test_there_are_as_many_notebooks_as_sources():
    notebooks = sorted(path.stem for path in build.FOLDER.glob("*.ipynb"))
    assert notebooks == [source.stem for source in SOURCES] != []


def test_notebooks_are_numbered_from_0_without_a_gap():
    numbers = [int(source.stem[:2]) for source in SOURCES]
    assert numbers == list(range(len(SOURCES)))


def stated_times():
    return json.loads(build.TIMINGS.read_text(encoding="utf-8"))


def test_every_notebook_has_its_time_and_nothing_else_has():
    assert list(stated_times()) == [source.stem for source in SOURCES]


def test_stated_times_are_whole_seconds_within_the_limits():
    times = stated_times()
    assert all(isinstance(seconds, int) and seconds > 0 for seconds in times.values())
    assert limits.over_time(times) == []


@each_source
def test_the_readme_has_a_row_for(source):
    number, address = source.stem[:2], f"(notebooks/{source.stem}.ipynb)"
    link = re.compile(rf"\|.*\[({number} · [^\]]+)\]{re.escape(address)}.*\|")
    rows = [found for line in README.splitlines() if (found := link.match(line))]
    assert len(rows) == 1, f"{len(rows)} rows link as [{number} · title]{address}"
    row, title = rows[0].group(0, 1)
    heading = executed(source).cells[0].source.splitlines()[0]
    assert heading.startswith(f"# {title}"), f"the row says {title}, it is {heading}"
    assert f"| {stated_times()[source.stem]} s |" in row


def test_the_readme_has_the_heading_that_the_notebooks_link_to():
    assert re.search(r"(?m)^#+ The course$", README)


def test_building_twice_changes_no_byte(tmp_path):
    source = tmp_path / "00_tiny.py"
    source.write_text(
        """\
# %% [markdown]
# # 00 · Tiny

# %%
import os, time

for line in range(3):
    print(line, flush=True)  # the kernel may send these together or apart
    time.sleep(0.3 * line)

# %% tags=["solution"]
os.listdir(), os.environ["PIXELPRIOR_WIDGETS"]
""",
        encoding="utf-8",
    )
    first, second = (nbformat.writes(build.executed(source)) for _ in range(2))
    assert first == second
    printed, listed = rules.code_cells(nbformat.reads(first, as_version=4))
    (stream,) = printed.outputs
    assert stream.text == "0\n1\n2\n"
    (folder,) = listed.outputs
    assert folder.data["text/plain"] == "([], 'off')"
