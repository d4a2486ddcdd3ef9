"""Images decoded from a source: all into memory, or batch by batch by other processes.

`load_source` decides between the two by the memory that is free. Each process on a
machine would hold all images, so that all of them are counted. Images in memory are
also kept on disk as they were decoded, so that a second command need not decode them.
"""

import hashlib
import json
import math
import os
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.utils.data import DataLoader

from pixelprior.data.image_files import MOST_PIXELS, read_image
from pixelprior.data.sources import NO_LABEL, listed
from pixelprior.files import (
    temporary_folder,
    writable_folder,
    write_tensors,
    write_texts,
)
from pixelprior.memory import free_memory
from pixelprior.progress import progress_bar

SHARE_OF_MEMORY = 0.5  # of what is free, for images in memory
PARTS_AHEAD = 2  # batches that each process decodes ahead of time
NICE = 10  # of 19: how far the processes that decode stand back
CHECKED = 256  # images of a stream that are checked as one batch
SECONDS_TO_KEEP = 60  # from one time that the check of a stream is kept to the next
SUBMITTED = 4096  # images that wait for a thread at the same time


class Decoded(NamedTuple):
    """Images in memory: uint8 [N, 3, H, W], and their labels, long [N]."""

    images: Tensor
    labels: Tensor


@dataclass
class StreamedImages:
    """One split of a data set that does not fit into memory.

    It takes the place of `data.ImageData` in a training. Batches are decoded by
    `workers` processes ahead of time, in the order that is asked for.

    Attributes:
        source: where the images lie, as in `sources.py`.
        numbers: long [N], which images of the source these are.
        labels: long [N].
        class_names: names of the labels 0, 1, …
        sides: height and width in pixels.
        name, split: the data set and the split that the images come from.
        workers: number of processes that decode images; 0 decodes in this one.
    """

    source: object
    numbers: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    sides: tuple[int, int]
    name: str = ""
    split: str = ""
    workers: int = 2

    channels = 3

    def __len__(self) -> int:
        return len(self.numbers)

    def subset(self, indices: Tensor) -> "StreamedImages":
        """Some of the images; indices are numbers or booleans."""
        return replace(self, numbers=self.numbers[indices], labels=self.labels[indices])

    def to(self, device) -> "StreamedImages":
        """The same data: batches go to the device one by one."""
        return self

    def batch(self, indices: Tensor) -> tuple[Tensor]:
        """The argument of `VQVAE2.loss_function`: images [B, 3, H, W] in [0, 1]."""
        numbers = self.numbers[indices.cpu()].tolist()
        images = [decoded(self.source, number, self.sides) for number in numbers]
        return (torch.stack(images).float() / 255,)

    def batches(self, parts) -> Iterator[tuple[Tensor]]:
        """The batch of each tensor of indices in `parts`, one after the other."""
        loader = DataLoader(
            Images(self.source, self.sides),
            batch_sampler=[self.numbers[part.cpu()].tolist() for part in parts],
            num_workers=self.workers,
            prefetch_factor=PARTS_AHEAD if self.workers else None,
            worker_init_fn=give_way,
            generator=torch.Generator(),  # the global one is the training's
        )
        for images, problems in loader:
            problem = next(filter(None, problems), None)
            if problem is not None:
                raise ValueError(
                    f"the image {problem} cannot be read any more; put it back as it "
                    "was, and go on with --resume"
                )
            yield (images.float() / 255,)


def give_way(_worker: int) -> None:
    """Let this process decode where the training leaves a core idle: it decodes ahead
    of time, while each thread of a training step waits for all others."""
    if hasattr(os, "nice"):
        os.nice(NICE)


class Images:
    """The images of a source by number, each with its problem or "", for a loader."""

    def __init__(self, source, sides: tuple[int, int]):
        self.source, self.sides = source, sides

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, number: int) -> tuple[Tensor, str]:
        try:
            return decoded(self.source, number, self.sides), ""
        except MemoryError:
            raise
        except Exception as error:  # decoders raise errors of many types
            nothing = torch.zeros(3, *self.sides, dtype=torch.uint8)
            return nothing, f"{self.source.where(number)} ({error})"


class _Problems(Images):
    """The problem of each image, or "", without the image."""

    def __getitem__(self, number: int) -> str:
        return super().__getitem__(number)[1]


def decoded(source, number: int, sides: tuple[int, int]) -> Tensor:
    """An image of a source, uint8 [3, H, W]."""
    with source.open(number) as stream:
        return read_image(stream, sides)


def load_source(
    source,
    picked: Tensor,
    sides: tuple[int, int],
    *,
    name: str,
    split: str,
    cache: Path,
    workers: int | None = None,
    stream: bool = True,
    progress: bool = False,
) -> Decoded | StreamedImages:
    """The images of a source: in memory if they fit, else as a stream.

    Args:
        source: as in `sources.py`.
        picked: long [n], the numbers of the images to load.
        sides: height and width in pixels.
        name, split: of the data set.
        cache: folder for what is kept of the images from one command to the next.
        workers: number of processes that decode a stream; None takes as many as there
            are cores, up to 8.
        stream: whether a stream is allowed.
        progress: show a progress bar.
    """
    about = hashlib.sha256(picked.numpy().tobytes())
    # The limit is named, since what is kept says which images can be read.
    about.update(f"{source.signature()} {split} {sides} {MOST_PIXELS}".encode())
    about.update(repr((source.class_names, source.labels[picked].tolist())).encode())
    key = about.hexdigest()
    needed = len(picked) * 3 * math.prod(sides)
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # processes on this machine
    if here * needed <= SHARE_OF_MEMORY * free_memory():
        return _in_memory(source, picked, sides, cache / f"{key}.safetensors", progress)
    if not stream:
        raise ValueError(
            f"{len(picked):,} images of {name} take {needed / 2**30:.1f} GiB, and here "
            "they are needed in memory, where they do not fit; give fewer with "
            "--max_images"
        )
    if workers is None:
        workers = max(1, min(8, (os.cpu_count() or 1) // here))
    data = StreamedImages(
        source,
        picked,
        source.labels[picked],
        source.class_names,
        sides,
        name,
        split,
        workers,
    )
    return data.subset(_readable(data, cache / f"{key}.json", progress))


def _in_memory(source, picked, sides, kept: Path, progress) -> Decoded:
    found = _read_decoded(kept)
    if found is not None:
        images, labels, problems = found
        _good(source, picked, problems)
        return Decoded(images, labels)
    images = torch.empty(len(picked), 3, *sides, dtype=torch.uint8)
    reader = Images(source, sides)

    def read(index: int) -> str:
        images[index], problem = reader[int(picked[index])]
        return problem

    problems: list[str] = []
    bar = progress_bar(
        total=len(picked),
        desc=f"reading {source.name}",
        unit="image",
        enabled=progress,
    )
    with ThreadPoolExecutor() as pool, bar:
        for some in torch.arange(len(picked)).split(SUBMITTED):
            problems += pool.map(read, some.tolist())
            bar.update(len(some))
    good, labels = _good(source, picked, problems), source.labels[picked]
    if not good.all():
        kept_numbers = good.nonzero()[:, 0].tolist()
        for new, old in enumerate(kept_numbers):  # without a second copy of them all
            images[new] = images[old]
        images, labels = images[: len(kept_numbers)], labels[good]
    _write_decoded(kept, images, labels, problems)
    return Decoded(images, labels)


def _read_decoded(path: Path) -> tuple[Tensor, Tensor, list[str]] | None:
    """What was kept of an earlier command; None if it is absent or damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            images, labels = file.get_tensor("images"), file.get_tensor("labels")
            return images, labels, json.loads(file.metadata()["problems"])
    except (OSError, SafetensorError):
        return None


def _write_decoded(path: Path, images: Tensor, labels: Tensor, problems) -> None:
    """Keep decoded images for the next command, if there is room for them."""
    try:
        with temporary_folder(writable_folder(path.parent)) as temporary:
            tensors = {"images": images.contiguous(), "labels": labels}
            about = {"problems": json.dumps(problems)}
            write_tensors(tensors, temporary / path.name, about)
            os.replace(temporary / path.name, path)
    except OSError as error:
        warnings.warn(
            f"the decoded images could not be kept for the next command ({error}); it "
            "will decode them again",
            stacklevel=2,
        )


def _good(source, picked: Tensor, problems: list[str]) -> Tensor:
    """Which images can be used, bool [n]; the others are named in a warning."""
    problems = list(problems)
    for index in (source.labels[picked] == NO_LABEL).nonzero()[:, 0].tolist():
        where = source.where(int(picked[index]))
        problems[index] = (
            problems[index] or f"{where} (it has no class of the training images)"
        )
    broken = [problem for problem in problems if problem]
    if len(broken) == len(problems):
        raise ValueError(
            f"none of the {len(problems):,} images in {source.name} could be read, the "
            f"first: {broken[0]}; give a folder with undamaged images"
        )
    if broken:
        warnings.warn(
            f"{len(broken)} of {len(problems):,} images cannot be used and were "
            f"left out (mend or remove them): {listed(broken)}",
            stacklevel=2,
        )
    return torch.tensor([not problem for problem in problems])


def _readable(data: StreamedImages, kept: Path, progress: bool) -> Tensor:
    """Which images of a stream can be used, bool [N].

    All are decoded once, so that no training stops at a damaged image. The problems are
    kept as they are found, so that a check that was stopped goes on, and the next
    command need not check again.
    """
    problems = _read_problems(kept, len(data))
    if len(problems) == len(data):
        return _good(data.source, data.numbers, problems)
    left = data.numbers[len(problems) :]
    loader = DataLoader(
        _Problems(data.source, data.sides),
        batch_sampler=[part.tolist() for part in left.split(CHECKED)],
        num_workers=data.workers,
        generator=torch.Generator(),
        collate_fn=list,
    )
    bar = progress_bar(loader, desc="checking images", unit="batch", enabled=progress)
    written = time.monotonic()
    for of_batch in bar:
        problems += of_batch
        whole = len(problems) == len(data)
        if not whole and time.monotonic() - written < SECONDS_TO_KEEP:
            continue
        written = time.monotonic()
        try:
            write_texts(writable_folder(kept.parent), {kept.name: json.dumps(problems)})
        except OSError as error:
            if whole:
                warnings.warn(
                    f"the check of the images could not be kept ({error}); the next "
                    "command will check them again",
                    stacklevel=2,
                )
    return _good(data.source, data.numbers, problems)


def _read_problems(path: Path, count: int) -> list[str]:
    """The problems that an earlier check has found, of the first images or of all."""
    try:
        problems = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    texts = isinstance(problems, list) and all(isinstance(p, str) for p in problems)
    return problems if texts and len(problems) <= count else []
