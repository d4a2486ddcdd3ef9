"""Measure what training beyond memory costs, and what is left of a killed extraction.

Run `python tools/try_scale.py FILE.json` on Linux, with nothing else running. It makes
a folder of JPEG images whose pixels take four times a limit of memory, and measures, in
processes of their own:

- the same steps of a VQ-VAE-2, and of a prior on its codes, with images and codes in
  memory and without a limit, and under the limit (RLIMIT_DATA), where the images are a
  stream and the file of codes is mapped;
- the extraction of the codes, killed five times at random, against one that is not;
- two processes against one at the same number of images per step;
- one batch of 16 images of 256×256, grids of 32×32 and 64×64, drawn from an untrained
  prior of the default size: its time against one forward pass and against `naive`,
  which is counted by a few passes, and its memory;
- the memory that a training step takes per image of its batch, for models of the
  default size.

The parts are in `scale_parts.py`. Those that the file has are not measured again.
`docs/performance.md` has the results as `pixelprior/benchmark/scale.py` says them.
"""

import argparse
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from pixelprior import load_images
from pixelprior.benchmark.sampling import machine
from pixelprior.files import write_texts

# Speeds are those of ROUNDS trainings (`scale_parts.py`) in each of TURNS processes.
# The two kinds take turns, so that a machine that slows down for a while slows both.
KILLS, TURNS = 5, 2
MOST_THREADS = 8
PARTS = Path(__file__).with_name("scale_parts.py")


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
    command = [sys.executable, *launcher, str(PARTS), part]
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
    complete = arguments.work / "again.safetensors"
    unfinished = complete.with_name(f"{complete.name}.unfinished")

    def parts_done() -> int:
        """As the marks after the codes say, which are cut off when all is done."""
        try:
            with open(unfinished, "rb") as file:
                header = file.read(int.from_bytes(file.read(8), "little"))
                about = json.loads(header).values()
                ends = [each.get("data_offsets", (0, 0))[1] for each in about]
                file.seek(8 + len(header) + max(ends))
                return sum(file.read())
        except FileNotFoundError:  # not there yet, or complete
            return 0

    for number in range(KILLS):
        before, later = parts_done(), draw.uniform(0.0, 1.0) * seconds * bool(number)
        while True:
            process = start("extraction", arguments, limit=arguments.limit, wait=False)
            while process.poll() is None and parts_done() <= before:
                time.sleep(0.01)
            time.sleep(later)
            process.kill()
            process.communicate()
            if number or parts_done():
                break
            complete.unlink()  # all was done before the first kill: once more
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
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        arguments.folder, arguments.work = Path(folder, "images"), Path(folder)
        results = {}
        if arguments.file.is_file():
            results = json.loads(arguments.file.read_text(encoding="utf-8"))
        measure(arguments, results)
    texts = {arguments.file.name: json.dumps(results, indent=1)}
    write_texts(arguments.file.parent, texts)


if __name__ == "__main__":
    main()
