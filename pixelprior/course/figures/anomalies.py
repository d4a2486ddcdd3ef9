"""Figures of what is odd: images, their restorations and maps, and scores of images.

`pixelprior/anomalies/figures.py` draws them, also for the command `find-anomalies`.
"""

from collections.abc import Sequence

from matplotlib.figure import Figure
from torch import Tensor

from pixelprior.anomalies.figures import draw_findings, draw_scores
from pixelprior.anomalies.scores import Calibration
from pixelprior.plotting import panel_width


def findings(
    images: Tensor,
    restorations: Tensor,
    maps: Tensor,
    captions: Sequence[str],
    threshold: float,
) -> Figure:
    """Images, and below each its restoration and the map of where they differ.

    Args:
        images, restorations: [N, C, H, W] in [0, 1].
        maps: [N, H, W]. A line is drawn around the pixels above `threshold`.
        captions: one for each image, above it.
    """
    width = panel_width(len(images), 0.9, 0.3)
    lines = 1 + max(caption.count("\n") for caption in captions)
    size = (width * len(images) + 0.3, 3 * width + 0.2 * lines + 0.1)
    figure = Figure(figsize=size, layout="constrained")
    draw_findings(figure, images, restorations, maps, captions, threshold)
    return figure


def scores(calibration: Calibration, searched: Tensor, rate: float) -> Figure:
    """Scores of normal images and of others, and the line from which images raise an
    alarm.

    Args:
        calibration: has the scores of normal images.
        searched: float64 [B], scores of the others.
        rate: the false-alarm rate.
    """
    figure = Figure(figsize=(7.6, 3.2), layout="constrained")
    draw_scores(figure.subplots(), calibration, searched, rate)
    return figure
