"""Finding what is odd in an image, with a VQ-VAE-2 and a prior of normal images.

A code that costs many nats, given the codes before it, is odd, and drawn anew it shows
what a normal image would have there (Marimont and Tarroni 2020, arXiv 2012.06765,
section 3). `calibrate` learns from normal images how many nats are many, and `find`
scores and restores others.
"""

import math
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from pixelprior.anomalies.scores import (
    FLAG_RATES,
    PARTS,
    PIXEL_QUANTILES,
    Calibration,
    distances,
    score_parts,
)
from pixelprior.anomalies.search import (
    LOOKS,
    guided,
    images_per_batch,
    over_pixels,
    restore,
    seed_of,
    shifted_nats,
)
from pixelprior.checkpoints import fingerprint
from pixelprior.devices import evaluation_mode
from pixelprior.editing import codes_of, surprise
from pixelprior.prior import LEVELS, HierarchicalPixelCNN
from pixelprior.progress import progress_bar
from pixelprior.settings import SamplingOptions, check_positive
from pixelprior.vqvae2 import VQVAE2

# A code p-value is at least 1 / (N + 1), for the N images that give the nats.
LEAST_NORMAL = 2 * (math.ceil(1 / min(FLAG_RATES.values())) - 1)
SHARE_FOR_SCALE, LEAST_FOR_SCALE = 0.1, 10
FOR_MAPS = ("parts", "guided", "distance")  # of what `_searched` gives


@dataclass(frozen=True)
class Findings:
    """What is odd in B images, each with D restorations.

    Attributes:
        scores: float64 [B], on the CPU; higher is odder. They are of nats alone, and
            do not depend on the restorations.
        p_values: float64 [B], on the CPU, as in `Calibration.p_values`.
        maps: float [B, H, W], on the CPU: how odd each pixel is (`maps_of`).
        restorations: float [B, D, C, H, W] in [0, 1].
        weights: float [B, D], the share of each restoration in the map, 1 in all.
        flagged: by level, bool [B, h, w]: the codes that were drawn anew. They were
            judged given the restored codes before them; with a top code, those of the
            bottom under it are drawn anew too.
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
        largest = self.weights.argmax(1).cpu()
        return self.restorations[torch.arange(len(largest)), largest]

    @property
    def flagged_share(self) -> Tensor:
        """The share of each image's codes that were drawn anew, float [B]."""
        all_codes = torch.cat([each.flatten(1) for each in self.flagged.values()], 1)
        return all_codes.float().mean(1)


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

    Half of the images, drawn at random, give the nats of each position, a tenth (at
    least 10) the scale of the score, and the others their scores and the values of
    their maps. None of them should have been trained on, because such images cost fewer
    nats than new ones, nor be a copy of another. Images by which an epoch was chosen
    will do if they are many.

    Args:
        vqvae2, prior: trained on normal images; the images are processed on the device
            of the prior, and the VQ-VAE-2 is moved there.
        normal_images: float [N, C, H, W] in [0, 1].
        labels, draws: as in `find`, which has to be given labels too, and the same
            number of draws, since maps of more draws have other values.
        seed: of the division of the images and of the draws.

    Raises:
        ValueError: there are fewer than `LEAST_NORMAL` images, or as in `find`.
    """
    check_positive(draws=draws)
    with _undisturbed(vqvae2, prior, normal_images, labels, seed) as labels:
        reference, scaling, scored = division(len(normal_images), seed)

        def given(part: Tensor) -> tuple:
            return vqvae2, prior, normal_images[part], _of(labels, part)

        nats: dict[str, list] = {level: [] for level in LEVELS}
        for _, of_some, z, own in _batches(*given(reference)):
            nats["top"].append(guided(prior, of_some, own["top"], z[0], z[0]).cpu())
            nats["bottom"].append(own["bottom"].cpu())
        calibration = Calibration(
            nats={
                level: torch.cat(each).permute(1, 2, 0).sort(-1).values.contiguous()
                for level, each in nats.items()
            },
            centres=torch.zeros(len(PARTS)),
            scales=torch.ones(len(PARTS)),
            scores=torch.zeros(0).double(),
            pixels=torch.zeros(0),
            draws=draws,
            classes=None if labels is None else tuple(labels.unique().tolist()),
            models=(fingerprint(vqvae2), fingerprint(prior)),
        ).scaled_by(score_parts_of(*given(scaling)))
        kept, own_seed, total = [], seed_of(seed, LOOKS + 1), len(scored)
        with progress_bar(total=total, desc="calibrating", enabled=progress) as bar:
            for batch in _searched(*given(scored), calibration, own_seed):
                # Restorations would take much memory.
                kept.append({name: batch[name] for name in FOR_MAPS})
                bar.update(len(batch["parts"]))
    found = _joined(kept)
    scores = calibration.scores_of(found.pop("parts"))
    calibration = replace(calibration, scores=scores.sort().values)
    pixels = calibration.maps_of(scores, **found).flatten().numpy()
    quantiles = np.quantile(pixels, np.linspace(0, 1, PIXEL_QUANTILES))
    return replace(calibration, pixels=torch.from_numpy(quantiles).float())


def division(count: int, seed: int = 0) -> tuple[Tensor, ...]:
    """Which of so many normal images give the nats, the scale, and the scores, long.

    Raises:
        ValueError: there are fewer than `LEAST_NORMAL`.
    """
    if count < LEAST_NORMAL:
        raise ValueError(
            f"there are {count} normal images, too few to say what is odd; give at "
            f"least {LEAST_NORMAL}, and for a false-alarm rate of 1 % about 250"
        )
    half, for_scale = count // 2, max(LEAST_FOR_SCALE, int(SHARE_FOR_SCALE * count))
    order = torch.from_numpy(np.random.default_rng(seed).permutation(count))
    parts = order.tensor_split((half, half + for_scale))
    return tuple(part.sort().values for part in parts)


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
    with _undisturbed(vqvae2, prior, images, labels, seed, first_index) as labels:
        calibration.check_fits(vqvae2.grids, draws, labels)
        given = vqvae2, prior, images, labels
        found = _joined(list(_searched(*given, calibration, seed, first_index)))
    scores = calibration.scores_of(found["parts"])
    return Findings(
        scores,
        calibration.p_values(scores),
        calibration.maps_of(scores, found["guided"], found["distance"]),
        found["restorations"],
        found["weights"],
        flagged={level: found[f"flagged_{level}"] for level in LEVELS},
        nats={level: found[f"nats_{level}"] for level in LEVELS},
    )


def score_parts_of(vqvae2, prior, images: Tensor, labels=None) -> Tensor:
    """The parts of the scores of images, float [B, 5], as `score_parts` returns them.

    They do not depend on restorations, which are therefore not drawn.

    Args, and what is raised: as in `find`.
    """
    with _undisturbed(vqvae2, prior, images, labels) as labels:
        batches = _batches(vqvae2, prior, images, labels)
        parts = [score_parts(*_over_pixels(vqvae2, prior, *each)) for each in batches]
    return torch.cat(parts)


def _batches(vqvae2, prior, images, labels, draws: int = 1):
    """Some images after the other, with their labels, codes, and nats by level."""
    for part in torch.arange(len(images)).split(images_per_batch(vqvae2, draws)):
        some, of_some = images[part], _of(labels, part)
        z = codes_of(vqvae2, prior, some)
        yield some, of_some, z, surprise(prior, *z, of_some)


def _searched(vqvae2, prior, images, labels, calibration, seed, first_index=0):
    """For some images after the other, by name: the parts of their scores, what maps
    are made of (`guided` nats and `distance`), restorations, weights, flagged codes
    and nats."""
    for batch in _batches(vqvae2, prior, images, labels, calibration.draws):
        some, of_some, z, nats = batch
        of_top = guided(prior, of_some, nats["top"], z[0], z[0])
        restorations, weights, flagged = restore(
            vqvae2,
            prior,
            calibration,
            of_some,
            z,
            (of_top, nats["bottom"]),
            seed=seed,
            first_index=first_index,
        )
        over_top, over_bottom = _over_pixels(vqvae2, prior, *batch)
        yield {
            "parts": score_parts(over_top, over_bottom),
            "guided": over_top + over_pixels(of_top - nats["top"], some.shape[2:]),
            "distance": distances(some, restorations, weights),
            "restorations": restorations,
            "weights": weights,
            "flagged_top": flagged["top"],
            "flagged_bottom": flagged["bottom"],
            "nats_top": nats["top"],
            "nats_bottom": nats["bottom"],
        }
        first_index += len(some)


def _joined(batches: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([each[name] for each in batches]) for name in batches[0]}


def _over_pixels(vqvae2, prior, images, labels, _z, nats) -> tuple[Tensor, Tensor]:
    """The nats of both levels over pixels, from which scores are made, [B, H, W]."""
    top = shifted_nats(vqvae2, prior, images, labels, nats["top"])
    return top, over_pixels(nats["bottom"], images.shape[2:])


@contextmanager
def _undisturbed(vqvae2, prior, images, labels, seed=0, first_index=0):
    """Check arguments and give the labels as `PixelCNN.check_labels` does, with no
    gradients, in evaluation mode, and without autocast: a calibration and what is
    compared with it must be computed in the same number format."""
    SamplingOptions(seed=seed, first_index=first_index)
    vqvae2.check_images(images)
    prior.check_matches(vqvae2)
    if not len(images):
        raise ValueError("there are no images; give at least one")
    device = next(prior.parameters()).device
    with (
        torch.no_grad(),
        torch.autocast(device.type, enabled=False),
        evaluation_mode(prior),
        evaluation_mode(vqvae2),
    ):
        yield prior.prior_top.check_labels(labels, len(images))


def _of(labels: Tensor | None, part: Tensor) -> Tensor | None:
    """The labels of some images; None without labels."""
    return None if labels is None else labels[part]
