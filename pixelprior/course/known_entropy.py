"""A source of codes of known entropy, with a dependency in the blind spot.

A stack of masked convolutions never sees the codes to the upper right of a line through
the current position (a 45° line for a kernel of 3). In this source, one of the two
parts of each code depends on a code in exactly that region. The cost of the blind spot
in nats is therefore known by construction, without a long training. See `MaskedConv2d`
in `layers.py`; the blind spot is described in arXiv 1606.05328, section 2.2.
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

    Attributes:
        height, width: size of the grid, 3 or wider.
        parts: number of values of u, and of w.
        noise: probability that a part is drawn uniformly although it has a neighbour,
            above 0 and below 1.
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
        """Entropy of each code given all earlier ones, in nats, float64 [H, W]: on
        average the loss of the best possible model."""
        return self._entropy(self._neighbours(0, 1)) + self._entropy(
            self._neighbours(1, -2)
        )

    def bound_by_position(self) -> Tensor:
        """Lower bound on the loss at each position, in nats, float64 [H, W], for a
        model that sees the left neighbour but no code on the line that w depends on: to
        such a model, w is uniformly distributed."""
        return self._entropy(self._neighbours(0, 1)) + math.log(self.parts)

    def _neighbours(self, down: int, right: int) -> Tensor:
        """Where a neighbour that many steps before lies in the grid, bool [H, W]."""
        y = torch.arange(self.height)[:, None] - down
        x = torch.arange(self.width) - right
        return (y >= 0) & (x >= 0) & (x < self.width)

    def _entropy(self, has_neighbour: Tensor) -> Tensor:
        other = self.noise / self.parts  # of each value but the neighbour's
        same = 1 - self.noise + other
        rest = (self.parts - 1) * other
        known, alone = (
            -same * math.log(same) - rest * math.log(other),
            math.log(self.parts),
        )
        return has_neighbour.double() * (known - alone) + alone


class Embedded(nn.Embedding):
    """Codes [B, H, W] to vectors [B, D, H, W]."""

    def forward(self, codes: Tensor) -> Tensor:
        return super().forward(codes).permute(0, 3, 1, 2)


def train(
    network: nn.Module, source: BlindSpotSource, steps: int = 200
) -> dict[int, float]:
    """Train a network, from codes [B, H, W] to logits [B, K, H, W], on new grids at
    each step.

    Returns:
        Nats per code on 1,000 grids that are held out, by every 20th step.
    """
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
