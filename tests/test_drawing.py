"""A level is drawn alone as it is drawn within its prior."""

import pytest
import torch

from pixelprior import ConditionalPixelCNN, HierarchicalPixelCNN, PixelCNN

TOP, BOTTOM = (3, 4), (6, 8)
LABELS = torch.tensor([0, 2, 1, 1, 0])


@pytest.fixture
def prior():
    torch.manual_seed(0)
    model = HierarchicalPixelCNN(16, 4, 8, 3, 3, label_dropout=0.1)
    for parameter in model.parameters():
        parameter.data.mul_(2)  # so that codes are not equally likely
    return model.double().eval()


@pytest.mark.parametrize("method", ["naive", "rows", "cached"])
@pytest.mark.parametrize("chunk_size", [2, 256])
def test_the_top_level_alone_draws_the_top_codes_of_its_prior(
    prior, method, chunk_size
):
    """The random numbers of an image are those of the top codes first."""
    options = {"labels": LABELS, "seed": 3, "guidance": 0.5, "method": method}
    options |= {"temperature": 0.9, "top_k": 9, "top_p": 0.95, "chunk_size": chunk_size}
    z_top, _ = prior.sample(5, TOP, BOTTOM, **options)
    assert torch.equal(prior.prior_top.sample(5, TOP, **options), z_top)


def test_a_bottom_level_alone_is_drawn_given_top_codes(prior):
    bottom = prior.prior_bottom
    z_top = torch.randint(16, (5, *TOP))
    options = {"labels": LABELS, "seed": 7, "z_top": z_top}
    naive = bottom.sample(5, BOTTOM, method="naive", **options)
    assert torch.equal(bottom.sample(5, BOTTOM, **options), naive)
    assert torch.equal(bottom.sample(5, BOTTOM, chunk_size=2, **options), naive)
    others = bottom.sample(5, BOTTOM, labels=LABELS, seed=7, z_top=15 - z_top)
    assert not torch.equal(others, naive)


def test_image_i_of_a_level_is_image_0_from_first_index_i(prior):
    whole = prior.prior_top.sample(5, TOP, labels=LABELS, seed=3)
    one = prior.prior_top.sample(1, TOP, labels=LABELS[3:4], seed=3, first_index=3)
    assert torch.equal(one, whole[3:4])


def test_known_codes_of_a_level_are_kept(prior):
    known = torch.full((5, *TOP), -1)
    known[:, 1] = 7
    drawn = prior.prior_top.sample(5, TOP, labels=LABELS, seed=3, known=known)
    assert (drawn[:, 1] == 7).all() and not (drawn == 7).all()


def test_a_level_is_drawn_in_evaluation_mode_and_keeps_its_own(prior):
    level = prior.prior_top
    drawn = level.sample(5, TOP, labels=LABELS, seed=3)
    assert torch.equal(level.train().sample(5, TOP, labels=LABELS, seed=3), drawn)
    assert level.training and all(block.training for block in level.blocks)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"shape": (3,)}, r"shape is \(3,\); give \(height, width\)"),
        ({"shape": (0, 3)}, r"shape is \(0, 3\); give \(height, width\)"),
        ({"batch_size": 0}, "batch_size is 0; give a whole number of at least 1"),
        ({"chunk_size": 0}, "chunk_size is 0; give"),
        ({"z_top": torch.zeros(5, 2, 2).long()}, "takes no top codes; leave z_top out"),
        ({"known": torch.zeros(4, 3, 4).long()}, "known codes are .* of shape"),
        ({"labels": LABELS[:2]}, r"labels have shape \[2\], but shape \[5\]"),
        ({"guidance": -1.0}, "guidance is -1.0; give a number from 0"),
        ({"temperature": 0.0}, "temperature"),
        ({"method": "fast"}, "method is 'fast'; give one of"),
    ],
)
def test_wrong_arguments_are_named(prior, options, words):
    given = {"batch_size": 5, "shape": TOP, "labels": LABELS, "seed": 0} | options
    with pytest.raises(ValueError, match=words):
        prior.prior_top.sample(**given)


def test_a_bottom_level_asks_for_its_top_codes(prior):
    with pytest.raises(ValueError, match=r"needs the top codes; give z_top \[B"):
        prior.prior_bottom.sample(5, BOTTOM, labels=LABELS, seed=0)


def test_the_levels_have_names(prior):
    assert list(prior.levels()) == ["top", "bottom"]
    for level in (PixelCNN(8, 4, 8, 2), ConditionalPixelCNN(8, 4, 8, 2)):
        assert level.levels() == {"codes": level}
