"""Tokenizers of other projects: images to grids of codes, and back, by four names.

A prior needs of a tokenizer what `prior.Tokenizer` names. `VQVAE2` has these names;
`FunctionTokenizer` gives them to any pair of functions, and `DiffusersTokenizer` to a
`VQModel` of diffusers. Whether two functions belong together is found by
`extract_codes`, with its first image.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pixelprior.layers import check_tensor
from pixelprior.prior import level_names, per_level
from pixelprior.settings import check_positive, sides_of


class FunctionTokenizer(nn.Module):
    """A tokenizer from two functions.

    Args:
        encode: images [B, C, H, W] in [0, 1] to codes of any integer type, [B, h, w],
            or for several levels a tuple of them, top first. It runs without gradients.
        decode: the codes, one long tensor per level, to images [B, C, H, W] in [0, 1].
        grids: (height, width) of the grid of each level, top first.
        num_embeddings: number of codes K, or one number per level.

    Raises:
        ValueError: there is no grid, a number is below 1, or there are not as many
            numbers of codes as grids.
    """

    def __init__(self, encode: Callable, decode: Callable, grids, num_embeddings):
        super().__init__()
        try:
            self.grids = tuple(sides_of(tuple(shape)) for shape in grids)
            sizes = per_level(num_embeddings, len(self.grids))
            for size in sizes:
                check_positive(num_embeddings=size)
            if not sizes or len(sizes) != len(self.grids):
                raise ValueError
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"grids are {grids} and num_embeddings is {num_embeddings}; give "
                "(height, width) of each level, top first, and one number of at least "
                "1 for all grids or for each"
            ) from error
        self.num_embeddings = num_embeddings
        self.encode_images, self.decode_grids = encode, decode

    @torch.no_grad()
    def get_code_indices(self, images: Tensor) -> dict[str, Tensor]:
        """Images [B, C, H, W] in [0, 1] to the grids of codes, long [B, h, w]; floats
        stay floats, and are refused where they are used."""
        codes = self.encode_images(images)
        codes = (codes,) if isinstance(codes, Tensor) else tuple(codes)
        return {
            f"indices_{name}": grid if grid.is_floating_point() else grid.long()
            for name, grid in zip(level_names(len(codes)), codes, strict=True)
        }

    @torch.no_grad()
    def decode_codes(self, *codes: Tensor) -> Tensor:
        """One grid of codes [B, h, w] per level to images [B, C, H, W] in [0, 1]."""
        images = self.decode_grids(*(grid.long() for grid in codes))
        check_tensor(images, "the images of decode")
        return images.clamp(0, 1)


class DiffusersTokenizer(FunctionTokenizer):
    """A `diffusers.VQModel` as a tokenizer of one level.

    Args:
        model: the model, in evaluation mode; `.to` moves it with the tokenizer. Its
            images are in [-1, 1], and are converted here from and to [0, 1].
        image_size: height and width of the images, a number or (height, width).

    Raises:
        ValueError: the images cannot be halved as often as the model halves them.
    """

    def __init__(self, model: nn.Module, image_size):
        factor = 2 ** (len(model.config.block_out_channels) - 1)
        height, width = sides_of(image_size)
        if height % factor or width % factor:
            raise ValueError(
                f"image_size is {image_size}, but this model makes one code of "
                f"{factor}×{factor} pixels; give multiples of {factor}"
            )
        grids = [(height // factor, width // factor)]
        codes = model.config.num_vq_embeddings
        super().__init__(self._encode, self._decode, grids, codes)
        self.model = model

    def _encode(self, images: Tensor) -> Tensor:
        latents = self.model.encode(images * 2 - 1).latents  # [B, D, h, w]
        codes = self.model.quantize(latents)[2][2]  # [B · h · w] or [B, h, w]
        return codes.reshape(len(images), *latents.shape[2:])

    def _decode(self, codes: Tensor) -> Tensor:
        # diffusers takes [B, h, w, D] here, and returns the vectors as [B, D, h, w].
        shape = (*codes.shape, self.model.quantize.vq_embed_dim)
        latents, options = codes.reshape(-1), {"shape": shape}
        if not self.model.config.lookup_from_codebook:  # then decode does not look up
            latents = self.model.quantize.get_codebook_entry(latents, shape)
        decoded = self.model.decode(latents, force_not_quantize=True, **options)
        return (decoded.sample + 1) / 2
