"""The command `lab`: the course in JupyterLab.

In a checkout the notebooks are opened where they are. A wheel has them among its data
files; they are copied to a folder of the reader's first, because what is installed is
not there to be written in.
"""

import importlib.metadata
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath

from pixelprior.cli.flags import Lab
from pixelprior.files import writable_folder

SHARED = ("share", "pixelprior")  # where a wheel puts the files of the course
OURS = Path("notebooks", "00_start_here.ipynb")


def lab(flags: Lab) -> None:
    if importlib.util.find_spec("jupyterlab") is None and not flags.copy_only:
        raise ValueError(
            "JupyterLab is not installed in this environment; pip install jupyterlab "
            "brings it"
        )
    folder = flags.folder
    checkout = Path(__file__).resolve().parents[2]
    if folder is None and (checkout / OURS).is_file() and not flags.copy_only:
        folder = checkout
    else:
        folder = writable_folder(folder or Path("pixelprior_course"))
        copy_course(folder, course_files())
    notebook = chosen(folder / "notebooks", flags.notebook)
    print(f"the course is in {folder / 'notebooks'}")
    if flags.copy_only:
        return
    command = [sys.executable, "-m", "jupyter", "lab", str(notebook)]
    raise SystemExit(subprocess.run(command).returncode)


def course_files() -> dict[PurePosixPath, Path]:
    """The files of the course, by their path in its folder.

    Raises:
        FileNotFoundError: the package has neither a checkout nor data files.
    """
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / OURS).is_file():
        found = [checkout / "README.md"]
        for pattern in ("notebooks/*.ipynb", "notebooks/*.md", "docs/*.md"):
            found += checkout.glob(pattern)
        for pattern in ("notebooks/pictures/*.png", "docs/pictures/*.svg"):
            found += checkout.glob(pattern)
        return {
            PurePosixPath(path.relative_to(checkout).as_posix()): path for path in found
        }
    installed = {}
    for path in importlib.metadata.files("pixelprior") or ():
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
    kept = 0
    for name, source in files.items():
        target = folder / name
        if target.exists():
            kept += target.read_bytes() != source.read_bytes()
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(f".{target.name}.unfinished")
        shutil.copyfile(source, unfinished)
        unfinished.replace(target)
    if kept:
        files_are = "file is" if kept == 1 else "files are"
        print(
            f"{kept} {files_are} not as installed, and left as they are; give a new "
            "--folder for a fresh copy"
        )


def chosen(notebooks: Path, start: str) -> Path:
    """The notebook whose name begins with `start`.

    Raises:
        ValueError: there is none, or more than one.
    """
    found = sorted(notebooks.glob("[0-9]*.ipynb"))
    fitting = [path for path in found if path.name.startswith(start)]
    if len(fitting) != 1:
        raise ValueError(
            f"{len(fitting)} notebooks begin with {start!r}; give one of "
            f"{', '.join(path.stem for path in found)}, or its number"
        )
    return fitting[0]
