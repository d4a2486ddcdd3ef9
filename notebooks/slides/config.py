"""How the notebooks become slides that need no network:

jupyter nbconvert --to slides --config notebooks/slides/config.py \\
    --output-dir slides notebooks/[0-9]*.ipynb

Which cell begins a slide stands in the notebooks' metadata (build.py writes it). The
theme of JupyterLab is nbconvert's; reveal.js comes from the package sphinx-revealjs,
which has it on the disk. Formulas become MathML by latex2mathml, since MathJax, which
nbconvert would have the page load, is a program of its own. The last section is the
notebook's quiz, from QUIZ.md.
"""

import importlib.util
import re
import sys
from pathlib import Path

from nbconvert.preprocessors import Preprocessor
from nbformat.v4 import new_markdown_cell

found = importlib.util.find_spec("sphinx_revealjs")
if found is None or importlib.util.find_spec("latex2mathml") is None:
    sys.exit(
        "slides need reveal.js, which comes with sphinx-revealjs, and latex2mathml, "
        'and not both are installed; run pip install "sphinx-revealjs>=3" '
        '"latex2mathml>=3.77" while there is a network'
    )
from latex2mathml.converter import convert

DETAILS = re.compile("<details>.+</summary>|</details>")


class Steps(Preprocessor):
    """Puts what belongs together on one slide.

    A room guesses aloud, so that the cells for a guess are left out. What they reveal
    appears below the figure that it is about, and a solution below its heading. Code
    that leaves no height for its figure moves to a slide of its own.
    """

    def preprocess(self, notebook, resources):
        notebook.cells = [
            cell
            for cell in notebook.cells
            if not cell.source.startswith("my_guess = None")
        ]
        for before, cell in zip(
            notebook.cells, notebook.cells[1:], strict=False
        ):
            if cell.cell_type != "code":
                continue
            kind = cell.metadata.slideshow
            printed = "".join(each.get("text", "") for each in cell.outputs)
            long = f"{cell.source}\n{printed}".count("\n") > 14
            if kind.slide_type == "fragment" and long:
                kind.slide_type = "subslide"
            elif re.fullmatch(r"reveal\(.+\)", cell.source):
                kind.slide_type = "fragment"
            elif before.source.startswith("### Solution"):
                kind.slide_type = "-"
        return notebook, resources


class Quiz(Preprocessor):
    """Puts a notebook's questions, from QUIZ.md, after its last section.

    Each question has a slide, on which the next key shows its answer.
    """

    head = (
        "Predict first, by a show of hands. The next key shows the answer. Rows, "
        "columns and codes are counted from 0."
    )

    def preprocess(self, notebook, resources):
        number = resources["metadata"]["name"][:2]
        text = (here.parent / "QUIZ.md").read_text(encoding="utf-8")
        for part in re.split("(?m)^## ", text):
            if part.startswith(f"{number} · "):
                title, *questions = re.split("(?m)^### ", part)
                cells = [("slide", f"## Quiz: {title}{self.head}")]
                for question in questions:
                    asked, answer, _ = DETAILS.split(question)
                    cells.append(("subslide", f"### {asked}"))
                    cells.append(("fragment", answer))
                notebook.cells += [self.cell(*each) for each in cells]
        return notebook, resources

    @staticmethod
    def cell(kind: str, text: str):
        metadata = {"slideshow": {"slide_type": kind}, "tags": ["quiz"]}
        return new_markdown_cell(text.strip(), metadata=metadata)


class Formulas(Preprocessor):
    """Turns each formula between $$ and $$ into MathML, which browsers typeset."""

    def preprocess_cell(self, cell, resources, index):
        if cell.cell_type == "markdown":
            cell.source = re.sub(
                r"\$\$(.+?)\$\$", self.mathml, cell.source, flags=re.DOTALL
            )
        return cell, resources

    @staticmethod
    def mathml(formula: re.Match) -> str:
        return convert(formula[1].strip(), display="block")


# nbconvert gives get_config to the files it reads.
here = Path(__file__).resolve().parent
c = get_config()  # noqa: F821
c.TemplateExporter.extra_template_basedirs = [str(here.parent)]
c.TemplateExporter.extra_template_paths = [
    str(Path(found.origin).parent / "_static" / "revealjs")
]
c.TemplateExporter.template_name = "slides"
c.SlidesExporter.preprocessors = [Steps, Quiz, Formulas]
