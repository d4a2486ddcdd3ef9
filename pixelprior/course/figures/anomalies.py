"""Figures of what is odd: maps of codes, and images, their restorations and maps.

In all of them, dark is odd. `pixelprior/anomalies/figures.py` draws the restorations,
also for the command `find-anomalies`.
"""

from collections.abc import Sequence

from matplotlib.figure import Figure
from torch import Tensor

from pixelprior.anomalies.figures import draw_findings
from pixelprior.plotting import bare, draw_image, panel_width


def findings(
    images: Tensor,
    restorations: Tensor,
    maps: Tensor,
    captions: Sequence[str],
    threshold: float,
) -> Figure:
    """Images, and below each its restoration and the map of where they differ.

    Args:
        images, restorations: [N, C, H, W] in [0, 1].
        maps: [N, H, W]. A line is drawn around the pixels above `threshold`.
        captions: one for each image, above it.
    """
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
    """Maps of codes side by side, numbered, each below its image if images are given.

    Args:
        maps: [N, H, W]. unit: of the values, at the colour bar.
        limits: the value of the lightest colour, and of the darkest.
        images: [N, C, S, S] in [0, 1].
    """
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
