"""Rules on the version of the package, the core path, its minutes, and the length of
cells."""

import ast
import re

from nbformat import NotebookNode
from parts import assigned, code_cells, parsed, statements, tags, used
from rules_of_exercises import READING

from pixelprior import __version__


def _needed(cell: NotebookNode) -> set[str]:
    """The names that a cell reads before it assigns them.

    A loop or a function may read what it assigns itself.
    """
    needed, known = set(), set()
    for statement in parsed(cell).body:
        simple = isinstance(statement, (ast.Assign, ast.AugAssign, ast.Expr))
        own = statement.value if simple else statement  # such as a comprehension's
        needed |= used(ast.walk(statement)) - known - assigned(ast.walk(own))
        known |= assigned(ast.walk(statement))
    return needed


def the_core_stands_alone(notebook: NotebookNode) -> list[str]:
    """Each section is marked, and the core needs no name of the other sections."""
    problems, known, elsewhere = [], set(), {}
    for part in READING.sections(notebook):
        if re.match(r"\d\d\.\d+ ", part.title) and part.stated is None:
            problems.append(f"{part.title} is marked neither core nor further")
        for cell in part.cells:
            if cell.cell_type == "markdown":
                continue
            names = assigned(statements(cell))
            if part.core:
                problems += [
                    f"{cell.id} is core and needs {name}, which {elsewhere[name]} "
                    "assigns"
                    for name in sorted(_needed(cell) - known)
                    if name in elsewhere
                ]
                known |= names
            for name in names:
                elsewhere.setdefault(name, part.title)
    return problems


def minutes_are_stated(notebook: NotebookNode) -> list[str]:
    """The minutes in marks and head are those of the length."""
    parts = READING.sections(notebook)
    problems = [
        f"{part.title} states {part.stated} minutes, and its length says {minutes}"
        for part in parts
        if part.stated is not None
        and part.stated != (minutes := READING.rounded(part.minutes))
    ]
    wanted = tuple(map(READING.rounded, READING.totals(parts)))
    head = READING.HEAD.search(notebook.cells[0].source)
    stated = head and tuple(map(int, head.groups()))
    if stated != wanted:
        problems.append(
            f"the head states {stated} minutes for the core and for all; it is {wanted}"
        )
    return problems


def the_version_is_checked_first(notebook: NotebookNode) -> list[str]:
    """The first code cell checks the package's version, which is the one built with."""
    first = code_cells(notebook)[0]
    series = ".".join(__version__.split(".")[:2])
    if f'needs("{series}")' in first.source and "version" in tags(first):
        return []
    return [f"{first.id} is the first code cell, and does not check version {series}"]


LINE, LINES_OF_CODE, LINES_OF_IMPORTS = 78, 20, 12


def cells_fit_a_page(notebook: NotebookNode) -> list[str]:
    """A code cell has at most 20 lines, blank ones aside, and 12 if all are imports; a
    line has at most 78 characters."""
    problems = []
    for cell in code_cells(notebook):
        lines = [line for line in cell.source.splitlines() if line.strip()]
        imports = (ast.Module, ast.Import, ast.ImportFrom, ast.alias)
        alone = all(isinstance(node, imports) for node in statements(cell))
        allowed = LINES_OF_IMPORTS if alone else LINES_OF_CODE
        if len(lines) > allowed:
            problems.append(f"{cell.id} has {len(lines)} lines; {allowed} are allowed")
        problems += [
            f"{cell.id} has a line of {len(line)} characters; {LINE} fit: {line[:40]}…"
            for line in lines
            if len(line) > LINE
        ]
    return problems
