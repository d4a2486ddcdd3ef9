"""The commands `train-vqvae2` and `train-prior`."""

from pathlib import Path

import torch

from pixelprior.checkpoints import (
    fingerprint,
    load_model,
    read_training_notes,
)
from pixelprior.cli.flags import TrainingFlags, TrainPrior, TrainVQVAE2
from pixelprior.codes import CodeData, extract_codes, load_codes, save_codes
from pixelprior.data import ImageData, data_signature, load_images
from pixelprior.devices import make_accelerator, where
from pixelprior.evaluation.measures import (
    erase_top,
    nats_per_code,
    reconstructions,
    squared_errors,
)
from pixelprior.pictures import image_grid, save_picture
from pixelprior.prior import LEVELS, HierarchicalPixelCNN
from pixelprior.ranges import check_positive, check_share
from pixelprior.runs import check_output_dir, hold_out, trained_parts
from pixelprior.training import fit
from pixelprior.validation import check_filters
from pixelprior.vqvae2 import VQVAE2


def train_vqvae2(flags: TrainVQVAE2) -> None:
    check_positive(sample_every=flags.sample_every)
    accelerator = accelerator_for(flags, flags.output_dir)
    with accelerator.local_main_process_first():
        train, validation = split(flags, images_of(flags, "train", flags.image_size))
        test = images_of(flags, "test", flags.image_size)  # now, as it may be absent
    torch.manual_seed(flags.settings.seed)
    model = VQVAE2(
        in_channels=train.images.shape[1],
        image_size=flags.image_size,
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
        train,
        validation,
        flags.settings,
        flags.output_dir,
        accelerator,
        resume=flags.resume,
        notes={
            "dataset": flags.dataset,
            "class_names": train.class_names,
            "validation_share": flags.validation_share,
        },
        after_epoch=after_epoch,
        log=say,
    )
    if accelerator.is_main_process:
        best = load_model(VQVAE2, flags.output_dir / "best", accelerator.device)
        error = squared_errors(test, reconstructions(best, test)).mean().item()
        say(f"  test images: mean squared error {error:.5f}")
        say(f"wrote {flags.output_dir / 'best'}")
    accelerator.end_training()


def train_prior(flags: TrainPrior) -> None:
    check_filters(flags.temperature, None, None)
    check_positive(sample_every=flags.sample_every)
    if flags.without_top and flags.level != "bottom":
        raise ValueError(
            f"--without_top is for the bottom level, but --level is {flags.level}; "
            "give --level bottom, or leave --without_top out"
        )
    if flags.label_dropout and not flags.class_conditional:
        raise ValueError(
            f"--label_dropout is {flags.label_dropout}, but there are no labels to "
            "withhold; give --class_conditional too, or leave --label_dropout out"
        )
    check_share(label_dropout=flags.label_dropout)
    accelerator = accelerator_for(flags, flags.output_dir)
    vqvae2 = load_model(VQVAE2, flags.vqvae2_checkpoint, accelerator.device)
    new_prior(flags, vqvae2, num_classes=None)  # checks the flags before the work
    levels = LEVELS if flags.level == "both" else (flags.level,)
    trained, start = {f"{level}_loss" for level in levels}, None
    if flags.init_checkpoint is not None:
        start = load_model(HierarchicalPixelCNN, flags.init_checkpoint)
        trained |= trained_parts(flags.init_checkpoint, vqvae2)
        notes = read_training_notes(flags.init_checkpoint)
        if notes.get("without_top") and not flags.without_top:
            raise ValueError(
                f"the bottom level in {flags.init_checkpoint} was trained without "
                "the top codes; start from another prior, or give --without_top"
            )
    with accelerator.local_main_process_first():
        train, validation = split(flags, codes_of(flags, vqvae2, "train"))
        test = codes_of(flags, vqvae2, "test")
    say = accelerator.print
    say(f"codes of {in_words(train, validation, test)}")
    say(where(accelerator))
    compare_with_vqvae2(flags, say)
    classes = len(train.class_names) if flags.class_conditional else None
    model = new_prior(flags, vqvae2, classes)
    if start is not None:
        take_weights(flags, model, start)

    def after_epoch(epoch: int, averaged: HierarchicalPixelCNN) -> None:
        if epoch % flags.sample_every and epoch != flags.settings.epochs:
            return
        images = averaged.sample_with_vqvae2(
            vqvae2,
            64,
            temperature=flags.temperature,
            labels=averaged.labels_in_turn(64),
            seed=flags.settings.seed,
        )
        path = flags.output_dir / "samples" / f"epoch_{epoch:04d}.png"
        save_picture(image_grid(images, 10 if flags.class_conditional else 8), path)

    fit(
        model,
        train,
        validation,
        flags.settings,
        flags.output_dir,
        accelerator,
        parts=tuple(f"{level}_loss" for level in levels),
        loss_options={"levels": levels},
        resume=flags.resume,
        notes={
            "dataset": flags.dataset,
            "class_names": train.class_names,
            "vqvae2": fingerprint(vqvae2),
            "trained_parts": sorted(trained),
            "without_top": flags.without_top,
            "validation_share": flags.validation_share,
        },
        after_epoch=after_epoch,
        log=say,
    )
    if accelerator.is_main_process:
        best = load_model(
            HierarchicalPixelCNN, flags.output_dir / "best", accelerator.device
        )
        report_nats(best, test, levels)
        say(f"wrote {flags.output_dir / 'best'}")
    accelerator.end_training()


def codes_of(flags: TrainPrior, vqvae2: VQVAE2, split: str) -> CodeData:
    """The codes of a split, read from the output folder or encoded and kept there."""
    path = flags.output_dir / "codes" / f"{split}.safetensors"
    source = "\n".join(
        str(part)
        for part in (
            fingerprint(vqvae2),
            data_signature(flags.dataset, split, flags.data_root),
            "all" if flags.max_images is None else f"{flags.max_images} picked",
        )
    )
    codes = load_codes(path, source)
    if codes is None:
        images = images_of(flags, split, vqvae2.image_size)
        codes = extract_codes(vqvae2, images, progress=True)
        save_codes(codes, path, source)
    if not flags.class_conditional:
        codes.labels = None
    return erase_top(codes) if flags.without_top else codes


def compare_with_vqvae2(flags: TrainPrior, say) -> None:
    """Say so if the VQ-VAE-2 was trained on images that are held out here."""
    notes = read_training_notes(flags.vqvae2_checkpoint)
    its_share = notes.get("validation_share", flags.validation_share)
    if flags.validation_share > its_share:
        say(
            "the VQ-VAE-2 was trained on some of the images held out here; to hold "
            f"out the same ones give --validation_share {its_share}"
        )


def new_prior(flags: TrainPrior, vqvae2: VQVAE2, num_classes: int | None):
    """The untrained prior that the flags describe."""
    torch.manual_seed(flags.settings.seed)
    return HierarchicalPixelCNN(
        num_embeddings=vqvae2.num_embeddings,
        embedding_dim=vqvae2.embedding_dim,
        hidden_channels=flags.hidden_channels,
        num_layers=flags.num_layers,
        num_classes=num_classes,
        label_dropout=0.0 if num_classes is None else flags.label_dropout,
        dropout=flags.dropout,
        kernel_size=flags.kernel_size,
        attention_layers=flags.attention_layers,
        attention_heads=flags.attention_heads,
    )


def take_weights(flags: TrainPrior, model, start: HierarchicalPixelCNN) -> None:
    """Start from the weights of `--init_checkpoint`."""
    try:
        model.load_state_dict(start.state_dict())
    except RuntimeError as error:
        raise ValueError(
            f"the prior in {flags.init_checkpoint} has other sizes than the flags "
            "ask for; give the flags that it was trained with"
        ) from error


def accelerator_for(flags: TrainingFlags, output_dir: Path):
    """Make the accelerator of a run; check the flags before any work is done."""
    chosen = {"tensorboard": flags.use_tensorboard, "wandb": flags.use_wandb}
    trackers = [name for name, wanted in chosen.items() if wanted]
    if flags.max_images is not None:
        check_positive(max_images=flags.max_images)
    check_share(validation_share=flags.validation_share)
    check_output_dir(output_dir, flags.resume)
    return make_accelerator(flags.settings, output_dir, trackers)


def images_of(flags: TrainingFlags, split: str, image_size: int) -> ImageData:
    """The images of a split, or as many of them as --max_images asks for."""
    data = load_images(
        flags.dataset,
        split,
        data_root=flags.data_root,
        image_size=image_size,
        progress=True,
    )
    if flags.max_images is not None:
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
        picked = order[: flags.max_images]
        data.images, data.labels = data.images[picked], data.labels[picked]
    return data


def split(flags: TrainingFlags, data):
    """Split training data: a part to train on, and one to choose the best epoch by."""
    return hold_out(data, flags.validation_share)


def in_words(train, validation, test) -> str:
    """How many images there are of each kind, in words."""
    held_out = 0 if validation is None else len(validation)
    return (
        f"{len(train):,} training images, {held_out:,} held out to choose the best "
        f"epoch, {len(test):,} test images for the end"
    )


def report_nats(prior: HierarchicalPixelCNN, test: CodeData, levels) -> None:
    """Print nats per code of each level on test images beside the unigram entropy."""
    nats = nats_per_code(prior, test, levels)
    for level in levels:
        print(
            f"  {level} codes: {nats[level]:.3f} nats per code held out; unigram "
            f"entropy {test.unigram_entropy(level):.3f}"
        )
