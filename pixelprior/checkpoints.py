"""Safe saving and loading of models.

A checkpoint is a folder with `config.json` and `model.safetensors`. This is the
convention of the Hugging Face hub, so that `save_pretrained`, `from_pretrained` and
`push_to_hub` work. A `.pth` file is read with `weights_only=True`, and nothing in this
package runs code found in a file. Every file is written under a temporary name and
renamed when it is complete.
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
COST_NO_WEIGHTS = ("image_size", "bottom_downsampling")  # arguments, of any size
HUB_OPTIONS = ("revision", "cache_dir", "force_download", "local_files_only", "token")
HUB_OPTIONS += ("proxies", "resume_download")  # of the library's releases before 1.0


class Pretrained(PyTorchModelHubMixin):
    """`save_pretrained` and `from_pretrained`, for arguments that fit into JSON."""

    def __init_subclass__(cls, **options):
        # Without coders, the library leaves NumPy and torch numbers out of the config.
        types = (np.generic, np.ndarray, torch.Tensor)
        coders = dict.fromkeys(types, (_plain, _plain))
        super().__init_subclass__(coders=coders, **options)

    def save_pretrained(self, save_directory, *, dtype=None, **hub_options):
        """Write `config.json` and `model.safetensors` into a folder.

        Args:
            save_directory: the folder, which is created if it is absent. Other files in
                it are not touched.
            dtype: floating-point type of the parameters on disk, such as
                `torch.float16`; None keeps their type. Buffers always keep their type.
            hub_options: as in `huggingface_hub.PyTorchModelHubMixin`.
        """
        folder = writable_folder(save_directory)
        config = self._hub_mixin_config | {"model_class": type(self).__name__}
        text = json.dumps(config, sort_keys=True, indent=2) + "\n"
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
        path: the folder or the file; for a training run, its folder or its `best`.
        arguments: arguments of the model that replace those in its config, such as
            dropout=0.5.

    Raises:
        FileNotFoundError: there is no checkpoint at `path`.
        ValueError: the checkpoint is damaged, belongs to another model, or holds Python
            objects that would run code (they are never run); or its config, the
            arguments and the weights do not fit the model.
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
    config, state = _read_weights(weights)
    if config is None:
        config = read_config(folder / CONFIG_NAME)
    config, name = dict(config), model_class.__name__
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
        problem = " ".join(str(error).split())[:200]
        raise ValueError(
            f"config and weights in {path} do not fit a {name} ({problem}); give those "
            "of one training run"
        ) from error
    return model.to(device).eval()


def _build(model_class, config: dict, state: dict):
    """A model of that config and state; an error, before it takes memory, unless each
    count in the config is within those of the weights."""
    largest = max(len(state), *(side for each in state.values() for side in each.shape))
    for name, value in config.items():
        # A list, such as one size per level, may be neither too long nor too large.
        counts = [len(value), *value] if isinstance(value, list) else [value]
        count = max((whole_number(each) or 0 for each in counts), default=0)
        if name not in COST_NO_WEIGHTS and count > largest:
            raise RuntimeError(
                f"{name} is {count}, but the weights are {len(state)} tensors, and "
                f"none of their counts and sides is above {largest}"
            )
    # The initial weights are replaced; to draw them must not change the random state.
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a model on "meta" takes no weights
        for device in ("meta", "cpu"):  # on the first, without memory
            with torch.device(device):
                model = model_class(**config)
            model.load_state_dict(state)
    return model


def _read_weights(path: Path) -> tuple[dict | None, dict]:
    """The config in a file, if there is one, and its tensors by name."""
    config = None
    try:
        if path.suffix == ".safetensors":
            # `load_file` of safetensors 0.8 loses some 80 bytes for each tensor.
            return None, load(path.read_bytes())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the protocols of unknown pickles
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise errors of many types
        problem = " ".join(str(error).split())[:120]
        remedy = "it is cut short or damaged; copy it again or train again"
        if "Weights only load failed" in str(error):
            problem = "it holds Python objects besides tensors, or is damaged"
            remedy = (
                "reading it further could run code from the file: refused, nothing was "
                "run; save model.state_dict() with torch.save instead"
            )
        raise ValueError(f"{path} cannot be read ({problem}): {remedy}") from None
    if isinstance(content, dict) and "state_dict" in content:
        config, content = content.get("config"), content["state_dict"]
    if (
        not isinstance(config, dict | None)
        or not isinstance(content, dict)
        or not all(isinstance(name, str) for name in content)
        or not all(isinstance(value, torch.Tensor) for value in content.values())
    ):
        raise ValueError(
            f"{path} holds no state_dict, or a config that is no dict; save "
            "model.state_dict() with torch.save"
        )
    return config, content


def read_config(path: Path) -> dict:
    """The arguments that a saved model was built with, and its `model_class`."""
    if not path.is_file():
        raise FileNotFoundError(
            f"no {CONFIG_NAME} in {path.parent}: it says how the model is built; put "
            "the one that was saved with the weights into this folder"
        )
    config = _read_json(path)
    if not isinstance(config, dict):
        raise ValueError(
            f"{path} is not valid JSON of an object: it is cut short or damaged; copy "
            "it again"
        )
    return config


def read_training_notes(path) -> dict:
    """What training wrote beside a checkpoint (`training.json`); {} if it is absent."""
    notes = _read_json(checkpoint_folder(path) / "training.json")
    if not isinstance(notes, dict):
        return {}
    if not isinstance(notes.get("trained_parts"), list):
        notes.pop("trained_parts", None)
    return notes


def _read_json(path: Path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


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
