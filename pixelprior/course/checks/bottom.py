"""Checks for notebook 05: the enlarged top grid, the block with a condition, the nats
of an image, and the gain from the top codes."""

import math
import re
from dataclasses import replace

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from pixelprior.course import figures
from pixelprior.course.checks.verdict import (
    Wrong,
    call,
    judged,
    kind,
    need_number,
    need_tensor,
)
from pixelprior.data.codes import CodeData, extract_codes
from pixelprior.data.images import load_images
from pixelprior.evaluation.classifier import load_shipped_reference_models
from pixelprior.evaluation.measures import erase_top, image_nats
from pixelprior.layers import GatedBlock
from pixelprior.pixelcnn import ConditionalPixelCNN
from pixelprior.vqvae2 import VQVAE2

TOLERANCE = 0.005  # nats per code


def codes(vqvae2: VQVAE2, split: str, count: int) -> CodeData:
    """The codes of the first images of the part of Fashion-MNIST that ships."""
    images = load_images("fashion_mnist_mini", split)
    return extract_codes(vqvae2, images.subset(torch.arange(count)))


def learning_curve(
    network_class: type, training: CodeData, watched: CodeData
) -> list[float]:
    """Train a small `ConditionalPixelCNN` by the loop of notebook 04, without labels.

    Each call has the same first weights, and takes three times the same batches of 16.

    Returns:
        The nats per bottom code of 100 images of `watched` after every 24th step.
    """
    torch.manual_seed(0)
    size = training.num_embeddings
    network = network_class(size, 32, 32, num_layers=2, dropout=0.0)
    training, watched = (replace(each, labels=None) for each in (training, watched))
    watched, highest, curve = watched.subset(slice(100)), 5e-3, []
    order = torch.randperm(len(training)).repeat(3).split(16)
    # With so little momentum, even a training this short learns to use the top codes.
    optimizer = torch.optim.AdamW(network.parameters(), lr=highest, betas=(0.5, 0.999))
    # A linear rise over the first tenth, and then a cosine.
    total = {"total_steps": len(order), "pct_start": 0.1, "cycle_momentum": False}
    schedule = OneCycleLR(optimizer, highest, **total)
    for step, indices in enumerate(order, 1):
        z_top, z_bottom, _ = training.batch(indices)
        optimizer.zero_grad()
        network.nats(z_bottom, z_top).mean().backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 24 == 0:
            nats = image_nats(network, watched).mean().item()
            curve.append(nats / watched.z_bottom[0].numel())
    return curve


def curves(without: list[float], with_top: list[float], heldout: CodeData) -> Figure:
    """Two curves of `learning_curve`, and the unigram entropy of the codes."""
    steps = [24 * number for number in range(1, len(without) + 1)]
    return figures.curves(
        {
            "without the top codes": (steps, without),
            "with the top codes": (steps, with_top),
        },
        x_label="training steps of 16 images",
        x_ticks=steps,
        y_label="nats per bottom code, held out",
        baselines={"unigram entropy": heldout.unigram_entropy("bottom")},
    )


def map_of(gain: Tensor) -> Figure:
    """The gain [16, 16] by position."""
    maps = {"gain from the top codes": gain}
    return figures.heatmaps(maps, unit="nats per code", limits=(0, None), numbered=True)


def bars(own: Tensor, alone: Tensor, same_class: Tensor, shuffled: Tensor) -> Figure:
    """The mean nats per code with each kind of top codes, the lowest first."""
    costs = {
        "its own top": own.mean().item(),
        "no top:\nthe twin": alone.mean().item(),
        "another's,\nsame class": same_class.mean().item(),
        "another's": shuffled.mean().item(),
        "uniform\nguess": math.log(30),
    }
    costs = dict(sorted(costs.items(), key=lambda item: item[1]))
    return figures.bars(costs, y_label="nats per bottom code, 96 images", alike=True)


def shipped_twin() -> ConditionalPixelCNN:
    """The bottom level that was trained without the top codes."""
    return load_shipped_reference_models()[0]


def another_of_its_class(labels: Tensor) -> Tensor:
    """For each image, [N], the number of the first other one that has its label."""
    same = labels[:, None] == labels  # [N, N]
    return same.fill_diagonal_(False).int().argmax(dim=1)


def with_weights_of(network_class: type, network: ConditionalPixelCNN):
    """A network of another class with the config and the weights of this one."""
    other = network_class(**network._hub_mixin_config)
    other.load_state_dict(network.state_dict())
    return other.eval()


def seen(
    network: ConditionalPixelCNN, codes: CodeData, position: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Which bottom codes, bool [H, W], and which top codes, bool [h, w], the logits at
    a bottom position depend on, by the gradient at the first eight images."""
    vectors = {}

    def watch(embedding, _, given):
        vectors[embedding] = given.detach().requires_grad_()
        return vectors[embedding]

    levels = (network.embedding, network.top_embedding)
    hooks = [each.register_forward_hook(watch) for each in levels]
    with torch.enable_grad():
        z_top, z_bottom, labels = codes.batch(torch.arange(8))
        logits = network(z_bottom, z_top, labels)[:, :, position[0], position[1]]
        # Each logit has its own weight, so that they do not cancel each other.
        total = (logits * torch.linspace(0.5, 1.5, logits.shape[1])).sum()
        gradients = torch.autograd.grad(total, [vectors[each] for each in levels])
    for hook in hooks:
        hook.remove()
    return tuple((each != 0).any(dim=3).any(dim=0) for each in gradients)


def positions() -> dict[str, Tensor]:
    """The numbers of 4 × 4 top positions, and the same over the bottom positions."""
    numbers = torch.arange(16.0).view(1, 1, 4, 4)
    grids = {"top positions": numbers, "bottom positions": enlarged(numbers)}
    return {name: grid[0, 0].long() for name, grid in grids.items()}


def enlarged(features: Tensor) -> Tensor:
    """Features [B, p, h, w] to [B, p, 2h, 2w], each over a square of 2 × 2."""
    return F.interpolate(features, scale_factor=2)


@judged
def enlarge(answer) -> str:
    """The answer is a function of features [B, p, h, w], as `enlarged`.

    The check tries several grids, with a different number at each position, and tests
    the gradient.
    """
    for height, width in ((8, 8), (2, 3), (5, 4)):
        _try_enlarge(answer, height, width)
    return (
        "each bottom position has the features of the top position that it belongs to"
    )


def _try_enlarge(answer, height: int, width: int) -> None:
    # No two positions of any channel or image have the same number.
    features = torch.arange(1.0, 6 * height * width + 1).view(2, 3, height, width)
    features.requires_grad_(True)
    what = f"what your function gives for {height} × {width}"
    with torch.enable_grad():
        out = call(answer, features, what=f"on a grid of {height} × {width}, yours")
    out = need_tensor(out, (2, 3, 2 * height, 2 * width), what)
    if problem := _misplaced(out.detach(), features.detach()):
        raise Wrong(f"in {what}, {problem}")
    if not out.requires_grad:
        raise Wrong(
            f"{what} has no gradient, so that the layers below could not be trained; "
            "work on the tensor itself, without detach, numpy or no_grad"
        )


def _misplaced(out: Tensor, features: Tensor) -> str:
    """What is wrong with enlarged features, in words; "" for nothing."""
    wrong = ((out - enlarged(features)).abs() > 1e-4).nonzero()
    if len(wrong) == 0:
        return ""
    image, channel, y, x = wrong[0].tolist()
    here, value = f"bottom position ({y}, {x})", out[image, channel, y, x]
    if torch.equal(out, features.repeat(1, 1, 2, 2)):
        return f"the grid lies side by side four times: {here} is far from its features"
    found = ((features[image, channel] - value).abs() < 1e-4).nonzero()
    if len(found):
        row, column = found[0].tolist()
        return (
            f"{here} has the features of top position ({row}, {column}), and belongs "
            f"to ({y // 2}, {x // 2})"
        )
    return f"{here} has features that no top position has; are several mixed?"


@judged
def gated_block(answer) -> str:
    """The answer is a function of block, v, h and condition, as `GatedBlock.forward`.

    The check compares both stacks with those of a first and of a later block, and finds
    out what the condition changes in them.
    """
    torch.manual_seed(0)
    for mask_type, channels in (("B", 4), ("A", 6)):
        _try_block(answer, GatedBlock(mask_type, channels, 4, 3, 4), channels)
    block, given = GatedBlock("B", 4, 4, 3, 4), torch.randn(3, 1, 4, 5, 6)
    call(answer, block, *given)[0].sum().backward()
    if block.condition.weight.grad is None:
        raise Wrong(
            "no gradient leads back to `block.condition`, so that it could not be "
            "trained; leave the condition attached"
        )
    return "the condition reaches both stacks at its own position, before the gates"


def _try_block(answer, of_package: GatedBlock, channels: int) -> None:
    v, h, condition = (torch.randn(2, c, 5, 6) for c in (channels, channels, 4))

    def given(v, condition) -> tuple[Tensor, Tensor]:
        try:
            both = call(answer, of_package, v.clone(), h.clone(), condition.clone())
        except Wrong as wrong:
            if not re.search("must match|channels", str(wrong)):
                raise
            raise Wrong(
                f"{wrong}. In this block {of_package.vertical.in_channels} channels "
                "come in, `up` has 8, and the condition has 4; which convolution takes "
                "a condition?"
            ) from wrong
        if not isinstance(both, (tuple, list)) or len(both) != 2:
            raise Wrong(f"your function gives {kind(both)}, and not new v and new h")
        return tuple(
            need_tensor(each, (2, 4, 5, 6), f"your new {name}").detach()
            for name, each in zip("vh", both, strict=True)
        )

    with torch.no_grad():
        plain = of_package(v, h)
        new = given(v, condition)
        same_v, same_h = map(_close, new, of_package(v, h, condition))
        if same_v and same_h:
            return
        if not all(map(_close, given(v, 0 * condition), plain)):
            raise Wrong(
                "with a condition of zeros, your block differs from that of notebook "
                "03; what the condition gives is added, and all other lines stay"
            )
        plain_v, plain_h = map(_close, new, plain)
        if plain_v and plain_h:
            raise Wrong(
                "the condition changes nothing yet; what `block.condition` gives is to "
                "be added to `up`, and kept in `up`"
            )
        if plain_v:
            raise Wrong(
                "the condition reaches h and not v; the equation adds it to what the "
                "gate of the vertical stack gets"
            )
        if same_v and plain_h:
            raise Wrong(
                "the condition reaches v and not h: `across` was computed from `up` "
                "before the condition was in it"
            )
        other = v.flip(0)
        apart = given(other, condition)[0] - given(other, 0 * condition)[0]
        if _close(apart, new[0] - plain[0]):
            raise Wrong(
                "the condition is added to v after the gate, where it can neither open "
                "nor close it"
            )
    raise Wrong(
        "the condition reaches v, but not as in the equation; it is added to `up` "
        "once, to all 2p channels"
    )


def _close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, atol=1e-5)


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
    lent = replace(codes, grids=tuple(grid.clone() for grid in codes.grids))
    given = call(answer, with_top, without_top, lent)
    if not all(map(torch.equal, lent.grids, codes.grids)):
        raise Wrong(
            "your function changes the codes that it is given; `erase_top(codes)` "
            "makes a copy"
        )
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

    def near(value: float) -> bool:
        return abs(given - value) <= 0.01 * abs(value)

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
    raise Wrong(
        f"{given:.4g} is not what the two levels give for this image; add the nats of "
        "both, for image 31 with its label"
    )
