"""The checks of the exercises by name, and answers that several tests give them."""

import math

import pytest
import torch

from pixelprior import MaskedConv2d
from pixelprior.course.checks import (
    anomalies,
    blocks,
    bottom,
    editing,
    judging,
    masks,
    pipeline,
    quantizing,
    sampling,
    scaling,
    top,
)
from pixelprior.course.checks.verdict import Verdict


class Evil:
    """An answer whose `repr` raises an error."""

    def __repr__(self):
        raise RuntimeError("no words")


# No check takes one of these for right, and none ends in a traceback.
ODD = [Evil(), object(), "text", "", [], (), {"a": 1}, True, 6j, 10**400, len]
ODD += [-1, -7, -1.5, 1e300, math.nan, math.inf, (1, 2), (1, 2, 3), [3], ((1, 2), 3)]
ODD += [("a", "b"), ("a",) * 4, (0, 1, 2, "c"), (None,) * 4, (math.nan, 0), [1, None]]
ODD += [(math.inf,) * 4, torch.zeros(2, 3), torch.tensor([]), torch.tensor(math.nan)]
ODD += [torch.tensor(True), (torch.tensor(1j),) * 2, (torch.zeros(4, 4),) * 2]
ODD += [lambda: 0, lambda *_: 1 / 0, lambda *_: "text", lambda *_: math.nan]
ODD += [lambda *_: (1, 2), lambda *_: ("a", None), lambda *_: torch.zeros(3)]
ODD += [lambda *_: object(), lambda *given: given, lambda *given: given[0] * math.nan]
ODD += [lambda *given: given[0].long(), lambda *given: (math.nan * given[1],) * 3]


def refused(verdict: Verdict, *words: str) -> None:
    """The answer is told each of these words, and never that it is right."""
    assert verdict.passed is False, verdict
    assert verdict.words.startswith("not yet: ")
    for each in words:
        assert each in verdict.words, verdict


def wrong(**table):
    """The test that each wrong answer in check=[(answer, *words), …] is refused."""
    rows = [(check, *row) for check, rows in table.items() for row in rows]

    @pytest.mark.parametrize(
        ("check", "answer", "words"), [(check, a, words) for check, a, *words in rows]
    )
    def test(check, answer, words, judge):
        refused(judge(check, answer), *words)

    return test


def right(**table):
    """The test that each right answer in check=[answer, …] passes."""
    rows = [(check, answer) for check, answers in table.items() for answer in answers]

    @pytest.mark.parametrize(("check", "answer"), rows)
    def test(check, answer, judge):
        verdict = judge(check, answer)
        assert verdict, verdict

    return test


K = 10

# By notebook. A stub of a check of functions may return None for what is not attempted.
CHECKS = {
    "forward_passes": lambda a, _: pipeline.forward_passes(a, 2, (2, 3), (4, 6)),
    "pixels_of_code": lambda a, f: pipeline.pixels_of_code(
        a, f("shipped")[0], f("four_photographs"), (2, 5)
    ),
    "impostor": lambda a, f: pipeline.impostor(
        a, f("shipped")[1], f("swapped_photographs")
    ),
    "leaking_layer": lambda a, f: masks.leaking_layer(a, f("suspect"), (8, 8)),
    "parameters": lambda a, _: blocks.parameters(a, "B", 4, 4),
    "learning_rate": lambda a, f: top.learning_rate(a, *[f("repeating")] * 2),
    "nats_per_image": lambda a, f: bottom.nats_per_image(
        a, f("prior"), f("codes").subset(torch.arange(1))
    ),
    "stuck_block": lambda a, f: sampling.stuck_block(a, f("stuck"), *f("draw")),
    "reveals": lambda a, _: editing.reveals(a),
    "camera": lambda a, f: anomalies.camera(a, *f("camera_scores")),
}
OF_FUNCTIONS = {
    "bits": lambda a, _: pipeline.bits(a),
    "nearest": lambda a, _: quantizing.nearest(a),
    "straight_through": lambda a, _: quantizing.straight_through(a),
    "perplexity": lambda a, _: quantizing.perplexity(a),
    "renewal": lambda a, _: quantizing.renewal(a),
    "mask": lambda a, _: masks.mask(a),
    "draw": lambda a, _: masks.draw(a),
    "total": lambda a, _: masks.total(a),
    "gate": lambda a, _: blocks.gate(a),
    "wiring": lambda a, _: blocks.wiring(a),
    "blocks_needed": lambda a, _: blocks.blocks_needed(a),
    "nats": lambda a, _: top.nats(a),
    "step": lambda a, _: top.step(a),
    "left_neighbour": lambda a, _: top.left_neighbour(a),
    "conditional_gain": lambda a, f: bottom.conditional_gain(
        a, *f("twins"), f("codes")
    ),
    "enlarge": lambda a, _: bottom.enlarge(a),
    "gated_block": lambda a, _: bottom.gated_block(a),
    "roll": lambda a, _: sampling.roll(a),
    "cached": lambda a, _: sampling.cached(a),
    "rows_that_pay": lambda a, _: sampling.rows_that_pay(a),
    "inverse_cdf": lambda a, _: judging.inverse_cdf(a),
    "guided": lambda a, _: judging.guided(a),
    "top_p": lambda a, _: judging.top_p(a),
    "distance_to_copies": lambda a, f: judging.distance_to_copies(
        a, f("training_images"), f("heldout_images")
    ),
    "fill_in": lambda a, _: editing.fill_in(a),
    "known_codes": lambda a, _: editing.known_codes(a),
    "texture": lambda a, f: editing.texture(a, f("vqvae2"), f("prior"), *f("pictures")),
    "image_path": lambda a, _: scaling.image_path(a),
    "advice": lambda a, _: scaling.advice(a),
    "order": lambda a, _: scaling.order(a),
    "steps": lambda a, _: scaling.steps(a),
    "threshold": lambda a, _: anomalies.threshold(a),
    "p_values": lambda a, _: anomalies.p_values(a),
    "both_sides": lambda a, _: anomalies.both_sides(a),
}
EVERY_CHECK = CHECKS | OF_FUNCTIONS


def suspects(broken: int) -> list[torch.nn.Module]:
    """Five layers, of which the one with this number leaks."""
    torch.manual_seed(0)
    layers = [MaskedConv2d("A", 3, 4), torch.nn.ELU(), MaskedConv2d("B", 4, 4)]
    layers += [torch.nn.ELU(), MaskedConv2d("B", 4, 4)]
    layers[broken].mask[1, 1:] = 1
    return layers
