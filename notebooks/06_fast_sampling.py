# %% [markdown]
# # 06 · Sampling, fast: on a CPU and on a GPU
#
# **What you will do.** Draw the same codes in three ways, each faster than the one before. Write the cached step of a gated block by hand. Count every multiplication, then take the time. Leave one row where it was, and find the first code that goes wrong.
#
# **What you will learn.** What a pass computes again and what it computes for nothing. Why one stack runs once per row and the other once per code. How this is a transformer's key-value cache. What a GPU needs beyond that.
#
# **What you need.** Gated blocks and the two stacks from notebook [03](03_gated_blocks.ipynb), the two levels from notebook [05](05_bottom_prior.ipynb). What we use of them is repeated. A GPU is not needed. The part on GPUs is explained and counted, not measured.
#
# **Time.** About 40 minutes to read, 65<!--= timings 06_fast_sampling --> seconds to run on two CPU cores.
#
# ← [05 · The bottom prior](05_bottom_prior.ipynb) · [the course](../README.md#the-course) · [words and symbols](GLOSSARY.md) · next: [07 · Generate and judge](07_generate_and_judge.ipynb) →

# %%
import copy
import itertools
import json
import statistics
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from IPython.display import Markdown, display
from torch.utils._python_dispatch import TorchDispatchMode

from pixelprior import assets
from pixelprior.assets import load_shipped
from pixelprior.benchmark import report as benchmark_report
from pixelprior.cache import BlockCache, PixelCNNCache
from pixelprior.counting import multiply_adds
from pixelprior.course import figures
from pixelprior.course.checks import sampling as check
from pixelprior.course.checks import slips
from pixelprior.course.widgets import explore
from pixelprior.layers import GatedBlock, gate
from pixelprior.sampling import (
    draw,
    probabilities,
    rows_so_far,
    sample_codes,
    uniforms,
    whole_grid,
)

_ = torch.set_grad_enabled(False)  # nothing is trained here

# %% [markdown]
# ## 06.1 One pass for each code
#
# A prior draws codes in raster order (notebook 02): row by row, and in a row from left to right. Each code needs logits that depend on all codes before it. So we cannot draw two codes of one image at a time. We can draw a code of *many* images at a time, and do.
#
# We start with the top level of the shipped prior: 8 × 8 codes out of K = 64, 9 gated blocks of p = 64 channels. The label of an image enters each block as its condition. We take a copy in float64. Why, we say in section 06.5.

# %%
vqvae2, prior = load_shipped()
exact = copy.deepcopy(prior).double()
top, shape, B = exact.prior_top, (8, 8), 16
labels = prior.labels_in_turn(B)  # [16]: classes 0, 1, …, 9, 0, 1, …
condition = top.label_condition(labels, B)  # [16, p, 1, 1]
random = uniforms(0, 0, B, 64)  # [16, 64]: seed 0, images 0 to 15
print("a random number for each code:", list(random.shape))

# %% [markdown]
# All chance lies in these numbers. `draw` takes a code's probabilities and one such number from 0 to 1, and gives a code. There is no other chance in it: the same number gives the same code. (Notebook 07 opens `draw`.) Each image has its own stream of numbers, so image 3 is the same alone as in a batch of 16.
#
# Now the most direct way to draw. We call it **naive**. Start with an empty grid. For each place run the whole network, take the logits of that place, draw, and write the code down.


# %%
def naive(model, shape, uniform, condition):
    codes = torch.zeros(len(uniform), *shape, dtype=torch.long)
    uniform = uniform.view(codes.shape)  # [B, H, W]
    for y, x in itertools.product(*map(range, shape)):
        logits = model.logits(codes, condition)  # [B, K, H, W]
        p = probabilities(logits[:, :, y, x])  # [B, K]
        codes[:, y, x] = draw(p, uniform[:, y, x])  # [B]
    return codes  # [B, H, W]


right = naive(top, shape, random, condition)  # [16, 8, 8]
package = sample_codes(top, shape, random, condition, method="naive")
print("the package's naive draws the same:", torch.equal(right, package))

# %% [markdown]
# Where nothing is drawn yet stands code 0. That does no harm: logits at a place never depend on what comes after it. This is also why naive is our **yardstick**. It uses the network as it was trained, and nothing else. Any other method has to draw the same codes from the same random numbers.
#
# It is a costly yardstick. A pass computes K logits at all 64 places. We use those of one place, and throw 63 away.

# %% [markdown]
# ## 06.2 What is computed again, and what for nothing
#
# Say the code at row 3, column 4 has been drawn and written down. **What does the next pass compute that the pass before had not computed already?** We run both passes, and keep the two stacks after every block.


# %%
def stacks(codes):
    kept = []
    hooks = [
        block.register_forward_hook(
            lambda _block, _given, pair: kept.append(torch.stack(pair))
        )
        for block in top.blocks
    ]
    top.logits(codes, condition)
    for hook in hooks:
        hook.remove()
    return torch.stack(kept)  # [blocks, 2, B, p, H, W]


y, x = 3, 4
number = torch.arange(64).view(shape)  # [8, 8]: places in raster order
before = right.masked_fill(number >= number[y, x], 0)  # [16, 8, 8]
after = right.masked_fill(number > number[y, x], 0)  # [16, 8, 8]
drawn = before[:, y, x] != after[:, y, x]  # [16]: unless the code is 0
changed = (stacks(after) - stacks(before)).abs() > 1e-9
share = 100 * changed[:, :, drawn].double().mean(dim=(0, 2, 3))  # [2, H, W]

# %%
figures.show(
    figures.heatmaps(
        {"vertical stack": share[0], "horizontal stack": share[1]},
        unit="features that changed, percent",
        limits=(0, 100),
        numbers="{:.0f}",
    ),
    "Two maps of 8 by 8 places. Vertical stack: 0 in rows 0 to 3, and above "
    "0 in a cone that widens from row 4 down. Horizontal stack: 0 in all "
    "places up to row 3, column 4; 100 at the next place, and less in a "
    "cone to the right of it and below.",
)
past = number <= number[y, x]  # [8, 8]
print("up to (3, 4) nothing changed:", bool((share[:, past] == 0).all()))

# %% [markdown]
# (The numbers go down in steps of 11, since each of the nine blocks hears of the new code one row and one column further.) The places fall into three kinds.
#
# - **Up to (3, 4), nothing changed**, in no block and in no channel. Causality, once more: what is there depends on earlier codes, and these stay. The new pass has computed all of it once more.
# - **At (3, 5) stands what we need**: the next logits are made there.
# - **After (3, 5), in h and in the rows below, much has changed, and will change again** with every further code. Nobody reads it. It was computed for nothing.
#
# The vertical stack of row 3 is of the first kind, up to the last column: it stays, and the next code reads it. Keep that in mind for the next section. The third kind suggests the first remedy. Rows below the one we draw need not be computed at all. We cut the grid off. This is the method **rows**.


# %%
def rows(model, shape, uniform, condition):
    codes = torch.zeros(len(uniform), *shape, dtype=torch.long)
    uniform = uniform.view(codes.shape)  # [B, H, W]
    for y, x in itertools.product(*map(range, shape)):
        so_far = codes[:, : y + 1]  # [B, y + 1, W]
        logits = model.logits(so_far, condition)  # [B, K, y + 1, W]
        p = probabilities(logits[:, :, y, x])  # [B, K]
        codes[:, y, x] = draw(p, uniform[:, y, x])  # [B]
    return codes  # [B, H, W]


print(
    "the same codes:", torch.equal(right, rows(top, shape, random, condition))
)

# %% [markdown]
# The same codes, for about half the work. Many implementations stop here. But the rows above are still computed again and again, and they are the first kind.

# %% [markdown]
# ## 06.3 Keep what does not change
#
# The remedy for the first kind is to compute a feature once and **keep** it. A memory that is kept for this purpose is a **cache**.
#
# Language models do it too, under the name of **key-value cache**. A transformer draws a text token by token. Each layer makes three vectors of a token: a query, a key and a value. The token's query is compared with the keys of all tokens so far, its own among them, and their values are added up by how well they fit. The model is causal: no later token changes a key or a value that was made. So they are made once and kept. A new token costs one query, one key and one value per layer, and a look at what is kept.
#
# A PixelCNN has features in place of keys and values, and a kernel in place of attention. There is one difference, and it is in our favour. A query looks at all of the past, so the cache of a transformer grows with the text. A kernel of width k looks r = k // 2 rows up and r places to the left. **r rows, r places, the new ones, and what goes across for one row: that is all a block has to keep**, however many rows the grid has. (The package can put layers of attention between the blocks. Those keep keys and values of the whole past, as a transformer does.)
#
# How often must each stack run?
#
# - **The vertical stack v: once per row.** It knows the rows above, and the code of no place in its own row. The shift in the first block saw to that. When row y − 1 is drawn, v at row y is settled, at every column, in every block. No code of row y will change it.
# - **The horizontal stack h: once per code.** It knows the codes to the left in its own row. At column x it has to wait for the code at x − 1. There is no way around this: it is the raster order itself.
#
# **What does each method compute for the code at (3, 4), and what does it have from before?** For naive and rows, the pictures show the horizontal stack. In the vertical stack the whole of row 3 is computed again. Only at column 0 is it new. In JupyterLab, move the place. Look at column 0.

# %%
KINDS = {
    "computed, new": (figures.COLOURS["past"], ""),
    "computed again": ("white", "////"),
    "computed for nothing": (figures.COLOURS["future"], "xx"),
    "kept": ("#66C2A5", ".."),
    "untouched": ("#f4f4f4", ""),
}
NEW, AGAIN, NOTHING, KEPT, UNTOUCHED = range(5)


def work(y, x, height=8, width=8):
    """The kind of each place, [H, W], for each of the methods."""
    number = torch.arange(height * width).view(height, width)
    passes = torch.full((height, width), AGAIN)
    passes[number > number[y, x]] = NOTHING
    passes[y, x] = NEW
    above = passes.clone()
    above[y + 1 :] = UNTOUCHED
    vertical = torch.full((height, width), UNTOUCHED)
    vertical[max(0, y - 1)] = KEPT
    vertical[y] = NEW if x == 0 else KEPT
    horizontal = torch.full((height, width), UNTOUCHED)
    horizontal[y, max(0, x - 1) : x] = KEPT
    horizontal[y, x] = NEW
    return passes, above, vertical, horizontal


# %% tags=["cover"]
def what_is_computed(row, column):
    panels = {}
    names = ("naive", "rows", "cached, vertical", "cached, horizontal")
    for name, kinds in zip(names, work(row, column), strict=True):
        count = (kinds <= NOTHING).sum().item()
        places = "place" if count == 1 else "places"
        panels[f"{name}: {count} {places} computed"] = kinds
    return figures.cells(panels, KINDS, position=(row, column), columns=2)


explore(
    what_is_computed,
    "Four grids of 8 by 8 places, with a frame at row 3, column 4. Naive: "
    "all 64 places computed, those before the frame again, those after it "
    "for nothing. Rows: 32 places, rows 0 to 3. Cached, vertical: none "
    "computed, two rows kept. Cached, horizontal: the framed place computed, "
    "the place to its left kept.",
    row=[3, 0, 1, 2, 4, 5, 6, 7],
    column=[4, 0, 1, 2, 3, 5, 6, 7],
)

# %% [markdown]
# In the two upper pictures, one place of h in many is new. In the two lower ones, everything computed is new, and the rest is kept or untouched. At column 0 the vertical stack computes its row, 8 places at once. At the other seven columns it rests.

# %% [markdown]
# ## 06.4 The cached step of one block, by hand
#
# We take one later block, with small sizes. Its kernels are k = 3 wide, so r = 1. We recall from notebook 03 what it does:
#
# - the **vertical** convolution looks at rows y − 1 and y of v, and makes 2p channels;
# - a 1×1 convolution sends them **across** to the horizontal stack; their gate is added to v at row y, the **residual**, which gives the new v;
# - the **horizontal** convolution looks at h at the places x − 1 and x, 2p channels as well; what came across is added. (h at x is shifted already: it knows codes up to x − 1.)
# - gate, another 1×1, and the residual here too: h at x is added to the result.
#
# **The step for a row** has the two rows under the kernel. The padding left and right is that of the whole grid. None is needed above.


# %%
def row_by_hand(block, two_rows):  # [B, p, 2, W]: rows y - 1, y of v
    features = block.vertical(F.pad(two_rows, (1, 1)))  # [B, 2p, 1, W]
    across = block.vertical_to_horizontal(features)  # [B, 2p, 1, W]
    new_v = two_rows[:, :, 1] + gate(features)[:, :, 0]  # [B, p, W]
    return new_v, across[:, :, 0]  # [B, p, W], [B, 2p, W]


# %% [markdown]
# **The step for a code** has h at the two places under the kernel, and what came across for this place. A convolution wants a height and a width, so we give it both, and take them away again.


# %%
def code_by_hand(block, two_places, across):  # [B, p, 2], [B, 2p]
    left = block.horizontal(two_places[:, :, None])  # [B, 2p, 1, 1]
    gated = gate(left + across[:, :, None, None])  # [B, p, 1, 1]
    news = block.horizontal_out(gated)[:, :, 0, 0]  # [B, p]
    return two_places[:, :, 1] + news  # [B, p]


# %% [markdown]
# **The cache** is these two rows and these two places. Before each step it **rolls**: the oldest goes out, the new one comes in at the end.


# %%
def roll_in(kept, new):  # [B, p, n, …] and [B, p, …]
    return torch.cat([kept[:, :, 1:], new[:, :, None]], dim=2)


# %% [markdown]
# Now the walk in raster order. A block of the network gets v and h from the block before it: a row of v once per row, an h once per code. At the start nothing is above, and at the start of each row nothing is to the left. So both caches begin as zeros, which is what the padding of the whole grid holds too.


# %%
def by_steps(block, v, h):  # [B, p, H, W] each
    new_v, new_h = torch.empty_like(v), torch.empty_like(h)
    two_rows = torch.zeros_like(v[:, :, :2])  # [B, p, 2, W]
    for y in range(v.shape[2]):
        two_rows = roll_in(two_rows, v[:, :, y])
        new_v[:, :, y], across = row_by_hand(block, two_rows)
        two_places = torch.zeros_like(h[:, :, 0, :2])  # [B, p, 2]
        for x in range(v.shape[3]):
            two_places = roll_in(two_places, h[:, :, y, x])
            out = code_by_hand(block, two_places, across[:, :, x])  # [B, p]
            new_h[:, :, y, x] = out
    return new_v, new_h


# %% [markdown]
# Does it give what the block gives when it sees the whole grid at once?

# %%
torch.manual_seed(0)
block = GatedBlock("B", 6, 6).eval()
v, h = torch.randn(2, 3, 6, 4, 5)  # [3, 6, 4, 5] each: B, p, H, W
mine, theirs = by_steps(block, v, h), block(v, h)
for name, one, other in zip("vh", mine, theirs, strict=True):
    largest = (one - other).abs().max().item()
    print(f"{name} differs from forward by < 1e-5: {largest < 1e-5}")
    assert largest < 1e-5

# %% [markdown]
# It does. The package has the same two steps: a `BlockCache` is made for a block, keeps what is kept, and has `row_step` and `code_step`. What is kept from step to step stays in the same memory: it is rolled by copying. (Section 06.9 says what that is good for.) The cache makes its two rows itself, and is given the tensor with the two places. A step writes into the tensor that it is given last. `None` stands where a condition would be added.


# %%
def by_packages_steps(block, v, h):  # [B, p, H, W] each
    count, p, height, width = v.shape
    places = torch.zeros(count, 2, p)  # [B, 2, p]: x - 1 and x
    cache = BlockCache(block, count, width, places)
    new_v, new_h, out = v.clone(), h.clone(), torch.empty(count, p)
    for y in range(height):
        cache.roll_rows()
        cache.newest_row.copy_(v[:, :, y : y + 1])  # [B, p, 1, W]
        cache.row_step(None, new_v[:, :, y : y + 1])
        places.zero_()  # nothing is to the left of the grid
        for x in range(width):
            places[:, 0] = places[:, 1]  # the roll
            places[:, 1] = h[:, :, y, x]  # [B, p]
            cache.code_step(x, out)
            new_h[:, :, y, x] = out  # [B, p]
    return new_v, new_h


# %%
packages = by_packages_steps(block, v, h)
for name, one, other in zip("vh", mine, packages, strict=True):
    largest = (one - other).abs().max().item()
    print(f"{name} differs from the package's by < 1e-5: {largest < 1e-5}")
    assert largest < 1e-5

# %% [markdown]
# Our steps use the weights as they are. The package's use a rearranged copy. Nothing is trained anew for sampling.
#
# And the **first** block, with mask A? Its kernels stop one short of the row and of the place, since their codes are yet to be drawn. So its step comes *before* the new row rolls in, and it has no residuals. In exercise 1 you write the steps for both kinds of block.

# %% [markdown]
# ## 06.5 The whole network, and the same codes from all
#
# A `PixelCNNCache` is made for a whole `PixelCNN`. It has four steps, which chain those of the blocks:
#
# - `row_step`, before a row: all places become zero. Block after block computes its new row of v, and what goes across. The rows of the next block roll, and the new row comes in at their end.
# - `code_step`, before a draw: block after block computes h at this place, and writes it to the end of the next block's places. The head makes logits of the last h.
# - `keep_code`, after a draw: the places of all blocks roll. The vector of the drawn code comes in at the end of the first block's.
# - `keep_row`, after a row: the rows of the first block roll. The vectors of the drawn row come in at their end.
#
# A whole draw is then:


# %%
def cached(model, shape, uniform, condition, slip=None):
    cache = PixelCNNCache(model, len(uniform), shape)
    if slip is not None:  # for section 06.10
        slip(cache)
    codes = torch.zeros(len(uniform), *shape, dtype=torch.long)
    uniform, logits = uniform.view(codes.shape), []  # [B, H, W]
    for y in range(shape[0]):
        cache.row_step(condition)
        for x in range(shape[1]):
            logits.append(cache.code_step(x))  # [B, K]
            p = probabilities(logits[-1])  # [B, K]
            codes[:, y, x] = draw(p, uniform[:, y, x])  # [B]
            cache.keep_code(codes[:, y, x])
        cache.keep_row(codes[:, y])  # [B, W]
    return codes, torch.stack(logits, dim=1)  # [B, H, W], [B, H·W, K]


# %%
drawn = {
    "naive": right,
    "rows": rows(top, shape, random, condition),
    "cached": cached(top, shape, random, condition)[0],
}  # [16, 8, 8] each

# %% [markdown]
# **Do you see a difference?** Here is the first of the 16 images by each method.

# %%
first = {f"top codes, {name}": codes[0] for name, codes in drawn.items()}
figures.show(
    figures.code_grids(first, 64),
    "Three grids of 8 by 8 top codes of a T-shirt, by naive, rows and "
    "cached. All three hold the same numbers in the same places.",
)

# %% [markdown]
# There is none, and none in the other 15 images either:

# %%
for name in ("rows", "cached"):
    print(f"{name} draws naive's codes:", torch.equal(right, drawn[name]))
    assert torch.equal(right, drawn[name])

# %% [markdown]
# The bottom level works in the same way. Its condition differs from place to place, so that `row_step` gets a row of it. `prior.sample` draws both levels, and `method=` says how. We compare one image, 64 and 256 codes.

# %%
both = {
    method: exact.sample(
        1, (8, 8), (16, 16), labels=labels[:1], seed=0, method=method
    )  # [1, 8, 8] and [1, 16, 16]
    for method in ("naive", "rows", "cached")
}
for method in ("rows", "cached"):
    pairs = zip(both["naive"], both[method], strict=True)
    same = all(torch.equal(one, other) for one, other in pairs)
    print(f"{method} draws naive's codes at both levels: {same}")
    assert same

# %% [markdown]
# Why float64? The methods add up the same products in another order, so their logits differ in the last digits. A code changes only if its random number falls into the tiny gap between two borders that should be one. In float32 that happens now and then in a great many codes, in float64 practically never. For a test of the *method*, we want rounding out of the way. For drawing images float32 is as good. Its probabilities differ in the last digits only. Which code comes was chance before, and is chance now.

# %% [markdown]
# ## 06.6 Count the work
#
# How much is saved? We can count it exactly, without a clock. The unit is a **multiply-add**: two numbers multiplied, and added to a sum. Convolutions and products of matrices consist of them, and nearly all the work is in those.
#
# First by hand, with hooks. A convolution makes each number of its output from `weight[0].numel()` products. So a pass costs:


# %%
def multiply_adds_of_a_pass(model, codes, condition):
    total, passes = 0, 0

    def count(conv, _given, out):
        nonlocal total, passes
        total += out.numel() * conv.weight[0].numel()
        passes += conv is model.head[-1]

    convs = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    hooks = [conv.register_forward_hook(count) for conv in convs]
    model.logits(codes, condition)
    for hook in hooks:
        hook.remove()
    assert passes == 1
    return total


one_pass = multiply_adds_of_a_pass(top, right[:1], condition[:1])
print(f"one pass, one image: {one_pass:,} multiply-adds")

# %% [markdown]
# The cached steps call no module, so hooks do not see them. `multiply_adds` looks deeper, at each operation that PyTorch executes. For one pass the two must agree. Then we count whole draws, one image each, on both levels.

# %%
deeper = multiply_adds(top.logits, right[:1], condition[:1])
print("both counts agree:", deeper == one_pass)

bottom = prior.prior_bottom
z_top = right[:1]  # [1, 8, 8]
from_top = bottom.top_condition(z_top, (1, 16, 16), labels[:1])
levels = {
    "top": (prior.prior_top, (8, 8), condition[:1].float()),
    "bottom": (bottom, (16, 16), from_top),  # [1, p, 16, 16]
}
count = {}
for level, (model, size, given) in levels.items():
    numbers = uniforms(0, 0, 1, size[0] * size[1])  # [1, H·W]
    empty = torch.zeros(1, *size, dtype=torch.long)  # [1, H, W]
    a_pass = multiply_adds(model.logits, empty, given)
    print(f"{level}: {a_pass / 1e6:.0f} million per pass; a draw in passes:")
    for method in ("naive", "rows", "cached"):
        count[level, method] = multiply_adds(
            sample_codes, model, size, numbers, given, method=method
        )
        print(f"  {method:7} {count[level, method] / a_pass:6.2f}")

# %% [markdown]
# - **naive** costs a pass for each code: 64, and 256.
# - **rows** costs y + 1 rows of a pass for a code in row y. The mean of 1, 2, …, H rows is (H + 1) / 2, so a draw costs W · (H + 1) / 2 passes: 36 for the top, 136 for the bottom. (The odd hundredths at the top are the label's. Its product is made once per pass and has no rows to leave out.)
# - **cached** costs **one pass for the whole draw**. Each feature is computed once, as in a single pass over a finished grid. (Again the label adds a hundredth at the top: its product is made once for each row.)
#
# One pass is a floor, too. Each feature of the grid has to be computed at least once.
#
# **How does the bill grow while the bottom codes are drawn?** We count code by code. The upright axis is logarithmic: equal steps up mean equal factors.

# %%
size, a_pass = (16, 16), multiply_adds(bottom.logits, empty, from_top)
rows_cost = [
    multiply_adds(rows_so_far, bottom, empty, from_top, y, 0)
    for y in range(16)
    for _ in range(16)
]  # one for each code
cache, cached_cost = PixelCNNCache(bottom, 1, size), []
for y in range(16):
    row = multiply_adds(cache.row_step, from_top[:, :, y : y + 1])
    for x in range(16):
        code = multiply_adds(cache.code_step, x)
        cached_cost.append(code + (row if x == 0 else 0))
bills = {
    name: torch.tensor(cost).cumsum(0) / a_pass  # [256]
    for name, cost in (
        ("naive", [a_pass] * 256),
        ("rows", rows_cost),
        ("cached", cached_cost),
    )
}
assert sum(cached_cost) == count["bottom", "cached"]

# %%
figures.show(
    figures.curves(
        bills,
        x_label="bottom codes drawn",
        y_label="multiply-adds so far, in passes",
        baselines={"one pass": 1.0},
        log_y=True,
    ),
    "Three rising curves over 1 to 256 codes, the upright axis logarithmic. "
    "Naive rises from 1 to 256 passes. Rows starts at a sixteenth of a pass, "
    "and ends at 136. Cached rises in steps, one per row, from about a "
    "twentieth of a pass to exactly 1 at the last code.",
)

# %% [markdown]
# Read it from the right. When all codes are drawn, naive has paid for 256 passes, rows for 136, and cached for one. The little steps in the lowest line are the vertical stack: it pays for 16 places at the first code of a row, and nothing at the other 15. That share is large. A row of the vertical stack costs more than three times as much as the 16 codes of the horizontal stack together.

# %% [markdown]
# ## 06.7 Take the time
#
# Is cached 256 times as fast as naive, then? Counting does not tell. A processor works through one large product faster than through many small ones with as many multiply-adds. So we take the time, on your machine, with the shipped bottom level in float32, for 1, 4, 16 and 32 images at once.
#
# A whole naive draw would take long, and each of its passes is the same. So we time **one pass, and multiply by 256**. For rows we time passes for rows 2, 6, 9 and 13, and take their mean times 256: the mean height of these four is that of all rows. (The package's benchmark does the same.) Cached is timed in full. The **median** of three runs keeps one slow run from spoiling the picture.


# %%
def seconds(run):
    run()  # the first run is slower
    taken = []
    for _ in range(3):
        started = time.perf_counter()
        run()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def milliseconds_per_image(count):
    z_top = torch.zeros(count, 8, 8, dtype=torch.long)
    codes = torch.zeros(count, 16, 16, dtype=torch.long)
    labels = prior.labels_in_turn(count)  # [B]
    given = bottom.top_condition(z_top, codes.shape, labels)
    numbers = uniforms(0, 0, count, 256)  # [B, 256]

    def four_rows():
        for y in (2, 6, 9, 13):
            rows_so_far(bottom, codes, given, y, 8)

    a_pass = seconds(lambda: whole_grid(bottom, codes, given, 8, 8))
    by = {
        "naive": 256 * a_pass,
        "rows": 64 * seconds(four_rows),
        "cached": seconds(
            lambda: sample_codes(bottom, (16, 16), numbers, given)
        ),
        "one pass": a_pass,
    }
    return {name: 1000 * each / count for name, each in by.items()}


# %% [markdown]
# **How long does an image take, when so many are drawn at once?** Both axes are logarithmic.

# %% tags=["nbval-ignore-output"]
sizes = [1, 4, 16, 32]
taken = {size: milliseconds_per_image(size) for size in sizes}
assert taken[16]["naive"] > 5 * taken[16]["cached"]
assert taken[16]["rows"] > 3 * taken[16]["cached"]
figure = figures.curves(
    {
        name: (sizes, [taken[size][name] for size in sizes])
        for name in ("naive", "rows", "cached", "one pass")
    },
    x_label="images at once",
    y_label="milliseconds per image, bottom level",
    log_x=True,
    log_y=True,
)
figure.axes[0].set_xticks(sizes, map(str, sizes))
figure.axes[0].minorticks_off()
figures.show(
    figure,
    "Time of an image over 1 to 32 images at once, on this machine, both "
    "axes logarithmic. Naive lies highest, rows somewhat below it, cached "
    "far below both, and nearer to the line of one pass than to them.",
)

# %% [markdown]
# Three things to look for in your picture. (No other figure of this notebook differs from machine to machine.)
#
# - **Naive and rows lie close together**, up to about a factor of two apart, and cached lies far below.
# - **Cached falls with more images at once.** With one image, a code's step multiplies a matrix with a single vector. The whole matrix is fetched for it. With 32 images the same matrix is fetched once for 32 vectors.
# - **Cached comes close to one pass** where many images are drawn. With few, it stays some way above: as many multiply-adds, but in thousands of small pieces.
#
# **256 times as fast?** Not with one image: there the gap between naive and cached is far smaller. It widens the more images are drawn at once.

# %% [markdown]
# ## 06.8 A larger benchmark, and how many images at once
#
# The package has a larger benchmark: both levels, 128 channels, 15 blocks, 512 codes. `pixelprior benchmark` runs it on your machine. **What did it say on ours?** This is the committed result (`pixelprior/assets/benchmark.json`). The shade around a line reaches from the fastest of five rounds to the slowest.

# %%
path = Path(assets.__file__).with_name("benchmark.json")
benchmark = json.loads(path.read_text(encoding="utf-8"))
figures.show(
    benchmark_report.figure(benchmark),
    "Two plots over 1 to 256 images at once, both axes logarithmic. Left, "
    "the time of a batch in forward passes of it: naive rises from 204 to "
    "227, rows falls from 139 to 105, cached falls from 6 to below 1, and "
    "cached in bf16 falls from 12 to below cached. Right, milliseconds an "
    "image, in the same order of methods.",
)
display(Markdown(benchmark_report.table(benchmark)))

# %% [markdown]
# The left plot divides each time by that of one pass. For naive, 220 passes were counted: 64 of the top, and 256 of the bottom, where a pass costs four times as much. Measured, it runs from 204 with one image to 227 with 256. Cached falls, and with 256 images at once a whole draw took *less* time than one pass. A pass over 256 grids fills large pieces of memory after every layer. Cached works on one row at a time.
#
# So is cached as much faster than naive as was counted, 220 times? The first column of the table answers. With one image it is 37 times, with 256 images 273 times.
#
# **bf16** is a number format of 16 bits in place of 32. It halves what has to be fetched. Yet with 1 or 4 images it took longer than float32, with 16 about as long, and only from 64 on much less. So fetching is not all. And its rounding is coarse: a share of 0.27<!--= benchmark bf16_effect.top.share_that_differs --> of the top codes and 0.38<!--= benchmark bf16_effect.bottom.share_that_differs --> of the bottom codes become others. They are about as likely as the first ones. [The page on performance](../docs/performance.md) goes through the numbers.
#
# **The package has four methods, and here are three**, one of them in two number formats. The fourth is `graph`, in the next section.
#
# **How many images at once?** Up to 256, each costs less the more there are, though little is gained from 64 on. And what is kept grows with each image. What do the caches hold for one? For each block: the rows under the vertical kernel, with the padding; what goes across, for one row; the places under the horizontal kernel. And once, the last h.


# %%
def numbers_kept(model, width):
    p = model.head[1].in_channels
    total = p  # the last h
    for block in model.blocks:
        channels = block.vertical.in_channels
        total += channels * block.span * (width + 2 * block.reach)  # rows
        total += 2 * p * width  # across
        total += channels * block.span  # places
    return total


kept = 4 * numbers_kept(prior.prior_top, 8)  # float32 has 4 bytes
packages = PixelCNNCache(prior.prior_top, 1, (8, 8)).nbytes
print(f"top level: {kept:,} bytes per image; the package's: {packages:,}")

# %% [markdown]
# The height is not in the formula. The width is: a block keeps r + 1 rows, the new one among them. (The first block keeps r, since it does not see the new one.)

# %% [markdown]
# ## 06.9 On a GPU
#
# A GPU multiplies many thousands of numbers at the same time. But each operation has to be **launched**: the processor tells the GPU what to do next. A launch takes about as long for a small operation as for a large one. So where the operations are as small as ours, a GPU's time goes with their number, and not with their multiply-adds.
#
# **How many operations is one cached step of one block?** We let PyTorch tell us.


# %%
class Operations(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, operation, _types, given=(), options=None):
        if not operation.is_view:  # a view launches nothing
            self.names.append(operation.name())
        return operation(*given, **(options or {}))


model = prior.prior_top
cache = PixelCNNCache(model, 1, (8, 8))
cache.row_step(condition[:1].float())
with Operations() as seen:
    cache.blocks[4].code_step(0, cache.outs[4])
print(*seen.names)

# %% [markdown]
# One product of matrices for the horizontal convolution, one σ for both halves of the gate, their product, the residual, and one more product of matrices. Five is few. (The package writes tanh with the help of σ, so that one operation serves both. The first block has no residual: four.)
#
# **And a whole draw?** We count all operations of our two functions on the top level: the steps, the head, `draw`, and what is kept. Each draws one image, then 16.

# %%
for name, method in (("naive", naive), ("cached", cached)):
    numbers = []
    for batch in (1, 16):
        with Operations() as seen:
            method(top, shape, random[:batch], condition[:batch])
        numbers.append(len(seen.names))
    same = numbers[0] == numbers[1]
    print(
        f"{name:6} {round(numbers[0], -2):,} operations; same for 16: {same}"
    )

# %% [markdown]
# Cached makes thousands of operations, one after the other, each with little to do. We expect that a GPU is idle most of that time. Naive makes a little more than twice as many, and 64 times the multiply-adds. So as long as launches decide, we expect cached to gain far less over naive on a GPU than on a processor.
#
# A **CUDA graph** is the remedy. The operations of one row are *recorded* once. Then the whole record is replayed, by one launch for a row in place of one for every operation. This is `method="graph"`. (Each level records anew at each draw.) Recording has conditions, and they explain how the package's steps are written:
#
# 1. **The memory stays where it is.** A record holds addresses. So the caches are rolled by copying. What a step needs for a moment may be new: the record has memory of its own for it. And before each replay the row's random numbers and its condition are copied to their fixed places.
# 2. **Each row is the same work.** The same operations, in the same shapes. With a cache that grows this would not hold. Ours keeps as many rows at row 0 as at row 7, and zeros stand for what is above the grid.
# 3. **Within a row, nobody asks the GPU for a number.** A code that Python looked at would stop the record. Codes stay on the GPU, and `draw` works there. (Between rows the package asks once whether the logits are finite.)
#
# The first condition can be seen on any machine. **Are the cached rows of all blocks at the same address after two rows were drawn?**


# %%
def addresses(cache):
    return [each.rows.data_ptr() for each in cache.blocks]


cache = PixelCNNCache(model, 1, (8, 8))
before = addresses(cache)
for _ in range(2):
    cache.row_step(condition[:1].float())
    row = torch.zeros(1, 8, dtype=torch.long)  # [1, W]
    for x in range(8):
        row[:, x] = cache.code_step(x).argmax(dim=1)  # [1]
        cache.keep_code(row[:, x])
    cache.keep_row(row)
print("same addresses:", before == addresses(cache))

# %% [markdown]
# And without a GPU? `graph` is refused, and says why.

# %%
try:
    prior.sample(1, (8, 8), (16, 16), labels=labels[:1], method="graph")
except ValueError as error:
    print(error)

# %% [markdown]
# The next cell does something only where there is a GPU. It draws 64 images in float32 by three methods, and prints the times. Then it draws 4 images in float64, by cached on the CPU and by graph on the GPU, and compares their codes. (A GPU works on its own. `synchronize` waits until it is done. Without it we would time the launches.)

# %% tags=["nbval-ignore-output"]
many = {"labels": prior.labels_in_turn(64), "seed": 0}
if torch.cuda.is_available():
    on_gpu = copy.deepcopy(prior).cuda()

    def run(method):
        on_gpu.sample(64, (8, 8), (16, 16), method=method, **many)
        torch.cuda.synchronize()

    for method in ("naive", "cached", "graph"):
        taken_by = seconds(lambda method=method: run(method))
        print(f"{method:7} {1000 * taken_by:8.1f} ms for 64 images")
    four = {"labels": labels[:4], "seed": 0}
    on_cpu = exact.sample(4, (8, 8), (16, 16), method="cached", **four)
    by_graph = copy.deepcopy(exact).sample(
        4, (8, 8), (16, 16), "cuda", method="graph", **four
    )
    for one, other in zip(on_cpu, by_graph, strict=True):
        assert torch.equal(one, other.cpu())
else:
    print("No CUDA device here, so nothing was run.")

# %% [markdown]
# So far nobody has run it on a GPU for this course. What the tests see on a CPU: a row's work, called again for every row on the same tensors, gives the cached codes.

# %% [markdown]
# ## 06.10 Where it breaks: a row that is not rolled
#
# Caches fail in silence. Shapes are right, nothing is raised, images come out. Here is a mistake that anyone can make: **in one block, block 4, the rows are never rolled.** (Here we count blocks from 0, as Python does. Notebook 03 counted from 1.) The new row overwrites the last one, as it should. But the one before it never moves up. Where row y − 1 should stand, zeros stand, from the first row to the last.
#
# **What does it look like?** We draw the 16 top grids so, and give them bottoms by the healthy method. Beside them are the right ones: the same labels and the same random numbers.


# %%
def rows_not_rolled(block):
    def slip(cache):
        cache.blocks[block].roll_rows = lambda: None

    return slip


slip = rows_not_rolled(4)
stale, stale_logits = cached(top, shape, random, condition, slip)
# [16, 8, 8] and [16, 64, K]
images = {
    name: prior.sample_with_vqvae2(
        vqvae2, 8, labels=labels[:8], seed=0, known_top=codes[:8]
    )  # [8, 1, 32, 32]
    for name, codes in (("right", right), ("row not rolled", stale))
}
figures.show(
    figures.image_rows(images),
    "Two rows of eight drawn images of clothes and shoes, of the same "
    "classes in the same order. The first, second and last look nearly the "
    "same in both. In the lower row the third is mottled and the fourth "
    "dark. In the upper row the seventh is mottled.",
)

# %% [markdown]
# T-shirt, trousers and the last shoe look nearly the same. Of the others, the third is mottled and the fourth is dark. But look at the seventh of the upper row: mottled too, and right. If you had not seen the upper row, would you have blamed the cache? So we do not look, we compare: **the same random numbers must give the codes of naive.** That is the check, and it is a strict one.


# %%
def first_wrong(codes, right):
    """The first place, in raster order, at which any image is wrong."""
    wrong = (codes != right).any(dim=0).nonzero()  # [number, 2]
    return tuple(wrong[0].tolist()) if len(wrong) else None


print("healthy: first wrong code at", first_wrong(drawn["cached"], right))
print("stale:   first wrong code at", first_wrong(stale, right))
assert first_wrong(drawn["cached"], right) is None
assert first_wrong(stale, right) == (1, 0)

# %% [markdown]
# **Where are the wrong codes?** The map counts, place by place, in how many of the 16 images the code differs from naive's. In JupyterLab, choose the block.


# %%
def map_of_differences(codes):
    return (codes != right).sum(dim=0)  # [8, 8]


def differences(block):
    slip = rows_not_rolled(block)
    codes, _ = cached(top, shape, random, condition, slip)
    return figures.heatmaps(
        {f"block {block} does not roll": map_of_differences(codes)},
        unit="images of 16 whose code differs",
        limits=(0, 16),
        numbers="{:.0f}",
    )


explore(
    differences,
    "A map of 8 by 8 places for a row not rolled in block 4. Row 0 is all "
    "0. In row 1 between 3 and 10 of 16 images are wrong, and from row 3 on "
    "mostly between 8 and 16. In the first and last column fewer are wrong.",
    block=[4, 0, 1, 2, 3, 5, 6, 7, 8],
)

# %% [markdown]
# Row 0 is right in every image, and row 1 is where it begins. Why there? Above row 0 there is nothing, and the cache should hold zeros. It does. At row 1 block 4 should find row 0 of its v. It finds zeros again. From here on what it sends across is wrong, at every column.
#
# Then why are not all 16 images wrong at (1, 0)? Let us look at the logits.

# %%
_, right_logits = cached(top, shape, random, condition)  # [16, 64, K]
off = (stale_logits - right_logits).abs().amax(dim=2) > 1e-6  # [16, 64]
wrong = (stale != right).flatten(1)  # [16, 64]
for place in (7, 8):
    print(
        f"place {divmod(place, 8)}: logits off in {off[:, place].sum()} of 16"
        f" images, code wrong in {wrong[:, place].sum()}"
    )

# %% [markdown]
# The *logits* at (1, 0) are off in every image. But a code is drawn by laying a random number on the probabilities. If they shift a little, most random numbers still fall on the same code. The **first wrong logit** tells you what was not kept: at (1, 0) a row is missing, at (0, 1) a place. It does not tell you the block. The **first wrong code** comes at that place or somewhat later. From then on an image has another past than naive's, and nearly everything after may differ. This is the one of the 16 that stays right the longest. Its first wrong code is framed.

# %%
late = wrong.int().argmax(dim=1)  # [16]: the first wrong place of each
image = late.argmax().item()
place = divmod(late[image].item(), 8)
names = ("top codes, naive", "top codes, row not rolled")
figures.show(
    figures.code_grids(
        {names[0]: right[image], names[1]: stale[image]},
        64,
        marked=dict.fromkeys(names, place),
    ),
    "Two grids of 8 by 8 top codes. Up to the red frame in row 2 both hold "
    "the same numbers. In the frame they differ, and after it many others "
    "do, though not all.",
)

# %% [markdown]
# Would another check have caught it? A test of shapes would not. A look at the images might, or might not. What about the measure that we followed through the course, nats per code? The right prior says what the wrongly drawn codes cost.

# %%
print("not rolled   wrong codes of 1,024   nats per code")
for block in (None, *range(9)):
    slip = None if block is None else rows_not_rolled(block)
    codes, _ = cached(top, shape, random, condition, slip)
    nats = F.cross_entropy(top.logits(codes, condition), codes)
    name = "none" if block is None else f"block {block}"
    print(f"{name:10} {(codes != right).sum():22} {nats:15.1f}")

# %% [markdown]
# Not reliably. In blocks 1 to 3 and 5 the mistake costs some tenths of a nat. For blocks 4 and 6 to 8 it is a tenth or less. Other random numbers may move a mean over 16 images as much. No alarm could be set there.
#
# And look at block 0. It does not roll, and no code is wrong. That is no accident. Block 0 is the one with mask A. Its vertical kernel is a single row high, so there is nothing to roll. (With k = 5 it would be two rows high, and would not be spared.)
#
# So a cache is tested in one way: against the network without it, code by code, from the same random numbers. The package's tests do it for small priors of random shapes, with kernels of several widths, with labels, known codes and attention.

# %% [markdown]
# ## 06.11 Exercises
#
# Change the `None` in a cell and run it. The answer is judged by trying it out.

# %% [markdown] tags=["about-solutions"]
# A solution follows each exercise in a collapsed cell: click the bar at its left to open it.

# %% [markdown]
# ### Exercise 1: write the cached step
#
# Write both steps, this time for **any** block: the first with mask A or a later one, and kernels of any width k. What is kept is the past alone: r rows, or r places, the oldest first. C channels come in: D in the first block, p later. Other than in 06.4, `kept` does not hold the new row yet.
#
# - `my_row_step(block, kept, new)`: `kept` [B, C, r, W] are the r rows of v above, `new` [B, C, W] is row y. It gives three tensors: the new v [B, p, W], across [B, 2p, W], and what is kept for the next row.
# - `my_code_step(block, kept, new, across)`: `kept` [B, C, r] are the r places to the left, `new` [B, C] is h at this place, `across` [B, 2p] came from the vertical stack. It gives the new h [B, p], and what is kept for the next code.
#
# A block tells you `block.reach` (r), `block.shift` (1 for the first block, else 0) and `block.span` (how many rows and how many places are under its kernels: r + 1, or r with the shift). The first block may keep `new`, and must not look at it. The first block has no residuals; a later one adds `new` to both v and h.


# %% tags=["exercise"]
def my_row_step(block, kept, new):
    return None  # your turn: v, across, kept


def my_code_step(block, kept, new, across):
    return None  # your turn: h, kept


check.cached_step(my_row_step, my_code_step)


# %% tags=["solution"] jupyter={"source_hidden": true, "outputs_hidden": true}
# Past and present in one tensor: span cuts off what must not be seen.
def any_row_step(block, kept, new):
    all_rows = torch.cat([kept, new[:, :, None]], dim=2)  # [B, C, r + 1, W]
    seen = F.pad(all_rows[:, :, : block.span], (block.reach, block.reach))
    features = block.vertical(seen)  # [B, 2p, 1, W]
    sent = block.vertical_to_horizontal(features)[:, :, 0]  # [B, 2p, W]
    v = gate(features)[:, :, 0]  # [B, p, W]
    return v if block.shift else v + new, sent, all_rows[:, :, 1:]


def any_code_step(block, kept, new, across):
    places = torch.cat([kept, new[:, :, None]], dim=2)  # [B, C, r + 1]
    left = block.horizontal(places[:, :, None, : block.span])
    gated = gate(left + across[:, :, None, None])  # [B, p, 1, 1]
    h = block.horizontal_out(gated)[:, :, 0, 0]  # [B, p]
    return h if block.shift else h + new, places[:, :, 1:]


check.cached_step(any_row_step, any_code_step)

# %% [markdown]
# ### Exercise 2: a good shape for rows
#
# A grid has 240 codes, and you may choose its height and its width. There is no label and no other condition. **At which shape does rows take the fewest multiply-adds, and how many times those of cached?** Answer with three numbers: (height, width, rows ÷ cached). Predict on paper, then let it be counted.

# %% tags=["exercise"]
my_shape = None  # your turn: (height, width, rows ÷ cached)

check.fewest_for_rows(my_shape, 240)

# %% tags=["solution"] jupyter={"source_hidden": true, "outputs_hidden": true}
# W · (H + 1) / 2 passes are (240 + W) / 2: the narrowest grid is the best.
best_shape = min(
    ((240 + w) / 2, 240 // w, w) for w in range(1, 241) if 240 % w == 0
)
passes, height, width = best_shape

check.fewest_for_rows((height, width, passes), 240)

# %% [markdown]
# ### Exercise 3: how many images at once?
#
# You have 1 GiB (2³⁰ bytes) for what cached keeps. **How many images can you draw at once with the shipped *bottom* level**, whose grid is 16 × 16? Count the caches alone, in float32. Section 06.8 says what is in them.

# %% tags=["exercise"]
my_images = None  # your turn: a whole number

check.batch_limit(my_images, bottom, (16, 16), 2**30)

# %% tags=["solution"] jupyter={"source_hidden": true, "outputs_hidden": true}
# Four bytes a number; as many whole images as fit.
bytes_per_image = 4 * numbers_kept(bottom, 16)
images_at_once = 2**30 // bytes_per_image

check.batch_limit(images_at_once, bottom, (16, 16), 2**30)

# %% [markdown]
# Thousands of images. (Beside the caches come the weights, twice, however many images: the model's, and a copy laid out for the steps. Then the condition of the whole grid; and for a moment its product with all blocks' weights, for a row. Count on half as many.) A pass of naive holds one layer's features at a time, but for all 16 rows.

# %% [markdown]
# ### Exercise 4: what was not rolled?
#
# Two caches drew from our random numbers. In one of them, some block did not roll its rows. In the other, some block did not roll its *places*. **Which map is which, and which block was it?** `cached(top, shape, random, condition, slips.not_rolled("places", n))` draws as block n would have it, and with "rows" as in 06.10.

# %%
found = slips.two_draws(top, shape, random, condition)  # [16, 8, 8] each
figures.show(
    figures.heatmaps(
        {
            f"map {number}": map_of_differences(codes)
            for number, codes in enumerate(found, 1)
        },
        unit="images of 16 whose code differs",
        limits=(0, 16),
        numbers="{:.0f}",
    ),
    "Two maps of 8 by 8 places with numbers from 0 to 16. They differ in "
    "their first row. What was not rolled is not said.",
)

# %% tags=["exercise"]
my_slips = None  # your turn: ((what, block) of map 1, (what, block) of 2)

slips.which(my_slips, found, top, random, condition)

# %% tags=["solution"] jupyter={"source_hidden": true, "outputs_hidden": true}
# Row 0 is right where rows stay. The block is found by trying each.
suspects = []
for codes in found:
    row_0_is_right = not map_of_differences(codes)[0].any()
    what = "rows" if row_0_is_right else "places"
    for n in range(1, 9):
        spoil = slips.not_rolled(what, n)
        again, _ = cached(top, shape, random, condition, spoil)
        if torch.equal(again, codes):
            suspects.append((what, n))

slips.which(suspects, found, top, random, condition)

# %% [markdown]
# ## What you can do now
#
# - Say what a pass computes again and what for nothing, and write the cached step of a gated block.
# - Count what a method costs without a clock, and take the time where counting does not tell.
# - Test a cache against the network without it, and tell from the first wrong logit what was not kept.
#
# **To take away.** With k = 5, at which place would the first wrong logit be if block 0 did not roll its rows? What would a block have to keep if its kernel looked at every row above? Drawing one image by cached takes as many multiply-adds as one pass, and more time: what would you change about the raster order to mend that, and what would it cost?
#
# **Sources.** Keeping the features of a PixelCNN while it draws, a row for the vertical stack and a code for the horizontal one: Ramachandran, Le Paine, Khorrami, Babaeizadeh, Chang, Zhang, Hasegawa-Johnson, Campbell and Huang 2017, [arXiv 1704.06001](https://arxiv.org/abs/1704.06001), section 2. The two stacks: van den Oord, Kalchbrenner, Vinyals, Espeholt, Graves and Kavukcuoglu 2016, [arXiv 1606.05328](https://arxiv.org/abs/1606.05328), section 2. Queries, keys and values: Vaswani, Shazeer, Parmar, Uszkoreit, Jones, Gomez, Kaiser and Polosukhin 2017, [arXiv 1706.03762](https://arxiv.org/abs/1706.03762), section 3.2. Attention in the top prior: Razavi, van den Oord and Vinyals 2019, [arXiv 1906.00446](https://arxiv.org/abs/1906.00446), section 3.2.
#
# ← [05 · The bottom prior](05_bottom_prior.ipynb) · [the course](../README.md#the-course) · [words and symbols](GLOSSARY.md) · next: [07 · Generate and judge](07_generate_and_judge.ipynb) →
