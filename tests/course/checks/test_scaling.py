"""Checks of notebook 09: right answers pass, and each mistake hears what is wrong."""

import math

import pytest
import torch
from answers import refused, right, wrong

from pixelprior.course.checks import scaling as check


def of(test, where="{split}/{name}/{number}.png"):
    """A path whose split is "test" if `test(number)`."""

    def answer(folder, name, number):
        split = "test" if test(number) else "train"
        return folder / where.format(split=split, name=name, number=number)

    return answer


def tenth(number):
    return number % 10 == 9


def by_gap(training, heldout, unigram):
    return "regularize" if heldout[-1] > training[-1] + 0.1 else "longer"


def by_the_last_two(training, heldout, unigram):
    if training[-1] > unigram - 0.1:
        return "lower rate"
    if heldout[-1] > heldout[-2]:
        return "regularize"
    return "longer" if heldout[-1] < heldout[-2] - 0.02 else "larger"


def without_an_end(training, heldout, unigram):
    said = check.advice_of(training, heldout, unigram)
    return None if said == "larger" else said


def by_quarters(training, heldout, unigram):
    if heldout[-1] > unigram - 0.1:
        return "lower rate"
    if heldout[-1] - min(heldout) > 0.1:
        return "regularise"
    quarter = max(1, len(heldout) // 4)
    fell = heldout[-1 - quarter] - heldout[-1]
    return "longer" if fell > 0.05 else "larger"


def permutation(number):
    def answer(seed, epoch, count):
        own = torch.Generator().manual_seed(number(seed, epoch))
        return torch.randperm(count, generator=own)

    return answer


def seeds_torch(seed, epoch, count):
    torch.manual_seed(1_000_003 * seed + epoch)
    return torch.randperm(count)


def sampled(seed, epoch, count):
    own = torch.Generator().manual_seed(1009 * seed + epoch)
    return torch.randint(count, (count,), generator=own)


test_a_right_answer_passes_in_any_form = right(
    image_path=[
        check.path_of,
        lambda *given: str(check.path_of(*given)),
        of(tenth, "{split}/{name}/{name}-{number:04d}.png"),
    ],
    advice=[check.advice_of, by_quarters],
    order=[permutation(lambda seed, epoch: 1_000_003 * seed + epoch)],
    steps=[lambda n, size, count: math.ceil(n / (size * count))],
)


test_another_answer_hears_what_is_wrong_with_it = wrong(
    image_path=[
        (of(lambda n: n % 10 == 0), "test images of cat", "[0, 10, 20]"),
        (of(lambda n: n % 10 != 9), "training images are in test"),
        (of(tenth, "{name}/{split}/{number}.png"), "goes to photos/cat/test/9.png"),
        (of(tenth, "{split}/{number}.png"), "of owl", "overwrites image 0 of cat"),
        (of(tenth, "{split}/a {name}/{number}.png"), "the classes a cat, a owl"),
        (lambda f, name, n: f"{name}/{n}.png", "not in the folder"),
        (lambda f, name, n: f + "/train/" + name, "raised TypeError"),
    ],
    advice=[
        (lambda *_: "longer", "unigram entropy"),
        (lambda *_: "regularize", "the held-out loss fell from"),
        (by_gap, "you say"),
        (by_the_last_two, "level at the end, up to chance"),
        (without_an_end, "returns None for a run in which both losses are level"),
        (lambda *_: "regularisation", "one of longer, lower rate, larger"),
    ],
    order=[
        (permutation(lambda seed, epoch: seed), "seed 0 has in epoch 1"),
        (permutation(lambda seed, epoch: seed + epoch), "seed 1 has in epoch 0"),
        (
            permutation(lambda seed, epoch: 1000 * seed + epoch),
            "seed 1 has in epoch 0 the order that seed 0 had in epoch 1000",
        ),
        (lambda seed, epoch, count: torch.randperm(count), "another order when"),
        (seeds_torch, "changes torch's own random state"),
        (sampled, "each of the images 0 to 49 once"),
    ],
    steps=[
        (lambda n, size, count: n // (size * count), "fewer than it takes"),
        (lambda n, size, count: math.ceil(n / size), "more than it takes"),
        (lambda n, size, count: n / (size * count), "13.875 steps"),
    ],
)


def test_the_reader_cannot_change_the_curves_of_the_next_check(judge):
    def sorts(training, heldout, unigram):
        training.sort()
        heldout.clear()
        return "longer"

    refused(judge("advice", sorts))
    assert judge("advice", check.advice_of)


def test_the_four_runs_end_above_the_one_whose_settings_are_right():
    runs, best = check.runs(), check.kept()["runs"]["right"]["held out"][-1]
    assert [*runs] == ["run A", "run B", "run C", "run D"]
    for run in runs.values():
        assert run["held out"][-1] > best + 0.05
        assert len(run["held out"]) == len(run["training"])


@pytest.mark.parametrize("cause", check.CAUSES)
def test_curves_that_were_made_up_have_their_cause(cause):
    training, heldout = check._made(cause, 24, 3.4, 0.03)
    assert check.advice_of(training, heldout, 3.4) == cause
    assert (training[-1] > 3.3) == (cause == "lower rate")
