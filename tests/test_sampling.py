"""Drawing: exact random streams, exact distribution, the same codes by every method."""

import copy
import pickle
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from pixelprior import HierarchicalPixelCNN, sampling, surprise
from pixelprior.sampling import check_method, inverse_cdf, probabilities, uniforms

TOP, BOTTOM = (3, 4), (6, 8)
LABELS = torch.tensor([0, 1, 2, 0, 1])


def draw(prior, *, shapes=(TOP, BOTTOM), **options):
    """Codes of five images of three classes, from seed 3."""
    return prior.sample(5, *shapes, **{"labels": LABELS, "seed": 3} | options)


def test_uniforms_are_those_of_philox_keyed_by_seed_and_index():
    # Bits fixed by the Philox 4×64 generator; they must never change.
    numbers = uniforms(seed=7, first_index=3, batch_size=2, count=2)
    assert numbers.dtype == torch.float64
    words = (numbers * 2**52).long().tolist()
    assert words == [
        [2171314191753932, 3261216695038968],
        [2485047223613033, 94110677162950],
    ]


def test_seeds_up_to_the_largest_have_streams_of_their_own():
    """From 2^63 on, numpy would turn a list with one such number into floats."""
    key = np.array([2**64 - 1, 5], dtype=np.uint64)
    words = np.random.Philox(key=key).random_raw(3) >> np.uint64(12)
    assert uniforms(2**64 - 1, 5, 1, 3)[0].tolist() == (words * 2.0**-52).tolist()


def test_a_code_of_probability_zero_is_never_drawn():
    edge = torch.tensor([0.0, 1 - 2.0**-52], dtype=torch.float64)
    probs = torch.tensor([[0.0, 0.5, 0.5, 0.0]], dtype=torch.float64).expand(2, -1)
    assert inverse_cdf(probs, edge).tolist() == [1, 2]
    tiny = torch.tensor([[0.1, 0.2, 0.7 - 1e-16, 0.0]], dtype=torch.float64)
    assert inverse_cdf(tiny, edge[1:]).tolist() == [2]


def test_no_temperature_is_too_low_for_the_logits():
    logits = torch.tensor([[10.0, 30.0, 20.0]])  # divided as they are, they overflow
    assert probabilities(logits, 1e-307).tolist() == [[0, 1, 0]]


def test_of_equally_likely_codes_top_p_keeps_the_first():
    probs = probabilities(torch.zeros(1, 64), top_p=0.25)
    assert probs[0].nonzero().flatten().tolist() == list(range(16))


ON_A_CPU = ("naive", "rows", "cached")  # `graph` needs a GPU
GRIDS = st.tuples(st.integers(1, 5), st.integers(1, 5))


@st.composite
def priors_and_options(draw):
    """An untrained prior of one to three levels in float64, and options of a draw."""
    sizes = draw(st.lists(st.integers(2, 20), min_size=1, max_size=3))
    layers, batch_size = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    condition, labels = draw(
        st.sampled_from(
            [
                ({}, None),
                ({"num_classes": 3}, [2, 0, 1]),
                ({"condition_dim": 2}, [[0.5, 2.0], [-1.0, 0.0], [3.0, 1.0]]),
            ]
        )
    )
    torch.manual_seed(draw(st.integers(0, 9)))
    prior = HierarchicalPixelCNN(
        sizes,
        3,
        4,
        layers,
        kernel_size=draw(st.sampled_from([3, 5, 7])),
        attention_layers=draw(st.integers(0, min(layers, 2))),
        attention_heads=2,
        label_dropout=0.1 if condition else 0.0,
        **condition,
    )
    for parameter in prior.parameters():
        parameter.data.mul_(2)  # so that codes are not equally likely
    shapes, known = [draw(GRIDS) for _ in sizes], []
    for size, shape in zip(sizes, shapes, strict=True):
        grid = torch.randint(size, (batch_size, *shape))
        grid[torch.rand(grid.shape) < 0.5] = -1
        known.append(grid if draw(st.booleans()) else None)
    options = {
        "batch_size": batch_size,
        "shapes": shapes,
        "labels": labels and labels[:batch_size],
        "seed": draw(st.integers(0, 2**64 - 1)),
        "first_index": draw(st.integers(0, 2**62)),
        "temperature": draw(st.sampled_from([0.5, 1.0, 1.7])),
        "top_k": draw(st.sampled_from([None, 1, 3, 50])),
        "top_p": draw(st.sampled_from([None, 0.3, 0.9, 1.0])),
        "known": known,
    }
    if condition:
        options["guidance"] = [draw(st.sampled_from([0.0, 1.5])) for _ in sizes]
    return prior.double().eval(), options


@settings(max_examples=120)
@given(priors_and_options())
def test_every_method_draws_the_same_codes(case):
    prior, options = case
    naive, *others = (prior.sample(**options, method=method) for method in ON_A_CPU)
    for other in [*others, prior.sample(**options, chunk_size=np.int64(2))]:
        assert all(map(torch.equal, naive, other))
    sizes = [level.num_embeddings for level in prior.levels]
    for grid, known, size in zip(naive, options["known"], sizes, strict=True):
        assert grid.min() >= 0 and grid.max() < size
        if known is not None:
            assert torch.equal(grid[known >= 0], known[known >= 0])


def test_the_shipped_prior_draws_the_same_codes_by_every_method_in_float32(shipped):
    """In a quarter of its grids, to save time."""
    options = {"labels": [0, 5, 9], "seed": 0}
    naive, rows, cached = (
        shipped[1].sample(3, (4, 4), (8, 8), method=method, **options)
        for method in ON_A_CPU
    )
    assert all(map(torch.equal, naive, rows)) and all(map(torch.equal, naive, cached))


def test_bfloat16_draws_other_codes_that_are_as_likely(shipped):
    """The float32 prior measures the nats per code of both sets of samples."""
    prior, labels = shipped[1], torch.arange(100) % 10
    one, other = (
        each.sample(100, (8, 8), (16, 16), labels=labels, seed=0)
        for each in (prior, copy.deepcopy(prior).bfloat16())
    )
    nats = [surprise(prior, *codes, labels) for codes in (one, other)]
    for level in ("top", "bottom"):
        assert (nats[0][level].mean() - nats[1][level].mean()).abs() < 0.15
    assert 0.1 < (one[1] == other[1]).float().mean() < 0.99


class Recording(TorchDispatchMode):
    """A stand-in for a CUDA graph: what ran is recorded, with its tensors, and replayed
    into the same tensors; no line of Python runs again.

    As a graph, it refuses what asks the device for a number.
    """

    def __init__(self, function):
        super().__init__()
        self.steps = []
        with self:
            function()

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        if operation.name() in ("aten::_local_scalar_dense", "aten::nonzero"):
            raise RuntimeError(f"{operation.name()} asks the device for a number")
        given = options or {}
        result = operation(*arguments, **given)
        self.steps.append((operation, arguments, given, result))
        return result

    def replay(self) -> None:
        for operation, arguments, options, result in self.steps:
            again = operation(*arguments, **options)
            if isinstance(result, torch.Tensor):
                result, again = [result], [again]
            for old, new in zip(result, again, strict=True):
                if old.data_ptr() != new.data_ptr():  # neither a view nor in place
                    old.copy_(new)


@pytest.fixture
def captures(monkeypatch):
    """Graphs of a processor: the functions that were captured."""
    captured = []

    def capture(function):
        function()  # as the warm-up does
        captured.append(function)
        return Recording(function).replay

    monkeypatch.setattr(sampling, "_capture", capture)
    monkeypatch.setattr(sampling, "check_method", lambda method, device: None)
    return captured


def same_by_graph(prior, **options) -> bool:
    cached, graph = (
        draw(prior, method=method, **options) for method in ("cached", "graph")
    )
    return all(map(torch.equal, cached, graph))


def test_a_captured_row_draws_the_cached_codes_of_all_rows_chunks_and_calls(
    small_prior, captures
):
    known, half = torch.full((5, *BOTTOM), -1), {"temperature": 0.5}
    for options, count in (
        ({"known_bottom": known}, 2),  # one for each level
        ({"known_bottom": known, "seed": 1}, 2),
        ({"known_bottom": known} | half, 4),
        (half, 5),  # the bottom level without known codes
        ({"chunk_size": 2, "seed": 3}, 9),  # chunks of 2 and of 1
        ({"chunk_size": 2, "seed": 5}, 9),
    ):
        known[:, 1::2] += 1
        assert same_by_graph(small_prior, **options)
        assert len(captures) == count


def test_a_captured_row_has_the_weights_of_the_moment(captures):
    torch.manual_seed(0)
    options = {"num_classes": 3, "label_dropout": 0.1, "attention_layers": 2}
    prior = HierarchicalPixelCNN(9, 4, 8, num_layers=3, **options)
    guided = {"guidance": 0.5, "temperature": 0.9, "top_k": 5, "top_p": 0.9}
    assert same_by_graph(prior) and same_by_graph(prior, **guided)
    assert len(captures) == 4
    for parameter in prior.parameters():
        parameter.data *= 1.5  # in place, without a trace in the tensor's version
    assert same_by_graph(prior) and len(captures) == 4
    right = copy.deepcopy(prior.state_dict())
    prior.prior_top.attention["2"].out.weight.data.fill_(torch.nan)
    with pytest.raises(ValueError, match="not finite"):
        draw(prior, method="graph")
    prior.load_state_dict(right)
    assert same_by_graph(prior) and len(captures) == 4
    other = pickle.loads(pickle.dumps(prior))
    assert not any(level._graphs for level in other.levels), "a copy has its own"
    for parameter in prior.parameters():
        parameter.data = parameter.data.clone()  # as a move to a device and back
    assert same_by_graph(prior) and len(captures) == 6
    assert same_by_graph(prior.double())
    for level in prior.levels:
        assert len(level._graphs) <= sampling.KEPT_GRAPHS


def test_graph_is_for_cuda_devices_alone(small_prior):
    check_method("graph", torch.device("cuda"))
    with pytest.raises(ValueError, match=r"graph.*needs a CUDA device.*on cpu"):
        draw(small_prior, method="graph")


def test_graph_on_a_gpu_draws_the_codes_of_the_cpu(small_prior):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here: the method graph is not run")
    on_cpu = draw(small_prior)
    for method in ("cached", "graph"):
        drawn = draw(small_prior, device="cuda", method=method)
        assert all(torch.equal(a, b.cpu()) for a, b in zip(on_cpu, drawn, strict=True))
    below = {"labels": LABELS, "seed": 3, "above": on_cpu[0]}  # is moved to the prior
    drawn = small_prior.prior_bottom.sample(5, BOTTOM, **below).cpu()
    alone = small_prior.prior_bottom.sample(5, BOTTOM, device="cpu", **below)
    assert torch.equal(drawn, alone)


def test_image_i_is_the_same_in_any_batch(small_prior):
    whole = draw(small_prior)
    alone = small_prior.sample(2, TOP, BOTTOM, labels=LABELS[3:], seed=3, first_index=3)
    assert all(torch.equal(a[3:], b) for a, b in zip(whole, alone, strict=True))


def test_a_chunk_is_all_that_is_drawn_and_decoded_at_once(
    small_prior, small_vqvae2, monkeypatch
):
    drawn, decoded = set(), set()

    def watched(probs, uniform):
        drawn.add(len(probs))
        return inverse_cdf(probs, uniform)

    monkeypatch.setattr(sampling, "inverse_cdf", watched)
    small_prior.sample(600, (2, 2), (2, 2), labels=1)
    assert drawn == {256, 88}
    options = {"labels": 1, "seed": 3}
    whole = small_prior.sample_with_vqvae2(small_vqvae2, 4, **options)
    hook = small_vqvae2.decoder.register_forward_hook(
        lambda _module, inputs, _output: decoded.add(len(inputs[0]))
    )
    parts = small_prior.sample_with_vqvae2(small_vqvae2, 4, chunk_size=3, **options)
    hook.remove()
    assert decoded == {3, 1} and torch.allclose(whole, parts, atol=1e-5)


@pytest.mark.parametrize(("kind", "drawn_on"), [("mps", "cpu"), ("cuda", "cuda")])
def test_the_cpu_draws_for_apples_gpus_alone(kind, drawn_on, monkeypatch):
    """They have no float64; none of these devices needs to be here."""
    level, uniform = MagicMock(), MagicMock()
    level.embedding.weight.device = torch.device(kind)
    uniform.to.side_effect = InterruptedError
    monkeypatch.setattr(torch, "zeros", MagicMock())
    with pytest.raises(InterruptedError):
        sampling.sample_codes(level, (1, 1), uniform)
    uniform.to.assert_called_with(torch.device(drawn_on))


@pytest.mark.parametrize(
    "options",
    [
        {"labels": LABELS.flip(0).numpy()[::-1].astype(np.uint16)},
        {"seed": np.uint64(3), "top_k": np.array(512, np.uint64)},
        {"shapes": (tuple(map(np.uint64, TOP)), [np.uint64(6), np.array(8)])},
    ],
)
def test_whole_numbers_may_be_of_any_library(small_prior, options):
    assert all(map(torch.equal, draw(small_prior), draw(small_prior, **options)))


def test_autocast_changes_no_code_and_no_image(small_vqvae2):
    torch.manual_seed(0)
    prior = HierarchicalPixelCNN(512, 4, 8, 2, 3, attention_layers=2)
    options = {"labels": 1, "seed": 3}

    def drawn():
        for method in ON_A_CPU:
            yield from prior.sample(2, TOP, BOTTOM, method=method, **options)
        yield prior.sample_with_vqvae2(small_vqvae2, 2, **options)

    exact = list(drawn())
    with torch.autocast("cpu", torch.bfloat16):
        assert all(map(torch.equal, exact, drawn()))


def test_sampling_restores_the_mode_and_ignores_dropout(small_prior):
    codes = draw(small_prior)
    small_prior.train()
    assert all(map(torch.equal, codes, draw(small_prior)))
    assert small_prior.training


def test_codes_can_be_trained_on_after_they_were_drawn():
    """What was kept for later passes while they were drawn needs a gradient now."""
    prior = HierarchicalPixelCNN(9, 4, 8, 2, attention_layers=1)
    codes = prior.sample(2, (3, 7), (5, 9))
    prior.loss_function(*codes)["total_loss"].backward()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_k": 1.5}, "top_k is 1.5"),
        ({"seed": 2**64}, r"seed is \d+; give a whole number from 0 to 2\^64 - 1$"),
        ({"labels": "coat"}, "labels are 'coat'; give labels from 0 to 2"),
        ({"shapes": ((2.5, 4), BOTTOM)}, r"grids are \(\(2\.5, 4\), \(6, 8\)\); give"),
        ({"method": "fast"}, "method is 'fast'.*naive, rows, cached, graph"),
        ({"known_top": torch.full((6, 3, 4), -1), "chunk_size": 5}, r"\[5, 3, 4\]"),
        ({"known_top": torch.full((5, 3, 4), 512)}, "512.*0 to 511"),
    ],
)
def test_wrong_arguments_are_named(small_prior, options, words):
    with pytest.raises(ValueError, match=words):
        draw(small_prior, **options)


def test_images_are_drawn_only_with_a_matching_codebook(small_vqvae2):
    for size, words in ((256, r"\[256, 256\] codes.*2 of \[512"), ([512], "has 2 of")):
        with pytest.raises(ValueError, match=words):
            HierarchicalPixelCNN(size, 8, 8, 2).sample_with_vqvae2(small_vqvae2, 2)
