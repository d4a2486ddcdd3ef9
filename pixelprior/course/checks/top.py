"""Checks for notebook 04: baselines, learning rates, and images of one class."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from pixelprior.course.checks.verdict import (
    Wrong,
    call,
    judged,
    need_number,
    need_tensor,
)
from pixelprior.data.codes import CodeData
from pixelprior.data.images import FASHION_CLASSES
from pixelprior.evaluation.classifier import load_shipped_reference_models
from pixelprior.pixelcnn import PixelCNN
from pixelprior.settings import TrainingSettings
from pixelprior.training import learning_rate_factor

MARGIN = 0.1  # nats per code; another processor or seed changes a short run by less


@judged
def unigram_entropy(answer) -> str:
    """The answer is a function from codes [N, H, W] and K to the entropy of the codes'
    frequencies in nats.

    The check tries it on codes of known entropy, and then compares it with the package
    on random codes.
    """
    alike = torch.full((3, 4, 4), 2)
    _compare_entropy(answer, alike, 5, 0.0, "codes that are all the same")
    even = torch.arange(8).repeat(6).view(3, 4, 4)
    _compare_entropy(answer, even, 8, math.log(8), "8 codes, each as frequent")
    generator = torch.Generator().manual_seed(0)
    for num_embeddings in (16, 64):
        # Squaring makes small codes frequent and leaves some of the large codes out.
        numbers = torch.rand(20, 8, 8, generator=generator).square()
        codes = (numbers * (num_embeddings - 2)).long()
        right = CodeData((codes, codes), None, num_embeddings).unigram_entropy("top")
        what = f"random codes, {num_embeddings} in the codebook, some never used"
        _compare_entropy(answer, codes, num_embeddings, right, what)
    return "on codes of known entropy, and on random ones as the package has it"


def _compare_entropy(answer, codes, num_embeddings: int, right: float, what) -> None:
    value = call(answer, codes.clone(), num_embeddings)
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    if isinstance(value, float) and math.isnan(value):
        raise Wrong(
            f"for {what} you give nan; a code that never occurs has p = 0, and 0 · log "
            "0 counts as 0"
        )
    value = need_number(value, f"what you give for {what}")
    if abs(value - right) < 1e-3:
        return
    hint = "weigh the −log p of each code by p, and add them up"
    if right and abs(value + right) < 1e-3:
        hint = "the sign is the wrong way round"
    elif right and abs(value * math.log(2) - right) < 1e-3:
        hint = "those are bits; a nat goes with the natural logarithm"
    elif abs(value - math.exp(right)) < 1e-3:
        hint = "that is exp of the entropy, the perplexity"
    elif value > math.log(num_embeddings) + 1e-3:
        hint = "no entropy is above that of the uniform distribution"
    raise Wrong(f"for {what} you give {value:.3f} nats, which is not it: {hint}")


@judged
def learning_rate(answer, training: CodeData, heldout: CodeData) -> str:
    """The answer is a learning rate for a small network.

    The check trains the network on the top codes for a short time at this rate, at a
    tenth of it and at ten times it.
    """
    rate = need_number(answer)
    if not 0 < rate < 1e30:
        raise Wrong(f"{rate:g} is no learning rate; give a number above 0")
    mine = _short_training(rate, training, heldout)
    if not math.isfinite(mine):
        raise Wrong(f"at {rate:g} the held-out loss is not finite")
    if mine > training.unigram_entropy("top") - MARGIN:
        raise Wrong(
            f"at {rate:g} the held-out loss ends no lower than the codes' own "
            "frequencies would give; the network has learned little"
        )
    for factor, words in ((10, "ten times"), (0.1, "a tenth of")):
        other = _short_training(rate * factor, training, heldout)
        if other < mine - MARGIN:
            raise Wrong(
                f"with {words} {rate:g} the held-out loss ends lower, by "
                f"{mine - other:.1f} nats per code"
            )
    return (
        f"neither a tenth nor ten times of it ends lower by more than {MARGIN:g} nats "
        "per code"
    )


def _short_training(rate: float, training: CodeData, heldout: CodeData) -> float:
    """Held-out nats per code of a small network after 100 steps, inf if not finite."""
    steps = 100
    factor = learning_rate_factor(TrainingSettings(warmup=0.1), steps)
    classes = 1 + int(max(training.labels.max(), heldout.labels.max()))
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        net = PixelCNN(
            training.num_embeddings, 32, 16, 3, num_classes=classes, dropout=0.0
        )
        optimizer = torch.optim.AdamW(net.parameters(), lr=rate)
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = rate * factor(step)
            z_top, _, labels = training.batch(torch.randint(len(training), (32,)))
            loss = F.cross_entropy(net(z_top, labels), z_top)
            optimizer.zero_grad()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            if not norm.isfinite():
                return math.inf
            optimizer.step()
    z_top, _, labels = heldout.batch(torch.arange(min(250, len(heldout))))
    with torch.no_grad():
        loss = F.cross_entropy(net(z_top, labels), z_top).item()
    return loss if math.isfinite(loss) else math.inf


@judged
@torch.no_grad()
def images_of_class(answer, count: int = 16) -> str:
    """The answer is a function from (label, count, seed) to drawn images
    [count, 1, 32, 32] of Fashion-MNIST that the shipped classifier takes for the label.

    The check asks it for bags and for shirts, and for the bags a second time.
    """
    _, classifier = load_shipped_reference_models()
    drawn = {}
    for label in (FASHION_CLASSES.index("Bag"), FASHION_CLASSES.index("Shirt")):
        name = FASHION_CLASSES[label]
        what = f"what your function returns for ({label}, {count}, 1)"
        images = call(answer, label, count, 1)
        drawn[label] = _need_new_images(images, count, what)
        found = classifier(drawn[label]).argmax(1)
        others = found[found != label]
        if len(others):
            most = FASHION_CLASSES[others.mode().values.item()]
            raise Wrong(
                f"the classifier takes {count - len(others)} of your {count} images "
                f"for {name}; what it finds most often otherwise is {most}"
            )
    label = next(iter(drawn))
    for seed, same in ((1, True), (2, False)):
        what = f"what your function returns for ({label}, {count}, {seed})"
        again = _need_new_images(call(answer, label, count, seed), count, what)
        if torch.allclose(again, drawn[label], atol=1e-3) != same:
            raise Wrong(
                "your function returns other images when it is called again with the "
                "same seed"
                if same
                else "your function returns the same images for seeds 1 and 2"
            )
    return f"{count} bags and {count} shirts for the classifier, and fixed by the seed"


def _need_new_images(images, count: int, what: str) -> Tensor:
    """The images [count, 1, 32, 32], in float32 on the CPU, if no two are equal."""
    images = need_tensor(images, (count, 1, 32, 32), what)
    if not images.is_floating_point():
        raise Wrong(f"{what} is {images.dtype}, but floats in [0, 1] are needed")
    if not images.isfinite().all():
        raise Wrong(f"{what} has pixels that are not finite")
    if images.min() < 0 or images.max() > 1:
        raise Wrong(
            f"{what} has pixels from {images.min():.2f} to {images.max():.2f}, but "
            "[0, 1] is needed"
        )
    images = images.detach().cpu().float()
    if (torch.pdist(images.flatten(1)) < 1e-3).any():
        raise Wrong(f"some of {what} are equal; each image should be a new draw")
    return images
