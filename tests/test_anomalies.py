"""What is odd is scored, restored and mapped; what is normal is left as it is."""

import math
from dataclasses import replace

import pytest
import torch

from pixelprior.anomalies import Calibration, calibrate, find, scores, search
from pixelprior.anomalies.finding import score_parts_of
from pixelprior.anomalies.scores import (
    distances,
    load_calibration,
    save_calibration,
    score_parts,
    smooth,
)
from pixelprior.anomalies.search import best_draft, over_pixels, shifted_nats
from pixelprior.editing import codes_of, surprise
from pixelprior.evaluation.defects import with_defects

NORMAL, DRAWS = 200, 2  # images to calibrate on, and restorations of each


@pytest.fixture(scope="module")
def normal(heldout_images):
    return heldout_images.subset(torch.arange(NORMAL))


@pytest.fixture(scope="module")
def others(heldout_images):
    return heldout_images.subset(torch.arange(NORMAL, NORMAL + 40))


@pytest.fixture(scope="module")
def calibration(shipped, normal):
    return calibrate(*shipped, *normal[:], draws=DRAWS)


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
    torch.testing.assert_close(found.best, shipped[0](images))


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
    odd, (images, labels) = judged(calibration, bottom=-1.0), others[:2]
    found = find(*shipped, images, odd, labels, draws=DRAWS)
    assert not found.flagged["top"].any() and found.flagged["bottom"].all()


def test_an_image_is_restored_in_the_same_way_in_any_batch(
    shipped, others, calibration, monkeypatch
):
    images, labels = others[:6]
    images = images.flip(2)  # upside down
    together, alone, elsewhere = (
        find(*shipped, images[own], calibration, labels[own], draws=DRAWS, **first)
        for own, first in ((slice(6), {}), ([4], {"first_index": 4}), ([4], {}))
    )
    monkeypatch.setattr(search, "PIXELS_TOGETHER", 32 * 32 * 4 * DRAWS)
    parts = find(*shipped, images, calibration, labels, draws=DRAWS)
    for one, own in ((alone, [4]), (parts, slice(6))):
        wanted = together.scores[own]
        torch.testing.assert_close(one.scores, wanted, rtol=1e-4, atol=1e-3)
        for name in ("restorations", "maps"):
            apart = getattr(one, name) - getattr(together, name)[own]
            # A rounding tie may draw another code.
            assert (apart.abs() < 1e-3).float().mean() > 0.95
    assert not torch.equal(elsewhere.restorations, alone.restorations)


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
    few = replace(calibration, nats={"top": torch.tensor([[[1.0, 2, 2, 5]]])})
    for cost, at_least in ((0.5, 4), (2.0, 3), (3.0, 1), (9.0, 0)):
        p_value = few.code_p_values("top", torch.tensor([[[cost]]]))
        assert p_value.item() == pytest.approx((1 + at_least) / 5)


def test_a_false_alarm_rate_holds_for_exchangeable_scores(calibration):
    """Each of 200 scores is left out in turn: its p-value is each of n / 200 once."""
    scores, found = torch.arange(200).double(), []
    for each in scores:
        rest = replace(calibration, scores=scores[scores != each])
        found.append(rest.p_values(each[None]).item())
    assert found == pytest.approx([number / 200 for number in range(200, 0, -1)])


def test_images_above_the_threshold_of_scores_are_those_of_small_p_values(calibration):
    scores = torch.arange(99).double()
    among = replace(calibration, scores=scores)
    tried = torch.cat([scores, scores + 0.5, scores - 0.5])
    for rate in (0.01, 0.05, 0.29, 0.5):  # 0.29 · 100 is 28.999… in binary
        flagged = tried > among.score_threshold(rate)
        assert torch.equal(flagged, among.p_values(tried) <= rate)
    with pytest.raises(ValueError, match=r"99 normal scores allow 1 / 100 .*about 278"):
        among.score_threshold(0.009)


def test_a_distance_is_weighted_and_counts_less_where_restorations_differ():
    images = torch.zeros(1, 3, 32, 64)
    restorations = torch.stack([images + 0.2, images + 0.6], dim=1)
    far = distances(images, restorations, torch.tensor([[0.25, 0.75]]))
    deviation = math.sqrt(0.25 * 0.3**2 + 0.75 * 0.1**2)
    torch.testing.assert_close(far, torch.full((1, 32, 64), 0.5 / (0.2 + deviation)))


def test_a_map_grows_with_distance_surroundings_nats_and_score(calibration):
    guided, distance = torch.randn(1, 32, 32), torch.rand(1, 32, 32)
    usual = torch.quantile(calibration.scores, 0.9).view(1)
    low, middle, high = (
        calibration.maps_of(usual + more, guided, distance) for more in (-1e3, 0.0, 1e3)
    )
    assert low.max() < 1e-6
    torch.testing.assert_close(middle, high * math.sqrt(0.5))
    near, around = (0.002 + smooth(distance, each) for each in (0.5, 4))
    nats = smooth(guided.clamp(min=0), 2)
    torch.testing.assert_close(high**2, near * around * (1 + nats))
    pixels = torch.linspace(0, 2, len(calibration.pixels))
    assert replace(calibration, pixels=pixels).map_threshold(0.05) == pytest.approx(1.9)


def test_the_parts_of_a_score_are_means_of_the_largest_nats():
    top, bottom = torch.zeros(2, 1, 32, 64).unbind(0)
    top[0, 0, :4] = torch.tensor([8.0, 16, 8, 96])  # of 32, 128, 512 and 2,048 pixels
    bottom[0, 3, 3] = 64  # of 16 pixels
    assert score_parts(top, bottom).tolist() == [[4.0, 1.0, 0.25, 0.0625, 4.0]]


def test_the_draft_is_kept_whose_known_codes_cost_least(shipped, monkeypatch):
    drafts, nats = torch.arange(4 * 64).view(4, 8, 8), torch.ones(4, 8, 8)
    nats[1:3, 0] = 0.5  # of the second draft for one image, and the first for another
    nats[3, 4:] = -9  # of unknown codes
    known = torch.full((2, 8, 8), -1)
    known[:, :4] = 0
    prior = shipped[1]
    monkeypatch.setattr(prior.prior_top, "sample", lambda *_, **__: drafts)
    monkeypatch.setattr(prior.prior_top, "nats", lambda *_, **__: nats)
    best = best_draft(prior, torch.tensor([3, 5]), known, 2, seed=0, first_index=0)
    assert torch.equal(best, drafts[[1, 2]])


def test_shifted_nats_are_moved_back(shipped, others, monkeypatch):
    nats, copies = torch.arange(128.0).view(2, 8, 8), []

    def codes(_vqvae2, _prior, moved_images):
        copies.append(moved_images)
        return None, None

    monkeypatch.setattr(search, "codes_of", codes)
    top = shipped[1].prior_top  # 2, 3, 4 and 5 times the nats for the copies
    monkeypatch.setattr(top, "nats", lambda *_, **__: nats * (1 + len(copies)))
    images, labels = others[:2]
    found = shifted_nats(*shipped, images, labels, nats)
    assert torch.equal(copies[0][:, :, 1:], images[:, :, :-1])  # moved down
    # At the first pixel of a code, the copy that was moved up has the code above, and
    # the one that was moved to the left the code to the left.
    here, above, left = nats[:, 2, 2], nats[:, 1, 2], nats[:, 2, 1]
    expected = (here * (1 + 2 + 4) + above * 3 + left * 5) / 5
    torch.testing.assert_close(found[:, 8, 8], expected)


def test_what_does_not_fit_is_named(shipped, normal, calibration):
    images, labels = normal[:3]
    cut = calibration.nats | {"top": calibration.nats["top"][:4]}
    given = {"images": images, "calibration": calibration, "labels": labels}
    for message, wrong in (
        ("calibration was made with draws 2, but here are 8; give", {"draws": 8}),
        ("there are no images", {"images": images[:0], "labels": labels[:0]}),
        (r"made with labels \(0, .* but here are None", {"labels": None}),
        (r"grids \[\(4,", {"calibration": replace(calibration, nats=cut)}),
    ):
        with pytest.raises(ValueError, match=message):
            find(*shipped, **given | {"draws": DRAWS} | wrong)


def test_a_calibration_is_the_same_after_it_was_written(shipped, calibration, tmp_path):
    path = tmp_path / "kept" / "calibration.safetensors"
    save_calibration(calibration, path)
    again = vars(load_calibration(path, *shipped))
    own = dict(vars(calibration))
    assert all(again.pop(name) == own.pop(name) for name in scores.NOTED)
    torch.testing.assert_close(again, own, rtol=0, atol=0)
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_file_that_holds_no_calibration_of_these_models_is_refused(
    shipped, calibration, tmp_path
):
    path = tmp_path / "calibration.safetensors"

    with pytest.raises(FileNotFoundError, match="name a calibration"):
        load_calibration(path, *shipped)

    def refused(message, write=save_calibration, **changed):
        write(replace(calibration, **changed), path)
        with pytest.raises(ValueError, match=message):
            load_calibration(path, *shipped)

    def cut(kept, path):
        save_calibration(kept, path)
        path.write_bytes(path.read_bytes()[:-100])

    refused("cut short or of another kind", cut)
    refused("made with another VQ-VAE-2", models=("", calibration.models[1]))
    refused("made with another prior", models=(calibration.models[0], ""))
    refused("calibration .scores of", scores=calibration.scores.flip(0))
