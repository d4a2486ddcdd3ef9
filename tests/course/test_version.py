"""A notebook whose package is too old says so, and Jupyter shows nothing else."""

import pytest
from IPython.core.interactiveshell import InteractiveShell

import pixelprior
from pixelprior.course import PackageTooOld, needs


def test_the_version_of_the_notebook_or_a_later_one_passes(monkeypatch):
    for installed in ("0.2.0", "0.2.5", "1.0", "0.10.1"):
        monkeypatch.setattr(pixelprior, "__version__", installed)
        needs("0.2")


@pytest.mark.parametrize("installed", ["0.1.9", "0.1.10"])
def test_an_earlier_version_is_named_with_the_remedy(installed, monkeypatch):
    monkeypatch.setattr(pixelprior, "__version__", installed)
    said = rf"needs pixelprior 0\.2 or later, and {installed} is .* pip install --up"
    with pytest.raises(PackageTooOld, match=said):
        needs("0.2")


def test_jupyter_shows_the_words_alone(capsys):
    ran = InteractiveShell().run_cell(
        "from pixelprior.course import needs\nneeds('99')"
    )
    (line,) = capsys.readouterr().out.strip().splitlines()
    assert line == str(ran.error_in_exec) and pixelprior.__version__ in line
