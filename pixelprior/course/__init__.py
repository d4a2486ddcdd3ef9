"""Code that only the course uses: figures, widgets, the checks of the exercises, and
the tools with which a notebook measures or plans."""

import pixelprior
from pixelprior.course.checks.verdict import reveal, your_turn
from pixelprior.course.widgets import DrawingBoard, explore
from pixelprior.settings import numbers_of

__all__ = ["DrawingBoard", "explore", "needs", "reveal", "your_turn"]


class PackageTooOld(ImportError):
    """The installed package is older than a notebook. Jupyter shows the words alone."""

    def _render_traceback_(self) -> list[str]:  # IPython asks an exception for this
        return [str(self)]


def needs(version: str) -> None:
    """Check that the installed package is not older than a notebook, which was written
    for the version given, such as "0.1"."""
    if numbers_of(pixelprior.__version__) < numbers_of(version):
        installed = pixelprior.__version__
        raise PackageTooOld(
            f"this notebook needs pixelprior {version} or later, and {installed} is "
            "installed: update it with pip install --upgrade pixelprior (in a "
            "checkout: git pull, then pip install -e .), and restart the kernel"
        )
