"""The checks of notebook 08 tell right answers from the usual mistakes."""

import pytest
import torch
from answers import K, refused, wrong

from pixelprior import surprise
from pixelprior.course.checks import editing as check
from pixelprior.course.checks import holes

# A hole.


@pytest.fixture(scope="module")
def candidates(prior):
    """Draws for one hole, and the costs of codes: top and bottom, known and drawn."""

    def drawn(known_top, known_bottom, label, count):
        labels = torch.full((count,), int(label))
        known = {"top": known_top, "bottom": known_bottom}
        given = {
            f"known_{level}": k.expand(count, -1, -1) for level, k in known.items()
        }
        z = prior.sample(count, (4, 4), (8, 8), labels=labels, seed=3, **given)
        nats, costs = surprise(prior, *z, labels), {}
        for level, k in known.items():
            costs[level] = (nats[level] * (k >= 0)).sum(dim=(1, 2))
            costs[f"drawn {level}"] = (nats[level] * (k < 0)).sum(dim=(1, 2))
            costs[f"mean {level}"] = costs[level] / (k >= 0).sum()
        return *z, costs

    return drawn


def known(costs):
    return costs["top"] + costs["bottom"]


@pytest.fixture(scope="module")
def weighed(candidates):
    """An answer whose weights are softmax(-cost), by default of the known codes."""

    def answer(cost=known):
        def complete(*given):
            z_top, z_bottom, costs = candidates(*given)
            return z_top, z_bottom, (-cost(costs)).softmax(dim=0)

        return complete

    return answer


@pytest.mark.parametrize(
    "written",
    [lambda *given: given, lambda top, low, w: [top.int(), low.int(), w.double()]],
)
def test_candidates_weighed_by_the_cost_of_their_known_codes_are_right(
    judge, weighed, written
):
    assert judge("hole", lambda *given: written(*weighed()(*given)))


@pytest.mark.parametrize(
    ("cost", "words"),
    [
        (lambda c: c["bottom"], "the known bottom codes alone"),
        (lambda c: c["top"], "the known top codes alone"),
        (lambda c: c["mean top"] + c["mean bottom"], "those of means"),
        (lambda c: c["drawn top"] + c["drawn bottom"], "those of the drawn codes"),
        (
            lambda c: known(c) + c["drawn top"] + c["drawn bottom"],
            "those of all codes",
        ),
        (lambda c: -known(c), "the most expensive has the largest"),
        (lambda c: 1e6 * known(c), "has all the weight"),
        (lambda c: 0 * c["top"], "all candidates weigh the same"),
        (lambda c: 0.5 * known(c), "by the cost of its known codes"),
        (lambda c: torch.nan * c["top"], "0 / 0"),
    ],
)
def test_weights_by_anything_else_are_named(judge, weighed, cost, words):
    refused(judge("hole", weighed(cost)), words)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda top, low, w: (top, low, 0 * w), "shares of 1"),
        (lambda top, low, w: (top, low, 2 * w), "shares of 1"),
        (lambda top, low, w: (top, low, 1 - w), "shares of 1"),
        (lambda top, low, w: (top, low, w[:, None]), "weights has shape [32, 1]"),
        (lambda top, low, w: (top, low, w.argmax()), "weights has shape []"),
        (lambda top, low, w: (top, low, w.long()), "torch.int64"),
        (lambda top, low, w: (top, top, w), "z_bottom has shape [32, 4, 4]"),
        (lambda top, low, w: (top[0], low[0], w), "z_top has shape [4, 4]"),
        (lambda top, low, w: (top.float(), low, w), "whole numbers"),
        (lambda top, low, w: (top + K, low, w), f"codes run from 0 to {K - 1}"),
        (lambda top, low, w: (top, low), "2 thing(s)"),
        (lambda top, low, w: top, "a tensor of shape"),
        (lambda top, low, w: (top.numpy(), low, w), "a tensor is needed"),
        (
            lambda top, low, w: (top[:1].expand(32, 4, 4), low[:1].expand(32, 8, 8), w),
            "are the same",
        ),
    ],
)
def test_what_is_no_set_of_candidates_is_named(judge, weighed, spoil, words):
    refused(judge("hole", lambda *given: spoil(*weighed()(*given))), words)


def random_codes(known_top, known_bottom, label, count):
    """Codes that no prior would draw."""
    generator = torch.Generator().manual_seed(0)
    z = [
        torch.where(k < 0, torch.randint(K, (count, *k.shape), generator=generator), k)
        for k in (known_top, known_bottom)
    ]
    return *z, torch.full((count,), 1 / count)


@wrong(
    {
        "hole": [
            (random_codes, "hardly ever draw"),
            (
                lambda top, low, _, n: (top.expand(n, 4, 4), low.expand(n, 8, 8), top),
                "still has −1",
            ),
        ]
    }
)
def test_codes_that_are_not_drawn_are_named(check, answer, words, judge):
    refused(judge(check, answer), *words)


def test_a_hole_whose_function_gives_nothing_yet_is_not_attempted(judge):
    assert judge("hole", lambda *_: (None, None, None)).passed is None


def test_known_codes_that_are_not_kept_are_named(judge, weighed):
    def forgets(known_top, known_bottom, label, count):
        nothing = torch.full_like(known_bottom, -1)
        return weighed()(known_top, nothing, label, count)

    refused(judge("hole", forgets), "z_bottom of candidate 0 has code", "was known")


@pytest.mark.parametrize(("level", "pasted"), [(0, "top"), (1, "bottom")])
def test_known_codes_that_are_pasted_in_afterwards_are_found(
    judge, weighed, level, pasted
):
    def pastes(*given):
        *knowns, label, count = given
        known, knowns[level] = knowns[level], torch.full_like(knowns[level], -1)
        *grids, weight = weighed()(*knowns, label, count)
        grids[level] = torch.where(known < 0, grids[level], known)
        return *grids, weight

    refused(judge("hole", pastes), f"whatever {pasted} codes are known")


def test_holes_are_tried_in_which_known_codes_come_after_drawn_ones(vqvae2, pictures):
    for known in holes._holes(16, 4):
        for z in holes._known_grids(vqvae2, pictures[0][:1], known):
            unknown = (z.flatten() < 0).nonzero()
            assert len(unknown) and (z.flatten()[unknown[0] :] >= 0).any()


def test_the_answer_cannot_change_what_it_is_compared_with(judge, weighed):
    def writes(known_top, known_bottom, label, count):
        given = known_top.clone(), known_bottom.clone(), label, count
        z = weighed()(*given)
        known_top.zero_(), known_bottom.zero_(), label.zero_()
        return z

    assert judge("hole", writes)


# The most and the least surprising.


@pytest.fixture(scope="module")
def sums(prior, grids):
    nats = surprise(prior, *grids)
    return {level: nats[level].sum(dim=(1, 2)) for level in ("top", "bottom")}


def ends(costs):
    """The numbers of the largest and of the smallest cost."""
    return int(costs.argmax()), int(costs.argmin())


@pytest.fixture(scope="module")
def extremes(grids, sums):
    """The four numbers that are right."""
    both, labels = known(sums), grids[2]
    return *ends(torch.stack([both[labels == c].mean() for c in range(3)])), *ends(both)


def test_classes_by_their_mean_and_images_by_their_sum_are_right(
    judge, prior, grids, extremes
):
    assert judge("extremes", extremes)
    assert judge("extremes", torch.tensor(extremes))
    by_loss = []
    for i in range(12):
        losses = prior.loss_function(*(each[i : i + 1] for each in grids))
        by_loss.append(16 * losses["top_loss"] + 64 * losses["bottom_loss"])
    assert judge("extremes", [*extremes[:2], *ends(torch.stack(by_loss))])


def test_the_usual_mistakes_about_extremes_are_named(judge, sums, extremes):
    ranked = known(sums).argsort(descending=True).tolist()
    dear, cheap, most, least = extremes
    middle = 3 - dear - cheap
    # Images that are first or last by another measure have their own message.
    means = sums["top"] / 16 + sums["bottom"] / 64
    firsts, lasts = zip(*map(ends, (means, *sums.values())), strict=True)
    high = next(n for n in range(2, 12) if ranked[n] not in firsts)
    low = next(n for n in range(1, 12) if ranked[-1 - n] not in lasts)
    for answer, words in (
        ((dear, cheap, least, most), "both images are in the wrong order"),
        ((cheap, dear, most, least), "both classes are in the wrong order"),
        ((middle, cheap, most, least), f"cost more per image than class {middle}: 1"),
        ((dear, middle, most, least), f"cost less than class {middle}: 1"),
        ((3, cheap, most, least), "3 is no class"),
        (
            (dear, cheap, ranked[high], least),
            f"of 12 that surprise more than image {ranked[high]}: {high}",
        ),
        (
            (dear, cheap, most, ranked[-1 - low]),
            f"surprise less than image {ranked[-1 - low]}: {low}",
        ),
        ((dear, cheap, *ends(sums["top"])), "the top codes alone"),
        ((dear, cheap, *ends(sums["bottom"])), "the bottom codes alone"),
        ((dear, cheap, *ends(means)), "the sum of both means"),
        ((dear, cheap, 12, least), "12 is no image"),
        ((dear, cheap, most, 0.5), "0.5 is no image"),
        (most, "four whole numbers"),
        ((most, least), "four whole numbers"),
        ((dear, cheap, most, least, 3), "four whole numbers"),
    ):
        refused(judge("extremes", answer), words)


def test_classes_that_cost_most_in_all_are_told_from_those_by_the_mean(prior, grids):
    *z, _ = grids
    generator = torch.Generator().manual_seed(0)
    of_sums = of_means = ()
    while {*of_sums} == {*of_means}:
        labels = torch.randint(3, (12,), generator=generator)
        both = sum(
            each.sum(dim=(1, 2)) for each in surprise(prior, *z, labels).values()
        )
        groups = [both[labels == c] for c in range(3)]
        of_sums = ends(torch.stack([group.sum() for group in groups]))
        of_means = ends(torch.stack([group.mean() for group in groups]))
    verdict = check.extremes((*of_sums, *ends(both)), prior, *z, labels)
    refused(verdict, "an average over the images")


# Texture.


@pytest.fixture(scope="module")
def varied(vqvae2, prior):
    def new_texture(images, labels, seed):
        own = vqvae2.get_code_indices(images)["indices_top"]
        z = prior.sample(
            len(images), (4, 4), (8, 8), labels=labels, seed=seed, known_top=own
        )
        return *z, vqvae2.decode_codes(*z)

    return new_texture


def test_top_codes_kept_and_bottom_codes_drawn_are_right(judge, varied):
    def image_by_image(images, labels, seed):
        parts = [
            varied(images[i : i + 1], labels[i : i + 1], 10 * seed + i)
            for i in range(len(images))
        ]
        return [torch.cat(each) for each in zip(*parts, strict=True)]

    assert judge("texture", varied) and judge("texture", image_by_image)
    assert judge("texture", lambda *_: (None, None, None)).passed is None


def test_the_usual_mistakes_about_texture_are_named(judge, varied, vqvae2, prior):
    def with_other_codes(change):
        """An answer of the codes that `change` makes of the images' own and a seed."""

        def answer(images, labels, seed):
            codes = vqvae2.get_code_indices(images)
            z = codes["indices_top"], codes["indices_bottom"]
            z = change(*z, seed + int(labels.sum()), (images, labels, seed))
            return *z, vqvae2.decode_codes(*z)

        return answer

    def all_drawn(top, low, number, given):
        _, labels, seed = given
        return prior.sample(len(top), (4, 4), (8, 8), labels=labels, seed=seed)

    def uniform(top, low, number, given):
        torch.manual_seed(given[2])
        return top, torch.randint(K, low.shape)

    def one_changed(top, low, number, given):
        low[0, 0, 0] = (low[0, 0, 0] + 1 + number % 2) % K
        return top, low

    def upper_kept(top, low, number, given):
        return top, torch.cat([low[:, :4], varied(*given)[1][:, 4:]], dim=1)

    calls = []

    def another_each_time(images, labels, seed):
        calls.append(seed)
        return varied(images, labels, len(calls))

    for answer, words in (
        (with_other_codes(lambda top, low, *_: (top, low)), "nothing was drawn"),
        (with_other_codes(one_changed), "images' own, where a draw"),
        (with_other_codes(upper_kept), "in the upper half 100% of your bottom codes"),
        (with_other_codes(all_drawn), "outline is not kept"),
        (with_other_codes(uniform), "are they drawn given this top"),
        (lambda i, n, s: varied(i, 0 * n, s), "under another label"),
        (lambda i, n, s: varied(i, n.flip(0), s), "under another label"),
        (lambda i, n, s: varied(i, n, 0), "another seed gives the same"),
        (another_each_time, "the same seed gives other"),
        (lambda i, n, s: (*varied(i, n, s)[:2], i), "not what your two grids"),
        (lambda i, n, s: (*varied(i, n, s)[:2], i * torch.nan), "not what your two"),
        (lambda i, n, s: (*varied(i, n, s)[:2], i[:1]), "[1, 1, 16, 16]"),
        (lambda i, n, s: varied(i, n, s)[2], "three things are needed"),
        (lambda i, n, s: varied(i, n, s)[:2], "gives 2 things"),
        (lambda i, n, s: varied(i[:4], n, s)[::-1], "z_top has shape"),
        (  # for one batch size alone
            lambda i, n, s: varied(i.view(4, 1, 16, 16), n, s),
            "raised RuntimeError",
        ),
    ):
        refused(judge("texture", answer), words)
