"""The two levels together: P(z_top) · P(z_bottom | z_top).

`HierarchicalPixelCNN` holds one `PixelCNN` a level, gives their losses in nats per
code, and draws codes and, with a VQ-VAE-2, images. The levels share no weights: one may
be trained without the other. Source: Razavi et al. 2019, arXiv 1906.00446, section 3.2.
"""

import secrets

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelprior.checkpoints import Pretrained
from pixelprior.modes import evaluation_mode
from pixelprior.pixelcnn import ConditionalPixelCNN, PixelCNN
from pixelprior.ranges import check_positive, whole_number
from pixelprior.sampling import check_filters, sample_codes, uniforms
from pixelprior.vqvae2 import VQVAE2

LEVELS = ("top", "bottom")


class HierarchicalPixelCNN(nn.Module, Pretrained):
    """A prior over the codes of a VQ-VAE-2.

    Args:
        num_embeddings: codes K of both codebooks, as the VQ-VAE-2 has them.
        embedding_dim: length of the vector a code is turned into (learned here; the
            VQ-VAE-2's own is a good choice).
        hidden_channels: channels of each stack.
        num_layers: gated blocks a level.
        num_classes: classes for labels, None for a prior without.
        dropout: share of features dropped while training.
        kernel_size: of the gated blocks, odd, 3 or more.
        attention_layers: layers of attention over the past in the top level, 0 for
            none (arXiv 1906.00446, section 3.2, has them there alone).
        attention_heads: heads of each.
        vertical_residual: as in `GatedBlock`.
        bounded_condition: as in `ConditionalPixelCNN`.

    Raises:
        ValueError: an argument is out of its range.
    """

    absent_from_config = ConditionalPixelCNN.absent_from_config

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        hidden_channels: int = 128,
        num_layers: int = 15,
        num_classes: int | None = None,
        dropout: float = 0.1,
        kernel_size: int = 3,
        attention_layers: int = 0,
        attention_heads: int = 4,
        vertical_residual: bool = True,
        bounded_condition: bool = True,
    ):
        super().__init__()
        self.num_embeddings, self.num_classes = num_embeddings, num_classes
        shared = (num_embeddings, embedding_dim, hidden_channels, num_layers)
        options = {
            "num_classes": num_classes,
            "dropout": dropout,
            "kernel_size": kernel_size,
            "vertical_residual": vertical_residual,
        }
        self.prior_top = PixelCNN(
            *shared,
            attention_layers=attention_layers,
            attention_heads=attention_heads,
            **options,
        )
        self.prior_bottom = ConditionalPixelCNN(
            *shared, bounded_condition=bounded_condition, **options
        )

    def loss_function(
        self,
        z_top: Tensor,
        z_bottom: Tensor,
        labels=None,
        *,
        levels: tuple[str, ...] = LEVELS,
    ) -> dict[str, Tensor]:
        """Cross entropy of both levels, in nats per code.

        Args:
            z_top: long [B, Ht, Wt]. z_bottom: long [B, Hb, Wb]. labels: as in `sample`.
            levels: which losses to compute.

        Returns:
            {"total_loss", "top_loss", "bottom_loss"}, scalars; total is their sum. The
            levels share no weights, so neither's gradient depends on the other.

        Raises:
            ValueError: codes or labels have the wrong type or shape, or are out of
                range.
        """
        if not levels or not set(levels) <= set(LEVELS):
            raise ValueError(f"levels are {levels}; give some of {LEVELS}")
        losses = {}
        if "top" in levels:
            logits = self.prior_top(z_top, labels)
            losses["top_loss"] = F.cross_entropy(logits.float(), z_top.long())
        if "bottom" in levels:
            logits = self.prior_bottom(z_bottom, z_top, labels)
            losses["bottom_loss"] = F.cross_entropy(logits.float(), z_bottom.long())
        return {"total_loss": sum(losses.values()), **losses}

    def training_parts(self) -> dict[str, nn.Module]:
        """The losses that training minimises and the level that each belongs to."""
        return {"top_loss": self.prior_top, "bottom_loss": self.prior_bottom}

    def labels_in_turn(self, count: int) -> Tensor | None:
        """Labels 0, 1, … in turn, long [count]; None for a prior without classes."""
        if self.num_classes is None:
            return None
        return torch.arange(count) % self.num_classes

    @torch.no_grad()
    def sample(
        self,
        batch_size: int,
        top_shape: tuple[int, int],
        bottom_shape: tuple[int, int],
        device=None,
        temperature: float = 1.0,
        *,
        top_k: int | None = None,
        top_p: float | None = None,
        labels=None,
        seed: int | None = None,
        first_index: int = 0,
        known_top: Tensor | None = None,
        known_bottom: Tensor | None = None,
        method: str = "auto",
        progress: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Draw codes: the top grid, then the bottom grid given it.

        Codes are drawn in the weights' own number format: autocast ends here.

        Args:
            batch_size: images to draw.
            top_shape, bottom_shape: (height, width) of the grids.
            device: where to draw; None is where the prior is. The prior is moved there.
            temperature: divides the logits; above 0.
            top_k: keep the likeliest k codes. top_p: keep the likeliest codes that hold
                this share of the probability, in (0, 1].
            labels: for a prior with classes; whole numbers of any integer type, one for
                all images or one per image: an int, list, tuple, array or tensor.
            seed: a whole number; the same seed gives the same codes; None takes a new
                one.
            first_index: number of the batch's first image in its random stream: image i
                of a large batch is image 0 of a batch with first_index=i.
            known_top, known_bottom: long grids, -1 where unknown; what is known is kept
                and the rest drawn given the codes before it.
            method: "naive" (the whole network for each code), "rows" (on the rows so
                far), "cached" (each layer computes what is new), "graph" (cached, as a
                CUDA graph), or "auto", which is "cached".
            progress: show bars with the time left.

        Returns:
            (z_top [B, Ht, Wt], z_bottom [B, Hb, Wb]), long.

        Raises:
            ValueError: an argument is out of its range, or the weights are not finite.
        """
        check_positive(batch_size=batch_size)
        check_filters(temperature, top_k, top_p)
        batch_size, shapes = whole_number(batch_size), []
        for name, shape in (("top_shape", top_shape), ("bottom_shape", bottom_shape)):
            shapes.append(tuple(whole_number(side) for side in shape))
            if len(shape) != 2 or min(side or 0 for side in shapes[-1]) < 1:
                raise ValueError(
                    f"{name} is {tuple(shape)}; give (height, width), each at least 1"
                )
        top_shape, bottom_shape = shapes
        if device is not None:
            self.to(device)
        device = next(self.parameters()).device
        labels = self.prior_top.check_labels(labels, batch_size)
        count_top, count_bottom = (h * w for h, w in (top_shape, bottom_shape))
        if seed is None:
            seed = secrets.randbits(63)
        numbers = uniforms(seed, first_index, batch_size, count_top + count_bottom)
        shared = {
            "temperature": temperature,
            "top_k": top_k,
            "top_p": top_p,
            "method": method,
            "progress": progress,
        }
        # Steps that reuse what earlier ones kept cannot have it in another format.
        with evaluation_mode(self), torch.autocast(device.type, enabled=False):
            condition = self.prior_top.label_condition(labels, batch_size)
            z_top = sample_codes(
                self.prior_top,
                top_shape,
                numbers[:, :count_top],
                condition,
                known=known_top,
                name="top codes",
                **shared,
            )
            condition = self.prior_bottom.top_condition(
                z_top, (batch_size, *bottom_shape), labels
            )
            z_bottom = sample_codes(
                self.prior_bottom,
                bottom_shape,
                numbers[:, count_top:],
                condition,
                known=known_bottom,
                name="bottom codes",
                **shared,
            )
        return z_top, z_bottom

    @torch.no_grad()
    def sample_with_vqvae2(
        self,
        vqvae2_model: VQVAE2,
        batch_size: int,
        device=None,
        temperature: float = 1.0,
        **options,
    ) -> Tensor:
        """Draw images: codes as `sample` draws them, decoded.

        Args:
            vqvae2_model: the VQ-VAE-2 whose codes this prior was trained on; it is
                moved to where the codes are drawn.
            batch_size, device, temperature, options: as in `sample`.

        Returns:
            Images [B, C, S, S] in [0, 1].

        Raises:
            ValueError: as `sample`, or the codebooks differ in size.
        """
        self.check_matches(vqvae2_model)
        z_top, z_bottom = self.sample(
            batch_size,
            (vqvae2_model.latent_spatial_dim_top,) * 2,
            (vqvae2_model.latent_spatial_dim_bottom,) * 2,
            device,
            temperature,
            **options,
        )
        device = z_top.device
        with evaluation_mode(vqvae2_model), torch.autocast(device.type, enabled=False):
            return vqvae2_model.to(device).decode_codes(z_top, z_bottom)

    def check_matches(self, vqvae2_model: VQVAE2) -> None:
        """Raise ValueError unless the VQ-VAE-2 has a codebook of this prior's size."""
        if self.num_embeddings != vqvae2_model.num_embeddings:
            raise ValueError(
                f"the prior is for a codebook of {self.num_embeddings} codes, but the "
                f"VQ-VAE-2 has {vqvae2_model.num_embeddings}; use the VQ-VAE-2 that "
                "the prior was trained on"
            )
