"""What a training run keeps on disk to go on after it was stopped."""

import os
from pathlib import Path

import torch

from pixelprior.checkpoints import (
    recover_folder,
    remove_unfinished,
    writable_folder,
)

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
