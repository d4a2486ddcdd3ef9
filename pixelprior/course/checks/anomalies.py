"""Images and checks for notebook 10: p-values, both sides, the alarms of a brighter
camera, and a threshold that keeps its promise."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from pixelprior.course.checks.verdict import Wrong, call, judged, need_tensor
from pixelprior.data.images import ImageData, load_images
from pixelprior.evaluation.defects import KINDS, with_defects

TRUTH = "image 5 has no defect"  # of 10.1
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


def _compare(answer, wanted, values: Tensor, normal: Tensor, slips: dict) -> None:
    """Raises `Wrong` if the answer gives other p-values than those wanted: with the
    words of the slip that gives the same, or with the first that is wrong."""
    given = call(answer, values.clone(), normal.clone())
    given = need_tensor(given, values.shape).float()
    off, ranked = ~torch.isclose(given, wanted, atol=1e-5), 1 + len(normal)
    if not off.any():
        return
    for words, slip in slips.items():
        if torch.allclose(given, slip, atol=1e-5):
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
        share, lower = (normal >= values[:, None]).float().mean(1), (-values, -normal)
        slips = {
            "this is c / N, which can be 0; where is the value itself?": share,
            "count the value itself among the N as well": share + 1 / 20,
            "count the value itself among the c as well": share * 20 / 21,
            "you count those at most as large, not at least": rank_p_values(*lower),
        }
        _compare(answer, rank_p_values(values, normal), values, normal, slips)
    return "each value is ranked among the normal ones of its position, and itself"


@judged
def both_sides(answer) -> str:
    """The answer is a function (values [B], normal [N]), as `twice_the_smaller`."""
    torch.manual_seed(0)
    normal = torch.randn(50) + 3  # 0 is no normal value, so that each sign matters
    values = torch.cat([torch.arange(-1.0, 8), normal.median()[None]])
    high, low = rank_p_values(values, normal), rank_p_values(-values, -normal)
    once, other = torch.minimum(high, low), 2 * torch.minimum(high, 1 - high)
    slips = {
        "each side raises an alarm for a share of α, and both for 2α": once,
        "1 − p can be 0; turn the signs and rank again": other,
    }
    _compare(answer, twice_the_smaller(values, normal), values, normal, slips)
    return "a value far below the normal ones is as odd as one far above"


@judged
def camera(answer, normal: Tensor, new: Tensor) -> str:
    """The answer is two shares of alarms at 0.05 among scores `new` [M] of normal
    images: of all of them, ranked among `normal` [N], and of those after the first 100,
    ranked among these."""
    one, two = map(float, answer)
    if not 0 <= min(one, two) <= max(one, two) <= 1:
        raise Wrong(f"you have {one:g} and {two:g}, and a share is from 0 to 1")
    old, again = (
        (rank_p_values(values, among) <= 0.05).double().mean().item()
        for values, among in ((new, normal), (new[100:], new[:100]))
    )
    if not abs(one - old) < 6e-3:
        raise Wrong("the first share is not that of all new scores among `scores`")
    if not abs(two - again) < 6e-3:
        raise Wrong("the second share is of the last 100 scores among the first 100")
    then = f"{again:.0%}, as a single calibration varies (10.4)"
    return f"{old:.0%} of the normal images raise an alarm, and then {then}"


@judged
def threshold(answer) -> str:
    """The answer is a function (scores [M], rate) → a threshold. A new normal score is
    above the r-th largest of M with a probability of r / (M + 1); the largest r is
    wanted for which this is at most `rate`."""
    torch.manual_seed(0)
    for count, rate in ((250, 0.01), (160, 0.05), (40, 0.1), (99, 0.29), (50, 0.01)):
        scores = torch.randn(count, dtype=torch.float64) * 2 + 3
        scores = scores.round() if count == 160 else scores  # many are equal
        r = math.floor(rate * (count + 1) + 1e-9)
        best = scores.sort(descending=True).values[r - 1].item() if r else math.inf
        given = call(answer, scores.clone(), rate)
        if not math.isclose(given, best, abs_tol=1e-6):
            above = 1 + int((scores > given).sum())
            raise Wrong(
                f"with {count} normal scores and a rate of {rate:g}, a new score may "
                f"be above your threshold in {above} of {count + 1} cases; {r} are "
                "allowed, and the lowest threshold that keeps to this is wanted"
            )
    return "the promise is kept, and by no lower threshold"
