"""Which codes each logit depends on, by gradient, at every position of both levels."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pixelprior import ConditionalPixelCNN, HierarchicalPixelCNN, PixelCNN
from pixelprior.cache import PixelCNNCache
from pixelprior.course.causality import count_faults

P = 8  # channels


def faults(model, shape, condition=None):
    """Positions with a leak, and past codes that are not seen, at all positions."""
    model.embed = lambda embedded: embedded  # there is no gradient by a code
    return count_faults(lambda v: model.logits(v, condition), shape, channels=P)


def top_level(**options):
    torch.manual_seed(0)
    return PixelCNN(11, P, P, 15, **options).eval()


def bottom_level():
    torch.manual_seed(0)
    return ConditionalPixelCNN(11, P, P, 15, num_classes=3).eval()


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((5, 7), {}),
        ((6, 6), {"kernel_size": 5}),
        ((6, 6), {"kernel_size": 7}),
        ((4, 7), {"attention_layers": 1}),
        ((7, 4), {"attention_layers": 15, "attention_heads": 2}),
    ],
)
def test_top_logits_see_every_earlier_code_and_no_other(shape, options):
    assert faults(top_level(**options), shape) == (0, 0)


@pytest.mark.parametrize("shape", [(6, 6), (4, 7)])
def test_bottom_logits_see_every_earlier_code_and_no_other(shape):
    model = bottom_level()
    z_top = torch.randint(11, (1, 4, 5))
    condition = model.conditioning(z_top, torch.tensor([2]), (1, *shape)).detach()
    assert faults(model, shape, condition) == (0, 0)


@torch.no_grad()
def logits_by_steps(model, codes, condition):
    """The logits [B, K, H, W] of a whole grid, computed row by row and code by code."""
    batch_size, height, width = codes.shape
    cache, logits = PixelCNNCache(model, batch_size, (height, width)), []
    for y in range(height):
        single = condition is None or condition.shape[2] == 1
        cache.row_step(condition if single else condition[:, :, y : y + 1])
        for x in range(width):
            logits.append(cache.code_step(x))
            cache.keep_code(codes[:, y, x])
        cache.keep_row(codes[:, y])
    return torch.stack(logits, dim=2).unflatten(2, (height, width))


@given(
    shape=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    layers=st.integers(1, 4),
    kernel_size=st.sampled_from([3, 5, 7]),
    label=st.sampled_from([None, 2]),
    conditioned=st.booleans(),
    attention_layers=st.integers(0, 2),
    batch_size=st.integers(1, 3),
)
def test_logits_by_steps_equal_logits_of_the_whole_grid(
    shape, layers, kernel_size, label, conditioned, attention_layers, batch_size
):
    torch.manual_seed(0)
    model = (ConditionalPixelCNN if conditioned else PixelCNN)(
        7,
        3,
        4,
        layers,
        num_classes=None if label is None else 3,
        kernel_size=kernel_size,
        attention_layers=min(attention_layers, layers),
        attention_heads=2,
    )
    model.double().eval()
    codes = torch.randint(7, (batch_size, *shape))
    above = torch.randint(7, (batch_size, 2, 3)) if conditioned else None
    condition = model.conditioning(above, label, codes.shape)
    by_steps = logits_by_steps(model, codes, condition)
    whole = model.logits(codes, condition).detach()
    torch.testing.assert_close(by_steps, whole, rtol=0, atol=1e-12)


def test_a_prior_has_10_to_20_million_parameters_in_15_blocks_by_default():
    prior = HierarchicalPixelCNN(512, 64)
    assert 10e6 < sum(p.numel() for p in prior.parameters()) < 20e6
    assert [len(level.blocks) for level in prior.levels] == [15, 15]


@pytest.mark.parametrize("here", [8, 9, 25])
def test_what_top_codes_say_of_a_bottom_code_comes_from_around_it(here):
    """A bottom code and its neighbours lie over two rows of top codes: its own, and the
    row above if its number is even, or else the row below. Top codes up to five rows
    above and below these two are seen, and as many columns.
    """
    model, embedded = bottom_level().double(), []
    model.top_embedding.register_forward_hook(lambda _, __, out: embedded.append(out))
    condition = model.conditioning(torch.randint(11, (1, 24, 24)), 0, (1, 48, 48))
    (slope,) = torch.autograd.grad(condition[0, :, here, here].sum(), embedded)
    reached = slope[0].abs().sum(-1) > 0  # [24, 24]
    first = (here + 1) // 2 - 6
    around = list(range(max(0, first), first + 12))
    assert reached.any(1).nonzero().flatten().tolist() == around
    assert reached.any(0).nonzero().flatten().tolist() == around


def test_a_label_is_added_to_what_the_top_codes_say():
    model, z_top = bottom_level().double(), torch.randint(11, (2, 3, 4))
    one, other = (
        model.conditioning(z_top, label, (2, 6, 8)) - model.label_condition(label, 2)
        for label in (0, 2)
    )
    assert torch.allclose(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("codes", "words"),
    [
        (torch.zeros(1, 4, 4), "float32.*integers"),
        (torch.full((1, 4, 4), 11), "11 to 11.*0 to 10"),
        (torch.zeros(0, 4, 4).long(), "no empty"),
    ],
)
def test_wrong_codes_are_named(codes, words):
    with pytest.raises(ValueError, match=words):
        top_level()(codes)


@pytest.mark.parametrize(
    ("num_classes", "labels", "words"),
    [
        (None, torch.tensor([1]), "built without classes"),
        (3, None, "conditional on 3 classes"),
        (3, torch.tensor([3]), "label 3 is out of range.*0 to 2"),
        (3, torch.tensor([-1]), "label -1 is out of range"),
        (3, torch.tensor([0, 1]), r"shape \[2\].*shape \[1\]"),
    ],
)
def test_wrong_labels_are_named(num_classes, labels, words):
    model = top_level(num_classes=num_classes)
    with pytest.raises(ValueError, match=words):
        model(torch.zeros(1, 4, 4).long(), labels)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kernel_size": 4}, "kernel_size is 4.*odd"),
        ({"label_dropout": 0.1}, "label_dropout is 0.1, but there are no labels"),
        ({"attention_layers": 1, "attention_heads": 3}, "attention_heads is 3.*8 hid"),
    ],
)
def test_wrong_arguments_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        PixelCNN(11, 6, 8, 2, **options)


def test_attention_layers_are_spread_evenly_and_one_follows_the_last_block():
    for count, after in ((1, ["5"]), (2, ["2", "5"]), (4, ["1", "2", "4", "5"])):
        model = PixelCNN(7, 3, 4, 6, attention_layers=count, attention_heads=1)
        assert list(model.attention) == after
