"""How to train, in numbers; the loop that uses them is in `training.py`."""

from dataclasses import dataclass

from pixelprior.ranges import check_number, check_positive, check_share, whole_number


@dataclass(frozen=True)
class TrainingSettings:
    """How to train.

    Attributes:
        epochs: passes over the training data.
        batch_size: images a step on each process.
        lr: highest learning rate of AdamW, after warm-up.
        warmup: share of all steps in which it rises linearly; then it falls as a
            cosine to zero.
        weight_decay: of AdamW.
        max_grad_norm: each part's gradient is scaled down to this norm.
        ema_decay: of the weights' moving average, which is evaluated and kept.
        mixed_precision: "no", "bf16", or "auto" (bf16 where the processor has it).
        seed: of weights, order and dropout.
    """

    epochs: int = 100
    batch_size: int = 128
    lr: float = 3e-4
    warmup: float = 0.05
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    ema_decay: float = 0.999
    mixed_precision: str = "auto"
    seed: int = 0

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
