"""A reader's JupyterLab: notebook 00 opens, runs, and its widget comes alive."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)


@pytest.fixture
def jupyterlab(tmp_path):
    """The address of a JupyterLab on a copy of the notebooks."""
    if CHROMIUM is None:
        pytest.skip("there is no chromium; on Debian, apt-get install chromium")
    shutil.copytree(NOTEBOOKS, tmp_path / "notebooks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", f"--port={port}"]
    command += ["--ServerApp.token=", "--ServerApp.password=", "--allow-root"]
    command += ["--ServerApp.port_retries=0", f"--notebook-dir={tmp_path}/notebooks"]
    environment = {**os.environ, "JUPYTER_CONFIG_DIR": str(tmp_path / "config")}
    environment.pop("PIXELPRIOR_WIDGETS", None)
    with open(tmp_path / "log", "wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}/lab"
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(address, timeout=5).close()
                break
            except OSError:
                time.sleep(0.5)
        else:
            pytest.fail((tmp_path / "log").read_text())
        yield address
    finally:
        server.terminate()
        server.wait(timeout=30)


def test_notebook_00_runs_and_a_slider_draws_another_figure(jupyterlab):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"]
        )
        page = browser.new_page()
        page.goto(f"{jupyterlab}/tree/00_start_here.ipynb?reset", timeout=60_000)
        kernel = page.locator(".jp-Notebook-ExecutionIndicator").first
        expect(kernel).to_have_attribute("data-status", "idle", timeout=60_000)
        assert page.locator("dialog").count() == 0, "a dialog stands in the way"
        page.locator(".lm-MenuBar-itemLabel", has_text="Run").first.click()
        page.locator(".lm-Menu-itemLabel", has_text="Run All Cells").first.click()
        handle = page.locator(".noUi-handle").first
        handle.wait_for(timeout=120_000)
        handle.focus()
        page.keyboard.press("ArrowRight")
        moved = page.locator(".widget-html img")
        expect(moved).to_have_attribute(
            "alt", "the figure for row 5, column 4, code 5", timeout=60_000
        )
        size = moved.bounding_box()
        assert 200 < size["width"] < 500, "not in its own size"
        assert page.locator('[data-mime-type*="error"]').count() == 0
        browser.close()
