"""Rules on exercises, their hints and their solutions."""

import re

from nbformat import NotebookNode
from parts import (
    NOT_ATTEMPTED,
    NOT_YET,
    RIGHT,
    assigned,
    of_the_course,
    statements,
    tags,
    used,
    words,
)

READING = of_the_course("reading")
EXERCISE = re.compile(r"### (Exercise (\d+): .+)")
SOLUTIONS = "## Solutions"
ABOUT_SOLUTIONS = "about-solutions"
VERDICT = re.compile(f"(?m)^({NOT_ATTEMPTED}|{RIGHT}|{NOT_YET})")
HINT = re.compile(r"<details><summary>Hint (\d)</summary>\n\n.+\n\n</details>")


def anchor(heading: str) -> str:
    """The address of a heading within its notebook."""
    return "#" + heading.strip().lstrip("#").strip().replace(" ", "-")


def _is_in(cell: NotebookNode, tag: str) -> bool:
    return cell.cell_type == "code" and tag in tags(cell)


def _outline(notebook: NotebookNode, headings: dict[str, str]) -> list[str]:
    """What belongs to exercises and solutions, in the order of the cells."""
    outline = []
    for cell in notebook.cells:
        if found := EXERCISE.match(cell.source):
            outline.append(f"exercise {found[2]}")
        elif _is_in(cell, "exercise"):
            outline.append("stub")
        elif found := re.match(r"\[To solution \d\]\(#Solution-(\d)\)", cell.source):
            outline.append(f"link to solution {found[1]}")
        elif cell.source.startswith(SOLUTIONS):
            outline.append("solutions")
        elif found := re.match(r"### Solution (\d+)", cell.source):
            back = f"]({anchor(headings.get(found[1], ''))})" in cell.source
            outline.append(f"solution {found[1]}{'' if back else ' without link back'}")
        elif _is_in(cell, "solution"):
            outline.append("program")
        if "solutions" in outline and "solution" not in tags(cell):
            outline.append(f"{cell.id}, which is no solution")
    return outline


def exercises_have_solutions(notebook: NotebookNode) -> list[str]:
    """Stubs do not pass; solutions pass, and stand at the end, linked both ways."""
    found = (EXERCISE.match(cell.source) for cell in notebook.cells)
    headings = {each[2]: each[1] for each in found if each}
    outline, wanted = _outline(notebook, headings), []
    for number in headings:
        wanted += [f"exercise {number}", "stub", f"link to solution {number}"]
    wanted.append("solutions")
    for number in headings:
        wanted += [f"solution {number}", "program"]
    problems = [] if outline == wanted else [f"there are {outline}, for {wanted}"]
    if len(headings) < 3:
        problems.append(f"there are {len(headings)} exercises; 3 are needed")
    stubs = set()
    for cell in notebook.cells:
        said = "\n".join(words(output) for output in cell.get("outputs", []))
        verdicts = set(VERDICT.findall(said))
        names = assigned(statements(cell)) if cell.cell_type == "code" else set()
        if _is_in(cell, "exercise"):
            mine = {name for name in names if name.startswith("my_")}
            stubs |= mine
            if not mine:
                problems.append(f"exercise {cell.id} has no stub named my_…")
            if verdicts != {NOT_ATTEMPTED}:
                problems.append(f"exercise {cell.id} says {said[:60]!r} as it is given")
        elif _is_in(cell, "solution"):
            if verdicts != {RIGHT}:
                problems.append(f"solution {cell.id} says {said[:60]!r}")
            if names & stubs:
                problems.append(f"solution {cell.id} assigns {names & stubs}")
            if "jupyter" in cell.metadata:
                problems.append(f"solution {cell.id} is collapsed, in JupyterLab alone")
    return problems


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


def solutions_can_be_left_out(notebook: NotebookNode) -> list[str]:
    """The notebook works without the cells that handout.py leaves out.

    No other cell needs a name that only a solution assigns, and only a cell of its own
    speaks of solutions.
    """
    others = [cell for cell in notebook.cells if "solution" not in tags(cell)]
    code = [cell for cell in others if cell.cell_type == "code"]
    known = set().union(*(assigned(statements(cell)) for cell in code))
    solutions = [cell for cell in notebook.cells if _is_in(cell, "solution")]
    lost = set().union(*(assigned(statements(cell)) for cell in solutions)) - known
    problems = [
        f"{cell.id} uses {name}, which only a solution assigns"
        for cell in code
        for name in sorted(used(statements(cell)) & lost)
    ]
    for cell in others:
        apart = ABOUT_SOLUTIONS in tags(cell)
        if apart and cell.cell_type != "markdown":
            problems.append(f"{cell.id} is tagged {ABOUT_SOLUTIONS}, and is no text")
        if not apart and re.search(r"\bsolutions?\b", cell.source, re.IGNORECASE):
            problems.append(f"{cell.id} speaks of a solution; a handout has none")
    return problems
