"""The material beside the notebooks agrees with them: teachers' plans, handouts,
slides, the quiz, the glossary and the index of questions."""

import functools
import html.parser
import re
import shlex
import subprocess
import sys

import nbformat
import pytest
import rules

from pixelprior.course.showing import alt_text

build = rules.of_the_course("build")
handout = rules.of_the_course("handout")
COURSE = build.FOLDER
SOURCES = build.sources()
EXTRAS = ("GLOSSARY.md", "QUESTIONS.md", "QUIZ.md", "TEACHING.md")


def text_of(name):
    return (COURSE / name).read_text(encoding="utf-8")


def sections():
    """{"02.4": title and text of that section}, of all notebooks."""
    found = {}
    for source in SOURCES:
        number = None
        for cell in rules.markdown(rules.read(source)):
            if heading := re.match(r"## (\d\d\.\d+) ", cell.source):
                number = heading[1]
            elif re.match("## ", cell.source):
                number = None
            if number:
                found[number] = found.get(number, "") + cell.source + "\n"
    return found


def exercises():
    """[("00", "Exercise 1: how many runs?"), …] of all notebooks."""
    return [
        (source.stem[:2], title)
        for source in SOURCES
        for cell in rules.markdown(rules.read(source))
        for title in re.findall(r"(?m)^### (Exercise \d+: .+)$", cell.source)
    ]


SECTION = r"(?<![\d.])\d\d\.\d{1,2}(?![\d.])"


@pytest.mark.parametrize("name", EXTRAS)
def test_each_section_that_is_named_is_there(name):
    named = set(re.findall(SECTION, text_of(name)))
    assert len(named) > 20 and named <= set(sections())


@pytest.mark.parametrize("name", (*EXTRAS, "ANSWERS.md"))
def test_links_lead_somewhere(name):
    for target in re.findall(r"\]\(([^()\s]+)\)", text_of(name)):
        path = target.split("#")[0]
        if path and not target.startswith("http"):
            assert (COURSE / path).exists(), target


# The answers.


def questions(source):
    """The questions to take away, as sentences that end in a question mark."""
    text = "\n".join(cell.source for cell in rules.markdown(rules.read(source)))
    found = re.search(r"\*\*To take away\.\*\* (.+)", text)[1]
    return re.findall(r"[^?]+\?", found)


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_each_question_to_take_away_has_its_answer(source):
    parts = re.split(r"(?m)^## ", text_of("ANSWERS.md"))
    mine = [part for part in parts if part.startswith(f"{source.stem[:2]} · ")]
    assert len(mine) == 1
    text = " ".join(mine[0].split())
    bold = re.findall(r"\*\*(.+?\?)\*\* (.+?)(?= \*\*|$)", text)
    asked = "".join(question for question, _ in bold)
    for question in questions(source):
        assert question.strip() in asked, question
    ends = [len(re.findall(r"[.?!](?= |$)", answer)) for _, answer in bold]
    assert [count for count in ends if count not in (2, 3)] == []


# The glossary.

ENTRY = re.compile(r"(?m)^- \*\*(.+?)\*\*: ((?:.|\n  )+)$")


def entries():
    return [(word, " ".join(rest.split())) for word, rest in ENTRY.findall(GLOSSARY)]


GLOSSARY = text_of("GLOSSARY.md")


def test_the_glossary_is_in_alphabetical_order():
    words = [word.lower() for word, _ in entries()]
    assert len(words) > 50 and words == sorted(words)


def test_each_word_of_the_glossary_stands_in_the_sections_that_it_names():
    texts, missing = sections(), []
    for word, rest in entries():
        numbers = re.findall(SECTION, rest.rsplit(". ", 1)[-1])
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
        for cell in rules.markdown(rules.read(source))[1:]:
            for bold in re.findall(r"\*\*(.+?)\*\*", rules.prose(cell)):
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
    plan = re.search(
        rf"(?s)\n## {minutes} minutes\b.*?(?=\n## )", text_of("TEACHING.md")
    )
    assert plan
    rows = re.findall(r"(?m)^\| (\d+) \|", plan[0])
    assert len(rows) >= 4 and sum(map(int, rows)) == minutes


def test_each_exercise_has_what_people_get_wrong_in_it():
    teaching = " ".join(text_of("TEACHING.md").split())
    missing = [
        (number, title)
        for number, title in exercises()
        if f"**{' '.join(title.split())}**" not in teaching
    ]
    assert missing == [] and len(exercises()) >= 30


def test_an_exercise_takes_the_same_minutes_everywhere():
    told = re.findall(r"(?m)^\*\*(.+?)\*\* · (\d+) minutes$", text_of("TEACHING.md"))
    stated = {}
    for source in SOURCES:
        for cell in rules.markdown(rules.read(source)):
            if found := rules.EXERCISE.match(cell.source):
                stated[found[1]] = rules.READING.EFFORT.search(cell.source)[3]
    assert stated == dict(told)


# The quiz.

A_QUESTION = re.compile(
    r"### Question (?P<number>\d+)\n\n(?P<asked>(?:.+\n)+)\n(?P<options>(?:- .+\n)+)\n"
    r"<details><summary>Answer</summary>\n\n(?P<answer>(?:.+\n)+)\n</details>\n"
)
AN_ANSWER = re.compile(r"\*\*([A-D])\.\*\* (.+) \((\d\d\.\d+)(?:, exercise (\d))?\)")
TEN_SECONDS = 40  # words of a question with its options


def quiz_of(source, text):
    """The questions of a notebook in a text such as QUIZ.md, and what else is there.

    A question is a dictionary of its number, what is asked, the options and the answer.
    """
    parts = re.split("(?m)^## ", text)
    mine = "".join(part for part in parts if part.startswith(f"{source.stem[:2]} · "))
    found = [each.groupdict() for each in A_QUESTION.finditer(mine)]
    return found, A_QUESTION.sub("", mine).strip()


def faults_of_quiz(source, text):
    """What is wrong with the quiz of a notebook in a text such as QUIZ.md, in words."""
    questions, rest = quiz_of(source, text)
    faults = [] if re.fullmatch(r"\d\d · .+", rest) else [f"beside them is {rest!r}"]
    numbers = [int(question["number"]) for question in questions]
    if numbers != list(range(1, 11)):
        faults.append(f"the questions are {numbers}; 1 to 10 are needed")
    core = {
        part.title.split()[0]: part.exercise
        for part in rules.READING.sections(rules.read(source))
        if part.core
    }
    rights, sections = [], []
    for number, question in zip(numbers, questions, strict=True):
        asked, answer = (" ".join(question[e].split()) for e in ("asked", "answer"))
        options = re.findall(r"(?m)^- \*\*(.)\*\* (.+)$", question["options"])
        found = faults_of_question(asked, options)
        if len(options) < question["options"].count("\n"):
            found.append("has an option without a letter")
        if named := AN_ANSWER.fullmatch(answer):
            right, said, section, exercise = named.groups()
            found += faults_of_answer(right, said, [letter for letter, _ in options])
            if core.get(section, "none") != (int(exercise) if exercise else None):
                found.append(f"refers to {section}, {exercise}, which is not core")
            rights.append(right)
            sections.append(int(section[3:]))
        else:
            found.append("has no answer of one letter, a text and a section")
        faults += [f"question {number} {each}" for each in found]
    if sections != sorted(sections):
        faults.append(f"the questions do not follow the sections: {sections}")
    if 2 * max(map(rights.count, rights), default=0) > len(rights):
        faults.append(f"one letter is right too often: {rights}")
    return faults


def faults_of_question(asked, options):
    letters = "".join(letter for letter, _ in options)
    texts = [text for _, text in options]
    words = [word for word in " ".join([asked, *texts]).split() if word.strip("×÷·=+")]
    faults = []
    if not asked.endswith("?**"):
        faults.append("does not end in a question in bold")
    if len(words) > TEN_SECONDS:
        faults.append(f"has {len(words)} words, which take more than ten seconds")
    if letters not in ("ABC", "ABCD"):
        faults.append(f"has the options {letters}; A to C or D are needed")
    if len(set(map(str.lower, texts))) < len(texts):
        faults.append("has an option twice")
    return faults


def faults_of_answer(right, said, letters):
    faults = []
    if right not in letters or "**" in said:
        faults.append("does not mark exactly one of its options as right")
    others = set(re.findall(r"[Oo]ption ([A-D])\b", said))
    if not others or not others <= set(letters) - {right}:
        faults.append("does not say why a tempting option is wrong")
    return faults


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_each_notebook_has_ten_questions_that_its_core_answers(source):
    assert faults_of_quiz(source, text_of("QUIZ.md")) == []


def test_nothing_in_the_quiz_is_called_easy():
    assert rules.TOO_EASY.findall(text_of("QUIZ.md")) == []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("## 00 · ", "## 0 · ", "the questions are []"),
        ("### Question 2\n", "### Question 3\n", "1 to 10 are needed"),
        ("- **A** The same", "The same", "beside them is"),
        ("<details><summary>Answer</summary>\n", "", "beside them is"),
        ("get?**", "get**", "does not end in a question"),
        ("restart", "restart" + 20 * " again", "more than ten seconds"),
        ("- **A** The same", "- The same", "has an option without a letter"),
        ("- **C** The same", "- **D** The same", "has the options ABD"),
        ("64 other images of the same classes", "the same 64 images", "option twice"),
        ("**A.** The", "The", "has no answer of one letter"),
        ("**A.** The", "**D.** The", "does not mark exactly one"),
        ("**A.** The", "**A.** **B.** The", "does not mark exactly one"),
        ("B is what another", "It is what another", "does not say why a tempting"),
        ("(00.1)", "(00.19)", "refers to 00.19, None"),
        ("(00.1)", "(00.6, exercise 2)", "refers to 00.6, 2"),
        ("(00.1)", "(00.4)", "do not follow the sections"),
        ("**B.** ", "**A.** ", "one letter is right too often"),
    ],
)
def test_a_rule_of_the_quiz_can_fail(old, new, fault):
    text = text_of("QUIZ.md")
    assert old in text and not faults_of_quiz(SOURCES[0], text)
    count = -1 if old == "**B.** " else 1
    assert fault in "; ".join(faults_of_quiz(SOURCES[0], text.replace(old, new, count)))


def test_a_question_of_the_quiz_may_not_need_what_is_further():
    text = text_of("QUIZ.md").replace("(01.4)", "(01.5)", 1)
    assert "refers to 01.5, None" in "; ".join(faults_of_quiz(SOURCES[1], text))


# Handouts.


@pytest.fixture(scope="module")
def handouts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("course") / "handout"
    done = run_without_jupytext(str(folder))
    assert done.returncode == 0, done.stderr
    assert f"wrote {len(SOURCES)} notebooks" in done.stdout
    return folder


def run_without_jupytext(*arguments):
    """Run handout.py as it runs after a plain install, which brings no jupytext."""
    program = (
        "import runpy, sys\n"
        "sys.modules['jupytext'] = None\n"
        f"runpy.run_path({str(COURSE / 'handout.py')!r}, run_name='__main__')"
    )
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True
    )


@pytest.mark.slow
def test_a_handout_without_outputs_has_none(handouts, tmp_path):
    done = run_without_jupytext(str(tmp_path), "--without_outputs")
    assert done.returncode == 0, done.stderr
    for source in SOURCES:
        whole, bare = (
            nbformat.read(folder / f"{source.stem}.ipynb", as_version=4)
            for folder in (handouts, tmp_path)
        )
        nbformat.validate(bare)
        assert [cell.source for cell in bare.cells] == [c.source for c in whole.cells]
        assert not any(cell.outputs for cell in rules.code_cells(bare))
        assert all(cell.execution_count is None for cell in rules.code_cells(bare))


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_handout_has_all_but_the_solutions(handouts, source):
    whole = rules.read(source)
    given = nbformat.read(handouts / f"{source.stem}.ipynb", as_version=4)
    nbformat.validate(given)
    kept = [
        cell.id
        for cell in whole.cells
        if not {"solution", "about-solutions"} & set(rules.tags(cell))
    ]
    assert [cell.id for cell in given.cells] == kept
    # Each solution with its heading and its link, and the heads of both parts.
    assert len(whole.cells) - len(kept) >= 3 * 3 + 2
    assert sum("exercise" in rules.tags(cell) for cell in given.cells) >= 3
    assert rules.executed_and_numbered(given) == []
    said = "\n".join(rules.words(output) for _, output in rules.outputs(given))
    assert not re.search(f"(?m)^{rules.RIGHT}", said)
    sources = "\n".join(cell.source for cell in given.cells)
    assert not re.search(r"\bsolutions?\b", sources, re.IGNORECASE)


def test_a_handout_has_what_it_links_to(handouts):
    texts = [path.read_text(encoding="utf-8") for path in handouts.glob("*.md")]
    for path in handouts.glob("*.ipynb"):
        cells = rules.markdown(nbformat.read(path, as_version=4))
        texts += [rules.without_code(cell) for cell in cells]
    for target in re.findall(r"\]\(([^()#\s]+)[^()\s]*\)", "\n".join(texts)):
        if not target.startswith(("http", "../")):  # ../ leads to the checkout
            assert (handouts / target).exists(), target


def test_handouts_never_replace_the_notebooks():
    with pytest.raises(ValueError, match="with their solutions, which would be lost"):
        handout.make(COURSE)


# Slides.


class _Loaded(html.parser.HTMLParser):
    """Collects the addresses from which a page loads anything."""

    def __init__(self, text):
        super().__init__()
        self.found, self.sections, self.style = [], 0, False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        address = attrs.get("src") or (attrs.get("href") if tag == "link" else None)
        if address and not address.startswith("data:"):
            self.found.append((tag, address[:60]))
        self.sections += tag == "section"
        self.style = tag == "style"

    def handle_data(self, data):
        if self.style:
            urls = re.findall(
                r"url\(\s*['\"]?(?!data:)([^)'\"]+)|@import ([^;]+)", data
            )
            self.found += [("style", url) for url in urls]


def slides_of(source, folder):
    """The slides of a notebook, by the command that TEACHING.md has."""
    commands = re.findall(
        r"jupyter nbconvert --to slides(?:.*\\\n)*.*", text_of("TEACHING.md")
    )
    assert commands, "TEACHING.md has no command for slides"
    words = shlex.split(commands[0].replace("\\\n", " "))
    words[:1] = [sys.executable, "-m", "jupyter"]  # this environment's
    words[words.index("--output-dir") + 1] = str(folder)
    words[-1] = str(source.with_suffix(".ipynb"))
    done = subprocess.run(words, cwd=rules.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = folder.iterdir()
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    """A function that makes the slides of a notebook once."""
    pytest.importorskip("sphinx_revealjs")
    pytest.importorskip("latex2mathml")
    return functools.cache(
        lambda source: slides_of(source, tmp_path_factory.mktemp(source.stem))
    )


@pytest.mark.slow
def test_slides_are_made_as_teachers_are_told_and_load_nothing(slides):
    page = slides(SOURCES[0])
    loaded = _Loaded(page)
    assert loaded.found == []
    assert loaded.sections > 20 and "Reveal.initialize(" in page
    assert "To solution 1" not in page and "Back to exercise 1" in page
    described = re.findall(r'<img [^>]*alt="([^"]*)"', page)
    shown = rules.shown(SOURCES[0])
    assert described == [html.escape(alt_text(name)) for name in shown]


@pytest.mark.slow
def test_slides_typeset_formulas_without_a_network(slides):
    cells = rules.markdown(rules.read(SOURCES[3]))
    formulas = sum(len(rules.FORMULA.findall(cell.source)) for cell in cells)
    page = slides(SOURCES[3])
    assert _Loaded(page).found == []
    assert page.count("<math ") == formulas > 0 and "$$" not in page


def letters_of(text):
    """A text without tags, marks of Markdown and spaces."""
    text = html.unescape(re.sub("<[^>]+>|(?m:^- )|[*`¶]", "", text))
    return "".join(text.split())


@pytest.mark.slow
@pytest.mark.parametrize("source", (SOURCES[0], SOURCES[3]), ids=lambda path: path.stem)
def test_slides_end_in_the_quiz_with_each_answer_at_the_next_key(slides, source):
    last = re.split("<section[^>]*>", slides(source).split("<script>")[0])[-10:]
    questions, _ = quiz_of(source, text_of("QUIZ.md"))
    for slide, question in zip(last, questions, strict=True):
        first, then = re.split('<div class="fragment"[^>]*>', slide)
        asked = f"Question {question['number']}", question["asked"], question["options"]
        assert letters_of(first) == "".join(map(letters_of, asked))
        assert letters_of(then) == letters_of(question["answer"])


def test_a_question_is_asked_before_its_figure_is_shown():
    cells = rules.read(SOURCES[0]).cells
    kinds = build.slide_types(cells)
    assert kinds[0] == "slide" and set(kinds) == {
        "slide",
        "subslide",
        "fragment",
        "skip",
    }
    for kind, cell, before in zip(kinds[1:], cells[1:], cells, strict=False):
        if kind == "fragment":
            assert cell.cell_type == "code" and before.cell_type == "markdown"
        if "solution" in rules.tags(cell):
            head = cell.source.startswith(rules.SOLUTIONS)
            assert kind == ("slide" if head else "subslide")
