"""Rules on exercises, their hints and their solutions."""

import ast
import re

from nbformat import NotebookNode
from parts import NOT_ATTEMPTED, NOT_YET, RIGHT, of_the_course, statements, tags, words

# What the reader does.


def _assigned(cell: NotebookNode) -> set[str]:
    names = set()
    for node in statements(cell):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.alias):
            names.add(node.asname or node.name)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
    return names


def _says(cell: NotebookNode) -> str:
    return "\n".join(words(output) for output in cell.get("outputs", [])).strip()


EXERCISE = re.compile(r"### (Exercise (\d+): .+)")
SOLUTIONS = "## Solutions"


def anchor(heading: str) -> str:
    """The address of a heading within its notebook."""
    return "#" + heading.strip().lstrip("#").strip().replace(" ", "-")


def _is_in(cell: NotebookNode, tag: str) -> bool:
    return cell.cell_type == "code" and tag in tags(cell)


def exercises_have_solutions(notebook: NotebookNode) -> list[str]:
    """Stubs do not pass; solutions pass, and stand at the end, linked both ways."""
    problems: list[str] = []
    stubs: set[str] = set()
    cells, headings = notebook.cells, {}
    for k, cell in enumerate(cells):
        if cell.cell_type == "markdown" and (found := EXERCISE.match(cell.source)):
            headings[found[2]] = found[1]
        elif _is_in(cell, "exercise"):
            number = str(len(headings))
            if number not in headings:
                problems.append(f"exercise {cell.id} has no heading of its own")
            link = cells[k + 1].source if k + 1 < len(cells) else ""
            if f"](#Solution-{number})" not in link:
                problems.append(f"exercise {cell.id} has no link to its solution")
            said = _says(cell)
            if not said.startswith(NOT_ATTEMPTED) or re.search(
                f"(?m)^({RIGHT}|{NOT_YET})", said
            ):
                problems.append(
                    f"exercise {cell.id} says {said[:60]!r} before it was attempted"
                )
            mine = {name for name in _assigned(cell) if name.startswith("my_")}
            if not mine:
                problems.append(f"exercise {cell.id} has no stub named my_…")
            stubs |= mine
    exercises = sum(_is_in(cell, "exercise") for cell in cells)
    if exercises < 3:
        problems.append(f"there are {exercises} exercises; 3 are needed")
    if exercises != len(headings):
        problems.append(f"there are {len(headings)} headings of {exercises} exercises")
    return problems + _solutions_of(headings, stubs, notebook)


def _solutions_of(headings: dict, stubs: set[str], notebook: NotebookNode) -> list[str]:
    problems, programs, part = [], {}, False
    for cell in notebook.cells:
        part |= cell.source.startswith(SOLUTIONS)
        if found := re.match(r"### Solution (\d+)", cell.source):
            programs[found[1]] = 0
            back = anchor(headings.get(found[1], ""))
            if f"]({back})" not in cell.source:
                problems.append(f"solution {found[1]} has no link back to {back}")
        if part and "solution" not in tags(cell):
            problems.append(f"{cell.id} stands among the solutions, but is none")
        if not _is_in(cell, "solution"):
            continue
        if not programs:
            problems.append(f"solution {cell.id} stands before the part {SOLUTIONS}")
        else:
            programs[list(programs)[-1]] += 1
        said = _says(cell)
        if not said.startswith(RIGHT) or re.search(
            f"(?m)^({NOT_YET}|{NOT_ATTEMPTED})", said
        ):
            problems.append(f"solution {cell.id} says {said[:60]!r}")
        if "jupyter" in cell.metadata:
            problems.append(f"solution {cell.id} is collapsed, in JupyterLab alone")
        problems += [
            f"solution {cell.id} assigns {name}, which is the reader's"
            for name in sorted(_assigned(cell) & stubs)
        ]
    if programs != dict.fromkeys(headings, 1):
        problems.append(
            f"the programs below each solution are {programs}; one is needed for each "
            f"of the exercises {list(headings)}"
        )
    return problems


READING = of_the_course("reading")
HINT = re.compile(r"<details><summary>Hint (\d)</summary>\n\n.+\n\n</details>")


def exercises_say_what_they_take(notebook: NotebookNode) -> list[str]:
    """Each exercise states difficulty, importance and minutes, and has hints before its
    stub; the easiest comes first."""
    problems, hardest, name, hints = [], 0, None, []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            if found := EXERCISE.match(cell.source):
                name, hints = found[1], []
                effort = READING.EFFORT.search(cell.source)
                if effort is None:
                    problems.append(f"{name} does not say what it takes")
                elif int(effort[1]) < hardest:
                    problems.append(f"{name} comes after a harder one")
                hardest = max(hardest, int(effort[1]) if effort else 0)
            hints += HINT.findall(cell.source)
        elif _is_in(cell, "exercise") and hints != ["1", "2", "3"][: len(hints) or 3]:
            problems.append(f"{name} has the hints {hints}; one to three are needed")
    return problems


def _used(cell: NotebookNode) -> set[str]:
    return {
        node.id
        for node in statements(cell)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }


ABOUT_SOLUTIONS = "about-solutions"


def solutions_can_be_left_out(notebook: NotebookNode) -> list[str]:
    """The notebook works without the cells that handout.py leaves out.

    No other cell needs a name that only a solution assigns, and only a cell of its own
    speaks of solutions.
    """
    problems = []
    others = [cell for cell in notebook.cells if "solution" not in tags(cell)]
    assigned = set().union(*map(_assigned, others))
    for cell in notebook.cells:
        if "solution" not in tags(cell):
            continue
        problems += [
            f"{other.id} uses {name}, which only the solution {cell.id} assigns"
            for other in others
            for name in sorted(_used(other) & (_assigned(cell) - assigned))
        ]
    problems += [
        f"{cell.id} is tagged {ABOUT_SOLUTIONS}, and is no text"
        for cell in others
        if ABOUT_SOLUTIONS in tags(cell) and cell.cell_type != "markdown"
    ]
    return problems + [
        f"{cell.id} speaks of a solution, which a handout does not have"
        for cell in others
        if ABOUT_SOLUTIONS not in tags(cell)
        and re.search(r"\bsolutions?\b", cell.source, re.IGNORECASE)
    ]
