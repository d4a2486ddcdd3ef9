"""The codes of a whole data set, extracted once and kept in the smallest integer type.

`CodeData` returns batches in the form that the `loss_function` of a prior takes, so
that no image is encoded again while a prior is trained.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pixelprior.data.code_writer import CodeWriter
from pixelprior.data.images import ImageData
from pixelprior.files import temporary_folder, writable_folder, write_tensors
from pixelprior.memory import fits_on
from pixelprior.progress import progress_bar
from pixelprior.validation import check_codes

COUNTED = 10_000  # images whose codes are counted at the same time
# Encoded at the same time: this many images, or fewer of large ones.
MOST_IMAGES, MOST_PIXELS = 256, 2**20


@dataclass
class CodeData:
    """The codes of one split, of two levels or of one.

    Attributes:
        z_top: [N, Ht, Wt]. z_bottom: [N, Hb, Wb], or None for codes of a single level,
            which are in z_top. Both in the smallest integer type that holds the
            codebook.
        labels: long [N], or None to train without labels.
        num_embeddings: size of the codebook.
        class_names: names of the labels 0, 1, …
    """

    z_top: Tensor
    z_bottom: Tensor | None
    labels: Tensor | None
    num_embeddings: int
    class_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.z_top)

    def batch(self, indices: Tensor) -> tuple[Tensor | None, ...]:
        """Arguments of a prior's `loss_function`: both grids and the labels, or for a
        single level, its grid and the labels."""
        indices = indices.to(self.z_top.device)
        grids = [self.z_top] if self.z_bottom is None else [self.z_top, self.z_bottom]
        labels = None if self.labels is None else self.labels[indices]
        return *(grid[indices].long() for grid in grids), labels

    def subset(self, indices: Tensor) -> "CodeData":
        """A copy of the codes of some images; indices are numbers or booleans."""
        return replace(
            self,
            z_top=self.z_top[indices],
            z_bottom=None if self.z_bottom is None else self.z_bottom[indices],
            labels=None if self.labels is None else self.labels[indices],
        )

    def batches(self, parts) -> Iterator[tuple]:
        """The batch of each tensor of indices in `parts`, one after the other."""
        return map(self.batch, parts)

    def to(self, device) -> "CodeData":
        """The same data on another device, or here if there is no room for all of it:
        then batches are moved one by one."""
        grids = [self.grid(name) for name in self.levels()]
        if not fits_on(device, sum(grid.nbytes for grid in grids)):
            return self
        return replace(
            self,
            z_top=self.z_top.to(device),
            z_bottom=None if self.z_bottom is None else self.z_bottom.to(device),
            labels=None if self.labels is None else self.labels.to(device),
        )

    def grid(self, level: str) -> Tensor:
        """The codes of one level: "top" or "bottom", or for a single level "codes"."""
        return {"top": self.z_top, "bottom": self.z_bottom, "codes": self.z_top}[level]

    def levels(self) -> tuple[str, ...]:
        """The names of the levels."""
        return ("codes",) if self.z_bottom is None else ("top", "bottom")

    def unigram_entropy(self, level: str) -> float:
        """Entropy of the frequencies of a level's codes, in nats per code.

        No model that ignores context can have a lower loss on the same codes.

        Args:
            level: "top" or "bottom".
        """
        counts = self.counts(level).double()
        return torch.distributions.Categorical(probs=counts).entropy().item()

    def counts(self, level: str) -> Tensor:
        """How often each code of a level occurs, long [num_embeddings]."""
        counts = torch.zeros(self.num_embeddings, dtype=torch.long)
        for some in self.grid(level).split(COUNTED):
            codes = some.reshape(-1).int().cpu()
            counts += torch.bincount(codes, minlength=self.num_embeddings)
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
        vqvae2: the VQ-VAE-2, or another `tokenizers.Tokenizer`, on the device where the
            images are encoded.
        data: images of the model's size and channels.
        batch_size: images per batch; None for 256, or fewer of images of more than
            64×64 pixels.
        progress: show a progress bar.
    """
    batches = torch.arange(len(data)).split(batch_size or images_at_once(data))
    encoded = _encoded(vqvae2, data, batches, progress)
    names = _grid_names(vqvae2)
    whole = {name: [] for name in names}
    for codes in encoded:
        for name in names:
            whole[name].append(codes[name])
    z_top, *z_bottom = (torch.cat(whole[name]) for name in names)
    return CodeData(
        z_top,
        z_bottom[0] if z_bottom else None,
        data.labels,
        vqvae2.num_embeddings,
        data.class_names,
    )


def extract_codes_to_file(
    vqvae2,
    data: ImageData,
    path,
    source: str,
    *,
    process: int = 0,
    processes: int = 1,
    wait=lambda: None,
    batch_size: int | None = None,
    progress: bool = False,
) -> None:
    """Encode all images of a split into a file, each process its share of them.

    If it is stopped, a second call goes on where the first was, on any number of
    processes, and ends with the same file.

    Args:
        vqvae2, data, batch_size, progress: as in `extract_codes`.
        path, source: as in `save_codes`.
        process, processes: number of this process, and of all of them. All must see the
            same file.
        wait: a function that returns when all processes have called it.
    """
    names, dtype = _grid_names(vqvae2), smallest_integer_type(vqvae2.num_embeddings)
    tensors = {
        name: (dtype, (len(data), *shape))
        for name, shape in zip(names, vqvae2.grids, strict=True)
    }
    tensors["labels"] = (torch.int64, (len(data),))
    about = metadata_of(vqvae2.num_embeddings, data.class_names, source)
    writer = CodeWriter(path, tensors, about)
    if process == 0:
        writer.prepare()
    wait()
    mine = writer.missing()[process::processes]
    wait()  # every process must have read what is missing before one writes
    images, batch_size = torch.arange(len(data)), batch_size or images_at_once(data)
    parts = [images[writer.images(number)].split(batch_size) for number in mine]
    batches = [batch for part in parts for batch in part]
    encoded = _encoded(vqvae2, data, batches, progress)
    for number, part in zip(mine, parts, strict=True):
        done = [next(encoded) for _ in part]
        grids = {name: torch.cat([each[name] for each in done]) for name in names}
        writer.write(number, grids | {"labels": data.labels[writer.images(number)]})
    wait()
    if process == 0:
        writer.finish()
    wait()


def images_at_once(data) -> int:
    """How many images are encoded at the same time.

    It depends on their size alone and not on the memory that is free: in batches of
    another size, rounding may change a code.
    """
    (image,) = data.batch(torch.zeros(1, dtype=torch.long))
    height, width = image.shape[-2:]
    return max(1, min(MOST_IMAGES, MOST_PIXELS // (height * width)))


def _grid_names(vqvae2) -> tuple[str, ...]:
    return ("codes",) if len(vqvae2.grids) == 1 else ("z_top", "z_bottom")


def _encoded(vqvae2, data, batches, progress: bool) -> Iterator[dict[str, Tensor]]:
    """The codes of each batch of images by name, on the CPU, in the smallest type."""
    dtype = smallest_integer_type(vqvae2.num_embeddings)
    device = next((each.device for each in vqvae2.parameters()), "cpu")
    names = _grid_names(vqvae2)
    tried = False
    for (images,) in progress_bar(
        data.batches(batches),
        total=len(batches),
        desc=f"encoding {data.split}",
        unit="batch",
        enabled=progress,
    ):
        grids = _checked(vqvae2, vqvae2.get_code_indices(images.to(device)), images)
        if not tried:
            _check_decoding(vqvae2, [grid[:1] for grid in grids], images[:1])
            tried = True
        encoded = [grid.to("cpu", dtype) for grid in grids]
        yield dict(zip(names, encoded, strict=True))


def _checked(tokenizer, codes: dict[str, Tensor], images: Tensor) -> list[Tensor]:
    """The grids of codes [B, h, w] of a tokenizer, if they are what it says of them.

    In the smallest integer type a code beyond the codebook would become another one,
    and a file of codes has room for grids of the stated shape alone.
    """
    grids = []
    for level, shape in zip(("top", "bottom"), tokenizer.grids, strict=False):
        grid, name = codes[f"indices_{level}"], f"the tokenizer's {level} codes"
        check_codes(grid, tokenizer.num_embeddings, name)
        if tuple(grid.shape) != (len(images), *shape):
            raise ValueError(
                f"{name} have shape {list(grid.shape)}, but by its grids it is "
                f"{[len(images), *shape]}; give the grids that it makes of an image of "
                f"{images.shape[2]}×{images.shape[3]} pixels"
            )
        grids.append(grid)
    return grids


def _check_decoding(tokenizer, grids: list[Tensor], image: Tensor) -> None:
    """Raise ValueError unless codes of an image [1, C, H, W] are decoded to its shape,
    which is found here before a data set is encoded."""
    with torch.no_grad():
        rebuilt = tokenizer.decode_codes(*grids)
    if rebuilt.shape != image.shape:
        raise ValueError(
            f"an image of shape {list(image.shape[1:])} is decoded as "
            f"{list(rebuilt.shape[1:])}; give a tokenizer whose decode_codes belongs "
            "to its get_code_indices"
        )


def metadata_of(num_embeddings: int, class_names, source: str) -> dict[str, str]:
    """What a file of codes says of them."""
    return {
        "num_embeddings": str(num_embeddings),
        "class_names": json.dumps(class_names),
        "source": source,
    }


def save_codes(codes: CodeData, path, source: str) -> None:
    """Write codes to a safetensors file; `source` names what they were made from."""
    grids = {"codes": codes.z_top}
    if codes.z_bottom is not None:
        grids = {"z_top": codes.z_top, "z_bottom": codes.z_bottom}
    tensors = {name: grid.clone() for name, grid in grids.items()}
    if codes.labels is not None:
        tensors["labels"] = codes.labels
    metadata = metadata_of(codes.num_embeddings, codes.class_names, source)
    path = Path(path)
    with temporary_folder(writable_folder(path.parent)) as temporary:
        write_tensors(tensors, temporary / path.name, metadata)
        os.replace(temporary / path.name, path)


def load_codes(path, source: str | None = None) -> CodeData | None:
    """Read codes; None if the file is absent, damaged, or from another `source`."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            if source is not None and metadata["source"] != source:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return CodeData(
            tensors["codes"] if "codes" in tensors else tensors["z_top"],
            None if "codes" in tensors else tensors["z_bottom"],
            tensors.get("labels"),
            int(metadata["num_embeddings"]),
            tuple(json.loads(metadata["class_names"])),
        )
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None
