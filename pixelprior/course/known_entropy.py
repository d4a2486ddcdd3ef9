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

from pixelprior.settings import check_kernel_size, check_positive, check_share


@dataclass(frozen=True)
class BlindSpotSource:
    """Grids of K = parts² codes; a code is a pair of parts (u, w), parts · u + w.

    With probability 1 - noise, u repeats the u of the left neighbour; otherwise u is
    drawn uniformly from its values. In the same way, w repeats the w of the code one
    row up and `ahead` columns to the right, or is drawn uniformly. A part whose
    neighbour would lie outside the grid is always drawn uniformly. The rows of u and
    the slanting lines of w are therefore independent Markov chains, and the likelihood
    of a grid is a product of known numbers.

    Attributes:
        height, width: size of the grid.
        parts: number of values of u, and of w.
        noise: probability that a part is drawn uniformly although it has a neighbour,
            in [0, 1).
        kernel_size: odd kernel size of the masked convolutions that must not see w's
            neighbour. This neighbour lies `ahead` = kernel_size // 2 + 1 columns to
            the right.
    """

    height: int = 8
    width: int = 8
    parts: int = 4
    noise: float = 0.1
    kernel_size: int = 3

    def __post_init__(self):
        check_positive(height=self.height, width=self.width, parts=self.parts)
        check_kernel_size(self.kernel_size)
        check_share(noise=self.noise)

    @property
    def num_embeddings(self) -> int:
        """The number of codes, K."""
        return self.parts**2

    @property
    def ahead(self) -> int:
        """How many columns to the right, in the row above, w's neighbour lies."""
        return self.kernel_size // 2 + 1

    def sample(self, count: int, seed: int) -> Tensor:
        """Draw grids of codes, long [count, H, W]; equal seeds give equal grids."""
        random = torch.Generator().manual_seed(seed)
        shape = (2, count, self.height, self.width)
        u, w = torch.randint(self.parts, shape, generator=random)  # [count, H, W] each
        new_u, new_w = torch.rand(shape, generator=random) < self.noise
        for x in range(1, self.width):
            u[:, :, x] = u[:, :, x].where(new_u[:, :, x], u[:, :, x - 1])
        inside = max(0, self.width - self.ahead)  # columns with a neighbour in the grid
        for y in range(1, self.height):
            old, above = w[:, y, :inside], w[:, y - 1, self.ahead :]
            w[:, y, :inside] = old.where(new_w[:, y, :inside], above)
        return self.parts * u + w

    def entropy_by_position(self) -> Tensor:
        """Entropy of each code given all earlier ones, in nats, float64 [H, W].

        The mean of these values is the loss of the best possible model, in nats per
        code.
        """
        left = torch.zeros(self.height, self.width, dtype=torch.bool)
        left[:, 1:] = True
        return self._entropy(left) + self._entropy(self._has_neighbour_ahead())

    def bound_by_position(self) -> Tensor:
        """Lower bound on the loss at each position, in nats, float64 [H, W].

        It holds for a model that sees the left neighbour but no code on the line that w
        depends on. To such a model, w is uniformly distributed.
        """
        nowhere = torch.zeros(self.height, self.width, dtype=torch.bool)
        left = nowhere.clone()
        left[:, 1:] = True
        return self._entropy(left) + self._entropy(nowhere)

    def entropy(self) -> float:
        """The entropy of the source, in nats per code."""
        return self.entropy_by_position().mean().item()

    def masked_stack_bound(self) -> float:
        """Lower bound on the loss of any single masked stack, in nats per code."""
        return self.bound_by_position().mean().item()

    def log_probability(self, codes: Tensor) -> Tensor:
        """Log-probability of grids [N, H, W] in nats, float64 [N]."""
        u, w = codes // self.parts, codes % self.parts
        ahead = torch.full_like(w, -1)
        if self.width > self.ahead:
            ahead[:, 1:, : -self.ahead] = w[:, :-1, self.ahead :]
        left = torch.full_like(u, -1)
        left[:, :, 1:] = u[:, :, :-1]
        return sum(
            self._log_probability(part, neighbour)
            for part, neighbour in ((u, left), (w, ahead))
        )

    def _has_neighbour_ahead(self) -> Tensor:
        has = torch.zeros(self.height, self.width, dtype=torch.bool)
        if self.width > self.ahead:
            has[1:, : -self.ahead] = True
        return has

    def _chances(self) -> tuple[float, float]:
        """Probability of the neighbour's value, and of each of the other values."""
        other = self.noise / self.parts
        return 1 - self.noise + other, other

    def _entropy(self, has_neighbour: Tensor) -> Tensor:
        same, other = self._chances()
        rest = (self.parts - 1) * other
        known = -same * math.log(same) - (rest * math.log(other) if rest else 0.0)
        alone = math.log(self.parts)
        return has_neighbour.double() * (known - alone) + alone

    def _log_probability(self, part: Tensor, neighbour: Tensor) -> Tensor:
        same, other = self._chances()
        chance = (part == neighbour).double() * (same - other) + other  # [N, H, W]
        chance[neighbour < 0] = 1 / self.parts
        return chance.log().sum(dim=(1, 2))


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
