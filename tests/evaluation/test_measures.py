"""Each measure gives the right value where that value is known."""

import colorsys
import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torchmetrics.image.fid import FrechetInceptionDistance

from pixelprior.assets import load_shipped
from pixelprior.data.codes import CodeData, extract_codes
from pixelprior.data.images import ImageData
from pixelprior.evaluation import judging, measures, suite
from pixelprior.evaluation.classifier import load_shipped_reference_models
from pixelprior.evaluation.inception import inception_distances, inception_metric
from pixelprior.evaluation.measures import (
    as_bytes,
    bootstrap,
    code_use,
    erase_top,
    frechet_distance,
    image_nats,
    nats_per_code,
    nearest,
    reconstructions,
    samples,
    saturation,
    squared_errors,
    within_manifold,
)
from pixelprior.prior import HierarchicalPixelCNN


@pytest.fixture
def some_codes():
    generator = torch.Generator().manual_seed(0)
    return CodeData(
        torch.randint(512, (150, 2, 3), generator=generator),
        torch.randint(512, (150, 4, 6), generator=generator),
        torch.arange(150) % 3,
        512,
    )


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


def test_nats_of_the_bottom_level_alone_are_per_bottom_code(small_prior, some_codes):
    """Its grid has four times as many codes as the top grid."""
    bottom = small_prior.prior_bottom
    both = nats_per_code(small_prior, some_codes)
    assert nats_per_code(bottom, some_codes) == {"bottom": both["bottom"]}


def test_an_image_has_the_same_nats_in_any_company(small_prior, some_codes):
    alone = CodeData(
        some_codes.z_top[77:78],
        some_codes.z_bottom[77:78],
        some_codes.labels[77:78],
        512,
    )
    among = image_nats(small_prior.prior_bottom, some_codes)[77].item()
    alone = image_nats(small_prior.prior_bottom, alone).item()
    assert alone == pytest.approx(among, rel=1e-6)


def test_without_top_nothing_is_left_to_tell_by_the_top(small_prior, some_codes):
    bare = erase_top(some_codes)
    other = erase_top(
        CodeData(
            some_codes.z_top.roll(1, 0), some_codes.z_bottom, some_codes.labels, 512
        )
    )
    one, two = (image_nats(small_prior.prior_bottom, each) for each in (bare, other))
    assert torch.equal(one, two)
    assert not torch.equal(one, image_nats(small_prior.prior_bottom, some_codes))


def test_a_codebook_used_evenly_is_used_whole():
    every = torch.arange(32).repeat(4).view(4, 4, 8)
    codes = CodeData(every, every % 4, None, 32)
    use = code_use(codes, "top")
    assert use["share_in_use"] == 1 and use["perplexity"] == pytest.approx(32)
    use = code_use(codes, "bottom")
    assert use["share_in_use"] == 4 / 32 and use["perplexity"] == pytest.approx(4)


def test_reconstructions_are_what_would_be_saved(shipped, heldout_images):
    vqvae2, _ = shipped
    few = ImageData(heldout_images.images[:3], heldout_images.labels[:3], ("a",))
    rebuilt = reconstructions(vqvae2, few, batch_size=2)
    with torch.no_grad():
        exact = vqvae2(few[:][0])
    assert rebuilt.images.dtype == torch.uint8
    apart = rebuilt.images.int() - as_bytes(exact).int()
    assert apart.abs().max() <= 1  # a batch of another size may round otherwise
    expected = (rebuilt[:][0] - few[:][0]).square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(squared_errors(few, rebuilt).float(), expected)


def test_the_first_samples_do_not_depend_on_how_many_follow(shipped):
    many = samples(*shipped, 12, chunk_size=5, seed=3)
    few = samples(*shipped, 4, seed=3)
    other = samples(*shipped, 4, seed=4)
    apart = many.images[:4].int() - few.images.int()
    assert apart.abs().max() <= 1  # a batch of another size may round otherwise
    assert many.labels.tolist() == [*range(10), 0, 1]
    assert not torch.equal(other.images, few.images)


def test_frechet_distance_of_a_set_to_itself_is_zero_and_to_a_shifted_one_the_shift():
    features = torch.randn(500, 8, generator=torch.Generator().manual_seed(0))
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-9)
    shift = torch.arange(8.0)
    moved = frechet_distance(features, features + shift)
    assert moved == pytest.approx(shift.square().sum().item(), rel=1e-5)


def test_frechet_distance_of_two_normals_in_one_dimension():
    generator = torch.Generator().manual_seed(0)
    one = torch.randn(200_000, 1, generator=generator, dtype=torch.float64)
    other = 3 * torch.randn(200_000, 1, generator=generator, dtype=torch.float64) + 2
    # (μ₁ - μ₂)² + (σ₁ - σ₂)²
    assert frechet_distance(one, other) == pytest.approx(4 + 4, rel=0.02)


class Themselves(torch.nn.Identity):
    """Stands in for Inception: returns its 16 input features unchanged."""

    num_features = 16


def test_frechet_distance_is_that_of_torchmetrics():
    generator = torch.Generator().manual_seed(0)
    one = torch.rand(300, 16, generator=generator, dtype=torch.float64)
    other = torch.rand(200, 16, generator=generator, dtype=torch.float64) ** 2
    metric = FrechetInceptionDistance(feature=Themselves())
    metric.update(one, real=True)
    metric.update(other, real=False)
    expected = metric.compute().item()
    assert frechet_distance(one, other) == pytest.approx(expected, rel=1e-6)


def test_one_image_has_no_frechet_distance():
    with pytest.raises(ValueError, match=r"1 row\(s\).*give 2 or more"):
        frechet_distance(torch.zeros(1, 4), torch.zeros(9, 4))


def test_inception_without_its_weights_is_one_line(heldout_images):
    pytest.importorskip("torchmetrics")
    try:
        import torch_fidelity  # noqa: F401
    except ImportError:
        with pytest.raises(ValueError, match="leave --inception out"):
            inception_metric()
    else:
        pytest.skip("torch-fidelity is installed; it would download weights")


class Means(torch.nn.Module):
    """Stands in for Inception: its features are means of rows. It counts its images."""

    num_features = 9
    images = 0

    def forward(self, images):
        self.images += len(images)
        return images.float().mean(3).flatten(1)[:, :9] / 255


@pytest.fixture
def three_sets():
    generator = torch.Generator().manual_seed(0)
    return [
        ImageData(
            torch.randint(
                high, (count, 3, 8, 8), generator=generator, dtype=torch.uint8
            ),
            torch.zeros(count, dtype=torch.long),
            (),
        )
        for count, high in ((150, 256), (230, 200), (120, 256))
    ]


def test_inception_distances_are_frechet_distances_in_its_features(three_sets):
    heldout, *sets = three_sets
    sets = dict(enumerate([*sets, heldout]))
    metric = FrechetInceptionDistance(feature=Means(), input_img_size=(3, 8, 8))
    features = Means()(heldout.images)
    for _ in range(2):  # the metric must start anew each time
        found = inception_distances(metric, sets, heldout)
        for name, data in sets.items():
            expected = frechet_distance(Means()(data.images), features)
            assert found[name] == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_the_heldout_images_go_through_inception_once_for_all_sets(three_sets):
    heldout, *sets = three_sets
    network = Means()
    metric = FrechetInceptionDistance(feature=network, input_img_size=(3, 8, 8))
    inception_distances(metric, dict(enumerate(sets)), heldout)
    assert network.images == 150 + 230 + 120


def test_an_image_is_its_own_neighbour(heldout_images):
    few = ImageData(heldout_images.images[40:50], heldout_images.labels[40:50], ())
    indices, distances = nearest(few, heldout_images, batch_size=3)
    assert indices.tolist() == list(range(40, 50))
    assert distances.max() < 0.02  # rounding of a difference of squares near 100


def test_neighbours_are_the_nearest_by_distance(heldout_images):
    def part(a, b):
        return ImageData(heldout_images.images[a:b], heldout_images.labels[a:b], ())

    indices, distances = nearest(part(0, 20), part(20, 1000))
    every = torch.cdist(
        heldout_images[:20][0].flatten(1).double(),
        heldout_images[20:][0].flatten(1).double(),
    )
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


class WithoutFloat64(TorchDispatchMode):
    """Makes torch's meta device stand in for an Apple GPU.

    On this device, float64 is an error, and whatever is copied to the CPU is 0. The
    class records on which devices matrices are multiplied.
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
    images = ImageData(torch.zeros(9, 1, 4, 4, dtype=torch.uint8), torch.zeros(9), ())
    features, images = torch.zeros(9, 4, device="meta"), images.to("meta")
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
    vqvae2 = shipped[0]
    models = (load_shipped()[1], *load_shipped_reference_models())
    prior, without_top, classifier = (each.to("meta") for each in models)
    data = ImageData(
        heldout_images.images[:60],
        heldout_images.labels[:60],
        heldout_images.class_names,
    )
    codes, asked = extract_codes(vqvae2, data), []

    def train_classifier(_data, *, on_cpu, **_more):
        asked.append(on_cpu)
        return load_shipped_reference_models()[1]

    metric = FrechetInceptionDistance(feature=Means(), input_img_size=(3, 8, 8))
    monkeypatch.setattr(suite, "inception_metric", lambda device: metric)
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
    with WithoutFloat64() as device:
        found = suite.evaluate(
            vqvae2, prior, data, data, without_top=without_top, classifier=classifier
        )
    assert device.products == {"meta"} and asked == [False] * 6
    for values in (
        *found["neighbours"].values(),
        *found["accuracy_score"].values(),
        *found["accuracy_score_resnet"].values(),
        *found["frechet"]["precision"].values(),
        *found["frechet"]["distances"].values(),
    ):
        assert all(each.device.type == "cpu" for each in values)


def test_inception_stays_on_the_cpu_where_the_gpu_has_no_float64(monkeypatch):
    made = FrechetInceptionDistance(feature=Means(), input_img_size=(3, 8, 8))
    monkeypatch.setattr(
        "torchmetrics.image.fid.FrechetInceptionDistance", lambda feature: made
    )
    assert inception_metric("mps").device.type == "cpu"
    assert inception_metric("meta").device.type == "meta"


def test_precision_and_recall_of_two_sets_of_known_overlap():
    """The real features have two modes, and the generated ones have one of them."""
    generator = torch.Generator().manual_seed(0)
    one, other, generated = torch.randn(3, 300, 4, generator=generator)
    real = torch.cat([one, other + 100])
    precision = within_manifold(generated, real).mean().item()
    recall = within_manifold(real, generated).mean().item()
    assert precision > 0.8
    assert 0.4 < recall < 0.5
    assert within_manifold(generated + 50, real).sum() == 0
    assert within_manifold(real, real).mean() == 1


def test_a_feature_lies_in_a_ball_up_to_the_third_neighbour():
    manifold = torch.tensor([[0.0], [1.0], [2.0], [4.0]])  # radii 4, 3, 2, 4
    features = torch.tensor([[-4.0], [-4.1], [8.0], [8.1]])
    assert within_manifold(features, manifold).tolist() == [1, 0, 1, 0]
    with pytest.raises(ValueError, match=r"3 row\(s\).*4 or more"):
        within_manifold(features, manifold[:3])


def test_saturation_is_that_of_the_hsv_colour_space():
    colours = [[255, 0, 0], [128, 128, 128], [0, 0, 0], [200, 100, 50], [0, 1, 0]]
    images = torch.tensor(colours, dtype=torch.uint8)[:, :, None, None]
    data = ImageData(images, torch.zeros(5, dtype=torch.long), ("all",))
    by_colorsys = [
        colorsys.rgb_to_hsv(*(channel / 255 for channel in colour))[1]
        for colour in colours
    ]
    assert saturation(data).tolist() == pytest.approx(by_colorsys)
