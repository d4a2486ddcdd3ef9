"""The site in a browser: its front page, its notebooks, and what it loads."""

import json
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.slow

NOTEBOOKS = sorted(Path(__file__).parents[2].glob("notebooks/[0-9]*.ipynb"))
DRAWN = "document.body.dataset.drawn"


def draw(page, button="#draw", **settings):
    """The codes that the open front page draws with these settings."""
    for name, value in settings.items():
        page.evaluate(
            f"const at = document.getElementById('{name}'); at.value = {value};"
            "at.dispatchEvent(new Event('input'))"
        )
    page.evaluate(f"delete {DRAWN}")
    page.click(button)
    page.wait_for_function(DRAWN, timeout=60_000)
    return json.loads(page.evaluate(DRAWN))


@pytest.mark.parametrize("guidance", [0, 1])
def test_the_front_page_draws_the_codes_of_pytorch(page, site, shipped, guidance):
    """The same codes, unless a random number falls between two roundings of a sum."""
    vqvae2, prior = shipped
    page.goto(f"{site}/index.html")
    draw(page)  # the first image loads the weights
    for label, seed, temperature in ((0, 0, 1.0), (8, 3, 0.8), (5, 7, 1.2)):
        settings = {"seed": seed, "temperature": temperature, "guidance": guidance}
        found = draw(page, **{"class": label}, **settings)
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
    assert draw(page, button="#another") != found
    assert page.input_value("#seed") == "8"
    assert not page.errors and "in this page" in page.inner_text("#drawing-words")


def test_what_cannot_be_drawn_is_said(page, site):
    page.goto(f"{site}/index.html")
    page.route("**/bottom_row.onnx", lambda route: route.abort())
    page.click("#draw")
    page.get_by_text("nothing was drawn").wait_for(timeout=60_000)
    page.unroute("**/bottom_row.onnx")
    draw(page)  # the next press loads what is missing


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_has_its_figures_and_its_solutions_folded(page, site, path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    alts = [
        output["metadata"]["image/png"]["alt"]
        for cell in cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    page.goto(f"{site}/notebooks/{path.stem}.html")
    figures = "[...document.querySelectorAll('.cell_output img')]"
    assert page.evaluate(f"{figures}.map(i => i.alt)") == alts
    page.evaluate(f"{figures}.forEach(i => i.loading = 'eager')")
    page.wait_for_function(f"{figures}.every(i => i.naturalWidth)")
    solution = page.locator("details.hide").first
    code = solution.locator("pre").first
    assert not code.is_visible()
    solution.locator("summary").click()
    assert code.is_visible()
    page.get_by_role("link", name="To solution 1").click()
    assert "solution-1" in page.url
    assert not page.errors


def test_no_page_is_wider_than_a_telephone_or_asks_another_host(page, site):
    page.set_viewport_size({"width": 390, "height": 900})
    page.goto(f"{site}/index.html")
    draw(page)  # onnxruntime's own files
    names = ["index", "README", "search", "docs/site/api", "docs/results"]
    for name in [*names, *(f"notebooks/{path.stem}" for path in NOTEBOOKS)]:
        page.goto(f"{site}/{name}.html")
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 390, f"{name} is {wide} wide in a window of 390"
    outside = [url for url in page.requests if not url.startswith((site, "data:"))]
    assert not outside and not page.errors
