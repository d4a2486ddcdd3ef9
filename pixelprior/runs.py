"""What a training run keeps on disk: the checkpoints `best` and `last`, and notes."""

import contextlib
import json
import os
from pathlib import Path

import torch

from pixelprior.files import (
    recover_folder,
    remove_unfinished,
    swap_folder,
    temporary_folder,
    writable_folder,
    write_texts,
)
from pixelprior.settings import TrainingSettings

STATE_NAME = "training_state.pt"
START_AGAIN = "start again in another --output_dir"
# "grids" are those of the codes, which another setting stands for.
MAY_CHANGE = ("epochs", "processes", "save_steps", "grids")


def check_output_dir(output_dir, resume: bool) -> None:
    """Check that a run can start in a folder, or be resumed there."""
    folder = writable_folder(output_dir)
    for name in ("samples", "codes", "best", "last"):
        if (folder / name).exists() and not (folder / name).is_dir():
            raise ValueError(f"{folder / name} is a file in the way; move it elsewhere")
    if (folder / "history.json").is_dir():
        raise ValueError(f"{folder / 'history.json'} is a folder in the way; move it")
    if os.environ.get("LOCAL_RANK", "0") == "0":
        for name in ("best", "last"):
            recover_folder(folder / name)
        for position in (folder, folder / "samples", folder / "codes"):
            remove_unfinished(position)
    if resume and not (folder / "last" / STATE_NAME).is_file():
        raise FileNotFoundError(
            f"there is no training run to resume in {folder}; leave --resume out to "
            "start one"
        )
    if not resume and (folder / "last").exists():
        raise ValueError(
            f"{folder} already holds a training run; continue it with --resume, or "
            "choose another --output_dir"
        )


def losses_in_words(trained: dict, heldout: dict) -> str:
    """An epoch's losses in one line, with the held-out losses beside them if given."""
    shown = ", ".join(
        f"{name.removesuffix('_loss')} {value:.4f}"
        + (f" / {heldout[name]:.4f}" if name in heldout else "")
        for name, value in trained.items()
    )
    return f"{shown} (training{' / held out' if heldout else ''})"


@contextlib.contextmanager
def _writing_checkpoint(output_dir: Path):
    """A temporary folder for a checkpoint; an error says what is left of the run."""
    try:
        with temporary_folder(output_dir) as temporary:
            yield temporary
    except OSError as error:
        last = output_dir / "last"
        kept = (
            f"the checkpoint before it, {last}, is whole"
            if (last / STATE_NAME).is_file()
            else "there is no checkpoint before it"
        )
        raise OSError(
            f"cannot write a checkpoint in {output_dir} ({error.strerror or error}); "
            f"{kept}; make room on the disk, or ask for permission to write there, and "
            "go on with --resume"
        ) from error


def write_epoch(output_dir: Path, state: dict, last: tuple, best: tuple | None) -> None:
    """Write what a run keeps after an epoch; each part is put in place when complete.

    Args:
        output_dir: the folder of the run.
        state: all that a resumed run needs; its "history" is written to history.json.
        last, best: each a model and its notes; best is None if it has not changed.
    """
    with _writing_checkpoint(output_dir) as temporary:
        _save(temporary / "last", *last)
        write_state(state, temporary / "last")
        # `best` is written first: after an interruption in between, the resumed run
        # repeats this epoch.
        if best is not None:
            _save(temporary / "best", *best)
            swap_folder(temporary / "best", output_dir / "best")
        swap_folder(temporary / "last", output_dir / "last")
        write_history(output_dir, state["history"])


def write_history(output_dir: Path, history: list[dict]) -> None:
    """Write the losses of all epochs to history.json."""
    write_texts(output_dir, {"history.json": json.dumps(history, indent=1)})


def read_history(output_dir) -> list[dict]:
    """The losses of all epochs that a run has finished; none before the first."""
    path = Path(output_dir) / "history.json"
    if not path.is_file():
        return []
    return json.loads(path.read_text(encoding="utf-8"))


def write_last(output_dir: Path, state: dict, model, about: dict) -> None:
    """Write what a run keeps within an epoch: the checkpoint `last` alone."""
    with _writing_checkpoint(output_dir) as temporary:
        _save(temporary / "last", model, about)
        write_state(state, temporary / "last")
        swap_folder(temporary / "last", output_dir / "last")


def _save(folder: Path, model, about: dict) -> None:
    model.save_pretrained(folder)
    text = json.dumps(about, indent=1) + "\n"
    (folder / "training.json").write_text(text, encoding="utf-8")


def last_good(output_dir: Path, settings: TrainingSettings) -> str:
    """Which checkpoint is left of a run that diverged, and the remedies."""
    last = output_dir / "last"
    kept = (
        f"the last good checkpoint is {last}"
        if last.exists()
        else "no epoch was finished, so there is no checkpoint"
    )
    return (
        f"{kept}; start again in another --output_dir with a lower --lr (now "
        f"{settings.lr:g}), a longer --warmup (now {settings.warmup:g}) or "
        "--mixed_precision no"
    )


def write_state(state: dict, last: Path) -> None:
    """Write a run's state beside its `last` checkpoint."""
    try:
        torch.save(state, last / STATE_NAME)
    except RuntimeError as error:  # torch raises it when the disk is full
        raise OSError(
            f"cannot write {STATE_NAME} ({str(error).splitlines()[0]})"
        ) from error


def read_state(last: Path, identity: dict) -> dict:
    """Read a run's state; `identity` holds the settings with which it is resumed."""
    path = last / STATE_NAME
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise errors of many types
        raise ValueError(
            f"{path} cannot be read ({type(error).__name__}): it is cut short or "
            f"damaged; {START_AGAIN}"
        ) from error
    then = state.get("identity") if isinstance(state, dict) else None
    if not isinstance(then, dict):
        raise ValueError(f"{path} holds no training run; {START_AGAIN}")
    # Numbers are not checked: a wrong one gives a wrong run, not an error.
    forms = {"history": list, "best_figures": dict, "within_epoch": dict}
    for name, form in forms.items():
        if not isinstance(state.get(name), form):
            kind = type(state.get(name)).__name__
            problem = f"{name} is a {kind}" if name in state else "KeyError"
            raise ValueError(
                f"the state of the run in {last.parent} is damaged ({problem}); "
                f"{START_AGAIN}"
            )
    changed = [
        f"{key} {then.get(key)!r} and not {identity.get(key)!r}"
        for key in then | identity
        if then.get(key) != identity.get(key) and key not in MAY_CHANGE
    ]
    if changed:
        raise ValueError(
            f"the run in {last.parent} was started with {'; '.join(changed)}; resume "
            "it with the same flags, or choose another --output_dir"
        )
    done = len(state["history"])
    if identity["epochs"] < done:
        raise ValueError(
            f"the run in {last.parent} has {done} epochs behind it, but epochs is "
            f"{identity['epochs']}; give at least {done}, or choose another "
            "--output_dir"
        )
    return state


def what_changes(then: dict, now: dict) -> list[str]:
    """One line for each setting of MAY_CHANGE that a resumed run has changed."""
    lines = []
    if then["epochs"] != now["epochs"]:
        lines.append(
            f"resumed with {now['epochs']} epochs instead of {then['epochs']}: from "
            f"here on the learning rate follows the schedule of {now['epochs']} epochs"
        )
    if then["processes"] != now["processes"]:
        share = now["batch_size"] * now["gradient_accumulation_steps"]
        before, after = (run["processes"] * share for run in (then, now))
        steps = [-(-now["training images"] // size) for size in (before, after)]
        lines.append(
            f"resumed on {now['processes']} process(es) instead of "
            f"{then['processes']}: {after} images per step instead of {before}, so "
            f"{steps[1]} steps per epoch instead of {steps[0]}; the learning rate goes "
            "on at the same share of the epochs"
        )
    return lines
