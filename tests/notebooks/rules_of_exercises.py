"""Rules on *your turn* cells, exercises and solutions, on the core path, its minutes
and the version of the package."""

import ast
import copy
import itertools
import re

from nbformat import NotebookNode
from parts import (
    NOT_ATTEMPTED,
    NOT_YET,
    RIGHT,
    assigned,
    code_cells,
    of_the_course,
    statements,
    tags,
    used,
    words,
)

from pixelprior import __version__

READING = of_the_course("reading")
SOLUTIONS = "## Solutions"
VERDICT = re.compile(f"(?m)^({NOT_ATTEMPTED}|{RIGHT}|{NOT_YET})")
MINUTES_OF_TURNS = 12
HINT = re.compile(r"<details><summary>Hint \d</summary>\n\n.+\n\n</details>")


def anchor(heading: str) -> str:
    """The address of a heading within its notebook."""
    return "#" + heading.strip().lstrip("#").strip().replace(" ", "-")


def _is_in(cell: NotebookNode, tag: str) -> bool:
    return cell.cell_type == "code" and tag in tags(cell)


def exercises_have_solutions(notebook: NotebookNode) -> list[str]:
    """Stubs do not pass; solutions pass, and stand at the end, linked both ways."""
    found = (READING.TASK.match(cell.source) for cell in notebook.cells)
    headings = {each[3] or each[4]: each[1] for each in found if each}
    sources, problems, stubs = [cell.source for cell in notebook.cells], [], set()
    for name, heading in headings.items():
        link, back = f"[To solution {name}](#Solution-{name})", f"]({anchor(heading)})"
        if sum(source.startswith(link) for source in sources) != 1:
            problems.append(f"task {name} has no link to its solution")
        heads = [s for s in sources if re.match(rf"### Solution {name}\b", s)]
        if [back in source for source in heads] != [True]:
            problems.append(f"solution {name} is without link back")
    for tag in ("exercise", "solution"):
        count = sum(_is_in(cell, tag) for cell in notebook.cells)
        if count != len(headings):
            problems.append(f"{count} cells are tagged {tag}")
    starts = [source.startswith(SOLUTIONS) for source in sources]
    for cell, before in zip(notebook.cells, itertools.accumulate(starts), strict=True):
        if before and "solution" not in tags(cell):
            problems.append(f"{cell.id} is no solution, and stands below them")
        said = "\n".join(words(output) for output in cell.get("outputs", []))
        verdicts = set(VERDICT.findall(said))
        if _is_in(cell, "exercise"):
            mine = {n for n in assigned(statements(cell)) if n.startswith("my_")}
            stubs |= mine
            if not mine:
                problems.append(f"task {cell.id} has no stub named my_…")
            if verdicts != {NOT_ATTEMPTED}:
                problems.append(f"task {cell.id} says {said[:60]!r} as it is given")
        elif _is_in(cell, "solution"):
            if verdicts != {RIGHT}:
                problems.append(f"solution {cell.id} says {said[:60]!r}")
            if names := assigned(statements(cell)) & stubs:
                problems.append(f"solution {cell.id} assigns {names}")
    return problems


def tasks_say_what_they_take(notebook: NotebookNode) -> list[str]:
    """A *your turn* states its minutes, 2 to 8 and 12 in all, and an exercise also its
    difficulty and importance, the easiest first; both have one to three hints."""
    problems, hardest, title, hints = [], 0, None, 0
    turns = sum(part.turns for part in READING.sections(notebook))
    if turns > MINUTES_OF_TURNS:
        problems.append(f"your turn takes {turns} minutes; {MINUTES_OF_TURNS} fit")
    for cell in notebook.cells:
        if found := READING.TASK.match(cell.source):
            title, hints = found[1], 0
            stated = (READING.TURN if found[3] else READING.EFFORT).search(cell.source)
            number = int(stated[1]) if stated else 0
            if found[3] and not 2 <= number <= 8:
                problems.append(f"{title} takes {number} minutes; 2 to 8 fit")
            elif found[4] and number < max(1, hardest):
                problems.append(f"{title} comes after a harder one")
            hardest = hardest if found[3] else number
        hints += len(HINT.findall(cell.source))
        if _is_in(cell, "exercise") and not 1 <= hints <= 3:
            problems.append(f"{title} has {hints} hints; one to three are needed")
    return problems


def with_solutions(given: NotebookNode) -> tuple[NotebookNode, set[str]]:
    """A notebook as a reader leaves it who solves each *your turn*, and the names of
    the cells that were solved. The answer of a stub `my_…` is `the_…` of its solution,
    whose last statement, the check, is left out."""
    solved, program, name, turns = copy.deepcopy(given), {}, None, set()
    for cell in solved.cells:
        if found := re.match(r"### Solution ([A-Z])$", cell.source.split("\n")[0]):
            name = found[1]
        elif name and _is_in(cell, "solution"):
            program[name], name = ast.parse(cell.source).body[:-1], None
    for cell in solved.cells:
        if found := READING.TASK.match(cell.source):
            name = found[3]
        elif name and _is_in(cell, "exercise"):
            answers = program[name]
            names = sorted(assigned(ast.walk(ast.Module(answers, []))))
            mine = [f"my_{n[4:]} = {n}" for n in names if n.startswith("the_")]
            rest = [
                each
                for each in ast.parse(cell.source).body
                if not getattr(each, "name", ast.unparse(each)).startswith("my_")
            ]
            lines = [*map(ast.unparse, answers), *mine, *map(ast.unparse, rest)]
            cell.source, name = "\n".join(lines), None
            turns.add(cell.id)
    return solved, turns


def solutions_can_be_left_out(notebook: NotebookNode) -> list[str]:
    """No cell that handout.py keeps needs a name that only a solution assigns."""
    code = [cell for cell in code_cells(notebook) if _is_in(cell, "solution")]
    left = [cell for cell in code_cells(notebook) if not _is_in(cell, "solution")]
    lost, known = (
        set().union(*(assigned(statements(cell)) for cell in cells))
        for cells in (code, left)
    )
    return [
        f"{cell.id} uses {name}, which only a solution assigns"
        for cell in left
        for name in sorted(used(statements(cell)) & (lost - known))
    ]


def _needed(cell: NotebookNode) -> set[str]:
    """The names that a cell reads before it assigns them.

    A loop or a function may read what it assigns itself.
    """
    needed, known = set(), set()
    for statement in ast.parse(cell.source).body:
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
    parts, rounded = READING.sections(notebook), READING.rounded
    stated = {p.title: (p.stated, rounded(p.minutes)) for p in parts if p.stated}
    head = READING.HEAD.search(notebook.cells[0].source)
    totals = tuple(map(rounded, READING.totals(parts)))
    stated["the head"] = head and tuple(map(int, head.groups())), totals
    wrong = {title: each for title, each in stated.items() if each[0] != each[1]}
    return [f"{title} states {a} minutes, not {b}" for title, (a, b) in wrong.items()]


def the_version_is_checked_first(notebook: NotebookNode) -> list[str]:
    """The first code cell checks the package's version, which is the one built with."""
    first = code_cells(notebook)[0]
    series = ".".join(__version__.split(".")[:2])
    if f'needs("{series}")' in first.source and "version" in tags(first):
        return []
    return [f"{first.id} is the first code cell, and does not check version {series}"]
