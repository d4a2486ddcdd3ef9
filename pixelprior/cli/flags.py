"""Flags that both training commands share, and what they come to: images and splits."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from pixelprior.data import ImageData, load_images
from pixelprior.devices import make_accelerator
from pixelprior.ranges import check_positive, check_share
from pixelprior.runs import check_output_dir, hold_out
from pixelprior.settings import TrainingSettings

Dataset = Literal[
    "fashion_mnist_mini", "fashion_mnist", "mnist", "cifar10", "cifar100", "imagefolder"
]


@dataclass(kw_only=True)
class TrainingFlags:
    """Flags that both training commands share."""

    dataset: Dataset = "cifar10"
    """Training images. fashion_mnist_mini ships with the package; imagefolder is the
    folder named by --data_root, one folder a class."""
    data_root: Path | None = None
    """Folder of the data; else $PIXELPRIOR_DATA, else a cache folder."""
    max_images: int | None = None
    """Train and evaluate on this many images, picked by the seed; for short trials."""
    validation_share: float = 0.05
    """Share of the training images, at most 5,000, that are held out to choose the
    best epoch; 0 trains on all, and best is the last. Give a prior the share and the
    seed of its VQ-VAE-2: then the same images are held out of both."""
    epochs: int = 100
    """Passes over the training images."""
    batch_size: int = 128
    """Images a step, on each process."""
    lr: float = 3e-4
    """Highest learning rate, reached after the warm-up; then a cosine to zero."""
    warmup: float = 0.05
    """Share of the steps in which the learning rate rises."""
    weight_decay: float = 0.01
    """Weight decay of AdamW."""
    ema_decay: float = 0.999
    """Decay of the weights' moving average, which is what is evaluated and kept."""
    mixed_precision: Literal["auto", "no", "bf16"] = "auto"
    """Number format of the multiplications; auto is bf16 where the processor has it."""
    seed: int = 0
    """Seed of weights, order and dropout: the same seed gives the same run."""
    resume: bool = False
    """Go on with the run in --output_dir, with the same flags; --epochs and the number
    of processes may differ."""
    use_tensorboard: bool = False
    """Log to TensorBoard, in --output_dir."""
    use_wandb: bool = False
    """Log to Weights & Biases (WANDB_MODE=offline keeps it on this machine)."""

    def settings(self) -> TrainingSettings:
        return TrainingSettings(
            epochs=self.epochs,
            batch_size=self.batch_size,
            lr=self.lr,
            warmup=self.warmup,
            weight_decay=self.weight_decay,
            ema_decay=self.ema_decay,
            mixed_precision=self.mixed_precision,
            seed=self.seed,
        )

    def accelerator(self, output_dir: Path):
        chosen = {"tensorboard": self.use_tensorboard, "wandb": self.use_wandb}
        trackers = [name for name, wanted in chosen.items() if wanted]
        settings = self.settings()
        if self.max_images is not None:
            check_positive(max_images=self.max_images)
        check_share(validation_share=self.validation_share)
        check_output_dir(output_dir, self.resume)
        return make_accelerator(settings, output_dir, trackers)

    def images(self, split: str, image_size: int) -> ImageData:
        data = load_images(
            self.dataset,
            split,
            data_root=self.data_root,
            image_size=image_size,
            progress=True,
        )
        if self.max_images is not None:
            picked = torch.randperm(
                len(data), generator=torch.Generator().manual_seed(self.seed)
            )[: self.max_images]
            data.images, data.labels = data.images[picked], data.labels[picked]
        return data

    def split(self, data):
        """Training data: what is trained on, and what chooses the best epoch."""
        return hold_out(data, self.validation_share, self.seed)

    def counts(self, train, validation, test) -> str:
        """How many images there are of each kind, in words."""
        held_out = 0 if validation is None else len(validation)
        return (
            f"{len(train):,} training images, {held_out:,} held out to choose the best "
            f"epoch, {len(test):,} test images for the end"
        )
