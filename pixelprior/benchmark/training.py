"""How fast training is: this package's loop beside plain loops of the same network.

Each loop trains the prior from the same weights on the codes of the embedded images. It
runs in a process of its own, because the handling of freed memory is a setting of the
whole process. The plain loops are straightforward ones: float32 or autocast, AdamW,
clipping and the same learning rates, on codes that are already extracted.
"""

import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch

from pixelprior.assets import load_shipped
from pixelprior.benchmark.report import markdown_table, rounds_in_words
from pixelprior.data.codes import CodeData, extract_codes
from pixelprior.data.images import load_images
from pixelprior.devices import has_bf16, keep_freed_memory, machine, make_accelerator
from pixelprior.prior import HierarchicalPixelCNN
from pixelprior.progress import progress_bar
from pixelprior.settings import TrainingSettings, check_positive
from pixelprior.training import fit, learning_rate_factor

PARTS = 8  # of the loss curve, each with the same number of steps
LOOPS = {
    "plain": "plain loop, float32",
    "autocast": "plain loop, bf16 by autocast",
    "fit": "this package's",
    "plain, another seed": "plain loop, float32, another seed",
}


def measure_training(sizes: dict[str, int]) -> dict:
    """Time all loops in turns, on the CPU, and keep their loss curves.

    Args:
        sizes: batch_size; epochs, the number of parts of the loss curve; steps in each
            of these; repeats, the number of rounds; hidden_channels and num_layers.

    Returns:
        The content of `training.json`: for each loop its steps per second in each round
        and the mean loss of each part in nats per code, summed over both levels.
    """
    check_positive(**sizes)
    images = len(load_images("fashion_mnist_mini", "train"))
    if sizes["steps"] * sizes["batch_size"] > images:
        raise ValueError(
            f"steps × batch_size is {sizes['steps'] * sizes['batch_size']}, but there "
            f"are {images:,} embedded images; choose fewer of either"
        )
    names = [name for name in LOOPS if has_bf16(on_cpu=True) or name != "autocast"]
    loops = {name: {"steps_per_second": []} for name in names}
    for name in progress_bar(names * sizes["repeats"], desc="training", unit="loop"):
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            speed, losses = process.submit(run_loop, name, sizes).result()
        loops[name]["steps_per_second"].append(speed)
        loops[name]["losses"] = losses  # the same in each round
    return {"machine": machine("cpu"), "sizes": sizes, "loops": loops}


def training_markdown(results: dict) -> str:
    """A table of the loops, and the largest distances between their loss curves."""
    loops, sizes, machine = results["loops"], results["sizes"], results["machine"]
    plain, rows, apart = loops["plain"], [], []
    for name in [name for name in LOOPS if name in loops]:
        speeds, losses = loops[name]["steps_per_second"], loops[name]["losses"]
        ratios = [a / b for a, b in zip(speeds, plain["steps_per_second"], strict=True)]
        speed = f"{statistics.median(speeds):.2f}"
        rows.append([LOOPS[name], rounds_in_words(ratios), speed, f"{losses[-1]:.3f}"])
        most = max(abs(a - b) for a, b in zip(losses, plain["losses"], strict=True))
        if name != "plain":
            within = f"within {most:.3f} nats of the plain loop's"
            apart.append(f"- loss curve, {LOOPS[name]}: {within}")
    columns = ["loop", "steps per second ÷ plain", "steps per second"]
    columns.append("loss at the end, nats per code of both levels")
    lines = [
        "",
        f"- {sizes['hidden_channels']} channels, {sizes['num_layers']} blocks per "
        f"level, {sizes['batch_size']} images per step, "
        f"{sizes['epochs'] * sizes['steps']} steps; median of rounds (lowest to "
        f"highest): {sizes['repeats']}",
        f"- machine: {machine['processor']}, {machine['threads']} threads; torch "
        f"{machine['torch']}",
    ]
    return "\n".join([markdown_table(columns, rows), *lines, *apart])


def run_loop(name: str, sizes: dict[str, int]) -> tuple[float, list[float]]:
    """The steps per second of one loop in its median part, and the losses of all parts.

    The first part, which includes the warm-up, is left out if there are others.
    """
    data = load_images("fashion_mnist_mini", "train")
    few = data.subset(torch.arange(sizes["steps"] * sizes["batch_size"]))
    codes = extract_codes(load_shipped()[0], few)
    codes.labels = None
    seed = int(name == "plain, another seed")
    settings = TrainingSettings(
        epochs=sizes["epochs"], batch_size=sizes["batch_size"], lr=1e-3, seed=seed
    )
    torch.manual_seed(seed)
    network = (codes.num_embeddings, 64, sizes["hidden_channels"], sizes["num_layers"])
    prior = HierarchicalPixelCNN(*network, dropout=0.0)
    if name == "fit":
        keep_freed_memory()  # as the command line does
        with tempfile.TemporaryDirectory() as folder:
            accelerator = make_accelerator(settings, folder, on_cpu=True)
            one = codes.subset(torch.arange(1))  # held out
            given = one, settings, folder, accelerator
            epochs = fit(prior, codes, *given, log=lambda line: None)
        losses = [epoch["train_total_loss"] for epoch in epochs]
        speeds = [epoch["steps_per_second"] for epoch in epochs]
    else:
        losses, speeds = _plain(prior, codes, settings, low=name == "autocast")
    return 1 / statistics.median(1 / each for each in speeds[1:] or speeds), losses


def _plain(prior, codes: CodeData, settings: TrainingSettings, low: bool):
    """A plain training loop: the mean loss and the steps per second of each epoch."""
    optimizer = torch.optim.AdamW(
        prior.parameters(), lr=settings.lr, weight_decay=settings.weight_decay
    )
    steps = len(codes) // settings.batch_size
    factor = learning_rate_factor(settings, settings.epochs * steps)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    losses, speeds = [], []
    for epoch in range(settings.epochs):
        shuffle = torch.Generator().manual_seed(settings.seed * 1_000_003 + epoch)
        order = torch.randperm(len(codes), generator=shuffle)
        started, total = time.perf_counter(), 0.0
        for indices in order.split(settings.batch_size):
            with torch.autocast("cpu", torch.bfloat16, enabled=low):
                loss = prior.loss_function(*codes.batch(indices))["total_loss"]
            optimizer.zero_grad()
            loss.backward()
            for level in (prior.prior_top, prior.prior_bottom):
                torch.nn.utils.clip_grad_norm_(level.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            total += loss.item()
        speeds.append(steps / (time.perf_counter() - started))
        losses.append(total / steps)
    return losses, speeds
