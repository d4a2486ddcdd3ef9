"""A VQ-VAE-2 and its prior as ONNX graphs, to draw images where there is no PyTorch.

Each level becomes graphs of its steps for one row and for one code (`onnx_graphs.py`).
`OnnxSampler` draws with the graphs, in onnxruntime; a program in another language has
to do the same. `export_onnx` writes the graphs, and compares their codes with those of
PyTorch.
"""

import importlib
import json
import os
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pixelprior.files import swap_folder, temporary_folder
from pixelprior.onnx_graphs import CodeStep, Condition, Decoder, RowStep
from pixelprior.pixelcnn import PixelCNN
from pixelprior.prior import HierarchicalPixelCNN
from pixelprior.sampling import draw, probabilities, uniforms
from pixelprior.vqvae2 import VQVAE2

ABOUT_NAME = "about.json"
OPSET = 18
COMPARED = 8  # images whose codes are compared


def needed(name: str):
    """A package of the extra `onnx`.

    Raises:
        ValueError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"ONNX needs {error.name}, which is not installed; run pip install onnx "
            "onnxscript onnxruntime"
        ) from error


class OnnxSampler:
    """Draws codes and images with the graphs of a folder, in onnxruntime on a CPU.

    Args:
        folder: what `export_onnx` wrote.

    Raises:
        ValueError: onnxruntime is not installed.
    """

    def __init__(self, folder):
        InferenceSession = needed("onnxruntime").InferenceSession
        folder = Path(folder)
        self.about = json.loads((folder / ABOUT_NAME).read_text(encoding="utf-8"))
        self.graphs = {
            path.stem: InferenceSession(str(path), providers=["CPUExecutionProvider"])
            for path in folder.glob("*.onnx")
        }

    def run(self, name: str, *inputs: np.ndarray) -> list[np.ndarray]:
        """The outputs of a graph; inputs that it does not use are left out."""
        names = self.about["graphs"][name]
        given = dict(zip(names, inputs, strict=True))
        graph = self.graphs[name]
        return graph.run(
            None, {each.name: given[each.name] for each in graph.get_inputs()}
        )

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
        """
        shapes = [tuple(self.about["grids"][level]) for level in ("top", "bottom")]
        labels = np.asarray(labels, dtype=np.int64)
        counts = [height * width for height, width in shapes]
        numbers = uniforms(seed, 0, len(labels), sum(counts)).split(counts, dim=1)
        if guidance:  # the second half of the batch has no labels
            none = np.full_like(labels, self.about["num_classes"])
            labels = np.concatenate([labels, none])
        grids = []
        for level, shape, uniform in zip(
            ("top", "bottom"), shapes, numbers, strict=True
        ):
            above = [np.concatenate([grid] * (1 + bool(guidance))) for grid in grids]
            (condition,) = self.run(f"{level}_condition", labels, *above)
            grids.append(
                self._grid(level, shape, uniform, condition, temperature, guidance)
            )
        return grids[0], grids[1]

    def _grid(self, level, shape, uniform, condition, temperature, guidance):
        """One grid per image: a row step per row, and a code step per code."""
        batch, (height, width) = len(condition), shape
        none = self.about["num_embeddings"]
        kept = {
            name: np.zeros(
                [batch if side == "B" else side for side in sides], np.float32
            )
            for name, sides in self.about["kept"][level].items()
        }
        rows = [kept["first_rows"], kept["rows"]]
        above = np.full((batch, width), none)
        grid = np.zeros((len(uniform), height, width), np.int64)
        for y in range(height):
            of_row = condition[:, :, y : y + 1] if condition.shape[2] > 1 else condition
            across, *rows = self.run(f"{level}_row", above, of_row, *rows)
            codes = [kept["first_codes"], kept["codes"]]
            left = np.full(batch, none)
            for x in range(width):
                at = np.array([x])
                logits, *codes = self.run(f"{level}_code", left, at, across, *codes)
                logits = torch.from_numpy(logits)
                if guidance:
                    with_label, without = logits.chunk(2)
                    logits = (1 + guidance) * with_label - guidance * without
                p = probabilities(logits, temperature)
                drawn = draw(p, uniform[:, y * width + x]).numpy()
                grid[:, y, x] = drawn
                left = np.concatenate([drawn] * (1 + bool(guidance)))
            above = np.concatenate([grid[:, y]] * (1 + bool(guidance)))
        return grid

    def decode(self, z_top: np.ndarray, z_bottom: np.ndarray) -> np.ndarray:
        """Both grids to images, float32 [B, C, H, W] in [0, 1]."""
        (images,) = self.run("decoder", z_top, z_bottom)
        return images


def _export_level(
    level: PixelCNN, name: str, shapes: dict, about: dict, folder
) -> None:
    """Write the graphs of a level: its condition, its row step, its code step."""
    p, r, count = level.head[1].in_channels, level.blocks[0].reach, len(level.blocks)
    dim, width = level.embedding.embedding_dim, shapes[name][1]
    first, later = level.blocks[0].span, level.blocks[-1].span
    kept = about["kept"][name] = {
        "first_rows": ["B", dim, first, width + 2 * r],
        "rows": [count - 1, "B", p, later, width + 2 * r],
        "first_codes": ["B", dim, first],
        "codes": [count - 1, "B", p, later],
    }
    zeros = {
        key: torch.zeros([2 if side == "B" else side for side in sides])
        for key, sides in kept.items()
    }
    labels, none = torch.zeros(2, dtype=torch.long), level.num_embeddings
    condition = {"labels": labels}
    if name == "bottom":
        condition["z_top"] = torch.zeros(2, *shapes["top"], dtype=torch.long)
    columns = width if name == "bottom" else 1
    row = {
        "above": torch.full((2, width), none),
        "condition": torch.zeros(2, p, 1, columns),
        "first_rows": zeros["first_rows"],
        "rows": zeros["rows"],
    }
    code = {
        "left": torch.full((2,), none),
        "x": torch.zeros(1, dtype=torch.long),
        "across": torch.zeros(count, 2, 2 * p, width),
        "first_codes": zeros["first_codes"],
        "codes": zeros["codes"],
    }
    shape = shapes["bottom"] if name == "bottom" else None
    for part, module, inputs, outputs in (
        ("condition", Condition(level, shape), condition, ["condition"]),
        ("row", RowStep(level), row, ["across", "new_first_rows", "new_rows"]),
        ("code", CodeStep(level), code, ["logits", "new_first_codes", "new_codes"]),
    ):
        _export(module, f"{name}_{part}", inputs, outputs, about, folder)


BATCH_SECOND = ("rows", "across", "codes")  # inputs whose second axis is the batch


def _export(module: nn.Module, name: str, inputs: dict, outputs, about, folder) -> None:
    """Write one graph, for any number of images."""
    batch = torch.export.Dim("batch")
    dynamic = {
        key: {} if key == "x" else {int(key in BATCH_SECOND): batch} for key in inputs
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter about its own insides
        torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            folder / f"{name}.onnx",
            input_names=list(inputs),
            output_names=outputs,
            opset_version=OPSET,
            dynamic_shapes=tuple(dynamic.values()),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    about["graphs"][name] = list(inputs)


def _compared(sampler: OnnxSampler, vqvae2: VQVAE2, prior) -> dict:
    """What the graphs draw against what PyTorch draws, from the same random numbers."""
    labels = prior.labels_in_turn(COMPARED)
    found = sampler.sample(labels.numpy())
    wanted = prior.sample(COMPARED, *vqvae2.grids, labels=labels, seed=0)
    same = [
        torch.from_numpy(ours) == theirs
        for ours, theirs in zip(found, wanted, strict=True)
    ]
    decoded = sampler.decode(*(grid.numpy() for grid in wanted))
    apart = (torch.from_numpy(decoded) - vqvae2.decode_codes(*wanted)).abs().max()
    agree = torch.cat([each.flatten() for each in same]).double().mean()
    return {"codes_that_agree": agree.item(), "pixels_apart": apart.item()}


def export_onnx(
    vqvae2: VQVAE2, prior: HierarchicalPixelCNN, folder, class_names=None
) -> dict:
    """Write the graphs of a pair, and compare what they draw with PyTorch.

    Args:
        vqvae2, prior: a pair whose prior has classes and no attention; on the CPU.
        folder: folder for the graphs and about.json; replaced if it exists.
        class_names: names of the classes, for about.json.

    Returns:
        What about.json holds, with "codes_that_agree", the share of the codes of
        `COMPARED` images of seed 0 that are the same, and "pixels_apart", the largest
        difference of a pixel of the same codes.

    Raises:
        ValueError: the prior has attention, no classes or another number of codes, the
            folder holds something else, a package is not installed, or the graphs draw
            other codes than PyTorch.
    """
    target = Path(folder)
    if target.exists() and not (target / ABOUT_NAME).is_file():
        raise ValueError(
            f"{target} exists and holds no {ABOUT_NAME} of an earlier export; give a "
            "new folder"
        )
    if not isinstance(prior, HierarchicalPixelCNN):
        raise ValueError("the prior has one level; ONNX graphs need one of two levels")
    prior.check_matches(vqvae2)
    levels = prior.levels()
    shapes = dict(zip(levels, vqvae2.grids, strict=True))
    if any(len(level.attention) for level in levels.values()):
        raise ValueError(
            "the prior has attention, whose keys and values are not exported; train "
            "one with attention_layers 0"
        )
    if prior.num_classes is None:
        raise ValueError("the prior has no classes; train one with class_conditional")
    needed("onnxscript")
    about = {
        "grids": {name: list(shape) for name, shape in shapes.items()},
        "num_embeddings": prior.num_embeddings,
        "num_classes": prior.num_classes,
        "guided": bool(prior.label_dropout),
        "class_names": list(class_names or map(str, range(prior.num_classes))),
        "kept": {},
        "graphs": {},
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(target.parent) as new, torch.no_grad():
        for name, level in levels.items():
            _export_level(level, name, shapes, about, new)
        grids = {
            f"z_{level}": torch.zeros(2, *shape, dtype=torch.long)
            for level, shape in shapes.items()
        }
        _export(Decoder(vqvae2), "decoder", grids, ["images"], about, new)
        (new / ABOUT_NAME).write_text(json.dumps(about), encoding="utf-8")
        about |= _compared(OnnxSampler(new), vqvae2, prior)
        # A rounding tie may change one image from there on.
        if about["codes_that_agree"] < 0.85 or about["pixels_apart"] > 1e-3:
            raise ValueError(
                f"{about['codes_that_agree']:.1%} of the codes are those of PyTorch, "
                f"and pixels differ by up to {about['pixels_apart']:.2g}; nothing was "
                "written: try another release of onnxscript"
            )
        (new / ABOUT_NAME).write_text(json.dumps(about, indent=1), encoding="utf-8")
        os.chmod(new, 0o755)
        swap_folder(new, target)
    return about
