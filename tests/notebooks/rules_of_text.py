"""Rules on headings, links, words and the names of figures."""

import ast
import re
from pathlib import Path
from urllib.parse import unquote

from nbformat import NotebookNode
from parts import code_cells, markdown, prose, statements, tags, without_code
from rules_of_exercises import SOLUTIONS, anchor

from pixelprior.course.showing import alt_texts

HEAD = ("What you will make", "What you will learn", "What you need", "Time")
FOOT = ("What you can do now", "In papers", "To take away", "Sources")


def head_and_foot(notebook: NotebookNode, source: Path) -> list[str]:
    """The first cell says what to expect and links to the glossary and to the notebooks
    before and after, and the last one before the solutions says what was learned."""
    before = [cell for cell in notebook.cells if "solution" not in tags(cell)]
    head, foot = (
        cell.source if cell.cell_type == "markdown" else ""
        for cell in (before[0], before[-1])
    )
    number = source.stem[:2]
    wanted = [f"**{part}.**" for part in HEAD] + ["](GLOSSARY.md)"]
    for each in (int(number) - 1, int(number) + 1):
        neighbours = source.parent.glob(f"{each:02d}_*.py")
        wanted += [f"]({neighbour.stem}.ipynb)" for neighbour in neighbours]
    problems = [f"the head has no {part}" for part in wanted if part not in head]
    if not re.match(rf"# {number} · \S", head):
        problems.append(f"the head does not begin with '# {number} · title'")
    return problems + [f"the foot has no {part!r}" for part in FOOT if part not in foot]


def sections_are_numbered(notebook: NotebookNode, source: Path) -> list[str]:
    """Each section but foot and solutions has its number, 03.1, 03.2, …, and begins a
    cell.

    Teachers' plans refer to these numbers, and a slide begins at each section.
    """
    number, titles, problems = source.stem[:2], [], []
    for cell in markdown(notebook):
        for line, text in enumerate(without_code(cell).splitlines()):
            if re.match("#{2,} ", text) and line:
                problems.append(f"{cell.id} has a heading below other text: {text}")
            if re.match("## ", text) and not text.startswith(
                (f"## {FOOT[0]}", SOLUTIONS)
            ):
                titles.append(text)
    return problems + [
        f"section {k} is called {title!r}; it begins with '## {number}.{k} '"
        for k, title in enumerate(titles, 1)
        if not title.startswith(f"## {number}.{k} ")
    ]


def dead_links(text: str, page: Path, anchors: set[str]) -> list[str]:
    """The links of a Markdown text of a page that lead nowhere.

    Args:
        text: the text. page: the file that holds it, from whose folder links lead.
        anchors: the addresses of its own headings, such as "#the-course".
    """
    found = []
    for link in re.findall(r"\]\(([^()\s]+)\)|<img src=\"([^\"]+)\"", text):
        path, _, heading = unquote("".join(link)).partition("#")
        target = page.parent / path if path else page
        if re.match(r"[a-z]+:", path):
            continue
        if not target.exists():
            found.append(f"{path} is not there")
            continue
        known = anchors if target == page else anchors_on_github(target)
        if heading and f"#{heading}" not in known:
            found.append(f"#{heading} is no heading of {target.name}")
    return found


def anchors_on_github(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a Markdown file."""
    text = page.read_text(encoding="utf-8") if page.suffix == ".md" else ""
    headings = (heading.lower() for heading in re.findall(r"(?m)^#+ (.+)$", text))
    return {"#" + re.sub(r"[^\w -]", "", h).replace(" ", "-") for h in headings}


def links_lead_somewhere(notebook: NotebookNode, source: Path) -> list[str]:
    """Each linked file exists, and so does each heading that is linked to."""
    texts = {cell.id: without_code(cell) for cell in markdown(notebook)}
    lines = "\n".join(texts.values()).splitlines()
    anchors = {anchor(line) for line in lines if re.match("#+ ", line)}
    return [
        f"{name} links to what is not there: {link}"
        for name, text in texts.items()
        for link in dead_links(text, source, anchors)
    ]


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


def shown(notebook: NotebookNode) -> list[str]:
    """The names under which a notebook shows its figures, the second arguments of
    `show` and `explore`; as they are written, if they are no texts."""
    calls = [
        node
        for cell in code_cells(notebook)
        for node in statements(cell)
        if isinstance(node, ast.Call)
        and getattr(node.func, "attr", getattr(node.func, "id", None))
        in ("show", "explore")
    ]
    given = [node.args[1] for node in calls if len(node.args) > 1]
    return [ast.unparse(each).strip("'") for each in given]


def figures_are_named(notebook: NotebookNode, source: Path) -> list[str]:
    """The figures are shown by the names of the notebook's alt texts, each once."""
    names, wanted = sorted(shown(notebook)), sorted(alt_texts().get(source.stem, {}))
    return [] if names == wanted else [f"figures are shown as {names}, not {wanted}"]
