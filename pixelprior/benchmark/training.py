"""How fast training is: this package's loop beside plain loops of the same network.

Each loop trains the prior from the same weights on the codes of the embedded images. It
runs in a process of its own, because the handling of freed memory is a setting of the
whole process. The plain loops are straightforward ones: float32 or autocast, AdamW,
clipping and the same learning rates, on codes that are already extracted.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict

import torch

from pixelprior.assets import load_shipped
from pixelprior.benchmark.sizes import TrainingSizes
from pixelprior.data.codes import CodeData, extract_codes
from pixelprior.data.images import load_images
from pixelprior.devices import has_bf16, keep_freed_memory, machine, make_accelerator
from pixelprior.prior import HierarchicalPixelCNN
from pixelprior.progress import progress_bar
from pixelprior.schedule import learning_rate_factor
from pixelprior.settings import TrainingSettings
from pixelprior.training import fit

LOOPS = {
    "plain": "plain loop, float32",
    "autocast": "plain loop, bf16 by autocast",
    "fit": "this package's",
    "plain, another seed": "plain loop, float32, another seed",
}


def measure_training(sizes: TrainingSizes, say=lambda line: None) -> dict:
    """Time all loops in turns, and keep their loss curves.

    Returns:
        The content of `training.json`: machine, sizes, and for each loop its steps per
        second in each round and the mean loss of each part in nats per code, summed
        over both levels.
    """
    sizes.check()
    images = len(load_images("fashion_mnist_mini", "train"))
    if sizes.steps * sizes.batch_size > images:
        raise ValueError(
            f"steps × batch_size is {sizes.steps * sizes.batch_size}, but there are "
            f"{images:,} embedded images; choose fewer of either"
        )
    loops = [name for name in LOOPS if has_bf16() or name != "autocast"]
    results = {"machine": machine("cpu"), "sizes": asdict(sizes), "loops": {}}
    for number in range(sizes.repeats):
        for name in progress_bar(loops, desc=f"round {number + 1}"):
            run = subprocess.run(
                [sys.executable, "-m", __spec__.name, name, json.dumps(asdict(sizes))],
                stdout=subprocess.PIPE,
                text=True,
                check=True,
                env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},  # all on the CPU
            )
            found = json.loads(run.stdout.splitlines()[-1])
            kept = results["loops"].setdefault(name, {"steps_per_second": []})
            kept["steps_per_second"].append(found["steps_per_second"])
            kept["losses"] = found["losses"]  # the same in each round
        say(f"round {number + 1} of {sizes.repeats} timed")
    return results


def training_markdown(results: dict) -> str:
    """A table of the loops, and the largest distances between their loss curves."""
    loops, sizes = results["loops"], results["sizes"]
    plain = loops["plain"]
    lines = [
        "| loop | steps per second ÷ plain | steps per second | loss at the end, nats "
        "per code of both levels |",
        "|---|---:|---:|---:|",
    ]
    for name, words in LOOPS.items():
        if name not in loops:
            continue
        found = loops[name]
        pairs = zip(found["steps_per_second"], plain["steps_per_second"], strict=True)
        ratios = sorted(one / other for one, other in pairs)
        lines.append(
            f"| {words} | {statistics.median(ratios):.2f} ({ratios[0]:.2f} to "
            f"{ratios[-1]:.2f}) | {statistics.median(found['steps_per_second']):.2f} | "
            f"{found['losses'][-1]:.3f} |"
        )
    machine = results["machine"]
    lines += [
        "",
        f"- {sizes['hidden_channels']} channels, {sizes['num_layers']} blocks per "
        f"level, {sizes['batch_size']} images per step, "
        f"{sizes['epochs'] * sizes['steps']} steps; median of rounds (lowest to "
        f"highest): {sizes['repeats']}",
        f"- machine: {machine['processor']}, {machine['threads']} threads; torch "
        f"{machine['torch']}",
    ]
    for name in ("autocast", "fit", "plain, another seed"):
        if name in loops:
            apart = max(
                abs(one - other)
                for one, other in zip(
                    loops[name]["losses"], plain["losses"], strict=True
                )
            )
            lines.append(
                f"- loss curve, {LOOPS[name]}: within {apart:.3f} nats of the plain "
                "loop's"
            )
    return "\n".join(lines)


def _settings(sizes: TrainingSizes, seed: int) -> TrainingSettings:
    return TrainingSettings(
        epochs=sizes.epochs, batch_size=sizes.batch_size, lr=1e-3, seed=seed
    )


def _prior(sizes: TrainingSizes, codes: CodeData, seed: int) -> HierarchicalPixelCNN:
    torch.manual_seed(seed)
    return HierarchicalPixelCNN(
        codes.num_embeddings, 64, sizes.hidden_channels, sizes.num_layers, dropout=0.0
    )


def _codes(sizes: TrainingSizes) -> CodeData:
    data = load_images("fashion_mnist_mini", "train")
    count = sizes.steps * sizes.batch_size
    data.images, data.labels = data.images[:count], data.labels[:count]
    codes = extract_codes(load_shipped()[0], data)
    codes.labels = None
    return codes


def _plain(sizes: TrainingSizes, codes: CodeData, seed: int, low: bool) -> dict:
    """A plain training loop."""
    settings, prior = _settings(sizes, seed), _prior(sizes, codes, seed)
    optimizer = torch.optim.AdamW(
        prior.parameters(), lr=settings.lr, weight_decay=settings.weight_decay
    )
    factor = learning_rate_factor(settings, sizes.epochs * sizes.steps)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    losses, seconds = [], []
    for epoch in range(sizes.epochs):
        shuffle = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        order = torch.randperm(len(codes), generator=shuffle)
        started, total = time.perf_counter(), 0.0
        for indices in order.split(sizes.batch_size):
            with torch.autocast("cpu", torch.bfloat16, enabled=low):
                loss = prior.loss_function(*codes.batch(indices))["total_loss"]
            optimizer.zero_grad()
            loss.backward()
            for level in (prior.prior_top, prior.prior_bottom):
                torch.nn.utils.clip_grad_norm_(level.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            total += loss.item()
        seconds.append(time.perf_counter() - started)
        losses.append(total / sizes.steps)
    return {"losses": losses, "steps_per_second": _speed(sizes, seconds)}


def _fit(sizes: TrainingSizes, codes: CodeData) -> dict:
    """This package's loop, as `train-prior` runs it."""
    settings = _settings(sizes, 0)
    keep_freed_memory()  # as the command line does
    with tempfile.TemporaryDirectory() as folder:
        accelerator = make_accelerator(settings, folder)
        few = CodeData(codes.z_top[:1], codes.z_bottom[:1], None, codes.num_embeddings)
        history = fit(
            _prior(sizes, codes, 0),
            codes,
            few,
            settings,
            folder,
            accelerator,
            log=lambda line: None,
        )
    seconds = [sizes.steps / epoch["steps_per_second"] for epoch in history]
    return {
        "losses": [epoch["train_total_loss"] for epoch in history],
        "steps_per_second": _speed(sizes, seconds),
    }


def _speed(sizes: TrainingSizes, seconds: list[float]) -> float:
    """Steps per second of the median part.

    The first part, which includes the warm-up, is left out if there are others.
    """
    return sizes.steps / statistics.median(seconds[1:] or seconds)


def main() -> None:
    name, sizes = sys.argv[1], TrainingSizes(**json.loads(sys.argv[2]))
    codes = _codes(sizes)
    if name == "fit":
        found = _fit(sizes, codes)
    else:
        seed = int(name == "plain, another seed")
        found = _plain(sizes, codes, seed, low=name == "autocast")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
