"""A file of codes written part by part: complete, or taken up where it was left."""

import errno
import os
import random

import pytest
import torch

from pixelprior import CodeData, extract_codes
from pixelprior.data import code_writer
from pixelprior.data.code_writer import CodeWriter
from pixelprior.data.codes import extract_codes_to_file, load_codes, save_codes
from pixelprior.data.tokenizers import FunctionTokenizer

COUNT = 2500  # three parts of 1,024 images, the last one shorter


class Images:
    """Images whose only pixel is their number, and which can stop before one."""

    split, class_names = "train", ("even", "odd")
    labels = torch.arange(COUNT) % 2

    def __init__(self, stop_before=COUNT):
        self.stop_before, self.read = stop_before, []

    def __len__(self):
        return COUNT

    def batch(self, indices):
        return (indices.view(-1, 1, 1, 1).float() / COUNT,)

    def batches(self, parts):
        for indices in parts:
            if indices.max() >= self.stop_before:
                raise KeyboardInterrupt
            self.read += indices.tolist()
            yield self.batch(indices)


def tokenizer():
    """The number of an image in two grids: its hundreds, and what is left of it."""

    def encode(images):
        numbers = (images * COUNT).round().long()[:, 0]
        return numbers // 100, (numbers % 100).expand(-1, 2, 2)

    def decode(top, bottom):
        return ((top * 100 + bottom[:, :1, :1])[:, None] / COUNT).float()

    return FunctionTokenizer(encode, decode, [(1, 1), (2, 2)], 100)


def extract(path, images, **options):
    extract_codes_to_file(tokenizer(), images, path, "here", **options)


def test_a_file_that_is_written_part_by_part_is_the_one_that_is_written_at_once(
    tmp_path,
):
    path = tmp_path / "codes.safetensors"
    extract(path, Images())
    codes = load_codes(path, "here")
    in_memory = extract_codes(tokenizer(), Images())
    for one, other in zip(
        codes.batch(torch.arange(COUNT)),
        in_memory.batch(torch.arange(COUNT)),
        strict=True,
    ):
        assert torch.equal(one, other)
    assert codes.z_top.dtype == codes.z_bottom.dtype == torch.uint8
    assert codes.num_embeddings == 100 and codes.class_names == ("even", "odd")
    save_codes(in_memory, tmp_path / "whole.safetensors", "here")
    assert load_codes(tmp_path / "whole.safetensors", "here") is not None
    assert [each.name for each in sorted(tmp_path.iterdir())] == [
        "codes.safetensors",
        "whole.safetensors",
    ]


def test_extraction_that_is_stopped_five_times_ends_with_the_same_bytes(tmp_path):
    extract(tmp_path / "whole.safetensors", Images())
    draw, path = random.Random(0), tmp_path / "codes.safetensors"
    for stop in sorted(draw.sample(range(1, COUNT), 5)):
        images = Images(stop)
        with pytest.raises(KeyboardInterrupt):
            extract(path, images, process=0)
        assert not path.exists() and load_codes(path, "here") is None
    images = Images()
    extract(path, images)
    assert min(images.read) == stop // 1024 * 1024  # the parts before it were kept
    assert path.read_bytes() == (tmp_path / "whole.safetensors").read_bytes()


def test_processes_write_their_shares_in_any_order(tmp_path):
    extract(tmp_path / "whole.safetensors", Images())
    path = tmp_path / "codes.safetensors"

    class Stopped(Exception):
        pass

    calls = iter(range(9))

    def never_again():
        """The first two waits are passed; at the third the other process is awaited."""
        if next(calls) == 2:
            raise Stopped

    first = Images()
    with pytest.raises(Stopped):
        extract(path, first, process=0, processes=2, wait=never_again)
    assert first.read == [*range(1024), *range(2048, COUNT)]
    second = Images()
    extract(path, second)  # now one process does the rest
    assert second.read == [*range(1024, 2048)]
    assert path.read_bytes() == (tmp_path / "whole.safetensors").read_bytes()


@pytest.mark.parametrize("change", ["source", "damage", "no marks"])
def test_parts_of_another_file_are_not_taken_over(tmp_path, change):
    path = tmp_path / "codes.safetensors"
    with pytest.raises(KeyboardInterrupt):
        extract(path, Images(2000))
    unfinished = tmp_path / "codes.safetensors.unfinished"
    if change != "source":  # there are three marks
        lost = {"damage": 1, "no marks": 3}[change]
        unfinished.write_bytes(unfinished.read_bytes()[:-lost])
    images = Images()
    source = "elsewhere" if change == "source" else "here"
    extract_codes_to_file(tokenizer(), images, path, source)
    assert len(images.read) == COUNT


def test_a_full_disk_is_named_and_what_was_written_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(code_writer, "PART", 2)
    writer = CodeWriter(tmp_path / "x", {"codes": (torch.uint8, (4, 2))}, {})
    writer.prepare()
    writer.write(0, {"codes": torch.ones(2, 2, dtype=torch.uint8)})

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(code_writer.os, "fsync", full)
    with pytest.raises(
        OSError, match=r"make room on the disk, or .* and start the command ag"
    ):
        writer.write(1, {"codes": torch.ones(2, 2, dtype=torch.uint8)})
    assert writer.missing() == [1], "marked before its codes are on the disk"


def test_a_file_with_a_part_that_nobody_wrote_is_not_given_its_name(tmp_path):
    """As where two processes have other folders: neither sees the other's file."""
    tensors = {"codes": (torch.uint8, (COUNT, 2))}
    first = CodeWriter(tmp_path / "one" / "x", tensors, {})
    second = CodeWriter(tmp_path / "two" / "x", tensors, {}, "go on with --resume")
    first.prepare()
    with pytest.raises(OSError, match="give all processes the same --output_dir"):
        second.missing()
    second.prepare()
    for number in (0, 2):
        rows = second.images(number)
        ones = torch.ones(rows.stop - rows.start, 2, dtype=torch.uint8)
        second.write(number, {"codes": ones})
    with pytest.raises(OSError, match=r"1 of 3 parts of .*, and go on with --resume"):
        second.finish()
    assert not second.path.exists() and second.missing() == [1]


@pytest.mark.parametrize("done", [0, 1, 2])
def test_a_file_that_is_stopped_while_it_is_finished_is_finished_again(
    tmp_path, monkeypatch, done
):
    """It leaves no other file, and no image is encoded twice."""
    extract(tmp_path / "whole" / "codes.safetensors", Images())
    path, finish = tmp_path / "cut" / "codes.safetensors", CodeWriter.finish

    def stop(self):
        """After none, one or two of its three steps."""
        steps = iter(range(3))

        def counted(step):
            def run(*arguments):
                if next(steps) == done:
                    raise KeyboardInterrupt
                return step(*arguments)

            return run

        with monkeypatch.context() as patch:
            for name in ("truncate", "replace"):
                patch.setattr(code_writer.os, name, counted(getattr(os, name)))
            finish(self)

    monkeypatch.setattr(CodeWriter, "finish", stop)
    with pytest.raises(KeyboardInterrupt):
        extract(path, Images())
    monkeypatch.setattr(CodeWriter, "finish", finish)
    images = Images()
    extract(path, images)
    assert images.read == []
    assert [each.name for each in path.parent.iterdir()] == ["codes.safetensors"]
    assert path.read_bytes() == (tmp_path / "whole" / path.name).read_bytes()


def test_a_large_file_of_codes_is_mapped_and_not_read(tmp_path):
    """Reading the codes of a few images takes their memory alone."""
    psutil = pytest.importorskip("psutil")
    grid = torch.zeros(300_000, 32, 32, dtype=torch.uint8)  # 307 MB
    save_codes(CodeData(grid, None, None, 256), tmp_path / "x.safetensors", "here")
    del grid
    before = psutil.Process().memory_info().rss
    codes = load_codes(tmp_path / "x.safetensors", "here")
    assert codes.batch(torch.tensor([0, 299_999]))[0].sum() == 0
    assert psutil.Process().memory_info().rss - before < 30e6
