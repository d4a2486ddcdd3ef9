"""How commands that write many files note what they do, and go on with `--resume`."""

import json
import re
import shutil
from dataclasses import asdict
from pathlib import Path

from pixelprior.files import UNFINISHED, write_texts


def begin(note: Path, flags, leave_out, noted: dict, own_files: dict[str, str]) -> None:
    """Note how a run makes its files; with --resume, compare it with the run before.

    Args:
        note: the file to keep the note in, in the folder of the run.
        flags: of the command, with `resume`. leave_out: those that change no file.
        noted: by flag, what is noted in place of its value: the fingerprint of the
            models or files that it names.
        own_files: the files of a run, as in `files_of`. Those of another run must not
            be taken for this one's: without --resume they are removed.
    """
    about = asdict(flags)
    about |= about.pop("options", {}) | noted
    for name in leave_out:
        about.pop(name, None)
    about = json.loads(json.dumps(about, default=str))
    for pattern in own_files:
        hidden = Path(pattern).with_name(f"{UNFINISHED}*")
        for folder in note.parent.glob(str(hidden)):
            shutil.rmtree(folder, ignore_errors=True)
    if not flags.resume:
        files = files_of(note.parent, own_files)
        if files and not note.is_file():
            raise ValueError(
                f"{files[0]} is there, and no {note.name} says that this command has "
                "written it; choose another --output_dir, or move it away"
            )
        for path in files:
            path.unlink()
        write_texts(note.parent, {note.name: json.dumps(about)})
        return
    try:
        before = dict(json.loads(note.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise ValueError(
            f"there is no run to resume in {note.parent}, or {note.name} is damaged "
            f"({error}); start without --resume"
        ) from error
    names = before | about
    if changed := [name for name in names if before.get(name) != about.get(name)]:
        raise ValueError(
            f"what is in {note.parent} was made with another {', '.join(changed)}; "
            "resume it with the same, or choose another --output_dir"
        )


def files_of(folder: Path, patterns: dict[str, str]) -> list[Path]:
    """The files of a folder at these paths, as in `Path.glob`, whose names match the
    regular expression of the path."""
    return [
        path
        for pattern, names in patterns.items()
        for path in folder.glob(pattern)
        if re.fullmatch(names, path.name) and path.is_file()
    ]
