"""Drawing with the ONNX graphs of a pair, without PyTorch's networks."""

import json
from pathlib import Path

import numpy as np
import torch

from pixelprior.sampling import inverse_cdf, probabilities, uniforms
from pixelprior.settings import SamplingOptions, check_positive

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

    def sample(
        self, labels, seed: int = 0, temperature: float = 1.0, guidance: float = 0.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """One image per label, as `HierarchicalPixelCNN.sample` draws them.

        Args:
            labels: whole numbers [B].
            seed, temperature: as in `HierarchicalPixelCNN.sample`.
            guidance: of both levels; above 0 it needs a prior with `label_dropout`.

        Returns:
            z_top [B, Ht, Wt] and z_bottom [B, Hb, Wb], int64.

        Raises:
            ValueError: an argument is out of its range.
        """
        check_positive(images=len(labels))
        labels, classes = np.asarray(labels), self.about["num_classes"]
        whole = labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer)
        if not whole or labels.min() < 0 or labels.max() >= classes:
            raise ValueError(
                f"labels are {labels.tolist()}, of which one is out of range or no "
                f"whole number; give one per image, from 0 to {classes - 1}"
            )
        SamplingOptions(temperature, guidance=guidance, seed=seed)
        if guidance and not self.about["guided"]:
            raise ValueError(
                f"guidance is {guidance}, but this prior was trained with all labels; "
                "train one with label_dropout, such as 0.1, or leave guidance at 0"
            )
        labels = labels.astype(np.int64)
        counts = [height * width for height, width in self.shapes.values()]
        numbers = uniforms(seed, 0, len(labels), sum(counts)).split(counts, dim=1)
        numbers = dict(zip(self.shapes, numbers, strict=True))

        def pick(level, y, x, logits):
            logits = torch.from_numpy(logits).double()
            if guidance:
                with_label, without = logits.chunk(2)
                logits = (1 + guidance) * with_label - guidance * without
            u = numbers[level][:, y * self.shapes[level][1] + x]
            return inverse_cdf(probabilities(logits, temperature), u).numpy()

        return self._grids(labels, bool(guidance), pick)

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

        self._grids(np.asarray(labels, dtype=np.int64), False, pick)
        return [each.transpose(2, 3, 0, 1) for each in found.values()]

    def _grids(self, labels, twice: bool, pick) -> tuple[np.ndarray, np.ndarray]:
        """Both grids: a row step per row, and a code step per code.

        `pick(level, y, x, logits)` gives the codes [B]. With `twice`, a second half of
        the batch has no labels, and `pick` gets the logits of both halves.
        """

        def doubled(codes):
            return np.concatenate([codes, codes]) if twice else codes

        count, absent, grids = len(labels), self.about["num_embeddings"], {}
        if twice:
            unlabelled = np.full_like(labels, self.about["num_classes"])
            labels = np.concatenate([labels, unlabelled])
        for level, (height, width) in self.shapes.items():
            above = [doubled(grid) for grid in grids.values()]
            (condition,) = self.run(f"{level}_condition", labels, *above)
            first_rows, rows, first_codes, codes = (
                np.zeros([len(labels) if side == "B" else side for side in sides], "f4")
                for sides in self.about["kept"][level].values()
            )
            kept_rows, before = (
                (first_rows, rows),
                np.full((len(labels), width), absent),
            )
            grid = grids[level] = np.zeros((count, height, width), np.int64)
            for y in range(height):
                of_row = (
                    condition[:, :, y : y + 1] if condition.shape[2] > 1 else condition
                )
                across, *kept_rows = self.run(
                    f"{level}_row", before, of_row, *kept_rows
                )
                kept, left = (first_codes, codes), np.full(len(labels), absent)
                for x in range(width):
                    step = left, np.array([x]), across, *kept
                    logits, *kept = self.run(f"{level}_code", *step)
                    grid[:, y, x] = pick(level, y, x, logits)
                    left = doubled(grid[:, y, x])
                before = doubled(grid[:, y])
        return grids["top"], grids["bottom"]

    def decode(self, z_top: np.ndarray, z_bottom: np.ndarray) -> np.ndarray:
        """Both grids to images, float32 [B, C, H, W] in [0, 1]."""
        return self.run("decoder", z_top, z_bottom)[0]
