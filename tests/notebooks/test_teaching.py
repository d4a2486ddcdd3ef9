"""The material beside the notebooks agrees with them: teachers' plans, handouts,
slides, the quiz, the glossary and the index of questions."""

import re
import shlex
import subprocess
import sys

import nbformat
import pytest
from parts import (
    RIGHT,
    ROOT,
    markdown,
    of_the_course,
    outputs,
    read,
    tags,
    without_code,
    words,
)
from rules_of_exercises import READING
from rules_of_outputs import executed_and_numbered
from rules_of_text import FORMULA, anchors_on_github, dead_links

build = of_the_course("build")
handout = of_the_course("handout")
COURSE = build.FOLDER
SOURCES = build.sources()
EXTRAS = ("GLOSSARY.md", "QUESTIONS.md", "QUIZ.md", "TEACHING.md")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
PAGES += [*(ROOT / "docs").glob("*.md"), *COURSE.glob("*.md")]
each_source = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)


def text_of(name):
    return (COURSE / name).read_text(encoding="utf-8")


def of_notebook(source, name):
    """The part of a page that belongs to a notebook."""
    parts = re.split(r"(?m)^## ", text_of(name))
    (mine,) = (part for part in parts if part.startswith(f"{source.stem[:2]} · "))
    return mine


def sections():
    """{"02.4": title and text of that section}, of all notebooks; {"02": the foot}."""
    found = {}
    for source in SOURCES:
        number = None
        for cell in markdown(read(source)):
            if re.match("## ", cell.source):
                heading = re.match(r"## (\d\d\.\d+) ", cell.source)
                number = heading[1] if heading else source.stem[:2]
            if number:
                found[number] = found.get(number, "") + cell.source + "\n"
    return found


SECTION = r"(?<![\d.])\d\d\.\d{1,2}(?![\d.])"


@pytest.mark.parametrize("name", EXTRAS)
def test_each_section_that_is_named_is_there(name):
    named = set(re.findall(SECTION, text_of(name)))
    assert len(named) > 20 and named <= sections().keys()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    assert dead_links(text, page, anchors_on_github(page)) == []


# The answers.


@each_source
def test_each_question_to_take_away_has_its_answer(source):
    mine = of_notebook(source, "ANSWERS.md")
    bold = re.findall(r"\*\*(.+?\?)\*\* \w", " ".join(mine.split()))
    text = "\n".join(cell.source for cell in markdown(read(source)))
    questions = re.search(r"\*\*To take away\.\*\* (.+)", text)[1]
    asked = "".join(bold)
    for question in re.findall(r"[^?]+\?", questions):
        assert question.strip() in asked, question


# The glossary.

ENTRY = re.compile(r"(?m)^- \*\*(.+?)\*\*: ((?:.|\n  )+)$")


def test_each_word_of_the_glossary_stands_in_the_sections_that_it_names():
    texts, missing = sections(), []
    for word, rest in ENTRY.findall(text_of("GLOSSARY.md")):
        where = " ".join(rest.split()).rsplit(". ", 1)[-1]
        numbers = re.findall(r"\d\d" if "In papers" in where else SECTION, where)
        assert numbers, f"{word} names no section"
        for number in numbers:
            said = texts[number].lower()
            if not all(part in said for part in word.lower().split(", ")):
                missing.append((word, number))
    assert missing == []


# Questions and plans.


@pytest.mark.parametrize("minutes", [45, 90, 180])
def test_a_plan_takes_the_minutes_that_it_says(minutes):
    plan = rf"(?s)\n## {minutes} minutes\b.*?(?=\n## )"
    rows = re.findall(r"(?m)^\| (\d+) \|", re.search(plan, text_of("TEACHING.md"))[0])
    assert len(rows) >= 4 and sum(map(int, rows)) == minutes


def test_teachers_are_told_what_people_get_wrong_in_each_task_and_its_minutes():
    told = re.findall(r"(?m)^\*\*(.+?)\*\* · (\d+) minutes$", text_of("TEACHING.md"))
    stated = {}
    for source in SOURCES:
        for cell in markdown(read(source)):
            if found := READING.TASK.match(cell.source):
                effort = READING.TURN if found[3] else READING.EFFORT
                *_, minutes = re.findall(
                    r"(\d+) minutes", effort.search(cell.source)[0]
                )
                stated[found[1]] = minutes
    assert stated == dict(told) and len(told) >= 30


# The quiz.

A_QUESTION = re.compile(
    r"### Question (?P<number>\d+)\n\n(?P<asked>(?:.+\n)+)\n(?P<options>(?:- .+\n)+)\n"
    r"<details><summary>Answer</summary>\n\n(?P<answer>(?:.+\n)+)\n</details>\n"
)
AN_ANSWER = re.compile(r"\*\*([A-D])\.\*\* (.+) \((\d\d\.\d+)(?:, exercise (\d))?\)")


@each_source
def test_each_notebook_has_ten_questions_that_its_core_or_an_exercise_answers(source):
    mine = of_notebook(source, "QUIZ.md")
    questions = [each.groupdict() for each in A_QUESTION.finditer(mine)]
    assert re.fullmatch(r"\d\d · .+", A_QUESTION.sub("", mine).strip())
    assert [each["number"] for each in questions] == [str(k) for k in range(1, 11)]
    parts = READING.sections(read(source))
    core, rights = {part.title.split()[0] for part in parts if part.core}, []
    for question in questions:
        asked, answer = (" ".join(question[e].split()) for e in ("asked", "answer"))
        options = dict(re.findall(r"(?m)^- \*\*(.)\*\* (.+)$", question["options"]))
        assert "".join(options) in ("ABC", "ABCD") and asked.endswith("?**"), asked
        right, said, section, exercise = AN_ANSWER.fullmatch(answer).groups()
        tempting = set(re.findall(r"[Oo]ption ([A-D])\b", said))
        assert tempting and tempting <= options.keys() - {right}, answer
        assert right in options and (exercise or section in core), answer
        rights.append(right)
    assert 2 * max(map(rights.count, rights)) <= len(rights), "one letter too often"


# Handouts.


@pytest.fixture(scope="module")
def handouts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("course") / "handout"
    handout.make(folder)
    return folder


@each_source
def test_a_handout_has_all_but_the_solutions(handouts, source):
    whole = read(source)
    given = nbformat.read(handouts / f"{source.stem}.ipynb", as_version=4)
    nbformat.validate(given)
    left_out = {"solution", "about-solutions"}
    kept = [cell.id for cell in whole.cells if not left_out & set(tags(cell))]
    assert [cell.id for cell in given.cells] == kept
    assert executed_and_numbered(given) == []
    said = "\n".join(words(output) for _, output in outputs(given))
    assert not re.search(f"(?m)^{RIGHT}", said)
    sources = "\n".join(cell.source for cell in given.cells)
    assert not re.search(r"\bsolutions?\b", sources, re.IGNORECASE)
    texts = "\n".join(without_code(cell) for cell in markdown(given))
    for target in re.findall(r"\]\(([^()#\s]+)[^()\s]*\)", texts):
        if not target.startswith(("http", "../")):  # ../ leads to the checkout
            assert (handouts / target).exists(), target


def test_handouts_never_replace_the_notebooks():
    with pytest.raises(ValueError, match="with their solutions, which would be lost"):
        handout.make(COURSE)


@pytest.mark.slow
def test_slides_are_made_as_teachers_are_told_and_need_no_network(tmp_path):
    pytest.importorskip("sphinx_revealjs")
    pytest.importorskip("latex2mathml")
    source, told = SOURCES[3], r"jupyter nbconvert --to slides(?:.*\\\n)*.*"
    command = re.search(told, text_of("TEACHING.md"))[0].replace("\\\n", " ")
    arguments = [sys.executable, "-m", *shlex.split(command)]
    arguments[arguments.index("--output-dir") + 1] = str(tmp_path)
    arguments[-1] = str(source.with_suffix(".ipynb"))
    subprocess.run(arguments, cwd=ROOT, check=True)
    (path,) = tmp_path.iterdir()
    page = path.read_text(encoding="utf-8")
    markup = re.sub(r"(?s)(<script[^>]*>).*?</script>", r"\1", page)
    loaded = r"<(?:[^>]+\ssrc|link[^>]+href)=[\"'](?!data:)"
    assert not re.search(loaded, markup) and "Reveal.initialize(" in page
    cells = markdown(read(source))
    formulas = sum(len(FORMULA.findall(cell.source)) for cell in cells)
    assert page.count("<math ") == formulas > 0 and "$$" not in page
