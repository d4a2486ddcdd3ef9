"""What `sample` does: draw new images, or codes, and write them as files.

It may run in several processes, and be resumed: image i is the same in any number of
processes, and in any batch.
"""

import math
import re
import time
from functools import partial
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import find_executable_batch_size
from torch import Tensor
from torchvision.io import read_image

from pixelprior.checkpoints import fingerprint, load_model, read_training_notes
from pixelprior.cli.flags import one_or_two
from pixelprior.cli.priors import check_trained, load_prior
from pixelprior.cli.resuming import begin
from pixelprior.data.code_writer import CodeWriter
from pixelprior.data.codes import metadata_of, smallest_integer_type
from pixelprior.devices import process_group, usable_device
from pixelprior.files import writable_folder
from pixelprior.pixelcnn import PixelCNN
from pixelprior.plotting import image_grid, save_images, save_picture
from pixelprior.progress import progress_bar
from pixelprior.ranges import check_positive, whole_number
from pixelprior.sampling import CHUNK_SIZE, check_method, uniforms
from pixelprior.validation import check_filters, check_guidance
from pixelprior.vqvae2 import VQVAE2

CODES_NAME, ABOUT_NAME = "codes.safetensors", "drawn_with.json"
CHANGE_NO_CODE = ("output_dir", "resume", "device", "batch_size", "method")
CHANGE_NO_CODE += ("save_grid", "grid_nrow")
DECODED = 16  # images that are decoded together
OWN_FILES = r"sample_\d{5,}\.png|codes\.safetensors(\.unfinished|\.written)?"


class Drawing:
    """One process of the command: what it draws, from which models, and where to.

    Args:
        flags: a `cli.sample.Sample`.
    """

    def __init__(self, flags):
        self.flags = flags
        check_positive(num_samples=flags.num_samples, grid_nrow=flags.grid_nrow)
        if flags.batch_size is not None:
            check_positive(batch_size=flags.batch_size)
        check_filters(flags.temperature, flags.top_k, flags.top_p)
        if flags.save_grid and flags.vqvae2_checkpoint is None:
            raise ValueError(
                "--save_grid is for images, and without a VQ-VAE-2 codes are drawn; "
                "give --vqvae2_checkpoint too, or leave --save_grid out"
            )
        device = usable_device(flags.device)
        AcceleratorState._reset_state(reset_partial_state=True)
        self.state = PartialState(cpu=device.type == "cpu", **process_group())
        if device.type == "cuda" and self.state.num_processes > 1:
            device = self.state.device  # one GPU for each process
        self.vqvae2 = None
        if flags.vqvae2_checkpoint is not None:
            self.vqvae2 = load_model(VQVAE2, flags.vqvae2_checkpoint, device)
        self.prior = load_prior(flags.prior_checkpoint, device)
        self.single = isinstance(self.prior, PixelCNN)
        self.grids = self.grids_of()
        if flags.bf16:
            self.prior.bfloat16()
        self.labels = self.labels_of()
        # All that can be wrong is found before anything is written.
        check_method(flags.method, device)
        uniforms(flags.seed, 0, 1, 1)
        level = next(iter(self.prior.levels().values()))
        weights = one_or_two(flags.guidance)
        check_guidance(weights, self.labels, level.label_dropout)
        own = math.ceil(flags.num_samples / self.state.num_processes)
        self.batch_size = flags.batch_size or min(CHUNK_SIZE, own)
        # On a GPU whose memory is too small, smaller batches are tried.
        self.draw_batch = (
            find_executable_batch_size(self.draw_in, self.batch_size)
            if device.type == "cuda" and flags.batch_size is None
            else partial(self.draw_in, self.batch_size)
        )
        self.folder = writable_folder(flags.output_dir)

    def grids_of(self) -> list[tuple[int, int]]:
        """(height, width) of the grids to draw."""
        path = self.flags.prior_checkpoint
        if self.vqvae2 is not None:
            if self.single:
                raise ValueError(
                    f"the prior in {path} draws one grid per image, but a VQ-VAE-2 has "
                    "two; leave --vqvae2_checkpoint out to draw codes"
                )
            self.prior.check_matches(self.vqvae2)
            check_trained(path, self.vqvae2)
            return list(self.vqvae2.grids)
        check_trained(path, None)
        notes, count = read_training_notes(path), len(self.prior.levels())
        grids, again = notes.get("grids"), "copy it again from where it was trained"
        if not self.single and not notes.get("codes"):  # codes of a file
            again = f"give the --vqvae2_checkpoint that it was trained with, or {again}"
        if not grids:
            raise ValueError(
                f"nothing says how large the grids of the prior in {path} are; {again}"
            )
        known = isinstance(grids, list) and len(grids) == count
        if not known or not all(map(_is_shape, grids)):
            raise ValueError(
                f"the notes of the prior in {path} have the grids {grids!r}, but it "
                f"needs {count} of (height, width); {again}"
            )
        return [tuple(shape) for shape in grids]

    def labels_of(self) -> Tensor | None:
        """The label of each image; None for a prior without classes."""
        label, count = self.flags.label, self.flags.num_samples
        if label is None:
            return self.prior.labels_in_turn(count)
        if abs(label) >= 2**63:
            raise ValueError(
                f"label {label} is out of range of any prior; give a class of "
                "this prior"
            )
        labels = torch.full((count,), label)
        next(iter(self.prior.levels().values())).check_labels(labels, count)
        return labels

    def run(self) -> None:
        flags, state = self.flags, self.state
        if state.is_main_process:
            self.check_folder()
        state.wait_for_everyone()
        started = time.perf_counter()
        drawn = self.write_codes() if self.vqvae2 is None else self.write_images()
        state.wait_for_everyone()
        seconds = time.perf_counter() - started
        if not state.is_main_process:
            return
        if flags.save_grid:
            images = [read_image(str(self.path(i))) for i in range(flags.num_samples)]
            grid = image_grid(torch.stack(images).float() / 255, flags.grid_nrow)
            save_picture(grid, self.folder / "grid.png")
        what = "images" if self.vqvae2 is not None else "images as codes"
        speed = f" ({1000 * seconds / drawn:.0f} ms per image to draw)" if drawn else ""
        print(f"wrote {flags.num_samples} {what} to {self.folder}{speed}")

    def check_folder(self) -> None:
        """Note how the images are drawn, or go on with what is there."""
        begin(
            self.folder,
            ABOUT_NAME,
            self.flags,
            leave_out=CHANGE_NO_CODE,
            fingerprints={
                "prior_checkpoint": fingerprint(self.prior),
                "vqvae2_checkpoint": self.vqvae2 and fingerprint(self.vqvae2),
            },
            command="sample",
            made="drawn",
            clear=self.clear,
        )

    def clear(self) -> None:
        """Remove what another run drew."""
        for old in self.folder.iterdir():
            if re.fullmatch(OWN_FILES, old.name):
                old.unlink()

    def draw(self, images: slice) -> tuple[Tensor, ...]:
        """The grids of some images, one or two."""
        return self.draw_batch(images)

    def draw_in(self, batch_size: int, images: slice) -> tuple[Tensor, ...]:
        """The same, in batches of at most so many."""
        flags = self.flags
        weights = one_or_two(flags.guidance)
        grids = self.prior.sample(
            images.stop - images.start,
            *self.grids,
            temperature=flags.temperature,
            top_k=flags.top_k,
            top_p=flags.top_p,
            labels=None if self.labels is None else self.labels[images],
            guidance=weights[0] if self.single else weights,
            seed=flags.seed,
            first_index=images.start,
            method=flags.method,
            chunk_size=batch_size,
            progress=self.state.is_main_process,
        )
        return (grids,) if self.single else grids

    def path(self, index: int) -> Path:
        """The file of an image; its name has as many digits as that of the last."""
        digits = max(5, len(str(self.flags.num_samples - 1)))
        return self.folder / f"sample_{index:0{digits}d}.png"

    def write_images(self) -> int:
        """Draw and write this process's images; return how many all have drawn."""
        flags, state = self.flags, self.state
        starts = range(0, flags.num_samples, self.batch_size)
        parts = [slice(i, min(i + self.batch_size, flags.num_samples)) for i in starts]
        if flags.resume:
            parts = [
                part
                for part in parts
                if not all(self.path(i).is_file() for i in range(part.start, part.stop))
            ]
        state.wait_for_everyone()  # until all have seen what is missing
        for part in self.bar(parts[state.process_index :: state.num_processes]):
            with torch.no_grad():
                split = (grid.split(DECODED) for grid in self.draw(part))
                images = [
                    self.vqvae2.decode_codes(*some).cpu()
                    for some in zip(*split, strict=True)
                ]
            paths = map(self.path, range(part.start, part.stop))
            try:
                save_images(torch.cat(images), paths)
            except OSError as error:
                raise OSError(f"{error}; go on with --resume") from error
        return sum(part.stop - part.start for part in parts)

    def write_codes(self) -> int:
        """Draw and write this process's codes; return how many all have drawn."""
        flags, state, count = self.flags, self.state, self.flags.num_samples
        names = ("codes",) if len(self.grids) == 1 else ("z_top", "z_bottom")
        dtype = smallest_integer_type(self.prior.num_embeddings)
        tensors = {
            name: (dtype, (count, *shape))
            for name, shape in zip(names, self.grids, strict=True)
        }
        if self.labels is not None:
            tensors["labels"] = (torch.int64, (count,))
        about = metadata_of(
            self.prior.num_embeddings,
            read_training_notes(flags.prior_checkpoint).get("class_names", ()),
            "pixelprior sample",
        )
        path = self.folder / CODES_NAME
        if flags.resume and path.is_file():
            return 0
        writer = CodeWriter(path, tensors, about, "go on with --resume")
        if state.is_main_process:
            writer.prepare()
        state.wait_for_everyone()
        missing = writer.missing()
        state.wait_for_everyone()  # until all have seen what is missing
        for number in self.bar(missing[state.process_index :: state.num_processes]):
            images = writer.images(number)
            grids = dict(zip(names, self.draw(images), strict=True))
            grids = {name: grid.to("cpu", dtype) for name, grid in grids.items()}
            if self.labels is not None:
                grids["labels"] = self.labels[images]
            writer.write(number, grids)
        state.wait_for_everyone()
        if state.is_main_process:
            writer.finish()
        parts = [writer.images(number) for number in missing]
        return sum(part.stop - part.start for part in parts)

    def bar(self, parts):
        """A progress bar over the parts, if there are several."""
        enabled = self.state.is_main_process and len(parts) > 1
        return progress_bar(parts, desc="drawing", unit="part", enabled=enabled)


def _is_shape(sides) -> bool:
    """Whether it is a list of two whole numbers of at least 1, as JSON has them."""
    return (
        isinstance(sides, list)
        and len(sides) == 2
        and all((whole_number(side) or 0) > 0 for side in sides)
    )
