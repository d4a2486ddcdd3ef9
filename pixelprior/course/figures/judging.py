"""Figures of how a code is drawn and how images and trainings are judged: the stairs of
a cumulative distribution, quality against variety, and panels of bars or curves that do
not share an axis.
"""

import itertools
from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pixelprior.course.figures.lines import CYCLE, LINES, MARKERS, as_numbers, colour_of
from pixelprior.course.figures.plots import draw_bars
from pixelprior.plotting import DPI, INK, WIDEST

Point = tuple[float, float]


def stairs(probabilities: Iterable, u: float) -> Figure:
    """The sums of the probabilities as stairs, and how the number u leads to a code.

    Args:
        probabilities: of the codes, [K].
        u: the uniform number, from 0 to 1.
    """
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
        middle = above - height / 2
        axis.text(k + 0.07, middle, f"{height:g} high", va="center", fontsize=9)
    arrow = {"arrowstyle": "-|>", "linestyle": "--", "color": INK, "shrinkB": 0}
    for start, end in (((-0.7, u), (code, u)), ((code, u), (code, 0))):
        arrow = arrow | {"shrinkA": 0}
        axis.annotate("", xy=end, xytext=start, arrowprops=arrow)
    axis.text(-0.66, u + 0.02, f"u = {u:g}", fontsize=10)
    axis.set_xticks(range(len(p)))
    axis.set(xlim=(-0.7, len(p) - 0.3), ylim=(0, 1.05), xlabel="code")
    axis.set_ylabel("sum of the probabilities so far")
    axis.grid(alpha=0.25, axis="y")
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def trade_off(
    paths: dict[str, dict[str, Point]],
    *,
    start: str,
    cloud: dict[str, Sequence[Point]],
    noise: Point,
    x_label: str,
    y_label: str,
) -> Figure:
    """Settings of several knobs as points in a plane, each with its label beside it.

    Args:
        paths: for each knob the points of its settings (x, y) by their labels, in the
            order in which a line joins them.
        start: the label of the point where no knob is turned; the lines of the knobs
            that do not contain this point begin there.
        cloud: by a name for the legend, points to compare with, without labels.
        noise: the width and height of a rectangle that is drawn in a corner, beside
            both as numbers.
        x_label, y_label: names of the axes with their units.
    """
    points = {label: xy for path in paths.values() for label, xy in path.items()}
    others = [xy for each in cloud.values() for xy in each]
    xs, ys = np.array([*points.values(), *others]).T
    figure = Figure(figsize=(WIDEST, 4.6))
    axis = figure.add_axes((0.075, 0.12, 0.905, 0.79))
    margin = 0.06 * (xs.max() - xs.min())
    axis.set(xlim=(xs.min() - margin, xs.max() + margin), ylim=(0, 1.12 * ys.max()))
    segments = []
    for number, (knob, path) in enumerate(paths.items()):
        line = list(path.values())
        if start not in path:
            line = [points[start], *line]
        segments += itertools.pairwise(line)
        axis.plot(
            *zip(*line, strict=True),
            color=CYCLE[number % len(CYCLE)],
            linestyle=LINES[number % len(LINES)],
            marker=MARKERS[number % len(MARKERS)],
            markevery=range(len(line) - len(path), len(line)),
            markersize=7,
            label=knob,
        )
    for name, each in cloud.items():
        style = {"s": 16, "color": "#999999", "marker": "x", "linewidth": 1}
        axis.scatter(*zip(*each, strict=True), **style, label=name)
    corner = axis.transData.inverted().transform(axis.transAxes.transform((0.03, 0.05)))
    axis.add_patch(Rectangle(corner, *noise, fc="#dddddd", ec="#555555"))
    side = (corner[0] + noise[0], corner[1] + noise[1] / 2)
    beside = {"xytext": (5, 0), "textcoords": "offset points", "va": "center"}
    words = "noise: {:.2f} wide, {:.2f} high".format(*noise)
    axis.annotate(words, side, **beside, fontsize=9)
    _label(axis, paths, segments, others)
    axis.set_xlabel(x_label)
    axis.set_ylabel(y_label)
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    above = {"loc": "upper center", "ncols": len(paths) + len(cloud)}
    figure.legend(**above, fontsize=9, frameon=False)
    return figure


def _label(axis, paths, segments, others, size: int = 10) -> None:
    """Write each label beside its point, where it covers least of what is drawn."""
    to_pixels = axis.transData.transform
    steps = np.linspace(0, 1, 40)[:, None]
    marks = [
        to_pixels(np.array([a]) * (1 - steps) + np.array([b]) * steps)
        for a, b in segments
    ]
    marks += [to_pixels(np.array([xy])) for xy in others]
    marks = np.concatenate(marks)  # [N, 2], in pixels
    taken = [
        (x - 7, y - 7, x + 7, y + 7)
        for path in paths.values()
        for x, y in to_pixels(np.array(list(path.values())))
    ]
    around = [(0, -1), (0, 1), (1, -1), (1, 1), (-1, -1), (-1, 1), (1, 0), (-1, 0)]
    for number, path in enumerate(paths.values()):
        for label, xy in path.items():
            x, y = to_pixels(xy)
            wide, high = 0.6 * size * len(label) * DPI / 72, 1.2 * size * DPI / 72
            best = None
            for right, up in around:
                left = x - wide / 2 + right * (wide / 2 + 9)
                low = y - high / 2 + up * (high / 2 + 8)
                box = (left, low, left + wide, low + high)
                covered = ((marks > box[:2]) & (marks < box[2:])).all(axis=1).sum()
                covered += 40 * sum(_overlap(box, other) for other in taken)
                if best is None or covered < best[0]:
                    best = (covered, box)
            box = best[1]
            taken.append(box)
            axis.annotate(
                label,
                xy,
                ((box[0] + box[2]) / 2 - x, (box[1] + box[3]) / 2 - y),
                textcoords="offset pixels",
                ha="center",
                va="center",
                fontsize=size,
                color=CYCLE[number % len(CYCLE)],
            )


def _overlap(one, other) -> bool:
    return (
        one[0] < other[2]
        and other[0] < one[2]
        and one[1] < other[3]
        and other[1] < one[3]
    )


def bar_panels(
    panels: dict[str, dict[str, float]], *, unit_format: str = "{:.2f}"
) -> Figure:
    """Panels of bars side by side, each with an axis of its own and its name above.

    Args:
        panels: for each panel its values by the names under the bars. A name has the
            same colour and hatch in each panel.
        unit_format: format of the values, which are written on the bars.
    """
    width = min(4.4, WIDEST / len(panels))
    figure = Figure(figsize=(width * len(panels), 3.0), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    names = list(dict.fromkeys(name for values in panels.values() for name in values))
    for axis, (title, values) in zip(axes, panels.items(), strict=True):
        draw_bars(axis, values, names, unit_format)
        axis.set_title(title, fontsize=10)
    return figure


def curve_panels(
    panels: dict[str, dict[str, Iterable]],
    *,
    x_label: str,
    y_label: str = "",
    scales: str | Sequence[str] = "linear",
    y_limits: tuple[float | None, float | None] = (None, None),
) -> Figure:
    """Panels of curves side by side, each with its name above, and legends below.

    Args:
        panels: for each panel its y values by name; x counts from 1. Several lines of
            one name are given as [lines, values], and look alike. The first, second, …
            names of all panels look alike as well, and the last one is drawn on top.
        x_label, y_label: names of the axes with their units.
        scales: scale of the vertical axis, such as "log", or one for each panel. With
            one scale for all, the panels share the axis.
        y_limits: ends of the vertical axes.
    """
    shared = isinstance(scales, str)
    scales = [scales] * len(panels) if shared else scales
    width = min(4.4, WIDEST / len(panels))
    figure = Figure(figsize=(width * len(panels), 3.9), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=shared)[0]
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    one_legend = all(list(lines) == names for lines in panels.values())
    for axis, (title, lines), scale in zip(axes, panels.items(), scales, strict=True):
        for number, (name, values) in enumerate(lines.items()):
            for k, line in enumerate(np.atleast_2d(as_numbers(values))):
                axis.plot(
                    np.arange(1, len(line) + 1),
                    line,
                    color=colour_of(name, number),
                    linestyle=LINES[number % len(LINES)],
                    linewidth=1.3,
                    label=name if k == 0 else None,
                )
        _scale(axis, scale)
        axis.set_ylim(*y_limits)
        axis.set_xlabel(x_label, fontsize=9)
        axis.set_title(title, fontsize=10)
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
        if one_legend:
            continue
        below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.2)}
        axis.legend(**below, fontsize=9, frameon=False)
    if one_legend:
        below = {"loc": "outside lower center", "ncols": len(names)}
        handles = axes[0].get_legend_handles_labels()
        figure.legend(*handles, **below, fontsize=9, frameon=False)
    axes[0].set_ylabel(y_label)
    return figure


def _scale(axis, scale: str) -> None:
    """Set the scale of the vertical axis, with plain numbers in place of powers."""
    if scale == "linear":
        return
    axis.set_yscale(scale, **({"linthresh": 1} if scale == "symlog" else {}))
    if scale == "symlog":
        low, high = axis.get_ylim()
        powers = 10.0 ** np.arange(7)
        ticks = np.array([*-powers[::-1], 0, *powers])
        axis.set_yticks(ticks[(ticks >= low) & (ticks <= high)])
    axis.yaxis.set_major_formatter("{x:g}")
    axis.minorticks_off()
