"""What the flags of several commands share. Nothing here loads torch."""

import os
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from pixelprior.settings import TrainingSettings

# The names in `assets.SHIPPED` and `sampling.METHODS`; a test compares them.
Shipped = Literal["fashion_mnist", "cifar10"]
Method = Literal["auto", "naive", "rows", "cached", "graph"]


def one_or_two(guidance: tuple[float, ...]) -> tuple[float, ...]:
    """The guidance of both levels; a single number holds for both."""
    return guidance * 2 if len(guidance) == 1 else guidance


def check_one_process(command: str) -> None:
    """Raise ValueError if accelerate launch or torchrun started several processes.

    Each process would measure everything and write the same files.
    """
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
