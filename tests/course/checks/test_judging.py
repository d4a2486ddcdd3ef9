"""Checks of notebook 07: the draw of a code, guidance, top-p, and a number that finds
copies."""

import torch
from answers import refused, right, wrong

from pixelprior.course.checks import judging
from pixelprior.sampling import inverse_cdf, probabilities


def by_searching(probs, u):
    ends = probs.cumsum(1)
    return torch.searchsorted(ends / ends[:, -1:], u[:, None], right=True)[:, 0]


def in_a_loop(probs, u):
    codes = []
    for row, number in zip(probs.tolist(), u.tolist(), strict=True):
        left, code = number * sum(row), 0
        while left >= row[code]:
            left, code = left - row[code], code + 1
        codes.append(code)
    return torch.tensor(codes)


def careless(probs, u):
    return (probs.cumsum(1) <= u[:, None]).sum(1)


def up_to_the_end_of_its_piece(probs, u):
    ends = probs.cumsum(1)
    return (ends < u[:, None] * ends[:, -1:]).sum(1)


def scaled_by(length):
    return lambda probs, u: careless(probs, u * length(probs))


def normalized_first(probs, u):
    return careless(probs / probs.sum(1, keepdim=True), u)


def changing_u(probs, u):
    u *= probs.sum(1)
    return careless(probs, u)


def moved(change):
    """A guidance whose logits `change` makes of those with the labels and without."""
    return lambda level, codes, labels, w: change(level(codes, labels), level(codes), w)


def with_label_0(level, codes, labels, w):
    a, b = level(codes, labels), level(codes, torch.zeros_like(labels))
    return a + w * (a - b)


def sorted_and_kept(logits, fits):
    """Probabilities [B, K] of which those are kept, and made up for, whose cumulative
    sums in falling order, with themselves and before themselves, `fits` accepts."""
    ranked, order = logits.softmax(1).sort(dim=1, descending=True)
    sums = ranked.cumsum(1)
    ranked = ranked * fits(sums, sums - ranked)
    kept = torch.zeros_like(ranked).scatter(1, order, ranked)
    return kept / kept.sum(1, keepdim=True)


def by_sorting(logits, share):
    return sorted_and_kept(logits, lambda _, before: before < share)


def past_an_exact_share(logits, share):
    return sorted_and_kept(logits, lambda _, before: before <= share)


def without_the_last(logits, share):
    return sorted_and_kept(logits, lambda sums, _: sums <= share)


def evened_out(logits, share):
    kept = (by_sorting(logits, share) > 0).float()
    return kept / kept.sum(1, keepdim=True)


def flat(images):
    return images.flatten(1)


def nearest(images, training):
    return torch.cdist(flat(images), flat(training)).min(1).values


def in_any_place(images, training):
    shifts = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    found = [nearest(images.roll(shift, (2, 3)), training) for shift in shifts]
    return torch.stack(found).min(0).values


@right(
    {
        "inverse_cdf": [inverse_cdf, by_searching, in_a_loop]
        + [lambda p, u: normalized_first(p.double(), u.double()).clamp(max=5)],
        "guided": [
            judging.guided_logits,
            moved(lambda a, b, w: (1 + w) * a - w * b),
            moved(lambda a, b, w: b + (1 + w) * (a - b)),
            moved(lambda a, b, w: (a + w * (a - b)).log_softmax(1)),
        ],
        "top_p": [by_sorting, lambda logits, p: probabilities(logits, top_p=p)],
        "distance_to_copies": [in_any_place],
    }
)
def test_a_right_answer_passes_however_it_is_written(check, answer, judge):
    verdict = judge(check, answer)
    assert verdict.passed, verdict


@wrong(
    {
        "inverse_cdf": [
            (careless, "which does not exist", "this row adds up to 0.9"),
            (lambda p, u: careless(p, u).clamp(max=5), "this row adds up to 0.9"),
            (up_to_the_end_of_its_piece, "belongs to the next piece"),
            (lambda p, u: inverse_cdf(p, u) - 1, "has to fall on piece"),
            (lambda p, u: inverse_cdf(p, u)[:, None], "[50, 1], but [50] is needed"),
            (lambda p, u: careless(p, u).float(), "whole numbers"),
            (lambda p, u: careless(p, u).numpy(), "a tensor is needed"),
            (lambda p, u: p.multinomial(1)[:, 0], "has to fall on piece"),
            (lambda p, u: p.argmax(1), "has to fall on piece"),
            (lambda p, u: (p.cumsum(1) <= u).sum(1), "size of tensor"),
            (lambda p, u: (p.cumsum(0) <= u[:, None]).sum(1), "has to fall on piece"),
            (changing_u, "changes probs or u itself"),
            (scaled_by(lambda p: p.cumsum(1).max()), "this row adds up to 0.9"),
            (scaled_by(lambda p: p[-1].sum()), "this row adds up to 0.9"),
            (normalized_first, "u = 0.99999994 draws code 6", "rounding left"),
        ],
        "guided": [
            (
                moved(lambda a, b, w: b + w * (a - b)),
                "w = 0 must give the logits with",
            ),
            (moved(lambda a, b, w: w * a + (1 - w) * b), "w = 0 must give"),
            (moved(lambda a, b, w: a + w * (b - a)), "away from the label"),
            (moved(lambda a, b, w: w * (a - b)), "added to"),
            (moved(lambda a, b, w: a), "no effect"),
            (
                moved(lambda a, b, w: a + (a - b)),
                "w = 3 must add 3 times",
            ),
            (moved(lambda a, b, w: a + w * a - b), "more than the difference"),
            (moved(lambda a, b, w: (a + w * (a - b)).softmax(1)), "before any softmax"),
            (moved(lambda a, b, w: a + 2 * w * (a - b)), "must add 3 times"),
            (moved(lambda a, b, w: a + w * (a.softmax(1) - b.softmax(1))), "must add"),
            (moved(lambda a, b, w: (a + w * (a - b))[..., 0]), "[2, 5, 3, 4]"),
            (with_label_0, "label 0 is a class"),
        ],
        "top_p": [
            (lambda x, p: x.softmax(1) * (by_sorting(x, p) > 0), "adds up to"),
            (without_the_last, "you keep ["),
            (past_an_exact_share, "for 0.5 you keep [3, 3] codes, and [2, 2] are"),
            (lambda x, p: by_sorting(-x, p), "you keep"),
            (lambda x, p: by_sorting(x, p).sort(descending=True)[0], "its own place"),
            (evened_out, "lost their ratios"),
            (lambda x, p: x.softmax(1), "you keep [64, 64"),
            (lambda x, p: by_sorting(x, p)[0], "shape"),
            (lambda x, p: by_sorting(x, p).log(), "row 0 adds up to -inf, not 1"),
        ],
        "distance_to_copies": [
            (nearest, "that were shifted"),
            (lambda images, _: images.mean(dim=(1, 2, 3)), "as they are"),
            (lambda images, _: torch.zeros(len(images)), "50%"),
            (lambda *given: -in_any_place(*given), "in 0% of the pairs"),
            (lambda *given: nearest(*given).mean(), "shape"),
            (lambda *given: torch.cdist(*map(flat, given)).min(1), "take its .values"),
            (lambda *given: nearest(*given) / 0, "as they are do not stand out"),
        ],
    }
)
def test_another_answer_hears_what_is_wrong_with_it(check, answer, words, judge):
    refused(judge(check, answer), *words)


def test_photographs_come_in_sets_with_equally_many_of_each_class(training_images):
    one, other = judging.photographs(training_images)[:2]
    assert (
        one.labels.bincount().tolist()
        == [20] * 10
        == one.labels[:10].bincount(minlength=10).mul(20).tolist()
    )
    assert not torch.equal(one.images, other.images)


def test_the_mean_distance_is_that_of_pairs_of_one_class(training_images):
    one = training_images.subset(torch.arange(2).repeat(2))  # each image twice
    assert judging.mean_distance(one) == 0.0
