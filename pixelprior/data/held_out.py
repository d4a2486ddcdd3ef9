"""Training images that are set aside to choose the best epoch by, and the others."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pixelprior.settings import check_share

MOST_VALIDATION_IMAGES = 5000


@dataclass
class Part:
    """Those images of any data that `training.fit` takes which have these `indices`,
    long [n], without a copy of them.

    `change(batch, indices)` may turn each batch into the one that is trained on, as the
    functions of `augmentation.py` do.
    """

    data: object
    indices: Tensor
    change: Callable[[tuple, Tensor], tuple] | None = None

    def __len__(self) -> int:
        return len(self.indices)

    def copied(self):
        """The data of this part alone, in memory and not changed."""
        return self.data.subset(self.indices)

    def batch(self, indices: Tensor) -> tuple:
        return next(self.batches([indices]))

    def batches(self, parts) -> Iterator[tuple]:
        chosen = [self.indices[indices] for indices in parts]
        for batch, indices in zip(self.data.batches(chosen), chosen, strict=True):
            yield batch if self.change is None else self.change(batch, indices)

    def to(self, device) -> "Part":
        return replace(self, data=self.data.to(device), indices=self.indices.to(device))


def hold_out(data, share: float) -> tuple[Part, object]:
    """Split training data into a part to train on and one to choose the best epoch by.

    For the same number of images, the same share holds out the same images, so that a
    VQ-VAE-2 and priors over its codes hold out the same ones, whatever their seeds.

    At least 1 image and at most MOST_VALIDATION_IMAGES are held out. The first result
    is a `Part`, so that data on disk stays there, and the second a copy; with a share
    of 0, they are all of the data and None.
    """
    check_share(validation_share=share)
    if share == 0:
        return Part(data, torch.arange(len(data))), None
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
