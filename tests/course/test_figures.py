"""Pictures have the right sizes, pixels and words, and none is left half-written."""

import base64
import html
import inspect
import io
import itertools
from collections import Counter

import nbconvert
import nbformat
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from pixelprior import plotting
from pixelprior.anomalies.scores import Calibration
from pixelprior.course import figures, showing
from pixelprior.course.figures import anomalies as anomaly_figures
from pixelprior.course.figures import codes as code_figures
from pixelprior.course.figures import (
    diagrams,
    fields,
    grids,
    judging,
    lines,
    maps,
    plots,
)
from pixelprior.course.figures.codes import code_colours, code_grids
from pixelprior.plotting import (
    COLOURS,
    captioned_images,
    image_grid,
    image_rows,
    picture,
    save_picture,
)

ALT = "Five small grey squares in a row."


def test_a_grid_holds_each_image_pixel_for_pixel():
    images = torch.rand(7, 1, 8, 8)
    grid = np.asarray(image_grid(images, nrow=4))
    assert grid.shape == (2 * 10 + 2, 4 * 10 + 2, 3)
    fifth = grid[12:20, 2:10, 0]
    assert np.abs(fifth / 255 - images[4, 0].numpy()).max() < 1 / 254


@pytest.mark.parametrize("channels", [1, 3])
def test_figures_are_drawn_for_grey_and_colour(tmp_path, channels):
    images = torch.rand(5, channels, 8, 8)
    figure = captioned_images(images, list("abcde"), columns=3, title="five")
    path = save_picture(figure, tmp_path / "new folder" / "five.png")
    assert np.asarray(Image.open(path)).std() > 20
    figure = image_rows({"one": images, "two": images[:3]})
    assert len(figure.axes) == 10


def test_a_picture_that_fails_leaves_nothing(tmp_path):
    class Fails(Image.Image):
        def save(self, path):
            path.write_bytes(b"half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        save_picture(Fails(), tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_a_picture_needs_alt_text_of_20_characters():
    image = image_grid(torch.rand(5, 1, 4, 4))
    for alt in ("", "a figure", " a   figure \n of  it "):
        with pytest.raises(ValueError, match="20 characters or more"):
            picture(image, alt)


def test_a_picture_carries_its_alt_text_escaped(monkeypatch):
    monkeypatch.delenv("PIXELPRIOR_WIDGETS", raising=False)
    alt = 'A "grid" of <codes>\n    & more, 0 < 1.'
    drawn = picture(image_grid(torch.rand(5, 1, 4, 4)), alt)
    shown, metadata = drawn._repr_mimebundle_()
    words = 'A "grid" of <codes> & more, 0 < 1.'
    assert shown["text/plain"] == words
    assert f' alt="{html.escape(words)}" ' in shown["text/html"]
    assert shown["text/html"].count("<") == 1, "nothing but the image itself"
    assert base64.b64decode(shown["image/png"]) == drawn.png
    assert metadata == {"image/png": {"alt": words, "width": drawn.width}}


def test_what_is_committed_is_png_alone(monkeypatch):
    monkeypatch.setenv("PIXELPRIOR_WIDGETS", "off")
    shown, _ = picture(image_grid(torch.rand(5, 1, 4, 4)), ALT)._repr_mimebundle_()
    assert shown.keys() == {"image/png", "text/plain"}


def test_a_page_made_from_a_notebook_has_the_alt_text(monkeypatch):
    drawn = picture(image_grid(torch.rand(5, 1, 4, 4)), ALT)
    monkeypatch.setenv("PIXELPRIOR_WIDGETS", "off")
    data, metadata = drawn._repr_mimebundle_()
    output = nbformat.v4.new_output("display_data", data, metadata=metadata)
    cell = nbformat.v4.new_code_cell("show()", outputs=[output])
    notebook = nbformat.v4.new_notebook(cells=[cell])
    exporter = nbconvert.HTMLExporter(template_name="classic")
    page, _ = exporter.from_notebook_node(notebook)
    assert f'alt="{ALT}"' in page and "No description" not in page


def test_a_bare_picture_is_shown_pixel_for_pixel():
    grid = image_grid((torch.arange(5 * 16) / 79).view(5, 1, 4, 4))
    shown = picture(grid, ALT)
    assert shown.width == grid.width
    drawn = Image.open(io.BytesIO(shown.png)).convert("RGB")
    assert np.array_equal(np.asarray(drawn), np.asarray(grid))


def test_a_figure_is_shown_as_wide_as_declared_whatever_matplotlib_draws():
    class Narrower(Figure):
        """Drawn 1019 pixels wide, as matplotlib before 3.11 draws 10.2 inches."""

        def savefig(self, file, **options):
            self.set_figwidth(10.193)
            super().savefig(file, **options)

    shown = picture(Narrower(figsize=(10.2, 1)), ALT)
    assert Image.open(io.BytesIO(shown.png)).width == 1019
    assert shown.width == 1020 and '<img width="1020" ' in shown.html


def test_a_diagram_has_twice_the_pixels_that_it_is_wide():
    shown = picture(figures.gated_block(), ALT)
    # Matplotlib before 3.11 may round the width down.
    assert abs(Image.open(io.BytesIO(shown.png)).width - 2 * shown.width) <= 1


def test_other_settings_of_matplotlib_change_no_pixels():
    shown = picture(Figure(figsize=(4, 1), dpi=150), ALT)
    assert Image.open(io.BytesIO(shown.png)).width == shown.width == 400


def test_show_shows_one_picture_with_the_alt_text_of_its_name(monkeypatch):
    shown = []
    monkeypatch.setattr(showing, "display", shown.append)
    figures.show(image_grid(torch.rand(5, 1, 4, 4)), "impostor")
    assert [each.alt for each in shown] == [showing.alt_text("impostor")]


def test_an_alt_text_is_shown_without_the_source_of_its_numbers(monkeypatch):
    text = "A single bar as high as 1.83<!--= results a.b --> nats."
    monkeypatch.setattr(showing, "alt_texts", lambda: {"00_a": {"bar": text}})
    assert showing.alt_text("bar") == "A single bar as high as 1.83 nats."


def test_the_frame_of_a_heat_map_is_at_its_row_and_column():
    figure = figures.heatmaps({"a": torch.zeros(3, 5)}, unit="", position=(2, 4))
    (frame,) = figure.axes[0].patches
    assert frame.get_xy() == (3.5, 1.5) and not frame.get_fill()


@pytest.mark.parametrize(
    "figure",
    [
        figures.curves({"a": [3.21, 1.94]}, x_label="step", y_label="nats"),
        figures.bars({"a": 3.21, "b": 1.94}, y_label="nats"),
        figures.heatmaps({"a": torch.tensor([[3.21, 0.0], [1.94, 7.0]])}, unit="nats"),
    ],
    ids=["curves", "bars", "heatmaps"],
)
def test_numbers_of_an_alt_text_are_compared_with_the_figure(figure, monkeypatch):
    """To one unit of the last digit; whole numbers may count anything."""
    monkeypatch.setattr(showing, "display", lambda shown: None)
    monkeypatch.delenv(showing.CHECK, raising=False)
    right = "From 3.2 down to 1.9<!--= results a.b --> or 2.0, over 9 steps."
    wrong = "From 3.2 down to 1.7, or to 1.97."
    assert showing.numbers_not_drawn(figure, wrong) == ["1.7", "1.97"]
    assert showing.numbers_not_drawn(figure, "0.65 wide") == ["0.65"]
    monkeypatch.setattr(showing, "alt_texts", lambda: {"00": {"a": right, "b": wrong}})
    figures.show(figure, "b")  # a reader's figure is not checked
    monkeypatch.setenv(showing.CHECK, "on")
    figures.show(figure, "a")
    with pytest.raises(ValueError, match=r"'b' has 1\.7, 1\.97, and nothing"):
        figures.show(figure, "b")


@pytest.mark.parametrize("name", ["impostors", "A reader's own words", "", 3])
def test_an_unknown_name_is_refused_and_the_remedy_named(name):
    with pytest.raises(ValueError, match=r"figures.picture\(figure, ") as refused:
        figures.show(image_grid(torch.rand(5, 1, 4, 4)), name)
    assert repr(name) in str(refused.value)
    assert ("did you mean 'impostor'" in str(refused.value)) == (name == "impostors")


def images(count, channels=1, height=8, width=8):
    return torch.linspace(0, 1, count * channels * height * width).view(
        count, channels, height, width
    )


def codes(height, width, count=64):
    return torch.arange(height * width).view(height, width) % count


def seen(height, width):
    return codes(height, width) % 3 == 0


BASIS = torch.tensor([[0.0, 0.0], [1.0, 0.0], [9.0, 9.0]])

TEMPERATURES = {
    "temperature": {"T = 0.3": (1.0, 2.0), "T = 1": (3.0, 1.0), "T = 1.3": (3.1, 3.0)}
}
AXES = {
    "start": "T = 1",
    "cloud": {"photographs": [(3.3, 0.4), (3.5, 0.5)]},
    "noise": (0.2, 0.3),
    "x_label": "distance",
    "y_label": "Fréchet distance",
}
NEEDS = {"01": "00", "02": "00", "03": "02", "04": "01 03", "05": "04"}
NEEDS |= dict.fromkeys(("06", "07", "08", "09", "10"), "05")  # those of the course

# Each figure at the course's sizes, and at odd ones: one row, one code, not square.
NORMAL_SCORES = torch.linspace(-3, 4, 99).double()
CALIBRATION = Calibration(
    {}, *[torch.zeros(3)] * 2, NORMAL_SCORES, torch.zeros(3), 1, None, ("", "")
)
FIGURES = {
    "findings": [
        lambda f: f(
            images(4), images(4), images(4)[:, 0], [f"{n}\np" for n in range(4)], 0.5
        ),
        lambda f: f(
            images(1, 3), images(1, 3), images(1)[:, 0].requires_grad_(), ["one"], 2
        ),
    ],
    "scores": [lambda f: f(CALIBRATION, NORMAL_SCORES.exp(), 0.05)],
    "captioned_images": [
        lambda f: f(images(16), [str(n) for n in range(16)], title="sixteen"),
        lambda f: f(images(1, 3, 4, 6), ["alone"], columns=3),
    ],
    "image_rows": [
        lambda f: f({"drawn": images(8), "real": images(8)}),
        lambda f: f({"one row": images(1, 3, 4, 6)}),
    ],
    "image_blocks": [
        lambda f: f(
            {"drawn": images(60), "real": images(60)}, column_names=["Ankle boot"] * 10
        ),
        lambda f: f({"": images(1, 3, 4, 6)}, column_names=["alone"]),
    ],
    "code_grids": [
        lambda f: f(
            {"top codes": codes(8, 8), "bottom codes": codes(16, 16)},
            64,
            marked={"top codes": (2, 5)},
        ),
        lambda f: f({"a row": codes(1, 6), "": codes(5, 1) - 1}, 64, numbers=True),
        lambda f: f({"one code": codes(1, 1, 1)}, 1),
    ],
    "pipeline": [
        lambda f: f(images(1)[0], codes(8, 8), codes(16, 16), images(1)[0], 64),
        lambda f: f(
            images(1, 3, 4, 6)[0], codes(1, 2), codes(1, 1), images(1, 3, 4, 6)[0], 2
        ),
    ],
    "curves": [
        lambda f: f(
            {
                "top": [1 / n for n in range(1, 50)],
                "other": (range(1, 4), [3.0, 2.0, 1.0]),
            },
            x_label="epoch",
            y_label="nats per code",
            baselines={"uniform": 4.16},
            bands={"between": (2.0, 3.0)},
        ),
        lambda f: f(
            {"one point": [1.0]},
            x_label="x",
            y_label="y",
            log_x=True,
            log_y=True,
            x_ticks=[1, 4],
        ),
        lambda f: f({}, x_label="x", y_label="y", baselines={"alone": 1.0}),
    ],
    "stacked_curves": [
        lambda f: f(
            {
                "one": {"a": [1.0, 2.0]},
                "other": {"a": [2.0], "b": ([3, 4], [1.0, 2.0])},
            },
            x_label="step",
            y_label="nats per code",
            baselines={"uniform": 4.16},
            log_y=True,
        ),
        lambda f: f({"alone": {}}, x_label="x", y_label="y"),
    ],
    "bars": [
        lambda f: f({"top": 1.8, "bottom": 1.2, "unigram": 3.7}, y_label="nats"),
        lambda f: f({"none": 0.0}, y_label="nats"),
    ],
    "code_use": [
        lambda f: f({"top": torch.arange(64), "bottom": torch.ones(512)}),
        lambda f: f({"one code": torch.zeros(1, dtype=torch.long)}),
    ],
    "heatmaps": [
        lambda f: f(
            {"top": codes(8, 8) / 9, "bottom": codes(16, 16) / 9},
            unit="nats",
            numbers="{:.1f}",
        ),
        lambda f: f(
            {"a row": torch.zeros(1, 6)}, unit="nats", numbers="{:.0f}", centred=True
        ),
        lambda f: f({"one": torch.ones(1, 1)}, unit="nats", limits=(0.0, None)),
    ],
    "grouped_bars": [
        lambda f: f({"a": [1.0, 2.0], "b": [2.0, 0.5]}, ["x", "y"], y_label="nats"),
        lambda f: f({"alone": [0.0]}, ["x"], y_label="y"),
    ],
    "images_over_maps": [
        lambda f: f(
            images(8), images(8)[:, 0], [str(n) for n in range(8)], unit="nats"
        ),
        lambda f: f(images(1, 3, 4, 6), torch.zeros(1, 5, 3), ["alone"], unit="nats"),
        lambda f: f(
            images(3),
            images(3)[:, 0] - 0.5,
            ["one", "two", "two less one"],
            unit="nats",
            difference="nats more",
        ),
    ],
    "numbered_maps": [
        lambda f: f(
            {f"class {n}": codes(16, 16) / 9 for n in range(10)},
            unit="nats",
            outlines={f"class {n}": images(1, 1, 32, 32)[0] for n in range(10)},
        ),
        lambda f: f({"all": codes(16, 16) / 9}, unit="nats"),
        lambda f: f(
            {"a row": codes(1, 6), "one": torch.ones(1, 1)},
            unit="nats",
            columns=1,
            outlines={"a row": images(1, 3, 4, 6)[0], "one": torch.zeros(1, 4, 4)},
        ),
    ],
    "masks": [
        lambda f: f({"A": torch.eye(3), "B": torch.eye(5)}),
        lambda f: f({"a row": torch.ones(1, 4, dtype=torch.bool)}),
    ],
    "raster_order": [lambda f: f(8, 8, (3, 4)), lambda f: f(1, 6, (0, 0))],
    "receptive_fields": [
        lambda f: f({f"{n} layers": seen(8, 8) for n in range(6)}, (3, 4)),
        lambda f: f({"a row": seen(1, 6)}, (0, 5)),
        lambda f: f({"one code": seen(1, 1)}, (0, 0)),
    ],
    "nearest_cells": [
        lambda f: f(
            {"before": (codes(9, 2) / 9, torch.eye(2)), "after": (codes(3, 2), BASIS)},
            x_label="first",
            y_label="second",
            limits=(-1, 2),
        ),
        lambda f: f(
            {"one code": (torch.zeros(1, 2), torch.zeros(1, 2))},
            x_label="x",
            y_label="y",
            limits=(-1, 1),
        ),
    ],
    "prediction": [
        lambda f: f(codes(8, 8), (3, 4), torch.full((64,), 1 / 64)),
        lambda f: f(codes(1, 6), (0, 5), torch.eye(6)[5]),
        lambda f: f(codes(1, 1), (0, 0), torch.ones(1)),
    ],
    "stairs": [
        lambda f: f(torch.tensor([0.1, 0.4, 0.2, 0.3]), 0.62),
        lambda f: f([1.0], 0.0),
    ],
    "trade_off": [
        lambda f: f(TEMPERATURES | {"guidance": {"w = 1": (2.0, 0.5)}}, **AXES),
        lambda f: f({"alone": {"T = 1": (1.0, 1.0)}}, **AXES),
    ],
    "bar_panels": [
        lambda f: f({"low is good": {"a": 0.1, "b": 0.7}, "high": {"b": 0.9}}),
        lambda f: f({"": {"none": 0.0}}, unit_format="{:.0f}"),
    ],
    "curve_panels": [
        lambda f: f(
            {
                "rate": {"a": [1.0, 0.1], "b": [[2.0, 0.3], [2.0, 0.2]]},
                "file": {"c": [1.0, 2.0]},
            },
            x_label="step",
            y_label="loss",
            scales="log",
            y_limits=(0.01, 10),
        ),
        lambda f: f(
            {"first": {"a": [-1.0, 900.0]}, "second": {"a": [1.0]}},
            x_label="step",
            scales=("symlog", "linear"),
        ),
    ],
    "two_levels": [lambda f: f(), lambda f: f(64)],
    "gated_block": [lambda f: f()],
    "shifted_kernel": [lambda f: f()],
    "cached_step": [lambda f: f()],
    "course_map": [
        lambda f: f({f"{n:02d}": "about\nthis" for n in range(11)}, NEEDS, here="03"),
        lambda f: f({"00": "alone"}, {}),
    ],
    "cells": [
        lambda f: f(
            {"a": codes(2, 3, 2), "b": codes(1, 1, 2), "c": codes(8, 8, 1)},
            {"new": ("#56B4E9", ""), "again": ("white", "//")},
            position=(0, 0),
            columns=2,
        ),
        lambda f: f({"alone": codes(1, 6, 1)}, {"new": ("#56B4E9", "")}),
    ],
    "what_is_computed": [
        lambda f: f(3, 4),
        lambda f: f(0, 0),
        lambda f: f(0, 2, height=1, width=3),
    ],
}
MODULES = [plotting, anomaly_figures, code_figures, diagrams, fields, grids, judging]
MODULES += [lines, maps, plots]
FUNCTIONS = {
    name: function
    for module in MODULES
    for name, function in inspect.getmembers(module, inspect.isfunction)
    if function.__module__ == module.__name__
    and inspect.signature(function).return_annotation is Figure
}


def test_every_figure_is_tried():
    assert FIGURES.keys() == FUNCTIONS.keys()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "draw"),
    [(name, draw) for name, draws in FIGURES.items() for draw in draws],
)
# matplotlib calls functions that pyparsing has deprecated; we cannot fix that.
@pytest.mark.filterwarnings("ignore::DeprecationWarning:(matplotlib|pyparsing)")
@pytest.mark.filterwarnings("error")
def test_a_figure_is_drawn_and_twice_the_same(name, draw):
    once, again = (picture(draw(FUNCTIONS[name]), ALT) for _ in range(2))
    assert once.png == again.png
    drawn = Image.open(io.BytesIO(once.png)).convert("RGBA")
    for page in ("white", "#111111"):
        whole = Image.new("RGBA", drawn.size, page)
        whole.alpha_composite(drawn)
        assert np.asarray(whole.convert("L")).std() > 2, page


def drawn_figures():
    """(name, figure) for each way in which a figure is tried."""
    for name, draws in FIGURES.items():
        for draw in draws:
            yield name, draw(FUNCTIONS[name])


def test_no_figure_is_wider_than_a_page():
    widths = [(name, figure.get_figwidth()) for name, figure in drawn_figures()]
    assert not [each for each in widths if each[1] > plotting.WIDEST]


def pixels_of(figure: Figure) -> np.ndarray:
    """A figure as it is drawn with a transparent background, [H, W, 4]."""
    file = io.BytesIO()
    figure.savefig(file, format="rgba", dpi=figure.dpi, transparent=True)
    width, height = FigureCanvasAgg(figure).get_width_height()
    return np.frombuffer(file.getvalue(), np.uint8).reshape(height, width, 4)


def test_a_figure_that_was_shown_is_saved_on_white(tmp_path):
    figure = figures.bars({"a": 1.0}, y_label="nats")
    picture(figure, ALT)
    saved = Image.open(plotting.save_picture(figure, tmp_path / "bars.png"))
    assert saved.convert("RGBA").getpixel((0, 0)) == (255, 255, 255, 255)


def contrast(one: str, other: str) -> float:
    """Contrast of two colours by the Web Content Accessibility Guidelines, 1 to 21."""
    lights = []
    for colour in (one, other):
        share = np.array(to_rgb(colour))
        linear = np.where(
            share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4
        )
        lights.append(0.05 + linear @ [0.2126, 0.7152, 0.0722])
    return max(lights) / min(lights)


def test_grey_text_can_be_read_on_white_and_on_the_dark_of_jupyterlab():
    assert contrast("white", "black") == pytest.approx(21)
    assert contrast(plotting.INK, "white") > 4.5
    assert contrast(plotting.INK, "#111111") > 4


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:(matplotlib|pyparsing)")
def test_a_figure_has_no_ground_and_text_is_grey_but_in_cells(
    monkeypatch,
):
    drawn, draw = [], Text.draw

    def keep(text, renderer, *more):
        drawn.append(text)
        draw(text, renderer, *more)

    monkeypatch.setattr(Text, "draw", keep)
    of_lines = {*figures.COLOURS.values(), *figures.CYCLE} - {plotting.INK}
    kinds = Counter()
    for name, figure in drawn_figures():
        plotting.for_any_page(figure)
        drawn.clear()
        opacity = pixels_of(figure)[..., 3]
        assert opacity[0, 0] == opacity[-1, -1] == 0, name
        for text in drawn:
            if not text.get_text().strip() or text.get_color() in of_lines:
                continue
            box = text.get_window_extent()
            rows = slice(len(opacity) - int(box.y1), len(opacity) - int(box.y0))
            under = opacity[rows, int(box.x0) : int(box.x1)]
            in_cell = under.size > 0 and under.min() == 255
            kinds[in_cell] += 1
            assert in_cell == (text.get_color() != plotting.INK), (name, text)
    assert min(kinds[True], kinds[False]) > 500


def test_few_colours_leave_a_photograph_and_the_opacity_of_text_nearly_as_they_are(
    heldout_images,
):
    drawn = figures.image_rows({"a": heldout_images[torch.arange(9)][0]})
    plotting.for_any_page(drawn)
    whole = pixels_of(drawn).astype(int)
    small = plotting.reduced(Image.fromarray(whole.astype(np.uint8)))
    few = np.asarray(small.convert("RGBA")).astype(int)
    assert small.mode == "P" and small.palette.mode == "RGBA"
    opaque, clear = whole[..., 3] == 255, whole[..., 3] == 0
    assert opaque.mean() > 0.5 and clear.mean() > 0.1
    assert (few[opaque][:, 3] == 255).all() and (few[clear][:, 3] == 0).all()
    assert np.abs(few - whole)[opaque].max() <= 4
    soft = np.abs(few - whole)[~opaque & ~clear]
    assert soft.max() <= 24 and soft.mean() < 5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:(matplotlib|pyparsing)")
def test_no_text_in_a_figure_is_smaller_than_9_points():
    for name, figure in drawn_figures():
        figure.draw_without_rendering()
        small = {
            text.get_text(): text.get_fontsize()
            for text in figure.findobj(Text)
            if text.get_visible() and text.get_text().strip()
            if text.get_fontsize() < 9
        }
        assert not small, f"{name} has texts of less than 9 points"


@pytest.mark.parametrize("count", [2, 8, 9, 30, 64, 512])
def test_each_code_has_a_colour_of_its_own_unlike_its_neighbours(count):
    colours = code_colours(count)
    assert colours.shape == (count, 3)
    assert np.abs(colours[1:] - colours[:-1]).sum(axis=1).min() > 0.3
    apart = np.abs(colours[:, None] - colours).sum(axis=2) + 9 * np.eye(count)
    assert apart.min() > (0.09 if count <= 64 else 0)


def test_a_code_beyond_the_codebook_is_refused():
    with pytest.raises(ValueError, match=r"code 7 is to be drawn, but .* has 3 codes"):
        code_grids({"codes": torch.tensor([[0, 7]])}, 3)


def test_no_zero_in_a_map_has_a_sign():
    figure = figures.heatmaps(
        {"map": torch.tensor([[-0.001, 0.0, -0.01]])}, unit="nats", numbers="{:.2f}"
    )
    written = [text.get_text() for text in figure.axes[0].texts]
    assert written == ["0.00", "0.00", "-0.01"]


def test_lines_join_equal_codes_that_are_a_step_apart():
    grid = torch.tensor([[0, 1, 2], [2, 0, 1], [1, 1, 0]])
    grid[2, 2] = -1
    assert (
        not code_grids({"none": 0 * grid - 1}, 3, joined={"none": (0, 1)}).axes[0].lines
    )
    axis = code_grids({"codes": grid}, 3, joined={"codes": (1, -2)}).axes[0]
    assert len(axis.lines) == 2
    for line, (x, y) in zip(axis.lines, [(2, 0), (2, 1)], strict=True):
        # Both ends lie in the cells that are joined, away from the numbers.
        near, far = 0.3 / 5**0.5, 1 - 0.3 / 5**0.5
        assert line.get_xdata() == pytest.approx([x - 2 * near, x - 2 * far])
        assert line.get_ydata() == pytest.approx([y + near, y + far])


@pytest.mark.parametrize("count", [1, 2, 3, 4, 8, 12])
def test_panels_are_as_wide_as_wanted_or_as_fits_a_page(count):
    width = plotting.panel_width(count, 2.5, margin=1.0)
    assert width == 2.5 or count * width + 1.0 == pytest.approx(plotting.WIDEST)
    assert count * width + 1.0 <= plotting.WIDEST + 1e-9
    assert plotting.panel_width(0, 2.5) == 2.5


def test_columns_have_their_names():
    figure = image_rows(
        {"a": images(3), "b": images(3)}, column_names=["x", "T-shirt", "z w"]
    )
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ["x", "T-shirt", "z\nw", "", "", ""]
    with pytest.raises(ValueError, match="2 names are given for 3 columns"):
        image_rows({"a": images(3)}, column_names=["x", "y"])


LEVELS = pytest.mark.parametrize("level", ["top", "bottom"])


@LEVELS
@pytest.mark.parametrize("rest", ["", " codes", ": trained", ", uniform"])
def test_a_level_has_its_colour_wherever_a_name_begins_with_it(level, rest):
    name, wanted = level + rest, COLOURS[level].lower()
    lines = figures.curves({"a": [1, 2], name: [2, 1]}, x_label="x", y_label="y")
    assert to_hex(lines.axes[0].lines[1].get_color()) == wanted
    bars = figures.bars({"a": 1.0, name: 2.0}, y_label="y").axes[0].patches
    assert to_hex(bars[1].get_facecolor()) == wanted
    used = figures.code_use({"a": torch.ones(3), name: torch.ones(3)}).axes[1]
    assert {to_hex(bar.get_facecolor()) for bar in used.patches} == {wanted}
    frame = code_grids({name: codes(2, 3)}, 8).axes[0].spines.values()
    assert {to_hex(side.get_edgecolor()) for side in frame} == {wanted}
    assert all(side.get_visible() for side in frame)


@LEVELS
def test_no_other_name_has_the_colour_of_a_level(level):
    for number, name in enumerate([f"not {level}", f"{level}less", "", " "]):
        assert figures.colour_of(name, number) == figures.CYCLE[number]
    frame = code_grids({f"{level}less": codes(2, 3)}, 8).axes[0].spines.values()
    assert not any(side.get_visible() for side in frame)


def test_equal_codes_have_equal_colours_and_others_have_others():
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
    assert [text.get_text() for text in axis.texts] == ["0", "1", "2", "2", "0"]


def test_a_marked_code_is_framed_at_its_row_and_column():
    axis = code_grids({"codes": codes(3, 7)}, 64, marked={"codes": (1, 5)}).axes[0]
    (frame,) = axis.patches
    assert frame.get_xy() == (5 - 0.5, 1 - 0.5) and not frame.get_fill()


def test_a_receptive_field_tells_past_blind_spot_leak_and_future_apart():
    field = torch.tensor([[1, 0, 0, 1], [1, 0, 1, 0], [0, 0, 1, 0]]).bool()
    axis = figures.receptive_fields({"a": field}, (1, 2)).axes[0]
    *cells, position = axis.patches
    kind = {
        COLOURS["past"].lower(): "past",
        COLOURS["future"].lower(): "leak",
        "#f4f4f4": "future",
        "#ffffff": "blind",
    }
    drawn = {
        (int(cell.get_y()), int(cell.get_x())): kind[to_hex(cell.get_facecolor())]
        for cell in cells
    }
    assert [[drawn[y, x] for x in range(4)] for y in range(3)] == [
        ["past", "blind", "blind", "past"],
        ["past", "blind", "leak", "future"],
        ["future", "future", "leak", "future"],
    ]
    for cell in cells:
        where = drawn[int(cell.get_y()), int(cell.get_x())]
        hatch = {"blind": "////", "leak": "xx"}.get(where)
        assert cell.get_hatch() == hatch, "told apart without colour as well"
    assert position.get_xy() == (2, 1) and not position.get_fill()


@pytest.mark.parametrize(("fields", "columns"), [(1, 4), (5, 4), (3, 1)])
def test_each_receptive_field_is_drawn_under_its_name(fields, columns):
    maps = {f"{n} layers": seen(2, 3) for n in range(fields)}
    axes = figures.receptive_fields(maps, (1, 1), columns=columns).axes
    drawn = {axis.get_title(): len(axis.patches) for axis in axes if axis.patches}
    assert drawn == dict.fromkeys(maps, 2 * 3 + 1)


def test_masks_show_seen_places_as_past_and_frame_the_centre():
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0]])
    axis = figures.masks({"A": mask}).axes[0]
    *cells, centre = axis.patches
    blue = [to_hex(cell.get_facecolor()) == COLOURS["past"].lower() for cell in cells]
    assert blue == mask.flatten().bool().tolist()
    assert [int(text.get_text()) for text in axis.texts] == mask.flatten().tolist()
    assert centre.get_xy() == (2, 1) and not centre.get_fill()


def test_heat_maps_share_one_scale_whose_unit_is_written():
    maps = {"low": torch.zeros(2, 2), "high": torch.full((2, 2), 3.0)}
    low, high, bar = figures.heatmaps(maps, unit="nats").axes
    assert low.images[0].get_clim() == high.images[0].get_clim() == (0, 3)
    assert bar.get_ylabel() == "nats"
    centred = figures.heatmaps(maps, unit="nats", centred=True)
    assert centred.axes[0].images[0].get_clim() == (-3, 3)


def test_numbered_maps_share_one_scale_and_number_their_rows_and_columns():
    grids = {"low": torch.zeros(16, 6), "high": torch.full((16, 6), 3.0)}
    low, high, bar = figures.numbered_maps(grids, unit="nats").axes
    assert low.images[0].get_clim() == high.images[0].get_clim() == (0, 3)
    assert [axis.get_title() for axis in (low, high)] == list(grids)
    assert bar.get_ylabel() == "nats"
    assert low.get_yticks().tolist() == [0, 5, 10, 15]
    assert high.get_xticks().tolist() == [0, 5]
    assert low.get_ylabel() == "row" and low.get_xlabel() == "column"


def test_an_outline_lies_over_the_cells_that_the_shape_covers():
    # Rows 4 to 11 and columns 8 to 19 of 32 × 32 pixels: cells 2 to 5 and 4 to 9.
    shape = torch.zeros(1, 32, 32)
    shape[:, 4:12, 8:20] = 1
    figure = figures.numbered_maps(
        {"a": torch.zeros(16, 16), "b": torch.zeros(16, 16)},
        unit="nats",
        outlines={"a": shape},
    )
    first, second, _ = figure.axes
    (line,) = first.collections
    corners = np.concatenate([path.vertices for path in line.get_paths()])
    assert corners.min(axis=0) == pytest.approx([3.5, 1.5], abs=0.3)
    assert corners.max(axis=0) == pytest.approx([9.5, 5.5], abs=0.3)
    assert not second.collections, "no image was given for it"
    (legend,) = figure.legends
    assert legend.get_texts()[0].get_text() == "outline of the mean image"


@LEVELS
def test_a_baseline_of_a_level_has_its_colour(level):
    levels = {f"{level}: frequencies": 2.0, "uniform": 3.0}
    figure = figures.curves({"a": [1, 2]}, x_label="x", y_label="y", baselines=levels)
    _, own, other = figure.axes[0].lines
    assert to_hex(own.get_color()) == COLOURS[level].lower()
    assert to_hex(other.get_color()) == COLOURS["baseline"]


@pytest.mark.parametrize("gap", [0.002, 0.05, 0.5])
@pytest.mark.parametrize("log_y", [False, True])
def test_the_labels_of_two_baselines_never_overlap(gap, log_y):
    figure = figures.curves(
        {"a": [1, 4]},
        x_label="x",
        y_label="y",
        baselines={"higher": 2 + gap, "lower": 2.0},
        log_y=log_y,
    )
    figure.draw_without_rendering()
    higher, lower = (text.get_window_extent() for text in figure.axes[0].texts)
    assert higher.y0 > lower.y1
    assert lower.y1 < figure.axes[0].transData.transform((0, 2.0 + gap))[1]


def test_code_use_shows_shares_from_the_most_frequent_code_down():
    axis = figures.code_use({"top": torch.tensor([1, 0, 6, 3])}).axes[0]
    assert [bar.get_height() for bar in axis.patches] == [0.6, 0.3, 0.1, 0.0]
    assert list(axis.lines[0].get_ydata()) == [0.25, 0.25], "if all were equal"


def test_lines_are_told_apart_without_colour():
    figure = figures.curves(
        {str(n): [n, n + 1] for n in range(6)}, x_label="x", y_label="y"
    )
    lines = figure.axes[0].lines
    assert len({line.get_marker() for line in lines}) == 6
    assert len({line.get_linestyle() for line in lines[:4]}) == 4


def test_panels_have_the_same_axes_and_lines_of_their_own():
    one, other = {"a": [1, 2]}, {"b": [30, 40, 50], "c": [3, 4, 5]}
    figure = figures.stacked_curves(
        {"one": one, "other": other}, x_label="x", y_label="y", baselines={"level": 7}
    )
    above, below = figure.axes
    assert above.get_xlim() == below.get_xlim()
    assert above.get_ylim() == below.get_ylim()
    names = [
        [text.get_text() for text in axis.get_legend().texts] for axis in (above, below)
    ]
    assert names == [["a"], ["b", "c"]]
    assert all(7 in axis.lines[-1].get_ydata() for axis in (above, below))


def test_the_shifted_kernel_is_drawn_one_row_smaller():
    figure = figures.shifted_kernel()
    past = to_hex(COLOURS["past"])
    seen = [
        each for each in figure.axes[0].patches if to_hex(each.get_facecolor()) == past
    ]
    middle = figure.axes[0].get_xlim()[1] / 2
    assert sum(each.get_x() < middle for each in seen) == 2 * 3
    assert sum(each.get_x() > middle for each in seen) == 3


def test_each_point_has_one_label_and_no_label_covers_another_or_a_point():
    close = {"T = 1": (3.0, 1.0), "T = 0.7": (2.96, 0.98), "T = 1.15": (3.04, 1.02)}
    near = {"k = 10": (2.98, 0.96), "k = 7": (3.02, 0.97)}
    figure = figures.trade_off({"temperature": close, "top_k": near}, **AXES)
    figure.canvas.draw()
    axis = figure.axes[0]
    labels = [text for text in axis.texts if "=" in text.get_text()]
    assert sorted(text.get_text() for text in labels) == sorted([*close, *near])
    boxes = [text.get_window_extent() for text in labels]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    points = axis.transData.transform([*close.values(), *near.values()])
    assert not any(box.contains(x, y) for box in boxes for x, y in points)


def test_knobs_begin_where_none_is_turned():
    paths = TEMPERATURES | {"top_k": {"k = 10": (2.0, 0.5)}}
    temperature, top_k = figures.trade_off(paths, **AXES).axes[0].lines
    assert list(temperature.get_xdata()) == [1.0, 3.0, 3.1]
    assert list(top_k.get_xdata()) == [3.0, 2.0], "from T = 1"
    assert list(top_k.get_markevery()) == [1], "a mark at its own point alone"


@pytest.mark.parametrize(
    ("u", "code"), [(0.0, 0), (0.62, 2), (0.71, 3), (0.99, 3), (1.0, 3)]
)
def test_the_stairs_lead_from_u_to_the_code_that_is_drawn(u, code):
    axis = figures.stairs(torch.tensor([0.1, 0.4, 0.2, 0.3]).double(), u).axes[0]
    _, riser = axis.lines
    assert list(riser.get_xdata()) == [code, code]
    low, high = riser.get_ydata()
    assert low <= u + 1e-9 and (u < high or u == 1)


def test_panels_of_bars_have_axes_of_their_own():
    figure = figures.bar_panels({"low": {"a": 0.1, "b": 7.0}, "high": {"b": 0.9}})
    low, high = figure.axes
    assert low.get_ylim()[1] > 7 and high.get_ylim()[1] < 2
    b = low.patches[1]
    (other,) = high.patches
    assert b.get_facecolor() == other.get_facecolor(), "one name, one look"


def test_several_runs_of_one_name_look_alike_and_are_named_once():
    panels = {"rate": {"a": [[1.0, 2.0], [3.0, 4.0]]}, "file": {"a": [1.0, 2.0]}}
    figure = figures.curve_panels(panels, x_label="step")
    lines = figure.axes[0].lines
    assert len(lines) == 2 and len({line.get_color() for line in lines}) == 1
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a"]


def test_panels_with_other_lines_have_legends_of_their_own():
    panels = {"rate": {"a": [1.0], "b": [2.0]}, "file": {"b": [1.0], "a": [2.0]}}
    figure = figures.curve_panels(panels, x_label="step")
    assert not figure.legends
    for axis, names in zip(figure.axes, ("ab", "ba"), strict=True):
        legend = axis.get_legend()
        assert [text.get_text() for text in legend.get_texts()] == list(names)


def test_the_map_fills_in_where_you_are():
    figure = figures.course_map({"00": "a", "01": "b", "02": "c"}, {}, here="01")
    faces = [to_hex(box.get_facecolor()) for box in figure.axes[0].patches[:3]]
    assert faces[0] == faces[2] != faces[1]


def test_the_map_has_a_notebook_to_the_right_of_all_that_it_needs():
    needs = {"01": "00", "02": "01 00", "03": "00"}
    chapters = dict.fromkeys(["00", *needs], "about")
    figure = figures.course_map(chapters, needs)
    left = [box.get_x() for box in figure.axes[0].patches[:4]]
    assert left[0] < left[1] == left[2] < left[3]  # 00, 01 and 03, 02
    with pytest.raises(ValueError, match="01 needs 03, which does not come before it"):
        figures.course_map(chapters, {"01": "03"})


def test_a_map_wider_than_a_page_is_refused():
    chain = {f"{n:02d}": f"{n - 1:02d}" for n in range(1, 10)}
    with pytest.raises(ValueError, match="15 inches wide, and a page has 9"):
        figures.course_map(dict.fromkeys(["00", *chain], "about"), chain)


@pytest.mark.parametrize(("side", "written"), [(8, 64), (9, 0)])
def test_a_heat_map_has_numbers_where_they_have_room(side, written):
    figure = figures.heatmaps(
        {"a map": torch.rand(side, side)}, unit="nats", numbers="{:.1f}"
    )
    assert len(figure.axes[0].texts) == written


@pytest.mark.parametrize(("side", "written"), [(16, 256), (17, 0)])
def test_a_grid_of_codes_has_numbers_where_they_have_room(side, written):
    figure = code_grids({"top": codes(side, side)}, 64)
    assert len(figure.axes[0].texts) == written


@pytest.mark.parametrize(("side", "written"), [(10, 20), (11, 12)])
def test_rows_and_columns_are_numbered_or_every_second_of_them(side, written):
    figure = figures.receptive_fields({"seen": seen(side, side)}, (1, 1))
    assert len(figure.axes[0].texts) == written


def test_the_map_stays_within_the_picture():
    needs = {"01": "00", "02": "00", "03": "00", "04": "03", "05": "03", "06": "03"}
    figure = figures.course_map(dict.fromkeys(["00", *needs], "about"), needs)
    (axis,) = figure.axes
    for box in axis.patches[:7]:
        low, high = box.get_y(), box.get_y() + box.get_height()
        assert axis.get_ylim()[0] <= low < high <= axis.get_ylim()[1]
