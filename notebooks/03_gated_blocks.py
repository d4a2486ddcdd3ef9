# %% [markdown]
# # 03 · Gated blocks
#
# **What you will make.** Replace the single stack of notebook 02 by two stacks that together see the whole past. Build the gate, the two stacks and the connection between them by hand. Train a gate and a ReLU for comparison, and look into the trained prior. Break the block in three ways, and catch each mistake.
#
# **What you will learn.** How two stacks close the blind spot, why the shift happens only once, why each convolution before a gate gives twice the channels, and how a label gets into the network.
#
# **What you need.** Notebook [02](02_masked_convolutions.ipynb) for raster order, masks A and B, receptive fields and the blind spot; notebook [00](00_start_here.ipynb) for *prior*, *top codes* and *nats per code*.
#
# **Time.** About 58 minutes for the core and 154 for all, with the exercises; 45<!--= timings 03_gated_blocks --> seconds to run on two CPU cores.
#
# ← [02 · Masked convolutions](02_masked_convolutions.ipynb) · [the course](../README.md#the-course) · [words and symbols](GLOSSARY.md) · next: [04 · The top prior](04_top_prior.ipynb) →

# %% tags=["version"]
from pixelprior.course import needs

needs("0.2")  # says so if the installed package is older

# %%
import math

import torch
import torch.nn.functional as F
from torch import nn

from pixelprior.assets import load_shipped
from pixelprior.course import figures
from pixelprior.course.causality import blind_spot, leak, seen_by
from pixelprior.course.checks import blocks as check
from pixelprior.course.widgets import explore
from pixelprior.layers import GatedBlock, MaskedConv2d
from pixelprior.layers import gate as package_gate
from pixelprior.pixelcnn import PixelCNN

# %% [markdown]
# ## 03.1 What a single stack cannot see
#
# *Core · 3 minutes*
#
# Notebook 02 stacked masked convolutions and used the gradient to find the positions that an output depends on. Part of the past stayed out of reach: **what does the stack not see, however many layers it has?**

# %%
torch.manual_seed(0)
shape, position = (8, 8), (5, 2)
single = [MaskedConv2d("B" if n else "A", 4, 4) for n in range(8)]
seen = {
    f"{n} layer{'s' * (n > 1)}": seen_by(
        nn.Sequential(*single[:n]), position, shape, channels=4
    )  # [H, W]
    for n in (1, 3, 5, 8)
}
figures.show(
    figures.receptive_fields(seen, position, title="one masked stack"),
    "blind_spot",
)

# %% [markdown]
# The hatched triangle is the **blind spot**: with each row further up, the stack reaches only one more column to the right, so that its view ends at an edge of 45°. Additional layers do not reach beyond this edge.

# %% [markdown]
# ## 03.2 Two stacks instead of one
#
# *Core · 12 minutes*
#
# The edge is there because one mask has to do two jobs. In the row of the framed position, the mask must end before that position, while in the rows above nothing is forbidden. But a code that is one row up and several columns to the right could be reached only by a step up and then by steps to the right within that row, and the mask forbids steps to the right within a row.
#
# Van den Oord and colleagues ([arXiv 1606.05328](https://arxiv.org/abs/1606.05328), "the paper" from here on) split the jobs between two stacks.
#
# - The **vertical stack** v looks only at the rows above. It sees these rows in their full width, so that it needs no mask within a row.
# - The **horizontal stack** h looks only at the codes to the left in its own row, and receives from the vertical stack what is above.
#
# Both stacks are feature maps [B, p, H, W] with p channels each, where p is the number of **hidden channels**. The logits are computed from h alone.
#
# Now no kernel has to be masked: we **crop** it to what it may see, so that nothing is multiplied by zero. Let k be the kernel's width and r = k // 2 its **reach**. Without a shift, the kernel of the vertical convolution covers its own row and r rows above, so that it is r + 1 rows high. With the **shift** it leaves its own row out, and is r rows high.
#
# **Which rows reach the output at row y?** The figure shows both kernels for k = 3, over an input with a row of zeros above it.

# %%
figures.show(figures.shifted_kernel(), "shifted_kernel")

# %% [markdown]
# Padding decides on which rows a kernel lies: both inputs get r rows of zeros above, and with the shift the last row of the input is cut off, which PyTorch calls a negative padding. The output then has as many rows as the input. In the code, `conv` is the convolution itself. (The first block receives embedded codes of D numbers each, later blocks p channels. `conv` gives 2p; section 03.3 says why.)


# %%
def look_up(v, conv, k, shift):
    r = k // 2
    # r columns at each side, r rows above; shifted, the last row is cut off.
    v = F.pad(v, (r, r, r, -shift))  # [B, D, H + r - shift, W + 2r]
    return conv(v)  # [B, 2p, H, W]


# %% [markdown]
# To see this in numbers, we take an input whose rows hold 1, 2, 3 and 4, and a kernel that copies the last row it sees.

# %%
rows = torch.arange(1.0, 5).view(1, 1, 4, 1).repeat(1, 1, 1, 3)
# rows [1, 1, 4, 3]: 4 rows of 3 columns
print("rows                ", rows[0, 0, :, 0].int().tolist())
for shift in (0, 1):
    copies = torch.zeros(1, 1, 2 - shift, 3)  # k = 3: 2 rows, or 1
    copies[0, 0, -1, 1] = 1
    out = look_up(
        rows, lambda x, w=copies: F.conv2d(x, w), 3, shift
    )  # [1, 1, 4, 3]
    print(f"last seen, shift = {shift}:", out[0, 0, :, 0].int().tolist())

# %% [markdown]
# Without the shift, the output in row y sees row y. With the shift, it sees only the rows up to y − 1, and the first row sees only padding. The horizontal convolution is the same idea, turned by 90°.


# %%
def look_left(h, conv, k, shift):
    h = F.pad(h, (k // 2, -shift, 0, 0))  # [B, D, H, W + r - shift]
    return conv(h)  # [B, 2p, H, W]


# %% [markdown]
# **Which positions lie under each kernel?** We use the gradient once more, now for k = 5. A 1 marks a position that the kernel has a weight for, and the frame marks the position of the output.

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
    conv = nn.Conv2d(1, 1, size)
    under[name] = seen_by(
        lambda x, look=look, c=conv, s=shift: look(x, c, 5, s),
        middle,
        (5, 5),
    )  # [5, 5]
figures.show(
    figures.masks(under),
    "masks_of_stacks",
)

# %% [markdown]
# The shifted pair is for the first block, where the input is the codes themselves. It plays the role of mask A, because the first and the third picture together are mask A.
#
# In the second picture, the vertical kernel without a shift sees its own row, even to the *right* of the frame. Is that a leak? In a later block it is not, because the input there is not the codes, but features that were shifted already: v at row y depends on the rows up to y − 1, in every column. The same holds for the fourth picture: in a later block, h at the frame depends only on codes before the frame, so that the kernel may include it. **The shift happens once**, in the first block, and all later blocks build on it.

# %% [markdown]
# ## 03.3 The gate
#
# *Core · 7 minutes*
#
# A convolution is often followed by a ReLU. In the block of the paper it is followed by a **gate** instead (equation 2):
#
# $$
# \text{out} = \tanh(W_f * x) \odot \sigma(W_g * x)
# $$
#
# Here x is the input of the layer. The star is a convolution, and ⊙ is the product of numbers at the same position. W_f computes **features**, which tanh keeps between −1 and 1. W_g computes how much of each feature passes: since σ is the sigmoid, this is a share between 0 (the gate is closed) and 1 (it is open). The share differs from position to position.

# %% [markdown]
# **How much of a feature does the gate let through?** The figure has one curve each for an open, a half-open and a closed gate, and one for the ReLU.

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
    "gates",
)

# %% [markdown]
# A ReLU has only one output for a given feature, while the gate's output depends on a second number and stays between −1 and 1. The figure also shows what the gate costs: a half-open gate halves what goes through it.
#
# W_f and W_g are two convolutions of the same x, with p outputs each, and we stack them into a single one. That is why **2p** channels come out of each convolution before a gate: the first half is the features, the second half the gate.


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
# *Core · 12 minutes*
#
# Now we connect the parts as in figure 2 of the paper. The drawing also shows where the label enters, which we explain later.

# %%
figures.show(figures.gated_block(), "gated_block")

# %% [markdown]
# Three things in the drawing are important.
#
# - The connection between the stacks goes **one way**, from v to h. In one row, h at column c + 1 depends on the code at column c. If h fed this into v, then v at column c + 1 would depend on it too. The next vertical kernel at column c looks one column to the right, so that the output at column c would see its own code.
# - This connection leaves v *before* the gate, with all 2p channels, and goes through a **1×1 convolution**, which cannot leak because it mixes channels and never positions.
# - The **residuals** add the old v and the old h to the new ones, so that a block has to learn only what to change. The first block has none, because there v and h are the code itself, which is to be predicted. (Figure 2 of the paper has a residual around h alone. Section 03.6 shows why our block has one around v as well.)
#
# We write the block as a module. Its four convolutions have the names that the package uses, so that both can hold the same weights: `vertical` and `horizontal` are the convolutions inside look_up and look_left, `vertical_to_horizontal` is the 1×1 named *across* in the drawing, and `horizontal_out` is the last 1×1. Compare the code of `forward` with the drawing, line by line.


# %%
class Block(nn.Module):
    def __init__(self, channels, p, k=3, shift=False, residual=True):
        super().__init__()
        self.k, self.shift, self.residual = k, shift, residual
        span = k // 2 + 1 - shift  # rows, or columns, under a kernel
        self.vertical = nn.Conv2d(channels, 2 * p, (span, k))
        self.horizontal = nn.Conv2d(channels, 2 * p, (1, span))
        self.vertical_to_horizontal = nn.Conv2d(2 * p, 2 * p, 1)
        self.horizontal_out = nn.Conv2d(p, p, 1)

    def forward(self, v, h, label=0):  # [B, channels, H, W] each
        up = look_up(v, self.vertical, self.k, self.shift) + label
        left = look_left(h, self.horizontal, self.k, self.shift)
        across = self.vertical_to_horizontal(up)  # all three [B, 2p, H, W]
        new_v = gate(up)  # [B, p, H, W]
        new_h = self.horizontal_out(gate(across + left))  # [B, p, H, W]
        if self.residual:
            return v + new_v, h + new_h
        return new_v, new_h


# %% [markdown]
# The package has this block as `GatedBlock`. The first argument says which kind of block it is: "A" for the first block, with the shift and no residuals, "B" for all later ones. We copy its weights into our block and compare: are both stacks the same?

# %%
torch.manual_seed(0)
v, h = torch.randn(2, 2, 6, 8, 8)  # [B, D, H, W] each
for mask_type, k in (("A", 3), ("B", 3), ("A", 5), ("B", 5)):
    first = mask_type == "A"
    theirs = GatedBlock(mask_type, 6, 6, k)
    hand = Block(6, 6, k, shift=first, residual=not first)
    hand.load_state_dict(theirs.state_dict())
    for name, one, other in zip("vh", hand(v, h), theirs(v, h), strict=True):
        difference = (one - other).abs().max().item()
        print(mask_type, f"k = {k}, {name}: < 1e-5:", difference < 1e-5)
        assert difference < 1e-5

# %% [markdown]
# Little is missing between these blocks and a whole network. An embedding turns each code into a vector, which is the input of both stacks. After the blocks, the **head** computes K logits from the last h with 1×1 convolutions. The package's `PixelCNN` is built in this way.


# %%
class SmallPixelCNN(nn.Module):
    def __init__(self, K, D, p, layers):
        super().__init__()
        self.embedding = nn.Embedding(K, D)
        self.blocks = nn.ModuleList(
            Block(p if n else D, p, shift=n == 0, residual=n > 0)
            for n in range(layers)
        )
        self.head = nn.Sequential(
            nn.ReLU(), nn.Conv2d(p, p, 1), nn.ReLU(), nn.Conv2d(p, K, 1)
        )

    def forward(self, codes):  # codes [B, H, W]
        v = h = self.embedding(codes).permute(0, 3, 1, 2)  # [B, D, H, W]
        for each in self.blocks:
            v, h = each(v, h)  # [B, p, H, W] each
        return self.head(h)  # [B, K, H, W]


# %%
torch.manual_seed(0)
model = PixelCNN(64, 16, hidden_channels=24, num_layers=5).eval()
hand = SmallPixelCNN(64, 16, 24, 5)
hand.load_state_dict(model.state_dict())
codes = torch.randint(64, (2, 8, 8))  # [B, H, W]
with torch.no_grad():
    difference = (hand(codes) - model(codes)).abs().max().item()
print("the package's PixelCNN: < 1e-5:", difference < 1e-5)
assert difference < 1e-5

# %% [markdown]
# ## 03.5 What do the two stacks see?
#
# *Core · 17 minutes*
#
# We first look at each stack alone. For the vertical stack we look at v, and for the horizontal stack we set the 1×1 between the stacks to zero in a copy. **What does each stack see after six blocks, and what do the two see joined?**


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
        lambda x: both_stacks(blocks, x)[which], position, shape, channels=4
    )  # [H, W]


# %%
import copy

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
    figures.receptive_fields(fields, position, title="six blocks"),
    "fields_of_stacks",
)

# %% [markdown]
# The vertical stack sees all columns of the rows above, and the horizontal stack sees the codes to the left in its own row. Joined, they see the whole past and nothing but the past.
#
# **How does the view of h grow from block to block?**

# %% tags=["cover"]
fields = {
    f"{n} block{'s' * (n > 1)}": field(joined[:n], "h")
    for n in (1, 2, 3, 4, 5, 6)
}
figures.show(
    figures.receptive_fields(
        fields, position, columns=3, title="two stacks: what h sees"
    ),
    "field_by_block",
)

# %% [markdown]
# The hatched positions in the first four pictures are not a lasting blind spot, because each block adds a row above and a column on either side. In the first figure of this notebook, nothing changed from layer 5 on and a hatched triangle remained, while here no hatched position is left from 5 blocks on.
#
# So far we have looked at one position only. We now count over the whole grid, for several numbers of blocks: the positions with a leak, and the pairs of a position and a past position that it does not see.


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
for n in (1, 4, 6, 7):
    two = count_faults(lambda x, n=n: both_stacks(joined[:n], x)[1])
    one = count_faults(nn.Sequential(*single[:n]))
    print(f"{n:6} {two[0]:8} {two[1]:7} {one[0]:13} {one[1]:7}")

# %% [markdown]
# A grid of 8 × 8 positions needs seven blocks: the last code of a row depends on the first one, seven positions away, and each block reaches one position farther. The single stack keeps its blind spot, whatever its depth.
#
# **What does each stack see after three layers, and what does a wider kernel add?** In JupyterLab, move the slider: how many layers does each kernel need, and does the hatched part of the single stack ever disappear?


# %%
grid, here = (9, 9), (6, 3)


def fields_of(layers, k):
    blocks = new_blocks(layers, k)
    masks = "A" + "B" * (layers - 1)
    masked = [MaskedConv2d(mask, 4, 4, k) for mask in masks]
    networks = {
        f"one masked stack, k = {k}": nn.Sequential(*masked),
        f"vertical: v, k = {k}": lambda x: both_stacks(blocks, x)[0],
        f"joined: h, k = {k}": lambda x: both_stacks(blocks, x)[1],
    }
    return {
        name: seen_by(each, here, grid, 4) for name, each in networks.items()
    }


# %%
def two_kernels(layers):
    return figures.receptive_fields(
        fields_of(layers, 3) | fields_of(layers, 5),
        here,
        columns=3,
        title=f"{layers} layer{'s' * (layers > 1)}",
    )


explore(two_kernels, "two_kernels", layers=[3, 1, 2, 4, 5, 6, 7, 8])

# %% [markdown]
# After L blocks of reach r, the vertical stack sees L · r rows up and L · r columns to each side, and the horizontal stack sees L · r codes to the left. So a grid with n rows and n columns needs (n − 1) ÷ r blocks, rounded up. (The framed position needs fewer: six for k = 3, and three for k = 5.) In the single stack, a wider kernel makes the edge of the field flatter, from one column per row to r columns per row, and the hatched part smaller, while more layers do not change the edge. At this position the hatched part does not disappear for k = 5 either.

# %% [markdown]
# ## 03.6 Where it breaks: a distant code hardly counts
#
# *Further · 9 minutes*
#
# A position sees a code when the gradient for this code is not zero, but that says nothing about the gradient's size. A half-open gate halves what goes through it, and a network has many gates in a row. We therefore measure sizes at the default size of the package's `PixelCNN`: 15 blocks of 128 channels, before any training.
#
# **How much does a code many rows above count?** For one position in the last row of a 16 × 16 grid, we take the gradient of a random combination of its logits with respect to the embedded codes of each row above: without the residual around v, with it, and with it in a network of twice the depth. The figure shows the gradient's size divided by that for the row directly above. (The ratio may exceed 1.)


# %%
def share_by_rows(blocks, residual):
    torch.manual_seed(0)
    deep = PixelCNN(64, 32, 128, blocks)
    for each in deep.blocks[1:]:
        each.vertical_residual = residual
    codes = torch.randint(64, (4, 16, 16))
    v = h = embedded = deep.embed(codes).detach().requires_grad_()
    for each in deep.eval().blocks:
        v, h = each(v, h)  # [B, p, H, W] each
    logits = deep.head(h)[:, :, -1, 8]  # [B, K]
    weights = torch.randn(logits.shape)  # one direction among K
    (gradient,) = torch.autograd.grad((logits * weights).sum(), embedded)
    size = gradient.square().sum(dim=(0, 1, 3)).sqrt()  # [16]: by row
    size = size.flip(0)[1:]  # [15]: nearest first, without the last row
    return size / size[0]


# %%
share = {
    "15 blocks, no residual around v": share_by_rows(15, False),
    "15 blocks, with it": share_by_rows(15, True),
    "30 blocks, with it": share_by_rows(30, True),
}
figures.show(
    figures.curves(
        share,
        x_label="rows above",
        y_label="gradient ÷ that of the row above",
        log_y=True,
    ),
    "gradient_by_distance",
)

# %%
without, with_it, deeper = (each[7].item() for each in share.values())
print("eight rows above, no residual: below 1/1000:", without < 1 / 1000)
print("with it, at least 5 times as much:", with_it > 5 * without)
print("with 30 blocks, at least 50 times as much:", deeper > 50 * without)
assert without < 1 / 1000
assert with_it > 5 * without and deeper > 50 * without

# %% [markdown]
# All three networks see all of the past, and no test for a blind spot tells them apart. But in the first network, the codes eight rows above count for less than a thousandth of those in the row directly above, because their signal has to pass eight gates or more, and each gate makes it smaller. Although such a network has many blocks, the nearby rows have by far the largest influence when its training begins. The residual around v is a way past the gates. It costs one sum per block, and it cannot leak, since v at row y has seen only the rows above.
#
# At the right end of the figure, the residual does not help the network of 15 blocks. A signal from fifteen rows above has to move down by one row in each block, so that it passes every kernel and every gate, and can never take the residual. Signals from nearer rows can take it, so that the share of the farthest rows becomes even smaller than without the residual. With 30 blocks it is many times larger, although it is still below a thousandth. One block fewer than the grid has rows is enough to *see* the first row, and more blocks give it more weight.
#
# The paper's block has no residual around v. The package's block has one, and so has the shipped prior.

# %% [markdown]
# ## 03.7 The label
#
# *Further · 11 minutes*
#
# The shipped prior can draw images of a given class, whose number is the label. An embedding turns the label into a vector. Each block multiplies this vector by a matrix V of its own, and adds the product before the gate (equation 4 of the paper):
#
# $$
# \text{out} = \tanh(W_f * x + V_f c) \odot \sigma(W_g * x + V_g c)
# $$
#
# Here c is the label's vector, and not a column. V_f and V_g are stacked into one matrix V with 2p rows, as W_f and W_g are. The product is a bias, the same at every position of the grid. In the package, each block has one V, for the vertical features, and the 1×1 between the stacks relays the bias to h's gate.
#
# Written by hand, the label takes one product and one sum.

# %%
torch.manual_seed(0)
theirs = GatedBlock("B", 6, 6, condition_channels=5)
label_vector = torch.randn(2, 5)  # [B, channels of the condition]
V = theirs.condition.weight[:, :, 0, 0]  # [2p, 5]
bias = (label_vector @ V.T)[:, :, None, None]  # [B, 2p, 1, 1]
hand = Block(6, 6)
hand.load_state_dict(theirs.state_dict(), strict=False)  # all but V
mine = hand(v, h, label=bias)  # v and h are the random ones of 03.4
given = theirs(v, h, label_vector[:, :, None, None])
for name, one, other in zip("vh", mine, given, strict=True):
    difference = (one - other).abs().max().item()
    print(f"with a label, {name}: < 1e-5:", difference < 1e-5)

# %% [markdown]
# What a network is given in addition to the codes is called a **condition**. The label is a condition that is the same at every position, [B, channels, 1, 1]. A condition may also differ from position to position, [B, channels, H, W]; notebook 05 gives the bottom prior the top codes in this way.
#
# **At which positions does the label matter?** We take the top codes of 100 photographs of ankle boots, and let the shipped prior predict each code twice, once with the right label and once with a wrong one. The maps show, on average over the photographs, how far the two distributions P and P′ of a code are apart, by their **total variation distance** (the sum is over the K codes):
#
# $$
# \tfrac{1}{2} \sum_k |P_k - P'_k|
# $$
#
# At 0 the two distributions are the same, and at 1 they have nothing in common.

# %%
from pixelprior.data.images import load_images

vqvae2, prior = load_shipped()
K = prior.num_embeddings
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
    "classes_apart",
)

# %% [markdown]
# The label reaches every position, even the first one, which has no past at all. Between boots and T-shirts the distribution of the first code differs strongly, although the upper left corner of both *photographs* is black. The reason is probably that a code depends on more than its own 4 × 4 pixels, and the shoulder of a T-shirt is near. Between boots and sneakers the distance is close to 0 in the upper left corner, where the prior expects the same background for both. It is larger further to the right.

# %% [markdown]
# ## 03.8 Gate against ReLU
#
# *Further · 16 minutes*
#
# Is the gate worth the second half of its channels? To compare, we write a ReLU block with the same two stacks, the same shift and the same residuals. Its convolutions give q channels instead of 2p, so that there are two fair comparisons: the same *width*, q = p, or the same number of *parameters*, with q larger than p.


# %%
class ReLUBlock(nn.Module):
    def __init__(self, first, channels, q):
        super().__init__()
        self.first, span = first, 2 - first
        self.up = nn.Conv2d(channels, q, (span, 3))
        self.left = nn.Conv2d(channels, q, (1, span))
        self.across = nn.Conv2d(q, q, 1)
        self.out = nn.Conv2d(q, q, 1)
        # The usual start for layers before a ReLU:
        for each in (self.up, self.left, self.across):
            nn.init.kaiming_normal_(each.weight, nonlinearity="relu")
            nn.init.zeros_(each.bias)

    def forward(self, v, h, condition=None):  # condition: not used here
        s = int(self.first)
        up = self.up(F.pad(v, (1, 1, 1, -s)))  # [B, q, H, W]
        left = self.left(F.pad(h, (1, -s, 0, 0)))  # [B, q, H, W]
        out = self.out((self.across(up) + left).relu())  # [B, q, H, W]
        return (up.relu(), out) if self.first else (v + up.relu(), h + out)


# %% [markdown]
# Each network has seven blocks, as many as the 8 × 8 grid needs. The embedding and the head are those of `PixelCNN`.

# %%
p, layers = 32, 7


def with_gates():
    torch.manual_seed(0)
    return PixelCNN(K, 32, p, layers, dropout=0.0)


def with_relus(q):
    torch.manual_seed(0)
    network = PixelCNN(K, 32, q, layers, dropout=0.0)
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
# The first two networks are of equal size within 3 %, and the third has the gate's width and half its parameters.
#
# We train all three for a short time on the top codes of 2,000 photographs, in the same order and with the same settings. We follow the mean of −log P on held-out photographs, in nats per code. Notebook 04 explains such a loop; here it only has to be the same for all three.

# %%
from pixelprior.data.codes import extract_codes

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
    )  # an epoch has 32 batches
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
assert gated[-1] < narrow[-1] - 0.01  # equal width, at the end
assert wide[-1] - 0.06 < gated[-1] < wide[-1] + 0.06  # equal size

# %% [markdown]
# **Which network learns faster, and which ends lower?** The legend gives the number of parameters of each network.

# %%
figures.show(
    figures.curves(
        curves,
        x_label="epochs of 2,000 photographs",
        y_label="held out, nats per code",
        x_ticks=range(1, 6),
    ),
    "gate_or_relu",
)

# %% [markdown]
# The gate is ahead in the first epochs. At equal *width* it stays ahead to the end, as it did in our runs from five seeds, so a gated channel is worth more than a ReLU channel, but it also costs twice as much. At equal *size* the wider ReLU catches up, and after five epochs the two are nearly the same. The figure shows one run of each network, with one learning rate, so that a difference of a few hundredths of a nat does not tell which of the two is better.
#
# That is less than we had hoped to show. The paper gives a reason *for* gates, that products help with complex interactions (section 2.1). But it compares its whole network, gates and two stacks together, with the older one, so that it does not say how much of the gain is due to the gate. In this short training on small grids of codes the gate learns faster at first, and at equal size we see no gain after five epochs. The shipped prior has gates, as the paper does.

# %% [markdown]
# ## 03.9 Inside the trained prior
#
# *Further · 22 minutes*
#
# The shipped top prior has nine blocks, with p = 80<!--= prior hidden_channels -->. We run the codes of real photographs through them, and keep both stacks after each block.

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
# What do these channels hold? A **linear probe** tests whether a quantity that we know can be computed from the channels, as a weighted sum of them plus a constant. The idea is from [arXiv 1610.01644](https://arxiv.org/abs/1610.01644), section 3, where the probes are linear classifiers; we find the weights by least squares. What we know is how bright the photograph is at each position, [8, 8] numbers per image. We ask for the brightness one row *above*, one column to the *left*, and at the position *itself*, whose code h has not seen.
#
# The weights are fitted on 250 photographs, and the other 250 tell how good they are. With y for the brightness of these others, ŷ for the weighted sum (`guess`) and ȳ for the mean,
#
# $$
# R^2 = 1 - \frac{\sum (y - \hat y)^2}{\sum (y - \bar y)^2}
# $$
#
# is the share of the brightness's variance that the weighted sum explains. It is 1 where the sum is exact, and 0 where it is no better than the mean.

# %%
bright = F.avg_pool2d(images, 4)[:, 0]  # [500, 8, 8]
brightness = {
    "above": F.pad(bright, (0, 0, 1, 0))[:, :-1],  # outside: 0
    "to the left": F.pad(bright, (1, 0))[:, :, :-1],
    "itself": bright,
}


def probe(features, target):  # [500, p, 8, 8] and [500, 8, 8]
    x = features.movedim(1, -1).double()  # [500, 8, 8, p]
    x = F.pad(x, (0, 1), value=1.0)  # [500, 8, 8, p + 1]: a constant
    fit, goal = x[:250].flatten(0, 2), target[:250].flatten().double()
    w, *_ = torch.linalg.lstsq(fit, goal[:, None])  # [p + 1, 1]
    guess = (x[250:] @ w)[..., 0]  # [250, 8, 8]
    off = (guess - target[250:]).square().mean()
    return guess, 1 - (off / target[250:].var()).item()


# %% [markdown]
# **What can be read from each stack after the first block?** The figure shows the brightness of a boot that the weights were not fitted on, and the brightness that the weighted sums give for it.

# %%
boot = 250 + (labels[250:] == 9).nonzero()[0, 0].item()


def map_of(number, stack, where):
    features = stacks[number - 1]["vh".index(stack)]  # [500, p, 8, 8]
    guess, _ = probe(features, brightness[where])  # [250, 8, 8]
    name = f"{stack}, block {number}: {where}"
    return {name: guess[boot - 250]}  # [8, 8]


photo = {"brightness of a boot": bright[boot]}  # [8, 8]
maps = photo | map_of(1, "v", "above") | map_of(1, "h", "to the left")
figures.show(
    figures.heatmaps(
        maps, unit="brightness", limits=(0, 1), numbers="{:.1f}"
    ),
    "first_block_probes",
)

# %% [markdown]
# The second map is the boot moved one row down, because after one block v has seen the row above and not its own. In the first row nothing is above: we have set the brightness outside the photograph to 0, and v has seen only padding and the label there, so that the whole row has one shade. The third map is the boot moved one column to the right, because h has seen the code to its left.
#
# **And what can be read from h about the position itself?** There h has not seen the code yet, so this is a prediction. We compare the first block with the last.

# %%
maps = photo | map_of(1, "h", "itself") | map_of(9, "h", "itself")
figures.show(
    figures.heatmaps(
        maps, unit="brightness", limits=(0, 1), numbers="{:.1f}"
    ),
    "predictions_of_a_boot",
)

# %% [markdown]
# After the first block, the prediction is a smeared copy of what lies above and to the left. After the last block the map shows the boot in its place, if blurred, although h has not seen the code at the position that it predicts.
#
# **Later blocks begin to predict: is the past harder to read in them?** The figure shows R² after each block. As a baseline, we fit the brightness at a position to the *true* brightness of its two neighbours, above and to the left, without any network.


# %%
def readable(stack, where):
    which = "vh".index(stack)
    return [probe(pair[which], brightness[where])[1] for pair in stacks]


both = torch.stack(
    [brightness["above"], brightness["to the left"]], dim=1
)  # [500, 2, 8, 8]
lines = {
    "h: to the left": readable("h", "to the left"),
    "h: the position itself": readable("h", "itself"),
    "v: the row above": readable("v", "above"),
}

# %%
figures.show(
    figures.curves(
        lines,
        x_label="block",
        y_label="R² of the linear probe",
        baselines={"itself, from two neighbours": probe(both, bright)[1]},
        y_limits=(0, 1),
    ),
    "probes_by_block",
)

# %% [markdown]
# The answer differs for the two stacks. In h, the brightness to the left can be read about equally well after every block. At the same time, the prediction gets better. At first it is worth a little less than the two neighbours themselves. Above the dashed line, h predicts better than a weighted sum of the brightness of two neighbours: it can use codes farther away, the label, and more of a code than its brightness. In v, the row above can be read less well in the later blocks. The head never reads v, so that v may change its features into any form that is useful for h.
#
# **If one code changes, at which positions do the stacks change?** We replace the code at (3, 3) of the boot, which has a frame in the figure, and compare both stacks before and after.

# %%
changed = z_top[boot : boot + 1].clone()  # [1, 8, 8]
changed[0, 3, 3] = (changed[0, 3, 3] + K // 2) % K
pair = torch.cat([z_top[boot : boot + 1], changed])  # [2, 8, 8]
kept = activations(pair, torch.tensor([9, 9]))
maps = {}
for name, number in (("v", 1), ("h", 1), ("v", 3), ("h", 3)):
    stack = kept[number - 1]["vh".index(name)]  # [2, p, 8, 8]
    moved = (stack[0] - stack[1]).abs().mean(dim=0)  # [8, 8]
    share = moved / moved.max()
    maps[f"{name}, block {number}"] = share.where(share > 0, math.nan)
figures.show(
    figures.heatmaps(
        maps,
        unit="change ÷ the largest change",
        numbers="{:.1f}",
        columns=2,
        position=(3, 3),
    ),
    "what_one_code_changes",
)

# %% [markdown]
# This is the receptive field in reverse: it shows which positions see the changed code. Nothing is written where a stack does not change at all. v changes only below the code: after block 1 in one row and up to one column to each side, after block 3 in three rows and up to three columns to each side. h changes there as well, through v, and to the right of the code in its own row. Neither stack changes at (3, 3) itself, nor anywhere before.

# %% [markdown]
# ## 03.10 Where it breaks again: shift and residual
#
# *Further · 8 minutes*
#
# A block has few lines of code, and at least three mistakes in them raise no error message. Our block by hand takes the shift and the residual as arguments, so that we can make each mistake on purpose.


# %%
def by_hand(shifts, residuals):
    torch.manual_seed(0)
    blocks = [
        Block(4, 4, shift=shift, residual=residual)
        for shift, residual in zip(shifts, residuals, strict=True)
    ]
    return lambda features: both_stacks(blocks, features)[1]  # [B, 4, H, W]


# %%
once, later = [1] + [0] * 7, [0] + [1] * 7
wirings = {
    "as it should be": by_hand(once, later),
    "shift in every block": by_hand([1] * 8, later),
    "shift in no block": by_hand([0] * 8, later),
    "residual in the first": by_hand(once, [1] * 8),
}

# %% [markdown]
# **How does each mistake change what a position sees?**

# %%
fields = {
    name: seen_by(network, position, shape, channels=4)
    for name, network in wirings.items()
}
figures.show(
    figures.receptive_fields(fields, position, title="eight blocks"),
    "shift_slips",
)

# %% [markdown]
# With a shift in every block, the blind spot is back. A row further up is reached only by one more shift, and each shift comes with a kernel that adds one column to each side. So of row y − d, v at row y sees d columns to each side and no more. To the right, h sees no further than v, and this limit is the line of 45° again. This mistake is hard to notice: no position sees its future, and the network can be trained and drawn from as usual. Yet it stays worse than it could be.
#
# The other two mistakes are leaks. Without any shift, v sees the whole of its own row. With residuals around the first block, the code itself enters h and v, and h also receives the codes to its right from v. The picture is therefore the same as without any shift. The loss of such a network is too good to be true, as in notebook 02.
#
# A test for leaks is therefore not enough. The following check catches all three mistakes: over all positions, there is no leak, *and* no past position is unseen once there are as many blocks as the grid needs.

# %%
print(f"{'':24}leaks  unseen")
for name, network in wirings.items():
    leaks, unseen = count_faults(network)
    print(f"{name:24}{leaks:5} {unseen:7}")
same = fields["shift in every block"].equal(seen["8 layers"])
print("shift in every block sees what the masked stack sees:", same)

# %% [markdown]
# Each of the three mistakes shows in one column of the table, and none in both. (A missing residual around v, as in the paper's block, shows in neither: such a network leaks nothing and, given enough blocks, sees everything. Only the size of the gradient in section 03.6 shows the difference.) The last line compares two pictures for our position (5, 2): with a shift in every block, two stacks see what one masked stack sees. The counts over all positions also agree with the table of section 03.5, so the two stacks bring no gain here.

# %% [markdown]
# ## 03.11 Exercises
#
# *Further · 29 minutes*
#
# Replace the `None` in a cell with your answer and run the cell, which then tries the answer out.

# %% [markdown] tags=["about-solutions"]
# Each exercise has a [solution](#Solutions) at the end of the notebook.

# %% [markdown]
# ### Exercise 1: write the gate
#
# *Difficulty 2 of 5 · importance 5 of 5 · 4 minutes*
#
# Write equation 2 as a function, without scrolling up. You are given x of shape [B, 2p, H, W]. The first half of its channels is W_f ∗ x, and the second half is W_g ∗ x. The function returns [B, p, H, W].
#
# <details><summary>Hint 1</summary>
#
# The number p is half of `x.shape[1]`.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `x[:, :p]` is the first half. Multiply the results of the two halves.
#
# </details>


# %% tags=["exercise"]
def my_gate(x):
    return None  # your turn


check.gate(my_gate)


# %% [markdown] tags=["about-solutions"]
# [To solution 1](#Solution-1)

# %% [markdown]
# ### Exercise 2: add the label
#
# *Difficulty 2 of 5 · importance 5 of 5 · 5 minutes · after 03.7*
#
# Write the function that adds a label to the features. You are given features [B, 2p, H, W], labels [B], which are whole numbers, and a table [classes, 2p] with one row per class. To the features of each image, add the row of *its* label, at every position. (For each class, the table holds the product of the label's vector and V, as computed in section 03.7.) The check puts your function into two blocks, in front of v's gate, and looks at h, from which logits are computed.
#
# <details><summary>Hint 1</summary>
#
# `table[labels]` picks one row per image, [B, 2p].
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Give the rows a height and a width of 1. Broadcasting then adds them at every position.
#
# </details>


# %% tags=["exercise"]
def my_label_bias(features, labels, table):
    return None  # your turn


check.label_bias(my_label_bias)


# %% [markdown] tags=["about-solutions"]
# [To solution 2](#Solution-2)

# %% [markdown]
# ### Exercise 3: count the parameters
#
# *Difficulty 3 of 5 · importance 3 of 5 · 8 minutes*
#
# **How many numbers does `GatedBlock("B", 24, 24)` learn?** It is a later block, with 24 channels in and p = 24, kernels of k = 3, and no label. Work the number out on paper from the convolutions of our `Block`, and then let the check count.
#
# <details><summary>Hint 1</summary>
#
# A convolution has as many weights as outputs · inputs · positions under its kernel, and one bias per output.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# In a later block, the vertical kernel covers 2 rows of 3 positions, and the horizontal kernel 2 positions.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Do not forget the two 1×1 convolutions, and a bias for each output of all four.
#
# </details>

# %% tags=["exercise"]
my_count = None  # your turn: a whole number

check.parameters(my_count, "B", 24, 24)

# %% [markdown] tags=["about-solutions"]
# [To solution 3](#Solution-3)

# %% [markdown]
# ### Exercise 4: wire the two stacks
#
# *Difficulty 4 of 5 · importance 5 of 5 · 12 minutes*
#
# You are given the parts of a block as functions, with the padding and the shift already in them. Connect them so that no position sees its future and none of its past is missing. Use the drawing of section 03.4, and not our code.
#
# - `parts.look_up(v)` and `parts.look_left(h)`: the two convolutions, p channels to 2p
# - `parts.across(…)`: the 1×1 between the stacks, 2p to 2p
# - `parts.gate(…)`: 2p to p
# - `parts.out(…)`: the last 1×1, p to p
# - `parts.first`: whether this is the first block, which differs from the drawing in one respect (see the third point below the drawing)
#
# The function returns the new v and the new h, and there is no label here. It is judged by gradient, in a network of five blocks over a grid small enough for them, and by comparing its output with the package's.
#
# <details><summary>Hint 1</summary>
#
# Begin with what the vertical stack finds above, because the horizontal stack needs it.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `parts.across` takes the vertical features *before* the gate, and its result is added to what `parts.look_left` finds, before the gate of h.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Only a later block has residuals: it adds v to the new v, and h to the new h.
#
# </details>


# %% tags=["exercise"]
def my_block(v, h, parts):
    return None  # your turn: the new v and the new h


check.wiring(my_block)


# %% [markdown] tags=["about-solutions"]
# [To solution 4](#Solution-4)

# %% [markdown]
# ## What you can do now
#
# - Build a gated block of two stacks by hand, with the shift in the right place, and show that it equals the package's.
# - Say what each stack sees after L blocks, and how many blocks a grid needs.
# - Test a network for both faults, the leak and the blind spot, and say which mistake causes which fault.
#
# **In papers**, the gate is a **gated activation unit**, the wiring of two stacks is the **gated PixelCNN**, and the label is a **class condition**.
#
# **To take away.** How many blocks does a grid of 16 × 16 codes need, with k = 3 and with k = 5? Why may the residual around the *vertical* stack stand in a later block, and not in the first? If the label were an extra code to the left of the first position, instead of a bias, which positions would depend on it after one block? ([Answers](ANSWERS.md#03--gated-blocks))
#
# **Sources.** The gate, the two stacks and the label's bias: van den Oord, Kalchbrenner, Vinyals, Espeholt, Graves and Kavukcuoglu 2016, [arXiv 1606.05328](https://arxiv.org/abs/1606.05328), sections 2.1 to 2.3, equations 2 and 4, figures 1 and 2. Masks A and B: van den Oord, Kalchbrenner and Kavukcuoglu 2016, [arXiv 1601.06759](https://arxiv.org/abs/1601.06759), section 3.4. A prior of this kind over a VQ-VAE-2's codes: Razavi, van den Oord and Vinyals 2019, [arXiv 1906.00446](https://arxiv.org/abs/1906.00446), section 3.2.
#
# ← [02 · Masked convolutions](02_masked_convolutions.ipynb) · [the course](../README.md#the-course) · [words and symbols](GLOSSARY.md) · next: [04 · The top prior](04_top_prior.ipynb) →

# %% [markdown] tags=["solution"]
# ## Solutions
#
# A solution is one answer of several: the checks judge what an answer does, not how it is written.

# %% [markdown] tags=["solution"]
# ### Solution 1
#
# [Back to exercise 1](#Exercise-1:-write-the-gate)


# %% tags=["solution"]
# Features through tanh, gates through the sigmoid, and the product of both.
def gate_by_slices(x):
    p = x.shape[1] // 2
    return torch.tanh(x[:, :p]) * torch.sigmoid(x[:, p:])  # [B, p, H, W]


check.gate(gate_by_slices)

# %% [markdown] tags=["solution"]
# ### Solution 2
#
# [Back to exercise 2](#Exercise-2:-add-the-label)


# %% tags=["solution"]
# Take the rows, and give them a height and a width of 1 to be spread over.
def add_label(features, labels, table):
    rows = table[labels]  # [B, 2p]
    return features + rows[:, :, None, None]  # [B, 2p, H, W]


check.label_bias(add_label)

# %% [markdown] tags=["solution"]
# ### Solution 3
#
# [Back to exercise 3](#Exercise-3:-count-the-parameters)

# %% tags=["solution"]
# Weights: outputs · inputs · positions under the kernel; a bias per output.
width = 24
weights_up = 2 * width * width * (2 * 3)  # 2 rows of 3
weights_left = 2 * width * width * 2  # 2 codes
weights_across = 2 * width * 2 * width
weights_out = width * width
biases = 3 * 2 * width + width
count = weights_up + weights_left + weights_across + weights_out + biases

check.parameters(count, "B", 24, 24)

# %% [markdown] tags=["solution"]
# More than half of these numbers belong to the vertical convolution. A masked 3 × 3 kernel would store 9 positions and use 5, while our two cropped kernels store 6 and 2, and use them all.

# %% [markdown] tags=["solution"]
# ### Solution 4
#
# [Back to exercise 4](#Exercise-4:-wire-the-two-stacks)


# %% tags=["solution"]
# v first, because h needs the vertical features from before v's gate.
def wired_block(v, h, parts):
    found_above = parts.look_up(v)  # [B, 2p, H, W]
    joined = parts.look_left(h) + parts.across(found_above)  # [B, 2p, H, W]
    new_v = parts.gate(found_above)  # [B, p, H, W]
    new_h = parts.out(parts.gate(joined))  # [B, p, H, W]
    return (new_v, new_h) if parts.first else (v + new_v, h + new_h)


check.wiring(wired_block)
