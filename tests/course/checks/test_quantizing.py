"""The checks of notebook 01 judge answers by trying them and say what is wrong."""

import math

import torch
from answers import right, wrong

from pixelprior.course.checks import quantizing
from pixelprior.vqvae2 import perplexity


def squared(points, e):
    """The squared distance of each point to each code, [N, K]."""
    return (points[:, None] - e).square().sum(2)


def shares_of(codes, num_embeddings):
    return torch.bincount(codes.flatten(), minlength=num_embeddings) / codes.numel()


def unweighted(codes, num_embeddings):
    shares = shares_of(codes, num_embeddings)
    return (-shares[shares > 0].log().mean()).exp()


def dead_to(choose, are_dead=lambda counts: counts < 1):
    """A renewal that puts the codes whose counts `are_dead` where `choose` says."""

    def renew(e, counts, features):
        dead = are_dead(counts).nonzero().flatten()
        e[dead] = choose(features, len(dead))
        return e

    return renew


def rows(features, count):
    return features[torch.randperm(len(features))[:count]]


def in_turn(e, counts, features):
    row = iter(features)
    pairs = zip(e, counts, strict=True)
    return torch.stack([next(row) if count < 1 else old for old, count in pairs])


test_a_right_answer_passes_however_it_is_written = right(
    nearest=[
        lambda x, e: torch.cdist(x, e).argmin(1),
        lambda x, e: (2 * x @ e.T - e.square().sum(1)).argmax(1).int(),
        lambda x, e: torch.stack([(e - each).norm(dim=1).argmin() for each in x]),
    ],
    straight_through=[lambda f, q: q.detach() + f - f.detach()],
    perplexity=[
        perplexity,
        lambda z, _: (-shares_of(z, 99)[z].log().mean()).exp().item(),
        lambda z, k: 2 ** (torch.special.entr(shares_of(z, k)).sum() / math.log(2)),
    ],
    renewal=[quantizing.renewed, dead_to(rows), in_turn],
)


test_another_answer_hears_what_is_wrong_with_it = wrong(
    nearest=[
        (lambda x, e: squared(x, e).argmin(0), "for 60 points", "has shape [8]"),
        (lambda x, e: (x @ e.T).argmax(1), "a large product is no small distance"),
        (lambda x, e: (x[:, None] - e).abs().sum(2).argmin(1), "D = 2 squared"),
        # As many points as codes, so that the shape says nothing.
        (
            lambda x, e: squared(x, e).argmin(0 if len(x) == len(e) else 1),
            "over the codes, for each point",
        ),
    ],
    straight_through=[
        (lambda f, q: f, "other values"),
        (lambda f, q: q.detach(), "features do not get the gradient"),
        (lambda f, q: f + (q - f), "features do not get the gradient"),
        (lambda f, q: q + f - f.detach(), "`quantized` gets a gradient as well"),
    ],
    perplexity=[
        (lambda z, k: perplexity(z, k).log(), "the entropy"),
        (lambda z, k: len(z.unique()), "does a rare one count as much?"),
        (
            lambda z, k: (-(shares_of(z, k) * shares_of(z, k).log()).sum()).exp(),
            "what is the log of 0?",
        ),
        (unweighted, "weigh as much as its share"),
    ],
    renewal=[
        (dead_to(rows, lambda n: n == 0), "code 0 has a count of 0.2 and was left"),
        (dead_to(rows, lambda n: n <= 1), "code 5 has a count of 1, so it is not"),
        (dead_to(lambda f, n: f.mean(dim=0)), "none of the features"),
        (dead_to(lambda f, n: f[:1]), "one and the same vector"),
        (dead_to(lambda f, n: f[torch.randint(len(f), (n,))]), "each its own"),
    ],
)
