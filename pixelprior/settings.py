"""Settings, each declared once: of the network, of a training run and of sampling.

The constructors, `config.json` and the flags of the command line come from these
dataclasses, and each is checked when it is made, so that nothing below checks it again.
An error names the value, the limit and the remedy. Nothing here loads torch, so that
`--help` answers at once.
"""

import math
import operator
import re
from dataclasses import dataclass
from numbers import Real
from typing import Literal, get_args


def whole_number(value) -> int | None:
    """A whole number of any library's type as an int; None for all else and bools."""
    if isinstance(value, bool) or str(getattr(value, "dtype", "")).endswith("bool"):
        return None
    try:
        return operator.index(value)
    except (TypeError, RuntimeError):  # RuntimeError: a tensor of several numbers
        return None


def numbers_of(version: str) -> list[int]:
    """The numbers of a version, to be compared, without zeros at the end: 2.13.0+cpu
    has 2 and 13. After them stands 0, or -1 for what comes before a release."""
    public = version.partition("+")[0]
    numbers = [int(number) for number in re.match(r"[\d.]*\d", public)[0].split(".")]
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    return [*numbers, -bool(re.search(r"\d(a|b|rc)\d|dev", public))]


def check(fine: bool, name: str, value, wanted: str) -> None:
    """Raise ValueError that names the value and what is wanted, unless it is fine."""
    if not fine:
        raise ValueError(f"{name} is {value!r}; give {wanted}")


def check_positive(**values: int) -> None:
    """Raise ValueError naming the first of `values` that is not a whole number >= 1."""
    for name, value in values.items():
        fine = (whole_number(value) or 0) >= 1
        check(fine, name, value, "a whole number of at least 1")


def check_share(**values: float) -> None:
    """Raise ValueError naming the first of `values` that is not in [0, 1)."""
    for name, value in values.items():
        fine = isinstance(value, Real) and 0 <= value < 1
        check(fine, name, value, "a share from 0 to below 1")


def check_number(**values: float) -> None:
    """Raise ValueError naming the first value that is not finite or below 0."""
    for name, value in values.items():
        fine = isinstance(value, Real) and 0 <= value < math.inf
        check(fine, name, value, "a number of at least 0")


def check_kernel_size(kernel_size: int) -> None:
    """Raise ValueError unless `kernel_size` is odd and at least 3."""
    whole = whole_number(kernel_size) or 0
    fine = whole % 2 and whole >= 3
    check(fine, "kernel_size", kernel_size, "an odd number of at least 3")


def sides_of(image_size) -> tuple[int, int]:
    """(height, width) of images from a number, a pair, or a text such as 64x96.

    Raises:
        ValueError: it is none of these, or a side is below 1.
    """
    parts = image_size
    if isinstance(image_size, str):
        parts = image_size.lower().split("x")
        parts = [int(part) if part.isdecimal() else None for part in parts]
        parts = parts * 2 if len(parts) == 1 else parts
    elif not isinstance(image_size, list | tuple):
        parts = (image_size, image_size)
    sides = tuple(map(whole_number, parts))
    fine = len(sides) == 2 and min(side or 0 for side in sides) >= 1
    wanted = "one number of pixels of at least 1, or the height and the width, "
    check(fine, "image_size", image_size, wanted + "such as 64x96")
    return sides


def _keep_whole(settings, *names: str, least: int = 0, bits: int | None = None) -> None:
    """Check whole numbers of frozen settings, and keep them as Python's, for JSON."""
    wanted = f"from 0 to 2^{bits} - 1" if bits else f"of at least {least}"
    for name in names:
        value = getattr(settings, name)
        whole = whole_number(value)
        fine = whole is not None and whole >= least and not (bits and whole >> bits)
        check(fine, name, value, f"a whole number {wanted}")
        object.__setattr__(settings, name, whole)


@dataclass(frozen=True)
class NetworkSettings:
    """The network of each level: arguments of `PixelCNN` and `HierarchicalPixelCNN` in
    this order, entries of their config.json, and flags of `train-prior`."""

    hidden_channels: int = 128
    """Channels of each stack."""
    num_layers: int = 15
    """Number of gated blocks per level. With kernel_size 3, each code sees all earlier
    codes if there are at least as many blocks as the grid is wide and high."""
    num_classes: int | None = None
    """Number of classes; None for a prior without class labels."""
    dropout: float = 0.1
    """Share of the horizontal features that are dropped during training."""
    kernel_size: int = 3
    """Kernel size of the gated blocks; odd, 3 or more."""
    attention_layers: int = 0
    """Number of attention layers over the past in the top level, spread evenly over its
    blocks; 0 means none."""
    attention_heads: int = 4
    """Heads of each attention layer, a divisor of hidden_channels."""
    label_dropout: float = 0.0
    """Share of images whose label is withheld during training, such as 0.1. It makes
    guidance possible (arXiv 2207.12598, algorithm 1), and needs labels."""
    condition_dim: int | None = None
    """Length of the vectors that a prior takes in place of class labels, such as
    attributes or the embedding of a text."""

    def __post_init__(self):
        _keep_whole(self, "hidden_channels", "num_layers", "attention_heads", least=1)
        for name in ("num_classes", "condition_dim"):
            if getattr(self, name) is not None:
                _keep_whole(self, name, least=1)
        check_share(dropout=self.dropout, label_dropout=self.label_dropout)
        for name in ("dropout", "label_dropout"):
            object.__setattr__(self, name, float(getattr(self, name)))
        check_kernel_size(self.kernel_size)
        _keep_whole(self, "kernel_size", "attention_layers")
        layers, heads = self.attention_layers, self.attention_heads
        wanted = f"0 for none, or up to {self.num_layers}, the number of blocks"
        check(layers <= self.num_layers, "attention_layers", layers, wanted)
        divides = not layers or self.hidden_channels % heads == 0
        wanted = f"a divisor of the {self.hidden_channels} hidden channels"
        check(divides, "attention_heads", heads, wanted)
        if self.num_classes is not None and self.condition_dim is not None:
            raise ValueError(
                f"num_classes is {self.num_classes} and condition_dim is "
                f"{self.condition_dim}; give one of them"
            )


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of a training run; each is also a flag of the training commands."""

    epochs: int = 100
    """Number of passes over the training data."""
    batch_size: int = 128
    """Images per batch in each process. A step of the optimizer takes one batch, or
    --gradient_accumulation_steps of them."""
    gradient_accumulation_steps: int = 1
    """Batches of each process whose gradients are averaged for one step. 4 batches of
    32 make a step of 128 images in the memory of 32."""
    lr: float = 3e-4
    """Highest learning rate of AdamW. It is reached after the warm-up; from then on the
    learning rate falls to zero as a cosine."""
    warmup: float = 0.05
    """Share of all steps in which the learning rate rises linearly."""
    weight_decay: float = 0.01
    """Weight decay of AdamW. Biases and embeddings do not decay."""
    max_grad_norm: float = 1.0
    """Largest norm of the gradient of each part of the model; a larger gradient is
    scaled down to it."""
    ema_decay: float | None = None
    """Decay of the moving average of the weights. The averaged weights are evaluated
    and kept. 0 keeps the weights themselves. If it is left out, it is 0.999, and for a
    VQ-VAE-2 it is 0, because averaged weights do not fit its newest codebooks."""
    mixed_precision: Literal["auto", "no", "bf16"] = "auto"
    """Number format of the multiplications. auto is bf16 where the hardware has it, and
    no is float32."""
    save_steps: int = 0
    """Number of steps from one checkpoint to the next within an epoch, so that less is
    lost if a long epoch is stopped. 0 writes one after each epoch alone."""
    seed: int = 0
    """Seed of the initial weights, the order of the images and dropout. The same seed
    gives the same run."""

    def __post_init__(self):
        _keep_whole(
            self, "epochs", "batch_size", "gradient_accumulation_steps", least=1
        )
        _keep_whole(self, "save_steps")
        _keep_whole(self, "seed", bits=32)
        for name in ("lr", "max_grad_norm"):
            value = getattr(self, name)
            check(0 < value < 1e38, name, value, "a number above 0 and below 1e38")
        check_share(warmup=self.warmup, ema_decay=self.ema_decay or 0)
        check_number(weight_decay=self.weight_decay)
        precision = self.mixed_precision
        fine = precision in ("auto", "no", "bf16")
        check(fine, "mixed_precision", precision, "'auto', 'no' or 'bf16'")


CHUNK_SIZE = 256  # the largest batch that `pixelprior benchmark` times
Method = Literal["auto", "naive", "rows", "cached", "graph"]


@dataclass(frozen=True)
class SamplingOptions:
    """How codes are drawn: keywords of every `sample`, and flags of `sample`."""

    temperature: float = 1.0
    """Number above 0 that divides the logits: below 1 the images are safer, above 1
    more diverse."""
    top_k: int | None = None
    """Draw each code only from this many of the most likely codes."""
    top_p: float | None = None
    """Draw each code only from the most likely codes that together hold this share of
    the probability, in (0, 1]."""
    guidance: float | tuple[float, ...] = 0.0
    """Guidance w towards the label (arXiv 2207.12598, equation 6): the logits are
    (1 + w) times those with the label minus w times those without it, before
    temperature and filters. One number, or one per level from the top down. Papers that
    write s for 1 + w count from 1. Above 0 it needs labels, and a prior that was
    trained with label_dropout."""
    seed: int | None = None
    """Seed of the images. The same seed gives the same images in any batch size. None
    takes one from torch's generator."""
    method: Method = "auto"
    """Sampling method: the whole network on the whole grid for each code (naive), on
    the rows so far (rows), only what is new (cached), and that as a CUDA graph (graph).
    All give the same codes. auto is cached."""
    first_index: int = 0
    """Index of the first image, by which its random stream is chosen: image i of a
    large batch is image 0 of a batch with first_index i."""
    chunk_size: int = CHUNK_SIZE
    """Largest number of images that are drawn as one batch. The codes are the same, up
    to rounding ties."""

    def __post_init__(self):
        value = self.temperature
        fine = isinstance(value, Real) and 0 < value < math.inf
        wanted = "a number above 0 (1.0 samples the prior as it is, lower is safer, "
        check(fine, "temperature", value, wanted + "higher more diverse)")
        fine = self.top_k is None or (whole_number(self.top_k) or 0) >= 1
        wanted = "a whole number of at least 1, or leave it out"
        check(fine, "top_k", self.top_k, wanted)
        fine = self.top_p is None or 0 < self.top_p <= 1
        wanted = "a share above 0 and up to 1, or leave it out"
        check(fine, "top_p", self.top_p, wanted)
        weights = self.guidance
        weights = tuple(weights) if isinstance(weights, tuple | list) else (weights,)
        fine = all(isinstance(w, Real) and 0 <= w < math.inf for w in weights)
        wanted = "a number from 0, or one for each level from the top down"
        check(fine and weights, "guidance", self.guidance, wanted)
        object.__setattr__(self, "guidance", tuple(map(float, weights)))
        methods = get_args(Method)
        wanted = f"one of {', '.join(methods)}"
        check(self.method in methods, "method", self.method, wanted)
        if self.seed is not None:
            _keep_whole(self, "seed", bits=64)
        _keep_whole(self, "first_index", bits=63)
        _keep_whole(self, "chunk_size", least=1)

    def guidance_for(self, levels: int) -> tuple[float, ...]:
        """The guidance of each of so many levels; a single number holds for all."""
        if len(self.guidance) == 1:
            return self.guidance * levels
        if len(self.guidance) != levels:
            raise ValueError(
                f"guidance is {self.guidance}, but the prior has {levels} level(s); "
                "give one number, or one per level"
            )
        return self.guidance
