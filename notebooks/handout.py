"""Make the notebooks without solutions: `python notebooks/handout.py`.

The notebooks are written to handout/ beside notebooks/, or to the folder that is named,
together with the pages to which they link. All else is as in the executed notebooks:
text, figures, exercises and the output of stubs. `--without_outputs` leaves the outputs
out as well, for a room that is to guess before it sees a figure. It needs nothing but
what comes with the package.
"""

import argparse
import shutil
import sys
from pathlib import Path

import nbformat

from pixelprior.files import write_texts

FOLDER = Path(__file__).resolve().parent
LEFT_OUT = {"solution", "about-solutions"}
COMPANIONS = ("GLOSSARY.md", "QUESTIONS.md", "ANSWERS.md")


def without_solutions(
    notebook: nbformat.NotebookNode,
) -> nbformat.NotebookNode:
    """The notebook without its solutions, with its executions renumbered."""
    notebook.cells = [
        cell
        for cell in notebook.cells
        if not LEFT_OUT & set(cell.metadata.get("tags", []))
    ]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for number, cell in enumerate(code, 1):
        cell.execution_count = number
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = number
    return notebook


def without_outputs(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook as if it had never been run."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


def make(folder: Path, *, outputs: bool = True) -> list[Path]:
    """Write the handouts of all notebooks to the folder, with outputs or without.

    Raises:
        ValueError: the folder is that of the notebooks themselves.
    """
    if folder.resolve() == FOLDER:
        raise ValueError(
            f"{folder} holds the notebooks with their solutions, which would be "
            "lost; name another folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    texts = {}
    for path in sorted(FOLDER.glob("[0-9][0-9]_*.ipynb")):
        notebook = without_solutions(nbformat.read(path, as_version=4))
        if not outputs:
            notebook = without_outputs(notebook)
        texts[path.name] = nbformat.writes(notebook)
    write_texts(folder, texts)
    for name in COMPANIONS:
        shutil.copyfile(FOLDER / name, folder / name)
    return [folder / name for name in texts]


def main() -> None:
    """Make the handouts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "folder", nargs="?", type=Path, default=FOLDER.parent / "handout"
    )
    parser.add_argument("--without_outputs", action="store_true")
    arguments = parser.parse_args()
    try:
        paths = make(arguments.folder, outputs=not arguments.without_outputs)
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    print(
        f"wrote {len(paths)} notebooks without solutions to {paths[0].parent}"
    )


if __name__ == "__main__":
    main()
