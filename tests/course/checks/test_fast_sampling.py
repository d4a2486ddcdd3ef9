"""Checks of notebook 06: what they accept, what they refuse, and in which words."""

import pytest
import torch
import torch.nn.functional as F
from answers import (
    GRIDS,
    code_step,
    of_codes,
    of_rows,
    refused,
    right,
    row_step,
    untrained_prior,
    wrong,
)

from pixelprior.benchmark.counting import multiply_adds
from pixelprior.course.checks import sampling as check
from pixelprior.course.checks import slips
from pixelprior.layers import gate
from pixelprior.pixelcnn import PixelCNN
from pixelprior.sampling import sample_codes, uniforms
from pixelprior.settings import SamplingOptions

# The cached step of a block.


def newest_first(step):
    """The same step, which keeps its inputs in the other order and reads them so."""

    def other(block, kept, *given):
        *found, kept = step(block, kept.flip(2), *given)
        return *found, kept.flip(2)

    return other


def in_the_same_memory(step):
    """The same step, which keeps its inputs where it found them, and returns a list."""

    def other(block, kept, *given):
        *found, new = step(block, kept, *given)
        return [*found, kept.copy_(new)]

    return other


@pytest.mark.parametrize(
    "written", [lambda step: step, newest_first, in_the_same_memory]
)
def test_right_steps_pass_however_they_keep_their_inputs(written):
    verdict = check.cached_step(written(row_step), written(code_step))
    assert verdict.passed, verdict


def keeps(step, what):
    """The same step, except that it returns what `what` makes of (given, kept)."""

    def other(block, kept, *given):
        *found, new = step(block, kept, *given)
        return *found, what(kept, new)

    return other


def row_that_sees_itself(block, kept, new):
    rows = torch.cat([kept, new[:, :, None]], dim=2)
    seen = F.pad(rows[:, :, -block.extent :], (block.padding, block.padding))
    features = block.vertical(seen)
    across = block.vertical_to_horizontal(features)
    v = gate(features)[:, :, 0]
    return v if block.mask_a else v + new, across[:, :, 0], rows[:, :, 1:]


def code_that_sees_itself(block, kept, new, across):
    h, kept = code_step(block, kept, new, across)
    return h + new if block.mask_a else h, kept


def as_given(given, kept):
    return given


def upside_down(given, kept):
    return kept.flip(2)


@wrong(
    {
        "row_step": [
            (keeps(row_step, as_given), "stale", "row 1"),
            (keeps(row_step, upside_down), "order", "k = 5"),
            (keeps(row_step, lambda given, kept: kept[:, :, :0]), "kept", "shape"),
            (row_that_sees_itself, "future", "row 0", "mask A"),
            (of_rows(lambda f, a, v: (gate(f) + v, f)), "vertical_to_horizontal"),
            (of_rows(lambda f, a, v: (gate(a) + v, a)), "gate of across"),
            (of_rows(lambda f, a, v: (gate(f), a)), "residual is missing", "row 0"),
            (of_rows(lambda f, a, v: (gate(f) / 2 + v, a)), "v is wrong in row 0"),
            (of_rows(lambda f, a, v: (gate(f) + v, a / 2)), "across is wrong in row 0"),
            (of_rows(lambda f, a, v: (f, a)), "v of your row step", "shape [2, 6, 6]"),
            (of_rows(lambda f, a, v: (gate(f) / 0 + v, a)), "not finite"),
            (of_rows(lambda f, a, v: (gate(f) + v,)), "3 tensors: v, across, kept"),
            (lambda *_: (None, None, None),),
        ],
        "code_step": [
            (keeps(code_step, as_given), "stale", "position (0, 1)"),
            (keeps(code_step, upside_down), "order", "k = 5"),
            (keeps(code_step, lambda *both: torch.cat(both, 2)), "kept", "shape"),
            (code_that_sees_itself, "future", "(0, 0)", "mask A"),
            (of_codes(lambda x, a, out, k, h: out(gate(x + a))), "residual is missing"),
            (
                of_codes(lambda x, a, out, k, h: out(gate(x + a)) + k[:, :, -1]),
                "the position to the left",
            ),
            (of_codes(lambda x, a, out, k, h: out(gate(x)) + h), "rows above"),
            (
                of_codes(lambda x, a, out, k, h: gate(x + a) + h),
                "has the residual",
                "horizontal_out",
            ),
            (
                of_codes(lambda x, a, out, k, h: gate(x + a)),
                "not been",
                "horizontal_out",
            ),
            (
                of_codes(lambda x, a, out, k, h: out(gate(x + a)).relu() + h),
                "differs from what it should be",
            ),
            (of_codes(lambda x, a, out, k, h: out(x + a)), "raised RuntimeError"),
            (None, "your row step is right", "None"),
            (lambda *_: None, "your row step is right", "None"),
        ],
        "speed_up": [
            (12, "12 is right for the top level alone"),
            (48, "48 is right for the bottom level alone"),
            (60, "60 passes are what naive takes"),
            (30, "30 would be right if both passes cost the same"),
            (0, "0 is less than was counted"),
            (-41, "-41 is less than was counted"),
        ],
        "fewest_for_rows": [
            ((3, 4, 8), "at 3 × 4 rows takes more", "in row y"),
            ((1, 12, 12), "at 1 × 12 rows takes more"),
            ((12, 1, 6), "your shape is right; 6 is less", "the last row"),
            ((12, 1, 12), "your shape is right; 12 is more"),
            ((12, 1, 1 / 6.5), "turn it over"),
            ((12, 1, 0), "0 is less"),
            ((5, 2, 6.5), "5 × 2 are 10 codes"),
            ((2.5, 4.8, 6.5), "a height of 2.5"),
            ((-12, -1, 6.5), "a height of -12"),
            ((24, 0.5, 6.5), "a width of 0.5"),
            (12, "three numbers are needed"),
            ((12, 1), "three numbers are needed"),
            (("tall", 1, 6.5), "a number is needed"),
            ((12, 1, float("nan")), "not finite"),
        ],
        "batch_limit": [
            (9, "room for more"),
            (0, "room for more"),
            (11, "more than there is"),
            (42, "how many bytes has a number"),
            (10.5, "no number of images"),
            (-1, "no number of images"),
        ],
        "which": [
            ((("rows", 3), ("positions", 2)), "map 1", "block 3", "its rows", "others"),
            ((("positions", 3), ("rows", 1)), "map 2", "block 1", "others"),
            ((("positions", 3), ("rows", 4)), "they are 0 to 3"),
            ((("positions", 1.5), ("rows", 2)), "1.5 is no block"),
            ((("columns", 3), ("rows", 2)), "'columns' is neither"),
            ((("positions", "3"), ("rows", 2)), "a number is needed"),
            ((("positions", 3),), "two pairs are needed"),
            (("rows", "positions"), "two pairs are needed"),
        ],
    }
)
def test_another_answer_hears_what_is_wrong_with_it(check, answer, words, judge):
    refused(judge(check, answer), *words)


@right(
    {
        "fewest_for_rows": [(12, 1, 6.5), [12.0, 1, 6.5], torch.tensor([12, 1, 6.5])],
        "batch_limit": [10, torch.tensor(10.0)],
        "which": [
            (("positions", 3), ("rows", 2)),
            (["positions", torch.tensor(3)], ["rows", 2.0]),
        ],
    }
)
def test_a_right_answer_passes_in_any_form(check, answer, judge):
    assert judge(check, answer)


def test_bytes_are_asked_for_only_where_they_explain_the_answer(judge):
    assert "bytes" not in judge("batch_limit", 30).words


# Multiply-adds.


def counted(prior):
    """Naive ÷ cached, from a whole draw of an image by each method."""
    labels = prior.labels_in_turn(1)
    draws = {}
    for method in ("naive", "cached"):
        draws[method] = multiply_adds(
            prior.sample, 1, *GRIDS, labels=labels, seed=0, method=method
        )
    conditioning = multiply_adds(
        prior.prior_bottom.conditioning,
        torch.zeros(1, *GRIDS[0], dtype=torch.long),
        labels,
        (1, *GRIDS[1]),
    )  # the same for both, once for an image
    return (draws["naive"] - conditioning) / (draws["cached"] - conditioning)


@pytest.mark.parametrize(
    "options",
    [{}, {"num_classes": 2}, {"attention_layers": 1, "attention_heads": 2}],
    ids=["plain", "labels", "attention"],
)
def test_the_speed_up_is_that_of_whole_draws_within_5_percent(options):
    prior = untrained_prior(**options)
    times = counted(prior)
    for answer in (times, 1.04 * times, 0.96 * times, torch.tensor(times)):
        assert check.speed_up(answer, prior, *GRIDS).passed, answer
    for answer, words in (
        (1.06 * times, "more than was counted"),
        (0.94 * times, "less than was counted"),
        (1 / times, "turn it over"),
    ):
        refused(check.speed_up(answer, prior, *GRIDS), words)


@pytest.mark.parametrize("shape", [(3, 4), (1, 5), (6, 1)])
def test_a_draw_by_rows_is_counted_from_its_first_row_and_its_last(shape):
    model, numbers = PixelCNN(5, 3, 4, 2).eval(), uniforms(0, 0, 1, shape[0] * shape[1])
    rows = SamplingOptions(method="rows")
    whole = multiply_adds(sample_codes, model, shape, numbers, None, rows)
    assert check._counted_for_rows(model, shape) == whole


def test_half_the_height_is_not_the_mean_number_of_rows():
    refused(check.fewest_for_rows((240, 1, 120), 240), "120 is less")


def test_multiply_adds_are_counted_in_passes_and_in_steps():
    model = PixelCNN(5, 3, 4, 2).eval()
    codes = torch.zeros(2, 4, 4, dtype=torch.long)
    # Multiply-adds of the first block, the second and the head at each of 32 positions.
    first, second = 8 * 3 * (3 + 1), 8 * 4 * (6 + 2)
    per_position = first + second + 2 * (8 * 8 + 4 * 4) + 4 * 4 + 4 * 5
    assert multiply_adds(model.logits, codes, None) == 32 * per_position
    drawn = multiply_adds(sample_codes, model, (4, 4), uniforms(0, 0, 2, 16))
    assert drawn == 32 * per_position


# What was not rolled, and where.


@pytest.fixture(scope="module")
def unspoiled(draw):
    naive = SamplingOptions(method="naive")
    return sample_codes(draw[0], (4, 5), *draw[1:], naive)


def spoiled(what, block, draw):
    return slips._with_a_slip(draw[0], what, block, (4, 5), *draw[1:])


@pytest.mark.parametrize(("what", "y", "x"), [("rows", 1, 0), ("positions", 0, 1)])
def test_what_is_not_rolled_spoils_codes_from_the_next_one_on(
    what, y, x, draw, unspoiled
):
    same = (spoiled(what, 2, draw) == unspoiled)[:, : y + 1]
    assert same[:, :y].all() and same[:, y, :x].all() and not same[:, y].all()


@pytest.mark.parametrize("what", ["rows", "positions"])
def test_the_first_block_has_nothing_to_roll(what, draw, unspoiled):
    assert torch.equal(spoiled(what, 0, draw), unspoiled)


def test_the_two_slips_are_one_of_rows_and_one_of_positions(draw, unspoiled):
    model, *numbers = draw
    found = slips.two_draws(model, (4, 5), *numbers)
    wrong = [not torch.equal(codes[:, 0], unspoiled[:, 0]) for codes in found]
    assert sorted(wrong) == [False, True]
