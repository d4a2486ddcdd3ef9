"""Images to codes and back."""

import copy

import numpy as np
import pytest
import torch

from pixelprior import VQVAE2
from pixelprior.vqvae2 import Quantizer, ResidualStack, perplexity


@pytest.mark.parametrize(
    ("image_size", "top", "bottom"),
    [
        (32, (2, 2), (4, 4)),
        ((32, 48), (2, 3), (4, 6)),
        ([48, 32], (3, 2), (6, 4)),
    ],
)
def test_images_of_any_shape_have_a_bottom_code_for_8_by_8_pixels(
    image_size, top, bottom
):
    torch.manual_seed(0)
    model = VQVAE2(1, image_size, 8, 4, 4, bottom_downsampling=np.int64(8)).eval()
    images = torch.rand(2, 1, *model.image_shape)
    codes = model.get_code_indices(images)
    assert [tuple(grid.shape[1:]) for grid in codes.values()] == [top, bottom]
    assert {grid.dtype for grid in codes.values()} == {torch.long}
    rebuilt = model.decode_codes(*codes.values())
    assert rebuilt.shape == images.shape
    assert torch.allclose(model(images), rebuilt, atol=1e-6)
    sides = model.latent_spatial_dim_top, model.latent_spatial_dim_bottom
    square = (top[0], bottom[0]) if top[0] == top[1] else (None, None)
    # Compared as text, so that 2.0 does not pass for 2.
    assert str((model.grids, sides)) == str(((top, bottom), square))


def test_the_default_model_is_for_colour_images_of_32_pixels():
    model = VQVAE2()
    assert (model.in_channels, model.image_size) == (3, 32)
    assert (model.commitment_weight, model.bottom_dropout) == (0.25, 0.1)
    for quantizer in (model.vq_top, model.vq_bottom):
        assert quantizer.codebook.shape == (512, 64)
    assert model.to_bottom.weight.shape == (64, 128 + 64, 1, 1)
    stacks = [each for each in model.modules() if isinstance(each, ResidualStack)]
    assert [len(stack.blocks) for stack in stacks] == [2] * 4


@pytest.mark.parametrize(("channels", "inside"), [(1, 1), (2, 1), (3, 1), (8, 4)])
def test_a_residual_block_has_half_the_channels_inside_but_at_least_one(
    channels, inside
):
    stack = ResidualStack(channels, 2)
    assert [block[1].out_channels for block in stack.blocks] == [inside] * 2
    features = torch.rand(1, channels, 3, 3)
    assert stack(features).shape == features.shape


def test_each_feature_gets_its_nearest_code():
    torch.manual_seed(0)
    quantizer = Quantizer(20, 3, ema_decay=0.9)
    quantizer.train()(torch.randn(4, 3, 8, 8))
    quantizer.eval()
    features = torch.randn(2, 3, 5, 7)
    quantized, codes, _ = quantizer(features)
    flat = features.permute(0, 2, 3, 1).reshape(-1, 3)
    nearest = torch.cdist(flat, quantizer.embedding(torch.arange(20))).argmin(1)
    assert torch.equal(codes.flatten(), nearest)
    assert torch.equal(quantized, quantizer.embedding(codes).permute(0, 3, 1, 2))


def test_a_code_that_nothing_is_nearest_to_moves_to_a_feature():
    """One that a single feature is nearest to stays."""
    torch.manual_seed(0)
    quantizer = Quantizer(3, 1, ema_decay=0.0).train()
    quantizer.vq._codebook.initted.fill_(True)
    quantizer.vq._codebook.embed.copy_(torch.tensor([[[4.0], [9.0], [100.0]]]))
    features = torch.full((1, 1, 8, 8), 5.0)
    features[0, 0, 3, 3] = 10.0
    quantizer(features)
    used, alone, unused = quantizer.codebook.flatten().tolist()
    assert (used, alone) == pytest.approx((5, 10), rel=1e-4)
    assert unused in (5, 10)


def test_a_given_codebook_is_where_the_averages_start():
    torch.manual_seed(0)
    start = torch.randn(5, 3)
    quantizer = Quantizer.from_codebook(start, ema_decay=0.75).train()
    counts, sums = quantizer.averages
    assert torch.equal(counts, torch.ones(5)) and torch.equal(sums, start)
    assert torch.equal(quantizer.codebook, start)
    features = torch.randn(40, 3, 2, 2)
    _, codes, _ = quantizer(features)
    rows, chosen = features.permute(0, 2, 3, 1).reshape(-1, 3), codes.flatten()
    assert torch.equal(chosen, torch.cdist(rows, start).argmin(dim=1)), "no k-means"
    counts, sums = quantizer.averages
    used = torch.bincount(chosen, minlength=5)
    assert counts == pytest.approx(0.75 + 0.25 * used)
    summed = torch.zeros(5, 3).index_add(0, chosen, rows)
    assert torch.allclose(sums, 0.75 * start + 0.25 * summed, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.int64])
def test_a_given_codebook_of_any_type_is_kept_in_float32(dtype):
    quantizer = Quantizer.from_codebook(torch.eye(4, dtype=dtype), ema_decay=0.8)
    assert torch.equal(quantizer.codebook, torch.eye(4))
    quantizer.averages[0].zero_()
    assert torch.equal(quantizer.averages[0], torch.ones(4)), "a copy was given"


@pytest.mark.parametrize(
    ("codebook", "words"),
    [
        (torch.ones(3), r"has shape \[3\]; give vectors \[K, D\]"),
        (torch.ones(0, 3), r"has shape \[0, 3\]; give vectors \[K, D\]"),
        (torch.ones(1, 4, 3), r"has shape \[1, 4, 3\]; give vectors \[K, D\]"),
        (torch.full((2, 2), torch.nan), "not finite in float32; give finite"),
        (torch.full((2, 2), 1e300, dtype=torch.float64), "not finite in float32"),
    ],
)
def test_a_codebook_that_is_none_is_refused(codebook, words):
    with pytest.raises(ValueError, match=words):
        Quantizer.from_codebook(codebook, ema_decay=0.8)


def test_codes_are_chosen_in_float32_under_autocast():
    torch.manual_seed(0)
    quantizer = Quantizer(200, 16, ema_decay=0.9)
    quantizer.train()(torch.randn(4, 16, 8, 8))
    quantizer.eval()
    features = torch.randn(8, 16, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        quantized, codes, _ = quantizer(features)
    assert torch.equal(codes, quantizer(features)[1])
    assert quantized.dtype == torch.float32


def test_gradients_go_straight_through_the_codes():
    quantizer = Quantizer(20, 3, ema_decay=0.9).train()
    quantizer(torch.randn(4, 3, 8, 8))
    features = torch.randn(1, 3, 4, 4, requires_grad=True)
    quantized, _, _ = quantizer(features)
    weights = torch.randn_like(quantized)
    (quantized * weights).sum().backward()
    assert torch.allclose(features.grad, weights)


def test_the_loss_is_that_of_the_pixels_and_a_share_of_both_commitments():
    torch.manual_seed(0)
    model = VQVAE2(1, 16, 8, 4, 4, commitment_weight=0.5).eval()
    distances = []

    def watch(_quantizer, inputs, outputs):
        distances.append((inputs[0] - outputs[0]).square().mean().item())

    model.vq_top.register_forward_hook(watch)
    model.vq_bottom.register_forward_hook(watch)
    losses = model.loss_function(torch.rand(6, 1, 16, 16))
    pixels, commitment = losses["reconstruction_loss"], losses["commitment_loss"]
    assert len(distances) == 2 and min(distances) > 0
    assert commitment.item() == pytest.approx(sum(distances))
    assert losses["total_loss"].item() == pytest.approx(
        (pixels + 0.5 * commitment).item()
    )


def test_decoded_images_end_at_0_and_at_1():
    model = VQVAE2(1, 16, 8, 4, 4).eval()
    last = model.decoder[-1]
    last.weight.data.zero_()
    for made, wanted in ((-0.5, 0.0), (0.25, 0.25), (1.5, 1.0)):
        last.bias.data.fill_(made)
        images = model.decode(torch.zeros(1, 4, 4, 4), torch.zeros(1, 4, 8, 8))
        assert (images == wanted).all()


def test_both_levels_matter_to_the_image(shipped, heldout_images):
    """With the codes of another image at either level, the reconstruction is worse."""
    vqvae2, _ = shipped
    images = heldout_images[torch.arange(200)][0]
    z_top, z_bottom = vqvae2.get_code_indices(images).values()

    def error(z_top, z_bottom):
        rebuilt = vqvae2.decode_codes(z_top, z_bottom)
        return (rebuilt - images).square().mean().item()

    own = error(z_top, z_bottom)
    assert own < 0.003 < images.var() / 10
    assert error(z_top.roll(1, 0), z_bottom) > 1.05 * own
    assert error(z_top, z_bottom.roll(1, 0)) > 10 * own


def test_all_512_codes_round_trip_through_vectors(small_vqvae2):
    """Squared distances are computed in float32 from vectors of length up to 0.7, to an
    error of about 1e-7, so that codes nearer than 5e-4 to one another cannot be told
    apart on every processor. The k-means start leaves a few of these."""
    codes = torch.arange(512).view(1, 16, 32)
    vectors = small_vqvae2.vq_bottom.embedding(codes)
    _, again, _ = small_vqvae2.vq_bottom(vectors.permute(0, 3, 1, 2))
    flat = vectors.view(512, -1).double()
    apart = torch.cdist(flat, flat).fill_diagonal_(torch.inf).amin(1) > 5e-4
    assert flat.norm(dim=1).max() < 0.7 and apart.sum() >= 500
    assert torch.equal(again.flatten()[apart], codes.flatten()[apart])
    moved = small_vqvae2.vq_bottom.embedding(again) - vectors
    assert moved.norm(dim=-1).max() < 5e-4


def test_codes_are_read_in_evaluation_mode(small_vqvae2, heldout_images):
    images = heldout_images[torch.arange(8)][0]
    before = small_vqvae2.get_code_indices(images)
    small_vqvae2.train()
    try:
        again = small_vqvae2.get_code_indices(images)
        assert small_vqvae2.training
    finally:
        small_vqvae2.eval()
    assert all(torch.equal(before[key], again[key]) for key in before)


@pytest.mark.parametrize(("kept", "here"), [((1,), ()), ((), (1,))])
def test_weights_of_another_release_of_the_codebook_library_load(
    small_vqvae2, kept, here
):
    """Releases keep the flag of the k-means start as a number or in shape [1]."""
    state = small_vqvae2.state_dict()
    model = VQVAE2(1, 32, hidden_channels=16, embedding_dim=8, num_embeddings=512)
    for level in ("top", "bottom"):
        state[f"vq_{level}.vq._codebook.initted"] = torch.ones(kept)
        getattr(model, f"vq_{level}").vq._codebook.initted = torch.zeros(here)
    model.load_state_dict(state)
    assert all(q.vq._codebook.initted.all() for q in (model.vq_top, model.vq_bottom))


def test_reading_codes_keeps_no_graph(small_vqvae2, heldout_images):
    has_graph = []
    hook = small_vqvae2.encoder_bottom.register_forward_hook(
        lambda _module, _inputs, features: has_graph.append(features.requires_grad)
    )
    small_vqvae2.get_code_indices(heldout_images[torch.arange(2)][0])
    hook.remove()
    assert has_graph == [False]


def test_perplexity_counts_the_codes_in_use():
    assert perplexity(torch.arange(8).repeat(5), 32).item() == pytest.approx(8)
    assert perplexity(torch.zeros(9).long(), 32).item() == pytest.approx(1)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (torch.rand(2, 3, 32, 32), r"\[2, 3, 32, 32\].*\[B, 1, 32, 32\]"),
        (torch.rand(2, 1, 28, 28), r"\[2, 1, 28, 28\].*\[B, 1, 32, 32\]"),
        (torch.rand(1, 32, 32), r"\[1, 32, 32\]"),
        (torch.zeros(2, 1, 32, 32, dtype=torch.uint8), "uint8.*/ 255"),
        (torch.rand(2, 1, 32, 32).double(), "float64.*float32"),
        ([[0.0]], "images are a list"),
    ],
)
def test_wrong_images_are_named(small_vqvae2, images, words):
    with pytest.raises(ValueError, match=words):
        small_vqvae2.get_code_indices(images)
    with pytest.raises(ValueError, match=words):
        small_vqvae2.loss_function(images)


@pytest.mark.parametrize(
    ("z_top", "z_bottom", "words"),
    [
        (torch.zeros(1, 8, 8), torch.zeros(1, 16, 16).long(), "z_top are.*float32"),
        (torch.full((1, 8, 8), 512), torch.zeros(1, 16, 16).long(), "512.*0 to 511"),
    ],
)
def test_wrong_codes_are_named(small_vqvae2, z_top, z_bottom, words):
    with pytest.raises(ValueError, match=words):
        small_vqvae2.decode_codes(z_top, z_bottom)


def test_a_wrong_shape_is_named_with_height_and_width():
    model = VQVAE2(1, (32, 48), 8, 4, 16)

    def codes(*shape):
        return torch.zeros(shape).long()

    for z_top, z_bottom, words in (
        (codes(1, 9, 12), codes(1, 16, 24), r"quant_t .*9, 12\], but \[1, 4, 8, 12\]"),
        (codes(1, 8, 12), codes(1, 16, 25), r"quant_b .* but \[1, 4, 16, 24\] is"),
        (codes(1, 8, 12), codes(2, 16, 24), r"quant_b .* but \[1, 4, 16, 24\] is"),
    ):
        with pytest.raises(ValueError, match=words):
            model.decode_codes(z_top, z_bottom)
    with pytest.raises(ValueError, match=r"quant_t .*9, 12\], but \[1, 4, 8, 12\]"):
        model.decode(torch.zeros(1, 4, 9, 12), torch.zeros(1, 4, 16, 24))
    with pytest.raises(ValueError, match=r"takes \[B, 1, 32, 48\]"):
        model.check_images(torch.zeros(2, 1, 48, 32))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"image_size": 30}, "image_size is 30.*multiple of 4"),
        ({"num_embeddings": 0}, "num_embeddings is 0"),
        ({"hidden_channels": 15}, "hidden_channels is 15"),
        ({"ema_decay": "x"}, "ema_decay is 'x'"),
        ({"commitment_weight": -1.0}, "commitment_weight is -1.0"),
        ({"bottom_downsampling": 3}, "bottom_downsampling is 3.*power of two"),
        ({"bottom_downsampling": 1}, "bottom_downsampling is 1.*power of two"),
        ({"image_size": 36, "bottom_downsampling": 4}, "is 36.*multiple of 8 "),
    ],
)
def test_wrong_arguments_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        VQVAE2(**options)


@pytest.mark.parametrize(
    "training, dropout, expected", [(True, 0.25, 0.25), (False, 0.25, 0), (True, 0, 0)]
)
def test_the_decoder_must_do_without_some_bottom_codes_in_training_alone(
    training, dropout, expected
):
    torch.manual_seed(0)
    model = VQVAE2(1, 16, 8, 4, 32, bottom_dropout=dropout).train(training)
    given = []
    decode = model._reconstruct

    def watched(quant_t, quant_b):
        given.append((quant_t, quant_b))
        return decode(quant_t, quant_b)

    model._reconstruct = watched
    model.loss_function(torch.rand(400, 1, 16, 16))
    ((quant_t, quant_b),) = given
    silent = (quant_b == 0).flatten(1).all(1).float().mean().item()
    assert silent == pytest.approx(expected, abs=0.07 if expected else 0)
    assert not (quant_t == 0).flatten(1).all(1).any()


TYPES = [torch.float64, torch.bfloat16, torch.float16]


@pytest.fixture(scope="module")
def in_each_type(shipped):
    """The shipped VQ-VAE-2 in other floating-point types."""
    return {dtype: copy.deepcopy(shipped[0]).to(dtype) for dtype in TYPES}


@pytest.mark.parametrize("dtype", TYPES)
def test_a_model_of_any_type_encodes_and_decodes(
    shipped, in_each_type, heldout_images, dtype
):
    images = heldout_images[torch.arange(12)][0]
    model = in_each_type[dtype]
    rebuilt = model(images.to(dtype))
    assert rebuilt.dtype == dtype and rebuilt.shape == images.shape
    own = (shipped[0](images) - images).square().mean()
    assert (rebuilt.float() - images).square().mean() < 1.1 * own
    loss = model.loss_function(images.to(dtype))["reconstruction_loss"]
    assert loss.item() == pytest.approx(own.item(), rel=0.1)
    codes = model.get_code_indices(images.to(dtype))
    assert torch.equal(model.decode_codes(*codes.values()), rebuilt)
    for key, exact in shipped[0].get_code_indices(images).items():
        assert (codes[key] == exact).float().mean() > 0.9


@pytest.mark.parametrize("dtype", TYPES)
def test_a_model_of_any_type_keeps_its_codebooks_to_the_bit(
    shipped, in_each_type, dtype
):
    quantizers = zip(in_each_type[dtype].children(), shipped[0].children(), strict=True)
    for one, other in quantizers:
        if isinstance(one, Quantizer):
            assert torch.equal(one.codebook, other.codebook)
            codes = torch.arange(one.num_embeddings).view(1, 5, -1)
            vectors = one.embedding(codes).permute(0, 3, 1, 2).to(dtype)
            assert torch.equal(one(vectors)[1], codes)


@pytest.mark.parametrize("dtype", TYPES)
def test_a_model_of_any_type_learns(heldout_images, dtype):
    torch.manual_seed(0)
    model = VQVAE2(1, 32, hidden_channels=8, embedding_dim=4, num_embeddings=32)
    model.to(dtype).train()
    images = heldout_images[torch.arange(16)][0].to(dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    losses = []
    for _ in range(6):
        optimizer.zero_grad()
        loss = model.loss_function(images)
        loss["total_loss"].backward()
        optimizer.step()
        losses.append(loss["reconstruction_loss"].item())
    assert losses[-1] < 0.8 * losses[0]
    assert all(p.grad.dtype == dtype for p in model.parameters())
