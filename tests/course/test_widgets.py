"""Figures to explore: drawn for the first choices, with controls if widgets are on."""

import ipywidgets
import nbclient
import nbformat
import pytest
import torch

from pixelprior.course import figures, showing, widgets
from pixelprior.course.pictures import Picture, picture
from pixelprior.course.showing import alt_text
from pixelprior.course.widgets import DrawingBoard, controls, explore

NAME = "one_code_changed"
ALT = alt_text(NAME)


def draw(height, kind="plain"):
    return figures.bars({kind: height}, y_label="height in cm")


@pytest.fixture
def shown(monkeypatch):
    """The list of what is displayed."""
    displayed = []
    for module in (showing, widgets):
        monkeypatch.setattr(module, "display", displayed.append)
    return displayed


CHOICES = {"height": [2, 1, 3], "kind": ["plain", "other"]}


@pytest.mark.parametrize("widgets", ["on", "off"])
def test_the_picture_of_the_first_choices_is_shown_with_controls_unless_they_are_off(
    shown, monkeypatch, widgets
):
    monkeypatch.setenv("PIXELPRIOR_WIDGETS", widgets)
    explore(draw, NAME, **CHOICES)
    first, *alive = shown
    assert isinstance(first, Picture) and first.alt == ALT
    assert first.png == picture(draw(2, "plain"), ALT).png
    if widgets == "on":
        (box,) = alive
        labels = [child.description for child in box.children[:-1]]
        assert isinstance(box, ipywidgets.VBox) and labels == ["height", "kind"]
    else:
        assert not alive


@pytest.mark.parametrize(
    ("choices", "words"), [({}, "nothing to choose"), ({"height": [2]}, "2 or more")]
)
def test_without_a_choice_nothing_is_shown_and_the_remedy_is_named(
    shown, choices, words
):
    with pytest.raises(ValueError, match=words):
        explore(draw, NAME, **choices)
    assert not shown


def test_numbers_are_a_slider_in_order_and_anything_else_is_a_menu():
    number, word, _ = controls(draw, **CHOICES).children
    assert isinstance(number, ipywidgets.SelectionSlider)
    assert (number.options, number.value) == ((1, 2, 3), 2)
    assert isinstance(word, ipywidgets.Dropdown)
    assert (word.options, word.value) == (("plain", "other"), "plain")


def test_a_name_is_read_as_words():
    control, _ = controls(lambda kernel_size: draw(1), kernel_size=[3, 5]).children
    assert control.description == "kernel size"


def test_moving_something_draws_what_was_chosen_and_shows_it():
    slider, menu, image = controls(draw, **CHOICES).children
    assert image.layout.display == "none" and not image.value
    for control, choice, now in (
        (slider, 3, (3, "plain")),
        (menu, "other", (3, "other")),
        (slider, 2, (2, "other")),
    ):
        control.value = choice
        assert image.layout.display != "none"
        alt = "the figure for height {}, kind {}".format(*now)
        assert image.value == picture(draw(*now), alt).html


def test_in_a_kernel_a_widget_follows_the_picture_unless_widgets_are_off(
    monkeypatch, tmp_path
):
    monkeypatch.delenv("PIXELPRIOR_WIDGETS", raising=False)
    explored = f"explore(draw, {NAME!r}, height=[2, 1, 3])"
    cells = [
        "import os\n"
        "from pixelprior.course import figures\n"
        "from pixelprior.course.widgets import explore\n"
        "def draw(height):\n"
        "    return figures.bars({'bar': height}, y_label='height in cm')",
        explored,
        f'os.environ["PIXELPRIOR_WIDGETS"] = "off"\n{explored}',
    ]
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in cells]
    resources = {"metadata": {"path": tmp_path}}
    nbclient.NotebookClient(notebook, timeout=300, resources=resources).execute()
    _, on, off = notebook.cells
    view = "application/vnd.jupyter.widget-view+json"
    shown = [("text/html" in each.data, view in each.data) for each in on.outputs]
    assert shown == [(True, False), (False, True)]
    (alone,) = off.outputs
    live = dict(on.outputs[0].data)
    assert f'alt="{ALT}"' in live.pop("text/html")
    assert alone.data == live and live.keys() == {"image/png", "text/plain"}
    assert alone.data["text/plain"] == ALT
    assert alone.metadata["image/png"]["alt"] == ALT


def test_a_board_has_what_was_painted_or_else_what_it_was_given(shown, monkeypatch):
    monkeypatch.setenv("PIXELPRIOR_WIDGETS", "on")
    given = torch.eye(3, 4)
    board = DrawingBoard(given)
    (box,) = shown
    canvas, clear, _ = box.children
    assert 'width="80" height="60"' in canvas.value
    assert torch.equal(board.drawing, given)
    board.painted.value = "1,0 1,0 3,2 4,-1 9,9 "  # the last two lie outside
    assert board.drawing.nonzero().tolist() == [[0, 1], [2, 3]]
    clear.click()
    assert torch.equal(board.drawing, given)
    monkeypatch.setenv("PIXELPRIOR_WIDGETS", "off")
    DrawingBoard(given)
    assert len(shown) == 1
