"""All figures of the course in one namespace: `from pixelprior.course import figures`.

`pixelprior/plotting.py` draws images, and the command line uses it as well. `show`
shows a figure with its alt text.
"""

from pixelprior.course.figures.codes import code_grids, pipeline, prediction
from pixelprior.course.figures.diagrams import gated_block, two_levels
from pixelprior.course.figures.fields import (
    cells,
    kernels_of_stacks,
    receptive_fields,
    what_is_computed,
)
from pixelprior.course.figures.grids import image_blocks, nearest_cells
from pixelprior.course.figures.lines import (
    blind_spot_price,
    curve_panels,
    curves,
    stairs,
    trade_off,
)
from pixelprior.course.figures.plots import (
    bars,
    findings,
    grouped_bars,
    heatmaps,
    images_over_maps,
    odd_maps,
)
from pixelprior.course.pictures import picture
from pixelprior.course.showing import show
from pixelprior.plotting import COLOURS, captioned_images, image_grid, image_rows
