"""A folder of codes written part by part: complete, or taken up where it was left."""

import copy
import errno
import os
import random

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from pixelprior import extract_codes, read_codes
from pixelprior.data import codes as module
from pixelprior.data.codes import (
    CodeData,
    _read_file,
    extract_codes_to_folder,
    load_codes,
    save_codes,
)
from pixelprior.data.tokenizers import FunctionTokenizer

COUNT, PART = 2500, 1000  # three parts, the last one shorter


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(module, "PART", PART)


class Images:
    """Images whose only pixel is their number, and which can stop before one."""

    split, class_names = "train", ("even", "odd")
    labels = torch.arange(COUNT) % 2
    numbers = torch.arange(COUNT)

    def __init__(self, stop_before=COUNT):
        self.stop_before, self.read = stop_before, []

    def __len__(self):
        return len(self.numbers)

    def subset(self, indices):
        part = copy.copy(self)  # with the same list of what was read
        part.numbers, part.labels = self.numbers[indices], self.labels[indices]
        return part

    def batch(self, indices):
        return (self.numbers[indices].view(-1, 1, 1, 1).float() / COUNT,)

    def batches(self, parts):
        for indices in parts:
            numbers = self.numbers[indices]
            if numbers.max() >= self.stop_before:
                raise KeyboardInterrupt
            self.read += numbers.tolist()
            yield self.batch(indices)


def tokenizer():
    """The number of an image in two grids: its hundreds, and what is left of it."""

    def encode(images):
        numbers = (images * COUNT).round().long()[:, 0]
        return numbers // 100, (numbers % 100).expand(-1, 2, 2)

    def decode(top, bottom):
        return ((top * 100 + bottom[:, :1, :1])[:, None] / COUNT).float()

    return FunctionTokenizer(encode, decode, [(1, 1), (2, 2)], 100)


def extract(folder, images, source="here", **options):
    extract_codes_to_folder(tokenizer(), images, folder, source, **options)


def files(folder):
    """What each file says, in any order, and its tensors."""
    found = {}
    for path in folder.iterdir():
        with safe_open(path, framework="pt") as file:
            tensors = {name: value.tolist() for name, value in load_file(path).items()}
            found[path.name] = file.metadata(), tensors
    return found


@pytest.mark.parametrize(
    "labels", [Images.labels, torch.arange(3.0 * COUNT).view(-1, 3)]
)
def test_codes_of_several_parts_are_those_in_memory(tmp_path, labels):
    images = Images()
    images.labels = labels
    extract(tmp_path, images)
    codes = load_codes(tmp_path, "here")
    in_memory = extract_codes(tokenizer(), images)
    assert len(files(tmp_path)) == 3 and len(codes) == COUNT
    shuffled = torch.randperm(COUNT, generator=torch.Generator().manual_seed(0))
    assert all(map(torch.equal, codes.batch(shuffled), in_memory.batch(shuffled)))
    for level in ("top", "bottom"):
        assert codes.grid(level).dtype == torch.uint8
        assert codes.grid(level).shape == in_memory.grid(level).shape
        assert torch.equal(codes.counts(level), in_memory.counts(level))
    some = codes.subset(shuffled < 7)
    assert torch.equal(some.z_bottom, in_memory.z_bottom[shuffled < 7])
    assert codes.num_embeddings == 100 and codes.class_names == ("even", "odd")
    assert torch.equal(read_codes(tmp_path).z_top[:], in_memory.z_top)


def test_extraction_that_is_stopped_five_times_ends_with_the_same_files(tmp_path):
    extract(tmp_path / "whole", Images())
    draw, folder = random.Random(0), tmp_path / "codes"
    for stop in sorted(draw.sample(range(1, COUNT), 5)):
        with pytest.raises(KeyboardInterrupt):
            extract(folder, Images(stop))
        assert load_codes(folder, "here") is None
        with pytest.raises(ValueError, match="some of its parts are missing; start"):
            read_codes(folder)
    images = Images()
    extract(folder, images)
    assert min(images.read) == stop // PART * PART  # the parts before it were kept
    assert files(folder) == files(tmp_path / "whole")


def test_processes_write_their_shares_in_any_order(tmp_path):
    extract(tmp_path / "whole", Images())

    class Stopped(Exception):
        pass

    calls = iter(range(9))

    def never_again():
        """The first wait is passed; at the second the other process is awaited."""
        if next(calls) == 1:
            raise Stopped

    first, second, folder = Images(), Images(), tmp_path / "codes"
    with pytest.raises(Stopped):
        extract(folder, first, process=0, processes=2, wait=never_again)
    assert first.read == [*range(1000), *range(2000, COUNT)]
    extract(folder, second)  # now one process does the rest
    assert second.read == [*range(1000, 2000)]
    assert files(folder) == files(tmp_path / "whole")


@pytest.mark.parametrize("change", ["source", "damage", "size of the parts"])
def test_parts_of_other_codes_are_written_anew(tmp_path, monkeypatch, change):
    with pytest.raises(KeyboardInterrupt):
        extract(tmp_path, Images(2000))
    if change == "damage":
        for path in tmp_path.iterdir():
            path.write_bytes(path.read_bytes()[:-1])
    if change == "size of the parts":
        monkeypatch.setattr(module, "PART", 900)
    images, source = Images(), "elsewhere" if change == "source" else "here"
    extract(tmp_path, images, source)
    assert len(images.read) == COUNT
    assert load_codes(tmp_path, source) is not None
    assert load_codes(tmp_path, "of another VQ-VAE-2") is None


@pytest.mark.parametrize(
    "words", ["9 of 0", "9 of -1", "x", f"{10**12} images in parts of 1"]
)
def test_parts_that_cannot_be_counted_are_none(tmp_path, words):
    one = extract_codes(tokenizer(), Images()).subset(torch.arange(1))
    save_codes(one, tmp_path / "part_00000.safetensors", f"{words}\nhere")
    assert load_codes(tmp_path, "here") is None


@pytest.mark.parametrize("change", ["labels", "vectors", "grids", "codebook"])
def test_parts_that_do_not_belong_together_are_none(tmp_path, change):
    extract(tmp_path, Images())
    path = tmp_path / "part_00001.safetensors"
    part, source = _read_file(path, None)
    grids, labels, size = part.grids, part.labels, part.num_embeddings
    labels = {"labels": None, "vectors": torch.ones(len(part), 2)}.get(change, labels)
    if change == "grids":
        grids = [grid[:, :1] for grid in grids]
    size = size + 1 if change == "codebook" else size
    save_codes(CodeData(tuple(grids), labels, size, part.class_names), path, source)
    with pytest.raises(ValueError, match=r"00001\.safetensors is of other images or c"):
        read_codes(tmp_path)


def test_a_full_disk_is_named_and_what_was_written_is_kept(tmp_path, monkeypatch):
    replace = os.replace

    def full(*paths):
        if str(paths[1]).endswith("00001.safetensors"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(*paths)

    monkeypatch.setattr(module.os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        extract(tmp_path, Images())
    assert [*files(tmp_path)] == ["part_00000.safetensors"]
