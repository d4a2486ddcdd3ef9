"""Draws a small folder of colour images, on which the course trains in seconds."""

from pathlib import Path

import torch
from torchvision.transforms.v2.functional import to_pil_image

from pixelprior.settings import check_positive

KINDS = ("disc", "square", "ring")
COLOURS = ((1, 0.1, 0.1), (0.1, 0.3, 1), (1, 0.9, 0.1), (0.1, 0.8, 0.3))
SIDE = 40  # pixels


def draw_shapes(folder, count: int = 165, seed: int = 0) -> list[Path]:
    """Write images of discs, squares and rings in four colours, one folder per class.

    Args:
        folder: the folder to write to, which is created if it is absent.
        count: number of images; the classes take turns.
        seed: decides the size, place and colour of each shape.

    Returns:
        The paths of the images, sorted.
    """
    check_positive(count=count)
    folder, paths = Path(folder), []
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        radius = 10 + 6 * torch.rand((), generator=generator)
        cy, cx = radius + 1 + (38 - 2 * radius) * torch.rand(2, generator=generator)
        dy, dx = (y - cy).abs(), (x - cx).abs()  # [40, 40] each
        r = torch.maximum(dy, dx) if kind == "square" else torch.hypot(dy, dx)
        inside = (r < radius) & ((r > radius / 2) | (kind != "ring"))
        chosen = COLOURS[torch.randint(len(COLOURS), (), generator=generator)]
        colour = torch.tensor(chosen)[:, None, None]  # [3, 1, 1]
        image = torch.where(inside, colour, 0.05)  # [3, 40, 40]
        path = folder / kind / f"{number // len(KINDS):02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        to_pil_image(image).save(path)
        paths.append(path)
    return sorted(paths)
