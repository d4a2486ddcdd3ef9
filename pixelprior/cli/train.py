"""What the commands `train-vqvae2` and `train-prior` share."""

from pixelprior.checkpoints import load_model
from pixelprior.data.codes import CodeData
from pixelprior.data.images import load_images
from pixelprior.devices import make_accelerator, where
from pixelprior.evaluation.measures import nats_per_code
from pixelprior.plotting import image_grid, save_picture
from pixelprior.settings import check_number, check_positive, check_share, sides_of
from pixelprior.training import check_output_dir, fit


def accelerator_for(flags):
    """Make the accelerator of a run; check its flags before any work is done."""
    check_positive(sample_every=flags.sample_every)
    check_share(validation_share=flags.validation_share)
    check_number(workers=flags.workers or 0)
    chosen = {"tensorboard": flags.use_tensorboard, "wandb": flags.use_wandb}
    trackers = [name for name, wanted in chosen.items() if wanted]
    check_output_dir(flags.output_dir, flags.resume)
    return make_accelerator(flags.settings, flags.output_dir, trackers)


def images_of(flags, split: str, image_size, stream: bool = True):
    """The images of a split, or as many of them as --max_images asks for."""
    height, width = sides_of(image_size)
    if not 0 <= flags.shift < min(height, width):
        raise ValueError(
            f"shift is {flags.shift}; give a whole number of pixels from 0, for none, "
            f"to {min(height, width) - 1}, for images of {height}×{width}"
        )
    return load_images(
        flags.dataset,
        split,
        data_root=flags.data_root,
        image_size=image_size,
        max_images=flags.max_images,
        workers=flags.workers,
        stream=stream,
        progress=True,
    )


def train(flags, accelerator, model, data, test, picture, notes: dict, **options):
    """Train as the flags of both commands say, and note how.

    Args:
        data: a pair, to train on and to choose the best epoch by.
        test: what is measured at the end, or None.
        picture: a function from the averaged model to arguments of `image_grid`, or
            None for no pictures.
        notes, options: what else to keep beside the weights, and to give to `fit`.

    Returns:
        The best model, in the main process; None in the others.
    """
    first, heldout = data
    held_out = 0 if heldout is None else len(heldout)
    at_the_end = "" if test is None else f", {len(test):,} test images for the end"
    accelerator.print(
        f"{len(first):,} training images, {held_out:,} held out to choose the best "
        f"epoch{at_the_end}"
    )
    accelerator.print(where(accelerator))
    own = {"dataset": flags.dataset, "validation_share": flags.validation_share}
    if flags.flip or flags.shift:
        own["augmentation"] = {"flip": flags.flip, "shift": flags.shift}

    def after_epoch(epoch: int, averaged) -> None:
        if epoch % flags.sample_every == 0 or epoch == flags.settings.epochs:
            path = flags.output_dir / "samples" / f"epoch_{epoch:04d}.png"
            save_picture(image_grid(*picture(averaged)), path)

    fit(
        model,
        first,
        heldout,
        flags.settings,
        flags.output_dir,
        accelerator,
        resume=flags.resume,
        notes=own | notes,
        after_epoch=picture and after_epoch,
        log=accelerator.print,
        **options,
    )
    if not accelerator.is_main_process:
        return None
    print(f"wrote {flags.output_dir / 'best'}")
    return load_model(type(model), flags.output_dir / "best", accelerator.device)


def report_nats(prior, test: CodeData, levels=None) -> None:
    """Print nats per code of each level on test images beside the unigram entropy."""
    for level, nats in nats_per_code(prior, test, levels).items():
        print(
            f"  {level.replace('_', ' ')} codes: {nats:.3f} nats per code held out; "
            f"unigram entropy {test.unigram_entropy(level):.3f}"
        )
