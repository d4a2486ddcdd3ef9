"""Checks for notebook 02: masks, the draw of a grid, sums of probabilities, leaks."""

import copy
import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelprior.course.causality import before, leak, seen_by
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
    """The answer is a function of mask type and kernel size, as `mask_of_kernel`.

    With its mask, the middle must see everything that it may see, and no more.
    """
    for size, mask_type in itertools.product((3, 5, 7), "AB"):
        got, what = call(answer, mask_type, size), f"mask {mask_type} of size {size}"
        found = need_tensor(got, (size, size), what).detach()
        if not ((found == 0) | (found == 1)).all():
            raise Wrong(f"{what} has other values than 0 and 1")
        middle, seen = (size // 2, size // 2), found == 1
        wanted = before(middle, (size, size))
        wanted[middle] = mask_type == "B"
        if seen.T.equal(wanted):
            raise Wrong(f"{what} has rows and columns exchanged")
        if seen[middle] and not wanted[middle]:
            raise Wrong(f"with {what}, a position sees itself: the middle is {middle}")
        if (later := leak(seen & ~wanted, middle)) is not None:
            raise Wrong(f"{what} has a 1 at {later}, in the future of {middle}")
        if wanted[middle] and not seen[middle]:
            raise Wrong(f"{what} hides the middle {middle}, which only mask A should")
        if (wanted & ~seen).any():
            hidden = tuple((wanted & ~seen).nonzero()[0].tolist())
            raise Wrong(f"{what} has a 0 at {hidden}, in the past of {middle}")
    return "the middle sees its past under the kernel, B itself as well, and no more"


@torch.no_grad()
def draw_grids(network, codes: Tensor) -> Tensor:
    """Draw grids [B, H, W] code by code, in raster order, in the place of `codes`."""
    _, height, width = codes.shape
    for y, x in itertools.product(range(height), range(width)):
        probs = network(codes)[:, :, y, x].softmax(dim=1)  # [B, K]
        codes[:, y, x] = torch.multinomial(probs, 1)[:, 0]
    return codes


class _Follows:
    """A network whose logits are known, and which keeps the codes that it was given.

    It expects with certainty the sum of all codes before a position, plus 1, if there
    are no `logits`, and has the same `logits` [K] at each position otherwise.
    """

    def __init__(self, num_embeddings: int, logits: Tensor | None = None):
        self.num_embeddings, self.logits, self.given = num_embeddings, logits, []

    def __call__(self, codes: Tensor) -> Tensor:
        if codes.min() < 0:
            raise IndexError("code -1 has no embedding; wait with any other code")
        self.given.append(codes.detach().clone())
        if self.logits is not None:
            return self.logits.expand(*codes.shape, -1).movedim(-1, 1)
        return 30.0 * F.one_hot(self.expected(codes), self.num_embeddings).movedim(
            -1, 1
        )

    def expected(self, codes: Tensor) -> Tensor:
        flat = codes.flatten(1)
        return ((flat.cumsum(1) - flat + 1) % self.num_embeddings).view_as(codes)


def _drawn(
    answer, network: _Follows, shape: tuple[int, int, int]
) -> tuple[Tensor, Tensor]:
    """The codes [B, H, W] that the answer draws, one per pass and in raster order, and
    those that it was given."""
    torch.manual_seed(0)
    start = torch.randint(network.num_embeddings, shape)
    try:
        codes = call(answer, network, start.clone())
    except Wrong as wrong:
        column = "expand" in str(wrong)  # [B, 1] does not fit into [B]
        hint = "; `multinomial` gives [B, 1], and `codes[:, y, x]` is [B]" * column
        raise Wrong(f"{wrong} (the grids here are {list(shape)}){hint}") from wrong
    codes = need_codes(codes, shape, network.num_embeddings, "what you return")
    if any(given.shape != shape for given in network.given):
        raise Wrong(
            f"give the network the whole batch, {list(shape)}, at each position"
        )
    first, *later = network.given or [start]
    if later and all(torch.equal(first, given) for given in later):
        raise Wrong(
            "the network got the same codes in each pass; put each code that is drawn "
            "into the grids that it is given"
        )
    passes, last = [*network.given, codes], -1
    for number, (one, other) in enumerate(itertools.pairwise(passes), 1):
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
    return codes, start


@judged
def draw(answer) -> str:
    """The answer is a function as `draw_grids`."""
    certain = _Follows(5)
    codes, start = _drawn(answer, certain, (8, 3, 4))
    if (wrong := codes != certain.expected(codes)).any():
        y, x = wrong.any(dim=0).nonzero()[0].tolist()
        if (codes == start)[wrong].all():
            raise Wrong(
                f"at least {int(wrong.sum())} of the {codes.numel()} codes of the "
                f"batch were never drawn, such as one at {(y, x)}"
            )
        raise Wrong(
            f"the network was certain of another code at {(y, x)}; do its logits stand "
            "for this position, and is the softmax over the K codes?"
        )
    probs = torch.tensor([0.1, 0.3, 0.6])
    logits = probs.log() + 5  # positive, as probabilities are
    codes, _ = _drawn(answer, _Follows(3, logits), (500, 2, 3))
    shares = codes.flatten().bincount(minlength=3) / codes.numel()
    if (codes == 2).all():
        raise Wrong("only the likeliest code is taken; a draw gives the others as well")
    if (codes == codes[:1]).all():
        raise Wrong("all grids are the same; draw a code for each of them")
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
        if got < 0:
            raise Wrong(f"{got:.4g} is no sum of probabilities; is `.exp()` missing?")
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
    the first convolution, B for all others. The corrected stack must not leak.
    """
    number = need_number(answer)
    if number not in range(len(layers)):
        raise Wrong(f"{number:g} is no layer; count from 0 to {len(layers) - 1}")
    corrected = copy.deepcopy(list(layers))
    layer = corrected[int(number)]
    if not isinstance(layer, nn.Conv2d):
        raise Wrong(
            f"layer {number:g} is no convolution: it looks at one position alone"
        )
    first = not any(isinstance(layer, nn.Conv2d) for layer in layers[: int(number)])
    right = MaskedConv2d(
        "A" if first else "B",
        layer.in_channels,
        layer.out_channels,
        *layer.kernel_size[:1],
    )
    nn.init.ones_(right.weight)
    corrected[int(number)] = right
    position = (shape[0] // 2, shape[1] // 2)
    channels = next(
        layer for layer in layers if isinstance(layer, nn.Conv2d)
    ).in_channels
    found = leak(
        seen_by(nn.Sequential(*corrected), position, shape, channels), position
    )
    if found is not None:
        raise Wrong(
            f"with layer {number:g} corrected, position {position} still sees {found}"
        )
    return f"with layer {number:g} corrected, position {position} sees its past alone"
