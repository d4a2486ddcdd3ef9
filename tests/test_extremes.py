"""Numbers at the ends of their ranges: finite, and right against a slow reference."""

import math
from copy import deepcopy

import pytest
import torch
from test_distribution import reference

from pixelprior import HierarchicalPixelCNN, PixelCNN
from pixelprior.pixelcnn import negative_log_likelihood
from pixelprior.sampling import probabilities, uniforms

ON_A_CPU = ("naive", "rows", "cached")
DTYPES = (torch.bfloat16, torch.float32, torch.float64)


def logits_of(kind: str, count: int) -> torch.Tensor:
    torch.manual_seed(0)
    logits = 3 * torch.randn(count)
    if kind == "huge":
        logits = torch.linspace(-1e30, 1e30, count)
    if kind == "equal":
        logits = torch.full((count,), 7.0)
    if kind == "one is minus infinity":
        logits[count // 2] = -math.inf
    return logits


@pytest.mark.parametrize("kind", ["plain", "huge", "equal", "one is minus infinity"])
@pytest.mark.parametrize("temperature", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize(
    ("count", "dtype"),
    [(count, dtype) for count in (2, 7) for dtype in DTYPES]
    + [(65_536, torch.float32)],
)
def test_probabilities_are_finite_and_right(kind, temperature, count, dtype):
    logits = logits_of(kind, count).to(dtype)
    ties = len(logits.unique()) < count
    for filters in (
        {},
        {"top_k": 1},
        {"top_k": count},
        {"top_p": 1e-9},
        {"top_p": 0.5},
        {"top_p": 1.0},
    ):
        found = probabilities(logits, temperature, **filters)
        assert found.isfinite().all() and found.min() >= 0
        assert found.sum().item() == pytest.approx(1, abs=1e-9)
        if filters.get("top_p") == 0.5 and kind != "huge" and count > 7:
            continue  # how many of 65,536 codes hold one half, rounding decides
        wanted = reference(logits.double().tolist(), temperature, **filters)
        wanted = torch.tensor(wanted, dtype=torch.float64)
        if ties and filters:  # which of equal codes is kept does not matter
            found, wanted = found.sort().values, wanted.sort().values
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1e30, -1e30, 0.0])
def test_the_likelihood_of_huge_logits_is_finite_and_right(scale, dtype):
    logits = scale * torch.tensor([1.0, 0.5, -1.0]).view(1, 3, 1, 1)
    for code in range(3):
        codes = torch.full((1, 1, 1), code)
        found = negative_log_likelihood(logits.to(dtype), codes).item()
        each = logits.to(dtype).double().flatten().tolist()
        largest = max(each)
        wanted = (
            largest
            - each[code]
            + math.log(math.fsum(math.exp(one - largest) for one in each))
        )
        assert found == pytest.approx(wanted, rel=1e-6)


# How far the sum of the probabilities before a code may be from that in float64.
OFF = {torch.bfloat16: 0.02, torch.float32: 1e-5, torch.float64: 1e-9}


def check_draws(logits, numbers, codes, off: float) -> None:
    """Each code is the first at which the summed probabilities exceed its number.

    Args:
        logits: float64 [B, K, H, W], given the drawn codes. numbers: float64 [B, HW].
            codes: long [B, H, W].
    """
    rows = logits.detach().flatten(2).transpose(1, 2).flatten(0, 1).tolist()
    drawn = zip(rows, numbers.flatten(), codes.flatten().tolist(), strict=True)
    for row, number, code in drawn:
        each = reference(row)
        before = math.fsum(each[:code])
        assert before - off <= number <= before + each[code] + off


SHAPES = [((1, 1), (1, 1)), ((1, 1), (2, 2)), ((1, 32), (1, 64)), ((32, 1), (64, 1))]


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("classes", [1, 1000])
def test_grids_of_any_shape_are_drawn_alike_by_each_method(shapes, batch_size, classes):
    """And as the slow reference draws them, in each number format."""
    torch.manual_seed(0)
    prior = HierarchicalPixelCNN(
        2, 3, 4, 2, num_classes=classes, attention_layers=1, attention_heads=2
    )
    prior = prior.double().eval()
    labels = torch.tensor([classes - 1, 0, classes // 2])[:batch_size]
    options = {"seed": 0, "labels": labels}
    naive, *others = (
        prior.sample(batch_size, *shapes, method=method, **options)
        for method in ON_A_CPU
    )
    for grid, shape in zip(naive, shapes, strict=True):
        assert grid.shape == (batch_size, *shape)
        assert grid.min() >= 0 and grid.max() <= 1
    for other in others:
        assert all(map(torch.equal, naive, other))
    losses = prior.loss_function(*naive, labels)
    assert all(value.isfinite() for value in losses.values())
    counts = [math.prod(shape) for shape in shapes]
    numbers = uniforms(0, 0, batch_size, sum(counts)).split(counts, dim=1)
    for dtype, off in reversed(OFF.items()):
        prior = prior.to(dtype)
        grids = prior.sample(batch_size, *shapes, **options)
        exact = deepcopy(prior).double()
        logits = (
            exact.prior_top(grids[0], labels),
            exact.prior_bottom(grids[1], grids[0], labels),
        )
        for each in zip(logits, numbers, grids, strict=True):
            check_draws(*each, off)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_codebook_of_65536_codes_is_learned_from_and_drawn_from(dtype):
    torch.manual_seed(0)
    prior = PixelCNN(65_536, 2, 4, 2).to(dtype)
    codes = torch.tensor([[[0, 65_535], [32_768, 1]]])
    loss = prior.loss_function(codes)["total_loss"]
    loss.backward()
    assert loss.item() == pytest.approx(math.log(65_536), rel=0.05)
    assert all(p.grad.isfinite().all() for p in prior.parameters())
    drawn = prior.eval().sample(2, (2, 2), seed=0)
    assert drawn.min() >= 0 and drawn.max() < 65_536 and drawn.unique().numel() > 1
    logits = deepcopy(prior).double()(drawn)
    check_draws(logits, uniforms(0, 0, 2, 4), drawn, OFF[dtype])


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("method", ON_A_CPU)
def test_one_infinite_logit_ends_the_draw_with_a_clear_error(
    value, method, small_prior, monkeypatch
):
    head = small_prior.prior_top.head[-1]
    bias = head.bias.detach().clone()
    try:
        head.bias.data[3] = value
        with pytest.raises(ValueError, match="logits are not finite"):
            small_prior.sample(
                2, (2, 2), (2, 2), labels=torch.tensor([0, 1]), method=method
            )
    finally:
        head.bias.data.copy_(bias)
