"""Bars and heat maps, in the style of `plotting.py`."""

from collections.abc import Iterable

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from pixelprior.course.figures.lines import as_numbers, colour_of
from pixelprior.plotting import COLOURS, ON_FILL, draw_image, panel_width

HATCHES = ("", "//", "..", "xx", "\\\\", "oo", "--")


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
    draw_bars(axis, values, list(values), unit_format)
    if alike:
        for bar in axis.patches:
            bar.set(facecolor=COLOURS["past"], hatch="")
    axis.set_ylabel(y_label)
    return figure


def draw_bars(
    axis: Axes,
    values: dict[str, float],
    names: list[str],
    unit_format: str,
) -> None:
    """Draw bars by name on an axis, each with its value written on it.

    The position of a name in `names` decides its colour and hatch.
    """
    for place, (name, value) in enumerate(values.items()):
        number = names.index(name)
        axis.bar(
            place,
            value,
            color=colour_of(name, number),
            hatch=HATCHES[number % len(HATCHES)],
            edgecolor="white",
            linewidth=0,
            width=0.7,
        )
        axis.annotate(
            unit_format.format(value),
            (place, value),
            xytext=(0, 2 if value >= 0 else -11),
            textcoords="offset points",
            ha="center",
            fontsize=9,
        )
    axis.set_xticks(range(len(values)), list(values), fontsize=9)
    axis.margins(y=0.12)
    axis.spines[["top", "right"]].set_visible(False)


def heatmaps(
    maps: dict[str, Tensor],
    *,
    unit: str,
    limits: tuple[float | None, float | None] = (None, None),
    numbers: str | dict[str, str] = "",
    centred: bool = False,
    numbered: bool = False,
) -> Figure:
    """Maps [H, W] side by side on one colour scale, with the unit at the colour bar.

    Args:
        maps: the maps by name. A cell that is NaN stays white, and nothing is written
            into it.
        unit: unit of the values.
        limits: ends of the colour scale; None takes that end from the data.
        numbers: format in which values are written into the cells, such as "{:.1f}", or
            "" to write none: one for all maps, or for each by its name. A map of more
            than 8 rows or columns has no room for them.
        centred: whether 0 is the middle of the scale (blue below, red above).
        numbered: whether rows and columns are numbered, from 0.
    """
    values = [as_numbers(grid) for grid in maps.values()]
    low = min(np.nanmin(grid) for grid in values) if limits[0] is None else limits[0]
    high = max(np.nanmax(grid) for grid in values) if limits[1] is None else limits[1]
    if centred:
        high = max(abs(low), abs(high)) or 1.0
        low = -high
    width = panel_width(len(maps), 3.1, 0.9)
    size = (width * len(maps) + 0.9, max(width, 2.2) + 0.4)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(1, len(maps), squeeze=False)
    for axis, name, value in zip(axes.flat, maps, values, strict=True):
        form = numbers if isinstance(numbers, str) else numbers[name]
        colours = colormaps["RdBu_r" if centred else "cividis"]
        drawn = axis.imshow(
            value, colours.with_extremes(bad="white"), vmin=low, vmax=high
        )
        if form and max(value.shape) <= 8:
            for (y, x), number in np.ndenumerate(value):
                if np.isnan(number):
                    continue
                share = (number - low) / ((high - low) or 1)
                dark = abs(share - 0.5) > 0.3 if centred else share < 0.5
                written, zero = form.format(number), form.format(0.0)
                axis.text(
                    x,
                    y,
                    zero if written == f"-{zero}" else written,
                    ha="center",
                    va="center",
                    size=9,
                    color="white" if dark else ON_FILL,
                )
        axis.set_title(name, fontsize=9)
        height, width_in_cells = value.shape if numbered else (0, 0)
        axis.set_xticks(range(width_in_cells))
        axis.set_yticks(range(height))
        axis.tick_params(labelsize=9, length=0)
    bar = figure.colorbar(drawn, ax=axes, shrink=0.8)
    bar.set_label(unit)
    return figure


def images_over_maps(
    images: Tensor,
    maps: Tensor,
    captions: Iterable[str],
    *,
    unit: str,
    limits: tuple[float | None, float | None] = (0, None),
    difference: str = "",
) -> Figure:
    """A row of images, each with its caption above and its map below.

    Args:
        images: [N, C, S, S].
        maps: [N, H, W], all on one colour scale.
        captions: the N captions.
        unit: unit of the maps' values, written at the colour bar.
        limits: ends of the colour scale; None takes that end from the data (without a
            difference).
        difference: if the last of several maps is a difference of others, the unit of
            its own scale, which begins at 0 (white, also below; red above).
    """
    values, captions = as_numbers(maps), list(captions)
    on_scale = values[:-1] if difference else values
    low = on_scale.min() if limits[0] is None else limits[0]
    high = on_scale.max() if limits[1] is None else limits[1]
    scales = [{"cmap": "cividis", "vmin": low, "vmax": high}] * len(on_scale)
    if difference:
        scales.append({"cmap": "Reds", "vmin": 0, "vmax": max(values[-1].max(), 0.1)})
    bars = 1.8 if difference else 0.9
    width = panel_width(len(images), 1.25, bars)
    lines = 1 + max(caption.count("\n") for caption in captions)
    size = (width * len(images) + bars, 2 * width + 0.3 + 0.16 * lines)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(2, len(images), squeeze=False)
    drawn = []
    for (above, below), image, value, caption, scale in zip(
        axes.T, images, values, captions, scales, strict=True
    ):
        draw_image(above, image)
        above.set_title(caption, fontsize=9)
        drawn.append(below.imshow(value, **scale))
        for axis in (above, below):
            axis.set_xticks([])
            axis.set_yticks([])
    of_difference = [(drawn[-1], difference)] if difference else []
    for which, its_unit in ((drawn[0], unit), *of_difference):
        bar = figure.colorbar(which, ax=list(axes.flat), shrink=0.44, anchor=(0, 0.03))
        bar.set_label(its_unit, fontsize=9)
    return figure


def grouped_bars(
    groups: dict[str, Iterable],
    names: Iterable[str],
    *,
    x_label: str = "",
    y_label: str,
) -> Figure:
    """Bars side by side over each name, one per group.

    Args:
        groups: one value per name in `names`, by the group's name in the legend.
        names: the labels under the bars.
        x_label, y_label: names of the axes with their units.
    """
    names = list(names)
    figure = Figure(figsize=(8.2, 3.3), layout="constrained")
    axis = figure.subplots()
    width = 0.84 / max(1, len(groups))
    for number, (name, values) in enumerate(groups.items()):
        axis.bar(
            np.arange(len(names)) + (number - (len(groups) - 1) / 2) * width,
            as_numbers(values),
            width=width,
            color=colour_of(name, number),
            hatch=HATCHES[number % len(HATCHES)],
            edgecolor="white",
            linewidth=0,
            label=name,
        )
    axis.set_xticks(range(len(names)), names, fontsize=9)
    axis.set_xlabel(x_label)
    axis.set_ylabel(y_label)
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(
        loc="outside upper right", ncols=len(groups), fontsize=9, frameon=False
    )
    return figure
