"""Folders in the layout of MVTec AD: masks lie where the defects of images lie."""

import numpy as np
import pytest
import torch
from PIL import Image

from pixelprior.data.images import Images
from pixelprior.evaluation.mvtec import MVTecTest, has_layout, read_maps, write_map


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
    for number, box in enumerate([(8, 16, 12, 20), (40, 30, 8, 8)]):
        name = f"{number:03d}"
        save(root / "test" / "bent" / f"{name}.png", box=box)
        save(root / "ground_truth" / "bent" / f"{name}_mask.png", box=box)
    save(root / "test" / "cut" / "000.png", (64, 128), (0, 60, 4, 4))
    save(root / "ground_truth" / "cut" / "000.png", (64, 128), (0, 60, 4, 4), 1)
    return root


@pytest.mark.parametrize("sides", [(64, 64), (32, 32), (16, 24)])
def test_a_mask_is_scaled_and_cropped_as_its_image(root, sides):
    assert has_layout(root) and not has_layout(root / "test")
    test = MVTecTest(root)
    names = [test.where(number) for number in range(len(test))]
    assert names == [
        f"test/{name}.png" for name in ("bent/000", "bent/001", "cut/000", "good/000")
    ]
    masks = test.read_masks([0, 1, 2, 3], sides)
    assert masks.shape == (4, *sides) and not masks[3].any()
    images = Images(test, sides)
    for number in range(3):  # the defects of the images are their bright pixels
        image, problem = images[number]
        assert not problem
        clear = (image[0].float() - 127.5).abs() > 2  # half of 255, if not rounded
        assert torch.equal(masks[number][clear], (image[0] > 127)[clear])
        assert clear.float().mean() > 0.9 and masks[number].any()


def test_a_defect_of_less_than_a_pixel_counts_where_it_covers_most(root):
    box = (10, 10, 2, 2)
    save(root / "test" / "bent" / "002.png", (256, 256), box)
    save(root / "ground_truth" / "bent" / "002_mask.png", (256, 256), box)
    mask = MVTecTest(root).read_masks([2], (16, 16))[0]
    assert mask.nonzero().tolist() == [[0, 0]]


def test_a_defect_outside_of_the_crop_is_named(root):
    box = (0, 0, 4, 4)
    save(root / "test" / "cut" / "001.png", (64, 128), box)
    save(root / "ground_truth" / "cut" / "001.png", (64, 128), box)
    with pytest.warns(UserWarning, match=r"1 images have no odd pixel.*cut/001\.png"):
        masks = MVTecTest(root).read_masks([2, 3], (32, 32))
    assert masks[0].any() and not masks[1].any()


def test_what_does_not_belong_together_is_named(root):
    bent, mask = root / "test/bent", root / "ground_truth/bent/000_mask.png"

    def refused(message, error=ValueError):
        with pytest.raises(error, match=message):
            MVTecTest(root)

    longest = bent / f"{251 * 'b'}.png"
    for path, message, error in (
        (bent / "007.png", "no mask .*007_mask.png", FileNotFoundError),
        (longest, "no mask", FileNotFoundError),
        (root / "test/loose.png", "loose.png is in none of the folders", ValueError),
        (bent / "000.bmp", "two images are named .*bent/000, and would", ValueError),
    ):
        save(path)
        refused(message, error)
        path.unlink()
    save(mask, (32, 64))
    refused("has 64×32 pixels, but the image .*000.png 64×64; give a mask of the same")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("L", (64, 64)).save(bent / "000.png", exif=turned)
    save(mask)
    refused("is to be turned \\(its EXIF orientation is 6\\), which its mask is not")
    save(bent / "000.png")
    mask.write_bytes(b"no mask")
    refused("the mask .*000_mask.png cannot be read")
    save(mask)
    (root / "test/good/000.png").unlink()
    refused("has bent and cut alone; give normal images in good")


def test_maps_are_read_as_they_were_written(tmp_path):
    maps = torch.randn(2, 5, 7)
    paths = [tmp_path / "a" / f"{number}.tiff" for number in range(2)]
    for values, path in zip(maps, paths, strict=True):
        write_map(values, path)
    assert torch.equal(read_maps(paths, (5, 7)), maps)
    whole = paths[1].read_bytes()
    write_map(maps[0, :4], paths[1])
    for wrong in (whole[:100], paths[1].read_bytes()):
        paths[1].write_bytes(wrong)
        with pytest.raises(ValueError, match=r"1\.tiff cannot be read.*--resume"):
            read_maps(paths, (5, 7))
