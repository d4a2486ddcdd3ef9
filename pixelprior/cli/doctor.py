"""The command `doctor`: check whether this machine is ready for the course.

It prints one line per check, and the fix of each fault. No check needs the network.
Each returns what it found, or raises an error that names the fault and, behind a
semicolon, its fix, as all errors here do.
"""

import importlib.metadata
import json
import os
import platform
import re
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from pixelprior.files import sha256_of, writable_folder
from pixelprior.settings import numbers_of

GIB = 2**30


@dataclass(kw_only=True)
class Doctor:
    """Check whether this machine is ready for the course, and name the fix of each
    fault."""

    def run(self) -> None:
        """Print one line per check; exit with status 1 if something must be fixed."""
        faults, checks = 0, {"Python": python}
        for line in importlib.metadata.requires("pixelprior") or []:
            if "extra ==" not in line:
                name, least = re.match(r"([\w-]+)>=([\d.]+)", line).groups()
                checks[name] = partial(package, name, least)
        checks |= {"memory": memory, "folder": folder, "GPU": gpu}
        checks |= {"processes": processes, "images and weights": shipped}
        checks["Jupyter kernel"] = kernel
        for subject, check in checks.items():
            try:
                print(f"ok   {subject}: {check()}")
            except (OSError, ValueError) as error:
                found, _, fix = str(error).rpartition("; ")
                print(f"FIX  {subject}: {found}\n     -> {fix}")
                faults += 1
        print(f"{faults} to fix" if faults else "ready")
        if faults:
            raise SystemExit(1)


def python() -> str:
    return f"{platform.python_version()} at {sys.executable}"


def package(name: str, least: str) -> str:
    """The version of a package, which must not be below `least`."""
    fix = f'pip install "{name}>={least}"'
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError as error:
        raise ValueError(f"not installed; {fix}") from error
    if numbers_of(version) < numbers_of(least):
        raise ValueError(f"{version}, but >={least} is needed; {fix}")
    return version


def memory() -> str:
    memory = psutil.virtual_memory()
    found = f"{memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB free"
    if memory.available < 2 * GIB:
        raise ValueError(f"{found}; close programs until 2 GiB are free")
    return found


def folder() -> str:
    here = writable_folder(Path.cwd())
    free = psutil.disk_usage(str(here)).free
    found = f"{here}, {free / GIB:.1f} GiB free"
    if free < GIB:
        raise ValueError(f"{found}; make 1 GiB of room, or change to another disk")
    return found


def gpu() -> str:
    import torch

    from pixelprior.devices import has_bf16

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    if not Path("/dev/nvidiactl").exists():
        bf16 = "with" if has_bf16() else "without"
        cores = f"{os.cpu_count()} cores, {bf16} bf16"
        return f"none; the course runs on the processor: {cores}"
    built = torch.version.cuda
    why = "it is a CPU build" if built is None else f"the driver lacks CUDA {built}"
    raise ValueError(
        f"there is one that torch cannot use: {why}; install a build of torch for its "
        "driver: see pytorch.org/get-started"
    )


def processes() -> str:
    from pixelprior.devices import check_launch

    check_launch()
    if count := os.environ.get("WORLD_SIZE"):
        return f"{count}, by a launcher"
    return "1; `torchrun --standalone --nproc_per_node 2 -m pixelprior.cli …` starts 2"


def shipped() -> str:
    """Load what ships with the package, and compare the weights with the digests that
    their recipes noted: weights with a flipped bit load like any others."""
    from pixelprior.assets import FOLDER, SHIPPED, load_shipped
    from pixelprior.data.images import SPLITS, load_images

    try:
        images = sum(len(load_images("fashion_mnist_mini", each)) for each in SPLITS)
        models = [model for data in SHIPPED for model in load_shipped(data)]
        for recipe in (FOLDER / "results").rglob("recipe.json"):
            noted = json.loads(recipe.read_text(encoding="utf-8"))
            for name, weights in noted["weights"].items():
                path = FOLDER / f"{noted['recipe']}_{name}" / "model.safetensors"
                # The prior of another seed was measured, but does not ship.
                if "seed" not in name and sha256_of(path) != weights["sha256"]:
                    raise ValueError(f"{path} is not the file that was made")
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"unreadable ({error}); pip install --force-reinstall pixelprior"
        ) from error
    millions = sum(p.numel() for each in models for p in each.parameters()) / 1e6
    weights = f"weights of {millions:.1f} M parameters, checksums correct"
    return f"{images:,} images and {weights}"


def kernel() -> str:
    fix = "pip install jupyterlab"
    try:
        from jupyter_client.kernelspec import KernelSpecManager

        fix = f"{sys.executable} -m ipykernel install --sys-prefix"
        spec = KernelSpecManager().get_kernel_spec("python3")
    except (ImportError, KeyError, OSError, ValueError) as error:
        raise ValueError(f"no python3 kernel can be read ({error}); {fix}") from error
    command = Path(spec.argv[0])
    if command.is_absolute():
        here = os.path.abspath(command) == os.path.abspath(sys.executable)
    else:  # "python" is that of the environment in which the kernel is installed
        here = Path(spec.resource_dir).is_relative_to(sys.prefix)
    if not here:
        raise ValueError(f"python3 starts {command}, another Python; {fix}")
    return f"python3 in {spec.resource_dir}"
