"""Draw the diagrams of the README as vector pictures: the two levels, a gated block and
one cached step, which the notebooks show as well.

Run `python tools/draw_readme_figures.py`; the diagrams are written to `docs/pictures/`.
"""

from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pixelprior.course import figures
from pixelprior.course.figures.diagrams import Diagram
from pixelprior.course.pictures import for_any_page
from pixelprior.plotting import COLOURS

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "pictures"


def cached_step() -> Figure:
    """One cached step of a block with kernels 3 wide: once per row, once per code."""
    d = Diagram(9, 5)
    new, kept, plain = COLOURS["past"], "#66C2A5", "white"
    x, y, side = 2.7, 7.3, 0.26  # the middles of the two columns, and a cell
    left = {"ha": "right"}
    start = x - 4 * side
    d.text(x, 4.8, "once per row: row_step", weight="bold", size=10)
    d.cells(start, 4.5, [8 * [kept], 8 * [new]], side=side)
    d.text(start - 0.1, 4.37, "v at row y − 1", **left)
    d.text(start - 0.1, 4.11, "v at row y", **left)
    d.arrow((x, 3.98), (x, 3.5))
    d.box(x, 3.25, "vertical convolution", width=1.9)
    d.arrow((x, 3.0), (x, 2.56))
    d.cells(start, 2.56, [8 * [plain]], side=side)
    d.text(start - 0.1, 2.43, "2p numbers\nper position", **left)
    d.arrow((x, 2.3), (x, 1.5))
    d.box(x, 1.25, "gate, + v at row y", width=1.9)
    d.arrow((x, 1.0), (x, 0.5))
    d.text(x, 0.3, "new v at row y, for the next block")
    d.box(4.45, 2.43, "1×1", width=0.5, height=0.4)
    d.arrow((start + 8 * side, 2.43), (4.2, 2.43))
    d.arrow((4.7, 2.43), (4.9, 2.43))
    d.cells(4.9, 2.53, [8 * [kept]], side=0.2)
    d.axis.add_patch(Rectangle((5.7, 2.33), 0.2, 0.2, fill=False, ec="black", lw=2))
    d.text(5.7, 2.75, "across, for all of row y")
    d.text(5.8, 2.1, "the code step\nreads it at x", va="top")
    d.arrow((6.5, 2.43), (y - 0.16, 2.43))
    d.text(y, 4.8, "once per code: code_step", weight="bold", size=10)
    row = 3 * [plain] + [kept, new] + 3 * [plain]
    d.cells(y - 4.5 * side, 4.3, [row], side=side)
    d.text(y - 4.5 * side - 0.1, 4.17, "h at x − 1 and x", **left)
    d.arrow((y, 4.04), (y, 3.5))
    d.box(y, 3.25, "horizontal convolution", width=1.9)
    d.arrow((y, 3.0), (y, 2.59))
    d.plus(y, 2.43)
    d.arrow((y, 2.27), (y, 1.5))
    d.box(y, 1.25, "gate, 1×1, + h at x", width=1.9)
    d.arrow((y, 1.0), (y, 0.5))
    d.text(y, 0.3, "new h at x, for the next block")
    d.cells(4.7, 1.15, [[kept]], side=side)
    d.text(5.05, 1.02, "kept from before", ha="left")
    d.cells(4.7, 0.75, [[new]], side=side)
    d.text(5.05, 0.62, "new at this step", ha="left")
    return d.figure


DIAGRAMS = {
    "two_levels": figures.two_levels,
    "gated_block": figures.gated_block,
    "cached_step": cached_step,
}


def draw(folder: Path) -> list[Path]:
    """Write each diagram as an SVG file, with the same bytes each time."""
    written = []
    for name, diagram in DIAGRAMS.items():
        path = folder / f"{name}.svg"
        with matplotlib.rc_context({"svg.hashsalt": name}):
            figure = diagram()
            for_any_page(figure)
            figure.savefig(path, transparent=True, metadata={"Date": None})
        written.append(path)
    return written


if __name__ == "__main__":
    for path in draw(FOLDER):
        print("wrote", path)
