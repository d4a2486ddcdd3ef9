"""The command `doctor`: check whether this machine is ready for the course.

It prints one line per check, and the fix of each fault.
"""

import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from pixelprior.ranges import numbers_of

GIB = 2**30


@dataclass(frozen=True)
class Finding:
    """What a check found; `fix` is empty if nothing is wrong."""

    subject: str
    found: str
    fix: str = ""


@dataclass(kw_only=True)
class Doctor:
    """Check whether this machine is ready for the course, and name the fix of each
    fault."""

    def run(self) -> None:
        """Print one line per finding; exit with status 1 if something must be fixed."""
        faults = 0
        for finding in examine():
            mark = "FIX" if finding.fix else "ok"
            print(f"{mark:4} {finding.subject}: {finding.found}")
            if finding.fix:
                faults += 1
                print(f"     -> {finding.fix}")
        print("ready" if not faults else f"{faults} to fix")
        if faults:
            raise SystemExit(1)


def examine() -> Iterator[Finding]:
    """Run all checks, one after the other; none of them needs the network."""
    yield _python()
    yield from _packages()
    yield _memory()
    yield _disk()
    yield _processor()
    yield _gpu()
    yield _processes()
    yield _images()
    yield _weights()
    yield _kernel()


def _python() -> Finding:
    fine = sys.version_info >= (3, 10)
    fix = "" if fine else "install Python 3.10 or later and make a new environment"
    return Finding("Python", f"{platform.python_version()} at {sys.executable}", fix)


def _packages() -> Iterator[Finding]:
    """Compare each package that pixelprior's metadata requires with its range."""
    for line in importlib.metadata.requires("pixelprior") or []:
        if "extra ==" in line:
            continue
        name, least = re.match(r"([\w-]+)>=([\d.]+)", line).groups()
        fix = f'pip install "{line}"'
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, "not installed", fix)
            continue
        fine = numbers_of(version) >= numbers_of(least)
        found = version if fine else f"{version}, but >={least} is needed"
        yield Finding(name, found, "" if fine else fix)


def _memory() -> Finding:
    memory = psutil.virtual_memory()
    found = f"{memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB free"
    fine = memory.available > 2 * GIB
    return Finding(
        "memory", found, "" if fine else "close programs until 2 GiB are free"
    )


def _disk() -> Finding:
    folder = Path.cwd()
    free = psutil.disk_usage(str(folder)).free
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        fix = "change to a folder of your own"
        return Finding("folder", f"{folder} cannot be written ({error.strerror})", fix)
    fix = "" if free > GIB else "make 1 GiB of room, or change to another disk"
    return Finding("folder", f"{folder}, {free / GIB:.1f} GiB free", fix)


def _processor() -> Finding:
    from pixelprior.devices import has_bf16

    bf16 = "with" if has_bf16() else "without"
    return Finding("processor", f"{os.cpu_count()} cores, {bf16} bf16")


def _gpu() -> Finding:
    import torch

    if torch.cuda.is_available():
        return Finding("GPU", torch.cuda.get_device_name())
    if Path("/dev/nvidiactl").exists():
        built = torch.version.cuda
        why = "it is a CPU build" if built is None else f"the driver lacks CUDA {built}"
        fix = "install a build of torch for its driver: see pytorch.org/get-started"
        return Finding("GPU", f"there is one that torch cannot use: {why}", fix)
    return Finding("GPU", "none; the course runs on the processor")


def _processes() -> Finding:
    from pixelprior.devices import check_launch

    try:
        check_launch()
    except ValueError as error:
        problem, _, fix = str(error).partition("; ")
        return Finding("processes", problem, fix)
    if "WORLD_SIZE" in os.environ:
        return Finding("processes", f"{os.environ['WORLD_SIZE']}, by a launcher")
    return Finding(
        "processes",
        "1; `torchrun --standalone --nproc_per_node 2 -m pixelprior.cli …` starts 2, "
        "and `accelerate launch --cpu --num_processes 2 …` only 1",
    )


def _images() -> Finding:
    from pixelprior.data.images import load_images

    try:
        count = sum(
            len(load_images("fashion_mnist_mini", s)) for s in ("train", "test")
        )
    except (OSError, ValueError) as error:
        return Finding(
            "images", f"unreadable ({error})", "pip install pixelprior again"
        )
    return Finding("images", f"{count:,} of Fashion-MNIST, embedded")


def _weights() -> Finding:
    from pixelprior.assets import FOLDER, SHIPPED, load_shipped, shipped_class_names
    from pixelprior.evaluation.classifier import load_shipped_reference_models
    from pixelprior.files import SUMS_NAME, check_checksum

    weights = sorted(FOLDER.rglob("*.safetensors"))
    try:
        for path in weights:
            if not path.with_name(SUMS_NAME).is_file():
                raise ValueError(f"there is no {SUMS_NAME} beside {path}")
            check_checksum(path)
        models = [model for name in SHIPPED for model in load_shipped(name)]
        for name in SHIPPED:
            load_shipped_reference_models(name)
            shipped_class_names(name)
    except (OSError, ValueError) as error:
        return Finding(
            "weights", f"unreadable ({error})", "pip install pixelprior again"
        )
    count = sum(p.numel() for model in models for p in model.parameters())
    size = sum(path.stat().st_size for path in weights)
    found = f"{count / 1e6:.1f} M parameters, {size / 1e6:.1f} MB, checksums correct"
    return Finding("weights", found)


def _kernel() -> Finding:
    fix = f"{sys.executable} -m ipykernel install --sys-prefix"
    if importlib.util.find_spec("jupyter_client") is None:
        return Finding(
            "Jupyter kernel", "Jupyter is not installed", "pip install jupyterlab"
        )
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    try:
        spec = KernelSpecManager().get_kernel_spec("python3")
    except NoSuchKernel:
        return Finding("Jupyter kernel", "there is no python3 kernel", fix)
    except (OSError, json.JSONDecodeError) as error:
        return Finding("Jupyter kernel", f"unreadable ({error})", fix)
    command = Path(spec.argv[0])
    if command.is_absolute():
        here = os.path.abspath(command) == os.path.abspath(sys.executable)
    else:  # "python" is that of the environment in which the kernel is installed
        here = Path(spec.resource_dir).is_relative_to(sys.prefix)
    if here:
        return Finding("Jupyter kernel", f"python3 in {spec.resource_dir}")
    return Finding("Jupyter kernel", f"python3 starts {command}, another Python", fix)
