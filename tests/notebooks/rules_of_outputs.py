"""Rules on what was executed, and on the outputs and pictures of the cells."""

import ast
import base64
import inspect
import itertools
import re
from pathlib import Path

import jupytext
from nbformat import NotebookNode
from parts import (
    IGNORED,
    MEGABYTE,
    ImageTags,
    code_cells,
    markdown,
    of_the_course,
    outputs,
    read,
    statements,
    tags,
    without_code,
    words,
)

from pixelprior.course.figures import diagrams
from pixelprior.course.figures.diagrams import SHARPNESS

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
        alts += [(cell, alt) for alt in ImageTags(text).alts]
    return problems + [
        f"{cell.id} has a picture with the alt text {alt!r}; 20 characters are needed"
        for cell, alt in alts
        if len(" ".join(alt.split())) < 20
    ]


WIDEST = 900  # pixels
NAMES = "|".join(n for n, f in vars(diagrams).items() if inspect.isfunction(f))
DIAGRAM = re.compile(rf"figures\.({NAMES})\(")


def pictures_fit_a_page(notebook: NotebookNode) -> list[str]:
    """No picture is wider than 900 pixels, and each is as wide as it is declared. A
    diagram has `SHARPNESS` pixels for each of these.

    Releases of matplotlib differ by a pixel.
    """
    problems = []
    for cell, output in outputs(notebook):
        if "image/png" in output.get("data", {}):
            png = base64.b64decode(output.data["image/png"])
            width = int.from_bytes(png[16:20], "big")
            declared = output.metadata.get("image/png", {}).get("width")
            sharp = SHARPNESS if DIAGRAM.search(cell.source) else 1
            if max(width / sharp, declared or 0) > WIDEST:
                problems.append(f"{cell.id} has a picture {width} pixels wide")
            if declared is None or abs(width / sharp - declared) > 1:
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
