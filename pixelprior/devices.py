"""Where computations run: the device, number format, accelerator and memory."""

import contextlib
import ctypes
import datetime
import importlib.util
import os
import platform
import re
from collections.abc import Iterator
from functools import partial

import psutil
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import GradientAccumulationPlugin, InitProcessGroupKwargs

from pixelprior.settings import TrainingSettings

# That one process waits for the others: while they decode or draw their share.
LONGEST_WAIT = datetime.timedelta(days=1)
MALLOC_MMAP_MAX, MALLOC_TRIM_THRESHOLD = -4, -1  # of glibc's malloc.h


def usable_device(name: str | None) -> torch.device:
    """The named device; without a name, the GPU if there is one, else the CPU.

    Raises:
        ValueError: there is no such device, or it cannot be sampled on.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        if torch.device(name).type not in ("cpu", "cuda", "mps", "xpu"):
            raise RuntimeError("no device to sample on")
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device {name!r} is not available ({str(error).splitlines()[0]}); give "
            "cpu, or leave --device out"
        ) from error
    return torch.device(name)


def has_bf16(on_cpu: bool = False) -> bool:
    """Whether the hardware multiplies in bf16.

    The hardware is the GPU; without a GPU, or with `on_cpu`, it is the processor. With
    the environment variable `PIXELPRIOR_BF16=off` the result is False, and for the
    processor also with an `ATEN_CPU_CAPABILITY` below AVX512.
    """
    if os.environ.get("PIXELPRIOR_BF16") == "off":
        return False
    if torch.cuda.is_available() and not on_cpu:
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
        return False
    return getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()


def machine(device) -> dict:
    """The processor, its threads and the versions, as every results file names them."""
    cpu = platform.processor() or platform.machine()
    on_linux = "/proc/cpuinfo"
    if os.path.exists(on_linux):
        with open(on_linux, encoding="utf-8") as lines:
            names = [line.split(":")[1] for line in lines if "model name" in line]
        cpu = names[0].strip() if names else cpu
    on_gpu = torch.device(device).type == "cuda"
    return {
        "processor": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(device) if on_gpu else None,
        "bf16": has_bf16(),
        "torch": torch.__version__.split("+")[0],
        "python": platform.python_version(),
    }


def keep_freed_memory() -> None:
    """Let the C library keep freed memory, so that the next step can use it again.

    By default glibc returns large blocks to the system at once, and the system fills
    each new block with zeros, page by page. This takes a tenth of a training step on a
    CPU, and more in large batches. Other C libraries are not changed. The setting holds
    for the whole process. Therefore only the command line calls this function, and the
    processes that `benchmark/training.py` starts.
    """
    with contextlib.suppress(OSError, AttributeError, ValueError):
        if platform.libc_ver()[0] == "glibc":
            library = ctypes.CDLL(None)
            library.mallopt(MALLOC_MMAP_MAX, 0)
            library.mallopt(MALLOC_TRIM_THRESHOLD, 2**31 - 1)


def make_accelerator(
    settings: TrainingSettings, output_dir, trackers=(), *, on_cpu: bool = False
):
    """Make the Accelerator of a run.

    Make it before the model, so that the codebooks are synchronised between processes.

    Args:
        settings: settings of the training, which give the number format.
        output_dir: folder for the logs.
        trackers: names of the trackers to log to, such as "wandb".
        on_cpu: train on the CPU even if there is a GPU.

    Raises:
        ValueError: a tracker is not installed, a launcher was asked for several
            processes and started one, or it was asked for other settings than these.
    """
    check_launch()
    precision = settings.mixed_precision
    if precision == "auto":
        precision = "bf16" if has_bf16(on_cpu) else "no"
    _check_same_settings(settings, precision)
    for tracker in trackers:
        if importlib.util.find_spec(tracker) is None:
            raise ValueError(
                f"{tracker} is not installed; install it with "
                f'`pip install "pixelprior[{tracker}]"`, or leave the flag out'
            )
    # Accelerate keeps one state per process and refuses a second number format or a
    # second device.
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(
        cpu=on_cpu,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=LONGEST_WAIT)],
        mixed_precision=precision,
        # The training divides the loss itself, by the images of each batch.
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        log_with=list(trackers) or None,
        project_dir=str(output_dir),
    )


def process_group() -> dict:
    """Options of `accelerate.PartialState`, which fit a launch of several processes.

    Raises:
        ValueError: as `check_launch`.
    """
    check_launch()
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return {"timeout": LONGEST_WAIT} if several else {}


def processes_asked_for() -> int:
    """The `--num_processes` of the `accelerate launch` that started this process, or 1.

    `accelerate launch --cpu --num_processes 2` starts one process and does not say so.
    """
    try:
        words = psutil.Process().parent().cmdline()
    except (psutil.Error, AttributeError):  # no parent, or one of another user
        return 1
    line = " ".join(words).replace("-", "_")
    asked = re.search(r"__num_processes[ =](\d+)", line)
    return int(asked[1]) if asked and "accelerate" in line else 1


def check_launch() -> None:
    """Raise ValueError if a launcher was asked for several processes and started one.

    With a part of the images per step that was asked for, a training would take other
    steps than expected.
    """
    asked = processes_asked_for()
    if asked > 1 and "WORLD_SIZE" not in os.environ:
        raise ValueError(
            f"accelerate launch was asked for {asked} processes and started one, as it "
            "does without several GPUs; start several on the processor by `torchrun "
            f"--standalone --nproc_per_node {asked}`, or leave --num_processes out"
        )


def _check_same_settings(settings: TrainingSettings, precision: str) -> None:
    """Raise ValueError if accelerate's launcher asks for other settings than ours.

    It hands on what its file or its own flags say in environment variables, but the
    accumulation of gradients only where it starts DeepSpeed or a single process.

    Args:
        precision: the number format of the training, "no" or "bf16".
    """
    for name in ("FSDP", "DEEPSPEED"):
        if os.environ.get(f"ACCELERATE_USE_{name}", "false").lower() in ("true", "1"):
            raise ValueError(
                f"accelerate launch was given {name}, which divides the weights, but a "
                "training here needs all of them in each process; use distributed_type "
                "MULTI_GPU in accelerate's file"
            )
    steps = os.environ.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1")
    if steps not in ("1", str(settings.gradient_accumulation_steps)):
        raise ValueError(
            f"accelerate launch was given gradient_accumulation_steps {steps}, but the "
            f"command {settings.gradient_accumulation_steps}; give the command "
            f"--gradient_accumulation_steps {steps}, and leave it out of accelerate's "
            "file and flags"
        )
    asked = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if asked not in ("no", precision):
        here = "float32" if precision == "no" else precision
        raise ValueError(
            f"accelerate launch was given mixed_precision {asked}, but this training "
            f"is in {here}; take it out of accelerate's file and flags, and choose "
            "float32 or bf16 with the command's --mixed_precision"
        )


def where(accelerator: Accelerator) -> str:
    """Where a run takes place, in words, so that a wrong device is noticed."""
    low = accelerator.mixed_precision
    precision = "float32" if low == "no" else low
    count = accelerator.num_processes
    processes = "1 process" if count == 1 else f"{count} processes"
    return f"training on {accelerator.device.type} in {precision}, {processes}"


def batches_on(device, data, parts) -> Iterator[tuple]:
    """The batch of `data` for each tensor of indices in `parts`, on a device."""
    batches = data.batches if hasattr(data, "batches") else partial(map, data.batch)
    for batch in batches(parts):
        yield tuple(each if each is None else each.to(device) for each in batch)


def checking_interval(device: torch.device) -> int:
    """Number of steps from one check of the gradients to the next.

    On a GPU it is larger, because the host has to wait for the GPU to read a number.
    """
    return 1 if device.type == "cpu" else 50
