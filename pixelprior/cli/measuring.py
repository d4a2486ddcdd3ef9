"""What `evaluate` does: measure a VQ-VAE-2 and its prior, and write the results."""

import json
import sys
from functools import partial

from pixelprior.assets import SHIPPED, load_shipped, shipped_folder
from pixelprior.checkpoints import load_model, read_training_notes
from pixelprior.cli.flags import check_one_process
from pixelprior.cli.priors import load_prior, load_without_top
from pixelprior.data.codes import read_codes
from pixelprior.data.images import load_images
from pixelprior.devices import usable_device
from pixelprior.evaluation import suite
from pixelprior.evaluation.choosing import NAMES, read_setting, setting_in_words
from pixelprior.evaluation.classifier import Classifier, load_shipped_reference_models
from pixelprior.evaluation.measures import samples
from pixelprior.evaluation.report import (
    PICTURED,
    neighbour_picture,
    reconstruction_picture,
    sample_picture,
    table,
)
from pixelprior.files import writable_folder, write_texts
from pixelprior.plotting import save_picture
from pixelprior.settings import SamplingOptions
from pixelprior.vqvae2 import VQVAE2

OF_IMAGES = (*NAMES, "vqvae2_checkpoint", "weights", "without_top_checkpoint")
OF_IMAGES += ("classifier_checkpoint", "inception", "max_images", "dataset")  # flags


def evaluate(flags) -> dict:
    check_one_process("evaluate")
    device = usable_device(flags.device)
    if flags.codes is not None:
        return evaluate_codes(flags, device)
    folder = writable_folder(flags.output_dir)
    vqvae2, prior, without_top, classifier = models_of(flags, device)
    train, heldout = (
        load_images(
            dataset_of(flags),
            split,
            data_root=flags.data_root,
            image_size=vqvae2.image_size,
            max_images=flags.max_images,
            stream=False,
            progress=True,
        )
        for split in ("train", "test")
    )
    check_classes(flags, prior, heldout.class_names, dataset_of(flags))
    setting = setting_of(flags)
    results = suite.evaluate(
        vqvae2,
        prior,
        train,
        heldout,
        without_top=without_top,
        classifier=classifier,
        setting=setting,
        num_samples=flags.num_samples,
        seed=flags.seed,
        inception=flags.inception,
        say=partial(print, file=sys.stderr, flush=True),
    )
    options = {"class_names": heldout.class_names, "seed": flags.seed}
    first = samples(vqvae2, prior, PICTURED, **options)
    pictures = {
        "samples": sample_picture(first, flags.seed),
        "reconstructions": reconstruction_picture(vqvae2, heldout),
        "neighbours": neighbour_picture(first, train),
    }
    if setting is not None:
        chosen = samples(vqvae2, prior, PICTURED, **options, **setting)
        pictures["chosen_samples"] = sample_picture(
            chosen, flags.seed, setting_in_words(setting)
        )
    for name, picture in pictures.items():
        save_picture(picture, folder / f"{name}.png")
    return keep(folder, results, "results.json, results.md and pictures")


def evaluate_codes(flags, device) -> dict:
    """Measure the likelihood of a prior on a file of codes."""
    if flags.prior_checkpoint is None:
        raise ValueError("--codes needs the prior to measure; give --prior_checkpoint")
    for name in OF_IMAGES:
        if getattr(flags, name) not in (None, False):
            raise ValueError(
                f"--{name} is for images, and on codes the likelihood alone is "
                f"measured; leave --{name} out"
            )
    prior = load_prior(flags.prior_checkpoint, None, device)
    codes = read_codes(flags.codes, prior.num_embeddings)
    trained_on = read_training_notes(flags.prior_checkpoint).get("grids")
    found = [list(grid.shape[1:]) for grid in codes.grids]
    # Another number of levels is found later, and a `.pth` file has no notes.
    known = isinstance(trained_on, list) and len(trained_on) == len(found)
    if known and found != trained_on:
        raise ValueError(
            f"the prior in {flags.prior_checkpoint} was trained on grids of "
            f"{trained_on}, but {flags.codes} has {found}; give codes of the same "
            "tokenizer"
        )
    if prior.levels[0].takes_labels and codes.labels is None:
        raise ValueError(
            f"the prior was trained with labels, but {flags.codes} has none; write "
            "labels into it, the class or the vector of each image"
        )
    check_classes(flags, prior, codes.class_names, str(flags.codes))
    folder = writable_folder(flags.output_dir)
    results = suite.evaluate_codes(prior, codes, seed=flags.seed)
    return keep(folder, results, "results.json and results.md")


def keep(folder, results: dict, written: str) -> dict:
    """Write the results as JSON and in words, and print the words."""
    texts = {"results.json": json.dumps(results, indent=1)}
    write_texts(folder, texts | {"results.md": table(results)})
    print(table(results))
    print(f"wrote {written} to {folder}")
    return results


def setting_of(flags) -> dict | None:
    """The setting of the second set of samples; None for no second set."""
    given = {name: getattr(flags, name) for name in NAMES}
    setting = {name: value for name, value in given.items() if value is not None}
    if not setting:
        return read_setting(prior_folder(flags))
    if flags.guidance is not None:
        setting["guidance"] = SamplingOptions(guidance=flags.guidance).guidance_for(2)
    return setting


def dataset_of(flags) -> str:
    """The data set to measure on: the one given, or that of the shipped weights."""
    return flags.dataset or flags.weights or "fashion_mnist"


def weights_name(flags) -> str:
    """The name of the shipped weights that go with the flags."""
    return flags.weights or dataset_of(flags).removesuffix("_mini")


def prior_folder(flags):
    """The checkpoint of the prior that is measured."""
    return flags.prior_checkpoint or shipped_folder(weights_name(flags), "prior")


def models_of(flags, device):
    """The VQ-VAE-2, the prior and the two reference models; a missing model is None."""
    paths = (flags.vqvae2_checkpoint, flags.prior_checkpoint)
    shipped, name = paths == (None, None), weights_name(flags)
    if not shipped and None in paths:
        raise ValueError(
            "a VQ-VAE-2 and a prior go together; give both --vqvae2_checkpoint and "
            "--prior_checkpoint, or neither for the shipped weights"
        )
    if flags.weights is not None and not shipped:
        raise ValueError(
            f"--weights {name} names shipped weights, but there are checkpoints too; "
            "leave one of them out"
        )
    if shipped:
        vqvae2, prior = load_shipped(name)
    else:
        vqvae2 = load_model(VQVAE2, flags.vqvae2_checkpoint)
        prior = load_prior(flags.prior_checkpoint, vqvae2)
    without_top = classifier = None
    if name in SHIPPED:
        without_top, classifier = load_shipped_reference_models(name)
    if flags.without_top_checkpoint is not None:
        without_top = load_without_top(flags.without_top_checkpoint, vqvae2)
    elif not shipped:
        without_top = None
    if flags.classifier_checkpoint is not None:
        classifier = load_model(Classifier, flags.classifier_checkpoint)
    return tuple(
        model if model is None else model.to(device)
        for model in (vqvae2, prior, without_top, classifier)
    )


def check_classes(flags, prior, class_names, where: str) -> None:
    """Raise ValueError if the classes of what is measured are not those of the prior.

    Args:
        flags: flags of the command. prior: the prior that they name, of any kind.
        class_names: the classes of the images or codes.
        where: what the images or codes are from, in words.
    """
    known = read_training_notes(prior_folder(flags)).get("class_names")
    if prior.num_classes is None or known in (None, list(class_names)):
        return
    if flags.codes is not None:  # a file without names has numbers in their place
        for names in (known, list(class_names)):
            if names == [str(number) for number in range(len(names))]:
                return
    raise ValueError(
        f"the prior was trained on the classes {', '.join(map(str, known))}, but "
        f"{where} has {', '.join(class_names)}; measure it on the data set that it "
        "was trained on"
    )
