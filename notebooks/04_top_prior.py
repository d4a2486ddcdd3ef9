# %% [markdown]
# # 04 · The top prior, P(z_top)
#
# **What you will make.** Train a PixelCNN on the top codes of real images, with a loss and a training loop written by hand. Watch how the images drawn from it turn from a tangle into clothes. Then spoil the training in two ways, and detect both.
#
# **What you will learn.** What nats per code measure and what to compare them with; what warm-up, cosine and clipping are for; how to see that a network learns by heart; and where in a grid the codes are hard to predict.
#
# **What you need.** Notebook [03](03_gated_blocks.ipynb) for the gated blocks and `PixelCNN`; the rest is repeated.
#
# **Time.** About 65 minutes for the core and 129 for all, with the exercises; 80<!--= timings 04_top_prior --> seconds to run on two CPU cores.
#
# ← [03 · Gated blocks](03_gated_blocks.ipynb) · [the course](../README.md#the-course) · [words and symbols](GLOSSARY.md) · next: [05 · The bottom prior](05_bottom_prior.ipynb) →

# %% tags=["version"]
from pixelprior.course import needs

needs("0.2")  # says so if the installed package is older

# %%
import math

import torch
import torch.nn.functional as F

from pixelprior.assets import load_shipped
from pixelprior.course import figures
from pixelprior.course.checks import top as check
from pixelprior.course.widgets import explore
from pixelprior.data.codes import extract_codes
from pixelprior.data.images import load_images
from pixelprior.pixelcnn import PixelCNN
from pixelprior.prior import HierarchicalPixelCNN
from pixelprior.training import learning_rate_factor

# %% [markdown]
# ## 04.1 The codes to learn from
#
# *Core · 3 minutes*
#
# The shipped VQ-VAE-2 encodes each photograph once. Each top grid has 8 × 8 codes out of K = 30<!--= vqvae2 num_embeddings -->. We train on 6,000 grids, and another 1,000 are **held out**, as in notebook 00: no training step sees them.

# %%
vqvae2, shipped = load_shipped()
training = extract_codes(vqvae2, load_images("fashion_mnist_mini", "train"))
heldout = extract_codes(vqvae2, load_images("fashion_mnist_mini", "test"))
K = training.num_embeddings
print("training", list(training.z_top.shape), "of", training.z_top.dtype)
print("held out", list(heldout.z_top.shape), " codes K:", K)

# %% [markdown]
# Each grid comes with a label, the class of its image. The prior gets this label too: each block adds a bias that depends on the class (section 03.7). So it learns P(z_top | class). The network of this notebook has 6 gated blocks of 32 channels. (Notebook 03 counted that an 8 × 8 grid needs seven blocks before every position sees its whole past. We use one fewer, to save time; all that stays unseen lies seven rows or columns away.)


# %%
def new_net(channels=32, blocks=6):
    torch.manual_seed(0)
    return PixelCNN(
        K, 32, channels, blocks, num_classes=10, dropout=0.0
    )  # codes [B, H, W] and labels [B] to logits [B, K, H, W]


net = new_net()
print(f"{sum(p.numel() for p in net.parameters()):,} weights")

# %% [markdown]
# ## 04.2 The loss, in nats per code
#
# *Core · 6 minutes*
#
# The **chain rule** of notebook 02 says that the probability of a grid is a product, with one factor for each code given the codes before it:
#
# $$
# P(z) = \prod_i P(z_i \mid z_0, \dots, z_{i-1})
# $$
#
# The logarithm turns the product into a sum. We want P(z) of real grids to be large, so −log P(z) has to be small. (The class is given in every factor, and we leave it out of the formulas.) Three operations compute the cost: we turn the logits into log-probabilities, **gather** from the K at each position the one that belongs to the true code, and change the sign to get a cost.


# %%
def nats(net, z, labels):
    logits = net(z, labels)  # [B, K, H, W]
    log_p = logits.log_softmax(dim=1)  # [B, K, H, W]
    picked = log_p.gather(1, z[:, None])  # [B, 1, H, W]
    return -picked[:, 0]  # [B, H, W], nats of each code


z, _, labels = heldout.batch(torch.arange(32))  # [32, 8, 8], …, [32]
with torch.no_grad():
    each = nats(net, z, labels)  # [32, 8, 8]
grid = each.sum(dim=(1, 2))  # [32]: −log P of each grid, by the chain rule
loss = each.mean()  # []: nats per code
print(f"nats per grid ÷ 64 are nats per code: {grid.mean() / 64:.1f}")
print(f"a uniform guess costs log K:          {math.log(K):.1f}")

# %% [markdown]
# One pass through the network gives all 64 factors, because no position sees its own code or those after it. The mean over all N codes is the **loss**,
#
# $$
# \text{loss} = -\frac{1}{N} \sum_i \log P(z_i \mid z_0, \dots, z_{i-1}).
# $$
#
# An untrained network guesses almost evenly, so it pays as much as a uniform guess.
#
# PyTorch has these three lines as `cross_entropy`. The package has them in `HierarchicalPixelCNN.loss_function`, a method of the class that holds both levels. With the same weights, do both give our loss?

# %%
both = HierarchicalPixelCNN(K, 32, 32, 6, num_classes=10, dropout=0.0)
both.prior_top.load_state_dict(net.state_dict())
z_bottom = heldout.batch(torch.arange(32))[1]  # [32, 16, 16]
with torch.no_grad():
    torchs = F.cross_entropy(net(z, labels), z)
    ours = both.loss_function(z, z_bottom, labels, levels=("top",))
for name, other in (
    ("F.cross_entropy", torchs),
    ("loss_function", ours["top_loss"]),
):
    difference = (other - loss).abs().item()
    print(f"{name:15} differs by < 1e-5: {difference < 1e-5}")

# %% [markdown]
# ## 04.3 What to compare with
#
# *Core · 12 minutes*
#
# A loss means nothing by itself, so how do we know whether 3 nats per code are good? We need a **baseline**, which is the cost of the best predictor that uses only little information.
#
# - **Uniform**: every code has probability 1/K, which costs log K.
# - **Unigram**: the probability of each code is its frequency. It gives common codes, such as black background, a high probability, but it looks at no other code of the grid. It costs the entropy of the frequencies, which you compute in exercise 1.
# - **Left neighbour**: this predictor gives the probability of each code when only the code to its left is known. With the true probabilities its mean cost is the **conditional entropy** H(code | left): what a code costs on average, in nats, when its left neighbour is known.
#
# We estimate this last cost by counting. For each left neighbour we count which codes followed it in training, and a count divided by the sum of these counts is a probability. A pair that never occurred would get probability 0, and a cost without limit if it came up in a held-out grid. So we add 0.1 to each count, which is called **smoothing**. If code k followed the neighbour j in n_jk places, then
#
# $$
# P(k \mid j) = \frac{n_{jk} + 0.1}{\sum_{k'} (n_{jk'} + 0.1)}.
# $$
#
# Our probabilities are only estimates. The mean cost of held-out codes under estimated probabilities is called a **cross entropy**. Apart from chance in the held-out grids, it is never below the conditional entropy.
#
# The functions below work with any number of these neighbours: left, above, above left. Outside the grid, the neighbour is the number K, for "nothing there".

# %%
NEIGHBOURS = ((0, 1), (1, 0), (1, 1))  # (rows up, columns left)


def context(z, count):
    """The neighbours of each position as one number, [N, 8, 8]."""
    # One row above and one column at the left:
    padded = F.pad(z, (1, 0, 1, 0), value=K)  # [N, 9, 9]
    number = torch.zeros_like(z)  # [N, 8, 8]
    for up, left in NEIGHBOURS[:count]:
        neighbour = padded[:, 1 - up : 9 - up, 1 - left : 9 - left]
        number = number * (K + 1) + neighbour
    return number


# %% [markdown]
# With one neighbour, the context is the code to the left. With two neighbours it is a pair of codes, written as one number with K + 1 as its base: code a at the left and code b above become a · (K + 1) + b. The table then has a row for each context, and a column for each code.


# %%
def table(z, count, smoothing=0.1):
    """P(code | neighbours), [(K + 1) ** count, K], by counting."""
    pairs = context(z, count) * K + z  # [N, 8, 8]
    rows = (K + 1) ** count
    counts = torch.bincount(pairs.flatten(), minlength=rows * K)
    counts = counts.view(rows, K) + smoothing
    return counts / counts.sum(dim=1, keepdim=True)


# %% [markdown]
# We count on the training grids, and measure on both sets. The table without neighbours is the unigram baseline.

# %%
known, unknown = training.z_top.long(), heldout.z_top.long()  # [N, 8, 8]
on_training, on_heldout = [], []
for count in range(4):
    p = table(known, count)  # [(K + 1) ** count, K]
    on_training.append(-p[context(known, count), known].log().mean())
    cost = -p[context(unknown, count), unknown].log()  # [1000, 8, 8]
    on_heldout.append(cost.mean())
    if count == 1:
        left_by_position = cost.mean(dim=0)  # [8, 8], for later
unigram, left, left_above, _ = (cost.item() for cost in on_heldout)
print(f"uniform {math.log(K):.2f}, unigram {unigram:.2f}, left {left:.2f}")

# %% [markdown]
# **Does the prediction get better and better with more neighbours?**

# %%
figures.show(
    figures.curves(
        {
            "on the training grids": (range(4), on_training),
            "on held-out grids": (range(4), on_heldout),
        },
        x_label="neighbours: 1 left, 2 also above, 3 also above left",
        x_ticks=range(4),
        y_label="nats per code",
        baselines={"uniform": math.log(K)},
        y_limits=(1.8, 3.6),
    ),
    "tables_by_neighbours",
)

# %% [markdown]
# On the training grids it does, but on the held-out grids the cost rises again at three neighbours. The table with three neighbours has (K + 1)³ rows of K numbers. These are more than twice as many numbers as the 384,000 codes that they are estimated from. Most codes fall into a few common rows, so that many rows rest on a few counts. The probabilities in such a row fit the training grids and not others. This is **overfitting**, and you see it here without any network: the gap between the lines is the part of the gain that does not carry over to other grids.
#
# Counting treats each row of the table separately, while a network shares what it learns between similar contexts. That is why we can afford to let a network look at nearly the whole past.

# %% [markdown]
# ## 04.4 The learning rate, step by step
#
# *Core · 6 minutes*
#
# We train with **AdamW**, which keeps a running mean of each weight's gradient and another of the gradient's square, and divides the first by the root of the second. So each weight moves by at most about the **learning rate** at each step, however large its gradient. (The W stands for weight decay: all weights shrink a little at each step.)
#
# At the start those means rest on few gradients and the steps are unreliable, so the rate starts small and rises, which is called the **warm-up**. After the warm-up it falls to zero along half a **cosine** wave, slowly, then fast, then slowly again, so that the weights settle. If t is the share of the falling steps that are done, the highest rate is multiplied by
#
# $$
# \tfrac{1}{2} (1 + \cos \pi t).
# $$


# %%
def rate_at(step, steps, highest, warmup=0.1):
    rise = max(1, round(warmup * steps))  # steps of warm-up
    if step < rise:
        return highest * (step + 1) / rise
    done = (step - rise) / (steps - rise)  # from 0 to 1
    return highest * 0.5 * (1 + math.cos(math.pi * done))


STEPS, HIGHEST = 600, 3e-3
by_hand = [rate_at(step, STEPS, HIGHEST) for step in range(STEPS)]

# %% [markdown]
# The package's version is `learning_rate_factor` in `pixelprior.training`, which gives the factor by which the highest rate is multiplied. Is it the same as ours, and **what does the schedule look like?**

# %%
from pixelprior.settings import TrainingSettings

factor = learning_rate_factor(TrainingSettings(warmup=0.1), STEPS)
packages = [HIGHEST * factor(step) for step in range(STEPS)]
largest = max(abs(a - b) for a, b in zip(by_hand, packages, strict=True))
print("differ by < 1e-12:", largest < 1e-12)
figures.show(
    figures.curves(
        {"learning rate": by_hand},
        x_label="step",
        y_label="learning rate",
    ),
    "learning_rate",
)

# %% [markdown]
# ## 04.5 Clipping
#
# *Further · 5 minutes*
#
# The gradients of all weights together form one long vector, whose length is the **gradient norm**. In some trainings, a batch now and then gives a gradient many times longer than the rest, and with plain gradient descent a single step along it can undo hundreds of steps. (AdamW's steps stay about as long as usual, but its running means carry such a gradient on for many steps.) **Clipping** scales the vector g down to a norm of 1 when it is longer, and leaves it unchanged when it is not:
#
# $$
# g \leftarrow g \cdot \min\left(1, \frac{1}{\lVert g \rVert}\right)
# $$
#
# Either way the direction stays the same.


# %%
def clip_by_hand(parameters, limit):
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = sum(g.square().sum() for g in gradients).sqrt()  # []
    for gradient in gradients:
        gradient *= min(1.0, limit / norm.item())
    return norm


# %% [markdown]
# PyTorch has this function as `clip_grad_norm_`. To compare the two, we take the same network twice and multiply the loss by a hundred, so that there is something to clip.

# %%
twins = [new_net(), new_net()]
for twin in twins:
    (100 * F.cross_entropy(twin(z, labels), z)).backward()
one = clip_by_hand(twins[0].parameters(), 1.0)
other = torch.nn.utils.clip_grad_norm_(twins[1].parameters(), 1.0)
pairs = zip(twins[0].parameters(), twins[1].parameters(), strict=True)
apart = max(
    (a.grad - b.grad).abs().max().item()
    for a, b in pairs
    if a.grad is not None
)
print("was longer than 1:", bool(one > 1))
print("same norm:", torch.allclose(one, other, rtol=1e-4))
print(f"clipped gradients differ by < 1e-5: {apart < 1e-5}")

# %% [markdown]
# ## 04.6 The loop
#
# *Core · 10 minutes*
#
# Now the pieces come together: at each step we set the rate, compute the loss, clip the gradient (all gradients form one vector, scaled down where its length, the norm, is above 1; see 04.5) and move the weights. We record the loss and the norm of each step. The argument `clip=math.inf` means no clipping, and `kind` is for an experiment further below.


# %%
import itertools


def one_step(net, optimizer, z, labels, clip):
    loss = F.cross_entropy(net(z, labels), z)  # []: nats per code
    optimizer.zero_grad()
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(net.parameters(), clip)
    optimizer.step()
    return loss.item(), norm.item()


def batches(count, size=32):
    """Numbers of grids: every grid once, shuffled, then all over again."""
    for epoch in itertools.count():
        shuffle = torch.Generator().manual_seed(epoch)
        yield from torch.randperm(count, generator=shuffle).split(size)


# %% [markdown]
# The loop repeats this step, and after each one it calls `look`, with which we can measure or keep things during the training.


# %%
def train(
    net, codes, steps, highest, *, clip=1.0, warmup=0.1,
    kind=torch.optim.AdamW, look=lambda step: None,
):  # fmt: skip
    optimizer = kind(net.parameters(), lr=highest)
    order, record = batches(len(codes)), []
    for step in range(steps):
        rate = rate_at(step, steps, highest, warmup)
        optimizer.param_groups[0]["lr"] = rate
        z, _, labels = codes.batch(next(order))  # [B, 8, 8], …, [B]
        record.append(one_step(net, optimizer, z, labels, clip))
        look(step + 1)
    return record


# %% [markdown]
# The package's loop is `fit`, which `pixelprior train-prior` calls, and it does more. It writes **checkpoints** (files from which a run can go on) and continues a stopped run from them. It keeps a moving average of the weights, which fluctuates less than the last weights; the held-out loss is measured with it, and the checkpoints hold it. It also spreads over several GPUs. Its training steps are ours, except that biases and embeddings do not decay. We train two copies of a network on 128 grids for two passes, one with our loop and one with `fit`, which `parts` and `loss_options` restrict to the top level. Do they have the same loss, and give the same logits afterwards? (`fit` leaves the last weights in the model, and the averaged ones go into the checkpoints.)


# %%
from dataclasses import replace


def first(codes, count):
    return replace(
        codes,
        grids=tuple(z[:count] for z in codes.grids),
        labels=codes.labels[:count],  # [count]
    )


# %%
import copy
import tempfile

from pixelprior.devices import make_accelerator
from pixelprior.training import fit

few, twin = first(training, 128), copy.deepcopy(both.prior_top)
mine = train(twin, few, 8, HIGHEST)  # 128 grids are 4 batches of 32
settings = TrainingSettings(
    epochs=2, batch_size=32, lr=HIGHEST, warmup=0.1, mixed_precision="no"
)
with tempfile.TemporaryDirectory() as folder:
    history = fit(
        both, few, first(heldout, 32), settings, folder,
        make_accelerator(settings, folder), parts=("top_loss",),
        loss_options={"levels": ("top",)}, log=lambda line: None,
    )  # fmt: skip

# %%
second_pass = sum(loss for loss, _ in mine[4:]) / 4
apart = abs(second_pass - history[1]["train_top_loss"])
print(f"training losses differ by < 1e-3: {apart < 1e-3}")
# Weight decay differs a little, and rounding grows: hence the wider limit.
with torch.no_grad():
    apart = (twin(z, labels) - both.prior_top(z, labels)).abs().max().item()
print(f"logits after training differ by < 1e-2: {apart < 1e-2}")

# %% [markdown]
# ## 04.7 Train it
#
# *Core · 10 minutes*
#
# We train for 600 steps of 32 grids, about three passes through the training grids. On the way we measure the held-out grids, and keep the weights at four moments for later.


# %%
@torch.no_grad()
def nats_of(net, codes):
    """Nats of every code of all grids, [N, 8, 8]."""
    parts = torch.arange(len(codes)).split(250)
    all_parts = [codes.batch(part) for part in parts]
    return torch.cat([nats(net, z, labels) for z, _, labels in all_parts])


# %%
measured, kept = {}, {}  # by step


def look(step):
    if step in (0, 25, 50, 100, 200, 350, 475, STEPS):
        measured[step] = nats_of(net, heldout).mean().item()
    if step in (0, 50, 200, STEPS):
        kept[step] = copy.deepcopy(net)


look(0)
record = train(net, training, STEPS, HIGHEST, look=look)
losses = torch.tensor([loss for loss, _ in record])  # [STEPS]

# %% [markdown]
# How often did clipping shorten a gradient?

# %%
clipped = sum(norm > 1 for _, norm in record)
print("clipped in at most 10 of the 600 steps:", clipped <= 10)

# %% [markdown]
# In a healthy run of this size, clipping hardly ever acts. (The number is printed below the learning curve.) It is a safeguard, and section 04.10 shows what it can prevent and what it cannot.
#
# How low could the loss get on these grids? For comparison we take the prior that ships with the package, measured on the same 1,000 held-out grids. It has 9<!--= prior num_layers --> blocks of 80<!--= prior hidden_channels --> channels, and was trained in seven passes through nearly all of the 60,000 images, at the same highest rate. We measure it by hand, and with the package's `image_nats`.

# %%
from pixelprior.evaluation.measures import image_nats

by_shipped = nats_of(shipped.prior_top, heldout)  # [1000, 8, 8]
in_package = image_nats(shipped.prior_top, heldout) / 64  # [1000]
by_image = by_shipped.mean(dim=(1, 2))  # [1000]
apart = (by_image - in_package).abs().max().item()
print(f"shipped top prior: {by_shipped.mean():.1f} nats per code")
print(f"by hand and by the package differ by < 1e-5: {apart < 1e-5}")

# %% [markdown]
# **When does our network pass each baseline?** A dot is the mean training loss of 30 steps, and a square is measured on the held-out grids.

# %%
figures.show(
    figures.curves(
        {
            "training": (range(15, STEPS, 30), losses.view(-1, 30).mean(1)),
            "held out": (measured.keys(), measured.values()),
        },
        x_label="step",
        y_label="nats per code",
        baselines={
            "uniform": math.log(K),
            "unigram": unigram,
            "left neighbour": left,
            "left and above": left_above,
            "the shipped prior": by_shipped.mean().item(),
        },
        y_limits=(1.4, 3.6),
    ),
    "learning_curve",
)

# %% tags=["nbval-ignore-output"]
final = measured[STEPS]
print(f"our network, held out: {final:.2f} nats per code")
print(f"gradients clipped: {clipped} of {STEPS}")
assert 1.75 < final < 2.15
assert by_shipped.mean() < final < left_above

# %% [markdown]
# The curve starts on the uniform line. Below the unigram line, the network must use more than frequencies: other codes, the label, or the position in the grid, which the padding at the border reveals. By step 100 it is below the lines of the tables too, so that it uses more than these neighbours. After that, each further tenth of a nat takes longer. The two curves stay together, so little was learned by heart so far.
#
# The shipped prior needs still fewer nats. It saw ten times as many images, with a larger network and for longer. On all 10,000 test images it costs 1.67<!--= results likelihood.top.nats_per_code.value --> nats per code.

# %% [markdown]
# ## 04.8 From tangles to clothes
#
# *Core · 12 minutes*
#
# A loss is only a number, so we look at images too. To draw a grid, we go through its positions in raster order. At each of them, the network gives the probabilities of the next code given the codes drawn so far, and a random number u from 0 to 1 picks one: we add up the probabilities of the codes 0, 1, 2, … and take the first code at which the sum exceeds u. (Notebook 07 explains this way to draw, and notebook 06 how to do it without 64 passes.)


# %%
@torch.no_grad()
def draw_by_hand(net, labels, u):  # u [B, 64]: one number per code
    z = torch.zeros(len(labels), 8, 8, dtype=torch.long)  # [B, 8, 8]
    for n, (y, x) in enumerate(itertools.product(range(8), range(8))):
        p = net(z, labels)[:, :, y, x].double().softmax(dim=1)  # [B, K]
        passed = p.cumsum(dim=1) <= u[:, n, None]  # [B, K]
        z[:, y, x] = passed.sum(dim=1).clamp(max=K - 1)  # [B]
    return z


# %% [markdown]
# Does the package draw the same codes from our network, if it is given the same random numbers (from `uniforms`) and the label's vector (from `label_condition`)?

# %%
from pixelprior.sampling import sample_codes, uniforms

one_each = torch.arange(10)  # [10]: classes
numbers = uniforms(0, 0, 10, 64)  # [10, 64]: seed 0, images 0 to 9
ours = draw_by_hand(net, one_each, numbers)  # [10, 8, 8]
condition = net.label_condition(one_each, 10)  # [10, p, 1, 1]
theirs = sample_codes(net, (8, 8), numbers, condition)  # [10, 8, 8]
print(f"the same codes: {(ours == theirs).float().mean():.0%}")

# %% [markdown]
# **What do the draws look like on the way?** At each of the four moments, and for the shipped prior, we draw ten top grids, one per class, with our loop. The random numbers are the same in each row. An image needs a bottom grid as well, and we have no prior for it yet, so we borrow one: the shipped bottom prior draws z_bottom given our z_top (`known_top`), and the VQ-VAE-2 decodes both.


# %%
def images_from(top_prior, classes):
    count = len(classes)
    z_top = draw_by_hand(
        top_prior, classes, uniforms(0, 0, count, 64)
    )  # [B, 8, 8]
    z_top, z_bottom = shipped.sample(
        count, (8, 8), (16, 16), labels=classes, seed=0, known_top=z_top
    )  # [B, 8, 8], [B, 16, 16]
    return vqvae2.decode_codes(z_top, z_bottom)  # [B, 1, 32, 32]


# %% tags=["cover"]
rows = {
    f"{step} steps": images_from(each, one_each)
    for step, each in kept.items()
}
rows["shipped"] = images_from(shipped.prior_top, one_each)
figures.show(
    figures.image_rows(rows, column_names=heldout.class_names),
    "samples_over_training",
)

# %% [markdown]
# Every row has the same decoder and the same bottom prior, so that only the top prior changes.
#
# - **0 steps**: a tangle of white and black. All codes are about equally likely, so that neighbouring codes do not fit together. The bottom prior has never seen such top grids, and cannot repair them.
# - **50 steps**: still tangles, but the border is mostly black. The network has learned that background is common and lies at the border, and a little about which codes occur side by side.
# - **200 steps**: shapes in the middle on a black ground, and some can be recognized, such as a shirt or a boot. Neighbouring codes agree, but over longer distances they often do not fit together.
# - **600 steps**: most images have the outline of their class. Surfaces are still uneven, and some outlines have gaps or ragged edges.
# - **shipped**: some outlines are smoother, such as those of the coat and the sandal. The last two rows differ less than the rows above them, and ten images are too few to judge by. The loss of the learning curve is a mean over 64,000 held-out codes, and it shows the difference more reliably.

# %% [markdown]
# **How different are bags from one another, and does our own 600-step prior know the class?** The upper row shows eight bags of the shipped prior, and the lower row eight of ours.

# %%
eight = torch.full((8,), 8)  # [8]
figures.show(
    figures.image_rows(
        {
            "shipped": images_from(shipped.prior_top, eight),
            "600 steps": images_from(net, eight),
        }
    ),
    "bags",
)

# %% [markdown]
# The shipped prior's bags differ in width, outline and handle. Our own prior has learned the class roughly: some images of the lower row have the outline of a bag, two of them with a handle, and others have no shape that can be recognized. The label is one bias in each block, and it settles what kind of thing is drawn. The rest is left to chance, as it should be, because P(z_top | class) is a distribution and not a single picture.

# %% [markdown]
# ## 04.9 Where are the nats?
#
# *Further · 9 minutes*
#
# The mean over the grid hides how much the positions differ. **Which positions of the grid are expensive?** We average over the held-out grids at each position, for two predictors: the table of the left neighbour, and the shipped prior.

# %%
figures.show(
    figures.heatmaps(
        {
            "left neighbour alone": left_by_position,
            "the shipped prior": by_shipped.mean(dim=0),
        },
        unit="nats per code",
        numbers="{:.1f}",
        limits=(0.0, None),
        numbered=True,
    ),
    "nats_by_position",
)

# %% [markdown]
# Look at the map at the right.
#
# - **The left edge and the corners are cheap**, because they are often background. The upper left corner is the cheapest position of all. The right edge costs a little less than the middle.
# - **The middle of the top row is not cheap**, because there the prior has seen little of the image. The highest cost of the map is in row 0.
# - **In the middle columns the cost hardly changes down to row 3, and then falls.** A likely reason is that the first codes decide between long and short sleeves, dark and light, plain and striped, and that the last ones can be predicted from what is above them.
#
# The cost of the left neighbour's table does not fall in this way. It is almost as high in row 6 as in row 3, because this table only ever sees one code. The difference between the two maps is what looking farther, the label and the position are worth together.
#
# **What does the prior expect at one position?** Here are its probabilities for a real image. The codes that the prior has seen are at the left, and the hatched bar is the true code. In JupyterLab, walk through the grid with the sliders, and change the image.


# %%
def expects(image, row, column):
    z, _, label = heldout.batch(torch.tensor([image]))  # [1, 8, 8], …, [1]
    with torch.no_grad():
        logits = shipped.prior_top(z, label)  # [1, K, 8, 8]
    p = logits[0, :, row, column].softmax(dim=0)  # [K]
    cost = -p[z[0, row, column]].log().item()
    name = heldout.class_names[label.item()]
    return figures.prediction(
        z[0], (row, column), p, title=f"{name}: {cost:.1f} nats here"
    )


# %%
explore(
    expects,
    "next_code",
    image=[0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
    row=[3, 0, 1, 2, 4, 5, 6, 7],
    column=[3, 0, 1, 2, 4, 5, 6, 7],
)

# %% [markdown]
# Six codes share most of the probability, and none of them has much more than 0.2. The cost of the position is −log of the hatched bar, and nats per code are the mean of this cost over all positions and images. For this image, move to row 0 and column 0, where one bar takes most of the probability. Then move along a row, and watch at which positions the probability spreads over more bars.

# %% [markdown]
# ## 04.10 Where it breaks: a rate too high, nothing clipped
#
# *Further · 17 minutes*
#
# We make five short runs of 60 steps each, all from the same weights. In two of them AdamW gets a rate of 10 instead of 3e-3, once without clipping and once with it. Two use plain gradient descent, **SGD**, whose step is the rate *times the gradient*, at a rate of 20, again without clipping and with it. None of these four has a warm-up. The fifth run is our recipe.

# %%
adamw, sgd, off = torch.optim.AdamW, torch.optim.SGD, math.inf
trials = {
    "AdamW, rate 10, not clipped": (adamw, 10.0, off, 0.0),
    "AdamW, rate 10, clipped": (adamw, 10.0, 1.0, 0.0),
    "AdamW, 3e-3, warm-up, clipped": (adamw, 3e-3, 1.0, 0.1),
    "SGD, rate 20, not clipped": (sgd, 20.0, off, 0.0),
    "SGD, rate 20, clipped": (sgd, 20.0, 1.0, 0.0),
}
trial_nets, loss_of, norm_of = {}, {}, {}
for name, (kind, rate, clip, warmup) in trials.items():
    trial_nets[name] = new_net()
    record = train(
        trial_nets[name], training, 60, rate,
        clip=clip, warmup=warmup, kind=kind,
    )  # fmt: skip
    loss_of[name] = [loss for loss, _ in record]
    norm_of[name] = [norm for _, norm in record]

# %% [markdown]
# **What does the loss do in each run, and does clipping save it?** The vertical axis is logarithmic, with each horizontal line ten times the one below, and it is cut at 1,000.


# %%
def by_optimizer(values):  # a diagram for AdamW, and one for SGD
    return {
        kind: {
            name.removeprefix(f"{kind}, "): value
            for name, value in values.items()
            if name.startswith(kind)
        }
        for kind in ("AdamW", "SGD")
    }


figures.show(
    figures.stacked_curves(
        by_optimizer(loss_of),
        x_label="step",
        y_label="training loss, nats per code",
        baselines={"unigram": unigram},
        log_y=True,
        y_limits=(2.5, 1000),
    ),
    "broken_losses",
)

# %% [markdown]
# - **SGD without clipping** explodes, because a large gradient makes a large step, which leads to weights with a still larger gradient. The numbers may become too large to be stored, which gives `inf`, and from there `nan`, which is not a number at all. With clipping, no step at this rate is longer than 20 and the loss stays within bounds, but the network does not learn much. Clipping keeps the numbers in range; it does not make a wrong rate right.
# - **AdamW at rate 10** is the dangerous one. The loss jumps and then mostly falls, which looks like learning on a plot that begins at step 10. But it ends flat near the unigram line, the loss of a predictor that uses only the frequencies of the codes. Clipping does not save this run, because AdamW divides by the gradient's own size, so that its steps are about as long either way. Clipping would help AdamW against a rare outlier, which would spoil its running means (07.9).
#
# **Which numbers reveal such a failure?** There are two, and the first is the gradient norm, which we have at each step for free. We raise an alarm when it is above 3, more than twice the largest norm of our recipe in these 60 steps.

# %%
figures.show(
    figures.stacked_curves(
        by_optimizer(norm_of),
        x_label="step",
        y_label="gradient norm before clipping",
        baselines={"clip": 1.0, "alarm": 3.0},
        log_y=True,
        y_limits=(0.01, 1e6),
    ),
    "gradient_norms",
)

# %% [markdown]
# **Which of the runs raise the alarm?**

# %%
worst = {
    name: max(norm if math.isfinite(norm) else math.inf for norm in norms)
    for name, norms in norm_of.items()
}
for name, norm in worst.items():
    print(f"{name:30} {'ALARM' if norm > 3 else 'no alarm'}")
ours = worst.pop("AdamW, 3e-3, warm-up, clipped")
assert 2 * ours < 3 and min(worst.values()) > 6

# %% [markdown]
# The alarm comes within the first few steps. Later the norm of both AdamW runs at rate 10 is mostly as low as that of our recipe, or lower, so that the norm has to be recorded from the first step on.
#
# The second number is the held-out loss, which has to be below the unigram baseline after a few dozen steps. A prior that stays above it has learned hardly more than frequencies, however well its curve falls. For the three AdamW runs, whose curves fall, we check that the loss is lower by two tenths of a nat, because a smaller distance can be chance.

# %%
ends = {
    name: nats_of(trial_nets[name], heldout).mean().item()
    for name in list(trials)[:3]
}
for name, end in ends.items():
    print(f"{name:30} below unigram by 0.2: {end < unigram - 0.2}")
hasty, clipped, ours = ends.values()
assert ours < unigram - 0.3 and min(hasty, clipped) > unigram - 0.1

# %% [markdown]
# A `nan` spreads, and to see how far, we put one into the gradient of one weight. How many of the gradients are still finite after clipping?

# %%
poisoned = new_net()
F.cross_entropy(poisoned(z, labels), z).backward()
poisoned.embedding.weight.grad[0, 0] = math.nan
norm = torch.nn.utils.clip_grad_norm_(poisoned.parameters(), 1.0)
gradients = [p.grad for p in poisoned.parameters() if p.grad is not None]
left_over = sum(g.isfinite().sum().item() for g in gradients)
print("gradient norm:", norm.item(), " finite gradients left:", left_over)

# %% [markdown]
# None is, because the norm is made of all gradients, so it is `nan` as well, and clipping multiplies all gradients by a factor that contains it. After one more step, all weights are lost. That is why one check of one number, `norm.isfinite()`, guards everything. On a CPU, the package's `fit` checks it at every step, before the optimizer moves. On a GPU, reading this number makes the processor wait for the GPU, so `fit` reads it every 50 steps and at the end of each epoch. The steps since the last check may be lost, but a checkpoint is written only after a check has passed. If the check fails, `fit` stops with a `FloatingPointError` and names the last good checkpoint.

# %% [markdown]
# ## 04.11 Where it breaks again: 100 images
#
# *Further · 9 minutes*
#
# Suppose that you have 100 images and not 6,000. We train a network of four blocks on 100 grids for 200 steps. **What do training and held-out loss do?** The third line is the same network with the same number of steps on all training grids. The rate is 1e-2, higher than before, so that 200 steps are enough to show the effect.

# %%
hundred = first(training, 100)
few_net, many_net = new_net(32, 4), new_net(32, 4)
at = (10, 20, 40, 80, 120, 160, 200)
on_hundred, on_unseen, with_many = [], [], []


def watch_few(step):
    if step in at:
        on_hundred.append(nats_of(few_net, hundred).mean().item())
        on_unseen.append(nats_of(few_net, heldout).mean().item())


def watch_many(step):
    if step in at:
        with_many.append(nats_of(many_net, heldout).mean().item())


record = train(few_net, hundred, 200, 1e-2, look=watch_few)
record = train(many_net, training, 200, 1e-2, look=watch_many)

# %%
figures.show(
    figures.curves(
        {
            "100 grids: training": (at, on_hundred),
            "100 grids: held out": (at, on_unseen),
            "6,000 grids: held out": (at, with_many),
        },
        x_label="step",
        y_label="nats per code",
        baselines={"uniform": math.log(K), "unigram": unigram},
    ),
    "overfitting",
)

# %% [markdown]
# The training loss looks excellent, but the held-out loss ends up worse than a uniform guess. The network has learned the hundred grids by heart, and gives their codes a probability of about three quarters. Where an unknown grid differs from them, the network gives almost no probability to the true code, which costs many nats.
#
# The training loss alone cannot show this. The check is the held-out loss, and the remedy it suggests is **early stopping**: keep the weights from where the held-out loss was lowest, and stop when it has not improved for a while. How long we wait is called the **patience**.


# %% tags=["nbval-ignore-output"]
def stop_at(losses, patience=3):
    """The best measurement, and the one at which we would stop."""
    best = 0
    for number, loss in enumerate(losses):
        if loss < losses[best]:
            best = number
        if number - best >= patience:
            break
    return best, number


best, stopped = stop_at(on_unseen)
print(f"best at step {at[best]}: {on_unseen[best]:.1f} nats held out")
print(f"stopped at step {at[stopped]}")
print(f"at step {at[-1]}: {on_unseen[-1]:.1f} nats held out")
assert at[best] < 120 and on_unseen[best] < 2.8
assert on_unseen[-1] > math.log(K) > on_unseen[best] + 0.6
assert stop_at(with_many)[1] == len(with_many) - 1  # no stop

# %% [markdown]
# Early stopping does not turn 100 images into 6,000: compare the lowest point of the second line with the end of the third. But it keeps the best of what there is. (The best step was *chosen* on these held-out grids, so its loss looks a little better than it is. A fair number needs a third set.) `fit` does not stop early: it measures each epoch and keeps two checkpoints, `best` and `last`. Other remedies are more images, a smaller network, and **dropout**, which sets a random share of the features to zero at each training step.

# %% [markdown]
# ## 04.12 Exercises
#
# *Further · 23 minutes*
#
# Replace the `None` in a cell with your answer and run the cell, which then tries the answer out.

# %% [markdown] tags=["about-solutions"]
# Each exercise has a [solution](#Solutions) at the end of the notebook.

# %% [markdown]
# ### Exercise 1: the unigram baseline
#
# *Difficulty 2 of 5 · importance 5 of 5 · 7 minutes*
#
# Write a function that returns the entropy of the codes' frequencies, as one number in nats:
#
# $$
# H = -\sum_k p_k \log p_k
# $$
#
# where p_k is the share of code k among all codes. Take care of codes that never occur. Your function is tried on codes whose entropy is known, and then compared with the package.
#
# <details><summary>Hint 1</summary>
#
# `torch.bincount(codes.flatten(), minlength=num_embeddings)` counts each code.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# A code that never occurs adds nothing to the entropy, but `0 * log(0)` is not a number in PyTorch. Leave such codes out.
#
# </details>


# %% tags=["exercise"]
def my_unigram_entropy(codes, num_embeddings):
    """Codes [N, H, W] (long) and K to nats per code."""
    return None  # your turn


check.unigram_entropy(my_unigram_entropy)


# %% [markdown] tags=["about-solutions"]
# [To solution 1](#Solution-1)

# %% [markdown]
# ### Exercise 2: sixteen bags, and nothing else
#
# *Difficulty 2 of 5 · importance 3 of 5 · 8 minutes*
#
# The shipped classifier does not take every image that the prior draws for a label for that class. Write a function of `label`, `count` and `seed` that returns `count` images of the class, all of which the classifier takes for it. `shipped.sample_with_vqvae2(vqvae2, 16, labels=…, seed=…)` draws and decodes 16 images; each image needs a label, so the labels are a tensor [16]. `classifier(images)` gives logits over the classes, [B, 10]. The check asks your function for 16 bags (class 8), and then for 16 shirts (class 6), of which the prior draws more that are taken for something else. No two images may be equal; the same seed must give the same images again, and another seed other images.
#
# <details><summary>Hint 1</summary>
#
# Draw 16 images in a loop, until enough of them are kept. `torch.full((16,), 8)` is a tensor of sixteen labels.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The same seed draws the same 16 images, so each round of the loop needs a seed of its own, which depends on `seed`. Write `seeds = random.Random(seed)` before the loop. Each call of `seeds.getrandbits(32)` then gives another such number.
#
# </details>

# %% tags=["exercise"]
import random

from pixelprior.evaluation.classifier import load_shipped_reference_models

_, classifier = load_shipped_reference_models()


def my_images(label, count, seed):
    """Returns images [count, 1, 32, 32]."""
    return None  # your turn


check.images_of_class(my_images)

# %% [markdown] tags=["about-solutions"]
# [To solution 2](#Solution-2)

# %% [markdown]
# ### Exercise 3: a learning rate by measurement
#
# *Difficulty 3 of 5 · importance 5 of 5 · 8 minutes*
#
# A **range test** finds a learning rate. It trains for a short time at each of several rates, a factor of three or ten apart, and compares the results. (In the original paper, listed under *Sources*, the rate rises within a single run.) Find a rate for a small network (three blocks of 16 channels, 100 steps, AdamW with our schedule and clipping). Your rate is judged by three such trainings: at your rate, at a tenth of it, and at ten times your rate. Neither of the others may end lower, on held-out codes, by more than a tenth of a nat per code, and yours must end below the unigram entropy by as much. Use the `train` above with `new_net(16, 3)`, in a new cell. In 100 steps no grid is seen twice, so that the training losses at the end tell about as much as held-out ones.
#
# <details><summary>Hint 1</summary>
#
# Train for 100 steps at four rates that are a factor of ten apart. Begin with a rate that is surely too low.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `train(new_net(16, 3), training, 100, rate)` returns the loss and the gradient norm of each step.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Compare the means of the last twenty losses, because a single loss depends on its batch.
#
# </details>

# %% tags=["exercise"]
my_rate = None  # your turn: a number

check.learning_rate(my_rate, training, heldout)

# %% [markdown] tags=["about-solutions"]
# [To solution 3](#Solution-3)

# %% [markdown]
# ## What you can do now
#
# - Write the loss of a prior in nats per code, and say which baselines to compare it with.
# - Train a prior with warm-up, cosine and clipping, and know what each of them does.
# - Tell by a number when training has gone wrong: a norm that is too large or not finite, a loss that stays at unigram, or a held-out loss that rises again.
#
# **In papers**, the loss is the **negative log-likelihood** or **cross-entropy**, in nats per code; divided by the number of pixels and log 2 it is **bits per dimension**. GPT minimizes the same loss over words.
#
# **To take away.** Our network starts at the uniform line: what would it mean if it started far above? Which would you rather have, ten times the images or ten times the weights, and which curve tells you? The first code of a grid has nothing before it: what does the prior use there? ([Answers](ANSWERS.md#04--the-top-prior))
#
# **Sources.** A top prior on codes and its loss: Razavi, van den Oord and Vinyals 2019, [arXiv 1906.00446](https://arxiv.org/abs/1906.00446), section 3.2. The gated PixelCNN and classes as a bias: van den Oord et al. 2016, [arXiv 1606.05328](https://arxiv.org/abs/1606.05328), sections 2.1 and 2.3. AdamW: Loshchilov and Hutter 2017, [arXiv 1711.05101](https://arxiv.org/abs/1711.05101), section 2. Cosine: Loshchilov and Hutter 2016, [arXiv 1608.03983](https://arxiv.org/abs/1608.03983), section 3. Clipping by the norm: Pascanu, Mikolov and Bengio 2012, [arXiv 1211.5063](https://arxiv.org/abs/1211.5063), section 3.2. Range test: Smith 2015, [arXiv 1506.01186](https://arxiv.org/abs/1506.01186), section 3.3.
#
# ← [03 · Gated blocks](03_gated_blocks.ipynb) · [the course](../README.md#the-course) · [words and symbols](GLOSSARY.md) · next: [05 · The bottom prior](05_bottom_prior.ipynb) →

# %% [markdown] tags=["solution"]
# ## Solutions
#
# A solution is one answer of several: the checks judge what an answer does, not how it is written.

# %% [markdown] tags=["solution"]
# ### Solution 1
#
# [Back to exercise 1](#Exercise-1:-the-unigram-baseline)


# %% tags=["solution"]
def entropy_of_frequencies(codes, num_embeddings):
    # Only codes that occur come into the sum: 0 · log 0 counts as 0.
    counts = torch.bincount(codes.flatten(), minlength=num_embeddings)  # [K]
    p = counts[counts > 0] / codes.numel()  # [codes in use]
    return -(p * p.log()).sum()


check.unigram_entropy(entropy_of_frequencies)

# %% [markdown] tags=["solution"]
# ### Solution 2
#
# [Back to exercise 2](#Exercise-2:-sixteen-bags,-and-nothing-else)


# %% tags=["solution"]
# Draw until enough images are kept. The seeds of the rounds are random
# numbers that depend on `seed` alone.
def images_of(label, count, seed):
    seeds, kept = random.Random(seed), torch.empty(0, 1, 32, 32)
    while len(kept) < count:
        images = shipped.sample_with_vqvae2(
            vqvae2,
            16,
            labels=torch.full((16,), label),
            seed=seeds.getrandbits(32),
        )  # [16, 1, 32, 32]
        found = classifier(images).argmax(dim=1)  # [16]
        kept = torch.cat([kept, images[found == label]])
    return kept[:count]


check.images_of_class(images_of)

# %% [markdown] tags=["solution"]
# ### Solution 3
#
# [Back to exercise 3](#Exercise-3:-a-learning-rate-by-measurement)

# %% tags=["solution"]
# A short training at each of four rates.
# The mean of its last losses says how far it got.
ends = {}
for candidate in (3e-4, 3e-3, 3e-2, 3e-1):
    trial = train(new_net(16, 3), training, 100, candidate)
    ends[candidate] = sum(loss for loss, _ in trial[-20:]) / 20
rate_found = min(ends, key=ends.get)

check.learning_rate(rate_found, training, heldout)

# %% [markdown] tags=["solution"]
# The rate that you found is likely to be higher than our 3e-3. A short test of a small network favours high rates, because there is no time for small steps. The longer the run and the deeper the network, the lower the best rate tends to be. But is 3e-3 the best for our 600 steps? To try it, set `HIGHEST` in section 04.4 to your rate, or to a third of it, and run the notebook again from the top.
