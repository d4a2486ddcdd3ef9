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
from typing import Literal


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


def check_positive(**values: int) -> None:
    """Raise ValueError naming the first of `values` that is not a whole number >= 1."""
    for name, value in values.items():
        if (whole_number(value) or 0) < 1:
            raise ValueError(f"{name} is {value!r}; give a whole number of at least 1")


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
    if len(sides) != 2 or min(side or 0 for side in sides) < 1:
        raise ValueError(
            f"image_size is {image_size}; give one number of pixels of at least 1, or "
            "the height and the width, such as 64x96"
        )
    return sides


def check_share(**values: float) -> None:
    """Raise ValueError naming the first of `values` that is not in [0, 1)."""
    for name, value in values.items():
        if not isinstance(value, Real) or not 0 <= value < 1:
            raise ValueError(f"{name} is {value!r}; give a share from 0 to below 1")


def check_number(*, least: float = 0.0, **values: float) -> None:
    """Raise ValueError naming the first value that is not finite or below `least`."""
    for name, value in values.items():
        if not isinstance(value, Real) or not math.isfinite(value) or value < least:
            raise ValueError(f"{name} is {value!r}; give a number of at least {least}")


def check_kernel_size(kernel_size: int) -> None:
    """Raise ValueError unless `kernel_size` is odd and at least 3."""
    whole = whole_number(kernel_size) or 0
    if whole % 2 == 0 or whole < 3:
        raise ValueError(
            f"kernel_size is {kernel_size!r}; give an odd number of at least 3"
        )


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
        positive = ["hidden_channels", "num_layers", "attention_heads"]
        for name in ("num_classes", "condition_dim"):
            if getattr(self, name) is not None:
                positive.append(name)
        check_positive(**{name: getattr(self, name) for name in positive})
        check_share(dropout=self.dropout, label_dropout=self.label_dropout)
        check_kernel_size(self.kernel_size)
        layers = whole_number(self.attention_layers)
        if layers is None or not 0 <= layers <= self.num_layers:
            raise ValueError(
                f"attention_layers is {self.attention_layers}; give 0 for none, or up "
                f"to {self.num_layers}, the number of blocks"
            )
        if layers and self.hidden_channels % self.attention_heads:
            raise ValueError(
                f"attention_heads is {self.attention_heads}, which does not divide the "
                f"{self.hidden_channels} hidden channels; give a divisor"
            )
        if self.num_classes is not None and self.condition_dim is not None:
            raise ValueError(
                f"num_classes is {self.num_classes} and condition_dim is "
                f"{self.condition_dim}; give one of them"
            )
        # Kept as Python's numbers, for config.json.
        for name in (*positive, "kernel_size", "attention_layers"):
            object.__setattr__(self, name, whole_number(getattr(self, name)))
        for name in ("dropout", "label_dropout"):
            object.__setattr__(self, name, float(getattr(self, name)))


WHOLE_NUMBERS = (
    "epochs",
    "batch_size",
    "gradient_accumulation_steps",
    "save_steps",
    "seed",
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
        check_positive(
            epochs=self.epochs,
            batch_size=self.batch_size,
            gradient_accumulation_steps=self.gradient_accumulation_steps,
        )
        for name in ("lr", "max_grad_norm"):
            value = getattr(self, name)
            if not 0 < value < 1e38:
                raise ValueError(
                    f"{name} is {value}; give a number above 0 and below 1e38"
                )
        check_share(warmup=self.warmup, ema_decay=self.ema_decay or 0)
        check_number(weight_decay=self.weight_decay)
        seed = whole_number(self.seed)
        if seed is None or not 0 <= seed < 2**32:
            raise ValueError(
                f"seed is {self.seed}; give a whole number from 0 to 2^32 - 1"
            )
        if self.mixed_precision not in ("auto", "no", "bf16"):
            raise ValueError(
                f"mixed_precision is {self.mixed_precision!r}; give 'auto', 'no' or "
                "'bf16'"
            )
        save_steps = whole_number(self.save_steps)
        if save_steps is None or save_steps < 0:
            raise ValueError(
                f"save_steps is {self.save_steps}; give a whole number, 0 or more"
            )
        for name in WHOLE_NUMBERS:  # kept as int, for checkpoints
            object.__setattr__(self, name, whole_number(getattr(self, name)))


CHUNK_SIZE = 256  # the largest batch that `pixelprior benchmark` times
METHODS = ("auto", "naive", "rows", "cached", "graph")


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
    method: Literal["auto", "naive", "rows", "cached", "graph"] = "auto"
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
        finite = isinstance(self.temperature, Real) and math.isfinite(self.temperature)
        if not finite or self.temperature <= 0:
            raise ValueError(
                f"temperature is {self.temperature}; give a number above 0 (1.0 "
                "samples the prior as it is, lower is safer, higher more diverse)"
            )
        if self.top_k is not None and (whole_number(self.top_k) or 0) < 1:
            raise ValueError(f"top_k is {self.top_k}; give at least 1, or leave it out")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(
                f"top_p is {self.top_p}; give a share above 0 and up to 1, or leave it "
                "out"
            )
        weights = self.guidance
        weights = tuple(weights) if isinstance(weights, tuple | list) else (weights,)
        if not weights or not all(
            isinstance(w, Real) and math.isfinite(w) and w >= 0 for w in weights
        ):
            raise ValueError(
                f"guidance is {self.guidance}; give a number from 0, or one for each "
                "level from the top down"
            )
        object.__setattr__(self, "guidance", tuple(map(float, weights)))
        if self.method not in METHODS:
            raise ValueError(
                f"method is {self.method!r}; give one of {', '.join(METHODS)}"
            )
        for name, value, bits in (
            ("seed", self.seed, 64),
            ("first_index", self.first_index, 63),
        ):
            whole = whole_number(value)
            if value is not None and (whole is None or not 0 <= whole < 2**bits):
                raise ValueError(
                    f"{name} is {value}; give a whole number from 0 to 2^{bits} - 1"
                )
            object.__setattr__(self, name, whole)
        check_positive(chunk_size=self.chunk_size)
        object.__setattr__(self, "chunk_size", whole_number(self.chunk_size))

    def guidance_for(self, levels: int) -> tuple[float, ...]:
        """The guidance of each of so many levels; a single number holds for all."""
        if len(self.guidance) not in (1, levels):
            raise ValueError(
                f"guidance is {self.guidance}, but the prior has {levels} level(s); "
                "give one number, or one per level"
            )
        return self.guidance * (levels if len(self.guidance) == 1 else 1)
