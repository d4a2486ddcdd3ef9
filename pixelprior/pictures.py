"""Figures of images and codes in one style, for the command line and the notebooks.

Images are given as [N, C, S, S] in [0, 1]. `image_grid` returns a plain picture, pixel
for pixel; the other functions return matplotlib figures with text. A `picture` is what
a notebook shows: a figure together with its alt text. `COLOURS` are the colours of top,
bottom, past and future in every figure (Okabe and Ito's colour-blind safe palette).
Whatever a colour shows is also shown by a number, a hatch or a line style. Curves, heat
maps, masks and receptive fields are in `course/figures/`.
"""

import base64
import contextlib
import html
import io
import os
from pathlib import Path

from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image
from torchvision.utils import make_grid

from pixelprior.data import as_bytes
from pixelprior.files import (
    temporary_folder,
    writable_folder,
)
from pixelprior.progress import widgets_are_on

COLOURS = {
    "top": "#0072B2",
    "bottom": "#E69F00",
    "past": "#56B4E9",
    "future": "#D55E00",
    "blind": "#CC79A7",
    "here": "#000000",
    "baseline": "#767676",
}
DPI = 100


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

    Args:
        figure: the figure or image; an image is shown pixel for pixel.
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
        figure.savefig(drawn, format="png", dpi=DPI, facecolor="white")
        figure = Image.open(drawn)
    else:
        width = figure.width
    small = figure.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    png = io.BytesIO()
    small.save(png, "PNG", optimize=True)
    return Picture(png.getvalue(), alt, width)


def image_grid(images: Tensor, nrow: int = 10) -> Image.Image:
    """Images [N, C, S, S] in [0, 1], side by side, `nrow` per row."""
    grid = make_grid(as_bytes(images), nrow=nrow, padding=2, pad_value=255)
    return to_pil_image(grid)


def save_picture(picture: Image.Image | Figure, path) -> Path:
    """Write a PNG under a temporary name, then rename it.

    Raises:
        OSError: the folder cannot be written to.
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

    Raises:
        OSError: the folder cannot be written to, or the disk is full. Images that were
            put in place before stay.
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
    """Images [N, C, S, S] with a caption under each, `columns` per row."""
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(columns * 1.05, rows * 1.25 + 0.4), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, caption in zip(axes.flat, images, captions, strict=False):
        draw_image(axis, image)
        axis.set_title(caption, fontsize=7, y=-0.22)
    figure.suptitle(title, fontsize=11)
    return figure


def image_rows(rows: dict[str, Tensor], *, title: str = "") -> Figure:
    """Rows of images [N, C, S, S], each row with its name on the left."""
    columns = max(len(images) for images in rows.values())
    figure = Figure(
        figsize=(columns * 0.9 + 1.2, len(rows) * 0.95 + 0.4), layout="constrained"
    )
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        for axis, image in zip(line, images, strict=False):
            draw_image(axis, image)
        for axis in line:
            _bare(axis)
        line[0].set_ylabel(name, fontsize=9)
    figure.suptitle(title, fontsize=11)
    return figure


def image_blocks(
    blocks: dict[str, Tensor], *, nrow: int = 8, title: str = ""
) -> Figure:
    """Blocks of images [N, C, S, S], side by side, each block with its name above."""
    figure = Figure(figsize=(4.2 * len(blocks), 4.6), layout="constrained")
    axes = figure.subplots(1, len(blocks), squeeze=False)[0]
    for axis, (name, images) in zip(axes, blocks.items(), strict=True):
        axis.imshow(image_grid(images, nrow), interpolation="nearest")
        axis.set_title(name, fontsize=10)
        axis.axis("off")
    figure.suptitle(title, fontsize=11)
    return figure


def code_grids(
    grids: dict[str, Tensor],
    num_embeddings: int,
    *,
    numbers: bool = True,
    marked: dict[str, tuple[int, int]] | None = None,
    title: str = "",
) -> Figure:
    """Grids of codes [H, W] side by side, with a colour and the number in each cell.

    Args:
        grids: the grids by name. The names are printed above the grids; a name that
            begins with "top" or "bottom" gives the frame the colour of that level.
        num_embeddings: number of codes K in the codebook. Cells of -1 are left white.
        numbers: whether the codes are written into the cells.
        marked: for the name of a grid, (row, column) of a cell to put a frame around.
    """
    figure = Figure(figsize=(3.6 * len(grids), 3.9), layout="constrained")
    axes = figure.subplots(1, len(grids), squeeze=False)[0]
    for axis, (name, codes) in zip(axes, grids.items(), strict=True):
        draw_codes(axis, codes, num_embeddings, numbers=numbers, name=name)
        if marked is not None and name in marked:
            axis.add_patch(frame(*marked[name]))
    figure.suptitle(title, fontsize=11)
    return figure


def draw_codes(
    axis, codes: Tensor, num_embeddings: int, *, numbers=True, name: str = ""
) -> None:
    """Draw one grid of codes [H, W] on an axis, as `code_grids` does."""
    codes = codes.detach().cpu()
    height, width = codes.shape
    shade = codes.float() / max(1, num_embeddings - 1)
    colours = colormaps["cividis"](shade.numpy())
    colours[codes.numpy() < 0] = 1
    axis.imshow(colours, interpolation="nearest")
    if numbers:
        size = min(9, 84 / max(height, width))
        for y in range(height):
            for x in range(width):
                if codes[y, x] >= 0:
                    colour = "black" if shade[y, x] > 0.5 else "white"
                    text = str(codes[y, x].item())
                    axis.text(
                        x, y, text, ha="center", va="center", color=colour, size=size
                    )
    _bare(axis)
    level = name.split()[0].rstrip(":,") if name.split() else ""
    if level in ("top", "bottom"):
        for spine in axis.spines.values():
            spine.set_visible(True)
            spine.set_color(COLOURS[level])
            spine.set_linewidth(3)
    axis.set_title(name, fontsize=9)


def pipeline(
    image: Tensor,
    z_top: Tensor,
    z_bottom: Tensor,
    rebuilt: Tensor,
    num_embeddings: int,
    *,
    title: str = "",
) -> Figure:
    """Image [C, S, S] → both grids of codes [Ht, Wt] and [Hb, Wb] → image [C, S, S]."""
    figure = Figure(figsize=(9, 4.3), layout="constrained")
    axes = figure.subplot_mosaic(
        [["image", "top", "rebuilt"], ["image", "bottom", "rebuilt"]],
        width_ratios=[1, 1, 1],
    )
    for name, each in (("image", image), ("rebuilt", rebuilt)):
        draw_image(axes[name], each)
        _bare(axes[name])
        pixels = " × ".join(map(str, each.shape[1:]))
        heading = "the image" if name == "image" else "decoded"
        axes[name].set_title(f"{heading}\n{pixels} pixels", fontsize=9)
    for name, codes in (("top", z_top), ("bottom", z_bottom)):
        label = f"{name} codes, {' × '.join(map(str, codes.shape))}"
        draw_codes(axes[name], codes, num_embeddings, numbers=False, name=label)
    arrow = {"arrowstyle": "-|>", "color": "black", "lw": 1.5, "mutation_scale": 14}
    for start, end in (
        ("image", "top"),
        ("image", "bottom"),
        ("top", "rebuilt"),
        ("bottom", "rebuilt"),
    ):
        axes[end].annotate(
            "",
            xy=(-0.05, 0.5),
            xycoords=axes[end].transAxes,
            xytext=(1.05, 0.5),
            textcoords=axes[start].transAxes,
            arrowprops=arrow,
            annotation_clip=False,
        )
    figure.suptitle(title, fontsize=11)
    return figure


def frame(row: int, column: int) -> Rectangle:
    """A red frame around one cell of a grid of codes."""
    return Rectangle(
        (column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="red", linewidth=2.5
    )


def _bare(axis) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(False)


def draw_image(axis, image: Tensor) -> None:
    """Draw one image [C, S, S] in [0, 1] on an axis, grey or in colour."""
    pixels = as_bytes(image).permute(1, 2, 0)  # [S, S, C]; matplotlib truncates floats
    axis.imshow(pixels.expand(*pixels.shape[:2], 3).numpy(), interpolation="nearest")
