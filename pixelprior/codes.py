"""The codes of a whole data set, extracted once and kept in the smallest integer type.

`CodeData` returns batches in the form that the `loss_function` of a prior takes, so
that no image is encoded again while a prior is trained.
"""

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pixelprior.checkpoints import write_tensors
from pixelprior.data import ImageData
from pixelprior.files import (
    temporary_folder,
    writable_folder,
)
from pixelprior.progress import progress_bar


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
        grids = [self.z_top] if self.z_bottom is None else [self.z_top, self.z_bottom]
        labels = None if self.labels is None else self.labels[indices]
        return *(grid[indices].long() for grid in grids), labels

    def to(self, device) -> "CodeData":
        """The same data on another device."""
        return replace(
            self,
            z_top=self.z_top.to(device),
            z_bottom=None if self.z_bottom is None else self.z_bottom.to(device),
            labels=None if self.labels is None else self.labels.to(device),
        )

    def grid(self, level: str) -> Tensor:
        """The codes of one level, "top" or "bottom": [N, H, W]."""
        return {"top": self.z_top, "bottom": self.z_bottom}[level]

    def unigram_entropy(self, level: str) -> float:
        """Entropy of the frequencies of a level's codes, in nats per code.

        No model that ignores context can have a lower loss on the same codes.

        Args:
            level: "top" or "bottom".
        """
        codes = self.grid(level).reshape(-1).int().cpu()  # Apple's GPUs lack float64
        counts = torch.bincount(codes, minlength=self.num_embeddings)
        return torch.distributions.Categorical(probs=counts.double()).entropy().item()


def smallest_integer_type(num_embeddings: int) -> torch.dtype:
    """The smallest type that holds codes 0 to num_embeddings - 1."""
    if num_embeddings <= 2**8:
        return torch.uint8
    return torch.int16 if num_embeddings <= 2**15 else torch.int32


def extract_codes(
    vqvae2, data: ImageData, *, batch_size: int = 256, progress: bool = False
) -> CodeData:
    """Encode all images of a split.

    Args:
        vqvae2: the VQ-VAE-2, or another `tokenizers.Tokenizer`, on the device where the
            images are encoded.
        data: images of the model's size and channels.
        batch_size: images per batch.
        progress: show a progress bar.

    Raises:
        ValueError: the images do not fit the model.
    """
    dtype = smallest_integer_type(vqvae2.num_embeddings)
    device = next((each.device for each in vqvae2.parameters()), "cpu")
    grids: list[list[Tensor]] = [[] for _ in vqvae2.grids]
    starts = range(0, len(data), batch_size)
    for start in progress_bar(
        starts, desc=f"encoding {data.split}", unit="batch", enabled=progress
    ):
        (images,) = data.batch(slice(start, start + batch_size))
        codes = vqvae2.get_code_indices(images.to(device))
        for level, parts in zip(("top", "bottom"), grids, strict=False):
            parts.append(codes[f"indices_{level}"].to("cpu", dtype))
    z_top, *z_bottom = map(torch.cat, grids)
    return CodeData(
        z_top,
        z_bottom[0] if z_bottom else None,
        data.labels,
        vqvae2.num_embeddings,
        data.class_names,
    )


def save_codes(codes: CodeData, path, source: str) -> None:
    """Write codes to a safetensors file; `source` names what they were made from."""
    grids = {"codes": codes.z_top}
    if codes.z_bottom is not None:
        grids = {"z_top": codes.z_top, "z_bottom": codes.z_bottom}
    tensors = {name: grid.clone() for name, grid in grids.items()}
    if codes.labels is not None:
        tensors["labels"] = codes.labels
    metadata = {
        "num_embeddings": str(codes.num_embeddings),
        "class_names": json.dumps(codes.class_names),
        "source": source,
    }
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
