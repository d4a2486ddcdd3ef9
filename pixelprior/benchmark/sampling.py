"""How fast this machine samples and trains, as ratios that carry to other machines.

All methods and batch sizes are timed in turns, round after round, so that a machine
that slows down for a while slows all of them. They are compared with one forward pass
of the same batch, which performs as many multiplications as a whole draw by `cached`.
The ratios are computed in `report.py`.
"""

import copy
import time
from dataclasses import asdict
from functools import partial

import torch
from torch import Tensor

from pixelprior.benchmark import timing
from pixelprior.benchmark.counting import multiply_adds
from pixelprior.benchmark.sizes import Sizes
from pixelprior.cache import PixelCNNCache
from pixelprior.devices import has_bf16, machine
from pixelprior.prior import LEVELS, HierarchicalPixelCNN
from pixelprior.progress import progress_bar
from pixelprior.sampling import (
    draw,
    probabilities,
    rows_so_far,
    sample_codes,
    uniforms,
    whole_grid,
)

SECONDS = 0.2  # each run is repeated for at least this long
LONGEST_DRAW = 60  # seconds of a naive draw that is timed as a whole
PASSES = 4  # passes of `naive` and of `rows` per round, in rows spread over the grid


def untrained_prior(sizes: Sizes) -> HierarchicalPixelCNN:
    """An untrained prior of these sizes; the weights do not affect the time."""
    torch.manual_seed(0)
    return HierarchicalPixelCNN(
        sizes.num_embeddings,
        sizes.embedding_dim,
        sizes.hidden_channels,
        sizes.num_layers,
    ).eval()


@torch.no_grad()
def measure(sizes: Sizes, device, say=lambda line: None) -> dict:
    """Time every method that this machine can run, and one training step.

    Args:
        sizes: the sizes to time.
        device: the device to time on.
        say: called with one line when a round is done.

    Returns:
        The content of `benchmark.json`: machine, sizes, multiply-adds, bytes, and the
        seconds of each round: seconds["64"]["bottom"]["cached"] is a list with one
        number per round. For `naive` and `rows` a number is the mean of `PASSES` passes
        times the number of codes. This saves time and does not change the result,
        because all passes of `naive` are alike and the rows have the mean height.
    """
    sizes.check()
    prior = untrained_prior(sizes).to(device)
    low = copy.deepcopy(prior).bfloat16() if has_bf16() else None
    jobs = {
        (str(batch_size), level): _jobs(prior, low, level, batch_size, sizes)
        for batch_size in sizes.batch_sizes
        for level in LEVELS
    }
    seconds = _in_turns(jobs, sizes.repeats, device, say)
    return {
        "machine": machine(device),
        "sizes": asdict(sizes),
        "seconds": seconds,
        "shares": {str(b): _shares(prior, sizes, b) for b in sizes.batch_sizes},
        "multiply_adds": _multiply_adds(prior, sizes),
        "cache_bytes": _cache_bytes(prior, sizes, max(sizes.batch_sizes)),
        "naive_in_full": _naive_in_full(prior, sizes, device),
        "training": _training(prior, sizes, device),
    }


def _condition(prior, level: str, batch_size: int, sizes: Sizes) -> Tensor | None:
    if level == "top":
        return None
    device = next(prior.parameters()).device
    z_top = torch.zeros(batch_size, *sizes.shape("top"), dtype=torch.long)
    shape = (batch_size, *sizes.shape("bottom"))
    return prior.prior_bottom.top_condition(z_top.to(device), shape, None)


def _jobs(prior, low, level: str, batch_size: int, sizes: Sizes) -> dict:
    """For each method, (a function that runs it or a part of it, runs per draw)."""
    height, width = sizes.shape(level)
    model = getattr(prior, f"prior_{level}")
    device = model.embedding.weight.device
    condition = _condition(prior, level, batch_size, sizes)
    uniform = uniforms(0, 0, batch_size, height * width)
    codes = torch.zeros(batch_size, height, width, dtype=torch.long, device=device)
    # As many rows above the middle as below, so that their mean height is that of all.
    upper = [int((i + 0.5) * height / PASSES) for i in range(PASSES // 2)]
    rows = upper + [height - 1 - y for y in upper]

    @torch.inference_mode()
    def forward():
        model.logits(codes, condition)

    @torch.inference_mode()
    def passes(network):
        for y in rows:
            logits = network(model, codes, condition, y, width // 2)
            draw(probabilities(logits), uniform[:, 0].to(device))

    def sampled(of, bias, method):
        return lambda: sample_codes(of, (height, width), uniform, bias, method=method)

    jobs = {
        "forward": (forward, 1),
        "naive": (lambda: passes(whole_grid), height * width / PASSES),
        "rows": (lambda: passes(rows_so_far), height * width / PASSES),
        "cached": (sampled(model, condition, "cached"), 1),
    }
    if device.type == "cuda":
        jobs["graph"] = (sampled(model, condition, "graph"), 1)
    if low is not None:
        bias = None if condition is None else condition.bfloat16()
        rounded = getattr(low, f"prior_{level}")
        jobs["cached bf16"] = (sampled(rounded, bias, "cached"), 1)
    return jobs


def _in_turns(jobs: dict, repeats: int, device, say) -> dict:
    """Time all jobs: {batch size: {level: {method: [seconds of each round]}}}."""
    seconds = {}
    with progress_bar(total=(repeats + 1) * len(jobs), desc="timing") as bar:
        for of in jobs.values():
            for run, _ in of.values():
                run()  # the first run is slower
            bar.update()
        for number in range(repeats):
            for (batch_size, level), of in jobs.items():
                kept = seconds.setdefault(batch_size, {}).setdefault(level, {})
                for name, (run, times) in of.items():
                    kept.setdefault(name, []).append(times * _seconds(run, device))
                bar.update()
            say(f"round {number + 1} of {repeats} timed")
    return seconds


def _seconds(run, device) -> float:
    """Mean seconds of a run, over as many runs as fill `SECONDS`."""
    return timing.seconds(run, device, SECONDS)


@torch.inference_mode()
def _shares(prior, sizes: Sizes, batch_size: int) -> dict[str, float]:
    """Seconds that `cached` spends on each of its parts, both levels together."""
    seconds = dict.fromkeys(("caches", "rows", "codes", "drawing", "keeping"), 0.0)

    def timed(name: str, run, *arguments):
        started = time.perf_counter()
        result = run(*arguments)
        timing.wait_for(prior.prior_top.embedding.weight.device)
        seconds[name] += time.perf_counter() - started
        return result

    for level in LEVELS:
        model, shape = getattr(prior, f"prior_{level}"), sizes.shape(level)
        condition = _condition(prior, level, batch_size, sizes)
        uniform = uniforms(0, 0, batch_size, 1)[:, 0].to(model.embedding.weight.device)
        cache = timed("caches", PixelCNNCache, model, batch_size, shape)
        for y in range(shape[0]):
            row = []
            above = None if condition is None else condition[:, :, y : y + 1].clone()
            timed("rows", cache.row_step, above)
            for x in range(shape[1]):
                logits = timed("codes", cache.code_step, x)
                probs = timed("drawing", probabilities, logits)
                row.append(timed("drawing", draw, probs, uniform))
                timed("keeping", cache.keep_code, row[-1])
            timed("keeping", cache.keep_row, torch.stack(row, dim=1))
    return seconds


def _multiply_adds(prior, sizes: Sizes) -> dict[str, int]:
    """Multiply-adds of both levels for one image, as torch's counter counts them."""

    counts = dict.fromkeys(("forward", "naive", "rows", "cached"), 0)
    for level in LEVELS:
        model = getattr(prior, f"prior_{level}")
        height, width = shape = sizes.shape(level)
        condition = _condition(prior, level, 1, sizes)
        numbers = uniforms(0, 0, 1, height * width)
        codes = sample_codes(model, shape, numbers, condition)
        forward = multiply_adds(model.logits, codes, condition)
        counts["forward"] += forward
        counts["naive"] += height * width * forward
        for y in range(height):
            one = multiply_adds(rows_so_far, model, codes, condition, y, 0)
            counts["rows"] += width * one
        counts["cached"] += multiply_adds(
            sample_codes, model, shape, numbers, condition
        )
    return counts


def _cache_bytes(prior, sizes: Sizes, batch_size: int) -> dict:
    """Bytes that `cached` keeps from step to step, beside one row of both stacks."""
    of_levels = {}
    for level in LEVELS:
        model = getattr(prior, f"prior_{level}")
        _, width = shape = sizes.shape(level)
        row = 2 * batch_size * sizes.hidden_channels * width * sizes.num_layers
        of_levels[level] = {
            "batch_size": batch_size,
            "cache": PixelCNNCache(model, batch_size, shape).nbytes,
            "row_of_activations": row * model.embedding.weight.element_size(),
        }
    return of_levels


def _naive_in_full(prior, sizes: Sizes, device) -> dict | None:
    """Seconds of a naive draw of the smallest batch, whole and from its passes.

    None if it would take longer than `LONGEST_DRAW`.
    """
    batch_size = min(sizes.batch_sizes)
    whole = from_passes = 0.0
    for level in LEVELS:
        shape = sizes.shape(level)
        model = getattr(prior, f"prior_{level}")
        condition = _condition(prior, level, batch_size, sizes)
        numbers = uniforms(0, 0, batch_size, shape[0] * shape[1])
        run, times = _jobs(prior, None, level, batch_size, sizes)["naive"]
        from_passes += times * _seconds(run, device)
        if from_passes > LONGEST_DRAW:
            return None
        draw_all = partial(sample_codes, model, shape, numbers, condition)
        whole += timing.seconds(partial(draw_all, method="naive"), device)
    return {"batch_size": batch_size, "whole": whole, "from_passes": from_passes}


def _training(prior, sizes: Sizes, device, batch_size: int = 16) -> dict:
    """Seconds of a step, forward and backward, beside one forward pass of the batch."""
    prior = copy.deepcopy(prior).train()
    z_top, z_bottom = (
        torch.zeros(batch_size, *sizes.shape(level), dtype=torch.long, device=device)
        for level in LEVELS
    )
    kind = torch.device(device).type

    def step(low: bool, backward: bool):
        with (
            torch.set_grad_enabled(backward),
            torch.autocast(kind, torch.bfloat16, enabled=low),
        ):
            loss = prior.loss_function(z_top, z_bottom)["total_loss"]
        if backward:
            loss.backward()
            prior.zero_grad(set_to_none=True)

    jobs = {"forward": lambda: step(False, False), "step": lambda: step(False, True)}
    if has_bf16():
        jobs["step in bf16"] = lambda: step(True, True)
    for run in jobs.values():
        run()
    seconds = {name: [] for name in jobs}
    for _ in range(sizes.repeats):
        for name, run in jobs.items():
            seconds[name].append(_seconds(run, device))
    return {"batch_size": batch_size, **seconds}


def bfloat16_effect(vqvae2, prior: HierarchicalPixelCNN, count: int = 256) -> dict:
    """How sampling in bf16 changes the codes of a trained prior.

    Args:
        vqvae2: gives the sizes of the grids. prior: a trained prior in float32.
        count: number of images to draw in each number format.

    Returns:
        For each level, the share of codes that differ from the float32 sampler's, and
        the nats per code of both samplers' codes under the float32 prior.
    """
    samplers = {"float32": prior, "bfloat16": copy.deepcopy(prior).bfloat16()}
    labels, drawn, effect = prior.labels_in_turn(count), {}, {}
    if labels is not None:
        labels = labels.to(next(prior.parameters()).device)
    for name, sampler in samplers.items():
        drawn[name] = sampler.sample(count, *vqvae2.grids, labels=labels, seed=0)
    with torch.no_grad():
        losses = {
            name: prior.loss_function(*codes, labels) for name, codes in drawn.items()
        }
    for level, one, other in zip(LEVELS, *drawn.values(), strict=True):
        effect[level] = {
            "share_that_differs": (one != other).float().mean().item(),
            **{name: losses[name][f"{level}_loss"].item() for name in samplers},
        }
    return effect
