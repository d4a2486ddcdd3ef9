"""Which codes each logit depends on, by gradient, at every position of both levels."""

import functools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pixelprior import (
    ConditionalPixelCNN,
    GatedBlock,
    HierarchicalPixelCNN,
    MaskedConv2d,
    PixelCNN,
)
from pixelprior.cache import PixelCNNCache

GRIDS = [(8, 8), (16, 16), (5, 9)]
P = 16  # channels: with half as many, all units of the head may be off at a position


def influence(model, shape, condition=None):
    """Bool [N, N]: whether the logits at i depend on the vector of the code at j."""
    height, width = shape
    count = height * width
    torch.manual_seed(1)
    codes = torch.randint(model.num_embeddings, (1, height, width))
    embedded = []

    def keep(_module, _inputs, output):
        output.retain_grad()
        embedded.append(output)

    hook = model.embedding.register_forward_hook(keep)
    logits = model.logits(codes.expand(count, -1, -1), condition)  # [N, K, H, W]
    hook.remove()
    own = logits.flatten(2)[torch.arange(count), :, torch.arange(count)]  # [N, K]
    (own * torch.randn(own.shape[1], dtype=own.dtype)).sum().backward()
    return embedded[0].grad.flatten(1, 2).abs().sum(-1) != 0


def assert_sees_the_past_and_nothing_else(model, shape, condition=None):
    seen = influence(model, shape, condition)
    past = torch.ones_like(seen).tril(-1)
    leaks, blind = (seen & ~past).nonzero(), (~seen & past).nonzero()
    for pairs, fault in ((leaks, "leak"), (blind, "blind spot")):
        first = [divmod(n, shape[1]) for n in pairs[:1].flatten().tolist()]
        assert not first, f"{fault}: the logits at and the code: {first}"


def top_level(**options):
    torch.manual_seed(0)
    return PixelCNN(11, P, P, 15, **options).double().eval()


def bottom_level():
    torch.manual_seed(0)
    return ConditionalPixelCNN(11, P, P, 15, num_classes=3).double().eval()


@pytest.mark.parametrize("shape", GRIDS)
def test_top_logits_see_every_earlier_code_and_no_other(shape):
    assert_sees_the_past_and_nothing_else(top_level(), shape)


@pytest.mark.parametrize("shape", GRIDS)
def test_bottom_logits_see_every_earlier_code_and_no_other(shape):
    model = bottom_level()
    z_top = torch.randint(11, (1, -(-shape[0] // 2), -(-shape[1] // 2)))
    condition = model.conditioning(z_top, torch.tensor([2]), (1, *shape))
    condition = condition.detach().expand(shape[0] * shape[1], -1, -1, -1)
    assert_sees_the_past_and_nothing_else(model, shape, condition)


@pytest.mark.parametrize("attention_layers", [1, 2, 15])
def test_with_attention_every_earlier_code_is_seen_and_no_other(attention_layers):
    model = top_level(attention_layers=attention_layers, attention_heads=2)
    assert_sees_the_past_and_nothing_else(model, (5, 9))


@pytest.mark.parametrize("kernel_size", [3, 5, 7])
def test_the_past_is_seen_whole_with_any_kernel(kernel_size):
    model = top_level(kernel_size=kernel_size)
    assert_sees_the_past_and_nothing_else(model, (7, 7))


class OneStart(nn.Module):
    """Both stacks start from one masked convolution."""

    def __init__(self):
        super().__init__()
        self.start = MaskedConv2d("A", P, P)

    def forward(self, v, h, condition=None):
        start = self.start(v)
        return start, start


A, B = (functools.partial(GatedBlock, mask, P, P) for mask in "AB")


@pytest.mark.parametrize(
    ("blocks", "words"),
    [
        (dict.fromkeys(range(1, 15), A), "blind spot"),  # a shift at every layer
        ({0: B, 1: A}, "leak"),
        ({0: B}, r"leak.*\(0, 0\), \(0, 0\)"),
        ({0: OneStart}, "leak"),
    ],
)
def test_the_probe_catches_a_wrong_block(blocks, words):
    model = top_level()
    for layer, block in blocks.items():
        model.blocks[layer] = block().double()
    with pytest.raises(AssertionError, match=words):
        assert_sees_the_past_and_nothing_else(model, (8, 8))


@torch.no_grad()
def logits_by_steps(model, codes, condition):
    """The logits [B, K, H, W] of a whole grid, computed row by row and code by code."""
    batch_size, height, width = codes.shape
    cache = PixelCNNCache(model, batch_size, (height, width))
    logits = model.embedding.weight.new_empty(
        batch_size, model.num_embeddings, height, width
    )
    for y in range(height):
        if condition is not None:
            row = condition if condition.shape[2] == 1 else condition[:, :, y : y + 1]
        cache.row_step(None if condition is None else row)
        for x in range(width):
            logits[:, :, y, x] = cache.code_step(x)
            cache.keep_code(codes[:, y, x])
        cache.keep_row(codes[:, y])
    return logits


@given(
    shape=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    layers=st.integers(1, 4),
    kernel_size=st.sampled_from([3, 5, 7]),
    num_classes=st.sampled_from([None, 3]),
    conditioned=st.booleans(),
    attention_layers=st.integers(0, 2),
    batch_size=st.integers(1, 3),
)
def test_logits_by_steps_equal_logits_of_the_whole_grid(
    shape, layers, kernel_size, num_classes, conditioned, attention_layers, batch_size
):
    torch.manual_seed(0)
    model = (ConditionalPixelCNN if conditioned else PixelCNN)(
        7,
        3,
        4,
        layers,
        num_classes=num_classes,
        kernel_size=kernel_size,
        attention_layers=min(attention_layers, layers),
        attention_heads=2,
    )
    model.double().eval()
    codes = torch.randint(7, (batch_size, *shape))
    labels = None if num_classes is None else torch.randint(3, (batch_size,))
    if conditioned:
        z_top = torch.randint(7, (batch_size, 2, 3))
        condition = model.conditioning(z_top, labels, codes.shape)
        whole = model(codes, z_top, labels)
    else:
        condition = model.label_condition(labels, batch_size)
        whole = model(codes, labels)
    by_steps = logits_by_steps(model, codes, condition)
    torch.testing.assert_close(by_steps, whole.detach(), rtol=0, atol=1e-12)


def test_a_cache_that_is_started_anew_has_forgotten_the_past():
    torch.manual_seed(0)
    model = PixelCNN(7, 3, 4, 3, attention_layers=2).double().eval()
    cache = PixelCNNCache(model, 2, (3, 4))

    def first_two_rows():
        rows = []
        for codes in torch.arange(16).view(2, 2, 4) % 7:
            cache.row_step(None)
            for x in range(4):
                rows.append(cache.code_step(x))
                cache.keep_code(codes[:, x])
            cache.keep_row(codes)
        return torch.stack(rows)

    with torch.no_grad():
        fresh = first_two_rows()
        cache.start()
        assert torch.equal(first_two_rows(), fresh)


def test_default_size_is_ten_to_twenty_million_parameters():
    count = sum(p.numel() for p in HierarchicalPixelCNN(512, 64).parameters())
    assert 10e6 < count < 20e6


@pytest.mark.parametrize("row", [4, 12])
@pytest.mark.parametrize("odd", [0, 1])
def test_what_top_codes_say_of_a_bottom_code_comes_from_around_it(row, odd):
    """A bottom code and its neighbours lie over two rows of top codes: its own, and the
    row above if its number is even, or else the row below. Top codes up to five rows
    above and below these two are seen, and as many columns.
    """
    model, embedded = bottom_level(), []
    model.top_embedding.register_forward_hook(lambda _, __, out: embedded.append(out))
    model.top_embedding.weight.requires_grad_()
    z_top = torch.randint(11, (1, 24, 24))
    condition = model.conditioning(z_top, torch.tensor([0]), (1, 48, 48))
    here = 2 * row + odd
    (slope,) = torch.autograd.grad(condition[0, :, here, here].sum(), embedded)
    reached = slope[0].abs().sum(-1) > 0  # [24, 24]
    around = list(range(max(0, row - 6 + odd), min(24, row + 6 + odd)))
    assert reached.any(1).nonzero().flatten().tolist() == around
    assert reached.any(0).nonzero().flatten().tolist() == around


def test_a_label_is_added_to_what_the_top_codes_say():
    model = bottom_level()
    z_top, shape = torch.randint(11, (2, 3, 4)), (2, 6, 8)
    without = []
    for label in (0, 2):
        labels = torch.full((2,), label)
        said = model.conditioning(z_top, labels, shape)
        without.append(said - model.label_condition(labels, 2))
    assert torch.allclose(*without, rtol=0, atol=1e-12)


@pytest.mark.parametrize("count", [1, 3])
def test_another_number_of_top_grids_is_refused(count):
    with pytest.raises(
        ValueError, match=f"^{count} grids of the level above were given for 2"
    ):
        bottom_level()(
            torch.zeros(2, 4, 4).long(), torch.zeros(count, 2, 2).long(), torch.ones(2)
        )


def test_the_smallest_prior_works():
    model = ConditionalPixelCNN(1, 1, 1, 1, attention_layers=1, attention_heads=1)
    codes = torch.zeros(1, 1, 1).long()
    assert model(codes, codes).shape == (1, 1, 1, 1)


def test_height_and_width_are_not_swapped():
    model = top_level()
    assert model(torch.zeros(2, 3, 7).long()).shape == (2, 11, 3, 7)


@pytest.mark.parametrize(
    ("codes", "words"),
    [
        (torch.zeros(1, 4, 4), "float32.*integers"),
        (torch.zeros(4, 4).long(), r"\[4, 4\].*\[B, H, W\]"),
        (torch.full((1, 4, 4), 11), "11 to 11.*0 to 10"),
        (torch.full((1, 4, 4), -1), "-1 to -1"),
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
        (3, torch.tensor([0.0]), "float32"),
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
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"num_classes": 0}, "num_classes is 0"),
        ({"attention_layers": 3}, "attention_layers is 3.*up to 2"),
        ({"attention_layers": -1}, "attention_layers is -1"),
        ({"attention_layers": 1, "attention_heads": 3}, "attention_heads is 3.*8 hid"),
        ({"attention_heads": 0}, "attention_heads is 0"),
    ],
)
def test_wrong_arguments_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        PixelCNN(11, 6, 8, 2, **options)


@pytest.mark.parametrize(
    ("attention_layers", "after"), [(1, [5]), (2, [2, 5]), (4, [1, 2, 4, 5])]
)
def test_attention_layers_are_spread_evenly_and_one_follows_the_last_block(
    attention_layers, after
):
    model = PixelCNN(7, 3, 4, 6, attention_layers=attention_layers, attention_heads=1)
    assert [int(layer) for layer in model.attention] == after


def test_labels_in_turn_begin_again_after_the_last_class():
    model = PixelCNN(7, 3, 4, 1, num_classes=3)
    assert model.labels_in_turn(7).tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert PixelCNN(7, 3, 4, 1).labels_in_turn(7) is None


def test_a_draw_is_at_temperature_1_on_the_device_of_the_model(monkeypatch):
    torch.manual_seed(0)
    model = PixelCNN(7, 3, 4, 1).eval()
    with torch.no_grad():
        model.head[-1].weight.mul_(20)
    plain, same, warm = (
        model.sample(4, (4, 4), seed=0, **options)
        for options in ({}, {"temperature": 1.0}, {"temperature": 2.0})
    )
    assert torch.equal(plain, same) and not torch.equal(plain, warm)
    moved = []
    monkeypatch.setattr(model, "to", moved.append)
    model.sample(1, (2, 2))
    assert moved == []
    model.sample(1, (2, 2), device="cpu")
    assert moved == ["cpu"]
