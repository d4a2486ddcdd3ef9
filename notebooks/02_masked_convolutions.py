# %% [markdown]
# # 02 · Masked convolutions
#
# **What you will make.** Turn an ordinary convolution into one that cannot look ahead, and find out by gradient what a stack of them sees. Discover that the stack has a blind spot, and measure in nats what the blind spot costs.
#
# **What you will learn.** The chain rule on a grid, masks A and B, receptive fields, and why you should distrust a likelihood that is too good to be true.
#
# **What you need.** Notebook [00](00_start_here.ipynb) for the words *code*, *grid* and *nats per code*; convolutions and training loops in PyTorch.
#
# **Time.** About 45 minutes for the core and 95 for all, with the exercises; 35<!--= timings 02_masked_convolutions --> seconds to run on two CPU cores.
#
# ← [01 · Images to codes](01_images_to_codes.ipynb) · [the course](../README.md#the-course) · [words and symbols](GLOSSARY.md) · next: [03 · Gated blocks](03_gated_blocks.ipynb) →

# %% tags=["version"]
from pixelprior.course import needs

needs("0.2")  # says so if the installed package is older

# %%
import itertools
import math

import torch
import torch.nn.functional as F
from torch import nn

from pixelprior.course import figures
from pixelprior.course.causality import blind_spot, leak, seen_by
from pixelprior.course.checks import masks as check
from pixelprior.course.known_entropy import BlindSpotSource
from pixelprior.course.widgets import explore
from pixelprior.layers import MaskedConv2d
from pixelprior.pixelcnn import PixelCNN

# %% [markdown]
# ## 02.1 One code after the other
#
# *Core · 4 minutes*
#
# A grid of 8 × 8 codes, each one of K = 30, can be filled in $30^{64}$ ways, and no table can hold a probability for each. The **chain rule** splits the one large distribution into a product of 64 factors:
#
# $$
# P(\text{grid}) = P(z_0) \cdot P(z_1 \mid z_0) \cdot P(z_2 \mid z_0, z_1) \cdots
# $$
#
# Once the earlier codes are known, each factor is a distribution over only K codes. There are still far too many combinations of earlier codes for a table, so a network computes the factors. The chain rule needs an order, and we take **raster order**: row by row, from left to right. **Which codes is a factor conditioned on?** The figure numbers the positions in raster order. The factor for the framed position is conditioned on the codes at all positions with smaller numbers, its **past**. It must be conditioned neither on its own code nor on the codes at later positions, its **future**.

# %%
figures.show(figures.raster_order(8, 8, (3, 4)), "raster_order")

# %% [markdown]
# We want a network that computes all 64 distributions in one forward pass. It takes a batch of B grids of codes, [B, H, W], and returns scores for the K codes at each position, the **logits** [B, K, H, W]. A softmax turns the logits into probabilities. The rule is that the logits at a position may depend on its past alone. A network that keeps this rule is called **causal**.
#
# A convolution with a 3 × 3 kernel looks at the middle and all eight neighbours, four of which lie in the future. We therefore multiply the kernel by a **mask** of ones and zeros.

# %% [markdown]
# ## 02.2 Masks A and B, by hand
#
# *Core · 7 minutes*
#
# Mask **A** keeps what comes before the middle of the kernel. It is for the first layer, whose input is the codes themselves, so that the middle is the very code to be predicted. Mask **B** keeps the middle as well. It is for all later layers, where the middle holds features that were made from the past and may be used.


# %%
def make_mask(mask_type, size):
    mask = torch.zeros(size, size)
    mask[: size // 2] = 1  # the rows above the middle
    mask[size // 2, : size // 2] = 1  # to the left of the middle
    if mask_type == "B":
        mask[size // 2, size // 2] = 1
    return mask


# %% [markdown]
# **What do the masks look like?** The frame marks the middle of the kernel.

# %%
figures.show(
    figures.masks(
        {
            f"mask {mask_type}, {size} × {size}": make_mask(mask_type, size)
            for size in (3, 5)
            for mask_type in "AB"
        }
    ),
    "masks",
)

# %% [markdown]
# A masked convolution is a convolution whose kernel is multiplied by the mask when it is used. The weight itself stays as it is, and its gradient is 0 where the mask is 0.


# %%
class MyMaskedConv2d(nn.Conv2d):
    def __init__(self, mask_type, in_channels, out_channels, size=3):
        super().__init__(in_channels, out_channels, size, padding=size // 2)
        self.register_buffer("mask", make_mask(mask_type, size))

    def forward(self, x):
        weight = self.weight * self.mask
        return F.conv2d(x, weight, self.bias, padding=self.padding)


# %% [markdown]
# The package has the same layer, and with the same weights it should give the same output.

# %%
torch.manual_seed(0)
x = torch.randn(2, 3, 8, 8)  # [B, channels, H, W]
for mask_type, size in itertools.product("AB", (3, 5)):
    mine = MyMaskedConv2d(mask_type, 3, 4, size)
    theirs = MaskedConv2d(mask_type, 3, 4, size)
    # Not strict, because the package does not save its masks.
    theirs.load_state_dict(mine.state_dict(), strict=False)
    difference = (mine(x) - theirs(x)).abs().max().item()
    print(mask_type, size, "same output:", difference < 1e-6)
    assert difference < 1e-6

# %% [markdown]
# ## 02.3 A causal network
#
# *Core · 5 minutes*
#
# We stack masked convolutions, the first with mask A and all others with mask B, and put an ELU between them. (An ELU is like a ReLU, but its slope is nowhere zero, which will help us when we use the gradient.) An **embedding** in front turns each code into a vector. (It is a table of the prior's own, learned with it, and not the codebook of the VQ-VAE-2.) At the end, a 1 × 1 convolution computes the logits. This is the simplest form of a **PixelCNN**. (The original has a first layer of 7 × 7 and residual blocks.)


# %%
def masked_stack(layers, first="A", channels=32, size=3):
    """[B, 32, H, W] → [B, channels, H, W]"""
    stack = [MaskedConv2d(first, 32, channels, size)]
    for _ in range(layers - 1):
        stack += [nn.ELU(), MaskedConv2d("B", channels, channels, size)]
    return nn.Sequential(*stack)


class SingleStack(nn.Module):
    def __init__(self, num_embeddings, layers=5, first="A"):
        super().__init__()
        self.embedding = nn.Embedding(num_embeddings, 32)
        self.stack = masked_stack(layers, first)
        self.head = nn.Sequential(nn.ELU(), nn.Conv2d(32, num_embeddings, 1))

    def forward(self, codes):  # [B, H, W]
        x = self.embedding(codes).permute(0, 3, 1, 2)  # [B, 32, H, W]
        return self.head(self.stack(x))  # [B, K, H, W]


# %% [markdown]
# Does this network define a distribution? If the grid is small enough, we can try *all* grids: with 2 × 2 positions and K = 3 there are 3⁴ = 81. We add up the probabilities of all grids, each of which is the product of four factors. An untrained network will do, because the sum has to be one whatever the weights are.


# %%
def log_probability(network, codes):  # [N, H, W] → [N]
    factors = network(codes).log_softmax(dim=1)  # [N, K, H, W]
    taken = factors.gather(1, codes[:, None])  # [N, 1, H, W]
    return taken.sum(dim=(1, 2, 3))


every_grid = torch.tensor(list(itertools.product(range(3), repeat=4)))
every_grid = every_grid.view(81, 2, 2)
torch.manual_seed(0)
small = SingleStack(3).double()
with torch.no_grad():
    total = log_probability(small, every_grid).exp().sum().item()
print(f"the probabilities of all 81 grids add up to {total:.4f}")

# %% [markdown]
# ## 02.4 What does a position see?
#
# *Core · 14 minutes*
#
# We want to know what an output depends on, and the gradient tells us: where an input position has no influence on the output, the gradient is zero. The positions with influence are the output's **receptive field**.


# %%
def my_seen_by(network, position, shape):
    x = torch.rand(1, 32, *shape, requires_grad=True)  # [1, 32, H, W]
    output = network(x)[0, :, position[0], position[1]]  # [channels]
    (gradient,) = torch.autograd.grad(output.sum(), x)
    return (gradient != 0).any(dim=1)[0]  # [H, W]


torch.manual_seed(0)
one_layer = masked_stack(1)
seen = my_seen_by(one_layer, (5, 2), (8, 8))
print(seen.int())
print(
    "as in the package:", seen.equal(seen_by(one_layer, (5, 2), (8, 8), 32))
)

# %% [markdown]
# With one layer, a position sees four positions. (The package tries several random inputs, in case a ReLU is switched off by chance.) With each further layer, it also sees what its neighbours saw before. **So with enough layers, does a position see its whole past?**

# %%
position, shape = (5, 2), (8, 8)
torch.manual_seed(0)
fields = {
    f"{layers} layer{'s' * (layers > 1)}": seen_by(
        masked_stack(layers), position, shape, 32
    )
    for layers in (1, 2, 3, 4, 5, 8, 12, 20)
}
figures.show(
    figures.receptive_fields(
        fields, position, title="a stack of 3 × 3 masked layers"
    ),
    "receptive_fields",
)

# %% [markdown]
# (Rows and columns are numbered from 0.) An orange, cross-hatched cell would mark a **leak**: a position that sees itself or its future. There is none here. From five layers on, however, nothing changes any more, and a triangle to the upper right is still hatched. The stack cannot see it, whether it has 5 layers or 20.
#
# One layer is enough to see why. In the row above, a masked 3 × 3 kernel reaches at most one position to the right. Each further row upwards adds one position to the right, so that the reach ends at a line at 45°. Past positions to the right of this line can never be reached, and they form the **blind spot**.
#
# **How large is the blind spot, and at which positions?** For three kernel sizes and every position of the grid, we count the past positions that are never seen.

# %%
torch.manual_seed(0)
unseen = {}
for size in (3, 5, 7):
    stack = masked_stack(8, channels=8, size=size)
    counts = torch.zeros(shape)
    for y, x in itertools.product(range(8), range(8)):
        seen = seen_by(stack, (y, x), shape, 32)
        counts[y, x] = blind_spot(seen, (y, x)).sum()
    unseen[f"kernel {size} × {size}"] = counts
figures.show(
    figures.heatmaps(
        unseen, unit="positions of the past never seen", numbers="{:.0f}"
    ),
    "never_seen",
)

# %% [markdown]
# There is no blind spot in the first row, nor in the last two columns (three for 5 × 5, and four for 7 × 7). Elsewhere the blind spot grows from row to row, until its slanted edge leaves the grid. It is largest at the left, where most of each row above lies to the right. With larger kernels the line is flatter and the blind spot smaller, but it does not disappear.
#
# In JupyterLab you can change the position, the kernel size and the number of layers, and put mask B in front. The figure shows the first choice of each.


# %%
def field(layers, kernel_size, first_mask, row, column):
    torch.manual_seed(0)
    stack = masked_stack(layers, first_mask, 8, kernel_size)
    seen = seen_by(stack, (row, column), (8, 8), 32)
    name = (
        f"{layers} layers, {kernel_size} × {kernel_size}, mask {first_mask}"
    )
    return figures.receptive_fields({name: seen}, (row, column))


explore(
    field,
    "one_field",
    layers=[3, 1, 2, 4, 5, 6, 8],
    kernel_size=[3, 5, 7],
    first_mask=["A", "B"],
    row=[6, 0, 1, 2, 3, 4, 5, 7],
    column=[3, 0, 1, 2, 4, 5, 6, 7],
)

# %% [markdown]
# ## 02.5 What does the blind spot cost?
#
# *Core · 10 minutes*
#
# For images, nobody knows the answer: the true distribution of clothes has no formula, so we cannot say which part of a loss is due to the network. We therefore make our own codes, from a source whose distribution we *do* know.
#
# Each code is a pair of two parts, u and w. Each part has four values, so that K = 16, and the pairs are numbered by code = 4 · u + w. For example, code 14 is the pair u = 3 and w = 2, because 14 = 4 · 3 + 2.
#
# - u repeats the u of the **left neighbour**, which a masked stack sees.
# - w repeats the w of a more distant neighbour, **one row up and two to the right**, which lies in the blind spot.
#
# With probability 0.1 a part does not repeat its neighbour, but is drawn anew from all four values. Where the neighbour would be outside the grid, the part is drawn anew as well. **What do such grids look like?**

# %%
# 8 × 8 positions, four values of u and of w, noise 0.1
source = BlindSpotSource()
example = source.sample(1, seed=0)[0]  # [8, 8]
u, w = example // 4, example % 4
figures.show(
    figures.code_grids(
        {"u": u, "w": w}, 4, joined={"u": (0, 1), "w": (1, -2)}
    ),
    "source_codes",
)

# %% [markdown]
# A line joins two positions that hold the same value, one of which is the neighbour of the other. In u the lines run along the rows. In w they slant: each step goes one row down and two columns to the left.
#
# We can now compute the **entropy** of the whole source: the nats per code of a perfect model, which knows the source completely. No model can do better on average. If a part has a neighbour, the neighbour's value has probability s = 0.9 + 0.1/4, since a new draw may give the same value, and each of the other three values has probability o = 0.1/4. This gives the entropy of a part that repeats, and the entropy of a fresh part, which has no neighbour:
#
# $$
# h_r = -(s \log s + 3\, o \log o), \qquad h_f = \log 4
# $$
#
# A grid of 64 codes has 128 parts in total. If f of them are fresh, the entropy of the source is
#
# $$
# \frac{(128 - f)\, h_r + f\, h_f}{64}
# $$
#
# nats per code.

# %%
same, other = 0.9 + 0.1 / 4, 0.1 / 4
repeated = -(same * math.log(same) + 3 * other * math.log(other))
fresh = math.log(4)
print(
    f"a part that repeats: {repeated:.3f} nats, a fresh one: {fresh:.3f} nats"
)

fresh_u = 8  # the first column
fresh_w = 8 + 7 * 2  # the first row, and the last two columns of the others
entropy = (
    repeated * (128 - fresh_u - fresh_w) + fresh * (fresh_u + fresh_w)
) / 64
print(f"entropy: {entropy:.2f} nats per code")
print("as in the package:", abs(entropy - source.entropy()) < 1e-12)

# %% [markdown]
# How low can the cost of a model with this blind spot be? The model sees the left neighbour, so u costs no more than before. It sees nothing of the slanted line on which w lies, because all earlier positions of the line are in the blind spot and all later ones in the future. For such a model, w is uniform and costs log 4 everywhere. This gives a **bound**: no single causal stack of 3 × 3 masked layers can go below it on average, however deep it is, however many weights it has and however long it is trained.

# %%
# All 64 parts w count as fresh, and so do 8 parts u.
bound = (repeated * (64 - fresh_u) + fresh * (64 + fresh_u)) / 64
print(f"bound for a single masked stack: {bound:.2f} nats per code")
print("as in the package:", abs(bound - source.masked_stack_bound()) < 1e-12)
print(f"price of the blind spot: {bound - entropy:.2f} nats per code")

# %% [markdown]
# Entropy and bound are both exact: they were computed from the rules of the source, and nothing was trained or measured for them.

# %% [markdown]
# ## 02.6 Does a real network reach the bound?
#
# *Further · 16 minutes*
#
# We train two networks on the same codes. One is the single stack from above. The other is the package's `PixelCNN`, which has *two* stacks that together have no blind spot. You will build it in the next notebook; here we only ask what it can do. (It has more than twice as many weights as the single stack. They do not explain a loss below the bound, because the bound holds for any number of weights.)
#
# The loss is `F.cross_entropy`: the mean of −log P of the actual codes, in nats. The training loop is explained in detail in notebook 04. New codes are drawn for each step, so that there is nothing to learn by heart. Every 20 steps we measure the loss on 1,000 held-out grids.

# %%
heldout = source.sample(1000, seed=1)  # [1000, 8, 8]


def nats_by_position(network, codes):  # [N, H, W] → [H, W]
    with torch.no_grad():
        logits = network(codes)  # [N, K, H, W]
    return F.cross_entropy(logits, codes, reduction="none").mean(dim=0)


def train(network, steps=200):
    optimizer = torch.optim.AdamW(network.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps)
    measured = []
    for step in range(steps):
        codes = source.sample(48, seed=100 + step)  # [48, 8, 8]
        loss = F.cross_entropy(network(codes), codes)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % 20 == 0:
            measured.append(nats_by_position(network, heldout).mean().item())
    return measured


# %% tags=["nbval-ignore-output"]
torch.manual_seed(0)
single = SingleStack(source.num_embeddings)
two_stacks = PixelCNN(
    source.num_embeddings,
    embedding_dim=32,
    hidden_channels=32,
    num_layers=5,
    dropout=0.0,
)
single_curve = train(single)
two_curve = train(two_stacks)
print(
    f"single masked stack: {single_curve[-1]:.2f}, and its bound {bound:.2f}"
)
print(
    f"two stacks:          {two_curve[-1]:.2f}, and the entropy {entropy:.2f}"
)
assert bound - 0.01 < single_curve[-1] < bound + 0.06
assert entropy - 0.01 < two_curve[-1] < entropy * 1.02

# %% [markdown]
# **Where do the two curves end, compared with the bound and the entropy?**

# %% tags=["cover"]
steps = list(range(20, 201, 20))
figures.show(
    figures.curves(
        {
            "single masked stack": (steps, single_curve),
            "two stacks": (steps, two_curve),
        },
        x_label="training steps",
        y_label="nats per code, held out",
        baselines={
            "uniform": math.log(16),
            "bound of a single 3 × 3 stack": bound,
            "entropy": entropy,
        },
        bands={"the price of the blind spot": (entropy, bound)},
        y_limits=(1.0, 2.95),
    ),
    "price_of_the_blind_spot",
)

# %% [markdown]
# The loss of the single stack falls to its bound and stays there: the stack has learned all about u, and nothing about w. The loss of the two stacks falls through the band and ends within 2 % of the entropy. The height of the band is the price of the blind spot.
#
# **And at which positions is this price paid?** For every position, we subtract the entropy there from the loss of each network. The map at the left shows the computed price.

# %%
exact = source.entropy_by_position()  # [8, 8]
price = source.bound_by_position() - exact
figures.show(
    figures.heatmaps(
        {
            "computed price": price,
            "single masked stack": nats_by_position(single, heldout) - exact,
            "two stacks": nats_by_position(two_stacks, heldout) - exact,
        },
        unit="nats above the entropy",
        limits=(0, 1.2),
        numbers={
            "computed price": "{:.2f}",
            "single masked stack": "{:.1f}",
            "two stacks": "{:.1f}",
        },
    ),
    "price_by_position",
)

# %% [markdown]
# The single stack pays exactly where w has a neighbour to repeat, that is, everywhere but in the first row and the last two columns. At each of these 42 positions, the price is what a fresh part costs more than a repeated one: 1.386 − 0.349, the 1.04 of the map. Over all 64 positions that makes 1.04 · 42 ÷ 64 = 0.68, which is the price of the blind spot from above. The two stacks pay almost nothing at any position. (A few cells are brighter in both measured maps, which is due to chance in these 1,000 grids. Values below 0 have the colour of 0.)

# %% [markdown]
# ## 02.7 Where it breaks: mask B in the first layer
#
# *Further · 15 minutes*
#
# We now change one letter: we build the single stack once more, with mask B in the first layer, and train it in the same way. (We take 300 steps, so that its loss has time to come to rest.)

# %% tags=["nbval-ignore-output"]
torch.manual_seed(0)
leaky = SingleStack(source.num_embeddings, first="B")
leaky_curve = train(leaky, steps=300)
print(f"held out: {leaky_curve[-1]:.2f} nats per code")
assert leaky_curve[-1] < 0.05 < entropy

# %% [markdown]
# The held-out loss is nearly zero nats per code. But we know the entropy, and no model can be below it on average. Therefore these numbers are not the −log P of any distribution over grids.
#
# With mask B in front, each position sees its own code, copies it to the output, and is never wrong. When we *draw*, however, the code that the network has learned to copy does not exist yet.
#
# **What does each network draw?** We fill the grid code by code, and run the network anew for each code. Positions that are not drawn yet hold random codes, which a causal network ignores. Then we look at the part w, where the slanted lines should be.


# %%
@torch.no_grad()
def draw(network, count, seed):
    torch.manual_seed(seed)
    codes = torch.randint(16, (count, 8, 8))  # [count, 8, 8]: placeholders
    for y, x in itertools.product(range(8), range(8)):
        probabilities = network(codes)[:, :, y, x].softmax(
            dim=1
        )  # [count, K]
        codes[:, y, x] = torch.multinomial(probabilities, 1)[:, 0]
    return codes


# %%
drawn = {
    "from the source": source.sample(200, seed=2),
    "two stacks": draw(two_stacks, 200, seed=3),
    "single stack": draw(single, 200, seed=3),
    "mask B in front": draw(leaky, 200, seed=3),
}
figures.show(
    figures.code_grids(
        {name: codes[0] % 4 for name, codes in drawn.items()},
        4,
        joined=dict.fromkeys(drawn, (1, -2)),
        title="the part w",
    ),
    "drawn_sources",
)

# %% [markdown]
# In the first two grids, nearly every w equals the w one row up and two columns to the right. In the other two grids about one in four does, by chance. **How often does w repeat its neighbour at each position?** We count over 200 grids of each kind.

# %%
repeats = {
    name: (codes[:, 1:, :-2] % 4 == codes[:, :-1, 2:] % 4)
    .double()
    .mean(dim=0)
    for name, codes in drawn.items()
}  # [7, 6] each: the positions that have a neighbour
figures.show(
    figures.heatmaps(
        repeats,
        unit="share of w that repeats",
        limits=(0, 1),
        numbers="{:.2f}",
    ),
    "repeats",
)

# %% [markdown]
# The source repeats w with probability 0.9 + 0.1/4 = 0.925, and so do the two stacks. The other two networks repeat w as often as chance would, in a quarter of the cases. (The first row of the maps is row 1 of the grids, because row 0 has no neighbour above.) The next cell prints the shares for both parts.


# %% tags=["nbval-ignore-output"]
def share_of_repeats(codes):
    u, w = codes // 4, codes % 4  # [N, 8, 8] each
    in_u = (u[:, :, 1:] == u[:, :, :-1]).double().mean().item()
    in_w = (w[:, 1:, :-2] == w[:, :-1, 2:]).double().mean().item()
    return in_u, in_w


shares = {name: share_of_repeats(codes) for name, codes in drawn.items()}
for name, (in_u, in_w) in shares.items():
    print(f"{name:>16}: u {in_u:.0%}, w {in_w:.0%}")
assert shares["two stacks"][1] > 0.85 and shares["single stack"][0] > 0.85
assert (
    shares["single stack"][1] < 0.3 and max(shares["mask B in front"]) < 0.4
)

# %% [markdown]
# The single stack repeats u as the source does, but w only by chance. With mask B in front, neither part is right, because the network copied the random code at the very position to be drawn. Thus the network with the best loss of all draws noise.
#
# Three checks would have found this error before any picture was drawn. The first is the gradient: does a position see itself or its future? The second is the sum: do the probabilities of all grids add up to one? The third, where you are lucky enough to know the entropy, is to compare the loss with it.

# %%
torch.manual_seed(0)
tiny_leaky = SingleStack(3, first="B").double()
with torch.no_grad():
    total = log_probability(tiny_leaky, every_grid).exp().sum().item()
seen = seen_by(leaky.stack, (4, 4), (8, 8), 32)
print("position (4, 4) sees", leak(seen, (4, 4)), "which it must not")
print(f"all 81 grids add up to {total:.4f}")
print("and to one but for rounding:", abs(total - 1) < 1e-6)

# %% [markdown]
# The sum is off by little, because this network is not trained yet, so that it hardly reads its own code. In double precision, a causal network gives one to more than ten digits, and a difference in the fourth digit is a leak.

# %% [markdown]
# ## 02.8 Exercises
#
# *Further · 19 minutes*
#
# Replace the `None` in a cell with your answer and run the cell, which then tries the answer out.

# %% [markdown] tags=["about-solutions"]
# Each exercise has a [solution](#Solutions) at the end of the notebook.

# %% [markdown]
# ### Exercise 1: write mask A
#
# *Difficulty 2 of 5 · importance 5 of 5 · 4 minutes*
#
# Write mask A for a 7 × 7 kernel as a tensor of ones and zeros. Before you do, predict how many ones it has. Use no function from above, only indexing.
#
# <details><summary>Hint 1</summary>
#
# The middle of a 7 × 7 kernel is in row 3, column 3.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Start from ones, and set to zero what does not lie in the past. Two assignments are enough.
#
# </details>

# %% tags=["exercise"]
my_ones = None  # your turn: how many ones?
my_mask_a = None  # your turn: a tensor [7, 7]

check.mask(my_mask_a, "A", 7, my_ones)

# %% [markdown] tags=["about-solutions"]
# [To solution 1](#Solution-1)

# %% [markdown]
# ### Exercise 2: write mask B, for any size
#
# *Difficulty 2 of 5 · importance 5 of 5 · 5 minutes*
#
# This time, write a function that takes the size of the kernel, an odd number, and returns the mask. If you like, do it in another way than `make_mask` does.
#
# <details><summary>Hint 1</summary>
#
# In raster order, the middle of a kernel with size × size positions has the number size² // 2.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `torch.arange(size * size)` numbers the positions. Which of these numbers does mask B keep?
#
# </details>


# %% tags=["exercise"]
def my_mask_b(size):
    return None  # your turn: a tensor [size, size]


check.mask_function(my_mask_b, "B")


# %% [markdown] tags=["about-solutions"]
# [To solution 2](#Solution-2)

# %% [markdown]
# ### Exercise 3: find the leak
#
# *Difficulty 3 of 5 · importance 5 of 5 · 10 minutes*
#
# A colleague hands you this stack of seven layers: four masked convolutions, with an ELU after each but the last. Its samples are noise, and the framed position below is orange and cross-hatched, which is a leak. **Which of the layers causes the leak?** Count the layers of `suspect` from 0, including the ELUs. Use the gradient on one layer at a time. `leak(seen, position)` returns the first position that is seen and is not past. Remember that a layer with mask B may see its own position, but the first layer may not.
#
# Then explain: the layer that you found sees one position of the future, so why does the whole stack see its own position, and not that one?
#
# <details><summary>Hint 1</summary>
#
# An ELU looks at one position at a time, so that only a convolution can be the cause.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `seen_by(layer, (4, 4), (8, 8), layer.in_channels)` gives what one layer sees from (4, 4).
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# A later layer may see its own position. Set this position to `False` before you call `leak`, in all layers but the first.
#
# </details>

# %%
torch.manual_seed(0)
suspect = check.suspect_stack()  # seven layers, 32 channels in, 16 out
seen = seen_by(nn.Sequential(*suspect), (4, 4), (8, 8), 32)
figures.show(
    figures.receptive_fields({"the suspect stack": seen}, (4, 4)),
    "suspect_stack",
)

# %% tags=["exercise"]
my_layer = None  # your turn: the number of a layer in `suspect`

check.leaking_layer(my_layer, suspect, (8, 8))

# %% [markdown] tags=["about-solutions"]
# [To solution 3](#Solution-3)

# %% [markdown]
# ## What you can do now
#
# - Turn a convolution into a causal one, and prove by gradient that it is causal.
# - Say where a stack of masked convolutions is blind, and what that costs on codes of known entropy.
# - Distrust a cost below the entropy, and name three checks that find a leak.
#
# **In papers**, a network with such masks is a **causal** or **autoregressive model**, drawing one code after the other is **ancestral sampling**, and training with all true codes at once is **teacher forcing**. The causal mask of GPT does this for words.
#
# **To take away.** Would another order of the codes, say column by column, have a blind spot too? In our source, w's neighbour is two columns to the right. Which kernel size would save the single stack, and what would we have to change in the source to fool that one as well? Why does the leak not show up on held-out data? ([Answers](ANSWERS.md#02--masked-convolutions))
#
# **Sources.** Masks A and B: van den Oord, Kalchbrenner and Kavukcuoglu 2016, [arXiv 1601.06759](https://arxiv.org/abs/1601.06759), section 3.4. The blind spot and the two stacks: van den Oord et al. 2016, [arXiv 1606.05328](https://arxiv.org/abs/1606.05328), section 2.2 and figure 1. The source of known entropy is our own.
#
# ← [01 · Images to codes](01_images_to_codes.ipynb) · [the course](../README.md#the-course) · [words and symbols](GLOSSARY.md) · next: [03 · Gated blocks](03_gated_blocks.ipynb) →

# %% [markdown] tags=["solution"]
# ## Solutions
#
# A solution is one answer of several: the checks judge what an answer does, not how it is written.

# %% [markdown] tags=["solution"]
# ### Solution 1
#
# [Back to exercise 1](#Exercise-1:-write-mask-A)

# %% tags=["solution"]
ones = 3 * 7 + 3  # three rows above, and three positions to the left
mask_a = torch.ones(7, 7)
mask_a[3, 3:] = 0  # the middle, and what is to its right
mask_a[4:] = 0  # the rows below

check.mask(mask_a, "A", 7, ones)

# %% [markdown] tags=["solution"]
# ### Solution 2
#
# [Back to exercise 2](#Exercise-2:-write-mask-B,-for-any-size)


# %% tags=["solution"]
def mask_b(size):
    numbers = torch.arange(size * size)  # the middle has number size² // 2
    return (numbers <= size * size // 2).float().view(size, size)


check.mask_function(mask_b, "B")

# %% [markdown] tags=["solution"]
# ### Solution 3
#
# [Back to exercise 3](#Exercise-3:-find-the-leak)

# %% tags=["solution"]
for number, layer in enumerate(suspect):
    if isinstance(layer, nn.Conv2d):
        seen = seen_by(layer, (4, 4), (8, 8), layer.in_channels)
        if number:  # a later layer may see its own position
            seen[4, 4] = False
        if leak(seen, (4, 4)) is not None:
            leaking = number

check.leaking_layer(leaking, suspect, (8, 8))

# %% [markdown] tags=["solution"]
# The layer sees one position to its right, (4, 5). But what it sees there is not a code: it is a feature that the layers below have computed, and at (4, 5), the mask A of the first layer lets them see codes up to (4, 4) only. So the code that comes through is that of (4, 4), the position itself.
