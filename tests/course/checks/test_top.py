"""Checks of notebook 04: the loss and a baseline are judged by their numbers, a step by
where the weights go, and a learning rate by training with it."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from answers import refused, right, wrong

from pixelprior.course.checks import top as check


def by_gather(logits, codes):
    return -logits.log_softmax(1).gather(1, codes[:, None]).mean()


def by_rows(logits, codes):
    rows = logits.permute(0, 2, 3, 1).reshape(-1, logits.shape[1])
    return F.cross_entropy(rows, codes.reshape(-1))


def by_one_hot(logits, codes):
    chosen = F.one_hot(codes, logits.shape[1]).movedim(-1, 1) * logits.softmax(1)
    return -chosen.sum(1).log().mean()


def by_distribution(logits, codes):
    given = torch.distributions.Categorical(logits=logits.movedim(1, -1))
    return -given.log_prob(codes).mean()


def nats(logits, codes):
    return F.cross_entropy(logits, codes)


def picked(values, codes):
    return values.gather(1, codes[:, None])


def erased_last(net, optimizer, z, labels, clip):
    loss = net.loss_function(z, labels)["total_loss"]
    loss.backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), clip)
    optimizer.step()
    net.zero_grad()
    return loss.detach()


def in_training_mode(net, *others):
    return check.one_step(net.train(), *others)


def scaled_by_hand(net, optimizer, z, labels, clip):
    optimizer.zero_grad(set_to_none=False)
    loss = nats(net(z, labels), z)
    loss.backward()
    norm = sum(p.grad.square().sum() for p in net.parameters() if p.grad is not None)
    for p in net.parameters():
        if p.grad is not None:
            p.grad *= min(1, clip / norm.sqrt().item())
    optimizer.step()
    return loss.item()


def by_pairs(codes, unseen, num_embeddings):
    counts = torch.full((num_embeddings, num_embeddings), 0.1)
    for row in codes.reshape(-1, codes.shape[-1]).tolist():
        for left, code in itertools.pairwise(row):
            counts[left, code] += 1
    log_probs = (counts / counts.sum(1, keepdim=True)).log()
    return -log_probs[unseen[..., :-1], unseen[..., 1:]].mean()


@right(
    {
        "nats": [by_gather, by_rows, by_one_hot, by_distribution, nats],
        "step": [check.one_step, erased_last, in_training_mode, scaled_by_hand],
        "left_neighbour": [check.left_neighbour_nats, by_pairs],
    }
)
def test_a_right_answer_passes_however_it_is_written(check, answer, judge):
    assert judge(check, answer)


def step_of(*parts):
    """A step made of its parts by name, such as "zero", "back", "clip" and "move"."""

    def step(net, optimizer, z, labels, clip):
        loss = nats(net(z, labels), z)
        for part in parts:
            if part == "zero":
                optimizer.zero_grad()
            elif part == "back":
                loss.backward(retain_graph=True)
            elif part == "up":
                (-loss).backward()
            elif part == "sum":
                (loss * z.numel()).backward()
            elif part == "clip":
                torch.nn.utils.clip_grad_norm_(net.parameters(), clip)
            elif part == "clip at 1":
                torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            elif part == "clip values":
                torch.nn.utils.clip_grad_value_(net.parameters(), clip)
            elif part == "clip each":
                for p in net.parameters():
                    torch.nn.utils.clip_grad_norm_([p], clip)
            elif part == "move by hand":
                for p in net.parameters():
                    p.data -= check.RATE * (0 if p.grad is None else p.grad)
            elif part == "move":
                optimizer.step()
            elif part == "keep":
                return loss
        return loss.item()

    return step


def without_labels(net, optimizer, z, labels, clip):
    return check.one_step(net, optimizer, z, None, clip)


def returns(change):
    """A right step that returns what `change` makes of the loss."""
    return lambda *given: change(check.one_step(*given))


def counted(change):
    """A left-neighbour baseline from counts [K, K] that `change` turns to P."""

    def baseline(codes, unseen, num_embeddings):
        probs = change(check._counts(codes, num_embeddings))
        return -probs[unseen[..., :-1], unseen[..., 1:]].log().mean().item()

    return baseline


@wrong(
    {
        "nats": [
            (lambda x, z: nats(x, z) * z.numel(), "sum of all codes"),
            (lambda x, z: -nats(x, z), "the sign is wrong"),
            (lambda x, z: nats(x.softmax(1), z), "softmax is taken twice"),
            (lambda x, z: -picked(x, z).mean(), "not log-probabilities yet"),
            (lambda x, z: -picked(x.log_softmax(0), z).mean(), "runs over dimension 0"),
            (
                lambda x, z: nats(x.reshape(-1, x.shape[1]), z.reshape(-1)),
                "see `permute`",
            ),
            (lambda x, z: nats(x[..., :-1], z[..., 1:]), "position before it"),
            (lambda x, z: F.cross_entropy(x, z, reduction="none"), "one number"),
            (lambda x, z: -picked(x.log_softmax(1), z), "[2, 1, 3, 5]", "one number"),
            (lambda x, z: nats(x, z) + 1, "which is not the mean of −log P"),
            (lambda x, z: nats(x, z).item(), "is float, but a tensor is needed"),
            (lambda x, z: nats(x, z).detach(), "no gradient leads from it"),
        ],
        "step": [
            (step_of("zero", "clip", "move"), "there is no gradient"),
            (step_of("zero", "back", "clip"), "`optimizer.step()` come after"),
            (step_of("move", "zero", "back", "clip"), "there is a gradient"),
            (step_of("back", "clip", "zero", "move"), "erased before"),
            (step_of("back", "clip", "move"), "gradient of the first is still there"),
            (step_of("zero", "up", "clip", "move"), "up the gradient"),
            (step_of("zero", "sum", "clip", "move"), "one `backward()`"),
            (step_of("zero", "back", "back", "clip", "move"), "one `backward()`"),
            (step_of("zero", "back", "clip", "move", "move"), "one `optimizer.step()`"),
            (step_of("zero", "back", "move"), "changes nothing"),
            (step_of("zero", "back", "move", "clip"), "changes nothing"),
            (step_of("zero", "clip", "back", "move"), "changes nothing"),
            (step_of("zero", "back", "clip at 1", "move"), "it has to use `clip`"),
            (step_of("zero", "back", "clip values", "move"), "keep its direction"),
            (step_of("zero", "back", "clip each", "move"), "all weights together"),
            (
                step_of("zero", "back", "clip", "move", "keep"),
                "`loss.item()` is the number alone",
            ),
            (
                step_of("zero", "back", "clip", "move by hand"),
                "that moves the weights?",
            ),
            (without_labels, "without the labels"),
            (returns(lambda loss: 2 * loss), "before the step the network costs"),
        ],
        "left_neighbour": [
            (counted(lambda n: n / n.sum(1, keepdim=True)), "infinite cost"),
            (counted(lambda n: (n + 0.1) / (n + 0.1).sum()), "of all pairs add up"),
            (
                counted(lambda n: (n + 0.1) / (n + 0.1).sum(0)),
                "of the left code, given the code",
            ),
            (counted(lambda n: (n + 0.1) / (n + 0.1).sum(1)), "keepdim"),
            (counted(lambda n: (n + 1) / (n + 1).sum(1, keepdim=True)), "0.1 added"),
            (
                lambda z, other, k: by_pairs(z.mT, other.mT, k),
                "the neighbour above",
            ),
        ],
        "learning_rate": [(-1e-3, "above 0"), (0, "above 0")],
    }
)
def test_another_answer_hears_what_is_wrong_with_it(check, answer, words, judge):
    refused(judge(check, answer), *words)


@pytest.mark.slow
@right({"learning_rate": [0.02, torch.tensor([0.01])]})
def test_a_rate_between_too_low_and_too_high_passes(check, answer, judge):
    assert judge(check, answer)


@pytest.mark.slow
@wrong(
    {
        "learning_rate": [
            (1e-7, "below the unigram baseline"),
            (1e-3, "ten times"),
            (1e20, "not"),
            (50.0, "below the unigram baseline"),
        ]
    }
)
def test_a_rate_too_low_or_too_high_is_told_so(check, answer, words, judge):
    refused(judge(check, answer), *words)
