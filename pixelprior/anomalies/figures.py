"""Figures of what `anomalies.find` has found, in one image or in several.

Each image is beside what it should look like and its map. A line is drawn on the map
around the pixels above a threshold.
"""

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from pixelprior.anomalies.scores import Calibration
from pixelprior.plotting import COLOURS, INK, WIDEST, bare, draw_image

NAMES = ("image", "restoration", "map")
BINS = 40
FINE = 4  # the line is drawn along the edges of pixels, on a grid so many times finer


def draw_map(axis, values: Tensor, threshold: float, largest: float) -> None:
    """Draw a map [H, W] on an axis, with a line around the pixels above `threshold`;
    `largest` has the darkest colour, and 0 the lightest."""
    values = values.detach().cpu().numpy()
    axis.imshow(values, cmap="magma_r", vmin=0, vmax=largest, interpolation="nearest")
    above = np.kron(values > threshold, np.ones((FINE, FINE)))
    if 0 < above.mean() < 1:
        down, across = ((np.arange(side) + 0.5) / FINE - 0.5 for side in above.shape)
        axis.contour(across, down, above, levels=[0.5], colors="black", linewidths=1)


def draw_findings(figure, images, restorations, maps, captions, threshold) -> None:
    """Draw images and restorations [N, C, H, W] and maps [N, H, W] on a figure or on a
    part of one, a column for each image under its caption, with lines of `draw_map`."""
    axes, maps = figure.subplots(3, len(images), squeeze=False), maps.detach().cpu()
    largest = max(float(maps.max()), 2 * threshold)
    for number, (column, caption) in enumerate(zip(axes.T, captions, strict=True)):
        draw_image(column[0], images[number])
        draw_image(column[1], restorations[number])
        draw_map(column[2], maps[number], threshold, largest)
        column[0].set_title(caption, fontsize=9)
        for axis in column:
            bare(axis)
    for axis, name in zip(axes[:, 0], NAMES, strict=True):
        axis.set_ylabel(name, fontsize=9)


def finding_figure(
    image: Tensor, restoration: Tensor, values: Tensor, threshold: float, title: str
) -> Figure:
    """One image [C, H, W], its restoration and its map [H, W], below each other."""
    figure = Figure(figsize=(2.4, 6.2), layout="constrained")
    finding = image[None], restoration[None], values[None], [title]
    draw_findings(figure, *finding, threshold)
    return figure


def draw_scores(axis, calibration: Calibration, scores: Tensor, rate: float) -> None:
    """Draw the scores of normal images and of others, float64 [N], as histograms on an
    axis, with a line where images are flagged at a false-alarm rate."""
    normal, scores = calibration.scores.numpy(), scores.numpy()
    threshold = calibration.score_threshold(rate)
    # A few scores of a million would leave all others in the first bar.
    most = max(2 * threshold - np.median(normal), np.quantile(scores, 0.9))
    least = min(normal.min(), scores.min())
    edges = np.linspace(least, max(most, least + 1), BINS + 1)
    for values, colour, hatch, name in (
        (normal, "past", "", "normal images"),
        (scores, "future", "//", "images searched"),
    ):
        axis.hist(
            values.clip(max=edges[-1]),
            edges,
            weights=np.full(len(values), 100 / len(values)),
            color=COLOURS[colour],
            hatch=hatch,
            alpha=0.6,
            label=f"{len(values):,} {name}",
        )
    axis.axvline(threshold, color=INK, linewidth=1)
    axis.annotate(
        f"flagged at {100 * rate:.3g} %",
        (threshold, 1),
        (4, 0),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        va="top",
        fontsize=9,
    )
    axis.set_xlabel("score (higher ones are in the last bar)", fontsize=9)
    axis.set_ylabel("% of images", fontsize=9)
    axis.tick_params(labelsize=9)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(
        loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize=9, frameon=False
    )


def summary_figure(
    calibration: Calibration, scores: Tensor, rate: float, *findings, threshold: float
) -> Figure:
    """All scores as in `draw_scores`, and below them the oddest images, their
    restorations, maps and captions as in `draw_findings`."""
    figure = Figure(figsize=(WIDEST, 6.2), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(2.4, 3.8))
    draw_scores(above.subplots(), calibration, scores, rate)
    below.suptitle("the images with the highest scores", fontsize=11)
    draw_findings(below, *findings, threshold)
    return figure
