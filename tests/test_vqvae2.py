"""Images to codes and back."""

import copy

import numpy as np
import pytest
import torch

from pixelprior import VQVAE2
from pixelprior.vqvae2 import Quantizer


@pytest.mark.parametrize(
    ("image_size", "top", "bottom"),
    [(32, (2, 2), (4, 4)), ([48, 32], (3, 2), (6, 4))],
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
    assert torch.allclose(model(images), model.decode_codes(*codes.values()), atol=1e-6)
    # Compared as text, so that 2.0 does not pass for 2.
    assert str(model.grids) == str((top, bottom))
    sides = (2, 4) if image_size == 32 else (None, None)
    assert (model.latent_spatial_dim_top, model.latent_spatial_dim_bottom) == sides


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
    quantizer = Quantizer.from_codebook(start.double(), ema_decay=0.75).train()
    assert torch.equal(quantizer.codebook, start), "it is in float32"
    features = torch.randn(40, 3, 2, 2)
    _, codes, _ = quantizer(features)
    rows, chosen = features.permute(0, 2, 3, 1).reshape(-1, 3), codes.flatten()
    assert torch.equal(chosen, torch.cdist(rows, start).argmin(dim=1)), "no k-means"
    counts, sums = quantizer.averages
    assert counts == pytest.approx(0.75 + 0.25 * torch.bincount(chosen, minlength=5))
    summed = torch.zeros(5, 3).index_add(0, chosen, rows)
    assert torch.allclose(sums, 0.75 * start + 0.25 * summed, atol=1e-5)
    counts.zero_()
    assert quantizer.averages[0].any(), "a copy was given"


def test_a_codebook_that_is_none_is_refused():
    huge = torch.full((2, 2), 1e300, dtype=torch.float64)
    for codebook, words in ((torch.ones(0, 3), "give vectors"), (huge, "not finite")):
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


def test_codes_are_read_in_evaluation_mode_and_without_a_graph(
    small_vqvae2, heldout_images
):
    modes, encoder = [], small_vqvae2.encoder_bottom
    hook = encoder.register_forward_hook(
        lambda *_: modes.append((encoder.training, torch.is_grad_enabled()))
    )
    small_vqvae2.train().get_code_indices(heldout_images[torch.arange(2)][0])
    assert small_vqvae2.training
    small_vqvae2.eval()
    hook.remove()
    assert modes == [(False, False)]


def test_weights_of_another_release_of_the_codebook_library_load(small_vqvae2):
    """Releases keep the flag of the k-means start as a number or in shape [1]."""
    state = small_vqvae2.state_dict()
    model = VQVAE2(1, 32, hidden_channels=16, embedding_dim=8, num_embeddings=512)
    state["vq_top.vq._codebook.initted"] = torch.ones(())
    model.vq_top.vq._codebook.initted = torch.zeros(1)
    state["vq_bottom.vq._codebook.initted"] = torch.ones(1)
    model.vq_bottom.vq._codebook.initted = torch.zeros(())
    model.load_state_dict(state)
    assert all(q.vq._codebook.initted.all() for q in (model.vq_top, model.vq_bottom))


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (torch.rand(2, 1, 28, 32), r"\[2, 1, 28, 32\].*\[B, 1, 32, 32\]"),
        (torch.rand(1, 32, 32), r"\[1, 32, 32\]"),
        (torch.zeros(2, 1, 32, 32, dtype=torch.uint8), "uint8.*/ 255"),
        ([[0.0]], "images are a list"),
    ],
)
def test_wrong_images_are_named(small_vqvae2, images, words):
    for method in (small_vqvae2.get_code_indices, small_vqvae2.loss_function):
        with pytest.raises(ValueError, match=words):
            method(images)


def test_codes_that_do_not_fit_are_named_with_height_and_width():
    model = VQVAE2(1, (32, 48), 8, 4, 16)
    z_top, z_bottom = torch.zeros(1, 8, 12).long(), torch.zeros(1, 16, 24).long()
    for codes, words in (
        ((z_top[:, :7], z_bottom), r"quant_t .*7, 12\], but \[1, 4, 8, 12\]"),
        ((z_top, z_bottom.repeat(2, 1, 1)), r"quant_b .* but \[1, 4, 16, 24\] is"),
        ((z_top, z_bottom + 16), r"16.*0 to 15"),
    ):
        with pytest.raises(ValueError, match=words):
            model.decode_codes(*codes)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"hidden_channels": 15}, "hidden_channels is 15"),
        ({"commitment_weight": -1.0}, "commitment_weight is -1.0"),
        ({"bottom_downsampling": 3}, "bottom_downsampling is 3.*power of two"),
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
    model.decoder.register_forward_hook(lambda _, inputs, __: given.append(*inputs))
    model.loss_function(torch.rand(400, 1, 16, 16))
    of_top, of_bottom = (given[0] == 0).unflatten(1, (2, 4)).all(dim=(2, 3, 4)).T
    share = of_bottom.float().mean().item()
    assert share == pytest.approx(expected, abs=0.07 if expected else 0)
    assert not of_top.any()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_a_model_of_any_type_has_the_same_codebooks_and_images(
    shipped, heldout_images, dtype
):
    images, exact = heldout_images[torch.arange(12)][0], shipped[0]
    model = copy.deepcopy(exact).to(dtype)
    for name in ("vq_top", "vq_bottom"):
        one, other = getattr(model, name), getattr(exact, name)
        assert torch.equal(one.codebook, other.codebook)
        codes = torch.arange(one.num_embeddings).view(1, 5, -1)
        vectors = one.embedding(codes).permute(0, 3, 1, 2).to(dtype)
        assert torch.equal(one(vectors)[1], codes)
    rebuilt = model(images.to(dtype))
    own = (exact(images) - images).square().mean()
    assert (rebuilt.float() - images).square().mean() < 1.1 * own
    losses = model.loss_function(images.to(dtype))
    assert losses["reconstruction_loss"].item() == pytest.approx(own.item(), rel=0.1)
    losses["total_loss"].backward()
    assert all(p.grad.dtype == dtype and p.grad.any() for p in model.parameters())
    codes = model.get_code_indices(images.to(dtype))
    decoded = model.decode_codes(*codes.values())
    assert torch.equal(decoded, rebuilt) and decoded.dtype == dtype
    for key, of_float32 in exact.get_code_indices(images).items():
        assert (codes[key] == of_float32).float().mean() > 0.9
