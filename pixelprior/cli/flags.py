"""What the flags of several commands share.

No module of flags loads torch, so that `--help` answers at once.
"""

import os
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from pixelprior.settings import CHUNK_SIZE, SamplingOptions, TrainingSettings

Shipped = Literal["fashion_mnist", "cifar10", "emoji"]  # `assets.SHIPPED`


@dataclass(frozen=True)
class Options(SamplingOptions):
    """The sampling options of a command that numbers its images and batches itself."""

    guidance: tuple[float, ...] = (0.0,)
    """Guidance w towards the class: the logits are (1 + w) times those with the label
    minus w times those without it. One number, or one per level from the top down.
    Above 0 it needs a prior that was trained with --label_dropout."""
    seed: int = 0
    """Seed of the images. The same seed gives the same images in any batch size."""
    first_index: tyro.conf.Suppress[int] = 0
    chunk_size: tyro.conf.Suppress[int] = CHUNK_SIZE


def check_one_process(command: str) -> None:
    """Refuse several processes, each of which would write the same files."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count > 1:
        raise ValueError(
            f"{command} was started in {count} processes (WORLD_SIZE), but it runs in "
            "one; start train-vqvae2 and train-prior in several, by accelerate launch, "
            f"and then pixelprior {command} in one"
        )


@dataclass(kw_only=True)
class TrainingFlags:
    """Flags that both training commands share."""

    dataset: str = "cifar10"
    """Data set to train on: fashion_mnist_mini or emoji (which ship with the package),
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
    sample_every: int = 5
    """Number of epochs from one picture of samples or reconstructions to the next."""
    resume: bool = False
    """Continue the run in --output_dir. All flags must be the same as before, but
    --epochs, --save_steps and the number of processes may differ."""
    use_tensorboard: bool = False
    """Log to TensorBoard, in --output_dir."""
    use_wandb: bool = False
    """Log to Weights & Biases (WANDB_MODE=offline keeps the log on this machine)."""

    @classmethod
    def of(cls, **flags):
        """A command from flags by their names, including those of nested settings."""
        for group in fields(cls):
            if group.name in ("settings", "network"):
                default = group.default_factory()
                names = [each.name for each in fields(default) if each.name in flags]
                changed = {name: flags.pop(name) for name in names}
                flags[group.name] = replace(default, **changed)
        return cls(**flags)
