"""Pictures on disk show exactly the images that are measured."""

import numpy as np
import torch
from PIL import Image

from pixelprior import cli
from pixelprior.assets import FOLDER
from pixelprior.evaluation.measures import samples
from pixelprior.plotting import as_bytes, image_grid, save_picture


def test_colours_are_rounded_and_what_is_out_of_range_is_brought_to_its_end(tmp_path):
    levels = torch.arange(256).repeat(3)[: 3 * 16 * 16].view(1, 3, 16, 16)
    for shift in (-0.49, 0.49):
        path = save_picture(image_grid((levels + shift) / 255), tmp_path / "one.png")
        pixels = torch.from_numpy(np.asarray(Image.open(path)).copy()).permute(2, 0, 1)
        assert torch.equal(pixels, levels[0].byte())
    assert as_bytes(torch.tensor([-1.0, 1.5])).tolist() == [0, 255]


def test_the_files_of_sample_are_what_evaluation_measures(shipped, tmp_path):
    arguments = ["--vqvae2_checkpoint", str(FOLDER / "fashion_mnist_vqvae2")]
    arguments += ["--prior_checkpoint", str(FOLDER / "fashion_mnist_prior")]
    arguments += ["--num_samples", "5", "--seed", "3", "--output_dir", str(tmp_path)]
    cli.main(["sample", *arguments])
    for index, pixels in enumerate(samples(*shipped, 5, seed=3).images):
        written = np.asarray(Image.open(tmp_path / f"sample_{index:05d}.png"))
        assert np.array_equal(written, np.stack([pixels[0]] * 3, axis=-1))
