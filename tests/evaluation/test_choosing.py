"""Settings of sampling are compared by numbers, chosen, kept and read again."""

import json

import pytest
import torch

from pixelprior import VQVAE2
from pixelprior.evaluation import choosing, judging
from pixelprior.evaluation.choosing import (
    SETTING_NAME,
    SETTINGS,
    compare_settings,
    read_setting,
    setting_in_words,
    settings_table,
)
from pixelprior.evaluation.classifier import load_shipped_reference_models
from pixelprior.evaluation.suite import some_of_each_class
from pixelprior.prior import HierarchicalPixelCNN

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def compared(shipped, heldout_images):
    """Three settings of the shipped prior, one of which is bad in each of two ways."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judging, "CLASSIFIER_IMAGES", 600)
        return compare_settings(
            *shipped,
            load_shipped_reference_models()[1],
            heldout_images,
            settings=[{"temperature": 2.0}, {}, {"top_k": 1}],
            num_samples=200,
        )


def test_the_setting_nearest_to_the_images_is_chosen(compared):
    hot, itself, most_likely = compared["rows"]
    assert compared["chosen"] == itself["setting"] == {}
    assert itself["frechet"] < min(hot["frechet"], most_likely["frechet"])


def test_noise_costs_precision_and_look_alikes_cost_recall(compared):
    hot, itself, most_likely = compared["rows"]
    assert hot["precision"] < itself["precision"] - 0.2
    assert most_likely["recall"] < itself["recall"] - 0.2
    assert hot["of_another_class"] > itself["of_another_class"]


def test_the_table_has_the_best_setting_first_and_marks_it(compared):
    lines = settings_table(compared).splitlines()
    assert len(lines) == 5
    assert lines[2].startswith("| **the prior itself** |")


def test_a_prior_without_label_dropout_is_compared_without_guidance(
    shipped, heldout_images, monkeypatch
):
    """A prior without classes is compared by distances alone."""
    asked = []

    def samples(vqvae2, prior, count, **options):
        asked.append({name: options.get(name) for name in choosing.NAMES})
        return few

    monkeypatch.setattr(choosing, "samples", samples)
    prior = HierarchicalPixelCNN(64, 4, 4, 2).eval()
    classifier = load_shipped_reference_models()[1]
    few = some_of_each_class(heldout_images, 100)
    found = compare_settings(shipped[0], prior, classifier, few, num_samples=10)
    assert len(asked) == sum("guidance" not in each for each in SETTINGS)
    assert all(each["guidance"] is None for each in asked)
    assert "accuracy" not in found["rows"][0]
    assert settings_table(found).count("|  |  |") == len(asked)


def test_a_top_k_that_keeps_the_whole_codebook_is_not_compared(
    heldout_images, monkeypatch
):
    asked = []

    def samples(vqvae2, prior, count, **options):
        asked.append(options.get("top_k"))
        return few

    monkeypatch.setattr(choosing, "samples", samples)
    few = some_of_each_class(heldout_images, 100)
    classifier = load_shipped_reference_models()[1]
    for codes, wanted in ((8, set()), (16, {8}), (17, {8, 16})):
        vqvae2 = VQVAE2(1, 32, hidden_channels=4, num_embeddings=codes)
        prior = HierarchicalPixelCNN(codes, 4, 4, 2).eval()
        asked.clear()
        compare_settings(vqvae2, prior, classifier, few, num_samples=10)
        assert set(asked) - {None} == wanted


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
    "text",
    ["{", "[1]", '{"seed": 3}', '{"temperature": 0}', '{"top_p": "much"}', "[" * 5000]
    + [json.dumps({"top_k": 0}), '{"guidance": -1}', '{"guidance": "x"}'],
)
def test_a_damaged_setting_is_refused_by_name(tmp_path, text):
    (tmp_path / SETTING_NAME).write_text(text)
    with pytest.raises(ValueError, match=rf"{SETTING_NAME} holds no setting"):
        read_setting(tmp_path)


def test_the_chosen_setting_of_the_comparison_can_be_sampled(shipped):
    """Every setting that can be chosen is one that `sample` takes."""
    prior = HierarchicalPixelCNN(64, 4, 4, 2, num_classes=10, label_dropout=0.1).eval()
    for setting in SETTINGS:
        z_top, _ = prior.sample(2, (1, 2), (2, 4), labels=3, seed=0, **setting)
        assert z_top.dtype == torch.long
