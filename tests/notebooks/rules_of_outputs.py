"""Rules on what was executed, and on the outputs and pictures of the cells."""

import ast
import base64
import inspect
import re
from itertools import zip_longest
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from parts import (
    IGNORED,
    code_cells,
    markdown,
    of_the_course,
    outputs,
    statements,
    tags,
    without_code,
    words,
)

from pixelprior.course.figures import diagrams
from pixelprior.course.figures.diagrams import SHARPNESS

build = of_the_course("build")


def executed_and_numbered(notebook: NotebookNode) -> list[str]:
    """Every code cell was executed, in order, in a new kernel."""
    problems = []
    for number, cell in enumerate(code_cells(notebook), 1):
        of_outputs = [each.get("execution_count", number) for each in cell.outputs]
        if {cell.execution_count, *of_outputs} != {number}:
            problems.append(
                f"{cell.id} has number {cell.execution_count} and outputs of "
                f"{of_outputs}, and is number {number}"
            )
    return problems


def pair_is_equal(notebook: NotebookNode, source: Path) -> list[str]:
    """The notebook is what build.py makes of its source, but for the outputs.

    Nothing of the machine, of widgets or of jupytext is in its metadata: JupyterLab
    with jupytext would compare the files' times, and after a clone refuse to open a
    paired notebook. Names of cells and kinds of slides are those that build.py gives.
    """
    wanted, problems = build.unexecuted(source), []
    if notebook.metadata != wanted.metadata:
        problems.append(f"the metadata is {notebook.metadata}, not {wanted.metadata}")
    for cell, right in zip_longest(notebook.cells, wanted.cells, fillvalue={}):
        problems += [
            f"{right.get('id', 'no cell')} has {part} {cell.get(part)!r}, and "
            f"{right.get(part)!r} in the source"
            for part in ("id", "cell_type", "source", "metadata")
            if cell.get(part) != right.get(part)
        ]
    return problems[:6]  # one cell inserted in front makes all others differ


PROGRESS = re.compile(r"\d+%\||[█▏▎▍▌▋▊▉]|\d(?:it/s|s/it)\b|\r")
NONES = re.compile(r"(?m)^[\s\[\](),]*None(?:[\s\[\](),]+None)*[\s\[\](),]*$")
DIFFERS = re.compile(
    r"(?m)^.*(?:differs? by|the same|equal)\b.*: (?:False|no)$", re.IGNORECASE
)


def outputs_are_plain(notebook: NotebookNode) -> list[str]:
    """No output is stderr, an error, a widget, a progress bar or a leftover None, and
    none says that the code by hand differs from the package's."""
    problems = []
    for cell, output in outputs(notebook):
        if output.output_type == "error" or output.get("name") == "stderr":
            problems.append(f"{cell.id} ended in an error, or wrote to stderr")
        if any("widget" in kind for kind in output.get("data", {})):
            problems.append(f"{cell.id} shows a widget, which no page can")
        for what, pattern in (
            ("a progress bar", PROGRESS),
            ("a None that nobody asked for", NONES),
            ("a comparison that does not hold", DIFFERS),
        ):
            if said := pattern.search(words(output)):
                problems.append(f"{cell.id} has {what}: {said[0]!r}")
    return problems


def pictures_have_alt_text(notebook: NotebookNode) -> list[str]:
    """Every picture is a PNG, and has an alt text of 20 characters or more.

    The alt text is in the output's metadata, for pages, and its plain text, for nbval.
    """
    problems, alts = [], []
    for cell, output in outputs(notebook):
        data = output.get("data", {})
        if "image/png" in data:
            alts.append((cell, output.metadata.get("image/png", {}).get("alt", "")))
            if alts[-1][1] != data.get("text/plain"):
                problems.append(f"{cell.id} has another alt text than plain text")
        problems += [
            f"{cell.id} has {kind}, which not every host shows; PNG is needed"
            for kind in data
            if kind.startswith(("image/", "text/html")) and kind != "image/png"
        ]
    for cell in markdown(notebook):
        alts += [(cell, a) for a in re.findall(r"!\[([^\]]*)\]\(", without_code(cell))]
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
            sharp = SHARPNESS if DIAGRAM.search(cell.source) else 1
            width = int.from_bytes(png[16:20], "big") / sharp
            declared = output.metadata.get("image/png", {}).get("width", 0)
            if max(width, declared) > WIDEST or abs(width - declared) > 1:
                problems.append(
                    f"{cell.id} has a picture {width} pixels wide, declared as "
                    f"{declared}; {WIDEST} fit"
                )
    return problems


def figures_and_something_to_explore(notebook: NotebookNode) -> list[str]:
    """There are at least three pictures, and at least one figure is interactive."""
    count = sum(
        "image/png" in output.get("data", {}) for _, output in outputs(notebook)
    )
    called = {
        getattr(node.func, "id", getattr(node.func, "attr", None))
        for cell in code_cells(notebook)
        for node in statements(cell)
        if isinstance(node, ast.Call)
    }
    problems = [] if count >= 3 else [f"there are {count} pictures; 3 are needed"]
    return problems + ([] if "explore" in called else ["explore(…) is called nowhere"])


def under_a_megabyte(notebook: NotebookNode) -> list[str]:
    size = len(nbformat.writes(notebook).encode())
    return [] if size < 1e6 else [f"it has {size:,} bytes; it must stay under 1 MB"]


def cover_is_in_the_notebook(notebook: NotebookNode, source: Path) -> list[str]:
    """The README's picture of a notebook is that of the cell tagged "cover"."""
    covers = sum("cover" in tags(cell) for cell in notebook.cells)
    if covers != 1:
        return [f"{covers} cells are tagged cover; 1 is needed"]
    path = source.parent / "pictures" / f"{source.stem}.png"
    if not path.exists() or path.read_bytes() != build.cover(notebook):
        return [f"{path.name} is not the picture of the cell tagged cover"]
    return []


def few_outputs_are_ignored(notebook: NotebookNode) -> list[str]:
    """At most one code cell in ten is ignored by nbval, and each ignored cell has an
    assert."""
    cells = code_cells(notebook)
    ignored = [cell for cell in cells if IGNORED in tags(cell)]
    problems = [
        f"{cell.id} has its output ignored and asserts nothing"
        for cell in ignored
        if not any(
            isinstance(node, ast.Assert) and not isinstance(node.test, ast.Constant)
            for node in statements(cell)
        )
    ]
    if 10 * len(ignored) > len(cells):
        problems.append(f"{len(ignored)} of {len(cells)} code cells are ignored")
    for cell in cells:
        found = {
            tag for tag in tags(cell) if re.search("nbval|validate|raises|skip", tag)
        }
        found |= set(re.findall(r"NBVAL_\w+|PYTEST_VALIDATE_\w+", cell.source))
        if found - {IGNORED}:
            problems.append(
                f"{cell.id} has {found}; only the tag {IGNORED} may be used"
            )
    return problems
