"""One level of the prior: a gated PixelCNN over a grid of codes.

Two stacks run side by side. The vertical stack sees all rows above, the horizontal
stack the codes to the left; together they see every earlier code in raster order and no
other, so there is no blind spot and no leak. The shift happens once: the first block
(mask A) leaves out the current row and the current code, the later ones (mask B) may
look at their own place in stacks that are already shifted. Each block has, beside
`forward` over the whole grid, a step for one row and a step for one code: sampling
walks through them and multiplies no number twice. Source: van den Oord et al. 2016,
arXiv 1606.05328, section 2.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelprior.validation import (
    INTEGERS,
    check_codes,
    check_kernel_size,
    check_positive,
    check_share,
    check_tensor,
)
from pixelprior.vqvae2 import ResidualStack


def _check_mask(mask_type: str, kernel_size: int) -> None:
    if mask_type not in ("A", "B"):
        raise ValueError(f"mask_type is {mask_type!r}; give 'A' or 'B'")
    check_kernel_size(kernel_size)


class MaskedConv2d(nn.Conv2d):
    """A k×k convolution that sees earlier places in raster order only.

    Mask A leaves out the centre, for the first layer; mask B keeps it, for all others.
    The mask is a buffer and is multiplied in functionally: the weight stays as it is. A
    stack of these alone has a blind spot to the upper right (arXiv 1606.05328, figure
    1), which is why `PixelCNN` is built from `GatedBlock` instead.

    Args:
        mask_type: "A" or "B".
        in_channels, out_channels: as in `torch.nn.Conv2d`.
        kernel_size: odd, 3 or more.

    Shapes: [B, in_channels, H, W] to [B, out_channels, H, W].
    """

    def __init__(self, mask_type, in_channels, out_channels, kernel_size=3):
        _check_mask(mask_type, kernel_size)
        super().__init__(in_channels, out_channels, kernel_size, padding="same")
        centre = kernel_size // 2
        mask = torch.ones(kernel_size, kernel_size)
        mask[centre, centre + (mask_type == "B") :] = 0
        mask[centre + 1 :] = 0
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight * self.mask, self.bias)


def gate(x: Tensor) -> Tensor:
    """tanh(W_f * x) ⊙ σ(W_g * x): 2p channels to p (arXiv 1606.05328, equation 2)."""
    features, gates = x.chunk(2, dim=1)
    return torch.tanh(features) * torch.sigmoid(gates)


class GatedBlock(nn.Module):
    """A vertical and a horizontal gated convolution (arXiv 1606.05328, figure 2).

    The kernels are cropped to what they may see, so that no multiplication is masked
    away: with reach r = kernel_size // 2, mask B sees rows y-r to y (vertical) and
    codes x-r to x (horizontal); mask A stops one short of y and of x. A condition is
    added to the vertical features before the gate, and reaches the horizontal stack
    with them.

    Args:
        mask_type: "A" for the first block, "B" for all others.
        in_channels: channels of both incoming stacks.
        hidden_channels: channels p of both outgoing stacks.
        kernel_size: odd, 3 or more.
        condition_channels: channels of the condition, 0 for none.
        dropout: share of the horizontal features dropped while training.
    """

    def __init__(
        self,
        mask_type: str,
        in_channels: int,
        hidden_channels: int,
        kernel_size: int = 3,
        condition_channels: int = 0,
        dropout: float = 0.0,
    ):
        super().__init__()
        _check_mask(mask_type, kernel_size)
        p, self.reach = hidden_channels, kernel_size // 2
        self.shift = int(mask_type == "A")
        self.span = self.reach + 1 - self.shift  # rows and codes under the kernels
        self.vertical = nn.Conv2d(in_channels, 2 * p, (self.span, kernel_size))
        self.horizontal = nn.Conv2d(in_channels, 2 * p, (1, self.span))
        self.vertical_to_horizontal = nn.Conv2d(2 * p, 2 * p, 1)
        self.horizontal_out = nn.Conv2d(p, p, 1)
        self.condition = (
            nn.Conv2d(condition_channels, 2 * p, 1, bias=False)
            if condition_channels
            else None
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, v: Tensor, h: Tensor, condition=None) -> tuple[Tensor, Tensor]:
        """Both stacks over the whole grid.

        Args:
            v, h: vertical and horizontal stack, [B, in_channels, H, W]; for mask A both
                are the embedded codes.
            condition: [B, condition_channels, H or 1, W or 1], or None.

        Returns:
            The new stacks, [B, p, H, W] each.
        """
        r, shift = self.reach, self.shift
        features = self.vertical(F.pad(v, (r, r, r, -shift)))  # [B, 2p, H, W]
        if condition is not None:
            features = features + self.condition(condition)
        across = self.vertical_to_horizontal(features)  # [B, 2p, H, W]
        across = across + self.horizontal(F.pad(h, (r, -shift, 0, 0)))
        out = self.horizontal_out(self.dropout(gate(across)))  # [B, p, H, W]
        # A residual around mask A would carry the code that is to be predicted.
        return gate(features), out if shift else h + out

    def row_step(self, rows: Tensor, condition=None) -> tuple[Tensor, Tensor]:
        """The vertical stack on one row y, for sampling.

        Args:
            rows: the rows under the kernel, [B, in_channels, span, W]: y-r to y, or
                y-r to y-1 for mask A; zeros above the grid.
            condition: [B, condition_channels, 1, W or 1], or None.

        Returns:
            The vertical stack's row [B, p, 1, W], and what the horizontal stack gets
            from it, [B, 2p, 1, W].
        """
        features = self.vertical(F.pad(rows, (self.reach, self.reach)))
        if condition is not None:
            features = features + self.condition(condition)
        return gate(features), self.vertical_to_horizontal(features)

    def code_step(self, codes: Tensor, across: Tensor) -> Tensor:
        """The horizontal stack on one code x, for sampling.

        Args:
            codes: the places under the kernel, [B, in_channels, span]: x-r to x, or x-r
                to x-1 for mask A; zeros left of the grid.
            across: what `row_step` gave for this place, [B, 2p].

        Returns:
            The horizontal stack at x, [B, p].
        """
        across = across + F.linear(
            codes.flatten(1), self.horizontal.weight.flatten(1), self.horizontal.bias
        )
        weight, bias = self.horizontal_out.weight, self.horizontal_out.bias
        out = F.linear(gate(across), weight.flatten(1), bias)
        return out if self.shift else codes[:, :, -1] + out


class PixelCNN(nn.Module):
    """P(codes) = Π P(code | earlier codes) over a grid of any height and width.

    Args:
        num_embeddings: codes K in the codebook.
        embedding_dim: length of the vector that a code is turned into.
        hidden_channels: channels p of both stacks.
        num_layers: gated blocks, the first with mask A. At least as many as the grid is
            wide and high (for kernel_size 3) lets each code see all earlier ones.
        num_classes: classes for labels, None for a prior without.
        kernel_size: odd, 3 or more.
        dropout: share of the horizontal features dropped while training, in [0, 1).
        conditioned: whether `logits` is given a condition of p channels; labels make
            one by themselves.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        hidden_channels: int = 128,
        num_layers: int = 15,
        *,
        num_classes: int | None = None,
        kernel_size: int = 3,
        dropout: float = 0.1,
        conditioned: bool = False,
    ):
        super().__init__()
        check_positive(
            num_embeddings=num_embeddings,
            embedding_dim=embedding_dim,
            hidden_channels=hidden_channels,
            num_layers=num_layers,
        )
        check_share(dropout=dropout)
        p = hidden_channels
        self.num_embeddings, self.num_classes = num_embeddings, num_classes
        self.embedding = nn.Embedding(num_embeddings, embedding_dim)
        if num_classes is not None:
            check_positive(num_classes=num_classes)
            self.label_embedding = nn.Embedding(num_classes, p)
        self.blocks = nn.ModuleList(
            GatedBlock(
                "B" if layer else "A",
                p if layer else embedding_dim,
                p,
                kernel_size,
                p if conditioned or num_classes is not None else 0,
                dropout,
            )
            for layer in range(num_layers)
        )
        self.head = nn.Sequential(
            nn.ReLU(), nn.Conv2d(p, p, 1), nn.ReLU(), nn.Conv2d(p, num_embeddings, 1)
        )

    def forward(self, codes: Tensor, labels: Tensor | None = None) -> Tensor:
        """Codes [B, H, W] (long) and labels [B] to logits [B, K, H, W].

        Logits at (y, x) depend on codes before (y, x) in raster order alone.

        Raises:
            ValueError: codes or labels have the wrong type or shape, or are out of
                range.
        """
        check_codes(codes, self.num_embeddings)
        return self.logits(codes, self.label_condition(labels, len(codes)))

    def logits(self, codes: Tensor, condition: Tensor | None) -> Tensor:
        """Codes [B, H, W], condition [B, p, H or 1, W or 1] to logits [B, K, H, W]."""
        v = h = self.embed(codes)
        for block in self.blocks:
            v, h = block(v, h, condition)
        return self.head(h)

    def embed(self, codes: Tensor) -> Tensor:
        """Codes [B, H, W] to vectors [B, D, H, W], laid out channels-last."""
        return self.embedding(codes.long()).permute(0, 3, 1, 2)

    def label_condition(self, labels, batch_size: int) -> Tensor | None:
        """Labels [B] to the condition [B, p, 1, 1]; None for a prior without labels."""
        self.check_labels(labels, batch_size)
        if self.num_classes is None:
            return None
        return self.label_embedding(labels.long())[:, :, None, None]

    def check_labels(self, labels: Tensor | None, batch_size: int) -> None:
        """Raise ValueError unless `labels` are what this prior needs."""
        if self.num_classes is None:
            if labels is not None:
                raise ValueError(
                    "labels were given, but this prior was built without classes; "
                    "leave them out, or train a prior with num_classes"
                )
            return
        if labels is None:
            raise ValueError(
                f"this prior is conditional on {self.num_classes} classes; give labels "
                f"from 0 to {self.num_classes - 1}, one an image"
            )
        check_tensor(labels, "labels")
        if labels.dtype not in INTEGERS or labels.shape != (batch_size,):
            raise ValueError(
                f"labels are {labels.dtype} of shape {list(labels.shape)}, but "
                f"integers of shape [{batch_size}] are needed, one an image"
            )
        low, high = labels.min().item(), labels.max().item()
        if low < 0 or high >= self.num_classes:
            wrong = low if low < 0 else high
            raise ValueError(
                f"label {wrong} is out of range; this prior has classes 0 to "
                f"{self.num_classes - 1}"
            )


class ConditionalPixelCNN(PixelCNN):
    """P(z_bottom | z_top): a `PixelCNN` that is given the top grid.

    The top codes are embedded, go through residual convolutions (unmasked: all of the
    top is known), are enlarged to the bottom grid, and enter every block as a
    conditional bias (arXiv 1906.00446, section 3.2; arXiv 1606.05328, section 2.3).

    Args: as for `PixelCNN`; the top codebook has `num_embeddings` codes as well.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        hidden_channels: int = 128,
        num_layers: int = 15,
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

    def forward(
        self, codes: Tensor, z_top: Tensor, labels: Tensor | None = None
    ) -> Tensor:
        """Bottom codes [B, H, W], top codes [B, Ht, Wt], labels [B] to [B, K, H, W].

        Logits at (y, x) depend on top codes on all sides, five places away or more,
        and on the bottom codes before (y, x) in raster order alone.

        Raises:
            ValueError: codes or labels have the wrong type or shape, or are out of
                range, or the two grids hold different numbers of images.
        """
        check_codes(codes, self.num_embeddings, "bottom codes")
        return self.logits(codes, self.top_condition(z_top, codes.shape, labels))

    def top_condition(self, z_top: Tensor, shape, labels: Tensor | None) -> Tensor:
        """Top codes [B, Ht, Wt] to the condition [B, p, H, W] for bottom `shape`."""
        check_codes(z_top, self.num_embeddings, "top codes")
        batch_size, height, width = shape
        if len(z_top) != batch_size:
            raise ValueError(
                f"{len(z_top)} top grids were given for {batch_size} bottom grids; "
                "give one top grid an image"
            )
        embedded = self.top_embedding(z_top.long()).permute(0, 3, 1, 2)
        top = self.top_network(embedded)  # [B, p, Ht, Wt]
        top = F.interpolate(top, size=(height, width))  # [B, p, H, W]
        top = self.top_to_bottom(top)
        label = self.label_condition(labels, batch_size)
        return top if label is None else top + label
