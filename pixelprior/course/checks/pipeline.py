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
    """The answer is a function as `bits_of_grid`."""
    for height, width, codes in ((1, 1, 8), (3, 5, 2), (4, 2, 30)):
        got = call(answer, height, width, codes)
        number = need_number(got, "what your function returns")
        wanted = bits_of_grid(height, width, codes)
        found = (
            f"a grid of {height} × {width} codes, each one of {codes}, takes "
            f"{number:.2f} by your function"
        )
        if math.isclose(number, wanted * math.log(2), rel_tol=1e-3):
            raise Wrong(f"{found}; is that the logarithm with base 2?")
        if not math.isclose(number, wanted, rel_tol=1e-6):
            raise Wrong(f"{found}; what are the bits of one code, and how many codes?")
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
    prior, runs = HierarchicalPixelCNN(4, 2, 2, 1), []
    for level in (prior.prior_top, prior.prior_bottom):
        level.head.register_forward_hook(lambda *_: runs.append(1))
    prior.sample(batch_size, top_shape, bottom_shape, seed=0, method="naive")
    if answer != len(runs):
        few = "fewer" if answer < len(runs) else "more"
        raise Wrong(
            f"{answer:g} is {few} than were counted while {batch_size} images were "
            "drawn; how many codes does one image have, and is a run for one image or "
            "for the whole batch?"
        )
    return f"{len(runs)} runs were counted while {batch_size} images were drawn"


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
    top, bottom, left, right = map(int, answer)
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
    if size != (side, side):
        raise Wrong(
            f"your square has {size[0]} rows and {size[1]} columns; how many pixels "
            f"are there to a code, when {vqvae2.latent_spatial_dim_top} codes go "
            f"across {vqvae2.image_size} pixels?"
        )
    squares = change.unfold(0, side, side).unfold(1, side, side).mean(dim=(2, 3))
    y, x = (side * n for n in divmod(squares.argmax().item(), squares.shape[1]))
    found = "when the code is changed, other pixels change more than those; "
    if (top, left) == (x, y):
        raise Wrong(
            f"{found}which two of your numbers are rows, and which are columns?"
        )
    if (top, left) != (y, x):
        raise Wrong(f"{found}count codes and pixels from 0")
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
