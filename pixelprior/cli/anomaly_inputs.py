"""What `find-anomalies` reads, checked: models, images, and what normal images are."""

import math
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from pixelprior.anomalies.calibration_files import load_calibration
from pixelprior.anomalies.finding import division_sizes
from pixelprior.anomalies.scores import Calibration, check_rate
from pixelprior.checkpoints import load_model
from pixelprior.cli.priors import check_trained, load_prior
from pixelprior.data.image_files import with_channels
from pixelprior.data.images import cache_folder
from pixelprior.data.sources import AllFiles
from pixelprior.data.streams import load_source
from pixelprior.evaluation.mvtec import GOOD, has_layout
from pixelprior.files import sha256_of
from pixelprior.memory import free_memory
from pixelprior.pixelcnn import PixelCNN
from pixelprior.prior import HierarchicalPixelCNN
from pixelprior.ranges import check_positive
from pixelprior.sampling import uniforms
from pixelprior.vqvae2 import VQVAE2

SHARE_OF_MEMORY = 0.5  # of what is free, for the normal images
TOGETHER = 64  # images that are converted at a time


def load_models(flags, device) -> tuple[VQVAE2, HierarchicalPixelCNN]:
    """The VQ-VAE-2 and its prior."""
    check_positive(draws=flags.draws)
    uniforms(flags.seed, 0, 1, 1)  # which checks the seed
    vqvae2 = load_model(VQVAE2, flags.vqvae2_checkpoint, device)
    prior = load_prior(flags.prior_checkpoint, device)
    if isinstance(prior, PixelCNN):
        raise ValueError(
            f"the prior in {flags.prior_checkpoint} has one level, but two are needed; "
            "give a prior of two levels"
        )
    prior.check_matches(vqvae2)
    check_trained(flags.prior_checkpoint, vqvae2)
    as_floats(torch.zeros(1, 3, 1, 1).byte(), vqvae2)  # which checks the channels
    level = prior.prior_top
    if flags.label is None and level.num_classes and not level.label_dropout:
        raise ValueError(
            f"the prior was trained with {level.num_classes} classes; give --label, "
            "the class that all images should be of"
        )
    level.check_labels(flags.label, 1)
    return vqvae2, prior


def as_floats(images: Tensor, vqvae2: VQVAE2) -> Tensor:
    """Bytes [N, 3, H, W] as a VQ-VAE-2 takes them."""
    return with_channels(images, vqvae2.in_channels).float() / 255


def normal_files(flags, searched: AllFiles) -> AllFiles:
    """The normal images."""
    root = flags.calibrate
    if not root.exists():
        raise FileNotFoundError(
            f"there is no {root}; give a folder of normal images as --calibrate, or "
            "the calibration.safetensors of an earlier run"
        )
    if has_layout(root):
        raise ValueError(
            f"{root} has images with defects as well; give a folder of normal images "
            "alone as --calibrate, of which none was trained on"
        )
    normal = AllFiles(root)
    check_rate(flags.rate, division_sizes(len(normal))[-1])
    paths = [
        {os.path.realpath(path) for path in _paths(each)} for each in (searched, normal)
    ]
    if both := set.intersection(*paths):
        raise ValueError(
            f"{min(both)} is among the images to search and among the normal ones, so "
            "that its p-value would say nothing; calibrate on other images"
        )
    if copy := _copy(searched, normal):
        raise ValueError(
            f"{copy[0]} has the same bytes as {copy[1]}, which is among the normal "
            "images, so that its p-value would say nothing; calibrate on other images"
        )
    return normal


def _copy(searched: AllFiles, normal: AllFiles) -> tuple[Path, Path] | None:
    """A searched file and a normal one of the same bytes, or None.

    Empty files and those that cannot be read are passed over: they are named when they
    are read as images.
    """
    by_size: dict[int, list[Path]] = {}
    for path in _paths(normal):
        by_size.setdefault(_size(path), []).append(path)
    known: dict[int, dict[str, Path]] = {}
    for path in _paths(searched):
        size = _size(path)
        if size in by_size and size:
            if size not in known:
                same = ((_digest(each), each) for each in by_size[size])
                known[size] = {digest: each for digest, each in same if digest}
            if (digest := _digest(path)) in known[size]:
                return path, known[size][digest]
    return None


def _paths(source: AllFiles) -> Iterator[Path]:
    return (source.folder / file for file in source.files)


def _size(path: Path) -> int:
    """The size of a file in bytes; 0 if it cannot be looked at."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _digest(path: Path) -> str:
    """The SHA-256 of a file, or "" if it cannot be read."""
    try:
        return sha256_of(path)
    except OSError:
        return ""


def warn_without_masks(root: Path) -> None:
    """Warn of a folder in the layout of MVTec AD whose masks are missing."""
    if (root / "test" / GOOD).is_dir() and not has_layout(root):
        warnings.warn(
            f"{root} has test/{GOOD} but no ground_truth, so that all images in it are "
            "searched and nothing is measured; put masks there to measure",
            stacklevel=2,
        )


def read_calibration(
    path: Path, flags, vqvae2: VQVAE2, prior: HierarchicalPixelCNN
) -> Calibration:
    """A calibration that an earlier run wrote."""
    calibration = load_calibration(path, vqvae2, prior)
    check_rate(flags.rate, len(calibration.scores))
    labels = prior.prior_top.check_labels(flags.label, 1)
    calibration.check_fits(vqvae2.grids, flags.draws, labels)
    return calibration


def read_normal(normal: AllFiles, flags, vqvae2: VQVAE2) -> Tensor:
    """The normal images, float [N, C, H, W] in [0, 1]."""
    sides, channels = vqvae2.image_shape, vqvae2.in_channels
    # Per pixel: a byte per colour, floats, those that give the scores again, and what
    # `calibrate` keeps of these.
    each = (3 + 4 * channels * 1.4 + 20) * math.prod(sides)
    if each * len(normal) > SHARE_OF_MEMORY * free_memory():
        raise ValueError(
            f"{len(normal):,} normal images take {each * len(normal) / 2**30:.1f} GiB, "
            "more than half of what is free; give fewer, a few thousand are enough"
        )
    read = load_source(
        normal,
        torch.arange(len(normal)),
        sides,
        name=normal.name,
        split="normal",
        cache=cache_folder(),
        stream=False,
        progress=True,
    ).images
    check_rate(flags.rate, division_sizes(len(read))[-1])
    print(f"calibrating on {len(read):,} normal images", file=sys.stderr)
    images = torch.empty(len(read), channels, *sides)
    for part in torch.arange(len(read)).split(TOGETHER):
        images[part] = as_floats(read[part], vqvae2)
    return images
