# %% [markdown]
# # 00 · Start here: new images in one minute
#
# **What you will make.** 80 images that never existed, and a program that finds the one image whose codes do not belong together.
#
# **What you will learn.** What a code and a prior are, what each of two grids holds, and what goes wrong without a prior.
#
# **What you need.** Python and PyTorch, but no internet and no GPU: data and weights are in the package.
#
# **Time.** About 28 minutes for the core and 38 for all, with the exercises; 15<!--= timings 00_start_here --> seconds to run on two CPU cores. The minutes are those of a learner: 120 words per minute, 9 seconds per line of code, 45 per figure, 30 per equation, and what stands at each *Your turn*.
#
# [the course](../README.md#the-course) · [words and symbols](GLOSSARY.md) · next: [01 · Images to codes](01_images_to_codes.ipynb) →

# %% tags=["version"]
from pixelprior.course import needs

needs("0.2")  # says so if the installed package is older

# %%
import math

import torch

from pixelprior import extract_codes, load_images, load_shipped
from pixelprior.course import explore, figures, reveal, your_turn
from pixelprior.course.checks import pipeline as check
from pixelprior.evaluation.measures import image_nats, nats_per_code

# %% [markdown]
# ## 00.1 Draw first, explain later
#
# *Core · 5 minutes*
#
# We load two networks and **draw** 40 images, that is, take them at random from what the networks have learned. We draw 40 more with **guidance** and a lower temperature, which make images more typical of their class (notebook 07). The seed fixes the random numbers.

# %%
vqvae2, prior = load_shipped()
labels = prior.labels_in_turn(40)  # [40]: classes 0, 1, …, 9, 0, 1, …
same = {"labels": labels, "seed": 0}
drawn = prior.sample_with_vqvae2(vqvae2, 40, **same)  # [40, 1, 32, 32]
guided = prior.sample_with_vqvae2(
    vqvae2, 40, **same, guidance=0.5, temperature=0.95
)  # [40, 1, 32, 32]

# %% [markdown]
# One of the three blocks below holds photographs from Fashion-MNIST, one was drawn with guidance, and one without. Each column has one class. **Which block holds the photographs?**

# %% tags=["cover"]
heldout = load_images("fashion_mnist_mini", "test")
photographs = check.of_each_class(heldout, 4)  # [40, 1, 32, 32]
figures.show(
    figures.image_blocks(
        check.shuffled(photographs, drawn, guided),
        column_names=heldout.class_names,
    ),
    "drawn_and_real",
)

# %%
my_guess = None  # your guess: "A", "B" or "C"

# %%
reveal(check.TRUTH, my_guess)

# %% [markdown]
# The networks have never seen these photographs: they were **held out**, that is kept aside for looking and measuring. In block A most images are whole, and plainer than the photographs. In block C a few are torn. From here on, our images are those of block C.

# %% [markdown]
# ## 00.2 From image to codes, and back
#
# *Core · 8 minutes*
#
# An image of 32 × 32 pixels has 1,024 numbers, and each has to fit all others. A program that draws them one by one needs 1,024 steps, and to make the hem of a shirt fit its collar, it has to look back over hundreds of them. So we first learn a shorter description of images.
#
# - A **VQ-VAE-2** (vector-quantized variational autoencoder, second version) turns an image into two small grids of **codes**, and **decodes** such grids to an image. A code is the number of a vector in a list, the **codebook**, which has K = 30<!--= vqvae2 num_embeddings --> vectors for each grid.
# - A **prior** is a probability distribution over the grids: it says which codes are likely together. To make a new image, we draw codes from the prior and decode them.
#
# The **top** grid is coarse, with one code for 4 × 4 pixels, and the **bottom** grid is finer, with one for 2 × 2. In the figure, each colour of a grid is a code of the bag on the left, and the two pictures on the right are decoded. Each grid has a codebook of its own. A code is a name, like a postcode: code 20 is not "more" than code 2. **What is in the top grid, and what does the bottom grid add?**

# %%
K = vqvae2.num_embeddings  # vectors in each codebook
bag, _ = heldout[(heldout.labels == 8).nonzero()[0]]  # [1, 1, 32, 32]
codes = vqvae2.get_code_indices(bag)
z_top, z_bottom = codes["indices_top"], codes["indices_bottom"]
# z_top [1, 8, 8], z_bottom [1, 16, 16]
rebuilt = vqvae2.decode_codes(z_top, z_bottom)  # [1, 1, 32, 32]
quant_t = vqvae2.vq_top.embedding(z_top).permute(0, 3, 1, 2)  # [1, 32, 8, 8]
no_bottom = torch.zeros(1, 32, 16, 16)
alone = vqvae2.decode(quant_t, no_bottom)  # [1, 1, 32, 32]
figures.show(
    figures.pipeline(bag, z_top, z_bottom, alone, rebuilt, K), "pipeline"
)

# %% [markdown]
# The top grid looks like confetti, but it decodes to the outline of the bag and its shade. The bottom grid adds edges and texture. So the top grid is drawn first. The prior has a part for each: P(z_top), and P(z_bottom | z_top), where the bar is read as "given".

# %% [markdown]
# ### Your turn A: the bits of a grid
#
# *3 minutes*
#
# A pixel has one of 256 = 2⁸ grey levels, which takes 8 **bits**. **How many bits does a grid of codes take, if each code is one of K?** Write the line that returns them. Do not round: many codes are stored together.
#
# <details><summary>Hint 1</summary>
#
# One code that is one of 2 takes 1 bit, one of 4 takes 2 bits, one of 8 takes 3. Which function counts them?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `math.log2`. K need not be a power of two: one of 30 takes 4.9 bits.
#
# </details>


# %% tags=["exercise"]
def my_bits(height, width, num_embeddings):
    # a grid of height × width codes, each of num_embeddings
    return None  # your turn


bits = your_turn(check.bits, my_bits, otherwise=check.bits_of_grid)

# %% [markdown] tags=["about-solutions"]
# [To solution A](#Solution-A)

# %%
of_codes = bits(8, 8, K) + bits(16, 16, K)
print(f"pixels: {8 * 32 * 32:,} bits, codes: {of_codes:,.0f} bits")

# %% [markdown]
# That is a fifth.

# %% [markdown]
# ## 00.3 Where it breaks: no prior
#
# *Core · 5 minutes*
#
# Let us leave the prior out and draw every code with equal probability 1/K, from a **uniform** distribution. **What do such codes decode to?**

# %%
torch.manual_seed(0)
random_top = torch.randint(K, (10, 8, 8))  # [10, 8, 8]: ten images
random_bottom = torch.randint(K, (10, 16, 16))  # [10, 16, 16]
noise = vqvae2.decode_codes(random_top, random_bottom)  # [10, 1, 32, 32]
figures.show(
    figures.image_rows(
        {"uniform": noise, "our prior": drawn[:10]},
        column_names=heldout.class_names,
    ),
    "uniform_codes",
)

# %% [markdown]
# The upper row is noise: every single code is valid, but the codes do not fit together.
#
# We also want a number. The prior reads the codes of a held-out image row by row, and before each one it gives every possible code a probability. Ours is as uncertain about the next top code as if it had to choose between 5. The logarithm of this number is the **nats per code**, which we follow through the whole course. It is the mean of −log P over the codes, where P is the probability that the prior gave to the code that came. For the uniform prior it is log K. A **nat** is the unit with the natural logarithm, as a bit is with base 2: 1 nat = 1.44 bits. Our prior is also given the class of the image, and for a bottom code the whole top grid.

# %%
heldout_codes = extract_codes(vqvae2, heldout)  # of all 1,000 images
nats = nats_per_code(prior, heldout_codes.subset(torch.arange(250)))
for name, each in {"uniform": math.log(K), **nats}.items():
    print(f"{name:7s} {each:.1f} nats: one of {math.exp(each):.0f} codes")

# %% [markdown]
# On all 10,000 test images, our prior needs 409<!--= results likelihood.both.nats_per_image.value --> nats per image, or 591 bits. Without a prior, the codes took 1,570 bits.

# %% [markdown]
# ## 00.4 Find the impostor
#
# *Core · 6 minutes*
#
# Eight photographs, 0 to 7, were encoded, and for one of them the *top* codes were replaced by those of another photograph of the same class. The figure shows what the eight pairs of grids decode to. **In which image do top and bottom not belong together?** Guess by eye first.

# %%
suspects = check.suspects(heldout_codes)  # the codes of eight images
tops, bottoms, classes = suspects.batch(torch.arange(8))
images = vqvae2.decode_codes(tops, bottoms)  # [8, 1, 32, 32]
names = [f"{i}: {heldout.class_names[c]}" for i, c in enumerate(classes)]
rows = figures.image_rows({"decoded": images}, column_names=names)
figures.show(rows, "impostor")

# %% [markdown]
# ### Your turn B: the impostor
#
# *4 minutes*
#
# Now let the prior find it. `image_nats(part, suspects)` sums −log P over the codes of each image, [8], for one part of the prior, `prior.prior_top` or `prior.prior_bottom`. **Which part notices that top and bottom do not belong together?** Give an expression that finds it.
#
# <details><summary>Hint 1</summary>
#
# `prior.prior_top` never sees the bottom codes. What is `prior.prior_bottom` given?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Codes that do not fit what the prior was given cost many nats. `argmax` finds the largest number of a tensor.
#
# </details>

# %% tags=["exercise"]
my_impostor = None  # your turn

check.impostor(my_impostor, prior, suspects)

# %% [markdown] tags=["about-solutions"]
# [To solution B](#Solution-B)

# %% [markdown]
# A high cost alone is no proof: a few whole photographs cost as much.

# %% [markdown]
# ## 00.5 What comes next
#
# *Core · 1 minute*
#
# [01](01_images_to_codes.ipynb) makes codes of images. [02](02_masked_convolutions.ipynb) and [03](03_gated_blocks.ipynb) build the network of the prior, and [04](04_top_prior.ipynb) and [05](05_bottom_prior.ipynb) train it for the two grids. The rest can be read in any order. Words are in the [glossary](GLOSSARY.md), and answers in the [index by question](QUESTIONS.md).

# %% [markdown]
# ## 00.6 Change one code
#
# *Further · 3 minutes*
#
# **What does a single code change in the image?** We replace one top code and decode again. In JupyterLab you can choose the row, the column and the new code.


# %%
def change_one_code(row, column, code):
    other = z_top.clone()  # [1, 8, 8]
    other[0, row, column] = code
    after = vqvae2.decode_codes(other, z_bottom)  # [1, 1, 32, 32]
    moved = 4 * (after - rebuilt).abs()  # [1, 1, 32, 32]
    names = ["before", f"code {code} at ({row}, {column})", "4 × the change"]
    return figures.captioned_images(
        torch.cat([rebuilt, after, moved]), names, columns=3
    )


places = [4, 0, 1, 2, 3, 5, 6, 7]
choices = {"row": places, "column": places, "code": [5, 0, 10, 15, 20, 25]}
explore(change_one_code, "one_code_changed", **choices)

# %% [markdown]
# A top code changes more than its own 4 × 4 pixels, and sometimes its neighbours most: the decoder makes each pixel from several codes. This is why neighbouring codes have to agree, and the prior has learned which do.

# %% [markdown]
# ## 00.7 Exercises
#
# *Further · 7 minutes*
#
# Replace the `None` in a cell with your answer and run the cell, which then tries the answer out.

# %% [markdown] tags=["about-solutions"]
# Each task has a [solution](#Solutions) at the end of the notebook.

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
# Here are the two grids of the bag with the codes written out. **Which pixels does the framed top code stand for?** It is in row 2 and column 5, counted from 0. Give the first row, the last row, the first column and the last column of pixels, counted from 0 as well.
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

# %%
figures.show(
    figures.code_grids(
        {"top codes": z_top[0], "bottom codes": z_bottom[0]},
        K,
        marked={"top codes": (2, 5)},
    ),
    "code_grids",
)

# %% tags=["exercise"]
# your turn: (first row, last row, first column, last column)
my_pixels = None

check.pixels_of_code(my_pixels, vqvae2, photographs[:16], (2, 5))

# %% [markdown] tags=["about-solutions"]
# [To solution 2](#Solution-2)

# %% [markdown]
# ## What you can do now
#
# - Load the trained networks and draw images from them, the same images for the same seed.
# - Say what a code, a codebook, a grid, a prior and a nat per code are, and why codes are drawn and not pixels.
# - Distinguish a prior that has learned something from one that has not, by its images and by its nats per code.
#
# **In papers**, a prior that draws one code after the other is an **autoregressive model** of **latent codes**; the mean of −log P is the **negative log-likelihood**. GPT does the same with parts of words.
#
# **To take away.** Why does one top code also change pixels around its own square (00.6)? Would a prior over 1,024 pixels need more steps than ours? What would you see if only the *bottom* codes were uniform? ([Answers](ANSWERS.md#00--start-here))
#
# **Sources.** Two levels of codes and a prior for each: Razavi, van den Oord and Vinyals 2019, [arXiv 1906.00446](https://arxiv.org/abs/1906.00446), sections 3.1 and 3.2. Codes for images: van den Oord, Vinyals and Kavukcuoglu 2017, [arXiv 1711.00937](https://arxiv.org/abs/1711.00937), section 3. The photographs: Xiao, Rasul and Vollgraf 2017, [arXiv 1708.07747](https://arxiv.org/abs/1708.07747).
#
# [the course](../README.md#the-course) · [words and symbols](GLOSSARY.md) · next: [01 · Images to codes](01_images_to_codes.ipynb) →

# %% [markdown] tags=["solution"]
# ## Solutions
#
# A solution is one answer of several: the checks judge what an answer does, not how it is written.

# %% [markdown] tags=["solution"]
# ### Solution A
#
# [Back to your turn A](#Your-turn-A:-the-bits-of-a-grid)


# %% tags=["solution"]
def the_bits(height, width, num_embeddings):
    return height * width * math.log2(num_embeddings)


check.bits(the_bits)

# %% [markdown] tags=["solution"]
# ### Solution B
#
# [Back to your turn B](#Your-turn-B:-the-impostor)

# %% tags=["solution"]
# Where do the bottom codes cost most, when the top codes are given?
the_impostor = image_nats(prior.prior_bottom, suspects).argmax()

check.impostor(the_impostor, prior, suspects)

# %% [markdown] tags=["solution"]
# The prior was not trained on impostors. It predicts the bottom codes from the top grid, and codes to which it gives a low probability cost many nats.

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

check.pixels_of_code(pixels, vqvae2, photographs[:16], (2, 5))
