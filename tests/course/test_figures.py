"""Pictures have the right sizes, pixels and words, and none is left half-written."""

import base64
import html
import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from pixelprior import plotting
from pixelprior.course import figures, pictures, showing
from pixelprior.course.causality import seen_by
from pixelprior.course.checks.quantizing import nearest_code
from pixelprior.course.figures.codes import code_colours, code_grids
from pixelprior.course.pictures import picture
from pixelprior.layers import GatedBlock
from pixelprior.plotting import COLOURS, image_grid

ALT = "Five small grey squares in a row."
GRID = image_grid((torch.arange(5 * 16) / 79).view(5, 1, 4, 4))
XY = {"x_label": "x", "y_label": "y", "baselines": {"uniform": 4.16}}


def images(count):
    return torch.linspace(0, 1, count * 64).view(count, 1, 8, 8)


def codes(height, width, count=64):
    return torch.arange(height * width).view(height, width) % count


def words(texts):
    return [text.get_text() for text in texts]


BASIS = torch.tensor([[0.0, 0.0], [1.0, 0.0], [9.0, 9.0]])
POINTS = {"T = 1.0": (3.0, 1.0), "T = 0.7": (1.0, 2.0), "w = 1": (2.0, 0.5)}
GRIDS = {"top": codes(8, 8), "low": codes(16, 16)}
PAIR = codes(8, 8)[None], codes(16, 16)[None]
KINDS = {"new": ("#56B4E9", ""), "old": ("white", "//")}
ODD = {"limits": (0.2, 0), "images": images(6)}
UNITS = {"unit": "p", "limits": (0, 1), "difference": "q"}
NUMBERED = [str(number) for number in range(16)]


def of(*given, **options):
    return given, options


FIGURES = {
    "findings": of(images(4), images(4), images(4)[:, 0], ["1\np"] * 4, 0.5),
    "odd_maps": of(images(6)[:, 0], "p", **ODD),
    "captioned_images": of(images(16), NUMBERED),
    "image_rows": of({"drawn": images(8), "real": images(8)}),
    "image_blocks": of({"drawn": images(60)}, column_names=["Ankle boot"] * 10),
    "code_grids": of(GRIDS, 64, marked={"top": (2, 5)}),
    "pipeline": of(images(1), *PAIR, images(1), images(1), 64),
    "curves": of({"top": np.geomspace(1, 50), "other": (range(1, 4), [3, 2, 1])}, **XY),
    "curve_panels": of({"A": {"a": [2, 1]}, "B": {"a": [1]}}, "x", "y"),
    "blind_spot_price": of({"one": {20: 2.7, 40: 1.9}}, 1.18, 1.86),
    "bars": of({"top": 1.8, "bottom": 1.2, "unigram": 3.7}, y_label="nats"),
    "heatmaps": of(GRIDS, unit="nats", numbers="{:.1f}"),
    "grouped_bars": of({"a": [1.0, 2.0], "b": [2.0, 0.5]}, ["x", "y"], y_label="nats"),
    "images_over_maps": of(images(8), images(8)[:, 0], NUMBERED, **UNITS),
    "kernels_of_stacks": of(),
    "receptive_fields": of({str(n): codes(8, 8) % 3 == 0 for n in range(6)}, (3, 4)),
    "nearest_cells": of({"before": (codes(9, 2) / 9, BASIS)}, nearest_code),
    "prediction": of(codes(8, 8), (3, 4), torch.full((64,), 1 / 64)),
    "stairs": of(torch.tensor([0.1, 0.4, 0.2, 0.3]), 0.62),
    "trade_off": of(POINTS, {"photographs": [(3.3, 0.4), (3.5, 0.5)]}),
    "two_levels": of(),
    "gated_block": of(),
    "cells": of({"a": codes(8, 8, 2)}, KINDS, columns=2),
    "what_is_computed": of(3, 4),
}


def pixels_of(figure: Figure) -> np.ndarray:
    """A figure as it is drawn with a transparent background, [H, W, 4]."""
    file = io.BytesIO()
    figure.savefig(file, format="rgba", dpi=figure.dpi, transparent=True)
    width, height = FigureCanvasAgg(figure).get_width_height()
    return np.frombuffer(file.getvalue(), np.uint8).reshape(height, width, 4)


@pytest.mark.slow
# matplotlib calls functions that pyparsing has deprecated; we cannot fix that.
@pytest.mark.filterwarnings(
    "error", "ignore::DeprecationWarning:(matplotlib|pyparsing)"
)
@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_fits_a_page_of_any_colour_and_its_text_is_large(name, monkeypatch):
    """It has no ground, and its text is grey but in cells and boxes."""
    drawn, draw = [], Text.draw

    def keep(text, renderer, *more):
        drawn.append(text)
        draw(text, renderer, *more)

    monkeypatch.setattr(Text, "draw", keep)
    given, options = FIGURES[name]
    figure = getattr(figures, name)(*given, **options)
    assert figure.get_figwidth() <= plotting.WIDEST
    pictures.for_any_page(figure)
    opacity = pixels_of(figure)[..., 3]
    assert opacity[0, 0] == opacity[-1, -1] == 0
    written = [text for text in drawn if text.get_text().strip()]
    assert written and min(text.get_fontsize() for text in written) >= 9
    for text in written:
        box = text.get_window_extent()
        rows = slice(len(opacity) - int(box.y1), len(opacity) - int(box.y0))
        under = opacity[rows, int(box.x0) : int(box.x1)]
        in_cell = under.size > 0 and under.min() == 255
        assert in_cell == (text.get_color() != plotting.INK), text


def test_a_picture_needs_alt_text_of_20_characters():
    with pytest.raises(ValueError, match="20 characters or more"):
        picture(GRID, " a   figure \n of  it ")


def test_a_picture_carries_its_alt_text_escaped(monkeypatch):
    monkeypatch.delenv("PIXELPRIOR_WIDGETS", raising=False)
    drawn = picture(GRID, 'A "grid" of <codes>\n    & more, 0 < 1.')
    shown, metadata = drawn._repr_mimebundle_()
    alt = 'A "grid" of <codes> & more, 0 < 1.'
    assert shown["text/plain"] == alt
    assert f' alt="{html.escape(alt)}" ' in shown["text/html"]
    assert shown["text/html"].count("<") == 1, "nothing but the image itself"
    assert base64.b64decode(shown["image/png"]) == drawn.png
    assert metadata == {"image/png": {"alt": alt, "width": GRID.width}}
    monkeypatch.setenv("PIXELPRIOR_WIDGETS", "off")
    assert drawn._repr_mimebundle_()[0].keys() == {"image/png", "text/plain"}


def test_a_bare_picture_is_shown_pixel_for_pixel():
    drawn = Image.open(io.BytesIO(picture(GRID, ALT).png)).convert("RGB")
    assert np.array_equal(np.asarray(drawn), np.asarray(GRID))


def test_few_colours_leave_a_photograph_and_the_opacity_of_text_nearly_as_they_are(
    heldout_images,
):
    drawn = figures.image_rows({"a": heldout_images[torch.arange(9)][0]})
    whole = pixels_of(drawn).astype(int)
    small = pictures.reduced(Image.fromarray(whole.astype(np.uint8)))
    few = np.asarray(small.convert("RGBA")).astype(int)
    opaque, clear = whole[..., 3] == 255, whole[..., 3] == 0
    assert (few[opaque][:, 3] == 255).all() and (few[clear][:, 3] == 0).all()
    assert np.abs(few - whole)[opaque].max() <= 4
    assert np.abs(few - whole)[~opaque & ~clear].max() <= 24


@pytest.fixture
def shown(monkeypatch):
    """The list of what is displayed, where a text may have "a" and "b" for names."""
    right = "From 3.2 down to 1.9<!--= results a.b --> or 2.0, over 9 steps."
    wrong = "From 3.2 down to 1.7, or to 1.97."
    monkeypatch.setattr(showing, "alt_texts", lambda: {"00": {"a": right, "b": wrong}})
    displayed = []
    monkeypatch.setattr(showing, "display", displayed.append)
    monkeypatch.delenv(showing.CHECK, raising=False)
    return displayed


def test_one_picture_is_shown_with_its_alt_text_without_the_source_of_numbers(shown):
    figures.show(GRID, "a")
    (only,) = shown
    assert only.alt == "From 3.2 down to 1.9 or 2.0, over 9 steps."


@pytest.mark.parametrize(
    "figure",
    [
        figures.curves({"a": [3.21, 1.94]}, **XY),
        figures.bars({"a": 3.21, "b": 1.94}, y_label="nats", unit_format=""),
        figures.heatmaps({"a": torch.tensor([[3.21, 0.0], [1.94, 7.0]])}, unit="nats"),
    ],
    ids=["curves", "bars", "heatmaps"],
)
def test_numbers_of_an_alt_text_are_compared_with_the_figure(
    figure, shown, monkeypatch
):
    """To one unit of the last digit; whole numbers may count anything."""
    figures.show(figure, "b")  # a reader's figure is not checked
    monkeypatch.setenv(showing.CHECK, "on")
    figures.show(figure, "a")
    with pytest.raises(ValueError, match=r"'b' has 1\.7, 1\.97, and nothing"):
        figures.show(figure, "b")


def test_an_unknown_name_is_refused_and_the_remedy_named():
    with pytest.raises(ValueError, match=r"'my own'; .* figures.picture\(figure, "):
        figures.show(GRID, "my own")


@pytest.mark.parametrize("count", [8, 30, 64])
def test_each_code_has_a_colour_of_its_own_unlike_its_neighbours(count):
    colours = code_colours(count)
    assert np.abs(colours[1:] - colours[:-1]).sum(axis=1).min() > 0.3
    assert torch.pdist(torch.tensor(colours), p=1).min() > 0.09


def test_a_grid_has_colours_and_numbers_of_codes_and_the_frame_of_its_level():
    grid = torch.tensor([[0, 1, 2], [-1, 2, 0]])
    axis = code_grids({"top codes": grid}, 3).axes[0]
    pixels = axis.images[0].get_array()  # [2, 3, 3]
    colours = [*code_colours(3), np.ones(3)]  # no code, no colour
    assert (pixels == np.array(colours)[grid]).all()
    assert words(axis.texts) == ["0", "1", "2", "2", "0"]
    edges = {to_hex(side.get_edgecolor()) for side in axis.spines.values()}
    assert edges == {COLOURS["top"].lower()}


def test_lines_and_bars_are_told_apart_without_colour():
    drawn = figures.curves({str(n): [n, n + 1] for n in range(6)}, **XY).axes[0].lines
    assert len({line.get_marker() for line in drawn[:6]}) == 6
    assert len({line.get_linestyle() for line in drawn[:4]}) == 4
    bars = figures.bars(dict.fromkeys("abcdefg", 1.0), y_label="y").axes[0].patches
    assert len({bar.get_hatch() for bar in bars}) == 7


def test_no_zero_in_a_map_has_a_sign():
    grid = torch.tensor([[-0.001, 0.0, -0.01]])
    figure = figures.heatmaps({"map": grid}, unit="nats", numbers="{:.2f}")
    assert words(figure.axes[0].texts) == ["0.00", "0.00", "-0.01"]


def test_lines_join_equal_codes_that_are_a_step_apart():
    grid = torch.tensor([[0, 1, 2], [2, 0, 1], [1, 1, 0]])
    (axis,) = code_grids({"codes": grid}, 3, joined={"codes": (1, -2)}).axes
    near, far = 0.3 / 5**0.5, 1 - 0.3 / 5**0.5  # away from the numbers
    for line, (x, y) in zip(axis.lines, [(2, 0), (2, 1)], strict=True):
        assert line.get_xdata() == pytest.approx([x - 2 * near, x - 2 * far])
        assert line.get_ydata() == pytest.approx([y + near, y + far])


def test_maps_share_one_scale_which_may_have_zero_in_the_middle():
    panels = {"low": torch.zeros(16, 6), "high": torch.full((16, 6), 3.0)}
    for centred, limits in ((False, (0, 3)), (True, (-3, 3))):
        *maps, _ = figures.heatmaps(panels, unit="nats", centred=centred).axes
        assert [each.images[0].get_clim() for each in maps] == [limits] * 2


def test_a_receptive_field_tells_past_blind_spot_leak_and_future_apart():
    field = torch.tensor([[1, 0, 0, 1], [1, 0, 1, 0], [0, 0, 1, 0]]).bool()
    axis = figures.receptive_fields({"a": field}, (1, 2)).axes[0]
    *cells, position = axis.patches
    looks = [(to_hex(cell.get_facecolor()), cell.get_hatch()) for cell in cells]
    past, blind = (COLOURS["past"].lower(), ""), ("#ffffff", "////")
    leak, future = (COLOURS["future"].lower(), "xx"), ("#f4f4f4", "")
    assert looks == [
        *(past, blind, blind, past),
        *(past, blind, leak, future),
        *(future, future, leak, future),
    ]
    assert position.get_xy() == (2, 1) and not position.get_fill()


@pytest.mark.parametrize("gap", [0.002, 0.05, 0.5])
def test_the_labels_of_two_baselines_never_overlap(gap):
    baselines = {"higher": 2 + gap, "lower": 2.0}
    figure = figures.curves({"a": [1, 4]}, **XY | {"baselines": baselines})
    figure.draw_without_rendering()
    higher, lower = (text.get_window_extent() for text in figure.axes[0].texts)
    assert higher.y0 > lower.y1
    assert lower.y1 < figure.axes[0].transData.transform((0, 2.0 + gap))[1]


@pytest.mark.parametrize("mask", "AB")
def test_the_kernels_of_the_stacks_are_those_of_a_gated_block(mask):
    torch.manual_seed(0)
    block = GatedBlock(mask, 1, 1)
    end = -int(block.mask_a)
    drawn = figures.kernels_of_stacks().axes
    axes = drawn[:2] if end else drawn[2:]
    for axis, conv, padding in (
        (axes[0], block.vertical, (1, 1, 1, end)),
        (axes[1], block.horizontal, (1, end, 0, 0)),
    ):
        covered = seen_by(lambda x, c=conv, p=padding: c(F.pad(x, p)), (2, 2), (5, 5))
        assert words(axis.texts) == [str(int(each)) for each in covered.flatten()]


@pytest.mark.parametrize(("u", "code"), [(0.0, 0), (0.62, 2), (0.71, 3), (1.0, 3)])
def test_the_stairs_lead_from_u_to_the_code_that_is_drawn(u, code):
    axis = figures.stairs(torch.tensor([0.1, 0.4, 0.2, 0.3]).double(), u).axes[0]
    _, riser = axis.lines
    assert list(riser.get_xdata()) == [code, code]
    low, high = riser.get_ydata()
    assert low <= u + 1e-9 and (u < high or u == 1)
