"""The checks of notebook 08 tell right answers from the usual mistakes."""

import pytest
import torch
import torch.nn.functional as F

from pixelprior import VQVAE2, HierarchicalPixelCNN, surprise, vary
from pixelprior.course.checks import editing as check
from pixelprior.course.checks import holes

K = 8
ODD = ("words", object(), torch.zeros(2, 3), float("nan"), {"a": 1}, [3], (1, 2, 3))
ODD += (True, -7, (torch.zeros(4, 4), torch.zeros(8, 8)), (float("nan"), 0), ("a", "b"))
ODD += ((0, 1, 2, 3), (0, 1, 2, "c"))
ODD += ([], (), torch.tensor([]), (torch.tensor(1j),) * 2, ([1], [2]), ((1, 2), 3))


def raises(*_):
    raise RuntimeError("no")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """With so few numbers, more threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def vqvae2():
    torch.manual_seed(0)
    model = VQVAE2(1, 16, hidden_channels=8, embedding_dim=4, num_embeddings=K)
    model.train().loss_function(torch.rand(16, 1, 16, 16))
    return model.eval()


@pytest.fixture(scope="module")
def prior():
    """An untrained prior with confident predictions, so that candidates differ."""
    torch.manual_seed(1)
    prior = HierarchicalPixelCNN(K, 4, 8, 2, num_classes=3).eval()
    for level in (prior.prior_top, prior.prior_bottom):
        level.head[-1].weight.data *= 20
    return prior


@pytest.fixture(scope="module")
def some():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(4, 1, 4, 4, generator=generator)
    return F.interpolate(images, size=(16, 16)), torch.tensor([0, 1, 2, 0])


# A hole.


@pytest.fixture(scope="module")
def hole(vqvae2, prior, some):
    return lambda answer: holes.hole(answer, vqvae2, prior, *some)


@pytest.fixture(scope="module")
def candidates(prior):
    """Draws for one hole, and the costs of codes: top and bottom, known and drawn."""

    def drawn(known_top, known_bottom, label, count, **changed):
        labels = torch.full((count,), int(label))
        known = {
            "known_top": known_top.expand(count, -1, -1),
            "known_bottom": known_bottom.expand(count, -1, -1),
        }
        z = prior.sample(
            count, (4, 4), (8, 8), labels=labels, seed=3, **{**known, **changed}
        )
        nats = surprise(prior, *z, labels)
        costs = {}
        for level, k in (("top", known_top), ("bottom", known_bottom)):
            costs[level] = (nats[level] * (k >= 0)).sum(dim=(1, 2))
            costs[f"drawn {level}"] = (nats[level] * (k < 0)).sum(dim=(1, 2))
            costs[f"mean {level}"] = costs[level] / (k >= 0).sum()
        return *z, costs

    return drawn


@pytest.fixture(scope="module")
def weighed(candidates):
    """An answer whose weights are softmax(-cost), by default of the known codes."""

    def answer(cost=lambda costs: costs["top"] + costs["bottom"]):
        def complete(*given):
            z_top, z_bottom, costs = candidates(*given)
            return z_top, z_bottom, (-cost(costs)).softmax(dim=0)

        return complete

    return answer


@pytest.fixture(scope="module")
def one_by_one(prior):
    """The same answer in another way: batches of one, and products by hand."""

    def complete(known_top, known_bottom, label, count):
        found = []
        for seed in range(count):
            z = prior.sample(
                1,
                (4, 4),
                (8, 8),
                labels=label,
                seed=100 + seed,
                known_top=known_top[None],
                known_bottom=known_bottom[None],
            )
            with torch.no_grad():
                log_top = prior.prior_top(z[0], label).log_softmax(1)
                log_low = prior.prior_bottom(z[1], z[0], label).log_softmax(1)
            top = log_top.gather(1, z[0][:, None])[0, 0][known_top >= 0].sum()
            low = log_low.gather(1, z[1][:, None])[0, 0][known_bottom >= 0].sum()
            found.append((z[0].int(), z[1].int(), (top + low).double()))
        z_top, z_bottom, log = zip(*found, strict=True)
        weight = torch.stack(log).exp()
        return torch.cat(z_top), torch.cat(z_bottom), weight / weight.sum()

    return complete


def test_a_hole_is_not_attempted_while_nothing_is_given(hole):
    for stub in (None, lambda *_: None, lambda *_: (None, None, None)):
        assert hole(stub).passed is None


def test_candidates_weighed_by_the_cost_of_their_known_codes_are_right(
    hole, weighed, one_by_one
):
    assert hole(weighed()) and hole(one_by_one)


@pytest.mark.parametrize(
    ("cost", "words"),
    [
        (lambda c: c["bottom"], "the known bottom codes alone"),
        (lambda c: c["top"], "the known top codes alone"),
        (lambda c: c["mean top"] + c["mean bottom"], "those of means"),
        (lambda c: c["drawn top"] + c["drawn bottom"], "those of the drawn codes"),
        (
            lambda c: sum(v for name, v in c.items() if "mean" not in name),
            "those of all codes",
        ),
        (lambda c: -c["top"] - c["bottom"], "the most expensive has the largest"),
        (lambda c: 1e6 * (c["top"] + c["bottom"]), "has all the weight"),
        (lambda c: 0 * c["top"], "all candidates weigh the same"),
        (lambda c: 0.5 * (c["top"] + c["bottom"]), "by the cost of its known codes"),
        (lambda c: torch.nan * c["top"], "0 / 0"),
    ],
)
def test_weights_by_anything_else_are_named(hole, weighed, cost, words):
    verdict = hole(weighed(cost))
    assert verdict.passed is False and words in verdict.words, verdict


@pytest.mark.parametrize("change", [torch.zeros_like, lambda w: 2 * w, lambda w: 1 - w])
def test_weights_that_do_not_sum_to_1_are_named(hole, weighed, change):
    def answer(*given):
        z_top, z_bottom, weight = weighed()(*given)
        return z_top, z_bottom, change(weight)

    verdict = hole(answer)
    assert verdict.passed is False and "shares of 1" in verdict.words


def test_one_draw_repeated_is_no_set_of_candidates(hole, weighed):
    def answer(*given):
        z_top, z_bottom, weight = weighed()(*given)
        return (
            z_top[:1].expand_as(z_top),
            z_bottom[:1].expand_as(z_bottom),
            torch.full_like(weight, 1 / len(weight)),
        )

    verdict = hole(answer)
    assert verdict.passed is False and "are the same" in verdict.words


def test_known_codes_that_are_not_kept_are_named(hole, candidates):
    def forgets(known_top, known_bottom, label, count):
        nothing = torch.full_like(known_bottom, -1)
        z_top, z_bottom, _ = candidates(known_top, nothing, label, count)
        return z_top, z_bottom, torch.full((count,), 1 / count)

    verdict = hole(forgets)
    assert verdict.passed is False
    assert "z_bottom of candidate 0 has code" in verdict.words
    assert "was known" in verdict.words


@pytest.mark.parametrize("pasted", ["top", "bottom"])
def test_known_codes_that_are_pasted_in_afterwards_are_found(hole, weighed, pasted):
    def pastes(known_top, known_bottom, label, count):
        knowns = {"top": known_top, "bottom": known_bottom}
        given = dict(knowns)
        given[pasted] = torch.full_like(knowns[pasted], -1)
        *grids, weight = weighed()(*given.values(), label, count)
        grids = dict(zip(("top", "bottom"), grids, strict=True))
        known = knowns[pasted]
        grids[pasted] = torch.where(known < 0, grids[pasted], known)
        return *grids.values(), weight

    verdict = hole(pastes)
    assert verdict.passed is False
    assert f"whatever {pasted} codes are known" in verdict.words


def test_codes_that_no_prior_would_draw_are_named(hole):
    generator = torch.Generator().manual_seed(0)

    def random(known_top, known_bottom, label, count):
        z = [
            torch.where(
                k < 0, torch.randint(K, (count, *k.shape), generator=generator), k
            )
            for k in (known_top, known_bottom)
        ]
        return *z, torch.full((count,), 1 / count)

    verdict = hole(random)
    assert verdict.passed is False and "hardly ever draw" in verdict.words


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda top, low, w: (top, top, w), "z_bottom has shape [32, 4, 4]"),
        (lambda top, low, w: (top[0], low[0], w), "z_top has shape [4, 4]"),
        (lambda top, low, w: (top.float(), low, w), "whole numbers"),
        (lambda top, low, w: (top + K, low, w), "codes run from 0 to 7"),
        (lambda top, low, w: (top, low), "2 thing(s)"),
        (lambda top, low, w: top, "a tensor of shape"),
        (lambda top, low, w: (top.numpy(), low, w), "a tensor is needed"),
        (lambda top, low, w: (top, low, w[:, None]), "weights has shape [32, 1]"),
        (lambda top, low, w: (top, low, w.argmax()), "weights has shape []"),
        (lambda top, low, w: (top, low, w.long()), "torch.int64"),
    ],
)
def test_what_is_no_set_of_candidates_is_named(hole, weighed, spoil, words):
    verdict = hole(lambda *given: spoil(*weighed()(*given)))
    assert verdict.passed is False and words in verdict.words, verdict


def test_places_left_unknown_are_named(hole):
    verdict = hole(
        lambda top, low, _, n: (top.expand(n, 4, 4), low.expand(n, 8, 8), top)
    )
    assert verdict.passed is False and "still has −1" in verdict.words


def test_holes_are_tried_in_which_known_codes_come_after_drawn_ones(vqvae2, some):
    for known in holes._holes(16, 4):
        for z in holes._known_grids(vqvae2, some[0][:1], known):
            unknown = (z.flatten() < 0).nonzero()
            assert len(unknown) and (z.flatten()[unknown[0] :] >= 0).any()


# The most and the least surprising.


@pytest.fixture(scope="module")
def grids(prior):
    generator = torch.Generator().manual_seed(2)
    labels = torch.arange(12) % 3
    z = prior.sample(12, (4, 4), (8, 8), labels=labels, seed=0)
    for which in z:  # some codes are changed, so that the levels disagree
        for image in range(0, 12, 2):
            count = int(torch.randint(1, 6, (), generator=generator))
            flat = which[image].view(-1)
            positions = torch.randperm(flat.numel(), generator=generator)[:count]
            flat[positions] = torch.randint(K, (count,), generator=generator)
    return *z, labels


@pytest.fixture(scope="module")
def sums(prior, grids):
    nats = surprise(prior, *grids)
    return {level: nats[level].sum(dim=(1, 2)) for level in ("top", "bottom")}


@pytest.fixture(scope="module")
def ends(grids, sums):
    """The four numbers that are right."""
    both, labels = sums["top"] + sums["bottom"], grids[2]
    means = [float(both[labels == c].mean()) for c in range(3)]
    order = sorted(range(3), key=means.__getitem__)
    return order[-1], order[0], int(both.argmax()), int(both.argmin())


def test_classes_by_their_mean_and_images_by_their_sum_are_right(prior, grids, ends):
    assert check.extremes(None, prior, *grids).passed is None
    assert check.extremes(ends, prior, *grids)
    assert check.extremes(torch.tensor(ends), prior, *grids)
    by_loss = []
    for i in range(12):
        losses = prior.loss_function(*(each[i : i + 1] for each in grids))
        by_loss.append(16 * losses["top_loss"] + 64 * losses["bottom_loss"])
    order = torch.stack(by_loss).argsort().tolist()
    assert check.extremes([*ends[:2], order[-1], order[0]], prior, *grids)


def test_the_usual_mistakes_about_extremes_are_named(prior, grids, sums, ends):
    both = sums["top"] + sums["bottom"]
    ranked = both.argsort(descending=True).tolist()
    dear, cheap, most, least = ends
    middle = 3 - dear - cheap
    # Images that are first or last by another measure have their own message.
    counts = (sums["top"] / 16 + sums["bottom"] / 64, *sums.values())
    firsts = {int(each.argmax()) for each in counts}
    lasts = {int(each.argmin()) for each in counts}
    high = next(n for n in range(2, 12) if ranked[n] not in firsts)
    low = next(n for n in range(1, 12) if ranked[-1 - n] not in lasts)
    for answer, words in (
        ((dear, cheap, least, most), "both images are in the wrong order"),
        ((cheap, dear, most, least), "both classes are in the wrong order"),
        (
            (middle, cheap, most, least),
            f"cost more per image than class {middle}: 1",
        ),
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
        ((dear, cheap, 12, least), "12 is no image"),
        ((dear, cheap, most, 0.5), "0.5 is no image"),
        (most, "four whole numbers"),
        ((most, least), "four whole numbers"),
        ((dear, cheap, most, least, 3), "four whole numbers"),
    ):
        verdict = check.extremes(answer, prior, *grids)
        assert verdict.passed is False and words in verdict.words, verdict
    for level in ("top", "bottom"):
        alone = int(sums[level].argmax()), int(sums[level].argmin())
        if set(alone) != {most, least}:
            verdict = check.extremes((dear, cheap, *alone), prior, *grids)
            assert f"the {level} codes alone" in verdict.words, verdict


def test_classes_that_cost_most_in_all_are_told_from_those_by_the_mean(prior, grids):
    z_top, z_bottom, _ = grids
    generator = torch.Generator().manual_seed(0)
    wrong = right = None
    while wrong == right:  # until sum and mean differ in the class
        many = torch.randint(3, (12,), generator=generator)
        nats = surprise(prior, z_top, z_bottom, many)
        both = nats["top"].sum(dim=(1, 2)) + nats["bottom"].sum(dim=(1, 2))
        groups = [both[many == c] for c in range(3)]
        wrong, right = (
            (int(each.argmax()), int(each.argmin()))
            for each in (
                torch.stack([group.sum() for group in groups]),
                torch.stack([group.mean() for group in groups]),
            )
        )
    answer = *wrong, int(both.argmax()), int(both.argmin())
    verdict = check.extremes(answer, prior, z_top, z_bottom, many)
    assert "an average over the images" in verdict.words, verdict


# Texture.


@pytest.fixture(scope="module")
def texture(vqvae2, prior, some):
    return lambda answer: check.texture(answer, vqvae2, prior, *some)


@pytest.fixture(scope="module")
def varied(vqvae2, prior):
    def new_texture(images, labels, seed):
        own = vqvae2.get_code_indices(images)["indices_top"]
        z = prior.sample(
            len(images), (4, 4), (8, 8), labels=labels, seed=seed, known_top=own
        )
        return *z, vqvae2.decode_codes(*z)

    return new_texture


def test_top_codes_kept_and_bottom_codes_drawn_are_right(
    texture, varied, vqvae2, prior
):
    assert texture(None).passed is None
    assert texture(lambda *_: (None, None, None)).passed is None
    assert texture(varied)

    def image_by_image(images, labels, seed):
        parts = [
            varied(images[i : i + 1], labels[i : i + 1], 10 * seed + i)
            for i in range(len(images))
        ]
        return [torch.cat(each) for each in zip(*parts, strict=True)]

    assert texture(image_by_image)


def test_the_pictures_are_those_of_vary(varied, vqvae2, prior, some):
    pictures = varied(*some, 4)[2]
    package = vary(vqvae2, prior, some[0], labels=some[1], seed=4)
    torch.testing.assert_close(pictures, package)


def test_the_usual_mistakes_about_texture_are_named(
    texture, varied, vqvae2, prior, some
):
    def parts(images, labels, seed):
        codes = vqvae2.get_code_indices(images)
        return codes["indices_top"], codes["indices_bottom"]

    def nothing_drawn(images, labels, seed):
        z = parts(images, labels, seed)
        return *z, vqvae2.decode_codes(*z)

    def all_drawn(images, labels, seed):
        z = prior.sample(len(images), (4, 4), (8, 8), labels=labels, seed=seed)
        return *z, vqvae2.decode_codes(*z)

    def uniform(images, labels, seed):
        torch.manual_seed(seed)
        z = parts(images, labels, seed)[0], torch.randint(K, (len(images), 8, 8))
        return *z, vqvae2.decode_codes(*z)

    def one_changed(images, labels, seed):
        z_top, z_bottom = parts(images, labels, seed)
        number = seed + int(labels.sum())
        z_bottom[0, 0, 0] = (z_bottom[0, 0, 0] + 1 + number % 2) % K
        return z_top, z_bottom, vqvae2.decode_codes(z_top, z_bottom)

    def upper_kept(images, labels, seed):
        z_top, own = parts(images, labels, seed)
        z_bottom = varied(images, labels, seed)[1]
        z_bottom[:, :4] = own[:, :4]
        return z_top, z_bottom, vqvae2.decode_codes(z_top, z_bottom)

    calls = []

    def another_each_time(images, labels, seed):
        calls.append(seed)
        return varied(images, labels, len(calls))

    for answer, words in (
        (nothing_drawn, "nothing was drawn"),
        (one_changed, "images' own, where a draw"),
        (upper_kept, "in the upper half 100% of your bottom codes"),
        (lambda i, n, s: varied(i, 0 * n, s), "under another label"),
        (lambda i, n, s: varied(i, n.flip(0), s), "under another label"),
        (lambda i, n, s: varied(i, n, 0), "another seed gives the same"),
        (another_each_time, "the same seed gives other"),
        (all_drawn, "outline is not kept"),
        (uniform, "are they drawn given this top"),
        (lambda i, n, s: (*varied(i, n, s)[:2], i), "not what your two grids"),
        (lambda i, n, s: (*varied(i, n, s)[:2], i * torch.nan), "not what your two"),
        (lambda i, n, s: (*varied(i, n, s)[:2], i[:1]), "[1, 1, 16, 16]"),
        (lambda i, n, s: varied(i, n, s)[2], "three things are needed"),
        (lambda i, n, s: varied(i, n, s)[:2], "gives 2 things"),
        (lambda i, n, s: varied(i[:4], n, s)[::-1], "z_top has shape"),
    ):
        verdict = texture(answer)
        assert verdict.passed is False and words in verdict.words, verdict


def test_a_function_for_one_batch_size_alone_is_not_enough(texture, varied):
    def four(images, labels, seed):
        return varied(images.view(4, 1, 16, 16), labels, seed)

    verdict = texture(four)
    assert verdict.passed is False and "raised RuntimeError" in verdict.words


# Any answer.


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: type(odd).__name__)
def test_no_odd_answer_ends_in_an_exception(
    odd, hole, texture, vqvae2, prior, grids, some
):
    for verdict in (
        hole(odd),
        hole(lambda *_: odd),
        hole(raises),
        texture(odd),
        texture(lambda *_: odd),
        texture(raises),
        check.extremes(odd, prior, *grids),
    ):
        assert verdict.passed is False and verdict.words.startswith("not yet: ")


def test_the_answer_cannot_change_what_it_is_compared_with(hole, weighed):
    def writes(known_top, known_bottom, label, count):
        given = known_top.clone(), known_bottom.clone(), label, count
        z = weighed()(*given)
        known_top.zero_(), known_bottom.zero_(), label.zero_()
        return z

    assert hole(writes)
