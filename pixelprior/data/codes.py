"""The codes of a whole data set, extracted once and kept in the smallest integer type.

`CodeData` returns batches in the form that the `loss_function` of a prior takes, so
that no image is encoded again while a prior is trained. On disk, codes are one
safetensors file, or a folder with one file per part, each written under a temporary
name and renamed, and read memory-mapped. `read_codes` also reads what other programs
write: a prior needs grids of whole numbers and nothing else.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from pixelprior.data.images import ImageData, fits_on
from pixelprior.files import temporary_folder, writable_folder, write_tensors
from pixelprior.layers import INTEGERS, check_codes
from pixelprior.prior import level_names, level_number, per_level
from pixelprior.progress import progress_bar
from pixelprior.settings import check_positive

PART = 4096  # images per file
MOST_IMAGES, MOST_PIXELS = 256, 2**20  # encoded at the same time
MOST_CODES = 2**16
PART_NAME = "part_{:05d}.safetensors"


class MappedGrid:
    """The grids of all parts on disk as one; an index gives a tensor in memory."""

    def __init__(self, parts: tuple[Tensor, ...]):
        self.parts = parts
        self.ends = torch.tensor([len(part) for part in parts]).cumsum(0)
        self.shape = torch.Size((int(self.ends[-1]), *parts[0].shape[1:]))
        self.dtype, self.device = parts[0].dtype, parts[0].device

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, indices) -> Tensor:
        numbers = torch.arange(len(self))[indices]
        part_of = torch.bucketize(numbers, self.ends, right=True)
        rows = torch.empty(*numbers.shape, *self.shape[1:], dtype=self.dtype)
        for part in part_of.unique().tolist():
            here = part_of == part
            first = self.ends[part] - len(self.parts[part])
            rows[here] = self.parts[part][numbers[here] - first]
        return rows


@dataclass
class CodeData:
    """The codes of one split.

    Attributes:
        grids: the codes of each level from the top down, [N, H, W], each in the
            smallest integer type that holds its codebook.
        labels: long [N]; vectors [N, D]; or None to train without labels.
        num_embeddings: size of the codebook of all levels, or one number per level.
        class_names: names of the labels 0, 1, …
    """

    grids: tuple[Tensor | MappedGrid, ...]
    labels: Tensor | None
    num_embeddings: int | tuple[int, ...]
    class_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.grids[0])

    @property
    def z_top(self) -> Tensor | MappedGrid:
        return self.grids[0]

    @property
    def z_bottom(self) -> Tensor | MappedGrid:
        return self.grid("bottom")

    @property
    def level_names(self) -> tuple[str, ...]:
        return level_names(len(self.grids))

    def grid(self, level: str | int) -> Tensor | MappedGrid:
        return self.grids[level_number(level, len(self.grids))]

    def size_of(self, level: str | int) -> int:
        count = len(self.grids)
        return per_level(self.num_embeddings, count)[level_number(level, count)]

    def batch(self, indices: Tensor) -> tuple[Tensor | None, ...]:
        """Arguments of a prior's `loss_function`: a grid per level, and the labels."""
        indices = indices.to(self.grids[0].device)
        some = self.subset(indices)
        return *(grid.long() for grid in some.grids), some.labels

    def subset(self, indices) -> "CodeData":
        """A copy of the codes of some images; indices are numbers or booleans."""
        return self._changed(lambda values: values[indices])

    def _changed(self, change) -> "CodeData":
        labels = None if self.labels is None else change(self.labels)
        return replace(self, grids=tuple(map(change, self.grids)), labels=labels)

    def batches(self, parts) -> Iterator[tuple]:
        return map(self.batch, parts)

    def to(self, device) -> "CodeData":
        """The same data on another device, or here if there is no room for all of it:
        then batches are moved one by one."""
        nbytes = sum(grid.dtype.itemsize * grid.shape.numel() for grid in self.grids)
        if torch.device(device).type == "cpu" or not fits_on(device, nbytes):
            return self
        return self._changed(lambda values: values[:].to(device))

    def unigram_entropy(self, level: str | int) -> float:
        """Entropy of the frequencies of a level's codes, in nats per code: no model
        that ignores context can have a lower loss on the same codes."""
        counts = self.counts(level).double()
        return torch.distributions.Categorical(probs=counts).entropy().item()

    def counts(self, level: str | int) -> Tensor:
        """How often each code of a level occurs, long [K]."""
        grid, size = self.grid(level), self.size_of(level)
        counts = torch.zeros(size, dtype=torch.long)
        for some in torch.arange(len(grid)).split(10_000):
            codes = grid[some].reshape(-1).int().cpu()
            counts += torch.bincount(codes, minlength=size)
        return counts


def smallest_integer_type(num_embeddings: int) -> torch.dtype:
    """The smallest type that holds codes 0 to num_embeddings - 1."""
    if num_embeddings <= 2**8:
        return torch.uint8
    return torch.int16 if num_embeddings <= 2**15 else torch.int32


def extract_codes(
    vqvae2, data: ImageData, *, batch_size: int | None = None, progress: bool = False
) -> CodeData:
    """Encode all images of a split into memory.

    Args:
        vqvae2: the VQ-VAE-2, or another `prior.Tokenizer`, on the device where the
            images are encoded.
        data: images of the model's size and channels.
        batch_size: images per batch; None for 256, or fewer of images of more than
            64×64 pixels.
        progress: show a progress bar.

    Raises:
        ValueError: the tokenizer gives no codes of its grids, or its two functions do
            not belong together.
    """
    sizes = per_level(vqvae2.num_embeddings, len(vqvae2.grids))
    types = [smallest_integer_type(size) for size in sizes]
    device = next((each.device for each in vqvae2.parameters()), "cpu")
    parts = torch.arange(len(data)).split(batch_size or images_at_once(data))
    shown = {"desc": f"encoding {data.split}", "unit": "batch", "enabled": progress}
    bar = progress_bar(data.batches(parts), total=len(parts), **shown)
    batches = []
    for (images,) in bar:
        found = tuple(vqvae2.get_code_indices(images.to(device)).values())
        # In the smallest type, a code beyond the codebook would become another one.
        _check_found(vqvae2, found, images, sizes)
        if not batches:  # found before a whole data set is encoded
            _check_decoded(vqvae2, found, images)
        kept = zip(found, types, strict=True)
        batches.append([grid.to("cpu", kind) for grid, kind in kept])
    grids = tuple(torch.cat(grids) for grids in zip(*batches, strict=True))
    return CodeData(grids, data.labels, vqvae2.num_embeddings, data.class_names)


def images_at_once(data) -> int:
    """How many images are encoded at the same time, by their size alone and not by the
    memory that is free: in batches of another size, rounding may change a code."""
    (image,) = data.batch(torch.zeros(1, dtype=torch.long))
    height, width = image.shape[-2:]
    return max(1, min(MOST_IMAGES, MOST_PIXELS // (height * width)))


def _check_found(tokenizer, found: tuple[Tensor, ...], images: Tensor, sizes) -> None:
    """Check that the codes of images are those of a tokenizer's grids and codebooks."""
    for name, grid, size in zip(level_names(len(sizes)), found, sizes, strict=False):
        check_codes(grid, size, f"the tokenizer's {name} codes")
    shapes = [list(grid.shape) for grid in found]
    expected = [[len(images), *shape] for shape in tokenizer.grids]
    if shapes != expected:
        raise ValueError(
            f"the tokenizer's codes have shapes {shapes}, but by its grids they are "
            f"{expected}; give the grids that it makes of an image of "
            f"{list(images.shape[2:])} pixels"
        )


@torch.no_grad()
def _check_decoded(tokenizer, found: tuple[Tensor, ...], images: Tensor) -> None:
    """Check that the first image can be decoded from its codes."""
    rebuilt = tokenizer.decode_codes(*(grid[:1].long() for grid in found))
    if rebuilt.shape != images[:1].shape or not rebuilt.is_floating_point():
        raise ValueError(
            f"an image of shape {list(images.shape[1:])} is decoded as "
            f"{rebuilt.dtype} {list(rebuilt.shape[1:])}; give a tokenizer whose "
            "decode_codes belongs to its get_code_indices"
        )


def extract_codes_to_folder(
    vqvae2,
    data: ImageData,
    folder,
    source: str,
    *,
    process: int = 0,
    processes: int = 1,
    wait=lambda: None,
    progress: bool = False,
) -> None:
    """Encode all images of a split into a folder, a file per part of them.

    If it is stopped, a second call goes on with the parts that are missing, on any
    number of processes, and ends with the same files. Parts of another `source` are
    written anew. All processes must see the same folder; `wait` returns when all have
    called it.
    """
    folder = writable_folder(folder)
    source = f"{len(data)} images in parts of {PART}\n{source}"
    missing = [
        (folder / PART_NAME.format(number), indices)
        for number, indices in enumerate(torch.arange(len(data)).split(PART))
        if load_codes(folder / PART_NAME.format(number), source) is None
    ]
    wait()  # every process must have read what is missing before one writes
    mine = missing[process::processes]
    shown = {"desc": f"encoding {data.split}", "unit": "part", "enabled": progress}
    for path, indices in progress_bar(mine, **shown):
        save_codes(extract_codes(vqvae2, data.subset(indices)), path, source)
    wait()


def save_codes(codes: CodeData, path, source: str) -> None:
    """Write codes to a safetensors file; `source` names what they were made from."""
    names = ["z_top", "z_bottom"]
    if len(codes.grids) != 2:
        names = [f"codes_{number}" for number in range(len(codes.grids))]
    grids = zip(names, codes.grids, strict=True)
    tensors = {name: grid[:].clone() for name, grid in grids}
    if codes.labels is not None:
        tensors["labels"] = codes.labels.contiguous()
    metadata = {
        "num_embeddings": json.dumps(codes.num_embeddings),
        "class_names": json.dumps(codes.class_names),
        "source": source,
    }
    path = Path(path)
    with temporary_folder(writable_folder(path.parent)) as temporary:
        write_tensors(tensors, temporary / path.name, metadata)
        os.replace(temporary / path.name, path)


def load_codes(path, source: str | None = None) -> CodeData | None:
    """Codes as of `read_codes`; None if they are absent, damaged, or not made from
    `source`, where one is given."""
    try:
        codes, made_from = _read(Path(path))
    except (OSError, ValueError):
        return None
    return codes if source in (None, made_from) else None


def read_codes(path, num_embeddings: int | None = None) -> CodeData:
    """Read codes that any program wrote.

    Args:
        path: a `.safetensors` or `.npz` file with `codes_0` [N, H, W] and so on, one
            per level from the top down (for two levels also `z_top` and `z_bottom`, for
            one also `codes`), and `labels` if there are any: whole numbers [N], or
            vectors [N, D]; an `.npy` file with one array [N, H, W]; or a folder of
            codes that `train-prior` has extracted. Codes are whole numbers of any type.
        num_embeddings: size of all codebooks. None takes the number in the file, as
            `save_codes` writes it, or for each level one more than its largest code.

    Returns:
        `CodeData`. Classes without names are named by their numbers.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be read, or what it has are no codes or labels.
    """
    return _read(Path(path), num_embeddings)[0]


def _read(path: Path, num_embeddings: int | None = None) -> tuple[CodeData, str]:
    """The codes of a file or of a folder, and what they were made from."""
    if not path.is_dir():
        return _read_file(path, num_embeddings)
    try:
        first, source = _read_file(path / PART_NAME.format(0), num_embeddings)
        images = int(source.split()[0])  # "9000 images in parts of 4096"
        parts = [first]
        while sum(map(len, parts)) < images:
            part_path = path / PART_NAME.format(len(parts))
            part, of_part = _read_file(part_path, num_embeddings)
            if of_part != source or _form(part) != _form(first):
                raise ValueError(f"{part_path} is of other images or codes")
            parts.append(part)
        if sum(map(len, parts)) > images:
            raise ValueError(f"its parts have more than {images} images")
    except (OSError, ValueError, IndexError) as error:
        raise ValueError(
            f"{path} is no folder of codes, or some of its parts are missing; start "
            f"the command that writes them again ({error})"
        ) from error
    grids = tuple(
        MappedGrid(grids) if len(grids) > 1 else grids[0]
        for grids in zip(*(part.grids for part in parts), strict=True)
    )
    labels = first.labels
    if labels is not None:
        labels = torch.cat([part.labels for part in parts])
    made_from = source.partition("\n")[2]
    return replace(first, grids=grids, labels=labels), made_from


def _form(codes: CodeData) -> tuple:
    """What the parts of one folder have in common."""
    labels = None if codes.labels is None else codes.labels.shape[1:]
    return [grid.shape[1:] for grid in codes.grids], codes.num_embeddings, labels


def _read_file(path: Path, num_embeddings: int | None) -> tuple[CodeData, str]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; name a file of codes")
    try:
        arrays, metadata = _arrays(path)
        size = json.loads(metadata.get("num_embeddings", "null"))
        class_names = tuple(map(str, json.loads(metadata.get("class_names", "[]"))))
    except Exception as error:  # damaged files raise errors of many types
        raise ValueError(
            f"{path} cannot be read ({type(error).__name__}: {error}); it is cut short "
            "or no .safetensors, .npz or .npy file; write it again"
        ) from error
    try:
        grids = {name: arrays[name] for name in _names(arrays)}
        sizes = _checked_sizes(
            grids, size if num_embeddings is None else num_embeddings
        )
        labels = _checked_labels(arrays.get("labels"), len(next(iter(grids.values()))))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error
    if labels is not None and labels.ndim == 1 and len(class_names) <= labels.max():
        class_names = tuple(str(number) for number in range(int(labels.max()) + 1))
    kept = tuple(
        grid.to(smallest_integer_type(size))
        for grid, size in zip(grids.values(), sizes, strict=True)
    )
    same = sizes[0] if len(set(sizes)) == 1 else sizes
    return CodeData(kept, labels, same, class_names), metadata.get("source", "")


def _names(tensors) -> tuple[str, ...]:
    """The names of the grids among these tensors, from the top level down."""
    if "codes" in tensors:
        return ("codes",)
    count = sum(name.startswith("codes_") for name in tensors)
    names = tuple(f"codes_{n}" for n in range(count)) or ("z_top", "z_bottom")
    if not set(names) <= set(tensors):
        raise ValueError(
            f"it has {', '.join(tensors) or 'nothing'}; give codes_0 and so on for one "
            "grid per level from the top down, or z_top and z_bottom"
        )
    return names


def _arrays(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The arrays of a file by name, and its metadata if it has any."""
    if path.suffix in (".npy", ".npz"):
        loaded, metadata = np.load(path, allow_pickle=False), {}
        loaded = {"codes": loaded} if path.suffix == ".npy" else dict(loaded)
        arrays = {name: torch.from_numpy(array) for name, array in loaded.items()}
    else:
        with safe_open(path, framework="pt") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    for name, array in arrays.items():  # types that torch computes little with
        if array.dtype in (torch.int8, torch.uint16, torch.uint32, torch.uint64):
            arrays[name] = array.long()
    return arrays, metadata


def _checked_sizes(grids: dict[str, Tensor], size) -> tuple[int, ...]:
    """The size of the codebook of each level, after all codes are found to be in it."""
    for name, grid in grids.items():
        check_codes(grid, MOST_CODES, name)
    if len({len(grid) for grid in grids.values()}) > 1:
        counts = " and ".join(f"{len(grid)} in {name}" for name, grid in grids.items())
        raise ValueError(f"it has {counts}; give all grids of each image")
    largest = [int(grid.max()) for grid in grids.values()]
    if size is None:
        size = [code + 1 for code in largest]
        size = max(size) if len(size) == 2 else size
    sizes = per_level(size, len(grids))
    for name, code, of_level in zip(grids, largest, sizes, strict=True):
        check_positive(num_embeddings=of_level)
        if not code < of_level <= MOST_CODES:
            raise ValueError(
                f"{name} has codes up to {code}, but a codebook of {of_level} has "
                f"codes 0 to {of_level - 1}; give the size of the codebook as "
                f"num_embeddings (--codebook_size), at most {MOST_CODES}, or correct "
                "the file"
            )
    return sizes


def _checked_labels(labels: Tensor | None, count: int) -> Tensor | None:
    """Labels as long [N], or as float vectors [N, D]."""
    if labels is None:
        return None
    vectors = labels.is_floating_point() and labels.ndim == 2 and labels.shape[1] > 0
    whole = labels.ndim == 1 and labels.dtype in INTEGERS
    if not (whole or vectors) or len(labels) != count:
        raise ValueError(
            f"labels are {labels.dtype} {list(labels.shape)}; give a whole number, or "
            f"a vector of floats, for each of the {count} images, or leave them out"
        )
    labels = labels.float() if vectors else labels.long()
    low, high = labels.min().item(), labels.max().item()
    if not labels.isfinite().all() or (whole and not 0 <= low <= high < MOST_CODES):
        raise ValueError(
            f"labels go down to {low} and up to {high}; give classes from 0 to "
            f"{MOST_CODES - 1} or finite vectors, and leave out images whose class is "
            "not known"
        )
    return labels
