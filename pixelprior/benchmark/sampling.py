"""How fast this machine samples and trains, as ratios that carry to other machines.

All methods and batch sizes are timed in turns, round after round, so that a machine
that slows down for a while slows all of them. They are compared with one forward pass
of the same batch, which performs as many multiplications as a whole draw by `cached`.
The ratios are computed in `report.py`.
"""

import copy
from dataclasses import asdict

import torch
from torch import Tensor

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
def measure(sizes: Sizes, device, say=lambda line: None) -> dict:
    """Time every method that this machine can run, and one training step.

    Args:
        sizes: the sizes to time.
        device: the device to time on.
        say: called with one line when a round is done.

    Returns:
        The content of `benchmark.json`: machine, sizes, multiply-adds, and the seconds
        of each round: seconds["64"]["bottom"]["cached"] is a list with one number per
        round. For `naive` and `rows` a number is the mean of `PASSES` passes times the
        number of codes. This saves time and does not change the result, because all
        passes of `naive` are alike and the rows have the mean height.
    """
    torch.manual_seed(0)
    prior = HierarchicalPixelCNN(  # untrained: the weights do not affect the time
        sizes.num_embeddings,
        sizes.embedding_dim,
        sizes.hidden_channels,
        sizes.num_layers,
    ).eval()
    prior = prior.to(device)
    low = copy.deepcopy(prior).bfloat16() if has_bf16() else None
    jobs = {
        (str(batch_size), level): _jobs(prior, low, level, batch_size, sizes)
        for batch_size in sizes.batch_sizes
        for level in LEVELS
    }
    jobs["training"] = _training_jobs(prior, sizes)
    timed = _in_turns(jobs, sizes.repeats, device, say)
    training, seconds = timed.pop("training"), {}
    for (batch_size, level), of in timed.items():
        seconds.setdefault(batch_size, {})[level] = of
    return {
        "machine": machine(device),
        "sizes": asdict(sizes),
        "seconds": seconds,
        "multiply_adds": counted(prior, sizes),
        "training": {"batch_size": TRAINED, **training},
    }


def _condition(prior, level: str, batch_size: int, sizes: Sizes) -> Tensor | None:
    """What `level` is given of top codes that are all 0."""
    if level == "top":
        return None
    device = next(prior.parameters()).device
    z_top = torch.zeros(batch_size, *sizes.shape("top"), dtype=torch.long)
    shape = (batch_size, *sizes.shape("bottom"))
    return prior.prior_bottom.conditioning(z_top.to(device), None, shape)


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
            inverse_cdf(probabilities(logits), uniform[:, 0].to(device))

    def sampled(of, bias, method):
        options = SamplingOptions(method=method)
        return lambda: sample_codes(of, (height, width), uniform, bias, options)

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


def _training_jobs(prior, sizes: Sizes) -> dict:
    """A step, forward and backward, and one forward pass of the same batch."""
    prior = copy.deepcopy(prior).train()
    device = next(prior.parameters()).device
    codes = [
        torch.zeros(TRAINED, *sizes.shape(level), dtype=torch.long, device=device)
        for level in LEVELS
    ]

    def step(low: bool, backward: bool):
        with (
            torch.set_grad_enabled(backward),
            torch.autocast(device.type, torch.bfloat16, enabled=low),
        ):
            loss = prior.loss_function(*codes)["total_loss"]
        if backward:
            loss.backward()
            prior.zero_grad(set_to_none=True)

    jobs = {"forward": (lambda: step(False, False), 1)}
    jobs["step"] = (lambda: step(False, True), 1)
    if has_bf16():
        jobs["step in bf16"] = (lambda: step(True, True), 1)
    return jobs


def _in_turns(jobs: dict, repeats: int, device, say) -> dict:
    """Time all jobs: {what: {method: [seconds of each round]}}."""
    seconds = {what: {name: [] for name in of} for what, of in jobs.items()}
    with progress_bar(total=(repeats + 1) * len(jobs), desc="timing") as bar:
        for of in jobs.values():
            for run, _ in of.values():
                run()  # the first run is slower
            bar.update()
        for number in range(repeats):
            for what, of in jobs.items():
                for name, (run, times) in of.items():
                    one = timing.seconds(run, device, SECONDS)
                    seconds[what][name].append(times * one)
                bar.update()
            say(f"round {number + 1} of {repeats} timed")
    return seconds


def counted(prior: HierarchicalPixelCNN, sizes: Sizes) -> dict[str, int]:
    """Multiply-adds of both levels for one image, by each method."""
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


@torch.no_grad()
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
