"""What comes from elsewhere: no network in use, actions of a fixed commit."""

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pixelprior import cli

WORKFLOWS = Path(__file__).parents[1] / ".github" / "workflows"


@pytest.mark.asks_for_the_network
def test_the_tests_have_no_network():
    """Every command is run in this process by some test, and would fail there."""
    with pytest.raises(OSError, match=r"no network, but 192\.0\.2\.1"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    with pytest.raises(OSError, match=r"no network, but pypi\.org"):
        socket.getaddrinfo("pypi.org", 443)
    with socket.socket() as here:
        here.bind(("127.0.0.1", 0))
        here.listen()
        socket.create_connection(here.getsockname(), timeout=1).close()


def test_each_command_has_a_test():
    """`conftest.py` refuses the network to the process in which they run."""
    here = Path(__file__)
    texts = [path.read_text(encoding="utf-8") for path in here.parent.rglob("*.py")]
    for command in cli.COMMANDS:
        assert any(f'["{command}"' in text for text in texts), command


IMPORTED = """
import importlib, pkgutil, sys

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        raise SystemExit(f"{event} {arguments}")

sys.addaudithook(refuse)
import pixelprior
names = []
for module in pkgutil.walk_packages(pixelprior.__path__, "pixelprior."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
        names.append(module.name)
print(len(names), file=sys.stderr)
"""


def test_no_module_asks_for_the_network_when_it_is_imported():
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stderr.splitlines()[-1]) > 50


def test_actions_are_pinned_by_their_commit():
    """A tag can be moved to other code, a commit cannot."""
    found = []
    for path in sorted(WORKFLOWS.glob("*.yml")):
        found += re.findall(r"uses: *(.+)", path.read_text(encoding="utf-8"))
    assert found
    for used in found:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v[\d.]+", used), used
