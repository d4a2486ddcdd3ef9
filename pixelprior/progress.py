"""Progress bars for long work: with time left, and only where someone is looking.

A bar is drawn on stderr when that is a terminal, or in a notebook. Piped output, log
files and CI get none; the callers print one plain line per epoch instead. The build and
the tests of the course set PIXELPRIOR_WIDGETS=off: nothing that moves is committed.
"""

import os
import sys

from tqdm.auto import tqdm


def widgets_are_on() -> bool:
    """Whether a notebook shows bars and widgets: unless PIXELPRIOR_WIDGETS is "off"."""
    return os.environ.get("PIXELPRIOR_WIDGETS", "") != "off"


def is_interactive() -> bool:
    """True on a terminal, and in a Jupyter kernel where widgets are on."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is not None and "ipykernel" in type(shell).__module__:
        return widgets_are_on()
    return hasattr(sys.stderr, "isatty") and sys.stderr.isatty()


def progress_bar(iterable=None, *, total=None, desc="", enabled=True, unit="it"):
    """A tqdm bar over `iterable`, silent where nobody looks or `enabled` is false."""
    return tqdm(
        iterable,
        total=total,
        desc=desc,
        unit=unit,
        leave=False,
        dynamic_ncols=True,
        disable=not (enabled and is_interactive()),
    )
