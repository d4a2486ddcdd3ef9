"""A level is drawn alone as it is drawn within its prior."""

import io
import sys

import pytest
import torch

TOP, BOTTOM = (3, 4), (6, 8)
LABELS = [0, 2, 1, 1, 0]
FILTERS = {"temperature": 0.9, "top_k": 9, "top_p": 0.95}


@pytest.mark.parametrize("options", [{}, FILTERS, {"chunk_size": 2}])
def test_the_top_level_alone_draws_the_top_codes_of_its_prior(small_prior, options):
    """The random numbers of an image are those of the top codes first."""
    options = {"labels": LABELS, "seed": 3} | options
    z_top, _ = small_prior.sample(5, TOP, BOTTOM, **options)
    assert torch.equal(small_prior.prior_top.sample(5, TOP, **options), z_top)


def test_a_bottom_level_alone_is_drawn_given_top_codes(small_prior):
    bottom, z_top = small_prior.prior_bottom, torch.randint(512, (5, *TOP))
    options = {"labels": LABELS, "seed": 7}
    naive, cached, in_turns, others = (
        bottom.sample(5, BOTTOM, **options, **more)
        for more in (
            {"above": z_top, "method": "naive"},
            {"above": z_top},
            {"above": z_top, "chunk_size": 2},
            {"above": 511 - z_top},
        )
    )
    assert torch.equal(cached, naive) and torch.equal(in_turns, naive)
    assert not torch.equal(others, naive)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"shape": (0, 3)}, r"grids are \[\(0, 3\)\]; give \(height, width\)"),
        ({"shape": (3, 4, 5)}, r"grids are \[\(3, 4, 5\)\]; give \(height, width\)"),
        ({"batch_size": True}, "batch_size is True; give a whole number of at least 1"),
        ({"above": torch.zeros(5, 2, 2).long()}, "takes no codes of a level above"),
    ],
)
def test_wrong_arguments_are_named(small_prior, options, words):
    given = {"batch_size": 5, "shape": TOP, "labels": LABELS} | options
    with pytest.raises(ValueError, match=words):
        small_prior.prior_top.sample(**given)


def test_without_a_seed_manual_seed_repeats_the_codes(small_prior):
    drawn = []
    for start in (4, None, 4):
        if start:
            torch.manual_seed(start)
        drawn.append(small_prior.sample(5, TOP, BOTTOM, labels=LABELS)[1])
    assert torch.equal(drawn[0], drawn[2]) and not torch.equal(drawn[0], drawn[1])


def test_batches_have_a_bar_or_the_rows_of_the_only_one(small_prior, monkeypatch):
    screen = io.StringIO()
    screen.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", screen)
    small_prior.sample(2, TOP, BOTTOM, labels=1, chunk_size=1, progress=True)
    assert "batch" in screen.getvalue() and "row" not in screen.getvalue()
    screen.truncate(0)
    small_prior.sample(2, TOP, BOTTOM, labels=1, progress=True)
    said = screen.getvalue()
    assert "row" in said and "batch" not in said
    assert "top codes" in said and "bottom codes" in said


def test_a_prior_is_moved_only_to_a_device_that_was_asked_for(small_prior, monkeypatch):
    for each, shapes in ((small_prior, (TOP, BOTTOM)), (small_prior.prior_top, (TOP,))):
        moved = []
        monkeypatch.setattr(each, "to", moved.append)
        each.sample(1, *shapes, labels=1)
        each.sample(1, *shapes, "cpu", labels=1)
        assert moved == ["cpu"]
