"""What a check says of an answer: not attempted yet, not yet or right; nothing else."""

import pytest
import torch
from answers import EVERY_CHECK, ODD, OF_FUNCTIONS, refused

from pixelprior.course.checks.verdict import (
    Wrong,
    call,
    judged,
    need_codes,
    need_number,
    reveal,
    your_turn,
)


@pytest.mark.parametrize("check", EVERY_CHECK)
def test_no_odd_answer_is_right_and_none_ends_in_a_traceback(check, judge):
    for odd in ODD:
        refused(judge(check, odd))


@pytest.mark.parametrize("check", EVERY_CHECK)
def test_a_stub_is_not_attempted_yet(check, judge):
    assert judge(check, None).passed is None
    if check in OF_FUNCTIONS:
        assert judge(check, lambda *_: None).passed is None


@judged
def doubles(function, number=4):
    torch.rand(())  # a check may draw numbers
    got = need_number(call(function, number), "what it gives")
    if got != 2 * number:
        raise Wrong(f"twice {number} is not {got:g}")
    return f"twice {number} is {got:g}"


def test_an_answer_hears_that_it_is_right_or_what_is_wrong_with_it():
    for answer, passed, words in (
        (lambda number: 2 * number, True, "right: twice 4 is 8"),
        (lambda number: torch.tensor([8.0]), True, "right: twice 4 is 8"),
        (lambda number: number, False, "not yet: twice 4 is not 4"),
        (lambda: 8, False, "not yet: your function raised TypeError: "),
        (8, False, "not yet: that is int, but a function is needed"),
        (lambda number: None, None, "not attempted yet: your function returns None"),
        (None, None, "not attempted yet: put your answer in the place of None"),
    ):
        verdict = doubles(answer)
        assert verdict.passed is passed and bool(verdict) is bool(passed)
        assert repr(verdict).startswith(words)


@pytest.mark.parametrize("value", ["6", True, torch.ones(2), float("nan")])
def test_what_is_no_number_is_wrong(value):
    with pytest.raises(Wrong, match=r"your loss is .+ (a number is needed|not finite)"):
        need_number(value, "your loss")


def test_codes_are_whole_numbers_of_the_codebook():
    assert need_codes(torch.tensor([0, 6]), (2,), 7, "z").tolist() == [0, 6]
    for value, words in (
        (torch.ones(2), "z is torch.float32, but codes are whole numbers"),
        (torch.tensor([0, 7]), "z runs from 0 to 7, but codes run from 0 to 6"),
        (torch.tensor([-1, 2]), "z still has −1 in 1 positions"),
    ):
        with pytest.raises(Wrong, match=words):
            need_codes(value, (2,), 7, "z")


def test_a_check_leaves_the_random_numbers_of_the_reader_as_they_were():
    torch.manual_seed(7)
    undisturbed = torch.rand(2)
    torch.manual_seed(7)
    first = torch.rand(())
    assert doubles(lambda number: 2 * number)
    assert torch.stack([first, torch.rand(())]).equal(undisturbed)


def test_a_notebook_goes_on_with_a_right_function_and_with_no_other(capsys):
    def right(number):
        return 2 * number

    assert your_turn(doubles, right, otherwise=abs) is right
    assert capsys.readouterr().out == "right: twice 4 is 8\n"
    assert your_turn(doubles, float, 3, otherwise=abs) is abs
    assert capsys.readouterr().out.startswith("not yet: twice 3 is not 3\nUntil yours")


def test_a_guess_stands_beside_what_is_true(capsys):
    reveal("it is six")
    reveal("it is six", 5)
    assert capsys.readouterr().out == "it is six\nit is six; your guess was 5\n"
