"""Interactive figures: a static figure first and then, in JupyterLab, its controls.

`explore` always draws the figure for the first values. This static figure is what a web
page, a printout or a test contains. Where widgets are on, sliders and menus appear
below the figure. The build and the tests of the course set PIXELPRIOR_WIDGETS=off.
"""

import re
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
        draw: a function that is called with one value of each of `choices`, by name,
            and returns the figure.
        alt_name: name of the alt text of the figure for the first choices, as in
            `showing.show`.
        choices: the values to choose from, by the name of `draw`'s argument. The figure
            is drawn for the first value of each argument. Numbers become a slider, and
            any other values become a menu.
    """
    for name, values in choices.items():
        if len(values) < 2:
            raise ValueError(f"{name} has {len(values)} choice(s); give 2 or more")
    if not choices:
        raise ValueError("there is nothing to choose; name an argument of draw")
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
    label = name.replace("_", " ")
    style = {"description_width": "initial"}
    if all(isinstance(value, (int, float)) for value in values):
        return ipywidgets.SelectionSlider(
            options=sorted(values), value=values[0], description=label, style=style
        )
    return ipywidgets.Dropdown(
        options=list(values), value=values[0], description=label, style=style
    )


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
    """Cells to paint with the mouse, shown if widgets are on.

    Args:
        otherwise: [H, W], the drawing until something is painted, 1 where it is.
    """

    def __init__(self, otherwise: Tensor, side: int = 20):
        self.otherwise = otherwise
        self.painted = ipywidgets.Textarea()  # such as "3,0 3,1 "
        self.painted.layout.display = "none"
        height, width = otherwise.shape
        paint = PAINT.replace("SIDE", str(side))
        canvas = ipywidgets.HTML(
            f'<canvas width="{width * side}" height="{height * side}" '
            'style="background: black; touch-action: none; cursor: crosshair" '
            f'onpointerdown="{paint}" onpointermove="{paint}"></canvas>'
        )
        clear = ipywidgets.Button(description="Clear")

        def empty(_button) -> None:
            self.painted.value = ""
            canvas.value += " "  # the canvas is made anew

        clear.on_click(empty)
        box = ipywidgets.VBox([canvas, clear, self.painted])
        box.add_class("pixelprior-board")
        if widgets_are_on():
            display(box)

    @property
    def drawing(self) -> Tensor:
        """What is painted, [H, W], 1 where it is; `otherwise` if nothing is."""
        height, width = self.otherwise.shape
        drawn = torch.zeros_like(self.otherwise)
        for x, y in re.findall(r"(-?\d+),(-?\d+)", self.painted.value):
            if 0 <= int(x) < width and 0 <= int(y) < height:
                drawn[int(y), int(x)] = 1
        return drawn if drawn.any() else self.otherwise
