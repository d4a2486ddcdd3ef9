"""Make the executed notebooks from their sources: `python notebooks/build.py`.

jupytext turns each NN_name.py (percent format) into NN_name.ipynb, and nbconvert
executes the notebook in a new kernel and an empty folder, without timing or widget
state. Two builds in a row give the same bytes on one machine. The figure of the cell
that is tagged "cover" is written to pictures/NN_name.png, for the README. If sources
are named, only these are built. With `--text`, nothing is executed: where the source
has the code of the built notebook, the notebook gets the source's text and keeps its
outputs. With `--time`, the program instead measures the seconds that each notebook
takes and writes them to timings.json; nothing else should run then.
"""

import argparse
import ast
import base64
import copy
import json
import os
import re
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbconvert.preprocessors import ExecutePreprocessor

from pixelprior.cli import lab

FOLDER = Path(__file__).resolve().parent
TIMINGS = FOLDER / "timings.json"
LEFT_OUT = {"about-solutions", "version"}  # tags of cells that no slide shows


def sources(folder: Path = FOLDER) -> list[Path]:
    """The notebooks' sources, in the order of their numbers."""
    return sorted(folder.glob("[0-9][0-9]_*.py"))


def unexecuted(source: Path) -> nbformat.NotebookNode:
    """The notebook of a source, not executed, as `pixelprior lab` gives it to a reader,
    with the slide type of each cell."""
    notebook = lab.unexecuted(source)
    for cell, kind in zip(
        notebook.cells, slide_types(notebook.cells), strict=True
    ):
        cell.metadata["slideshow"] = {"slide_type": kind}
    return notebook


def slide_types(cells: list[nbformat.NotebookNode]) -> list[str]:
    """The slide type of each cell, for the slides that `slides/config.py` makes.

    A section begins a new slide to the right of the last section, and all other slides
    lie below it. Code after a short question appears later on the question's slide, so
    that there is time to guess. Other code has its own slide, and so has a solution.
    Imports, the check of the version and links to solutions are left out.
    """
    types, before = [], None
    for cell in cells:
        tags = cell.metadata.get("tags", [])
        if LEFT_OUT & set(tags) or _imports_alone(cell):
            kind = "skip"
        elif cell.cell_type == "markdown":
            kind = "slide" if re.match("##? ", cell.source) else "subslide"
        else:
            asked = before is not None and before.cell_type == "markdown"
            short = asked and len(before.source) < 400
            short = short and cell.source.count("\n") < 12
            kind = (
                "fragment" if short and "solution" not in tags else "subslide"
            )
        types.append(kind)
        before = cell
    return types


def _imports_alone(cell: nbformat.NotebookNode) -> bool:
    if cell.cell_type != "code":
        return False
    try:
        parts = ast.parse(cell.source).body
    except SyntaxError:  # such as a magic command
        return False
    return all(
        isinstance(part, (ast.Import, ast.ImportFrom)) for part in parts
    )


def executed(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook with its outputs, executed in a new kernel and an empty folder."""
    os.environ["PIXELPRIOR_WIDGETS"] = "off"
    os.environ["PIXELPRIOR_CHECK_FIGURES"] = "on"
    # With one thread, the outputs do not depend on the number of cores. A busy machine
    # also does not take many times as long then, as it would with threads that spin
    # while they wait.
    os.environ["OMP_NUM_THREADS"] = "1"
    metadata = copy.deepcopy(notebook.metadata)
    run = ExecutePreprocessor(
        timeout=600,
        record_timing=False,
        store_widget_state=False,
        kernel_name="python3",
    )
    with tempfile.TemporaryDirectory() as empty:
        notebook, _ = run.preprocess(notebook, {"metadata": {"path": empty}})
    notebook.metadata = metadata  # without this machine's Python
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = _joined(cell.outputs)
    return notebook


def _joined(outputs: list) -> list:
    """The outputs with each stream in one piece, however the kernel sent it."""
    joined = []
    for output in outputs:
        last = joined[-1] if joined else None
        if (
            output.output_type == "stream"
            and last is not None
            and last.output_type == "stream"
            and last.name == output.name
        ):
            last.text += output.text
        else:
            joined.append(output)
    return joined


def cover(notebook: nbformat.NotebookNode) -> bytes | None:
    """The PNG of the figure in the cell tagged "cover", or None if there is none."""
    for cell in notebook.cells:
        if "cover" in cell.metadata.get("tags", []):
            for output in cell.outputs:
                if "image/png" in (data := output.get("data", {})):
                    return base64.b64decode(data["image/png"])
    return None


def write(path: Path, content: bytes) -> None:
    """Write a file completely or not at all."""
    temporary = path.with_suffix(path.suffix + ".new")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def with_new_text(source: Path) -> nbformat.NotebookNode:
    """The notebook beside a source, with the source's text and its own outputs.

    Raises:
        FileNotFoundError: the notebook is not there.
        ValueError: a cell of code has changed since the notebook was built, or there
            are more cells or fewer.
    """
    notebook = unexecuted(source)
    built = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    pairs = zip(notebook.cells, built.cells, strict=False)
    same = len(notebook.cells) == len(built.cells) and all(
        new.cell_type == old.cell_type
        and (
            new.cell_type == "markdown"
            or (new.source, new.metadata) == (old.source, old.metadata)
        )
        for new, old in pairs
    )
    if not same:
        raise ValueError(
            f"the cells of {source.name} are not those of {source.stem}.ipynb, apart "
            f"from text; build it by python notebooks/build.py {source.stem[:2]}"
        )
    for new, old in zip(notebook.cells, built.cells, strict=True):
        if new.cell_type == "code":
            new.outputs, new.execution_count = (
                old.outputs,
                old.execution_count,
            )
    return notebook


def build(source: Path, text_alone: bool = False) -> None:
    """Write the executed notebook beside its source, and its cover figure.

    Args:
        source: the source. text_alone: keep the outputs of the built notebook.
    """
    notebook = (
        with_new_text(source) if text_alone else executed(unexecuted(source))
    )
    text = nbformat.writes(notebook) + "\n"
    write(source.with_suffix(".ipynb"), text.encode())
    if picture := cover(notebook):
        pictures = source.parent / "pictures"
        pictures.mkdir(exist_ok=True)
        write(pictures / f"{source.stem}.png", picture)


def measured(source: Path) -> int:
    """Seconds from the start of a kernel to the last output, rounded up to a multiple
    of 5."""
    started = time.perf_counter()
    executed(unexecuted(source))
    seconds = time.perf_counter() - started
    return -(-int(seconds + 1) // 5) * 5


def main() -> None:
    """Build the notebooks, or measure their times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "names", nargs="*", help="sources, such as 02; all without"
    )
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument(
        "--time", action="store_true", help="measure; write timings"
    )
    kinds.add_argument(
        "--text", action="store_true", help="new text, with the outputs kept"
    )
    arguments = parser.parse_args()
    chosen = [
        source
        for source in sources()
        if not arguments.names
        or source.name.startswith(tuple(arguments.names))
    ]
    if not chosen:
        sys.exit(
            f"no source in {FOLDER} begins with {' or '.join(arguments.names)}"
        )
    timings = json.loads(TIMINGS.read_text()) if TIMINGS.exists() else {}
    for source in chosen:
        if arguments.time:
            timings[source.stem] = measured(source)
            text = json.dumps(dict(sorted(timings.items())), indent=1) + "\n"
            write(TIMINGS, text.encode())
            print(f"{source.stem}: {timings[source.stem]} s", flush=True)
        else:
            if arguments.text:
                try:
                    build(source, text_alone=True)
                except (OSError, ValueError) as error:
                    sys.exit(str(error))
            else:
                build(source)
            print(f"{source.stem}.ipynb", flush=True)


if __name__ == "__main__":
    main()
