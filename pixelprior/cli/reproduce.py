"""The flags of `reproduce`; `reproduction.py` does the work."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from pixelprior.cli.recipes import RECIPES


@dataclass(kw_only=True)
class Reproduce:
    """Run a recipe from images to weights in half precision, results and model card. A
    run that was stopped continues: what is already trained is not trained again, nor
    are weights that were put into weights/NAME of the output folder."""

    recipe: tyro.conf.Positional[Literal[tuple(RECIPES)]]
    """Name of the recipe. fashion_mnist, cifar10 and emoji made the shipped weights on
    two cores; emoji needs no data; fashion_mnist_mini takes minutes and needs none
    either; cifar10_large is for a GPU; cifar10_reduced is one epoch of small networks,
    in minutes."""
    data_root: Path | None = None
    """Folder of the data. If it is left out, $PIXELPRIOR_DATA is used, else a cache
    folder."""
    dataset: str | None = None
    """Data set in place of the recipe's, such as imagefolder for CIFAR-10 as files."""
    output_dir: Path | None = None
    """Folder for runs/, weights/, results/ and reproduce.log. If it is left out,
    ./outputs/reproduce_RECIPE is used."""

    def run(self) -> None:
        from pixelprior.cli.reproduction import Reproduction

        Reproduction(self).run()
