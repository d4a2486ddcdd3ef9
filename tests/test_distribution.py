"""Samples have the distribution that the logits, the filters and the guidance define.

The grids are so small that the probability of each is computed, by a slow reference in
float64 that shares no code with the sampler. A chi-square test compares the samples of
each method with them, over all cases together (Holm 1979). It takes 5,000 samples of
each case; `PIXELPRIOR_DRAWS=200000 pytest tests/test_distribution.py` takes more.
"""

import inspect
import math
import os
import types
import zlib

import pytest
import torch

from pixelprior import HierarchicalPixelCNN, sampling

DRAWS = int(os.environ.get("PIXELPRIOR_DRAWS", "5000"))
CODES, TOP, BOTTOM = 3, (1, 2), (2, 2)
LEVEL = 0.01  # the share of right samplers that would fail all tests together
FEWEST = 5.0  # expected samples of a cell; rarer grids share a cell

CASES = {
    "as it is": {},
    "label 1": {"labels": 1},
    "no label": {"labels": None},
    "temperature 0.5": {"temperature": 0.5},
    "temperature 1.7": {"temperature": 1.7},
    "top_k 2": {"top_k": 2},
    "top_p 0.7": {"top_p": 0.7},
    "all filters": {"temperature": 1.3, "top_k": 2, "top_p": 0.8},
    "guidance 1.5": {"guidance": 1.5},
    "guidance of the top": {"guidance": (2.0, 0.0), "labels": 1},
    "guidance and filters": {"guidance": 1.0, "temperature": 0.8, "top_p": 0.9},
    "known top": {"known_top": [[0, -1]]},
    "known bottom": {"known_bottom": [[-1, 2], [0, -1]]},
    "all of it": {
        "guidance": (0.5, 1.0),
        "labels": 1,
        "top_k": 2,
        "known_top": [[-1, 0]],
        "known_bottom": [[0, -1], [-1, -1]],
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


def guided(run, weight: float, label):
    """The logits of `run` at every position, for all grids: lists [grid][place][K]."""
    logits = run(label)
    if weight:
        logits = (1 + weight) * logits - weight * run(None)
    return logits.flatten(2).transpose(1, 2).tolist()


def all_grids(shape) -> torch.Tensor:
    return torch.cartesian_prod(*[torch.arange(CODES)] * math.prod(shape)).view(
        -1, *shape
    )


def products(grids, logits, known, **filters) -> torch.Tensor:
    """The probability of each grid, from its logits at each position."""
    fixed = None if known is None else torch.tensor(known).flatten().tolist()
    found = []
    for grid, positions in zip(grids.flatten(1).tolist(), logits, strict=True):
        probability = 1.0
        for place, (code, each) in enumerate(zip(grid, positions, strict=True)):
            if fixed is not None and fixed[place] >= 0:
                probability *= float(code == fixed[place])
            else:
                probability *= reference(each, **filters)[code]
        found.append(probability)
    return torch.tensor(found, dtype=torch.float64)


@torch.no_grad()
def exact(prior, labels=0, guidance=0.0, known_top=None, known_bottom=None, **filters):
    """The probability of each pair of grids, float64 [top, bottom]."""
    weights = guidance if isinstance(guidance, tuple) else (guidance, guidance)
    tops, bottoms = all_grids(TOP), all_grids(BOTTOM)

    def of(count, label):
        return None if label is None else torch.full((count,), label)

    def top_logits(label):
        return prior.prior_top(tops, of(len(tops), label))

    first = products(tops, guided(top_logits, weights[0], labels), known_top, **filters)
    rows = []
    for top in tops:
        above = top.expand(len(bottoms), *TOP)

        def bottom_logits(label, above=above):
            label = of(len(bottoms), label)
            return prior.prior_bottom(bottoms, above, label)

        logits = guided(bottom_logits, weights[1], labels)
        rows.append(products(bottoms, logits, known_bottom, **filters))
    return first[:, None] * torch.stack(rows)


def counted(
    prior, method, seed, labels=0, known_top=None, known_bottom=None, **options
):
    """How often each pair of grids is drawn, long [top, bottom]."""
    if labels is not None:
        options["labels"] = torch.full((DRAWS,), labels)
    for name, known in (("known_top", known_top), ("known_bottom", known_bottom)):
        if known is not None:
            options[name] = torch.tensor(known).expand(DRAWS, -1, -1)
    grids = prior.sample(
        DRAWS, TOP, BOTTOM, seed=seed, method=method, chunk_size=DRAWS, **options
    )
    names = []
    for grid in grids:
        name = torch.zeros(DRAWS, dtype=torch.long)
        for code in grid.flatten(1).unbind(1):
            name = CODES * name + code
        names.append(name)
    sizes = [CODES ** math.prod(shape) for shape in (TOP, BOTTOM)]
    together = names[0] * sizes[1] + names[1]
    return together.bincount(minlength=sizes[0] * sizes[1]).view(sizes)


def p_value(counts, probabilities) -> float:
    """Pearson's chi-square test; grids that are rarely expected share a cell."""
    counts, expected = counts.flatten().double(), DRAWS * probabilities.flatten()
    assert not counts[expected == 0].any()
    rare = expected < FEWEST
    pooled = [each[rare].sum()[None] for each in (counts, expected)]
    cells = [
        torch.cat([each[~rare], pool])
        for each, pool in zip((counts, expected), pooled, strict=True)
    ]
    if pooled[1] < FEWEST:
        cells = [each[:-1] for each in cells]
    chi_square = ((cells[0] - cells[1]).square() / cells[1]).sum()
    freedom = torch.tensor(max(1, len(cells[0]) - 1), dtype=torch.float64)
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


@pytest.mark.parametrize(
    ("case", "right", "wrong"),
    [
        ("top_p 0.7", "kept_before >= top_p", "kept_before + ranked >= top_p"),
        ("top_k 2", "top_k < scaled.shape[-1]", "top_k < scaled.shape[-1] - 1"),
        ("temperature 0.5", "if temperature != 1:", "if temperature > 1:"),
        ("known bottom", "torch.where(known < 0", "torch.where(known <= 0"),
        ("guidance 1.5", "(labelled - unlabelled)", "(unlabelled - labelled)"),
    ],
)
def test_a_sampler_with_one_thing_wrong_is_found(
    case, right, wrong, prior, probabilities, monkeypatch
):
    source = inspect.getsource(sampling)
    assert source.count(right) == 1
    mutant = types.ModuleType("pixelprior.mutant")
    exec(source.replace(right, wrong), mutant.__dict__)
    monkeypatch.setattr(sampling, "sample_codes", mutant.sample_codes)
    try:
        p_values = p_values_of(prior, probabilities, ("cached",), [case])
    except AssertionError:  # it drew what has probability 0
        return
    assert rejected(p_values) == [(case, "cached")]
