"""Make the executed notebooks from their sources: `python notebooks/build.py`.

Each NN_name.py (percent format) is turned into NN_name.ipynb by jupytext and executed
by nbconvert in a new kernel and an empty folder, without timing or widget state. Twice
in a row gives the same bytes on one machine. The figure of the cell that is tagged
"cover" goes to pictures/NN_name.png, for the README. Names of sources limit it to those.
`--time` measures instead: seconds each takes, into timings.json, with nothing else
running.
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

import jupytext
import nbformat
from nbconvert.preprocessors import ExecutePreprocessor

FOLDER = Path(__file__).resolve().parent
TIMINGS = FOLDER / "timings.json"


def sources(folder: Path = FOLDER) -> list[Path]:
    """The notebooks' sources, in the order of their numbers."""
    return sorted(folder.glob("[0-9][0-9]_*.py"))


def unexecuted(source: Path) -> nbformat.NotebookNode:
    """The notebook of a source, not executed, with the same cell names each time.

    It does not say that it is paired: JupyterLab with jupytext would then compare the
    files' times, and after a clone refuse to open it.
    """
    notebook = jupytext.read(source)
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {
                "display_name": "Python 3",
                "language": "python",
                "name": "python3",
            },
            "language_info": {"name": "python"},
        }
    )
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for number, cell in enumerate(notebook.cells, 1):
        cell.id = f"{source.stem[:2]}-{number:03d}"
        for spacing in ("lines_to_next_cell", "lines_to_end_of_cell_marker"):
            cell.metadata.pop(spacing, None)  # these vary with jupytext
    for cell, kind in zip(
        notebook.cells, slide_types(notebook.cells), strict=True
    ):
        cell.metadata["slideshow"] = {"slide_type": kind}
    return notebook


def slide_types(cells: list[nbformat.NotebookNode]) -> list[str]:
    """Where each cell goes among the slides that `slides/config.py` makes.

    A section begins to the right of the last; all else lies below. Code after a short
    question comes in on the question's slide, so that there is time to guess; other
    code has its own, and so has a solution. Imports are left out.
    """
    types, before = [], None
    for cell in cells:
        tags = cell.metadata.get("tags", [])
        if "about-solutions" in tags or _imports_alone(cell):
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
    except SyntaxError:  # a magic
        return False
    return all(
        isinstance(part, (ast.Import, ast.ImportFrom)) for part in parts
    )


def executed(source: Path) -> nbformat.NotebookNode:
    """The notebook of a source with its outputs."""
    os.environ["PIXELPRIOR_WIDGETS"] = "off"
    # One thread: the outputs do not depend on the number of cores then, and a busy
    # machine does not take many times as long (threads spin while they wait).
    os.environ["OMP_NUM_THREADS"] = "1"
    notebook = unexecuted(source)
    metadata = copy.deepcopy(notebook.metadata)
    run = ExecutePreprocessor(
        timeout=600,
        record_timing=False,
        store_widget_state=False,
        kernel_name="python3",
    )
    with tempfile.TemporaryDirectory() as empty:
        notebook, _ = run.preprocess(notebook, {"metadata": {"path": empty}})
    notebook.metadata = metadata  # nothing of this machine's Python
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = _joined(cell.outputs)
    return notebook


def _joined(outputs: list) -> list:
    """Streams in one piece, however the kernel happened to send them."""
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
    """The PNG of the figure in the cell that is tagged "cover"; None without one."""
    for cell in notebook.cells:
        if "cover" in cell.metadata.get("tags", []):
            for output in cell.outputs:
                html = output.get("data", {}).get("text/html", "")
                if found := re.search(r"base64,([^\"]+)", html):
                    return base64.b64decode(found[1])
    return None


def write(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all."""
    temporary = path.with_suffix(path.suffix + ".new")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def build(source: Path) -> None:
    """Write the executed notebook beside its source, and its cover."""
    notebook = executed(source)
    text = nbformat.writes(notebook) + "\n"
    write(source.with_suffix(".ipynb"), text.encode())
    if picture := cover(notebook):
        pictures = source.parent / "pictures"
        pictures.mkdir(exist_ok=True)
        write(pictures / f"{source.stem}.png", picture)


def measured(source: Path) -> int:
    """Seconds from the start of a kernel to the last output, rounded up to fives."""
    started = time.perf_counter()
    executed(source)
    seconds = time.perf_counter() - started
    return -(-int(seconds + 1) // 5) * 5


def main() -> None:
    """Build the notebooks, or measure their times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "names", nargs="*", help="sources, such as 02; all without"
    )
    parser.add_argument(
        "--time", action="store_true", help="measure; write timings"
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
            build(source)
            print(f"{source.stem}.ipynb", flush=True)


if __name__ == "__main__":
    main()
