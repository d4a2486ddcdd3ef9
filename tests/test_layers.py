"""Masks, gates and attention, and the steps of each layer compared with `forward`."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pixelprior import GatedBlock, MaskedConv2d, PixelCNN
from pixelprior.cache import AttentionCache, BlockCache, PixelCNNCache
from pixelprior.layers import BoundedRMS, CausalAttention, gate, positions

SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 6))
CLOSE = {"rtol": 0, "atol": 1e-12}


def random_block(mask_type, kernel_size, condition_channels):
    torch.manual_seed(0)
    channels = 3 if mask_type == "A" else 4
    block = GatedBlock(mask_type, channels, 4, kernel_size, condition_channels)
    return block.double().eval()


@torch.no_grad()
def walk(block, v, h, condition):
    """Both stacks, computed by the steps, row by row and code by code."""
    batch_size, channels, height, width = v.shape
    window = v.new_zeros(batch_size, block.extent, channels)
    cache = BlockCache(block, batch_size, width, window)
    new_v = v.new_empty(batch_size, 4, height, width)
    new_h = torch.empty_like(new_v)
    for y in range(height):
        if not block.mask_a or y:  # mask A sees only the rows above
            cache.roll_rows()
            cache.newest_row.copy_(v[:, :, y - block.mask_a][:, :, None])
        bias = None
        if condition is not None:
            row = condition if condition.shape[2] == 1 else condition[:, :, y : y + 1]
            bias = block.condition(row) * cache.scale[:, 0]
        cache.row_step(bias, out=new_v[:, :, y : y + 1])
        window.zero_()
        for x in range(width):
            if not block.mask_a or x:
                window.copy_(window.roll(-1, 1))
                window[:, -1] = h[:, :, y, x - block.mask_a]
            cache.code_step(x, out := v.new_empty(batch_size, 4))
            new_h[:, :, y, x] = out
    return new_v, new_h


@given(
    shape=SHAPES,
    mask_type=st.sampled_from("AB"),
    kernel_size=st.sampled_from([3, 5, 7]),
    condition=st.sampled_from(["none", "a label", "a grid"]),
    batch_size=st.integers(1, 3),
)
def test_steps_of_a_block_equal_forward(
    shape, mask_type, kernel_size, condition, batch_size
):
    block = random_block(mask_type, kernel_size, 0 if condition == "none" else 2)
    if condition == "none":
        condition = None
    else:
        of_the_grid = shape if condition == "a grid" else (1, 1)
        condition = torch.randn(batch_size, 2, *of_the_grid, dtype=torch.float64)
    channels = block.vertical.in_channels
    v, h = torch.randn(2, batch_size, channels, *shape, dtype=torch.float64)
    stepped, whole = walk(block, v, h, condition), block(v, h, condition)
    for one, other in zip(stepped, whole, strict=True):
        torch.testing.assert_close(one, other.detach(), **CLOSE)


def random_attention():
    torch.manual_seed(0)
    return CausalAttention(8, 3, num_heads=2).double().eval()


@torch.no_grad()
def walk_attention(attention, h, codes):
    batch_size, _, height, width = h.shape
    cache = AttentionCache(attention, batch_size, (height, width))
    out = torch.empty_like(h)
    for n in range(height * width):
        (y, x), position = divmod(n, width), torch.tensor([n])
        out[:, :, y, x] = cache.code_step(h[:, :, y, x], position)
        cache.keep_code(codes[:, :, y, x], position)
    return out


@given(shape=SHAPES, batch_size=st.integers(1, 3))
def test_steps_of_attention_equal_forward(shape, batch_size):
    attention = random_attention()
    h, codes = (
        torch.randn(batch_size, channels, *shape, dtype=torch.float64)
        for channels in (8, 3)
    )
    stepped, whole = walk_attention(attention, h, codes), attention(h, codes).detach()
    torch.testing.assert_close(stepped, whole, **CLOSE)


def test_attention_sees_earlier_positions_and_no_other():
    attention = random_attention()
    h = torch.randn(1, 8, 3, 4, dtype=torch.float64, requires_grad=True)
    codes = torch.randn(1, 3, 3, 4, dtype=torch.float64, requires_grad=True)
    for n in range(12):
        out = attention(h, codes).flatten(2)[0, :, n].sum()
        of_h, of_codes = torch.autograd.grad(out, (h, codes))
        for grad, seen in ((of_codes, n), (of_h, n + 1 if n else 0)):
            sees = grad.flatten(2)[0].abs().sum(0) != 0
            # A single key gets all the weight, whatever the query is.
            past = torch.arange(12) < seen
            assert (sees == past).all() or (n == 1 and (sees <= past).all())


def test_attention_of_the_first_place_is_zero():
    attention = random_attention()
    h, codes = torch.randn(2, 8, 2, 2).double(), torch.randn(2, 3, 2, 2).double()
    out = attention(h, codes)
    assert (out[:, :, 0, 0] == 0).all() and (out[:, :, 0, 1] != 0).all()
    assert out.isfinite().all()
    assert (attention(h[:, :, :1, :1], codes[:, :, :1, :1]) == 0).all()
    assert torch.equal(walk_attention(attention, h, codes)[:, :, 0, 0], out[:, :, 0, 0])


@pytest.mark.parametrize("channels", [8, 10])
def test_positions_are_encoded_by_the_sinusoids_of_the_paper(channels):
    """arXiv 1706.03762, section 3.5, with a quarter of the channels for each wave."""
    like, count = torch.zeros(1).double(), math.ceil(channels / 4)
    waves = positions(3, 5, channels, like).unflatten(0, (3, 5))
    for y, x in itertools.product(range(3), range(5)):
        angles = [[at / 10000 ** (i / count) for i in range(count)] for at in (y, x)]
        expected = [math.sin(a) for each in angles for a in each]
        expected += [math.cos(a) for each in angles for a in each]
        assert waves[y, x].tolist() == pytest.approx(expected[:channels], abs=1e-12)


def test_positions_of_a_grid_are_computed_once():
    """Also if the first pass is in inference mode, and a later one needs a gradient."""
    like = torch.zeros(1)
    with torch.inference_mode():
        once = positions(5, 7, 12, like)
    assert positions(5, 7, 12, like) is once and not once.is_inference()
    assert positions(5, 7, 12, like.double()).dtype == torch.float64


def test_masks_a_and_b_differ_in_the_centre_alone_and_are_no_weights():
    a, b = (MaskedConv2d(kind, 1, 1, 5).mask for kind in "AB")
    assert (b - a).nonzero().tolist() == [[2, 2]]
    assert a.flatten().tolist() == [1.0] * 12 + [0.0] * 13
    assert MaskedConv2d("A", 1, 1).state_dict().keys() == {"weight", "bias"}


def test_a_masked_convolution_leaves_its_weight_alone():
    conv = MaskedConv2d("A", 2, 3)
    before = conv.weight.detach().clone()
    conv(torch.randn(1, 2, 4, 4)).sum().backward()
    assert torch.equal(conv.weight, before)
    assert (conv.weight.grad * (1 - conv.mask) == 0).all()


def test_the_gate_is_tanh_times_sigmoid():
    x = torch.randn(2, 6, 3, 3)
    assert torch.equal(gate(x), torch.tanh(x[:, :3]) * torch.sigmoid(x[:, 3:]))


def test_a_bounded_condition_keeps_small_values_and_has_a_root_mean_square_below_1():
    x = torch.randn(2, 64, 5, 7, dtype=torch.float64)
    bound = BoundedRMS()
    assert torch.allclose(bound(1e-4 * x), 1e-4 * x, rtol=1e-6, atol=0)
    assert torch.equal(bound(0 * x), 0 * x)
    scale = x.square().mean(dim=1).sqrt()  # [2, 5, 7]
    for factor in (0.1, 1.0, 100.0):
        bounded = bound(factor * x).square().mean(dim=1).sqrt()
        expected = factor * scale / (1 + (factor * scale) ** 2).sqrt()
        assert torch.allclose(bounded, expected) and bounded.max() < 1


@pytest.mark.parametrize("num_layers", [1, 3])
def test_a_cache_takes_as_many_bytes_per_image_whatever_the_batch(num_layers):
    model = PixelCNN(11, 4, 8, num_layers, attention_layers=1, attention_heads=2)
    one, three = (PixelCNNCache(model, size, (4, 5)).nbytes for size in (1, 3))
    assert three == 3 * one
    keys_and_values = 2 * 4 * 5 * 8 * 4  # 20 positions, 8 channels, float32
    assert one > keys_and_values


def test_a_cache_keeps_more_for_longer_vectors_in_the_first_block_alone():
    short, long = (
        PixelCNNCache(PixelCNN(11, dim, 8, num_layers=3), 2, (4, 5)) for dim in (4, 6)
    )
    grown = sum(
        getattr(long.blocks[0], name).nbytes - getattr(short.blocks[0], name).nbytes
        for name in ("window", "rows")
    )
    assert long.nbytes - short.nbytes == grown > 0


def test_a_block_adds_its_vertical_input_and_takes_no_condition_by_default():
    block = GatedBlock("B", 4, 4)
    assert block.vertical_residual and block.condition is None


@pytest.mark.parametrize("mask_type", "AB")
def test_what_enters_a_gate_has_the_scale_of_its_input_at_the_start(mask_type):
    """A smaller scale would shrink from gate to gate."""
    torch.manual_seed(0)
    block = GatedBlock(mask_type, 32, 32, kernel_size=5)
    for into_gate in (block.vertical, block.horizontal, block.vertical_to_horizontal):
        channels, size = into_gate.in_channels, into_gate.kernel_size
        features = into_gate(torch.randn(512, channels, *size))
        assert features.std().item() == pytest.approx(1, abs=0.1)
        assert not into_gate.bias.any()
