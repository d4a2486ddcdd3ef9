# %% [markdown]
# # 09 · Scale up: CIFAR, GPUs, your own images
#
# **What you will do.** Read one line that trains on CIFAR-10, flag by flag, and count what a training run needs before you start it. Train on a folder of your own images and on two processes, and kill a run in the middle. Break a run, find the cause, and save a prior so that others can load it.
#
# **What you will learn.** Which batch, rate and number of epochs fit which run; how memory and time grow with the network; how a run is watched, stopped and resumed; and what to do when the loss is not finite.
#
# **What you need.** The course so far helps, but each command is explained. You need no GPU and no internet connection: here everything runs on a processor, with networks so small that it takes seconds.
#
# **Time.** About 25 minutes for the core and 80 for all, with the exercises; 80<!--= timings 09_scale_up --> seconds to run on two CPU cores.
#
# ← [08 · Complete and edit in code space](08_complete_and_edit.ipynb) · [the course](../README.md#the-course) · [words and symbols](GLOSSARY.md)

# %%
import itertools
import json
import re

import torch

from pixelprior import VQVAE2, HierarchicalPixelCNN
from pixelprior.assets import FOLDER as ASSETS
from pixelprior.cli.recipes import RECIPES
from pixelprior.course import figures
from pixelprior.course.checks import scaling as check
from pixelprior.course.widgets import explore

# %% [markdown]
# ## 09.1 One line to start with
#
# *Further · 8 minutes*
#
# A VQ-VAE-2 turns an image into two grids of whole numbers, its **codes**, and turns them back into an image. For CIFAR-10, the top grid has 8 × 8 codes and the bottom grid 16 × 16. The **prior** learns which codes follow which. To draw a new image, the prior draws codes, and the VQ-VAE-2 turns them into pixels. **Held out** are the 10,000 test images: no step of training sees them.
#
# **Before you start.** Run these commands on the machine with the GPU, in a checkout of this repository:
#
# ```sh
# python3 -m venv .venv && . .venv/bin/activate && \
# pip install -e . && pixelprior doctor
# ```
#
# The line `GPU:` of the output must name your card. If torch cannot use the card, the driver is older than the torch that pip chose, so take another build from pytorch.org/get-started. Without a card the line below runs too, on the processor, but it takes days; a run says at its start where it takes place (`training on cuda in bf16, 1 process`). Start it inside `tmux`, because otherwise it ends with your connection.
#
# **The line.** Here is a whole CIFAR-10 run, which trains the VQ-VAE-2 and then the prior on its codes. Copy all of it and paste it; each `\` says that the line continues.
#
# ```sh
# pixelprior train-vqvae2 --dataset cifar10 --data_root data \
#   --num_embeddings 512 --embedding_dim 64 --hidden_channels 128 \
#   --epochs 100 --batch_size 128 --lr 3e-4 --validation_share 0.05 \
#   --output_dir runs/cifar10/vqvae2 && \
# pixelprior train-prior --dataset cifar10 --data_root data \
#   --vqvae2_checkpoint runs/cifar10/vqvae2 --class_conditional \
#   --hidden_channels 128 --num_layers 15 --attention_layers 3 \
#   --dropout 0.1 --epochs 150 --batch_size 128 --lr 3e-4 --warmup 0.05 \
#   --mixed_precision auto --seed 0 --sample_every 5 \
#   --output_dir runs/cifar10/prior
# ```
#
# The images are downloaded from the University of Toronto into `data/cifar-10-batches-py`. If your machine has no network connection, run the line on any machine that has one, stop it, and copy `data`. All paths are relative to the folder in which you start the line, and missing folders are created. You need 2 GB of free space.
#
# The `&&` starts the second command only if the first has ended well. A flag that is given in only one of the two commands is either unknown to the other, or has the same value there by default. (`pixelprior train-prior --help` lists all flags.)
#
# | flag | what it is | when to change it |
# |---|---|---|
# | `--dataset` | the images: `cifar10` is downloaded once, 170 MB; `imagefolder` is a folder of your own | you have other images |
# | `--data_root` | the folder that the images are in, or are downloaded into | the images are in another folder |
# | `--vqvae2_checkpoint` | the VQ-VAE-2 whose codes the prior learns | you have several of them |
# | `--num_embeddings` | K, the number of codes in each codebook | 64 to 256 for small data sets, because fewer codes can be learned from fewer images |
# | `--embedding_dim` | the length of a code's vector e | seldom |
# | `--hidden_channels` | p, the width of the network; memory grows with it, the number of weights with its square | the network does not fit, or learns too little |
# | `--num_layers` | gated blocks per level; each sees one position further (notebook 03) | the grids are larger |
# | `--attention_layers` | layers of attention over the past, in the top level only; 0 is none | you have no time for it |
# | `--class_conditional` | conditions the prior on each image's class | leave it out if there are no classes |
# | `--dropout` | share of features that are dropped while training, against learning by heart | 0 for short runs; more if the held-out loss rises again |
# | `--validation_share` | the share of the training images that are held out to choose `best`; 0.05, and 5,000 at most | more if there are few images; 0 trains on all, and `best` is the last |
# | `--epochs` | passes over the training images; 100 to 200 on CIFAR | the held-out curve is still falling at the end |
# | `--batch_size` | images per step, on each GPU; 128 to 256 | memory runs out: halve it |
# | `--lr` | the highest learning rate, from which the rate falls to zero along a cosine | shorter runs tolerate higher rates (section 09.2) |
# | `--warmup` | the share of the steps in which the rate rises to this highest rate | the loss is not finite at the start |
# | `--mixed_precision` | the number format of the products: `auto` is bf16, 16 bits per number, where the hardware has it; `no` is float32 | to see whether bf16 causes a problem |
# | `--seed` | decides weights, order and dropout: the same seed gives the same run on one processor; on a GPU the last digits may differ | to see how much of a difference is chance |
# | `--sample_every` | draws 64 images each time this many epochs are done | to look more often |
# | `--output_dir` | the folder into which everything is written | for each new run, because a folder that holds a run is refused |
#
# The gradient is clipped at norm 1.0 (`--max_grad_norm`). The cosine has no flag and is always on.

# %% [markdown]
# **What it writes.** Each of the two folders contains `last` and `best`, each with `config.json`, `model.safetensors`, its checksum in `SHA256SUMS`, and `training.json`; `last` also has the state from which the run can go on. Beside them are `history.json` with all losses by epoch, pictures in `samples`, and for the prior the codes of all images, which are made once. `last` is the end of the latest epoch. `best` has the lowest loss on the held-out training images, and for the prior it is chosen for each level separately. The test images do not influence this choice, because they are measured once, at the end. Where a command asks for a checkpoint, a run's folder means its `best`.
#
# **How long it takes.** We do not know this for your GPU, because *we have never measured on a GPU*. For our two-core machine, section 09.4 extrapolates to nearly two days. On your machine, let the first epochs tell you, because each prints its seconds.
#
# **How to stop.** Press Ctrl-C. At most one epoch is lost, and the second command does not start.
#
# **How to go on.** Paste the command that was running once more, with `--resume` at its end. If it stopped before its first epoch was done, leave `--resume` out. If it was the first command, start the second after it; if it was the second, leave the first out.
#
# The flags must be the same as before, and another `--batch_size` or `--lr` is refused. Three things may change: the number of processes; `--epochs`, for a longer run; and `--save_steps`, which also writes `last` within an epoch. For the first two, the run says what follows from the change. With more epochs, the rate from there on is that of the longer schedule, which is higher than where the run stopped. To start anew, take another folder. A prior can begin with the weights of the old one (`--init_checkpoint`), but the VQ-VAE-2 cannot.
#
# **How to draw from it.** You can draw while the run still trains, too, since `best` is always whole:
#
# ```sh
# pixelprior sample --vqvae2_checkpoint runs/cifar10/vqvae2 \
#   --prior_checkpoint runs/cifar10/prior --save_grid
# ```
#
# The command writes the images into the folder `generated_samples`.
#
# **How good is it?** Notebook 07 explains what the following command measures:
#
# ```sh
# pixelprior evaluate --dataset cifar10 --data_root data \
#   --vqvae2_checkpoint runs/cifar10/vqvae2 \
#   --prior_checkpoint runs/cifar10/prior \
#   --output_dir runs/cifar10/results
# ```
#
# **Several GPUs.** Put a launcher in place of the word `pixelprior` in each of the two commands. For four GPUs, use either of these:
#
# ```sh
# accelerate launch --multi_gpu --num_processes 4 -m pixelprior.cli
# torchrun --standalone --nproc_per_node 4 -m pixelprior.cli
# ```
#
# The batch size is that of each process. To keep the run as it was, give each of the four `--batch_size 32`. If you keep 128 for each, the run takes a quarter of the steps, each over 512 images, and a higher rate may help. Goyal et al. raise the rate of SGD with the batch, but we have not tried this with AdamW.
#
# **All in one.** `pixelprior reproduce cifar10` does both trainings with these flags, a third one without the top codes for comparison, and measures all that notebook 07 measures. When it is started again, it goes on by itself. We have not run it in full. We have run its reduced form, `pixelprior reproduce cifar10_reduced`, with CIFAR-10 as image files (`--dataset imagefolder`): one epoch of small networks, which took 9 minutes on two cores. The top codes cost this prior 3.30<!--= cifar10_reduced likelihood.top.nats_per_code.value --> nats per code held out, where their frequencies would cost 4.69<!--= cifar10_reduced likelihood.top.unigram --> nats. This shows that colour images pass through the whole pipeline, but it does not show how good the result can become.
#
# Does the recipe have the same flags as our line? The next cell prints the flags of the recipe. A flag that only the line gives has its default value there, except for the folders (`tests/notebooks/test_scale_up.py` compares both). A flag that neither of them gives keeps its default.

# %%
for name in ("vqvae2", "prior"):
    print(f"flags of train-{name}:")
    for flag, value in getattr(RECIPES["cifar10"], name).items():
        print(f"  {flag}: {value}")

# %% [markdown]
# ## 09.2 Which numbers to choose
#
# *Further · 4 minutes*
#
# For a long run on a GPU, our line takes the numbers that are usual in the field: AdamW, 128 images per step, a rate of 3e-4 with warm-up and cosine, and clipping at 1.0. The shipped weights were trained with other numbers: 32 images per step and a rate of 3e-3, ten times as high. Which of the two is right?
#
# We tried this for short runs: the same small prior with one setting changed at a time, each trained for the same number of seconds on one core. The base takes 32 images per step at a rate of 2e-3. **What helps when time is short?** Bars below zero are better than the base. (The figure shows six of 16 changes, and [the page of results](../docs/results.md#what-was-tried-for-a-lower-loss) has all.)

# %%
tried = json.loads((ASSETS / "results" / "tried.json").read_text("utf-8"))
nats = {}  # by option, one number per seed
for run in tried["tried"]:
    nats.setdefault(run["option"], []).append(run["nats_per_image"])
base = sum(nats["base"]) / len(nats["base"])
shown = {
    "no cosine": nats["constant learning rate"],
    "16 images\nper step": nats["16 images per step"],
    "rate\n4e-3": nats["learning rate 4e-3"],
    "a seed of\nthe base": [min(nats["base"])],
    "dropout\n0.1": nats["dropout 0.1"],
    "rate\n1e-3": nats["learning rate 1e-3"],
    "64 images\nper step": nats["64 images per step"],
}

# %%
figures.show(
    figures.bars(
        {name: sum(each) / len(each) - base for name, each in shown.items()},
        y_label="nats per image, against the base",
        unit_format="{:+.0f}",
    ),
    "options_tried",
)
steps = {run["option"]: run["steps"] for run in tried["tried"]}
for name in ("16 images per step", "base", "64 images per step"):
    print(f"{name:17} {steps[name]} steps in the same time")

# %% [markdown]
# All changes that help give *more steps*, or longer ones. With 16 images per step there are more steps in the same time. A higher rate makes each step longer, and a rate that does not fall keeps the steps long to the end. (The bar in the middle shows chance alone: the three seeds of the base are 5 nats apart, so a smaller difference says nothing.)
#
# These runs have a few hundred steps, while our CIFAR-10 line has 55,800 for the prior: 372 per epoch, for 150 epochs. Such a long run does not lack steps, and this decides which numbers to choose:
#
# - **Few steps, on a processor**: take 16 to 32 images per step, a rate of 2e-3 to 4e-3, and no dropout. The recipe of the shipped weights has 7,500 steps. It keeps the cosine, which we did not compare with a constant rate at that length.
# - **Many steps, on a GPU**: take 128 to 256 images per step. A GPU processes many images in almost the time of few, and the mean of many gradients is less noisy. A deep network at a high rate may leave the region of good weights at any of the many steps, which is why our line takes 3e-4.
#
# To find the rate for your network, make the range test of notebook 04. Train with `--max_images 5000 --epochs 3` at 3e-4, 1e-3, 3e-3 and 1e-2, each in a folder of its own. Short runs favour high rates, so do not take the best one. Find the rate at which the training breaks down, and stay a factor of ten below it.
#
# We have not compared rates over 55,800 steps, so for runs of that length we rely on what others do.

# %% [markdown]
# ## 09.3 Memory: count it before you start
#
# *Further · 9 minutes*
#
# A run that does not fit into memory ends with "out of memory", at its first step if you are lucky. What is in memory during training?
#
# - For each parameter there are six numbers: the weight, its gradient, two running means of AdamW, the moving average that is evaluated, and the best so far. Together they take 24 bytes in float32.
# - For each image of the batch there is what the backward pass needs from the forward pass. The gradient of a product needs the product's inputs, so autograd keeps them.
#
# With several GPUs there is a seventh number for each parameter: the gradients on their way to the other GPUs. The whole data set is on the device as well if it takes at most a quarter of the free memory there; otherwise batches are moved one by one. For the VQ-VAE-2 the data take 0.17 GiB with CIFAR-10, and 11 GiB with a million images of 64 pixels; codes take far less. `plan` below counts neither the seventh number nor the data.
#
# The numbers per parameter can be counted without building anything, because on PyTorch's device `meta` a tensor has a shape and no numbers. **How many parameters does the prior of our line have?**

# %%
from pixelprior.course.planning import parameter_count

line = {
    "num_embeddings": 512, "embedding_dim": 64, "hidden_channels": 128,
    "num_layers": 15, "num_classes": 10, "attention_layers": 3,
}  # fmt: skip
with torch.device("meta"):
    nothing = HierarchicalPixelCNN(**line)
by_hand = sum(p.numel() for p in nothing.parameters())
print(f"{by_hand:,} parameters")
print("the package says the same:")
print(by_hand == parameter_count(HierarchicalPixelCNN, **line))

# %% [markdown]
# For what each image needs there is a hook: autograd calls a function of ours for each tensor that it keeps, and we add up the bytes. A block of memory that is kept twice counts once, and the parameters do not count, because we have counted them already.


# %%
from torch.autograd.graph import saved_tensors_hooks


def kept_bytes(model, batch):
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = {}  # tensors by the address of their memory

    def keep(tensor):
        address = tensor.untyped_storage().data_ptr()
        if address not in own:
            kept[address] = tensor
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        model.loss_function(*batch)
    return sum(t.untyped_storage().nbytes() for t in kept.values())


# %% [markdown]
# A batch of 128 may not fit into this machine. Must we build it to know its size? We count for 1, 2, 3 and 4 images of a smaller prior, and look at the differences.

# %%
from pixelprior.course.planning import example_batch

small = line | {"hidden_channels": 64, "num_layers": 10}
torch.manual_seed(0)
model = HierarchicalPixelCNN(**small).train()
counts = [kept_bytes(model, example_batch(model, n)) for n in (1, 2, 3, 4)]
an_image = counts[1] - counts[0]
print(f"each image adds {an_image / 2**20:.1f} MiB")
print(
    "always the same:",
    {b - a for a, b in itertools.pairwise(counts)} == {an_image},
)
foretold = counts[0] + 31 * an_image
print(
    "32 images as foretold:",
    kept_bytes(model, example_batch(model, 32)) == foretold,
)

# %% [markdown]
# Each image adds the same number of bytes, exactly. So memory over batch size is a straight line, and two small counts give any batch. `plan` in `pixelprior.course.planning` does this, for float32 and for bf16, and adds the six numbers for each parameter. It times nothing, and it measures nothing on a GPU.

# %%
from pixelprior.course.planning import KEPT, plan

planned = plan(HierarchicalPixelCNN, **small)
print("plan says the same:", planned.parts(32)[KEPT] == foretold)
for name, count in planned.parts(32).items():
    print(f"  {name:22} {count / 2**20:6.0f} MiB")

# %% [markdown]
# **Which of our configurations fits which card?** The dashed lines are cards of 8 and of 24 GiB.

# %%
CONFIGURATIONS = {
    "32 ch, 6 blocks": line | {"hidden_channels": 32, "num_layers": 6},
    "64 ch, 10 blocks": small,
    "128 ch, 15 blocks": line,
    "192 ch, 15 blocks": line | {"hidden_channels": 192},
}
plans = {
    (name, precision): plan(
        HierarchicalPixelCNN, mixed_precision=precision, **arguments
    )
    for name, arguments in CONFIGURATIONS.items()
    for precision in ("no", "bf16")
}

# %%
sizes = [16, 128, 256, 384, 512]
figures.show(
    figures.curves(
        {
            f"{name}, {'bf16' if precision == 'bf16' else 'float32'}": (
                sizes,
                [each.bytes_at(size) / 2**30 for size in sizes],
            )
            for (name, precision), each in plans.items()
            if "32 ch" not in name
            and (name[:3], precision) != ("192", "bf16")
        },
        x_label="images per step",
        y_label="GiB while training, counted",
        baselines={"GiB of a small card": 8, "GiB of a large card": 24},
        y_limits=(0, 26),
    ),
    "memory_by_batch",
)

# %% [markdown]
# At 128 images per step all of them fit the small card with a quarter to spare. For our line we count 3.5 GiB in float32 and 2.0 in bf16, and its VQ-VAE-2 needs half a GiB.
#
# Where a line would meet the left edge, at a batch of no images, only the six numbers for each parameter are left. The slope of the line is what an image adds. For a prior, bf16 halves the slope, since the numbers that are kept have 2 bytes and not 4. (For the VQ-VAE-2 it takes off a quarter.) But bf16 does not change the six numbers, which stay float32, and it adds a copy of the weights.
#
# The count leaves out tensors that exist for a moment in the backward pass, and what a GPU's own libraries take. On a processor we let PyTorch's allocator say what a real step takes at its peak. For the prior of our line this was up to a tenth above the count; for shallow networks, and for the VQ-VAE-2, it was up to half (`tests/course/test_planning.py` checks that bound, on small networks). A GPU's libraries, and gaps between the blocks of memory, come on top, and we have not measured them. **Leave a quarter of the card free; for shallow networks and for the VQ-VAE-2, half.**
#
# In JupyterLab, change the network below. What grows with the square of the channels, and what does K cost? (This network has no attention.)


# %%
import functools


@functools.lru_cache
def planned_for(channels, blocks, K, precision):
    return plan(
        HierarchicalPixelCNN,
        mixed_precision="bf16" if precision == "bf16" else "no",
        num_embeddings=K, embedding_dim=64, num_classes=10,
        hidden_channels=channels, num_layers=blocks,
    )  # fmt: skip


# %%
def memory(channels, blocks, K, batch, precision):
    found = planned_for(channels, blocks, K, precision)
    parts = {
        name.replace(" of ", "\nof ")
        .replace("and ", "and\n")
        .replace("the backward", "the\nbackward"): count / 2**30
        for name, count in found.parts(batch).items()
    }
    return figures.bars(
        parts,
        y_label="GiB",
        title=f"{found.parameters / 1e6:.1f} million parameters, "
        f"{found.bytes_at(batch) / 2**30:.1f} GiB in all",
    )


# %%
explore(
    memory,
    "parts_of_memory",
    channels=[128, 32, 64, 96, 160, 192],
    blocks=[15, 6, 9, 12, 18],
    K=[512, 64, 128, 256],
    batch=[128, 16, 32, 64, 256],
    precision=["float32", "bf16"],
)

# %% [markdown]
# K costs little: between 64 and 512 codes the difference is less than a tenth of a GiB. A network that is twice as wide has four times as many weights, and an image adds about twice as much. At 128 images per step the backward pass takes nearly all of the memory. So the first thing to try when a run does not fit is to halve the batch. You already have bf16 where your card supports it, and a narrower network is the last thing to try.

# %% [markdown]
# ## 09.4 Time: extrapolated from what we measured
#
# *Further · 5 minutes*
#
# Time cannot be counted; it has to be measured. What carries over from one network to another are **multiply-adds** (06.6): products of two numbers, each added to a sum. `plan` counts the multiply-adds of a training step for each image. A third of them belong to the forward pass, and two thirds to the backward pass.
#
# We have measured three trainings of priors on two cores, all in bf16 (the machine is named in their files):
#
# - the reduced CIFAR-10 recipe, 32 channels and 6 blocks: the seconds of its epoch, including the held-out images;
# - the shipped prior, 64 channels and 9 blocks: the minutes of its four epochs;
# - `pixelprior benchmark --training` with the sizes of our line, 128 channels and 15 blocks, on codes of Fashion-MNIST: 0.48<!--= training loops.fit.steps_per_second.0 --> steps per second, of 128 images each. (This is the training alone. In our line the images that are held out to choose `best` come on top. They are a nineteenth as many as those trained on, and they need the forward pass alone, but in float32.)
#
# **How many multiply-adds per second did each reach?**

# %%
RESULTS = ASSETS / "results"


def of(K, dim, channels, blocks, classes=10):
    return plan(
        HierarchicalPixelCNN, num_embeddings=K, embedding_dim=dim,
        hidden_channels=channels, num_layers=blocks, num_classes=classes,
    ).multiply_adds  # fmt: skip


# %%
log = (RESULTS / "cifar10_reduced.log").read_text("utf-8")
reduced = re.search(r"== prior,.*?(\d+) s\n", log, re.DOTALL)
minutes = json.loads((RESULTS / "recipe.json").read_text())["minutes"]
loops = json.loads((RESULTS / "training.json").read_text())["loops"]
measured = {  # multiply-adds per image, images per second
    "32 ch, 6 blocks": (of(128, 32, 32, 6), 50_000 / int(reduced[1])),
    "64 ch, 9 blocks": (of(64, 32, 64, 9), 240_000 / minutes["prior"] / 60),
    "128 ch, 15 blocks": (
        of(64, 64, 128, 15, None),
        128 * loops["fit"]["steps_per_second"][0],
    ),
}

# %%
products = [an_image / 1e9 for an_image, _ in measured.values()]
rates = [an_image * images / 1e9 for an_image, images in measured.values()]
figures.show(
    figures.bars(
        dict(zip(measured, rates, strict=True)),
        y_label="billion multiply-adds per second",
        unit_format="{:.0f}",
    ),
    "multiply_adds_per_second",
)

# %% [markdown]
# Wide networks do more multiply-adds per second: a large product keeps the cores busy, while a small one ends before they are fully at work. So we draw a line through the three points, and read from it the rate of a network in between. Beyond the ends we take the rate of the nearer end. The multiply-adds divided by the rate then give the hours. **What do 100 epochs of CIFAR-10 cost for each configuration?**


# %%
import numpy as np


def rate_of(each):
    """Billion multiply-adds per second on the two-core machine, about."""
    at = np.log(each.multiply_adds / 1e9)
    return np.exp(np.interp(at, np.log(products), np.log(rates)))


def hours(each, epochs, rate, images=50_000):
    return each.multiply_adds / 1e9 * images * epochs / rate / 3600


HEADS = ("million", "GiB at 128,", "GiB at 128,", "hours for")
BELOW = ("parameters", "float32", "bf16", "100 epochs")
for heads in (HEADS, BELOW):
    print(f"{'':18}" + "".join(f"{head:>13}" for head in heads))
for name in CONFIGURATIONS:
    full, half = plans[name, "no"], plans[name, "bf16"]
    gib = [each.bytes_at(128) / 2**30 for each in (full, half)]
    cost = hours(half, 100, rate_of(half))
    print(f"{name:18}{full.parameters / 1e6:13.1f}", end="")
    print(f"{gib[0]:13.1f}{gib[1]:13.1f}{cost:13.0f}")

# %% [markdown]
# The GiB are counted, for 128 images per step; the hours are extrapolated, for that two-core machine.
#
# How long does the line of section 09.1 take? It trains the VQ-VAE-2 for 100 epochs and the prior of the third row for 150. For the VQ-VAE-2 we take the rate of the VQ-VAE-2 in the reduced recipe.

# %%
colour = plan(VQVAE2)  # its arguments' defaults are those of the line
tiny = plan(VQVAE2, hidden_channels=64, embedding_dim=32, num_embeddings=128)
seconds = int(re.search(r"== VQ-VAE-2,.*?(\d+) s\n", log, re.DOTALL)[1])
rate = tiny.multiply_adds / 1e9 * 50_000 / seconds
prior_of_line = plans["128 ch, 15 blocks", "bf16"]
print(f"VQ-VAE-2: {hours(colour, 100, rate):.0f} hours on two cores")
prior_hours = hours(prior_of_line, 150, rate_of(prior_of_line))
print(f"prior:    {prior_hours:.0f} hours on two cores")

# %% [markdown]
# Together these are nearly two days. They are hours of *that* machine, whose processor multiplies bf16 in hardware. In float32 the same benchmark made 0.20<!--= training loops.plain.steps_per_second.0 --> steps per second, less than half as many. To measure your own machine:
#
# - **On a processor**: run `pixelprior benchmark --training --training_batch_size 128 --training_steps 16 --repeats 1`. It takes some minutes, writes into `pixelprior_benchmark`, and gives the steps per second of plain loops and of the package's.
# - **On a GPU**: start the run. The seconds of the second epoch, times the number of epochs, are your answer, because the GPU still warms up in the first one. In `history.json`, `steps_per_second` is the speed of the training alone.
#
# Then `hours` above gives the time for other networks. With the `seconds` of one of your epochs:
#
# ```python
# my_rate = prior_of_line.multiply_adds / 1e9 * 50_000 / seconds
# hours(other_plan, 150, my_rate)
# ```
#
# Pictures and checkpoints take time that is not counted here, so compare the result with the clock.

# %% [markdown]
# ## 09.5 Your own images
#
# *Core · 8 minutes*
#
# You can use any folder of images that has one folder per class:
#
# ```text
# shapes/disc/00.png
# shapes/disc/01.png
# shapes/ring/00.png
# ```
#
# If there are folders `train` and `test` (or `val`) above the classes, these are the splits. Otherwise every tenth image is a test image, which is kept for the end. Images of any size are scaled on their shorter side and cropped in the middle, and a grey image gets three equal channels.
#
# As an example we draw discs, squares and rings in four colours, 55 of each, in a temporary folder, which is removed when the kernel ends.

# %%
import tempfile
from pathlib import Path

from torchvision.transforms.v2.functional import to_pil_image

scratch = tempfile.TemporaryDirectory()
WORK = Path(scratch.name)
COLOURS = [(1, 0.1, 0.1), (0.1, 0.3, 1), (1, 0.9, 0.1), (0.1, 0.8, 0.3)]
torch.manual_seed(0)
y, x = torch.meshgrid(torch.arange(40), torch.arange(40), indexing="ij")
for number in range(165):
    kind = ("disc", "square", "ring")[number % 3]
    radius = 10 + 6 * torch.rand(())
    cy, cx = radius + 1 + (38 - 2 * radius) * torch.rand(2)
    dy, dx = (y - cy).abs(), (x - cx).abs()  # [40, 40] each
    r = torch.maximum(dy, dx) if kind == "square" else torch.hypot(dy, dx)
    inside = (r < radius) & ((r > radius / 2) | (kind != "ring"))
    colour = torch.tensor(COLOURS[torch.randint(4, ())])[:, None, None]
    image = torch.where(inside, colour, 0.05)  # [3, 40, 40]
    path = WORK / "shapes" / kind / f"{number // 3:02d}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    to_pil_image(image).save(path)

# %% [markdown]
# The commands below are really run: a small helper starts each command as you would in a terminal, in that folder, and prints what it says. Numbers that depend on the processor are shown as `…`.

# %%
import os
import sys

PYTHON = [sys.executable, "-m"]
PROGRAMS = {
    "pixelprior": [*PYTHON, "pixelprior.cli"],
    "accelerate": [*PYTHON, "accelerate.commands.accelerate_cli"],
}
SURROUNDINGS = (
    os.environ
    | {
        "ACCELERATE_USE_CPU": "true",  # also where there is a GPU
        "CUDA_VISIBLE_DEVICES": "",
        "TMPDIR": str(WORK),
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        "WANDB_CONSOLE": "off",
    }
    | {f"WANDB_{name}_DIR": str(WORK) for name in ("CACHE", "CONFIG", "DATA")}
)


# %%
def words(command):
    program, *rest = command.split()
    return PROGRAMS[program] + rest


def history_of(run_name):
    return json.loads((WORK / run_name / "history.json").read_text())


def echo(command):
    lines = [line.strip() for line in command.strip().splitlines()]
    print("$ " + " \\\n      ".join(lines))


# %%
import subprocess


def run(command, show="wrote|images", status=0):
    """Run a command, and print those of its lines that match `show`."""
    echo(command)
    done = subprocess.run(
        words(command), cwd=WORK, env=SURROUNDINGS,
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode != status:
        raise RuntimeError(done.stdout + done.stderr)
    for said in (done.stdout + done.stderr).splitlines():
        if re.search(show, said):
            varies = r"\d+\.\d+|\d+(?= m?s\b)"
            if "pixelprior: error" in said:
                varies = r"(?<=step )\d+|(?<=\(loss )[^)]+"
            said = re.sub(varies, "…", said)
            print(re.sub(r"(.{1,76})(?: |$)", r"\1\n", said).strip())


# %% [markdown]
# Now we run the pipeline, which is three commands with tiny networks. The flags are explained in the table of section 09.1. Their numbers are for 149 images: few images per step and a high rate. A tenth of the images is held out to choose the best epoch, so that 134 are trained on, and 30 epochs are 270 steps. New are `--image_size`, the side of the images in pixels, and in `sample` the flags `--num_samples` and `--temperature`, which below 1 prefers likely codes.

# %%
SHAPES = """--dataset imagefolder --data_root shapes
--validation_share 0.1 --batch_size 16 --mixed_precision no"""
IMAGES = f"""
pixelprior train-vqvae2 {SHAPES}
--image_size 16 --num_embeddings 32 --embedding_dim 16
--hidden_channels 32 --epochs 30 --sample_every 30"""
run(f"{IMAGES} --lr 3e-3\n--output_dir vqvae2")

# %% [markdown]
# With `--use_tensorboard` and `--use_wandb`, a run also logs to TensorBoard and to Weights & Biases (`pip install tensorboard wandb`). We add a flag only where its package is installed. `WANDB_MODE=offline` among the helper's settings keeps the logs of Weights & Biases on this machine.

# %%
import importlib.util

have = {
    name: importlib.util.find_spec(name) is not None
    for name in ("tensorboard", "wandb")
}
loggers = " ".join(f"--use_{name}" for name in have if have[name])
PRIOR = f"""
pixelprior train-prior {SHAPES}
--vqvae2_checkpoint vqvae2 --class_conditional
--hidden_channels 32 --num_layers 5
--epochs 16 --lr 1e-2 --sample_every 4"""
run(f"{PRIOR}\n--output_dir prior {loggers}")
for name in have:
    if not have[name]:
        print(f"{name} is not installed here, so it was left out")

# %%
run("""
pixelprior sample --vqvae2_checkpoint vqvae2 --prior_checkpoint prior
--num_samples 30 --batch_size 30 --temperature 0.7 --output_dir new
""")

# %% [markdown]
# **What did the networks make of our images?** The first row shows test images, which no training saw. The second row shows what the VQ-VAE-2 gives back from their codes. The others are new images, one row for each class.


# %%
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor

from pixelprior.data import load_images


def opened(paths):
    images = [pil_to_tensor(Image.open(path)) for path in sorted(paths)]
    return torch.stack(images).float() / 255  # [N, 3, 16, 16]


data = load_images(
    "imagefolder", "test", data_root=WORK / "shapes", image_size=16
)
print("classes:", ", ".join(data.class_names), " held out:", len(data))
images, _ = data[torch.tensor([0, 1, 2, 3, 5, 6, 7, 10, 11, 12])]
# images [10, 3, 16, 16]
vqvae2 = VQVAE2.from_pretrained(WORK / "vqvae2" / "best")
with torch.no_grad():
    rebuilt = vqvae2(images)  # [10, 3, 16, 16]
new = opened((WORK / "new").glob("sample_*.png"))  # [30, 3, 16, 16]

# %% tags=["cover"]
figures.show(
    figures.image_rows(
        {"yours,\ntest": images, "rebuilt": rebuilt}
        | {f"new:\n{data.class_names[c]}": new[c::3] for c in range(3)}
    ),
    "own_images",
)

# %% [markdown]
# Most of the new images are blots of one colour. Squares come out best, few rings have a hole, and green has paled; the second row shows that this colour is already lost in the codes. This is what 134 images and seconds of training give. (On your processor the training ends with other weights, so that other images are drawn.)
#
# For images of your own, of 64 pixels and more, add `--image_size 64 --bottom_downsampling 4` to `train-vqvae2`, or `--image_size 128 --bottom_downsampling 8`. Then a bottom code stands for 4 × 4 or 8 × 8 pixels, and the grids are as large as for CIFAR-10. The prior takes the size from the checkpoint. If an image file is broken, the command names it and leaves it out.

# %% [markdown]
# ## 09.6 Watch a run
#
# *Further · 3 minutes*
#
# Each epoch prints a line with the training losses, the held-out losses and the seconds. The same numbers always go to `history.json`. With `--use_tensorboard` they also go to an **event file**, which TensorBoard draws in a browser while the run goes on: `tensorboard --logdir prior`.
#
# When we read the event file back, does it have the same numbers as `history.json`?


# %%
NAMES = ("train_top_loss", "heldout_top_loss")
NAMES += ("train_bottom_loss", "heldout_bottom_loss")
watched = {name: [e[name] for e in history_of("prior")] for name in NAMES}

# %%
if have["tensorboard"]:
    from tensorboard.backend.event_processing import event_accumulator

    folder = str(WORK / "prior" / "pixelprior")
    events = event_accumulator.EventAccumulator(folder).Reload()
    logged = {
        name: [event.value for event in events.Scalars(name)]
        for name in NAMES
    }
    largest = max(
        abs(a - b)
        for name in NAMES
        for a, b in zip(logged[name], watched[name], strict=True)
    )
    print("event file and history.json differ by < 1e-5:", largest < 1e-5)
    watched = logged
if have["wandb"]:
    offline = list((WORK / "wandb").glob("offline-run-*"))
    print("runs that wandb keeps for later:", len(offline))

# %% [markdown]
# `wandb sync wandb/offline-run-…` would send the run, which wandb has kept on this machine, to the server. After `wandb login` and without `WANDB_MODE`, it would have been sent at once.
#
# **What do the curves say?** The pale band lies between the entropies of the two levels' frequencies: a prior above it has learned nothing about order (notebook 04).

# %%
from pixelprior.codes import load_codes

codes = load_codes(WORK / "prior" / "codes" / "test.safetensors")
frequencies = sorted(codes.unigram_entropy(e) for e in ("top", "bottom"))
figures.show(
    figures.curves(
        {
            "top: training": watched["train_top_loss"],
            "top: held out": watched["heldout_top_loss"],
            "bottom: training": watched["train_bottom_loss"],
            "bottom: held out": watched["heldout_bottom_loss"],
        },
        x_label="epoch",
        y_label="nats per code",
        bands={"between the two frequencies' entropies": tuple(frequencies)},
    ),
    "watched_run",
)

# %% [markdown]
# Both levels fall below the band within a few epochs, which is the first thing to look for. The second is the gap: the training losses continue to fall while the held-out losses stay level, because with so few images the prior begins to learn them by heart. (In the first epochs the held-out curve is the lower one, because it is measured at the epoch's end and without dropout, while the training loss is a mean over the epoch, with dropout.) `best` holds, for each level, the weights of its lowest held-out loss.

# %% [markdown]
# ## 09.7 Two processes
#
# *Further · 2 minutes*
#
# With several GPUs, each GPU runs a process of its own, on images of its own. After the backward pass the processes average their gradients, so that all take the same step. This is called **data parallel** training. Two processes on a processor do the same, and we start them as on GPUs. (`ACCELERATE_USE_CPU=true` among our helper's settings keeps them on the processor, and `--level top` trains the top level alone, to save time.)

# %%
run(
    f"""
accelerate launch --multi_gpu --num_processes 2
-m pixelprior.cli train-prior
{SHAPES}
--vqvae2_checkpoint vqvae2 --class_conditional
--hidden_channels 32 --num_layers 5
--level top --epochs 1 --lr 1e-2 --output_dir two""",
)

# %% [markdown]
# Only one of the processes prints anything. **Were there really two?** We do not rely on the command but look into the checkpoint, which keeps how many processes the run had and how many steps it took. With 134 images in batches of 16, one process takes 9 steps per epoch, and two take half of that, rounded up.


# %%
def state_of(run_name):
    path = WORK / run_name / "last" / "training_state.pt"
    return torch.load(path, weights_only=True)


for name, epochs in (("prior", 16), ("two", 1)):
    state = state_of(name)
    processes = state["identity"]["processes"]
    steps_per_epoch = state["step"] // epochs
    print(
        f"{name:5} processes {processes}, steps per epoch {steps_per_epoch}"
    )

# %% [markdown]
# Such a check is worth its lines: with `--cpu --num_processes 2`, which looks right, the version of accelerate that we have (1.15) starts one process and says nothing about it. (The package notices this launch and refuses it.)
#
# Two processes halve the steps, so the run is a different one: with 16 images for each process, a step has 32. To get the curve of one process, give each half the batch. (Even then the runs differ as two seeds do, because each process drops features of its own.) A run may go on with another number of processes than it began with; it reports this, and its steps change.

# %% [markdown]
# ## 09.8 Where it breaks: a killed run
#
# *Core · 5 minutes*
#
# Suppose that the power fails, or that the time limit of the queue is reached. We start the training of section 09.5 once more, in another folder, and kill it when its fourth epoch is written. `SIGKILL` cannot be caught, so the program gets no chance to tidy up.


# %%
import time


def epochs_done(run_name):
    path = WORK / run_name / "history.json"
    return len(json.loads(path.read_text())) if path.exists() else 0


def start_and_kill(command, run_name, epochs):
    echo(command)
    started = subprocess.Popen(
        words(command), cwd=WORK, env=SURROUNDINGS,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while started.poll() is None and epochs_done(run_name) < epochs:
        time.sleep(0.005)
    started.kill()
    print("killed:", started.wait() != 0)


start_and_kill(f"{PRIOR}\n--output_dir cut", "cut", 4)
before = history_of("cut")
print("some of 16 epochs were done:", 4 <= len(before) < 16)

# %% [markdown]
# What is left after the kill? Everything is written under another name first, and renamed when it is whole, so that `last` is the end of an epoch and never half of one. It contains all that the run needs to go on: the weights and their average, the means of AdamW, the position in the schedule, and the losses of the best so far. The best weights are in `best`, so copy the whole run folder, not `last` alone. The order of the images need not be kept, because it is drawn anew for each epoch from the seed and the epoch's number.

# %%
print(*sorted(path.name for path in (WORK / "cut" / "last").iterdir()))

# %% [markdown]
# The same command without `--resume` is refused, so that nothing is overwritten by mistake. With `--resume`, the run goes on.

# %%
run(f"{PRIOR}\n--output_dir cut", "error", status=2)
run(f"{PRIOR}\n--output_dir cut --resume")

# %% [markdown]
# **Does it end where the run that was never stopped ended?** The two curves would lie on each other, so we draw one of them a little higher.

# %%
whole, resumed = history_of("prior"), history_of("cut")
LOSS = "heldout_total_loss"
figures.show(
    figures.curves(
        {
            "never stopped": [epoch[LOSS] for epoch in whole],
            "until the kill, drawn 0.3 higher": [
                epoch[LOSS] + 0.3 for epoch in before[:4]
            ],
            "resumed, drawn 0.3 higher": (
                range(5, 17),
                [epoch[LOSS] + 0.3 for epoch in resumed[4:]],
            ),
        },
        x_label="epoch",
        y_label="held out, nats per code, top + bottom",
    ),
    "killed_and_resumed",
)


# %%
from pixelprior.checkpoints import fingerprint


def without_times(history):
    times = ("seconds", "steps_per_second")
    return [
        {name: value for name, value in epoch.items() if name not in times}
        for epoch in history
    ]


same = without_times(whole) == without_times(resumed)
print("all losses are the same, to the last bit:", same)
for kept in ("best", "last"):
    one, other = (
        fingerprint(HierarchicalPixelCNN.from_pretrained(WORK / name / kept))
        for name in ("prior", "cut")
    )
    print(f"the weights of {kept} are the same:", one == other)
    assert same and one == other

# %% [markdown]
# The distance is the same all along, and what was saved is exactly the same, not only nearly the same. If one of the parts had been missing, the curve would show it. Without AdamW's means there is a bump where the run goes on; without the schedule the rate starts over; and without the epoch's number the images come in an order that the network has already seen. A resumed run that ends *near* the other one has lost something.
#
# (On a GPU some sums are taken in an order that varies, so that two runs may differ in their last digits even when nobody stops them. We have not tried this.)

# %% [markdown]
# ## 09.9 Where it breaks: a loss that is not finite
#
# *Further · 5 minutes*
#
# Suppose that we type `--lr 3` by mistake where 3e-3 was meant. **What does the package say?**

# %%
run(f"{IMAGES} --lr 3\n--output_dir too_fast", "error", status=1)

# %% [markdown]
# The run stops at a gradient that is not finite. On a processor it checks every step, and stops before the number reaches the weights. On a GPU each check makes the processor wait, so the run checks only at every 50th step and at the end of each epoch, for all steps since the last check. By then the weights in memory may be spoiled, but those on disk are not, because nothing is written before the check. The step in the message may be up to 49 late. (One bad number is enough to spoil all weights, as notebook 04 showed.)
#
# The run ends with status 1, so that what follows a `&&` does not start. Clipping does not help against this mistake: it makes long gradients shorter, but AdamW's steps are as long as the rate either way.
#
# The message has three parts: where the run stopped, what is left, and what to try. Here nothing is left, since no epoch was finished. The second mistake is harder to see: a minus is missing, `--weight_decay 1e3` for 1e-3.

# %%
run(
    f"{IMAGES} --lr 3e-3\n--weight_decay 1e3 --output_dir decayed",
    "error",
    status=1,
)

# %% [markdown]
# **What did the losses look like until then?** The axis of the losses is logarithmic.

# %%
broken = [epoch["heldout_total_loss"] for epoch in history_of("decayed")]
healthy = [epoch["heldout_total_loss"] for epoch in history_of("vqvae2")]
figures.show(
    figures.curves(
        {"decay 1e-2, the default": healthy, "decay 1e3": broken},
        x_label="epoch",
        y_label="held-out loss of the VQ-VAE-2",
        log_y=True,
        y_limits=(1e-3, 1),
    ),
    "too_much_decay",
)
print("it learned nothing:", min(broken) > 2 * min(healthy))
assert min(broken) > 3 * min(healthy)

# %% [markdown]
# The curve gives little warning: it stays level where the other one falls, and then it ends. **How large are the weights in the last checkpoint of each run?**

# %% tags=["nbval-ignore-output"]
largest_weight = {
    name: max(
        p.abs().max().item()
        for p in VQVAE2.from_pretrained(WORK / name / "last").parameters()
    )
    for name in ("vqvae2", "decayed")
}
for name, largest in largest_weight.items():
    print(f"{name:8} largest weight {largest:.2f}")
assert largest_weight["vqvae2"] < 1
assert largest_weight["decayed"] < float("inf")

# %% [markdown]
# At each step, the decay subtracts rate × 1000 times the weight from each weight of a product. (Biases and embeddings do not decay.) While the rate rises, that is for the most part less than twice the weight, so that the weights shrink to almost nothing; the loss is level, since the output is the same for all images. At the full rate, 3e-3, the decay takes away three times the weight. Then 1 becomes −2, then 4, then −8, and within a dozen steps the loss is not a number. Whether the last epoch ended with weights that are nearly zero or already far too large is chance. So the message's "last good checkpoint" is certain to be finite, but not to be good.
#
# The message names the usual causes: the rate, the warm-up and the number format. A lower rate would have stopped the growth too, but the cause was another one. So compare the run's settings with those of a run that went well; they are saved beside each checkpoint.

# %%
well, ill = (
    json.loads((WORK / name / "last" / "training.json").read_text())
    for name in ("vqvae2", "decayed")
)
for name, value in well["settings"].items():
    if value != (other := ill["settings"][name]):
        print(f"{name}: {value:g} went well, {other:g} did not")

# %% [markdown]
# When this happens to you, look at the settings first. Then start again in another folder, with a third of the rate or a longer warm-up; `train-prior --init_checkpoint` begins with the weights of a good checkpoint. If it happens late in a run that went well, suspect bf16, and try `--mixed_precision no`. Not every bad rate ends in an error: the prior of notebook 04 at a rate of 1 stayed finite, and learned nothing but frequencies. So compare the loss with the cost of the frequencies as well.

# %% [markdown]
# ## 09.10 Publish, and load again
#
# *Further · 2 minutes*
#
# `best` is a folder in the format of the Hugging Face hub: `config.json` says how the network is built, and `model.safetensors` holds its numbers. `SHA256SUMS` holds a checksum of the weights, which is compared when they are loaded, since a flipped bit gives other weights and no other sign. None of the three files can hold code. A **pickle**, which is what `torch.save` writes, can: whoever loads one without care runs the code in it. (`training_state.pt` is a pickle. It is for you alone, and the package reads it in a way that refuses code.)

# %%
prior = HierarchicalPixelCNN.from_pretrained(WORK / "prior" / "best")
prior.save_pretrained(WORK / "to_publish")
print(*sorted(path.name for path in (WORK / "to_publish").iterdir()))
again = HierarchicalPixelCNN.from_pretrained(WORK / "to_publish")
print("same weights:", fingerprint(prior) == fingerprint(again))
draws = [
    one.sample_with_vqvae2(vqvae2, 3, labels=torch.arange(3), seed=0)
    for one in (prior, again)
]  # [3, 3, 16, 16] each
print("same samples:", torch.equal(*draws))

# %% [markdown]
# With `dtype=torch.float16` the file is half as large, like those that ship with the package. The weights come back as float32, but rounded, so that a few codes of a draw may then differ.
#
# `prior.push_to_hub("you/shapes-prior")` does the same, makes a repository of that name and uploads the folder. It needs an internet connection and an account (`hf auth login`), so we leave it out here.
#
# Others can then load the prior by its name: `HierarchicalPixelCNN.from_pretrained("you/shapes-prior")`. A prior is of no use without its VQ-VAE-2, so publish both, and say in a README what they were trained on. The package's [model card](../pixelprior/assets/results/MODEL_CARD.md) is an example.

# %% [markdown]
# ## 09.11 Codes of another tokenizer
#
# *Further · 3 minutes*
#
# A prior needs grids of whole numbers, and it does not matter where they come from. A model that turns images into such grids and back is called a **tokenizer**, and ours is the VQ-VAE-2. If you have another tokenizer, you can keep it: `FunctionTokenizer` takes its two functions, and `DiffusersTokenizer` takes a `VQModel` of the library diffusers.
#
# Here is a tokenizer without any training: each code is the mean brightness of a square of 4 × 4 pixels, in 16 shades of grey.


# %%
import torch.nn.functional as F


def encode(images):  # [B, 1, 32, 32] in [0, 1] to [B, 8, 8]
    return (15 * F.avg_pool2d(images, 4)[:, 0]).round().long()


def decode(codes):  # [B, 8, 8] to [B, 1, 32, 32]
    return F.interpolate(codes[:, None] / 15, scale_factor=4)


# %% [markdown]
# There is one grid for each image, so the prior is a `PixelCNN` and not a `HierarchicalPixelCNN`. `fit` is the training that the commands use, with the same checkpoints. **From the two functions to new codes:**

# %%
from pixelprior import (
    FunctionTokenizer,
    PixelCNN,
    TrainingSettings,
    extract_codes,
    fit,
)

tokenizer = FunctionTokenizer(
    encode, decode, grids=[(8, 8)], num_embeddings=16
)
shades = extract_codes(tokenizer, load_images("fashion_mnist_mini"))
torch.manual_seed(0)
prior = PixelCNN(16, 16, hidden_channels=32, num_layers=6, num_classes=10)
settings = TrainingSettings(epochs=4, batch_size=64, lr=3e-3)
fit(prior, shades, None, settings, WORK / "shades", log=lambda line: None)
drawn = prior.eval().sample(20, (8, 8), labels=torch.arange(20) % 10, seed=0)
print("codes:", *drawn.shape, drawn.dtype)

# %% [markdown]
# The tokenizer encodes the first image, decodes it again, and stops with an error if the two functions do not fit together. What do the codes look like as images? The first row is held out, and the other two are drawn, one image of each class.

# %%
heldout = extract_codes(tokenizer, load_images("fashion_mnist_mini", "test"))
_, first = torch.stack([heldout.labels == c for c in range(10)]).max(1)
figures.show(
    figures.image_rows(
        {
            "held out": tokenizer.decode_codes(heldout.z_top[first].long()),
            "drawn": tokenizer.decode_codes(drawn[:10]),
            "again": tokenizer.decode_codes(drawn[10:]),
        }
    ),
    "own_codes",
)

# %% [markdown]
# The squares come from the tokenizer, and no prior can draw more than its tokenizer can show. This is the reason why the VQ-VAE-2 comes first.
#
# If another program wrote the codes, you need no Python at all: `pixelprior train-prior --codes codes.npz --class_conditional` trains on them, `sample` draws more of them, and `evaluate --codes` measures their likelihood ([the layout of such files](../docs/data.md#codes-from-a-file)).

# %% [markdown]
# ## 09.12 Exercises
#
# *Core: exercise 1*
#
# Replace the `None` in a cell with your answer and run the cell, which then tries the answer out.

# %% [markdown] tags=["about-solutions"]
# Each exercise has a [solution](#Solutions) at the end of the notebook.

# %% [markdown]
# ### Exercise 1: plan a run for your GPU
#
# *Difficulty 2 of 5 · importance 5 of 5 · 5 minutes*
#
# Your card has 8 GiB, and you leave a quarter of it free. You want a prior of 160 channels and 12 blocks, with 512 codes, in float32. **How many images per step fit at most?** Let `plan` count: its `bytes_at(batch)` gives the bytes for a batch, which lie on a straight line. The check counts again, for your batch and for a batch of one image more.
#
# <details><summary>Hint 1</summary>
#
# `from pixelprior.course.planning import plan` and then `plan(HierarchicalPixelCNN, **wanted)` count, as in section 09.3. The bytes lie on a straight line over the batch: a part that is always there, and a part per image.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `bytes_at(1)` and `bytes_at(2)` give you both parts.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# You may fill three quarters of 8 GiB, and a GiB has 2³⁰ bytes.
#
# </details>

# %%
wanted = {
    "num_embeddings": 512, "embedding_dim": 64,
    "hidden_channels": 160, "num_layers": 12,
}  # fmt: skip

# %% tags=["exercise"]
my_batch = None  # your turn: a whole number

check.largest_batch(my_batch, wanted, gib=8, free=0.25)

# %% [markdown] tags=["about-solutions"]
# [To solution 1](#Solution-1)

# %% [markdown]
# What would bf16 give? To find out, give `mixed_precision="bf16"` to `plan` and to the check. To plan for your own card, give the check its GiB.

# %% [markdown]
# ### Exercise 2: publish and reload
#
# *Difficulty 2 of 5 · importance 5 of 5 · 5 minutes*
#
# A prior draws codes, and its VQ-VAE-2 makes images of them, so others need both. Write the function that saves both below a folder, each in a folder of its own, and returns both *as read from there*, the VQ-VAE-2 first. The check wants the same weights to the last bit, the same samples for the same seed, and no pickle. It also alters a number in each file after you saved it, to see whether you read the file.
#
# <details><summary>Hint 1</summary>
#
# `save_pretrained(folder)` writes a model, and `from_pretrained(folder)`, a method of its class, reads it.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Return what you have read, rather than what you were given.
#
# </details>


# %% tags=["exercise"]
def my_publish(vqvae2, prior, folder):
    return None  # your turn


check.published(my_publish)


# %% [markdown] tags=["about-solutions"]
# [To solution 2](#Solution-2)

# %% [markdown]
# ### Exercise 3: your own folder of images
#
# *Difficulty 3 of 5 · importance 3 of 5 · 12 minutes*
#
# Images seldom come in good order. Here is a heap: all images are in one folder, with the class in the file's name. One image is grey while the others are coloured, one file has the name of an image and is none, and there is a text file.

# %%
heap = WORK / "heap"
heap.mkdir()
for kind in ("disc", "ring"):
    for number in range(5):
        image = Image.open(WORK / "shapes" / kind / f"{number:02d}.png")
        if (kind, number) == ("ring", 1):
            image = image.convert("L")
        image.save(heap / f"{kind}-{number:02d}.png")
_ = (heap / "disc-02.png").write_text("no image")
_ = (heap / "notes.txt").write_text("taken in autumn")
print(*sorted(path.name for path in heap.iterdir()), sep="\n")

# %% [markdown]
# Write a function that sorts such a heap. It gets the heap and a target folder that does not exist yet. It **copies** every fourth whole image of a class, in the order of the names, to `target/test/CLASS/`, and the others to `target/train/CLASS/`. It leaves out every file that is no image (`Image.open(path).verify()` raises an error then, and such a file is not counted), and returns `target`. The check makes two heaps of its own, and loads what you made of them as `--dataset imagefolder` does.
#
# <details><summary>Hint 1</summary>
#
# Sort the paths, and count the whole images of each class as you go.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `Image.open(path).verify()` raises an `OSError` for a file that is no image. Skip it before you count.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# The class is what stands before the hyphen in the name: `path.stem.split("-")[0]`.
#
# </details>


# %% tags=["exercise"]
def my_sorting(source, target):
    return None  # your turn


check.sorted_folder(my_sorting)


# %% [markdown] tags=["about-solutions"]
# [To solution 3](#Solution-3)

# %% [markdown]
# If several photographs show the same thing, as frames of one film do, keep them in one split. Otherwise the held-out loss rewards what was learned by heart.

# %% [markdown]
# ## What you can do now
#
# - Start a CIFAR-10 run with one line, and say for each flag what it does and when to change it.
# - Count what a configuration needs before you start it, and extrapolate from one measured run how long it takes.
# - Train on your own images, on several processes, and through a kill; find out why a loss is not finite; and publish the result.
# - Train a prior on the codes of another tokenizer.
#
# **To take away.** With twice the GPUs and the same `--batch_size`, which of the numbers of a step change, and would you change the rate? A colleague's resumed run ends at nearly the same loss: what would you look for? What would you have to keep to resume in the *middle* of an epoch? ([Answers](ANSWERS.md))
#
# **Sources.** The prior of two levels: Razavi, van den Oord and Vinyals 2019, [arXiv 1906.00446](https://arxiv.org/abs/1906.00446), section 3.2. Weight decay apart from the gradient: Loshchilov and Hutter 2017, [arXiv 1711.05101](https://arxiv.org/abs/1711.05101), section 2. Large batches, several processes, warm-up: Goyal et al. 2017, [arXiv 1706.02677](https://arxiv.org/abs/1706.02677), sections 2 and 3. Half the bits while training: Micikevicius et al. 2017, [arXiv 1710.03740](https://arxiv.org/abs/1710.03740), section 3. CIFAR-10: Krizhevsky 2009, [Learning Multiple Layers of Features from Tiny Images](https://www.cs.toronto.edu/~kriz/learning-features-2009-TR.pdf), chapter 3.
#
# ← [08 · Complete and edit in code space](08_complete_and_edit.ipynb) · [the course](../README.md#the-course) · [words and symbols](GLOSSARY.md)

# %% [markdown] tags=["solution"]
# ## Solutions
#
# A solution is one answer of several: the checks judge what an answer does, not how it is written.

# %% [markdown] tags=["solution"]
# ### Solution 1
#
# [Back to exercise 1](#Exercise-1:-plan-a-run-for-your-GPU)

# %% tags=["solution"]
# What is left of 6 GiB beside all that does not grow, over what an image
# adds.
found = plan(HierarchicalPixelCNN, **wanted)
without_images = found.bytes_at(1) - found.kept_per_image
room = 0.75 * 8 * 2**30 - without_images
most = int(room // found.kept_per_image)

check.largest_batch(most, wanted, gib=8, free=0.25)

# %% [markdown] tags=["solution"]
# ### Solution 2
#
# [Back to exercise 2](#Exercise-2:-publish-and-reload)


# %% tags=["solution"]
# Four calls. from_pretrained gives models in evaluation mode.
def saved_and_read(vqvae2, prior, folder):
    vqvae2.save_pretrained(folder / "vqvae2")
    prior.save_pretrained(folder / "prior")
    return (
        VQVAE2.from_pretrained(folder / "vqvae2"),
        HierarchicalPixelCNN.from_pretrained(folder / "prior"),
    )


check.published(saved_and_read)

# %% [markdown] tags=["solution"]
# ### Solution 3
#
# [Back to exercise 3](#Exercise-3:-your-own-folder-of-images)


# %% tags=["solution"]
# Number the whole images of each class; every fourth goes to the test.
def sorted_by_class(source, target):
    seen = {}
    for path in sorted(source.glob("*.png")):
        try:
            Image.open(path).verify()
        except OSError:
            continue
        kind = path.stem.split("-")[0]
        seen[kind] = seen.get(kind, 0) + 1
        split = "train" if seen[kind] % 4 else "test"
        (target / split / kind).mkdir(parents=True, exist_ok=True)
        copy = target / split / kind / path.name
        copy.write_bytes(path.read_bytes())
    return target


check.sorted_folder(sorted_by_class)
