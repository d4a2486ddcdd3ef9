"""A table of scores as a CSV file that is written batch by batch.

While it is unfinished it has another name, and a run that was stopped goes on after its
last whole line.
"""

import csv
import io
import os
from pathlib import Path

from pixelprior.files import temporary_folder

COLUMNS = ("path", "score", "p_value", "flagged", "flagged_share", "problem")


def line(path: str, **texts: str) -> dict[str, str]:
    """A line of the table; columns that are not given are empty."""
    return dict.fromkeys(COLUMNS, "") | {"path": path} | texts


class ScoreTable:
    """The lines of the table, in the order of the images.

    Args:
        path: the file. While it is unfinished, `path.unfinished` is there instead.
        names: the path of each image.
    """

    def __init__(self, path: Path, names: list[str]):
        self.path, self.names = path, names
        self.unfinished = path.with_name(f"{path.name}.unfinished")

    def start(self) -> list[dict[str, str]]:
        """Write a table without lines, and return these."""
        self._replace([])
        return []

    def resume(self) -> list[dict[str, str]]:
        """Open the table of a run that was stopped, or that is finished.

        Returns:
            The lines of the first images. From the first on that is cut short or
            damaged, or is of another image, lines are removed.
        """
        path = self.path if self.path.is_file() else self.unfinished
        content = path.read_bytes() if path.is_file() else b""
        header = _as_text([], header=True)
        if not content.startswith(header) and not header.startswith(content):
            raise ValueError(
                f"{path} does not begin with the columns {', '.join(COLUMNS)}; put it "
                "back as it was, or start again without --resume"
            )
        text = content[: content.rfind(b"\n") + 1].decode(errors="surrogateescape")
        lines = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        rows: list[dict[str, str]] = []
        try:
            for name, row in zip(self.names, lines, strict=False):
                fits = tuple(row) == COLUMNS and None not in row.values()
                if not fits or row["path"] != name:
                    break
                rows.append(row)
        except csv.Error:  # cut short within a text that has several lines
            pass
        if path == self.path and path.is_file():
            os.replace(path, self.unfinished)
        if _as_text(rows, header=True) != content:
            self._replace(rows)
        return rows

    def add(self, rows: list[dict[str, str]]) -> None:
        """Add lines at the end."""
        try:
            with self.unfinished.open("ab") as file:
                file.write(_as_text(rows))
        except OSError as error:
            told = OSError(f"{error}; go on with --resume")
            told.errno = error.errno
            raise told from error

    def finish(self) -> None:
        """Give the file its name."""
        os.replace(self.unfinished, self.path)

    def _replace(self, rows: list[dict[str, str]]) -> None:
        """Write the table anew; until it is complete, the old one stays."""
        with temporary_folder(self.path.parent) as temporary:
            (temporary / self.path.name).write_bytes(_as_text(rows, header=True))
            os.replace(temporary / self.path.name, self.unfinished)


def _as_text(rows: list[dict[str, str]], header: bool = False) -> bytes:
    """Lines of the table. All is in quotation marks, since releases of Python differ
    in what they put there."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, quoting=csv.QUOTE_ALL, lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode(errors="surrogateescape")
