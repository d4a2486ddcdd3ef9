"""Checks for notebook 05: the order of the two levels, the gain from the top codes, and
the upsampling of top features to the bottom grid."""

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
from pixelprior.data.codes import CodeData
from pixelprior.evaluation.measures import erase_top, image_nats
from pixelprior.pixelcnn import ConditionalPixelCNN

TOLERANCE = 0.005  # nats per code
STEPS = {
    "a": "decode the vectors to pixels",
    "b": "draw z_bottom, code by code, each with the condition of its position",
    "c": "choose a label",
    "d": "look up the vectors of both grids in the two codebooks",
    "e": "embed z_top, look around, enlarge: a condition for each bottom position",
    "f": "draw z_top, code by code",
}
# What must be known before a step, and what is known after it.
_NEEDS = {
    "a": {"the vectors"},
    "b": {"the label", "the condition"},
    "c": set(),
    "d": {"z_top", "z_bottom"},
    "e": {"z_top", "the label"},
    "f": {"the label"},
}
_GIVES = {
    "a": "the image",
    "b": "z_bottom",
    "c": "the label",
    "d": "the vectors",
    "e": "the condition",
    "f": "z_top",
}


@judged
def order_of_levels(answer) -> str:
    """The answer is the letters of `STEPS` in an order in which an image can be drawn.

    The check follows the steps in this order. Whatever a step needs must be known by
    then.
    """
    try:
        letters = [str(letter).strip().lower() for letter in answer]
    except TypeError as error:
        raise Wrong(
            f"your answer is {answer!r}, but letters are needed, such as "
            f"{''.join(sorted(STEPS))!r}"
        ) from error
    letters = [letter for letter in letters if letter not in ("", ",")]
    if sorted(letters) != sorted(STEPS):
        raise Wrong(
            f"your letters are {' '.join(letters) or 'none'}; each of "
            f"{' '.join(sorted(STEPS))} is needed once"
        )
    known: set[str] = set()
    for number, letter in enumerate(letters, 1):
        if missing := sorted(_NEEDS[letter] - known):
            have = ", ".join(sorted(known)) or "nothing"
            raise Wrong(
                f"step {number}, {STEPS[letter]!r}, cannot be done yet: it needs "
                f"{' and '.join(missing)}, and what is known by then is {have}"
            )
        known.add(_GIVES[letter])
    return "each step finds what it needs, and an image comes out at the end"


@judged
def conditional_gain(
    answer,
    with_top: ConditionalPixelCNN,
    without_top: ConditionalPixelCNN,
    codes: CodeData,
) -> str:
    """The answer is a function (with_top, without_top, codes) → the gain from the top
    codes, in nats per bottom code.

    The check measures the gain itself on the same codes, and on a pair of small
    networks with grids of another size.
    """
    gain = _gain_by(answer, with_top, without_top, codes)
    small = (*_small_networks(), _random_codes())
    _gain_by(answer, *small, "on a grid of 6 × 10 bottom codes, ")
    return (
        f"the top codes are worth {gain:.2f} nats per bottom code on these "
        f"{len(codes)} images, and your function holds for other grids too"
    )


def _gain_by(answer, with_top, without_top, codes, where: str = "") -> float:
    """The gain, if the answer gives the same; otherwise raises `Wrong`."""
    given = call(answer, with_top, without_top, codes)
    given = need_number(given, "what your function gives")
    count = codes.z_bottom[0].numel()
    blank = erase_top(codes)

    def measured(network, these) -> float:
        return image_nats(network, these).mean().item() / count

    right, alone = measured(with_top, codes), measured(without_top, blank)
    gain = alone - right
    if abs(given - gain) <= TOLERANCE:
        return gain

    def near(value: float) -> bool:
        return abs(given - value) <= max(TOLERANCE, 1e-3 * abs(value))

    found = f"{where}your function gives {given:.3g}"
    if near(-gain):
        raise Wrong(f"{found}, which has the wrong sign; whose nats are smaller?")
    if near(gain * count):
        raise Wrong(f"{found}: that is nats per image, and nats per code are asked for")
    if near(gain / math.log(2)):
        raise Wrong(f"{found}: those are bits, and nats are asked for")
    if near(measured(with_top, blank) - right):
        raise Wrong(
            f"{found}: you took the top codes away from a network that was trained "
            "with them, which has never seen such a grid; who learned to do without?"
        )
    if near(measured(without_top, codes) - right):
        raise Wrong(
            f"{found}: the network without the top was given top codes, which it "
            "never saw while it was trained"
        )
    if near(alone) or near(right):
        raise Wrong(
            f"{found}: those are the nats of one of the two networks, and the "
            "difference of both is asked for"
        )
    raise Wrong(
        f"{found}, and the package measures another gain on the same codes; take the "
        "mean over images and positions, and each network with the codes that it knows"
    )


def _small_networks() -> tuple[ConditionalPixelCNN, ConditionalPixelCNN]:
    """Two networks of 5 codes whose predictions are far from uniform, so that a mistake
    changes the gain."""
    generator_state = torch.random.get_rng_state()
    torch.manual_seed(0)
    networks = [ConditionalPixelCNN(5, 4, 4, 1).eval() for _ in range(2)]
    torch.random.set_rng_state(generator_state)
    for network in networks:
        network.head[-1].weight.data *= 20
    return networks[0], networks[1]


def _random_codes() -> CodeData:
    generator = torch.Generator().manual_seed(0)
    z_top = torch.randint(5, (3, 3, 5), generator=generator)
    z_bottom = torch.randint(5, (3, 6, 10), generator=generator)
    return CodeData((z_top, z_bottom), None, 5)


@judged
def upsample(answer) -> str:
    """The answer is a function (top [B, p, Ht, Wt], height, width) → features
    [B, p, height, width].

    The function must give each bottom position the features of the top position that it
    lies over. The check tries several grids, with a different number at each top
    position, and tests the gradient.
    """
    for top_shape, shape in (
        ((8, 8), (16, 16)),
        ((4, 6), (8, 12)),
        ((5, 3), (15, 9)),
        ((2, 3), (8, 6)),
    ):
        _try_upsample(answer, top_shape, shape)
    return "each bottom position has the features of the top position that it lies over"


def _try_upsample(answer, top_shape, shape) -> None:
    (high, wide), (height, width) = top_shape, shape
    size = high * wide
    # No two positions of any channel or image have the same number.
    top = torch.arange(1.0, 6 * size + 1).view(2, 3, high, wide).requires_grad_(True)
    what = f"what your function gives for {high} × {wide} over {height} × {width}"
    with torch.enable_grad():
        out = call(answer, top, height, width)
    needed = (2, 3, height, width)
    out = need_tensor(out)
    if tuple(out.shape) == (2, 3, width, height) and height != width:
        raise Wrong(f"{what} has shape {list(out.shape)}: height and width are swapped")
    out = need_tensor(out, needed, what)
    if not out.is_floating_point() or not torch.isfinite(out).all():
        raise Wrong(f"{what} has numbers that are no features: whole, or not finite")
    rows = torch.arange(height) * high // height
    columns = torch.arange(width) * wide // width
    right = top.detach()[:, :, rows][:, :, :, columns]
    wrong = (out.detach() - right).abs() > 1e-4
    if wrong.any():
        raise Wrong(_what_is_wrong(out.detach(), top.detach(), wrong, what))
    if not out.requires_grad:
        raise Wrong(
            f"{what} has no gradient, so that the top network could not be trained; "
            "work on the tensor itself, without detach, numpy or no_grad"
        )
    (gradient,) = torch.autograd.grad(out.sum(), top)
    if (gradient - height * width / size).abs().max() > 1e-4:
        raise Wrong(
            f"the gradient of {what} does not come back evenly to the top positions; "
            "work on the tensor itself"
        )


def _what_is_wrong(out: Tensor, top: Tensor, wrong: Tensor, what: str) -> str:
    image, channel, y, x = wrong.nonzero()[0].tolist()
    height, width = out.shape[2:]
    high, wide = top.shape[2:]
    value = out[image, channel, y, x]
    tiles = top.repeat(1, 1, math.ceil(height / high), math.ceil(width / wide))
    if torch.equal(out, tiles[:, :, :height, :width]):
        return (
            f"{what} is the top grid laid side by side several times; bottom position "
            f"({y}, {x}) has features of a position far from it"
        )
    if torch.equal(out, F.interpolate(top.mT, size=(height, width))):
        return f"{what} has rows and columns of the top swapped"
    from_here = (top[image, channel] - value).abs() < 1e-4
    if from_here.any():
        row, column = from_here.nonzero()[0].tolist()
        return (
            f"in {what}, bottom position ({y}, {x}) has the features of top position "
            f"({row}, {column}), over which it does not lie"
        )
    if ((top - value).abs() < 1e-4).any():
        return (
            f"in {what}, bottom position ({y}, {x}) has features of another image or "
            "of another channel"
        )
    return (
        f"in {what}, bottom position ({y}, {x}) has features that no top position has; "
        "are several mixed?"
    )


@judged
def nats_per_image(answer, prior, codes: CodeData) -> str:
    """The answer is -log P(z_top, z_bottom) of the one image in `codes`, in nats.

    The check measures it as the sum over both levels.
    """
    given = need_number(answer)
    top = image_nats(prior.prior_top, codes).mean().item()
    bottom = image_nats(prior.prior_bottom, codes).mean().item()
    both = top + bottom
    if abs(given - both) <= 0.01 * both:
        return (
            f"this image has {top:.0f} nats in its top codes and {bottom:.0f} in its "
            "bottom codes"
        )

    def near(value: float, share: float = 0.01) -> bool:
        return abs(given - value) <= share * abs(value)

    count = codes.z_top[0].numel() + codes.z_bottom[0].numel()
    if near(top) or near(bottom):
        raise Wrong(f"{given:.3g} is one level alone; an image has both")
    if near(-both):
        raise Wrong(
            f"{given:.3g} is log P itself; the nats of an image are what is left "
            "when its sign is turned"
        )
    if near(both / count):
        raise Wrong(f"{given:.3g} is a mean over codes; one image has many")
    per_code = top / codes.z_top[0].numel() + bottom / codes.z_bottom[0].numel()
    alike = (per_code, per_code * count, per_code * count / 2)
    if any(near(value, 0.002) for value in alike):
        raise Wrong(
            f"{given:.3g} lets both levels count alike, but they have different "
            "numbers of codes"
        )
    if near(both / math.log(2)):
        raise Wrong(f"{given:.4g} is in bits, and nats are asked for")
    raise Wrong(
        f"{given:.4g} is not what the two levels give for this image; a product of "
        "probabilities is a sum of what?"
    )
