"""Measure whether small priors learn from every seed.

Run `python tools/try_seeds.py FILE.json`. Priors of 24 and 32 channels and 2 and 4
blocks are each trained from 20 seeds on the codes of the embedded images, without
labels, and the bottom level without the top codes. Such priors have been seen to stay
at the unigram entropy. They are of today's design and of the first design, which had no
residual in the vertical stack and no bound of the condition. For each seed, the
held-out nats per code of both levels are kept. The file is written after each row of
seeds, and rows that are already in the file are not run again.
"""

import argparse
import itertools
import json
import tempfile
from multiprocessing import get_context
from pathlib import Path

import torch

from pixelprior.assets import load_shipped
from pixelprior.benchmark.sampling import machine
from pixelprior.checkpoints import load_model
from pixelprior.codes import extract_codes
from pixelprior.data import load_images
from pixelprior.devices import make_accelerator
from pixelprior.evaluation.measures import erase_top, nats_per_code
from pixelprior.files import write_texts
from pixelprior.prior import LEVELS, HierarchicalPixelCNN
from pixelprior.settings import TrainingSettings
from pixelprior.training import fit

SEEDS, STEPS, BATCH_SIZE, LR = 20, 120, 32, 3e-3
HELDOUT = 500
STUCK = 0.1  # a prior has to get this many nats per code below the unigram entropy


def codes_of(split: str):
    """Codes of the embedded images by the shipped VQ-VAE-2, without labels."""
    data = load_images("fashion_mnist_mini", split)
    if split == "test":
        data.images, data.labels = data.images[:HELDOUT], data.labels[:HELDOUT]
    else:
        count = STEPS * BATCH_SIZE
        data.images, data.labels = data.images[:count], data.labels[:count]
    codes = extract_codes(load_shipped()[0], data)
    codes.labels = None
    return codes


def train(job) -> dict[str, float]:
    """Held-out nats per code of each level after a short training."""
    channels, blocks, first_design, seed, train_codes, heldout = job
    torch.set_num_threads(1)
    settings = TrainingSettings(
        epochs=1,
        batch_size=BATCH_SIZE,
        lr=LR,
        ema_decay=0.0,
        mixed_precision="no",
        seed=seed,
    )
    found = {}
    for level in LEVELS:
        data, measured = train_codes, heldout
        if level == "bottom":
            data, measured = erase_top(train_codes), erase_top(heldout)
        torch.manual_seed(seed)
        model = HierarchicalPixelCNN(
            heldout.num_embeddings,
            16,
            channels,
            blocks,
            dropout=0.0,
            vertical_residual=not first_design,
            bounded_condition=not first_design,
        )
        with tempfile.TemporaryDirectory() as folder:
            fit(
                model,
                data,
                measured,
                settings,
                folder,
                make_accelerator(settings, folder),
                parts=(f"{level}_loss",),
                loss_options={"levels": (level,)},
                log=lambda line: None,
            )
            last = load_model(HierarchicalPixelCNN, Path(folder) / "last")
        found |= nats_per_code(last, measured, (level,))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    train_codes, heldout = codes_of("train"), codes_of("test")
    unigram = {level: heldout.unigram_entropy(level) for level in LEVELS}
    written = {
        "machine": machine("cpu"),
        "steps": STEPS,
        "batch_size": BATCH_SIZE,
        "lr": LR,
        "heldout_images": HELDOUT,
        "unigram_entropy": unigram,
        "stuck_within": STUCK,
        "rows": [],
    }
    if arguments.file.exists():
        written["rows"] = json.loads(arguments.file.read_text("utf-8"))["rows"]
    rows = itertools.product((24, 32), (2, 4), (True, False))
    done = [
        (row["channels"], row["blocks"], row["first_design"]) for row in written["rows"]
    ]
    with get_context("spawn").Pool(arguments.processes) as pool:
        for row in rows:
            if row in done:
                continue
            jobs = [(*row, seed, train_codes, heldout) for seed in range(SEEDS)]
            found = pool.map(train, jobs, chunksize=1)
            nats = {level: [run[level] for run in found] for level in LEVELS}
            stuck = {
                level: sum(value > unigram[level] - STUCK for value in nats[level])
                for level in LEVELS
            }
            channels, blocks, first_design = row
            written["rows"].append(
                {
                    "channels": channels,
                    "blocks": blocks,
                    "first_design": first_design,
                    "nats_per_code": nats,
                    "stuck": stuck,
                }
            )
            print(
                f"{row}: worst {[max(ends) for ends in nats.values()]}, {stuck}",
                flush=True,
            )
            texts = {arguments.file.name: json.dumps(written, indent=1)}
            write_texts(arguments.file.parent, texts)


if __name__ == "__main__":
    main()
