"""Sample and train for an hour, and see whether memory or open files grow.

Run `python tools/try_soak.py FILE.json` on Linux with nothing else running; it takes
an hour. `pixelprior sample` is called again and again, and beside it `train-vqvae2` and
then `train-prior` run for half of the time each, at small size and with a picture and
checkpoints after every epoch; each in a process of its own, on one thread. Every
second, or a hundred times in a short run, the resident memory and the open file
descriptors are counted. The first quarter of the time is for caches to fill; the
medians of memory in the second and in the last quarter are compared, and so are the
fewest descriptors, since a file may be open at the moment of a count, while one that is
never closed is open at all of them. In the end the folder must hold the files of so
much work, and no others.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import statistics
import tempfile
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from pixelprior import cli
from pixelprior.assets import FOLDER
from pixelprior.files import writable_folder, write_texts

GIVEN = {name: str(FOLDER / f"fashion_mnist_{name}") for name in ("vqvae2", "prior")}
IMAGES = (
    "--dataset",
    "fashion_mnist_mini",
    "--max_images",
    "320",
    "--batch_size",
    "32",
)
EVERY = ("--sample_every", "1", "--hidden_channels", "8")
FLAT = 0.02
COUNTS = 100  # of memory and descriptors, at the least
PER_CALL = 16  # images that one call of `sample` draws


class Watch(threading.Thread):
    """Counts the memory and the open files of this process again and again.

    Args:
        every: seconds between two counts.

    Attributes:
        counts: (resident megabytes, open descriptors), in the order of time.
    """

    def __init__(self, every: float = 1.0):
        super().__init__(daemon=True)
        self.every, self.counts, self.ended = every, [], threading.Event()

    def run(self) -> None:
        pages = os.sysconf("SC_PAGE_SIZE") / 2**20
        while not self.ended.wait(self.every):
            resident = int(Path("/proc/self/statm").read_text().split()[1]) * pages
            self.counts.append((resident, len(os.listdir("/proc/self/fd"))))

    def result(self) -> dict:
        """Median of memory and fewest descriptors of the second and the last quarter.

        Raises:
            SystemExit: the work took less than four counts.
        """
        self.ended.set()
        self.join()
        quarter = len(self.counts) // 4
        if not quarter:
            raise SystemExit("the work took less than four counts; give more --minutes")
        parts = self.counts[quarter : 2 * quarter], self.counts[-quarter:]
        megabytes = [statistics.median(each[0] for each in part) for part in parts]
        return {
            "seconds": len(self.counts) * self.every,
            "megabytes": [round(each, 1) for each in megabytes],
            "growth": round(megabytes[1] / megabytes[0] - 1, 4),
            "descriptors": [min(each[1] for each in part) for part in parts],
        }


def sample(folder: Path, seconds: float, watch: Watch) -> tuple[int, list[str]]:
    """`sample`, 16 images per call"""
    until, calls = time.monotonic() + seconds, 0
    watch.start()
    models = [f for name in GIVEN for f in (f"--{name}_checkpoint", GIVEN[name])]
    flags = [*models, "--num_samples", str(PER_CALL), "--label", "3"]
    while time.monotonic() < until:
        cli.main(["sample", *flags, "--seed", str(calls), "--output_dir", str(folder)])
        calls += 1
    images = [f"sample_{number:05}.png" for number in range(PER_CALL)]
    return calls, unexpected(names_in(folder), {*images, "drawn_with.json"})


def train(command: str, *flags: str):
    def run(folder: Path, seconds: float, watch: Watch) -> tuple[int, list[str]]:
        def epochs_in(place: str, epochs: int) -> float:
            """Train in a folder of this name; the seconds that it took."""
            started, arguments = time.monotonic(), [command, *IMAGES, *EVERY, *flags]
            where = ["--epochs", str(epochs), "--output_dir", str(folder / place)]
            cli.main([*arguments, *where])
            return time.monotonic() - started

        epochs_in("first", 5)  # what is slow once
        epochs = max(8, round(seconds / epochs_in("few", 5) * 5))
        watch.start()
        epochs_in("many", epochs)
        few, many = (names_in(folder / place) for place in ("few", "many"))
        few |= {f"samples/epoch_{number:04}.png" for number in range(6, epochs + 1)}
        odd = unexpected(many, few)
        history = json.loads((folder / "many" / "history.json").read_text())
        if len(history) != epochs:
            odd.append(f"{len(history)} epochs in history.json")
        return epochs, odd

    run.__doc__ = f"`{command}`, a picture and checkpoints in every epoch"
    return run


JOBS = {
    "sample": sample,
    "train_vqvae2": train("train-vqvae2", "--embedding_dim", "8"),
    "train_prior": train(
        "train-prior",
        *("--vqvae2_checkpoint", GIVEN["vqvae2"]),
        *("--num_layers", "2", "--class_conditional"),
    ),
}


def names_in(folder: Path) -> set[str]:
    """All files under a folder, by their paths in it."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix() for path in paths}


def unexpected(there: set[str], expected: set[str]) -> list[str]:
    """What is there and should not be, and what is not and should."""
    return [f"{name} is there" for name in sorted(there - expected)] + [
        f"{name} is missing" for name in sorted(expected - there)
    ]


def soak(name: str, seconds: float, folder: Path) -> None:
    """Do a job in this process; write what was counted, or the error."""
    torch.set_num_threads(1)
    work, temporary = folder / "work", folder / "temporary"
    for each in (work, temporary):
        each.mkdir()
    tempfile.tempdir = str(temporary)
    with (
        open(folder / "printed", "w") as printed,
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
    ):
        try:
            watch = Watch(every=min(1.0, seconds / COUNTS))
            times, odd = JOBS[name](work, seconds, watch)
            found = {"what": JOBS[name].__doc__, "times": times, **watch.result()}
            odd += [
                f"temporary {each}" for each in unexpected(names_in(temporary), set())
            ]
            found["files"] = odd
            write_texts(folder, {"found.json": json.dumps(found)})
        except BaseException:
            traceback.print_exc()
            raise


def in_processes(names: list[str], seconds: float, folder: Path) -> dict:
    """Do jobs one after the other, each in a new process; what was found about each.

    Raises:
        SystemExit: a process ended with an error, which is shown.
    """
    results = {}
    for name in names:
        place = folder / name
        place.mkdir()
        work = (name, seconds / len(names), place)
        process = multiprocessing.get_context("spawn").Process(target=soak, args=work)
        process.start()
        process.join()
        if process.exitcode:
            lines = (place / "printed").read_text(encoding="utf-8").splitlines()
            raise SystemExit("\n".join([f"{name} ended with an error:", *lines[-30:]]))
        results[name] = json.loads((place / "found.json").read_text(encoding="utf-8"))
    return results


def faults(found: dict, flat: float) -> list[str]:
    """What is wrong with a job, in words; nothing if all is as it should be."""
    before, after = found["descriptors"]
    wrong = list(found["files"])
    if found["growth"] > flat:
        wrong.append(f"memory grew by {100 * found['growth']:.1f} %")
    if after > before:
        wrong.append(f"{after - before:g} descriptors more are open")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument(
        "--flat", type=float, default=FLAT, help="share by which memory may grow"
    )
    flags = parser.parse_args()
    target, jobs = writable_folder(flags.file.parent), {}
    with tempfile.TemporaryDirectory() as work, ThreadPoolExecutor() as pool:
        os.environ |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        os.environ |= {"TORCHINDUCTOR_CACHE_DIR": work, "PIXELPRIOR_DEBUG": "1"}
        side_by_side = [
            pool.submit(in_processes, names, 60 * flags.minutes, Path(work))
            for names in (["sample"], ["train_vqvae2", "train_prior"])
        ]
        for each in side_by_side:
            jobs |= each.result()
    results = {"minutes": flags.minutes, "flat": flags.flat, "jobs": jobs}
    write_texts(target, {flags.file.name: json.dumps(results, indent=1)})
    wrong = [
        f"{name}: {each}" for name in jobs for each in faults(jobs[name], flags.flat)
    ]
    for name, found in jobs.items():
        print(f"{name}: {found}")
    if wrong:
        raise SystemExit("\n".join(wrong))


if __name__ == "__main__":
    main()
