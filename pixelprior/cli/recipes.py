"""Recipes for `pixelprior reproduce`: named sets of flags of the training commands."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Recipe:
    """Flags of both training commands, except for the folders."""

    about: str  # what it is for, and what it was run on
    vqvae2: dict  # flags of `train-vqvae2`
    prior: dict  # flags of `train-prior`
    # Those that differ at the top level, which is then trained first and alone.
    top: dict = field(default_factory=dict)
    classifier_epochs: int = 10  # of the features of the Fréchet distance
    num_samples: int = 10_000  # to measure, as in `evaluate`
    samples_per_setting: int = 5000  # of these, to compare the settings of sampling by
    # Of further trainings of the prior, to see how much figures change by it alone.
    more_seeds: tuple[int, ...] = ()
    without_top: bool = True  # also train it, to measure the gain from the top codes


OF_VQVAE2 = {"num_embeddings": 30, "embedding_dim": 32, "hidden_channels": 64}
OF_VQVAE2 |= {"bottom_dropout": 0.05, "batch_size": 64, "lr": 1e-3}
OF_PRIOR = {"class_conditional": True, "label_dropout": 0.1, "hidden_channels": 80}
OF_PRIOR |= {"num_layers": 9, "batch_size": 32, "save_steps": 300}
OF_BOTH = {"validation_share": 0.03, "sample_every": 1}
FASHION_MNIST = Recipe(
    about="the shipped weights of Fashion-MNIST, in a night on two cores",
    vqvae2=OF_VQVAE2 | OF_BOTH | {"dataset": "fashion_mnist", "epochs": 16},
    prior=OF_PRIOR
    | OF_BOTH
    | {"dataset": "fashion_mnist", "dropout": 0.1, "epochs": 7, "lr": 3e-3}
    | {"attention_layers": 2},
    top={"epochs": 9, "lr": 1.5e-3},  # with attention, 3e-3 is too much
    more_seeds=(1,),
)
FASHION_MNIST_MINI = Recipe(
    about="the same pipeline on the embedded images in minutes, to see it work",
    vqvae2=FASHION_MNIST.vqvae2
    | {"dataset": "fashion_mnist_mini", "hidden_channels": 32, "epochs": 5}
    | {"lr": 2e-3, "validation_share": 0.0},
    prior=FASHION_MNIST.prior
    | {"dataset": "fashion_mnist_mini", "hidden_channels": 32, "num_layers": 6}
    | {"dropout": 0.0, "epochs": 4, "validation_share": 0.0, "attention_layers": 0},
    classifier_epochs=5,
    num_samples=1000,
)
CIFAR10 = Recipe(
    about="the shipped weights of CIFAR-10, in three hours on two cores",
    vqvae2=FASHION_MNIST.vqvae2
    | {"dataset": "cifar10", "num_embeddings": 32, "flip": True, "epochs": 6},
    prior=FASHION_MNIST.prior
    | {"dataset": "cifar10", "flip": True, "dropout": 0.0, "epochs": 4, "lr": 2e-3},
    classifier_epochs=20,
    samples_per_setting=2000,
    without_top=False,
)
OF_EMOJI = {"dataset": "emoji", "flip": True, "shift": 1, "batch_size": 32, "lr": 2e-3}
OF_EMOJI |= {"validation_share": 0.1, "sample_every": 20}
EMOJI = Recipe(
    about="the shipped weights of emoji, in half an hour on two cores",
    vqvae2=OF_VQVAE2
    | OF_EMOJI
    | {"num_embeddings": 32, "hidden_channels": 32, "epochs": 80},
    prior=OF_PRIOR
    | OF_EMOJI
    | {"hidden_channels": 48, "num_layers": 6, "dropout": 0.2}
    | {"epochs": 120, "lr": 3e-3},
    classifier_epochs=60,
    num_samples=1443,
    samples_per_setting=1000,
    without_top=False,
)
CIFAR10_LARGE = Recipe(
    about="for a GPU: days on a processor; not run in full yet",
    vqvae2={"dataset": "cifar10", "epochs": 100, "batch_size": 128, "lr": 3e-4},
    prior={"dataset": "cifar10", "class_conditional": True, "attention_layers": 3}
    | {"epochs": 150, "batch_size": 128, "lr": 3e-4},
    classifier_epochs=30,
)
CIFAR10_REDUCED = Recipe(
    about="CIFAR-10 in minutes on two cores: one epoch of small networks",
    vqvae2=CIFAR10_LARGE.vqvae2
    | {"num_embeddings": 128, "embedding_dim": 32, "hidden_channels": 64}
    | {"epochs": 1, "batch_size": 64, "lr": 1e-3, "sample_every": 1}
    | {"validation_share": 0.0},
    prior=FASHION_MNIST_MINI.prior
    | {"dataset": "cifar10", "epochs": 1, "label_dropout": 0.0},
    classifier_epochs=4,
    num_samples=2000,
)
RECIPES = {
    "fashion_mnist": FASHION_MNIST,
    "fashion_mnist_mini": FASHION_MNIST_MINI,
    "cifar10": CIFAR10,
    "emoji": EMOJI,
    "cifar10_large": CIFAR10_LARGE,
    "cifar10_reduced": CIFAR10_REDUCED,
}
