"""Rules for every notebook of the course, besides the outputs that nbval compares.

A rule returns a list of problems in words, which is empty for a notebook that keeps the
rule. The rules in `OF_NOTEBOOKS` take the notebook. Those in `OF_FILES` take the path
of its source, beside which the notebook lies under the same name.
"""

import ast
import base64
import builtins
import html.parser
import importlib.util
import itertools
import json
import math
import re
import symtable
from decimal import Decimal
from pathlib import Path
from urllib.parse import unquote

import jupytext
import nbformat
from nbformat import NotebookNode

from pixelprior.course.showing import alt_texts

ROOT = Path(__file__).parents[2]
IGNORED = "nbval-ignore-output"
NOT_ATTEMPTED, RIGHT, NOT_YET = "not attempted yet", "right:", "not yet:"
RESULTS = ("results", "tried", "training", "benchmark", "cifar10_reduced")
MEGABYTE = 1_000_000


def of_the_course(name: str):
    """The module of notebooks/ with this name, imported as `course_{name}`.

    The new name keeps it apart from other modules called conftest or build.
    """
    path = ROOT / "notebooks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"course_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(source: Path) -> NotebookNode:
    """The notebook beside a source."""
    return nbformat.read(source.with_suffix(".ipynb"), as_version=4)


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def markdown(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "markdown"]


def outputs(notebook: NotebookNode):
    """Each output with the cell that it belongs to."""
    for cell in code_cells(notebook):
        for output in cell.outputs:
            yield cell, output


def tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def words(output: NotebookNode) -> str:
    """The text of an output, without that of a picture, which is its alt text."""
    if output.output_type == "stream":
        return output.text
    data = output.get("data", {})
    return "" if "image/png" in data else data.get("text/plain", "")


def parsed(cell: NotebookNode) -> ast.Module:
    """A cell's code, in which magic commands do nothing; empty if it is no Python."""
    code = re.sub(r"(?m)^([ \t]*)[%!].*$", r"\1pass", cell.source)
    try:
        return ast.parse(code)
    except SyntaxError:
        return ast.parse("")


def statements(cell: NotebookNode) -> list[ast.AST]:
    """All syntax nodes of a cell's code."""
    return list(ast.walk(parsed(cell)))


class _Images(html.parser.HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.alts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.alts.append(dict(attrs).get("alt") or "")


FENCED = re.compile(r"^(```|~~~).*?^\1[^\n]*$", re.MULTILINE | re.DOTALL)
CODE_SPAN = re.compile(r"(?<!`)(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)
ADDRESS = re.compile(r"(?<=\])\([^()\s]*(?:\([^()\s]*\)[^()\s]*)*\)|https?://[^\s<>)]+")


def without_code(cell: NotebookNode) -> str:
    return CODE_SPAN.sub("`", FENCED.sub("`", cell.source))


def prose(cell: NotebookNode) -> str:
    """The text of a markdown cell, without code and without addresses of links."""
    return ADDRESS.sub("", without_code(cell))


# What was executed.


def executed_and_numbered(notebook: NotebookNode) -> list[str]:
    """Every code cell was executed, in order, in a new kernel."""
    problems = []
    for number, cell in enumerate(code_cells(notebook), 1):
        if cell.execution_count is None:
            problems.append(f"{cell.id} was not executed")
        elif cell.execution_count != number:
            problems.append(
                f"{cell.id} has number {cell.execution_count}, and is number {number}"
            )
        problems += [
            f"{cell.id} has the output of execution {output.execution_count}"
            for output in cell.outputs
            if output.get("execution_count", number) != number
        ]
    return problems


def nothing_of_the_machine(notebook: NotebookNode) -> list[str]:
    """Nothing that differs from one Python to the next is committed."""
    problems = [
        f"{cell.id} has the times of its execution"
        for cell in notebook.cells
        if "execution" in cell.metadata
    ]
    if version := notebook.metadata.get("language_info", {}).get("version"):
        problems.append(f"the metadata names the Python that ran it, {version}")
    return problems


# jupytext sets the number of lines between a cell and the next, and the slide type is
# computed (`slides_are_marked`).
NOT_CONTENT = {"lines_to_next_cell", "lines_to_end_of_cell_marker", "slideshow"}


def _metadata(cell: NotebookNode) -> dict:
    return {k: v for k, v in cell.metadata.items() if k not in NOT_CONTENT}


def slides_are_marked(notebook: NotebookNode) -> list[str]:
    """Each cell has the slide type that build.py computes for it."""
    wanted = of_the_course("build").slide_types(notebook.cells)
    return [
        f"{cell.id} is marked as {marked!r} for slides, and is a {kind}"
        for cell, kind in zip(notebook.cells, wanted, strict=True)
        if (marked := cell.metadata.get("slideshow", {}).get("slide_type")) != kind
    ]


def pair_is_equal(source: Path) -> list[str]:
    """Source and notebook have the same cells: type, text, tags and all metadata."""
    problems = []
    notebook, written = read(source), jupytext.read(source)
    for number, (cell, wanted) in enumerate(
        itertools.zip_longest(notebook.cells, written.cells), 1
    ):
        name = f"{source.stem[:2]}-{number:03d}"
        if cell is None or wanted is None:
            where = "the notebook" if cell is None else "the source"
            problems.append(f"{where} has no cell {name}")
            continue
        if cell.get("id") != name:
            problems.append(f"cell {name} is named {cell.get('id')}")
        if cell.cell_type != wanted.cell_type:
            problems.append(
                f"{name} is {cell.cell_type}, and {wanted.cell_type} in the source"
            )
        if cell.source != wanted.source:
            problems.append(f"{name} has another text than in the source")
        if _metadata(cell) != _metadata(wanted):
            problems.append(
                f"{name} has metadata {_metadata(cell)}, and {_metadata(wanted)} in "
                "the source"
            )
    if "jupytext" in notebook.metadata:
        problems.append(
            "the notebook says that it is paired: JupyterLab with jupytext would "
            "compare the files' times, and after a clone refuse to open it"
        )
    if len(problems) > 6:  # one cell inserted in front makes all others differ
        problems[6:] = [f"and {len(problems) - 6} more"]
    return problems


# What the outputs are.

PROGRESS = re.compile(r"\d+%\||[█▏▎▍▌▋▊▉]|\d(?:it/s|s/it)\b|\r")
NONES = re.compile(r"[\s\[\](),]*None(?:[\s\[\](),]+None)*[\s\[\](),]*")


def outputs_are_plain(notebook: NotebookNode) -> list[str]:
    """No output is stderr, an error, a widget, a progress bar or a leftover None."""
    problems = []
    if "widgets" in notebook.metadata:
        problems.append("the metadata holds the state of widgets")
    for cell, output in outputs(notebook):
        if output.output_type == "error":
            problems.append(f"{cell.id} ended in {output.ename}: {output.evalue}")
        if output.get("name") == "stderr":
            problems.append(f"{cell.id} wrote to stderr: {output.text[:60]!r}")
        problems += [
            f"{cell.id} shows a widget, which no page can: {kind}"
            for kind in output.get("data", {})
            if kind.startswith("application/vnd.jupyter.widget")
        ]
        said = words(output)
        if bar := PROGRESS.search(said):
            problems.append(f"{cell.id} has a progress bar, or one's {bar[0]!r}")
        if any(NONES.fullmatch(line) for line in said.splitlines()):
            problems.append(f"{cell.id} says None, which nobody asked for")
    return problems


HOLDS = re.compile(r"(?m)^.*(?:differs? by|the same|equal)\b.*: (?:False|no)$", re.I)


def comparisons_hold(notebook: NotebookNode) -> list[str]:
    """No output says that the code by hand differs from the package's."""
    return [
        f"{cell.id} says {said[0]!r}"
        for cell, output in outputs(notebook)
        for said in HOLDS.finditer(words(output))
    ]


def pictures_have_alt_text(notebook: NotebookNode) -> list[str]:
    """Every picture is a PNG, and has an alt text of 20 characters or more.

    The alt text is in the output's metadata, for pages, and its plain text, for nbval.
    """
    problems, alts = [], []
    for cell, output in outputs(notebook):
        data = output.get("data", {})
        for kind in data:
            if kind == "image/png":
                alt = output.metadata.get(kind, {}).get("alt", "")
                alts.append((cell, alt))
                if alt != data.get("text/plain"):
                    problems.append(
                        f"{cell.id} has a picture with the alt text {alt!r} and the "
                        f"plain text {data.get('text/plain')!r}"
                    )
            elif kind.startswith(("image/", "text/html")):
                problems.append(
                    f"{cell.id} has {kind}, which not every host shows; PNG is needed"
                )
    for cell in markdown(notebook):
        text = without_code(cell)
        alts += [(cell, alt) for alt in re.findall(r"!\[([^\]]*)\]\(", text)]
        alts += [(cell, alt) for alt in _Images(text).alts]
    return problems + [
        f"{cell.id} has a picture with the alt text {alt!r}; 20 characters are needed"
        for cell, alt in alts
        if len(" ".join(alt.split())) < 20
    ]


WIDEST = 900  # pixels


def pictures_fit_a_page(notebook: NotebookNode) -> list[str]:
    """No picture is wider than 900 pixels, and each is as wide as it is declared.

    Releases of matplotlib differ by a pixel.
    """
    problems = []
    for cell, output in outputs(notebook):
        if "image/png" in output.get("data", {}):
            png = base64.b64decode(output.data["image/png"])
            width = int.from_bytes(png[16:20], "big")
            declared = output.metadata.get("image/png", {}).get("width")
            if max(width, declared or 0) > WIDEST:
                problems.append(f"{cell.id} has a picture {width} pixels wide")
            if declared is None or abs(width - declared) > 1:
                problems.append(
                    f"{cell.id} has a picture of {width} pixels, declared as {declared}"
                )
    return problems


def at_least_three_pictures(notebook: NotebookNode) -> list[str]:
    count = sum(
        "image/png" in output.get("data", {}) for _, output in outputs(notebook)
    )
    return [] if count >= 3 else [f"there are {count} pictures; 3 are needed"]


def something_to_explore(notebook: NotebookNode) -> list[str]:
    """At least one figure is interactive."""
    called = {
        getattr(node.func, "id", getattr(node.func, "attr", None))
        for cell in code_cells(notebook)
        for node in statements(cell)
        if isinstance(node, ast.Call)
    }
    return [] if "explore" in called else ["explore(…) is called nowhere"]


def under_a_megabyte(source: Path) -> list[str]:
    path = source.with_suffix(".ipynb")
    size = path.stat().st_size
    if size < MEGABYTE:
        return []
    return [f"{path.name} has {size:,} bytes; it must stay under 1 MB"]


def cover_is_in_the_notebook(source: Path) -> list[str]:
    """The README's picture of a notebook is that of the cell tagged "cover"."""
    notebook, path = read(source), source.parent / "pictures" / f"{source.stem}.png"
    covers = sum("cover" in tags(cell) for cell in notebook.cells)
    if covers != 1:
        return [f"{covers} cells are tagged cover; 1 is needed"]
    drawn = of_the_course("build").cover(notebook)
    if drawn is None:
        return ["the cell tagged cover has no picture"]
    if not path.exists():
        return [f"{path.name} is not there"]
    if path.read_bytes() != drawn:
        return [f"{path.name} is another picture than that of the cell tagged cover"]
    return []


# What nbval is told not to compare.


def few_outputs_are_ignored(notebook: NotebookNode) -> list[str]:
    """At most one code cell in ten is ignored, and each ignored cell has an assert."""
    problems = []
    cells = code_cells(notebook)
    ignored = [cell for cell in cells if IGNORED in tags(cell)]
    if 10 * len(ignored) > len(cells):
        problems.append(
            f"{len(ignored)} of {len(cells)} code cells have their output ignored; "
            "one in ten may"
        )
    problems += [
        f"{cell.id} has its output ignored and asserts nothing"
        for cell in ignored
        if not any(
            isinstance(node, ast.Assert) and not isinstance(node.test, ast.Constant)
            for node in statements(cell)
        )
    ]
    for cell in cells:
        others = [
            tag
            for tag in tags(cell)
            if tag != IGNORED and re.search("nbval|validate|raises|skip", tag.lower())
        ]
        comments = re.findall(r"NBVAL_\w+|PYTEST_VALIDATE_\w+", cell.source)
        problems += [
            f"{cell.id} has the marker {marker}; only the tag {IGNORED} may be used"
            for marker in others + comments
        ]
    return problems


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
            if not path and unquote(target) not in headings:
                problems.append(
                    f"{cell.id} links to the heading {target}, which is none"
                )
    return problems


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
    wanted = tuple(map(READING.up_to_five, READING.totals(parts)))
    head = READING.HEAD.search(notebook.cells[0].source)
    stated = head and tuple(map(int, head.groups()))
    if stated != wanted:
        problems.append(
            f"the head states {stated} minutes for the core and for all; it is {wanted}"
        )
    return problems


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


NUMBER = r"(?<![\d.,])(?:(?<![\w.)])[-−+])?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?"
MARKER = re.compile(rf"(?:(?P<number>{NUMBER})[*_]*)?<!--=(?P<source>.*?)-->", re.S)
UNITS = r"(?:%|(?:nats?|seconds?|ms|s|per ?cent)(?!\w))"
UNMARKED = re.compile(rf"(?<![\w.])\d[\d,]*\.\d+[*_]*[\s\u00a0\u202f-]*{UNITS}")


def measured(name: str, key: str, course: Path) -> int | float:
    """The number in a results file under a key such as "likelihood.top.uniform", or of
    the shipped `vqvae2` or `prior`, under a key of its config.

    Raises:
        LookupError: there is no such file, key or number; the message says which.
    """
    if name == "timings":
        paths = [course / "timings.json"]
    elif name in ("vqvae2", "prior"):
        assets = ROOT / "pixelprior" / "assets"
        paths = [assets / f"fashion_mnist_{name}" / "config.json"]
    elif name in RESULTS:
        assets = ROOT / "pixelprior" / "assets"
        paths = [assets / "results" / f"{name}.json", assets / f"{name}.json"]
    else:
        raise LookupError(f"{name} is no results file")
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        raise LookupError(f"{paths[0].name} is not there")
    value = json.loads(path.read_text(encoding="utf-8"))
    for step in key.split("."):
        try:
            value = value[int(step) if isinstance(value, list) else step]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise LookupError(f"{path.name} has no {key}: {step} is missing") from error
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise LookupError(f"{key} in {path.name} is no number")
    return value


def agrees(written: str, value: float) -> bool:
    """Whether the number as written is the value, rounded to the digits written."""
    number = Decimal(written.replace(",", "").replace("−", "-"))
    half = Decimal(1).scaleb(number.as_tuple().exponent) / 2
    return math.isfinite(value) and abs(number - Decimal(repr(value))) <= half


def _markers(where: str, text: str, course: Path) -> tuple[list[str], set, str]:
    """Problems of the measured numbers in a text, their sources, and the other text."""
    problems, sources = [], set()
    for marker in MARKER.finditer(text):
        written = marker["number"]
        name, _, key = marker["source"].strip().partition(" ")
        sources.add((name, key.strip()))
        if written is None:
            problems.append(f"{where} has no number before {marker[0]}")
            continue
        try:
            value = measured(name, key.strip(), course)
        except LookupError as error:
            problems.append(f"{where} says {marker[0]}, but {error.args[0]}")
            continue
        if not agrees(written, value):
            problems.append(f"{where} says {marker[0]}, but it is {value}")
    rest = MARKER.sub("•", text)
    if "<!--=" in rest:
        problems.append(f"{where} has a marker that does not end")
    return problems, sources, rest


def numbers_are_measured(source: Path) -> list[str]:
    """Each measured number in the text names its source and agrees with it.

    In an alt text, which says what a figure shows, a number may have a source, and
    agrees with it then.
    """
    problems, own_time = [], False
    for cell in markdown(read(source)):
        found, sources, rest = _markers(cell.id, prose(cell), source.parent)
        own_time |= ("timings", source.stem) in sources
        problems += found + [
            f"{cell.id} says {number[0]!r} and not where that was measured"
            for number in UNMARKED.finditer(rest)
        ]
    for name, text in alt_texts().get(source.stem, {}).items():
        problems += _markers(f"the alt text {name!r}", text, source.parent)[0]
    if not own_time:
        problems.append(f"it does not state its seconds (timings {source.stem})")
    return problems


OF_NOTEBOOKS = (
    executed_and_numbered,
    nothing_of_the_machine,
    outputs_are_plain,
    comparisons_hold,
    pictures_have_alt_text,
    pictures_fit_a_page,
    at_least_three_pictures,
    something_to_explore,
    few_outputs_are_ignored,
    exercises_have_solutions,
    exercises_say_what_they_take,
    head_and_foot,
    nothing_is_called_easy,
    equations_are_formulas,
    code_fits_a_page,
    cells_are_short,
    the_core_stands_alone,
    minutes_are_stated,
    slides_are_marked,
    solutions_can_be_left_out,
)
OF_FILES = (
    pair_is_equal,
    under_a_megabyte,
    cover_is_in_the_notebook,
    links_lead_somewhere,
    sections_are_numbered,
    figures_are_named,
    numbers_are_measured,
)
