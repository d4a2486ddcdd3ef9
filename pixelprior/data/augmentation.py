"""Training images that are mirrored and shifted at random, anew for each batch.

`AugmentedImages` takes the place of images in the training of a VQ-VAE-2, and
`EncodedImages` that of their codes in the training of a prior: codes cannot be mirrored
or shifted by themselves, so each batch of images is encoded again.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from pixelprior.data.codes import CodeData


def shifted_and_flipped(
    images: Tensor, reach: int = 2, flip: bool = True, repeat_edge: bool = False
) -> Tensor:
    """Images, each shifted at random, and half of them mirrored.

    Args:
        images: [B, C, H, W].
        reach: largest shift along each axis in pixels.
        flip: whether to mirror half of the images.
        repeat_edge: what enters from beyond an edge: True for the pixels of the edge,
            False for 0.

    Returns:
        [B, C, H, W]. The random numbers are those of torch's global generator.
    """
    (count, _, height, width), device = images.shape, images.device
    down, right = torch.randint(2 * reach + 1, (2, count, 1)).to(device)
    rows = torch.arange(height, device=device) + down  # [B, H]
    columns = torch.arange(width, device=device) + right  # [B, W]
    if flip:
        mirrored = (torch.rand(count, 1) < 0.5).to(device)
        columns = torch.where(mirrored, columns.flip(1), columns)
    mode = "replicate" if repeat_edge else "constant"
    padded = F.pad(images, (reach,) * 4, mode=mode)
    each = torch.arange(count, device=device)[:, None, None]
    # Tensors on both sides of the slice move the axis of the channels to the end.
    return padded[each, :, rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2)


@dataclass
class AugmentedImages:
    """Images to train a VQ-VAE-2 on, changed at random in each batch.

    Attributes:
        data: `ImageData`, `StreamedImages` or a part of them.
        flip, shift: as `flip` and `reach` of `shifted_and_flipped`.
    """

    data: object
    flip: bool = False
    shift: int = 0

    def __len__(self) -> int:
        return len(self.data)

    def batch(self, indices: Tensor) -> tuple[Tensor]:
        """The argument of `VQVAE2.loss_function`: images [B, C, H, W] in [0, 1]."""
        return next(self.batches([indices]))

    def batches(self, parts) -> Iterator[tuple[Tensor]]:
        """The batch of each tensor of indices in `parts`, one after the other."""
        for (images,) in self.data.batches(parts):
            yield (
                shifted_and_flipped(images, self.shift, self.flip, repeat_edge=True),
            )

    def to(self, device) -> "AugmentedImages":
        """The same data, with the images on another device."""
        return replace(self, data=self.data.to(device))


@dataclass
class EncodedImages:
    """Images to train a prior on, encoded batch by batch.

    Attributes:
        images: the images, such as `AugmentedImages`.
        labels: long [N], or None.
        vqvae2: the VQ-VAE-2 that encodes them, on the device of the training.
        prepare: a function from a batch's codes to those that the prior is given.
    """

    images: object
    labels: Tensor | None
    vqvae2: object
    prepare: Callable[[CodeData], CodeData] = lambda codes: codes

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: Tensor) -> tuple:
        """Arguments of a prior's `loss_function`: both grids and the labels."""
        return next(self.batches([indices]))

    def batches(self, parts) -> Iterator[tuple]:
        """The batch of each tensor of indices in `parts`, one after the other."""
        parts = list(parts)
        for indices, (images,) in zip(parts, self.images.batches(parts), strict=True):
            device = next(self.vqvae2.parameters()).device
            codes = self.vqvae2.get_code_indices(images.to(device))
            labels = None if self.labels is None else self.labels[indices.cpu()]
            encoded = CodeData(
                tuple(codes.values()),
                labels if labels is None else labels.to(device),
                self.vqvae2.num_embeddings,
            )
            yield self.prepare(encoded).batch(torch.arange(len(indices)))

    def to(self, device) -> "EncodedImages":
        """The same data, with the images on another device."""
        return replace(self, images=self.images.to(device))
