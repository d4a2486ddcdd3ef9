"""Progress bars with the time left, shown only on a terminal or in a notebook.

A bar is drawn on stderr if stderr is a terminal, or in a notebook. Piped output, log
files and CI get no bars; there the callers print one plain line per epoch. The build
and the tests of the course set PIXELPRIOR_WIDGETS=off, so that no bars or widgets are
in the committed outputs.
"""

import functools
import os
import sys

from tqdm.auto import tqdm


def widgets_are_on() -> bool:
    """Whether notebooks show bars and widgets: yes, unless PIXELPRIOR_WIDGETS=off."""
    return os.environ.get("PIXELPRIOR_WIDGETS", "") != "off"


def in_a_kernel() -> bool:
    """Whether this is a Jupyter kernel."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and "ipykernel" in type(shell).__module__


def is_interactive() -> bool:
    """Whether stderr is a terminal, or this is a Jupyter kernel with widgets on."""
    if in_a_kernel():
        return widgets_are_on()
    return hasattr(sys.stderr, "isatty") and sys.stderr.isatty()


def progress_bar(iterable=None, *, total=None, desc="", enabled=True, unit="it"):
    """A tqdm bar over `iterable`, shown if `enabled` and `is_interactive()`."""
    shown = enabled and is_interactive()
    kind = _cell_bar() if shown and in_a_kernel() else tqdm
    return kind(
        iterable,
        total=total,
        desc=desc,
        unit=unit,
        leave=False,
        dynamic_ncols=True,
        disable=not shown,
    )


@functools.cache
def _cell_bar():
    import ipywidgets
    from IPython import get_ipython
    from IPython.display import display
    from tqdm.notebook import tqdm

    class CellBar(tqdm):
        """A bar in a notebook. All bars of one run of a cell share one output.

        An output for each bar would stay behind, empty, when the bar is closed, and
        JupyterLab hides what a cell shows after its fiftieth output.
        """

        run, box = None, None  # the number of the cell's run, and its box of bars

        def __init__(self, *arguments, **options):
            super().__init__(*arguments, display=False, **options)
            run = get_ipython().execution_count
            if CellBar.run != run:
                CellBar.run, CellBar.box = run, ipywidgets.VBox()
                display(CellBar.box)
            self.box = CellBar.box
            self.box.children = (*self.box.children, self.container)

        def close(self) -> None:
            """End the bar. It stays if it was stopped early, to show where."""
            super().close()
            if self.total is None or self.n >= self.total:
                bars = self.box.children
                self.box.children = [bar for bar in bars if bar is not self.container]

    return CellBar
