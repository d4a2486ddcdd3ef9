"""What is measured of a trained prior: likelihoods of held-out and of drawn codes."""

import copy

import torch

from pixelprior.codes import CodeData
from pixelprior.prior import LEVELS, HierarchicalPixelCNN
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


def bfloat16_effect(prior: HierarchicalPixelCNN, count: int = 256) -> dict:
    """What sampling in bf16 does to the codes of a trained prior.

    Args:
        prior: trained, in float32. count: images to draw by each.

    Returns:
        For each level, the share of codes that differ from the float32 sampler's, and
        the nats per code of both samplers' codes under the float32 prior.
    """
    samplers = {"float32": prior, "bfloat16": copy.deepcopy(prior).bfloat16()}
    labels, drawn, effect = prior.labels_in_turn(count), {}, {}
    for name, sampler in samplers.items():
        drawn[name] = sampler.sample(count, (8, 8), (16, 16), labels=labels, seed=0)
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
