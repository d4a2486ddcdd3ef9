# %% [markdown]
# # 10 · Find what is odd
#
# **What you will make.** A detector that has never seen a defect, and restores a photograph that you damage.
#
# **What you will learn.** With what a cost in nats has to be compared, what a p-value promises, and what the likelihood of a whole image overlooks.
#
# **What you need.** Codes and nats of notebook [00](00_start_here.ipynb).
#
# **Time.** About 28 minutes for the core and 50 for all, with the exercises; 35<!--= timings 10_find_what_is_odd --> seconds to run on two CPU cores.
#
# ← [09 · Your own images, CIFAR and several GPUs](09_scale_up.ipynb) · [the course](../README.md#the-course) · [words and symbols](GLOSSARY.md)

# %% tags=["version"]
from pixelprior.course import needs

needs("0.2")  # says so if the installed package is older

# %%
import torch

from pixelprior import extract_codes, load_shipped
from pixelprior.course import explore, figures, reveal, your_turn
from pixelprior.course.checks import anomalies as check
from pixelprior.evaluation.measures import image_nats

# %% [markdown]
# ## 10.1 Odd, compared with what?
#
# *Core · 12 minutes*
#
# A factory has thousands of normal images, and no list of what can go wrong. **Anomaly detection** finds images that are not like the normal ones. Here, *normal* is a photograph of clothes. We take 500 on which nothing was trained. On 200 others a program has put one defect each: a patch pasted elsewhere, a scratch, a blotch, a missing part, or half of another image.

# %%
vqvae2, prior = load_shipped()
photographs, defects, six = check.images()  # with their labels


@torch.no_grad()
def nats_of(images):  # −log P of each top code, [B, 8, 8]
    codes = extract_codes(vqvae2, images)
    return prior.prior_top.nats(codes.z_top.long(), labels=codes.labels)


normal_nats = nats_of(photographs.subset(slice(500)))  # [500, 8, 8]

# %% [markdown]
# Is a code odd when it costs many nats? Each map has the top codes of one image. In all maps of this notebook *dark is odd*. **Five of the images have a defect. Which one has none?**

# %%
six_nats = nats_of(six)  # [6, 8, 8]
maps = figures.odd_maps(six_nats, "nats", limits=(0, 8))
figures.show(maps, "nats_of_six_images")

# %%
my_guess = None  # your guess: 0 to 5

# %%
reveal(check.TRUTH, my_guess)

# %% [markdown]
# Image 5 costs more in all than images 1 and 3. Some positions are expensive in most images: where an outline begins, no code before it says so. So we compare each code with normal ones in the *same position*.

# %% [markdown]
# ### Your turn A: p-values
#
# *6 minutes*
#
# If c of N normal values are at least as large as a value, the **p-value** of the value is
#
# $$
# p = \frac{1 + c}{1 + N}
# $$
#
# The 1 stands for the value itself, so p is never 0. A normal value is as likely to be the largest of all N + 1 as the second or the third, so it has p ≤ 1/20 in at most one case of twenty. **Write the function.** `values` has the shape [B, …] and `normal` has [N, …], where … is the same for both: nothing for one number per image, and H, W for maps. Each value is compared with the N normal ones in its own position, and the result has the shape of `values`.
#
# <details><summary>Hint 1</summary>
#
# `values[:, None]` has the shape [B, 1, …]. What is the shape of `normal >= values[:, None]`?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# It is [B, N, …]. The sum over dimension 1 counts how many of the N are at least as large. `len(normal)` is N.
#
# </details>


# %% tags=["exercise"]
def my_p_values(values, normal):  # [B, …] and [N, …]
    return None  # your turn: [B, …]


p_values = your_turn(
    check.p_values, my_p_values, otherwise=check.rank_p_values
)

# %% [markdown] tags=["about-solutions"]
# [To solution A](#Solution-A)

# %% [markdown]
# Here are the six images with the p-values of their top codes. **Are the dark codes at the defects?**

# %%
p = p_values(six_nats, normal_nats)  # [6, 8, 8]
maps = figures.odd_maps(p, "p-value", limits=(0.2, 0), images=six[:][0])
figures.show(maps, "p_values_of_six_images")

# %% [markdown]
# Many are at a defect, or soon after one. By chance, a normal image has about 3 codes with p ≤ 1/20. Image 5 has 6. Image 3, without a part of its sleeve, has only 5, but three of them are the most expensive of 501; image 5 has no such code.

# %% [markdown]
# ## 10.2 A map of the defect
#
# *Core · 4 minutes*
#
# What would be right in the place of an odd code? We draw the odd top codes anew, given the others, and all bottom codes under them; −1 marks a code to draw. The decoded result is a **restoration**.


# %%
def restored(images, rate):
    odd = p_values(nats_of(images), normal_nats) <= rate  # [B, 8, 8]
    under = odd.repeat_interleave(2, 1).repeat_interleave(2, 2)  # [B, 16, 16]
    codes = extract_codes(vqvae2, images)
    z_top = codes.z_top.long().masked_fill(odd, -1)
    z_bottom = codes.z_bottom.long().masked_fill(under, -1)
    given = {"labels": codes.labels, "known": [z_top, z_bottom], "seed": 0}
    return prior.sample_with_vqvae2(vqvae2, len(images), **given)


# %% [markdown]
# Now damage a photograph yourself. Ours has a black square. **Does your defect disappear, and is it dark in the map of the differences?** A line is around the pixels that differ by more than 0.3.

# %%
mine = photographs.subset([813])  # yours: 800 to 999
mine.images[:, :, 18:26, 18:26] = 0  # yours: rows, columns, grey level
some = check.joined(mine, defects.subset(range(10, 17)))  # 8 images


def restorations(rate):
    images, new = some[:][0], restored(some, rate)  # [8, 1, 32, 32] each
    apart = (images - new).abs().mean(dim=1)  # [8, 32, 32]
    return figures.findings(images, new, apart, check.BESIDE, 0.3)


explore(restorations, "restorations_by_rate", rate=[0.05, 0.01, 0.2, 1.0])

# %% [markdown]
# The hole in our bag is filled, and is dark in the map; so is the other missing part. Most of the wrong half stays, because few of its codes are odd: each is judged given those before it, and continues them at little cost. A restoration is *a* normal image that fits what was kept: with a rate of 1.0, the label alone.

# %% [markdown]
# ## 10.3 One score per image
#
# *Core · 2 minutes*
#
# An alarm needs one number per image, a **score**: higher is odder. We take the mean of the k most expensive codes, the **largest nats**.


# %%
def score(nats, k=8):  # [B, 8, 8]
    return nats.flatten(1).topk(k).values.mean(dim=1)  # [B]


# %% [markdown]
# Take a normal image and one with a defect: how often has the second the higher score? This share of all pairs is 0.5 for guessing and 1 at best. It is the area under the **ROC curve**: for each threshold, the share of defects found against the share of normal images that raise an alarm. **Are the 8 largest better than all 64?**

# %%
odd_nats = nats_of(defects)  # [200, 8, 8]
for k in (64, 8):
    pairs = score(odd_nats, k)[:, None] > score(normal_nats, k)  # [200, 500]
    print(f"{k:2} codes: {pairs.double().mean():.2f}")

# %% [markdown]
# They are: in a mean over 64 codes, a small defect drowns. Whoever chooses k on these defects has to measure it on others.

# %% [markdown]
# ## 10.4 What a p-value promises
#
# *Core · 2 minutes*
#
# Your function also ranks scores, among those of normal images, the **calibration**. We choose α, the **false-alarm rate** that we allow, and an image with p ≤ α raises an alarm. If it is like the normal ones, P(p ≤ α) ≤ α, whatever the distribution of scores. Such p-values are **conformal**. **Is the promise kept?** 200 times, we shuffle the 500 normal scores, calibrate on 200, and count the **false alarms** among the other 300. At the right are the smallest and the largest share of a single calibration.

# %%
scores, ranked = score(normal_nats), []  # [500]
for seed in range(200):
    torch.manual_seed(seed)
    mixed = scores[torch.randperm(500)]  # [500]
    ranked.append(p_values(mixed[200:], mixed[:200]))  # [300]
for rate in (0.01, 0.05, 0.10):
    kept = (torch.stack(ranked) <= rate).double().mean(dim=1)  # [200]
    ends = f"{kept.min():.1%} to {kept.max():.1%}"
    print(f"promised {rate:3.0%}, kept {kept.mean():4.1%}: {ends}")

# %% [markdown]
# It is kept on average. The worst of 200 raise two to three times as many, and with more normal images it comes closer. Nothing is promised about defects: which share is found depends on the score.

# %% [markdown]
# ## 10.5 Where it breaks: the likelihood of an image
#
# *Core · 5 minutes*
#
# Many people begin with the likelihood of the whole image: the score is the nats of all codes. **What is the p-value of a black image?**

# %%
my_guess = None  # your guess, from 0 to 1


# %%
def all_nats(images):  # −log P of each image, [B]
    codes = extract_codes(vqvae2, images)
    return sum(image_nats(level, codes) for level in prior.levels)


usual = all_nats(photographs.subset(slice(250)))  # [250]
black = photographs.subset([0])
black.images[:] = 0
total = all_nats(black)  # [1]
reveal(f"it is {p_values(total, usual).item():.0f}", my_guess)

# %% [markdown]
# It is the most normal of all: it costs less than each photograph, because plain background is predicted best. So an empty conveyor belt raises no alarm.

# %% [markdown]
# ### Your turn B: both sides
#
# *3 minutes*
#
# An image that is *cheaper* than the normal ones is as unusual as one that costs more. **Write a p-value that is small on both sides**: twice the smaller of two p-values, that of costing at least as much, and that of costing at most as much. It is at most 1. `values` has the shape [B], and `normal` has [N].
#
# <details><summary>Hint 1</summary>
#
# "At most as much" is "at least as much" with the opposite signs: rank `-values` among `-normal`.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `torch.minimum(a, b)` takes the smaller of two tensors, element by element, and `clamp(max=1)` limits.
#
# </details>


# %% tags=["exercise"]
def my_both_sides(values, normal):  # [B] and [N]
    high = p_values(values, normal)  # [B]: of costing at least as much
    return None  # your turn: [B]


both_sides = your_turn(
    check.both_sides, my_both_sides, otherwise=check.twice_the_smaller
)

# %% [markdown] tags=["about-solutions"]
# [To solution B](#Solution-B)

# %%
print(f"both sides: p = {both_sides(total, usual).item():.3f}")

# %% [markdown]
# It raises an alarm, and the promise still holds: each side takes a half of α.

# %% [markdown]
# ## 10.6 The same as the package
#
# *Further · 1 minute*

# %%
from pixelprior.anomalies import calibrate, find

calibration = calibrate(vqvae2, prior, *photographs[:200], draws=2)
its_nats = calibration.nats["top"].permute(2, 0, 1)  # [100, 8, 8]
package = calibration.code_p_values("top", six_nats)  # [6, 8, 8]
same = torch.allclose(p_values(six_nats, its_nats), package)
print("p-values are equal:", same)

# %% [markdown]
# ## 10.7 What the package adds
#
# *Further · 5 minutes*
#
# `find` has a score and a map of its own; [docs/anomalies.md](../docs/anomalies.md#how-it-works) says how they are made. **Which of these defects does it find, and which does it miss?** A line is around the pixels that are odder than 99 of 100 pixels of normal images.

# %% tags=["cover"]
ten, labels = defects[:10]  # [10, 1, 32, 32], [10]
found = find(vqvae2, prior, ten, calibration, labels, draws=2)
captions = [
    f"image {i}\n{check.KINDS[i % 5]}\np = {p:.2g}"
    for i, p in enumerate(found.p_values)
]
line = calibration.map_threshold(0.01)
sheet = figures.findings(ten, found.best, found.maps, captions, line)
figures.show(sheet, "findings")

# %% [markdown]
# The wrong half of the trousers and the missing part of the sleeve are restored, but of images 0 and 2 most of the clothing is drawn anew. One image has a p-value above 0.05, and its defect could be normal: the scratch (6) looks like laces. The missing part of a sole (3) lies close to the limit, and the map shows a few pixels of it. (Of the 200 normal images, 100 rank codes and 80 rank scores, so that no p-value is below 1/81.)
#
# On 1,000 test images with such defects and 1,000 without, the areas under the ROC curve and their 95 % intervals are:
#
# | score | area | from | to |
# |---|---:|---:|---:|
# | `find` | 0.966<!--= anomalies defects.fashion_mnist.methods.find.roc_auc.value --> | 0.959<!--= anomalies defects.fashion_mnist.methods.find.roc_auc.low --> | 0.973<!--= anomalies defects.fashion_mnist.methods.find.roc_auc.high --> |
# | largest nats | 0.957<!--= anomalies defects.fashion_mnist.methods.largest nats.roc_auc.value --> | 0.949<!--= anomalies defects.fashion_mnist.methods.largest nats.roc_auc.low --> | 0.965<!--= anomalies defects.fashion_mnist.methods.largest nats.roc_auc.high --> |
# | nats of all codes | 0.792<!--= anomalies defects.fashion_mnist.methods.nats alone.roc_auc.value --> | 0.773<!--= anomalies defects.fashion_mnist.methods.nats alone.roc_auc.low --> | 0.811<!--= anomalies defects.fashion_mnist.methods.nats alone.roc_auc.high --> |
# | reconstruction error of the VQ-VAE-2 | 0.751<!--= anomalies defects.fashion_mnist.methods.reconstruction error.roc_auc.value --> | 0.730<!--= anomalies defects.fashion_mnist.methods.reconstruction error.roc_auc.low --> | 0.771<!--= anomalies defects.fashion_mnist.methods.reconstruction error.roc_auc.high --> |
#
# The largest nats (means over several k, and of the bottom codes too) come close to `find`: on the same images its area is larger by 0.009<!--= anomalies defects.fashion_mnist.find_less_largest_nats.value -->, with an interval of 0.005<!--= anomalies defects.fashion_mnist.find_less_largest_nats.low --> to 0.012<!--= anomalies defects.fashion_mnist.find_less_largest_nats.high -->. Both were tuned: the score of `find`, of which the largest nats are a part, and its map were chosen on other images with defects of *the same five kinds*. On other kinds they may do worse; on CIFAR-10, `find` reaches 0.623<!--= anomalies defects.cifar10.methods.find.roc_auc.value -->. What `find` adds is above all the map: among the pixels of an image with a defect, its area under the ROC curve is 0.939<!--= anomalies defects.fashion_mnist.methods.find.pixel_roc_auc_within.value -->, and that of the reconstruction error 0.830<!--= anomalies defects.fashion_mnist.methods.reconstruction error.pixel_roc_auc_within.value -->.
#
# For images of your own, `pixelprior find-anomalies` searches a folder, and writes scores, p-values and maps.

# %% [markdown]
# ## 10.8 Exercises
#
# *Further · 15 minutes*
#
# Replace the `None` in a cell with your answer and run the cell, which then tries the answer out.

# %% [markdown] tags=["about-solutions"]
# Each task has a [solution](#Solutions) at the end of the notebook.

# %% [markdown]
# ### Exercise 1: a brighter camera
#
# *Difficulty 2 of 5 · importance 5 of 5 · 5 minutes · after 10.4*
#
# Your camera is replaced, and each pixel of the new images is brighter by 0.1. Nothing is wrong with what they show. `new_scores` [200] are the scores of new photographs, and `scores` [500] those of 10.4. Give two shares: of all new images, how many raise an alarm at α = 0.05 if they are ranked among the old scores? And if the first 100 new scores are the calibration, how many of the other 100 raise one?
#
# <details><summary>Hint 1</summary>
#
# `p_values(new_scores, scores)` are the p-values for the first question.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `(p <= 0.05).double().mean()` is a share. For the second, rank `new_scores[100:]` among `new_scores[:100]`.
#
# </details>

# %%
brighter = photographs.subset(torch.arange(800, 1000))
pixels = brighter.images.int() + 26  # of 255
brighter.images[:] = pixels.clamp(max=255)
new_scores = score(nats_of(brighter))  # [200]

# %% tags=["exercise"]
my_shares = None  # your turn: two numbers from 0 to 1

check.camera(my_shares, scores, new_scores)

# %% [markdown] tags=["about-solutions"]
# [To solution 1](#Solution-1)

# %% [markdown]
# ### Exercise 2: one false alarm in a hundred
#
# *Difficulty 3 of 5 · importance 4 of 5 · 10 minutes · after 10.4*
#
# A machine at the conveyor belt wants one number, not p-values. Write a function that gets normal scores [M] and a rate, and returns a threshold: images with a *higher* score raise an alarm. It has to keep the promise of 10.4 for every number of scores, and should be as low as possible, because a lower threshold finds more defects. Where there are too few scores for the rate, it returns `math.inf`, which no image exceeds. The check tries it on scores and rates of its own.
#
# <details><summary>Hint 1</summary>
#
# A new normal score is as likely to be the largest of all M + 1 as the second largest, the third largest and so on. What is the probability that it is above the second largest of your M?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# It is above the r-th largest with a probability of r / (M + 1). How large may r be?
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# r is rate · (M + 1), rounded down; add a little such as 1e-9 before you round, because a computer takes 0.29 · 100 for slightly less than 29.
#
# </details>

# %%
import math


# %% tags=["exercise"]
def my_threshold(scores, rate):
    return None  # your turn: a number


check.threshold(my_threshold)

# %% [markdown] tags=["about-solutions"]
# [To solution 2](#Solution-2)

# %% [markdown]
# ## What you can do now
#
# - Rank a cost among those of normal images, and say what the p-value promises.
# - Say why a score takes the largest nats alone, and read the map of a restoration.
# - Notice when an image is too cheap, and look at both sides.
#
# **In papers**, this is **unsupervised anomaly detection**, with training images of one class **one-class classification**; p-values from a calibration are those of **conformal prediction**.
#
# **To take away.** One part of ten thousand has a defect, and α is 1 %: what share of the alarms is right? If you calibrate on training images, are there more false alarms than promised, or fewer? Would another order of drawing find other codes odd? ([Answers](ANSWERS.md#10--find-what-is-odd))
#
# **Sources.** Codes that cost many nats, drawn anew: Marimont and Tarroni 2020, [arXiv 2012.06765](https://arxiv.org/abs/2012.06765), section 3. Conformal p-values: Vovk, Gammerman and Shafer 2005, *Algorithmic Learning in a Random World*, section 2.2.
#
# ← [09 · Your own images, CIFAR and several GPUs](09_scale_up.ipynb) · [the course](../README.md#the-course) · [words and symbols](GLOSSARY.md)

# %% [markdown] tags=["solution"]
# ## Solutions
#
# A solution is one answer of several: the checks judge what an answer does, not how it is written.

# %% [markdown] tags=["solution"]
# ### Solution A
#
# [Back to your turn A](#Your-turn-A:-p-values)


# %% tags=["solution"]
def the_p_values(values, normal):
    at_least = (normal >= values[:, None]).sum(dim=1)  # [B, …]
    return (1 + at_least) / (1 + len(normal))


check.p_values(the_p_values)

# %% [markdown] tags=["solution"]
# ### Solution B
#
# [Back to your turn B](#Your-turn-B:-both-sides)


# %% tags=["solution"]
def the_both_sides(values, normal):
    high = p_values(values, normal)  # [B]
    low = p_values(-values, -normal)  # [B]
    return (2 * torch.minimum(high, low)).clamp(max=1)


check.both_sides(the_both_sides)

# %% [markdown] tags=["solution"]
# ### Solution 1
#
# [Back to exercise 1](#Exercise-1:-a-brighter-camera)

# %% tags=["solution"]
old = p_values(new_scores, scores)  # [200]
new = p_values(new_scores[100:], new_scores[:100])  # [100]
shares = [(p <= 0.05).double().mean() for p in (old, new)]

check.camera(shares, scores, new_scores)

# %% [markdown] tags=["solution"]
# The promise is for images like those of the calibration, and now none is: a brighter background is odd in every image. After a new calibration the promise holds again: 9 % is within what a single calibration on 100 scores may have. Whether defects are still found is another question, because the prior was trained on images of the old camera.

# %% [markdown] tags=["solution"]
# ### Solution 2
#
# [Back to exercise 2](#Exercise-2:-one-false-alarm-in-a-hundred)


# %% tags=["solution"]
# The r-th largest score, for the largest r with r / (M + 1) ≤ rate.
def lowest_threshold(scores, rate):
    r = math.floor(rate * (len(scores) + 1) + 1e-9)
    if r == 0:
        return math.inf
    return scores.sort(descending=True).values[r - 1]  # []


check.threshold(lowest_threshold)

# %% [markdown] tags=["solution"]
# For a rate of 0.001, r is 0 below 999 scores: so many normal images are needed at least.
