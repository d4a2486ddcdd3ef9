"""The command `lab`: the course in JupyterLab.

In a checkout the notebooks are opened where they are. A wheel has them among its data
files; they are copied to a folder of the reader's first, because what is installed is
not there to be written in.
"""

import importlib.metadata
import importlib.util
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import tyro

from pixelprior.files import remove_unfinished, temporary_folder, writable_folder

SHARED = ("share", "pixelprior")  # where a wheel puts the files of the course
FIRST = Path("notebooks", "00_start_here.ipynb")
CHECKOUT = Path(__file__).resolve().parents[2]
PATTERNS = (
    "README.md",
    "notebooks/*.ipynb",
    "notebooks/*.md",
    "notebooks/pictures/*.png",
    "docs/*.md",
    "docs/pictures/*.svg",
    "pixelprior/assets/results/*.png",
    "pixelprior/assets/results/MODEL_CARD.md",
    "pixelprior/assets/results/cifar10/*.png",
    "pixelprior/assets/results/cifar10/MODEL_CARD.md",
)


@dataclass(kw_only=True)
class Lab:
    """Open the course in JupyterLab. Outside a checkout, the notebooks are copied to a
    folder of your own first; what you have changed there stays."""

    notebook: tyro.conf.Positional[str] = "00"
    """Number or name of the notebook to open."""
    folder: Path | None = None
    """Folder for the course. If it is left out, a course in this folder or in a
    checkout is opened where it is; otherwise it is copied to ./pixelprior_course."""
    copy_only: bool = False
    """Copy the course, and open nothing."""

    def run(self) -> None:
        if importlib.util.find_spec("jupyterlab") is None and not self.copy_only:
            raise ValueError(
                "JupyterLab is not installed in this environment; pip install "
                "jupyterlab brings it"
            )
        here = [folder for folder in (Path(), CHECKOUT) if (folder / FIRST).is_file()]
        if self.folder is None and here and not self.copy_only:
            folder = here[0].resolve()
        else:
            folder = writable_folder(self.folder or Path("pixelprior_course"))
            copy_course(folder, course_files())
        notebook = chosen(folder / "notebooks", self.notebook)
        print(f"the course is in {folder / 'notebooks'}", flush=True)
        if not self.copy_only:
            raise SystemExit(open_lab(notebook))


def open_lab(notebook: Path) -> int:
    """Run JupyterLab until it is stopped; Ctrl-C is left to it.

    The folder above `notebooks` is its root, so that links to `../README.md` work.
    """
    root = f"--ServerApp.root_dir={notebook.parent.parent}"
    with subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", root, str(notebook)]
    ) as opened:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return opened.wait()


def course_files() -> dict[PurePosixPath, Path]:
    """The files of the course, by their path in its folder."""
    if (CHECKOUT / FIRST).is_file():
        found = [path for pattern in PATTERNS for path in CHECKOUT.glob(pattern)]
        return {PurePosixPath(p.relative_to(CHECKOUT).as_posix()): p for p in found}
    try:
        listed = importlib.metadata.files("pixelprior") or ()
    except importlib.metadata.PackageNotFoundError:
        listed = ()
    installed = {}
    for path in listed:
        parts = path.parts
        for i in range(len(parts) - 2):
            if parts[i : i + 2] == SHARED:
                installed[PurePosixPath(*parts[i + 2 :])] = Path(path.locate())
    if not installed:
        raise FileNotFoundError(
            "this installation has no notebooks; get a checkout of the repository, or "
            "install a wheel of pixelprior"
        )
    return installed


def copy_course(folder: Path, files: dict[PurePosixPath, Path]) -> None:
    """Copy the files that are not in the folder yet; what is there is the reader's."""
    differ = 0
    remove_unfinished(folder)
    with temporary_folder(folder) as hidden:
        for name, source in files.items():
            target = folder / name
            if target.exists():
                differ += target.read_bytes() != source.read_bytes()
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, hidden / target.name)
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
