"""Safe saving and loading of models.

A checkpoint is a folder with `config.json` and `model.safetensors`. This is the
convention of the Hugging Face hub, so that `save_pretrained`, `from_pretrained` and
`push_to_hub` work. The weights' checksum beside them is compared when they are loaded.
A `.pth` file is read with `weights_only=True`, and nothing in this package runs code
found in a file. Every file is written under a temporary name and renamed when it is
complete. What a training run writes, its `best` and `last`, is in `runs.py`.
"""

import contextlib
import hashlib
import inspect
import json
import os
import warnings
from pathlib import Path

import numpy as np
import torch
from huggingface_hub import PyTorchModelHubMixin, hf_hub_download
from huggingface_hub.utils import EntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load

from pixelprior.files import (
    SUMS_NAME,
    check_checksum,
    temporary_folder,
    writable_folder,
    write_checksum,
    write_tensors,
)
from pixelprior.ranges import whole_number

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
COST_NO_WEIGHTS = ("image_size", "bottom_downsampling")  # arguments, of any size
# revision, cache_dir, token, …: releases of the library differ in these arguments.
HUB_OPTIONS = [
    name
    for name, parameter in inspect.signature(
        PyTorchModelHubMixin.from_pretrained
    ).parameters.items()
    if parameter.kind is parameter.KEYWORD_ONLY
]


class Pretrained(PyTorchModelHubMixin):
    """`save_pretrained` and `from_pretrained`, for arguments that fit into JSON."""

    def __init_subclass__(cls, **options):
        # Without coders, the library leaves NumPy and torch numbers out of the config.
        types = (np.generic, np.ndarray, torch.Tensor)
        coders = dict.fromkeys(types, (_plain, _plain))
        super().__init_subclass__(coders=coders, **options)

    def save_pretrained(self, save_directory, *, dtype=None, **hub_options):
        """Write `config.json`, `model.safetensors` and its checksum into a folder.

        Args:
            save_directory: the folder, which is created if it is absent. Other files in
                it are not touched.
            dtype: floating-point type of the parameters on disk, such as
                `torch.float16`; None keeps their type. Buffers always keep their type.
            hub_options: as in `huggingface_hub.PyTorchModelHubMixin`.
        """
        folder = writable_folder(save_directory)
        config = self._hub_mixin_config | {"model_class": type(self).__name__}
        parameters = {name for name, _ in self.named_parameters()}
        tensors = {
            name: (tensor.to(dtype) if dtype and name in parameters else tensor)
            .detach()
            .cpu()
            .contiguous()
            for name, tensor in self.state_dict().items()
        }
        with temporary_folder(folder) as temporary:
            write_tensors(tensors, temporary / WEIGHTS_NAME, {"format": "pt"})
            (temporary / CONFIG_NAME).write_text(
                json.dumps(config, sort_keys=True, indent=2) + "\n", encoding="utf-8"
            )
            write_checksum(temporary / WEIGHTS_NAME)
            # An old checksum must not be found beside new weights.
            (folder / SUMS_NAME).unlink(missing_ok=True)
            for name in (WEIGHTS_NAME, CONFIG_NAME, SUMS_NAME):
                os.replace(temporary / name, folder / name)
        if hub_options.pop("push_to_hub", False):
            repo_id = hub_options.pop("repo_id", None) or folder.name
            return self.push_to_hub(repo_id=repo_id, **hub_options)
        return None

    @classmethod
    def _from_pretrained(cls, *, model_id, map_location="cpu", **keywords):
        hub = {name: keywords.pop(name) for name in HUB_OPTIONS if name in keywords}
        if os.path.isdir(model_id):
            return load_model(cls, model_id, map_location, **keywords)
        weights, config = (
            Path(hf_hub_download(repo_id=model_id, filename=name, **hub))
            for name in (WEIGHTS_NAME, CONFIG_NAME)
        )
        sums = None
        with contextlib.suppress(EntryNotFoundError):  # weights of another program
            sums = Path(hf_hub_download(repo_id=model_id, filename=SUMS_NAME, **hub))
        state, config = _read_safetensors(weights, sums), read_config(config)
        model = _build(cls, config, keywords, state, Path(model_id))
        return model.to(map_location).eval()


def _plain(value):
    """Convert a number of NumPy or torch to Python's; return all else unchanged."""
    try:
        return value.item()
    except (ValueError, RuntimeError):  # not a single number: the model refuses it
        return value


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

    A `.pth` file holds `{"config": …, "state_dict": …}`, or a plain `state_dict()` with
    the model's `config.json` in the same folder. Loading does not change the global
    random state.

    Args:
        model_class: a subclass of `Pretrained`, such as `VQVAE2` or
            `HierarchicalPixelCNN`.
        path: the folder or the file; for a training run, the folder of the run or its
            `best`.
        device: the device that the model is moved to.
        arguments: arguments of the model that replace those in its config, such as
            dropout=0.5.

    Raises:
        FileNotFoundError: there is no checkpoint at `path`.
        ValueError: the checkpoint is damaged, belongs to another model, or holds Python
            objects that would run code (they are never run); or the model has no such
            argument, or the weights do not fit the model.
    """
    path = Path(path)
    folder = checkpoint_folder(path)
    weights = folder / WEIGHTS_NAME if path.is_dir() else path
    if not weights.is_file():
        raise FileNotFoundError(
            f"no checkpoint at {path}: expected a folder with {CONFIG_NAME} and "
            f"{WEIGHTS_NAME}, or a .pth file; train one with `pixelprior train-vqvae2` "
            "or `pixelprior train-prior`"
        )
    if weights.suffix == ".safetensors":
        config, state = None, _read_safetensors(weights)
    else:
        config, state = _read_pth(weights)
    if config is None:
        config = read_config(folder / CONFIG_NAME)
    return _build(model_class, config, arguments, state, path).to(device).eval()


def _build(model_class, config: dict, arguments: dict, state: dict, path: Path):
    config = dict(config)
    found = config.pop("model_class", model_class.__name__)
    if found != model_class.__name__:
        raise ValueError(
            f"{path} holds a {found}, but a {model_class.__name__} is needed here; "
            "give the checkpoint of that model"
        )
    taken = list(inspect.signature(model_class.__init__).parameters)[1:]
    for name in arguments:
        if name not in taken:
            raise ValueError(
                f"a {model_class.__name__} takes no argument {name!r}; leave it out, "
                f"or give one of {', '.join(taken)}"
            )
    try:
        _check_fit(model_class, config | arguments, state)
        # The initial weights are replaced below; drawing them must not change the
        # caller's random state.
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            model = model_class(**config | arguments)
        model.load_state_dict(state)
    except TypeError as error:
        raise ValueError(
            f"the config of {path} does not describe a {model_class.__name__} "
            f"({error}); give the checkpoint of that model"
        ) from error
    except RuntimeError as error:
        problem = " ".join(str(error).split())[:200]
        raise ValueError(
            f"the weights in {path} do not fit a {model_class.__name__} built from its "
            f"config ({problem}); give weights and config of one training run"
        ) from error
    return model


def _check_fit(model_class, config: dict, state: dict) -> None:
    """Raise RuntimeError unless the weights fit the model, before it takes memory.

    A config may ask for more than any machine has. Each count in it is therefore
    compared with the weights first, and then a model without memory is built.
    """
    sides = [side for tensor in state.values() for side in tensor.shape]
    largest = max([len(state), *sides])
    for name, value in config.items():
        count = whole_number(value)
        if name not in COST_NO_WEIGHTS and count is not None and count > largest:
            raise RuntimeError(
                f"{name} is {count}, but there are {len(state)} tensors with sides of "
                f"at most {max(sides, default=0)}"
            )
    with (
        torch.random.fork_rng(devices=[]),
        torch.device("meta"),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # that such a model takes no weights
        model_class(**config).load_state_dict(dict(state))


def _read_safetensors(path: Path, sums: Path | None = None) -> dict:
    try:
        # `load_file` of safetensors 0.8 loses some 80 bytes for each tensor it reads.
        state = load(path.read_bytes())
    except (SafetensorError, ValueError, EOFError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} cannot be read ({error}): it is cut short or damaged; "
            "copy it again or train again"
        ) from error
    check_checksum(path, sums)
    return state


def _read_pth(path: Path) -> tuple[dict | None, dict]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the protocols of unknown pickles
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise errors of many types
        if "Weights only load failed" not in str(error):
            problem = " ".join(str(error).split())[:120]
            raise ValueError(
                f"{path} cannot be read ({problem}): it is cut short or damaged; "
                "copy it again or train again"
            ) from error
        raise ValueError(
            f"{path} holds Python objects besides tensors, or is damaged; reading it "
            "further could run code from the file: refused, nothing was run; save "
            "model.state_dict() with torch.save instead"
        ) from None
    config = None
    if isinstance(content, dict) and "state_dict" in content:
        config, content = content.get("config"), content["state_dict"]
    if config is not None and not isinstance(config, dict):
        raise ValueError(
            f"{path} holds a config that is a {type(config).__name__}, not a dict; "
            "save the model's arguments by name"
        )
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor)
        for name, value in content.items()
    ):
        raise ValueError(
            f"{path} holds no state_dict; save model.state_dict() with torch.save"
        )
    return config, content


def read_config(path: Path) -> dict:
    """The arguments that a saved model was built with, and its `model_class`."""
    if not path.is_file():
        raise FileNotFoundError(
            f"no {CONFIG_NAME} in {path.parent}: it says how the model is built; put "
            "the one that was saved with the weights into this folder"
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is not valid JSON ({error}): it is cut short or damaged; "
            "copy it again"
        ) from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} holds no JSON object; copy it again")
    return config


def fingerprint(model: torch.nn.Module) -> str:
    """SHA-256 over a model's parameters and what its `codebooks()`, if any, returns.

    It is the same on every device and with every release of the codebook library. Other
    buffers are left out: the library's flags and moving averages do not affect the
    codes, and their types and shapes differ between its releases.
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


def read_training_notes(path) -> dict:
    """What training wrote beside a checkpoint (`training.json`); {} if it is absent."""
    notes = checkpoint_folder(path) / "training.json"
    try:
        notes = json.loads(notes.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(notes, dict):
        return {}
    if not isinstance(notes.get("trained_parts"), list):
        notes.pop("trained_parts", None)
    return notes
