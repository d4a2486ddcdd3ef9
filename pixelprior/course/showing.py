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
import re
from importlib.resources import files

from IPython.display import display
from matplotlib.figure import Figure
from PIL import Image

from pixelprior.pictures import picture

SOURCE_OF_NUMBER = re.compile(r"<!--=.*?-->")


@functools.cache
def alt_texts() -> dict[str, dict[str, str]]:
    """The alt texts as they stand in the file, by notebook and name."""
    path = files("pixelprior.course") / "alt_texts.json"
    return json.loads(path.read_text(encoding="utf-8"))


def alt_text(name: str) -> str:
    """The alt text of the figure with this name.

    Raises:
        ValueError: no figure of the course has this name.
    """
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

    Raises:
        ValueError: no figure of the course has this name.
    """
    display(picture(figure, alt_text(name)))
