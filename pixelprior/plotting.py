"""Figures of images in one style, for the command line and the notebooks.

Images are given as [N, C, S, S] in [0, 1]. `image_grid` returns a plain picture, pixel
for pixel; the other functions return matplotlib figures with text. `COLOURS` are the
colours of top, bottom, past and future in every figure (Okabe and Ito's colour-blind
safe palette). Whatever a colour shows is also shown by a number, a hatch or a line
style. Figures that only the notebooks use are in `course/`.
"""

import math
import os
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image
from torchvision.utils import make_grid

from pixelprior.files import temporary_folder, writable_folder

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


def as_bytes(images: Tensor) -> Tensor:
    """Convert images in [0, 1], of any shape, to uint8 from 0 to 255, on the CPU.

    All images that are measured, written or drawn are rounded here, so that a picture
    shows exactly what was measured. Values outside [0, 1] are clipped.
    """
    pixels = images.detach().float().clamp(0, 1)
    return (pixels * 255).round().byte().cpu()


def image_grid(images: Tensor, nrow: int = 10) -> Image.Image:
    """Images [N, C, S, S] in [0, 1], side by side, `nrow` per row."""
    grid = make_grid(as_bytes(images), nrow=nrow, padding=2, pad_value=255)
    return to_pil_image(grid)


def save_picture(picture: Image.Image | Figure, path) -> Path:
    """Write a picture, of the format that the suffix names, whole or not at all."""
    path = Path(path)
    with temporary_folder(writable_folder(path.parent)) as temporary:
        written = temporary / path.name
        try:
            if isinstance(picture, Figure):
                picture.savefig(written, dpi=110, facecolor="white")
                if path.suffix == ".png":
                    _without_alpha(written)
            else:
                picture.save(written)
            os.replace(written, path)
        except OSError as error:
            raise OSError(
                f"cannot write {path} ({error.strerror or error}); make room on the "
                "disk, or ask for permission to write there"
            ) from error
    return path


def _without_alpha(path: Path) -> None:
    """Write a PNG anew with the same colours in fewer bytes, as grey if it has none."""
    with Image.open(path) as image:
        colours = image.convert("RGB")
    grey = colours.convert("L")
    same = grey.convert("RGB").tobytes() == colours.tobytes()
    (grey if same else colours).save(path, optimize=True)


def save_images(images: Tensor, paths) -> None:
    """Write images [N, C, H, W] in [0, 1] as files by `save_picture`."""
    for image, path in zip(images, paths, strict=True):
        save_picture(image_grid(image[None], 1), path)


def captioned_images(
    images: Tensor, captions, *, columns: int = 8, title: str = ""
) -> Figure:
    """Images [N, C, S, S] with a caption above each, `columns` per row."""
    rows = math.ceil(len(images) / columns)
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
    """Rows of images [N, C, S, S] by name, and a name above each column."""
    count = max(len(images) for images in rows.values())
    if column_names and len(column_names) != count:
        raise ValueError(
            f"{len(column_names)} names are given for {count} columns; give one for "
            "each column, or none"
        )
    width = panel_width(count, 0.9, 1.2)
    height = len(rows) * (width + 0.05) + 0.4 + 0.15 * bool(column_names)
    figure = Figure(figsize=(count * width + 1.2, height), layout="constrained")
    axes = figure.subplots(len(rows), count, squeeze=False)
    for axis, column in zip(axes[0], column_names, strict=bool(column_names)):
        axis.set_title(column.replace(" ", "\n"), fontsize=9)
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        for axis, image in zip(line, images, strict=False):
            draw_image(axis, image)
        for axis in line:
            bare(axis)
        line[0].set_ylabel(name, fontsize=9)
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
