"""Where it runs: the device, the number format, the accelerator, the memory."""

import contextlib
import ctypes
import importlib.util
import os
import platform

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from pixelprior.settings import TrainingSettings

MALLOC_MMAP_MAX, MALLOC_TRIM_THRESHOLD = -4, -1  # of glibc's malloc.h


def usable_device(name: str | None) -> torch.device:
    """The named device, or the GPU if there is one, else the CPU.

    Raises:
        ValueError: there is no such device.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        if torch.device(name).type not in ("cpu", "cuda", "mps", "xpu"):
            raise RuntimeError("no device to sample on")
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device {name!r} is not to be had ({str(error).splitlines()[0]}); give "
            "cpu, or leave --device out"
        ) from error
    return torch.device(name)


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
