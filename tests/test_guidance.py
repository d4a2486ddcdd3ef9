"""Guidance: labels withheld in training, and logits moved away from those without."""

import pytest
import torch

from pixelprior import HierarchicalPixelCNN, PixelCNN, pixelcnn

TOP, BOTTOM = (3, 4), (6, 8)
LABELS = torch.tensor([0, 1, 2, 0, 1])


@pytest.fixture
def guided():
    """A prior with labels that matter: weights larger than at the start."""
    torch.manual_seed(0)
    prior = HierarchicalPixelCNN(16, 4, 8, 3, 3, dropout=0.0, label_dropout=0.1)
    for level in (prior.prior_top, prior.prior_bottom):
        level.label_embedding.weight.data.mul_(10)
        level.head[3].weight.data.mul_(5)
    return prior.double().eval()


def test_a_label_past_the_classes_is_never_taken_for_no_label(guided, monkeypatch):
    """Where a GPU trains, labels are not checked before the embedding is looked up."""
    monkeypatch.setattr(pixelcnn, "check_is_free", lambda values: False)
    for mode in (False, True):
        with pytest.raises(IndexError):
            guided.train(mode).prior_top(torch.zeros(2, *TOP).long(), [0, 3])


def test_guidance_of_one_level_leaves_the_other_as_it_is(guided):
    plain, zero, below, above = (
        guided.sample(5, TOP, BOTTOM, labels=LABELS, seed=3, guidance=each)
        for each in (0.0, 0, (0.0, 4.0), (4.0, 0.0))
    )
    assert all(map(torch.equal, plain, zero))
    assert torch.equal(plain[0], below[0]) and not torch.equal(plain[1], below[1])
    assert not torch.equal(plain[0], above[0])


def test_labels_are_withheld_in_training_and_only_there():
    torch.manual_seed(0)
    level = PixelCNN(8, 4, 6, 2, num_classes=3, label_dropout=0.25)
    labels = torch.arange(2000) % 3
    with torch.no_grad():
        rows = level.label_embedding.weight[:, :, None, None]
        drawn = level.label_condition(labels, 2000)
        withheld = (drawn == rows[3]).all(dim=1).flatten()
        kept = (drawn == rows[labels]).all(dim=1).flatten()
        assert (withheld ^ kept).all() and 0.2 < withheld.float().mean() < 0.3
        level.eval()
        assert torch.equal(level.label_condition(labels, 2000), rows[labels])
        assert torch.equal(level.label_condition(None, 2), rows[[3, 3]])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"guidance": -0.5}, "guidance is -0.5; give a number from 0"),
        ({"guidance": (1.0, 2.0, 3.0)}, "but the prior has 2 level"),
        ({"guidance": 1.0, "labels": None}, "no labels to guide towards"),
    ],
)
def test_bad_guidance_is_refused(guided, options, words):
    with pytest.raises(ValueError, match=words):
        guided.sample(5, TOP, BOTTOM, **{"labels": LABELS, **options})


def test_a_prior_trained_with_all_labels_cannot_be_guided(small_prior):
    with pytest.raises(ValueError, match="trained with all labels; train one with"):
        small_prior.sample(5, TOP, BOTTOM, labels=LABELS, guidance=1.0)
