"""The command `train-vqvae2`."""

from dataclasses import dataclass, replace
from functools import partial
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
    output_dir: Path = Path("./outputs/vqvae2")
    """Folder for the checkpoints best and last, history.json and pictures."""

    def run(self) -> None:
        import torch

        from pixelprior.cli.train import accelerator_for, images_of, train
        from pixelprior.data.augmentation import augmented
        from pixelprior.data.held_out import hold_out
        from pixelprior.evaluation.measures import reconstruction_errors
        from pixelprior.settings import sides_of
        from pixelprior.vqvae2 import VQVAE2

        height, width = sides_of(self.image_size)
        accelerator = accelerator_for(self)
        with accelerator.local_main_process_first():
            images = images_of(self, "train", self.image_size)
            test = images_of(self, "test", self.image_size)  # now, as it may be absent
        first, heldout = hold_out(images, self.validation_share)
        shown = first if heldout is None else heldout
        if self.flip or self.shift:
            how = {"flip": self.flip, "shift": self.shift}
            first = replace(first, change=partial(augmented, **how))
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

        def picture(averaged: VQVAE2):
            (images,) = shown.batch(torch.arange(min(10, len(shown))))
            with torch.no_grad():
                rebuilt = averaged(images.to(accelerator.device)).cpu()
            return torch.cat([images, rebuilt]), len(images)

        notes = {"class_names": images.class_names}
        data = first, heldout
        best = train(self, accelerator, model, data, test, picture, notes)
        if best is not None:
            error = reconstruction_errors(best, test).mean().item()
            print(f"  test images: mean squared error {error:.5f}")
        accelerator.end_training()
