"""Try VQ-VAE-2s with other codes: what an image loses, and what its codes cost.

Run `python tools/try_codes.py FILE.json --data_root DATA`. A VQ-VAE-2 of each option is
trained on a data set for the same seconds, and then a small class-conditional prior on
its codes for the same number of steps. Both are measured on training images that were
held out. First, the training loop of each option that may cost more or less than the
base is timed alone on one thread; the options then run two at a time, on one thread
each. This says what codes cost, and not which give the best samples: for that, draw
from priors over them by `try_options.py --samples`. The Fréchet distance is measured
for Fashion-MNIST alone, because it takes the shipped classifier of Fashion-MNIST.
"""

import statistics
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

import torch
from try_options import HELDOUT_SHARE, Repeated, run_all, run_one, shared_flags

from pixelprior.data.codes import extract_codes
from pixelprior.data.held_out import hold_out
from pixelprior.data.images import FASHION_CLASSES, ImageData, load_images
from pixelprior.devices import keep_freed_memory, make_accelerator
from pixelprior.evaluation.classifier import load_shipped_reference_models, outputs
from pixelprior.evaluation.measures import (
    code_use,
    decoded,
    frechet_distance,
    nats_per_code,
    reconstructions,
    squared_errors,
)
from pixelprior.prior import LEVELS, HierarchicalPixelCNN
from pixelprior.settings import TrainingSettings
from pixelprior.training import fit
from pixelprior.vqvae2 import VQVAE2

BASE = {
    "num_embeddings": 64,
    "embedding_dim": 32,
    "hidden_channels": 64,
    "bottom_dropout": 0.1,
}
OPTIONS = {
    "base": {},
    "32 codes": {"num_embeddings": 32},
    "48 codes": {"num_embeddings": 48},
    "128 codes": {"num_embeddings": 128},
    "256 codes": {"num_embeddings": 256},
    "no bottom codes for a twentieth": {"bottom_dropout": 0.05},
    "no bottom codes for a fifth": {"bottom_dropout": 0.2},
    "no bottom codes for two fifths": {"bottom_dropout": 0.4},
    "96 channels": {"hidden_channels": 96},
    "vectors of length 16": {"embedding_dim": 16},
    "commitment weight 1": {"commitment_weight": 1.0},
}
IMAGES = TrainingSettings(epochs=1, batch_size=64, lr=1e-3, ema_decay=0.0)
CODES = TrainingSettings(epochs=1, batch_size=32, lr=3e-3, ema_decay=0.995)
TIMED_PARTS, TIMED_STEPS = 4, 15


def images_of(arguments) -> tuple[ImageData, ImageData]:
    """Images to train on, and training images that are held out."""
    data = load_images(arguments.dataset, "train", data_root=arguments.data_root)
    train, heldout = hold_out(data, HELDOUT_SHARE)
    return train.copied(), heldout


def train_vqvae2(name: str, arguments, train, steps: int, parts: int = 1):
    """Train the VQ-VAE-2 of an option; return its history and the model."""
    (seed,) = arguments.seeds
    settings = replace(IMAGES, epochs=parts, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        accelerator = make_accelerator(settings, folder)
        torch.manual_seed(seed)
        channels = train.images.shape[1]
        model = VQVAE2(channels, image_size=32, **BASE | OPTIONS[name])
        data = Repeated(train, steps * settings.batch_size)
        history = fit(
            model, data, None, settings, folder, accelerator, log=lambda line: None
        )
    return history, model.eval()


def train_prior(codes, num_classes: int, arguments) -> HierarchicalPixelCNN:
    """Train a small prior on the codes of an option."""
    (seed,) = arguments.seeds
    settings = replace(CODES, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        accelerator = make_accelerator(settings, folder)
        torch.manual_seed(seed)
        model = HierarchicalPixelCNN(
            codes.num_embeddings, 32, 48, 6, num_classes=num_classes, dropout=0.0
        )
        data = Repeated(codes, arguments.prior_steps * settings.batch_size)
        fit(model, data, None, settings, folder, accelerator, log=lambda line: None)
        return HierarchicalPixelCNN.from_pretrained(Path(folder) / "last").eval()


def try_one(name: str, arguments) -> dict:
    """Train one option's VQ-VAE-2 and a prior over its codes, and measure both."""
    started = time.process_time()
    train, heldout = images_of(arguments)
    _, vqvae2 = train_vqvae2(name, arguments, train, arguments.steps)
    spent = time.process_time() - started
    codes, heldout_codes = extract_codes(vqvae2, train), extract_codes(vqvae2, heldout)
    prior = train_prior(codes, len(train.class_names), arguments)
    nats = nats_per_code(prior, heldout_codes)
    rebuilt = reconstructions(vqvae2, heldout)
    wrong = decoded(vqvae2, heldout_codes.z_top.roll(1, 0), heldout_codes.z_bottom)
    wrong = ImageData(wrong, heldout.labels, heldout.class_names)
    distance = None
    if train.class_names == FASHION_CLASSES:
        features = load_shipped_reference_models()[1].features
        distance = frechet_distance(
            outputs(features, rebuilt), outputs(features, heldout)
        )
    return {
        "option": name,
        "changed": OPTIONS[name],
        "seed": arguments.seeds[0],
        "steps": arguments.steps,
        "seconds": spent,
        "mean_squared_error": squared_errors(heldout, rebuilt).mean().item(),
        "with_wrong_top": squared_errors(heldout, wrong).mean().item(),
        "frechet_of_reconstructions": distance,
        "codes": {level: code_use(heldout_codes, level) for level in LEVELS},
        **nats,
        "nats_per_image": sum(
            nats[level] * heldout_codes.grid(level)[0].numel() for level in LEVELS
        ),
    }


def steps_per_second(name: str, arguments) -> float:
    """Steps per second of the training loop: its median part, the first left out."""
    train, _ = images_of(arguments)
    history, _ = train_vqvae2(name, arguments, train, TIMED_STEPS, TIMED_PARTS)
    return statistics.median(part["steps_per_second"] for part in history[1:])


def main() -> None:
    parser = shared_flags(__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--prior_steps", type=int, default=500)
    parser.add_argument("--options", nargs="+", choices=OPTIONS, default=list(OPTIONS))
    arguments = parser.parse_args()
    keep_freed_memory()  # as the command line does
    if arguments.only:
        run_one(arguments, try_one, steps_per_second)
        return
    about = {
        "prior_steps": arguments.prior_steps,
        "base": BASE,
        "images": asdict(IMAGES),
        "codes": asdict(CODES),
    }
    run_all(
        arguments,
        about,
        lambda name: OPTIONS[name].get("hidden_channels", BASE["hidden_channels"]),
    )


if __name__ == "__main__":
    main()
