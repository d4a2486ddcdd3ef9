"""Checks for notebook 04: the loss, a training step, a baseline and a learning rate."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from pixelprior.course.checks.verdict import (
    NotAttempted,
    Wrong,
    call,
    judged,
    kind,
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
    """One training step on codes z [B, H, W] with labels [B].

    Returns:
        The nats per code before the step.
    """
    optimizer.zero_grad()
    loss = nats_of_codes(net(z, labels), z)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), clip)
    optimizer.step()
    return loss.item()


def _picked(values: Tensor, codes: Tensor) -> Tensor:
    """The mean over positions of what values [B, K, H, W] have for the code there."""
    return values.gather(1, codes[:, None]).mean()


def _slips_of_nats(logits: Tensor, codes: Tensor):
    """What wrong ways to compute the loss give, each with the words for it."""
    right = nats_of_codes(logits, codes)
    yield right * codes.numel(), "that is the sum of all codes; the loss is their mean"
    yield -right, "the sign is wrong; a probability below 1 costs something"
    twice = "the softmax is taken twice; `F.cross_entropy` expects logits"
    yield nats_of_codes(logits.softmax(1), codes), twice
    raw = "logits are not log-probabilities yet; what does `log_softmax` do?"
    yield -_picked(logits, codes), raw
    for dim in (0, 2, 3):
        yield (
            -_picked(logits.log_softmax(dim), codes),
            f"the softmax runs over dimension {dim}; which dimension holds the numbers "
            "of the K codes?",
        )
    flat = logits.reshape(-1, logits.shape[1]), codes.reshape(-1)
    mixed = "`reshape` alone does not move K to the end; see `permute`"
    yield F.cross_entropy(*flat), mixed
    shifted = (
        "each code is compared with the logits of the position before it; the logits "
        "at (y, x) are for the code at (y, x) itself"
    )
    yield nats_of_codes(logits[..., :-1], codes[..., 1:]), shifted


@judged
def nats(answer) -> str:
    """The answer is a function from logits [B, K, H, W] and codes [B, H, W] to the
    nats per code, as `nats_of_codes`."""
    generator = torch.Generator().manual_seed(0)
    for shape in ((2, 7, 3, 5), (3, 4, 2, 2)):
        logits = (2 * torch.randn(shape, generator=generator)).requires_grad_()
        codes = torch.randint(shape[1], (shape[0], *shape[2:]), generator=generator)
        value = need_tensor(
            call(answer, logits.clone(), codes.clone()),
            what="what your function returns",
        )
        if value.numel() > 1:
            raise Wrong(
                f"your function returns {kind(value)}; the loss is one number, the "
                "mean of the costs of all codes"
            )
        number = need_number(value, "what your function returns")
        right = nats_of_codes(logits, codes).item()
        if math.isclose(number, right, rel_tol=1e-4):
            if not value.requires_grad:
                raise Wrong(
                    "the number is right, but no gradient leads from it to the logits; "
                    "return the tensor as it is"
                )
            continue
        for slip, words in _slips_of_nats(logits.detach(), codes):
            if math.isclose(number, slip.item(), rel_tol=1e-4):
                raise Wrong(words)
        raise Wrong(
            f"for random logits and codes your function gives {number:.3f}, which is "
            "not the mean of −log P; which probability has the code that came, at each "
            "position?"
        )
    return "the mean of −log P over all codes of the batch, in nats"


RATE = 0.1  # of the plain gradient descent on which a step is tried


class _Trial:
    """A small network, and what the reader's step does to it.

    The network takes labels and can do without them, as that of the notebook. Its
    labels make a difference, and are never withheld by chance.
    """

    def __init__(self, step, optimizer=torch.optim.SGD, rate: float = RATE):
        torch.manual_seed(0)
        self.net = PixelCNN(5, 4, 6, 2, num_classes=3, dropout=0.0, label_dropout=1e-12)
        self.net.label_embedding.weight.data *= 10
        self.optimizer = optimizer(self.net.parameters(), lr=rate)
        self.z, self.labels = torch.randint(5, (4, 3, 3)), torch.arange(4) % 3
        self.step = step

    def weights(self) -> Tensor:
        return torch.nn.utils.parameters_to_vector(self.net.parameters()).detach()

    def loss(self, labels) -> Tensor:
        return nats_of_codes(self.net(self.z, labels), self.z)

    def gradient(self) -> Tensor:
        """The gradient of the loss at the weights of now."""
        given = list(self.net.parameters())
        found = torch.autograd.grad(self.loss(self.labels), given, allow_unused=True)
        pairs = zip(found, given, strict=True)
        return torch.cat(
            [(torch.zeros_like(w) if g is None else g).flatten() for g, w in pairs]
        )

    def move(self, clip: float = math.inf) -> tuple[object, Tensor]:
        """What the reader's step returns, and by how much each weight has moved."""
        before = self.weights()
        try:
            value = call(self.step, self.net, self.optimizer, self.z, self.labels, clip)
        except NotAttempted:
            if torch.equal(self.weights(), before):
                raise
            value = None
        return value, self.weights() - before


def _need_loss(value, with_labels: float, without: float) -> None:
    """The value, if it is the loss before the step; otherwise raises `Wrong`."""
    if isinstance(value, Tensor) and value.requires_grad:
        raise Wrong(
            "you return a tensor that holds on to the whole computation of its step; "
            "`loss.item()` is the number alone"
        )
    number = need_number(value, "what you return")
    if math.isclose(number, with_labels, rel_tol=1e-4):
        return
    if math.isclose(number, without, rel_tol=1e-4):
        raise Wrong("your loss is that of the network without the labels")
    raise Wrong(
        f"you return {number:.3f}, but before the step the network costs "
        f"{with_labels:.3f} nats per code"
    )


def _need_descent(trial: _Trial, moved: Tensor, gradient: Tensor) -> None:
    """Raises `Wrong` unless plain gradient descent has moved the weights this way."""
    if not moved.any():
        grads = [p.grad for p in trial.net.parameters() if p.grad is not None]
        if any(grad.any() for grad in grads):
            raise Wrong(
                "there is a gradient, but the weights have not moved; does "
                "`optimizer.step()` come after `backward()`?"
            )
        raise Wrong(
            "the weights have not moved, and there is no gradient; is `backward()` "
            "called, or is the gradient erased before `optimizer.step()` uses it?"
        )
    if moved @ gradient > 0:
        raise Wrong("the weights move up the gradient, so that the loss rises")
    if not torch.allclose(moved, -RATE * gradient, rtol=1e-3, atol=1e-6):
        raise Wrong(
            f"without clipping, gradient descent moves the weights by "
            f"{RATE * gradient.norm():.3f} here, and yours move by {moved.norm():.3f}; "
            "is there one `backward()` and one `optimizer.step()`?"
        )


@judged
def step(answer) -> str:
    """The answer is a function that takes one training step, as `one_step`.

    The check tries it on a small network: twice with plain gradient descent, once with
    clipping, and some steps with AdamW.
    """
    trial = _Trial(answer)
    gradient = trial.gradient()
    costs = trial.loss(trial.labels).item(), trial.loss(None).item()
    value, moved = trial.move()
    _need_loss(value, *costs)
    _need_descent(trial, moved, gradient)
    second = trial.gradient()
    _, moved = trial.move()
    if torch.allclose(moved, -RATE * (gradient + second), rtol=1e-3, atol=1e-6):
        raise Wrong(
            "in the second step the gradient of the first is still there, and both are "
            "added up; which call sets gradients to zero?"
        )
    if not torch.allclose(moved, -RATE * second, rtol=1e-3, atol=1e-6):
        raise Wrong("the first step is right, but the second is not")

    trial, limit = _Trial(answer), gradient.norm().item() / 10
    _, moved = trial.move(limit)
    if torch.allclose(moved, -RATE * gradient, rtol=1e-3, atol=1e-6):
        raise Wrong(
            f"the gradient has a norm of {gradient.norm():.2f}, and clipping to "
            f"{limit:.2f} changes nothing; it has to use `clip`, after `backward()` "
            "and before `optimizer.step()`"
        )
    if not torch.allclose(moved, -RATE * gradient / 10, rtol=1e-3, atol=1e-6):
        raise Wrong(
            "clipping should shorten the gradient of all weights together to a norm of "
            "`clip` and keep its direction; `clip_grad_norm_` does it"
        )

    trial = _Trial(answer, torch.optim.AdamW, 0.02)
    first, *_, last = [need_number(trial.move(1.0)[0]) for _ in range(20)]
    if last > first - 0.2:
        raise Wrong(
            f"over 20 steps with AdamW the loss goes from {first:.2f} to {last:.2f}; "
            "is it `optimizer.step()` that moves the weights?"
        )
    return "it moves the weights down the clipped gradient of its own batch"


def left_neighbour_nats(codes: Tensor, unseen: Tensor, num_embeddings: int) -> float:
    """The nats per code of unseen grids [N, H, W], each code given the one to its left,
    by counting pairs in the grids `codes` and adding 0.1 to each count."""
    probs = _counts(codes, num_embeddings) + 0.1
    probs = probs / probs.sum(dim=1, keepdim=True)  # [K, K]: left, code
    return -probs[unseen[:, :, :-1], unseen[:, :, 1:]].log().mean().item()


def _counts(codes: Tensor, num_embeddings: int) -> Tensor:
    """How often code k follows code j in a row, float [K, K]."""
    pairs = codes[:, :, :-1] * num_embeddings + codes[:, :, 1:]
    counts = torch.bincount(pairs.flatten(), minlength=num_embeddings**2)
    return counts.view(num_embeddings, num_embeddings).float()


def _slips_of_neighbours(codes: Tensor, unseen: Tensor, num_embeddings: int):
    """What wrong ways to use the left neighbour give, each with the words for it."""
    left, code = unseen[:, :, :-1], unseen[:, :, 1:]
    counts = _counts(codes, num_embeddings) + 0.1
    joint = -(counts / counts.sum())[left, code].log().mean().item()
    yield (
        joint,
        "your probabilities of all pairs add up to 1; those after each code should",
    )
    backward = -(counts / counts.sum(dim=0))[left, code].log().mean().item()
    yield backward, "those are probabilities of the left code, given the code"
    rows = -(counts / counts.sum(dim=1))[left, code].log().mean().item()
    yield (
        rows,
        "each row is to be divided by its own sum; `keepdim=True` keeps them apart",
    )
    turned = [each.transpose(1, 2) for each in (codes, unseen)]
    above = left_neighbour_nats(*turned, num_embeddings)
    yield above, "that is the neighbour above; columns are the last dimension"


@judged
def left_neighbour(answer) -> str:
    """The answer is a function as `left_neighbour_nats`.

    The check tries it on codes in which the left neighbour tells a lot, and in which
    some pairs come up that were never counted.
    """
    generator = torch.Generator().manual_seed(0)
    for num_embeddings, size in ((6, (30, 4, 5)), (9, (20, 3, 7))):
        both = []
        for _ in range(2):
            z = torch.randint(num_embeddings, size, generator=generator)
            stays = torch.rand(size, generator=generator) < 0.8
            for x in range(1, size[2]):
                follows = (z[:, :, x - 1] + 1) % num_embeddings
                z[:, :, x] = torch.where(stays[:, :, x], follows, z[:, :, x])
            both.append(z)
        value = call(answer, *(each.clone() for each in both), num_embeddings)
        if isinstance(value, Tensor) and value.numel() == 1:
            value = value.item()
        if isinstance(value, float) and math.isinf(value):
            raise Wrong(
                "you give an infinite cost; a pair that was never counted needs a "
                "probability above 0"
            )
        number = need_number(value, "what your function returns")
        right = left_neighbour_nats(*both, num_embeddings)
        if math.isclose(number, right, abs_tol=1e-4):
            continue
        for slip, words in _slips_of_neighbours(*both, num_embeddings):
            if math.isclose(number, slip, abs_tol=1e-4):
                raise Wrong(words)
        raise Wrong(
            f"for random rows you give {number:.3f} nats per code, which is not the "
            "cost by counting; is 0.1 added to each count, and is the first column, "
            "which has no left neighbour, left out?"
        )
    return "the mean cost of a code whose left neighbour is known"


@judged
def learning_rate(answer, training: CodeData, heldout: CodeData) -> str:
    """The answer is a learning rate for the notebook's network.

    The check trains the network on the top codes for a short time at this rate, at a
    tenth of it and at ten times it.
    """
    rate = need_number(answer)
    if not 0 < rate < 1e30:
        raise Wrong(f"{rate:g} is no learning rate; give a number above 0")
    mine = _short_training(rate, training, heldout)
    if not math.isfinite(mine):
        raise Wrong(f"at {rate:g} the held-out loss is not finite")
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
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        options = {"num_classes": classes, "dropout": 0, "label_dropout": 0.1}
        net = PixelCNN(training.num_embeddings, 32, 24, 4, **options)
        optimizer = torch.optim.AdamW(net.parameters(), lr=rate)
        for _ in range(25):
            z_top, _, labels = training.batch(torch.randint(len(training), (32,)))
            if not math.isfinite(one_step(net, optimizer, z_top, labels, 1.0)):
                return math.inf
    z_top, _, labels = heldout.batch(torch.arange(min(250, len(heldout))))
    with torch.no_grad():
        loss = nats_of_codes(net.eval()(z_top, labels), z_top).item()
    return loss if math.isfinite(loss) else math.inf
