"""How many minutes the course takes: `python notebooks/reading.py` prints them.

Each section is marked *Core* or *Further* below its heading. The core of the first ten
notebooks is what one can read and run in an afternoon. The minutes are an estimate from the
length, with the same speeds everywhere: 200 words of prose per minute, 3 seconds per
line of code and 15 seconds per figure. Exercises state their own minutes. With
`--write`, the minutes in the marks and heads of the sources are brought up to date;
then the notebooks have to be built again.
"""

import argparse
import re
from dataclasses import dataclass, field
from pathlib import Path

import nbformat

from pixelprior.files import write_texts

FOLDER = Path(__file__).resolve().parent
AFTERNOON = 10  # notebooks
WORDS, LINE, FIGURE = 200, 3 / 60, 15 / 60  # per minute; minutes each
MARK = re.compile(
    r"\A## .+\n\n\*(?:(Core|Further) · (\d+) minutes?|Core: exercise (\d))\*"
)
EXERCISE = re.compile(r"### Exercise (\d+): ")
EFFORT = re.compile(
    r"\*Difficulty ([1-5]) of 5 · importance ([1-5]) of 5 · (\d+) minutes"
    r"( · after \d\d\.\d+( and \d\d\.\d+)*)?\*"
)
HEAD = re.compile(
    r"(?m)^\*\*Time\.\*\* About (\d+) minutes for the core and (\d+) for all,"
)
NOT_READ = re.compile(r"(?s)<!--.*?-->|\$\$.*?\$\$")


@dataclass
class Section:
    """A part of a notebook: the head, a numbered section, or the foot.

    Attributes:
        cells: its cells, without solutions.
        core: whether it belongs to the core; for exercises, whether one of them does.
        exercise: the number of the exercise of the core, if it holds exercises.
        stated: the minutes that the mark states, None for exercises, head and foot.
    """

    title: str
    cells: list = field(default_factory=list)
    core: bool = True
    exercise: int | None = None
    stated: int | None = None

    @property
    def minutes(self) -> float:
        """The minutes of reading; those of the exercises if it holds exercises."""
        if self.exercise is not None:
            return sum(self.exercises.values())
        words = lines = figures = 0
        for cell in self.cells:
            if cell.cell_type == "markdown":
                words += len(NOT_READ.sub("", cell.source).split())
            else:
                lines += sum(
                    bool(ln.strip()) for ln in cell.source.splitlines()
                )
                shown = (output.get("data", {}) for output in cell.outputs)
                figures += sum("image/png" in data for data in shown)
        return words / WORDS + lines * LINE + figures * FIGURE

    @property
    def exercises(self) -> dict[int, int]:
        """The minutes of each exercise by its number; 0 if it states none."""
        return {
            int(found[1]): int(effort[3]) if effort else 0
            for cell in self.cells
            if (found := EXERCISE.match(cell.source))
            for effort in [EFFORT.search(cell.source)]
        }


def sections(notebook: nbformat.NotebookNode) -> list[Section]:
    """The parts of a notebook up to its solutions, the head first."""
    found = [Section("head")]
    for cell in notebook.cells:
        if "solution" in cell.metadata.get("tags", []):
            continue
        if cell.cell_type == "markdown" and cell.source.startswith("## "):
            section = Section(cell.source.splitlines()[0].removeprefix("## "))
            if mark := MARK.match(cell.source):
                section.core = mark[1] != "Further"
                section.stated = mark[2] and int(mark[2])
                section.exercise = mark[3] and int(mark[3])
            found.append(section)
        found[-1].cells.append(cell)
    return found


def rounded(minutes: float) -> int:
    """Whole minutes, at least one."""
    return max(1, round(minutes))


def totals(parts: list[Section]) -> tuple[float, float]:
    """The minutes of the core, with its one exercise, and of all of a notebook."""
    core = sum(
        part.minutes for part in parts if part.core and part.exercise is None
    )
    core += sum(
        part.exercises.get(part.exercise, 0)
        for part in parts
        if part.exercise is not None
    )
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
        print(f"{path.stem}: core {core:.0f}, all {everything:.0f}")
        for part in parts:
            kind = "core" if part.core else "further"
            print(f"  {part.minutes:5.1f} {kind:8} {part.title}")
    for name, some in (
        ("the afternoon", paths()[:AFTERNOON]),
        ("the course", paths()),
    ):
        core, everything = minutes_of(some)
        print(f"{name}: core {core:.0f} minutes, all {everything:.0f}")


if __name__ == "__main__":
    main()
