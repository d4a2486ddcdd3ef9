"""Data and weights that ship with the package; README.md says where they are from."""

from pathlib import Path

FOLDER = Path(__file__).parent


def load_shipped():
    """The shipped VQ-VAE-2 and class-conditional prior for Fashion-MNIST.

    Returns:
        (VQVAE2, HierarchicalPixelCNN), in evaluation mode.
    """
    from pixelprior.checkpoints import load_model
    from pixelprior.prior import HierarchicalPixelCNN
    from pixelprior.vqvae2 import VQVAE2

    return (
        load_model(VQVAE2, FOLDER / "fashion_mnist_vqvae2"),
        load_model(HierarchicalPixelCNN, FOLDER / "fashion_mnist_prior"),
    )


def load_shipped_reference_models():
    """The models by which the shipped prior is measured.

    Returns:
        (ConditionalPixelCNN, Classifier), in evaluation mode: the bottom level trained
        without the top codes, and a classifier of the images of Fashion-MNIST.
    """
    from pixelprior.checkpoints import load_model
    from pixelprior.evaluation.classifier import Classifier
    from pixelprior.pixelcnn import ConditionalPixelCNN

    return (
        load_model(ConditionalPixelCNN, FOLDER / "fashion_mnist_without_top"),
        load_model(Classifier, FOLDER / "fashion_mnist_classifier"),
    )
