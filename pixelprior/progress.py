"""Progress bars with the time left, shown only on a terminal or in a notebook.

A bar is drawn on stderr if stderr is a terminal, or in a notebook. Piped output, log
files and CI get no bars; there the callers print one plain line per epoch. The build
and the tests of the course set PIXELPRIOR_WIDGETS=off, so that no bars or widgets are
in the committed outputs.
"""

import os
import sys

from tqdm.auto import tqdm


def widgets_are_on() -> bool:
    """Whether notebooks show bars and widgets: yes, unless PIXELPRIOR_WIDGETS=off."""
    return os.environ.get("PIXELPRIOR_WIDGETS", "") != "off"


def in_a_kernel() -> bool:
    """Whether this is a Jupyter kernel."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and "ipykernel" in type(ipython.get_ipython()).__module__


def is_interactive() -> bool:
    """Whether stderr is a terminal, or this is a Jupyter kernel with widgets on."""
    if in_a_kernel():
        return widgets_are_on()
    return hasattr(sys.stderr, "isatty") and sys.stderr.isatty()


def progress_bar(iterable=None, *, enabled=True, **options):
    """A tqdm bar over `iterable`, shown if `enabled` and `is_interactive()`."""
    hidden = not (enabled and is_interactive())
    return tqdm(iterable, **options, leave=False, dynamic_ncols=True, disable=hidden)
