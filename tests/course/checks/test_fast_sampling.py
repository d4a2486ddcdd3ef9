"""Checks of notebook 06: what they accept, what they refuse, and in which words."""

import pytest
import torch
import torch.nn.functional as F

from pixelprior.benchmark.counting import multiply_adds
from pixelprior.cache import PixelCNNCache
from pixelprior.course.checks import sampling as check
from pixelprior.course.checks import slips
from pixelprior.course.checks.verdict import Verdict
from pixelprior.layers import gate
from pixelprior.pixelcnn import PixelCNN
from pixelprior.prior import HierarchicalPixelCNN
from pixelprior.sampling import sample_codes, uniforms

ODD = [
    3,
    "a step",
    torch.zeros(2),
    [None, 1],
    float("nan"),
    {"a": 1},
    True,
    -1.5,
    lambda: 0,
    lambda *given: given,
    lambda *given: "no tensor",
    lambda *given: torch.zeros(3),
    lambda *given: (torch.nan * given[1],) * 3,
    lambda *given: (None, None, None),
    lambda *given: 1 / 0,
]


def refused(verdict: Verdict, *words: str) -> None:
    assert verdict.passed is False, verdict
    for each in words:
        assert each in verdict.words, verdict


# The cached step of a block.


def row_step(block, kept, new):
    rows = torch.cat([kept, new[:, :, None]], dim=2)
    seen = F.pad(rows[:, :, : block.span], (block.reach, block.reach))
    features = block.vertical(seen)
    across = block.vertical_to_horizontal(features)
    v = gate(features)[:, :, 0]
    return v if block.shift else v + new, across[:, :, 0], rows[:, :, 1:]


def code_step(block, kept, new, across):
    places = torch.cat([kept, new[:, :, None]], dim=2)
    left = block.horizontal(places[:, :, None, : block.span])[:, :, 0, 0]
    out = block.horizontal_out(gate(left + across)[:, :, None, None])[:, :, 0, 0]
    return out if block.shift else out + new, places[:, :, 1:]


def test_steps_that_are_not_there_are_not_attempted():
    nothing = check.cached_step(lambda *given: None, lambda *given: None)
    assert nothing.passed is None
    assert check.cached_step(None, None).passed is None


@pytest.mark.parametrize("missing", [None, lambda *given: None])
def test_one_step_of_two_is_said_to_be_right(missing):
    refused(check.cached_step(row_step, missing), "your row step is right", "None")


def test_the_package_s_own_layers_make_right_steps():
    assert check.cached_step(row_step, code_step).passed


def test_steps_written_as_sums_over_the_kernel_are_right_too():
    """These steps also write what they keep into the memory that they were given."""

    def rows_by_hand(block, kept, new):
        stack = [*kept.unbind(2), new]
        weight, bias = block.vertical.weight, block.vertical.bias
        width, total = new.shape[2], bias[:, None]
        for row, kernel in zip(stack, weight.unbind(2), strict=False):
            padded = F.pad(row, (block.reach, block.reach))
            for offset in range(weight.shape[3]):
                under = padded[:, :, offset : offset + width]
                total = total + torch.einsum("oc,bcw->bow", kernel[..., offset], under)
        mix = block.vertical_to_horizontal
        across = torch.einsum("oc,bcw->bow", mix.weight[..., 0, 0], total)
        p = total.shape[1] // 2
        kept.copy_(torch.stack(stack[1:], dim=2))
        gated = total[:, :p].tanh() * total[:, p:].sigmoid()
        return [
            gated + (1 - block.shift) * new,
            across + mix.bias[:, None],
            kept,
        ]

    def codes_by_hand(block, kept, new, across):
        stack = [*kept.unbind(2), new]
        features = across + block.horizontal.bias
        for place, kernel in zip(
            stack, block.horizontal.weight[:, :, 0].unbind(2), strict=False
        ):
            features = features + place @ kernel.T
        out = gate(features) @ block.horizontal_out.weight[:, :, 0, 0].T
        out = out + block.horizontal_out.bias + (1 - block.shift) * new
        kept.copy_(torch.stack(stack[1:], dim=2))
        return [out, kept]

    assert check.cached_step(rows_by_hand, codes_by_hand).passed


def test_what_is_kept_may_lie_in_any_order_if_it_is_read_so():
    def newest_first(step):
        def other(block, kept, *given):
            *found, kept = step(block, kept.flip(2), *given)
            return *found, kept.flip(2)

        return other

    assert check.cached_step(newest_first(row_step), newest_first(code_step)).passed


def keeps(step, what):
    """The same step, except that it returns what `what` makes of (given, kept)."""

    def other(block, kept, *given):
        *found, new = step(block, kept, *given)
        return *found, what(kept, new)

    return other


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (keeps(row_step, lambda given, kept: given), ["stale", "row 1"]),
        (keeps(row_step, lambda given, kept: kept.flip(2)), ["order", "k = 5"]),
        (keeps(row_step, lambda given, kept: kept[:, :, :0]), ["kept", "shape"]),
    ],
)
def test_rows_that_are_kept_wrongly_are_named(wrong, words):
    refused(check.cached_step(wrong, code_step), *words)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (keeps(code_step, lambda given, kept: given), ["stale", "position (0, 1)"]),
        (keeps(code_step, lambda given, kept: kept.flip(2)), ["order", "k = 5"]),
        (
            keeps(code_step, lambda given, kept: torch.cat([given, kept], 2)),
            ["kept", "shape"],
        ),
    ],
)
def test_positions_that_are_kept_wrongly_are_named(wrong, words):
    refused(check.cached_step(row_step, wrong), *words)


def of_rows(change):
    """A row step that is right except for what `change` makes of its parts."""

    def step(block, kept, new):
        rows = torch.cat([kept, new[:, :, None]], dim=2)
        seen = F.pad(rows[:, :, : block.span], (block.reach, block.reach))
        features = block.vertical(seen)[:, :, 0]
        across = block.vertical_to_horizontal(features[:, :, None])[:, :, 0]
        residual = 0 if block.shift else new
        return *change(features, across, residual), rows[:, :, 1:]

    return step


def row_that_sees_itself(block, kept, new):
    rows = torch.cat([kept, new[:, :, None]], dim=2)[:, :, -block.span :]
    features = block.vertical(F.pad(rows, (block.reach, block.reach)))
    across = block.vertical_to_horizontal(features)
    rows = torch.cat([kept, new[:, :, None]], dim=2)
    v = gate(features)[:, :, 0]
    return v if block.shift else v + new, across[:, :, 0], rows[:, :, 1:]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (row_that_sees_itself, ["future", "row 0", "mask A"]),
        (of_rows(lambda f, a, v: (gate(f) + v, f)), ["vertical_to_horizontal"]),
        (of_rows(lambda f, a, v: (gate(a) + v, a)), ["gate of across"]),
        (of_rows(lambda f, a, v: (gate(f), a)), ["residual is missing", "row 0"]),
        (of_rows(lambda f, a, v: (gate(f) / 2 + v, a)), ["v is wrong in row 0"]),
        (of_rows(lambda f, a, v: (gate(f) + v, a / 2)), ["across is wrong in row 0"]),
        (of_rows(lambda f, a, v: (f, a)), ["v of your row step", "shape [2, 6, 6]"]),
        (of_rows(lambda f, a, v: (gate(f) / 0 + v, a)), ["not finite"]),
        (of_rows(lambda f, a, v: (gate(f) + v,)), ["3 tensors: v, across, kept"]),
    ],
)
def test_a_wrong_row_step_is_refused_for_what_is_wrong(wrong, words):
    refused(check.cached_step(wrong, code_step), *words)


def of_codes(change):
    """A code step that is right except for what `change` makes of its parts."""

    def step(block, kept, new, across):
        places = torch.cat([kept, new[:, :, None]], dim=2)
        left = block.horizontal(places[:, :, None, : block.span])[:, :, 0, 0]

        def out(gated):
            return block.horizontal_out(gated[:, :, None, None])[:, :, 0, 0]

        given = (left, across, out, kept, 0 if block.shift else new)
        return change(*given), places[:, :, 1:]

    return step


def code_that_sees_itself(block, kept, new, across):
    h, kept = code_step(block, kept, new, across)
    return h + new if block.shift else h, kept


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (code_that_sees_itself, ["future", "(0, 0)", "mask A"]),
        (
            of_codes(lambda left, a, out, k, new: out(gate(left + a))),
            ["residual is missing"],
        ),
        (
            of_codes(lambda left, a, out, k, new: out(gate(left + a)) + k[:, :, -1]),
            ["the position to the left"],
        ),
        (of_codes(lambda left, a, out, k, new: out(gate(left)) + new), ["rows above"]),
        (
            of_codes(lambda left, a, out, k, new: gate(left + a) + new),
            ["has the residual", "horizontal_out"],
        ),
        (
            of_codes(lambda left, a, out, k, new: gate(left + a)),
            ["not been", "horizontal_out"],
        ),
        (
            of_codes(lambda left, a, out, k, new: out(gate(left + a)).relu() + new),
            ["differs from what it should be"],
        ),
        (of_codes(lambda left, a, out, k, new: out(left + a)), ["raised RuntimeError"]),
    ],
)
def test_a_wrong_code_step_is_refused_for_what_is_wrong(wrong, words):
    refused(check.cached_step(row_step, wrong), *words)


@pytest.mark.parametrize("odd", ODD)
def test_odd_steps_are_refused_in_words(odd):
    refused(check.cached_step(odd, code_step), "not yet: ")
    refused(check.cached_step(row_step, odd), "not yet: ")


# The multiply-adds of naive and cached.

GRIDS = ((3, 4), (6, 8))


def small_prior(**options):
    torch.manual_seed(0)
    return HierarchicalPixelCNN(8, 4, 6, 3, **options).eval()


def counted(prior):
    """Naive ÷ cached, from a whole draw of an image by each method."""
    labels = prior.labels_in_turn(1)
    draws = {}
    for method in ("naive", "cached"):
        draws[method] = multiply_adds(
            prior.sample, 1, *GRIDS, labels=labels, seed=0, method=method
        )
    conditioning = multiply_adds(
        prior.prior_bottom.top_condition,
        torch.zeros(1, *GRIDS[0], dtype=torch.long),
        (1, *GRIDS[1]),
        labels,
    )  # the same for both, once for an image
    return (draws["naive"] - conditioning) / (draws["cached"] - conditioning)


@pytest.mark.parametrize(
    "options",
    [{}, {"num_classes": 2}, {"attention_layers": 1, "attention_heads": 2}],
    ids=["plain", "labels", "attention"],
)
def test_the_speed_up_is_that_of_whole_draws_within_5_percent(options):
    prior = small_prior(**options)
    times = counted(prior)
    for answer in (times, 1.04 * times, 0.96 * times, torch.tensor(times)):
        assert check.speed_up(answer, prior, *GRIDS).passed, answer
    refused(check.speed_up(1.06 * times, prior, *GRIDS), "more than was counted")
    refused(check.speed_up(0.94 * times, prior, *GRIDS), "less than was counted")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (12, "12 is right for the top level alone"),
        (48, "48 is right for the bottom level alone"),
        (60, "60 passes are what naive takes"),
        (30, "30 would be right if both passes cost the same"),
        (0, "0 is less than was counted"),
        (-41, "-41 is less than was counted"),
    ],
)
def test_a_wrong_speed_up_is_refused_for_what_is_wrong(answer, words):
    refused(check.speed_up(answer, small_prior(), *GRIDS), words)


def test_a_speed_up_that_is_upside_down_is_told_so():
    prior = small_prior()
    refused(check.speed_up(1 / counted(prior), prior, *GRIDS), "turn it over")


# The multiply-adds of rows.


@pytest.mark.parametrize(
    "answer", [(12, 1, 6.5), [12.0, 1, 6.5], torch.tensor([12, 1, 6.5])]
)
def test_rows_takes_the_fewest_where_no_code_stands_beside_another(answer):
    assert check.fewest_for_rows(answer, 12).passed


def test_a_draw_by_rows_is_counted_from_its_first_row_and_its_last():
    model = PixelCNN(5, 3, 4, 2).eval()
    for shape in ((3, 4), (1, 5), (6, 1)):
        numbers = uniforms(0, 0, 1, shape[0] * shape[1])
        whole = multiply_adds(sample_codes, model, shape, numbers, method="rows")
        assert check._counted_for_rows(model, shape) == whole


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((3, 4, 8), ["at 3 × 4 rows takes more", "in row y"]),
        ((1, 12, 12), ["at 1 × 12 rows takes more"]),
        ((12, 1, 6), ["your shape is right; 6 is less", "the last row"]),
        ((12, 1, 12), ["your shape is right; 12 is more"]),
        ((12, 1, 1 / 6.5), ["turn it over"]),
        ((12, 1, 0), ["0 is less"]),
        ((5, 2, 6.5), ["5 × 2 are 10 codes"]),
        ((2.5, 4.8, 6.5), ["a height of 2.5"]),
        ((-12, -1, 6.5), ["a height of -12"]),
        ((24, 0.5, 6.5), ["a width of 0.5"]),
        (12, ["three numbers are needed"]),
        ((12, 1), ["three numbers are needed"]),
        (("tall", 1, 6.5), ["a number is needed"]),
        ((12, 1, float("nan")), ["not finite"]),
    ],
)
def test_a_wrong_shape_or_ratio_is_refused_for_what_is_wrong(answer, words):
    refused(check.fewest_for_rows(answer, 12), *words)


def test_half_the_height_is_not_the_mean_number_of_rows():
    refused(check.fewest_for_rows((240, 1, 120), 240), "120 is less")


def test_multiply_adds_are_counted_in_passes_and_in_steps():
    model = PixelCNN(5, 3, 4, 2).eval()
    codes = torch.zeros(2, 4, 4, dtype=torch.long)
    # Multiply-adds of the first block, the second and the head at each of 32 positions.
    first, second = 8 * 3 * (3 + 1), 8 * 4 * (6 + 2)
    per_position = first + second + 2 * (8 * 8 + 4 * 4) + 4 * 4 + 4 * 5
    assert multiply_adds(model.logits, codes, None) == 32 * per_position
    drawn = multiply_adds(sample_codes, model, (4, 4), uniforms(0, 0, 2, 16))
    assert drawn == 32 * per_position


# How many images fit.


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = PixelCNN(8, 4, 6, 4, num_classes=2).eval()
    for parameter in model.parameters():
        parameter.data *= 3
    return model


def test_as_many_images_fit_as_there_are_caches_in_the_memory(model):
    an_image = PixelCNNCache(model, 1, (4, 5)).nbytes
    memory = 10 * an_image + an_image // 2

    def judge(answer):
        return check.batch_limit(answer, model, (4, 5), memory)

    assert judge(10).passed and judge(torch.tensor(10.0)).passed
    refused(judge(9), "room for more")
    refused(judge(0), "room for more")
    refused(judge(11), "more than there is")
    refused(judge(42), "how many bytes has a number")
    assert "bytes" not in judge(30).words
    refused(judge(10.5), "no number of images")
    refused(judge(-1), "no number of images")


# What was not rolled, and where.


@pytest.fixture(scope="module")
def given(model):
    condition = model.label_condition(torch.arange(6) % 2, 6).detach()
    return model, uniforms(0, 0, 6, 20), condition


def slipped(what, block, given):
    model, uniform, condition = given
    return slips._with_a_slip(model, what, block, (4, 5), uniform, condition)


@pytest.fixture(scope="module")
def right(given):
    return sample_codes(given[0], (4, 5), *given[1:], method="naive")


def test_rows_that_are_not_rolled_spoil_codes_from_row_1_on(given, right):
    codes = slipped("rows", 2, given)
    assert torch.equal(codes[:, 0], right[:, 0])
    assert not torch.equal(codes[:, 1], right[:, 1])


def test_positions_that_are_not_rolled_spoil_codes_from_column_1_on(given, right):
    codes = slipped("positions", 2, given)
    assert torch.equal(codes[:, 0, 0], right[:, 0, 0])
    assert not torch.equal(codes[:, 0], right[:, 0])


@pytest.mark.parametrize("what", ["rows", "positions"])
def test_the_first_block_has_nothing_to_roll(what, given, right):
    assert torch.equal(slipped(what, 0, given), right)


def test_the_two_slips_are_one_of_rows_and_one_of_positions(given, right):
    model, uniform, condition = given
    found = slips.two_draws(model, (4, 5), uniform, condition)
    spoiled = [not torch.equal(codes[:, 0], right[:, 0]) for codes in found]
    assert sorted(spoiled) == [False, True]


def test_slips_are_those_that_draw_the_same_codes(given):
    found = [slipped("positions", 3, given), slipped("rows", 2, given)]

    def judge(*answer):
        return slips.which(answer, found, *given)

    assert judge(("positions", 3), ("rows", 2)).passed
    assert judge(["positions", torch.tensor(3)], ["rows", 2.0]).passed
    wrong = judge(("rows", 3), ("positions", 2))
    refused(wrong, "map 1", "block 3", "its rows", "others")
    refused(judge(("positions", 3), ("rows", 1)), "map 2", "block 1", "others")
    refused(judge(("positions", 3), ("rows", 4)), "they are 0 to 3")
    refused(judge(("positions", 1.5), ("rows", 2)), "1.5 is no block")
    refused(judge(("columns", 3), ("rows", 2)), "'columns' is neither")
    refused(judge(("positions", "3"), ("rows", 2)), "a number is needed")
    refused(judge(("positions", 3)), "two pairs are needed")
    refused(judge("rows", "positions"), "two pairs are needed")


@pytest.mark.parametrize("odd", [*ODD, 10**30, "2", [2, 2, 2], object(), ["ab", "cd"]])
def test_odd_answers_are_refused_in_words(odd, model, given):
    for verdict in (
        check.speed_up(odd, small_prior(), *GRIDS),
        check.fewest_for_rows(odd, 12),
        check.batch_limit(odd, model, (4, 5), 10**6),
        slips.which(odd, [torch.zeros(6, 4, 5)] * 2, *given),
    ):
        refused(verdict, "not yet: ")


def test_answers_that_are_not_there_are_not_attempted(model, given):
    assert check.speed_up(None, small_prior(), *GRIDS).passed is None
    assert check.fewest_for_rows(None, 12).passed is None
    assert check.batch_limit(None, model, (4, 5), 10**6).passed is None
    assert slips.which(None, [], *given).passed is None
