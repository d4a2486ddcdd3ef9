"""Training images that are set aside to choose the best epoch by, and the others."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pixelprior.settings import check_share

MOST_VALIDATION_IMAGES = 5000


@dataclass
class Part:
    """Some images of a data set, or their codes, without a copy of them.

    Attributes:
        data: `ImageData`, `CodeData`, or other data that `training.fit` takes.
        indices: long [n], which of its images these are.
    """

    data: object
    indices: Tensor

    def __len__(self) -> int:
        return len(self.indices)

    def copied(self):
        """The data of this part alone, in memory."""
        return self.data.subset(self.indices)

    def batch(self, indices: Tensor) -> tuple:
        """Arguments of a `loss_function`, for some of the images of this part."""
        return self.data.batch(self.indices[indices])

    def batches(self, parts) -> Iterator[tuple]:
        """The batch of each tensor of indices in `parts`, one after the other."""
        return self.data.batches([self.indices[indices] for indices in parts])

    def to(self, device) -> "Part":
        """The same part, with its data on another device."""
        return Part(self.data.to(device), self.indices.to(device))


def hold_out(data, share: float):
    """Split training data into a part to train on and one to choose the best epoch by.

    For the same number of images, the same share holds out the same images, so that a
    VQ-VAE-2 and priors over its codes hold out the same ones, whatever their seeds.

    Args:
        data: `ImageData` or `CodeData` of N images.
        share: share of the images to hold out, from 0 to below 1. At least 1 image and
            at most MOST_VALIDATION_IMAGES are held out; with 0, none.

    Returns:
        (training data, validation data). The first is a `Part`, so that data on disk
        stays there; with a share of 0, it is the data itself, and the second None.

    Raises:
        ValueError: share is out of its range, or there is only one image to split.
    """
    check_share(validation_share=share)
    if share == 0:
        return data, None
    if len(data) < 2:
        raise ValueError(
            "1 training image cannot be both trained on and held out; give more, or "
            "--validation_share 0"
        )
    count = min(max(1, round(share * len(data))), MOST_VALIDATION_IMAGES, len(data) - 1)
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
    chosen = torch.zeros(len(data), dtype=torch.bool)
    chosen[order[:count]] = True
    return Part(data, (~chosen).nonzero()[:, 0]), data.subset(chosen)
