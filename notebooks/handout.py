"""Make the notebooks without solutions: `python notebooks/handout.py`.

The notebooks are written to handout/ beside notebooks/, or to the folder that is named,
together with the glossary and the index of questions to which they link. Everything
else is as in the executed notebooks: text, figures, exercises and the output of stubs.
"""

import argparse
import shutil
import sys
from pathlib import Path

import nbformat
from build import FOLDER, sources, write

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


def make(folder: Path) -> list[Path]:
    """Write the handouts of all notebooks to the folder.

    Raises:
        ValueError: the folder is that of the notebooks themselves.
    """
    if folder.resolve() == FOLDER:
        raise ValueError(
            f"{folder} holds the notebooks with their solutions, which would be "
            "lost; name another folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for source in sources():
        notebook = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
        text = nbformat.writes(without_solutions(notebook)) + "\n"
        paths.append(folder / f"{source.stem}.ipynb")
        write(paths[-1], text.encode())
    for name in COMPANIONS:
        shutil.copyfile(FOLDER / name, folder / name)
    return paths


def main() -> None:
    """Make the handouts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "folder", nargs="?", type=Path, default=FOLDER.parent / "handout"
    )
    try:
        paths = make(parser.parse_args().folder)
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    print(
        f"wrote {len(paths)} notebooks without solutions to {paths[0].parent}"
    )


if __name__ == "__main__":
    main()
