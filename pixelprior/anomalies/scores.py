"""The score and the map of an image, and which of their values are normal.

`anomalies.find` computes them, and `anomalies.calibrate` makes a `Calibration` of those
of normal images, which can be kept in a file.
"""

import json
import math
import operator
import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pixelprior.checkpoints import fingerprint
from pixelprior.files import temporary_folder, writable_folder, write_tensors
from pixelprior.prior import LEVELS
from pixelprior.settings import check_positive

# The parts of an image's score: of a level's pixels, the share with the most nats. Few
# pixels find a small defect, and all of them an image of another kind.
PARTS = *(("top", share) for share in (1 / 64, 1 / 16, 1 / 4, 1)), ("bottom", 1 / 128)
PIXEL_QUANTILES = 10_001
# Of the codes of normal images, given their own codes before them.
FLAG_RATES = {"top": 0.05, "bottom": 0.02}
# Standard deviations of Gaussians, in pixels per 32: for the distance of a pixel, for
# that of its surroundings, and for nats.
NEAR, AROUND, NATS_AROUND = 0.5, 4, 2
LEAST_DISTANCE = 0.002  # so that no pixel of an odd image has 0
SMOOTHED_TOGETHER = 32  # maps
LEAST_SPREAD = 0.2  # of restorations, of a range of values from 0 to 1
USUAL = 0.9  # share of normal images whose maps are dimmed, to less than 1/√2
DIMMING = 0.5  # how fast this ends, per unit of the score


def least_rate(count: int) -> float:
    """The smallest p-value, and so the smallest false-alarm rate, for so many normal
    scores."""
    return 1 / (count + 1)


def check_rate(rate: float, count: int) -> None:
    """Raise ValueError unless p-values of `count` normal scores can be as small as a
    false-alarm rate."""
    if not 0 < rate < 1:
        raise ValueError(f"the false-alarm rate is {rate}; give one between 0 and 1")
    if rate < least_rate(count):
        raise ValueError(
            f"the false-alarm rate is {rate}, but {count} normal scores allow 1 / "
            f"{count + 1} or more; give such a rate, or calibrate on more images: on "
            f"about {2.5 / rate:,.0f} for this one"
        )


@dataclass(frozen=True)
class Calibration:
    """What normal images look like to a VQ-VAE-2 and a prior.

    Attributes:
        nats: by level, float [H, W, N]: the nats of each position's code in N normal
            images, in ascending order; on the CPU, as all other tensors.
        centres, scales: float [5], mean and standard deviation of each of `PARTS`,
            over other normal images.
        scores: float64 [M], scores of M normal images that are among neither, in
            ascending order.
        pixels: float [PIXEL_QUANTILES], quantiles of the values of the maps of these M,
            in ascending order.
        draws: with how many restorations each, as in `find`.
        classes: the labels that the images had, in ascending order, or None.
        models: SHA-256 of the VQ-VAE-2 and of the prior, as `fingerprint` gives them.
    """

    nats: dict[str, Tensor]
    centres: Tensor
    scales: Tensor
    scores: Tensor
    pixels: Tensor
    draws: int
    classes: tuple[int, ...] | None
    models: tuple[str, str]

    def code_p_values(self, level: str, nats: Tensor) -> Tensor:
        """The share of codes at a position, of N normal images and this one, that cost
        at least as many nats [B, H, W] as this one: from 1 / (N + 1) to 1."""
        normal = self.nats[level].to(nats.device)
        less = torch.searchsorted(normal, nats.permute(1, 2, 0).contiguous())
        count = normal.shape[-1]
        return ((1 + count - less) / (count + 1)).permute(2, 0, 1)

    def is_odd(self, level: str, nats: Tensor) -> Tensor:
        """Whether each code [B, h, w] costs so much that few normal ones cost more."""
        return self.code_p_values(level, nats) <= FLAG_RATES[level]

    def scaled_by(self, parts: Tensor) -> "Calibration":
        """The same, with the scale of the parts [N, 5] of N normal images' scores."""
        scales = parts.std(0).clamp(min=1e-6)
        return replace(self, centres=parts.mean(0), scales=scales)

    def scores_of(self, parts: Tensor) -> Tensor:
        """The scores of images, float64 [B], from their parts, as in `score_parts`."""
        return ((parts - self.centres) / self.scales).double().sum(1)

    def maps_of(self, scores: Tensor, guided: Tensor, distance: Tensor) -> Tensor:
        """How odd each pixel is, float [B, H, W], on the CPU, 0 or more.

        The square root of a product of four numbers: the distance of the pixel from the
        restorations, smoothed a little; that of its surroundings; 1 plus the guided
        nats of the top codes around it, where those below 0 count as 0; and a number
        from 0 to 1 that grows with the score of the image, so that maps of several
        images can be compared: a normal image differs from its restorations as well.
        This number is a half at the score that a share of 1 − `USUAL` of normal images
        exceeds, and changes fast there.

        Args:
            scores: float64 [B], as `scores_of` returns them.
            guided: [B, H, W], the nats of the top codes over a pixel, as `shifted_nats`
                returns them, plus those that guidance adds to the image's own code.
            distance: [B, H, W], as `distances` returns it, not smoothed.
        """
        above = scores - torch.quantile(self.scores, USUAL)
        dimmed = (DIMMING * above).sigmoid().float()[:, None, None]
        near, around = (LEAST_DISTANCE + smooth(distance, s) for s in (NEAR, AROUND))
        nats = smooth(guided.clamp(min=0), NATS_AROUND)
        return (near * around * (1 + nats) * dimmed).sqrt()

    def p_values(self, scores: Tensor) -> Tensor:
        """Conformal p-values of scores [B], float64 [B] (Vovk et al. 2005, *Algorithmic
        Learning in a Random World*, section 2.2).

        If an image is drawn as the M normal images were, and took no part in the
        calibration, its p-value is at most α with a probability of at most α, over all
        calibrations; that of a single one differs from α by chance.
        """
        less = torch.searchsorted(self.scores, scores.double().cpu().contiguous())
        return (1 + len(self.scores) - less).double() / (len(self.scores) + 1)

    def check_fits(self, grids, draws: int, labels: Tensor | None) -> None:
        """Raise ValueError unless images of these grids (height, width), number of
        restorations and labels (long [B], or None) may be compared with these."""
        classes = None if labels is None else tuple(labels.unique().tolist())
        if classes and self.classes and {*classes} <= {*self.classes}:
            classes = self.classes
        own_grids = [tuple(nats.shape[:2]) for nats in self.nats.values()]
        for name, own, given in (
            ("grids", own_grids, [tuple(grid) for grid in grids]),
            ("draws", self.draws, draws),
            ("labels", self.classes, classes),
        ):
            if own != given:
                raise ValueError(
                    f"the calibration was made with {name} {own}, but here are {given};"
                    " give the same, or calibrate again"
                )

    def score_threshold(self, rate: float) -> float:
        """The score above which an image has a p-value of at most `rate`."""
        check_rate(rate, len(self.scores))
        # A product such as 0.29 · 100 is rounded to below the whole number.
        rank = math.floor(rate * (len(self.scores) + 1) + 1e-9)
        return self.scores[-rank].item()

    def map_threshold(self, rate: float) -> float:
        """The value that a share `rate` of the pixels of normal images exceeds.

        It is interpolated between quantiles, and means nothing below a rate of 1e-4.
        """
        return torch.quantile(self.pixels, 1 - rate).item()


def distances(images: Tensor, restorations: Tensor, weights: Tensor) -> Tensor:
    """How far each pixel is from the restorations, for how far these are apart.

    Where restorations differ from one another, several values are normal, so that a
    difference means less: the weighted mean of |image − restoration| is divided by
    `LEAST_SPREAD` plus the weighted standard deviation of the restorations; both are
    means over channels.

    Shapes: [B, C, H, W], [B, D, C, H, W], [B, D] to float [B, H, W], on the CPU.
    """
    images, weights = images.to(weights.device), weights[:, :, None, None, None]
    apart = ((images[:, None] - restorations).abs() * weights).sum(1)
    mean = (restorations * weights).sum(1, keepdim=True)
    spread = ((restorations - mean).square() * weights).sum(1).sqrt()
    return (apart.mean(1) / (LEAST_SPREAD + spread.mean(1))).float().cpu()


def smooth(values: Tensor, sigma: float) -> Tensor:
    """Values [B, H, W] smoothed by a Gaussian of `sigma` pixels per 32, on the CPU,
    because a GPU's convolutions may round to 10 bits."""
    sigma *= math.sqrt(values[0].numel()) / 32
    reach = math.ceil(3 * sigma)
    kernel = (-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2).exp()
    kernel = kernel / kernel.sum()
    smoothed = []
    for some in values.split(SMOOTHED_TOGETHER):  # a wide kernel may take much memory
        padded = F.pad(some[:, None], (reach,) * 4, mode="replicate")
        along = F.conv2d(padded, kernel.view(1, 1, 1, -1))
        smoothed.append(F.conv2d(along, kernel.view(1, 1, -1, 1))[:, 0])
    return torch.cat(smoothed)


def score_parts(top: Tensor, bottom: Tensor) -> Tensor:
    """The parts of an image's score: how odd its oddest places are, and all of it.

    From the nats of the codes over each pixel [B, H, W], those of the top as
    `shifted_nats` returns them, to float [B, 5]: for each of `PARTS`, the mean of the
    largest nats of the level, a share of the pixels.
    """
    parts, nats = [], {"top": top, "bottom": bottom}
    for level, share in PARTS:
        flat = nats[level].flatten(1)
        count = max(1, round(share * flat.shape[1]))
        parts.append(flat.topk(count).values.mean(1))
    return torch.stack(parts, dim=1)


FORMAT = "pixelprior calibration, version 3"
PLAIN = ("centres", "scales", "scores", "pixels")
NOTED = ("draws", "classes", "models")
LENGTHS = {"centres": len(PARTS), "scales": len(PARTS), "pixels": PIXEL_QUANTILES}
UNREADABLE = (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError)


def save_calibration(calibration: Calibration, path) -> None:
    """Write a calibration as a safetensors file, completely or not at all; its folder
    is created if it is absent."""
    path = Path(path)
    tensors = {name: getattr(calibration, name) for name in PLAIN}
    tensors |= {f"nats_{level}": nats for level, nats in calibration.nats.items()}
    about = {name: json.dumps(getattr(calibration, name)) for name in NOTED}
    with temporary_folder(writable_folder(path.parent)) as temporary:
        write_tensors(tensors, temporary / path.name, about | {"format": FORMAT})
        os.replace(temporary / path.name, path)


def load_calibration(path, vqvae2, prior) -> Calibration:
    """Read a calibration that was made with these models.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file holds no calibration or is damaged, or its calibration was
            made with other models.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; name a calibration")
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            if about.get("format") != FORMAT:
                raise ValueError(f"its format is {about.get('format')}, not {FORMAT}")
            plain = {name: file.get_tensor(name) for name in PLAIN}
            nats = {level: file.get_tensor(f"nats_{level}") for level in LEVELS}
        draws, classes, models = (json.loads(about[name]) for name in NOTED)
        check_positive(draws=draws)
        if classes is not None:
            classes = tuple(map(operator.index, classes))
        of_vqvae2, of_prior = models
        for name, values in (plain | nats).items():
            _check_values(name, values)
    except UNREADABLE as error:
        raise ValueError(
            f"{path} holds no whole calibration ({error}): it is cut short or of "
            "another kind; copy it again, or calibrate again"
        ) from error
    pairs = {"VQ-VAE-2": (vqvae2, of_vqvae2), "prior": (prior, of_prior)}
    for name, (model, own) in pairs.items():
        if fingerprint(model) != own:
            raise ValueError(
                f"{path} was made with another {name}; give that, or calibrate again"
            )
    models = of_vqvae2, of_prior
    return Calibration(nats, **plain, draws=draws, classes=classes, models=models)


def _check_values(name: str, values: Tensor) -> None:
    """Check a tensor of a calibration that was read from a file."""
    ascending = name not in ("centres", "scales")
    if (
        values.ndim != (3 if name in LEVELS else 1)
        or values.dtype != (torch.float64 if name == "scores" else torch.float32)
        or not values.numel()
        or len(values) != LENGTHS.get(name, len(values))
        or not values.isfinite().all()
        or (ascending and (values.diff() < 0).any())
        or (name == "scales" and values.min() <= 0)
    ):
        raise ValueError(
            f"{name} of {values.dtype} and shape {list(values.shape)} is of another "
            "shape or type, or has numbers that no calibration has"
        )
