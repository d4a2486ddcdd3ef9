"""Reading the prior that a command is given, and what its notes say of its training."""

from pathlib import Path

from pixelprior.checkpoints import (
    CONFIG_NAME,
    checkpoint_folder,
    fingerprint,
    load_model,
    read_config,
    read_training_notes,
)
from pixelprior.pixelcnn import ConditionalPixelCNN, PixelCNN
from pixelprior.prior import LEVELS, HierarchicalPixelCNN
from pixelprior.vqvae2 import VQVAE2


def trained_parts(prior_checkpoint: Path, vqvae2: VQVAE2 | None) -> set[str]:
    """Names of the losses that a prior was trained on; both if its notes name none.

    Args:
        prior_checkpoint: its folder.
        vqvae2: whose codes it is to be used with; None for codes from elsewhere.
    """
    notes = read_training_notes(prior_checkpoint)
    own = None if vqvae2 is None else fingerprint(vqvae2)
    if notes.get("vqvae2", own) != own and vqvae2 is not None:
        raise ValueError(
            f"the prior in {prior_checkpoint} was trained on the codes of another "
            "VQ-VAE-2 than the one given; give the --vqvae2_checkpoint that it was "
            "trained with"
        )
    return set(notes.get("trained_parts", [f"{level}_loss" for level in LEVELS]))


def load_prior(path, device="cpu") -> HierarchicalPixelCNN | PixelCNN:
    """Read a prior of two levels, or of one, in evaluation mode."""
    own = checkpoint_folder(path) / CONFIG_NAME
    single = own.is_file() and read_config(own).get("model_class") == "PixelCNN"
    return load_model(PixelCNN if single else HierarchicalPixelCNN, path, device)


def check_trained(prior_checkpoint: Path, vqvae2: VQVAE2 | None) -> None:
    """Raise ValueError unless all levels were trained, on the VQ-VAE-2's codes."""
    trained = trained_parts(prior_checkpoint, vqvae2)
    for level in LEVELS:
        if f"{level}_loss" not in trained and "loss" not in trained:
            raise ValueError(
                f"the {level} level of {prior_checkpoint} was never trained; train it: "
                f"pixelprior train-prior --level {level} --init_checkpoint "
                f"{prior_checkpoint}"
            )


def load_without_top(path, vqvae2: VQVAE2) -> ConditionalPixelCNN:
    """A bottom level that was trained with `--without_top`, alone or in its prior."""
    if read_training_notes(path).get("without_top") is not True:
        raise ValueError(
            f"nothing says that the bottom level in {path} was trained without the top "
            "codes; train one with train-prior --level bottom --without_top"
        )
    trained_parts(path, vqvae2)
    own = Path(path) / CONFIG_NAME
    if own.is_file() and read_config(own).get("model_class") == "ConditionalPixelCNN":
        return load_model(ConditionalPixelCNN, path)
    return load_model(HierarchicalPixelCNN, path).prior_bottom
