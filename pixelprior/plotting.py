"""Figures of images in one style, for the command line and the notebooks.

Images are given as [N, C, S, S] in [0, 1]. `image_grid` returns a plain picture, pixel
for pixel; the other functions return matplotlib figures with text. A `picture` is what
a notebook shows: a figure together with its alt text, on the ground of the page, light
or dark. `COLOURS` are the colours of top, bottom, past and future in every figure
(Okabe and Ito's colour-blind safe palette).
Whatever a colour shows is also shown by a number, a hatch or a line style. Codes,
curves, heat maps, masks and receptive fields are drawn in `course/figures/`.
"""

import base64
import contextlib
import html
import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib import rcParams
from matplotlib.colors import same_color, to_hex
from matplotlib.figure import Figure
from matplotlib.spines import Spine
from matplotlib.text import Text
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image
from torchvision.utils import make_grid

from pixelprior.files import temporary_folder, writable_folder
from pixelprior.progress import widgets_are_on

COLOURS = {
    "top": "#0072B2",
    "bottom": "#E69F00",
    "past": "#56B4E9",
    "future": "#D55E00",
    "blind": "#CC79A7",
    "baseline": "#767676",
}
# The grey of what stands on a page. Its contrast is 4.5:1 with white, and 4.2:1 with
# #111111, the dark of JupyterLab; no grey has 4.5:1 with both.
INK = COLOURS["baseline"]
ON_FILL = "#111111"  # of text in cells and boxes, whose fill is the same on any page
DPI = 100
WIDEST = 9.0  # inches: 900 pixels, the width of a page


def panel_width(count: int, wanted: float, margin: float = 0.0) -> float:
    """Inches for each of `count` panels beside a margin: as wanted, or what fits."""
    return min(wanted, (WIDEST - margin) / max(1, count))


class Picture:
    """A PNG with its alt text, as a notebook shows it, `width` pixels wide.

    The alt text is in the metadata of the output, where nbconvert looks for it, and is
    the output's plain text. JupyterLab takes it from neither, so that a live notebook
    is given the picture as HTML as well. PIXELPRIOR_WIDGETS=off leaves the HTML out, so
    that committed notebooks hold plain PNG, which every host shows.
    """

    def __init__(self, png: bytes, alt: str, width: int):
        self.png, self.alt, self.width = png, alt, width

    @property
    def html(self) -> str:
        """The picture as an element of a page."""
        data = base64.b64encode(self.png).decode()
        return (
            f'<img width="{self.width}" alt="{html.escape(self.alt)}" '
            f'src="data:image/png;base64,{data}">'
        )

    def _repr_mimebundle_(self, include=None, exclude=None) -> tuple[dict, dict]:
        data = base64.b64encode(self.png).decode()
        bundle = {"image/png": data, "text/plain": self.alt}
        if widgets_are_on():
            bundle["text/html"] = self.html
        return bundle, {"image/png": {"alt": self.alt, "width": self.width}}


def picture(figure: Figure | Image.Image, alt: str) -> Picture:
    """A figure or an image as a `Picture`, reduced to 256 colours to keep it small.

    A figure is drawn with a transparent background, and keeps the colours that
    `for_any_page` gives it.

    Args:
        figure: the figure or image; an image is shown pixel for pixel. A figure with an
            attribute `sharpness` has this many times as many pixels as it is wide on
            the page, for fine lines.
        alt: a description of what can be seen, for readers who cannot see it.

    Raises:
        ValueError: the alt text is shorter than 20 characters.
    """
    alt = " ".join(alt.split())
    if len(alt) < 20:
        raise ValueError(
            f"the alt text is {alt!r}; say in 20 characters or more what can be seen"
        )
    if isinstance(figure, Figure):
        # The width of the drawn PNG is rounded down or up, depending on the version of
        # matplotlib, so that the declared width is used.
        width = round(figure.get_figwidth() * DPI)
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

    Ticks become `INK`, and so do text and frames that have a colour of matplotlib's
    settings. Text in a cell or a box is given `ON_FILL` by the function that draws it.
    """
    of_text = {to_hex(rcParams[name]) for name in ("text.color", "axes.labelcolor")}
    of_frames = rcParams["axes.edgecolor"]
    for axis in figure.axes:
        axis.tick_params(which="both", color=INK, labelcolor=INK)
    for text in figure.findobj(Text):
        if to_hex(text.get_color()) in of_text:
            text.set_color(INK)
    for spine in figure.findobj(Spine):
        if same_color(spine.get_edgecolor(), of_frames):
            spine.set_edgecolor(INK)


def reduced(image: Image.Image) -> Image.Image:
    """An image in a palette of 256 colours: 192 for opaque pixels and 64 for the rest,
    or all for opaque pixels if there is no rest.

    Pillow's median cut, which keeps photographs as they are, knows no transparency, and
    its octree, which does, is coarse.
    """
    pixels = np.array(image.convert("RGBA"))  # [H, W, 4]
    opaque = pixels[..., 3] == 255
    solid = 256 if opaque.all() else 192
    numbers = np.zeros(opaque.shape, np.uint8)
    colours = np.zeros((256, 4), np.uint8)
    for where, first, last in ((opaque, 0, solid), (~opaque, solid, 256)):
        if where.any():
            chosen, palette = _few_colours(pixels[where], last - first)
            numbers[where] = chosen + first
            colours[first : first + len(palette)] = palette
    small = Image.frombytes("P", image.size, numbers.tobytes())
    small.putpalette(colours.tobytes(), "RGBA")
    return small


def _few_colours(pixels: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels [N, 4] to the numbers of their colours [N], and these colours [K, 4]."""
    if (pixels[:, 3] == 255).all():
        row, method = pixels[None, :, :3], Image.Quantize.MEDIANCUT
    else:
        row, method = pixels[None], Image.Quantize.FASTOCTREE
    few = Image.fromarray(row).quantize(count, method, dither=Image.Dither.NONE)
    channels = len(few.palette.mode)
    palette = np.frombuffer(few.palette.tobytes(), np.uint8).reshape(-1, channels)
    colours = np.full((min(count, len(palette)), 4), 255, np.uint8)
    colours[:, :channels] = palette[:count]
    return np.array(few)[0], colours


def as_bytes(images: Tensor) -> Tensor:
    """Convert images in [0, 1], of any shape, to uint8 from 0 to 255, on the CPU.

    All images that are measured, written to a file or drawn are rounded here, so that a
    picture shows exactly what was measured. Values outside [0, 1] are clipped.
    """
    pixels = images.detach().float().clamp(0, 1)
    return (pixels * 255).round().byte().cpu()


def image_grid(images: Tensor, nrow: int = 10) -> Image.Image:
    """Images [N, C, S, S] in [0, 1], side by side, `nrow` per row."""
    grid = make_grid(as_bytes(images), nrow=nrow, padding=2, pad_value=255)
    return to_pil_image(grid)


def save_picture(picture: Image.Image | Figure, path) -> Path:
    """Write a picture under a temporary name, then rename it; images may be of any
    format that the suffix names.
    """
    path = Path(path)
    with _putting(path), temporary_folder(writable_folder(path.parent)) as temporary:
        written = temporary / path.name
        if isinstance(picture, Figure):
            picture.savefig(written, dpi=110, facecolor="white")
        else:
            picture.save(written)
        os.replace(written, path)
    return path


def save_images(images: Tensor, paths) -> None:
    """Write images [N, C, H, W] in [0, 1] as PNG files of one folder.

    They are written under temporary names first, as in `save_picture`.
    """
    paths = [Path(path) for path in paths]
    with temporary_folder(writable_folder(paths[0].parent)) as temporary:
        for image, path in zip(images, paths, strict=True):
            with _putting(path):
                image_grid(image[None], 1).save(temporary / path.name)
                os.replace(temporary / path.name, path)


@contextlib.contextmanager
def _putting(path: Path):
    """An error of the disk in here names the picture and the mend."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # it says this by itself
            raise
        raise OSError(
            f"cannot write {path} ({error.strerror or error}); make room on the disk, "
            "or ask for permission to write there"
        ) from error


def captioned_images(
    images: Tensor, captions, *, columns: int = 8, title: str = ""
) -> Figure:
    """Images [N, C, S, S] with a caption above each, `columns` per row."""
    rows = -(-len(images) // columns)
    width = panel_width(columns, 1.05 if columns > 4 else 2.1)
    size = (columns * width, rows * (width + 0.2) + 0.3 * bool(title))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, caption in zip(axes.flat, images, captions, strict=False):
        draw_image(axis, image)
        axis.set_title(caption, fontsize=9)
    figure.suptitle(title, fontsize=11)
    return figure


def image_rows(
    rows: dict[str, Tensor], *, column_names: Sequence[str] = (), title: str = ""
) -> Figure:
    """Rows of images [N, C, S, S], each row with its name on the left.

    Args:
        rows: the rows by name.
        column_names: one for each column, such as the classes, above the first row.

    Raises:
        ValueError: there are other than as many names as columns.
    """
    count = max(len(images) for images in rows.values())
    if column_names and len(column_names) != count:
        raise ValueError(
            f"{len(column_names)} names are given for {count} columns; give one for "
            "each column, or none"
        )
    width = panel_width(count, 0.9, 1.2)
    size = (
        count * width + 1.2,
        len(rows) * (width + 0.05) + 0.4 + 0.15 * bool(column_names),
    )
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(rows), count, squeeze=False)
    for axis, column in zip(axes[0], column_names, strict=False):
        axis.set_title(column.replace(" ", "\n"), fontsize=9)
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        for axis, image in zip(line, images, strict=False):
            draw_image(axis, image)
        for axis in line:
            bare(axis)
        line[0].set_ylabel(name, fontsize=9)
    figure.suptitle(title, fontsize=11)
    return figure


def image_blocks(
    blocks: dict[str, Tensor], *, column_names: Sequence[str], title: str = ""
) -> Figure:
    """Blocks of images [N, C, S, S], one above the other, each with its name above.

    Args:
        blocks: the blocks by name.
        column_names: one for each column, such as the classes, above its images.
    """
    rows = max(-(-len(images) // len(column_names)) for images in blocks.values())
    width = panel_width(len(column_names), 0.72)
    size = (width * len(column_names), (width * rows + 0.6) * len(blocks))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(blocks), 1, squeeze=False)[:, 0]
    for axis, (name, images) in zip(axes, blocks.items(), strict=True):
        grid = image_grid(images, len(column_names))
        filled = make_grid(torch.ones_like(images), nrow=len(column_names), padding=2)
        grid.putalpha(to_pil_image(filled[:1]))  # the lines between them are clear
        axis.imshow(grid, interpolation="nearest")
        side = images.shape[-1]
        axis.set_xticks(
            [2 + side / 2 + number * (side + 2) for number in range(len(column_names))],
            [column.replace(" ", "\n") for column in column_names],
            fontsize=9,
        )
        axis.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False)
        axis.tick_params(length=0)
        axis.set_yticks([])
        axis.set_title(name, fontsize=10, loc="left")
        axis.set_frame_on(False)
    figure.suptitle(title, fontsize=11)
    return figure


def bare(axis) -> None:
    """Take ticks and frame from an axis."""
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(False)


def draw_image(axis, image: Tensor) -> None:
    """Draw one image [C, S, S] in [0, 1] on an axis, grey or in colour."""
    pixels = as_bytes(image).permute(1, 2, 0)  # [S, S, C]; matplotlib truncates floats
    axis.imshow(pixels.expand(*pixels.shape[:2], 3).numpy(), interpolation="nearest")
