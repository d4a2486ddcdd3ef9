"""Rules on headings, links and words."""

import re
from pathlib import Path
from urllib.parse import unquote

from nbformat import NotebookNode
from parts import markdown, prose, tags, without_code
from rules_of_exercises import SOLUTIONS, anchor

HEAD = ("What you will make", "What you will learn", "What you need", "Time")
FOOT = ("What you can do now", "In papers", "To take away", "Sources")


def head_and_foot(notebook: NotebookNode, source: Path) -> list[str]:
    """The first cell says what to expect and links to the glossary, and the last one
    before the solutions says what was learned."""
    before = [cell for cell in notebook.cells if "solution" not in tags(cell)]
    head, foot = before[0].source, before[-1].source
    wanted = [f"# {source.stem[:2]} · ", *(f"**{part}.**" for part in HEAD)]
    problems = [f"the head has no {part}" for part in wanted if part not in head]
    return problems + [f"the foot has no {part}" for part in FOOT if part not in foot]


def sections_are_numbered(notebook: NotebookNode, source: Path) -> list[str]:
    """Each section but foot and solutions has its number, 03.1, 03.2, …, to which
    teachers' plans refer."""
    number, rest = source.stem[:2], (f"## {FOOT[0]}", SOLUTIONS)
    titles = [c.source for c in markdown(notebook) if c.source.startswith("## ")]
    titles = [title for title in titles if not title.startswith(rest)]
    return [
        f"section {k} is called {title[:40]!r}; it begins with '## {number}.{k} '"
        for k, title in enumerate(titles, 1)
        if not title.startswith(f"## {number}.{k} ")
    ]


def dead_links(text: str, page: Path, anchors: set[str]) -> list[str]:
    """The links of a Markdown text that lead nowhere from the page that holds it, whose
    own headings have these anchors, such as "#the-course"."""
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
TOO_EASY = re.compile(r"\b(simply|just|obviously|easy|clearly)\b", re.IGNORECASE)


def nothing_is_called_easy(notebook: NotebookNode) -> list[str]:
    cells = markdown(notebook)
    found = [
        (cell.id, word) for cell in cells for word in TOO_EASY.findall(prose(cell))
    ]
    return [f"{name} says {word!r}" for name, word in found]
