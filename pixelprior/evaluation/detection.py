"""How well what is odd is found, by `anomalies.find` and by what else one would use.

Images are compared by one number each, and pixels by the values of maps. All methods
see the same images, and none of them sees a defect before it is measured.
"""

import time
import zlib
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.classification import (
    binary_auroc,
    binary_average_precision,
)

from pixelprior.anomalies import calibrate, find
from pixelprior.anomaly_scores import Calibration, smooth
from pixelprior.anomaly_search import codes_of, over_pixels
from pixelprior.data import ImageData
from pixelprior.editing import surprise
from pixelprior.evaluation.classifier import outputs
from pixelprior.evaluation.defects import KINDS, DefectData
from pixelprior.evaluation.measures import bootstrap
from pixelprior.prior import LEVELS

OURS = "restorations and nats"
RATES = (0.01, 0.05)  # false alarms
PIXEL_RATE = 0.01  # of normal pixels above the threshold of the Dice coefficient
PIXEL_ROUNDS = 20  # of the bootstrap by pixel, which sorts millions of values
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


def ours(
    vqvae2, prior, data: ImageData, calibration: Calibration, labels, **options
) -> tuple[Judged, Tensor]:
    """What `find` says, and its p-values, float64 [B]."""
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
            first_index=int(part[0]),
            **options,
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
    - "nats less complexity" (Serrà et al. 2020, arXiv 1909.11480, equation 1): nats
      less those of the codes' bytes, compressed by zlib.
    - "nearest neighbours" in the classifier's features: the mean distance to the
      nearest `NEIGHBOURS` normal images.

    Args:
        labels: long [B], or None, as in `find`.
        classifier, normal: a `Classifier`, and the normal `ImageData` to look for
            neighbours in; None leaves these out.
    """
    judged: dict[str, list[Judged]] = {}
    for part in torch.arange(len(data)).split(250):
        images, _ = data[part]
        z = codes_of(vqvae2, prior, images)
        nats = surprise(prior, *z, None if labels is None else labels[part])
        apart = (images - vqvae2.decode_codes(*z).cpu()).abs()
        error = Judged(
            apart.double().square().mean((1, 2, 3)), smooth(apart.mean(1), 1)
        )
        total = sum(each.double().sum((1, 2)).cpu() for each in nats.values())
        pixels = sum(
            over_pixels(nats[level], images.shape[2:]) * grid[0].numel()
            for level, grid in zip(LEVELS, z, strict=True)
        )
        simple = total - torch.tensor(
            [_complexity(*each) for each in zip(*z, strict=True)]
        )
        found = {
            "reconstruction error": error,
            "nats alone": Judged(total, smooth(pixels, 1)),
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
        near = torch.cdist(features, known).topk(NEIGHBOURS, largest=False).values
        whole["nearest neighbours"] = Judged(near.mean(1))
    return whole


def _complexity(*grids: Tensor) -> float:
    """The nats that zlib needs for the codes of an image."""
    codes = b"".join(grid.cpu().to(torch.int32).numpy().tobytes() for grid in grids)
    return 8 * len(zlib.compress(codes, 9)) * float(torch.log(torch.tensor(2.0)))


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
            alone. All pixels of both kinds of images count.
        thresholds: of the maps, by name, for the Dice coefficient of the odd images.
        seed: of the intervals.

    Returns:
        By name: "roc_auc" and "average_precision" by image, and with masks
        "pixel_roc_auc", "pixel_average_precision" and "dice", each with an interval
        over images.
    """
    results = {}
    for name, (normal, odd) in methods.items():
        found = {
            "roc_auc": _by_image(binary_auroc, normal, odd, seed),
            "average_precision": _by_image(binary_average_precision, normal, odd, seed),
        }
        if masks is not None and odd.maps is not None:
            found["pixel_roc_auc"] = _by_pixel(binary_auroc, normal, odd, masks, seed)
            found["pixel_average_precision"] = _by_pixel(
                binary_average_precision, normal, odd, masks, seed
            )
            if name in (thresholds or {}):
                above = odd.maps > thresholds[name]
                counts = [
                    each.flatten(1).sum(1).double()
                    for each in (above & masks, above, masks)
                ]
                found["dice"] = bootstrap(
                    lambda hit, above, mask: 2 * hit.sum() / (above.sum() + mask.sum()),
                    *counts,
                    seed=seed,
                )
        results[name] = found
    return results


def _ranked(*values: Tensor) -> list[Tensor]:
    """The shares of all values below each one, which a measure of ranks may take."""
    pooled = torch.cat([each.flatten() for each in values]).sort().values
    return [
        torch.searchsorted(pooled, each.contiguous()) / len(pooled) for each in values
    ]


def _by_image(measure, normal: Judged, odd: Judged, seed: int) -> dict:
    ranked = _ranked(normal.scores, odd.scores)

    def statistic(low: Tensor, high: Tensor) -> Tensor:
        target = torch.cat([torch.zeros(len(low)), torch.ones(len(high))]).long()
        return measure(torch.cat([low, high]), target)

    return bootstrap(statistic, *ranked, paired=False, seed=seed)


def _by_pixel(measure, normal: Judged, odd: Judged, masks: Tensor, seed: int) -> dict:
    low, high = _ranked(normal.maps, odd.maps)

    def statistic(of_normal: Tensor, of_odd: Tensor) -> Tensor:
        pixels = torch.cat([low[of_normal].flatten(), high[of_odd].flatten()])
        target = F.pad(masks[of_odd].flatten().long(), (low[of_normal].numel(), 0))
        return measure(pixels, target)

    numbers = (torch.arange(len(each)) for each in (low, high))
    return bootstrap(statistic, *numbers, paired=False, rounds=PIXEL_ROUNDS, seed=seed)


def evaluate_defects(
    vqvae2,
    prior,
    reference: ImageData,
    normal: ImageData,
    defects: DefectData,
    *,
    classifier=None,
    labelled: bool = True,
    draws: int = 8,
    seed: int = 0,
    say=lambda line: None,
) -> dict:
    """All methods on normal images and on images with defects.

    Args:
        vqvae2, prior: in evaluation mode, on one device.
        reference: normal images to calibrate on, that were not trained on.
        normal, defects: other images.
        classifier: for the nearest neighbours, which are looked for in `reference`.
        labelled: whether the methods are told the class that each image should be of.
        draws, seed: as in `find`.
        say: called with a line for each part.

    Returns:
        {"methods": as `measured` returns them; "by_kind": by kind of defect and
        method, the area under the ROC curve by image and by pixel; "false_alarms": by
        rate, the share of normal images with a p-value of at most the rate, with its
        interval; "milliseconds_per_image": of `find`; "images": how many of each}.
    """
    say(f"calibrating on {len(reference):,} images")
    of = [
        each.labels if labelled else None
        for each in (reference, normal, defects.images)
    ]
    images, _ = reference[:]
    calibration = calibrate(vqvae2, prior, images, of[0], draws=draws, seed=seed)
    say(f"{len(normal):,} normal images and {len(defects):,} with defects")
    started = time.perf_counter()
    (low, p_values), (high, _) = (
        ours(vqvae2, prior, data, calibration, labels, seed=seed)
        for data, labels in zip((normal, defects.images), of[1:], strict=True)
    )
    seconds = time.perf_counter() - started
    methods = {OURS: (low, high)}
    say("other methods")
    lower, higher = (
        others(vqvae2, prior, data, labels, classifier, reference)
        for data, labels in zip((normal, defects.images), of[1:], strict=True)
    )
    methods |= {name: (lower[name], higher[name]) for name in lower}
    thresholds = {OURS: calibration.map_threshold(PIXEL_RATE)}
    return {
        "methods": measured(methods, defects.masks, thresholds=thresholds, seed=seed),
        "by_kind": {
            kind: _of_kind(methods, defects, number)
            for number, kind in enumerate(KINDS)
        },
        "false_alarms": {
            str(rate): bootstrap(
                lambda each: each.mean(), (p_values <= rate).double(), seed=seed
            )
            for rate in RATES
        },
        "milliseconds_per_image": 1000 * seconds / (len(normal) + len(defects)),
        "images": {
            "calibration": len(reference),
            "normal": len(normal),
            "defects": len(defects),
        },
        "draws": draws,
    }


def _of_kind(methods, defects: DefectData, kind: int) -> dict:
    """The areas under the ROC curve of each method on one kind of defect."""
    of_kind = defects.kinds == kind
    found = {}
    for name, (normal, odd) in methods.items():
        some = Judged(
            odd.scores[of_kind], None if odd.maps is None else odd.maps[of_kind]
        )
        low, high = _ranked(normal.scores, some.scores)
        target = F.pad(torch.ones(len(high)), (len(low), 0)).long()
        found[name] = {"roc_auc": binary_auroc(torch.cat([low, high]), target).item()}
        if some.maps is not None:
            low, high = _ranked(normal.maps, some.maps)
            target = F.pad(defects.masks[of_kind].flatten().long(), (low.numel(), 0))
            pixels = torch.cat([low.flatten(), high.flatten()])
            found[name]["pixel_roc_auc"] = binary_auroc(pixels, target).item()
    return found
