"""All figures of the course in one namespace: `from pixelprior.course import figures`.

`pixelprior/pictures.py` draws images and codes, and the command line uses it as well.
`plots.py` draws curves, bars and heat maps; `grids.py` draws masks, receptive fields
and other grids. `show` shows a figure with its alt text.
"""

from pixelprior.course.figures.grids import (
    cells,
    course_map,
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
    code_grids,
    image_blocks,
    image_grid,
    image_rows,
    picture,
    pipeline,
)

__all__ = [
    "COLOURS",
    "CYCLE",
    "bars",
    "captioned_images",
    "cells",
    "code_grids",
    "code_use",
    "colour_of",
    "course_map",
    "curves",
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
]
