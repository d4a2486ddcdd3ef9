"""The settings of a training run; the loop that uses them is in `training.py`."""

from dataclasses import dataclass
from typing import Literal

from pixelprior.ranges import check_number, check_positive, check_share, whole_number

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
