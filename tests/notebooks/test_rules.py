"""The rules can fail: one change of a notebook of the course breaks each of them.

That they can be kept, the course shows.
"""

import re

import nbformat
import pytest
import rules
from parts import of_the_course, read
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
    ],
    "pair_is_equal": [
        ('"id": "00-002"', '"id": "1f3a"', "00-002 has id '1f3a'"),
        (HEAD, r"More. \1", "00-001 has source"),
        ('"name": "python"', '"version": "3.14.1"', "metadata is"),
    ],
    "outputs_are_plain": [
        ('"name": "stdout"', '"name": "stderr"', "wrote to stderr"),
        ('"image/png"', '"widget-view+json"', "shows a widget"),
    ],
    "pictures_have_alt_text": [
        ('"alt": "', '"alt": "Not ', "another alt text"),
        ('"alt": "[^"]*"', '"alt": "map"', "below 20 characters"),
        ('"image/png"', '"image/svg+xml"', "PNG is needed"),
        (r'"width": \d+', '"width": 901', "wider than 900"),
        (EVERY + r"explore\(", "x(", "called nowhere"),
    ],
    "few_outputs_are_ignored": [
        ('"version"', '"nbval-ignore-output"', "asserts nothing"),
        (EVERY + '"exercise"', '"nbval-ignore-output"', "4 of "),
    ],
    "under_a_megabyte": [(SHOWN, '"text": ["' + 1_000_000 * "x", "under 1 MB")],
    "cover_is_in_the_notebook": [
        ('"image/png": "', r"\g<0>AAAA", "not the picture"),
    ],
    "exercises_have_solutions": [
        ('"not attempted yet', '"right: it is', "as it is given"),
        ('"right: ', '"not yet: ', "solution 00-"),
        (EVERY + r"my_\w+", "mine", "has no stub named my_"),
        ("#Solution-1", "#Solution-2", "no link to its sol"),
        ("#Exercise-1", "#Exercise-9", "without link back"),
        ('"solution"', '"other"', "is no solution, and"),
    ],
    "tasks_say_what_they_take": [
        (TURN, r"\1*9 minutes*", "2 to 8 fit"),
        ("Difficulty 1", "Difficulty 5", "a harder one"),
        (EVERY + "<summary>Hint", "<summary>Tip", "has 0 hints"),
    ],
    "solutions_can_be_left_out": [
        ('"cover"', '"solution"', "which only a solution"),
    ],
    "head_and_foot": [
        ("# 00 · ", "# 01 · ", "the head has no # 00"),
        ("To take away", "To keep", "the foot has no To take away"),
    ],
    "sections_are_numbered": [
        ("## 00.2 ", "## 00.1 ", "begins with '## 00.2 '"),
    ],
    "links_lead_somewhere": [
        (r"#Solution-1", "#Solution-9", "is no heading"),
        (r"GLOSSARY\.md", "GONE.md", "GONE.md is not there"),
    ],
    "nothing_is_called_easy": [(HEAD, r"*Clearly*, \1", "says 'Clearly'")],
    "numbers_are_measured": [
        (r"\d+<!--= vqvae2", "31<!--= vqvae2", "but it is 30"),
        (r"\d+<!--= vqvae2", "<!--= vqvae2", "no number before"),
        ("<!--= vqvae2", "<!--= hearsay", "is no results file"),
        ("<!--= timings.*?-->", "", "does not state its seconds"),
        (HEAD, r"It is 1.5 nats. \1", "not where that was measured"),
        (r"\*\*Sources", "2<!--= **Sources", "does not end"),
    ],
    "the_core_stands_alone": [
        (r"\*Core · \d+ minutes\*", "", "neither core nor further"),
        (r"\*Core · \d", "*Further · 9", "is core and needs heldout, "),
    ],
    "the_version_is_checked_first": [(r"needs\(\S+\)", "pass", "not check version")],
    "minutes_are_stated": [
        (r"Core · \d+ minutes", "Core · 99 minutes", "states 99"),
    ],
}
CASES = [
    pytest.param(rule, *case, id=f"{rule.__name__}, {case[-1]}")
    for rule in rules.RULES
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


def test_a_number_agrees_with_its_source_when_rounded_and_has_one_if_it_has_a_unit():
    for written, value in (("1.83", 1.8281826), ("813,760", 813760), ("−0.5", -0.52)):
        assert agrees(written, value)
    for written, value in (("1.82", 1.8281826), ("1.830", 1.8281826), ("0.5", -0.5)):
        assert not agrees(written, value)
    for text in ("1.5 s", "**2.25** ms", "1,024.5 nats", "99.9%", "0.3-nat gap"):
        assert UNMARKED.search(f"It is {text}, then."), text
    for text in ("arXiv 1906.00446", "section 3.1", "torch 2.6 sees", "1.44 bits"):
        assert not UNMARKED.search(f"It is {text}, then."), text


TINY = """\
# %% [markdown]
# # 00 · Tiny

# %%
import os

for line in range(3):
    print(line, flush=True)  # the kernel may send these together or apart
os.environ["PIXELPRIOR_WIDGETS"], os.listdir()
"""


def test_a_notebook_is_built_in_an_empty_folder_and_new_text_keeps_its_outputs(
    tmp_path,
):
    source = tmp_path / "00_tiny.py"
    source.write_text(TINY, encoding="utf-8")
    build.build(source)
    _, cell = read(source).cells
    stream, result = cell.outputs
    assert stream.text == "0\n1\n2\n" and result.data["text/plain"] == "('off', [])"
    source.write_text(TINY.replace("Tiny", "Small"), encoding="utf-8")
    build.build(source, text_alone=True)
    text, after = read(source).cells
    assert text.source == "# 00 · Small" and after == cell
    source.write_text(TINY + "# so\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"python notebooks/build[.]py 00"):
        build.build(source, text_alone=True)
