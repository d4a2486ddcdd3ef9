"""Where the images of a user's own set lie: in a folder, in tar shards, on the hub.

A source lists what there is without decoding an image: `open` gives the encoded image
of a number, in any order and in any process, and `labels` (long [N]) are the numbers of
`class_names`. Shards and sets of the hub are mapped from disk by the library
`datasets`. What is read from a source is in `images.py`.
"""

import hashlib
import io
import json
import os
import posixpath
import re
import tarfile
from collections import defaultdict
from glob import glob
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
CLASS_COLUMNS = ("label", "labels", "class")  # of a set that marks none as such
NO_LABEL = -1  # of an image that is in none of the classes of the training images


def source_of(name: str, split: str, data_root):
    """The images of a split of "imagefolder", "shards" or "hub:NAME"."""
    if data_root is None and not name.startswith(HUB):
        raise ValueError(f"{name} needs --data_root, the folder of your images")
    if name == "imagefolder":
        return Folder(Path(data_root), split)
    set_name = str(data_root) if name == "shards" else name.removeprefix(HUB)
    return Rows(_splits_of(name, set_name, data_root), set_name, split)


def listed(problems: list[str], named: int = 20) -> str:
    """Problems in one line of a warning, the first of them by name."""
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

    Their names are in an array: each process that decodes images would copy a list,
    since Python writes to an object to count who uses it.
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
        """The file of an image, for errors."""
        return str((self.folder / self.files[number]).relative_to(self.root))

    def signature(self) -> str:
        """A text that changes when a file does; no file is read for it."""
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
    marked as classes, the column of numbers or names that is called label, labels or
    class. Without a test split (or a validation split) every tenth image is in it.
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
        classes = [name for name, kind in kinds.items() if kind == "ClassLabel"]
        classes += [
            name
            for name in CLASS_COLUMNS
            if kinds.get(name) == "Value"
            and re.match("u?int|(large_)?str", features[name].dtype)
        ]
        marked = getattr(features[classes[0]], "names", None) if classes else None
        labels = {each: _labels(found[each], classes, marked) for each in found}
        splits = [each for each in HELD_OUT_NAMES if each in found]
        # The classes of a test split are often withheld: then the next split is taken.
        has_classes = any(labels["train"])
        known = [each for each in splits if any(labels[each]) or not has_classes]
        if splits and not known and split == "test":
            raise ValueError(
                f"the classes of {', '.join(splits)} in {set_name!r} are withheld; "
                "give a set whose held-out images have classes"
            )
        self.name = known[0] if splits and split == "test" else "train"
        self.rows, self.set_name, self.column = found[self.name], set_name, images[0]
        self.numbers = np.arange(len(self.rows))  # of the rows in the set
        if not splits:
            self.numbers = every_tenth(len(self.rows), split, set_name)
        chosen = [labels[self.name][number] for number in self.numbers]
        self.class_names, numbers = _numbered(chosen, labels["train"], marked)
        self.labels = torch.tensor(numbers)
        self.fingerprint = self.rows._fingerprint
        as_files = type(features[self.column])(decode=False)
        self.rows = self.rows.select_columns(images[:1])
        self.rows = self.rows.cast_column(self.column, as_files)

    def __len__(self) -> int:
        return len(self.numbers)

    def image(self, number: int) -> dict:
        """Bytes and path of an encoded image, as `datasets` has them."""
        return self.rows[int(self.numbers[number])][self.column]

    def open(self, number: int) -> BinaryIO:
        image = self.image(number)
        if image["bytes"] is None:
            return open(image["path"], "rb")
        return io.BytesIO(image["bytes"])

    def where(self, number: int) -> str:
        """The row of an image, for errors."""
        row = f"row {self.numbers[number]} of {self.name} in {self.set_name}"
        return f"{row} ({self.image(number)['path'] or 'without a name'})"

    def signature(self) -> str:
        """A text that changes when the set does."""
        return f"{self.fingerprint} {self.class_names}"


def _labels(rows, classes: list[str], marked) -> list[str | None]:
    """The class of each row by its name or number, None where it is withheld."""
    values = rows[classes[0]][:] if classes else [None] * len(rows)
    if marked is None:
        return [None if each in (None, -1) else str(each) for each in values]
    return [marked[each] if each in range(len(marked)) else None for each in values]


def _numbered(labels, training, marked) -> tuple[tuple[str, ...], list[int]]:
    """The names of the classes of the training images, and the number of each label.

    If all names are numbers, they are the classes up to the largest one.
    """
    named = {*training} - {None}
    if not named:
        return AllFiles.class_names, [0] * len(labels)
    names = marked or sorted(named)
    if not marked and all(re.fullmatch(r"\d{1,6}", name) for name in named):
        names = [str(number) for number in range(max(map(int, named)) + 1)]
        labels = [str(int(one)) if one and one.isdecimal() else one for one in labels]
    numbers = {name: number for number, name in enumerate(names)}
    return tuple(names), [numbers.get(label, NO_LABEL) for label in labels]


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
        if name != "shards":
            kept_in = None if data_root is None else str(data_root)
            return datasets.load_dataset(set_name, cache_dir=kept_in)
        image, label = datasets.Image(decode=False), datasets.Value("string")
        return {
            split: datasets.Dataset.from_generator(
                _samples,
                features=datasets.Features({"image": image, "label": label}),
                gen_kwargs={"shards": tuple(shards)},  # a change is another set
            )
            for split, shards in _shards(Path(data_root)).items()
        }
    except Exception as error:  # the library raises errors of many types
        why = error.__cause__ or error
        kind = FileNotFoundError if isinstance(why, OSError) else ValueError
        raise kind(
            f"the set {set_name!r} cannot be loaded ({type(why).__name__}: {why}); "
            "give the name of a set of the hub, or a place of undamaged files"
        ) from error


def _shards(pattern: Path) -> dict[str, list]:
    """Path, size and time of each tar file of a split, in a folder or by a pattern.

    The names of test shards have the word test or val.
    """
    found = pattern.glob("*.tar") if pattern.is_dir() else glob(str(pattern))
    by_split = defaultdict(list)
    for path in sorted(filter(Path.is_file, map(Path, found))):
        held_out = {*HELD_OUT_NAMES} & {*re.split(r"[^a-z]+", path.name.lower())}
        state = (str(path), path.stat().st_size, path.stat().st_mtime_ns)
        by_split["test" if held_out else "train"].append(state)
    if not by_split:
        raise FileNotFoundError(
            "there is no such .tar file; --data_root is their folder, or a pattern in "
            "quotes, such as 'data/*.tar'"
        )
    return by_split


def _samples(shards):
    """The images of tar files, laid out as WebDataset has them.

    Files with the same name up to its first dot belong together: an image, and its
    class in `.cls` (a number or a name) or in `.json` (under "label"). The reader of
    `datasets` for such files takes no names in `.cls`, and one kind of image alone.
    """
    for path, *_ in shards:
        where = path
        try:
            with tarfile.open(path, "r:") as tar:
                groups = defaultdict(dict)
                for member in filter(tarfile.TarInfo.isfile, tar):
                    folder, name = posixpath.split(member.name)
                    stem, _, kind = name.partition(".")
                    kind = "image" if f".{kind.lower()}" in IMAGE_SUFFIXES else kind
                    groups[folder, stem][kind] = member
                for group in groups.values():
                    if "image" not in group:
                        continue
                    where = f"{group['image'].name} in {path}"
                    image, label, about = (
                        tar.extractfile(group[kind]).read() if kind in group else None
                        for kind in ("image", "cls", "json")
                    )
                    if label is not None:
                        label = label.decode().strip()
                    elif about is not None:
                        label = json.loads(about).get("label")
                    label = None if label is None else str(label)
                    yield {"image": {"path": where, "bytes": image}, "label": label}
        except (
            tarfile.TarError,
            OSError,
            EOFError,
            ValueError,
            AttributeError,
        ) as error:
            raise ValueError(
                f"{where} cannot be read ({error}): copy the shard again, without "
                "compression, or write its class as a number or a name in .cls"
            ) from error
