"""How the course, the pages and the API become a site; `build.py` runs it.

The sources are where readers of the repository find them; nothing is copied. The pages
load nothing from elsewhere: formulas become MathML, and the theme has no web fonts.
"""

import json
import re
import sys
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.transforms import SphinxTransform

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import pixelprior
from pixelprior.assets import shipped_folder
from pixelprior.data.images import FASHION_CLASSES
from pixelprior.evaluation.choosing import read_setting

project = "pixelprior"
release = pixelprior.__version__
author = "the authors of pixelprior"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/site/contents"
include_patterns = [
    "README.md",
    "CONTRIBUTING.md",
    "docs/*.md",
    "docs/site/*.md",
    "notebooks/*.ipynb",
    "notebooks/*.md",
    "pixelprior/assets/README.md",
    "pixelprior/assets/results/MODEL_CARD.md",
    "pixelprior/assets/results/cifar10/MODEL_CARD.md",
    "pixelprior/assets/results/emoji/MODEL_CARD.md",
]
templates_path = ["templates"]
html_theme = "furo"
html_title = "pixelprior"
html_additional_pages = {"index": "front.html"}
LOADED = sum(
    path.stat().st_size
    for folder in ("onnx", "ort")
    for path in (Path(__file__).parent / "static" / folder).iterdir()
)
CHOSEN = read_setting(shipped_folder("fashion_mnist", "prior"))
html_context = {
    "class_names": FASHION_CLASSES,
    "megabytes": round(LOADED / 1e6),
    "temperature": CHOSEN["temperature"],
    "guidance": CHOSEN["guidance"][0],  # the page has one slider for both levels
}
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_favicon = "static/favicon.svg"
html_show_copyright = False
html_math_renderer = "mathml"
nb_execution_mode = "off"
nb_ipywidgets_js = {}
nb_mime_priority_overrides = [("html", "image/png", 0)]
myst_enable_extensions = ["dollarmath", "html_image"]
myst_heading_anchors = 4
autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_custom_sections = ["Returns"]  # the first line may have a colon in it

NOTEBOOK = re.compile(r"notebooks/\d\d_")
LINK = re.compile(r"(\]\((?:\w+\.ipynb)?#)([^)]+)\)")
GLOSSARY = "notebooks/GLOSSARY"
FOLDED = "<details><summary>More about the solution</summary>\n\n{}\n\n</details>"


def anchor(word: str) -> str:
    """The anchor of a word in the glossary; that of a plural is the singular's."""
    return "word-" + re.sub(r"\W+", "-", word.lower()).strip("-").removesuffix("s")


def glossary() -> set[str]:
    """The anchors of all words in the glossary."""
    text = (Path(__file__).parents[2] / f"{GLOSSARY}.md").read_text(encoding="utf-8")
    return {anchor(word) for word in re.findall(r"^- \*\*(.+?)\*\*", text, re.M)}


WORDS = glossary()


def with_anchor(link: re.Match) -> str:
    """A link to a heading, with the anchor of the site in place of JupyterLab's."""
    return link[1] + re.sub(r"[^\w-]", "", link[2].lower()) + ")"


def prepare_notebook(app, name: str, source: list[str]) -> None:
    """Fold solutions, and set the anchors of links and the alt texts."""
    if not NOTEBOOK.match(name):
        return
    notebook = json.loads(source[0])
    for cell in notebook["cells"]:
        metadata = cell["metadata"]
        cell["source"] = LINK.sub(with_anchor, "".join(cell["source"]))
        solution = "solution" in metadata.get("tags", [])
        heading = cell["source"].startswith("#")
        if cell["cell_type"] == "markdown" and solution and not heading:
            cell["source"] = FOLDED.format(cell["source"])
        if cell["cell_type"] == "code":
            shown = metadata.setdefault("mystnb", {})
            if solution:
                metadata["tags"].append("hide-cell")
                shown["code_prompt_show"] = "Show the solution"
                shown["code_prompt_hide"] = "Hide the solution"
            for output in cell["outputs"]:
                if alt := output.get("metadata", {}).get("image/png", {}).get("alt"):
                    shown["image"] = {"alt": alt}
    source[0] = json.dumps(notebook)


class LinkWords(SphinxTransform):
    """Give each word of the glossary an anchor, and link the notebooks' bold words."""

    default_priority = 500

    def apply(self) -> None:
        if self.env.docname == GLOSSARY:
            for item in self.document.findall(nodes.list_item):
                if strong := next(iter(item.findall(nodes.strong)), None):
                    item["ids"].append(anchor(strong.astext()))
        elif NOTEBOOK.match(self.env.docname):
            for strong in list(self.document.findall(nodes.strong)):
                word = anchor(strong.astext())
                if word in WORDS and not isinstance(strong.parent, nodes.reference):
                    link = nodes.reference(refuri=f"GLOSSARY.html#{word}")
                    link["internal"] = True
                    strong.replace_self(link)
                    link.append(strong)


def formula(display: str):
    """A visitor that writes a formula as MathML."""

    def visit(translator, node) -> None:
        translator.body.append(convert(node.astext(), display=display))
        raise nodes.SkipNode

    return visit


def setup(app) -> None:
    app.connect("source-read", prepare_notebook)
    app.add_transform(LinkWords)
    app.add_html_math_renderer(
        "mathml", (formula("inline"), None), (formula("block"), None)
    )
