"""Writing files and folders completely or not at all: temporary names, then renames.

Nothing here depends on what is written. Checkpoints are in `checkpoints.py`, and what a
training run keeps is in `runs.py`.
"""

import contextlib
import hashlib
import os
import re
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


SUMS_NAME = "SHA256SUMS"


def write_checksum(path: Path) -> None:
    """Write the checksum of a file into `SHA256SUMS` beside it."""
    # As bytes, since `sha256sum` takes no line ends of Windows.
    path.with_name(SUMS_NAME).write_bytes(f"{sha256_of(path)}  {path.name}\n".encode())


def check_checksum(path: Path, sums: Path | None = None) -> None:
    """Compare a file with its checksum, if there is one.

    Args:
        path: the file.
        sums: the file of checksums; None for that beside the file.

    Raises:
        ValueError: the file is not the one that was written, or the file of checksums
            has none for it.
    """
    sums = sums or path.with_name(SUMS_NAME)
    # A training may put new files in place between the two readings, but not twice.
    if not any(_agree(path, sums) for _ in range(2)):
        raise ValueError(
            f"{path} is not the file that was written (its SHA-256 is not in "
            f"{SUMS_NAME}): it is damaged or was replaced; copy both files again, or "
            f"remove {SUMS_NAME} if you replaced the weights yourself"
        )


def _agree(path: Path, sums: Path) -> bool:
    try:
        text = sums.read_bytes().decode("utf-8", "replace")
    except FileNotFoundError:  # weights of another program, or of an earlier release
        return True
    lines = re.findall(r"^([0-9a-fA-F]{64}) [ *](.+?)\r?$", text, re.MULTILINE)
    found = [digest.lower() for digest, name in lines if name == path.name]
    return sha256_of(path) in found


def write_tensors(tensors: dict, path: Path, metadata: dict[str, str]) -> None:
    """Write a safetensors file with the permissions that the umask allows.

    The library makes its files readable for their owner only, so that nobody else could
    use them in a shared folder.
    """
    # Here, so that `--help` does not load torch.
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
