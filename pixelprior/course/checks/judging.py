"""Checks for notebook 07: the draw of one code, top-p, a temperature that keeps two
limits, and a number that separates copies from new images."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from pixelprior.course.checks.verdict import (
    Wrong,
    call,
    judged,
    need_number,
    need_tensor,
)
from pixelprior.data.images import ImageData
from pixelprior.evaluation.classifier import load_shipped_reference_models, outputs
from pixelprior.evaluation.measures import frechet_distance, samples
from pixelprior.sampling import inverse_cdf, probabilities

CLOSE = 0.005  # tolerance for the ends of an interval
SHARE, VARIED = 0.9, 0.88  # the two limits that a temperature has to keep
SEED = 2  # of the images by which the temperature is judged
APART = 0.95  # share of pairs in which a copy must have the smaller number
SHIFTS = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]


@judged
def numbers_of_code(answer, p: Tensor, code: int, temperature: float) -> str:
    """The answer is (low, high), the interval of the uniform numbers that draw `code`
    at `temperature`, where p [K] are the probabilities at temperature 1.

    The check finds the interval by drawing with many numbers.
    """
    words = f"your answer is {answer!r}, but two numbers are needed: (low, high)"
    try:
        low, high = (need_number(number) for number in answer)
    except (TypeError, ValueError) as error:
        raise Wrong(words) from error
    if not 0 <= low < high <= 1:
        raise Wrong(
            f"{low:g} to {high:g} is not an interval within 0 to 1; give the "
            "lower end first"
        )
    found = _stretch(p, code, temperature)
    if _agree((low, high), found):
        return (
            f"numbers within your piece drew code {code} at temperature "
            f"{temperature:g}, and numbers outside drew others"
        )
    if temperature != 1 and _agree((low, high), _stretch(p, code, 1.0)):
        raise Wrong(
            f"that is the piece of code {code} at temperature 1; at {temperature:g} "
            "the probabilities are others"
        )
    if temperature != 1 and _agree((low, high), _stretch(p, code, 1 / temperature)):
        raise Wrong(
            "you raised the probabilities to the power of the temperature, or "
            "multiplied the logits by it; which way round is it?"
        )
    if abs(high - low - (found[1] - found[0])) < CLOSE:
        raise Wrong(
            f"your piece is as long as that of code {code}, but lies elsewhere; "
            "which codes come before it, counted from 0?"
        )
    for u in torch.linspace(low, high, 9)[1:-1].tolist():
        drawn = _drawn(p, torch.tensor([u], dtype=torch.float64), temperature).item()
        if drawn != code:
            raise Wrong(f"u = {u:.3f} lies in your piece, and draws code {drawn}")
    raise Wrong(f"numbers outside of your piece draw code {code} as well")


def _agree(one, other) -> bool:
    return all(abs(a - b) < CLOSE for a, b in zip(one, other, strict=True))


def _drawn(p: Tensor, uniform: Tensor, temperature: float) -> Tensor:
    probs = probabilities(p.double().log(), temperature)
    return inverse_cdf(probs.expand(len(uniform), -1), uniform)


def _stretch(p: Tensor, code: int, temperature: float) -> tuple[float, float]:
    """The first and the last of many uniform numbers that draw the code."""
    uniform = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    numbers = uniform[_drawn(p, uniform, temperature) == code]
    if not len(numbers):
        return math.nan, math.nan
    return numbers[0].item(), numbers[-1].item()


@judged
def top_p(answer) -> str:
    """The answer is a function (logits [B, K], p) → the probabilities [B, K] of a draw.

    The check tries it on random logits, on equal logits, and with p from a millionth
    to 1.
    """
    generator = torch.Generator().manual_seed(0)
    for batch, count in ((6, 64), (3, 7)):
        # From nearly uniform to nearly certain, so that rows keep different numbers of
        # codes.
        spread = torch.linspace(0.3, 4, batch)[:, None]
        logits = spread * torch.randn(batch, count, generator=generator)
        for share in (0.9, 0.5, 0.13, 1e-6, 1.0):
            _try_top_p(answer, logits, share)
    equal = torch.zeros(2, 10)
    equal[1, :4] = 3.0
    for share in (0.25, 0.55, 1.0):
        _try_top_p(answer, equal, share, "where codes are equally likely, ")
    # Two of these codes hold the share exactly; a third would be one too many.
    _try_top_p(answer, torch.zeros(2, 4), 0.5, "where codes are equally likely, ")
    return (
        "on random logits and on equal ones, and for shares from a millionth to 1, "
        "the fewest of the likeliest codes are kept that hold the share"
    )


def _try_top_p(answer, logits: Tensor, share: float, where: str = "") -> None:
    given = call(answer, logits.clone(), share)
    where = f"{where}for p = {share:g}"
    given = need_tensor(given, logits.shape, f"{where} what your function gives")
    given = given.detach().double()
    probs = logits.double().softmax(1)  # [B, K]
    if given.isnan().any():
        raise Wrong(f"{where} you give nan; is there a row in which nothing is kept?")
    if not given.isfinite().all() or (given < 0).any():
        raise Wrong(
            f"{where} you give numbers that are no probabilities: below 0, or not "
            "finite; the logits have to become probabilities first"
        )
    ranked, _ = probs.sort(dim=1, descending=True)
    before = ranked.cumsum(1) - ranked
    needed = (before < share - 1e-9).sum(1).clamp(min=1)  # [B]
    if share == 1:
        needed = torch.full_like(needed, logits.shape[1])
    for number in range(len(logits)):
        _judge_row(given[number], probs[number], int(needed[number]), where, number)


def _judge_row(given: Tensor, probs: Tensor, needed: int, where, number: int) -> None:
    """Judge one row [K] of the answer's output, which must keep `needed` codes."""
    row = f"{where}, row {number}:"
    kept = given > 0
    if not kept.any():
        raise Wrong(f"{row} no code is kept; the likeliest always is")
    least, most = probs[kept].min(), probs[~kept].max() if (~kept).any() else 0.0
    count = int(kept.sum())
    if least < most - 1e-6:
        if torch.allclose(given.sort().values, _cut(probs, needed).sort().values):
            raise Wrong(
                f"{row} your probabilities are right, but belong to other codes; they "
                "were sorted, and each has to go back to its place"
            )
        raise Wrong(
            f"{row} a code with p = {least:.4f} is kept, and one with {most:.4f} is "
            "not; the likeliest come first"
        )
    # With p = 1, the last codes may be too improbable to be distinguished from 0.
    if count < needed and probs.sort(descending=True).values[count:needed].sum() > 1e-5:
        hint = "together they hold less than the share"
        if count == needed - 1:
            hint = "is the code that carries the sum past the share kept as well?"
        raise Wrong(f"{row} {count} code(s) are kept, too few: {hint}")
    if count > needed:
        raise Wrong(
            f"{row} {count} codes are kept, and fewer of the likeliest hold the share "
            "already"
        )
    if abs(given.sum() - 1) > 1e-4:
        raise Wrong(
            f"{row} your probabilities add up to {given.sum():.3f}; what was left out "
            "has to be made up for"
        )
    if (given - _cut(probs, count, kept)).abs().max() > 1e-4:
        raise Wrong(
            f"{row} the right codes are kept, but their shares of one another have "
            "changed"
        )


def _cut(probs: Tensor, count: int, kept: Tensor | None = None) -> Tensor:
    """The `count` likeliest of probs [K], or those in `kept`, scaled to sum to 1."""
    if kept is None:
        kept = torch.zeros_like(probs, dtype=torch.bool)
        kept[probs.topk(count).indices] = True
    cut = probs * kept
    return cut / cut.sum()


@judged
@torch.no_grad()
def temperature(answer, vqvae2, prior, heldout: ImageData, count: int = 400) -> str:
    """The answer is a temperature that keeps two limits.

    The Fréchet distance must be at most `SHARE` times that at temperature 1, and images
    of a class must lie at least `VARIED` times as far apart as photographs do. Both are
    measured on images of a seed that the notebook does not use.
    """
    value = need_number(answer)
    if not 0 < value < 1e6:
        raise Wrong(f"{value:g} is no temperature; give a number above 0")
    _, classifier = load_shipped_reference_models()
    reference = outputs(classifier.features, heldout)  # [N, 64]
    images, labels = heldout[torch.arange(len(heldout))]

    def judge(temperature: float) -> tuple[float, float]:
        drawn = samples(vqvae2, prior, count, seed=SEED, temperature=temperature)
        distance = frechet_distance(outputs(classifier.features, drawn), reference)
        return distance, _apart(drawn[torch.arange(count)][0], drawn.labels)

    distance, apart = judge(value)
    share = distance / judge(1.0)[0]
    varied = apart / _apart(images, labels)
    found = (
        f"at {value:g} the Fréchet distance is {share:.3f} times that at temperature "
        f"1, and images of a class lie {varied:.3f} times as far apart as photographs"
    )
    if varied < VARIED and share > SHARE:
        raise Wrong(f"{found}; both limits are missed")
    if varied < VARIED:
        raise Wrong(f"{found}: they are too much alike")
    if share > SHARE:
        raise Wrong(f"{found}: they look too little like photographs")
    return f"both limits are kept, on {count} images of another seed"


def _apart(images: Tensor, labels: Tensor) -> float:
    """The mean distance between two images of the same class, averaged over classes."""
    classes = [images[labels == label].flatten(1) for label in labels.unique()]
    return torch.stack([torch.pdist(images).mean() for images in classes]).mean().item()


@judged
@torch.no_grad()
def distance_to_copies(answer, training: ImageData, heldout: ImageData) -> str:
    """The answer is a function (images [N, C, S, S], training [M, C, S, S]) → one
    number per image, [N], which is small for copies of training images.

    The check tries it on copies and unseen images in random order: first as they are,
    and then all of them shifted by one pixel and slightly blurred.
    """
    generator = torch.Generator().manual_seed(3)
    known = _some(training, 1500, generator)
    copies = known[torch.randperm(len(known), generator=generator)[:50]]
    unseen = _some(heldout, 50, generator)
    for what, change in (
        ("copies as they are", lambda images: images),
        ("copies shifted by a pixel and slightly blurred", _disguised),
    ):
        changed = torch.cat([change(copies), change(unseen)])  # [100, C, S, S]
        size = len(changed)
        order = torch.randperm(size, generator=generator)
        numbers = call(answer, changed[order], known.clone())
        what_is_given = f"what your function gives for {size} images"
        numbers = need_tensor(numbers, (size,), what_is_given)
        numbers = numbers.detach().double()[order.argsort()]
        if not numbers.isfinite().all():
            raise Wrong(f"for {what} you give numbers that are not finite")
        of_copies, of_unseen = numbers.split([len(copies), len(unseen)])
        pairs = of_copies[:, None] - of_unseen  # [50, 50]
        share = ((pairs < 0).double() + (pairs == 0).double() / 2).mean().item()
        if share < 1 - APART:
            raise Wrong(
                f"for {what} your number is larger than for unseen images; it should "
                "be small where an image is a copy"
            )
        if share < APART:
            raise Wrong(
                f"{what} do not stand out: a copy has the smaller number in "
                f"{share:.0%} of the pairs of a copy and an unseen image, and half is "
                f"what guessing gives; {APART:.0%} is needed"
            )
    return (
        "copies have a smaller number than unseen images, shifted and blurred ones too"
    )


def _some(data: ImageData, count: int, generator) -> Tensor:
    """Random images [count, C, S, S] of `data`, in [0, 1]."""
    images, _ = data[torch.randperm(len(data), generator=generator)[:count]]
    return images


def _disguised(images: Tensor) -> Tensor:
    """Images [N, C, S, S], each shifted by one pixel in one of eight directions and
    slightly blurred."""
    others = [shift for shift in SHIFTS if shift != (0, 0)]
    shifted = torch.stack(
        [image.roll(others[i % 8], (1, 2)) for i, image in enumerate(images)]
    )
    return 0.7 * shifted + 0.3 * F.avg_pool2d(shifted, 3, 1, 1)
