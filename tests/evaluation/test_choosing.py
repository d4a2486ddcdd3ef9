"""Settings of sampling are compared by numbers, chosen, kept and read again."""

import pytest
import torch

from pixelprior import VQVAE2
from pixelprior.evaluation import choosing
from pixelprior.evaluation import classifier as judging
from pixelprior.evaluation.choosing import (
    SETTING_NAME,
    SETTINGS,
    compare_settings,
    read_setting,
    setting_in_words,
    settings_table,
)
from pixelprior.evaluation.measures import some_of_each_class
from pixelprior.prior import HierarchicalPixelCNN

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def compared(shipped, shipped_classifier, heldout_images):
    """Three settings of the shipped prior, one of which is bad in each of two ways."""
    settings = [{"temperature": 2.0}, {}, {"top_k": 1}]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judging, "CLASSIFIER_IMAGES", 600)
        patch.setattr(choosing, "SETTINGS", settings)
        return compare_settings(
            *shipped, shipped_classifier, heldout_images, num_samples=200
        )


def test_the_setting_nearest_to_the_images_is_chosen(compared):
    hot, itself, most_likely = compared["rows"]
    assert compared["chosen"] == itself["setting"] == {}
    assert itself["frechet"] < min(hot["frechet"], most_likely["frechet"])
    lines = settings_table(compared).splitlines()
    assert len(lines) == 5 and lines[2].startswith("| **the prior itself** |")


def test_noise_costs_precision_and_look_alikes_cost_recall(compared):
    hot, itself, most_likely = compared["rows"]
    assert hot["precision"] < itself["precision"] - 0.2
    assert most_likely["recall"] < itself["recall"] - 0.2
    assert hot["of_another_class"] > itself["of_another_class"]


@pytest.mark.parametrize("codes, kept", [(8, set()), (16, {8})])
def test_only_settings_that_change_the_samples_are_compared(
    codes, kept, shipped_classifier, heldout_images, monkeypatch
):
    """A prior without classes has no guidance, and is compared by distances alone. A
    top_k that keeps the whole codebook changes nothing."""
    few, asked = some_of_each_class(heldout_images, 100), []
    monkeypatch.setattr(
        choosing, "samples", lambda *_, **more: asked.append(more) or few
    )
    vqvae2 = VQVAE2(1, 32, hidden_channels=4, num_embeddings=codes)
    prior = HierarchicalPixelCNN(codes, 4, 4, 2).eval()
    found = compare_settings(vqvae2, prior, shipped_classifier, few, num_samples=10)
    settings = [each for each in SETTINGS if "guidance" not in each]
    assert len(asked) == sum(each.get("top_k", 0) < codes for each in settings)
    assert all("guidance" not in each for each in asked)
    assert {each["top_k"] for each in asked if "top_k" in each} == kept
    assert "accuracy" not in found["rows"][0]
    assert all(row.endswith(" | | |") for row in settings_table(found).splitlines()[2:])


def test_settings_in_words():
    guided = {"guidance": [0.5, 0.0], "top_p": 0.95}
    assert setting_in_words(guided) == "guidance 0.5 top, 0 bottom; top_p 0.95"
    assert setting_in_words({"guidance": 1}) == "guidance 1 top, 1 bottom"
    assert setting_in_words({}) == "the prior itself"
    assert len({setting_in_words(each) for each in SETTINGS}) == len(SETTINGS)


def test_the_setting_of_a_prior_is_read_from_its_folder(tmp_path):
    assert read_setting(tmp_path) is None
    (tmp_path / SETTING_NAME).write_text('{"guidance": [0.5, 0.0]}')
    assert read_setting(tmp_path) == {"guidance": [0.5, 0.0]}
    (tmp_path / SETTING_NAME).write_text("{}")
    assert read_setting(tmp_path) is None


@pytest.mark.parametrize(
    "text", ["[1]", '{"seed": 3}', '{"temperature": 0}', '{"top_p": "x"}', "[" * 5000]
)
def test_a_damaged_setting_is_refused_by_name(tmp_path, text):
    (tmp_path / SETTING_NAME).write_text(text)
    with pytest.raises(ValueError, match=rf"{SETTING_NAME} holds no setting"):
        read_setting(tmp_path)


def test_the_chosen_setting_of_the_comparison_can_be_sampled():
    """Every setting that can be chosen is one that `sample` takes."""
    prior = HierarchicalPixelCNN(64, 4, 4, 2, num_classes=10, label_dropout=0.1).eval()
    for setting in SETTINGS:
        z_top, _ = prior.sample(2, (1, 2), (2, 4), labels=3, seed=0, **setting)
        assert z_top.dtype == torch.long
