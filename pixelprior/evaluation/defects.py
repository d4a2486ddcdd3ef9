"""Images with defects whose masks are known, made from normal images and a seed.

Each image has a random stream of its own, and takes what it shows of others from images
before it, so that its defect does not depend on the images that follow. Other versions
of NumPy or Pillow may make other defects from the same seed.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from pixelprior.data.images import ImageData

KINDS = ("patch", "scratch", "blotch", "missing part", "wrong half")
VISIBLE = 24  # of 255: a pixel that changes by no more is not in the mask
NEAR = 64  # images before an image that a defect may show
SMALLEST = 0.01  # share of pixels that a defect changes at least
ATTEMPTS = 50  # per kind


@dataclass
class DefectData:
    """Images with one defect each."""

    images: ImageData  # with labels and classes of the normal images
    masks: Tensor  # bool [N, H, W]: the pixels that change by more than `VISIBLE`
    kinds: Tensor  # long [N], each a number in `KINDS`

    def __len__(self) -> int:
        return len(self.images)


def with_defects(normal: ImageData, *, seed: int = 0, kinds=KINDS) -> DefectData:
    """Put one defect on each image; the kinds take turns.

    - "patch": a rectangle of the image is pasted elsewhere on it (CutPaste: Li et al.
      2021, arXiv 2104.04015, section 2.1).
    - "scratch": a straight line, 1 to 2 pixels wide per 32, bright or dark.
    - "blotch": another image shows through where Perlin noise is high (DRAEM:
      Zavrtanik et al. 2021, arXiv 2108.07610, section 3.3).
    - "missing part": an ellipse has the colour of the image's border.
    - "wrong half": one half is that of another image, if possible of another class.

    An image on which a kind is not visible, such as a patch on one colour, gets the
    next kind, and a scratch if none of them is. There are at least two images, since a
    defect may show another one. The seed is 0 or more.
    """
    pixels = normal.images.cpu().numpy()
    labels = normal.labels.cpu().numpy()
    made = (
        _with_defect(np.random.default_rng([seed, n]), pixels, labels, n, kinds)
        for n in range(len(normal))
    )
    images, masks, made = map(np.stack, zip(*made, strict=True))
    changed = replace(normal, images=torch.from_numpy(images))
    return DefectData(changed, torch.from_numpy(masks), torch.from_numpy(made))


def _with_defect(random, pixels, labels, number: int, kinds):
    """One image [C, H, W] with a visible defect, its mask [H, W], and its kind's number
    in `KINDS`."""
    image = pixels[number]
    # A line that differs from all of its image is visible everywhere.
    turns = [kinds[(number + turn) % len(kinds)] for turn in range(len(kinds))]
    for kind in (*turns, "scratch"):
        for _ in range(ATTEMPTS):
            other = _another(random, labels, number)
            changed = MAKERS[kind](random, image, pixels[other])
            apart = np.abs(changed.astype(int) - image.astype(int)).max(axis=0)
            mask = apart > VISIBLE
            if mask.mean() >= SMALLEST:
                return np.where(mask, changed, image), mask, KINDS.index(kind)
    raise ValueError(f"no defect can be seen on image {number}; leave it out")


def _another(random, labels, number: int) -> int:
    """One of the `NEAR` images before this one, of another class where there is one;
    for the first image, the second."""
    near = list(range(max(0, number - NEAR), number)) or [1]
    others = [each for each in near if labels[each] != labels[number]]
    return int(random.choice(others or near))


def _rectangle(random, height: int, width: int, least: float, most: float):
    """The slices of a rectangle whose sides are a share of the image's."""
    sides = []
    for length in (height, width):
        side = max(1, round(length * random.uniform(least, most)))
        start = int(random.integers(0, length - side + 1))
        sides.append(slice(start, start + side))
    return tuple(sides)


def _patch(random, image, _other):
    height, width = image.shape[1:]
    rows, columns = _rectangle(random, height, width, 0.15, 0.4)
    top = int(random.integers(0, height - (rows.stop - rows.start) + 1))
    left = int(random.integers(0, width - (columns.stop - columns.start) + 1))
    changed = image.copy()
    cut = image[:, rows, columns]
    changed[:, top : top + cut.shape[1], left : left + cut.shape[2]] = cut
    return changed


def _scratch(random, image, _other):
    height, width = image.shape[1:]
    size = np.sqrt(height * width)
    length = size * random.uniform(0.3, 0.8)
    angle = random.uniform(0, np.pi)
    y, x = random.uniform(0.2, 0.8, 2) * (height, width)
    dy, dx = np.sin(angle) * length / 2, np.cos(angle) * length / 2
    drawn = Image.new("L", (width, height))
    thickness = max(1, round(size / 32 * random.uniform(1, 2)))
    ends = [(x - dx, y - dy), (x + dx, y + dy)]
    ImageDraw.Draw(drawn).line(ends, fill=1, width=thickness)
    line = np.asarray(drawn, dtype=bool)
    brightness = image[:, line].mean() if line.any() else 0
    level = random.integers(200, 256) if brightness < 128 else random.integers(0, 56)
    return np.where(line, np.uint8(level), image)


def _blotch(random, image, other):
    height, width = image.shape[1:]
    noise = perlin(random, height, width, max(2, min(height, width) // 4))
    reach = random.uniform(0.75, 0.95)  # share of pixels that stay as they are
    strength = random.uniform(0.5, 1.0)
    inside = noise > np.quantile(noise, reach)
    mixed = (1 - strength) * image + strength * np.roll(other, height // 3, axis=1)
    return np.where(inside, mixed.round().astype(np.uint8), image)


def _missing_part(random, image, _other):
    height, width = image.shape[1:]
    edges = [image[:, [0, -1]], image[:, :, [0, -1]]]
    border = np.concatenate([each.reshape(len(image), -1) for each in edges], axis=1)
    colour = np.median(border, axis=1).astype(np.uint8)[:, None, None]
    rows, columns = _rectangle(random, height, width, 0.2, 0.45)
    y = (np.arange(height) - (rows.start + rows.stop - 1) / 2)[:, None]
    x = np.arange(width) - (columns.start + columns.stop - 1) / 2
    y, x = y * 2 / (rows.stop - rows.start), x * 2 / (columns.stop - columns.start)
    return np.where(y**2 + x**2 <= 1, colour, image)


def _wrong_half(random, image, other):
    half = random.integers(4)  # top, bottom, left, right
    changed, axis = image.copy(), 1 + half // 2
    middle = image.shape[axis] // 2
    part = slice(middle) if half % 2 == 0 else slice(middle, None)
    where = (slice(None),) * axis + (part,)
    changed[where] = other[where]
    return changed


MAKERS = dict(
    zip(KINDS, (_patch, _scratch, _blotch, _missing_part, _wrong_half), strict=True)
)


def perlin(random, height: int, width: int, cell: int) -> np.ndarray:
    """Gradient noise [H, W] around 0 (Perlin 2002, "Improving noise", section 3), with
    `cell` pixels from one random gradient to the next."""
    y, x = (np.arange(length) / cell for length in (height, width))
    y0, x0 = y.astype(int), x.astype(int)
    angles = random.uniform(0, 2 * np.pi, (y0[-1] + 2, x0[-1] + 2))
    y, x = (y - y0)[:, None], x - x0

    def at(down: int, right: int):  # the slope of a corner's gradient, [H, W]
        angle = angles[np.ix_(y0 + down, x0 + right)]
        return np.sin(angle) * (y - down) + np.cos(angle) * (x - right)

    def fade(t):  # with no jump in the second derivative
        return t**3 * (t * (6 * t - 15) + 10)

    above = at(0, 0) + fade(x) * (at(0, 1) - at(0, 0))
    below = at(1, 0) + fade(x) * (at(1, 1) - at(1, 0))
    return above + fade(y) * (below - above)
