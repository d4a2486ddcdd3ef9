"""What a check says of an answer: not attempted yet, not yet or right; nothing else."""

import pytest
import torch

from pixelprior.course.checks.verdict import (
    NOT_ATTEMPTED,
    Verdict,
    Wrong,
    call,
    judged,
    need_number,
    need_tensor,
)


@judged
def is_six(answer):
    """Whether it is six."""
    if (number := need_number(answer)) != 6:
        raise Wrong(f"{number:g} is not six")
    return "it is six"


@judged
def doubles(function, number=4, *, what="your function"):
    got = need_number(call(function, number, what=what), "what it gives")
    if got != 2 * number:
        raise Wrong(f"twice {number} is not {got:g}")
    return f"twice {number} is {got:g}"


def test_none_is_not_attempted():
    verdict = is_six(None)
    assert verdict.passed is None and not verdict
    assert repr(verdict) == NOT_ATTEMPTED and NOT_ATTEMPTED.startswith(
        "not attempted yet"
    )


def test_a_function_that_gives_none_is_not_attempted():
    assert doubles(lambda number: None) == Verdict(None, NOT_ATTEMPTED)


def test_a_right_answer_passes_and_hears_why():
    verdict = is_six(6)
    assert verdict.passed is True and verdict
    assert repr(verdict) == "right: it is six"
    assert repr(doubles(lambda number: 2 * number)) == "right: twice 4 is 8"


def test_a_wrong_answer_hears_what_is_wrong():
    verdict = is_six(5)
    assert verdict.passed is False and not verdict
    assert repr(verdict) == "not yet: 5 is not six"


def test_arguments_reach_the_check():
    verdict = doubles(lambda number: number, 3, what="your doubling")
    assert repr(verdict) == "not yet: twice 3 is not 3"
    assert repr(doubles(5, what="your doubling")).startswith("not yet: your doubling")


def test_a_function_that_raises_hears_what_it_raised():
    def fails(number):
        raise KeyError("half")

    words = repr(doubles(fails))
    assert words == "not yet: your function raised KeyError: 'half'"


def test_a_function_with_other_arguments_hears_so():
    assert "your function raised TypeError" in repr(doubles(lambda: 8))


@pytest.mark.parametrize("answer", [3, "lambda", torch.ones(1)])
def test_what_is_no_function_hears_its_type(answer):
    words = repr(doubles(answer))
    assert type(answer).__name__ in words and "a function is needed" in words


class Evil:
    """An answer whose `repr` raises an error."""

    def __repr__(self):
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    "answer",
    ["six", [6], (6, 6), {}, True, 6j, float("nan"), float("inf"), 10**400]
    + [torch.tensor([6, 6]), torch.tensor(True), torch.tensor([]), is_six, Evil()],
    ids=lambda answer: type(answer).__name__,
)
def test_no_answer_however_odd_ends_in_a_traceback(answer):
    verdict = is_six(answer)
    assert verdict.passed is False
    assert verdict.words.startswith("not yet: ")


@pytest.mark.parametrize("answer", [6.0, torch.tensor(6), torch.tensor([[6.0]])])
def test_a_number_may_come_in_a_tensor(answer):
    assert is_six(answer)


def test_an_interrupt_is_not_swallowed():
    def interrupted(number):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        doubles(interrupted)


def test_a_check_keeps_its_name_and_its_words():
    assert (is_six.__name__, is_six.__doc__) == ("is_six", "Whether it is six.")


def test_a_tensor_of_another_type_or_shape_is_wrong():
    tensor = torch.ones(2, 3)
    assert need_tensor(tensor) is need_tensor(tensor, (2, 3)) is tensor
    with pytest.raises(Wrong, match=r"mask has shape \[2, 3\], but \[3, 2\] is needed"):
        need_tensor(tensor, (3, 2), "your mask")
    with pytest.raises(Wrong, match="your answer is list, but a tensor is needed"):
        need_tensor([1, 2])


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


def test_a_check_leaves_the_random_numbers_of_the_reader_as_they_were():
    @judged
    def draws(answer):
        torch.manual_seed(0)
        return str(torch.rand(()))

    torch.manual_seed(7)
    undisturbed = torch.rand(2)
    torch.manual_seed(7)
    first = torch.rand(())
    assert draws(1).passed
    assert torch.stack([first, torch.rand(())]).equal(undisturbed)
