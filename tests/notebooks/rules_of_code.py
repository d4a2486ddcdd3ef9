"""Rules on the version of the package, the core path, its minutes, and the length of
cells."""

import ast
import builtins
import re
import symtable

from nbformat import NotebookNode
from parts import code_cells, parsed, statements, tags
from rules_of_exercises import EXERCISE, READING

from pixelprior import __version__


def _used_and_assigned(code: ast.Module) -> tuple[set[str], set[str], set[str]]:
    """The names that code uses, those that only its functions use, and its own."""
    top = symtable.symtable(ast.unparse(code), "cell", "exec")
    used, assigned = set(), set()
    for each in top.get_symbols():
        used |= {each.get_name()} if each.is_referenced() else set()
        assigned |= {each.get_name()} if each.is_assigned() else set()
        assigned |= {each.get_name()} if each.is_imported() else set()
    within, tables = set(), top.get_children()
    while tables:
        table = tables.pop()
        within |= {
            each.get_name()
            for each in table.get_symbols()
            if each.is_referenced() and each.is_global()
        }
        tables += table.get_children()
    return used, within, assigned


def _names(cell: NotebookNode) -> tuple[set[str], set[str]]:
    """The names that a cell assigns, and those that it needs from other cells.

    A name that a statement uses has to be assigned before it, or, for loops and
    blocks, within it. What a function uses may be assigned later in the cell.
    """
    needed, later, known = set(), set(), set(dir(builtins))
    for statement in parsed(cell).body:
        used, within, assigned = _used_and_assigned(ast.Module([statement], []))
        simple = isinstance(statement, (ast.Assign, ast.AugAssign, ast.Expr))
        needed |= used - known - (set() if simple else assigned)
        is_function = isinstance(statement, (ast.FunctionDef, ast.ClassDef))
        later |= within if is_function else set()
        needed |= set() if is_function else within - known - assigned
        known |= assigned
    return known - set(dir(builtins)), needed | (later - known)


def the_core_stands_alone(notebook: NotebookNode) -> list[str]:
    """Each section is marked, and the core needs no name of the other sections.

    The core is the head, the sections that are marked so, and one exercise.
    """
    problems, known, elsewhere = [], set(), {}
    for part in READING.sections(notebook):
        section = re.match(r"\d\d\.\d+ ", part.title)
        if section and part.stated is None and part.exercise is None:
            problems.append(f"{part.title} is marked neither core nor further")
        number = None
        for cell in part.cells:
            if cell.cell_type == "markdown":
                found = EXERCISE.match(cell.source)
                number = int(found[2]) if found else number
                continue
            assigned, needed = _names(cell)
            if part.core and number in (None, part.exercise):
                problems += [
                    f"{cell.id} is core and needs {name}, which {elsewhere[name]} "
                    "assigns"
                    for name in sorted(needed - known)
                    if name in elsewhere
                ]
                known |= assigned
            for name in assigned:
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
    asked = re.search(r'(?m)^needs\("([\d.]+)"\)', first.source)
    if asked is None or "version" not in tags(first):
        return [f"{first.id} is the first code cell, and does not check the version"]
    series = ".".join(__version__.split(".")[:2])
    if asked[1] != series:
        return [f"{first.id} needs version {asked[1]}, and the package has {series}"]
    return []


LINES_OF_CODE, LINES_OF_IMPORTS = 20, 12


def cells_are_short(notebook: NotebookNode) -> list[str]:
    """A code cell has at most 20 lines, blank ones aside, and 12 if all are imports."""
    problems = []
    for cell in code_cells(notebook):
        lines = sum(map(bool, map(str.strip, cell.source.splitlines())))
        imports = (ast.Module, ast.Import, ast.ImportFrom, ast.alias)
        alone = all(isinstance(node, imports) for node in statements(cell))
        allowed = LINES_OF_IMPORTS if alone else LINES_OF_CODE
        if lines > allowed:
            problems.append(f"{cell.id} has {lines} lines; {allowed} are allowed")
    return problems
