"""A VQ-VAE-2 and its prior as ONNX graphs, to draw images where there is no PyTorch.

Each level becomes graphs of its steps for one row and for one code (`graphs.py`).
`OnnxSampler` draws with the graphs, in onnxruntime; a program in another language has
to do the same.
"""

import importlib
import json
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pixelprior.checkpoints import fingerprint
from pixelprior.devices import evaluation_mode
from pixelprior.files import swap_folder, temporary_folder, writable_folder, write_texts
from pixelprior.onnx.graphs import CodeStep, Condition, Decoder, RowStep
from pixelprior.onnx.sampler import ABOUT_NAME, OnnxSampler
from pixelprior.pixelcnn import PixelCNN
from pixelprior.prior import HierarchicalPixelCNN
from pixelprior.vqvae2 import VQVAE2

OPSET = 17
COMPARED = 8  # images that are compared
TOLERANCE = 1e-3  # of logits and of pixels
BATCH_SECOND = ("rows", "across", "codes", "past", "located")  # on the second axis
NO_BATCH = ("x", "number")  # inputs that are alike for all images


def export_onnx(
    vqvae2: VQVAE2, prior: HierarchicalPixelCNN, folder, class_names=None
) -> dict:
    """Write the graphs of a pair, and compare what they draw with PyTorch.

    Args:
        vqvae2, prior: a pair whose prior has classes; on the CPU.
        folder: folder for the graphs and about.json; an earlier export is replaced.
        class_names: names of the classes, for about.json.

    Returns:
        What about.json holds, with the largest differences from PyTorch for `COMPARED`
        images of seed 0: "logits_apart" along the same codes, and "pixels_apart".
        "codes_that_agree" is the share of the codes that the graphs draw alike.

    Raises:
        ValueError: such a pair has no graphs, the folder holds something else, a
            package is missing, or logits or pixels differ from those of PyTorch.
    """
    target = Path(folder)
    if target.exists() and not _is_export(target):
        raise ValueError(
            f"{target} holds something else than an earlier export; give a new folder"
        )
    _check_pair(vqvae2, prior)
    levels = dict(zip(prior.level_names, prior.levels, strict=True))
    shapes = dict(zip(levels, vqvae2.grids, strict=True))
    about = {
        "grids": {name: list(shape) for name, shape in shapes.items()},
        "num_embeddings": prior.num_embeddings,
        "num_classes": prior.num_classes,
        "guided": bool(prior.label_dropout),
        "class_names": list(class_names or map(str, range(prior.num_classes))),
        "made_of": {"vqvae2": fingerprint(vqvae2), "prior": fingerprint(prior)},
        "kept": {},
        "graphs": {},
    }
    both = nn.ModuleList([vqvae2, prior])
    parent = writable_folder(target.parent)
    with temporary_folder(parent) as hidden, evaluation_mode(both), torch.no_grad():
        new = hidden / "graphs"
        new.mkdir()
        above, grids = {}, {}
        for name, level in levels.items():
            _export_level(level, name, shapes[name], above, about, new)
            above = {f"z_{name}": torch.zeros(2, *shapes[name], dtype=torch.long)}
            grids |= above
        _export(Decoder(vqvae2), "decoder", grids, ["images"], about, new)
        write_texts(new, {ABOUT_NAME: json.dumps(about)})
        about |= _compared(OnnxSampler(new), vqvae2, prior)
        apart = about["logits_apart"], about["pixels_apart"]
        if not max(apart) < TOLERANCE:  # nan is refused as well
            raise ValueError(
                f"the logits differ from PyTorch's by up to {apart[0]:.2g}, and pixels "
                f"by {apart[1]:.2g}; nothing was written: try another release of onnx"
            )
        write_texts(new, {ABOUT_NAME: json.dumps(about, indent=1)})
        swap_folder(new, target)
    return about


def _is_export(folder: Path) -> bool:
    """Whether a folder holds an export and nothing else."""
    try:
        graphs = json.loads((folder / ABOUT_NAME).read_text(encoding="utf-8"))["graphs"]
        own = {ABOUT_NAME, *(f"{name}.onnx" for name in graphs)}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False
    return {path.name for path in folder.iterdir()} <= own


def _check_pair(vqvae2: VQVAE2, prior) -> None:
    """Raise ValueError if a pair cannot be exported, or a package is missing."""
    try:
        importlib.import_module("onnx")
        importlib.import_module("onnxruntime")
    except ImportError as error:
        raise ValueError(
            f"ONNX graphs need two packages ({error}); run pip install onnx onnxruntime"
        ) from error
    prior.check_matches(vqvae2)
    weights = (*vqvae2.parameters(), *prior.parameters())
    kinds = {(each.dtype, each.device.type) for each in weights}
    if prior.num_classes is None:
        fault = "has no classes; train one with class_conditional"
    elif any(len(level.blocks) < 2 for level in prior.levels):
        fault = "has a single block; train one with 2 or more"
    elif kinds != {(torch.float32, "cpu")}:
        fault = "or its VQ-VAE-2 is not float32 on the CPU; convert with .float().cpu()"
    else:
        return
    raise ValueError(f"the prior {fault}")


def _export_level(level: PixelCNN, name, shape, above: dict, about: dict, folder):
    """Write the graphs of a level: its condition, its row step, its code step."""
    hidden, _ = level.output_layers
    p, r, count = hidden.in_channels, level.blocks[0].padding, len(level.blocks)
    dim, width, absent = level.embedding.embedding_dim, shape[1], level.num_embeddings
    first, later = level.blocks[0].extent, level.blocks[-1].extent
    kept = about["kept"][name] = {
        "first_rows": ["B", dim, first, width + 2 * r],
        "rows": [count - 1, "B", p, later, width + 2 * r],
        "first_codes": ["B", dim, first],
        "codes": [count - 1, "B", p, later],
    }
    layers = len(level.attention)
    if layers:
        kept["past"] = [layers, "B", 2, shape[0] * width, p]
        kept["located"] = [layers, "B", p]
    zeros = {
        key: torch.zeros([2 if side == "B" else side for side in sides])
        for key, sides in kept.items()
    }
    row = {
        "above": torch.full((2, width), absent),
        "condition": torch.zeros(2, p, 1, width if above else 1),
        "first_rows": zeros["first_rows"],
        "rows": zeros["rows"],
    }
    code = {
        "left": torch.full((2,), absent),
        "x": torch.zeros(1, dtype=torch.long),
        "across": torch.zeros(count, 2, 2 * p, width),
        "first_codes": zeros["first_codes"],
        "codes": zeros["codes"],
    }
    after = ["logits", "new_first_codes", "new_codes"]
    if layers:
        code |= {"number": torch.zeros(1, dtype=torch.long), "before": code["left"]}
        code |= {key: zeros[key] for key in ("past", "located")}
        after += ["new_past", "new_located"]
    labels = {"labels": torch.zeros(2, dtype=torch.long)} | above
    for part, module, inputs, outputs in (
        ("condition", Condition(level, shape), labels, ["condition"]),
        ("row", RowStep(level), row, ["across", "new_first_rows", "new_rows"]),
        ("code", CodeStep(level, shape), code, after),
    ):
        _export(module, f"{name}_{part}", inputs, outputs, about, folder)


def _export(module: nn.Module, name: str, inputs: dict, outputs, about, folder) -> None:
    """Write one graph, for any number of images."""
    dynamic = {
        key: {int(key in BATCH_SECOND): "batch"}
        for key in inputs
        if key not in NO_BATCH
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter about its own insides
        torch.onnx.export(
            module.eval(),  # the exporter restores the mode that it finds
            tuple(inputs.values()),
            folder / f"{name}.onnx",
            input_names=list(inputs),
            output_names=outputs,
            opset_version=OPSET,
            dynamic_axes=dynamic,
            dynamo=False,
        )
    about["graphs"][name] = list(inputs)


def _compared(sampler: OnnxSampler, vqvae2: VQVAE2, prior) -> dict:
    """What the graphs give against what PyTorch gives, for `COMPARED` images.

    The logits are compared along the codes that PyTorch draws. The codes that the
    graphs draw by themselves may differ from those by a rounding tie.
    """
    labels = prior.labels_in_turn(COMPARED)
    wanted = prior.sample(COMPARED, *vqvae2.grids, labels=labels, seed=0)
    z_top, z_bottom = wanted
    codes = [grid.numpy() for grid in wanted]
    of_pytorch = (
        prior.prior_top(z_top, labels),
        prior.prior_bottom(z_bottom, z_top, labels),
        vqvae2.decode_codes(*wanted),
    )
    of_graphs = (*sampler.logits(labels, *codes), sampler.decode(*codes))
    *logits, pixels = (
        np.abs(ours - theirs.numpy()).max().item()
        for ours, theirs in zip(of_graphs, of_pytorch, strict=True)
    )
    drawn = zip(sampler.sample(labels), codes, strict=True)
    same = [(ours == theirs).ravel() for ours, theirs in drawn]
    return {
        "logits_apart": max(logits),
        "pixels_apart": pixels,
        "codes_that_agree": float(np.concatenate(same).mean()),
    }
