"""Checks for notebook 05: the enlarged top grid, the block with a condition, the nats
of an image, and the gain from the top codes."""

import math
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
    """The nats per bottom code of 100 images of `watched` after every 24th step of
    training a small `ConditionalPixelCNN` by the loop of notebook 04, without labels.

    Each call has the same first weights, and takes three times the same batches of 16.
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
    lines = {"without the top codes": without, "with the top codes": with_top}
    return figures.curves(
        {name: (steps, line) for name, line in lines.items()},
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
    """The answer is a function of features [B, p, h, w], as `enlarged`."""
    for height, width in ((8, 8), (2, 3)):
        # No two positions of any channel or image have the same number.
        features = torch.arange(6.0 * height * width).view(2, 3, height, width)
        what = f"what your function gives for {height} × {width}"
        shape = (2, 3, 2 * height, 2 * width)
        out = need_tensor(call(answer, features.clone()), shape, what)
        if torch.equal(out, features.repeat(1, 1, 2, 2)):
            raise Wrong(f"in {what}, the grid lies side by side four times")
        if (wrong := (out != enlarged(features)).nonzero()).numel():
            y, x = wrong[0, 2:].tolist()
            raise Wrong(
                f"in {what}, bottom position {(y, x)} does not have the features of "
                f"top position {(y // 2, x // 2)}, to which it belongs; does it have "
                "those of another one, or are several mixed?"
            )
    return (
        "each bottom position has the features of the top position that it belongs to"
    )


@judged
@torch.no_grad()
def gated_block(answer) -> str:
    """The answer is a function of block, v, h and condition, as `GatedBlock.forward`.

    The check compares both stacks with those of a first and of a later block.
    """
    torch.manual_seed(0)
    for mask_type, channels in (("B", 4), ("A", 6)):
        block = GatedBlock(mask_type, channels, 4, 3, 4)
        v, h, c = (torch.randn(2, p, 5, 6) for p in (channels, channels, 4))
        new_v, new_h = call(answer, block, v.clone(), h.clone(), c.clone())
        right_v, right_h = block(v, h, c)
        if torch.allclose(new_v, block(v, h)[0], atol=1e-5):
            raise Wrong(
                "the condition does not reach v; the equation adds it to what the gate "
                "of the vertical stack gets"
            )
        if not torch.allclose(new_v, right_v, atol=1e-5):
            raise Wrong(
                "the condition reaches v, but not as in the equation; what "
                "`block.condition` gives is added to `up` once, before the gate, and "
                "all other lines stay"
            )
        if not torch.allclose(new_h, right_h, atol=1e-5):
            raise Wrong(
                "the condition reaches v and not h, or not as it should: was `across` "
                "computed from `up` before the condition was in it?"
            )
    return "the condition reaches both stacks at its own position, before the gates"


@judged
def conditional_gain(answer, with_top, without_top, codes: CodeData) -> str:
    """The answer is a function (with_top, without_top, codes) → the gain from the top
    codes, in nats per bottom code.

    The check measures the gain itself on the same codes, and on a pair of small
    networks with grids of another size, whose predictions are far from uniform.
    """
    gain = _gain_by(answer, with_top, without_top, codes)
    torch.manual_seed(0)
    networks = [ConditionalPixelCNN(5, 4, 4, 1).eval() for _ in range(2)]
    for network in networks:
        network.head[-1].weight.data *= 20
    grids = torch.randint(5, (3, 3, 5)), torch.randint(5, (3, 6, 10))
    _gain_by(answer, *networks, CodeData(grids, None, 5))
    return (
        f"the top codes are worth {gain:.2f} nats per bottom code on these "
        f"{len(codes)} images, and your function holds for other grids too"
    )


def _gain_by(answer, with_top, without_top, codes: CodeData) -> float:
    """The gain, if the answer gives the same; otherwise raises `Wrong`."""
    given = call(answer, with_top, without_top, codes)
    given = need_number(given, "what your function gives")
    height, width = codes.z_bottom[0].shape
    found = f"on a grid of {height} × {width} bottom codes, yours gives {given:.3g}"

    def nats(network, codes: CodeData) -> float:
        return image_nats(network, codes).mean().item() / (height * width)

    blank = erase_top(codes)
    right, alone = nats(with_top, codes), nats(without_top, blank)
    if abs(given - (alone - right)) <= TOLERANCE:
        return alone - right
    if abs(given - (nats(with_top, blank) - right)) <= TOLERANCE:
        raise Wrong(
            f"{found}: you took the top codes away from a network that was trained "
            "with them, which has never seen such a grid; who learned to do without?"
        )
    if abs(given - (nats(without_top, codes) - right)) <= TOLERANCE:
        raise Wrong(
            f"{found}: the network without the top was given top codes, which it "
            "never saw while it was trained"
        )
    raise Wrong(
        f"{found}, and the package measures another gain on the same codes; take the "
        "mean over images and positions, each network with the codes that it knows, "
        "and see whose nats are smaller"
    )


@judged
def nats_per_image(answer, prior, codes: CodeData) -> str:
    """The answer is -log P(z_top, z_bottom) of the one image in `codes`, in nats."""
    given = need_number(answer)
    top = image_nats(prior.prior_top, codes).item()
    bottom = image_nats(prior.prior_bottom, codes).item()

    def near(value: float) -> bool:
        return math.isclose(given, value, rel_tol=0.01)

    if near(top + bottom):
        return (
            f"this image has {top:.0f} nats in its top codes and {bottom:.0f} in its "
            "bottom codes"
        )
    if near(top) or near(bottom):
        raise Wrong(f"{given:.3g} is one level alone; an image has both")
    if near(-top - bottom):
        raise Wrong(
            f"{given:.3g} is log P itself; the nats of an image are what is left "
            "when its sign is turned"
        )
    raise Wrong(
        f"{given:.4g} is not what the two levels give for this image; add the nats of "
        "both, for image 31 with its label"
    )
