"""What is odd is scored, restored and mapped; what is normal is left as it is."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from pixelprior.anomalies import Calibration, Findings, calibrate, find, search
from pixelprior.anomalies import scores as scores_module
from pixelprior.anomalies.finding import LEAST_NORMAL, score_parts_of
from pixelprior.anomalies.scores import (
    check_rate,
    distances,
    load_calibration,
    save_calibration,
    score_parts,
    smooth,
)
from pixelprior.anomalies.search import (
    best_draft,
    guided,
    images_per_batch,
    over_pixels,
    shifted_nats,
)
from pixelprior.data.images import ImageData
from pixelprior.editing import codes_of, surprise
from pixelprior.evaluation import detectors
from pixelprior.evaluation.defects import with_defects
from pixelprior.prior import HierarchicalPixelCNN

NORMAL, DRAWS = 200, 2  # images to calibrate on, and restorations of each


@pytest.fixture(scope="module")
def normal(heldout_images):
    return heldout_images.subset(torch.arange(NORMAL))


@pytest.fixture(scope="module")
def others(heldout_images):
    return heldout_images.subset(torch.arange(NORMAL, NORMAL + 40))


@pytest.fixture(scope="module")
def calibration(shipped, normal):
    images, labels = normal[:]
    return calibrate(*shipped, images, labels, draws=DRAWS)


def judged(calibration, **nats: float):
    """The same calibration, in which a level's normal codes all cost so many nats."""
    same = {
        level: torch.full_like(each, nats.get(level, 1e9))
        for level, each in calibration.nats.items()
    }
    return replace(calibration, nats=same)


@pytest.mark.slow
def test_what_is_not_flagged_stays_as_it_is(shipped, others, calibration):
    images, labels = others[:4]
    found = find(*shipped, images, judged(calibration), labels, draws=DRAWS)
    assert found.flagged_share.eq(0).all()
    rebuilt = shipped[0](images)
    for draw in range(DRAWS):
        torch.testing.assert_close(found.restorations[:, draw], rebuilt)
    torch.testing.assert_close(found.best, rebuilt)


def test_what_is_flagged_is_not_read(shipped, others, calibration):
    images, labels = others[:2]
    everything = judged(calibration, top=-1.0)
    found, negative = (
        find(*shipped, each, everything, labels, draws=DRAWS)
        for each in (images, 1 - images)
    )
    assert found.flagged_share.eq(1).all()  # with a top code, all codes under it
    torch.testing.assert_close(found.restorations, negative.restorations)


def test_a_level_is_flagged_by_its_own_nats(shipped, others, calibration):
    images, labels = others[:2]
    found = find(
        *shipped, images, judged(calibration, bottom=-1.0), labels, draws=DRAWS
    )
    assert not found.flagged["top"].any() and found.flagged["bottom"].all()
    outlines = [each.mean((1, 2, 3)) for each in (images, found.best)]
    assert (outlines[0] - outlines[1]).abs().max() < 0.05  # the top codes hold them


def test_an_image_is_restored_in_the_same_way_in_any_batch(
    shipped, others, calibration
):
    images, labels = others[:6]
    images = images.flip(2)  # upside down
    together = find(*shipped, images, calibration, labels, draws=DRAWS)
    alone = find(
        *shipped, images[4:5], calibration, labels[4:5], draws=DRAWS, first_index=4
    )
    assert alone.flagged_share > 0
    same = (alone.restorations - together.restorations[4:5]).abs() < 1e-3
    assert same.float().mean() > 0.95  # a rounding tie may draw another code
    apart = (alone.maps - together.maps[4:5]).abs()
    assert (apart < 1e-3).float().mean() > 0.95
    assert apart.mean() < 0.02 * alone.maps.mean()
    torch.testing.assert_close(alone.scores, together.scores[4:5], rtol=1e-4, atol=1e-3)
    elsewhere = find(*shipped, images[4:5], calibration, labels[4:5], draws=DRAWS)
    assert not torch.equal(elsewhere.restorations, alone.restorations)


def test_a_large_batch_is_searched_in_parts(shipped, others, calibration, monkeypatch):
    assert images_per_batch(shipped[0]) == 256 and images_per_batch(shipped[0], 8) == 32
    images, labels = others[:5]
    whole = find(*shipped, images, calibration, labels, draws=DRAWS)
    monkeypatch.setattr(search, "PIXELS_TOGETHER", 32 * 32 * 2 * DRAWS)
    parts = find(*shipped, images, calibration, labels, draws=DRAWS)
    torch.testing.assert_close(parts.maps, whole.maps, rtol=1e-4, atol=1e-4)
    assert parts.restorations.shape == (5, DRAWS, 1, 32, 32)
    assert parts.weights.shape == (5, DRAWS) and parts.flagged["top"].shape == (5, 8, 8)


def test_a_black_image_is_usual_by_its_nats_and_odd_by_those_less_its_complexity(
    shipped, normal, calibration
):
    black = torch.zeros(1, 1, 32, 32)
    assert find(*shipped, black, calibration, 0, draws=DRAWS).p_values > 0.5
    data = ImageData(torch.zeros(1, 1, 32, 32).byte(), torch.zeros(1).long(), ())
    plain, usual = (
        detectors.others(*shipped, each, each.labels)["nats less complexity"].scores
        for each in (data, normal)
    )
    assert plain > usual.max()


def test_defects_score_higher_and_show_in_the_map(shipped, others, calibration):
    defects = with_defects(others, seed=1)
    usual, odd = (
        find(*shipped, each[:][0], calibration, others.labels, draws=DRAWS)
        for each in (others, defects.images)
    )
    assert (odd.scores > usual.scores).double().mean() > 0.8
    assert odd.p_values.median() < 0.15 < usual.p_values.median()
    # In the same places, the same images without their defects.
    inside, before = (
        (maps * defects.masks).sum((1, 2)) / defects.masks.sum((1, 2))
        for maps in (odd.maps, usual.maps)
    )
    assert (inside > before).double().mean() > 0.8


@pytest.mark.slow
def test_scores_of_other_images_do_not_change_how_images_are_scored(
    shipped, normal, calibration
):
    images, labels = normal[:]
    order = torch.from_numpy(np.random.default_rng(0).permutation(200))
    last = order[-1:]  # among those whose scores are kept
    images[last] = 1 - images[last]
    again = calibrate(*shipped, images, labels, draws=DRAWS)
    torch.testing.assert_close(again.centres, calibration.centres)
    torch.testing.assert_close(again.nats["top"], calibration.nats["top"])
    gone = torch.isclose(again.scores[:, None], calibration.scores, atol=1e-3).any(0)
    assert (~gone).sum() == 1  # of the image that was changed
    assert len(again.scores) == 80 and again.nats["top"].shape == (8, 8, 100)


def test_scores_need_no_restorations_and_maps_show_what_the_label_adds(
    shipped, others, calibration, monkeypatch
):
    images, labels = others[:6]
    monkeypatch.setattr(Calibration, "maps_of", lambda _, scores, guided, far: guided)
    found = find(*shipped, images, calibration, labels, draws=DRAWS)
    scores = calibration.scores_of(score_parts_of(*shipped, images, labels))
    torch.testing.assert_close(found.scores, scores, rtol=1e-4, atol=1e-3)
    with torch.no_grad():
        codes = codes_of(*shipped, images)
        nats, none = (surprise(shipped[1], *codes, each) for each in (labels, None))
        top = shifted_nats(*shipped, images, labels, nats["top"])
    adds = over_pixels(nats["top"] - none["top"], (32, 32))
    torch.testing.assert_close(found.maps, top + adds, rtol=1e-4, atol=1e-3)
    assert adds.min() < -0.1 and adds.max() > 0.1


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
            rest = torch.cat([scores[:left_out], scores[left_out + 1 :]]).sort()[0]
            among = replace(calibration, scores=rest)
            alarms += int(among.p_values(scores[left_out : left_out + 1]) <= rate)
        assert alarms == rate * 200


def test_a_distance_is_weighted_and_counts_less_where_restorations_differ():
    images = torch.zeros(1, 3, 32, 64)
    restorations = torch.stack([images + 0.2, images + 0.6], dim=1)
    weights = torch.tensor([[0.25, 0.75]])
    far = distances(images, restorations, weights)
    deviation = math.sqrt(0.25 * 0.3**2 + 0.75 * 0.1**2)
    torch.testing.assert_close(far, torch.full((1, 32, 64), 0.5 / (0.2 + deviation)))
    alone = distances(images, restorations[:, 1:], torch.ones(1, 1))
    torch.testing.assert_close(alone, torch.full((1, 32, 64), 3.0))


def test_smoothing_keeps_sums_and_constants():
    spot = torch.zeros(1, 32, 64)
    spot[0, 16, 30] = 1
    smoothed = smooth(spot, 1.5)[0]
    assert smoothed.argmax() == 16 * 64 + 30
    assert smoothed.sum() == pytest.approx(1, abs=1e-4)
    torch.testing.assert_close(smoothed[16 - 5 : 16], smoothed[17:22].flip(0))
    torch.testing.assert_close(smooth(spot + 1, 0.5) - smooth(spot, 0.5), spot * 0 + 1)


def test_a_map_grows_with_distance_surroundings_nats_and_score(calibration):
    guided, distance = torch.randn(1, 32, 32), torch.rand(1, 32, 32)
    usual = torch.quantile(calibration.scores, 0.9).view(1)
    maps = [
        calibration.maps_of(usual + more, guided, distance)
        for more in (-1e3, -2.0, 0.0, 1e3)
    ]
    assert maps[0].max() < 1e-6
    assert (maps[0] < maps[1]).all() and (maps[1] < maps[2]).all()
    torch.testing.assert_close(maps[2], maps[3] * math.sqrt(0.5))
    near, around = (0.002 + smooth(distance, each) for each in (0.5, 4))
    nats = smooth(guided.clamp(min=0), 2)
    torch.testing.assert_close(maps[3] ** 2, near * around * (1 + nats))


def test_the_parts_of_a_score_are_means_of_the_largest_nats():
    top, bottom = torch.zeros(2, 1, 32, 64).unbind(0)
    top[0, 0, :4] = torch.tensor([8.0, 16, 8, 96])  # of 32, 128, 512 and 2,048 pixels
    bottom[0, 3, 3] = 64  # of 16 pixels
    assert score_parts(top, bottom).tolist() == [[4.0, 1.0, 0.25, 0.0625, 4.0]]


def test_the_draft_is_kept_whose_known_codes_cost_least(shipped, monkeypatch):
    vqvae2, prior = shipped
    labels, asked = torch.tensor([3, 5]), []
    z_top, _ = prior.sample(2, *vqvae2.grids, labels=labels, seed=1)
    known = z_top.clone()
    known[:, 2:5] = -1
    own = prior.prior_top.sample

    def sample(*arguments, **options):
        asked.append(own(*arguments, **options))
        return asked[-1]

    monkeypatch.setattr(prior.prior_top, "sample", sample)
    with torch.no_grad():
        best = best_draft(prior, labels, known, 2, seed=0, first_index=0)
    (drafts,) = asked  # two for each image
    each = labels.repeat_interleave(2)
    nats = surprise(prior, drafts, torch.zeros(4, 16, 16).long(), each)["top"]
    costs = (nats * (known >= 0).repeat_interleave(2, 0)).sum((1, 2)).view(2, 2)
    assert torch.equal(best, drafts.view(2, 2, 8, 8)[[0, 1], costs.argmin(1)])
    assert (best[known >= 0] == z_top[known >= 0]).all()
    assert costs[:, 0].ne(costs[:, 1]).all()


def test_guided_nats_count_what_the_label_adds_if_there_is_one(shipped, heldout_codes):
    z_top, _, labels = heldout_codes.batch(torch.arange(4))
    top, prior = z_top.long(), shipped[1]
    with torch.no_grad():
        nats, none = (prior.prior_top.nats(top, labels=each) for each in (labels, None))
        found = guided(prior, labels, nats, top, top)
        assert guided(prior, None, none, top, top) is none
    torch.testing.assert_close(found, nats + (nats - none), rtol=1e-4, atol=1e-4)
    assert (nats - none).abs().max() > 0.1


def test_shifted_nats_are_moved_back(shipped, others, monkeypatch):
    images, labels = others[:2]
    nats, copies = torch.arange(128.0).view(2, 8, 8), []

    def codes(_vqvae2, _prior, moved_images):
        copies.append(moved_images)
        return torch.zeros(2, 8, 8).long(), None

    def of_copy(_codes, labels):
        return nats * (1 + len(copies))  # 2, 3, 4 and 5 times

    monkeypatch.setattr(search, "codes_of", codes)
    monkeypatch.setattr(shipped[1].prior_top, "nats", of_copy)
    found = shifted_nats(*shipped, images, labels, nats)
    assert len(copies) == 4
    assert torch.equal(copies[0][:, :, 1:], images[:, :, :-1])  # moved down
    own = over_pixels(nats, (32, 32))
    # In the third row and column of a code, all copies have the same code.
    torch.testing.assert_close(found[:, 2, 2], own[:, 2, 2] * 15 / 5)
    # In the first ones, the copy that was moved up has the code above, and the one that
    # was moved to the left the code to the left.
    here, above, left = own[:, 8, 8], own[:, 7, 8], own[:, 8, 7]
    expected = (here * (1 + 2 + 4) + above * 3 + left * 5) / 5
    torch.testing.assert_close(found[:, 8, 8], expected)


def test_the_best_restoration_has_the_largest_weight():
    restorations = torch.arange(6.0).view(2, 3, 1, 1, 1)
    weights = torch.tensor([[0.2, 0.7, 0.1], [0.1, 0.3, 0.6]])
    empty = torch.zeros(2)
    found = Findings(empty, empty, empty, restorations, weights, {}, {})
    assert found.best.flatten().tolist() == [1, 5]


def test_a_threshold_of_the_map_is_a_quantile(calibration):
    pixels = torch.linspace(0, 2, len(calibration.pixels))
    assert replace(calibration, pixels=pixels).map_threshold(0.05) == pytest.approx(1.9)


def test_a_prior_without_classes_takes_no_labels(shipped, normal):
    torch.manual_seed(0)
    prior = HierarchicalPixelCNN(30, 4, hidden_channels=8, num_layers=1).eval()
    images, labels = normal[:LEAST_NORMAL]
    calibration = calibrate(shipped[0], prior, images, draws=1)
    assert calibration.classes is None
    found = find(shipped[0], prior, images[:3], calibration, draws=1)
    assert found.p_values.shape == (3,) and found.weights.eq(1).all()
    with pytest.raises(ValueError, match="was built without classes"):
        find(shipped[0], prior, images[:3], calibration, labels[:3], draws=1)


def test_what_does_not_fit_is_named(shipped, normal, calibration):
    images, labels = normal[:]
    with pytest.raises(ValueError, match="there are 97 normal images, too few"):
        calibrate(*shipped, images[:97], labels[:97])
    with pytest.raises(ValueError, match="draws is 0; give a whole number"):
        calibrate(*shipped, images, labels, draws=0)
    of_some = replace(calibration, classes=(10, 11))
    cut = calibration.nats | {"top": calibration.nats["top"][:4]}
    smaller = replace(calibration, nats=cut)
    for message, given in (
        ("calibration was made with draws 2, but here are 8; give", {"draws": 8}),
        ("label 10 is out of range", {"labels": 10}),
        ("images have shape", {"images": images[:3, :, :16]}),
        ("there are no images", {"images": images[:0]}),
        (r"made with labels \(0, .* but here are None", {"labels": None}),
        (r"labels \(10, 11\), but here are", {"calibration": of_some}),
        ("seed is -1; give a whole number from 0", {"seed": -1}),
        (r"grids \[\(4, 8\), .* are \[\(8, 8\), ", {"calibration": smaller}),
    ):
        usual = {"images": images[:3], "labels": labels[:3], "draws": DRAWS}
        with pytest.raises(ValueError, match=message):
            find(*shipped, **usual | {"calibration": calibration} | given)


def test_a_rate_that_the_scores_do_not_allow_is_refused(calibration):
    with pytest.raises(
        ValueError, match=r"80 normal scores allow 1 / 81 or more; .*250"
    ):
        calibration.score_threshold(0.01)
    with pytest.raises(ValueError, match="the false-alarm rate is 1; give one between"):
        check_rate(1, 80)
    for count in range(10, 1500):
        check_rate(1 / (count + 1), count)


def test_images_above_the_threshold_of_scores_are_those_of_small_p_values(calibration):
    scores = torch.arange(99).double()
    among = replace(calibration, scores=scores)
    tried = torch.cat([scores, scores + 0.5, scores - 0.5])
    for rate in (0.01, 0.05, 0.29, 0.5):
        flagged = tried > among.score_threshold(rate)
        assert torch.equal(flagged, among.p_values(tried) <= rate)
    assert among.score_threshold(0.29) == 70  # 0.29 · 100 is 28.999… in binary


def test_a_calibration_is_the_same_after_it_was_written(shipped, calibration, tmp_path):
    path = tmp_path / "kept" / "calibration.safetensors"
    save_calibration(calibration, path)
    again = load_calibration(path, *shipped)
    for name, value in vars(calibration).items():
        if name in scores_module.NOTED:
            assert getattr(again, name) == value
        else:
            torch.testing.assert_close(getattr(again, name), value, rtol=0, atol=0)
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_file_that_holds_no_calibration_of_these_models_is_refused(
    shipped, calibration, tmp_path, monkeypatch
):
    path = tmp_path / "calibration.safetensors"

    def refused(message, kept=None, models=shipped):
        if kept is not None:
            save_calibration(kept, path)
        with pytest.raises(ValueError, match=message):
            load_calibration(path, *models)

    with pytest.raises(FileNotFoundError, match=r"there is no file .*; name a"):
        load_calibration(path, *shipped)
    path.write_bytes(b"no calibration")
    refused("cut short or of another kind")
    save_calibration(calibration, path)
    path.write_bytes(path.read_bytes()[:-100])
    refused("cut short or of another kind")
    other = HierarchicalPixelCNN(30, 4, hidden_channels=8, num_layers=1)
    refused("made with another prior", calibration, (shipped[0], other))
    refused("made with another VQ-VAE-2", replace(calibration, models=("", "")))
    down, nan = calibration.scores.flip(0), torch.full((5,), float("nan"))
    for message, wrong in (
        ("draws is 0", {"draws": 0}),
        ("holds no whole calibration", {"classes": ("a",)}),
        ("holds no whole calibration", {"models": ("",)}),
        ("calibration .scales of", {"scales": torch.zeros(5)}),
        ("calibration .centres of", {"centres": torch.zeros(2)}),
        ("calibration .centres of", {"centres": nan}),
        ("calibration .scores of", {"scores": torch.zeros(0)}),
        ("calibration .scores of", {"scores": down}),
        ("calibration .scores of", {"scores": calibration.scores.float()}),
    ):
        refused(message, replace(calibration, **wrong))
    with monkeypatch.context() as earlier:
        earlier.setattr(scores_module, "FORMAT", "version 1")
        save_calibration(calibration, path)
    refused("its format is version 1, not .* version 3.* calibrate again")
