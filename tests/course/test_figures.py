"""Pictures have the right sizes, pixels and words, and none is left half-written."""

import base64
import html
import inspect
import io

import nbconvert
import nbformat
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
from pixelprior.course.figures import (
    anomalies,
    diagrams,
    fields,
    grids,
    judging,
    lines,
    plots,
)
from pixelprior.course.figures import codes as code_figures
from pixelprior.course.figures.codes import code_colours, code_grids
from pixelprior.course.pictures import picture
from pixelprior.layers import GatedBlock
from pixelprior.plotting import COLOURS, image_grid, save_picture

ALT = "Five small grey squares in a row."
GRID = image_grid((torch.arange(5 * 16) / 79).view(5, 1, 4, 4))
XY = {"x_label": "x", "y_label": "y"}


def images(count, channels=1, height=8, width=8):
    shape = count, channels, height, width
    return torch.linspace(0, 1, torch.Size(shape).numel()).view(shape)


def codes(height, width, count=64):
    return torch.arange(height * width).view(height, width) % count


def seen(height, width):
    return codes(height, width) % 3 == 0


def titles(figure):
    return [axis.get_title() for axis in figure.axes]


def words(texts):
    return [text.get_text() for text in texts]


# What all figures have in common.


def of(*given, **options):
    """What a figure is drawn from."""
    return given, options


FLAT = images(1, 3, 4, 6)  # neither grey nor square
BASIS = torch.tensor([[0.0, 0.0], [1.0, 0.0], [9.0, 9.0]])
TEMPERATURES = {
    "temperature": {"T = 0.3": (1.0, 2.0), "T = 1": (3.0, 1.0), "T = 1.3": (3.1, 3.0)}
}
CLOUD = {"photographs": [(3.3, 0.4), (3.5, 0.5)]}
NEEDS = {"01": "00", "02": "00", "03": "02", "04": "01 03", "05": "04"}
NEEDS |= dict.fromkeys(("06", "07", "08", "09", "10"), "05")  # those of the course

# Each figure at the course's sizes.
FIGURES = {
    "findings": of(images(4), images(4), images(4)[:, 0], ["1\np"] * 4, 0.5),
    "odd_maps": of(images(6)[:, 0], "p", limits=(0.2, 0), images=images(6)),
    "captioned_images": of(images(16), [str(n) for n in range(16)]),
    "image_rows": of({"drawn": images(8), "real": images(8)}),
    "image_blocks": of(
        {"drawn": images(60), "real": images(60)}, column_names=["Ankle boot"] * 10
    ),
    "code_grids": of(
        {"top": codes(8, 8), "low": codes(16, 16)}, 64, marked={"top": (2, 5)}
    ),
    "pipeline": of(
        images(1), codes(8, 8)[None], codes(16, 16)[None], *[images(1)] * 2, 64
    ),
    "curves": of(
        {"top": np.geomspace(1, 50), "other": (range(1, 4), [3.0, 2.0, 1.0])},
        x_label="epoch",
        y_label="nats per code",
        baselines={"uniform": 4.16},
        bands={"between": (2.0, 3.0)},
    ),
    "curve_panels": of(
        {"A": {"a": [2, 1], "b": [2, 3]}, "B": {"a": [1], "b": [3]}}, **XY
    ),
    "blind_spot_price": of(
        {"single": {20: 2.7, 40: 1.9}, "two": {20: 2.7, 40: 1.2}}, 1.18, 1.86
    ),
    "bars": of({"top": 1.8, "bottom": 1.2, "unigram": 3.7}, y_label="nats"),
    "heatmaps": of(
        {"top": codes(8, 8), "low": codes(16, 16)}, unit="nats", numbers="{:.1f}"
    ),
    "grouped_bars": of({"a": [1.0, 2.0], "b": [2.0, 0.5]}, ["x", "y"], y_label="nats"),
    "images_over_maps": of(
        images(8), images(8)[:, 0], [str(n) for n in range(8)], unit="nats"
    ),
    "masks": of({"A": torch.eye(3), "B": torch.eye(5)}),
    "kernels_of_stacks": of(),
    "receptive_fields": of({f"{n} layers": seen(8, 8) for n in range(6)}, (3, 4)),
    "nearest_cells": of(
        {"before": (codes(9, 2) / 9, torch.eye(2)), "after": (codes(3, 2), BASIS)},
        nearest_code,
    ),
    "prediction": of(codes(8, 8), (3, 4), torch.full((64,), 1 / 64)),
    "stairs": of(torch.tensor([0.1, 0.4, 0.2, 0.3]), 0.62),
    "trade_off": of(
        {"T = 1.0": (3.0, 1.0), "T = 0.7": (1.0, 2.0), "w = 1": (2.0, 0.5)}, CLOUD
    ),
    "two_levels": of(),
    "gated_block": of(),
    "cells": of(
        {"a": codes(2, 3, 2), "b": codes(1, 1, 2), "c": codes(8, 8, 1)},
        {"new": ("#56B4E9", ""), "again": ("white", "//")},
        position=(0, 0),
        columns=2,
    ),
    "what_is_computed": of(3, 4),
}
MODULES = [plotting, anomalies, code_figures, diagrams, fields, grids, judging, lines]
FUNCTIONS = {
    name: function
    for module in [*MODULES, plots]
    for name, function in inspect.getmembers(module, inspect.isfunction)
    if function.__module__ == module.__name__
    and inspect.signature(function).return_annotation is Figure
}
each_figure = pytest.mark.parametrize(
    ("name", "given", "options"),
    [(name, *each) for name, each in FIGURES.items()],
    ids=FIGURES,
)
# matplotlib calls functions that pyparsing has deprecated; we cannot fix that.
without_warnings = pytest.mark.filterwarnings(
    "error", "ignore::DeprecationWarning:(matplotlib|pyparsing)"
)


def test_every_figure_is_tried():
    assert FIGURES.keys() == FUNCTIONS.keys()


@each_figure
def test_no_figure_is_wider_than_a_page(name, given, options):
    assert FUNCTIONS[name](*given, **options).get_figwidth() <= plotting.WIDEST


@pytest.mark.slow
@without_warnings
@each_figure
def test_a_figure_is_drawn_on_any_page_and_twice_the_same(name, given, options):
    once, again = (picture(FUNCTIONS[name](*given, **options), ALT) for _ in range(2))
    assert once.png == again.png
    drawn = Image.open(io.BytesIO(once.png)).convert("RGBA")
    for page in ("white", "#111111"):
        whole = Image.new("RGBA", drawn.size, page)
        whole.alpha_composite(drawn)
        assert np.asarray(whole.convert("L")).std() > 2, page


def pixels_of(figure: Figure) -> np.ndarray:
    """A figure as it is drawn with a transparent background, [H, W, 4]."""
    file = io.BytesIO()
    figure.savefig(file, format="rgba", dpi=figure.dpi, transparent=True)
    width, height = FigureCanvasAgg(figure).get_width_height()
    return np.frombuffer(file.getvalue(), np.uint8).reshape(height, width, 4)


@pytest.mark.slow
@without_warnings
@each_figure
def test_a_figure_has_no_ground_and_its_text_is_large_and_grey_but_in_cells(
    name, given, options, monkeypatch
):
    drawn, draw = [], Text.draw

    def keep(text, renderer, *more):
        drawn.append(text)
        draw(text, renderer, *more)

    monkeypatch.setattr(Text, "draw", keep)
    figure = FUNCTIONS[name](*given, **options)
    pictures.for_any_page(figure)
    opacity = pixels_of(figure)[..., 3]
    assert opacity[0, 0] == opacity[-1, -1] == 0
    of_lines = {*figures.COLOURS.values(), *lines.CYCLE} - {plotting.INK}
    written = [text for text in drawn if text.get_text().strip()]
    assert written or name == "image_rows"
    assert min([text.get_fontsize() for text in written], default=9) >= 9
    for text in written:
        if text.get_color() in of_lines:
            continue
        box = text.get_window_extent()
        rows = slice(len(opacity) - int(box.y1), len(opacity) - int(box.y0))
        under = opacity[rows, int(box.x0) : int(box.x1)]
        in_cell = under.size > 0 and under.min() == 255
        assert in_cell == (text.get_color() != plotting.INK), text


# Pictures and their words.


def test_a_grid_holds_each_image_pixel_for_pixel():
    images = torch.rand(7, 1, 8, 8)
    grid = np.asarray(image_grid(images, nrow=4))
    assert grid.shape == (2 * 10 + 2, 4 * 10 + 2, 3)
    fifth = grid[12:20, 2:10, 0]
    assert np.abs(fifth / 255 - images[4, 0].numpy()).max() < 1 / 254


def test_a_figure_that_was_shown_is_saved_on_white_in_a_new_folder(tmp_path):
    figure = figures.bars({"a": 1.0}, y_label="nats")
    picture(figure, ALT)
    saved = Image.open(save_picture(figure, tmp_path / "new folder" / "bars.png"))
    assert saved.convert("RGBA").getpixel((0, 0)) == (255, 255, 255, 255)


@pytest.mark.parametrize("alt", ["a figure", " a   figure \n of  it "])
def test_a_picture_needs_alt_text_of_20_characters(alt):
    with pytest.raises(ValueError, match="20 characters or more"):
        picture(GRID, alt)


def test_a_picture_carries_its_alt_text_escaped(monkeypatch):
    monkeypatch.delenv("PIXELPRIOR_WIDGETS", raising=False)
    drawn = picture(GRID, 'A "grid" of <codes>\n    & more, 0 < 1.')
    shown, metadata = drawn._repr_mimebundle_()
    alt = 'A "grid" of <codes> & more, 0 < 1.'
    assert shown["text/plain"] == alt
    assert f' alt="{html.escape(alt)}" ' in shown["text/html"]
    assert shown["text/html"].count("<") == 1, "nothing but the image itself"
    assert base64.b64decode(shown["image/png"]) == drawn.png
    assert metadata == {"image/png": {"alt": alt, "width": drawn.width}}


def test_what_is_committed_is_png_alone_and_a_page_made_from_it_has_the_alt_text(
    monkeypatch,
):
    monkeypatch.setenv("PIXELPRIOR_WIDGETS", "off")
    data, metadata = picture(GRID, ALT)._repr_mimebundle_()
    assert data.keys() == {"image/png", "text/plain"}
    output = nbformat.v4.new_output("display_data", data, metadata=metadata)
    cell = nbformat.v4.new_code_cell("show()", outputs=[output])
    exporter = nbconvert.HTMLExporter(template_name="classic")
    page, _ = exporter.from_notebook_node(nbformat.v4.new_notebook(cells=[cell]))
    assert f'alt="{ALT}"' in page and "No description" not in page


def test_a_bare_picture_is_shown_pixel_for_pixel():
    shown = picture(GRID, ALT)
    assert shown.width == GRID.width
    drawn = Image.open(io.BytesIO(shown.png)).convert("RGB")
    assert np.array_equal(np.asarray(drawn), np.asarray(GRID))


def test_few_colours_leave_a_photograph_and_the_opacity_of_text_nearly_as_they_are(
    heldout_images,
):
    drawn = figures.image_rows({"a": heldout_images[torch.arange(9)][0]})
    pictures.for_any_page(drawn)
    whole = pixels_of(drawn).astype(int)
    small = pictures.reduced(Image.fromarray(whole.astype(np.uint8)))
    few = np.asarray(small.convert("RGBA")).astype(int)
    assert small.mode == "P" and small.palette.mode == "RGBA"
    opaque, clear = whole[..., 3] == 255, whole[..., 3] == 0
    assert opaque.mean() > 0.5 and clear.mean() > 0.1
    assert (few[opaque][:, 3] == 255).all() and (few[clear][:, 3] == 0).all()
    assert np.abs(few - whole)[opaque].max() <= 4
    soft = np.abs(few - whole)[~opaque & ~clear]
    assert soft.max() <= 24 and soft.mean() < 5


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
        figures.curves({"a": [3.21, 1.94]}, x_label="step", y_label="nats"),
        figures.bars({"a": 3.21, "b": 1.94}, y_label="nats"),
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
    assert showing.numbers_not_drawn(figure, "0.65 wide") == ["0.65"]


@pytest.mark.parametrize("name", ["impostors", "A reader's own words"])
def test_an_unknown_name_is_refused_and_the_remedy_named(name):
    with pytest.raises(ValueError, match=r"figures.picture\(figure, ") as refused:
        figures.show(GRID, name)
    assert repr(name) in str(refused.value)
    assert ("did you mean 'impostor'" in str(refused.value)) == (name == "impostors")


# Colours and frames.


@pytest.mark.parametrize("count", [8, 30, 64, 512])
def test_each_code_has_a_colour_of_its_own_unlike_its_neighbours(count):
    colours = code_colours(count)
    assert colours.shape == (count, 3)
    assert np.abs(colours[1:] - colours[:-1]).sum(axis=1).min() > 0.3
    apart = np.abs(colours[:, None] - colours).sum(axis=2) + 9 * np.eye(count)
    assert apart.min() > (0.09 if count <= 64 else 0)


def test_equal_codes_have_equal_colours_and_numbers_and_others_have_others():
    grid = torch.tensor([[0, 1, 2], [-1, 2, 0]])
    axis = code_grids({"codes": grid}, 3).axes[0]
    pixels = axis.images[0].get_array()  # [2, 3, 3]
    by_code = {
        code: {tuple(pixel) for pixel in pixels[grid.numpy() == code]}
        for code in (-1, 0, 1, 2)
    }
    assert all(len(colours) == 1 for colours in by_code.values())
    assert len(set.union(*by_code.values())) == 4
    assert by_code[-1] == {(1.0, 1.0, 1.0)}, "no code, no colour"
    assert words(axis.texts) == ["0", "1", "2", "2", "0"]


def test_seven_bars_have_seven_looks():
    bars = figures.bars(dict.fromkeys("abcdefg", 1.0), y_label="y").axes[0].patches
    assert len({bar.get_facecolor() for bar in bars}) == 7
    assert len({bar.get_hatch() for bar in bars}) == 7


@pytest.mark.parametrize("level", ["top", "bottom"])
@pytest.mark.parametrize("rest", [" codes", ": trained"])
def test_a_level_has_its_colour_wherever_a_name_begins_with_it(level, rest):
    name, wanted = level + rest, COLOURS[level].lower()
    figure = figures.curves({"a": [1, 2], name: [2, 1]}, **XY, baselines={name: 2.0})
    assert {to_hex(line.get_color()) for line in figure.axes[0].lines[1:]} == {wanted}
    bars = figures.bars({"a": 1.0, name: 2.0}, y_label="y").axes[0].patches
    assert to_hex(bars[1].get_facecolor()) == wanted
    frame = code_grids({name: codes(2, 3)}, 8).axes[0].spines.values()
    assert {to_hex(side.get_edgecolor()) for side in frame} == {wanted}
    assert all(side.get_visible() for side in frame)


def test_lines_are_told_apart_without_colour():
    figure = figures.curves({str(n): [n, n + 1] for n in range(6)}, **XY)
    lines = figure.axes[0].lines
    assert len({line.get_marker() for line in lines}) == 6
    assert len({line.get_linestyle() for line in lines[:4]}) == 4


# Maps and fields.


def test_no_zero_in_a_map_has_a_sign():
    grid = torch.tensor([[-0.001, 0.0, -0.01]])
    figure = figures.heatmaps({"map": grid}, unit="nats", numbers="{:.2f}")
    assert words(figure.axes[0].texts) == ["0.00", "0.00", "-0.01"]


def test_lines_join_equal_codes_that_are_a_step_apart():
    grid = torch.tensor([[0, 1, 2], [2, 0, 1], [1, 1, -1]])
    none = code_grids({"none": 0 * grid - 1}, 3, joined={"none": (0, 1)})
    assert not none.axes[0].lines
    both = {"codes": grid, "other": grid}
    axis, other = code_grids(both, 3, joined={"codes": (1, -2)}).axes
    assert (len(axis.lines), len(other.lines)) == (2, 0)
    assert [len(each.lines) for each in code_grids(both, 3, joined=(1, -2)).axes] == [
        2
    ] * 2
    for line, (x, y) in zip(axis.lines, [(2, 0), (2, 1)], strict=True):
        # Both ends lie in the cells that are joined, away from the numbers.
        near, far = 0.3 / 5**0.5, 1 - 0.3 / 5**0.5
        assert line.get_xdata() == pytest.approx([x - 2 * near, x - 2 * far])
        assert line.get_ydata() == pytest.approx([y + near, y + far])


def test_maps_share_one_scale_whose_unit_is_written():
    panels = {"low": torch.zeros(16, 6), "high": torch.full((16, 6), 3.0)}
    figure = figures.heatmaps(panels, unit="nats")
    low, high, bar = figure.axes
    assert low.images[0].get_clim() == high.images[0].get_clim() == (0, 3)
    assert titles(figure)[:2] == ["low", "high"] and bar.get_ylabel() == "nats"


def test_a_centred_scale_has_zero_in_the_middle():
    panels = {"a": torch.zeros(2, 2), "b": torch.full((2, 2), 3.0)}
    figure = figures.heatmaps(panels, unit="nats", centred=True)
    assert figure.axes[0].images[0].get_clim() == (-3, 3)


def test_a_receptive_field_tells_past_blind_spot_leak_and_future_apart():
    field = torch.tensor([[1, 0, 0, 1], [1, 0, 1, 0], [0, 0, 1, 0]]).bool()
    axis = figures.receptive_fields({"a": field}, (1, 2)).axes[0]
    *cells, position = axis.patches
    look = {  # told apart without colour as well
        (COLOURS["past"].lower(), None): "past",
        (COLOURS["future"].lower(), "xx"): "leak",
        ("#f4f4f4", None): "future",
        ("#ffffff", "////"): "blind",
    }
    drawn = {
        (cell.get_y() // 1, cell.get_x() // 1): look[
            to_hex(cell.get_facecolor()), cell.get_hatch()
        ]
        for cell in cells
    }
    assert [[drawn[y, x] for x in range(4)] for y in range(3)] == [
        ["past", "blind", "blind", "past"],
        ["past", "blind", "leak", "future"],
        ["future", "future", "leak", "future"],
    ]
    assert position.get_xy() == (2, 1) and not position.get_fill()


# Rows, panels, lines and bars.


@pytest.mark.parametrize("gap", [0.002, 0.05, 0.5])
def test_the_labels_of_two_baselines_never_overlap(gap):
    baselines = {"higher": 2 + gap, "lower": 2.0}
    figure = figures.curves({"a": [1, 4]}, **XY, baselines=baselines)
    figure.draw_without_rendering()
    higher, lower = (text.get_window_extent() for text in figure.axes[0].texts)
    assert higher.y0 > lower.y1
    assert lower.y1 < figure.axes[0].transData.transform((0, 2.0 + gap))[1]


# Single figures.


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


@pytest.mark.parametrize(
    ("u", "code"), [(0.0, 0), (0.62, 2), (0.71, 3), (0.99, 3), (1.0, 3)]
)
def test_the_stairs_lead_from_u_to_the_code_that_is_drawn(u, code):
    axis = figures.stairs(torch.tensor([0.1, 0.4, 0.2, 0.3]).double(), u).axes[0]
    _, riser = axis.lines
    assert list(riser.get_xdata()) == [code, code]
    low, high = riser.get_ydata()
    assert low <= u + 1e-9 and (u < high or u == 1)
