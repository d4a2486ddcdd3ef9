"""Draw the diagrams of the README as vector pictures: the two levels, a gated block and
one cached step, which the notebooks show as well.

Run `python tools/draw_readme_figures.py`; the diagrams are written to `docs/pictures/`.
"""

from pathlib import Path

import matplotlib

from pixelprior.course import figures
from pixelprior.course.pictures import for_any_page

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "pictures"
DIAGRAMS = {
    "two_levels": figures.two_levels,
    "gated_block": figures.gated_block,
    "cached_step": figures.cached_step,
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
