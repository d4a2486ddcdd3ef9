"""The flags of `sample`; `drawing.py` does the work.

Nothing here loads torch, so that `--help` answers at once.
"""

from dataclasses import dataclass
from pathlib import Path

from pixelprior.cli.flags import Method


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
    temperature: float = 1.0
    """Number that divides the logits: below 1 the images are safer, above 1 more
    diverse."""
    top_k: int | None = None
    """Draw each code only from this many of the most likely codes."""
    top_p: float | None = None
    """Draw each code only from the most likely codes that together hold this share of
    the probability, in (0, 1]."""
    guidance: tuple[float, ...] = (0.0,)
    """Guidance w towards the class: the logits are (1 + w) times those with the label
    minus w times those without it. One number, or two for the top and the bottom level.
    Above 0 it needs a prior that was trained with --label_dropout."""
    label: int | None = None
    """Class of all images. If it is left out, a prior with classes draws all classes in
    turn."""
    seed: int = 0
    """Seed of the images. The same seed gives the same images in any batch size."""
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
    method: Method = "auto"
    """Sampling method. All methods give the same codes; graph needs a CUDA device."""
    bf16: bool = False
    """Draw in bfloat16. This is faster in large batches if the processor has it. It
    gives other codes, which are as likely as those of float32."""

    def run(self) -> None:
        from pixelprior.cli.drawing import Drawing

        Drawing(self).run()
