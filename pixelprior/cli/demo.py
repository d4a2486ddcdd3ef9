"""The command `demo`: 64 new images from the shipped weights, and what they reach."""

import time
from dataclasses import dataclass
from pathlib import Path

from pixelprior.cli.flags import Shipped


@dataclass(kw_only=True)
class Demo:
    """Draw 64 new images with shipped weights. This needs no network."""

    dataset: Shipped = "fashion_mnist"
    """Name of the shipped weights: fashion_mnist draws clothes, cifar10 animals and
    vehicles in colour, and emoji what its name says."""
    output_dir: Path | None = None
    """Folder for chosen_samples.png, drawn at the setting that was chosen for the
    shipped prior, for samples.png of the prior itself, and for reconstructions.png if
    test images ship with the package, as they do for all but cifar10. If it is left
    out, it is ./pixelprior_demo, or ./pixelprior_demo_cifar10."""

    def run(self) -> None:
        from pixelprior.assets import load_shipped, shipped_class_names, shipped_folder
        from pixelprior.cli.train import report_nats
        from pixelprior.data.codes import extract_codes
        from pixelprior.data.images import load_images
        from pixelprior.evaluation import measures, report
        from pixelprior.evaluation.choosing import read_setting, setting_in_words
        from pixelprior.files import writable_folder
        from pixelprior.plotting import save_picture

        own = "" if self.dataset == "fashion_mnist" else f"_{self.dataset}"
        folder = writable_folder(self.output_dir or Path(f"pixelprior_demo{own}"))
        vqvae2, prior = load_shipped(self.dataset)
        chosen = read_setting(shipped_folder(self.dataset, "prior"))
        for name, setting, words in (
            ("chosen_samples", chosen, setting_in_words(chosen)),
            ("samples", {}, "the prior itself, temperature 1"),
        ):
            started = time.perf_counter()
            drawn = measures.samples(
                vqvae2,
                prior,
                report.PICTURED,
                class_names=shipped_class_names(self.dataset),
                **setting,
            )
            seconds = time.perf_counter() - started
            picture = report.sample_picture(drawn, 0, words)
            wrote = save_picture(picture, folder / f"{name}.png")
            print(f"wrote {wrote} ({words}), {len(drawn)} images in {seconds:.1f} s")
        if self.dataset == "cifar10":
            print(
                "no test images of this data set ship; to measure these weights, use "
                f"pixelprior evaluate --dataset {self.dataset}"
            )
            return
        mini = {"fashion_mnist": "fashion_mnist_mini"}
        heldout = load_images(mini.get(self.dataset, self.dataset), "test")
        figure = report.reconstruction_picture(vqvae2, heldout)
        print(f"wrote {save_picture(figure, folder / 'reconstructions.png')}")
        rebuilt = measures.reconstructions(vqvae2, heldout)
        error = measures.squared_errors(heldout, rebuilt).mean().item()
        print(f"on {len(heldout):,} held-out test images, measured now:")
        print(f"  reconstruction: mean squared error {error:.5f} (pixels in [0, 1])")
        report_nats(prior, extract_codes(vqvae2, heldout))
