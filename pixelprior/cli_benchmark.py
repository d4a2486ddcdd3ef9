"""The command `benchmark`: time this machine, and keep what came out."""

import json
import os
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated

import tyro

from pixelprior.assets import load_shipped
from pixelprior.benchmark import Sizes, measure
from pixelprior.benchmark_report import figure, markdown
from pixelprior.checkpoints import temporary_folder, writable_folder
from pixelprior.evaluation import bfloat16_effect
from pixelprior.validation import usable_device
from pixelprior.viz import save_picture


@dataclass(kw_only=True)
class Benchmark:
    """Time sampling by every method, and a training step, as ratios. The defaults take
    about ten minutes on two cores; nothing else should run meanwhile."""

    sizes: Annotated[Sizes, tyro.conf.arg(name="")] = field(default_factory=Sizes)
    output_dir: Path = Path("./pixelprior_benchmark")
    """Folder for benchmark.json, benchmark.md and benchmark.png."""
    device: str | None = None
    """Device to time, such as cuda; the GPU if there is one."""

    def run(self) -> None:
        self.sizes.check()
        device = usable_device(self.device)
        folder = writable_folder(self.output_dir)
        say = partial(print, file=sys.stderr)
        results = measure(self.sizes, device, say)
        if results["machine"]["bf16"]:
            results["bf16_effect"] = bfloat16_effect(load_shipped()[1].to(device))
        with temporary_folder(folder) as temporary:
            kept = {
                "benchmark.json": json.dumps(results, indent=1),
                "benchmark.md": markdown(results),
            }
            for name, content in kept.items():
                (temporary / name).write_text(content + "\n", encoding="utf-8")
                os.replace(temporary / name, folder / name)
        print(markdown(results))
        print(f"wrote {save_picture(figure(results), folder / 'benchmark.png')}")
