"""All levels together: P(z_0) · P(z_1 | z_0) · …, for VQ-VAE-2 P(z_top) · P(z_bottom |
z_top).

`HierarchicalPixelCNN` holds one `PixelCNN` per level, gives their losses in nats per
code, and draws codes and, with a tokenizer, images. The levels share no weights, so
that each can be trained without the others. Source: Razavi et al. 2019, arXiv
1906.00446, section 3.2.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Protocol

import torch
from torch import Tensor, nn

from pixelprior.checkpoints import Pretrained
from pixelprior.devices import evaluation_mode
from pixelprior.pixelcnn import ConditionalPixelCNN, PixelCNN
from pixelprior.sampling import sample_levels
from pixelprior.settings import CHUNK_SIZE, NetworkSettings, SamplingOptions

LEVELS = ("top", "bottom")  # the two levels of a VQ-VAE-2


def level_names(count: int) -> tuple[str, ...]:
    """The names of so many levels, from the top down."""
    if count == len(LEVELS):
        return LEVELS
    return tuple(f"level_{number}" for number in range(count))


def level_number(level: str | int, count: int) -> int:
    """The number of a level, which is given by number or by name.

    Raises:
        ValueError: there is no such level.
    """
    names = level_names(count)
    for number, name in enumerate(names):
        if str(level) in (name, str(number)):
            return number
    raise ValueError(
        f"level is {level!r}, but the levels are {', '.join(names)}; give one of them, "
        f"or its number from 0 to {count - 1}"
    )


def per_level(num_embeddings, count: int) -> tuple[int, ...]:
    """The number of codes K of each of so many levels, from one number or from all."""
    if hasattr(num_embeddings, "tolist"):  # of NumPy or torch
        num_embeddings = num_embeddings.tolist()
    if isinstance(num_embeddings, Sequence):
        return tuple(num_embeddings)
    return (num_embeddings,) * count


class Tokenizer(Protocol):
    """What a prior needs of a tokenizer, which is also a `torch.nn.Module`.

    Attributes:
        num_embeddings: number of codes K, or one number per level.
        grids: (height, width) of the grid of each level, the top grid first.
    """

    num_embeddings: int | tuple[int, ...]
    grids: tuple[tuple[int, int], ...]

    def get_code_indices(self, images: Tensor) -> dict[str, Tensor]:
        """Images [B, C, H, W] in [0, 1] to long [B, h, w] for each level, from the top
        down, by the names "indices_top" and "indices_bottom", or "indices_level_0"…"""

    def decode_codes(self, *codes: Tensor) -> Tensor:
        """One grid of codes [B, h, w] per level to images [B, C, H, W] in [0, 1]."""


class HierarchicalPixelCNN(nn.Module, Pretrained):
    """A prior over the codes of a tokenizer of one level or of several.

    Args:
        num_embeddings: number of codes K of both codebooks of a VQ-VAE-2; or a list of
            one number per level, from the top down, for any number of levels.
        embedding_dim: length of the vector that a code is embedded as. The vectors are
            learned here; the length of the tokenizer's vectors is a good choice.
        network: hidden_channels, num_layers and all else of `settings.NetworkSettings`,
            in its order or by name. Attention is in the top level alone (arXiv
            1906.00446, section 3.2).

    Attributes:
        levels: the levels from the top down: a `PixelCNN`, and a `ConditionalPixelCNN`
            for each level below.
        level_names: their names: "top" and "bottom" for two levels, else "level_0" and
            so on. `prior_top`, `prior_bottom` and the like are the levels themselves.
    """

    def __init__(
        self, num_embeddings: int | Sequence[int], embedding_dim: int, *network, **named
    ):
        super().__init__()
        settings = NetworkSettings(*network, **named)
        sizes = per_level(num_embeddings, 2)
        if not sizes:
            raise ValueError("num_embeddings is empty; give one number per level")
        self.num_classes = settings.num_classes
        self.label_dropout = settings.label_dropout
        self.level_names = level_names(len(sizes))
        options, above = asdict(settings), None
        for name, size in zip(self.level_names, sizes, strict=True):
            if above is None:
                level = PixelCNN(size, embedding_dim, **options)
                options["attention_layers"] = 0
            else:
                level = ConditionalPixelCNN(
                    size, embedding_dim, num_embeddings_above=above, **options
                )
            # The names of the weights of two levels are prior_top and prior_bottom.
            self.add_module(f"prior_{name}", level)
            above = level.num_embeddings
        sizes = tuple(level.num_embeddings for level in self.levels)
        two_alike = len(sizes) == 2 and sizes[0] == sizes[1]
        self.num_embeddings = sizes[0] if two_alike else sizes
        self._hub_mixin_config = {
            "num_embeddings": self.num_embeddings,
            "embedding_dim": int(embedding_dim),
            **asdict(settings),
        }

    @property
    def levels(self) -> list[PixelCNN]:
        return [getattr(self, f"prior_{name}") for name in self.level_names]

    def loss_function(
        self, *codes: Tensor, labels=None, levels: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """Cross entropy of the levels, in nats per code.

        Args:
            codes: long [B, H, W] of each level, from the top down: z_top and z_bottom.
                The labels may follow them.
            labels: as in `sample`.
            levels: names of the levels whose losses are computed; None for all.

        Returns:
            {"total_loss", "top_loss", "bottom_loss"} for two levels, else
            {"total_loss", "level_0_loss", …}: scalars; the total is the sum of the
            others. The levels share no weights, so that the gradient of no level
            depends on another.
        """
        nats = self.nats(*codes, labels=labels, levels=levels)
        losses = {f"{name}_loss": each.mean() for name, each in nats.items()}
        return {"total_loss": sum(losses.values()), **losses}

    def nats(
        self, *codes: Tensor, labels=None, levels: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """-log P(code | what is before it) of each code, float32 [B, H, W], by level.

        Args: as in `loss_function`.

        Raises:
            ValueError: there are more or fewer grids than levels, or no such level.
        """
        if len(codes) == len(self.level_names) + 1 and labels is None:
            *codes, labels = codes
        if len(codes) != len(self.level_names):
            raise ValueError(
                f"{len(codes)} grids of codes were given to a prior of "
                f"{len(self.level_names)} level(s); give one per level, from the top"
            )
        wanted = self.level_names if levels is None else levels
        if not wanted or not set(wanted) <= set(self.level_names):
            raise ValueError(f"levels are {levels}; give some of {self.level_names}")
        nats, above = {}, None
        for name, level, grid in zip(self.level_names, self.levels, codes, strict=True):
            if name in wanted:
                nats[name] = level.nats(grid, above, labels)
            above = grid
        return nats

    def training_parts(self) -> dict[str, nn.Module]:
        """The losses that training minimises and the level that each belongs to."""
        names = [f"{name}_loss" for name in self.level_names]
        return dict(zip(names, self.levels, strict=True))

    def labels_in_turn(self, count: int) -> Tensor | None:
        """Labels 0, 1, … in turn, long [count]; None for a prior without classes."""
        return self.levels[0].labels_in_turn(count)

    @torch.no_grad()
    def sample(
        self,
        batch_size: int,
        top_shape: tuple[int, int] | None = None,
        bottom_shape: tuple[int, int] | None = None,
        device=None,
        temperature: float = 1.0,
        *,
        shapes: Sequence[tuple[int, int]] | None = None,
        labels=None,
        known: Sequence[Tensor | None] | None = None,
        known_top: Tensor | None = None,
        known_bottom: Tensor | None = None,
        progress: bool = False,
        **options,
    ) -> tuple[Tensor, ...]:
        """Draw codes: the top grid, then each grid below given the one above it.

        Codes are drawn in the number format of the weights; autocast is switched off.
        Memory grows with `chunk_size`, and with `batch_size` only for the codes and
        their random numbers.

        Args:
            batch_size: number of images to draw.
            top_shape, bottom_shape: (height, width) of the grids of two levels.
            device: the device to draw on; the prior is moved there. None draws on the
                device of the prior.
            temperature, options: those of `settings.SamplingOptions`: top_k, top_p,
                guidance, seed, method, first_index, chunk_size.
            shapes: (height, width) of each level's grid, for any number of levels.
            labels: for a prior with classes: whole numbers of any integer type, one for
                all images or one per image, as an int, list, tuple, array or tensor.
                For a prior with `condition_dim`: vectors [B, D], or one vector [D].
            known: long grids of each level, -1 where unknown; None for a level of which
                nothing is known. Known codes are kept, and the rest is drawn given the
                codes before it. known_top, known_bottom: the same for two levels.
            progress: show progress bars with the time left.

        Returns:
            Codes of each level, long [B, H, W]; for two levels (z_top, z_bottom).

        Raises:
            ValueError: an argument is out of its range, or the weights are not finite.
        """
        if device is not None:
            self.to(device)
        if shapes is None:
            shapes = (top_shape, bottom_shape)
        if known is None and not (known_top is None and known_bottom is None):
            known = (known_top, known_bottom)
        names = [f"{name.replace('_', ' ')} codes" for name in self.level_names]
        return sample_levels(
            dict(zip(names, self.levels, strict=True)),
            shapes,
            batch_size,
            SamplingOptions(temperature, **options),
            labels=labels,
            known=known,
            progress=progress,
        )

    @torch.no_grad()
    def sample_with_vqvae2(
        self,
        vqvae2_model: Tokenizer,
        batch_size: int,
        device=None,
        temperature: float = 1.0,
        **options,
    ) -> Tensor:
        """Draw images: draw codes as `sample` does, and decode them.

        Args:
            vqvae2_model: the tokenizer whose codes this prior was trained on; it is
                moved to the device on which the codes are drawn.
            batch_size, device, temperature, options: as in `sample`. As many images
                are decoded together as are drawn together.

        Returns:
            Images [B, C, H, W] in [0, 1].
        """
        self.check_matches(vqvae2_model)
        options |= {"shapes": vqvae2_model.grids}
        codes = self.sample(batch_size, None, None, device, temperature, **options)
        size, device = options.get("chunk_size", CHUNK_SIZE), codes[0].device
        parts = zip(*(grid.split(int(size)) for grid in codes), strict=True)
        with evaluation_mode(vqvae2_model), torch.autocast(device.type, enabled=False):
            vqvae2_model.to(device)
            return torch.cat([vqvae2_model.decode_codes(*part) for part in parts])

    def check_matches(self, vqvae2_model: Tokenizer) -> None:
        """Raise ValueError unless the tokenizer has these levels, with these codes."""
        ours = [level.num_embeddings for level in self.levels]
        count = len(vqvae2_model.grids)
        theirs = list(per_level(vqvae2_model.num_embeddings, count))
        if ours != theirs:
            raise ValueError(
                f"the prior is for {len(ours)} level(s) of {ours} codes, but the "
                f"tokenizer has {count} of {theirs}; use the tokenizer that the prior "
                "was trained on"
            )
