"""The checks of the exercises by name, and answers that several tests give them."""

import math

import pytest
import torch
import torch.nn.functional as F

from pixelprior import HierarchicalPixelCNN, MaskedConv2d
from pixelprior.course.checks import (
    anomalies,
    blocks,
    bottom,
    editing,
    holes,
    judging,
    masks,
    pipeline,
    quantizing,
    sampling,
    scaling,
    slips,
    top,
)
from pixelprior.course.checks.verdict import Verdict
from pixelprior.layers import gate


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


def wrong(table):
    """A test for each wrong answer in a table {check: [(answer, *words), …]}."""
    rows = [(check, *row) for check, rows in table.items() for row in rows]
    return pytest.mark.parametrize(
        ("check", "answer", "words"), [(check, a, words) for check, a, *words in rows]
    )


def right(table):
    """A test for each right answer in a table {check: [answer, …]}."""
    rows = [(check, answer) for check, answers in table.items() for answer in answers]
    return pytest.mark.parametrize(("check", "answer"), rows)


def of_rows(change):
    """A step of a vertical stack, for notebook 06, that returns what `change` makes of
    its features, across and the residual, and what is kept."""

    def step(block, kept, new):
        rows = torch.cat([kept, new[:, :, None]], dim=2)
        seen = F.pad(rows[:, :, : block.extent], (block.padding, block.padding))
        features = block.vertical(seen)
        across = block.vertical_to_horizontal(features)
        residual = 0 if block.mask_a else new
        return *change(features[:, :, 0], across[:, :, 0], residual), rows[:, :, 1:]

    return step


def of_codes(change):
    """The same for a horizontal stack: `change` is given what comes from the left and
    from across, the last 1×1, what was kept, and the residual."""

    def step(block, kept, new, across):
        places = torch.cat([kept, new[:, :, None]], dim=2)
        left = block.horizontal(places[:, :, None, : block.extent])[:, :, 0, 0]

        def out(gated):
            return block.horizontal_out(gated[:, :, None, None])[:, :, 0, 0]

        h = change(left, across, out, kept, 0 if block.mask_a else new)
        return h, places[:, :, 1:]

    return step


row_step = of_rows(lambda f, a, v: (gate(f) + v, a))  # the right ones
code_step = of_codes(lambda x, a, out, k, h: out(gate(x + a)) + h)


K = 10
GRIDS = ((3, 4), (6, 8))
SMALL = {"num_embeddings": 32, "embedding_dim": 8, "hidden_channels": 32}
SMALL |= {"num_layers": 3}
P = torch.tensor([0.1, 0.4, 0.2, 0.3])

# By notebook. A stub of a check of functions may return None for what is not attempted;
# a step of a cached block is judged beside a right one of the other kind.
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
    "order_of_levels": lambda a, _: bottom.order_of_levels(a),
    "nats_per_image": lambda a, f: bottom.nats_per_image(
        a, f("prior"), f("codes").subset(torch.arange(1))
    ),
    "speed_up": lambda a, f: sampling.speed_up(a, f("plain_prior"), *GRIDS),
    "fewest_for_rows": lambda a, _: sampling.fewest_for_rows(a, 12),
    "batch_limit": lambda a, f: sampling.batch_limit(
        a, f("level"), (4, 5), f("memory_for_ten")
    ),
    "which": lambda a, f: slips.which(a, f("slipped"), *f("draw")),
    "numbers_of_code": lambda a, _: judging.numbers_of_code(a, P, 2, 0.5),
    "temperature": lambda a, f: judging.temperature(
        a, *f("shipped"), f("heldout_images"), count=100
    ),
    "extremes": lambda a, f: editing.extremes(a, f("prior"), *f("grids")),
    "largest_batch": lambda a, _: scaling.largest_batch(a, SMALL, 0.1),
    "areas": lambda a, f: anomalies.areas(a, f("level_scores")),
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
    "cached_step": lambda a, _: sampling.cached_step(a, a),
    "top_p": lambda a, _: judging.top_p(a),
    "distance_to_copies": lambda a, f: judging.distance_to_copies(
        a, f("training_images"), f("heldout_images")
    ),
    "hole": lambda a, f: holes.hole(a, f("vqvae2"), f("prior"), *f("pictures")),
    "texture": lambda a, f: editing.texture(a, f("vqvae2"), f("prior"), *f("pictures")),
    "sorted_folder": lambda a, _: scaling.sorted_folder(a),
    "published": lambda a, _: scaling.published(a),
    "threshold": lambda a, _: anomalies.threshold(a),
    "alarms": lambda a, _: anomalies.alarms(a),
}
STEPS = {
    "row_step": lambda a, _: sampling.cached_step(a, code_step),
    "code_step": lambda a, _: sampling.cached_step(row_step, a),
}
EVERY_CHECK = CHECKS | OF_FUNCTIONS | STEPS


def suspects(broken: int) -> list[torch.nn.Module]:
    """Five layers, of which the one with this number leaks."""
    torch.manual_seed(0)
    layers = [MaskedConv2d("A", 3, 4), torch.nn.ELU(), MaskedConv2d("B", 4, 4)]
    layers += [torch.nn.ELU(), MaskedConv2d("B", 4, 4)]
    layers[broken].mask[1, 1:] = 1
    return layers


def untrained_prior(**options):
    torch.manual_seed(0)
    return HierarchicalPixelCNN(8, 4, 6, 3, **options).eval()
