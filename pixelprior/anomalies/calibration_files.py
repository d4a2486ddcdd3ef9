"""Files of calibrations: what `anomalies.calibrate` has learned from normal images."""

import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pixelprior.anomalies.scores import PARTS, PIXEL_QUANTILES, Calibration
from pixelprior.checkpoints import fingerprint
from pixelprior.files import temporary_folder, writable_folder, write_tensors
from pixelprior.prior import LEVELS, HierarchicalPixelCNN
from pixelprior.ranges import whole_number
from pixelprior.vqvae2 import VQVAE2

FORMAT = "pixelprior calibration, version 3"
PLAIN = ("centres", "scales", "scores", "pixels")
TENSORS = (*PLAIN, *(f"nats_{level}" for level in LEVELS))


def save_calibration(calibration: Calibration, path) -> None:
    """Write a calibration as a safetensors file, completely or not at all.

    Args:
        path: the file; its folder is created if it is absent.
    """
    path = Path(path)
    tensors = {name: getattr(calibration, name) for name in PLAIN}
    tensors |= {f"nats_{level}": nats for level, nats in calibration.nats.items()}
    about = {
        name: json.dumps(getattr(calibration, name))
        for name in ("draws", "classes", "models")
    }
    with temporary_folder(writable_folder(path.parent)) as temporary:
        write_tensors(tensors, temporary / path.name, about | {"format": FORMAT})
        os.replace(temporary / path.name, path)


def load_calibration(path, vqvae2: VQVAE2, prior: HierarchicalPixelCNN) -> Calibration:
    """Read a calibration that was made with these models.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file holds no calibration or is damaged, or its calibration was
            made with other models.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; name a calibration")
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            ours = about.get("format") == FORMAT
            tensors = {name: file.get_tensor(name) for name in TENSORS if ours}
    except (OSError, SafetensorError) as error:
        raise ValueError(
            f"{path} cannot be read ({error}): it is cut short or of another kind; "
            "copy it again, or calibrate again"
        ) from error
    if not ours:
        raise ValueError(
            f"{path} is of format {about.get('format')}, not {FORMAT}; calibrate again"
        )
    try:
        calibration = _built(tensors, about)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} holds no whole calibration ({error}); copy it again, or calibrate "
            "again"
        ) from error
    for name, model, then in zip(
        ("VQ-VAE-2", "prior"), (vqvae2, prior), calibration.models, strict=True
    ):
        if fingerprint(model) != then:
            raise ValueError(
                f"{path} was made with another {name}; give that, or calibrate again"
            )
    return calibration


def _built(tensors: dict[str, Tensor], about: dict[str, str]) -> Calibration:
    """A calibration from what a file has, with everything in it checked."""
    draws, classes, models = (
        json.loads(about[name]) for name in ("draws", "classes", "models")
    )
    if (whole_number(draws) or 0) < 1:
        raise ValueError(f"draws is {draws}")
    if classes is not None:
        classes = tuple(classes)
        if None in map(whole_number, classes):
            raise ValueError(f"the classes are {classes}")
    if len(models) != 2 or not all(isinstance(each, str) for each in models):
        raise ValueError(f"the models are {models}")
    lengths = {"centres": len(PARTS), "scales": len(PARTS), "pixels": PIXEL_QUANTILES}
    for name, tensor in tensors.items():
        fits = tensor.ndim == (1 if name in PLAIN else 3) and tensor.numel()
        if not fits or len(tensor) != lengths.get(name, len(tensor)):
            raise ValueError(f"{name} has shape {list(tensor.shape)}")
        kinds = [torch.float64] if name == "scores" else [torch.float32]
        kinds += [] if name in PLAIN else [torch.float64]  # of a model in float64
        if tensor.dtype not in kinds or not tensor.isfinite().all():
            raise ValueError(f"{name} is {tensor.dtype} or not finite")
        if name not in ("centres", "scales") and (tensor.diff(dim=-1) < 0).any():
            raise ValueError(f"{name} is not in ascending order")
    if tensors["scales"].min() <= 0:
        raise ValueError("scales are not above 0")
    nats = {level: tensors[f"nats_{level}"] for level in LEVELS}
    kept = {name: tensors[name] for name in PLAIN}
    return Calibration(nats, **kept, draws=draws, classes=classes, models=tuple(models))
