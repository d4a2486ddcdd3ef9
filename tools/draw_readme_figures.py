"""Draw the two figures of the README: the two levels, and what a cached step computes.

Run `python tools/draw_readme_figures.py`; both are written to `docs/pictures/`. The
codes and the image in the first are drawn by the shipped prior with seed 0.
"""

from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Patch, Rectangle

from pixelprior.assets import load_shipped
from pixelprior.course.figures.codes import code_colours
from pixelprior.data import FASHION_CLASSES
from pixelprior.pictures import COLOURS, save_picture

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "pictures"
LABEL = FASHION_CLASSES.index("Sneaker")
ROW, COLUMN, SIDE = 3, 4, 8
KINDS = {
    "computed": COLOURS["future"],
    "computed by an earlier step, and kept": COLOURS["past"],
    "not needed": "#ffffff",
}
COMPUTED, KEPT, UNUSED = range(3)


def two_levels() -> Figure:
    """Top codes, bottom codes and image of one draw, with arrows between them."""
    vqvae2, prior = load_shipped()
    shapes = [
        (side, side)
        for side in (vqvae2.latent_spatial_dim_top, vqvae2.latent_spatial_dim_bottom)
    ]
    z_top, z_bottom = prior.sample(1, *shapes, labels=LABEL, seed=0)
    image = vqvae2.decode_codes(z_top, z_bottom)[0, 0]
    colours = code_colours(vqvae2.num_embeddings)
    figure = Figure(figsize=(9, 2.9))
    panels = (
        (colours[z_top[0]], None, "P(z_top)\n8 × 8 top codes", COLOURS["top"]),
        (
            colours[z_bottom[0]],
            None,
            "P(z_bottom | z_top)\n16 × 16 bottom codes",
            COLOURS["bottom"],
        ),
        (image.detach(), "gray", "\n32 × 32 pixels", COLOURS["baseline"]),
    )
    for number, (values, colour_map, title, frame) in enumerate(panels):
        axis = figure.add_axes((0.01 + 0.38 * number, 0.03, 0.22, 0.72))
        axis.imshow(values, colour_map, interpolation="nearest")
        axis.set_xticks([])
        axis.set_yticks([])
        axis.set_title(title, fontsize=11)
        for side in axis.spines.values():
            side.set_edgecolor(frame)
            side.set_linewidth(2.5)
    for left, words in (
        (0.24, "condition every\nbottom position"),
        (0.62, "decoder of\nthe VQ-VAE-2"),
    ):
        figure.add_artist(
            FancyArrowPatch(
                (left, 0.37),
                (left + 0.145, 0.37),
                arrowstyle="-|>",
                mutation_scale=20,
                linewidth=2,
                color="black",
            )
        )
        figure.text(left + 0.07, 0.43, words, fontsize=10, ha="center")
    return figure


def cells(axis: Axes, kinds: torch.Tensor, title: str) -> None:
    """One grid of positions, each in the colour of its kind."""
    colours = list(KINDS.values())
    for (y, x), kind in zip(
        torch.cartesian_prod(torch.arange(SIDE), torch.arange(SIDE)).tolist(),
        kinds.flatten().tolist(),
        strict=True,
    ):
        hatch = {COMPUTED: "///", KEPT: "", UNUSED: ""}[kind]
        axis.add_patch(
            Rectangle(
                (x, y),
                1,
                1,
                facecolor=colours[kind],
                edgecolor="#bbbbbb",
                hatch=hatch,
                linewidth=0.7,
            )
        )
    axis.add_patch(
        Rectangle((COLUMN, ROW), 1, 1, fill=False, edgecolor="black", linewidth=2.5)
    )
    axis.set_xlim(-0.1, SIDE + 0.1)
    axis.set_ylim(SIDE + 0.1, -0.1)
    axis.set_aspect("equal")
    axis.axis("off")
    axis.set_title(title, fontsize=10)


def cached_step() -> Figure:
    """The positions that each method computes to draw the code in the black frame."""
    panels = {
        "naive: the whole grid,\nfor each code": torch.full((SIDE, SIDE), COMPUTED),
        "rows: the rows so far,\nfor each code": torch.full((SIDE, SIDE), UNUSED),
        "cached, vertical stack:\na row, once per row": torch.full(
            (SIDE, SIDE), UNUSED
        ),
        "cached, horizontal stack:\na position, once per code": torch.full(
            (SIDE, SIDE), UNUSED
        ),
    }
    _, rows, vertical, horizontal = panels.values()
    rows[: ROW + 1] = COMPUTED
    vertical[ROW - 1], vertical[ROW] = KEPT, COMPUTED
    horizontal[ROW, COLUMN - 1], horizontal[ROW, COLUMN] = KEPT, COMPUTED
    figure = Figure(figsize=(9, 3.1), layout="constrained")
    axes = figure.subplots(1, 4)
    for axis, (title, kinds) in zip(axes, panels.items(), strict=True):
        cells(axis, kinds, title)
    figure.legend(
        handles=[
            Patch(
                facecolor=colour,
                edgecolor="#888888",
                hatch="///" if name == "computed" else "",
                label=name,
            )
            for name, colour in KINDS.items()
        ],
        loc="outside lower center",
        ncols=3,
        frameon=False,
        fontsize=10,
    )
    return figure


if __name__ == "__main__":
    for name, figure in (("two_levels", two_levels()), ("cached_step", cached_step())):
        print("wrote", save_picture(figure, FOLDER / f"{name}.png"))
