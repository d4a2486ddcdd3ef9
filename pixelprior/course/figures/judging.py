"""Figures of how a code is drawn and how images are judged: the stairs of a cumulative
distribution, and quality against variety.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.figure import Figure

from pixelprior.course.figures.lines import CYCLE, LINES, MARKERS, as_numbers
from pixelprior.plotting import INK, WIDEST

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
        axis.text(k + 0.07, above - height / 2, f"{height:g} high", va="center", size=9)
    arrow = {"arrowstyle": "-|>", "ls": "--", "color": INK, "shrinkA": 0, "shrinkB": 0}
    for start, end in (((-0.7, u), (code, u)), ((code, u), (code, 0))):
        axis.annotate("", xy=end, xytext=start, arrowprops=arrow)
    axis.text(-0.66, u + 0.02, f"u = {u:g}", fontsize=10)
    axis.set_xticks(range(len(p)))
    axis.set(xlim=(-0.7, len(p) - 0.3), ylim=(0, 1.05), xlabel="code")
    axis.set_ylabel("sum of the probabilities so far")
    axis.grid(alpha=0.25, axis="y")
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def trade_off(points: dict[str, Point], cloud: dict[str, Sequence[Point]]) -> Figure:
    """Settings as points (mean distance, F²), each with its name beside it.

    Args:
        points: by name; a line joins those of "T = …", and another leads from "T = 1.0"
            to each of the others.
        cloud: by a name for the legend, points to compare with.
    """
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
