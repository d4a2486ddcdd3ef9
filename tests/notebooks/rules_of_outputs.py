"""Rules on what was executed, and on the outputs and pictures of the cells."""

from itertools import zip_longest
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from parts import code_cells, of_the_course, outputs, tags

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
    """The notebook is what build.py makes of its source, but for the outputs, so that
    its metadata have nothing of the machine, of widgets or of jupytext."""
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


def outputs_are_plain(notebook: NotebookNode) -> list[str]:
    """No output is stderr, an error or a widget."""
    problems = []
    for cell, output in outputs(notebook):
        if output.output_type == "error" or output.get("name") == "stderr":
            problems.append(f"{cell.id} ended in an error, or wrote to stderr")
        if any("widget" in kind for kind in output.get("data", {})):
            problems.append(f"{cell.id} shows a widget, which no page can")
    return problems


WIDEST = 900  # pixels


def pictures_have_alt_text(notebook: NotebookNode) -> list[str]:
    """Every picture is a PNG of at most 900 pixels; the alt text, of 20 characters or
    more, is in the output's metadata, for pages, and its plain text, for nbval. One
    figure at least can be explored."""
    code = "\n".join(cell.source for cell in code_cells(notebook))
    problems = [] if "\nexplore(" in code else ["explore(…) is called nowhere"]
    for cell, output in outputs(notebook):
        data = output.get("data", {})
        if "image/png" in data:
            about = output.metadata.get("image/png", {})
            if about.get("alt", "") != data.get("text/plain"):
                problems.append(f"{cell.id} has another alt text than plain text")
            if len(about.get("alt", "")) < 20:
                problems.append(f"{cell.id} has an alt text below 20 characters")
            if about.get("width", WIDEST + 1) > WIDEST:
                problems.append(f"{cell.id} has a picture wider than {WIDEST} pixels")
        problems += [
            f"{cell.id} has {kind}, which not every host shows; PNG is needed"
            for kind in data
            if kind.startswith(("image/", "text/html")) and kind != "image/png"
        ]
    return problems


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
    """At most one code cell in ten is ignored by nbval, and each has an assert."""
    cells = code_cells(notebook)
    ignored = [cell for cell in cells if "nbval-ignore-output" in tags(cell)]
    bare = [c.id for c in ignored if "assert " not in c.source]
    problems = [f"{name} has its output ignored and asserts nothing" for name in bare]
    if 10 * len(ignored) > len(cells):
        problems.append(f"{len(ignored)} of {len(cells)} code cells are ignored")
    return problems
