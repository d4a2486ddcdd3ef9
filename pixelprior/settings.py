"""How to train: the numbers, the number format, the learning rate, the averaging.

The loop that uses them is in `training.py`.
"""

import contextlib
import ctypes
import importlib.util
import math
import os
import platform
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from pixelprior.validation import (
    check_number,
    check_positive,
    check_share,
    whole_number,
)

MALLOC_MMAP_MAX, MALLOC_TRIM_THRESHOLD = -4, -1  # of glibc's malloc.h


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


def has_bf16(on_cpu: bool = False) -> bool:
    """True where the GPU, or without one or `on_cpu` the processor, multiplies bf16 in
    hardware.

    `PIXELPRIOR_BF16=off` answers for a machine without it; so does a lower
    ATEN_CPU_CAPABILITY for the processor.
    """
    if os.environ.get("PIXELPRIOR_BF16") == "off":
        return False
    if torch.cuda.is_available() and not on_cpu:
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
        return False
    return getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()


def keep_freed_memory() -> None:
    """Let the C library keep what is freed, for the next step to use again.

    By default glibc gives large blocks back to the system at once, and the system hands
    out new ones filled with zeros, page by page: a tenth of a training step on a CPU,
    and more in large batches. Other C libraries are left as they are. It holds for the
    whole process, so the command line calls it, and nothing else in the package does.
    """
    with contextlib.suppress(OSError, AttributeError, ValueError):
        if platform.libc_ver()[0] == "glibc":
            library = ctypes.CDLL(None)
            library.mallopt(MALLOC_MMAP_MAX, 0)
            library.mallopt(MALLOC_TRIM_THRESHOLD, 2**31 - 1)


def make_accelerator(
    settings: TrainingSettings, output_dir, trackers=(), *, on_cpu: bool = False
):
    """The Accelerator for a run; make it before the model, so that codebooks sync.

    Args:
        settings: how to train; the number format is taken from them.
        output_dir: folder for the logs.
        trackers: names of what to log to.
        on_cpu: train on the CPU even where there is a GPU.

    Raises:
        ValueError: a tracker is not installed.
    """
    for tracker in trackers:
        if importlib.util.find_spec(tracker) is None:
            raise ValueError(
                f"{tracker} is not installed; install it with "
                f'`pip install "pixelprior[{tracker}]"`, or leave the flag out'
            )
    # Accelerate keeps one state per process and refuses a second number format or a
    # second device.
    AcceleratorState._reset_state(reset_partial_state=True)
    precision = settings.mixed_precision
    if precision == "auto":
        precision = "bf16" if has_bf16(on_cpu) else "no"
    return Accelerator(
        cpu=on_cpu,
        mixed_precision=precision,
        log_with=list(trackers) or None,
        project_dir=str(output_dir),
    )


def where(accelerator: Accelerator) -> str:
    """Where a run takes place, in words; nothing else shows a wrong device."""
    low = accelerator.mixed_precision
    precision = "float32" if low == "no" else low
    count = accelerator.num_processes
    processes = "1 process" if count == 1 else f"{count} processes"
    return f"training on {accelerator.device.type} in {precision}, {processes}"


def checking_interval(device: torch.device) -> int:
    """Steps from one look at the gradients to the next: a look at a GPU's numbers makes
    the host wait for it."""
    return 1 if device.type == "cpu" else 50


@torch.no_grad()
def average_weights(averages, currents, steps: int, decay: float) -> None:
    """Move averages of weights towards the current ones, after `steps` such moves.

    The decay starts low and rises to `decay`, so that short runs gain from it too.
    """
    share = 1 - min(decay, (1 + steps) / (10 + steps))
    torch._foreach_lerp_(averages, currents, share)


def learning_rate_factor(settings: TrainingSettings, total_steps: int):
    """Factor on the learning rate by step: a linear rise, then a cosine to zero."""
    warmup_steps = max(1, round(settings.warmup * total_steps))

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        done = (step - warmup_steps) / max(1, total_steps - warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    return factor
