"""Progress bars show the time left where a person watches, and are absent elsewhere."""

import io
import sys
from types import SimpleNamespace

import pytest

from pixelprior.progress import is_interactive, progress_bar
from pixelprior.sampling import sample_codes, uniforms


class Screen(io.StringIO):
    """A stderr that says whether it is a terminal."""

    terminal = False

    def isatty(self):
        return self.terminal


@pytest.mark.parametrize(
    "terminal, enabled", [(True, True), (True, False), (False, True)]
)
def test_a_bar_is_drawn_on_a_terminal_alone(monkeypatch, terminal, enabled):
    monkeypatch.setattr(sys, "stderr", screen := Screen())
    screen.terminal = terminal
    with progress_bar(total=4, desc="rows", enabled=enabled) as bar:
        bar.update(2)
        bar.refresh()
    drawn = screen.getvalue()
    assert bool(drawn) == (terminal and enabled)
    if drawn:
        assert "rows" in drawn and "2/4" in drawn and "<" in drawn, "no time left"


def test_a_notebook_gets_bars(monkeypatch):
    kernel = type("Kernel", (), {"__module__": "ipykernel.zmqshell"})
    ipython = SimpleNamespace(get_ipython=kernel)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setattr(sys, "stderr", Screen())
    for widgets in ("on", "off"):
        monkeypatch.setenv("PIXELPRIOR_WIDGETS", widgets)
        assert is_interactive() == (widgets == "on")


def test_codes_are_drawn_without_a_bar_unless_one_is_asked_for(
    monkeypatch, small_prior
):
    monkeypatch.setattr(sys, "stderr", screen := Screen())
    screen.terminal, drawn, level = True, [], small_prior.prior_top
    condition = level.conditioning(None, [0, 1], (2, 2, 3))
    for asked in ({}, {"progress": True}):
        sample_codes(level, (2, 3), uniforms(0, 0, 2, 6), condition, **asked)
        drawn.append(bool(screen.getvalue()))
    assert drawn == [False, True]
