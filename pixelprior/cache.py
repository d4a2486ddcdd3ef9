"""What sampling keeps from step to step, beside the weights laid out for the steps.

`BlockCache` and `AttentionCache` are one layer's, as a transformer has its key-value
cache, and `PixelCNNCache` one level's. The steps themselves are methods of the layers
and of `PixelCNN`.
"""

import itertools
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pixelprior.layers import CausalAttention, GatedBlock, positions

if TYPE_CHECKING:
    from pixelprior.pixelcnn import PixelCNN


def moves(items: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Views (old, new) of each two neighbours in [n, ...], for `roll`."""
    return list(itertools.pairwise(items))


def roll(pairs: list[tuple[Tensor, Tensor]]) -> None:
    """Move each item to the place before it; the first is lost, the last stays."""
    for old, new in pairs:
        old.copy_(new)


class BlockCache:
    """What a `GatedBlock` keeps between its steps: its weights, laid out for them, and
    what is past.

    tanh(a) = 1 - 2σ(-2a). With the tanh half of each product scaled by -2, one sigmoid
    in place serves both halves of the gate, σ(b)·tanh(a) = s_b - 2·s_a·s_b. A power of
    two is multiplied without rounding.

    Args:
        block: the block.
        batch_size: images B. width: codes W in a row.
        places: [B, span, in_channels], zeros; the places under the horizontal kernel.

    Attributes (beside the weights):
        rows: [B, in_channels, span, W + 2 * reach], channels-last: the rows under the
            vertical kernel, zeros above and beside the grid.
        newest_row, newest_place: views of the last of each.
        across: [W, 2, B, p]: what the horizontal stack gets from this row, halves
            apart; `at` has views of each place's, whole and by half.
    """

    def __init__(self, block: GatedBlock, batch_size: int, width: int, places: Tensor):
        weight = block.vertical.weight
        double_p, channels, span, _ = weight.shape
        p, r = double_p // 2, block.reach
        scale = weight.new_ones(double_p)
        scale[:p] = -2
        self.scale = rows = scale[:, None, None, None]
        columns = scale[:, None, None]
        to_horizontal = block.vertical_to_horizontal
        self.vertical = (
            (weight * rows).contiguous(memory_format=torch.channels_last),
            block.vertical.bias * scale,
        )
        self.vertical_to_horizontal = (
            (to_horizontal.weight * rows / columns).contiguous(
                memory_format=torch.channels_last
            ),
            (to_horizontal.bias + block.horizontal.bias) * scale,
        )
        horizontal = (block.horizontal.weight[:, :, 0] * columns).view(
            2, p, channels, span
        )
        self.horizontal = horizontal.permute(0, 3, 2, 1).reshape(2, span * channels, p)
        self.horizontal_out = block.horizontal_out.weight.flatten(1).t().contiguous()
        self.out_bias = block.horizontal_out.bias

        self.rows = weight.new_zeros(batch_size, span, width + 2 * r, channels)
        self.rows = self.rows.permute(0, 3, 1, 2)
        self.row_moves = moves(self.rows.movedim(2, 0))
        self.newest_row = self.rows[:, :, -1:, r : r + width]
        self.places = places
        self.newest_place = places[:, -1]
        self.under_kernel = places.flatten(1).expand(2, -1, -1)
        self.across = weight.new_empty(width, 2, batch_size, p)
        self.at = [(halves, *halves) for halves in self.across]

    def roll_rows(self) -> None:
        """Make room for a new row: each moves up by one."""
        roll(self.row_moves)


class AttentionCache:
    """Keys and values of the places so far, [B, heads, N, p / heads]."""

    def __init__(self, attention: CausalAttention, batch_size: int, shape):
        weight = attention.out.weight
        p, count = len(weight), shape[0] * shape[1]
        heads = attention.num_heads
        self.keys = weight.new_zeros(batch_size, heads, count, p // heads)
        self.values = torch.zeros_like(self.keys)
        self.positions = positions(*shape, p, weight)
        self.numbers = torch.arange(count, device=weight.device)


class PixelCNNCache:
    """What the steps of a `PixelCNN` keep between them while it draws one batch.

    Args:
        model: the level; the cache keeps a copy of its weights, laid out for the steps.
        batch_size: images B. shape: height and width of the grid.
    """

    def __init__(self, model: "PixelCNN", batch_size: int, shape: tuple[int, int]):
        weight = model.embedding.weight
        hidden, logits = model.head[1], model.head[3]
        p, spans = len(hidden.weight), [block.span for block in model.blocks]
        # Places under the kernels of all blocks but the first, to be rolled at once.
        self.places = weight.new_zeros(len(spans) - 1, batch_size, spans[-1], p)
        first = weight.new_zeros(batch_size, spans[0], weight.shape[1])
        self.blocks = [
            BlockCache(block, batch_size, shape[1], places)
            for block, places in zip(model.blocks, [first, *self.places], strict=True)
        ]
        self.place_moves = moves(first.movedim(1, 0)) + moves(self.places.movedim(2, 0))
        self.outs = [block.newest_place for block in self.blocks[1:]]
        self.outs.append(weight.new_empty(batch_size, p))
        if model.blocks[0].condition is not None:
            self.condition = torch.cat(
                [
                    block.condition.weight * cache.scale
                    for block, cache in zip(model.blocks, self.blocks, strict=True)
                ]
            )
        self.attention = {
            int(layer): (attention, AttentionCache(attention, batch_size, shape))
            for layer, attention in model.attention.items()
        }
        self.place = torch.zeros(1, dtype=torch.long, device=weight.device)
        self.hidden, self.hidden_bias = hidden.weight.flatten(1).t(), hidden.bias
        self.logits, self.logits_bias = logits.weight.flatten(1).t(), logits.bias

    def bytes_of_the_past(self) -> int:
        """Memory of what is kept from step to step, the weights not counted."""
        kept = [self.places, self.blocks[0].places, self.outs[-1]]
        kept += [each for block in self.blocks for each in (block.rows, block.across)]
        kept += [
            each
            for _, past in self.attention.values()
            for each in (past.keys, past.values)
        ]
        return sum(each.nbytes for each in kept)

    def clear(self) -> None:
        """Forget the past: the next row is the first."""
        self.place.zero_()
        for block in self.blocks:
            block.rows.zero_()
