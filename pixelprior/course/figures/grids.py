"""Figures of the cells of a codebook, and blocks of images."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image
from torchvision.utils import make_grid

from pixelprior.course.figures.fields import BELOW
from pixelprior.plotting import INK, ON_FILL, image_grid, panel_width


def nearest_cells(
    panels: dict[str, tuple[Tensor, Tensor]],
    nearest: Callable[[Tensor, Tensor], Tensor],
) -> Figure:
    """The plane of pairs of pixels divided into cells, one per code.

    A panel has points [N, 2] and codes [K, 2]; `nearest` returns the number of the code
    of each point. A code is drawn as a black disc with its number, or as a white square
    if it is nearest to no point.
    """
    width = panel_width(len(panels), 3.3, 0.4)
    size = (max(width * len(panels) + 0.4, 4.6), width + 0.9)  # room for the legend
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    limits = (-0.5, 1.5)
    line = torch.linspace(*limits, 301)
    plane = torch.cartesian_prod(line, line).flip(1)  # [301 · 301, 2], (x, y)
    for axis, (name, (points, codes)) in zip(axes, panels.items(), strict=True):
        cells = nearest(plane, codes).view(301, 301).numpy()
        used = nearest(points, codes).unique().tolist()
        colours = np.array([colormaps["Pastel1"](k % 9) for k in range(len(codes))])
        axis.imshow(colours[cells], extent=limits * 2, origin="lower", aspect="equal")
        for code in np.unique(cells)[1:]:  # two cells share each border
            axis.contour(line, line, cells == code, [0.5], colors="grey", linewidths=1)
        axis.plot(*points.T, ".", color="black", markersize=1.5, alpha=0.35)
        for code, position in enumerate(codes.tolist()):
            shape, fill, ink = "square", "white", ON_FILL
            if code in used:
                shape, fill, ink = "circle", "black", "white"
            box = {"boxstyle": shape, "facecolor": fill, "edgecolor": "black"}
            text = {"ha": "center", "va": "center", "fontsize": 9, "color": ink}
            axis.annotate(str(code), position, bbox=box, **text)
        axis.set(xlim=limits, ylim=limits, xlabel="left pixel")
        axis.set_title(name, fontsize=9)
    axes[0].set_ylabel("right pixel")
    handles = [
        Line2D([], [], marker=marker, label=label, mfc=fill, ms=size)
        for marker, label, fill, size in (
            ("o", "code nearest to some points", "black", 9),
            ("s", "to none", "white", 9),
            (".", "points", "black", 4),
        )
    ]
    for handle in handles:
        handle.set(linestyle="", color="black", markeredgecolor=INK)
    figure.legend(handles=handles, ncols=3, **BELOW)
    return figure


def image_blocks(blocks: dict[str, Tensor], *, column_names: Sequence[str]) -> Figure:
    """Blocks of images [N, C, S, S], one above the other, each with its name above, and
    a name above each column."""
    count = len(column_names)
    rows = max(math.ceil(len(images) / count) for images in blocks.values())
    width = panel_width(count, 0.72)
    size = (width * count, (width * rows + 0.6) * len(blocks))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(blocks), 1, squeeze=False)[:, 0]
    for axis, (name, images) in zip(axes, blocks.items(), strict=True):
        grid = image_grid(images, count)
        filled = make_grid(torch.ones_like(images), nrow=count, padding=2)
        grid.putalpha(to_pil_image(filled[:1]))  # the lines between them are clear
        axis.imshow(grid, interpolation="nearest")
        side = images.shape[-1] + 2
        middles = [1 + side / 2 + number * side for number in range(count)]
        words = [column.replace(" ", "\n") for column in column_names]
        axis.set_xticks(middles, words, fontsize=9)
        axis.set_yticks([])
        axis.tick_params(labeltop=True, labelbottom=False, length=0)
        axis.set_title(name, fontsize=10, loc="left")
        axis.set_frame_on(False)
    return figure
