"""Figures of the cells of a codebook, a prior's prediction, and grids of cells of
several kinds, in the style of `plotting.py`."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image
from torchvision.utils import make_grid

from pixelprior.course.figures.codes import draw_codes, frame
from pixelprior.course.figures.fields import frame_grid
from pixelprior.course.figures.lines import as_numbers
from pixelprior.plotting import COLOURS, INK, ON_FILL, WIDEST, image_grid, panel_width


def nearest_cells(
    panels: dict[str, tuple[Tensor, Tensor]],
    nearest: Callable[[Tensor, Tensor], Tensor],
) -> Figure:
    """The plane of pairs of pixels divided into cells, one per code.

    Args:
        panels: by name, points [N, 2] and codes [K, 2]. A code is drawn as a black disc
            with its number, or as a white square if it is nearest to no point.
        nearest: (points [N, 2], codes [K, 2]) → the number of the code of each point.
    """
    width = panel_width(len(panels), 3.3, 0.4)
    size = (max(width * len(panels) + 0.4, 4.6), width + 0.9)  # room for the legend
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    limits = (-0.5, 1.5)
    line = torch.linspace(*limits, 301)
    y, x = torch.meshgrid(line, line, indexing="ij")
    plane = torch.stack([x, y], dim=-1).flatten(0, 1)  # [301 · 301, 2]
    for axis, (name, (points, codes)) in zip(axes, panels.items(), strict=True):
        cells = nearest(plane, codes).view(301, 301).numpy()
        used = nearest(points, codes).unique().tolist()
        colours = [colormaps["Pastel1"](code % 9) for code in range(len(codes))]
        axis.imshow(
            np.array(colours)[cells], extent=limits * 2, origin="lower", aspect="equal"
        )
        for code in np.unique(cells)[1:]:  # two cells share each border
            axis.contour(line, line, cells == code, [0.5], colors="grey", linewidths=1)
        axis.plot(*points.T, ".", color="black", markersize=1.5, alpha=0.35)
        for code, position in enumerate(codes.tolist()):
            alive = code in used
            axis.annotate(
                str(code),
                position,
                ha="center",
                va="center",
                fontsize=9,
                color="white" if alive else ON_FILL,
                bbox={
                    "boxstyle": "circle" if alive else "square",
                    "facecolor": "black" if alive else "white",
                    "edgecolor": "black",
                },
            )
        axis.set_xlim(limits)
        axis.set_ylim(limits)
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("left pixel")
    axes[0].set_ylabel("right pixel")
    style = {"linestyle": "", "color": "black", "markersize": 9, "mec": INK}
    figure.legend(
        handles=[
            Line2D([], [], marker="o", label="code nearest to some points", **style),
            Line2D(
                [], [], marker="s", label="to none", markerfacecolor="white", **style
            ),
            Line2D([], [], marker=".", label="points", **style | {"markersize": 4}),
        ],
        loc="outside lower center",
        ncols=3,
        fontsize=9,
        frameon=False,
    )
    return figure


def prediction(
    codes: Tensor, position: tuple[int, int], probabilities: Tensor, *, title: str = ""
) -> Figure:
    """What a prior predicts at one position: the earlier codes, and one bar per code.

    Args:
        codes: the grid [H, W]; positions from `position` on are left empty.
        position: (row, column) of the predicted code, drawn with a red frame.
        probabilities: probability of each code at that position, [K]. The bar of the
            code that `codes` has there is hatched, and the title names this code.
    """
    (row, column), shares = position, as_numbers(probabilities)
    numbers = torch.arange(codes.numel()).view(codes.shape)
    past = codes.cpu().long().masked_fill(numbers >= numbers[row, column], -1)
    figure = Figure(figsize=(WIDEST, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.9])
    draw_codes(left, past, len(shares), name="the codes before the frame")
    for y, x in (past < 0).nonzero().tolist():
        style = {"facecolor": "#f4f4f4", "edgecolor": "#cccccc", "linewidth": 0.6}
        left.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, **style))
    left.add_patch(frame(row, column))
    left.set_xlim(-0.6, codes.shape[1] - 0.4)
    left.set_ylim(codes.shape[0] - 0.4, -0.6)
    right.bar(np.arange(len(shares)), shares, color=COLOURS["past"], width=0.85)
    came = int(codes[row, column])
    right.bar(
        came, shares[came], color=COLOURS["future"], hatch="xxx", edgecolor="black"
    )
    right.set_title(f"hatched: the true code, {came}, p = {shares[came]:.2f}", size=9)
    right.set_xlabel("code")
    right.set_ylabel("probability")
    right.set_ylim(0, max(0.25, 1.12 * shares.max()))
    right.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=11)
    return figure


def cells(
    panels: dict[str, Tensor],
    kinds: dict[str, tuple[str, str]],
    *,
    position: tuple[int, int] | None = None,
    columns: int = 4,
) -> Figure:
    """Grids [H, W] whose cells are of several kinds.

    Args:
        panels: grids by name; each cell holds the index of its kind in `kinds`.
        kinds: a colour and a hatch ("" for none), by the name in the legend.
        position: (row, column) of the cell to frame in each grid.
        columns: the largest number of grids side by side.
    """
    columns = min(columns, len(panels))
    rows = math.ceil(len(panels) / columns)
    width = max(panel_width(columns, 2.55) * columns, 6.4)  # room for the legend
    figure = Figure(figsize=(width, 2.75 * rows + 0.6), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    looks = [
        {"facecolor": colour, "hatch": hatch, "edgecolor": "#555555", "linewidth": 0.5}
        for colour, hatch in kinds.values()
    ]
    for axis in axes:
        axis.axis("off")
    for axis, (name, panel) in zip(axes, panels.items(), strict=False):
        for (y, x), kind in np.ndenumerate(panel.cpu().numpy()):
            axis.add_patch(Rectangle((x, y), 1, 1, clip_on=False, **looks[kind]))
        if position is not None:
            axis.add_patch(
                Rectangle(position[::-1], 1, 1, fill=False, lw=2.5, ec="black")
            )
        frame_grid(axis, *panel.shape)
        axis.set_title(name, fontsize=10)
    figure.legend(
        handles=[
            Patch(label=name, **look) for name, look in zip(kinds, looks, strict=True)
        ],
        loc="outside lower center",
        ncols=min(3, len(kinds)),
        fontsize=9,
        frameon=False,
    )
    return figure


WORK = {
    "computed, new": (COLOURS["past"], ""),
    "computed again": ("white", "////"),
    "computed for nothing": (COLOURS["future"], "xx"),
    "kept": ("#66C2A5", ".."),
    "untouched": ("#f4f4f4", ""),
}


def what_is_computed(row: int, column: int, height: int = 8, width: int = 8) -> Figure:
    """What `naive`, `rows` and `cached` compute for the code at (row, column).

    The upper three grids are of the vertical stack, and the lower three of the
    horizontal stack. `cached` is drawn for kernels 3 wide.
    """
    new, again, nothing, kept, untouched = range(len(WORK))
    number = torch.arange(height * width).view(height, width)
    below = number >= (row + 1) * width
    naive_v = torch.full_like(number, again).masked_fill(below, nothing)
    naive_v[row] = again if column else new
    naive_h = torch.full_like(number, again)
    naive_h[number > number[row, column]] = nothing
    naive_h[row, column] = new
    cached_v, cached_h = torch.full((2, height, width), untouched)
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


def image_blocks(blocks: dict[str, Tensor], *, column_names: Sequence[str]) -> Figure:
    """Blocks of images [N, C, S, S], one above the other, each with its name above.

    Args:
        blocks: the blocks by name.
        column_names: one for each column, such as the classes, above its images.
    """
    rows = max(math.ceil(len(images) / len(column_names)) for images in blocks.values())
    width = panel_width(len(column_names), 0.72)
    size = (width * len(column_names), (width * rows + 0.6) * len(blocks))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(blocks), 1, squeeze=False)[:, 0]
    for axis, (name, images) in zip(axes, blocks.items(), strict=True):
        grid = image_grid(images, len(column_names))
        filled = make_grid(torch.ones_like(images), nrow=len(column_names), padding=2)
        grid.putalpha(to_pil_image(filled[:1]))  # the lines between them are clear
        axis.imshow(grid, interpolation="nearest")
        side = images.shape[-1]
        axis.set_xticks(
            [2 + side / 2 + number * (side + 2) for number in range(len(column_names))],
            [column.replace(" ", "\n") for column in column_names],
            fontsize=9,
        )
        axis.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False)
        axis.tick_params(length=0)
        axis.set_yticks([])
        axis.set_title(name, fontsize=10, loc="left")
        axis.set_frame_on(False)
    return figure
