"""Curves in one diagram, in the style of `plotting.py`."""

import math
from collections.abc import Iterable

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from pixelprior.plotting import COLOURS, INK, WIDEST

# Line styles and markers tell lines apart without colour as well.
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P")
CYCLE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#999933", "#9467BD")
ROOM_FOR_A_LABEL = 15  # pixels between two baselines


def colour_of(name: str, number: int) -> str:
    """The colour of a name's first word ("top: …"), else the next of the cycle."""
    return COLOURS.get(_first_word(name), CYCLE[number % len(CYCLE)])


def _first_word(name: str) -> str:
    return name.split()[0].rstrip(":,") if name.split() else ""


def curves(
    lines: dict[str, Iterable | tuple[Iterable, Iterable]],
    *,
    x_label: str,
    y_label: str,
    baselines: dict[str, float] | None = None,
    bands: dict[str, tuple[float, float]] | None = None,
    x_ticks: Iterable[float] | None = None,
    y_limits: tuple[float | None, float | None] = (None, None),
) -> Figure:
    """Lines in one diagram, with horizontal baselines labelled at their right end.

    Args:
        lines: by name, y values, {x: y} or (x values, y values); without x values, x
            counts from 1. A line whose name begins with "top" or "bottom" has that
            level's colour.
        x_label, y_label: names of the axes with their units.
        baselines: values at which to draw a horizontal line, by name. One whose name
            begins with "top" or "bottom" has that level's colour.
        bands: (low, high) of the horizontal bands to shade, by the name to write in
            their middle.
        x_ticks: the x values to write at the axis; None leaves the choice to
            matplotlib.
    """
    figure = Figure(figsize=(7.6, 4.0), layout="constrained")
    axis = figure.subplots()
    _draw_curves(axis, lines, baselines or {}, bands or {})
    if baselines:  # room for their labels, beside the curves
        left, right = axis.get_xlim()
        axis.set_xlim(left, right + (right - left) / 5)
    axis.set_ylabel(y_label)
    if lines:
        axis.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=9, frameon=False)
    axis.set_xlabel(x_label)
    if x_ticks is not None:
        axis.set_xticks(list(x_ticks))
    axis.set_ylim(*y_limits)
    _label_baselines(axis, baselines or {})
    return figure


def curve_panels(panels: dict[str, dict], x_label: str, y_label: str) -> Figure:
    """Panels side by side, by the names above them, with lines as in `curves`; all
    have lines of the same names, and one vertical axis."""
    figure = Figure(figsize=(WIDEST, 3.9), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axis, (title, lines) in zip(axes, panels.items(), strict=True):
        _draw_curves(axis, lines, {}, {})
        axis.set(xlabel=x_label, title=title)
        for line in axis.lines:
            line.set_marker("")
    axes[0].set_ylabel(y_label)
    below = {"loc": "outside lower center", "ncols": 4, "frameon": False}
    figure.legend(*axes[0].get_legend_handles_labels(), **below)
    return figure


def blind_spot_price(
    losses: dict[str, dict[int, float]],
    entropy: float,
    bound: float,
) -> Figure:
    """Held-out losses {step: nats per code} by name, on codes of known entropy, with
    the band below the bound of a network that has a blind spot."""
    return curves(
        losses,
        x_label="training steps",
        y_label="nats per code, held out",
        baselines={"uniform": math.log(16), "bound": bound, "entropy": entropy},
        bands={"the price of the blind spot": (entropy, bound)},
        y_limits=(1.0, 2.95),
    )


def _draw_curves(axis: Axes, lines: dict, baselines: dict, bands: dict) -> None:
    for number, (name, line) in enumerate(lines.items()):
        if isinstance(line, dict):
            line = (line.keys(), line.values())
        x, y = line if isinstance(line, tuple) else (None, line)
        y = as_numbers(y)
        x = np.arange(1, len(y) + 1) if x is None else as_numbers(x)
        axis.plot(
            x,
            y,
            color=colour_of(name, number),
            linestyle=LINES[number % len(LINES)],
            marker=MARKERS[number % len(MARKERS)] if len(y) <= 40 else None,
            markersize=4,
            label=name,
        )
    for name, (low, high) in bands.items():
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
    for name, level in baselines.items():
        axis.axhline(
            level,
            color=COLOURS.get(_first_word(name), COLOURS["baseline"]),
            linewidth=1,
            linestyle=(0, (4, 3)),
        )
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)


def _label_baselines(axis, baselines: dict[str, float]) -> None:
    """Write each baseline's name and value at its right end: above the line, or below
    it where the next line above leaves no room."""
    heights = {
        name: axis.transData.transform((0, level))[1]
        for name, level in baselines.items()
    }
    for name, level in baselines.items():
        gaps = [other - heights[name] for other in heights.values()]
        below = any(0 < gap < ROOM_FOR_A_LABEL for gap in gaps)
        axis.annotate(
            f"{name}, {level:.2f}".removesuffix(".00"),
            (1, level),
            xycoords=("axes fraction", "data"),
            xytext=(-3, -2 if below else 2),
            textcoords="offset points",
            ha="right",
            va="top" if below else "bottom",
            fontsize=9,
            color=INK,
        )


def as_numbers(values) -> np.ndarray:
    """A tensor, an array or any sequence of numbers as an array of float64."""
    if isinstance(values, Tensor):
        return values.detach().cpu().double().numpy()
    if not isinstance(values, np.ndarray):
        values = torch.as_tensor(list(values), dtype=torch.float64).numpy()
    return values.astype(float)
