"""Folders in the layout of MVTec AD: masks lie where the defects of images lie."""

import numpy as np
import pytest
import torch
from PIL import Image

from pixelprior.data.images import Images
from pixelprior.evaluation.mvtec import MVTecTest, read_maps, write_map


def save(path, shape=(64, 64), box=None, colour=255):
    """Write an image of black pixels, with a box of another grey."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros(shape, np.uint8)
    if box is not None:
        top, left, height, width = box
        pixels[top : top + height, left : left + width] = colour
    Image.fromarray(pixels).save(path)


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "screw"
    save(root / "test" / "good" / "000.png")
    save(root / "test" / "bent" / "000.png", box=(8, 16, 12, 20))
    save(root / "ground_truth" / "bent" / "000_mask.png", box=(8, 16, 12, 20))
    save(root / "test" / "cut" / "000.png", (64, 128), (0, 60, 4, 4))
    save(root / "ground_truth" / "cut" / "000.png", (64, 128), (0, 60, 4, 4), 1)
    return root


def test_a_mask_is_scaled_and_cropped_as_its_image(root):
    test, sides = MVTecTest(root), (16, 24)
    masks, images = test.read_masks([0, 1, 2], sides), Images(test, sides)
    assert masks.shape == (3, *sides) and not masks[2].any()
    for number in range(2):  # the defects of the images are their bright pixels
        image, _problem = images[number]
        clear = (image[0].float() - 127.5).abs() > 2  # half of 255, if not rounded
        assert torch.equal(masks[number][clear], (image[0] > 127)[clear])
        assert clear.float().mean() > 0.9 and masks[number].any()


def test_a_defect_outside_of_the_crop_is_named(root):
    save(root / "ground_truth" / "cut" / "000.png", (64, 128), (0, 0, 4, 4))
    with pytest.warns(UserWarning, match=r"1 images have no odd pixel.*cut/000\.png"):
        masks = MVTecTest(root).read_masks([0, 1], (32, 32))
    assert masks[0].any() and not masks[1].any()


def test_what_does_not_belong_together_is_named(root):
    bent, mask = root / "test/bent", root / "ground_truth/bent/000_mask.png"

    def refused(message, error=ValueError):
        with pytest.raises(error, match=message):
            MVTecTest(root)

    save(bent / "007.png")
    refused("no mask .*007_mask.png", FileNotFoundError)
    (bent / "007.png").unlink()
    save(mask, (32, 64))
    refused("has 64×32 pixels, but the image .*000.png 64×64; give a mask of the same")
    mask.write_bytes(b"no mask")
    refused("the mask .*000_mask.png cannot be read")
    (bent / "000.png").unlink()
    (root / "test/good/000.png").unlink()
    refused("has cut alone; give normal images in good")


def test_a_map_that_cannot_be_read_is_named(tmp_path):
    values, path = torch.randn(5, 7), tmp_path / "1.tiff"
    path.write_bytes(b"no map")
    for sides in ((5, 7), (4, 7)):
        with pytest.raises(ValueError, match=r"1\.tiff cannot be read.*--resume"):
            read_maps([path], sides)
        write_map(values, path)
    assert torch.equal(read_maps([path], (5, 7))[0], values)
