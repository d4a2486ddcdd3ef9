"""False alarms are counted over divisions of the images to calibrate on."""

import pytest
import torch

from pixelprior.anomalies.finding import calibrate, score_parts_of
from pixelprior.evaluation import alarms
from pixelprior.evaluation.alarms import alarms_over_divisions
from pixelprior.evaluation.detectors import ours

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
    monkeypatch.setattr(alarms, "RATES", (0.01, *(each / 20 for each in range(1, 20))))
    calibration, *both = calibrated
    _, p_values = ours(*shipped, both[1], calibration, both[1].labels)
    of_both = [score_parts_of(*shipped, *data[:]) for data in both]
    first = alarms_over_divisions(calibration, *of_both, divisions=1, seed=3)
    assert 0.01 not in map(float, first["rates"])  # 48 scores do not allow it
    other = alarms_over_divisions(calibration, *of_both, divisions=1, seed=4)
    two = alarms_over_divisions(calibration, *of_both, divisions=2, seed=3)
    for rate in alarms.RATES[1:]:
        share = (p_values <= rate).double().mean().item()
        of_first, of_other, of_two = (
            each["rates"][str(rate)]["value"] for each in (first, other, two)
        )
        assert of_first == pytest.approx(share)
        assert of_two == pytest.approx((share + of_other) / 2)


def test_exchangeable_images_are_flagged_at_the_rate_and_odd_ones_always(calibrated):
    draw = torch.Generator().manual_seed(0)
    reference, others = (torch.randn(n, 5, generator=draw) for n in (4000, 4000))
    found = alarms_over_divisions(calibrated[0], reference, others, divisions=20)
    assert found["divisions"] == 20 and found["images"] == 4000
    for rate, each in found["rates"].items():
        assert each["value"] == pytest.approx(float(rate), rel=0.25)
        assert each["lowest"] < each["value"] < each["highest"]
        assert each["low"] < each["value"] < each["high"]
    odd = alarms_over_divisions(calibrated[0], reference, others + 9, divisions=2)
    assert [each["value"] for each in odd["rates"].values()] == [1, 1]
