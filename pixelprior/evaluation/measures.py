"""Measures of a trained VQ-VAE-2 and prior, on held-out images and on samples.

Each function returns plain numbers or one number per image; `bootstrap` turns the
latter into a mean with its interval. `suite.py` computes all measures together.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor

from pixelprior.data.codes import CodeData
from pixelprior.data.images import ImageData
from pixelprior.pixelcnn import ConditionalPixelCNN, PixelCNN
from pixelprior.plotting import as_bytes
from pixelprior.prior import HierarchicalPixelCNN, level_number
from pixelprior.progress import progress_bar

BATCH_SIZE = 64  # of likelihoods
IMAGES_AT_ONCE = 250
NEIGHBOURS = 3  # k of precision and recall, as in arXiv 1904.06991


@torch.no_grad()
def image_nats(
    network: PixelCNN, codes: CodeData, level: str | int | None = None
) -> Tensor:
    """Negative log likelihood of each image's codes of one level, in nats, float64 [N].

    Args:
        network: one level of a prior, in evaluation mode; a `ConditionalPixelCNN` is
            given the codes of the level above.
        codes: held-out codes, with labels for a prior with classes.
        level: the name or number of the level. None is the top, or for a
            `ConditionalPixelCNN` the level below it.

    Raises:
        TypeError: `network` is no level of a prior, for example a whole prior.
    """
    if not isinstance(network, PixelCNN):
        raise TypeError(
            f"one level is needed, such as prior.prior_bottom, but this is a "
            f"{type(network).__name__}"
        )
    conditional = isinstance(network, ConditionalPixelCNN)
    level = int(conditional) if level is None else level
    number = level_number(level, len(codes.grids))
    device = network.embedding.weight.device
    codes, parts = codes.to(device), []
    numbers = torch.arange(len(codes), device=codes.grids[0].device).split(BATCH_SIZE)
    for indices in progress_bar(numbers, desc="likelihoods", unit="batch"):
        *grids, labels = (
            each if each is None else each.to(device) for each in codes.batch(indices)
        )
        above = grids[number - 1] if conditional else None
        nats = network.nats(grids[number], above, labels)  # [B, H, W]
        # To the CPU first: Apple's GPUs have no float64.
        parts.append(nats.cpu().double().sum(dim=(1, 2)))
    return torch.cat(parts)


def nats_per_code(
    prior: HierarchicalPixelCNN, codes: CodeData, levels=None
) -> dict[str, float]:
    """Mean negative log likelihood, in nats per code, by name of the level. The prior
    is in evaluation mode; `levels` are the names to measure, None for all."""
    return {
        name: image_nats(level, codes, name).mean().item() / codes.grid(name)[0].numel()
        for name, level in zip(prior.level_names, prior.levels, strict=True)
        if levels is None or name in levels
    }


def erase_top(codes: CodeData) -> CodeData:
    """The same codes with every top code 0, so that the top grid has no information."""
    top, *below = codes.grids
    return replace(codes, grids=(torch.zeros_like(top[:]), *below))


def code_use(codes: CodeData, level: str) -> dict[str, float]:
    """The share of a codebook's codes that occur at all, and their perplexity: so many
    codes, all equally frequent, would have the same entropy."""
    used = int(codes.counts(level).count_nonzero())
    return {
        "share_in_use": used / codes.size_of(level),
        "perplexity": math.exp(codes.unigram_entropy(level)),
    }


@torch.no_grad()
def outputs(network, data: ImageData, device="cpu") -> Tensor:
    """What `network` gives for all images of `data`, on the CPU. It is a function of
    images [B, C, S, S] in [0, 1] on `device`, such as a `Classifier`. `data` may be
    `StreamedImages` that do not fit into memory."""
    batches = data.batches(_parts(len(data)))
    return torch.cat([network(images.to(device)).cpu() for (images,) in batches])


def reconstructions(vqvae2, data: ImageData) -> ImageData:
    """The VQ-VAE-2's reconstructions of images, rounded to whole grey levels."""
    device = next(vqvae2.parameters()).device
    rebuilt = outputs(lambda images: as_bytes(vqvae2(images)), data, device)
    return replace(data, images=rebuilt)


@torch.no_grad()
def decoded(vqvae2, z_top: Tensor, z_bottom: Tensor) -> Tensor:
    """Codes [N, Ht, Wt] and [N, Hb, Wb] of any integer type to uint8 [N, C, S, S]."""
    device = next(vqvae2.parameters()).device
    parts = [
        as_bytes(vqvae2.decode_codes(z_top[part].to(device), z_bottom[part].to(device)))
        for part in _parts(len(z_top))
    ]
    return torch.cat(parts)


def squared_errors(data: ImageData, rebuilt: ImageData) -> Tensor:
    """Mean squared error over each image's pixels, which are in [0, 1], float64 [N]."""
    parts = _parts(len(data))
    return torch.cat([_apart(data[part][0], rebuilt[part][0]) for part in parts])


def reconstruction_errors(vqvae2, data) -> Tensor:
    """The squared errors of the reconstructions, without keeping these, float64 [N].
    `data` may be `StreamedImages`, as in `outputs`."""

    def errors(images: Tensor) -> Tensor:
        return _apart(images, as_bytes(vqvae2(images)).float() / 255)

    return outputs(errors, data, next(vqvae2.parameters()).device)


def _apart(images: Tensor, others: Tensor) -> Tensor:
    # On the CPU: Apple's GPUs have no float64.
    return (images.cpu() - others.cpu()).double().square().mean(dim=(1, 2, 3))


def saturation(data: ImageData) -> Tensor:
    """Mean saturation of each colour image, from 0 (grey) to 1, float64 [N], as in the
    HSV colour space: (max − min) ÷ max over red, green and blue, and 0 for black."""

    def of(images: Tensor) -> Tensor:
        pixels = images.double()
        most, least = pixels.amax(dim=1), pixels.amin(dim=1)  # [B, S, S]
        return ((most - least) / most.clamp(min=1 / 255)).mean(dim=(1, 2))

    return outputs(of, data)


def _parts(count: int) -> tuple[Tensor, ...]:
    """The numbers of images, as many together as fit into memory."""
    return torch.arange(count).split(IMAGES_AT_ONCE)


def some_of_each_class(data: ImageData, count: int) -> ImageData:
    """`count` images, the first of each class in turn, equally many if possible."""
    number_in_class = torch.empty(len(data), dtype=torch.long)
    for label in data.labels.unique():
        of_class = data.labels == label
        number_in_class[of_class] = torch.arange(int(of_class.sum()))
    order = (number_in_class * len(data.class_names) + data.labels).argsort()
    return data.subset(order[:count])


def samples(
    vqvae2, prior, count: int, *, class_names=(), seed: int = 0, **options
) -> ImageData:
    """Draw new images of all classes in turn, rounded to whole grey levels.

    Seed and options are those of `HierarchicalPixelCNN.sample`. The images, uint8
    [count, C, S, S], have the labels that they were drawn for. From a prior without
    classes, all labels are 0 and there are no names.
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
    if (rows := min(len(one), len(other))) < 2:
        raise ValueError(
            f"{rows} row(s) of features have no covariance; give 2 or more"
        )
    one, other = one.cpu().double(), other.cpu().double()
    means = (one.mean(0) - other.mean(0)).square().sum()
    first, second = (torch.atleast_2d(torch.cov(each.T)) for each in (one, other))
    # tr (Σ₁Σ₂)^½ is the sum of the roots of its eigenvalues, real and not negative.
    roots = torch.linalg.eigvals(first @ second).real.clamp(min=0).sqrt().sum()
    return (means + first.trace() + second.trace() - 2 * roots).clamp(min=0).item()


def within_manifold(features: Tensor, manifold: Tensor) -> Tensor:
    """Which features lie in the manifold of other features, as numbers 0 or 1.

    The manifold is the union of the balls around its rows; the radius of a ball is the
    distance to the row's third nearest neighbour in the manifold (Kynkäänniemi et al.
    2019, arXiv 1904.06991, equation 1). With real and generated images, the mean is the
    precision for generated features in the manifold of the real ones, and the recall
    for real features in the manifold of the generated ones (equation 2). From features
    [N, d] and a manifold [M, d], with M above `NEIGHBOURS`, float64 [N].
    """
    features, manifold = features.cpu().double(), manifold.cpu().double()
    apart = (torch.cdist(rows, manifold) for rows in manifold.split(1000))
    # The nearest neighbour of each row is the row itself.
    radii = torch.cat([rows.kthvalue(NEIGHBOURS + 1, 1).values for rows in apart])
    apart = (torch.cdist(rows, manifold) for rows in features.split(1000))
    return torch.cat([(rows <= radii).any(1).double() for rows in apart])


def nearest(data: ImageData, among: ImageData, device="cpu") -> tuple[Tensor, Tensor]:
    """The image of `among` nearest to each image of `data`, by pixels in [0, 1]: its
    index, long [N], and its Euclidean distance, float [N], both on the CPU. The device
    must hold `among` as float32."""
    flat = among.images.to(device).flatten(1).float() / 255  # [M, C · S · S]
    norms, indices, distances = flat.square().sum(1), [], []
    for part in progress_bar(
        torch.arange(len(data)).split(500), desc="neighbours", unit="batch"
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
        rounds, seed: of the resampling.

    Returns:
        {"value": the statistic of the given images, "low", "high"}.
    """
    generator, drawn = torch.Generator().manual_seed(seed), []
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


def ratio_with_interval(one: Tensor, other: Tensor, seed: int, *, paired: bool = True):
    """The ratio of two means, likewise."""
    pair = {"paired": paired, "seed": seed}
    return bootstrap(lambda a, b: a.mean() / b.mean(), one, other, **pair)
