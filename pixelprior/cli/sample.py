"""The command `sample`: draw new images, or codes, and write them as files.

It may run in several processes, and be resumed: image i is the same in any number of
processes, and in any batch. Images and codes are drawn in parts, and a part whose files
are there is done. Each part of codes is a file, and at the end all become one.
"""

import math
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import tyro

from pixelprior.cli.flags import Options
from pixelprior.cli.resuming import begin, files_of
from pixelprior.files import writable_folder
from pixelprior.settings import CHUNK_SIZE, check_positive, sides_of

PART = 1024  # images per part of codes
DECODED = 16  # images that are decoded together
CHANGE_NO_CODE = ("output_dir", "resume", "device", "batch_size", "method")
OF_GRID = ("save_grid", "grid_nrow")
PARTS_OF_CODES = {"*": r"codes_\d{5,}\.safetensors"}
OWN_FILES = {"*": r"sample_\d{5,}\.png|codes(_\d{5,})?\.safetensors"}


@dataclass(kw_only=True)
class Sample:
    """Draw new images from a trained prior, or codes."""

    prior_checkpoint: Path
    """Checkpoint of the prior: a folder or a .pth file."""
    vqvae2_checkpoint: Path | None = None
    """Checkpoint of the VQ-VAE-2: a folder or a .pth file. If it is left out, codes are
    drawn and written to codes.safetensors."""
    num_samples: int = 100
    """Number of images to draw."""
    options: Annotated[Options, tyro.conf.arg(name="")] = field(default_factory=Options)
    label: int | None = None
    """Class of all images. If it is left out, a prior with classes draws all classes in
    turn."""
    batch_size: int | None = None
    """Images per batch. If it is left out, it is 256, and on a CUDA device fewer if
    these do not fit."""
    output_dir: Path = Path("./generated_samples")
    """Folder for sample_00000.png and so on, or for codes.safetensors."""
    resume: bool = False
    """Draw only what is missing in --output_dir. All flags that affect the images must
    be the same as before."""
    save_grid: bool = False
    """Also write grid.png with all images."""
    grid_nrow: int = 10
    """Images per row of the grid."""
    device: str | None = None
    """Device to draw on, such as cuda. If it is left out, the GPU is used if there is
    one."""
    bf16: bool = False
    """Draw in bfloat16. This is faster in large batches if the processor has it. It
    gives other codes, which are as likely as those of float32."""

    def run(self) -> None:
        import torch
        from accelerate import PartialState
        from accelerate.utils import find_executable_batch_size
        from torchvision.io import read_image

        from pixelprior.checkpoints import fingerprint, load_model, read_training_notes
        from pixelprior.cli.priors import load_prior
        from pixelprior.data.codes import CodeData, save_codes, smallest_integer_type
        from pixelprior.devices import process_group, usable_device
        from pixelprior.plotting import image_grid, save_images, save_picture
        from pixelprior.progress import progress_bar
        from pixelprior.sampling import check_method, checked_guidance
        from pixelprior.vqvae2 import VQVAE2

        # What can be wrong with the flags is found before anything is written.
        count = self.num_samples
        check_positive(num_samples=count, grid_nrow=self.grid_nrow)
        if self.batch_size is not None:
            check_positive(batch_size=self.batch_size)
        if self.save_grid and self.vqvae2_checkpoint is None:
            raise ValueError(
                "--save_grid is for images, and without a VQ-VAE-2 codes are drawn; "
                "give --vqvae2_checkpoint too, or leave --save_grid out"
            )
        device = usable_device(self.device)
        state = PartialState(cpu=device.type == "cpu", **process_group())
        if device.type == "cuda" and state.num_processes > 1:
            device = state.device  # one GPU for each process
        check_method(self.options.method, device)
        vqvae2 = None
        if self.vqvae2_checkpoint is not None:
            vqvae2 = load_model(VQVAE2, self.vqvae2_checkpoint, device)
        prior = load_prior(self.prior_checkpoint, vqvae2, device)
        notes = read_training_notes(self.prior_checkpoint)
        grids = vqvae2.grids if vqvae2 else self.grids_of(notes, len(prior.levels))
        if self.bf16:
            prior.bfloat16()
        labels = prior.labels_in_turn(count)
        if self.label is not None:
            labels = prior.levels[0].check_labels(self.label, count).cpu()
        checked_guidance(prior.levels, self.options, labels)

        size = min(CHUNK_SIZE, math.ceil(count / state.num_processes))
        size = self.batch_size or size
        folder, images = writable_folder(self.output_dir), range(count)
        step = size if vqvae2 else PART
        parts = [images[first : first + step] for first in images[::step]]
        digits = max(5, len(str(count - 1)))

        def paths_of(part: range) -> list[Path]:
            if vqvae2 is None:
                return [folder / f"codes_{part.start // PART:05d}.safetensors"]
            return [folder / f"sample_{i:0{digits}d}.png" for i in part]

        def draw(batch_size: int, part: range):
            """The grids of some images, in batches of at most so many."""
            own = {"first_index": part.start, "chunk_size": batch_size}
            return prior.sample(
                len(part),
                shapes=grids,
                labels=None if labels is None else labels[part.start : part.stop],
                progress=state.is_main_process,
                **asdict(self.options) | own,
            )

        if device.type == "cuda" and self.batch_size is None:
            # If the GPU's memory is too small, smaller batches are tried.
            draw = find_executable_batch_size(draw, size)
        else:
            draw = partial(draw, size)

        def write(part: range) -> None:
            drawn, paths = draw(part), paths_of(part)
            if vqvae2 is not None:
                together = zip(*(grid.split(DECODED) for grid in drawn), strict=True)
                with torch.no_grad():
                    decoded = [vqvae2.decode_codes(*some).cpu() for some in together]
                save_images(torch.cat(decoded), paths)
                return
            types = [
                smallest_integer_type(level.num_embeddings) for level in prior.levels
            ]
            codes = CodeData(
                tuple(z.to("cpu", kind) for z, kind in zip(drawn, types, strict=True)),
                None if labels is None else labels[part.start : part.stop].clone(),
                prior.num_embeddings,
                tuple(notes.get("class_names", ())),
            )
            save_codes(codes, *paths, "pixelprior sample")

        if state.is_main_process:
            noted = {
                "prior_checkpoint": fingerprint(prior),
                "vqvae2_checkpoint": vqvae2 and fingerprint(vqvae2),
            }
            note, unnoted = folder / "drawn_with.json", (*CHANGE_NO_CODE, *OF_GRID)
            begin(note, self, unnoted, noted, OWN_FILES)
        state.wait_for_everyone()
        merged, missing = folder / "codes.safetensors", []
        if not merged.is_file():
            missing = [p for p in parts if not all(f.is_file() for f in paths_of(p))]
        state.wait_for_everyone()  # until all have seen what is missing
        own = missing[state.process_index :: state.num_processes]
        shown = state.is_main_process and len(own) > 1
        try:
            for part in progress_bar(own, desc="drawing", unit="part", enabled=shown):
                write(part)
            state.wait_for_everyone()
            if not state.is_main_process:
                return
            paths = [path for part in parts for path in paths_of(part)]
            if vqvae2 is None and not merged.is_file():
                merge(paths, labels, merged)
        except OSError as error:
            raise OSError(f"{error}; go on with --resume") from error
        for path in files_of(folder, PARTS_OF_CODES):
            path.unlink()
        if self.save_grid:
            try:
                drawn = torch.stack([read_image(str(path)) for path in paths])
            except RuntimeError as error:
                raise ValueError(
                    f"an image in {folder} is damaged ({error}); remove it, and go on "
                    "with --resume"
                ) from error
            grid = image_grid(drawn.float() / 255, self.grid_nrow)
            save_picture(grid, folder / "grid.png")
        print(f"wrote {count} {'images' if vqvae2 else 'images as codes'} to {folder}")

    def grids_of(self, notes: dict, levels: int) -> list[tuple[int, int]]:
        """(height, width) of the grids that the prior was trained on, by its notes."""
        grids = notes.get("grids")
        try:
            sides = [sides_of(tuple(shape)) for shape in grids]
            if len(sides) == levels:
                return sides
        except (ValueError, TypeError):
            pass
        again = "copy it again from where it was trained"
        if not notes.get("codes"):  # it was trained on images
            again += ", or give the --vqvae2_checkpoint that it was trained with"
        raise ValueError(
            f"the notes of the prior in {self.prior_checkpoint} have the grids "
            f"{grids!r}, but it needs {levels} of (height, width); {again}"
        )


def merge(parts: list[Path], labels, path: Path) -> None:
    """Make one file of codes of all parts."""
    import torch

    from pixelprior.data.codes import read_codes, save_codes

    try:
        read = [read_codes(part) for part in parts]
        grids = zip(*(codes.grids for codes in read), strict=True)
        grids = tuple(torch.cat(each) for each in grids)
    except (OSError, ValueError, RuntimeError) as error:
        raise OSError(
            f"{error}; give all processes the same --output_dir, on a disk that all of "
            "them see, and remove damaged parts"
        ) from error
    save_codes(replace(read[0], grids=grids, labels=labels), path, "pixelprior sample")
