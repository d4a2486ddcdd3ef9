"""The notebooks in JupyterLab in a browser: opened as after a clone, run, and moved."""

import os
import time
from pathlib import Path

import nbformat
import pytest
from look_at_notebooks import TOKEN, jupyterlab

pytestmark = pytest.mark.slow

CHOSEN = os.environ.get("PIXELPRIOR_BROWSER", "00 02")  # "all" takes 13 minutes
EVERY = sorted(Path(__file__).parents[2].glob("notebooks/[0-9]*.ipynb"))
NOTEBOOKS = [path for path in EVERY if CHOSEN == "all" or path.name[:2] in CHOSEN]
# On two cores with nothing else running; with a draw or the decoder, two seconds.
QUIET = os.environ.get("PIXELPRIOR_BROWSER_QUIET") == "on"
SECONDS_IF_QUIET = {"02": 1.0, "03": 1.0}
WITH_CODE = """Array.from(document.querySelectorAll('.jp-CodeCell'))
    .filter(cell => cell.querySelector('.cm-content').innerText.trim() !== '')
    .map(cell => cell.querySelector('.jp-InputPrompt').innerText)
    .map(prompt => prompt.replace(/[^0-9*]/g, ''))"""  # of each cell that has code
FIGURES = "Array.from(document.querySelectorAll('.jp-OutputArea-output img'))"
ERRORS = "[data-mime-type='application/vnd.jupyter.error']"
CONTROLS = ".noUi-handle, select"
# "Python 3 (ipykernel) | Idle"; "No Kernel | Initializing" before there is one. Cells
# that are run before there is a kernel are never run.
KERNEL_IS_READY = """/^(?!No Kernel).* [|] Idle$/m.test(
    document.querySelector('#jp-main-statusbar')?.innerText)"""


def run_all(page) -> None:
    """Run all cells by the menu, and wait until the kernel has run the last one."""
    page.click(".lm-MenuBar-itemLabel:text-is('Run')")
    page.click(".lm-Menu-itemLabel:text-is('Run All Cells')")
    assert holds(page, lambda: "*" in page.evaluate(WITH_CODE)), "no cell runs"
    page.wait_for_function(
        f"document.querySelector(`{ERRORS}`) !== null ||"
        f"!{WITH_CODE}.includes('*') && !{WITH_CODE}.includes('')",
        timeout=900_000,
        polling=500,
    )
    assert page.locator(ERRORS).count() == 0
    prompts = page.evaluate(WITH_CODE)
    assert prompts == [str(1 + number) for number in range(len(prompts))]


def move(page, control) -> float:
    """Move a slider or a menu by one value; the seconds until its figure is shown,
    whose alt text names the values that it was drawn for."""
    box = control.locator("xpath=ancestor::*[contains(@class, 'widget-vbox')][1]")
    figure = box.locator(".widget-html img")
    before = figure.get_attribute("alt") if figure.count() else None
    control.scroll_into_view_if_needed()
    for _ in range(3):  # a slider may miss a key when it has just been drawn
        started = time.perf_counter()
        if control.evaluate("each => each.tagName") == "SELECT":
            index = control.evaluate("each => each.selectedIndex")
            control.select_option(index=1 if index == 0 else 0)
        else:
            ends = map(control.get_attribute, ("aria-valuenow", "aria-valuemax"))
            control.press("ArrowLeft" if len({*ends}) == 1 else "ArrowRight")
        if holds(
            page, lambda: figure.count() and figure.get_attribute("alt") != before
        ):
            return time.perf_counter() - started
    raise AssertionError("no other figure is drawn")


def holds(page, condition) -> bool:
    """Whether a condition comes to hold within ten seconds."""
    deadline = time.perf_counter() + 10
    while not condition():
        if time.perf_counter() > deadline:
            return False
        page.wait_for_timeout(20)
    return True


def figures(page, count: int) -> list[str]:
    """The alt texts of all figures, once they are loaded and have a size."""
    page.wait_for_function(
        f"{FIGURES}.length === {count} &&"
        f"{FIGURES}.every(each => each.naturalWidth > 100)",
        timeout=30_000,
    )
    assert page.evaluate(f"{FIGURES}.every(i => i.getBoundingClientRect().width > 100)")
    return page.evaluate(f"{FIGURES}.map(each => each.alt)")


def follow(page, link: str, heading: str) -> None:
    """Click a link, whose heading is out of view before and in view after it."""
    from playwright.sync_api import expect

    page.locator(link).first.scroll_into_view_if_needed()
    expect(page.locator(heading).first).not_to_be_in_viewport()
    page.locator(link).first.click()
    expect(page.locator(heading).first).to_be_in_viewport()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_in_a_browser(path, page, tmp_path):
    """It is opened as after a clone: nothing in it is trusted or run."""
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    outputs = [each for cell in code for each in cell.outputs]
    kept = [each for each in outputs if "image/png" in each.get("data", {})]
    alts = [each.metadata["image/png"]["alt"] for each in kept]
    explored = sum(f"\n{cell.source}".count("\nexplore(") for cell in code)
    with jupyterlab(tmp_path / "course") as lab:
        page.goto(f"{lab}/doc/tree/notebooks/{path.name}?token={TOKEN}")
        page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=120_000)
        page.wait_for_function(KERNEL_IS_READY, timeout=120_000)
        figures(page, len(alts))
        run_all(page)
        assert figures(page, len(alts)) == alts
        boxes = page.locator(f".widget-vbox:has({CONTROLS})")
        assert explored > 0 and holds(page, lambda: boxes.count() == explored)
        seconds = [move(page, control) for control in boxes.locator(CONTROLS).all()]
        print("seconds of a move:", *(f"{each:.2f}" for each in seconds))
        if QUIET:
            assert max(seconds) <= SECONDS_IF_QUIET.get(path.name[:2], 2.0)
        follow(page, "a:has-text('To solution 1')", "h3:has-text('Solution 1')")
        follow(page, "a:has-text('Back to exercise 1')", "h3:has-text('Exercise 1')")
        errors = [each for each in page.errors if each.startswith("of the page:")]
        assert not [each for each in errors if "ResizeObserver loop" not in each]
