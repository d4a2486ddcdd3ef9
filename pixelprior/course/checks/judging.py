"""Checks for notebook 07: the draw of a code by inverse CDF, guidance, top-p, and a
number that finds copies; and what the notebook measures and plots."""

import torch
from matplotlib.figure import Figure
from torch import Tensor

from pixelprior.course import figures
from pixelprior.course.checks.verdict import Wrong, call, judged
from pixelprior.course.checks.verdict import need_tensor as need
from pixelprior.data.codes import extract_codes
from pixelprior.data.images import ImageData
from pixelprior.evaluation.classifier import load_shipped_reference_models, outputs
from pixelprior.evaluation.measures import nearest
from pixelprior.pixelcnn import PixelCNN
from pixelprior.prior import HierarchicalPixelCNN
from pixelprior.sampling import inverse_cdf as drawn_codes
from pixelprior.sampling import probabilities, uniforms
from pixelprior.vqvae2 import VQVAE2

NOISE = "by about 0.2"  # of 07.6
COPIER = "smaller: less than a third"  # of 07.8

CHOICES = {"temperature": [0.7, 0.3, 1.0, 2.0], "top_k": [30, 1, 5, 10]}
CHOICES |= {"top_p": [0.9, 0.5, 1.0], "row": [3, 0, 7], "column": [4, 0, 7]}
YOURS = "what your function returns"
# What people return of the logits a with the labels, b without and z with label 0.
SLIPS = {
    "w = 0 must give the logits with the label": lambda a, b, z, w: b + w * (a - b),
    "w moves your logits away from the label": lambda a, b, z, w: a + w * (b - a),
    "what is the difference added to?": lambda a, b, z, w: w * (a - b),
    "w has no effect": lambda a, b, z, w: a,
    "w multiplies more than the difference": lambda a, b, z, w: a + w * a - b,
    "label 0 is a class; give no label at all": lambda a, b, z, w: a + w * (a - z),
    "move logits, before any softmax": lambda a, b, z, w: (a + w * (a - b)).softmax(1),
}


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


def knobs(vqvae2: VQVAE2, prior: HierarchicalPixelCNN, image: ImageData):
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
def ten(vqvae2: VQVAE2, prior, guided, inverse_cdf, w: float) -> tuple[Tensor, Tensor]:
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
    some, u = some / some.sum(1, keepdim=True), u[:, 0]  # [50, 6], [50]
    _try_draw(answer, some, u)
    _try_draw(answer, rows, ends, "; the end of a piece belongs to the next piece")
    some *= torch.tensor([0.9, 1.2]).repeat(25)[:, None]
    _try_draw(answer, some, u)
    u, short = torch.full((50,), 1 - 2**-24), "; rounding left the pieces shorter"
    _try_draw(answer, some.float(), u, f"{short} than your line")
    return "each u draws the code on whose piece it falls, whatever the row adds up to"


def _try_draw(answer, probs: Tensor, u: Tensor, where: str = "") -> None:
    given, wanted = (probs.clone(), u.clone()), drawn_codes(probs, u)
    codes = call(answer, *given)
    if not all(map(torch.equal, given, (probs, u))):
        raise Wrong("your function changes probs or u itself; make new tensors")
    codes = need(codes, u.shape, YOURS).detach()
    if codes.is_floating_point() or codes.dtype == torch.bool:
        raise Wrong(f"{YOURS} is {codes.dtype}, but codes are whole numbers")
    at = int(((codes != wanted) * (1 + u)).argmax())
    if codes[at] != wanted[at]:
        absent = "" if 0 <= codes[at] < probs.shape[1] else ", which does not exist"
        row = [round(p, 3) for p in probs[at].tolist()]
        drawn = f"u = {u[at]:.8g} draws code {codes[at]}{absent}"
        where = where or f"; this row adds up to {probs[at].sum():.4g}"
        raise Wrong(f"{drawn}, and has to fall on piece {wanted[at]} of {row}{where}")


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
    three = level(codes, labels), level(codes), level(codes, 0 * labels)
    for w in (3.0, 0.5, 0.0, 1.0):
        found = call(answer, level, codes.clone(), labels.clone(), w)
        found = need(found, three[0].shape, YOURS).float()
        wanted = three[0] + w * (three[0] - three[1])
        if torch.allclose(found.log_softmax(1), wanted.log_softmax(1), atol=1e-4):
            continue  # the same probabilities
        for words, slip in SLIPS.items():
            if torch.allclose(found, slip(*three, w), atol=1e-4):
                raise Wrong(words)
        raise Wrong(f"w = {w:g} must add {w:g} times the difference of the logits")
    return "for w = 0 they are the level's own, and each step of w adds the difference"


@judged
def top_p(answer) -> str:
    """The answer is a function of logits [B, K] and a share to probabilities [B, K]."""
    spread = torch.linspace(0.3, 4, 6)[:, None]  # from nearly uniform to nearly certain
    some = spread * torch.randn(6, 64, generator=torch.Generator().manual_seed(0))
    tries = [(some, share) for share in (0.9, 0.5, 0.13, 1e-6)]
    for logits, share in [*tries, (torch.zeros(2, 4), 0.5), (torch.zeros(2, 10), 0.55)]:
        given = need(call(answer, logits.clone(), share), logits.shape, YOURS)
        given, wanted = given.detach().double(), probabilities(logits, top_p=share)
        if (given.sum(1) - 1).abs().max() > 1e-4:
            raise Wrong(f"for {share:g}, row 0 adds up to {given[0].sum():.3f}, not 1")
        kept, needed = ((each > 0).sum(1).tolist() for each in (given, wanted))
        if kept != needed:
            raise Wrong(f"for {share:g} you keep {kept} codes, and {needed} are needed")
        if not torch.allclose(given.sort()[0], wanted.sort()[0], atol=1e-4):
            raise Wrong("the kept codes are others, or have lost their ratios")
        if logits.any() and not torch.allclose(given, wanted, atol=1e-4):
            raise Wrong("right, but sorted; each code has its own place")
    return "in each row the fewest of the likeliest codes are kept that hold the share"


@judged
@torch.no_grad()
def distance_to_copies(answer, training: ImageData, heldout: ImageData) -> str:
    """The answer is a function of images [N, C, S, S] and training images [M, C, S, S]
    to one number per image, [N], which is small for copies: as they are, and shifted by
    a pixel. It is tried in random order, beside unseen images."""
    random = torch.Generator().manual_seed(3)
    known, unseen = training[:1500][0], heldout[:50][0]
    for what, change in (("as they are", torch.clone), ("that were shifted", shifted)):
        images = torch.cat([change(known[::30]), change(unseen)])  # [100, C, S, S]
        order = torch.randperm(100, generator=random)
        found = need(call(answer, images[order], known.clone()), (100,), YOURS)
        found = found.double()[order.argsort()]
        pairs = found[:50, None] - found[50:]  # [50, 50], of copies and unseen images
        share = (1 - pairs.sign().mean()) / 2  # a tie counts half
        if not share >= 0.95:
            found = f"in {share:.0%} of the pairs the copy has the smaller number"
            raise Wrong(f"copies {what} do not stand out: {found}; 95% are needed")
    return "copies have smaller numbers than unseen images, shifted ones too"


def shifted(images: Tensor) -> Tensor:
    """Images [N, C, S, S], each moved by a pixel in one of eight directions."""
    sides = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if y or x]
    return torch.stack([x.roll(sides[i % 8], (1, 2)) for i, x in enumerate(images)])
