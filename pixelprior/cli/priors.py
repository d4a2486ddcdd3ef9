"""Reading the prior that a command is given, and what its notes say of its training."""

from pixelprior.checkpoints import (
    CONFIG_NAME,
    checkpoint_folder,
    fingerprint,
    load_model,
    read_config,
    read_training_notes,
)
from pixelprior.pixelcnn import ConditionalPixelCNN
from pixelprior.prior import HierarchicalPixelCNN
from pixelprior.vqvae2 import VQVAE2


def notes_for(path, vqvae2: VQVAE2 | None) -> dict:
    """The notes of a prior; ValueError if they name another VQ-VAE-2 than this one."""
    notes = read_training_notes(path)
    trained_with = notes.get("vqvae2")
    if vqvae2 is None or trained_with is None or trained_with == fingerprint(vqvae2):
        return notes
    raise ValueError(
        f"the prior in {path} was trained on the codes of another VQ-VAE-2 than the "
        "one given; give the --vqvae2_checkpoint that it was trained with"
    )


def load_prior(path, vqvae2: VQVAE2 | None, device="cpu") -> HierarchicalPixelCNN:
    """Read a prior whose levels are all trained, on the codes of the VQ-VAE-2."""
    prior = load_model(HierarchicalPixelCNN, path, device)
    if vqvae2 is not None:
        prior.check_matches(vqvae2)
    trained = notes_for(path, vqvae2).get("trained_parts")
    for level in prior.level_names:
        if trained and f"{level}_loss" not in trained:
            raise ValueError(
                f"the {level} level of {path} was never trained; train it: pixelprior "
                f"train-prior --level {level} --init_checkpoint {path}"
            )
    return prior


def load_without_top(path, vqvae2: VQVAE2) -> ConditionalPixelCNN:
    """A bottom level that was trained with `--without_top`, alone or in its prior."""
    if notes_for(path, vqvae2).get("without_top") is not True:
        raise ValueError(
            f"nothing says that the bottom level in {path} was trained without the top "
            "codes; train one with train-prior --level bottom --without_top"
        )
    config = read_config(checkpoint_folder(path) / CONFIG_NAME)
    if config.get("model_class") == "ConditionalPixelCNN":
        return load_model(ConditionalPixelCNN, path)
    return load_model(HierarchicalPixelCNN, path).levels[-1]
