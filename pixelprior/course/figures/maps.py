"""Maps over a grid of codes whose rows and columns are numbered, in the style of
`plots.py`, and over them the outlines of images."""

import math

import numpy as np
from matplotlib import patheffects
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from pixelprior.course.figures.lines import as_numbers
from pixelprior.plotting import panel_width

# White with a black edge: to be seen on dark and on bright cells.
OUTLINE_AT = 0.25  # brightness of an image at its outline
OUTLINE = {
    "color": "white",
    "linewidth": 1.3,
    "path_effects": [patheffects.withStroke(linewidth=2.8, foreground="black")],
}


def numbered_maps(
    maps: dict[str, Tensor],
    *,
    unit: str,
    limits: tuple[float | None, float | None] = (0, None),
    outlines: dict[str, Tensor] | None = None,
    columns: int = 5,
    title: str = "",
) -> Figure:
    """Maps [H, W] on one colour scale, with numbers at their rows and columns.

    Args:
        maps: the maps by name.
        unit: unit of the values, written at the colour bar.
        limits: ends of the colour scale; None takes that end from the data.
        outlines: images [C, S, S] in [0, 1] by the name of the map that they belong to.
            A line is drawn over the map where the brightness of the image is
            `OUTLINE_AT`.
        columns: the largest number of maps side by side.
    """
    values = [as_numbers(grid) for grid in maps.values()]
    low = min(grid.min() for grid in values) if limits[0] is None else limits[0]
    high = max(grid.max() for grid in values) if limits[1] is None else limits[1]
    columns = min(columns, len(maps))
    rows = math.ceil(len(maps) / columns)
    width = panel_width(columns, 3.6, 1.0)
    size = (width * columns + 1.0, (width + 0.1) * rows + 0.3 * bool(outlines))
    figure = Figure(figsize=size, layout="constrained")
    figure.get_layout_engine().set(hspace=0.06)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat[len(maps) :]:
        axis.axis("off")
    for axis, name, value in zip(axes.flat, maps, values, strict=False):
        drawn = axis.imshow(value, cmap="cividis", vmin=low, vmax=high)
        axis.set_xticks(range(0, value.shape[1], 5))
        axis.set_yticks(range(0, value.shape[0], 5))
        axis.tick_params(labelsize=9)
        axis.set_title(name, fontsize=9)
        if outlines is not None and name in outlines:
            _draw_outline(axis, as_numbers(outlines[name]).mean(axis=0))
    for axis in axes[:, 0]:
        axis.set_ylabel("row", fontsize=9)
    for axis in axes[-1]:
        axis.set_xlabel("column", fontsize=9)
    bar = figure.colorbar(drawn, ax=list(axes.flat), shrink=0.8)
    bar.set_label(unit)
    if outlines:
        line = Line2D([], [], label="outline of the mean image", **OUTLINE)
        figure.legend(
            handles=[line], loc="outside lower center", fontsize=9, frameon=False
        )
    figure.suptitle(title, fontsize=11)
    return figure


def _draw_outline(axis, brightness: np.ndarray) -> None:
    """The outline of an image [S, S], over the map that is drawn on the axis."""
    if not brightness.min() < OUTLINE_AT < brightness.max():
        return  # the image has no such line
    height, width = axis.images[0].get_array().shape
    side_y, side_x = brightness.shape
    # The middle of each pixel, counted in cells of the map.
    y = (np.arange(side_y) + 0.5) * height / side_y - 0.5
    x = (np.arange(side_x) + 0.5) * width / side_x - 0.5
    line = axis.contour(
        x, y, brightness, [OUTLINE_AT], colors="white", linewidths=OUTLINE["linewidth"]
    )
    line.set_path_effects(OUTLINE["path_effects"])
