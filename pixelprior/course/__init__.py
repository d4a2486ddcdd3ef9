"""Code that only the course uses: figures, widgets, the checks of the exercises, and
the tools with which a notebook measures or plans."""

import importlib

import pixelprior
from pixelprior.settings import numbers_of

TOOLS = {
    "DrawingBoard": "widgets",
    "explore": "widgets",
    "reveal": "checks.verdict",
    "your_turn": "checks.verdict",
}


def __getattr__(name: str):
    """What every notebook imports; loaded when it is asked for."""
    if name not in TOOLS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{TOOLS[name]}"), name)


class PackageTooOld(ImportError):
    """The installed package is older than a notebook. Jupyter shows the words alone."""

    def _render_traceback_(self) -> list[str]:  # IPython asks an exception for this
        return [str(self)]


def needs(version: str) -> None:
    """Check that the installed package is not older than a notebook.

    Args:
        version: that of the package for which the notebook was written, such as "0.1".
    """
    if numbers_of(pixelprior.__version__) < numbers_of(version):
        installed = pixelprior.__version__
        raise PackageTooOld(
            f"this notebook needs pixelprior {version} or later, and {installed} is "
            "installed: update it with pip install --upgrade pixelprior (in a "
            "checkout: git pull, then pip install -e .), and restart the kernel"
        )
