"""Each measure gives the right value where that value is known."""

import colorsys
import math
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pixelprior.assets import load_shipped
from pixelprior.data.codes import CodeData, extract_codes
from pixelprior.data.images import ImageData
from pixelprior.evaluation import classifier as judging
from pixelprior.evaluation import measures, suite
from pixelprior.evaluation.classifier import load_shipped_reference_models
from pixelprior.evaluation.measures import (
    as_bytes,
    bootstrap,
    code_use,
    erase_top,
    frechet_distance,
    image_nats,
    nats_per_code,
    nearest,
    reconstruction_errors,
    reconstructions,
    samples,
    saturation,
    some_of_each_class,
    squared_errors,
    within_manifold,
)
from pixelprior.prior import HierarchicalPixelCNN


@pytest.fixture
def some_codes():
    draw = torch.Generator().manual_seed(0)
    shapes = (150, 2, 3), (150, 4, 6)
    grids = tuple(torch.randint(512, shape, generator=draw) for shape in shapes)
    return CodeData(grids, torch.arange(150) % 3, 512)


def unlabelled(images) -> ImageData:
    return ImageData(images, torch.zeros(len(images), dtype=torch.long), ())


def test_nats_of_images_are_the_loss(small_prior, some_codes):
    with torch.no_grad():
        losses = small_prior.loss_function(*some_codes.batch(torch.arange(150)))
    means = nats_per_code(small_prior, some_codes)
    for level in ("top", "bottom"):
        nats = image_nats(getattr(small_prior, f"prior_{level}"), some_codes)
        assert nats.shape == (150,) and nats.dtype == torch.float64
        codes = some_codes.grid(level)[0].numel()
        loss = losses[f"{level}_loss"].item()
        assert nats.mean().item() / codes == pytest.approx(loss, rel=1e-5)
        assert means[level] == pytest.approx(loss, rel=1e-5)
    assert nats_per_code(small_prior, some_codes, ("bottom",)).keys() == {"bottom"}


def test_an_image_has_the_same_nats_in_any_company(small_prior, some_codes):
    bottom, alone = small_prior.prior_bottom, some_codes.subset(torch.tensor([77]))
    among = image_nats(bottom, some_codes)[77].item()
    assert image_nats(bottom, alone).item() == pytest.approx(among, rel=1e-6)


def test_without_top_nothing_is_left_to_tell_by_the_top(small_prior, some_codes):
    grids = some_codes.z_top.roll(1, 0), some_codes.z_bottom
    other = replace(some_codes, grids=grids)
    one, two, whole = (
        image_nats(small_prior.prior_bottom, each)
        for each in (erase_top(some_codes), erase_top(other), some_codes)
    )
    assert torch.equal(one, two) and not torch.equal(one, whole)


def test_a_codebook_used_evenly_is_used_whole():
    every = torch.arange(32).repeat(4).view(4, 4, 8)
    codes = CodeData((every, every % 4), None, 32)
    for level, used in (("top", 32), ("bottom", 4)):
        use = code_use(codes, level)
        assert use == {"share_in_use": used / 32, "perplexity": pytest.approx(used)}


def test_reconstructions_are_what_would_be_saved(shipped, heldout_images):
    few = heldout_images.subset(torch.arange(3))
    rebuilt = reconstructions(shipped[0], few)
    with torch.no_grad():
        assert torch.equal(rebuilt.images, as_bytes(shipped[0](few[:][0])))
    errors = squared_errors(few, rebuilt)
    expected = (rebuilt[:][0] - few[:][0]).square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(errors.float(), expected)
    torch.testing.assert_close(reconstruction_errors(shipped[0], few), errors)


def test_samples_have_the_labels_and_the_seed_that_they_were_drawn_with(shipped):
    few = samples(*shipped, 12, seed=3)
    assert few.labels.tolist() == [*range(10), 0, 1]
    assert not torch.equal(samples(*shipped, 12, seed=4).images, few.images)
    prior = HierarchicalPixelCNN(shipped[0].num_embeddings, 4, 4, 2).eval()
    without_classes = samples(shipped[0], prior, 3, class_names=("a", "b"))
    assert without_classes.class_names == ()


def test_each_class_gives_as_many_images_as_it_can():
    images = torch.arange(7, dtype=torch.uint8).view(7, 1, 1, 1)
    labels = torch.tensor([0, 0, 0, 1, 1, 2, 0])
    some = some_of_each_class(ImageData(images, labels, ("a", "b", "c")), 5)
    assert some.labels.tolist() == [0, 1, 2, 0, 1]
    assert some.images.flatten().tolist() == [0, 3, 5, 1, 4]


def test_frechet_distance_of_a_set_to_itself_is_zero_and_to_a_shifted_one_the_shift():
    features = torch.randn(500, 8, generator=torch.Generator().manual_seed(0))
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-9)
    shift = torch.arange(8.0)
    moved = frechet_distance(features, features + shift)
    assert moved == pytest.approx(shift.square().sum().item(), rel=1e-5)


def test_frechet_distance_of_two_normals_in_one_dimension():
    generator = torch.Generator().manual_seed(0)
    one, other = torch.randn(2, 200_000, 1, generator=generator, dtype=torch.float64)
    # (μ₁ - μ₂)² + (σ₁ - σ₂)²
    assert frechet_distance(one, 3 * other + 2) == pytest.approx(4 + 4, rel=0.02)


def test_frechet_distance_of_features_that_are_correlated():
    """Of 2×2 matrices, the trace of the root of M is (tr M + 2 √det M)^½."""
    generator = torch.Generator().manual_seed(0)
    one, other = torch.randn(2, 500, 2, generator=generator, dtype=torch.float64)
    other = other @ torch.tensor([[1.0, 2.0], [0.0, 0.5]]).double()
    first, second = one.T.cov(), other.T.cov()
    product = first @ second
    root = (product.trace() + 2 * product.det().sqrt()).sqrt()
    means = (one.mean(0) - other.mean(0)).square().sum()
    expected = means + first.trace() + second.trace() - 2 * root
    assert frechet_distance(one, other) == pytest.approx(expected.item(), rel=1e-6)


def test_one_image_has_no_frechet_distance():
    with pytest.raises(ValueError, match=r"1 row\(s\).*give 2 or more"):
        frechet_distance(torch.zeros(1, 4), torch.zeros(9, 4))


def test_neighbours_are_the_nearest_by_distance(heldout_images):
    few, rest = (
        heldout_images.subset(torch.arange(*ends)) for ends in ((0, 20), (20, 1000))
    )
    indices, distances = nearest(few, rest)
    every = torch.cdist(*(each[:][0].flatten(1).double() for each in (few, rest)))
    least = every.min(dim=1)
    assert torch.equal(indices, least.indices)
    torch.testing.assert_close(distances.double(), least.values, atol=1e-4, rtol=1e-4)


def test_the_bootstrap_interval_of_a_mean_is_the_textbooks():
    values = torch.randn(400, generator=torch.Generator().manual_seed(0)).double()
    found = bootstrap(lambda each: each.mean(), values)
    reach = 1.96 * values.std().item() / math.sqrt(400)
    assert found["value"] == values.mean().item()
    assert found["high"] - found["value"] == pytest.approx(reach, rel=0.1)
    assert found["value"] - found["low"] == pytest.approx(reach, rel=0.1)
    assert found == bootstrap(lambda each: each.mean(), values)


def test_what_two_sets_share_cancels_when_they_are_drawn_together():
    generator = torch.Generator().manual_seed(0)
    one = torch.rand(300, generator=generator) + 1
    other = one + 0.01 * torch.rand(300, generator=generator)

    def width(paired):
        found = bootstrap(lambda a, b: a.mean() / b.mean(), one, other, paired=paired)
        return found["high"] - found["low"]

    assert width(paired=True) < width(paired=False) / 10


def test_a_feature_lies_in_a_ball_up_to_the_third_neighbour():
    manifold = torch.tensor([[0.0], [1.0], [2.0], [4.0]])  # radii 4, 3, 2, 4
    features = torch.tensor([[-4.0], [-4.1], [8.0], [8.1]])
    assert within_manifold(features, manifold).tolist() == [1, 0, 1, 0]


def test_saturation_is_that_of_the_hsv_colour_space():
    colours = [[255, 0, 0], [128, 128, 128], [0, 0, 0], [200, 100, 50], [0, 1, 0]]
    images = torch.tensor(colours, dtype=torch.uint8)[:, :, None, None]
    known = [colorsys.rgb_to_hsv(*colour)[1] for colour in colours]  # at any scale
    assert saturation(unlabelled(images)).tolist() == pytest.approx(known)


class WithoutFloat64(TorchDispatchMode):
    """Makes torch's meta device stand in for an Apple GPU, where float64 is an error;
    what is copied to the CPU is 0. Records the devices that matrices are multiplied on.
    """

    def __init__(self):
        super().__init__()
        self.products = set()

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        options, aten = options or {}, torch.ops.aten
        first = next(iter(tree_leaves(arguments)), None)
        if getattr(first, "is_meta", False):
            if function is aten._local_scalar_dense.default:
                return 0
            to_cpu = options.get("device") == torch.device("cpu")
            if function is aten._to_copy.default and to_cpu:
                return torch.zeros(first.shape, dtype=options.get("dtype", first.dtype))
        out = function(*arguments, **options)
        for each in tree_leaves(out):
            if isinstance(each, torch.Tensor) and each.is_meta:
                assert each.dtype != torch.float64, f"{function} made a float64"
        if function in (aten.convolution.default, aten.addmm.default, aten.mm.default):
            self.products.add(out.device.type)
        return out


def test_what_is_summed_in_float64_is_summed_on_the_cpu(some_codes):
    prior = HierarchicalPixelCNN(512, 8, 12, 3, num_classes=3).to("meta").eval()
    images = unlabelled(torch.zeros(9, 1, 4, 4, dtype=torch.uint8)).to("meta")
    features = torch.zeros(9, 4, device="meta")
    with WithoutFloat64():
        for each in (
            image_nats(prior.prior_top, some_codes),
            image_nats(prior.prior_bottom, some_codes),
            squared_errors(images, images),
        ):
            assert each.dtype == torch.float64 and each.device.type == "cpu"
        assert frechet_distance(features, features) == 0
        some_codes.to("meta").unigram_entropy("top")


def test_all_networks_and_neighbours_are_computed_on_the_device_of_the_prior(
    shipped, heldout_images, monkeypatch
):
    """`evaluate` runs on a stand-in for a GPU, without drawing and the VQ-VAE-2."""
    models = (load_shipped()[1], *load_shipped_reference_models())
    prior, without_top, classifier = (each.to("meta") for each in models)
    data = heldout_images.subset(torch.arange(60))
    codes, asked = extract_codes(shipped[0], data), []

    def train_classifier(_data, *, on_cpu, **_more):
        asked.append(on_cpu)
        return load_shipped_reference_models()[1]

    monkeypatch.setattr(judging, "train_classifier", train_classifier)
    for name, value in {
        "extract_codes": codes,
        "reconstructions": data,
        "decoded": data.images,
        "samples": data,
        "_speed": None,
    }.items():
        monkeypatch.setattr(suite, name, lambda *_, value=value, **__: value)
    for module in (judging, suite, measures):
        monkeypatch.setattr(module, "bootstrap", lambda statistic, *values, **_: values)
    judges = {"without_top": without_top, "classifier": classifier}
    with WithoutFloat64() as device:
        found = suite.evaluate(shipped[0], prior, data, data, **judges)
    assert device.products == {"meta"} and asked == [False] * 6
    parts = [found[name] for name in ("neighbours", "accuracy_score")]
    parts += [found["frechet"][name] for name in ("precision", "distances")]
    measured = [each for part in parts for values in part.values() for each in values]
    assert {each.device.type for each in measured} == {"cpu"}
