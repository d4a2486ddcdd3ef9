"""Figures of odd images show the values, the line around them and the threshold."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from pixelprior.anomalies.figures import (
    draw_findings,
    draw_map,
    draw_scores,
    finding_figure,
    summary_figure,
)
from pixelprior.anomalies.scores import PIXEL_QUANTILES, Calibration


@pytest.fixture(scope="module")
def calibration():
    return Calibration(
        nats={},
        centres=torch.zeros(3),
        scales=torch.ones(3),
        scores=torch.arange(99).double(),
        pixels=torch.linspace(0, 1, PIXEL_QUANTILES),
        draws=1,
        classes=None,
        models=("", ""),
    )


def test_a_line_is_drawn_along_the_edges_of_the_pixels_above_the_threshold():
    axis = Figure().subplots()
    values = torch.zeros(6, 8)
    values[2:4, 5] = 0.5
    draw_map(axis, values, threshold=0.3, largest=2.0)
    (image,) = axis.images
    assert np.array_equal(image.get_array(), values) and image.get_clim() == (0, 2)
    corners = np.concatenate(
        [path.vertices for path in axis.collections[0].get_paths()]
    )
    assert corners[:, 0].min() == pytest.approx(4.5, abs=0.15)
    assert corners[:, 0].max() == pytest.approx(5.5, abs=0.15)
    assert corners[:, 1].min() == pytest.approx(1.5, abs=0.15)
    assert corners[:, 1].max() == pytest.approx(3.5, abs=0.15)


@pytest.mark.parametrize("threshold", [-1.0, 1.0])
def test_there_is_no_line_if_all_pixels_are_on_one_side(threshold):
    axis = Figure().subplots()
    draw_map(axis, torch.rand(6, 8), threshold, largest=2.0)
    assert not axis.collections


def test_scores_are_drawn_as_shares_with_the_threshold_of_the_rate(calibration):
    axis = Figure().subplots()
    scores = torch.cat([torch.linspace(0, 50, 30), torch.tensor([1e6])]).double()
    draw_scores(axis, calibration, scores, rate=0.05)
    for bars, values in zip(axis.containers, (calibration.scores, scores), strict=True):
        heights = np.array([bar.get_height() for bar in bars])
        assert heights.sum() == pytest.approx(100)
        last = bars[-1].get_x()
        share = (values >= last).double().mean().item()
        assert heights[-1] == pytest.approx(100 * share)
    assert axis.lines[0].get_xdata()[0] == calibration.score_threshold(0.05) == 94
    assert axis.get_xlim()[1] < 1000  # one score of a million is in the last bar
    assert "5 %" in axis.texts[0].get_text()


def test_scores_that_are_all_alike_are_drawn(calibration):
    alike = replace(calibration, scores=torch.zeros(99).double())
    draw_scores(Figure().subplots(), alike, torch.zeros(3).double(), rate=0.5)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_stand_over_their_restorations_and_maps(calibration, channels):
    images, restorations = torch.rand(2, 3, channels, 8, 12)
    maps, captions = torch.rand(3, 8, 12), ["a", "b", "c"]
    rows = Figure()
    draw_findings(rows, images, restorations, maps, captions, 0.5)
    scores = torch.arange(3).double()
    summary = summary_figure(
        calibration, scores, 0.05, images, restorations, maps, captions, threshold=0.5
    )
    for axes in (rows.axes, summary.axes[1:]):
        assert [axis.get_title() for axis in axes[:3]] == captions
        drawn = [axis.images[0].get_array() for axis in axes]
        for column in range(3):
            pixels = (255 * images[column]).round().byte().permute(1, 2, 0)
            assert np.array_equal(drawn[column], pixels.expand(8, 12, 3))
            assert np.array_equal(drawn[6 + column], maps[column])
    one = finding_figure(images[0], restorations[0], maps[0], 0.5, "p = 0.01")
    assert [axis.get_ylabel() for axis in one.axes] == ["image", "restoration", "map"]
    assert one.axes[0].get_title() == "p = 0.01"
    assert np.array_equal(one.axes[2].images[0].get_array(), maps[0])
