"""Kill each kind of work, or take its disk away, many times, and see what is lost.

Run `python tools/try_faults.py FILE.json` on Linux. Both trainings, the extraction of
codes, sampling and `reproduce` are each run once without a fault, on one thread. Then
they are killed (SIGKILL) again and again and started again where they stopped: half of
the times at a random moment, half before, after or in the middle of a step that
opens or changes files (a save, a rename, a removal). At the end the folder must be the
same as that of the run without a fault: the same files, the same bytes; only times may
differ.

The same is done with a disk (a tmpfs, for which the command must be root) that is full
from some step on, or turns read-only: the command must end in one line that says what
to do, and must go on when there is room. Of `reproduce` everything is run but the
figures at its end, which keep nothing until they are complete.
"""

import argparse
import hashlib
import io
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from pickle import UnpicklingError

import torch

from pixelprior import (
    VQVAE2,
    HierarchicalPixelCNN,
    checkpoints,
    cli,
    code_writer,
    load_images,
)
from pixelprior.assets import FOLDER
from pixelprior.checkpoints import load_model
from pixelprior.cli.recipes import RECIPES, Recipe
from pixelprior.cli.reproduce import Reproduction
from pixelprior.codes import extract_codes_to_file
from pixelprior.files import remove_unfinished, write_texts
from pixelprior.runs import STATE_NAME

GIVEN = {name: str(FOLDER / f"fashion_mnist_{name}") for name in ("vqvae2", "prior")}
IMAGES = ("--dataset", "fashion_mnist_mini", "--max_images", "320")
EPOCHS = ("--epochs", "3", "--batch_size", "32", "--save_steps", "3")
SMALL = {"hidden_channels": 8, "max_images": 320, "batch_size": 32, "save_steps": 3}
TINY = {
    "vqvae2": {**SMALL, "num_embeddings": 16, "embedding_dim": 8, "epochs": 1},
    "prior": {**SMALL, "num_layers": 2, "epochs": 1},
}


def command(*arguments, folder: Path, sign_of_a_run: str) -> None:
    """A command in a folder; it is resumed if there is something to resume."""
    # A checkpoint is moved aside while another one is put in its place.
    signs = folder / sign_of_a_run, folder / f".{sign_of_a_run}.previous"
    resume = ["--resume"] if any(sign.exists() for sign in signs) else []
    cli.main([*map(str, arguments), "--output_dir", str(folder), *resume])


def train_vqvae2(folder: Path) -> None:
    """train-vqvae2, 3 epochs, `last` written every 3 steps"""
    sizes = "--hidden_channels", 8, "--embedding_dim", 8
    flags = *IMAGES, *EPOCHS, *sizes
    command("train-vqvae2", *flags, folder=folder, sign_of_a_run="last")


def train_prior(folder: Path) -> None:
    """train-prior, 3 epochs, `last` written every 3 steps"""
    sizes = "--hidden_channels", 8, "--num_layers", 2, "--class_conditional"
    flags = *IMAGES, *EPOCHS, *sizes, "--vqvae2_checkpoint", GIVEN["vqvae2"]
    command("train-prior", *flags, folder=folder, sign_of_a_run="last")


def extract(folder: Path) -> None:
    """extraction of the codes of 2,000 images, in parts of 64"""
    remove_unfinished(folder)  # as the commands do
    vqvae2 = load_model(VQVAE2, GIVEN["vqvae2"])
    images = load_images("fashion_mnist_mini", "train", max_images=2000)
    path = folder / "codes.safetensors"
    if not path.exists():
        extract_codes_to_file(vqvae2, images, path, "here")


def sample(folder: Path) -> None:
    """sample, 160 images in batches of 8"""
    models = "--vqvae2_checkpoint", GIVEN["vqvae2"], "--prior_checkpoint"
    flags = *models, GIVEN["prior"], "--num_samples", 160, "--batch_size", 8
    command("sample", *flags, folder=folder, sign_of_a_run="drawn_with.json")


def sample_codes(folder: Path) -> None:
    """sample, the codes of 160 images in batches of 8, in one file"""
    flags = "--prior_checkpoint", GIVEN["prior"], "--num_samples", 160
    batches = "--batch_size", 8
    command("sample", *flags, *batches, folder=folder, sign_of_a_run="drawn_with.json")


def reproduce(folder: Path) -> None:
    """reproduce, up to the figures: five trainings"""
    cli.main(["reproduce", "fashion_mnist_mini", "--output_dir", str(folder)])


TRUNCATE = os.truncate  # itself no step of the work
JOBS = (train_vqvae2, train_prior, extract, sample, sample_codes, reproduce)
TRAININGS = (train_vqvae2, train_prior)


class Steps:
    """Counts the steps that change files, and lets something happen at one of them.

    Args:
        at: number of the step, from 1 on; None for none.
        place: "before" or "after" the step, or in its "middle", with half of a file
            written (a step that cannot be halved counts as "after").
        fault: what happens.
        again: let it happen before all later steps as well.
    """

    def __init__(self, at: int | None, place: str, fault: Callable, again=False):
        self.at, self.place, self.fault, self.again = at, place, fault, again
        self.seen = 0
        for module, name in (
            (os, "rename"),
            (os, "replace"),
            (os, "unlink"),
            (os, "fsync"),
            (os, "open"),
            (os, "truncate"),
            (shutil, "rmtree"),
            (shutil, "copy"),
        ):
            setattr(module, name, self.counted(getattr(module, name)))
        torch.save = self.counted(torch.save, writes=True)
        checkpoints.save_file = self.counted(checkpoints.save_file, writes=True)

    def counted(self, function: Callable, writes: bool = False) -> Callable:
        def step(*arguments, **named):
            self.seen += 1
            at = self.at is not None and self.seen == self.at
            later = self.at is not None and self.again and self.seen > self.at
            if later or (at and self.place == "before"):
                self.fault()
            result = function(*arguments, **named)
            if at and self.place != "before":
                path = next((a for a in arguments if isinstance(a, str | Path)), None)
                if writes and self.place == "middle" and path is not None:
                    TRUNCATE(path, os.path.getsize(path) // 2)
                self.fault()
            return result

        return step


def in_a_process(job, folder: Path, log: Path, steps: tuple, sender) -> None:
    """Run a job, with its output in a file; send how many steps it had."""
    torch.set_num_threads(1)
    with open(log, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    counter = Steps(*steps)
    try:
        job(folder)
    except OSError as error:  # a job that is no command
        print(error)
        raise SystemExit(2) from None
    sender.send(counter.seen)


class Try:
    """A job in a process of its own, in a new folder or where another one stopped."""

    def __init__(self, job, folder: Path, log: Path, steps: tuple):
        context = multiprocessing.get_context("fork")
        self.receiver, sender = context.Pipe(duplex=False)
        arguments = job, folder, log, steps, sender
        self.process = context.Process(target=in_a_process, args=arguments)
        self.process.start()
        sender.close()

    def end(self, seconds: float | None = None) -> int:
        """Wait for the end, or kill it after so many seconds; return its status."""
        self.process.join(seconds)
        if self.process.is_alive():
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.join()
        return self.process.exitcode


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def without_times(value):
    """The same JSON value without what differs between two runs: times."""
    if isinstance(value, dict):
        return {
            key: without_times(each)
            for key, each in value.items()
            if not re.search("second|minute", key)
        }
    return [without_times(each) for each in value] if isinstance(value, list) else value


def plain(value):
    """A training state as JSON values; tensors as the SHA-256 of their bytes."""
    if isinstance(value, torch.Tensor):
        content = value.detach().contiguous().view(-1).view(torch.uint8).numpy()
        return [str(value.dtype), *value.shape, hashlib.sha256(content).hexdigest()]
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value


def contents(folder: Path) -> dict[str, str]:
    """The SHA-256 of what each file of a folder says, but for times."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".log":
            continue
        content = path.read_bytes() if path.is_file() else b"a folder"
        if path.suffix == ".json":
            content = json.dumps(without_times(json.loads(content))).encode()
        elif path.suffix == ".pt":
            state = torch.load(io.BytesIO(content), weights_only=True)
            content = json.dumps(without_times(plain(state)), default=repr).encode()
        name = path.relative_to(folder).as_posix()
        found[name] = hashlib.sha256(content).hexdigest()
    return found


def differences(folder: Path, right: dict[str, str]) -> list[str]:
    """The files that are not those of the run without a fault."""
    found = contents(folder)
    return sorted(n for n in {*right, *found} if right.get(n) != found.get(n))


class Whole:
    """What a job leaves when nothing goes wrong."""

    def __init__(self, job, work: Path):
        folder = work / "whole"
        started = time.perf_counter()
        done = Try(job, folder, work / "log", (None, "", die))
        if done.end():
            raise SystemExit((work / "log").read_text())
        self.seconds = time.perf_counter() - started
        self.steps, self.contents = done.receiver.recv(), contents(folder)


def kills(job, whole: Whole, count: int, work: Path, rng: random.Random) -> dict:
    """Kill a job `count` times in all; compare each folder where it came to an end."""
    found = {"kills": 0, "at_a_step": 0, "runs": 0, "lost_times": 0, "lost": []}
    log = work / "log"
    while found["kills"] < count:
        folder, lost, before = work / f"killed_{found['runs']}", [], found["kills"]
        for _ in range(5):  # then it is left to end
            at_a_step = found["kills"] % 2 == 1
            step = rng.randint(1, whole.steps) if at_a_step else None
            place = rng.choice(["before", "middle", "after"])
            tried = Try(job, folder, log, (step, place, die))
            late = None if at_a_step else rng.uniform(0, whole.seconds)
            status = tried.end(late)
            if status == -signal.SIGKILL:
                found["kills"] += 1
                found["at_a_step"] += at_a_step
            elif status:
                lost.append(log.read_text()[-300:])
            if status == 0 or found["kills"] == count:
                break
        if Try(job, folder, log, (None, "", die)).end():
            lost.append(log.read_text()[-300:])
        lost += differences(folder, whole.contents)
        found["lost"] += lost
        found["lost_times"] += bool(lost) * (found["kills"] - before)
        found["runs"] += 1
        shutil.rmtree(folder)
    return found


def fill(folder: Path) -> None:
    """Write until the disk is full."""
    with open(folder / "filler", "ab", 0) as file:
        for size in (2**20, 2**12, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                pass


def lock(folder: Path) -> None:
    """Make the disk read-only, unless a file is open for writing."""
    remount(folder, "ro")


def remount(folder: Path, how: str) -> bool:
    line = ["mount", "-o", f"remount,{how}", str(folder)]
    return subprocess.run(line, capture_output=True).returncode == 0


FAULTS = {"full": fill, "read-only": lock}
KINDS = {"full": "is full", "read-only": "turns read-only"}


def disk_faults(job, whole: Whole, kind: str, count: int, work: Path, rng) -> dict:
    """Let a job's disk fail at some step; it must end clearly, and go on afterwards.

    It is no fault if nothing had to be written any more: then another step is taken.
    """
    found = {"fault": KINDS[kind], "faults": 0, "without_effect": 0}
    found |= {"lost_times": 0, "lost": []}
    disk, log = work / "disk", work / "log"
    while found["faults"] < count and found["without_effect"] < 10 * count:
        disk.mkdir(exist_ok=True)
        mount = ["mount", "-t", "tmpfs", "-o", "size=48m", "it", disk]
        subprocess.run(mount, check=True)
        lost = []
        try:
            folder = disk / "run"
            step = rng.randint(1, whole.steps)
            fault = (step, "before", lambda: FAULTS[kind](disk), True)
            status = Try(job, folder, log, fault).end()
            said = log.read_text().strip().splitlines()[-1:]
            found["faults" if status else "without_effect"] += 1
            clear = re.search("make room|ask for permission", " ".join(said))
            if job in (sample, sample_codes) and any(folder.glob("[sc]*")):
                clear = clear and "--resume" in " ".join(said)  # or they are drawn anew
            if status and (status != 2 or not clear):
                lost.append(f"at step {step}: status {status}, {said}")
            for place in ("last", "best") if job in TRAININGS else ():
                if (folder / place).is_dir() and not is_whole(folder / place):
                    lost.append(f"at step {step}: {place} is not whole")
            remount(disk, "rw")
            (disk / "filler").unlink(missing_ok=True)
            if status and Try(job, folder, log, (None, "", die)).end():
                lost.append(log.read_text()[-300:])
            lost += differences(folder, whole.contents)
        finally:
            subprocess.run(["umount", disk], check=True)
        found["lost"] += lost
        found["lost_times"] += bool(lost and status)
    return found


def is_whole(checkpoint: Path) -> bool:
    """Whether a checkpoint can be loaded, and, in `last`, the state of the run."""
    classes = {each.__name__: each for each in (VQVAE2, HierarchicalPixelCNN)}
    try:
        about = json.loads((checkpoint / "config.json").read_text())
        load_model(classes[about["model_class"]], checkpoint)
        if checkpoint.name == "best":
            return True
        return isinstance(torch.load(checkpoint / STATE_NAME, weights_only=True), dict)
    except (ValueError, OSError, RuntimeError, KeyError, EOFError, UnpicklingError):
        return False


def can_mount(work: Path) -> bool:
    """Whether this process may mount a disk of its own."""
    folder = work / "mount"
    folder.mkdir()
    line = ["mount", "-t", "tmpfs", "-o", "size=1m", "it", str(folder)]
    if (
        shutil.which("mount") is None
        or subprocess.run(line, capture_output=True).returncode
    ):
        return False
    subprocess.run(["umount", folder], check=True)
    return True


def small(recipe: Recipe) -> Recipe:
    """The same recipe with small networks and few images."""
    return replace(
        recipe,
        vqvae2=recipe.vqvae2 | TINY["vqvae2"],
        prior=recipe.prior | TINY["prior"],
        classifier_epochs=1,
        more_seeds=(1,),
    )


def measure(kills_each: int, faults_each: int, jobs=JOBS, say=print) -> dict:
    """Try all jobs; return what was tried and what was lost."""
    torch.set_num_threads(1)
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # no GPU can be used in a forked process
    code_writer.PART = 64
    RECIPES["fashion_mnist_mini"] = small(RECIPES["fashion_mnist_mini"])
    for name in ("choose_setting", "evaluate_seed", "evaluate_all"):
        setattr(Reproduction, name, lambda *_: None)
    results: dict = {"jobs": {}, "disks": {}}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        mounts = faults_each and can_mount(work)
        if faults_each and not mounts:
            say("disks left out: this process may not mount one")
        for job in jobs:
            rng, about = random.Random(job.__name__), {"what": job.__doc__}
            whole = Whole(job, work)
            found = about | kills(job, whole, kills_each, work, rng)
            results["jobs"][job.__name__] = found
            say(f"{job.__name__} ({whole.seconds:.1f} s, {whole.steps} steps): {found}")
            for kind in FAULTS if mounts and job is not reproduce else ():
                found = about | disk_faults(job, whole, kind, faults_each, work, rng)
                results["disks"][f"{job.__name__}, {kind}"] = found
                say(f"{job.__name__}, {kind}: {found}")
            shutil.rmtree(work / "whole")
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--kills", type=int, default=12, help="of each kind of work")
    parser.add_argument("--faults", type=int, default=5, help="of each kind, per disk")
    parser.add_argument("--jobs", nargs="*", default=[job.__name__ for job in JOBS])
    arguments = parser.parse_args()
    jobs = [job for job in JOBS if job.__name__ in arguments.jobs]
    results = measure(arguments.kills, arguments.faults, jobs)
    write_texts(
        arguments.file.parent, {arguments.file.name: json.dumps(results, indent=1)}
    )
    each = (*results["jobs"].values(), *results["disks"].values())
    if any(found["lost"] for found in each):
        raise SystemExit("something was lost")
    if any(f["faults"] < arguments.faults for f in results["disks"].values()):
        raise SystemExit("some disks had too few faults")


if __name__ == "__main__":
    main()
