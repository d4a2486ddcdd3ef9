"""What the commands `train-vqvae2` and `train-prior` share."""

import hashlib
from pathlib import Path

from accelerate.utils import gather_object

from pixelprior.data.augmentation import AugmentedImages
from pixelprior.data.codes import CodeData
from pixelprior.data.held_out import hold_out
from pixelprior.data.images import load_images
from pixelprior.devices import make_accelerator
from pixelprior.evaluation.measures import nats_per_code
from pixelprior.settings import check_positive, check_share, whole_number
from pixelprior.training import check_output_dir


def accelerator_for(flags, output_dir: Path):
    """Make the accelerator of a run; check the flags before any work is done."""
    chosen = {"tensorboard": flags.use_tensorboard, "wandb": flags.use_wandb}
    trackers = [name for name, wanted in chosen.items() if wanted]
    if flags.max_images is not None:
        check_positive(max_images=flags.max_images)
    workers = 0 if flags.workers is None else whole_number(flags.workers)
    if workers is None or workers < 0:
        raise ValueError(
            f"workers is {flags.workers}; give a whole number, 0 to decode in the "
            "training's own process"
        )
    check_share(validation_share=flags.validation_share)
    check_output_dir(output_dir, flags.resume)
    return make_accelerator(flags.settings, output_dir, trackers)


def images_of(flags, split: str, image_size, stream: bool = True):
    """The images of a split, or as many of them as --max_images asks for."""
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


def split(flags, data):
    """Split training data: a part to train on, and one to choose the best epoch by."""
    return hold_out(data, flags.validation_share)


def check_shift(flags, sides: tuple[int, int]) -> None:
    """Raise ValueError unless images of these sides stay in sight when they move."""
    shift = whole_number(flags.shift)
    if shift is None or not 0 <= shift < min(sides):
        raise ValueError(
            f"shift is {flags.shift}; give a whole number of pixels from 0, for none, "
            f"to {min(sides) - 1}, for images of {sides[0]}×{sides[1]}"
        )


def same_for_all(images) -> None:
    """Raise ValueError unless all processes have read the same images.

    Each writes its share of the codes to its place, which depends on their number.
    """
    labels = hashlib.sha256(images.labels.numpy().tobytes()).hexdigest()
    read = gather_object([(len(images), labels)])
    if len(set(read)) > 1:
        counts = ", ".join(f"{count:,}" for count, _ in read)
        raise ValueError(
            f"the processes have read different images ({counts}); give all machines "
            "the same files, and the same releases of the libraries"
        )


def augmented(flags, images):
    """Training images as --flip and --shift change them."""
    if not (flags.flip or flags.shift):
        return images
    return AugmentedImages(images, flags.flip, flags.shift)


def notes_of(flags) -> dict:
    """What both kinds of training note beside their checkpoints."""
    notes = {"dataset": flags.dataset, "validation_share": flags.validation_share}
    if flags.flip or flags.shift:
        notes["augmentation"] = {"flip": flags.flip, "shift": flags.shift}
    return notes


def in_words(train, validation, test=None) -> str:
    """How many images there are of each kind, in words."""
    held_out = 0 if validation is None else len(validation)
    for_the_end = "" if test is None else f", {len(test):,} test images for the end"
    return (
        f"{len(train):,} training images, {held_out:,} held out to choose the best "
        f"epoch{for_the_end}"
    )


def report_nats(prior, test: CodeData, levels=None) -> None:
    """Print nats per code of each level on test images beside the unigram entropy."""
    for level, nats in nats_per_code(prior, test, levels).items():
        print(
            f"  {level.replace('_', ' ')} codes: {nats:.3f} nats per code held out; "
            f"unigram entropy {test.unigram_entropy(level):.3f}"
        )
