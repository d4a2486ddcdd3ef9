"""Notebook 06: what its checks accept, what they refuse and in which words, and the
loop and the counts that it is given."""

import math

import pytest
import torch
from answers import refused, right, wrong

from pixelprior import HierarchicalPixelCNN
from pixelprior.benchmark.counting import multiply_adds
from pixelprior.cache import PixelCNNCache
from pixelprior.course import steps
from pixelprior.sampling import sample_codes, uniforms
from pixelprior.settings import SamplingOptions

NAIVE = SamplingOptions(method="naive")


def joined(rows):
    return torch.cat([rows[:, :, 1:], rows[:, :, :1]], dim=2)


def in_place(rows):
    rows[:, :, :-1] = rows[:, :, 1:].clone()
    return rows


def zeros_last(rows):
    return torch.cat([rows[:, :, 1:], torch.zeros_like(rows[:, :, :1])], dim=2)


def loop(before="R", inside="LDK", after="F"):
    """The loop with other steps before, in and after the loop over columns: R and F for
    a row, L for logits, D to draw, and K to keep a code."""

    def cached(cache, u, condition):
        codes, seen = torch.zeros(u.shape, dtype=torch.long), {}
        do = {
            "R": lambda y, x: cache.row_step(condition[:, :, [y]]),
            "L": lambda y, x: seen.update(logits=cache.code_step(x)),
            "D": lambda y, x: codes[:, y, x].copy_(
                steps.draw(seen["logits"], u[:, y, x])
            ),
            "K": lambda y, x: cache.keep_code(codes[:, y, x]),
            "F": lambda y, x: cache.keep_row(codes[:, y]),
        }
        for y in range(u.shape[1]):
            columns = [(x, inside) for x in range(u.shape[2])]
            for x, names in [(0, before), *columns, (0, after)]:
                for name in names:
                    do[name](y, x)
        return codes

    return cached


def fewest(row, replay, capture):
    n = 1
    while capture + n * replay >= n * row:
        n += 1
    return n


@wrong(
    {
        "roll": [
            (lambda rows: rows, "nothing moved"),
            (lambda rows: rows.roll(1, 2), "moved down"),
            (lambda rows: rows.flip(2), "reversed order"),
            (lambda rows: rows.roll(-1, 3), "the columns moved"),
            (lambda rows: rows.roll(-1, 1), "the channels moved"),
            (lambda rows: rows.roll(-1), "give the dimension"),
            (lambda rows: rows[:, :, 1:], "of 2 rows you return 1", "keeps its shape"),
            (lambda rows: torch.cat([rows, rows[:, :, :1]], 2), "[2, 3, 3, 4]"),
            (lambda rows: rows[:, :, [1, 0]], "of 3 rows you return 2"),
            (lambda rows: joined(rows).numpy(), "ndarray", "a tensor is needed"),
        ],
        "cached": [
            (loop("", "RLDK"), "row_step ran 12 times", "once per row, 3 times"),
            (loop(inside="LD"), "keep_code ran 0 times", "once per code, 12 times"),
            (loop(after=""), "keep_row ran 0 times", "once per row, 3 times"),
            (loop(inside="LDKF", after=""), "keep_row ran 12 times"),
            (loop(inside="LKD"), "keep_code was given other codes"),
            (loop("RF", after=""), "a keep_row came where a code_step has to be"),
            (loop("RF", "DLK", ""), "KeyError"),
            (
                lambda cache, u, c: cache.row_step(c),
                "row_step was given a tensor [5, 6, 3, 4]",
                "one row of the condition",
            ),
            (lambda cache, u, c: cache.row_step(None), "row_step was given no tensor"),
            (lambda cache, u, c: cache.keep_code(u.long()), "a tensor [5, 3, 4]"),
            (lambda cache, u, c: cache.keep_row(u[:, 0, 0]), "one row of codes"),
            (lambda cache, u, c: cache.code_step(u), "takes the column x"),
            (lambda cache, u, c: cache.rolls, "AttributeError"),
            (
                lambda cache, u, c: loop()(cache, u, c[:, :, :1].expand(-1, -1, 3, -1)),
                "the codes at (1, 0) are not naive's",
                "which row of the condition",
            ),
            (lambda *given: loop()(*given)[0], "shape [3, 4]"),
            (lambda *given: loop()(*given).double(), "codes are whole numbers"),
            (lambda *given: torch.zeros(5, 3, 4).long(), "row_step ran 0 times"),
        ],
        "rows_that_pay": [
            (lambda row, replay, capture: capture // row, "3 rows take 30", "36 with"),
            (
                lambda row, replay, capture: math.ceil(capture / (row - replay)),
                "32 to capture, 4 rows take 40 without, 40 with",
                "not less yet",
            ),
            (lambda *given: fewest(*given) + 1, "fewer rows already pay"),
            (
                lambda row, replay, capture: capture / (row - replay),
                "whole number of rows",
            ),
        ],
        "stuck_block": [
            (3, "with block 3 stuck", "codes differ"),
            (0, "with block 0 stuck"),
            (4, "4 is no block; they are 0 to 3"),
            (1.5, "1.5 is no block"),
        ],
    }
)
def test_another_answer_hears_what_is_wrong_with_it(check, answer, words, judge):
    refused(judge(check, answer), *words)


@right(
    {
        "roll": [joined, in_place, zeros_last, steps.rolled, lambda r: r.roll(-1, 2)],
        "cached": [loop(), steps.by_steps],
        "rows_that_pay": [fewest, lambda r, p, c: c // (r - p) + 1],
        "stuck_block": [2, 2.0, torch.tensor(2)],
    }
)
def test_a_right_answer_passes_in_any_form(check, answer, judge):
    assert judge(check, answer)


@pytest.mark.parametrize("roll", [joined, in_place, zeros_last])
def test_the_loop_draws_the_codes_of_naive_however_rows_are_rolled(draw, roll):
    level, u, condition = draw
    with torch.no_grad():
        found = steps.by_steps(steps.Cache(level, u, roll), u, condition)
    wanted = sample_codes(level, u.shape[1:], u.flatten(1), condition, NAIVE)
    assert torch.equal(found, wanted)


def test_a_row_that_is_not_rolled_spoils_codes_from_row_1_on(draw, stuck):
    level, u, condition = draw
    wanted = sample_codes(level, u.shape[1:], u.flatten(1), condition, NAIVE)
    same = stuck == wanted
    assert same[:, 0].all() and not same[:, 1].all()
    with torch.no_grad():  # the first block has mask A and a single row
        assert torch.equal(steps.with_stuck(*draw, 0), wanted)


@torch.no_grad()
def test_the_factor_is_that_of_whole_draws():
    torch.manual_seed(0)
    prior = HierarchicalPixelCNN(8, 4, 6, 3, num_classes=2).eval()
    naive = by_loop = 0
    for level, u, condition in steps.levels(prior, 1):
        given = level, u.shape[1:], u.flatten(1), condition
        naive += multiply_adds(sample_codes, *given, NAIVE)
        cache = PixelCNNCache(level, 1, u.shape[1:])
        by_loop += multiply_adds(steps.by_steps, cache, u, condition)
    assert steps.counted(prior, steps.by_steps, steps.rolled) == naive / by_loop


def test_operations_are_counted_without_views():
    def run(x):
        for _ in range(150):
            x = x.view(2, 3) + 1
        return x

    assert steps.operations(run, torch.zeros(6)) in (100, 200)
    assert steps.operations(uniforms, 0, 0, 1, 1) == 0


def test_the_top_level_is_a_copy_in_float64(prior):
    top, u, condition = steps.of_top(prior, 3)
    assert condition.dtype == top.embedding.weight.dtype == torch.float64
    assert prior.prior_top.embedding.weight.dtype == torch.float32
    assert u.shape == (3, 8, 8) and condition.shape[2:] == (8, 1)
