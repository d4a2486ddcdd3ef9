# %% [markdown]
# # 05 · The bottom prior, P(z_bottom | z_top)
#
# **What you will make.** A PixelCNN that looks at a second grid, trained with the top codes and without, and many images from one top grid of your choice.
#
# **What you will learn.** How one grid conditions another, what that is worth, and how to notice that the condition belongs to another image.
#
# **What you need.** The gated block of notebook [03](03_gated_blocks.ipynb), and the loss of notebook [04](04_top_prior.ipynb).
#
# **Time.** About 24 minutes for the core and 43 for all, with the exercises; 25<!--= timings 05_bottom_prior --> seconds to run on two CPU cores.
#
# ← [04 · The top prior](04_top_prior.ipynb) · [the course](../README.md#the-course) · [words and symbols](GLOSSARY.md) · next: [06 · Sampling, fast](06_fast_sampling.ipynb) →

# %% tags=["version"]
from pixelprior.course import needs

needs("0.2")  # says so if the installed package is older

# %%
import torch

from pixelprior import ConditionalPixelCNN, load_shipped
from pixelprior.course import explore, figures, reveal, your_turn
from pixelprior.course.checks import bottom as check
from pixelprior.evaluation.measures import erase_top

# %% [markdown]
# ## 05.1 A condition for each position
#
# *Core · 4 minutes*
#
# Notebook 04 trained P(z_top). What is left is a **conditional** prior, P(z_bottom | z_top): the probability of a bottom grid *given* the top grid.
#
# A label enters a gated block as a bias that is the same at every position (notebook 03). Top codes enter as a bias that differs from position to position, the **condition**. Each top code becomes a vector, and convolutions mix it with its neighbours. They have no mask, because the whole top grid is drawn before the first bottom code. This gives p features for each of 8 × 8 top positions.

# %%
vqvae2, prior = load_shipped()
training = check.codes(vqvae2, "train", 768)  # of 768 images
heldout = check.codes(vqvae2, "test", 256)

# %% [markdown]
# ### Your turn A: enlarge the top
#
# *3 minutes*
#
# Four of the 16 × 16 bottom positions belong to each top position, in a square of 2 × 2, and all four take its features. The figure shows this for a smaller grid. It is called **nearest-neighbour upsampling**. **Write the line that does it.**
#
# <details><summary>Hint 1</summary>
#
# Begin with one row of features: a, b, c has to become a, a, b, b, c, c.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `repeat` lays copies of the whole tensor side by side, and `repeat_interleave(2, dim)` repeats each entry along one dimension. Rows are dimension 2, and columns dimension 3.
#
# </details>

# %%
figures.show(figures.code_grids(check.positions(), 16), "enlarged_grid")


# %% tags=["exercise"]
def my_enlarge(features):  # [B, p, h, w]
    return None  # your turn: [B, p, 2h, 2w]


enlarge = your_turn(check.enlarge, my_enlarge, otherwise=check.enlarged)

# %% [markdown] tags=["about-solutions"]
# [To solution A](#Solution-A)

# %% [markdown]
# ## 05.2 The line that adds it
#
# *Core · 7 minutes*
#
# With v for the vertical stack and c for the condition, the gate becomes
#
# $$
# \tanh(W_f * v + V_f * c) \odot \sigma(W_g * v + V_g * c),
# $$
#
# where V_f and V_g are the two halves of a 1×1 convolution from p to 2p channels, `block.condition`. So the top codes can shift each feature, and open or close its gate.

# %% [markdown]
# ### Your turn B: add the condition
#
# *4 minutes*
#
# This is the block of notebook 03, whose `vertical` and `horizontal` we import, and one line is missing. **Add it in the right place.** The condition has to reach both stacks, and `block.condition` is used once.
#
# <details><summary>Hint 1</summary>
#
# Which tensor of the block holds W_f ∗ v and W_g ∗ v of the equation, in one piece?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# It is `up`. The horizontal stack takes the condition from it by `vertical_to_horizontal`, so the line stands before that.
#
# </details>

# %%
from pixelprior.course.checks.blocks import horizontal, vertical
from pixelprior.layers import GatedBlock, gate


# %% tags=["exercise"]
def my_gated_block(block, v, h, condition):
    return None  # your turn: delete this line, and add the missing one
    up = vertical(v, block)  # [B, 2p, H, W]
    left = horizontal(h, block)  # [B, 2p, H, W]
    across = block.vertical_to_horizontal(up)  # [B, 2p, H, W]
    new_v, new_h = gate(up), block.horizontal_out(gate(across + left))
    if block.mask_a:  # the first block has no residuals
        return new_v, new_h  # [B, p, H, W] each
    return v + new_v, h + new_h


gated_block = your_turn(
    check.gated_block, my_gated_block, otherwise=GatedBlock.forward
)

# %% [markdown] tags=["about-solutions"]
# [To solution B](#Solution-B)

# %% [markdown]
# Here is the whole network. After enlarging, one more convolution lets the four positions of a square differ, and the package adds the label's vector. The condition depends on no bottom code, so adding it leaks nothing.


# %%
class BottomPrior(ConditionalPixelCNN):
    def condition_from_above(self, z_top, _):  # _: the shape below
        top = self.top_embedding(z_top).permute(0, 3, 1, 2)  # [B, D, 8, 8]
        top = enlarge(self.top_network(top))  # [B, p, 16, 16]
        return self.top_to_bottom(top)  # [B, p, 16, 16]

    def logits(self, z_bottom, condition):
        v = h = self.embed(z_bottom)  # [B, D, 16, 16]
        for block in self.blocks:
            v, h = gated_block(block, v, h, condition)  # [B, p, 16, 16]
        return self.head(h)  # [B, K, 16, 16]


# %% [markdown]
# ## 05.3 With the top, and without
#
# *Core · 2 minutes*
#
# We train a network on pairs of grids. Its twin has the same initial weights and the same bottom grids, but **every top code is 0**: its top grid says nothing. `learning_curve` has the loop of notebook 04, without labels. **From which step on does the top help?**

# %%
erased = erase_top(training), erase_top(heldout)
without = check.learning_curve(BottomPrior, *erased)
given = check.learning_curve(BottomPrior, training, heldout)
assert given[2] < without[2] and 0.05 < without[-1] - given[-1] < 0.2
figures.show(check.curves(without, given, heldout), "with_and_without_top")

# %% [markdown]
# After step 24, the network with the top codes needs fewer nats, because earlier bottom codes do not contain what the top says about the codes to come.

# %% [markdown]
# ## 05.4 What is the top worth?
#
# *Core · 2 minutes*
#
# Such twins also ship with the package, conditioned on the label as well, and trained on nearly all of the 60,000<!--= results data.training_images --> training images. **What share of the nats of a bottom code does the top save?**

# %%
my_guess = None  # your guess, in percent

# %%
bottom_prior, twin = prior.prior_bottom, check.shipped_twin()
z_top, z_bottom, labels = heldout.batch(torch.arange(96))


def nats(network, z_top):
    with torch.no_grad():
        return network.nats(z_bottom, z_top, labels)  # [96, 16, 16]


own, alone = nats(bottom_prior, z_top), nats(twin, 0 * z_top)
gain = alone - own  # [96, 16, 16]
reveal(f"it saves {gain.sum() / alone.sum():.0%}", my_guess)

# %% [markdown]
# On all 10,000<!--= results data.heldout_images --> held-out images, a bottom code costs 1.503<!--= results likelihood.bottom.without_top.value --> nats without the top codes and 1.206<!--= results likelihood.bottom.nats_per_code.value --> nats with them, a **gain** of about 0.30<!--= results likelihood.bottom.gain_from_top.value --> nats.

# %% [markdown]
# ## 05.5 One top, many bottoms
#
# *Core · 3 minutes*
#
# We keep the top codes of one image, by `known_top`, and draw eight bottom grids. **What stays the same in the second row, and what varies?**


# %%
def many(image, seed):
    z_top, z_bottom, labels = heldout.batch(torch.full((8,), image))
    real = vqvae2.decode_codes(z_top[:1], z_bottom[:1])  # [1, 1, 32, 32]
    draw = prior.sample_with_vqvae2  # draws codes and decodes them
    fixed = {"labels": labels, "seed": seed}
    kept = draw(vqvae2, 8, **fixed, known_top=z_top)  # [8, 1, 32, 32]
    free = draw(vqvae2, 8, **fixed)  # [8, 1, 32, 32]
    rows = {"own codes": real, "top kept": kept, "label only": free}
    return figures.image_rows(rows)


# %% tags=["cover"]
my_image = 1  # yours: any number from 0 to 255
choices = {"image": [my_image, 0, 33, 255], "seed": [0, 1, 2, 3]}
explore(many, "one_top_many_bottoms", **choices)

# %% [markdown]
# It is the same pullover eight times, and none of them says "Lee". *Something* is written on each, at the same spot: the top says that there is print, and where. **Now change `my_image`**: 31 is a bag, 100 a dress with a pattern.

# %% [markdown]
# ## 05.6 Where it breaks: the top of another image
#
# *Core · 3 minutes*
#
# After the training, one wrong line shuffles the list of top grids, and every bottom grid is paired with the top of another image. All shapes are right, and nothing raises an error. A code costs 1.2<!--= results likelihood.bottom.nats_per_code.value --> nats with its own top, and 3.4<!--= results likelihood.bottom.uniform --> by a uniform guess. **What does it cost with the top of another image?**

# %%
my_guess = None  # your guess, in nats

# %%
shuffled = nats(bottom_prior, z_top.roll(1, 0))  # of the image before
same = nats(bottom_prior, z_top[check.another_of_its_class(labels)])
reveal(f"it costs {shuffled.mean():.1f} nats", my_guess)
figures.show(check.bars(own, alone, same, shuffled), "cost_of_wrong_tops")

# %% [markdown]
# It is as bad as a uniform guess, because the network expects codes that do not come. Even the top of an image of the same class costs more than no top. Samples do not show the mistake: each is a whole image, with the outline of the other image. The loss shows it, if it is compared: **a network with a condition must beat its twin without.**

# %% [markdown]
# ## 05.7 The same as the package
#
# *Further · 1 minute*
#
# Our network gets the weights of the shipped prior.

# %%
by_hand = check.with_weights_of(BottomPrior, bottom_prior)
apart = (nats(by_hand, z_top) - own).abs().max()
print("nats differ by less than 1e-3:", bool(apart < 1e-3))

# %% [markdown]
# ## 05.8 What a bottom code sees
#
# *Further · 3 minutes*
#
# **Which bottom codes, and which top codes, does the prediction at row 8, column 8 depend on?** We find out by the gradient, as in notebook 02.

# %%
bottom_seen, top_seen = check.seen(by_hand, heldout, (8, 8))
# bottom_seen [16, 16], top_seen [8, 8]
blue = figures.COLOURS["past"]
kinds = {
    "not seen": ("white", ""),
    "seen": (blue, ""),
    "the code itself, not seen": ("white", "///"),
    "the top code that it belongs to, seen": (blue, "///"),
}
panels = {"bottom codes": bottom_seen.long(), "top codes": top_seen.long()}
panels["bottom codes"][8, 8] += 2
panels["top codes"][4, 4] += 2
figures.show(figures.cells(panels, kinds, columns=2), "what_a_code_sees")

# %% [markdown]
# Nine blocks reach all earlier bottom codes from here, and no others, and the top codes on all sides. In a single grid, seeing what is below and to the right would be a leak. Here it is intended: at the left edge of a sleeve, the network can know how wide the sleeve will be.

# %% [markdown]
# ## 05.9 Where is the top worth most?
#
# *Further · 2 minutes*
#
# The gain of 05.4 is a mean over all positions. **At which of them is it large?**

# %%
figures.show(check.map_of(gain.mean(dim=0)), "gain_by_position")

# %% [markdown]
# The middle gains most, where most images have something to show. The border is mostly background, cheap even without the top. As a share of its own cost, row 0 saves most: it has no codes above it, and the top tells what is coming.

# %% [markdown]
# ## 05.10 Exercises
#
# *Further · 13 minutes*
#
# Replace the `None` in a cell with your answer and run the cell, which then tries the answer out.

# %% [markdown] tags=["about-solutions"]
# Each task has a [solution](#Solutions) at the end of the notebook.

# %% [markdown]
# ### Exercise 1: how improbable is this bag?
#
# *Difficulty 2 of 5 · importance 3 of 5 · 5 minutes*
#
# The **chain rule** holds for grids as it does for codes:
#
# $$
# \log P(z_\text{top}, z_\text{bottom}) = \log P(z_\text{top}) + \log P(z_\text{bottom} \mid z_\text{top}).
# $$
#
# Each term on the right is itself a sum, over 64 codes or over 256. All three are also given the label. What are the **nats per image**, −log P(z_top, z_bottom), of held-out image 31, a bag? Compute them with both levels of the shipped prior: `image_nats(network, codes)` gives the nats of each image by one level.
#
# <details><summary>Hint 1</summary>
#
# The levels are `prior.prior_top` and `prior.prior_bottom`.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Which numbers are to be added?
#
# </details>

# %%
from pixelprior.evaluation.measures import image_nats

bag = heldout.subset([31])

# %% tags=["exercise"]
my_nats = None  # your turn

check.nats_per_image(my_nats, prior, bag)

# %% [markdown] tags=["about-solutions"]
# [To solution 1](#Solution-1)

# %% [markdown]
# ### Exercise 2: measure the gain
#
# *Difficulty 3 of 5 · importance 5 of 5 · 8 minutes*
#
# Write a function that measures what the top codes are worth, in nats per bottom code, as one number, the mean over images. Its arguments are the network with the top, its twin that was trained without, and codes. `image_nats(network, codes)` gives the nats of each image's codes, [N]. Do not rely on the number 256, because the check tries another grid too.
#
# <details><summary>Hint 1</summary>
#
# The twin was trained on top codes that are all 0, and is measured on `erase_top(codes)`.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The gain is positive if the network with the top needs fewer nats.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# `codes.z_bottom[0].numel()` is the number of bottom codes of one image.
#
# </details>


# %% tags=["exercise"]
def my_gain(with_top, without_top, codes):
    return None  # your turn


few = heldout.subset(torch.arange(100, 124))
check.conditional_gain(my_gain, bottom_prior, twin, few)

# %% [markdown] tags=["about-solutions"]
# [To solution 2](#Solution-2)

# %% [markdown]
# ## What you can do now
#
# - Condition a PixelCNN on another grid, with one line of its block.
# - Say what a condition is worth, by comparison with a twin that was trained without it.
# - Compare many images drawn with one top, and detect wrong pairs by the loss.
#
# **In papers**, P(z_bottom | z_top) is a **conditional** or **hierarchical prior**, and drawing the top first and then the bottom is **ancestral sampling**. To train a twin that lacks one input is an **ablation**.
#
# **To take away.** What would the gain be if the two levels held the same information? Could the *bottom* be drawn first, and the top given it, and what would have to change? With three levels, what does each network get for its condition? ([Answers](ANSWERS.md#05--the-bottom-prior))
#
# **Sources.** A prior for each level: Razavi, van den Oord and Vinyals 2019, [arXiv 1906.00446](https://arxiv.org/abs/1906.00446), section 3.2. A condition that differs from position to position, added before the gate: van den Oord and others 2016, [arXiv 1606.05328](https://arxiv.org/abs/1606.05328), section 2.3.
#
# ← [04 · The top prior](04_top_prior.ipynb) · [the course](../README.md#the-course) · [words and symbols](GLOSSARY.md) · next: [06 · Sampling, fast](06_fast_sampling.ipynb) →

# %% [markdown] tags=["solution"]
# ## Solutions
#
# A solution is one answer of several: the checks judge what an answer does, not how it is written.

# %% [markdown] tags=["solution"]
# ### Solution A
#
# [Back to your turn A](#Your-turn-A:-enlarge-the-top)


# %% tags=["solution"]
def the_enlarge(features):  # [B, p, h, w]
    rows = features.repeat_interleave(2, 2)  # [B, p, 2h, w]
    return rows.repeat_interleave(2, 3)  # [B, p, 2h, 2w]


check.enlarge(the_enlarge)

# %% [markdown] tags=["solution"]
# ### Solution B
#
# [Back to your turn B](#Your-turn-B:-add-the-condition)


# %% tags=["solution"]
def the_gated_block(block, v, h, condition):
    up = vertical(v, block)  # [B, 2p, H, W]
    up = up + block.condition(condition)  # [B, 2p, H, W]: the line
    left = horizontal(h, block)  # [B, 2p, H, W]
    across = block.vertical_to_horizontal(up)  # [B, 2p, H, W]
    new_v, new_h = gate(up), block.horizontal_out(gate(across + left))
    if block.mask_a:  # the first block has no residuals
        return new_v, new_h  # [B, p, H, W] each
    return v + new_v, h + new_h


check.gated_block(the_gated_block)

# %% [markdown] tags=["solution"]
# ### Solution 1
#
# [Back to exercise 1](#Exercise-1:-how-improbable-is-this-bag?)

# %% tags=["solution"]
# A product of probabilities is a sum of logarithms, over codes and levels.
bag_nats = image_nats(prior.prior_top, bag) + image_nats(
    bottom_prior, bag
)  # [1]

check.nats_per_image(bag_nats, prior, bag)

# %% [markdown] tags=["solution"]
# ### Solution 2
#
# [Back to exercise 2](#Exercise-2:-measure-the-gain)


# %% tags=["solution"]
# Each network gets the codes that it knows. Per image, then per code.
def gain_per_code(with_top, without_top, codes):
    nats_with = image_nats(with_top, codes)  # [N]
    nats_without = image_nats(without_top, erase_top(codes))  # [N]
    return (nats_without - nats_with).mean() / codes.z_bottom[0].numel()


check.conditional_gain(gain_per_code, bottom_prior, twin, few)
