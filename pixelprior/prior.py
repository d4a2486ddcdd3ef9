"""The two levels together: P(z_top) · P(z_bottom | z_top).

`HierarchicalPixelCNN` holds one `PixelCNN` per level, gives their losses in nats per
code, and draws codes and, with a VQ-VAE-2, images. The levels share no weights, so that
either can be trained without the other. Source: Razavi et al. 2019, arXiv 1906.00446,
section 3.2.
"""

from typing import Protocol

import torch
from torch import Tensor, nn

from pixelprior.checkpoints import Pretrained
from pixelprior.modes import evaluation_mode
from pixelprior.pixelcnn import ConditionalPixelCNN, PixelCNN, negative_log_likelihood
from pixelprior.ranges import check_positive, whole_number
from pixelprior.sampling import CHUNK_SIZE, chunks_of, draw_grids
from pixelprior.validation import check_guidance

LEVELS = ("top", "bottom")


class Tokenizer(Protocol):
    """What a prior needs of a tokenizer, which is also a `torch.nn.Module`.

    Attributes:
        num_embeddings: number of codes K, the same for all levels.
        grids: (height, width) of the grid of each level: one, or two with the top grid
            first.
    """

    num_embeddings: int
    grids: tuple[tuple[int, int], ...]

    def get_code_indices(self, images: Tensor) -> dict[str, Tensor]:
        """Images [B, C, H, W] in [0, 1] to "indices_top" and, with two levels,
        "indices_bottom": long [B, h, w]."""

    def decode_codes(self, *codes: Tensor) -> Tensor:
        """One grid of codes [B, h, w] per level to images [B, C, H, W] in [0, 1]."""


class HierarchicalPixelCNN(nn.Module, Pretrained):
    """A prior over the codes of a VQ-VAE-2.

    Args:
        num_embeddings: number of codes K in each codebook of the VQ-VAE-2.
        embedding_dim: length of the vector that a code is embedded as. The vectors are
            learned here; the length of the VQ-VAE-2's vectors is a good choice.
        hidden_channels: channels of each stack.
        num_layers: number of gated blocks per level.
        num_classes: number of classes; None for a prior without labels.
        label_dropout: as in `PixelCNN`; 0.1 allows guidance in `sample`.
        dropout: share of features that are dropped during training.
        kernel_size: kernel size of the gated blocks; odd, 3 or more.
        attention_layers: number of attention layers over the past in the top level; 0
            means none (arXiv 1906.00446, section 3.2, has them in the top level only).
        attention_heads: heads of each attention layer.
        vertical_residual: as in `GatedBlock`.
        bounded_condition: as in `ConditionalPixelCNN`.
    """

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
        label_dropout: float = 0.0,
    ):
        super().__init__()
        self.num_embeddings, self.num_classes = num_embeddings, num_classes
        self.label_dropout = label_dropout
        shared = (num_embeddings, embedding_dim, hidden_channels, num_layers)
        options = {
            "num_classes": num_classes,
            "label_dropout": label_dropout,
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
            levels: the levels whose losses are computed.

        Returns:
            {"total_loss", "top_loss", "bottom_loss"}, scalars; the total is the sum of
            the others. The levels share no weights, so that the gradient of neither
            level depends on the other.

        Raises:
            ValueError: codes or labels have the wrong type or shape, or are out of
                range.
        """
        if not levels or not set(levels) <= set(LEVELS):
            raise ValueError(f"levels are {levels}; give some of {LEVELS}")
        losses = {}
        if "top" in levels:
            logits = self.prior_top(z_top, labels)
            losses["top_loss"] = negative_log_likelihood(logits, z_top).mean()
        if "bottom" in levels:
            logits = self.prior_bottom(z_bottom, z_top, labels)
            losses["bottom_loss"] = negative_log_likelihood(logits, z_bottom).mean()
        return {"total_loss": sum(losses.values()), **losses}

    def levels(self) -> dict[str, PixelCNN]:
        """The levels by name, in the order in which they are drawn."""
        return {"top": self.prior_top, "bottom": self.prior_bottom}

    def training_parts(self) -> dict[str, nn.Module]:
        """The losses that training minimises and the level that each belongs to."""
        return {"top_loss": self.prior_top, "bottom_loss": self.prior_bottom}

    def labels_in_turn(self, count: int) -> Tensor | None:
        """Labels 0, 1, … in turn, long [count]; None for a prior without classes."""
        return self.prior_top.labels_in_turn(count)

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
        guidance: float | tuple[float, float] = 0.0,
        seed: int | None = None,
        first_index: int = 0,
        known_top: Tensor | None = None,
        known_bottom: Tensor | None = None,
        method: str = "auto",
        chunk_size: int = CHUNK_SIZE,
        progress: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Draw codes: the top grid, then the bottom grid given it.

        Codes are drawn in the number format of the weights; autocast is switched off.
        Memory grows with `chunk_size`, and with `batch_size` only for the codes and
        their random numbers.

        Args:
            batch_size: number of images to draw.
            top_shape, bottom_shape: (height, width) of the grids.
            device: the device to draw on; the prior is moved there. None draws on the
                device of the prior.
            temperature: number above 0 that divides the logits.
            top_k: draw from the k most likely codes only. top_p: draw only from the
                most likely codes that together hold this share of the probability, in
                (0, 1].
            labels: for a prior with classes: whole numbers of any integer type, one for
                all images or one per image, as an int, list, tuple, array or tensor.
            guidance: w of classifier-free guidance (arXiv 2207.12598, equation 6): the
                logits are (1 + w) · those with the label − w · those without it, before
                temperature and filters. One number, or (top, bottom). 0 draws from the
                prior itself. Papers that write s for 1 + w count from 1.
            seed: a whole number. The same seed gives the same codes; None takes one
                from torch's generator, so that `torch.manual_seed` repeats the codes.
            first_index: index of the first image, by which its random stream is chosen:
                image i of a large batch is image 0 of a batch with first_index=i.
            known_top, known_bottom: long grids, -1 where unknown. Known codes are kept,
                and the rest is drawn given the codes before it.
            method: "naive" (the whole network on the whole grid for each code), "rows"
                (the whole network on the rows so far), "cached" (each layer computes
                only what is new), "graph" ("cached" as a CUDA graph), or "auto", which
                is "cached".
            chunk_size: largest number of images that are drawn as one batch; more
                images are drawn in several batches. The codes are the same, up to
                rounding ties.
            progress: show progress bars with the time left.

        Returns:
            (z_top [B, Ht, Wt], z_bottom [B, Hb, Wb]), long.

        Raises:
            ValueError: an argument is out of its range, the weights are not finite, or
                guidance has no labels, or a prior that was trained with all labels.
        """
        check_positive(batch_size=batch_size)
        if device is not None:
            self.to(device)
        labels = self.prior_top.check_labels(labels, whole_number(batch_size))
        z_top, z_bottom = draw_grids(
            self.levels(),
            {"top_shape": top_shape, "bottom_shape": bottom_shape},
            batch_size,
            labels=labels,
            guidance=check_guidance(guidance, labels, self.label_dropout),
            known={"top": known_top, "bottom": known_bottom},
            seed=seed,
            first_index=first_index,
            chunk_size=chunk_size,
            progress=progress,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            method=method,
        )
        return z_top, z_bottom

    @torch.no_grad()
    def sample_with_vqvae2(
        self,
        vqvae2_model: Tokenizer,
        batch_size: int,
        device=None,
        temperature: float = 1.0,
        *,
        chunk_size: int = CHUNK_SIZE,
        **options,
    ) -> Tensor:
        """Draw images: draw codes as `sample` does, and decode them.

        Args:
            vqvae2_model: the VQ-VAE-2 whose codes this prior was trained on, or another
                tokenizer of two levels; it is moved to the device on which the codes
                are drawn.
            batch_size, device, temperature, options: as in `sample`.
            chunk_size: as in `sample`, for drawing and for decoding.

        Returns:
            Images [B, C, H, W] in [0, 1].

        Raises:
            ValueError: as in `sample`, or the codebooks differ in size.
        """
        self.check_matches(vqvae2_model)
        z_top, z_bottom = self.sample(
            batch_size,
            *vqvae2_model.grids,
            device,
            temperature,
            chunk_size=chunk_size,
            **options,
        )
        device, images = z_top.device, []
        with evaluation_mode(vqvae2_model), torch.autocast(device.type, enabled=False):
            vqvae2_model.to(device)
            for chunk in chunks_of(len(z_top), chunk_size):
                images.append(vqvae2_model.decode_codes(z_top[chunk], z_bottom[chunk]))
        return torch.cat(images)

    def check_matches(self, vqvae2_model: Tokenizer) -> None:
        """Raise ValueError unless the VQ-VAE-2 has two grids, and as many codes."""
        if self.num_embeddings != vqvae2_model.num_embeddings:
            raise ValueError(
                f"the prior is for a codebook of {self.num_embeddings} codes, but the "
                f"VQ-VAE-2 has {vqvae2_model.num_embeddings}; use the VQ-VAE-2 that "
                "the prior was trained on"
            )
        if len(vqvae2_model.grids) != len(LEVELS):
            raise ValueError(
                f"the prior has two levels, but this tokenizer has "
                f"{len(vqvae2_model.grids)}; train a PixelCNN on its codes"
            )
