"""Contexts that change a setting and restore it at the end.

The settings are evaluation mode, `requires_grad` of the parameters, and the global
random state. All three are restored for the caller, also after an error or Ctrl-C.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode; restore each submodule's mode at the end."""
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


@contextmanager
def gradients_restored(model: nn.Module) -> Iterator[None]:
    """Let parameters be frozen; restore each one's `requires_grad` at the end."""
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        yield
    finally:
        for parameter, required in before:
            parameter.requires_grad_(required)


@contextmanager
def random_state_restored() -> Iterator[None]:
    """Let torch be seeded; restore its generators on all devices at the end."""
    # `torch.manual_seed` seeds every device, and each kind has its own functions to
    # read and restore the state.
    ways = [(torch.get_rng_state, torch.set_rng_state)]
    for device in (torch.cuda, torch.xpu):
        if device.is_available():
            ways.append((device.get_rng_state_all, device.set_rng_state_all))
    if torch.backends.mps.is_available():
        ways.append((torch.mps.get_rng_state, torch.mps.set_rng_state))
    before = [(restore, state()) for state, restore in ways]
    try:
        yield
    finally:
        for restore, state in before:
            restore(state)
