"""What is timed, in numbers: flags of the command, which load no torch."""

from dataclasses import asdict, dataclass

from pixelprior.ranges import check_positive


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What is timed: the prior, the two grids, the batches."""

    batch_sizes: tuple[int, ...] = (1, 4, 16, 64, 256)
    """Batch sizes, in images."""
    repeats: int = 5
    """Rounds of each; medians and ranges are over them."""
    num_embeddings: int = 512
    """Codes in the codebooks."""
    embedding_dim: int = 64
    """Length of a code's vector."""
    hidden_channels: int = 128
    """Channels of each stack."""
    num_layers: int = 15
    """Gated blocks per level."""
    top_size: int = 8
    """Height and width of the top grid."""
    bottom_size: int = 16
    """Height and width of the bottom grid."""

    def check(self) -> None:
        """Raise ValueError unless all are in range."""
        whole = asdict(self)
        for batch_size in whole.pop("batch_sizes"):
            check_positive(batch_size=batch_size)
        check_positive(**whole)
        if not self.batch_sizes:
            raise ValueError("batch_sizes is empty; give one size or more")

    def shape(self, level: str) -> tuple[int, int]:
        return ({"top": self.top_size, "bottom": self.bottom_size}[level],) * 2


@dataclass(frozen=True, kw_only=True)
class TrainingSizes:
    """What is trained: the prior, the batch, the steps."""

    batch_size: int = 32
    """Images per step."""
    epochs: int = 8
    """Parts of the loss curve; each has the same number of steps."""
    steps: int = 8
    """Steps in each of these parts."""
    repeats: int = 5
    """Rounds of all loops, for the time."""
    hidden_channels: int = 128
    """Channels of each stack."""
    num_layers: int = 15
    """Gated blocks per level."""

    def check(self) -> None:
        """Raise ValueError unless all are in range."""
        check_positive(**asdict(self))
