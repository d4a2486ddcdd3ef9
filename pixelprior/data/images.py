"""Images of a named data set or of a user's own, in memory as bytes if they fit.

`load_images` reads a split; `ImageData` returns batches in the form that
`VQVAE2.loss_function` takes, as `streams.StreamedImages` does for images that do
not fit. The codes of a data set are in `codes.py`.
"""

import io
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor

from pixelprior.data.image_files import covering
from pixelprior.data.shards import HubSet, Shards
from pixelprior.data.sources import Folder
from pixelprior.data.streams import StreamedImages, load_source
from pixelprior.files import temporary_folder, writable_folder
from pixelprior.memory import fits_on
from pixelprior.progress import is_interactive
from pixelprior.ranges import check_positive, sides_of

ASSETS = Path(__file__).parents[1] / "assets"  # `assets.FOLDER` is above this module
TORCHVISION = {
    "fashion_mnist": torchvision.datasets.FashionMNIST,
    "mnist": torchvision.datasets.MNIST,
    "cifar10": torchvision.datasets.CIFAR10,
    "cifar100": torchvision.datasets.CIFAR100,
}
HUB = "hub:"
SOURCES = {"imagefolder": Folder, "shards": Shards, HUB: HubSet}  # of images as files
DATASETS = ("fashion_mnist_mini", *TORCHVISION, *SOURCES)
SPLITS = ("train", "test")
FASHION_CLASSES = tuple(torchvision.datasets.FashionMNIST.classes)


@dataclass
class ImageData:
    """One split of a data set.

    Attributes:
        images: uint8 [N, C, H, W], from 0 to 255.
        labels: long [N].
        class_names: names of the labels 0, 1, …
        name, split: the data set and the split that the images come from.
    """

    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    name: str = ""
    split: str = ""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def channels(self) -> int:
        """1 for grey images, 3 for colour."""
        return self.images.shape[1]

    def __getitem__(self, index) -> tuple[Tensor, Tensor]:
        """Image [C, H, W] in [0, 1] and its label; for several indices, batches."""
        return self.images[index].float() / 255, self.labels[index]

    def batch(self, indices: Tensor) -> tuple[Tensor]:
        """The argument of `VQVAE2.loss_function`: images [B, C, H, W] in [0, 1]."""
        return (self[indices.to(self.images.device)][0],)

    def subset(self, indices: Tensor) -> "ImageData":
        """A copy of some of the images; indices are numbers or booleans."""
        images, labels = self.images[indices], self.labels[indices]
        return replace(self, images=images, labels=labels)

    def batches(self, parts) -> Iterator[tuple[Tensor]]:
        """The batch of each tensor of indices in `parts`, one after the other."""
        return map(self.batch, parts)

    def to(self, device) -> "ImageData":
        """The same data on another device, or here if there is no room for all of it:
        then batches are moved one by one."""
        if not fits_on(device, self.images.nbytes):
            return self
        images, labels = self.images.to(device), self.labels.to(device)
        return replace(self, images=images, labels=labels)


def default_root() -> Path:
    """The folder of data sets: $PIXELPRIOR_DATA, else a folder in the user's cache."""
    root = os.environ.get("PIXELPRIOR_DATA")
    return Path(root) if root else Path.home() / ".cache" / "pixelprior"


def cache_folder() -> Path:
    """Where decoded images are kept: $PIXELPRIOR_CACHE, else a folder in the cache."""
    root = os.environ.get("PIXELPRIOR_CACHE")
    return Path(root) if root else Path.home() / ".cache" / "pixelprior" / "decoded"


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
        name: one of `DATASETS`. "fashion_mnist_mini" ships with the package. The
            torchvision data sets are downloaded if they are absent. "imagefolder" is
            the folder `data_root` itself, "shards" are the tar files in it or those of
            a pattern, and "hub:NAME" is a set of the Hugging Face hub, or a folder in
            its formats; `sources.py` and `shards.py` say how each is laid out.
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
        stream: whether images that do not fit into memory may be a stream.
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
    kind = HUB if name.startswith(HUB) else name
    if kind not in DATASETS or name == HUB:
        raise ValueError(f"dataset is {name!r}; give one of {', '.join(DATASETS)}NAME")
    if kind in SOURCES:
        source = _source(name, split, data_root)
        if kind == "imagefolder":
            name = f"{name} {source.root.name}".strip()
        loaded = load_source(
            source,
            _picked(len(source), max_images),
            sides,
            name=name,
            split=split,
            cache=cache_folder(),
            workers=workers,
            stream=stream,
            progress=progress,
        )
        if isinstance(loaded, StreamedImages):
            return loaded
        return ImageData(*loaded, source.class_names, name, split)
    if name == "fashion_mnist_mini":
        data = _load_mini(split)
    else:
        root = Path(data_root) if data_root is not None else default_root()
        data = _load_torchvision(name, split, root)
    data = data.subset(_picked(len(data), max_images))
    if data.images.shape[-1] == 28 and min(sides) >= 32:
        data.images = F.pad(data.images, (2, 2, 2, 2))
    return replace(data, images=covering(data.images, sides))


def _picked(count: int, max_images: int | None) -> Tensor:
    """The numbers of the images to load, of `count`."""
    if max_images is None or max_images >= count:
        return torch.arange(count)
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))[
        :max_images
    ]


def _source(name: str, split: str, data_root):
    """The source of a set of images as files, as in `sources.py`."""
    if name.startswith(HUB):
        return HubSet(name.removeprefix(HUB), split, data_root)
    if data_root is None:
        raise ValueError(f"{name} needs --data_root, the folder of your images")
    return SOURCES[name](Path(data_root), split)


def data_signature(name: str, split: str, data_root) -> str:
    """A text that identifies the state of a split, made without reading its images."""
    if name in SOURCES or name.startswith(HUB):
        return f"{name} {split} {_source(name, split, data_root).signature()}"
    return f"{name} {split}"


def _load_mini(split: str) -> ImageData:
    path = ASSETS / "fashion_mnist_mini.npz"
    with np.load(path, allow_pickle=False) as arrays:
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
    return ImageData(
        torch.from_numpy(images)[:, None],
        torch.from_numpy(labels).long(),
        FASHION_CLASSES,
        "fashion_mnist_mini",
        split,
    )


def _load_torchvision(name: str, split: str, root: Path) -> ImageData:
    dataset_class, train = TORCHVISION[name], split == "train"
    try:
        try:
            dataset = dataset_class(root, train=train)
        except RuntimeError:  # torchvision raises it for absent or incomplete files
            _download(name, root)
            dataset = dataset_class(root, train=train)
    except FileNotFoundError:
        raise
    except (RuntimeError, ValueError, OSError, EOFError, AssertionError) as error:
        raise ValueError(
            f"the files of {name} in {root} cannot be read ({type(error).__name__}: "
            f"{error}); delete them and download them again"
        ) from error
    images = torch.as_tensor(dataset.data)
    images = images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2)
    labels = torch.as_tensor(dataset.targets).long()
    return ImageData(images.contiguous(), labels, tuple(dataset.classes), name, split)


def _download(name: str, root: Path) -> None:
    """Download a torchvision data set into `root`, completely or not at all."""
    dataset_class = TORCHVISION[name]
    writable_folder(root)
    with temporary_folder(root) as temporary:
        try:
            with (
                _time_limit_on_connections(20),
                redirect_stdout(io.StringIO()),
                redirect_stderr(sys.stderr if is_interactive() else io.StringIO()),
            ):
                dataset_class(temporary, download=True)
        except (OSError, RuntimeError) as error:
            where = root / (
                f"{dataset_class.__name__}/raw"
                if "mnist" in name
                else dataset_class.base_folder
            )
            debian = (
                ", or on Debian `apt-get install dataset-fashion-mnist` and unpack "
                "/usr/share/datasets/fashion-mnist/*.gz there"
                if name == "fashion_mnist"
                else ""
            )
            raise FileNotFoundError(
                f"data set {name} is not (or not whole) in {where}, and cannot be "
                f"downloaded ({type(error).__name__}: no network?); copy its files "
                f"there from a machine that has them{debian}, name another folder with "
                "--data_root, or use --dataset fashion_mnist_mini, which needs no files"
            ) from error
        for path in filter(Path.is_file, temporary.rglob("*")):
            target = root / path.relative_to(temporary)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, target)


@contextmanager
def _time_limit_on_connections(seconds: float):
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
