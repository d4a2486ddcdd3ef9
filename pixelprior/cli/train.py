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
from pixelprior.cli.flags import TrainingFlags
from pixelprior.codes import CodeData, extract_codes, load_codes, save_codes
from pixelprior.data import data_signature
from pixelprior.devices import where
from pixelprior.evaluation.measures import (
    erase_top,
    nats_per_code,
    reconstructions,
    squared_errors,
)
from pixelprior.pictures import image_grid, save_picture
from pixelprior.prior import LEVELS, HierarchicalPixelCNN
from pixelprior.ranges import check_positive
from pixelprior.runs import trained_parts
from pixelprior.sampling import check_filters
from pixelprior.training import fit
from pixelprior.vqvae2 import VQVAE2


@dataclass(kw_only=True)
class TrainVQVAE2(TrainingFlags):
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
            train, validation = self.split(self.images("train", self.image_size))
            test = self.images("test", self.image_size)  # seen to be there
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
        say(self.counts(train, validation, test))
        say(where(accelerator))
        shown = train if validation is None else validation

        def after_epoch(epoch: int, averaged: VQVAE2) -> None:
            if epoch % self.sample_every and epoch != self.epochs:
                return
            (images,) = shown.batch(torch.arange(min(10, len(shown))))
            with torch.no_grad():
                rebuilt = averaged(images.to(accelerator.device)).cpu()
            path = self.output_dir / "samples" / f"epoch_{epoch:04d}.png"
            save_picture(image_grid(torch.cat([images, rebuilt]), len(images)), path)

        fit(
            model,
            train,
            validation,
            self.settings(),
            self.output_dir,
            accelerator,
            resume=self.resume,
            notes={
                "dataset": self.dataset,
                "class_names": train.class_names,
                "validation_share": self.validation_share,
            },
            after_epoch=after_epoch,
            log=say,
        )
        if accelerator.is_main_process:
            best = load_model(VQVAE2, self.output_dir / "best", accelerator.device)
            error = squared_errors(test, reconstructions(best, test)).mean().item()
            say(f"  test images: mean squared error {error:.5f}")
            say(f"wrote {self.output_dir / 'best'}")
        accelerator.end_training()


@dataclass(kw_only=True)
class TrainPrior(TrainingFlags):
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
            train, validation = self.split(self.codes(vqvae2, "train"))
            test = self.codes(vqvae2, "test")
        say = accelerator.print
        say(f"codes of {self.counts(train, validation, test)}")
        say(where(accelerator))
        self.compare_with_vqvae2(say)
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
            validation,
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
                "validation_share": self.validation_share,
            },
            after_epoch=after_epoch,
            log=say,
        )
        if accelerator.is_main_process:
            best = load_model(
                HierarchicalPixelCNN, self.output_dir / "best", accelerator.device
            )
            report_nats(best, test, levels)
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
        return erase_top(codes) if self.without_top else codes

    def compare_with_vqvae2(self, say) -> None:
        """Say so where the VQ-VAE-2 was trained on images that are held out here."""
        notes = read_training_notes(self.vqvae2_checkpoint)
        its_share = notes.get("validation_share", self.validation_share)
        its_seed = notes.get("settings", {}).get("seed", self.seed)
        if self.validation_share and (its_share, its_seed) != (
            self.validation_share,
            self.seed,
        ):
            say(
                "the VQ-VAE-2 was trained on some of the images held out here; to hold "
                f"out the same ones give --validation_share {its_share} --seed "
                f"{its_seed}"
            )

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


def report_nats(prior: HierarchicalPixelCNN, test: CodeData, levels) -> None:
    """Print nats per code of each level on test images beside the unigram entropy."""
    nats = nats_per_code(prior, test, levels)
    for level in levels:
        print(
            f"  {level} codes: {nats[level]:.3f} nats per code held out; unigram "
            f"entropy {test.unigram_entropy(level):.3f}"
        )
