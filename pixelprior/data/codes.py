"""The codes of a whole data set, extracted once and kept in the smallest integer type.

`CodeData` returns batches in the form that the `loss_function` of a prior takes, so
that no image is encoded again while a prior is trained. On disk, codes are one
safetensors file, or a folder with one file per part, each written under a temporary
name and renamed, and read memory-mapped. `read_codes` also reads what other programs
write: a prior needs grids of whole numbers and nothing else.
"""

import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pixelprior.data.images import ImageData, fits_on
from pixelprior.files import temporary_folder, writable_folder, write_tensors
from pixelprior.layers import check_codes
from pixelprior.prior import level_names, level_number, per_level
from pixelprior.progress import progress_bar
from pixelprior.settings import check_positive

PART = 4096  # images per file
# Encoded at the same time: this many images, or fewer of large ones.
MOST_IMAGES, MOST_PIXELS = 256, 2**20
MOST_CODES = 2**16
FORMATS = (".safetensors", ".npz", ".npy")
PART_NAME = "part_{:05d}.safetensors"


class Rows:
    """Tensors of equal rows as one, without a copy: those of the parts on disk.

    It has `len`, `shape` and `dtype`; an index of images gives a tensor in memory.
    """

    def __init__(self, parts: list[Tensor]):
        self.parts = parts
        self.ends = torch.tensor([len(part) for part in parts]).cumsum(0)
        self.shape = torch.Size((int(self.ends[-1]), *parts[0].shape[1:]))
        self.dtype = parts[0].dtype
        self.device = parts[0].device

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

    grids: tuple[Tensor | Rows, ...]
    labels: Tensor | None
    num_embeddings: int | tuple[int, ...]
    class_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.grids[0])

    @property
    def z_top(self) -> Tensor | Rows:
        """The grids of the top level."""
        return self.grids[0]

    @property
    def z_bottom(self) -> Tensor | Rows:
        """The grids of the lower of two levels."""
        return self.grid("bottom")

    @property
    def level_names(self) -> tuple[str, ...]:
        """The names of the levels, as in `HierarchicalPixelCNN`."""
        return level_names(len(self.grids))

    def grid(self, level: str | int) -> Tensor | Rows:
        """The codes of one level, by its name or number."""
        return self.grids[level_number(level, len(self.grids))]

    def size_of(self, level: str | int) -> int:
        """The size of the codebook of one level."""
        count = len(self.grids)
        return per_level(self.num_embeddings, count)[level_number(level, count)]

    def batch(self, indices: Tensor) -> tuple[Tensor | None, ...]:
        """Arguments of a prior's `loss_function`: a grid per level, and the labels."""
        indices = indices.to(self.grids[0].device)
        labels = None if self.labels is None else self.labels[indices]
        return *(grid[indices].long() for grid in self.grids), labels

    def subset(self, indices) -> "CodeData":
        """A copy of the codes of some images; indices are numbers or booleans."""
        return replace(
            self,
            grids=tuple(grid[indices] for grid in self.grids),
            labels=None if self.labels is None else self.labels[indices],
        )

    def batches(self, parts) -> Iterator[tuple]:
        """The batch of each tensor of indices in `parts`, one after the other."""
        return map(self.batch, parts)

    def to(self, device) -> "CodeData":
        """The same data on another device, or here if there is no room for all of it:
        then batches are moved one by one."""
        nbytes = sum(grid.dtype.itemsize * grid.shape.numel() for grid in self.grids)
        if torch.device(device).type == "cpu" or not fits_on(device, nbytes):
            return self
        return replace(
            self,
            grids=tuple(grid[:].to(device) for grid in self.grids),
            labels=None if self.labels is None else self.labels.to(device),
        )

    def unigram_entropy(self, level: str | int) -> float:
        """Entropy of the frequencies of a level's codes, in nats per code.

        No model that ignores context can have a lower loss on the same codes.
        """
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
    """
    batches = torch.arange(len(data)).split(batch_size or images_at_once(data))
    encoded = list(_encoded(vqvae2, data, batches, progress))
    grids = tuple(torch.cat(grids) for grids in zip(*encoded, strict=True))
    return CodeData(grids, data.labels, vqvae2.num_embeddings, data.class_names)


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
    number of processes, and ends with the same files.

    Args:
        vqvae2, data, progress: as in `extract_codes`.
        folder: of the files. source: what the codes are made from, as in `save_codes`;
            parts of another source are written anew.
        process, processes: number of this process, and of all of them. All must see the
            same folder.
        wait: a function that returns when all processes have called it.
    """
    folder = writable_folder(folder)
    parts = torch.arange(len(data)).split(PART)
    paths = [folder / PART_NAME.format(number) for number in range(len(parts))]
    source = f"{len(data)} images in parts of {PART}\n{source}"
    missing = [i for i, path in enumerate(paths) if load_codes(path, source) is None]
    wait()  # every process must have read what is missing before one writes
    mine = missing[process::processes]
    size = images_at_once(data)
    batches = [batch for number in mine for batch in parts[number].split(size)]
    encoded = _encoded(vqvae2, data, batches, progress)
    for number in mine:
        done = [next(encoded) for _ in parts[number].split(size)]
        codes = CodeData(
            tuple(torch.cat(grids) for grids in zip(*done, strict=True)),
            data.labels[parts[number]],
            vqvae2.num_embeddings,
            data.class_names,
        )
        save_codes(codes, paths[number], source)
    wait()


def images_at_once(data) -> int:
    """How many images are encoded at the same time.

    It depends on their size alone and not on the memory that is free: in batches of
    another size, rounding may change a code.
    """
    (image,) = data.batch(torch.zeros(1, dtype=torch.long))
    height, width = image.shape[-2:]
    return max(1, min(MOST_IMAGES, MOST_PIXELS // (height * width)))


def _encoded(tokenizer, data, batches, progress: bool) -> Iterator[tuple[Tensor, ...]]:
    """The grids of codes of each batch of images, on the CPU, in the smallest types.

    Codes of a tokenizer of somebody else are checked here: in the smallest type, a code
    beyond the codebook would become another one.
    """
    sizes = per_level(tokenizer.num_embeddings, len(tokenizer.grids))
    names = level_names(len(sizes))
    device = next((each.device for each in tokenizer.parameters()), "cpu")
    bar = progress_bar(
        data.batches(batches),
        total=len(batches),
        desc=f"encoding {data.split}",
        unit="batch",
        enabled=progress,
    )
    for number, (images,) in enumerate(bar):
        found = tokenizer.get_code_indices(images.to(device)).values()
        grids = []
        each = zip(names, found, tokenizer.grids, sizes, strict=True)
        for name, grid, shape, size in each:
            check_codes(grid, size, f"the tokenizer's {name} codes")
            if tuple(grid.shape) != (len(images), *shape):
                raise ValueError(
                    f"the tokenizer's {name} codes have shape {list(grid.shape)}, but "
                    f"by its grids it is {[len(images), *shape]}; give the grids that "
                    f"it makes of an image of {list(images.shape[2:])} pixels"
                )
            grids.append(grid.to("cpu", smallest_integer_type(size)))
        if number == 0:  # found before a whole data set is encoded
            with torch.no_grad():
                on_device = (grid[:1].long().to(device) for grid in grids)
                rebuilt = tokenizer.decode_codes(*on_device)
            if rebuilt.shape != images[:1].shape:
                raise ValueError(
                    f"an image of shape {list(images.shape[1:])} is decoded as "
                    f"{list(rebuilt.shape[1:])}; give a tokenizer whose decode_codes "
                    "belongs to its get_code_indices"
                )
        yield tuple(grids)


def names_in_files(count: int) -> tuple[str, ...]:
    """The names of the grids of so many levels in a file of codes."""
    if count == 2:
        return "z_top", "z_bottom"
    return tuple(f"codes_{number}" for number in range(count))


def save_codes(codes: CodeData, path, source: str) -> None:
    """Write codes to a safetensors file; `source` names what they were made from."""
    names = names_in_files(len(codes.grids))
    tensors = {
        name: grid[:].clone() for name, grid in zip(names, codes.grids, strict=True)
    }
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
    """Codes that this package wrote; None if they are absent, damaged, or made from
    another `source`.

    Args:
        path: a file of `save_codes`, or a folder of `extract_codes_to_folder`.
    """
    path = Path(path)
    try:
        if path.is_dir():
            return _load_parts(path, source)
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            if source is not None and metadata["source"] != source:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        size = json.loads(metadata["num_embeddings"])
        return CodeData(
            tuple(tensors[name] for name in _names(tensors)),
            tensors.get("labels"),
            tuple(size) if isinstance(size, list) else size,
            tuple(json.loads(metadata["class_names"])),
        )
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None


def _load_parts(folder: Path, source: str | None) -> CodeData | None:
    first = folder / PART_NAME.format(0)
    with safe_open(first, framework="pt") as file:
        found = file.metadata()["source"]
    words, _, made_from = found.partition("\n")
    if source is not None and made_from != source:
        return None
    images, *_, size = words.split()  # "9000 images in parts of 4096"
    count = math.ceil(int(images) / max(1, int(size)))
    if count > len(os.listdir(folder)):  # what a file says may be any number
        return None
    paths = [folder / PART_NAME.format(number) for number in range(count)]
    parts = [load_codes(path, found) for path in paths]
    if None in parts:
        return None
    labels = torch.cat([part.labels for part in parts])
    if len(labels) != int(images):
        return None
    grids = zip(*(part.grids for part in parts), strict=True)
    grids = tuple(Rows(list(each)) if count > 1 else each[0] for each in grids)
    return replace(parts[0], grids=grids, labels=labels)


def _names(tensors) -> tuple[str, ...]:
    """The names of the grids among these tensors, from the top level down.

    Raises:
        ValueError: there are none, or some are missing.
    """
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
    path = Path(path)
    if path.is_dir():
        if (codes := load_codes(path)) is None:
            raise ValueError(
                f"{path} is no folder of codes, or some of its parts are missing; "
                "start the command that writes them again"
            )
        return codes
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; name a file of codes")
    if path.suffix not in FORMATS:
        raise ValueError(f"{path} is not of a known kind; give {', '.join(FORMATS)}")
    try:
        arrays, metadata = _arrays(path)
        size = json.loads(metadata.get("num_embeddings", "null"))
        class_names = tuple(json.loads(metadata.get("class_names", "[]")))
    except Exception as error:  # damaged files raise errors of many types
        raise ValueError(
            f"{path} cannot be read ({type(error).__name__}: {error}); it is cut short "
            "or of another kind than its name says; write it again"
        ) from error
    try:
        names = _names(arrays)
        for name in names:
            _check_grid(arrays[name], name)
        grids = [arrays[name] for name in names]
        if len({len(grid) for grid in grids}) > 1:
            counts = " and ".join(f"{len(arrays[name])} in {name}" for name in names)
            raise ValueError(f"it has {counts}; give all grids of each image")
        size = size if num_embeddings is None else num_embeddings
        if size is None:
            sizes = tuple(int(grid.max()) + 1 for grid in grids)
            size = max(sizes) if len(sizes) == 2 else sizes
        sizes = per_level(size, len(grids))
        for name, grid, of_level in zip(names, grids, sizes, strict=True):
            _check_range(grid, of_level, name)
        labels = arrays.get("labels")
        if labels is not None:
            labels = _checked_labels(labels, len(grids[0]))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error
    if labels is not None and labels.ndim == 1:
        count = int(labels.max()) + 1
        if len(class_names) < count:
            class_names = tuple(map(str, range(count)))
    kept = zip(grids, sizes, strict=True)
    kept = tuple(grid.to(smallest_integer_type(of_level)) for grid, of_level in kept)
    same = sizes[0] if len(set(sizes)) == 1 else sizes
    return CodeData(kept, labels, same, class_names)


def _arrays(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The arrays of a file by name, and its metadata if it has any."""
    metadata: dict[str, str] = {}
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    else:
        loaded = np.load(path, allow_pickle=False)
        loaded = {"codes": loaded} if path.suffix == ".npy" else dict(loaded)
        arrays = {name: torch.from_numpy(array) for name, array in loaded.items()}
    # Torch compares few of the unsigned types.
    unsigned = (torch.uint16, torch.uint32, torch.uint64)
    arrays = {
        name: array.long() if array.dtype in unsigned else array
        for name, array in arrays.items()
    }
    return arrays, metadata


def _check_grid(grid: Tensor, name: str) -> None:
    if grid.is_floating_point() or grid.is_complex() or grid.dtype == torch.bool:
        raise ValueError(f"{name} is {grid.dtype}; give whole numbers")
    if grid.ndim != 3 or 0 in grid.shape:
        raise ValueError(
            f"{name} is {list(grid.shape)}; give [N, H, W]: a grid of codes per image"
        )


def _check_range(grid: Tensor, num_embeddings: int, name: str) -> None:
    """Check that codes are from 0 to num_embeddings - 1; name the first that is not."""
    check_positive(num_embeddings=num_embeddings)
    if num_embeddings > MOST_CODES:
        raise ValueError(
            f"{name} needs a codebook of {num_embeddings} codes, but a prior has at "
            f"most {MOST_CODES}; number the codes from 0 without gaps"
        )
    # Without a tensor of the grid's size, which may be larger than memory.
    if int(grid.min()) < 0 or int(grid.max()) >= num_embeddings:
        wrong = (grid < 0) | (grid.long() >= num_embeddings)
        position = wrong.nonzero()[0].tolist()
        raise ValueError(
            f"{name} has code {grid[tuple(position)].item()} at {position}, but a "
            f"codebook of {num_embeddings} has codes 0 to {num_embeddings - 1}; give "
            "the size of the codebook as num_embeddings (--codebook_size), or correct "
            "the file"
        )


def _checked_labels(labels: Tensor, count: int) -> Tensor:
    """Labels as long [N], or as float vectors [N, D]."""
    vectors = labels.is_floating_point() and labels.ndim == 2 and labels.shape[1] > 0
    whole = labels.ndim == 1 and not (
        labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool
    )
    if not (whole or vectors) or len(labels) != count:
        raise ValueError(
            f"labels are {labels.dtype} {list(labels.shape)}; give a whole number, or "
            f"a vector of floats, for each of the {count} images, or leave them out"
        )
    if vectors:
        if not labels.isfinite().all():
            raise ValueError("labels are not all finite; give finite numbers")
        return labels.float()
    if labels.min() < 0:
        raise ValueError(
            f"labels go down to {labels.min()}; number the classes from 0, and leave "
            "out images whose class is not known"
        )
    return labels.long()
