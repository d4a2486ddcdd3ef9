"""Progress bars in a Jupyter notebook; `progress.py` says where there are bars."""

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
            left = [each for each in self.box.children if each is not self.container]
            self.box.children = left
