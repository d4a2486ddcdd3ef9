"""The checks of notebook 07 tell right answers from the usual mistakes."""

import torch
from answers import right, wrong

from pixelprior.course.checks import judging
from pixelprior.sampling import inverse_cdf, probabilities


def by_searching(probs, u):
    ends = probs.cumsum(1)
    return torch.searchsorted(ends / ends[:, -1:], u[:, None], right=True)[:, 0]


def careless(probs, u):
    return (probs.cumsum(1) <= u[:, None]).sum(1)


def up_to_the_end_of_its_piece(probs, u):
    ends = probs.cumsum(1)
    return (ends < u[:, None] * ends[:, -1:]).sum(1)


def normalized_first(probs, u):
    return careless(probs / probs.sum(1, keepdim=True), u)


def moved(change):
    """A guidance whose logits `change` makes of those with the labels and without."""
    return lambda level, codes, labels, w: change(level(codes, labels), level(codes), w)


def with_label_0(level, codes, labels, w):
    a, b = level(codes, labels), level(codes, torch.zeros_like(labels))
    return a + w * (a - b)


def by_sorting(logits, share, fits=lambda _, before, share: before < share, dim=1):
    """Probabilities [B, K] of which those are kept, and made up for, whose cumulative
    sums in falling order, with themselves and before themselves, fit the share."""
    ranked, order = logits.softmax(1).sort(dim=1, descending=True)
    sums = ranked.cumsum(1)
    ranked = ranked * fits(sums, sums - ranked, share)
    kept = torch.zeros_like(ranked).scatter(1, order, ranked)
    return kept / kept.sum(dim, keepdim=True)


def nearest(images, training):
    return torch.cdist(images.flatten(1), training.flatten(1)).min(1).values


def in_any_place(images, training):
    shifts = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    found = [nearest(images.roll(shift, (2, 3)), training) for shift in shifts]
    return torch.stack(found).min(0).values


test_a_right_answer_passes_however_it_is_written = right(
    inverse_cdf=[inverse_cdf, by_searching],
    guided=[
        judging.guided_logits,
        moved(lambda a, b, w: (1 + w) * a - w * b),
        moved(lambda a, b, w: (a + w * (a - b)).log_softmax(1)),
    ],
    top_p=[by_sorting, lambda logits, p: probabilities(logits, top_p=p)],
    distance_to_copies=[in_any_place],
)


test_another_answer_hears_what_is_wrong_with_it = wrong(
    inverse_cdf=[
        (careless, "u = 0.91052443 draws code 6", "which add up to 0.9"),
        (lambda p, u: careless(p, u).clamp(max=5), "which add up to 0.9"),
        (up_to_the_end_of_its_piece, "belongs to the next piece"),
        (lambda p, u: (p.cumsum(0) <= u[:, None]).sum(1), "has to fall on piece"),
        (normalized_first, "u = 0.99999994 draws code 6", "after rounding"),
    ],
    guided=[
        (moved(lambda a, b, w: b + w * (a - b)), "w = 0 must give the logits with"),
        (moved(lambda a, b, w: a + w * (b - a)), "away from the label"),
        (moved(lambda a, b, w: a + (a - b)), "w = 3 must add 3 times"),
        (moved(lambda a, b, w: (a + w * (a - b)).softmax(1)), "before any softmax"),
        (with_label_0, "label 0 is a class"),
    ],
    top_p=[
        (lambda x, p: by_sorting(x, p, dim=(0, 1)), "row 0 adds up to 0."),
        (lambda x, p: by_sorting(x, p, lambda s, _, p: s <= p), "you keep ["),
        (
            lambda x, p: by_sorting(x, p, lambda _, before, p: before <= p),
            "for 0.5 you keep [3, 3] codes, and [2, 2] are",
        ),
        (lambda x, p: by_sorting(x, p).sort(descending=True)[0], "at its own code"),
    ],
    distance_to_copies=[
        (nearest, "copies that were shifted do not stand out"),
        (lambda *given: -in_any_place(*given), "as they are", "in 0% of the pairs"),
    ],
)


def test_photographs_come_in_sets_with_equally_many_of_each_class(training_images):
    one, other = judging.photographs(training_images)[:2]
    assert one.labels.bincount().tolist() == [20] * 10
    assert one.labels[:10].sort().values.tolist() == [*range(10)]
    assert not torch.equal(one.images, other.images)


def test_the_mean_distance_is_that_of_pairs_of_one_class(training_images):
    one = training_images.subset(torch.arange(2).repeat(2))  # each image twice
    assert judging.mean_distance(one) == 0.0
