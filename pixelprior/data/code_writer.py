"""A file of codes that is written part by part, by one process or by several.

The file is a safetensors file with room for all codes from the start, under a temporary
name. Each part of it, the codes of some hundred images, is written in its place and
then marked as done after the codes, so that a run that was stopped goes on with the
parts that are missing, and no codes have to fit into memory. When no part is missing,
the file is given a second name, under which the marks are cut off, and then its own.
Which process writes a part does not change the file.
"""

import contextlib
import json
import math
import os
from pathlib import Path

import torch
from torch import Tensor

from pixelprior.files import temporary_folder, writable_folder

PART = 1024  # images per part
NAMES_OF_TYPES = {
    torch.uint8: "U8",
    torch.int16: "I16",
    torch.int32: "I32",
    torch.int64: "I64",
}


class CodeWriter:
    """A safetensors file of given tensors, whose first axis is divided into parts.

    One process calls `prepare` before any process writes, and `finish` when all have
    written.

    Args:
        path: the file. While it is unfinished, `path.unfinished` is there instead; it
            ends with one byte per part, 1 if the part is done and 0 if not. When all
            are done, and until they are cut off, it is `path.written`.
        tensors: type and shape of each tensor by name; all have the same length N.
        metadata: of the file. Another file's parts are not taken over.
        go_on: words for errors: how the work is continued.
    """

    def __init__(
        self,
        path,
        tensors: dict,
        metadata: dict[str, str],
        go_on: str = "start the command again: it goes on here",
    ):
        self.path, self.part, self.go_on = Path(path), PART, go_on
        self.unfinished = self.path.with_name(f"{self.path.name}.unfinished")
        self.written = self.path.with_name(f"{self.path.name}.written")
        # Larger types first, so that each tensor starts at a multiple of its type.
        named = sorted(tensors.items(), key=lambda each: (-each[1][0].itemsize, each))
        about: dict = {"__metadata__": metadata}
        self.rows: dict[str, tuple[int, int]] = {}  # where each starts, bytes per row
        end = 0
        for name, (dtype, shape) in named:
            self.count = shape[0]
            start, row = end, dtype.itemsize * math.prod(shape[1:])
            end += row * self.count
            about[name] = {
                "dtype": NAMES_OF_TYPES[dtype],
                "shape": list(shape),
                "data_offsets": [start, end],
            }
            self.rows[name] = (start, row)
        text = json.dumps(about).encode()
        text += b" " * (-len(text) % 8)
        self.header = len(text).to_bytes(8, "little") + text
        self.size = len(self.header) + end
        self.parts = math.ceil(self.count / PART)

    def prepare(self) -> None:
        """Take up an unfinished file of the same header, or begin a new one."""
        if self._can_go_on():
            return
        folder = writable_folder(self.path.parent)
        with self._writing(), temporary_folder(folder) as temporary:
            (temporary / "file").write_bytes(self.header)
            os.truncate(temporary / "file", self.size + self.parts)
            self.written.unlink(missing_ok=True)  # of another file
            os.replace(temporary / "file", self.unfinished)

    def _can_go_on(self) -> bool:
        whole = self.size + self.parts
        if self.unfinished.is_file():
            return self._has(self.unfinished, (whole,))
        return self._has(self.written, (self.size, whole))

    def _has(self, path: Path, sizes: tuple[int, ...]) -> bool:
        """Whether there is such a file, of this header and of one of these sizes."""
        if not path.is_file() or path.stat().st_size not in sizes:
            return False
        with open(path, "rb") as file:
            return file.read(len(self.header)) == self.header

    def missing(self) -> list[int]:
        """The numbers of the parts that are not done yet."""
        if not self.unfinished.is_file():
            if self.written.is_file():
                return []
            raise OSError(
                f"{self.unfinished} was begun by another process, but is not there; "
                "give all processes the same --output_dir, on a disk that all of them "
                "see"
            )
        with open(self.unfinished, "rb") as file:
            file.seek(self.size)
            return [number for number, mark in enumerate(file.read()) if not mark]

    def images(self, number: int) -> slice:
        """The images of a part."""
        start = number * self.part
        return slice(start, min(start + self.part, self.count))

    def write(self, number: int, tensors: dict[str, Tensor]) -> None:
        """Write a part: the rows of each tensor for its images, in the file's types."""
        first = self.images(number).start
        with self._writing(), _open_to_write(self.unfinished) as file:
            for name, tensor in tensors.items():
                start, row = self.rows[name]
                file.seek(len(self.header) + start + first * row)
                file.write(tensor.cpu().contiguous().numpy().tobytes())
            file.flush()
            os.fsync(file.fileno())  # the mark must not reach the disk before it
            file.seek(self.size + number)
            file.write(b"\1")

    def finish(self) -> None:
        """Give the file its name, when every part is done."""
        if missing := self.missing():
            raise OSError(
                f"{len(missing)} of {self.parts} parts of {self.unfinished} were not "
                "written; give all processes the same --output_dir, on a disk that all "
                f"of them see, and {self.go_on}"
            )
        with self._writing():
            if self.unfinished.is_file():
                os.replace(self.unfinished, self.written)
            os.truncate(self.written, self.size)
            os.replace(self.written, self.path)

    @contextlib.contextmanager
    def _writing(self):
        """An error in here names the file and the remedy."""
        try:
            yield
        except OSError as error:
            raise OSError(
                f"cannot write {self.path} ({error.strerror or error}); make "
                "room on the disk, or ask for permission to write there, and "
                f"{self.go_on}"
            ) from error


def _open_to_write(path: Path):
    """A file to be written within, and not read.

    On a network disk a file that is open for both would be read and written back page
    by page, together with what another machine has written there meanwhile.
    """
    return open(os.open(path, os.O_WRONLY | getattr(os, "O_BINARY", 0)), "wb")
