"""What says how odd an image is, and each of its pixels: `anomalies.find`, and others.

None sees a defect before it is measured; a classifier may have seen the classes that
are odd here.
"""

import math
import zlib
from dataclasses import dataclass

import torch
from torch import Tensor

from pixelprior.anomalies.finding import find
from pixelprior.anomalies.scores import Calibration, score_parts, smooth
from pixelprior.anomalies.search import images_per_batch, over_pixels
from pixelprior.data.codes import smallest_integer_type
from pixelprior.data.images import ImageData
from pixelprior.editing import codes_of, surprise
from pixelprior.evaluation.classifier import outputs
from pixelprior.prior import LEVELS

OURS = "find"  # nats of shifted copies; maps of restorations and nats
NEIGHBOURS = 3


@dataclass
class Judged:
    """What a method says about images.

    Attributes:
        scores: float64 [B]; higher is odder.
        maps: float [B, H, W], or None from a method without maps.
    """

    scores: Tensor
    maps: Tensor | None = None

    def subset(self, which: Tensor) -> "Judged":
        """What it says about some of the images; `which` is bool [B]."""
        return Judged(
            self.scores[which], None if self.maps is None else self.maps[which]
        )


def ours(
    vqvae2,
    prior,
    data: ImageData,
    calibration: Calibration,
    labels,
    *,
    seed: int = 0,
    first_index: int = 0,
) -> tuple[Judged, Tensor]:
    """What `find` says, and its p-values, float64 [B].

    Args: as those of `find`; `data` are the images.
    """
    scores, maps, p_values = [], [], []
    for part in torch.arange(len(data)).split(256):
        images, _ = data[part]
        some = None if labels is None else labels[part]
        found = find(
            vqvae2,
            prior,
            images,
            calibration,
            some,
            draws=calibration.draws,
            seed=seed,
            first_index=first_index + int(part[0]),
        )
        scores.append(found.scores)
        maps.append(found.maps)
        p_values.append(found.p_values)
    return Judged(torch.cat(scores), torch.cat(maps)), torch.cat(p_values)


@torch.no_grad()
def others(
    vqvae2, prior, data: ImageData, labels, classifier=None, normal=None
) -> dict[str, Judged]:
    """What else one would use, by name.

    - "reconstruction error" of the VQ-VAE-2, squared, and by pixel.
    - "nats alone": those of all codes, and by pixel.
    - "largest nats": the scores of `find` without shifted copies, and not scaled.
    - "nats less complexity": after Serrà et al. 2020 (arXiv 1909.11480, equation 1),
      who compress the pixels on whose likelihood they look; here, the nats of the codes
      less those of their bytes, compressed by zlib.
    - "nearest neighbours" in the classifier's features: the mean distance to the
      nearest `NEIGHBOURS` normal images, of the same class if there are labels.

    Args:
        labels: long [B], or None, as in `find`.
        classifier, normal: a `Classifier`, and the normal `ImageData` to look for
            neighbours in; None leaves these out.
    """
    judged: dict[str, list[Judged]] = {}
    for part in torch.arange(len(data)).split(images_per_batch(vqvae2)):
        images, _ = data[part]
        z = codes_of(vqvae2, prior, images)
        nats = surprise(prior, *z, None if labels is None else labels[part])
        apart = (images - vqvae2.decode_codes(*z).cpu()).abs()
        error = Judged(
            apart.double().square().mean((1, 2, 3)), smooth(apart.mean(1), 1)
        )
        total = sum(each.cpu().double().sum((1, 2)) for each in nats.values())
        sides = images.shape[2:]
        over = [over_pixels(nats[level], sides) for level in LEVELS]
        pixels = sum(each * grid[0].numel() for each, grid in zip(over, z, strict=True))
        largest = score_parts(*over).double().sum(1)
        simple = total - torch.tensor(
            [_complexity(*each) for each in zip(*z, strict=True)]
        )
        found = {
            "reconstruction error": error,
            "nats alone": Judged(total, smooth(pixels, 1)),
            "largest nats": Judged(largest),
            "nats less complexity": Judged(simple),
        }
        for name, each in found.items():
            judged.setdefault(name, []).append(each)
    whole = {
        name: Judged(
            torch.cat([each.scores for each in parts]),
            None if parts[0].maps is None else torch.cat([each.maps for each in parts]),
        )
        for name, parts in judged.items()
    }
    if classifier is not None:
        device = next(classifier.parameters()).device
        features, known = (
            outputs(classifier.features, each, device=device).double()
            for each in (data, normal)
        )
        apart = torch.cdist(features, known)
        if labels is not None:
            other = data.labels[:, None] != normal.labels
            apart = apart.masked_fill(other, math.inf)
        near = apart.topk(NEIGHBOURS, largest=False).values
        whole["nearest neighbours"] = Judged(near.mean(1))
    return whole


def _complexity(*grids: Tensor) -> float:
    """The nats that zlib needs for the codes of an image."""
    kind = smallest_integer_type(1 + max(int(grid.max()) for grid in grids))
    codes = b"".join(grid.cpu().to(kind).numpy().tobytes() for grid in grids)
    return 8 * len(zlib.compress(codes, 9)) * math.log(2)
