"""What one would use in place of `anomalies.find`, and how well each finds what is odd.

Images are compared by one number each, and pixels by the values of maps. No method here
sees a defect before it is measured; a classifier may have seen the classes that are odd
here.
"""

import math
import zlib
from collections import defaultdict
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.classification import (
    binary_auroc,
    binary_average_precision,
)

from pixelprior.anomalies.scores import score_parts, smooth
from pixelprior.anomalies.search import images_per_batch, over_pixels
from pixelprior.benchmark.report import markdown_table
from pixelprior.data.codes import smallest_integer_type
from pixelprior.data.images import ImageData
from pixelprior.editing import codes_of, surprise
from pixelprior.evaluation.measures import (
    NEIGHBOURS,
    bootstrap,
    mean_with_interval,
    outputs,
)
from pixelprior.prior import LEVELS

OURS = "find"  # nats of shifted copies; maps of restorations and nats
PIXEL_RATE = 0.01  # of normal pixels above the threshold of the Dice coefficient
PIXEL_ROUNDS = 20  # of the bootstrap by pixel, which sorts millions of values
AREAS = {"roc_auc": binary_auroc, "average_precision": binary_average_precision}
COLUMNS = {
    "roc_auc": "ROC, by image",
    "average_precision": "average precision, by image",
    "pixel_roc_auc": "ROC, by pixel",
    "pixel_roc_auc_within": "ROC within an image",
    "pixel_average_precision": "average precision, by pixel",
    "dice": "Dice",
}


@dataclass
class Judged:
    """What a method says about images."""

    scores: Tensor  # float64 [B]; higher is odder
    maps: Tensor | None = None  # float [B, H, W]

    def subset(self, which: Tensor) -> "Judged":
        maps = None if self.maps is None else self.maps[which]
        return Judged(self.scores[which], maps)


@torch.no_grad()
def others(
    vqvae2, prior, data: ImageData, labels, classifier=None, normal=None
) -> dict[str, Judged]:
    """What else one would use, by name; `labels` are long [B], or None, as in `find`.

    - "reconstruction error" of the VQ-VAE-2, squared, and by pixel.
    - "nats alone": those of all codes, and by pixel.
    - "largest nats": the scores of `find` without shifted copies, and not scaled.
    - "nats less complexity": after Serrà et al. 2020 (arXiv 1909.11480, equation 1),
      who compress the pixels on whose likelihood they look; here, the nats of the codes
      less those of their bytes, compressed by zlib.
    - "nearest neighbours", if a `Classifier` and normal `ImageData` are given: in its
      features, the mean distance to the nearest `NEIGHBOURS` normal images, of the same
      class if there are labels.
    """
    scores, maps = defaultdict(list), defaultdict(list)
    for part in torch.arange(len(data)).split(images_per_batch(vqvae2)):
        images, _ = data[part]
        z = codes_of(vqvae2, prior, images)
        nats = surprise(prior, *z, labels=None if labels is None else labels[part])
        apart = (images - vqvae2.decode_codes(*z).cpu()).abs()
        scores["reconstruction error"].append(apart.double().square().mean((1, 2, 3)))
        maps["reconstruction error"].append(smooth(apart.mean(1), 1))
        total = sum(each.cpu().double().sum((1, 2)) for each in nats.values())
        over = [over_pixels(nats[level], images.shape[2:]) for level in LEVELS]
        pixels = sum(each * grid[0].numel() for each, grid in zip(over, z, strict=True))
        scores["nats alone"].append(total)
        maps["nats alone"].append(smooth(pixels, 1))
        scores["largest nats"].append(score_parts(*over).double().sum(1))
        packed = torch.tensor([_complexity(*each) for each in zip(*z, strict=True)])
        scores["nats less complexity"].append(total - packed)
    found = {
        name: Judged(torch.cat(each), torch.cat(maps[name]) if name in maps else None)
        for name, each in scores.items()
    }
    if classifier is not None:
        device, see = next(classifier.parameters()).device, classifier.features
        features, known = (outputs(see, each, device) for each in (data, normal))
        apart = torch.cdist(features.double(), known.double())
        if labels is not None:
            apart = apart.masked_fill(data.labels[:, None] != normal.labels, math.inf)
        near = apart.topk(NEIGHBOURS, largest=False).values
        found["nearest neighbours"] = Judged(near.mean(1))
    return found


def _complexity(*grids: Tensor) -> float:
    """The nats that zlib needs for the codes of an image."""
    kind = smallest_integer_type(1 + max(int(grid.max()) for grid in grids))
    codes = b"".join(grid.cpu().to(kind).numpy().tobytes() for grid in grids)
    return 8 * len(zlib.compress(codes, 9)) * math.log(2)


def measured(
    methods: dict[str, tuple[Judged, Judged]],
    masks: Tensor | None = None,
    *,
    thresholds: dict[str, float] | None = None,
    seed: int = 0,
) -> dict[str, dict]:
    """How well each method tells odd images, and odd pixels, from normal ones.

    Args:
        methods: by name, what it says of normal images and of odd ones.
        masks: bool [B, H, W], the odd pixels of the odd images; None measures images
            alone. All pixels of normal images count, and all those of odd images that
            have an odd one.
        thresholds: of the maps, by name, for the Dice coefficient of the odd images.
        seed: of the intervals.

    Returns:
        By name: those of `COLUMNS` that there are images for, each with an interval
        over images. "pixel_roc_auc_within" is the mean of the areas within each image
        that has pixels of both kinds.
    """
    results, thresholds = {}, thresholds or {}
    for name, (normal, odd) in methods.items():
        found = _areas(normal.scores, odd.scores, seed)
        if masks is not None and odd.maps is not None and masks.any():
            shown = masks.flatten(1).any(1)
            maps, threshold = (normal.maps, odd.maps[shown]), thresholds.get(name)
            found |= _by_pixel(*maps, masks[shown], threshold, seed)
        results[name] = found
    return results


def ranks(*values: Tensor) -> list[Tensor]:
    """The shares of all values below each one. torchmetrics would take the sigmoid of
    numbers outside [0, 1], and measures of ranks do not need their values."""
    together = torch.cat([each.flatten() for each in values]).sort().values
    return [
        torch.searchsorted(together, each.contiguous()) / len(together)
        for each in values
    ]


def pooled(low: Tensor, high: Tensor, masks: Tensor | None = None):
    """The values of normal and of odd images [N], and which are odd, 0 or 1, long [N].
    `masks` says which of `high` are odd; None is all."""
    odd = torch.ones_like(high) if masks is None else masks
    target = F.pad(odd.flatten().long(), (low.numel(), 0))
    return torch.cat([low.flatten(), high.flatten()]), target


def _areas(normal: Tensor, odd: Tensor, seed: int, masks=None, rounds=1000) -> dict:
    low, high = ranks(normal, odd)
    numbers = [torch.arange(len(each)) for each in (low, high)]
    options = {"paired": False, "rounds": rounds, "seed": seed}

    def at(area, one: Tensor, other: Tensor) -> Tensor:
        shown = None if masks is None else masks[other]
        return area(*pooled(low[one], high[other], shown))

    return {
        name: bootstrap(partial(at, area), *numbers, **options)
        for name, area in AREAS.items()
    }


def _by_pixel(normal: Tensor, odd: Tensor, masks: Tensor, threshold, seed: int) -> dict:
    """The measures of maps [B, H, W], of odd images that have an odd pixel each."""
    areas = _areas(normal, odd, seed, masks, PIXEL_ROUNDS)
    found = {f"pixel_{name}": area for name, area in areas.items()}
    partly = ~masks.flatten(1).all(1)
    within = [
        binary_auroc(ranks(values)[0].flatten(), mask.flatten().long()).item()
        for values, mask in zip(odd[partly], masks[partly], strict=True)
    ]
    if within:
        areas = torch.tensor(within).double()
        found["pixel_roc_auc_within"] = mean_with_interval(areas, seed)
    if threshold is not None:
        above = odd > threshold
        pixels = [each.flatten(1).sum(1) for each in (above & masks, above, masks)]
        found["dice"] = bootstrap(
            lambda hit, above, mask: 2 * hit.sum() / (above.sum() + mask.sum()),
            *(each.double() for each in pixels),
            seed=seed,
        )
    return found


def detection_table(results: dict) -> str:
    """The measures of each method in Markdown, each with half of its interval.
    `results` has "methods", as `measured` returns them, and "images", how many."""
    counts = results["images"]
    below = f"{counts['normal']:,} normal images and {counts['defects']:,} with defects"
    methods = results.get("methods")
    if methods is None:
        return f"- {below} could be read; to be measured, both kinds are needed"
    names = [name for name in COLUMNS if any(name in each for each in methods.values())]
    rows = [
        [method, *(plus_minus(found[of], 3) if of in found else "" for of in names)]
        for method, found in methods.items()
    ]
    columns = ["method", *(COLUMNS[name] for name in names)]
    return f"{markdown_table(columns, rows)}\n\n- {below}"


def plus_minus(measure: dict, decimals: int, unit: float = 1) -> str:
    """A value and half of its interval, in multiples of 1 / `unit`."""
    half = (measure["high"] - measure["low"]) / 2
    return f"{unit * measure['value']:.{decimals}f} ± {unit * half:.{decimals}f}"
