"""One level of the prior: a gated PixelCNN over a grid of codes.

Two stacks run side by side. The vertical stack sees all rows above, and the horizontal
stack sees the codes to the left. Together they see every earlier code in raster order
and no other, so that there is no blind spot and no leak. The stacks are shifted once:
the first block (mask A) excludes the current row and the current code, and the later
blocks (mask B) include their own position in stacks that are already shifted. Source:
van den Oord et al. 2016, arXiv 1606.05328, section 2.
"""

import math
from dataclasses import asdict

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelprior.checkpoints import Pretrained
from pixelprior.layers import (
    BoundedRMS,
    CausalAttention,
    GatedBlock,
    ResidualStack,
    check_codes,
    check_is_free,
)
from pixelprior.sampling import sample_levels
from pixelprior.settings import NetworkSettings, SamplingOptions, check_positive


class PixelCNN(nn.Module, Pretrained):
    """P(codes) = Π P(code | earlier codes) over a grid of any height and width.

    Args:
        num_embeddings: number of codes K in the codebook.
        embedding_dim: length D of the vector that a code is embedded as.
        network: hidden_channels, num_layers and all else of `settings.NetworkSettings`,
            in its order or by name.

    Attributes:
        conditioned_on_codes: whether the level is given the codes of one above.

    Raises:
        ValueError: an argument is out of its range.
    """

    conditioned_on_codes = False

    def __init__(self, num_embeddings: int, embedding_dim: int, *network, **named):
        super().__init__()
        check_positive(num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        settings = NetworkSettings(*network, **named)
        self.num_embeddings = int(num_embeddings)
        self.num_classes = settings.num_classes
        self.condition_dim = settings.condition_dim
        self.label_dropout = settings.label_dropout
        self._hub_mixin_config = {
            "num_embeddings": self.num_embeddings,
            "embedding_dim": int(embedding_dim),
            **asdict(settings),
        }
        p, depth = settings.hidden_channels, settings.num_layers
        self.embedding = nn.Embedding(num_embeddings, embedding_dim)
        if self.label_dropout and not self.takes_labels:
            raise ValueError(
                f"label_dropout is {self.label_dropout}, but there are no labels to "
                "withhold; give num_classes too, or leave label_dropout at 0"
            )
        # "No label" is the last row of the embedding, or a last number of the vectors.
        withheld = bool(self.label_dropout)
        if self.num_classes is not None:
            self.label_embedding = nn.Embedding(self.num_classes + withheld, p)
            # Smaller than the features that it is added to: otherwise the gates are
            # closed at first.
            nn.init.normal_(self.label_embedding.weight, std=0.3)
        if self.condition_dim is not None:
            self.vector_network = nn.Sequential(
                nn.Linear(self.condition_dim + withheld, p), BoundedRMS()
            )
        has_condition = self.conditioned_on_codes or self.takes_labels
        self.blocks = nn.ModuleList(
            GatedBlock(
                "B" if layer else "A",
                p if layer else embedding_dim,
                p,
                settings.kernel_size,
                p if has_condition else 0,
                settings.dropout,
            )
            for layer in range(depth)
        )
        # By the number of the block that it follows; the last follows the last block.
        self.attention = nn.ModuleDict()
        for i in range(1, settings.attention_layers + 1):
            layer = math.ceil(i * depth / settings.attention_layers) - 1
            self.attention[str(layer)] = CausalAttention(
                p, embedding_dim, settings.attention_heads
            )
        self.head = nn.Sequential(
            nn.ReLU(), nn.Conv2d(p, p, 1), nn.ReLU(), nn.Conv2d(p, num_embeddings, 1)
        )

    @property
    def takes_labels(self) -> bool:
        """Whether the prior is conditioned on classes or on vectors."""
        return self.num_classes is not None or self.condition_dim is not None

    @property
    def output_layers(self) -> tuple[nn.Conv2d, nn.Conv2d]:
        """The two 1×1 convolutions of the head: p to p channels, and to K logits."""
        return self.head[1], self.head[3]

    def forward(self, codes: Tensor, labels=None) -> Tensor:
        """Codes [B, H, W] (long) and labels [B] or [B, D] to logits [B, K, H, W].

        Logits at (y, x) depend only on the codes before (y, x) in raster order.
        """
        return self._checked_logits(codes, None, labels)

    def loss_function(self, codes: Tensor, labels=None) -> dict[str, Tensor]:
        """Cross entropy in nats per code, {"total_loss": scalar}.

        Args:
            codes: [B, H, W], of any integer type. labels: as in `forward`.
        """
        return {"total_loss": self.nats(codes, None, labels).mean()}

    def nats(self, codes: Tensor, above: Tensor | None = None, labels=None) -> Tensor:
        """-log P(code | earlier codes) of each code, in nats, float32 [B, H, W].

        Args:
            codes: [B, H, W], of any integer type. above: codes [B, h, w] of the level
                above, for a `ConditionalPixelCNN`. labels: as in `forward`.
        """
        logits = self._checked_logits(codes, above, labels)
        return negative_log_likelihood(logits, codes)

    def training_parts(self) -> dict[str, nn.Module]:
        """The loss that training minimises, and what it trains."""
        return {"total_loss": self}

    @torch.no_grad()
    def sample(
        self,
        batch_size: int,
        shape: tuple[int, int],
        device=None,
        temperature: float = 1.0,
        *,
        above: Tensor | None = None,
        labels=None,
        known: Tensor | None = None,
        progress: bool = False,
        **options,
    ) -> Tensor:
        """Draw grids of codes [B, H, W] (long), one per image.

        Args:
            batch_size, device, temperature, labels, progress, options: as in
                `HierarchicalPixelCNN.sample`, which draws all levels.
            shape: (height, width) of the grid.
            above: long [B, h, w], the grids that a `ConditionalPixelCNN` is given.
            known: long [B, H, W], -1 where unknown. Known codes are kept.
        """
        if device is not None:
            self.to(device)
        (codes,) = sample_levels(
            {"codes": self},
            [shape],
            batch_size,
            SamplingOptions(temperature, **options),
            above=above,
            labels=labels,
            known=[known],
            progress=progress,
        )
        return codes

    def conditioning(
        self, above: Tensor | None, labels, shape, guided: bool = False
    ) -> Tensor | None:
        """What `logits` is given beside codes of `shape` [B, H, W]; None for nothing.

        Args:
            above: codes [B, h, w] of the level above, or None. labels: as in `forward`.

        Returns:
            [B, p, H or 1, W or 1]; if `guided`, [2B, …]: the same without the labels
            follows.
        """
        upper = self.condition_from_above(above, shape)
        conditions = []
        for each in [labels, None] if guided else [labels]:
            label = self.label_condition(each, shape[0])
            if upper is not None and label is not None:
                # Converted to the type of `upper` here: under autocast each block
                # would otherwise convert it again.
                label = upper + label.to(upper.dtype)
            conditions.append(upper if label is None else label)
        return torch.cat(conditions) if guided else conditions[0]

    def condition_from_above(self, above: Tensor | None, shape) -> Tensor | None:
        """The part of the condition that comes from the level above: none here."""
        if above is not None:
            raise ValueError(
                "this level takes no codes of a level above; leave them out, or use a "
                "ConditionalPixelCNN"
            )
        return None

    def _checked_logits(self, codes: Tensor, above, labels) -> Tensor:
        check_codes(codes, self.num_embeddings)
        return self.logits(codes, self.conditioning(above, labels, codes.shape))

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
        """Labels to the condition [B, p, 1, 1]; None for a prior without labels.

        In training mode, a share of `label_dropout` of the labels is withheld.
        """
        labels = self.check_labels(labels, batch_size)
        if not self.takes_labels:
            return None
        device = self.embedding.weight.device
        withheld = torch.full((batch_size,), labels is None, device=device)
        if self.training and self.label_dropout and labels is not None:
            withheld = torch.rand(batch_size, device=device) < self.label_dropout
        if self.condition_dim is not None:
            linear, bounded = self.vector_network
            if labels is None:
                labels = withheld.new_zeros(batch_size, self.condition_dim)
            vectors = labels.to(linear.weight.dtype)
            if self.label_dropout:
                vectors = vectors.masked_fill(withheld[:, None], 0)
                vectors = torch.cat([vectors, withheld[:, None]], dim=1)
            return bounded(linear(vectors)[:, :, None, None])
        if labels is None:
            labels = torch.zeros_like(withheld, dtype=torch.long)
        if self.label_dropout:
            # Labels are not checked while a GPU trains. One past the classes must not
            # stand for "no label", the last row: the row after it does not exist.
            labels = labels + (labels >= self.num_classes)
            labels = labels.masked_fill(withheld, self.num_classes)
        return self.label_embedding(labels)[:, :, None, None]

    def labels_in_turn(self, count: int) -> Tensor | None:
        """Labels 0, 1, … in turn, long [count]; None for a prior without classes."""
        if self.num_classes is None:
            return None
        return torch.arange(count) % self.num_classes

    def check_labels(self, labels, batch_size: int) -> Tensor | None:
        """Labels in any form to long [B], or to float [B, D] for a prior over vectors.

        Args:
            labels: whole numbers from 0 to num_classes - 1, or vectors of condition_dim
                numbers: one for all images, or one per image, as an int, list, tuple,
                array or tensor. A prior with `label_dropout` takes None as "no label".

        Returns:
            The labels on the device of this prior; None for no labels.

        Raises:
            ValueError: there are labels for a prior without, none for a prior with
                labels, or others than these.
        """
        if not self.takes_labels:
            if labels is not None:
                raise ValueError(
                    "labels were given, but this prior was built without classes; "
                    "leave them out, or train a prior with num_classes"
                )
            return None
        if self.condition_dim is None:
            shape, kind = (batch_size,), f"{self.num_classes} classes"
            wanted = f"labels from 0 to {self.num_classes - 1}"
        else:
            shape, kind = (batch_size, self.condition_dim), "vectors"
            wanted = f"vectors of {self.condition_dim} finite numbers"

        def refuse(problem: str):
            raise ValueError(f"{problem}; give {wanted}, one per image or one for all")

        if labels is None:
            if not self.label_dropout:
                refuse(f"this prior is conditional on {kind}")
            return None
        if isinstance(labels, np.ndarray):
            # torch refuses arrays of negative strides, and warns of read-only ones.
            labels = labels.copy()
        try:
            found = torch.as_tensor(labels)
        except (TypeError, ValueError, RuntimeError, OverflowError):
            refuse(f"labels are {labels!r}")
        numbers = found.dtype != torch.bool and not found.is_complex()
        if self.condition_dim is None:
            numbers = numbers and not found.is_floating_point()
        if not numbers:
            refuse(f"labels are {found.dtype}, not whole numbers")
        if found.shape == shape[1:]:
            found = found.expand(shape)
        if found.shape != shape:
            refuse(
                f"labels have shape {list(found.shape)}, but shape {list(shape)} is "
                "needed"
            )
        if self.condition_dim is None:
            found = found.long()
            outside = (found < 0) | (found >= self.num_classes)
            if check_is_free(found) and outside.any():
                refuse(f"label {found[outside][0]} is out of range")
        else:
            found = found.float()
            if check_is_free(found) and not found.isfinite().all():
                refuse("labels are not finite")
        return found.to(self.embedding.weight.device)


class ConditionalPixelCNN(PixelCNN):
    """P(codes | codes of the level above): a `PixelCNN` with a condition from above.

    The codes above are embedded, go through residual convolutions (unmasked, because
    that whole grid is known), are upsampled to this grid, and enter every block as a
    conditional bias (arXiv 1906.00446, section 3.2; arXiv 1606.05328, section 2.3). The
    condition is bounded. Without the bound it may grow a thousandfold in the first
    steps of training and close all gates, so that the loss stays at the unigram
    entropy.

    Args: as for `PixelCNN`, and
        num_embeddings_above: number of codes in the codebook of the level above; None
            for as many as here.
    """

    conditioned_on_codes = True

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *network,
        num_embeddings_above: int | None = None,
        **named,
    ):
        super().__init__(num_embeddings, embedding_dim, *network, **named)
        above = num_embeddings if num_embeddings_above is None else num_embeddings_above
        check_positive(num_embeddings_above=above)
        self.num_embeddings_above = int(above)
        self._hub_mixin_config["num_embeddings_above"] = self.num_embeddings_above
        p = self._hub_mixin_config["hidden_channels"]
        self.top_embedding = nn.Embedding(above, embedding_dim)
        self.top_network = nn.Sequential(
            nn.Conv2d(embedding_dim, p, 3, padding=1), ResidualStack(p, num_blocks=4)
        )
        self.top_to_bottom = nn.Sequential(nn.Conv2d(p, p, 3, padding=1), BoundedRMS())

    def forward(self, codes: Tensor, above: Tensor, labels=None) -> Tensor:
        """Codes [B, H, W], codes above [B, h, w], labels to logits [B, K, H, W].

        Logits at (y, x) depend on the codes above on all sides, up to a distance of at
        least five positions, and only on those codes of this level that come before
        (y, x) in raster order.
        """
        return self._checked_logits(codes, above, labels)

    def loss_function(
        self, codes: Tensor, above: Tensor, labels=None
    ) -> dict[str, Tensor]:
        """Cross entropy in nats per code, {"total_loss": scalar}; see `forward`."""
        return {"total_loss": self.nats(codes, above, labels).mean()}

    def condition_from_above(self, above: Tensor | None, shape) -> Tensor:
        """Codes of the level above [B, h, w] to [B, p, H, W] for `shape` [B, H, W]."""
        if above is None:
            raise ValueError(
                "this level needs the codes of the level above; give them, [B, h, w]"
            )
        check_codes(above, self.num_embeddings_above, "codes of the level above")
        batch_size, height, width = shape
        if len(above) != batch_size:
            raise ValueError(
                f"{len(above)} grids of the level above were given for {batch_size} "
                "grids of codes; give one per image"
            )
        embedded = self.top_embedding(above.long()).permute(0, 3, 1, 2)
        features = self.top_network(embedded)  # [B, p, h, w]
        features = F.interpolate(features, size=(height, width))  # [B, p, H, W]
        return self.top_to_bottom(features)


def negative_log_likelihood(logits: Tensor, codes: Tensor) -> Tensor:
    """-log P(code | earlier codes) of each code, in nats, float32 [B, H, W].

    Args:
        logits: [B, K, H, W], of any floating-point type.
        codes: [B, H, W], of any integer type, from 0 to K - 1.
    """
    return F.cross_entropy(logits.float(), codes.long(), reduction="none")
