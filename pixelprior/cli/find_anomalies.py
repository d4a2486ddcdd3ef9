"""The flags of `find-anomalies`; `anomaly_search.py` does the work."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(kw_only=True)
class FindAnomalies:
    """Score image files by how odd they are, given normal ones, and draw what should be
    in the place of what is odd. A folder in the layout of MVTec AD is evaluated too."""

    data_root: Path
    """Folder of the images to search, with any folders in it. They are scaled until
    they cover the images of the VQ-VAE-2, and cropped in the centre."""
    calibrate: Path
    """Folder of normal images that were not trained on, 250 or more for the default
    --rate, or the calibration.safetensors of an earlier run."""
    vqvae2_checkpoint: Path
    """Checkpoint of the VQ-VAE-2, trained on normal images."""
    prior_checkpoint: Path
    """Checkpoint of the prior, trained on the codes of this VQ-VAE-2."""
    label: int | None = None
    """Class that all images should be of, for a prior with classes. It may be left out
    if the prior was trained with --label_dropout."""
    rate: float = 0.01
    """False-alarm rate: the share of normal images that may be flagged."""
    draws: int = 8
    """Number of restorations per image."""
    seed: int = 0
    """Seed of the restorations. The same seed gives the same scores and maps."""
    output_dir: Path = Path("./pixelprior_anomalies")
    """Folder for scores.csv, summary.png, a picture of each flagged image in flagged/,
    and calibration.safetensors; with masks also for results.json, results.md and the
    maps of all images."""
    resume: bool = False
    """Search only the images that are missing in --output_dir. All flags that affect
    the scores must be the same as before."""
    device: str | None = None
    """Device to search on, such as cuda. If it is left out, the GPU is used if there is
    one."""

    def run(self) -> None:
        from pixelprior.cli.anomaly_search import Finding

        Finding(self).run()
