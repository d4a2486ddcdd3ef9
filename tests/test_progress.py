"""Progress bars show the time left where a person watches, and are absent elsewhere."""

import io
import sys

import nbformat
import pytest
from nbclient import NotebookClient

from pixelprior.progress import progress_bar


class Screen(io.StringIO):
    """A stderr that says whether it is a terminal."""

    def __init__(self, terminal):
        super().__init__()
        self.terminal = terminal

    def isatty(self):
        return self.terminal


@pytest.mark.parametrize(
    ("terminal", "enabled"), [(True, True), (True, False), (False, True)]
)
def test_a_bar_is_drawn_on_a_terminal_alone(monkeypatch, terminal, enabled):
    screen = Screen(terminal)
    monkeypatch.setattr(sys, "stderr", screen)
    with progress_bar(total=4, desc="rows", enabled=enabled) as bar:
        for _ in range(2):
            bar.update()
        bar.refresh()
    drawn = screen.getvalue()
    assert bool(drawn) == (terminal and enabled)
    if drawn:
        assert "rows" in drawn and "2/4" in drawn and "<" in drawn, "no time left"


def test_a_notebook_gets_bars(monkeypatch):
    from pixelprior import progress

    class Kernel:
        """Stands in for the shell of a Jupyter kernel."""

    Kernel.__module__ = "ipykernel.zmqshell"
    ipython = type("IPython", (), {"get_ipython": staticmethod(Kernel)})
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setattr(sys, "stderr", Screen(False))
    monkeypatch.delenv("PIXELPRIOR_WIDGETS", raising=False)
    assert progress.is_interactive()
    monkeypatch.setenv("PIXELPRIOR_WIDGETS", "off")
    assert not progress.is_interactive()


LOOPS = """
from pixelprior.progress import progress_bar
for _ in progress_bar(range(30), desc="outer"):
    for _ in progress_bar(range(2), desc="inner"):
        pass
print("done")
"""
LEFT = """
bar = progress_bar(range(3))
for _ in bar:
    open_bars = len(bar.box.children)
stopped = progress_bar(range(3))
for _ in stopped:
    break
stopped.close()
print(open_bars, stopped.box.children == (stopped.container,))
"""


def test_all_bars_of_a_cell_are_one_output(monkeypatch):
    """JupyterLab hides what a cell shows after its fiftieth output."""
    monkeypatch.delenv("PIXELPRIOR_WIDGETS", raising=False)
    cells = [nbformat.v4.new_code_cell(source) for source in (LOOPS, LEFT)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    for cell, words in zip(notebook.cells, ("done", "1 True"), strict=True):
        bars, printed = cell.outputs
        assert "application/vnd.jupyter.widget-view+json" in bars.data
        assert printed.text.strip() == words
