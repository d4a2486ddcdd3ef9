"""What `train-prior` does, on the codes of a VQ-VAE-2 or on codes from a file."""

from dataclasses import asdict, replace
from functools import partial

import torch
from accelerate.utils import broadcast_object_list

from pixelprior.checkpoints import fingerprint, load_model, read_training_notes
from pixelprior.cli.priors import trained_parts
from pixelprior.cli.train import (
    accelerator_for,
    augmented,
    check_shift,
    images_of,
    in_words,
    notes_of,
    report_nats,
    same_for_all,
    split,
)
from pixelprior.data.augmentation import EncodedImages
from pixelprior.data.codes import (
    CodeData,
    extract_codes_to_folder,
    load_codes,
    read_codes,
)
from pixelprior.data.held_out import Part
from pixelprior.data.images import SPLITS, data_signature
from pixelprior.devices import where
from pixelprior.evaluation.measures import erase_top
from pixelprior.files import sha256_of
from pixelprior.plotting import image_grid, save_picture
from pixelprior.prior import HierarchicalPixelCNN, level_number
from pixelprior.settings import SamplingOptions, check_positive
from pixelprior.training import fit
from pixelprior.vqvae2 import VQVAE2

EMBEDDING_DIM = 64  # of codes from a file; those of a VQ-VAE-2 have its own


def train_prior(flags) -> None:
    check_flags(flags)
    accelerator = accelerator_for(flags, flags.output_dir)
    vqvae2, embedding_dim = None, EMBEDDING_DIM
    if flags.codes is None:
        vqvae2 = load_model(VQVAE2, flags.vqvae2_checkpoint, accelerator.device)
        embedding_dim = vqvae2.embedding_dim
        check_shift(flags, vqvae2.image_shape)
    start, trained = start_of(flags, vqvae2)
    if vqvae2 is not None:
        train, test = (codes_of(flags, vqvae2, each, accelerator) for each in SPLITS)
    else:
        train, test = own_codes(flags)
    names = train.level_names
    levels = names
    if flags.level != "both":
        levels = (names[level_number(flags.level, len(names))],)
    if flags.without_top and (len(names) == 1 or levels != names[-1:]):
        raise ValueError(
            "--without_top is for the bottom of several levels; leave it out"
        )
    model = new_prior(flags, train, embedding_dim)
    if start is not None:
        take_weights(flags, model, start)
    parts = tuple(f"{name}_loss" for name in levels)
    notes = notes_of(flags) | {
        "class_names": train.class_names,
        "trained_parts": sorted(trained.union(parts)),
        "without_top": flags.without_top,
        "grids": [list(grid.shape[1:]) for grid in train.grids],
    }
    if vqvae2 is None:
        notes |= {"dataset": None, "codes": sha256_of(flags.codes)}
    else:
        notes["vqvae2"] = fingerprint(vqvae2)
    codes = train
    train, validation = split(flags, codes)
    if flags.flip or flags.shift:
        train = encoded_anew(flags, codes, train, vqvae2, accelerator)
    say = accelerator.print
    say(f"codes of {in_words(train, validation, test)}")
    say(where(accelerator))
    if vqvae2 is not None:
        compare_with_vqvae2(flags, say)

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
        parts=parts,
        loss_options={"levels": levels},
        resume=flags.resume,
        notes=notes,
        after_epoch=after_epoch if vqvae2 is not None else None,
        log=say,
    )
    if accelerator.is_main_process:
        best = load_model(
            HierarchicalPixelCNN, flags.output_dir / "best", accelerator.device
        )
        if test is not None:
            report_nats(best, test, levels)
        say(f"wrote {flags.output_dir / 'best'}")
    accelerator.end_training()


def check_flags(flags) -> None:
    """Check the flags that need nothing to be read."""
    SamplingOptions(temperature=flags.temperature)
    check_positive(sample_every=flags.sample_every)
    if (flags.vqvae2_checkpoint is None) == (flags.codes is None):
        raise ValueError(
            "a prior is trained on the codes of a VQ-VAE-2 or on codes from a file; "
            "give one of --vqvae2_checkpoint and --codes"
        )
    of_codes, of_images = ("test_codes", "codebook_size"), ("flip", "shift")
    of_images += ("max_images",)
    for name in of_images if flags.codes is not None else of_codes:
        if getattr(flags, name) not in (None, False, 0):
            kind = "images" if name in of_images else "codes from a file"
            raise ValueError(
                f"--{name} is for {kind}; leave --{name} out, or train on {kind}"
            )
    if flags.without_top and flags.level == "both":
        raise ValueError(
            "--without_top is for the bottom level alone; give --level bottom, or "
            "leave --without_top out"
        )
    if flags.network.label_dropout and not flags.class_conditional:
        raise ValueError(
            f"--label_dropout is {flags.network.label_dropout}, but there are no "
            "labels to withhold; give --class_conditional too, or leave "
            "--label_dropout out"
        )


def start_of(flags, vqvae2: VQVAE2 | None):
    """The prior of `--init_checkpoint`, or None, and the losses it was trained on."""
    if flags.init_checkpoint is None:
        return None, set()
    start = load_model(HierarchicalPixelCNN, flags.init_checkpoint)
    trained = trained_parts(flags.init_checkpoint, vqvae2)
    notes = read_training_notes(flags.init_checkpoint)
    if notes.get("without_top") and not flags.without_top:
        raise ValueError(
            f"the bottom level in {flags.init_checkpoint} was trained without "
            "the top codes; start from another prior, or give --without_top"
        )
    return start, trained or {f"{name}_loss" for name in start.level_names}


def codes_of(flags, vqvae2: VQVAE2, split: str, accelerator) -> CodeData:
    """The codes of a split, on disk: in the output folder, or encoded into it first."""
    folder = flags.output_dir / "codes" / split
    picked = "all" if flags.max_images is None else f"{flags.max_images} picked"
    source = "\n".join(
        (
            fingerprint(vqvae2),
            str(data_signature(flags.dataset, split, flags.data_root)),
            picked,
        )
    )
    # The main process's: another machine may see other times of the same files.
    source = broadcast_object_list([source])[0]
    if load_codes(folder, source) is None:
        with accelerator.local_main_process_first():  # which may download them
            images = images_of(flags, split, vqvae2.image_size)
        same_for_all(images)
        extract_codes_to_folder(
            vqvae2,
            images,
            folder,
            source,
            process=accelerator.process_index,
            processes=accelerator.num_processes,
            wait=accelerator.wait_for_everyone,
            progress=accelerator.is_main_process,
        )
    codes = load_codes(folder, source)
    if codes is None:
        raise OSError(
            f"the codes in {folder} cannot be read, or are of other images than those "
            "that this process has; all processes need the same --output_dir and the "
            "same images"
        )
    return as_trained_on(flags, codes)


def encoded_anew(flags, codes: CodeData, train, vqvae2, accelerator):
    """In place of the codes to train on, their images, encoded in each batch."""
    with accelerator.local_main_process_first():
        images = images_of(flags, "train", vqvae2.image_size)
    labels = codes.labels if flags.class_conditional else images.labels
    if len(images) != len(codes) or not torch.equal(images.labels, labels):
        raise ValueError(
            f"{len(images):,} images can be read, but there are codes of "
            f"{len(codes):,}, or they are of other classes; remove the folder "
            f"{flags.output_dir / 'codes'} to have them encoded again"
        )
    encoded = EncodedImages(
        augmented(flags, images),
        codes.labels,
        vqvae2,
        partial(as_trained_on, flags),
    )
    return replace(train, data=encoded) if isinstance(train, Part) else encoded


def own_codes(flags) -> tuple[CodeData, CodeData | None]:
    """The codes of `--codes`, and those of `--test_codes` if there are any."""
    train, test = read_codes(flags.codes, flags.codebook_size), None
    if flags.test_codes is not None:
        test = read_codes(flags.test_codes, train.num_embeddings)
        ours, theirs = (
            [tuple(grid.shape[1:]) for grid in codes.grids] for codes in (train, test)
        )
        if ours != theirs:
            raise ValueError(
                f"{flags.codes} has grids of {ours}, but {flags.test_codes} has "
                f"{theirs}; give two files of the same tokenizer"
            )
    for path, codes in ((flags.codes, train), (flags.test_codes, test)):
        if codes is None or not flags.class_conditional:
            continue
        if codes.labels is None:
            raise ValueError(
                f"there are no labels in {path}; write them as labels, or leave "
                "--class_conditional out"
            )
        if codes.labels.shape[1:] != train.labels.shape[1:]:
            raise ValueError(
                f"{path} has labels of shape {list(codes.labels.shape)}, but "
                f"{flags.codes} has {list(train.labels.shape)}; give labels of one kind"
            )
        if codes.labels.ndim == 1 and codes.labels.max() >= len(train.class_names):
            raise ValueError(
                f"{path} has a label {codes.labels.max()}, but {flags.codes} has "
                f"{len(train.class_names)} classes; give codes of the same classes"
            )
    return (
        as_trained_on(flags, train),
        None if test is None else as_trained_on(flags, test),
    )


def as_trained_on(flags, codes: CodeData) -> CodeData:
    """Codes without the labels and the top codes that the prior is not to be given."""
    if not flags.class_conditional:
        codes = replace(codes, labels=None)
    return erase_top(codes) if flags.without_top else codes


def compare_with_vqvae2(flags, say) -> None:
    """Say so if the VQ-VAE-2 was trained on images that are held out here."""
    notes = read_training_notes(flags.vqvae2_checkpoint)
    its_share = notes.get("validation_share", flags.validation_share)
    if flags.validation_share > its_share:
        say(
            "the VQ-VAE-2 was trained on some of the images held out here; to hold "
            f"out the same ones give --validation_share {its_share}"
        )


def new_prior(flags, codes: CodeData, embedding_dim: int) -> HierarchicalPixelCNN:
    """The untrained prior that the flags describe, for these codes."""
    torch.manual_seed(flags.settings.seed)
    network = asdict(flags.network)
    if flags.class_conditional and codes.labels.ndim == 2:
        network["condition_dim"] = codes.labels.shape[1]
    elif flags.class_conditional:
        network["num_classes"] = len(codes.class_names)
    sizes = codes.num_embeddings
    if isinstance(sizes, int) and len(codes.grids) != 2:
        sizes = (sizes,) * len(codes.grids)
    return HierarchicalPixelCNN(sizes, embedding_dim, **network)


def take_weights(flags, model, start) -> None:
    """Start from the weights of `--init_checkpoint`."""
    try:
        model.load_state_dict(start.state_dict())
    except RuntimeError as error:
        raise ValueError(
            f"the prior in {flags.init_checkpoint} has other sizes than the flags "
            "ask for; give the flags that it was trained with"
        ) from error
