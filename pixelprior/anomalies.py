"""Finding what is odd in an image, with a VQ-VAE-2 and a prior of normal images.

A code that costs many nats, given the codes before it, is odd, and drawn anew it shows
what a normal image would have there (Marimont and Tarroni 2020, arXiv 2012.06765,
section 3). `calibrate` learns from normal images how many nats are many, and `find`
scores and restores others.
"""

import math
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from pixelprior.anomaly_scores import (
    PARTS,
    PIXEL_QUANTILES,
    Calibration,
    Evidence,
    distances,
    score_parts,
)
from pixelprior.anomaly_search import (
    FLAG_RATES,
    LOOKS,
    Search,
    code_nats,
    over_pixels,
    seed_of,
    shifted_nats,
)
from pixelprior.drawing import CHUNK_SIZE
from pixelprior.modes import evaluation_mode
from pixelprior.prior import LEVELS, HierarchicalPixelCNN
from pixelprior.progress import progress_bar
from pixelprior.ranges import check_positive, whole_number
from pixelprior.vqvae2 import VQVAE2

# A code p-value is at least 1 / (N + 1), for the N images that give the nats.
LEAST_NORMAL = 2 * (math.ceil(1 / min(FLAG_RATES.values())) - 1)
SHARE_FOR_SCALE, LEAST_FOR_SCALE = 0.1, 10
OWN_STREAMS = LOOKS + 1  # of the calibration


@dataclass(frozen=True)
class Findings:
    """What is odd in B images, each with D restorations.

    Attributes:
        scores: float64 [B], on the CPU; higher is odder. p_values: float64 [B], on the
            CPU, as in `Calibration.p_values`.
        maps: float [B, H, W], on the CPU: how far each pixel is from the restorations.
        restorations: float [B, D, C, H, W] in [0, 1].
        weights: float [B, D], the share of each restoration in the map; each row sums
            to 1.
        flagged: by level, bool [B, h, w]: the codes that were drawn anew, judged given
            the restored codes before them.
        nats: by level, float [B, h, w]: nats of each code given the image's own codes
            before it.
    """

    scores: Tensor
    p_values: Tensor
    maps: Tensor
    restorations: Tensor
    weights: Tensor
    flagged: dict[str, Tensor]
    nats: dict[str, Tensor] = field(repr=False)

    @property
    def best(self) -> Tensor:
        """The restoration of each image with the largest weight, [B, C, H, W]."""
        return self.restorations[
            torch.arange(len(self.weights)), self.weights.argmax(1).cpu()
        ]

    @property
    def flagged_share(self) -> Tensor:
        """The share of each image's codes that were drawn anew, float [B]."""
        both = torch.cat([self.flagged[level].flatten(1) for level in LEVELS], dim=1)
        return both.float().mean(1)


@torch.no_grad()
def calibrate(
    vqvae2: VQVAE2,
    prior: HierarchicalPixelCNN,
    normal_images: Tensor,
    labels=None,
    *,
    draws: int = 8,
    seed: int = 0,
    progress: bool = False,
) -> Calibration:
    """Learn from normal images which nats and which scores are normal.

    Half of the images, drawn at random, give the nats of each position, a tenth the
    scale of the score, and the scores of the others are kept. None of them should have
    been trained on, because such images cost fewer nats than new ones, and none should
    be a copy of another.

    Args:
        vqvae2, prior: trained on normal images; the images are processed on the device
            of the prior, and the VQ-VAE-2 is moved there.
        normal_images: float [N, C, H, W] in [0, 1].
        labels: as in `find`; given here if and only if they are given there.
        draws: as in `find`, which has to be given the same number.
        seed: of the division of the images and of the draws.
        progress: show a progress bar.

    Raises:
        ValueError: there are fewer than `LEAST_NORMAL` images, or as in `find`.
    """
    labels = _checked(vqvae2, prior, normal_images, labels, draws, seed, 0)
    count = len(normal_images)
    if count < LEAST_NORMAL:
        raise ValueError(
            f"there are {count} normal images, too few to say what is odd; give at "
            f"least {LEAST_NORMAL}, and for a false-alarm rate of 1 % at least 248"
        )
    order = torch.from_numpy(np.random.default_rng(seed).permutation(count))
    for_scale = max(LEAST_FOR_SCALE, int(SHARE_FOR_SCALE * count))
    sizes = [count // 2, for_scale, count - count // 2 - for_scale]
    reference, scaling, scored = (part.sort().values for part in order.split(sizes))
    nats: dict[str, list[Tensor]] = {level: [] for level in LEVELS}
    for part in reference.split(CHUNK_SIZE):
        of_part = code_nats(vqvae2, prior, normal_images[part], _of(labels, part))
        for level, each in of_part.items():
            nats[level].append(each)
    unscaled = Calibration(
        nats={
            level: torch.cat(each).permute(1, 2, 0).sort(-1).values.contiguous()
            for level, each in nats.items()
        },
        centres=torch.zeros(len(PARTS)),
        scales=torch.ones(len(PARTS)),
        scores=torch.zeros(0).double(),
        pixels=torch.zeros(1),
        draws=draws,
        labelled=labels is not None,
    )
    others = torch.cat([scaling, scored])
    bar = progress_bar(total=len(others), desc="calibrating", enabled=progress)
    with bar:
        evidence, _ = _searched(
            vqvae2,
            prior,
            normal_images[others],
            unscaled,
            _of(labels, others),
            seed=seed_of(seed, OWN_STREAMS),
            progress=bar,
        )
    to_scale, kept = (
        Evidence(*each)
        for each in zip(*(x.split(sizes[1:]) for x in evidence), strict=True)
    )
    parts = score_parts(to_scale)
    scaled = replace(
        unscaled, centres=parts.mean(0), scales=parts.std(0).clamp(min=1e-6)
    )
    scores = scaled.scores_of(score_parts(kept))
    scaled = replace(scaled, scores=scores.sort().values)
    pixels = scaled.maps_of(kept, scores).flatten().numpy()
    quantiles = np.quantile(pixels, np.linspace(0, 1, PIXEL_QUANTILES))
    return replace(scaled, pixels=torch.from_numpy(quantiles).float())


@torch.no_grad()
def find(
    vqvae2: VQVAE2,
    prior: HierarchicalPixelCNN,
    images: Tensor,
    calibration: Calibration,
    labels=None,
    *,
    draws: int = 8,
    seed: int = 0,
    first_index: int = 0,
) -> Findings:
    """Score images, restore what is odd in them, and map it.

    Args:
        vqvae2, prior: as in `calibrate`.
        images: float [B, C, H, W] in [0, 1].
        calibration: what `calibrate` returned.
        labels: for a prior with classes, as in `HierarchicalPixelCNN.sample`: the class
            that each image should be of. With `label_dropout`, None asks whether an
            image is of any class.
        draws: number of restorations per image, as in `calibrate`.
        seed: the same seed restores an image in the same way in any batch, up to
            rounding.
        first_index: index of the first image, by which its random streams are chosen.

    Raises:
        ValueError: the images do not fit the VQ-VAE-2, the labels or the calibration do
            not fit the prior, or an argument is out of its range.
    """
    labels = _checked(vqvae2, prior, images, labels, draws, seed, first_index)
    calibration.check_fits(vqvae2.grids, draws, labels is not None)
    evidence, restored = _searched(
        vqvae2,
        prior,
        images,
        calibration,
        labels,
        seed=seed,
        first_index=first_index,
    )
    scores = calibration.scores_of(score_parts(evidence))
    maps = calibration.maps_of(evidence, scores)
    return Findings(scores, calibration.p_values(scores), maps, *restored)


def _searched(
    vqvae2, prior, images, calibration, labels, *, seed, first_index=0, progress=None
):
    """The evidence in images, and the other attributes of `Findings`, in order."""
    evidence, restored = [], []
    at_once = max(1, CHUNK_SIZE // calibration.draws)
    with evaluation_mode(prior), evaluation_mode(vqvae2):
        for part in torch.arange(len(images)).split(at_once):
            some, of_some = images[part], _of(labels, part)
            search = Search(
                prior, calibration, of_some, seed, first_index + int(part[0])
            )
            restored.append(search.restore(vqvae2, some))
            restorations, weights, _, nats = restored[-1]
            top = shifted_nats(vqvae2, prior, some, of_some, nats["top"])
            bottom = over_pixels(nats["bottom"], some.shape[2:])
            distance = distances(some, restorations, weights)
            evidence.append((top, bottom, distance))
            if progress is not None:
                progress.update(len(part))
    restorations, weights, *by_level = zip(*restored, strict=True)
    return Evidence(*map(torch.cat, zip(*evidence, strict=True))), (
        torch.cat(restorations),
        torch.cat(weights),
        *(
            {level: torch.cat([each[level] for each in parts]) for level in LEVELS}
            for parts in by_level
        ),
    )


def _checked(vqvae2, prior, images, labels, draws, seed, first_index) -> Tensor | None:
    """Check arguments, and return the labels as `PixelCNN.check_labels` does."""
    check_positive(draws=draws)
    vqvae2.check_images(images)
    prior.check_matches(vqvae2)
    if not len(images):
        raise ValueError("there are no images; give at least one")
    for name, value, bits in (("seed", seed, 64), ("first_index", first_index, 48)):
        number = whole_number(value)
        if number is None or not 0 <= number < 2**bits:
            raise ValueError(
                f"{name} is {value}; give a whole number from 0 to 2^{bits}-1"
            )
    return prior.prior_top.check_labels(labels, len(images))


def _of(labels: Tensor | None, part: Tensor) -> Tensor | None:
    """The labels of some images; None without labels."""
    return None if labels is None else labels[part]
