"""Diagrams of how parts are connected: the two levels of the VQ-VAE-2, and a gated
block."""

import itertools

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, Rectangle

from pixelprior.plotting import COLOURS, INK, ON_FILL

SHARPNESS = 2  # pixels for one on the page
ARROW = {"arrowstyle": "-|>", "color": INK, "lw": 1.3, "shrinkA": 0, "shrinkB": 0}
BLUE, ORANGE = "#DDEFFA", "#FBEBCC"


class Diagram:
    """A drawing of boxes and arrows, so many inches wide and high; x goes to the right
    and y upwards, in inches."""

    def __init__(self, width: float, height: float):
        self.figure = Figure(figsize=(width, height))
        self.figure.sharpness = SHARPNESS
        self.axis: Axes = self.figure.add_axes((0, 0, 1, 1))
        self.axis.set(xlim=(0, width), ylim=(0, height))
        self.axis.axis("off")

    def box(self, x, y, text, *, width=1.5, height=0.5, fc="#F2F2F2", ec=INK, lw=1.2):
        """A box around a text, its middle at (x, y)."""
        corner = (x - width / 2, y - height / 2)
        look = {"boxstyle": "round,pad=0,rounding_size=0.08", "fc": fc, "ec": ec}
        self.axis.add_patch(FancyBboxPatch(corner, width, height, **look, lw=lw))
        self.text(x, y, text, color=ON_FILL)

    def text(self, x, y, text, **options):
        options = {"ha": "center", "va": "center", "size": 9} | options
        self.axis.text(x, y, text, **options)

    def plus(self, x, y, sign="+"):
        """A circle in which what arrives is added, or joined."""
        self.axis.add_patch(Circle((x, y), 0.16, fc="white", ec=INK, lw=1.2))
        self.text(x, y, sign, size=11, color=ON_FILL)

    def arrow(self, *points, text="", at=None, **options):
        """An arrow along straight lines from the first point to the last."""
        for start, end in itertools.pairwise(points[:-1]):
            self.axis.plot(*zip(start, end, strict=True), color=INK, lw=1.3)
        self.axis.annotate("", xy=points[-1], xytext=points[-2], arrowprops=ARROW)
        if text:
            self.text(*at, text, style="italic", **options)

    def cells(self, x, y, rows, *, side=0.3):
        """Rows of square cells, given by their colours, the upper left at (x, y)."""
        for down, row in enumerate(rows):
            for right, colour in enumerate(row):
                corner, look = (x + right * side, y - (down + 1) * side), {"lw": 0.8}
                look |= {"fc": colour, "ec": "grey"}
                self.axis.add_patch(Rectangle(corner, side, side, **look))


def two_levels() -> Figure:
    """The VQ-VAE-2: how an image becomes two grids of codes, and an image again."""
    half, quarter = "16 × 16", "8 × 8"
    d = Diagram(9, 4.4)
    d.box(1.2, 4.0, "image\n32 × 32", height=0.6)
    d.box(1.2, 2.75, f"features\n{half}", height=0.6)
    d.box(1.2, 1.5, f"features\n{quarter}", height=0.6)
    d.box(1.2, 0.35, f"z_top, {quarter}", fc="#D6E8F5", ec=COLOURS["top"], lw=2)
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
    d.box(7.0, 2.75, f"z_bottom, {half}", fc=ORANGE, ec=COLOURS["bottom"], lw=2)
    d.arrow((4.16, 2.75), (6.25, 2.75), text="to_bottom, quantize", at=(5.2, 2.92))
    d.plus(7.0, 0.35, "∥")
    d.arrow((7.0, 2.5), (7.0, 0.51))
    d.arrow((1.95, 0.35), (6.84, 0.35), text="upsample_top", at=(5.3, 0.52))
    d.text(7.25, 0.62, "joined", style="italic", ha="left")
    d.box(8.2, 1.5, "image\n32 × 32", width=1.2, height=0.6)
    d.arrow(
        (7.16, 0.35), (8.2, 0.35), (8.2, 1.2), text="decoder", at=(8.28, 0.78), **left
    )
    return d.figure


def gated_block() -> Figure:
    """A gated block with its four convolutions: the vertical stack v, the horizontal
    stack h, and the link."""
    d = Diagram(8.2, 6.2)
    for x, name, convolution, fill in (
        (2.3, "v", "vertical", BLUE),
        (5.9, "h", "horizontal", ORANGE),
    ):
        d.box(x, 5.8, name, width=0.9, fc=fill)
        d.box(x, 4.85, f"{convolution}\n→ 2p", height=0.6, fc=fill)
        d.plus(x, 3.85)
        d.box(x, 2.85, "gate\n2p → p", height=0.6, fc=fill)
        d.plus(x, 1.15)
        d.box(x, 0.35, f"new {name}", width=1.1, fc=fill)
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
    d.box(5.9, 1.98, "horizontal_out\n1×1, p → p", height=0.5, fc=ORANGE)
    d.arrow((5.9, 2.55), (5.9, 2.23))
    d.arrow((5.9, 1.73), (5.9, 1.31))
    d.box(4.1, 3.85, "vertical_to_horizontal\n1×1, 2p → 2p", width=1.9, height=0.6)
    d.arrow((2.46, 3.85), (3.15, 3.85))
    d.arrow((5.05, 3.85), (5.74, 3.85))
    d.text(3.3, 4.55, "bias", style="italic")
    d.arrow((3.1, 4.45), (2.43, 3.96))
    return d.figure
