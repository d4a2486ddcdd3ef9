"""The command `demo`: 64 new images from the shipped weights, and what they reach."""

import time
from pathlib import Path

from pixelprior.assets import load_shipped, shipped_class_names, shipped_folder
from pixelprior.cli.flags import Demo
from pixelprior.cli.train import report_nats
from pixelprior.codes import extract_codes
from pixelprior.data import load_images
from pixelprior.evaluation.choosing import read_setting, setting_in_words
from pixelprior.evaluation.measures import reconstructions, samples, squared_errors
from pixelprior.evaluation.report import (
    PICTURED,
    reconstruction_picture,
    sample_picture,
)
from pixelprior.files import writable_folder
from pixelprior.pictures import save_picture
from pixelprior.validation import check_filters

# Data sets with test images that ship with the package, and under which name.
EMBEDDED = {"fashion_mnist": "fashion_mnist_mini"}


def demo(flags: Demo) -> None:
    check_filters(flags.temperature, None, None)
    own = "" if flags.dataset == "fashion_mnist" else f"_{flags.dataset}"
    folder = writable_folder(flags.output_dir or Path(f"pixelprior_demo{own}"))
    vqvae2, prior = load_shipped(flags.dataset)
    weights = shipped_folder(flags.dataset, "prior")
    heldout = None
    if flags.dataset in EMBEDDED:
        heldout = load_images(EMBEDDED[flags.dataset], "test")
        figure = reconstruction_picture(vqvae2, heldout)
        wrote = save_picture(figure, folder / "reconstructions.png")
        print(f"wrote {wrote}")

    settings = {"samples": {"temperature": flags.temperature}}
    chosen = read_setting(weights)
    if chosen is not None:
        settings["chosen_samples"] = chosen
    for name, setting in settings.items():
        started = time.perf_counter()
        drawn = samples(
            vqvae2,
            prior,
            PICTURED,
            class_names=shipped_class_names(flags.dataset),
            seed=flags.seed,
            **setting,
        )
        seconds = time.perf_counter() - started
        words = "" if name == "samples" else setting_in_words(setting)
        picture = sample_picture(drawn, flags.seed, words)
        wrote = save_picture(picture, folder / f"{name}.png")
        print(f"wrote {wrote}, {PICTURED} new images in {seconds:.1f} s")

    if heldout is None:
        print(
            "no test images of this data set ship; to measure these weights, use "
            f"pixelprior evaluate --dataset {flags.dataset}"
        )
        return
    rebuilt = reconstructions(vqvae2, heldout)
    error = squared_errors(heldout, rebuilt).mean().item()
    print(f"on {len(heldout):,} held-out test images, measured now:")
    print(f"  reconstruction: mean squared error {error:.5f} (pixels in [0, 1])")
    report_nats(prior, extract_codes(vqvae2, heldout))
