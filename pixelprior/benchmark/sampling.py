"""How fast this machine samples and trains, as ratios that carry to other machines.

All methods and batch sizes are timed in turns, round after round, so that a machine
that slows down for a while slows all of them. They are compared with one forward pass
of the same batch, which performs as many multiplications as a whole draw by `cached`.
The ratios are computed in `report.py`.
"""

import copy
from dataclasses import asdict
from functools import partial

import torch

from pixelprior.benchmark import timing
from pixelprior.benchmark.counting import multiply_adds
from pixelprior.benchmark.sizes import Sizes
from pixelprior.devices import has_bf16, machine
from pixelprior.prior import LEVELS, HierarchicalPixelCNN
from pixelprior.progress import progress_bar
from pixelprior.sampling import (
    inverse_cdf,
    probabilities,
    rows_so_far,
    sample_codes,
    uniforms,
    whole_grid,
)
from pixelprior.settings import SamplingOptions

SECONDS = 0.2  # each run is repeated for at least this long
PASSES = 4  # passes of `naive` and of `rows` per round, in rows spread over the grid
TRAINED = 16  # images of a training step


@torch.no_grad()
def measure(sizes: Sizes, device) -> dict:
    """Time every method that this machine can run, and one training step.

    Returns:
        The content of `benchmark.json`: machine, sizes, multiply-adds, and the seconds
        of each round: seconds["64"]["bottom"]["cached"] is a list with one number per
        round. For `naive` and `rows` a number is the mean of `PASSES` passes times the
        number of codes. This saves time and does not change the result, because all
        passes of `naive` are alike and the rows have the mean height.
    """
    torch.manual_seed(0)
    network = (sizes.hidden_channels, sizes.num_layers)
    # Untrained: the weights do not affect the time.
    prior = HierarchicalPixelCNN(sizes.num_embeddings, sizes.embedding_dim, *network)
    prior = prior.eval().to(device)
    low = copy.deepcopy(prior).bfloat16() if has_bf16() else None
    seconds, training, jobs = {}, {}, []
    for batch_size in sizes.batch_sizes:
        levels = seconds[str(batch_size)] = {level: {} for level in LEVELS}
        for level, rounds in levels.items():
            for job in _sampling(prior, low, level, batch_size, sizes):
                jobs.append((rounds, *job))
    jobs += [(training, *job) for job in _training(prior, sizes)]
    for rounds, name, run, _ in progress_bar(jobs, desc="first runs"):
        run()  # the first run is slower
        rounds[name] = []
    for rounds, name, run, times in progress_bar(jobs * sizes.repeats, desc="timing"):
        rounds[name].append(times * timing.seconds(run, device, SECONDS))
    return {
        "machine": machine(device),
        "sizes": asdict(sizes),
        "seconds": seconds,
        "multiply_adds": counted(prior, sizes),
        "training": {"batch_size": TRAINED, **training},
    }


def _given(prior, level: str, batch_size: int, sizes: Sizes):
    """A level, codes [B, H, W] of 0 alone, and what it is given of such top codes."""
    model, device = getattr(prior, f"prior_{level}"), next(prior.parameters()).device
    top, codes = (
        torch.zeros(batch_size, *sizes.shape(name), dtype=torch.long, device=device)
        for name in ("top", level)
    )
    if level == "top":
        return model, codes, None
    return model, codes, model.conditioning(top, None, codes.shape)


def _sampling(prior, low, level: str, batch_size: int, sizes: Sizes):
    """(method, a function that runs it or a part of it, runs per draw) in turn."""
    height, width = shape = sizes.shape(level)
    model, codes, condition = _given(prior, level, batch_size, sizes)
    uniform = uniforms(0, 0, batch_size, height * width)
    # As many rows above the middle as below, so that their mean height is that of all.
    upper = [int((i + 0.5) * height / PASSES) for i in range(PASSES // 2)]
    rows = upper + [height - 1 - y for y in upper]

    @torch.inference_mode()
    def passes(network):
        for y in rows:
            logits = network(model, codes, condition, y, width // 2)
            inverse_cdf(probabilities(logits), uniform[:, 0].to(codes.device))

    def drawn(network, bias, method: str):
        options = SamplingOptions(method=method)
        return partial(sample_codes, network, shape, uniform, bias, options)

    yield "forward", torch.inference_mode()(partial(model.logits, codes, condition)), 1
    yield "naive", partial(passes, whole_grid), height * width / PASSES
    yield "rows", partial(passes, rows_so_far), height * width / PASSES
    yield "cached", drawn(model, condition, "cached"), 1
    if codes.is_cuda:
        yield "graph", drawn(model, condition, "graph"), 1
    if low is not None:
        bias = None if condition is None else condition.bfloat16()
        yield "cached bf16", drawn(getattr(low, f"prior_{level}"), bias, "cached"), 1


def _training(prior, sizes: Sizes):
    """Likewise a training step, and one forward pass of the same batch."""
    prior = copy.deepcopy(prior).train()
    codes = [_given(prior, level, TRAINED, sizes)[1] for level in LEVELS]

    def step(low: bool, backward: bool):
        in_bf16 = torch.autocast(codes[0].device.type, torch.bfloat16, enabled=low)
        with torch.set_grad_enabled(backward), in_bf16:
            loss = prior.loss_function(*codes)["total_loss"]
        if backward:
            loss.backward()
            prior.zero_grad(set_to_none=True)

    yield "forward", partial(step, False, False), 1
    yield "step", partial(step, False, True), 1
    if has_bf16():
        yield "step in bf16", partial(step, True, True), 1


def counted(prior: HierarchicalPixelCNN, sizes: Sizes) -> dict[str, int]:
    """Multiply-adds of both levels for one image, by each method."""
    counts = dict.fromkeys(("forward", "naive", "rows", "cached"), 0)
    for level in LEVELS:
        height, width = shape = sizes.shape(level)
        model, codes, condition = _given(prior, level, 1, sizes)
        forward = multiply_adds(model.logits, codes, condition)
        counts["forward"] += forward
        counts["naive"] += height * width * forward
        for y in range(height):
            one = multiply_adds(rows_so_far, model, codes, condition, y, 0)
            counts["rows"] += width * one
        given = shape, uniforms(0, 0, 1, height * width), condition
        counts["cached"] += multiply_adds(sample_codes, model, *given)
    return counts


@torch.no_grad()
def bfloat16_effect(vqvae2, prior: HierarchicalPixelCNN, count: int = 256) -> dict:
    """How sampling in bf16 changes the codes of a trained prior: for each level, the
    share of codes that differ from the float32 sampler's, and the nats per code of both
    samplers' codes under the float32 prior. `count` images are drawn in each format."""
    samplers = {"float32": prior, "bfloat16": copy.deepcopy(prior).bfloat16()}
    labels, drawn, losses = prior.labels_in_turn(count), {}, {}
    if labels is not None:
        labels = labels.to(next(prior.parameters()).device)
    for name, sampler in samplers.items():
        drawn[name] = sampler.sample(count, *vqvae2.grids, labels=labels, seed=0)
        losses[name] = prior.loss_function(*drawn[name], labels)
    return {
        level: {
            "share_that_differs": (one != other).float().mean().item(),
            **{name: losses[name][f"{level}_loss"].item() for name in samplers},
        }
        for level, one, other in zip(LEVELS, *drawn.values(), strict=True)
    }
