"""pixelprior: hierarchical PixelCNN priors over the codes of a VQ-VAE-2.

The names that users need first are exported here. Each name is imported from its module
on first access, so that the command line can answer `--help` without loading torch.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pixelprior.assets import load_shipped
    from pixelprior.data.codes import CodeData, extract_codes, read_codes
    from pixelprior.data.images import load_images
    from pixelprior.data.tokenizers import DiffusersTokenizer, FunctionTokenizer
    from pixelprior.editing import complete, surprise, vary
    from pixelprior.layers import GatedBlock, MaskedConv2d
    from pixelprior.pixelcnn import ConditionalPixelCNN, PixelCNN
    from pixelprior.prior import HierarchicalPixelCNN
    from pixelprior.settings import SamplingOptions, TrainingSettings
    from pixelprior.training import fit
    from pixelprior.vqvae2 import VQVAE2

__all__ = [
    "VQVAE2",
    "CodeData",
    "ConditionalPixelCNN",
    "DiffusersTokenizer",
    "FunctionTokenizer",
    "GatedBlock",
    "HierarchicalPixelCNN",
    "MaskedConv2d",
    "PixelCNN",
    "SamplingOptions",
    "TrainingSettings",
    "complete",
    "extract_codes",
    "fit",
    "load_images",
    "load_shipped",
    "read_codes",
    "surprise",
    "vary",
]
__version__ = "0.2.0"

MODULES = {
    "VQVAE2": "vqvae2",
    "CodeData": "data.codes",
    "ConditionalPixelCNN": "pixelcnn",
    "DiffusersTokenizer": "data.tokenizers",
    "FunctionTokenizer": "data.tokenizers",
    "GatedBlock": "layers",
    "HierarchicalPixelCNN": "prior",
    "MaskedConv2d": "layers",
    "PixelCNN": "pixelcnn",
    "SamplingOptions": "settings",
    "TrainingSettings": "settings",
    "complete": "editing",
    "extract_codes": "data.codes",
    "fit": "training",
    "load_images": "data.images",
    "load_shipped": "assets",
    "read_codes": "data.codes",
    "surprise": "editing",
    "vary": "editing",
}


def __getattr__(name: str):
    if name not in MODULES:
        raise AttributeError(f"module 'pixelprior' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"pixelprior.{MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
