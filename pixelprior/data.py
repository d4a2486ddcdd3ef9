"""Images of a named data set or of a user's own folder, held in memory as bytes.

`load_images` reads a split; `ImageData` returns batches in the form that
`VQVAE2.loss_function` takes. The codes of a data set are in `codes.py`.
"""

import hashlib
import io
import os
import socket
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from pixelprior.files import (
    temporary_folder,
    writable_folder,
)
from pixelprior.image_files import read_image
from pixelprior.progress import is_interactive, progress_bar
from pixelprior.ranges import check_positive

ASSETS = Path(__file__).parent / "assets"
TORCHVISION = {
    "fashion_mnist": torchvision.datasets.FashionMNIST,
    "mnist": torchvision.datasets.MNIST,
    "cifar10": torchvision.datasets.CIFAR10,
    "cifar100": torchvision.datasets.CIFAR100,
}
DATASETS = ("fashion_mnist_mini", *TORCHVISION, "imagefolder")
SPLITS = ("train", "test")
IMAGE_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff"}
IMAGE_SUFFIXES |= {".webp"}
FASHION_CLASSES = tuple(torchvision.datasets.FashionMNIST.classes)


@dataclass
class ImageData:
    """One split of a data set.

    Attributes:
        images: uint8 [N, C, S, S], from 0 to 255.
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

    def __getitem__(self, index) -> tuple[Tensor, Tensor]:
        """Image [C, S, S] in [0, 1] and its label; for several indices, batches."""
        return self.images[index].float() / 255, self.labels[index]

    def batch(self, indices: Tensor) -> tuple[Tensor]:
        """The argument of `VQVAE2.loss_function`: images [B, C, S, S] in [0, 1]."""
        return (self[indices][0],)

    def to(self, device) -> "ImageData":
        """The same data on another device."""
        images, labels = self.images.to(device), self.labels.to(device)
        return replace(self, images=images, labels=labels)


def as_bytes(images: Tensor) -> Tensor:
    """Convert images in [0, 1], of any shape, to uint8 from 0 to 255, on the CPU.

    All images that are measured, written to a file or drawn are rounded here, so that a
    picture shows exactly what was measured. Values outside [0, 1] are clipped.
    """
    pixels = images.detach().float().clamp(0, 1)
    return (pixels * 255).round().byte().cpu()


def default_root() -> Path:
    """The folder of data sets: $PIXELPRIOR_DATA, else a folder in the user's cache."""
    root = os.environ.get("PIXELPRIOR_DATA")
    return Path(root) if root else Path.home() / ".cache" / "pixelprior"


def load_images(
    name: str,
    split: str = "train",
    *,
    data_root=None,
    image_size: int = 32,
    progress: bool = False,
) -> ImageData:
    """Load one split of a data set into memory.

    Args:
        name: one of `DATASETS`. "fashion_mnist_mini" ships with the package. The
            torchvision data sets are downloaded if they are absent. "imagefolder" is
            the folder `data_root` itself: its folders `train` and `test` (or `val`) are
            the splits if it has them; else every tenth image is in the test split. The
            folders below are the classes.
        split: "train" or "test".
        data_root: folder of the data; None stands for `default_root()`.
        image_size: height and width in pixels. 28×28 images are padded to 32×32; all
            others are resized on the shorter side and cropped in the centre.
        progress: show a progress bar while a folder is read.

    Raises:
        ValueError: an argument is out of its range, or no image could be read.
        FileNotFoundError: the data is absent and cannot be downloaded.
    """
    check_positive(image_size=image_size)
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}; give 'train' or 'test'")
    if name not in DATASETS:
        raise ValueError(f"dataset is {name!r}; give one of {', '.join(DATASETS)}")
    root = Path(data_root) if data_root is not None else default_root()
    if name == "imagefolder":
        if data_root is None:
            raise ValueError("imagefolder needs --data_root, the folder of your images")
        data = _load_folder(root, split, image_size, progress)
    elif name == "fashion_mnist_mini":
        data = _load_mini(split)
    else:
        data = _load_torchvision(name, split, root)
    if data.images.shape[-1] == 28 and image_size >= 32:
        data.images = F.pad(data.images, (2, 2, 2, 2))
    if data.images.shape[-1] != image_size:
        data.images = TF.resize(data.images, [image_size, image_size], antialias=True)
    return data


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


def _images_below(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def _folder_files(root: Path, split: str) -> tuple[list[Path], Path, list[str]]:
    """The image files of a split, the folder that holds them, and the class names."""
    if not root.is_dir():
        raise FileNotFoundError(
            f"there is no folder {root}; give the folder of your images as --data_root"
        )
    train = root / "train" if (root / "train").is_dir() else root
    held_out = (root / name for name in ("test", "val", "valid", "validation"))
    test = None if train == root else next(filter(Path.is_dir, held_out), None)
    files = _images_below(train)
    if not files:
        raise ValueError(
            f"there are no images in {train}; give a folder with "
            f"{', '.join(sorted(IMAGE_SUFFIXES))} files, in one folder per class"
        )
    relative = [path.relative_to(train).parts for path in files]
    class_names = sorted({parts[0] for parts in relative if len(parts) > 1})
    if test is not None:
        if split == "test":
            files = _images_below(test)
            if not files:
                raise ValueError(f"there are no images in {test}; put some there")
        return files, test if split == "test" else train, class_names or ["images"]
    if len(files) < 10:
        raise ValueError(
            f"{len(files)} images in {train} are too few to hold out every tenth; "
            "give at least 10, or a train and a test folder"
        )
    files = [f for i, f in enumerate(files) if (i % 10 == 9) == (split == "test")]
    return files, train, class_names or ["images"]


def data_signature(name: str, split: str, data_root) -> str:
    """A text that identifies the state of a split, made without reading its images."""
    if name != "imagefolder":
        return f"{name} {split}"
    files, folder, _ = _folder_files(Path(data_root), split)
    listing = hashlib.sha256()
    for path in files:
        about = path.stat()
        listing.update(os.fsencode(path.relative_to(folder)))
        listing.update(f" {about.st_size} {about.st_mtime_ns}\n".encode())
    return f"{name} {split} {listing.hexdigest()}"


def _load_folder(root: Path, split: str, image_size: int, progress: bool) -> ImageData:
    files, folder, class_names = _folder_files(root, split)
    needed = len(files) * 3 * image_size**2
    free = psutil.virtual_memory().available
    if needed > free:
        raise ValueError(
            f"{len(files):,} images of {image_size}×{image_size} need "
            f"{needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free; choose a "
            "smaller --image_size or fewer images"
        )
    images = torch.empty(len(files), 3, image_size, image_size, dtype=torch.uint8)
    labels = torch.zeros(len(files), dtype=torch.long)

    def read(index: int) -> str | None:
        path = files[index]
        try:
            images[index] = read_image(path, image_size)
        except MemoryError:
            raise
        except Exception as error:  # decoders raise errors of many types
            return f"{path.relative_to(root)} ({error})"
        class_name = path.relative_to(folder).parts[0]
        if class_name in class_names:
            labels[index] = class_names.index(class_name)
        elif len(class_names) > 1:
            return f"{path.relative_to(root)} (no class of the training images)"
        return None

    with ThreadPoolExecutor() as pool:
        results = progress_bar(
            pool.map(read, range(len(files))),
            total=len(files),
            desc=f"reading {folder.name}",
            unit="image",
            enabled=progress,
        )
        problems = list(results)
    kept = torch.tensor([problem is None for problem in problems])
    broken = [problem for problem in problems if problem is not None]
    if len(broken) == len(files):
        raise ValueError(
            f"none of the {len(files):,} images in {folder} could be read, the first: "
            f"{broken[0]}; give a folder with undamaged images"
        )
    if broken:
        named = "; ".join(broken[:5]) + ("; …" if len(broken) > 5 else "")
        warnings.warn(
            f"{len(broken)} of {len(files):,} images could not be read and were left "
            f"out: {named}",
            stacklevel=3,
        )
        images, labels = images[kept], labels[kept]
    return ImageData(images, labels, tuple(class_names), "imagefolder", split)
