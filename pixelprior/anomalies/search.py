"""Restoring what is odd in the codes of an image.

A code costs many nats as well if it is normal and those before it are odd. Therefore
the top grid is restored in several looks: flagged codes are drawn anew, and each code
is judged again given the restored codes before it. Codes are drawn in raster order, so
that only earlier ones guide a draw. Each look draws several drafts and keeps the one
whose known top codes cost the fewest nats; at the end, each restoration has an
importance weight, by the cost of its known top codes.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pixelprior.editing import codes_of
from pixelprior.pixelcnn import negative_log_likelihood

SHIFTS = ((1, 0), (-1, 0), (0, 1), (0, -1))
GUIDANCE = 1.0  # of the looks at the top grid, and of its nats in the map
LOOKS = 3  # before both grids are drawn for the restorations
DRAFTS = 4  # a look has one draft for so many restorations
PIXELS_TOGETHER = 2**18  # of all drafts of a batch: 256 of 32 by 32
FLAT = 4.0  # by how much importance weights are flattened, so that several count


def images_per_batch(vqvae2, draws: int = 1) -> int:
    """How many images to process in a batch, with so many drafts each."""
    return max(1, PIXELS_TOGETHER // (math.prod(vqvae2.image_shape) * draws))


def restore(
    vqvae2, prior, calibration, labels, z, nats, *, seed: int, first_index: int
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """The restorations of a batch of images, their weights, and the flagged codes by
    level, as in `Findings`; without gradients.

    Args:
        labels: long [B], or None.
        z, nats: the codes of the images by level, and their nats, those of the top
            `guided`.
        seed, first_index: as in `anomalies.find`.
    """
    (z_top, z_bottom), (of_top, of_bottom) = z, nats
    draws = calibration.draws
    restored = z_top
    for look in range(LOOKS):
        # The codes beside an odd one are drawn anew with it, because the encoder sees
        # around each code. In the end they are kept, if they fit the restored ones.
        odd = spread(calibration.is_odd("top", of_top))
        known = z_top.masked_fill(odd, -1)
        drafts = max(1, draws // DRAFTS)
        own = seed_of(seed, look)
        restored = best_draft(prior, labels, known, drafts, own, first_index)
        logits = prior.prior_top(restored, labels)
        of_top = negative_log_likelihood(logits, z_top)
        of_top = guided(prior, labels, of_top, restored, z_top)
    odd_top = calibration.is_odd("top", of_top)
    under = F.interpolate(odd_top[:, None].float(), z_bottom.shape[1:])[:, 0] > 0
    odd_bottom = calibration.is_odd("bottom", of_bottom) | under
    draft = prior.prior_bottom.sample(
        len(z_bottom),
        z_bottom.shape[1:],
        labels=labels,
        above=restored,
        known=z_bottom.masked_fill(odd_bottom, -1),
        seed=seed_of(seed, LOOKS),
        first_index=first_index,
    )
    logits = prior.prior_bottom(draft, restored, labels)
    of_bottom = negative_log_likelihood(logits, z_bottom)
    odd_bottom = calibration.is_odd("bottom", of_bottom) | under
    known_top = repeated(z_top.masked_fill(odd_top, -1), draws)
    drawn = prior.sample(
        len(known_top),
        *vqvae2.grids,
        labels=repeated(labels, draws),
        seed=seed,
        first_index=first_index * draws,
        known_top=known_top,
        known_bottom=repeated(z_bottom.masked_fill(odd_bottom, -1), draws),
    )
    cost = cost_of_known(prior, labels, drawn[0], known_top, draws)
    restorations = vqvae2.decode_codes(*drawn).unflatten(0, (-1, draws))
    flagged = {"top": odd_top, "bottom": odd_bottom}
    return restorations, (-cost / FLAT).softmax(1), flagged


def best_draft(prior, labels, known: Tensor, drafts: int, seed, first_index) -> Tensor:
    """Of so many drafts of each top grid [B, h, w], the one that its known codes fit
    best; unknown codes are -1."""
    each_known = repeated(known, drafts)
    drawn = prior.prior_top.sample(
        len(each_known),
        tuple(known.shape[1:]),
        labels=repeated(labels, drafts),
        guidance=guidance_for(prior, labels),
        known=each_known,
        seed=seed,
        first_index=first_index * drafts,
    )
    best = cost_of_known(prior, labels, drawn, each_known, drafts).argmin(1)
    images = torch.arange(len(known), device=best.device)
    return drawn.unflatten(0, (-1, drafts))[images, best]


def cost_of_known(prior, labels, drawn: Tensor, known: Tensor, drafts: int) -> Tensor:
    """The nats of the known codes of D drafts per top grid, summed, [B, D]."""
    nats = prior.prior_top.nats(drawn, labels=repeated(labels, drafts))
    return (nats * (known >= 0)).sum((1, 2)).unflatten(0, (-1, drafts))


def repeated(values: Tensor | None, times: int) -> Tensor | None:
    """Values of B images as those of their B · D drafts."""
    return None if values is None else values.repeat_interleave(times, 0)


def spread(flags: Tensor) -> Tensor:
    """Flags [B, H, W], and the positions above, below, left and right of them."""
    cross = torch.tensor([[0.0, 1, 0], [1, 1, 1], [0, 1, 0]], device=flags.device)
    return F.conv2d(flags[:, None].float(), cross[None, None], padding=1)[:, 0] > 0


def seed_of(seed: int, look: int) -> int:
    """A seed of its own for each look."""
    return int(np.random.SeedSequence([seed, 1 + look]).generate_state(1, np.uint64)[0])


def guidance_for(prior, labels) -> float:
    """The guidance at the top: 0 without labels, or if all were given in training."""
    return GUIDANCE if labels is not None and prior.label_dropout else 0.0


def guided(prior, labels, nats: Tensor, context: Tensor, codes: Tensor) -> Tensor:
    """Nats of top codes [B, h, w] given the label, and the guidance times how many of
    them the label adds, where `context` are the codes that come before."""
    guidance = guidance_for(prior, labels)
    if not guidance:
        return nats
    unlabelled = negative_log_likelihood(prior.prior_top(context, None), codes)
    return nats + guidance * (nats - unlabelled)


def shifted_nats(vqvae2, prior, images: Tensor, labels, nats: Tensor) -> Tensor:
    """The nats of the top codes over each pixel, float [B, H, W], on the CPU.

    They are means over the image, whose nats [B, h, w] are given, and four copies that
    are shifted by a pixel, each moved back: the codes of a shifted image are other
    codes for the same places.
    """
    total = over_pixels(nats, images.shape[2:])
    for down, right in SHIFTS:
        z_top, _ = codes_of(vqvae2, prior, moved(images, down, right))
        of_copy = prior.prior_top.nats(z_top, labels=labels)
        pixels = over_pixels(of_copy, images.shape[2:])
        total = total + moved(pixels[:, None], -down, -right)[:, 0]
    return total / (1 + len(SHIFTS))


def over_pixels(nats: Tensor, sides) -> Tensor:
    """Nats of codes [B, h, w] at the pixels under each, [B, H, W], on the CPU."""
    return F.interpolate(nats[:, None].float().cpu(), tuple(sides))[:, 0]


def moved(images: Tensor, down: int, right: int) -> Tensor:
    """Images [B, C, H, W], moved by up to a pixel; the edge behind them is repeated."""
    height, width = images.shape[2:]
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    return padded[:, :, 1 - down : 1 - down + height, 1 - right : 1 - right + width]
