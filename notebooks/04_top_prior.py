# %% [markdown]
# # 04 · The top prior, P(z_top)
#
# **What you will make.** The loss and the training step of a PixelCNN, and images that turn from tangles into clothes.
#
# **What you will learn.** What to compare a loss with, how overfitting shows, and how a training fails without a message.
#
# **What you need.** The chain rule ([02](02_masked_convolutions.ipynb)) and `PixelCNN` ([03](03_gated_blocks.ipynb)).
#
# **Time.** About 33 minutes for the core and 56 for all, with the exercises; 35<!--= timings 04_top_prior --> seconds to run on two CPU cores.
#
# ← [03 · Gated blocks](03_gated_blocks.ipynb) · [the course](../README.md#the-course) · [words and symbols](GLOSSARY.md) · next: [05 · The bottom prior](05_bottom_prior.ipynb) →

# %% tags=["version"]
from pixelprior.course import needs

needs("0.2")  # says so if the installed package is older

# %%
import copy
import math

import torch

from pixelprior import PixelCNN, extract_codes, load_images, load_shipped
from pixelprior.course import explore, figures, reveal, your_turn
from pixelprior.course.checks import top as check

# %% [markdown]
# ## 04.1 Codes and network
#
# *Core · 2 minutes*
#
# We train on the top grids of 4,000 photographs, 8 × 8 codes each. Those of 250 others are **held out**.

# %%
vqvae2, shipped = load_shipped()
name = "fashion_mnist_mini"
training = extract_codes(vqvae2, load_images(name, "train", max_images=4000))
heldout = extract_codes(vqvae2, load_images(name, "test", max_images=250))
K = training.num_embeddings

# %% [markdown]
# The network has 24 channels, 10 classes and, to be quick, only 4 gated blocks: a position sees four rows up. In training, `label_dropout` withholds the class of about one grid in ten, because 04.6 needs predictions without it too.


# %%
def new_net():
    torch.manual_seed(0)
    return PixelCNN(K, 32, 24, 4, 10, dropout=0, label_dropout=0.1)


# %% [markdown]
# ## 04.2 The loss, in nats per code
#
# *Core · 7 minutes*
#
# At each position, the network gives every code a probability. If the code that is there had probability 1/2, it costs −log ½, about 0.7. By the chain rule, the probability of a grid is a product over its N = 64 codes, so their costs are added:
#
# $$
# -\log P(z) = -\sum_{i=1}^{N} \log P(z_i \mid z_1, \dots, z_{i-1})
# $$
#
# The **loss** is the mean cost over all codes of all grids, in nats per code. One pass of the network, which is also given the class, computes all 64 factors.

# %% [markdown]
# ### Your turn A: the loss
#
# *6 minutes*
#
# The network returns `logits` [B, K, H, W] for a batch of grids, the `codes` [B, H, W]. The logits at (y, x) belong to the code at (y, x). **Turn both into nats per code**, one number, on which `backward()` can be called.
#
# <details><summary>Hint 1</summary>
#
# `logits.log_softmax(dim=…)` gives log-probabilities. Over which dimension do the probabilities add up to 1?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `log_probs.gather(1, codes[:, None])`, [B, 1, H, W], picks those of the codes that came.
#
# </details>


# %% tags=["exercise"]
def my_nats(logits, codes):
    # logits [B, K, H, W], codes [B, H, W] to one number, []
    return None  # your turn


nats = your_turn(check.nats, my_nats, otherwise=check.nats_of_codes)

# %% [markdown] tags=["about-solutions"]
# [To solution A](#Solution-A)

# %% [markdown]
# ## 04.3 What to compare a loss with
#
# *Core · 2 minutes*
#
# Compare a loss with **baselines**, the costs of predictors that know little. The **uniform** one gives each code 1/K and costs log K. The **unigram** one gives each code its share of the training codes, whatever came before. Its cost on the training codes is the **unigram entropy**.


# %%
z, _, labels = heldout.batch(torch.arange(250))  # [250, 8, 8], …, [250]


@torch.no_grad()
def on_heldout(net):  # nats per code of the 250 grids
    return nats(net(z, labels), z).item()


counts = torch.bincount(training.z_top.flatten().int(), minlength=K)  # [K]
log_shares = (counts / counts.sum()).log()  # [K]
unigram = -log_shares[z].mean().item()
axes = {"x_label": "step", "y_label": "nats per code"}
axes["baselines"] = {"uniform": math.log(K), "unigram": unigram}

# %% [markdown]
# ## 04.4 One training step
#
# *Core · 7 minutes*
#
# **AdamW** divides each gradient by its usual size, so that a weight moves by at most about the **learning rate** per step, however large its gradient. **Clipping** guards against outliers: if the **gradient norm**, the length of the vector of all gradients, is above a limit, it is scaled down.

# %% [markdown]
# ### Your turn B: the step
#
# *5 minutes*
#
# **Write one training step**: compute the loss with `nats`, then its gradient, clip the gradient, and move the weights. No gradient of an earlier step may be left. Return the loss as a number. `torch.nn.utils.clip_grad_norm_(net.parameters(), clip)` clips in place.
#
# <details><summary>Hint 1</summary>
#
# `loss.backward()` *adds* to the gradients that are there. `optimizer.zero_grad()` erases them, and `optimizer.step()` moves the weights.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Clipping changes gradients, so it comes after `backward()` and before the weights move. `loss.item()` is the number.
#
# </details>


# %% tags=["exercise"]
def my_step(net, optimizer, z, labels, clip):
    # z [B, H, W], labels [B]; net(z, labels) gives logits [B, K, H, W]
    return None  # your turn


step = your_turn(check.step, my_step, otherwise=check.one_step)

# %% [markdown] tags=["about-solutions"]
# [To solution B](#Solution-B)

# %% [markdown]
# The loop takes 32 random grids per step, and keeps copies of the network.


# %%
def train(codes, steps, rate=6e-3, clip=1.0, make=torch.optim.AdamW):
    net, losses, kept = new_net(), [], {}
    optimizer = make(net.parameters(), lr=rate)
    for number in range(steps + 1):
        if number % 25 == 0:
            kept[number] = copy.deepcopy(net).eval()
        batch, _, classes = codes.batch(torch.randint(len(codes), (32,)))
        losses.append(step(net.train(), optimizer, batch, classes, clip))
    return losses, kept


# %% [markdown]
# ## 04.5 Train it
#
# *Core · 2 minutes*
#
# **When does the network pass each baseline, and where does it end?**

# %%
losses, kept = train(training, 400)
held = {steps: on_heldout(net) for steps, net in kept.items()}
lines = {"training": (range(401), losses), "held out": held}
figures.show(figures.curves(lines, **axes), "learning_curve")

# %% [markdown]
# It passes both within 25 steps. Below unigram, the network must use earlier codes, the class, or the position. The shipped prior, larger and trained on more images, ends at 1.57<!--= results likelihood.top.nats_per_code.value --> nats on all test images.

# %% [markdown]
# ## 04.6 From tangles to clothes
#
# *Core · 4 minutes*
#
# **Guidance** of weight w (notebook 07) moves the logits away from those without the class.

# %%
classes = torch.arange(10)  # [10]: one image of each


@torch.no_grad()
def draw(net, w):  # as in notebook 02
    torch.manual_seed(2)
    z_top = torch.zeros(10, 8, 8, dtype=torch.long)  # [10, 8, 8]
    for y, x in torch.cartesian_prod(torch.arange(8), torch.arange(8)):
        logits = (1 + w) * net(z_top, classes) - w * net(z_top, None)
        probs = logits[:, :, y, x].softmax(dim=1)  # [10, K]
        z_top[:, y, x] = torch.multinomial(probs, 1)[:, 0]  # [10]
    return z_top


# %% [markdown]
# The shipped bottom prior adds a bottom grid, and the VQ-VAE-2 decodes both. **From when on can you tell the class?**

# %% tags=["cover"]
rows, bottom = {}, {"labels": classes, "seed": 0}
for steps, w in ((0, 0), (50, 0), (400, 0), (400, 1)):
    bottom["known_top"] = draw(kept[steps], w)  # [10, 8, 8]
    grids = shipped.sample(10, (8, 8), (16, 16), **bottom)
    name = "guided" if w else f"{steps} steps"
    rows[name] = vqvae2.decode_codes(*grids)
drawn = figures.image_rows(rows, column_names=heldout.class_names)
figures.show(drawn, "samples_over_training")

# %% [markdown]
# At 50 steps you can guess some classes. At 400 most images have the outline of their class, and guidance makes it plainer.

# %% [markdown]
# ## 04.7 With 100 images: overfitting
#
# *Core · 2 minutes*
#
# We train on 100 images alone. **What does a held-out code cost after 150 steps?**

# %%
my_guess = None  # your guess: nats per code

# %% tags=["nbval-ignore-output"]
few, kept_few = train(training.subset(torch.arange(100)), 150)
held_few = {steps: on_heldout(net) for steps, net in kept_few.items()}
lines = {"100 grids": (range(151), few), "held out": held_few}
figures.show(figures.curves(lines, **axes), "overfitting")
reveal(f"{held_few[150]:.1f}, and uniform {math.log(K):.1f}", my_guess)
assert held_few[150] > math.log(K) + 0.3 > 3 > held_few[50]

# %% [markdown]
# This is **overfitting**: the network gives the hundred grids a high probability, and others almost none. Only the held-out loss tells. **Early stopping** keeps the weights at the lowest held-out loss.

# %% [markdown]
# ## 04.8 Where it breaks: the rate of another optimizer
#
# *Core · 4 minutes*
#
# With **SGD**, stochastic gradient descent, and momentum, a running sum of past gradients, rates around 0.1 are usual, and 0.3 works here. Then somebody changes to AdamW and keeps the rate. **Does it learn without clipping, and does it if each gradient is clipped to a length of 0.03?**

# %%
my_guess = None  # your guess: "neither", "only with clipping" or "both"


# %%
def sgd(weights, lr):
    return torch.optim.SGD(weights, lr, momentum=0.9)


runs = {
    "AdamW, 0.006": losses[:61],
    "SGD, 0.3": train(training, 60, 0.3, math.inf, sgd)[0],
    "AdamW, 0.3": train(training, 60, 0.3, math.inf)[0],  # not clipped
    "AdamW, 0.3, clipped": train(training, 60, 0.3, 0.03)[0],
}
lines = {name: (range(61), run) for name, run in runs.items()}
figures.show(figures.curves(lines, **axes, y_limits=(2, 4.5)), "broken")
reveal(check.TRUTH, my_guess)
for run in runs.values():
    assert abs(sum(run[-20:]) / 20 - unigram + 0.2) > 0.05

# %% [markdown]
# With AdamW the loss jumps out of the figure, falls as if it learned, and stays at unigram: the two curves lie on each other there. Clipping cannot help: AdamW divides by the gradient's size, so its first step moves nearly every weight by 0.3 in any case. **Look at the unigram line**: after a few dozen steps, a loss has to be well below it.

# %% [markdown]
# ## 04.9 The same as the package
#
# *Further · 1 minute*
#
# `PixelCNN.loss_function` is our loss. The package's loop, `fit`, adds a warm-up, checkpoints and averaged weights (09).

# %%
packages = kept[400].loss_function(z, labels)["total_loss"].item()
print("the same loss:", abs(packages - held[400]) < 1e-5)

# %% [markdown]
# ## 04.10 Where are the nats?
#
# *Further · 7 minutes*
#
# The mean over the grid hides how much the positions differ. **Which positions cost most?** We average over the 250 held-out grids at each position, for the unigram baseline and for two priors.


# %%
@torch.no_grad()
def by_position(net):
    return net.nats(z, labels=labels).mean(dim=0)  # [8, 8]


maps = {
    "unigram": -log_shares[z].mean(dim=0),
    "ours, 400 steps": by_position(kept[400]),
    "shipped": by_position(shipped.prior_top),
}
options = {"limits": (0.0, None), "numbers": "{:.1f}", "numbered": True}
figures.show(
    figures.heatmaps(maps, unit="nats per code", **options),
    "nats_by_position",
)

# %% [markdown]
# - **The corners and the left column are cheap**, because they are often background.
# - **The middle of rows 1 to 4 is expensive**. Row 0 is cheaper, although nothing above it is known: it is often background.
# - **Towards the last row the cost falls again**, for the shipped prior more than for ours. It sees the whole past.
#
# **What does a prior expect at one position?** The codes that it has seen are at the left. The hatched bar is the probability of the true code, and the cost of the position is −log of it. In JupyterLab, walk through the grid with the sliders, and change the image.


# %%
def expects(image, row, column):
    with torch.no_grad():
        logits = shipped.prior_top(z[image, None], labels[image, None])
    probs = logits[0, :, row, column].softmax(dim=0)  # [K]
    cost = -probs[z[image, row, column]].log().item()
    title = f"{heldout.class_names[labels[image]]}: {cost:.1f} nats here"
    return figures.prediction(z[image], (row, column), probs, title=title)


places = [3, 0, 1, 2, 4, 5, 6, 7]
choices = {"image": range(10), "row": places, "column": places}
explore(expects, "next_code", **choices)

# %% [markdown]
# Here one code has more than half of the probability, and it is the one that came. Walk along its row 0: the probability spreads over more and more bars up to column 4.

# %% [markdown]
# ## 04.11 Exercises
#
# *Further · 16 minutes*
#
# Replace the `None` in a cell with your answer and run the cell, which then tries the answer out.

# %% [markdown] tags=["about-solutions"]
# Each task has a [solution](#Solutions) at the end of the notebook.

# %% [markdown]
# ### Exercise 1: a better baseline
#
# *Difficulty 2 of 5 · importance 3 of 5 · 8 minutes*
#
# What does a code cost a predictor that sees the code to its left, and nothing else? Count in the training grids how often code k follows code j in a row, n_jk. A pair that was never counted would get probability 0, and an infinite cost if it comes up in a held-out grid. So add 0.1 to each count, which is called **smoothing**:
#
# $$
# P(k \mid j) = \frac{n_{jk} + 0.1}{\sum_{k'} (n_{jk'} + 0.1)}
# $$
#
# Return the mean of −log P over the held-out codes, as a number. Leave out the first column, which has no left neighbour. When your function is right, call it with `training.z_top.long()` and `heldout.z_top.long()`. **Is this baseline above or below our network?**
#
# <details><summary>Hint 1</summary>
#
# `left, code = codes[:, :, :-1], codes[:, :, 1:]` are the pairs.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `left * num_embeddings + code` is a number for each pair. `torch.bincount` counts them, with `minlength=num_embeddings**2`, and `view` makes a table of the counts.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Each row of the table has to add up to 1. `probs[left, code]` looks all pairs up at once.
#
# </details>


# %% tags=["exercise"]
def my_left_neighbour(codes, heldout_codes, num_embeddings):
    # both grids [B, H, W], of long; count in the first, measure the second
    return None  # your turn


check.left_neighbour(my_left_neighbour)

# %% [markdown] tags=["about-solutions"]
# [To solution 1](#Solution-1)

# %% [markdown]
# ### Exercise 2: a learning rate by measurement
#
# *Difficulty 3 of 5 · importance 5 of 5 · 8 minutes*
#
# A **range test** finds a learning rate. It trains for a short time at each of several rates, a factor of three or ten apart, and compares the results. Find a rate for 25 steps of our network. Your rate is judged by three such trainings: at your rate, at a tenth of it, and at ten times your rate. Neither of the others may end lower, on held-out codes, by more than a tenth of a nat per code, and yours must end below the unigram baseline by as much. Our 0.006 passes, but there is a rate that ends lower.
#
# <details><summary>Hint 1</summary>
#
# `_, ends = train(training, 25, rate)`. Try three or four rates that are a factor of ten apart, and begin with one that is surely too low.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `on_heldout(ends[25])` is what is judged.
#
# </details>

# %% tags=["exercise"]
my_rate = None  # your turn: a number

check.learning_rate(my_rate, training, heldout)

# %% [markdown] tags=["about-solutions"]
# [To solution 2](#Solution-2)

# %% [markdown]
# ## What you can do now
#
# - Write the loss of a prior and a training step.
# - Compare a loss with its baselines.
# - Recognize overfitting, and a training that is stuck.
#
# **In papers**, the loss is the **negative log-likelihood** or **cross-entropy**; per pixel and channel, in bits, it is **bits per dimension**. GPT minimizes it over tokens.
#
# **To take away.** What would it mean if the loss started far above uniform? Would you rather have ten times the images or ten times the weights, and which curve tells you? What does the prior use for the first code of a grid? ([Answers](ANSWERS.md#04--the-top-prior))
#
# **Sources.** Top prior: Razavi et al. 2019, [arXiv 1906.00446](https://arxiv.org/abs/1906.00446), section 3.2. AdamW: Loshchilov and Hutter 2017, [arXiv 1711.05101](https://arxiv.org/abs/1711.05101), section 2. Clipping: Pascanu et al. 2012, [arXiv 1211.5063](https://arxiv.org/abs/1211.5063), section 3.2. SGD at 0.1: He et al. 2015, [arXiv 1512.03385](https://arxiv.org/abs/1512.03385), section 3.4. Range test, within one run: Smith 2015, [arXiv 1506.01186](https://arxiv.org/abs/1506.01186), section 3.3.
#
# ← [03 · Gated blocks](03_gated_blocks.ipynb) · [the course](../README.md#the-course) · [words and symbols](GLOSSARY.md) · next: [05 · The bottom prior](05_bottom_prior.ipynb) →

# %% [markdown] tags=["solution"]
# ## Solutions
#
# A solution is one answer of several: the checks judge what an answer does, not how it is written.

# %% [markdown] tags=["solution"]
# ### Solution A
#
# [Back to your turn A](#Your-turn-A:-the-loss)


# %% tags=["solution"]
# `F.cross_entropy(logits, codes)` does all of this in one call.
def the_nats(logits, codes):
    log_probs = logits.log_softmax(dim=1)  # [B, K, H, W]
    picked = log_probs.gather(1, codes[:, None])  # [B, 1, H, W]
    return -picked.mean()


check.nats(the_nats)

# %% [markdown] tags=["solution"]
# ### Solution B
#
# [Back to your turn B](#Your-turn-B:-the-step)


# %% tags=["solution"]
def the_step(net, optimizer, z, labels, clip):
    optimizer.zero_grad()
    loss = nats(net(z, labels), z)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), clip)
    optimizer.step()
    return loss.item()


check.step(the_step)

# %% [markdown] tags=["solution"]
# ### Solution 1
#
# [Back to exercise 1](#Exercise-1:-a-better-baseline)


# %% tags=["solution"]
def left_neighbour(codes, heldout_codes, num_embeddings):
    pairs = codes[:, :, :-1] * num_embeddings + codes[:, :, 1:]
    counts = torch.bincount(pairs.flatten(), minlength=num_embeddings**2)
    counts = counts.view(num_embeddings, num_embeddings) + 0.1  # [K, K]
    probs = counts / counts.sum(dim=1, keepdim=True)
    left, code = heldout_codes[:, :, :-1], heldout_codes[:, :, 1:]
    return -probs[left, code].log().mean().item()


both = training.z_top.long(), heldout.z_top.long()  # [4000, 8, 8], …
print(f"on our codes: {left_neighbour(*both, K):.1f} nats per code")

check.left_neighbour(left_neighbour)

# %% [markdown] tags=["solution"]
# ### Solution 2
#
# [Back to exercise 2](#Exercise-2:-a-learning-rate-by-measurement)

# %% tags=["solution"]
# A short training at each of three rates.
# The mean of its last losses says how far it got.
ends = {}
for candidate in (2e-3, 2e-2, 2e-1):
    trial, _ = train(training, 25, candidate)
    ends[candidate] = sum(trial[-10:]) / 10
rate_found = min(ends, key=ends.get)

check.learning_rate(rate_found, training, heldout)

# %% [markdown] tags=["solution"]
# The rate that you found is likely to be higher than our 0.006. A short test favours high rates, because there is no time for small steps. The longer the run and the deeper the network, the lower the best rate tends to be.
