"""Where the images of a user's own set lie: in a folder, in tar shards, on the hub.

A source lists what there is without decoding an image: `open` gives the encoded image
of a number, in any order and in any process, `where` names it in errors, `labels` (long
[N]) are the numbers of `class_names`, and `signature` changes when the images do.
Shards and sets of the hub are mapped from disk by the library `datasets`.
"""

import hashlib
import io
import os
import re
from collections import defaultdict
from glob import escape, glob
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from pixelprior.progress import is_interactive

HUB = "hub:"
SOURCES = ("imagefolder", "shards", HUB)
HELD_OUT_NAMES = ("test", "val", "valid", "validation")
IMAGE_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff"}
IMAGE_SUFFIXES |= {".webp"}
# Of a set that marks no classes as such; .cls files are those of shards.
CLASS_COLUMNS = ("label", "labels", "class", "cls")
NO_LABEL = -1  # of an image that is in none of the classes of the training images


def source_of(name: str, split: str, data_root):
    if data_root is None and not name.startswith(HUB):
        raise ValueError(f"{name} needs --data_root, the folder of your images")
    if name == "imagefolder":
        return Folder(Path(data_root), split)
    set_name = str(data_root) if name == "shards" else name.removeprefix(HUB)
    return Rows(_splits_of(name, set_name, data_root), set_name, split)


def listed(problems: list[str], named: int = 20) -> str:
    more = f"; and {len(problems) - named} more" if len(problems) > named else ""
    return "; ".join(problems[:named]) + more


def every_tenth(count: int, split: str, where) -> np.ndarray:
    """The numbers of every tenth image for the test split, else of the others."""
    if count < 10:
        raise ValueError(
            f"{count} images in {where} are too few to hold out every tenth; give at "
            "least 10, or a train and a test folder"
        )
    numbers = np.arange(count)
    return numbers[(numbers % 10 == 9) == (split == "test")]


class AllFiles:
    """All image files below a folder, sorted by their paths, without classes or splits.

    Their names are in an array, since each process that decodes images would copy a
    list: Python writes to an object to count who uses it.
    """

    class_names: tuple[str, ...] = ("images",)

    def __init__(self, root: Path):
        if not root.is_dir():
            raise FileNotFoundError(f"there is no folder {root}; give one with images")
        self.root = self.folder = root
        self.name = root.resolve().name
        paths = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
        paths = (path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES)
        files = [path for path in paths if not re.search(r"(^|/)\.", path.as_posix())]
        if not files:
            raise ValueError(
                f"there are no images in {root}; give a folder with "
                f"{', '.join(sorted(IMAGE_SUFFIXES))} files"
            )
        self.files = np.array([str(path) for path in sorted(files)])
        self.labels = torch.zeros(len(files), dtype=torch.long)

    def __len__(self) -> int:
        return len(self.files)

    def open(self, number: int) -> BinaryIO:
        return (self.folder / self.files[number]).open("rb")

    def where(self, number: int) -> str:
        return str((self.folder / self.files[number]).relative_to(self.root))

    def signature(self) -> str:
        listing = hashlib.sha256(os.fsencode(f"{self.folder} {self.class_names}"))
        for file in self.files:
            about = (self.folder / file).stat()
            line = f"{file} {about.st_size} {about.st_mtime_ns}\n"
            listing.update(os.fsencode(line))
        return listing.hexdigest()


class Folder(AllFiles):
    """The image files of one split of a folder with one folder per class.

    Its folders `train` and `test` (or `val`) are the splits if it has them; else every
    tenth image is in the test split. Unlike for torchvision's `ImageFolder`, a folder
    may be flat, hidden folders are no classes, and files of no class are named.
    """

    def __init__(self, root: Path, split: str):
        train = root / "train" if (root / "train").is_dir() else root
        super().__init__(train)
        held_out = [root / name for name in HELD_OUT_NAMES if (root / name).is_dir()]
        parts = [Path(file).parts for file in self.files]
        classes = sorted({each[0] for each in parts if len(each) > 1}) or ["images"]
        if train == root or not held_out:
            self.files = self.files[every_tenth(len(self), split, train)]
        elif split == "test":
            super().__init__(held_out[0])
        self.root, self.class_names = root, tuple(classes)
        numbers = {name: number for number, name in enumerate(classes)}
        other = 0 if len(classes) == 1 else NO_LABEL
        firsts = (Path(file).parts[0] for file in self.files)
        self.labels = torch.tensor([numbers.get(first, other) for first in firsts])


class Rows:
    """One split of a set that the library `datasets` maps from disk.

    The first column of images is read, and the first column of classes; if no column is
    marked as classes, the column of numbers or names that is called label, labels,
    class or cls. Without a test split (or a validation split) every tenth image is in
    it.
    """

    def __init__(self, found, set_name: str, split: str):
        features = found["train"].features if "train" in found else {}
        kinds = {name: type(kind).__name__ for name, kind in features.items()}
        images = [name for name, kind in kinds.items() if kind == "Image"]
        if not images or not len(found["train"]):
            raise ValueError(
                f"the set {set_name!r} has {', '.join([*found, *kinds])}, but no "
                "images in a split train; give a set of training images"
            )
        column = _column_of_classes(features)
        names = getattr(features[column], "names", None) if column else None
        labels = {each: _labels(rows, column, names) for each, rows in found.items()}
        self.name = "train"
        splits = [each for each in HELD_OUT_NAMES if each in found]
        if splits and split == "test":
            # The classes of a test split are often withheld: then the next is taken.
            known = [s for s in splits if any(labels[s]) or not any(labels["train"])]
            if not known:
                raise ValueError(
                    f"the classes of {', '.join(splits)} in {set_name!r} are withheld; "
                    "give a set whose held-out images have classes"
                )
            self.name = known[0]
        self.set_name, self.column = set_name, images[0]
        self.numbers = np.arange(len(found[self.name]))  # of the rows in the set
        if not splits:
            self.numbers = every_tenth(len(self.numbers), split, set_name)
        self.class_names = tuple(names or _names_of({*labels["train"]} - {None}))
        number_of = {name: number for number, name in enumerate(self.class_names)}
        other = NO_LABEL if any(labels["train"]) else 0
        chosen = [labels[self.name][number] for number in self.numbers]
        self.labels = torch.tensor([number_of.get(each, other) for each in chosen])
        self.fingerprint = found[self.name]._fingerprint
        as_files = type(features[self.column])(decode=False)
        rows = found[self.name].select_columns(images[:1])
        self.rows = rows.cast_column(self.column, as_files)

    def __len__(self) -> int:
        return len(self.numbers)

    def image(self, number: int) -> dict:
        image = self.rows[int(self.numbers[number])][self.column]
        return image or {"bytes": None, "path": ""}

    def open(self, number: int) -> BinaryIO:
        image = self.image(number)
        held = image["bytes"] is not None
        return io.BytesIO(image["bytes"]) if held else open(image["path"], "rb")

    def where(self, number: int) -> str:
        row = f"row {self.numbers[number]} of {self.name} in {self.set_name}"
        return f"{row} ({self.image(number)['path'] or 'without a name'})"

    def signature(self) -> str:
        return f"{self.fingerprint} {self.class_names}"


def _column_of_classes(features) -> str | None:
    for name, feature in features.items():
        if type(feature).__name__ == "ClassLabel":
            return name
    for name in CLASS_COLUMNS:
        kind = getattr(features.get(name), "dtype", "")
        if re.match("u?int|(large_)?str", kind):
            return name
    return None


def _labels(rows, column: str | None, names) -> list[str | None]:
    """The name of each row's class, None where it is withheld."""
    values = [None] * len(rows) if column is None else rows[column][:]
    if names:
        return [names[each] if each in range(len(names)) else None for each in values]
    return [None if each in (None, -1) else str(each) for each in values]


def _names_of(labels: set[str]) -> list[str]:
    """The classes of these labels: if all are numbers, those up to the largest one."""
    if labels and all(re.fullmatch(r"0|[1-9]\d{0,5}", label) for label in labels):
        return [str(number) for number in range(max(map(int, labels)) + 1)]
    return sorted(labels) or list(AllFiles.class_names)


def _splits_of(name: str, set_name: str, data_root) -> dict:
    """The rows of each split of shards, or of a set of the hub or a folder like one."""
    try:
        import datasets
    except ImportError as error:
        raise ValueError(
            f"{name} needs the library datasets; install it with pip install "
            '"pixelprior[datasets]"'
        ) from error
    if not is_interactive():
        datasets.disable_progress_bars()
    try:
        if name == "shards":
            # Given a folder, the library reads without asking the network.
            folder, shards = _shards(set_name)
            return datasets.load_dataset(folder, data_files=shards)
        kept_in = None if data_root is None else str(data_root)
        return datasets.load_dataset(set_name, cache_dir=kept_in)
    except Exception as error:  # the library raises errors of many types
        why = error.__cause__ or error
        kind = FileNotFoundError if isinstance(why, OSError) else ValueError
        where = "the name of a set of the hub, or a place of undamaged files"
        if name == "shards":
            where = "whole .tar files (tar -tf FILE reads one), each sample with the "
            where += "same kinds of files and its class as a number in .cls"
        raise kind(
            f"the set {set_name!r} cannot be loaded ({type(why).__name__}: {why}); "
            f"give {where}"
        ) from error


def _shards(place: str) -> tuple[str, dict[str, list[str]]]:
    """The folder of tar files, and those of each split, in a folder or by a pattern;
    the names of test shards have the word test or val."""
    if os.path.isdir(place):
        place = os.path.join(escape(place), "*.tar")
    found = sorted(
        os.path.abspath(path) for path in glob(place) if os.path.isfile(path)
    )
    if not found:
        raise FileNotFoundError(
            "there is no such .tar file; --data_root is their folder, or a pattern in "
            "quotes, such as 'data/*.tar'"
        )
    by_split = defaultdict(list)
    for path in found:
        words = re.split(r"[^a-z]+", os.path.basename(path).lower())
        held_out = not {*HELD_OUT_NAMES}.isdisjoint(words)
        by_split["test" if held_out else "train"].append(escape(path))
    return os.path.dirname(found[0]), by_split
