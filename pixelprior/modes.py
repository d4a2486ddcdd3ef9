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


def _random_states() -> dict:
    """By kind of device: the functions that read and restore its random state.

    `torch.manual_seed` seeds every device, and each kind has functions of its own.
    """
    ways = {"cpu": (torch.get_rng_state, torch.set_rng_state)}
    for kind in ("cuda", "xpu"):
        device = getattr(torch, kind)
        if device.is_available():
            ways[kind] = (device.get_rng_state_all, device.set_rng_state_all)
    if torch.backends.mps.is_available():
        ways["mps"] = (torch.mps.get_rng_state, torch.mps.set_rng_state)
    return ways


def random_state() -> dict:
    """The state of torch's generators on all devices, by kind of device."""
    return {kind: read() for kind, (read, _) in _random_states().items()}


def restore_random_state(state: dict) -> None:
    """Restore what `random_state` gave, on the kinds of devices that are here."""
    for kind, (_, restore) in _random_states().items():
        if kind in state:
            restore(state[kind])


@contextmanager
def random_state_restored() -> Iterator[None]:
    """Let torch be seeded; restore its generators on all devices at the end."""
    before = random_state()
    try:
        yield
    finally:
        restore_random_state(before)
