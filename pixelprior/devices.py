"""How computations run: device, number format, mode, and number of processes.

accelerate is loaded by `make_accelerator` alone, since only a training needs it.
"""

import contextlib
import ctypes
import datetime
import importlib.util
import os
import platform
import re
from collections.abc import Iterator

import psutil
import torch

from pixelprior.settings import TrainingSettings

# That one process waits for the others: while they decode or draw their share.
LONGEST_WAIT = datetime.timedelta(days=1)
MALLOC_MMAP_MAX, MALLOC_TRIM_THRESHOLD = -4, -1  # of glibc's malloc.h


def usable_device(name: str | None) -> torch.device:
    """The named device; without a name, the GPU if there is one, else the CPU."""
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
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
    """Whether the GPU, or without one the processor, multiplies in bf16; not with
    PIXELPRIOR_BF16=off, nor on a processor with ATEN_CPU_CAPABILITY below AVX512."""
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
    if os.path.exists("/proc/cpuinfo"):  # on Linux
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
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
    """Let glibc keep freed memory. By default it returns large blocks to the system,
    which fills each new block with zeros: a tenth of a training step on a CPU."""
    with contextlib.suppress(OSError, AttributeError, ValueError):
        if platform.libc_ver()[0] == "glibc":
            library = ctypes.CDLL(None)
            library.mallopt(MALLOC_MMAP_MAX, 0)
            library.mallopt(MALLOC_TRIM_THRESHOLD, 2**31 - 1)


@contextlib.contextmanager
def evaluation_mode(model: torch.nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode; restore each submodule's mode at the end."""
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


def make_accelerator(
    settings: TrainingSettings, output_dir, trackers=(), *, on_cpu: bool = False
):
    """Make the Accelerator of a run, before its model: then the codebooks are
    synchronised between processes.

    Args:
        trackers: names of the trackers to log to, such as "wandb".
        on_cpu: train on the CPU even if there is a GPU.

    Raises:
        ValueError: a tracker is not installed.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import GradientAccumulationPlugin, InitProcessGroupKwargs

    check_launch()
    precision = settings.mixed_precision
    if precision == "auto":
        precision = "bf16" if has_bf16(on_cpu) else "no"
    for tracker in trackers:
        if importlib.util.find_spec(tracker) is None:
            raise ValueError(
                f"{tracker} is not installed; install it with "
                f'`pip install "pixelprior[{tracker}]"`, or leave the flag out'
            )
    # It keeps one state per process, and refuses a second number format or device.
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
    """Options of `accelerate.PartialState`, which fit a launch of several processes."""
    check_launch()
    return {"timeout": LONGEST_WAIT} if int(os.environ.get("WORLD_SIZE", 1)) > 1 else {}


def check_launch() -> None:
    """Raise ValueError if a launcher was asked for what would not happen as asked.

    `accelerate launch --cpu --num_processes 2` starts one process and does not say so.
    """
    line = ""
    with contextlib.suppress(psutil.Error, AttributeError):  # no parent of this user
        line = " ".join(psutil.Process().parent().cmdline()).replace("-", "_")
    asked = re.search(r"accelerate.*__num_processes[ =](\d+)", line)
    count = int(asked[1]) if asked else 1
    if count > 1 and "WORLD_SIZE" not in os.environ:
        raise ValueError(
            f"accelerate launch was asked for {count} processes and started one, as it "
            "does without several GPUs; start several on the processor by `torchrun "
            f"--standalone --nproc_per_node {count}`, or leave --num_processes out"
        )
    for name in ("FSDP", "DEEPSPEED"):
        if os.environ.get(f"ACCELERATE_USE_{name}", "false").lower() in ("true", "1"):
            raise ValueError(
                f"accelerate launch was given {name}, which divides the weights, but a "
                "training here needs all of them in each process; use distributed_type "
                "MULTI_GPU in accelerate's file"
            )


def where(accelerator) -> str:
    """Where a run takes place, in words, so that a wrong device is noticed."""
    low, count = accelerator.mixed_precision, accelerator.num_processes
    precision = "float32" if low == "no" else low
    processes = "1 process" if count == 1 else f"{count} processes"
    return f"training on {accelerator.device.type} in {precision}, {processes}"
