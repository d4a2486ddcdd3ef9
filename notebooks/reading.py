"""How many minutes the course takes: `python notebooks/reading.py` prints them.

Each section is marked *Core* or *Further* below its heading. The minutes are an estimate
at the speed of a learner, the same everywhere: 120 words of prose per minute, 9 seconds
per line of code, 45 seconds per figure and 30 seconds per displayed equation. *Your
turn* cells and exercises state their own minutes. Links to other pages, and the first
cell of code, which is the same in all notebooks, are counted in none. With `--write`, the minutes in the
marks and heads of the sources are brought up to date; then the notebooks have to be
built again.
"""

import argparse
import re
from dataclasses import dataclass, field
from pathlib import Path

import nbformat

from pixelprior.files import write_texts

FOLDER = Path(__file__).resolve().parent
WORDS, LINE, FIGURE, EQUATION = (
    120,
    9 / 60,
    45 / 60,
    30 / 60,
)  # the first per minute
MARK = re.compile(r"\A## .+\n\n\*(Core|Further) · (\d+) minutes?\*")
TASK = re.compile(r"### ((Your turn ([A-Z])|Exercise (\d+)): .+)")
TURN = re.compile(r"(?m)^\*(\d+) minutes?\*$")
EFFORT = re.compile(
    r"\*Difficulty ([1-5]) of 5 · importance ([1-5]) of 5 · (\d+) minutes"
    r"( · after \d\d\.\d+( and \d\d\.\d+)*)?\*"
)
HEAD = re.compile(
    r"(?m)^\*\*Time\.\*\* About (\d+) minutes for the core and (\d+) for all,"
)
DISPLAYED = re.compile(r"(?s)\$\$.*?\$\$")
NOT_READ = re.compile(
    r"(?s)<!--.*?-->|<details>.*?</details>|\$\$.*?\$\$"
    r"|(?m:^[^\n]*\[the course\]\(.*$)|(?m:^\[To solution .*$)"
)


@dataclass
class Section:
    """A part of a notebook: the head, a numbered section, or the foot.

    Attributes:
        cells: its cells, without solutions.
        core: whether it belongs to the core.
        stated: the minutes that the mark states, None for head and foot.
    """

    title: str
    cells: list = field(default_factory=list)
    core: bool = True
    stated: int | None = None

    @property
    def minutes(self) -> float:
        """The minutes of reading, and those that its tasks state."""
        tasks, to_read = self._split()
        words = lines = figures = equations = 0
        for cell in to_read:
            if "version" in cell.metadata.get("tags", []):
                continue
            if cell.cell_type == "markdown":
                words += len(NOT_READ.sub("", cell.source).split())
                equations += len(DISPLAYED.findall(cell.source))
            else:
                lines += sum(
                    bool(ln.strip()) for ln in cell.source.splitlines()
                )
                shown = (output.get("data", {}) for output in cell.outputs)
                figures += sum("image/png" in data for data in shown)
        read = words / WORDS + lines * LINE
        read += figures * FIGURE + equations * EQUATION
        return read + sum(tasks.values())

    @property
    def turns(self) -> float:
        """The minutes of its *your turn* cells."""
        return sum(
            minutes
            for name, minutes in self._split()[0].items()
            if name.isalpha()
        )

    def _split(self) -> tuple[dict[str, int], list]:
        """The minutes of each task by its letter or number, 0 if it states none, and
        the cells that belong to none: a task ends with its stub."""
        tasks, to_read, name, ended = {}, [], None, False
        for cell in self.cells:
            if found := TASK.match(cell.source):
                name, ended = found[3] or found[4], False
                effort = (TURN if found[3] else EFFORT).search(cell.source)
                tasks[name] = (
                    int(effort[1 if found[3] else 3]) if effort else 0
                )
            elif name is None or (ended and name.isalpha()):
                to_read.append(cell)
            ended = ended or "exercise" in cell.metadata.get("tags", [])
        return tasks, to_read


def sections(notebook: nbformat.NotebookNode) -> list[Section]:
    """The parts of a notebook up to its solutions, the head first."""
    found = [Section("head")]
    for cell in notebook.cells:
        if "solution" in cell.metadata.get("tags", []):
            continue
        if cell.cell_type == "markdown" and cell.source.startswith("## "):
            section = Section(cell.source.splitlines()[0].removeprefix("## "))
            if mark := MARK.match(cell.source):
                section.core = mark[1] == "Core"
                section.stated = int(mark[2])
            found.append(section)
        found[-1].cells.append(cell)
    return found


def rounded(minutes: float) -> int:
    """Whole minutes, at least one."""
    return max(1, round(minutes))


def totals(parts: list[Section]) -> tuple[float, float]:
    """The minutes of the core, and of all of a notebook."""
    core = sum(part.minutes for part in parts if part.core)
    return core, sum(part.minutes for part in parts)


def paths(folder: Path = FOLDER) -> list[Path]:
    return sorted(folder.glob("[0-9][0-9]_*.ipynb"))


def minutes_of(notebooks: list[Path]) -> tuple[float, float]:
    """The minutes of the core of some notebooks, and of all there is in them."""
    both = [
        totals(sections(nbformat.read(path, as_version=4)))
        for path in notebooks
    ]
    return sum(core for core, _ in both), sum(
        everything for _, everything in both
    )


def update(path: Path) -> None:
    """Write the minutes into a source, from the notebook beside it."""
    source = path.with_suffix(".py")
    text = source.read_text(encoding="utf-8")
    parts = sections(nbformat.read(path, as_version=4))
    for part in parts:
        if part.stated is not None:
            minutes = rounded(part.minutes)
            text = re.sub(
                rf"(?m)^(# ## {re.escape(part.title)}\n#\n# \*\w+ · )\d+ minutes?\*",
                rf"\g<1>{minutes} minute{'s' * (minutes > 1)}*",
                text,
            )
    core, everything = map(rounded, totals(parts))
    text = re.sub(
        r"(?m)^(# \*\*Time\.\*\* About )\d+( minutes for the core and )\d+( for all,)",
        rf"\g<1>{core}\g<2>{everything}\g<3>",
        text,
    )
    write_texts(source.parent, {source.name: text.removesuffix("\n")})


def main() -> None:
    """Print the minutes, or bring them up to date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    if parser.parse_args().write:
        for path in paths():
            update(path)
    for path in paths():
        parts = sections(nbformat.read(path, as_version=4))
        core, everything = totals(parts)
        turns = sum(part.turns for part in parts)
        print(
            f"{path.stem}: core {core:.0f} with {turns:.0f} of your turn, "
            f"all {everything:.0f}"
        )
        for part in parts:
            kind = "core" if part.core else "further"
            print(f"  {part.minutes:5.1f} {kind:8} {part.title}")
    core, everything = minutes_of(paths())
    print(f"the course: core {core:.0f} minutes, all {everything:.0f}")


if __name__ == "__main__":
    main()
