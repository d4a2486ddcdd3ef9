"""Images and checks for notebook 10: p-values, both sides, the alarms of a brighter
camera, and a threshold that keeps its promise."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from pixelprior.course.checks.verdict import (
    Wrong,
    call,
    judged,
    kind,
    need_number,
    need_tensor,
)
from pixelprior.data.images import ImageData, load_images
from pixelprior.evaluation.defects import KINDS, with_defects

TRUTH = "image 5 has no defect"  # of 10.1

# (number of normal scores, false-alarm rate) with which a threshold is tried.
CASES = ((250, 0.01), (160, 0.05), (40, 0.1), (99, 0.29), (50, 0.01))
ALPHA, CALIBRATED, NEAR = 0.05, 100, 6e-3  # of `camera`
OUTPUT = "what your function returns"
BESIDE = ("yours", *KINDS, *KINDS[:2])  # of the first restorations


def images() -> tuple[ImageData, ImageData, ImageData]:
    """The test images that ship, 200 of them with a defect each, and six of which the
    last one has no defect."""
    photographs = load_images("fashion_mnist_mini", "test")
    defects = with_defects(photographs.subset(torch.arange(600, 800))).images
    six = joined(defects.subset([0, 1, 12, 8, 4]), photographs.subset([562]))
    return photographs, defects, six


def joined(one: ImageData, other: ImageData) -> ImageData:
    """The images of both."""
    images = torch.cat([one.images, other.images])
    labels = torch.cat([one.labels, other.labels])
    return replace(one, images=images, labels=labels)


def rank_p_values(values: Tensor, normal: Tensor) -> Tensor:
    """Of values [B, …] and N normal ones [N, …], the share that is at least as large as
    each value, which counts itself, [B, …]."""
    return (1 + (normal >= values[:, None]).sum(1)) / (1 + len(normal))


def twice_the_smaller(values: Tensor, normal: Tensor) -> Tensor:
    """Two-sided p-values [B] of values [B], from normal ones [N]."""
    high, low = rank_p_values(values, normal), rank_p_values(-values, -normal)
    return (2 * torch.minimum(high, low)).clamp(max=1)


def _compare(given, wanted, values, ranked: int, slips: dict[str, Tensor]) -> None:
    """Raises `Wrong` if p-values differ from those that are wanted, which are shares of
    `ranked` values: with the words of the slip that gives them, or with the first."""
    off, *others = (
        ~torch.isclose(given.double(), each.double(), atol=1e-5)
        for each in (wanted, *slips.values())
    )
    if not off.any():
        return
    for words, differs in zip(slips, others, strict=True):
        if not differs.any():
            raise Wrong(words)
    value, mine, needed = (each[off][0].item() for each in (values, given, wanted))
    raise Wrong(
        f"for {value:g} you have {mine:.3f}, but {needed * ranked:.0f}/{ranked}"
        f" = {needed:.3f} is needed"
    )


@judged
def p_values(answer) -> str:
    """The answer is a function (values [B, …], normal [N, …]), as `rank_p_values`."""
    for shape in ((3,), (4, 5, 6)):
        torch.manual_seed(0)
        values = torch.randint(9, shape).float()  # many are equal to a normal one
        normal = torch.randint(9, (20, *shape[1:])).float()
        given = call(answer, values.clone(), normal.clone())
        given = need_tensor(given, shape, OUTPUT)
        c = (normal >= values[:, None]).sum(1)
        equal = (normal == values[:, None]).sum(1)
        slips = {
            "this is c / N, which can be 0; where is the value itself?": c / 20,
            "this is (1 + c) / N, which can be above 1; 1 + N are ranked": (1 + c) / 20,
            "this is c / (1 + N), which can be 0; the value counts too": c / 21,
            "this is c, the number of normal values; p is a share": c,
            "equal values are at least as large, and count": (1 + c - equal) / 21,
            "you count those at most as large, not at least": (21 - c + equal) / 21,
            "you count smaller values, not those at least as large": (21 - c) / 21,
            "this is the share of smaller values, nearly 1 − p": 1 - c / 20,
        }
        _compare(given, rank_p_values(values, normal), values, 21, slips)
    return "each value is ranked among the normal ones of its position, and itself"


@judged
def both_sides(answer) -> str:
    """The answer is a function (values [B], normal [N]), as `twice_the_smaller`."""
    torch.manual_seed(0)
    normal = torch.randn(50) + 3  # 0 is no normal value, so that each sign matters
    values = torch.cat([torch.arange(-1.0, 8), normal.median()[None]])
    given = need_tensor(call(answer, values.clone(), normal.clone()), (10,), OUTPUT)
    high, low = rank_p_values(values, normal), rank_p_values(-values, -normal)
    smaller = torch.minimum(high, low)
    slips = {
        "each side raises an alarm for a share of α, and both for 2α": smaller,
        "some are above 1; `clamp(max=1)` limits them": 2 * smaller,
        "a value below all normal ones has 1; look at that side too": high,
        "a value above all normal ones has 1; look at that side too": low,
        "1 − p can be 0; turn the signs and rank again": 2
        * torch.minimum(high, 1 - high),
    }
    _compare(given, twice_the_smaller(values, normal), values, 51, slips)
    return "a value far below the normal ones is as odd as one far above"


@judged
def camera(answer, normal: Tensor, new: Tensor) -> str:
    """The answer is two shares of alarms at `ALPHA` among scores `new` [M] of normal
    images: of all of them, ranked among `normal` [N], and of those after the first
    `CALIBRATED`, ranked among these."""
    answer = answer.tolist() if hasattr(answer, "tolist") else answer
    if not isinstance(answer, (list, tuple)) or len(answer) != 2:
        raise Wrong(f"your answer is {kind(answer)}, but two numbers are needed")
    first, rest = new[:CALIBRATED], new[CALIBRATED:]
    old, again, twice = (
        (rank_p_values(values, among) <= ALPHA).double().mean().item()
        for values, among in ((new, normal), (rest, first), (new, first))
    )
    one, two = map(need_number, answer)
    if max(one, two) > 1 or min(one, two) < 0:
        raise Wrong("a share is from 0 to 1: divide by the number of images")
    if abs(one - old) > NEAR:
        no_alarm = abs(one - (1 - old)) < NEAR
        words = "raises *no* alarm" if no_alarm else "is not that of all new scores"
        raise Wrong(f"the first share {words}; rank new ones among `scores`")
    if abs(two - again) > NEAR:
        itself = abs(two - twice) < NEAR
        words = "has scores of its own calibration" if itself else "is another"
        raise Wrong(f"the second share {words}; rank the last among the first 100")
    then = f"{again:.0%}, as a single calibration varies (10.4)"
    return f"{old:.0%} of the normal images raise an alarm, and then {then}"


@judged
def threshold(answer) -> str:
    """The answer is a function (scores [M], rate) → a threshold; a new image with a
    higher score raises an alarm.

    A new normal score is above the r-th largest of M with a probability of r / (M + 1).
    The check wants the largest r for which this is at most `rate`, or else infinity.
    """
    torch.manual_seed(0)
    for count, rate in CASES:
        scores = torch.randn(count, dtype=torch.float64) * 2 + 3
        allowed = math.floor(rate * (count + 1) + 1e-9)
        of = f"with {count} normal scores and a rate of {rate:g},"
        try:
            given = call(answer, scores.clone(), rate)
        except Wrong:  # such as the smallest of no scores
            if allowed:
                raise
            given = None
        if not allowed and given != math.inf:
            raise Wrong(f"{of} even 1 of {count + 1} is too often; return math.inf")
        if not allowed:
            continue
        given = need_number(given, "your threshold")
        best = scores.sort(descending=True).values[allowed - 1].item()
        if given < best - 1e-6:
            above = 1 + int((scores > given).sum())
            raise Wrong(
                f"{of} a new score may be above your threshold in {above} of "
                f"{count + 1} cases; allowed are {rate * (count + 1):.4g}"
            )
        if given > best + 1e-6:
            raise Wrong(
                f"{of} a lower threshold keeps the promise: {allowed} of {count + 1} "
                f"cases are allowed, and Python has {rate * (count + 1)} to round"
            )
    return "the promise is kept, and by no lower threshold"
