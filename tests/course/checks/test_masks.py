"""Checks of notebook 02: masks, draws, sums and leaks are judged by what they do."""

import torch
from answers import right, suspects, wrong
from torch.distributions import Categorical
from torch.nn.functional import cross_entropy

from pixelprior.course.checks import masks as check


def by_numbers(mask_type, size):
    numbers = torch.arange(size * size).view(size, size)
    return numbers < size * size // 2 + (mask_type == "B")


def multinomial(logits):
    return torch.multinomial(logits.softmax(dim=1), 1)[:, 0]


def raster(height, width):
    return [(y, x) for y in range(height) for x in range(width)]


def columns(height, width):
    return [(y, x) for x in range(width) for y in range(height)]


def drawing(choose=multinomial, order=raster, step=0):
    """An answer that takes the logits `step` positions away from the one it draws."""

    def answer(network, codes):
        for y, x in order(*codes.shape[1:]):
            codes[:, y, x] = choose(network(codes)[:, :, y, x - step])
        return codes

    return answer


def of_all(network, codes):
    """One code for each position from one pass."""
    return Categorical(network(codes).softmax(dim=1).movedim(1, -1)).sample()


def row_by_row(network, codes):
    for y in range(codes.shape[1]):
        codes[:, y] = of_all(network, codes)[:, y]
    return codes


def factors(network, grids):
    return network(grids).softmax(dim=1).gather(1, grids[:, None])[:, 0]


test_a_right_answer_passes_in_any_form = right(
    mask=[by_numbers, lambda *given: by_numbers(*given).long()],
    draw=[
        drawing(lambda logits: Categorical(logits=logits).sample()),
        lambda network, codes: drawing()(network, torch.zeros_like(codes)),
    ],
    total=[
        lambda *given: factors(*given).prod(dim=2).prod(dim=1).sum(),
        lambda *given: factors(*given).log().sum(dim=(1, 2)).exp().sum().double(),
    ],
    leaking_layer=[2, torch.tensor(2)],
)


test_another_answer_hears_what_is_wrong_with_it = wrong(
    mask=[
        (lambda _, k: by_numbers("A", k), "mask B of size 3 hides the middle"),
        (lambda _, k: by_numbers("B", k), "mask A of size 3, a position sees"),
        (lambda t, k: torch.ones(k, k).tril(), "has a 0 at (0, 1), in the past"),
        (lambda t, k: by_numbers(t, k) + by_numbers(t, k).flip(0), "the future"),
        (lambda t, k: by_numbers(t, 3), "size 5 has shape [3, 3], but [5, 5]"),
    ],
    draw=[
        (of_all, "12 positions were drawn after pass 1"),
        (row_by_row, "4 positions were drawn after pass 1"),
        (drawing(order=columns), "(0, 1) was drawn after (2, 0); raster order"),
        (drawing(lambda logits: logits.argmax(dim=1)), "only the likeliest code"),
        (
            drawing(lambda logits: torch.multinomial(logits.relu(), 1)[:, 0]),
            "in proportion to the logits",
        ),
        (
            drawing(lambda logits: multinomial(logits.softmax(dim=0))),
            "certain of another code at (0, 0)",
        ),
        (drawing(step=1), "certain of another code at (0, 0)"),
        (lambda _, codes: codes, "certain of another code at (0, 0)"),
        (drawing(lambda logits: multinomial(logits / 2)), "came in shares of"),
    ],
    total=[
        (lambda *given: factors(*given).sum(), "to be multiplied, not added"),
        (lambda *given: factors(*given).flatten(1).prod(dim=1), "needed"),
        (lambda network, grids: cross_entropy(network(grids), grids), "product"),
        (lambda *_: 1.0, "of a network that sees its own code, your sum is 1"),
    ],
    leaking_layer=[
        (0, "with layer 0 corrected, position (4, 4) still sees (4, 4)"),
        (4, "with layer 4 corrected, position (4, 4) still sees"),
        (1, "is no convolution"),
    ],
)


def test_a_first_layer_that_leaks_is_given_mask_a():
    layers = suspects(0)
    assert check.leaking_layer(0, layers, (8, 8))
    assert layers[0].mask[1, 2] == 1, "the learner's stack was changed"
