# %% [markdown]
# # 09 · Your own images, CIFAR and several GPUs
#
# **What you will make.** New emoji, from a folder of images, and a function that says from its curves what to change in a run.
#
# **What you will learn.** How your own images become a training, what its curves say, and what it keeps to go on.
#
# **What you need.** The loss of notebook [04](04_top_prior.ipynb), but no GPU and no network.
#
# **Time.** About 30 minutes for the core and 43 for all, with the exercises; 65<!--= timings 09_scale_up --> seconds to run on two CPU cores.
#
# ← [08 · Complete and edit in code space](08_complete_and_edit.ipynb) · [the course](../README.md#the-course) · [words and symbols](GLOSSARY.md) · next: [10 · Find what is odd](10_find_what_is_odd.ipynb) →

# %% tags=["version"]
from pixelprior.course import needs

needs("0.2")  # says so if the installed package is older

# %%
from pixelprior import HierarchicalPixelCNN, load_shipped
from pixelprior.assets import shipped_class_names
from pixelprior.course import explore, figures, reveal, your_turn
from pixelprior.course.checks import scaling as check
from pixelprior.course.running import Terminal, drawing, write_emoji

# %% [markdown]
# ## 09.1 CIFAR-10: an hour of training
#
# *Core · 3 minutes*
#
# CIFAR-10 has photographs of ten classes. Two cores trained the VQ-VAE-2 and the prior that ship. We draw with guidance 2, which makes images more typical of their class (notebook 07). **In which columns do you see what the name says?**

# %%
cifar, prior = load_shipped("cifar10")
drawn = prior.sample_with_vqvae2(
    cifar, 40, labels=prior.labels_in_turn(40), seed=0, guidance=2
)  # [40, 3, 32, 32]
names = shipped_class_names("cifar10")
blocks = figures.image_blocks({"drawn": drawn}, column_names=names)
figures.show(blocks, "cifar10_samples")

# %% [markdown]
# Airplanes, cars and trucks have their shapes, and so have most horses and ships. Most other animals are patches in their colours: each photograph has its own background and viewpoint, and the training was short.

# %% [markdown]
# ## 09.2 A folder of images
#
# *Core · 5 minutes*
#
# Now images of your own. Ours are the 1,443<!--= emoji/results data.training_images --> training emoji that ship. Keep three kinds, or choose three others of the nine.

# %%
kinds = shipped_class_names("emoji")
print(*kinds)
my_kinds = ["smileys", "symbols", "flags"]  # yours

# %% [markdown]
# ### Your turn A: the path of an image
#
# *4 minutes*
#
# The commands read `photos/train/cat/7.png` as a training image of the class cat, and `photos/test/cat/9.png` as a test image, which is measured once, at the end. **Write the line that returns the path of an image.** In each class, the 10th, the 20th and so on are test images, and all others are training images. The check writes images to your paths, and reads the folder as the commands do.
#
# <details><summary>Hint 1</summary>
#
# `folder / "train" / kind` is a `Path` too, and `f"{number}.png"` a file name.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# If the first image has number 0, which number has the tenth? `number % 10` is the remainder.
#
# </details>


# %% tags=["exercise"]
def my_path(folder, kind, number):
    # a Path such as photos, a kind such as "cat", and a number from 0
    return None  # your turn: a Path


image_path = your_turn(check.image_path, my_path, otherwise=check.path_of)

# %% [markdown] tags=["about-solutions"]
# [To solution A](#Solution-A)

# %%
terminal = Terminal()  # works in a temporary folder
write_emoji(my_kinds, terminal.folder / "photos", image_path)

# %% [markdown]
# ## 09.3 Train on it
#
# *Core · 4 minutes*
#
# The first of two commands learns the codes:
#
# `pixelprior train-vqvae2 --dataset imagefolder --data_root photos --output_dir vqvae2`
#
# For all emoji it took 2.1<!--= emoji/recipe minutes.vqvae2 --> minutes, so we take its result, which ships. The second trains the prior on the codes. A tenth of the training images is **held out** (`--validation_share`): no step uses them, and they choose, for each level, the epoch (pass over the images) that is kept as `best`. `Terminal` runs a command ([all flags](../docs/scale.md#the-flags)), and prints the end of what it says.

# %%
vqvae2, shipped = load_shipped("emoji")
vqvae2.save_pretrained(terminal.folder / "vqvae2")
PRIOR = """train-prior --dataset imagefolder --data_root photos
--vqvae2_checkpoint vqvae2 --class_conditional --label_dropout 0.1
--validation_share 0.1 --hidden_channels 32 --num_layers 5
--batch_size 16 --lr 1e-2"""
terminal.run(f"{PRIOR} --epochs 8 --output_dir prior")

# %% [markdown]
# **What does this prior draw after seconds, and what does a longer training add?** The second block is from the prior that ships, trained for 18 minutes on all nine kinds (`pixelprior reproduce emoji`).

# %%
best = terminal.folder / "prior" / "best"
ours = HierarchicalPixelCNN.from_pretrained(best)
priors = {  # and the names of their classes
    "after seconds": (ours, sorted(my_kinds)),  # folders come sorted
    "after minutes": (shipped, kinds),
}
two_priors = drawing(vqvae2, priors, my_kinds)  # takes guidance and seed


# %% tags=["cover"]
explore(two_priors, "two_priors", guidance=[2, 0, 1, 4], seed=[0, 1, 2, 3])

# %% [markdown]
# With our kinds, flags have their outline and colours after seconds, and smileys are yellow discs with spots. After minutes these have eyes and a mouth.

# %% [markdown]
# ## 09.4 Two curves say what to change
#
# *Core · 11 minutes*
#
# Here are four runs of the top prior on all emoji. The **unigram entropy** is the cost of a code if only the shares of the codes are known. One run was stopped early, one has far too high a learning rate, one has a tiny network, and one has nothing against **overfitting**: it learns its training images so closely that the held-out ones fit worse and worse. (The training loss is a mean over its epoch, with dropout, so it lags behind at first.) **Which is which?**

# %%
runs = check.runs()  # {"run A": three lists, "run B": …}
panels = figures.curve_panels(runs, "epoch", "nats per top code")
figures.show(panels, "four_runs")

# %% [markdown]
# ### Your turn B: what to change
#
# *8 minutes*
#
# **Write a function that says from its curves what to change in a run.** It returns one of four texts:
#
# - `"lower rate"`
# - `"larger"`, more channels or blocks
# - `"longer"`, more epochs
# - `"regularize"`, dropout (random features are set to 0), or mirrored and shifted copies of the images
#
# `training` and `heldout` are lists of the losses by epoch, and `unigram` is the unigram entropy, a number. Differences below 0.05, over the last three epochs, are chance. The check tries your function on the four runs, and on others with known causes.
#
# <details><summary>Hint 1</summary>
#
# Four questions, one after the other: did it learn more than the shares of the codes? Did the held-out loss rise from its lowest point? Does it still fall at the end? What is left?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# For the first question, compare the end of `training` with `unigram - 0.05`. `min(heldout)` is the lowest point, `heldout[-1]` the end, and `heldout[-4]` is a little before.
#
# </details>


# %% tags=["exercise"]
def my_advice(training, heldout, unigram):
    return None  # your turn: one of the four texts


advice = your_turn(check.advice, my_advice, otherwise=check.advice_of)

# %% [markdown] tags=["about-solutions"]
# [To solution B](#Solution-B)

# %%
for name, run in runs.items():
    training, heldout, (unigram, *_) = run.values()
    said = advice(training, heldout, unigram)
    print(f"{name}: {heldout[-1]:.2f} nats held out, {said}")

# %% [markdown]
# A was stopped early, B has the high rate, C is tiny, and D overfits. With all settings right, the run ends at 1.89<!--= emoji/curves runs.right.held out.29 --> nats, below all four. A rate that is too low looks like a run that is too short. And since `best` was chosen by its held-out loss, report the loss on the test images, which chose nothing.

# %% [markdown]
# ## 09.5 Kill a run, and go on
#
# *Core · 2 minutes*
#
# A power cut may end a training of days. We train the top prior for four epochs, twice. One run is left alone. The other is killed after two epochs and resumed. **By how much will their weights differ in the end?**

# %%
my_guess = None  # your guess

# %%
TOP = f"{PRIOR} --level top --epochs 4"
terminal.run(f"{TOP} --output_dir whole")
terminal.start(TOP, "cut", epochs=2).kill()
terminal.run(f"{TOP} --output_dir cut --resume")
whole = terminal.folder / "whole/last/model.safetensors"
cut = terminal.folder / "cut/last/model.safetensors"
assert whole.read_bytes() == cut.read_bytes()
reveal(check.RESUMED, my_guess)

# %% [markdown]
# After each epoch, a run writes what it needs to the folder `last`: the weights and their moving average, AdamW's running means, the place in the schedule of the rate, and the lowest losses. The order of the images follows from seed and epoch. Without AdamW's means, the resumed run would end *near* the other one, so a test has to ask for the same bits (on a CPU: a GPU may round otherwise).

# %% [markdown]
# ## 09.6 Where it breaks: a loss that is not finite
#
# *Core · 2 minutes*
#
# In the command that trains the VQ-VAE-2, someone types `--lr 3` for `--lr 3e-3`. **Does the run stop, or go on to its end?**

# %%
my_guess = None  # your guess: "stops" or "goes on"

# %%
command = """train-vqvae2 --dataset imagefolder --data_root photos
--hidden_channels 32 --lr 3 --output_dir too_fast"""
terminal.run(command, "error", status=1)
reveal(check.BROKEN, my_guess)

# %% [markdown]
# (`…` stands for numbers that depend on the processor.) On a CPU, a run looks at the gradient of each step, and stops before a number that is not finite reaches the weights. On a GPU it looks at every 50th step and before it writes a checkpoint, so what is on the disk is good. Clipping does not help, because AdamW's steps are about as long as the rate for any gradient.
#
# To find the cause, compare the settings with those of a run that went well; then try a third of the rate. Run B shows that not every bad rate ends in an error; to notice it, compare with the unigram entropy.

# %% [markdown]
# ## 09.7 The same as the package
#
# *Further · 1 minute*
#
# `best` is the lowest point of the held-out curve of our run.

# %%
from pixelprior.checkpoints import read_training_notes
from pixelprior.training import read_history

epochs = read_history(terminal.folder / "prior")
lowest = min(epoch["heldout_top_loss"] for epoch in epochs)
kept = read_training_notes(best)["heldout"]["top_loss"]
print("best has our lowest held-out loss:", kept == lowest)

# %% [markdown]
# ## 09.8 Several GPUs, larger images, more images
#
# *Further · 1 minute*
#
# [docs/scale.md](../docs/scale.md) has the commands and what they need.
#
# - **Several GPUs**: `torchrun --standalone --nproc_per_node 4 -m pixelprior.cli` replaces `pixelprior`. Each process takes batches of its own, and all take the mean of their gradients, which is **data parallel** training. A step sees four times the images. `pixelprior reproduce cifar10_large` is [explained flag by flag](../docs/scale.md#a-whole-run-flag-by-flag). We have run neither on a GPU.
# - **Larger images**: `--image_size 64 --bottom_downsampling 4` makes grids as large as here.
# - **More images than fit into memory** are read during the training, without a flag.

# %% [markdown]
# ## 09.9 Exercises
#
# *Further · 11 minutes*
#
# Replace the `None` in a cell with your answer and run the cell, which then tries the answer out.

# %%
import math

import torch

# %% [markdown] tags=["about-solutions"]
# Each task has a [solution](#Solutions) at the end of the notebook.

# %% [markdown]
# ### Exercise 1: steps on several GPUs
#
# *Difficulty 1 of 5 · importance 3 of 5 · 3 minutes*
#
# At each step, each process takes a batch of its own, of `batch_size` images. **How many steps does an epoch of `images` images have?** The images that are left at the end of an epoch make a step as well.
#
# <details><summary>Hint 1</summary>
#
# How many images does one step see, in all processes together?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `math.ceil` rounds up.
#
# </details>


# %% tags=["exercise"]
def my_steps(images, batch_size, processes):
    return None  # your turn


check.steps(my_steps)

# %% [markdown] tags=["about-solutions"]
# [To solution 1](#Solution-1)

# %% [markdown]
# ### Exercise 2: an order that need not be kept
#
# *Difficulty 3 of 5 · importance 4 of 5 · 7 minutes*
#
# A resumed run has to see the images of an epoch in the order of the run that was never stopped. **Write a function that returns this order**, a permutation of the numbers from 0 to count − 1, as a tensor [count]. It depends on the seed and on the number of the epoch, and on nothing that was drawn before. No two pairs of a seed and an epoch below 2,000 have the same order. (A generator reads only the lowest 32 bits of its seed.) The function leaves torch's own random state as it is.
#
# <details><summary>Hint 1</summary>
#
# `torch.Generator().manual_seed(number)` has a random state of its own, and `torch.randperm(count, generator=…)` draws from it.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# If the number is seed + epoch, seed 0 in epoch 1 has the order of seed 1 in epoch 0. How can one number hold both?
#
# </details>


# %% tags=["exercise"]
def my_order(seed, epoch, count):
    return None  # your turn


check.order(my_order)

# %% [markdown] tags=["about-solutions"]
# [To solution 2](#Solution-2)

# %% [markdown]
# ## What you can do now
#
# - Write your own images to a folder, train a prior on it, and draw from it.
# - Say from the two curves of a run what to change.
# - Kill a run, resume it, and prove that nothing was lost.
# - Say why a training stopped, and what to try first.
#
# **In papers**, held-out images are the **validation set**, changed copies of images are **data augmentation**, a kind of **regularization**, and to keep the epoch of the lowest held-out loss is **early stopping**.
#
# **To take away.** With twice the GPUs and the same `--batch_size`, which of the numbers of a step change, and would you change the rate? A colleague's resumed run ends at nearly the same loss: what would you look for? ([Answers](ANSWERS.md#09--your-own-images-cifar-and-several-gpus))
#
# **Sources.** The prior of two levels: Razavi, van den Oord and Vinyals 2019, [arXiv 1906.00446](https://arxiv.org/abs/1906.00446), section 3.2. Several processes: Goyal et al. 2017, [arXiv 1706.02677](https://arxiv.org/abs/1706.02677), section 2. CIFAR-10: Krizhevsky 2009, [technical report](https://www.cs.toronto.edu/~kriz/learning-features-2009-TR.pdf), chapter 3.
#
# ← [08 · Complete and edit in code space](08_complete_and_edit.ipynb) · [the course](../README.md#the-course) · [words and symbols](GLOSSARY.md) · next: [10 · Find what is odd](10_find_what_is_odd.ipynb) →

# %% [markdown] tags=["solution"]
# ## Solutions
#
# A solution is one answer of several: the checks judge what an answer does, not how it is written.

# %% [markdown] tags=["solution"]
# ### Solution A
#
# [Back to your turn A](#Your-turn-A:-the-path-of-an-image)


# %% tags=["solution"]
def the_path(folder, kind, number):
    split = "test" if number % 10 == 9 else "train"
    return folder / split / kind / f"{number}.png"


check.image_path(the_path)

# %% [markdown] tags=["solution"]
# ### Solution B
#
# [Back to your turn B](#Your-turn-B:-what-to-change)


# %% tags=["solution"]
# The order matters: a run that learned nothing may rise and fall as well.
def the_advice(training, heldout, unigram):
    if training[-1] > unigram - 0.05:
        return "lower rate"
    if heldout[-1] > min(heldout) + 0.05:
        return "regularize"
    if heldout[-4] - heldout[-1] > 0.05:
        return "longer"
    return "larger"


check.advice(the_advice)

# %% [markdown] tags=["solution"]
# ### Solution 1
#
# [Back to exercise 1](#Exercise-1:-steps-on-several-GPUs)


# %% tags=["solution"]
def steps_of_an_epoch(images, batch_size, processes):
    return math.ceil(images / (batch_size * processes))


check.steps(steps_of_an_epoch)

# %% [markdown] tags=["solution"]
# ### Solution 2
#
# [Back to exercise 2](#Exercise-2:-an-order-that-need-not-be-kept)


# %% tags=["solution"]
# No run has a million epochs, so no two pairs give the same number.
def order_of_epoch(seed, epoch, count):
    own = torch.Generator().manual_seed(1_000_003 * seed + epoch)
    return torch.randperm(count, generator=own)  # [count]


check.order(order_of_epoch)
