"""What a check says of an exercise: "not attempted yet", "not yet" or "right", and why.

A check judges a property of the answer by trying the answer, and never compares it with
a stored one. A check explains what is wrong and leaves the correction to the reader.
"""

import functools
import math
import reprlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

NOT_ATTEMPTED = (
    "not attempted yet: put your answer in the place of None, and run the cell again"
)
NOTHING_RETURNED = (
    "not attempted yet: your function returns None; is the line `return None` still "
    "there, or your own `return` missing?"
)
FALLBACK = "Until yours is right, the package's is used below."


@dataclass(frozen=True)
class Verdict:
    """What a check found, in words, and whether the answer is right; None if nothing
    was attempted."""

    passed: bool | None
    words: str

    def __repr__(self) -> str:
        return self.words

    def __bool__(self) -> bool:
        return self.passed is True


class Wrong(Exception):
    """Raised within a check; the message says what is wrong with the answer."""


class NotAttempted(Exception):
    """Raised within a check if the stub is unchanged."""


def judged(check: Callable[..., str]) -> Callable[..., Verdict]:
    """Turn a function that returns words of praise, or raises `Wrong`, into a check.

    The first argument is the answer; None, or a function that returns None, is not
    attempted yet. Any other exception is put into words as well.
    """

    @functools.wraps(check)
    def verdict(answer, *arguments, **options) -> Verdict:
        try:
            if answer is None:
                raise NotAttempted
            # The check may draw random numbers; the reader's random state is restored.
            with torch.random.fork_rng(devices=[]):
                words = check(answer, *arguments, **options)
        except NotAttempted as nothing:
            return Verdict(None, str(nothing) or NOT_ATTEMPTED)
        except Wrong as wrong:
            return Verdict(False, f"not yet: {wrong}")
        except Exception as error:  # an answer may be anything
            return Verdict(
                False,
                f"not yet: trying your answer ended in {type(error).__name__}: {error}",
            )
        return Verdict(True, f"right: {words}")

    return verdict


def your_turn(check: Callable[..., Verdict], mine, *arguments, otherwise):
    """Print the verdict on the reader's function; return it if it passed, and
    `otherwise` if not."""
    verdict = check(mine, *arguments)
    print(verdict if verdict else f"{verdict}\n{FALLBACK}")
    return mine if verdict else otherwise


def reveal(truth: str, guess=None) -> None:
    """Print what is true, and beside it what the reader had guessed."""
    print(truth if guess is None else f"{truth}; your guess was {guess}")


def call(function, *arguments):
    """What the reader's function returns for these arguments."""
    if not callable(function):
        raise Wrong(f"that is {type(function).__name__}, but a function is needed")
    try:
        value = function(*arguments)
    except Exception as error:
        raise Wrong(f"your function raised {type(error).__name__}: {error}") from error
    if value is None:
        raise NotAttempted(NOTHING_RETURNED)
    return value


def need_tensor(value, shape=None, what: str = "your answer") -> Tensor:
    """The value, if it is a tensor of that shape; otherwise raises `Wrong`."""
    if not isinstance(value, Tensor):
        more = "; take its .values" * ("return_types" in str(type(value)))
        raise Wrong(f"{what} is {type(value).__name__}, but a tensor is needed{more}")
    if shape is not None and tuple(value.shape) != tuple(shape):
        raise Wrong(
            f"{what} has shape {list(value.shape)}, but {list(shape)} is needed"
        )
    return value


def need_number(value, what: str = "your answer") -> float:
    """The value as a float, if it is a finite number or a tensor with one element that
    is; otherwise raises `Wrong`."""
    if isinstance(value, (Tensor, np.generic)) and math.prod(value.shape) == 1:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        words = kind(value) if isinstance(value, Tensor) else reprlib.repr(value)
        raise Wrong(f"{what} is {words}, but a number is needed")
    if not math.isfinite(value):
        raise Wrong(f"{what} is {value}, which is not finite")
    return float(value)


def need_codes(value, shape, num_embeddings: int, name: str) -> Tensor:
    """The value as a long tensor of codes of that shape; otherwise raises `Wrong`."""
    z = need_tensor(value, shape, name)
    if z.is_floating_point():
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
    """What a value is, in a few words, however long the value itself would print."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {list(value.shape)}"
    if isinstance(value, (tuple, list)):
        return f"{len(value)} thing(s)"
    return f"of type {type(value).__name__}"
