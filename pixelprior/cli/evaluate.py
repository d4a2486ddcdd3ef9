"""The flags of `evaluate`; `measuring.py` does the work.

Nothing here loads torch, so that `--help` answers at once.
"""

from dataclasses import dataclass
from pathlib import Path

from pixelprior.cli.flags import Shipped


@dataclass(kw_only=True)
class Evaluate:
    """Measure a trained prior: likelihoods, codes in use, reconstructions, distances
    and accuracy scores of samples. Without checkpoints, the shipped weights are
    measured."""

    dataset: str | None = None
    """Data set whose test images are measured on, and whose training images the samples
    are compared with; see train-prior. If it is left out, it is the one that --weights
    names, else fashion_mnist."""
    data_root: Path | None = None
    """Folder of the data. If it is left out, $PIXELPRIOR_DATA is used, else a cache
    folder."""
    weights: Shipped | None = None
    """Name of the shipped weights to measure. If it is left out, those for the data set
    are measured, unless there are checkpoints."""
    vqvae2_checkpoint: Path | None = None
    """Checkpoint of the VQ-VAE-2. If it is left out, the shipped VQ-VAE-2 is used."""
    prior_checkpoint: Path | None = None
    """Checkpoint of the prior. If it is left out, the shipped prior is used."""
    without_top_checkpoint: Path | None = None
    """Checkpoint of the bottom level trained with --without_top, for the gain from the
    top codes."""
    classifier_checkpoint: Path | None = None
    """Checkpoint of the classifier whose features the Fréchet distance is measured in.
    If it is left out, the shipped classifier for the data set is used, or if there is
    none, a classifier is trained first."""
    max_images: int | None = None
    """Number of images of each split to measure with, as in train-prior."""
    codes: Path | None = None
    """File of codes to measure the likelihood of a prior on, in place of images; see
    --codes of train-prior. It needs --prior_checkpoint."""
    num_samples: int = 10_000
    """Number of images to draw, at most the number of training images."""
    temperature: float | None = None
    """Temperature of the second set of samples. With any of --temperature, --top_k,
    --top_p and --guidance, as in sample, such a set is measured beside samples of the
    prior itself. If all are left out, it is drawn at the setting in the prior's
    sampling.json, if there is one."""
    top_k: int | None = None
    """top_k of the second set of samples."""
    top_p: float | None = None
    """top_p of the second set of samples."""
    guidance: tuple[float, ...] | None = None
    """Guidance of the second set of samples: one number, or two for the levels."""
    seed: int = 0
    """Seed of samples, classifiers and intervals."""
    inception: bool = False
    """Also measure the Fréchet distance in Inception's features. This needs
    torch-fidelity, which downloads Inception's weights."""
    device: str | None = None
    """Device to draw and measure on, such as cuda. If it is left out, the GPU is used
    if there is one."""
    output_dir: Path = Path("./pixelprior_results")
    """Folder for results.json, results.md and pictures."""

    def run(self) -> dict:
        from pixelprior.cli.measuring import evaluate

        return evaluate(self)
