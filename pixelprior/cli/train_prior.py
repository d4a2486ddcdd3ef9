"""The flags of `train-prior`; `prior_training.py` does the work."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from pixelprior.cli.flags import TrainingFlags
from pixelprior.settings import NetworkSettings


@dataclass(frozen=True)
class Network(NetworkSettings):
    """The network without what the data set: the number of classes, and of a vector."""

    num_classes: tyro.conf.Suppress[int | None] = None
    condition_dim: tyro.conf.Suppress[int | None] = None


@dataclass(kw_only=True)
class TrainPrior(TrainingFlags):
    """Train the prior over the codes of a trained VQ-VAE-2."""

    vqvae2_checkpoint: Path | None = None
    """Checkpoint of the VQ-VAE-2: a folder or a .pth file. Give it, or --codes."""
    codes: Path | None = None
    """File of codes to train on in place of images: .safetensors, .npz or .npy, of any
    number of levels, from any tokenizer (docs/data.md)."""
    test_codes: Path | None = None
    """File of codes to measure on at the end, like --codes."""
    codebook_size: int | None = None
    """Size of the codebooks of --codes. If it is left out, it is the number in the
    file, or one more than the largest code."""
    level: str = "both"
    """Level to train, by its name (top or bottom, or level_0 and so on) or by its
    number from the top down; both trains all levels."""
    without_top: bool = False
    """Train the bottom level with top codes that are all 0. The gain from the top codes
    is measured against this level. Needs --level bottom."""
    init_checkpoint: Path | None = None
    """Checkpoint of a prior to start from, such as one whose other level is already
    trained."""
    class_conditional: bool = False
    """Condition the prior on the class labels of the images, or on the labels of a file
    of codes, which may be vectors."""
    network: Annotated[Network, tyro.conf.arg(name="")] = field(default_factory=Network)
    temperature: float = 1.0
    """Temperature of the sample pictures; it does not affect the training."""
    output_dir: Path = Path("./outputs/pixelcnn_prior")
    """Folder for the checkpoints best and last, codes, history.json and pictures."""

    def run(self) -> None:
        from pixelprior.cli.prior_training import train_prior

        train_prior(self)
