"""Measure how well what is odd is found, by restorations and by other methods.

Run `python tools/try_anomalies.py FILE.json RUNS --data_root DATA` with nothing else
running. There are two parts:

- "defects": the shipped weights, on test images with and without the defects of
  `evaluation.defects`, calibrated on training images that the shipped prior did not
  train on. False alarms are counted on all test images without defects as well.
  CIFAR-10 is read as image files from `--cifar10` if that is given.
- "one class": each class of Fashion-MNIST in turn is normal. A small VQ-VAE-2 and a
  prior without labels are trained on nine tenths of its training images. The others
  choose the epochs and calibrate; the test images of the class are compared with as
  many of the other classes. The nearest neighbours are looked for in the features of
  the shipped classifier, which has seen all ten classes with their labels.

Parts and classes that the file already has are not measured again, and trainings in
RUNS go on where they were stopped.
"""

import argparse
import json
import statistics
import sys
from dataclasses import replace
from pathlib import Path

import torch

from pixelprior.anomalies import calibrate
from pixelprior.assets import load_shipped
from pixelprior.checkpoints import load_model
from pixelprior.data.codes import extract_codes
from pixelprior.data.held_out import hold_out
from pixelprior.data.images import ImageData, load_images
from pixelprior.devices import keep_freed_memory, machine, make_accelerator
from pixelprior.evaluation.classifier import load_shipped_reference_models
from pixelprior.evaluation.defect_study import evaluate_defects, ours
from pixelprior.evaluation.defects import with_defects
from pixelprior.evaluation.detectors import OURS, measured, others
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


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


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
        say=say,
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


def one_class(number: int, arguments) -> dict:
    """One class as the normal one: its area under the ROC curve by each method."""
    train, test = (
        load_images("fashion_mnist", split, data_root=arguments.data_root)
        for split in ("train", "test")
    )
    name = train.class_names[number]
    say(f"== {name} is normal")
    data, heldout = hold_out(train.subset(train.labels == number), SHARE)
    data, folder = data.copied(), arguments.runs / f"class_{number}"
    vqvae2 = trained("vqvae2", VQVAE2, folder, data, heldout, in_channels=1)
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
    classifier = load_shipped_reference_models()[1]
    lower, higher = (
        others(vqvae2, prior, each, None, classifier, data) for each in (normal, odd)
    )
    methods = {OURS: (low, high)} | {
        each: (lower[each], higher[each]) for each in lower
    }
    return {
        "class": name,
        "methods": measured(methods),
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
        if found["one_class"]:
            found["mean_roc_auc"] = mean_over_classes(found["one_class"])
        texts = {arguments.file.name: json.dumps(found, indent=1)}
        write_texts(arguments.file.parent, texts)

    sets = {"fashion_mnist": ("fashion_mnist", arguments.data_root)}
    if arguments.cifar10 is not None:
        sets["cifar10"] = ("imagefolder", arguments.cifar10)
    for name, (dataset, root) in sets.items():
        if name not in found["defects"]:
            found["defects"][name] = defects(name, dataset, root, arguments)
            keep()
    done = {each["class"] for each in found["one_class"]}
    names = load_images("fashion_mnist_mini", "test").class_names
    for number in arguments.classes:
        if names[number] not in done:
            found["one_class"].append(one_class(number, arguments))
            keep()


if __name__ == "__main__":
    main()
