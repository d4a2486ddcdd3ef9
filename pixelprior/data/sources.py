"""Where the images of a user's own set lie: in a folder, with one folder per class.

A source lists what there is without decoding an image. `open` gives the encoded image
of a number, in any order and in any process, so that a training can go through the
images in its own order, and go on within it. `shards.py` has the other sources,
and `streams.py` decodes the images.
"""

import hashlib
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

IMAGE_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff"}
IMAGE_SUFFIXES |= {".webp"}
HELD_OUT_NAMES = ("test", "val", "valid", "validation")
NO_LABEL = -1
NAMED = 20  # images that cannot be read, in a warning


def listed(problems: list[str]) -> str:
    """Problems in one line of a warning, the first `NAMED` of them."""
    more = f"; and {len(problems) - NAMED} more" if len(problems) > NAMED else ""
    return "; ".join(problems[:NAMED]) + more


class Texts:
    """Many texts in two arrays.

    Lists of a million names would be copied by each process that decodes images: Python
    writes to an object to count who uses it.
    """

    def __init__(self, texts):
        encoded = [os.fsencode(text) for text in texts]
        self.ends = np.cumsum([len(each) for each in encoded], dtype=np.int64)
        self.bytes = np.frombuffer(b"".join(encoded), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> str:
        start = self.ends[index - 1] if index else 0
        return os.fsdecode(self.bytes[start : self.ends[index]].tobytes())


class Folder:
    """The image files of one split of a folder with one folder per class.

    Its folders `train` and `test` (or `val`) are the splits if it has them; else every
    tenth image is in the test split.

    Attributes:
        labels: long [N]; NO_LABEL for an image of none of the classes.
        class_names: names of the labels, one per class of the training images.
        name: of the folder that was read.
    """

    def __init__(self, root: Path, split: str):
        files, folder, class_names = _folder_files(root, split)
        self.root, self.folder, self.name = root, folder, folder.name
        self.class_names = tuple(class_names)
        numbers = {name: label for label, name in enumerate(class_names)}
        alone = 0 if len(class_names) == 1 else NO_LABEL
        firsts = (path.relative_to(folder).parts[0] for path in files)
        self.labels = torch.tensor([numbers.get(first, alone) for first in firsts])
        self.files = Texts(path.relative_to(folder) for path in files)

    def __len__(self) -> int:
        return len(self.files)

    def open(self, index: int) -> BinaryIO:
        """The encoded image of a number."""
        return (self.folder / self.files[index]).open("rb")

    def where(self, index: int) -> str:
        """The file of an image, for errors."""
        return str((self.folder / self.files[index]).relative_to(self.root))

    def signature(self) -> str:
        """A text that changes when a file does; no file is read for it."""
        listing = hashlib.sha256(repr((str(self.folder), self.class_names)).encode())
        for index in range(len(self)):
            about = (self.folder / self.files[index]).stat()
            listing.update(os.fsencode(self.files[index]))
            listing.update(f" {about.st_size} {about.st_mtime_ns}\n".encode())
        return listing.hexdigest()


class AllFiles(Folder):
    """All image files below a folder, sorted by their paths, without classes or splits.

    Raises:
        FileNotFoundError: there is no such folder. ValueError: there are no images.
    """

    def __init__(self, root: Path):
        if not root.is_dir():
            raise FileNotFoundError(f"there is no folder {root}; give one with images")
        files = _images_below(root)
        if not files:
            raise ValueError(
                f"there are no images in {root}; give a folder with "
                f"{', '.join(sorted(IMAGE_SUFFIXES))} files"
            )
        self.root = self.folder = root
        self.name, self.class_names = root.resolve().name, ("images",)
        self.labels = torch.zeros(len(files), dtype=torch.int64)
        self.files = Texts(path.relative_to(root) for path in files)


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
    held_out = (root / name for name in HELD_OUT_NAMES)
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
    return every_tenth(files, split, train), train, class_names or ["images"]


def every_tenth(items: list, split: str, where) -> list:
    """Every tenth item for the test split, and the others for training."""
    if len(items) < 10:
        raise ValueError(
            f"{len(items)} images in {where} are too few to hold out every tenth; "
            "give at least 10, or a train and a test folder"
        )
    return [item for i, item in enumerate(items) if (i % 10 == 9) == (split == "test")]
