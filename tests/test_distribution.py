"""Samples have the distribution that the logits, the filters and the guidance define.

The grids are so small that the probability of each is computed, by a slow reference in
float64 that shares no code with the sampler. A chi-square test compares the samples of
each method with them, over all cases together (Holm 1979). It takes 5,000 samples of
each case; `PIXELPRIOR_DRAWS=200000 pytest tests/test_distribution.py` takes more.
"""

import math
import os
import zlib

import pytest
import torch

from pixelprior import HierarchicalPixelCNN

DRAWS = int(os.environ.get("PIXELPRIOR_DRAWS", "5000"))
CODES, TOP, BOTTOM = 3, (1, 2), (2, 2)
LEVEL = 0.01  # the share of right samplers that would fail all tests together
FEWEST = 5.0  # expected samples of a cell; rarer grids share a cell

CASES = {
    "as it is": {},
    "no label": {"labels": None},
    "temperature 0.5": {"temperature": 0.5},
    "temperature 1.7": {"temperature": 1.7},
    "top_k 2": {"top_k": 2},
    "top_p 0.7": {"top_p": 0.7},
    "guidance 1.5": {"guidance": 1.5},
    "guidance and filters": {"guidance": 1.0, "temperature": 0.8, "top_p": 0.9},
    "known top": {"known": ([[0, -1]], None)},
    "known bottom": {"known": (None, [[-1, 2], [0, -1]])},
    "all of it": {
        "guidance": (0.5, 1.0),
        "labels": 1,
        "top_k": 2,
        "known": ([[-1, 0]], [[0, -1], [-1, -1]]),
    },
}
METHODS = ("naive", "rows", "cached")


@pytest.fixture(scope="module")
def prior():
    torch.manual_seed(0)
    prior = HierarchicalPixelCNN(
        CODES, 3, 6, 2, num_classes=2, label_dropout=0.1, attention_layers=1,
        attention_heads=2,
    )  # fmt: skip
    for parameter in prior.parameters():
        parameter.data.mul_(1.8)  # so that codes are not equally likely
    return prior.double().eval()


def reference(logits, temperature=1.0, top_k=None, top_p=None) -> list[float]:
    """The probabilities of the codes at one position, from a list of logits."""
    scaled = [each / temperature for each in logits]
    largest = max(scaled)
    weights = [math.exp(each - largest) for each in scaled]
    likeliest = sorted(range(len(weights)), key=lambda code: -weights[code])
    kept = likeliest[:top_k]
    total = math.fsum(weights[code] for code in kept)
    if top_p is not None:
        held, fewest = 0.0, []
        for code in kept:
            fewest.append(code)
            held += weights[code] / total
            if held >= top_p:
                break
        kept = fewest
    total, found = math.fsum(weights[code] for code in kept), [0.0] * len(weights)
    for code in kept:
        found[code] = weights[code] / total
    return found


@torch.no_grad()
def exact(prior, labels=0, guidance=0.0, known=(None, None), **filters):
    """The probability of each pair of grids, float64 [top, bottom]."""
    tops, bottoms = (
        torch.cartesian_prod(*[torch.arange(CODES)] * math.prod(shape)).view(-1, *shape)
        for shape in (TOP, BOTTOM)
    )
    above = tops.repeat_interleave(len(bottoms), dim=0)
    below = bottoms.repeat(len(tops), 1, 1)
    levels = [
        (lambda label: prior.prior_top(tops, label), tops),
        (lambda label: prior.prior_bottom(below, above, label), below),
    ]
    weights = guidance if isinstance(guidance, tuple) else (guidance, guidance)
    found = []
    for (run, grids), weight, fixed in zip(levels, weights, known, strict=True):
        logits = run(labels)
        if weight:
            logits = (1 + weight) * logits - weight * run(None)
        fixed = torch.tensor(fixed or -1).expand_as(grids[0]).flatten().tolist()
        for grid, each in zip(grids.flatten(1), logits.flatten(2), strict=True):
            probability = 1.0
            for code, k, at in zip(grid.tolist(), fixed, each.T.tolist(), strict=True):
                probability *= reference(at, **filters)[code] if k < 0 else code == k
            found.append(probability)
    found = torch.tensor(found, dtype=torch.float64)
    return found[: len(tops), None] * found[len(tops) :].view(len(tops), -1)


def counted(prior, method, seed, labels=0, known=(None, None), **options):
    """How often each pair of grids is drawn, long [top, bottom]."""
    known = [
        None if each is None else torch.tensor(each).expand(DRAWS, -1, -1)
        for each in known
    ]
    options |= {"seed": seed, "method": method, "chunk_size": DRAWS, "known": known}
    grids = prior.sample(DRAWS, TOP, BOTTOM, labels=labels, **options)
    codes = torch.cat([grid.flatten(1) for grid in grids], dim=1)  # [DRAWS, 6]
    numbers = (codes * CODES ** torch.arange(5, -1, -1)).sum(dim=1)
    return numbers.bincount(minlength=CODES**6).view(CODES**2, CODES**4)


def p_value(counts, probabilities) -> float:
    """Pearson's chi-square test; grids that are rarely expected share a cell."""
    counts, expected = counts.flatten().double(), DRAWS * probabilities.flatten()
    assert not counts[expected == 0].any()
    rare = expected < FEWEST
    counts, expected = (
        torch.cat([each[~rare], each[rare].sum()[None]]) for each in (counts, expected)
    )
    used = expected >= FEWEST  # of the last cell, which the rare grids share
    chi_square = ((counts - expected).square() / expected)[used].sum()
    freedom = (used.sum() - 1).clamp(min=1).double()
    return torch.special.gammaincc(freedom / 2, chi_square / 2).item()


def rejected(p_values: dict) -> list:
    """The cases that Holm's procedure rejects at `LEVEL`."""
    found = []
    for number, case in enumerate(sorted(p_values, key=p_values.get)):
        if p_values[case] > LEVEL / (len(p_values) - number):
            break
        found.append(case)
    return found


@pytest.fixture(scope="module")
def probabilities(prior):
    return {name: exact(prior, **options) for name, options in CASES.items()}


def test_probabilities_of_all_grids_sum_to_one(probabilities):
    for name, each in probabilities.items():
        assert each.sum().item() == pytest.approx(1, abs=1e-6), name
    plain = probabilities["as it is"]
    for name, each in probabilities.items():  # and each case is another distribution
        assert name == "as it is" or (each - plain).abs().sum() > 0.05, name


def p_values_of(prior, probabilities, methods=METHODS, cases=CASES) -> dict:
    found = {}
    for name in cases:
        for method in methods:
            seed = zlib.crc32(f"{name}, {method}".encode())
            counts = counted(prior, method, seed, **CASES[name])
            found[name, method] = p_value(counts, probabilities[name])
    return found


def test_samples_of_each_method_have_the_exact_distribution(prior, probabilities):
    p_values = p_values_of(prior, probabilities)
    assert rejected(p_values) == [], p_values
