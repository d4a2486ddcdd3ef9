"""Figures to explore: drawn for the first choices, with controls if widgets are on."""

import ipywidgets
import pytest
import torch

from pixelprior.course import figures, showing, widgets
from pixelprior.course.pictures import picture
from pixelprior.course.showing import alt_text
from pixelprior.course.widgets import DrawingBoard, controls, explore

NAME = "one_code_changed"
ALT = alt_text(NAME)
CHOICES = {"bar_height": [2, 1, 3], "kind": ["plain", "other"]}


def draw(bar_height, kind):
    return figures.bars({kind: bar_height}, y_label="height in cm")


@pytest.fixture
def shown(monkeypatch):
    """The list of what is displayed, while widgets are on."""
    displayed = []
    monkeypatch.setenv("PIXELPRIOR_WIDGETS", "on")
    for module in (showing, widgets):
        monkeypatch.setattr(module, "display", displayed.append)
    return displayed


def test_the_picture_of_the_first_choices_is_shown_with_controls_unless_they_are_off(
    shown, monkeypatch
):
    explore(draw, NAME, **CHOICES)
    monkeypatch.setenv("PIXELPRIOR_WIDGETS", "off")
    explore(draw, NAME, **CHOICES)
    first, _controls, alone = shown
    assert first.alt == ALT
    assert first.png == alone.png == picture(draw(2, "plain"), ALT).png


def test_numbers_are_a_slider_in_order_and_anything_else_is_a_menu():
    number, word, _ = controls(draw, **CHOICES).children
    assert isinstance(number, ipywidgets.SelectionSlider)
    assert (number.options, number.value) == ((1, 2, 3), 2)
    assert isinstance(word, ipywidgets.Dropdown)
    assert (word.options, word.value) == (("plain", "other"), "plain")
    assert (number.description, word.description) == ("bar height", "kind")


def test_moving_something_draws_what_was_chosen_and_shows_it():
    slider, menu, image = controls(draw, **CHOICES).children
    assert image.layout.display == "none" and not image.value
    slider.value = 3
    assert image.layout.display != "none"
    menu.value = "other"
    alt = "the figure for bar_height 3, kind other"
    assert image.value == picture(draw(3, "other"), alt).html


def test_a_board_has_what_was_painted_or_else_what_it_was_given(shown, monkeypatch):
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
