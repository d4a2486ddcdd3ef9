# %% [markdown]
# # 07 · Generate and judge
#
# **What you will make.** Turn the knobs of the draw of a code. Judge the drawn images by two numbers, and search them for copies of training images. After this core, cause the four troubles that people meet most: blurry samples, samples that all look alike, training that blows up, and slow drawing. Measure which of the usual remedies help.
#
# **What you will learn.** What temperature, top-k, top-p and guidance do, what a Fréchet distance sees and what it misses, which differences may be chance, how to find copies of training images, and where to look first when samples are bad.
#
# **What you need.** The VQ-VAE-2 from notebook [01](01_images_to_codes.ipynb), the two levels of the prior from [04](04_top_prior.ipynb) and [05](05_bottom_prior.ipynb), and for section 07.10 the samplers of [06](06_fast_sampling.ipynb). The parts that we use are repeated here.
#
# **Time.** About 66 minutes for the core and 180 for all, with the exercises; 135<!--= timings 07_generate_and_judge --> seconds to run on two CPU cores.
#
# ← [06 · Sampling, fast](06_fast_sampling.ipynb) · [the course](../README.md#the-course) · [words and symbols](GLOSSARY.md) · next: [08 · Complete and edit in code space](08_complete_and_edit.ipynb) →

# %% tags=["version"]
from pixelprior.course import needs

needs("0.2")  # says so if the installed package is older

# %%
import torch

from pixelprior.assets import load_shipped
from pixelprior.course import figures
from pixelprior.course.checks import judging as check
from pixelprior.course.widgets import explore
from pixelprior.data.codes import CodeData, extract_codes
from pixelprior.data.images import ImageData, load_images
from pixelprior.evaluation.classifier import outputs
from pixelprior.evaluation.measures import decoded, frechet_distance
from pixelprior.sampling import inverse_cdf, probabilities, uniforms

# %% [markdown]
# ## 07.1 Draw a code with one random number
#
# *Core · 6 minutes*
#
# At each position of a grid, the prior gives K probabilities, one per code, and we draw one code by them. All the randomness of this draw is in one number u, which is **uniform** from 0 to 1: no value is likelier than another.
#
# Lay the probabilities end to end. Together they fill the interval from 0 to 1, and each code owns a piece that is as long as its probability. The code on whose piece u falls is drawn. The ends of the pieces are the sums p₀, p₀ + p₁, p₀ + p₁ + p₂, … They are called the **cumulative distribution function**, CDF, which leads from a code to a sum. We read it backwards, from a number to a code, which gives the method its name: **inverse CDF**.

# %%
p = torch.tensor([0.1, 0.4, 0.2, 0.3], dtype=torch.float64)  # [K], K = 4
cdf = p.cumsum(dim=0)  # [K]: 0.1, 0.5, 0.7, 1.0
u = 0.62
code = (cdf <= u).sum().item()  # pieces that end at u or before
print("code", code)

# %% [markdown]
# **How does u = 0.62 come to code 2?** Follow the arrow: from u to the right until it meets the stairs, and from there down to the code. Each riser, the vertical part of a stair, is as high as its code is probable.

# %%
figures.show(
    figures.stairs(p, u),
    "stairs",
)

# %% [markdown]
# The riser of code 2 is 0.2 high, so that one number in five draws this code. (In exercise 1 you predict how this changes at another temperature.)
#
# Now we do the same for a batch, in which each row has its own number. The package has this as `inverse_cdf`. Its `uniforms(seed, first_index, batch_size, count)` gives each image its own numbers, which are the same for the same seed on any machine.


# %%
def draw_by_hand(p, u):  # p [B, K], u [B]
    cdf = p.cumsum(dim=1)  # [B, K]
    return (cdf <= u[:, None]).sum(dim=1)  # [B]


u = uniforms(0, 0, 100, 1000).flatten()  # [100000]
many = p.expand(len(u), -1)  # [100000, K]
codes = draw_by_hand(many, u)  # [100000]
print("the package draws the same:", torch.equal(codes, inverse_cdf(many, u)))
shares = torch.bincount(codes) / len(codes)  # [K]
print("shares of the codes:", [round(share, 2) for share in shares.tolist()])

# %% [markdown]
# We draw in this way, and not with `torch.multinomial`, because all the randomness is in u, which we control. In section 07.3 we keep u, and change the probabilities.

# %% [markdown]
# ## 07.2 Temperature, top-k and top-p
#
# *Core · 12 minutes*
#
# We need not draw from the prior's own probabilities. Three common knobs change them, and we write each of them by hand, for one row of K numbers.
#
# **Temperature T** divides the logits before the softmax. That raises each probability to the power 1/T, and makes the sum 1 again:
#
# $$
# p_k^{(T)} = \frac{p_k^{1/T}}{\sum_j p_j^{1/T}}
# $$
#
# A T below 1 makes likely codes even likelier, while a T above 1 levels the differences. Towards 0 only the likeliest code is left, and towards infinity all codes are equally likely.


# %%
def with_temperature(logits, T):  # logits [K]
    return (logits / T).softmax(dim=0)  # [K]


# %% [markdown]
# **Top-k** keeps the k likeliest codes, and gives all others the probability 0. The kept probabilities are then divided by their sum.


# %%
def with_top_k(p, k):  # p [K]
    kept = torch.zeros_like(p)  # [K]
    likeliest = p.topk(k).indices  # [k]
    kept[likeliest] = p[likeliest]
    return kept / kept.sum()  # [K]


# %% [markdown]
# **Top-p** keeps the likeliest codes too, but how many depends on the row. We go from the likeliest code down, and stop as soon as the kept codes hold a given share of the probability, for example 0.9.


# %%
def with_top_p(p, share):  # p [K]
    kept, held = torch.zeros_like(p), 0.0
    for code in p.argsort(descending=True):
        if held >= share:
            break
        kept[code] = p[code]
        held += p[code].item()
    return kept / kept.sum()  # [K]


# %% [markdown]
# The package's `probabilities` does all three, in this order, for any number of rows. Does it agree with our functions on real logits? We take those of the shipped top prior for a **held-out** photograph, one that no training step has seen.

# %%
vqvae2, prior = load_shipped()
heldout = load_images("fashion_mnist_mini", "test")
heldout_codes = extract_codes(vqvae2, heldout)
names, K = heldout.class_names, prior.num_embeddings
z_top, _, label = heldout_codes.batch(torch.tensor([31]))  # [1, 8, 8], …, [1]
with torch.no_grad():
    bag_logits = prior.prior_top(z_top, label)[0].double()  # [K, 8, 8]
apart = []
for T, k, share in (
    (1.0, K, 1.0),
    (0.7, 12, 1.0),
    (1.3, K, 0.9),
    (0.8, 9, 0.6),
):
    mine = with_temperature(bag_logits[:, 3, 4], T)  # [K]
    mine = with_top_p(with_top_k(mine, k), share)  # [K]
    packages = probabilities(bag_logits[:, 3, 4], T, top_k=k, top_p=share)
    apart.append((mine - packages).abs().max().item())
print(f"largest difference < 1e-12: {max(apart) < 1e-12}")

# %% [markdown]
# **What do the knobs do to the next code?** The plain bars show what the prior says, for the 20 likeliest codes, and the hatched bars show what is drawn from, at temperature 0.7 and `top_p` 0.9. In JupyterLab you can move the knobs. (With `top_k` at K all codes are kept, and with `top_p` 1.0 as well.)


# %%
def knobs(temperature, top_k, top_p, row, column):
    logits = bag_logits[:, row, column]  # [K]
    before = logits.softmax(dim=0)  # [K]
    after = probabilities(logits, temperature, top_k, top_p)  # [K]
    order = before.argsort(descending=True)[:20]  # [20]
    kept = (after > 0).sum().item()
    return figures.grouped_bars(
        {"the prior's": before[order], "drawn from": after[order]},
        [str(code) for code in order.tolist()],
        x_label=f"code at row {row}, column {column}, likeliest first",
        y_label="probability",
        title=f"{kept} codes can be drawn",
    )


# %%
explore(
    knobs,
    "likeliest_codes",
    temperature=[0.7, 0.3, 0.5, 0.85, 1.0, 1.2, 1.5, 2.0],
    top_k=[K, 1, 2, 3, 5, 10, 20],
    top_p=[0.9, 0.1, 0.3, 0.5, 0.7, 0.8, 0.95, 0.99, 1.0],
    row=[3, 0, 1, 2, 4, 5, 6, 7],
    column=[4, 0, 1, 2, 3, 5, 6, 7],
)

# %% [markdown]
# There are three things to try. Set `top_p` to 1.0 and the temperature to 2: all bars come closer to one another, and improbable codes can be drawn. Set the temperature to 1 and `top_k` to 5: the tail is cut, and the five kept codes keep their ratios. Then go to row 0, column 7, an upper corner, where the prior is nearly sure: `top_k` 5 keeps five codes, however improbable they are, while `top_p` 0.9 keeps no more than it needs.

# %% [markdown]
# ## 07.3 One image, many temperatures
#
# *Core · 5 minutes*
#
# An image has 320 codes, and each draw has its own u. We keep all these numbers, and change only the temperature. As soon as one draw gives another code than before, the past of all later codes is changed, and a different piece of clothing may appear.


# %%
def draw_images(count=250, network=prior, seed=0, **options):
    """Codes and images, classes in turn; the same u for the same seed."""
    labels = network.labels_in_turn(count)  # [count]
    z_top, z_bottom = network.sample(
        count, (8, 8), (16, 16), labels=labels, seed=seed, **options
    )  # [count, 8, 8], [count, 16, 16]
    images = decoded(vqvae2, z_top, z_bottom)  # [count, 1, 32, 32], uint8
    return (
        CodeData((z_top, z_bottom), labels, K, names),
        ImageData(images, labels, names),
    )


# %% [markdown]
# **How does an image change with the temperature?** Pick a column, and read it from top to bottom.

# %% tags=["cover"]
strip = {}
for T in (0.3, 0.6, 0.8, 1.0, 1.2, 1.5):
    _, images = draw_images(10, temperature=T)
    strip[f"T = {T}"] = images[:][0]  # [10, 1, 32, 32]
figures.show(
    figures.image_rows(strip, column_names=names),
    "temperatures",
)

# %% [markdown]
# At T = 0.3 the images are clean and plain, because each draw takes one of the likeliest codes, and these are the codes of common images, such as plain cloth without a print. Folds appear from 0.6 on, and around 1.0 prints, and now and then an image breaks. At 1.5 outlines fray, and several images fall apart. People disagree about which temperature between 0.3 and 1.5 is best, so we need numbers.

# %% [markdown]
# ## 07.4 How good, and how varied?
#
# *Core · 23 minutes*
#
# These are two separate questions, and each gets a number.
#
# **How good?** We compare two *sets* of images, drawn ones and photographs, by the 64 **features** into which a shipped classifier turns an image right before its answer. We treat each set of features as a normal distribution, which is known by its mean and its **covariance**: how much each two features vary together. The **Fréchet distance** says how far apart two such distributions are. For one feature with the means μ and the standard deviations σ, its square is
#
# $$
# F^2 = (\mu_1 - \mu_2)^2 + (\sigma_1 - \sigma_2)^2
# $$
#
# For many features, with their covariances Σ, it is
#
# $$
# F^2 = \lVert \mu_1 - \mu_2 \rVert^2 + \mathrm{tr}\left(\Sigma_1 + \Sigma_2 - 2 (\Sigma_1 \Sigma_2)^{1/2}\right)
# $$
#
# where tr is the sum of the diagonal, and the power 1/2 is the root of a matrix, which we take by **eigenvalues**: we split a symmetric matrix into directions, and take the root along each of them. It is common to call the square F² the distance, and we do so too. (In the comments of the code, d is the number of features.)


# %%
def root(matrix):  # symmetric [d, d]
    values, vectors = torch.linalg.eigh(matrix)  # [d], [d, d]
    return vectors * values.clamp(min=0).sqrt() @ vectors.T  # [d, d]


def frechet_by_hand(one, other):  # features [N, d], [M, d]
    one, other = one.double(), other.double()
    means = (one.mean(0) - other.mean(0)).square().sum()  # []
    first, second = one.T.cov(), other.T.cov()  # [d, d] each
    inner = root(first) @ second @ root(first)  # [d, d], symmetric
    return (means + (first + second - 2 * root(inner)).trace()).item()


# %% [markdown]
# (Σ₁ Σ₂ is not symmetric, so we put the root of Σ₁ on both sides of Σ₂, which gives the same eigenvalues.) Does the package's `frechet_distance` agree?

# %%
from pixelprior.evaluation.classifier import load_shipped_reference_models

_, classifier = load_shipped_reference_models()
training = load_images("fashion_mnist_mini", "train")


def features(data):  # images [N, 1, 32, 32] to [N, 64]
    return outputs(classifier.features, data)


def subset(data, which):
    return ImageData(data.images[which], data.labels[which], names)


def first(data, count):
    return subset(data, slice(count))


real_features = features(heldout)  # [1000, 64]
some = features(first(training, 250))  # [250, 64]
mine = frechet_by_hand(some, real_features)
packages = frechet_distance(some, real_features)
print(f"differ by < 1e-5: {abs(mine - packages) < 1e-5}")

# %% [markdown]
# **How varied?** We take the mean distance of two images of the same class, over all pairs: the **Euclidean** distance, the root of the sum of squared differences of their pixels. If all bags were the same bag, the mean distance of bags would be 0.


# %%
def mean_distance(data):
    images = data[:][0].flatten(1)  # [N, 1024]
    each = [
        torch.pdist(images[data.labels == label]).mean()
        for label in range(10)
    ]
    return torch.stack(each).mean().item()


def judge(data):
    quality = frechet_distance(features(data), real_features)
    return {"Fréchet": quality, "distance": mean_distance(data)}


# %% [markdown]
# There is a fourth knob, **guidance**. In the training of the shipped prior, a tenth of the labels were left out. So it knows the logits ℓ with the label and without it, and we can draw from logits that are moved away from the second ones:
#
# $$
# \ell = \ell_{\text{label}} + w \, (\ell_{\text{label}} - \ell_{\text{no label}})
# $$
#
# With w = 0 these are the prior's own logits, and a larger w makes an image more typical of its class. We draw 250 images at each setting, and judge each set against the 1,000 held-out photographs.

# %%
settings = {
    "temperature": (0.3, 0.7, 1.0, 1.15, 1.3),
    "top_k": (10,),
    "top_p": (0.9,),
    "guidance": (0.25, 1.0),
}
drawn, scores = {}, {}
for knob, values in settings.items():
    for value in values:
        drawn[knob, value] = draw_images(**{knob: value})
        scores[knob, value] = judge(drawn[knob, value][1])

# %% [markdown]
# How much of a difference is chance? We cut the 250 images of T = 1 at random into two halves, again and again. Both halves come from the same prior at the same setting, so that what differs between them is chance. Two whole sets are about twice as large as two halves, so that they differ less, by a factor of √2. We therefore take the difference that 19 of 20 pairs of halves do not exceed, divide it by √2, and call the result *noise*.


# %%
def noise_of(data, rounds=100):
    seen, gaps = features(data), []  # [250, 64]
    generator = torch.Generator().manual_seed(0)
    for _ in range(rounds):
        turns = torch.randperm(25, generator=generator)  # [25]
        rows = 10 * turns[:, None] + torch.arange(10)  # [25, 10]: all classes
        halves = rows[:12].flatten(), rows[-12:].flatten()  # [120] each
        a, b = (frechet_distance(seen[h], real_features) for h in halves)
        c, d = (mean_distance(subset(data, h)) for h in halves)
        gaps.append((abs(a - b), abs(c - d)))
    gaps = torch.tensor(gaps).quantile(0.95, dim=0) / 2**0.5  # [2]
    return {"Fréchet": gaps[0].item(), "distance": gaps[1].item()}


noise = noise_of(drawn["temperature", 1.0][1])

# %% [markdown]
# As a yardstick we judge twelve sets of 250 training photographs, which have 25 images of each class like the drawn sets.

# %%
by_class = training.labels.argsort(stable=True).view(10, 24, 25)
photographs = [
    judge(subset(training, by_class[:, i].flatten()))  # [250] numbers
    for i in range(12)
]

# %% [markdown]
# **What does variety cost?** Points further to the right are more varied, and lower points are better. At T = 1 no knob is turned. The grey rectangle is as wide and as high as the noise.


# %%
def point(score):
    return score["distance"], score["Fréchet"]


symbols = {"temperature": "T", "top_k": "k", "top_p": "p", "guidance": "w"}
paths = {
    knob: {
        f"{symbols[knob]} = {value:g}": point(scores[knob, value])
        for value in values
    }
    for knob, values in settings.items()
}

# %%
figures.show(
    figures.trade_off(
        paths,
        start="T = 1",
        cloud={"photographs": list(map(point, photographs))},
        noise=point(noise),
        x_label="mean distance of two images of a class",
        y_label="Fréchet distance to photographs",
    ),
    "quality_and_variety",
)

# %% [markdown]
# - **From T = 1 to the right** images get more varied, and worse. Beyond the distance of photographs this is no gain, because specks and frayed edges add to the distance too.
# - **From T = 1 to the left** they get better at first. The prior is imperfect, and we think that its mistakes are mostly improbable codes, so that it helps to draw fewer of them.
# - **Further to the left** they get worse again, though each image is clean. The Fréchet distance compares *sets*, and a set of look-alikes is not like photographs.
# - **Guidance** leads down, and only a little to the left. It favours what tells a class from the others, and not what is likely in general, so that it costs less variety than a low temperature does.
# - **The crosses** show what a perfect prior with a perfect decoder would reach. This is not 0, because 250 images do not quite have the mean and covariance of 1,000 others. So compare Fréchet distances only for equal numbers of images, and in the same features.
#
# **Which settings are worse than another on both axes?** We count a difference only if it is larger than the noise.


# %%
def leads(one, other):
    """Whether `one` is better and more varied by more than the noise."""
    one, other = scores[one], scores[other]
    better = other["Fréchet"] - one["Fréchet"] > noise["Fréchet"]
    return better and one["distance"] - other["distance"] > noise["distance"]


for setting in scores:
    ahead = [" ".join(map(str, s)) for s in scores if leads(s, setting)]
    if ahead:
        print(" ".join(map(str, setting)), "is worse on both axes than:")
        print("  " + ", ".join(ahead))

# %% [markdown]
# Do not use a setting that is listed as worse, that is, at the start of a line that ends with “than:”, because another setting is both better and more varied. Among the others you choose quality or variety, or 250 images are too few to see a difference. (T = 1.15 and 1.3 are not listed, but lie at or beyond the distance of photographs, where more distance is no gain.)
#
# Look also for points at about the same height: the one further to the right has more variety at the same quality. The knobs do not all make the same trade. Guidance compares two predictions. Top-k and top-p remove improbable codes and keep the ratios of the others, and a low temperature changes these ratios too.

# %% [markdown]
# ## 07.5 Is it copying the training images?
#
# *Core · 14 minutes*
#
# A prior could draw sharp and varied images by learning the training set by heart. So we look for the nearest training image of each drawn one. By hand, we compute all distances, and take the smallest of each row.

# %%
from pixelprior.evaluation.measures import nearest, reconstructions

ours = drawn["temperature", 1.0][1]
mine = ours[:][0].flatten(1)  # [250, 1024]
theirs = training[:][0].flatten(1)  # [6000, 1024]
smallest, which = torch.cdist(mine, theirs).min(dim=1)  # [250] each
number, distance = nearest(ours, among=training)  # [250] each
print("the same images:", torch.equal(which, number))
close = (smallest - distance).abs().max() < 1e-3
print(f"distances differ by < 1e-3: {close.item()}")

# %% [markdown]
# **Are these copies?** (The third row is for the end of this section.)

# %%
found = training[number[:10]][0]  # [10, 1, 32, 32]
figures.show(
    figures.image_rows(
        {
            "drawn": ours[:10][0],
            "nearest\nphotograph": found,
            "the same,\nshifted": found.roll((1, 1), dims=(2, 3)),
        },
        column_names=names,
    ),
    "nearest_photographs",
)

# %% [markdown]
# The two images of a pair are similar, but they are not copies. To say whether their distance is small or large, we need two sets to compare with.
#
# - **Unseen images.** Held-out photographs have fine detail that no code holds, and that adds to any distance. The fair comparison is with *rebuilt* held-out photographs, which lack what samples lack.
# - **A copier** would draw the codes of training images. So we rebuild 250 training images.

# %%
few = first(heldout, 250)
sets = {
    "drawn": ours,
    "held out, rebuilt": reconstructions(vqvae2, few),
    "a copier": reconstructions(vqvae2, first(training, 250)),
}
edges = torch.arange(0, 10.5, 0.5)  # [21]
histograms, below = {}, {}
for name, data in sets.items():
    _, distance = nearest(data, among=training)  # [250]
    below[name] = (distance < 2).float().mean().item()
    counts = torch.histogram(distance, edges).hist  # [20]
    histograms[name] = (edges[:-1] + 0.25, 100 * counts / len(data))

# %% [markdown]
# **Where do drawn images lie, between a copier and the unseen?**

# %%
figures.show(
    figures.curves(
        histograms,
        x_label="distance to the nearest training image",
        y_label="percent of the images",
    ),
    "distances_to_nearest",
)
for name, share in below.items():
    print(f"{name:18} {share:4.0%} nearer than 2")
assert below["drawn"] == 0 and below["a copier"] > 0.98

# %% [markdown]
# The copier's peak is far to the left, where hardly any unseen image lies. Look at this left end and not at the mean, because ten copies among thousands would not move a mean.
#
# This search was among the 6,000 photographs that ship, while our prior was trained on 58,200. Measured among all 60,000 training images, drawn images lie 1.140<!--= results neighbours.samples_to_heldout_rebuilt.value --> times as far from their nearest training image as rebuilt test images do, on average. This is a mean: many copies would bring it below 1, and a few would not show in it.

# %% [markdown]
# ### Where it breaks: two numbers that are fooled
#
# **Does the Fréchet distance notice a copier?**

# %%
copier = frechet_distance(features(sets["a copier"]), real_features)
honest = scores["temperature", 1.0]["Fréchet"]
better = copier < honest / 2 and honest - copier > noise["Fréchet"]
print("the copier is better, and by more than the noise:", better)

# %% [markdown]
# It does not. It even rates the copier better than our samples, because the features of rebuilt training photographs have nearly the mean and covariance of other photographs. So report a search for copies beside every Fréchet distance.
#
# Can the search itself be fooled? Suppose that someone shifts the training images by a single pixel, down and to the right, as in the last row of the pairs above. **Are these copies found?**

# %%
copied = training[:100][0]  # [100, 1, 32, 32]
shifted = copied.roll((1, 1), dims=(2, 3))  # [100, 1, 32, 32]
unseen = heldout[:100][0]  # [100, 1, 32, 32]
for name, images in (
    ("copies", copied),
    ("copies, shifted", shifted),
    ("unseen images", unseen),
):
    gap = torch.cdist(images.flatten(1), theirs).min(dim=1).values  # [100]
    print(f"{name:16} median distance {gap.median():.1f}")

# %% [markdown]
# They are not: the eye sees no difference, but along each edge the pixels disagree, and by this number the shifted copies are *further* away than unseen images. A number far below those of all unseen images points to a copy, but a high number proves nothing until we have asked what else might count as the same. In exercise 4 you write a better number.
#
# Here the core ends, but for [exercise 1](#07.12-Exercises).

# %% [markdown]
# ## 07.6 One number for both
#
# *Further · 11 minutes*
#
# Train a classifier on drawn images and the labels for which they were drawn, and test it on real photographs. The share that it gets right is the **classification accuracy score** (Ravuri and Vinyals 2019). Bad images teach the wrong thing, and look-alikes teach too little. The simplest classifier needs no training: it gives each photograph the label of the nearest drawn image.


# %%
def accuracy_score(data):
    number, _ = nearest(heldout, among=data)  # [1000], and the distances
    right = data.labels[number] == heldout.labels  # [1000]
    return right.float().mean().item()


look_alike_codes, look_alikes = draw_images(top_k=1)
drawn["top_k", 1] = look_alike_codes, look_alikes
_, hot = draw_images(temperature=1.5)
learned_from = {
    "photographs": first(training, 250),
    "the same,\nrebuilt": sets["a copier"],
    "drawn,\nT = 0.7": drawn["temperature", 0.7][1],
    "drawn,\nT = 1.0": drawn["temperature", 1.0][1],
    "T = 1.5:\nbroken": hot,
    "top_k = 1:\nlook-alikes": look_alikes,
}
taught = {name: accuracy_score(data) for name, data in learned_from.items()}

# %% [markdown]
# **How much can one learn from drawn images?**

# %%
figures.show(
    figures.bars(taught, y_label="share of photographs named rightly"),
    "accuracy_by_source",
)
assert taught["photographs"] > taught["drawn,\nT = 1.0"]
assert taught["drawn,\nT = 1.0"] > taught["T = 1.5:\nbroken"] + 0.03
assert taught["drawn,\nT = 1.0"] > taught["top_k = 1:\nlook-alikes"] + 0.1

# %% [markdown]
# Images drawn at T = 1.0 teach somewhat less than photographs do. Broken images and look-alikes fall far behind, for opposite reasons. (Copies fool this number too: the second bar is the copier of section 07.5.)
#
# **And what does the full measurement say?** It ships with the package: 10,000 images drawn at T = 1 are compared with all 10,000 test images, and the classifier is a convolutional network. Another 10,000 images were drawn with guidance of 1 at both levels and T = 0.95, a setting that was chosen on held-out *training* images, by its Fréchet distance.

# %%
import json

from pixelprior import assets

path = assets.FOLDER / "results" / "results.json"
results = json.loads(path.read_text(encoding="utf-8"))
distances = results["frechet"]["distances"]
accuracies = results["accuracy_score"]
sources = {
    "training\nimages": ("training images", "real"),
    "rebuilt\ntest images": ("reconstructions", "reconstructions"),
    "drawn\nimages": ("samples", "samples"),
    "drawn with\nguidance": ("chosen_samples", "chosen_samples"),
}

# %%
panels = {
    "Fréchet distance: low is good": {
        name: distances[f]["value"] for name, (f, _) in sources.items()
    },
    "accuracy score: high is good": {
        name: accuracies[a]["value"] for name, (_, a) in sources.items()
    },
}
figures.show(figures.bar_panels(panels), "scores")

# %% [markdown]
# - **Fréchet distance.** Drawn images are at 0.67<!--= results frechet.distances.samples.value -->, with a 95 % confidence interval from 0.60<!--= results frechet.distances.samples.low --> to 0.74<!--= results frechet.distances.samples.high -->. (This is lower than in section 07.4, partly because more images have a smaller distance; the rest may be chance.) The reconstructions need no prior, so that what comes on top of their distance is due to the prior.
# - **Accuracy.** The score from drawn images is 0.951<!--= results accuracy_score.samples_to_real.value --> times that from real ones, so that the samples lack something that photographs have.
# - **Guidance.** The Fréchet distance falls to 0.17<!--= results frechet.distances.chosen_samples.value -->, and the accuracy score falls as well: it is 0.932<!--= results accuracy_score.chosen_samples_to_real.value --> times that of real images. Guidance draws images that are more typical of their class, and such images probably teach less about where a class ends. The two numbers answer different questions, and neither stands for the other.
#
# You may know the name **FID**: it is the Fréchet distance in the features of another network, Inception. Our numbers cannot be compared with FIDs.

# %% [markdown]
# ## 07.7 Why are my samples blurry?
#
# *Further · 27 minutes*
#
# The usual advice is more channels and longer training, but of *which* network? Two networks made the image, so we measure before we train anything.
#
# **Sharpness** needs a number of its own. Blur removes fast changes, so we measure these: the mean square of each pixel minus the mean of the 3×3 pixels around it, times 1,000 for handy numbers.


# %%
import torch.nn.functional as F


def sharpness(data):
    images, _ = data[:]  # [N, 1, 32, 32]
    soft = F.avg_pool2d(images, 3, stride=1, padding=1)  # [N, 1, 32, 32]
    return 1000 * (images - soft).square().mean().item()


everywhere = {
    "photographs": sharpness(few),
    "rebuilt": sharpness(sets["held out, rebuilt"]),
    "drawn, T = 1.0": sharpness(drawn["temperature", 1.0][1]),
    "drawn, T = 0.7": sharpness(drawn["temperature", 0.7][1]),
    "drawn, T = 1.5": sharpness(hot),
}

# %% [markdown]
# **Where is the sharpness lost?**

# %%
figures.show(
    figures.bars(
        {name.replace(", ", ",\n"): s for name, s in everywhere.items()},
        y_label="sharpness",
        unit_format="{:.1f}",
    ),
    "sharpness_by_source",
)
assert everywhere["photographs"] > everywhere["rebuilt"] + 0.5
assert everywhere["rebuilt"] > everywhere["drawn, T = 1.0"] + 0.4

# %% [markdown]
# - **Look at the reconstructions first.** The second bar involves no prior, because these are codes of real images, decoded. So what is lost from the first bar to the second is lost by the VQ-VAE-2, and no prior can put it back. What is lost from the second to the third is lost by the prior.
# - **A low temperature looks like blur to this number.** Outlines stay crisp, as section 07.3 shows, but folds and prints disappear.
# - **A sharp image need not be good.** At T = 1.5, specks and frayed edges are fast changes too. So we look at the Fréchet distance beside the sharpness.

# %% [markdown]
# ### Blur from the decoder
#
# Now we cause the trouble: we train a VQ-VAE-2 for a short while, and look at what it rebuilds. The training loop is that of notebook 04, with AdamW, warm-up, cosine and clipping. It returns the losses, and the gradient's norms before clipping. What is new is `change`, which may change the batch of a step (section 07.9).


# %%
from pixelprior.settings import TrainingSettings
from pixelprior.training import learning_rate_factor


def one_step(model, optimizer, batch, clip):
    loss = model.train().loss_function(*batch)["total_loss"]  # []
    optimizer.zero_grad()
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()
    return loss.item(), norm.item()


# %%
def train(
    model, data, steps, highest, *, clip=1.0, warmup=0.1, size=16,
    look=lambda step: None, change=lambda step, batch: batch,
):  # fmt: skip
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=highest)
    factor = learning_rate_factor(TrainingSettings(warmup=warmup), steps)
    losses, norms = [], []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = highest * factor(step)
        indices = torch.randint(len(data), (size,))  # [B]
        batch = change(step, data.batch(indices))
        loss, norm = one_step(model, optimizer, batch, clip)
        losses.append(loss)
        norms.append(norm)
        look(step + 1)
    model.eval()
    return losses, norms


# %% [markdown]
# We train two networks for 400 steps of 12 images, one with 16 channels, the other with 32, and on the way we rebuild 250 held-out photographs. (The shipped network is larger, and was trained for far longer.)

# %%
from pixelprior.vqvae2 import VQVAE2

at = (50, 150, 400)
rebuilt, sharp_by, frechet_by = {}, {}, {}
for channels in (16, 32):
    torch.manual_seed(0)
    small = VQVAE2(1, 32, channels, embedding_dim=32, num_embeddings=K)
    sharp_by[channels], frechet_by[channels] = [], []

    def look(step, small=small, channels=channels):
        if step in at:
            data = reconstructions(small.eval(), few)
            rebuilt[channels, step] = data[:8][0]  # [8, 1, 32, 32]
            sharp_by[channels].append(sharpness(data))
            distance = frechet_distance(features(data), real_features)
            frechet_by[channels].append(distance)

    record = train(small, training, 400, 2e-3, size=12, look=look)

# %% [markdown]
# **What does a decoder that is not finished look like?**

# %%
shown = {"photograph": few[:8][0]}
for step in at:
    shown[f"32 channels,\n{step} steps"] = rebuilt[32, step]
shown["16 channels,\n400 steps"] = rebuilt[16, 400]
shown["shipped"] = sets["held out, rebuilt"][:8][0]
figures.show(
    figures.image_rows(shown),
    "blurs",
)

# %% [markdown]
# That is blur as people know it: the outline is there, and the fine details are gone. No prior can do better than this on such codes.
#
# **Do the remedies help: longer training, more channels?**

# %%
figures.show(
    figures.curves(
        {
            "16 channels": (at, sharp_by[16]),
            "32 channels": (at, sharp_by[32]),
        },
        x_label="training steps of the VQ-VAE-2",
        y_label="sharpness of what it rebuilds",
        baselines={
            "photographs": everywhere["photographs"],
            "shipped VQ-VAE-2": everywhere["rebuilt"],
        },
        y_limits=(0, 12),
    ),
    "sharpness",
)

# %%
assert sharp_by[32][-1] > sharp_by[16][-1] and sharp_by[32][-1] > 2.5
for channels in (16, 32):
    early, _, late = frechet_by[channels]
    print(f"{channels} channels: Fréchet distance halved: {late < early / 2}")
    assert late < early / 2

# %% [markdown]
# Both remedies help, and the shipped model shows how far they lead. The Fréchet distance falls with the steps too, so it is the right kind of sharpness. (In most of our runs, but not in all, 32 channels also end with the smaller distance. We have not tried more layers in the decoder.)

# %% [markdown]
# ### And a prior that is not finished?
#
# We keep the shipped VQ-VAE-2, with its sharp decoder, and train two small priors on its codes, one for 60 steps and the other for twice as many.

# %%
training_codes = extract_codes(vqvae2, first(training, 2000))
some_codes = heldout_codes.batch(torch.arange(250))  # codes, label


def judge_prior(network, data):
    with torch.no_grad():
        losses = network.eval().loss_function(*some_codes)
    nats = losses["top_loss"].item(), losses["bottom_loss"].item()
    return data, (*nats, sharpness(data), judge(data)["Fréchet"])


# %%
from pixelprior.prior import HierarchicalPixelCNN

by_prior = {}
for name, steps in (("short", 60), ("twice the steps", 120)):
    torch.manual_seed(0)
    weak = HierarchicalPixelCNN(K, 32, 16, 4, num_classes=10, dropout=0.0)
    record = train(weak, training_codes, steps, 3e-3)
    by_prior[name] = judge_prior(weak, draw_images(network=weak)[1])
by_prior["shipped"] = judge_prior(prior, drawn["temperature", 1.0][1])

# %% [markdown]
# **Are the images of a weak prior blurry?**

# %%
rows = {
    name.replace("the ", "the\n"): data[:10][0]  # [10, 1, 32, 32]
    for name, (data, _) in by_prior.items()
}
figures.show(
    figures.image_rows(rows, column_names=names),
    "short_training",
)

# %% [markdown]
# The images are not blurry clothes, they are no clothes: tangles, and lumps with twice the steps. **Which numbers tell them from good samples?** We print the held-out loss of both levels in nats per code, the sharpness, and the Fréchet distance.

# %% tags=["nbval-ignore-output"]
print("                      top  bottom  sharpness  Fréchet")
for name, (_, numbers) in by_prior.items():
    top, bottom, sharp_here, quality = numbers
    print(f"{name:19}{top:6.1f}{bottom:8.1f}", end="")
    print(f"{sharp_here:11.0f}{quality:9.0f}")
unfinished = sharp_by[16][-1]
print(f"{'unfinished decoder':38}{unfinished:8.0f}{frechet_by[16][-1]:9.0f}")
plain, longer, best = (each for _, each in by_prior.values())
assert min(plain[2], longer[2]) > unfinished
for level in (0, 1):
    assert longer[level] < plain[level] - 0.1
    assert best[level] < longer[level] - 0.4
assert best[3] < 2 < longer[3] - 3

# %% [markdown]
# The loss and the Fréchet distance do. The sharpness rises with the training too, but you cannot rely on it alone: it is higher for the tangles than for the images in the last line, which our decoder of 16 channels rebuilt after 400 steps and which are recognizable clothes. So if the reconstructions are sharp and the samples are lumps, train the prior for longer, and watch its nats per code on held-out codes (notebook 04).

# %% [markdown]
# ## 07.8 Why do my samples all look alike?
#
# *Further · 13 minutes*
#
# This trouble is quickly made: we draw with `top_k=1`, which always takes the likeliest code, so that u no longer matters. **How varied are sandals?**


# %%
def of_class(data, label, count=10):
    return data[(data.labels == label).nonzero()[:count, 0]][0]


sandals = {
    "top_k = 1": look_alikes,
    "T = 0.3": drawn["temperature", 0.3][1],
    "T = 1.0": drawn["temperature", 1.0][1],
    "T = 1.5": hot,
    "photographs": first(training, 250),
}
figures.show(
    figures.image_rows(
        {name: of_class(data, 5) for name, data in sandals.items()}
    ),
    "little_variety",
)
for name, data in list(sandals.items())[:2]:
    different = len(data.images.flatten(1).unique(dim=0))
    print(f"{name:10} different images of 250: {different}")

# %% [markdown]
# With `top_k=1` there are only ten different images, one per class. At T = 0.3 all 250 differ, but they are less varied than photographs.
#
# A common check is the **perplexity** of the drawn codes: exp of the entropy of their frequencies (exercise 1 of notebook 01). Another is the share of codes that occur at all. We compare both with the mean distance within a class, and divide each by what rebuilt photographs have.

# %%
from pixelprior.evaluation.measures import code_use


def three_numbers(codes, data):
    use = code_use(codes, "top")
    return (mean_distance(data), use["perplexity"], use["share_in_use"])


# %%
own = three_numbers(extract_codes(vqvae2, few), sets["held out, rebuilt"])
settings_shown = [("top_k", 1)]
settings_shown += [("temperature", T) for T in (0.3, 0.7, 1.0, 1.15, 1.3)]
ratios = [
    [
        mine / photo
        for mine, photo in zip(three_numbers(*drawn[s]), own, strict=True)
    ]
    for s in settings_shown
]
measures = ("mean distance", "perplexity, top", "codes in use, top")

# %% [markdown]
# **Which of the three measures notices that there are ten images?** (A bar of height 0 is not visible.)

# %%
figures.show(
    figures.grouped_bars(
        dict(zip(measures, zip(*ratios, strict=True), strict=True)),
        ["top_k = 1", *(f"T = {T}" for _, T in settings_shown[1:])],
        y_label="÷ that of rebuilt photographs",
    ),
    "measures_of_variety",
)
assert ratios[0][0] == 0 and ratios[0][1] > 0.6 and ratios[0][2] > 0.9

# %% [markdown]
# Only the mean distance notices. The perplexity has lost a part that would not alarm you, and nearly all codes are in use: an image has 64 top codes, so ten images have room for all of them. These two measures say whether the *codebook* works. Ask them once, of the codes of photographs, after training the VQ-VAE-2.

# %%
for level in ("top", "bottom"):
    use = code_use(heldout_codes, level)
    enough = use["perplexity"] > K / 3
    print(f"{level:6} codes in use: {use['share_in_use']:.0%};", end=" ")
    print("perplexity above a third of K:", enough)

# %% [markdown]
# Our codebooks are healthy. If yours has collapsed to a few codes, no temperature brings back what these codes cannot represent, and section 01.4 has the remedy.
#
# If you had lowered the temperature, go back to 1, and if you had set `top_k`, leave it out. A temperature above 1 adds distance too, but the images get worse: section 07.4 shows the Fréchet distance rise, and specks and frayed edges add to the distance. If samples are alike at T = 1, look at the codebook, and at the held-out loss: we expect a prior that has learned few images by heart (section 04.7) to draw those few.
#
# **Can we have good and varied at once?** The top codes decide shape and shade, and that is where the variety is. So we keep the top codes drawn at T = 1, and draw the bottom codes alone at a lower temperature.

# %%
kept_top = drawn["temperature", 1.0][0].z_top  # [250, 8, 8]
_, cooled = draw_images(known_top=kept_top, temperature=0.7)
cooled, as_it_is = judge(cooled), scores["temperature", 1.0]
less = as_it_is["Fréchet"] - cooled["Fréchet"]
share = cooled["distance"] / as_it_is["distance"]
print("the Fréchet distance falls by more than 0.1:", less > 0.1)
print("of the mean distance at least 98 % stays:", share > 0.98)

# %% [markdown]
# If both lines say True, the images are as varied as before, and nearer to photographs. (Both sets have the same top codes, so that chance does less here than between the sets of section 07.4.) This works where the variety that you care for is in the top level.

# %% [markdown]
# ## 07.9 Why does my training blow up?
#
# *Further · 23 minutes*
#
# Section 04.8 has shown a prior with too high a rate. Here we take the other network, a small VQ-VAE-2, and two causes.
#
# - **A rate too high**: 0.1 instead of 2e-3, and a bold rate of 0.03, each with a warm-up of a tenth of the steps and with a long one of three tenths.
# - **A bad file**: someone forgot to divide by 255, for a single file of two batches, so that at steps 17 and 18 the pixels run from 0 to 255. In this run the rate is as it should be.


# %%
import math


def small_vqvae2(start=0):
    torch.manual_seed(start)
    return VQVAE2(1, 32, 16, embedding_dim=16, num_embeddings=K)


def bad_file(step, batch):
    (images,) = batch  # [B, 1, 32, 32]
    return (255 * images if step in (16, 17) else images,)


# %%
good, bad = {}, {"change": bad_file}
runs = {
    "all as it should be": (2e-3, good),
    "rate 0.1": (0.1, good),
    "rate 0.1, long warm-up": (0.1, {"warmup": 0.3}),
    "bad file, not clipped": (2e-3, {**bad, "clip": math.inf}),
    "bad file, clipped": (2e-3, bad),
}
curves, norms = {}, {}
for name, (rate, options) in runs.items():
    curves[name], norms[name] = train(
        small_vqvae2(), training, 90, rate, **options
    )

# %% [markdown]
# We run the bold rate from four starting weights, with each warm-up.

# %%
from_starts = {
    name: [
        train(small_vqvae2(start), training, 90, 0.03, warmup=warmup)[0]
        for start in range(4)
    ]
    for name, warmup in (("short warm-up", 0.1), ("long warm-up", 0.3))
}

# %% [markdown]
# **Which of the two causes does clipping cure, and does a long warm-up help?** All runs but one are clipped. The vertical axis is logarithmic, and it is cut off at the top.


# %%
def of_runs(*names):
    return {name: curves[name] for name in ("all as it should be", *names)}


panels = {
    "rate 0.1": of_runs("rate 0.1", "rate 0.1, long warm-up"),
    "rate 0.03, from four starts": of_runs() | from_starts,
    "a bad file at steps 17 and 18": of_runs(*list(runs)[3:]),
}
figures.show(
    figures.curve_panels(
        panels,
        x_label="step",
        y_label="training loss",
        scales="log",
        y_limits=(0.01, 100),
    ),
    "loss_curves",
)

# %%
ends = {name: sum(curve[-20:]) / 20 for name, curve in curves.items()}
for name in list(runs)[:3]:
    print(f"{name:24} {'learns' if ends[name] < 0.06 else 'lies flat'}")
    if "0.1" in name:
        assert ends[name] > 0.085
    else:
        assert ends[name] < 0.045
assert ends["bad file, clipped"] < 0.045
assert max(curves["bad file, clipped"][22:]) < 0.15
assert max(curves["bad file, not clipped"][22:]) > 0.5

# %%
lost = ends["bad file, not clipped"] / ends["bad file, clipped"]
print("bad file, not clipped: ends over 1.5 times as high:", lost > 1.5)
assert lost > 1.5
usual = sorted(norms["bad file, clipped"])[45]
ratio = norms["bad file, clipped"][16] / usual
print("bad file: a norm over 10,000 times the usual:", ratio > 10_000)
assert ratio > 10_000

# %% [markdown]
# - **Rate 0.1** is clipped, and still it learns nothing, because AdamW's step is about as long with clipping as without (section 04.8). After the peaks the curve looks calm, but it stays flat, far above that of the run in which all is as it should be. A long warm-up does not change that; the remedy is a lower rate.
# - **Rate 0.03** is at the border. Whether a run learns depends on its starting weights, and even the last digits of a sum, which differ from processor to processor, can decide. A long warm-up helps often, but not on every processor and from every start. A run at this rate that learns can even end below the first curve, because its steps are longer and 90 steps are few. So do not judge such a rate by a single run.
# - **The bad file** itself makes the peak of both runs. Clipped, the run goes on as before. Not clipped, the loss rises once more, and the network hardly learns.
#
# Why do two batches do so much harm? For each weight, AdamW keeps a running mean of its gradients and a running mean of their squares. A step is minus the learning rate times the first mean, divided by the root of the second. We compute both means by hand, for one weight whose gradient is −1 at every step except the two of the bad file. At those two steps it is 10,000 without clipping. With clipping we take 4, as if the limit were four times the usual norm. (Both means start at 0 and are too small at first; the divisions correct this.)


# %%
def adamw_means(gradients):
    mean = square = 0.0
    means, roots = [], []
    for step, gradient in enumerate(gradients, 1):
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        means.append(mean / (1 - 0.9**step))
        roots.append(math.sqrt(square / (1 - 0.999**step)))
    ratios = [a / b for a, b in zip(means, roots, strict=True)]
    return means, roots, ratios


by_gradient = {
    name: adamw_means([-1.0] * 16 + [odd] * 2 + [-1.0] * 72)
    for name, odd in (
        ("no bad file", -1.0),
        ("bad file, not clipped", 10_000.0),
        ("bad file, clipped", 4.0),
    )
}

# %% [markdown]
# **What do two bad gradients do to the next seventy steps?** (The left axis is linear from −1 to 1 and logarithmic beyond, hence the kink at 1.)

# %%
titles = (
    "mean of the gradients",
    "root of the mean of squares",
    "their ratio",
)
panels = {
    title: {name: three[k] for name, three in by_gradient.items()}
    for k, title in enumerate(titles)
}
figures.show(
    figures.curve_panels(
        panels, x_label="step", scales=("symlog", "log", "linear")
    ),
    "two_means",
)

# %% [markdown]
# Not clipped, the ratio has the wrong sign almost to the end and is soon near 0, so that the weight hardly moves: the mean of squares forgets more slowly than the mean of gradients. Clipped, the ratio has the right sign again at the next step, is back at half its size after twelve, and at nearly nine tenths at the end. So clip, at a few times the usual norm, but do not expect clipping to replace a lower rate. (The package clips at 1.0, and `--max_grad_norm` changes it.)
#
# **What if the numbers are no longer finite?** At still higher rates they grow until float32 cannot hold them, and one `nan` spoils all weights in one step (section [04.8](04_top_prior.ipynb)). So the package's `fit` looks at the gradient's norm *before* the weights move (on a CPU at each step), and says what to do.

# %% tags=["nbval-ignore-output"]
import tempfile

from pixelprior.devices import make_accelerator
from pixelprior.training import fit

hasty = TrainingSettings(
    epochs=1, batch_size=16, lr=10.0, warmup=0.0, mixed_precision="no"
)
message = ""
with tempfile.TemporaryDirectory() as folder:
    accelerator = make_accelerator(hasty, folder)
    try:
        fit(
            small_vqvae2(), first(training, 320), first(heldout, 16),
            hasty, folder, accelerator, log=lambda line: None,
        )  # fmt: skip
    except FloatingPointError as error:
        message = str(error)
for part in message.split("; "):
    print(part)
assert "is not finite" in message and "lower --lr" in message

# %% [markdown]
# ## 07.10 Why is drawing so slow?
#
# *Further · 9 minutes*
#
# There are three usual causes, and we measure two of them; notebook 06 has more. We draw the 64 top codes of eight images in two ways: with the whole network for each code (`naive`), and keeping what earlier codes needed, so that nothing is computed twice (`cached`). Each way is timed with one image at a time and with all eight at once.


# %%
import time

from pixelprior.sampling import sample_codes
from pixelprior.settings import SamplingOptions


def draw_tops(first_index, count, method):
    labels = torch.arange(first_index, first_index + count) % 10  # [count]
    condition = prior.prior_top.label_condition(labels, count)
    numbers = uniforms(0, first_index, count, 64)  # [count, 64]
    options = SamplingOptions(method=method)
    return sample_codes(
        prior.prior_top, (8, 8), numbers, condition.detach(), options
    )  # [count, 8, 8]


def timed(work):
    started = time.perf_counter()
    return work(), time.perf_counter() - started


# %% tags=["nbval-ignore-output"]
def one_by_one(method):
    return torch.cat([draw_tops(i, 1, method) for i in range(8)])


naive, slow = timed(lambda: one_by_one("naive"))
_, eight = timed(lambda: draw_tops(0, 8, "naive"))
cached, faster = timed(lambda: one_by_one("cached"))
together, fastest = timed(lambda: draw_tops(0, 8, "cached"))
print(f"cached: {slow / faster:.0f} times as fast")
print(f"cached, and all at once: {slow / fastest:.0f} times as fast")
same = (naive == together).float().mean().item()
print(f"the same codes: {same:.0%}")
assert slow > 3 * faster and faster > 1.5 * fastest
assert same > 0.99 and (naive == cached).float().mean() > 0.99

# %% [markdown]
# **Which remedy helps most?** (The times are those of the machine that ran this notebook.)

# %%
seconds = {
    "naive,\none at a time": slow,
    "naive,\neight at once": eight,
    "cached,\none at a time": faster,
    "cached,\neight at once": fastest,
}
figures.show(
    figures.bars(
        {name: 1000 * each / 8 for name, each in seconds.items()},
        y_label="milliseconds per image",
        unit_format="{:.0f}",
    ),
    "slow_and_fast",
)

# %% [markdown]
# Keeping what was computed helps most, and drawing many at once comes second.
#
# - **The whole network for each code.** `method="cached"` is the default, so you miss this factor only in a loop of your own.
# - **One image at a time.** A step of the cached method is so small that most of its time goes into starting its operations, and eight images share that time. So draw many at once: `sample` takes any batch size, and image i does not depend on it. (With `naive` a single image already keeps the processor busy, so that eight at once gain less or nothing.)
# - **The wrong machine or number format.** On a GPU, use `method="graph"` (section 06.9), and for large batches bf16 in place of float32 (section 06.8). (We expect this, but neither has been run on a GPU yet: see the end of section 06.9.)
#
# The first two remedies leave each code as it was. On the two cores that made the committed results, a new image of both levels takes 9.1<!--= results speed.milliseconds_per_image.value --> ms in batches of 64.

# %% [markdown]
# ## 07.11 A page to keep
#
# *Further · 1 minute*
#
# | symptom | look first at | remedy |
# |---|---|---|
# | **blurry** (07.7) | reconstructions of held-out images | if they are blurry, train the VQ-VAE-2 for longer, with more channels; if they are sharp, train the prior for longer; raise a low temperature |
# | **all alike** (07.8) | temperature and `top_k`; mean distance within a class | back to temperature 1; then cool the bottom alone |
# | **blows up** (07.9) | gradient norm; the loss against a good run | a lower rate; at the border a longer warm-up; clip for bad batches |
# | **slow** (07.10) | `method` and batch size | `method="cached"`, large batches |
#
# Whatever the symptom, never use one number alone: quality, variety and the search for copies belong together.

# %% [markdown]
# ## 07.12 Exercises
#
# *Further · 30 minutes*
#
# Replace the `None` in a cell with your answer and run the cell, which then tries the answer out.

# %% [markdown] tags=["about-solutions"]
# Each exercise has a [solution](#Solutions) at the end of the notebook.

# %% [markdown]
# ### Exercise 1: which numbers draw code 2?
#
# *Difficulty 2 of 5 · importance 3 of 5 · 4 minutes*
#
# The four codes of section 07.1 have the probabilities 0.1, 0.4, 0.2 and 0.3. At temperature 1, each u from 0.5 to 0.7 draws code 2. **Which interval of u draws code 2 at temperature 0.5?** Predict before you compute: will the piece of code 2 be longer or shorter?
#
# <details><summary>Hint 1</summary>
#
# Temperature 0.5 squares each probability, and then the sum has to become 1 again.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The interval of code 2 begins where the intervals of codes 0 and 1 end.
#
# </details>

# %% tags=["exercise"]
my_numbers = None  # your turn: (low, high)

check.numbers_of_code(my_numbers, p, 2, 0.5)

# %% [markdown] tags=["about-solutions"]
# [To solution 1](#Solution-1)

# %% [markdown]
# ### Exercise 2: a temperature by two numbers
#
# *Difficulty 3 of 5 · importance 5 of 5 · 6 minutes*
#
# Someone wants images that look more like photographs than ours at T = 1, and gives you two limits. The Fréchet distance must be at most 0.9 times that at T = 1, and images of a class must lie at least 0.88 times as far apart as held-out photographs do. **Choose a temperature** for both levels; it is then tested on 400 new images of another seed, against 400 at T = 1 of the same seed. Numbers from a few hundred images vary by chance, and the Fréchet distance most, so measure on a second seed, and stay well away from both limits.
#
# You have `scores["temperature", T]` for five temperatures. `judge(draw_images(temperature=T, seed=1)[1])` measures others, on a second seed, and `mean_distance(heldout)` measures photographs.
#
# <details><summary>Hint 1</summary>
#
# Compare the five temperatures in `scores` with both limits. Which limit does 1.0 break, and how near is 0.7 to the other one?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Try a temperature between these two with `judge`, on two seeds.
#
# </details>

# %% tags=["exercise"]
my_temperature = None  # your turn: a number

check.temperature(my_temperature, vqvae2, prior, heldout)

# %% [markdown] tags=["about-solutions"]
# [To solution 2](#Solution-2)

# %% [markdown]
# No temperature is the best for every purpose. To choose one for a given purpose, you have to state the purpose in numbers.

# %% [markdown]
# ### Exercise 3: top-p for a whole batch
#
# *Difficulty 3 of 5 · importance 5 of 5 · 10 minutes*
#
# Our `with_top_p` goes through one row in a loop. Write it for logits [B, K], and return probabilities [B, K]. In each row, keep the fewest of the likeliest codes that together hold `share`, and at least one. Give the others the probability 0, make the sum of the row 1, and leave each code at its own place. (Do not call the package's function.)
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
# `scatter` puts each kept probability back to its own code. Then divide each row by its sum.
#
# </details>


# %% tags=["exercise"]
def my_top_p(logits, share):
    return None  # your turn


check.top_p(my_top_p)


# %% [markdown] tags=["about-solutions"]
# [To solution 3](#Solution-3)

# %% [markdown]
# ### Exercise 4: is it memorising?
#
# *Difficulty 4 of 5 · importance 3 of 5 · 10 minutes*
#
# Section 07.5 ended with copies that were shifted by a pixel and not found. Write a function that computes a better number from images [N, 1, 32, 32] and training images [M, 1, 32, 32]. It gives one number per image, [N], which is **small for a copy**, whether the copy is exact, or shifted by a pixel in any of eight directions and slightly blurred. The function is tried on 50 copies and 50 unseen images, in random order. In 95 of 100 pairs of a copy and an unseen image, the copy must have the smaller number. Copies and unseen images are shifted and blurred in the same way, so that the blur itself gives nothing away.
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
# Take the smallest distance over all shifts and all training images.
#
# </details>


# %% tags=["exercise"]
def my_distance(images, training):
    return None  # your turn


check.distance_to_copies(my_distance, training, heldout)


# %% [markdown] tags=["about-solutions"]
# [To solution 4](#Solution-4)

# %% [markdown]
# Each such number finds only the copies that it was made for. What about mirrored copies, or the sleeve of one image with the print of another? The question "is it memorising?" has no final answer, but you can ask it more and more precisely.

# %% [markdown]
# ## What you can do now
#
# - Draw a code from one random number, and say what temperature, top-k and top-p do to it.
# - Judge drawn images by quality and by variety, and know what each number does not see.
# - Tell which network is the cause of blur, lumps and look-alikes, and stop a training run that has gone wrong.
#
# **In papers**, temperature, top-k and top-p (**nucleus sampling**) are those of language models, guidance is **classifier-free guidance**, and the Fréchet distance in Inception's features is the **FID**.
#
# **To take away.** Why can the Fréchet distance of good images get *worse* when each single image gets better? Your samples are sharp, varied, and have a small Fréchet distance: what is left to check? Which temperature would you take to fill a shop window, and which to make training data? ([Answers](ANSWERS.md#07--generate-and-judge))
#
# **Sources.** Fréchet distance of features: Heusel, Ramsauer, Unterthiner, Nessler and Hochreiter 2017, [arXiv 1706.08500](https://arxiv.org/abs/1706.08500), equation 6. Classification accuracy score: Ravuri and Vinyals 2019, [arXiv 1905.10887](https://arxiv.org/abs/1905.10887). Both for a VQ-VAE-2, and quality against diversity: Razavi, van den Oord and Vinyals 2019, [arXiv 1906.00446](https://arxiv.org/abs/1906.00446), the part on quantitative evaluation. Top-p, there called nucleus sampling, and why the likeliest is dull: Holtzman, Buys, Du, Forbes and Choi 2019, [arXiv 1904.09751](https://arxiv.org/abs/1904.09751), the part on decoding. Top-k: Fan, Lewis and Dauphin 2018, [arXiv 1805.04833](https://arxiv.org/abs/1805.04833), the part on generation. Guidance: Ho and Salimans 2022, [arXiv 2207.12598](https://arxiv.org/abs/2207.12598), equation 6, for another kind of model. Clipping: Pascanu, Mikolov and Bengio 2012, [arXiv 1211.5063](https://arxiv.org/abs/1211.5063), section 3.2.
#
# ← [06 · Sampling, fast](06_fast_sampling.ipynb) · [the course](../README.md#the-course) · [words and symbols](GLOSSARY.md) · next: [08 · Complete and edit in code space](08_complete_and_edit.ipynb) →

# %% [markdown] tags=["solution"]
# ## Solutions
#
# A solution is one answer of several: the checks judge what an answer does, not how it is written.

# %% [markdown] tags=["solution"]
# ### Solution 1
#
# [Back to exercise 1](#Exercise-1:-which-numbers-draw-code-2?)

# %% tags=["solution"]
# Temperature 0.5 squares the probabilities: 1, 16, 4 and 9, out of 30.
low, high = (1 + 16) / 30, (1 + 16 + 4) / 30

check.numbers_of_code((low, high), p, 2, 0.5)

# %% [markdown] tags=["solution"]
# The piece becomes shorter, because 0.2 is less than 0.3, the sum of the squares: 0.2 · 0.2 ÷ 0.3 is about 0.13. (Code 3, with 0.3, keeps its length.) Code 1 gains and pushes the lower end up, so that some numbers u that drew code 2 draw code 1 now.

# %% [markdown] tags=["solution"]
# ### Solution 2
#
# [Back to exercise 2](#Exercise-2:-a-temperature-by-two-numbers)

# %% tags=["solution"]
# 0.7 is close to the limit of variety, and 1.0 too far from photographs.
# Halfway:
halfway = (0.7 + 1.0) / 2

check.temperature(halfway, vqvae2, prior, heldout)

# %% [markdown] tags=["solution"]
# ### Solution 3
#
# [Back to exercise 3](#Exercise-3:-top-p-for-a-whole-batch)


# %% tags=["solution"]
# A code is kept if those before it hold less than p. The likeliest always
# is: nothing is before it.
def top_p_of_batch(logits, p):
    ranked, order = logits.softmax(dim=1).sort(dim=1, descending=True)
    held_before = ranked.cumsum(dim=1) - ranked  # [B, K]
    ranked = ranked * (held_before < p)  # [B, K]
    kept = torch.zeros_like(ranked).scatter(1, order, ranked)  # [B, K]
    return kept / kept.sum(dim=1, keepdim=True)


check.top_p(top_p_of_batch)

# %% [markdown] tags=["solution"]
# ### Solution 4
#
# [Back to exercise 4](#Exercise-4:-is-it-memorising?)


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
