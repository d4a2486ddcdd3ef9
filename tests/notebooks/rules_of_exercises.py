"""Rules on *your turn* cells and exercises, their hints and their solutions."""

import ast
import copy
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
SOLUTIONS = "## Solutions"
ABOUT_SOLUTIONS = "about-solutions"
VERDICT = re.compile(f"(?m)^({NOT_ATTEMPTED}|{RIGHT}|{NOT_YET})")
MINUTES_OF_TURNS = 12
HINT = re.compile(r"<details><summary>Hint (\d)</summary>\n\n.+\n\n</details>")


def anchor(heading: str) -> str:
    """The address of a heading within its notebook."""
    return "#" + heading.strip().lstrip("#").strip().replace(" ", "-")


def _name(task: re.Match) -> str:
    """The letter of a *your turn*, or the number of an exercise."""
    return task[3] or task[4]


def _is_in(cell: NotebookNode, tag: str) -> bool:
    return cell.cell_type == "code" and tag in tags(cell)


def _binds(statement: ast.stmt) -> set[str]:
    """The names that a statement itself assigns or defines."""
    if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
        return {statement.name}
    return assigned(ast.walk(statement))


def _outline(notebook: NotebookNode, headings: dict[str, str]) -> list[str]:
    """What belongs to exercises and solutions, in the order of the cells."""
    outline = []
    for cell in notebook.cells:
        if found := READING.TASK.match(cell.source):
            outline.append(f"task {_name(found)}")
        elif _is_in(cell, "exercise"):
            outline.append("stub")
        elif found := re.match(r"\[To solution \w\]\(#Solution-(\w)\)", cell.source):
            outline.append(f"link to solution {found[1]}")
        elif cell.source.startswith(SOLUTIONS):
            outline.append("solutions")
        elif found := re.match(r"### Solution (\w+)", cell.source):
            back = f"]({anchor(headings.get(found[1], ''))})" in cell.source
            outline.append(f"solution {found[1]}{'' if back else ' without link back'}")
        elif _is_in(cell, "solution"):
            outline.append("program")
        if "solutions" in outline and "solution" not in tags(cell):
            outline.append(f"{cell.id}, which is no solution")
    return outline


def exercises_have_solutions(notebook: NotebookNode) -> list[str]:
    """Stubs do not pass; solutions pass, and stand at the end, linked both ways."""
    found = (READING.TASK.match(cell.source) for cell in notebook.cells)
    headings = {_name(each): each[1] for each in found if each}
    outline, wanted = _outline(notebook, headings), []
    for name in headings:
        wanted += [f"task {name}", "stub", f"link to solution {name}"]
    wanted.append("solutions")
    for name in headings:
        wanted += [f"solution {name}", "program"]
    problems = [] if outline == wanted else [f"there are {outline}, for {wanted}"]
    exercises = [name for name in headings if name.isdigit()]
    if len(exercises) < 2:
        problems.append(f"there are {len(exercises)} exercises; 2 are needed")
    stubs = set()
    for cell in notebook.cells:
        said = "\n".join(words(output) for output in cell.get("outputs", []))
        verdicts = set(VERDICT.findall(said))
        names = assigned(statements(cell)) if cell.cell_type == "code" else set()
        if _is_in(cell, "exercise"):
            mine = {name for name in names if name.startswith("my_")}
            stubs |= mine
            if not mine:
                problems.append(f"task {cell.id} has no stub named my_…")
            if verdicts != {NOT_ATTEMPTED}:
                problems.append(f"task {cell.id} says {said[:60]!r} as it is given")
        elif _is_in(cell, "solution"):
            if verdicts != {RIGHT}:
                problems.append(f"solution {cell.id} says {said[:60]!r}")
            if names & stubs:
                problems.append(f"solution {cell.id} assigns {names & stubs}")
            if "jupyter" in cell.metadata:
                problems.append(f"solution {cell.id} is collapsed, in JupyterLab alone")
    return problems


def tasks_say_what_they_take(notebook: NotebookNode) -> list[str]:
    """A *your turn* states its minutes, 2 to 8 and 12 in all, and an exercise also its
    difficulty and importance, the easiest first; both have hints before their stub."""
    problems, hardest, title, hints = [], 0, None, []
    turns = sum(part.turns for part in READING.sections(notebook))
    if turns > MINUTES_OF_TURNS:
        problems.append(f"your turn takes {turns} minutes; {MINUTES_OF_TURNS} fit")
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            if found := READING.TASK.match(cell.source):
                title, hints = found[1], []
                turn, effort = (
                    each.search(cell.source) for each in (READING.TURN, READING.EFFORT)
                )
                if (effort if found[4] else turn) is None:
                    problems.append(f"{title} does not say what it takes")
                elif found[3] and not 2 <= int(turn[1]) <= 8:
                    problems.append(f"{title} takes {turn[1]} minutes; 2 to 8 fit")
                elif found[4] and int(effort[1]) < hardest:
                    problems.append(f"{title} comes after a harder one")
                hardest = int(effort[1]) if effort else hardest
            hints += HINT.findall(cell.source)
        elif _is_in(cell, "exercise") and hints != ["1", "2", "3"][: len(hints) or 3]:
            problems.append(f"{title} has the hints {hints}; one to three are needed")
    return problems


def with_solutions(notebook: NotebookNode) -> tuple[NotebookNode, set[str]]:
    """A notebook as a reader leaves it who solves each *your turn*, and the names of
    the cells that were solved.

    The answer of a stub `my_…` is `the_…` of its solution, whose last statement, the
    check, is left out.
    """
    solved, program, name = copy.deepcopy(notebook), {}, None
    turns = set()
    for cell in solved.cells:
        if found := re.match(r"### Solution ([A-Z])$", cell.source.split("\n")[0]):
            name = found[1]
        elif name and _is_in(cell, "solution"):
            program[name], name = cell.source, None
    for cell in solved.cells:
        if found := READING.TASK.match(cell.source):
            name = found[3]
        elif name and _is_in(cell, "exercise"):
            *answers, _check = ast.parse(program[name]).body
            names = sorted(assigned(ast.walk(ast.Module(answers, []))))
            mine = [f"my_{n[4:]} = {n}" for n in names if n.startswith("the_")]
            rest = [
                statement
                for statement in ast.parse(cell.source).body
                if not any(name.startswith("my_") for name in _binds(statement))
            ]
            lines = [*map(ast.unparse, answers), *mine, *map(ast.unparse, rest)]
            cell.source, name = "\n".join(lines), None
            turns.add(cell.id)
    return solved, turns


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
