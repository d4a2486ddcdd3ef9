"""What is odd is scored, restored and mapped; what is normal is left as it is."""

from dataclasses import replace

import pytest
import torch

from pixelprior.anomalies import calibrate, find
from pixelprior.anomaly_scores import odd_map
from pixelprior.evaluation.defects import with_defects

NORMAL, DRAWS = 40, 2


@pytest.fixture(scope="module")
def normal(heldout_images):
    return heldout_images.subset(torch.arange(2 * NORMAL))


@pytest.fixture(scope="module")
def calibration(shipped, normal):
    images, labels = normal[:NORMAL]
    return calibrate(*shipped, images, labels, draws=DRAWS)


def judged(calibration, nats: float):
    """The same calibration, with `nats` for each position of each normal image."""
    same = {
        level: torch.full_like(each, nats) for level, each in calibration.nats.items()
    }
    return replace(calibration, nats=same)


def test_what_is_not_flagged_stays_as_it_is(shipped, normal, calibration):
    images, labels = normal[NORMAL : NORMAL + 4]
    found = find(*shipped, images, judged(calibration, 1e9), labels, draws=DRAWS)
    assert found.flagged_share.eq(0).all()
    rebuilt = shipped[0](images)
    for draw in range(DRAWS):
        torch.testing.assert_close(found.restorations[:, draw], rebuilt)
    torch.testing.assert_close(
        found.maps, odd_map(images, rebuilt[:, None], torch.ones(4, 1))
    )


def test_what_is_flagged_is_not_read(shipped, normal, calibration):
    images, labels = normal[NORMAL : NORMAL + 2]
    everything = judged(calibration, -1.0)
    found, other = (
        find(*shipped, each, everything, labels, draws=DRAWS)
        for each in (images, 1 - images)
    )
    assert found.flagged_share.eq(1).all()
    torch.testing.assert_close(found.restorations, other.restorations)


def test_an_image_is_restored_in_the_same_way_in_any_batch(
    shipped, normal, calibration
):
    images, labels = normal[NORMAL : NORMAL + 6]
    images = images.flip(2)  # upside down
    together = find(*shipped, images, calibration, labels, draws=DRAWS)
    alone = find(
        *shipped, images[4:5], calibration, labels[4:5], draws=DRAWS, first_index=4
    )
    assert alone.flagged_share > 0
    torch.testing.assert_close(alone.maps, together.maps[4:5])
    torch.testing.assert_close(alone.scores.float(), together.scores[4:5].float())
    elsewhere = find(*shipped, images[4:5], calibration, labels[4:5], draws=DRAWS)
    assert not torch.equal(elsewhere.restorations, alone.restorations)


def test_defects_score_higher_and_show_in_the_map(shipped, normal, calibration):
    images, labels = normal[NORMAL:]
    defects = with_defects(normal.subset(torch.arange(NORMAL, 2 * NORMAL)), seed=1)
    usual = find(*shipped, images, calibration, labels, draws=DRAWS)
    odd = find(*shipped, defects.images[:][0], calibration, labels, draws=DRAWS)
    assert (odd.scores > usual.scores).double().mean() > 0.85
    assert odd.p_values.median() < 0.1 < usual.p_values.median()
    inside, outside = (
        (odd.maps * each).sum((1, 2)) / each.sum((1, 2))
        for each in (defects.masks, ~defects.masks)
    )
    assert (inside > outside).double().mean() > 0.85
    assert odd.weights.sum(1).allclose(torch.ones(NORMAL))
    assert odd.restorations.amin() >= 0 and odd.restorations.amax() <= 1


def test_a_code_is_ranked_among_those_of_its_position(calibration):
    nats = torch.tensor([1.0, 2, 2, 5]).view(1, 1, 4)
    few = replace(calibration, nats={"top": nats})
    for cost, at_least in ((0.5, 4), (2.0, 3), (3.0, 1), (9.0, 0)):
        p_value = few.code_p_values("top", torch.tensor(cost).view(1, 1, 1))
        assert p_value.item() == pytest.approx((1 + at_least) / 5)


def test_a_false_alarm_rate_holds_for_exchangeable_scores(calibration):
    scores = torch.randperm(200, generator=torch.Generator().manual_seed(0)).double()
    for rate in (0.01, 0.05, 0.5):
        alarms = 0
        for left_out in range(200):
            others = torch.cat([scores[:left_out], scores[left_out + 1 :]]).sort()[0]
            among = replace(calibration, scores=others)
            alarms += int(among.p_values(scores[left_out : left_out + 1]) <= rate)
        assert alarms == rate * 200


def test_what_does_not_fit_is_named(shipped, normal, calibration):
    images, labels = normal[:NORMAL]
    with pytest.raises(ValueError, match="there are 5 normal images, too few"):
        calibrate(*shipped, images[:5], labels[:5])
    with pytest.raises(ValueError, match="calibration was made with 2; give the same"):
        find(*shipped, images, calibration, labels)
    with pytest.raises(ValueError, match="label 10 is out of range"):
        find(*shipped, images[:1], calibration, [10], draws=DRAWS)
    with pytest.raises(ValueError, match="images have shape"):
        find(*shipped, images[:, :, :16], calibration, labels, draws=DRAWS)
    smaller = {"top": calibration.nats["top"][:4], "bottom": calibration.nats["bottom"]}
    with pytest.raises(ValueError, match=r"for top grids of \[4, 8\].* are \[8, 8\]"):
        find(*shipped, images, replace(calibration, nats=smaller), labels, draws=DRAWS)
    with pytest.raises(ValueError, match=r"20 normal scores allow 0\.048 to below 1"):
        calibration.check_rate(0.01)
    calibration.check_rate(0.05)
    with pytest.raises(ValueError, match="the rate is 0; give a number between"):
        calibration.map_threshold(0)
