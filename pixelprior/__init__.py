"""pixelprior: hierarchical PixelCNN priors over the codes of a VQ-VAE-2."""

from pixelprior.editing import complete, surprise, vary
from pixelprior.layers import GatedBlock, MaskedConv2d
from pixelprior.pixelcnn import ConditionalPixelCNN, PixelCNN
from pixelprior.prior import HierarchicalPixelCNN
from pixelprior.vqvae2 import VQVAE2

__all__ = [
    "VQVAE2",
    "ConditionalPixelCNN",
    "GatedBlock",
    "HierarchicalPixelCNN",
    "MaskedConv2d",
    "PixelCNN",
    "complete",
    "surprise",
    "vary",
]
__version__ = "0.1.0"
