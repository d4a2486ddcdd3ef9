# %% [markdown]
# # 01 · Images to codes: VQ-VAE-2
#
# **What you will make.** A small VQ-VAE-2 with your own quantizer, and garments with the top codes of one image and the bottom codes of another.
#
# **What you will learn.** How an image becomes two grids of codes, how a codebook collapses, and what the top grid is for.
#
# **What you need.** Notebook [00](00_start_here.ipynb) and PyTorch, but no internet and no GPU.
#
# **Time.** About 31 minutes for the core and 53 for all, with the exercises; 25<!--= timings 01_images_to_codes --> seconds to run on two CPU cores.
#
# ← [00 · Start here](00_start_here.ipynb) · [the course](../README.md#the-course) · [words and symbols](GLOSSARY.md) · next: [02 · Masked convolutions](02_masked_convolutions.ipynb) →

# %% tags=["version"]
from pixelprior.course import needs

needs("0.2")  # says so if the installed package is older

# %%
from functools import partial

import torch
from torch import nn

from pixelprior import load_images
from pixelprior.course import explore, figures, reveal, your_turn
from pixelprior.course.checks import quantizing as check
from pixelprior.layers import ResidualStack

# %% [markdown]
# ## 01.1 The nearest code
#
# *Core · 9 minutes*
#
# To **quantize** is to replace a vector by the nearest one of a list. The list is the **codebook** e, K vectors of D numbers each, and e_k is the vector of code k. The code of a vector x is the k with the smallest distance ‖x − e_k‖.
#
# With D = 2, vectors are points in a plane. We take pairs of a pixel and its right neighbour, and K = 8 random codes.

# %%
training = load_images("fashion_mnist_mini", "train")
pairs = training[torch.arange(64)][0].reshape(-1, 2)  # [N, D]
torch.manual_seed(61)
e = 0.5 + torch.randn(8, 2) / 2  # [K, D]

# %% [markdown]
# ### Your turn A: the nearest code
#
# *6 minutes*
#
# Write the function that gives each point its code. **Which of the K vectors is nearest?** Work for any D, and without a loop over the points: 01.4 calls your function for thousands of features in each step.
#
# <details><summary>Hint 1</summary>
#
# `points[:, None] - e` has all differences at once, [N, K, D].
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Square the differences and sum them over D. Then you have a distance for each point and each code, [N, K], and `argmin` finds the smallest.
#
# </details>


# %% tags=["exercise"]
def my_nearest(points, e):
    # points [N, D] and the codebook e [K, D] to codes [N]
    return None  # your turn


nearest = your_turn(check.nearest, my_nearest, otherwise=check.nearest_code)

# %% [markdown] tags=["about-solutions"]
# [To solution A](#Solution-A)

# %% [markdown]
# The figure shows the code of each point of the plane, and some pairs. **Which codes does no pair choose?**

# %%
panels = {"8 random codes": (pairs[::20], e)}
figures.show(figures.nearest_cells(panels, nearest), "cells_of_codes")

# %% [markdown]
# No pair chooses the codes in white squares.

# %% [markdown]
# ## 01.2 A gradient past a choice
#
# *Core · 5 minutes*
#
# In a network, an **encoder** computes the vectors, its **features**, and a **decoder** makes an image from the vectors of their codes. Both learn from the **reconstruction error**, the mean squared difference between this image and the original. But a feature x that moves a little mostly keeps its code: the slope is zero. How can the encoder learn?
#
# The **straight-through estimator** gives the decoder e_k in the forward pass, and in the backward pass it gives the gradient at e_k to x, unchanged. This is nearly right while x is near e_k, so two terms are added to the loss: one moves the codes to their features, and the **commitment loss**, with weight β = 1/4, moves the features to their codes. In each, the other side is made a constant by `.detach()`, the **stop gradient** of the papers.

# %% [markdown]
# ### Your turn B: straight through
#
# *4 minutes*
#
# Write the straight-through estimator in one line. **The value has to be `quantized`; how does the gradient arrive at `features` all the same?** All of it has to arrive there, and none at `quantized`.
#
# <details><summary>Hint 1</summary>
#
# Write the value as `features` plus a difference.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Which part of this sum may the backward pass see? `.detach()` makes a constant of the other part.
#
# </details>


# %% tags=["exercise"]
def my_straight_through(features, quantized):
    # both [B, D, H, W], to what the decoder gets, [B, D, H, W]
    return None  # your turn


straight_through = your_turn(
    check.straight_through,
    my_straight_through,
    otherwise=check.passed_through,
)

# %% [markdown] tags=["about-solutions"]
# [To solution B](#Solution-B)

# %% [markdown]
# ## 01.3 A VQ-VAE-2 in thirty lines
#
# *Core · 6 minutes*
#
# **Which of the two grids is quantized first?**

# %%
figures.show(figures.two_levels(), "two_levels")

# %% [markdown]
# The top is quantized first. Its vectors are decoded and joined to the bottom features, so the bottom can add what the top lacks.


# %%
def quantize(features, e):
    x = features.detach().permute(0, 2, 3, 1)  # [B, H, W, D]
    codes = nearest(x.flatten(0, 2), e).view(x.shape[:3])  # [B, H, W]
    quantized = e[codes].permute(0, 3, 1, 2)  # [B, D, H, W]
    loss = (quantized - features.detach()).square().mean()  # moves codes
    loss = loss + (features - quantized.detach()).square().mean() / 4
    return straight_through(features, quantized), codes, loss


def encode(net, images):  # [B, 1, 32, 32]
    features_b = net.encoder_bottom(images)  # [B, D, 16, 16]
    features_t = net.encoder_top(features_b)  # [B, D, 8, 8]
    quant_t, z_top, loss_t = quantize(features_t, net.e_top)  # [B, D, 8, 8]
    decoded_t = net.decoder_top(quant_t)  # [B, D, 16, 16]
    both = torch.cat([features_b, decoded_t], dim=1)  # [B, 2 * D, 16, 16]
    quant_b, z_bottom, loss_b = quantize(net.to_bottom(both), net.e_bottom)
    return quant_t, quant_b, z_top, z_bottom, loss_t + loss_b


def decode(net, quant_t, quant_b):
    wide_t = net.upsample_top(quant_t)  # [B, D, 16, 16]
    return net.decoder(torch.cat([wide_t, quant_b], dim=1))  # [B, 1, 32, 32]


# %%
halve = partial(nn.Conv2d, kernel_size=4, stride=2, padding=1)
double = partial(nn.ConvTranspose2d, kernel_size=4, stride=2, padding=1)
blocks = partial(ResidualStack, num_blocks=2)  # keep the shape


class OurVQVAE2(nn.Module):
    def __init__(self, D, K):
        super().__init__()
        self.encoder_bottom = nn.Sequential(halve(1, D), blocks(D))
        self.encoder_top = nn.Sequential(halve(D, D), blocks(D))
        self.decoder_top = nn.Sequential(blocks(D), double(D, D))
        self.to_bottom = nn.Conv2d(2 * D, D, kernel_size=1)
        self.upsample_top = double(D, D)
        self.decoder = nn.Sequential(blocks(2 * D), double(2 * D, 1))
        self.e_top, self.e_bottom = map(nn.Parameter, torch.randn(2, K, D))


# %% [markdown]
# ## 01.4 Where it breaks: codebook collapse
#
# *Core · 2 minutes*
#
# These codebooks start from normal random numbers. We train the network for 100 steps, with your functions in it. **How many of the 30 bottom codes occur in eight held-out images after that?**

# %%
my_guess = None  # your guess: a number from 1 to 30

# %% tags=["nbval-ignore-output"]
images, _ = load_images("fashion_mnist_mini", "test")[torch.arange(8)]
in_use = []
for renewal in (None, check.renewed):
    torch.manual_seed(0)
    net = check.train(OurVQVAE2(16, 30), encode, decode, training, renewal)
    in_use.append(len(encode(net, images)[3].unique()))
assert in_use[0] < 12 and in_use[1] > 20
reveal(f"{in_use[0]} of 30, and {in_use[1]} with renewal", my_guess)

# %% [markdown]
# The few vectors that are nearest at first are chosen by all features and move among them, and hardly any other ever becomes nearest. A code that no feature chooses gets no gradient. It is **dead**, like the white squares of 01.1. If most codes are dead, this is **codebook collapse**. To notice it, count the codes in use.
#
# The remedy is **renewal**, as in the second training: every ten steps, each code that no feature of the batch chose is moved to one of these features.

# %% [markdown]
# ## 01.5 Where it breaks: a top that is not used
#
# *Core · 6 minutes*
#
# The bottom grid has 16 × 16 positions, enough for an image, and nothing in the loss asks for the top. Here are your network with renewal and two that were trained for longer. For *ours*, the decoder got zeros in place of the bottom vectors for one image in twenty (`bottom_dropout`). A smaller one was trained for fewer epochs and *without* this, as in the paper, and so was yours. **What is decoded from the top alone?**

# %% tags=["cover"]
models = check.two_models()
quant_t, quant_b, *_ = encode(net, images)
shown = {"photograph": images, "yours, both": decode(net, quant_t, quant_b)}
shown["yours, top"] = decode(net, quant_t, 0 * quant_b)
for name, model in models.items():
    quant_t, quant_b, *_ = model.encode(images)
    shown[f"{name}, both"] = model.decode(quant_t, quant_b)
    shown[f"{name}, top"] = model.decode(quant_t, 0 * quant_b)
figures.show(figures.image_rows(shown), "both_levels")

# %% [markdown]
# From the top alone, our model makes garments. The other makes nothing, and neither does yours.
#
# Now each image keeps its bottom codes and gets the *top codes of the image to its left*, the first one those of the last. **What does the second image become in each model: the pullover of its bottom codes, or the boot of its top codes?** In JupyterLab, choose how many upper `rows` are exchanged.

# %%
my_guess = None  # your guess for ours and without, such as "boot, boot"


# %%
def exchange(rows):
    shown = {"photograph": images}
    for name, model in models.items():
        quant_t, quant_b, *_ = model.encode(images)
        quant_t[:, :, :rows] = quant_t.roll(1, 0)[:, :, :rows]
        shown[name] = model.decode(quant_t, quant_b)
    return figures.image_rows(shown)


explore(exchange, "exchanged_tops", rows=[8, 0, 2, 4, 6])
reveal(check.TRUTH, my_guess)

# %% [markdown]
# In our model, the top says which garment it is. The other decoder takes the garment from the bottom, and only texture changes. So our top holds the outline because `bottom_dropout` made the decoder work without the bottom, and not because it is coarse. To test a top, exchange it.

# %% [markdown]
# ## 01.6 The same as the package
#
# *Further · 1 minute*
#
# **Do `encode` and `decode`, with your two functions and the layers of the package's model, give its images?**

# %%
model = models["ours"]
model.e_top, model.e_bottom = model.codebooks().values()
by_hand = decode(model, *encode(model, images)[:2]).clamp(0, 1)
difference = (by_hand - model(images)).abs().mean()
print(f"images differ by less than 0.001 on average: {difference < 0.001}")

# %% [markdown]
# ## 01.7 A codebook that follows averages
#
# *Further · 5 minutes*
#
# In the package, no gradient moves the codes. The best position for a code is the mean of the vectors that chose it, because no other position has a smaller mean squared distance to them. To move each code there, to let the vectors choose anew, and to repeat both is called **k-means**.
#
# A network is trained on small batches, and its features change as it learns, so that the mean over one batch would jitter. The package keeps a **moving average** of two things, of how many features chose code k, N_k, and of their sum, m_k. If n_k features of the batch chose code k, and a share γ of the old value is kept, a step computes
#
# $$
# N_k \leftarrow \gamma N_k + (1 - \gamma) n_k, \qquad
# m_k \leftarrow \gamma m_k + (1 - \gamma) \sum_{x \text{ chose } k} x, \qquad
# e_k = m_k / N_k.
# $$
#
# The package takes γ = 0.8. Here is such a step, for the pairs of pixels.


# %%
def ema_step(points, e, counts, sums, decay=0.8):
    one_hot = torch.eye(len(e))[nearest(points, e)]  # [N, K]
    counts = decay * counts + (1 - decay) * one_hot.sum(dim=0)  # [K]
    sums = decay * sums + (1 - decay) * one_hot.T @ points  # [K, D]
    return sums / counts[:, None], counts, sums


moved, counts, sums = e, torch.ones(8), e
for step in range(1, 31):
    batch = pairs[torch.randint(len(pairs), (2048,))]  # [2048, D]
    moved, counts, sums = ema_step(batch, moved, counts, sums)
    if step in (1, 30):
        panels[f"after step {step}"] = (pairs[::20], moved)

# %% [markdown]
# **Where do the codes go?**

# %%
figures.show(figures.nearest_cells(panels, nearest), "codes_move")

# %% [markdown]
# The codes that some pairs chose moved among these pairs, and one of them now lies at (0, 0), in the black background. The dead codes did not move: both their N_k and their m_k are multiplied by γ in each step, so that the quotient e_k stays. The package counts a code as dead when its N_k is below 1, which is fewer than one feature per step on average, and renews it.

# %% [markdown]
# ## 01.8 Exercises
#
# *Further · 15 minutes*
#
# Replace the `None` in a cell with your answer and run the cell, which then tries the answer out.

# %% [markdown] tags=["about-solutions"]
# Each exercise has a [solution](#Solutions) at the end of the notebook.

# %% [markdown]
# ### Exercise 1: perplexity
#
# *Difficulty 2 of 5 · importance 4 of 5 · 6 minutes*
#
# How many codes are really in use, if some are rare? Write the **perplexity** as a function of codes, a tensor of any shape, and of K. It is exp of the **entropy**, the mean, over all codes in the tensor, of −log of each one's share. For four equally frequent codes it is 4.
#
# <details><summary>Hint 1</summary>
#
# `torch.bincount(codes.flatten(), minlength=K)` counts how often each code occurs, [K]. What are the shares?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# In the mean over all codes, code k appears as often as its share says. So it is a sum over k of share times −log share.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# A code that never occurs has the share 0, and `0 * torch.log(0)` is not a number. Leave such codes out of the sum.
#
# </details>


# %% tags=["exercise"]
def my_perplexity(codes, K):
    return None  # your turn


check.perplexity(my_perplexity)

# %% [markdown] tags=["about-solutions"]
# [To solution 1](#Solution-1)

# %% [markdown]
# ### Exercise 2: bring the dead to life
#
# *Difficulty 3 of 5 · importance 3 of 5 · 9 minutes*
#
# Write the renewal of 01.4. Your function gets the codebook e [K, D], the counts [K] of the codes, which may be averages, and a batch of features [N, D] with many more rows than K. It returns a codebook in which each code with a count below 1 is at a feature of the batch, each at a different one, while the other codes are where they were.
#
# <details><summary>Hint 1</summary>
#
# `counts < 1` is a mask [K] of the dead codes.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `torch.randperm(len(features))` gives the numbers of the rows in random order, so that the first few of them are all different.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Make `new = e.clone()`, and write into the rows of the dead codes alone, as in `new[dead] = …`.
#
# </details>


# %% tags=["exercise"]
def my_renewal(e, counts, features):
    return None  # your turn


check.renewal(my_renewal)

# %% [markdown] tags=["about-solutions"]
# [To solution 2](#Solution-2)

# %% [markdown]
# ## What you can do now
#
# - Quantize vectors, and send a gradient past the choice of a code.
# - Say how an image becomes two grids of codes, and an image again.
# - Notice a collapsed codebook and a top level that is not used.
#
# **In papers**, codes are **discrete latent codes**, a VQ-VAE-2 is a **tokenizer**, and its codebook a **vocabulary**.
#
# **To take away.** What would happen without the commitment loss? How could a dead code come back to life without renewal? Why is the bottom quantized after the top? ([Answers](ANSWERS.md#01--images-to-codes))
#
# **Sources.** Straight-through and commitment: van den Oord, Vinyals and Kavukcuoglu 2017, [arXiv 1711.00937](https://arxiv.org/abs/1711.00937), sections 3.1 and 3.2; averages, appendix A.1. Two levels: Razavi, van den Oord and Vinyals 2019, [arXiv 1906.00446](https://arxiv.org/abs/1906.00446), section 3.1. Renewal, and dropping the finer codes: Zeghidour et al. 2021, [arXiv 2107.03312](https://arxiv.org/abs/2107.03312), section III-C.
#
# ← [00 · Start here](00_start_here.ipynb) · [the course](../README.md#the-course) · [words and symbols](GLOSSARY.md) · next: [02 · Masked convolutions](02_masked_convolutions.ipynb) →

# %% [markdown] tags=["solution"]
# ## Solutions
#
# A solution is one answer of several: the checks judge what an answer does, not how it is written.

# %% [markdown] tags=["solution"]
# ### Solution A
#
# [Back to your turn A](#Your-turn-A:-the-nearest-code)


# %% tags=["solution"]
def the_nearest(points, e):
    differences = points[:, None] - e  # [N, K, D]
    return differences.square().sum(dim=2).argmin(dim=1)  # [N]


check.nearest(the_nearest)

# %% [markdown] tags=["solution"]
# ### Solution B
#
# [Back to your turn B](#Your-turn-B:-straight-through)


# %% tags=["solution"]
# The value is `quantized`; what is detached has no slope.
def the_straight_through(features, quantized):
    return features + (quantized - features).detach()


check.straight_through(the_straight_through)

# %% [markdown] tags=["solution"]
# ### Solution 1
#
# [Back to exercise 1](#Exercise-1:-perplexity)


# %% tags=["solution"]
def the_perplexity(codes, K):
    counts = torch.bincount(codes.flatten(), minlength=K)  # [K]
    shares = counts / counts.sum()  # [K]
    seen = shares[shares > 0]  # 0 · log 0 counts as 0
    return (-(seen * seen.log()).sum()).exp()  # []


check.perplexity(the_perplexity)

# %% [markdown] tags=["solution"]
# ### Solution 2
#
# [Back to exercise 2](#Exercise-2:-bring-the-dead-to-life)


# %% tags=["solution"]
# As many different rows of the batch, at random, as there are dead codes.
def the_renewal(e, counts, features):
    dead = counts < 1  # [K]
    rows = torch.randperm(len(features))[: dead.sum()]  # [dead]
    renewed_e = e.clone()  # [K, D]
    renewed_e[dead] = features[rows]
    return renewed_e


check.renewal(the_renewal)
