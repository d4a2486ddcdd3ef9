"""What a notebook shows: a figure with its alt text, on the ground of any page.

The images and colours of all figures are in `pixelprior/plotting.py`.
"""

import base64
import html
import io

import numpy as np
from matplotlib.colors import same_color
from matplotlib.figure import Figure
from matplotlib.spines import Spine
from matplotlib.text import Text
from PIL import Image

from pixelprior.plotting import DPI, INK
from pixelprior.progress import widgets_are_on

QUANTIZE = {3: Image.Quantize.MEDIANCUT, 4: Image.Quantize.FASTOCTREE}  # by channels


class Picture:
    """A PNG with its alt text, as a notebook shows it, `width` pixels wide.

    The alt text is in the metadata of the output, where nbconvert looks for it, and is
    the output's plain text. JupyterLab takes it from neither, so that a live notebook
    is given the picture as HTML as well. PIXELPRIOR_WIDGETS=off leaves the HTML out, so
    that committed notebooks hold plain PNG, which every host shows.
    """

    def __init__(self, png: bytes, alt: str, width: int):
        self.png, self.alt, self.width = png, alt, width

        self.data = base64.b64encode(png).decode()
        self.html = (
            f'<img width="{width}" alt="{html.escape(alt)}" '
            f'src="data:image/png;base64,{self.data}">'
        )

    def _repr_mimebundle_(self, include=None, exclude=None) -> tuple[dict, dict]:
        bundle = {"image/png": self.data, "text/plain": self.alt}
        if widgets_are_on():
            bundle["text/html"] = self.html
        return bundle, {"image/png": {"alt": self.alt, "width": self.width}}


def picture(figure: Figure | Image.Image, alt: str) -> Picture:
    """A figure or an image as a `Picture`, reduced to 256 colours to keep it small.

    Args:
        figure: the figure or image; an image is shown pixel for pixel. A figure with an
            attribute `sharpness` has this many times as many pixels as it is wide on
            the page, for fine lines.
        alt: a description of what can be seen, for readers who cannot see it.
    """
    alt = " ".join(alt.split())
    if len(alt) < 20:
        raise ValueError(
            f"the alt text is {alt!r}; say in 20 characters or more what can be seen"
        )
    if isinstance(figure, Figure):
        width = round(figure.get_figwidth() * DPI)  # matplotlib rounds up or down
        drawn = io.BytesIO()
        dpi = DPI * getattr(figure, "sharpness", 1)
        for_any_page(figure)
        figure.savefig(drawn, format="png", dpi=dpi, transparent=True)
        figure = Image.open(drawn)
    else:
        width = figure.width
    png = io.BytesIO()
    reduced(figure).save(png, "PNG", optimize=True)
    return Picture(png.getvalue(), alt, width)


def for_any_page(figure: Figure) -> None:
    """Make a figure readable on light and dark pages, if its background is transparent.

    Ticks become `INK`, and so do text and frames in black, which is matplotlib's. Text
    in a cell or a box is given `ON_FILL` by the function that draws it.
    """
    for axis in figure.axes:
        axis.tick_params(which="both", color=INK, labelcolor=INK)
    for text in figure.findobj(Text):
        if same_color(text.get_color(), "black"):
            text.set_color(INK)
    for spine in figure.findobj(Spine):
        if same_color(spine.get_edgecolor(), "black"):
            spine.set_edgecolor(INK)


def reduced(image: Image.Image) -> Image.Image:
    """An image in a palette of 256 colours: 192 for opaque pixels and 64 for the rest,
    if there is one. Pillow's median cut, which keeps photographs as they are, knows no
    transparency, and its octree, which does, is coarse."""
    pixels = np.array(image.convert("RGBA"))  # [H, W, 4]
    opaque = pixels[..., 3] == 255
    solid = 256 if opaque.all() else 192
    numbers = np.zeros(opaque.shape, np.uint8)
    colours = np.full((256, 4), 255, np.uint8)
    for where, first, channels in ((opaque, 0, 3), (~opaque, solid, 4)):
        if where.any():
            row = Image.fromarray(pixels[None, where, :channels])
            count = solid if first == 0 else 256 - solid
            few = row.quantize(count, QUANTIZE[channels], dither=Image.Dither.NONE)
            numbers[where] = np.array(few)[0] + first
            palette = np.frombuffer(few.palette.tobytes(), np.uint8)
            palette = palette.reshape(-1, len(few.palette.mode))[:count]
            colours[first : first + len(palette), : palette.shape[1]] = palette
    small = Image.frombytes("P", image.size, numbers.tobytes())
    small.putpalette(colours.tobytes(), "RGBA")
    return small
