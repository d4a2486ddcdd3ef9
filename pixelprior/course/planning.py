"""What a configuration needs before it is trained: parameters, memory, multiply-adds.

Memory is counted, not measured: the bytes that autograd keeps for the backward pass, at
two small batches on the processor. They grow by as much with each image, so that two
counts give any batch. What a GPU's own libraries take, and tensors that live for a
moment, come on top. Nothing here trains, and nothing is timed.
"""

from dataclasses import dataclass
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from pixelprior.counting import multiply_adds
from pixelprior.ranges import check_positive
from pixelprior.vqvae2 import VQVAE2

# Of each parameter the training loop holds, in float32: the weight, its gradient,
# AdamW's two moments, the moving average, and the best so far.
COPIES = {
    "weights": 1,
    "gradients": 1,
    "moments of AdamW": 2,
    "averaged and best": 2,
}
KEPT = "for the backward pass"
FLOAT32 = 4  # bytes
SMALL_BATCHES = (2, 4)


@dataclass(frozen=True)
class Plan:
    """What training a configuration takes.

    Attributes:
        parameters: numbers that are trained.
        kept_once: bytes kept for the backward pass whatever the batch, such as weights
            in bf16.
        kept_per_image: bytes that each image of the batch adds.
        multiply_adds: of a training step, forward and backward, for each image.
    """

    parameters: int
    kept_once: int
    kept_per_image: int
    multiply_adds: int

    def parts(self, batch_size: int) -> dict[str, int]:
        """Bytes by what they are for, at `batch_size` images per step."""
        check_positive(batch_size=batch_size)
        parts = {
            name: copies * FLOAT32 * self.parameters for name, copies in COPIES.items()
        }
        return parts | {KEPT: self.kept_once + batch_size * self.kept_per_image}

    def bytes_at(self, batch_size: int) -> int:
        """Bytes of a training step of `batch_size` images on one device."""
        return sum(self.parts(batch_size).values())


def plan(
    model_class,
    *,
    mixed_precision: str = "no",
    top_size: int = 8,
    **arguments,
) -> Plan:
    """Plan the training of `model_class(**arguments)`.

    Args:
        model_class: `VQVAE2` or `HierarchicalPixelCNN`.
        mixed_precision: "no" for float32, or "bf16", by autocast as training has it.
        top_size: side of the top grid, for a prior; the bottom grid has twice that.
        arguments: of the model.

    Raises:
        ValueError: an argument is out of its range.
    """
    check_positive(top_size=top_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = model_class(**arguments).train()
        if isinstance(model, VQVAE2):  # its codebooks start with the first batch
            enough = -(-model.num_embeddings // model.latent_spatial_dim_top**2)
            with torch.no_grad():
                model.loss_function(*example_batch(model, enough))
        few, more = (example_batch(model, size, top_size) for size in SMALL_BATCHES)
        kept = [
            kept_for_backward(model, batch, mixed_precision) for batch in (few, more)
        ]
        counted = multiply_adds(
            lambda: model.loss_function(*few)["total_loss"].backward()
        )
    an_image = (kept[1] - kept[0]) // (SMALL_BATCHES[1] - SMALL_BATCHES[0])
    return Plan(
        parameters=sum(p.numel() for p in model.parameters()),
        kept_once=kept[0] - SMALL_BATCHES[0] * an_image,
        kept_per_image=an_image,
        multiply_adds=counted // SMALL_BATCHES[0],
    )


def parameter_count(model_class, **arguments) -> int:
    """Parameters of `model_class(**arguments)`, built without taking any memory."""
    with torch.device("meta"):
        model = model_class(**arguments)
    return sum(parameter.numel() for parameter in model.parameters())


def kept_for_backward(model: nn.Module, batch, mixed_precision: str = "no") -> int:
    """Bytes that autograd keeps from `model.loss_function(*batch)` for the backward
    pass: each block of memory once, parameters and buffers of the model left out.

    Raises:
        ValueError: `mixed_precision` is neither "no" nor "bf16".
    """
    if mixed_precision not in ("no", "bf16"):
        raise ValueError(f"mixed_precision is {mixed_precision!r}; give 'no' or 'bf16'")
    own = {
        tensor.untyped_storage().data_ptr()
        for tensor in (*model.parameters(), *model.buffers())
    }
    # Weakly, so that what autograd lets go of before the end is not counted.
    kept: WeakSet[_Kept] = WeakSet()

    def keep(tensor: Tensor) -> _Kept:
        held = _Kept(tensor)
        kept.add(held)
        return held

    low = torch.autocast("cpu", torch.bfloat16, enabled=mixed_precision == "bf16")
    with low, saved_tensors_hooks(keep, lambda held: held.tensor):
        loss = model.loss_function(*batch)["total_loss"]
    blocks = [held.tensor.untyped_storage() for held in kept]
    sizes = {block.data_ptr(): block.nbytes() for block in blocks}
    del loss  # until here it held what the backward pass needs
    return sum(size for address, size in sizes.items() if address not in own)


class _Kept:
    """A tensor that autograd keeps, in a form that can be referred to weakly."""

    def __init__(self, tensor: Tensor):
        self.tensor = tensor


def example_batch(model: nn.Module, batch_size: int, top_size: int = 8) -> tuple:
    """A batch for `model.loss_function`: random images for a `VQVAE2`, else random
    codes of a top grid of `top_size` and a bottom grid of twice that, with labels for a
    prior that has classes."""
    check_positive(batch_size=batch_size)
    if isinstance(model, VQVAE2):
        side = model.image_size
        return (torch.rand(batch_size, model.in_channels, side, side),)
    grids = [
        torch.randint(model.num_embeddings, (batch_size, side, side))
        for side in (top_size, 2 * top_size)
    ]
    if model.num_classes is None:
        return (*grids, None)
    return (*grids, torch.randint(model.num_classes, (batch_size,)))
