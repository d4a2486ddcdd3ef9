"""Images in memory, from the package, torchvision and folders; and codes on disk."""

import math
import struct
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from pixelprior.data import images as data_images
from pixelprior.data.codes import (
    CodeData,
    images_at_once,
    load_codes,
    save_codes,
    smallest_integer_type,
)
from pixelprior.data.images import ImageData, load_images
from pixelprior.evaluation.measures import nearest


def write_images(folder, count, size=(40, 50), first=0):
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(first, first + count):
        pixels = np.random.default_rng(index).integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:03d}.png")


def both_splits(root):
    return [load_images("imagefolder", s, data_root=root) for s in ("train", "test")]


@pytest.mark.parametrize(("split", "per_class"), [("train", 600), ("test", 100)])
def test_the_embedded_images_are_balanced_over_ten_classes(split, per_class):
    data = load_images("fashion_mnist_mini", split)
    assert data.images.shape == (10 * per_class, 1, 32, 32)
    assert data.images.dtype == torch.uint8
    assert data.labels.bincount().tolist() == [per_class] * 10
    assert data.class_names[8] == "Bag"
    border = data.images.clone()
    border[:, :, 2:-2, 2:-2] = 0
    assert not border.any()


@pytest.mark.parametrize(("split", "count"), [("train", 1443), ("test", 159)])
def test_the_embedded_emoji_have_colour_and_nine_classes(split, count):
    data = load_images("emoji", split)
    assert data.images.shape == (count, 3, 32, 32)
    assert data.images.dtype == torch.uint8
    assert len(data.labels.unique()) == len(data.class_names) == 9
    assert data.class_names[-1] == "flags"
    assert (data.images[:, :, 0, 0] == 255).all(1).double().mean() > 0.9, "on white"


LEAST = [("fashion_mnist_mini", 0), ("emoji", 0.06)]


@pytest.mark.parametrize(("name", "least"), LEAST)
def test_no_embedded_test_image_is_a_training_image(name, least):
    """No emoji of another design is nearly the same: `least` is a root mean square."""
    train, test = (load_images(name, split) for split in ("train", "test"))
    distances = nearest(test, train)[1] / math.sqrt(train.images[0].numel())
    assert distances.min() > least


def test_batches_are_floats_from_zero_to_one():
    data = load_images("fashion_mnist_mini", "test")
    (images,) = data.batch(torch.arange(50))
    assert images.dtype == torch.float32
    assert (images.min(), images.max()) == (0, 1)
    image, label = data[3]
    assert image.shape == (1, 32, 32) and label.shape == ()
    small = load_images("fashion_mnist_mini", "test", image_size=16)
    assert small.images.shape == (1000, 1, 16, 16)


def test_a_folder_is_cropped_to_squares_and_classed_by_its_folders(tmp_path):
    for name in ("cats", "dogs"):
        write_images(tmp_path / "train" / name, 3)
        write_images(tmp_path / "test" / name, 2)
    (tmp_path / "train" / ".hidden").mkdir()
    write_images(tmp_path / "train" / ".hidden", 1)
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
    write_images(tmp_path / "train" / "cats", 2)
    write_images(tmp_path / "train" / "dogs", 2)
    write_images(tmp_path / "train", 1)
    write_images(tmp_path / "val" / "owls", 1)
    write_images(tmp_path / "val" / "dogs", 1)
    with pytest.warns(
        UserWarning, match=r"1 of 5 .*: train/000\.png \(it has no class"
    ):
        train = load_images("imagefolder", "train", data_root=tmp_path)
    with pytest.warns(UserWarning, match=r"1 of 2 .*: val/owls/000\.png .*no class"):
        test = load_images("imagefolder", "test", data_root=tmp_path)
    assert (train.labels.tolist(), test.labels.tolist()) == ([0, 0, 1, 1], [1])


def test_grey_and_transparent_images_become_rgb(tmp_path):
    for name, mode in (("grey.png", "L"), ("clear.png", "RGBA"), ("palette.gif", "P")):
        assert read_one(tmp_path, Image.new(mode, (32, 32)), name).shape == (32, 32, 3)


def test_folders_without_images_are_named(tmp_path):
    def refused(words, error=ValueError):
        with pytest.raises(error, match=words):
            load_images("imagefolder", "train", data_root=tmp_path / "in")

    refused(r"no folder .*in; give one", FileNotFoundError)
    (tmp_path / "in" / "train").mkdir(parents=True)
    refused(r"no images in .*train; give a folder with \.bmp, ")
    (tmp_path / "in" / "test").mkdir()
    (tmp_path / "in" / "train" / "a.png").write_text("no")
    refused(r"none of the 1 images.*a\.png.*; give a folder with undamaged images")
    (tmp_path / "in" / "test").rmdir()
    refused("1 images in .* are too few to hold out every tenth; give at least 10")


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
    with pytest.raises(FileNotFoundError) as error:
        load_images("fashion_mnist", "train", data_root=tmp_path)
    words = str(error.value)
    assert str(tmp_path / "FashionMNIST" / "raw") in words
    assert "dataset-fashion-mnist" in words and "--data_root" in words


def test_codes_take_the_smallest_type_that_holds_them():
    for size, bits in ((256, 8), (257, 16), (2**15, 16), (2**15 + 1, 32)):
        dtype = smallest_integer_type(size)
        assert torch.iinfo(dtype).bits == bits
        assert torch.tensor(size - 1).to(dtype) == size - 1


def test_all_512_codes_round_trip_through_the_file(tmp_path):
    top = torch.arange(512, dtype=torch.int16).view(2, 16, 16)
    names = ("two\nlines", "caf\u00e9", "\udcff")  # of any letters
    codes = CodeData((top, top.flip(2)), None, 512, names)
    save_codes(codes, tmp_path / "codes", "here")
    again = load_codes(tmp_path / "codes", "here")
    assert torch.equal(again.z_top, codes.z_top)
    assert torch.equal(again.z_bottom, codes.z_bottom)
    assert again.batch(torch.arange(2))[0].dtype == torch.long
    assert (again.num_embeddings, again.class_names) == (512, names)


def test_codes_of_another_source_or_cut_short_are_not_taken(tmp_path):
    path = tmp_path / "codes.safetensors"
    grid = torch.zeros(1, 2, 2, dtype=torch.uint8)
    save_codes(CodeData((grid, grid), torch.zeros(1).long(), 4), path, "here")
    assert load_codes(path, "there") is None
    path.write_bytes(path.read_bytes()[:-3])
    assert load_codes(path, "here") is None
    assert load_codes(tmp_path / "absent", "here") is None
    save_file({"z_top": grid}, path, metadata={"source": "here"})
    assert load_codes(path, "here") is None


@pytest.mark.parametrize("side, count", [(28, 256), (64, 256), (256, 16), (2048, 1)])
def test_fewer_large_images_are_encoded_at_the_same_time(side, count):
    image = torch.empty(3, 1, 1).byte().expand(1, 3, side, side)
    assert images_at_once(ImageData(image, torch.zeros(1), ())) == count


def test_unigram_entropy_of_equal_frequencies_is_the_log_of_their_number():
    grid = torch.arange(8).view(1, 2, 4)
    codes = CodeData((grid, grid), None, 512)
    assert codes.unigram_entropy("top") == pytest.approx(np.log(8))


ORIENTATION = 0x112  # the EXIF tag
TO_ORIENTATION = {  # how a camera writes an upright image [H, W, …] (EXIF 2.32, 4.6.5)
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: pixels.swapaxes(0, 1)[::-1],
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: pixels.swapaxes(0, 1)[:, ::-1],
}


def read_one(folder, image, name, size=32, **options):
    """The pixels [size, size, C] of one image file, as a data set holds them."""
    for split in ("train", "test"):
        (folder / split).mkdir(exist_ok=True)
        image.save(folder / split / name, **options)
    data = load_images("imagefolder", "train", data_root=folder, image_size=size)
    return data.images[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("orientation", TO_ORIENTATION)
@pytest.mark.parametrize("kind", ["photo.png", "photo.tif", "deep.png", "deep.tif"])
def test_a_photograph_is_turned_upright(tmp_path, orientation, kind):
    numbers, shape = np.random.default_rng(0), (32, 48)
    if kind.startswith("deep"):
        upright = numbers.integers(0, 2**16, shape, np.uint16)
        expected = np.stack([upright >> 8] * 3, -1)
    else:
        upright = expected = numbers.integers(0, 256, (*shape, 3), np.uint8)
    written = np.ascontiguousarray(TO_ORIENTATION[orientation](upright))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    found = read_one(tmp_path, Image.fromarray(written), kind, exif=exif)
    assert np.array_equal(found, expected[:, 8:40])


@pytest.mark.parametrize("name", ["photo.png", "photo.jpg"])
def test_broken_exif_costs_no_image_and_odd_exif_no_orientation(tmp_path, name):
    image = Image.fromarray(np.repeat(np.uint8([[9], [200]]), 16, 0).repeat(32, 1))
    broken = read_one(tmp_path, image, name, exif=b"Exif\0\0no notes at all")
    assert np.abs(broken[..., 0].astype(int) - np.asarray(image)).max() < 4
    turned = struct.pack(">HHIHH", ORIENTATION, 3, 1, 6, 0)
    odd = struct.pack(">HHI4s", 0x102, 2, 2, b"ab")  # letters instead of a number
    exif = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 2) + turned + odd + bytes(4)
    found = read_one(tmp_path, image, name, exif=exif)
    expected = np.rot90(np.asarray(image), -1)
    assert np.abs(found[..., 0].astype(int) - expected).max() < 4


@pytest.mark.parametrize("name", ["deep.png", "deep.tif", "deep.ppm"])
def test_16_bits_keep_the_upper_8(tmp_path, name):
    pixels = np.arange(32 * 32, dtype=np.uint16).reshape(32, 32) * 64
    path = tmp_path / name
    if name.endswith("ppm"):  # Pillow 10.0 reads these but cannot write them
        path.write_bytes(b"P5 32 32 65535\n" + pixels.astype(">u2").tobytes())
    else:
        Image.fromarray(pixels).save(path)
    with path.open("rb") as stream:
        found = data_images.read_image(stream, (32, 32))
    assert np.array_equal(found[0], pixels >> 8)


def test_32_bits_of_an_unknown_scale_are_named(tmp_path):
    for pixels in (np.zeros((32, 32), np.int32), np.zeros((32, 32), np.float32)):
        with pytest.raises(ValueError, match=r"mode [IF]: save it with 8 or 16 bits"):
            read_one(tmp_path, Image.fromarray(pixels), "deep.tif")


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
