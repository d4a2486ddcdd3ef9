"""What comes from elsewhere: no network in use, actions of a fixed commit."""

import re
import socket
from pathlib import Path

import pytest

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


def test_actions_are_pinned_by_their_commit():
    """A tag can be moved to other code, a commit cannot."""
    found = []
    for path in sorted(WORKFLOWS.glob("*.yml")):
        found += re.findall(r"uses: *(.+)", path.read_text(encoding="utf-8"))
    assert found
    for used in found:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v[\d.]+", used), used
