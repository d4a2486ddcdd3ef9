"""Each measure gives the right value where that value is known."""

import colorsys
import math

import pytest
import torch

from pixelprior.data.codes import CodeData
from pixelprior.data.images import ImageData
from pixelprior.evaluation.measures import (
    bootstrap,
    code_use,
    frechet_distance,
    image_nats,
    nats_per_code,
    nearest,
    ratio_with_interval,
    reconstruction_errors,
    reconstructions,
    saturation,
    some_of_each_class,
    squared_errors,
    within_manifold,
)


@pytest.fixture
def some_codes():
    draw = torch.Generator().manual_seed(0)
    shapes = (150, 2, 3), (150, 4, 6)
    grids = tuple(torch.randint(512, shape, generator=draw) for shape in shapes)
    return CodeData(grids, torch.arange(150) % 3, 512)


def test_nats_of_images_are_the_loss(small_prior, some_codes):
    with torch.no_grad():
        losses = small_prior.loss_function(*some_codes.batch(torch.arange(150)))
    means = nats_per_code(small_prior, some_codes)
    for level in ("top", "bottom"):
        nats = image_nats(getattr(small_prior, f"prior_{level}"), some_codes)
        assert nats.shape == (150,) and nats.dtype == torch.float64
        assert means[level] == pytest.approx(losses[f"{level}_loss"].item(), rel=1e-5)
        codes = some_codes.grid(level)[0].numel()
        assert nats.mean().item() / codes == pytest.approx(means[level])


def test_the_codes_in_use_of_a_codebook_are_counted():
    codes = CodeData((torch.arange(4).repeat(4).view(2, 2, 4),) * 2, None, 32)
    found = code_use(codes, "top")
    assert found == pytest.approx({"share_in_use": 4 / 32, "perplexity": 4})


def test_errors_are_of_pixels_from_0_to_1(shipped, heldout_images):
    few = heldout_images.subset(torch.arange(3))
    rebuilt = reconstructions(shipped[0], few)
    errors = squared_errors(few, rebuilt)
    expected = (rebuilt[:][0] - few[:][0]).square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(errors.float(), expected)
    torch.testing.assert_close(reconstruction_errors(shipped[0], few), errors)


def test_each_class_gives_as_many_images_as_it_can():
    images = torch.arange(7, dtype=torch.uint8).view(7, 1, 1, 1)
    labels = torch.tensor([0, 0, 0, 1, 1, 2, 0])
    some = some_of_each_class(ImageData(images, labels, ("a", "b", "c")), 5)
    assert some.images.flatten().tolist() == [0, 3, 5, 1, 4]


def test_frechet_distance_of_features_and_of_the_same_scaled_and_moved():
    """|μ₁ - μ₂|² + tr(Σ₁ + 9 Σ₁ - 2 · 3 Σ₁), of features that are correlated."""
    draw = torch.Generator().manual_seed(0)
    one = torch.randn(500, 4, generator=draw) @ torch.randn(4, 4, generator=draw)
    means = (2 * one.mean(0) + 2).square().sum()
    expected = means + 4 * one.T.cov().trace()
    found = frechet_distance(one, 3 * one + 2)
    assert found == pytest.approx(expected.item(), rel=1e-5)
    with pytest.raises(ValueError, match=r"1 row\(s\).*give 2 or more"):
        frechet_distance(one[:1], one)


def test_neighbours_are_the_nearest_by_distance(heldout_images):
    few, rest = map(heldout_images.subset, torch.arange(1000).split([20, 980]))
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


def test_the_ratio_of_a_set_to_itself_is_certain_if_both_are_drawn_together():
    one = torch.rand(300, generator=torch.Generator().manual_seed(0)) + 1
    assert ratio_with_interval(one, one, 0)["high"] == pytest.approx(1)
    assert ratio_with_interval(one, one, 0, paired=False)["high"] > 1.01


def test_a_feature_lies_in_a_ball_up_to_the_third_neighbour():
    manifold = torch.tensor([[0.0], [1.0], [2.0], [4.0]])  # radii 4, 3, 2, 4
    features = torch.tensor([[-4.0], [-4.1], [8.0], [8.1]])
    assert within_manifold(features, manifold).tolist() == [1, 0, 1, 0]


def test_saturation_is_that_of_the_hsv_colour_space():
    colours = [[255, 0, 0], [128, 128, 128], [0, 0, 0], [200, 100, 50], [0, 1, 0]]
    images = torch.tensor(colours, dtype=torch.uint8)[:, :, None, None]
    known = [colorsys.rgb_to_hsv(*colour)[1] for colour in colours]  # at any scale
    found = saturation(ImageData(images, torch.zeros(5).long(), ()))
    assert found.tolist() == pytest.approx(known)
