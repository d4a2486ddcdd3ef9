"""The notebooks in JupyterLab in a browser: opened as after a clone, run, and moved."""

import json
import os
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest
from look_at_notebooks import TOKEN, jupyterlab

NOTEBOOKS = sorted(Path(__file__).parents[2].glob("notebooks/[0-9]*.ipynb"))
CHOSEN = os.environ.get("PIXELPRIOR_BROWSER", "00 02")  # "all" takes ten minutes
SECONDS_OF_A_RUN, SECONDS_OF_A_MOVE = 900, 10
PROMPTS = """Array.from(document.querySelectorAll('.jp-CodeCell')).map(cell =>
    [cell.querySelector('.jp-InputPrompt').innerText.replace(/[^0-9*]/g, ''),
     cell.querySelector('.cm-content').innerText.trim() !== ''])"""
FIGURES = """Array.from(document.querySelectorAll('.jp-OutputArea-output img')).map(
    each => [each.alt, each.naturalWidth, each.getBoundingClientRect().width])"""
ERRORS = "[data-mime-type='application/vnd.jupyter.error']"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of JupyterLab over a copy of the course."""
    with jupyterlab(tmp_path_factory.mktemp("lab") / "course") as address:
        yield address


@pytest.fixture
def opened(request, lab, chromium):
    """A notebook, opened as it is after a clone: nothing in it is trusted or run."""
    if CHOSEN != "all" and request.param.name[:2] not in CHOSEN.split():
        pytest.skip(f"PIXELPRIOR_BROWSER is {CHOSEN!r}; all runs each notebook")
    page = chromium.new_page(viewport={"width": 1400, "height": 1000})
    page.goto(f"{lab}/doc/tree/notebooks/{request.param.name}?token={TOKEN}")
    page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=120_000)
    page.wait_for_selector(
        ".jp-Notebook-ExecutionIndicator[data-status='idle']", timeout=120_000
    )
    page.wait_for_load_state("networkidle")
    yield page
    page.close()
    sessions = f"{lab}/api/sessions"
    with urllib.request.urlopen(f"{sessions}?token={TOKEN}") as answer:
        running = json.load(answer)
    for each in running:  # a kernel outlives its page
        address = f"{sessions}/{each['id']}?token={TOKEN}"
        urllib.request.urlopen(urllib.request.Request(address, method="DELETE"))


def run_all(page) -> None:
    """Run all cells by the menu, and wait until the kernel has run the last one."""
    page.click(".lm-MenuBar-itemLabel:text-is('Run')")
    page.click(".lm-Menu-itemLabel:text-is('Run All Cells')")
    with_code = f"{PROMPTS}.filter(([_, code]) => code).map(([prompt]) => prompt)"
    page.wait_for_function(f"{with_code}.includes('*')", timeout=60_000)
    page.wait_for_function(
        f"document.querySelector(`{ERRORS}`) !== null ||"
        f"!{with_code}.includes('*') && !{with_code}.includes('')",
        timeout=1000 * SECONDS_OF_A_RUN,
        polling=500,
    )


def move(page, control) -> float:
    """Move a slider or a menu by one value; the seconds until another figure is shown.

    A slider that has just been drawn may miss a key, and gets it again.
    """
    box = control.locator("xpath=ancestor::*[contains(@class, 'widget-vbox')][1]")
    figure = box.locator(".widget-html img")
    before = figure.get_attribute("src") if figure.count() else None
    control.scroll_into_view_if_needed()
    started = time.perf_counter()
    if control.evaluate("each => each.tagName") == "SELECT":
        chosen = control.evaluate("each => each.selectedIndex")
        control.select_option(index=1 if chosen == 0 else 0)
    else:
        value = control.get_attribute("aria-valuenow")
        for key in ("ArrowRight", "ArrowLeft") * 5:
            control.press(key)
            page.wait_for_timeout(100)
            if control.get_attribute("aria-valuenow") != value:
                break
        else:
            raise AssertionError(f"the slider stays at {value}")
    while time.perf_counter() - started < SECONDS_OF_A_MOVE:
        if figure.count() and figure.get_attribute("src") != before:
            return time.perf_counter() - started
        page.wait_for_timeout(20)
    raise AssertionError(f"no other figure in {SECONDS_OF_A_MOVE} s")


@pytest.mark.parametrize("opened", NOTEBOOKS, ids=lambda path: path.stem, indirect=True)
def test_a_notebook_in_a_browser(opened, request, record_property):
    page = opened
    notebook = nbformat.read(request.node.callspec.params["opened"], as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    kept = sum("image/png" in each.get("data", {}) for c in code for each in c.outputs)
    found = page.evaluate(FIGURES)
    assert len(found) == kept
    assert all(width > 100 and shown > 100 for _, width, shown in found)

    run_all(page)
    assert page.locator(ERRORS).count() == 0
    prompts = [prompt for prompt, code in page.evaluate(PROMPTS) if code]
    assert prompts == [str(1 + number) for number in range(len(prompts))]
    page.wait_for_function(
        f"{FIGURES}.every(([_, width]) => width > 100)", timeout=10_000
    )
    after = page.evaluate(FIGURES)
    assert len(after) == kept
    assert all(len(alt) > 20 and shown > 100 for alt, _, shown in after)

    seconds = [
        move(page, control)
        for control in page.locator(
            ".widget-vbox .noUi-handle, .widget-vbox select"
        ).all()
    ]
    explored = sum(cell.source.count("\nexplore(") for cell in code)
    explored += sum(cell.source.startswith("explore(") for cell in code)
    assert len(seconds) >= explored > 0
    record_property("seconds of a move", [round(each, 2) for each in seconds])

    there = page.locator("a[href='#Solution-1']").first
    there.click()
    solution = page.locator("h3:has-text('Solution 1')").first
    page.wait_for_timeout(300)
    assert in_view(page, solution)
    page.locator("a[href^='#Exercise-1']").last.click()
    page.wait_for_timeout(300)
    assert in_view(page, page.locator("h3:has-text('Exercise 1')").first)


def in_view(page, heading) -> bool:
    place = heading.bounding_box()
    return place is not None and 0 <= place["y"] < page.viewport_size["height"]
