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

from pixelprior.editing import codes_of, surprise
from pixelprior.pixelcnn import negative_log_likelihood
from pixelprior.prior import LEVELS

# Of the codes of normal images, given their own codes before them.
FLAG_RATES = {"top": 0.05, "bottom": 0.02}
SHIFTS = ((1, 0), (-1, 0), (0, 1), (0, -1))
GUIDANCE = 1.0  # of the looks at the top grid, and of its nats in the map
LOOKS = 3  # before both grids are drawn for the restorations
DRAFTS = 4  # a look has one draft for so many restorations
PIXELS_TOGETHER = 2**18  # of all drafts of a batch: 256 of 32 by 32
FLAT = 4.0  # by how much importance weights are flattened, so that several count


def images_per_batch(vqvae2, draws: int = 1) -> int:
    """How many images to process in a batch, with so many drafts each."""
    return max(1, PIXELS_TOGETHER // (math.prod(vqvae2.image_shape) * draws))


class Search:
    """The search for what is odd in the images of one batch, without gradients.

    Args:
        prior, calibration, seed, first_index: as in `anomalies.find`.
        labels: long [B], or None.
    """

    def __init__(self, prior, calibration, labels, seed: int, first_index: int):
        self.prior, self.calibration, self.labels = prior, calibration, labels
        self.draws = calibration.draws
        self.drafts = max(1, self.draws // DRAFTS)
        self.seed, self.first_index = seed, first_index
        self.guidance = guidance_for(prior, labels)

    def restore(self, vqvae2, z_top, z_bottom, of_top, of_bottom) -> tuple:
        """The restorations of images, their weights, and the flagged codes by level.

        Args:
            z_top, z_bottom: the codes of the images.
            of_top, of_bottom: their nats, as `code_nats` returns them.
        """
        flagged = self.flags(z_top, z_bottom, of_top, of_bottom)
        known_top, known_bottom = (
            repeated(z.masked_fill(flagged[level], -1), self.draws)
            for level, z in zip(LEVELS, (z_top, z_bottom), strict=True)
        )
        drawn = self.prior.sample(
            len(known_top),
            *vqvae2.grids,
            labels=repeated(self.labels, self.draws),
            seed=self.seed,
            first_index=self.first_index * self.draws,
            known_top=known_top,
            known_bottom=known_bottom,
        )
        cost = self.cost_of_known(drawn[0], known_top, self.draws)
        restorations = vqvae2.decode_codes(*drawn).unflatten(0, (-1, self.draws))
        return restorations, (-cost / FLAT).softmax(1), flagged

    def flags(self, z_top, z_bottom, of_top, of_bottom) -> dict[str, Tensor]:
        """The codes to draw anew, by level, bool [B, h, w]."""
        restored = z_top
        for look in range(LOOKS):
            # The codes beside an odd one are drawn anew with it, because the encoder
            # sees around each code. In the end they are kept, if they fit the restored.
            odd = spread(self.odd("top", of_top))
            restored = self.best_draft(z_top.masked_fill(odd, -1), look)
            level, labels = self.prior.prior_top, self.labels
            of_top = negative_log_likelihood(level(restored, labels), z_top)
            of_top = guided(of_top, level, restored, z_top, self.guidance)
        top = self.odd("top", of_top)
        under = F.interpolate(top[:, None].float(), z_bottom.shape[1:])[:, 0] > 0
        draft = self.prior.prior_bottom.sample(
            len(z_bottom),
            z_bottom.shape[1:],
            labels=self.labels,
            above=restored,
            known=z_bottom.masked_fill(self.odd("bottom", of_bottom) | under, -1),
            seed=seed_of(self.seed, LOOKS),
            first_index=self.first_index,
        )
        logits = self.prior.prior_bottom(draft, restored, self.labels)
        of_bottom = negative_log_likelihood(logits, z_bottom)
        return {"top": top, "bottom": self.odd("bottom", of_bottom) | under}

    def odd(self, level: str, nats: Tensor) -> Tensor:
        """Whether each code [B, h, w] costs so much that few normal ones cost more."""
        return self.calibration.code_p_values(level, nats) <= FLAG_RATES[level]

    def best_draft(self, known: Tensor, look: int) -> Tensor:
        """The draft of each top grid [B, h, w] that its known codes fit best."""
        each_known = repeated(known, self.drafts)
        drafts = self.prior.prior_top.sample(
            len(each_known),
            tuple(known.shape[1:]),
            labels=repeated(self.labels, self.drafts),
            guidance=self.guidance,
            known=each_known,
            seed=seed_of(self.seed, look),
            first_index=self.first_index * self.drafts,
        )
        best = self.cost_of_known(drafts, each_known, self.drafts).argmin(1)
        images = torch.arange(len(known), device=best.device)
        return drafts.unflatten(0, (-1, self.drafts))[images, best]

    def cost_of_known(self, drafts: Tensor, known: Tensor, count: int) -> Tensor:
        """The nats of the known codes of D drafts per top grid, summed, [B, D]."""
        logits = self.prior.prior_top(drafts, repeated(self.labels, count))
        nats = negative_log_likelihood(logits, drafts) * (known >= 0)
        return nats.sum((1, 2)).unflatten(0, (-1, count))


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


def guided(nats: Tensor, level, context, codes, guidance: float) -> Tensor:
    """Nats of codes, and `guidance` times how many of them the label adds, [B, h, w].

    Args:
        nats: [B, h, w], of `codes` given the label.
        level: the top level. context: long [B, h, w], the codes that come before.
    """
    if not guidance:
        return nats
    unlabelled = negative_log_likelihood(level(context, None), codes)
    return nats + guidance * (nats - unlabelled)


def code_nats(prior, z_top: Tensor, z_bottom: Tensor, labels) -> tuple[dict, Tensor]:
    """The nats of codes by level, float [B, h, w], and the guided ones of the top, by
    which the top codes are flagged."""
    nats, guidance = (
        surprise(prior, z_top, z_bottom, labels),
        guidance_for(prior, labels),
    )
    return nats, guided(nats["top"], prior.prior_top, z_top, z_top, guidance)


def shifted_nats(vqvae2, prior, images: Tensor, labels, nats: Tensor) -> Tensor:
    """The nats of the top codes over each pixel, float [B, H, W], on the CPU.

    They are means over the image and four copies that are shifted by a pixel, each
    moved back: the codes of a shifted image are other codes for the same places.

    Args:
        nats: [B, h, w], those of the image itself.
    """
    total = over_pixels(nats, images.shape[2:])
    for down, right in SHIFTS:
        z_top, _ = codes_of(vqvae2, prior, moved(images, down, right))
        of_copy = negative_log_likelihood(prior.prior_top(z_top, labels), z_top)
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
