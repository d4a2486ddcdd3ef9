"""The command `train-vqvae2`."""

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
from pixelprior.cli.training_flags import TrainVQVAE2
from pixelprior.devices import where
from pixelprior.evaluation.measures import reconstruction_errors
from pixelprior.pictures import image_grid, save_picture
from pixelprior.ranges import check_positive, sides_of
from pixelprior.training import fit
from pixelprior.vqvae2 import VQVAE2


def train_vqvae2(flags: TrainVQVAE2) -> None:
    check_positive(sample_every=flags.sample_every)
    height, width = sides_of(flags.image_size)
    check_shift(flags, (height, width))
    accelerator = accelerator_for(flags, flags.output_dir)
    with accelerator.local_main_process_first():
        images = images_of(flags, "train", flags.image_size)
        test = images_of(flags, "test", flags.image_size)  # now, as it may be absent
    train, validation = split(flags, images)
    torch.manual_seed(flags.settings.seed)
    model = VQVAE2(
        in_channels=images.channels,
        image_size=height if height == width else (height, width),
        hidden_channels=flags.hidden_channels,
        embedding_dim=flags.embedding_dim,
        num_embeddings=flags.num_embeddings,
        bottom_downsampling=flags.bottom_downsampling,
        bottom_dropout=flags.bottom_dropout,
    )
    say = accelerator.print
    say(in_words(train, validation, test))
    say(where(accelerator))
    shown = train if validation is None else validation

    def after_epoch(epoch: int, averaged: VQVAE2) -> None:
        if epoch % flags.sample_every and epoch != flags.settings.epochs:
            return
        (images,) = shown.batch(torch.arange(min(10, len(shown))))
        with torch.no_grad():
            rebuilt = averaged(images.to(accelerator.device)).cpu()
        path = flags.output_dir / "samples" / f"epoch_{epoch:04d}.png"
        save_picture(image_grid(torch.cat([images, rebuilt]), len(images)), path)

    fit(
        model,
        augmented(flags, train),
        validation,
        flags.settings,
        flags.output_dir,
        accelerator,
        resume=flags.resume,
        notes=notes_of(flags) | {"class_names": images.class_names},
        after_epoch=after_epoch,
        log=say,
    )
    if accelerator.is_main_process:
        best = load_model(VQVAE2, flags.output_dir / "best", accelerator.device)
        error = reconstruction_errors(best, test).mean().item()
        say(f"  test images: mean squared error {error:.5f}")
        say(f"wrote {flags.output_dir / 'best'}")
    accelerator.end_training()
