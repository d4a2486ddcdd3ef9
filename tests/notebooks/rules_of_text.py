"""Rules on headings, links, words and the names of figures."""

import ast
import re
from pathlib import Path
from urllib.parse import unquote

from nbformat import NotebookNode
from parts import code_cells, markdown, prose, read, statements, tags, without_code
from rules_of_exercises import SOLUTIONS, anchor

from pixelprior.course.showing import alt_texts

# What the text says.

HEAD = ("What you will do", "What you will learn", "What you need", "Time")
FOOT = ("What you can do now", "To take away", "Sources")


def head_and_foot(notebook: NotebookNode) -> list[str]:
    """The first cell says what to expect, and the last one before the solutions what
    was learned."""
    before = [cell for cell in notebook.cells if "solution" not in tags(cell)]
    first, last = before[0], before[-1]
    head = first.source if first.cell_type == "markdown" else ""
    foot = last.source if last.cell_type == "markdown" else ""
    problems = [
        f"the head has no **{part}.**" for part in HEAD if f"**{part}.**" not in head
    ]
    if not re.match(r"# \d\d · \S", head):
        problems.append("the head does not begin with '# NN · title'")
    return problems + [f"the foot has no {part!r}" for part in FOOT if part not in foot]


UNNUMBERED = (f"## {FOOT[0]}", SOLUTIONS)


def sections_are_numbered(source: Path) -> list[str]:
    """Each section but foot and solutions has its number, 03.1, 03.2, …, and begins a
    cell.

    Teachers' plans refer to these numbers, and a slide begins at each section.
    """
    number, titles, problems = source.stem[:2], [], []
    for cell in markdown(read(source)):
        for line, text in enumerate(without_code(cell).splitlines()):
            if re.match("#{2,} ", text) and line:
                problems.append(f"{cell.id} has a heading below other text: {text}")
            if re.match("## ", text) and not text.startswith(UNNUMBERED):
                titles.append(text)
    return problems + [
        f"section {k} is called {title!r}; it begins with '## {number}.{k} '"
        for k, title in enumerate(titles, 1)
        if not title.startswith(f"## {number}.{k} ")
    ]


def anchors_on_github(path: Path) -> list[str]:
    """The anchors that GitHub gives to the headings of a Markdown file."""
    headings = re.findall(r"(?m)^#+ (.+)$", path.read_text(encoding="utf-8"))
    return [
        re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        for heading in headings
    ]


def links_lead_somewhere(source: Path) -> list[str]:
    """The head links to the notebooks before and after; each linked file exists, and
    so does each heading of the notebook that is linked to."""
    notebook = read(source)
    headings = {
        anchor(line)
        for cell in markdown(notebook)
        for line in without_code(cell).splitlines()
        if re.match("#+ ", line)
    }
    head, number = notebook.cells[0].source, source.stem[:2]
    problems = []
    if not head.startswith(f"# {number} "):
        problems.append(f"the head does not begin with # {number}")
    if "](GLOSSARY.md)" not in head:
        problems.append("the head does not link to GLOSSARY.md")
    for each in (int(number) - 1, int(number) + 1):
        for neighbour in source.parent.glob(f"{each:02d}_*.py"):
            if f"]({neighbour.stem}.ipynb)" not in head:
                problems.append(f"the head does not link to {neighbour.stem}.ipynb")
    for cell in markdown(notebook):
        for target in re.findall(r"\]\(([^()\s]+)\)", without_code(cell)):
            path = unquote(target.split("#")[0])
            outside = re.match(r"[a-z]+:", target)
            if path and not outside and not (source.parent / path).exists():
                problems.append(f"{cell.id} links to {path}, which is not there")
            elif (
                path.endswith(".md")
                and "#" in target
                and target.split("#")[1] not in anchors_on_github(source.parent / path)
            ):
                problems.append(f"{cell.id} links to {target}, which is no heading")
            if not path and unquote(target) not in headings:
                problems.append(
                    f"{cell.id} links to the heading {target}, which is none"
                )
    return problems


FORMULA = re.compile(r"(?s)\$\$.+?\$\$")
AN_EQUATION = re.compile(r"[^#|>*`-].*(?: [=←∝≈] |[Σ∏∗⊙]).*[^.?!:]")


def _is_an_equation(line: str) -> bool:
    words_of_text = re.findall(r"\b[^\W\d_]{4,}\b", line)
    return bool(AN_EQUATION.fullmatch(line.strip())) and len(words_of_text) < 5


def equations_are_formulas(notebook: NotebookNode) -> list[str]:
    """An equation that stands by itself is a formula in LaTeX, between $$ and $$.

    A paragraph whose lines have an operator and hardly any words is taken for one.
    """
    return [
        f"{cell.id} has an equation as plain text: {paragraph}"
        for cell in markdown(notebook)
        for paragraph in re.split(r"\n\s*\n", FORMULA.sub("", without_code(cell)))
        if all(map(_is_an_equation, paragraph.strip().splitlines() or [""]))
    ]


TOO_EASY = re.compile(r"\b(simply|just|obviously|easy|clearly)\b", re.IGNORECASE)


def nothing_is_called_easy(notebook: NotebookNode) -> list[str]:
    return [
        f"{cell.id} says {word[0]!r}: …{text[max(0, word.start() - 25) : word.end()]}"
        for cell in markdown(notebook)
        for text in [prose(cell)]
        for word in TOO_EASY.finditer(text)
    ]


def code_fits_a_page(notebook: NotebookNode) -> list[str]:
    return [
        f"{cell.id} has a line of {len(line)} characters; 78 fit: {line[:40]}…"
        for cell in code_cells(notebook)
        for line in cell.source.splitlines()
        if len(line) > 78
    ]


def _shown(node: ast.AST) -> str | None:
    """The name under which a call shows a figure of the course, None for other calls.

    A name that is no text in quotation marks is returned as it is written.
    """
    if not isinstance(node, ast.Call):
        return None
    called = getattr(node.func, "attr", getattr(node.func, "id", None))
    if called not in ("show", "explore") or len(node.args) < 2:
        return None
    given = node.args[1]
    is_text = isinstance(given, ast.Constant) and isinstance(given.value, str)
    return given.value if is_text else ast.unparse(given)


def shown(source: Path) -> list[str]:
    """The names under which a notebook shows its figures."""
    return [
        name
        for cell in code_cells(read(source))
        for node in statements(cell)
        if (name := _shown(node)) is not None
    ]


def figures_are_named(source: Path) -> list[str]:
    """Each figure is shown by the name of an alt text of its notebook.

    Notebooks of one number share their names, so that tests may use the course's.
    """
    number, names = source.stem[:2], set()
    for stem, texts in alt_texts().items():
        names |= texts.keys() if stem.startswith(number) else set()
    return [
        f"a figure is shown as {name!r}, which alt_texts.json does not have for "
        f"notebook {number}"
        for name in shown(source)
        if name not in names
    ]
