"""Checks for notebook 10: a threshold that keeps its promise, areas under the ROC curve
by level, and the alarms among the files of a folder."""

import math
import os
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from pixelprior.course.checks.verdict import Wrong, call, judged, kind, need_number
from pixelprior.data.images import load_images
from pixelprior.plotting import save_images

# (number of normal scores, false-alarm rate) with which a threshold is tried.
CASES = ((250, 0.01), (160, 0.05), (40, 0.1), (99, 0.29), (50, 0.01))
LEVELS = ("top", "bottom")
NEAR = 6e-3  # of an area under the ROC curve; two decimals are enough
# Test images in the folders of `alarms`. The searched ones have p-values above 0.6.
NORMAL = range(880, 1000)
SEARCHED = (801, 804, 808, 809, 810, 811, 815)
NEGATIVE, TURNED = 805, 800  # their scores are about 37 and 13; normal ones reach 10
BROKEN = "zipper.png"


@judged
def threshold(answer) -> str:
    """The answer is a function (scores [M], rate) → a threshold; a new image with a
    higher score raises an alarm.

    If a new image is like the normal ones, all M + 1 scores are in random order, so
    that its score is above the k-th largest with a probability of k / (M + 1). The
    check wants the largest k for which this is at most `rate`, and infinity if there
    is none.
    """
    generator = torch.Generator().manual_seed(0)
    for count, rate in CASES:
        scores = torch.randn(count, dtype=torch.float64, generator=generator) * 2 + 3
        given = call(answer, scores.clone(), rate)
        if math.floor(rate * (count + 1) + 1e-9):
            number = need_number(given, "your threshold")
            _judge_threshold(number, scores, rate)
        elif given != math.inf:
            raise Wrong(
                f"with {count} normal scores, a new one is the largest of all in 1 of "
                f"{count + 1} cases, and a rate of {rate:g} allows none; return "
                "math.inf there"
            )
    return (
        "a new normal image raises an alarm with at most the stated probability, and "
        "no lower threshold can promise this"
    )


def _judge_threshold(given: float, scores: Tensor, rate: float) -> None:
    """Raise `Wrong` unless the threshold is the lowest that keeps the promise."""
    count, largest = len(scores), scores.sort(descending=True).values
    allowed = math.floor(rate * (count + 1) + 1e-9)
    if math.isclose(given, largest[allowed - 1], rel_tol=1e-6, abs_tol=1e-9):
        return
    of = f"with {count} normal scores and a rate of {rate:g},"
    at_least, above = (int(each.sum()) for each in (scores >= given, scores > given))
    if above == count:
        raise Wrong(
            f"{of} your threshold, {given:.3g}, is below all of the scores, so that "
            "nearly every normal image would raise an alarm; which end is odd?"
        )
    # In between two scores, a new one may be on either side of the threshold.
    worst = max(at_least, above + 1)
    if worst > allowed:
        raise Wrong(
            f"{of} {above} of the normal scores are above your threshold, {given:.3g}. "
            f"A new score is the {_ordinal(above + 1)} largest of all {count + 1}, or "
            f"even larger, in {above + 1} of {count + 1} cases, and may then be above "
            f"the threshold as well; allowed are {rate:g} · {count + 1} = "
            f"{rate * (count + 1):.4g} cases"
        )
    raise Wrong(
        f"{of} your threshold, {given:.3g}, is higher than it has to be: the promise "
        "would still be kept at a lower one, which finds more of what is odd"
    )


def _ordinal(number: int) -> str:
    ends = {1: "st", 2: "nd", 3: "rd"}
    teen = number % 100 in (11, 12, 13)
    return f"{number}{'th' if teen else ends.get(number % 10, 'th')}"


@judged
def areas(answer, scores: dict[str, dict[str, Tensor]]) -> str:
    """The answer is four areas under the ROC curve, of two kinds of defects by two
    levels, in the order in which `scores` has them.

    Args:
        scores: by kind of images and by level, the scores [n] of these images; the
            first kind is normal, and higher is odder.
    """
    normal, *defects = scores
    names = [f"{defect} by {level}" for defect in defects for level in LEVELS]
    if isinstance(answer, (Tensor, np.ndarray)):
        answer = answer.flatten().tolist()
    if not isinstance(answer, (list, tuple)) or len(answer) != len(names):
        raise Wrong(
            f"your answer is {kind(answer)}, but {len(names)} numbers are needed: "
            f"{', '.join(names)}"
        )
    given = [need_number(each) for each in answer]
    wanted = [_area(scores[normal][x], scores[k][x]) for k in defects for x in LEVELS]
    _judge_areas(given, wanted, names)
    ahead = [
        f"the {defect} is found better by the "
        f"{'top' if wanted[2 * place] > wanted[2 * place + 1] else 'bottom'} codes"
        for place, defect in enumerate(defects)
    ]
    return " and ".join(ahead)


def _judge_areas(given: list[float], wanted: list[float], names: list[str]) -> None:
    """Raise `Wrong` unless the areas are the wanted ones."""

    def same(ones, others) -> bool:
        pairs = zip(ones, others, strict=True)
        return all(abs(one - other) < NEAR for one, other in pairs)

    if same(given, wanted):
        return
    if same(given, [1 - each for each in wanted]):
        raise Wrong(
            "each is 1 less the area: count the pairs in which the image with the "
            "defect has the higher score"
        )
    swapped = [wanted[place ^ 1] for place in range(len(wanted))]
    turned = wanted[len(wanted) // 2 :] + wanted[: len(wanted) // 2]
    for other, what in ((swapped, "both levels"), (turned, "both kinds of defects")):
        if same(given, other):
            raise Wrong(f"{what} have changed places")
    for number, area, name in zip(given, wanted, names, strict=True):
        if not 0 <= number <= 1:
            raise Wrong(f"the area for {name} is {number:g}, but a share is 0 to 1")
        if abs(number - area) >= NEAR:
            raise Wrong(
                f"the area for {name} is not {number:.2f}; of all pairs of a normal "
                "image and one with this defect, in which share has the latter the "
                "higher score?"
            )


def _area(low: Tensor, high: Tensor) -> float:
    """The share of pairs in which the second has the higher score; ties count half."""
    above = (high[:, None] > low).double() + 0.5 * (high[:, None] == low).double()
    return above.mean().item()


@judged
def alarms(answer) -> str:
    """The answer is a function (new, normal) of two folders: it searches the image
    files in `new`, with those in `normal` as normal ones, and returns the names of
    those with a p-value of at most 0.05, the oddest first, and the names of files that
    cannot be read.

    The check puts a negative and an image that is upside down among photographs of
    clothes, under names in random order, and a file that is no image.
    """
    photographs = load_images("fashion_mnist_mini", "test")
    names = [f"image-{number}.png" for number in torch.randperm(90)[:9].tolist()]
    names[:2] = sorted(names[:2], reverse=True)  # the oddest is not the first anyway
    with tempfile.TemporaryDirectory() as folder:
        new, normal = Path(folder, "new"), Path(folder, "normal")
        images, _ = photographs[torch.tensor(SEARCHED)]
        (negative, turned), _ = photographs[torch.tensor([NEGATIVE, TURNED])]
        odd = torch.stack([1 - negative, turned.flip(1)])
        save_images(torch.cat([odd, images]), [new / name for name in names])
        (new / BROKEN).write_text("not an image")
        images, _ = photographs[torch.tensor(NORMAL)]
        save_images(images, [normal / f"{number}.png" for number in NORMAL])
        before = sorted(new.iterdir()), sorted(normal.iterdir())
        # What the command keeps for a next time is removed as well.
        with mock.patch.dict(os.environ, PIXELPRIOR_CACHE=str(Path(folder, "cache"))):
            given = call(answer, new, normal)
        if before != (sorted(new.iterdir()), sorted(normal.iterdir())):
            raise Wrong("there are other files in the folders than before")
    lists = [given, *given] if isinstance(given, (tuple, list)) else [given]
    if len(lists) != 3 or not all(isinstance(each, (tuple, list)) for each in lists):
        raise Wrong(
            f"your function gives {kind(given)}, but two lists are needed: the names "
            "of images that raise an alarm, and those of files that cannot be read"
        )
    odd, broken = ([str(name) for name in each] for each in given)
    _judge_alarms(odd, names[:2], names[2:])
    if broken != [BROKEN]:
        raise Wrong(
            f"{BROKEN} cannot be read, and your second list is {broken}; what does its "
            "line in scores.csv say?"
        )
    return "both odd images raise an alarm, and the file that is no image is named"


def _judge_alarms(given: list[str], odd: list[str], usual: list[str]) -> None:
    """Raise `Wrong` unless the names are those of the odd images, in this order."""
    if BROKEN in given:
        raise Wrong(
            f"{BROKEN} is in your first list, but it cannot be read and has no "
            "p-value; what does its line in scores.csv say?"
        )
    for name in given:
        if name not in (*odd, *usual):
            raise Wrong(f"{name} is no image of the folder; give its name alone")
    false = [name for name in given if name in usual]
    if false:
        raise Wrong(
            f"{', '.join(false)} is like the normal images, and its p-value is above "
            "0.05; which lines of scores.csv did you take?"
        )
    for name, what in zip(odd, ("a negative", "upside down"), strict=True):
        if name not in given:
            raise Wrong(f"{name} is {what}, and is not in your first list")
    if given == odd[::-1]:
        raise Wrong("the names are in the wrong order: the oddest image comes first")
    if given != odd:
        raise Wrong(f"{', '.join(given)}: give each name once")
