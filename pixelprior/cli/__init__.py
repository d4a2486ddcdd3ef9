"""The command line: a dataclass a command, its fields the flags.

Bad input ends in one line on stderr and exit status 2; `PIXELPRIOR_DEBUG=1` shows the
traceback instead. The training commands stand in `cli_train.py`, and
`benchmark` in `cli_benchmark.py`.
"""

import contextlib
import io
import os
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from pixelprior.assets import load_shipped
from pixelprior.checkpoints import load_model
from pixelprior.cli.benchmark import Benchmark
from pixelprior.cli.doctor import examine
from pixelprior.cli.evaluate import Evaluate
from pixelprior.cli.reproduce import Reproduce
from pixelprior.cli.train import (
    TrainPrior,
    TrainVQVAE2,
    report_nats,
)
from pixelprior.codes import extract_codes
from pixelprior.data import FASHION_CLASSES, load_images
from pixelprior.devices import keep_freed_memory, usable_device
from pixelprior.evaluation.measures import reconstructions, samples, squared_errors
from pixelprior.evaluation.report import (
    PICTURED,
    reconstruction_picture,
    sample_picture,
)
from pixelprior.files import (
    writable_folder,
)
from pixelprior.pictures import image_grid, save_picture
from pixelprior.prior import LEVELS, HierarchicalPixelCNN
from pixelprior.progress import progress_bar
from pixelprior.ranges import check_positive
from pixelprior.runs import check_trained
from pixelprior.sampling import METHODS, check_filters
from pixelprior.vqvae2 import VQVAE2


@dataclass(kw_only=True)
class Sample:
    """Draw new images from a trained prior."""

    vqvae2_checkpoint: Path
    """Checkpoint of the VQ-VAE-2: a folder or a .pth file."""
    prior_checkpoint: Path
    """Checkpoint of the prior: a folder or a .pth file."""
    num_samples: int = 100
    """Images to draw."""
    temperature: float = 1.0
    """Divides the logits: below 1 safer, above 1 more diverse."""
    top_k: int | None = None
    """Draw each code from the likeliest so many alone."""
    top_p: float | None = None
    """Draw each code from the likeliest that hold this share, in (0, 1]."""
    label: int | None = None
    """Class of all images; a prior with classes goes through them in turn without."""
    seed: int = 0
    """The same seed gives the same images, in any batch size."""
    batch_size: int = 16
    """Images drawn at once."""
    output_dir: Path = Path("./generated_samples")
    """Folder for sample_00000.png and so on."""
    save_grid: bool = False
    """Write grid.png with all images as well."""
    grid_nrow: int = 10
    """Images in a row of the grid."""
    device: str | None = None
    """Device to draw on, such as cuda; the GPU if there is one."""
    method: Literal[METHODS] = "auto"
    """How: all give the same codes; graph needs a CUDA device."""
    bf16: bool = False
    """Draw in bfloat16: faster in large batches where the processor has it; other
    codes, as likely as float32's."""

    def run(self) -> None:
        check_positive(
            num_samples=self.num_samples,
            batch_size=self.batch_size,
            grid_nrow=self.grid_nrow,
        )
        check_filters(self.temperature, self.top_k, self.top_p)
        device = usable_device(self.device)
        vqvae2 = load_model(VQVAE2, self.vqvae2_checkpoint, device)
        prior = load_model(HierarchicalPixelCNN, self.prior_checkpoint, device)
        prior.check_matches(vqvae2)
        check_trained(self.prior_checkpoint, vqvae2)
        if self.bf16:
            prior.bfloat16()
        labels = prior.labels_in_turn(self.num_samples)
        if self.label is not None:
            if abs(self.label) >= 2**63:
                raise ValueError(f"label {self.label} is out of range of any prior")
            labels = torch.full((self.num_samples,), self.label)
            prior.prior_top.check_labels(labels, self.num_samples)
        folder = writable_folder(self.output_dir)
        started = time.perf_counter()
        images = []
        one_batch = self.num_samples <= self.batch_size
        for first in progress_bar(
            range(0, self.num_samples, self.batch_size),
            desc="drawing",
            unit="batch",
            enabled=not one_batch,
        ):
            size = min(self.batch_size, self.num_samples - first)
            drawn = prior.sample_with_vqvae2(
                vqvae2,
                size,
                temperature=self.temperature,
                top_k=self.top_k,
                top_p=self.top_p,
                labels=None if labels is None else labels[first : first + size],
                seed=self.seed,
                first_index=first,
                method=self.method,
                progress=one_batch,
            )
            images.append(drawn.cpu())
        images = torch.cat(images)
        seconds = time.perf_counter() - started
        for index, image in enumerate(images):
            save_picture(image_grid(image[None], 1), folder / f"sample_{index:05d}.png")
        if self.save_grid:
            save_picture(image_grid(images, self.grid_nrow), folder / "grid.png")
        print(
            f"wrote {len(images)} images to {folder} "
            f"({1000 * seconds / len(images):.0f} ms an image to draw)"
        )


@dataclass(kw_only=True)
class Demo:
    """Draw 64 new images of garments from the shipped weights; needs no network."""

    output_dir: Path = Path("./pixelprior_demo")
    """Folder for samples.png and reconstructions.png."""
    seed: int = 0
    """The same seed gives the same images."""
    temperature: float = 1.0
    """Divides the logits: below 1 safer, above 1 more diverse."""

    def run(self) -> None:
        check_filters(self.temperature, None, None)
        folder = writable_folder(self.output_dir)
        vqvae2, prior = load_shipped()
        heldout = load_images("fashion_mnist_mini", "test")
        figure = reconstruction_picture(vqvae2, heldout)
        wrote = save_picture(figure, folder / "reconstructions.png")
        print(f"wrote {wrote}")

        started = time.perf_counter()
        drawn = samples(
            vqvae2,
            prior,
            PICTURED,
            class_names=FASHION_CLASSES,
            seed=self.seed,
            temperature=self.temperature,
            progress=True,
        )
        seconds = time.perf_counter() - started
        wrote = save_picture(sample_picture(drawn, self.seed), folder / "samples.png")
        print(f"wrote {wrote}, {PICTURED} new images in {seconds:.1f} s")

        rebuilt = reconstructions(vqvae2, heldout)
        error = squared_errors(heldout, rebuilt).mean().item()
        print(f"on {len(heldout):,} held-out test images, measured now:")
        print(f"  reconstruction: mean squared error {error:.5f} (pixels in [0, 1])")
        report_nats(prior, extract_codes(vqvae2, heldout), LEVELS)


@dataclass(kw_only=True)
class Doctor:
    """Say whether this machine is ready for the course, and how to mend what is not."""

    def run(self) -> None:
        faults = 0
        for finding in examine():
            mark = "MEND" if finding.mend else "ok"
            print(f"{mark:4} {finding.subject}: {finding.found}")
            if finding.mend:
                faults += 1
                print(f"     -> {finding.mend}")
        print("ready" if not faults else f"{faults} to mend")
        if faults:
            raise SystemExit(1)


COMMANDS = {
    "train-vqvae2": TrainVQVAE2,
    "train-prior": TrainPrior,
    "sample": Sample,
    "evaluate": Evaluate,
    "reproduce": Reproduce,
    "benchmark": Benchmark,
    "demo": Demo,
    "doctor": Doctor,
}


def _parse(arguments: list[str]):
    """The command's dataclass; a parsing error becomes one line."""
    union = None
    for name, command in COMMANDS.items():
        each = Annotated[command, tyro.conf.subcommand(name)]
        union = each if union is None else union | each
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(
                union, prog="pixelprior", args=arguments, use_underscores=True
            )
    except SystemExit as stop:
        if stop.code:
            text = complaint.getvalue().translate(dict.fromkeys(map(ord, "╭╮╰╯│─")))
            _say("error", "; ".join(filter(None, map(str.strip, text.splitlines()))))
        raise


def _say(kind: str, message: str) -> None:
    """One line on stderr, whatever a file's name or a library's error holds."""
    line = " ".join(message.split())
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
    print(f"pixelprior: {kind}: {line}", file=sys.stderr)


def _warn_in_one_line(message, *_details, **_more) -> None:
    _say("warning", str(message))


def _lacks_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError | OverflowError) or (
        isinstance(error, RuntimeError) and "memory" in str(error).lower()
    )


def main(arguments: list[str] | None = None) -> None:
    """Run a command; exit status 2 for bad input, 1 for a run that failed."""
    command = _parse(sys.argv[1:] if arguments is None else arguments)
    warnings.showwarning = _warn_in_one_line
    if not isinstance(command, Benchmark):  # it times a process as torch has it
        keep_freed_memory()
    try:
        command.run()
    except (ValueError, OSError, FloatingPointError) as error:
        if os.environ.get("PIXELPRIOR_DEBUG"):
            raise
        _say("error", str(error))
        raise SystemExit(1 if isinstance(error, FloatingPointError) else 2) from None
    except (RuntimeError, MemoryError, OverflowError) as error:
        if os.environ.get("PIXELPRIOR_DEBUG") or not _lacks_memory(error):
            raise
        reason = str(error).splitlines()[0] if str(error) else "out of memory"
        _say("error", f"too large for this machine ({reason}); choose smaller sizes")
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        _say("error", "interrupted; a training run goes on with --resume")
        raise SystemExit(130) from None
