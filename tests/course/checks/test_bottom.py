"""The checks of notebook 05 tell right answers from the usual mistakes."""

import torch
import torch.nn.functional as F
from answers import refused, right, wrong

from pixelprior.course.causality import leak
from pixelprior.course.checks import bottom as check
from pixelprior.course.checks.blocks import horizontal, vertical
from pixelprior.evaluation.measures import erase_top, image_nats
from pixelprior.layers import gate


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


def block_with(where, term=lambda block, condition: block.condition(condition)):
    """The block of the notebook, which adds the `term` of the condition somewhere."""

    def answer(block, v, h, condition):
        def plus(place, tensor):
            return tensor + term(block, condition) if place == where else tensor

        up = plus("up", vertical(plus("v", v), block))
        across = block.vertical_to_horizontal(up) + horizontal(h, block)
        new_v = plus("new v", gate(plus("gate", up)))
        new_h = block.horizontal_out(gate(plus("across", across)))
        return (new_v, new_h) if block.mask_a else (v + new_v, h + new_h)

    return answer


def by_weights(block, condition):
    weight = block.condition.weight[:, :, 0, 0]
    return torch.einsum("oc,bchw->bohw", weight, condition)


def as_it_is(_, condition):
    return condition


test_a_right_answer_passes_however_it_is_written = right(
    conditional_gain=[gain_by_package, gain_by_hand],
    enlarge=[by_index, lambda t: F.interpolate(t, scale_factor=2)],
    gated_block=[block_with("up"), block_with("up", by_weights)],
)


test_another_answer_hears_what_is_wrong_with_it = wrong(
    conditional_gain=[
        (
            lambda a, b, c: per_code(a, erase_top(c)) - per_code(a, c),
            "trained with them",
        ),
        (lambda a, b, c: per_code(b, c) - per_code(a, c), "never saw"),
        (lambda *given: -gain_by_package(*given), "whose nats are smaller"),
        (
            lambda a, b, c: gain_by_package(a, b, c) * c.z_bottom[0].numel() / 64,
            "6 × 10",  # right for one grid size alone
        ),
    ],
    enlarge=[
        (lambda t: t.repeat(1, 1, 2, 2), "side by side"),
        (
            lambda t: F.interpolate(t, scale_factor=2, mode="bilinear"),
            "several mixed",
        ),
        (
            lambda t: t.repeat_interleave(2, 2).repeat(1, 1, 1, 2),
            "position (0, 1) does not have the features of top position (0, 0)",
        ),
        (lambda t: F.interpolate(t, size=(16, 16)), "for 2 × 3 has shape"),
    ],
    gated_block=[
        (block_with("nowhere"), "does not reach v"),
        (block_with("across"), "does not reach v"),
        (block_with("gate"), "reaches v and not h"),
        (block_with("up", as_it_is), "must match"),
        (block_with("v", as_it_is), "not as in the equation"),
        (block_with("new v", as_it_is), "not as in the equation"),
    ],
)


def test_the_sum_over_both_levels_is_the_nats_of_an_image(prior, codes, judge):
    levels = prior.prior_top, prior.prior_bottom
    top, bottom = (image_nats(level, codes)[0] for level in levels)
    assert judge("nats_per_image", top + bottom)
    refused(judge("nats_per_image", top), "one level alone")
    refused(judge("nats_per_image", bottom.item()), "one level alone")
    refused(judge("nats_per_image", -(top + bottom)), "sign")
    refused(judge("nats_per_image", (top + bottom) / 80), "add the nats of both")


def test_another_of_the_class_is_another_image_of_the_class():
    labels = torch.tensor([3, 5, 3, 5, 5])
    assert check.another_of_its_class(labels).tolist() == [2, 3, 0, 1, 1]


def test_what_a_code_sees_is_its_past_and_the_top_on_all_sides(prior, codes):
    codes = codes.subset(torch.arange(8) % 6)
    bottom, top = check.seen(prior.prior_bottom, codes, (4, 4))
    assert leak(bottom, (4, 4)) is None and bottom[4, 3] and bottom[3, 5]
    assert top.shape == (4, 4) and top.all()
    assert not prior.prior_bottom.embedding._forward_hooks
