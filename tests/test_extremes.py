"""Numbers at the ends of their ranges: finite, and right against a slow reference."""

import math

import pytest
import torch
from test_distribution import reference

from pixelprior import PixelCNN
from pixelprior.pixelcnn import negative_log_likelihood
from pixelprior.sampling import probabilities, uniforms

# How far the sum of the probabilities before a code may be from that in float64.
OFF = {torch.bfloat16: 0.02, torch.float32: 1e-5, torch.float64: 1e-9}


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
    [*((7, each) for each in OFF), (2, torch.float32), (65_536, torch.float32)],
)
def test_probabilities_are_finite_and_right(kind, temperature, count, dtype):
    logits = logits_of(kind, count).to(dtype)
    ties = len(logits.unique()) < count
    shares = [{"top_p": share} for share in (1e-9, 0.5, 1.0)]
    for filters in [{}, {"top_k": 1}, {"top_k": count}, *shares]:
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


@pytest.mark.parametrize("dtype", OFF)
@pytest.mark.parametrize("scale", [1e30, -1e30, 0.0])
def test_the_likelihood_of_huge_logits_is_finite_and_right(scale, dtype):
    logits = (scale * torch.tensor([1.0, 0.5, -1.0])).to(dtype).expand(3, -1)
    found = negative_log_likelihood(
        logits[..., None, None], torch.arange(3)[:, None, None]
    )
    wanted = -logits[0].double().log_softmax(0)
    torch.testing.assert_close(found.flatten().double(), wanted, rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", OFF)
@pytest.mark.parametrize(
    ("count", "shape"), [(2, (1, 64)), (2, (64, 1)), (65_536, (2, 2))]
)
def test_codes_are_those_at_which_the_summed_probabilities_exceed_the_numbers(
    count, shape, dtype
):
    torch.manual_seed(0)
    prior = PixelCNN(count, 2, 4, 2, num_classes=1000, attention_layers=1).to(dtype)
    labels = torch.tensor([999, 0])
    codes = prior.eval().sample(2, shape, labels=labels, seed=0)
    numbers = uniforms(0, 0, 2, math.prod(shape)).flatten()
    logits = prior.double()(codes, labels).detach().flatten(2).transpose(1, 2)
    rows = zip(logits.flatten(0, 1).tolist(), numbers, codes.flatten(), strict=True)
    for row, number, code in rows:
        each, off = reference(row), OFF[dtype]
        before = math.fsum(each[:code])
        assert before - off <= number <= before + each[code] + off


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("method", ["rows", "cached"])
def test_one_infinite_logit_ends_the_draw_with_a_clear_error(
    value, method, small_prior
):
    small_prior.prior_top.head[-1].bias.data[3] = value
    with pytest.raises(ValueError, match="logits are not finite"):
        small_prior.sample(2, (2, 2), (2, 2), labels=[0, 1], method=method)
