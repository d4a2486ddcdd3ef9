# %% [markdown]
# # 01 · Images to codes: VQ-VAE-2
#
# **What you will do.** Build a codebook by hand, first for pairs of pixels, then inside a real network. Take an image apart into two grids of codes, and put it together from one grid or both.
#
# **What you will learn.** How the nearest code is found. How a gradient gets past a step that has none. How a codebook follows the data, and how it dies. What each of the two levels holds.
#
# **What you need.** Notebook [00](00_start_here.ipynb), and PyTorch. No internet connection and no GPU.
#
# **Time.** About 25 minutes to read, 40<!--= timings 01_images_to_codes --> seconds to run on two CPU cores.
#
# ← [00 · Start here](00_start_here.ipynb) · [the course](../README.md#the-course) · [words and symbols](GLOSSARY.md) · next: [02 · Masked convolutions](02_masked_convolutions.ipynb) →

# %%
import copy

import torch
import torch.nn.functional as F

from pixelprior.assets import load_shipped
from pixelprior.codes import extract_codes
from pixelprior.course import figures
from pixelprior.course.checks import quantizing as check
from pixelprior.course.widgets import explore
from pixelprior.data import load_images
from pixelprior.quantizer import Quantizer, perplexity
from pixelprior.vqvae2 import VQVAE2

training = load_images("fashion_mnist_mini", "train")
heldout = load_images("fashion_mnist_mini", "test")

# %% [markdown]
# ## 01.1 A codebook for pairs of pixels
#
# To **quantize** is to replace a value by the nearest one of a short list. Here we do it to vectors. The list is the **codebook**: K vectors of D numbers each. We call it e, and e_k is its row number k, counted from 0. The **code** of a vector is the number k of the nearest row. (We also say *code k* for the vector e_k itself, where nothing can be confused.)
#
# The smallest case that can be drawn has D = 2. So we cut photographs into pairs: a pixel and its right neighbour. Each pair is a point in the plane. For K = 8 codes we take random numbers, and hope for the best.

# %%
pixels, _ = training[torch.arange(64)]  # [64, 1, 32, 32]
pairs = pixels.reshape(-1, 2)  # [N, D]: N = 64 · 32 · 16 pairs
torch.manual_seed(2)
start = torch.randn(8, 2)  # [K, D]: the codebook e


def nearest(features, e):
    """The code of each feature: [N, D] and [K, D] to [N]."""
    differences = features[:, None] - e[None]  # [N, K, D]
    distances = differences.square().sum(dim=-1)  # [N, K]
    return distances.argmin(dim=1)  # [N]


# %% [markdown]
# That is the whole lookup: a distance to each of the K vectors, and the smallest wins. **Which part of the plane belongs to which code?**

# %%
figures.show(
    figures.nearest_cells(
        {"8 random codes": (pairs[::20], start)},
        x_label="left pixel",
        y_label="right pixel",
        limits=(-1.5, 1.5),
    ),
    "A plane cut into eight cells with straight borders, one around each "
    "code. The pairs of pixels lie in the square from 0 to 1, most of them "
    "along its diagonal. Codes whose cell holds no pair are drawn as white "
    "squares, the others as black discs.",
)

# %% [markdown]
# The plane falls into cells with straight borders. Everything in a cell gets the same code. The points lie in the square from 0 to 1, mostly near its diagonal: neighbouring pixels are alike. Our codes do not know that. Those drawn as white squares are nearest to no point at all.

# %% [markdown]
# ## 01.2 Let the codebook follow the data
#
# Where should a code stand? In the middle of its points: that is where their mean squared distance to it is smallest. So we move each code to the mean of the points that chose it, let the points choose anew, and so on. That is **k-means**.
#
# A network trains on small batches, and its features change as it learns. The mean over one batch would jitter. So we take k-means batch by batch, which is called *online k-means*, and keep a **moving average**: of the old value we keep a share γ, and the batch at hand gives the share 1 − γ. Its full name is *exponential moving average*, EMA. For each code k we average two things, the number of its points n_k and their sum. With N_k and m_k for the averages:
#
# N_k ← γ N_k + (1 − γ) n_k
#
# m_k ← γ m_k + (1 − γ) (sum of the points of k)
#
# e_k = m_k / N_k
#
# No gradient is needed. The paper takes γ = 0.99, which averages over about 1 ÷ (1 − γ) = 100 batches. Our runs here have few steps, so that we take γ = 0.8, about 5 batches, and see the codes move.


# %%
def ema_step(features, e, counts, sums, decay=0.8):
    """A batch of features [N, D] moves e [K, D], counts [K], sums [K, D]."""
    codes = nearest(features, e)  # [N]
    one_hot = F.one_hot(codes, len(e)).float()  # [N, K]
    counts = decay * counts + (1 - decay) * one_hot.sum(dim=0)  # [K]
    sums = decay * sums + (1 - decay) * one_hot.T @ features  # [K, D]
    return sums / counts[:, None], counts, sums


panels = {"at the start": (pairs[::20], start)}
e, counts, sums = start, torch.ones(8), start
for step in range(1, 31):
    e, counts, sums = ema_step(pairs, e, counts, sums)
    if step in (1, 30):
        panels[f"after step {step}"] = (pairs[::20], e)

# %% [markdown]
# **Where do the codes go?**

# %%
figures.show(
    figures.nearest_cells(
        panels,
        x_label="left pixel",
        y_label="right pixel",
        limits=(-1.5, 1.5),
    ),
    "The plane at the start, after step 1 and after step 30. Codes that "
    "had points move among them, one to the black corner at 0, one to "
    "the bright end of the diagonal, others between. Three codes far "
    "outside stay where they were, as white squares.",
)
print("codes with an average count below 1:", (counts < 1).sum().item())

# %% [markdown]
# The codes that had points moved in among them. One sits at (0, 0), in the black background. Three did not move: they are nearest to nothing, so they get nothing, so they stay. Such a code is **dead**. Its N_k is multiplied by γ in each step, and so is its m_k. The quotient e_k stays where it was.
#
# (N_k follows the number of points that a code gets in a step. Below 1 means fewer than one point per step.) With five living codes we pay for eight. Remember the three. They come back in *Where it breaks*.

# %% [markdown]
# ## 01.3 From pixels to features
#
# Pairs of pixels were for the drawing. A better vector to quantize is one that a network has made for the purpose. The **encoder** is a network that turns an image into a grid of vectors, its **features**. The **decoder** turns such a grid into an image. With quantization in between, and a loss that wants the image back, it is a **VQ-VAE**: a vector-quantized variational autoencoder.
#
# We load the trained model that ships with the package, and take the features of its coarse level, 8 × 8 vectors of D = 32 numbers for each image. Does our lookup give the package's codes?

# %%
vqvae2, _ = load_shipped()
images, _ = heldout[torch.arange(64)]  # [64, 1, 32, 32]


def rows_of(features):
    """One feature per row: [B, D, H, W] to [B · H · W, D]."""
    return features.permute(0, 2, 3, 1).flatten(0, 2)


with torch.no_grad():
    features_b = vqvae2.encoder_bottom(images)  # [64, 64, 16, 16]
    features_t = vqvae2.encoder_top(features_b)  # [64, 32, 8, 8]
    _, their_codes, _ = vqvae2.vq_top(features_t)  # [64, 8, 8]
e_top = vqvae2.vq_top.vq.codebook.clone()  # [K, D] = [64, 32]
our_codes = nearest(rows_of(features_t), e_top)  # [4096]
same = (our_codes == their_codes.flatten()).float().mean()
print(f"the same codes in more than 99.9 % of places: {same > 0.999}")

# %% [markdown]
# The lookup is the same, in 32 dimensions instead of 2. (We do not ask for 100 %: where two codes are equally near but for rounding, two processors may differ.)

# %% [markdown]
# ## 01.4 A gradient through a step that has none
#
# How does the encoder learn? The decoder sees e_k, and k comes from an argmin. Move a feature a little, and mostly the same k wins: the output does not change at all. The slope is zero, and PyTorch does not even give one. Whatever the decoder wishes for, the encoder does not hear it.
#
# The remedy is to pretend. Forward we hand on the quantized vector. Backward we act as if nothing had happened, and give the decoder's gradient to the features as it is. That is the **straight-through estimator**:
#
# features + (quantized − features).detach()
#
# Work it out: the two features cancel, and the value is `quantized`. But `.detach()` is a **stop gradient**: what is in it counts as a constant on the way back. What is left to differentiate is `features`, with slope 1. The papers write sg[…] for it.

# %%
features = features_t[:16].clone().requires_grad_(True)  # [16, D, 8, 8]
codes = nearest(rows_of(features), e_top)  # [1024]
quantized = e_top[codes].unflatten(0, (16, 8, 8))  # [16, 8, 8, D]
quantized = quantized.permute(0, 3, 1, 2)  # [16, D, 8, 8]
print("a gradient without the trick:", quantized.requires_grad)

through = features + (quantized - features).detach()  # [16, D, 8, 8]
torch.manual_seed(0)
sent = torch.randn(through.shape)  # what a decoder might send back
(through * sent).sum().backward()
print("forward, the quantized values:", torch.allclose(through, quantized))
print("backward, what was sent:", torch.equal(features.grad, sent))

# %% [markdown]
# The package's `Quantizer` does the same while training. We give it the same features, and send the same gradient back.

# %%
quantizer = copy.deepcopy(vqvae2.vq_top).train()
theirs = features_t[:16].clone().requires_grad_(True)  # [16, D, 8, 8]
their_quantized, _, their_loss = quantizer(theirs)  # [16, D, 8, 8], loss []
(their_quantized * sent).sum().backward()
difference = (theirs.grad - features.grad).abs().max()
print(f"gradients differ by less than 1e-5: {difference < 1e-5}")
difference = (their_quantized - through).abs().max()
print(f"values differ by less than 1e-5: {difference < 1e-5}")

# %% [markdown]
# The pretence is fair as long as a feature is near its code. Then a step that is good for one is good for the other. So a second loss keeps it near, the **commitment loss**: the mean squared difference between each feature and its code, where the code counts as a constant. It pulls on the encoder alone. The training loss is
#
# reconstruction error + β · commitment loss
#
# The **reconstruction error** is the mean squared difference of image and decoded image. β says how hard to pull. Ours is 0.25, as in van den Oord et al. 2017. In the first form there, a third term pulls the codes to the features; the moving average does that here.

# %%
commitment = (features - quantized).square().mean()  # []
difference = (commitment - their_loss).abs()
print(f"commitment losses differ by less than 1e-5: {difference < 1e-5}")

# %% [markdown]
# ## 01.5 The package's moving average is ours
#
# A `Quantizer` in training mode also moves its codebook. It is a thin cover over the library vector-quantize-pytorch, which calls N_k `cluster_size` and m_k `embed_avg`. The library has one detail more. It adds a hundred-thousandth to each count and scales them back to their old sum, so that nothing is divided by zero. Same codebook, same features, one step: same codebook after?

# %%
quantizer = copy.deepcopy(vqvae2.vq_top).train()
state = copy.deepcopy(quantizer.state_dict())
counts = state["vq._codebook.cluster_size"][0]  # [K]
sums = state["vq._codebook.embed_avg"][0]  # [K, D]
quantizer(features_t)  # one step of the package

_, counts, sums = ema_step(rows_of(features_t), e_top, counts, sums)
total = counts.sum()  # []
smooth = (counts + 1e-5) / (total + 64 * 1e-5) * total  # [K]
by_hand = sums / smooth[:, None]  # [K, D]
difference = (by_hand - quantizer.vq.codebook).abs().max()
moved = (quantizer.vq.codebook - e_top).abs().max()
print(f"codebooks differ by less than 1e-5: {difference < 1e-5}")
print(f"and it did move, by more than 1e-3: {moved > 1e-3}")

# %% [markdown]
# ## 01.6 Two levels
#
# One grid of codes has to hold both the big things and the small ones. VQ-VAE-2 gives each a grid of its own. This is how they are wired, with the sizes of our model:
#
# ```text
# image, 32 × 32
#    ↓ encoder_bottom
# features, 16 × 16 ──────────────────────→ join
#    ↓ encoder_top                           ↑ │
# features, 8 × 8                            │ ↓ to_bottom
#    ↓ quantize                              │ quantize
# z_top, 8 × 8 ──→ decoder_top ──→ 16 × 16 ──┘ ↓
#    │                                         z_bottom, 16 × 16
#    └───→ upsample_top ───────→ join ←──────────┘
#                                 ↓ decoder
#                             image, 32 × 32
# ```
#
# The bottom encoder halves the image, and the top encoder halves it once more. The top is quantized first. Then it is decoded to the bottom's size and joined to the bottom features, and only then is the bottom quantized. So the bottom knows what the top has already said, and can spend its codes on the **residual error**: what is still wrong with the image if you have the top alone. Wherever a grid goes into a network of the VQ-VAE-2, its codes are looked up first: e_k in the place of k.
#
# Now the same by hand, part by part, with the weights of our model.

# %%
with torch.no_grad():
    features_b = vqvae2.encoder_bottom(images)  # [64, 64, 16, 16]
    quant_t, z_top, _ = vqvae2.vq_top(vqvae2.encoder_top(features_b))
    # quant_t [64, 32, 8, 8], z_top [64, 8, 8]
    decoded_t = vqvae2.decoder_top(quant_t)  # [64, 32, 16, 16]
    both = torch.cat([features_b, decoded_t], dim=1)  # [64, 96, 16, 16]
    quant_b, z_bottom, _ = vqvae2.vq_bottom(vqvae2.to_bottom(both))
    # quant_b [64, 32, 16, 16], z_bottom [64, 16, 16]
    wide = vqvae2.upsample_top(quant_t)  # [64, 32, 16, 16]
    rebuilt = vqvae2.decoder(torch.cat([wide, quant_b], dim=1))
    rebuilt = rebuilt.clamp(0, 1)  # [64, 1, 32, 32]
    difference = (rebuilt - vqvae2(images)).abs().max()
package = vqvae2.get_code_indices(images)
print("same top codes:", torch.equal(z_top, package["indices_top"]))
print("same bottom codes:", torch.equal(z_bottom, package["indices_bottom"]))
print(f"images differ by less than 1e-5: {difference < 1e-5}")

# %% [markdown]
# **What does each level hold?** We decode three times: with both, with the bottom vectors set to zero, and with the top vectors set to zero. While this model was trained, one image in ten was decoded without its bottom vectors (`bottom_dropout`), so its decoder knows what to make of the top alone. It was never trained without the top.

# %% tags=["cover"]
with torch.no_grad():
    top_only = vqvae2.decode(quant_t, torch.zeros_like(quant_b))
    bottom_only = vqvae2.decode(torch.zeros_like(quant_t), quant_b)
# [64, 1, 32, 32] each
residual = 3 * (images - top_only).abs()  # [64, 1, 32, 32]
figures.show(
    figures.image_rows(
        {
            "photograph": images[:8],
            "both": rebuilt[:8],
            "top only": top_only[:8],
            "residual × 3": residual[:8],
            "bottom only": bottom_only[:8],
        }
    ),
    "Five rows of eight images. The photographs; from both levels nearly "
    "the same; from the top only the right outlines and shades without "
    "print and checks; the residual error, bright at print, checks and "
    "edges; from the bottom only dark images with dotted traces of pattern.",
)

# %%
print("mean squared error")
for name, image in {
    "both": rebuilt,
    "top only": top_only,
    "bottom only": bottom_only,
}.items():
    print(f"{name:12s} {(images - image).square().mean():.3f}")

# %% [markdown]
# The top holds shape and shade. Print, checks and seams are missing: they are bright in the residual row, which shows the size of the error, three times as bright as it is. Those are what the bottom is for. Read the last row with care. The decoder never met zeros in the place of the top while it was trained. There are traces of the pattern. That all is dark says little.

# %% [markdown]
# ## 01.7 Is the codebook in use?
#
# A codebook of 64 is worth 64 only if its codes occur. We count them over 1,000 held-out images. One number sums it up, the **perplexity**. Take p_k, the share of code k, and the **entropy** of these shares, H = −Σ p_k log p_k: what a code costs on average, in nats, for someone who knows the shares and nothing else. The perplexity is exp(H). If all 64 are equally frequent, it is 64. If one code is all there is, it is 1. In between it is the number of codes that would be as varied if they were equally frequent.


# %%
def perplexity_by_hand(codes, num_embeddings):
    counts = torch.bincount(codes.flatten(), minlength=num_embeddings)  # [K]
    shares = counts / counts.sum()  # [K]
    seen = shares[shares > 0]  # 0 · log 0 counts as 0
    return (-(seen * seen.log()).sum()).exp()  # []


codes = extract_codes(vqvae2, heldout)
grids = {"top": codes.z_top.long(), "bottom": codes.z_bottom.long()}
for level, grid in grids.items():
    ours, packages = perplexity_by_hand(grid, 64), perplexity(grid, 64)
    in_use = len(grid.unique())
    print(f"{level}: {in_use} of 64 codes in use, perplexity {ours:.0f}")
    print(f"  differs by < 1e-3: {(ours - packages).abs() < 1e-3}")

# %% [markdown]
# **Do all codes work?**

# %%
uses = {
    level: torch.bincount(grid.flatten(), minlength=64)  # [K]
    for level, grid in grids.items()
}
figures.show(
    figures.code_use(uses),
    "Two bar charts of 64 codes each, most frequent first. At each level "
    "some six bars are well above the dashed line of equal shares, the "
    "tallest one at the bottom level; then the shares fall slowly. No bar "
    "is empty.",
)

# %% [markdown]
# The dashed line is 1/64, the height of all bars if the codes were equally frequent. Every code occurs at both levels. The few tall bars are black background. Over all 10,000 test images the perplexity is 42.4<!--= results codes.top.perplexity --> at the top and 25.4<!--= results codes.bottom.perplexity --> at the bottom. The bottom is the lower one: more of its small squares are all black, and where the top has said "background", there is little to add.
#
# **How many codes does an image need?** Keep the ones that are used most, and send every other code to the nearest of those kept. In JupyterLab you can choose how many, and at which level.


# %%
def stand_ins(level, kept):
    """For each code the nearest of the `kept` most used ones: [K]."""
    e = getattr(vqvae2, f"vq_{level}").vq.codebook  # [K, D]
    best = uses[level].argsort(descending=True, stable=True)[:kept]  # [kept]
    return best[nearest(e, e[best])]  # [K]


# %%
def keep_most_used(kept, level):
    few = {"top": z_top[:8], "bottom": z_bottom[:8]}
    for each in ("top", "bottom") if level == "both" else (level,):
        few[each] = stand_ins(each, kept)[few[each]]  # [8, H, W]
    image = vqvae2.decode_codes(few["top"], few["bottom"])  # [8, 1, 32, 32]
    rows = {"photograph": images[:8], "all codes": rebuilt[:8]}
    return figures.image_rows({**rows, f"{kept} kept": image})


explore(
    keep_most_used,
    "Three rows of eight images: photographs; with all codes, nearly the "
    "same; with 8 codes of each level, blotched and without checks.",
    kept=[8, 1, 2, 4, 16, 32, 64],
    level=["both", "top", "bottom"],
)

# %% [markdown]
# Move it down from 64. First pattern and even shades go, then shape. Now reduce one level alone: few bottom codes cost you print, few top codes cost you the garment.

# %% [markdown]
# ## 01.8 Train a small one
#
# Nothing above was trained here, apart from eight codes in a plane. Now we train a whole VQ-VAE-2, with a quarter of the shipped model's weights, on 4,000 of the 6,000 images that ship with the package. `loss_function` gives the loss of the section on gradients. The codebooks move by themselves in each forward pass, as they are in training mode. They start with k-means on the first batch: choose, take the mean, repeat, as above, ten times on one batch.

# %% tags=["nbval-ignore-output"]
torch.manual_seed(0)
small = VQVAE2(1, hidden_channels=32, embedding_dim=16, num_embeddings=64)
optimizer = torch.optim.AdamW(small.parameters(), lr=3e-3)
errors = []
for epoch in range(2):
    for batch in torch.randperm(4000).split(64):
        losses = small.loss_function(training[batch][0])
        optimizer.zero_grad()
        losses["total_loss"].backward()
        optimizer.step()
        errors.append(losses["reconstruction_loss"].item())
    print(f"epoch {epoch + 1}: error {sum(errors[-63:]) / 63:.3f}")
small.eval()
with torch.no_grad():
    by_small = small(images)  # [64, 1, 32, 32]
assert (images - by_small).square().mean() < 0.015

# %% [markdown]
# **Does it learn?** The dashed line is the error of a model that gives the mean image for every image.

# %%
mean_image = training[:][0].mean(dim=0)  # [1, 32, 32]
figures.show(
    figures.curves(
        {"reconstruction error": errors},
        x_label="step, 64 images each",
        y_label="mean squared error of a batch",
        baselines={
            "mean image": (images - mean_image).square().mean().item()
        },
        log_y=True,
        y_limits=(0.003, 0.3),
    ),
    "A curve of the error over 126 steps, on a logarithmic axis. It starts "
    "above the dashed line of the mean image, is below it for good after "
    "some thirty steps, and falls more and more slowly.",
)

# %% [markdown]
# It is below the mean image for good after some thirty steps. Part of the noise is on purpose: in each batch about one image in ten is decoded without its bottom codes. **How good are its images, beside those of the shipped model?**

# %%
figures.show(
    figures.image_rows(
        {
            "photograph": images[:8],
            "small": by_small[:8],
            "shipped": rebuilt[:8],
        }
    ),
    "Three rows of eight images: photographs, rebuilt by the small model, "
    "and by the shipped one. The small model has outlines and shades right "
    "and blurs print and checks; the shipped one is sharper.",
)

# %% [markdown]
# After two rounds through 4,000 images it has shapes and shades, and blurs the fine things. The shipped weights had more of everything: all 60,000 images, and six rounds.

# %% [markdown]
# ## 01.9 Where it breaks: codebook collapse
#
# The package's quantizer has two safeguards. Its codebook starts at the features, by k-means. And each dead code, one with N_k below 1, is **renewed**: it is put where a random feature of the batch is. Let us make the mistake of leaving them out. We start from normal random numbers instead, which is what PyTorch gives you for a table of vectors, and use our own moving average, which renews nothing. The features are those of the shipped encoder, so only the codebook can be at fault.

# %%
with torch.no_grad():
    many, _ = training[torch.arange(1024)]  # [1024, 1, 32, 32]
    many_b = vqvae2.encoder_bottom(many)  # [1024, 64, 16, 16]
    quant, _, _ = vqvae2.vq_top(vqvae2.encoder_top(many_b))
    joined = torch.cat([many_b, vqvae2.decoder_top(quant)], dim=1)
    many_features = {
        "top": vqvae2.encoder_top(many_b),  # [1024, 32, 8, 8]
        "bottom": vqvae2.to_bottom(joined),  # [1024, 32, 16, 16]
    }


# %% [markdown]
# To compare with, we want the package's quantizer without k-means but with renewal. We load our bad start into it.


# %%
def quantizer_from(e):
    """A Quantizer that starts at e [K, D] as our own average does."""
    quantizer = Quantizer(*e.shape, ema_decay=0.8)
    state = quantizer.state_dict()
    state["vq._codebook.initted"] = torch.tensor(True)  # no k-means
    for name in ("embed", "embed_avg"):
        state[f"vq._codebook.{name}"] = e[None].clone()  # [1, K, D]
    quantizer.load_state_dict(state)
    return quantizer.train()


# %% [markdown]
# At each level we train two codebooks, with the same bad start and the same batches. One has its dead codes renewed, by the package. The other has not: it is our `ema_step`. Sixty steps, and we write down the perplexity of each batch.


# %%
def learn(features, renewed):
    """60 steps from a bad start: the codebook, and the perplexities."""
    torch.manual_seed(0)
    e = torch.randn(64, 32)  # [K, D]
    quantizer = quantizer_from(e)
    counts, sums, history = torch.ones(64), e, []
    shuffle = torch.Generator().manual_seed(0)
    for _ in range(60):
        some = torch.randint(1024, (16,), generator=shuffle)
        batch = features[some]  # [16, D, H, W]
        if renewed:
            _, codes, _ = quantizer(batch)
            e = quantizer.vq.codebook
        else:
            codes = nearest(rows_of(batch), e)  # [16 · H · W]
            e, counts, sums = ema_step(rows_of(batch), e, counts, sums)
        history.append(perplexity(codes, 64).item())
    return e, history


# %%
learned = {
    (level, renewed): learn(many_features[level], renewed)
    for level in ("top", "bottom")
    for renewed in (True, False)
}

# %% [markdown]
# **What does perplexity say?**

# %%
figures.show(
    figures.curves(
        {
            f"{level}, {'renewed' if renewed else 'not renewed'}": history
            for (level, renewed), (_, history) in learned.items()
        },
        x_label="step",
        y_label="perplexity of a batch",
        baselines={"all 64 equally frequent": 64},
        y_limits=(0, None),
    ),
    "Four curves of perplexity over 60 steps. The two renewed ones rise "
    "within a few steps to about 50. The two that are not renewed stay "
    "below 10 from the first step to the last.",
)

# %% [markdown]
# All four start with few codes in use. Renewal brings the dead ones in with the next step. Without it the perplexity stays about where it began. The few codes that were chosen move in among the features, and from there they are nearer to nearly everything than the others are. More training does not help. That is **codebook collapse**.
#
# **What does it look like?** We put each pair of codebooks into a copy of the shipped model.

# %%
collapsed, renewed = copy.deepcopy(vqvae2), copy.deepcopy(vqvae2)
for level in ("top", "bottom"):
    for model, key in ((renewed, True), (collapsed, False)):
        quantizer = getattr(model, f"vq_{level}")
        quantizer.vq.codebook = learned[level, key][0]  # [K, D]
with torch.no_grad():
    figures.show(
        figures.image_rows(
            {
                "photograph": images[:8],
                "renewed": renewed(images[:8]),
                "collapsed": collapsed(images[:8]),
            }
        ),
        "Three rows of eight images: photographs; with renewed "
        "codebooks, nearly the same; with collapsed codebooks, with a "
        "grid of dots over the cloth, flat shades, and print and checks "
        "smeared.",
    )

# %% [markdown]
# The collapsed row is not a disaster, and that is the danger. Shapes are there, and nothing stopped with an error. But dots lie over most of the cloth, shades are flat and the checks are rougher. (Why is it so much better than the eight codes kept above? There the codes were left where they stood for 64. Here the few have moved to the middle of the features. And the bottom is quantized after the collapsed top, so that it can mend some of it.) **How many codes do the work?** We count the bottom codes of the held-out images, as we did before.

# %%
both_codes = {
    name: extract_codes(model, heldout).z_bottom.long()
    for name, model in {"renewed": renewed, "collapsed": collapsed}.items()
}  # [1000, 16, 16] each
figures.show(
    figures.code_use(
        {
            f"bottom: {name}": torch.bincount(grid.flatten(), minlength=64)
            for name, grid in both_codes.items()
        }
    ),
    "Two bar charts of 64 bottom codes. Renewed: all bars have some height. "
    "Collapsed: a handful of tall bars at the left, and nothing for all "
    "the others.",
)

# %% [markdown]
# Renewed, the work is shared. Collapsed, a handful of codes do all of it, and one of them about half.
#
# The check that catches it is cheap enough for every run: the share of codes in use, and the perplexity. Where to sound the alarm is a choice. Ours: more than half of the codes must occur, and the perplexity must be more than 15 % of K. `loss_function` gives you both perplexities in each step, and `pixelprior evaluate` both numbers on held-out images.


# %%
def codebook_is_healthy(codes, num_embeddings):
    in_use = len(codes.unique()) / num_embeddings
    varied = perplexity(codes, num_embeddings) / num_embeddings
    return bool(in_use > 0.5 and varied > 0.15)


for name, grid in both_codes.items():
    print(f"{name} codebook is healthy: {codebook_is_healthy(grid, 64)}")
print(
    f"shipped codebook is healthy: {codebook_is_healthy(grids['bottom'], 64)}"
)

# %% [markdown]
# ## 01.10 Exercises
#
# Change the `None` in a cell and run it. The answer is judged by trying it out.

# %% [markdown] tags=["about-solutions"]
# A solution follows each exercise in a collapsed cell: click the bar at its left to open it.

# %% [markdown]
# ### Exercise 1: bits
#
# A pixel of ours has 8 bits. A code has log₂ K bits if each code is written with as many digits of 0 and 1. **How many bits has an image before, and after?** Think of both grids.

# %% tags=["exercise"]
my_bits = None  # your turn: (bits before, bits after)

check.bits_per_image(my_bits, vqvae2)

# %% tags=["solution"] jupyter={"source_hidden": true, "outputs_hidden": true}
# 32 × 32 pixels of 8 bits; 8 × 8 and 16 × 16 codes of log2(64) = 6 bits.
bits = (32 * 32 * 8, (8 * 8 + 16 * 16) * 6)

check.bits_per_image(bits, vqvae2)

# %% [markdown]
# That is what the *format* takes. A good prior needs fewer bits, because it knows which codes to expect. Notebooks 04 and 05 are about that.

# %% [markdown]
# ### Exercise 2: straight through
#
# Write the straight-through estimator as a function. Try to do it without looking up. The check sends a gradient back through it, and looks where it arrives: all of it at the features, none at the codebook.


# %% tags=["exercise"]
def my_straight_through(features, quantized):
    return None  # your turn


check.straight_through(my_straight_through)


# %% tags=["solution"] jupyter={"source_hidden": true, "outputs_hidden": true}
# The value is `quantized`; what is detached has no slope.
def straight_through(features, quantized):
    return features + (quantized - features).detach()


check.straight_through(straight_through)

# %% [markdown]
# ### Exercise 3: which level holds the outline?
#
# You take the codes of one level from *another* image, and keep those of the other level. Then you take the mean of each square of 4 × 4 pixels, so that only the coarse shape is left. Before, we left a level out. Here a *wrong* level speaks against the right one. **Which level changes the coarse shape more when it is wrong?** Predict "top" or "bottom", and by what factor. Then it is measured on 64 images.

# %% tags=["exercise"]
my_level = None  # your turn: "top" or "bottom"

check.outline_level(my_level, vqvae2, images)

# %% tags=["solution"] jupyter={"source_hidden": true, "outputs_hidden": true}
# Swap each in turn with the next image, and measure the coarse error.
swapped = {
    "top": vqvae2.decode_codes(z_top.roll(1, 0), z_bottom),
    "bottom": vqvae2.decode_codes(z_top, z_bottom.roll(1, 0)),
}  # [64, 1, 32, 32] each
coarse = {
    level: F.avg_pool2d(image - rebuilt, 4).square().mean().item()
    for level, image in swapped.items()
}

check.outline_level(max(coarse, key=coarse.get), vqvae2, images)

# %% [markdown]
# ### Exercise 4: bring the dead to life
#
# Write the renewal that was missing. You get the codebook e [K, D], the average counts N_k as [K], and a batch of features [N, D] with many more rows than K. Return a codebook in which each code with a count below 1 is put where a feature of the batch is, each at a different one. The living stay where they are. The check then trains with your renewal from the bad start. (It sets N_k = 1 and m_k = e_k for the renewed codes, or the next average would move them back.)


# %% tags=["exercise"]
def my_renewal(e, counts, features):
    return None  # your turn


check.renewal(my_renewal, rows_of(many_features["top"]))


# %% tags=["solution"] jupyter={"source_hidden": true, "outputs_hidden": true}
# As many different rows of the batch, at random, as there are dead codes.
def renewal(e, counts, features):
    dead = counts < 1  # [K]
    rows = torch.randperm(len(features))[: dead.sum()]  # [dead]
    renewed_e = e.clone()  # [K, D]
    renewed_e[dead] = features[rows]
    return renewed_e


check.renewal(renewal, rows_of(many_features["top"]))

# %% [markdown]
# ## What you can do now
#
# - Quantize vectors by hand, send a gradient past the lookup, and move a codebook by averages of counts and sums.
# - Say how two levels of codes are wired, and show what each one holds.
# - Tell a healthy codebook from a collapsed one, by perplexity and share in use.
#
# **To take away.** What would happen with β = 0? And with a very large β? How could a dead code come back to life without renewal? Why is the bottom quantized after the top, and not the other way round?
#
# **Sources.** Straight-through, commitment and β: van den Oord, Vinyals and Kavukcuoglu 2017, [arXiv 1711.00937](https://arxiv.org/abs/1711.00937), sections 3.1 and 3.2; moving averages, appendix A.1. Two levels: Razavi, van den Oord and Vinyals 2019, [arXiv 1906.00446](https://arxiv.org/abs/1906.00446), section 3.1. Renewal of dead codes and dropping the finer quantizer: Zeghidour et al. 2021, [arXiv 2107.03312](https://arxiv.org/abs/2107.03312), section III-C.
#
# ← [00 · Start here](00_start_here.ipynb) · [the course](../README.md#the-course) · [words and symbols](GLOSSARY.md) · next: [02 · Masked convolutions](02_masked_convolutions.ipynb) →
