"""Bars, heat maps, and maps of what is odd in images."""

from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from pixelprior.anomalies.figures import draw_findings
from pixelprior.course.figures.lines import CYCLE, as_numbers
from pixelprior.plotting import COLOURS, ON_FILL, bare, draw_image, panel_width

HATCHES = ("", "//", "..", "xx", "\\\\", "oo", "--")
EDGE = {"edgecolor": "white", "linewidth": 0}


def bars(
    values: dict[str, float],
    *,
    y_label: str,
    unit_format: str = "{:.2f}",
    alike: bool = False,
) -> Figure:
    """One bar per name, with its value written on it; all of one colour if alike."""
    width = max(4.0, panel_width(len(values), 1.3, 1) * len(values) + 1)
    figure = Figure(figsize=(width, 3.6), layout="constrained")
    axis = figure.subplots()
    for place, value in enumerate(values.values()):
        look = {"color": CYCLE[place % 7], "hatch": HATCHES[place % 7]}
        look = {"color": COLOURS["past"]} if alike else look
        axis.bar(place, value, width=0.7, **look, **EDGE)
        above = {"xytext": (0, 2), "textcoords": "offset points", "ha": "center"}
        axis.annotate(unit_format.format(value), (place, value), **above, fontsize=9)
    axis.set_xticks(range(len(values)), list(values), fontsize=9)
    axis.set_ylabel(y_label)
    axis.margins(y=0.12)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def grouped_bars(
    groups: dict[str, Iterable], names: Iterable[str], *, y_label: str
) -> Figure:
    """Bars side by side over each name, one per group: `groups` has one value per name,
    by the group's name in the legend."""
    names = list(names)
    figure = Figure(figsize=(8.2, 3.3), layout="constrained")
    axis = figure.subplots()
    width = 0.84 / len(groups)
    for number, (name, values) in enumerate(groups.items()):
        places = np.arange(len(names)) + (number - (len(groups) - 1) / 2) * width
        look = {"color": CYCLE[number], "hatch": HATCHES[number], "label": name}
        axis.bar(places, as_numbers(values), width=width, **look, **EDGE)
    axis.set_xticks(range(len(names)), names, fontsize=9)
    axis.set_ylabel(y_label)
    axis.spines[["top", "right"]].set_visible(False)
    where = {"loc": "outside upper right", "ncols": len(groups)}
    figure.legend(**where, fontsize=9, frameon=False)
    return figure


def heatmaps(
    maps: dict[str, Tensor],
    *,
    unit: str,
    limits: tuple[float | None, float | None] = (None, None),
    numbers: str = "",
    centred: bool = False,
    numbered: bool = False,
) -> Figure:
    """Maps [H, W] side by side on one colour scale, with the unit at the colour bar.

    Args:
        limits: ends of the colour scale; None takes that end from the data.
        numbers: format of the values in the cells, such as "{:.1f}", up to 8 × 8 cells.
        centred: whether 0 is the middle of the scale (blue below, red above).
        numbered: whether rows and columns are numbered, from 0.
    """
    values = [as_numbers(grid) for grid in maps.values()]
    low = min(grid.min() for grid in values) if limits[0] is None else limits[0]
    high = max(grid.max() for grid in values) if limits[1] is None else limits[1]
    if centred:
        high = max(abs(low), abs(high))
        low = -high
    colours = "RdBu_r" if centred else "cividis"
    width = panel_width(len(maps), 3.1, 0.9)
    size = (width * len(maps) + 0.9, max(width, 2.2) + 0.4)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(1, len(maps), squeeze=False)[0]
    for axis, name, value in zip(axes, maps, values, strict=True):
        drawn = axis.imshow(value, colours, vmin=low, vmax=high)
        fits = numbers and max(value.shape) <= 8
        for (y, x), number in np.ndenumerate(value if fits else []):
            share = (number - low) / (high - low)
            dark = abs(share - 0.5) > 0.3 if centred else share < 0.5
            style = {"color": "white" if dark else ON_FILL, "size": 9}
            # Of a number that is rounded to zero, the sign is left out.
            written = numbers.format(float(numbers.format(number)) + 0)
            axis.text(x, y, written, ha="center", va="center", **style)
        axis.set_title(name, fontsize=9)
        height, across = value.shape if numbered else (0, 0)
        axis.set(xticks=range(across), yticks=range(height))
        axis.tick_params(labelsize=9, length=0)
    figure.colorbar(drawn, ax=axes, shrink=0.8).set_label(unit)
    return figure


def images_over_maps(
    images: Tensor,
    maps: Tensor,
    captions: list[str],
    *,
    unit: str,
    limits: tuple[float, float],
    difference: str,
) -> Figure:
    """A row of images [N, C, S, S], each below its caption and above its map [H, W], in
    one unit and scale. The last map is a difference of others, and has a unit and a
    scale of its own, from 0 (white, also below; red above)."""
    values = as_numbers(maps)
    first = {"cmap": "cividis", "vmin": limits[0], "vmax": limits[1]}
    last = {"cmap": "Reds", "vmin": 0, "vmax": max(values[-1].max(), 0.1)}
    width = panel_width(len(images), 1.25, 1.8)
    lines = 1 + max(caption.count("\n") for caption in captions)
    size = (width * len(images) + 1.8, 2 * width + 0.3 + 0.16 * lines)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(2, len(images), squeeze=False)
    for number, (above, below) in enumerate(axes.T):
        draw_image(above, images[number])
        above.set_title(captions[number], fontsize=9)
        below.imshow(values[number], **(first if number < len(images) - 1 else last))
        for axis in (above, below):
            axis.set(xticks=[], yticks=[])
    for axis, its_unit in ((axes[1, 0], unit), (axes[1, -1], difference)):
        where = {"ax": list(axes.flat), "shrink": 0.44, "anchor": (0, 0.03)}
        figure.colorbar(axis.images[0], **where).set_label(its_unit, fontsize=9)
    return figure


def findings(
    images: Tensor,
    restorations: Tensor,
    maps: Tensor,
    captions: Sequence[str],
    threshold: float,
) -> Figure:
    """Images [N, C, H, W], each below its caption, and below it its restoration and the
    map [H, W] of where they differ, in which dark is odd. A line is drawn around the
    pixels above `threshold`."""
    width = panel_width(len(images), 0.9, 0.3)
    lines = 1 + max(caption.count("\n") for caption in captions)
    size = (width * len(images) + 0.3, 3 * width + 0.2 * lines + 0.1)
    figure = Figure(figsize=size, layout="constrained")
    draw_findings(figure, images, restorations, maps, captions, threshold)
    return figure


def odd_maps(
    maps: Tensor,
    unit: str,
    *,
    limits: tuple[float, float],
    images: Tensor | None = None,
) -> Figure:
    """Maps of codes [N, H, W] side by side, numbered, each below its image if images
    [N, C, S, S] are given; `limits` are the values of the lightest and the darkest
    colour."""
    rows, width = 1 + (images is not None), panel_width(len(maps), 1.25, 0.9)
    size = (width * len(maps) + 0.9, rows * width + 0.3)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, len(maps), squeeze=False)
    low, high = sorted(limits)
    colours = "magma_r" if limits[0] == low else "magma"
    for number, (column, values) in enumerate(zip(axes.T, maps, strict=True)):
        column[0].set_title(f"image {number}", fontsize=9)
        if images is not None:
            draw_image(column[0], images[number])
        drawn = column[-1].imshow(values, colours, vmin=low, vmax=high)
        for axis in column:
            bare(axis)
    figure.colorbar(drawn, ax=list(axes[-1]), shrink=0.9).set_label(unit, fontsize=9)
    return figure
