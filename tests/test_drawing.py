"""A level is drawn alone as it is drawn within its prior."""

import io
import sys
from types import SimpleNamespace

import pytest
import torch

from pixelprior import HierarchicalPixelCNN

TOP, BOTTOM = (3, 4), (6, 8)
LABELS = torch.tensor([0, 2, 1, 1, 0])


@pytest.fixture
def prior():
    torch.manual_seed(0)
    model = HierarchicalPixelCNN(16, 4, 8, 3, 3, label_dropout=0.1)
    for parameter in model.parameters():
        parameter.data.mul_(2)  # so that codes are not equally likely
    return model.double().eval()


def terminal(monkeypatch):
    """A terminal in place of stderr that keeps what is written to it.

    This is no fixture, because pytest replaces stderr again before the test runs.
    """

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", kept := Terminal())
    return kept


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
    options = {"labels": LABELS, "seed": 7, "above": z_top}
    naive = bottom.sample(5, BOTTOM, method="naive", **options)
    assert torch.equal(bottom.sample(5, BOTTOM, **options), naive)
    assert torch.equal(bottom.sample(5, BOTTOM, chunk_size=2, **options), naive)
    others = bottom.sample(5, BOTTOM, labels=LABELS, seed=7, above=15 - z_top)
    assert not torch.equal(others, naive)


def test_no_module_of_a_level_takes_part_in_a_gradient_while_it_is_drawn(prior):
    """Also those that make its condition, before the first code is drawn."""
    bottom, grads = prior.prior_bottom, {}
    for name, module in bottom.named_modules():
        module.register_forward_hook(
            lambda *_, name=name: grads.setdefault(name, set()).add(
                torch.is_grad_enabled()
            )
        )
    with torch.enable_grad():
        bottom.sample(5, BOTTOM, above=torch.zeros(5, *TOP).long(), labels=LABELS)
    assert {"label_embedding", "top_embedding"} <= grads.keys()
    assert all(each == {False} for each in grads.values())


@pytest.mark.parametrize(
    "options, words",
    [
        ({"shape": (3,)}, r"grids are \[\(3,\)\]; give \(height, width\)"),
        ({"shape": (0, 3)}, r"grids are \[\(0, 3\)\]; give \(height, width\)"),
        ({"shape": (3, 4, 5)}, r"grids are \[\(3, 4, 5\)\]; give \(height, width\)"),
        ({"batch_size": 0}, "batch_size is 0; give a whole number of at least 1"),
        ({"above": torch.zeros(5, 2, 2).long()}, "takes no codes of a level above"),
        ({"known": torch.zeros(4, 3, 4).long()}, "known codes are .* of shape"),
    ],
)
def test_wrong_arguments_are_named(prior, options, words):
    given = {"batch_size": 5, "shape": TOP, "labels": LABELS, "seed": 0} | options
    with pytest.raises(ValueError, match=words):
        prior.prior_top.sample(**given)


def test_a_bottom_level_asks_for_its_top_codes(prior):
    with pytest.raises(
        ValueError, match=r"needs the codes of the level above; give them, \[B"
    ):
        prior.prior_bottom.sample(5, BOTTOM, labels=LABELS, seed=0)


def test_the_levels_have_names(prior):
    assert prior.level_names == ("top", "bottom")
    assert prior.levels == [prior.prior_top, prior.prior_bottom]
    three = HierarchicalPixelCNN([5, 5, 4], 4, 8, 2)
    assert three.level_names == ("level_0", "level_1", "level_2")


def test_without_a_seed_manual_seed_repeats_the_codes(prior):
    def drawn():
        return prior.sample(5, TOP, BOTTOM, labels=LABELS)

    torch.manual_seed(4)
    first, second = drawn(), drawn()
    torch.manual_seed(4)
    again = drawn()
    assert all(map(torch.equal, first, again))
    assert not torch.equal(first[1], second[1])


def test_the_top_codes_are_moved_to_the_prior(prior):
    class Elsewhere(torch.Tensor):
        def to(self, device):
            moved.append(device)
            return self.as_subclass(torch.Tensor)

    moved, z_top = [], torch.ones(5, *TOP).long()
    options = {"labels": LABELS, "seed": 0}
    drawn = prior.prior_bottom.sample(5, BOTTOM, above=z_top, **options)
    elsewhere = z_top.as_subclass(Elsewhere)
    assert torch.equal(
        prior.prior_bottom.sample(5, BOTTOM, above=elsewhere, **options), drawn
    )
    assert moved == [torch.device("cpu")]


def test_batches_have_a_bar_or_the_rows_of_the_only_one(prior, monkeypatch):
    screen = terminal(monkeypatch)
    prior.prior_top.sample(2, TOP, labels=1)
    assert screen.getvalue() == ""
    prior.sample(2, TOP, BOTTOM, labels=1, chunk_size=1, progress=True)
    assert "batch" in screen.getvalue() and "row" not in screen.getvalue()
    screen.truncate(0)
    prior.sample(2, TOP, BOTTOM, labels=1, progress=True)
    said = screen.getvalue()
    assert "row" in said and "batch" not in said
    assert "top codes" in said and "bottom codes" in said
    screen.truncate(0)
    prior.prior_top.sample(2, TOP, labels=1, progress=True)
    assert "codes" in screen.getvalue() and "codes codes" not in screen.getvalue()


def test_a_prior_has_128_channels_and_15_blocks_with_residuals_by_default():
    prior = HierarchicalPixelCNN(7, 4)
    for level in prior.levels:
        assert len(level.blocks) == 15 and level.head[1].in_channels == 128
        assert all(block.vertical_residual for block in level.blocks[1:])


@pytest.mark.parametrize("levels", [(), ("top", "middle")])
def test_losses_of_other_levels_are_refused(prior, levels):
    z_top, z_bottom = torch.zeros(1, 2, 2).long(), torch.zeros(1, 4, 4).long()
    with pytest.raises(ValueError, match="give some of"):
        prior.loss_function(z_top, z_bottom, LABELS[:1], levels=levels)


@pytest.mark.parametrize(
    ("codes", "grids", "words"),
    [
        (6, 2, r"\[7, 7\] codes, but the tokenizer has 2 of \[6, 6\]"),
        (8, 2, r"\[7, 7\] codes, but the tokenizer has 2 of \[8, 8\]"),
        (7, 3, "the tokenizer has 3"),
    ],
)
def test_a_tokenizer_with_other_codes_or_grids_is_refused(codes, grids, words):
    tokenizer = SimpleNamespace(num_embeddings=codes, grids=((2, 2),) * grids)
    with pytest.raises(ValueError, match=words):
        HierarchicalPixelCNN(7, 3, 4, 1).check_matches(tokenizer)


def test_two_grids_are_drawn_where_the_prior_is(prior, monkeypatch):
    moved = []
    monkeypatch.setattr(prior, "to", moved.append)
    prior.sample(1, (2, 2), (4, 4))
    assert moved == []
    prior.sample(1, (2, 2), (4, 4), device="cpu")
    assert moved == ["cpu"]
