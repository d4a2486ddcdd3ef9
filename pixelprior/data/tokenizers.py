"""Tokenizers of other projects: images to grids of codes, and back, by four names.

A prior needs of a tokenizer what `prior.Tokenizer` names. `VQVAE2` has these names;
`FunctionTokenizer` gives them to any pair of functions, and `DiffusersTokenizer` to a
`VQModel` of diffusers.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pixelprior.prior import LEVELS
from pixelprior.ranges import check_positive, sides_of, whole_number
from pixelprior.validation import check_codes, check_tensor


class FunctionTokenizer(nn.Module):
    """A tokenizer from two functions.

    What the functions return is checked at each call, and the first image that is
    encoded is also decoded, so that functions that do not belong together are found
    before a data set is encoded.

    Args:
        encode: images [B, C, H, W] in [0, 1] to codes of any integer type, [B, h, w],
            or for two levels a pair of them, top first. It runs without gradients.
        decode: the codes, one long tensor per level, to images [B, C, H, W] in [0, 1].
        grids: (height, width) of the grid of each level, top first.
        num_embeddings: number of codes K.

    Raises:
        ValueError: there are not one or two grids, or a number is below 1.
    """

    def __init__(self, encode: Callable, decode: Callable, grids, num_embeddings: int):
        super().__init__()
        check_positive(num_embeddings=num_embeddings)
        pairs = [shape if isinstance(shape, list | tuple) else () for shape in grids]
        self.grids = tuple(tuple(map(whole_number, shape)) for shape in pairs)
        if not 1 <= len(self.grids) <= 2 or not all(
            len(shape) == 2 and min(side or 0 for side in shape) >= 1
            for shape in self.grids
        ):
            raise ValueError(
                f"grids are {grids}; give (height, width) of one level, or of the top "
                "and the bottom level"
            )
        self.num_embeddings = num_embeddings
        self.encode_images, self.decode_grids = encode, decode
        self.tried = False

    @torch.no_grad()
    def get_code_indices(self, images: Tensor) -> dict[str, Tensor]:
        """Images [B, C, H, W] in [0, 1] to the grids of codes, long [B, h, w].

        Raises:
            ValueError: the images are not [B, C, H, W], the functions return no codes
                of the grids, or the images that they decode have another shape.
        """
        check_tensor(images, "images")
        if images.ndim != 4 or not len(images):
            raise ValueError(
                f"images have shape {list(images.shape)}; give [B, C, H, W]"
            )
        if not self.tried:
            first = self._encoded(images[:1])
            rebuilt = self.decode_codes(*first.values())
            if rebuilt.shape != images[:1].shape:
                raise ValueError(
                    f"an image of shape {list(images.shape[1:])} is decoded as "
                    f"{list(rebuilt.shape[1:])}; give functions that belong together, "
                    "and images of the size that they are for"
                )
            self.tried = True
        return self._encoded(images)

    def _encoded(self, images: Tensor) -> dict[str, Tensor]:
        codes = self.encode_images(images)
        codes = (codes,) if isinstance(codes, Tensor) else tuple(codes)
        if len(codes) != len(self.grids):
            raise ValueError(
                f"encode returns {len(codes)} grids of codes, but grids has "
                f"{len(self.grids)}; give as many"
            )
        named = dict(zip(LEVELS, codes, strict=False))
        for (level, grid), shape in zip(named.items(), self.grids, strict=True):
            self._check(grid, f"the {level} codes of encode", (len(images), *shape))
        return {f"indices_{level}": grid.long() for level, grid in named.items()}

    @torch.no_grad()
    def decode_codes(self, *codes: Tensor) -> Tensor:
        """One grid of codes [B, h, w] per level to images [B, C, H, W] in [0, 1].

        Raises:
            ValueError: the codes are out of range or of other grids, or `decode`
                returns no images.
        """
        if len(codes) != len(self.grids):
            raise ValueError(
                f"{len(codes)} grids of codes were given to a tokenizer of "
                f"{len(self.grids)}; give one per level"
            )
        for level, grid, shape in zip(LEVELS, codes, self.grids, strict=False):
            check_tensor(grid, f"{level} codes")
            self._check(grid, f"{level} codes", (len(codes[0]), *shape))
        images = self.decode_grids(*(grid.long() for grid in codes))
        check_tensor(images, "the images of decode")
        if (
            images.ndim != 4
            or len(images) != len(codes[0])
            or not images.is_floating_point()
        ):
            raise ValueError(
                f"decode returns {images.dtype} of shape {list(images.shape)}, but "
                f"floats [{len(codes[0])}, C, H, W] in [0, 1] are needed"
            )
        return images.clamp(0, 1)

    def _check(self, grid: Tensor, name: str, shape) -> None:
        check_codes(grid, self.num_embeddings, name)
        if tuple(grid.shape) != shape:
            raise ValueError(
                f"{name} have shape {list(grid.shape)}, but {list(shape)} is needed; "
                "give grids as encode returns them"
            )


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
        halvings = len(model.config.block_out_channels) - 1
        sides = sides_of(image_size)
        if any(side % 2**halvings for side in sides):
            raise ValueError(
                f"image_size is {image_size}, but this model halves images "
                f"{halvings} times; give multiples of {2**halvings}"
            )
        grid = tuple(side // 2**halvings for side in sides)
        super().__init__(
            self._encode, self._decode, [grid], model.config.num_vq_embeddings
        )
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
