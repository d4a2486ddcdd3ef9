"""What a check of an exercise says: not attempted yet, not yet, or right, in words.

A check judges a property of the answer, by trying it, and never compares it with a
stored answer. It explains what is wrong and leaves the correction to the reader.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

NOT_ATTEMPTED = (
    "not attempted yet: put your answer in the place of None, and run the cell again"
)


@dataclass(frozen=True)
class Verdict:
    """The outcome of a check; a notebook shows its words.

    Attributes:
        passed: None where nothing was attempted.
        words: what was found.
    """

    passed: bool | None
    words: str

    def __repr__(self) -> str:
        return self.words

    def __bool__(self) -> bool:
        return self.passed is True


class Wrong(Exception):
    """Raised within a check: what is wrong with the answer, in words."""


class NotAttempted(Exception):
    """Raised within a check: the stub is as it was."""


def judged(check: Callable[..., str]) -> Callable[..., Verdict]:
    """Make a check of a function that gives words of praise, or raises `Wrong`.

    The answer is the check's first argument; None, or a function that gives None, is
    not attempted yet. Whatever else goes wrong is said in words as well: no answer,
    however odd, ends in a traceback.
    """

    @functools.wraps(check)
    def verdict(answer, *arguments, **options) -> Verdict:
        try:
            if answer is None:
                raise NotAttempted
            # A check draws random numbers, and leaves the reader's as they were.
            with torch.random.fork_rng(devices=[]):
                words = check(answer, *arguments, **options)
        except NotAttempted:
            return Verdict(None, NOT_ATTEMPTED)
        except Wrong as wrong:
            return Verdict(False, f"not yet: {wrong}")
        except Exception as error:  # an answer may be anything
            return Verdict(
                False,
                f"not yet: trying your answer ended in {type(error).__name__}: {error}",
            )
        return Verdict(True, f"right: {words}")

    return verdict


def call(function, *arguments, what: str = "your function"):
    """What the reader's function gives.

    Raises:
        Wrong: it is no function, or it raised. NotAttempted: it gave None.
    """
    if not callable(function):
        raise Wrong(f"{what} is {type(function).__name__}, but a function is needed")
    try:
        value = function(*arguments)
    except Exception as error:
        raise Wrong(f"{what} raised {type(error).__name__}: {error}") from error
    if value is None:
        raise NotAttempted
    return value


def need_tensor(value, shape=None, what: str = "your answer") -> Tensor:
    """The value as a tensor of that shape, else `Wrong`."""
    if not isinstance(value, Tensor):
        raise Wrong(f"{what} is {type(value).__name__}, but a tensor is needed")
    if shape is not None and tuple(value.shape) != tuple(shape):
        raise Wrong(
            f"{what} has shape {list(value.shape)}, but {list(shape)} is needed"
        )
    return value


def need_number(value, what: str = "your answer") -> float:
    """The value as a number, of a tensor with one element too, else `Wrong`."""
    if (
        isinstance(value, (Tensor, np.ndarray, np.generic))
        and math.prod(value.shape) == 1
    ):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Wrong(f"{what} is {value!r}, but a number is needed")
    if not math.isfinite(value):
        raise Wrong(f"{what} is {value}, which is not finite")
    return float(value)


def need_codes(value, shape, num_embeddings: int, name: str) -> Tensor:
    """The value as codes of that shape, long, else `Wrong`."""
    z = need_tensor(value, tuple(shape), name).detach().cpu()
    if z.is_floating_point() or z.is_complex() or z.dtype == torch.bool:
        raise Wrong(f"{name} is {z.dtype}, but codes are whole numbers")
    z = z.long()
    if (z == -1).any():
        raise Wrong(f"{name} still has −1 in {int((z == -1).sum())} positions")
    if z.min() < 0 or z.max() >= num_embeddings:
        raise Wrong(
            f"{name} runs from {int(z.min())} to {int(z.max())}, but codes run from 0 "
            f"to {num_embeddings - 1}"
        )
    return z


def kind(value) -> str:
    """What a value is, in a word or two that are sure to be short."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {list(value.shape)}"
    if isinstance(value, (tuple, list)):
        return f"{len(value)} thing(s)"
    return f"of type {type(value).__name__}"
