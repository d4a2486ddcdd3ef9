"""What a check says of an answer: not attempted yet, not yet or right; nothing else."""

import pytest
import torch
from answers import CHECKS, EVERY_CHECK, ODD, OF_FUNCTIONS, refused

from pixelprior.course.checks.verdict import (
    Wrong,
    call,
    judged,
    need_number,
    need_tensor,
    reveal,
    your_turn,
)


@pytest.mark.parametrize("check", EVERY_CHECK)
def test_no_odd_answer_is_right_and_none_ends_in_a_traceback(check, judge):
    for odd in ODD:
        refused(judge(check, odd))


@pytest.mark.parametrize("check", CHECKS | OF_FUNCTIONS)
def test_a_stub_is_not_attempted_yet(check, judge):
    assert judge(check, None).passed is None
    if check in OF_FUNCTIONS:
        assert judge(check, lambda *_: None).passed is None


@judged
def is_six(answer):
    """Whether it is six."""
    if (number := need_number(answer)) != 6:
        raise Wrong(f"{number:g} is not six")
    torch.rand(())  # a check may draw numbers
    return "it is six"


@judged
def doubles(function, number=4, *, what="your function"):
    got = need_number(call(function, number, what=what), "what it gives")
    if got != 2 * number:
        raise Wrong(f"twice {number} is not {got:g}")
    return f"twice {number} is {got:g}"


def test_what_is_not_attempted_is_neither_right_nor_wrong():
    for verdict in (is_six(None), doubles(lambda number: None)):
        assert verdict.passed is None and not verdict
        assert repr(verdict).startswith("not attempted yet")
    assert "your own `return` missing" in repr(verdict)


def test_a_right_answer_passes_and_hears_why():
    verdict = doubles(lambda number: 2 * number)
    assert verdict.passed is True and verdict
    assert repr(verdict) == "right: twice 4 is 8"


def test_a_wrong_answer_hears_what_is_wrong_with_it_for_these_arguments():
    verdict = doubles(lambda number: number, 3)
    assert verdict.passed is False and not verdict
    assert repr(verdict) == "not yet: twice 3 is not 3"


def test_a_function_that_raises_hears_what_it_raised():
    def fails(number):
        raise KeyError("half")

    assert repr(doubles(fails)) == "not yet: your function raised KeyError: 'half'"
    refused(doubles(lambda: 8, what="your doubling"), "your doubling raised TypeError")


@pytest.mark.parametrize("answer", [3, "lambda", torch.ones(1)])
def test_what_is_no_function_hears_its_type(answer):
    refused(doubles(answer), type(answer).__name__, "a function is needed")


@pytest.mark.parametrize("answer", [6.0, torch.tensor(6), torch.tensor([[6.0]])])
def test_a_number_may_come_in_a_tensor(answer):
    assert is_six(answer)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("6", "is '6', but a number is needed"),
        (True, "is True, but a number is needed"),
        (torch.ones(2), "but a number is needed"),
        (float("nan"), "is nan, which is not finite"),
        (torch.tensor(float("-inf")), "is -inf, which is not finite"),
    ],
)
def test_what_is_no_number_is_wrong(value, words):
    with pytest.raises(Wrong, match=f"your loss.*{words}"):
        need_number(value, "your loss")


def test_a_tensor_of_another_type_or_shape_is_wrong():
    tensor = torch.ones(2, 3)
    assert need_tensor(tensor) is need_tensor(tensor, (2, 3)) is tensor
    with pytest.raises(Wrong, match=r"mask has shape \[2, 3\], but \[3, 2\] is needed"):
        need_tensor(tensor, (3, 2), "your mask")
    with pytest.raises(Wrong, match="your answer is list, but a tensor is needed"):
        need_tensor([1, 2])


def test_an_interrupt_is_not_swallowed():
    def interrupted(number):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        doubles(interrupted)


def test_a_check_keeps_its_name_and_its_words():
    assert (is_six.__name__, is_six.__doc__) == ("is_six", "Whether it is six.")


def test_a_check_leaves_the_random_numbers_of_the_reader_as_they_were():
    torch.manual_seed(7)
    undisturbed = torch.rand(2)
    torch.manual_seed(7)
    first = torch.rand(())
    assert is_six(6)
    assert torch.stack([first, torch.rand(())]).equal(undisturbed)


def test_a_notebook_goes_on_with_a_right_function_and_with_no_other(capsys):
    def right(number):
        return 2 * number

    def other(number):
        return number + number

    assert your_turn(doubles, right, otherwise=other) is right
    assert capsys.readouterr().out == "right: twice 4 is 8\n"
    assert your_turn(doubles, abs, otherwise=other) is other
    assert capsys.readouterr().out.startswith("not yet: twice 4 is not 4\nUntil yours")
    assert your_turn(doubles, lambda number: None, 3, otherwise=other) is other
    assert capsys.readouterr().out.startswith("not attempted yet")


def test_a_guess_stands_beside_what_is_true(capsys):
    reveal("it is six")
    reveal("it is six", 5)
    assert capsys.readouterr().out == "it is six\nit is six; your guess was 5\n"
