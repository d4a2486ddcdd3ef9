# %% [markdown]
# # 08 · Complete and edit in code space
#
# **What you will do.** Hide half of an image and let the prior draw it, in many ways. Draw it again under another label. Look at the codes that the prior did not expect, in a photograph and in a digit that we draw. Break the sampler in a way that one test does not see, and another does.
#
# **What you will learn.** How to keep codes while you draw others. Which codes a hole in the pixels leaves, and what the encoder has to do with it. What −log P says of one code and of a whole image, and what it does not say. Why the lower half completes better than the upper, and how candidates help.
#
# **What you need.** Both levels from notebook [05](05_bottom_prior.ipynb), the cache from notebook [06](06_fast_sampling.ipynb), the draw by inverse CDF from notebook [07](07_generate_and_judge.ipynb). What we use of them is repeated. Nothing is trained here: all comes from the weights that ship with the package.
#
# **Time.** About 45 minutes to read, 60<!--= timings 08_complete_and_edit --> seconds to run on two CPU cores.
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
# A prior draws codes in raster order: row by row, each given those before it. Nothing in this says that the codes before it must have been *drawn*. They may come from a photograph. So to complete an image we change one line of the sampler: where a code is known, we keep it.
#
# We load both networks and encode two photographs. Then we forget the lower half of each grid. The number −1, which is no code, says "not known".


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
# Here is the sampler in its naive form, with a pass of the whole network for every code. One uniform number u decides a draw (the inverse CDF of notebook 07): we add up the probabilities of codes 0, 1, 2, … and take the first code at which the sum is above u. The new line is the last but one.


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
# First the top grid, then the bottom grid given the *completed* top. The package has it as `prior.sample(…, known_top=…, known_bottom=…)`. It draws with its cache. With the same uniform numbers, does it give the same codes?

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
# **What was known, and what was drawn?** White cells are not known. Compare the upper half of both grids, code by code.

# %%
figures.show(
    figures.code_grids(
        {"top codes, known": known_top[0], "top codes, completed": z_top[0]},
        64,
    ),
    "Two grids of 8 by 8 codes. In the left one the lower four rows are "
    "white and empty. In the right one all cells hold codes, and the upper "
    "four rows are the same as at the left.",
)

# %% [markdown]
# The upper half is kept to the last code, and the lower half is filled in.
#
# Look once more at the first line of `fill_in`. The grid starts with *all* known codes in it. If a known code came later in the grid, it would lie there from the beginning. Would the network make use of it? No. The masks of notebook 02 hide what comes after. A code is drawn given what is known *before* it, and what is known after it is left out. For a lower half little is left out: within each grid, all that is known stands before the hole. But the top grid is drawn first. So its lower half is drawn without the known bottom codes above. For a hole in the middle much more is left out, and we come to that in 08.6.

# %% [markdown]
# ## 08.2 From hidden pixels to unknown codes
#
# One hides pixels, not codes. Which codes does a hole in the picture leave? A top code stands for 4 × 4 pixels, a bottom code for 2 × 2. We say that a code is known where **all** its pixels are. To find out, cut the mask into squares, and ask each whether all of it is known.


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
    "Three grids of cells, blue where known and hatched where not: a disc "
    "in the middle of 32 by 32 pixels, a cross of 12 cells in the middle of "
    "8 by 8 top codes, and a square with cut corners, of 32 cells, in the "
    "middle of 16 by 16 bottom codes.",
)
print("pixels hidden:       ", (~round_hole).sum().item(), "of 1024")
print("top codes unknown:   ", (~top_mask).sum().item(), "of 64")
print("bottom codes unknown:", (~bottom_mask).sum().item(), "of 256")

# %% [markdown]
# The coarser the grid, the larger the hole in it: one hidden pixel is enough to lose a code.
#
# There is a trap here. The encoder is a stack of convolutions, so a code is made from *more* pixels than the ones it stands for. If we encoded the whole photograph and then dropped the codes in the hole, those beside the hole would still have seen what is hidden. In a test of completion that is cheating. In earnest it cannot be done at all: the pixels are not there. So we make the hidden pixels black *before* we encode. (In 08.1 we did encode the whole. There we tested the sampler, not the completion.)
#
# Together this is the package's `complete`. By hand:


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
# The last line is a test worth keeping: put noise where the hidden pixels are, and nothing may change.

# %% [markdown]
# ## 08.3 The encoder saw a hole: look twice
#
# Now the codes beside the hole have not seen the hidden pixels. They have seen *black* instead. **How many known codes does that change?** We encode 100 photographs whole, and once more with a rectangular hole, and count for each place how often its code differs. The white places are those that are drawn anyway.

# %%
hundred, hundred_labels = photographs[torch.arange(100)]
# hundred [100, 1, 32, 32], hundred_labels [100]
outside = torch.ones(32, 32, dtype=torch.bool)  # True where known
outside[8:20, 12:20] = False
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
    "Two maps, top codes and bottom codes, each with a white rectangle in "
    "the middle. Around it is a bright ring, two cells wide for the bottom "
    "codes, where up to 90 percent of the codes change. It fades towards "
    "the borders of the image.",
)

# %% [markdown]
# Beside the hole more than half of the codes are not what they were. And what do they say now? "Here it turns black." The prior takes them at their word, and often carries it on into the hole.
#
# The remedy is to look twice. Draw the hole once, as above. That is a **draft**. Put the known pixels back where they belong, with the draft between them, and encode *this*. Now the codes beside the hole have seen something plausible. Keep them, and draw the hole again. (The kept codes now know the draft. So this is a repair, not a correct draw.)


# %%
def completed_codes(images, known, labels, seed):
    """Look twice: a draft, then the hole anew."""
    grids = known_grids(images * known, known)
    draft = vqvae2.decode_codes(*draw_the_rest(*grids, labels, seed))
    seen = torch.where(known, images, draft)  # [B, 1, 32, 32]
    return draw_the_rest(*known_grids(seen, known), labels, seed)


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
    "Four rows of ten images: photographs, the same with a black rectangle, "
    "and two completions. After the first look a bag and the last pullover "
    "have a dark patch where the hole was. After the second look these two "
    "are gone, but a dress has one, and most holes leave traces.",
)
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
# The bag and the last pullover lose their dark patch. The dress gets one. Ten images do not settle it. Over all hundred the second look is nearer to the photograph in about seven of ten, and the error falls by a quarter. Do not read more into that error. Many completions are fine, and only one of them is the photograph: a perfect draw would have an error too. It is a good alarm and a poor goal.
#
# From here on we look twice, as `complete` does by itself: `looks=2` is its default. (Nothing hidden leaks through the draft: it was drawn without the hidden pixels.)

# %% [markdown]
# ## 08.4 One half, many completions
#
# A prior is not a repair tool that knows the answer. It is a distribution over answers. With another seed, another one comes out. **What may lie below the same upper half?**

# %% tags=["cover"]
upper = row < 16  # [32, 32], True where known
chosen = torch.tensor([23, 7, 13, 31, 22])
images, labels = photographs[chosen]  # [5, 1, 32, 32], [5]
drawn = [
    vqvae2.decode_codes(*completed_codes(images, upper, labels, seed))
    for seed in range(8)
]  # 8 × [5, 1, 32, 32]
ways = torch.stack([images, images * upper, *drawn], dim=1)
# ways [5, 10, 1, 32, 32]
names = [photographs.class_names[label] for label in labels]
figures.show(
    figures.image_rows(dict(zip(names, ways, strict=True))),
    "Five rows of ten images: a boot, a plaid shirt, a dress, a bag and a "
    "sneaker. Each row begins with the photograph, then its upper half "
    "alone, then eight completions of it. Soles, sleeves, skirts and bags "
    "differ from one to the next, and most continue what stands above.",
)

# %% [markdown]
# The first column is the photograph, the second is all that the prior was told, apart from the label. Then come eight draws. The upper half stays (but for a little: all pixels come from the decoder, the known ones too). Below it, heels, sleeves, the width of the skirt and the bag itself vary, and they go on from where the upper half ends. Not all are good: plaid is hard to continue, and two of the boots fall apart.
#
# **How much must be known before the rest is settled?** In JupyterLab, move the row at which the known part ends, and the seed.


# %%
def completions(known_rows, seed, image):
    known = row < known_rows  # [32, 32]
    photo, label = photographs[image : image + 1]  # [1, 1, 32, 32], [1]
    many, their = photo.expand(7, -1, -1, -1), label.expand(7)
    z = completed_codes(many, known, their, seed)
    pictures = torch.cat([photo, photo * known, vqvae2.decode_codes(*z)])
    names = ["photograph", f"{known_rows} rows known", *[""] * 7]
    return figures.captioned_images(pictures, names, columns=9)


explore(
    completions,
    "A photograph of a white coat, its upper 12 rows, and seven completions "
    "of them: coats and jackets with sleeves and hems of other lengths, "
    "most of them white.",
    known_rows=[12, 0, 4, 8, 16, 20, 24, 28],
    seed=[0, 1, 2, 3, 4],
    image=[14, 0, 1, 7, 13, 23, 31],
)

# %% [markdown]
# At 0 rows you see samples, at 28 rows the photograph with another hem. In between you watch the choice narrow. Take the boot, image 0: from which row on is the heel settled?

# %% [markdown]
# ## 08.5 What each code costs
#
# In 04.9 and 05.5 we kept the cost of each code, −log P given the codes before it. Now we give it a name, the **surprise** of this code, and look at it image by image. A code with probability 1/2 costs log 2 nats. One with probability 1/1000 costs log 1000, ten times as much.
#
# By hand and from the package:


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
# To look at both levels at once, we spread the cost of each code evenly over its pixels, 16 for a top code and 4 for a bottom code, and add. The sum over the map is then −log P of the whole image, in nats.


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
# **What in a photograph does the prior not expect?** Yellow is the end of the scale or more, dark blue is nearly nothing.

# %%
names = [f"{nats:.0f} nats" for nats in of_image(nats)]
figures.show(
    with_maps(images, surprise_map(nats), names),
    "Six photographs, a pullover with a word on it, a plaid shirt, a dress, "
    "trousers, a sneaker and a bag, and under each a map. The background is "
    "dark everywhere. The word, the plaid and the details of the sneaker "
    "are bright. Trousers and dress are dimmer, with a few bright cells.",
)

# %% [markdown]
# The background is nearly free. A plain surface is cheap: once it has begun, it goes on. What costs is print, plaid and the places where an outline begins or turns. The plaid shirt costs more than three times what the trousers cost.
#
# One caution for reading such maps. A surprise stands where the prior *found out*, in raster order. The left edge of a stripe surprises, and its inside does not, because by then the stripe is known. So the map shows where news arrives. It does not show which part is to blame.
#
# **Where does a wrong label hurt?** The same T-shirt under its own label and under another, and what it costs more under the other. In JupyterLab, go through images and labels.


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


explore(
    map_of,
    "A striped T-shirt three times, above maps of surprise. Told as T-shirt "
    "and as ankle boot the maps are alike, with bright cells all over the "
    "shirt. The third map is what it costs more as a boot, 79 nats in top "
    "codes and 0 in bottom codes: dim, a little in most top codes.",
    image=[35, 0, 17, 18, 33, 44, 70, 88],
    label=[*reversed(photographs.class_names)],
)

# %% [markdown]
# A little in most places. Nearly all of it is paid by the top codes. The bottom codes cost what they did: the top has told them what they need. No single code refutes the label. The sum does.

# %% [markdown]
# ## 08.6 What raster order means: seams
#
# A code is drawn given what is before it. So far we hid the lower half, and within each grid, all that was known stood before the hole. Now we hide the *upper* half. What is known comes after it, in the top grid and in the bottom grid. (Nearly: the bottom codes are drawn last, and they do see the whole top grid, on all sides, as in notebook 05. But the top grid itself is drawn without a look at what comes.)
#
# **How well do completions fit, by the prior's own measure?** We complete 100 photographs, and measure the nats of the whole image, known and drawn together. (Rounded to tens.)

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
# The completed lower halves cost a little more than photographs do. The completed upper halves cost much more, though as many codes were drawn, by the same prior. **Where are these nats?** We take the mean map over the 100 images, less that of the photographs.

# %%
figures.show(
    figures.heatmaps(more_nats, unit="nats per pixel more", centred=True),
    "Two maps of 32 by 32 pixels. With the lower half drawn nearly all is "
    "white, with a faint band in the last known rows. With the upper half "
    "drawn, a strong red band runs across the middle, in the first rows of "
    "the known half.",
)

# %% [markdown]
# In the right map, in the first rows of the known half. There the drawn half has to meet it, and nobody had told it where. The shade changes, or a sleeve has nothing to go on with. We call it a **seam**. The prior could not avoid it, but afterwards it *sees* it. (The faint band in the left map, in the last known rows, has two causes. Those codes saw a draft. And the top codes below them were drawn without a look at them.)
#
# That gives us a remedy. Draw several candidates, and ask the prior which of them suits what is known. Only the **known** codes count here:
#
# 1. We draw the unknown codes one after the other, so a candidate comes up with probability Q, the product of P(code | codes before it) over the *drawn* codes.
# 2. We would like it to come up with P(drawn | known). That is proportional to the probability of the full grids, which is the product over *all* codes, drawn and known.
# 3. The ratio of the two is left: P(all codes) / Q = the product of P(code | codes before it) over the *known* codes = exp(−cost of the known codes). So give each candidate this as its **weight**, and draw one of the candidates by weight.
#
# This is called **sampling importance resampling**. Divided by their sum, the weights are `(-cost).softmax(0)`. Known codes before the hole cost the same for all candidates and cancel. The more candidates, the nearer such a draw comes to P(drawn | known). (The label stands behind every bar.) Mind the two levels: the whole top grid is drawn before the bottom grid, so *every* known bottom code comes after a hole in the top.


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
# We look twice here as well: the cheapest of 16 candidates is the draft, and then 16 new ones are drawn.


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
    "Five rows of eight images: photographs, their lower halves, drafts, and "
    "two completions. The last draft is dark above a white half. The row of "
    "the dearest has seams: other shades, other widths, a shirt on a skirt. "
    "In the row of the cheapest most halves fit together; a plaid shirt is "
    "plain above, and the last, a pullover, is dark above.",
)
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
# In the row of the dearest, halves meet that do not know of each other. In the last row most agree, and nobody looked at the photograph to choose them. The plaid shirt does not: it is plain above.
#
# The last column shows the opposite. There the cheapest is the worse one. It is the trap of 08.3 again: the known codes beside the hole had seen black, so the cheapest *draft* is dark. In the second look the same codes had seen this draft, and they asked for dark once more. A witness that has been told what to say is no witness.
#
# The numbers say how far this goes. The dearest lies 30 nats or more above the cheapest, and weighs nothing. But often two to five of the sixteen lie within 5 nats of each other, and share the weight. To draw by weight is to draw among those few. We keep the cheapest, which is one of them. Sixteen candidates are few. A correct draw from P(drawn | known) would need many more, because good upper halves are rare among those drawn blindly. What we have is better than a blind draw, and it is not a correct one.

# %% [markdown]
# ## 08.7 Another label, another top
#
# The label is a condition like any other. Nothing keeps us from giving a wrong one. **What grows below the upper half of a dress, if we say that it is a boot?** In the first row, we complete the upper half of a dress under each of the ten labels. In the second, the upper half of a pair of trousers. In the third, `vary` keeps *all* top codes of the dress, and draws the bottom codes anew under each label. From left to right we say T-shirt, trousers, pullover, dress, coat, sandal, shirt, sneaker, bag, boot.

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
        }
    ),
    "Three rows of ten images, one per class. First row: one upper half of a "
    "dress ends in a skirt, in two trouser legs, in a boot, in a sneaker. "
    "Second row: the same with the waist of trousers. Third row: the same "
    "dress ten times.",
)

# %% [markdown]
# The label mostly decides what grows: legs for trousers, a foot for boots. The neck of the dress has become the shaft of a boot, because the prior makes the best of what it must keep. Told as a T-shirt or a bag, it stays a dress.
#
# And the third row? The same dress ten times. The top codes hold the outline and more. Given them, the label has little left to say. (Notebook 05 found the same with the top of another image.) To turn a dress into a boot, you must let go of top codes.
#
# **What if we swap the top codes of two images?** Notebooks 00, 01 and 05 did so, and looked. Now we can also ask where the prior takes offence. (Here yellow is 3 nats per pixel or more.)

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
    "Eight images over their maps of surprise: a plaid shirt, the same with "
    "the top codes of a plain one, the plain shirt, the same with the top "
    "codes of the plaid one; then a pullover and a boot likewise. Before "
    "the swap the maps are dark, after it they are bright, most of all "
    "where the two shapes of pullover and boot do not agree.",
)
for level in ("top", "bottom"):
    means = [
        each[level].sum(dim=(1, 2)).mean().item() for each in (before, after)
    ]
    print(
        f"{level:6} {means[0]:5.0f} nats per image, swapped {means[1]:5.0f}"
    )

# %% [markdown]
# The top grids cost what they did. That had to be so: each is a whole grid with its owner's label. All the offence is in the *bottom* codes, which now stand below a top that announced something else. Between the shirts it lies all over the cloth, for plain is not plaid. It is brightest at shoulders and sides, where the outlines do not quite agree. Between the pullover and the boot it lies wherever the one has cloth and the other has background.
#
# Two of the pictures are worth a look. In the second, the plaid has turned bright. In the fourth, the plain shirt has turned dark, with a fine check that is in neither photograph. A swap is an edit, and the prior tells you its price.

# %% [markdown]
# ## 08.8 An odd image
#
# A prior knows what photographs of clothes look like. Can it tell what is *not* one? We take a few odd images: a sneaker upside down, a pullover with stripes pasted on it, two digits drawn by code, white, noise, and black. They have no label, so we give each the label that suits it best, the one of the ten that costs least.


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
    "Nine images over their maps of surprise. A sneaker, and the same upside "
    "down: a little brighter. A pullover, and the same with a square of "
    "stripes: the square is bright. A seven and a one: bright along their "
    "strokes, the one less. White: bright at the border alone. Noise: bright "
    "all over. Black: dark all over.",
)
for name, score in zip(odd, scores.round(decimals=-1), strict=True):
    print(f"{name:13} {score:5.0f} nats, to tens")

# %% [markdown]
# The map of the pasted square is what one hopes for: around it the pullover costs about what it did, and the stripes stand out. The digits are bright along their strokes. White is bright at its border, where photographs are black. Inside, white goes on, and is soon no news any more.
#
# Now read the sums. White and noise cost more than any of these photographs. But the seven costs what a photograph costs (their mean stands in 08.6). The sum does not see that it is no piece of clothing.
#
# So is "nats per image" a detector of odd images? Let us be strict, and try it on many. We take 200 photographs, and the same turned upside down, each with its own label. We raise an alarm above the cost that 19 of 20 upright photographs stay below.

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
# **How can the first two lines both be true?** Each curve shows the 200 images in the order of their cost.

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
    "Two rising curves over the share of images. Upright photographs run "
    "from 200 to 860 nats, the same upside down from 290 to 950, about 100 "
    "above at each share. A pink band of alarm begins near 620, above most "
    "of both. A level line for the black image lies near 60, below all.",
)

# %% [markdown]
# Nearly every photograph gets dearer when it is turned, by about 100 nats. But photographs differ among each other by far more than that. As a comparison of *the same* content, the cost is sharp. As a score over all images, it measures first of all how much is going on in them.
#
# That is also why black is the cheapest of all. Nothing happens in it, and a prior that has learned that background goes on is hardly surprised. It is more probable than any of the photographs, and no photograph looks like it. The digit one comes next. (Nalisnick and others report the same of likelihoods of pixels; ours are of codes. Models trained on one set of images can find another set more likely. Fashion-MNIST and handwritten digits are one of their pairs.) **Likelihood is not beauty, and not normality.** (It is no contradiction. There is one black image and there are a great many plaid shirts. Each single shirt is improbable, all shirts together are not.)
#
# Two mends are in use. Raise the alarm on *both* sides: black and the digit one cost less than any of the 200, which is as odd as too much. Or compare with how complicated the image is, for instance with the bytes of its PNG. And where you can, compare like with like, as in 08.6: candidates for the same hole.
#
# One half is still missing. The prior judges *codes*. **Do the codes say what is in the image?** We decode them.


# %%
def mean_squared(images):  # to [B], of what the decoder gives back
    with torch.no_grad():
        back = vqvae2.decode_codes(*codes_of(images))  # [B, 1, 32, 32]
    return (back - images).square().mean(dim=(1, 2, 3))


print(f"{'largest of 200':15} {mean_squared(images).max():.3f}")
for name, error in zip(odd, mean_squared(odd_images), strict=True):
    print(f"{name:15} {error:.3f}")

# %% [markdown]
# Where the picture does not come back, the codes could not say what it was. White and noise fail that test, and the stripes come back a little worse than any of the 200 photographs. The seven passes it. And an alarm on both sides of the cost lets the seven through as well.

# %% [markdown]
# ## 08.9 Where it breaks: the cache keeps what was drawn
#
# The naive loop of 08.1 puts the known code into the grid, and the next pass reads the grid. Little can go wrong there. The cached sampler of notebook 06 does not read the grid. It is *told* each code, twice: `keep_code` tells the steps to the right, and `keep_row` tells the rows below. Here is the cached loop, and a slip that is made in earnest: at one of the two, or at both, it passes on the code that was *drawn* instead of the one that was kept, the known one.


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
# What it returns is right in one respect in any case: known codes are in it. So the known part of the picture looks fine. **And the rest?** We complete left halves, with the same uniform numbers each time. The slip is in the top grid alone. The package draws the bottom grid given this top.

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
    "Five rows of eight images. First the left halves of clothes. Then "
    "completions: with the right cache the right half mostly continues the "
    "left. With a slip to the right several break along the middle, with one "
    "below few do. In the last row many right halves are of other clothes.",
)
for name, z in results.items():
    nats = of_image(surprise(prior, *z, labels)).mean()  # []
    name = name.replace("\n", " ")
    print(f"{name:18} {nats.round(decimals=-1):.0f} nats per image, to tens")

# %% [markdown]
# In the last row the right half was drawn for a left half that is not in the picture: the one that the sampler drew, and threw away. With the slip below, the picture is mostly fair. If you saw only the fourth row, would you notice? Its mean cost does not tell either.
#
# The check that needs no eye is the one of 08.1: the same uniform numbers, the naive loop beside it, and the first code that differs. But known *where*? **Which known part catches which slip?**


# %%
def first_difference(one, two):
    places = (one != two).nonzero()  # [how many, 3]
    if len(places) == 0:
        return "equal"
    image, y, x = places[0].tolist()
    return f"image {image}, row {y}, column {x}"


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
# Read the first block. With the upper half known, "drawn to the right" is **equal** to naive, and it is wrong. Where every row is either all known or all drawn, no drawn code ever has a known one to its left. A sampler with this slip would pass a test on lower halves for ever. The left half and the checkerboard catch all three.
#
# So a test of equality needs an input in which all the ways of being wrong can show. Known codes to the left, above, and on all sides: that is a checkerboard. The first differing code then tells where to look. With the checkerboard, a first difference in row 0 means the step to the right. It may not be alone: mend it, and run again. A first difference in row 1 means the rows.

# %% [markdown]
# ## 08.10 Exercises
#
# Change the `None` in a cell and run it. The answer is judged by trying it out.

# %% [markdown] tags=["about-solutions"]
# A solution follows each exercise in a collapsed cell: click the bar at its left to open it.

# %% [markdown]
# ### Exercise 1: complete a hole
#
# Write a function that gets the known codes of one image, [8, 8] and [16, 16] with −1 where nothing is known, its label (a tensor of shape [1]), and a count. It draws so many candidates and returns three things: both grids of all candidates, and the weight of each, in all 1. You have `candidates` of 08.6 to lean on, which gives costs.
#
# It is tried on four holes: the upper half, a window at the right, the left half, and a window that begins at the top. The check says for each about how many candidates share the weight, as 1 / Σ weight²: 1 if one has it all, the count if all weigh the same. Guess before: how many of 32?

# %%
hole_images, hole_labels = photographs[torch.tensor([2, 14, 9, 45])]
# hole_images [4, 1, 32, 32], hole_labels [4]


# %% tags=["exercise"]
def my_complete(known_top, known_bottom, label, count):
    return None  # [count, 8, 8], [count, 16, 16], [count]; your turn


holes.hole(my_complete, vqvae2, prior, hole_images, hole_labels)


# %% tags=["solution"] jupyter={"source_hidden": true, "outputs_hidden": true}
# All candidates in one batch, then the cost of the known codes of both grids.
def weighed(known_top, known_bottom, label, count):
    labels = torch.full((count,), int(label))  # [count]
    tops = known_top.expand(count, -1, -1)  # [count, 8, 8]
    bottoms = known_bottom.expand(count, -1, -1)  # [count, 16, 16]
    z_top, z_bottom = draw_the_rest(tops, bottoms, labels, seed=5)
    cost = cost_of_known(z_top, z_bottom, tops, bottoms, labels)  # [count]
    return z_top, z_bottom, (-cost).softmax(dim=0)


holes.hole(weighed, vqvae2, prior, hole_images, hole_labels)

# %% [markdown]
# ### Exercise 2: the most and the least surprising
#
# Here are the codes of 100 more test images, with their labels. Which class costs most an image, on average, and which least? Guess before you compute. Then find the single image that surprises the prior most, and the one that surprises it least. Give four numbers: both classes as `more_labels` has them, then both images, counted from 0, the dearest first each time.

# %%
more, more_labels = photographs[torch.arange(500, 600)]
# more [100, 1, 32, 32], more_labels [100]
more_top, more_bottom = codes_of(more)  # [100, 8, 8], [100, 16, 16]

# %% tags=["exercise"]
my_extremes = None  # your turn: (class, class, image, image)

check.extremes(my_extremes, prior, more_top, more_bottom, more_labels)

# %% tags=["solution"] jupyter={"source_hidden": true, "outputs_hidden": true}
# −log P of an image is the sum over the codes of both levels.
sums = of_image(surprise(prior, more_top, more_bottom, more_labels))  # [100]
means = torch.stack(
    [sums[more_labels == c].mean() for c in range(10)]
)  # [10]
extremes = means.argmax(), means.argmin(), sums.argmax(), sums.argmin()

check.extremes(extremes, prior, more_top, more_bottom, more_labels)

# %% [markdown]
# Show the two images: `figures.show(figures.image_grid(more[list(my_extremes[2:])]), "…")`. Why these? A class is cheap where its pieces are alike and of plain cloth: then each code follows from those before it. It is dear where cut, cloth and print all vary.

# %% [markdown]
# ### Exercise 3: vary only the texture
#
# Write `vary` yourself. Your function gets images [B, 1, 32, 32], their labels and a seed. It keeps their top codes, draws the bottom codes under these labels, and returns three things: z_top, z_bottom, and the decoded images.


# %% tags=["exercise"]
def my_vary(images, labels, seed):
    return None  # your turn: z_top, z_bottom, pictures


check.texture(my_vary, vqvae2, prior, hole_images, hole_labels)


# %% tags=["solution"] jupyter={"source_hidden": true, "outputs_hidden": true}
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


check.texture(new_texture, vqvae2, prior, hole_images, hole_labels)

# %% [markdown]
# ## What you can do now
#
# - Keep some codes and draw the others, from a mask of pixels, and say what the encoder and raster order do to the result.
# - Read a map of surprise, choose among candidates by it, and say why the whole image's likelihood is a poor judge of oddness.
# - Test a cached sampler with known codes so that its slips show.
#
# **To take away.** Which halves complete well if codes are drawn column by column? What would you train to complete holes of any shape, without candidates? If the label that costs least is taken for the class of an image, you have a classifier: how would you make it cheaper than ten passes?
#
# **Sources.** Completing images with a model that draws pixel by pixel: van den Oord, Kalchbrenner and Kavukcuoglu 2016, [arXiv 1601.06759](https://arxiv.org/abs/1601.06759), section 5. Two levels of codes: Razavi, van den Oord and Vinyals 2019, [arXiv 1906.00446](https://arxiv.org/abs/1906.00446), section 3.2. Sampling importance resampling: Rubin 1988, *Using the SIR algorithm to simulate posterior distributions*, Bayesian Statistics 3. Odd images that a likelihood prefers: Nalisnick, Matsukawa, Teh, Gorur and Lakshminarayanan 2019, [arXiv 1810.09136](https://arxiv.org/abs/1810.09136), section 3; how complicated an image is: Serrà, Álvarez, Gómez, Slizovskaia, Núñez and Luque 2020, [arXiv 1909.11480](https://arxiv.org/abs/1909.11480), sections 2 and 3. The photographs: Xiao, Rasul and Vollgraf 2017, [arXiv 1708.07747](https://arxiv.org/abs/1708.07747).
#
# ← [07 · Generate and judge](07_generate_and_judge.ipynb) · [the course](../README.md#the-course) · [words and symbols](GLOSSARY.md) · next: [09 · Scale up](09_scale_up.ipynb) →
