"""The command `lab`: the course in JupyterLab.

The reader gets a copy without outputs, so that no answer is seen before its cell is
run, and what is installed or under version control stays as it is.
"""

import importlib.metadata
import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from pixelprior.files import writable_folder

FIRST = Path("notebooks", "00_start_here.ipynb")
CHECKOUT = Path(__file__).resolve().parents[2]
PATTERNS = (
    "README.md",
    "notebooks/*.ipynb",
    "notebooks/*.md",
    "notebooks/pictures/*.png",
    "docs/*.md",
    "docs/pictures/*.svg",
    "pixelprior/assets/results/**/*.png",
    "pixelprior/assets/results/**/MODEL_CARD.md",
)


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


def course_files() -> dict[str, bytes]:
    """The files of the course by their path in it; notebooks without outputs.

    They are those of the checkout, or the data files that a wheel has installed.
    """
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
        content = path.read_bytes()
        if path.suffix == ".ipynb":
            notebook = json.loads(content)
            for cell in notebook["cells"]:
                if cell["cell_type"] == "code":
                    cell |= {"outputs": [], "execution_count": None}
            text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
            content = text.encode()
        files[path.relative_to(root).as_posix()] = content
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
