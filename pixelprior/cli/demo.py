"""The command `demo`: 64 new images from the shipped weights, and what they reach."""

import time
from dataclasses import dataclass
from pathlib import Path

from pixelprior.cli.flags import Shipped

# Data sets with test images that ship with the package, and under which name.
EMBEDDED = {"fashion_mnist": "fashion_mnist_mini"}


@dataclass(kw_only=True)
class Demo:
    """Draw 64 new images with shipped weights. This needs no network."""

    dataset: Shipped = "fashion_mnist"
    """Name of the shipped weights: fashion_mnist draws clothes, and cifar10 animals and
    vehicles in colour."""
    output_dir: Path | None = None
    """Folder for chosen_samples.png, drawn at the setting that was chosen for the
    shipped prior, for samples.png of the prior itself, and for reconstructions.png if
    test images ship with the package, as they do for fashion_mnist. If it is left out,
    it is ./pixelprior_demo, or ./pixelprior_demo_cifar10."""
    seed: int = 0
    """Seed of the images. The same seed gives the same images."""
    temperature: float = 1.0
    """Number that divides the logits in samples.png: below 1 the images are safer,
    above 1 more diverse."""

    def run(self) -> None:
        from pixelprior.assets import load_shipped, shipped_class_names, shipped_folder
        from pixelprior.cli.train import report_nats
        from pixelprior.data.codes import extract_codes
        from pixelprior.data.images import load_images
        from pixelprior.evaluation.choosing import read_setting, setting_in_words
        from pixelprior.evaluation.measures import (
            reconstructions,
            samples,
            squared_errors,
        )
        from pixelprior.evaluation.report import (
            PICTURED,
            reconstruction_picture,
            sample_picture,
        )
        from pixelprior.files import writable_folder
        from pixelprior.plotting import save_picture
        from pixelprior.validation import check_filters

        check_filters(self.temperature, None, None)
        own = "" if self.dataset == "fashion_mnist" else f"_{self.dataset}"
        folder = writable_folder(self.output_dir or Path(f"pixelprior_demo{own}"))
        vqvae2, prior = load_shipped(self.dataset)
        weights = shipped_folder(self.dataset, "prior")
        # The first picture is at the chosen setting; the prior itself is beside it.
        settings = {
            "chosen_samples": read_setting(weights) or {},
            "samples": {"temperature": self.temperature},
        }
        for name, setting in settings.items():
            started = time.perf_counter()
            drawn = samples(
                vqvae2,
                prior,
                PICTURED,
                class_names=shipped_class_names(self.dataset),
                seed=self.seed,
                **setting,
            )
            seconds = time.perf_counter() - started
            words = setting_in_words(setting)
            if name == "samples":
                words = f"the prior itself, {words}"
            picture = sample_picture(drawn, self.seed, words)
            wrote = save_picture(picture, folder / f"{name}.png")
            print(f"wrote {wrote} ({words}), {PICTURED} images in {seconds:.1f} s")

        if self.dataset not in EMBEDDED:
            print(
                "no test images of this data set ship; to measure these weights, use "
                f"pixelprior evaluate --dataset {self.dataset}"
            )
            return
        heldout = load_images(EMBEDDED[self.dataset], "test")
        figure = reconstruction_picture(vqvae2, heldout)
        print(f"wrote {save_picture(figure, folder / 'reconstructions.png')}")
        rebuilt = reconstructions(vqvae2, heldout)
        error = squared_errors(heldout, rebuilt).mean().item()
        print(f"on {len(heldout):,} held-out test images, measured now:")
        print(f"  reconstruction: mean squared error {error:.5f} (pixels in [0, 1])")
        report_nats(prior, extract_codes(vqvae2, heldout))
