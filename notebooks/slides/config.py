"""How the notebooks become slides that need no network:

jupyter nbconvert --to slides --config notebooks/slides/config.py \\
    --output-dir slides notebooks/[0-9]*.ipynb

Which cell begins a slide stands in the notebooks' metadata (build.py writes it). The
theme of JupyterLab is nbconvert's; reveal.js comes from the package sphinx-revealjs,
which has it on the disk. Formulas become MathML by latex2mathml, since MathJax, which
nbconvert would have the page load, is a program of its own.
"""

import importlib.util
import re
import sys
from pathlib import Path

from nbconvert.preprocessors import Preprocessor

found = importlib.util.find_spec("sphinx_revealjs")
if found is None or importlib.util.find_spec("latex2mathml") is None:
    sys.exit(
        "slides need reveal.js, which comes with sphinx-revealjs, and latex2mathml, "
        'and not both are installed; run pip install "sphinx-revealjs>=3" '
        '"latex2mathml>=3.77" while there is a network'
    )
from latex2mathml.converter import convert


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
c.SlidesExporter.preprocessors = [Formulas]
