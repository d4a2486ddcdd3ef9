"""Counting the multiplications of a computation, as torch runs its operations.

The count is the same on every processor, so that the cost of a sampler or of a training
step can be compared without measuring time.
"""

import math

import torch
from torch.utils.flop_counter import FlopCounterMode


def multiply_adds(run, *arguments, **options) -> int:
    """Multiply-adds of convolutions and matrix products in a run, forward and, if it
    calls `backward`, backward."""

    def product(_added, one, other, **_options) -> int:
        return 2 * math.prod(one) * other[-1]  # [..., m, k] times [..., k, n]

    # Torch's counter does not know in-place matrix products.
    in_place = dict.fromkeys((torch.ops.aten.addmm_, torch.ops.aten.baddbmm_), product)
    with FlopCounterMode(display=False, custom_mapping=in_place) as counter:
        run(*arguments, **options)
    return counter.get_total_flops() // 2
