"""Editing images in code space: completing them, varying them, and scoring the codes.

A prior that draws codes in raster order can be given some of the codes and draw the
rest, as van den Oord et al. 2016 (arXiv 1601.06759, section 5) complete occluded
images. Known codes are always kept, but a code is drawn given only the codes before it
in raster order, so that the lower part of an image is completed better than the upper
part. The whole top grid comes before the bottom grid, so that no known bottom code
helps to draw the top codes. `surprise` measures how well the drawn codes fit the known
ones.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from pixelprior.devices import evaluation_mode
from pixelprior.layers import check_tensor
from pixelprior.prior import HierarchicalPixelCNN
from pixelprior.settings import check_positive
from pixelprior.vqvae2 import VQVAE2


def complete(
    vqvae2: VQVAE2,
    prior: HierarchicalPixelCNN,
    images: Tensor,
    known: Tensor,
    *,
    labels=None,
    seed: int | None = None,
    looks: int = 2,
    **options,
) -> Tensor:
    """Complete images: draw the unknown part from the prior.

    A code is known if all of its pixels are known. Every other code is drawn given the
    codes before it. Unknown pixels are never read: the encoder is given black pixels in
    their place, which changes the known codes beside them. The first result is
    therefore a draft. It takes the place of the black pixels, and the unknown codes are
    drawn once more. All pixels of the result come from the decoder, so that known
    pixels are close to the given ones but not equal to them;
    `torch.where(known, images, completed)` restores them.

    Args:
        vqvae2, prior: trained models. The images are encoded and decoded on the device
            of the prior, and the VQ-VAE-2 is moved there.
        images: float [B, C, H, W] in [0, 1].
        known: bool [H, W], or [B, 1, H, W] for one mask per image; True where a pixel
            is known.
        labels: for a prior with classes, as in `HierarchicalPixelCNN.sample`.
        seed: as in `HierarchicalPixelCNN.sample`; each seed gives another completion.
        looks: how many times the image is encoded and drawn; 1 returns the draft.
        options: as in `HierarchicalPixelCNN.sample`: temperature, top_k, top_p, method…

    Returns:
        Images [B, C, H, W] in [0, 1].

    Raises:
        ValueError: known has the wrong type or shape, or looks is below 1.
    """
    check_positive(looks=looks)
    vqvae2.check_images(images)
    check_tensor(known, "known")
    shapes = [list(vqvae2.image_shape), [len(images), 1, *vqvae2.image_shape]]
    if known.dtype != torch.bool or list(known.shape) not in shapes:
        raise ValueError(
            f"known is {known.dtype} of shape {list(known.shape)}, but booleans of "
            f"shape {shapes[0]} or {shapes[1]} are needed, True where a pixel is known"
        )
    device = next(prior.parameters()).device
    images = images.to(device)
    known = known.to(device).expand(shapes[1])
    drawn = torch.zeros_like(images)
    unknown = (~known).float()  # [B, 1, H, W]
    for _ in range(looks):
        kept = []
        for codes in codes_of(vqvae2, prior, torch.where(known, images, drawn)):
            # A code is known if all of its pixels are known.
            some_unknown = F.adaptive_max_pool2d(unknown, tuple(codes.shape[1:])) > 0
            kept.append(codes.masked_fill(some_unknown.squeeze(1), -1))
        drawn = prior.sample_with_vqvae2(
            vqvae2, len(images), labels=labels, seed=seed, known=kept, **options
        )
    return drawn


def vary(
    vqvae2: VQVAE2,
    prior: HierarchicalPixelCNN,
    images: Tensor,
    *,
    labels=None,
    seed: int | None = None,
    **options,
) -> Tensor:
    """Vary images: keep their top codes and draw all codes below from the prior.

    The top codes hold the outline; the bottom codes, which are drawn given the top
    codes, hold the texture.

    Args:
        vqvae2, prior, images, labels, seed, options: as in `complete`. With a label
            that is not the image's own, the texture is drawn for that label.

    Returns:
        Images [B, C, H, W] in [0, 1].
    """
    vqvae2.check_images(images)
    z_top, *below = codes_of(vqvae2, prior, images)
    known = [z_top, *[None] * len(below)]
    return prior.sample_with_vqvae2(
        vqvae2, len(images), labels=labels, seed=seed, known=known, **options
    )


@torch.no_grad()
def surprise(
    prior: HierarchicalPixelCNN, *codes: Tensor, labels=None
) -> dict[str, Tensor]:
    """Negative log-likelihood of each code: -log P(code | earlier codes), in nats.

    The mean over all positions and images is the loss of the level in `loss_function`.
    The sum over all grids of an image is the negative log-likelihood of its codes.

    Args:
        prior: a trained prior; it is measured in evaluation mode, whatever its mode is.
        codes: z_top and z_bottom, or long [B, H, W] for each level, on the prior's
            device. The labels may follow them.
        labels: for a prior with classes, as in `HierarchicalPixelCNN.sample`.

    Returns:
        {"top": float [B, Ht, Wt], "bottom": float [B, Hb, Wb]}, or by the names of the
        prior's levels.
    """
    with evaluation_mode(prior):
        return prior.nats(*codes, labels=labels)


def codes_of(vqvae2, prior, images: Tensor) -> tuple[Tensor, ...]:
    """The grids of codes of all levels, on the prior's device."""
    device = next(prior.parameters()).device
    return tuple(vqvae2.to(device).get_code_indices(images.to(device)).values())
