"""Editing images in code space: complete them, vary them, and see what surprises.

A prior that draws codes in raster order can be given some of them and draw the rest, as
van den Oord et al. 2016 (arXiv 1601.06759, section 5) complete occluded images. Codes
that come later in that order are kept where they are known, but those drawn before them
do not know of them: the lower part of an image is completed better than the upper. And
the whole top grid comes before the bottom grid: no known bottom code helps to draw it.
`surprise` says how well what was drawn fits what was kept.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from pixelprior.modes import evaluation_mode
from pixelprior.pixelcnn import negative_log_likelihood
from pixelprior.prior import LEVELS, HierarchicalPixelCNN
from pixelprior.ranges import check_positive
from pixelprior.validation import check_tensor
from pixelprior.vqvae2 import VQVAE2


@torch.no_grad()
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
    """Images with the part that is not known drawn from the prior.

    A code is known where all of its pixels are; the others are drawn given those
    before them. Pixels that are not known are never looked at: they are black to the
    encoder, which spoils the known codes beside them. So what is drawn at first is a
    draft: it takes the place of the black, and what is not known is drawn once more.
    All pixels come from the decoder, so that known ones are close to what they were and
    not equal; `torch.where(known, images, completed)` puts them back.

    Args:
        vqvae2, prior: trained; the images are encoded and decoded where the prior is,
            and the VQ-VAE-2 is moved there.
        images: float [B, C, S, S] in [0, 1].
        known: bool [S, S], or [B, 1, S, S] for one per image; True where a pixel is
            known.
        labels: for a prior with classes, as in `HierarchicalPixelCNN.sample`.
        seed: as there; another seed completes in another way.
        looks: how often the image is encoded and drawn; 1 leaves it at the draft.
        options: as in `HierarchicalPixelCNN.sample`: temperature, top_k, top_p, method…

    Returns:
        Images [B, C, S, S] in [0, 1].

    Raises:
        ValueError: images or known have the wrong type or shape, looks is below 1, or
            as `HierarchicalPixelCNN.sample`.
    """
    check_positive(looks=looks)
    vqvae2.check_images(images)
    check_tensor(known, "known")
    side = vqvae2.image_size
    if known.dtype != torch.bool or tuple(known.shape) not in (
        (side, side),
        (len(images), 1, side, side),
    ):
        raise ValueError(
            f"known is {known.dtype} of shape {list(known.shape)}, but booleans of "
            f"shape [{side}, {side}] or [{len(images)}, 1, {side}, {side}] are needed, "
            "True where a pixel is known"
        )
    device = next(prior.parameters()).device
    images = images.to(device)
    known = known.to(device).expand(len(images), 1, side, side)
    drawn = torch.zeros_like(images)
    for _ in range(looks):
        codes = _codes(vqvae2, prior, torch.where(known, images, drawn))
        kept = {
            name: z.masked_fill(~_all_known(known, z.shape[1:]), -1)
            for name, z in zip(("known_top", "known_bottom"), codes, strict=True)
        }
        drawn = prior.sample_with_vqvae2(
            vqvae2, len(images), labels=labels, seed=seed, **kept, **options
        )
    return drawn


@torch.no_grad()
def vary(
    vqvae2: VQVAE2,
    prior: HierarchicalPixelCNN,
    images: Tensor,
    *,
    labels=None,
    seed: int | None = None,
    **options,
) -> Tensor:
    """Images with their top codes kept and the bottom codes drawn from the prior.

    The top codes hold the outline; the bottom codes, drawn given them, the texture.

    Args:
        vqvae2, prior, images, labels, seed, options: as in `complete`. Labels that are
            not the images' own change what the texture is drawn for.

    Returns:
        Images [B, C, S, S] in [0, 1].

    Raises:
        ValueError: as `complete`.
    """
    vqvae2.check_images(images)
    z_top, _ = _codes(vqvae2, prior, images)
    return prior.sample_with_vqvae2(
        vqvae2, len(images), labels=labels, seed=seed, known_top=z_top, **options
    )


@torch.no_grad()
def surprise(
    prior: HierarchicalPixelCNN,
    z_top: Tensor,
    z_bottom: Tensor,
    labels=None,
) -> dict[str, Tensor]:
    """What each code costs, -log P(code | the codes before it), in nats.

    The mean over all positions and images is the level's loss as `loss_function` has
    it; the sum over both levels of an image is its negative log-likelihood.

    Args:
        prior: trained; measured in evaluation mode whatever the mode is.
        z_top: long [B, Ht, Wt]. z_bottom: long [B, Hb, Wb]. Both on the prior's device.
        labels: for a prior with classes, as in `HierarchicalPixelCNN.sample`.

    Returns:
        {"top": float [B, Ht, Wt], "bottom": float [B, Hb, Wb]}.

    Raises:
        ValueError: codes or labels have the wrong type or shape, or are out of range.
    """
    with evaluation_mode(prior):
        logits = (
            prior.prior_top(z_top, labels),
            prior.prior_bottom(z_bottom, z_top, labels),
        )
    return {
        level: negative_log_likelihood(each, z)
        for level, each, z in zip(LEVELS, logits, (z_top, z_bottom), strict=True)
    }


def _codes(vqvae2, prior, images: Tensor) -> tuple[Tensor, Tensor]:
    """Both grids of codes, on the prior's device."""
    device = next(prior.parameters()).device
    codes = vqvae2.to(device).get_code_indices(images.to(device))
    return codes["indices_top"], codes["indices_bottom"]


def _all_known(known: Tensor, shape) -> Tensor:
    """Pixels [B, 1, S, S] to codes [B, H, W]: known where all pixels of a code are."""
    unknown = (~known).float()  # [B, 1, S, S]
    return F.adaptive_max_pool2d(unknown, tuple(shape))[:, 0] == 0
