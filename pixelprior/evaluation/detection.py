"""How well what is odd is found, by `anomalies.find` and by what else one would use.

Images are compared by one number each, and pixels by the values of maps. All methods
see the same images.
"""

import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.classification import (
    binary_auroc,
    binary_average_precision,
)

from pixelprior.anomalies.finding import calibrate, score_parts_of
from pixelprior.data.images import ImageData
from pixelprior.evaluation.alarms import alarms_over_divisions, rates_for
from pixelprior.evaluation.defects import KINDS, DefectData
from pixelprior.evaluation.detectors import OURS, Judged, others, ours
from pixelprior.evaluation.measures import bootstrap, mean_with_interval

PIXEL_RATE = 0.01  # of normal pixels above the threshold of the Dice coefficient
PIXEL_ROUNDS = 20  # of the bootstrap by pixel, which sorts millions of values


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
        By name: "roc_auc" and "average_precision" by image, and with masks
        "pixel_roc_auc", "pixel_average_precision", "pixel_roc_auc_within", which is the
        mean of the areas within each image that has pixels of both kinds, and "dice",
        each with an interval over images. Measures that no image has are left out.
    """
    results = {}
    for name, (normal, odd) in methods.items():
        found = {
            "roc_auc": _by_image(binary_auroc, normal, odd, seed),
            "average_precision": _by_image(binary_average_precision, normal, odd, seed),
        }
        if masks is not None and odd.maps is not None and masks.any():
            shown = masks.flatten(1).any(1)
            threshold = (thresholds or {}).get(name)
            found |= _by_pixels(
                normal, odd.subset(shown), masks[shown], threshold, seed
            )
        results[name] = found
    return results


def _by_pixels(normal: Judged, odd: Judged, masks: Tensor, threshold, seed: int):
    """The measures of maps, of odd images that have an odd pixel each."""
    found = {
        "pixel_roc_auc": _by_pixel(binary_auroc, normal, odd, masks, seed),
        "pixel_average_precision": _by_pixel(
            binary_average_precision, normal, odd, masks, seed
        ),
    }
    areas = _within(odd, masks)
    if len(areas):
        found["pixel_roc_auc_within"] = mean_with_interval(areas, seed)
    if threshold is not None:
        above = odd.maps > threshold
        counts = [
            each.flatten(1).sum(1).double() for each in (above & masks, above, masks)
        ]
        found["dice"] = bootstrap(
            lambda hit, above, mask: 2 * hit.sum() / (above.sum() + mask.sum()),
            *counts,
            seed=seed,
        )
    return found


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


def quantile(maps: Tensor, share: float) -> float:
    """The value below which a share of all values of maps is."""
    return float(np.quantile(maps.numpy(), share))


def _within(odd: Judged, masks: Tensor) -> Tensor:
    """The area under the ROC curve by pixel within each image, float64 [n]; images
    whose pixels are all odd have none."""
    areas = []
    partly = ~masks.flatten(1).all(1)
    for values, mask in zip(odd.maps[partly], masks[partly], strict=True):
        (ranked,) = _ranked(values)
        areas.append(binary_auroc(ranked.flatten(), mask.flatten().long()).item())
    return torch.tensor(areas).double()


def evaluate_defects(
    vqvae2,
    prior,
    reference: ImageData,
    normal: ImageData,
    defects: DefectData,
    *,
    more_normal: ImageData | None = None,
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
        more_normal: images to count false alarms on over many divisions of `reference`;
            `normal` may be among them. None leaves this out.
        classifier: for the nearest neighbours, which are looked for in `reference`.
        labelled: whether the methods are told the class that each image should be of.
        draws, seed: as in `find`.
        say: called with a line for each part.

    Returns:
        {"methods": as `measured` returns them; "by_kind": by kind of defect and
        method, the area under the ROC curve by image and by pixel; "false_alarms": by
        rate, the share of normal images with a p-value of at most the rate, with its
        interval, where there are enough normal images for it; with `more_normal`,
        "false_alarms_over_divisions": as `alarms_over_divisions` returns them;
        "seconds_of_calibration"; "milliseconds_per_image": of `find`; "images": how
        many of each; "draws"}.
    """
    say(f"calibrating on {len(reference):,} images")
    of = [
        each.labels if labelled else None
        for each in (reference, normal, defects.images)
    ]
    images, _ = reference[:]
    started = time.perf_counter()
    calibration = calibrate(vqvae2, prior, images, of[0], draws=draws, seed=seed)
    calibrated = time.perf_counter() - started
    say(f"{len(normal):,} normal images and {len(defects):,} with defects")
    started = time.perf_counter()
    (low, p_values), (high, _) = (
        ours(
            vqvae2,
            prior,
            data,
            calibration,
            labels,
            seed=seed,
            first_index=first,
        )
        for data, labels, first in zip(
            (normal, defects.images), of[1:], (0, len(normal)), strict=True
        )
    )
    seconds = time.perf_counter() - started
    methods = {OURS: (low, high)}
    say("other methods")
    usual, lower, higher = (
        others(vqvae2, prior, data, labels, classifier, reference)
        for data, labels in zip((reference, normal, defects.images), of, strict=True)
    )
    methods |= {name: (lower[name], higher[name]) for name in lower}
    thresholds = {OURS: calibration.map_threshold(PIXEL_RATE)} | {
        name: quantile(each.maps, 1 - PIXEL_RATE)
        for name, each in usual.items()
        if each.maps is not None
    }
    over_divisions = {}
    if more_normal is not None:
        say(f"false alarms on {len(more_normal):,} normal images")
        parts = (
            _score_parts(vqvae2, prior, data, labelled)
            for data in (reference, more_normal)
        )
        over_divisions = {
            "false_alarms_over_divisions": alarms_over_divisions(
                calibration, *parts, seed=seed
            )
        }
    return {
        "methods": measured(methods, defects.masks, thresholds=thresholds, seed=seed),
        "by_kind": {
            kind: _of_kind(methods, defects, number)
            for number, kind in enumerate(KINDS)
            if (defects.kinds == number).any()
        },
        "false_alarms": {
            str(rate): mean_with_interval((p_values <= rate).double(), seed)
            for rate in rates_for(len(calibration.scores))
        },
        **over_divisions,
        "seconds_of_calibration": calibrated,
        "milliseconds_per_image": 1000 * seconds / (len(normal) + len(defects)),
        "images": {
            "calibration": len(reference),
            "normal": len(normal),
            "defects": len(defects),
        },
        "draws": draws,
    }


def _score_parts(vqvae2, prior, data: ImageData, labelled: bool) -> Tensor:
    """The parts of the scores of many images, float [N, 5]."""
    parts = []
    for part in torch.arange(len(data)).split(256):
        images, labels = data[part]
        some = labels if labelled else None
        parts.append(score_parts_of(vqvae2, prior, images, some))
    return torch.cat(parts)


def _of_kind(methods, defects: DefectData, kind: int) -> dict:
    """The areas under the ROC curve of each method on one kind of defect."""
    of_kind = defects.kinds == kind
    found = {}
    for name, (normal, odd) in methods.items():
        some = odd.subset(of_kind)
        low, high = _ranked(normal.scores, some.scores)
        target = F.pad(torch.ones(len(high)), (len(low), 0)).long()
        found[name] = {"roc_auc": binary_auroc(torch.cat([low, high]), target).item()}
        if some.maps is not None:
            low, high = _ranked(normal.maps, some.maps)
            target = F.pad(defects.masks[of_kind].flatten().long(), (low.numel(), 0))
            pixels = torch.cat([low.flatten(), high.flatten()])
            found[name]["pixel_roc_auc"] = binary_auroc(pixels, target).item()
    return found


COLUMNS = {
    "roc_auc": "ROC, by image",
    "average_precision": "average precision, by image",
    "pixel_roc_auc": "ROC, by pixel",
    "pixel_roc_auc_within": "ROC within an image",
    "pixel_average_precision": "average precision, by pixel",
    "dice": "Dice",
}


def detection_table(results: dict) -> str:
    """The measures of each method in Markdown, each with half of its interval.

    Args:
        results: {"methods": as `measured` returns them, "images": how many of each}.
    """
    counts = results["images"]
    below = f"{counts['normal']:,} normal images and {counts['defects']:,} with defects"
    methods = results.get("methods")
    if methods is None:
        return f"- {below} could be read; to be measured, both kinds are needed"
    names = [name for name in COLUMNS if any(name in each for each in methods.values())]
    lines = [
        f"| method | {' | '.join(COLUMNS[name] for name in names)} |",
        "|---" + "|---:" * len(names) + "|",
    ]
    for method, measures in methods.items():
        cells = [
            _plus_minus(measures[name], 3) if name in measures else "" for name in names
        ]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"- {below}"])


def defects_markdown(results: dict) -> str:
    """What `evaluate_defects` returns in Markdown: the measures of each method, false
    alarms and time, and the areas under the ROC curve by kind of defect."""
    kinds, alarms = results["by_kind"], results["false_alarms"]
    many = results.get("false_alarms_over_divisions")
    columns = list(results["methods"])
    lines = [
        detection_table(results),
        *(
            f"- false alarms at a rate of {100 * float(rate):g} %: "
            f"{_plus_minus(each, 1, percent=True)} %"
            for rate, each in alarms.items()
        ),
        *(
            f"- over {many['divisions']} divisions of the images to calibrate on, on "
            f"{many['images']:,} normal images, the mean of the false alarms at a rate "
            f"of {100 * float(rate):g} %: {_plus_minus(each, 2, percent=True)} %; 95 % "
            f"of the divisions have {100 * each['lowest']:.1f} to "
            f"{100 * each['highest']:.1f} %"
            for rate, each in (many["rates"] if many else {}).items()
        ),
        f"- calibrated on {results['images']['calibration']:,} normal images in "
        f"{results['seconds_of_calibration']:.0f} s; "
        f"{results['milliseconds_per_image']:.0f} ms per image, with "
        f"{results['draws']} restorations",
        "",
        f"| kind of defect (ROC by image, by pixel) | {' | '.join(columns)} |",
        "|---" + "|---:" * len(columns) + "|",
    ]
    for kind, methods in kinds.items():
        cells = (
            ", ".join(f"{each:.3f}" for each in methods[name].values())
            for name in columns
        )
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _plus_minus(measure: dict, decimals: int, percent: bool = False) -> str:
    """A value and half of its interval."""
    unit = 100 if percent else 1
    half = (measure["high"] - measure["low"]) / 2
    return f"{unit * measure['value']:.{decimals}f} ± {unit * half:.{decimals}f}"
