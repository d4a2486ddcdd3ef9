"""Writing files and folders completely or not at all: temporary names, then renames.

Nothing here depends on what is written, and nothing loads torch, for `--help`.
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
from pathlib import Path


def writable_folder(path) -> Path:
    """Create a folder if it is absent, and check that a file can be written in it."""
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
    """Raise ValueError if one of the folders `roots`, which are read, has `output` in
    it, or lies in one of its folders `own`, which are written and removed."""
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
    """The SHA-256 of a file of any size, or of all in a folder, in hexadecimal."""
    path, digest = Path(path), hashlib.sha256()
    for each in sorted(path.iterdir()) if path.is_dir() else [path]:
        with open(each, "rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()


def write_tensors(tensors: dict, path: Path, metadata: dict[str, str]) -> None:
    """Write a safetensors file with the permissions that the umask allows; the library
    makes its files readable for their owner only, of no use in a shared folder."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(tensors, path, metadata=metadata)
    except SafetensorError as error:  # the library raises it when the disk is full
        raise OSError(
            f"cannot write {path.name} ({error}); make room on the disk"
        ) from error
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(0o666 & ~umask)


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

    The old folder is moved aside until then; if the machine stops in between,
    `recover_folder` puts it back at the next start.
    """
    recover_folder(target)
    if target.exists():
        os.rename(target, _aside(target))
    try:
        os.rename(new, target)
    finally:
        recover_folder(target)


def recover_folder(target: Path) -> None:
    """End a `swap_folder`, or undo it if it was stopped between its two renames."""
    aside = _aside(target)
    if aside.exists() and target.exists():
        shutil.rmtree(aside)
    elif aside.exists():
        os.rename(aside, target)


def _aside(target: Path) -> Path:
    return target.with_name(f".{target.name}.previous")
