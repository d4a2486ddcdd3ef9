"""Progress bars show the time left where a person watches, and are absent elsewhere."""

import io
import sys

import pytest

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
