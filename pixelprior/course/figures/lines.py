"""Curves, the stairs of a cumulative distribution, and quality against variety."""

import math
from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from pixelprior.plotting import COLOURS, INK, WIDEST

# Line styles and markers tell lines apart without colour as well.
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P")
CYCLE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#999933", "#9467BD")
ROOM_FOR_A_LABEL = 15  # pixels between two baselines


def curves(
    lines: dict[str, Iterable | tuple[Iterable, Iterable]],
    *,
    x_label: str,
    y_label: str,
    baselines: dict[str, float],
    x_ticks: Iterable[float] | None = None,
    y_limits: tuple[float | None, float | None] = (None, None),
) -> Figure:
    """Lines in one diagram, with horizontal baselines labelled at their right end.

    Args:
        lines: by name, y values, {x: y} or (x values, y values); without x values, x
            counts from 1.
        baselines: values at which to draw a horizontal line, by name.
    """
    figure = Figure(figsize=(7.6, 4.0), layout="constrained")
    axis = figure.subplots()
    _draw_curves(axis, lines)
    for level in baselines.values():
        dashed = {"color": COLOURS["baseline"], "linestyle": (0, (4, 3))}
        axis.axhline(level, linewidth=1, **dashed)
    left, right = axis.get_xlim()  # and room for the labels of the baselines
    axis.set(xlim=(left, right + (right - left) / 5), ylim=y_limits)
    axis.set(xlabel=x_label, ylabel=y_label)
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=9, frameon=False)
    if x_ticks is not None:
        axis.set_xticks(list(x_ticks))
    _label_baselines(axis, baselines)
    return figure


def curve_panels(panels: dict[str, dict], x_label: str, y_label: str) -> Figure:
    """Panels side by side, by the names above them, with lines as in `curves`; all
    have lines of the same names, and one vertical axis."""
    figure = Figure(figsize=(WIDEST, 3.9), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axis, (title, lines) in zip(axes, panels.items(), strict=True):
        _draw_curves(axis, lines)
        axis.set(xlabel=x_label, title=title)
        for line in axis.lines:
            line.set_marker("")
    axes[0].set_ylabel(y_label)
    below = {"loc": "outside lower center", "ncols": 4, "frameon": False}
    figure.legend(*axes[0].get_legend_handles_labels(), **below)
    return figure


def blind_spot_price(
    losses: dict[str, dict[int, float]], entropy: float, bound: float
) -> Figure:
    """Held-out losses {step: nats per code} by name, on codes of known entropy, with
    the band below the bound of a network that has a blind spot."""
    baselines = {"uniform": math.log(16), "bound": bound, "entropy": entropy}
    label = {"x_label": "training steps", "y_label": "nats per code, held out"}
    figure = curves(losses, **label, baselines=baselines, y_limits=(1.0, 2.95))
    (axis,) = figure.axes
    axis.axhspan(entropy, bound, color=COLOURS["blind"], alpha=0.18, lw=0)
    middle, across = (0.5, (entropy + bound) / 2), axis.get_yaxis_transform()
    style = {"ha": "center", "va": "center", "fontsize": 9, "transform": across}
    axis.text(*middle, "the price of the blind spot", **style)
    return figure


def _draw_curves(axis: Axes, lines: dict) -> None:
    for number, (name, line) in enumerate(lines.items()):
        if isinstance(line, dict):
            line = (line.keys(), line.values())
        elif not isinstance(line, tuple):
            line = (range(1, len(line) + 1), line)
        x, y = map(as_numbers, line)
        k = number % len(LINES)
        style = {"color": CYCLE[k], "linestyle": LINES[k], "label": name}
        style["marker"] = MARKERS[k] if len(y) <= 40 else None
        axis.plot(x, y, markersize=4, **style)
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)


def _label_baselines(axis, baselines: dict[str, float]) -> None:
    """Write each baseline's name and value at its right end: above the line, or below
    it where the next line above leaves no room."""
    heights = [axis.transData.transform((0, y))[1] for y in baselines.values()]
    for (name, level), height in zip(baselines.items(), heights, strict=True):
        below = any(0 < other - height < ROOM_FOR_A_LABEL for other in heights)
        side = {"xytext": (-3, -2 if below else 2), "va": "top" if below else "bottom"}
        side |= {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
        text = {"ha": "right", "fontsize": 9, "color": INK}
        axis.annotate(f"{name}, {level:.2f}", (1, level), **side, **text)


def as_numbers(values) -> np.ndarray:
    """A tensor or a collection of numbers as an array of float64."""
    values = values.detach() if isinstance(values, Tensor) else list(values)
    return np.asarray(values, dtype=float)


def stairs(probabilities: Iterable, u: float) -> Figure:
    """The sums of probabilities [K] as stairs, and how a number u leads to a code."""
    p = as_numbers(probabilities)
    sums = np.cumsum(p)
    code = min(int((sums <= u).sum()), len(p) - 1)
    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    axis = figure.subplots()
    x = np.concatenate([[-0.7], np.arange(len(p)).repeat(2), [len(p) - 0.3]])
    y = np.concatenate([[0.0, 0.0], sums.repeat(2)])
    axis.plot(x, y, color=CYCLE[0], linewidth=2)
    low = sums[code] - p[code]
    axis.plot([code, code], [low, sums[code]], color=CYCLE[1], linewidth=6, alpha=0.6)
    for k, (height, above) in enumerate(zip(p, sums, strict=True)):
        axis.text(k + 0.07, above - height / 2, f"{height:g} high", va="center", size=9)
    arrow = {"arrowstyle": "-|>", "ls": "--", "color": INK, "shrinkA": 0, "shrinkB": 0}
    for start, end in (((-0.7, u), (code, u)), ((code, u), (code, 0))):
        axis.annotate("", xy=end, xytext=start, arrowprops=arrow)
    axis.text(-0.66, u + 0.02, f"u = {u:g}", fontsize=10)
    axis.set(xlim=(-0.7, len(p) - 0.3), ylim=(0, 1.05), xticks=range(len(p)))
    axis.set(xlabel="code", ylabel="sum of the probabilities so far")
    axis.grid(alpha=0.25, axis="y")
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def trade_off(points: dict[str, tuple], cloud: dict[str, list[tuple]]) -> Figure:
    """Settings as points (mean distance, F²), each with its name beside it, and a cloud
    of points to compare with. A line joins those of "T = …", and another leads from
    "T = 1.0" to each of the others."""
    figure = Figure(figsize=(WIDEST, 4.2), layout="constrained")
    axis = figure.subplots()
    lines = {"temperature": [xy for n, xy in points.items() if n.startswith("T")]}
    others = {n: [points["T = 1.0"], xy] for n, xy in points.items() if n[0] != "T"}
    for number, (name, line) in enumerate((lines | others).items()):
        style = {"color": CYCLE[number], "linestyle": LINES[number]}
        style |= {"marker": MARKERS[number], "markersize": 6, "label": name}
        style["markevery"] = range(name in others, len(line))  # no second on T = 1.0
        axis.plot(*zip(*line, strict=True), **style)
    for name, xy in points.items():
        beside = {"xytext": (9, -4), "textcoords": "offset points"}
        if name == "T = 1.0":  # its cloud is at the right
            beside |= {"xytext": (-9, 6), "ha": "right"}
        axis.annotate(name, xy, **beside, fontsize=10)
    for marker, (name, each) in zip("x+", cloud.items(), strict=False):
        style = {"s": 80, "color": "#777777", "marker": marker, "linewidth": 1.2}
        axis.scatter(*zip(*each, strict=True), **style, label=name, zorder=3)
    axis.set(xlabel="mean distance of two images of a class", ylabel="F²")
    axis.set_ylim(0)
    axis.margins(x=0.08)
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=5, fontsize=9, frameon=False)
    return figure
