"""Codes from the files of other programs: read as they are, or named."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pixelprior import PixelCNN
from pixelprior.data.codes import CodeData, read_codes, save_codes

TOP = np.arange(24).reshape(2, 3, 4)
BOTTOM = np.arange(96).reshape(2, 6, 8) % 24
LABELS = np.array([2, 0])


def write(path, arrays):
    """Arrays by name in a file of any kind; an .npy file has the first of them."""
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    elif path.suffix == ".npy":
        np.save(path, next(iter(arrays.values())))
    else:
        save_file({name: torch.from_numpy(a) for name, a in arrays.items()}, path)
    return path


@pytest.mark.parametrize("kind", ["safetensors", "npz"])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64"])
def test_two_levels_with_labels_are_read(tmp_path, kind, dtype):
    arrays = {"z_top": TOP, "z_bottom": BOTTOM, "labels": LABELS}
    arrays = {name: array.astype(dtype) for name, array in arrays.items()}
    codes = read_codes(write(tmp_path / f"codes.{kind}", arrays))
    assert codes.num_embeddings == 24 and codes.class_names == ("0", "1", "2")
    assert codes.z_top.dtype == codes.z_bottom.dtype == torch.uint8
    for array, grid in zip(arrays.values(), codes.batch(torch.arange(2)), strict=True):
        assert grid.dtype == torch.long and grid.tolist() == array.tolist()


def test_a_single_level_is_one_array(tmp_path):
    codes = read_codes(write(tmp_path / "codes.npy", {"": BOTTOM}), num_embeddings=300)
    grid, labels = codes.batch(torch.tensor([1]))
    assert grid.tolist() == BOTTOM[1:].tolist() and labels is None
    assert codes.num_embeddings == 300 and codes.level_names == ("level_0",)
    assert codes.z_top.dtype == torch.int16


@pytest.mark.parametrize("kind", ["npz", "npy"])
def test_the_largest_codebook_is_read_and_trained_on(tmp_path, kind):
    grid = np.zeros((3, 2, 2), "uint16")
    grid[1, 0, 1] = 65_535
    codes = read_codes(write(tmp_path / f"codes.{kind}", {"codes": grid}))
    assert codes.num_embeddings == 65_536 and codes.z_top.dtype == torch.int32
    assert codes.batch(torch.tensor([1]))[0][0, 0, 1] == 65_535
    model = PixelCNN(65_536, 2, 2, 1)
    assert model.loss_function(*codes.batch(torch.arange(3)))["total_loss"].isfinite()
    drawn = model.sample(2, (2, 2), seed=0)
    assert drawn.max() > 2**15, "codes beyond int16 are drawn too"


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_what_this_package_keeps_is_read_as_it_was(tmp_path, levels):
    grids = (torch.from_numpy(TOP), torch.from_numpy(BOTTOM), torch.from_numpy(TOP))
    sizes = (30, 24, 64) if levels == 3 else 256
    names = ("two\nlines", "caf\u00e9", "\udcff")  # of any letters
    codes = CodeData(grids[:levels], torch.tensor([1, 0]), sizes, names)
    save_codes(codes, tmp_path / "codes.safetensors", "here")
    again = read_codes(tmp_path / "codes.safetensors")
    assert again.num_embeddings == sizes and again.class_names == names
    every = torch.arange(2)
    assert all(map(torch.equal, codes.batch(every), again.batch(every)))


@pytest.mark.parametrize(
    "arrays, words",
    [
        ({"z_top": TOP}, "has z_top; give codes_0 and so on .*, or z_top and z_b"),
        ({"codes": TOP / 1}, "codes are torch.float64, but codes are integers"),
        ({"codes": TOP[0]}, r"codes have shape \[3, 4\], but \[B, H, W\]"),
        ({"z_top": TOP, "z_bottom": BOTTOM[:1]}, "2 in z_top and 1 in z_bottom; give"),
        ({"codes": TOP - 1}, "codes run from -1 to 22, but"),
        ({"codes": TOP, "labels": LABELS[:1]}, r"int64 \[1\]; give a whole number, or"),
        ({"codes": TOP, "labels": LABELS - 1}, "labels go down to -1 .*; give classes"),
    ],
)
def test_what_are_no_codes_is_named(tmp_path, arrays, words):
    with pytest.raises(ValueError, match=words):
        read_codes(write(tmp_path / "codes.npz", arrays))


def test_a_code_beyond_the_given_codebook_is_named(tmp_path):
    path = write(tmp_path / "codes.npy", {"": TOP})
    words = r"to 23, but a codebook of 20 .*codebook_size"
    with pytest.raises(ValueError, match=words):
        read_codes(path, num_embeddings=20)


@pytest.mark.parametrize("kind", ["safetensors", "npz", "npy"])
def test_a_file_cut_short_is_named(tmp_path, kind):
    path = write(tmp_path / f"codes.{kind}", {"codes": TOP})
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=rf"codes.{kind} cannot be read .* write it a"):
        read_codes(path)


def test_other_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*absent"):
        read_codes(tmp_path / "absent.npy")
    (tmp_path / "codes.csv").write_text("1,2")
    with pytest.raises(ValueError, match=r"or no \.safetensors, \.npz or \.npy"):
        read_codes(tmp_path / "codes.csv")
    np.save(tmp_path / "codes.npy", np.array([[["a"]]], dtype=object))
    with pytest.raises(ValueError, match="cannot be read"):  # no pickle is opened
        read_codes(tmp_path / "codes.npy")
