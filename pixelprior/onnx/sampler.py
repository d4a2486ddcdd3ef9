"""Drawing with the ONNX graphs of a pair, without PyTorch's networks."""

import json
from pathlib import Path

import numpy as np
import torch

from pixelprior.sampling import inverse_cdf, probabilities, uniforms

ABOUT_NAME = "about.json"


class OnnxSampler:
    """Draws codes and images with the graphs of a folder, in onnxruntime on a CPU.

    Args:
        folder: what `export_onnx` wrote.
    """

    def __init__(self, folder):
        from onnxruntime import InferenceSession

        self.about = json.loads((Path(folder) / ABOUT_NAME).read_text(encoding="utf-8"))
        self.graphs = {
            name: InferenceSession(
                Path(folder) / f"{name}.onnx", providers=["CPUExecutionProvider"]
            )
            for name in self.about["graphs"]
        }
        self.shapes = {name: tuple(grid) for name, grid in self.about["grids"].items()}

    def run(self, name: str, *inputs: np.ndarray) -> list[np.ndarray]:
        """The outputs of a graph."""
        given = dict(zip(self.about["graphs"][name], inputs, strict=True))
        return self.graphs[name].run(None, given)

    def sample(self, labels, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """One image per label, as `HierarchicalPixelCNN.sample` draws them.

        Args:
            labels: whole numbers [B] from 0 to the number of classes; the last one
                stands for no label, for a prior that was trained with `label_dropout`.
            seed: as in `HierarchicalPixelCNN.sample`.

        Returns:
            z_top [B, Ht, Wt] and z_bottom [B, Hb, Wb], int64.
        """
        counts = [height * width for height, width in self.shapes.values()]
        numbers = uniforms(seed, 0, len(labels), sum(counts)).split(counts, dim=1)
        numbers = dict(zip(self.shapes, numbers, strict=True))

        def pick(level, y, x, logits):
            u = numbers[level][:, y * self.shapes[level][1] + x]
            logits = torch.from_numpy(logits).double()
            return inverse_cdf(probabilities(logits, 1.0), u).numpy()

        return self._grids(labels, pick)

    def logits(self, labels, z_top, z_bottom) -> list[np.ndarray]:
        """Logits of both levels along given codes, [B, K, H, W] each."""
        given = {"top": z_top, "bottom": z_bottom}
        found = {
            name: np.zeros((*grid, len(labels), self.about["num_embeddings"]))
            for name, grid in self.shapes.items()
        }

        def pick(level, y, x, logits):
            found[level][y, x] = logits
            return given[level][:, y, x]

        self._grids(labels, pick)
        return [each.transpose(2, 3, 0, 1) for each in found.values()]

    def _grids(self, labels, pick) -> tuple[np.ndarray, np.ndarray]:
        """Both grids: a row step per row, and a code step per code, for which
        `pick(level, y, x, logits)` gives the codes [B]."""
        labels, absent = np.asarray(labels, np.int64), self.about["num_embeddings"]
        count, grids = len(labels), {}
        for level, (height, width) in self.shapes.items():
            (condition,) = self.run(f"{level}_condition", labels, *grids.values())
            first_rows, rows, first_codes, codes, *of_attention = (
                np.zeros([count if side == "B" else side for side in sides], "f4")
                for sides in self.about["kept"][level].values()
            )
            kept_rows, before = (first_rows, rows), np.full((count, width), absent)
            grid = grids[level] = np.zeros((count, height, width), np.int64)
            last = np.full(count, absent)  # in the grid, where `left` is in the row
            for y in range(height):
                own = min(y, condition.shape[2] - 1)  # a single row is for all rows
                given = before, condition[:, :, own : own + 1], *kept_rows
                across, *kept_rows = self.run(f"{level}_row", *given)
                kept_codes, left = (first_codes, codes), np.full(count, absent)
                for x in range(width):
                    step = [left, np.array([x]), across, *kept_codes]
                    if of_attention:
                        step += [np.array([y * width + x]), last, *of_attention]
                    logits, *kept = self.run(f"{level}_code", *step)
                    kept_codes, of_attention = kept[:2], kept[2:]
                    last = left = grid[:, y, x] = pick(level, y, x, logits)
                before = grid[:, y]
        return grids["top"], grids["bottom"]

    def decode(self, z_top: np.ndarray, z_bottom: np.ndarray) -> np.ndarray:
        """Both grids to images, float32 [B, C, H, W] in [0, 1]."""
        return self.run("decoder", z_top, z_bottom)[0]
