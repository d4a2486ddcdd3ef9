# %% [markdown]
# # 08 · Complete and edit in code space
#
# **What you will make.** Hide half of an image and let the prior draw it in many ways, and then under another label. Look at the codes that the prior did not expect, in a photograph and in a digit that we draw. Break the sampler in a way that one test does not detect and another does.
#
# **What you will learn.** How to keep known codes while you draw the others; which codes are still known when pixels are hidden, and what the encoder has to do with it; what −log P says about one code and about a whole image, and what it does not say; why the lower half completes better than the upper, and how several candidates help.
#
# **What you need.** Both levels from notebook [05](05_bottom_prior.ipynb), the cache from notebook [06](06_fast_sampling.ipynb), and the draw by inverse CDF from notebook [07](07_generate_and_judge.ipynb); what we use of them is repeated. Nothing is trained here, because everything comes from the weights that ship with the package.
#
# **Time.** About 38 minutes for the core and 165 for all, with the exercises; 75<!--= timings 08_complete_and_edit --> seconds to run on two CPU cores.
#
# ← [07 · Generate and judge](07_generate_and_judge.ipynb) · [the course](../README.md#the-course) · [words and symbols](GLOSSARY.md) · next: [09 · Scale up](09_scale_up.ipynb) →

# %% tags=["version"]
from pixelprior.course import needs

needs("0.2")  # says so if the installed package is older

# %%
import torch
import torch.nn.functional as F

from pixelprior import complete, surprise, vary
from pixelprior.assets import load_shipped
from pixelprior.cache import PixelCNNCache
from pixelprior.course import figures
from pixelprior.course.checks import editing as check
from pixelprior.course.checks import holes
from pixelprior.course.widgets import explore
from pixelprior.data.images import load_images
from pixelprior.sampling import inverse_cdf, probabilities, uniforms

# %% [markdown]
# ## 08.1 Keep what is known
#
# *Core · 13 minutes*
#
# A prior draws codes in raster order, row by row, and each code comes from the distribution P(code | codes before it). The vertical bar is the **condition bar**, read as "given": what stands after it is known when the code is drawn. (The label, and for a bottom code the top grid, are known too; we leave them out of the formulas.)
#
# Nothing in this requires that the earlier codes were *drawn*, so they may also come from a photograph. To complete an image we therefore change one line of the sampler: where a code is known, we keep it.
#
# We load both networks and encode two photographs, of trousers and of a dress. Then we forget the lower half of each grid. The number −1, which is no code, means "not known".


# %%
def codes_of(images):
    codes = vqvae2.get_code_indices(images)
    return codes["indices_top"], codes["indices_bottom"]


def class_names(labels):
    return [photographs.class_names[label] for label in labels]


vqvae2, prior = load_shipped()
photographs = load_images("fashion_mnist_mini", "test")
two, two_labels = photographs[torch.tensor([2, 13])]
# two [2, 1, 32, 32], two_labels [2]
known_top, known_bottom = codes_of(two)  # [2, 8, 8], [2, 16, 16]
known_top[:, 4:] = -1
known_bottom[:, 8:] = -1

# %%
print("photographs:       ", *class_names(two_labels))
print("top codes known:   ", (known_top >= 0).sum().item(), "of 2 × 64")
print("bottom codes known:", (known_bottom >= 0).sum().item(), "of 2 × 256")

# %% [markdown]
# Here is the sampler in its naive form, with a pass of the whole network for every code. One uniform number u decides each draw by the inverse CDF of notebook 07: we add up the probabilities of codes 0, 1, 2, … and take the first code at which the sum is above u. What is new is the line with `torch.where`.


# %%
@torch.no_grad()
def fill_in(logits_of, known, uniform):
    codes = known.clamp(min=0)  # [B, H, W], 0 where nothing is known yet
    for y in range(known.shape[1]):
        for x in range(known.shape[2]):
            logits = logits_of(codes)[:, :, y, x]  # [B, K]
            p = logits.double().softmax(dim=1)  # [B, K]
            u = uniform[:, y, x, None]  # [B, 1]
            drawn = (p.cumsum(dim=1) <= u).sum(dim=1)  # [B]
            given = known[:, y, x]  # [B], -1 where not known
            codes[:, y, x] = torch.where(given < 0, drawn, given)
    return codes


# %% [markdown]
# We complete the top grid first, and then the bottom grid given the *completed* top.

# %%
numbers = uniforms(0, 0, 2, 64 + 256)  # [2, 320]: seed 0, from image 0 on
z_top = fill_in(
    lambda codes: prior.prior_top(codes, two_labels),
    known_top,
    numbers[:, :64].view(2, 8, 8),
)  # [2, 8, 8]
z_bottom = fill_in(
    lambda codes: prior.prior_bottom(codes, z_top, two_labels),
    known_bottom,
    numbers[:, 64:].view(2, 16, 16),
)  # [2, 16, 16]

# %% [markdown]
# In the package this is `prior.sample` with known codes, which draws with its cache. Does it give the same codes when it uses the same uniform numbers?


# %%
def draw_the_rest(known_top, known_bottom, labels, seed):
    return prior.sample(
        len(labels),
        (8, 8),
        (16, 16),
        labels=labels,
        seed=seed,
        known_top=known_top,
        known_bottom=known_bottom,
    )  # [B, 8, 8], [B, 16, 16]


theirs = draw_the_rest(known_top, known_bottom, two_labels, seed=0)

# %%
print("same top codes:   ", torch.equal(z_top, theirs[0]))
print("same bottom codes:", torch.equal(z_bottom, theirs[1]))

# %% [markdown]
# **What was known of the trousers, and what was drawn?** White cells are those that are not known. Compare the upper half of both grids, code by code.

# %%
figures.show(
    figures.code_grids(
        {"top codes, known": known_top[0], "top codes, completed": z_top[0]},
        prior.num_embeddings,
    ),
    "known_codes",
)

# %% [markdown]
# In the upper half every code is kept, and the lower half is filled in.
#
# Look once more at the first line of `fill_in`: the grid starts with *all* known codes in it. So a known code that comes later in raster order is there from the beginning. Does the network make use of it? It does not, because the masks of notebook 02 hide what comes after. A code is drawn given what is known *before* it, and nothing else. For a lower half little is lost in this way, since within each grid all that is known comes before the hole. But the top grid is drawn first, so its lower half is drawn without the known bottom codes of the upper half. For a hole with known codes after it much more is lost, as 08.6 shows.

# %% [markdown]
# ## 08.2 From hidden pixels to unknown codes
#
# *Core · 10 minutes*
#
# In practice one hides pixels and not codes, so we ask which codes are still known when the picture has a hole. A top code stands for 4 × 4 pixels and a bottom code for 2 × 2, and we say that a code is known where **all** its pixels are known. To find these codes, we cut the mask, which is True where a pixel is known, into squares, and test for each square whether all of it is known.


# %%
def known_codes(known, side):  # bool [32, 32] to [side, side]
    pixels = 32 // side  # along each side of a code
    squares = known.view(side, pixels, side, pixels)
    return squares.all(dim=3).all(dim=1)  # [side, side]


# %% [markdown]
# **What does a round hole leave of the two grids?**

# %%
row, column = torch.meshgrid(
    torch.arange(32), torch.arange(32), indexing="ij"
)  # [32, 32] each
from_middle = ((row - 15.5) ** 2 + (column - 15.5) ** 2).sqrt()  # [32, 32]
around_hole = from_middle > 6  # [32, 32], True where known
hidden = {
    "pixels, 32 × 32": ~around_hole,
    "top codes, 8 × 8": ~known_codes(around_hole, 8),  # [8, 8]
    "bottom codes, 16 × 16": ~known_codes(around_hole, 16),  # [16, 16]
}

# %%
figures.show(
    figures.cells(
        {name: where.long() for name, where in hidden.items()},
        {
            "known": (figures.COLOURS["past"], ""),
            "not known": ("white", "////"),
        },
    ),
    "round_hole",
)

# %%
for name, where in hidden.items():
    share = where.float().mean()  # []
    print(f"{name:21} not known: {where.sum():3}, or {share:.0%}")

# %% [markdown]
# The coarser the grid, the larger the share that is lost, because one hidden pixel is enough to lose a code.
#
# There is a trap here: the encoder is a stack of convolutions, so a code is made from *more* pixels than the ones it stands for. If we encoded the whole photograph and then dropped the codes in the hole, the codes beside the hole would still depend on what is hidden. In a test of completion that is cheating, and in real use it is not possible at all, because the hidden pixels are not there. So we make the hidden pixels black *before* we encode. (In 08.1 we did encode the whole photograph, because there we tested the sampler and not the completion.)
#
# These steps together are the package's `complete` with `looks=1`, which we now write by hand. (Its default is two looks, which 08.3 explains.)


# %%
def known_grids(seen, known):
    """Both grids of the images as seen, -1 where a code is not known."""
    return [
        z.masked_fill(~known_codes(known, z.shape[1]), -1)
        for z in codes_of(seen)
    ]  # [B, 8, 8], [B, 16, 16]


# %%
grids = known_grids(two * around_hole, around_hole)  # black where hidden
codes = draw_the_rest(*grids, two_labels, seed=0)
by_hand = vqvae2.decode_codes(*codes)  # [2, 1, 32, 32]
package = complete(
    vqvae2, prior, two, around_hole, labels=two_labels, seed=0, looks=1
)  # [2, 1, 32, 32]
noisy = torch.where(around_hole, two, torch.rand(2, 1, 32, 32))
from_noisy = complete(
    vqvae2, prior, noisy, around_hole, labels=two_labels, seed=0, looks=1
)  # [2, 1, 32, 32]
apart = (by_hand - package).abs().max()  # []

# %%
print(f"by hand and package differ by < 1e-5: {bool(apart < 1e-5)}")
print(f"the same with noise in the hole: {torch.equal(package, from_noisy)}")

# %% [markdown]
# The second comparison is a test worth keeping: when we put noise in the place of the hidden pixels, the result must not change.

# %% [markdown]
# ## 08.3 The encoder saw a hole: look twice
#
# *Further · 15 minutes*
#
# The codes beside the hole no longer depend on the hidden pixels, but the encoder has seen *black* there instead. We encode 100 photographs whole, and once more with a rectangular hole, and count for each position how often its code differs.

# %%
hundred, hundred_labels = photographs[torch.arange(100)]
# hundred [100, 1, 32, 32], hundred_labels [100]
outside = torch.ones(32, 32, dtype=torch.bool)  # True where known
outside[8:20, 12:20] = False

# %%
changes, beside, farther = {}, {}, {}
for name, whole, seen in zip(
    ("top codes", "bottom codes"),
    codes_of(hundred),
    codes_of(hundred * outside),
    strict=True,
):
    share = (whole != seen).float().mean(dim=0)  # [side, side]
    hole = ~known_codes(outside, len(share))  # [side, side]
    # The hole, larger by one code on each side.
    larger = F.max_pool2d(hole[None].float(), 3, 1, 1)[0] > 0  # [side, side]
    changes[name] = (100 * share).masked_fill(hole, torch.nan)
    beside[name] = share[larger & ~hole].mean()  # []
    farther[name] = share[~larger].mean()  # []

# %% [markdown]
# **How many known codes does the black change?** The white positions are those of the hole, which are drawn anyway.

# %%
figures.show(
    figures.heatmaps(changes, unit="changed codes, percent", limits=(0, 100)),
    "ring_of_changes",
)

# %%
for name in changes:
    print(
        f"{name:12} changed: {beside[name]:.0%} beside the hole,"
        f" {farther[name]:.0%} farther off"
    )

# %% [markdown]
# Beside the hole most codes have changed, and they now say that the image turns black there. The prior relies on them, and often continues the black into the hole.
#
# The remedy is to look twice. We draw the hole once, as above, and call the result a **draft**. Then we put the known pixels back, with the draft in the hole, and encode *this* image, so that the codes beside the hole come from something plausible. We keep these codes, and draw the hole again. (The kept codes now depend on the draft, so this is a repair and not a correct draw.)


# %%
def completed_codes(images, known, labels, seed):
    """Look twice: a draft, then the hole anew."""
    grids = known_grids(images * known, known)
    draft = vqvae2.decode_codes(*draw_the_rest(*grids, labels, seed))
    seen = torch.where(known, images, draft)  # [B, 1, 32, 32]
    return draw_the_rest(*known_grids(seen, known), labels, seed)


# %%
first_look, package = (
    complete(
        vqvae2,
        prior,
        hundred,
        outside,
        labels=hundred_labels,
        seed=0,
        looks=looks,
    )
    for looks in (1, 2)
)  # [100, 1, 32, 32] each
second_look = vqvae2.decode_codes(
    *completed_codes(hundred, outside, hundred_labels, seed=0)
)  # [100, 1, 32, 32]
apart = (second_look - package).abs().max()  # []

# %%
print(f"by hand and package differ by < 1e-5: {bool(apart < 1e-5)}")

# %% [markdown]
# **Does the hole fit better after the second look?**

# %%
shown = torch.tensor([1, 4, 7, 9, 13, 14, 18, 22, 40, 55])
figures.show(
    figures.image_rows(
        {
            "photograph": hundred[shown],
            "known": (hundred * outside)[shown],
            "first look": first_look[shown],
            "second look": second_look[shown],
        },
        column_names=class_names(hundred_labels[shown]),
    ),
    "two_looks",
)

# %% [markdown]
# Ten images do not settle the question: the second look removes the dark patch from some of them, and it may leave or add one in another. So we measure the error inside the hole, the mean squared difference from the photograph, over all hundred images.

# %%
inside = ~outside  # [32, 32]
errors = torch.stack(
    [
        (each - hundred).square()[:, :, inside].mean(dim=(1, 2))
        for each in (first_look, second_look)
    ]
)  # [2, 100]
nearer = (errors[1] < errors[0]).sum().item()
mean = errors.mean(dim=1)  # [2]
assert mean[1] < 0.9 * mean[0]

# %%
print(f"the second look is nearer: {round(nearer, -1)} of 100, to tens")
print(f"the error inside falls by {1 - mean[1] / mean[0]:.0%}")

# %% [markdown]
# Over all hundred images the second look is nearer to the photograph more often than the first, and the mean error falls. Do not read more into that error: many completions are plausible and only one of them is the photograph, so a perfect draw would have an error too. The error is useful as a warning, but not as a goal.
#
# From here on we look twice, as `complete` does by default. Nothing of the hidden pixels gets in through the draft, because the draft was drawn without them.

# %% [markdown]
# ## 08.4 One half, many completions
#
# *Core · 9 minutes*
#
# A prior is not a repair tool that knows the answer. It is a distribution over answers, and another seed gives another answer. We keep the upper halves of five photographs, and draw the lower half of each with eight seeds. (By default `complete` draws twice, and encodes the first completion for the second: see 08.3.)

# %%
upper = row < 16  # [32, 32], True where known
chosen = torch.tensor([23, 7, 13, 31, 22])
images, labels = photographs[chosen]  # [5, 1, 32, 32], [5]
drawn = [
    complete(vqvae2, prior, images, upper, labels=labels, seed=seed)
    for seed in range(8)
]  # 8 × [5, 1, 32, 32]
ways = torch.stack([images, images * upper, *drawn], dim=1)
# ways [5, 10, 1, 32, 32]
columns = ["photograph", "known", *(f"seed {n}" for n in range(8))]

# %% [markdown]
# **What may lie below the same upper half?**

# %% tags=["cover"]
figures.show(
    figures.image_rows(
        dict(zip(class_names(labels), ways, strict=True)),
        column_names=columns,
    ),
    "many_completions",
)

# %% [markdown]
# The second column is all that the prior was given, apart from the label. In the draws the upper half stays nearly the same (not quite, because all pixels come from the decoder, the known ones too). Below it, heels, sleeves, the width of the skirt and the bag itself vary, and they go on from where the upper half ends. Not all draws are good: plaid is hard to continue, and some draws fall apart.
#
# **How much must be known before the rest is settled?** Here are seven draws for one coat, of which the first 12 rows of pixels are known. In JupyterLab, change the number of known rows, the seed and the image.


# %%
def completions(known_rows, seed, image):
    known = row < known_rows  # [32, 32]
    photo, label = photographs[image : image + 1]  # [1, 1, 32, 32], [1]
    seven = photo.expand(7, -1, -1, -1)  # [7, 1, 32, 32]
    labels = label.expand(7)  # [7]
    drawn = complete(vqvae2, prior, seven, known, labels=labels, seed=seed)
    pictures = torch.cat([photo, photo * known, drawn])  # [9, 1, 32, 32]
    name = f"{class_names(label)[0]},\n{known_rows} rows\nknown"
    draws = [f"draw {n}" for n in range(1, 8)]
    return figures.image_rows(
        {name: pictures}, column_names=["photograph", "known", *draws]
    )


# %%
explore(
    completions,
    "completions_of_a_coat",
    known_rows=[12, 0, 4, 8, 16, 20, 24, 28],
    seed=[0, 1, 2, 3, 4],
    image=[14, 0, 1, 7, 13, 23, 31],
)

# %% [markdown]
# At 0 rows the draws are samples of the class, and at 28 rows they are the photograph with another hem. In between you can see how the choice becomes narrower. Take the boot, image 0: how many rows have to be known before the heel is settled?

# %% [markdown]
# ## 08.5 What each code costs
#
# *Further · 17 minutes*
#
# In 04.10 and 05.4 we kept the cost of each code, −log P(code | codes before it). Now we call this cost the **surprise** of the code, and look at it image by image. A code with probability 1/2 costs log 2 nats, and one with probability 1/1000 costs log 1000 nats, ten times as much.
#
# We compute the surprise by hand, and compare it with that of the package. Its mean over all codes of a level has to be the loss of that level.


# %%
@torch.no_grad()
def costs(z_top, z_bottom, labels):
    top = F.cross_entropy(
        prior.prior_top(z_top, labels), z_top, reduction="none"
    )  # [B, 8, 8]
    bottom = F.cross_entropy(
        prior.prior_bottom(z_bottom, z_top, labels),
        z_bottom,
        reduction="none",
    )  # [B, 16, 16]
    return {"top": top, "bottom": bottom}


# %%
few = torch.tensor([1, 7, 13, 2, 9, 31])
images, labels = photographs[few]  # [6, 1, 32, 32], [6]
grids = codes_of(images)  # [6, 8, 8], [6, 16, 16]
nats, package = costs(*grids, labels), surprise(prior, *grids, labels)
with torch.no_grad():
    losses = prior.loss_function(*grids, labels)
differences = {}
for level in ("top", "bottom"):
    apart = nats[level] - package[level]  # [6, H, W]
    differences[f"{level}, by hand and package"] = apart.abs().max()  # []
    apart = nats[level].mean() - losses[f"{level}_loss"]  # []
    differences[f"{level}, mean and loss"] = apart.abs()  # []

# %%
for what, apart in differences.items():
    print(f"{what:27} differ by < 1e-5: {bool(apart < 1e-5)}")

# %% [markdown]
# To look at both levels at once, we spread the cost of each code evenly over its pixels, 16 for a top code and 4 for a bottom code, and add the two levels. The sum over the map is then −log P of the whole image, in nats.


# %%
def over_pixels(of_codes, side):  # [B, H, W] to [B, 32, 32]
    rows = of_codes.repeat_interleave(side, dim=1)  # [B, 32, W]
    return rows.repeat_interleave(side, dim=2) / side**2  # [B, 32, 32]


def surprise_map(nats):  # to [B, 32, 32], nats per pixel
    return over_pixels(nats["top"], 4) + over_pixels(nats["bottom"], 2)


def of_image(nats):  # to [B], −log P of each image
    return nats["top"].sum(dim=(1, 2)) + nats["bottom"].sum(dim=(1, 2))


# %%
def with_maps(images, maps, names, highest=1.5, difference=""):
    return figures.images_over_maps(
        images,
        maps,
        names,
        unit="nats per pixel",
        limits=(0, highest),
        difference=difference,
    )


# %% [markdown]
# **What in a photograph does the prior not expect?** The number above each image is the sum over its map. In the maps, yellow is the end of the scale or more, and dark blue is nearly nothing.

# %%
captions = [
    f"{name}\n{cost:.0f} nats"
    for name, cost in zip(class_names(labels), of_image(nats), strict=True)
]
figures.show(
    with_maps(images, surprise_map(nats), captions),
    "surprise_maps",
)

# %% [markdown]
# The background costs nearly nothing, and a plain surface is cheap, because once it has begun it goes on. What costs is print, plaid and the points where an outline begins or turns. Compare the plaid shirt with the trousers: it costs nearly three times as much.
#
# Such maps have to be read with one caution: a surprise appears where something *becomes known* in raster order. The left edge of a stripe is a surprise and its inside is not, because by then the stripe is known. So the map shows where new information arrives, but it does not show which part of the image is the cause.
#
# We can also ask what an image costs under another label than its own. The function below computes the surprise under both labels.


# %%
def under_two_labels(image, other):
    """A photograph, its own label and another, and both surprises."""
    photo, own = photographs[image : image + 1]  # [1, 1, 32, 32], [1]
    number = photographs.class_names.index(other)
    labels = torch.cat([own, torch.tensor([number])])  # [2]
    z = codes_of(photo.expand(2, -1, -1, -1))  # [2, 8, 8], [2, 16, 16]
    return photo, labels, surprise(prior, *z, labels)


# %% [markdown]
# **Which codes cost more under a wrong label?** The third map is the difference of the first two, on a scale of its own: red where a code costs more under the second label, blue where it costs less. In JupyterLab, go through the images and labels.


# %%
def map_of(image, label):
    photo, labels, nats = under_two_labels(image, label)
    names = [
        f"as {name}\n{cost:.0f} nats"
        for name, cost in zip(
            class_names(labels), of_image(nats), strict=True
        )
    ]
    more = {level: each[1:] - each[:1] for level, each in nats.items()}
    # more [1, 8, 8] and [1, 16, 16]
    top, bottom = (more[level].sum() for level in ("top", "bottom"))  # []
    names.append(f"nats more:\n{top:+.0f} top, {bottom:+.0f} bottom")
    maps = torch.cat([surprise_map(nats), surprise_map(more)])  # [3, 32, 32]
    photos = photo.expand(3, -1, -1, -1)  # [3, 1, 32, 32]
    return with_maps(photos, maps, names, difference="nats per pixel more")


# %%
explore(
    map_of,
    "surprise_by_label",
    image=[35, 0, 17, 18, 33, 44, 70, 88],
    label=[*reversed(photographs.class_names)],
)

# %% [markdown]
# The additional cost is in the top codes, and most of it in their first row, above all in the first code, where nothing but the label is known yet. The bottom codes cost more in some places and less in others, and together about what they did, because the top codes already say what is needed to predict them. The first code says most against the label, but it is the sum over all codes that refutes it.

# %% [markdown]
# ## 08.6 What raster order means: seams
#
# *Further · 22 minutes*
#
# A code is drawn given what is before it. In 08.1 and 08.4 we hid the lower half, so that within each grid all that was known came before the hole. Now we hide the *upper* half, so that what is known comes after the hole, in the top grid and in the bottom grid. (For the bottom codes this is not the whole truth: they are drawn last, given the whole top grid on all sides, as in notebook 05. But the top grid itself is drawn without what comes after.)
#
# We draw the lower half of 100 photographs, then instead their upper half, and each time compute the surprise of the whole images, known and drawn codes together.

# %%
lower = ~upper  # [32, 32], True where known
own = surprise(prior, *codes_of(hundred), hundred_labels)
mean_nats = {"photographs": of_image(own).mean()}  # []
more_nats = {}
for name, known in (("lower", upper), ("upper", lower)):
    z = completed_codes(hundred, known, hundred_labels, seed=0)
    nats = surprise(prior, *z, hundred_labels)
    mean_nats[f"{name} half drawn"] = of_image(nats).mean()  # []
    more = surprise_map(nats) - surprise_map(own)  # [100, 32, 32]
    more_nats[f"{name} half drawn"] = more.mean(dim=0)  # [32, 32]

# %% [markdown]
# How well do the completions fit, by the prior's own measure?

# %%
for name, mean in mean_nats.items():
    rounded = mean.round(decimals=-1)  # []
    print(f"{name:16} {rounded:.0f} nats per image, to tens")

# %% [markdown]
# With the lower half drawn, images cost a little more than photographs do. With the upper half drawn they cost still more, though as many codes were drawn, by the same prior. **Where are these nats?** Each map is the mean surprise of the 100 completions, less that of the photographs.

# %%
figures.show(
    figures.heatmaps(more_nats, unit="nats per pixel more", centred=True),
    "half_that_was_drawn",
)

# %% [markdown]
# In the right-hand map they are in the first rows of the known half. There the drawn half has to meet the known half, but the top codes of the drawn half were drawn without it: the shade changes, or a sleeve is not continued. We call this a **seam**. The prior could not avoid the seam while it drew, but afterwards it *measures* the seam in nats. (The faint band in the left-hand map, in the last known rows, has two causes: those codes were encoded together with a draft, and the top codes below them were drawn without the known bottom codes.)
#
# That gives us a remedy: we draw several candidates, and ask the prior which of them fits what is known. Two probabilities show that only the **known** codes count here (both are conditioned on the label as well):
#
# 1. We draw the unknown codes one after the other, so a candidate comes up with probability Q, the product of P(code | codes before it) over the *drawn* codes.
# 2. We would like it to come up with P(drawn codes | known codes). That is proportional to the probability of the full grids, which is the product of P(code | codes before it) over *all* codes, drawn and known.
#
# In the ratio of P(all codes) to Q, the drawn codes cancel, and the known ones are left:
#
# $$
# \frac{P(\text{all codes})}{Q} = \prod_{\text{known codes}} P(\text{code} \mid \text{codes before it}) = e^{-\text{cost of the known codes}}
# $$
#
# So we give each candidate this ratio, divided by the sum of the ratios of all candidates, as its **weight** w. (In the division, any factor that all candidates share drops out, so "proportional" was enough.) In PyTorch the weights are `(-cost).softmax(0)`. Then we draw one of the candidates by weight, as we would draw a code by its probability. This is called **sampling importance resampling**. The more candidates there are, the nearer such a draw comes to P(drawn codes | known codes).
#
# Known top codes before the hole cost the same for all candidates, so they change no weight. But mind the two levels: the whole top grid is drawn before the bottom grid, so *every* known bottom code comes after a hole in the top.


# %%
def cost_of_known(z_top, z_bottom, known_top, known_bottom, labels):
    nats = surprise(prior, z_top, z_bottom, labels)
    top = nats["top"] * (known_top >= 0)  # [B, 8, 8]
    bottom = nats["bottom"] * (known_bottom >= 0)  # [B, 16, 16]
    return top.sum(dim=(1, 2)) + bottom.sum(dim=(1, 2))  # [B]


def candidates(seen, known, label, count, seed):
    """Grids and cost of `count` candidates for one image [1, 1, 32, 32]."""
    known_top, known_bottom = (
        z.expand(count, -1, -1) for z in known_grids(seen, known)
    )  # [count, 8, 8], [count, 16, 16]
    labels = label.expand(count)  # [count]
    z = draw_the_rest(known_top, known_bottom, labels, seed)
    return z, cost_of_known(*z, known_top, known_bottom, labels)


# %% [markdown]
# We look twice here as well, and choose once by cost and once by weight. The draft is the *cheapest* of 16 candidates: it is not a result, but one picture for the encoder to see, so we take the candidate with the largest weight. Then 16 new candidates are drawn, and the result is one of these, drawn by weight, because only such draws come near to P(drawn codes | known codes).


# %%
def by_cost(photo, known, label, count=16):
    """Draft, completions [count, 1, 32, 32], cheapest first, and costs."""
    z, cost = candidates(photo * known, known, label, count, seed=0)
    draft = vqvae2.decode_codes(*z)[cost.argmin()]  # [1, 32, 32]
    seen = torch.where(known, photo, draft)  # [1, 1, 32, 32]
    z, cost = candidates(seen, known, label, count, seed=1)
    order = cost.argsort()  # [count]
    return draft, vqvae2.decode_codes(*z)[order], cost[order]


# %%
photos, labels = photographs[torch.tensor([13, 7, 9, 22, 10, 4, 20, 1])]
# photos [8, 1, 32, 32], labels [8]
ranked = [
    by_cost(photo[None], lower, label[None])
    for photo, label in zip(photos, labels, strict=True)
]
drafts, pictures, cost = (
    torch.stack(each) for each in zip(*ranked, strict=True)
)  # [8, 1, 32, 32], [8, 16, 1, 32, 32], [8, 16]

# %%
weight = (-cost.double()).softmax(dim=1)  # [8, 16]
u = uniforms(0, 0, 8, 1)[:, 0]  # [8]
number = inverse_cdf(weight, u)  # [8]; 0 is the cheapest
by_weight = pictures[torch.arange(8), number]  # [8, 1, 32, 32]

# %% [markdown]
# **Do the costs tell good from bad?** The last three rows come from the same 16 candidates: the most expensive of them, the cheapest, and the result, which was drawn by weight.

# %%
figures.show(
    figures.image_rows(
        {
            "photograph": photos,
            "known": photos * lower,
            "draft": drafts,
            "most\nexpensive": pictures[:, -1],
            "cheapest": pictures[:, 0],
            "drawn\nby weight": by_weight,
        },
        column_names=class_names(labels),
    ),
    "drafts_by_cost",
)

# %% [markdown]
# In the row of the most expensive candidates, most halves do not fit together. In the row of the cheapest most of them do, and the photograph was not used to choose them. Where the last two rows differ, another candidate had a share of the weight, and was drawn.
#
# Some drafts are much darker than their known half. In such a column the cheapest candidate can be worse than the most expensive one: look for it. This is the effect of 08.3 again: the known codes beside the hole were encoded next to black, so the cheapest *draft* is dark. In the second look the same codes were encoded next to this draft, and they can favour dark once more. Codes that depend on the draft are no independent evidence.
#
# How many of the sixteen candidates share the weight? The **effective sample size** answers this with one number,
#
# $$
# n_\text{eff} = \frac{1}{\sum_i w_i^2}
# $$
#
# where the weights w_i sum to 1. It is 1 if one candidate has all the weight, and 16 if all weigh the same. (The formula is from Kong, Liu and Wong; see the sources.)

# %%
n_eff = 1 / weight.square().sum(dim=1)  # [8]
spread = cost[:, -1] - cost[:, 0]  # [8]
error = (pictures - photos[:, None]).square()[..., upper]  # [8, 16, 1, 512]
error = error.mean(dim=(2, 3))  # [8, 16]
less = error[:, 0] < error.mean(dim=1)  # [8]

# %%
print(
    "effective sample size of 16 candidates:"
    f" from {n_eff.min():.0f} to {n_eff.max():.0f}"
)
for words, which in (
    ("the most expensive costs over 30 nats more", spread > 30),
    ("the cheapest was also drawn by weight", number == 0),
    ("the cheapest has less error than the candidates' mean", less),
):
    print(f"{words + ':':55} {which.sum()} of 8 images")

# %% [markdown]
# A candidate that costs 30 nats more than another has exp(−30) of its weight, which is practically nothing. So the few cheapest candidates share the weight, and to draw by weight is to draw among these few. Sixteen candidates are therefore not many: a correct draw from P(drawn codes | known codes) would need many more, because good upper halves are rare among those drawn without the lower half. What we have is better than a draw without candidates, but it is not a correct draw.

# %% [markdown]
# ## 08.7 Another label, another top
#
# *Further · 12 minutes*
#
# The label is a condition like any other, so nothing keeps us from giving a wrong one. We keep the upper half of a dress and draw the lower half under each of the ten labels, and then do the same with a pair of trousers. Last, `vary` keeps *all* top codes of the dress, and draws the bottom codes anew under each label.

# %%
ten = torch.arange(10)  # [10], one image under each label
dress = photographs[13:14][0].expand(10, -1, -1, -1)  # [10, 1, 32, 32]
trousers = photographs[2:3][0].expand(10, -1, -1, -1)  # [10, 1, 32, 32]
relabelled = {
    "upper half\nof a dress": complete(
        vqvae2, prior, dress, upper, labels=ten, seed=0
    ),
    "upper half\nof trousers": complete(
        vqvae2, prior, trousers, upper, labels=ten, seed=0
    ),
    "top codes\nof the dress": vary(vqvae2, prior, dress, labels=ten, seed=0),
}  # [10, 1, 32, 32] each

# %% [markdown]
# **What grows below the upper half of a dress, if we say that it is a boot?** Above each column stands the label that we gave.

# %%
figures.show(
    figures.image_rows(relabelled, column_names=photographs.class_names),
    "change_of_label",
)

# %% [markdown]
# The label can decide what grows: under the three kinds of shoes, something like a shoe. The upper part of the dress becomes the shaft of a boot, because the prior has to continue the codes that are kept. Under the other labels the dress stays a dress, and under nearly every label the trousers stay trousers: what is seen says more than the label.
#
# The third row shows the same dress ten times. The top codes hold the outline and more, so that they leave the label little to decide. (Notebook 05 found the same with the top of another image.) To turn a dress into a boot, you have to draw top codes anew as well.
#
# Section 05.6 decoded bottom codes with the top codes of another image and measured their cost, and in *your turn* B of notebook 00 the nats revealed such an image. Now we ask at which positions the codes surprise the prior after a swap. We swap within two pairs, and each image gets the label of the image from which its top codes come.

# %%
pair, pair_labels = photographs[torch.tensor([7, 14, 1, 0])]
# pair [4, 1, 32, 32], pair_labels [4]
z_top, z_bottom = codes_of(pair)  # [4, 8, 8], [4, 16, 16]
other = torch.tensor([1, 0, 3, 2])  # each takes the top of its partner
before = surprise(prior, z_top, z_bottom, pair_labels)
after = surprise(prior, z_top[other], z_bottom, pair_labels[other])
own_images = vqvae2.decode_codes(z_top, z_bottom)  # [4, 1, 32, 32]
swapped = vqvae2.decode_codes(z_top[other], z_bottom)  # [4, 1, 32, 32]
means = {
    level: [each[level].sum(dim=(1, 2)).mean() for each in (before, after)]
    for level in ("top", "bottom")
}  # two numbers [] for each level

# %% [markdown]
# **Which codes surprise the prior when the top codes are swapped?** Each image is followed by itself with the other's top codes, and the caption names the label under which the surprise was computed. (Here yellow is 3 nats per pixel or more.)

# %%
sequence = [0, 4, 1, 5, 2, 6, 3, 7]  # each image before its swap
captions = []
for label, of_top in zip(pair_labels, pair_labels[other], strict=True):
    own_name, top_name = class_names([label, of_top])
    captions += [f"own codes\nas {own_name}", f"other's top\nas {top_name}"]
figures.show(
    with_maps(
        torch.cat([own_images, swapped])[sequence],
        torch.cat([surprise_map(before), surprise_map(after)])[sequence],
        captions,
        highest=3,
    ),
    "swapped_tops",
)

# %%
for level, (own_mean, mean) in means.items():
    print(f"{level:6} {own_mean:5.0f} nats per image, swapped {mean:5.0f}")

# %% [markdown]
# The top grids cost what they did. This had to be so, because each is still a whole grid with the label of its own image. All the additional cost is in the *bottom* codes, which are now conditioned on a top that describes something else. Between the plaid shirt and the plain coat it lies all over the cloth, because plain is not plaid, and it is high at shoulders and sides, where the outlines do not quite agree. Between the pullover and the boot it lies wherever one has cloth and the other has background.
#
# Look at the second and the fourth picture as well: shade and pattern are mixed in a way that neither photograph has. A swap is an edit, and the prior tells you its cost.

# %% [markdown]
# ## 08.8 An odd image
#
# *Further · 20 minutes*
#
# A prior has learned what photographs of clothes look like. Can it tell what is *not* one? We make a few odd images: a sneaker upside down, a pullover with stripes pasted on it, two digits drawn by code, white, noise, and black.


# %%
sneaker, pullover = photographs[torch.tensor([9, 1])][0][:, None]
# sneaker and pullover [1, 1, 32, 32] each
pasted = pullover.clone()  # [1, 1, 32, 32]
pasted[..., 17:25, 12:20] = torch.tensor([0.0, 1.0]).repeat(4)
seven = torch.zeros(1, 1, 32, 32)
seven[..., 6:9, 9:24] = 1  # the horizontal stroke
for y in range(9, 27):  # the other, to the left by 1 in every 2 rows
    seven[..., y, 21 - (y - 9) // 2 : 24 - (y - 9) // 2] = 1
one = torch.zeros(1, 1, 32, 32)
one[..., 6:26, 15:18] = 1

# %%
torch.manual_seed(0)
odd = {
    "sneaker": sneaker,
    "upside down": sneaker.flip(2),
    "pullover": pullover,
    "with stripes": pasted,
    "digit seven": seven,
    "digit one": one,
    "white": torch.ones(1, 1, 32, 32),
    "noise": torch.rand(1, 1, 32, 32),
    "black": torch.zeros(1, 1, 32, 32),
}  # [1, 1, 32, 32] each

# %% [markdown]
# Most of these images have no fitting label. So we try all ten labels, and choose for each image the one under which it costs least.


# %%
def cheapest_label(images):
    """The label [B] under which each image costs least, and its surprise."""
    z = codes_of(images)  # [B, 8, 8], [B, 16, 16]
    under_each = torch.stack(
        [
            of_image(surprise(prior, *z, torch.full((len(images),), label)))
            for label in range(10)
        ]
    )  # [10, B]
    chosen = under_each.argmin(dim=0)  # [B]
    return chosen, surprise(prior, *z, chosen)


odd_images = torch.cat(list(odd.values()))  # [9, 1, 32, 32]
odd_labels, odd_nats = cheapest_label(odd_images)
scores = of_image(odd_nats)  # [9]

# %% [markdown]
# **Which of them does the prior find odd, and where?** The second line of a caption is the label that we chose.

# %%
captions = [
    f"{name}\nas {label}\n{score:.0f} nats"
    for name, label, score in zip(
        odd, class_names(odd_labels), scores, strict=True
    )
]
figures.show(
    with_maps(odd_images, surprise_map(odd_nats), captions),
    "odd_images",
)

# %%
for name, score in zip(odd, scores.round(decimals=-1), strict=True):
    print(f"{name:13} {score:5.0f} nats, to tens")

# %% [markdown]
# The map of the pasted square is nearly what one hopes for: the square is about as bright as the word above it, and the rest of the pullover costs little more than it did. The digits are brighter than the background around them: the seven is brightest around the lower part of its oblique stroke, and the digit one along its stroke. White is bright at its border, where photographs are black, but inside, white goes on and is soon expected.
#
# In the sums, white and noise cost more than any of these photographs, but the seven costs what a photograph costs (08.6 has their mean). So the sum does not show that the seven is no piece of clothing.
#
# Is "nats per image" a detector of odd images? We test it on many images: 200 photographs, and the same turned upside down, each with its own label. We raise an alarm above the cost that 19 of 20 upright photographs stay below.

# %%
images, labels = photographs[torch.arange(200)]  # [200, 1, 32, 32], [200]
upright = of_image(surprise(prior, *codes_of(images), labels))  # [200]
turned = of_image(surprise(prior, *codes_of(images.flip(2)), labels))
low, alarm = upright.quantile(torch.tensor([0.05, 0.95]))  # [] each
more = (turned - upright).mean().round(decimals=-1)  # []
one, black = (
    scores[list(odd).index(name)] for name in ("digit one", "black")
)
rank = torch.arange(1, 201) / 2  # [200], percent

# %%
print("upside down:")
for words, which in (
    ("cost more than the same image upright", turned > upright),
    ("raise the alarm", turned > alarm),
):
    print(f"    {words + ':':38} {which.float().mean():.0%}")
print(f"    cost more by about {more:.0f} nats on average, to tens")
print("the digit one costs less than 19 of 20 photographs:", bool(one < low))
print("black costs less than all 200:", bool(black < upright.min()))

# %% [markdown]
# **How can nearly all of them cost more, and so few raise the alarm?** Each curve shows the 200 images in the order of their cost.

# %%
figures.show(
    figures.curves(
        {
            "upright": (rank, upright.sort().values),
            "upside down": (rank, turned.sort().values),
            "black": (rank, scores[-1].expand(200)),
        },
        x_label="share of the images, percent",
        y_label="nats per image",
        bands={"alarm": (alarm.item(), 1000)},
        y_limits=(0, 1000),
    ),
    "alarm",
)

# %% [markdown]
# Nearly every photograph costs more when it is turned upside down. But photographs differ from one another by far more than that. As a comparison of *the same* content the cost is precise, but as a score over all images it measures first of all how much detail they have.
#
# That is also why black is the cheapest of all. It has no detail, and its codes cost little, because the prior has learned that background is followed by more background. Black is more probable than any of the photographs, and no photograph looks like it. The digit one is the next cheapest of our odd images. (Nalisnick and others report the same of likelihoods of pixels, while ours are of codes: models trained on one set of images can find another set more likely, and Fashion-MNIST and handwritten digits are one of their pairs.) **A high likelihood does not mean that an image is good, or that it is normal.** (This is no contradiction: there is one black image and there are a great many plaid shirts, so each single shirt is improbable, and all shirts together are not.)
#
# Two remedies are in use. One is to raise the alarm on *both* sides: black costs less than any of the 200 photographs, and the digit one less than nearly all of them, which is as odd as costing too much. The other is to compare the cost with how complicated the image is, for instance with the bytes of its PNG. And where you can, compare like with like, as in 08.6: candidates for the same hole.
#
# One thing is still missing: the prior judges only *codes*. **Do the codes say what is in the image?** We decode them, and measure the error.


# %%
def mean_squared(images):  # to [B], of what the decoder gives back
    with torch.no_grad():
        back = vqvae2.decode_codes(*codes_of(images))  # [B, 1, 32, 32]
    return (back - images).square().mean(dim=(1, 2, 3))


largest = mean_squared(images).max()  # [], of the 200 photographs
odd_errors = mean_squared(odd_images)  # [9]

# %%
print(f"{'largest of 200':15} {largest:.3f}")
for name, error in zip(odd, odd_errors, strict=True):
    print(f"{name:15} {error:.3f}")

# %% [markdown]
# Where the decoded picture differs visibly from the image, the codes could not say what the image was. White and noise fail that test: their errors are many times the largest of the 200 photographs. Compare the error of the stripes with this largest one, too. The seven passes this test, and an alarm on both sides of the cost lets the seven through as well.

# %% [markdown]
# ## 08.9 Where it breaks: the cache keeps what was drawn
#
# *Further · 16 minutes*
#
# The naive loop of 08.1 puts the known code into the grid, and the next pass reads the grid, so that little can go wrong there. The cached sampler of notebook 06 does not read the grid, and we have to give it each code twice: `keep_code` relays the code to the later steps along the row, and `keep_row` relays the whole row to the rows below.
#
# Here is the cached loop, with a slip that is made in practice. Where a code is known, the network still gives probabilities, and the loop still draws. Afterwards the known code has to be relayed. The slip is to relay the code that was *drawn* instead, along the row, to the rows below, or both.


# %%
@torch.no_grad()
def cached(net, known, condition, uniform, along="kept", below="kept"):
    """Codes [B, H, W]; `along` and `below` name the grid that is relayed."""
    drawn, kept = known.clone(), known.clone()  # [B, H, W]
    grid = {"drawn": drawn, "kept": kept}
    cache = PixelCNNCache(net, len(known), known.shape[1:])
    for y in range(known.shape[1]):
        cache.row_step(condition)  # condition [B, p, 1, 1]
        for x in range(known.shape[2]):
            p = probabilities(cache.code_step(x))  # [B, K]
            new = inverse_cdf(p, uniform[:, y, x])  # [B]
            given = known[:, y, x]  # [B]
            drawn[:, y, x] = new
            kept[:, y, x] = torch.where(given < 0, new, given)
            cache.keep_code(grid[along][:, y, x])
        cache.keep_row(grid[below][:, y])
    return kept


# %% [markdown]
# With or without a slip, the known codes are in the grid that the loop returns, so the known part of the picture looks fine. To see the rest of it, we complete images of which the left half is known, with the same uniform numbers each time. The slip is in the top grid alone, and the package draws the bottom grid given this top. (We look twice, as in 08.3: the known codes are encoded with a draft beside them.)

# %%
left = column < 16  # [32, 32]
images, labels = photographs[torch.tensor([1, 7, 13, 2, 14, 35, 10, 0])]
# images [8, 1, 32, 32], labels [8]
draft = complete(
    vqvae2, prior, images, left, labels=labels, seed=1, looks=1
)  # [8, 1, 32, 32]
grids = known_grids(torch.where(left, images, draft), left)
# grids [8, 8, 8], [8, 16, 16]
slips = {
    "no slip": {},
    "slip along\nthe row": {"along": "drawn"},
    "slip to the\nrows below": {"below": "drawn"},
    "both slips": {"along": "drawn", "below": "drawn"},
}

# %%
net = prior.prior_top
condition = net.label_condition(labels, 8)  # [8, p, 1, 1]
u = uniforms(0, 0, 8, 64).view(8, 8, 8)  # [8, 8, 8]
pictures, slip_nats = {"known": images * left}, {}
for name, slip in slips.items():
    z_top = cached(net, grids[0], condition, u, **slip)  # [8, 8, 8]
    z = draw_the_rest(z_top, grids[1], labels, seed=0)
    pictures[name] = vqvae2.decode_codes(*z)  # [8, 1, 32, 32]
    slip_nats[name] = of_image(surprise(prior, *z, labels)).mean()  # []

# %% [markdown]
# **Can you see the slip in the pictures?**

# %%
figures.show(
    figures.image_rows(pictures, column_names=class_names(labels)),
    "forgetful_cache",
)

# %%
for name, nats in slip_nats.items():
    name, rounded = name.replace("\n", " "), nats.round(decimals=-1)  # []
    print(f"{name:22} {rounded:.0f} nats per image, to tens")

# %% [markdown]
# In the last row the right-hand half was drawn for a left half that is not in the picture: the one that the sampler drew and did not keep. With the slip to the rows below alone, the pictures mostly look fine. If you saw only this row, would you notice the slip? Its mean cost does not tell either, unless you know what it would be without the slip.
#
# The check that does not need the eye is the one of 08.1: we use the same uniform numbers, run the naive loop beside the cached one, and look for the first code that differs. But it matters which codes are known.


# %%
def first_difference(naive, fast):
    positions = (naive != fast).nonzero()  # [how many, 3]
    if len(positions) == 0:
        return "equal"
    image, y, x = positions[0].tolist()
    return f"image {image}, row {y}, column {x}"


# %%
z_top = codes_of(images)[0]  # [8, 8, 8]
checkerboard = (row // 4 + column // 4) % 2 == 0  # [32, 32]
masks = {
    "upper half": upper,
    "left half": left,
    "checkerboard": checkerboard,
}
differences = {}
for name, mask in masks.items():
    known = z_top.masked_fill(~known_codes(mask, 8), -1)  # [8, 8, 8]
    naive = fill_in(lambda z: net(z, labels), known, u)  # [8, 8, 8]
    for slip, how in slips.items():
        fast = cached(net, known, condition, u, **how)  # [8, 8, 8]
        differences[name, slip] = first_difference(naive, fast)
    assert torch.equal(naive, cached(net, known, condition, u))

# %% [markdown]
# Which known part of the grid reveals which slip? Each line tells where the naive and the cached loop draw different codes for the first time.

# %%
for (name, slip), difference in differences.items():
    slip = slip.replace("\n", " ")
    print(f"{name + ' known,':20} {slip + ':':24} {difference}")

# %% [markdown]
# With the upper half known, the loop with the slip along the row is **equal** to the naive loop, although it is wrong. Where every row is either all known or all drawn, no drawn code ever has a known one to its left, so a sampler with this slip would pass every test on lower halves. The left half and the checkerboard reveal all three slips.
#
# So a test of equality needs an input in which every possible mistake can show. A checkerboard is such an input, because nearly every drawn code in it has a known code to its left and another above it. The first code that differs then tells where to look. With the checkerboard, a first difference in row 0 points to `keep_code`, which relays along the row. There may be another slip behind it, so correct the first and run the test again. A first difference in row 1 points to `keep_row`.

# %% [markdown]
# ## 08.10 Exercises
#
# *Further · 24 minutes*
#
# Replace the `None` in a cell with your answer and run the cell, which then tries the answer out.

# %% [markdown] tags=["about-solutions"]
# Each exercise has a [solution](#Solutions) at the end of the notebook.

# %% [markdown]
# ### Exercise 1: vary only the texture
#
# *Difficulty 2 of 5 · importance 5 of 5 · 6 minutes*
#
# Write `vary` yourself, the package's function that keeps the outline of an image and draws its texture anew. Your function gets images [B, 1, 32, 32], labels [B] and a seed. It keeps the top codes of the images, draws the bottom codes under these labels, and returns three things: z_top, z_bottom, and the decoded images.
#
# <details><summary>Hint 1</summary>
#
# The encoder gives both grids of codes. Keep the top grid alone.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `prior.sample(…, known_top=…)` keeps what is known and draws the rest. Then decode both grids.
#
# </details>


# %%
some_images, some_labels = photographs[torch.tensor([2, 14, 9, 45])]
# some_images [4, 1, 32, 32], some_labels [4]


# %% tags=["exercise"]
def my_vary(images, labels, seed):
    return None  # your turn: z_top, z_bottom, pictures


check.texture(my_vary, vqvae2, prior, some_images, some_labels)


# %% [markdown] tags=["about-solutions"]
# [To solution 1](#Solution-1)

# %% [markdown]
# When the check accepts your function, look at what it draws under labels of your choice:
#
# ```python
# labels = torch.tensor([8, 2, 7, 3])
# _, _, varied = my_vary(some_images, labels, seed=1)
# rows = {"photograph": some_images, "varied": varied}
# names = ["as " + name for name in class_names(labels)]
# figure = figures.image_rows(rows, column_names=names)
# figures.picture(figure, "four photographs, each with another texture")
# ```
#
# The outline stays, whatever the label is. What changes the texture more, another label or another seed?

# %% [markdown]
# ### Exercise 2: the most and the least surprising
#
# *Difficulty 3 of 5 · importance 3 of 5 · 6 minutes · after 08.5*
#
# Here are the codes of 100 more test images, with their labels. Guess, before you compute, which class costs most per image on average, and which costs least. Then find the single image that surprises the prior most, and the one that surprises it least. Give four numbers: two classes as `more_labels` has them, then two images, counted from 0. In both pairs the most expensive comes first.
#
# <details><summary>Hint 1</summary>
#
# `surprise` gives the nats of each code. Sum them over the codes of both levels, image by image.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# For the classes, take the mean over the images of each label.
#
# </details>

# %%
more, more_labels = photographs[torch.arange(500, 600)]
# more [100, 1, 32, 32], more_labels [100]
more_top, more_bottom = codes_of(more)  # [100, 8, 8], [100, 16, 16]

# %% tags=["exercise"]
my_extremes = None  # your turn: (class, class, image, image)

check.extremes(my_extremes, prior, more_top, more_bottom, more_labels)

# %% [markdown] tags=["about-solutions"]
# [To solution 2](#Solution-2)

# %% [markdown]
# When the check accepts your answer, look at your two images:
#
# ```python
# ends = torch.tensor(my_extremes[2:])
# names = class_names(more_labels[ends])
# figure = figures.image_rows({"extremes": more[ends]}, column_names=names)
# figures.picture(figure, "the most and the least surprising image")
# ```
#
# Why are they the extremes? Plain cloth is cheap, because each code follows from those before it, and cut and print that vary are expensive. The same holds for classes: those whose pieces are alike and plain cost least.

# %% [markdown]
# ### Exercise 3: complete a hole
#
# *Difficulty 4 of 5 · importance 5 of 5 · 12 minutes · after 08.6*
#
# Write a function that gets the known codes of one image, [8, 8] and [16, 16] with −1 where nothing is known, its label (a tensor of shape [1]), and a count. It draws as many candidates as the count says, and returns three things: the top grids and the bottom grids of all candidates, and the weights of the candidates, which sum to 1. You can start from `candidates` of 08.6, which gives the costs.
#
# Your function is tried on four holes: the upper half, a window at the right-hand edge, the left half, and a window that begins at the upper edge. For each hole the check draws 32 candidates and reports the effective sample size of your weights. Do you expect a large number or a small one?
#
# <details><summary>Hint 1</summary>
#
# Repeat the known codes and the label, so that all candidates are drawn in one batch.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The cost of the *known* codes says how well a candidate agrees with what is known. `cost_of_known` of 08.6 computes it.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Weights that are proportional to exp(−cost) and sum to 1 are the softmax of −cost.
#
# </details>


# %% tags=["exercise"]
def my_complete(known_top, known_bottom, label, count):
    return None  # your turn: [count, 8, 8], [count, 16, 16], [count]


holes.hole(my_complete, vqvae2, prior, some_images, some_labels)


# %% [markdown] tags=["about-solutions"]
# [To solution 3](#Solution-3)

# %% [markdown]
# ## What you can do now
#
# - Keep some codes and draw the others, given a mask of pixels, and say what the encoder and raster order do to the result.
# - Read a map of surprise, draw among candidates by weight, and say why the likelihood of a whole image is a poor judge of oddness.
# - Test a cached sampler with known codes in such a way that its slips show.
#
# **In papers**, completing is **inpainting** or **infilling** in **latent space**, and drawing several and weighting them is **importance sampling**.
#
# **To take away.** Which halves complete well if codes are drawn column by column? What would you train to complete holes of any shape, without candidates? If the label that costs least is taken for the class of an image, you have a classifier: how would you make it cheaper than ten passes? ([Answers](ANSWERS.md#08--complete-and-edit-in-code-space))
#
# **Sources.** Completing images with a model that draws pixel by pixel: van den Oord, Kalchbrenner and Kavukcuoglu 2016, [arXiv 1601.06759](https://arxiv.org/abs/1601.06759), section 5. Two levels of codes: Razavi, van den Oord and Vinyals 2019, [arXiv 1906.00446](https://arxiv.org/abs/1906.00446), section 3.2. Sampling importance resampling: Rubin 1988, *Using the SIR algorithm to simulate posterior distributions*, Bayesian Statistics 3. Effective sample size: Kong, Liu and Wong 1994, *Sequential imputations and Bayesian missing data problems*, Journal of the American Statistical Association 89, section 4.1 (in an equivalent form). Odd images that a likelihood prefers: Nalisnick, Matsukawa, Teh, Gorur and Lakshminarayanan 2019, [arXiv 1810.09136](https://arxiv.org/abs/1810.09136), section 3; how complicated an image is: Serrà, Álvarez, Gómez, Slizovskaia, Núñez and Luque 2020, [arXiv 1909.11480](https://arxiv.org/abs/1909.11480), sections 2 and 3. The photographs: Xiao, Rasul and Vollgraf 2017, [arXiv 1708.07747](https://arxiv.org/abs/1708.07747).
#
# ← [07 · Generate and judge](07_generate_and_judge.ipynb) · [the course](../README.md#the-course) · [words and symbols](GLOSSARY.md) · next: [09 · Scale up](09_scale_up.ipynb) →

# %% [markdown] tags=["solution"]
# ## Solutions
#
# A solution is one answer of several: the checks judge what an answer does, not how it is written.

# %% [markdown] tags=["solution"]
# ### Solution 1
#
# [Back to exercise 1](#Exercise-1:-vary-only-the-texture)


# %% tags=["solution"]
# The encoder gives both grids; only the top grid is given as known.
def new_texture(images, labels, seed):
    known_top, _ = codes_of(images)  # [B, 8, 8]
    z_top, z_bottom = prior.sample(
        len(images),
        (8, 8),
        (16, 16),
        labels=labels,
        seed=seed,
        known_top=known_top,
    )  # [B, 8, 8], [B, 16, 16]
    return z_top, z_bottom, vqvae2.decode_codes(z_top, z_bottom)


check.texture(new_texture, vqvae2, prior, some_images, some_labels)

# %% [markdown] tags=["solution"]
# ### Solution 2
#
# [Back to exercise 2](#Exercise-2:-the-most-and-the-least-surprising)

# %% tags=["solution"]
# −log P of an image is the sum over the codes of both levels.
sums = of_image(surprise(prior, more_top, more_bottom, more_labels))  # [100]
means = torch.stack(
    [sums[more_labels == c].mean() for c in range(10)]
)  # [10]
extremes = means.argmax(), means.argmin(), sums.argmax(), sums.argmin()

check.extremes(extremes, prior, more_top, more_bottom, more_labels)

# %% [markdown] tags=["solution"]
# ### Solution 3
#
# [Back to exercise 3](#Exercise-3:-complete-a-hole)


# %% tags=["solution"]
# All candidates in one batch, then the cost of the known codes of both grids.
def weighed(known_top, known_bottom, label, count):
    labels = torch.full((count,), int(label))  # [count]
    tops = known_top.expand(count, -1, -1)  # [count, 8, 8]
    bottoms = known_bottom.expand(count, -1, -1)  # [count, 16, 16]
    z_top, z_bottom = draw_the_rest(tops, bottoms, labels, seed=5)
    cost = cost_of_known(z_top, z_bottom, tops, bottoms, labels)  # [count]
    return z_top, z_bottom, (-cost).softmax(dim=0)


holes.hole(weighed, vqvae2, prior, some_images, some_labels)

# %% [markdown] tags=["solution"]
# All four are small: in each hole, codes were drawn before known codes that come after them in raster order, and few of the 32 candidates fit those known codes.
