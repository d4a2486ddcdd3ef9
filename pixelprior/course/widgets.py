"""Figures with something to move: a static figure first, then, in JupyterLab, sliders.

`explore` always draws the figure for the first values, which is what a page, a printer
or a test sees. Where widgets are on, sliders and menus come alive beneath it. The build
and the tests of the course set PIXELPRIOR_WIDGETS=off.
"""

from collections.abc import Callable, Sequence

import ipywidgets
from IPython.display import display
from matplotlib.figure import Figure

from pixelprior.pictures import picture
from pixelprior.progress import widgets_are_on


def explore(draw: Callable[..., Figure], alt: str, **choices: Sequence) -> None:
    """Draw a figure for the first choices, and offer the others as sliders and menus.

    Args:
        draw: called with one value of each of `choices`, by name; gives the figure.
        alt: what there is to see for the first choices.
        choices: what may be chosen, by the name of `draw`'s argument. The first of
            each is drawn. Numbers become a slider, anything else a menu.

    Raises:
        ValueError: there is nothing to choose from.
    """
    for name, values in choices.items():
        if len(values) < 2:
            raise ValueError(f"{name} has {len(values)} choice(s); give 2 or more")
    if not choices:
        raise ValueError("there is nothing to choose; name an argument of draw")
    first = {name: values[0] for name, values in choices.items()}
    display(picture(draw(**first), alt))
    if widgets_are_on():
        display(controls(draw, **choices))


def controls(draw: Callable[..., Figure], **choices: Sequence) -> ipywidgets.VBox:
    """The sliders and menus of `explore`, and the figure beneath them, which appears
    when something is moved."""
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
