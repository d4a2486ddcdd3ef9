"""Computes what training a configuration will need: parameters, memory, multiply-adds.

Memory is counted, not measured. What is counted are the bytes that autograd keeps for
the backward pass, on the CPU and at two small batch sizes. These bytes grow by the same
amount with each image, so that two counts give the bytes at any batch size. The memory
that a GPU's own libraries and short-lived tensors take comes on top. Nothing here
trains a model, and nothing is timed: `measured_speeds` and `tried_runs` read what was
measured before.
"""

import json
import math
import re
from dataclasses import dataclass
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from pixelprior.assets import FOLDER as ASSETS
from pixelprior.benchmark.counting import multiply_adds
from pixelprior.settings import check_positive
from pixelprior.vqvae2 import VQVAE2

# For each parameter, the training loop holds six numbers in float32: the weight, its
# gradient, AdamW's two moments, the moving average, and the best average so far.
COPIES = {
    "weights": 1,
    "gradients": 1,
    "moments of AdamW": 2,
    "averaged and best": 2,
}
KEPT = "for the backward pass"
FLOAT32 = 4  # bytes
SMALL_BATCHES = (1, 2)
TRAINING_IMAGES = 60_000  # of Fashion-MNIST


@dataclass(frozen=True)
class Plan:
    """What training a configuration needs.

    Attributes:
        parameters: number of parameters.
        kept_once: bytes kept for the backward pass at any batch size, such as weights
            in bf16.
        kept_per_image: bytes that each image of the batch adds.
        multiply_adds: multiply-adds per image of a training step, forward and backward.
    """

    parameters: int
    kept_once: int
    kept_per_image: int
    multiply_adds: int

    def parts(self, batch_size: int) -> dict[str, int]:
        """Bytes by their purpose, at `batch_size` images per step."""
        check_positive(batch_size=batch_size)
        parts = {
            name: copies * FLOAT32 * self.parameters for name, copies in COPIES.items()
        }
        return parts | {KEPT: self.kept_once + batch_size * self.kept_per_image}

    def bytes_at(self, batch_size: int) -> int:
        """Bytes that a training step of `batch_size` images takes on one device."""
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
        mixed_precision: "no" for float32, or "bf16" for autocast as in training.
        top_size: side of the top grid, for a prior; the bottom grid has twice that
            side.
        arguments: arguments of the model.
    """
    check_positive(top_size=top_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = model_class(**arguments).train()
        if isinstance(model, VQVAE2):  # the first batch initializes its codebooks
            enough = math.ceil(model.num_embeddings / math.prod(model.grids[0]))
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
    """Number of parameters of `model_class(**arguments)`.

    The model is built on the meta device, where parameters take no memory.
    """
    with torch.device("meta"):
        model = model_class(**arguments)
    return sum(parameter.numel() for parameter in model.parameters())


def kept_for_backward(model: nn.Module, batch, mixed_precision: str = "no") -> int:
    """Bytes that autograd keeps from `model.loss_function(*batch)` for the backward
    pass.

    Each block of memory is counted once. The parameters and buffers of the model are
    not counted.
    """
    if mixed_precision not in ("no", "bf16"):
        raise ValueError(f"mixed_precision is {mixed_precision!r}; give 'no' or 'bf16'")
    own = {
        tensor.untyped_storage().data_ptr()
        for tensor in (*model.parameters(), *model.buffers())
    }
    # References are weak, so that tensors which autograd releases early do not count.
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
    del loss  # until here the loss held what the backward pass needs
    return sum(size for address, size in sizes.items() if address not in own)


class _Kept:
    """A tensor that autograd keeps, wrapped so that weak references to it work."""

    def __init__(self, tensor: Tensor):
        self.tensor = tensor


def example_batch(model: nn.Module, batch_size: int, top_size: int = 8) -> tuple:
    """A random batch for `model.loss_function`.

    A `VQVAE2` gets images. A prior gets the codes of a top grid with side `top_size`
    and of a bottom grid with twice that side, and labels if the prior has classes.
    """
    check_positive(batch_size=batch_size)
    if isinstance(model, VQVAE2):
        return (torch.rand(batch_size, model.in_channels, *model.image_shape),)
    grids = [
        torch.randint(model.num_embeddings, (batch_size, side, side))
        for side in (top_size, 2 * top_size)
    ]
    if model.num_classes is None:
        return (*grids, None)
    return (*grids, torch.randint(model.num_classes, (batch_size,)))


def measured_speeds() -> dict[str, float]:
    """Images per second of the trainings that were measured on two cores, by name.

    The numbers are in `assets/results`: the epochs of the recipe `cifar10_reduced` in
    its log, the fastest epoch of the shipped prior in `recipe.json` (other programs ran
    beside some of its epochs), and the steps per second of `pixelprior benchmark
    --training` in `training.json`. All were trained in bf16.
    """
    results = ASSETS / "results"
    log = (results / "cifar10_reduced.log").read_text(encoding="utf-8")
    reduced, recipe, benchmark = (
        json.loads((results / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("cifar10_reduced", "recipe", "training")
    )

    def seconds(part: str) -> int:
        """Those of the epoch of a part, with its held-out images."""
        return int(re.search(rf"== {part},.*?, (\d+) s\n", log, re.DOTALL)[1])

    images, flags = reduced["data"]["training_images"], recipe["prior"]
    held_out = float(flags.get("validation_share", 0))
    trained = TRAINING_IMAGES - min(5000, round(held_out * TRAINING_IMAGES))
    shipped = trained / recipe["seconds_of_the_fastest_epoch"]["prior"]
    steps = benchmark["loops"]["fit"]["steps_per_second"][0]
    return {
        "cifar10_reduced, VQ-VAE-2": images / seconds("VQ-VAE-2"),
        "cifar10_reduced, prior": images / seconds("prior"),
        "shipped prior": shipped,
        "benchmark": benchmark["sizes"]["batch_size"] * steps,
    }


def tried_runs() -> dict[str, list[dict]]:
    """What was tried for a lower loss, by option, from `assets/results/tried.json`.

    Each option has one run per seed, with its `nats_per_image` on held-out images and
    its `steps`. "base" is the run in which nothing was changed.
    """
    path = ASSETS / "results" / "tried.json"
    runs: dict[str, list[dict]] = {}
    for run in json.loads(path.read_text(encoding="utf-8"))["tried"]:
        runs.setdefault(run["option"], []).append(run)
    return runs
