"""The command `doctor`: check whether this machine is ready for the course.

It prints one line per check, and the fix of each fault. No check needs the network.
"""

import hashlib
import importlib.metadata
import json
import os
import platform
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import psutil

from pixelprior.files import writable_folder
from pixelprior.settings import numbers_of

GIB = 2**30
SPLITS = ("train", "test")


class Finding(NamedTuple):
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
        for subject, found, fix in examine():
            print(f"{'FIX' if fix else 'ok':4} {subject}: {found}")
            if fix:
                faults += 1
                print(f"     -> {fix}")
        print("ready" if not faults else f"{faults} to fix")
        if faults:
            raise SystemExit(1)


def examine() -> Iterator[Finding]:
    """Run all checks, one after the other."""
    yield Finding("Python", f"{platform.python_version()} at {sys.executable}")
    yield from _packages()
    yield _memory()
    yield _disk()
    yield _gpu()
    yield _processes()
    yield _shipped()
    yield _kernel()


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
    fix = "" if memory.available > 2 * GIB else "close programs until 2 GiB are free"
    return Finding("memory", found, fix)


def _disk() -> Finding:
    folder = Path.cwd()
    try:
        writable_folder(folder)
    except OSError as error:
        return Finding("folder", *str(error).split("; ", 1))
    free = psutil.disk_usage(str(folder)).free
    fix = "" if free > GIB else "make 1 GiB of room, or change to another disk"
    return Finding("folder", f"{folder}, {free / GIB:.1f} GiB free", fix)


def _gpu() -> Finding:
    import torch

    from pixelprior.devices import has_bf16

    if torch.cuda.is_available():
        return Finding("GPU", torch.cuda.get_device_name())
    if not Path("/dev/nvidiactl").exists():
        bf16 = "with" if has_bf16() else "without"
        cores = f"{os.cpu_count()} cores, {bf16} bf16"
        return Finding("GPU", f"none; the course runs on the processor: {cores}")
    built = torch.version.cuda
    why = "it is a CPU build" if built is None else f"the driver lacks CUDA {built}"
    fix = "install a build of torch for its driver: see pytorch.org/get-started"
    return Finding("GPU", f"there is one that torch cannot use: {why}", fix)


def _processes() -> Finding:
    from pixelprior.devices import check_launch

    try:
        check_launch()
    except ValueError as error:
        return Finding("processes", *str(error).split("; ", 1))
    if "WORLD_SIZE" in os.environ:
        return Finding("processes", f"{os.environ['WORLD_SIZE']}, by a launcher")
    return Finding(
        "processes",
        "1; `torchrun --standalone --nproc_per_node 2 -m pixelprior.cli …` starts 2, "
        "and `accelerate launch --cpu --num_processes 2 …` only 1",
    )


def _shipped() -> Finding:
    """Load what ships with the package, and compare the weights with the digests that
    their recipes noted: weights with a flipped bit load like any others."""
    from pixelprior.assets import FOLDER, SHIPPED, load_shipped, shipped_class_names
    from pixelprior.data.images import load_images
    from pixelprior.evaluation.classifier import load_shipped_reference_models

    count = 0
    try:
        images = [load_images("fashion_mnist_mini", split) for split in SPLITS]
        for data in SHIPPED:
            own = "" if data == "fashion_mnist" else data
            recipe = FOLDER / "results" / own / "recipe.json"
            made = json.loads(recipe.read_text(encoding="utf-8"))["weights"]
            for path in FOLDER.glob(f"{data}_*/model.safetensors"):
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                if digest != made[path.parent.name.removeprefix(f"{data}_")]["sha256"]:
                    raise ValueError(f"{path} is not the file that was made")
            models = load_shipped(data)
            count += sum(p.numel() for each in models for p in each.parameters())
            load_shipped_reference_models(data)
            shipped_class_names(data)
    except (OSError, ValueError, KeyError) as error:
        fix = "pip install --force-reinstall pixelprior"
        return Finding("images and weights", f"unreadable ({error})", fix)
    found = f"{sum(map(len, images)):,} images and weights of {count / 1e6:.1f} M "
    return Finding("images and weights", found + "parameters, checksums correct")


def _kernel() -> Finding:
    subject, fix = "Jupyter kernel", "pip install jupyterlab"
    try:
        from jupyter_client.kernelspec import KernelSpecManager

        fix = f"{sys.executable} -m ipykernel install --sys-prefix"
        spec = KernelSpecManager().get_kernel_spec("python3")
    except (ImportError, KeyError, OSError, ValueError) as error:
        return Finding(subject, f"no python3 kernel can be read ({error})", fix)
    command = Path(spec.argv[0])
    if command.is_absolute():
        here = os.path.abspath(command) == os.path.abspath(sys.executable)
    else:  # "python" is that of the environment in which the kernel is installed
        here = Path(spec.resource_dir).is_relative_to(sys.prefix)
    if here:
        return Finding(subject, f"python3 in {spec.resource_dir}")
    return Finding(subject, f"python3 starts {command}, another Python", fix)
