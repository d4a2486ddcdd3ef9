"""Drawing: exact random streams, exact distribution, the same codes by every method."""

import copy
import itertools
import math
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from pixelprior import HierarchicalPixelCNN, sampling
from pixelprior.progress import progress_bar
from pixelprior.sampling import (
    check_method,
    inverse_cdf,
    probabilities,
    sample_codes,
    uniforms,
)

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
    seeds = (2**63 - 1, 2**63, 2**63 + 1, 2**64 - 2, 2**64 - 1)
    drawn = [tuple(uniforms(seed, 0, 1, 4)[0].tolist()) for seed in seeds]
    assert len(set(drawn)) == len(seeds)
    key = np.array([2**64 - 1, 5], dtype=np.uint64)
    words = np.random.Philox(key=key).random_raw(3) >> np.uint64(12)
    assert uniforms(2**64 - 1, 5, 1, 3)[0].tolist() == (words * 2.0**-52).tolist()


@pytest.mark.parametrize(
    ("name", "value"),
    [("seed", 2**64), ("seed", -1), ("seed", 0.5), ("first_index", 2**63)],
)
def test_a_stream_beyond_its_bits_is_named(small_prior, name, value):
    bits = 64 if name == "seed" else 63
    words = rf"{name} is {value}; give a whole number from 0 to 2\^{bits} - 1$"
    with pytest.raises(ValueError, match=words):
        draw(small_prior, **{name: value})


def test_an_image_has_its_own_stream():
    many = uniforms(5, 0, 8, 20)
    assert torch.equal(many[6:7], uniforms(5, 6, 1, 20))
    assert len(many.flatten().unique()) == 160


def test_a_draw_follows_the_probabilities():
    probs = torch.tensor([[0.1, 0.0, 0.6, 0.3]], dtype=torch.float64)
    steps = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    counts = inverse_cdf(probs.expand(1000, -1), steps).bincount(minlength=4)
    assert counts.tolist() == [100, 0, 600, 300]


def test_a_code_of_probability_zero_is_never_drawn():
    edge = torch.tensor([0.0, 1 - 2.0**-52], dtype=torch.float64)
    probs = torch.tensor([[0.0, 0.5, 0.5, 0.0]], dtype=torch.float64).expand(2, -1)
    assert inverse_cdf(probs, edge).tolist() == [1, 2]
    tiny = torch.tensor([[0.1, 0.2, 0.7 - 1e-16, 0.0]], dtype=torch.float64)
    assert inverse_cdf(tiny, edge[1:]).tolist() == [2]


@pytest.mark.parametrize(("top_p", "kept"), [(0.5, 1), (0.51, 2), (0.8, 2), (1.0, 4)])
def test_top_p_keeps_the_fewest_codes_that_hold_the_share(top_p, kept):
    logits = torch.tensor([[0.5, 0.1, 0.3, 0.1]], dtype=torch.float64).log()
    probs = probabilities(logits, top_p=top_p - 1e-12 if top_p < 1 else 1.0)
    assert (probs > 0).sum().item() == kept
    assert probs.sum().item() == pytest.approx(1)


def test_no_temperature_is_too_low_for_the_logits():
    """Divided by it as they are, they would overflow."""
    logits = torch.tensor([[10.0, 30.0, 20.0]])
    assert probabilities(logits, 1e-307).tolist() == [[0, 1, 0]]


def test_top_p_of_one_keeps_the_rarest_code():
    logits = torch.tensor([[0.0, -40.0]])
    found = probabilities(logits, top_p=1.0)
    assert torch.equal(found, probabilities(logits)) and found.min() > 0


def test_of_equally_likely_codes_top_p_keeps_the_first():
    probs = probabilities(torch.zeros(1, 64), top_p=0.25)
    assert probs[0].nonzero().flatten().tolist() == list(range(16))


ON_A_CPU = ("naive", "rows", "cached")  # `graph` needs a GPU
GRIDS = st.tuples(st.integers(1, 5), st.integers(1, 5))


@st.composite
def priors_and_options(draw):
    """A small untrained prior in float64, and the options of a draw from it."""
    num_embeddings, layers = draw(st.integers(2, 20)), draw(st.integers(1, 4))
    num_classes = draw(st.sampled_from([None, 3]))
    torch.manual_seed(draw(st.integers(0, 9)))
    prior = HierarchicalPixelCNN(
        num_embeddings,
        3,
        4,
        layers,
        num_classes=num_classes,
        kernel_size=draw(st.sampled_from([3, 5, 7])),
        attention_layers=draw(st.integers(0, min(layers, 2))),
        attention_heads=2,
    )
    for parameter in prior.parameters():
        parameter.data.mul_(2)  # so that codes are not equally likely
    batch_size, top, bottom = draw(st.integers(1, 3)), draw(GRIDS), draw(GRIDS)

    def known(shape):
        if draw(st.booleans()):
            return None
        grid = torch.randint(num_embeddings, (batch_size, *shape))
        return torch.where(torch.rand(grid.shape) < 0.5, grid, -1)

    labels = None if num_classes is None else torch.randint(3, (batch_size,))
    options = {
        "batch_size": batch_size,
        "top_shape": top,
        "bottom_shape": bottom,
        "labels": labels,
        "seed": draw(st.integers(0, 2**64 - 1)),
        "temperature": draw(st.sampled_from([0.5, 1.0, 1.7])),
        "top_k": draw(st.sampled_from([None, 1, 3, 50])),
        "top_p": draw(st.sampled_from([None, 0.3, 0.9, 1.0])),
        "known_top": known(top),
        "known_bottom": known(bottom),
    }
    return prior.double().eval(), options


@settings(max_examples=150)
@given(priors_and_options())
def test_every_method_draws_the_same_codes(case):
    prior, options = case
    naive, *others = (prior.sample(**options, method=method) for method in ON_A_CPU)
    for other in others:
        assert all(map(torch.equal, naive, other))
    for grid, known in zip(naive, ("known_top", "known_bottom"), strict=True):
        if options[known] is not None:
            given_codes = options[known] >= 0
            assert torch.equal(grid[given_codes], options[known][given_codes])


def test_in_float32_the_methods_differ_by_rounding_ties_alone(shipped):
    """With the shipped weights, fewer than one code in twenty differs."""
    prior, labels = shipped[1], torch.arange(4)
    naive, rows, cached = (
        prior.sample(4, (8, 8), (6, 6), labels=labels, seed=0, method=method)
        for method in ON_A_CPU
    )
    for other in (rows, cached):
        for a, b in zip(naive, other, strict=True):
            assert (a == b).float().mean() > 0.95


def test_bfloat16_draws_other_codes_that_are_as_likely(shipped):
    """The float32 prior measures the nats per code of both sets of samples."""
    prior, labels = shipped[1], torch.arange(100) % 10
    low = copy.deepcopy(prior).bfloat16()
    nats, samples = [], []
    for each in (prior, low):
        drawn = each.sample(100, (8, 8), (16, 16), labels=labels, seed=0)
        with torch.no_grad():
            losses = prior.loss_function(*drawn, labels)
        nats.append(torch.stack([losses["top_loss"], losses["bottom_loss"]]))
        samples.append(drawn)
    assert (nats[0] - nats[1]).abs().max() < 0.15
    assert 0.1 < (samples[0][1] == samples[1][1]).float().mean() < 0.99


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
            alone = isinstance(result, torch.Tensor)
            for old, new in (
                [(result, again)] if alone else zip(result, again, strict=True)
            ):
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


@pytest.mark.parametrize(("top", "bottom"), [(TOP, BOTTOM), ((1, 4), (2, 8))])
def test_a_captured_row_draws_the_cached_codes_of_all_rows_chunks_and_calls(
    small_prior, captures, top, bottom
):
    known = torch.full((5, *bottom), -1)
    known[:, 1::2] = 3
    shapes = (top, bottom)
    prior = copy.deepcopy(small_prior)
    assert same_by_graph(prior, shapes=shapes, known_bottom=known)
    assert len(captures) == 2, "one for each level"
    for seed in (1, 2):
        known[:, ::3] = seed
        assert same_by_graph(prior, shapes=shapes, known_bottom=known, seed=seed)
    assert len(captures) == 2, "of each kind once"
    assert same_by_graph(prior, shapes=shapes, known_bottom=known, temperature=0.5)
    assert len(captures) == 4
    assert same_by_graph(prior, shapes=shapes, temperature=0.5)
    assert len(captures) == 5, "the bottom level without known codes"
    for seed in (3, 5):
        assert same_by_graph(prior, shapes=shapes, chunk_size=2, seed=seed)
    assert len(captures) == 9, "chunks of 2 and of 1"


@pytest.mark.parametrize("attention_layers", [0, 2])
def test_a_captured_row_has_the_weights_of_the_moment(attention_layers, captures):
    torch.manual_seed(0)
    sizes = {"num_layers": 3, "attention_layers": attention_layers}
    prior = HierarchicalPixelCNN(9, 4, 8, num_classes=3, label_dropout=0.1, **sizes)
    filters = {"temperature": 0.9, "top_k": 5, "top_p": 0.9}
    for options in ({}, {"guidance": 0.5, **filters}):
        assert same_by_graph(prior, **options)
    count = len(captures)
    assert count == 4
    for parameter in prior.parameters():
        parameter.data *= 1.5  # in place, without a trace in the tensor's version
    assert same_by_graph(prior) and len(captures) == count
    other = copy.deepcopy(prior)
    assert not any("_graphs" in vars(each) and each._graphs for each in other.levels)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.1)
    prior.load_state_dict(other.state_dict())
    assert same_by_graph(prior) and len(captures) == count
    for parameter in prior.parameters():
        parameter.data = parameter.data.clone()  # as a move to a device and back
    assert same_by_graph(prior) and len(captures) == count + 2
    assert same_by_graph(prior.double())
    for level in prior.levels:
        assert len(level._graphs) <= sampling.KEPT_GRAPHS
    pickle.loads(pickle.dumps(prior))


def test_what_was_kept_before_weights_were_mended_is_forgotten(captures):
    torch.manual_seed(0)
    prior = HierarchicalPixelCNN(9, 4, 8, 3, num_classes=3, attention_layers=2)
    right = copy.deepcopy(prior.state_dict())
    for attention in prior.prior_top.attention.values():
        attention.out.weight.data.fill_(torch.nan)
    with pytest.raises(ValueError, match="not finite"):
        draw(prior, method="graph")
    prior.load_state_dict(right)
    assert same_by_graph(prior)


def test_a_row_that_asks_the_device_for_a_number_cannot_be_captured():
    with pytest.raises(RuntimeError, match="asks the device"):
        Recording(torch.ones(1).item)


def test_graph_is_for_cuda_devices_alone(small_prior):
    check_method("graph", torch.device("cuda"))
    with pytest.raises(ValueError, match=r"graph.*needs a CUDA device.*on mps"):
        check_method("graph", torch.device("mps"))
    with pytest.raises(ValueError, match=r"graph.*needs a CUDA device.*on cpu"):
        draw(small_prior, method="graph")


def test_graph_on_a_gpu_draws_the_codes_of_the_cpu(small_prior):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here: the method graph is not run")
    on_cpu = draw(small_prior)
    for method in ("cached", "graph"):
        drawn = draw(small_prior, device="cuda", method=method)
        assert all(torch.equal(a, b.cpu()) for a, b in zip(on_cpu, drawn, strict=True))


@pytest.mark.parametrize("method", ON_A_CPU)
def test_image_i_is_the_same_in_any_batch(small_prior, method):
    whole = draw(small_prior, method=method)
    alone = small_prior.sample(
        2, TOP, BOTTOM, labels=LABELS[3:], seed=3, first_index=3, method=method
    )
    assert all(torch.equal(a[3:], b) for a, b in zip(whole, alone, strict=True))


@pytest.mark.parametrize("chunk_size", [1, np.int64(3)])
def test_chunks_change_no_code_and_no_image(small_prior, small_vqvae2, chunk_size):
    known_top = torch.full((5, *TOP), -1)
    known_top[:, 0, 0] = torch.arange(5)
    known_bottom = torch.full((5, *BOTTOM), -1)
    known_bottom[:, 0, 0] = torch.arange(5) + 7
    options = {"known_top": known_top, "known_bottom": known_bottom, "first_index": 2}
    at_once = draw(small_prior, **options)
    in_turns = draw(small_prior, chunk_size=chunk_size, **options)
    assert all(map(torch.equal, at_once, in_turns))
    images, parts = (
        small_prior.sample_with_vqvae2(
            small_vqvae2, 5, labels=LABELS, seed=3, chunk_size=size
        )
        for size in (256, chunk_size)
    )
    assert torch.allclose(images, parts, atol=1e-5)


def test_a_chunk_is_all_that_is_drawn_and_decoded_at_once(small_prior, small_vqvae2):
    seen = {"drawn": set(), "decoded": set()}
    with HowMany(seen["drawn"]):
        small_prior.sample(600, (2, 2), (2, 2), labels=1, seed=3)
    hook = small_vqvae2.decoder.register_forward_hook(
        lambda _module, inputs, _output: seen["decoded"].add(len(inputs[0]))
    )
    small_prior.sample_with_vqvae2(small_vqvae2, 7, labels=1, seed=3, chunk_size=3)
    hook.remove()
    assert seen["drawn"] == {256, 88} and seen["decoded"] == {3, 1}


class HowMany(TorchDispatchMode):
    """Records the number of images in each batch of drawn codes."""

    def __init__(self, seen: set):
        super().__init__()
        self.seen = seen

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if function is torch.ops.aten.searchsorted.Tensor:
            self.seen.add(len(result))
        return result


def test_unless_asked_otherwise_codes_are_drawn_from_the_logits_and_quietly(
    small_prior, monkeypatch
):
    bars = []

    def bar(*iterable, **options):
        bars.append(options["enabled"])
        return progress_bar(*iterable, **options)

    monkeypatch.setattr(sampling, "progress_bar", bar)
    level = small_prior.prior_top
    with torch.no_grad():
        condition = level.label_condition(LABELS, 5)
    codes = sample_codes(level, TOP, uniforms(3, 0, 5, 12), condition)
    drawn, _ = draw(small_prior, temperature=1.0, guidance=0.0)
    assert torch.equal(codes, drawn) and not any(bars)


@pytest.mark.parametrize(
    ("kind", "drawn_on"),
    [("mps", "cpu"), ("cpu", "cpu"), ("cuda", "cuda"), ("xpu", "xpu")],
)
def test_the_cpu_draws_for_apples_gpus_alone(kind, drawn_on, monkeypatch):
    """They have no float64; none of these devices needs to be here."""

    class Asked(Exception):
        pass

    class Numbers(list):
        def to(self, device):
            raise Asked(device.type)

    weight = SimpleNamespace(device=torch.device(kind))
    level = SimpleNamespace(embedding=SimpleNamespace(weight=weight))
    monkeypatch.setattr(torch, "zeros", lambda *_, **__: None)
    with pytest.raises(Asked, match=drawn_on):
        sample_codes(level, (1, 1), Numbers([0.5]))


def test_the_seed_decides(small_prior):
    seeds = (1, 1, 2, None, None)
    once, again, *others = (draw(small_prior, seed=seed)[1] for seed in seeds)
    assert torch.equal(once, again)
    for one, other in itertools.combinations([once, *others], 2):
        assert not torch.equal(one, other)


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        (tuple(LABELS.tolist()), LABELS),
        (LABELS.numpy().astype(np.uint16), LABELS),
        (LABELS.flip(0).numpy()[::-1], LABELS),
        (list(LABELS), LABELS),
        (2, torch.full((5,), 2)),  # of all images
        (np.array(2), torch.full((5,), 2)),
    ],
    ids=["tuple", "array", "view", "list of tensors", "number", "array of one"],
)
def test_labels_are_whole_numbers_of_any_type(small_prior, labels, wanted):
    expected, drawn = (draw(small_prior, labels=each) for each in (wanted, labels))
    assert all(map(torch.equal, expected, drawn))
    losses = [
        small_prior.loss_function(*expected, each)["total_loss"]
        for each in (wanted, labels)
    ]
    assert torch.equal(*losses)


def test_a_whole_number_may_be_of_any_library(small_prior):
    whole = {"top_k": 9, "seed": 2**63, "first_index": 4}
    expected = small_prior.sample(5, (2, 2), (2, 2), labels=LABELS, **whole)
    for number in (np.uint64, lambda value: np.array(value, np.uint64)):
        options = {name: number(value) for name, value in whole.items()}
        side = number(2)
        drawn = small_prior.sample(
            number(5), (side, side), (side, side), labels=LABELS, **options
        )
        assert all(map(torch.equal, expected, drawn))


@pytest.mark.parametrize("attention_layers", [0, 2])
@pytest.mark.parametrize("method", ON_A_CPU)
def test_autocast_changes_no_code(method, attention_layers):
    torch.manual_seed(0)
    prior = HierarchicalPixelCNN(512, 4, 8, 2, 3, attention_layers=attention_layers)
    options = {"labels": 1, "seed": 3, "method": method}
    codes = prior.sample(2, TOP, BOTTOM, **options)
    with torch.autocast("cpu", torch.bfloat16):
        low = prior.sample(2, TOP, BOTTOM, **options)
    assert all(map(torch.equal, codes, low))


def test_autocast_changes_no_image(small_vqvae2):
    prior = HierarchicalPixelCNN(512, 4, 8, 2)
    images = prior.sample_with_vqvae2(small_vqvae2, 2, seed=3)
    with torch.autocast("cpu", torch.bfloat16):
        low = prior.sample_with_vqvae2(small_vqvae2, 2, seed=3)
    assert torch.equal(images, low)


@pytest.mark.parametrize("method", ON_A_CPU)
def test_known_codes_are_kept_and_the_rest_depends_on_them(small_prior, method):
    z_top, z_bottom = draw(small_prior, method=method)
    known = torch.full_like(z_bottom, -1)
    known[:, :3] = z_bottom[:, :3]
    same = draw(small_prior, method=method, known_top=z_top, known_bottom=known)
    assert torch.equal(same[0], z_top) and torch.equal(same[1], z_bottom)
    known[:, 0, 0] = (z_bottom[:, 0, 0] + 1) % 512
    other = draw(small_prior, method=method, known_bottom=known)[1]
    assert torch.equal(other[:, 0, 0], known[:, 0, 0])
    assert torch.equal(other[:, 1:3], z_bottom[:, 1:3])


@pytest.mark.parametrize("method", ON_A_CPU)
def test_sampling_restores_the_mode_and_ignores_dropout(small_prior, method):
    codes = draw(small_prior, method=method)
    small_prior.train()
    assert all(map(torch.equal, codes, draw(small_prior, method=method)))
    assert small_prior.training and small_prior.prior_top.blocks[0].dropout.training


def test_codes_can_be_trained_on_after_they_were_drawn(small_prior):
    codes = draw(small_prior)
    small_prior.loss_function(*codes, LABELS)["total_loss"].backward()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_p": 1.1}, "top_p is 1.1"),
        ({"top_k": 0}, "top_k is 0"),
        ({"top_k": 1.5}, "top_k is 1.5"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"labels": 1.0}, "labels are torch.float32, not whole numbers"),
        ({"labels": [True] * 5}, "labels are torch.bool, not whole numbers"),
        ({"labels": "coat"}, "labels are 'coat'; give labels from 0 to 2"),
        ({"shapes": ((2.5, 4), BOTTOM)}, r"grids are \(\(2\.5, 4\), \(6, 8\)\); give"),
        ({"known_top": torch.zeros(5, 3, 4).bool()}, "torch.bool"),
        ({"method": "fast"}, "method is 'fast'.*naive, rows, cached, graph"),
        ({"known_top": torch.full((5, 3, 3), -1)}, r"shape \[5, 3, 4\]"),
        ({"known_top": torch.full((6, 3, 4), -1), "chunk_size": 5}, r"\[5, 3, 4\]"),
        ({"chunk_size": 0}, "chunk_size is 0"),
        ({"known_top": torch.full((5, 3, 4), 512)}, "512.*0 to 511"),
        ({"known_top": torch.full((5, 3, 4), -2)}, "from -2 to -2; .*-1 where unknown"),
    ],
)
def test_wrong_arguments_are_named(small_prior, options, words):
    with pytest.raises(ValueError, match=words):
        draw(small_prior, **options)


@pytest.mark.parametrize("batch_size", [0, True])
def test_a_wrong_number_of_images_is_named(small_prior, batch_size):
    with pytest.raises(ValueError, match=f"batch_size is {batch_size}"):
        small_prior.sample(batch_size, TOP, BOTTOM, labels=1)


def test_images_are_drawn_only_with_a_matching_codebook(small_vqvae2):
    prior = HierarchicalPixelCNN(256, 8, 8, 2)
    with pytest.raises(ValueError, match=r"\[256, 256\] codes, but the tok.* \[512"):
        prior.sample_with_vqvae2(small_vqvae2, 2)


def test_images_of_codes_beyond_255_round_trip(small_vqvae2, small_prior):
    images = small_prior.float().sample_with_vqvae2(
        small_vqvae2, 5, labels=LABELS, seed=3
    )
    z_top, z_bottom = draw(small_prior, shapes=((8, 8), (16, 16)))
    assert z_bottom.max() > 255
    assert torch.equal(images, small_vqvae2.decode_codes(z_top, z_bottom))
    assert images.shape == (5, 1, 32, 32)
    assert images.min() >= 0 and images.max() <= 1
