# %% [markdown]
# # 08 · Complete and edit in code space
#
# **What you will make.** Many lower halves for one upper half, and clothes below a drawing of your own.
#
# **What you will learn.** How to keep what is known while codes are drawn one by one, how much is still open when half is known, and how to test a sampler with known codes.
#
# **What you need.** Notebook [05](05_bottom_prior.ipynb), the cache of [06](06_fast_sampling.ipynb), and the inverse CDF of [07](07_generate_and_judge.ipynb).
#
# **Time.** About 29 minutes for the core and 58 for all, with the exercises; 35<!--= timings 08_complete_and_edit --> seconds to run on two CPU cores.
#
# ← [07 · Generate and judge](07_generate_and_judge.ipynb) · [the course](../README.md#the-course) · [words and symbols](GLOSSARY.md) · next: [09 · Your own images, CIFAR and several GPUs](09_scale_up.ipynb) →

# %% tags=["version"]
from pixelprior.course import needs

needs("0.2")  # says so if the installed package is older

# %%
import torch

from pixelprior import complete, load_images, load_shipped, surprise
from pixelprior.course import explore, figures, reveal, your_turn
from pixelprior.course.checks import editing as check
from pixelprior.editing import codes_of
from pixelprior.sampling import inverse_cdf, probabilities, uniforms

# %% [markdown]
# ## 08.1 Keep what is known
#
# *Core · 10 minutes*
#
# A prior draws codes in raster order, each from P(code | codes before it). The codes before it need not be *drawn*: they can come from a photograph. So a prior can **complete** an image: known codes are kept, and the others are drawn.

# %%
vqvae2, prior = load_shipped()
photographs = load_images("fashion_mnist_mini", "test")
images, labels = photographs[torch.tensor([1, 7, 13, 2, 14, 35, 10, 22])]
z_top, z_bottom = codes_of(vqvae2, prior, images)  # [8, 8, 8], [8, 16, 16]
upper = torch.arange(8)[:, None].expand(8, 8) < 4  # [8, 8], True above
known = z_top.masked_fill(~upper, -1)  # [8, 8, 8], −1 where not known

# %% [markdown]
# ### Your turn A: keep the known codes
#
# *6 minutes*
#
# Here is the naive sampler: one pass of the network for every code, and the inverse CDF of notebook 07, which takes one uniform number for each code. It draws every code, also the known ones. **Change the marked line**: where `known` has a code, this code is kept, and where `known` has −1, the drawn code is taken. The check tries grids in which other codes are known in each image.
#
# <details><summary>Hint 1</summary>
#
# `known[:, y, x]` holds what is known at this position, [B], one number for each image. At the same position, one image may have a code and another −1.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `torch.where(condition, a, b)` takes `a` where the condition is true, and `b` elsewhere. Code 0 is a code like any other.
#
# </details>


# %% tags=["exercise"]
@torch.no_grad()
def my_fill_in(logits_of, known, uniform):  # known, uniform: [B, H, W]
    return None  # your turn: delete this line, and change the marked one
    codes = known.clamp(min=0)  # [B, H, W], 0 where not known yet
    for y in range(known.shape[1]):
        for x in range(known.shape[2]):
            logits = logits_of(codes)[:, :, y, x]  # [B, K]
            probs = probabilities(logits)  # [B, K]
            drawn = inverse_cdf(probs, uniform[:, y, x])  # [B]
            codes[:, y, x] = drawn  # the marked line
    return codes


fill_in = your_turn(check.fill_in, my_fill_in, otherwise=check.filled_in)

# %% [markdown] tags=["about-solutions"]
# [To solution A](#Solution-A)

# %% [markdown]
# It completes eight top grids. `check.pictures` draws the lower halves of their bottom grids, and decodes. **Do the lower halves go on where the upper halves end?**


# %%
def logits_of(codes):
    return prior.prior_top(codes, labels)  # [8, K, 8, 8]


uniform = uniforms(0, 0, 8, 64).view(8, 8, 8)
# of seed 0, from image 0 on: 8 images with 64 numbers each
completed = fill_in(logits_of, known, uniform)  # [8, 8, 8]
drawn = check.pictures(vqvae2, prior, completed, z_bottom, upper, labels)
rows = {"photograph": images, "completed": drawn}
figures.show(figures.image_rows(rows), "completed_by_hand")

# %% [markdown]
# Outline and shade go on; here, plaid and stripes mostly do not. Known codes *below* a hole do not help: they are in the grid, but the masks of notebook 02 hide them (08.8).

# %% [markdown]
# ## 08.2 One half, many completions
#
# *Core · 3 minutes*
#
# Usually *pixels* are hidden: `complete` encodes the known ones, draws the codes of the others, and decodes (08.7). **What may lie below the same upper half?**

# %%
five, of_five = photographs[torch.tensor([23, 7, 13, 31, 22])]


def completions(known_rows):
    visible = torch.arange(32)[:, None].expand(32, 32) < known_rows
    rows = {"photograph": five, "known": five * visible}  # [5, 1, 32, 32]
    given = vqvae2, prior, five, visible
    for seed in range(8):
        rows[f"seed {seed}"] = complete(*given, labels=of_five, seed=seed)
    return figures.image_rows(check.turned(rows), column_names=[*rows])


# %% tags=["cover"]
known_rows = [16, 0, 4, 8, 12, 20, 24, 28]
explore(completions, "many_completions", known_rows=known_rows)

# %% [markdown]
# Heels, skirts and the bag itself vary, and go on from the upper half. Some plaid and some soles fall apart. If no row is known (move the slider), the draws are samples of the class. The known half is not quite the photograph's, because all pixels are decoded.

# %% [markdown]
# ## 08.3 How much must be known?
#
# *Core · 2 minutes*
#
# The **surprise** of a code is −log P(code | codes before it), in nats. If the upper half settled the rest, the codes of the lower half would cost little. **What share of the nats of a top grid is in its lower half?**

# %%
my_guess = None  # your guess, in percent

# %%
many, of_many = photographs[torch.arange(200)]
codes = codes_of(vqvae2, prior, many)
nats = surprise(prior, *codes, labels=of_many)["top"]  # [200, 8, 8]
share = nats[:, 4:].sum() / nats.sum()
reveal(f"{share:.0%} of the nats are in the lower half", my_guess)

# %% [markdown]
# When half of the top codes are known, half of their nats are left. No row settles the rest: each adds about as much as the row above it.

# %% [markdown]
# ## 08.4 Your own drawing
#
# *Core · 3 minutes*
#
# The prior has seen nothing but clothes. **What grows below a face?** In JupyterLab, draw something else on the black board, the upper half of an image, and run the next cell, which completes it under each label.

# %%
from pixelprior.course import DrawingBoard

face = torch.zeros(8, 16)  # a cell is 2 × 2 pixels, as a bottom code is
face[1:, 4:12] = 1
face[3:5, [5, 6, 9, 10]] = 0  # two eyes
board = DrawingBoard(otherwise=face)

# %%
half = torch.arange(32)[:, None].expand(32, 32) < 16  # [32, 32]
mine = torch.zeros(10, 1, 32, 32)
mine[:, 0, :16] = 0.8 * torch.kron(board.drawing, torch.ones(2, 2))
rows, ten = {"drawing": mine}, torch.arange(10)
for seed in range(3):
    drawn = complete(vqvae2, prior, mine, half, labels=ten, seed=seed)
    rows[f"seed {seed}"] = drawn  # [10, 1, 32, 32]
figure = figures.image_rows(rows, column_names=photographs.class_names)
figures.show(figure, "drawing_completed")

# %% [markdown]
# The face is kept, and cloth grows below it, mostly of its shade, sometimes with sleeves. What is known says more than the label: no shoe comes.

# %% [markdown]
# ## 08.5 Where it breaks: the cache passes on what was drawn
#
# *Core · 8 minutes*
#
# The naive sampler reads its grid in every pass. The cached one does not: `keep_code` passes each code on to those on its right (and, by attention, to all later ones), and `keep_row` a whole row to those below. A mistake that people make:
#
# ```python
# given = known[:, y, x]
# codes[:, y, x] = torch.where(given < 0, drawn, given)
# cache.keep_code(drawn)  # the mistake
# ...
# cache.keep_row(codes[:, y])  # after the row: right
# ```
#
# The grid is right, and the code passed on is not. **Can you see the mistake**, if the left half is known?


# %%
def both(mask):  # bool [8, 8], True where a code is known
    known = z_top.masked_fill(~mask, -1)  # [8, 8, 8]
    z = check.cached(prior.prior_top, known, labels, uniform, mistaken=True)
    return fill_in(logits_of, known, uniform), z  # [8, 8, 8] each


left, rows = upper.T, {"photograph": images}
for name, z in zip(("no mistake", "mistake"), both(left), strict=True):
    rows[name] = check.pictures(vqvae2, prior, z, z_bottom, left, labels)
figures.show(figures.image_rows(rows), "forgetful_cache")

# %% [markdown]
# With the mistake, the right halves of the pullover and the plaid shirt fall apart, and the white coat has dark stripes. The other five would pass.
#
# A test is better than the eye: from the same uniform numbers, both have to draw the same codes. Let the lower half be known. **Where do the grids differ first?**

# %%
my_guess = None  # your guess: row and column

# %%
reveal(check.first_difference(*both(~upper)), my_guess)

# %% [markdown]
# ### Your turn B: a test that notices
#
# *4 minutes*
#
# The test passes, and the sampler is wrong: the known codes come last, and a wrong code is passed on only to codes that are known themselves. With `left`, the mistake shows. **Which single known code would do, in a network without attention?** Make a mask, a boolean tensor [8, 8], True only where this code is.
#
# <details><summary>Hint 1</summary>
#
# Where a code is known, another one is drawn and passed on. Which codes hear of it?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Those on its right, in the same row, so there has to be one. `torch.zeros(8, 8).bool()` is a mask of which no code is known.
#
# </details>

# %% tags=["exercise"]
my_mask = None  # your turn: bool [8, 8]

mask = your_turn(check.reveals, my_mask, otherwise=check.REVEALING)

# %% [markdown] tags=["about-solutions"]
# [To solution B](#Solution-B)

# %%
print(check.first_difference(*both(mask)))

# %% [markdown]
# **Test with an input in which the mistake can show.**

# %% [markdown]
# ## 08.6 The same as the package
#
# *Further · 1 minute*
#
# With the left half known, the mistake would show. **Does the package, with its cache, draw what the naive sampler draws?**

# %%
shapes, given = ((8, 8), (16, 16)), z_top.masked_fill(~left, -1)
theirs, _ = prior.sample(8, *shapes, labels=labels, seed=0, known_top=given)
print("the same top codes:", torch.equal(both(left)[0], theirs))

# %% [markdown]
# ## 08.7 From hidden pixels to known codes
#
# *Further · 5 minutes*
#
# A top code stands for 4 × 4 pixels, a bottom code for 2 × 2, and a code is known where *all* of its pixels are. A round hole of radius 6 hides 11% of the pixels. **What share of the top codes does it hide?**

# %%
my_guess = None  # your guess, in percent

# %%
middle = torch.arange(32) - 15.5  # [32]
outside = middle[:, None].square() + middle.square() > 36  # [32, 32]
tops, bottoms = (
    (~check.all_known(outside, side)).float().mean() for side in (8, 16)
)
reveal(
    f"{tops:.0%} of the top codes and {bottoms:.0%} of the bottom codes",
    my_guess,
)

# %% [markdown]
# One hidden pixel is enough to lose a code. And the encoder is made of convolutions, so a code depends on *more* pixels than it stands for: if the whole photograph were encoded, the codes beside the hole would tell what is in it. So `complete` makes the hidden pixels black *before* it encodes. But now the codes beside the hole say that the image turns black, and the prior may continue the black. The remedy is a second look: the first result is a **draft**, which takes the place of the black pixels, and all that is unknown is drawn once more. **Does the second look help?**

# %%
some, of_some = photographs[torch.tensor([1, 4, 7, 9, 13, 14, 18, 40])]
rows = {"photograph": some, "known": some * outside}
for looks in (1, 2):
    rows[f"look {looks}"] = complete(
        vqvae2, prior, some, outside, labels=of_some, seed=0, looks=looks
    )
figures.show(figures.image_rows(rows), "two_looks")

# %% [markdown]
# On some: it makes the dress, the coat and the last shirt smooth. The word on the pullover stays away, and the sneaker stays torn: their drafts were bad, and the second look relies on the draft.

# %% [markdown]
# ## 08.8 The upper half: many candidates
#
# *Further · 8 minutes*
#
# Now the *lower* half is known. The upper half comes first in raster order, so it is drawn without the known codes. To look at this alone, we encode the whole photographs, forget codes and not pixels, and draw the top grids only. Each of the 256 draws is a **candidate**, and most candidates do not fit. Which of them do, the prior can say afterwards.
#
# A candidate is drawn with probability Q, the product of P(code | codes before it) over the *drawn* codes. It should come with P(drawn codes | known codes), which is proportional to P(all codes), the product over *all* codes. In the ratio of the two, the drawn codes cancel:
#
# $$
# \frac{P(\text{all codes})}{Q} = \prod_{\text{known codes}} P(\text{code} \mid \text{codes before it}) = e^{-\text{cost of the known codes}}.
# $$
#
# So each candidate gets a **weight** w that is proportional to this number, and one of them is drawn by its weight. This is called **sampling importance resampling**.

# %%
from pixelprior.sampling import sample_codes

four, of_four = photographs[torch.tensor([13, 9, 7, 20])]
z, low = codes_of(vqvae2, prior, four)  # [4, 8, 8], [4, 16, 16]
lower = z.masked_fill(upper, -1).repeat_interleave(256, 0)  # [1024, 8, 8]
own = of_four.repeat_interleave(256)  # [1024]
level = prior.prior_top
z = sample_codes(
    level,
    (8, 8),
    uniforms(0, 0, 1024, 64),
    level.label_condition(own, 1024),
    known=lower,
).view(4, 256, 8, 8)
with torch.no_grad():
    nats = level.nats(z.flatten(0, 1), labels=own)  # [1024, 8, 8]
cost = nats[:, 4:].sum(dim=(1, 2)).view(4, 256)  # of the known codes
weight = (-cost.double()).softmax(dim=1)  # [4, 256], each row adds up to 1

# %% [markdown]
# **Do the costs tell what fits?**

# %%
numbers = {
    "first\ncandidate": torch.zeros(4).long(),
    "most\nexpensive": cost.argmax(dim=1),
    "drawn\nby weight": inverse_cdf(weight, uniforms(1, 0, 4, 1)[:, 0]),
}  # [4] each
low[:, :8] = -1
rows = {"photograph": four, "known": four * ~half}
for name, number in numbers.items():
    grids = [z[torch.arange(4), number], low]
    rows[name] = prior.sample_with_vqvae2(
        vqvae2, 4, labels=of_four, seed=0, known=grids
    )
figures.show(figures.image_rows(rows), "candidates")

# %%
n_eff = 1 / weight.square().sum(dim=1)  # [4]
print("effective sample sizes of 256:", *(f"{n:.0f}" for n in n_eff))

# %% [markdown]
# The first candidates were drawn without the known half, and some do not fit: the white shoulders end in a **seam**. The most expensive fit worst of all. Those drawn by weight mostly agree with what is known, in shade and outline, and the photograph was not used to choose them.
#
# How many of the 256 share the weight is told by the **effective sample size**, 1 ÷ Σ w². It is 256 if all weigh the same, and 1 if one has all the weight. Here it is 5 or less: good upper halves are rare among those drawn without the lower half, and for the plaid shirt a single one was found.

# %% [markdown]
# ## 08.9 What an edit costs
#
# *Further · 5 minutes*
#
# We paste a square of stripes on a pullover. **Where does the edited image surprise the prior?** For the maps we spread the cost of each code evenly over its pixels, and add both levels. The third map is the second less the first, on a scale of its own: red where the edited image costs more, and white where it does not.


# %%
def over_pixels(of_codes, side):  # [B, H, W] to [B, 32, 32]
    rows = of_codes.repeat_interleave(side, 1)  # [B, 32, W]
    return rows.repeat_interleave(side, 2) / side**2  # [B, 32, 32]


pullover, label = photographs[1:2]  # [1, 1, 32, 32], [1]
edited = pullover.clone()
edited[..., 17:25, 12:20] = torch.tensor([0.0, 1.0]).repeat(4)
codes = codes_of(vqvae2, prior, torch.cat([pullover, edited]))
nats = surprise(prior, *codes, labels=label.expand(2))
maps = over_pixels(nats["top"], 4) + over_pixels(nats["bottom"], 2)
figure = figures.images_over_maps(
    torch.cat([pullover, edited, (edited - pullover).abs()]),
    torch.cat([maps, maps[1:] - maps[:1]]),
    ["photograph", "edited", "difference"],
    unit="nats per pixel",
    limits=(0, 1.5),
    difference="nats per pixel more",
)
figures.show(figure, "cost_of_an_edit")

# %% [markdown]
# In the second map, the square is about as bright as the word above it. The third map tells them apart: the deepest red lies on the square, above all in its left part. Raster order reaches this part first; then stripe follows stripe, as the prior expects by now. The sum over a map is −log of the **likelihood** of an image's codes, given the label. Likelihoods differ more between photographs than by this edit, so the sum alone would not give the edit away.

# %% [markdown]
# ## 08.10 Exercises
#
# *Further · 10 minutes*
#
# Replace the `None` in a cell with your answer and run the cell, which then tries the answer out.

# %% [markdown] tags=["about-solutions"]
# Each task has a [solution](#Solutions) at the end of the notebook.

# %% [markdown]
# ### Exercise 1: which codes are known?
#
# *Difficulty 1 of 5 · importance 4 of 5 · 5 minutes · after 08.7*
#
# Write the function that turns a mask of pixels into a mask of codes. `known` is a boolean tensor [32, 32], True where a pixel is known, and `side` is 8 for the top grid or 16 for the bottom grid. A code is known where **all** of its pixels are known. The check tries both sides.
#
# <details><summary>Hint 1</summary>
#
# Along each side, a code has `32 // side` pixels. `known.view(side, pixels, side, pixels)` has rows of codes, rows within a code, columns of codes, and columns within a code.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `t.all(dim=…)` is True where all along a dimension are True. Which two of the four dimensions have to go?
#
# </details>


# %% tags=["exercise"]
def my_known_codes(known, side):  # bool [32, 32], 8 or 16
    return None  # your turn: bool [side, side]


check.known_codes(my_known_codes)

# %% [markdown] tags=["about-solutions"]
# [To solution 1](#Solution-1)

# %% [markdown]
# ### Exercise 2: vary only the texture
#
# *Difficulty 2 of 5 · importance 4 of 5 · 5 minutes*
#
# Keep the outline of images and draw their texture anew. Your function gets images [B, 1, 32, 32], labels [B] and a seed, and returns two grids: the top codes of the images, and bottom codes that are drawn under these labels, given this top. (In the package this is `vary`.)
#
# <details><summary>Hint 1</summary>
#
# `codes_of(vqvae2, prior, images)` gives both grids. Which of them is known?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `prior.sample(B, (8, 8), (16, 16), labels=…, seed=…, known_top=…)` returns both grids.
#
# </details>


# %% tags=["exercise"]
def my_vary(images, labels, seed):
    return None  # your turn: z_top [B, 8, 8], z_bottom [B, 16, 16]


check.texture(my_vary, vqvae2, prior, images[:4], labels[:4])

# %% [markdown] tags=["about-solutions"]
# [To solution 2](#Solution-2)

# %% [markdown]
# ## What you can do now
#
# - Complete an image, or a drawing of your own: keep the known codes, and draw the others one by one.
# - Say how many nats are left when half of the codes are known.
# - Test a cached sampler with known codes that let a mistake show.
#
# **In papers**, completing is **inpainting** or **infilling** in **latent space**, and weighting many draws is **importance sampling** (08.8). GPT completes words: the prompt is what is known.
#
# **To take away.** Which halves complete well if codes are drawn column by column? What would you train to complete holes of any shape, without candidates? Why can a completion be good, and far from the photograph? ([Answers](ANSWERS.md#08--complete-and-edit-in-code-space))
#
# **Sources.** Completing, pixel by pixel: van den Oord, Kalchbrenner and Kavukcuoglu 2016, [arXiv 1601.06759](https://arxiv.org/abs/1601.06759), section 5. Sampling importance resampling: Rubin 1988, *Bayesian Statistics* 3.
#
# ← [07 · Generate and judge](07_generate_and_judge.ipynb) · [the course](../README.md#the-course) · [words and symbols](GLOSSARY.md) · next: [09 · Your own images, CIFAR and several GPUs](09_scale_up.ipynb) →

# %% [markdown] tags=["solution"]
# ## Solutions
#
# A solution is one answer of several: the checks judge what an answer does, not how it is written.

# %% [markdown] tags=["solution"]
# ### Solution A
#
# [Back to your turn A](#Your-turn-A:-keep-the-known-codes)


# %% tags=["solution"]
@torch.no_grad()
def the_fill_in(logits_of, known, uniform):  # both [B, H, W]
    codes = known.clamp(min=0)  # [B, H, W], 0 where not known yet
    for y in range(known.shape[1]):
        for x in range(known.shape[2]):
            logits = logits_of(codes)[:, :, y, x]  # [B, K]
            probs = probabilities(logits)  # [B, K]
            drawn = inverse_cdf(probs, uniform[:, y, x])  # [B]
            given = known[:, y, x]  # [B], −1 where not known
            codes[:, y, x] = torch.where(given < 0, drawn, given)
    return codes


check.fill_in(the_fill_in)

# %% [markdown] tags=["solution"]
# ### Solution B
#
# [Back to your turn B](#Your-turn-B:-a-test-that-notices)

# %% tags=["solution"]
# Any code will do that is not the last of its row.
the_mask = torch.zeros(8, 8).bool()  # [8, 8]
the_mask[3, 3] = True

check.reveals(the_mask)

# %% [markdown] tags=["solution"]
# ### Solution 1
#
# [Back to exercise 1](#Exercise-1:-which-codes-are-known?)


# %% tags=["solution"]
def all_of_them(known, side):  # bool [32, 32], 8 or 16
    pixels = 32 // side  # along each side of a code
    squares = known.view(side, pixels, side, pixels)
    return squares.all(dim=3).all(dim=1)  # [side, side]


check.known_codes(all_of_them)

# %% [markdown] tags=["solution"]
# ### Solution 2
#
# [Back to exercise 2](#Exercise-2:-vary-only-the-texture)


# %% tags=["solution"]
# The encoder gives both grids; only the top grid is given as known.
def new_texture(images, labels, seed):
    z_top, _ = codes_of(vqvae2, prior, images)  # [B, 8, 8]
    return prior.sample(
        len(images),
        (8, 8),
        (16, 16),
        labels=labels,
        seed=seed,
        known_top=z_top,
    )


check.texture(new_texture, vqvae2, prior, images[:4], labels[:4])
