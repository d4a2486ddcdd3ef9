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


def embed(level: PixelCNN, codes: Tensor) -> Tensor:
    """Codes [...] to their vectors [..., D]; code K stands for none, with zeros."""
    table = level.embedding.weight
    return torch.cat([table, table.new_zeros(1, table.shape[1])])[codes]


def pushed(kept: Tensor, new: Tensor, axis: int) -> Tensor:
    """`kept` without its first slice along an axis, and with `new` as its last."""
    return torch.cat([kept.narrow(axis, 1, kept.shape[axis] - 1), new], axis)


class RowStep(nn.Module):
    """`PixelCNNCache.row_step` for a level without attention.

    Inputs: above [B, W], the codes of the row before, all K for the first row;
    condition [B, p, 1, W or 1]; first_rows [B, D, span of block 0, W + 2r] and rows
    [blocks - 1, B, p, span, W + 2r], zeros for the first row.
    Outputs: across [blocks, B, 2p, W], for the steps of this row; first_rows and rows.
    """

    def __init__(self, level: PixelCNN):
        super().__init__()
        self.level = level

    def forward(self, above, condition, first_rows, rows):
        r, kept, across = self.level.blocks[0].reach, [], []
        row = embed(self.level, above).permute(0, 2, 1)[:, :, None]  # [B, D, 1, W]
        for number, block in enumerate(self.level.blocks):
            window = first_rows if number == 0 else rows[number - 1]
            window = pushed(window, F.pad(row, (r, r)), 2)
            kept.append(window)
            features = block.vertical(window)  # [B, 2p, 1, W]
            if block.condition is not None:
                features = features + block.condition(condition)
            across.append(block.vertical_to_horizontal(features)[:, :, 0])
            new_v = gate(features)  # [B, p, 1, W]
            row = new_v + row if block.adds_v else new_v
        return torch.stack(across), kept[0], torch.stack(kept[1:])


class CodeStep(nn.Module):
    """`PixelCNNCache.code_step` for a level without attention.

    Inputs: left [B], the code drawn last in this row, K for none; x [1], the column;
    across, of `RowStep`; first_codes [B, D, span of block 0] and codes [blocks - 1, B,
    p, span], zeros for the first code of a row.
    Outputs: logits [B, K]; first_codes and codes.
    """

    def __init__(self, level: PixelCNN):
        super().__init__()
        self.level = level

    def forward(self, left, x, across, first_codes, codes):
        here, kept = across.index_select(3, x)[..., 0], []  # [blocks, B, 2p]
        h = embed(self.level, left)  # [B, D]
        for number, block in enumerate(self.level.blocks):
            window = first_codes if number == 0 else codes[number - 1]
            window = pushed(window, h[:, :, None], 2)
            kept.append(window)
            seen = block.horizontal(window[:, :, None])[:, :, 0, 0]  # [B, 2p]
            gated = gate(here[number] + seen)[:, :, None, None]
            out = block.horizontal_out(gated)[:, :, 0, 0]  # [B, p]
            h = out if block.shift else h + out
        logits = self.level.head(h[:, :, None, None])[:, :, 0, 0]
        return logits, kept[0], torch.stack(kept[1:])


class Condition(nn.Module):
    """The condition of a level, [B, p, H or 1, W or 1].

    Inputs: labels [B], if the level has classes; z_top [B, Ht, Wt] for the bottom
    level. A label past the last class stands for "no label", where the prior was
    trained with `label_dropout`.
    """

    def __init__(self, level: PixelCNN, shape: tuple[int, int] | None = None):
        super().__init__()
        self.level, self.shape = level, shape

    def forward(self, labels, z_top=None):
        level = self.level
        label = level.label_embedding(labels)[:, :, None, None]
        if self.shape is None:
            return label
        top = level.top_network(level.top_embedding(z_top).permute(0, 3, 1, 2))
        return level.top_to_bottom(F.interpolate(top, size=self.shape)) + label


class Decoder(nn.Module):
    """`VQVAE2.decode_codes`: z_top [B, Ht, Wt] and z_bottom [B, Hb, Wb] to images."""

    def __init__(self, vqvae2: VQVAE2):
        super().__init__()
        self.vqvae2 = vqvae2

    def forward(self, z_top, z_bottom):
        quantized = (
            level.codebook[codes].permute(0, 3, 1, 2)
            for level, codes in (
                (self.vqvae2.vq_top, z_top),
                (self.vqvae2.vq_bottom, z_bottom),
            )
        )
        return self.vqvae2.decode(*quantized)
