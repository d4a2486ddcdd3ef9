"""Try what may lower the prior's loss, each option with the same seconds of training.

Run `python tools/try_options.py VQVAE2 FILE.json --data_root DATA`. First, the training
loop of each option that may cost more or less than the base is timed alone on one
thread. The number of steps is what fits into the seconds at that speed; it is the same
for all options of the same cost. Then each option is trained from the same seed on the
codes of Fashion-MNIST's training images, two options at a time on one thread each. The
trained priors are measured on the first test images.

`--options` names the options to try. `--steps` gives all of them the same number of
steps instead of seconds; depth.json was made in this way, with
`--hidden_channels 128 --num_layers 15`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
import torchvision.transforms.v2.functional as TF

from pixelprior import training
from pixelprior.benchmark.sampling import machine
from pixelprior.checkpoints import fingerprint, load_model
from pixelprior.codes import CodeData, extract_codes, load_codes, save_codes
from pixelprior.data import load_images
from pixelprior.devices import keep_freed_memory, make_accelerator
from pixelprior.evaluation.measures import nats_per_code
from pixelprior.files import (
    write_texts,
)
from pixelprior.prior import HierarchicalPixelCNN
from pixelprior.settings import TrainingSettings
from pixelprior.vqvae2 import VQVAE2

HELDOUT = 2000
TIMED_PARTS, TIMED_STEPS = 4, 15


@dataclass(frozen=True)
class Option:
    """One option: what is changed in the settings, the network or the data."""

    settings: dict = field(default_factory=dict)
    network: dict = field(default_factory=dict)
    augmentation: str = "none"
    labels: bool = True
    constant_rate: bool = False

    def costs_as(self) -> tuple:
        """A key that is the same for options whose steps cost the same."""
        settings = {
            "batch_size": self.settings.get("batch_size", BASE.batch_size),
            "averaged": self.settings.get("ema_decay", BASE.ema_decay) > 0,
        }
        of = (settings, self.network, self.labels)
        return tuple(map(str, of))


BASE = TrainingSettings(epochs=1, batch_size=32, lr=2e-3, ema_decay=0.995)
NO_RESIDUAL = {"vertical_residual": False}
OPTIONS = {
    "base": Option(),
    "another seed": Option({"seed": 1}),
    "a third seed": Option({"seed": 2}),
    "constant learning rate": Option(constant_rate=True),
    "no warm-up": Option({"warmup": 0.0}),
    "no averaged weights": Option({"ema_decay": 0.0}),
    "averaged longer, 0.999": Option({"ema_decay": 0.999}),
    "dropout 0.1": Option(network={"dropout": 0.1}),
    "weight decay 0": Option({"weight_decay": 0.0}),
    "weight decay 0.1": Option({"weight_decay": 0.1}),
    "no labels": Option(labels=False),
    "no residual in the vertical stack": Option(network=NO_RESIDUAL),
    "no such residual, another seed": Option({"seed": 1}, NO_RESIDUAL),
    "no such residual, a third seed": Option({"seed": 2}, NO_RESIDUAL),
    "two layers of attention at the top": Option(network={"attention_layers": 2}),
    "half of the images flipped": Option(augmentation="flip"),
    "half of the images shifted by up to a pixel": Option(augmentation="shift"),
    "64 images per step": Option({"batch_size": 64}),
    "16 images per step": Option({"batch_size": 16}),
    "learning rate 1e-3": Option({"lr": 1e-3}),
    "learning rate 4e-3": Option({"lr": 4e-3}),
}


class Repeated:
    """The first `length` images of `codes`, repeated if there are fewer."""

    def __init__(self, codes: CodeData, length: int):
        self.codes, self.length = codes, length

    def __len__(self) -> int:
        return self.length

    def batch(self, indices):
        return self.codes.batch(indices % len(self.codes))

    def to(self, device) -> "Repeated":
        return Repeated(self.codes.to(device), self.length)


def build(option: Option, codes: CodeData, hidden_channels: int, num_layers: int):
    return HierarchicalPixelCNN(
        codes.num_embeddings,
        32,
        hidden_channels,
        num_layers,
        num_classes=10 if option.labels else None,
        **{"dropout": 0.0} | option.network,
    )


def constant_rate(settings: TrainingSettings, total_steps: int):
    """The warm-up, and then a constant rate instead of the cosine."""
    steps = max(1, round(settings.warmup * total_steps))
    return lambda step: min(1.0, (step + 1) / steps)


def train(name: str, arguments, steps: int, parts: int = 1):
    """Train one option.

    Returns:
        Its history, its averaged weights, the processor seconds that the training took,
        and the held-out codes to measure it on.
    """
    option = OPTIONS[name]
    settings = replace(BASE, epochs=parts, **option.settings)
    codes, heldout = codes_of(arguments, option.augmentation)
    if not option.labels:
        codes.labels = heldout.labels = None
    if option.constant_rate:
        training.learning_rate_factor = constant_rate
    sizes = (codes, arguments.hidden_channels, arguments.num_layers)
    keep_freed_memory()  # as the command line does
    with tempfile.TemporaryDirectory() as folder:
        accelerator = make_accelerator(settings, folder)
        torch.manual_seed(settings.seed)
        model, started = build(option, *sizes), time.process_time()
        history = training.fit(
            model,
            Repeated(codes, steps * settings.batch_size),
            Repeated(heldout, 2),
            settings,
            folder,
            accelerator,
            log=lambda line: None,
        )
        spent = time.process_time() - started
        averaged = build(option, *sizes)
        last = load_model(HierarchicalPixelCNN, Path(folder) / "last")
        averaged.load_state_dict(last.state_dict())
    return history, averaged.eval(), spent, heldout


def steps_per_second(name: str, arguments) -> float:
    """Steps per second of the training loop: its median part, the first left out."""
    history, *_ = train(name, arguments, TIMED_STEPS, TIMED_PARTS)
    return statistics.median(part["steps_per_second"] for part in history[1:])


def try_one(name: str, arguments) -> dict:
    """Train one option and measure it."""
    _, model, spent, heldout = train(name, arguments, arguments.steps)
    measured = nats_per_code(model, heldout)
    return {
        "option": name,
        "changed": asdict(OPTIONS[name]),
        "steps": arguments.steps,
        "seconds": spent,
        **measured,
        "nats_per_image": sum(
            measured[level] * heldout.grid(level)[0].numel() for level in measured
        ),
    }


def codes_of(arguments, augmentation: str) -> tuple[CodeData, CodeData]:
    """Training and held-out codes, kept beside the file of results."""
    model = load_model(VQVAE2, arguments.vqvae2)
    found = []
    for split, augmented in (("train", augmentation), ("test", "none")):
        path = arguments.file.with_name(f".codes_{split}_{augmented}.safetensors")
        source = f"{fingerprint(model)} {arguments.dataset} half {augmented}"
        codes = load_codes(path, source)
        if codes is None:
            data = load_images(arguments.dataset, split, data_root=arguments.data_root)
            if split == "test":
                data.images, data.labels = data.images[:HELDOUT], data.labels[:HELDOUT]
            codes = extract_codes(model, data)
            if augmented == "flip":
                data.images = TF.horizontal_flip(data.images)
            elif augmented == "shift":
                right, down = torch.randint(
                    -1, 2, (2, len(data)), generator=torch.Generator().manual_seed(0)
                ).tolist()
                data.images = torch.stack(
                    [
                        image.roll(by, (2, 1))
                        for image, *by in zip(data.images, right, down, strict=True)
                    ]
                )
            if augmented != "none":
                # Half of the images, as if each were changed at random in each epoch.
                more = extract_codes(model, data)
                half = torch.rand(len(data), generator=torch.Generator().manual_seed(1))
                half = (half < 0.5)[:, None, None]
                codes.z_top = torch.where(half, more.z_top, codes.z_top)
                codes.z_bottom = torch.where(half, more.z_bottom, codes.z_bottom)
            save_codes(codes, path, source)
        found.append(codes)
    return tuple(found)


def start(name: str, *more) -> subprocess.Popen:
    """One option in a process of its own, on the processor."""
    command = [sys.executable, *sys.orig_argv[1:], "--only", name]
    return subprocess.Popen(
        [*command, *more],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
    )


def result(run: subprocess.Popen):
    """The last line that a process printed, read as JSON.

    Raises:
        RuntimeError: the process failed.
    """
    printed = run.communicate()[0]
    if run.returncode:
        raise RuntimeError(f"{' '.join(run.args)} failed; its error is printed above")
    return json.loads(printed.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("vqvae2", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--dataset", default="fashion_mnist")
    parser.add_argument("--data_root", type=Path)
    parser.add_argument("--seconds", type=float, default=80.0)
    parser.add_argument("--hidden_channels", type=int, default=48)
    parser.add_argument("--num_layers", type=int, default=6)
    parser.add_argument("--options", nargs="+", choices=OPTIONS, default=list(OPTIONS))
    parser.add_argument("--steps", type=int, help="of each option, not --seconds")
    parser.add_argument("--only", help="one option, as JSON; timed without --steps")
    arguments = parser.parse_args()
    if arguments.only:
        torch.set_num_threads(1)
        one = try_one if arguments.steps else steps_per_second
        print(json.dumps(one(arguments.only, arguments)))
        return
    for augmentation in {OPTIONS[name].augmentation for name in arguments.options}:
        codes_of(arguments, augmentation)
    speeds: dict[tuple, float] = {}
    for name in arguments.options:
        option = OPTIONS[name]
        if arguments.steps is None and option.costs_as() not in speeds:
            speeds[option.costs_as()] = result(start(name))
            print(
                f"{name}: {speeds[option.costs_as()]:.2f} steps per second", flush=True
            )
    written = {
        "machine": machine("cpu"),
        "vqvae2": fingerprint(load_model(VQVAE2, arguments.vqvae2)),
        "seconds": arguments.seconds if arguments.steps is None else None,
        "hidden_channels": arguments.hidden_channels,
        "num_layers": arguments.num_layers,
        "heldout_images": HELDOUT,
        "base": asdict(BASE),
    }
    waiting, running, found = list(arguments.options), {}, {}
    while waiting or running:
        while waiting and len(running) < 2:
            name = waiting.pop(0)
            steps = arguments.steps
            if steps is None:
                steps = round(arguments.seconds * speeds[OPTIONS[name].costs_as()])
            running[name] = start(name, "--steps", str(steps))
        time.sleep(1)
        for name in [name for name, run in running.items() if run.poll() is not None]:
            found[name] = result(running.pop(name))
            print(f"{name}: {found[name]['nats_per_image']:.1f} nats", flush=True)
            written["tried"] = [found[name] for name in OPTIONS if name in found]
            texts = {arguments.file.name: json.dumps(written, indent=1)}
            write_texts(arguments.file.parent, texts)


if __name__ == "__main__":
    main()
