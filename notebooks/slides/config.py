"""How the notebooks become slides that need no network:

jupyter nbconvert --to slides --config notebooks/slides/config.py \\
    --output-dir slides notebooks/[0-9]*.ipynb

Which cell begins a slide stands in the notebooks' metadata (build.py writes it). The
theme of JupyterLab is nbconvert's; reveal.js comes from the package sphinx-revealjs,
which has it on the disk.
"""

import importlib.util
import sys
from pathlib import Path

found = importlib.util.find_spec("sphinx_revealjs")
if found is None:
    sys.exit(
        "slides need reveal.js, which comes with sphinx-revealjs, and that is not "
        'installed; run pip install "sphinx-revealjs>=3" while there is a network'
    )
# nbconvert gives get_config to the files it reads.
here = Path(__file__).resolve().parent
c = get_config()  # noqa: F821
c.TemplateExporter.extra_template_basedirs = [str(here.parent)]
c.TemplateExporter.extra_template_paths = [
    str(Path(found.origin).parent / "_static" / "revealjs")
]
c.TemplateExporter.template_name = "slides"
