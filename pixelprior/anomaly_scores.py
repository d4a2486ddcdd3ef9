"""The score and the map of an image, and which of their values are normal.

`anomalies.find` computes them, and `anomalies.calibrate` makes a `Calibration` of those
of normal images.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

SHARES = {"top": 1 / 16, "bottom": 1 / 32, "map": 1 / 100}  # of a grid, for the score
SMOOTH = 0.7  # standard deviation of the map's smoothing, in pixels per 32


@dataclass(frozen=True)
class Calibration:
    """What normal images look like to a VQ-VAE-2 and a prior.

    Attributes:
        nats: by level, float [H, W, N]: the nats of each position's code in N normal
            images, in ascending order.
        centres, scales: float [3], mean and standard deviation of the parts of the
            score, over the same N images.
        scores: float64 [M], scores of M other normal images, in ascending order.
        pixels: float [Q], quantiles of the values of their maps, in ascending order.
        draws, seed: with which they were drawn, as in `find`.
    """

    nats: dict[str, Tensor]
    centres: Tensor
    scales: Tensor
    scores: Tensor
    pixels: Tensor
    draws: int
    seed: int

    def code_p_values(self, level: str, nats: Tensor) -> Tensor:
        """The share of normal images whose code at a position costs at least as much.

        Args:
            nats: [B, H, W], of the codes of `level`.

        Returns:
            float [B, H, W], from 1 / (N + 1) to 1.
        """
        normal = self.nats[level].to(nats.device)
        less = torch.searchsorted(normal, nats.permute(1, 2, 0).contiguous())
        count = normal.shape[-1]
        return ((1 + count - less) / (count + 1)).permute(2, 0, 1)

    def p_values(self, scores: Tensor) -> Tensor:
        """Conformal p-values of scores [B], float64 [B] (Vovk et al. 2005, *Algorithmic
        Learning in a Random World*, section 2.2).

        If an image is drawn as the M normal images were, its p-value is at most α with
        a probability of at most α.
        """
        less = torch.searchsorted(self.scores, scores.double().cpu().contiguous())
        return (1 + len(self.scores) - less).double() / (len(self.scores) + 1)

    def check_rate(self, rate: float) -> None:
        """Raise ValueError unless p-values can be as small as a false-alarm rate."""
        least = 1 / (len(self.scores) + 1)
        if not least <= rate < 1:
            raise ValueError(
                f"the false-alarm rate is {rate}, but {len(self.scores)} normal scores "
                f"allow {least:.2g} to below 1; give such a rate, or calibrate on "
                f"more images (about {math.ceil(2 / rate) if rate > 0 else 'twice'} "
                "for this rate)"
            )

    def map_threshold(self, rate: float) -> float:
        """The value that a share `rate` of the pixels of normal images exceeds.

        Raises:
            ValueError: the rate is not between 0 and 1.
        """
        if not 0 < rate < 1:
            raise ValueError(f"the rate is {rate}; give a number between 0 and 1")
        return torch.quantile(self.pixels, 1 - rate).item()


def odd_map(images: Tensor, restorations: Tensor, weights: Tensor) -> Tensor:
    """The distance of each pixel from the restorations, smoothed.

    Args:
        images: [B, C, H, W]. restorations: [B, D, C, H, W]. weights: [B, D].

    Returns:
        float [B, H, W]: the mean over restorations and channels of |image −
        restoration|.
    """
    apart = (images[:, None] - restorations).abs().mean(2)  # [B, D, H, W]
    maps = (apart * weights[:, :, None, None]).sum(1)  # [B, H, W]
    sigma = SMOOTH * math.sqrt(maps[0].numel()) / 32
    reach = math.ceil(3 * sigma)
    steps = torch.arange(-reach, reach + 1, device=maps.device)
    kernel = (-0.5 * (steps / sigma) ** 2).exp()
    kernel = (kernel / kernel.sum()).to(maps.dtype)
    padded = F.pad(maps[:, None], (reach,) * 4, mode="replicate")
    along = F.conv2d(padded, kernel.view(1, 1, 1, -1))
    return F.conv2d(along, kernel.view(1, 1, -1, 1))[:, 0]


def score_parts(nats: dict[str, Tensor], maps: Tensor) -> Tensor:
    """The parts of an image's score: how odd its oddest places are.

    Args:
        nats: by level, [B, h, w]. maps: [B, H, W].

    Returns:
        float [B, 3], on the CPU: the means of the largest top nats, bottom nats and
        values of the map, of the shares in `SHARES`.
    """
    parts = []
    for name, values in (*nats.items(), ("map", maps)):
        flat = values.flatten(1)
        count = max(1, round(SHARES[name] * flat.shape[1]))
        parts.append(flat.topk(count).values.mean(1).cpu())
    return torch.stack(parts, dim=1)
