# %% [markdown]
# # 09 · Scale up: CIFAR, GPUs, your own images
#
# **What you will make.** Kill a training in the middle, resume it, and compare it to the last bit with one that nobody stopped. Train on your own images, on images that do not fit into memory, and on the codes of a tokenizer of your own. Break a run and find the cause, count the memory and the time that a run needs before you start it, and save a prior so that others can load it.
#
# **What you will learn.** What a run has to keep so that it can go on; by what the checkpoint `best` is chosen, and why it is judged by other images; which batch size and learning rate suit which run; how memory and time grow with the network; and what to do when the loss is not finite.
#
# **What you need.** The course so far helps, but each command is explained where it is used. You need no GPU and no internet connection: everything here runs on a processor, with networks so small that it takes seconds.
#
# **Time.** About 31 minutes for the core and 165 for all, with the exercises; 105<!--= timings 09_scale_up --> seconds to run on two CPU cores.
#
# ← [08 · Complete and edit in code space](08_complete_and_edit.ipynb) · [the course](../README.md#the-course) · [words and symbols](GLOSSARY.md) · next: [10 · Find what is odd](10_find_what_is_odd.ipynb) →

# %% tags=["version"]
from pixelprior.course import needs

needs("0.2")  # says so if the installed package is older

# %%
import tempfile
from pathlib import Path

import torch

from pixelprior import VQVAE2, HierarchicalPixelCNN
from pixelprior.course import figures
from pixelprior.course.checks import scaling as check
from pixelprior.course.shapes import draw_shapes
from pixelprior.course.widgets import explore

# %% [markdown]
# ## 09.1 A run is killed, and goes on
#
# *Core · 18 minutes*
#
# The trainings of this course take seconds, but a training on large images takes hours or days. Something may stop it: the power fails, or the time limit of a queue is reached. What is lost then? We try it with a small run. The same prior is trained twice: one training is left alone, and the other is killed in the middle and resumed. Then we compare what the two of them leave.
#
# Such a run has two parts. First, a **VQ-VAE-2** is trained on images; it turns an image into two grids of whole numbers, its **codes**, and turns them back into an image. Then the **prior** is trained on the codes, and learns which codes follow which.
#
# Our images are discs, squares and rings in four colours, 55 of each shape. `draw_shapes` writes them into a temporary folder, which is removed when the kernel ends, with one folder per class.

# %%
scratch = tempfile.TemporaryDirectory()
WORK = Path(scratch.name)
paths = draw_shapes(WORK / "shapes")
print(len(paths), "images:")
for path in paths[::55]:
    print(" ", path.relative_to(WORK).as_posix())

# %% [markdown]
# Each command below is really run. `Terminal` starts it in this folder, as you would in a terminal, and prints the command and some of the lines that it says. Numbers that depend on the processor are shown as `…`.
#
# The first command trains the VQ-VAE-2. These are its flags:
#
# - `--dataset imagefolder --data_root shapes` names our images, and `--image_size 16` scales them to 16 × 16 pixels.
# - Each codebook has 32 codes (`--num_embeddings`), whose vectors have 16 numbers (`--embedding_dim`). The network is 32 channels wide (`--hidden_channels`).
# - Every tenth image is set aside as a **test image** (section 09.2), which leaves 149. A tenth of these training images, 15, is **held out** (`--validation_share`): no step is taken on them, and they choose the best epoch.
# - The other 134 images make 9 steps of 16 images in each epoch (`--batch_size`), so that 30 epochs are 270 steps. So short a run needs a high learning rate (`--lr`). `--mixed_precision no` multiplies in float32, as every processor can.
# - A picture is drawn every `--sample_every` epochs. All files are written into the folder `--output_dir`.
#
# (A table of [all flags](../docs/scale.md#the-flags) says when to change which. To run these cells a second time, restart the kernel first, because a folder that holds a run is not overwritten.)

# %%
from pixelprior.course.running import Terminal

terminal = Terminal(WORK)
SHAPES = """--dataset imagefolder --data_root shapes
--validation_share 0.1 --batch_size 16 --mixed_precision no"""
IMAGES = f"""
pixelprior train-vqvae2 {SHAPES}
--image_size 16 --num_embeddings 32 --embedding_dim 16
--hidden_channels 32 --epochs 30 --sample_every 30"""
terminal.run(f"{IMAGES} --lr 3e-3\n--output_dir vqvae2")

# %% [markdown]
# The second command trains the prior on the codes that this VQ-VAE-2 gives to the images. It is conditioned on the class of each image (`--class_conditional`), and each level has 5 gated blocks (`--num_layers`). This is the run that is left alone.

# %%
PRIOR = f"""
pixelprior train-prior {SHAPES}
--vqvae2_checkpoint vqvae2 --class_conditional
--hidden_channels 32 --num_layers 5"""
EPOCHS = "--epochs 16 --lr 1e-2 --sample_every 4"
terminal.run(f"{PRIOR}\n{EPOCHS} --output_dir prior")

# %% [markdown]
# Now we start the same command in another folder, `cut`. After each epoch, a run writes the losses of all epochs so far to `history.json`, which `read_history` reads. As soon as there are four epochs, we kill the process. The signal is SIGKILL, which no program can catch, so that the run gets no chance to tidy up.

# %%
import time

from pixelprior.training import read_history

started = terminal.start(f"{PRIOR}\n{EPOCHS} --output_dir cut")
while started.poll() is None and len(read_history(WORK / "cut")) < 4:
    time.sleep(0.005)
started.kill()
print("killed:", started.wait() != 0)
before = read_history(WORK / "cut")
print("some of 16 epochs were done:", 4 <= len(before) < 16)

# %% [markdown]
# What is left after the kill? A run writes each file under another name first, and renames it when it is whole, so that no file is half written. Here the checkpoint `last` is the end of an epoch (`--save_steps` writes it within an epoch as well). It contains all that the run needs to go on: the weights and their moving average, the running means of AdamW, the position in the schedule of the learning rate, and the lowest losses so far. The order of the images need not be kept, because it is drawn anew for each epoch from the seed and the epoch's number.

# %%
print(*sorted(path.name for path in (WORK / "cut" / "last").iterdir()))

# %% [markdown]
# Beside `last` lies `best`, with the weights of the lowest loss on the held-out images, so copy the whole folder of a run, not `last` alone. (The next section says why this lowest loss is not a number to report.)
#
# The same command without `--resume` is refused, so that nothing is overwritten by mistake. With `--resume`, the run goes on.

# %%
terminal.run(f"{PRIOR}\n{EPOCHS} --output_dir cut", "error", status=2)
terminal.run(f"{PRIOR}\n{EPOCHS} --output_dir cut --resume")

# %% [markdown]
# **Does it end where the run that was never stopped ended?** The two curves would lie on each other, so we draw one of them a little higher.

# %%
whole, resumed = read_history(WORK / "prior"), read_history(WORK / "cut")
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


# %% [markdown]
# The distance is the same all along. But curves that look the same may differ in digits that no figure shows. Are all losses and all weights the same, to the last bit? (A **fingerprint** is a checksum of all weights of a model.)

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
# What was saved is exactly the same, not only nearly the same. If one of the parts had been missing, it would show. Without AdamW's means there is a bump where the run goes on; without the schedule the rate starts over; and without the epoch's number the images come in an order that the network has already seen. A resumed run that ends *near* the other one has lost something.
#
# (On a GPU some sums are taken in an order that varies, so that two runs may differ in their last digits even when nobody stops them. We have not tried this.)

# %% [markdown]
# ## 09.2 Your own images
#
# *Core · 8 minutes*
#
# To train on your own images, give their folder in place of `shapes`, as `--data_root`: one folder per class, as above, with any file names. In this notebook, give the full path, without spaces, because the commands run in a temporary folder. If there are folders `train` and `test` (or `val`) above the classes, these are the splits. Otherwise every tenth image is a test image. Images of any size are scaled on their shorter side and cropped in the middle, and a grey image gets three equal channels.
#
# So there are images for three purposes: most are trained on, some are held out to choose `best`, and the test images are measured once, at the end. Why are the held-out images not enough? The loss of `best` was *chosen* as the lowest of all epochs, so it looks better than it is (04.7). The test images have chosen nothing, and theirs is the number to report.
#
# New images are drawn by a third command. `--num_samples` says how many, and a `--temperature` below 1 prefers likely codes.

# %%
terminal.run("""
pixelprior sample --vqvae2_checkpoint vqvae2 --prior_checkpoint prior
--num_samples 30 --batch_size 30 --temperature 0.7 --output_dir new
""")

# %% [markdown]
# Where a command asks for a checkpoint, the folder of a run stands for its `best`. **What did the networks make of our images?** The first row shows test images, which no training saw. The second row shows what the VQ-VAE-2 gives back from their codes. The others are new images, one row for each class. (A command draws the classes in turn.)

# %%
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor

from pixelprior.data.images import load_images


def opened(paths):
    images = [pil_to_tensor(Image.open(path)) for path in sorted(paths)]
    return torch.stack(images).float() / 255  # [N, 3, 16, 16]


data = load_images(
    "imagefolder", "test", data_root=WORK / "shapes", image_size=16
)
print("classes:", ", ".join(data.class_names), " test images:", len(data))
some = torch.tensor([0, 1, 2, 3, 5, 6, 7, 10, 11, 12])  # of each class
images, _ = data[some]  # [10, 3, 16, 16]
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
# Most of the new images are blots of one colour. Squares come out best, few rings have a hole, red and yellow have turned orange and green has paled; the second row shows that these colours are already lost in the codes. This is what 134 images and seconds of training give. (On your processor the training ends with other weights, so that other images are drawn.)
#
# For images of 64 pixels and more, add `--image_size 64 --bottom_downsampling 4` to `train-vqvae2`, or `--image_size 128 --bottom_downsampling 8`. Then a bottom code stands for 4 × 4 or 8 × 8 pixels, and the grids have 8 × 8 and 16 × 16 codes, as in the notebooks before. The prior takes the size from the checkpoint. If an image file is broken, the command names it and leaves it out.

# %% [markdown]
# ## 09.3 Images that do not fit into memory
#
# *Further · 7 minutes*
#
# A folder of JPEG files may be small on the disk and large when it is decoded. How much memory would a million images take?

# %%
for side in (32, 64, 256):
    gib = 1_000_000 * 3 * side**2 / 2**30  # a byte for each colour of a pixel
    print(f"a million images of {side:3} × {side:3} pixels: {gib:5.1f} GiB")

# %% [markdown]
# You need not do anything about it. If the decoded images take more than half of the free memory, the commands make them a **stream**: other processes (`--workers`) decode each batch shortly before it is needed, and nothing is copied on the disk.
#
# Our folder is small, so we pretend: for a moment, we set the share of the memory that images may take from a half to nothing. Then we train on both, the images in memory and the stream. (The 149 images are the training images and those held out, which only the commands separate.) Does a stream train to the same losses?

# %%
from unittest import mock

from pixelprior.data import images as reading


def load_shapes():
    return load_images(
        "imagefolder", data_root=WORK / "shapes", image_size=16, workers=1
    )


in_memory = load_shapes()
with mock.patch.object(reading, "SHARE_OF_MEMORY", 0):
    streamed = load_shapes()
for images in (in_memory, streamed):
    print(type(images).__name__, "of", len(images), "images")

# %%
from pixelprior import TrainingSettings, fit
from pixelprior.devices import make_accelerator

settings = TrainingSettings(
    epochs=2, batch_size=16, lr=3e-3, ema_decay=0, mixed_precision="no"
)


def losses_on(images):
    torch.manual_seed(0)
    model = VQVAE2(3, 16, hidden_channels=16, num_embeddings=32)
    folder = WORK / type(images).__name__
    accelerator = make_accelerator(settings, folder, on_cpu=True)
    history = fit(
        model, images, None, settings, folder, accelerator,
        log=lambda line: None,
    )  # fmt: skip
    return [epoch["train_total_loss"] for epoch in history]


same = losses_on(in_memory) == losses_on(streamed)
print("the losses are the same, to the last bit:", same)

# %% [markdown]
# `fit` is the training that the commands use. A stream has exactly the same shuffled order as images in memory, because each image can be read by its index, in any order, and a training that was stopped goes on in the same way. The price is that each image is decoded once before the training, to find broken files, and then again in every epoch ([measured](../docs/performance.md#beyond-memory)). `--dataset shards` reads tar files in the same way, and `hub:NAME` a set of the Hugging Face hub ([their layouts](../docs/data.md#your-own-images)).
#
# The codes of an image are much smaller, 320 whole numbers of a byte or two for grids of 8 × 8 and 16 × 16. `train-prior` writes them to a file and reads each batch from there, so that they need not fit into memory either. [docs/scale.md](../docs/scale.md) says what lies where.

# %% [markdown]
# ## 09.4 Your own tokenizer
#
# *Further · 8 minutes*
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
# There is one grid for each image, so the prior is a `PixelCNN` and not a `HierarchicalPixelCNN`. **From the two functions to new codes:**

# %%
from pixelprior import FunctionTokenizer, PixelCNN, extract_codes

tokenizer = FunctionTokenizer(
    encode, decode, grids=[(8, 8)], num_embeddings=16
)
shades = extract_codes(tokenizer, load_images("fashion_mnist_mini"))
torch.manual_seed(0)
grey_prior = PixelCNN(
    16, 16, hidden_channels=32, num_layers=6, num_classes=10
)
settings = TrainingSettings(epochs=2, batch_size=32, lr=1e-2)
fit(
    grey_prior, shades, None, settings, WORK / "shades",
    log=lambda line: None,
)  # fmt: skip
classes = torch.arange(20) % 10  # [20]
drawn = grey_prior.eval().sample(20, (8, 8), labels=classes, seed=0)
print("codes:", *drawn.shape, drawn.dtype)  # [20, 8, 8]

# %% [markdown]
# The tokenizer encodes the first image, decodes it again, and stops with an error if the two functions do not fit together. What do the codes look like as images? The first row shows test images, and the other two are drawn, one image of each class.

# %%
heldout = extract_codes(tokenizer, load_images("fashion_mnist_mini", "test"))
_, first = torch.stack([heldout.labels == c for c in range(10)]).max(1)
figures.show(
    figures.image_rows(
        {
            "test images": tokenizer.decode_codes(
                heldout.z_top[first].long()
            ),
            "drawn": tokenizer.decode_codes(drawn[:10]),
            "drawn again": tokenizer.decode_codes(drawn[10:]),
        },
        column_names=heldout.class_names,
    ),
    "own_codes",
)

# %% [markdown]
# The squares come from the tokenizer, and no prior can draw more than its tokenizer can show. This is the reason why the VQ-VAE-2 comes first.

# %% [markdown]
# ## 09.5 Codes from a file
#
# *Further · 4 minutes*
#
# If another program made the codes, you need no tokenizer in Python at all. A file with the codes is enough, and the labels if there are any ([the layout of such files](../docs/data.md#codes-from-a-file)). We write the grids of the last section to two files, as another program would, and train a small prior on them for one epoch.

# %%
import numpy as np

for name, codes in (("train", shades), ("test", heldout)):
    np.savez(WORK / f"{name}.npz", codes=codes.z_top, labels=codes.labels)
terminal.run("""
pixelprior train-prior --codes train.npz --test_codes test.npz
--class_conditional --hidden_channels 16 --num_layers 3
--epochs 1 --batch_size 32 --lr 1e-2 --mixed_precision no
--output_dir from_file
""")

# %% [markdown]
# `sample` without a VQ-VAE-2 draws codes, and writes them to one file in the same layout, for your own decoder. Here the classes take turns, as they do in all samples of a command. Did the prior learn anything? Its held-out loss has to be well below the cost of the frequencies, and the drawn codes have to be of the right kind.

# %%
from pixelprior import read_codes

terminal.run("""
pixelprior sample --prior_checkpoint from_file --num_samples 200
--output_dir codes_from_file""")
new_codes = read_codes(WORK / "codes_from_file" / "codes.safetensors")
print("drawn:", *new_codes.z_top.shape, " K:", new_codes.num_embeddings)
loss = read_history(WORK / "from_file")[-1]["heldout_total_loss"]
unigram = heldout.unigram_entropy(0)
print("0.3 nats below the frequencies:", loss < unigram - 0.3)
assert loss < unigram - 0.3

# %% [markdown]
# The commands know two levels as well: a file with `z_top` and `z_bottom` trains a `HierarchicalPixelCNN`. The command `evaluate --codes` measures the likelihood of test codes.

# %% [markdown]
# ## 09.6 Watch a run
#
# *Further · 9 minutes*
#
# Each epoch prints a line with the training losses, the held-out losses and the seconds, and `history.json` keeps the same numbers. With `--use_tensorboard` they also go to an **event file**, which TensorBoard draws in a browser while the run goes on (`tensorboard --logdir watched`). With `--use_wandb` they go to Weights & Biases. Both are packages of their own: `pip install tensorboard wandb`.
#
# We start a short run with the flags of those that are installed here (`loggers()` gives these flags), and read the event file back. Does it have the same numbers as `history.json`?

# %%
from pixelprior.course.running import loggers

terminal.run(f"""{PRIOR}
--epochs 3 --lr 1e-2 --output_dir watched
{loggers()}""")

# %%
from pixelprior.course.running import read_events

if "tensorboard" in loggers():
    kept = read_history(WORK / "watched")
    logged = read_events(WORK / "watched")
    largest = max(
        abs(value - epoch[name])
        for name in logged
        if name.endswith("_loss")
        for value, epoch in zip(logged[name], kept, strict=True)
    )
    print("event file and history.json differ by < 1e-5:", largest < 1e-5)
if "wandb" in loggers():
    offline = list((WORK / "wandb").glob("offline-run-*"))
    print("runs that wandb keeps for later:", len(offline))

# %% [markdown]
# `Terminal` sets the variable `WANDB_MODE=offline`, so that Weights & Biases keeps the run on this machine, and `wandb sync wandb/offline-run-…` would send it to the server. After `wandb login` and without that variable, it would have been sent at once.
#
# **What do the curves of the run `prior` of section 09.1 say?** The dashed lines are the unigram entropies of the top and of the bottom codes of the test images. A prior above its line has learned nothing about the order of the codes (notebook 04).

# %%
from pixelprior import read_codes

codes = read_codes(WORK / "prior" / "codes" / "test")
curves, frequencies = {}, {}
for level in ("top", "bottom"):
    for kind, words in (("train", "training"), ("heldout", "held out")):
        losses = [epoch[f"{kind}_{level}_loss"] for epoch in whole]
        curves[f"{level}: {words}"] = losses
    entropy = codes.unigram_entropy(level)
    frequencies[f"{level}: frequencies alone"] = entropy
figures.show(
    figures.curves(
        curves,
        x_label="epoch",
        y_label="nats per code",
        baselines=frequencies,
    ),
    "watched_run",
)

# %% [markdown]
# Each level falls below its dashed line within a few epochs, which is the first thing to look for. The second is the gap: the training losses continue to fall while the held-out losses stay level or rise, because with so few images the prior begins to learn them by heart. (In the first epochs the held-out curve may be the lower one, because it is measured at the epoch's end and without dropout, while the training loss is a mean over the epoch, with dropout.)
#
# `best` holds, for each level, the weights of the lowest point of its held-out curve. Read this point with the warning of 04.7: a curve of few images goes up and down by chance, and the lowest of 16 points is low by chance as well. That loss is good for choosing, and not for reporting. The same holds for whole runs: if you train five priors and keep the one with the lowest *test* loss, the test images have chosen, and a fair number needs images that none of the five runs was compared on.

# %% [markdown]
# ## 09.7 Where it breaks: a loss that is not finite
#
# *Further · 11 minutes*
#
# Suppose that we type `--lr 3` by mistake where 3e-3 was meant. **What does the package say?**

# %%
terminal.run(f"{IMAGES} --lr 3\n--output_dir too_fast", "error", status=1)

# %% [markdown]
# The run stops at a gradient that is not finite. On a processor it checks every step, and stops before the number reaches the weights. On a GPU each check makes the processor wait, so the run checks only at every 50th step and at the end of each epoch, for all steps since the last check. By then the weights in memory may be spoiled, but those on disk are not, because nothing is written before the check. The step in the message may be up to 49 late. (One bad number is enough to spoil all weights, as notebook 04 showed.)
#
# The run ends with status 1, so that what follows a `&&` does not start. Clipping does not help against this mistake: it makes long gradients shorter, but AdamW's steps are as long as the rate either way.
#
# The message has three parts: where the run stopped, what is left, and what to try. Here nothing is left, since no epoch was finished. The second mistake is harder to see: a minus is missing, `--weight_decay 1e3` for 1e-3.

# %%
terminal.run(
    f"{IMAGES} --lr 3e-3\n--weight_decay 1e3 --output_dir decayed",
    "error",
    status=1,
)

# %% [markdown]
# **What did the losses look like until then?** The axis of the losses is logarithmic.

# %%
broken = [epoch[LOSS] for epoch in read_history(WORK / "decayed")]
healthy = [epoch[LOSS] for epoch in read_history(WORK / "vqvae2")]
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
print(
    "its lowest loss is over three times the other's:",
    min(broken) > 3 * min(healthy),
)
assert min(broken) > 3 * min(healthy)

# %% [markdown]
# The curve gives little warning: it lies above the other one and hardly falls, and then it leaves the picture at the top or ends. **How large are the weights in the last checkpoint of each run?**

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
from pixelprior.checkpoints import read_training_notes

well, ill = (
    read_training_notes(WORK / name / "last")["settings"]
    for name in ("vqvae2", "decayed")
)
for name, value in well.items():
    if value != ill[name]:
        print(f"{name}: {value:g} went well, {ill[name]:g} did not")

# %% [markdown]
# When this happens to you, look at the settings first. Then start again in another folder, with a third of the rate or a longer warm-up; `train-prior --init_checkpoint` begins with the weights of a good checkpoint. If it happens late in a run that went well, suspect bf16, and try `--mixed_precision no`. Not every bad rate ends in an error: the prior of 04.8 at a rate of 0.3 stayed finite, and learned nothing but frequencies. So compare the loss with the cost of the frequencies as well.

# %% [markdown]
# ## 09.8 Which numbers to choose
#
# *Further · 18 minutes*
#
# The package has two recipes whose numbers differ much. The shipped weights of Fashion-MNIST are those of `fashion_mnist`, which was made for a processor. `cifar10_large` is made for a GPU, and takes the numbers that are usual in the field: many images per step, a low rate with warm-up and cosine, and clipping at 1.0. The cell prints both from the package. Which of the two is right?

# %%
from pixelprior.cli.recipes import RECIPES


def steps_of(flags, images):
    share = flags.get("validation_share", 0.05)  # held out to choose `best`
    trained_on = images - min(5000, round(share * images))
    return -(-trained_on // flags["batch_size"]) * flags["epochs"]


for name, images in (("fashion_mnist", 60_000), ("cifar10_large", 50_000)):
    flags = RECIPES[name].prior
    print(f"{name:13} {flags['batch_size']:3} images per step,", end=" ")
    print(f"rate {flags['lr']:g}, {steps_of(flags, images):,} steps")

# %% [markdown]
# We tried this for short runs: the same small prior with one setting changed at a time, each trained for the same number of seconds on one core. The base takes 32 images per step at a rate of 2e-3. **What helps when time is short?** Bars below zero are better than the base. (The figure shows six of 19 changes, and [the page of results](../docs/results.md#what-was-tried-for-a-lower-loss) has all.)

# %%
from pixelprior.course.planning import tried_runs

tried = tried_runs()  # by option, one run per seed
nats = {
    option: [run["nats_per_image"] for run in runs]
    for option, runs in tried.items()
}
*two, third = nats["base"]  # the others have two seeds
base = sum(two) / 2
shown = {
    "no cosine": nats["constant learning rate"],
    "16 images\nper step": nats["16 images per step"],
    "rate\n4e-3": nats["learning rate 4e-3"],
    "dropout\n0.1": nats["dropout 0.1"],
    "third seed\nof the base": [third],
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
for name in ("16 images per step", "base", "64 images per step"):
    print(f"{name:17} {tried[name][0]['steps']} steps in the same time")

# %% [markdown]
# The three changes that help give *more steps*, or longer ones. With 16 images per step there are more steps in the same time. A higher rate makes each step longer, and a rate that does not fall keeps the steps long to the end. (The third seed of the base shows chance alone: it is 11 nats away from the mean of the other two, so a smaller difference says nothing. The 12 nats of the rate 4e-3 are hardly more; that the rate 1e-3 is 18 nats worse points the same way.)
#
# These runs have a few hundred steps, while the two recipes have many thousands. A long run does not lack steps, so it can take a lower rate. Is a low rate a safe choice, then, and is there a rate that is too high for any run? We train a small prior on 600 grids of section 09.4, at six rates from 0.003 to 1, for one epoch and for four.

# %%
few, few_heldout = (
    codes.subset(torch.arange(0, len(codes), n))
    for codes, n in ((shades, 10), (heldout, 4))
)  # 600 grids and 250


def loss_at(rate, epochs):
    torch.manual_seed(0)
    model = PixelCNN(16, 16, hidden_channels=16, num_layers=3, num_classes=10)
    settings = TrainingSettings(
        epochs=epochs, batch_size=32, lr=rate, mixed_precision="no"
    )
    folder = WORK / "rates" / f"{rate:g} for {epochs}"
    history = fit(
        model, few, few_heldout, settings, folder, log=lambda line: None
    )
    return history[-1]["heldout_total_loss"]


# %% [markdown]
# **Which rates are too low, which are too high, and what do more epochs change?** The flat line is the cost of the frequencies: a network on it has learned nothing else.

# %%
RATES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
once, longer = ([loss_at(rate, n) for rate in RATES] for n in (1, 4))
figures.show(
    figures.curves(
        {
            "1 epoch": (RATES, once),
            "4 epochs": (RATES, longer),
            "frequencies alone": (RATES[::5], [unigram, unigram]),
        },
        x_label="highest learning rate",
        y_label="held out, nats per code",
        log_x=True,
    ),
    "rates_tried",
)
for each in (once, longer):
    assert min(each[2:4]) < min(each[:2] + each[4:])
    assert each[-1] > unigram - 0.2
assert longer[0] < once[0] - 0.1

# %% [markdown]
# Both ends are bad, but not in the same way.
#
# - **Too low** is a matter of time. At the left, four epochs are much better than one: the network moves in the right direction and has not arrived.
# - **Too high** is not. At a rate of 1 both curves end near the flat line, and more epochs change little. The steps are so long that the network keeps nothing but the frequencies. (A little below such a rate, more epochs may still help.)
#
# So a rate of 1 breaks this training. At a tenth of it, 0.1, both curves are far below the flat line and near their lowest point, which lies at 0.03 or at 0.1.
#
# This is a **range test** (exercise 2 of 04). For a network of your own, make it with the command. Train with `--max_images 5000 --epochs 3` at rates that are a factor of three or ten apart, each in a folder of its own, up to the rate at which the training breaks down: there the nats per code that the command prints at its end are hardly below the unigram entropy beside them, while those of lower rates are well below it. (If the lowest rates end near the unigram entropy as well, three epochs were too few for them.) Stay a factor of ten below this rate, or more in a long run. A rate that is too low costs time, which a long run has, and one that is too high may spoil the network at any of its many steps. For networks like those of the recipes we take two sets of numbers. The first comes from the bars above, and the second is usual in the field. (Smaller networks allow higher rates: those of this notebook are trained at 1e-2.)
#
# - **Few steps, on a processor**: take 16 to 32 images per step and a rate of 2e-3 to 4e-3. Dropout makes no difference there. (The recipe `fashion_mnist` has such a rate too. It also has some dropout, because it sees each image seven times.)
# - **Many steps, on a GPU**: take 128 to 256 images per step and a rate of 3e-4. A GPU processes many images in almost the time of few, and the mean of many gradients is less noisy.
#
# We have not compared rates in runs of tens of thousands of steps, nor in deep networks, and we have not compared the cosine with a constant rate in long runs. For those we rely on what others do.

# %% [markdown]
# ## 09.9 Memory: count it before you start
#
# *Further · 24 minutes*
#
# A run that does not fit into memory ends with "out of memory", at its first step if you are lucky. What is in memory during training?
#
# - For each parameter there are six numbers: the weight, its gradient, two running means of AdamW, the moving average that is evaluated, and the best so far. Together they take 24 bytes in float32.
# - For each image of the batch there is what the backward pass needs from the forward pass. The gradient of a product needs the product's inputs, so autograd keeps them.
#
# With several GPUs there is a seventh number for each parameter: the gradients on their way to the other GPUs. The whole data set is on the device as well if it takes at most a quarter of the free memory there; otherwise batches are moved one by one. For the VQ-VAE-2 the data take 0.14 GiB with CIFAR-10, and 11 GiB with a million images of 64 pixels; codes take far less. `plan` below counts neither the seventh number nor the data.
#
# The numbers per parameter can be counted without building anything, because on PyTorch's device `meta` a tensor has a shape and no numbers. **How many parameters does a prior of the commands' default size have**, with labels of ten classes and three layers of attention?

# %%
from pixelprior.course.planning import parameter_count

large = {
    "num_embeddings": 512, "embedding_dim": 64, "hidden_channels": 128,
    "num_layers": 15, "num_classes": 10, "attention_layers": 3,
}  # fmt: skip
with torch.device("meta"):
    nothing = HierarchicalPixelCNN(**large)
by_hand = sum(p.numel() for p in nothing.parameters())
print(f"{by_hand:,} parameters")
print("the package says the same:")
print(by_hand == parameter_count(HierarchicalPixelCNN, **large))

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
import itertools

from pixelprior.course.planning import example_batch

small = large | {"hidden_channels": 64, "num_layers": 10}
torch.manual_seed(0)
model = HierarchicalPixelCNN(**small).train()
counts = [kept_bytes(model, example_batch(model, n)) for n in (1, 2, 3, 4)]
an_image = counts[1] - counts[0]
print(f"each image adds {an_image / 2**20:.1f} MiB")
print(
    "always the same:",
    {b - a for a, b in itertools.pairwise(counts)} == {an_image},
)
predicted = counts[0] + 31 * an_image
print(
    "32 images as predicted:",
    kept_bytes(model, example_batch(model, 32)) == predicted,
)

# %% [markdown]
# Each image adds the same number of bytes, exactly. So memory over batch size is a straight line, and two small counts give any batch. `plan` in `pixelprior.course.planning` does this, for float32 and for bf16, and adds the six numbers for each parameter. It times nothing, and it measures nothing on a GPU.

# %%
from pixelprior.course.planning import KEPT, plan

planned = plan(HierarchicalPixelCNN, **small)
print("plan says the same:", planned.parts(32)[KEPT] == predicted)
for name, count in planned.parts(32).items():
    print(f"  {name:22} {count / 2**20:6.0f} MiB")

# %% [markdown]
# **Which of our configurations fits which card?** The dashed lines are cards of 8 and of 24 GiB.

# %%
CONFIGURATIONS = {
    "32 ch, 6 blocks": large | {"hidden_channels": 32, "num_layers": 6},
    "64 ch, 10 blocks": small,
    "128 ch, 15 blocks": large,
    "192 ch, 15 blocks": large | {"hidden_channels": 192},
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
# At 128 images per step all of them fit the small card with a quarter to spare. (The next section prints the numbers. A VQ-VAE-2 for images of 32 × 32 pixels needs less.)
#
# Where a line would meet the left edge, at a batch of no images, only the six numbers for each parameter are left (in bf16 also a copy of the weights). The slope of the line is what an image adds. For a prior, bf16 halves the slope, since the numbers that are kept have 2 bytes and not 4. (For the VQ-VAE-2 it takes off a quarter.) But bf16 does not change the six numbers, which stay float32.
#
# The count leaves out tensors that exist for a moment in the backward pass, and what a GPU's own libraries take. On a processor we let PyTorch's allocator say what a real step takes at its peak. For the prior of 128 channels this was up to a tenth above the count. (The memory of the whole process grew by more, 35 MB per image where the count is 27 MB: see [docs/scale.md](../docs/scale.md#what-lies-where).) For shallow networks, and for the VQ-VAE-2, it was up to half (`tests/course/test_planning.py` checks that bound, on small networks). A GPU's libraries, and gaps between the blocks of memory, come on top, and we have not measured them. **Leave a quarter of the card free; for shallow networks and for the VQ-VAE-2, half.**
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
# K costs little: between 64 and 512 codes the difference is less than a tenth of a GiB at 128 images per step. A network that is twice as wide has four times as many weights, and an image adds about twice as much. At 128 images per step the backward pass takes nearly all of the memory. So the first thing to try when a run does not fit is to halve the batch. You already have bf16 where your card supports it, and a narrower network is the last thing to try.

# %% [markdown]
# ## 09.10 Time: extrapolated from what we measured
#
# *Further · 13 minutes*
#
# Time cannot be counted; it has to be measured. What carries over from one network to another are **multiply-adds** (06.6): products of two numbers, each added to a sum. `plan` counts the multiply-adds of a training step for each image. A third of them belong to the forward pass, and two thirds to the backward pass.
#
# We have measured three trainings of priors on two cores, all in bf16 (the machine is named in their files):
#
# - one epoch of the recipe `cifar10_reduced`, a prior of 32 channels and 6 blocks, including the held-out images;
# - the fastest epoch of the shipped prior, which has 80<!--= prior hidden_channels --> channels and 9<!--= prior num_layers --> blocks;
# - `pixelprior benchmark --training`, a prior of 128 channels and 15 blocks on codes of Fashion-MNIST: 0.48<!--= training loops.fit.steps_per_second.0 --> steps per second, of 128 images each. (This is the training alone. In a run, the images that are held out to choose `best` come on top. By default they are a nineteenth as many as those trained on, and they need the forward pass alone, but in float32.)
#
# `measured_speeds` reads the images per second of all three. **How many multiply-adds per second did each training reach?**

# %%
from pixelprior.assets import shipped_folder
from pixelprior.checkpoints import read_config
from pixelprior.course.planning import measured_speeds

folder = shipped_folder("fashion_mnist", "prior")
shipped = read_config(folder / "config.json")
shipped.pop("model_class")
trained = {
    "cifar10_reduced, prior": {
        "num_embeddings": 128, "embedding_dim": 32,
        "hidden_channels": 32, "num_layers": 6, "num_classes": 10,
    },
    "shipped prior": shipped,
    "benchmark": {
        "num_embeddings": 64, "embedding_dim": 64,
        "hidden_channels": 128, "num_layers": 15,
    },
}  # fmt: skip

# %%
speeds = measured_speeds()  # images per second
points = []  # billion multiply-adds: of an image, and per second
bars = {}
for name, sizes in trained.items():
    product = plan(HierarchicalPixelCNN, **sizes).multiply_adds / 1e9
    points.append((product, product * speeds[name]))
    width, depth = sizes["hidden_channels"], sizes["num_layers"]
    bars[f"{name}:\n{width} ch, {depth} blocks"] = product * speeds[name]
figures.show(
    figures.bars(
        bars,
        y_label="billion multiply-adds per second",
        unit_format="{:.0f}",
    ),
    "multiply_adds_per_second",
)

# %% [markdown]
# The benchmark's prior does more than three times as many multiply-adds per second as the other two. It is wider, and it takes 128 images per step where they take 32. Both make the products larger, and a large product keeps the cores busy, while a small one ends before they are fully at work. (We have not measured how much each of the two contributes, and the first bar would be higher without its held-out images.) We connect the three points by straight lines, on logarithmic axes, and read from them the rate of a network in between. Beyond the ends we take the rate of the nearer end. The multiply-adds divided by the rate then give the hours. The hours of the two smaller networks are probably too high, because their rates were measured with 32 images per step. **What do 100 epochs of 50,000 images cost for each configuration?**


# %%
import numpy as np

products, rates = np.array(sorted(points)).T  # [3] each


def rate_of(each):
    """Billion multiply-adds per second on the two-core machine, about."""
    at = np.log(each.multiply_adds / 1e9)
    return np.exp(np.interp(at, np.log(products), np.log(rates)))


def hours(each, epochs, rate, images=50_000):
    return each.multiply_adds / 1e9 * images * epochs / rate / 3600


# %%
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
# The GiB are counted, for 128 images per step; the hours are extrapolated, for that two-core machine, whose processor multiplies bf16 in hardware. In float32 the same benchmark made 0.20<!--= training loops.plain.steps_per_second.0 --> steps per second, less than half as many. To measure your own machine:
#
# - **On a processor**: run `pixelprior benchmark --training --training_batch_size 128 --training_steps 16 --repeats 1`. It takes some minutes, writes into `pixelprior_benchmark`, and gives the steps per second of plain loops and of the package's.
# - **On a GPU**: start the run. The seconds of the second epoch, times the number of epochs, are your answer, because the GPU still warms up in the first one. In `history.json`, `steps_per_second` is the speed of the training alone.
#
# Then `hours` above gives the time for other networks. With the `seconds` of one of your epochs, on 50,000 images, of the network that `my_plan` plans:
#
# ```python
# my_rate = my_plan.multiply_adds / 1e9 * 50_000 / seconds
# hours(other_plan, 150, my_rate)
# ```
#
# Pictures and checkpoints take time that is not counted here, so compare the result with the clock.

# %% [markdown]
# ## 09.11 Two processes
#
# *Further · 5 minutes*
#
# With several GPUs, each GPU runs a process of its own, on images of its own. After the backward pass the processes average their gradients, so that all take the same step. This is called **data parallel** training. Two processes on a processor do the same, and we start them as on GPUs: a launcher takes the place of the word `pixelprior`. (`Terminal` sets `ACCELERATE_USE_CPU=true`, which keeps them on the processor, and `--level top` trains the top level alone, to save time.)

# %%
terminal.run(f"""
accelerate launch --multi_gpu --num_processes 2
-m pixelprior.cli train-prior {SHAPES}
--vqvae2_checkpoint vqvae2 --class_conditional
--hidden_channels 32 --num_layers 5
--level top --epochs 1 --lr 1e-2 --output_dir two""")

# %% [markdown]
# Only one of the processes prints anything. **Were there really two?** We do not rely on the command but look into the checkpoint, which keeps how many processes the run had and how many steps it took. With 134 images in batches of 16, one process takes 9 steps per epoch, and two take half of that, rounded up.


# %%
import json


def state_of(run_name):
    path = WORK / run_name / "last" / "state" / "run.json"
    return json.loads(path.read_text(encoding="utf-8"))


for name, epochs in (("prior", 16), ("two", 1)):
    state = state_of(name)
    processes = state["about"]["processes"]
    steps_per_epoch = state["step"] // epochs
    print(
        f"{name:5} processes {processes}, steps per epoch {steps_per_epoch}"
    )

# %% [markdown]
# Such a check is worth its lines: with `--cpu --num_processes 2`, which looks right, the version of accelerate that we have (1.15) starts one process and says nothing about it. (The package notices this launch and refuses it.)
#
# Two processes halve the steps, so the run is a different one: with 16 images for each process, a step has 32. To get the curve of one process, give each half the batch, 8 images. (Even then the runs differ as two seeds do, because each process drops features of its own.) A run may go on with another number of processes than it began with; it reports this, and its steps change. The commands for several GPUs and several machines are in [docs/scale.md](../docs/scale.md#several-processes-several-machines).

# %% [markdown]
# ## 09.12 Publish, and load again
#
# *Further · 3 minutes*
#
# `best` is a folder in the format of the Hugging Face hub: `config.json` says how the network is built, and `model.safetensors` holds its numbers. Neither file can hold code. A **pickle**, which is what `torch.save` writes, can: whoever loads one without care runs the code in it. (The state of a run in `last/state` holds pickles. It is for you alone, and the package reads it in a way that refuses code.)

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
# ## 09.13 CIFAR-10
#
# *Further · 8 minutes*
#
# CIFAR-10 has 50,000 training images and 10,000 test images of 32 × 32 pixels in colour, of ten classes. Its top grid has 8 × 8 codes and its bottom grid 16 × 16. A VQ-VAE-2 and a prior for it ship with the package too, with K = 8 codes in each codebook. `pixelprior reproduce cifar10` trained both on two cores in 77 minutes. **Which classes can you recognize in what this prior draws?** The first block has samples of the prior itself. The second is drawn with strong guidance (07.4), the setting that was chosen on held-out training images.

# %%
from pixelprior.assets import load_shipped, shipped_folder
from pixelprior.checkpoints import read_training_notes
from pixelprior.evaluation.choosing import read_setting, setting_in_words

of_cifar = shipped_folder("cifar10", "prior")
class_names = read_training_notes(of_cifar)["class_names"]
pair = load_shipped("cifar10")
labels = pair[1].labels_in_turn(40)  # [40]: classes 0, 1, …, 9, 0, 1, …
blocks = {}
for setting in ({}, read_setting(of_cifar)):
    blocks[setting_in_words(setting)] = pair[1].sample_with_vqvae2(
        pair[0], 40, labels=labels, seed=0, **setting
    )  # [40, 3, 32, 32]
figures.show(
    figures.image_blocks(blocks, column_names=class_names), "cifar10_samples"
)

# %% [markdown]
# In the first block some airplanes, cars, ships and trucks can be recognized. In the second most airplanes, cars, ships and horses can be recognized, and some trucks; the horses have their legs in the right place. The other animals are patches of fur, feathers and leaves without a head or legs in the right place: each image of CIFAR-10 has a background, a viewpoint and colours of its own, and an hour of training on two cores is short.
#
# On the test images (of a copy that was stored as JPEG) the prior needs 1.41<!--= cifar10/results likelihood.both.nats_per_code.value --> nats per code, where the frequencies of the codes would cost 1.95<!--= cifar10/results likelihood.both.unigram --> nats. A classifier that was trained on its samples, with the labels that they were drawn for, is right on 0.73<!--= cifar10/results accuracy_score.samples_to_real.value --> times as many test images as one that was trained on real images. For clothes this ratio is 0.95<!--= results accuracy_score.samples_to_real.value -->. [The page of results](../docs/results.md#cifar-10) has all figures.
#
# **A larger run.** `pixelprior reproduce cifar10_large` does both trainings with the flags below, a third one without the top codes for comparison, and measures all that notebook 07 measures. When it is started again, it goes on by itself. We have not run it.
#
# **Command by command.** [A whole run, flag by flag](../docs/scale.md#a-whole-run-flag-by-flag) has the line to paste on a machine with a GPU, what each flag does and when to change it, what the run writes, and how to stop it and to go on.
#
# Which flags does the recipe set? The others keep their defaults.

# %%
for name in ("vqvae2", "prior"):
    print(f"flags of train-{name}:")
    for flag, value in getattr(RECIPES["cifar10_large"], name).items():
        print(f"  {flag}: {value}")

# %% [markdown]
# How long would it take on two cores? The recipe trains the VQ-VAE-2 for 100 epochs and the prior of 128 channels, with attention, for 150. For the VQ-VAE-2 we take the rate of the VQ-VAE-2 in the reduced recipe.

# %%
colour = plan(VQVAE2)  # with the defaults, as in the recipe
tiny = plan(VQVAE2, hidden_channels=64, embedding_dim=32, num_embeddings=128)
rate = tiny.multiply_adds / 1e9 * speeds["cifar10_reduced, VQ-VAE-2"]
of_prior = plans["128 ch, 15 blocks", "bf16"]
print(f"VQ-VAE-2: {hours(colour, 100, rate):.0f} hours on two cores")
prior_hours = hours(of_prior, 150, rate_of(of_prior))
print(f"prior:    {prior_hours:.0f} hours on two cores")

# %% [markdown]
# Together these are nearly two days. On a GPU it is less, but we cannot say how much, because *we have never measured on a GPU*.

# %% [markdown]
# ## 09.14 Exercises
#
# *Further · 22 minutes*
#
# Replace the `None` in a cell with your answer and run the cell, which then tries the answer out.

# %% [markdown] tags=["about-solutions"]
# Each exercise has a [solution](#Solutions) at the end of the notebook.

# %% [markdown]
# ### Exercise 1: plan a run for your GPU
#
# *Difficulty 2 of 5 · importance 5 of 5 · 5 minutes*
#
# Your card has 8 GiB, and you leave a quarter of it free. You want a prior of 160 channels and 12 blocks, with 512 codes, in float32. **How many images per step fit at most?** `plan` counts the bytes that a training takes without running it, as section 09.9 explains; the quarter is for what it does not count, such as tensors that exist for a moment and a GPU's own libraries. `planned.bytes_at(batch)` gives the bytes at a batch size. The check counts again, for your batch and for a batch of one image more.
#
# <details><summary>Hint 1</summary>
#
# The bytes lie on a straight line over the batch: a part that is always there, and a part per image.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `planned.bytes_at(1)` and `planned.bytes_at(2)` give you both parts.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# You may fill three quarters of 8 GiB, and a GiB has 2³⁰ bytes.
#
# </details>

# %%
from pixelprior.course.planning import plan

wanted = {
    "num_embeddings": 512, "embedding_dim": 64,
    "hidden_channels": 160, "num_layers": 12,
}  # fmt: skip
planned = plan(HierarchicalPixelCNN, **wanted)
print(f"1 image per step: {planned.bytes_at(1) / 2**30:.2f} GiB")

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
# A prior draws codes, and its VQ-VAE-2 makes images of them, so others need both. Write the function that saves both below a folder, each in a folder of its own, and returns both *as read from there*, the VQ-VAE-2 first. The check wants the same weights to the last bit, the same samples for the same seed, and no pickle. It also runs your function with a `save_pretrained` that writes one number of each file differently, and expects that number in what you return: so it sees whether you read the file.
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
heap.mkdir(exist_ok=True)
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
# Write a function that sorts such a heap. It gets the heap and a target folder that does not exist yet. It takes the PNG files that can be read (`Image.open(path).verify()` raises an error for the others), and of each class, in the order of the names, it **copies** the 4th, the 8th and so on to `target/test/CLASS/`, and the others to `target/train/CLASS/`. It returns `target`. The check makes two heaps of its own, and loads what you made of them as `--dataset imagefolder` does.
#
# <details><summary>Hint 1</summary>
#
# Sort the paths, and count the readable images of each class as you go.
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
# - Stop a run at any time, resume it, and prove that nothing was lost.
# - Train on your own images, on images that do not fit into memory, on the codes of another tokenizer, and on several processes.
# - Count what a configuration needs before you start it, and extrapolate from one measured run how long it takes.
# - Choose a learning rate by a range test, find out why a loss is not finite, and publish the result.
#
# **In papers**, several GPUs with a copy of the network each are **data-parallel training**, and a stopped run goes on from a **checkpoint**.
#
# **To take away.** With twice the GPUs and the same `--batch_size`, which of the numbers of a step change, and would you change the rate? A colleague's resumed run ends at nearly the same loss: what would you look for? What would you have to keep to resume in the *middle* of an epoch? ([Answers](ANSWERS.md#09--scale-up))
#
# **Sources.** The prior of two levels: Razavi, van den Oord and Vinyals 2019, [arXiv 1906.00446](https://arxiv.org/abs/1906.00446), section 3.2. Range test: Smith 2015, [arXiv 1506.01186](https://arxiv.org/abs/1506.01186), section 3.3. Decoupled weight decay: Loshchilov and Hutter 2017, [arXiv 1711.05101](https://arxiv.org/abs/1711.05101), section 2. Large batches, several processes, warm-up: Goyal et al. 2017, [arXiv 1706.02677](https://arxiv.org/abs/1706.02677), sections 2 and 3. Mixed-precision training: Micikevicius et al. 2017, [arXiv 1710.03740](https://arxiv.org/abs/1710.03740), section 3. CIFAR-10: Krizhevsky 2009, [Learning Multiple Layers of Features from Tiny Images](https://www.cs.toronto.edu/~kriz/learning-features-2009-TR.pdf), chapter 3.
#
# ← [08 · Complete and edit in code space](08_complete_and_edit.ipynb) · [the course](../README.md#the-course) · [words and symbols](GLOSSARY.md) · next: [10 · Find what is odd](10_find_what_is_odd.ipynb) →

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
per_image = planned.bytes_at(2) - planned.bytes_at(1)
without_images = planned.bytes_at(1) - per_image
room = 0.75 * 8 * 2**30 - without_images
most = int(room // per_image)

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
