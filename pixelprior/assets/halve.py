"""Copy a trained model's `best` into the package, its parameters in half precision.

Run `python -m pixelprior.assets.halve RUN TARGET` with a training run's folder and the
folder to write.
"""

import argparse
import shutil
from pathlib import Path

import torch

from pixelprior import VQVAE2, HierarchicalPixelCNN
from pixelprior.checkpoints import load_model, read_config

MODELS = {model.__name__: model for model in (VQVAE2, HierarchicalPixelCNN)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    best = arguments.run / "best"
    model_class = MODELS[read_config(best / "config.json")["model_class"]]
    model = load_model(model_class, best)
    model.save_pretrained(arguments.target, dtype=torch.float16)
    shutil.copy(best / "training.json", arguments.target)
    size = (arguments.target / "model.safetensors").stat().st_size
    print(f"{model_class.__name__}: {size:,} bytes in {arguments.target}")


if __name__ == "__main__":
    main()
