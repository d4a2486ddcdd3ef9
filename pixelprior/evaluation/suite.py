"""All measures of a VQ-VAE-2 and its prior, in one dict for one file.

`evaluate` runs the measures of `measures.py` on held-out images and on samples, and
`report.py` makes tables and pictures of the dict. A measured value is
{"value", "low", "high"}, with a bootstrap interval of 95 % over images.
"""

import math
import statistics
import time
from dataclasses import replace

import torch

from pixelprior.data.codes import CodeData, extract_codes
from pixelprior.data.images import ImageData
from pixelprior.devices import machine
from pixelprior.evaluation.classifier import Classifier
from pixelprior.evaluation.inception import inception_distances, inception_metric
from pixelprior.evaluation.judging import (
    ACCURACY_SCORES,
    accuracy_scores,
    compare_in_features,
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
    reconstructions,
    samples,
    saturation,
    squared_errors,
)
from pixelprior.pixelcnn import ConditionalPixelCNN
from pixelprior.prior import LEVELS, HierarchicalPixelCNN
from pixelprior.ranges import check_positive
from pixelprior.validation import check_filters, check_guidance
from pixelprior.vqvae2 import VQVAE2

SPEED_BATCH = 64


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
    inception: bool = False,
    say=lambda line: None,
) -> dict:
    """Measure a trained pipeline on held-out images and on samples.

    Args:
        vqvae2, prior: trained, in evaluation mode, on the device to measure on.
        train: images that they were trained on. heldout: images that they were not
            trained on.
        without_top: the bottom level, trained on codes whose top codes are erased.
        classifier: gives the features of the Fréchet distance, on the same device. None
            trains one on the training images if they have classes.
        setting: temperature, top_k, top_p and guidance, as in
            `HierarchicalPixelCNN.sample`, of a second set of samples. The first set is
            drawn from the prior itself, at temperature 1 without guidance.
        num_samples: number of images to draw, and of real images to compare them with.
        seed: seed of samples, classifiers and intervals.
        inception: also measure the Inception distance.
        say: called with one line when a part begins.

    Returns:
        The content of `results.json`, by part; a part that cannot be measured is None.

    Raises:
        ValueError: the models or the images do not fit each other, or the weights of
            Inception are not available.
    """
    check_positive(num_samples=num_samples)
    prior.check_matches(vqvae2)
    count = min(num_samples, len(train))
    if min(count, len(heldout)) <= NEIGHBOURS:
        raise ValueError(
            f"{count} sample(s) and {len(heldout)} held-out image(s) have no spread to "
            f"measure; give {NEIGHBOURS + 1} or more of each"
        )
    if setting is not None:
        check_filters(
            setting.get("temperature", 1.0), setting.get("top_k"), setting.get("top_p")
        )
        check_guidance(
            setting.get("guidance", 0.0), prior.labels_in_turn(1), prior.label_dropout
        )
    names = heldout.class_names
    if prior.num_classes not in (None, len(names)):
        raise ValueError(
            f"the prior has {prior.num_classes} classes, but the images have "
            f"{len(names)}; measure it on the data set that it was trained on"
        )
    channels = heldout.images.shape[1]
    if classifier is not None and (
        (classifier.in_channels, classifier.num_classes) != (channels, len(names))
    ):
        raise ValueError(
            f"the classifier is for {classifier.num_classes} classes of images of "
            f"{classifier.in_channels} channel(s), but these have {len(names)} and "
            f"{channels}; give one that was trained on such images, or none"
        )
    device = next(prior.parameters()).device
    inception_network = inception_metric(device) if inception else None
    say(f"codes and reconstructions of {len(heldout):,} held-out images")
    codes = extract_codes(vqvae2, heldout)
    if prior.num_classes is None:
        codes.labels = None
    rebuilt = reconstructions(vqvae2, heldout)
    results = {
        "data": {
            "name": heldout.name,
            "training_images": len(train),
            "heldout_images": len(heldout),
            "samples": count,
            "seed": seed,
            "pixels": heldout.images[0].numel(),
        },
        "machine": machine(device),
        "parameters": _sizes({"vqvae2": vqvae2, **prior.levels()}),
        "codes": {level: code_use(codes, level) for level in LEVELS},
        "reconstruction": _reconstruction(vqvae2, codes, heldout, rebuilt, seed),
    }
    say("likelihoods")
    pixels = heldout.images[0].numel()
    results["likelihood"] = _likelihood(
        prior.levels(), codes, seed, without_top, pixels
    )
    say(f"{count:,} new images")
    drawn = {"samples": samples(vqvae2, prior, count, class_names=names, seed=seed)}
    results["speed"] = {
        "batch_size": SPEED_BATCH,
        "milliseconds_per_image": _speed(vqvae2, prior),
    }
    results["setting"] = setting
    if setting is not None:
        say(f"{count:,} new images at the chosen setting")
        drawn["chosen_samples"] = samples(
            vqvae2, prior, count, class_names=names, seed=seed, **setting
        )
        results["speed"]["milliseconds_per_chosen_image"] = _speed(
            vqvae2, prior, setting
        )
    say("nearest training images")
    results["neighbours"] = _neighbours(
        drawn["samples"], train, heldout, rebuilt, seed, device
    )
    real = some_of_each_class(train, count)
    sets = {**drawn, "reconstructions": rebuilt, "training images": real}
    for part in ("frechet", "inception", "saturation", *ACCURACY_SCORES):
        results[part] = None
    if channels == 3:
        results["saturation"] = {
            name: mean_with_interval(saturation(data), seed)
            for name, data in {**sets, "heldout": heldout}.items()
        }
    if len(names) > 1:
        say("Fréchet distances in a classifier's features")
        judged = drawn if prior.num_classes is not None else {}
        results["frechet"] = compare_in_features(
            classifier, train, sets, judged, heldout, seed, device
        )
    if inception:
        say("Inception distances")
        results["inception"] = inception_distances(inception_network, sets, heldout)
    if prior.num_classes is not None and len(names) > 1:
        rebuilt = reconstructions(vqvae2, real)
        sets = {"real": real, "reconstructions": rebuilt, **drawn}
        for part, options in ACCURACY_SCORES.items():
            words = "residual networks" if options else "small classifiers"
            say(f"{words} trained on real images, on reconstructions, on samples")
            results[part] = accuracy_scores(sets, heldout, seed, device, options)
    return results


def some_of_each_class(data: ImageData, count: int) -> ImageData:
    """`count` images, the first of each class in turn, equally many if possible."""
    number_in_class = torch.empty(len(data), dtype=torch.long)
    for label in data.labels.unique():
        of_class = data.labels == label
        number_in_class[of_class] = torch.arange(int(of_class.sum()))
    order = (number_in_class * len(data.class_names) + data.labels).argsort()[:count]
    return ImageData(
        data.images[order], data.labels[order], data.class_names, data.name, data.split
    )


def _reconstruction(vqvae2, codes, heldout, rebuilt, seed: int) -> dict:
    """Errors with an image's own codes, and with the top codes of another image."""
    errors = squared_errors(heldout, rebuilt)
    order = torch.randperm(len(codes), generator=torch.Generator().manual_seed(seed))
    others = torch.empty_like(codes.z_top)
    others[order] = codes.z_top[order.roll(1)]
    wrong = decoded(vqvae2, others, codes.z_bottom)
    wrong = ImageData(wrong, heldout.labels, heldout.class_names)
    return {
        "mean_squared_error_with_wrong_top": mean_with_interval(
            squared_errors(heldout, wrong), seed
        ),
        "mean_squared_error": mean_with_interval(errors, seed),
        "psnr": bootstrap(lambda each: -10 * each.mean().log10(), errors, seed=seed),
    }


def evaluate_codes(prior, codes: CodeData, *, seed: int = 0) -> dict:
    """Measure the likelihood of a prior on codes from a file.

    Args:
        prior: a `HierarchicalPixelCNN` or a `PixelCNN`, in evaluation mode.
        codes: held-out codes, with labels for a prior with classes.
        seed: seed of the intervals.

    Returns:
        Those parts of what `evaluate` returns that need no images.

    Raises:
        ValueError: the codes do not fit the prior.
    """
    levels = prior.levels()
    if tuple(levels) != codes.levels():
        raise ValueError(
            f"the prior has {len(levels)} level(s), but the codes have "
            f"{len(codes.levels())}; give codes of the kind that it was trained on"
        )
    if next(iter(levels.values())).num_classes is None:
        codes = replace(codes, labels=None)
    device = next(prior.parameters()).device
    return {
        "data": {
            "heldout_images": len(codes),
            "grids": {name: list(codes.grid(name).shape[1:]) for name in levels},
            "seed": seed,
        },
        "machine": machine(device),
        "parameters": _sizes(levels),
        "codes": {name: code_use(codes, name) for name in levels},
        "likelihood": _likelihood(levels, codes, seed),
    }


def _sizes(models: dict) -> dict[str, int]:
    """The number of parameters of each model."""
    return {name: sum(p.numel() for p in m.parameters()) for name, m in models.items()}


def _likelihood(levels, codes: CodeData, seed: int, without_top=None, pixels=None):
    """Nats per code and bits per dimension by level, beside values without a prior."""
    measured, of_images, counts = {}, {}, {}
    for name, level in levels.items():
        counts[name] = codes.grid(name)[0].numel()
        of_images[name] = image_nats(level, codes)
        measured[name] = {
            "codes_per_image": counts[name],
            "uniform": math.log(codes.num_embeddings),
            "unigram": codes.unigram_entropy(name),
        }
    if without_top is not None:
        without = image_nats(without_top, erase_top(codes))
        gain = (without - of_images["bottom"]) / counts["bottom"]
        measured["bottom"]["without_top"] = mean_with_interval(
            without / counts["bottom"], seed
        )
        measured["bottom"]["gain_from_top"] = mean_with_interval(gain, seed)
    if len(levels) > 1:
        total = sum(counts.values())
        measured["both"] = {"codes_per_image": total}
        for name in ("uniform", "unigram"):
            of_all = sum(measured[level][name] * counts[level] for level in levels)
            measured["both"][name] = of_all / total
        of_images["both"], counts["both"] = sum(of_images.values()), total
    for level, nats in of_images.items():
        measured[level] |= {
            "nats_per_code": mean_with_interval(nats / counts[level], seed),
            "nats_per_image": mean_with_interval(nats, seed),
        }
        if pixels is not None:
            bits = nats / math.log(2) / pixels
            measured[level]["bits_per_dimension"] = mean_with_interval(bits, seed)
    return measured


def _speed(vqvae2, prior, setting: dict | None = None, repeats: int = 5) -> dict:
    """Milliseconds per image to draw and decode, over some draws after a first one."""
    seconds, labels = [], prior.labels_in_turn(SPEED_BATCH)
    for number in range(repeats + 1):
        started = time.perf_counter()
        prior.sample_with_vqvae2(
            vqvae2, SPEED_BATCH, labels=labels, seed=number, **(setting or {})
        ).cpu()
        seconds.append(time.perf_counter() - started)
    per_image = [1000 * time / SPEED_BATCH for time in seconds[1:]]
    return {
        "value": statistics.median(per_image),
        "low": min(per_image),
        "high": max(per_image),
    }


def _neighbours(drawn, train, heldout, rebuilt, seed: int, device) -> dict:
    """Distances to the nearest training image, and ratios of samples to held-out."""
    sets = {"samples": drawn, "heldout": heldout, "heldout_rebuilt": rebuilt}
    distances = {
        name: nearest(data, train, device=device)[1] for name, data in sets.items()
    }
    found = {name: mean_with_interval(each, seed) for name, each in distances.items()}
    for name in ("heldout", "heldout_rebuilt"):
        found[f"samples_to_{name}"] = bootstrap(
            lambda one, other: one.mean() / other.mean(),
            distances["samples"],
            distances[name],
            paired=False,
            seed=seed,
        )
    return found
