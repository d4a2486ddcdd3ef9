"""How to train, in numbers; the loop that uses them is in `training.py`."""

from dataclasses import dataclass
from typing import Literal

from pixelprior.ranges import check_number, check_positive, check_share, whole_number


@dataclass(frozen=True)
class TrainingSettings:
    """How to train. Each field is a flag of the training commands as well."""

    epochs: int = 100
    """Passes over the training data."""
    batch_size: int = 128
    """Images per step, on each process."""
    lr: float = 3e-4
    """Highest learning rate of AdamW, reached after the warm-up; then a cosine to
    zero."""
    warmup: float = 0.05
    """Share of all steps in which the learning rate rises linearly."""
    weight_decay: float = 0.01
    """Weight decay of AdamW."""
    max_grad_norm: float = 1.0
    """The gradient of each part of the model is scaled down to this norm."""
    ema_decay: float = 0.999
    """Decay of the weights' moving average, which is what is evaluated and kept. 0
    keeps the weights themselves, as a VQ-VAE-2 needs: averaged ones do not fit the
    newest codebooks."""
    mixed_precision: Literal["auto", "no", "bf16"] = "auto"
    """Number format of the multiplications; auto is bf16 where the processor has it."""
    seed: int = 0
    """Seed of weights, order and dropout: the same seed gives the same run."""

    def __post_init__(self):
        check_positive(epochs=self.epochs, batch_size=self.batch_size)
        for name in ("lr", "max_grad_norm"):
            value = getattr(self, name)
            if not 0 < value < 1e38:
                raise ValueError(
                    f"{name} is {value}; give a number above 0 and below 1e38"
                )
        check_share(warmup=self.warmup, ema_decay=self.ema_decay)
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
        for name in ("epochs", "batch_size", "seed"):  # as checkpoints can hold them
            object.__setattr__(self, name, whole_number(getattr(self, name)))
