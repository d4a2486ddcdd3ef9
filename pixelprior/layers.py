"""The layers of one level of the prior: masked convolution, gated block, attention.

The steps by which sampling goes through them, row by row and code by code, are in
`cache.py`.
"""

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelprior.settings import check_kernel_size


def _check_mask(mask_type: str, kernel_size: int) -> None:
    if mask_type not in ("A", "B"):
        raise ValueError(f"mask_type is {mask_type!r}; give 'A' or 'B'")
    check_kernel_size(kernel_size)


class MaskedConv2d(nn.Conv2d):
    """A k×k convolution that sees only earlier positions in raster order.

    Mask A excludes the centre and is for the first layer; mask B includes it and is for
    all other layers. The mask is a buffer. `forward` multiplies the weight by it, and
    the weight itself is never changed. A stack of these layers alone has a blind spot
    to the upper right (arXiv 1606.05328, figure 1), which is why `PixelCNN` is built
    from `GatedBlock` instead.

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


class BoundedRMS(nn.Module):
    """x / sqrt(1 + mean x²), with the mean over channels.

    This is RMSNorm (arXiv 1910.07467) with an ε of 1. Small values hardly change, and
    the root mean square over channels stays below 1.

    Shapes: [B, C, H, W] to the same.
    """

    def forward(self, x: Tensor) -> Tensor:
        return x * (1 + x.square().mean(dim=1, keepdim=True)).rsqrt()


class GatedBlock(nn.Module):
    """A vertical and a horizontal gated convolution (arXiv 1606.05328, figure 2).

    The kernels are cropped to the positions that they may see, so that no product is
    computed and then masked. With padding r = kernel_size // 2, mask B sees rows y-r to
    y (vertical) and codes x-r to x (horizontal); mask A ends at y-1 and at x-1. A
    condition is added to the vertical features before the gate, and reaches the
    horizontal stack with these features.

    Args:
        mask_type: "A" for the first block, "B" for all others.
        in_channels, hidden_channels: channels of both incoming stacks, and channels p
            of both outgoing stacks.
        kernel_size: odd, 3 or more.
        condition_channels: channels of the condition; 0 for no condition.
        dropout: share of the horizontal features that are dropped during training.

    Attributes:
        mask_a: whether this is a first block.
        padding: r. extent: rows and codes under the cropped kernels, r or r + 1.
        vertical_residual: whether the vertical stack has a residual. Without one each
            gate halves the stack, and at 15 blocks nothing of it is left.
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
        p, self.padding = hidden_channels, kernel_size // 2
        self.mask_a = mask_type == "A"
        # A residual around mask A would leak the code that is to be predicted.
        self.vertical_residual = not self.mask_a
        self.extent = self.padding if self.mask_a else self.padding + 1
        self.vertical = nn.Conv2d(in_channels, 2 * p, (self.extent, kernel_size))
        self.horizontal = nn.Conv2d(in_channels, 2 * p, (1, self.extent))
        self.vertical_to_horizontal = nn.Conv2d(2 * p, 2 * p, 1)
        self.horizontal_out = nn.Conv2d(p, p, 1)
        self.condition = None
        if condition_channels:
            self.condition = nn.Conv2d(condition_channels, 2 * p, 1, bias=False)
        self.dropout = nn.Dropout(dropout)
        # A gate halves its input. With torch's smaller default weights, little of the
        # signal reaches the last block, and the loss may stay at the unigram entropy.
        for into_gate in (self.vertical, self.horizontal, self.vertical_to_horizontal):
            nn.init.kaiming_normal_(into_gate.weight, nonlinearity="linear")
            nn.init.zeros_(into_gate.bias)

    def forward(self, v: Tensor, h: Tensor, condition=None) -> tuple[Tensor, Tensor]:
        """Both stacks over the whole grid.

        Args:
            v, h: the vertical and the horizontal stack, [B, in_channels, H, W]; for
                mask A both are the embedded codes.
            condition: [B, condition_channels, H or 1, W or 1], or None.

        Returns:
            The new vertical and the new horizontal stack, [B, p, H, W] each.
        """
        # Mask A: the stacks are shifted by one, so that the last row and the last code
        # are cut off.
        r, end = self.padding, -1 if self.mask_a else 0
        features = self.vertical(F.pad(v, (r, r, r, end)))  # [B, 2p, H, W]
        if condition is not None:
            features += self.condition(condition)
        across = self.vertical_to_horizontal(features)  # [B, 2p, H, W]
        across += self.horizontal(F.pad(h, (r, end, 0, 0)))
        out = self.horizontal_out(self.dropout(gate(across)))  # [B, p, H, W]
        new_v = gate(features)  # [B, p, H, W]
        if self.vertical_residual:
            new_v = new_v + v
        return new_v, out if self.mask_a else out.add_(h)


def positions(height: int, width: int, channels: int, like: Tensor) -> Tensor:
    """Sinusoids of y and of x, [H * W, channels] (arXiv 1706.03762, section 3.5).

    They identify a position in a grid of any size. The sinusoids of a row do not depend
    on the height of the grid.
    """
    return _positions(height, width, channels, like.dtype, like.device)


@functools.lru_cache(maxsize=16)  # those of a few grids, for every forward pass
@torch.inference_mode(False)  # a kept tensor may be needed for a gradient later
def _positions(height: int, width: int, channels: int, dtype, device) -> Tensor:
    count = math.ceil(channels / 4)
    rates = 10000.0 ** -(torch.arange(count, dtype=torch.float64) / count)
    y = torch.arange(height, dtype=torch.float64)[:, None, None] * rates
    x = torch.arange(width, dtype=torch.float64)[None, :, None] * rates
    waves = [y.sin(), x.sin(), y.cos(), x.cos()]
    waves = torch.cat([wave.expand(height, width, count) for wave in waves], dim=-1)
    return waves.flatten(0, 1)[:, :channels].to(device, dtype)


class CausalAttention(nn.Module):
    """Multi-head attention of each position over the earlier ones (arXiv 1906.00446,
    section 3.2; arXiv 1712.09763, section 2).

    The query at a position is computed from the horizontal stack there, which has seen
    the codes before it. Keys and values are computed from the horizontal stack and the
    code of each earlier position. The first position has no past, so that its attention
    is zero and never a softmax over nothing.

    Args:
        channels: channels p of the horizontal stack.
        embedding_dim: length of an embedded code.
        num_heads: number of heads, a divisor of p.
    """

    def __init__(self, channels: int, embedding_dim: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(channels + embedding_dim, 2 * channels)
        self.out = nn.Linear(channels, channels, bias=False)

    def forward(self, h: Tensor, embedded: Tensor) -> Tensor:
        """h [B, p, H, W] and embedded codes [B, D, H, W] to [B, p, H, W]."""
        encoded = positions(*h.shape[2:], h.shape[1], h)  # [N, p], N = H · W
        located = h.flatten(2).transpose(1, 2) + encoded  # [B, N, p]
        codes = embedded.flatten(2).transpose(1, 2)  # [B, N, D]
        query = self.heads(self.query(located))  # [B, heads, N, p / heads]
        key, value = map(self.heads, self.keys_and_values(located, codes))
        out = torch.zeros_like(query)
        if len(encoded) > 1:
            # Query i sees keys 0 to i - 1. Without the first query and the last key,
            # this is torch's causal mask.
            past = (query[:, :, 1:], key[:, :, :-1], value[:, :, :-1])
            out = F.scaled_dot_product_attention(*past, is_causal=True)
            out = F.pad(out, (0, 0, 1, 0))
        out = self.out(out.transpose(1, 2).flatten(2))  # [B, N, p]
        return out.transpose(1, 2).unflatten(2, h.shape[2:])

    def keys_and_values(self, located: Tensor, codes: Tensor):
        return self.key_value(torch.cat([located, codes], dim=-1)).chunk(2, dim=-1)

    def heads(self, x: Tensor) -> Tensor:
        """[B, N, p] to [B, heads, N, p / heads]."""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class ResidualStack(nn.Module):
    """Residual blocks of ReLU, 3×3, ReLU, 1×1 (arXiv 1906.00446, table 5)."""

    def __init__(self, channels: int, num_blocks: int):
        super().__init__()
        inside = max(1, channels // 2)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.ReLU(),
                nn.Conv2d(channels, inside, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(inside, channels, 1),
            )
            for _ in range(num_blocks)
        )

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + block(x)
        return F.relu(x)


INTEGERS = (torch.int64, torch.int32, torch.int16, torch.uint8)


def check_codes(codes: Tensor, num_embeddings: int, name: str = "codes") -> None:
    """Raise ValueError unless `codes` are integers [B, H, W] within the codebook."""
    check_tensor(codes, name)
    if codes.dtype not in INTEGERS:
        raise ValueError(
            f"{name} are {codes.dtype}, but codes are integers (torch.long); "
            "pass the indices themselves, never scaled floats"
        )
    if codes.ndim != 3 or 0 in codes.shape:
        raise ValueError(
            f"{name} have shape {list(codes.shape)}, but [B, H, W] with no empty "
            "dimension is needed; add the missing dimension or give at least one code"
        )
    if not check_is_free(codes):
        return
    low, high = codes.min().item(), codes.max().item()
    if low < 0 or high >= num_embeddings:
        raise ValueError(
            f"{name} run from {low} to {high}, but the codebook has codes 0 to "
            f"{num_embeddings - 1}; use codes of the tokenizer that this model is for"
        )


def check_is_free(values: Tensor) -> bool:
    """Whether values can be checked without a delay.

    While a GPU trains, the host would have to wait for the values at each step. There,
    the lookup of a value out of range in an embedding raises an error by itself.
    """
    return values.device.type == "cpu" or not torch.is_grad_enabled()


def check_tensor(value: Tensor, name: str) -> None:
    """Raise ValueError unless `value` is a torch.Tensor."""
    if not isinstance(value, Tensor):
        raise ValueError(
            f"{name} are a {type(value).__name__}, but a torch.Tensor is needed; "
            "convert with torch.as_tensor"
        )
