"""Counting what a computation multiplies, operation by operation as torch runs it.

The count is the same on every processor, so that the cost of a sampler or of a training
step can be compared without a clock.
"""

import math

import torch
from torch.utils.flop_counter import FlopCounterMode


def multiply_adds(run, *arguments, **options) -> int:
    """Products of two numbers that `run(*arguments, **options)` adds up.

    Those of convolutions and of products of matrices are counted, forward and, where
    `run` calls `backward`, backward. Sums and functions of single numbers are not.
    """

    def product(_added, one, other, **_options) -> int:
        return 2 * math.prod(one) * other[-1]  # [..., m, k] times [..., k, n]

    # Torch's counter does not know products in place.
    in_place = dict.fromkeys((torch.ops.aten.addmm_, torch.ops.aten.baddbmm_), product)
    with FlopCounterMode(display=False, custom_mapping=in_place) as counter:
        run(*arguments, **options)
    return counter.get_total_flops() // 2
