"""Checks for notebook 00: images, codes and the number of forward passes of a draw."""

import math
import random

import torch
from torch import Tensor

from pixelprior.course.checks.verdict import Wrong, call, judged, need_number
from pixelprior.data.codes import CodeData
from pixelprior.data.images import ImageData
from pixelprior.evaluation.measures import image_nats, some_of_each_class
from pixelprior.prior import HierarchicalPixelCNN
from pixelprior.vqvae2 import VQVAE2

TRUTH = "B holds the photographs, and A was drawn with guidance"  # of 00.1


def of_each_class(data: ImageData, rows: int) -> Tensor:
    """The first images of each class, the classes in turn: [rows * K, C, S, S]."""
    count = rows * len(data.class_names)
    return some_of_each_class(data, count)[torch.arange(count)][0]


def shuffled(*blocks: Tensor) -> dict[str, Tensor]:
    """The blocks by the names "block A", "block B", …, in an order drawn by a seed."""
    order = random.Random(6).sample(blocks, len(blocks))
    return {f"block {chr(65 + n)}": block for n, block in enumerate(order)}


def bits_of_grid(height: int, width: int, num_embeddings: int) -> float:
    """The bits of a grid of codes, each of them one of `num_embeddings`."""
    return height * width * math.log2(num_embeddings)


@judged
def bits(answer) -> str:
    """The answer is a function of height, width and number of codes, as
    `bits_of_grid`."""
    for height, width, codes in ((1, 1, 2), (1, 1, 8), (3, 5, 2), (4, 2, 30)):
        got = call(answer, height, width, codes)
        number = need_number(got, "what your function returns")
        wanted = bits_of_grid(height, width, codes)
        grid = f"a grid of {height} × {width} codes, each one of {codes},"
        if math.isclose(number, wanted * math.log(2), rel_tol=1e-3):
            raise Wrong(
                f"{grid} takes {number:.2f} by your function; is that the logarithm "
                "with base 2?"
            )
        if not math.isclose(number, wanted, rel_tol=1e-6):
            hint = "what are the bits of one code?"
            if height * width > 1:
                one = f"one of its codes takes {math.log2(codes):.2f} bits"
                hint = f"{one}, not rounded up; and how many codes are there?"
            raise Wrong(f"{grid} takes {number:.2f} bits by your function; {hint}")
    return (
        "one of K codes takes log2 K bits, and a grid that many for each of its codes"
    )


@judged
def forward_passes(
    answer, batch_size: int, top_shape: tuple[int, int], bottom_shape: tuple[int, int]
) -> str:
    """The answer is how many forward passes a naive draw of `batch_size` images takes.

    The check counts them with a prior so small that this takes a moment.
    """
    answer = need_number(answer)
    torch.manual_seed(0)
    prior, runs = HierarchicalPixelCNN(4, 2, 2, 1), 0

    def count(*_) -> None:
        nonlocal runs
        runs += 1

    for level in (prior.prior_top, prior.prior_bottom):
        level.head.register_forward_hook(count)
    prior.sample(batch_size, top_shape, bottom_shape, seed=0, method="naive")
    if answer != runs:
        few = "fewer" if answer < runs else "more"
        raise Wrong(
            f"{answer:g} is {few} than were counted while {batch_size} images were "
            "drawn; how many codes does one image have, and is a run for one image or "
            "for the whole batch?"
        )
    return f"{runs} runs were counted while {batch_size} images were drawn"


@judged
@torch.no_grad()
def pixels_of_code(
    answer, vqvae2: VQVAE2, images: Tensor, position: tuple[int, int]
) -> str:
    """The answer is the first and last row and the first and last column of the pixels
    that the top code at `position` covers.

    The check puts other codes at this position and finds where the decoded images
    [B, C, S, S] change most.
    """
    words = (
        f"your answer is {answer!r}, but four whole numbers are needed: first row, "
        "last row, first column, last column"
    )
    try:
        numbers = [need_number(number, "one of your numbers") for number in answer]
        top, bottom, left, right = map(int, numbers)
    except (TypeError, ValueError) as error:
        raise Wrong(words) from error
    if any(number % 1 for number in numbers):
        raise Wrong(words)
    codes = vqvae2.get_code_indices(images)
    z_top, z_bottom = codes["indices_top"], codes["indices_bottom"]
    before, change = vqvae2.decode_codes(z_top, z_bottom), 0.0
    for code in range(0, vqvae2.num_embeddings, 8):
        other = z_top.clone()
        other[:, position[0], position[1]] = code
        after = vqvae2.decode_codes(other, z_bottom)
        change = change + (after - before).abs().mean(dim=(0, 1))  # [S, S]
    side = vqvae2.image_size // vqvae2.latent_spatial_dim_top
    size = (bottom - top + 1, right - left + 1)
    if min(size) < 1:
        raise Wrong("the first row comes before the last, and so does the column")
    if size != (side, side):
        raise Wrong(
            f"your square has {size[0]} rows and {size[1]} columns; how many pixels "
            f"are there to a code, when {vqvae2.latent_spatial_dim_top} codes go "
            f"across {vqvae2.image_size} pixels?"
        )
    inside = change[max(top, 0) : bottom + 1, max(left, 0) : right + 1]
    squares = change.unfold(0, side, side).unfold(1, side, side).mean(dim=(2, 3))
    if inside.numel() != side * side or inside.mean() < squares.max():
        turned = change[max(left, 0) : right + 1, max(top, 0) : bottom + 1]
        if turned.numel() == side * side and turned.mean() >= squares.max():
            raise Wrong(
                "when the code is changed, other pixels change more than those; which "
                "two of your numbers are rows, and which are columns?"
            )
        raise Wrong(
            "when the code is changed, other pixels change more than those; count "
            "codes and pixels from 0"
        )
    return "when the code is changed, these pixels change most, averaged over images"


def suspects(heldout: CodeData) -> CodeData:
    """Codes of eight images for *your turn* B, one of each of the first eight classes.

    One of them, drawn by a seed, has the top codes of another image of its class.

    Args:
        heldout: codes of at least 21 images of each of these classes.
    """
    generator = torch.Generator().manual_seed(7)
    changed = torch.randint(8, (), generator=generator).item()
    of_class = [(heldout.labels == label).nonzero().flatten() for label in range(8)]
    eight = heldout.subset(torch.stack([numbers[10] for numbers in of_class]))
    eight.z_top[changed] = heldout.z_top[of_class[changed][20]]
    return eight


@judged
def impostor(answer, prior: HierarchicalPixelCNN, codes: CodeData) -> str:
    """The answer is the image whose bottom codes cost the prior most, given its top
    codes.
    """
    answer = need_number(answer)
    nats = image_nats(prior.prior_bottom, codes) / codes.z_bottom[0].numel()  # [N]
    if answer not in range(len(nats)):
        raise Wrong(f"{answer:g} is no image; count from 0 to {len(nats) - 1}")
    cost = nats[int(answer)]
    if answer != nats.argmax():
        raise Wrong(
            f"given its top codes, image {answer:g} costs {cost:.1f} nats per bottom "
            "code, and another image costs more"
        )
    next_most = nats.sort().values[-2]
    return (
        f"given its top codes, image {answer:g} costs {cost:.1f} nats per bottom code, "
        f"the next {next_most:.1f}, and the median is {nats.median():.1f}"
    )
