"""The study of defects: all methods on real images, and false alarms over divisions."""

import pytest
import torch
import try_anomalies
from tried import defects_markdown
from try_anomalies import alarms_over_divisions, evaluate_defects, ours

from pixelprior.anomalies.finding import calibrate, score_parts_of
from pixelprior.evaluation.defects import KINDS, with_defects
from pixelprior.evaluation.detectors import OURS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def calibrated(shipped, heldout_images):
    reference, others = (
        heldout_images.subset(torch.arange(*ends)) for ends in ((0, 120), (120, 160))
    )
    calibration = calibrate(*shipped, *reference[:], draws=1, seed=3)
    return calibration, reference, others


def test_the_first_division_is_that_of_the_calibration(
    shipped, calibrated, monkeypatch
):
    monkeypatch.setattr(try_anomalies, "RATES", (0.01, 0.05, 0.3, 0.6))
    calibration, *both = calibrated
    _, p_values = ours(*shipped, both[1], calibration, both[1].labels)
    of_both = [score_parts_of(*shipped, *data[:]) for data in both]
    first, other, two = (
        alarms_over_divisions(calibration, *of_both, divisions=divisions, seed=seed)
        for divisions, seed in ((1, 3), (1, 4), (2, 3))
    )
    assert "0.01" not in first["rates"]  # 48 scores do not allow it
    for rate, of_first in first["rates"].items():
        share = (p_values <= float(rate)).double().mean().item()
        assert of_first["value"] == pytest.approx(share)
        mean = (share + other["rates"][rate]["value"]) / 2
        assert two["rates"][rate]["value"] == pytest.approx(mean)


def test_exchangeable_images_are_flagged_at_the_rate_and_odd_ones_always(calibrated):
    draw = torch.Generator().manual_seed(0)
    reference, others = (torch.randn(n, 5, generator=draw) for n in (4000, 4000))
    found = alarms_over_divisions(calibrated[0], reference, others, divisions=20)
    for rate, each in found["rates"].items():
        assert each["value"] == pytest.approx(float(rate), rel=0.25)
        assert each["lowest"] < each["value"] < each["highest"]
    odd = alarms_over_divisions(calibrated[0], reference, others + 9, divisions=2)
    assert [each["value"] for each in odd["rates"].values()] == [1, 1]


def test_all_methods_are_measured_on_the_same_defects(
    shipped, heldout_images, shipped_classifier
):
    parts = torch.arange(180).split([120, 30, 30])
    reference, normal, clean = (heldout_images.subset(part) for part in parts)
    given = {"more_normal": clean, "classifier": shipped_classifier, "draws": 1}
    odd = with_defects(clean)
    found = evaluate_defects(*shipped, reference, normal, odd, **given)
    methods = found["methods"]
    assert next(iter(methods)) == OURS and len(methods) == 6
    assert methods[OURS]["roc_auc"]["value"] > 0.8
    assert 0.1 < methods[OURS]["dice"]["value"] < 1
    error = methods["reconstruction error"]["pixel_roc_auc"]["value"]
    assert methods[OURS]["pixel_roc_auc"]["value"] > max(0.8, error)
    for name, each in methods.items():
        by_pixel = {"pixel_roc_auc", "dice", "pixel_roc_auc_within"} & set(each)
        mapped = name in (OURS, "reconstruction error", "nats alone")
        assert len(by_pixel) == (3 if mapped else 0)
    assert set(found["by_kind"]) == set(KINDS)
    assert all(set(of_kind) == set(methods) for of_kind in found["by_kind"].values())
    assert found["images"] == {"calibration": 120, "normal": 30, "defects": 30}
    # 48 normal scores allow no p-value of 0.01.
    assert list(found["false_alarms"]) == ["0.05"]
    assert found["false_alarms"]["0.05"]["value"] < 0.3
    rate = found["false_alarms_over_divisions"]["rates"]["0.05"]["value"]
    assert 0 < rate < 0.2
    assert "\n- over 200 divisions" in defects_markdown(found)
    assert f"of 5 %: {100 * rate:.2f} ±" in defects_markdown(found)
