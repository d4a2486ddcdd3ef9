"""Measures of detection, for scores and maps whose order is known."""

import pytest
import torch

from pixelprior.evaluation.detectors import Judged, detection_table, measured


def judged(scores, maps=None) -> Judged:
    maps = None if maps is None else torch.tensor(maps)
    return Judged(torch.tensor(scores).double(), maps)


def values_of(*pair: Judged, masks=None, threshold=None) -> dict[str, float]:
    thresholds = None if threshold is None else {"some": threshold}
    found = measured({"some": pair}, masks, thresholds=thresholds)["some"]
    return {name: each["value"] for name, each in found.items()}


def test_a_measure_depends_on_the_order_alone():
    """torchmetrics would take the sigmoid of numbers outside [0, 1]."""
    normal, odd = judged([-3.0, 0.5, 2, 40]), judged([1.0, 41, 1000, 1e6])
    # Of the 16 pairs, those of 1 with 2 and with 40 are in the wrong order.
    # At each odd image, from the oddest on: the share of odd images so far.
    assert values_of(normal, odd) == {
        "roc_auc": pytest.approx(14 / 16),
        "average_precision": pytest.approx((1 + 1 + 1 + 4 / 6) / 4),
    }


def test_pixels_of_all_images_are_compared():
    masks = torch.zeros(1, 2, 2, dtype=torch.bool)
    masks[0, 0] = True
    normal = judged([0.0], [[[0.0, 1], [2, 3]]])
    odd = judged([1.0], [[[2.5, 4], [0, 3.5]]])
    found = values_of(normal, odd, masks=masks, threshold=3.2)
    # 2.5 is above 0, 1, 2 and 0 of the six normal pixels, and 4 is above all.
    assert found["pixel_roc_auc"] == pytest.approx((4 + 6) / 12)
    assert found["dice"] == pytest.approx(2 * 1 / (2 + 2))


def test_an_odd_image_without_an_odd_pixel_counts_as_an_image_alone():
    masks = torch.zeros(2, 2, 2, dtype=torch.bool)
    masks[0, 0] = True
    pair = (
        judged([0.0], [[[0.0, 0], [0, 0]]]),
        judged([1.0, -1], [[[3.0, 3], [1, 1]], [[9.0, 9], [9, 9]]]),
    )
    found = values_of(*pair, masks=masks, threshold=2.0)
    assert found["roc_auc"] == 0.5
    for name in ("pixel_roc_auc", "pixel_roc_auc_within", "dice"):
        assert found[name] == 1
    assert "pixel_roc_auc" not in values_of(*pair, masks=torch.zeros_like(masks))
    masks[0] = True  # within that image, there is nothing to tell apart
    assert "pixel_roc_auc_within" not in values_of(*pair, masks=masks)


def test_a_table_says_what_is_missing():
    table = detection_table({"images": {"normal": 2, "defects": 0}})
    assert "0 with defects could be read; to be measured, both kinds" in table
