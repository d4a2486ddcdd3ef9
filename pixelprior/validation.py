"""Checks of codes and labels. Each ValueError names value, limit and remedy."""

import numpy as np
import torch
from torch import Tensor

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
