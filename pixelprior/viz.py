"""Figures with one look, for the command line and the notebooks.

Images go in as [N, C, S, S] in [0, 1]. `image_grid` gives a bare picture, pixel for
pixel; the others give matplotlib figures with words on them.
"""

import os
from pathlib import Path

import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image
from torchvision.utils import make_grid

from pixelprior.checkpoints import temporary_folder, writable_folder


def image_grid(images: Tensor, nrow: int = 10) -> Image.Image:
    """Images [N, C, S, S] in [0, 1], side by side, `nrow` in a row."""
    grid = make_grid(images.detach().cpu().float(), nrow=nrow, padding=2, pad_value=1)
    return to_pil_image(grid.clamp(0, 1))


def save_picture(picture: Image.Image | Figure, path) -> Path:
    """Write a PNG under a temporary name, then rename it.

    Raises:
        OSError: the folder cannot be written.
    """
    path = Path(path)
    with temporary_folder(writable_folder(path.parent)) as temporary:
        written = temporary / path.name
        if isinstance(picture, Figure):
            picture.savefig(written, dpi=110, facecolor="white")
        else:
            picture.save(written)
        os.replace(written, path)
    return path


def captioned_images(
    images: Tensor, captions, *, columns: int = 8, title: str = ""
) -> Figure:
    """Images [N, C, S, S] with a caption under each, `columns` in a row."""
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(columns * 1.05, rows * 1.25 + 0.4), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, caption in zip(axes.flat, images, captions, strict=False):
        _draw(axis, image)
        axis.set_title(caption, fontsize=7, y=-0.22)
    figure.suptitle(title, fontsize=11)
    return figure


def image_rows(rows: dict[str, Tensor], *, title: str = "") -> Figure:
    """Rows of images [N, C, S, S], each with its name at the left."""
    columns = max(len(images) for images in rows.values())
    figure = Figure(
        figsize=(columns * 0.9 + 1.2, len(rows) * 0.95 + 0.4), layout="constrained"
    )
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        for axis, image in zip(line, images, strict=False):
            _draw(axis, image)
        for axis in line:
            axis.set_xticks([])
            axis.set_yticks([])
            for spine in axis.spines.values():
                spine.set_visible(False)
        line[0].set_ylabel(name, fontsize=9)
    figure.suptitle(title, fontsize=11)
    return figure


def _draw(axis, image: Tensor) -> None:
    pixels = image.detach().cpu().float().clamp(0, 1).permute(1, 2, 0)  # [S, S, C]
    if pixels.shape[-1] == 1:
        pixels = torch.cat([pixels] * 3, dim=-1)
    axis.imshow(pixels.numpy(), interpolation="nearest")
