"""Checks for notebook 02: masks, the draw of a grid, sums of probabilities, leaks."""

import copy
import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelprior.course.causality import leak, seen_by
from pixelprior.course.checks.verdict import (
    Wrong,
    call,
    judged,
    need_codes,
    need_number,
    need_tensor,
)
from pixelprior.layers import MaskedConv2d

TRUTH = "noise"  # of 02.6


def mask_of_kernel(mask_type: str, size: int) -> Tensor:
    """Mask "A" or "B" of the package for a kernel of size × size."""
    return MaskedConv2d(mask_type, 1, 1, size).mask


@judged
def mask(answer) -> str:
    """The answer is a function of mask type and kernel size, as `mask_of_kernel`."""
    for size, mask_type in itertools.product((3, 5, 7), "AB"):
        what, middle = f"mask {mask_type} of size {size}", (size // 2, size // 2)
        found = need_tensor(call(answer, mask_type, size), (size, size), what)
        wrong = (found != mask_of_kernel(mask_type, size)).nonzero().tolist()
        if not wrong:
            continue
        first = tuple(wrong[0])
        if first == middle and mask_type == "A":
            raise Wrong(f"with {what}, a position sees itself: the middle is {middle}")
        if first == middle:
            raise Wrong(f"{what} hides the middle {middle}, which only mask A should")
        when = "past" if first < middle else "future"
        raise Wrong(
            f"{what} has a {found[first]:g} at {first}, in the {when} of {middle}"
        )
    return "the middle sees its past under the kernel, B itself as well, and no more"


@torch.no_grad()
def draw_grids(network, codes: Tensor) -> Tensor:
    """Draw grids [B, H, W] code by code, in raster order, in the place of `codes`."""
    _, height, width = codes.shape
    for y, x in itertools.product(range(height), range(width)):
        probs = network(codes)[:, :, y, x].softmax(dim=1)  # [B, K]
        codes[:, y, x] = torch.multinomial(probs, 1)[:, 0]
    return codes


def _all_before(codes: Tensor) -> Tensor:
    """The sum of all codes before each position, plus 1, modulo 5: [B, H, W]."""
    flat = codes.flatten(1)
    return ((flat.cumsum(1) - flat + 1) % 5).view_as(codes)


def _drawn(answer, logits_of, num_embeddings: int, shape) -> Tensor:
    """The codes [B, H, W] that the answer draws by these logits, if they are drawn one
    per pass and in raster order."""
    given = []

    def network(codes: Tensor) -> Tensor:
        given.append(codes.clone())
        return logits_of(codes).movedim(-1, 1)

    torch.manual_seed(0)
    codes = call(answer, network, torch.randint(num_embeddings, shape))
    codes = need_codes(codes, shape, num_embeddings, "what you return")
    last = 0
    for number, (one, other) in enumerate(itertools.pairwise([*given, codes]), 1):
        changed = (one != other).any(dim=0).flatten().nonzero().flatten().tolist()
        if len(changed) > 1:
            raise Wrong(
                f"{len(changed)} positions were drawn after pass {number}; all but the "
                "first of them depend on codes that were not drawn yet"
            )
        if changed and changed[0] < last:
            here, there = (divmod(n, shape[2]) for n in (changed[0], last))
            raise Wrong(f"{here} was drawn after {there}; raster order goes row by row")
        last = changed[0] if changed else last
    return codes


@judged
def draw(answer) -> str:
    """The answer is a function as `draw_grids`."""
    codes = _drawn(answer, lambda z: 30.0 * F.one_hot(_all_before(z), 5), 5, (8, 3, 4))
    if (wrong := codes != _all_before(codes)).any():
        y, x = wrong.any(dim=0).nonzero()[0].tolist()
        raise Wrong(
            f"the network was certain of another code at {(y, x)}; do its logits stand "
            "for this position, and is the softmax over the K codes?"
        )
    probs = torch.tensor([0.1, 0.3, 0.6])
    logits = probs.log() + 5  # positive, as probabilities are
    codes = _drawn(answer, lambda z: logits.expand(*z.shape, 3), 3, (500, 2, 3))
    shares = codes.flatten().bincount(minlength=3) / codes.numel()
    if (codes == 2).all():
        raise Wrong("only the likeliest code is taken; a draw gives the others as well")
    if (shares - logits / logits.sum()).abs().max() < 0.05:
        raise Wrong(
            "codes came in proportion to the logits; make probabilities of them"
        )
    if (shares - probs).abs().max() > 0.05:
        found = [round(share, 2) for share in shares.tolist()]
        raise Wrong(f"codes of probability 0.1, 0.3 and 0.6 came in shares of {found}")
    return "each code is drawn once, in raster order, and by its probability"


def every_grid(num_embeddings: int) -> Tensor:
    """All grids of 2 × 2 codes: [K⁴, 2, 2]."""
    codes = torch.arange(num_embeddings)
    return torch.cartesian_prod(codes, codes, codes, codes).view(-1, 2, 2)


def sum_over_grids(network, grids: Tensor) -> float:
    """The sum of the probabilities that a network gives to grids [N, H, W]."""
    nats = F.cross_entropy(network(grids), grids, reduction="none")  # [N, H, W]
    return nats.sum(dim=(1, 2)).neg().exp().sum().item()


@judged
@torch.no_grad()
def total(answer) -> str:
    """The answer is a function as `sum_over_grids`."""
    torch.manual_seed(0)
    table, grids = 3 * torch.randn(3, 4), every_grid(3)
    for mask_type, sees in (("A", "its past alone"), ("B", "its own code")):
        layer = MaskedConv2d(mask_type, 4, 3)

        def network(codes, layer=layer):
            return layer(table[codes].movedim(-1, 1))

        got = need_number(call(answer, network, grids), "your sum")
        wanted = sum_over_grids(network, grids)
        factors = network(grids).softmax(dim=1).gather(1, grids[:, None])
        if abs(got - factors.sum()) < 1e-3 * got:
            raise Wrong("the factors of a grid are to be multiplied, not added")
        if abs(got - wanted) > 1e-3:
            raise Wrong(
                f"of a network that sees {sees}, your sum is {got:.4g}, and not "
                f"{wanted:.4g}; a grid's probability is the product of its four factors"
            )
    return "it is 1 for a network that sees the past alone, and not 1 after a leak"


def suspect_stack() -> list[nn.Module]:
    """A stack of seven layers, [B, 32, H, W] to [B, 16, H, W], one of which leaks."""
    layers: list[nn.Module] = [MaskedConv2d("A", 32, 16)]
    for _ in range(3):
        layers += [nn.ELU(), MaskedConv2d("B", 16, 16)]
    layers[4].mask[1, 2] = 1
    return layers


@judged
def leaking_layer(answer, layers: list[nn.Module], shape: tuple[int, int]) -> str:
    """The answer is the number of the layer that leaks.

    The check gives this layer the mask that its position in the stack requires: A for
    the first one, B for all others. The corrected stack must not leak.
    """
    number, corrected = need_number(answer), copy.deepcopy(list(layers))
    layer, position = corrected[int(number)], (shape[0] // 2, shape[1] // 2)
    if not isinstance(layer, nn.Conv2d):
        raise Wrong(
            f"layer {number:g} is no convolution: it looks at one position alone"
        )
    layer.mask.copy_(mask_of_kernel("B" if number else "A", layer.kernel_size[0]))
    network = nn.Sequential(*corrected)
    found = leak(seen_by(network, position, shape, layers[0].in_channels), position)
    if found is not None:
        raise Wrong(
            f"with layer {number:g} corrected, position {position} still sees {found}"
        )
    return f"with layer {number:g} corrected, position {position} sees its past alone"
