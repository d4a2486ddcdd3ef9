"""The notebooks in JupyterLab in a browser: opened as after a clone, run, and moved."""

import json
import os
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest
from look_at_notebooks import NOTEBOOK, TOKEN, jupyterlab

pytestmark = pytest.mark.slow

NOTEBOOKS = sorted(Path(__file__).parents[2].glob("notebooks/[0-9]*.ipynb"))
CHOSEN = os.environ.get("PIXELPRIOR_BROWSER", "00 02")  # "all" takes 13 minutes
SECONDS_OF_A_RUN, SECONDS_OF_A_MOVE = 900, 10
# With nothing else running, on two cores: masks and receptive fields are drawn within a
# second, and what needs a draw or the decoder within two.
QUIET = os.environ.get("PIXELPRIOR_BROWSER_QUIET") == "on"
SECONDS_IF_QUIET = {"02": 1.0, "03": 1.0}
WITH_CODE = """Array.from(document.querySelectorAll('.jp-CodeCell'))
    .filter(cell => cell.querySelector('.cm-content').innerText.trim() !== '')
    .map(cell => cell.querySelector('.jp-InputPrompt').innerText)
    .map(prompt => prompt.replace(/[^0-9*]/g, ''))"""  # of each cell that has code
FIGURES = """Array.from(document.querySelectorAll('.jp-OutputArea-output img')).map(
    each => [each.alt, each.naturalWidth, each.getBoundingClientRect().width])"""
ERRORS = "[data-mime-type='application/vnd.jupyter.error']"
CONTROLS = ".noUi-handle, select"
# "Python 3 (ipykernel) | Idle"; "No Kernel | Initializing" before there is one.
KERNEL_IS_READY = """/^(?!No Kernel).* [|] Idle$/m.test(
    document.querySelector('#jp-main-statusbar')?.innerText)"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of JupyterLab over a copy of the course."""
    with jupyterlab(tmp_path_factory.mktemp("lab") / "course") as address:
        yield address


@pytest.fixture
def new_page(chromium, lab):
    """An empty page that collects its `errors`; all kernels are shut down after it."""
    page = chromium.new_page(viewport={"width": 1400, "height": 1000})
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    yield page
    page.close()
    sessions = f"{lab}/api/sessions"
    with urllib.request.urlopen(f"{sessions}?token={TOKEN}") as answer:
        running = json.load(answer)
    for each in running:  # a kernel outlives its page
        address = f"{sessions}/{each['id']}?token={TOKEN}"
        urllib.request.urlopen(urllib.request.Request(address, method="DELETE"))


def open_notebook(page, lab: str, name: str) -> None:
    """Open a notebook, and wait until it has a kernel.

    Cells that are run before there is a kernel lose their execution counts and are
    never run. The notebook's own indicator says "idle" even then; the status bar does
    not.
    """
    page.goto(f"{lab}/doc/tree/notebooks/{name}?token={TOKEN}")
    page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=120_000)
    page.wait_for_function(KERNEL_IS_READY, timeout=120_000)


def run_all(page) -> None:
    """Run all cells by the menu, and wait until the kernel has run the last one."""
    page.click(".lm-MenuBar-itemLabel:text-is('Run')")
    page.click(".lm-Menu-itemLabel:text-is('Run All Cells')")
    assert holds(page, lambda: "*" in page.evaluate(WITH_CODE)), "no cell runs"
    page.wait_for_function(
        f"document.querySelector(`{ERRORS}`) !== null ||"
        f"!{WITH_CODE}.includes('*') && !{WITH_CODE}.includes('')",
        timeout=1000 * SECONDS_OF_A_RUN,
        polling=500,
    )


def move(page, control) -> float:
    """Move a slider or a menu by one value; the seconds until its figure is shown.

    The alt text of a figure names the values that it was drawn for. A slider may be at
    one of its ends, or miss a key when it has just been drawn.
    """
    box = control.locator("xpath=ancestor::*[contains(@class, 'widget-vbox')][1]")
    figure = box.locator(".widget-html img")
    before = figure.get_attribute("alt") if figure.count() else None
    control.scroll_into_view_if_needed()
    started = time.perf_counter()
    if control.evaluate("each => each.tagName") == "SELECT":
        index = control.evaluate("each => each.selectedIndex")
        control.select_option(index=1 if index == 0 else 0)
    else:
        value = control.get_attribute("aria-valuenow")
        for key in ("ArrowRight", "ArrowLeft") * 3:
            started = time.perf_counter()
            control.press(key)
            if holds(
                page, lambda: control.get_attribute("aria-valuenow") != value, seconds=1
            ):
                break
        else:
            raise AssertionError(f"the slider stays at {value}")
    assert holds(
        page, lambda: figure.count() and figure.get_attribute("alt") != before
    ), f"no other figure in {SECONDS_OF_A_MOVE} s"
    return time.perf_counter() - started


def holds(page, condition, seconds: float = SECONDS_OF_A_MOVE) -> bool:
    """Whether a condition comes to hold within some seconds."""
    deadline = time.perf_counter() + seconds
    while not condition():
        if time.perf_counter() > deadline:
            return False
        page.wait_for_timeout(20)
    return True


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_in_a_browser(path, request, record_property):
    """It is opened as after a clone: nothing in it is trusted or run."""
    if CHOSEN != "all" and path.name[:2] not in CHOSEN.split():
        pytest.skip(f"PIXELPRIOR_BROWSER is {CHOSEN!r}; all runs each notebook")
    page, lab = map(request.getfixturevalue, ("new_page", "lab"))
    open_notebook(page, lab, path.name)
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    alts = [
        each.metadata["image/png"]["alt"]
        for cell in code
        for each in cell.outputs
        if "image/png" in each.get("data", {})
    ]
    assert len(alts) > 2
    shown = figures(page, len(alts))
    assert all(width > 100 for _, _, width in shown)

    run_all(page)
    assert page.locator(ERRORS).count() == 0
    prompts = page.evaluate(WITH_CODE)
    assert prompts == [str(1 + number) for number in range(len(prompts))]
    shown = figures(page, len(alts))
    assert [alt for alt, _, _ in shown] == alts
    assert all(width > 100 for _, _, width in shown)

    explored = sum(
        cell.source.startswith("explore(") or "\nexplore(" in cell.source
        for cell in code
    )
    boxes = page.locator(f".widget-vbox:has({CONTROLS})")
    assert explored > 0 and holds(page, lambda: boxes.count() == explored)
    controls = boxes.locator(CONTROLS).all()
    seconds = [move(page, control) for control in controls]
    record_property("seconds of a move", [round(each, 2) for each in seconds])
    print("seconds of a move:", *(f"{each:.2f}" for each in seconds))
    if QUIET:
        assert max(seconds) <= SECONDS_IF_QUIET.get(path.name[:2], 2.0)

    follow(page, "a:has-text('To solution 1')", "h3:has-text('Solution 1')")
    follow(page, "a:has-text('Back to exercise 1')", "h3:has-text('Exercise 1')")
    errors = [each for each in page.errors if "ResizeObserver loop" not in each]
    assert errors == []


def figures(page, number: int) -> list:
    """Alt text, pixels and width on the page of each figure, once all are loaded."""
    page.wait_for_function(
        f"""{FIGURES}.length === {number} &&
            {FIGURES}.every(([_, pixels]) => pixels > 100)""",
        timeout=30_000,
    )
    return page.evaluate(FIGURES)


def follow(page, link: str, heading: str) -> None:
    """Click a link, whose heading is out of view before and in view after it."""
    target = page.locator(heading).first
    page.locator(link).first.scroll_into_view_if_needed()
    assert not in_view(page, target)
    page.locator(link).first.click()
    assert holds(page, lambda: in_view(page, target)), f"{link} does not show {heading}"


def in_view(page, heading) -> bool:
    """Whether a heading is inside the part of the page that shows the notebook."""
    place = heading.bounding_box()
    panel = page.locator(NOTEBOOK).first.bounding_box()
    return place is not None and (
        panel["y"] <= place["y"] + 1
        and place["y"] + place["height"] <= panel["y"] + panel["height"]
    )
