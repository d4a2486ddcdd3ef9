"""One level of the prior: a gated PixelCNN over a grid of codes.

Two stacks run side by side. The vertical stack sees all rows above, and the horizontal
stack sees the codes to the left. Together they see every earlier code in raster order
and no other, so that there is no blind spot and no leak. The stacks are shifted once:
the first block (mask A) excludes the current row and the current code, and the later
blocks (mask B) include their own position in stacks that are already shifted. Source:
van den Oord et al. 2016, arXiv 1606.05328, section 2.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelprior.checkpoints import Pretrained
from pixelprior.layers import BoundedRMS, CausalAttention, GatedBlock, ResidualStack
from pixelprior.ranges import check_positive, check_share, whole_number
from pixelprior.sampling import draw_grids
from pixelprior.validation import (
    check_codes,
    check_guidance,
    check_labels,
    check_tensor,
)


def negative_log_likelihood(logits: Tensor, codes: Tensor) -> Tensor:
    """-log P(code | earlier codes) of each code, in nats, float32 [B, H, W].

    Args:
        logits: [B, K, H, W], of any floating-point type.
        codes: [B, H, W], of any integer type, from 0 to K - 1.
    """
    return F.cross_entropy(logits.float(), codes.long(), reduction="none")


class PixelCNN(nn.Module, Pretrained):
    """P(codes) = Π P(code | earlier codes) over a grid of any height and width.

    Args:
        num_embeddings: number of codes K in the codebook.
        embedding_dim: length of the vector that a code is embedded as.
        hidden_channels: channels p of both stacks.
        num_layers: number of gated blocks, the first with mask A. With kernel_size 3,
            each code sees all earlier codes if there are at least as many blocks as the
            grid is wide and high.
        num_classes: number of classes; None for a prior without labels.
        label_dropout: share of images whose label is withheld during training, in
            [0, 1). Above 0 there is an embedding for "no label", labels may be left
            out, and guidance is possible (arXiv 2207.12598, algorithm 1).
        kernel_size: odd, 3 or more.
        dropout: share of the horizontal features that are dropped during training, in
            [0, 1).
        conditioned: whether `logits` is given a condition of p channels; with labels
            there is a condition in any case.
        attention_layers: number of attention layers over the past, spread evenly over
            the blocks, the last after the last block. 0 means none.
        attention_heads: heads of each attention layer, a divisor of hidden_channels.
        vertical_residual: as in `GatedBlock`.

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
        label_dropout: float = 0.0,
        kernel_size: int = 3,
        dropout: float = 0.1,
        conditioned: bool = False,
        attention_layers: int = 0,
        attention_heads: int = 4,
        vertical_residual: bool = True,
    ):
        super().__init__()
        check_positive(
            num_embeddings=num_embeddings,
            embedding_dim=embedding_dim,
            hidden_channels=hidden_channels,
            num_layers=num_layers,
        )
        check_share(dropout=dropout, label_dropout=label_dropout)
        if label_dropout and num_classes is None:
            raise ValueError(
                f"label_dropout is {label_dropout}, but there are no labels to "
                "withhold; give num_classes too, or leave label_dropout at 0"
            )
        check_positive(attention_heads=attention_heads)
        if not 0 <= attention_layers <= num_layers:
            raise ValueError(
                f"attention_layers is {attention_layers}; give 0 for none, or up to "
                f"{num_layers}, the number of blocks"
            )
        p = hidden_channels
        self.num_embeddings, self.num_classes = num_embeddings, num_classes
        self.label_dropout = label_dropout
        self.embedding = nn.Embedding(num_embeddings, embedding_dim)
        if num_classes is not None:
            check_positive(num_classes=num_classes)
            # The last row of a prior with label_dropout stands for "no label".
            self.label_embedding = nn.Embedding(num_classes + bool(label_dropout), p)
            # Smaller than the features that it is added to: otherwise the gates are
            # closed at first.
            nn.init.normal_(self.label_embedding.weight, std=0.3)
        self.blocks = nn.ModuleList(
            GatedBlock(
                "B" if layer else "A",
                p if layer else embedding_dim,
                p,
                kernel_size,
                p if conditioned or num_classes is not None else 0,
                dropout,
                vertical_residual,
            )
            for layer in range(num_layers)
        )
        # Each key is the number of the block that the attention layer follows.
        self.attention = nn.ModuleDict(
            {
                str(-(-(i + 1) * num_layers // attention_layers) - 1): CausalAttention(
                    p, embedding_dim, attention_heads
                )
                for i in range(attention_layers)
            }
        )
        self.head = nn.Sequential(
            nn.ReLU(), nn.Conv2d(p, p, 1), nn.ReLU(), nn.Conv2d(p, num_embeddings, 1)
        )

    def forward(self, codes: Tensor, labels: Tensor | None = None) -> Tensor:
        """Codes [B, H, W] (long) and labels [B] to logits [B, K, H, W].

        Logits at (y, x) depend only on the codes before (y, x) in raster order.

        Raises:
            ValueError: codes or labels have the wrong type or shape, or are out of
                range.
        """
        check_codes(codes, self.num_embeddings)
        return self.logits(codes, self.label_condition(labels, len(codes)))

    def loss_function(self, codes: Tensor, labels=None) -> dict[str, Tensor]:
        """Cross entropy in nats per code, {"loss": scalar}, for `training.fit`.

        Args:
            codes: [B, H, W], of any integer type. labels: as in `forward`.
        """
        logits = self(codes, labels)
        return {"loss": negative_log_likelihood(logits, codes).mean()}

    def training_parts(self) -> dict[str, nn.Module]:
        """The loss that training minimises, and what it trains."""
        return {"loss": self}

    def levels(self) -> dict[str, "PixelCNN"]:
        """The only level of a prior over one grid per image, by the name "codes"."""
        return {"codes": self}

    def sample(
        self,
        batch_size: int,
        shape: tuple[int, int],
        device=None,
        temperature: float = 1.0,
        *,
        labels=None,
        guidance: float = 0.0,
        z_top: Tensor | None = None,
        known: Tensor | None = None,
        **options,
    ) -> Tensor:
        """Draw grids of codes [B, H, W] (long), one per image.

        Args:
            batch_size, device, temperature, labels, guidance, options: as in
                `HierarchicalPixelCNN.sample`, which draws two grids per image.
            shape: (height, width) of the grid.
            z_top: long [B, Ht, Wt], the grids that a `ConditionalPixelCNN` is given.
            known: long [B, H, W], -1 where unknown. Known codes are kept.

        Raises:
            ValueError: as there, or z_top is missing or not needed.
        """
        check_positive(batch_size=batch_size)
        if device is not None:
            self.to(device)
        device = self.embedding.weight.device
        labels = self.check_labels(labels, whole_number(batch_size))
        (name,) = self.levels()
        if z_top is not None:
            check_tensor(z_top, "top codes")
        (codes,) = draw_grids(
            self.levels(),
            {"shape": shape},
            batch_size,
            labels=labels,
            guidance=check_guidance(guidance, labels, self.label_dropout)[:1],
            z_top=None if z_top is None else z_top.to(device),
            known={name: known},
            temperature=temperature,
            **options,
        )
        return codes

    def condition(
        self, labels, z_top: Tensor | None, shape, guided: bool = False
    ) -> Tensor | None:
        """What `logits` is given beside codes of `shape` [B, H, W]; None for nothing.

        Returns:
            [B, p, H or 1, W or 1]; if `guided`, [2B, …]: the same without the labels
            follows.
        """
        above = self._from_above(z_top, shape)
        conditions = []
        for each in [labels, None] if guided else [labels]:
            label = self.label_condition(each, shape[0])
            if above is not None and label is not None:
                # Converted to the type of `above` here: under autocast each block
                # would otherwise convert it again.
                label = above + label.to(above.dtype)
            conditions.append(above if label is None else label)
        return torch.cat(conditions) if guided else conditions[0]

    def _from_above(self, z_top: Tensor | None, shape) -> Tensor | None:
        """The part of the condition that comes from the top codes: none here."""
        if z_top is not None:
            raise ValueError(
                "this level takes no top codes; leave z_top out, or use a "
                "ConditionalPixelCNN"
            )
        return None

    def logits(self, codes: Tensor, condition: Tensor | None) -> Tensor:
        """Codes [B, H, W], condition [B, p, H or 1, W or 1] to logits [B, K, H, W]."""
        v = h = embedded = self.embed(codes)
        for layer, block in enumerate(self.blocks):
            v, h = block(v, h, condition)
            if str(layer) in self.attention:
                h = h + self.attention[str(layer)](h, embedded)
        return self.head(h)

    def embed(self, codes: Tensor) -> Tensor:
        """Codes [B, H, W] to vectors [B, D, H, W], laid out channels-last."""
        return self.embedding(codes.long()).permute(0, 3, 1, 2)

    def label_condition(self, labels, batch_size: int) -> Tensor | None:
        """Labels to the condition [B, p, 1, 1]; None for a prior without classes.

        In training mode, a share of `label_dropout` of the labels is withheld.
        """
        labels = self.check_labels(labels, batch_size)
        if self.num_classes is None:
            return None
        device = self.embedding.weight.device
        if labels is None:
            labels = torch.full((batch_size,), self.num_classes, device=device)
        elif self.label_dropout:
            # Labels are not checked while a GPU trains. One past the classes must not
            # stand for "no label", the last row: the row after it does not exist.
            labels = labels + (labels >= self.num_classes)
            if self.training:
                withheld = torch.rand(batch_size, device=device) < self.label_dropout
                labels = labels.masked_fill(withheld, self.num_classes)
        return self.label_embedding(labels)[:, :, None, None]

    def labels_in_turn(self, count: int) -> Tensor | None:
        """Labels 0, 1, … in turn, long [count]; None for a prior without classes."""
        if self.num_classes is None:
            return None
        return torch.arange(count) % self.num_classes

    def check_labels(self, labels, batch_size: int) -> Tensor | None:
        """The result of `validation.check_labels`, on the device of this prior.

        A prior with `label_dropout` takes None as "no label", and returns it.
        """
        if labels is None and self.label_dropout:
            return None
        labels = check_labels(labels, batch_size, self.num_classes)
        return None if labels is None else labels.to(self.embedding.weight.device)


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
        return self.logits(codes, self.condition(labels, z_top, codes.shape))

    def loss_function(
        self, z_top: Tensor, z_bottom: Tensor, labels=None
    ) -> dict[str, Tensor]:
        """Cross entropy of the bottom codes in nats per code, {"loss": scalar}.

        Args:
            z_top: [B, Ht, Wt]. z_bottom: [B, H, W]. labels: as in `forward`.
        """
        logits = self(z_bottom, z_top, labels)
        return {"loss": negative_log_likelihood(logits, z_bottom).mean()}

    def levels(self) -> dict[str, PixelCNN]:
        """This level, by its name in codes of two levels."""
        return {"bottom": self}

    def top_condition(self, z_top: Tensor, shape, labels=None) -> Tensor:
        """Top codes [B, Ht, Wt] to the condition [B, p, H, W] for bottom `shape`."""
        return self.condition(labels, z_top, shape)

    def _from_above(self, z_top: Tensor | None, shape) -> Tensor:
        """The part of the condition that comes from the top codes."""
        if z_top is None:
            raise ValueError("this level needs the top codes; give z_top [B, Ht, Wt]")
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
        return self.top_to_bottom(top)
