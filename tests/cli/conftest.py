"""Fixtures for the tests of the command line."""

import pytest

from pixelprior import cli


@pytest.fixture
def fails(capsys):
    """A function that runs a command that must fail, and returns its line of error."""

    def run(*arguments, status=2):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            cli.main([str(each) for each in arguments])
        error = capsys.readouterr().err
        assert stop.value.code == status, error
        assert error.count("\n") == 1 and error.startswith("pixelprior: error: "), error
        return error

    return run
