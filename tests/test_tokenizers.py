"""Tokenizers of other projects: any two functions, and a VQModel of diffusers."""

import pytest
import torch

from pixelprior import VQVAE2, HierarchicalPixelCNN, PixelCNN, extract_codes
from pixelprior.data.codes import extract_codes_to_folder
from pixelprior.data.images import ImageData
from pixelprior.data.tokenizers import DiffusersTokenizer, FunctionTokenizer
from pixelprior.prior import Tokenizer

NAMES = ("num_embeddings", "grids", "get_code_indices", "decode_codes")
IMAGES = torch.rand(3, 1, 8, 12, generator=torch.Generator().manual_seed(0))


def grey_levels(images):
    """Four grey levels of the mean of each 2×2 square: codes [B, h, w]."""
    means = torch.nn.functional.avg_pool2d(images, 2)[:, 0]
    return (means * 4).long().clamp(max=3)


def squares(codes):
    """What `grey_levels` forgot is lost: squares of one grey level."""
    grey = (codes[:, None].float() + 0.5) / 4
    return torch.nn.functional.interpolate(grey, scale_factor=2)


def one_level(**changed):
    parts = {"encode": grey_levels, "decode": squares, "grids": [(4, 6)]}
    return FunctionTokenizer(**parts | {"num_embeddings": 4} | changed)


def data(images):
    pixels = (images * 255).round().byte()
    return ImageData(pixels, torch.arange(len(images)), ("a", "b", "c"))


def test_a_vqvae2_has_the_names_of_a_tokenizer():
    vqvae2 = VQVAE2(1, 32, 8, 4, 16)
    assert vqvae2.grids == ((8, 8), (16, 16))
    for each in (vqvae2, one_level(), Tokenizer):
        assert {*NAMES} <= {*dir(each), *getattr(each, "__annotations__", ())}


def test_codes_of_functions_are_extracted_learned_and_decoded():
    tokenizer = one_level()
    codes = extract_codes(tokenizer, data(IMAGES))
    assert len(codes.grids) == 1 and codes.num_embeddings == 4
    assert torch.equal(codes.z_top.long(), grey_levels(IMAGES))
    prior = PixelCNN(codes.num_embeddings, 4, 8, 2)
    assert prior.loss_function(*codes.batch(torch.arange(3))[:1])["total_loss"] > 0
    drawn = prior.sample(2, *tokenizer.grids, seed=0)
    images = tokenizer.decode_codes(drawn)
    assert images.shape == (2, 1, 8, 12)
    # Decoding and encoding again gives the codes that were drawn.
    assert torch.equal(tokenizer.get_code_indices(images)["indices_level_0"], drawn)


def test_a_hierarchical_prior_draws_images_of_a_tokenizer_with_two_levels():
    def encode(images):
        codes = grey_levels(images)
        return codes[:, ::2, ::2], codes

    tokenizer = FunctionTokenizer(
        encode, lambda top, bottom: squares(bottom), [(2, 3), (4, 6)], 4
    )
    codes = extract_codes(tokenizer, data(IMAGES))
    assert codes.z_top.shape == (3, 2, 3) and codes.z_bottom.shape == (3, 4, 6)
    prior = HierarchicalPixelCNN(4, 4, 8, 2)
    images = prior.sample_with_vqvae2(tokenizer, 2, seed=0)
    _, z_bottom = prior.sample(2, *tokenizer.grids, seed=0)
    assert torch.equal(images, squares(z_bottom))
    with pytest.raises(ValueError, match=r"2 level\(s\) .*, but the tokenizer has 1"):
        prior.sample_with_vqvae2(one_level(), 2)


def test_functions_that_do_not_fit_are_found_with_the_first_image():
    for changed, words in (
        (
            {"grids": [(4, 5)]},
            r"shapes \[\[3, 4, 6\]\], but by its grids they are \[\[",
        ),
        ({"num_embeddings": 3}, "the tokenizer's level_0 codes run from 0 to 3, but"),
        (
            {"encode": lambda x: grey_levels(x) / 1},
            "level_0 codes are torch.float32",
        ),
        (
            {"encode": lambda x: (grey_levels(x),) * 2},
            r"shapes \[\[3, 4, 6\], \[3, 4, 6\]\], but by its grids",
        ),
        ({"decode": lambda z: squares(z)[:, :, 1:]}, r"\[1, 8, 12\] is decoded as .*7"),
        ({"decode": lambda z: squares(z).long()}, "is decoded as torch.int64"),
        (
            {"decode": lambda z: None},
            "images of decode are a NoneType, but a torch.Ten",
        ),
    ):
        with pytest.raises(ValueError, match=words):
            extract_codes(one_level(**changed), data(IMAGES))


class Other(torch.nn.Module):
    """A tokenizer of somebody else: the four names, and no check of its own."""

    grids, num_embeddings = ((4, 6),), 4

    def get_code_indices(self, images):
        return {"indices": grey_levels(images)}

    def decode_codes(self, codes):
        return squares(codes)


def test_a_tokenizer_that_checks_nothing_is_checked_before_its_codes_are_kept(tmp_path):
    assert extract_codes(Other(), data(IMAGES)).z_top.shape == (3, 4, 6)
    for name, value, words in (
        ("grids", ((4, 6), (4, 6)), r"have shapes .*, but by its grids they are"),
        ("num_embeddings", 3, "level_0 codes run from 0 to 3, but the codebook has"),
        ("decode_codes", lambda z: squares(z)[1:], "give a tokenizer whose decode_co"),
    ):
        tokenizer = Other()
        setattr(tokenizer, name, value)
        with pytest.raises(ValueError, match=words):
            extract_codes_to_folder(tokenizer, data(IMAGES), tmp_path / "codes", "here")


def test_a_tokenizer_without_grids_or_codes_is_named():
    for changed, words in (
        ({"grids": []}, r"grids are \[\] .*; give \(height, width\) of each level"),
        ({"grids": [(4, 0)]}, "grids are .*; give"),
        ({"grids": [(4.5, 2)]}, "grids are .*; give"),
        ({"grids": (4, 6)}, "grids are .*; give"),
        ({"num_embeddings": 0}, r"num_embeddings is 0; give \(height, width\) of each"),
        (
            {"num_embeddings": [4, 4]},
            r"is \[4, 4\]; .* for all grids or for each",
        ),
    ):
        with pytest.raises(ValueError, match=words):
            one_level(**changed)


@pytest.fixture(scope="module")
def vq_model():
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
    torch.manual_seed(0)
    return diffusers.VQModel(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        latent_channels=4,
        num_vq_embeddings=20,
        sample_size=16,
    ).eval()


@pytest.mark.slow
def test_codes_of_diffusers_are_those_of_its_own_forward_pass(vq_model):
    images = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(1))
    tokenizer = DiffusersTokenizer(vq_model, (16, 24))
    assert tokenizer.grids == ((8, 12),) and tokenizer.num_embeddings == 20
    codes = tokenizer.get_code_indices(images)["indices_level_0"]
    assert codes.shape == (2, 8, 12) and len(codes.unique()) > 1
    with torch.no_grad():
        whole = vq_model(images * 2 - 1).sample  # encode, quantize, decode
    rebuilt = tokenizer.decode_codes(codes)
    torch.testing.assert_close(rebuilt, ((whole + 1) / 2).clamp(0, 1))
    assert not torch.allclose(tokenizer.decode_codes(19 - codes), rebuilt)
    assert tokenizer.to("cpu") is tokenizer and list(tokenizer.parameters())


@pytest.mark.slow
def test_a_model_that_looks_codes_up_itself_decodes_the_same(vq_model):
    import diffusers

    other = diffusers.VQModel.from_config(vq_model.config, lookup_from_codebook=True)
    other.load_state_dict(vq_model.state_dict())
    codes = torch.arange(64).view(1, 8, 8) % 20
    one, two = (
        DiffusersTokenizer(model.eval(), 16).decode_codes(codes)
        for model in (vq_model, other)
    )
    assert torch.equal(one, two)


@pytest.mark.slow
def test_images_that_diffusers_cannot_halve_are_named(vq_model):
    with pytest.raises(ValueError, match="one code of 2×2 pixels; give multiples of 2"):
        DiffusersTokenizer(vq_model, (16, 15))
