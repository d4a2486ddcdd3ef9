"""Make `fashion_mnist_mini.npz` from the full Fashion-MNIST.

Run `python tools/make_fashion_mnist_mini.py --data_root FOLDER` with the four files
unpacked in FOLDER/FashionMNIST/raw. The first 600 training and the first 100 test
images of each class are kept, in their order. No image is selected and no random number
is drawn, so that the file is the same each time.
"""

import argparse
import zipfile
from pathlib import Path

import numpy as np
import torch
from torchvision.datasets import FashionMNIST

from pixelprior.assets import FOLDER

PER_CLASS = {"train": 600, "test": 100}


def first_of_each_class(labels: torch.Tensor, per_class: int) -> torch.Tensor:
    """Indices of the first `per_class` items of each class, in rising order."""
    kept = [
        (labels == label).nonzero().flatten()[:per_class] for label in labels.unique()
    ]
    return torch.cat(kept).sort().values


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write an .npz file, and print its size. LZMA, which numpy reads too, makes these
    images smaller by a seventh than numpy's own compression does."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy")
            entry.compress_type = zipfile.ZIP_LZMA
            with archive.open(entry, "w") as file:
                np.lib.format.write_array(file, array)
    print(f"{path.name}: {path.stat().st_size:,} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_root", required=True)
    arguments = parser.parse_args()
    arrays = {}
    for split, per_class in PER_CLASS.items():
        full = FashionMNIST(arguments.data_root, train=split == "train")
        kept = first_of_each_class(full.targets, per_class)
        arrays[f"{split}_images"] = full.data[kept].numpy()
        arrays[f"{split}_labels"] = full.targets[kept].to(torch.uint8).numpy()
    write_arrays(FOLDER / "fashion_mnist_mini.npz", arrays)


if __name__ == "__main__":
    main()
