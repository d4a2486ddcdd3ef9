"""Interactive figures: a static figure first and then, in JupyterLab, its controls.

The static figure, for the first values, is what a web page, a printout or a test
contains. The build and the tests of the course set PIXELPRIOR_WIDGETS=off.
"""

from collections.abc import Callable, Sequence

import ipywidgets
import torch
from IPython.display import display
from matplotlib.figure import Figure
from torch import Tensor

from pixelprior.course.pictures import picture
from pixelprior.course.showing import show
from pixelprior.progress import widgets_are_on


def explore(draw: Callable[..., Figure], alt_name: str, **choices: Sequence) -> None:
    """Draw a figure for the first choices, and offer the others by sliders and menus.

    Args:
        draw: a function of one value of each of `choices`, by name, that returns the
            figure.
        alt_name: name of the alt text of the first figure, as in `showing.show`.
        choices: the values to choose from; numbers become a slider, and others a menu.
    """
    first = {name: values[0] for name, values in choices.items()}
    show(draw(**first), alt_name)
    if widgets_are_on():
        display(controls(draw, **choices))


def controls(draw: Callable[..., Figure], **choices: Sequence) -> ipywidgets.VBox:
    """The sliders and menus of `explore`, and below them a figure, which appears when
    one of these controls is first changed."""
    moved = {name: _control(name, values) for name, values in choices.items()}
    shown = ipywidgets.HTML()
    shown.layout.display = "none"

    def redraw(_change) -> None:
        chosen = {name: control.value for name, control in moved.items()}
        words = ", ".join(f"{name} {value}" for name, value in chosen.items())
        shown.value = picture(draw(**chosen), f"the figure for {words}").html
        shown.layout.display = ""

    for control in moved.values():
        control.observe(redraw, names="value")
    return ipywidgets.VBox([*moved.values(), shown])


def _control(name: str, values: Sequence):
    look = {"description": name.replace("_", " "), "value": values[0]}
    look["style"] = {"description_width": "initial"}
    if all(isinstance(value, (int, float)) for value in values):
        return ipywidgets.SelectionSlider(options=sorted(values), **look)
    return ipywidgets.Dropdown(options=list(values), **look)


# Each event paints the cell below the pointer, and appends it to the hidden text.
PAINT = """if (event.buttons) {
  const box = this.getBoundingClientRect();
  const x = Math.floor((event.clientX - box.left) / SIDE);
  const y = Math.floor((event.clientY - box.top) / SIDE);
  const pen = this.getContext('2d');
  pen.fillStyle = '#cccccc';
  pen.fillRect(x * SIDE, y * SIDE, SIDE, SIDE);
  const text = this.closest('.pixelprior-board').querySelector('textarea');
  text.value += x + ',' + y + ' ';
  text.dispatchEvent(new Event('input', {bubbles: true}));
}"""


class DrawingBoard:
    """Cells to paint with the mouse, shown if widgets are on; until something is
    painted, the drawing is `otherwise` [H, W]."""

    def __init__(self, otherwise: Tensor, side: int = 20):
        self.otherwise = otherwise
        self.painted = ipywidgets.Textarea()  # such as "3,0 3,1 "
        self.painted.layout.display = "none"
        height, width = otherwise.shape
        paint = PAINT.replace("SIDE", str(side))
        self.canvas = ipywidgets.HTML(
            f'<canvas width="{width * side}" height="{height * side}" '
            'style="background: black; touch-action: none; cursor: crosshair" '
            f'onpointerdown="{paint}" onpointermove="{paint}"></canvas>'
        )
        clear = ipywidgets.Button(description="Clear")
        clear.on_click(self._clear)
        box = ipywidgets.VBox([self.canvas, clear, self.painted])
        box.add_class("pixelprior-board")
        if widgets_are_on():
            display(box)

    def _clear(self, _button) -> None:
        self.painted.value = ""
        self.canvas.value += " "  # the canvas is made anew

    @property
    def drawing(self) -> Tensor:
        """What is painted, [H, W], 1 where it is; `otherwise` if nothing is."""
        height, width = self.otherwise.shape
        drawn = torch.zeros_like(self.otherwise)
        for cell in self.painted.value.split():
            x, y = map(int, cell.split(","))
            if 0 <= x < width and 0 <= y < height:
                drawn[y, x] = 1
        return drawn if drawn.any() else self.otherwise
