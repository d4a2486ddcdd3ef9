"""The Fréchet distance in Inception's features, the FID, by torchmetrics.

Inception's weights are downloaded once by torch-fidelity; without them the other
distances in this folder remain, which need no network.
"""

import torch

from pixelprior.data.images import ImageData


def inception_metric(device="cpu"):
    """The metric of `inception_distances`. Inception's weights are downloaded once.

    Args:
        device: the device on which Inception runs. In place of Apple's GPUs, which lack
            the float64 that the features are summed in, it is the CPU.

    Raises:
        ValueError: torch-fidelity is not installed, or Inception's weights, which it
            downloads, are not available.
    """
    # Imported only here, because the import takes seconds and is rarely needed.
    from torchmetrics.image.fid import FrechetInceptionDistance

    try:
        metric = FrechetInceptionDistance(feature=2048)
    except (ModuleNotFoundError, OSError) as error:
        raise ValueError(
            f"the Inception distance is not available ({str(error).splitlines()[0]}); "
            "install torch-fidelity, which downloads Inception's weights once, or "
            "leave --inception out"
        ) from error
    return metric.to("cpu" if torch.device(device).type == "mps" else device)


def inception_distances(metric, sets: dict, heldout: ImageData) -> dict[str, float]:
    """The FID between each set of images and the held-out images.

    The FID is the Fréchet distance in Inception's features.

    Args:
        metric: as returned by `inception_metric`.
        sets: `ImageData` by name. heldout: images that are encoded once for all sets.

    Returns:
        {name: FID}.
    """
    metric.reset_real_features = True
    metric.reset()
    _encode(metric, heldout, real=True)
    metric.reset_real_features, distances = False, {}
    for name, data in sets.items():
        metric.reset()
        _encode(metric, data, real=False)
        distances[name] = metric.compute().item()
    return distances


def _encode(metric, data: ImageData, *, real: bool) -> None:
    """Add all images to an `inception_metric`, as its real images or as the others."""
    for images in data.images.split(100):
        colour = images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
        metric.update(colour.to(metric.device), real=real)
