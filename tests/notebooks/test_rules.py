"""The rules can fail: one change of a notebook of the course breaks each of them.

That they can be kept, the course shows. nbval and notebooks/conftest.py, which find
stale outputs and slow notebooks, are run as they are.
"""

import os
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import nbformat
import pytest
import rules
from parts import ROOT, code_cells, of_the_course, read
from rules_of_numbers import UNMARKED, agrees

build = of_the_course("build")
SOURCE = build.sources()[0]

HEAD = r"(\*\*What you will make)"
TURN = r"(?s)(### Your turn A.*?)\*\d minutes\*"
SHOWN = r'"text": \[\s*"'
EVERY = "(?s)"
# In the notebook's JSON, the first text of a pattern becomes another, or every one
# where the pattern begins so, and the rule finds a problem with these words.
WRONG = {
    "executed_and_numbered": [
        ('"execution_count": 1,', '"execution_count": 9,', "is number 1"),
        ('"execution_count": 1,', '"execution_count": null,', "number None"),
    ],
    "pair_is_equal": [
        ('"id": "00-002"', '"id": "1f3a"', "00-002 has id '1f3a'"),
        (HEAD, r"More. \1", "00-001 has source"),
        ('"subslide"', '"slide"', "has metadata"),
        ('"name": "python"', '"version": "3.14.1"', "metadata is"),
    ],
    "outputs_are_plain": [
        ('"name": "stdout"', '"name": "stderr"', "wrote to stderr"),
        ('"image/png"', '"widget-view+json"', "shows a widget"),
        (SHOWN, '"text": ["epoch 1:  50%|##  |', "a progress bar"),
        (SHOWN, '"text": ["[None, None]\\\\n', "a None that nobody"),
        (SHOWN, '"text": ["differs by < 1: no\\\\n', "not hold"),
    ],
    "pictures_have_alt_text": [
        ('"alt": "', '"alt": "Not ', "another alt text"),
        ('"alt": "[^"]*"', '"alt": "map"', "20 characters"),
        ('"image/png"', '"image/svg+xml"', "PNG is needed"),
    ],
    "pictures_fit_a_page": [(r'"width": \d+', '"width": 901', "declared as 901; 900")],
    "figures_and_something_to_explore": [
        (EVERY + "image/png", "x", "0 pictures"),
        (EVERY + r"explore\(", "x(", "called nowhere"),
    ],
    "few_outputs_are_ignored": [
        ('"version"', '"nbval-ignore-output"', "asserts nothing"),
        (EVERY + '"exercise"', '"nbval-ignore-output"', "4 of "),
        ('"version"', '"raises-exception"', "may be used"),
        ("import math", "# NBVAL_SKIP", "may be used"),
    ],
    "under_a_megabyte": [(SHOWN, '"text": ["' + 1_000_000 * "x", "under 1 MB")],
    "cover_is_in_the_notebook": [
        ('"cover"', '"other"', "0 cells are tagged cover"),
        ('"image/png": "', r"\g<0>AAAA", "not the picture"),
    ],
    "exercises_have_solutions": [
        ('"not attempted yet', '"right: it is', "as it is given"),
        ('"right: ', '"not yet: ', "solution 00-"),
        (EVERY + r"my_\w+", "mine", "has no stub named my_"),
        ("#Solution-1", "#Solution-2", "'link to solution 2'"),
        ("#Exercise-1", "#Exercise-9", "without link back"),
        ('"solution"', '"other"', "which is no solution"),
    ],
    "tasks_say_what_they_take": [
        ("Difficulty 1", "As hard as 1", "does not say"),
        (TURN, r"\1", "does not say"),
        (TURN, r"\1*9 minutes*", "2 to 8 fit"),
        (TURN, r"\1*13 minutes*", "12 fit"),
        ("Difficulty 1", "Difficulty 5", "a harder one"),
        ("Hint 1", "Hint 2", "has the hints ['2'"),
    ],
    "solutions_can_be_left_out": [
        ('"cover"', '"solution"', "which only a solution"),
        ('"about-solutions"', '"other"', "speaks of a solution"),
        ('"version"', '"about-solutions"', "is no text"),
    ],
    "head_and_foot": [
        (r"\*\*Time\.\*\*", "It takes", "has no **Time.**"),
        ("# 00 · ", "# 01 · ", "does not begin with '# 00"),
        (r"\]\(01_\w+\.ipynb\)", "", "has no ](01_"),
        ("To take away", "To keep", "the foot has no 'To take away'"),
    ],
    "sections_are_numbered": [
        ("## 00.2 ", "## 00.1 ", "begins with '## 00.2 '"),
        ("## 00.2 ", r"Before.\\n\g<0>", "below other text"),
    ],
    "links_lead_somewhere": [
        (r"#Solution-1", "#Solution-9", "is no heading"),
        (r"GLOSSARY\.md", "GONE.md", "GONE.md is not there"),
        (r"GLOSSARY\.md", "GLOSSARY.md#none", "is no heading"),
    ],
    "nothing_is_called_easy": [(HEAD, r"*Clearly*, \1", "says 'Clearly'")],
    "equations_are_formulas": [(HEAD, r"y = W_f ∗ x\\n\\n\1", "plain text: y =")],
    "figures_are_named": [(r'\\"code_grids\\"', r'\\"masks\\"', "'masks'")],
    "numbers_are_measured": [
        (r"\d+<!--= vqvae2", "31<!--= vqvae2", "but it is 30"),
        (r"\d+<!--= vqvae2", "<!--= vqvae2", "no number before"),
        ("<!--= vqvae2", "<!--= hearsay", "is no results file"),
        (r"vqvae2 num_embeddings", "vqvae2 none", "none is missing"),
        ("<!--= timings.*?-->", "", "does not state its seconds"),
        (HEAD, r"It is 1.5 nats. \1", "not where that was measured"),
        (r"\*\*Sources", "2<!--= **Sources", "does not end"),
    ],
    "cells_fit_a_page": [
        ("import math", "x = 1  # " + 70 * "x", "of 79 characters"),
        ("import math", 21 * r"x = 1\\n", "; 20 are allowed"),
        ("import math", 13 * r"import math\\n", "; 12 are allowed"),
    ],
    "the_core_stands_alone": [
        (r"\*Core · \d+ minutes\*", "", "neither core nor further"),
        (r"\*Core · \d", "*Further · 9", "is core and needs heldout, "),
    ],
    "the_version_is_checked_first": [(r"needs\(\S+\)", "pass", "not check version")],
    "minutes_are_stated": [
        (r"Core · \d+ minutes", "Core · 99 minutes", "states 99"),
        (r"About \d+ minutes", "About 99 minutes", "head states (99"),
    ],
}
CASES = [
    pytest.param(rule, *case, id=f"{rule.__name__}, {case[-1]}")
    for rule in rules.OF_NOTEBOOKS + rules.OF_FILES
    for case in WRONG[rule.__name__]
]


@pytest.mark.parametrize(("rule", "old", "new", "words"), CASES)
def test_a_rule_finds(rule, old, new, words):
    text = nbformat.writes(read(SOURCE))
    changed, count = re.subn(old, new, text, count=not old.startswith(EVERY))
    assert count
    notebook = nbformat.reads(changed, as_version=4)
    found = rules.problems(rule, notebook, SOURCE)
    assert any(words in problem for problem in found), found


def test_a_number_agrees_with_its_source_when_rounded():
    for written, value in (("1.83", 1.8281826), ("2", 1.83), ("813,760", 813760)):
        assert agrees(written, value)
    assert agrees("−0.5", -0.52) and agrees("1.80", 1.795)
    for written, value in (("1.82", 1.8281826), ("1.830", 1.8281826), ("0.5", -0.5)):
        assert not agrees(written, value)
    assert not agrees("1", float("nan"))


def test_a_decimal_number_with_a_unit_is_measured_and_others_are_not():
    for text in ("1.5 s", "**2.25** ms", "1,024.5 nats", "99.9%", "0.3-nat gap"):
        assert UNMARKED.search(f"It is {text}, then."), text
    for text in ("arXiv 1906.00446", "section 3.1", "torch 2.6 sees", "1.44 bits"):
        assert not UNMARKED.search(f"It is {text}, then."), text


TINY = """\
# %% [markdown]
# # 00 · Tiny

# %%
import os, time

for line in range(3):
    print(line, flush=True)  # the kernel may send these together or apart
    time.sleep(0.3 * line)

# %%
import torch
from pixelprior.course import figures

figures.show(figures.masks({"A": torch.eye(3)}), "code_grids")

# %%
figures.show(figures.masks({"B": torch.eye(3)}), "pipeline")

# %% tags=["nbval-ignore-output"]
os.listdir(), os.environ["PIXELPRIOR_WIDGETS"]
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A small notebook, built as the course is."""
    source = tmp_path_factory.mktemp("course") / "00_tiny.py"
    source.write_text(TINY, encoding="utf-8")
    build.build(source)
    return source


@pytest.fixture
def source(built, tmp_path):
    """The small notebook in a folder of its own, to be changed."""
    shutil.copytree(built.parent, tmp_path, dirs_exist_ok=True)
    return tmp_path / built.name


def test_building_twice_changes_no_byte(source):
    before = source.with_suffix(".ipynb").read_bytes()
    printed, *_, listed = code_cells(read(source))
    (stream,) = printed.outputs
    assert stream.text == "0\n1\n2\n"
    (folder,) = listed.outputs
    assert folder.data["text/plain"] == "([], 'off')"
    build.build(source)
    assert source.with_suffix(".ipynb").read_bytes() == before


def test_new_text_keeps_the_outputs_unless_the_code_has_changed(source):
    before = read(source)
    source.write_text(TINY.replace("Tiny", "Small"), encoding="utf-8")
    build.build(source, text_alone=True)
    after = read(source)
    assert after.cells[0].source == "# 00 · Small"
    assert after.cells[1:] == before.cells[1:]
    for other in (TINY + "\n# %% [markdown]\n# One more.\n", TINY + "# so\n"):
        source.write_text(other, encoding="utf-8")
        with pytest.raises(ValueError, match=r"python notebooks/build[.]py 00"):
            build.build(source, text_alone=True)


def nbval(source, limits=lambda conftest: conftest):
    """Run pytest in the folder of a source with the course's sanitize.cfg and its
    conftest.py, in which `limits` may change the limits.

    Returns:
        Its exit status, its output and the outcome of each cell.
    """
    notebooks, folder = ROOT / "notebooks", source.parent
    shutil.copy(notebooks / "sanitize.cfg", folder)
    conftest = (notebooks / "conftest.py").read_text(encoding="utf-8")
    (folder / "conftest.py").write_text(limits(conftest), encoding="utf-8")
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PIXELPRIOR_", "PYTEST_"))
    }
    environment |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "nbval.plugin", "--nbval"]
        + ["--nbval-current-env", "-rA", "-p", "no:cacheprovider", "--color=no", "."],
        cwd=folder,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    lines = re.findall(r"(?m)^(PASSED|FAILED|ERROR) \S+::Cell (\d+)", ran.stdout)
    outcomes = {int(number): outcome for outcome, number in lines}
    return ran.returncode, ran.stdout, outcomes


@pytest.mark.slow
def test_nbval_sees_what_was_changed_but_for_the_bytes_of_a_picture(source):
    notebook = read(source)
    printed, picture, retold, listed = code_cells(notebook)
    printed.outputs[0].text = "0\n1\n3\n"
    picture.outputs[0].data["image/png"] = retold.outputs[0].data["image/png"]
    retold.outputs[0].data["text/plain"] += " There are three grids."
    listed.outputs[0].data["text/plain"] = "it has a tag"
    nbformat.write(notebook, source.with_suffix(".ipynb"))
    status, _, outcomes = nbval(source)
    assert status == 1
    assert outcomes == {0: "FAILED", 1: "PASSED", 2: "FAILED", 3: "PASSED"}


@pytest.mark.slow
def test_a_notebook_over_its_time_fails_the_session_and_no_other_does(source):
    def without_time(conftest):
        text, count = re.subn(r"(?m)^(SECONDS_\w+) = \d+$", r"\1 = 0.0", conftest)
        assert count == 2
        return text

    status, said, outcomes = nbval(source, without_time)
    assert status == 1 and set(outcomes.values()) == {"PASSED"}
    for who in (r"00_tiny\.ipynb", "all notebooks"):
        words = rf"TOO SLOW: {who} took \d+ s; 0.0 are allowed"
        assert re.search(words, said), said
    status, said, outcomes = nbval(source)
    assert status == 0 and set(outcomes.values()) == {"PASSED"}, said
    assert "TOO SLOW" not in said


def test_limits_hold_for_each_and_for_all_and_are_stretched_side_by_side_alone():
    limits = of_the_course("conftest")
    each, together = limits.SECONDS_EACH, limits.SECONDS_ALL
    within = {str(n): each for n in range(together // each)}
    within["rest"] = together % each
    assert not limits.over_time(within)
    (problem,) = limits.over_time(within | {"more": 1})
    assert problem == f"all notebooks took {together + 1} s; {together} are allowed"
    for seconds, slower, count in ((1.4, 1, 1), (1.4, 1.5, 0), (1.6, 1.5, 1)):
        assert len(limits.over_time({"00": seconds * each}, slower)) == count

    for processes, factor in ((None, 1), (0, 1), (1, 1), (2, limits.SIDE_BY_SIDE)):
        config = SimpleNamespace(getoption=lambda *_, count=processes: count)
        assert limits.slower(config) == factor
