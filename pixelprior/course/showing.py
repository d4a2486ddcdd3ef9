"""Figures of the notebooks with their alt texts, which are kept in alt_texts.json.

An alt text in the cell would give away the answer to the question that stands above
the figure. The file holds the texts by notebook and name. A number that was measured
may be followed by a marker such as `<!--= results frechet.samples.value -->`, which
names its source for the tests of the course; readers do not get to see it.
"""

import functools
import json
import os
import re
from collections.abc import Iterator
from importlib.resources import files

import numpy as np
from IPython.display import display
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.ticker import LogFormatter, ScalarFormatter
from PIL import Image

from pixelprior.course.pictures import picture

SOURCE_OF_NUMBER = re.compile(r"<!--=.*?-->")
NUMBER = r"(?<![\w.])[-−]?\d+"
OF_NUMBERS = (ScalarFormatter, LogFormatter)  # of the ticks of an axis
CHECK = "PIXELPRIOR_CHECK_FIGURES"  # set where the course is built and tested


@functools.cache
def alt_texts() -> dict[str, dict[str, str]]:
    """The alt texts as they stand in the file, by notebook and name."""
    path = files("pixelprior.course") / "alt_texts.json"
    return json.loads(path.read_text(encoding="utf-8"))


def alt_text(name: str) -> str:
    """The alt text of the figure with this name."""
    by_name = {k: text for texts in alt_texts().values() for k, text in texts.items()}
    if name not in by_name:
        raise ValueError(
            f"no figure of the course is named {name!r}; for a figure of your own, end "
            "the cell with figures.picture(figure, 'what can be seen in it')"
        )
    return SOURCE_OF_NUMBER.sub("", by_name[name])


def show(figure: Figure | Image.Image, name: str) -> None:
    """Show a figure of the course, with the alt text of that name.

    With PIXELPRIOR_CHECK_FIGURES=on the decimal numbers of the alt text are compared
    with what a matplotlib figure has drawn.
    """
    text = alt_text(name)
    if os.environ.get(CHECK) == "on" and isinstance(figure, Figure):
        wrong = numbers_not_drawn(figure, text)
        if wrong:
            raise ValueError(
                f"the alt text {name!r} has {', '.join(wrong)}, and nothing in the "
                "figure has that value; correct alt_texts.json"
            )
    display(picture(figure, text))


def numbers_not_drawn(figure: Figure, text: str) -> list[str]:
    """The decimal numbers of a text that no value of a figure is near.

    Near is one unit of the last digit, since trainings differ between processors.
    """
    values = np.concatenate([np.ravel(v).astype(float) for v in _drawn(figure)])
    wrong = []
    for written in re.findall(rf"{NUMBER}\.\d+", text):
        unit = 10.0 ** -len(written.partition(".")[2])
        if np.nanmin(np.abs(values - _value(written))) > 1.001 * unit:
            wrong.append(written)
    return wrong


def _drawn(figure: Figure) -> Iterator[np.ndarray | list[float]]:
    """The values of lines, points, bars and maps, and the numbers in all text but the
    ticks of an axis of numbers, which have all values of a range."""
    ticks = set()
    for axis in figure.axes:
        for side in (axis.xaxis, axis.yaxis):
            if isinstance(side.get_major_formatter(), OF_NUMBERS):
                ticks |= {*side.findobj(Text)} - {side.label}
        yield from (line.get_xydata() for line in axis.lines)
        bars = (bar for bar in axis.patches if isinstance(bar, Rectangle))
        yield from (bar.get_bbox().get_points() for bar in bars)
        yield from (image.get_array() for image in axis.images)
        yield from (points.get_offsets() for points in axis.collections)
    for text in {*figure.findobj(Text)} - ticks:
        yield [_value(each) for each in re.findall(rf"{NUMBER}\.?\d*", text.get_text())]


def _value(written: str) -> float:
    return float(written.replace("−", "-"))
