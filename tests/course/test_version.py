"""A notebook whose package is too old says so, and Jupyter shows nothing else."""

import pytest
from IPython.core.interactiveshell import InteractiveShell

import pixelprior
from pixelprior.course import PackageTooOld, needs


@pytest.mark.parametrize("installed", ["0.1.0", "0.1.5", "0.2", "1.0", "0.10.1"])
def test_the_version_of_the_notebook_or_a_later_one_passes(installed, monkeypatch):
    monkeypatch.setattr(pixelprior, "__version__", installed)
    needs("0.1")


@pytest.mark.parametrize("installed", ["0.1.9", "0.2.0rc1", "0.1.10"])
def test_an_earlier_version_is_named_with_the_remedy(installed, monkeypatch):
    monkeypatch.setattr(pixelprior, "__version__", installed)
    with pytest.raises(PackageTooOld) as raised:
        needs("0.2")
    words = str(raised.value)
    assert "needs pixelprior 0.2 or later" in words and f"{installed} is" in words
    assert "pip install --upgrade pixelprior" in words and "\n" not in words


def test_jupyter_shows_the_words_alone(capsys):
    shell = InteractiveShell()
    ran = shell.run_cell("from pixelprior.course import needs\nneeds('99')")
    assert isinstance(ran.error_in_exec, PackageTooOld)
    (line,) = capsys.readouterr().out.strip().splitlines()
    assert line == str(ran.error_in_exec) and pixelprior.__version__ in line
