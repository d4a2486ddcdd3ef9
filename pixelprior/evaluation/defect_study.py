"""The study in docs/anomalies.md: all methods on images with made defects, and false
alarms over many divisions of the images to calibrate on. `tools/try_anomalies.py` runs
it.
"""

import time
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc

from pixelprior.anomalies.finding import calibrate, division, find, score_parts_of
from pixelprior.anomalies.scores import Calibration, least_rate
from pixelprior.benchmark.report import markdown_table
from pixelprior.data.images import ImageData
from pixelprior.evaluation.defects import KINDS, DefectData
from pixelprior.evaluation.detectors import (
    OURS,
    PIXEL_RATE,
    Judged,
    detection_table,
    measured,
    others,
    plus_minus,
    pooled,
    ranks,
)
from pixelprior.evaluation.measures import mean_with_interval

RATES = (0.01, 0.05)
DIVISIONS = 200


def evaluate_defects(
    vqvae2,
    prior,
    reference: ImageData,
    normal: ImageData,
    defects: DefectData,
    *,
    more_normal: ImageData,
    classifier,
    draws: int = 8,
    seed: int = 0,
    say=lambda line: None,
) -> dict:
    """All methods on normal images and on images with defects, of known classes.

    Args:
        vqvae2, prior: in evaluation mode, on one device.
        reference: normal images to calibrate on, that were not trained on.
        normal, defects: other images.
        more_normal: images to count false alarms on over many divisions of `reference`.
        classifier: for the nearest neighbours, which are looked for in `reference`.
        draws, seed: as in `find`.
        say: called with a line for each part.
    """
    say(f"calibrating on {len(reference):,} images")
    started = time.perf_counter()
    calibration = calibrate(vqvae2, prior, *reference[:], draws=draws, seed=seed)
    calibrated = time.perf_counter() - started
    say(f"{len(normal):,} normal images and {len(defects):,} with defects")
    started, pair = time.perf_counter(), (vqvae2, prior)
    low, p_values = ours(*pair, normal, calibration, normal.labels, seed=seed)
    odd, first = defects.images, len(normal)
    high, _ = ours(*pair, odd, calibration, odd.labels, seed=seed, first_index=first)
    seconds = time.perf_counter() - started
    say("other methods")
    usual, lower, higher = (
        others(*pair, data, data.labels, classifier, reference)
        for data in (reference, normal, odd)
    )
    methods = {OURS: (low, high)} | {
        name: (lower[name], higher[name]) for name in lower
    }
    thresholds = {OURS: calibration.map_threshold(PIXEL_RATE)} | {
        name: float(np.quantile(each.maps.numpy(), 1 - PIXEL_RATE))
        for name, each in usual.items()
        if each.maps is not None
    }
    say(f"false alarms on {len(more_normal):,} normal images")
    parts = (
        torch.cat([score_parts_of(*pair, *data[part]) for part in _parts(data)])
        for data in (reference, more_normal)
    )
    by_kind = {
        kind: {
            name: _areas(each, judged.subset(of), defects.masks[of])
            for name, (each, judged) in methods.items()
        }
        for number, kind in enumerate(KINDS)
        if (of := defects.kinds == number).any()
    }
    return {
        "methods": measured(methods, defects.masks, thresholds=thresholds, seed=seed),
        "by_kind": by_kind,
        "false_alarms": {
            str(rate): mean_with_interval((p_values <= rate).double(), seed)
            for rate in rates_for(len(calibration.scores))
        },
        "false_alarms_over_divisions": alarms_over_divisions(
            calibration, *parts, seed=seed
        ),
        "seconds_of_calibration": calibrated,
        "milliseconds_per_image": 1000 * seconds / (len(normal) + len(defects)),
        "images": {
            "calibration": len(reference),
            "normal": len(normal),
            "defects": len(defects),
        },
        "draws": draws,
    }


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
    """What `find` says, and its p-values, float64 [B]; arguments as those of `find`."""
    parts = []
    for part in _parts(data):
        some = None if labels is None else labels[part]
        draw = {"draws": calibration.draws, "seed": seed}
        draw["first_index"] = first_index + int(part[0])
        parts.append(find(vqvae2, prior, data[part][0], calibration, some, **draw))
    scores, maps, p_values = (
        torch.cat([getattr(found, name) for found in parts])
        for name in ("scores", "maps", "p_values")
    )
    return Judged(scores, maps), p_values


def _parts(data: ImageData) -> tuple[Tensor, ...]:
    return torch.arange(len(data)).split(256)


def _areas(normal: Judged, odd: Judged, masks: Tensor) -> dict[str, float]:
    """The areas under the ROC curve by image, and by pixel from a method with maps."""

    def area(low: Tensor, high: Tensor, masks=None) -> float:
        return binary_auroc(*pooled(*ranks(low, high), masks)).item()

    found = {"roc_auc": area(normal.scores, odd.scores)}
    if odd.maps is not None:
        found["pixel_roc_auc"] = area(normal.maps, odd.maps, masks)
    return found


def rates_for(count: int) -> list[float]:
    """Those of `RATES` that p-values can be as small as, for so many normal scores."""
    return [rate for rate in RATES if rate >= least_rate(count)]


def alarms_over_divisions(
    calibration: Calibration,
    reference: Tensor,
    others: Tensor,
    *,
    divisions: int = DIVISIONS,
    seed: int = 0,
) -> dict:
    """How often normal images are flagged, over calibrations that divide the same
    images in different ways, as a mean. With a single calibration, the share of false
    alarms differs from its rate by chance, since few images give the scores.

    Args:
        calibration: any; its scale and its scores are replaced.
        reference, others: float [N, 5] and [M, 5], the parts of the scores, as
            `anomalies.score_parts_of` returns them: of the images to calibrate on, and
            of other normal images.
        divisions: how many. The first is that of `calibrate` with this seed, and the
            others have the seeds that follow.
        seed: of the first division, and of the intervals.

    Returns:
        {"divisions", "images": M, "rates"}: for each rate that the scores allow the
        mean share of the others with a p-value of at most the rate, with its interval
        over these images, and the "lowest" and "highest" of 95 % of the divisions.
    """
    flagged: dict[float, list[Tensor]] = {}
    for number in range(divisions):
        _, scaling, scored = division(len(reference), seed + number)
        scaled = calibration.scaled_by(reference[scaling])
        scores = scaled.scores_of(reference[scored]).sort().values
        again = replace(scaled, scores=scores)
        p_values = again.p_values(again.scores_of(others))
        for rate in rates_for(len(scores)):
            flagged.setdefault(rate, []).append((p_values <= rate).double())
    ends, rates = torch.tensor([0.025, 0.975], dtype=torch.float64), {}
    for rate, each in flagged.items():
        alarms = torch.stack(each)
        lowest, highest = torch.quantile(alarms.mean(1), ends).tolist()
        found = mean_with_interval(alarms.mean(0), seed)
        rates[str(rate)] = found | {"lowest": lowest, "highest": highest}
    return {"divisions": divisions, "images": len(others), "rates": rates}


def defects_markdown(results: dict) -> str:
    """What `evaluate_defects` returns in Markdown."""
    many, lines = results["false_alarms_over_divisions"], [detection_table(results)]
    for rate, each in results["false_alarms"].items():
        share = plus_minus(each, 1, unit=100)
        lines.append(f"- false alarms at a rate of {100 * float(rate):g} %: {share} %")
    for rate, each in many["rates"].items():
        lines.append(
            f"- over {many['divisions']} divisions of the images to calibrate on, on "
            f"{many['images']:,} normal images, the mean of the false alarms at a rate "
            f"of {100 * float(rate):g} %: {plus_minus(each, 2, unit=100)} %; 95 % of "
            f"the divisions have {100 * each['lowest']:.1f} to "
            f"{100 * each['highest']:.1f} %"
        )
    lines.append(
        f"- calibrated on {results['images']['calibration']:,} normal images in "
        f"{results['seconds_of_calibration']:.0f} s; "
        f"{results['milliseconds_per_image']:.0f} ms per image, with "
        f"{results['draws']} restorations\n"
    )
    columns = ["kind of defect (ROC by image, by pixel)", *results["methods"]]
    rows = [
        [
            kind,
            *(", ".join(f"{area:.3f}" for area in of.values()) for of in each.values()),
        ]
        for kind, each in results["by_kind"].items()
    ]
    return "\n".join([*lines, markdown_table(columns, rows)])
