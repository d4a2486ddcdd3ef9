# %% [markdown]
# # 07 · Generate and judge
#
# **What you will make.** The draw of a code from one random number, guidance, and ten images by both.
#
# **What you will learn.** What temperature, top-k, top-p and guidance change, what a Fréchet distance misses, which differences are noise, and how to detect a copier.
#
# **What you need.** The loop that draws codes ([02](02_masked_convolutions.ipynb)), and the two levels ([05](05_bottom_prior.ipynb)).
#
# **Time.** About 32 minutes for the core and 62 for all, with the exercises; 40<!--= timings 07_generate_and_judge --> seconds to run on two CPU cores.
#
# ← [06 · Sampling, fast](06_fast_sampling.ipynb) · [the course](../README.md#the-course) · [words and symbols](GLOSSARY.md) · next: [08 · Complete and edit in code space](08_complete_and_edit.ipynb) →

# %% tags=["version"]
from pixelprior.course import needs

needs("0.2")  # says so if the installed package is older

# %%
import torch

from pixelprior import load_images, load_shipped
from pixelprior.course import explore, figures, reveal, your_turn
from pixelprior.course.checks import judging as check
from pixelprior.evaluation import measures

# %% [markdown]
# ## 07.1 Draw a code with one random number
#
# *Core · 8 minutes*
#
# Notebook 06 drew each code by one number u, **uniform** from 0 to 1: no value is likelier than another. How?
#
# Lay the probabilities end to end. The code on whose piece u falls is drawn. (In the figure the pieces stand upright: each step of the stairs is one.) The ends of the pieces are sums of probabilities, the **cumulative distribution function**, CDF. Its inverse leads from u to a code: **inverse CDF**. **Which code does u = 0.62 draw?**

# %%
probs = torch.tensor([[0.1, 0.4, 0.2, 0.3]]).double()  # [1, K], K = 4
figures.show(figures.stairs(probs[0], 0.62), "stairs")

# %% [markdown]
# Code 2, whose piece reaches from 0.5 to 0.7.

# %% [markdown]
# ### Your turn A: inverse CDF
#
# *6 minutes*
#
# Draw for a batch: row b of `probs` and the number `u[b]` give one code. A number at the end of a piece belongs to the next piece, so that a code of probability 0 is never drawn. One more thing: if somebody has removed a code, a row may add up to 0.9. **Every u below 1 has to fall on a piece all the same**, also after rounding, and the pieces have to keep their ratios. The check tries rows with zeros, and rows with other sums.
#
# <details><summary>Hint 1</summary>
#
# How many of a row's `ends` lie at `u[:, None]` or below?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The last column of `ends` is the length of the whole line. Multiply u by it.
#
# </details>


# %% tags=["exercise"]
def my_inverse_cdf(probs, u):  # probs [B, K], u [B]
    ends = probs.cumsum(dim=1)  # [B, K]: the ends of the pieces
    return None  # your turn: codes [B]


inverse_cdf = your_turn(
    check.inverse_cdf, my_inverse_cdf, otherwise=check.drawn_codes
)

# %% [markdown] tags=["about-solutions"]
# [To solution A](#Solution-A)

# %% [markdown]
# ## 07.2 Where it breaks: a code that does not exist
#
# *Core · 2 minutes*
#
# Here code 0 is removed, so that a row adds up to 0.9. `careless` does not scale u. **What shares have its codes?** The second line is yours.

# %%
u = torch.arange(100_000).double() / 100_000  # [B], from 0 to 0.99999
kept = torch.tensor([0, 0.4, 0.2, 0.3]).double().repeat(len(u), 1)  # [B, K]
careless = (kept.cumsum(dim=1) <= u[:, None]).sum(dim=1)  # [B]
for codes in (careless, inverse_cdf(kept, u)):
    print([round(n / len(u), 2) for n in codes.bincount().tolist()])

# %% [markdown]
# One draw in ten is code 4, which does not exist, and the network stops with an error. Rounding does the same after tens of millions of codes: in float32 a row may add up to 0.9999996. To notice it, **test a draw with a row that adds up to less than 1**.

# %% [markdown]
# ## 07.3 Temperature, top-k and top-p
#
# *Core · 3 minutes*
#
# Three knobs change the probabilities, *in this order*. The **temperature** T divides the logits: each probability is raised to the power 1/T, and the sum becomes 1 again. **Top-k** keeps the k likeliest codes. **Top-p** keeps the fewest of the likeliest that together hold a given share. What is kept is scaled, so that the sum is 1 again. The figure is of the top grid of a bag, with its 20 likeliest codes. **How many of the 30 codes do T = 0.7 and a top-p of 0.9 leave at row 3 and column 4?**

# %%
vqvae2, prior = load_shipped()
heldout = load_images("fashion_mnist_mini", "test")
draw_from = check.knobs(vqvae2, prior, heldout.subset([31]))
explore(draw_from, "likeliest_codes", **check.CHOICES)

# %% [markdown]
# Eight. At row 0 and column 7 one code has 0.88, and at T = 0.7 more than 0.9, so that only this one is left. Set top-p to 1.0, and a top-k of 5 leaves five.

# %% [markdown]
# ## 07.4 Guidance
#
# *Core · 7 minutes*
#
# The prior was trained with a tenth of the labels withheld, so it predicts with a label and without. **Guidance** starts from the logits with the label, and adds w times their difference to those without. A larger w favours what is typical of the class.

# %% [markdown]
# ### Your turn B: guidance
#
# *4 minutes*
#
# `level` is a level of the prior, such as `prior.prior_top`. `level(codes, labels)` gives logits with the labels, and `level(codes)` gives logits without. **Return the moved logits**, in three lines.
#
# <details><summary>Hint 1</summary>
#
# The difference points from the logits without the label to those with it.
#
# </details>


# %% tags=["exercise"]
def my_guided(level, codes, labels, w):  # codes [B, H, W], labels [B]
    return None  # your turn: logits [B, K, H, W]


guided = your_turn(check.guided, my_guided, otherwise=check.guided_logits)

# %% [markdown] tags=["about-solutions"]
# [To solution B](#Solution-B)

# %% [markdown]
# `check.ten` draws ten images by the loop of notebook 02, with your two functions. All rows have the same numbers u. **What happens as T rises, and what does your w change at T = 1.0?**


# %%
def draw(**options):  # 200 images, the classes in turn
    return measures.samples(vqvae2, prior, 200, **options)


sets = {f"T = {T}": draw(temperature=T) for T in (0.3, 0.7, 1.0, 1.3)}

# %% tags=["cover"]
my_w = 0.5  # yours: from 0 to 10
rows = {name: data[:10][0] for name, data in sets.items()}
my_top, yours = check.ten(vqvae2, prior, guided, inverse_cdf, my_w)
rows[f"w = {my_w}"] = yours
figures.show(figures.image_rows(rows), "temperatures")

# %% [markdown]
# At 0.3 the images are clean and plain. At 1.0 there are prints, and a T-shirt and a sneaker are torn. At 1.3 specks cover two, and more are torn. With w = 0.5 all ten have their shapes. At w = 4 images tear again: the logits are pushed too far.

# %% [markdown]
# ## 07.5 How good is a set of images?
#
# *Core · 3 minutes*
#
# We compare *sets* of images, by 64 **features** that a shipped classifier computes before its answer. For one feature, with its mean μ and standard deviation σ in both sets, the **Fréchet distance** is
#
# $$
# F^2 = (\mu_1 - \mu_2)^2 + (\sigma_1 - \sigma_2)^2
# $$
#
# For many, the sum of these misses how each two features vary together, the **covariance**. `frechet_distance` has that too. **Which of T = 0.3 and T = 1 is nearer to photographs by feature 48, which by the sum, and which by F²?**


# %% tags=["nbval-ignore-output"]
def of_one(a, b):  # [N, 64] and [M, 64], to [64]
    return (a.mean(0) - b.mean(0)) ** 2 + (a.std(0) - b.std(0)) ** 2


real = check.features(heldout)  # [1000, 64]
for name in ("T = 0.3", "T = 1.0"):
    seen = check.features(sets[name])  # [200, 64]
    f, F2 = of_one(seen, real), measures.frechet_distance(seen, real)
    print(f"{name}: feature 48 {f[48]:.3f}, sum {f.sum():.1f}, F² {F2:.1f}")
    assert f.sum() < F2

# %% [markdown]
# In feature 48, T = 0.3 is nearer to photographs. By the sum, T = 1 is nearer, and by F² the gap is four times as wide: at T = 0.3 the images of one class are too alike, so that the features vary together in another way.

# %% [markdown]
# ## 07.6 The noise of the measure
#
# *Core · 2 minutes*
#
# We draw T = 1 three more times, with other numbers u. **By how much do the four F² differ, from the smallest to the largest?**

# %%
my_guess = None  # your guess; the first F² is 0.5


# %%
def judged(data):  # how varied, and how good
    F2 = measures.frechet_distance(check.features(data), real)
    return check.mean_distance(data), F2


again = [judged(draw(seed=seed)) for seed in (1, 2, 3)]
four = [F2 for _, F2 in (judged(sets["T = 1.0"]), *again)]
assert 0.2 < max(four) - min(four) < 0.4
reveal(check.NOISE, my_guess)

# %% [markdown]
# With so few images, a difference of 0.3 says nothing. Count only what is several times as large. And compare equally large sets: with 200, even photographs are at 0.2 to 0.3.

# %% [markdown]
# ## 07.7 Quality against variety
#
# *Core · 3 minutes*
#
# `judged` also says how varied a set is, by the mean **Euclidean** distance of the pixels of two images of a class. **Which sets are better than T = 1?**

# %%
sets["w = 1"] = draw(guidance=1.0)
training = load_images("fashion_mnist_mini", "train")
cloud = {"T = 1, other u": again}
cloud["photographs"] = [judged(d) for d in check.photographs(training)]
points = {name: judged(data) for name, data in sets.items()}
figures.show(figures.trade_off(points, cloud), "quality_and_variety")

# %% [markdown]
# - **T = 1.3** is worse than T = 1 by 1.5, and **T = 0.3** by 0.9: several times the noise. At 0.3 there is too little variety, and at 1.3 specks count as distance.
# - **Guidance** is better than all four draws of T = 1, by 0.3 to 0.6, and about as near as photographs. It costs a little variety.
# - **T = 0.7** lies among the four: undecided.
#
# With 10,000 images, T = 1 has an F² of 0.41<!--= results frechet.distances.samples.value --> (0.36<!--= results frechet.distances.samples.low --> to 0.47<!--= results frechet.distances.samples.high -->, an interval of 95 %), and guidance of 0.5 with T = 0.95 has 0.13<!--= results frechet.distances.chosen_samples.value -->.

# %% [markdown]
# ## 07.8 Where it breaks: a copier
#
# *Core · 3 minutes*
#
# Our copier decodes the codes of 200 training images, as a prior would that has memorized them. **Is its F² larger or smaller than that of the honest prior at T = 1?**

# %%
my_guess = None  # your guess: "larger" or "smaller"

# %%
copier = measures.reconstructions(vqvae2, check.photographs(training)[0])
assert judged(copier)[1] < four[0] / 2
reveal(check.COPIER, my_guess)

# %% [markdown]
# The copier wins over all four honest draws: F² does not ask whether an image is new. So look for the nearest training image of each, by pixels. **Which sampler copies?**

# %%
some = {"copier": copier, "honest": sets["T = 1.0"]}
rows = check.beside_nearest(some, training)
figures.show(figures.image_rows(rows), "nearest_photographs")

# %% [markdown]
# Each image of the copier lies above itself. Those of the honest prior differ in outline, sleeve or strap. To notice a copier, **show the nearest images beside every F²**. Their distances help too: ours lie 1.06<!--= results neighbours.samples_to_heldout_rebuilt.value --> times as far from the nearest as rebuilt test images do.

# %% [markdown]
# ## 07.9 The same as the package
#
# *Further · 1 minute*

# %%
same = {"labels": torch.arange(10), "seed": 0, "guidance": my_w}
z_top, _ = prior.sample(10, (8, 8), (16, 16), **same)
print("our top grids are the package's:", torch.equal(my_top, z_top))

# %% [markdown]
# ## 07.10 Can one learn from drawn images?
#
# *Further · 3 minutes*
#
# One number asks for quality and variety at once: train a classifier on drawn images with the labels that they were drawn for, and test it on photographs. The share that it gets right is the **classification accuracy score**. The smallest classifier needs no training: it gives each photograph the label of the nearest drawn image. **From which set can one learn most?**

# %%
shares, taught = {}, check.photographs(training)[0]
for name, data in {"photographs": taught, **sets}.items():
    number, _ = measures.nearest(heldout, among=data)  # [1000]
    right = data.labels[number] == heldout.labels  # [1000]
    shares[name] = right.float().mean().item()
figures.show(
    figures.bars(shares, y_label="share of photographs named rightly"),
    "accuracy_by_source",
)

# %% [markdown]
# From guidance, T = 0.7 and photographs, and their differences may be chance. T = 0.3 and T = 1.3 are last.
#
# The full measurement has 10,000 images and a trained classifier. From drawn images it scores 0.965<!--= results accuracy_score.samples_to_real.value --> times as well as from photographs, and with guidance of 0.5 and T = 0.95 it is 0.963<!--= results accuracy_score.chosen_samples_to_real.value -->: no better, although their F² is lower. Of the drawn images, the share that looks like another class to the classifier falls from 0.137<!--= results frechet.of_another_class.samples.share.value --> to 0.046<!--= results frechet.of_another_class.chosen_samples.share.value --> with both.

# %% [markdown]
# ## 07.11 Blurry, or all alike?
#
# *Further · 4 minutes*
#
# Two networks make an image. **Sharpness** can be measured: the mean square of each pixel minus the mean of the 3 × 3 pixels around it. **Where is it lost?**

# %%
import torch.nn.functional as F


def sharpness(data):
    images, _ = data[:]  # [N, 1, 32, 32]
    soft = F.avg_pool2d(images, 3, stride=1, padding=1)  # [N, 1, 32, 32]
    return 1000 * (images - soft).square().mean().item()


few = heldout.subset(slice(200))
rebuilt = measures.reconstructions(vqvae2, few)
everywhere = {"photographs": few, "rebuilt": rebuilt, **sets}
sharp = {name: sharpness(data) for name, data in everywhere.items()}
figures.show(
    figures.bars(sharp, y_label="sharpness × 1,000", unit_format="{:.1f}"),
    "sharpness_by_source",
)

# %% [markdown]
# What is lost from photographs to rebuilt ones is lost by the VQ-VAE-2, and no prior can put it back. The prior loses somewhat more again, at T = 1.0, and less with guidance. And a sharp image need not be good: at T = 1.3, specks are fast changes too.
#
# | symptom | look first at | remedy |
# |---|---|---|
# | **blurry** | reconstructions of held-out images | blurry too: train the VQ-VAE-2 for longer, with more channels; sharp: go back to T = 1 or try guidance, or train the prior for longer |
# | **all alike** | the temperature and top-k; the mean distance within a class | back to T = 1; if that does not help: codebook collapse ([01](01_images_to_codes.ipynb)) or overfitting ([04](04_top_prior.ipynb)) |

# %% [markdown]
# ## 07.12 Exercises
#
# *Further · 22 minutes*
#
# Replace the `None` in a cell with your answer and run the cell, which then tries the answer out.

# %% [markdown] tags=["about-solutions"]
# Each task has a [solution](#Solutions) at the end of the notebook.

# %% [markdown]
# ### Exercise 1: top-p for a batch
#
# *Difficulty 3 of 5 · importance 5 of 5 · 12 minutes*
#
# Write top-p for logits [B, K], and return probabilities [B, K]. In each row, keep the fewest of the likeliest codes that together hold `share`. The others get the probability 0, each row adds up to 1 again, and each code stays at its own place. (Do not call the package's function.)
#
# <details><summary>Hint 1</summary>
#
# `sort(dim=1, descending=True)` gives the probabilities from the likeliest down, and the code of each.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# A code is kept if the codes *before* it hold less than `share` together. What those before it hold is the cumulative sum minus the probability of the code itself.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# `torch.zeros_like(…).scatter(1, order, ranked)` puts each kept probability back to its own code. Then divide each row by its sum.
#
# </details>


# %% tags=["exercise"]
def my_top_p(logits, share):
    return None  # your turn


check.top_p(my_top_p)

# %% [markdown] tags=["about-solutions"]
# [To solution 1](#Solution-1)

# %% [markdown]
# ### Exercise 2: a copy that was shifted
#
# *Difficulty 4 of 5 · importance 3 of 5 · 10 minutes*
#
# Shift a training image by one pixel: the eye sees no difference, but along each edge the pixels disagree, and `nearest` no longer finds the copy. Write a better number. It takes images [N, 1, 32, 32] and training images [M, 1, 32, 32], and gives one number per image, [N], which is **small for a copy**, be it exact, or shifted by a pixel in any of eight directions. The function is tried on 50 copies and 50 unseen images, which are shifted alike. In 95 of 100 pairs of a copy and an unseen image, the copy must have the smaller number.
#
# <details><summary>Hint 1</summary>
#
# A copy that was shifted by a pixel fits well once it is shifted back.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# There are nine shifts, and one of them is none. `images.roll((y, x), dims=(2, 3))` makes one.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# `torch.cdist(a.flatten(1), b.flatten(1))` has all distances. Take the smallest over all shifts and all training images.
#
# </details>


# %% tags=["exercise"]
def my_distance(images, training):
    return None  # your turn


check.distance_to_copies(my_distance, training, heldout)

# %% [markdown] tags=["about-solutions"]
# [To solution 2](#Solution-2)

# %% [markdown]
# ## What you can do now
#
# - Draw a code from one random number, whatever the probabilities add up to.
# - Say what temperature, top-k, top-p and guidance do, and write guidance.
# - Judge a set of images, tell a difference from noise, and detect a copier.
#
# **In papers**, top-p is **nucleus sampling**, and our guidance is **classifier-free guidance**. GPT draws words with temperature and top-p. F² in the features of a network called Inception is the **FID**.
#
# **To take away.** Why can the Fréchet distance of good images get *worse* when each single image gets better? Which temperature would you take to fill a shop window, and which to make training data? ([Answers](ANSWERS.md#07--generate-and-judge))
#
# **Sources.** Fréchet distance: Heusel and others, [arXiv 1706.08500](https://arxiv.org/abs/1706.08500), equation 6. Guidance: Ho and Salimans, [arXiv 2207.12598](https://arxiv.org/abs/2207.12598), equation 6. Top-p: Holtzman and others, [arXiv 1904.09751](https://arxiv.org/abs/1904.09751). Accuracy score: Ravuri and Vinyals, [arXiv 1905.10887](https://arxiv.org/abs/1905.10887).
#
# ← [06 · Sampling, fast](06_fast_sampling.ipynb) · [the course](../README.md#the-course) · [words and symbols](GLOSSARY.md) · next: [08 · Complete and edit in code space](08_complete_and_edit.ipynb) →

# %% [markdown] tags=["solution"]
# ## Solutions
#
# A solution is one answer of several: the checks judge what an answer does, not how it is written.

# %% [markdown] tags=["solution"]
# ### Solution A
#
# [Back to your turn A](#Your-turn-A:-inverse-CDF)


# %% tags=["solution"]
def the_inverse_cdf(probs, u):
    ends = probs.cumsum(dim=1)  # [B, K]
    u = u * ends[:, -1]  # [B]: on a piece, whatever the sum
    return (ends <= u[:, None]).sum(dim=1)  # [B]


check.inverse_cdf(the_inverse_cdf)

# %% [markdown] tags=["solution"]
# ### Solution B
#
# [Back to your turn B](#Your-turn-B:-guidance)


# %% tags=["solution"]
def the_guided(level, codes, labels, w):
    with_label = level(codes, labels)  # [B, K, H, W]
    without = level(codes)  # [B, K, H, W]
    return with_label + w * (with_label - without)


check.guided(the_guided)

# %% [markdown] tags=["solution"]
# ### Solution 1
#
# [Back to exercise 1](#Exercise-1:-top-p-for-a-batch)


# %% tags=["solution"]
# A code is kept if those before it hold less than the share. The likeliest
# always is: nothing is before it.
def top_p_of_batch(logits, share):
    ranked, order = logits.softmax(dim=1).sort(dim=1, descending=True)
    held_before = ranked.cumsum(dim=1) - ranked  # [B, K]
    ranked = ranked * (held_before < share)  # [B, K]
    kept = torch.zeros_like(ranked).scatter(1, order, ranked)  # [B, K]
    return kept / kept.sum(dim=1, keepdim=True)


check.top_p(top_p_of_batch)

# %% [markdown] tags=["solution"]
# ### Solution 2
#
# [Back to exercise 2](#Exercise-2:-a-copy-that-was-shifted)


# %% tags=["solution"]
# Shift the image back in each possible way, and take the best fit.
def distance_in_any_position(images, training):
    known = training.flatten(1)  # [M, 1024]
    found = []
    for shift in ((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)):
        moved = images.roll(shift, dims=(2, 3)).flatten(1)  # [N, 1024]
        found.append(torch.cdist(moved, known).min(dim=1).values)  # [N]
    return torch.stack(found).min(dim=0).values


check.distance_to_copies(distance_in_any_position, training, heldout)
