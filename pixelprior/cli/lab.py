"""The command `lab`: the course in JupyterLab.

The reader gets a copy without outputs, so that no answer is seen before its cell is
run, and what is installed or under version control stays as it is.
"""

import importlib.metadata
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from pixelprior.assets import FOLDER
from pixelprior.files import writable_folder

FIRST = Path("notebooks", "00_start_here.py")
CHECKOUT = Path(__file__).resolve().parents[2]
PATTERNS = (
    "README.md",
    "notebooks/[0-9]*.py",
    "notebooks/*.md",
    "notebooks/pictures/*.png",
    "docs/*.md",
    "docs/pictures/*.svg",
)
OF_PACKAGE = ("results/**/*.png", "results/**/MODEL_CARD.md")  # beside the weights
PYTHON = {"display_name": "Python 3", "language": "python", "name": "python3"}


@dataclass(kw_only=True)
class Lab:
    """Open a copy of the course in JupyterLab, without outputs. What you have changed
    in the copy stays."""

    notebook: tyro.conf.Positional[str] = "00"
    """Number or name of the notebook to open."""
    folder: Path | None = None
    """Folder for the copy. If it is left out, a copy in this folder is opened where it
    is; otherwise the course is copied to ./pixelprior_course."""
    copy_only: bool = False
    """Copy the course, and open nothing."""

    def run(self) -> None:
        here = FIRST.with_suffix(".ipynb").is_file() and Path.cwd() != CHECKOUT
        folder = self.folder or Path("." if here else "pixelprior_course")
        folder = writable_folder(folder).resolve()
        copy_course(folder)
        found = sorted(folder.glob("notebooks/[0-9]*.ipynb"))
        start = self.notebook.zfill(2) if self.notebook.isdigit() else self.notebook
        fitting = [path for path in found if path.name.startswith(start)]
        if len(fitting) != 1:
            raise ValueError(
                f"{len(fitting)} notebooks begin with {start!r}; give one of "
                f"{', '.join(path.stem for path in found)}, or its number"
            )
        print(f"the course is in {folder / 'notebooks'}", flush=True)
        if not self.copy_only:
            raise SystemExit(open_lab(*fitting))


def open_lab(notebook: Path) -> int:
    """Run JupyterLab until it is stopped; Ctrl-C is left to it.

    The folder above `notebooks` is its root, so that links to `../README.md` work.
    """
    root = f"--ServerApp.root_dir={notebook.parent.parent}"
    command = [sys.executable, "-m", "jupyterlab", root, str(notebook)]
    with subprocess.Popen(command) as opened:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return opened.wait()


def unexecuted(source: Path):
    """The notebook of a source, not executed, with the same cell ids each time.

    The notebook does not say that it is paired with its source. Otherwise, JupyterLab
    with jupytext would compare the files' times and, after a clone, refuse to open it.
    """
    import jupytext
    import nbformat

    notebook = jupytext.read(source)
    of_kernel = {"kernelspec": PYTHON, "language_info": {"name": "python"}}
    notebook.metadata = nbformat.from_dict(of_kernel)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for number, cell in enumerate(notebook.cells, 1):
        cell.id = f"{source.stem[:2]}-{number:03d}"
        for spacing in ("lines_to_next_cell", "lines_to_end_of_cell_marker"):
            cell.metadata.pop(spacing, None)  # jupytext versions differ
    return notebook


def course_files() -> dict[str, bytes]:
    """The files of the course by their path in it; notebooks are made of their sources.

    They are those of the checkout, or the data files that a wheel has installed, and
    pictures and model cards of the package.
    """
    import nbformat

    root = CHECKOUT
    if not (root / FIRST).is_file():
        installed = importlib.metadata.files("pixelprior") or []
        path = f"share/pixelprior/{FIRST.as_posix()}"
        found = [file.locate() for file in installed if file.match(path)]
        if not found:
            raise FileNotFoundError(
                "this installation has no notebooks; get a checkout of the repository, "
                "or install a wheel of pixelprior"
            )
        root = Path(found[0]).parents[1]
    files = {}
    for path in (path for pattern in PATTERNS for path in root.glob(pattern)):
        name, content = path.relative_to(root), path.read_bytes()
        if path.suffix == ".py":
            name = name.with_suffix(".ipynb")
            content = (nbformat.writes(unexecuted(path)) + "\n").encode()
        files[name.as_posix()] = content
    for path in (path for pattern in OF_PACKAGE for path in FOLDER.glob(pattern)):
        name = Path("pixelprior", "assets", path.relative_to(FOLDER))
        files[name.as_posix()] = path.read_bytes()
    return files


def copy_course(folder: Path) -> None:
    """Copy the files that are not in the folder yet; what is there is the reader's."""
    differ = 0
    for name, content in course_files().items():
        target = folder / name
        if target.exists():
            differ += target.read_bytes() != content
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(f".{target.name}")
        unfinished.write_bytes(content)
        unfinished.replace(target)
    if differ:
        print(
            f"files that are not as installed, and stay as they are: {differ}; give a "
            "new --folder for a fresh copy"
        )
