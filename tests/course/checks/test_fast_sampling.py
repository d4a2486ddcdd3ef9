"""The checks of notebook 06 tell right answers from the usual mistakes."""

import math

import torch
from answers import right, wrong

from pixelprior.course import steps
from pixelprior.course.steps import draw


def joined(rows):
    return torch.cat([rows[:, :, 1:], rows[:, :, :1]], dim=2)


def in_place(rows):
    rows[:, :, :-1] = rows[:, :, 1:].clone()
    return rows


def loop(before="R", inside="LDK", after="F"):
    """The loop with other steps before, in and after the loop over columns: R and F for
    a row, L for logits, D to draw, and K to keep a code."""

    def cached(cache, u, condition):
        codes, seen = torch.zeros(u.shape, dtype=torch.long), {}
        do = {
            "R": lambda y, x: cache.row_step(condition[:, :, [y]]),
            "L": lambda y, x: seen.update(logits=cache.code_step(x)),
            "D": lambda y, x: codes[:, y, x].copy_(draw(**seen, u=u[:, y, x])),
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


test_another_answer_hears_what_is_wrong_with_it = wrong(
    roll=[
        (lambda rows: rows, "of 3 rows, not every place"),
        (lambda rows: rows.roll(1, 2), "moved down"),
        (lambda rows: rows.flip(2), "reversed order"),
        (lambda rows: rows[:, :, 1:], "[2, 3, 2, 4], but [2, 3, 3, 4]"),
    ],
    cached=[
        (
            loop("", "RLDK"),
            "row_step has to run once per row",
            "3 times and not 12",
        ),
        (loop(inside="LD"), "keep_code has to run once per code", "12 times and"),
        (loop(after=""), "keep_row has to run once per row"),
        (loop("RL", "DK"), "code_step has to run once per code"),
        (loop(inside="LKD"), "(0, 1) are not naive's", "which codes do you keep"),
        (
            lambda cache, u, c: loop()(cache, u, c[:, :, :1].expand(-1, -1, 3, -1)),
            "the codes at (1, 0) are not naive's",
        ),
        (lambda *given: loop()(*given)[0], "shape [3, 4]"),
    ],
    rows_that_pay=[
        (lambda row, replay, capture: capture // row, "3 rows take 30", "36 with"),
        (lambda row, replay, capture: capture / (row - replay), "3.75 rows take"),
        (
            lambda row, replay, capture: math.ceil(capture / (row - replay)),
            "32 to capture, 4 rows take 40 without, 40 with",
            "not less yet",
        ),
        (lambda *given: fewest(*given) + 1, "fewer rows already pay"),
    ],
    stuck_block=[(n, f"with block {n} stuck", "codes differ") for n in (0, 1, 3)],
)


test_a_right_answer_passes_in_any_form = right(
    roll=[joined, in_place, steps.rolled],
    cached=[loop(), steps.by_steps],
    rows_that_pay=[fewest, lambda r, p, c: c // (r - p) + 1],
    stuck_block=[2, torch.tensor(2)],
)


def test_the_top_level_is_a_copy_in_float64(prior):
    top, _, condition = steps.of_top(prior, 3)
    assert condition.dtype == top.embedding.weight.dtype == torch.float64
    assert prior.prior_top.embedding.weight.dtype == torch.float32
