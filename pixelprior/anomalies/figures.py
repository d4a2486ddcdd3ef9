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
    """Draw a map [H, W] on an axis, with a line around the pixels above `threshold`.

    Args:
        largest: the value of the darkest colour; 0 has the lightest.
    """
    values = values.detach().cpu().numpy()
    axis.imshow(values, cmap="magma_r", vmin=0, vmax=largest, interpolation="nearest")
    above = np.kron(values > threshold, np.ones((FINE, FINE)))
    if 0 < above.mean() < 1:
        down, across = ((np.arange(side) + 0.5) / FINE - 0.5 for side in above.shape)
        axis.contour(across, down, above, levels=[0.5], colors="black", linewidths=1)


def _draw_finding(axes, image, restoration, values, threshold, largest) -> None:
    draw_image(axes[0], image)
    draw_image(axes[1], restoration)
    draw_map(axes[2], values, threshold, largest)
    for axis in axes:
        bare(axis)


def finding_figure(
    image: Tensor, restoration: Tensor, values: Tensor, threshold: float, title: str
) -> Figure:
    """One image [C, H, W], its restoration and its map [H, W], side by side."""
    figure = Figure(figsize=(6.6, 2.7), layout="constrained")
    axes, largest = figure.subplots(1, 3), max(float(values.max()), 2 * threshold)
    _draw_finding(axes, image, restoration, values, threshold, largest)
    for axis, name in zip(axes, NAMES, strict=True):
        axis.set_title(name, fontsize=9)
    figure.suptitle(title, fontsize=11)
    return figure


def draw_findings(figure, images, restorations, maps, captions, threshold) -> None:
    """Draw images, restorations and maps on a figure, one column for each image.

    Args:
        figure: the figure, or a part of one.
        images, restorations: [N, C, H, W] in [0, 1]. maps: [N, H, W].
        captions: one for each image, above its column.
        threshold: of the maps, as in `draw_map`.
    """
    axes, maps = figure.subplots(3, len(images), squeeze=False), maps.detach().cpu()
    largest = max(float(maps.max()), 2 * threshold)
    for column, caption, *finding in zip(
        axes.T, captions, images, restorations, maps, strict=True
    ):
        _draw_finding(column, *finding, threshold, largest)
        column[0].set_title(caption, fontsize=9)
    for axis, name in zip(axes[:, 0], NAMES, strict=True):
        axis.set_ylabel(name, fontsize=9)


def draw_scores(axis, calibration: Calibration, scores: Tensor, rate: float) -> None:
    """Draw the scores of normal images and of others as histograms on an axis.

    Args:
        scores: float64 [N], of the others.
        rate: false-alarm rate; a line is drawn at the score above which images are
            flagged.
    """
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
