"""The commands `sample` and `demo`: draw new images, and write them as files."""

import time

import torch

from pixelprior.assets import FOLDER, load_shipped
from pixelprior.checkpoints import load_model
from pixelprior.cli.flags import Demo, Sample, one_or_two
from pixelprior.cli.train import report_nats
from pixelprior.codes import extract_codes
from pixelprior.data import FASHION_CLASSES, load_images
from pixelprior.devices import usable_device
from pixelprior.evaluation.choosing import read_setting, setting_in_words
from pixelprior.evaluation.measures import reconstructions, samples, squared_errors
from pixelprior.evaluation.report import (
    PICTURED,
    reconstruction_picture,
    sample_picture,
)
from pixelprior.files import writable_folder
from pixelprior.pictures import image_grid, save_picture
from pixelprior.prior import LEVELS, HierarchicalPixelCNN
from pixelprior.ranges import check_positive
from pixelprior.runs import check_trained
from pixelprior.validation import check_filters
from pixelprior.vqvae2 import VQVAE2


def sample(flags: Sample) -> None:
    check_positive(
        num_samples=flags.num_samples,
        batch_size=flags.batch_size,
        grid_nrow=flags.grid_nrow,
    )
    check_filters(flags.temperature, flags.top_k, flags.top_p)
    device = usable_device(flags.device)
    vqvae2 = load_model(VQVAE2, flags.vqvae2_checkpoint, device)
    prior = load_model(HierarchicalPixelCNN, flags.prior_checkpoint, device)
    prior.check_matches(vqvae2)
    check_trained(flags.prior_checkpoint, vqvae2)
    if flags.bf16:
        prior.bfloat16()
    labels = prior.labels_in_turn(flags.num_samples)
    if flags.label is not None:
        if abs(flags.label) >= 2**63:
            raise ValueError(
                f"label {flags.label} is out of range of any prior; give a class of "
                "this prior"
            )
        labels = torch.full((flags.num_samples,), flags.label)
        prior.prior_top.check_labels(labels, flags.num_samples)
    folder = writable_folder(flags.output_dir)
    started = time.perf_counter()
    images = prior.sample_with_vqvae2(
        vqvae2,
        flags.num_samples,
        temperature=flags.temperature,
        top_k=flags.top_k,
        top_p=flags.top_p,
        labels=labels,
        guidance=one_or_two(flags.guidance),
        seed=flags.seed,
        method=flags.method,
        chunk_size=flags.batch_size,
        progress=True,
    ).cpu()
    seconds = time.perf_counter() - started
    for index, image in enumerate(images):
        save_picture(image_grid(image[None], 1), folder / f"sample_{index:05d}.png")
    if flags.save_grid:
        save_picture(image_grid(images, flags.grid_nrow), folder / "grid.png")
    print(
        f"wrote {len(images)} images to {folder} "
        f"({1000 * seconds / len(images):.0f} ms per image to draw)"
    )


def demo(flags: Demo) -> None:
    check_filters(flags.temperature, None, None)
    folder = writable_folder(flags.output_dir)
    vqvae2, prior = load_shipped()
    heldout = load_images("fashion_mnist_mini", "test")
    figure = reconstruction_picture(vqvae2, heldout)
    wrote = save_picture(figure, folder / "reconstructions.png")
    print(f"wrote {wrote}")

    settings = {"samples": {"temperature": flags.temperature}}
    chosen = read_setting(FOLDER / "fashion_mnist_prior")
    if chosen is not None:
        settings["chosen_samples"] = chosen
    for name, setting in settings.items():
        started = time.perf_counter()
        drawn = samples(
            vqvae2,
            prior,
            PICTURED,
            class_names=FASHION_CLASSES,
            seed=flags.seed,
            **setting,
        )
        seconds = time.perf_counter() - started
        words = "" if name == "samples" else setting_in_words(setting)
        picture = sample_picture(drawn, flags.seed, words)
        wrote = save_picture(picture, folder / f"{name}.png")
        print(f"wrote {wrote}, {PICTURED} new images in {seconds:.1f} s")

    rebuilt = reconstructions(vqvae2, heldout)
    error = squared_errors(heldout, rebuilt).mean().item()
    print(f"on {len(heldout):,} held-out test images, measured now:")
    print(f"  reconstruction: mean squared error {error:.5f} (pixels in [0, 1])")
    report_nats(prior, extract_codes(vqvae2, heldout), LEVELS)
