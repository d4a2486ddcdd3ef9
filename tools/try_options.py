"""Try what may lower the prior's loss, each option with the same seconds of training.

Run `python tools/try_options.py VQVAE2 FILE.json --data_root DATA`. First, the training
loop of each option that may cost more or less than the base is timed alone on one
thread. The number of steps is what fits into the seconds at that speed; it is the same
for all options of the same cost. Then each option is trained from each seed on the
codes of Fashion-MNIST's training images, two trainings at a time on one thread each.
The trained priors are measured on training images that were held out.

`--options` names the options to try. `--steps` gives all of them the same number of
steps instead of seconds; depth.json was made in this way, with
`--hidden_channels 128 --num_layers 15 --seeds 0 1 2`. `--images` trains on fewer images
in as many steps, that is in more passes over them, to see in minutes what a prior gains
or loses by many passes. `--samples` draws so many images from each prior, by itself and
with guidance, and compares them with the held-out images in the features of the shipped
classifier: nats per image do not rank priors over different codes. Trainings that the
file already has are not run again.
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
from itertools import pairwise
from pathlib import Path

import torch
import torchvision.transforms.v2.functional as TF

from pixelprior import training
from pixelprior.checkpoints import fingerprint, load_model
from pixelprior.data.codes import CodeData, extract_codes, load_codes, save_codes
from pixelprior.data.held_out import hold_out
from pixelprior.data.images import ImageData, load_images
from pixelprior.devices import keep_freed_memory, machine, make_accelerator
from pixelprior.evaluation.classifier import correct, load_shipped_reference_models
from pixelprior.evaluation.measures import (
    frechet_distance,
    nats_per_code,
    outputs,
    reconstructions,
    samples,
    saturation,
    squared_errors,
    within_manifold,
)
from pixelprior.files import write_texts
from pixelprior.prior import HierarchicalPixelCNN
from pixelprior.settings import TrainingSettings
from pixelprior.vqvae2 import VQVAE2

HELDOUT_SHARE = 1 / 30
TIMED_PARTS, TIMED_STEPS = 4, 15
DRAWN = {"samples": {}, "guided_samples": {"guidance": 2.0}}


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
OPTIONS = {
    "base": Option(),
    "constant learning rate": Option(constant_rate=True),
    "no warm-up": Option({"warmup": 0.0}),
    "no averaged weights": Option({"ema_decay": 0.0}),
    "averaged longer, 0.999": Option({"ema_decay": 0.999}),
    "dropout 0.1": Option(network={"dropout": 0.1}),
    "dropout 0.2": Option(network={"dropout": 0.2}),
    "dropout 0.4": Option(network={"dropout": 0.4}),
    "weight decay 0": Option({"weight_decay": 0.0}),
    "weight decay 0.1": Option({"weight_decay": 0.1}),
    "no labels": Option(labels=False),
    "two layers of attention at the top": Option(network={"attention_layers": 2}),
    "a tenth of the labels withheld": Option(network={"label_dropout": 0.1}),
    "1.5 times the channels": Option(network={"wider": 1.5}),
    "two thirds of the channels": Option(network={"wider": 2 / 3}),
    "1.5 times the blocks": Option(network={"deeper": 1.5}),
    "two thirds of the blocks": Option(network={"deeper": 2 / 3}),
    "with mirrored copies": Option(augmentation="flip"),
    "with copies shifted by up to a pixel": Option(augmentation="shift"),
    "64 images per step": Option({"batch_size": 64}),
    "16 images per step": Option({"batch_size": 16}),
    "learning rate 1e-3": Option({"lr": 1e-3}),
    "learning rate 4e-3": Option({"lr": 4e-3}),
}


class Repeated:
    """The first `length` images of `data`, repeated if there are fewer."""

    def __init__(self, data: CodeData | ImageData, length: int):
        self.data, self.length = data, length

    def __len__(self) -> int:
        return self.length

    def batch(self, indices):
        return self.data.batch(indices % len(self.data))

    def to(self, device) -> "Repeated":
        return Repeated(self.data.to(device), self.length)


def build(
    option: Option,
    codes: CodeData,
    hidden_channels: int,
    num_layers: int,
    network: dict,
):
    network = {"dropout": 0.0} | network | option.network
    if "wider" in network:
        hidden_channels = 8 * round(hidden_channels * network.pop("wider") / 8)
    if "deeper" in network:
        num_layers = round(num_layers * network.pop("deeper"))
    return HierarchicalPixelCNN(
        codes.num_embeddings,
        32,
        hidden_channels,
        num_layers,
        num_classes=10 if option.labels else None,
        **network,
    )


def constant_rate(settings: TrainingSettings, total_steps: int):
    """The warm-up, and then a constant rate instead of the cosine."""
    steps = max(1, round(settings.warmup * total_steps))
    return lambda step: min(1.0, (step + 1) / steps)


def train(name: str, arguments, steps: int, parts: int = 1):
    """Train one option.

    Returns:
        Processor seconds when each part had ended, its averaged weights, the processor
        seconds that the training took, and the held-out codes to measure it on.
    """
    option = OPTIONS[name]
    (seed,) = arguments.seeds
    settings = replace(BASE, epochs=parts, seed=seed, **option.settings)
    codes, heldout = codes_of(arguments, option.augmentation)
    if not option.labels:
        codes.labels = heldout.labels = None
    if option.constant_rate:
        training.learning_rate_factor = constant_rate
    sizes = (codes, arguments.hidden_channels, arguments.num_layers)
    sizes += ({"label_dropout": arguments.label_dropout},)
    keep_freed_memory()  # as the command line does
    with tempfile.TemporaryDirectory() as folder:
        accelerator = make_accelerator(settings, folder)
        torch.manual_seed(settings.seed)
        model, ended = build(option, *sizes), [time.process_time()]
        training.fit(
            model,
            Repeated(codes, steps * settings.batch_size),
            Repeated(heldout, 2),
            settings,
            folder,
            accelerator,
            log=lambda line: ended.append(time.process_time()),
        )
        spent = time.process_time() - ended[0]
        averaged = build(option, *sizes)
        last = load_model(HierarchicalPixelCNN, Path(folder) / "last")
        averaged.load_state_dict(last.state_dict())
    return ended, averaged.eval(), spent, heldout


def steps_per_second(name: str, arguments) -> float:
    """Steps per processor second of the training loop: its median part, without the
    first."""
    ended, *_ = train(name, arguments, TIMED_STEPS, TIMED_PARTS)
    passed = [after - before for before, after in pairwise(ended[1:])]
    return TIMED_STEPS / statistics.median(passed)


def try_one(name: str, arguments) -> dict:
    """Train one option and measure it."""
    _, model, spent, heldout = train(name, arguments, arguments.steps)
    measured = nats_per_code(model, heldout)
    return {
        "option": name,
        "seed": arguments.seeds[0],
        "changed": asdict(OPTIONS[name]),
        "steps": arguments.steps,
        "seconds": spent,
        **measured,
        "nats_per_image": sum(
            measured[level] * heldout.grid(level)[0].numel() for level in measured
        ),
        **(of_samples(model, arguments) if arguments.samples else {}),
    }


def of_samples(prior: HierarchicalPixelCNN, arguments) -> dict:
    """Samples, by themselves and guided, and reconstructions of the held-out images,
    compared with these images in the features of the shipped classifier."""
    vqvae2 = load_model(VQVAE2, arguments.vqvae2).eval()
    classifier = load_shipped_reference_models(arguments.judge)[1]
    data = load_images(arguments.dataset, "train", data_root=arguments.data_root)
    _, heldout = hold_out(data, HELDOUT_SHARE)
    rebuilt = reconstructions(vqvae2, heldout)
    sets = {"reconstructions": rebuilt} | {
        name: samples(
            vqvae2, prior, arguments.samples, class_names=data.class_names, **options
        )
        for name, options in DRAWN.items()
    }
    reference = outputs(classifier.features, heldout)
    found = {"mean_squared_error": squared_errors(heldout, rebuilt).mean().item()}
    for name, images in sets.items():
        features = outputs(classifier.features, images)
        found[name] = {
            "frechet": frechet_distance(features, reference),
            "precision": within_manifold(features, reference).mean().item(),
            "recall": within_manifold(reference, features).mean().item(),
            "of_another_class": 1
            - correct(classifier.head(features), images).mean().item(),
            "saturation": saturation(images).mean().item()
            if images.channels == 3
            else None,
        }
    return found


def codes_of(arguments, augmentation: str) -> tuple[CodeData, CodeData]:
    """Training and held-out codes; changed copies are added to the first alone."""
    train, heldout = hold_out(all_codes(arguments, "none"), HELDOUT_SHARE)
    train = first(train.copied(), arguments.images)
    if augmentation == "none":
        return train, heldout
    changed, _ = hold_out(all_codes(arguments, augmentation), HELDOUT_SHARE)
    changed = first(changed.copied(), arguments.images)
    grids = zip(train.grids, changed.grids, strict=True)
    labels = torch.cat([train.labels, changed.labels])
    both = replace(train, grids=tuple(map(torch.cat, grids)), labels=labels)
    # A short training sees the first images alone, and these must be of both kinds.
    mixed = torch.randperm(len(both), generator=torch.Generator().manual_seed(0))
    return both.subset(mixed), heldout


def first(codes: CodeData, count: int | None) -> CodeData:
    """The codes of the first `count` images, or of all of them."""
    return codes.subset(torch.arange(len(codes))[:count])


def all_codes(arguments, augmentation: str) -> CodeData:
    """The codes of all training images, kept beside the file of results."""
    model = load_model(VQVAE2, arguments.vqvae2)
    path = arguments.file.with_name(f".codes_{augmentation}.safetensors")
    source = f"{fingerprint(model)} {arguments.dataset} {augmentation}"
    codes = load_codes(path, source)
    if codes is None:
        data = load_images(arguments.dataset, "train", data_root=arguments.data_root)
        if augmentation == "flip":
            data.images = TF.horizontal_flip(data.images)
        elif augmentation == "shift":
            right, down = torch.randint(
                -1, 2, (2, len(data)), generator=torch.Generator().manual_seed(0)
            ).tolist()
            data.images = torch.stack(
                [
                    image.roll(by, (2, 1))
                    for image, *by in zip(data.images, right, down, strict=True)
                ]
            )
        codes = extract_codes(model, data)
        save_codes(codes, path, source)
    return codes


def start(*more) -> subprocess.Popen:
    """One option in a process of its own, on the processor; `more` are its flags."""
    return subprocess.Popen(
        [sys.executable, *sys.orig_argv[1:], *map(str, more)],
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


def tried_before(file: Path, about: dict) -> dict[tuple[str, int], dict]:
    """The trainings that a file has, by option and seed.

    Raises:
        SystemExit: the file has trainings of other settings.
    """
    if not file.is_file():
        return {}
    kept = json.loads(file.read_text(encoding="utf-8"))
    for name, value in about.items():
        if name != "machine" and kept.get(name) != json.loads(json.dumps(value)):
            raise SystemExit(
                f"{file} has trainings with {name} {kept.get(name)}, not {value}; name "
                "another file"
            )
    return {(each["option"], each["seed"]): each for each in kept["tried"]}


def shared_flags(description: str) -> argparse.ArgumentParser:
    """The flags of the tools that try options."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--dataset", default="fashion_mnist")
    parser.add_argument("--data_root", type=Path)
    parser.add_argument("--seconds", type=float, default=80.0, help="of each training")
    parser.add_argument("--steps", type=int, help="of each training, not --seconds")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--only", help="one option, as JSON; timed without --steps")
    return parser


def run_one(arguments, try_one, steps_per_second) -> None:
    """Train and measure the option of --only, or without --steps time it."""
    torch.set_num_threads(1)
    one = try_one if arguments.steps else steps_per_second
    print(json.dumps(one(arguments.only, arguments)))


def run_all(arguments, about: dict, cost_of) -> None:
    """Train each option from each seed, two at a time, and keep the results.

    Args:
        arguments: the flags, with `file` and `options`.
        about: what the file has besides the results.
        cost_of: a function of an option's name to a key that is the same for options
            whose steps cost the same; they are timed once.
    """
    seconds = arguments.seconds if arguments.steps is None else None
    about = {"machine": machine("cpu"), "seconds": seconds, **about}
    found, speeds = tried_before(arguments.file, about), {}
    waiting = [
        (name, seed)
        for seed in arguments.seeds
        for name in arguments.options
        if (name, seed) not in found
    ]
    for name, _ in waiting:
        if arguments.steps is None and cost_of(name) not in speeds:
            speeds[cost_of(name)] = result(start("--only", name, "--seeds", 0))
            print(f"{name}: {speeds[cost_of(name)]:.2f} steps per second", flush=True)
    running = {}
    while waiting or running:
        while waiting and len(running) < 2:
            name, seed = waiting.pop(0)
            steps = arguments.steps or round(seconds * speeds[cost_of(name)])
            flags = ("--only", name, "--seeds", seed, "--steps", steps)
            running[name, seed] = start(*flags)
        time.sleep(1)
        for each in [each for each, run in running.items() if run.poll() is not None]:
            found[each] = result(running.pop(each))
            nats = found[each]["nats_per_image"]
            print(f"{each[0]}, seed {each[1]}: {nats:.1f} nats", flush=True)
            texts = json.dumps(about | {"tried": list(found.values())}, indent=1)
            write_texts(arguments.file.parent, {arguments.file.name: texts})


def main() -> None:
    parser = shared_flags(__doc__.splitlines()[0])
    parser.add_argument("vqvae2", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--hidden_channels", type=int, default=48)
    parser.add_argument("--num_layers", type=int, default=6)
    parser.add_argument("--label_dropout", type=float, default=0.0)
    parser.add_argument("--images", type=int, help="to train on, not all of them")
    parser.add_argument("--samples", type=int, default=0, help="to draw and measure")
    parser.add_argument("--judge", default="fashion_mnist", help="whose classifier")
    parser.add_argument("--options", nargs="+", choices=OPTIONS, default=list(OPTIONS))
    arguments = parser.parse_args()
    if arguments.only:
        run_one(arguments, try_one, steps_per_second)
        return
    for augmentation in {OPTIONS[name].augmentation for name in arguments.options}:
        codes_of(arguments, augmentation)
    about = {
        "vqvae2": fingerprint(load_model(VQVAE2, arguments.vqvae2)),
        "hidden_channels": arguments.hidden_channels,
        "num_layers": arguments.num_layers,
        "label_dropout": arguments.label_dropout,
        "images": arguments.images,
        "samples": arguments.samples,
        "base": asdict(BASE),
    }
    run_all(arguments, about, lambda name: OPTIONS[name].costs_as())


if __name__ == "__main__":
    main()
