"""Progress bars show the time left where a person watches, and are absent elsewhere."""

import io
import sys
from types import SimpleNamespace

import pytest

from pixelprior.progress import is_interactive, progress_bar


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_is_drawn_on_a_terminal_alone_and_only_if_enabled(monkeypatch, terminal):
    for enabled in (True, False):
        monkeypatch.setattr(sys, "stderr", screen := io.StringIO())
        screen.isatty = lambda: terminal
        with progress_bar(total=4, desc="rows", enabled=enabled) as bar:
            bar.update(2)
            bar.refresh()
        drawn = screen.getvalue()
        assert ("rows" in drawn and "2/4" in drawn) == (terminal and enabled)
        assert ("<" in drawn) == bool(drawn) == (terminal and enabled), "no time left"


def test_a_notebook_gets_bars(monkeypatch):
    kernel = type("Kernel", (), {"__module__": "ipykernel.zmqshell"})
    ipython = SimpleNamespace(get_ipython=kernel)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    for widgets in ("on", "off"):
        monkeypatch.setenv("PIXELPRIOR_WIDGETS", widgets)
        assert is_interactive() == (widgets == "on")
