"""How commands that write many files note what they do, and go on with `--resume`."""

import json
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
        folder: of the run. note: name of the file to keep the note in.
        flags: of the command, with `resume`.
        leave_out: names of flags that change no file.
        fingerprints: by flag, what is noted in place of its value: the fingerprint of
            the models or files that it names.
        command, made: words for messages, such as "sample" and "drawn".
        clear: called without --resume, to remove what another run made: it must not be
            taken for this run's.
    """
    about = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in asdict(flags).items()
        if name not in leave_out
    }
    about = json.loads(json.dumps(about | fingerprints))
    path = folder / note
    remove_unfinished(folder)
    if not flags.resume:
        clear()
        write_texts(folder, {note: json.dumps(about)})
        return
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no run of {command} to resume in {folder}; leave --resume out "
            "to start one"
        )
    try:
        before = dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{path} is damaged ({error}) and no longer says how the files beside it "
            "were made; start again without --resume"
        ) from error
    changed = [name for name in about if before.get(name) != about[name]]
    if changed:
        raise ValueError(
            f"what is in {folder} was {made} with another {', '.join(changed)}; resume "
            "it with the same, or choose another --output_dir"
        )
