# %% [markdown]
# # 05 · The bottom prior, P(z_bottom | z_top)
#
# **What you will make.** Give a PixelCNN a second grid to look at. Train it with the top codes and without, and measure what they are worth. Draw many bottom grids for one top grid. Then give the network the top of another image, and see what happens.
#
# **What you will learn.** How one grid conditions another; why nothing leaks, although the top is seen on all sides; how to measure what a condition is worth, and one way to deceive yourself about it.
#
# **What you need.** Gated blocks from notebook [03](03_gated_blocks.ipynb), and the loss and the training loop from notebook [04](04_top_prior.ipynb). We repeat the parts of them that we use.
#
# **Time.** About 47 minutes for the core and 131 for all, with the exercises; 60<!--= timings 05_bottom_prior --> seconds to run on two CPU cores.
#
# ← [04 · The top prior](04_top_prior.ipynb) · [the course](../README.md#the-course) · [words and symbols](GLOSSARY.md) · next: [06 · Sampling, fast](06_fast_sampling.ipynb) →

# %% tags=["version"]
from pixelprior.course import needs

needs("0.2")  # says so if the installed package is older

# %%
import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn

from pixelprior.assets import load_shipped
from pixelprior.course import figures
from pixelprior.course.checks import bottom as check
from pixelprior.course.widgets import explore
from pixelprior.data.codes import extract_codes
from pixelprior.data.images import load_images
from pixelprior.pixelcnn import ConditionalPixelCNN

# %% [markdown]
# ## 05.1 Two grids of one image
#
# *Core · 4 minutes*
#
# The top prior draws z_top, a grid of 8 × 8 codes. What is left to draw is z_bottom, a grid of 16 × 16 codes that has to fit this top. So the second network learns not P(z_bottom), but **P(z_bottom | z_top)**: the probability of a bottom grid *given* the top grid. Such a network is called **conditional**.
#
# We load the shipped networks and encode some images: 1,024 to train on, and 500 **held out**, which no training step sees.


# %%
def some(data, count):
    return replace(
        data, images=data.images[:count], labels=data.labels[:count]
    )


# %%
vqvae2, prior = load_shipped()
shipped = prior.prior_bottom
photographs = load_images("fashion_mnist_mini", "test")
training = extract_codes(
    vqvae2, some(load_images("fashion_mnist_mini", "train"), 1024)
)
heldout = extract_codes(vqvae2, some(photographs, 500))
K = heldout.num_embeddings


def pick(codes, which):
    return replace(
        codes,
        grids=tuple(z[which] for z in codes.grids),
        labels=codes.labels[which],  # [n]
    )


print("top   ", list(heldout.z_top.shape))
print("bottom", list(heldout.z_bottom.shape), " codes K:", K)

# %% [markdown]
# ## 05.2 By hand: from top codes to a bias
#
# *Core · 8 minutes*
#
# A label enters a gated block as a bias that is the same at every position (notebook 03). Top codes enter as a bias that differs from position to position. Three steps lead from the codes to this bias, here in their smallest form.
#
# **Step one: embed and look around.** Each top code becomes a vector, and a convolution mixes it with the vectors of its neighbours. The convolution has **no mask**: the whole top grid is known before the first bottom code is drawn, so there is no future in it that could leak.

# %%
torch.manual_seed(0)
z_top, z_bottom, labels = heldout.batch(torch.arange(32))  # images 0 to 31
# z_top [32, 8, 8], z_bottom [32, 16, 16], labels [32]
D, p = 64, 32  # length of an embedded code, channels of the network
embedding = nn.Embedding(K, D)
look_around = nn.Conv2d(D, p, 3, padding=1)
vectors = embedding(z_top).permute(0, 3, 1, 2)  # [32, D, 8, 8]
features = look_around(vectors)  # [32, p, 8, 8]
print("features of the top:", list(features.shape))

# %% [markdown]
# **Step two: enlarge.** The bottom grid is twice as high and twice as wide as the top grid. So four bottom positions lie over each top code, and all four take its features: we repeat every row, then every column. **Which top code lies under which bottom position?** To see this, we number the positions of a small grid and enlarge the numbers.

# %%
numbers = torch.arange(16).view(4, 4)  # [4, 4]
enlarged = numbers.repeat_interleave(2, 0).repeat_interleave(2, 1)  # [8, 8]
figures.show(
    figures.code_grids(
        {"top positions": numbers, "bottom positions": enlarged}, 16
    ),
    "enlarged_grid",
)
features = features.repeat_interleave(2, 2)  # [32, p, 16, 8]
features = features.repeat_interleave(2, 3)  # [32, p, 16, 16]
print("the condition:", list(features.shape))

# %% [markdown]
# Each number fills a square, which is called **nearest-neighbour upsampling**. The result is the **condition**, as in notebook 03: a vector of p numbers for each bottom position.
#
# **Step three: a bias before the gate.** A 1×1 convolution turns the condition into 2p numbers per position, p for the features and p for the gate. They are added to the output of the convolution over the bottom codes. With x for the block's input and c for the condition:
#
# $$
# y = \tanh(W_f * x + V_f * c) \odot \sigma(W_g * x + V_g * c)
# $$
#
# V_f and V_g are the two halves of that 1×1 convolution. So the top can shift each feature, and it can open or close the gate of this feature.


# %%
def gate(x):  # [B, 2p, H, W]
    f, g = x.chunk(2, dim=1)  # [B, p, H, W] each
    return torch.tanh(f) * torch.sigmoid(g)  # [B, p, H, W]


to_bias = nn.Conv2d(p, 2 * p, 1, bias=False)  # V_f and V_g
from_codes = torch.randn(32, 2 * p, 16, 16)  # stands for W ∗ x
y = gate(from_codes + to_bias(features))  # [32, p, 16, 16]
print("a gated feature map with the top in it:", list(y.shape))

# %% [markdown]
# ## 05.3 The package's version
#
# *Core · 11 minutes*
#
# `ConditionalPixelCNN` has a few more layers.
#
# - After the first convolution come four **residual blocks**, so that each position knows more of its surroundings. Each block adds to its input what a ReLU, a 3×3 convolution, a ReLU and a 1×1 convolution make of it. A last ReLU follows.
# - After the upsampling, a 3×3 convolution softens the edges of the squares.
# - Last, the condition is **bounded**: the vector at each position is divided by √(1 + the mean of its squares). A small vector stays almost as it is, and none becomes longer than √p. Without a bound, a large condition can push tanh and σ to their limits, where the gradient is nearly zero.
#
# We write these layers as a module of our own.


# %%
def branch(p):
    """What a residual block adds to its input."""
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(p, p // 2, 3, padding=1),  # [B, p / 2, Ht, Wt]
        nn.ReLU(),
        nn.Conv2d(p // 2, p, 1),  # [B, p, Ht, Wt]
    )


# %%
class TopToCondition(nn.Module):
    def __init__(self, num_embeddings, embedding_dim, p):
        super().__init__()
        self.embedding = nn.Embedding(num_embeddings, embedding_dim)
        self.look_around = nn.Conv2d(embedding_dim, p, 3, padding=1)
        self.branches = nn.ModuleList(branch(p) for _ in range(4))
        self.soften = nn.Conv2d(p, p, 3, padding=1)

    def forward(self, z_top):
        top = self.embedding(z_top).permute(0, 3, 1, 2)  # [B, D, Ht, Wt]
        top = self.look_around(top)  # [B, p, Ht, Wt]
        for each in self.branches:
            top = top + each(top)  # [B, p, Ht, Wt]
        top = top.relu().repeat_interleave(2, 2)  # [B, p, H, Wt]
        top = top.repeat_interleave(2, 3)  # [B, p, H, W]
        top = self.soften(top)  # [B, p, H, W]
        squares = top.square().mean(dim=1, keepdim=True)  # [B, 1, H, W]
        return top / (1 + squares).sqrt()


# %% [markdown]
# The block is that of notebook 03, with the condition in the place of the label. It is added to the vertical features, and the link between the stacks relays it to h.


# %%
def gated_block(conv, v, h, condition, first):
    """New v and h [B, p, H, W]; `conv` holds a block's convolutions."""
    up = conv.vertical(F.pad(v, (1, 1, 1, -first)))  # [B, 2p, H, W]
    up = up + conv.condition(condition)  # [B, 2p, H, W]
    left = conv.horizontal(F.pad(h, (1, -first, 0, 0)))  # [B, 2p, H, W]
    across = conv.vertical_to_horizontal(up) + left  # [B, 2p, H, W]
    new_v, new_h = gate(up), conv.horizontal_out(gate(across))
    # new_v and new_h [B, p, H, W]
    if first:
        return new_v, new_h
    return v + new_v, h + new_h


# %% [markdown]
# Does our code give the same logits, with new weights and with the shipped ones? (In notebook 03, the label's vector was the condition. Here it is added to the condition from the top codes, at every position.)


# %%
def logits_by_hand(net):
    p, D = net.top_network[0].weight.shape[:2]
    top = TopToCondition(K, D, p).double()
    parts = (net.top_embedding, net.top_network, net.top_to_bottom)
    theirs = [w for part in parts for w in part.state_dict().values()]
    top.load_state_dict(dict(zip(top.state_dict(), theirs, strict=True)))
    label = net.label_embedding(labels)[:, :, None, None]  # [32, p, 1, 1]
    condition = top(z_top) + label  # [32, p, 16, 16]
    v = h = net.embedding(z_bottom).permute(0, 3, 1, 2)  # [32, D, 16, 16]
    for number, block in enumerate(net.blocks):
        v, h = gated_block(block, v, h, condition, number == 0)
    return net.head(h)  # [32, K, 16, 16]


# %%
import copy

fresh = ConditionalPixelCNN(K, D, p, 4, num_classes=10, dropout=0.0)
for name, net in (
    ("a new network", fresh),
    ("the shipped prior", shipped),
):
    net = copy.deepcopy(net).double()  # rounding is small in float64
    with torch.no_grad():
        apart = logits_by_hand(net) - net(z_bottom, z_top, labels)
    close = apart.abs().max().item() < 1e-9
    print(f"{name}: the logits differ by < 1e-9: {close}")

# %% [markdown]
# So the bottom prior is a PixelCNN as in notebook 03, with one more input to each block. (`load_state_dict` refuses weights of other shapes: the parameters agree too.)

# %% [markdown]
# ## 05.4 No leak, no blind spot, and the top on all sides
#
# *Further · 20 minutes*
#
# A position must not see its own code or the codes that come after it. Does this still hold with a condition? The argument is short: the condition is computed from z_top alone, so once z_top is known, the condition is a constant, with the same numbers whatever the bottom codes are. Adding a constant changes no dependence. So a logit sees the same *bottom* codes as without a condition: all earlier codes within reach, and no others.
#
# The argument should also pass a test. **Which bottom codes does the shipped prior see at row 8, column 8?** As in notebook 02, we find out by the gradient. (In the comments of this section, D and p are the sizes of the shipped prior.)

# %%
from pixelprior.course.causality import seen_by

position, shape = (8, 8), (16, 16)
size = shipped.embedding.embedding_dim  # D
depth = len(shipped.blocks)
with torch.no_grad():
    condition = shipped.conditioning(z_top[:1], labels[:1], (1, *shape))


def last_h(embedded, condition, blocks):  # [B, D, 16, 16], [B, p, 16, 16]
    v = h = embedded
    for block in shipped.blocks[:blocks]:
        v, h = block(v, h, condition)  # [B, p, 16, 16] each
    return h


def from_bottom(embedded):
    return shipped.head(last_h(embedded, condition, depth))  # [B, K, 16, 16]


seen = seen_by(from_bottom, position, shape, channels=size)  # [16, 16]
figures.show(
    figures.receptive_fields(
        {"bottom codes seen": seen}, position, columns=3
    ),
    "bottom_field",
)

# %% [markdown]
# The prior sees every earlier code, and no other. We repeat the test at the corners and in between. Each of the prior's 9<!--= prior num_layers --> blocks reaches one row up and one column to either side. What is farther away than that is out of reach, which is a matter of depth and not a blind spot: for the last code to see the first, 15 blocks would be needed. Within reach there must be no hole: no earlier code that the position does not see.

# %%
from pixelprior.course.causality import blind_spot, leak

count = torch.arange(16)
for position in ((0, 0), (0, 15), (4, 11), (8, 8), (15, 8)):
    y, x = position
    seen = seen_by(from_bottom, position, shape, channels=size)  # [16, 16]
    rows = (count - y).abs() <= depth  # [16]
    columns = (count - x).abs() <= depth  # [16]
    within = rows[:, None] & columns  # [16, 16]
    holes = (blind_spot(seen, position) & within).sum().item()
    print(position, " leak:", leak(seen, position), " holes:", holes)
    assert leak(seen, position) is None and holes == 0

# %% [markdown]
# The other question concerns the top grid. **Which top codes does a bottom code depend on?** We take the log-probability of the code at a bottom position, and its gradient with respect to the embedded top. The size of the gradient at a top position, summed over 32 images, is the share of that position. The maps show the shares in percent, for three bottom positions. (`F.interpolate` enlarges as in 05.2, and `label_condition` gives the label's vector.)


# %%
def from_top(embedded, z_bottom, labels):  # [B, D, 8, 8]
    top = shipped.top_network(embedded)  # [B, p, 8, 8]
    top = F.interpolate(top, size=shape)  # [B, p, 16, 16]
    top = shipped.top_to_bottom(top)  # [B, p, 16, 16]
    top = top + shipped.label_condition(labels, len(labels))
    return shipped.logits(z_bottom, top)  # [B, K, 16, 16]


def shares_of_top(y, x):
    embedded = shipped.top_embedding(z_top).permute(0, 3, 1, 2)
    embedded = embedded.detach().requires_grad_()  # [32, D, 8, 8]
    logits = from_top(embedded, z_bottom, labels)  # [32, K, 16, 16]
    loss = F.cross_entropy(logits[..., y, x], z_bottom[:, y, x])
    (gradient,) = torch.autograd.grad(loss, embedded)  # [32, D, 8, 8]
    share = gradient.abs().sum(dim=(0, 1))  # [8, 8]
    return 100 * share / share.sum()


# %%
maps = {}
for position in ((0, 4), (8, 8), (15, 11)):
    maps[f"for the bottom code at {position}"] = shares_of_top(*position)
figures.show(
    figures.heatmaps(maps, unit="share, percent", numbers="{:.0f}"),
    "influence_of_the_top",
)

# %% [markdown]
# In the middle map, the bottom code at (8, 8) lies over the top code at (4, 4), which has the largest share. But top codes below it and to the right of it count too. In a single grid that would be a leak, while here it is intended: the top tells the network what is *coming*. At the left edge of a sleeve, for example, the network can know how wide the sleeve will be.
#
# There are two reasons why a bottom code sees top codes on all sides. The convolutions over the top grid mix neighbouring top codes, and then the blocks relay the condition from position to position. **Which positions does the condition at one position reach?** We add 1 to the condition at the framed position, row 5 and column 8, and see where h changes after the first blocks.

# %%
from pixelprior.course.causality import before

frame = (5, 8)
changed = condition.clone()  # [1, p, 16, 16]
changed[:, :, 5, 8] += 1
reached = {}
for blocks in (1, 2, 3, 4):
    with torch.no_grad():
        embedded = shipped.embed(z_bottom[:1])  # [1, D, 16, 16]
        old = last_h(embedded, condition, blocks)  # [1, p, 16, 16]
        new = last_h(embedded, changed, blocks)  # [1, p, 16, 16]
    moved = ((new - old).abs() > 1e-4).any(dim=1)[0]  # [16, 16]
    kind = moved.long() + (moved & before(frame, shape))  # [16, 16]
    reached[f"after {blocks} block{'s' * (blocks > 1)}"] = kind

# %%
kinds = {
    "not changed": ("white", ""),
    "changed": (figures.COLOURS["past"], ""),
    "changed, and earlier in raster order": (figures.COLOURS["bottom"], "//"),
}
figures.show(
    figures.cells(reached, kinds, position=frame), "condition_relayed"
)

# %% [markdown]
# In the first block, the condition at a position changes h only at this position. Each further block relays it one row down and one column to either side, because its vertical kernel covers the row above and its own row, three columns wide. So a condition also reaches positions to its *left*, which come earlier in raster order. If it held anything of the bottom codes, that would be a leak. But it was computed from top codes alone, which are known before the first bottom code.
#
# How far does the view of the top reach in principle, if we count every top code with any gradient at all?

# %%
one = slice(0, 1)  # seen_by calls with 8 inputs: we repeat one image
for position in ((0, 0), (8, 8)):
    seen = seen_by(
        lambda embedded: from_top(
            embedded, z_bottom[one].expand(8, -1, -1), labels[one].expand(8)
        ),
        position,
        (8, 8),
        channels=size,
    )  # [8, 8]
    print(position, "can see", seen.sum().item(), "of 64 top codes")

# %% [markdown]
# The bottom code in the middle sees the whole top. The first bottom code sees six rows of eight: its own and the five below it, because the 3×3 convolution at the start and the one in each of the four residual blocks reach one row further each. Its gated blocks add nothing below, since they look only up and sideways. But they look to the right: in the figure, the hatched positions see a condition to their right, so that with the whole width the first code sees 6 × 8 top codes.

# %% [markdown]
# ## 05.5 The loss, and the chain rule for an image
#
# *Core · 6 minutes*
#
# The loss is that of notebook 04, with the condition added: the mean of −log P of the true codes, in **nats per bottom code**.


# %%
@torch.no_grad()
def bottom_nats(network, z_bottom, z_top, labels):
    logits = network(z_bottom, z_top, labels)  # [B, K, 16, 16]
    log_p = logits.log_softmax(dim=1)  # [B, K, 16, 16]
    picked = log_p.gather(1, z_bottom[:, None])  # [B, 1, 16, 16]
    return -picked[:, 0]  # [B, 16, 16]


nats = bottom_nats(shipped, z_bottom, z_top, labels)  # [32, 16, 16]
with torch.no_grad():
    losses = prior.loss_function(z_top, z_bottom, labels)
difference = (nats.mean() - losses["bottom_loss"]).abs().item()
print(f"loss_function differs by < 1e-5: {difference < 1e-5}")

# %% [markdown]
# How probable are the two grids of an image together? The **chain rule** holds for grids as it does for codes:
#
# $$
# \log P(z_\text{top}, z_\text{bottom}) = \log P(z_\text{top}) + \log P(z_\text{bottom} \mid z_\text{top})
# $$
#
# Each term on the right is itself a sum, over 64 codes for the top and over 256 for the bottom. So for **nats per image** we add sums, not means. (`loss_function` also gives `total_loss`, the sum of the two means. It serves to train both levels at once, and has no meaning as the cost of an image.) A top code costs more than a bottom code, but there are four times as many bottom codes. Which of the two levels costs more in total?

# %%
from pixelprior.evaluation.measures import image_nats

with torch.no_grad():
    log_p = prior.prior_top(z_top, labels).log_softmax(dim=1)
top_nats = -log_p.gather(1, z_top[:, None])[:, 0]  # [32, 8, 8]
for_top, for_bottom = top_nats.sum(dim=(1, 2)), nats.sum(dim=(1, 2))  # [32]
print(f"top:    {for_top.mean():3.0f} nats per image")
print(f"bottom: {for_bottom.mean():3.0f} nats per image")
both = (for_top + for_bottom).mean()
print(f"both:   {both:3.0f} nats per image, {both / math.log(2):.0f} bits")
print("stored as whole numbers:", 320 * (K - 1).bit_length(), "bits")
first = pick(heldout, slice(32))
packages = image_nats(prior.prior_top, first) + image_nats(shipped, first)
apart = (packages - for_top - for_bottom).abs().max().item()
print(f"image_nats differs by < 1e-2: {apart < 1e-2}")

# %% [markdown]
# It is the bottom, although each of its codes costs less. On all 10,000<!--= results data.heldout_images --> held-out images, both levels together cost 415.9<!--= results likelihood.both.nats_per_image.value --> nats per image. The format of notebook 01 takes far more bits: it stores 320 whole numbers, each in log₂ K bits, rounded up.

# %% [markdown]
# ## 05.6 Train it, with the top and without
#
# *Further · 10 minutes*
#
# Are the top codes worth the trouble? To find out, we train one network on pairs of grids. We train another of the same size, from the same first weights, on the same bottoms, but with **every top code set to 0**. It receives a top grid too, but one that says nothing. What the first network saves is what the top codes are worth.

# %%
from pixelprior.evaluation.measures import erase_top

training = replace(training, labels=None)  # these two do without labels
watched = replace(pick(heldout, slice(128)), labels=None)
no_top = torch.zeros_like(watched.z_top)  # [128, 8, 8]
silent = replace(watched, grids=(no_top, watched.z_bottom))
print(
    "the package has it too:",
    torch.equal(silent.z_top, erase_top(watched).z_top),
)

# %% [markdown]
# The training loop is that of notebook 04. Every 48 steps it measures the network on 128 held-out images.


# %%
from pixelprior.settings import TrainingSettings
from pixelprior.training import learning_rate_factor


def train(codes, watched, epochs=3, highest=2e-3):
    torch.manual_seed(0)  # the same first weights and the same order
    net = ConditionalPixelCNN(K, D, p, num_layers=4, dropout=0.0)
    optimizer = torch.optim.AdamW(net.parameters(), lr=highest)
    order = [i for _ in range(epochs) for i in torch.randperm(1024).split(16)]
    rate = learning_rate_factor(TrainingSettings(warmup=0.1), len(order))
    curve = []
    for step, indices in enumerate(order, 1):
        optimizer.param_groups[0]["lr"] = highest * rate(step - 1)
        z_top, z_bottom, _ = codes.batch(indices)
        loss = F.cross_entropy(net(z_bottom, z_top), z_bottom)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        if step % 48 == 0:
            curve.append(image_nats(net, watched).mean().item() / 256)
    return curve


# %% tags=["nbval-ignore-output"]
with_curve = train(training, watched)
without_curve = train(erase_top(training), silent)
gain = without_curve[-1] - with_curve[-1]
print(f"without the top codes: {without_curve[-1]:.2f} nats per code")
print(f"with the top codes:    {with_curve[-1]:.2f} nats per code")
assert 0.04 < gain < 0.3 and with_curve[-1] < 1.9
for mine, other in zip(with_curve[1:], without_curve[1:], strict=True):
    assert mine < other  # from the second point on

# %% [markdown]
# **From which step on does the top help?** Both curves are measured on the same 128 held-out images. The horizontal dashed line at the top is the **unigram entropy**, which is what the codes cost by their frequencies alone (notebook 04).

# %%
steps = range(48, 193, 48)
figures.show(
    figures.curves(
        {
            "without the top codes": (steps, without_curve),
            "with the top codes": (steps, with_curve),
        },
        x_label="training steps of 16 images",
        x_ticks=steps,
        y_label="nats per bottom code, held out",
        baselines={"unigram": heldout.unigram_entropy("bottom")},
    ),
    "with_and_without_top",
)

# %% [markdown]
# At the first point both networks are far below the unigram entropy, and hardly differ: by then they have learned how often codes occur and which of them occur side by side, for which no top is needed. From the second point on, the network with the top codes needs fewer nats, and the gap stays. Both networks learn to use the earlier bottom codes, but these do not contain what the top says about the codes to come.

# %% [markdown]
# ## 05.7 What is the top worth, and where?
#
# *Further · 15 minutes*
#
# So few steps are only a start. From here on we use two networks that were trained for longer, on nearly all of the 60,000<!--= results data.training_images --> training images, and that ship with the package (`load_shipped`, `load_shipped_reference_models`): the bottom prior, and its twin that was trained without top codes. Both are conditioned on the label, and we measure both on the 500 held-out images.

# %%
from pixelprior.evaluation.classifier import load_shipped_reference_models

without_top, _ = load_shipped_reference_models()


def nats_of(network, codes):
    parts = [
        bottom_nats(network, z_bottom, z_top, labels)
        for z_top, z_bottom, labels in map(
            codes.batch, torch.arange(len(codes)).split(64)
        )
    ]
    return torch.cat(parts)  # [N, 16, 16]


with_top = nats_of(shipped, heldout)  # [500, 16, 16]
alone = nats_of(without_top, erase_top(heldout))  # [500, 16, 16]
gain = alone - with_top  # [500, 16, 16]
print(f"without {alone.mean():.1f}, with {with_top.mean():.1f} nats per code")
by_image = gain.sum(dim=(1, 2))  # [500]
print(f"gain {gain.mean():.3f} nats per code")
print(f"gain {by_image.mean():.0f} nats per image of 256 codes")

# %% [markdown]
# On all 10,000<!--= results data.heldout_images --> held-out images, a code costs 1.503<!--= results likelihood.bottom.without_top.value --> nats without the top codes and 1.206<!--= results likelihood.bottom.nats_per_code.value --> with them, which is a gain of 0.296<!--= results likelihood.bottom.gain_from_top.value --> nats per code (computed before rounding).
#
# **At which positions is the gain large?** We take the mean over the images at each position.

# %%
figures.show(
    figures.numbered_maps(
        {"gain from the top codes": gain.mean(dim=0)},
        unit="gain, nats per code",
    ),
    "gain_by_position",
)
by_row = gain.sum(dim=(0, 2)) / alone.sum(dim=(0, 2))  # [16]
print(f"saved in row 0:        {by_row[0]:.0%} of its nats")
print(f"saved in rows 1 to 14: {by_row[1:15].mean():.0%} of theirs")

# %% [markdown]
# - **The middle**, where there are clothes in most images, gains about a third to half a nat per code.
# - **The border** is darker than the middle: the outer columns, the upper corners and row 15. It is background in most images, where a code costs little even without the top, so that few nats can be saved.
# - **Row 0** has no codes above it, so that without the top the network has little to go on. The top saves a larger share of the cost there than in rows 1 to 14, as the two printed lines show.
#
# **Is the gain on the clothes, on their outline, or beside them?** The map above mixes boots and dresses, so we take the mean class by class, and draw the outline of the class over it: the line where the mean image of the class is a quarter as bright as white. A class has only as many images as the number in brackets says, so we also average each position with its neighbours to reduce the noise.

# %%
pixels, classes = photographs[torch.arange(500)]
# pixels [500, 1, 32, 32], classes [500]
smooth = nn.AvgPool2d(3, 1, 1, count_include_pad=False)
maps, mean_images = {}, {}
for number, name in enumerate(photographs.class_names):
    of_class = classes == number  # [500]
    name = f"{name} ({of_class.sum()})"
    mean_images[name] = pixels[of_class].mean(dim=0)  # [1, 32, 32]
    mean_gain = gain[of_class].mean(dim=0)[None]  # [1, 16, 16]
    maps[name] = smooth(mean_gain)[0]  # [16, 16]
figures.show(
    figures.numbered_maps(
        maps, unit="gain, nats per code", outlines=mean_images
    ),
    "gain_by_class",
)

# %% [markdown]
# The gain follows the shape of the class. It is small far from the shape, and large on it and a few positions beside it, because a single image may be wider than the mean. Pullovers gain most inside, while coats and dresses gain less in the middle than along the line. But the outline of a mean image is not that of any one image. So we also sort the positions of each image into three kinds, by that image alone, and count. A pixel is part of the clothes if it is not nearly black. A bottom position is **background** if no pixel within two pixels of it is part of the clothes, **inside** if all of these pixels are, and on the **outline** otherwise.

# %%
on = (pixels > 0.1).float()  # [500, 1, 32, 32]
some_on = F.max_pool2d(on, 6, 2, 2)[:, 0] == 1  # [500, 16, 16]
some_off = F.max_pool2d(1 - on, 6, 2, 2)[:, 0] == 1  # [500, 16, 16]
for name, kind in (
    ("background", ~some_on),
    ("inside", some_on & ~some_off),
    ("outline", some_on & some_off),
):
    print(
        f"{name:10} {kind.float().mean():.0%} of the positions,"
        f" {gain[kind].mean():.1f} nats each:"
        f" {gain[kind].sum() / gain.sum():.1f} of the gain,"
        f" {gain[kind].sum() / alone[kind].sum():.0%} of its cost saved"
    )

# %% [markdown]
# The positions on an outline bring most of the gain, and more than their share of the grid. The positions inside also bring more than their share. (Dark print within the clothes counts as outline here too.) Is this only because these codes cost more? The last column gives the share of the cost that is saved. It is about the same on the outline and inside, and largest in the background, which costs little in any case. So the top codes tell where there is only background, and on the clothes they help everywhere: shade and print are in them too, as the next section shows.

# %% [markdown]
# ## 05.8 One top, many bottoms
#
# *Core · 14 minutes*
#
# The top codes hold the outline, and the bottom codes the texture (notebook 01). If this is so, we should be able to see it. We keep the top codes of one photograph, and draw 32 bottoms with different random numbers. The argument `known_top` does this: codes that are given there are kept, and only the rest is drawn. For comparison we draw 32 images of the same label with *nothing* kept, and we decode the kept top with uniform bottom codes. We show eight of each. **What stays the same, and what varies?**

# %%
number = 1
shirt, its_label = photographs[number : number + 1]  # [1, 1, 32, 32], [1]
its_top, its_bottom, _ = heldout.batch(torch.tensor([number]))


@torch.no_grad()
def draw(count, label, seed, **options):
    """Images [count, 1, 32, 32] of one label."""
    label = label.expand(count)  # [count]
    z_top, z_bottom = prior.sample(
        count, (8, 8), (16, 16), labels=label, seed=seed, **options
    )  # [count, 8, 8], [count, 16, 16]
    return vqvae2.decode_codes(z_top, z_bottom)


# %% tags=["cover"]
kept = draw(32, its_label, 0, known_top=its_top.expand(32, -1, -1))
free = draw(32, its_label, 0)  # [32, 1, 32, 32]
torch.manual_seed(0)
uniform = vqvae2.decode_codes(
    its_top.expand(8, -1, -1), torch.randint(K, (8, 16, 16))
)
its_own = vqvae2.decode_codes(its_top, its_bottom)  # [1, 1, 32, 32]
figures.show(
    figures.image_rows(
        {
            "photo, decoded": torch.cat([shirt, its_own]),
            "top kept": kept[:8],
            "nothing kept": free[:8],
            "top kept,\nuniform bottom": uniform,
        }
    ),
    "one_top_many_bottoms",
)

# %% [markdown]
# With the top kept, it is the same pullover eight times, but none of them says "Lee". There is *something* written on each, at the same spot, because the top says that there is print, and where. What it says was in the bottom codes, which are new here. With nothing kept, the outline and the shade differ too.
#
# The last row shows how much of this comes from the decoder alone: with uniform bottom codes we get a noisy pullover with a dark bar on its chest. Only bottom codes that fit the top turn it into a pullover.
#
# A **difference map** shows how strongly each pixel varies, by its standard deviation over the draws. **How much does a pixel vary over 32 draws?**

# %%
figures.show(
    figures.heatmaps(
        {
            "top kept": kept[:, 0].std(dim=0),
            "nothing kept": free[:, 0].std(dim=0),
        },
        unit="standard deviation of a pixel",
        limits=(0, None),
    ),
    "spread_of_bottoms",
)
ratio = (free.std(dim=0).mean() / kept.std(dim=0).mean()).item()
print(f"nothing kept varies more than 3 times as much: {ratio > 3}")

# %% [markdown]
# With the top kept, the print varies, and thin lines along the sleeves and the outline vary a little. With nothing kept, the whole pullover varies, most of all at its edges and at the hem. In JupyterLab, choose another image and another seed below. (A `temperature` below 1 makes likely codes even more likely.) The last row shows where each drawn image differs from the decoded photograph, twice as bright as it is.


# %%
def bottoms(image, seed, temperature):
    photo, label = photographs[image : image + 1]  # [1, 1, 32, 32], [1]
    z_top, z_bottom, _ = heldout.batch(torch.tensor([image]))
    own = vqvae2.decode_codes(z_top, z_bottom)  # [1, 1, 32, 32]
    kept = {"known_top": z_top.expand(6, -1, -1), "temperature": temperature}
    drawn = draw(6, label, seed, **kept)  # [6, 1, 32, 32]
    return figures.image_rows(
        {
            "photo, decoded": torch.cat([photo, own]),
            "drawn": drawn,
            "difference,\ntwice": 2 * (drawn - own).abs(),
        }
    )


# %%
explore(
    bottoms,
    "bottoms_of_a_shirt",
    image=[33, 0, 1, 9, 19, 31],
    seed=[0, 1, 2, 3, 4],
    temperature=[1.0, 0.3, 0.6, 0.8],
)

# %% [markdown]
# ## 05.9 Where it breaks: the top of another image
#
# *Further · 13 minutes*
#
# One wrong line is enough for this mistake: the two lists of grids are shuffled, each by itself, so that every bottom is now paired with the top of another image. All shapes are still right, and nothing raises an error. **How many nats does a bottom code cost now?** For comparison we measure top codes of another image of the same class, a top grid of zeros, and the network that was trained without top codes.


# %%
def with_tops_of(codes, others):
    return replace(codes, grids=(codes.z_top[others], codes.z_bottom))


def mean_nats(network, codes):
    return nats_of(network, codes).mean().item()


# %%
looked_at = pick(heldout, slice(128))
is_same = looked_at.labels[:, None] == looked_at.labels  # [128, 128]
# For each image the first other one of its class.
same = is_same.fill_diagonal_(False).int().argmax(dim=1)  # [128]
same_class = with_tops_of(looked_at, same)
# It is enough to give each image the top of the one before it.
shuffled = with_tops_of(looked_at, torch.arange(128).roll(1))
erased = erase_top(looked_at)
cost = {
    "right top": mean_nats(shipped, looked_at),
    "no top,\ntrained so": mean_nats(without_top, erased),
    "top of another,\nsame class": mean_nats(shipped, same_class),
    "uniform": math.log(K),
    "top of another,\nshuffled": mean_nats(shipped, shuffled),
    "top codes\nall 0": mean_nats(shipped, erased),
}
figures.show(
    figures.bars(cost, y_label="nats per bottom code", unit_format="{:.1f}"),
    "cost_of_wrong_tops",
)

# %% [markdown]
# The shuffled top is far worse than none, and about as bad as a uniform guess. The network relies on its condition, so it is certain of codes that do not come. Even the top of another image of the same class costs far more than no top at all.
#
# The last bar is the same trained network with its top codes erased. The network never saw such a grid in training, and its predictions for it are far worse than those of its twin. Whoever takes the difference to *this* bar for the gain from the top will report several times the true gain. The fair reference is a network that was *trained* without top codes.
#
# So the check is a comparison: **a network with a condition must beat the network that never had one.**


# %%
def condition_is_right(codes):
    return mean_nats(shipped, codes) < mean_nats(
        without_top, erase_top(codes)
    )


of_right_pairs = condition_is_right(looked_at)
of_shuffled_pairs = condition_is_right(shuffled)
print("right pairs:   ", of_right_pairs)
print("shuffled pairs:", of_shuffled_pairs)
assert of_right_pairs and not of_shuffled_pairs

# %% [markdown]
# What if the pairs had been shuffled before the *training*? The top of some other image says nothing about the bottom, so there is nothing to gain from it: the best that the network can do is to ignore the top, and then it costs as much as a network without. Its own loss cannot show this, because there is much to learn from the earlier bottom codes alone. The comparison shows it.
#
# **And what do the pictures look like?** Each image gets the top codes of its left neighbour (and the first image gets those of the last). In the third row, each image keeps its own bottom codes. In the last row, bottom codes are drawn anew for the wrong top.

# %%
chosen = torch.tensor([0, 1, 3, 4, 8, 9, 18, 31])
images, _ = photographs[chosen]  # [8, 1, 32, 32]
z_top, z_bottom, labels = heldout.batch(chosen)  # [8, 8, 8], …, [8]
wrong = z_top.roll(1, dims=0)  # [8, 8, 8]
_, drawn = prior.sample(
    8, (8, 8), (16, 16), labels=labels, seed=0, known_top=wrong
)  # [8, 16, 16]
figures.show(
    figures.image_rows(
        {
            "photograph": images,
            "own codes": vqvae2.decode_codes(z_top, z_bottom),
            "wrong top,\nown bottom": vqvae2.decode_codes(wrong, z_bottom),
            "wrong top,\nbottom drawn": vqvae2.decode_codes(wrong, drawn),
        }
    ),
    "wrong_tops",
)

# %% [markdown]
# In the third row, top and bottom contradict each other, and the decoder shows both. On all held-out images, the mean squared error of a pixel is 0.109<!--= results reconstruction.mean_squared_error_with_wrong_top.value --> with the top of another image, against 0.0008<!--= results reconstruction.mean_squared_error.value --> with the image's own top.
#
# The mistake in the last row is harder to notice, because the images are whole. But they have the outline of the *other* image: below the trousers of the first row, for example, we see a pullover. The label named one class and the top another, and the network followed the top. Samples that are shown without their labels would not reveal this mistake, while the loss reveals it at once.

# %% [markdown]
# ## 05.10 Exercises
#
# *Further · 25 minutes*
#
# Replace the `None` in a cell with your answer and run the cell, which then tries the answer out.

# %% [markdown] tags=["about-solutions"]
# Each exercise has a [solution](#Solutions) at the end of the notebook.

# %% [markdown]
# ### Exercise 1: the order of the levels
#
# *Difficulty 1 of 5 · importance 5 of 5 · 4 minutes*
#
# Below are the six steps in which the prior draws an image, but in shuffled order. Give their right order as a string of letters, such as `"abcdef"`. The check goes through the steps and looks at what is known before each step.
#
# <details><summary>Hint 1</summary>
#
# Only the label is known before anything is drawn.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# A step can use only what earlier steps have made. Which step makes the top grid, and which step needs it?
#
# </details>

# %%
for letter, step in check.STEPS.items():
    print(letter, "·", step)

# %% tags=["exercise"]
my_order = None  # your turn

check.order_of_levels(my_order)

# %% [markdown] tags=["about-solutions"]
# [To solution 1](#Solution-1)

# %% [markdown]
# ### Exercise 2: how improbable is this bag?
#
# *Difficulty 2 of 5 · importance 5 of 5 · 5 minutes*
#
# What is −log P(z_top, z_bottom) of one image, in nats? Compute it for the bag below, from both levels of the shipped prior.
#
# <details><summary>Hint 1</summary>
#
# The logarithm of a product is a sum, so that the nats of both levels add up.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `image_nats(network, codes)` gives the nats of one level. Call it for `prior.prior_top` and for the bottom level.
#
# </details>

# %%
bag = pick(heldout, [31])
bag_top, bag_bottom, _ = bag.batch(torch.tensor([0]))
figures.show(
    figures.code_grids({"top": bag_top[0], "bottom": bag_bottom[0]}, K),
    "codes_of_a_bag",
)

# %% tags=["exercise"]
my_nats = None  # your turn

check.nats_per_image(my_nats, prior, bag)

# %% [markdown] tags=["about-solutions"]
# [To solution 2](#Solution-2)

# %% [markdown]
# ### Exercise 3: measure the gain
#
# *Difficulty 3 of 5 · importance 5 of 5 · 8 minutes · after 05.6 and 05.7*
#
# Write a function that measures what the top codes are worth, in nats per bottom code. Its arguments are the network with the top, its twin that was trained without, and codes. `image_nats(network, codes)` gives the nats of each image's codes, [N], of the level that the network belongs to. `erase_top(codes)` gives the same codes with all top codes 0. Do not rely on the number 256, because the check tries another grid too.
#
# <details><summary>Hint 1</summary>
#
# The twin was trained on top codes that are all 0, so that it has to be measured on `erase_top(codes)`.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The gain is positive if the network with the top needs fewer nats.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# `codes.z_bottom[0].numel()` is the number of bottom codes of one image.
#
# </details>

# %%
hundred = pick(heldout, slice(400, 500))


# %% tags=["exercise"]
def my_gain(with_top, without_top, codes):
    return None  # your turn


check.conditional_gain(my_gain, shipped, without_top, hundred)


# %% [markdown] tags=["about-solutions"]
# [To solution 3](#Solution-3)

# %% [markdown]
# ### Exercise 4: the wrong scale
#
# *Difficulty 3 of 5 · importance 3 of 5 · 8 minutes*
#
# A colleague has enlarged the top with `Tensor.repeat`, and the result has the right shape. **Is the grid itself right as well?** Here are the numbered positions again, and the loss of the shipped prior with such an enlargement.


# %%
def tiled(top, height, width):  # [B, p, Ht, Wt] to [B, p, height, width]
    high, wide = top.shape[2:]
    return top.repeat(1, 1, height // high, width // wide)


wrong_grid = tiled(numbers[None, None], 8, 8)[0, 0]  # [8, 8]
figures.show(
    figures.code_grids({"top positions": numbers, "tiled": wrong_grid}, 16),
    "tiled_grid",
)
with torch.no_grad():
    z_top, z_bottom, labels = heldout.batch(torch.arange(64))
    embedded = shipped.top_embedding(z_top).permute(0, 3, 1, 2)
    top = shipped.top_network(embedded)  # [64, p, 8, 8]
    top = shipped.top_to_bottom(tiled(top, 16, 16))  # [64, p, 16, 16]
    top = top + shipped.label_condition(labels, 64)
    loss = F.cross_entropy(shipped.logits(z_bottom, top), z_bottom)
print(f"nats per code: {loss:.0f}, worse than uniform: {loss > math.log(K)}")

# %% [markdown]
# The grid is four small copies of the top, so that most bottom positions have a code from far away beneath them. Write the enlargement correctly, for any bottom size that is a multiple of the top size: from 8 × 8 to 16 × 16, but also from 5 × 3 to 15 × 9, with one factor for the height and another for the width. Return a tensor [B, p, height, width].
#
# <details><summary>Hint 1</summary>
#
# Which row of the top grid covers each row of the bottom grid? With twice as many rows, rows 0 and 1 belong to row 0.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# In 05.2, every row and every column was repeated twice. How often must each be repeated here?
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# The two factors are the height divided by the number of top rows, and the width divided by the number of top columns. You can repeat with them as in 05.2, or index the tensor with the numbers of hint 1, first along the height and then along the width.
#
# </details>


# %% tags=["exercise"]
def my_upsample(top, height, width):  # [B, p, Ht, Wt] to [B, p, H, W]
    return None  # your turn


check.upsample(my_upsample)


# %% [markdown] tags=["about-solutions"]
# [To solution 4](#Solution-4)

# %% [markdown]
# ## What you can do now
#
# - Condition a PixelCNN on another grid, and explain why it still has no leak and no blind spot.
# - Measure what a condition is worth, position by position, against a network that was trained without it.
# - Keep the top of an image and draw bottoms that fit it, and detect grids that were paired wrongly.
#
# **In papers**, P(z_bottom | z_top) is a **conditional** or **hierarchical prior**, and drawing the top first and then the bottom is **ancestral sampling**.
#
# **To take away.** What would the gain be if the two levels held the same information? Could the *bottom* be drawn first, and the top given it, and what would have to change? With three levels, what does each network get for its condition? ([Answers](ANSWERS.md#05--the-bottom-prior))
#
# **Sources.** A prior for each level, the lower given the upper through a residual network: Razavi, van den Oord and Vinyals 2019, [arXiv 1906.00446](https://arxiv.org/abs/1906.00446), section 3.2. A condition that differs from position to position, added before the gate: van den Oord, Kalchbrenner, Vinyals, Espeholt, Graves and Kavukcuoglu 2016, [arXiv 1606.05328](https://arxiv.org/abs/1606.05328), section 2.3, equations 4 and 5. The photographs: Xiao, Rasul and Vollgraf 2017, [arXiv 1708.07747](https://arxiv.org/abs/1708.07747).
#
# ← [04 · The top prior](04_top_prior.ipynb) · [the course](../README.md#the-course) · [words and symbols](GLOSSARY.md) · next: [06 · Sampling, fast](06_fast_sampling.ipynb) →

# %% [markdown] tags=["solution"]
# ## Solutions
#
# A solution is one answer of several: the checks judge what an answer does, not how it is written.

# %% [markdown] tags=["solution"]
# ### Solution 1
#
# [Back to exercise 1](#Exercise-1:-the-order-of-the-levels)

# %% tags=["solution"]
# The top needs the label, the condition the top, the bottom the condition.
order = "cfebda"

check.order_of_levels(order)

# %% [markdown] tags=["solution"]
# ### Solution 2
#
# [Back to exercise 2](#Exercise-2:-how-improbable-is-this-bag?)

# %% tags=["solution"]
# A product of probabilities is a sum of logarithms, over codes and levels.
bag_nats = image_nats(prior.prior_top, bag) + image_nats(shipped, bag)  # [1]

check.nats_per_image(bag_nats, prior, bag)

# %% [markdown] tags=["solution"]
# ### Solution 3
#
# [Back to exercise 3](#Exercise-3:-measure-the-gain)


# %% tags=["solution"]
# Each network gets the codes that it knows. Per image, then per code.
def gain_per_code(with_top, without_top, codes):
    nats_with = image_nats(with_top, codes)  # [N]
    nats_without = image_nats(without_top, erase_top(codes))  # [N]
    return (nats_without - nats_with).mean() / codes.z_bottom[0].numel()


check.conditional_gain(gain_per_code, shipped, without_top, hundred)

# %% [markdown] tags=["solution"]
# ### Solution 4
#
# [Back to exercise 4](#Exercise-4:-the-wrong-scale)


# %% tags=["solution"]
# Say for each row which top row lies beneath it, and for each column too.
def enlarge(top, height, width):
    high, wide = top.shape[2:]
    rows = torch.arange(height) * high // height  # [H]
    columns = torch.arange(width) * wide // width  # [W]
    return top[:, :, rows][:, :, :, columns]  # [B, p, H, W]


check.upsample(enlarge)
