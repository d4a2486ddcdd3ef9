"""Figures of grids of codes: alone, beside a prediction, and between images."""

import math

import numpy as np
from matplotlib.colors import hsv_to_rgb, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, Stroke
from torch import Tensor

from pixelprior import plotting
from pixelprior.course.causality import before
from pixelprior.course.figures.lines import as_numbers
from pixelprior.plotting import COLOURS, INK, ON_FILL, bare, draw_image, panel_width

# Okabe and Ito's palette for readers with any kind of colour vision.
OKABE_ITO = ["#E69F00", "#56B4E9", "#009E73", "#F0E442"]
OKABE_ITO += ["#0072B2", "#D55E00", "#CC79A7", "#999999"]
LARGEST = 16  # rows or columns of a grid whose codes are written into its cells


def code_grids(
    grids: dict[str, Tensor],
    num_embeddings: int,
    *,
    marked: dict[str, tuple[int, int]] | None = None,
    joined: tuple[int, int] | dict[str, tuple[int, int]] = (0, 0),
) -> Figure:
    """Grids of codes [H, W] side by side, with a colour and the number in each cell.

    Args:
        grids: by name. One whose name begins with "top" or "bottom" has a frame in the
            colour of that level.
        num_embeddings: number of codes K in the codebook.
        marked: for the name of a grid, (row, column) of a cell to put a frame around.
        joined: a step (rows down, columns to the right), for all grids or by name. A
            line joins two cells that are this step apart and hold the same code.
    """
    # A number of two digits needs 0.23 inches, so that large grids are drawn larger.
    sides = [min(LARGEST, max(codes.shape)) for codes in grids.values()]
    wanted = [max(3.0, 0.23 * side) for side in sides]
    widest = panel_width(1, sum(wanted)) / sum(wanted)
    size = (widest * sum(wanted), widest * max(wanted) + 0.3)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(1, len(grids), width_ratios=wanted, squeeze=False)[0]
    for axis, (name, codes) in zip(axes, grids.items(), strict=True):
        draw_codes(axis, codes, num_embeddings, name=name)
        if name in (marked or {}):
            axis.add_patch(frame(*marked[name]))
        _join(axis, codes, *(joined[name] if isinstance(joined, dict) else joined))
    return figure


def _join(axis, codes: Tensor, down: int, right: int) -> None:
    """Draw lines between equal codes that are a step (down, right) apart."""
    length = math.hypot(down, right)
    for (y, x), code in np.ndenumerate(codes):
        y_end, x_end = y + down, x + right
        inside = y_end < len(codes) and 0 <= x_end < codes.shape[1]
        if length and inside and code == codes[y_end, x_end]:
            # The line ends in both cells, beside the numbers in their middles.
            ends = np.array([0.3 / length, 1 - 0.3 / length])
            axis.plot(x + right * ends, y + down * ends, color="black", linewidth=1.5)


def code_colours(num_embeddings: int) -> np.ndarray:
    """Colours without an order, since codes are names, one for each code: [K, 3].

    More than eight go around the circle of hues in steps of the golden ratio, in four
    degrees of brightness, so that codes with neighbouring numbers do not look alike.
    """
    if num_embeddings <= len(OKABE_ITO):
        return np.array([to_rgb(colour) for colour in OKABE_ITO[:num_embeddings]])
    code = np.arange(num_embeddings)
    hue = code * (5**0.5 - 1) / 2 % 1
    saturation = np.array([0.3, 0.75, 0.5, 0.9])[code % 4]
    value = np.array([0.97, 0.65, 0.82, 0.45])[code % 4]
    return hsv_to_rgb(np.stack([hue, saturation, value], axis=1))


def draw_codes(
    axis, codes: Tensor, num_embeddings: int, *, numbers=True, name: str
) -> None:
    """Draw one grid of codes [H, W] on an axis, as `code_grids` does; cells of -1 are
    left white."""
    codes = codes.numpy()
    colours = code_colours(num_embeddings)[codes]  # [H, W, 3]
    colours[codes < 0] = 1
    luminance = colours @ [0.2126, 0.7152, 0.0722]
    axis.imshow(colours, interpolation="nearest")
    if numbers and max(codes.shape) <= LARGEST:
        for (y, x), code in np.ndenumerate(codes):
            if code >= 0:
                colour = ON_FILL if luminance[y, x] > 0.4 else "white"
                middle = {"ha": "center", "va": "center", "size": 9}
                axis.text(x, y, str(code), color=colour, **middle)
    bare(axis)
    if (level := name.partition(" ")[0]) in ("top", "bottom"):
        for spine in axis.spines.values():
            spine.set(visible=True, color=COLOURS[level], linewidth=3)
    axis.set_title(name, fontsize=9)


def pipeline(image, z_top, z_bottom, top_alone, rebuilt, num_embeddings) -> Figure:
    """An image [1, C, S, S], its two grids of codes [1, Ht, Wt] and [1, Hb, Wb], and
    what is decoded from the top codes alone and from both."""
    figure = Figure(figsize=(9, 5.4), layout="constrained")
    rows = [["image", "top", "top_alone"], ["image", "bottom", "rebuilt"]]
    axes = figure.subplot_mosaic(rows)
    for name, heading, each in (
        ("image", "the image", image),
        ("top_alone", "decoded from the top codes alone", top_alone),
        ("rebuilt", "decoded from both", rebuilt),
    ):
        draw_image(axes[name], each[0])
        bare(axes[name])
        axes[name].set_title(heading, fontsize=9)
    for name, codes in (("top", z_top[0]), ("bottom", z_bottom[0])):
        label = f"{name} codes, {' × '.join(map(str, codes.shape))}"
        draw_codes(axes[name], codes, num_embeddings, numbers=False, name=label)
    arrow = {"arrowstyle": "-|>", "color": INK, "lw": 1.5, "mutation_scale": 14}
    joined = [("image", "top"), ("image", "bottom"), ("top", "top_alone")]
    for start, end in [*joined, ("top", "rebuilt"), ("bottom", "rebuilt")]:
        ends = {"xy": (-0.05, 0.5), "xycoords": axes[end].transAxes}
        ends |= {"xytext": (1.05, 0.5), "textcoords": axes[start].transAxes}
        axes[end].annotate("", **ends, arrowprops=arrow, annotation_clip=False)
    return figure


def frame(row: int, column: int) -> Rectangle:
    """A red frame with a white border around one cell of a grid of codes."""
    around = [Stroke(linewidth=5.5, foreground="white"), Normal()]
    line = {"edgecolor": "red", "linewidth": 2.5, "path_effects": around, "zorder": 3}
    return Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, **line)


def prediction(
    codes: Tensor, position: tuple[int, int], probabilities: Tensor, *, title: str = ""
) -> Figure:
    """What a prior predicts at one position: the codes of a grid [H, W] before it, and
    the probability of each code there, [K], as a bar, which is hatched for the code
    that the grid has there. The position has a red frame."""
    shares, (height, width) = as_numbers(probabilities), codes.shape
    past = codes.masked_fill(~before(position, (height, width)), -1)
    figure = Figure(figsize=(plotting.WIDEST, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.9])
    draw_codes(left, past, len(shares), name="the codes before the frame")
    empty = {"facecolor": "#f4f4f4", "edgecolor": "#cccccc", "linewidth": 0.6}
    for y, x in (past < 0).nonzero().tolist():
        left.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, **empty))
    left.add_patch(frame(*position))
    left.set(xlim=(-0.6, width - 0.4), ylim=(height - 0.4, -0.6))
    right.bar(np.arange(len(shares)), shares, color=COLOURS["past"], width=0.85)
    came = int(codes[position])
    hatched = {"color": COLOURS["future"], "hatch": "xxx", "edgecolor": "black"}
    right.bar(came, shares[came], **hatched)
    right.set_title(f"hatched: the true code, {came}, p = {shares[came]:.2f}", size=9)
    right.set(xlabel="code", ylabel="probability")
    right.set_ylim(0, max(0.25, 1.12 * shares.max()))
    right.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=11)
    return figure
