"""The checks of notebook 05 tell right answers from the usual mistakes."""

import pytest
import torch
import torch.nn.functional as F
from answers import refused, right, wrong

from pixelprior.course.causality import leak
from pixelprior.course.checks import bottom as check
from pixelprior.evaluation.measures import erase_top, image_nats
from pixelprior.layers import GatedBlock, gate
from pixelprior.pixelcnn import ConditionalPixelCNN


def raises(*_):
    raise RuntimeError("no")


def gain_by_package(with_top, without_top, codes):
    nats = image_nats(without_top, erase_top(codes)) - image_nats(with_top, codes)
    return nats.mean() / codes.z_bottom[0].numel()


@torch.no_grad()
def gain_by_hand(with_top, without_top, codes):
    z_top, z_bottom, labels = codes.batch(torch.arange(len(codes)))
    right = F.cross_entropy(with_top(z_bottom, z_top, labels), z_bottom)
    alone = F.cross_entropy(without_top(z_bottom, 0 * z_top, labels), z_bottom)
    return (alone - right).item()


def per_code(network, codes):
    return image_nats(network, codes).mean().item() / codes.z_bottom[0].numel()


def by_index(features):
    rows, columns = (torch.arange(2 * side) // 2 for side in features.shape[2:])
    return features[:, :, rows][..., columns]


def by_repetition(features):
    return features.repeat_interleave(2, 2).repeat_interleave(2, 3)


def by_new_axes(features):
    b, p, h, w = features.shape
    squares = features[:, :, :, None, :, None].expand(-1, -1, -1, 2, -1, 2)
    return squares.reshape(b, p, 2 * h, 2 * w)


def block_with(into_up=None, *, v=None, across=None, new_v=None, link_first=False):
    """The block of the notebook with changes at some of its places, each a function of
    the block, the tensor there and the condition."""

    def apply(change, block, tensor, condition):
        return tensor if change is None else change(block, tensor, condition)

    def answer(block, old_v, h, condition):
        end = -1 if block.mask_a else 0
        up = apply(v, block, old_v, condition)
        up = block.vertical(F.pad(up, (1, 1, 1, end)))
        linked = block.vertical_to_horizontal(up)
        up = apply(into_up, block, up, condition)
        if not link_first:
            linked = block.vertical_to_horizontal(up)
        sum_ = linked + block.horizontal(F.pad(h, (1, end, 0, 0)))
        sum_ = apply(across, block, sum_, condition)
        up, out = gate(up), block.horizontal_out(gate(sum_))
        up = apply(new_v, block, up, condition)
        return (up, out) if block.mask_a else (old_v + up, h + out)

    return answer


def added(block, tensor, condition):
    return tensor + block.condition(condition)


def by_weights(block, tensor, condition):
    weight = block.condition.weight[:, :, 0, 0]
    return tensor + torch.einsum("oc,bchw->bohw", weight, condition)


def as_it_is(_, tensor, condition):
    return tensor + condition


@right(
    {
        "conditional_gain": [gain_by_package, gain_by_hand],
        "enlarge": [by_index, by_repetition, by_new_axes, check.enlarged],
        "gated_block": [
            GatedBlock.forward,
            block_with(added),
            block_with(by_weights),
            lambda *given: list(block_with(added)(*given)),
        ],
    }
)
def test_a_right_answer_passes_however_it_is_written(check, answer, judge):
    assert judge(check, answer)


@wrong(
    {
        "conditional_gain": [
            (lambda *given: -gain_by_package(*given), "wrong sign"),
            (lambda *given: 64 * gain_by_package(*given), "nats per image"),
            (
                lambda a, b, c: per_code(a, erase_top(c)) - per_code(a, c),
                "trained with them",
            ),
            (lambda a, b, c: per_code(b, c) - per_code(a, c), "never saw"),
            (lambda a, b, c: per_code(a, c), "one of the two"),
            (lambda *_: 100.0, "another gain"),
            (lambda a, b, c: c.z_top.zero_().sum(), "changes the codes"),
            (
                lambda a, b, c: gain_by_package(a, b, c) * c.z_bottom[0].numel() / 64,
                "6 × 10",  # right for one grid size alone
            ),
            (raises, "raised RuntimeError"),
        ],
        "enlarge": [
            (lambda t: t.repeat(1, 1, 2, 2), "side by side"),
            (lambda t: t, "shape [2, 3, 8, 8], but [2, 3, 16, 16]"),
            (lambda t: t.repeat_interleave(2, 2), "shape [2, 3, 16, 8]"),
            (
                lambda t: t.repeat_interleave(2, 2).repeat(1, 1, 1, 2),
                "(0, 1) has the features of top position (0, 1), and belongs to (0, 0)",
            ),
            (
                lambda t: t.repeat_interleave(4, 3).reshape(
                    *t.shape[:2], -1, 2 * t.shape[3]
                ),
                "belongs to",  # one after the other, in blocks of four
            ),
            (lambda t: by_index(t.flip(2)), "belongs to"),
            (lambda t: by_index(t).roll(1, 3), "belongs to"),
            (
                lambda t: F.interpolate(t, scale_factor=2, mode="bilinear"),
                "several mixed",
            ),
            (lambda t: by_index(t).detach(), "no gradient"),
            (raises, "raised RuntimeError"),
        ],
        "gated_block": [
            (block_with(), "changes nothing yet"),
            (block_with(added, link_first=True), "reaches v and not h"),
            (block_with(across=added), "reaches h and not v"),
            (block_with(as_it_is), "must match", "which convolution"),
            (
                block_with(lambda block, up, _: up + block.condition(up)),
                "channels",
                "which convolution",
            ),
            (block_with(v=as_it_is), "not as in the equation"),
            (block_with(new_v=as_it_is), "after the gate"),
            (
                block_with(lambda block, up, c: up * block.condition(c)),
                "what the condition gives is added",
            ),
            (
                block_with(lambda block, up, c: up - block.condition(c)),
                "not as in the equation",
            ),
            (
                block_with(
                    lambda b, up, c: up + F.pad(b.condition(c)[:, :4], (0,) * 5 + (4,))
                ),
                "to all 2p channels",  # the features alone
            ),
            (lambda block, v, h, c: block(v, h, c)[::-1], "zeros"),
            (lambda block, v, h, c: block(v, h, c)[0], "and not new v and new h"),
            (raises, "raised RuntimeError"),
        ],
    }
)
def test_another_answer_hears_what_is_wrong_with_it(check, answer, words, judge):
    refused(judge(check, answer), *words)


@pytest.fixture(scope="module")
def levels(prior, codes):
    """Nats of the first image by its top codes and by its bottom codes."""
    return [
        image_nats(level, codes)[0] for level in (prior.prior_top, prior.prior_bottom)
    ]


def test_the_sum_over_both_levels_is_the_nats_of_an_image(levels, prior, codes, judge):
    assert judge("nats_per_image", sum(levels))
    losses = prior.loss_function(*codes.batch(torch.arange(1)))
    by_losses = 16 * losses["top_loss"] + 64 * losses["bottom_loss"]
    assert judge("nats_per_image", by_losses.item())


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda top, bottom: top, "one level alone"),
        (lambda top, bottom: bottom.item(), "one level alone"),
        (lambda top, bottom: -(top + bottom), "sign"),
        (lambda top, bottom: (top + bottom) / 80, "a mean over codes"),
        (lambda *_: 1e6, "add the nats of both"),
    ],
)
def test_another_cost_of_an_image_is_named(answer, words, levels, judge):
    refused(judge("nats_per_image", answer(*levels)), words)


# What the notebook is drawn from.


class Small(ConditionalPixelCNN):
    """Counts how often it is called."""

    calls = 0

    def logits(self, codes, condition):
        Small.calls += 1
        return super().logits(codes, condition)


def test_a_curve_is_the_same_each_time_and_falls(codes):
    data = codes.subset(torch.arange(384) % 6)
    one, other = (check.learning_curve(Small, data, codes) for _ in range(2))
    assert one == other and len(one) == 3 and one[0] > one[1] > one[2]
    assert Small.calls == 2 * (72 + 3)  # for each step, and for each point


def test_another_of_the_class_is_another_image_of_the_class():
    labels = torch.tensor([3, 5, 3, 5, 5])
    assert check.another_of_its_class(labels).tolist() == [2, 3, 0, 1, 1]


def test_a_network_takes_over_config_and_weights(prior, codes):
    z_top, z_bottom, labels = codes.batch(torch.arange(6))
    taken = check.with_weights_of(Small, prior.prior_bottom)
    assert isinstance(taken, Small) and not taken.training
    with torch.no_grad():
        logits = [
            level(z_bottom, z_top, labels) for level in (taken, prior.prior_bottom)
        ]
    assert torch.equal(*logits)


def test_what_a_code_sees_is_its_past_and_the_top_on_all_sides(prior, codes):
    codes = codes.subset(torch.arange(8) % 6)
    bottom, top = check.seen(prior.prior_bottom, codes, (4, 4))
    assert leak(bottom, (4, 4)) is None and bottom[4, 3] and bottom[3, 5]
    assert top.shape == (4, 4) and top[3, 3] and top.all()
    assert not prior.prior_bottom.embedding._forward_hooks


def test_costs_are_sorted_and_curves_have_their_steps(codes):
    figure = check.bars(*map(torch.tensor, (1.0, 2.0, 9.0, 5.0)))
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    assert heights == sorted(heights) and len(heights) == 5
    lines = check.curves([3.0, 2.0], [2.0, 1.0], codes).axes[0].lines
    assert lines[0].get_xdata().tolist() == [24, 48]
