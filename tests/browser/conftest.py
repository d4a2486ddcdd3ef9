"""A browser, and what it looks at. The browser is the system's own Chromium."""

import functools
import http.server
import os
import threading

import pytest
from look_at_notebooks import NAMES, find_chromium


@pytest.fixture(scope="session")
def chromium():
    """A headless Chromium, started once."""
    path = find_chromium()
    if path is None:
        pytest.skip(f"there is no {NAMES[0]} here; apt install chromium brings it")
    sync_playwright = pytest.importorskip("playwright.sync_api").sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def site():
    """The address of the built site, served from this machine."""
    folder = os.environ.get("PIXELPRIOR_SITE")
    if folder is None:
        pytest.skip("PIXELPRIOR_SITE names no site; docs/site/build.py builds one")
    handler = http.server.SimpleHTTPRequestHandler
    handler.log_message = lambda *_arguments: None
    handler = functools.partial(handler, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture
def page(chromium):
    """A new page that remembers its `requests` and its `errors`."""
    page = chromium.new_page(viewport={"width": 1400, "height": 1000})
    page.requests, page.errors = [], (errors := [])
    page.on("request", lambda request: page.requests.append(request.url))
    page.on("pageerror", lambda error: errors.append(f"of the page: {error}"))
    page.on("console", lambda said: said.type == "error" and errors.append(said.text))
    yield page
    page.close()
