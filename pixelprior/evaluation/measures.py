"""Measures of a trained VQ-VAE-2 and prior, on held-out images and on samples.

Each function returns plain numbers or one number per image; `bootstrap` turns the
latter into a mean with its interval. `suite.py` computes all measures together, and
`report.py` shows them.
"""

import math

import torch
from torch import Tensor

from pixelprior.data.codes import CodeData
from pixelprior.data.images import ImageData
from pixelprior.pixelcnn import ConditionalPixelCNN, PixelCNN, negative_log_likelihood
from pixelprior.plotting import as_bytes
from pixelprior.progress import progress_bar

BATCH_SIZE = 64
NEIGHBOURS = 3  # k of precision and recall, as in arXiv 1904.06991


@torch.no_grad()
def image_nats(network: PixelCNN, codes: CodeData) -> Tensor:
    """Negative log likelihood of each image's codes of one level, in nats, float64 [N].

    Args:
        network: one level of a prior, in evaluation mode. A `ConditionalPixelCNN` is
            measured on the bottom codes given the top codes, any other network on the
            top codes, or on the codes of the only level.
        codes: held-out codes, with labels for a prior with classes.
    """
    device = network.embedding.weight.device
    codes, parts = codes.to(device), []
    for indices in progress_bar(
        torch.arange(len(codes), device=codes.z_top.device).split(BATCH_SIZE),
        desc="likelihoods",
        unit="batch",
    ):
        *grids, labels = (
            each if each is None else each.to(device) for each in codes.batch(indices)
        )
        if isinstance(network, ConditionalPixelCNN):
            z_top, target = grids
            logits = network(target, z_top, labels)
        else:
            target = grids[0]
            logits = network(target, labels)
        nats = negative_log_likelihood(logits, target)  # [B, H, W]
        # To the CPU first: Apple's GPUs have no float64.
        parts.append(nats.cpu().double().sum(dim=(1, 2)))
    return torch.cat(parts)


def nats_per_code(prior, codes: CodeData, levels=None) -> dict[str, float]:
    """Mean negative log likelihood of each level, in nats per code.

    Args:
        prior: a `HierarchicalPixelCNN` or a `PixelCNN`, in evaluation mode, for the
            codes' codebook.
        codes: as in `image_nats`.
        levels: names of the levels to measure, None for all.

    Returns:
        {level: nats per code}.
    """
    return {
        name: image_nats(level, codes).mean().item() / codes.grid(name)[0].numel()
        for name, level in prior.levels().items()
        if levels is None or name in levels
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
    used = int(codes.counts(level).count_nonzero())
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
    """Codes [N, Ht, Wt] and [N, Hb, Wb] of any integer type to uint8 [N, C, S, S]."""
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


@torch.no_grad()
def reconstruction_errors(vqvae2, data, batch_size: int = 250) -> Tensor:
    """The squared errors of the reconstructions, without keeping these, float64 [N].

    Args:
        data: `ImageData`, or `StreamedImages` that do not fit into memory.
    """
    device = next(vqvae2.parameters()).device
    errors = []
    for (images,) in data.batches(torch.arange(len(data)).split(batch_size)):
        rebuilt = as_bytes(vqvae2(images.to(device))).float() / 255
        off = (images.cpu() - rebuilt).double()
        errors.append(off.square().mean(dim=(1, 2, 3)))
    return torch.cat(errors)


def saturation(data: ImageData) -> Tensor:
    """Mean saturation of each colour image, from 0 (grey) to 1, float64 [N].

    The saturation of a pixel is that of the HSV colour space: (max − min) ÷ max over
    red, green and blue, and 0 for black.
    """
    parts = []
    for part in torch.arange(len(data)).split(1000):
        pixels = data[part][0].double()
        most, least = pixels.amax(dim=1), pixels.amin(dim=1)  # [B, S, S]
        of_pixels = (most - least) / most.clamp(min=1 / 255)
        parts.append(of_pixels.mean(dim=(1, 2)))
    return torch.cat(parts)


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


def within_manifold(
    features: Tensor,
    manifold: Tensor,
    neighbours: int = NEIGHBOURS,
    batch_size: int = 1000,
) -> Tensor:
    """Which features lie in the manifold of other features, as numbers 0 or 1.

    The manifold is the union of the balls around its rows; the radius of a ball is the
    distance to the row's k-th nearest neighbour in the manifold (Kynkäänniemi et al.
    2019, arXiv 1904.06991, equation 1). With real and generated images, the mean is the
    precision for generated features in the manifold of the real ones, and the recall
    for real features in the manifold of the generated ones (equation 2).

    Args:
        features: [N, d]. manifold: [M, d], with M above `neighbours`.
        neighbours: k.
        batch_size: rows per matrix of distances.

    Returns:
        float64 [N].

    Raises:
        ValueError: the manifold has too few rows.
    """
    if len(manifold) <= neighbours:
        raise ValueError(
            f"{len(manifold)} row(s) of features have no {neighbours} neighbours each; "
            f"give {neighbours + 1} or more"
        )
    features, manifold = features.cpu().double(), manifold.cpu().double()
    # The nearest neighbour of each row is the row itself.
    radii = torch.cat(
        [
            torch.cdist(rows, manifold).kthvalue(neighbours + 1, dim=1).values
            for rows in manifold.split(batch_size)
        ]
    )
    return torch.cat(
        [
            (torch.cdist(rows, manifold) <= radii).any(dim=1).double()
            for rows in features.split(batch_size)
        ]
    )


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


def mean_with_interval(values: Tensor, seed: int) -> dict[str, float]:
    """The mean of one number per image, with its interval by `bootstrap`."""
    return bootstrap(lambda each: each.mean(), values, seed=seed)
