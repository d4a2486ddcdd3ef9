"""Guidance: labels withheld in training, and logits moved away from those without."""

import numpy as np
import pytest
import torch

from pixelprior import HierarchicalPixelCNN, PixelCNN, pixelcnn
from pixelprior.sampling import inverse_cdf, probabilities, sample_codes, uniforms
from pixelprior.settings import SamplingOptions

TOP, BOTTOM = (3, 4), (6, 8)
LABELS = torch.tensor([0, 1, 2, 0, 1])
METHODS = ("naive", "rows", "cached")


@pytest.fixture
def guided():
    """A prior with labels that matter: weights larger than at the start."""
    torch.manual_seed(0)
    prior = HierarchicalPixelCNN(16, 4, 8, 3, 3, dropout=0.0, label_dropout=0.1)
    for level in (prior.prior_top, prior.prior_bottom):
        level.label_embedding.weight.data.mul_(10)
        level.head[3].weight.data.mul_(5)
    return prior.double().eval()


@pytest.mark.parametrize("guidance", [np.float32(1), (2.0, 0.0), [0.0, 1.5]])
def test_every_method_draws_the_same_guided_codes(guided, guidance):
    known = torch.full((5, *BOTTOM), -1)
    known[:, 1::2, ::3] = 7
    options = {"labels": LABELS, "seed": 3, "guidance": guidance}
    options |= {"temperature": 0.9, "top_p": 0.95, "known_bottom": known}
    naive, *others = (
        guided.sample(5, TOP, BOTTOM, method=method, **options) for method in METHODS
    )
    for other in others:
        assert all(map(torch.equal, naive, other))
    assert (naive[1][:, 1::2, ::3] == 7).all()


def test_a_guided_code_is_drawn_from_the_combined_logits(guided):
    """At the first position: (1 + w) times the logits with the label, minus w times
    those without it, before temperature and filters."""
    level, w, shared = guided.prior_top, 1.5, {"temperature": 0.8, "top_k": 6}
    numbers = uniforms(5, 0, 5, 1)
    codes = torch.zeros(5, 1, 1, dtype=torch.long)
    with torch.no_grad():
        labelled, unlabelled = (
            level(codes, labels)[:, :, 0, 0] for labels in (LABELS, None)
        )
        conditions = [level.label_condition(labels, 5) for labels in (LABELS, None)]
    combined = (1 + w) * labelled - w * unlabelled
    expected = inverse_cdf(probabilities(combined, **shared), numbers[:, 0])
    options = SamplingOptions(**shared)
    drawn = sample_codes(
        level, (1, 1), numbers, torch.cat(conditions), options, guidance=w
    )
    assert torch.equal(drawn[:, 0, 0], expected)
    assert not torch.allclose(labelled, unlabelled, atol=0.1)


def test_guidance_runs_the_network_of_the_top_codes_once(guided):
    """The label is all that differs between the two conditions."""
    bottom, calls, z_top = guided.prior_bottom, [], torch.ones(5, *TOP).long()
    with torch.no_grad():
        apart = [
            bottom.conditioning(z_top, each, (5, *BOTTOM)) for each in (LABELS, None)
        ]
        bottom.top_network.register_forward_hook(lambda *_: calls.append(1))
        both = bottom.conditioning(z_top, LABELS, (5, *BOTTOM), guided=True)
    assert torch.equal(both, torch.cat(apart)) and len(calls) == 1
    guided.sample(5, TOP, BOTTOM, labels=LABELS, seed=0, guidance=1.0)
    assert len(calls) == 2


def test_a_label_past_the_classes_is_never_taken_for_no_label(guided, monkeypatch):
    """Where a GPU trains, labels are not checked before the embedding is looked up."""
    monkeypatch.setattr(pixelcnn, "check_is_free", lambda values: False)
    wrong = torch.tensor([0, 3])
    with pytest.raises(IndexError):
        guided.prior_top(torch.zeros(2, *TOP).long(), wrong)
    with pytest.raises(IndexError):
        guided.train().prior_top(torch.zeros(2, *TOP).long(), wrong)


def test_guidance_of_one_level_leaves_the_other_as_it_is(guided):
    options = {"labels": LABELS, "seed": 3}
    plain = guided.sample(5, TOP, BOTTOM, **options)
    zero = guided.sample(5, TOP, BOTTOM, guidance=0, **options)
    below = guided.sample(5, TOP, BOTTOM, guidance=(0.0, 4.0), **options)
    above = guided.sample(5, TOP, BOTTOM, guidance=(4.0, 0.0), **options)
    assert all(map(torch.equal, plain, zero))
    assert torch.equal(plain[0], below[0]) and not torch.equal(plain[1], below[1])
    assert not torch.equal(plain[0], above[0])


def test_labels_are_withheld_in_training_and_only_there():
    torch.manual_seed(0)
    level = PixelCNN(8, 4, 6, 2, num_classes=3, label_dropout=0.25)
    labels, count = torch.arange(2000) % 3, 2000
    with torch.no_grad():
        rows = level.label_embedding.weight[:, :, None, None]
        drawn = level.label_condition(labels, count)
        withheld = (drawn == rows[3]).all(dim=1).flatten()
        kept = (drawn == rows[labels]).all(dim=1).flatten()
        assert (withheld ^ kept).all() and 0.2 < withheld.float().mean() < 0.3
        level.eval()
        assert torch.equal(level.label_condition(labels, count), rows[labels])
        assert torch.equal(level.label_condition(None, 2), rows[[3, 3]])


def test_without_label_dropout_there_is_no_such_embedding_and_labels_are_needed():
    level = PixelCNN(8, 4, 6, 2, num_classes=3)
    assert len(level.label_embedding.weight) == 3
    with pytest.raises(ValueError, match="conditional on 3 classes"):
        level(torch.zeros(1, 2, 2, dtype=torch.long))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"guidance": -0.5}, "guidance is -0.5; give a number from 0"),
        ({"guidance": float("nan")}, "guidance is nan"),
        ({"guidance": "much"}, "guidance is 'much'"),
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
    with pytest.raises(ValueError, match=r"label_dropout is 0\.1, but there are no"):
        HierarchicalPixelCNN(8, 4, 6, 2, label_dropout=0.1)
    with pytest.raises(ValueError, match="label_dropout is 1"):
        HierarchicalPixelCNN(8, 4, 6, 2, 3, label_dropout=1.0)
