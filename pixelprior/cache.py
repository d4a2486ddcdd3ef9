"""The fast path of sampling: what one level computes and keeps at each step.

`layers.py` and `pixelcnn.py` follow the paper and contain nothing about sampling. Here
each `forward` over a whole grid has its steps for one row and for one code, in the way
of a transformer's key-value cache. All steps together perform as many multiplications
as one `forward` and give the same numbers, which the tests check. `BlockCache` belongs
to a `GatedBlock`, `AttentionCache` to a `CausalAttention`, and `PixelCNNCache` to a
whole level.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelprior.layers import CausalAttention, GatedBlock, positions

Pairs = list[tuple[Tensor, Tensor]]


class Level(Protocol):
    """What sampling needs to know of a level: a `PixelCNN` has it."""

    num_embeddings: int
    embedding: nn.Embedding
    blocks: Sequence[GatedBlock]
    attention: Mapping[str, CausalAttention]
    output_layers: tuple[nn.Conv2d, nn.Conv2d]

    def conditioning(self, above, labels, shape, guided: bool) -> Tensor | None: ...

    def logits(self, codes: Tensor, condition: Tensor | None) -> Tensor: ...

    def embed(self, codes: Tensor) -> Tensor: ...


def neighbours(items: Tensor) -> Pairs:
    """Views (earlier, later) of each pair of neighbours in [n, ...], for `roll`."""
    return list(itertools.pairwise(items))


def roll(pairs: Pairs) -> None:
    """Copy each item to the position before it.

    The first item is overwritten, and the last keeps its value.
    """
    for earlier, later in pairs:
        earlier.copy_(later)


class BlockCache:
    """The steps of a `GatedBlock`, its weights laid out for them, and its past inputs.

    The gate is computed with tanh(a) = 1 - 2σ(-2a). The tanh half of each product is
    scaled by -2, so that one sigmoid in place serves both halves: with s_a = σ(-2a) and
    s_b = σ(b), σ(b)·tanh(a) = s_b - 2·s_a·s_b. A product with a power of two is exact.

    Args:
        block: the block.
        batch_size: number of images B. width: number of codes W per row.
        window: [B, extent, in_channels], zeros at first: the inputs of the horizontal
            stack under its kernel.

    Attributes (besides the weights):
        rows: [B, in_channels, extent, W + 2 * padding], channels-last: the rows under
            the vertical kernel, with zeros above and beside the grid.
        newest_row, newest_code: views of the last row and of the last code.
        across: [W, 2, B, p]: what the horizontal stack receives from the current row,
            with the two halves of the gate on their own axis. `across_by_position` has
            for each position three views: of both halves, and of each half.
    """

    def __init__(self, block: GatedBlock, batch_size: int, width: int, window: Tensor):
        weight = block.vertical.weight
        double_p, channels, extent, _ = weight.shape
        p, r = double_p // 2, block.padding
        self.block = block
        self.scale = weight.new_ones(
            double_p, 1, 1, 1
        )  # of what a convolution puts out
        self.scale[:p] = -2
        self.weights = self._laid_out()

        rows = weight.new_zeros(batch_size, extent, width + 2 * r, channels)
        self.rows = rows.permute(0, 3, 1, 2)  # [B, channels, extent, W + 2r]
        self.row_pairs = neighbours(self.rows.movedim(2, 0))
        self.newest_row = self.rows[:, :, -1:, r : r + width]
        self.window = window
        self.newest_code = window[:, -1]
        self.under_kernel = window.flatten(1).expand(2, -1, -1)
        self.across = weight.new_empty(width, 2, batch_size, p)
        self.across_by_position = [(halves, *halves) for halves in self.across]

    def _laid_out(self) -> dict[str, Tensor]:
        """The weights of the block, as the steps take them."""
        block, scale = self.block, self.scale
        to_horizontal = block.vertical_to_horizontal
        horizontal = (block.horizontal.weight * scale)[:, :, 0]
        # [2p, channels, extent], then [extent * channels, 2p]
        horizontal = horizontal.permute(2, 1, 0).flatten(0, 1)
        return {
            "vertical": (block.vertical.weight * scale).contiguous(
                memory_format=torch.channels_last
            ),
            "vertical_bias": block.vertical.bias * scale.flatten(),
            # Its inputs are the scaled features: their scale is divided out.
            "across": (to_horizontal.weight * scale / scale[:, 0]).contiguous(
                memory_format=torch.channels_last
            ),
            "across_bias": (to_horizontal.bias + block.horizontal.bias)
            * scale.flatten(),
            # [2, extent * channels, p]
            "horizontal": horizontal.unflatten(1, (2, -1)).movedim(1, 0).contiguous(),
            "out": block.horizontal_out.weight[:, :, 0, 0]
            .t()
            .clone(memory_format=torch.contiguous_format),
            "out_bias": block.horizontal_out.bias.clone(),
        }

    def take_weights(self) -> None:
        """Copy the block's present weights to where the steps read them."""
        for name, weight in self._laid_out().items():
            self.weights[name].copy_(weight)

    def roll_rows(self) -> None:
        """Move each row up by one, to make room for a new row."""
        roll(self.row_pairs)

    def row_step(self, bias: Tensor | None, out: Tensor | None) -> None:
        """The vertical stack of `GatedBlock.forward` on one row y.

        `rows` must hold the rows under the kernel: y-r to y, or y-r to y-1 for mask A.
        What the horizontal stack receives from this row is kept in `across`.

        Args:
            bias: the product of the condition with its weights, times `scale`:
                [B, 2p, 1, W or 1]; None without a condition.
            out: receives the row of the vertical stack, [B, p, 1, W]; None if it is not
                needed.
        """
        given = self.weights
        features = F.conv2d(self.rows, given["vertical"], given["vertical_bias"])
        # [B, 2p, 1, W]
        if bias is not None:
            features += bias
        across = F.conv2d(features, given["across"], given["across_bias"])
        self.across.copy_(across[:, :, 0].unflatten(1, (2, -1)).permute(3, 1, 0, 2))
        if out is not None:
            of_features, of_gates = features.sigmoid_().chunk(2, dim=1)
            torch.addcmul(of_gates, of_features, of_gates, value=-2, out=out)
            if self.block.vertical_residual:
                out += self.newest_row

    def code_step(self, x: int, out: Tensor) -> None:
        """The horizontal stack of `GatedBlock.forward` on one code x.

        `window` must hold the inputs under the kernel: x-r to x, or x-r to x-1 for
        mask A. `row_step` must have been called for this row.

        Args:
            x: the position in the row.
            out: receives the horizontal stack at x, [B, p].
        """
        # [2, B, p], and views of its two halves
        both, of_features, of_gates = self.across_by_position[x]
        weights = self.weights
        both.baddbmm_(self.under_kernel, weights["horizontal"]).sigmoid_()
        gated = torch.addcmul(
            of_gates, of_features, of_gates, value=-2, out=of_features
        )
        if self.block.mask_a:
            torch.addmm(weights["out_bias"], gated, weights["out"], out=out)
        else:
            torch.add(self.newest_code, weights["out_bias"], out=out)
            out.addmm_(gated, weights["out"])


class AttentionCache:
    """The step of a `CausalAttention`, and the keys and values of earlier positions.

    Keys and values are [B, heads, N, p / heads], with N positions in the grid.
    """

    def __init__(self, attention: CausalAttention, batch_size: int, shape):
        weight = attention.out.weight
        p, count = len(weight), shape[0] * shape[1]
        heads = attention.num_heads
        self.attention = attention
        self.keys = weight.new_zeros(batch_size, heads, count, p // heads)
        self.values = torch.zeros_like(self.keys)
        self.positions = positions(*shape, p, weight)
        self.numbers = torch.arange(count, device=weight.device)

    def code_step(self, h: Tensor, position: Tensor) -> Tensor:
        """`CausalAttention.forward` at one position.

        It attends to the earlier positions, which have been given to `keep_code`.

        Args:
            h: the horizontal stack at the position, [B, p].
            position: number of the position in raster order, long [1].

        Returns:
            The attention that is to be added to h, [B, p].
        """
        self.located = h + self.positions[position]
        query = self.attention.query(self.located)[:, None]  # [B, 1, p]
        query = self.attention.heads(query)  # [B, heads, 1, p / heads]
        scores = query @ self.keys.transpose(2, 3) / math.sqrt(query.shape[-1])
        weights = scores.masked_fill(self.numbers >= position, -math.inf).softmax(-1)
        # The first position has no past: its softmax over -inf alone gives nan.
        weights = torch.where(position > 0, weights, torch.zeros_like(weights))
        return self.attention.out((weights @ self.values).flatten(1))

    def keep_code(self, code: Tensor, position: Tensor) -> None:
        """Keep the key and the value of the position of the last `code_step`.

        Args:
            code: the embedded code that was drawn there, [B, D].
            position: as in `code_step`.
        """
        located, code = self.located[:, None], code[:, None]  # [B, 1, p], [B, 1, D]
        key, value = self.attention.keys_and_values(located, code)
        self.keys.index_copy_(2, position, self.attention.heads(key))
        self.values.index_copy_(2, position, self.attention.heads(value))


class PixelCNNCache:
    """The steps of a `PixelCNN` while it draws one batch, and what they keep.

    To draw a row, call `row_step`, then `code_step` and `keep_code` for each position,
    and then `keep_row`.

    Args:
        model: the level; the cache keeps a copy of its weights, laid out for the steps.
            All tensors stay where they are, as a CUDA graph needs.
        batch_size: number of images B. shape: height and width of the grid.
    """

    def __init__(self, model: Level, batch_size: int, shape: tuple[int, int]):
        weight = model.embedding.weight
        hidden, to_logits = model.output_layers
        p, extents = len(hidden.weight), [block.extent for block in model.blocks]
        self.model = model
        # The windows of all blocks but the first, in one tensor so that they are rolled
        # together.
        self.windows = weight.new_zeros(len(extents) - 1, batch_size, extents[-1], p)
        first = weight.new_zeros(batch_size, extents[0], weight.shape[1])
        self.blocks = [
            BlockCache(block, batch_size, shape[1], window)
            for block, window in zip(model.blocks, [first, *self.windows], strict=True)
        ]
        self.window_pairs = neighbours(first.movedim(1, 0))
        self.window_pairs += neighbours(self.windows.movedim(2, 0))
        # A block writes its output where the next block has its newest code.
        self.outs = [block.newest_code for block in self.blocks[1:]]
        self.outs.append(weight.new_empty(batch_size, p))
        if model.blocks[0].condition is not None:
            self.condition_weights = self._condition_weights()
        self.attention = {
            int(layer): AttentionCache(attention, batch_size, shape)
            for layer, attention in model.attention.items()
        }
        self.position = torch.zeros(1, dtype=torch.long, device=weight.device)
        self.hidden = hidden.bias, hidden.weight.flatten(1).t()
        self.to_logits = to_logits.bias, to_logits.weight.flatten(1).t()

    @property
    def nbytes(self) -> int:
        """Bytes of all that is kept from step to step, without the weights."""
        kept = [self.windows, self.blocks[0].window, self.outs[-1]]
        for block in self.blocks:
            kept += [block.rows, block.across]
        for attention in self.attention.values():
            kept += [attention.keys, attention.values]
        return sum(tensor.nbytes for tensor in kept)

    def _condition_weights(self) -> Tensor:
        """The condition's weights in all blocks, scaled: [2p * blocks, p, 1, 1]."""
        return torch.cat(
            [step.block.condition.weight * step.scale for step in self.blocks]
        )

    def start(self) -> None:
        """Start a new grid with the model's present weights: the next row is its first
        row. A new cache has been started."""
        for block in self.blocks:
            block.take_weights()
            block.rows.zero_()
        if self.model.blocks[0].condition is not None:
            self.condition_weights.copy_(self._condition_weights())
        for attention in self.attention.values():
            attention.keys.zero_()
            attention.values.zero_()
        self.position.zero_()

    def row_step(self, condition: Tensor | None) -> None:
        """The vertical stack of every block in `PixelCNN.logits` on the next row.

        Args:
            condition: [B, p, 1, W or 1] for this row, or None.
        """
        self.windows.zero_()  # nothing is to the left of the grid
        self.blocks[0].window.zero_()
        biases = [None] * len(self.blocks)
        if condition is not None:
            biases = F.conv2d(condition, self.condition_weights)
            biases = biases.chunk(len(self.blocks), dim=1)
        for layer, block in enumerate(self.blocks):
            out = None  # no block reads the last vertical stack
            if layer + 1 < len(self.blocks):
                self.blocks[layer + 1].roll_rows()
                out = self.blocks[layer + 1].newest_row
            block.row_step(biases[layer], out)

    def code_step(self, x: int) -> Tensor:
        """Logits [B, K] at position x of the row of the last `row_step`.

        This is the rest of `PixelCNN.logits` at that position. The codes to the left
        must have been given to `keep_code`.
        """
        for layer, block in enumerate(self.blocks):
            out = self.outs[layer]
            block.code_step(x, out)
            if layer in self.attention:
                out += self.attention[layer].code_step(out, self.position)
        bias, weight = self.hidden
        hidden = torch.addmm(bias, out.relu(), weight).relu_()
        bias, weight = self.to_logits
        return torch.addmm(bias, hidden, weight)

    def keep_code(self, codes: Tensor) -> None:
        """Keep the codes [B] that were drawn last, for the next `code_step`."""
        code = self.model.embedding(codes)
        for attention in self.attention.values():
            attention.keep_code(code, self.position)
        roll(self.window_pairs)
        self.blocks[0].newest_code.copy_(code)
        self.position += 1

    def keep_row(self, codes: Tensor) -> None:
        """Keep the row of codes [B, W] that was drawn last, for the next `row_step`."""
        self.blocks[0].roll_rows()
        self.blocks[0].newest_row.copy_(self.model.embed(codes[:, None]))
