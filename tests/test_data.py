"""Images in memory, from the package, torchvision and folders."""

import math
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from pixelprior.data import images as data_images
from pixelprior.data.images import load_images
from pixelprior.evaluation.measures import nearest


def write_images(folder, count):
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        pixels = np.random.default_rng(index).integers(0, 256, (40, 50, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:03d}.png")


def both_splits(root):
    return [load_images("imagefolder", s, data_root=root) for s in ("train", "test")]


@pytest.mark.parametrize(
    ("name", "channels", "counts", "last"),
    [
        ("fashion_mnist_mini", 1, (6000, 1000), "Ankle boot"),
        ("emoji", 3, (1443, 159), "flags"),
    ],
)
def test_the_embedded_images_have_these_sizes_and_classes(name, channels, counts, last):
    for split, count in zip(("train", "test"), counts, strict=True):
        data = load_images(name, split)
        assert data.images.shape == (count, channels, 32, 32)
        assert len(data.labels.unique()) == len(data.class_names)
        assert data.class_names[-1] == last


@pytest.mark.parametrize(
    ("name", "least"), [("fashion_mnist_mini", 0), ("emoji", 0.06)]
)
def test_no_embedded_test_image_is_a_training_image(name, least):
    """No emoji of another design is nearly the same: `least` is a root mean square."""
    train, test = (load_images(name, split) for split in ("train", "test"))
    distances = nearest(test, train)[1] / math.sqrt(train.images[0].numel())
    assert distances.min() > least


def test_a_folder_is_cropped_to_squares_and_classed_by_its_folders(tmp_path):
    for name in ("cats", "dogs", ".hidden"):
        write_images(tmp_path / "train" / name, 3)
        write_images(tmp_path / "test" / name, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train, test = both_splits(tmp_path)
    assert train.images.shape == (6, 3, 32, 32) and test.images.shape == (4, 3, 32, 32)
    assert train.class_names == test.class_names == ("cats", "dogs")
    assert train.name == test.name == f"imagefolder {tmp_path.name}"
    assert train.labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_a_flat_folder_holds_every_tenth_image_out(tmp_path):
    write_images(tmp_path, 25)
    train, test = both_splits(tmp_path)
    assert (len(train), len(test)) == (23, 2)
    assert train.class_names == ("images",)
    tenth = load_images("imagefolder", "test", data_root=tmp_path, image_size=40)
    pixels = np.asarray(Image.open(tmp_path / "009.png"))[:, 5:45]
    assert np.array_equal(tenth.images[0].permute(1, 2, 0).numpy(), pixels)


def test_images_of_no_class_are_named_and_left_out(tmp_path):
    for place in ("train/cats", "train/dogs", "train", "val/owls", "val/dogs"):
        write_images(tmp_path / place, 1)
    with pytest.warns(UserWarning) as said:
        train, test = both_splits(tmp_path)
    first, second = (str(each.message) for each in said)
    assert "1 of 3 " in first and "train/000.png (it has no class" in first
    assert "1 of 2 " in second and "val/owls/000.png (it has no class" in second
    assert (train.labels.tolist(), test.labels.tolist()) == ([0, 1], [1])


def test_folders_without_images_are_named(tmp_path):
    def refused(words, error=ValueError):
        with pytest.raises(error, match=words):
            load_images("imagefolder", "train", data_root=tmp_path / "in")

    refused(r"no folder .*in; give one", FileNotFoundError)
    (tmp_path / "in" / "train").mkdir(parents=True)
    refused(r"no images in .*train; give a folder with \.bmp, ")
    (tmp_path / "in" / "train" / "a.png").write_text("no")
    refused("1 images in .* are too few to hold out every tenth; give at least 10")
    (tmp_path / "in" / "test").mkdir()
    refused(r"none of the 1 images.*a\.png.*; give a folder with undamaged images")


def test_wrong_arguments_are_named():
    for arguments, words in (
        (["fashion"], "dataset is 'fashion'.*fashion_mnist_mini"),
        (["fashion_mnist_mini", "val"], "split is 'val'"),
        (["imagefolder"], "--data_root"),
        (["hub:"], "dataset is 'hub:'; give one of"),
    ):
        with pytest.raises(ValueError, match=words):
            load_images(*arguments)


def test_an_absent_data_set_says_what_where_and_how(tmp_path, monkeypatch):
    from torchvision.datasets import FashionMNIST

    def no_network(*_arguments, **_more):
        raise OSError("no network")

    monkeypatch.setattr(FashionMNIST, "download", no_network)
    words = "FashionMNIST.raw, and cannot .*dataset-fashion-mnist.*--data_root"
    with pytest.raises(FileNotFoundError, match=words):
        load_images("fashion_mnist", "train", data_root=tmp_path)


# Files of images


ORIENTATION = 0x112  # the EXIF tag
TO_ORIENTATION = {  # how a camera writes an upright image [H, W, …] (EXIF 2.32, 4.6.5)
    1: lambda pixels: pixels,
    3: lambda pixels: pixels[::-1, ::-1],
    6: lambda pixels: pixels.swapaxes(0, 1)[::-1],
    8: lambda pixels: pixels.swapaxes(0, 1)[:, ::-1],
}


def read_one(folder, image, name, **options):
    """The pixels [32, 32, C] of one image file, as a data set holds them."""
    if isinstance(image, np.ndarray):
        image = Image.fromarray(np.ascontiguousarray(image))
    image.save(folder / name, **options)
    with (folder / name).open("rb") as stream:
        return data_images.read_image(stream, (32, 32)).permute(1, 2, 0).numpy()


def test_grey_and_transparent_images_become_rgb(tmp_path):
    for name, mode in (("grey.png", "L"), ("clear.png", "RGBA"), ("palette.gif", "P")):
        assert read_one(tmp_path, Image.new(mode, (32, 32)), name).shape == (32, 32, 3)


@pytest.mark.parametrize("orientation", TO_ORIENTATION)
@pytest.mark.parametrize("kind", ["photo.png", "photo.tif", "deep.png", "deep.tif"])
def test_a_photograph_is_turned_upright_and_keeps_the_upper_8_of_16_bits(
    tmp_path, orientation, kind
):
    upright = np.random.default_rng(0).integers(0, 2**16, (32, 48), np.uint16)
    expected = np.stack([upright >> 8] * 3, -1)
    pixels = upright if kind.startswith("deep") else expected.astype(np.uint8)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    found = read_one(tmp_path, TO_ORIENTATION[orientation](pixels), kind, exif=exif)
    assert np.array_equal(found, expected[:, 8:40])


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_32_bits_of_an_unknown_scale_are_named(tmp_path, kind):
    with pytest.raises(ValueError, match=r"mode [IF]: save it with 8 or 16 bits"):
        read_one(tmp_path, np.zeros((32, 32), kind), "deep.tif")


def test_a_line_of_pixels_is_not_scaled_to_more_than_memory_holds(monkeypatch):
    monkeypatch.setattr(data_images, "MOST_PIXELS", 5000)
    data_images.covering(torch.zeros(3, 16, 4), (32, 32))
    with pytest.raises(ValueError, match="800×4 pixels, which cover 32×32 only if"):
        data_images.covering(torch.zeros(3, 4, 800), (32, 32))


def test_a_small_file_of_too_many_pixels_is_named_before_they_are_decoded(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(data_images, "MOST_PIXELS", 32 * 40)
    read_one(tmp_path, Image.new("RGB", (32, 40)), "fits.png")
    monkeypatch.setattr(data_images, "_upright", None)  # which decodes
    with pytest.raises(ValueError, match="33×40 pixels, more than 1,280: shrink it"):
        read_one(tmp_path, Image.new("RGB", (33, 40)), "bomb.png")
