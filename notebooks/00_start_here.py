# %% [markdown]
# # 00 · Start here: new images in one minute
#
# **What you will do.** Load a trained model, draw 64 images that never existed, and look at what happened on the way.
#
# **What you will learn.** What a code is. What a prior is. Why an image is drawn in two levels, and what goes wrong without a prior.
#
# **What you need.** Python and PyTorch. No internet connection and no GPU: data and weights are in the package.
#
# **Time.** About 15 minutes to read, 15<!--= timings 00_start_here --> seconds to run on two CPU cores.
#
# [the course](../README.md#the-course) · [words and symbols](GLOSSARY.md) · next: [01 · Images to codes](01_images_to_codes.ipynb) →

# %%
import math

import torch

from pixelprior.assets import load_shipped
from pixelprior.codes import extract_codes
from pixelprior.course import figures
from pixelprior.course.checks import pipeline as check
from pixelprior.course.widgets import explore
from pixelprior.data import load_images
from pixelprior.evaluation.measures import nats_per_code

# %% [markdown]
# ## 00.1 Draw first, explain later
#
# Two networks ship with the package. We load both, and ask for 64 images. The seed fixes the random numbers: with the same seed you get the images that you see here.

# %%
vqvae2, prior = load_shipped()
labels = prior.labels_in_turn(64)  # [64]: classes 0, 1, …, 9, 0, 1, …
new_images = prior.sample_with_vqvae2(
    vqvae2, 64, labels=labels, seed=0
)  # [64, 1, 32, 32]
print("images", list(new_images.shape), "with pixels from 0 to 1")

# %% [markdown]
# **Could you tell them from photographs?** On the left is what we drew. On the right are 64 photographs from Fashion-MNIST, of the same ten classes in the same order. The model has never seen these: they were held out, kept aside for looking and measuring.

# %% tags=["cover"]
heldout = load_images("fashion_mnist_mini", "test")
of_class = [(heldout.labels == c).nonzero().flatten() for c in range(10)]
real = torch.stack(
    [of_class[i % 10][i // 10] for i in range(64)]
)  # [64] numbers of images
real_images, _ = heldout[real]  # [64, 1, 32, 32]
figures.show(
    figures.image_blocks(
        {"drawn by the model": new_images, "photographs": real_images}
    ),
    "Two blocks of 64 small grey images of clothes, shoes and bags. The "
    "drawn ones on the left have the outlines and shades of the photographs "
    "on the right; prints and seams are softer.",
)

# %% [markdown]
# Most outlines, sleeves and soles are right. A few images are not, such as the two dark ones in the seventh row, and small print is soft. So you could tell some of them, and not others. Keep this in mind: by the end of the course you can say which part of the model is to thank for each, and which to blame.

# %% [markdown]
# ## 00.2 Three steps from image to image
#
# An image of 32 × 32 pixels has 1,024 numbers. (Fashion-MNIST's are 28 × 28; a black border of two pixels makes them 32 × 32, so that they can be halved several times.) Drawing them one by one, each fitting all others, is hard. So we first learn a shorthand.
#
# 1. A **VQ-VAE-2** (vector-quantized variational autoencoder, second version, which has more than one grid; the paper uses three for images of 1,024 × 1,024 pixels) turns an image into two small grids of whole numbers, and back. Such a number is called a **code**. Each stands for a short vector, and the list of all the vectors is the **codebook**. Each of the two grids has a codebook of its own, with K = 64 vectors.
# 2. A **prior** is a probability distribution over the grids. It says which grids of codes are likely. (Ours is also told the class, such as *bag*. We leave that out of the formulas.) To draw an image is to draw codes from the prior…
# 3. …and to **decode** them: the second half of the VQ-VAE-2 turns the grids back into pixels.
#
# **What do the grids look like for one real image?** The figure has no made-up part. Every colour is a code of this very bag.

# %%
bag, _ = heldout[(heldout.labels == 8).nonzero()[:1, 0]]  # [1, 1, 32, 32]
codes = vqvae2.get_code_indices(bag)
z_top, z_bottom = codes["indices_top"], codes["indices_bottom"]
# z_top [1, 8, 8], z_bottom [1, 16, 16]
rebuilt = vqvae2.decode_codes(z_top, z_bottom)  # [1, 1, 32, 32]
figures.show(
    figures.pipeline(
        bag[0], z_top[0], z_bottom[0], rebuilt[0], vqvae2.num_embeddings
    ),
    "A grey bag at the left. Arrows lead from it to two grids of coloured "
    "cells, the top codes, 8 by 8, and the bottom codes, 16 by 16, and from "
    "both to the decoded bag at the right, which looks the same.",
)
print("top codes:", z_top.numel(), " bottom codes:", z_bottom.numel())

# %% [markdown]
# Why two grids? The **top** grid is coarse. A top code stands for 4 × 4 pixels. The **bottom** grid is finer: 2 × 2 pixels per code. Drawing the top first settles the big things, such as what it is and where its outline runs. The bottom then fills in.
#
# We write z_top and z_bottom for the two grids. The prior has a part for each: P(z_top) for the top, and P(z_bottom | z_top) for the bottom when the top is known. Read the bar as "given".

# %% [markdown]
# ## 00.3 Read a grid of codes
#
# **Which numbers are they?** Here are the same two grids with the codes written out. The colour only repeats the number. Code 40 is not "more" than code 4: a code is a name, like a postcode. Top code 10 and bottom code 10 have nothing in common but the number. (We come back to the framed top code in exercise 2.)

# %%
figures.show(
    figures.code_grids(
        {"top codes": z_top[0], "bottom codes": z_bottom[0]},
        64,
        marked={"top codes": (2, 5)},
    ),
    "The same two grids with the code written in each cell, numbers from 0 "
    "to 63. A red frame marks the top code in row 2, column 5, counted from "
    "0.",
)

# %% [markdown]
# In the bottom grid, the background away from the bag is nearly all of two codes, and the plain cloth mostly of two others. Along the bag's edge the codes vary, on the black side too. The top grid is harder to read: each of its codes speaks for more pixels, and knows more of what is around it.
#
# **What does a single code do?** We replace one top code and decode again. The third picture shows which pixels changed: the brighter, the more. In JupyterLab you can choose the row, the column and the new code below the figure.


# %%
def change_one_code(row, column, code):
    other = z_top.clone()  # [1, 8, 8]
    other[0, row, column] = code
    after = vqvae2.decode_codes(other, z_bottom)  # [1, 1, 32, 32]
    moved = (after - rebuilt).abs()
    pictures = torch.cat(
        [rebuilt, after, moved / moved.max().clamp(min=1e-6)]
    )
    names = ["before", f"code {code} at ({row}, {column})", "what changed"]
    return figures.captioned_images(pictures, names, columns=3)


explore(
    change_one_code,
    "Three pictures: the bag; the bag with one top code replaced, changed "
    "a little; and the difference, bright in a small square around the "
    "replaced code and dark elsewhere.",
    row=[4, 0, 1, 2, 3, 5, 6, 7],
    column=[4, 0, 1, 2, 3, 5, 6, 7],
    code=[5, 0, 20, 40, 60],
)
# %% [markdown]
# A code acts where it stands, and a little around it. That is why neighbouring codes have to agree with each other. Whether they agree is what the prior knows.

# %% [markdown]
# ## 00.4 Where it breaks: no prior
#
# Let us leave the prior out. We draw every code with equal probability 1/K. Such a distribution is called **uniform**. The decoder is the same good decoder as before. **What does it make of such codes?**

# %%
torch.manual_seed(0)
random_top = torch.randint(64, (8, 8, 8))  # [8, 8, 8]: eight images
random_bottom = torch.randint(64, (8, 16, 16))  # [8, 16, 16]
noise = vqvae2.decode_codes(random_top, random_bottom)  # [8, 1, 32, 32]
figures.show(
    figures.image_rows({"uniform": noise, "our prior": new_images[:8]}),
    "Two rows of eight images. Above, from uniform codes: grey noise "
    "without any shape. Below, from the prior: a T-shirt, trousers, a "
    "pullover and other clothes.",
)

# %% [markdown]
# Noise. Each code is a fine code. They do not fit together.
#
# Eyes can be fooled, so we want a number that catches this. It is the one we follow through the whole course: **nats per code**. Take held-out images and ask the prior for the probability of each code, given the class and the codes before it, row by row. (A bottom code is also given all of the top grid.) This P is called the **likelihood** of the code, and −log P its cost. The mean cost is the number. Small means: the prior expected what came. (A nat is to the natural logarithm what a bit is to the logarithm with base 2. One nat is 1.44 bits.)
#
# A uniform prior gives each code the probability 1/64. Its number is log 64. What does ours have? We measure it on 250 held-out images.

# %%
some = extract_codes(vqvae2, load_images("fashion_mnist_mini", "test"))
some.z_top, some.z_bottom, some.labels = (
    some.z_top[:250],
    some.z_bottom[:250],
    some.labels[:250],
)
nats = nats_per_code(prior, some)
print(f"uniform prior:  {math.log(64):.1f} nats per code")
print(
    f"our prior:      {nats['top']:.1f} for the top,"
    f" {nats['bottom']:.1f} for the bottom"
)
assert nats["top"] < math.log(64) / 2

# %% [markdown]
# On all 10,000 held-out images of the full data set it is 1.83<!--= results likelihood.top.nats_per_code.value --> nats per top code and 1.23<!--= results likelihood.bottom.nats_per_code.value --> nats per bottom code. exp(1.83) is about 6. So the prior is as unsure about the next top code as if it had to choose between 6 codes, instead of 64.

# %% [markdown]
# ## 00.5 Where each part is taught
#
# You have now used everything once, from the outside. **What comes next?** Each notebook opens one box. Each runs by itself, from a cold kernel. A word is explained where it first comes; later notebooks recall in a line what they use of it. Do you look for a word, or come with a question? There is a [list of words and symbols](GLOSSARY.md) and an [index by question](QUESTIONS.md).

# %%
chapters = {
    "00": "start here:\nnew images",
    "01": "images to codes:\nthe VQ-VAE-2",
    "02": "masked\nconvolutions",
    "03": "gated blocks,\ntwo stacks",
    "04": "the top prior\nP(z_top)",
    "05": "the bottom prior\nP(z_bottom | z_top)",
    "06": "sampling,\nfast",
    "07": "generate\nand judge",
    "08": "complete\nand edit",
    "09": "scale up: GPUs,\nyour own images",
}
figures.show(
    figures.course_map(chapters, here="00"),
    "Ten boxes joined by arrows: 00 start here, 01 images to codes, 02 "
    "masked convolutions, 03 gated blocks, 04 the top prior, 05 the bottom "
    "prior, 06 sampling, 07 generate and judge, 08 complete and edit, 09 "
    "scale up. 00 is filled in.",
)

# %% [markdown]
# ## 00.6 Exercises
#
# Change the `None` in a cell and run it. The answer is judged by trying it out.

# %% [markdown] tags=["about-solutions"]
# A solution follows each exercise in a collapsed cell: click the bar at its left to open it.

# %% [markdown]
# ### Exercise 1: how many runs?
#
# The prior draws codes one after the other, row by row: first the 8 × 8 top codes, then the 16 × 16 bottom codes. Say that each code needs one run of a network, a **forward pass**. All images of a batch go through a run together. **How many runs does it take to draw a batch of 64 images?** Predict, then let it be counted.

# %% tags=["exercise"]
my_runs = None  # your turn

check.forward_passes(my_runs, 64, (8, 8), (16, 16))

# %% tags=["solution"] jupyter={"source_hidden": true, "outputs_hidden": true}
# One run for each place of the two grids. The batch goes through together.
runs = 8 * 8 + 16 * 16

check.forward_passes(runs, 64, (8, 8), (16, 16))

# %% [markdown]
# That is how it is drawn naively. The package keeps what each layer has computed before. So the draw above took about as much arithmetic as one run of each network.

# %% [markdown]
# ### Exercise 2: where does a code stand?
#
# Look at the framed top code, in row 2 and column 5, counted from 0. **Which pixels does it stand for?** Give the first row, the last row, the first column and the last column of pixels, counted from 0 as well.

# %% tags=["exercise"]
my_pixels = (
    None  # your turn: (first row, last row, first column, last column)
)

check.pixels_of_code(my_pixels, vqvae2, real_images[:16], (2, 5))

# %% tags=["solution"] jupyter={"source_hidden": true, "outputs_hidden": true}
# 32 pixels for 8 codes: 4 pixels per code along each side.
row, column, side = 2, 5, 32 // 8
top, left = row * side, column * side
pixels = (top, top + side - 1, left, left + side - 1)

check.pixels_of_code(pixels, vqvae2, real_images[:16], (2, 5))

# %% [markdown]
# ### Exercise 3: find the impostor
#
# Below are eight photographs, and under each the image decoded from its codes. In one of the lower row the *top* codes were taken from another image, and the bottom codes left as they were. **Which one?** Count from 0.

# %%
generator = torch.Generator().manual_seed(7)
impostor = torch.randint(8, (), generator=generator).item()
originals = real_images[8:16]  # [8, 1, 32, 32]
grids = vqvae2.get_code_indices(originals)
mixed_top = grids["indices_top"].clone()  # [8, 8, 8]
mixed_top[impostor] = grids["indices_top"][(impostor + 3) % 8]
mixed = vqvae2.decode_codes(
    mixed_top, grids["indices_bottom"]
)  # [8, 1, 32, 32]
figures.show(
    figures.image_rows({"photograph": originals, "decoded": mixed}),
    "Two rows of eight images. The decoded images below agree with the "
    "photographs above them, except for one, which is of another kind of "
    "clothes.",
)

# %% tags=["exercise"]
my_impostor = None  # your turn

check.swapped_image(my_impostor, originals, mixed)

# %% tags=["solution"] jupyter={"source_hidden": true, "outputs_hidden": true}
# Look, or let the numbers look: where is the largest difference?
differences = (originals - mixed).square().mean(dim=(1, 2, 3))  # [8]

check.swapped_image(differences.argmax().item(), originals, mixed)

# %% [markdown]
# ## What you can do now
#
# - Load the trained model and draw images from it, the same ones for the same seed.
# - Say what a code, a codebook, a grid, a prior and a nat per code are.
# - Tell a prior that learned something from one that did not, by eye and by number.
#
# **To take away.** Why does swapping the top codes change more than swapping the bottom codes would? Would a prior over 1,024 pixels need more runs, or fewer? What would you see if only the *bottom* codes were uniform?
#
# **Sources.** Two levels of codes and a prior for each: Razavi, van den Oord and Vinyals 2019, [arXiv 1906.00446](https://arxiv.org/abs/1906.00446), sections 3.1 and 3.2. Codes for images: van den Oord, Vinyals and Kavukcuoglu 2017, [arXiv 1711.00937](https://arxiv.org/abs/1711.00937), section 3. The photographs: Xiao, Rasul and Vollgraf 2017, [arXiv 1708.07747](https://arxiv.org/abs/1708.07747).
#
# [the course](../README.md#the-course) · [words and symbols](GLOSSARY.md) · next: [01 · Images to codes](01_images_to_codes.ipynb) →
