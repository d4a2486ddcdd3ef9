"""Curves, bars, heat maps, masks and receptive fields, in the look of `viz.py`."""

from collections.abc import Iterable

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Patch, Rectangle
from torch import Tensor

from pixelprior.viz import COLOURS, _frame, draw_codes

# Told apart without colour as well: by line style and by marker.
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P")
CYCLE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#000000")


def colour_of(name: str, number: int) -> str:
    """The colour that a name begins with ("top: …"), else the cycle's."""
    first = name.split()[0].rstrip(":,") if name.split() else ""
    return COLOURS.get(first, CYCLE[number % len(CYCLE)])


def curves(
    lines: dict[str, Iterable | tuple[Iterable, Iterable]],
    *,
    x_label: str,
    y_label: str,
    baselines: dict[str, float] | None = None,
    bands: dict[str, tuple[float, float]] | None = None,
    title: str = "",
    log_x: bool = False,
    log_y: bool = False,
    y_limits: tuple[float | None, float | None] = (None, None),
) -> Figure:
    """Lines over one axis, with level baselines that are named at their right end.

    Args:
        lines: by name, y values, or (x values, y values); without x they are counted
            from 1. A name that begins with "top" or "bottom" has that level's colour.
        x_label, y_label: what is on the axes, with its unit.
        baselines: levels to draw across.
        bands: from which level to which to shade, with the name in the middle.
    """
    figure = Figure(figsize=(7.6, 4.0), layout="constrained")
    axis = figure.subplots()
    for number, (name, line) in enumerate(lines.items()):
        x, y = line if isinstance(line, tuple) else (None, line)
        y = _numbers(y)
        x = np.arange(1, len(y) + 1) if x is None else _numbers(x)
        axis.plot(
            x,
            y,
            color=colour_of(name, number),
            linestyle=LINES[number % len(LINES)],
            marker=MARKERS[number % len(MARKERS)] if len(y) <= 40 else None,
            markersize=4,
            label=name,
        )
    for name, (low, high) in (bands or {}).items():
        axis.axhspan(low, high, color=COLOURS["blind"], alpha=0.18, lw=0)
        axis.text(
            0.5,
            (low + high) / 2,
            name,
            transform=axis.get_yaxis_transform(),
            ha="center",
            va="center",
            fontsize=9,
        )
    for name, level in (baselines or {}).items():
        axis.axhline(
            level, color=COLOURS["baseline"], linewidth=1, linestyle=(0, (4, 3))
        )
        axis.annotate(
            f"{name}, {level:.2f}",
            (1, level),
            xycoords=("axes fraction", "data"),
            xytext=(-3, 2),
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontsize=8,
            color="#444444",
        )
    axis.set_xlabel(x_label)
    axis.set_ylabel(y_label)
    if log_x:
        axis.set_xscale("log")
    if log_y:
        axis.set_yscale("log")
    axis.set_ylim(*y_limits)
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    if lines:
        figure.legend(
            *axis.get_legend_handles_labels(),
            loc="outside right upper",
            fontsize=8,
            frameon=False,
        )
    figure.suptitle(title, fontsize=11)
    return figure


def bars(
    values: dict[str, float],
    *,
    y_label: str,
    title: str = "",
    unit_format: str = "{:.2f}",
) -> Figure:
    """One bar a name, its value written on it."""
    figure = Figure(
        figsize=(max(4.0, 1.3 * len(values) + 1), 3.6), layout="constrained"
    )
    axis = figure.subplots()
    hatches = ("", "//", "..", "xx", "\\\\", "oo")
    for number, (name, value) in enumerate(values.items()):
        axis.bar(
            number,
            value,
            color=colour_of(name, number),
            hatch=hatches[number % len(hatches)],
            edgecolor="white",
            width=0.7,
        )
        axis.annotate(
            unit_format.format(value),
            (number, value),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            fontsize=9,
        )
    axis.set_xticks(range(len(values)), list(values), fontsize=8)
    axis.set_ylabel(y_label)
    axis.margins(y=0.12)
    axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=11)
    return figure


def code_use(counts: dict[str, Tensor], *, title: str = "") -> Figure:
    """How often each code occurs, [K] counts by name, most frequent first, as shares;
    the dashed line is what each share would be if all were equal."""
    figure = Figure(figsize=(3.9 * len(counts), 3.2), layout="constrained")
    axes = figure.subplots(1, len(counts), squeeze=False, sharey=True)[0]
    for number, (axis, (name, count)) in enumerate(
        zip(axes, counts.items(), strict=True)
    ):
        shares = _numbers(count) / max(1, _numbers(count).sum())
        axis.bar(
            np.arange(len(shares)),
            np.sort(shares)[::-1],
            color=colour_of(name, number),
            width=0.85,
        )
        level = 1 / len(shares)
        axis.axhline(level, color="black", linewidth=1, linestyle="--")
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("codes, most frequent first")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("share of all codes")
    figure.suptitle(title, fontsize=11)
    return figure


def heatmaps(
    maps: dict[str, Tensor],
    *,
    unit: str,
    title: str = "",
    limits: tuple[float | None, float | None] = (None, None),
    numbers: str = "",
    centred: bool = False,
) -> Figure:
    """Maps [H, W] side by side on one colour scale, whose unit stands at the bar.

    Args:
        maps: by name.
        unit: of the values.
        limits: ends of the colour scale, None for the data's.
        numbers: format in which values are written into the cells, such as "{:.1f}".
        centred: whether 0 is the middle of the scale (blue below, red above).
    """
    values = [_numbers(each) for each in maps.values()]
    low = min(each.min() for each in values) if limits[0] is None else limits[0]
    high = max(each.max() for each in values) if limits[1] is None else limits[1]
    if centred:
        high = max(abs(low), abs(high)) or 1.0
        low = -high
    figure = Figure(figsize=(3.1 * len(maps) + 0.9, 3.5), layout="constrained")
    axes = figure.subplots(1, len(maps), squeeze=False)[0]
    for axis, name, value in zip(axes, maps, values, strict=True):
        drawn = axis.imshow(
            value, cmap="RdBu_r" if centred else "cividis", vmin=low, vmax=high
        )
        if numbers:
            size = min(9, 64 / max(value.shape))
            for (y, x), number in np.ndenumerate(value):
                share = (number - low) / ((high - low) or 1)
                dark = abs(share - 0.5) > 0.3 if centred else share < 0.5
                axis.text(
                    x,
                    y,
                    numbers.format(number),
                    ha="center",
                    va="center",
                    size=size,
                    color="white" if dark else "black",
                )
        axis.set_title(name, fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
    bar = figure.colorbar(drawn, ax=list(axes), shrink=0.8)
    bar.set_label(unit)
    figure.suptitle(title, fontsize=11)
    return figure


def masks(kernels: dict[str, Tensor], *, title: str = "") -> Figure:
    """Masks [k, k] of ones and zeros: 1 as seen past, 0 as hidden, centre framed."""
    figure = Figure(figsize=(2.6 * len(kernels), 2.9), layout="constrained")
    axes = figure.subplots(1, len(kernels), squeeze=False)[0]
    for axis, (name, kernel) in zip(axes, kernels.items(), strict=True):
        kernel = _numbers(kernel)
        height, width = kernel.shape
        for (y, x), value in np.ndenumerate(kernel):
            colour = COLOURS["past"] if value else "white"
            axis.add_patch(Rectangle((x, y), 1, 1, facecolor=colour, edgecolor="grey"))
            axis.text(x + 0.5, y + 0.5, f"{value:g}", ha="center", va="center", size=9)
        axis.add_patch(
            Rectangle((width // 2, height // 2), 1, 1, fill=False, lw=2.5, ec="black")
        )
        _frame_grid(axis, height, width)
        axis.set_title(name, fontsize=9)
    figure.suptitle(title, fontsize=11)
    return figure


def receptive_fields(
    seen: dict[str, Tensor],
    place: tuple[int, int],
    *,
    columns: int = 4,
    title: str = "",
) -> Figure:
    """What the output at one place sees, bool [H, W] by name.

    Seen past is blue; past that is not seen, the blind spot, is hatched; seen future, a
    leak, is red with a cross; the place itself has a black frame.
    """
    rows = -(-len(seen) // columns)
    columns = min(columns, len(seen))
    width = max(2.5 * columns, 4.6)  # room for the legend
    figure = Figure(figsize=(width, 2.75 * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.axis("off")
    for axis, (name, each) in zip(axes, seen.items(), strict=False):
        _draw_field(axis, each.detach().cpu().bool(), place)
        axis.set_title(name, fontsize=9)
    figure.legend(
        handles=[
            Patch(facecolor=COLOURS["past"], edgecolor="grey", label="past, seen"),
            Patch(
                facecolor="white",
                edgecolor=COLOURS["blind"],
                hatch="////",
                label="past, not seen: the blind spot",
            ),
            Patch(
                facecolor=COLOURS["future"],
                edgecolor="grey",
                hatch="xx",
                label="itself or future, seen: a leak",
            ),
            Patch(facecolor="white", edgecolor="black", lw=2.5, label="the place"),
        ],
        loc="outside lower center",
        ncols=2 if columns < 4 else 4,
        fontsize=8,
        frameon=False,
    )
    figure.suptitle(title, fontsize=11)
    return figure


def _draw_field(axis, seen: Tensor, place: tuple[int, int]) -> None:
    height, width = seen.shape
    here = place[0] * width + place[1]
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
            axis.add_patch(Rectangle((x, y), 1, 1, linewidth=0.6, **style))
    axis.add_patch(Rectangle(place[::-1], 1, 1, fill=False, lw=2.5, ec="black"))
    _frame_grid(axis, height, width)


def _frame_grid(axis, height: int, width: int) -> None:
    axis.set_xlim(-0.05, width + 0.05)
    axis.set_ylim(height + 0.05, -0.05)
    axis.set_aspect("equal")
    axis.axis("off")


def course_map(chapters: dict[str, str], here: str = "", *, title: str = "") -> Figure:
    """The course as boxes in reading order: number and what it is about.

    Args:
        chapters: what each is about, by number. here: the one to fill in.
    """
    columns = 5
    rows = -(-len(chapters) // columns)
    figure = Figure(figsize=(9.6, 1.5 * rows + 0.3), layout="constrained")
    axis = figure.subplots()
    for index, (number, about) in enumerate(chapters.items()):
        y, x = divmod(index, columns)
        filled = number == here
        axis.add_patch(
            FancyBboxPatch(
                (x * 2 + 0.1, -y * 1.2),
                1.7,
                0.9,
                boxstyle="round,pad=0.02",
                facecolor=COLOURS["past"] if filled else "white",
                edgecolor=COLOURS["top"],
            )
        )
        axis.text(x * 2 + 0.2, -y * 1.2 + 0.72, number, weight="bold", size=10)
        axis.text(x * 2 + 0.2, -y * 1.2 + 0.56, about, size=7.6, va="top")
        if x < columns - 1 and index < len(chapters) - 1:
            axis.annotate(
                "",
                xy=(x * 2 + 2.06, -y * 1.2 + 0.45),
                xytext=(x * 2 + 1.84, -y * 1.2 + 0.45),
                arrowprops={"arrowstyle": "-|>", "color": "black"},
            )
    axis.set_xlim(0, 2 * columns)
    axis.set_ylim(-1.2 * (rows - 1) - 0.15, 1.05)
    axis.axis("off")
    figure.suptitle(title, fontsize=11)
    return figure


def _numbers(values) -> np.ndarray:
    if isinstance(values, Tensor):
        return values.detach().cpu().double().numpy()
    if not isinstance(values, np.ndarray):
        values = torch.as_tensor(list(values), dtype=torch.float64).numpy()
    return values.astype(float)


def nearest_cells(
    panels: dict[str, tuple[Tensor, Tensor]],
    *,
    x_label: str,
    y_label: str,
    limits: tuple[float, float],
    title: str = "",
) -> Figure:
    """The plane cut into cells, one a code: what is nearer to it than to any other.

    Args:
        panels: by name, points [N, 2] and codes [K, 2]. A code is a black disc with its
            number; one that is nearest to no point is a white square.
        x_label, y_label: what the two numbers of a point are.
        limits: of both axes.
    """
    figure = Figure(figsize=(3.3 * len(panels) + 0.4, 3.9), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    line = np.linspace(*limits, 301)
    plane = np.stack(np.meshgrid(line, line), axis=-1)  # [301, 301, 2]: x, y
    for axis, (name, (points, codes)) in zip(axes, panels.items(), strict=True):
        points, codes = _numbers(points), _numbers(codes)
        cells = _nearest(plane, codes)  # [301, 301]
        colours = [colormaps["Pastel1"](code % 9) for code in range(len(codes))]
        axis.imshow(
            np.array(colours)[cells], extent=limits * 2, origin="lower", aspect="equal"
        )
        for code in np.unique(cells)[1:]:  # a border belongs to two cells
            axis.contour(line, line, cells == code, [0.5], colors="grey", linewidths=1)
        axis.plot(*points.T, ".", color="black", markersize=1.5, alpha=0.35)
        used = np.unique(_nearest(points, codes))
        for code, place in enumerate(codes):
            alive = code in used
            axis.annotate(
                str(code),
                place,
                ha="center",
                va="center",
                fontsize=8,
                color="white" if alive else "black",
                bbox={
                    "boxstyle": "circle" if alive else "square",
                    "facecolor": "black" if alive else "white",
                    "edgecolor": "black",
                },
            )
        axis.set_xlim(limits)
        axis.set_ylim(limits)
        axis.set_title(name, fontsize=9)
        axis.set_xlabel(x_label)
    axes[0].set_ylabel(y_label)
    figure.suptitle(title, fontsize=11)
    return figure


def _nearest(points: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """The number of the code [K, D] that is nearest to each point [..., D]."""
    return np.square(points[..., None, :] - codes).sum(axis=-1).argmin(axis=-1)


def prediction(
    codes: Tensor, place: tuple[int, int], probabilities: Tensor, *, title: str = ""
) -> Figure:
    """What a prior expects at one place: the codes before it, and a bar for each code.

    Args:
        codes: the grid [H, W]; places from `place` on are left empty.
        place: (row, column) of the code to come, in a red frame.
        probabilities: of each code there, [K]. The code that stands in `codes` is
            hatched and named.
    """
    (row, column), shares = place, _numbers(probabilities)
    numbers = torch.arange(codes.numel()).view(codes.shape)
    past = codes.cpu().long().masked_fill(numbers >= numbers[row, column], -1)
    figure = Figure(figsize=(9.2, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.9])
    draw_codes(left, past, len(shares), name="the codes before the frame")
    for y, x in (past < 0).nonzero().tolist():
        style = {"facecolor": "#f4f4f4", "edgecolor": "#cccccc", "linewidth": 0.6}
        left.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, **style))
    left.add_patch(_frame(row, column))
    left.set_xlim(-0.6, codes.shape[1] - 0.4)
    left.set_ylim(codes.shape[0] - 0.4, -0.6)
    right.bar(np.arange(len(shares)), shares, color=COLOURS["past"], width=0.85)
    came = int(codes[row, column])
    right.bar(
        came, shares[came], color=COLOURS["future"], hatch="xxx", edgecolor="black"
    )
    right.set_title(f"hatched: code {came}, which came, p = {shares[came]:.2f}", size=9)
    right.set_xlabel("code")
    right.set_ylabel("probability")
    right.set_ylim(0, max(0.25, 1.12 * shares.max()))
    right.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=11)
    return figure
