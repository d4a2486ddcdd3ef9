"""The sizes that are timed: flags of the command, in a module that loads no torch."""

from dataclasses import asdict, dataclass

from pixelprior.settings import check_positive


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Sizes that are timed: those of the prior, the two grids and the batches."""

    batch_sizes: tuple[int, ...] = (1, 4, 16, 64, 256)
    """Batch sizes, in images."""
    repeats: int = 5
    """Number of rounds; medians and ranges are over the rounds."""
    num_embeddings: int = 512
    """Number of codes in each codebook."""
    embedding_dim: int = 64
    """Length of a code's vector."""
    hidden_channels: int = 128
    """Channels of each stack."""
    num_layers: int = 15
    """Number of gated blocks per level."""
    top_size: int = 8
    """Height and width of the top grid."""
    bottom_size: int = 16
    """Height and width of the bottom grid."""

    def __post_init__(self):
        whole = asdict(self)
        if not whole.pop("batch_sizes"):
            raise ValueError("batch_sizes is empty; give one size or more")
        check_positive(batch_size=min(self.batch_sizes), **whole)

    def shape(self, level: str) -> tuple[int, int]:
        return ({"top": self.top_size, "bottom": self.bottom_size}[level],) * 2
