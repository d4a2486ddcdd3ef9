# %% [markdown]
# # 03 · Two stacks and a gate
#
# **What you will make.** A PixelCNN with a gate and a wiring that you write yourself, and ten images drawn from it.
#
# **What you will learn.** How two stacks close the blind spot, how a label enters the network, and which mistakes raise no error.
#
# **What you need.** Notebook [02](02_masked_convolutions.ipynb).
#
# **Time.** About 31 minutes for the core and 45 for all, with the exercises; 30<!--= timings 03_gated_blocks --> seconds to run on two CPU cores.
#
# ← [02 · Masked convolutions](02_masked_convolutions.ipynb) · [the course](../README.md#the-course) · [words and symbols](GLOSSARY.md) · next: [04 · The top prior](04_top_prior.ipynb) →

# %% tags=["version"]
from pixelprior.course import needs

needs("0.2")  # says so if the installed package is older

# %%
import torch
import torch.nn.functional as F

from pixelprior import PixelCNN, extract_codes, load_images, load_shipped
from pixelprior.course import explore, figures, reveal, your_turn
from pixelprior.course.causality import count_faults, seen_by
from pixelprior.course.checks import blocks as check

# %% [markdown]
# ## 03.1 Two stacks instead of one
#
# *Core · 4 minutes*
#
# A masked stack has a blind spot because no layer can step to the right within a row, even in the rows above. Van den Oord and colleagues ([arXiv 1606.05328](https://arxiv.org/abs/1606.05328), "the paper" from here on) take two stacks of features, [B, p, H, W] each, with p **hidden channels**:
#
# - The **vertical stack** v looks only at the rows above, in their full width.
# - The **horizontal stack** h looks only to the left in its own row, and gets from v what is above. The logits are computed from h.
#
# No weight is multiplied by zero now: we **crop** each kernel, here 3 wide, to what it may see. In the drawing, a 1 lies under the kernel, and the output is at the frame. **Which positions remain?**

# %%
figures.show(figures.kernels_of_stacks(), "kernels_of_stacks")

# %% [markdown]
# The kernels of the first block end one row above the frame, or one code to its left: this is the **shift**. The package's `GatedBlock` holds the cropped kernels; its type is still called A in a first block, and B in a later one.


# %%
def vertical(v, block):  # [B, channels, H, W] → [B, 2p, H, W]
    v = F.pad(v, (1, 1, 1, 0))  # zeros: [B, channels, H + 1, W + 2]
    # shifted: without the last row
    return block.vertical(v[:, :, :-1] if block.mask_a else v)


def horizontal(h, block):  # [B, channels, H, W] → [B, 2p, H, W]
    h = F.pad(h, (1, 0))  # zeros: [B, channels, H, W + 1]
    return block.horizontal(h[..., :-1] if block.mask_a else h)


# %% [markdown]
# In a later block, the vertical kernel sees its own row, even to the *right* of the frame. That is no leak: v was shifted already, so its row y depends on the codes up to row y − 1, and h on those before its position. **The shift happens once.**

# %% [markdown]
# ## 03.2 The gate
#
# *Core · 4 minutes*
#
# The first PixelCNN had a ReLU after each convolution, and PixelRNN, with LSTMs, reached a lower loss. The paper sees a possible reason in the gates of an LSTM: they *multiply* two numbers that both depend on the input. It gives PixelCNN a **gate** as well (equation 2):
#
# $$
# \text{out} = \tanh(W_f * x) \odot \sigma(W_g * x)
# $$
#
# The star is a convolution, and ⊙ multiplies numbers at the same position. W_f ∗ x is a feature, and the sigmoid σ of W_g ∗ x is the share of it that passes.

# %% [markdown]
# ### Your turn A: the gate
#
# *3 minutes*
#
# W_f and W_g have p outputs each and are stacked into one convolution. That is why **2p** channels come out of each convolution before a gate. Write equation 2 for such an output, [B, 2p, H, W], whose first half is W_f ∗ x and whose second half is W_g ∗ x.
#
# <details><summary>Hint 1</summary>
#
# `both.chunk(2, dim=1)` gives the two halves.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Tensors have the methods `tanh()` and `sigmoid()`. In Python, `*` is the ⊙ of the equation.
#
# </details>


# %% tags=["exercise"]
def my_gate(both):  # [B, 2p, H, W]
    return None  # your turn: [B, p, H, W]


gate = your_turn(check.gate, my_gate, otherwise=check.package_gate)

# %% [markdown] tags=["about-solutions"]
# [To solution A](#Solution-A)

# %% [markdown]
# ## 03.3 The block
#
# *Core · 9 minutes*
#
# A block joins the two stacks with four convolutions.

# %%
figures.show(figures.gated_block(), "gated_block")

# %% [markdown]
# - The link goes **one way**, from v to h, as a **1×1 convolution**, which mixes channels and not positions. From h to v it would leak: h one column to the right has seen the code here, and the next vertical kernel would bring it back.
# - The **residuals** add the old v and h to the new ones, so that a block learns only the change. The first block has none, because its input is the codes to be predicted. [Why there are two](../docs/results.md#what-depth-needs).
# - The bias comes from the **label**, the class of the image: each block multiplies the label's embedding c by a matrix V and adds V c at every position (equation 4). What a network is given beside the codes is called a **condition**.

# %% [markdown]
# ### Your turn B: the wiring
#
# *7 minutes*
#
# Write the forward pass of a block, from the drawing. The convolutions of the two stacks are there. Return the new v and the new h. The two 1×1 convolutions are `block.vertical_to_horizontal(…)` and `block.horizontal_out(…)`, and `first` says whether this is the first block, which has no residuals.
#
# <details><summary>Hint 1</summary>
#
# `vertical_to_horizontal` takes `up` *before* the gate. Its result is added to `left`, before the gate of h.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Unless `first` is true, add the old v to the new v, and the old h to the new h.
#
# </details>


# %% tags=["exercise"]
def my_wiring(v, h, block, first, bias):  # v, h [B, channels, H, W]
    up = vertical(v, block) + bias  # [B, 2p, H, W]
    left = horizontal(h, block)  # [B, 2p, H, W]
    return None  # your turn: the new v and the new h, [B, p, H, W] each


wiring = your_turn(check.wiring, my_wiring, otherwise=check.wired)

# %% [markdown] tags=["about-solutions"]
# [To solution B](#Solution-B)

# %% [markdown]
# ## 03.4 What do the two stacks see?
#
# *Core · 3 minutes*
#
# **How many blocks does an 8 × 8 grid need, until every position sees its whole past?**

# %%
my_guess = None  # your guess: a number of blocks


# %% tags=["cover"]
def what_h_sees(row, column):
    fields = {}
    for count in (1, 2, 3, 5, 6, 7):
        h = check.two_stacks("ABBBBBB"[:count], wiring)  # the last h
        fields[f"blocks: {count}"] = seen_by(h, (row, column), (8, 8), 4)
    return figures.receptive_fields(fields, (row, column), columns=3)


explore(what_h_sees, "field_by_block", row=[7, 0, 2, 5], column=[2, 0, 5, 7])

# %%
reveal(check.TRUTH, my_guess)

# %% [markdown]
# Each block adds a row above and a column on either side, and no blind spot is left. It takes seven, because the farthest row of the past is seven rows away, and the farthest column seven columns.

# %% [markdown]
# ## 03.5 Where it breaks: three silent mistakes
#
# *Core · 3 minutes*
#
# Three mistakes raise no error: the shift in every block, the shift in none, and residuals in the first (if codes are embedded in p channels, as here). **How does each change what a position sees?** `count_faults` counts the positions that leak, and the pairs of a position and an earlier one that it does not see.

# %%
fields = {}
for name, masks, first in (
    ("as it should be", "ABBBBBBB", True),
    ("shift in every block", "AAAAAAAA", True),
    ("shift in no block", "BBBBBBBB", True),
    ("residuals in the first", "ABBBBBBB", False),  # not told it is first
):
    h = check.two_stacks(masks, wiring, first=first)
    leaks, unseen = count_faults(h, (8, 8), 4)
    print(f"{name:22} leaks: {leaks:2}, unseen: {unseen:3}")
    fields[name] = seen_by(h, (5, 2), (8, 8), 4)  # [8, 8]
figures.show(figures.receptive_fields(fields, (5, 2)), "shift_slips")

# %% [markdown]
# With the shift in every block, the view ends at 45° again, at any depth. The last two leak, and their loss is too good to be true. So test for both faults: each mistake shows in one of the two counts only.

# %% [markdown]
# ## 03.6 Your own PixelCNN
#
# *Core · 5 minutes*
#
# The package's `PixelCNN` embeds the codes, from which both stacks start, and has a **head** of 1×1 convolutions that computes K logits from the last h. We put your gate and wiring between them.


# %%
class MyPixelCNN(PixelCNN):
    def logits(self, codes, condition):  # [B, H, W], c: [B, p, 1, 1]
        v = h = self.embed(codes)  # [B, D, H, W]
        for number, block in enumerate(self.blocks):
            bias = block.condition(condition)  # V c: [B, 2p, 1, 1]
            v, h = wiring(v, h, block, number == 0, bias)  # [B, p, H, W]
        return self.head(h)  # [B, K, H, W]


# %% [markdown]
# We train it on the top codes of 3,000 photographs, in half a minute without a word, by the loop of notebook 04.

# %%
vqvae2, prior = load_shipped()
photographs = load_images("fashion_mnist_mini", max_images=3000)
codes = extract_codes(vqvae2, photographs)

# %%
torch.manual_seed(0)
mine = MyPixelCNN(30, 32, 24, 7, 10)  # K, D, p, blocks, classes
check.train(mine, codes)

# %% [markdown]
# **What does it draw?** Your network and the package's draw ten grids of top codes, with a pass for each code (`naive`), and the package draws bottom codes given them.

# %%
images, given = {}, {"labels": torch.arange(10), "seed": 0}
for name, top in {"yours": mine, "the package's": prior.prior_top}.items():
    z = top.sample(10, (8, 8), **given, method="naive")  # [10, 8, 8]
    below = prior.prior_bottom.sample(10, (16, 16), above=z, **given)
    images[name] = vqvae2.decode_codes(z, below)  # [10, 1, 32, 32]
rows = figures.image_rows(images, column_names=codes.class_names)
figures.show(rows, "first_images")

# %% [markdown]
# Most of yours can be recognized. The package's network is larger and was trained longer.

# %% [markdown]
# ## 03.7 The same as the package
#
# *Further · 1 minute*
#
# With the weights of your network, does the package's `PixelCNN` give the same logits?

# %%
theirs = PixelCNN(30, 32, 24, 7, 10).eval()
theirs.load_state_dict(mine.state_dict())
z_top, _, labels = codes.batch(torch.arange(64))  # [64, 8, 8], …, [64]
difference = (mine(z_top, labels) - theirs(z_top, labels)).abs().max()
print("they differ by less than 0.001:", difference.item() < 0.001)

# %% [markdown]
# ## 03.8 Exercises
#
# *Further · 13 minutes*
#
# Replace the `None` in a cell with your answer and run the cell, which then tries the answer out.

# %% [markdown] tags=["about-solutions"]
# Each task has a [solution](#Solutions) at the end of the notebook.

# %% [markdown]
# ### Exercise 1: how many blocks?
#
# *Difficulty 2 of 5 · importance 4 of 5 · 5 minutes*
#
# A grid of 8 × 8 codes needs seven blocks with kernels of width k = 3. Write a function that returns the fewest blocks with which every position sees its whole past, for a grid of any height and width and for any odd k from 3 on. The kernels reach r = k // 2 positions.
#
# <details><summary>Hint 1</summary>
#
# How far is the farthest code of the past, in rows and in columns?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Each block adds r positions. Round up, by `math.ceil` after `import math`.
#
# </details>


# %% tags=["exercise"]
def my_blocks(height, width, k):
    return None  # your turn


check.blocks_needed(my_blocks)

# %% [markdown] tags=["about-solutions"]
# [To solution 1](#Solution-1)

# %% [markdown]
# ### Exercise 2: count the parameters
#
# *Difficulty 3 of 5 · importance 3 of 5 · 8 minutes*
#
# **How many numbers does `GatedBlock("B", 24, 24)` learn?** It is a later block, with 24 channels in and p = 24, kernels of k = 3, and no label. (A bias here is that of a convolution.) Work the number out on paper from the four convolutions of the drawing, and then let the check count.
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
# Add the two 1×1 convolutions, and a bias for each output of all four.
#
# </details>

# %% tags=["exercise"]
my_count = None  # your turn: a whole number

check.parameters(my_count, "B", 24, 24)

# %% [markdown] tags=["about-solutions"]
# [To solution 2](#Solution-2)

# %% [markdown]
# ## What you can do now
#
# - Write the gate and the wiring of a block, and say why the shift happens once.
# - Say why a grid of 8 × 8 needs seven blocks, and how a label reaches every position.
# - Tell a leak from a blind spot in what a test counts, and name mistakes that cause them.
#
# **In papers**, the gate is a **gated activation unit**, the network is the **gated PixelCNN**, and the label is a **class condition**.
#
# **To take away.** Why may the residual around v stand in a later block, and not in the first? If the label were an extra code to the left of the first position, instead of a bias, which positions would depend on it after one block? ([Answers](ANSWERS.md#03--two-stacks-and-a-gate))
#
# **Sources.** Van den Oord and others 2016, [arXiv 1606.05328](https://arxiv.org/abs/1606.05328), sections 2.1 to 2.3. PixelRNN: [arXiv 1601.06759](https://arxiv.org/abs/1601.06759).
#
# ← [02 · Masked convolutions](02_masked_convolutions.ipynb) · [the course](../README.md#the-course) · [words and symbols](GLOSSARY.md) · next: [04 · The top prior](04_top_prior.ipynb) →

# %% [markdown] tags=["solution"]
# ## Solutions
#
# A solution is one answer of several: the checks judge what an answer does, not how it is written.

# %% [markdown] tags=["solution"]
# ### Solution A
#
# [Back to your turn A](#Your-turn-A:-the-gate)


# %% tags=["solution"]
def the_gate(both):
    features, gates = both.chunk(2, dim=1)  # [B, p, H, W] each
    return features.tanh() * gates.sigmoid()


check.gate(the_gate)

# %% [markdown] tags=["solution"]
# ### Solution B
#
# [Back to your turn B](#Your-turn-B:-the-wiring)


# %% tags=["solution"]
def the_wiring(v, h, block, first, bias):
    up = vertical(v, block) + bias  # [B, 2p, H, W]
    left = horizontal(h, block)  # [B, 2p, H, W]
    across = block.vertical_to_horizontal(up)  # [B, 2p, H, W]
    new_v, new_h = gate(up), block.horizontal_out(gate(across + left))
    return (new_v, new_h) if first else (v + new_v, h + new_h)


check.wiring(the_wiring)

# %% [markdown] tags=["solution"]
# ### Solution 1
#
# [Back to exercise 1](#Exercise-1:-how-many-blocks?)


# %% tags=["solution"]
# The farthest code is in the first row, or in the first or last column.
def blocks_for(height, width, k):
    farthest, r = max(height, width) - 1, k // 2
    return (farthest + r - 1) // r  # rounded up


check.blocks_needed(blocks_for)

# %% [markdown] tags=["solution"]
# ### Solution 2
#
# [Back to exercise 2](#Exercise-2:-count-the-parameters)

# %% tags=["solution"]
# Weights: outputs · inputs · positions under the kernel; a bias per output.
p = 24
weights_vertical = 2 * p * p * (2 * 3)  # 2 rows of 3
weights_horizontal = 2 * p * p * 2  # 2 codes
weights_of_the_link = 2 * p * 2 * p
weights_out = p * p
count = weights_vertical + weights_horizontal
count += weights_of_the_link + weights_out + 3 * 2 * p + p

check.parameters(count, "B", 24, 24)

# %% [markdown] tags=["solution"]
# More than half of these numbers belong to the vertical convolution. A masked 3 × 3 kernel would store 9 positions and use 5, while our two cropped kernels store 6 and 2, and use them all.
