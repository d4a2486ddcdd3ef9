"""What a training run keeps on disk: to go on when stopped, and to say what it did."""

import os
from pathlib import Path

import torch

from pixelprior.checkpoints import (
    CONFIG_NAME,
    fingerprint,
    load_model,
    read_config,
    read_training_notes,
    recover_folder,
    remove_unfinished,
    writable_folder,
)
from pixelprior.pixelcnn import ConditionalPixelCNN
from pixelprior.prior import LEVELS, HierarchicalPixelCNN
from pixelprior.vqvae2 import VQVAE2

STATE_NAME = "training_state.pt"
START_AGAIN = "start again in another --output_dir"


def check_output_dir(output_dir, resume: bool) -> None:
    """See that a run may start in a folder, or go on there.

    Raises:
        OSError: the folder cannot be written.
        ValueError: it holds a run already, and this is no `resume`.
        FileNotFoundError: there is nothing to resume.
    """
    folder = writable_folder(output_dir)
    for name in ("samples", "codes", "best", "last"):
        if (folder / name).exists() and not (folder / name).is_dir():
            raise ValueError(f"{folder / name} is a file in the way; move it elsewhere")
    if (folder / "history.json").is_dir():
        raise ValueError(f"{folder / 'history.json'} is a folder in the way; move it")
    if os.environ.get("LOCAL_RANK", "0") == "0":
        for name in ("best", "last"):
            recover_folder(folder / name)
        for place in (folder, folder / "samples", folder / "codes"):
            remove_unfinished(place)
    if resume and not (folder / "last" / STATE_NAME).is_file():
        raise FileNotFoundError(
            f"there is no training run to resume in {folder}; leave --resume out to "
            "start one"
        )
    if not resume and (folder / "last").exists():
        raise ValueError(
            f"{folder} already holds a training run; go on with it by --resume, or "
            "choose another --output_dir"
        )


def write_state(state: dict, last: Path) -> None:
    """Write a run's state beside its `last` checkpoint.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    try:
        torch.save(state, last / STATE_NAME)
    except RuntimeError as error:  # what torch makes of a full disk
        raise OSError(
            f"cannot write {STATE_NAME} ({str(error).splitlines()[0]}); make room on "
            "the disk and go on with --resume"
        ) from error


def read_state(last: Path, identity: dict) -> dict:
    """Read a run's state; `identity` is what must not have changed since.

    Raises:
        ValueError: the state is damaged, or the run was started with other settings.
    """
    path = last / STATE_NAME
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files fail in many ways
        raise ValueError(
            f"{path} cannot be read ({type(error).__name__}): it is cut short or "
            f"damaged; {START_AGAIN}"
        ) from error
    then = state.get("identity") if isinstance(state, dict) else None
    if not isinstance(then, dict):
        raise ValueError(f"{path} holds no training run; {START_AGAIN}")
    changed = [
        f"{key} {then.get(key)!r} and not {identity.get(key)!r}"
        for key in then | identity
        if then.get(key) != identity.get(key)
    ]
    if changed:
        raise ValueError(
            f"the run in {last.parent} was started with {'; '.join(changed)}; resume "
            "it with the same flags, or choose another --output_dir"
        )
    return state


def trained_parts(prior_checkpoint: Path, vqvae2: VQVAE2) -> set[str]:
    """Names of the losses that a prior was trained on; both where it does not say.

    Raises:
        ValueError: it was trained on the codes of another VQ-VAE-2.
    """
    notes = read_training_notes(prior_checkpoint)
    own = fingerprint(vqvae2)
    if notes.get("vqvae2", own) != own:
        raise ValueError(
            f"the prior in {prior_checkpoint} was trained on the codes of another "
            "VQ-VAE-2 than the one given; give the --vqvae2_checkpoint that it was "
            "trained with"
        )
    return set(notes.get("trained_parts", [f"{level}_loss" for level in LEVELS]))


def check_trained(prior_checkpoint: Path, vqvae2: VQVAE2) -> None:
    """Raise ValueError unless both levels were trained, on the VQ-VAE-2's codes."""
    trained = trained_parts(prior_checkpoint, vqvae2)
    for level in LEVELS:
        if f"{level}_loss" not in trained:
            raise ValueError(
                f"the {level} level of {prior_checkpoint} was never trained; train it: "
                f"pixelprior train-prior --level {level} --init_checkpoint "
                f"{prior_checkpoint}"
            )


def load_topless(path, vqvae2: VQVAE2) -> ConditionalPixelCNN:
    """The bottom level that was trained with `--without_top`, alone or in its prior.

    Raises:
        ValueError: it was trained with the top, or on the codes of another VQ-VAE-2.
    """
    if read_training_notes(path).get("without_top") is not True:
        raise ValueError(
            f"nothing says that the bottom level in {path} was trained without the top "
            "codes; train one by train-prior --level bottom --without_top"
        )
    trained_parts(path, vqvae2)
    own = Path(path) / CONFIG_NAME
    if own.is_file() and read_config(own).get("model_class") == "ConditionalPixelCNN":
        return load_model(ConditionalPixelCNN, path)
    return load_model(HierarchicalPixelCNN, path).prior_bottom
