"""Diagrams of how parts are connected: the two levels of the VQ-VAE-2, a gated block,
one cached step of it, and the notebooks of the course.
"""

import itertools

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, Rectangle

from pixelprior.pictures import COLOURS

PLAIN, LINE = "#F2F2F2", "#444444"
TOP, BOTTOM = COLOURS["top"], COLOURS["bottom"]


class Diagram:
    """A drawing of boxes and arrows; x goes to the right and y upwards.

    Args:
        width, height: size of the drawing in inches, and its range of x and y.
    """

    def __init__(self, width: float, height: float):
        self.figure = Figure(figsize=(width, height))
        self.axis: Axes = self.figure.add_axes((0, 0, 1, 1))
        self.axis.set(xlim=(0, width), ylim=(0, height))
        self.axis.axis("off")

    def box(self, x, y, text, *, width=1.5, height=0.5, fill=PLAIN, edge=LINE, lw=1.2):
        """A box around a text, its middle at (x, y)."""
        corner = (x - width / 2, y - height / 2)
        style = "round,pad=0,rounding_size=0.08"
        self.axis.add_patch(
            FancyBboxPatch(
                corner, width, height, boxstyle=style, fc=fill, ec=edge, lw=lw
            )
        )
        self.text(x, y, text)

    def text(self, x, y, text, **options):
        options = {"ha": "center", "va": "center", "size": 9} | options
        self.axis.text(x, y, text, **options)

    def plus(self, x, y, sign="+"):
        """A circle in which what arrives is added, or joined."""
        self.axis.add_patch(Circle((x, y), 0.16, fc="white", ec=LINE, lw=1.2))
        self.text(x, y, sign, size=11)

    def arrow(self, *points, text="", at=None, colour=LINE, **options):
        """An arrow along straight lines from the first point to the last."""
        for start, end in itertools.pairwise(points[:-1]):
            self.axis.plot(*zip(start, end, strict=True), color=colour, lw=1.3)
        self.axis.annotate(
            "",
            xy=points[-1],
            xytext=points[-2],
            arrowprops={
                "arrowstyle": "-|>",
                "color": colour,
                "lw": 1.3,
                "shrinkA": 0,
                "shrinkB": 0,
            },
        )
        if text:
            middle = [sum(each) / 2 for each in zip(*points[-2:], strict=True)]
            self.text(*(at or middle), text, **{"style": "italic"} | options)

    def cells(self, x, y, rows, *, side=0.3):
        """Rows of square cells, given by their colours, the upper left at (x, y)."""
        for down, row in enumerate(rows):
            for right, colour in enumerate(row):
                corner = (x + right * side, y - (down + 1) * side)
                self.axis.add_patch(
                    Rectangle(corner, side, side, fc=colour, ec="grey", lw=0.8)
                )


def two_levels(image_size: int = 32) -> Figure:
    """The VQ-VAE-2: how an image becomes two grids of codes, and an image again."""
    half, quarter = (f"{image_size // n} × {image_size // n}" for n in (2, 4))
    d = Diagram(9, 4.4)
    d.box(1.2, 4.0, f"image\n{image_size} × {image_size}", height=0.6)
    d.box(1.2, 2.75, f"features\n{half}", height=0.6)
    d.box(1.2, 1.5, f"features\n{quarter}", height=0.6)
    d.box(1.2, 0.35, f"z_top, {quarter}", fill="#D6E8F5", edge=TOP, lw=2)
    left = {"ha": "left"}
    d.arrow((1.2, 3.7), (1.2, 3.05), text="encoder_bottom", at=(1.3, 3.38), **left)
    d.arrow((1.2, 2.45), (1.2, 1.8), text="encoder_top", at=(1.3, 2.13), **left)
    d.arrow((1.2, 1.2), (1.2, 0.6), text="quantize", at=(1.3, 0.9), **left)
    d.box(4.0, 1.5, f"decoded top\n{half}", height=0.6)
    d.arrow(
        (1.95, 0.35), (2.6, 0.35), (2.6, 1.5), (3.25, 1.5),
        text="decoder_top", at=(2.68, 1.05), **left,
    )  # fmt: skip
    d.plus(4.0, 2.75, "∥")
    d.arrow((1.95, 2.75), (3.84, 2.75))
    d.arrow((4.0, 1.8), (4.0, 2.59))
    d.text(4.0, 3.08, "joined", style="italic")
    d.box(7.0, 2.75, f"z_bottom, {half}", fill="#FBEBCC", edge=BOTTOM, lw=2)
    d.arrow((4.16, 2.75), (6.25, 2.75), text="to_bottom, quantize", at=(5.2, 2.92))
    d.plus(7.0, 0.35, "∥")
    d.arrow((7.0, 2.5), (7.0, 0.51))
    d.arrow((1.95, 0.35), (6.84, 0.35), text="upsample_top", at=(5.3, 0.52))
    d.text(7.25, 0.62, "joined", style="italic", ha="left")
    d.box(8.2, 1.5, f"image\n{image_size} × {image_size}", width=1.2, height=0.6)
    d.arrow(
        (7.16, 0.35), (8.2, 0.35), (8.2, 1.2), text="decoder", at=(8.28, 0.78), **left
    )
    return d.figure


def gated_block() -> Figure:
    """A gated block: the vertical stack v, the horizontal stack h, and the link."""
    d = Diagram(8.2, 6.2)
    blue, orange = "#DDEFFA", "#FBEBCC"
    for x, name, look, fill in ((2.4, "v", "up", blue), (5.8, "h", "left", orange)):
        d.box(x, 5.8, name, width=0.9, fill=fill)
        d.box(x, 4.85, f"look_{look}\np → 2p", height=0.6, fill=fill)
        d.plus(x, 3.85)
        d.box(x, 2.85, "gate\n2p → p", height=0.6, fill=fill)
        d.plus(x, 1.15)
        d.box(x, 0.35, f"new {name}", width=1.1, fill=fill)
        d.arrow((x, 5.55), (x, 5.15))
        d.arrow((x, 4.55), (x, 4.01))
        d.arrow((x, 3.69), (x, 3.15))
        d.arrow((x, 0.99), (x, 0.6))
        side = -1 if name == "v" else 1
        outside = x + 1.35 * side
        d.arrow(
            (x, 5.4), (outside, 5.4), (outside, 1.15), (x + 0.16 * side, 1.15),
            text="residual", at=(outside + 0.14 * side, 2.2), rotation=90,
        )  # fmt: skip
    d.arrow((2.4, 2.55), (2.4, 1.31))
    d.box(5.8, 1.95, "1×1, p → p", width=1.3, height=0.45, fill=orange)
    d.arrow((5.8, 2.55), (5.8, 2.18))
    d.arrow((5.8, 1.72), (5.8, 1.31))
    d.box(4.1, 3.85, "across\n1×1, 2p → 2p", width=1.4, height=0.6)
    d.arrow((2.56, 3.85), (3.4, 3.85))
    d.arrow((4.8, 3.85), (5.64, 3.85))
    d.text(0.35, 3.85, "label", style="italic")
    d.arrow((0.65, 3.85), (2.24, 3.85))
    return d.figure


def cached_step() -> Figure:
    """One cached step of a block with kernels 3 wide: once per row, once per code."""
    d = Diagram(9, 4.5)
    new, kept, open_ = COLOURS["past"], "#66C2A5", "white"
    d.text(2.2, 4.25, "once per row: row_step", weight="bold")
    d.cells(1.0, 3.9, [8 * [kept], 8 * [new]])
    d.text(0.92, 3.75, "v at y − 1, kept", ha="right", size=8)
    d.text(0.92, 3.45, "v at y, kept for y + 1", ha="right", size=8)
    d.arrow((2.2, 3.3), (2.2, 2.75))
    d.box(2.2, 2.5, "vertical convolution", width=1.9)
    d.arrow((2.2, 2.25), (2.2, 1.9))
    d.cells(1.0, 1.9, [8 * ["#DDEFFA"]])
    d.text(0.92, 1.75, "2p numbers\nper position", ha="right", size=8)
    d.arrow((2.2, 1.6), (2.2, 1.1))
    d.box(2.2, 0.85, "gate, + v at y", width=1.9)
    d.arrow((2.2, 0.6), (2.2, 0.25))
    d.text(2.2, 0.12, "new v at row y: to the next block", size=8)
    d.text(6.9, 4.25, "once per code: code_step", weight="bold")
    d.cells(6.0, 3.9, [[kept, new] + 4 * [open_]])
    d.text(5.92, 3.75, "h at x − 1 and x,\nkept for x + 1", ha="right", size=8)
    d.arrow((6.3, 3.6), (6.3, 3.05))
    d.box(6.3, 2.8, "horizontal convolution", width=1.9)
    d.arrow((6.3, 2.55), (6.3, 1.91))
    d.plus(6.3, 1.75)
    d.arrow((3.4, 1.75), (6.14, 1.75), text="across, 1×1: at x alone", at=(4.75, 1.92))
    d.arrow((6.3, 1.59), (6.3, 1.1))
    d.box(6.3, 0.85, "gate, 1×1, + h at x", width=1.9)
    d.arrow((6.3, 0.6), (6.3, 0.25))
    d.text(6.3, 0.12, "new h at x: to the next block", size=8)
    d.cells(7.9, 2.6, [[kept]])
    d.text(8.25, 2.45, "kept", ha="left", size=8)
    d.cells(7.9, 2.2, [[new]])
    d.text(8.25, 2.05, "new", ha="left", size=8)
    return d.figure


def course_map(chapters: dict[str, str], needs: dict[str, str], here="") -> Figure:
    """The notebooks as boxes, each with arrows from those that it builds on.

    Args:
        chapters: topics of the notebooks, by number, in reading order.
        needs: by number, the numbers of those that a notebook builds on, such as
            "01 03". A notebook stands to the right of all that it needs.
        here: number of the notebook whose box is filled.

    Raises:
        ValueError: a notebook needs one that does not come before it.
    """
    columns: dict[str, int] = {}
    for number in chapters:
        given = needs.get(number, "").split()
        if late := [each for each in given if each not in columns]:
            raise ValueError(
                f"{number} needs {late[0]}, which does not come before it; the "
                f"chapters are {', '.join(chapters)}"
            )
        columns[number] = max((columns[each] for each in given), default=-1) + 1
    stacks = {c: [n for n in columns if columns[n] == c] for c in columns.values()}
    step, height = 1.5, max(map(len, stacks.values())) * 0.92 + 0.08
    d = Diagram(step * len(stacks), height)
    at: dict[str, tuple[float, float]] = {}
    for column, numbers in stacks.items():
        # A column is centred beside what its first notebook builds on.
        given = [at[each][1] for each in needs.get(numbers[0], "").split()]
        middle = sum(given) / len(given) if given else height / 2
        half = 0.46 * len(numbers) + 0.02
        middle = min(max(middle, half), height - half)
        for row, number in enumerate(numbers):
            y = middle + 0.92 * ((len(numbers) - 1) / 2 - row)
            at[number] = (step * (column + 0.45), y)
    for number, given in needs.items():
        for each in given.split():
            (x, y), (x_to, y_to) = at[each], at[number]
            d.arrow((x + 0.61, y), (x_to - 0.61, y_to))
    for number, (x, y) in at.items():
        filled = {"fill": COLOURS["past"] if number == here else "white", "edge": TOP}
        d.box(x, y, "", width=1.22, height=0.8, **filled)
        d.text(x - 0.55, y + 0.26, number, weight="bold", ha="left")
        d.text(x - 0.55, y - 0.1, chapters[number], ha="left", size=7.5)
    return d.figure
