"""The material beside the notebooks agrees with them: teachers' plans, handouts,
slides, the quiz, the glossary and the index of questions."""

import functools
import html
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
    prose,
    read,
    tags,
    without_code,
    words,
)
from rules_of_exercises import READING, SOLUTIONS
from rules_of_outputs import executed_and_numbered
from rules_of_text import FORMULA, TOO_EASY, anchors_on_github, dead_links, shown

from pixelprior.course.showing import alt_text

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
    parts = re.split(r"(?m)^## ", text_of("ANSWERS.md"))
    (mine,) = (part for part in parts if part.startswith(f"{source.stem[:2]} · "))
    bold = re.findall(r"\*\*(.+?\?)\*\* (.+?)(?= \*\*|$)", " ".join(mine.split()))
    text = "\n".join(cell.source for cell in markdown(read(source)))
    questions = re.search(r"\*\*To take away\.\*\* (.+)", text)[1]
    asked = "".join(question for question, _ in bold)
    for question in re.findall(r"[^?]+\?", questions):
        assert question.strip() in asked, question
    ends = [len(re.findall(r"[.?!](?= |$)", answer)) for _, answer in bold]
    assert [count for count in ends if count not in (2, 3)] == []


# The glossary.

ENTRY = re.compile(r"(?m)^- \*\*(.+?)\*\*: ((?:.|\n  )+)$")


def entries():
    return [(word, " ".join(rest.split())) for word, rest in ENTRY.findall(GLOSSARY)]


GLOSSARY = text_of("GLOSSARY.md")


def test_the_glossary_is_in_alphabetical_order():
    ours, papers = GLOSSARY.split("## Words of papers")
    for part in (ours, papers):
        words = [word.lower() for word, _ in ENTRY.findall(part)]
        assert len(words) > 20 and words == sorted(words)


def test_each_word_of_the_glossary_stands_in_the_sections_that_it_names():
    texts, missing = sections(), []
    for word, rest in entries():
        where = rest.rsplit(". ", 1)[-1]
        numbers = re.findall(r"\d\d" if "In papers" in where else SECTION, where)
        assert numbers, f"{word} names no section"
        for number in numbers:
            said = texts[number].lower()
            if not all(part in said for part in word.lower().split(", ")):
                missing.append((word, number))
    assert missing == []


# Bold for its weight in the sentence, or as the name of a line in a figure or table.
STRESSED = {
    *("all", "any", "at 1.0", "equal", "first", "inside", "keep", "known", "lowered"),
    *("no mask", "one way", "rebuilt", "renewed", "copies", "outline", "background"),
    *("shipped", "0 steps", "50 steps", "200 steps", "600 steps", "rows", "cached"),
    *("more blocks", "more channels", "vertical", "horizontal", "across", "unigram"),
    *("blurry", "all alike", "blows up", "slow", "left neighbour", "2p"),
}


def test_each_word_in_bold_is_in_the_glossary():
    words = {part for word, _ in entries() for part in word.lower().split(", ")}
    missing = []
    for source in SOURCES:
        for cell in markdown(read(source))[1:]:
            for bold in re.findall(r"\*\*(.+?)\*\*", prose(cell)):
                sentence = len(bold.split()) > 3 or bold[-1] in ".?!:…"
                a_name = bold[0].isupper() and bold not in ("SGD", "Euclidean")
                low = bold.lower().replace("held-out", "held out")
                known = {low, low.removesuffix("s"), low.removesuffix("d")}
                if not (sentence or a_name or known & (words | STRESSED)):
                    missing.append((source.stem[:2], bold))
    assert missing == []


def test_each_symbol_of_the_table_is_used_in_a_notebook():
    table = GLOSSARY.split("## Symbols")[1]
    used = "\n".join(source.read_text(encoding="utf-8") for source in SOURCES)
    for row in re.findall(r"(?m)^\| ([^|]+(?:\\\|[^|]+)*) \|", table)[1:]:
        for symbol in re.split(r", | × ", row.replace("\\|", "|")):
            if symbol not in ("symbol", "---", "nats per code"):
                assert re.search(rf"(?<!\w){re.escape(symbol)}(?!\w)", used), symbol


# Questions and plans.


def test_each_notebook_answers_a_question():
    for source in SOURCES:
        assert f"]({source.stem}.ipynb)" in text_of("QUESTIONS.md"), source.stem


def test_each_question_ends_in_one():
    rows = re.findall(r"(?m)^\| ([^|]+) \| [^|]+ \|$", text_of("QUESTIONS.md"))
    questions = [row for row in rows if row not in ("you ask", "---")]
    assert len(questions) > 30
    assert [each for each in questions if not each.endswith("?")] == []


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
TEN_SECONDS = 40  # words of a question with its options


def quiz_of(source):
    """The questions of a notebook in QUIZ.md, and what else is there.

    A question is a dictionary of its number, what is asked, the options and the answer.
    """
    parts = re.split("(?m)^## ", text_of("QUIZ.md"))
    (mine,) = (part for part in parts if part.startswith(f"{source.stem[:2]} · "))
    found = [each.groupdict() for each in A_QUESTION.finditer(mine)]
    return found, A_QUESTION.sub("", mine).strip()


@each_source
def test_each_notebook_has_ten_questions_that_its_core_or_an_exercise_answers(source):
    questions, rest = quiz_of(source)
    assert re.fullmatch(r"\d\d · .+", rest)
    assert [each["number"] for each in questions] == [str(k) for k in range(1, 11)]
    parts = READING.sections(read(source))
    core = {part.title.split()[0] for part in parts if part.core}
    rights, sections = [], []
    for question in questions:
        asked, answer = (" ".join(question[e].split()) for e in ("asked", "answer"))
        options = dict(re.findall(r"(?m)^- \*\*(.)\*\* (.+)$", question["options"]))
        assert len(options) == question["options"].count("\n")
        assert "".join(options) in ("ABC", "ABCD"), asked
        assert len(set(map(str.lower, options.values()))) == len(options), asked
        text = " ".join([asked, *options.values()])
        assert sum(bool(word.strip("×÷·=+")) for word in text.split()) <= TEN_SECONDS
        assert asked.endswith("?**"), asked
        right, said, section, exercise = AN_ANSWER.fullmatch(answer).groups()
        assert right in options and "**" not in said, answer
        tempting = set(re.findall(r"[Oo]ption ([A-D])\b", said))
        assert tempting and tempting <= options.keys() - {right}, answer
        assert exercise or section in core, f"{section} is not core"
        rights.append(right)
        sections.append(int(section[3:]))
    assert sections == sorted(sections)
    assert 2 * max(map(rights.count, rights)) <= len(rights), "one letter too often"


def test_nothing_in_the_quiz_is_called_easy():
    assert TOO_EASY.findall(text_of("QUIZ.md")) == []


# Handouts.


def make_handouts(*arguments):
    """Run handout.py as it runs after a plain install, which brings no jupytext."""
    program = (
        "import runpy, sys\n"
        "sys.modules['jupytext'] = None\n"
        f"runpy.run_path({str(COURSE / 'handout.py')!r}, run_name='__main__')"
    )
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"wrote {len(SOURCES)} notebooks" in done.stdout


@pytest.fixture(scope="module")
def handouts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("course") / "handout"
    make_handouts(str(folder))
    return folder


def given_in(folder, source):
    given = nbformat.read(folder / f"{source.stem}.ipynb", as_version=4)
    nbformat.validate(given)
    return given


@pytest.mark.slow
def test_a_handout_without_outputs_has_none(handouts, tmp_path):
    make_handouts(str(tmp_path), "--without_outputs")
    for source in SOURCES:
        whole, bare = (given_in(folder, source) for folder in (handouts, tmp_path))
        assert [cell.source for cell in bare.cells] == [c.source for c in whole.cells]
        for cell in bare.cells:
            assert not cell.get("outputs") and cell.get("execution_count") is None


@each_source
def test_a_handout_has_all_but_the_solutions(handouts, source):
    whole, given = read(source), given_in(handouts, source)
    left_out = {"solution", "about-solutions"}
    kept = [cell.id for cell in whole.cells if not left_out & set(tags(cell))]
    assert [cell.id for cell in given.cells] == kept
    assert executed_and_numbered(given) == []
    said = "\n".join(words(output) for _, output in outputs(given))
    assert not re.search(f"(?m)^{RIGHT}", said)
    sources = "\n".join(cell.source for cell in given.cells)
    assert not re.search(r"\bsolutions?\b", sources, re.IGNORECASE)


def test_a_handout_has_what_it_links_to(handouts):
    texts = [path.read_text(encoding="utf-8") for path in handouts.glob("*.md")]
    for source in SOURCES:
        texts += [without_code(cell) for cell in markdown(given_in(handouts, source))]
    for target in re.findall(r"\]\(([^()#\s]+)[^()\s]*\)", "\n".join(texts)):
        if not target.startswith(("http", "../")):  # ../ leads to the checkout
            assert (handouts / target).exists(), target


def test_handouts_never_replace_the_notebooks():
    with pytest.raises(ValueError, match="with their solutions, which would be lost"):
        handout.make(COURSE)


# Slides.


def loaded_by(page):
    """The addresses from which a page loads anything, without what is in it."""
    markup = re.sub(r"(?s)(<script[^>]*>).*?</script>", r"\1", page)
    styles = "\n".join(re.findall(r"(?s)<style[^>]*>(.*?)</style>", markup))
    found = re.findall(r"<[^>]+\ssrc=[\"'](?!data:)([^\"']+)", markup)
    found += re.findall(r"<link[^>]+href=[\"'](?!data:)([^\"']+)", markup)
    found += re.findall(r"url\(\s*[\"']?(?!data:)([^)\"']+)", styles)
    return found + re.findall(r"@import [^;]+", styles)


@pytest.fixture(scope="module")
def slides_of(tmp_path_factory):
    """A function that makes the slides of a notebook once, by the command that
    TEACHING.md has."""
    pytest.importorskip("sphinx_revealjs")
    pytest.importorskip("latex2mathml")
    told = r"jupyter nbconvert --to slides(?:.*\\\n)*.*"
    command = re.search(told, text_of("TEACHING.md"))[0].replace("\\\n", " ")

    @functools.cache
    def make(source):
        folder, arguments = tmp_path_factory.mktemp(source.stem), shlex.split(command)
        arguments[:1] = [sys.executable, "-m", "jupyter"]  # this environment's
        arguments[arguments.index("--output-dir") + 1] = str(folder)
        arguments[-1] = str(source.with_suffix(".ipynb"))
        done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        (path,) = folder.iterdir()
        return path.read_text(encoding="utf-8")

    return make


@pytest.mark.slow
def test_slides_are_made_as_teachers_are_told_and_load_nothing(slides_of):
    page = slides_of(SOURCES[0])
    assert loaded_by(page) == []
    assert page.count("<section") > 20 and "Reveal.initialize(" in page
    assert "To solution 1" not in page and "Back to exercise 1" in page
    described = re.findall(r'<img [^>]*alt="([^"]*)"', page)
    assert described == [html.escape(alt_text(n)) for n in shown(read(SOURCES[0]))]


@pytest.mark.slow
def test_slides_typeset_formulas_without_a_network(slides_of):
    cells = markdown(read(SOURCES[3]))
    formulas = sum(len(FORMULA.findall(cell.source)) for cell in cells)
    page = slides_of(SOURCES[3])
    assert loaded_by(page) == []
    assert page.count("<math ") == formulas > 0 and "$$" not in page


def letters_of(text):
    """A text without tags, marks of Markdown and spaces."""
    text = html.unescape(re.sub("<[^>]+>|(?m:^- )|[*`¶]", "", text))
    return "".join(text.split())


@pytest.mark.slow
@pytest.mark.parametrize("source", (SOURCES[0], SOURCES[3]), ids=lambda path: path.stem)
def test_slides_end_in_the_quiz_with_each_answer_at_the_next_key(slides_of, source):
    last = re.split("<section[^>]*>", slides_of(source).split("<script>")[0])[-10:]
    for slide, question in zip(last, quiz_of(source)[0], strict=True):
        first, then = re.split('<div class="fragment"[^>]*>', slide)
        asked = f"Question {question['number']}", question["asked"], question["options"]
        assert letters_of(first) == "".join(map(letters_of, asked))
        assert letters_of(then) == letters_of(question["answer"])


def test_a_question_is_asked_before_its_figure_is_shown():
    cells = read(SOURCES[0]).cells
    kinds = build.slide_types(cells)
    assert kinds[0] == "slide" and len(set(kinds)) == 4
    for kind, cell, before in zip(kinds[1:], cells[1:], cells, strict=False):
        if kind == "fragment":
            assert cell.cell_type == "code" and before.cell_type == "markdown"
        if "solution" in tags(cell):
            head = cell.source.startswith(SOLUTIONS)
            assert kind == ("slide" if head else "subslide")
