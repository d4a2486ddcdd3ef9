"""Take pictures of the notebooks as JupyterLab shows them.

`python tools/look_at_notebooks.py FOLDER` starts JupyterLab over a copy of the course,
opens each notebook in headless Chromium as it is after a clone, and writes pictures of
all of it to FOLDER: 1,400 and 800 pixels wide, in the light and in the dark theme, from
top to bottom in parts of 4,000 pixels. `--notebooks 04 07`, `--widths 800` and
`--themes Dark` choose some. Look at them for text that is cut and for figures that
cannot be read. Chromium is the system's own (`apt install chromium`).
"""

import argparse
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("chromium", "chromium-browser", "google-chrome")
TOKEN, HEIGHT, OVERLAP = "pixelprior", 4000, 150
NOTEBOOK = ".jp-WindowedPanel-outer"  # the part of the page that scrolls


def find_chromium() -> str | None:
    """The path of the system's Chromium; None if there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextlib.contextmanager
def jupyterlab(folder: Path, theme: str = "Light") -> Iterator[str]:
    """JupyterLab over a copy of the course in an empty folder, until the block ends.

    JupyterLab draws only the cells near its window, unless its windowing is off. This
    and the theme are set in a configuration of the folder's own, so that nothing of the
    user's is read or changed, and no news are asked for.

    Args:
        folder: the folder. theme: "Light" or "Dark".

    Yields:
        The address, to which `?token=pixelprior` belongs.

    Raises:
        RuntimeError: the server did not start; its log is in the message.
    """
    for name in ("notebooks", "docs"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "README.md", folder)
    settings = folder / ".config" / "labconfig" / "default_setting_overrides.json"
    settings.parent.mkdir(parents=True)
    extensions = {
        "notebook-extension:tracker": {"windowingMode": "none"},
        "apputils-extension:notification": {"fetchNews": "false"},
        "apputils-extension:themes": {"theme": f"JupyterLab {theme}"},
    }
    named = {f"@jupyterlab/{name}": each for name, each in extensions.items()}
    settings.write_text(json.dumps(named))
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    own = {"JUPYTER_CONFIG_DIR": str(folder / ".config"), "OMP_NUM_THREADS": "1"}
    own["PIXELPRIOR_WIDGETS"] = (
        "on"  # as for readers; the tests of the course have none
    )
    for name in ("DATA", "RUNTIME"):
        own[f"JUPYTER_{name}_DIR"] = str(folder / f".{name.lower()}")
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += [f"--port={port}", f"--IdentityProvider.token={TOKEN}"]
    with open(folder / "lab.log", "w") as log:
        server = subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=log, env=os.environ | own
        )
    try:
        _wait(f"http://127.0.0.1:{port}", server, folder / "lab.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()  # SIGTERM asks for confirmation
        server.wait(timeout=30)


def _wait(address: str, server: subprocess.Popen, log: Path, seconds: int = 60) -> None:
    """Wait until the server answers."""
    for _ in range(4 * seconds):
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"{address}/api?token={TOKEN}", timeout=5)
            return
        if server.poll() is not None:
            break
        time.sleep(0.25)
    raise RuntimeError(f"JupyterLab did not start: {log.read_text()}")


def take_pictures(page, address: str, notebook: Path, start: Path) -> int:
    """Write `start`_0.png and so on, from the top of a notebook to its end.

    Returns:
        The number of pictures.
    """
    page.goto(f"{address}/doc/tree/notebooks/{notebook.name}?token={TOKEN}")
    page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=60_000)
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(1000)
    whole = page.evaluate(f"document.querySelector('{NOTEBOOK}').scrollHeight")
    tops = range(0, whole, HEIGHT - OVERLAP)
    for number, top in enumerate(tops):
        page.evaluate(f"document.querySelector('{NOTEBOOK}').scrollTop = {top}")
        page.wait_for_timeout(300)
        page.screenshot(path=f"{start}_{number}.png")
    return len(tops)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--notebooks", nargs="+", default=[""], help="such as 04 07")
    parser.add_argument("--widths", nargs="+", type=int, default=[1400, 800])
    parser.add_argument("--themes", nargs="+", default=["Light", "Dark"])
    arguments = parser.parse_args()
    chromium = find_chromium()
    if chromium is None:
        sys.exit(f"there is no {NAMES[0]} here; apt install chromium brings it")
    from playwright.sync_api import sync_playwright

    wanted = tuple(arguments.notebooks)
    notebooks = [
        path
        for path in sorted(ROOT.glob("notebooks/[0-9]*.ipynb"))
        if path.name.startswith(wanted)
    ]
    arguments.folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        for theme in arguments.themes:
            with (
                tempfile.TemporaryDirectory() as folder,
                jupyterlab(Path(folder), theme) as address,
            ):
                for width in arguments.widths:
                    for path in notebooks:
                        page = browser.new_page(
                            viewport={"width": width, "height": HEIGHT}
                        )
                        name = f"{path.stem[:2]}_{width}_{theme.lower()}"
                        start = arguments.folder / name
                        count = take_pictures(page, address, path, start)
                        print(f"{start}: {count} pictures", flush=True)
                        page.close()
        browser.close()


if __name__ == "__main__":
    main()
