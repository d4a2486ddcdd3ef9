"""What is measured on held-out data: likelihoods of codes and their baselines."""

import torch

from pixelprior.codes import CodeData
from pixelprior.prior import LEVELS
from pixelprior.progress import progress_bar

BATCH_SIZE = 64


@torch.no_grad()
def nats_per_code(prior, codes: CodeData, levels=LEVELS) -> dict[str, float]:
    """Mean negative log likelihood of each level, in nats per code.

    Args:
        prior: a `HierarchicalPixelCNN`, in evaluation mode, of the codes' codebook.
        codes: held-out codes, with labels for a prior with classes.
        levels: which to measure, of "top" and "bottom".

    Returns:
        {level: nats per code}.

    Raises:
        ValueError: the codes do not fit the prior.
    """
    device = next(prior.parameters()).device
    codes, totals = codes.to(device), dict.fromkeys(levels, 0.0)
    for indices in progress_bar(
        torch.arange(len(codes), device=device).split(BATCH_SIZE),
        desc="likelihoods",
        unit="batch",
    ):
        losses = prior.loss_function(*codes.batch(indices), levels=levels)
        for level in levels:
            totals[level] += losses[f"{level}_loss"].item() * len(indices)
    return {level: total / len(codes) for level, total in totals.items()}
