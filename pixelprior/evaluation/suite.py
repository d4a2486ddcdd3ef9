"""All measures of a VQ-VAE-2 and its prior, in one dict for one file.

`evaluate` runs the measures of `measures.py` on held-out images and on samples, and
`report.py` makes tables and pictures of the dict. A measured value is
{"value", "low", "high"}, with a bootstrap interval of 95 % over images.
"""

import math
import statistics
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from pixelprior.benchmark.timing import seconds
from pixelprior.checkpoints import WEIGHTS_NAME, load_model
from pixelprior.data.codes import CodeData, extract_codes
from pixelprior.data.images import ImageData
from pixelprior.devices import machine
from pixelprior.evaluation.classifier import (
    ACCURACY_SCORES,
    CAS,
    Classifier,
    accuracy_scores,
    compare_in_features,
    correct,
    scores_of,
    train_classifier,
)
from pixelprior.evaluation.measures import (
    NEIGHBOURS,
    bootstrap,
    code_use,
    decoded,
    erase_top,
    image_nats,
    mean_with_interval,
    nearest,
    outputs,
    ratio_with_interval,
    reconstructions,
    samples,
    saturation,
    some_of_each_class,
    squared_errors,
)
from pixelprior.pixelcnn import ConditionalPixelCNN
from pixelprior.prior import HierarchicalPixelCNN
from pixelprior.sampling import checked_guidance
from pixelprior.settings import SamplingOptions
from pixelprior.vqvae2 import VQVAE2

SPEED_BATCH = 64
IN_TRAINING = "classifiers/in_training"  # of `classification_accuracy`


def evaluate(
    vqvae2: VQVAE2,
    prior: HierarchicalPixelCNN,
    train: ImageData,
    heldout: ImageData,
    *,
    without_top: ConditionalPixelCNN | None = None,
    classifier: Classifier | None = None,
    setting: dict | None = None,
    num_samples: int = 10_000,
    seed: int = 0,
    say=lambda line: None,
) -> dict:
    """Measure a trained pipeline on held-out images and on samples.

    Args:
        vqvae2, prior: trained, in evaluation mode, on the device to measure on.
        train, heldout: images that they were trained on, and others.
        without_top: the bottom level, trained on codes whose top codes are erased.
        classifier: gives the features of the Fréchet distance, on the same device. None
            trains one on the training images if they have classes.
        setting: the options of a second set of samples, as in
            `HierarchicalPixelCNN.sample`. The first is drawn from the prior itself.
        num_samples: number of images to draw, and of real images to compare them with.
        seed: seed of samples, classifiers and intervals.
        say: called with one line when a part begins.

    Returns:
        The content of `results.json`, by part; a part that cannot be measured is None.

    Raises:
        ValueError: there are too few images, or classes or setting do not fit.
    """
    count, pixels = min(num_samples, len(train)), heldout.images[0].numel()
    if min(count, len(heldout)) <= NEIGHBOURS:
        raise ValueError(
            f"{count} sample(s) and {len(heldout)} held-out image(s) have no spread to "
            f"measure; give {NEIGHBOURS + 1} or more of each"
        )
    if setting is not None:
        options = SamplingOptions(**setting)
        checked_guidance(prior.levels, options, prior.labels_in_turn(1))
    names, has_classes = heldout.class_names, prior.num_classes is not None
    if prior.num_classes not in (None, len(names)):
        raise ValueError(
            f"the prior has {prior.num_classes} classes, but the images have "
            f"{len(names)}; measure it on the data set that it was trained on"
        )
    of_images = (heldout.channels, len(names))
    if classifier and (classifier.in_channels, classifier.num_classes) != of_images:
        raise ValueError(
            f"the classifier is for {classifier.num_classes} classes of images of "
            f"{classifier.in_channels} channel(s), but these have {len(names)} and "
            f"{heldout.channels}; give one that was trained on such images, or none"
        )
    device = next(prior.parameters()).device
    say(f"codes, reconstructions, likelihoods of {len(heldout):,} held-out images")
    codes, rebuilt = extract_codes(vqvae2, heldout), reconstructions(vqvae2, heldout)
    if not has_classes:
        codes.labels = None
    of_codes = _of_codes(prior, codes, seed, without_top, pixels)
    of_codes["parameters"] = {"vqvae2": _size(vqvae2), **of_codes["parameters"]}
    reconstruction = _reconstruction(vqvae2, codes, heldout, rebuilt, seed)
    drawn, speed = {}, {"batch_size": SPEED_BATCH}
    for name, new, options in (
        ("samples", "image", {}),
        ("chosen_samples", "chosen_image", setting),
    ):
        if options is not None:
            say(f"{count:,} {name.replace('_', ' ')}")
            about = {"class_names": names, "seed": seed}
            drawn[name] = samples(vqvae2, prior, count, **about, **options)
            speed[f"milliseconds_per_{new}"] = _speed(vqvae2, prior, options)
    say("nearest training images")
    near = {"samples": drawn["samples"], "heldout": heldout, "heldout_rebuilt": rebuilt}
    neighbours = _neighbours(near, train, seed, device)
    real = some_of_each_class(train, count)
    sets = {**drawn, "reconstructions": rebuilt, "training images": real}
    frechet = colours = None
    scores = dict.fromkeys(ACCURACY_SCORES)
    if heldout.channels == 3:
        colours = {
            name: mean_with_interval(saturation(data), seed)
            for name, data in {**sets, "heldout": heldout}.items()
        }
    if len(names) > 1:
        say("Fréchet distances in a classifier's features")
        judged = drawn if has_classes else {}
        frechet = compare_in_features(
            classifier, train, sets, judged, heldout, seed, device
        )
    if has_classes and len(names) > 1:
        sets = {"real": real, "reconstructions": reconstructions(vqvae2, real), **drawn}
        for part, options in ACCURACY_SCORES.items():
            words = "residual networks" if options else "small classifiers"
            say(f"{words} trained on real images, on reconstructions, on samples")
            scores[part] = accuracy_scores(sets, heldout, seed, device, options)
    return {
        "data": {
            "name": heldout.name,
            "training_images": len(train),
            "heldout_images": len(heldout),
            "samples": count,
            "seed": seed,
            "pixels": pixels,
        },
        **of_codes,
        "reconstruction": reconstruction,
        "speed": speed,
        "setting": setting,
        "neighbours": neighbours,
        "frechet": frechet,
        "saturation": colours,
        **scores,
    }


def classification_accuracy(
    vqvae2: VQVAE2,
    prior: HierarchicalPixelCNN,
    train: ImageData,
    heldout: ImageData,
    folder: Path,
    *,
    setting: dict | None = None,
    num_samples: int | None = None,
    seed: int = 0,
    say=lambda line: None,
) -> dict:
    """The classification accuracy score as its authors measure it (Ravuri and Vinyals
    2019, arXiv 1905.10887, section 4): a residual network of 56 layers is trained on
    real images, on as many reconstructions, and on as many samples of each kind, in
    the same way, and tested on held-out images.

    Arguments are those of `evaluate`, and a `folder` for the classifiers. Those that
    are there are not trained again, and a training that was stopped goes on. None for
    `num_samples` takes as many as there are training images.
    """
    if prior.num_classes is None or len(heldout.class_names) < 2:
        raise ValueError(
            "the classification accuracy score needs a prior of two or more classes; "
            "train one with --class_conditional"
        )
    count, device = len(train), next(prior.parameters()).device
    if num_samples is not None:
        count = min(num_samples, count)
    real = some_of_each_class(train, count)
    about = {"class_names": heldout.class_names, "seed": seed}
    drawn = partial(samples, vqvae2, prior, count, **about)
    sets = {
        "real": lambda: real,
        "reconstructions": partial(reconstructions, vqvae2, real),
        "samples": drawn,
    }
    if setting is not None:
        sets["chosen_samples"] = partial(drawn, **setting)
    right = {}
    for name, made in sets.items():
        kept = folder / "classifiers" / name
        if not (kept / WEIGHTS_NAME).is_file():
            say(f"a residual network of 56 layers, on {name.replace('_', ' ')}")
            options = CAS | {"seed": seed, "on_cpu": device.type == "cpu"}
            run = folder / IN_TRAINING / name
            train_classifier(made(), folder=run, **options).save_pretrained(kept)
        classifier = load_model(Classifier, kept, device)
        right[name] = correct(outputs(classifier, heldout, device), heldout)
    return {
        "data": {
            "name": heldout.name,
            "training_images": count,
            "heldout_images": len(heldout),
            "seed": seed,
        },
        "epochs": CAS["epochs"],
        "machine": machine(device),
        "setting": setting,
        "classification_accuracy_score": scores_of(right, seed),
    }


def evaluate_codes(prior, codes: CodeData, *, seed: int = 0) -> dict:
    """Those parts of what `evaluate` returns that need no images, on held-out codes.
    Codes of another number of levels than the prior's are a ValueError."""
    levels = prior.level_names
    if levels != codes.level_names:
        raise ValueError(
            f"the prior has {len(levels)} level(s), but the codes have "
            f"{len(codes.grids)}; give codes of the kind that it was trained on"
        )
    if not prior.levels[0].takes_labels:
        codes = replace(codes, labels=None)
    return {
        "data": {
            "heldout_images": len(codes),
            "grids": {name: list(codes.grid(name).shape[1:]) for name in levels},
            "seed": seed,
        },
        **_of_codes(prior, codes, seed),
    }


def _size(network) -> int:
    return sum(p.numel() for p in network.parameters())


def _of_codes(prior, codes: CodeData, seed: int, without_top=None, pixels=None) -> dict:
    """The parts that need a prior and codes alone: nats per code and bits per dimension
    by level, beside values without a prior."""
    levels = dict(zip(prior.level_names, prior.levels, strict=True))
    counts = {name: codes.grid(name)[0].numel() for name in levels}
    nats = {name: image_nats(level, codes, name) for name, level in levels.items()}
    measured = {
        name: {
            "codes_per_image": counts[name],
            "uniform": math.log(codes.size_of(name)),
            "unigram": codes.unigram_entropy(name),
        }
        for name in levels
    }
    if without_top is not None:
        without = image_nats(without_top, erase_top(codes))
        gain = (without - nats["bottom"]) / counts["bottom"]
        measured["bottom"] |= {
            "without_top": mean_with_interval(without / counts["bottom"], seed),
            "gain_from_top": mean_with_interval(gain, seed),
        }
    if len(levels) > 1:
        total = sum(counts.values())
        measured["both"] = {"codes_per_image": total} | {
            name: sum(measured[level][name] * counts[level] for level in levels) / total
            for name in ("uniform", "unigram")
        }
        nats["both"], counts["both"] = sum(nats.values()), total
    for level, of_images in nats.items():
        found, per_code = measured[level], of_images / counts[level]
        found["nats_per_code"] = mean_with_interval(per_code, seed)
        found["nats_per_image"] = mean_with_interval(of_images, seed)
        if pixels is not None:
            bits = of_images / math.log(2) / pixels
            found["bits_per_dimension"] = mean_with_interval(bits, seed)
    return {
        "machine": machine(next(prior.parameters()).device),
        "parameters": {name: _size(level) for name, level in levels.items()},
        "codes": {name: code_use(codes, name) for name in levels},
        "likelihood": measured,
    }


def _reconstruction(vqvae2, codes, heldout, rebuilt, seed: int) -> dict:
    """Errors with an image's own codes, and with the top codes of another image."""
    errors = squared_errors(heldout, rebuilt)
    order = torch.randperm(len(codes), generator=torch.Generator().manual_seed(seed))
    others = torch.empty_like(codes.z_top)
    others[order] = codes.z_top[order.roll(1)]
    wrong = replace(heldout, images=decoded(vqvae2, others, codes.z_bottom))
    wrong = squared_errors(heldout, wrong)
    return {
        "mean_squared_error_with_wrong_top": mean_with_interval(wrong, seed),
        "mean_squared_error": mean_with_interval(errors, seed),
        "psnr": bootstrap(lambda each: -10 * each.mean().log10(), errors, seed=seed),
    }


def _speed(vqvae2, prior, setting: dict, repeats: int = 5) -> dict:
    """Milliseconds per image to draw and decode, over some draws after a first one."""
    device = next(prior.parameters()).device
    options = {"labels": prior.labels_in_turn(SPEED_BATCH), **setting}

    def draw(seed: int) -> None:
        prior.sample_with_vqvae2(vqvae2, SPEED_BATCH, seed=seed, **options)

    draw(0)  # the first draw is slower
    each = [seconds(partial(draw, 1 + n), device) for n in range(repeats)]
    each = [1000 * passed / SPEED_BATCH for passed in each]
    return {"value": statistics.median(each), "low": min(each), "high": max(each)}


def _neighbours(sets: dict, train: ImageData, seed: int, device) -> dict:
    """Distances to the nearest training image, and ratios of samples to held-out."""
    distances = {name: nearest(data, train, device)[1] for name, data in sets.items()}
    found = {name: mean_with_interval(each, seed) for name, each in distances.items()}
    drawn = distances.pop("samples")
    for name, each in distances.items():
        ratio = ratio_with_interval(drawn, each, seed, paired=False)
        found[f"samples_to_{name}"] = ratio
    return found
