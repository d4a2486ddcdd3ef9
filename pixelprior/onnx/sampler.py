"""Drawing with the ONNX graphs of a pair, without PyTorch's networks."""

import importlib
import json
from pathlib import Path

import numpy as np
import torch

from pixelprior.sampling import draw, probabilities, uniforms
from pixelprior.validation import check_filters, check_weights

ABOUT_NAME = "about.json"


def onnx_package(name: str):
    """A package that ONNX needs.

    Raises:
        ValueError: it is not installed, or cannot be loaded.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(
            f"ONNX needs {name}, which cannot be imported ({error}); run pip install "
            "onnx onnxruntime"
        ) from error


class OnnxSampler:
    """Draws codes and images with the graphs of a folder, in onnxruntime on a CPU.

    Args:
        folder: what `export_onnx` wrote.
    """

    def __init__(self, folder):
        session = onnx_package("onnxruntime").InferenceSession
        folder = Path(folder)
        self.about = json.loads((folder / ABOUT_NAME).read_text(encoding="utf-8"))
        self.graphs = {
            name: session(
                str(folder / f"{name}.onnx"), providers=["CPUExecutionProvider"]
            )
            for name in self.about["graphs"]
        }
        self.shapes = {
            level: tuple(shape) for level, shape in self.about["grids"].items()
        }

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
        check_filters(temperature, None, None)
        check_weights((guidance, guidance))
        labels = np.asarray(labels, dtype=np.int64)
        classes = self.about["num_classes"]
        if (
            labels.ndim != 1
            or labels.size == 0
            or not 0 <= labels.min() <= labels.max() < classes
        ):
            raise ValueError(
                f"labels are {labels.tolist()}; give a list of whole numbers from 0 to "
                f"{classes - 1}"
            )
        if guidance and not self.about["guided"]:
            raise ValueError(
                f"guidance is {guidance}, but the prior was trained with all labels; "
                "leave it at 0"
            )
        counts = [height * width for height, width in self.shapes.values()]
        numbers = uniforms(seed, 0, len(labels), sum(counts)).split(counts, dim=1)

        def pick(level, y, x, logits):
            logits = torch.from_numpy(logits).double()
            if guidance:
                with_label, without = logits.chunk(2)
                logits = (1 + guidance) * with_label - guidance * without
            u = numbers[list(self.shapes).index(level)][
                :, y * self.shapes[level][1] + x
            ]
            return draw(probabilities(logits, temperature), u).numpy()

        return self._grids(labels, bool(guidance), pick)

    def logits(self, labels, z_top, z_bottom) -> list[np.ndarray]:
        """Logits of both levels along given codes, [B, K, H, W] each."""
        given = {"top": z_top, "bottom": z_bottom}
        found = {level: [] for level in given}

        def pick(level, y, x, logits):
            found[level].append(logits)
            return given[level][:, y, x]

        self._grids(np.asarray(labels, dtype=np.int64), False, pick)
        return [
            np.stack(found[level], axis=2).reshape(len(labels), -1, *shape)
            for level, shape in self.shapes.items()
        ]

    def _grids(self, labels, twice: bool, pick) -> tuple[np.ndarray, np.ndarray]:
        """Both grids: a row step per row, and a code step per code.

        `pick(level, y, x, logits)` gives the codes [B]. With `twice`, a second half of
        the batch has no labels, and `pick` gets the logits of both halves.
        """

        def doubled(codes):
            return np.concatenate([codes, codes]) if twice else codes

        count, absent = len(labels), self.about["num_embeddings"]
        if twice:
            unlabelled = np.full_like(labels, self.about["num_classes"])
            labels = np.concatenate([labels, unlabelled])
        grids = {}
        for level, (height, width) in self.shapes.items():
            above = [doubled(grid) for grid in grids.values()]
            (condition,) = self.run(f"{level}_condition", labels, *above)
            zeros = {
                name: np.zeros(
                    [len(labels) if side == "B" else side for side in sides], np.float32
                )
                for name, sides in self.about["kept"][level].items()
            }
            rows = [zeros["first_rows"], zeros["rows"]]
            before = np.full((len(labels), width), absent, np.int64)
            grid = grids[level] = np.zeros((count, height, width), np.int64)
            for y in range(height):
                of_row = condition[:, :, y : y + 1] if level == "bottom" else condition
                across, *rows = self.run(f"{level}_row", before, of_row, *rows)
                codes = [zeros["first_codes"], zeros["codes"]]
                left = np.full(len(labels), absent, np.int64)
                for x in range(width):
                    at = np.array([x], np.int64)
                    logits, *codes = self.run(f"{level}_code", left, at, across, *codes)
                    grid[:, y, x] = pick(level, y, x, logits)
                    left = doubled(grid[:, y, x])
                before = doubled(grid[:, y])
        return grids["top"], grids["bottom"]

    def decode(self, z_top: np.ndarray, z_bottom: np.ndarray) -> np.ndarray:
        """Both grids to images, float32 [B, C, H, W] in [0, 1]."""
        (images,) = self.run("decoder", z_top, z_bottom)
        return images
