"""The flags of the two training commands, with their units and defaults, for tyro.

Flags that set numbers of a training are fields in `settings.py`. Nothing here loads
torch, so that `--help` answers at once.
"""

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from pixelprior.settings import TrainingSettings


@dataclass(kw_only=True)
class TrainingFlags:
    """Flags that both training commands share."""

    dataset: str = "cifar10"
    """Data set to train on: fashion_mnist_mini (which ships with the package),
    fashion_mnist, mnist, cifar10, cifar100, imagefolder (the folder given by
    --data_root, with one folder per class), shards (the .tar files in that folder) or
    hub:NAME (of the Hugging Face hub, or a folder)."""
    data_root: Path | None = None
    """Folder of the data. If it is left out, $PIXELPRIOR_DATA is used, else a cache
    folder. The copy of a set of the hub is kept in the folder given here, or else in
    the cache of the library datasets."""
    max_images: int | None = None
    """Number of images to train and evaluate on, for short trials. They are picked at
    random, the same ones for every seed."""
    workers: int | None = None
    """Number of processes that decode images which do not fit into memory. If it is
    left out, there are as many as cores, up to 8."""
    validation_share: float = 0.05
    """Share of the training images, at most 5,000, that are held out to choose the
    best epoch. With 0, all images are trained on and best is the last epoch. Give a
    prior the share of its VQ-VAE-2, so that both hold out the same images."""
    flip: bool = False
    """Mirror half of the training images, anew in each epoch. A prior is then trained
    on the codes of images that are encoded batch by batch."""
    shift: int = 0
    """Most pixels by which training images are moved at random along each axis, anew in
    each epoch."""
    settings: Annotated[TrainingSettings, tyro.conf.arg(name="")] = field(
        default_factory=TrainingSettings
    )
    resume: bool = False
    """Continue the run in --output_dir. All flags must be the same as before, but
    --epochs, --save_steps and the number of processes may differ."""
    use_tensorboard: bool = False
    """Log to TensorBoard, in --output_dir."""
    use_wandb: bool = False
    """Log to Weights & Biases (WANDB_MODE=offline keeps the log on this machine)."""

    @classmethod
    def of(cls, **flags):
        """A command from flags by their names, including those of `settings`."""
        settings = cls.__dataclass_fields__["settings"].default_factory()
        names = {setting.name for setting in fields(settings)} & flags.keys()
        changed = {name: flags.pop(name) for name in names}
        return cls(settings=replace(settings, **changed), **flags)


@dataclass(kw_only=True)
class TrainVQVAE2(TrainingFlags):
    """Train a VQ-VAE-2, which turns images into two grids of codes, and back."""

    image_size: str = "32"
    """Height and width of the images in pixels: one number, or two, such as 64x96."""
    hidden_channels: int = 128
    """Channels of the convolutions."""
    settings: Annotated[TrainingSettings, tyro.conf.arg(name="")] = field(
        default_factory=lambda: TrainingSettings(ema_decay=0.0)
    )
    embedding_dim: int = 64
    """Length of a code's vector."""
    num_embeddings: int = 512
    """Number of codes in each of the two codebooks."""
    bottom_downsampling: int = 2
    """Pixels along each side of the square that a bottom code covers; a top code covers
    twice as many. 4 suits images of 64 pixels, and 8 suits images of 128 pixels."""
    bottom_dropout: float = 0.1
    """Share of images that are reconstructed from their top codes alone during
    training, so that the top codes are used."""
    sample_every: int = 5
    """Number of epochs from one picture of reconstructions to the next."""
    output_dir: Path = Path("./outputs/vqvae2")
    """Folder for the checkpoints best and last, history.json and pictures."""

    def run(self) -> None:
        from pixelprior.cli.train_vqvae2 import train_vqvae2

        train_vqvae2(self)


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
        from pixelprior.cli.train_prior import train_prior

        train_prior(self)
