"""Images in tar shards, or in a set of the Hugging Face hub.

Like `sources.Folder`, each lists what there is without decoding an image.
"""

import hashlib
import io
import json
import re
import tarfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from pixelprior.data.sources import (
    HELD_OUT_NAMES,
    IMAGE_SUFFIXES,
    NO_LABEL,
    Texts,
    every_tenth,
)

NO_CLASSES = ("images",)  # the one class of images that have none
CLASS_COLUMNS = ("label", "labels", "class")  # of a set that marks none as such
BLOCK = 512  # bytes; a tar file consists of such blocks, and ends with zeros


class Shards:
    """The images of one split of tar files, laid out as WebDataset has them.

    Files with the same name up to its first dot belong together: an image, and its
    class in `.cls` (a number or a name) or in `.json` (under "label"). Shards whose
    names hold the word test or val are the test split; where there are none, every
    tenth image is. The members of a tar file lie in it as they are, so that each image
    is read from its place, in any order.

    Attributes: as for `Folder`.

    Raises:
        FileNotFoundError: no file fits the pattern.
        ValueError: a shard cannot be read, there are no images, or some have no label.
    """

    def __init__(self, pattern: Path, split: str):
        shards = _shard_files(pattern)
        held_out = [path for path in shards if _is_held_out(path.name)]
        if held_out and split == "test":
            chosen = held_out
        else:
            chosen = [path for path in shards if path not in held_out]
        if not chosen:
            raise ValueError(
                f"all shards of {pattern} are test shards by their names; name those "
                "of the training images without test or val"
            )
        self.name = f"shards of {split}"
        self.shards = chosen
        found = [
            sample for number in range(len(chosen)) for sample in self._list(number)
        ]
        if not found:
            raise ValueError(
                f"there are no images in the shards {pattern}; give tar files with "
                f"{', '.join(sorted(IMAGE_SUFFIXES))} files"
            )
        if held_out and split == "test":
            # The numbers of the classes are those of the training images.
            self.class_names = Shards(pattern, "train").class_names
        else:
            self.class_names = self._classes(found)
        labels = self._numbers(found)
        if not held_out:
            pairs = list(zip(found, labels, strict=True))
            pairs = every_tenth(pairs, split, pattern)
            found, labels = map(list, zip(*pairs, strict=True))
        self.labels = torch.tensor(labels)
        self.places = np.array([place for place, _, _ in found], dtype=np.int64)
        self.members = Texts(name for _, name, _ in found)

    def _list(
        self, number: int
    ) -> Iterator[tuple[tuple[int, int, int], str, str | None]]:
        """(shard, offset, bytes), name and class of each image in a shard."""
        path, groups, end = self.shards[number], defaultdict(dict), 0
        try:
            with tarfile.open(path, "r:") as tar:
                for member in tar:
                    end = member.offset_data + -(-member.size // BLOCK) * BLOCK
                    if not member.isfile():
                        continue
                    name = PurePosixPath(member.name)
                    stem, _, kind = name.name.partition(".")
                    group = groups[str(name.parent / stem)]
                    if f".{kind.lower()}" in IMAGE_SUFFIXES:
                        place = (number, member.offset_data, member.size)
                        group["image"] = (place, member.name)
                    elif kind in ("cls", "json"):
                        group[kind] = tar.extractfile(member).read()
            with path.open("rb") as file:
                file.seek(end)
                if file.read(BLOCK) != bytes(BLOCK):
                    raise EOFError("the zeros at its end are missing")
        except (tarfile.TarError, OSError, EOFError) as error:
            raise ValueError(
                f"{path} cannot be read ({error}): it is cut short, or no tar file "
                "without compression; copy it again"
            ) from error
        for group in groups.values():
            if "image" not in group:
                continue
            place, member = group["image"]
            yield place, member, _label(group, f"{member} in {path}")

    def _classes(self, found) -> tuple[str, ...]:
        named = {label for _, _, label in found if label is not None}
        return _class_names(named) if named else NO_CLASSES

    def _numbers(self, found) -> list[int]:
        """The number of each class; NO_LABEL for a class that training lacks."""
        if self.class_names == NO_CLASSES:
            return [0] * len(found)
        labels = [label for _, _, label in found]
        if None in labels:
            (number, _, _), member, _ = found[labels.index(None)]
            raise ValueError(
                f"{member} in {self.shards[number]} has no .cls or .json with its "
                "class, but other images have; give all images a class, or none"
            )
        return _class_numbers(labels, self.class_names)

    def __len__(self) -> int:
        return len(self.members)

    def open(self, index: int) -> BinaryIO:
        """The encoded image of a number."""
        shard, offset, size = self.places[index].tolist()
        with self.shards[shard].open("rb") as file:
            file.seek(offset)
            return io.BytesIO(file.read(size))

    def where(self, index: int) -> str:
        """The place of an image, for errors."""
        return f"{self.members[index]} in {self.shards[self.places[index][0]]}"

    def signature(self) -> str:
        """A text that changes when a shard does."""
        states = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in self.shards]
        return hashlib.sha256(repr((states, self.class_names)).encode()).hexdigest()


def _class_names(named: set[str]) -> tuple[str, ...]:
    """Classes in their order: all numbers up to the largest, or names by the letter."""
    if all(re.fullmatch(r"\d{1,6}", label) for label in named):
        return tuple(map(str, range(max(map(int, named)) + 1)))
    return tuple(sorted(named))


def _class_numbers(labels: list[str | None], names: tuple[str, ...]) -> list[int]:
    """The number of each class; NO_LABEL for none, and for one that has no number."""
    numbers = {name: number for number, name in enumerate(names)}
    if all(name == str(number) for name, number in numbers.items()):  # 007 is 7
        labels = [
            str(int(each)) if each and each.isdecimal() else each for each in labels
        ]
    return [numbers.get(label, NO_LABEL) for label in labels]


def _shard_files(pattern: Path) -> list[Path]:
    """The tar files of a folder, or those that a pattern such as data/*.tar names."""
    if pattern.is_dir():
        anchor, pattern = pattern, pattern / "*.tar"
    else:
        anchor = pattern.parent
        while any(sign in str(anchor) for sign in "*?["):
            anchor = anchor.parent
    shards = sorted(anchor.glob(str(pattern.relative_to(anchor))))
    shards = [path for path in shards if path.is_file()]
    if not shards:
        raise FileNotFoundError(
            f"there is no file {pattern}; give the folder of your .tar files as "
            "--data_root, or a pattern in quotes, such as 'data/*.tar'"
        )
    return shards


def _is_held_out(name: str) -> bool:
    return bool({*HELD_OUT_NAMES} & {*re.split(r"[^a-z]+", name.lower())})


def _label(group: dict, where: str) -> str | None:
    """The class that a sample's .cls or .json names."""
    try:
        if "cls" in group:
            return group["cls"].decode().strip()
        if "json" in group:
            label = json.loads(group["json"]).get("label")
            return None if label is None else str(label)
    except (ValueError, AttributeError) as error:
        raise ValueError(
            f"the class of {where} cannot be read ({error}); write it as a number or a "
            "name in .cls"
        ) from error
    return None


class HubSet:
    """One split of a set of the Hugging Face hub, or of a local folder in its formats.

    The library `datasets` maps the set from disk. Its first column of images is read,
    and its first column of classes; if no column is marked as classes, the column of
    numbers or names that is called label, labels or class. A set without a test split
    (or a validation split) gives every tenth image to it.

    Args:
        name: of the set, or a folder.
        split: "train" or "test".
        kept_in: folder for the library's copy of the set; None is its own cache.

    Attributes: as for `Folder`.

    Raises:
        ValueError: `datasets` is not installed, the set has no images, or one of its
            parquet files is cut short.
        FileNotFoundError: the set is neither on disk nor can be downloaded.
    """

    def __init__(self, name: str, split: str, kept_in: Path | None = None):
        try:
            import datasets
        except ImportError as error:
            raise ValueError(
                "hub: needs the library datasets; install it with pip install "
                '"pixelprior[datasets]"'
            ) from error
        try:
            kept_in = None if kept_in is None else str(kept_in)
            found = datasets.load_dataset(name, cache_dir=kept_in)
        except Exception as error:  # the library raises errors of many types
            for path in sorted(Path(name).rglob("*.parquet")):
                _check_parquet(path)
            why = error.__cause__ or error
            raise FileNotFoundError(
                f"the set {name!r} cannot be loaded ({type(why).__name__}: {why}); "
                "give the name of a set of the hub, or a folder with its files"
            ) from error
        if "train" not in found:
            raise ValueError(
                f"the set {name!r} has {', '.join(found)} but no train; give a set "
                "with training images"
            )
        kinds = {
            column: type(kind).__name__
            for column, kind in found["train"].features.items()
        }
        images = [column for column, kind in kinds.items() if kind == "Image"]
        classes = [column for column, kind in kinds.items() if kind == "ClassLabel"]
        classes += [
            column
            for column in CLASS_COLUMNS
            if kinds.get(column) == "Value"
            and re.match("u?int|(large_)?str", found["train"].features[column].dtype)
        ]
        if not images:
            raise ValueError(
                f"the set {name!r} has columns {', '.join(kinds)} but no images; give "
                "a set of images"
            )
        named = {*(_labels(found["train"], classes) if classes else ())} - {None}
        if not named:
            classes = []
        splits = [each for each in HELD_OUT_NAMES if each in found]
        # The classes of a test split are often withheld: then the next split is taken.
        known = [
            each for each in splits if not classes or any(_labels(found[each], classes))
        ]
        which = "train"
        if splits and split == "test":
            if not known:
                raise ValueError(
                    f"the classes of {', '.join(splits)} in {name!r} are withheld; "
                    "give a set whose held-out images have classes"
                )
            which = known[0]
        rows = found[which]
        self.numbers = np.arange(len(rows))  # of the rows in the set, for errors
        if not splits:
            numbers = every_tenth(self.numbers.tolist(), split, name)
            self.numbers = np.array(numbers)
            rows = rows.select(self.numbers)
        self.set_name, self.name, self.column = name, which, images[0]
        self.class_names: tuple[str, ...] = NO_CLASSES
        self.labels: Tensor = torch.zeros(len(rows), dtype=torch.long)
        if classes:
            # The numbers of the classes are those of the training images.
            marked = getattr(found["train"].features[classes[0]], "names", None)
            self.class_names = tuple(marked or _class_names(named))
            numbers = _class_numbers(_labels(rows, classes), self.class_names)
            self.labels = torch.tensor(numbers)
        self.fingerprint = rows._fingerprint
        self.rows = rows.select_columns(images[:1]).cast_column(
            self.column, datasets.Image(decode=False)
        )

    def __len__(self) -> int:
        return len(self.rows)

    def open(self, index: int) -> BinaryIO:
        """The encoded image of a number."""
        image = self.rows[index][self.column]
        if image["bytes"] is not None:
            return io.BytesIO(image["bytes"])
        return open(image["path"], "rb")

    def where(self, index: int) -> str:
        """The row of an image, for errors."""
        return f"row {self.numbers[index]} of {self.name} in {self.set_name}"

    def signature(self) -> str:
        """A text that changes when the set does."""
        return self.fingerprint


def _labels(rows, classes: list[str]) -> list[str | None]:
    """The class of each row by its name or number, None where it is withheld."""
    kind, values = rows.features[classes[0]], rows[classes[0]][:]
    names = getattr(kind, "names", None)
    if names is None:
        return [None if each in (None, -1) else str(each) for each in values]
    known = range(len(names))
    return [names[each] if each in known else None for each in values]


def _check_parquet(path: Path) -> None:
    """Raise ValueError if a file has no end as parquet files have it."""
    from pyarrow import ArrowException, parquet

    if not path.is_file():
        return
    try:
        parquet.read_metadata(path)
    except ArrowException as error:
        raise ValueError(
            f"{path} cannot be read ({error}): it is cut short, or no parquet file; "
            "copy it again"
        ) from error
