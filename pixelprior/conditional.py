"""The bottom level of the prior: a gated PixelCNN that is given the top grid.

Source: Razavi et al. 2019, arXiv 1906.00446, section 3.2.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from pixelprior.layers import BoundedRMS
from pixelprior.pixelcnn import (
    WITHOUT_RESIDUAL,
    PixelCNN,
    negative_log_likelihood,
)
from pixelprior.validation import check_codes
from pixelprior.vqvae2 import ResidualStack

# The value of this argument for a checkpoint whose config lacks it.
UNBOUNDED = {"bounded_condition": False}


class ConditionalPixelCNN(PixelCNN):
    """P(z_bottom | z_top): a `PixelCNN` that is given the top grid.

    The top codes are embedded, go through residual convolutions (unmasked, because the
    whole top grid is known), are upsampled to the bottom grid, and enter every block as
    a conditional bias (arXiv 1906.00446, section 3.2; arXiv 1606.05328, section 2.3).
    The condition is bounded. Without the bound it may grow a thousandfold in the first
    steps of training and close all gates, so that the loss stays at the unigram
    entropy.

    Args: as for `PixelCNN`; the top codebook has `num_embeddings` codes as well.
        bounded_condition: False for weights of a network without the bound.
    """

    absent_from_config = WITHOUT_RESIDUAL | UNBOUNDED

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        hidden_channels: int = 128,
        num_layers: int = 15,
        *,
        bounded_condition: bool = True,
        **options,
    ):
        super().__init__(
            num_embeddings,
            embedding_dim,
            hidden_channels,
            num_layers,
            conditioned=True,
            **options,
        )
        p = hidden_channels
        self.top_embedding = nn.Embedding(num_embeddings, embedding_dim)
        self.top_network = nn.Sequential(
            nn.Conv2d(embedding_dim, p, 3, padding=1), ResidualStack(p, num_blocks=4)
        )
        self.top_to_bottom = nn.Conv2d(p, p, 3, padding=1)
        if bounded_condition:
            self.top_to_bottom = nn.Sequential(self.top_to_bottom, BoundedRMS())

    def forward(
        self, codes: Tensor, z_top: Tensor, labels: Tensor | None = None
    ) -> Tensor:
        """Bottom codes [B, H, W], top codes [B, Ht, Wt], labels [B] to [B, K, H, W].

        Logits at (y, x) depend on the top codes on all sides, up to a distance of at
        least five positions, and only on those bottom codes that come before (y, x) in
        raster order.

        Raises:
            ValueError: codes or labels have the wrong type or shape, or are out of
                range, or the two grids hold different numbers of images.
        """
        check_codes(codes, self.num_embeddings, "bottom codes")
        return self.logits(codes, self.top_condition(z_top, codes.shape, labels))

    def loss_function(
        self, z_top: Tensor, z_bottom: Tensor, labels=None
    ) -> dict[str, Tensor]:
        """Cross entropy of the bottom codes in nats per code, {"loss": scalar}.

        Args:
            z_top: [B, Ht, Wt]. z_bottom: [B, H, W]. labels: as in `forward`.

        Raises:
            ValueError: as in `forward`.
        """
        logits = self(z_bottom, z_top, labels)
        return {"loss": negative_log_likelihood(logits, z_bottom).mean()}

    def condition(self, labels, z_top: Tensor | None, shape) -> Tensor:
        """The result of `top_condition`."""
        if z_top is None:
            raise ValueError("this level needs the top codes; give z_top [B, Ht, Wt]")
        return self.top_condition(z_top, shape, labels)

    def top_condition(self, z_top: Tensor, shape, labels: Tensor | None) -> Tensor:
        """Top codes [B, Ht, Wt] to the condition [B, p, H, W] for bottom `shape`."""
        check_codes(z_top, self.num_embeddings, "top codes")
        batch_size, height, width = shape
        if len(z_top) != batch_size:
            raise ValueError(
                f"{len(z_top)} top grids were given for {batch_size} bottom grids; "
                "give one top grid per image"
            )
        embedded = self.top_embedding(z_top.long()).permute(0, 3, 1, 2)
        top = self.top_network(embedded)  # [B, p, Ht, Wt]
        top = F.interpolate(top, size=(height, width))  # [B, p, H, W]
        top = self.top_to_bottom(top)
        label = self.label_condition(labels, batch_size)
        # Converted to the type of `top` here: under autocast each block would otherwise
        # convert it again.
        return top if label is None else top + label.to(top.dtype)
