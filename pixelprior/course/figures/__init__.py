"""All figures of the course in one namespace: `from pixelprior.course import figures`.

`pixelprior/pictures.py` draws images, and the command line uses it as well. `codes.py`
draws grids of codes; `plots.py` draws curves, bars and heat maps; `grids.py` draws
masks, receptive fields and other grids; `diagrams.py` draws how parts are connected.
`show` shows a figure with its alt text.
"""

from pixelprior.course.figures.codes import code_grids, pipeline
from pixelprior.course.figures.diagrams import (
    cached_step,
    course_map,
    gated_block,
    two_levels,
)
from pixelprior.course.figures.grids import (
    cells,
    masks,
    nearest_cells,
    prediction,
    receptive_fields,
)
from pixelprior.course.figures.plots import (
    CYCLE,
    bars,
    code_use,
    colour_of,
    curves,
    grouped_bars,
    heatmaps,
    images_over_maps,
)
from pixelprior.course.showing import show
from pixelprior.pictures import (
    COLOURS,
    captioned_images,
    image_blocks,
    image_grid,
    image_rows,
    picture,
)

__all__ = [
    "COLOURS",
    "CYCLE",
    "bars",
    "cached_step",
    "captioned_images",
    "cells",
    "code_grids",
    "code_use",
    "colour_of",
    "course_map",
    "curves",
    "gated_block",
    "grouped_bars",
    "heatmaps",
    "image_blocks",
    "image_grid",
    "image_rows",
    "images_over_maps",
    "masks",
    "nearest_cells",
    "picture",
    "pipeline",
    "prediction",
    "receptive_fields",
    "show",
    "two_levels",
]
