"""Compare a single masked stack with two stacks on real top codes, for notebook 02.

Run `python tools/try_stacks.py FILE.json`. Networks with about the same number of
weights in use are trained on the top codes of the 6,000 training images in the package,
from several seeds each, and measured on its 1,000 test images. The third network has
the blind spot of the first and is otherwise like the second, so that these two differ
in the blind spot alone.
"""

import argparse
import json
import statistics
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelprior.assets import load_shipped
from pixelprior.course.known_entropy import Embedded
from pixelprior.data.codes import extract_codes
from pixelprior.data.images import load_images
from pixelprior.devices import machine
from pixelprior.files import write_texts
from pixelprior.layers import MaskedConv2d
from pixelprior.pixelcnn import PixelCNN

BATCH, LAYERS, D, RATE = 48, 5, 32, 4e-3


def single_stack(K: int, p: int = 51) -> nn.Module:
    """The network of notebook 02, with p channels."""
    network = nn.Sequential(Embedded(K, D))
    for n in range(LAYERS):
        layer = MaskedConv2d("B" if n else "A", p if n else D, p)
        network.extend([layer, nn.ELU()])
    return network.append(nn.Conv2d(p, K, 1))


def two_stacks(K: int, p: int = 24) -> PixelCNN:
    return PixelCNN(K, D, p, num_layers=LAYERS, dropout=0)


def blinded(K: int, p: int = 25) -> PixelCNN:
    """Two stacks, of which the vertical one takes no step to the right within a row."""
    network = two_stacks(K, p)
    for block in list(network.blocks)[1:]:
        seen = torch.ones_like(block.vertical.weight)  # [2p, p, 2, 3]
        seen[:, :, -1, 2] = 0
        block.vertical.weight.data *= seen
        block.vertical.weight.register_hook(seen.mul)  # the gradient stays 0 there
    return network


NETWORKS = {
    "single_stack": single_stack,
    "two_stacks": two_stacks,
    "blinded": blinded,
}


def weights_in_use(network: nn.Module) -> int:
    """The number of weights that an output may depend on."""
    count = sum(each.numel() for each in network.parameters())
    for layer in network.modules():
        if isinstance(layer, MaskedConv2d):
            count -= int((layer.mask == 0).sum()) * layer.weight[:, :, 0, 0].numel()
    return count - sum(
        int((each == 0).sum()) for each in network.parameters() if each.ndim == 4
    )


def train(network: nn.Module, codes: Tensor, steps: int) -> None:
    """Train on codes [N, H, W], a random batch at each step."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps)
    for _ in range(steps):
        z = codes[torch.randint(len(codes), (BATCH,))]  # [B, H, W]
        loss = F.cross_entropy(network(z), z)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()


def main() -> None:
    """Train what the file does not have yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    vqvae2, _ = load_shipped()
    K, z = vqvae2.num_embeddings, {}
    for split in ("train", "test"):
        images = load_images("fashion_mnist_mini", split)
        z[split] = extract_codes(vqvae2, images).z_top.long()
    found = {"machine": machine("cpu"), "steps": options.steps, "batch_size": BATCH}
    found["networks"] = {
        name: {"weights_in_use": weights_in_use(make(K)), "nats": [], "map": []}
        for name, make in NETWORKS.items()
    }
    if options.file.exists():
        found = json.loads(options.file.read_text(encoding="utf-8"))
    for seed in range(options.seeds):
        for name, make in NETWORKS.items():
            each = found["networks"][name]
            if len(each["nats"]) == seed:
                torch.manual_seed(seed)
                network = make(K)
                train(network, z["train"], options.steps)
                with torch.no_grad():
                    logits = network(z["test"])
                nats = F.cross_entropy(logits, z["test"], reduction="none").mean(dim=0)
                each["nats"].append(round(nats.mean().item(), 5))
                total = torch.tensor(each["map"] or [0.0] * nats.numel()) * seed
                means = (total + nats.flatten()) / (seed + 1)  # [H * W]
                each["map"] = [round(n, 5) for n in means.tolist()]
                each["mean"] = round(statistics.mean(each["nats"]), 5)
            print(f"seed {seed}, {name}: {each['nats'][seed]:.4f}", flush=True)
        two, blind = (
            found["networks"][name]["nats"] for name in ("two_stacks", "blinded")
        )
        prices = [round(b - t, 5) for t, b in zip(two, blind, strict=True)]
        mean = round(statistics.mean(prices), 5)
        found["price"] = {"mean": mean, "of_each_seed": prices}
        text = json.dumps(found, indent=1)
        write_texts(options.file.absolute().parent, {options.file.name: text})


if __name__ == "__main__":
    main()
