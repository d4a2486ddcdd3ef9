"""Checksums of weights, in a file `SHA256SUMS` beside them, as `sha256sum` writes it.

Bits that have flipped on a disk or in a download leave a file that can still be read,
with weights that are wrong. The checksum shows it.
"""

import re
from pathlib import Path

from pixelprior.files import sha256_of

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
