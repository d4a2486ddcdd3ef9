"""Checks of codes, of labels and of the settings that codes are drawn with.

Each ValueError names value, limit and remedy.
"""

import math
from numbers import Real

import numpy as np
import torch
from torch import Tensor

from pixelprior.ranges import whole_number

INTEGERS = (torch.int64, torch.int32, torch.int16, torch.uint8)


def check_codes(codes: Tensor, num_embeddings: int, name: str = "codes") -> None:
    """Raise ValueError unless `codes` are integers [B, H, W] within the codebook."""
    check_tensor(codes, name)
    if codes.dtype not in INTEGERS:
        raise ValueError(
            f"{name} are {codes.dtype}, but codes are integers (torch.long); "
            "pass the indices themselves, never scaled floats"
        )
    if codes.ndim != 3 or 0 in codes.shape:
        raise ValueError(
            f"{name} have shape {list(codes.shape)}, but [B, H, W] with no empty "
            "dimension is needed; add the missing dimension or give at least one code"
        )
    if not check_is_free(codes):
        return
    low, high = codes.min().item(), codes.max().item()
    if low < 0 or high >= num_embeddings:
        raise ValueError(
            f"{name} run from {low} to {high}, but the codebook has codes 0 to "
            f"{num_embeddings - 1}; use codes of the VQ-VAE-2 that this model is for"
        )


def check_labels(labels, batch_size: int, num_classes: int | None) -> Tensor | None:
    """Check labels in any form; return long [batch_size], or None without classes.

    Args:
        labels: whole numbers from 0 to num_classes - 1: one for all images, or one per
            image as a list, tuple, array or tensor of any integer type.

    Raises:
        ValueError: the labels are not whole numbers, not one per image or out of range,
            or there are labels but no classes, or classes but no labels.
    """
    if num_classes is None:
        if labels is not None:
            raise ValueError(
                "labels were given, but this prior was built without classes; leave "
                "them out, or train a prior with num_classes"
            )
        return None
    wanted = f"labels from 0 to {num_classes - 1}, one per image or one for all"
    if labels is None:
        raise ValueError(
            f"this prior is conditional on {num_classes} classes; give {wanted}"
        )
    try:
        # Copied, because torch refuses arrays of negative strides and warns of
        # read-only ones.
        found = torch.as_tensor(
            labels.copy() if isinstance(labels, np.ndarray) else labels
        )
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(f"labels are {labels!r}; give {wanted}") from error
    if found.is_floating_point() or found.is_complex() or found.dtype == torch.bool:
        raise ValueError(f"labels are {found.dtype}, not whole numbers; give {wanted}")
    if found.ndim == 0:
        found = found.expand(batch_size)
    if found.shape != (batch_size,):
        raise ValueError(
            f"labels have shape {list(found.shape)}, but shape [{batch_size}] is "
            f"needed; give {wanted}"
        )
    found = found.long()
    if check_is_free(found):
        low, high = found.min().item(), found.max().item()
        if low < 0 or high >= num_classes:
            raise ValueError(
                f"label {low if low < 0 else high} is out of range; this prior has "
                f"classes 0 to {num_classes - 1}"
            )
    return found


def check_is_free(values: Tensor) -> bool:
    """Whether values can be checked without a delay.

    While a GPU trains, the host would have to wait for the values at each step. There,
    the lookup of a value out of range in an embedding raises an error by itself.
    """
    return values.device.type == "cpu" or not torch.is_grad_enabled()


def check_tensor(value: Tensor, name: str) -> None:
    """Raise ValueError unless `value` is a torch.Tensor."""
    if not isinstance(value, Tensor):
        raise ValueError(
            f"{name} are a {type(value).__name__}, but a torch.Tensor is needed; "
            "convert with torch.as_tensor"
        )


def check_filters(temperature: float, top_k: int | None, top_p: float | None) -> None:
    """Raise ValueError unless all three values are in range."""
    finite = isinstance(temperature, Real) and math.isfinite(temperature)
    if not finite or temperature <= 0:
        raise ValueError(
            f"temperature is {temperature}; give a number above 0 (1.0 samples the "
            "prior as it is, lower is safer, higher more diverse)"
        )
    if top_k is not None and (whole_number(top_k) or 0) < 1:
        raise ValueError(f"top_k is {top_k}; give at least 1, or leave it out")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(
            f"top_p is {top_p}; give a share above 0 and up to 1, or leave it out"
        )


def check_weights(guidance) -> tuple[float, float]:
    """Return the guidance of both levels, given as one number or as (top, bottom).

    Raises:
        ValueError: a weight is not a finite number of at least 0.
    """
    weights = guidance if isinstance(guidance, tuple | list) else (guidance,) * 2
    if len(weights) != 2 or not all(
        isinstance(w, Real) and math.isfinite(w) and w >= 0 for w in weights
    ):
        raise ValueError(
            f"guidance is {guidance}; give a number from 0, or two of them for the top "
            "and the bottom level"
        )
    return tuple(float(w) for w in weights)


def check_guidance(guidance, labels, label_dropout: float) -> tuple[float, float]:
    """Check the guidance of `HierarchicalPixelCNN.sample`; return (top, bottom).

    Args:
        guidance: one number, or one per level.
        labels: what the images are guided towards, or None.
        label_dropout: of the prior.

    Raises:
        ValueError: a weight is not a finite number of at least 0; or one is above 0,
            and there are no labels or the prior was trained without label_dropout.
    """
    weights = check_weights(guidance)
    if any(weights) and not label_dropout:
        raise ValueError(
            f"guidance is {guidance}, but this prior was trained with all labels; "
            "train one with label_dropout, such as 0.1, or leave guidance at 0"
        )
    if any(weights) and labels is None:
        raise ValueError(
            f"guidance is {guidance}, but there are no labels to guide towards; give "
            "labels, or leave guidance at 0"
        )
    return weights


def check_known(known: Tensor, shape, num_embeddings: int, name: str) -> None:
    """Raise ValueError unless `known` holds codes, or -1, for all of `shape`.

    Args:
        known: [B, H, W]. shape: the shape that it must have. num_embeddings: number of
            codes K.
        name: of the codes in the error, such as "top codes".
    """
    name = f"known {name}"
    check_tensor(known, name)
    if tuple(known.shape) != tuple(shape) or known.dtype not in INTEGERS:
        raise ValueError(
            f"{name} are {known.dtype} of shape {list(known.shape)}, but integers of "
            f"shape {list(shape)} are needed, -1 where unknown"
        )
    if known.min() < -1 or known.max() >= num_embeddings:
        raise ValueError(
            f"{name} run from {known.min()} to {known.max()}; give codes from 0 to "
            f"{num_embeddings - 1}, or -1 where unknown"
        )
