# %% [markdown]
# # 03 · Gated blocks
#
# **What you will do.** Replace the single stack of notebook 02 by two stacks that together see the whole past. Build the gate, the two stacks and the line between them by hand. Train the gate against a ReLU. Look into the trained prior. Break the block in three ways, and catch each.
#
# **What you will learn.** How two stacks close the blind spot. Why the shift happens once. Why each convolution gives twice the channels. How a label gets in.
#
# **What you need.** Notebook [02](02_masked_convolutions.ipynb) for raster order, masks A and B, receptive fields and the blind spot.
#
# **Time.** About 40 minutes to read, 50<!--= timings 03_gated_blocks --> seconds to run on two CPU cores.
#
# ← [02 · Masked convolutions](02_masked_convolutions.ipynb) · [the course](../README.md#the-course) · [words and symbols](GLOSSARY.md) · next: [04 · The top prior](04_top_prior.ipynb) →

# %%
import copy
import math

import torch
import torch.nn.functional as F
from torch import nn

from pixelprior.assets import load_shipped
from pixelprior.codes import extract_codes
from pixelprior.course import figures
from pixelprior.course.causality import blind_spot, leak, seen_by
from pixelprior.course.checks import blocks as check
from pixelprior.course.widgets import explore
from pixelprior.data import load_images
from pixelprior.layers import GatedBlock, MaskedConv2d
from pixelprior.layers import gate as package_gate
from pixelprior.pixelcnn import PixelCNN

# %% [markdown]
# ## 03.1 What a single stack cannot see
#
# Notebook 02 stacked masked convolutions and asked, by gradient, which places an output depends on. Part of the past stayed out of reach: **what does the stack not see, however many layers it has?**

# %%
torch.manual_seed(0)
shape, place = (8, 8), (5, 2)
single = [MaskedConv2d("B" if n else "A", 4, 4) for n in range(8)]
seen = {
    f"{n} layer{'s' * (n > 1)}": seen_by(
        nn.Sequential(*single[:n]), place, shape, channels=4
    )  # [H, W]
    for n in (1, 3, 5, 8)
}
figures.show(
    figures.receptive_fields(seen, place, title="one masked stack"),
    "Four grids for 1, 3, 5 and 8 masked layers. The blue past grows, but a "
    "triangle to the upper right of the framed place stays hatched: it is "
    "never seen.",
)

# %% [markdown]
# The hatched triangle is the **blind spot**. From the framed place you can go up and to the right only along a line of 45°, and no layer helps with what lies beyond.

# %% [markdown]
# ## 03.2 Two stacks instead of one
#
# Why that line? Because one mask has to do two jobs. In the row of the place itself, it must stop short of the place. In the rows above nothing is forbidden. But a step up and *then to the right* goes through a mask again, and there the right is cut off.
#
# Van den Oord and colleagues ([arXiv 1606.05328](https://arxiv.org/abs/1606.05328), "the paper" from here on) split the jobs.
#
# - The **vertical stack** v looks at rows above only. Whole rows: left, middle and right. It needs no mask within a row.
# - The **horizontal stack** h looks at codes to the left, in its own row only. From the vertical stack it is told what is above.
#
# Both are feature maps [B, p, H, W], with p channels each: p is our number of **hidden channels**. The logits are made from h alone.
#
# No kernel has to be masked now. We **crop** it to what it may see, and multiply nothing with zero. Let k be the kernel's width and r = k // 2 its **reach**. Here is the vertical convolution. Its kernel is k wide and r + 1 rows high, or r with the shift. The padding puts its last row where it belongs; a negative padding cuts a row off. (The first block gets embedded codes, D numbers each; later blocks get p.)


# %%
def look_up(v, weight, bias, shift):
    r = weight.shape[-1] // 2
    # r columns at each side, r rows above; shifted, the last row is cut off.
    v = F.pad(v, (r, r, r, -shift))  # [B, D, H + r - shift, W + 2r]
    return F.conv2d(v, weight, bias)  # [B, 2p, H, W]


# %% [markdown]
# What does `shift` do? We feed in rows that hold 1, 2, 3 and 4, and a kernel that copies the last row it sees.

# %%
rows = torch.arange(1.0, 5).view(1, 1, 4, 1).repeat(1, 1, 1, 3)
# rows [1, 1, 4, 3]: 4 rows of 3 columns
print("rows                ", rows[0, 0, :, 0].int().tolist())
for shift in (0, 1):
    copies = torch.zeros(1, 1, 2 - shift, 3)  # k = 3: 2 rows, or 1
    copies[0, 0, -1, 1] = 1
    out = look_up(rows, copies, None, shift)  # [1, 1, 4, 3]
    print(f"last seen, shift = {shift}:", out[0, 0, :, 0].int().tolist())

# %% [markdown]
# Without the shift, row y sees row y. With the shift it sees up to row y − 1, and the first row sees only padding. The horizontal convolution is the same idea, turned by 90°.


# %%
def look_left(h, weight, bias, shift):
    r = shift + weight.shape[-1] - 1
    h = F.pad(h, (r, -shift, 0, 0))  # [B, D, H, W + r - shift]
    return F.conv2d(h, weight, bias)  # [B, 2p, H, W]


# %% [markdown]
# **Which places lie under each kernel?** We ask the gradient once more, for k = 5. A 1 marks a place that the kernel has a weight for. The frame is where the output stands.

# %%
torch.manual_seed(0)
middle, r = (2, 2), 2
kernels = {
    "vertical, shifted": (look_up, (r, 5), 1),
    "vertical": (look_up, (r + 1, 5), 0),
    "horizontal, shifted": (look_left, (1, r), 1),
    "horizontal": (look_left, (1, r + 1), 0),
}
under = {}
for name, (look, size, shift) in kernels.items():
    weight = torch.randn(1, 1, *size)
    under[name] = seen_by(
        lambda x, look=look, w=weight, s=shift: look(x, w, None, s),
        middle,
        (5, 5),
    )  # [5, 5]
figures.show(
    figures.masks(under),
    "Four grids of 5 by 5. Vertical, shifted: ones in the two rows "
    "above the frame. Vertical: ones in these rows and the whole row of "
    "the frame. Horizontal, shifted: two ones left of the frame. "
    "Horizontal: these and the frame.",
)

# %% [markdown]
# The shifted pair is for the first block, where the input is the codes themselves. It takes the part of mask A: together, the first and the third picture are mask A.
#
# Now look at the second picture. The vertical kernel without a shift sees its own row, even to the *right* of the frame. Is that a leak? Not in a later block. What stands there is not the codes, but features that were shifted already: v at row y knows rows up to y − 1, at every column. **The shift happens once**, in the first block, and all later blocks build on it.

# %% [markdown]
# ## 03.3 The gate
#
# What follows a convolution is often a ReLU. Here it is a **gate** (equation 2 of the paper):
#
# y = tanh(W_f ∗ x) ⊙ σ(W_g ∗ x)
#
# The star is a convolution, and ⊙ is the product of numbers at the same place. W_f makes **features**, and tanh keeps them between −1 and 1. W_g makes the gate itself: σ is the sigmoid, so it is a share between 0, closed, and 1, open. The network can decide at each place how much of a feature goes on.

# %% [markdown]
# **What does it let through?** One curve for an open gate, one for a gate half open, one for a closed gate.

# %%
f = torch.linspace(-4, 4, 81)  # [81]
lines = {
    f"gate {state}, W_g ∗ x = {g}": (f, f.tanh() / (1 + math.exp(-g)))
    for state, g in (("open", 3), ("half open", 0), ("closed", -3))
}
lines["ReLU"] = (f, f.relu())
figures.show(
    figures.curves(
        lines,
        x_label="the feature W_f ∗ x",
        y_label="what comes out",
        y_limits=(-1.1, 2.1),
    ),
    "Curves over the feature from -4 to 4. With an open gate an S from "
    "-1 to 1, half open an S of half the height, closed a nearly flat "
    "line at 0. The ReLU is 0 on the left and rises without end on the "
    "right.",
)

# %% [markdown]
# The ReLU knows one answer to a feature. The gate's answer depends on a second number, and stays between −1 and 1. Also see what it costs: a half open gate halves what goes through it.
#
# There are two convolutions of the same x, W_f and W_g, with p outputs each. We stack them into a single one. That is why **2p** channels come out of each convolution before a gate: the first half is the features, the second half the gate.


# %%
def gate(x):  # [B, 2p, H, W]
    features, gates = x.chunk(2, dim=1)  # [B, p, H, W] each
    return features.tanh() * gates.sigmoid()  # [B, p, H, W]


torch.manual_seed(0)
x = torch.randn(2, 3, 8, 8)  # [B, D, H, W]
w_f, w_g = torch.randn(2, 4, 3, 3, 3)  # [p, D, 3, 3] each
apart = F.conv2d(x, w_f).tanh() * F.conv2d(x, w_g).sigmoid()
stacked = torch.cat([w_f, w_g])  # [2p, D, 3, 3]
together = F.conv2d(x, stacked)  # [B, 2p, 6, 6]
difference = (gate(together) - apart).abs().max().item()
print("two convolutions, or one stacked: < 1e-5:", difference < 1e-5)
difference = (gate(together) - package_gate(together)).abs().max().item()
print("the package's gate:               < 1e-5:", difference < 1e-5)

# %% [markdown]
# ## 03.4 A block by hand
#
# Now we wire the parts. This is figure 2 of the paper, with the label's way in drawn as well. We come to the label later.
#
# ```
#          v                          h
#  ┌───────┤                          ├───────┐
#  │    look_up                   look_left   │
#  │    p → 2p                     p → 2p     │
#  │       │                          │       │
#  │  label ► +                       ▼       │
#  │       ├────► 1×1, 2p → 2p ─────► +       │ residual
#  │       │                          │       │
#  │     gate                       gate      │
#  │    2p → p                     2p → p     │
#  │       │                          │       │
#  │       │                     1×1, p → p   │
#  │       ▼                          ▼       │
#  └─────► +                          + ◄─────┘
#          ▼                          ▼
#        new v                      new h
# ```
#
# Three things to notice.
#
# - The line between the stacks goes **one way**, from v to h. At column x + 1, h knows the code at x. If it fed v there, v at x + 1 would know it too. The next vertical kernel at x looks one column to the right, and the code at x would see itself.
# - It leaves v *before* the gate, with all 2p channels, and goes through a **1×1 convolution**, which mixes channels and never places. It cannot leak.
# - The **residuals** add the old v and the old h to the new ones, so that a block has to learn only what to change. The first block has none: there v and h are the code itself, the very thing to be predicted. (Figure 2 of the paper has a residual around h alone. Section 03.6 shows why ours has one around v as well.)
#
# Now the weights. We give them the names that the package uses.


# %%
def new_weights(shift, channels, p, k=3):
    span = k // 2 + 1 - shift  # rows, and codes, under the kernels
    shapes = {
        "vertical": (2 * p, channels, span, k),
        "horizontal": (2 * p, channels, 1, span),
        "vertical_to_horizontal": (2 * p, 2 * p, 1, 1),
        "horizontal_out": (p, p, 1, 1),
    }
    w = {}
    for name, size in shapes.items():
        scale = 1 / math.sqrt(math.prod(size[1:]))
        w[f"{name}.weight"] = torch.randn(size) * scale
        w[f"{name}.bias"] = torch.randn(size[0])
    return w


# %% [markdown]
# And the block. Follow the drawing line by line.


# %%
def block(v, h, w, shift, residual, label=0):  # [B, D, H, W] each
    def conv(look, name, x, *more):
        return look(x, w[f"{name}.weight"], w[f"{name}.bias"], *more)

    up = conv(look_up, "vertical", v, shift) + label  # [B, 2p, H, W]
    left = conv(look_left, "horizontal", h, shift)  # [B, 2p, H, W]
    across = conv(F.conv2d, "vertical_to_horizontal", up)  # [B, 2p, H, W]
    out = conv(F.conv2d, "horizontal_out", gate(across + left))
    # out [B, p, H, W]
    return (v + gate(up), h + out) if residual else (gate(up), out)


# %% [markdown]
# The package has all this as `GatedBlock`. Its first argument says which it is: "A" for the first block, with the shift and no residuals, "B" for all later ones. We copy our weights in. Do both stacks come out the same?

# %%
torch.manual_seed(0)
v, h = torch.randn(2, 2, 6, 8, 8)  # [B, D, H, W] each
for mask_type, k in (("A", 3), ("B", 3), ("A", 5), ("B", 5)):
    first = mask_type == "A"
    w = new_weights(first, 6, 6, k)
    theirs = GatedBlock(mask_type, 6, 6, k)
    theirs.load_state_dict(w)
    mine = block(v, h, w, shift=first, residual=not first)
    for name, one, other in zip("vh", mine, theirs(v, h), strict=True):
        difference = (one - other).abs().max().item()
        print(mask_type, f"k = {k}, {name}: < 1e-5:", difference < 1e-5)
        assert difference < 1e-5

# %% [markdown]
# From blocks to a network, little is missing. An embedding turns a code into a vector. It starts both stacks. The blocks follow. The **head** makes K logits from the last h, with 1×1 convolutions. The package's `PixelCNN` is that.


# %%
def pixelcnn(model, codes):  # codes [B, H, W]
    v = h = model.embedding(codes).permute(0, 3, 1, 2)  # [B, D, H, W]
    for number, each in enumerate(model.blocks):
        first = number == 0
        v, h = block(v, h, each.state_dict(), first, not first)
    return model.head(h)  # [B, K, H, W]


torch.manual_seed(0)
model = PixelCNN(64, 16, hidden_channels=24, num_layers=5).eval()
codes = torch.randint(64, (2, 8, 8))  # [B, H, W]
with torch.no_grad():
    difference = (pixelcnn(model, codes) - model(codes)).abs().max().item()
print("the package's PixelCNN: < 1e-5:", difference < 1e-5)
assert difference < 1e-5

# %% [markdown]
# ## 03.5 What do the two stacks see?
#
# First each alone. For the vertical stack we look at v. For the horizontal stack alone, we set the 1×1 between the stacks to zero in a copy. **What does each see after six blocks, and what do they see joined?**


# %%
def new_blocks(count, kernel_size=3, channels=4):
    torch.manual_seed(0)
    return [
        GatedBlock("B" if n else "A", channels, channels, kernel_size)
        for n in range(count)
    ]


def both_stacks(blocks, features):  # [B, D, H, W]
    v = h = features
    for each in blocks:
        v, h = each(v, h)  # [B, p, H, W] each
    return v, h


def field(blocks, stack):
    which = "vh".index(stack)
    return seen_by(
        lambda x: both_stacks(blocks, x)[which], place, shape, channels=4
    )  # [H, W]


# %%
joined = new_blocks(8)
alone = copy.deepcopy(joined[:6])
for each in alone:
    nn.init.zeros_(each.vertical_to_horizontal.weight)
fields = {
    "vertical alone: v": field(joined[:6], "v"),
    "horizontal alone": field(alone, "h"),
    "joined: h": field(joined[:6], "h"),
}
figures.show(
    figures.receptive_fields(fields, place, title="six blocks"),
    "Three grids. The vertical stack sees all rows above and nothing of its "
    "own row. The horizontal stack alone sees the two codes to its left. "
    "Joined, all of the past is blue and nothing is hatched.",
)

# %% [markdown]
# The vertical stack sees a rectangle: all columns, to the left and to the right. The horizontal stack sees the rest. Joined they see the past, the whole past, and nothing but the past.
#
# **How does it grow, layer by layer?**

# %% tags=["cover"]
fields = {
    f"{n} block{'s' * (n > 1)}": field(joined[:n], "h")
    for n in (1, 2, 3, 4, 5, 6)
}
figures.show(
    figures.receptive_fields(
        fields, place, columns=3, title="two stacks: what h sees"
    ),
    "Six grids for 1 to 6 blocks. The blue region grows by one row upwards "
    "and one column to each side a block. From 5 blocks on all of the past "
    "is blue.",
)

# %% [markdown]
# Hatched places in the first four pictures are not blind spots for ever: each block adds a row above and a column at either side. Compare with the first figure. There, nothing changed from layer 5 on. Here, nothing is left to see.
#
# One place is not all places. We count over the whole grid, for each number of blocks: places with a leak, and pairs of a place and a past place that it does not see.


# %%
def count_faults(network):
    leaks = unseen = 0
    for y in range(shape[0]):
        for x in range(shape[1]):
            seen = seen_by(network, (y, x), shape, channels=4)  # [H, W]
            leaks += leak(seen, (y, x)) is not None
            unseen += int(blind_spot(seen, (y, x)).sum())
    return leaks, unseen


print("            two stacks        one masked stack")
print("layers    leaks  unseen         leaks  unseen")
for n in (1, 4, 7):
    two = count_faults(lambda x, n=n: both_stacks(joined[:n], x)[1])
    one = count_faults(nn.Sequential(*single[:n]))
    print(f"{n:6} {two[0]:8} {two[1]:7} {one[0]:13} {one[1]:7}")

# %% [markdown]
# Eight by eight places need seven blocks, so that the last code of a row can hear of the first. The single stack keeps its blind spot, whatever its depth.
#
# **How many blocks does a wider kernel need?** In JupyterLab, move the sliders. Which of the two makes the single stack's hatched part smaller, and does it ever go away?


# %%
grid, here = (9, 9), (6, 3)


def three_fields(layers, kernel_size):
    blocks = new_blocks(layers, kernel_size)
    masks = "A" + "B" * (layers - 1)
    masked = [MaskedConv2d(mask, 4, 4, kernel_size) for mask in masks]
    networks = {
        "one masked stack": nn.Sequential(*masked),
        "vertical stack": lambda x: both_stacks(blocks, x)[0],
        "horizontal stack": lambda x: both_stacks(blocks, x)[1],
    }
    return figures.receptive_fields(
        {
            name: seen_by(each, here, grid, 4)
            for name, each in networks.items()
        },
        here,
        title=f"{layers} layers, k = {kernel_size}",
    )


explore(
    three_fields,
    "Three grids for 3 layers of kernels 3 wide. One masked stack sees a "
    "slanting region, cut off at the upper right. The vertical stack sees a "
    "rectangle of 3 rows above, 7 columns wide. The horizontal stack sees "
    "that and the 3 codes to its left.",
    layers=[3, 1, 2, 4, 5, 6, 7, 8],
    kernel_size=[3, 5, 7],
)

# %% [markdown]
# After L blocks of reach r the vertical stack sees L · r rows up and L · r columns to each side, and the horizontal stack L · r codes to the left. For the single stack, a wider kernel tips the line, from one column per row to r columns a row. More layers do nothing to it.

# %% [markdown]
# ## 03.6 Seen is not heard
#
# A place sees a code when its gradient is not zero. That says nothing about its size. A gate that is half open halves what goes through it, and a network has many gates in a row. So we ask for sizes, at the depth of a real network: 15 blocks of 128 channels, before any training.
#
# **How much does a code count that stands many rows above?** For the last row of a 16 × 16 grid, we take the gradient of the logits by the embedded codes of each row above, without and with the residual around v, and with it in a network of twice the depth. The figure shows its size as a share of that of the row next above.


# %%
def share_by_rows(blocks, residual):
    torch.manual_seed(0)
    deep = PixelCNN(64, 32, 128, blocks, vertical_residual=residual)
    codes = torch.randint(64, (4, 16, 16))
    v = h = embedded = deep.embed(codes).detach().requires_grad_()
    for each in deep.eval().blocks:
        v, h = each(v, h)  # [B, p, H, W] each
    logits = deep.head(h)[:, :, -1, 8]  # [B, K]
    weights = torch.randn(logits.shape)  # one direction among K
    (gradient,) = torch.autograd.grad((logits * weights).sum(), embedded)
    size = gradient.square().sum(dim=(0, 1, 3)).sqrt().flip(0)[1:]  # [15]
    return size / size[0]


share = {
    "15 blocks, no residual around v": share_by_rows(15, False),
    "15 blocks, with it": share_by_rows(15, True),
    "30 blocks, with it": share_by_rows(30, True),
}
figures.show(
    figures.curves(
        share,
        x_label="rows above",
        y_label="gradient, as a share of the next row",
        log_y=True,
    ),
    "Three falling curves over 1 to 15 rows above, on a logarithmic axis. "
    "With 15 blocks and no residual around v the gradient is below a "
    "thousandth eight rows above. With the residual it is ten times as "
    "large there, but falls below the first curve from 13 rows on. With "
    "30 blocks it is a hundred times as large, and stays far above.",
)
without, with_it, deeper = (each[7].item() for each in share.values())
print("eight rows above, no residual: below 1/1000:", without < 1 / 1000)
print("with it, at least 5 times as much:", with_it > 5 * without)
print("with 30 blocks, at least 50 times as much:", deeper > 50 * without)
assert without < 1 / 1000
assert with_it > 5 * without and deeper > 50 * without

# %% [markdown]
# All three networks see all of the past, and no test for a blind spot tells them apart. But in the first, what stands eight rows above counts for less than a thousandth of what stands in the next row above. It has to pass eight gates, and each makes it smaller. Such a network is deep on paper alone: it learns from the rows near by. The residual around v is a way past the gates. It costs one sum per block, and it cannot leak, since v at row y has seen only the rows above.
#
# See the right end too. Fifteen rows above 15 blocks, there is one way down to the last row, and it leads through every kernel: no residual helps there. As many blocks as the grid has rows are enough to *see* the first row. To count it, a network wants about twice as many.
#
# The paper's block has no such residual, and neither has the shipped prior, which was trained before we looked at sizes. Its nine blocks are few enough to do without.

# %% [markdown]
# ## 03.7 The label
#
# The shipped prior can be told what to draw. A label is turned into a vector by an embedding. Each block multiplies it by a matrix V of its own, and adds the product before the gate (equation 4 of the paper). It is a bias: the same at every place of the grid. The package has one V a block, for the vertical features, and the 1×1 between the stacks carries it on to h's gate.
#
# By hand, it is one product and one sum.

# %%
torch.manual_seed(0)
theirs = GatedBlock("B", 6, 6, condition_channels=5)
label_vector = torch.randn(2, 5)  # [B, channels of the condition]
V = theirs.condition.weight[:, :, 0, 0]  # [2p, 5]
bias = (label_vector @ V.T)[:, :, None, None]  # [B, 2p, 1, 1]
mine = block(v, h, theirs.state_dict(), False, True, label=bias)
given = theirs(v, h, label_vector[:, :, None, None])
for name, one, other in zip("vh", mine, given, strict=True):
    difference = (one - other).abs().max().item()
    print(f"with a label, {name}: < 1e-5:", difference < 1e-5)

# %% [markdown]
# What a network is given beside the codes is called a **condition**. The label is one that is the same at every place, [B, channels, 1, 1]. Nothing stops a condition from being different at each place: [B, channels, H, W]. Notebook 05 gives the bottom prior the top codes in this way.
#
# **Where does the label matter?** We take the top codes of 100 photographs of ankle boots, and the shipped prior. It predicts each code twice, once with the right label and once with a wrong one. The maps show how far the two distributions are apart: half the sum of |P − P′| over all codes, which is called the **total variation distance**. At 0 they are the same, at 1 they have nothing in common.

# %%
vqvae2, prior = load_shipped()
top = prior.prior_top
heldout = load_images("fashion_mnist_mini", "test")
names = heldout.class_names
boots, _ = heldout[(heldout.labels == 9).nonzero()[:100, 0]]
z_boots = vqvae2.get_code_indices(boots)["indices_top"]  # [100, 8, 8]


def predicted(label):
    labels = torch.full((len(z_boots),), label)  # [100]
    with torch.no_grad():
        return top(z_boots, labels).softmax(dim=1)  # [100, K, 8, 8]


# %%
apart = {
    f"{names[9]} or {names[label]}": (predicted(9) - predicted(label))
    .abs()
    .sum(dim=1)
    .mean(dim=0)
    / 2  # [8, 8]
    for label in (0, 7)
}
figures.show(
    figures.heatmaps(
        apart,
        unit="distance of the two distributions",
        limits=(0, 1),
        numbers="{:.1f}",
    ),
    "Two maps of 8 by 8 numbers. Ankle boot or T-shirt: 0.7 at the very "
    "first place, up to 0.9 in the first row, mostly 0.3 to 0.6 below. "
    "Ankle boot or sneaker: 0.0 in the upper left corner, up to 0.5 "
    "further right in the first row.",
)

# %% [markdown]
# The label reaches every place, and the first as well, where there is no past at all. In a boot and in a T-shirt the corner itself is black. But a code knows more than its own 4 × 4 pixels, and in a T-shirt the shoulder is near. So the first code differs. Boots and sneakers all begin with the same code. There the label says nothing new until the place where the boot's shaft begins.

# %% [markdown]
# ## 03.8 Gate against ReLU
#
# Is the gate worth its second half? We compare at equal size. The ReLU block has the same two stacks, the same shift and the same residuals. Its convolutions give q channels instead of 2p. So there are two ways to be fair: the same *width*, q = p, or the same number of *parameters*, with q larger than p.


# %%
class ReLUBlock(nn.Module):
    def __init__(self, first, channels, q):
        super().__init__()
        self.first, span = first, 2 - first
        self.up = nn.Conv2d(channels, q, (span, 3))
        self.left = nn.Conv2d(channels, q, (1, span))
        self.across = nn.Conv2d(q, q, 1)
        self.out = nn.Conv2d(q, q, 1)
        for each in (self.up, self.left, self.across):
            nn.init.kaiming_normal_(each.weight, nonlinearity="relu")
            nn.init.zeros_(each.bias)

    def forward(self, v, h, condition=None):  # [B, channels, H, W] each
        s = int(self.first)
        up = self.up(F.pad(v, (1, 1, 1, -s)))  # [B, q, H, W]
        left = self.left(F.pad(h, (1, -s, 0, 0)))  # [B, q, H, W]
        out = self.out((self.across(up) + left).relu())  # [B, q, H, W]
        return (up.relu(), out) if self.first else (v + up.relu(), h + out)


# %% [markdown]
# Seven blocks each, as the 8 × 8 grid needs. The embedding and the head are those of `PixelCNN`.

# %%
p, layers = 32, 7


def with_gates():
    torch.manual_seed(0)
    return PixelCNN(64, 32, p, layers, dropout=0.0)


def with_relus(q):
    torch.manual_seed(0)
    network = PixelCNN(64, 32, q, layers, dropout=0.0)
    network.blocks = nn.ModuleList(
        ReLUBlock(n == 0, q if n else 32, q) for n in range(layers)
    )
    return network


# %%
networks = {
    "gate, p = 32": with_gates(),
    "ReLU, q = 46": with_relus(46),
    "ReLU, q = 32": with_relus(32),
}
sizes = {
    name: sum(each.numel() for each in network.parameters())
    for name, network in networks.items()
}
for name, size in sizes.items():
    print(f"{name}: {size:7,} parameters")
assert abs(sizes["gate, p = 32"] / sizes["ReLU, q = 46"] - 1) < 0.03

# %% [markdown]
# The first two are of equal size within 3 %. The third has the gate's width and half its parameters.
#
# We train all three for a moment on the top codes of 2,000 photographs, in the same order, with the same settings. The number we follow is the mean of −log P on held-out photographs, in nats per code. Notebook 04 is about such a loop. Here it is enough that it is the same for all.

# %%
train = load_images("fashion_mnist_mini", "train")
train.images, train.labels = train.images[:2000], train.labels[:2000]
train_codes = extract_codes(vqvae2, train).z_top.long()  # [2000, 8, 8]
test_codes = extract_codes(vqvae2, heldout).z_top[:500].long()
# test_codes [500, 8, 8]


# %%
def short_training(network, epochs=5, lr=1.5e-2):
    order = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(network.parameters(), lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, lr, total_steps=epochs * 32, pct_start=0.1
    )
    curve = []
    for _ in range(epochs):
        for some in torch.randperm(2000, generator=order).split(64):
            batch = train_codes[some]  # [64, 8, 8]
            loss = F.cross_entropy(network(batch), batch)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            nats = F.cross_entropy(network(test_codes), test_codes)
        curve.append(nats.item())
    return curve


# %% tags=["nbval-ignore-output"]
curves = {}
for name, network in networks.items():
    curves[f"{name}: {sizes[name]:,}"] = curve = short_training(network)
    print(f"{name}: {curve[-1]:.2f} nats per code at the end")
gated, wide, narrow = curves.values()
assert gated[0] < min(wide[0], narrow[0]) - 0.03  # after an epoch
assert gated[-1] < narrow[-1] - 0.03  # equal width, at the end
assert wide[-1] - 0.06 < gated[-1] < wide[-1] + 0.06  # equal size

# %% [markdown]
# **Which learns faster, and which ends lower?** The numbers of parameters stand in the legend.

# %%
figures.show(
    figures.curves(
        curves,
        x_label="epochs of 2,000 photographs",
        y_label="held out, nats per code",
    ),
    "Three falling curves over 5 epochs, close together. They start near 3 "
    "nats per code, the gate lowest, and end near 2.3 to 2.6. The narrow "
    "ReLU ends highest, the other two nearly on one another.",
)

# %% [markdown]
# The gate is ahead in the first epochs. At equal *width* it stays ahead to the end: a gated channel is worth more than a ReLU channel. But it costs twice as much. At equal *size* the wider ReLU catches up. At the end the two lie within a few hundredths of a nat, and which one is lower hangs on the seed.
#
# That is less than we had hoped to show. The paper gives a reason *for* gates, that products help with complex interactions (section 2.1). It compares its whole network, gates and two stacks together, with the older one. So it does not say how much of the gain is the gate's. On our small grids of codes the gate learns faster, and we see no gain at equal size in the end. The shipped prior has gates, as the paper does.

# %% [markdown]
# ## 03.9 Inside the trained prior
#
# The shipped top prior has nine blocks, with p = 64. We walk through them with the codes of real photographs, and keep both stacks after each block.

# %%
images, labels = heldout[torch.arange(500)]  # [500, 1, 32, 32], [500]
z_top = vqvae2.get_code_indices(images)["indices_top"]  # [500, 8, 8]


@torch.no_grad()
def activations(codes, labels):
    condition = top.label_condition(labels, len(codes))  # [B, p, 1, 1]
    v = h = top.embed(codes)  # [B, D, H, W]
    kept = []
    for each in top.blocks:
        v, h = each(v, h, condition)  # [B, p, H, W] each
        kept.append((v.clone(), h.clone()))
    return kept


stacks = activations(z_top, labels)
print("blocks:", len(stacks), " v of each:", list(stacks[0][0].shape))

# %% [markdown]
# What is in 64 channels? We look for something that we know: how bright the photograph is at each place, [8, 8] numbers per image. For every channel we compute its correlation with the brightness, over all 500 images and 64 places: 1 or −1 means that it follows the brightness exactly, and 0 not at all. We do it for the brightness at the place *itself*, which the network has not seen; one row *above*; and one column to the *left*.

# %%
bright = F.avg_pool2d(images, 4)[:, 0]  # [500, 8, 8]
brightness = {
    "above": F.pad(bright, (0, 0, 1, 0))[:, :-1],
    "to the left": F.pad(bright, (1, 0))[:, :, :-1],
    "itself": bright,
}


# %%
def correlation(features, target):  # [B, p, H, W], [B, H, W] → [p]
    features = features.transpose(0, 1).flatten(1)  # [p, B·H·W]
    target = target.flatten()  # [B·H·W]
    features = features - features.mean(dim=1, keepdim=True)
    target = target - target.mean()
    lengths = features.norm(dim=1) * target.norm()  # [p]
    return features @ target / lengths.clamp(min=1e-9)


def best_channel(stack, target):  # the channel and its correlation
    found = correlation(stack, target)  # [p]
    number = found.abs().argmax().item()
    return number, found[number].item()


# %% [markdown]
# **What does each stack hold after the first block?** For one boot: its brightness, and the channels that follow it best. Each map is drawn around its own mean, with its sign changed where the correlation is negative.

# %%
boot = (labels == 9).nonzero()[0, 0].item()


def as_map(values):  # [8, 8], with mean 0 and deviation 1
    return (values - values.mean()) / values.std()


def map_of(number, stack, where):
    features = stacks[number - 1]["vh".index(stack)]  # [500, p, 8, 8]
    channel, sign = best_channel(features, brightness[where])
    values = features[boot, channel] * math.copysign(1, sign)  # [8, 8]
    return {f"{stack}, block {number}: {where}": as_map(values)}


photo = {"brightness of a boot": as_map(bright[boot])}
first = map_of(1, "v", "above") | map_of(1, "h", "to the left")
figures.show(
    figures.heatmaps(
        photo | first, unit="deviations from the map's mean", centred=True
    ),
    "Three maps of 8 by 8. The brightness of a boot. A channel of the "
    "vertical stack after block 1: the boot's shape one row lower, the "
    "first row of one colour. A channel of the horizontal stack after "
    "block 1: the shape one column to the right.",
)

# %% [markdown]
# The second map is the boot moved down by one row: after one block, v knows the row above and not its own. Its first row is all of one colour, since there is nothing above it. The third map is the boot moved to the right by one column: h knows the code to its left.
#
# **And after the last block?** Here is the channel of h that follows the brightness at the place itself.

# %%
last = map_of(9, "h", "itself")
figures.show(
    figures.heatmaps(
        photo | last, unit="deviations from the map's mean", centred=True
    ),
    "Two maps of 8 by 8: the brightness of the boot, and a channel of the "
    "horizontal stack after block 9. The boot's shape is in its place, but "
    "blurred, and part of the background above it is bright too.",
)

# %% [markdown]
# The boot stands in its place, where h has seen nothing yet. This is a prediction, and a rougher one than the memories above: above this low boot, where others have their shaft, h expected one. **Where along the way does memory turn into prediction?** We take the best channel after each block.


# %%
def strength(which, where):
    return [
        abs(best_channel(pair[which], brightness[where])[1])
        for pair in stacks
    ]


lines = {
    "v, the row above": strength(0, "above"),
    "h, to the left": strength(1, "to the left"),
    "h, the place itself": strength(1, "itself"),
}
figures.show(
    figures.curves(
        lines,
        x_label="block",
        y_label="correlation of the best channel",
        y_limits=(0, 1),
    ),
    "Three curves over blocks 1 to 9. What v holds of the row above "
    "falls from 0.7 to 0.3. What h holds of the place to the left "
    "starts at 0.8 and falls below 0.7. What h holds of the place "
    "itself starts at 0.7 and rises to 0.8.",
)

# %% [markdown]
# In h, the two curves cross after the second block or so: the codes to the left are strongest after the first block, the place itself after the last. The 0.7 at the start is no prediction yet. Neighbours are alike, so the memory of the left one gives as much. What the blocks add is the rise. In v, the plain brightness of the row above fades. The head never reads v, so v may keep whatever helps h, in whatever form.
#
# **And if one code changes, who notices?** We replace the code at (3, 3) of the boot, and compare both stacks before and after.

# %%
changed = z_top[boot : boot + 1].clone()  # [1, 8, 8]
changed[0, 3, 3] = (changed[0, 3, 3] + 32) % 64
pair = torch.cat([z_top[boot : boot + 1], changed])  # [2, 8, 8]
kept = activations(pair, torch.tensor([9, 9]))
maps = {}
for name, number in (("h", 1), ("v", 3), ("h", 3)):
    stack = kept[number - 1]["vh".index(name)]  # [2, p, 8, 8]
    moved = (stack[0] - stack[1]).abs().mean(dim=0)  # [8, 8]
    maps[f"{name}, block {number}"] = moved / moved.max()
figures.show(
    figures.heatmaps(maps, unit="change, as a share of the largest"),
    "Three maps of 8 by 8, dark where nothing changes. After block 1, h "
    "changes right of the code, at (3, 4), and in three places of row "
    "4, below it. After block 3, v changes in rows 4 to 6, and h in "
    "these and in row 3 right of the code.",
)

# %% [markdown]
# This is the receptive field read backwards. v hears of the change only below it, one more row a block and one more column at each side. h hears of it there as well, through v, and to the right in its own row. At (3, 3) itself nothing moves in either, nor anywhere before.

# %% [markdown]
# ## 03.10 Where it breaks
#
# A block has few lines, and three of them can go wrong without an error message. Our block by hand takes the shift and the residual as arguments, so we can make each mistake on purpose.


# %%
def by_hand(shifts, residuals):
    torch.manual_seed(0)
    weights = [new_weights(shift, 4, 4) for shift in shifts]

    def network(features):  # [B, 4, H, W]
        v = h = features
        for w, shift, residual in zip(
            weights, shifts, residuals, strict=True
        ):
            v, h = block(v, h, w, shift, residual)
        return h  # [B, 4, H, W]

    return network


# %%
once, later = [1] + [0] * 7, [0] + [1] * 7
wirings = {
    "as it should be": by_hand(once, later),
    "shift in every block": by_hand([1] * 8, later),
    "shift in no block": by_hand([0] * 8, later),
    "residual in the first": by_hand(once, [1] * 8),
}

# %% [markdown]
# **What does each mistake do to what a place sees?**

# %%
fields = {
    name: seen_by(network, place, shape, channels=4)
    for name, network in wirings.items()
}
figures.show(
    figures.receptive_fields(fields, place, title="eight blocks"),
    "Four grids. As it should be: all of the past, no more. Shift in every "
    "block: a hatched triangle to the upper right, the blind spot. Shift in "
    "no block: places right of the frame and the frame itself are red, a "
    "leak. Residual in the first: the same.",
)

# %% [markdown]
# Shift in every block, and the blind spot is back. After d blocks such a v holds row y − d *alone*, d columns to each side: what it knew of the rows between is gone. So of row y − d, h gets to hear d columns to the right and no more. That is the line of 45° again. And nobody would notice. No place sees its future, the loss falls, and samples look like something. The network is worse than it could be, for ever.
#
# The other two are leaks. Without any shift, v sees its own row, all of it. With residuals around the first block, the code itself walks into h and into v, and from v at its right into h once more: the same picture. Their loss is too good to be true, as in notebook 02.
#
# So a test for leaks is not enough. This is the check that catches all three: over all places, no leak, *and* no past place unseen once there are as many blocks as the grid needs.

# %%
print(f"{'':24}leaks  unseen")
for name, network in wirings.items():
    leaks, unseen = count_faults(network)
    print(f"{name:24}{leaks:5} {unseen:7}")
same = fields["shift in every block"].equal(seen["8 layers"])
print("shift in every block sees what the masked stack sees:", same)

# %% [markdown]
# Each mistake shows in one column of the table, and none shows in both. The last line compares two pictures for our place (5, 2): shifted in every block, two stacks see what one masked stack sees. The counts over all places agree too, with the table further up. All the wiring was for nothing.

# %% [markdown]
# ## 03.11 Exercises
#
# Change the `None` in a cell and run it. The answer is judged by trying it out.

# %% [markdown] tags=["about-solutions"]
# A solution follows each exercise in a collapsed cell: click the bar at its left to open it.

# %% [markdown]
# ### Exercise 1: write the gate
#
# Without scrolling up, write equation 2. Your function is given x of shape [B, 2p, H, W]. The first half of the channels is W_f ∗ x, the second half is W_g ∗ x. It gives [B, p, H, W].


# %% tags=["exercise"]
def my_gate(x):
    return None  # your turn


check.gate(my_gate)


# %% tags=["solution"] jupyter={"source_hidden": true, "outputs_hidden": true}
# Features through tanh, gates through the sigmoid, and the product of both.
def gate_by_slices(x):
    p = x.shape[1] // 2
    return torch.tanh(x[:, :p]) * torch.sigmoid(x[:, p:])  # [B, p, H, W]


check.gate(gate_by_slices)

# %% [markdown]
# ### Exercise 2: wire the two stacks
#
# You are given the parts of a block as functions, with the padding and the shift already in them. Wire them, so that no place sees its future and none of its past is missing. Look at the drawing, not at our code.
#
# - `parts.look_up(v)` and `parts.look_left(h)`: the two convolutions, p channels to 2p
# - `parts.across(…)`: the 1×1 between the stacks, 2p to 2p
# - `parts.gate(…)`: 2p to p
# - `parts.out(…)`: the last 1×1, p to p
# - `parts.first`: whether this is the first block
#
# The function gives the new v and the new h. There is no label here. It is judged by gradient, in a network of five blocks, and by its output against the package's.


# %% tags=["exercise"]
def my_block(v, h, parts):
    return None  # your turn: the new v and the new h


check.wiring(my_block)


# %% tags=["solution"] jupyter={"source_hidden": true, "outputs_hidden": true}
# v first, since h needs to be told what v found, before v's gate.
def wired_block(v, h, parts):
    found_above = parts.look_up(v)  # [B, 2p, H, W]
    told = parts.look_left(h) + parts.across(found_above)  # [B, 2p, H, W]
    new_v = parts.gate(found_above)  # [B, p, H, W]
    new_h = parts.out(parts.gate(told))  # [B, p, H, W]
    return (new_v, new_h) if parts.first else (v + new_v, h + new_h)


check.wiring(wired_block)

# %% [markdown]
# ### Exercise 3: count the parameters
#
# **How many numbers does `GatedBlock("B", 24, 24)` learn?** It is a later block, with 24 channels in and p = 24, kernels of k = 3, and no label. Work it out on paper from the shapes in `new_weights`, then let it be counted.

# %% tags=["exercise"]
my_count = None  # your turn: a whole number

check.parameters(my_count, "B", 24, 24)

# %% tags=["solution"] jupyter={"source_hidden": true, "outputs_hidden": true}
# Weights: outputs · inputs · places under the kernel. Biases: one an output.
width = 24
weights_up = 2 * width * width * (2 * 3)  # 2 rows of 3
weights_left = 2 * width * width * 2  # 2 codes
weights_across = 2 * width * 2 * width
weights_out = width * width
biases = 3 * 2 * width + width
count = weights_up + weights_left + weights_across + weights_out + biases

check.parameters(count, "B", 24, 24)

# %% [markdown]
# More than half of it is the vertical convolution. A masked 3 × 3 kernel would store 9 places and use 5. Our two cropped kernels store 6 and 2, and use them all.

# %% [markdown]
# ### Exercise 4: add the label
#
# Write the way in for a label. You are given features [B, 2p, H, W], labels [B], whole numbers, and a table [classes, 2p] with a row for each class. Add to each image the row of *its* label, at every place. The check puts your function into a small network, in front of v's gate, and looks at the logits.


# %% tags=["exercise"]
def my_label_bias(features, labels, table):
    return None  # your turn


check.label_bias(my_label_bias)


# %% tags=["solution"] jupyter={"source_hidden": true, "outputs_hidden": true}
# Take the rows, and give them a height and a width of 1 to be spread over.
def add_label(features, labels, table):
    rows = table[labels]  # [B, 2p]
    return features + rows[:, :, None, None]  # [B, 2p, H, W]


check.label_bias(add_label)

# %% [markdown]
# ## What you can do now
#
# - Build a gated block of two stacks by hand, with the shift in the right place, and show that it equals the package's.
# - Say what each stack sees after L blocks, and how many blocks per grid needs.
# - Test a network for both faults, the leak and the blind spot, and tell which mistake made which.
#
# **To take away.** How many blocks does a grid of 16 × 16 codes need, with k = 3 and with k = 5? Why may the residual around the *vertical* stack stand in a later block, and not in the first? If the label were put before the first code as an extra code instead of a bias, which places would hear of it after one block?
#
# **Sources.** The gate, the two stacks and the label's bias: van den Oord, Kalchbrenner, Vinyals, Espeholt, Graves and Kavukcuoglu 2016, [arXiv 1606.05328](https://arxiv.org/abs/1606.05328), sections 2.1 to 2.3, equations 2 and 4, figures 1 and 2. Masks A and B: van den Oord, Kalchbrenner and Kavukcuoglu 2016, [arXiv 1601.06759](https://arxiv.org/abs/1601.06759), section 3.4. A prior of this kind over a VQ-VAE-2's codes: Razavi, van den Oord and Vinyals 2019, [arXiv 1906.00446](https://arxiv.org/abs/1906.00446), section 3.2.
#
# ← [02 · Masked convolutions](02_masked_convolutions.ipynb) · [the course](../README.md#the-course) · [words and symbols](GLOSSARY.md) · next: [04 · The top prior](04_top_prior.ipynb) →
