"""The steps of drawing as modules without state, which can be ONNX graphs.

ONNX has no tensors in place. The steps of `cache.py` for one row and for one code are
written here so that what they keep goes in and comes out.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelprior.layers import CausalAttention, gate, positions
from pixelprior.pixelcnn import PixelCNN
from pixelprior.vqvae2 import VQVAE2


class Step(nn.Module):
    """A step of a level."""

    def __init__(self, level: PixelCNN):
        super().__init__()
        self.level = level

    def embed(self, codes: Tensor) -> Tensor:
        """Codes [...] to their vectors [..., D]; code K stands for none, with zeros."""
        return F.pad(self.level.embedding.weight, (0, 0, 0, 1))[codes]

    def windows(self, first: Tensor, later: Tensor):
        """Each block, and what it keeps without the oldest of it, on axis 2."""
        kept = [first, *later.unbind()]
        return zip(self.level.blocks, (each[:, :, 1:] for each in kept), strict=True)


class RowStep(Step):
    """`PixelCNNCache.row_step`.

    Inputs: above [B, W], the codes of the row before, all K for the first row;
    condition [B, p, 1, W or 1]; first_rows [B, D, extent of block 0, W + 2r] and rows
    [blocks - 1, B, p, extent, W + 2r], zeros for the first row.
    Outputs: across [blocks, B, 2p, W], for the steps of this row; first_rows and rows.
    """

    def forward(self, above, condition, first_rows, rows):
        r, kept, across = self.level.blocks[0].padding, [], []
        row = self.embed(above).permute(0, 2, 1)[:, :, None]  # [B, D, 1, W]
        for block, window in self.windows(first_rows, rows):
            kept.append(torch.cat([window, F.pad(row, (r, r))], 2))
            features = block.vertical(kept[-1])  # [B, 2p, 1, W]
            if block.condition is not None:
                features = features + block.condition(condition)
            across.append(block.vertical_to_horizontal(features)[:, :, 0])
            new_v = gate(features)  # [B, p, 1, W]
            row = new_v + row if block.vertical_residual else new_v
        return torch.stack(across), kept[0], torch.stack(kept[1:])


class CodeStep(Step):
    """`PixelCNNCache.code_step`, for a level whose grid has `shape`.

    Inputs: left [B], the code drawn last in this row, K for none; x [1], the column;
    across, of `RowStep`; first_codes [B, D, extent of block 0] and codes [blocks - 1,
    B, p, extent], zeros for the first code of a row.
    With attention also: number [1], of the position in raster order; before [B], the
    code at the position before, K for none; past [layers, B, 2, H · W, p], keys and
    values of earlier positions, and located [layers, B, p], the horizontal stack with
    its place at the position before, zeros for the first code of a grid.
    Outputs: logits [B, K]; first_codes and codes; past and located.
    """

    def __init__(self, level: PixelCNN, shape: tuple[int, int]):
        super().__init__(level)
        width = level.output_layers[0].in_channels
        self.places = positions(*shape, width, level.embedding.weight)  # [H · W, p]

    def forward(self, left, x, across, first_codes, codes, *of_attention):
        here, kept = across.index_select(3, x)[..., None], []  # [blocks, B, 2p, 1, 1]
        h = self.embed(left)[:, :, None, None]  # [B, D, 1, 1]
        past, located = [], []
        for number, (block, window) in enumerate(self.windows(first_codes, codes)):
            kept.append(torch.cat([window, h[:, :, 0]], 2))
            seen = block.horizontal(kept[-1][:, :, None])  # [B, 2p, 1, 1]
            out = block.horizontal_out(gate(here[number] + seen))  # [B, p, 1, 1]
            h = out if block.mask_a else h + out
            if str(number) in self.level.attention:
                attention = self.level.attention[str(number)]
                own = (each[len(past)] for each in of_attention[2:])
                added, *new = self.attend(attention, h, *of_attention[:2], *own)
                h = h + added[:, :, None, None]
                past.append(new[0])
                located.append(new[1])
        logits = self.level.head(h)[:, :, 0, 0]
        new = map(torch.stack, (past, located) if past else ())
        return logits, kept[0], torch.stack(kept[1:]), *new

    def attend(self, attention: CausalAttention, h, number, before, past, located):
        """`AttentionCache`: what is added to h [B, p, 1, 1], then past and located."""
        code = self.embed(before)[:, None]  # [B, 1, D]
        own = attention.keys_and_values(located[:, None], code)  # [B, 1, p] each
        numbers = torch.arange(len(self.places))
        newest = (numbers == number - 1)[:, None]  # [H · W, 1]
        past = torch.where(newest, torch.stack(own, 1), past)  # [B, 2, H · W, p]
        located = h[:, :, 0, 0] + self.places[number]  # [B, p]
        query = attention.heads(attention.query(located)[:, None])
        keys, values = (attention.heads(each) for each in past.unbind(1))
        scores = query @ keys.transpose(2, 3) / math.sqrt(query.shape[-1])
        # The first position has no past: it takes the mean of values that are all 0.
        weights = scores.masked_fill(numbers >= number, -1e9).softmax(-1)
        return attention.out((weights @ values).flatten(1)), past, located


class Condition(nn.Module):
    """The condition of a level, [B, p, H or 1, W or 1].

    Inputs: labels [B]; z_top [B, Ht, Wt] for the bottom level, whose grid has `shape`.
    A label past the last class stands for "no label", where the prior was trained with
    `label_dropout`.
    """

    def __init__(self, level: PixelCNN, shape: tuple[int, int]):
        super().__init__()
        self.level, self.shape = level, shape

    def forward(self, labels, z_top=None):
        level = self.level
        label = level.label_embedding(labels)[:, :, None, None]
        if z_top is None:
            return label
        top = level.top_network(level.top_embedding(z_top).permute(0, 3, 1, 2))
        return level.top_to_bottom(F.interpolate(top, size=self.shape)) + label


class Decoder(nn.Module):
    """`VQVAE2.decode_codes`: z_top [B, Ht, Wt] and z_bottom [B, Hb, Wb] to images."""

    def __init__(self, vqvae2: VQVAE2):
        super().__init__()
        self.vqvae2 = vqvae2

    def forward(self, z_top, z_bottom):
        top, bottom = self.vqvae2.vq_top, self.vqvae2.vq_bottom
        quantized = top.codebook[z_top], bottom.codebook[z_bottom]
        return self.vqvae2.decode(*(each.permute(0, 3, 1, 2) for each in quantized))
