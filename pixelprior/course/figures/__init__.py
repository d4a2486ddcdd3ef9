"""Every figure of the course, under one name: `from pixelprior.course import figures`.

Images and codes are drawn by `pixelprior/pictures.py`, which the command line uses as
well; curves, bars and heat maps by `plots.py`; masks, receptive fields and other grids
by `grids.py`.
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
from pixelprior.pictures import (
    COLOURS,
    captioned_images,
    code_grids,
    image_blocks,
    image_grid,
    image_rows,
    picture,
    pipeline,
    show,
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
