"""The site in a browser: its front page, search, notebooks, and what it loads."""

import json
import time
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.slow

NOTEBOOKS = sorted(Path(__file__).parents[2].glob("notebooks/[0-9]*.ipynb"))
DRAWN = "document.body.dataset.drawn"
WORDS = "document.getElementById('drawing-words').textContent"


def draw(page, **settings):
    """Draw with these settings on the open front page; its codes, and the seconds."""
    for name, value in settings.items():
        if name == "class":
            page.select_option("#class", str(value))
        else:
            page.evaluate(
                f"const at = document.getElementById('{name}'); at.value = {value};"
                "at.dispatchEvent(new Event('input'))"
            )
    page.evaluate(f"delete {DRAWN}")
    started = time.perf_counter()
    page.click("#draw")
    page.wait_for_function(DRAWN, timeout=60_000)
    return json.loads(page.evaluate(DRAWN)), time.perf_counter() - started


def open_front_page(page, site):
    page.goto(f"{site}/index.html")
    page.wait_for_selector("#drawing:visible")


@pytest.mark.parametrize("guidance", [0, 1])
def test_the_front_page_draws_the_codes_of_pytorch(page, site, shipped, guidance):
    """The same codes, unless a random number falls between two roundings of a sum."""
    vqvae2, prior = shipped
    open_front_page(page, site)
    draw(page)  # the first image loads the weights
    for label, seed, temperature in ((0, 0, 1.0), (8, 3, 0.8), (5, 7, 1.2)):
        settings = {"seed": seed, "temperature": temperature, "guidance": guidance}
        found, seconds = draw(page, **{"class": label}, **settings)
        assert seconds < 10
        labels = torch.tensor([label])
        wanted = prior.sample(1, *vqvae2.grids, labels=labels, **settings)
        for level, codes in zip(("top", "bottom"), wanted, strict=True):
            assert found[level] == codes.flatten().tolist()
        pixels = page.evaluate(
            "Array.from(document.getElementById('drawn-image').getContext('2d')"
            ".getImageData(0, 0, 32, 32).data).filter((_, i) => i % 4 === 0)"
        )
        image = 255 * vqvae2.decode_codes(*wanted)[0, 0].flatten()
        assert (torch.tensor(pixels) - image).abs().max() < 1
    assert not page.errors and "in this page" in page.inner_text("#drawing-words")


def test_what_cannot_be_drawn_is_said(page, site):
    open_front_page(page, site)
    page.route("**/bottom_row.onnx", lambda route: route.abort())
    page.click("#draw")
    page.wait_for_function(f"{WORDS}.startsWith('nothing was drawn')", timeout=60_000)
    page.unroute("**/bottom_row.onnx")
    draw(page)  # the next press loads what is missing
    for seed in ("1.5", "-1", ""):
        page.fill("#seed", seed)
        page.click("#draw")
        page.wait_for_function(f"{WORDS}.includes('give a whole number')")


def test_another_one_draws_the_next_seed(page, site):
    open_front_page(page, site)
    first, _ = draw(page, seed=4)
    page.evaluate(f"delete {DRAWN}")
    page.click("#another")
    page.wait_for_function(DRAWN, timeout=60_000)
    assert page.input_value("#seed") == "5"
    assert json.loads(page.evaluate(DRAWN)) != first


def test_the_search_finds_the_blind_spot(page, site):
    page.goto(f"{site}/index.html")
    page.fill("input[name=q]", "blind spot")
    page.press("input[name=q]", "Enter")
    page.wait_for_selector("#search-results li a", timeout=20_000)
    found = page.locator("#search-results li a").all_inner_texts()
    assert any("Masked convolutions" in text for text in found), found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_has_its_figures_its_solutions_and_its_links(page, site, path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    alts = [
        output["metadata"]["image/png"]["alt"]
        for cell in cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    page.goto(f"{site}/notebooks/{path.stem}.html")
    figures = page.locator(".cell_output img")
    shown = [figures.nth(i).get_attribute("alt") for i in range(figures.count())]
    assert shown == alts
    page.evaluate("document.querySelectorAll('img').forEach(i => i.loading = 'eager')")
    page.wait_for_function(
        "[...document.querySelectorAll('.cell_output img')].every(i => i.naturalWidth)"
    )
    solution = page.locator("details.hide").first
    code = solution.locator("pre").first
    assert not code.is_visible()
    solution.locator("summary").click()
    assert code.is_visible()
    page.get_by_role("link", name="To solution 1").click()
    assert "solution-1" in page.url
    assert not page.errors


def test_what_is_said_about_a_solution_is_folded_too(page, site):
    page.goto(f"{site}/notebooks/00_start_here.html")
    said = page.locator("p", has_text="The prior was not trained on impostors.")
    assert not said.is_visible()
    page.locator("summary", has_text="More about the solution").first.click()
    assert said.is_visible()


def test_a_word_of_a_notebook_leads_to_its_entry_in_the_glossary(page, site):
    page.goto(f"{site}/notebooks/02_masked_convolutions.html")
    link = page.locator("a:has(strong)", has_text="blind spot").first
    link.click()
    assert page.url.endswith("/notebooks/GLOSSARY.html#word-blind-spot")
    entry = page.locator("#word-blind-spot")
    assert entry.is_visible() and "cannot see" in entry.inner_text()


@pytest.mark.parametrize("width", [390, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_is_wider_than_its_window(chromium, site, width, scheme):
    page = chromium.new_page(
        viewport={"width": width, "height": 900}, color_scheme=scheme
    )
    for name in ("README", "notebooks/07_generate_and_judge", "docs/results", "index"):
        if name != "index":
            page.goto(f"{site}/{name}.html")
        else:
            open_front_page(page, site)
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, f"{name} is {wide} wide in a window of {width}"
    page.close()


def test_no_page_asks_another_host(page, site):
    open_front_page(page, site)
    draw(page)  # onnxruntime's own files
    for name in ("README", "search", "docs/site/api"):
        page.goto(f"{site}/{name}.html")
    for path in NOTEBOOKS:
        page.goto(f"{site}/notebooks/{path.stem}.html")
    outside = [url for url in page.requests if not url.startswith((site, "data:"))]
    assert not outside and not page.errors
