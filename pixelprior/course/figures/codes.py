"""Figures of grids of codes, alone and between the images that they stand for."""

import math

import numpy as np
import torch
from matplotlib.colors import hsv_to_rgb, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, Stroke
from torch import Tensor

from pixelprior.plotting import COLOURS, INK, ON_FILL, bare, draw_image, panel_width

# Okabe and Ito's palette for readers with any kind of colour vision.
OKABE_ITO = (
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#F0E442",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
    "#999999",
)


LARGEST = 16  # rows or columns of a grid whose codes are written into its cells


def code_grids(
    grids: dict[str, Tensor],
    num_embeddings: int,
    *,
    marked: dict[str, tuple[int, int]] | None = None,
    joined: tuple[int, int] | dict[str, tuple[int, int]] | None = None,
) -> Figure:
    """Grids of codes [H, W] side by side, with a colour and the number in each cell.

    Args:
        grids: the grids by name. The names are printed above the grids; a name that
            begins with "top" or "bottom" gives the frame the colour of that level.
        num_embeddings: number of codes K in the codebook. Cells of -1 are left white.
        marked: for the name of a grid, (row, column) of a cell to put a frame around.
        joined: a step (rows down, columns to the right), for all grids or by the name
            of a grid. A line joins two cells that are this step apart and hold the same
            code.
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
        if marked is not None and name in marked:
            axis.add_patch(frame(*marked[name]))
        step = joined.get(name) if isinstance(joined, dict) else joined
        if step is not None:
            _join(axis, codes.detach().cpu(), *step)
    return figure


def _join(axis, codes: Tensor, down: int, right: int) -> None:
    height, width = codes.shape
    for y in range(max(0, -down), min(height, height - down)):
        for x in range(max(0, -right), min(width, width - right)):
            if 0 <= codes[y, x] == codes[y + down, x + right]:
                # The line ends in both cells, beside the numbers in their middles.
                gap = 0.3 / math.hypot(down, right)
                ends = torch.tensor([[gap], [1 - gap]]) * torch.tensor([right, down])
                ends += torch.tensor([x, y])  # [2, 2]
                axis.plot(*ends.T.tolist(), color="black", linewidth=1.5)


def code_colours(num_embeddings: int) -> np.ndarray:
    """Categorical colours, which have no order, one for each code: [K, 3].

    Codes are names, and a colour map from dark to bright would say that some are more
    than others. Up to eight codes have the colours of Okabe and Ito's palette. More
    codes go around the circle of hues in steps of the golden ratio, in four degrees
    of brightness, so that codes with neighbouring numbers do not look alike. Of
    hundreds of codes some do; there the number says which code it is.
    """
    if num_embeddings <= len(OKABE_ITO):
        return np.array([to_rgb(colour) for colour in OKABE_ITO[:num_embeddings]])
    code = np.arange(num_embeddings)
    hue = code * (5**0.5 - 1) / 2 % 1
    degree = code % 4
    saturation = np.array([0.3, 0.75, 0.5, 0.9])[degree]
    value = np.array([0.97, 0.65, 0.82, 0.45])[degree]
    return hsv_to_rgb(np.stack([hue, saturation, value], axis=1))


def draw_codes(
    axis, codes: Tensor, num_embeddings: int, *, numbers=True, name: str = ""
) -> None:
    """Draw one grid of codes [H, W] on an axis, as `code_grids` does."""
    codes = codes.detach().cpu()
    height, width = codes.shape
    if codes.max() >= num_embeddings:
        raise ValueError(
            f"code {codes.max()} is to be drawn, but the codebook has "
            f"{num_embeddings} codes, from 0 on; give its size as num_embeddings"
        )
    colours = code_colours(num_embeddings)[codes.numpy()]  # [H, W, 3]
    colours[codes.numpy() < 0] = 1
    luminance = colours @ [0.2126, 0.7152, 0.0722]
    axis.imshow(colours, interpolation="nearest")
    if numbers and max(height, width) <= LARGEST:
        for y in range(height):
            for x in range(width):
                if codes[y, x] >= 0:
                    colour = ON_FILL if luminance[y, x] > 0.4 else "white"
                    text = str(codes[y, x].item())
                    axis.text(
                        x, y, text, ha="center", va="center", color=colour, size=9
                    )
    bare(axis)
    level = name.split()[0].rstrip(":,") if name.split() else ""
    if level in ("top", "bottom"):
        for spine in axis.spines.values():
            spine.set_visible(True)
            spine.set_color(COLOURS[level])
            spine.set_linewidth(3)
    axis.set_title(name, fontsize=9)


def pipeline(
    image: Tensor,
    z_top: Tensor,
    z_bottom: Tensor,
    top_alone: Tensor,
    rebuilt: Tensor,
    num_embeddings: int,
) -> Figure:
    """An image [1, C, S, S], its two grids of codes [1, Ht, Wt] and [1, Hb, Wb], and
    what is decoded from the top codes alone and from both."""
    figure = Figure(figsize=(9, 5.4), layout="constrained")
    axes = figure.subplot_mosaic(
        [["image", "top", "top_alone"], ["image", "bottom", "rebuilt"]]
    )
    images = {
        "image": ("the image", image),
        "top_alone": ("decoded from the top codes alone", top_alone),
        "rebuilt": ("decoded from both", rebuilt),
    }
    for name, (heading, each) in images.items():
        draw_image(axes[name], each[0])
        bare(axes[name])
        axes[name].set_title(heading, fontsize=9)
    for name, codes in (("top", z_top[0]), ("bottom", z_bottom[0])):
        label = f"{name} codes, {' × '.join(map(str, codes.shape))}"
        draw_codes(axes[name], codes, num_embeddings, numbers=False, name=label)
    arrow = {"arrowstyle": "-|>", "color": INK, "lw": 1.5, "mutation_scale": 14}
    for start, end in (
        ("image", "top"),
        ("image", "bottom"),
        ("top", "top_alone"),
        ("top", "rebuilt"),
        ("bottom", "rebuilt"),
    ):
        axes[end].annotate(
            "",
            xy=(-0.05, 0.5),
            xycoords=axes[end].transAxes,
            xytext=(1.05, 0.5),
            textcoords=axes[start].transAxes,
            arrowprops=arrow,
            annotation_clip=False,
        )
    return figure


def frame(row: int, column: int) -> Rectangle:
    """A red frame with a white border around one cell of a grid of codes."""
    around = [Stroke(linewidth=5.5, foreground="white"), Normal()]
    line = {"edgecolor": "red", "linewidth": 2.5, "path_effects": around, "zorder": 3}
    return Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, **line)
