"""Checks for notebook 04: baselines, learning rates, and images of one class."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from pixelprior.assets import load_shipped_reference_models
from pixelprior.codes import CodeData
from pixelprior.course.checks.verdict import (
    Wrong,
    call,
    judged,
    need_number,
    need_tensor,
)
from pixelprior.data import FASHION_CLASSES
from pixelprior.pixelcnn import PixelCNN
from pixelprior.schedule import learning_rate_factor
from pixelprior.settings import TrainingSettings

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
        right = CodeData(codes, codes, None, num_embeddings).unigram_entropy("top")
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
def images_of_class(answer, label: int, count: int = 16) -> str:
    """The answer is drawn images [count, 1, 32, 32] of one class of Fashion-MNIST.

    The shipped classifier judges to which class they belong.
    """
    images = need_tensor(answer, (count, 1, 32, 32))
    if not images.is_floating_point():
        raise Wrong(f"your images are {images.dtype}, but floats in [0, 1] are needed")
    if not images.isfinite().all():
        raise Wrong("your images have pixels that are not finite")
    if images.min() < 0 or images.max() > 1:
        raise Wrong(
            f"your pixels run from {images.min():.2f} to {images.max():.2f}, but "
            "[0, 1] is needed"
        )
    images = images.detach().cpu().float()
    apart = torch.pdist(images.flatten(1))
    if (apart < 1e-3).any():
        raise Wrong(f"some of your {count} images are equal; each should be a new draw")
    _, classifier = load_shipped_reference_models()
    found = classifier(images).argmax(1)
    right, name = int((found == label).sum()), FASHION_CLASSES[label]
    if right < 0.75 * count:
        most = FASHION_CLASSES[found.mode().values.item()]
        raise Wrong(
            f"the classifier takes {right} of your {count} images for {name}; what it "
            f"finds most often is {most}"
        )
    return f"the classifier takes at least three quarters of them for {name}"
