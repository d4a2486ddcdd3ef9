"""Measure what training beyond memory costs, and what is left of a killed extraction.

Run `python tools/try_scale.py FILE.json` on Linux, with nothing else running. It makes
a folder of JPEG images whose pixels take four times a limit of memory, and measures, in
processes of their own:

- the same steps of a VQ-VAE-2, and of a prior on its codes, with the images in memory
  and without a limit, and under the limit (RLIMIT_DATA), where they do not fit;
- the extraction of the codes, killed five times at random, against one that is not;
- two processes against one at the same number of images per step;
- one batch of 16 images of 256×256, grids of 32×32 and 64×64, drawn from an untrained
  prior of the default size: its time against one forward pass and against `naive`,
  which is counted by a few passes, and its memory;
- the memory that a training step takes per image of its batch, for models of the
  default size.

Parts that the file has are not measured again. `docs/performance.md` has the results as
`pixelprior/benchmark/scale.py` says them.
"""

import argparse
import copy
import itertools
import json
import math
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from pixelprior import (
    VQVAE2,
    HierarchicalPixelCNN,
    TrainingSettings,
    fit,
    image_streams,
    load_images,
)
from pixelprior.benchmark.sampling import machine, untrained_prior
from pixelprior.benchmark.sizes import Sizes
from pixelprior.checkpoints import load_model
from pixelprior.codes import extract_codes_to_file, load_codes
from pixelprior.data import ImageData
from pixelprior.devices import keep_freed_memory, make_accelerator
from pixelprior.files import sha256_of, write_texts
from pixelprior.held_out import Part
from pixelprior.prior import LEVELS

# Speeds are those of ROUNDS trainings in each of TURNS processes. The two kinds take
# turns, so that a machine that slows down for a while slows both.
KILLS, ROUNDS, TURNS = 5, 2, 2
MOST_THREADS = 8
FIRST = "vqvae2/0_0/last"  # the VQ-VAE-2 of the first training
SETTINGS = TrainingSettings(epochs=1, batch_size=16, lr=1e-3, mixed_precision="no")


def write_images(folder: Path, count: int, side: int) -> None:
    """JPEG images of ten colours: the embedded clothes, enlarged and tinted."""
    clothes = load_images("fashion_mnist_mini")
    tints = np.random.default_rng(0).uniform(0.3, 1, (10, 3))
    for number in range(count):
        grey = clothes.images[number % len(clothes), 0].numpy()
        grey = np.asarray(Image.fromarray(grey).resize((side, side), Image.BICUBIC))
        label = number % 10
        path = folder / f"{label}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        tinted = (grey[..., None] * tints[label]).astype(np.uint8)
        Image.fromarray(tinted).save(path, quality=90)


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
    torch.manual_seed(0)
    prior = HierarchicalPixelCNN(64, 16, 32, 4, len(data.class_names))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "in_memory": isinstance(data, ImageData),
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


def memory_of_a_step(arguments) -> list[dict]:
    """By stage and size of the images: bytes per image, from two sizes of a batch."""
    found = []
    for stage, side in itertools.product(
        ("vqvae2", "prior"), sorted({32, arguments.side})
    ):
        sizes = (8, 64) if side <= 64 else (1, 4)
        runs = [
            start("step", arguments, stage=stage, side=side, batch=size)
            for size in sizes
        ]
        few, many = (run["highest_resident_bytes"] for run in runs)
        found.append(
            {
                "stage": stage,
                "side": side,
                "batch_sizes": sizes,
                "parameters": runs[0]["parameters"],
                "highest_resident_bytes": [few, many],
                "bytes_per_image": (many - few) / (sizes[1] - sizes[0]),
            }
        )
    return found


PARTS = {
    "both": both_stages,
    "extraction": extraction,
    "processes": processes,
    "large": large_images,
    "step": training_step,
}


def start(part: str, arguments, *launcher, limit=None, wait=True, **changed):
    """Run a part in a process of its own; return what it found, or the process."""
    flags = {
        "folder": arguments.folder,
        "work": arguments.work,
        "side": arguments.side,
        "steps": arguments.steps,
        "grid": arguments.grid,
        "width": arguments.width,
        "turn": 0,
        "limit": 0 if limit is None else limit,
        **changed,
    }
    command = [sys.executable, *launcher, __file__, "-", "--part", part]
    for name, value in flags.items():
        command += [f"--{name}", str(value)]
    if arguments.never_fits and limit:
        command.append("--never_fits")
    threads = changed.get("threads", os.cpu_count() or 1)
    environment = os.environ | {
        "PIXELPRIOR_CACHE": str(arguments.work / "cache"),
        "CUDA_VISIBLE_DEVICES": "",
        # The stacks of all threads count for the limit of memory.
        "OMP_NUM_THREADS": str(min(threads, MOST_THREADS)),
    }
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
    if not wait:
        return process
    out = process.communicate()[0]
    if process.returncode:
        raise SystemExit(f"the part {part} ended with status {process.returncode}")
    found = json.loads(out)
    print(part, found, file=sys.stderr, flush=True)
    return found


def killed_extraction(arguments, seconds: float) -> dict:
    """Kill the extraction, first when it has written a part and then at random moments,
    and let the last one end."""
    draw, done = random.Random(0), []
    marks = arguments.work / "again.safetensors.done"

    def parts_done() -> int:
        try:
            return sum(marks.read_bytes())
        except FileNotFoundError:  # not there yet, or removed since all is done
            return 0

    for number in range(KILLS):
        before = parts_done()
        process = start("extraction", arguments, limit=arguments.limit, wait=False)
        while process.poll() is None and parts_done() <= before:
            time.sleep(0.01)
        time.sleep(draw.uniform(0.0, 1.0) * seconds * bool(number))
        process.kill()
        process.communicate()
        done.append(parts_done())
    found = start("extraction", arguments, limit=arguments.limit)
    return {"kills": KILLS, "parts_done_after_each": done, **found}


def measure(arguments, results: dict) -> None:
    """Measure what `results` does not have yet.

    Raises:
        SystemExit: the file is from another machine.
    """
    here = results.setdefault("machine", machine("cpu"))
    if here != machine("cpu"):
        raise SystemExit(
            f"{arguments.file} was measured on {here}, and this is {machine('cpu')}; "
            "measure all parts in a new file"
        )
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    cores = os.cpu_count() or 1
    if "two_processes" not in results:
        training_beyond_memory(arguments, results)
        # These two use the codes that the trainings have left.
        results["one_process"] = start("processes", arguments, threads=cores)
        results["two_processes"] = start(
            "processes", arguments, *launcher, threads=max(1, cores // 2)
        )
    if "large_images" not in results:
        results["large_images"] = start("large", arguments)
    if "memory_of_a_step" not in results:
        results["memory_of_a_step"] = memory_of_a_step(arguments)


def training_beyond_memory(arguments, results: dict) -> None:
    count = arguments.images or 4 * arguments.limit // (3 * arguments.side**2)
    started = time.perf_counter()
    write_images(arguments.folder, count, arguments.side)
    print(f"{count:,} images in {time.perf_counter() - started:.0f} s", file=sys.stderr)
    results |= {
        "limit_bytes": arguments.limit,
        "side": arguments.side,
        "steps": arguments.steps,
    }
    work = arguments.work
    kinds = {"without_limit": None, "under_the_limit": arguments.limit}
    for turn, (name, limit) in itertools.product(range(TURNS), kinds.items()):
        arguments.work = work / name
        found = start("both", arguments, limit=limit, turn=turn)
        first = results.setdefault(name, found)
        for stage in ("vqvae2", "prior") if turn else ():
            speeds = found[stage].pop("steps_per_second")
            first[stage]["steps_per_second"] += speeds
            if not found[stage].items() <= first[stage].items():
                raise SystemExit(f"the same training of {stage} had other losses")
    # In a share of the time that the whole took, so that some parts are left.
    seconds = results["under_the_limit"]["seconds_to_extract"] / KILLS
    results["killed_extraction"] = killed_extraction(arguments, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--limit", type=int, default=2**30, help="bytes of RLIMIT_DATA")
    parser.add_argument("--side", type=int, default=256, help="pixels of the images")
    parser.add_argument("--steps", type=int, default=60, help="steps of each training")
    parser.add_argument(
        "--images", type=int, help="number of images; else four times the limit"
    )
    parser.add_argument(
        "--never_fits",
        action="store_true",
        help="take few images for too many under the limit, in a short trial",
    )
    parser.add_argument("--grid", type=int, default=32, help="side of the top grid")
    parser.add_argument("--width", type=int, default=128, help="channels, to draw with")
    for name in ("folder", "work", "part", "threads", "turn", "stage", "batch"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part is None:
        with tempfile.TemporaryDirectory() as folder:
            arguments.folder, arguments.work = Path(folder, "images"), Path(folder)
            results = {}
            if arguments.file.is_file():
                results = json.loads(arguments.file.read_text(encoding="utf-8"))
            measure(arguments, results)
        write_texts(
            arguments.file.parent, {arguments.file.name: json.dumps(results, indent=1)}
        )
        return
    arguments.folder, arguments.work = Path(arguments.folder), Path(arguments.work)
    arguments.turn = int(arguments.turn or 0)
    arguments.batch = int(arguments.batch or 0)
    arguments.threads = int(arguments.threads or torch.get_num_threads())
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
