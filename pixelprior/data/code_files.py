"""Codes that other programs wrote: read from their files, and checked.

A prior needs grids of whole numbers and nothing else, so that it can be trained on the
codes of any tokenizer. `read_codes` reads one level or two, with labels or without.
"""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from pixelprior.data.codes import CodeData, smallest_integer_type
from pixelprior.ranges import check_positive

MOST_CODES = 2**16
FORMATS = (".safetensors", ".npz", ".npy")


def read_codes(path, num_embeddings: int | None = None) -> CodeData:
    """Read a file of codes.

    Args:
        path: a `.safetensors` or `.npz` file with `codes` [N, H, W] for a single level,
            or `z_top` [N, Ht, Wt] and `z_bottom` [N, Hb, Wb], and `labels` [N] if there
            are any; or an `.npy` file with one array [N, H, W]. All are whole numbers,
            of any integer type.
        num_embeddings: size of the codebook. None takes the number in the file, as
            `codes.save_codes` writes it, or one more than the largest code.

    Returns:
        `CodeData`; a single level is its z_top. Classes without names are named by
        their numbers.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be read, or what it has are no codes or labels.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; name a file of codes")
    if path.suffix not in FORMATS:
        raise ValueError(f"{path} is not of a known kind; give {', '.join(FORMATS)}")
    try:
        arrays, about = _arrays(path)
    except Exception as error:  # damaged files raise errors of many types
        raise ValueError(
            f"{path} cannot be read ({type(error).__name__}: {error}); it is cut short "
            "or of another kind than its name says; write it again"
        ) from error
    names = ("codes",) if "codes" in arrays else ("z_top", "z_bottom")
    if not set(names) <= arrays.keys():
        raise ValueError(
            f"{path} has {', '.join(arrays) or 'nothing'}; give codes for a single "
            "level, or z_top and z_bottom"
        )
    for name in names:
        _check_grid(arrays[name], f"{name} in {path}")
    grids = [arrays[name] for name in names]
    if len({len(grid) for grid in grids}) > 1:
        counts = " and ".join(f"{len(arrays[name])} in {name}" for name in names)
        raise ValueError(f"{path} has {counts}; give both grids of each image")
    if num_embeddings is None:
        largest = max(int(grid.max()) for grid in grids)
        num_embeddings = about.get("num_embeddings", largest + 1)
    check_positive(num_embeddings=num_embeddings)
    for name, grid in zip(names, grids, strict=True):
        _check_range(grid, num_embeddings, f"{name} in {path}")
    labels = arrays.get("labels")
    if labels is not None:
        _check_labels(labels, len(grids[0]), f"labels in {path}")
        labels = labels.long()
    kept = [grid.to(smallest_integer_type(num_embeddings)) for grid in grids]
    z_top, z_bottom = kept if len(kept) == 2 else (kept[0], None)
    count = 0 if labels is None else int(labels.max()) + 1
    class_names = tuple(about.get("class_names", ()))
    if len(class_names) < count:
        class_names = tuple(map(str, range(count)))
    return CodeData(z_top, z_bottom, labels, num_embeddings, class_names)


def _arrays(path: Path) -> tuple[dict[str, Tensor], dict]:
    """The arrays of a file by name; and its codebook's size and class names, if it was
    written by `codes.save_codes`."""
    about: dict = {}
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
        if {"num_embeddings", "class_names"} <= metadata.keys():
            about["num_embeddings"] = int(metadata["num_embeddings"])
            about["class_names"] = json.loads(metadata["class_names"])
    else:
        loaded = np.load(path, allow_pickle=False)
        loaded = {"codes": loaded} if path.suffix == ".npy" else dict(loaded)
        arrays = {name: torch.from_numpy(array) for name, array in loaded.items()}
    # Torch compares few of the unsigned types.
    unsigned = (torch.uint16, torch.uint32, torch.uint64)
    return {
        name: array.long() if array.dtype in unsigned else array
        for name, array in arrays.items()
    }, about


def _check_grid(grid: Tensor, where: str) -> None:
    if grid.is_floating_point() or grid.is_complex() or grid.dtype == torch.bool:
        raise ValueError(f"{where} is {grid.dtype}; give whole numbers")
    if grid.ndim != 3 or 0 in grid.shape:
        raise ValueError(
            f"{where} is {list(grid.shape)}; give [N, H, W]: a grid of codes per image"
        )


def _check_range(grid: Tensor, num_embeddings: int, where: str) -> None:
    """Check that codes are from 0 to num_embeddings - 1; name the first that is not."""
    if num_embeddings > MOST_CODES:
        raise ValueError(
            f"{where} needs a codebook of {num_embeddings} codes, but a prior has at "
            f"most {MOST_CODES}; number the codes from 0 without gaps"
        )
    # Without a tensor of the grid's size, which may be larger than memory.
    if int(grid.min()) < 0 or int(grid.max()) >= num_embeddings:
        wrong = (grid < 0) | (grid.long() >= num_embeddings)
        place = wrong.nonzero()[0].tolist()
        raise ValueError(
            f"{where} has code {grid[tuple(place)].item()} at {place}, but a codebook "
            f"of {num_embeddings} has codes 0 to {num_embeddings - 1}; give the size "
            "of the codebook as num_embeddings (--codebook_size), or correct the file"
        )


def _check_labels(labels: Tensor, count: int, where: str) -> None:
    whole = not (labels.is_floating_point() or labels.dtype == torch.bool)
    if not whole or labels.shape != (count,):
        raise ValueError(
            f"{where} are {labels.dtype} {list(labels.shape)}; give a whole number for "
            f"each of the {count} images, or leave them out"
        )
    if labels.min() < 0:
        raise ValueError(
            f"{where} go down to {labels.min()}; number the classes from 0, "
            "and leave out images whose class is not known"
        )
