"""Diagrams of how parts are connected: the two levels of the VQ-VAE-2, a gated block,
one cached step of it, and the notebooks of the course.
"""

import itertools

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, Rectangle

from pixelprior.plotting import COLOURS, INK, ON_FILL

SHARPNESS = 2  # pixels for one on the page
PLAIN, LINE = "#F2F2F2", INK
TOP, BOTTOM = COLOURS["top"], COLOURS["bottom"]


class Diagram:
    """A drawing of boxes and arrows; x goes to the right and y upwards.

    Args:
        width, height: size of the drawing in inches, and its range of x and y.
    """

    def __init__(self, width: float, height: float):
        self.figure = Figure(figsize=(width, height))
        self.figure.sharpness = SHARPNESS
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
        self.text(x, y, text, color=ON_FILL)

    def text(self, x, y, text, **options):
        options = {"ha": "center", "va": "center", "size": 9} | options
        self.axis.text(x, y, text, **options)

    def plus(self, x, y, sign="+"):
        """A circle in which what arrives is added, or joined."""
        self.axis.add_patch(Circle((x, y), 0.16, fc="white", ec=LINE, lw=1.2))
        self.text(x, y, sign, size=11, color=ON_FILL)

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
    """A gated block with its four convolutions: the vertical stack v, the horizontal
    stack h, and the link."""
    d = Diagram(8.2, 6.2)
    blue, orange = "#DDEFFA", "#FBEBCC"
    for x, name, convolution, fill in (
        (2.3, "v", "vertical", blue),
        (5.9, "h", "horizontal", orange),
    ):
        d.box(x, 5.8, name, width=0.9, fill=fill)
        d.box(x, 4.85, f"{convolution}\n→ 2p", height=0.6, fill=fill)
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
            text="residual, not in the first block",
            at=(outside + 0.14 * side, 2.9), rotation=90,
        )  # fmt: skip
    d.arrow((2.3, 2.55), (2.3, 1.31))
    d.box(5.9, 1.98, "horizontal_out\n1×1, p → p", height=0.5, fill=orange)
    d.arrow((5.9, 2.55), (5.9, 2.23))
    d.arrow((5.9, 1.73), (5.9, 1.31))
    d.box(4.1, 3.85, "vertical_to_horizontal\n1×1, 2p → 2p", width=1.9, height=0.6)
    d.arrow((2.46, 3.85), (3.15, 3.85))
    d.arrow((5.05, 3.85), (5.74, 3.85))
    d.text(3.3, 4.55, "bias", style="italic")
    d.arrow((3.1, 4.45), (2.43, 3.96))
    return d.figure


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
