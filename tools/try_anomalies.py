"""Measure how well what is odd is found, by restorations and by other methods.

Run `python tools/try_anomalies.py FILE.json RUNS --data_root DATA` with nothing else
running. There are two parts:

- "defects": the shipped weights, on test images with and without the defects of
  `evaluation.defects`, calibrated on training images that the shipped prior did not
  train on. False alarms are counted on all test images without defects as well.
  CIFAR-10 is read as image files from `--cifar10` if that is given.
- "one class": each class of Fashion-MNIST, and of CIFAR-10, in turn is normal. A small
  VQ-VAE-2 and a prior without labels are trained on nine tenths of its training images.
  The others choose the epochs and calibrate; the test images of the class are compared
  with as many of the other classes. The nearest neighbours are looked for in the
  features of the shipped classifier, which has seen all ten classes with their labels.

Parts and classes that the file already has are not measured again, and trainings in
RUNS go on where they were stopped.
"""

import argparse
import json
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc

from pixelprior.anomalies import calibrate, find
from pixelprior.anomalies.finding import division, score_parts_of
from pixelprior.anomalies.scores import Calibration, least_rate
from pixelprior.assets import load_shipped
from pixelprior.checkpoints import load_model
from pixelprior.data.codes import extract_codes
from pixelprior.data.held_out import hold_out
from pixelprior.data.images import ImageData, load_images
from pixelprior.devices import keep_freed_memory, machine, make_accelerator
from pixelprior.evaluation.classifier import load_shipped_reference_models
from pixelprior.evaluation.defects import KINDS, with_defects
from pixelprior.evaluation.detectors import (
    OURS,
    PIXEL_RATE,
    Judged,
    measured,
    others,
    pooled,
    ranks,
)
from pixelprior.evaluation.measures import bootstrap, mean_with_interval
from pixelprior.files import recover_folder, write_texts
from pixelprior.prior import HierarchicalPixelCNN
from pixelprior.settings import TrainingSettings
from pixelprior.training import fit
from pixelprior.vqvae2 import VQVAE2

HELD_OUT = 0.03  # share that the recipes of the shipped weights hold out
SHARE = 0.1  # of a class, to calibrate on
NETWORKS = {
    "vqvae2": {"num_embeddings": 30, "embedding_dim": 32, "hidden_channels": 32}
    | {"bottom_dropout": 0.05},
    "prior": {"embedding_dim": 32, "hidden_channels": 48, "num_layers": 6}
    | {"dropout": 0.1},
}
SETTINGS = {
    "vqvae2": TrainingSettings(epochs=20, batch_size=64, lr=1e-3),
    "prior": TrainingSettings(epochs=12, batch_size=32, lr=3e-3, ema_decay=0.99),
}
ONE_CLASS = {"fashion_mnist": "one_class", "cifar10": "one_class_cifar10"}  # in FILE
SIMPLER = "largest nats"  # than `find`, which is compared with it image by image
RATES = (0.01, 0.05)
DIVISIONS = 200


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def evaluate_defects(
    vqvae2, prior, reference, normal, defects, *, more_normal, classifier, draws=8
) -> dict:
    """All methods on normal images and on images with defects, of known classes, once
    calibrated on `reference`, which was not trained on. False alarms are counted on
    `more_normal` as well, over many divisions of `reference`."""
    say(f"calibrating on {len(reference):,} images")
    started = time.perf_counter()
    calibration = calibrate(vqvae2, prior, *reference[:], draws=draws)
    calibrated = time.perf_counter() - started
    say(f"{len(normal):,} normal images and {len(defects):,} with defects")
    started, pair = time.perf_counter(), (vqvae2, prior)
    low, p_values = ours(*pair, normal, calibration, normal.labels)
    odd = defects.images
    high, _ = ours(*pair, odd, calibration, odd.labels, first_index=len(normal))
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
        "methods": measured(methods, defects.masks, thresholds=thresholds),
        "by_kind": by_kind,
        "find_less_largest_nats": lead(*methods[OURS], *methods[SIMPLER]),
        "false_alarms": {
            str(rate): mean_with_interval((p_values <= rate).double(), 0)
            for rate in rates_for(len(calibration.scores))
        },
        "false_alarms_over_divisions": alarms_over_divisions(calibration, *parts),
        "seconds_of_calibration": calibrated,
        "milliseconds_per_image": 1000 * seconds / (len(normal) + len(defects)),
        "images": {
            "calibration": len(reference),
            "normal": len(normal),
            "defects": len(defects),
        },
        "draws": draws,
    }


def ours(vqvae2, prior, data: ImageData, calibration, labels, first_index: int = 0):
    """What `find` says, and its p-values, float64 [B]; arguments as those of `find`."""
    parts = []
    for part in _parts(data):
        some = None if labels is None else labels[part]
        draw = {"draws": calibration.draws}
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


def lead(normal: Judged, odd: Judged, other_normal: Judged, other_odd: Judged) -> dict:
    """How much larger the area by image of one method is than that of another, on the
    same images, with its interval."""
    one, other = (
        ranks(low.scores, high.scores)
        for low, high in ((normal, odd), (other_normal, other_odd))
    )

    def difference(low: Tensor, high: Tensor) -> Tensor:
        areas = [binary_auroc(*pooled(a[low], b[high])) for a, b in (one, other)]
        return areas[0] - areas[1]

    numbers = [torch.arange(len(each)) for each in one]
    return bootstrap(difference, *numbers, paired=False)


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

    `reference`, [N, 5], and `others`, [M, 5], are the parts of the scores of the images
    to calibrate on and of other normal ones, by `score_parts_of`. The first division is
    that of `calibrate` with this seed; the others have the seeds that follow.
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


def first(data: ImageData, count: int, start: int = 0) -> ImageData:
    """Images in an order that is drawn once, from `start` on."""
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
    return data.subset(order[start : start + count])


def defects(name: str, dataset: str, data_root, arguments) -> dict:
    """The shipped weights for a data set, on images with and without defects."""
    say(f"== defects on {name}")
    vqvae2, prior = load_shipped(name)
    train, test = (
        load_images(dataset, split, data_root=data_root, stream=False)
        for split in ("train", "test")
    )
    _, heldout = hold_out(train, HELD_OUT)
    count = arguments.images
    return evaluate_defects(
        vqvae2,
        prior,
        heldout,
        first(test, count),
        with_defects(first(test, count, start=count)),
        more_normal=test,
        classifier=load_shipped_reference_models(name)[1],
        draws=arguments.draws,
    )


def trained(name: str, model_class, folder: Path, data, heldout, **network):
    """A small model, trained in a folder, or the one that is there."""
    folder, settings = folder / name, SETTINGS[name]
    accelerator = make_accelerator(settings, folder)
    torch.manual_seed(settings.seed)
    model = model_class(**NETWORKS[name], **network)
    recover_folder(folder / "last")  # a training may have ended between two renames
    resume = (folder / "last").is_dir()
    fit(model, data, heldout, settings, folder, accelerator, resume=resume, log=say)
    return load_model(model_class, folder / "best")


def one_class(number: int, data_set: str, train, test, runs: Path) -> dict:
    """One class as the normal one: its area under the ROC curve by each method."""
    name = train.class_names[number]
    say(f"== {name} is normal")
    data, heldout = hold_out(train.subset(train.labels == number), SHARE)
    data, folder = data.copied(), runs / f"{data_set}_class_{number}"
    channels = {"in_channels": train.channels}
    vqvae2 = trained("vqvae2", VQVAE2, folder, data, heldout, **channels)
    codes = [extract_codes(vqvae2, each) for each in (data, heldout)]
    prior = trained(
        "prior",
        HierarchicalPixelCNN,
        folder,
        *(replace(each, labels=None, class_names=()) for each in codes),
        num_embeddings=vqvae2.num_embeddings,
    )
    # Images alone are compared, and their scores do not depend on restorations.
    calibration = calibrate(vqvae2, prior, heldout[:][0], draws=1)
    normal = test.subset(test.labels == number)
    odd = first(test.subset(test.labels != number), len(normal))
    low, high = (
        ours(vqvae2, prior, each, calibration, None)[0] for each in (normal, odd)
    )
    classifier = load_shipped_reference_models(data_set)[1]
    lower, higher = (
        others(vqvae2, prior, each, None, classifier, data) for each in (normal, odd)
    )
    methods = {OURS: (low, high)} | {
        each: (lower[each], higher[each]) for each in lower
    }
    return {
        "class": name,
        "methods": measured(methods),
        "find_less_largest_nats": lead(*methods[OURS], *methods[SIMPLER]),
        "images": {"normal": len(normal), "odd": len(odd)},
    }


def mean_over_classes(classes: list[dict]) -> dict[str, float]:
    """The mean area under the ROC curve over the classes, by method."""
    return {
        method: statistics.fmean(
            each["methods"][method]["roc_auc"]["value"] for each in classes
        )
        for method in classes[0]["methods"]
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("runs", type=Path, help="folder for the trainings")
    parser.add_argument("--data_root", type=Path)
    parser.add_argument("--cifar10", type=Path, help="CIFAR-10 as image files")
    parser.add_argument(
        "--images", type=int, default=1000, help="searched, of each kind"
    )
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--classes", type=int, nargs="*", default=list(range(10)))
    arguments = parser.parse_args()
    keep_freed_memory()  # as the command line does
    found = {"defects": {}, "one_class": []}
    if arguments.file.is_file():
        found = json.loads(arguments.file.read_text(encoding="utf-8"))

    def keep() -> None:
        found["machine"] = machine(torch.device("cpu"))
        for part in filter(found.get, ONE_CLASS.values()):
            mean = part.replace("one_class", "mean_roc_auc")
            found[mean] = mean_over_classes(found[part])
        texts = {arguments.file.name: json.dumps(found, indent=1)}
        write_texts(arguments.file.parent, texts)

    sets = {"fashion_mnist": ("fashion_mnist", arguments.data_root)}
    if arguments.cifar10 is not None:
        sets["cifar10"] = ("imagefolder", arguments.cifar10)
    for name, (dataset, root) in sets.items():
        if name not in found["defects"]:
            found["defects"][name] = defects(name, dataset, root, arguments)
            keep()
    for name, (dataset, root) in sets.items():
        classes = found.setdefault(ONE_CLASS[name], [])
        done = {each["class"] for each in classes}
        train, test = (
            load_images(dataset, split, data_root=root, stream=False)
            for split in ("train", "test")
        )
        for number in arguments.classes:
            if train.class_names[number] not in done:
                classes.append(one_class(number, name, train, test, arguments.runs))
                keep()


if __name__ == "__main__":
    main()
