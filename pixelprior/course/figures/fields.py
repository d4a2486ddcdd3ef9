"""Figures of masks and receptive fields, in the style of `plotting.py`."""

import math

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from torch import Tensor

from pixelprior.course.figures.lines import as_numbers
from pixelprior.plotting import COLOURS, INK, ON_FILL, panel_width

IN_CELL = {"ha": "center", "va": "center", "size": 9, "color": ON_FILL}


def masks(kernels: dict[str, Tensor]) -> Figure:
    """Masks [k, k] of ones and zeros: 1 in the colour of the past, centre framed."""
    width = panel_width(len(kernels), 2.6)
    figure = Figure(figsize=(width * len(kernels), width + 0.3), layout="constrained")
    axes = figure.subplots(1, len(kernels), squeeze=False)[0]
    for axis, (name, kernel) in zip(axes, kernels.items(), strict=True):
        kernel = as_numbers(kernel)
        height, width = kernel.shape
        for (y, x), value in np.ndenumerate(kernel):
            colour = COLOURS["past"] if value else "white"
            axis.add_patch(Rectangle((x, y), 1, 1, facecolor=colour, edgecolor="grey"))
            axis.text(x + 0.5, y + 0.5, f"{value:g}", **IN_CELL)
        axis.add_patch(
            Rectangle((width // 2, height // 2), 1, 1, fill=False, lw=2.5, ec="black")
        )
        frame_grid(axis, height, width)
        axis.set_title(name, fontsize=9)
    return figure


def kernels_of_stacks() -> Figure:
    """What the kernels of a gated block cover, three wide, in the first block and in a
    later one: 1 at each covered position of a grid, and a frame at the output."""
    covered = {}
    for name, end in (("first", 2), ("a later", 3)):
        vertical, horizontal = torch.zeros(2, 5, 5)
        vertical[1:end, 1:4] = 1
        horizontal[2, 1:end] = 1
        covered[f"vertical, {name} block"] = vertical
        covered[f"horizontal, {name} block"] = horizontal
    return masks(covered)


def receptive_fields(
    seen: dict[str, Tensor],
    position: tuple[int, int],
    *,
    columns: int = 4,
) -> Figure:
    """Which positions the output at one position depends on, bool [H, W] by name.

    Past positions are blue if they are seen, and hatched if they are not. The position
    itself and future positions are orange and cross-hatched if they are seen, which is
    a leak. The position itself has a black frame.
    """
    rows = math.ceil(len(seen) / columns)
    columns = min(columns, len(seen))
    width = max(panel_width(columns, 2.5) * columns, 4.6)  # room for the legend
    figure = Figure(figsize=(width, 2.75 * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.axis("off")
    for axis, (name, each) in zip(axes, seen.items(), strict=False):
        _draw_field(axis, each.detach().cpu().bool(), position)
        axis.set_title(name, fontsize=9)
    figure.legend(
        handles=[
            Patch(facecolor=COLOURS["past"], edgecolor="grey", label="past, seen"),
            Patch(
                facecolor="white",
                edgecolor=COLOURS["blind"],
                hatch="////",
                label="past, not seen",
            ),
            Patch(
                facecolor=COLOURS["future"],
                edgecolor="white",
                hatch="xx",
                label="itself or future, seen: a leak",
            ),
            Patch(facecolor="white", edgecolor=INK, lw=2.5, label="the position"),
        ],
        loc="outside lower center",
        ncols=2 if columns < 4 else 4,
        fontsize=9,
        handlelength=2.4,
        handleheight=1.4,
        frameon=False,
    )
    return figure


def _draw_field(axis, seen: Tensor, position: tuple[int, int]) -> None:
    height, width = seen.shape
    here = position[0] * width + position[1]
    for y in range(height):
        for x in range(width):
            past, sees = y * width + x < here, bool(seen[y, x])
            style = {"facecolor": "#f4f4f4", "edgecolor": "#bbbbbb"}
            if past and sees:
                style = {"facecolor": COLOURS["past"], "edgecolor": "grey"}
            elif past:
                style = {
                    "facecolor": "white",
                    "edgecolor": COLOURS["blind"],
                    "hatch": "////",
                }
            elif sees:
                style = {
                    "facecolor": COLOURS["future"],
                    "edgecolor": "white",
                    "hatch": "xx",
                }
            # `add_patch` would look for the limits of the axis, which are set below.
            axis.add_artist(Rectangle((x, y), 1, 1, linewidth=0.6, **style))
    axis.add_patch(Rectangle(position[::-1], 1, 1, fill=False, lw=2.5, ec="black"))
    frame_grid(axis, height, width)
    _number_grid(axis, height, width)


def _number_grid(axis, height: int, width: int) -> None:
    """Write the numbers of rows and columns beside a grid, or every second of them if
    there are more than 10."""
    axis.set_xlim(-0.8, width + 0.05)
    axis.set_ylim(height + 0.05, -0.8)
    style = {"ha": "center", "va": "center", "size": 9, "color": INK}
    step = 1 if max(height, width) <= 10 else 2  # numbers of two digits need room
    for y in range(0, height, step):
        axis.text(-0.4, y + 0.5, str(y), **style)
    for x in range(0, width, step):
        axis.text(x + 0.5, -0.4, str(x), **style)


def frame_grid(axis, height: int, width: int) -> None:
    axis.set_xlim(-0.05, width + 0.05)
    axis.set_ylim(height + 0.05, -0.05)
    axis.set_aspect("equal")
    axis.axis("off")
