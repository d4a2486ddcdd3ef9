"""What each command takes: its flags, their units and defaults, for tyro.

Nothing here loads torch, so that `--help` answers at once. What a command does is in
the module that its `run` names.
"""

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from pixelprior.benchmark.sizes import Sizes
from pixelprior.cli.recipes import RECIPES
from pixelprior.settings import TrainingSettings

Dataset = Literal[
    "fashion_mnist_mini", "fashion_mnist", "mnist", "cifar10", "cifar100", "imagefolder"
]
Method = Literal["auto", "naive", "rows", "cached", "graph"]


@dataclass(kw_only=True)
class TrainingFlags:
    """Flags that both training commands share."""

    dataset: Dataset = "cifar10"
    """Training images. fashion_mnist_mini ships with the package; imagefolder is the
    folder named by --data_root, one folder per class."""
    data_root: Path | None = None
    """Folder of the data; else $PIXELPRIOR_DATA, else a cache folder."""
    max_images: int | None = None
    """Train and evaluate on this many images, picked by the seed; for short trials."""
    validation_share: float = 0.05
    """Share of the training images, at most 5,000, that are held out to choose the
    best epoch; 0 trains on all, and best is the last. Give a prior the share and the
    seed of its VQ-VAE-2: then the same images are held out of both."""
    settings: Annotated[TrainingSettings, tyro.conf.arg(name="")] = field(
        default_factory=TrainingSettings
    )
    resume: bool = False
    """Go on with the run in --output_dir, with the same flags; --epochs and the number
    of processes may differ."""
    use_tensorboard: bool = False
    """Log to TensorBoard, in --output_dir."""
    use_wandb: bool = False
    """Log to Weights & Biases (WANDB_MODE=offline keeps it on this machine)."""

    @classmethod
    def of(cls, **flags):
        """A command from flags by their names, those of `settings` among them."""
        settings = cls.__dataclass_fields__["settings"].default_factory()
        names = {setting.name for setting in fields(settings)} & flags.keys()
        changed = {name: flags.pop(name) for name in names}
        return cls(settings=replace(settings, **changed), **flags)


@dataclass(kw_only=True)
class TrainVQVAE2(TrainingFlags):
    """Train a VQ-VAE-2: images to two grids of codes, and back."""

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
    """Codes in each of the two codebooks."""
    bottom_downsampling: int = 2
    """Pixels along each side of the square that a bottom code covers; a top code covers
    twice as many. 4 suits images of 64 pixels, 8 those of 128."""
    bottom_dropout: float = 0.1
    """Share of images that are rebuilt from their top codes alone while training, so
    that the top codes are put to use."""
    sample_every: int = 5
    """Write a picture of reconstructions every so many epochs."""
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
    """Which level to train."""
    without_top: bool = False
    """Give the bottom level top codes that are all 0: what it reaches without the top
    is what the top is measured by. Needs --level bottom."""
    init_checkpoint: Path | None = None
    """Prior to start from, such as one whose other level is trained already."""
    class_conditional: bool = False
    """Give the prior the images' class labels."""
    hidden_channels: int = 128
    """Channels of each stack."""
    num_layers: int = 15
    """Gated blocks per level."""
    kernel_size: int = 3
    """Kernel of the gated blocks; odd."""
    attention_layers: int = 0
    """Layers of attention over the past in the top level; 0 is none."""
    attention_heads: int = 4
    """Heads of each; hidden_channels is a multiple of it."""
    dropout: float = 0.1
    """Share of features dropped while training."""
    temperature: float = 1.0
    """Temperature of the sample pictures; does not touch the training."""
    sample_every: int = 5
    """Write a picture of samples every so many epochs."""
    output_dir: Path = Path("./outputs/pixelcnn_prior")
    """Folder for the checkpoints best and last, codes, history.json and pictures."""

    def run(self) -> None:
        from pixelprior.cli.train import train_prior

        train_prior(self)


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
    """Images per batch."""
    output_dir: Path = Path("./generated_samples")
    """Folder for sample_00000.png and so on."""
    save_grid: bool = False
    """Write grid.png with all images as well."""
    grid_nrow: int = 10
    """Images in a row of the grid."""
    device: str | None = None
    """Device to draw on, such as cuda; the GPU if there is one."""
    method: Method = "auto"
    """How: all give the same codes; graph needs a CUDA device."""
    bf16: bool = False
    """Draw in bfloat16: faster in large batches where the processor has it; other
    codes, as likely as float32's."""

    def run(self) -> None:
        from pixelprior.cli.sample import sample

        sample(self)


@dataclass(kw_only=True)
class Evaluate:
    """Measure a trained prior: likelihoods, codes in use, reconstructions, distances
    and accuracy scores of samples. Without checkpoints, the shipped weights."""

    dataset: Dataset = "fashion_mnist"
    """Images to measure on, and the training images to compare samples with."""
    data_root: Path | None = None
    """Folder of the data; else $PIXELPRIOR_DATA, else a cache folder."""
    vqvae2_checkpoint: Path | None = None
    """Checkpoint of the VQ-VAE-2; the shipped one without."""
    prior_checkpoint: Path | None = None
    """Checkpoint of the prior; the shipped one without."""
    without_top_checkpoint: Path | None = None
    """Checkpoint of the bottom level trained with --without_top, for the gain from the
    top codes."""
    classifier_checkpoint: Path | None = None
    """Classifier whose features the Fréchet distance is measured in. Without one, the
    shipped one for Fashion-MNIST, else one trained here."""
    num_samples: int = 10_000
    """Images to draw; no more than there are training images."""
    seed: int = 0
    """Seed of samples, classifiers and intervals."""
    inception: bool = False
    """Measure the Fréchet distance in Inception's features too (needs torch-fidelity,
    which downloads its weights)."""
    device: str | None = None
    """Device to draw and measure on, such as cuda; the GPU if there is one."""
    output_dir: Path = Path("./pixelprior_results")
    """Folder for results.json, results.md and pictures."""

    def run(self) -> dict:
        from pixelprior.cli.evaluate import evaluate

        return evaluate(self)


@dataclass(kw_only=True)
class Reproduce:
    """Run a recipe from images to weights in half precision, results and model card.
    A run that was stopped goes on: what is trained already is not trained again."""

    recipe: tyro.conf.Positional[Literal[tuple(RECIPES)]]
    """Which: fashion_mnist made the shipped weights; fashion_mnist_mini takes minutes
    and no data; cifar10 is for a GPU; cifar10_reduced for two cores."""
    data_root: Path | None = None
    """Folder of the data; else $PIXELPRIOR_DATA, else a cache folder."""
    dataset: Dataset | None = None
    """Other images than the recipe's, such as imagefolder for CIFAR-10 as files."""
    output_dir: Path | None = None
    """Folder for runs/, weights/, results/ and reproduce.log; ./outputs/RECIPE
    without."""

    def run(self) -> None:
        from pixelprior.cli.reproduce import Reproduction

        Reproduction(self).run()


@dataclass(kw_only=True)
class Benchmark:
    """Time sampling by every method, and a training step, as ratios. The defaults take
    about ten minutes on two cores; nothing else should run meanwhile."""

    sizes: Annotated[Sizes, tyro.conf.arg(name="")] = field(default_factory=Sizes)
    training: bool = False
    """Time whole training loops instead, on the codes of the embedded images: plain
    ones and this package's, with their loss curves."""
    training_batch_size: int = 32
    """Images per step of the training loops."""
    training_steps: int = 64
    """Steps of each training loop, in eight parts."""
    output_dir: Path = Path("./pixelprior_benchmark")
    """Folder for benchmark.json, .md and .png; for training.json and .md."""
    device: str | None = None
    """Device to time sampling on, such as cuda; the GPU if there is one."""

    def run(self) -> None:
        from pixelprior.cli.benchmark import benchmark

        benchmark(self)


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
        from pixelprior.cli.sample import demo

        demo(self)


@dataclass(kw_only=True)
class Doctor:
    """Say whether this machine is ready for the course, and how to fix what is not."""

    def run(self) -> None:
        from pixelprior.cli.doctor import report

        report()
