"""Checks of notebook 02: masks, draws, sums and leaks are judged by what they do."""

import pytest
import torch
from answers import refused, right, suspects, wrong
from torch.distributions import Categorical
from torch.nn.functional import cross_entropy

from pixelprior.course.checks import masks as check
from pixelprior.pixelcnn import PixelCNN


def by_numbers(mask_type, size):
    numbers = torch.arange(size * size).view(size, size)
    return numbers < size * size // 2 + (mask_type == "B")


def only(mask_type):
    """An answer that does not look at the mask type that it is given."""
    return lambda _, size: by_numbers(mask_type, size)


def changed(row, column):
    """An answer with another value at one position, given from the middle on."""

    def answer(mask_type, size):
        mask = check.mask_of_kernel(mask_type, size).clone()
        mask[size // 2 + row, size // 2 + column] -= 1
        return mask.abs()

    return answer


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


def again_and_again(network, codes):
    for _ in range(codes[0].numel()):
        codes = of_all(network, codes)
    return codes


def row_by_row(network, codes):
    for y in range(codes.shape[1]):
        codes[:, y] = of_all(network, codes)[:, y]
    return codes


def one_by_one(network, codes):
    return torch.cat([drawing()(network, each) for each in codes.split(1)])


def from_none(network, codes):
    return drawing()(network, torch.full_like(codes, -1))


def a_column(logits):  # [B, 1] instead of [B]
    return torch.multinomial(logits.softmax(dim=1), 1)


def factors(network, grids):
    return network(grids).softmax(dim=1).gather(1, grids[:, None])[:, 0]


@right(
    {
        "mask": [check.mask_of_kernel, by_numbers, lambda *a: by_numbers(*a).long()],
        "draw": [
            check.draw_grids,
            drawing(lambda logits: Categorical(logits=logits).sample()),
            drawing(lambda logits: torch.multinomial(logits.exp(), 1)[:, 0]),
            lambda network, codes: drawing()(network, torch.zeros_like(codes)),
        ],
        "total": [
            check.sum_over_grids,
            lambda *given: factors(*given).prod(dim=2).prod(dim=1).sum(),
            lambda *given: factors(*given).log().sum(dim=(1, 2)).exp().sum().double(),
        ],
    }
)
def test_a_right_answer_passes_in_any_form(check, answer, judge):
    assert judge(check, answer)


@wrong(
    {
        "mask": [
            (only("A"), "mask B of size 3 hides the middle (1, 1), which only mask A"),
            (only("B"), "with mask A of size 3, a position sees itself"),
            (lambda t, k: by_numbers(t, k).T, "rows and columns exchanged"),
            (lambda t, k: torch.ones(k, k), "with mask A of size 3, a position sees"),
            (lambda t, k: torch.zeros(k, k), "has a 0 at (0, 0), in the past"),
            (lambda t, k: by_numbers(t, 3), "size 5 has shape [3, 3], but [5, 5]"),
            (lambda t, k: by_numbers(t, k) * 0.5, "other values than 0 and 1"),
            (lambda t, k: by_numbers(t, k) * torch.nan, "other values than 0 and 1"),
            (lambda t, k: torch.ones(k, k).tril(-1), "a 1 at (2, 0), in the future"),
            (changed(0, 1), "has a 1 at (1, 2), in the future of (1, 1)"),
            (changed(-1, 1), "has a 0 at (0, 2), in the past of (1, 1)"),
            (lambda t, k: by_numbers(t, k).tolist(), "a tensor is needed"),
            (lambda k: by_numbers("A", k), "raised TypeError"),
        ],
        "draw": [
            (of_all, "12 positions were drawn after pass 1"),
            (again_and_again, "positions were drawn after pass 1"),
            (row_by_row, "4 positions were drawn after pass 1"),
            (drawing(order=columns), "(0, 1) was drawn after (2, 0); raster order"),
            (drawing(lambda logits: logits.argmax(dim=1)), "only the likeliest code"),
            (
                drawing(lambda logits: torch.multinomial(logits.relu(), 1)[:, 0]),
                "in proportion to the logits",
            ),
            (
                drawing(lambda logits: multinomial(logits[:1]).expand(len(logits))),
                "all grids are the same",
            ),
            (
                drawing(lambda logits: multinomial(logits.softmax(dim=0))),
                "certain of another code at (0, 0)",
            ),
            (drawing(step=1), "certain of another code at (0, 0)"),
            (lambda _, codes: codes, "were never drawn, such as one at (0, 0)"),
            (one_by_one, "give the network the whole batch, [8, 3, 4]"),
            (from_none, "code -1 has no embedding"),
            (drawing(a_column), "raised RuntimeError"),
            (drawing(lambda logits: multinomial(logits / 2)), "came in shares of"),
            (lambda *given: drawing()(*given).float(), "codes are whole numbers"),
        ],
        "total": [
            (lambda *given: factors(*given).sum(), "to be multiplied, not added"),
            (lambda *given: factors(*given).prod(), "your sum is"),
            (lambda *given: factors(*given).log().sum(), "no sum of probabilities"),
            (lambda *given: factors(*given).flatten(1).prod(dim=1), "needed"),
            (lambda network, grids: cross_entropy(network(grids), grids), "product"),
            (lambda *_: 1.0, "of a network that sees its own code, your sum is 1"),
        ],
        "leaking_layer": [
            (0, "(4, 4) still sees"),
            (1, "is no convolution"),
            (5, "5 is no layer"),
            (0.5, "0.5 is no layer"),
        ],
    }
)
def test_another_answer_hears_what_is_wrong_with_it(check, answer, words, judge):
    refused(judge(check, answer), *words)


def test_draws_of_a_known_network_are_those_that_the_package_makes():
    """The reference draws as often what `PixelCNN.sample` draws."""
    torch.manual_seed(0)
    model = PixelCNN(3, 4, 8, 2).eval()
    model.head[-1].weight.data *= 9
    ours = check.draw_grids(model, torch.zeros(4000, 2, 2, dtype=torch.long))
    theirs = model.sample(4000, (2, 2), seed=0)
    counts = [
        torch.bincount((codes.flatten(1) @ torch.tensor([27, 9, 3, 1])), minlength=81)
        for codes in (ours, theirs)
    ]
    assert counts[0].max() > 200, "too many grids are equally likely"
    assert (counts[0] - counts[1]).abs().max() < 6 * counts[0].max().sqrt()


def test_the_sum_of_a_leaky_network_is_not_one():
    torch.manual_seed(0)
    network = PixelCNN(3, 4, 8, 2).eval().double()
    with torch.no_grad():
        whole = check.sum_over_grids(network, check.every_grid(3))
        leaky = check.sum_over_grids(
            lambda z: network(z) + 2 * torch.eye(3)[z].movedim(-1, 1),
            check.every_grid(3),
        )
    assert whole == pytest.approx(1, abs=1e-12) and leaky > 5


@pytest.mark.parametrize("broken", [0, 2, 4])
def test_the_layer_that_leaks_is_the_one_whose_correction_stops_the_leak(broken):
    layers = suspects(broken)
    assert check.leaking_layer(broken, layers, (8, 8))
    assert check.leaking_layer(torch.tensor(broken), layers, (8, 8))
    for other in {0, 2, 4} - {broken}:
        refused(check.leaking_layer(other, layers, (8, 8)), "(4, 4) still sees")
    assert layers[broken].mask[1, 2] == 1, "the learner's stack was changed"
