"""Safe saving and loading of models.

A checkpoint is a folder with `config.json` and `model.safetensors`, as on the Hugging
Face hub. A `.pth` file is read with `weights_only=True`, and nothing in this package
runs code found in a file. Every file is written under a temporary name, then renamed.
"""

import hashlib
import json
import os
import warnings
from pathlib import Path

import numpy as np
import torch
from huggingface_hub import PyTorchModelHubMixin, snapshot_download
from safetensors.torch import load

from pixelprior.files import temporary_folder, writable_folder, write_tensors
from pixelprior.settings import whole_number

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
COST_NO_WEIGHTS = ("image_size", "bottom_downsampling")  # arguments
MOST_PIXELS = 2**13  # in a row or column of an image
HUB_OPTIONS = (
    *("revision", "cache_dir", "force_download", "local_files_only", "token"),
    *("proxies", "resume_download"),  # of the library's releases before 1.0
)


class Pretrained(PyTorchModelHubMixin):
    """`save_pretrained` and `from_pretrained`, for arguments that fit into JSON."""

    def __init_subclass__(cls, **options):
        # Without coders, the library leaves NumPy and torch numbers out of the config.
        coder = (lambda number: number.tolist(), lambda plain: plain)
        coders = dict.fromkeys((np.generic, np.ndarray, torch.Tensor), coder)
        super().__init_subclass__(coders=coders, **options)

    def save_pretrained(self, save_directory, *, dtype=None, **hub_options):
        """Write `config.json` and `model.safetensors` into a folder.

        Args:
            save_directory: the folder; other files in it are not touched.
            dtype: type of the parameters on disk, such as `torch.float16`; None keeps
                it. Buffers always keep their type.
            hub_options: as in `huggingface_hub.PyTorchModelHubMixin`.
        """
        folder = writable_folder(save_directory)
        config = self._hub_mixin_config | {"model_class": type(self).__name__}
        text = json.dumps(config, sort_keys=True, indent=2) + "\n"
        parameters = {name for name, _ in self.named_parameters()}
        tensors = {}
        for name, tensor in self.state_dict().items():
            tensor = tensor.to(dtype) if dtype and name in parameters else tensor
            tensors[name] = tensor.cpu().contiguous()
        with temporary_folder(folder) as temporary:
            write_tensors(tensors, temporary / WEIGHTS_NAME, {"format": "pt"})
            (temporary / CONFIG_NAME).write_text(text, encoding="utf-8")
            for name in (WEIGHTS_NAME, CONFIG_NAME):
                os.replace(temporary / name, folder / name)
        if hub_options.pop("push_to_hub", False):
            repo_id = hub_options.pop("repo_id", None) or folder.name
            return self.push_to_hub(repo_id=repo_id, **hub_options)
        return None

    @classmethod
    def _from_pretrained(cls, *, model_id, map_location="cpu", **keywords):
        hub = {name: keywords.pop(name) for name in HUB_OPTIONS if name in keywords}
        keywords.pop("model_class", None)  # the library hands on all of the config
        if not os.path.isdir(model_id):
            names = [CONFIG_NAME, WEIGHTS_NAME]
            model_id = snapshot_download(model_id, allow_patterns=names, **hub)
        return load_model(cls, model_id, map_location, **keywords)


def checkpoint_folder(path) -> Path:
    """The folder that holds a checkpoint's config and notes.

    For a training run this is its `best`, and for a `.pth` file the folder of the file.
    """
    path = Path(path)
    if not path.is_dir():
        return path.parent
    has_best = (path / "best").is_dir() and not (path / WEIGHTS_NAME).exists()
    return path / "best" if has_best else path


def load_model(model_class, path, device="cpu", **arguments):
    """Read a model from a checkpoint folder or a `.pth` file, in evaluation mode.

    A `.pth` file holds a `state_dict()`, and the model's `config.json` is in the same
    folder. Loading does not change the global random state.

    Args:
        path: the folder or the file; for a training run, its folder or its `best`.
        arguments: arguments of the model that replace those in its config, such as
            dropout=0.5.

    Raises:
        FileNotFoundError: there is no checkpoint at `path`.
        ValueError: the checkpoint is damaged, belongs to another model, or holds Python
            objects (their code is never run); or its config, the arguments and the
            weights do not fit the model.
    """
    path, name = Path(path), model_class.__name__
    folder = checkpoint_folder(path)
    weights = folder / WEIGHTS_NAME if path.is_dir() else path
    if not weights.is_file():
        raise FileNotFoundError(
            f"no checkpoint at {path}: expected a folder with {CONFIG_NAME} and "
            f"{WEIGHTS_NAME}, or a .pth file; train one with `pixelprior train-vqvae2` "
            "or `pixelprior train-prior`"
        )
    state, config = _read_weights(weights), read_config(folder / CONFIG_NAME)
    found = config.pop("model_class", name)
    if found != name:
        raise ValueError(
            f"{path} holds a {found}, but a {name} is needed here; give the checkpoint "
            "of that model"
        )
    try:
        model = _build(model_class, config | arguments, state)
    except ValueError:  # the model names what it refuses
        raise
    except Exception as error:  # a config from elsewhere raises errors of many types
        raise ValueError(
            f"config and weights in {path} do not fit a {name} ({_line(error)}); give "
            "those of one training run"
        ) from error
    return model.to(device).eval()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _build(model_class, config: dict, state: dict):
    """A model of that config and state; an error, before it takes memory, unless each
    count in the config is within those of the weights."""
    sides = [side for each in state.values() if each.numel() for side in each.shape]
    for name, value in config.items():
        # A list, such as one size per level, may be neither too long nor too large.
        values = value if isinstance(value, list) else [value]
        count = max((whole_number(each) or 0 for each in values), default=0)
        if name in COST_NO_WEIGHTS:
            largest = MOST_PIXELS
        elif name.endswith(("layers", "blocks")):  # each has tensors of its own
            largest = len(state)
        else:
            largest = max([len(state), *sides])
        if count > largest or len(values) > len(state):
            raise RuntimeError(
                f"{name} is {value!r:.40}, but the weights are {len(state)} tensors of "
                f"sides up to {max(sides, default=0)}, and allow {largest} at most"
            )
    # The initial weights are replaced; to draw them must not change the random state.
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a model on "meta" takes no weights
        for device in ("meta", "cpu"):  # on the first, without memory
            with torch.device(device):
                model = model_class(**config)
            model.load_state_dict(state)
    return model


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    try:
        if path.suffix == ".safetensors":
            # `load_file` of safetensors 0.8 loses some 80 bytes for each tensor.
            return load(path.read_bytes())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the protocols of unknown pickles
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise errors of many types
        problem = f"({_line(error)}): it is cut short or damaged; copy it again"
        if "Weights only load failed" in str(error):
            problem = (
                "(it holds Python objects besides tensors, or is damaged): reading it "
                "further could run code from the file: refused, nothing was run; save "
                "model.state_dict() with torch.save instead"
            )
        raise ValueError(f"{path} cannot be read {problem}") from None
    tensors = isinstance(state, dict) and all(
        isinstance(name, str) and isinstance(value, torch.Tensor)
        for name, value in state.items()
    )
    if not tensors:
        raise ValueError(
            f"{path} holds no state_dict; save model.state_dict() with torch.save"
        )
    return state


def read_config(path: Path) -> dict:
    """The arguments that a saved model was built with, and its `model_class`."""
    if not path.is_file():
        raise FileNotFoundError(
            f"no {CONFIG_NAME} in {path.parent}: it says how the model is built; put "
            "the one that was saved with the weights into this folder"
        )
    config = _read_object(path)
    if config is None:
        raise ValueError(
            f"{path} is not valid JSON of an object: it is cut short or damaged; copy "
            "it again"
        )
    return config


def read_training_notes(path) -> dict:
    """What training wrote beside a checkpoint (`training.json`); {} if it is absent.
    Class names, trained parts and held-out share of other types are left out."""
    notes = _read_object(checkpoint_folder(path) / "training.json") or {}
    for name in ("class_names", "trained_parts"):
        words = notes.get(name)
        if not isinstance(words, list) or not all(isinstance(w, str) for w in words):
            notes.pop(name, None)
    if not isinstance(notes.get("validation_share"), int | float):
        notes.pop("validation_share", None)
    return notes


def _read_object(path: Path) -> dict | None:
    """A JSON file's object; None if the file is absent or holds none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def fingerprint(model: torch.nn.Module) -> str:
    """SHA-256 over a model's parameters and what its `codebooks()`, if any, returns.

    Other buffers are left out: the codebook library's flags and moving averages do not
    affect the codes, and differ between its releases.
    """
    tensors = dict(model.named_parameters())
    if hasattr(model, "codebooks"):
        tensors |= model.codebooks()
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        values = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(values.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
