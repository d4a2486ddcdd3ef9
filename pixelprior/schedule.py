"""The learning rate and the averaged weights at each step."""

import math

import torch

from pixelprior.settings import TrainingSettings


@torch.no_grad()
def average_weights(averages, currents, steps: int, decay: float) -> None:
    """Move the averaged weights towards the current weights, after `steps` such moves.

    The decay starts low and rises to `decay`, so that short runs gain from averaging
    too.
    """
    share = 1 - min(decay, (1 + steps) / (10 + steps))
    torch._foreach_lerp_(averages, currents, share)


def learning_rate_factor(settings: TrainingSettings, total_steps: int):
    """The learning rate's factor at each step: a linear rise, then a cosine to zero."""
    warmup_steps = max(1, round(settings.warmup * total_steps))

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        done = (step - warmup_steps) / max(1, total_steps - warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    return factor
