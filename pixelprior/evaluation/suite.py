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
from pixelprior.evaluation.classifier import (
    ACCURACY_SCORES,
    Classifier,
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
    inception_distances,
    inception_metric,
    mean_with_interval,
    nearest,
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
    metric = inception_metric(device) if inception else None
    say(f"codes, reconstructions, likelihoods of {len(heldout):,} held-out images")
    codes, rebuilt = extract_codes(vqvae2, heldout), reconstructions(vqvae2, heldout)
    if not has_classes:
        codes.labels = None
    results = {
        "data": {
            "name": heldout.name,
            "training_images": len(train),
            "heldout_images": len(heldout),
            "samples": count,
            "seed": seed,
            "pixels": pixels,
        },
        **_of_codes(prior, codes, seed, without_top, pixels),
        "reconstruction": _reconstruction(vqvae2, codes, heldout, rebuilt, seed),
    }
    size = sum(p.numel() for p in vqvae2.parameters())
    results["parameters"] = {"vqvae2": size, **results["parameters"]}
    results |= {"speed": {"batch_size": SPEED_BATCH}, "setting": setting}
    drawn, options = {}, {"class_names": names, "seed": seed}
    say(f"{count:,} new images")
    drawn["samples"] = samples(vqvae2, prior, count, **options)
    results["speed"]["milliseconds_per_image"] = _speed(vqvae2, prior, {})
    if setting is not None:
        say(f"{count:,} new images at the chosen setting")
        drawn["chosen_samples"] = samples(vqvae2, prior, count, **options, **setting)
        speed = _speed(vqvae2, prior, setting)
        results["speed"]["milliseconds_per_chosen_image"] = speed
    say("nearest training images")
    results["neighbours"] = _neighbours(
        drawn["samples"], train, heldout, rebuilt, seed, device
    )
    real = some_of_each_class(train, count)
    sets = {**drawn, "reconstructions": rebuilt, "training images": real}
    results |= dict.fromkeys(("frechet", "inception", "saturation", *ACCURACY_SCORES))
    if heldout.channels == 3:
        results["saturation"] = {
            name: mean_with_interval(saturation(data), seed)
            for name, data in {**sets, "heldout": heldout}.items()
        }
    if len(names) > 1:
        say("Fréchet distances in a classifier's features")
        judged = drawn if has_classes else {}
        results["frechet"] = compare_in_features(
            classifier, train, sets, judged, heldout, seed, device
        )
    if inception:
        say("Inception distances")
        results["inception"] = inception_distances(metric, sets, heldout)
    if has_classes and len(names) > 1:
        sets = {"real": real, "reconstructions": reconstructions(vqvae2, real), **drawn}
        for part, changed in ACCURACY_SCORES.items():
            words = "residual networks" if changed else "small classifiers"
            say(f"{words} trained on real images, on reconstructions, on samples")
            results[part] = accuracy_scores(sets, heldout, seed, device, changed)
    return results


def evaluate_codes(prior, codes: CodeData, *, seed: int = 0) -> dict:
    """Measure the likelihood of a prior on codes from a file.

    Args:
        prior: in evaluation mode.
        codes: held-out codes, with labels for a prior with classes.
        seed: seed of the intervals.

    Returns:
        Those parts of what `evaluate` returns that need no images.

    Raises:
        ValueError: the codes do not fit the prior.
    """
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


def _of_codes(prior, codes: CodeData, seed: int, without_top=None, pixels=None) -> dict:
    """The parts that need a prior and codes alone: nats per code and bits per dimension
    by level, beside values without a prior."""
    levels = dict(zip(prior.level_names, prior.levels, strict=True))
    measured, of_images, counts = {}, {}, {}
    for name, level in levels.items():
        counts[name] = codes.grid(name)[0].numel()
        of_images[name] = image_nats(level, codes, name)
        measured[name] = {
            "codes_per_image": counts[name],
            "uniform": math.log(codes.size_of(name)),
            "unigram": codes.unigram_entropy(name),
        }
    if without_top is not None:
        without = image_nats(without_top, erase_top(codes))
        gain = (without - of_images["bottom"]) / counts["bottom"]
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
        of_images["both"], counts["both"] = sum(of_images.values()), total
    for level, nats in of_images.items():
        measured[level] |= {
            "nats_per_code": mean_with_interval(nats / counts[level], seed),
            "nats_per_image": mean_with_interval(nats, seed),
        }
        if pixels is not None:
            bits = nats / math.log(2) / pixels
            measured[level]["bits_per_dimension"] = mean_with_interval(bits, seed)
    return {
        "machine": machine(next(prior.parameters()).device),
        "parameters": {
            name: sum(p.numel() for p in level.parameters())
            for name, level in levels.items()
        },
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
    return {
        "mean_squared_error_with_wrong_top": mean_with_interval(
            squared_errors(heldout, wrong), seed
        ),
        "mean_squared_error": mean_with_interval(errors, seed),
        "psnr": bootstrap(lambda each: -10 * each.mean().log10(), errors, seed=seed),
    }


def _speed(vqvae2, prior, setting: dict, repeats: int = 5) -> dict:
    """Milliseconds per image to draw and decode, over some draws after a first one."""
    per_image, labels = [], prior.labels_in_turn(SPEED_BATCH)
    for number in range(repeats + 1):
        started = time.perf_counter()
        prior.sample_with_vqvae2(
            vqvae2, SPEED_BATCH, labels=labels, seed=number, **setting
        ).cpu()
        per_image.append(1000 * (time.perf_counter() - started) / SPEED_BATCH)
    _, *rest = per_image  # the first draw is slower
    return {"value": statistics.median(rest), "low": min(rest), "high": max(rest)}


def _neighbours(drawn, train, heldout, rebuilt, seed: int, device) -> dict:
    """Distances to the nearest training image, and ratios of samples to held-out."""
    sets = {"samples": drawn, "heldout": heldout, "heldout_rebuilt": rebuilt}
    distances = {name: nearest(data, train, device)[1] for name, data in sets.items()}
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
