"""Checks for notebook 04: the loss, a training step, a baseline and a learning rate."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils import clip_grad_norm_, parameters_to_vector

from pixelprior.course.checks.verdict import (
    Wrong,
    call,
    judged,
    need_number,
    need_tensor,
)
from pixelprior.data.codes import CodeData
from pixelprior.pixelcnn import PixelCNN

TRUTH = "neither"  # of 04.8

MARGIN = 0.1  # nats per code; another processor or seed changes a short run by less


def nats_of_codes(logits: Tensor, codes: Tensor) -> Tensor:
    """The mean of −log P over codes [B, H, W], from logits [B, K, H, W]."""
    return F.cross_entropy(logits, codes)


def one_step(net, optimizer, z: Tensor, labels: Tensor, clip: float) -> float:
    """The nats per code of z [B, H, W] with labels [B] before one training step."""
    optimizer.zero_grad()
    loss = nats_of_codes(net(z, labels), z)
    loss.backward()
    clip_grad_norm_(net.parameters(), clip)
    optimizer.step()
    return loss.item()


@judged
def nats(answer) -> str:
    """The answer is a function from logits [B, K, H, W] and codes [B, H, W] to the
    nats per code, as `nats_of_codes`."""
    torch.manual_seed(0)
    logits, codes = 2 * torch.randn(2, 7, 3, 5), torch.randint(7, (2, 3, 5))
    value = call(answer, logits.clone(), codes.clone())
    number = need_number(need_tensor(value, what="your loss"), "your loss")
    right = nats_of_codes(logits, codes)
    if math.isclose(number, right, rel_tol=1e-4):
        return "the mean of −log P over all codes of the batch, in nats"
    slips = {
        right * codes.numel(): "that is the sum of all codes; the loss is their mean",
        nats_of_codes(logits.softmax(1), codes): "the softmax is taken twice; "
        "`F.cross_entropy` expects logits",
        -logits.gather(1, codes[:, None]).mean(): "logits are not log-probabilities "
        "yet; what does `log_softmax` do?",
        F.cross_entropy(logits.reshape(-1, 7), codes.flatten()): "`reshape` alone does "
        "not move K to the end; see `permute`",
        nats_of_codes(logits[..., :-1], codes[..., 1:]): "each code is compared with "
        "the logits of the position before it; the logits at (y, x) are for the code "
        "at (y, x) itself",
    }
    for slip, words in slips.items():
        if math.isclose(number, slip, rel_tol=1e-4):
            raise Wrong(words)
    raise Wrong(
        f"for random logits and codes your function gives {number:.3f}, which is not "
        "the mean of −log P; which probability has the code that came, at each "
        "position, by a softmax over the K codes?"
    )


RATE = 0.1  # of the plain gradient descent on which a step is tried
Z, LABELS = torch.arange(36).view(4, 3, 3) * 7 % 5, torch.arange(4) % 3


def _small_network() -> PixelCNN:
    """A network that takes labels and can do without them, as that of the notebook.

    Its labels make a difference, and are never withheld by chance.
    """
    torch.manual_seed(0)
    net = PixelCNN(5, 4, 6, 2, num_classes=3, dropout=0.0, label_dropout=1e-12)
    net.label_embedding.weight.data *= 10
    return net


def _moved(step, clip: float, times: int = 1) -> tuple[object, Tensor, str]:
    """What a step returns, by how much the weights have moved after some steps of
    plain gradient descent, and whether there is "a gradient" or "no gradient"."""
    net, start = _small_network(), _small_network()
    optimizer = torch.optim.SGD(net.parameters(), lr=RATE)
    for _ in range(times):
        value = call(step, net, optimizer, Z, LABELS, clip)
    after, before = map(parameters_to_vector, (net.parameters(), start.parameters()))
    there = any(p.grad is not None and p.grad.any() for p in net.parameters())
    return value, (after - before).detach(), "a gradient" if there else "no gradient"


def _close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=1e-3, atol=1e-6)


@judged
def step(answer) -> str:
    """The answer is a function that takes one training step, as `one_step`.

    The check compares where both move the weights of a small network, after one step,
    after two, and with clipping.
    """
    value, moved, gradient = _moved(answer, math.inf)
    if isinstance(value, Tensor) and value.requires_grad:
        raise Wrong(
            "you return a tensor that holds on to the whole computation of its step; "
            "`loss.item()` is the number alone"
        )
    number, (right, wanted, _) = need_number(value), _moved(one_step, math.inf)
    without_labels = nats_of_codes(_small_network()(Z), Z).item()
    if math.isclose(number, without_labels, rel_tol=1e-4):
        raise Wrong("your loss is that of the network without the labels")
    if not math.isclose(number, right, rel_tol=1e-4):
        raise Wrong(
            f"you return {number:.3f}, but before the step the network costs "
            f"{right:.3f} nats per code"
        )
    if not moved.any():
        raise Wrong(
            f"the weights have not moved, and at the end there is {gradient}; is "
            "`backward()` called, `optimizer.step()` after it, and nothing erased "
            "between them?"
        )
    if not _close(moved, wanted):
        raise Wrong(
            "without clipping, the weights do not move down the gradient by the "
            "learning rate; is there one `backward()` and one `optimizer.step()`?"
        )
    if not _close(_moved(answer, math.inf, 2)[1], _moved(one_step, math.inf, 2)[1]):
        raise Wrong(
            "the first step is right, and in the second the gradient of the first is "
            "still there; which call sets gradients to zero?"
        )
    limit = wanted.norm().item() / RATE / 10  # a tenth of the gradient's norm
    clipped = _moved(answer, limit)[1]
    if _close(clipped, wanted):
        raise Wrong(
            "the gradient has ten times the norm `clip`, and clipping changes nothing; "
            "it has to use `clip`, after `backward()` and before `optimizer.step()`"
        )
    if not _close(clipped, _moved(one_step, limit)[1]):
        raise Wrong(
            "clipping should shorten the gradient of all weights together to a norm of "
            "`clip` and keep its direction; `clip_grad_norm_` does it"
        )
    return "it moves the weights down the clipped gradient of its own batch"


def left_neighbour_nats(codes: Tensor, unseen: Tensor, num_embeddings: int) -> float:
    """The nats per code of unseen grids [N, H, W], each code given the one to its left,
    by counting pairs in the grids `codes` and adding 0.1 to each count."""
    counts = _counts(codes, num_embeddings)
    probs = counts / counts.sum(dim=1, keepdim=True)  # [K, K]: left, code
    return -probs[unseen[:, :, :-1], unseen[:, :, 1:]].log().mean().item()


def _counts(codes: Tensor, num_embeddings: int) -> Tensor:
    """How often code k follows code j in a row, and 0.1 besides: float [K, K]."""
    pairs = codes[:, :, :-1] * num_embeddings + codes[:, :, 1:]
    counts = torch.bincount(pairs.flatten(), minlength=num_embeddings**2)
    return counts.view(num_embeddings, num_embeddings) + 0.1


@judged
def left_neighbour(answer) -> str:
    """The answer is a function as `left_neighbour_nats`.

    The check tries it on codes in which the left neighbour tells a lot, and in which
    some pairs come up that were never counted.
    """
    torch.manual_seed(0)
    z = torch.randint(9, (2, 20, 3, 7))
    for x in range(1, 7):
        stays = torch.rand(2, 20, 3) < 0.8
        z[..., x] = torch.where(stays, (z[..., x - 1] + 1) % 9, z[..., x])
    codes, unseen = z
    number = float(call(answer, codes.clone(), unseen.clone(), 9))
    if math.isinf(number):
        raise Wrong(
            "you give an infinite cost; a pair that was never counted needs a "
            "probability above 0"
        )
    if math.isclose(number, left_neighbour_nats(codes, unseen, 9), abs_tol=1e-4):
        return "the mean cost of a code whose left neighbour is known"
    left, code, counts = unseen[:, :, :-1], unseen[:, :, 1:], _counts(codes, 9)
    slips = {
        -(counts / counts.sum())[left, code].log().mean(): "your probabilities of all "
        "pairs add up to 1; those after each code should",
        -(counts / counts.sum(dim=0))[left, code].log().mean(): "those are "
        "probabilities of the left code, given the code",
        left_neighbour_nats(codes.mT, unseen.mT, 9): "that is the neighbour above; "
        "columns are the last dimension",
    }
    for slip, words in slips.items():
        if math.isclose(number, slip, abs_tol=1e-4):
            raise Wrong(words)
    raise Wrong(
        f"for random rows you give {number:.3f} nats per code, which is not the cost "
        "by counting; is 0.1 added to each count, is each row divided by its own sum, "
        "and is the first column, which has no left neighbour, left out?"
    )


@judged
def learning_rate(answer, training: CodeData, heldout: CodeData) -> str:
    """The answer is a learning rate for the notebook's network.

    The check trains the network on the top codes for a short time at this rate, at a
    tenth of it and at ten times it.
    """
    rate = need_number(answer)
    mine = _short_training(rate, training, heldout)
    if mine > training.unigram_entropy("top") - MARGIN:
        raise Wrong(
            f"at {rate:g} the held-out loss ends at {mine:.2f}, not {MARGIN:g} below "
            "the unigram baseline; try rates far lower and far higher"
        )
    for factor, words in ((10, "ten times"), (0.1, "a tenth of")):
        other = _short_training(rate * factor, training, heldout)
        if other < mine - MARGIN:
            raise Wrong(
                f"with {words} {rate:g} the held-out loss ends lower, by "
                f"{mine - other:.1f} nats per code"
            )
    return (
        f"neither a tenth nor ten times of it ends lower by more than {MARGIN:g} nats "
        "per code"
    )


def _short_training(rate: float, training: CodeData, heldout: CodeData) -> float:
    """Held-out nats per code of the network after 25 steps, inf if not finite."""
    classes = 1 + int(max(training.labels.max(), heldout.labels.max()))
    torch.manual_seed(0)
    options = {"num_classes": classes, "dropout": 0, "label_dropout": 0.1}
    net = PixelCNN(training.num_embeddings, 32, 24, 4, **options)
    optimizer = torch.optim.AdamW(net.parameters(), lr=rate)
    for _ in range(25):
        z_top, _, labels = training.batch(torch.randint(len(training), (32,)))
        one_step(net, optimizer, z_top, labels, 1.0)
    z_top, _, labels = heldout.batch(torch.arange(min(250, len(heldout))))
    with torch.no_grad():
        loss = nats_of_codes(net.eval()(z_top, labels), z_top).item()
    return loss if math.isfinite(loss) else math.inf
