"""The command `benchmark`: time this machine, and write the results."""

import json
import sys
from functools import partial
from pathlib import Path

from pixelprior.assets import load_shipped
from pixelprior.benchmark.report import figure, markdown
from pixelprior.benchmark.sampling import bfloat16_effect, measure
from pixelprior.benchmark.sizes import TrainingSizes
from pixelprior.benchmark.training import (
    measure_training,
    training_markdown,
)
from pixelprior.cli.flags import Benchmark
from pixelprior.devices import usable_device
from pixelprior.files import (
    writable_folder,
    write_texts,
)
from pixelprior.pictures import save_picture


def benchmark(flags: Benchmark) -> None:
    flags.sizes.check()
    device = usable_device(flags.device)
    folder = writable_folder(flags.output_dir)
    say = partial(print, file=sys.stderr)
    if flags.training:
        sizes = TrainingSizes(
            batch_size=flags.training_batch_size,
            steps=max(1, flags.training_steps // TrainingSizes.epochs),
            repeats=flags.sizes.repeats,
            hidden_channels=flags.sizes.hidden_channels,
            num_layers=flags.sizes.num_layers,
        )
        results = measure_training(sizes, say)
        keep(folder, "training", results, training_markdown(results))
        return
    results = measure(flags.sizes, device, say)
    if results["machine"]["bf16"]:
        vqvae2, prior = load_shipped()
        results["bf16_effect"] = bfloat16_effect(vqvae2, prior.to(device))
    keep(folder, "benchmark", results, markdown(results))
    print(f"wrote {save_picture(figure(results), folder / 'benchmark.png')}")


def keep(folder: Path, name: str, results: dict, words: str) -> None:
    """Write the results as JSON and in words, and print the words."""
    texts = {f"{name}.json": json.dumps(results, indent=1), f"{name}.md": words}
    write_texts(folder, texts)
    print(words)
