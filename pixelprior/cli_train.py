"""The two training commands of the command line: a dataclass a command."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from pixelprior.checkpoints import (
    fingerprint,
    load_model,
    read_training_notes,
)
from pixelprior.codes import CodeData, extract_codes, load_codes, save_codes
from pixelprior.data import ImageData, data_signature, load_images
from pixelprior.evaluation import nats_per_code, without_top
from pixelprior.prior import LEVELS, HierarchicalPixelCNN
from pixelprior.runs import check_output_dir, trained_parts
from pixelprior.sampling import check_filters
from pixelprior.settings import TrainingSettings, make_accelerator, where
from pixelprior.training import fit
from pixelprior.validation import check_positive
from pixelprior.viz import image_grid, save_picture
from pixelprior.vqvae2 import VQVAE2

Dataset = Literal[
    "fashion_mnist_mini", "fashion_mnist", "mnist", "cifar10", "cifar100", "imagefolder"
]


@dataclass(kw_only=True)
class _Training:
    """Flags that both training commands share."""

    dataset: Dataset = "cifar10"
    """Training images. fashion_mnist_mini ships with the package; imagefolder is the
    folder named by --data_root, one folder a class."""
    data_root: Path | None = None
    """Folder of the data; else $PIXELPRIOR_DATA, else a cache folder."""
    max_images: int | None = None
    """Train and evaluate on this many images, picked by the seed; for short trials."""
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
    """Go on with the run in --output_dir, with the same flags."""
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


@dataclass(kw_only=True)
class TrainVQVAE2(_Training):
    """Train a VQ-VAE-2: images to two grids of codes, and back."""

    image_size: int = 32
    """Height and width of the images in pixels."""
    hidden_channels: int = 128
    """Channels of the convolutions."""
    ema_decay: float = 0.0
    """Decay of the weights' moving average, which is what is evaluated and kept. 0
    keeps the weights themselves: averaged ones do not fit the newest codebooks."""
    embedding_dim: int = 64
    """Length of a code's vector."""
    num_embeddings: int = 512
    """Codes in each of the two codebooks."""
    bottom_downsampling: int = 2
    """Pixels along each side that a bottom code stands for; a top code for twice as
    many. 4 suits images of 64 pixels, 8 those of 128."""
    bottom_dropout: float = 0.1
    """Share of images that are rebuilt from their top codes alone while training, so
    that the top codes are put to use."""
    sample_every: int = 5
    """Write a picture of reconstructions every so many epochs."""
    output_dir: Path = Path("./outputs/vqvae2")
    """Folder for the checkpoints best and last, history.json and pictures."""

    def run(self) -> None:
        check_positive(sample_every=self.sample_every)
        accelerator = self.accelerator(self.output_dir)
        with accelerator.local_main_process_first():
            train = self.images("train", self.image_size)
            heldout = self.images("test", self.image_size)
        torch.manual_seed(self.seed)
        model = VQVAE2(
            in_channels=train.images.shape[1],
            image_size=self.image_size,
            hidden_channels=self.hidden_channels,
            embedding_dim=self.embedding_dim,
            num_embeddings=self.num_embeddings,
            bottom_downsampling=self.bottom_downsampling,
            bottom_dropout=self.bottom_dropout,
        )
        say = accelerator.print
        say(f"{len(train):,} training and {len(heldout):,} held-out images")
        say(where(accelerator))

        def after_epoch(epoch: int, averaged: VQVAE2) -> None:
            if epoch % self.sample_every and epoch != self.epochs:
                return
            (images,) = heldout.batch(torch.arange(min(10, len(heldout))))
            with torch.no_grad():
                rebuilt = averaged(images.to(accelerator.device)).cpu()
            path = self.output_dir / "samples" / f"epoch_{epoch:04d}.png"
            save_picture(image_grid(torch.cat([images, rebuilt]), len(images)), path)

        fit(
            model,
            train,
            heldout,
            self.settings(),
            self.output_dir,
            accelerator,
            resume=self.resume,
            notes={"dataset": self.dataset, "class_names": train.class_names},
            after_epoch=after_epoch,
            log=say,
        )
        say(f"wrote {self.output_dir / 'best'}")
        accelerator.end_training()


@dataclass(kw_only=True)
class TrainPrior(_Training):
    """Train the prior over the codes of a trained VQ-VAE-2."""

    vqvae2_checkpoint: Path
    """Checkpoint of the VQ-VAE-2: a folder or a .pth file."""
    level: Literal["top", "bottom", "both"] = "both"
    """Which level to train."""
    without_top: bool = False
    """Give the bottom level top codes that are all 0: what it reaches without the top
    is what the top is measured by. Needs --level bottom."""
    init_checkpoint: Path | None = None
    """Prior to start from, such as one whose other level is trained already."""
    class_conditional: bool = False
    """Give the prior the images' class labels."""
    hidden_channels: int = 128
    """Channels of each stack."""
    num_layers: int = 15
    """Gated blocks a level."""
    kernel_size: int = 3
    """Kernel of the gated blocks; odd."""
    attention_layers: int = 0
    """Layers of attention over the past in the top level; 0 is none."""
    attention_heads: int = 4
    """Heads of each; hidden_channels is a multiple of it."""
    dropout: float = 0.1
    """Share of features dropped while training."""
    temperature: float = 1.0
    """Temperature of the sample pictures; does not touch the training."""
    sample_every: int = 5
    """Write a picture of samples every so many epochs."""
    output_dir: Path = Path("./outputs/pixelcnn_prior")
    """Folder for the checkpoints best and last, codes, history.json and pictures."""

    def run(self) -> None:
        check_filters(self.temperature, None, None)
        check_positive(sample_every=self.sample_every)
        if self.without_top and self.level != "bottom":
            raise ValueError(
                f"--without_top is for the bottom level, but --level is {self.level}; "
                "give --level bottom, or leave it out"
            )
        accelerator = self.accelerator(self.output_dir)
        vqvae2 = load_model(VQVAE2, self.vqvae2_checkpoint, accelerator.device)
        self.model(vqvae2, num_classes=None)  # sees that the flags fit, before the work
        levels = LEVELS if self.level == "both" else (self.level,)
        trained, start = {f"{level}_loss" for level in levels}, None
        if self.init_checkpoint is not None:
            start = load_model(HierarchicalPixelCNN, self.init_checkpoint)
            trained |= trained_parts(self.init_checkpoint, vqvae2)
            notes = read_training_notes(self.init_checkpoint)
            if notes.get("without_top") and not self.without_top:
                raise ValueError(
                    f"the bottom level in {self.init_checkpoint} was trained without "
                    "the top codes; start from another, or give --without_top"
                )
        with accelerator.local_main_process_first():
            train = self.codes(vqvae2, "train")
            heldout = self.codes(vqvae2, "test")
        say = accelerator.print
        say(f"codes of {len(train):,} training and {len(heldout):,} held-out images")
        say(where(accelerator))
        classes = len(train.class_names) if self.class_conditional else None
        model = self.model(vqvae2, classes)
        if start is not None:
            self.take_weights(model, start)

        def after_epoch(epoch: int, averaged: HierarchicalPixelCNN) -> None:
            if epoch % self.sample_every and epoch != self.epochs:
                return
            images = averaged.sample_with_vqvae2(
                vqvae2,
                64,
                temperature=self.temperature,
                labels=averaged.labels_in_turn(64),
                seed=self.seed,
            )
            path = self.output_dir / "samples" / f"epoch_{epoch:04d}.png"
            save_picture(image_grid(images, 10 if self.class_conditional else 8), path)

        fit(
            model,
            train,
            heldout,
            self.settings(),
            self.output_dir,
            accelerator,
            parts=tuple(f"{level}_loss" for level in levels),
            loss_options={"levels": levels},
            resume=self.resume,
            notes={
                "dataset": self.dataset,
                "class_names": train.class_names,
                "vqvae2": fingerprint(vqvae2),
                "trained_parts": sorted(trained),
                "without_top": self.without_top,
            },
            after_epoch=after_epoch,
            log=say,
        )
        if accelerator.is_main_process:
            best = load_model(
                HierarchicalPixelCNN, self.output_dir / "best", accelerator.device
            )
            report_nats(best, heldout, levels)
            say(f"wrote {self.output_dir / 'best'}")
        accelerator.end_training()

    def codes(self, vqvae2: VQVAE2, split: str) -> CodeData:
        """The codes of a split: from the output folder, or encoded and kept there."""
        path = self.output_dir / "codes" / f"{split}.safetensors"
        source = "\n".join(
            str(each)
            for each in (
                fingerprint(vqvae2),
                data_signature(self.dataset, split, self.data_root),
                f"{self.max_images} picked by {self.seed}"
                if self.max_images is not None
                else "all",
            )
        )
        codes = load_codes(path, source)
        if codes is None:
            images = self.images(split, vqvae2.image_size)
            codes = extract_codes(vqvae2, images, progress=True)
            save_codes(codes, path, source)
        if not self.class_conditional:
            codes.labels = None
        return without_top(codes) if self.without_top else codes

    def model(self, vqvae2: VQVAE2, num_classes: int | None) -> HierarchicalPixelCNN:
        torch.manual_seed(self.seed)
        return HierarchicalPixelCNN(
            num_embeddings=vqvae2.num_embeddings,
            embedding_dim=vqvae2.embedding_dim,
            hidden_channels=self.hidden_channels,
            num_layers=self.num_layers,
            num_classes=num_classes,
            dropout=self.dropout,
            kernel_size=self.kernel_size,
            attention_layers=self.attention_layers,
            attention_heads=self.attention_heads,
        )

    def take_weights(self, model, start: HierarchicalPixelCNN) -> None:
        """Start from the weights of `--init_checkpoint`."""
        try:
            model.load_state_dict(start.state_dict())
        except RuntimeError as error:
            raise ValueError(
                f"the prior in {self.init_checkpoint} has other sizes than the flags "
                "ask for; give the flags that it was trained with"
            ) from error


def report_nats(prior: HierarchicalPixelCNN, heldout: CodeData, levels) -> None:
    """Print held-out nats per code of each level beside the unigram entropy."""
    nats = nats_per_code(prior, heldout, levels)
    for level in levels:
        print(
            f"  {level} codes: {nats[level]:.3f} nats per code held out; unigram "
            f"entropy {heldout.unigram_entropy(level):.3f}"
        )
