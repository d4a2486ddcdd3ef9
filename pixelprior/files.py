"""Writing files and folders completely or not at all: temporary names, then renames.

Nothing here depends on what is written. Checkpoints are in `checkpoints.py`, and what a
training run keeps is in `runs.py`.
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
from pathlib import Path


def writable_folder(path) -> Path:
    """Create a folder if it is absent, and check that a file can be written in it.

    Raises:
        OSError: the folder cannot be created or written to; the message names the
            folder and the remedy.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(
            f"cannot write to the folder {folder} ({error.strerror or error}); "
            "choose another folder, or ask for permission to write there"
        ) from error
    return folder


def check_apart(output: Path, own: tuple[str, ...], roots: list[Path]) -> None:
    """Raise ValueError if a folder that is read has the output in it, or lies in one of
    the folders `own`.

    Args:
        output: the folder to write to. own: names of the folders in it that are written
            and removed.
        roots: the folders that are read.
    """
    for root in roots:
        inside = [output, *(output / name for name in own)]
        # Links in a circle have a real path too, and are refused when they are opened.
        read, *written = (Path(os.path.realpath(each)) for each in (root, *inside))
        if any(each.is_relative_to(read) for each in written) or any(
            read.is_relative_to(each) for each in written[1:]
        ):
            raise ValueError(
                f"files would be written to {output}, which is not apart from {root}, "
                "whose files are read; choose another --output_dir"
            )


def write_texts(folder: Path, texts: dict[str, str]) -> None:
    """Write files by name into a folder; each is put in place when it is complete."""
    with temporary_folder(folder) as temporary:
        for name, text in texts.items():
            (temporary / name).write_text(text + "\n", encoding="utf-8")
            os.replace(temporary / name, Path(folder) / name)


def sha256_of(path) -> str:
    """The SHA-256 of a file of any size, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


UNFINISHED = ".writing-"


@contextlib.contextmanager
def temporary_folder(inside):
    """A new hidden folder in `inside`, removed with all its contents at the end."""
    folder = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=inside))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_unfinished(inside: Path) -> None:
    """Remove the temporary folders that a killed process left in a folder."""
    for folder in inside.glob(f"{UNFINISHED}*"):
        shutil.rmtree(folder, ignore_errors=True)


def swap_folder(new: Path, target: Path) -> None:
    """Replace the folder `target` with the finished folder `new`.

    The old folder is moved aside until the new one is in place. If the machine stops in
    between, `recover_folder` finds the old folder where it was moved to.
    """
    aside = _aside(target)
    recover_folder(target)
    if target.exists():
        os.rename(target, aside)
    try:
        os.rename(new, target)
    except OSError:
        if aside.exists():
            os.rename(aside, target)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def recover_folder(target: Path) -> None:
    """Undo a `swap_folder` that was interrupted between its two renames."""
    aside = _aside(target)
    if aside.exists():
        if target.exists():
            shutil.rmtree(aside)
        else:
            os.rename(aside, target)


def _aside(target: Path) -> Path:
    return target.with_name(f".{target.name}.previous")
