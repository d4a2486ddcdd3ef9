"""The flags of each command, with their units and defaults, for tyro.

Flags that set numbers of a training or of a benchmark are fields in `settings.py` and
`benchmark/sizes.py`. Nothing here loads torch, so that `--help` answers at once. What a
command does is in the module that its `run` imports.
"""

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from pixelprior.benchmark.sizes import Sizes
from pixelprior.cli.recipes import RECIPES
from pixelprior.settings import TrainingSettings

# The names in `data.DATASETS`, `assets.SHIPPED` and `sampling.METHODS`, which a test
# compares with these.
Dataset = Literal[
    "fashion_mnist_mini", "fashion_mnist", "mnist", "cifar10", "cifar100", "imagefolder"
]
Shipped = Literal["fashion_mnist"]
Method = Literal["auto", "naive", "rows", "cached", "graph"]


@dataclass(kw_only=True)
class TrainingFlags:
    """Flags that both training commands share."""

    dataset: Dataset = "cifar10"
    """Data set to train on. fashion_mnist_mini ships with the package. imagefolder is
    the folder given by --data_root, with one folder per class."""
    data_root: Path | None = None
    """Folder of the data. If it is left out, $PIXELPRIOR_DATA is used, else a cache
    folder."""
    max_images: int | None = None
    """Number of images to train and evaluate on, for short trials. They are picked at
    random, the same ones for every seed."""
    validation_share: float = 0.05
    """Share of the training images, at most 5,000, that are held out to choose the
    best epoch. With 0, all images are trained on and best is the last epoch. Give a
    prior the share of its VQ-VAE-2, so that both hold out the same images."""
    settings: Annotated[TrainingSettings, tyro.conf.arg(name="")] = field(
        default_factory=TrainingSettings
    )
    resume: bool = False
    """Continue the run in --output_dir. All flags must be the same as before, but
    --epochs and the number of processes may differ."""
    use_tensorboard: bool = False
    """Log to TensorBoard, in --output_dir."""
    use_wandb: bool = False
    """Log to Weights & Biases (WANDB_MODE=offline keeps the log on this machine)."""

    @classmethod
    def of(cls, **flags):
        """A command from flags by their names, including those of `settings`."""
        settings = cls.__dataclass_fields__["settings"].default_factory()
        names = {setting.name for setting in fields(settings)} & flags.keys()
        changed = {name: flags.pop(name) for name in names}
        return cls(settings=replace(settings, **changed), **flags)


@dataclass(kw_only=True)
class TrainVQVAE2(TrainingFlags):
    """Train a VQ-VAE-2, which turns images into two grids of codes, and back."""

    image_size: int = 32
    """Height and width of the images in pixels."""
    hidden_channels: int = 128
    """Channels of the convolutions."""
    settings: Annotated[TrainingSettings, tyro.conf.arg(name="")] = field(
        default_factory=lambda: TrainingSettings(ema_decay=0.0)
    )
    embedding_dim: int = 64
    """Length of a code's vector."""
    num_embeddings: int = 512
    """Number of codes in each of the two codebooks."""
    bottom_downsampling: int = 2
    """Pixels along each side of the square that a bottom code covers; a top code covers
    twice as many. 4 suits images of 64 pixels, and 8 suits images of 128 pixels."""
    bottom_dropout: float = 0.1
    """Share of images that are reconstructed from their top codes alone during
    training, so that the top codes are used."""
    sample_every: int = 5
    """Number of epochs from one picture of reconstructions to the next."""
    output_dir: Path = Path("./outputs/vqvae2")
    """Folder for the checkpoints best and last, history.json and pictures."""

    def run(self) -> None:
        from pixelprior.cli.train import train_vqvae2

        train_vqvae2(self)


@dataclass(kw_only=True)
class TrainPrior(TrainingFlags):
    """Train the prior over the codes of a trained VQ-VAE-2."""

    vqvae2_checkpoint: Path
    """Checkpoint of the VQ-VAE-2: a folder or a .pth file."""
    level: Literal["top", "bottom", "both"] = "both"
    """Level to train."""
    without_top: bool = False
    """Train the bottom level with top codes that are all 0. The gain from the top codes
    is measured against this level. Needs --level bottom."""
    init_checkpoint: Path | None = None
    """Checkpoint of a prior to start from, such as one whose other level is already
    trained."""
    class_conditional: bool = False
    """Condition the prior on the class labels of the images."""
    label_dropout: float = 0.0
    """Share of images whose label is withheld during training, such as 0.1. It makes
    --guidance possible in the command sample, and needs --class_conditional."""
    hidden_channels: int = 128
    """Channels of each stack."""
    num_layers: int = 15
    """Number of gated blocks per level."""
    kernel_size: int = 3
    """Kernel size of the gated blocks; odd, 3 or more."""
    attention_layers: int = 0
    """Number of attention layers over the past in the top level; 0 means none."""
    attention_heads: int = 4
    """Heads of each attention layer, a divisor of --hidden_channels."""
    dropout: float = 0.1
    """Share of features that are dropped during training."""
    temperature: float = 1.0
    """Temperature of the sample pictures; it does not affect the training."""
    sample_every: int = 5
    """Number of epochs from one picture of samples to the next."""
    output_dir: Path = Path("./outputs/pixelcnn_prior")
    """Folder for the checkpoints best and last, codes, history.json and pictures."""

    def run(self) -> None:
        from pixelprior.cli.train import train_prior

        train_prior(self)


def one_or_two(guidance: tuple[float, ...]) -> tuple[float, ...]:
    """The guidance of both levels; a single number holds for both."""
    return guidance * 2 if len(guidance) == 1 else guidance


@dataclass(kw_only=True)
class Sample:
    """Draw new images from a trained prior."""

    vqvae2_checkpoint: Path
    """Checkpoint of the VQ-VAE-2: a folder or a .pth file."""
    prior_checkpoint: Path
    """Checkpoint of the prior: a folder or a .pth file."""
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
    batch_size: int = 16
    """Images per batch."""
    output_dir: Path = Path("./generated_samples")
    """Folder for sample_00000.png and so on."""
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

    dataset: Dataset = "fashion_mnist"
    """Data set whose test images are measured on, and whose training images the samples
    are compared with."""
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
class Reproduce:
    """Run a recipe from images to weights in half precision, results and model card. A
    run that was stopped continues: what is already trained is not trained again."""

    recipe: tyro.conf.Positional[Literal[tuple(RECIPES)]]
    """Name of the recipe. fashion_mnist made the shipped weights; fashion_mnist_mini
    takes minutes and needs no data; cifar10 is for a GPU; cifar10_reduced is for two
    cores."""
    data_root: Path | None = None
    """Folder of the data. If it is left out, $PIXELPRIOR_DATA is used, else a cache
    folder."""
    dataset: Dataset | None = None
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
class Demo:
    """Draw 64 new images of clothes with the shipped weights. This needs no network."""

    output_dir: Path = Path("./pixelprior_demo")
    """Folder for samples.png and reconstructions.png, and for chosen_samples.png if a
    setting was chosen for the shipped prior."""
    seed: int = 0
    """Seed of the images. The same seed gives the same images."""
    temperature: float = 1.0
    """Number that divides the logits in samples.png: below 1 the images are safer,
    above 1 more diverse."""

    def run(self) -> None:
        from pixelprior.cli.sample import demo

        demo(self)


@dataclass(kw_only=True)
class Doctor:
    """Check whether this machine is ready for the course, and name the fix of each
    fault."""

    def run(self) -> None:
        from pixelprior.cli.doctor import report

        report()
