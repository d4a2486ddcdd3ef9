"""The flags of `sample`; `drawing.py` does the work.

Nothing here loads torch, so that `--help` answers at once.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from pixelprior.cli.flags import Options


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
        from pixelprior.cli.drawing import Drawing

        Drawing(self).run()
