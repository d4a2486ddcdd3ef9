"""The command `train-vqvae2`."""

from dataclasses import dataclass
from pathlib import Path

from pixelprior.cli.flags import TrainingFlags


@dataclass(kw_only=True)
class TrainVQVAE2(TrainingFlags):
    """Train a VQ-VAE-2, which turns images into two grids of codes, and back."""

    image_size: str = "32"
    """Height and width of the images in pixels: one number, or two, such as 64x96."""
    hidden_channels: int = 128
    """Channels of the convolutions."""
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
        import torch

        from pixelprior.checkpoints import load_model
        from pixelprior.cli.train import (
            accelerator_for,
            augmented,
            check_shift,
            images_of,
            in_words,
            notes_of,
            split,
        )
        from pixelprior.devices import where
        from pixelprior.evaluation.measures import reconstruction_errors
        from pixelprior.plotting import image_grid, save_picture
        from pixelprior.settings import check_positive, sides_of
        from pixelprior.training import fit
        from pixelprior.vqvae2 import VQVAE2

        check_positive(sample_every=self.sample_every)
        height, width = sides_of(self.image_size)
        check_shift(self, (height, width))
        accelerator = accelerator_for(self, self.output_dir)
        with accelerator.local_main_process_first():
            images = images_of(self, "train", self.image_size)
            test = images_of(self, "test", self.image_size)  # now, as it may be absent
        train, validation = split(self, images)
        torch.manual_seed(self.settings.seed)
        model = VQVAE2(
            in_channels=images.channels,
            image_size=height if height == width else (height, width),
            hidden_channels=self.hidden_channels,
            embedding_dim=self.embedding_dim,
            num_embeddings=self.num_embeddings,
            bottom_downsampling=self.bottom_downsampling,
            bottom_dropout=self.bottom_dropout,
        )
        say = accelerator.print
        say(in_words(train, validation, test))
        say(where(accelerator))
        shown = train if validation is None else validation

        def after_epoch(epoch: int, averaged: VQVAE2) -> None:
            if epoch % self.sample_every and epoch != self.settings.epochs:
                return
            (images,) = shown.batch(torch.arange(min(10, len(shown))))
            with torch.no_grad():
                rebuilt = averaged(images.to(accelerator.device)).cpu()
            path = self.output_dir / "samples" / f"epoch_{epoch:04d}.png"
            save_picture(image_grid(torch.cat([images, rebuilt]), len(images)), path)

        fit(
            model,
            augmented(self, train),
            validation,
            self.settings,
            self.output_dir,
            accelerator,
            resume=self.resume,
            notes=notes_of(self) | {"class_names": images.class_names},
            after_epoch=after_epoch,
            log=say,
        )
        if accelerator.is_main_process:
            best = load_model(VQVAE2, self.output_dir / "best", accelerator.device)
            error = reconstruction_errors(best, test).mean().item()
            say(f"  test images: mean squared error {error:.5f}")
            say(f"wrote {self.output_dir / 'best'}")
        accelerator.end_training()
