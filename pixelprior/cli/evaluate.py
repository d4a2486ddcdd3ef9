"""The command `evaluate`: measure a VQ-VAE-2 and its prior, and keep what came out."""

import json
import os
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pixelprior.assets import FOLDER, load_shipped, load_shipped_reference_models
from pixelprior.checkpoints import load_model, read_training_notes
from pixelprior.cli.flags import Dataset
from pixelprior.data import load_images
from pixelprior.devices import usable_device
from pixelprior.evaluation.classifier import Classifier
from pixelprior.evaluation.measures import samples
from pixelprior.evaluation.report import (
    PICTURED,
    neighbour_picture,
    reconstruction_picture,
    sample_picture,
    table,
)
from pixelprior.evaluation.suite import evaluate
from pixelprior.files import (
    writable_folder,
    write_texts,
)
from pixelprior.pictures import save_picture
from pixelprior.prior import HierarchicalPixelCNN
from pixelprior.ranges import check_positive
from pixelprior.runs import check_trained, load_without_top
from pixelprior.vqvae2 import VQVAE2


def check_one_process(command: str) -> None:
    """Raise ValueError where accelerate launch or torchrun started several processes:
    each would measure everything and write the same files."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count > 1:
        raise ValueError(
            f"{command} was started in {count} processes (WORLD_SIZE), but it runs in "
            "one; start train-vqvae2 and train-prior in several, by accelerate launch, "
            "and then pixelprior evaluate in one"
        )


@dataclass(kw_only=True)
class Evaluate:
    """Measure a trained prior: likelihoods, codes in use, reconstructions, distances
    and accuracy scores of samples. Without checkpoints, the shipped weights."""

    dataset: Dataset = "fashion_mnist"
    """Images to measure on, and the training images to compare samples with."""
    data_root: Path | None = None
    """Folder of the data; else $PIXELPRIOR_DATA, else a cache folder."""
    vqvae2_checkpoint: Path | None = None
    """Checkpoint of the VQ-VAE-2; the shipped one without."""
    prior_checkpoint: Path | None = None
    """Checkpoint of the prior; the shipped one without."""
    without_top_checkpoint: Path | None = None
    """Checkpoint of the bottom level trained with --without_top, for the gain from the
    top codes."""
    classifier_checkpoint: Path | None = None
    """Classifier whose features the Fréchet distance is measured in. Without one, the
    shipped one for Fashion-MNIST, else one trained here."""
    num_samples: int = 10_000
    """Images to draw; no more than there are training images."""
    seed: int = 0
    """Seed of samples, classifiers and intervals."""
    inception: bool = False
    """Measure the Fréchet distance in Inception's features too (needs torch-fidelity,
    which downloads its weights)."""
    device: str | None = None
    """Device to draw and measure on, such as cuda; the GPU if there is one."""
    output_dir: Path = Path("./pixelprior_results")
    """Folder for results.json, results.md and pictures."""

    def run(self) -> dict:
        check_one_process("evaluate")
        check_positive(num_samples=self.num_samples)
        device = usable_device(self.device)
        folder = writable_folder(self.output_dir)
        vqvae2, prior, without_top, classifier = self.models(device)
        train, heldout = (
            load_images(
                self.dataset,
                split,
                data_root=self.data_root,
                image_size=vqvae2.image_size,
                progress=True,
            )
            for split in ("train", "test")
        )
        self.check_classes(prior, heldout.class_names)
        results = evaluate(
            vqvae2,
            prior,
            train,
            heldout,
            without_top=without_top,
            classifier=classifier,
            num_samples=self.num_samples,
            seed=self.seed,
            inception=self.inception,
            say=partial(print, file=sys.stderr, flush=True),
        )
        texts = {"results.json": json.dumps(results, indent=1)}
        write_texts(folder, texts | {"results.md": table(results)})
        first = samples(
            vqvae2, prior, PICTURED, class_names=heldout.class_names, seed=self.seed
        )
        for name, picture in (
            ("samples", sample_picture(first, self.seed)),
            ("reconstructions", reconstruction_picture(vqvae2, heldout)),
            ("neighbours", neighbour_picture(first, train)),
        ):
            save_picture(picture, folder / f"{name}.png")
        print(table(results))
        print(f"wrote results.json, results.md and pictures to {folder}")
        return results

    def models(self, device):
        """VQ-VAE-2, prior, and the two yardsticks, None where there is none.

        Raises:
            ValueError: one checkpoint was given without the other, or they do not fit.
        """
        given = (self.vqvae2_checkpoint, self.prior_checkpoint)
        if (given[0] is None) != (given[1] is None):
            raise ValueError(
                "a VQ-VAE-2 and a prior go together; give both --vqvae2_checkpoint and "
                "--prior_checkpoint, or neither for the shipped weights"
            )
        shipped = given[0] is None
        if shipped:
            vqvae2, prior = load_shipped()
        else:
            vqvae2 = load_model(VQVAE2, given[0])
            prior = load_model(HierarchicalPixelCNN, given[1])
            check_trained(given[1], vqvae2)
        without_top = classifier = None
        if self.without_top_checkpoint is not None:
            without_top = load_without_top(self.without_top_checkpoint, vqvae2)
        elif shipped:
            without_top = load_shipped_reference_models()[0]
        if self.classifier_checkpoint is not None:
            classifier = load_model(Classifier, self.classifier_checkpoint)
        elif self.dataset.startswith("fashion_mnist"):
            classifier = load_shipped_reference_models()[1]
        prior.check_matches(vqvae2)
        return tuple(
            model if model is None else model.to(device)
            for model in (vqvae2, prior, without_top, classifier)
        )

    def check_classes(self, prior, class_names: tuple[str, ...]) -> None:
        """Raise ValueError where the images' classes are not those of the prior."""
        path = self.prior_checkpoint or FOLDER / "fashion_mnist_prior"
        known = read_training_notes(path).get("class_names")
        if prior.num_classes is None or known in (None, list(class_names)):
            return
        raise ValueError(
            f"the prior was trained on the classes {', '.join(map(str, known))}, but "
            f"{self.dataset} has {', '.join(class_names)}; measure it on the data set "
            "that it was trained on"
        )
