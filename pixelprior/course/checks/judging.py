"""Checks for notebook 07: the draw of a code by inverse CDF, guidance, top-p, and a
number that finds copies; and what the notebook measures and plots."""

import torch
from matplotlib.figure import Figure
from torch import Tensor

from pixelprior.course import figures
from pixelprior.course.checks.verdict import Wrong, call, judged, need_tensor
from pixelprior.data.codes import extract_codes
from pixelprior.data.images import ImageData
from pixelprior.evaluation.classifier import load_shipped_reference_models, outputs
from pixelprior.evaluation.measures import nearest
from pixelprior.pixelcnn import PixelCNN
from pixelprior.sampling import inverse_cdf as drawn_codes
from pixelprior.sampling import probabilities, uniforms

NOISE = "by about 0.3"  # of 07.6
COPIER = "smaller: less than half"  # of 07.8

CHOICES = {"temperature": [0.7, 0.3, 1.0, 2.0], "top_k": [30, 1, 5, 10]}
CHOICES |= {"top_p": [0.9, 0.5, 1.0], "row": [3, 0, 7], "column": [4, 0, 7]}


def features(data: ImageData) -> Tensor:
    """The 64 features of each image by the shipped classifier, [N, 64]."""
    return outputs(load_shipped_reference_models()[1].features, data)


def mean_distance(data: ImageData) -> float:
    """The mean distance of two images of the same class, over the classes."""
    images = data[:][0].flatten(1)  # [N, C · S · S]
    classes = [images[data.labels == label] for label in data.labels.unique()]
    return torch.stack([torch.pdist(each).mean() for each in classes]).mean().item()


def photographs(data: ImageData) -> list[ImageData]:
    """Six sets of 200 images, 20 of each of the ten classes in turn."""
    order = data.labels.argsort(stable=True).view(10, 6, -1)  # equally many of each
    return [data.subset(order[:, i, :20].T.flatten()) for i in range(6)]


def beside_nearest(sets: dict[str, ImageData], among: ImageData) -> dict[str, Tensor]:
    """The first ten images of each set, and the image of `among` nearest to each."""
    rows = {}
    for name, data in sets.items():
        rows[name], which = data[:10][0], nearest(data.subset(slice(10)), among)[0]
        rows[f"nearest\nto {name}"] = among[which][0]
    return rows


def knobs(vqvae2, prior, image: ImageData):
    """What `explore` plots of the top codes of one image: what is drawn from."""
    z_top, _, labels = extract_codes(vqvae2, image).batch(torch.arange(1))
    logits = prior.prior_top(z_top, labels)[0].detach()  # [K, 8, 8]

    def draw(temperature, top_k, top_p, row, column) -> Figure:
        before = logits[:, row, column].softmax(0)  # [K]
        after = probabilities(logits[:, row, column], temperature, top_k, top_p)
        order = before.argsort(descending=True)[:20]
        bars = {"the prior's": before[order], "drawn from": after[order]}
        names = map(str, order.tolist())
        return figures.grouped_bars(bars, names, y_label="probability of the code")

    return draw


@torch.no_grad()
def ten(vqvae2, prior, guided, inverse_cdf, w: float) -> tuple[Tensor, Tensor]:
    """Top grids of the ten classes, by two functions and seed 0; the decoded images."""
    u = uniforms(0, 0, 10, 64).view(-1, 8, 8)  # [10, 8, 8]
    z_top, labels = torch.zeros(u.shape, dtype=torch.long), torch.arange(10)
    for y, x in torch.cartesian_prod(torch.arange(8), torch.arange(8)):
        logits = guided(prior.prior_top, z_top, labels, w)[:, :, y, x]  # [10, K]
        z_top[:, y, x] = inverse_cdf(logits.double().softmax(1), u[:, y, x])
    same = {"labels": labels, "seed": 0, "guidance": w, "known_top": z_top}
    return z_top, prior.sample_with_vqvae2(vqvae2, 10, **same)


@judged
def inverse_cdf(answer) -> str:
    """The answer is a function of probs [B, K] and u [B], as `drawn_codes`. It is tried
    on zeros, ends of pieces, rows with other sums, and the largest u of float32."""
    random = torch.Generator().manual_seed(0)
    rows = torch.tensor([[0, 0.25, 0, 0.25, 0.5, 0]]).double().repeat(4, 1)  # [4, 6]
    ends = torch.tensor([0, 0.25, 0.5, 0.99]).double()  # [4]
    some, u = torch.rand(50, 7, generator=random).double().split([6, 1], dim=1)
    sums = torch.tensor([0.9, 1.2]).repeat(25)[:, None]
    some, u = some / some.sum(1, keepdim=True) * sums, u[:, 0]  # [50, 6], [50]
    short = "; the pieces add up to a little less than 1 after rounding, and u "
    short += "lies behind the last: scale u by the last of `ends`"
    for probs, numbers, why in (
        (some, u, ""),
        (rows, ends, "; the end of a piece belongs to the next piece"),
        (some.float(), torch.full((50,), 1 - 2**-24), short),
    ):
        wanted = drawn_codes(probs, numbers)
        codes = need_tensor(call(answer, probs.clone(), numbers.clone()), wanted.shape)
        at = int(((codes != wanted) * (1 + numbers)).argmax())
        if codes[at] != wanted[at]:
            row, total = [round(p, 3) for p in probs[at].tolist()], probs[at].sum()
            raise Wrong(
                f"u = {numbers[at]:.8g} draws code {codes[at]}, and has to fall on "
                f"piece {wanted[at]} of {row}, which add up to {total:.4g}{why}"
            )
    return "each u draws the code on whose piece it falls, whatever the row adds up to"


def guided_logits(level: PixelCNN, codes: Tensor, labels: Tensor, w: float) -> Tensor:
    """Logits [B, K, H, W] of codes [B, H, W], moved away from those without labels."""
    logits = level(codes, labels)
    return logits + w * (logits - level(codes))


@judged
@torch.no_grad()
def guided(answer) -> str:
    """The answer is a function like `guided_logits`; a small level tries it."""
    torch.manual_seed(0)
    level = PixelCNN(5, 4, 8, 2, num_classes=3, label_dropout=0.1).eval()
    level.label_embedding.weight *= 10
    codes, labels = torch.randint(5, (2, 3, 4)), torch.tensor([2, 1])
    a, b, of_0 = level(codes, labels), level(codes), level(codes, 0 * labels)
    for w in (3.0, 0.5, 0.0, 1.0):
        found = need_tensor(call(answer, level, codes, labels, w), a.shape)
        wanted = a + w * (a - b)
        if torch.allclose(found.log_softmax(1), wanted.log_softmax(1), atol=1e-4):
            continue  # the same probabilities
        slips = {
            "w = 0 must give the logits with the label": b + w * (a - b),
            "add the difference to the logits with the label": w * (a - b),
            "w moves your logits away from the label": a + w * (b - a),
            "label 0 is a class; give no label at all": a + w * (a - of_0),
            "move logits, before any softmax": wanted.softmax(1),
        }
        for words, slip in slips.items():
            if torch.allclose(found, slip, atol=1e-4):
                raise Wrong(words)
        raise Wrong(f"w = {w:g} must add {w:g} times the difference of the logits")
    return "for w = 0 they are the level's own, and each step of w adds the difference"


@judged
def top_p(answer) -> str:
    """The answer is a function of logits [B, K] and a share to probabilities [B, K]."""
    some = 2 * torch.randn(6, 64, generator=torch.Generator().manual_seed(0))
    for logits, share in ((some, 0.9), (some, 1e-6), (torch.zeros(2, 4), 0.5)):
        given = need_tensor(call(answer, logits.clone(), share), logits.shape).double()
        wanted = probabilities(logits, top_p=share)
        if (given.sum(1) - 1).abs().max() > 1e-4:
            raise Wrong(f"for {share:g}, row 0 adds up to {given[0].sum():.3f}, not 1")
        kept, needed = ((each > 0).sum(1).tolist() for each in (given, wanted))
        if kept != needed:
            raise Wrong(f"for {share:g} you keep {kept} codes, and {needed} are needed")
        if logits.any() and not torch.allclose(given, wanted, atol=1e-4):
            raise Wrong("put each probability back at its own code, in the old ratios")
    return "in each row the fewest of the likeliest codes are kept that hold the share"


@judged
@torch.no_grad()
def distance_to_copies(answer, training: ImageData, heldout: ImageData) -> str:
    """The answer is a function of images [N, …] and training images [M, …] to numbers
    [N] that are small for copies: as they are, and shifted by a pixel."""
    known, unseen = training[:1500][0], heldout[:50][0]
    for what, change in (("as they are", torch.clone), ("that were shifted", shifted)):
        images = torch.cat([change(known[::30]), change(unseen)])  # [100, C, S, S]
        found = need_tensor(call(answer, images, known.clone()), (100,))
        share = (found[:50, None] < found[50:]).double().mean()  # of [50, 50] pairs
        if share < 0.95:
            found = f"in {share:.0%} of the pairs the copy has the smaller number"
            raise Wrong(f"copies {what} do not stand out: {found}; 95% are needed")
    return "copies have smaller numbers than unseen images, shifted ones too"


def shifted(images: Tensor) -> Tensor:
    """Images [N, C, S, S], each moved by a pixel in one of eight directions."""
    sides = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if y or x]
    return torch.stack([x.roll(sides[i % 8], (1, 2)) for i, x in enumerate(images)])
