# %% [markdown]
# # 02 · Masked convolutions
#
# **What you will make.** A convolution that cannot look ahead, a network of them, and grids that you draw from it.
#
# **What you will learn.** What such a network cannot see, what that costs in nats, and why a loss can be too good to be true.
#
# **What you need.** Notebook [00](00_start_here.ipynb) for the words *code*, *grid* and *nats per code*, and convolutions in PyTorch.
#
# **Time.** About 33 minutes for the core and 63 for all, with the exercises; 35<!--= timings 02_masked_convolutions --> seconds to run on two CPU cores.
#
# ← [01 · Images to codes](01_images_to_codes.ipynb) · [the course](../README.md#the-course) · [words and symbols](GLOSSARY.md) · next: [03 · Gated blocks](03_gated_blocks.ipynb) →

# %% tags=["version"]
from pixelprior.course import needs

needs("0.2")  # says so if the installed package is older

# %%
import math

import torch
from torch import nn

import pixelprior
from pixelprior.course import explore, figures, reveal, your_turn
from pixelprior.course.causality import blind_spot, leak, seen_by
from pixelprior.course.checks import masks as check
from pixelprior.course.known_entropy import BlindSpotSource, Embedded, train

# %% [markdown]
# ## 02.1 A mask for the kernel
#
# *Core · 7 minutes*
#
# The **chain rule** makes the probability of a grid a product, $P(z_0)P(z_1|z_0)P(z_2|z_0,z_1)\cdots$, with a factor for each code. The codes are numbered in **raster order**: row by row, from left to right. Those before a position are its **past**, and those after it its **future**.
#
# A network computes all factors of a given grid in one pass. It takes codes [B, H, W] and returns **logits** [B, K, H, W], whose softmax gives a probability for each of the K codes at each position. It has to be **causal**: the logits at a position may depend on its past alone. But a 3 × 3 convolution also looks at four positions of the future. So its kernel is multiplied by a **mask** of ones and zeros.

# %% [markdown]
# ### Your turn A: the mask
#
# *5 minutes*
#
# - Mask **A** keeps what comes before the middle. It is for the first layer, where the middle is the very code to be predicted.
# - Mask **B** keeps the middle as well. It is for all later layers, where the middle holds features that were made of the past.
#
# Write the function that returns mask A or B for a kernel of any odd size.
#
# <details><summary>Hint 1</summary>
#
# The middle is in row `size // 2` and in column `size // 2`. Fill the rows above it with ones, and then what is to its left.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `mask[:n] = 1` fills the first n rows, and `mask[n, :n] = 1` the first n columns of row n.
#
# </details>


# %% tags=["exercise"]
def my_mask(mask_type, size):  # "A" or "B", and an odd number
    return None  # your turn: a tensor [size, size]


mask = your_turn(check.mask, my_mask, otherwise=check.mask_of_kernel)

# %% [markdown] tags=["about-solutions"]
# [To solution A](#Solution-A)


# %%
class MaskedConv2d(nn.Conv2d):
    def __init__(self, mask_type, inputs, outputs, size=3):
        super().__init__(inputs, outputs, size, padding=size // 2)
        self.register_buffer("mask", mask(mask_type, size).float())

    def forward(self, x):  # [B, inputs, H, W] → [B, outputs, H, W]
        return self._conv_forward(x, self.weight * self.mask, self.bias)


# %% [markdown]
# ## 02.2 What does a stack of them see?
#
# *Core · 3 minutes*
#
# We stack masked convolutions, with an ELU, a smooth ReLU, after each. An **embedding** in front turns codes into vectors, and a 1 × 1 convolution computes the logits. This is the simplest **PixelCNN**.


# %%
def single_stack(K, layers=5, first="A"):
    network = nn.Sequential(Embedded(K, 32))  # [B, H, W] → [B, 32, H, W]
    for n in range(layers):
        network.extend([MaskedConv2d("B" if n else first, 32, 32), nn.ELU()])
    return network.append(nn.Conv2d(32, K, 1))  # → [B, K, H, W]


# %% [markdown]
# Where an input has no influence on an output, the gradient is zero. `seen_by` returns the positions where it is not zero: the **receptive field** of the output. **With enough layers, does a position see its whole past?**

# %%
fields, position = {}, (5, 2)
for n in (1, 2, 5, 20):
    stack = single_stack(30, n)[1:-1]  # without embedding and 1 × 1
    fields[f"layers: {n}"] = seen_by(stack, position, (8, 8), 32)
figures.show(figures.receptive_fields(fields, position), "receptive_fields")

# %% [markdown]
# 20 layers see no more than 5, and a triangle at the upper right stays hatched. Each step to the right needs a step up. So r rows higher, no more than r positions to the right are seen, with any number of layers. What lies beyond this line at 45° is the **blind spot**.

# %% [markdown]
# ## 02.3 A price that is known before the training
#
# *Core · 5 minutes*
#
# What does the blind spot cost? We make codes from a source that we *do* know. Each code is a pair of parts with four values each: code = 4 · u + w, and K = 16.
#
# - u repeats the u of its left neighbour, which a masked stack sees.
# - w repeats the w one row up and two columns to the right, in the blind spot.
#
# With probability 0.1, and where there is no such neighbour, a part is drawn anew. **What do such grids look like?**

# %%
source = BlindSpotSource()
grid = source.sample(1, seed=0)[0]  # [8, 8]
parts = {"u": grid // 4, "w": grid % 4}
joined = {"u": (0, 1), "w": (1, -2)}  # rows down, columns to the right
figures.show(figures.code_grids(parts, 4, joined=joined), "source_codes")

# %% [markdown]
# A line joins two neighbours with the same value, mostly because one repeats the other. The **entropy** of the source is what a perfect model needs per code, and no model needs less on average. A part has its neighbour's value with probability s, more than 0.9 because a new draw may repeat it by chance, and each other value with probability o. Of the 128 parts of a grid, 8 of u and 22 of w have no neighbour, and cost log 4 each.

# %%
s, o = 0.9 + 0.1 / 4, 0.1 / 4
repeated, new = -(s * math.log(s) + 3 * o * math.log(o)), math.log(4)
entropy = (98 * repeated + 30 * new) / 64
print(f"entropy: {entropy:.2f} nats per code")

# %% [markdown]
# A single stack sees nothing of the slanted line of a w: what comes before is in its blind spot, and what comes after is in the future. To this stack every w is new. This gives a lower **bound** for its loss. **How many nats per code is it?**

# %%
my_guess = None  # your guess: a number

# %%
bound = (56 * repeated + 72 * new) / 64  # new: 8 of u, and all 64 of w
reveal(f"bound of a single stack: {bound:.2f} nats per code", my_guess)

# %% [markdown]
# ## 02.4 The curve that stops
#
# *Core · 3 minutes*
#
# We train the single stack, and the package's `PixelCNN`, which has *two* stacks and no blind spot (notebook 03). Each step takes new grids. **Where do the curves end?**

# %% tags=["cover"]
torch.manual_seed(0)
single = single_stack(16)
two_stacks = pixelprior.PixelCNN(16, 32, 32, num_layers=5, dropout=0)
losses = {"single stack": train(single, source)}  # {step: held out}
losses["two stacks"] = train(two_stacks, source)
figures.show(figures.blind_spot_price(losses, entropy, bound), "the_price")
assert bound - 0.01 < losses["single stack"][200] < bound + 0.06
assert entropy - 0.01 < losses["two stacks"][200] < entropy * 1.02

# %% [markdown]
# The loss of the single stack stops on a line that was computed before the training: it has learned all about u, and nothing about w. That of the two stacks ends within 2 % of the entropy.

# %% [markdown]
# ## 02.5 On real codes
#
# *Core · 1 minute*
#
# Do real codes have such a price? We trained networks of equally many weights on the top codes of 6,000 images, from five seeds. Per held-out code, two stacks need 1.92<!--= stacks networks.two_stacks.mean --> nats, and 1.94<!--= stacks networks.blinded.mean --> if they are made as blind as a single stack. So the blind spot costs 0.02<!--= stacks price.mean --> nats: the hidden codes tell little that the others do not. A single stack of as many weights has twice the channels, and needs 1.91<!--= stacks networks.single_stack.mean -->.

# %% [markdown]
# ## 02.6 Where it breaks: mask B in the first layer
#
# *Core · 11 minutes*
#
# We change one letter: mask B in front of a single stack.

# %% tags=["nbval-ignore-output"]
leaky = single_stack(16, first="B")
loss = train(leaky, source)[200]
print(f"held out: {loss:.2f} nats per code")
assert loss < 0.2 < entropy

# %% [markdown]
# This is the best loss of all, on held-out grids. **What will this network draw?**

# %%
my_guess = None  # your guess: "lines" or "noise"

# %% [markdown]
# ### Your turn B: draw grids
#
# *7 minutes*
#
# Draw a batch of grids, code by code in raster order. The loop over the positions is there. At each one, run the network on the grids, turn its logits at this position into probabilities [B, K], and replace the code there by one that is drawn: `torch.multinomial(probs, 1)` draws a code for each row of `probs`, as [B, 1]. The grids begin with codes at random, which a causal network does not see before they are replaced.
#
# <details><summary>Hint 1</summary>
#
# `network(codes)` is [B, K, H, W], and you need a softmax over the K codes.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `codes[:, y, x]` is [B], and so is `torch.multinomial(probs, 1)[:, 0]`.
#
# </details>


# %% tags=["exercise"]
@torch.no_grad()
def my_draw(network, codes):  # [B, H, W]: codes at random
    for y in range(codes.shape[1]):
        for x in range(codes.shape[2]):
            pass  # your turn: replace codes[:, y, x]
    return None  # your turn: the drawn grids [B, H, W]


draw = your_turn(check.draw, my_draw, otherwise=check.draw_grids)

# %% [markdown] tags=["about-solutions"]
# [To solution B](#Solution-B)

# %%
start = torch.randint(16, (1, 8, 8))
networks = {"mask B": leaky, "single stack": single, "two stacks": two_stacks}
parts_u = {"the start": start[0] // 4}
for name, network in networks.items():
    parts_u[name] = draw(network, start.clone())[0] // 4  # [8, 8]
figures.show(figures.code_grids(parts_u, 4, joined=(0, 1)), "drawn_grids")
reveal(check.TRUTH, my_guess)

# %% [markdown]
# With mask B in front, the network returns nearly all of the random codes that it was given: each position has learned to copy its own code, which in a draw does not exist yet. The two causal networks join nearly all neighbours of u, and mask B about one pair in four, by chance alone.
#
# Two checks find the mistake before any draw. The loss is below the entropy, which no causal network can be on average, and the gradient finds the **leak**, a position that sees itself or its future:

# %%
seen = seen_by(leaky[1:-1], (4, 4), (8, 8), 32)
print("position (4, 4) sees", leak(seen, (4, 4)))

# %% [markdown]
# ## 02.7 The same as the package
#
# *Further · 1 minute*

# %%
mine, theirs = MaskedConv2d("A", 9, 9), pixelprior.MaskedConv2d("A", 9, 9)
theirs.load_state_dict(mine.state_dict(), strict=False)  # it saves no mask
x = torch.randn(2, 9, 8, 8)
print("the same output:", torch.allclose(mine(x), theirs(x), atol=1e-6))

# %% [markdown]
# ## 02.8 Where is the blind spot, and where is its price paid?
#
# *Further · 14 minutes*
#
# In JupyterLab, choose a position, a kernel size, a number of layers and the first mask. **Which choices remove the blind spot?** With mask B in front, the leak is orange and cross-hatched.

# %%
import inspect
import json

from pixelprior import assets


def stack_of(layers, size, first="A"):
    stack = nn.Sequential()
    for n in range(layers):
        mask_type = "B" if n else first
        stack.extend([MaskedConv2d(mask_type, 8, 8, size), nn.ELU()])
    return stack


def one_field(row, column, kernel_size, layers, first_mask):
    stack = stack_of(layers, kernel_size, first_mask)
    seen = seen_by(stack, (row, column), (8, 8), 8)  # [8, 8]
    return figures.receptive_fields({"": seen}, (row, column))


choices = {"row": [6, 0, 1, 2, 3, 4, 5, 7], "column": [*range(3, 8), 0, 1, 2]}
choices |= {"kernel_size": [3, 5, 7], "layers": [8, 1, 2, 3, 5]}
explore(one_field, "one_field", **choices, first_mask=["A", "B"])

# %% [markdown]
# **How large is the blind spot, and at which positions?** For each position, we count the past positions that are never seen.

# %%
unseen = {}
for size in (3, 5, 7):
    stack, counts = stack_of(8, size), torch.zeros(8, 8)
    for y in range(8):
        for x in range(8):
            seen = seen_by(stack, (y, x), (8, 8), 8)
            counts[y, x] = blind_spot(seen, (y, x)).sum()
    unseen[f"kernel {size} × {size}"] = counts
unit = "positions of the past never seen"
figure = figures.heatmaps(unseen, unit=unit, numbers="{:.0f}")
figures.show(figure, "never_seen")

# %% [markdown]
# There is no blind spot in the first row, nor in the last two columns (three for 5 × 5, and four for 7 × 7). Elsewhere it grows from row to row, until its slanted edge leaves the grid, and it is largest at the left. More than 8 layers change nothing, and 5 × 5 or 7 × 7 removes it only at the right.
#
# **And at which positions is the price paid?** For every position, we subtract the entropy there from the loss of each network. The map at the left shows the computed price.

# %%
exact = source.entropy_by_position()  # [8, 8]
heldout = source.sample(1000, seed=1)  # [1000, 8, 8]


def above_the_entropy(network):
    with torch.no_grad():
        log_probs = network(heldout).log_softmax(dim=1)  # [1000, K, 8, 8]
    nats = -log_probs.gather(1, heldout[:, None])  # [1000, 1, 8, 8]
    return nats.mean(dim=(0, 1)) - exact  # [8, 8]


maps = {"computed price": source.bound_by_position() - exact}
maps["single stack"] = above_the_entropy(single)
maps["two stacks"] = above_the_entropy(two_stacks)
figure = figures.heatmaps(
    maps, unit="nats above the entropy", limits=(0, 1.2), numbers="{:.1f}"
)
figures.show(figure, "price_by_position")

# %% [markdown]
# The single stack pays where w has a neighbour to repeat, everywhere but in the first row and the last two columns. At each of these 42 positions, the price is what a new part costs more than a repeated one, 1.386 − 0.349 = 1.04. Over all 64 positions that makes 1.04 · 42 ÷ 64 = 0.68, the height of the band in 02.4. Single cells lie up to 0.1 above or below, by chance: each is a mean over 1,000 codes.
#
# **And for real top codes?** We subtract the loss of the two stacks of 02.5 from the loss of two stacks with the blind spot, which are otherwise alike.

# %%
path = assets.FOLDER / "results" / "stacks.json"
stacks = json.loads(path.read_text(encoding="utf-8"))["networks"]
two, blinded = (
    torch.tensor(stacks[name]["map"]).view(8, 8)
    for name in ("two_stacks", "blinded")
)
price = {"the price on real top codes": blinded - two}
unit = "nats per top code"
figure = figures.heatmaps(price, unit=unit, numbers="{:.2f}", centred=True)
figures.show(figure, "price_on_real_codes")

# %% [markdown]
# The price is largest in the first column, at its upper end: not where most codes are hidden, but where the hidden ones tell most. In the first row nothing is hidden: its values at the right end come from the edge of the grid, which only the network without the blind spot notices.
#
# **How does the source draw its codes?** Line by line, u along the rows and w down the slanted lines:

# %%
print(inspect.getsource(BlindSpotSource.sample))

# %% [markdown]
# ## 02.9 Exercises
#
# *Further · 16 minutes*
#
# Replace the `None` in a cell with your answer and run the cell, which then tries the answer out.

# %% [markdown] tags=["about-solutions"]
# Each task has a [solution](#Solutions) at the end of the notebook.

# %% [markdown]
# ### Exercise 1: do all grids add up to one?
#
# *Difficulty 2 of 5 · importance 4 of 5 · 6 minutes*
#
# A third check needs neither entropy nor gradient. If a network defines a distribution, the probabilities of *all* grids add up to one, whatever its weights are. With 2 × 2 positions and K = 16 there are 16⁴ = 65,536 grids. **Write the function that adds up their probabilities.** The probability of a grid is the product of its four factors. The cell below applies your sum to our three networks. Is that of mask B one, less or more?
#
# <details><summary>Hint 1</summary>
#
# The logarithm of a grid's probability is the sum of four logarithms, and `nn.functional.cross_entropy` with `reduction="none"` gives them with the opposite sign, as [N, 2, 2].
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Sum over `dim=(1, 2)`, change the sign, take `.exp()`, and sum again.
#
# </details>


# %% tags=["exercise"]
def my_total(network, grids):  # grids [N, 2, 2], logits [N, K, 2, 2]
    return None  # your turn: a number


total = your_turn(check.total, my_total, otherwise=check.sum_over_grids)

# %% [markdown] tags=["about-solutions"]
# [To solution 1](#Solution-1)

# %% tags=["nbval-ignore-output"]
sums, every_grid = {}, check.every_grid(16)  # [65536, 2, 2]
for name, network in networks.items():
    with torch.no_grad():
        sums[name] = float(total(network, every_grid))
    print(f"{name}: {sums[name]:,.2f}")
assert abs(sums["single stack"] - 1) < 1e-3
assert abs(sums["two stacks"] - 1) < 1e-3 and sums["mask B"] > 1000

# %% [markdown]
# A causal network shares out a probability of one among all grids. The network with mask B in front spends tens of thousands of times as much, and so its loss can be below the entropy.

# %% [markdown]
# ### Exercise 2: find the leak
#
# *Difficulty 3 of 5 · importance 5 of 5 · 10 minutes*
#
# A colleague hands you this stack of seven layers: four masked convolutions, with an ELU after each but the last. Its samples are noise, and the framed position below is orange and cross-hatched, which is a leak. **Which of the layers causes the leak?** Count the layers of `suspect` from 0, including the ELUs. Use the gradient on one layer at a time. `leak(seen, position)` returns the first position that is seen and is not past.
#
# Then explain: the layer that you found sees one position of the future, so why does the whole stack see its own position, and not that one?
#
# <details><summary>Hint 1</summary>
#
# An ELU looks at one position at a time, so that only a convolution can be the cause.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `seen_by(layer, (4, 4), (8, 8), layer.in_channels)` gives what one layer sees from (4, 4).
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# A later layer may see its own position. Set this position to `False` before you call `leak`, in all layers but the first.
#
# </details>

# %%
torch.manual_seed(0)
suspect = check.suspect_stack()  # seven layers, 32 channels in, 16 out
seen = seen_by(nn.Sequential(*suspect), (4, 4), (8, 8), 32)
figures.show(
    figures.receptive_fields({"the suspect stack": seen}, (4, 4)),
    "suspect_stack",
)

# %% tags=["exercise"]
my_layer = None  # your turn: the number of a layer in `suspect`

check.leaking_layer(my_layer, suspect, (8, 8))

# %% [markdown] tags=["about-solutions"]
# [To solution 2](#Solution-2)

# %% [markdown]
# ## What you can do now
#
# - Turn a convolution into a causal one, and draw from a network of such convolutions.
# - Say where a stack of them is blind, and how its price is computed on codes of known entropy.
# - Distrust a loss below the entropy, and say how the gradient finds a leak.
#
# **In papers**, such a network is a **causal** or **autoregressive model**, drawing one code after the other is **ancestral sampling**, and training on true codes in place of drawn ones is **teacher forcing**.
#
# **To take away.** Would another order of the codes, say column by column, have a blind spot too? Which kernel size would save the single stack on our source, and which source would fool that one as well? ([Answers](ANSWERS.md#02--masked-convolutions))
#
# **Sources.** The masks: van den Oord, Kalchbrenner and Kavukcuoglu 2016, [arXiv 1601.06759](https://arxiv.org/abs/1601.06759), section 3.4. The blind spot and two stacks: van den Oord et al. 2016, [arXiv 1606.05328](https://arxiv.org/abs/1606.05328), section 2.2.
#
# ← [01 · Images to codes](01_images_to_codes.ipynb) · [the course](../README.md#the-course) · [words and symbols](GLOSSARY.md) · next: [03 · Gated blocks](03_gated_blocks.ipynb) →

# %% [markdown] tags=["solution"]
# ## Solutions
#
# A solution is one answer of several: the checks judge what an answer does, not how it is written.

# %% [markdown] tags=["solution"]
# ### Solution A
#
# [Back to your turn A](#Your-turn-A:-the-mask)


# %% tags=["solution"]
def the_mask(mask_type, size):
    mask, middle = torch.zeros(size, size), size // 2
    mask[:middle] = 1  # the rows above the middle
    mask[middle, :middle] = 1  # what is to its left
    mask[middle, middle] = mask_type == "B"
    return mask


check.mask(the_mask)

# %% [markdown] tags=["solution"]
# ### Solution B
#
# [Back to your turn B](#Your-turn-B:-draw-grids)


# %% tags=["solution"]
@torch.no_grad()
def the_draw(network, codes):
    for y in range(codes.shape[1]):
        for x in range(codes.shape[2]):
            logits = network(codes)[:, :, y, x]  # [B, K]
            probs = logits.softmax(dim=1)
            codes[:, y, x] = torch.multinomial(probs, 1)[:, 0]
    return codes


check.draw(the_draw)

# %% [markdown] tags=["solution"]
# ### Solution 1
#
# [Back to exercise 1](#Exercise-1:-do-all-grids-add-up-to-one?)


# %% tags=["solution"]
def the_total(network, grids):
    nats = nn.functional.cross_entropy(
        network(grids), grids, reduction="none"
    )  # [N, 2, 2]
    return nats.sum(dim=(1, 2)).neg().exp().sum()


check.total(the_total)

# %% [markdown] tags=["solution"]
# ### Solution 2
#
# [Back to exercise 2](#Exercise-2:-find-the-leak)

# %% tags=["solution"]
for number, layer in enumerate(suspect):
    if isinstance(layer, nn.Conv2d):
        seen = seen_by(layer, (4, 4), (8, 8), layer.in_channels)
        if number:  # a later layer may see its own position
            seen[4, 4] = False
        if leak(seen, (4, 4)) is not None:
            leaking = number

check.leaking_layer(leaking, suspect, (8, 8))

# %% [markdown] tags=["solution"]
# The layer sees one position to its right, (4, 5). But what it sees there is not a code: it is a feature that the layers below have computed, and at (4, 5), the mask A of the first layer lets them see codes up to (4, 4) only. So the code that comes through is that of (4, 4), the position itself.
