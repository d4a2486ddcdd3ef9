"""The flags of all commands but the training ones, with their units and defaults.

Flags that set numbers of a benchmark are fields in `benchmark/sizes.py`, and those of
the training commands are in `training_flags.py`. Nothing here loads torch, so that
`--help` answers at once. What a command does is in the module that its `run` imports.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from pixelprior.benchmark.sizes import Sizes
from pixelprior.cli.recipes import RECIPES

# The names in `assets.SHIPPED` and `sampling.METHODS`; a test compares them.
Shipped = Literal["fashion_mnist", "cifar10"]
Method = Literal["auto", "naive", "rows", "cached", "graph"]


def one_or_two(guidance: tuple[float, ...]) -> tuple[float, ...]:
    """The guidance of both levels; a single number holds for both."""
    return guidance * 2 if len(guidance) == 1 else guidance


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
    """Images per batch. If it is left out, as many as fit into half of the free memory,
    at most 256, are drawn together."""
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
        from pixelprior.cli.sample import sample

        sample(self)


@dataclass(kw_only=True)
class Evaluate:
    """Measure a trained prior: likelihoods, codes in use, reconstructions, distances
    and accuracy scores of samples. Without checkpoints, the shipped weights are
    measured."""

    dataset: str | None = None
    """Data set whose test images are measured on, and whose training images the samples
    are compared with; see train-prior. If it is left out, it is the one that --weights
    names, else fashion_mnist."""
    data_root: Path | None = None
    """Folder of the data. If it is left out, $PIXELPRIOR_DATA is used, else a cache
    folder."""
    weights: Shipped | None = None
    """Name of the shipped weights to measure. If it is left out, those for the data set
    are measured, unless there are checkpoints."""
    vqvae2_checkpoint: Path | None = None
    """Checkpoint of the VQ-VAE-2. If it is left out, the shipped VQ-VAE-2 is used."""
    prior_checkpoint: Path | None = None
    """Checkpoint of the prior. If it is left out, the shipped prior is used."""
    without_top_checkpoint: Path | None = None
    """Checkpoint of the bottom level trained with --without_top, for the gain from the
    top codes."""
    classifier_checkpoint: Path | None = None
    """Checkpoint of the classifier whose features the Fréchet distance is measured in.
    If it is left out, the shipped classifier for the data set is used, or if there is
    none, a classifier is trained first."""
    max_images: int | None = None
    """Number of images of each split to measure with, as in train-prior."""
    codes: Path | None = None
    """File of codes to measure the likelihood of a prior on, in place of images; see
    --codes of train-prior. It needs --prior_checkpoint."""
    num_samples: int = 10_000
    """Number of images to draw, at most the number of training images."""
    temperature: float | None = None
    """Temperature of the second set of samples. With any of --temperature, --top_k,
    --top_p and --guidance, as in sample, such a set is measured beside samples of the
    prior itself. If all are left out, it is drawn at the setting in the prior's
    sampling.json, if there is one."""
    top_k: int | None = None
    """top_k of the second set of samples."""
    top_p: float | None = None
    """top_p of the second set of samples."""
    guidance: tuple[float, ...] | None = None
    """Guidance of the second set of samples: one number, or two for the levels."""
    seed: int = 0
    """Seed of samples, classifiers and intervals."""
    inception: bool = False
    """Also measure the Fréchet distance in Inception's features. This needs
    torch-fidelity, which downloads Inception's weights."""
    device: str | None = None
    """Device to draw and measure on, such as cuda. If it is left out, the GPU is used
    if there is one."""
    output_dir: Path = Path("./pixelprior_results")
    """Folder for results.json, results.md and pictures."""

    def run(self) -> dict:
        from pixelprior.cli.evaluate import evaluate

        return evaluate(self)


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
        from pixelprior.cli.find_anomalies import Finding

        Finding(self).run()


@dataclass(kw_only=True)
class Reproduce:
    """Run a recipe from images to weights in half precision, results and model card. A
    run that was stopped continues: what is already trained is not trained again, nor
    are weights that were put into weights/NAME of the output folder."""

    recipe: tyro.conf.Positional[Literal[tuple(RECIPES)]]
    """Name of the recipe. fashion_mnist and cifar10 made the shipped weights on two
    cores; fashion_mnist_mini takes minutes and needs no data; cifar10_large is for a
    GPU; cifar10_reduced is one epoch of small networks, in minutes."""
    data_root: Path | None = None
    """Folder of the data. If it is left out, $PIXELPRIOR_DATA is used, else a cache
    folder."""
    dataset: str | None = None
    """Data set in place of the recipe's, such as imagefolder for CIFAR-10 as files."""
    output_dir: Path | None = None
    """Folder for runs/, weights/, results/ and reproduce.log. If it is left out,
    ./outputs/reproduce_RECIPE is used."""

    def run(self) -> None:
        from pixelprior.cli.reproduce import Reproduction

        Reproduction(self).run()


@dataclass(kw_only=True)
class Benchmark:
    """Time sampling by every method, and a training step, as ratios. The defaults take
    about ten minutes on two cores; no other program should run meanwhile."""

    sizes: Annotated[Sizes, tyro.conf.arg(name="")] = field(default_factory=Sizes)
    training: bool = False
    """Time whole training loops instead, with their loss curves: plain loops and this
    package's loop, on the codes of the embedded images."""
    training_batch_size: int = 32
    """Images per step of the training loops."""
    training_steps: int = 64
    """Number of steps of each training loop, in eight parts."""
    output_dir: Path = Path("./pixelprior_benchmark")
    """Folder for benchmark.json, .md and .png, or with --training for training.json and
    .md."""
    device: str | None = None
    """Device to time sampling on, such as cuda. If it is left out, the GPU is used if
    there is one."""

    def run(self) -> None:
        from pixelprior.cli.benchmark import benchmark

        benchmark(self)


@dataclass(kw_only=True)
class ExportOnnx:
    """Write a VQ-VAE-2 and its prior as ONNX graphs, and compare their logits and
    images with PyTorch's. This needs onnx and onnxruntime."""

    vqvae2_checkpoint: Path | None = None
    """Checkpoint of the VQ-VAE-2. If both checkpoints are left out, the shipped weights
    are written."""
    prior_checkpoint: Path | None = None
    """Checkpoint of the prior, which needs classes and must have no attention."""
    output_dir: Path = Path("./pixelprior_onnx")
    """Folder for the graphs and about.json. An earlier export is replaced."""

    def run(self) -> None:
        from pixelprior.cli.export_onnx import export

        export(self)


@dataclass(kw_only=True)
class Demo:
    """Draw 64 new images with shipped weights. This needs no network."""

    dataset: Shipped = "fashion_mnist"
    """Name of the shipped weights: fashion_mnist draws clothes, and cifar10 animals and
    vehicles in colour."""
    output_dir: Path | None = None
    """Folder for samples.png, for chosen_samples.png if a setting was chosen for the
    shipped prior, and for reconstructions.png if test images ship with the package, as
    they do for fashion_mnist. If it is left out, it is ./pixelprior_demo, or
    ./pixelprior_demo_cifar10."""
    seed: int = 0
    """Seed of the images. The same seed gives the same images."""
    temperature: float = 1.0
    """Number that divides the logits in samples.png: below 1 the images are safer,
    above 1 more diverse."""

    def run(self) -> None:
        from pixelprior.cli.demo import demo

        demo(self)


@dataclass(kw_only=True)
class Doctor:
    """Check whether this machine is ready for the course, and name the fix of each
    fault."""

    def run(self) -> None:
        from pixelprior.cli.doctor import report

        report()


@dataclass(kw_only=True)
class Lab:
    """Open the course in JupyterLab. Outside a checkout, the notebooks are copied to a
    folder of your own first; what you have changed there stays."""

    notebook: tyro.conf.Positional[str] = "00"
    """Number or name of the notebook to open."""
    folder: Path | None = None
    """Folder for the course. If it is left out, a course in this folder or in a
    checkout is opened where it is; otherwise it is copied to ./pixelprior_course."""
    copy_only: bool = False
    """Copy the course, and open nothing."""

    def run(self) -> None:
        from pixelprior.cli.lab import lab

        lab(self)
