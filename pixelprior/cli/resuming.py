"""How commands that write many files note what they do, and go on with `--resume`."""

import json
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from pixelprior.files import remove_unfinished, write_texts


def begin(
    folder: Path,
    note: str,
    flags,
    *,
    leave_out: tuple[str, ...],
    fingerprints: dict[str, str | None],
    command: str,
    made: str,
    clear: Callable[[], None],
) -> None:
    """Note how a run makes its files; with --resume, compare it with the run before.

    Args:
        folder: of the run. note: name of the file in it to keep the note in.
        flags: of the command, with `resume`. leave_out: those that change no file.
        fingerprints: by flag, what is noted in place of its value: the fingerprint of
            the models or files that it names.
        command, made: words for messages, such as "sample" and "drawn".
        clear: called without --resume, to remove what another run made: it must not be
            taken for this run's.
    """
    about = asdict(flags)
    about |= about.pop("options", {})
    about = {name: value for name, value in about.items() if name not in leave_out}
    about = json.loads(json.dumps(about | fingerprints, default=str))
    remove_unfinished(folder)
    if not flags.resume:
        clear()
        write_texts(folder, {note: json.dumps(about)})
        return
    try:
        before = dict(json.loads((folder / note).read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"there is no run of {command} to resume in {folder}; leave --resume out "
            "to start one"
        ) from error
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{folder / note} is damaged ({error}) and no longer says how the files "
            "beside it were made; start again without --resume"
        ) from error
    names = before | about
    if changed := [name for name in names if before.get(name) != about.get(name)]:
        raise ValueError(
            f"what is in {folder} was {made} with another {', '.join(changed)}; resume "
            "it with the same, or choose another --output_dir"
        )


def remove_files(folder: Path, names: str) -> None:
    """Remove the files of a folder whose names match a pattern in full."""
    for path in folder.iterdir():
        if re.fullmatch(names, path.name):
            path.unlink()
