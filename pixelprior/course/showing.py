"""Figures of the notebooks with their alt texts, which are kept in alt_texts.json.

An alt text in the cell would give away the answer to the question that stands above
the figure. The file holds the texts by notebook and name; each name is used once in the
course. A number that was measured may be followed by a marker such as
`<!--= results frechet.samples.value -->`, which names its source for the tests of the
course, as in the text of the notebooks; readers do not get to see it.
"""

import difflib
import functools
import json
import os
import re
from collections.abc import Iterator
from importlib.resources import files

import numpy as np
from IPython.display import display
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.ticker import LogFormatter, ScalarFormatter
from PIL import Image

from pixelprior.course.pictures import picture

SOURCE_OF_NUMBER = re.compile(r"<!--=.*?-->")
DECIMAL = re.compile(r"(?<![\w.])[-−]?\d+\.\d+")
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
        near = difflib.get_close_matches(str(name), by_name, 1)
        meant = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(
            f"no figure of the course is named {name!r}{meant}; for a figure of your "
            "own, end the cell with figures.picture(figure, 'what can be seen in it')"
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
    for written in DECIMAL.findall(text):
        unit = 10.0 ** -len(written.partition(".")[2])
        near = np.abs(values - float(written.replace("−", "-"))) <= 1.001 * unit
        if not near.any():
            wrong.append(written)
    return wrong


def _drawn(figure: Figure) -> Iterator[np.ndarray | list[float]]:
    """The values of lines, points, bars and maps, and the numbers in labels.

    Left out are the ticks of an axis of numbers and the colour bar, which have all
    values of a range.
    """
    for legend in figure.legends:
        yield from map(_numbers_in, legend.get_texts())
    for axis in figure.axes:
        if axis.get_label() == "<colorbar>":
            continue
        for line in axis.lines:
            yield from (line.get_xdata(orig=False), line.get_ydata(orig=False))
        for points in axis.collections:
            yield np.ma.filled(points.get_offsets().astype(float), np.nan)
            yield from (path.vertices for path in points.get_paths())
        yield from (bars.datavalues for bars in axis.containers)
        in_bars = {bar for bars in axis.containers for bar in bars}
        for shape in {*axis.patches} - in_bars:
            corners = shape.get_extents().transformed(axis.transData.inverted())
            yield corners.get_points() if shape.get_fill() else []
        for image in axis.images:
            yield np.ma.filled(np.ma.asarray(image.get_array(), float), np.nan)
        labels = [axis.title, axis.xaxis.label, axis.yaxis.label, *axis.texts]
        for legend in axis.get_children():
            labels += legend.get_texts() if isinstance(legend, Legend) else []
        for side in (axis.xaxis, axis.yaxis):
            if not isinstance(side.get_major_formatter(), OF_NUMBERS):
                labels += side.get_ticklabels()
        yield from map(_numbers_in, labels)
    yield []


def _numbers_in(label: Text) -> list[float]:
    words = label.get_text().replace("−", "-")
    return [float(each) for each in re.findall(r"(?<![\w.])-?\d+(?:\.\d+)?", words)]
