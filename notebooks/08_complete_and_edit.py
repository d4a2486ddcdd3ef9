# %% [markdown]
# # 08 · Complete and edit in code space
#
# **What you will do.** Hide half of an image and let the prior draw it in many ways, and then under another label. Look at the codes that the prior did not expect, in a photograph and in a digit that we draw. Break the sampler in a way that one test does not detect and another does.
#
# **What you will learn.** How to keep known codes while you draw the others; which codes are still known when pixels are hidden, and what the encoder has to do with it; what −log P says about one code and about a whole image, and what it does not say; why the lower half completes better than the upper, and how several candidates help.
#
# **What you need.** Both levels from notebook [05](05_bottom_prior.ipynb), the cache from notebook [06](06_fast_sampling.ipynb), and the draw by inverse CDF from notebook [07](07_generate_and_judge.ipynb); what we use of them is repeated. Nothing is trained here, because everything comes from the weights that ship with the package.
#
# **Time.** About 25 minutes for the core and 80 for all, with the exercises; 60<!--= timings 08_complete_and_edit --> seconds to run on two CPU cores.
#
# ← [07 · Generate and judge](07_generate_and_judge.ipynb) · [the course](../README.md#the-course) · [words and symbols](GLOSSARY.md) · next: [09 · Scale up](09_scale_up.ipynb) →

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
from pixelprior.data import load_images
from pixelprior.sampling import draw, probabilities, uniforms

# %% [markdown]
# ## 08.1 Keep what is known
#
# *Core · 5 minutes*
#
# A prior draws codes in raster order: row by row, each code given those before it. Nothing in this requires that the codes before it were *drawn*, so they may also come from a photograph. To complete an image we therefore change one line of the sampler: where a code is known, we keep it.
#
# We load both networks and encode two photographs. Then we forget the lower half of each grid. The number −1, which is no code, means "not known".


# %%
def codes_of(images):
    codes = vqvae2.get_code_indices(images)
    return codes["indices_top"], codes["indices_bottom"]


vqvae2, prior = load_shipped()
photographs = load_images("fashion_mnist_mini", "test")
two, two_labels = photographs[torch.tensor([2, 13])]
# two [2, 1, 32, 32], two_labels [2]
known_top, known_bottom = codes_of(two)  # [2, 8, 8], [2, 16, 16]
known_top[:, 4:] = -1
known_bottom[:, 8:] = -1
print("top codes known:   ", (known_top >= 0).sum().item(), "of 2 × 64")
print("bottom codes known:", (known_bottom >= 0).sum().item(), "of 2 × 256")

# %% [markdown]
# Here is the sampler in its naive form, with a pass of the whole network for every code. One uniform number u decides each draw by the inverse CDF of notebook 07: we add up the probabilities of codes 0, 1, 2, … and take the first code at which the sum is above u. The new line is the last but one, with `torch.where`.


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
# We complete the top grid first, and then the bottom grid given the *completed* top. In the package this is `prior.sample(…, known_top=…, known_bottom=…)`, which draws with its cache. Does it give the same codes when it uses the same uniform numbers?

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

# %%
theirs = prior.sample(
    2,
    (8, 8),
    (16, 16),
    labels=two_labels,
    seed=0,
    known_top=known_top,
    known_bottom=known_bottom,
)
print("same top codes:   ", torch.equal(z_top, theirs[0]))
print("same bottom codes:", torch.equal(z_bottom, theirs[1]))

# %% [markdown]
# **What was known, and what was drawn?** White cells are those that are not known. Compare the upper half of both grids, code by code.

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
# Look once more at the first line of `fill_in`: the grid starts with *all* known codes in it. So a known code that comes later in the grid would be there from the beginning. Would the network make use of it? It would not, because the masks of notebook 02 hide what comes after. A code is drawn given what is known *before* it, and what is known after it is not used. For a lower half little is lost in this way, since within each grid all that is known comes before the hole. But the top grid is drawn first, so its lower half is drawn without the known bottom codes of the upper half. For a hole with known codes after it much more is lost, and we come to that in 08.6.

# %% [markdown]
# ## 08.2 From hidden pixels to unknown codes
#
# *Core · 4 minutes*
#
# In practice one hides pixels and not codes, so we ask which codes are still known when the picture has a hole. A top code stands for 4 × 4 pixels and a bottom code for 2 × 2, and we say that a code is known where **all** its pixels are known. To find these codes, we cut the mask into squares and test for each square whether all of it is known.


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
)
round_hole = (row - 15.5) ** 2 + (column - 15.5) ** 2 > 6**2  # [32, 32]
top_mask = known_codes(round_hole, 8)  # [8, 8]
bottom_mask = known_codes(round_hole, 16)  # [16, 16]

# %%
figures.show(
    figures.cells(
        {
            "pixels, 32 × 32": (~round_hole).long(),
            "top codes, 8 × 8": (~top_mask).long(),
            "bottom codes, 16 × 16": (~bottom_mask).long(),
        },
        {
            "known": (figures.COLOURS["past"], ""),
            "not known": ("white", "////"),
        },
    ),
    "round_hole",
)
print("pixels hidden:       ", (~round_hole).sum().item(), "of 1024")
print("top codes unknown:   ", (~top_mask).sum().item(), "of 64")
print("bottom codes unknown:", (~bottom_mask).sum().item(), "of 256")

# %% [markdown]
# The coarser the grid, the larger the hole in it, because one hidden pixel is enough to lose a code.
#
# There is a trap here: the encoder is a stack of convolutions, so a code is made from *more* pixels than the ones it stands for. If we encoded the whole photograph and then dropped the codes in the hole, the codes beside the hole would still depend on what is hidden. In a test of completion that is cheating, and in real use it is not possible at all, because the hidden pixels are not there. So we make the hidden pixels black *before* we encode. (In 08.1 we did encode the whole photograph, because there we tested the sampler and not the completion.)
#
# These steps together are the package's `complete`, which we now write by hand:


# %%
def known_grids(seen, known):
    """Both grids of the images as seen, -1 where a code is not known."""
    return [
        z.masked_fill(~known_codes(known, z.shape[1]), -1)
        for z in codes_of(seen)
    ]  # [B, 8, 8], [B, 16, 16]


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


# %%
grids = known_grids(two * round_hole, round_hole)  # black where hidden
codes = draw_the_rest(*grids, two_labels, seed=0)
mine = vqvae2.decode_codes(*codes)  # [2, 1, 32, 32]
package = complete(
    vqvae2, prior, two, round_hole, labels=two_labels, seed=0, looks=1
)  # [2, 1, 32, 32]
print(f"differ by < 1e-5: {bool((mine - package).abs().max() < 1e-5)}")
other = torch.where(round_hole, two, torch.rand(2, 1, 32, 32))
blind = complete(
    vqvae2, prior, other, round_hole, labels=two_labels, seed=0, looks=1
)
print("the same whatever is hidden:", torch.equal(package, blind))

# %% [markdown]
# The last line shows a test worth keeping: when we put noise where the hidden pixels are, nothing may change.

# %% [markdown]
# ## 08.3 The encoder saw a hole: look twice
#
# *Further · 6 minutes*
#
# The codes beside the hole no longer depend on the hidden pixels, but the encoder has seen *black* there instead. **How many known codes does that change?** We encode 100 photographs whole, and once more with a rectangular hole, and count for each position how often its code differs. The white positions are those that are drawn anyway.

# %%
hundred, hundred_labels = photographs[torch.arange(100)]
# hundred [100, 1, 32, 32], hundred_labels [100]
outside = torch.ones(32, 32, dtype=torch.bool)  # True where known
outside[8:20, 12:20] = False

# %%
changes = {}
for name, whole, seen in zip(
    ("top codes", "bottom codes"),
    codes_of(hundred),
    codes_of(hundred * outside),
    strict=True,
):
    share = (whole != seen).float().mean(dim=0)  # [side, side]
    known = known_codes(outside, len(share))  # [side, side]
    changes[name] = (100 * share).masked_fill(~known, torch.nan)
    near = F.max_pool2d((~known)[None, None].float(), 3, 1, 1)[0, 0] == 1
    print(
        f"{name:13} changed: {share[known & near].mean():.0%} beside the"
        f" hole, {share[known & ~near].mean():.0%} farther off"
    )
figures.show(
    figures.heatmaps(changes, unit="changed codes, percent", limits=(0, 100)),
    "ring_of_changes",
)

# %% [markdown]
# Beside the hole more than half of the codes have changed, and they now say that the image turns black there. The prior relies on them, and often continues the black into the hole.
#
# The remedy is to look twice. We draw the hole once, as above, and call the result a **draft**. Then we put the known pixels back, with the draft between them, and encode *this* image, so that the codes beside the hole come from something plausible. We keep these codes, and draw the hole again. (The kept codes now depend on the draft, so this is a repair and not a correct draw.)


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
apart = (second_look - package).abs().max()
print(f"differs from the package's by < 1e-5: {bool(apart < 1e-5)}")


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
        }
    ),
    "two_looks",
)

# %%
inside = ~outside
errors = torch.stack(
    [
        (each - hundred).square()[:, :, inside].mean(dim=(1, 2))
        for each in (first_look, second_look)
    ]
)  # [2, 100]
nearer = (errors[1] < errors[0]).sum().item()
mean = errors.mean(dim=1)  # [2]
print(f"the second is nearer: {round(nearer, -1)} of 100, to tens")
print(f"the error inside falls by {1 - mean[1] / mean[0]:.0%}")
assert mean[1] < 0.9 * mean[0]

# %% [markdown]
# The bag and the last pullover lose their dark patch, but the dress gets one, so ten images do not settle the question. Over all hundred images the second look is nearer to the photograph in about seven of ten, and the error falls by a quarter. Do not read more into that error: many completions are plausible and only one of them is the photograph, so a perfect draw would have an error too. The error is useful as a warning, but not as a goal.
#
# From here on we look twice, as `complete` does by default (`looks=2`). Nothing of the hidden pixels gets in through the draft, because the draft was drawn without them.

# %% [markdown]
# ## 08.4 One half, many completions
#
# *Core · 3 minutes*
#
# A prior is not a repair tool that knows the answer. It is a distribution over answers, and another seed gives another answer. **What may lie below the same upper half?**

# %% tags=["cover"]
upper = row < 16  # [32, 32], True where known
chosen = torch.tensor([23, 7, 13, 31, 22])
images, labels = photographs[chosen]  # [5, 1, 32, 32], [5]
drawn = [
    complete(vqvae2, prior, images, upper, labels=labels, seed=seed)
    for seed in range(8)
]  # 8 × [5, 1, 32, 32]
ways = torch.stack([images, images * upper, *drawn], dim=1)
# ways [5, 10, 1, 32, 32]
names = [photographs.class_names[label] for label in labels]
figures.show(
    figures.image_rows(dict(zip(names, ways, strict=True))),
    "many_completions",
)

# %% [markdown]
# The first column is the photograph, the second is all that the prior was given apart from the label, and the other eight are draws. The upper half stays nearly the same (not quite, because all pixels come from the decoder, the known ones too). Below it, heels, sleeves, the width of the skirt and the bag itself vary, and they go on from where the upper half ends. Not all draws are good: plaid is hard to continue, and two of the boots fall apart.
#
# **How much must be known before the rest is settled?** In JupyterLab, move the row at which the known part ends, and change the seed.


# %%
def completions(known_rows, seed, image):
    known = row < known_rows  # [32, 32]
    photo, label = photographs[image : image + 1]  # [1, 1, 32, 32], [1]
    many, their = photo.expand(7, -1, -1, -1), label.expand(7)
    drawn = complete(vqvae2, prior, many, known, labels=their, seed=seed)
    pictures = torch.cat([photo, photo * known, drawn])
    names = ["photograph", f"{known_rows} rows known", *[""] * 7]
    return figures.captioned_images(pictures, names, columns=9)


explore(
    completions,
    "completions_of_a_coat",
    known_rows=[12, 0, 4, 8, 16, 20, 24, 28],
    seed=[0, 1, 2, 3, 4],
    image=[14, 0, 1, 7, 13, 23, 31],
)

# %% [markdown]
# At 0 rows you see samples, and at 28 rows the photograph with another hem. In between you can see how the choice becomes narrower. Take the boot, image 0: from which row on is the heel settled?

# %% [markdown]
# ## 08.5 What each code costs
#
# *Further · 5 minutes*
#
# In 04.9 and 05.5 we kept the cost of each code, −log P given the codes before it. Now we call this cost the **surprise** of the code, and look at it image by image. A code with probability 1/2 costs log 2 nats, and one with probability 1/1000 costs log 1000, ten times as much.
#
# We compute the surprise by hand, and compare it with that of the package:


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
for level in ("top", "bottom"):
    apart = (nats[level] - package[level]).abs().max()
    mean = (nats[level].mean() - losses[f"{level}_loss"]).abs()
    print(f"{level:6} as surprise() has it, < 1e-5:   {bool(apart < 1e-5)}")
    print(f"{level:6} mean is the loss, < 1e-5:       {bool(mean < 1e-5)}")

# %% [markdown]
# To look at both levels at once, we spread the cost of each code evenly over its pixels, 16 for a top code and 4 for a bottom code, and add the two levels. The sum over the map is then −log P of the whole image, in nats.


# %%
def surprise_map(nats):  # to [B, 32, 32], nats per pixel
    top = nats["top"].repeat_interleave(4, 1).repeat_interleave(4, 2) / 16
    low = nats["bottom"].repeat_interleave(2, 1).repeat_interleave(2, 2) / 4
    return top + low


def of_image(nats):  # to [B], −log P of each image
    return nats["top"].sum(dim=(1, 2)) + nats["bottom"].sum(dim=(1, 2))


def with_maps(images, maps, names, highest=1.5):
    return figures.images_over_maps(
        images, maps, names, unit="nats per pixel", limits=(0, highest)
    )


# %% [markdown]
# **What in a photograph does the prior not expect?** In the maps, yellow is the end of the scale or more, and dark blue is nearly nothing.

# %%
names = [f"{nats:.0f} nats" for nats in of_image(nats)]
figures.show(
    with_maps(images, surprise_map(nats), names),
    "surprise_maps",
)

# %% [markdown]
# The background costs nearly nothing, and a plain surface is cheap, because once it has begun it goes on. What costs is print, plaid and the points where an outline begins or turns. The plaid shirt costs more than three times what the trousers cost.
#
# Such maps have to be read with one caution: a surprise appears where something *becomes known* in raster order. The left edge of a stripe is a surprise and its inside is not, because by then the stripe is known. So the map shows where new information arrives, but it does not show which part of the image is to blame.
#
# **Where does a wrong label hurt?** We show the same T-shirt under its own label and under another, and what it costs more under the other. In JupyterLab, go through the images and labels.


# %%
def map_of(image, label):
    photo, own = photographs[image : image + 1]  # [1, 1, 32, 32], [1]
    classes = photographs.class_names
    told = torch.stack([own[0], torch.tensor(classes.index(label))])  # [2]
    both = photo.expand(2, -1, -1, -1)  # [2, 1, 32, 32]
    nats = surprise(prior, *codes_of(both), told)
    names = [
        f"as {classes[c]}:\n{n:.0f} nats"
        for c, n in zip(told, of_image(nats), strict=True)
    ]
    more = {level: each[1:] - each[:1] for level, each in nats.items()}
    top, bottom = (more[level].sum() for level in ("top", "bottom"))
    names.append(f"more: {top:.0f} in top,\n{bottom:.0f} in bottom codes")
    maps = torch.cat([surprise_map(nats), surprise_map(more)])  # [3, 32, 32]
    return with_maps(photo.expand(3, -1, -1, -1), maps, names)


# %%
explore(
    map_of,
    "surprise_by_label",
    image=[35, 0, 17, 18, 33, 44, 70, 88],
    label=[*reversed(photographs.class_names)],
)

# %% [markdown]
# The wrong label costs a little in most positions, and nearly all of it is in the top codes. The bottom codes cost what they did, because the top codes already say what is needed to predict them. No single code refutes the label, but the sum over all codes does.

# %% [markdown]
# ## 08.6 What raster order means: seams
#
# *Further · 8 minutes*
#
# A code is drawn given what is before it. In 08.1 and 08.4 we hid the lower half, so that within each grid all that was known came before the hole. Now we hide the *upper* half, so that what is known comes after the hole, in the top grid and in the bottom grid. (For the bottom codes this is not the whole truth: they are drawn last, given the whole top grid on all sides, as in notebook 05. But the top grid itself is drawn without what comes after.)
#
# **How well do completions fit, by the prior's own measure?** We complete 100 photographs, and measure the nats of the whole image, known and drawn codes together, rounded to tens.

# %%
lower = ~upper  # [32, 32]
own = surprise(prior, *codes_of(hundred), hundred_labels)
mean = of_image(own).mean().round(decimals=-1)  # [], to tens
print(f"photographs:      {mean:.0f} nats per image")
more_nats = {}
for name, known in (("lower", upper), ("upper", lower)):
    z = completed_codes(hundred, known, hundred_labels, seed=0)
    nats = surprise(prior, *z, hundred_labels)
    mean = of_image(nats).mean().round(decimals=-1)  # [], to tens
    print(f"{name} half drawn: {mean:.0f}")
    more = surprise_map(nats) - surprise_map(own)  # [100, 32, 32]
    more_nats[f"{name} half drawn"] = more.mean(dim=0)  # [32, 32]

# %% [markdown]
# With the lower half completed, images cost a little more than photographs do. With the upper half completed they cost much more, though as many codes were drawn, by the same prior. **Where are these nats?** We take the mean map over the 100 images, and subtract that of the photographs.

# %%
figures.show(
    figures.heatmaps(more_nats, unit="nats per pixel more", centred=True),
    "half_that_was_drawn",
)

# %% [markdown]
# In the right map they are in the first rows of the known half. There the drawn half has to meet the known half, but the top codes of the drawn half were drawn without it: the shade changes, or a sleeve is not continued. We call this a **seam**. The prior could not avoid the seam while it drew, but afterwards it *measures* the seam in nats. (The faint band in the left map, in the last known rows, has two causes: those codes were encoded together with a draft, and the top codes below them were drawn without the known bottom codes.)
#
# That gives us a remedy: we draw several candidates, and ask the prior which of them fits what is known. Three steps show that only the **known** codes count here:
#
# 1. We draw the unknown codes one after the other, so a candidate comes up with probability Q, the product of P(code | codes before it) over the *drawn* codes.
# 2. We would like it to come up with P(drawn | known). That is proportional to the probability of the full grids, which is the product over *all* codes, drawn and known.
# 3. The ratio of the two is P(all codes) / Q = the product of P(code | codes before it) over the *known* codes = exp(−cost of the known codes). So we give each candidate this ratio as its **weight**, and draw one of the candidates by weight.
#
# This is called **sampling importance resampling**, and the weights, divided by their sum, are `(-cost).softmax(0)`. Known codes before the hole cost the same for all candidates, so they cancel. The more candidates there are, the nearer such a draw comes to P(drawn | known). (All these probabilities are conditioned on the label as well.) Mind the two levels: the whole top grid is drawn before the bottom grid, so *every* known bottom code comes after a hole in the top.


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
# We look twice here as well: the cheapest of 16 candidates is the draft, and then 16 new candidates are drawn.


# %%
def by_cost(photo, known, label, count=16):
    """Draft, completions [count, 1, 32, 32], cheapest first, and costs."""
    z, cost = candidates(photo * known, known, label, count, seed=0)
    draft = vqvae2.decode_codes(*z)[cost.argmin()]  # [1, 32, 32]
    seen = torch.where(known, photo, draft)  # [1, 1, 32, 32]
    z, cost = candidates(seen, known, label, count, seed=1)
    order = cost.argsort()  # [count]
    return draft, vqvae2.decode_codes(*z)[order], cost[order]


photos, labels = photographs[torch.tensor([13, 7, 9, 22, 10, 4, 20, 1])]
# photos [8, 1, 32, 32], labels [8]
ranked = [
    by_cost(photo[None], lower, label[None])
    for photo, label in zip(photos, labels, strict=True)
]
drafts, pictures, cost = (
    torch.stack(each) for each in zip(*ranked, strict=True)
)  # [8, 1, 32, 32], [8, 16, 1, 32, 32], [8, 16]

# %% [markdown]
# **Do the costs tell good from bad?**

# %%
figures.show(
    figures.image_rows(
        {
            "photograph": photos,
            "known": photos * lower,
            "draft": drafts,
            "dearest": pictures[:, -1],
            "cheapest": pictures[:, 0],
        }
    ),
    "drafts_by_cost",
)

# %%
spread = cost[:, -1] - cost[:, 0]  # [8]
weight = (-cost).softmax(dim=1)  # [8, 16]
error = (pictures - photos[:, None]).square()[..., upper]  # [8, 16, 1, 512]
error = error.mean(dim=(2, 3))  # [8, 16]
print(f"dearest − cheapest above 30 nats: {(spread > 30).sum()} of 8 images")
percent = " ".join(f"{100 * each:.0f}" for each in weight[:, 0])
print(f"weight of the cheapest, percent:  {percent}")
print("the cheapest is nearer to the photograph than the mean of all:")
print("    ", (error[:, 0] < error.mean(dim=1)).sum().item(), "of 8 images")

# %% [markdown]
# In the row "dearest", with the most expensive candidates, the two halves do not fit together. In the last row most of them do, and the photograph was not used to choose them. The plaid shirt is an exception, because it is plain above.
#
# The last column shows the opposite, because there the cheapest candidate is the worse one. This is the trap of 08.3 again: the known codes beside the hole were encoded next to black, so the cheapest *draft* is dark. In the second look the same codes were encoded next to this draft, and they favour dark once more. Codes that depend on the draft are no independent evidence.
#
# By the numbers, the most expensive candidate lies 30 nats or more above the cheapest, so its weight is practically zero. But often two to five of the sixteen lie within 5 nats of each other, and share the weight, so that to draw by weight is to draw among those few. The number of candidates that really count is called the **effective sample size**, which exercise 3 measures. We keep the cheapest candidate, which is one of those few. Sixteen are not many: a correct draw from P(drawn | known) would need many more, because good upper halves are rare among those drawn without the lower half. What we have is better than a draw without candidates, but it is not a correct draw.

# %% [markdown]
# ## 08.7 Another label, another top
#
# *Further · 5 minutes*
#
# The label is a condition like any other, so nothing keeps us from giving a wrong one. **What grows below the upper half of a dress, if we say that it is a boot?** In the first row, we complete the upper half of a dress under each of the ten labels, and in the second the upper half of a pair of trousers. In the third, `vary` keeps *all* top codes of the dress, and draws the bottom codes anew under each label. From left to right the labels are T-shirt, trousers, pullover, dress, coat, sandal, shirt, sneaker, bag, boot.

# %%
ten = torch.arange(10)  # [10], one image under each label
dress = photographs[13:14][0].expand(10, -1, -1, -1)  # [10, 1, 32, 32]
trousers = photographs[2:3][0].expand(10, -1, -1, -1)  # [10, 1, 32, 32]
figures.show(
    figures.image_rows(
        {
            "upper half\nof a dress": vqvae2.decode_codes(
                *completed_codes(dress, upper, ten, seed=0)
            ),
            "upper half\nof trousers": vqvae2.decode_codes(
                *completed_codes(trousers, upper, ten, seed=0)
            ),
            "top codes\nof the dress": vary(
                vqvae2, prior, dress, labels=ten, seed=0
            ),
        },
        column_names=photographs.class_names,
    ),
    "change_of_label",
)

# %% [markdown]
# The label mostly decides what grows: legs for trousers, a foot for boots. The neck of the dress has become the shaft of a boot, because the prior has to continue the codes that are kept. Under the labels T-shirt and bag, the dress stays a dress.
#
# The third row shows the same dress ten times. The top codes hold the outline and more, so that they leave the label little to decide. (Notebook 05 found the same with the top of another image.) To turn a dress into a boot, you have to draw top codes anew as well.
#
# **What if we swap the top codes of two images?** Notebooks 00, 01 and 05 did so, and looked at the images. Now we can also ask which codes then surprise the prior. (Here yellow is 3 nats per pixel or more.)

# %%
pair, pair_labels = photographs[torch.tensor([7, 14, 1, 0])]
# pair [4, 1, 32, 32], pair_labels [4]
z_top, z_bottom = codes_of(pair)  # [4, 8, 8], [4, 16, 16]
other = torch.tensor([1, 0, 3, 2])  # each takes the top of its partner
swapped = vqvae2.decode_codes(z_top[other], z_bottom)  # [4, 1, 32, 32]
before = surprise(prior, z_top, z_bottom, pair_labels)
after = surprise(prior, z_top[other], z_bottom, pair_labels[other])
sequence = [0, 4, 1, 5, 2, 6, 3, 7]  # each before its swap
figures.show(
    with_maps(
        torch.cat([vqvae2.decode_codes(z_top, z_bottom), swapped])[sequence],
        torch.cat([surprise_map(before), surprise_map(after)])[sequence],
        4 * ["own codes", "other's top"],
        highest=3,
    ),
    "swapped_tops",
)

# %%
for level in ("top", "bottom"):
    means = [
        each[level].sum(dim=(1, 2)).mean().item() for each in (before, after)
    ]
    print(
        f"{level:6} {means[0]:5.0f} nats per image, swapped {means[1]:5.0f}"
    )

# %% [markdown]
# The top grids cost what they did. This had to be so, because each is still a whole grid with the label of its own image. All the additional cost is in the *bottom* codes, which are now conditioned on a top that describes something else. Between the shirts it lies all over the cloth, because plain is not plaid, and it is highest at shoulders and sides, where the outlines do not quite agree. Between the pullover and the boot it lies wherever one has cloth and the other has background.
#
# Look at two of the pictures: in the second, the plaid has turned bright, and in the fourth, the plain shirt has turned dark, with a fine check that is in neither photograph. A swap is an edit, and the prior tells you its cost.

# %% [markdown]
# ## 08.8 An odd image
#
# *Further · 7 minutes*
#
# A prior has learned what photographs of clothes look like. Can it tell what is *not* one? We take a few odd images: a sneaker upside down, a pullover with stripes pasted on it, two digits drawn by code, white, noise, and black. Most of them have no fitting label, so we give each the label that suits it best, which is the one of the ten that costs least.


# %%
sneaker, pullover = photographs[torch.tensor([9, 1])][0][:, None]
# sneaker and pullover [1, 1, 32, 32] each
pasted = pullover.clone()  # [1, 1, 32, 32]
pasted[..., 17:25, 12:20] = torch.tensor([0.0, 1.0]).repeat(4)
seven = torch.zeros(1, 1, 32, 32)
seven[..., 6:9, 9:24] = 1
for y in range(9, 27):
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
    "seven": seven,
    "one": one,
    "white": torch.ones(1, 1, 32, 32),
    "noise": torch.rand(1, 1, 32, 32),
    "black": torch.zeros(1, 1, 32, 32),
}  # [1, 1, 32, 32] each


# %%
def cheapest_label(images):
    """Costs [B, …] under the label that suits each image best."""
    z = codes_of(images)  # [B, 8, 8], [B, 16, 16]
    each = [surprise(prior, *z, torch.full((len(images),), c)) for c in ten]
    best = torch.stack([of_image(nats) for nats in each]).argmin(dim=0)  # [B]
    pick = torch.arange(len(images))  # [B]
    return {
        level: torch.stack([nats[level] for nats in each])[best, pick]
        for level in ("top", "bottom")
    }


odd_images = torch.cat(list(odd.values()))  # [9, 1, 32, 32]
odd_nats = cheapest_label(odd_images)
scores = of_image(odd_nats)  # [9]

# %% [markdown]
# **Which of them does the prior find odd, and where?**

# %%
figures.show(
    with_maps(
        odd_images,
        surprise_map(odd_nats),
        [f"{n}\n{s:.0f} nats" for n, s in zip(odd, scores, strict=True)],
    ),
    "odd_images",
)
for name, score in zip(odd, scores.round(decimals=-1), strict=True):
    print(f"{name:13} {score:5.0f} nats, to tens")

# %% [markdown]
# The map of the pasted square is what one hopes for: around the square the pullover costs about what it did, and the stripes stand out. The digits are bright along their strokes. White is bright at its border, where photographs are black, but inside, white goes on and is soon expected.
#
# In the sums, white and noise cost more than any of these photographs, but the seven costs what a photograph costs (08.6 has their mean). So the sum does not show that the seven is no piece of clothing.
#
# So is "nats per image" a detector of odd images? Let us be strict, and test it on many images: 200 photographs, and the same turned upside down, each with its own label. We raise an alarm above the cost that 19 of 20 upright photographs stay below.

# %%
images, labels = photographs[torch.arange(200)]  # [200, 1, 32, 32], [200]
upright = of_image(surprise(prior, *codes_of(images), labels))  # [200]
turned = of_image(surprise(prior, *codes_of(images.flip(2)), labels))
alarm = upright.quantile(0.95)
print(f"dearer than itself upright: {(turned > upright).float().mean():.0%}")
print(f"above the alarm:            {(turned > alarm).float().mean():.0%}")
for name in ("one", "black"):
    less = scores[list(odd).index(name)] < upright.min()  # []
    print(f"{name} costs less than all 200: {bool(less)}")

# %% [markdown]
# **How can the first two printed lines both be true?** Each curve shows the 200 images in the order of their cost.

# %%
rank = torch.arange(1, 201) / 2  # [200], percent
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
# Nearly every photograph costs more when it is turned upside down, by about 100 nats. But photographs differ among each other by far more than that. As a comparison of *the same* content the cost is precise, but as a score over all images it measures first of all how much detail they have.
#
# That is also why black is the cheapest of all. It has no detail, and a prior that has learned that background goes on is hardly surprised. Black is more probable than any of the photographs, and no photograph looks like it. The digit one is the next cheapest image. (Nalisnick and others report the same of likelihoods of pixels, while ours are of codes: models trained on one set of images can find another set more likely, and Fashion-MNIST and handwritten digits are one of their pairs.) **A high likelihood does not mean that an image is good, or that it is normal.** (This is no contradiction: there is one black image and there are a great many plaid shirts, so each single shirt is improbable, and all shirts together are not.)
#
# Two remedies are in use. One is to raise the alarm on *both* sides: black and the digit one cost less than any of the 200, which is as odd as costing too much. The other is to compare the cost with how complicated the image is, for instance with the bytes of its PNG. And where you can, compare like with like, as in 08.6: candidates for the same hole.
#
# One half of the answer is still missing, because the prior judges only *codes*. **Do the codes say what is in the image?** We decode them, and measure the error.


# %%
def mean_squared(images):  # to [B], of what the decoder gives back
    with torch.no_grad():
        back = vqvae2.decode_codes(*codes_of(images))  # [B, 1, 32, 32]
    return (back - images).square().mean(dim=(1, 2, 3))


print(f"{'largest of 200':15} {mean_squared(images).max():.3f}")
for name, error in zip(odd, mean_squared(odd_images), strict=True):
    print(f"{name:15} {error:.3f}")

# %% [markdown]
# Where the decoded picture differs visibly from the image, the codes could not say what the image was. White and noise fail that test, and the stripes come back a little worse than any of the 200 photographs. The seven passes this test, and an alarm on both sides of the cost lets the seven through as well.

# %% [markdown]
# ## 08.9 Where it breaks: the cache keeps what was drawn
#
# *Further · 6 minutes*
#
# The naive loop of 08.1 puts the known code into the grid, and the next pass reads the grid, so that little can go wrong there. The cached sampler of notebook 06 does not read the grid, and we have to give it each code twice: `keep_code` relays the code to the steps to the right, and `keep_row` relays it to the rows below. Here is the cached loop, with a slip that is made in practice: at one of the two, or at both, we relay the code that was *drawn* instead of the one that was kept, the known one.


# %%
@torch.no_grad()
def cached(net, known, condition, uniform, right="kept", below="kept"):
    """Codes [B, H, W]; `right` and `below` say what is passed on there."""
    drawn, kept = known.clone(), known.clone()  # [B, H, W]
    grid = {"drawn": drawn, "kept": kept}
    cache = PixelCNNCache(net, len(known), known.shape[1:])
    for y in range(known.shape[1]):
        cache.row_step(condition)  # [B, p, 1, 1]
        for x in range(known.shape[2]):
            p = probabilities(cache.code_step(x))  # [B, K]
            new, given = draw(p, uniform[:, y, x]), known[:, y, x]  # [B]
            drawn[:, y, x] = new
            kept[:, y, x] = torch.where(given < 0, new, given)
            cache.keep_code(grid[right][:, y, x])
        cache.keep_row(grid[below][:, y])
    return kept


# %% [markdown]
# With or without a slip, the known codes are in the grid that the loop returns, so the known part of the picture looks fine. **And what about the rest of it?** We complete images of which the left half is known, with the same uniform numbers each time. The slip is in the top grid alone, and the package draws the bottom grid given this top.

# %%
left = column < 16  # [32, 32]
images, labels = photographs[torch.tensor([1, 7, 13, 2, 14, 35, 10, 0])]
# images [8, 1, 32, 32], labels [8]
draft = complete(
    vqvae2, prior, images, left, labels=labels, seed=1, looks=1
)  # [8, 1, 32, 32]
grids = known_grids(torch.where(left, images, draft), left)
slips = {
    "both right": {},
    "drawn to\nthe right": {"right": "drawn"},
    "drawn\nbelow": {"below": "drawn"},
    "drawn,\nboth": {"right": "drawn", "below": "drawn"},
}
net = prior.prior_top
condition = net.label_condition(labels, 8)  # [8, p, 1, 1]
u = uniforms(0, 0, 8, 64).view(8, 8, 8)
results = {}
for name, slip in slips.items():
    z_top = cached(net, grids[0], condition, u, **slip)  # [8, 8, 8]
    results[name] = draw_the_rest(z_top, grids[1], labels, seed=0)

# %%
figures.show(
    figures.image_rows(
        {
            "known": images * left,
            **{n: vqvae2.decode_codes(*z) for n, z in results.items()},
        }
    ),
    "forgetful_cache",
)
for name, z in results.items():
    nats = of_image(surprise(prior, *z, labels)).mean()  # []
    name = name.replace("\n", " ")
    print(f"{name:18} {nats.round(decimals=-1):.0f} nats per image, to tens")

# %% [markdown]
# In the last row the right half was drawn for a left half that is not in the picture: the one that the sampler drew and did not keep. With the slip below, the pictures mostly look fine. If you saw only the fourth row, would you notice the slip? The mean cost of that row does not reveal it either.
#
# The check that does not need the eye is the one of 08.1: we use the same uniform numbers, run the naive loop beside the cached one, and look for the first code that differs. But it matters which codes are known. **Which known part of the grid reveals which slip?**


# %%
def first_difference(one, two):
    positions = (one != two).nonzero()  # [how many, 3]
    if len(positions) == 0:
        return "equal"
    image, y, x = positions[0].tolist()
    return f"image {image}, row {y}, column {x}"


# %%
z_top = codes_of(images)[0]  # [8, 8, 8]
checkerboard = (row // 4 + column // 4) % 2 == 0  # [32, 32]
for name, mask in (
    ("upper half", upper),
    ("left half", left),
    ("checkerboard", checkerboard),
):
    known = z_top.masked_fill(~known_codes(mask, 8), -1)  # [8, 8, 8]
    naive = fill_in(lambda z: net(z, labels), known, u)  # [8, 8, 8]
    print("known:", name)
    for slip, how in slips.items():
        fast = cached(net, known, condition, u, **how)
        slip = slip.replace("\n", " ")
        print(f"    {slip:18} {first_difference(naive, fast)}")
    assert torch.equal(naive, cached(net, known, condition, u))

# %% [markdown]
# In the first block, with the upper half known, "drawn to the right" is **equal** to the naive loop, although it is wrong. Where every row is either all known or all drawn, no drawn code ever has a known one to its left, so a sampler with this slip would pass every test on lower halves. The left half and the checkerboard reveal all three slips.
#
# So a test of equality needs an input in which every possible mistake can show. A checkerboard is such an input, because it has known codes to the left, above, and on all sides. The first code that differs then tells where to look. With the checkerboard, a first difference in row 0 points to the step to the right. There may be another slip behind it, so correct the first and run the test again. A first difference in row 1 points to the step to the rows below.

# %% [markdown]
# ## 08.10 Exercises
#
# *Core: exercise 1*
#
# Replace the `None` in a cell with your answer and run the cell, which then tries the answer out.

# %% [markdown] tags=["about-solutions"]
# Each exercise has a [solution](#Solutions) at the end of the notebook.

# %% [markdown]
# ### Exercise 1: vary only the texture
#
# *Difficulty 2 of 5 · importance 5 of 5 · 6 minutes*
#
# Write `vary` yourself, as a function that gets images [B, 1, 32, 32], their labels and a seed. It keeps their top codes, draws the bottom codes under these labels, and returns three things: z_top, z_bottom, and the decoded images.
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
# ### Exercise 2: the most and the least surprising
#
# *Difficulty 3 of 5 · importance 3 of 5 · 6 minutes*
#
# Here are the codes of 100 more test images, with their labels. Guess, before you compute, which class costs most per image on average, and which costs least. Then find the single image that surprises the prior most, and the one that surprises it least. Give four numbers: both classes as `more_labels` has them, then both images, counted from 0, and each time the most expensive first.
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
# When your answer is right, look at your two images: `figures.image_grid(more[list(my_extremes[2:])])`. Why are they the extremes? A class is cheap where its pieces are alike and of plain cloth, because then each code follows from those before it. It is expensive where cut, cloth and print all vary.

# %% [markdown]
# ### Exercise 3: complete a hole
#
# *Difficulty 4 of 5 · importance 5 of 5 · 12 minutes*
#
# Write a function that gets the known codes of one image, [8, 8] and [16, 16] with −1 where nothing is known, its label (a tensor of shape [1]), and a count. It draws as many candidates as the count says, and returns three things: both grids of all candidates, and the weights of the candidates, which sum to 1. You can start from `candidates` of 08.6, which gives the costs.
#
# Your function is tried on four holes: the upper half, a window at the right, the left half, and a window that begins at the top. For each hole the check reports the effective sample size of the weights w,
#
# $$
# n_\text{eff} = \frac{1}{\sum_i w_i^2}
# $$
#
# which is about how many candidates share the weight: 1 if one has it all, the count if all weigh the same. How many of 32 do you expect for each hole?
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
    return None  # [count, 8, 8], [count, 16, 16], [count]; your turn


holes.hole(my_complete, vqvae2, prior, some_images, some_labels)


# %% [markdown] tags=["about-solutions"]
# [To solution 3](#Solution-3)

# %% [markdown]
# ## What you can do now
#
# - Keep some codes and draw the others, given a mask of pixels, and say what the encoder and raster order do to the result.
# - Read a map of surprise, choose among candidates by their cost, and say why the likelihood of a whole image is a poor judge of oddness.
# - Test a cached sampler with known codes in such a way that its slips show.
#
# **To take away.** Which halves complete well if codes are drawn column by column? What would you train to complete holes of any shape, without candidates? If the label that costs least is taken for the class of an image, you have a classifier: how would you make it cheaper than ten passes? ([Answers](ANSWERS.md))
#
# **Sources.** Completing images with a model that draws pixel by pixel: van den Oord, Kalchbrenner and Kavukcuoglu 2016, [arXiv 1601.06759](https://arxiv.org/abs/1601.06759), section 5. Two levels of codes: Razavi, van den Oord and Vinyals 2019, [arXiv 1906.00446](https://arxiv.org/abs/1906.00446), section 3.2. Sampling importance resampling: Rubin 1988, *Using the SIR algorithm to simulate posterior distributions*, Bayesian Statistics 3. Odd images that a likelihood prefers: Nalisnick, Matsukawa, Teh, Gorur and Lakshminarayanan 2019, [arXiv 1810.09136](https://arxiv.org/abs/1810.09136), section 3; how complicated an image is: Serrà, Álvarez, Gómez, Slizovskaia, Núñez and Luque 2020, [arXiv 1909.11480](https://arxiv.org/abs/1909.11480), sections 2 and 3. The photographs: Xiao, Rasul and Vollgraf 2017, [arXiv 1708.07747](https://arxiv.org/abs/1708.07747).
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
# The encoder gives both grids; only the top one is passed on as known.
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
