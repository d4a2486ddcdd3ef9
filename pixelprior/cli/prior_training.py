"""What `train-prior` does, on the codes of a VQ-VAE-2 or on codes from a file."""

from dataclasses import asdict, replace
from functools import partial

import torch
from accelerate.utils import broadcast_object_list, gather_object

from pixelprior.checkpoints import fingerprint, load_model, read_training_notes
from pixelprior.cli.priors import notes_for
from pixelprior.cli.train import accelerator_for, images_of, report_nats, train
from pixelprior.data.augmentation import augmented_and_encoded
from pixelprior.data.codes import (
    CodeData,
    extract_codes_to_folder,
    load_codes,
    read_codes,
)
from pixelprior.data.held_out import Part, hold_out
from pixelprior.data.images import SPLITS, data_signature
from pixelprior.evaluation.measures import erase_top
from pixelprior.files import sha256_of
from pixelprior.prior import HierarchicalPixelCNN, level_names, level_number
from pixelprior.settings import SamplingOptions
from pixelprior.vqvae2 import VQVAE2

EMBEDDING_DIM = 64  # of codes from a file; those of a VQ-VAE-2 have its own


def train_prior(flags) -> None:
    check_flags(flags)
    accelerator = accelerator_for(flags)
    if flags.codes is None:
        vqvae2 = load_model(VQVAE2, flags.vqvae2_checkpoint, accelerator.device)
        names, embedding_dim = level_names(len(vqvae2.grids)), vqvae2.embedding_dim
    else:
        vqvae2, (codes, test) = None, own_codes(flags)
        names, embedding_dim = codes.level_names, EMBEDDING_DIM
    levels = names
    if flags.level != "both":
        levels = (names[level_number(flags.level, len(names))],)
    if flags.without_top and (len(names) == 1 or levels != names[-1:]):
        raise ValueError(
            "--without_top is for the bottom of several levels; give --level bottom, "
            "or leave --without_top out"
        )
    start, trained = start_of(flags, vqvae2)
    if vqvae2 is not None:
        codes, test = (codes_of(flags, vqvae2, each, accelerator) for each in SPLITS)
    codes = as_trained_on(flags, codes)
    if test is not None:
        test = as_trained_on(flags, test)
    model = new_prior(flags, codes, embedding_dim, start)
    parts = tuple(f"{name}_loss" for name in levels)
    notes = {
        "class_names": codes.class_names,
        "trained_parts": sorted({*trained, *parts}),
        "without_top": flags.without_top,
        "grids": [list(grid.shape[1:]) for grid in codes.grids],
    }
    if vqvae2 is None:
        notes |= {"dataset": None, "codes": sha256_of(flags.codes)}
    else:
        notes["vqvae2"] = fingerprint(vqvae2)
        share = read_training_notes(flags.vqvae2_checkpoint).get("validation_share", 1)
        if flags.validation_share > share:
            accelerator.print(
                "the VQ-VAE-2 was trained on some of the images held out here; to hold "
                f"out the same ones give --validation_share {share}"
            )
    first, heldout = hold_out(codes, flags.validation_share)
    if flags.flip or flags.shift:
        first = encoded_anew(flags, first, vqvae2, accelerator)

    def picture(averaged: HierarchicalPixelCNN):
        images = averaged.sample_with_vqvae2(
            vqvae2,
            64,
            temperature=flags.temperature,
            labels=averaged.labels_in_turn(64),
            seed=flags.settings.seed,
        )
        return images, 10 if flags.class_conditional else 8

    best = train(
        flags,
        accelerator,
        model,
        (first, heldout),
        test,
        None if vqvae2 is None else picture,
        notes,
        parts=parts,
        loss_options={"levels": levels},
    )
    if best is not None and test is not None:
        report_nats(best, test, levels)
    accelerator.end_training()


def check_flags(flags) -> None:
    """Check what needs nothing to be read."""
    SamplingOptions(temperature=flags.temperature)
    if (flags.vqvae2_checkpoint is None) == (flags.codes is None):
        raise ValueError(
            "a prior is trained on the codes of a VQ-VAE-2 or on codes from a file; "
            "give one of --vqvae2_checkpoint and --codes"
        )
    names, kind = ("test_codes", "codebook_size"), "codes from a file"
    if flags.codes is not None:
        names, kind = ("flip", "shift", "max_images"), "images"
    for name in names:
        if getattr(flags, name) not in (None, False, 0):
            raise ValueError(
                f"--{name} is for {kind}; leave --{name} out, or train on {kind}"
            )
    if flags.network.label_dropout and not flags.class_conditional:
        raise ValueError(
            f"--label_dropout is {flags.network.label_dropout}, but there are no "
            "labels to withhold; give --class_conditional too, or leave "
            "--label_dropout out"
        )


def start_of(flags, vqvae2: VQVAE2 | None):
    """The prior of `--init_checkpoint`, or None, and the losses it was trained on."""
    path = flags.init_checkpoint
    if path is None:
        return None, ()
    start, notes = load_model(HierarchicalPixelCNN, path), notes_for(path, vqvae2)
    if notes.get("without_top") and not flags.without_top:
        raise ValueError(
            f"the bottom level in {path} was trained without the top codes; start from "
            "another prior, or give --without_top"
        )
    every = [f"{name}_loss" for name in start.level_names]
    return start, notes.get("trained_parts") or every


def codes_of(flags, vqvae2: VQVAE2, split: str, accelerator) -> CodeData:
    """The codes of a split, on disk: in the output folder, or encoded into it first."""
    folder = flags.output_dir / "codes" / split
    picked = "all" if flags.max_images is None else f"{flags.max_images} picked"
    signature = str(data_signature(flags.dataset, split, flags.data_root))
    source = "\n".join((fingerprint(vqvae2), signature, picked))
    # The main process's: another machine may see other times of the same files.
    source = broadcast_object_list([source])[0]
    if load_codes(folder, source) is None:
        with accelerator.local_main_process_first():  # which may download them
            images = images_of(flags, split, vqvae2.image_size)
        read = gather_object([(len(images), hash(tuple(images.labels.tolist())))])
        if len(set(read)) > 1:  # each process writes its share of the parts
            raise ValueError(
                f"the processes have read different images ({[n for n, _ in read]} of "
                "them); give all machines the same files and releases of libraries"
            )
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
    if codes is None or codes.labels is None:
        raise OSError(
            f"the codes in {folder} cannot be read, or are of other images than those "
            "that this process has; all processes need the same --output_dir and the "
            "same images"
        )
    return codes


def encoded_anew(flags, first: Part, vqvae2, accelerator) -> Part:
    """In place of the codes to train on, their images, encoded in each batch."""
    codes = first.data
    with accelerator.local_main_process_first():
        images = images_of(flags, "train", vqvae2.image_size)
    labels = codes.labels if flags.class_conditional else images.labels
    if len(images) != len(codes) or not torch.equal(images.labels, labels):
        raise ValueError(
            f"{len(images):,} images can be read, but there are codes of "
            f"{len(codes):,}, or they are of other classes; remove the folder "
            f"{flags.output_dir / 'codes'} to have them encoded again"
        )
    change = partial(
        augmented_and_encoded,
        vqvae2=vqvae2,
        labels=codes.labels,
        prepare=partial(as_trained_on, flags),
        flip=flags.flip,
        shift=flags.shift,
    )
    return replace(first, data=images, change=change)


def own_codes(flags) -> tuple[CodeData, CodeData | None]:
    """The codes of `--codes`, and those of `--test_codes` if there are any."""

    def grids_and_labels(codes: CodeData) -> tuple:
        labels = codes.labels if flags.class_conditional else None
        return (
            [list(grid.shape[1:]) for grid in codes.grids],
            None if labels is None else list(labels.shape[1:]),
            0 if labels is None else len(codes.class_names),
        )

    train = read_codes(flags.codes, flags.codebook_size)
    if flags.class_conditional and train.labels is None:
        raise ValueError(
            f"there are no labels in {flags.codes}; write them as labels, or leave "
            "--class_conditional out"
        )
    if flags.test_codes is None:
        return train, None
    test = read_codes(flags.test_codes, train.num_embeddings)
    ours, theirs = grids_and_labels(train), grids_and_labels(test)
    if ours[:2] != theirs[:2] or ours[2] < theirs[2]:
        words = "grids of {}, labels of shape {} and {} classes"
        raise ValueError(
            f"{flags.codes} has {words.format(*ours)}, but {flags.test_codes} has "
            f"{words.format(*theirs)}; give two files of the same tokenizer and labels"
        )
    return train, test


def as_trained_on(flags, codes: CodeData) -> CodeData:
    """Codes without the labels and the top codes that the prior is not to be given."""
    if not flags.class_conditional:
        codes = replace(codes, labels=None)
    return erase_top(codes) if flags.without_top else codes


def new_prior(flags, codes: CodeData, embedding_dim: int, start):
    """The prior that the flags describe, for these codes, with the weights of `start`
    if there is one."""
    torch.manual_seed(flags.settings.seed)
    network = asdict(flags.network)
    if flags.class_conditional and codes.labels.ndim == 2:
        network["condition_dim"] = codes.labels.shape[1]
    elif flags.class_conditional:
        network["num_classes"] = len(codes.class_names)
    sizes = codes.num_embeddings
    if isinstance(sizes, int) and len(codes.grids) != 2:
        sizes = (sizes,) * len(codes.grids)
    model = HierarchicalPixelCNN(sizes, embedding_dim, **network)
    try:
        if start is not None:
            model.load_state_dict(start.state_dict())
    except RuntimeError as error:
        raise ValueError(
            f"the prior in {flags.init_checkpoint} has other sizes than the flags "
            "ask for; give the flags that it was trained with"
        ) from error
    return model
