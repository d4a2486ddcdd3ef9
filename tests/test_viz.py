"""Pictures: their sizes, their pixels, and that none is half-written."""

import numpy as np
import pytest
import torch
from PIL import Image

from pixelprior.viz import captioned_images, image_grid, image_rows, save_picture


def test_a_grid_holds_each_image_pixel_for_pixel():
    images = torch.rand(7, 1, 8, 8)
    grid = np.asarray(image_grid(images, nrow=4))
    assert grid.shape == (2 * 10 + 2, 4 * 10 + 2, 3)
    fifth = grid[12:20, 2:10, 0]
    assert np.abs(fifth / 255 - images[4, 0].numpy()).max() < 1 / 254


@pytest.mark.parametrize("channels", [1, 3])
def test_figures_are_drawn_for_grey_and_colour(tmp_path, channels):
    images = torch.rand(5, channels, 8, 8)
    figure = captioned_images(images, list("abcde"), columns=3, title="five")
    path = save_picture(figure, tmp_path / "new folder" / "five.png")
    assert np.asarray(Image.open(path)).std() > 20
    figure = image_rows({"one": images, "two": images[:3]})
    assert len(figure.axes) == 10


def test_a_picture_that_fails_leaves_nothing(tmp_path):
    class Fails(Image.Image):
        def save(self, path):
            path.write_bytes(b"half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        save_picture(Fails(), tmp_path / "a.png")
    assert not list(tmp_path.iterdir())
