"""Pictures on disk and in figures show exactly the images that are measured."""

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from pixelprior import cli
from pixelprior.assets import FOLDER
from pixelprior.course.figures.plots import images_over_maps
from pixelprior.data.images import ImageData
from pixelprior.evaluation.measures import reconstructions, samples
from pixelprior.plotting import as_bytes, draw_image, image_grid, save_picture


def read(path):
    """The pixels of a grey picture, [H, W]."""
    pixels = np.asarray(Image.open(path))
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0]


@pytest.fixture(scope="module")
def some(heldout_images):
    """Twelve held-out images."""
    images, labels = heldout_images.images[:12], heldout_images.labels[:12]
    return ImageData(images, labels, heldout_images.class_names)


def test_a_picture_of_a_reconstruction_is_the_one_that_is_measured(
    shipped, some, tmp_path
):
    measured = reconstructions(shipped[0], some).images
    with torch.no_grad():
        rebuilt = shipped[0](some[:][0])
    grid = read(save_picture(image_grid(rebuilt, 4), tmp_path / "grid.png"))
    for index, (image, pixels) in enumerate(zip(rebuilt, measured, strict=True)):
        one = read(save_picture(image_grid(image[None], 1), tmp_path / "one.png"))
        top, left = (2 + 34 * place for place in divmod(index, 4))
        for part in (one, grid[top : top + 32, left : left + 32]):
            assert np.array_equal(part, pixels[0].numpy())


def test_colours_are_rounded_and_what_is_out_of_range_is_brought_to_its_end(tmp_path):
    levels = torch.arange(256).repeat(3)[: 3 * 16 * 16].view(1, 3, 16, 16)
    for shift in (-0.49, 0, 0.49):
        path = save_picture(image_grid((levels + shift) / 255), tmp_path / "one.png")
        pixels = torch.from_numpy(np.asarray(Image.open(path)).copy()).permute(2, 0, 1)
        assert torch.equal(pixels, levels[0].byte())
    assert as_bytes(torch.tensor([-1.0, 1.5])).tolist() == [0, 255]


def test_the_files_of_sample_are_what_evaluation_measures(shipped, tmp_path):
    arguments = ["--vqvae2_checkpoint", str(FOLDER / "fashion_mnist_vqvae2")]
    arguments += ["--prior_checkpoint", str(FOLDER / "fashion_mnist_prior")]
    arguments += ["--num_samples", "5", "--batch_size", "5", "--seed", "3"]
    cli.main(["sample", *arguments, "--output_dir", str(tmp_path)])
    measured = samples(*shipped, 5, seed=3)
    for index, pixels in enumerate(measured.images):
        written = read(tmp_path / f"sample_{index:05d}.png")
        assert np.array_equal(written, pixels[0].numpy())


def in_the_middle_of_each_pixel(axis, figure):
    """The colours [32, 32, 3] at the pixel centres of the image drawn on an axis."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    shown = np.asarray(canvas.buffer_rgba())
    places = np.stack(np.meshgrid(np.arange(32), np.arange(32)), -1).reshape(-1, 2)
    x, y = axis.transData.transform(places).astype(int).T
    return shown[len(shown) - 1 - y, x, :3].reshape(32, 32, 3)


def test_figures_show_the_images_that_are_measured(shipped, some):
    with torch.no_grad():
        rebuilt = shipped[0](some[:1][0])
    pixels = as_bytes(rebuilt[0])[0].numpy()
    figure = Figure(figsize=(4, 4))
    draw_image(figure.subplots(), rebuilt[0])
    maps = images_over_maps(rebuilt, torch.rand(1, 8, 8), [""], unit="nats")
    maps.set_dpi(400)
    for each in (figure, maps):
        shown = in_the_middle_of_each_pixel(each.axes[0], each)
        assert np.array_equal(shown, np.stack([pixels] * 3, -1))
