"""Figures of grids whose cells are of several kinds: kernels, receptive fields, and
what a method computes."""

import math

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from torch import Tensor

from pixelprior.course.causality import before
from pixelprior.plotting import COLOURS, INK, ON_FILL, panel_width

MIDDLE = {"ha": "center", "va": "center", "size": 9}
BELOW = {"loc": "outside lower center", "fontsize": 9, "frameon": False}
KERNEL = (("white", "grey", ""), (COLOURS["past"], "grey", ""))
FIELD = {  # fill, edge and hatch: told apart without colour as well
    "past, seen": (COLOURS["past"], "grey", ""),
    "past, not seen": ("white", COLOURS["blind"], "////"),
    "itself or future, seen: a leak": (COLOURS["future"], "white", "xx"),
    "future, not seen": ("#f4f4f4", "#bbbbbb", ""),
}
WORK = {
    "computed, new": (COLOURS["past"], ""),
    "computed again": ("white", "////"),
    "computed for nothing": (COLOURS["future"], "xx"),
    "kept": ("#66C2A5", ".."),
    "untouched": ("#f4f4f4", ""),
}


def _draw_cells(axis, kinds: Tensor, looks, position=None, **style) -> None:
    """Draw the cells of a grid in the looks of their kinds, int [H, W], and a black
    frame at a position."""
    height, width = kinds.shape
    for (y, x), kind in np.ndenumerate(kinds.numpy()):
        # `add_patch` would look for the limits of the axis, which are set below.
        axis.add_artist(Rectangle((x, y), 1, 1, **_look(*looks[kind]), **style))
    if position is not None:
        axis.add_patch(Rectangle(position[::-1], 1, 1, fill=False, lw=2.5, ec="black"))
    axis.set(xlim=(-0.05, width + 0.05), ylim=(height + 0.05, -0.05), aspect="equal")
    axis.axis("off")


def _look(fill: str, edge: str, hatch: str) -> dict[str, str]:
    return {"facecolor": fill, "edgecolor": edge, "hatch": hatch}


def _panels(count: int, columns: int, wanted: float, least: float, below: float):
    """A figure at least so wide, with room for a legend below, and its axes."""
    rows = math.ceil(count / columns)
    width = max(panel_width(columns, wanted) * columns, least)
    figure = Figure(figsize=(width, 2.75 * rows + below), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.axis("off")
    return figure, axes


def kernels_of_stacks() -> Figure:
    """What the kernels of a gated block cover, three wide, in the first block and in a
    later one: 1 at each covered position of a grid, and a frame at the output."""
    width = panel_width(4, 2.6)
    figure = Figure(figsize=(width * 4, width + 0.3), layout="constrained")
    axes = iter(figure.subplots(1, 4))
    for name, end in (("first", 2), ("a later", 3)):
        vertical, horizontal = torch.zeros(2, 5, 5, dtype=torch.long)
        vertical[1:end, 1:4] = 1
        horizontal[2, 1:end] = 1
        for stack, covered in (("vertical", vertical), ("horizontal", horizontal)):
            axis = next(axes)
            _draw_cells(axis, covered, KERNEL, (2, 2))
            for (y, x), value in np.ndenumerate(covered):
                axis.text(x + 0.5, y + 0.5, str(value), **MIDDLE, color=ON_FILL)
            axis.set_title(f"{stack}, {name} block", fontsize=9)
    return figure


def receptive_fields(
    seen: dict[str, Tensor], position: tuple[int, int], *, columns: int = 4
) -> Figure:
    """Which positions the output at one position depends on, bool [H, W] by name, in
    the looks of `FIELD`; the position itself has a black frame."""
    columns = min(columns, len(seen))
    figure, axes = _panels(len(seen), columns, 2.5, 4.6, 0.5)
    for axis, (name, each) in zip(axes, seen.items(), strict=False):
        (height, width), sees = each.shape, each.long()
        kinds = torch.where(before(position, (height, width)), 1 - sees, 3 - sees)
        _draw_cells(axis, kinds, [*FIELD.values()], position, linewidth=0.6)
        axis.set(xlim=(-0.8, width + 0.05), ylim=(height + 0.05, -0.8))
        for y in range(height):
            axis.text(-0.4, y + 0.5, str(y), **MIDDLE, color=INK)
        for x in range(width):
            axis.text(x + 0.5, -0.4, str(x), **MIDDLE, color=INK)
        axis.set_title(name, fontsize=9)
    handles = [Patch(label=name, **_look(*FIELD[name])) for name in [*FIELD][:3]]
    frame = {"facecolor": "white", "edgecolor": INK, "lw": 2.5}
    handles.append(Patch(label="the position", **frame))
    size = {"handlelength": 2.4, "handleheight": 1.4}
    figure.legend(handles=handles, ncols=2 if columns < 4 else 4, **size, **BELOW)
    return figure


def cells(
    panels: dict[str, Tensor],
    kinds: dict[str, tuple[str, str]],
    *,
    position: tuple[int, int] | None = None,
    columns: int,
) -> Figure:
    """Grids [H, W] by name, `columns` side by side. A cell holds the index of its kind
    in `kinds`, which has a colour and a hatch by the name in the legend; the one at
    (row, column) `position` has a frame."""
    figure, axes = _panels(len(panels), columns, 2.55, 6.4, 0.6)
    looks = [(colour, "#555555", hatch) for colour, hatch in kinds.values()]
    for axis, (name, panel) in zip(axes, panels.items(), strict=False):
        _draw_cells(axis, panel, looks, position, linewidth=0.5, clip_on=False)
        axis.set_title(name, fontsize=10)
    named = zip(kinds, looks, strict=True)
    handles = [Patch(label=name, **_look(*look), lw=0.5) for name, look in named]
    figure.legend(handles=handles, ncols=min(3, len(kinds)), **BELOW)
    return figure


def what_is_computed(row: int, column: int) -> Figure:
    """What `naive`, `rows` and `cached`, with kernels 3 wide, compute for the code at
    (row, column) of 8 × 8: of the vertical stack, and below of the horizontal one."""
    new, again, nothing, kept, untouched = range(len(WORK))
    number = torch.arange(64).view(8, 8)
    below = number >= (row + 1) * 8
    naive_v = torch.full_like(number, again).masked_fill(below, nothing)
    naive_v[row] = again if column else new
    naive_h = torch.full_like(number, again)
    naive_h[number > number[row, column]] = nothing
    naive_h[row, column] = new
    cached_v, cached_h = torch.full((2, 8, 8), untouched)
    cached_v[max(0, row - 1)] = kept
    cached_v[row] = kept if column else new
    cached_h[row, max(0, column - 1)] = kept
    cached_h[row, column] = new
    panels = {}
    for stack, naive, cached in (
        ("vertical", naive_v, cached_v),
        ("horizontal", naive_h, cached_h),
    ):
        rows = naive.masked_fill(below, untouched)
        for method, grid in (("naive", naive), ("rows", rows), ("cached", cached)):
            count = int((grid <= nothing).sum())
            panels[f"{method}, {stack}: {count} computed"] = grid
    return cells(panels, WORK, position=(row, column), columns=3)
