"""Measures of detection: scores and maps whose order is known, and real defects."""

import pytest
import torch

from pixelprior.evaluation.classifier import load_shipped_reference_models
from pixelprior.evaluation.defects import KINDS, with_defects
from pixelprior.evaluation.detection import (
    defects_markdown,
    detection_table,
    evaluate_defects,
    measured,
)
from pixelprior.evaluation.detectors import OURS, Judged


def test_a_measure_depends_on_the_order_alone():
    normal = Judged(torch.tensor([-3.0, 0.5, 2, 40]).double())
    odd = Judged(torch.tensor([1.0, 41, 1000, 1e6]).double())
    found = measured({"some": (normal, odd)})["some"]
    # Of the 16 pairs, those of 1 with 2 and with 40 are in the wrong order.
    assert found["roc_auc"]["value"] == pytest.approx(14 / 16)
    # At each odd image, from the oddest on: the share of odd images so far.
    assert found["average_precision"]["value"] == pytest.approx((1 + 1 + 1 + 4 / 6) / 4)
    assert found["roc_auc"]["low"] < 14 / 16 < found["roc_auc"]["high"]
    assert set(found) == {"roc_auc", "average_precision"}


def test_pixels_of_all_images_are_compared():
    masks = torch.zeros(1, 2, 2, dtype=torch.bool)
    masks[0, 0] = True
    normal = Judged(torch.zeros(1).double(), torch.tensor([[[0.0, 1], [2, 3]]]))
    odd = Judged(torch.ones(1).double(), torch.tensor([[[2.5, 4], [0, 3.5]]]))
    found = measured({"some": (normal, odd)}, masks, thresholds={"some": 3.2})["some"]
    # 2.5 is above 0, 1, 2 and 0 of the six normal pixels, and 4 is above all.
    assert found["pixel_roc_auc"]["value"] == pytest.approx((4 + 6) / 12)
    assert found["dice"]["value"] == pytest.approx(2 * 1 / (2 + 2))


def test_an_odd_image_without_an_odd_pixel_counts_as_an_image_alone():
    masks = torch.zeros(2, 2, 2, dtype=torch.bool)
    masks[0, 0] = True
    normal = Judged(torch.zeros(1).double(), torch.zeros(1, 2, 2))
    values = torch.tensor([[[3.0, 3], [1, 1]], [[9, 9], [9, 9]]])
    odd = Judged(torch.tensor([1.0, -1]).double(), values)
    found = measured({"some": (normal, odd)}, masks, thresholds={"some": 2.0})["some"]
    assert found["roc_auc"]["value"] == 0.5
    for name in ("pixel_roc_auc", "pixel_roc_auc_within", "dice"):
        assert found[name]["value"] == 1
    none = measured({"some": (normal, odd)}, torch.zeros_like(masks))["some"]
    assert set(none) == {"roc_auc", "average_precision"}
    masks[0] = True
    whole = measured({"some": (normal, odd)}, masks)["some"]
    assert "pixel_roc_auc" in whole and "pixel_roc_auc_within" not in whole


def test_a_table_has_what_was_measured_and_says_what_is_missing():
    odd = Judged(torch.ones(3).double(), torch.ones(3, 2, 2))
    normal = Judged(torch.zeros(2).double(), torch.zeros(2, 2, 2))
    masks = torch.ones(3, 2, 2, dtype=torch.bool)
    methods = measured({"maps": (normal, odd)}, masks)
    methods |= measured({"scores": (normal, odd)})
    counts = {"normal": 2, "defects": 3}
    head, _, maps, scores, _, below = detection_table(
        {"methods": methods, "images": counts}
    ).splitlines()
    assert "by pixel" in head and "Dice" not in head
    assert (
        maps
        == "| maps | 1.000 ± 0.000 | 1.000 ± 0.000 | 1.000 ± 0.000 | 1.000 ± 0.000 |"
    )
    assert scores == "| scores | 1.000 ± 0.000 | 1.000 ± 0.000 |  |  |"
    assert below == "- 2 normal images and 3 with defects"
    alone = detection_table({"images": counts | {"defects": 0}})
    assert "0 with defects could be read; to be measured, both kinds" in alone


def test_scores_below_and_above_1_are_compared_by_their_order():
    # torchmetrics would take the sigmoid of numbers outside [0, 1].
    low, high = torch.linspace(30, 60, 50), torch.linspace(61, 90, 50)
    found = measured({"some": (Judged(low.double()), Judged(high.double()))})["some"]
    assert found["roc_auc"]["value"] == 1


@pytest.mark.slow
def test_all_methods_are_measured_on_the_same_defects(shipped, heldout_images):
    parts = torch.arange(180).split([120, 30, 30])
    reference, normal, clean = (heldout_images.subset(part) for part in parts)
    defects = with_defects(clean)
    classifier = load_shipped_reference_models()[1]
    found = evaluate_defects(
        *shipped,
        reference,
        normal,
        defects,
        more_normal=clean,
        classifier=classifier,
        draws=1,
    )
    methods = found["methods"]
    assert next(iter(methods)) == OURS and len(methods) == 6
    assert methods[OURS]["roc_auc"]["value"] > 0.8
    assert methods[OURS]["pixel_roc_auc"]["value"] > 0.8
    assert 0.1 < methods[OURS]["dice"]["value"] < 1
    assert "pixel_roc_auc" not in methods["nearest neighbours"]
    error = methods["reconstruction error"]
    assert error["pixel_roc_auc"]["value"] < methods[OURS]["pixel_roc_auc"]["value"]
    assert set(found["by_kind"]) == set(KINDS)
    for of_kind in found["by_kind"].values():
        assert set(of_kind) == set(methods)
    assert found["images"] == {"calibration": 120, "normal": 30, "defects": 30}
    assert found["milliseconds_per_image"] > 0
    # 48 normal scores allow no p-value of 0.01.
    assert list(found["false_alarms"]) == ["0.05"]
    assert found["false_alarms"]["0.05"]["value"] < 0.3
    many = found["false_alarms_over_divisions"]
    assert many["images"] == 30 and many["divisions"] == 200
    assert 0 < many["rates"]["0.05"]["value"] < 0.2
    lines = defects_markdown(found).splitlines()
    share = f"{100 * many['rates']['0.05']['value']:.2f} ±"
    assert any(line.startswith("- over 200 div") and share in line for line in lines)
    for name, each in methods.items():
        by_pixel = {"dice", "pixel_roc_auc_within"} <= set(each)
        assert by_pixel == (name in (OURS, "reconstruction error", "nats alone"))
