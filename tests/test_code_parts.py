"""Codes of images written part by part: complete, or taken up where it was left."""

import copy
import random

import pytest
import torch
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

    def __init__(self, stop_before=COUNT):
        self.stop_before, self.read = stop_before, []
        self.numbers = torch.arange(COUNT)
        self.labels = self.numbers % 2

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
    """The code of an image is its number."""
    return FunctionTokenizer(
        lambda images: (images * COUNT).round().long()[:, 0],
        lambda codes: codes[:, None] / COUNT,
        [(1, 1)],
        COUNT,
    )


def extract(folder, images, source="here", **options):
    extract_codes_to_folder(tokenizer(), images, folder, source, **options)


def files(folder):
    """The tensors of each file."""
    return {
        path.name: {name: each.tolist() for name, each in load_file(path).items()}
        for path in folder.iterdir()
    }


@pytest.mark.parametrize("labels", ["classes", "vectors"])
def test_codes_of_several_parts_are_those_in_memory(tmp_path, labels):
    images = Images()
    if labels == "vectors":
        images.labels = torch.arange(3.0 * COUNT).view(-1, 3)
    extract(tmp_path, images)
    codes, in_memory = read_codes(tmp_path), extract_codes(tokenizer(), images)
    assert len(files(tmp_path)) == 3 and len(codes) == COUNT
    assert torch.equal(codes.labels, images.labels)
    shuffled = torch.randperm(COUNT)
    kept, expected = codes.grid(0), in_memory.grid(0)
    assert kept.dtype == torch.int16 and kept.shape == expected.shape
    assert torch.equal(kept[shuffled], expected[shuffled])
    assert torch.equal(codes.counts(0), in_memory.counts(0))
    some = codes.subset(shuffled < 7)
    assert torch.equal(some.grid(0), expected[shuffled < 7])
    assert codes.num_embeddings == COUNT and codes.class_names == ("even", "odd")


def test_extraction_that_is_stopped_five_times_ends_with_the_same_files(tmp_path):
    whole, folder = tmp_path / "whole", tmp_path / "codes"
    extract(whole, Images())
    for stop in sorted(random.Random(0).sample(range(1, COUNT), 5)):
        with pytest.raises(KeyboardInterrupt):
            extract(folder, Images(stop))
        with pytest.raises(ValueError, match="some of its parts are missing; start"):
            read_codes(folder)
    images = Images()
    extract(folder, images)
    assert min(images.read) == stop // PART * PART  # the parts before it were kept
    assert files(folder) == files(whole)


def test_processes_write_their_shares_in_any_order(tmp_path):
    """One that waits for the other is stopped, and one process does the rest."""
    calls, first, second = iter(range(9)), Images(), Images()

    def never_again():
        if next(calls) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(tmp_path, first, process=0, processes=2, wait=never_again)
    assert first.read == [*range(1000), *range(2000, COUNT)]
    extract(tmp_path, second)
    assert second.read == [*range(1000, 2000)]
    assert read_codes(tmp_path).z_top[:].flatten().tolist() == [*range(COUNT)]


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


@pytest.mark.parametrize("change", ["labels", "vectors", "grids", "codebook"])
def test_parts_that_do_not_belong_together_are_none(tmp_path, change):
    extract(tmp_path, Images())
    path = tmp_path / "part_00001.safetensors"
    part, source = _read_file(path, None)
    grids = tuple(grid.repeat(1, 1 + (change == "grids"), 1) for grid in part.grids)
    other = {"labels": None, "vectors": torch.ones(len(part), 2)}
    labels = other.get(change, part.labels)
    size = COUNT + (change == "codebook")
    save_codes(CodeData(grids, labels, size, part.class_names), path, source)
    with pytest.raises(ValueError, match=r"00001\.safetensors is of other images or c"):
        read_codes(tmp_path)
