"""The command `benchmark`: time this machine, and write the results."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from pixelprior.benchmark.sizes import Sizes
from pixelprior.files import writable_folder


@dataclass(kw_only=True)
class Benchmark:
    """Time sampling by every method, and a training step, as ratios. The defaults take
    about ten minutes on two cores; no other program should run meanwhile."""

    sizes: Annotated[Sizes, tyro.conf.arg(name="")] = field(default_factory=Sizes)
    training: bool = False
    """Time whole training loops instead, with their loss curves: plain loops and this
    package's loop, on the codes of the embedded images."""
    training_batch_size: int = 32
    """Images per step of the training loops."""
    training_steps: int = 64
    """Number of steps of each training loop, in eight parts."""
    output_dir: Path = Path("./pixelprior_benchmark")
    """Folder for benchmark.json, .md and .png, or with --training for training.json and
    .md."""
    device: str | None = None
    """Device to time sampling on, such as cuda. If it is left out, the GPU is used if
    there is one."""

    def run(self) -> None:
        from pixelprior.assets import load_shipped
        from pixelprior.benchmark.report import figure, markdown, write_results
        from pixelprior.benchmark.sampling import bfloat16_effect, measure
        from pixelprior.benchmark.training import (
            PARTS,
            measure_training,
            training_markdown,
        )
        from pixelprior.devices import usable_device
        from pixelprior.plotting import save_picture

        device = usable_device(self.device)
        folder = writable_folder(self.output_dir)
        if self.training:
            results = measure_training(
                {
                    "batch_size": self.training_batch_size,
                    "epochs": PARTS,
                    "steps": max(1, self.training_steps // PARTS),
                    "repeats": self.sizes.repeats,
                    "hidden_channels": self.sizes.hidden_channels,
                    "num_layers": self.sizes.num_layers,
                }
            )
            write_results(folder, "training", results, training_markdown(results))
            return
        results = measure(self.sizes, device)
        if results["machine"]["bf16"]:
            vqvae2, prior = load_shipped()
            results["bf16_effect"] = bfloat16_effect(vqvae2, prior.to(device))
        write_results(folder, "benchmark", results, markdown(results))
        print(f"wrote {save_picture(figure(results), folder / 'benchmark.png')}")
