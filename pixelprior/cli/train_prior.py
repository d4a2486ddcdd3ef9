"""The flags of `train-prior`; `prior_training.py` does the work.

Nothing here loads torch, so that `--help` answers at once.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pixelprior.cli.flags import TrainingFlags


@dataclass(kw_only=True)
class TrainPrior(TrainingFlags):
    """Train the prior over the codes of a trained VQ-VAE-2."""

    vqvae2_checkpoint: Path | None = None
    """Checkpoint of the VQ-VAE-2: a folder or a .pth file. Give it, or --codes."""
    codes: Path | None = None
    """File of codes to train on in place of images: .safetensors, .npz or .npy, of one
    level or two, from any tokenizer (docs/data.md)."""
    test_codes: Path | None = None
    """File of codes to measure on at the end, like --codes."""
    codebook_size: int | None = None
    """Size of the codebook of --codes. If it is left out, it is the number in the file,
    or one more than the largest code."""
    level: Literal["top", "bottom", "both"] = "both"
    """Level to train; codes of a single level have no other."""
    without_top: bool = False
    """Train the bottom level with top codes that are all 0. The gain from the top codes
    is measured against this level. Needs --level bottom."""
    init_checkpoint: Path | None = None
    """Checkpoint of a prior to start from, such as one whose other level is already
    trained."""
    class_conditional: bool = False
    """Condition the prior on the class labels of the images."""
    label_dropout: float = 0.0
    """Share of images whose label is withheld during training, such as 0.1. It makes
    --guidance possible in the command sample, and needs --class_conditional."""
    hidden_channels: int = 128
    """Channels of each stack."""
    num_layers: int = 15
    """Number of gated blocks per level."""
    kernel_size: int = 3
    """Kernel size of the gated blocks; odd, 3 or more."""
    attention_layers: int = 0
    """Number of attention layers over the past in the top level; 0 means none."""
    attention_heads: int = 4
    """Heads of each attention layer, a divisor of --hidden_channels."""
    dropout: float = 0.1
    """Share of features that are dropped during training."""
    temperature: float = 1.0
    """Temperature of the sample pictures; it does not affect the training."""
    sample_every: int = 5
    """Number of epochs from one picture of samples to the next."""
    output_dir: Path = Path("./outputs/pixelcnn_prior")
    """Folder for the checkpoints best and last, codes, history.json and pictures."""

    def run(self) -> None:
        from pixelprior.cli.prior_training import train_prior

        train_prior(self)
