# %% [markdown]
# # 00 · Start here: new images in one minute
#
# **What you will do.** Load a trained model, draw 60 new images, and look at the steps by which they are made.
#
# **What you will learn.** What a code and a prior are, why an image is drawn in two levels, and what goes wrong without a prior.
#
# **What you need.** Python and PyTorch, but no internet connection and no GPU, because data and weights are in the package.
#
# **Time.** About 18 minutes for the core and 28 for all, with the exercises; 15<!--= timings 00_start_here --> seconds to run on two CPU cores.
#
# [the course](../README.md#the-course) · [words and symbols](GLOSSARY.md) · next: [01 · Images to codes](01_images_to_codes.ipynb) →

# %% tags=["version"]
from pixelprior.course import needs

needs("0.2")  # says so if the installed package is older

# %%
import math
import random

import torch

from pixelprior.assets import load_shipped
from pixelprior.course import figures
from pixelprior.course.checks import pipeline as check
from pixelprior.course.widgets import explore
from pixelprior.data.codes import extract_codes
from pixelprior.data.images import load_images
from pixelprior.evaluation.measures import nats_per_code

# %% [markdown]
# ## 00.1 Draw first, explain later
#
# *Core · 3 minutes*
#
# We load the VQ-VAE-2 and the prior of the package and draw 60 images, and 60 more with **guidance**, which makes them more typical of their class (notebook 07). The seed fixes the random numbers.

# %%
vqvae2, prior = load_shipped()
K = vqvae2.num_embeddings  # codes in each codebook
labels = prior.labels_in_turn(60)  # [60]: classes 0, 1, …, 9, 0, 1, …
same = {"labels": labels, "seed": 0}
new_images = prior.sample_with_vqvae2(vqvae2, 60, **same)  # [60, 1, 32, 32]
guided = prior.sample_with_vqvae2(
    vqvae2, 60, **same, guidance=1, temperature=0.95
)  # [60, 1, 32, 32]
print("images", list(new_images.shape), "with pixels from 0 to 1")

# %% [markdown]
# **Which block holds the photographs?** One of A and B was drawn with guidance, the other holds photographs from Fashion-MNIST. The third block is of the prior itself. Each column has one class. Decide before you read on.

# %% tags=["cover"]
heldout = load_images("fashion_mnist_mini", "test")
of_class = [(heldout.labels == c).nonzero().flatten() for c in range(10)]
real = torch.stack(
    [of_class[i % 10][i // 10] for i in range(60)]
)  # [60] numbers of images
real_images, _ = heldout[real]  # [60, 1, 32, 32]
first, second = random.Random(3).sample([guided, real_images], 2)
figures.show(
    figures.image_blocks(
        {"block A": first, "block B": second, "the prior itself": new_images},
        column_names=heldout.class_names,
    ),
    "drawn_and_real",
)

# %% [markdown]
# Block A was drawn, and block B holds the photographs. The model has never seen these photographs: they were held out, kept aside for looking and measuring.
#
# In block A, most are whole, and plainer than the photographs; in the third, some are torn, such as the first one of the sixth row. From here on, images are of the prior itself.
#
# **How many images of the prior itself are wrong?** We ask a small classifier that was trained on photographs. It says which class an image looks like, and we count where this is not the class it was drawn for.

# %%
from pixelprior.evaluation.classifier import load_shipped_reference_models

_, classifier = load_shipped_reference_models()
for name, images in (("drawn", new_images), ("photographs", real_images)):
    with torch.no_grad():
        guess = classifier(images).argmax(dim=1)  # [60]
    print(f"{name}: {(guess != labels).sum()} of 60 look like another class")

# %% [markdown]
# The classifier errs on photographs too: a shirt can look like a coat. It finds more among ours. Some of these, about as many as among the photographs, are probably its own errors; the others are our model's.

# %% [markdown]
# ## 00.2 Three steps from image to image
#
# *Core · 2 minutes*
#
# An image of 32 × 32 pixels has 1,024 numbers. (Fashion-MNIST images are 28 × 28. A black border of two pixels makes them 32 × 32, the size of CIFAR-10 images, the other data set of the course, so that both have grids of the same sizes.) It is hard to draw these numbers one by one so that each fits all others. We therefore first learn a shorter description of images.
#
# 1. A **VQ-VAE-2** (vector-quantized variational autoencoder, second version: it has two grids or more) turns an image into two small grids of whole numbers, and back. Such a number is called a **code**. Each code stands for a short vector, and the list of all the vectors is the **codebook**. Each of the two grids has a codebook of its own, with K = 30<!--= vqvae2 num_embeddings --> vectors.
# 2. A **prior** is a probability distribution over the grids: it says which grids of codes are likely. (Ours is also given the class, such as *bag*, which we leave out of the formulas.) To draw an image is to draw codes from the prior…
# 3. …and then to **decode** them: the second half of the VQ-VAE-2 turns the grids back into pixels.
#
# **What do the grids look like for one real image?** Nothing in the figure is made up: every colour is a code of the bag on the left.

# %%
bag, _ = heldout[(heldout.labels == 8).nonzero()[:1, 0]]  # [1, 1, 32, 32]
codes = vqvae2.get_code_indices(bag)
z_top, z_bottom = codes["indices_top"], codes["indices_bottom"]
# z_top [1, 8, 8], z_bottom [1, 16, 16]
rebuilt = vqvae2.decode_codes(z_top, z_bottom)  # [1, 1, 32, 32]
figures.show(
    figures.pipeline(bag[0], z_top[0], z_bottom[0], rebuilt[0], K),
    "pipeline",
)
print("top codes:", z_top.numel(), " bottom codes:", z_bottom.numel())

# %% [markdown]
# Why are there two grids? The **top** grid is coarse, with one code for 4 × 4 pixels, and the **bottom** grid is finer, with one for 2 × 2. The top grid is drawn first and settles the main things, such as what the image shows and where its outline runs. The bottom grid then fills in the details.
#
# We write z_top and z_bottom for the two grids. The prior has a part for each grid: P(z_top) for the top, and P(z_bottom | z_top) for the bottom when the top is known. The vertical bar is the **condition bar**, read as "given".

# %% [markdown]
# ## 00.3 Read a grid of codes
#
# *Core · 3 minutes*
#
# **Which numbers are in the two grids?** The figure shows the same grids with the codes written out, so that the colour only repeats the number. Code 20 is not "more" than code 2, because a code is a name, like a postcode. Top code 10 and bottom code 10 have nothing in common but the number. (We come back to the framed top code in exercise 2.)

# %%
figures.show(
    figures.code_grids(
        {"top codes": z_top[0], "bottom codes": z_bottom[0]},
        K,
        marked={"top codes": (2, 5)},
    ),
    "code_grids",
)

# %% [markdown]
# In the bottom grid, nearly all of the background away from the bag has one of two codes, 11 and 26, and most of the plain cloth has one of four: 14, 28, 8 and 11 (which occurs in both). Along the edge of the bag the codes vary, on the black side too. The top grid is harder to read, because each of its codes describes more pixels and depends on more of the image around them.
#
# **What does a single code change in the image?** We replace one top code and decode again. In the third picture, the pixel that changed most is white. In JupyterLab you can choose the row, the column and the new code below the figure.


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
    "one_code_changed",
    row=[4, 0, 1, 2, 3, 5, 6, 7],
    column=[4, 0, 1, 2, 3, 5, 6, 7],
    code=[5, 0, 10, 15, 20, 25],
)
# %% [markdown]
# A code affects the pixels at its own position, and to some extent those around them. This is why neighbouring codes have to agree with each other, and the prior has learned which codes agree.

# %% [markdown]
# ## 00.4 Where it breaks: no prior
#
# *Core · 3 minutes*
#
# Let us leave the prior out and draw every code with equal probability 1/K; this distribution is called **uniform**. The decoder, the half of the VQ-VAE-2 that turns codes into pixels, is the same as before. **What images does the decoder make from such codes?**

# %%
torch.manual_seed(0)
random_top = torch.randint(K, (10, 8, 8))  # [10, 8, 8]: ten images
random_bottom = torch.randint(K, (10, 16, 16))  # [10, 16, 16]
noise = vqvae2.decode_codes(random_top, random_bottom)  # [10, 1, 32, 32]
figures.show(
    figures.image_rows(
        {"uniform": noise, "our prior": new_images[:10]},
        column_names=heldout.class_names,
    ),
    "uniform_codes",
)

# %% [markdown]
# The images in the upper row are noise: every single code is valid, but the codes do not fit together. (They have no class. The names are those of the images in the lower row.)
#
# The eye can be misled, so we also want a number that shows such a failure: **nats per code**, which we follow through the whole course. Take held-out images and ask the prior for the probability P of each code, given the class and the codes before it, row by row. (For a bottom code, the whole top grid is given too.) This P is called the **likelihood** of the code, and −log P is its cost. The number of nats per code is the mean cost of the N codes z_1 to z_N,
#
# $$
# -\frac{1}{N} \sum_{i=1}^{N} \log P(z_i \mid \text{what the prior is given}),
# $$
#
# which is small when the prior gave the codes a high probability. (The natural logarithm gives costs in nats, and the logarithm with base 2 gives bits; one nat is 1.44 bits.)
#
# A uniform prior gives each code the probability 1/K, so that each code costs log K nats. How many nats per code does our prior need? We measure this on 250 held-out images.

# %%
heldout_codes = extract_codes(vqvae2, heldout)  # of all 1,000 images
some = heldout_codes.subset(torch.arange(250))
nats = nats_per_code(prior, some)
print(f"uniform prior:  {math.log(K):.1f} nats per code")
print(
    f"our prior:      {nats['top']:.1f} for the top,"
    f" {nats['bottom']:.1f} for the bottom"
)
assert nats["top"] < math.log(K) / 2

# %% [markdown]
# On all 10,000 held-out images of the full data set, our prior needs 1.67<!--= results likelihood.top.nats_per_code.value --> nats per top code and 1.21<!--= results likelihood.bottom.nats_per_code.value --> nats per bottom code. Because exp(1.67) is about 5, the prior is as uncertain about the next top code as if it had to choose between 5 codes instead of 30<!--= vqvae2 num_embeddings -->.

# %% [markdown]
# ## 00.5 Where each part is taught
#
# *Core · 2 minutes*
#
# You have now used all parts without looking inside. **What comes next in the course?** Each notebook explains one part and runs by itself, in a new kernel. A word is explained where it first appears, and recalled later. Look up words in the [glossary](GLOSSARY.md), and questions in the [index by question](QUESTIONS.md).

# %%
chapters = {
    "00": "start here:\nnew images",
    "01": "images to codes:\nthe VQ-VAE-2",
    "02": "masked\nconvolutions",
    "03": "gated blocks,\ntwo stacks",
    "04": "the top prior:\nthe coarse grid",
    "05": "the bottom prior:\nthe fine grid",
    "06": "sampling,\nfast",
    "07": "generate\nand judge",
    "08": "complete\nand edit",
    "09": "scale up: GPUs,\nyour own images",
    "10": "find what\nis odd",
}
builds_on = {
    "01": "00", "02": "00", "03": "02", "04": "01 03", "05": "04",
    "06": "05", "07": "05", "08": "05", "09": "05", "10": "05",
}  # fmt: skip
figures.show(figures.course_map(chapters, builds_on, here="00"), "course_map")

# %% [markdown]
# An arrow leads from a notebook to those that build on it. You can begin with [01](01_images_to_codes.ipynb) or [02](02_masked_convolutions.ipynb); [03](03_gated_blocks.ipynb) continues 02, and [04](04_top_prior.ipynb) needs 01 and 03. After [05](05_bottom_prior.ipynb), the last five can be read in any order: [06](06_fast_sampling.ipynb), [07](07_generate_and_judge.ipynb), [08](08_complete_and_edit.ipynb), [09](09_scale_up.ipynb) and [10](10_find_what_is_odd.ipynb).

# %% [markdown]
# ## 00.6 Exercises
#
# *Core: exercise 1*
#
# Replace the `None` in a cell with your answer and run the cell, which then tries the answer out.

# %% [markdown] tags=["about-solutions"]
# Each exercise has a [solution](#Solutions) at the end of the notebook.

# %% [markdown]
# ### Exercise 1: how many runs?
#
# *Difficulty 1 of 5 · importance 3 of 5 · 3 minutes*
#
# The prior draws codes one after the other, row by row: first the 8 × 8 top codes, then the 16 × 16 bottom codes. Assume that each code needs one run of a network, called a **forward pass**, and that all images of a batch go through a run together. **How many runs does it take to draw a batch of 64 images?** Predict the number, then let the check count the runs.
#
# <details><summary>Hint 1</summary>
#
# How many codes does one image have in both grids together?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Does a batch of 64 images need 64 times as many runs, if all of them go through a run together?
#
# </details>

# %% tags=["exercise"]
my_runs = None  # your turn

check.forward_passes(my_runs, 64, (8, 8), (16, 16))

# %% [markdown] tags=["about-solutions"]
# [To solution 1](#Solution-1)

# %% [markdown]
# ### Exercise 2: which pixels belong to a code?
#
# *Difficulty 2 of 5 · importance 3 of 5 · 4 minutes*
#
# Look at the framed top code in the figure of 00.3, in row 2 and column 5, counted from 0. **Which pixels does this top code stand for?** Give the first row, the last row, the first column and the last column of pixels, counted from 0 as well.
#
# <details><summary>Hint 1</summary>
#
# A side of the image has 32 pixels, and a side of the top grid has 8 codes.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The number of the row, times the pixels per code, is the first row of pixels. How many rows belong to the code?
#
# </details>

# %% tags=["exercise"]
# your turn: (first row, last row, first column, last column)
my_pixels = None

check.pixels_of_code(my_pixels, vqvae2, real_images[:16], (2, 5))

# %% [markdown] tags=["about-solutions"]
# [To solution 2](#Solution-2)

# %% [markdown]
# ### Exercise 3: find the impostor
#
# *Difficulty 3 of 5 · importance 4 of 5 · 6 minutes*
#
# Eight photographs were encoded, and for one of them the *top* codes were replaced by those of another photograph of the same class. They are photographs that you have not seen yet. All that you have are the codes of the eight images, `suspects`, and the figure shows what they decode to. **In which of the eight images do top and bottom codes not belong together?** Guess by eye first, which is hard, and then write a program that finds it from the codes. Count from 0, from left to right.
#
# <details><summary>Hint 1</summary>
#
# Section 00.4 has a number that says how well the codes of an image fit together.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Of the two parts of the prior, `prior.prior_bottom` knows which bottom codes to expect when the top codes are given.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# `image_nats(part, codes)` of `pixelprior.evaluation.measures` returns the nats of each image for one part of the prior.
#
# </details>

# %%
suspects = check.suspects(heldout_codes)  # the codes of eight images
decoded = vqvae2.decode_codes(
    suspects.z_top.long(), suspects.z_bottom.long()
)  # [8, 1, 32, 32]
names = [heldout.class_names[label] for label in suspects.labels]
figures.show(
    figures.image_rows({"decoded": decoded}, column_names=names), "impostor"
)

# %% tags=["exercise"]
my_impostor = None  # your turn

check.impostor(my_impostor, prior, suspects)

# %% [markdown] tags=["about-solutions"]
# [To solution 3](#Solution-3)

# %% [markdown]
# ## What you can do now
#
# - Load the trained model and draw images from it, the same images for the same seed.
# - Say what a code, a codebook, a grid, a prior and a nat per code are.
# - Distinguish a prior that has learned something from one that has not, by its images and by its nats per code.
#
# **To take away.** Why does one top code also change pixels around its own square? Would a prior over 1,024 pixels need more runs, or fewer? What would you see if only the *bottom* codes were uniform? ([Answers](ANSWERS.md#00--start-here))
#
# **Sources.** Two levels of codes and a prior for each: Razavi, van den Oord and Vinyals 2019, [arXiv 1906.00446](https://arxiv.org/abs/1906.00446), sections 3.1 and 3.2. Codes for images: van den Oord, Vinyals and Kavukcuoglu 2017, [arXiv 1711.00937](https://arxiv.org/abs/1711.00937), section 3. The photographs: Xiao, Rasul and Vollgraf 2017, [arXiv 1708.07747](https://arxiv.org/abs/1708.07747).
#
# [the course](../README.md#the-course) · [words and symbols](GLOSSARY.md) · next: [01 · Images to codes](01_images_to_codes.ipynb) →

# %% [markdown] tags=["solution"]
# ## Solutions
#
# A solution is one answer of several: the checks judge what an answer does, not how it is written.

# %% [markdown] tags=["solution"]
# ### Solution 1
#
# [Back to exercise 1](#Exercise-1:-how-many-runs?)

# %% tags=["solution"]
# One run for each position of the two grids. The batch goes through together.
runs = 8 * 8 + 16 * 16

check.forward_passes(runs, 64, (8, 8), (16, 16))

# %% [markdown] tags=["solution"]
# The check drew in this naive way. In 00.1 the package kept what each layer had computed before, so that the draw took about as much arithmetic as one run of each network.

# %% [markdown] tags=["solution"]
# ### Solution 2
#
# [Back to exercise 2](#Exercise-2:-which-pixels-belong-to-a-code?)

# %% tags=["solution"]
# 32 pixels for 8 codes: 4 pixels per code along each side.
row, column, side = 2, 5, 32 // 8
top, left = row * side, column * side
pixels = (top, top + side - 1, left, left + side - 1)

check.pixels_of_code(pixels, vqvae2, real_images[:16], (2, 5))

# %% [markdown] tags=["solution"]
# ### Solution 3
#
# [Back to exercise 3](#Exercise-3:-find-the-impostor)

# %% tags=["solution"]
# Where do the bottom codes cost most, when the top codes are given?
from pixelprior.evaluation.measures import image_nats

bottom_nats = image_nats(prior.prior_bottom, suspects)  # [8]

check.impostor(bottom_nats.argmax().item(), prior, suspects)

# %% [markdown] tags=["solution"]
# The prior was not trained on impostors. It predicts the bottom codes from the top grid, and codes to which it gives a low probability cost many nats. Notebook 08 finds the odd parts of a single image in the same way.
