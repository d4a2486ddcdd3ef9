"""The checks of notebook 01 judge answers by trying them and say what is wrong."""

import math

import pytest
import torch
import torch.nn.functional as F
from answers import refused, right, wrong
from torch import nn

from pixelprior.course.checks import quantizing
from pixelprior.data.images import ImageData
from pixelprior.vqvae2 import perplexity


def raises(*_):
    raise RuntimeError("no idea")


def squared(points, e):
    """The squared distance of each point to each code, [N, K]."""
    return (points[:, None] - e).square().sum(2)


class Through(torch.autograd.Function):
    @staticmethod
    def forward(_, features, quantized):
        return quantized.clone()

    @staticmethod
    def backward(_, gradient):
        return gradient, None


def shares_of(codes, num_embeddings):
    return torch.bincount(codes.flatten(), minlength=num_embeddings) / codes.numel()


def exp_mean_of(weight):
    """exp of minus a sum of weighted logs over the codes that occur."""

    def answer(codes, num_embeddings):
        shares = shares_of(codes, num_embeddings)
        shares = shares[shares > 0]
        return (-(weight(shares) * shares.log()).sum()).exp()

    return answer


def dead_to(choose):
    """A renewal that puts dead codes where `choose` says."""

    def renew(e, counts, features):
        dead = (counts < 1).nonzero().flatten()
        new = e.clone()
        new[dead] = choose(features, len(dead))
        return new

    return renew


def those_that(are_dead):
    """A renewal of the codes whose counts `are_dead`."""
    return lambda e, counts, features: torch.where(
        are_dead(counts)[:, None], features[: len(e)], e
    )


def in_place(e, counts, features):
    row = 0
    for code in range(len(e)):
        if counts[code] < 1:
            e[code], row = features[row], row + 1
    return e


@right(
    {
        "nearest": [
            quantizing.nearest_code,
            lambda x, e: torch.cdist(x, e).argmin(1),
            lambda x, e: (2 * x @ e.T - e.square().sum(1)).argmax(1).int(),
            lambda x, e: torch.stack([(e - each).norm(dim=1).argmin() for each in x]),
        ],
        "straight_through": [
            quantizing.passed_through,
            lambda f, q: q.detach() + f - f.detach(),
            Through.apply,
        ],
        "perplexity": [
            perplexity,
            exp_mean_of(lambda shares: shares),
            lambda z, _: (-shares_of(z, 99)[z].log().mean()).exp().item(),
            lambda z, k: 2 ** (torch.special.entr(shares_of(z, k)).sum() / math.log(2)),
        ],
        "renewal": [
            quantizing.renewed,
            dead_to(lambda f, n: f[torch.randperm(len(f))[:n]]),
            in_place,
        ],
    }
)
def test_a_right_answer_passes_however_it_is_written(check, answer, judge):
    assert judge(check, answer)


@wrong(
    {
        "nearest": [
            (lambda x, e: squared(x, e), "one number for each point and each code"),
            (lambda x, e: squared(x, e).argmin(0), "one number for each code, [8]"),
            (lambda x, e: e[squared(x, e).argmin(1)], "for each coordinate of a point"),
            (lambda x, e: (x[:, None] - e).square().argmin(1), "for each coordinate"),
            (lambda x, e: squared(x, e).argmax(1), "those of the farthest"),
            (lambda x, e: (x[:, None] - e).abs().sum(2).argmin(1), "squared before"),
            (lambda x, e: (x[:, None] - e).sum(2).argmin(1), "is the argmin over the"),
            (lambda x, e: (x @ e.T).argmax(1), "a large product is no small distance"),
            (lambda x, e: squared(x, e).min(1).values, "codes are whole numbers"),
            (lambda x, e: squared(x, e).min(1), "but a tensor is needed"),
            (lambda x, e: squared(x, e).argmin(1) + 1, "codes run from 0 to 7"),
            (lambda x, e: squared(x, e).argmin(1, keepdim=True), "has shape [60, 1]"),
            # As many points as codes, so that the shape says nothing.
            (
                lambda x, e: squared(x, e).argmin(0 if len(x) == len(e) else 1),
                "over the codes, for each point",
            ),
            (lambda x, e: (x - e).square().sum(1).argmin(), "raised RuntimeError"),
        ],
        "straight_through": [
            (lambda f, q: f, "other values"),
            (lambda f, q: q, "features get no gradient"),
            (lambda f, q: q.detach(), "no gradient gets back"),
            (lambda f, q: f + (q - f), "features get no gradient"),
            (lambda f, q: q + f - f.detach(), "`quantized` gets a gradient as well"),
            (lambda f, q: q.detach() + 2 * (f - f.detach()), "not the one that the"),
            (lambda f, q: (f + q).sum(), "shape []"),
            (lambda f: f, "raised TypeError"),
            (raises, "raised RuntimeError: no idea"),
            (3, "a function is needed"),
        ],
        "perplexity": [
            (lambda z, k: perplexity(z, k).log(), "the entropy"),
            (lambda z, k: len(z.unique()), "does a rare one count as much?"),
            (lambda z, k: torch.tensor(k), "equally frequent, your function gives"),
            (
                lambda z, k: torch.exp2(perplexity(z, k).log()),
                "equally frequent, your function gives",
            ),
            (
                lambda z, k: (-(shares_of(z, k) * shares_of(z, k).log()).sum()).exp(),
                "what is the log of 0?",
            ),
            (exp_mean_of(lambda shares: 1 / len(shares)), "as much as its share?"),
            (lambda z, k: shares_of(z, k), "but a number is needed"),
        ],
        "renewal": [
            (lambda e, counts, f: e, "was left where it was"),
            (those_that(lambda counts: counts == 0), "was left where it was"),
            (lambda e, counts, f: f[: len(e)], "is not dead, and yet its vector"),
            (those_that(lambda counts: counts <= 1), "is not dead, and yet its vector"),
            (dead_to(lambda f, n: torch.randn(n, f.shape[1])), "none of the features"),
            (dead_to(lambda f, n: f[:1]), "one and the same vector"),
            (dead_to(lambda f, n: torch.nan), "not finite"),
            (lambda e, counts, f: (e, counts), "is tuple"),
            (lambda e, counts, f: e[:3], "has shape [3, 3]"),
            (lambda e: e, "raised TypeError"),
            (raises, "raised RuntimeError: no idea"),
        ],
    }
)
def test_another_answer_hears_what_is_wrong_with_it(check, answer, words, judge):
    refused(judge(check, answer), *words)


@pytest.mark.parametrize("seed", range(5))
def test_features_drawn_with_replacement_may_be_the_same_for_two_codes(seed, judge):
    generator = torch.Generator().manual_seed(seed)
    renew = dead_to(lambda f, n: f[torch.randint(len(f), (n,), generator=generator)])
    refused(judge("renewal", renew), "give each its own")


class Levels(nn.Module):
    """A network such as that of notebook 01, for images of 8 × 8 pixels."""

    def __init__(self):
        super().__init__()
        self.encoder_top, self.to_bottom = nn.AvgPool2d(4), nn.AvgPool2d(2)
        self.decoder = nn.Conv2d(1, 1, 1)
        self.e_top, self.e_bottom = (
            nn.Parameter(torch.tensor([[0.5], [9.0], [10.0]])) for _ in range(2)
        )


def encode(net, images):
    grids, codes, loss = [], [], 0
    for part, e in ((net.encoder_top, net.e_top), (net.to_bottom, net.e_bottom)):
        features = part(images)
        z = quantizing.nearest_code(features.flatten()[:, None], e).view_as(features)
        grids, codes = [*grids, e[z[:, 0], 0][:, None]], [*codes, z[:, 0]]
        loss = loss + F.mse_loss(grids[-1], features)
    return *grids, *codes, loss


def decode(net, quant_t, quant_b):
    return F.interpolate(net.decoder(quant_b), scale_factor=2)


@pytest.mark.parametrize("renewal", [None, quantizing.renewed])
def test_a_training_moves_codes_that_are_chosen_and_renewal_the_others(renewal):
    torch.manual_seed(0)
    bytes_of = torch.randint(256, (32, 1, 8, 8), dtype=torch.uint8)
    data, net = ImageData(bytes_of, torch.zeros(32).long(), ["one"]), Levels()
    before = net.decoder.weight.clone()
    assert quantizing.train(net, encode, decode, data, renewal, steps=11) is net
    assert not torch.equal(net.decoder.weight, before)
    for e in (net.e_top, net.e_bottom):
        assert e[0] != 0.5
        assert (e[1:] < 1).all() if renewal else e[1:].flatten().tolist() == [9, 10]


def test_the_other_model_is_the_one_trained_without_bottom_dropout():
    models = quantizing.two_models()
    assert [model.bottom_dropout for model in models.values()] == [0.05, 0]
    assert not any(w.requires_grad for m in models.values() for w in m.parameters())
