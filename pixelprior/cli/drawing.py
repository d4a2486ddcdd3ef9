"""What `sample` does: draw new images, or codes, and write them as files.

It may run in several processes, and be resumed: image i is the same in any number of
processes, and in any batch. Images and codes are drawn in parts, and a part whose files
are there is done. Each part of codes is a file, and at the end all become one.
"""

import math
import time
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import find_executable_batch_size
from torch import Tensor
from torchvision.io import read_image

from pixelprior.checkpoints import fingerprint, load_model, read_training_notes
from pixelprior.cli.priors import load_prior
from pixelprior.cli.resuming import begin, remove_files
from pixelprior.data.codes import (
    CodeData,
    read_codes,
    save_codes,
    smallest_integer_type,
)
from pixelprior.devices import process_group, usable_device
from pixelprior.files import writable_folder
from pixelprior.plotting import image_grid, save_images, save_picture
from pixelprior.progress import progress_bar
from pixelprior.sampling import check_method, checked_guidance
from pixelprior.settings import CHUNK_SIZE, check_positive
from pixelprior.vqvae2 import VQVAE2

PART = 1024  # images per part of codes
DECODED = 16  # images that are decoded together
CHANGE_NO_CODE = ("output_dir", "resume", "device", "batch_size", "method")
CHANGE_NO_CODE += ("save_grid", "grid_nrow")
OWN_FILES = r"sample_\d{5,}\.png|codes(_\d{5,})?\.safetensors"


class Drawing:
    """One process of the command: what it draws, from which models, and where to.

    Args:
        flags: a `cli.sample.Sample`. All that can be wrong with them is found before
            anything is written.
    """

    def __init__(self, flags):
        self.flags, path = flags, flags.prior_checkpoint
        check_positive(num_samples=flags.num_samples, grid_nrow=flags.grid_nrow)
        if flags.batch_size is not None:
            check_positive(batch_size=flags.batch_size)
        if flags.save_grid and flags.vqvae2_checkpoint is None:
            raise ValueError(
                "--save_grid is for images, and without a VQ-VAE-2 codes are drawn; "
                "give --vqvae2_checkpoint too, or leave --save_grid out"
            )
        device = usable_device(flags.device)
        self.state = PartialState(cpu=device.type == "cpu", **process_group())
        if device.type == "cuda" and self.state.num_processes > 1:
            device = self.state.device  # one GPU for each process
        check_method(flags.options.method, device)
        self.vqvae2 = None
        if flags.vqvae2_checkpoint is not None:
            self.vqvae2 = load_model(VQVAE2, flags.vqvae2_checkpoint, device)
        self.prior = load_prior(path, self.vqvae2, device)
        self.notes = read_training_notes(path)
        self.grids = self.vqvae2.grids if self.vqvae2 else self.grids_of_notes()
        if flags.bf16:
            self.prior.bfloat16()
        levels, self.labels = self.prior.levels, None
        if flags.label is not None:
            labels = levels[0].check_labels(flags.label, flags.num_samples)
            self.labels = labels.cpu()
        else:
            self.labels = self.prior.labels_in_turn(flags.num_samples)
        checked_guidance(levels, flags.options, self.labels)
        own = math.ceil(flags.num_samples / self.state.num_processes)
        batch_size = flags.batch_size or min(CHUNK_SIZE, own)
        self.part = batch_size if self.vqvae2 else PART
        # On a GPU whose memory is too small, smaller batches are tried.
        self.draw = (
            find_executable_batch_size(self.draw_in, batch_size)
            if device.type == "cuda" and flags.batch_size is None
            else partial(self.draw_in, batch_size)
        )
        self.folder = writable_folder(flags.output_dir)

    def grids_of_notes(self) -> list[tuple[int, int]]:
        """(height, width) of the grids that the prior was trained on."""
        grids, count = self.notes.get("grids"), len(self.prior.levels)
        known = isinstance(grids, list) and len(grids) == count
        if not known or not all(map(_is_shape, grids)):
            again = "copy it again from where it was trained"
            if not self.notes.get("codes"):  # it was trained on images
                again += ", or give the --vqvae2_checkpoint that it was trained with"
            raise ValueError(
                f"the notes of the prior in {self.flags.prior_checkpoint} have the "
                f"grids {grids!r}, but it needs {count} of (height, width); {again}"
            )
        return [tuple(shape) for shape in grids]

    def run(self) -> None:
        if self.state.is_main_process:
            vqvae2 = self.vqvae2 and fingerprint(self.vqvae2)
            begin(
                self.folder,
                "drawn_with.json",
                self.flags,
                leave_out=CHANGE_NO_CODE,
                fingerprints={
                    "prior_checkpoint": fingerprint(self.prior),
                    "vqvae2_checkpoint": vqvae2,
                },
                command="sample",
                made="drawn",
                clear=partial(remove_files, self.folder, OWN_FILES),
            )
        self.state.wait_for_everyone()
        try:
            self.draw_all()
        except OSError as error:
            raise OSError(f"{error}; go on with --resume") from error

    def draw_all(self) -> None:
        """Draw and write what is missing; each process does its share."""
        flags, state, images = self.flags, self.state, range(self.flags.num_samples)
        started, merged = time.perf_counter(), self.folder / "codes.safetensors"
        parts = [images[i : i + self.part] for i in images[:: self.part]]
        missing = [] if merged.is_file() else list(filter(self.is_missing, parts))
        state.wait_for_everyone()  # until all have seen what is missing
        own = missing[state.process_index :: state.num_processes]
        shown = state.is_main_process and len(own) > 1
        for part in progress_bar(own, desc="drawing", unit="part", enabled=shown):
            self.write(part)
        state.wait_for_everyone()
        if not state.is_main_process:
            return
        seconds, drawn = time.perf_counter() - started, sum(map(len, missing))
        if self.vqvae2 is None:
            self.merge([path for part in parts for path in self.paths(part)], merged)
        if flags.save_grid:
            images = [read_image(str(path)) for path in self.paths(images)]
            grid = image_grid(torch.stack(images).float() / 255, flags.grid_nrow)
            save_picture(grid, self.folder / "grid.png")
        what = "images" if self.vqvae2 else "images as codes"
        speed = f" ({1000 * seconds / drawn:.0f} ms per image to draw)" if drawn else ""
        print(f"wrote {flags.num_samples} {what} to {self.folder}{speed}")

    def paths(self, part: range) -> list[Path]:
        """The files of some images; names have as many digits as that of the last."""
        if self.vqvae2 is None:
            return [self.folder / f"codes_{part.start // PART:05d}.safetensors"]
        digits = max(5, len(str(self.flags.num_samples - 1)))
        return [self.folder / f"sample_{i:0{digits}d}.png" for i in part]

    def is_missing(self, part: range) -> bool:
        return not all(path.is_file() for path in self.paths(part))

    def draw_in(self, batch_size: int, part: range) -> tuple[Tensor, ...]:
        """The grids of some images, in batches of at most so many."""
        options = replace(
            self.flags.options, first_index=part.start, chunk_size=batch_size
        )
        labels = self.labels
        return self.prior.sample(
            len(part),
            shapes=self.grids,
            labels=None if labels is None else labels[part.start : part.stop],
            progress=self.state.is_main_process,
            **asdict(options),
        )

    def write(self, part: range) -> None:
        """Draw a part, and write its files."""
        grids = self.draw(part)
        if self.vqvae2 is not None:
            split = zip(*(grid.split(DECODED) for grid in grids), strict=True)
            with torch.no_grad():
                images = [self.vqvae2.decode_codes(*some).cpu() for some in split]
            save_images(torch.cat(images), self.paths(part))
            return
        labels = self.labels
        codes = CodeData(
            tuple(
                grid.to("cpu", smallest_integer_type(level.num_embeddings))
                for grid, level in zip(grids, self.prior.levels, strict=True)
            ),
            None if labels is None else labels[part.start : part.stop].clone(),
            self.prior.num_embeddings,
            tuple(self.notes.get("class_names", ())),
        )
        save_codes(codes, *self.paths(part), "pixelprior sample")

    def merge(self, parts: list[Path], path: Path) -> None:
        """Make one file of all parts, unless a run before did, and remove them."""
        if not path.is_file():
            try:
                read = [read_codes(part) for part in parts]
            except (OSError, ValueError) as error:
                raise OSError(
                    f"{error}; give all processes the same --output_dir, on a disk "
                    "that all of them see, and remove damaged parts"
                ) from error
            grids = zip(*(codes.grids for codes in read), strict=True)
            labels = None
            if self.labels is not None:
                labels = torch.cat([codes.labels for codes in read])
            whole = replace(read[0], grids=tuple(map(torch.cat, grids)), labels=labels)
            save_codes(whole, path, "pixelprior sample")
        remove_files(path.parent, r"codes_\d{5,}\.safetensors")


def _is_shape(sides) -> bool:
    """Whether it is a list of two whole numbers of at least 1, as JSON has them."""
    return (
        isinstance(sides, list) and [*map(type, sides)] == [int, int] and min(sides) > 0
    )
