"""One level, two, or several of unequal codebooks, and conditions that are vectors."""

import itertools
import math

import pytest
import torch
from test_pixelcnn import assert_sees_the_past_and_nothing_else

from pixelprior import CodeData, HierarchicalPixelCNN, TrainingSettings, fit
from pixelprior.checkpoints import load_model
from pixelprior.data.codes import read_codes, save_codes
from pixelprior.pixelcnn import PixelCNN

SIZES, SHAPES = [7, 3, 5], [(2, 3), (4, 4), (5, 3)]
METHODS = ("naive", "rows", "cached")


def prior_of(sizes=SIZES, **options):
    """An untrained prior in float64 whose codes are not equally likely."""
    torch.manual_seed(0)
    prior = HierarchicalPixelCNN(sizes, 3, 8, 3, kernel_size=5, **options)
    for parameter in prior.parameters():
        parameter.data.mul_(2)
    return prior.double().eval()


def codes_of(sizes, shapes, count=4):
    return [torch.randint(k, (count, *s)) for k, s in zip(sizes, shapes, strict=True)]


@pytest.mark.parametrize("level", [0, 1, 2])
def test_each_level_sees_its_past_and_the_level_above_and_nothing_else(level):
    torch.manual_seed(0)
    prior = HierarchicalPixelCNN(SIZES, 8, 16, 9).double().eval()
    grids, shape = codes_of(SIZES, SHAPES, 1), SHAPES[level]
    above = None if level == 0 else grids[level - 1]
    condition = prior.levels[level].conditioning(above, None, (1, *shape))
    if condition is not None:
        count = math.prod(shape)
        condition = condition.detach().expand(count, -1, -1, -1)
    assert_sees_the_past_and_nothing_else(prior.levels[level], shape, condition)
    nats = prior.nats(*grids)
    for other in range(3):
        changed = list(grids)
        changed[other] = (grids[other] + 1) % SIZES[other]
        same = torch.equal(
            nats[f"level_{level}"], prior.nats(*changed)[f"level_{level}"]
        )
        assert same == (other not in (level - 1, level))


def test_probabilities_of_all_codes_of_three_levels_sum_to_one():
    prior, shapes = prior_of([2, 3, 2]), [(1, 1), (1, 2), (2, 1)]
    counts = [math.prod(shape) for shape in shapes]
    digits = [torch.arange(k) for k in (2, 3, 3, 2, 2)]
    every = torch.cartesian_prod(*digits).split(counts, dim=1)
    grids = [z.reshape(-1, *s) for z, s in zip(every, shapes, strict=True)]
    nats = sum(each.double().sum(dim=(1, 2)) for each in prior.nats(*grids).values())
    assert len(nats) == 2 * 9 * 4
    assert (-nats).exp().sum().item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("sizes, shapes", [([6], [(3, 5)]), (SIZES, SHAPES)])
@pytest.mark.parametrize("condition", ["none", "classes", "vectors"])
def test_every_method_draws_the_same_codes_of_any_number_of_levels(
    sizes, shapes, condition
):
    options, labels = {}, None
    if condition != "none":
        options["label_dropout"] = 0.1
    if condition == "classes":
        options["num_classes"], labels = 3, torch.arange(4) % 3
    if condition == "vectors":
        options["condition_dim"], labels = 2, torch.randn(4, 2)
    prior = prior_of(sizes, attention_layers=1, attention_heads=2, **options)
    known = [torch.full((4, *shape), -1) for shape in shapes]
    known[-1][:, 0] = 2
    drawing = {"shapes": shapes, "labels": labels, "seed": 3, "known": known}
    if labels is not None:
        drawing["guidance"] = [0.5 * level for level in range(len(sizes))]
    naive, *others = (prior.sample(4, method=m, **drawing) for m in METHODS)
    for other in [*others, prior.sample(4, chunk_size=3, **drawing)]:
        assert all(map(torch.equal, naive, other))
    assert [tuple(z.shape[1:]) for z in naive] == shapes
    assert all(z.max() < size for z, size in zip(naive, sizes, strict=True))
    assert (naive[-1][:, 0] == 2).all()
    without = prior.sample(4, **drawing | {"known": None})
    assert not torch.equal(without[-1], naive[-1])


def counting(count: int) -> CodeData:
    """Rows that count up from a start, which is a code of the level above."""
    start = torch.randint(4, (count, 1, 1), generator=torch.Generator().manual_seed(0))
    middle = (start + torch.arange(4)) % 5
    bottom = (middle[:, :, :2] + torch.arange(6)[:, None]) % 6
    grids = start, middle.expand(-1, 2, -1), bottom
    return CodeData(tuple(z.byte() for z in grids), None, (4, 5, 6))


def test_three_levels_are_trained_kept_and_drawn(tmp_path):
    torch.manual_seed(0)
    prior = HierarchicalPixelCNN((4, 5, 6), 4, 16, 3, dropout=0.0)
    codes = counting(256)
    settings = TrainingSettings(epochs=12, batch_size=16, lr=1e-2, mixed_precision="no")
    history = fit(prior, codes, codes, settings, tmp_path, log=lambda line: None)
    names = [f"heldout_level_{level}_loss" for level in range(3)]
    assert history[-1][names[0]] == pytest.approx(math.log(4), abs=0.1)
    assert max(history[-1][name] for name in names[1:]) < 0.05
    best = load_model(HierarchicalPixelCNN, tmp_path)
    assert [level.num_embeddings for level in best.levels] == [4, 5, 6]
    drawn = best.sample(20, shapes=[(1, 1), (2, 4), (6, 2)], seed=0, top_p=0.9)
    start, middle, bottom = drawn
    assert torch.equal(middle, ((start + torch.arange(4)) % 5).expand(-1, 2, -1))
    assert torch.equal(bottom, (middle[:, :1, :2] + torch.arange(6)[:, None]) % 6)


@pytest.mark.parametrize(
    ("sizes", "one_number"), [(8, 8), ([8, 8], 8), ([8, 5], None), ([5, 8], None)]
)
def test_two_levels_of_one_size_have_one_number_of_codes(sizes, one_number):
    prior = HierarchicalPixelCNN(sizes, 4, hidden_channels=4, num_layers=1)
    assert prior.num_embeddings == (one_number or tuple(sizes))
    assert [level.num_embeddings for level in prior.levels] == (
        [8, 8] if one_number else sizes
    )


@pytest.mark.parametrize("names", [("level_1",), ("level_0", "level_2")])
def test_some_levels_are_trained_alone(names):
    prior, grids = prior_of(), codes_of(SIZES, SHAPES)
    losses = prior.loss_function(*grids, levels=names)
    losses["total_loss"].backward()
    every = prior.loss_function(*grids)
    assert all(losses[f"{name}_loss"] == every[f"{name}_loss"] for name in names)
    assert losses.keys() == {"total_loss", *(f"{name}_loss" for name in names)}
    for name, level in zip(prior.level_names, prior.levels, strict=True):
        assert (level.embedding.weight.grad is not None) == (name in names)


def test_labels_may_follow_the_codes():
    prior, grids = prior_of(num_classes=3), codes_of(SIZES, SHAPES)
    labels = torch.tensor([0, 1, 2, 0])
    named = prior.loss_function(*grids, labels=labels)
    assert prior.loss_function(*grids, labels) == named


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda p, z: p.loss_function(*z[:2]), "2 grids .* a prior of 3 level"),
        (lambda p, z: p.sample(4, (2, 3), (4, 4)), "for 3 level"),
        (
            lambda p, z: p.sample(4, shapes=SHAPES, known=z[:2]),
            "known has 2 grids for 3",
        ),
        (lambda p, z: p.sample(4, shapes=SHAPES, guidance=(1, 2)), "prior has 3 level"),
        (lambda p, z: HierarchicalPixelCNN([], 4), "num_embeddings is empty"),
        (lambda p, z: HierarchicalPixelCNN([4, 0], 4), "num_embeddings is 0"),
    ],
)
def test_another_number_of_levels_is_named(change, words):
    prior = prior_of(num_classes=3, label_dropout=0.1)
    with pytest.raises(ValueError, match=words):
        change(prior, codes_of(SIZES, SHAPES))


def vectors_and_codes(count: int) -> CodeData:
    """Grids of a code that a vector names: 0 or 1 by the sign of its first number, and
    2 or 3 by that of its second, in turn."""
    torch.manual_seed(1)
    vectors = torch.randn(count, 2)
    codes = torch.stack([vectors[:, 0] > 0, 2 + (vectors[:, 1] > 0).int()], dim=1)
    grids = codes[:, None].repeat(1, 2, 2)  # [N, 2, 4]
    return CodeData((grids.byte(),), vectors, 4)


@pytest.mark.parametrize("label_dropout", [0.0, 0.3])
def test_a_distribution_that_depends_on_a_vector_is_learned(tmp_path, label_dropout):
    codes = vectors_and_codes(512)
    save_codes(codes, tmp_path / "codes.safetensors", "here")
    codes = read_codes(tmp_path / "codes.safetensors")
    prior = HierarchicalPixelCNN(
        [4], 4, 16, 2, condition_dim=2, label_dropout=label_dropout, dropout=0.0
    )
    settings = TrainingSettings(epochs=10, batch_size=32, lr=1e-2, mixed_precision="no")
    fit(prior, codes, None, settings, tmp_path / "run", log=lambda line: None)
    best = load_model(HierarchicalPixelCNN, tmp_path / "run")
    corners = torch.tensor(list(itertools.product([-1.5, 1.5], repeat=2)))
    weight = {"guidance": 1.0} if label_dropout else {}
    (drawn,) = best.sample(4, shapes=[(2, 4)], labels=corners, seed=0, **weight)
    wanted = [[0, 2], [0, 3], [1, 2], [1, 3]]
    assert drawn[:, 0, :2].tolist() == wanted
    if label_dropout:  # without a vector all four occur
        (any_code,) = best.sample(40, shapes=[(2, 4)], seed=0)
        assert len({tuple(pair) for pair in any_code[:, 0, :2].tolist()}) == 4


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
        ({}, [["a", "b"]] * 4, "give vectors of 2"),
        ({"num_classes": 3}, None, "num_classes is 3 and condition_dim is 2; give one"),
        ({"condition_dim": 0}, None, "condition_dim is 0; give"),
    ],
)
def test_wrong_vectors_are_named(options, labels, words):
    with pytest.raises(ValueError, match=words):
        level = PixelCNN(4, 4, 8, 2, **{"condition_dim": 2} | options)
        level(torch.zeros(4, 2, 2).long(), labels)
