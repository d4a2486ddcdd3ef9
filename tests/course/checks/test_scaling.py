"""Checks of notebook 09: right answers pass, and each mistake hears what is wrong."""

import math

import pytest
import torch
from answers import refused, right, wrong

from pixelprior.course.checks import scaling as check


def path(folder, name, number):
    return check.path_of(folder, name, number)


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


def without_the_unigram(training, heldout, unigram):
    if heldout[-1] > min(heldout) + 0.05:
        return "regularize"
    return "longer" if heldout[-2] - heldout[-1] > 0.02 else "larger"


def without_a_limit(training, heldout, unigram):
    if training[-1] >= unigram:
        return "lower rate"
    return check.advice_of(training, heldout, unigram + 1)


def never_longer(training, heldout, unigram):
    said = check.advice_of(training, heldout, unigram)
    return "larger" if said == "longer" else said


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


def by_slope(training, heldout, unigram):
    heldout = torch.tensor(heldout)
    if torch.tensor(training).min() > unigram - 0.2:
        return "lower rate"
    if heldout.argmin() < len(heldout) - 2 and heldout[-1] > heldout.min() + 0.05:
        return "regularize"
    return ("larger", "longer")[int(heldout[-2] - heldout[-1] > 0.03)]


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
        lambda *given: str(path(*given)),
        of(tenth, "{split}/{name}/{name}-{number:04d}.png"),
        of(tenth, "{split}/{name}/more/{number}.png"),
    ],
    advice=[check.advice_of, by_quarters, by_slope],
    order=[
        permutation(lambda seed, epoch: 1_000_003 * seed + epoch),
        permutation(lambda seed, epoch: hash((seed, epoch)) % 2**62),
    ],
    steps=[
        lambda n, size, count: math.ceil(n / (size * count)),
        lambda n, size, count: -(-n // (size * count)),
    ],
)


test_another_answer_hears_what_is_wrong_with_it = wrong(
    image_path=[
        (of(lambda n: n % 10 == 0), "test images of cat", "[0, 10, 20]"),
        (of(lambda n: n % 10 == 1), "which number has the tenth image"),
        (of(lambda n: n == 9), "the numbers [9]"),
        (lambda f, kind, n: path(f, kind, n) if tenth(n) else None, "0 of cat"),
        (of(lambda n: False), "goes to photos/test; image 9 of cat"),
        (
            lambda *given: str(path(*given)).replace("train", "training"),
            "no image goes to photos/train; image 0 of cat goes to photos/training",
        ),
        (of(tenth, "{name}/{split}/{number}.png"), "goes to photos/cat/test/9.png"),
        (of(tenth, "photos/{split}/{name}/{number}.png"), "photos/photos/test/cat"),
        (of(tenth, "{split}/{number}.png"), "of owl", "overwrites image 0 of cat"),
        (of(tenth, "{split}/{name}.png"), "image 1 of cat", "overwrites image 0"),
        (of(tenth, "{split}/{name}-{number}.png"),),
        (of(tenth, "{split}/{name}/{number}"), "unknown file extension"),
        (of(tenth, "{split}/a {name}/{number}.png"), "the classes a cat, a owl"),
        (lambda f, name, n: f.parent / f"{n}.png", "not in the folder"),
        (lambda f, name, n: f"{name}/{n}.png", "not in the folder"),
        (lambda f, name, n: ("train", name, n), "TypeError"),
        (lambda f, name, n: f + "/train/" + name, "raised TypeError"),
    ],
    advice=[
        (lambda *_: "longer", "unigram entropy"),
        (by_gap, "you say"),
        (by_the_last_two, "level at the end, up to chance"),
        (without_the_unigram, "training loss ends at", "unigram entropy"),
        (without_a_limit, "the training loss ends at"),
        (without_an_end, "returns None for a run in which both losses are level"),
        (never_longer, "the held-out loss fell from", "in the last three epochs"),
        (lambda *_: "regularize", "the held-out loss fell from"),
        (lambda *_: "regularisation", "one of longer, lower rate, larger"),
        (lambda *_: 3, "you say 3"),
        (lambda training: "longer", "raised TypeError"),
    ],
    order=[
        (permutation(lambda seed, epoch: seed), "seed 0 has in epoch 1"),
        (permutation(lambda seed, epoch: epoch), "seed 1 has in epoch 0"),
        (
            permutation(lambda seed, epoch: seed + epoch),
            "seed 1 has in epoch 0 the order that seed 0 had in epoch 1",
        ),
        (
            permutation(lambda seed, epoch: 2 * seed + epoch),
            "seed 1 has in epoch 0 the order that seed 0 had in epoch 2",
        ),
        (
            permutation(lambda seed, epoch: int(f"{seed}{epoch}")),
            "seed 1 has in epoch 0 the order that seed 0 had in epoch 10",
        ),
        (lambda seed, epoch, count: torch.randperm(count), "another order when"),
        (seeds_torch, "changes torch's own random state"),
        (sampled, "each of the images 0 to 49 once"),
        (lambda seed, epoch, count: torch.arange(count), "seed 0 has in epoch 1"),
        (lambda s, e, count: torch.randperm(count) + 1, "runs from 1 to 50"),
        (lambda seed, epoch, count: [*range(count)], "a tensor is needed"),
    ],
    steps=[
        (lambda n, size, count: n // (size * count), "fewer than it takes"),
        (lambda n, size, count: math.ceil(n / size), "more than it takes"),
        (lambda n, size, count: n / (size * count), "13.875 steps"),
        (lambda n, size, count: math.ceil(n / size) * count, "more"),
        (lambda n, size, count: None is n, "a number is needed"),
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
