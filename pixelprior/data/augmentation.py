"""Training images that are mirrored and shifted at random, anew for each batch.

`augmented` changes the images that a VQ-VAE-2 is trained on. Codes cannot be mirrored
or shifted by themselves, so that `augmented_and_encoded` encodes the images of each
batch again to train a prior. Both are changes of a `Part`.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from pixelprior.data.codes import CodeData


def shifted_and_flipped(
    images: Tensor, reach: int = 2, flip: bool = True, repeat_edge: bool = False
) -> Tensor:
    """Images [B, C, H, W], each shifted at random by up to `reach` pixels along each
    axis, and half of them mirrored if `flip`.

    What enters from beyond an edge is 0, or the pixels of the edge with `repeat_edge`.
    The random numbers are those of torch's global generator.
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


def augmented(batch, _indices, *, flip: bool = False, shift: int = 0) -> tuple[Tensor]:
    """A batch of images, half of them mirrored if `flip`, and each shifted by up to
    `shift` pixels."""
    (images,) = batch
    return (shifted_and_flipped(images, shift, flip, repeat_edge=True),)


def augmented_and_encoded(
    batch,
    indices: Tensor,
    *,
    vqvae2,
    labels: Tensor | None,
    prepare: Callable[[CodeData], CodeData] = lambda codes: codes,
    **how,
) -> tuple:
    """The codes of a batch of `augmented` images, as `CodeData.batch` has them.

    Args:
        vqvae2: on the device where the images are encoded.
        labels: of all images, long [N], or None; `indices` are those of the batch.
        prepare: turns the codes of a batch into those that the prior is given.
        how: flip and shift, as in `augmented`.
    """
    (images,) = augmented(batch, indices, **how)
    device = next(vqvae2.parameters()).device
    codes = vqvae2.get_code_indices(images.to(device))
    if labels is not None:
        labels = labels[indices.cpu()].to(device)
    encoded = CodeData(tuple(codes.values()), labels, vqvae2.num_embeddings)
    return prepare(encoded).batch(torch.arange(len(images)))
