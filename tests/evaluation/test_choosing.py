"""Settings of sampling are compared by numbers, chosen, kept and read again."""

import json

import pytest

from pixelprior.evaluation import choosing
from pixelprior.evaluation import classifier as judging
from pixelprior.evaluation.choosing import (
    SETTING_NAME,
    compare_settings,
    read_setting,
    settings_table,
)
from pixelprior.evaluation.measures import some_of_each_class
from pixelprior.prior import HierarchicalPixelCNN

pytestmark = pytest.mark.slow


def test_the_setting_nearest_to_the_images_is_chosen(
    shipped, shipped_classifier, heldout_images, monkeypatch
):
    """Of three of the shipped prior, one of which is bad in each of two ways."""
    settings = [{"temperature": 2.0}, {}, {"top_k": 1}]
    monkeypatch.setattr(judging, "CLASSIFIER_IMAGES", 600)
    monkeypatch.setattr(choosing, "SETTINGS", settings)
    compared = compare_settings(
        *shipped, shipped_classifier, heldout_images, num_samples=200
    )
    hot, itself, most_likely = compared["rows"]
    assert compared["chosen"] == itself["setting"] == {}
    assert itself["frechet"] < min(hot["frechet"], most_likely["frechet"])
    assert hot["precision"] < itself["precision"] - 0.2
    assert most_likely["recall"] < itself["recall"] - 0.2
    assert hot["of_another_class"] > itself["of_another_class"]


def test_only_settings_that_change_the_samples_are_compared(
    shipped, shipped_classifier, heldout_images, monkeypatch
):
    """Not a top_k of the whole codebook, nor guidance without classes."""
    settings = [{}, {"top_k": 8}, {"top_k": 30}, {"guidance": [1.0, 1.0]}]
    monkeypatch.setattr(choosing, "SETTINGS", settings)
    few = some_of_each_class(heldout_images, 100)
    models = shipped[0], HierarchicalPixelCNN(30, 4, 4, 2).eval(), shipped_classifier
    found = compare_settings(*models, few, num_samples=10)
    assert [row["setting"] for row in found["rows"]] == settings[:2]
    assert settings_table(found).endswith(" | | |")  # nothing is measured by class


def test_the_setting_of_a_prior_is_read_from_its_folder(tmp_path):
    assert read_setting(tmp_path) is None
    for setting in ({"guidance": [1, 0]}, {}):  # {} is the prior itself
        (tmp_path / SETTING_NAME).write_text(json.dumps(setting))
        assert read_setting(tmp_path) == (setting or None)


def test_a_damaged_setting_is_refused_by_name(tmp_path):
    for text in ("[1]", '{"seed": 3}', '{"top_k": 0}', '{"top_p": "x"}', "[" * 5000):
        (tmp_path / SETTING_NAME).write_text(text)
        with pytest.raises(ValueError, match=rf"{SETTING_NAME} holds no setting"):
            read_setting(tmp_path)
