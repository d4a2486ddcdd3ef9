# %% [markdown]
# # 02 · Masked convolutions
#
# **What you will do.** Turn an ordinary convolution into one that cannot look ahead. Find out, by gradient, what a stack of them sees. Discover that it has a blind spot, and measure in nats what the blind spot costs.
#
# **What you will learn.** The chain rule on a grid. Masks A and B. Receptive fields. Why a likelihood that is too good to be true is not true.
#
# **What you need.** Notebook [00](00_start_here.ipynb) for the words *code*, *grid* and *nats per code*. Convolutions and training loops in PyTorch.
#
# **Time.** About 35 minutes to read, 40<!--= timings 02_masked_convolutions --> seconds to run on two CPU cores.
#
# ← [01 · Images to codes](01_images_to_codes.ipynb) · [the course](../README.md#the-course) · [words and symbols](GLOSSARY.md) · next: [03 · Gated blocks](03_gated_blocks.ipynb) →

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
# A grid of 8 × 8 codes, each one of K = 64, can be filled in 64⁶⁴ ways. No table holds a probability for each. The **chain rule** splits the one big distribution into a product of 64 factors:
#
# P(grid) = P(code 1) · P(code 2 | code 1) · P(code 3 | codes 1, 2) · …
#
# For a given past, each factor is a distribution over only K codes. There are still far too many pasts for a table. So a network computes the factors. The rule needs an order. We take **raster order**: row by row, from left to right. **Which codes does a factor know?** The figure numbers the places in raster order. The factor for the framed place knows all places with smaller numbers: its **past**. It must not know itself, nor any place after it: its **future**.

# %%
order = torch.arange(64).view(8, 8)  # [8, 8]
figures.show(
    figures.code_grids(
        {"raster order": order}, 64, marked={"raster order": (3, 4)}
    ),
    "A grid of 8 by 8 cells with the numbers 0 to 63, row by row. The "
    "cell with 28, in row 3 and column 4, has a red frame. Smaller "
    "numbers are above it and to its left.",
)

# %% [markdown]
# We want a network that computes all factors at once: one run, 64 distributions. It takes a batch of B grids of codes, [B, H, W], and gives scores for the K codes at each place, the **logits** [B, K, H, W]. A softmax turns them into probabilities. The one rule: logits at a place may depend on its past alone.
#
# A convolution with a 3 × 3 kernel looks at all eight neighbours and at the middle. Four neighbours lie in the future. So we multiply the kernel by a **mask** of ones and zeros.

# %% [markdown]
# ## 02.2 Masks A and B, by hand
#
# Mask **A** keeps what comes before the middle. It is for the first layer, whose input is the codes themselves: the middle is the very code to be predicted. Mask **B** keeps the middle as well. It is for all later layers: their middle holds features that have been made from the past, and may be used.


# %%
def make_mask(mask_type, size):
    mask = torch.zeros(size, size)
    mask[: size // 2] = 1  # the rows above the middle
    mask[size // 2, : size // 2] = 1  # to the left of the middle
    if mask_type == "B":
        mask[size // 2, size // 2] = 1
    return mask


# %% [markdown]
# **What do the masks look like?** The frame is the middle of the kernel.

# %%
figures.show(
    figures.masks(
        {
            f"mask {mask_type}, {size} × {size}": make_mask(mask_type, size)
            for size in (3, 5)
            for mask_type in "AB"
        }
    ),
    "Four masks of zeros and ones, A and B of sizes 3 and 5. Ones fill "
    "the rows above the middle and the cells to its left; the middle is "
    "0 in A, 1 in B.",
)

# %% [markdown]
# A masked convolution is a convolution with a masked kernel. We multiply when we use it. The weight itself stays as it is; where the mask is 0, its gradient is 0.


# %%
class MyMaskedConv2d(nn.Conv2d):
    def __init__(self, mask_type, in_channels, out_channels, size=3):
        super().__init__(in_channels, out_channels, size, padding=size // 2)
        self.register_buffer("mask", make_mask(mask_type, size))

    def forward(self, x):
        weight = self.weight * self.mask
        return F.conv2d(x, weight, self.bias, padding=self.padding)


# %% [markdown]
# The package has the same layer. With the same weights, it should give the same output.

# %%
torch.manual_seed(0)
x = torch.randn(2, 3, 8, 8)  # [B, channels, H, W]
for mask_type, size in itertools.product("AB", (3, 5)):
    mine = MyMaskedConv2d(mask_type, 3, 4, size)
    theirs = MaskedConv2d(mask_type, 3, 4, size)
    theirs.load_state_dict(mine.state_dict(), strict=False)
    difference = (mine(x) - theirs(x)).abs().max().item()
    print(mask_type, size, "same output:", difference < 1e-6)
    assert difference < 1e-6

# %% [markdown]
# ## 02.3 A network that keeps the rules
#
# We stack them: mask A first, then mask B, with an ELU between. (An ELU is like a ReLU, but its slope is nowhere zero. That will help us when we ask the gradient.) An **embedding** turns each code into a vector (a table of the prior's own, learned with it; it is not the codebook of notebook 01), and a 1 × 1 convolution makes the logits at the end. That is the simplest form of a **PixelCNN**. (The original has a first layer of 7 × 7 and residual blocks.)


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
# Does it define a distribution? On a grid small enough, we can try *all* grids. With 2 × 2 places and K = 3 there are 3⁴ = 81. We add up the probability of each: the product of the four factors. An untrained network will do, since the sum has to be one whatever the weights are.


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
# ## 02.4 What does a place see?
#
# We want to know what an output depends on. Ask the gradient: an input place that has no influence on the output has gradient zero. The places with influence are the output's **receptive field**.


# %%
def my_seen_by(network, place, shape):
    x = torch.rand(1, 32, *shape, requires_grad=True)  # [1, 32, H, W]
    output = network(x)[0, :, place[0], place[1]]  # [channels]
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
# One layer sees four places. (The package tries several random inputs, in case a ReLU is switched off by chance.) Each further layer lets a place see through the eyes of its neighbours. **So with enough layers, does it see its whole past?**

# %%
place, shape = (5, 2), (8, 8)
torch.manual_seed(0)
fields = {
    f"{layers} layer{'s' * (layers > 1)}": seen_by(
        masked_stack(layers), place, shape, 32
    )
    for layers in (1, 2, 3, 4, 5, 8, 12, 20)
}
figures.show(
    figures.receptive_fields(
        fields, place, title="a stack of 3 × 3 masked layers"
    ),
    "Eight grids for 1 to 20 layers. The blue seen past grows upwards "
    "and to the left layer by layer. From 5 layers on it stays the "
    "same: a triangle to the upper right of the place is hatched, the "
    "past that is never seen.",
)

# %% [markdown]
# Nothing is red. Red would be a **leak**: a place that sees itself or its future. But from five layers on, nothing changes any more, and a triangle to the upper right is still hatched. The stack is blind there, with 5 layers and with 20.
#
# Follow one step to see why. A 3 × 3 masked kernel reaches the row above at most one place to the right. So each row up gains one place to the right: a line at 45°. What lies to the right of that line in the past can never be reached. This is the **blind spot**.
#
# **How large is it, and for whom?** We count the unseen past for every place of the grid, for three kernel sizes.

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
        unseen, unit="places of the past never seen", numbers="{:.0f}"
    ),
    "Three maps of the grid with the number of unseen past places in "
    "each cell. With 3 by 3 kernels it grows down the left side to more "
    "than twenty; with larger kernels it is smaller, but never gone.",
)

# %% [markdown]
# There is no blind spot in the first row, nor in the last columns. Elsewhere it grows from row to row, until the 45° line leaves the grid. It is largest at the left, where most of each row above lies to the right. Larger kernels make the angle flatter. They do not make it go away.
#
# In JupyterLab you can move the place, the kernel and the number of layers, and put mask B in front. The first choice of each is drawn here.


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
    "A grid of 8 by 8 with the place in row 6, column 3. Blue is the "
    "past that three layers see; the rest of the past is hatched.",
    layers=[3, 1, 2, 4, 5, 6, 8],
    kernel_size=[3, 5, 7],
    first_mask=["A", "B"],
    row=[6, 0, 1, 2, 3, 4, 5, 7],
    column=[3, 0, 1, 2, 4, 5, 6, 7],
)

# %% [markdown]
# ## 02.5 What does the blind spot cost?
#
# On images, nobody knows. The true distribution of clothes has no formula, so we cannot say which part of a loss is the network's fault. So we make our own codes, from a source whose distribution we *do* know.
#
# Each code is a pair of two parts, u and w. Each part has four values, so K = 16. We number the pairs: code = 4 · u + w.
#
# - u repeats the u of the **left neighbour**. A masked stack sees that one.
# - w repeats the w of the place **one row up and two to the right**. That place lies in the blind spot.
#
# With probability 0.1 a part does not repeat, but is drawn anew from all four values. Where the neighbour would be outside the grid, the part is drawn anew as well. **What do such grids look like?**

# %%
source = (
    BlindSpotSource()
)  # 8 × 8 places, four values of u and of w, noise 0.1
example = source.sample(1, seed=0)[0]  # [8, 8]
u, w = example // 4, example % 4
figures.show(
    figures.code_grids({"u": u, "w": w}, 4),
    "Two grids of values from 0 to 3. In u most rows are runs of one "
    "value. In w equal values lie on slanted lines, one row down and "
    "two to the left.",
)

# %% [markdown]
# u runs along the rows. w runs along slanted lines, one row down and two columns to the left at each step.
#
# Now the **entropy** of the whole source: the nats per code that a perfect model needs, one that knows all there is to know. Nothing can do better on average. A grid has 64 codes of two parts, so 128 parts. For a part that repeats its neighbour we can write it down. The neighbour's value has probability 0.9 + 0.1/4, since a new draw may hit the same value. Each of the other three has 0.1/4. For a part without a neighbour it is log 4.

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
# What is the best that a *blind* model can do? It sees the left neighbour, so u costs it no more than before. But of the whole slanted line that w lies on, nothing is in view: the earlier places of the line are all in the blind spot, and the later ones in the future. To such a model, w is uniform, and costs log 4 everywhere. This is a **bound**: no single stack of 3 × 3 masked layers that keeps the rules can go below it on average, however deep or long trained.

# %%
bound = (repeated * (64 - fresh_u) + fresh * (64 + fresh_u)) / 64
print(f"bound for a single masked stack: {bound:.2f} nats per code")
print("as in the package:", abs(bound - source.masked_stack_bound()) < 1e-12)
print(f"price of the blind spot: {bound - entropy:.2f} nats per code")

# %% [markdown]
# Both are exact. Nothing was trained or measured for them.

# %% [markdown]
# ## 02.6 Does a real network hit the bound?
#
# We train two networks on the same codes. One is the single stack from above. The other is the package's `PixelCNN`: it has *two* stacks, which together see all of the past. You build it in the next notebook. Here we only ask what it can do.
#
# The loss is `F.cross_entropy`: the mean of −log P of the codes that came, in nats. Notebook 04 takes the loop apart. New codes are drawn for each step, so there is nothing to learn by heart. Every 20 steps we measure on 1,000 grids kept aside.

# %%
heldout = source.sample(1000, seed=1)  # [1000, 8, 8]


def nats_by_place(network, codes):  # [N, H, W] → [H, W]
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
            measured.append(nats_by_place(network, heldout).mean().item())
    return measured


# %% tags=["nbval-ignore-output"]
torch.manual_seed(0)
single = SingleStack(source.num_embeddings)
two_stacks = PixelCNN(
    source.num_embeddings, 32, 32, num_layers=5, dropout=0.0
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
# **How do the two curves lie to the bound and to the entropy?**

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
    "Two falling curves. The single masked stack comes to rest on the "
    "upper line, its bound. The two stacks fall past it, through the "
    "shaded band named the price of the blind spot, and come to rest on "
    "the lower line, the entropy.",
)

# %% [markdown]
# The single stack lands on its bound and stays there. It learned all about u, and nothing about w. The two stacks go through the band and land on the entropy, within 2 %. The band between is the price of the blind spot.
#
# **And where is it paid?** For every place, we subtract the entropy there from what each network needs. At the left is what the blind spot should cost, computed.

# %%
exact = source.entropy_by_place()  # [8, 8]
price = source.bound_by_place() - exact
figures.show(
    figures.heatmaps(
        {
            "computed price": price,
            "single masked stack": nats_by_place(single, heldout) - exact,
            "two stacks": nats_by_place(two_stacks, heldout) - exact,
        },
        unit="nats above the entropy",
        limits=(0, 1.2),
    ),
    "Three maps of the grid. The computed price is 0 in the first row "
    "and in the last two columns, and about one nat everywhere else. "
    "The single stack's measured map has the same shape. The map of the "
    "two stacks is close to 0 everywhere.",
)

# %% [markdown]
# The single stack pays exactly where w has a neighbour to repeat: not in the first row, and not in the last two columns. The two stacks pay next to nothing anywhere. (The few brighter cells are in both maps: they are chance in these 1,000 grids. Values below 0 are drawn as 0.)

# %% [markdown]
# ## 02.7 Where it breaks: mask B in the first layer
#
# One letter. We build the single stack once more, with mask B in front, and train it in the same way, for 300 steps.

# %% tags=["nbval-ignore-output"]
torch.manual_seed(0)
leaky = SingleStack(source.num_embeddings, first="B")
leaky_curve = train(leaky, steps=300)
print(f"held out: {leaky_curve[-1]:.2f} nats per code")
assert leaky_curve[-1] < 0.05 < entropy

# %% [markdown]
# Nearly zero nats, held out. But we know the entropy, and nothing can be below it on average. So these numbers are not the −log P of any distribution over grids.
#
# What happened? With mask B in front, each place sees its own code, copies it to the output, and is never wrong. When we *draw*, though, the code at a place does not exist yet. The network has learned to read an answer that nobody has written.
#
# **What does each network draw?** We fill the grid by hand, code by code, and run the network anew for each. Places not drawn yet hold random codes. A network that keeps the rules never looks at them. Then we look at the part w, where the slanted lines should be.


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


drawn = {
    "from the source": source.sample(200, seed=2),
    "two stacks": draw(two_stacks, 200, seed=3),
    "single stack": draw(single, 200, seed=3),
    "mask B in front": draw(leaky, 200, seed=3),
}
figures.show(
    figures.code_grids(
        {f"w, {name}": codes[0] % 4 for name, codes in drawn.items()}, 4
    ),
    "Four grids of the part w. From the source and from the two stacks, "
    "equal values lie on slanted lines. From the single stack and from "
    "the stack with mask B in front there are no lines.",
)

# %% [markdown]
# In the first two grids, nearly every w equals the one up and two to the right. In the other two about one in four does, by chance. **How often does w repeat its neighbour, place by place?** We count over 200 grids of each.

# %%
repeats = {
    name: (codes[:, 1:, :-2] % 4 == codes[:, :-1, 2:] % 4)
    .double()
    .mean(dim=0)
    for name, codes in drawn.items()
}  # [7, 6] each: the places that have a neighbour
figures.show(
    figures.heatmaps(repeats, unit="share of w that repeats", limits=(0, 1)),
    "Four maps. From the source and from the two stacks the share is "
    "about 0.9 at all places. From the single stack and with mask B in "
    "front it is about a quarter.",
)

# %% [markdown]
# The source repeats w with probability 0.9 + 0.1/4 = 0.925, and so do the two stacks. The other two repeat it as often as chance does, in a quarter of the cases. For both parts in numbers:


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
# The single stack got u right, and w by chance. With mask B in front, neither is right. It copied the random code that stood at the very place to be drawn: noise, from a network with the best loss of all.
#
# Three checks would have caught it before any picture. The gradient: does a place see itself or its future? The sum: do the probabilities of all grids add up to one? And, where you are lucky enough to know it, the entropy.

# %%
torch.manual_seed(0)
tiny_leaky = SingleStack(3, first="B").double()
with torch.no_grad():
    total = log_probability(tiny_leaky, every_grid).exp().sum().item()
seen = seen_by(leaky.stack, (4, 4), (8, 8), 32)
print("position (4, 4) sees", leak(seen, (4, 4)), "which it must not")
print("all 81 grids add up to one:", abs(total - 1) < 1e-6)

# %% [markdown]
# ## 02.8 Exercises
#
# Change the `None` in a cell and run it. The answer is judged by trying it out.

# %% [markdown] tags=["about-solutions"]
# A solution follows each exercise in a collapsed cell: click the bar at its left to open it.

# %% [markdown]
# ### Exercise 1: write mask A
#
# Write mask A for a 7 × 7 kernel: a tensor of ones and zeros. First predict how many ones it has. Use no function from above, only indexing.

# %% tags=["exercise"]
my_mask_a = None  # your turn: a tensor [7, 7]

check.mask(my_mask_a, "A", 7)

# %% tags=["solution"] jupyter={"source_hidden": true, "outputs_hidden": true}
mask_a = torch.ones(7, 7)
mask_a[3, 3:] = 0  # the middle, and what is to its right
mask_a[4:] = 0  # the rows below
ones = mask_a.sum()  # 24: three rows of 7, and 3 more

check.mask(mask_a, "A", 7)

# %% [markdown]
# ### Exercise 2: write mask B, for any size
#
# A function this time. It gets the size of the kernel, an odd number, and gives the mask. If you like: do it in another way than `make_mask` does.


# %% tags=["exercise"]
def my_mask_b(size):
    return None  # your turn: a tensor [size, size]


check.mask_function(my_mask_b, "B")


# %% tags=["solution"] jupyter={"source_hidden": true, "outputs_hidden": true}
def mask_b(size):
    numbers = torch.arange(size * size)  # the middle has number size² // 2
    return (numbers <= size * size // 2).float().view(size, size)


check.mask_function(mask_b, "B")

# %% [markdown]
# ### Exercise 3: find the leak
#
# A colleague hands you this stack of seven layers: masked convolutions with an ELU after each but the last. Its samples are noise: the place in the frame below is red, a leak. Which layer is to blame? Count the layers of `suspect` from 0, the ELUs too. Ask the gradient, one layer at a time. `leak(seen, place)` names the first place that is seen and is not past. Remember that a layer with mask B may see its own place, and the first layer may not.

# %%
torch.manual_seed(0)
suspect = check.suspect_stack()  # seven layers, 32 channels in, 16 out
seen = seen_by(nn.Sequential(*suspect), (4, 4), (8, 8), 32)
figures.show(
    figures.receptive_fields({"the suspect stack": seen}, (4, 4)),
    "The receptive field of the suspect stack at row 4, column 4: all "
    "of the past but one place is seen, and the place itself as well, "
    "marked red as a leak.",
)

# %% tags=["exercise"]
my_layer = None  # your turn: the number of a layer in `suspect`

check.leaking_layer(my_layer, suspect, (8, 8))

# %% tags=["solution"] jupyter={"source_hidden": true, "outputs_hidden": true}
for number, layer in enumerate(suspect):
    if isinstance(layer, nn.Conv2d):
        seen = seen_by(layer, (4, 4), (8, 8), layer.in_channels)
        seen[4, 4] &= number == 0  # only the first must not see its own place
        if leak(seen, (4, 4)) is not None:
            leaking = number

check.leaking_layer(leaking, suspect, (8, 8))

# %% [markdown]
# ## What you can do now
#
# - Turn a convolution into a causal one, and prove by gradient that it is.
# - Say where a stack of masked convolutions is blind, and what that costs on codes of known entropy.
# - Distrust a cost below the entropy, and name three checks that catch a leak.
#
# **To take away.** Would another order of the codes, say column by column, have a blind spot too? In our source, w's neighbour is two columns to the right. Which kernel size would save the single stack, and what would we have to change in the source to fool that one as well? Why does the leak not show up on held-out data?
#
# **Sources.** Masks A and B: van den Oord, Kalchbrenner and Kavukcuoglu 2016, [arXiv 1601.06759](https://arxiv.org/abs/1601.06759), section 3.4. The blind spot and the two stacks: van den Oord et al. 2016, [arXiv 1606.05328](https://arxiv.org/abs/1606.05328), section 2.2 and figure 1. The source of known entropy is our own.
#
# ← [01 · Images to codes](01_images_to_codes.ipynb) · [the course](../README.md#the-course) · [words and symbols](GLOSSARY.md) · next: [03 · Gated blocks](03_gated_blocks.ipynb) →
