"""Data and weights that ship with the package; README.md says where they are from."""

from pathlib import Path

FOLDER = Path(__file__).parent
SHIPPED = ("fashion_mnist", "cifar10", "emoji")  # the data sets whose weights ship
WITH_WITHOUT_TOP = ("fashion_mnist",)  # those with a bottom level without the top codes


def shipped_folder(name: str, part: str) -> Path:
    """The folder of shipped weights.

    Args:
        name: data set that they were trained on, one of `SHIPPED`.
        part: "vqvae2", "prior" or "classifier"; for Fashion-MNIST also "without_top"
            and "unused_top".

    Raises:
        ValueError: no weights for that data set ship.
    """
    if name not in SHIPPED:
        raise ValueError(
            f"there are no shipped weights for {name!r}, only for {', '.join(SHIPPED)};"
            " give one of these (pixelprior evaluate takes it as --weights), or train "
            "weights with pixelprior reproduce"
        )
    return FOLDER / f"{name}_{part}"


def shipped_class_names(name: str = "fashion_mnist") -> list[str]:
    """The names of the classes of a shipped prior, in the order of its labels.

    Raises:
        ValueError: no weights for that data set ship, or their `training.json` is
            absent or damaged.
    """
    from pixelprior.checkpoints import read_training_notes

    folder = shipped_folder(name, "prior")
    names = read_training_notes(folder).get("class_names")
    if not names:
        raise ValueError(
            f"{folder / 'training.json'} names no classes; pip install pixelprior again"
        )
    return names


def load_shipped(name: str = "fashion_mnist"):
    """The shipped VQ-VAE-2 and class-conditional prior for a data set.

    Args:
        name: the data set, one of `SHIPPED`.

    Returns:
        (VQVAE2, HierarchicalPixelCNN), in evaluation mode.
    """
    from pixelprior.checkpoints import load_model
    from pixelprior.prior import HierarchicalPixelCNN
    from pixelprior.vqvae2 import VQVAE2

    return (
        load_model(VQVAE2, shipped_folder(name, "vqvae2")),
        load_model(HierarchicalPixelCNN, shipped_folder(name, "prior")),
    )
