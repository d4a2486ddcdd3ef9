"""One level, two, or several of unequal codebooks, and conditions that are vectors."""

import math

import pytest
import torch

from pixelprior import HierarchicalPixelCNN
from pixelprior.pixelcnn import PixelCNN

SIZES, SHAPES = [7, 3, 5], [(2, 3), (4, 4), (5, 3)]


@pytest.fixture
def prior():
    torch.manual_seed(0)
    return HierarchicalPixelCNN(SIZES, 3, 8, 3, kernel_size=5).eval()


@pytest.fixture
def grids():
    torch.manual_seed(0)
    return [torch.randint(k, (4, *s)) for k, s in zip(SIZES, SHAPES, strict=True)]


def test_each_level_depends_on_itself_and_the_level_above_and_nothing_else(
    prior, grids
):
    nats = prior.nats(*grids)
    for changed, size in enumerate(SIZES):
        others = list(grids)
        others[changed] = (grids[changed] + 1) % size
        again = prior.nats(*others)
        same = [torch.equal(nats[name], again[name]) for name in prior.level_names]
        assert same == [level not in (changed, changed + 1) for level in range(3)]


def test_probabilities_of_all_grids_of_three_levels_sum_to_one():
    torch.manual_seed(0)
    prior = HierarchicalPixelCNN([2, 2, 2], 3, 6, 2).double().eval()
    codes = torch.cartesian_prod(*[torch.arange(2)] * 8)  # [256, 8]
    grids = [each.unflatten(1, (-1, 2)) for each in codes.split((2, 2, 4), dim=1)]
    nats = sum(each.flatten(1).sum(1) for each in prior.nats(*grids).values())
    assert (-nats).exp().sum().item() == pytest.approx(1)


@pytest.mark.parametrize(
    ("sizes", "known_as", "names"),
    [
        ([8, 8], 8, ("top", "bottom")),
        ([5, 8], (5, 8), ("top", "bottom")),
        ([5, 5, 5], (5, 5, 5), ("level_0", "level_1", "level_2")),
    ],
)
def test_two_levels_have_names_and_if_alike_one_number_of_codes(sizes, known_as, names):
    prior = HierarchicalPixelCNN(sizes, 4, hidden_channels=4, num_layers=1)
    assert (prior.num_embeddings, prior.level_names) == (known_as, names)
    assert prior.levels == [getattr(prior, f"prior_{name}") for name in names]


@pytest.mark.parametrize("names", [("level_1",), ("level_0", "level_2")])
def test_some_levels_are_trained_alone(prior, grids, names):
    losses = prior.loss_function(*grids, levels=names)
    losses["total_loss"].backward()
    every = prior.loss_function(*grids)
    assert all(losses[f"{name}_loss"] == every[f"{name}_loss"] for name in names)
    assert losses.keys() == {"total_loss", *(f"{name}_loss" for name in names)}
    for name, level in zip(prior.level_names, prior.levels, strict=True):
        assert (level.embedding.weight.grad is not None) == (name in names)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda p, z: p.loss_function(*z[:2]), "2 grids .* a prior of 3 level"),
        (lambda p, z: p.loss_function(*z, levels=("top",)), "give some of"),
        (lambda p, z: p.sample(4, (2, 3), (4, 4)), "for 3 level"),
        (lambda p, z: p.levels[1].sample(4, (4, 4)), "needs the codes of the level "),
        (lambda p, z: HierarchicalPixelCNN([4, 0], 4), "num_embeddings is 0"),
    ],
)
def test_another_number_of_levels_is_named(prior, grids, change, words):
    with pytest.raises(ValueError, match=words):
        change(prior, grids)


def test_a_vector_for_all_images_is_given_once():
    level = PixelCNN(4, 4, 8, 2, condition_dim=3).eval()
    once = level.label_condition([1.0, 2.0, 3.0], 2)
    assert torch.equal(once, level.label_condition(torch.tensor([[1.0, 2, 3]] * 2), 2))
    assert once.square().mean(dim=1).max() < 1, "it is bounded"


def test_withheld_vectors_are_one_condition_whatever_they_were():
    torch.manual_seed(0)
    level = PixelCNN(4, 4, 8, 2, condition_dim=3, label_dropout=0.5)
    of_none = level.label_condition(None, 1)
    drawn = level.label_condition(torch.randn(200, 3), 200)
    withheld = (drawn == of_none).all(dim=1).flatten()
    assert 70 < withheld.sum() < 130
    level.eval()
    assert not (level.label_condition(torch.randn(200, 3), 200) == of_none).all(1).any()


@pytest.mark.parametrize(
    "options, labels, words",
    [
        ({}, None, "on vectors; give vectors of 2 finite numbers, one per"),
        ({}, torch.ones(1), r"labels have shape \[1\], but shape \[4, 2\] is needed"),
        ({}, torch.ones(4, 2) * math.inf, "not finite; give vectors of 2 finite"),
        ({"num_classes": 3}, None, "num_classes is 3 and condition_dim is 2; give one"),
    ],
)
def test_wrong_vectors_are_named(options, labels, words):
    with pytest.raises(ValueError, match=words):
        level = PixelCNN(4, 4, 8, 2, **{"condition_dim": 2} | options)
        level(torch.zeros(4, 2, 2).long(), labels)
