"""Images of a named data set or of a user's own: in memory as bytes, or as a stream.

What does not fit into memory is decoded batch by batch by the workers of a
`DataLoader`. Where a user's own images lie is in `sources.py`, codes in `codes.py`.
"""

import contextlib
import math
import os
import socket
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import psutil
import torch
import torch.nn.functional as F
import torchvision
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import functional as TF

from pixelprior.data.sources import HUB, NO_LABEL, SOURCES, listed, source_of
from pixelprior.progress import progress_bar
from pixelprior.settings import check_positive, sides_of

ASSETS = Path(__file__).parents[1] / "assets"  # `assets.FOLDER` is above this module
TORCHVISION = {
    "fashion_mnist": torchvision.datasets.FashionMNIST,
    "mnist": torchvision.datasets.MNIST,
    "cifar10": torchvision.datasets.CIFAR10,
    "cifar100": torchvision.datasets.CIFAR100,
}
EMBEDDED = ("fashion_mnist_mini", "emoji")  # that ship with the package
DATASETS = (*EMBEDDED, *TORCHVISION, *SOURCES)
SPLITS = ("train", "test")
FASHION_CLASSES = tuple(torchvision.datasets.FashionMNIST.classes)
SHARE_OF_MEMORY = 0.5  # of what is free, for images in memory
CONTAINER = Path("/sys/fs/cgroup/memory.max")  # its limit in bytes, or the word max
# A small file may hold more pixels than memory. Pillow warns beyond this number too.
MOST_PIXELS = 2**30 // 12
MOST_BYTES = 2**28  # of a file; some decoders read all of it before they refuse it
# Pillow would hand a file that is PostScript, whatever its name, to another program.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")


def free_memory() -> int:
    """Bytes that are free on this machine, at most the limit of its container."""
    free = psutil.virtual_memory().available
    with contextlib.suppress(OSError, ValueError):
        free = min(free, int(CONTAINER.read_text()))
    return free


def fits_on(device, size: int) -> bool:
    """Whether data of `size` bytes may be moved to a device: to a GPU, if they take a
    quarter of what is free, since most is needed to train."""
    on_gpu = torch.device(device).type == "cuda"
    return not on_gpu or size <= torch.cuda.mem_get_info(device)[0] // 4


def read_image(stream: BinaryIO, sides: tuple[int, int]) -> Tensor:
    """Read an encoded image as uint8 [3, H, W], upright, and cropped to (H, W)."""
    if (size := stream.seek(0, os.SEEK_END)) > MOST_BYTES:
        raise ValueError(
            f"a file of {size:,} bytes, more than {MOST_BYTES:,}: compress or shrink it"
        )
    stream.seek(0)
    # Given a path, Pillow 13 scrambles a grey TIFF that is turned by 90 degrees.
    with Image.open(stream, formats=FORMATS) as file:
        if file.width * file.height > MOST_PIXELS:
            raise ValueError(
                f"{file.width}×{file.height} pixels, more than {MOST_PIXELS:,}: shrink "
                "it, or cut it into several"
            )
        # Older releases of Pillow open the 16 bits of these formats as mode I.
        has_16_bits = file.mode.startswith("I;16") or (
            file.mode == "I" and file.format in ("PNG", "PPM")
        )
        if file.mode in ("I", "F") and not has_16_bits:
            raise ValueError(f"pixels of mode {file.mode}: save it with 8 or 16 bits")
        upright = _upright(file)
        if has_16_bits:  # Pillow would clip all values above 255
            upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
        image = TF.pil_to_tensor(upright.convert("RGB"))  # [3, H, W] uint8
    return covering(image, sides)


def _upright(image: Image.Image) -> Image.Image:
    image.load()  # a damaged file raises an error here; a TIFF is turned here
    if image.format == "TIFF":
        return image
    try:
        image.getexif()
        image.info.pop("exif", None)  # else Pillow writes it again, which may fail
        return ImageOps.exif_transpose(image)
    except Exception:  # the pixels could be read, so that the EXIF data is damaged
        return image


def covering(images: Tensor, sides: tuple[int, int]) -> Tensor:
    """Images [..., h, w], scaled until they just cover (H, W), and cropped to it."""
    (height, width), (h, w) = sides, images.shape[-2:]
    if h * width < w * height:  # wider than what is wanted
        scaled = (height, int(w * height / h))
    else:
        scaled = (int(h * width / w), width)
    if math.prod(scaled) > max(MOST_PIXELS, 4 * height * width):  # next to a line
        raise ValueError(
            f"{w}×{h} pixels, which cover {width}×{height} only if they are scaled to "
            f"{scaled[1]:,}×{scaled[0]:,}, more than {MOST_PIXELS:,}: cut it"
        )
    if scaled != (h, w):
        images = TF.resize(images, list(scaled), antialias=True)
    return TF.center_crop(images, list(sides))


def with_channels(images: Tensor, channels: int) -> Tensor:
    """Images uint8 [..., 3, H, W] for a model of so many channels; grey as in ITU-R
    BT.601, as Pillow does."""
    if channels == 3:
        return images
    if channels != 1:
        raise ValueError(
            f"the model takes images of {channels} channels, but files have 1 or 3; "
            "give a model that was trained on such images"
        )
    red, green, blue = images.float().unbind(-3)
    grey = 0.299 * red + 0.587 * green + 0.114 * blue
    return grey.round().byte().unsqueeze(-3)


@dataclass
class ImageData:
    """One split of a data set.

    Attributes:
        images: uint8 [N, C, H, W].
        labels: long [N].
        class_names: names of the labels 0, 1, …
        name, split: where the images come from.
    """

    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    name: str = ""
    split: str = ""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def channels(self) -> int:
        return self.images.shape[1]

    def __getitem__(self, index) -> tuple[Tensor, Tensor]:
        """Image [C, H, W] in [0, 1] and its label; for several indices, batches."""
        return self.images[index].float() / 255, self.labels[index]

    def batch(self, indices: Tensor) -> tuple[Tensor]:
        """The argument of `VQVAE2.loss_function`: images [B, C, H, W] in [0, 1]."""
        return (self[indices.to(self.images.device)][0],)

    def batches(self, parts) -> Iterator[tuple[Tensor]]:
        """The batch of each tensor of indices in `parts`, one after the other."""
        return map(self.batch, parts)

    def subset(self, indices: Tensor) -> "ImageData":
        """A copy of some of the images; indices are numbers or booleans."""
        return replace(self, images=self.images[indices], labels=self.labels[indices])

    def to(self, device) -> "ImageData":
        """The same data on another device, or here if there is no room for all of it:
        then batches are moved one by one."""
        if not fits_on(device, self.images.nbytes):
            return self
        images, labels = self.images.to(device), self.labels.to(device)
        return replace(self, images=images, labels=labels)


class Images:
    """The images of a source by number, uint8 [3, H, W], each with its problem or "";
    a loader takes whole batches, [B, 3, H, W], with their first problem or ""."""

    def __init__(self, source, sides: tuple[int, int]):
        self.source, self.sides = source, sides

    def __getitem__(self, number: int) -> tuple[Tensor, str]:
        try:
            if self.source.labels[number] == NO_LABEL:
                raise ValueError("it has no class of the training images")
            with self.source.open(number) as stream:
                return read_image(stream, self.sides), ""
        except MemoryError:
            raise
        except Exception as error:  # decoders raise errors of many types
            nothing = torch.zeros(3, *self.sides, dtype=torch.uint8)
            return nothing, f"{self.source.where(number)} ({error})"

    def __getitems__(self, numbers: list[int]) -> tuple[Tensor, str]:
        images, problems = zip(*map(self.__getitem__, numbers), strict=True)
        return torch.stack(images), next(filter(None, problems), "")


@dataclass
class StreamedImages(ImageData):
    """One split of a data set that does not fit into memory.

    Batches are decoded by `workers` processes ahead of time; 0 decodes in this one.
    `numbers`, long [N], are those of the images to read.
    """

    images: Images
    numbers: Tensor | None = None
    workers: int = 2

    channels = 3

    def batch(self, indices: Tensor) -> tuple[Tensor]:
        return next(replace(self, workers=0).batches([indices]))

    def batches(self, parts) -> Iterator[tuple[Tensor]]:
        loader = DataLoader(
            self.images,
            batch_sampler=[self.numbers[part.cpu()].tolist() for part in parts],
            num_workers=self.workers,
            collate_fn=tuple,
            worker_init_fn=_give_way,
            generator=torch.Generator(),  # the global one is the training's
        )
        for images, problem in loader:
            if problem:
                raise ValueError(
                    f"the image {problem} cannot be read any more; put it back as it "
                    "was, and go on with --resume"
                )
            yield (images.float() / 255,)

    def subset(self, indices: Tensor) -> "StreamedImages":
        return replace(self, numbers=self.numbers[indices], labels=self.labels[indices])

    def to(self, device) -> "StreamedImages":
        return self  # batches go to the device one by one


def _give_way(_worker: int) -> None:
    """Let a process decode where the training leaves a core idle: it decodes ahead of
    time, while each thread of a training step waits for all others."""
    if hasattr(os, "nice"):
        os.nice(10)  # of 19


def read_all(images: Images, numbers: Tensor, *, keep: bool = True, progress=False):
    """Decode images into (pixels, numbers): uint8 [n, 3, H, W] if they are to be kept,
    and long [n]. Those that cannot be read are named in a warning and left out."""
    # Filled from the front, since a second copy of them all might not fit.
    pixels = torch.empty(len(numbers) * keep, 3, *images.sides, dtype=torch.uint8)
    good, problems, source = [], [], images.source
    parts = numbers.split(256)  # that wait for a thread at the same time
    about = {"desc": f"reading {source.name}", "unit": "batch", "enabled": progress}
    with ThreadPoolExecutor() as pool:
        for part in progress_bar(parts, **about):
            read = pool.map(images.__getitem__, part.tolist())
            for number, (image, problem) in zip(part.tolist(), read, strict=True):
                if problem:
                    problems.append(problem)
                    continue
                if keep:
                    pixels[len(good)] = image
                good.append(number)
    if not good:
        raise ValueError(
            f"none of the {len(numbers):,} images in {source.name} could be read, the "
            f"first: {problems[0]}; give a folder with undamaged images"
        )
    if problems:
        warnings.warn(
            f"{len(problems)} of {len(numbers):,} images cannot be used and were left "
            f"out (repair or remove them): {listed(problems)}",
            stacklevel=2,
        )
    return pixels[: len(good)], torch.tensor(good)


def default_root() -> Path:
    """The folder of data sets: $PIXELPRIOR_DATA, else a folder in the user's cache."""
    root = os.environ.get("PIXELPRIOR_DATA")
    return Path(root) if root else Path.home() / ".cache" / "pixelprior"


def load_images(
    name: str,
    split: str = "train",
    *,
    data_root=None,
    image_size: int | tuple[int, int] | str = 32,
    max_images: int | None = None,
    workers: int | None = None,
    stream: bool = True,
    progress: bool = False,
) -> ImageData | StreamedImages:
    """Load one split of a data set into memory, or as a stream if it does not fit.

    Args:
        name: one of `DATASETS`. Those of `EMBEDDED` ship with the package. The
            torchvision data sets are downloaded if they are absent. "imagefolder" is
            the folder `data_root` itself, "shards" are the tar files in it or those of
            a pattern, and "hub:NAME" is a set of the Hugging Face hub, or a folder in
            its formats: `Folder`, `_samples` and `Rows` say how each is laid out.
        split: "train" or "test".
        data_root: folder of the data; None stands for `default_root()`. A set of the
            hub is kept there, or with None in the cache of `datasets`.
        image_size: height and width in pixels: one number for both, (height, width),
            or a text such as "64x96". 28×28 images are padded to 32×32; all others are
            scaled until they cover the size, and cropped in the centre.
        max_images: load this many images, picked at random, the same ones each time;
            None loads all.
        workers: number of processes that decode a stream; None takes as many as there
            are cores, up to 8.
        stream: whether images that take more than SHARE_OF_MEMORY of the free memory
            may be a stream. It reads each image once here, to find damaged ones.
        progress: show a progress bar while images are decoded.

    Raises:
        ValueError: an argument is out of its range, or no image could be read.
        FileNotFoundError: the data is absent and cannot be downloaded.
    """
    sides = sides_of(image_size)
    if max_images is not None:
        check_positive(max_images=max_images)
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}; give 'train' or 'test'")
    if name == HUB or (name not in DATASETS and not name.startswith(HUB)):
        raise ValueError(f"dataset is {name!r}; give one of {', '.join(DATASETS)}NAME")
    if name in SOURCES or name.startswith(HUB):
        source = source_of(name, split, data_root)
        if name == "imagefolder":
            name = f"{name} {source.root.name}".strip()
        picked = _picked(len(source), max_images)
        needed = len(picked) * 3 * math.prod(sides)
        here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # each would hold them all
        fits = here * needed <= SHARE_OF_MEMORY * free_memory()
        if not fits and not stream:
            raise ValueError(
                f"{len(picked):,} images of {name} take {needed / 2**30:.1f} GiB, and "
                "here they are needed in memory, where they do not fit; give fewer "
                "with --max_images"
            )
        images = Images(source, sides)
        pixels, good = read_all(images, picked, keep=fits, progress=progress)
        about = source.labels[good], source.class_names, name, split
        if fits:
            return ImageData(pixels, *about)
        if workers is None:
            workers = max(1, min(8, (os.cpu_count() or 1) // here))
        return StreamedImages(images, *about, numbers=good, workers=workers)
    if name in EMBEDDED:
        with np.load(ASSETS / f"{name}.npz", allow_pickle=False) as arrays:
            images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
            classes = tuple(map(str, arrays.get("class_names", FASHION_CLASSES)))
        images, labels = torch.from_numpy(images), torch.from_numpy(labels).long()
        # Grey images are kept as [N, S, S], and colour as [N, S, S, 3].
        images = images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2)
        data = ImageData(images.contiguous(), labels, classes, name, split)
    else:
        root = Path(data_root) if data_root is not None else default_root()
        data = _load_torchvision(name, split, root)
    data = data.subset(_picked(len(data), max_images))
    if data.images.shape[-1] == 28 and min(sides) >= 32:
        data.images = F.pad(data.images, (2, 2, 2, 2))
    return replace(data, images=covering(data.images, sides))


def _picked(count: int, max_images: int | None) -> Tensor:
    if max_images is None or max_images >= count:
        return torch.arange(count)
    generator = torch.Generator().manual_seed(0)
    return torch.randperm(count, generator=generator)[:max_images]


def data_signature(name: str, split: str, data_root) -> str:
    """A text that identifies the state of a split, made without reading its images."""
    if name in SOURCES or name.startswith(HUB):
        return f"{name} {split} {source_of(name, split, data_root).signature()}"
    return f"{name} {split}"


def _load_torchvision(name: str, split: str, root: Path) -> ImageData:
    kind = TORCHVISION[name]
    where = root / getattr(kind, "base_folder", f"{kind.__name__}/raw")
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(20)  # seconds without an answer
    try:
        data = kind(root, train=split == "train", download=True)
    except Exception as error:  # of absent and of damaged files, and of no network
        raise FileNotFoundError(
            f"data set {name} is absent or damaged in {where}, and cannot be "
            f"downloaded ({type(error).__name__}: {error}); remove what is there and "
            "copy its files there from a machine that has them (Debian has "
            "dataset-fashion-mnist), name another folder with --data_root, or use "
            "--dataset fashion_mnist_mini, which needs no files"
        ) from error
    finally:
        socket.setdefaulttimeout(before)
    images = torch.as_tensor(data.data)
    images = images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2)
    labels = torch.as_tensor(data.targets).long()
    return ImageData(images.contiguous(), labels, tuple(data.classes), name, split)
