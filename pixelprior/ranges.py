"""Checks of numbers. Each raises a ValueError that names value, limit and remedy.

This module loads neither torch nor NumPy, so that flags can be checked before either is
loaded.
"""

import math
import operator
import re
from numbers import Real


def whole_number(value) -> int | None:
    """A whole number of any library's type as an int; None for all else and bools."""
    if isinstance(value, bool) or str(getattr(value, "dtype", "")).endswith("bool"):
        return None
    try:
        return operator.index(value)
    except (TypeError, RuntimeError):  # RuntimeError: a tensor of several numbers
        return None


def numbers_of(version: str) -> list[int]:
    """The numbers of a version, to be compared, without zeros at the end: 2.13.0+cpu
    has 2 and 13. After them stands 0, or -1 for what comes before a release."""
    public = version.partition("+")[0]
    numbers = [int(number) for number in re.match(r"[\d.]*\d", public)[0].split(".")]
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    return [*numbers, -bool(re.search(r"\d(a|b|rc)\d|dev", public))]


def check_positive(**values: int) -> None:
    """Raise ValueError naming the first of `values` that is not a whole number >= 1."""
    for name, value in values.items():
        if (whole_number(value) or 0) < 1:
            raise ValueError(f"{name} is {value!r}; give a whole number of at least 1")


def sides_of(image_size) -> tuple[int, int]:
    """(height, width) of images from a number, a pair, or a text such as 64x96.

    Raises:
        ValueError: it is none of these, or a side is below 1.
    """
    parts = image_size
    if isinstance(image_size, str):
        parts = image_size.lower().split("x")
        parts = [int(part) if part.isdecimal() else None for part in parts]
        parts = parts * 2 if len(parts) == 1 else parts
    elif not isinstance(image_size, list | tuple):
        parts = (image_size, image_size)
    sides = tuple(map(whole_number, parts))
    if len(sides) != 2 or min(side or 0 for side in sides) < 1:
        raise ValueError(
            f"image_size is {image_size}; give one number of pixels of at least 1, or "
            "the height and the width, such as 64x96"
        )
    return sides


def check_share(**values: float) -> None:
    """Raise ValueError naming the first of `values` that is not in [0, 1)."""
    for name, value in values.items():
        if not isinstance(value, Real) or not 0 <= value < 1:
            raise ValueError(f"{name} is {value!r}; give a share from 0 to below 1")


def check_number(*, least: float = 0.0, **values: float) -> None:
    """Raise ValueError naming the first value that is not finite or below `least`."""
    for name, value in values.items():
        if not isinstance(value, Real) or not math.isfinite(value) or value < least:
            raise ValueError(f"{name} is {value!r}; give a number of at least {least}")


def check_kernel_size(kernel_size: int) -> None:
    """Raise ValueError unless `kernel_size` is odd and at least 3."""
    whole = whole_number(kernel_size) or 0
    if whole % 2 == 0 or whole < 3:
        raise ValueError(
            f"kernel_size is {kernel_size!r}; give an odd number of at least 3"
        )
