"""Guidance: labels withheld in training, and logits moved away from those without."""

import copy

import numpy as np
import pytest
import torch

from pixelprior import HierarchicalPixelCNN, PixelCNN, complete, pixelcnn
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


@pytest.mark.parametrize("guidance", [0.5, 3, np.float32(1), (2.0, 0.0), [0.0, 1.5]])
def test_every_method_draws_the_same_guided_codes(guided, guidance):
    known = torch.full((5, *BOTTOM), -1)
    known[:, 1::2, ::3] = 7
    options = {"labels": LABELS, "seed": 3, "guidance": guidance}
    options |= {"temperature": 0.9, "top_p": 0.95, "known_bottom": known}
    naive, *others = (
        guided.sample(5, TOP, BOTTOM, method=method, **options) for method in METHODS
    )
    for other in others:
        assert all(torch.equal(a, b) for a, b in zip(naive, other, strict=True))
    assert (naive[1][:, 1::2, ::3] == 7).all()


def test_image_i_is_the_same_in_any_batch_and_chunk(guided):
    options = {"labels": LABELS, "seed": 3, "guidance": 1.0}
    whole = guided.sample(5, TOP, BOTTOM, **options)
    chunks = guided.sample(5, TOP, BOTTOM, chunk_size=2, **options)
    assert all(torch.equal(a, b) for a, b in zip(whole, chunks, strict=True))


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
    assert all(torch.equal(a, b) for a, b in zip(plain, zero, strict=True))
    assert torch.equal(plain[0], below[0]) and not torch.equal(plain[1], below[1])
    assert not torch.equal(plain[0], above[0])


def test_guidance_raises_the_probability_of_the_label(guided):
    """By Bayes' rule from the grids drawn: log P(grid | label) - log P(grid)."""

    def evidence(guidance):
        z_top, z_bottom = guided.sample(
            60, TOP, BOTTOM, labels=torch.arange(60) % 3, seed=1, guidance=guidance
        )
        with torch.no_grad():
            nats = [
                guided.loss_function(z_top, z_bottom, labels)["total_loss"]
                for labels in (torch.arange(60) % 3, None)
            ]
        return (nats[1] - nats[0]).item()

    assert evidence(3.0) > evidence(1.0) > evidence(0.0) > 0


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


def test_training_reaches_the_embedding_for_no_label():
    torch.manual_seed(0)
    prior = HierarchicalPixelCNN(8, 4, 6, 2, 3, label_dropout=0.5)
    codes = torch.randint(0, 8, (96, 2, 2)), torch.randint(0, 8, (96, 4, 4))
    prior.loss_function(*codes, torch.arange(96) % 3)["total_loss"].backward()
    for level in (prior.prior_top, prior.prior_bottom):
        assert (level.label_embedding.weight.grad.abs().sum(dim=1) > 0).all()


def test_without_label_dropout_there_is_no_such_embedding_and_labels_are_needed():
    level = PixelCNN(8, 4, 6, 2, num_classes=3)
    assert len(level.label_embedding.weight) == 3
    with pytest.raises(ValueError, match="conditional on 3 classes"):
        level(torch.zeros(1, 2, 2, dtype=torch.long))


def test_a_checkpoint_keeps_the_embedding_for_no_label(guided, tmp_path):
    guided.float().save_pretrained(tmp_path)
    again = HierarchicalPixelCNN.from_pretrained(tmp_path).eval()
    options = {"labels": LABELS, "seed": 3, "guidance": 1.0}
    drawn = (prior.sample(5, TOP, BOTTOM, **options) for prior in (guided, again))
    assert all(torch.equal(a, b) for a, b in zip(*drawn, strict=True))


def test_images_are_completed_with_guidance(small_vqvae2):
    torch.manual_seed(0)
    prior = HierarchicalPixelCNN(512, 4, 8, 2, 3, label_dropout=0.1)
    prior.prior_top.label_embedding.weight.data.mul_(20)
    images = torch.rand(2, 1, 32, 32)
    known = torch.zeros(32, 32, dtype=torch.bool)
    known[:16] = True
    plain, guided = (
        complete(
            small_vqvae2, prior, images, known, labels=1, seed=0, guidance=guidance
        )
        for guidance in (0.0, 5.0)
    )
    assert guided.shape == images.shape and not torch.equal(plain, guided)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"guidance": -0.5}, "guidance is -0.5; give a number from 0"),
        ({"guidance": float("nan")}, "guidance is nan"),
        ({"guidance": "much"}, "guidance is much"),
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


def test_sampling_leaves_the_prior_as_it_was(guided):
    before = copy.deepcopy(guided.state_dict())
    guided.train()
    guided.sample(5, TOP, BOTTOM, labels=LABELS, seed=3, guidance=1.0)
    assert guided.training
    after = guided.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
