"""What `try_scale.py` measures, each in a process of its own that it starts.

`python tools/scale_parts.py PART --folder … --work …` prints what it found as JSON.
"""

import argparse
import copy
import json
import math
import resource
import statistics
import time
from pathlib import Path

import torch

from pixelprior import (
    VQVAE2,
    HierarchicalPixelCNN,
    TrainingSettings,
    fit,
    image_streams,
    load_images,
)
from pixelprior.benchmark.sampling import untrained_prior
from pixelprior.benchmark.sizes import Sizes
from pixelprior.checkpoints import load_model
from pixelprior.codes import extract_codes_to_file, load_codes
from pixelprior.data import ImageData
from pixelprior.devices import keep_freed_memory, make_accelerator
from pixelprior.files import sha256_of
from pixelprior.held_out import Part
from pixelprior.prior import LEVELS

ROUNDS = 2  # trainings in each process
FIRST = "vqvae2/0_0/last"  # the VQ-VAE-2 of the first training
SETTINGS = TrainingSettings(epochs=1, batch_size=16, lr=1e-3, mixed_precision="no")


def load(arguments):
    return load_images(
        "imagefolder", data_root=arguments.folder, image_size=arguments.side
    )


def train(model, data, steps: int, turn: int, folder: Path) -> dict:
    """Train on the first images of a shuffled order; return the speed and the losses.

    The same training is repeated `ROUNDS` times, and the speeds of all are returned.
    The first step is left out of each: it starts the processes that decode.
    """
    start, speeds = copy.deepcopy(model), []
    for number in range(ROUNDS):
        here = folder / f"{turn}_{number}"
        found = train_once(copy.deepcopy(start), data, steps, here)
        speeds.append(found.pop("steps_per_second"))
    return {"steps_per_second": speeds, **found}


def train_once(model, data, steps: int, folder: Path, settings=SETTINGS) -> dict:
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
    part = Part(data, order[: steps * settings.batch_size])
    times: list[float] = []

    class Timed(Part):
        def batches(self, parts):
            for batch in super().batches(parts):
                times.append(time.perf_counter())
                yield batch

        def to(self, device):
            return Timed(self.data.to(device), self.indices.to(device))

    history = fit(
        model,
        Timed(part.data, part.indices),
        None,
        settings,
        folder,
        make_accelerator(settings, folder),
        log=lambda line: None,
    )
    losses = {name: value for name, value in history[-1].items() if "loss" in name}
    return {"steps_per_second": (len(times) - 1) / (times[-1] - times[0]), **losses}


def both_stages(arguments) -> dict:
    """Train both stages, with the images in memory or as a stream."""
    started = time.perf_counter()
    data = load(arguments)
    loaded = time.perf_counter() - started
    torch.manual_seed(0)
    vqvae2 = VQVAE2(3, arguments.side, 16, 16, 64, bottom_downsampling=8)
    work, often = arguments.work, (arguments.steps, arguments.turn)
    images = train(vqvae2, data, *often, work / "vqvae2")
    vqvae2 = load_model(VQVAE2, work / FIRST)
    started = time.perf_counter()
    if arguments.turn == 0:
        extract_codes_to_file(vqvae2, data, work / "codes.safetensors", "here")
    extracted = time.perf_counter() - started
    codes = load_codes(work / "codes.safetensors", "here")
    in_memory = isinstance(data, ImageData)
    if in_memory:  # and so are the codes; else the file is mapped
        codes = codes.subset(torch.arange(len(codes)))
    torch.manual_seed(0)
    prior = HierarchicalPixelCNN(64, 16, 32, 4, len(data.class_names))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "in_memory": in_memory,
        "codes_mapped": "codes.safetensors" in Path("/proc/self/maps").read_text(),
        "images": len(data),
        "bytes_decoded": len(data) * 3 * arguments.side**2,
        "seconds_to_load": loaded,
        "seconds_to_extract": extracted,
        "vqvae2": images,
        "prior": train(prior, codes, *often, work / "prior"),
        "codes_sha256": sha256_of(work / "codes.safetensors"),
        "highest_resident_bytes": usage.ru_maxrss * 1024,
    }


def extraction(arguments) -> dict:
    """Encode all images with the VQ-VAE-2 that an earlier process trained."""
    vqvae2 = load_model(VQVAE2, arguments.work / FIRST)
    path = arguments.work / "again.safetensors"
    extract_codes_to_file(vqvae2, load(arguments), path, "here")
    return {"codes_sha256": sha256_of(path)}


def processes(arguments) -> dict:
    """Train a prior in as many processes as were started, 32 images per step."""
    from accelerate import PartialState

    count = PartialState(cpu=True).num_processes
    steps = max(1, arguments.steps // 3)  # each takes long in this larger prior
    torch.set_num_threads(arguments.threads)
    settings = TrainingSettings(
        epochs=1, batch_size=32 // count, lr=1e-3, mixed_precision="no"
    )
    folder = arguments.work / f"{count}_processes"
    accelerator = make_accelerator(settings, folder, on_cpu=True)
    codes = load_codes(arguments.work / "codes.safetensors", "here")
    torch.manual_seed(0)
    prior = HierarchicalPixelCNN(64, 16, 64, 6, 10, dropout=0.0)
    history = fit(
        prior,
        Part(codes, torch.arange(32 * steps)),
        Part(codes, torch.arange(32 * steps, len(codes))[:128]),
        settings,
        folder,
        accelerator,
        log=lambda line: None,
    )
    usage = resource.getrusage(resource.RUSAGE_SELF)
    heldout = {n: value for n, value in history[-1].items() if n.startswith("heldout")}
    found = {
        "processes": count,
        "threads_per_process": arguments.threads,
        "steps_per_second": history[-1]["steps_per_second"],
        **heldout,
        "highest_resident_bytes": usage.ru_maxrss * 1024,
    }
    return found if accelerator.is_main_process else {}


@torch.inference_mode()
def large_images(arguments) -> dict:
    """Draw one batch from an untrained prior; the weights do not affect the time."""
    sizes = Sizes(
        batch_sizes=(16,),
        hidden_channels=arguments.width,
        top_size=arguments.grid,
        bottom_size=2 * arguments.grid,
    )
    prior, (batch,) = untrained_prior(sizes), sizes.batch_sizes
    shapes = {level: sizes.shape(level) for level in LEVELS}

    def seconds(run, *given, **options) -> float:
        started = time.perf_counter()
        run(*given, **options)
        return time.perf_counter() - started

    def draw() -> None:
        prior.sample(batch, *shapes.values(), method="cached", chunk_size=batch)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    drawn = [seconds(draw) for _ in range(2)]
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    codes = [torch.zeros(batch, *shape, dtype=torch.long) for shape in shapes.values()]
    bottom = prior.prior_bottom
    condition = bottom.condition(None, codes[0], codes[1].shape)
    passes = {
        "top": lambda: prior.prior_top.logits(codes[0], None),
        "bottom": lambda: bottom.logits(codes[1], condition),
    }
    rounds = [{level: seconds(run) for level, run in passes.items()} for _ in range(4)]
    rounds = rounds[1:]  # the first is slower
    # For each code `naive` computes the logits of its whole level.
    naive = sum(
        math.prod(shapes[level]) * statistics.median(each[level] for each in rounds)
        for level in LEVELS
    )
    return {
        "batch_size": batch,
        "grids": list(shapes.values()),
        "hidden_channels": sizes.hidden_channels,
        "num_layers": sizes.num_layers,
        "cached": drawn,
        "forward": [sum(each.values()) for each in rounds],
        "naive": naive,
        "resident_bytes_before": before * 1024,
        "highest_resident_bytes": after * 1024,
    }


def training_step(arguments) -> dict:
    """One step of a model of the default size, in float32, without the optimizer."""
    side, batch = arguments.side, arguments.batch
    halved = 2 if side <= 64 else 4  # grids of 8×8 and 16×16, or 32×32 and 64×64
    torch.manual_seed(0)
    if arguments.stage == "vqvae2":
        model = VQVAE2(3, side, arguments.width, bottom_downsampling=halved)
        given = (torch.rand(batch, 3, side, side),)
    else:
        model = HierarchicalPixelCNN(512, 64, arguments.width, num_classes=10)
        shapes = [
            (batch, side // halved // 2, side // halved // 2),
            (batch, side // halved, side // halved),
            (batch,),
        ]
        given = [torch.zeros(shape, dtype=torch.long) for shape in shapes]
    losses = model.to(memory_format=torch.channels_last).loss_function(*given)
    sum(losses[name] for name in model.training_parts()).backward()
    return {
        "parameters": sum(each.numel() for each in model.parameters()),
        "highest_resident_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        * 1024,
    }


PARTS = {
    "both": both_stages,
    "extraction": extraction,
    "processes": processes,
    "large": large_images,
    "step": training_step,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--folder", type=Path, help="the images")
    parser.add_argument("--work", type=Path, help="models, codes and the cache")
    parser.add_argument("--stage", choices=("vqvae2", "prior"))
    parser.add_argument("--never_fits", action="store_true")
    for name in ("side", "steps", "grid", "width", "turn", "batch", "limit"):
        parser.add_argument(f"--{name}", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    if arguments.limit:
        resource.setrlimit(resource.RLIMIT_DATA, (arguments.limit,) * 2)
    if arguments.never_fits:
        image_streams.SHARE_OF_MEMORY = 0.0
    keep_freed_memory()
    found = PARTS[arguments.part](arguments)
    if found:  # one process of several: two lines could become one
        print(json.dumps(found))


if __name__ == "__main__":
    main()
