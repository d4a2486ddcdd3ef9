"""Tokenizers of other projects: images to grids of codes, and back, by four names.

A prior needs of a tokenizer what `prior.Tokenizer` names. `VQVAE2` has these names;
`FunctionTokenizer` gives them to any pair of functions, and `DiffusersTokenizer` to a
`VQModel` of diffusers.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pixelprior.layers import check_codes, check_tensor
from pixelprior.prior import level_names, per_level
from pixelprior.settings import check_positive, sides_of, whole_number


class FunctionTokenizer(nn.Module):
    """A tokenizer from two functions.

    What the functions return is checked at each call, and the first image that is
    encoded is also decoded, so that functions that do not belong together are found
    before a data set is encoded.

    Args:
        encode: images [B, C, H, W] in [0, 1] to codes of any integer type, [B, h, w],
            or for several levels a tuple of them, top first. It runs without gradients.
        decode: the codes, one long tensor per level, to images [B, C, H, W] in [0, 1].
        grids: (height, width) of the grid of each level, top first.
        num_embeddings: number of codes K, or one number per level.

    Raises:
        ValueError: there is no grid, or a number is below 1.
    """

    def __init__(self, encode: Callable, decode: Callable, grids, num_embeddings):
        super().__init__()
        pairs = [shape if isinstance(shape, list | tuple) else () for shape in grids]
        self.grids = tuple(tuple(map(whole_number, shape)) for shape in pairs)
        if not self.grids or not all(
            len(shape) == 2 and min(side or 0 for side in shape) >= 1
            for shape in self.grids
        ):
            raise ValueError(
                f"grids are {grids}; give (height, width) of each level, top first"
            )
        self.sizes = per_level(num_embeddings, len(self.grids))
        for size in self.sizes:
            check_positive(num_embeddings=size)
        if len(self.sizes) != len(self.grids):
            raise ValueError(
                f"num_embeddings is {num_embeddings}, but there are "
                f"{len(self.grids)} grids; give one number, or one per grid"
            )
        self.level_names = level_names(len(self.grids))
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
        for level, grid in enumerate(codes):
            self._check(grid, level, "codes of encode", len(images))
        names = [f"indices_{name}" for name in self.level_names]
        return {name: z.long() for name, z in zip(names, codes, strict=True)}

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
        for level, grid in enumerate(codes):
            self._check(grid, level, "codes", len(codes[0]))
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

    def _check(self, grid: Tensor, level: int, words: str, count: int) -> None:
        name, shape = f"{self.level_names[level]} {words}", (count, *self.grids[level])
        check_codes(grid, self.sizes[level], name)
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
