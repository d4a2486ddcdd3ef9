"""Measures of a trained VQ-VAE-2 and prior, on held-out images and on samples.

Each function returns plain numbers or one number per image; `bootstrap` turns the
latter into a mean with its interval. `suite.py` computes all measures together, and
`report.py` shows them.
"""

import copy
import math

import torch
from torch import Tensor

from pixelprior.codes import CodeData
from pixelprior.data import ImageData, as_bytes
from pixelprior.pixelcnn import (
    ConditionalPixelCNN,
    PixelCNN,
    negative_log_likelihood,
)
from pixelprior.prior import LEVELS, HierarchicalPixelCNN
from pixelprior.progress import progress_bar

BATCH_SIZE = 64


@torch.no_grad()
def image_nats(network: PixelCNN, codes: CodeData) -> Tensor:
    """Negative log likelihood of each image's codes of one level, in nats, float64 [N].

    Args:
        network: one level of a prior, in evaluation mode. A `ConditionalPixelCNN` is
            measured on the bottom codes given the top codes, any other network on the
            top codes.
        codes: held-out codes, with labels for a prior with classes.

    Raises:
        ValueError: the codes do not fit the network.
    """
    codes = codes.to(network.embedding.weight.device)
    parts = []
    for indices in progress_bar(
        torch.arange(len(codes), device=codes.z_top.device).split(BATCH_SIZE),
        desc="likelihoods",
        unit="batch",
    ):
        z_top, z_bottom, labels = codes.batch(indices)
        if isinstance(network, ConditionalPixelCNN):
            target, logits = z_bottom, network(z_bottom, z_top, labels)
        else:
            target, logits = z_top, network(z_top, labels)
        nats = negative_log_likelihood(logits, target)  # [B, H, W]
        # To the CPU first: Apple's GPUs have no float64.
        parts.append(nats.cpu().double().sum(dim=(1, 2)))
    return torch.cat(parts)


def nats_per_code(prior, codes: CodeData, levels=LEVELS) -> dict[str, float]:
    """Mean negative log likelihood of each level, in nats per code.

    Args:
        prior: a `HierarchicalPixelCNN`, in evaluation mode, for the codes' codebook.
        codes: as in `image_nats`.
        levels: the levels to measure, of "top" and "bottom".

    Returns:
        {level: nats per code}.

    Raises:
        ValueError: the codes do not fit the prior.
    """
    return {
        level: image_nats(getattr(prior, f"prior_{level}"), codes).mean().item()
        / codes.grid(level)[0].numel()
        for level in levels
    }


def erase_top(codes: CodeData) -> CodeData:
    """The same codes with every top code 0, so that the top grid has no information."""
    return CodeData(
        torch.zeros_like(codes.z_top),
        codes.z_bottom,
        codes.labels,
        codes.num_embeddings,
        codes.class_names,
    )


def code_use(codes: CodeData, level: str) -> dict[str, float]:
    """How much of a codebook is used.

    The share in use is that of the codes that occur at all. The perplexity is
    exp(entropy): that many codes would have the same entropy if all were equally
    frequent.
    """
    used = len(codes.grid(level).unique())
    return {
        "share_in_use": used / codes.num_embeddings,
        "perplexity": math.exp(codes.unigram_entropy(level)),
    }


@torch.no_grad()
def reconstructions(vqvae2, data: ImageData, batch_size: int = 250) -> ImageData:
    """The VQ-VAE-2's reconstructions of images, rounded to whole grey levels."""
    device = next(vqvae2.parameters()).device
    parts = [
        as_bytes(vqvae2(data.batch(part)[0].to(device)))
        for part in torch.arange(len(data)).split(batch_size)
    ]
    return ImageData(torch.cat(parts), data.labels, data.class_names, data.name)


@torch.no_grad()
def decoded(vqvae2, z_top: Tensor, z_bottom: Tensor, batch_size: int = 250) -> Tensor:
    """Codes [N, Ht, Wt] and [N, Hb, Wb] of any integer type to uint8 [N, C, S, S].

    Raises:
        ValueError: the VQ-VAE-2 does not have these codes.
    """
    device = next(vqvae2.parameters()).device
    pairs = zip(z_top.split(batch_size), z_bottom.split(batch_size), strict=True)
    parts = [
        as_bytes(vqvae2.decode_codes(top.to(device), bottom.to(device)))
        for top, bottom in pairs
    ]
    return torch.cat(parts)


def squared_errors(data: ImageData, rebuilt: ImageData) -> Tensor:
    """Mean squared error over each image's pixels, which are in [0, 1], float64 [N]."""
    parts = torch.arange(len(data)).split(1000)
    errors = [
        (data[part][0] - rebuilt[part][0]).cpu().double().square().mean(dim=(1, 2, 3))
        for part in parts
    ]
    return torch.cat(errors)


def samples(
    vqvae2,
    prior,
    count: int,
    *,
    class_names=(),
    seed: int = 0,
    **options,
) -> ImageData:
    """Draw new images of all classes in turn, rounded to whole grey levels.

    Args:
        vqvae2, prior: in evaluation mode.
        count: number of images to draw.
        class_names: names of the prior's labels.
        seed, options: as in `HierarchicalPixelCNN.sample`.

    Returns:
        `count` images, uint8 [count, C, S, S], with the labels that they were drawn
        for. From a prior without classes, all labels are 0 and there are no names.

    Raises:
        ValueError: as in `HierarchicalPixelCNN.sample`.
    """
    labels = prior.labels_in_turn(count)
    drawn = prior.sample_with_vqvae2(
        vqvae2, count, labels=labels, seed=seed, progress=True, **options
    )
    if labels is None:
        labels, class_names = torch.zeros(count, dtype=torch.long), ()
    return ImageData(as_bytes(drawn), labels, tuple(class_names), "samples")


def frechet_distance(one: Tensor, other: Tensor) -> float:
    """Fréchet distance between two sets of features, [N, d] and [M, d].

    Each set is treated as normally distributed: |μ₁ - μ₂|² + tr(Σ₁ + Σ₂ - 2(Σ₁Σ₂)^½)
    (Heusel et al. 2017, arXiv 1706.08500, equation 6). In Inception's features the
    distance is the FID; in others it can only be compared with distances in the same
    features.

    Raises:
        ValueError: a set has fewer than two rows.
    """
    for features in (one, other):
        if len(features) < 2:
            raise ValueError(
                f"{len(features)} row(s) of features have no covariance; give 2 or more"
            )
    one, other = one.cpu().double(), other.cpu().double()
    means = (one.mean(0) - other.mean(0)).square().sum()
    first, second = (
        torch.atleast_2d(torch.cov(features.T)) for features in (one, other)
    )
    # tr (Σ₁Σ₂)^½ is the sum of the roots of its eigenvalues, real and not negative.
    roots = torch.linalg.eigvals(first @ second).real.clamp(min=0).sqrt().sum()
    return (means + first.trace() + second.trace() - 2 * roots).clamp(min=0).item()


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


def nearest(
    data: ImageData, among: ImageData, batch_size: int = 500, device="cpu"
) -> tuple[Tensor, Tensor]:
    """The image of `among` nearest to each image of `data`, by pixels in [0, 1].

    Args:
        data, among: images of the same size.
        batch_size: images of `data` per matrix product.
        device: the device to compute on, which must hold `among` as float32.

    Returns:
        The indices of the nearest images, long [N], and their Euclidean distances,
        float [N]; both on the CPU.
    """
    flat = among.images.to(device).flatten(1).float() / 255  # [M, C · S · S]
    norms, indices, distances = flat.square().sum(1), [], []
    for part in progress_bar(
        torch.arange(len(data)).split(batch_size), desc="neighbours", unit="batch"
    ):
        images = data[part][0].to(device).flatten(1)
        squared = torch.addmm(norms, images, flat.T, alpha=-2)  # without |image|²
        smallest, index = squared.min(dim=1)
        squared = smallest + images.square().sum(1)
        indices.append(index.cpu())
        distances.append(squared.clamp(min=0).sqrt().cpu())
    return torch.cat(indices), torch.cat(distances)


def bootstrap(
    statistic, *values: Tensor, paired: bool = True, rounds: int = 1000, seed: int = 0
) -> dict[str, float]:
    """A statistic of some images, with an interval of 95 %.

    The interval is 1.96 standard deviations to either side. The standard deviation is
    that of the statistic when the images are resampled with replacement (Efron and
    Tibshirani 1993, An Introduction to the Bootstrap, chapter 13).

    Args:
        statistic: a function of `values` to a number.
        values: tensors with one row per image.
        paired: whether the rows of all tensors are of the same images, so that they are
            resampled together.
        rounds: how many times the images are resampled.
        seed: seed of the resampling.

    Returns:
        {"value": the statistic of the given images, "low", "high"}.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = []
    for _ in range(rounds):
        index, again = None, []
        for rows in values:
            if index is None or not paired:
                index = torch.randint(len(rows), (len(rows),), generator=generator)
            again.append(rows[index])
        drawn.append(float(statistic(*again)))
    value = float(statistic(*values))
    reach = 1.96 * torch.tensor(drawn, dtype=torch.float64).std().item()
    return {"value": value, "low": value - reach, "high": value + reach}


def bfloat16_effect(vqvae2, prior: HierarchicalPixelCNN, count: int = 256) -> dict:
    """How sampling in bf16 changes the codes of a trained prior.

    Args:
        vqvae2: gives the sizes of the grids. prior: a trained prior in float32.
        count: number of images to draw in each number format.

    Returns:
        For each level, the share of codes that differ from the float32 sampler's, and
        the nats per code of both samplers' codes under the float32 prior.
    """
    samplers = {"float32": prior, "bfloat16": copy.deepcopy(prior).bfloat16()}
    labels, drawn, effect = prior.labels_in_turn(count), {}, {}
    if labels is not None:
        labels = labels.to(next(prior.parameters()).device)
    shapes = (
        (vqvae2.latent_spatial_dim_top,) * 2,
        (vqvae2.latent_spatial_dim_bottom,) * 2,
    )
    for name, sampler in samplers.items():
        drawn[name] = sampler.sample(count, *shapes, labels=labels, seed=0)
    with torch.no_grad():
        losses = {
            name: prior.loss_function(*codes, labels) for name, codes in drawn.items()
        }
    for level, one, other in zip(LEVELS, *drawn.values(), strict=True):
        effect[level] = {
            "share_that_differs": (one != other).float().mean().item(),
            **{name: losses[name][f"{level}_loss"].item() for name in samplers},
        }
    return effect
