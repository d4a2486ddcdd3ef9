"""Sample and train for an hour, and see whether memory or open files grow.

Run `python tools/try_soak.py FILE.json` on Linux with nothing else running; it takes
an hour. Two processes of one thread work side by side: one calls `pixelprior sample`
again and again, the other runs `train-vqvae2` and `train-prior`, half of the time each,
at small size and with a picture and checkpoints after every epoch. Each second the
resident memory and the open file descriptors are counted. The first quarter of the time
is for caches to fill; the medians of the second and of the last quarter are compared.
In the end each folder must hold the files of so much work, and no others.
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
from pathlib import Path

import torch

from pixelprior import cli
from pixelprior.assets import FOLDER
from pixelprior.files import write_texts

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
PER_CALL = 16  # images that one call of `sample` draws


class Watch(threading.Thread):
    """Counts the memory and the open files of this process, each second.

    Attributes:
        counts: (resident megabytes, open descriptors) of each second.
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
        """Medians of the second and of the last quarter."""
        self.ended.set()
        self.join()
        quarter = len(self.counts) // 4
        parts = self.counts[quarter : 2 * quarter], self.counts[-quarter:]
        megabytes = [statistics.median(each[0] for each in part) for part in parts]
        return {
            "seconds": len(self.counts) * self.every,
            "megabytes": [round(each, 1) for each in megabytes],
            "growth": round(megabytes[1] / megabytes[0] - 1, 4),
            "descriptors": [
                statistics.median(each[1] for each in part) for part in parts
            ],
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
    return calls, unexpected(folder, [*images, "drawn_with.json"])


def train(command: str, *flags: str):
    def run(folder: Path, seconds: float, watch: Watch) -> tuple[int, list[str]]:
        """As many epochs as take this long by the time of the first ones."""
        arguments = [command, *IMAGES, *EVERY, *flags]
        started = time.monotonic()
        cli.main([*arguments, "--epochs", "5", "--output_dir", str(folder / "first")])
        per_epoch = (time.monotonic() - started) / 5
        epochs = max(8, round(seconds / per_epoch))
        watch.start()
        cli.main(
            [*arguments, "--epochs", str(epochs), "--output_dir", str(folder / "run")]
        )
        history = json.loads((folder / "run" / "history.json").read_text())
        expected = ["best", "last", "samples", "history.json"]
        if command == "train-prior":
            expected.append("codes")
        odd = unexpected(folder / "run", expected)
        pictures = [f"epoch_{number:04}.png" for number in range(1, epochs + 1)]
        odd += unexpected(folder / "run" / "samples", pictures)
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


def unexpected(folder: Path, names: list[str]) -> list[str]:
    """What is in a folder and should not be, and what is not and should."""
    there = {path.name for path in folder.iterdir()}
    return [f"{name} is there" for name in sorted(there - set(names))] + [
        f"{name} is missing" for name in sorted(set(names) - there)
    ]


def soak(names: list[str], seconds: float, pipe) -> None:
    """Run jobs one after the other in this process; send what was counted."""
    torch.set_num_threads(1)
    results = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        open(os.devnull, "w") as quiet,
        contextlib.redirect_stdout(quiet),
        contextlib.redirect_stderr(quiet),
    ):
        temporary = Path(folder, "temporary")
        temporary.mkdir()
        tempfile.tempdir = str(temporary)
        for name in names:
            place = Path(folder, name)
            place.mkdir()
            watch = Watch()
            times, odd = JOBS[name](place, seconds / len(names), watch)
            odd += [
                f"{each.name} is in the temporary folder"
                for each in temporary.iterdir()
            ]
            results[name] = {
                "what": JOBS[name].__doc__,
                "times": times,
                **watch.result(),
                "files": odd,
            }
    pipe.send(results)


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
    cache = {"TORCHINDUCTOR_CACHE_DIR": str(Path(tempfile.gettempdir(), "inductor"))}
    os.environ |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""} | cache
    context = multiprocessing.get_context("spawn")
    working = []
    for names in (["sample"], ["train_vqvae2", "train_prior"]):
        here, there = context.Pipe()
        process = context.Process(target=soak, args=(names, 60 * flags.minutes, there))
        process.start()
        there.close()
        working.append((process, here))
    jobs: dict = {}
    for process, pipe in working:
        with contextlib.suppress(EOFError):
            jobs |= pipe.recv()
        process.join()
        if process.exitcode:
            raise SystemExit("a process ended with an error, which stands above")
    results = {"minutes": flags.minutes, "flat": flags.flat, "jobs": jobs}
    write_texts(flags.file.parent, {flags.file.name: json.dumps(results, indent=1)})
    wrong = [
        f"{name}: {each}" for name in jobs for each in faults(jobs[name], flags.flat)
    ]
    for name, found in jobs.items():
        print(f"{name}: {found}")
    if wrong:
        raise SystemExit("\n".join(wrong))


if __name__ == "__main__":
    main()
