"""Signal and gradient through many blocks, by their sizes and not by zero or not.

In float32, at the sizes that people train: a stack may see all of the past by gradient
in float64 and learn nothing from it, because each block halves what goes through.
"""

import pytest
import torch

from pixelprior import ConditionalPixelCNN, PixelCNN

SIDE = 16  # of the grids: the default bottom grid of an image of 32 pixels
each_depth = pytest.mark.parametrize("num_layers", [15, 30])
each_level = pytest.mark.parametrize("level", ["top", "labelled top", "bottom"])


def untrained(level, num_layers=15, **options):
    """A level of default sizes at its start, and a condition [4, p, …] for it."""
    torch.manual_seed(0)
    if level == "bottom":
        model = ConditionalPixelCNN(512, 64, num_layers=num_layers, **options).eval()
        z_top = torch.randint(512, (4, SIDE // 2, SIDE // 2))
        return model, model.top_condition(z_top, (4, SIDE, SIDE), None).detach()
    classes = 10 if level == "labelled top" else None
    model = PixelCNN(
        512, 64, num_layers=num_layers, num_classes=classes, **options
    ).eval()
    labels = None if classes is None else torch.arange(4)
    condition = model.label_condition(labels, 4)
    return model, condition if condition is None else condition.detach()


def stacks(model, embedded, condition):
    """(v, h) after each block, from embedded codes [B, D, H, W]."""
    v = h = embedded
    for block in model.blocks:
        v, h = block(v, h, condition)
        yield v, h


def embedded_codes(model):
    torch.manual_seed(1)
    codes = torch.randint(model.num_embeddings, (4, SIDE, SIDE))
    return model.embed(codes).detach().requires_grad_(True)


def gradient_by_rows(model, condition):
    """Size of the last row's logits' gradient by the codes 1, 2, … rows above."""
    embedded = embedded_codes(model)
    _, last = list(stacks(model, embedded, condition))[-1]
    logits = model.head(last)[:, :, -1, SIDE // 2]  # [B, K]
    weights = torch.randn(logits.shape)
    (gradient,) = torch.autograd.grad((logits * weights).sum(), embedded)
    by_row = gradient.square().sum(dim=(0, 1, 3)).sqrt()  # [H]
    return by_row.flip(0)[1:]


# What a gradient eight rows up may be smaller than that of the next row, at the most.
LIMITS = {15: 200, 30: 20}


@each_level
@each_depth
def test_the_gradient_reaches_eight_rows_up(level, num_layers):
    by_row = gradient_by_rows(*untrained(level, num_layers))
    assert by_row[0] < LIMITS[num_layers] * by_row[7]


@each_depth
def test_without_the_vertical_residual_it_does_not(num_layers):
    by_row = gradient_by_rows(*untrained("top", num_layers, vertical_residual=False))
    assert by_row[0] > 1000 * by_row[7]


@each_level
@each_depth
def test_both_stacks_keep_their_size_through_all_blocks(level, num_layers):
    model, condition = untrained(level, num_layers)
    with torch.no_grad():
        sizes = torch.tensor(
            [
                [v.std(), h.std()]
                for v, h in stacks(model, embedded_codes(model), condition)
            ]
        )
    assert sizes.min() > 0.1 and sizes.max() < 4, sizes


@each_level
@each_depth
def test_the_gradient_keeps_its_size_through_all_blocks(level, num_layers):
    model, condition = untrained(level, num_layers)
    kept = list(stacks(model, embedded_codes(model), condition))
    loss = model.head(kept[-1][1]).square().mean()
    # The last vertical stack is read by nobody.
    features = [each for v, h in kept[:-1] for each in (v, h)]
    sizes = torch.stack(
        [gradient.std() for gradient in torch.autograd.grad(loss, features)]
    ).view(-1, 2)
    for stack in sizes.unbind(1):
        assert stack.max() < 20 * stack.min(), stack
