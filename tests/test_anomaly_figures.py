"""Figures of odd images show the values, the line around them and the threshold."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from pixelprior.anomalies.figures import draw_map, finding_figure, summary_figure
from pixelprior.anomalies.scores import Calibration


@pytest.fixture
def calibration():
    scores, parts = torch.arange(99).double(), torch.ones(5)
    return Calibration({}, parts, parts, scores, torch.zeros(1), 1, None, ("", ""))


def test_a_line_is_drawn_along_the_edges_of_the_pixels_above_the_threshold():
    axis = Figure().subplots()
    values = torch.zeros(6, 8)
    values[2:4, 5] = 0.5
    draw_map(axis, values, threshold=1.0, largest=2.0)
    assert not axis.collections
    draw_map(axis, values, threshold=0.3, largest=2.0)
    assert axis.images[1].get_clim() == (0, 2)
    corners = np.concatenate(
        [each.vertices for each in axis.collections[0].get_paths()]
    )
    assert corners.min(axis=0) == pytest.approx([4.5, 1.5], abs=0.15)
    assert corners.max(axis=0) == pytest.approx([5.5, 3.5], abs=0.15)


def test_images_stand_over_their_restorations_and_maps(calibration):
    images, restorations = torch.rand(2, 3, 1, 8, 12)
    maps, captions = torch.rand(3, 8, 12), ["a", "b", "c"]
    alike = torch.zeros(3).double()
    shown = images, restorations, maps, captions
    summary = summary_figure(calibration, alike, 0.05, *shown, threshold=0.5)
    assert [axis.get_title() for axis in summary.axes[1:4]] == captions
    one = finding_figure(images[1], restorations[1], maps[1], 0.5, "p = 0.01")
    assert [axis.get_ylabel() for axis in one.axes] == ["image", "restoration", "map"]
    pixels = (255 * torch.stack([images[1], restorations[1]])).round().byte()
    for axes in (one.axes, summary.axes[2::3]):  # the second column of the summary
        drawn = [axis.images[0].get_array() for axis in axes]
        assert np.array_equal(np.stack(drawn[:2])[..., 0], pixels[:, 0])
        assert np.array_equal(drawn[2], maps[1])
