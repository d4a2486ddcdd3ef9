"""Checks of notebook 04: the loss and a baseline are judged by their numbers, a step by
where the weights go, and a learning rate by training with it."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from answers import refused, right, wrong
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from pixelprior.course.checks import top as check


def by_rows(logits, codes):
    rows = logits.permute(0, 2, 3, 1).reshape(-1, logits.shape[1])
    return F.cross_entropy(rows, codes.reshape(-1))


def by_distribution(logits, codes):
    given = torch.distributions.Categorical(logits=logits.movedim(1, -1))
    return -given.log_prob(codes).mean()


def nats(logits, codes):
    return F.cross_entropy(logits, codes)


def erased_last(net, optimizer, z, labels, clip):
    loss = net.loss_function(z, labels)["total_loss"]
    loss.backward()
    clip_grad_norm_(net.parameters(), clip)
    optimizer.step()
    net.zero_grad()
    return loss.detach()


def by_pairs(codes, unseen, num_embeddings):
    counts = torch.full((num_embeddings, num_embeddings), 0.1)
    for row in codes.reshape(-1, codes.shape[-1]).tolist():
        for left, code in itertools.pairwise(row):
            counts[left, code] += 1
    log_probs = (counts / counts.sum(1, keepdim=True)).log()
    return -log_probs[unseen[..., :-1], unseen[..., 1:]].mean()


test_a_right_answer_passes_however_it_is_written = right(
    nats=[by_rows, by_distribution],
    step=[check.one_step, erased_last],
    left_neighbour=[check.left_neighbour_nats, by_pairs],
)


def step_of(*parts, clipping=clip_grad_norm_):
    """A step made of its parts by name, such as "zero", "back", "clip" and "move"."""

    def step(net, optimizer, z, labels, clip):
        loss = nats(net(z, labels), z)
        does = {
            "zero": optimizer.zero_grad,
            "back": lambda: loss.backward(retain_graph=True),
            "up": lambda: (-loss).backward(),
            "clip": lambda: clipping(net.parameters(), clip),
            "move": optimizer.step,
        }
        for part in parts:
            does[part]()
        return loss.item()

    return step


def counted(change):
    """A left-neighbour baseline from counts [K, K] that `change` turns to P."""

    def baseline(codes, unseen, num_embeddings):
        probs = change(check._counts(codes, num_embeddings) - 0.1)
        return -probs[unseen[..., :-1], unseen[..., 1:]].log().mean().item()

    return baseline


test_another_answer_hears_what_is_wrong_with_it = wrong(
    nats=[
        (lambda x, z: nats(x, z) * z.numel(), "sum of all codes"),
        (lambda x, z: nats(x.softmax(1), z), "softmax is taken twice"),
        (
            lambda x, z: nats(x.reshape(-1, x.shape[1]), z.reshape(-1)),
            "see `permute`",
        ),
        (lambda x, z: nats(x[..., :-1], z[..., 1:]), "position before it"),
        (lambda x, z: -x.gather(1, z[:, None]).mean(), "not log-probabilities yet"),
        (lambda x, z: nats(x, z) + 1, "which is not the mean of −log P"),
        (lambda x, z: nats(x, z).item(), "is float, but a tensor is needed"),
    ],
    step=[
        (step_of("zero", "clip", "move"), "there is no gradient"),
        (step_of("move", "zero", "back", "clip"), "there is a gradient"),
        (step_of("back", "clip", "zero", "move"), "nothing erased"),
        (step_of("back", "clip", "move"), "gradient of the first is still there"),
        (step_of("zero", "up", "clip", "move"), "do not move down the gradient"),
        (step_of("zero", "back", "back", "clip", "move"), "one `backward()`"),
        (step_of("zero", "back", "move", "clip"), "changes nothing"),
        (
            step_of("zero", "back", "clip", "move", clipping=clip_grad_value_),
            "keep its direction",
        ),
        (
            lambda net, optimizer, z, labels, clip: nats(net(z, labels), z),
            "`loss.item()` is the number alone",
        ),
        (
            lambda net, sgd, z, *_: check.one_step(net, sgd, z, None, 1),
            "without the labels",
        ),
        (
            lambda *given: 2 * check.one_step(*given),
            "before the step the network costs",
        ),
    ],
    left_neighbour=[
        (counted(lambda n: n / n.sum(1, keepdim=True)), "infinite cost"),
        (counted(lambda n: (n + 0.1) / (n + 0.1).sum()), "of all pairs add up"),
        (
            counted(lambda n: (n + 0.1) / (n + 0.1).sum(0)),
            "of the left code, given the code",
        ),
        (lambda z, other, k: by_pairs(z.mT, other.mT, k), "the neighbour above"),
        (counted(lambda n: (n + 1) / (n + 1).sum(1, keepdim=True)), "0.1 added"),
    ],
)


@pytest.mark.slow
def test_a_rate_is_judged_by_a_tenth_of_it_and_by_ten_times_it(judge):
    assert judge("learning_rate", torch.tensor([0.02]))
    refused(judge("learning_rate", 1e-3), "ten times")
    refused(judge("learning_rate", 1e20), "ends at inf, not 0.1 below the unigram")
