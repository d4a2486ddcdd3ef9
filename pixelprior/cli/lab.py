"""The command `lab`: the course in JupyterLab.

The reader gets a copy without outputs, so that no answer is seen before its cell is
run, and what is installed or under version control stays as it is.
"""

import contextlib
import importlib.metadata
import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from pixelprior.files import remove_unfinished, temporary_folder, writable_folder

FIRST = Path("notebooks", "00_start_here.ipynb")
CHECKOUT = Path(__file__).resolve().parents[2]
PATTERNS = ("README.md", "notebooks/*.ipynb", "notebooks/*.md", "docs/*.md")
PATTERNS += ("notebooks/pictures/*.png", "docs/pictures/*.svg")
RESULTS = "pixelprior/assets/results"
PATTERNS += (f"{RESULTS}/*.png", f"{RESULTS}/MODEL_CARD.md")
PATTERNS += (f"{RESULTS}/cifar10/*.png", f"{RESULTS}/cifar10/MODEL_CARD.md")


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
        here = FIRST.is_file() and Path.cwd() != CHECKOUT
        folder = self.folder or Path("." if here else "pixelprior_course")
        folder = writable_folder(folder).resolve()
        copy_course(folder)
        notebook = chosen(folder / "notebooks", self.notebook)
        print(f"the course is in {folder / 'notebooks'}", flush=True)
        if not self.copy_only:
            raise SystemExit(open_lab(notebook))


def open_lab(notebook: Path) -> int:
    """Run JupyterLab until it is stopped; Ctrl-C is left to it.

    The folder above `notebooks` is its root, so that links to `../README.md` work.
    """
    root = f"--ServerApp.root_dir={notebook.parent.parent}"
    command = [sys.executable, "-m", "jupyterlab", root, str(notebook)]
    with subprocess.Popen(command) as opened:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return opened.wait()


def course_root() -> Path:
    """The checkout, or the folder of the data files that a wheel has installed."""
    if (CHECKOUT / FIRST).is_file():
        return CHECKOUT
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.files("pixelprior") or ():
            if file.match(f"share/pixelprior/{FIRST.as_posix()}"):
                return Path(file.locate()).parents[1]
    raise FileNotFoundError(
        "this installation has no notebooks; get a checkout of the repository, or "
        "install a wheel of pixelprior"
    )


def course_files() -> dict[str, bytes]:
    """The files of the course by their path in it; notebooks without outputs."""
    root = course_root()
    found = [path for pattern in PATTERNS for path in root.glob(pattern)]
    files = {path.relative_to(root).as_posix(): path.read_bytes() for path in found}
    for name in files:
        if name.endswith(".ipynb"):
            notebook = json.loads(files[name])
            for cell in notebook["cells"]:
                if cell["cell_type"] == "code":
                    cell |= {"outputs": [], "execution_count": None}
            text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
            files[name] = text.encode()
    return files


def copy_course(folder: Path) -> None:
    """Copy the files that are not in the folder yet; what is there is the reader's."""
    differ = 0
    remove_unfinished(folder)
    with temporary_folder(folder) as hidden:
        for name, content in course_files().items():
            target = folder / name
            if target.exists():
                differ += target.read_bytes() != content
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            (hidden / target.name).write_bytes(content)
            (hidden / target.name).replace(target)
    if differ:
        print(
            f"files that are not as installed, and stay as they are: {differ}; give a "
            "new --folder for a fresh copy"
        )


def chosen(notebooks: Path, start: str) -> Path:
    """The notebook whose name begins with `start`."""
    found = sorted(notebooks.glob("[0-9]*.ipynb"))
    start = start.zfill(2) if start.isdigit() else start
    fitting = [path for path in found if path.name.startswith(start)]
    if len(fitting) != 1:
        raise ValueError(
            f"{len(fitting)} notebooks begin with {start!r}; give one of "
            f"{', '.join(path.stem for path in found)}, or its number"
        )
    return fitting[0]
