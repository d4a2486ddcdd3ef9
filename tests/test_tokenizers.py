"""Tokenizers of other projects: any two functions, and a VQModel of diffusers."""

import pytest
import torch

from pixelprior import HierarchicalPixelCNN, extract_codes
from pixelprior.data.images import ImageData
from pixelprior.data.tokenizers import DiffusersTokenizer, FunctionTokenizer

IMAGES = torch.rand(3, 1, 8, 12, generator=torch.Generator().manual_seed(0))
DATA = ImageData((IMAGES * 255).round().byte(), torch.arange(3), ("a", "b", "c"))


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


def test_a_hierarchical_prior_draws_images_of_a_tokenizer_with_two_levels():
    def encode(images):
        codes = grey_levels(images)
        return codes[:, ::2, ::2], codes

    tokenizer = FunctionTokenizer(
        encode, lambda top, bottom: squares(bottom), [(2, 3), (4, 6)], 4
    )
    codes = extract_codes(tokenizer, DATA)
    assert codes.z_top.shape == (3, 2, 3) and codes.z_bottom.shape == (3, 4, 6)
    prior = HierarchicalPixelCNN(4, 4, 8, 2)
    images = prior.sample_with_vqvae2(tokenizer, 2, seed=0)
    _, z_bottom = prior.sample(2, *tokenizer.grids, seed=0)
    assert torch.equal(images, squares(z_bottom))
    with pytest.raises(ValueError, match=r"2 level\(s\) .*, but the tokenizer has 1"):
        prior.sample_with_vqvae2(one_level(), 2)


class Other(torch.nn.Module):
    """A tokenizer of somebody else: the four names, and no check of its own."""

    grids, num_embeddings = ((4, 6),), 4

    def get_code_indices(self, images):
        return {"indices": grey_levels(images)}

    def decode_codes(self, codes):
        return squares(codes)


SHAPES = r"shapes \[\[3, 4, 6\]\], but by its grids they are \[\["


@pytest.mark.parametrize(
    "name, value, words",
    [
        ("grids", ((4, 5),), SHAPES),
        ("grids", ((4, 6), (4, 6)), SHAPES),
        ("num_embeddings", 3, "the tokenizer's level_0 codes run from 0 to 3, but"),
        ("decode_codes", lambda z: squares(z)[:, :, 1:], r"8, 12\] is decoded as .*7"),
        ("decode_codes", lambda z: squares(z).long(), "is decoded as torch.int64"),
    ],
)
def test_a_tokenizer_that_does_not_fit_is_found_with_the_first_image(
    name, value, words
):
    tokenizer = Other()
    assert extract_codes(tokenizer, DATA).z_top.shape == (3, 4, 6)
    setattr(tokenizer, name, value)
    with pytest.raises(ValueError, match=words):
        extract_codes(tokenizer, DATA)


def test_wrong_parts_of_a_tokenizer_are_named():
    for changed, words in (
        ({"grids": []}, r"grids are \[\] .*; give \(height, width\) of each level"),
        ({"grids": (4, 6)}, "grids are .*; give"),
        ({"num_embeddings": 0}, r"num_embeddings is 0; give \(height, width\) of each"),
        ({"encode": lambda x: grey_levels(x) / 1}, "level_0 codes are torch.float32"),
        ({"decode": lambda z: None}, "images of decode are a NoneType, but a torch.Te"),
    ):
        with pytest.raises(ValueError, match=words):
            extract_codes(one_level(**changed), DATA)


@pytest.mark.slow
@pytest.mark.parametrize("lookup", [False, True])
def test_codes_of_diffusers_are_those_of_its_own_forward_pass(lookup):
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
    torch.manual_seed(0)
    vq_model = diffusers.VQModel(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        latent_channels=4,
        num_vq_embeddings=20,
        sample_size=16,
        lookup_from_codebook=lookup,
    ).eval()
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
    with pytest.raises(ValueError, match="code of 2×2 pixels; give multiples of 2"):
        DiffusersTokenizer(vq_model, (16, 15))
