"""The checks of notebook 10 tell right answers from the usual mistakes."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from answers import refused, right, wrong
from PIL import Image

from pixelprior.anomalies import calibrate, find
from pixelprior.anomalies.scores import Calibration
from pixelprior.course.checks import anomalies as check


def kth_largest(scores, rate):
    k = math.floor(rate * (len(scores) + 1) + 1e-9)
    if k == 0:
        return math.inf
    return scores.sort(descending=True).values[k - 1]


def of_the_package(scores, rate):
    """The threshold of a calibration with these scores."""
    parts = {"nats": {}, "centres": None, "scales": None, "pixels": None, "draws": 1}
    whole = Calibration(
        **parts, scores=scores.sort().values, classes=None, models=("", "")
    )
    try:
        return whole.score_threshold(rate)
    except ValueError:  # there are too few scores for the rate
        return math.inf


@right(
    {
        "threshold": [
            kth_largest,
            lambda scores, rate: float(kth_largest(scores, rate)),
            of_the_package,
        ]
    }
)
def test_the_lowest_threshold_that_keeps_the_promise_is_right(check, answer, judge):
    verdict = judge(check, answer)
    assert verdict.passed, verdict


@wrong(
    {
        "threshold": [
            (lambda scores, rate: scores.quantile(1 - rate), "allowed are 0.01 · 251"),
            (lambda scores, rate: scores.max() + 1, "higher than it has to be"),
            (lambda scores, rate: scores.min() - 1, "which end is odd"),
            (lambda scores, rate: scores.quantile(rate), "normal scores are above"),
            (lambda scores, rate: scores.max(), "lower one"),
            (
                lambda scores, rate: scores.sort(descending=True).values[
                    math.floor(rate * (len(scores) + 1))
                ],
                "the 3rd largest of all 251",
            ),
            (  # 0.29 · 100 is slightly less than 29
                lambda scores, rate: kth_largest(scores, rate - 1e-8),
                "with 99 normal scores",
            ),
            (lambda scores, rate: scores[:2], "a number"),
            (
                lambda scores, rate: kth_largest(scores, max(rate, 0.02)),
                "allowed are 0.01",
            ),
            (
                lambda scores, rate: min(kth_largest(scores, rate), scores.max()),
                "return math.inf there",
            ),
        ]
    }
)
def test_a_wrong_threshold_is_explained(check, answer, words, judge):
    refused(judge(check, answer), *words)


def four_areas(scores):
    return [
        (scores[kind][level][:, None] > scores["normal"][level]).double().mean().item()
        for kind in ("wrong half", "scratch")
        for level in ("top", "bottom")
    ]


def test_four_areas_are_right_and_say_which_level_is_ahead(level_scores):
    verdict = check.areas(four_areas(level_scores), level_scores)
    assert verdict.passed and "half is found better by the top" in verdict.words
    assert "scratch is found better by the bottom" in verdict.words


@pytest.mark.parametrize(
    "as_given",
    [
        torch.tensor,
        np.array,
        lambda areas: torch.tensor(areas).view(2, 2),
        lambda areas: [torch.tensor(area) for area in areas],
        lambda areas: [round(area, 2) for area in areas],
        tuple,
    ],
)
def test_four_areas_may_be_given_in_any_form(level_scores, as_given):
    assert check.areas(as_given(four_areas(level_scores)), level_scores).passed


def test_pairs_with_equal_scores_count_half():
    scores = {
        kind: {level: torch.tensor([1.0]) for level in check.LEVELS}
        for kind in ("normal", "scratch")
    }
    assert check.areas([0.5, 0.5], scores).passed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: [1 - each for each in a], "1 less the area"),
        (lambda a: [a[1], a[0], a[3], a[2]], "both levels have changed places"),
        (lambda a: a[2:] + a[:2], "both kinds of defects have changed places"),
        (lambda a: [100 * each for each in a], "a share is 0 to 1"),
        (lambda a: [a[0], a[1], a[2], a[3] - 0.02], "scratch by bottom is not"),
        (lambda a: a[:3], "4 numbers are needed"),
    ],
)
def test_wrong_areas_are_explained(level_scores, change, words):
    refused(check.areas(change(four_areas(level_scores)), level_scores), words)


@pytest.fixture(scope="module")
def scored(shipped, heldout_images):
    """A function of the folders of searched and of normal images: the (name, score,
    p-value) of each image, the oddest first."""
    normal = heldout_images[torch.tensor(check.NORMAL)][0]
    calibration, kept = calibrate(*shipped, normal, draws=1), {}

    def found_in(new, _normal):
        paths = [path for path in sorted(new.iterdir()) if path.name != check.BROKEN]
        read = b"".join(path.read_bytes() for path in paths)
        kept[read] = kept.get(read) or judged(paths)
        return kept[read]

    def judged(paths):
        pixels = [np.array(Image.open(path).convert("L")) for path in paths]
        images = torch.from_numpy(np.stack(pixels)[:, None] / np.float32(255))
        found = find(*shipped, images, calibration, draws=1)
        numbers = found.scores.tolist(), found.p_values.tolist()
        lines = zip([path.name for path in paths], *numbers, strict=True)
        return sorted(lines, key=lambda line: -line[1])

    return found_in


def odd_names(lines):
    return [name for name, _, p_value in lines if p_value <= 0.05]


@pytest.mark.slow
def test_the_names_of_odd_images_and_of_the_broken_file_are_right(scored):
    verdict = check.alarms(lambda *given: (odd_names(scored(*given)), [check.BROKEN]))
    assert verdict.passed, verdict


def test_the_odd_images_are_told_apart_with_a_margin(scored):
    """So that other processors have the same order. Scores do not depend on draws."""
    lines = []

    def keep(*folders):
        lines.extend(scored(*folders))

    check.alarms(keep)
    (_, first, low), (_, second, _), (_, third, _), *_ = lines
    assert first > second + 5 and second > third + 4
    assert low == lines[1][2] == 1 / 49
    assert min(p_value for *_, p_value in lines[2:]) > 0.3


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("column", [0, 2], ids=["of the table", "of p-values"])
def test_names_in_the_order_of_another_column_are_wrong(scored, seed, column):
    torch.manual_seed(seed)

    def answer(*folders):
        table = sorted(sorted(scored(*folders)), key=lambda line: line[column])
        return odd_names(table), [check.BROKEN]

    refused(check.alarms(answer), "wrong order")


def test_what_a_command_keeps_is_kept_in_the_folder_of_the_check(monkeypatch):
    monkeypatch.setenv("PIXELPRIOR_CACHE", "mine")
    kept = []
    check.alarms(lambda new, _: kept.append((new, os.environ["PIXELPRIOR_CACHE"])))
    ((new, cache),) = kept
    assert Path(cache).parent == new.parent and not new.parent.exists()
    assert os.environ["PIXELPRIOR_CACHE"] == "mine"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda lines, broken: odd_names(lines), "two lists are needed"),
        (lambda lines, broken: ([], [broken]), "is a negative, and is not in"),
        (lambda lines, broken: (odd_names(lines)[:1], [broken]), "is upside down"),
        (lambda lines, broken: (odd_names(lines)[::-1], [broken]), "oddest image"),
        (lambda lines, broken: (odd_names(lines) * 2, [broken]), "each name once"),
        (lambda lines, broken: (odd_names(lines), []), "what does its line"),
        (lambda lines, broken: ([n for n, *_ in lines], [broken]), "like the normal"),
        (
            lambda lines, broken: ([f"new/{n}" for n in odd_names(lines)], [broken]),
            "is no image of the folder",
        ),
        (lambda lines, broken: ([broken], [broken]), "has no p-value"),
    ],
)
def test_wrong_alarms_are_explained(scored, answer, words):
    verdict = check.alarms(lambda *given: answer(scored(*given), check.BROKEN))
    refused(verdict, words)


def test_files_that_were_left_among_the_images_are_noticed():
    refused(
        check.alarms(lambda new, _: (new / "scores.csv").write_text("path")),
        "other files",
    )
