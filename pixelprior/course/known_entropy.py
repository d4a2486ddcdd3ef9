"""A source of codes of known entropy, with a dependency in the blind spot.

In this source, one of the two parts of each code depends on a code that a stack of
masked convolutions never sees (arXiv 1606.05328, section 2.2), so that the cost of the
blind spot in nats is known by construction, without a long training.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class BlindSpotSource:
    """Grids of K = parts² codes; a code is a pair of parts (u, w), parts · u + w.

    With probability 1 - noise, u repeats the u of the left neighbour; otherwise u is
    drawn uniformly from its values. In the same way, w repeats the w of the code one
    row up and two columns to the right, or is drawn uniformly. A part whose neighbour
    would lie outside the grid is always drawn uniformly. The rows of u and the slanting
    lines of w are therefore independent Markov chains.
    """

    height: int = 8
    width: int = 8
    parts: int = 4
    noise: float = 0.1

    def sample(self, count: int, seed: int) -> Tensor:
        """Draw grids of codes, long [count, H, W]; equal seeds give equal grids."""
        random = torch.Generator().manual_seed(seed)
        shape = (2, count, self.height, self.width)
        u, w = torch.randint(self.parts, shape, generator=random)  # [count, H, W] each
        new_u, new_w = torch.rand(shape, generator=random) < self.noise
        for x in range(1, self.width):
            u[:, :, x] = u[:, :, x].where(new_u[:, :, x], u[:, :, x - 1])
        for y in range(1, self.height):
            old, above = w[:, y, :-2], w[:, y - 1, 2:]
            w[:, y, :-2] = old.where(new_w[:, y, :-2], above)
        return self.parts * u + w

    def entropy_by_position(self) -> Tensor:
        """Nats of each code given all earlier ones, float64 [H, W]: on average the loss
        of the best possible model."""
        return self._entropy(0, 1) + self._entropy(1, -2)

    def bound_by_position(self) -> Tensor:
        """Lower bound on the loss in nats, float64 [H, W], of a model that sees the
        left neighbour but no code on the line that w depends on: w is uniform to it."""
        return self._entropy(0, 1) + math.log(self.parts)

    def _entropy(self, down: int, right: int) -> Tensor:
        """Of a part whose neighbour lies so many steps before, float64 [H, W]."""
        other = self.noise / self.parts  # of each value but the neighbour's
        same = 1 - self.noise + other
        known = -same * math.log(same) - (self.parts - 1) * other * math.log(other)
        y = torch.arange(self.height)[:, None] - down
        x = torch.arange(self.width) - right
        inside = (y >= 0) & (x >= 0) & (x < self.width)  # [H, W]
        alone = math.log(self.parts)
        return inside.double() * (known - alone) + alone


class Embedded(nn.Embedding):
    """Codes [B, H, W] to vectors [B, D, H, W]."""

    def forward(self, codes: Tensor) -> Tensor:
        return super().forward(codes).permute(0, 3, 1, 2)


def train(
    network: nn.Module, source: BlindSpotSource, steps: int = 200
) -> dict[int, float]:
    """Train a network, from codes [B, H, W] to logits [B, K, H, W], on new grids at
    each step; the nats per code on 1,000 held-out grids, by every 20th step."""
    heldout = source.sample(1000, seed=1)  # [1000, H, W]
    optimizer = torch.optim.AdamW(network.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps)
    measured = {}
    for step in range(1, steps + 1):
        codes = source.sample(48, seed=99 + step)  # [48, H, W]
        loss = F.cross_entropy(network(codes), codes)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 20 == 0:
            with torch.no_grad():
                measured[step] = F.cross_entropy(network(heldout), heldout).item()
    return measured
