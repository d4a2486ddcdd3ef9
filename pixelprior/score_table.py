"""A table of scores as a CSV file that is written batch by batch.

While it is unfinished it has another name, and a run that was stopped goes on after its
last whole line.
"""

import csv
import io
import os
from pathlib import Path

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

    def start(self) -> None:
        """Write a table without lines."""
        self._write([], anew=True)

    def resume(self) -> list[dict[str, str]]:
        """The whole lines of a run that was stopped, and of no others.

        Lines from the first on that is damaged or of another image are removed.
        """
        if self.path.is_file():
            os.replace(self.path, self.unfinished)
        text = ""
        if self.unfinished.is_file():
            text = self.unfinished.read_bytes().decode(errors="surrogateescape")
        text = text[: text.rfind("\n") + 1]  # a last line without its end is cut short
        rows: list[dict[str, str]] = []
        lines = csv.DictReader(io.StringIO(text, newline=""))
        for name, row in zip(self.names, lines, strict=False):
            if tuple(row) != COLUMNS or None in row.values() or row["path"] != name:
                break
            rows.append(row)
        self._write(rows, anew=True)
        return rows

    def add(self, rows: list[dict[str, str]]) -> None:
        """Add lines at the end.

        Raises:
            OSError: the file cannot be written, such as on a full disk.
        """
        self._write(rows, anew=False)

    def finish(self) -> None:
        """Give the file its name."""
        os.replace(self.unfinished, self.path)

    def _write(self, rows, anew: bool) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        if anew:
            writer.writeheader()
        writer.writerows(rows)
        try:
            with self.unfinished.open("wb" if anew else "ab") as file:
                file.write(text.getvalue().encode(errors="surrogateescape"))
        except OSError as error:
            raise OSError(f"{error}; go on with --resume") from error
