"""The steps of drawing as modules without state, which can be ONNX graphs.

ONNX has no tensors in place. The steps of `cache.py` for one row and for one code are
written here so that what they keep goes in and comes out.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelprior.layers import gate
from pixelprior.pixelcnn import PixelCNN
from pixelprior.vqvae2 import VQVAE2


class Step(nn.Module):
    """A step of a level without attention."""

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
    """`PixelCNNCache.code_step`.

    Inputs: left [B], the code drawn last in this row, K for none; x [1], the column;
    across, of `RowStep`; first_codes [B, D, extent of block 0] and codes [blocks - 1,
    B, p, extent], zeros for the first code of a row.
    Outputs: logits [B, K]; first_codes and codes.
    """

    def forward(self, left, x, across, first_codes, codes):
        here, kept = across.index_select(3, x)[..., None], []  # [blocks, B, 2p, 1, 1]
        h = self.embed(left)[:, :, None, None]  # [B, D, 1, 1]
        for number, (block, window) in enumerate(self.windows(first_codes, codes)):
            kept.append(torch.cat([window, h[:, :, 0]], 2))
            seen = block.horizontal(kept[-1][:, :, None])  # [B, 2p, 1, 1]
            out = block.horizontal_out(gate(here[number] + seen))  # [B, p, 1, 1]
            h = out if block.mask_a else h + out
        logits = self.level.head(h)[:, :, 0, 0]
        return logits, kept[0], torch.stack(kept[1:])


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
