"""All figures of the course in one namespace: `from pixelprior.course import figures`.

`pixelprior/plotting.py` draws images, and the command line uses it as well. `codes.py`
draws grids of codes; `lines.py` draws curves, and `plots.py` bars and heat maps;
`fields.py` draws masks and receptive fields, and `grids.py` other grids; `diagrams.py`
draws how parts are connected; `judging.py` draws how a code is drawn, and quality
against variety; `anomalies.py` draws what is odd in images. `show` shows a figure with
its alt text.
"""

from pixelprior.course.figures.anomalies import findings, odd_maps
from pixelprior.course.figures.codes import code_grids, pipeline
from pixelprior.course.figures.diagrams import gated_block, two_levels
from pixelprior.course.figures.fields import kernels_of_stacks, masks, receptive_fields
from pixelprior.course.figures.grids import (
    cells,
    image_blocks,
    nearest_cells,
    prediction,
    what_is_computed,
)
from pixelprior.course.figures.judging import stairs, trade_off
from pixelprior.course.figures.lines import blind_spot_price, curve_panels, curves
from pixelprior.course.figures.plots import (
    bars,
    grouped_bars,
    heatmaps,
    images_over_maps,
)
from pixelprior.course.pictures import picture
from pixelprior.course.showing import show
from pixelprior.plotting import COLOURS, captioned_images, image_grid, image_rows
