# %% [markdown]
# # 06 · Sampling, fast: on a CPU and on a GPU
#
# **What you will make.** A sampler that draws the same codes with 218 times fewer multiplications, and its time on your machine.
#
# **What you will learn.** What a cache keeps, why less work is not as much less time, and how a cache fails without an error.
#
# **What you need.** The gated block ([03](03_gated_blocks.ipynb)) and the two levels ([05](05_bottom_prior.ipynb)). No GPU.
#
# **Time.** About 30 minutes for the core and 57 for all, with the exercises; 30<!--= timings 06_fast_sampling --> seconds to run on two CPU cores.
#
# ← [05 · The bottom prior](05_bottom_prior.ipynb) · [the course](../README.md#the-course) · [words and symbols](GLOSSARY.md) · next: [07 · Generate and judge](07_generate_and_judge.ipynb) →

# %% tags=["version"]
from pixelprior.course import needs

needs("0.2")  # says so if the installed package is older

# %%
import torch

from pixelprior import load_shipped
from pixelprior.course import explore, figures, reveal, steps, your_turn
from pixelprior.course.checks import sampling as check

_ = torch.set_grad_enabled(False)  # nothing is trained here

# %% [markdown]
# ## 06.1 One pass for each code
#
# *Core · 3 minutes*
#
# The logits of a code depend on all codes before it. So two codes of one image cannot be drawn at the same time, but one code for each of *many* images can. We draw ten top grids of 8 × 8 codes, one per class, in float64.

# %%
vqvae2, prior = load_shipped()
top, u, condition = steps.of_top(prior, 10)
# network, u [10, 8, 8], condition [10, p, 8, 1], alike in all rows and columns

# %% [markdown]
# All randomness is in u, a number from 0 to 1 per code. `steps.draw` turns logits [B, K] and numbers [B] into codes [B], and the same numbers give the same codes (notebook 07 shows how). The most direct method is **naive**: run the whole network for each position.


# %%
def naive(network, u, condition):  # u [B, H, W]
    codes = torch.zeros(u.shape, dtype=torch.long)  # [B, H, W]
    for y in range(u.shape[1]):
        for x in range(u.shape[2]):
            logits = network.logits(codes, condition)  # [B, K, H, W]
            codes[:, y, x] = steps.draw(logits[:, :, y, x], u[:, y, x])  # [B]
    return codes


right = naive(top, u, condition)  # [10, 8, 8]

# %% [markdown]
# Positions not drawn yet hold code 0, which does no harm, because no logits depend on later codes. Naive is our **yardstick**: other methods have to draw the same codes from the same u. But of the logits that a pass computes at 64 positions, 63 are thrown away.

# %% [markdown]
# ## 06.2 What has to be kept
#
# *Core · 3 minutes*
#
# What must be computed before the code at row 3, column 4 is drawn?
#
# - The vertical stack v at row 3 depends on the rows above. It has to run *once per row*.
# - The horizontal stack h at column 4 depends on the code at column 3. It has to run *once per code*.
# - h learns of the rows above by `across`, the output of `vertical_to_horizontal` before `left` is added: [B, 2p, W] for one row. It is computed with v.
#
# What is kept is a **cache**, and the method is called **cached**. A kernel of width k looks r = k // 2 rows up and r positions to the left; here k is 3 and r is 1. So each block keeps **three things: r + 1 rows of the v that comes in, r + 1 positions of h, and `across` of one row.** The last of the rows is the new one, and so is the last of the positions. The first block is shifted, does not see the new one, and keeps r of each. (In the shipped top level, **attention** follows two blocks. It looks at all codes before, so two vectors of each are kept, as in the **key-value cache** of GPT.)
#
# **What does each method compute for the code at (3, 4)?** The method **rows** lies between them: it cuts off the rows below. (`across` is not in the figure.)

# %% tags=["cover"]
row, column = [3, 0, 1, 2, 4, 5, 6, 7], [4, 0, 1, 2, 3, 5, 6, 7]
explore(figures.what_is_computed, "what_is_computed", row=row, column=column)

# %% [markdown]
# Of the 128 positions that naive computes, one is new, and cached computes that one. At column 0, it also computes a row of v: move the slider there.

# %% [markdown]
# ## 06.3 Your own fast sampler
#
# *Core · 13 minutes*

# %% [markdown]
# ### Your turn A: roll the rows
#
# *4 minutes*
#
# A block keeps its rows of v in one tensor, `rows` [B, C, n, W]: n rows of C channels and W columns, for each of B images, with the oldest row in place 0. Before a new row comes in, they must **roll**: row 1 moves to place 0, row 2 to place 1, and so on. The last place is then free for the new row, and may hold anything. **Write the function.** It returns a tensor of the same shape.
#
# <details><summary>Hint 1</summary>
#
# The rows are dimension 2, so `rows[:, :, 1:]` is all but the oldest.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Join it with anything that is one row high, by `torch.cat`. Or look up `torch.roll`: which sign moves row 1 to place 0?
#
# </details>


# %% tags=["exercise"]
def my_roll(rows):  # [B, C, n, W]
    return None  # your turn: [B, C, n, W]


roll = your_turn(check.roll, my_roll, otherwise=steps.rolled)

# %% [markdown] tags=["about-solutions"]
# [To solution A](#Solution-A)

# %% [markdown]
# ### Your turn B: the loop of cached
#
# *8 minutes*
#
# The box that keeps everything for all blocks is the package's `PixelCNNCache`, and ours rolls by your line. It has four steps:
#
# | step | when | what it does |
# |---|---|---|
# | `cache.row_step(c)` | before a row | runs v on the new row; c is one row of the condition, [B, p, 1, 1 or W] |
# | `cache.code_step(x)` | before a draw | runs h at column x; returns logits [B, K] |
# | `cache.keep_code(z)` | after a draw | keeps the codes z [B] of one position |
# | `cache.keep_row(z)` | after a row | keeps a row of codes z [B, W] |
#
# **Write the loop**: put these four steps into naive's two loops, in place of the whole network. Row y of the condition is `condition[:, :, y : y + 1]`. The check tries your loop on a small network. It counts your steps, and compares the codes with those of naive.
#
# <details><summary>Hint 1</summary>
#
# Which two steps belong in the loop over y, and which two in the loop over x?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# In the inner loop: `codes[:, y, x] = steps.draw(cache.code_step(x), u[:, y, x])`, and then keep what was drawn.
#
# </details>


# %% tags=["exercise"]
def my_cached(cache, u, condition):  # u [B, H, W]
    codes = torch.zeros(u.shape, dtype=torch.long)  # [B, H, W]
    for y in range(u.shape[1]):
        for x in range(u.shape[2]):
            pass  # your turn: which steps here, and which around this loop?
    return None  # your turn: `codes`


cached = your_turn(check.cached, my_cached, otherwise=steps.by_steps)

# %% [markdown] tags=["about-solutions"]
# [To solution B](#Solution-B)

# %%
fast = cached(steps.Cache(top, u, roll), u, condition)  # [10, 8, 8]
print((fast != right).sum().item(), "of 640 codes differ from naive's")

# %% [markdown]
# Nothing was approximated. (In float32 a code changes now and then, because the methods add up the same products in another order.)

# %% [markdown]
# ## 06.4 Count, then race
#
# *Core · 3 minutes*
#
# Nearly all work is **multiply-adds**: a product of two numbers, added to a sum. We count those of your loop for both levels, and those of one pass of naive, times the number of codes.

# %%
counted = steps.counted(prior, cached, roll)
print(f"naive ÷ cached, counted: {counted:.0f}")

# %% [markdown]
# A draw by cached costs as much as *one* pass over each grid. Naive needs 64 at the top and 256 at the bottom, where a pass costs 4.1 times as much: four times the positions, and a condition at each.
#
# Now the clock, in the same way, on your machine. **How many times as fast as naive is your loop with 32 images at once?**

# %%
my_guess = None  # your guess: a number

# %% tags=["nbval-ignore-output"]
race = steps.race(prior, cached, roll)
assert min(race.values()) > 1  # by far, on any machine
reveal(f"{race['32 images']:.0f} times as fast", my_guess)
figures.show(steps.bars(race | {"counted": counted}), "race")

# %% [markdown]
# **Why is it far less than 218 with one image, and more with 256?** (That bar is a kept result of another machine and a larger prior, whose count is 220.)
#
# - With one image, cached takes thousands of small operations. Each has a fixed cost, and fetches a matrix to multiply a single vector. With more images, the matrix is fetched once for all.
# - With 256, naive writes 256 whole grids after every layer, more than the processor's fast memory holds. Cached works on one row at a time.

# %% [markdown]
# ## 06.5 Where it breaks: a row that is not rolled
#
# *Core · 3 minutes*
#
# In block 4 of nine, the rows are never rolled: zeros stay where the row above should be. All shapes are right, and nothing raises an error. **In which row of the grid is the first wrong code?** (Count from 0.)

# %%
my_guess = None  # your guess: a row from 0 to 7


# %%
def not_rolled(block):
    cache = steps.Cache(top, u, roll)
    cache.blocks[block].roll_rows = lambda: None  # the mistake
    return cached(cache, u, condition)  # [10, 8, 8]


wrong = not_rolled(4)
first = (wrong != right).nonzero()[:, 1].min()  # of image, row and column
reveal(f"in row {first}", my_guess)

# %% [markdown]
# Above row 0 there is nothing, so zeros are right there. **Would you notice the mistake in the images?** The upper row has the top codes that your loop draws. The bottom codes are drawn without the mistake.

# %%
grids = {"rolled": fast, "not rolled": wrong}
figures.show(steps.decoded(vqvae2, prior, grids), "images_not_rolled")

# %% [markdown]
# Hardly: right images look odd too, now and then. To notice it, **compare the codes with those of the network without a cache, drawn from the same random numbers.**

# %% [markdown]
# ## 06.6 Why a GPU waits: counted, not measured on a card
#
# *Core · 1 minute*
#
# A GPU multiplies many thousands of numbers at the same time. But each operation is **launched** by the CPU, and a launch takes about as long for a small operation as for a large one. **How many operations does a draw of ten top grids take?**

# %%
by_naive = steps.operations(naive, top, u, condition)
by_cached = steps.operations(cached, steps.Cache(top, u, roll), u, condition)
print(f"naive {by_naive:,}, cached {by_cached:,} operations")

# %% [markdown]
# At the top, naive takes 63 times the multiply-adds, but less than twice the operations. If launches decide, cached gains no more than that, and the GPU mostly waits for the next small operation. More images need no more operations. The remedy is to record the operations of a row, and to launch the record as a whole (06.8).

# %% [markdown]
# ## 06.7 The same as the package
#
# *Further · 1 minute*

# %%
from pixelprior.sampling import sample_codes

package = sample_codes(top, (8, 8), u.flatten(1), condition)
print("the package draws your codes:", torch.equal(fast, package))

# %% [markdown]
# ## 06.8 A row as a CUDA graph: never run on a card by us
#
# *Further · 11 minutes*
#
# No time in this section has been measured, and the cells have been run only where there is no GPU.
#
# Within a draw by cached, a trace, which records what CPU and GPU do over time, would look like this, with gaps between operations that take less time than a launch:
#
# ```text
# CPU  launch launch launch launch launch launch   CPU  replay
# GPU     ▪      ▪      ▪      ▪      ▪      ▪     GPU      ▪▪▪▪▪▪
# ```
#
# A **CUDA graph** is a record of operations that is replayed by a single launch. To capture one takes ten lines:


# %%
import copy

from pixelprior.benchmark.timing import median_seconds


def capture(run):
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        run()  # the warm-up
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()  # recorded, and not computed
    return graph.replay


# %% [markdown]
# - **The warm-up.** At their first call, libraries prepare themselves and request memory, which must not be part of the record.
# - **The side stream.** A stream is a queue of operations. Recording needs one that is not the default, and PyTorch's documentation asks for the same of the warm-up. `wait_stream` keeps the two queues in order.
#
# A record holds addresses, shapes and an order. So what it works on must stay in the same memory, which is why the cache rolls by copying. Each row must be the same work, which it is: the cache has as many rows at row 0 as at row 7. And nothing may ask the GPU for a number, because there is none yet. Such a line is `code.item()`. CUDA then says *operation not permitted when stream is capturing*, and, as the capture ends, *operation failed due to a previous error during capture*. The second is what you see last, and the first names the line to repair.


# %%
def on_a_card():
    parts = next(steps.levels(prior, 64))
    level, u, given = (copy.deepcopy(part).cuda() for part in parts)
    cache, z = steps.Cache(level, u), u[:, 0].long()  # z [64, 8]

    def one_row():
        cache.row_step(given[:, :, :1])
        for x in range(8):
            z[:, x] = steps.draw(cache.code_step(x), u[:, 0, x])
            cache.keep_code(z[:, x])
        cache.keep_row(z)

    runs = {"launched": one_row, "replayed": capture(one_row)}
    for name, run in runs.items():
        print(f"{name}: {1000 * median_seconds(run, 'cuda'):.2f} ms per row")
    try:
        capture(lambda: z[0, 0].item())
    except RuntimeError as error:
        print(error.__context__, error, sep="\n")


# %% [markdown]
# **When may "the same codes" differ?** A GPU adds up products in another order than a CPU, and may take another algorithm for another batch. In float32 a few codes then differ among many, and the codes after them have another past.


# %%
def codes_that_differ():
    both = []
    for device, method in (("cpu", "cached"), ("cuda", "graph")):
        network = copy.deepcopy(prior).to(device)
        drawn = network.sample(64, (8, 8), (16, 16), seed=0, method=method)
        both.append([codes.cpu() for codes in drawn])
    for one, other in zip(*both, strict=True):
        print((one != other).sum().item(), "of", one.numel(), "codes differ")


# %% tags=["nbval-ignore-output"]
has_a_card = torch.cuda.is_available()
if has_a_card:
    codes_that_differ()
    on_a_card()  # last, because its failed capture may leave errors behind
else:
    print("There is no CUDA device here, so nothing was run.")
assert has_a_card == (torch.cuda.device_count() > 0)

# %% [markdown]
# **What does recording cost, and when does it pay?** Python goes through the row twice, once as the warm-up and once to record it, and CUDA prepares the record. Each replay then saves the launches of a row. Exercise 1 asks from how many rows on this pays.
#
# The package's `method="graph"` captures a row once for each level, grid, batch, number format, device and setting, such as temperature and guidance. It copies the row's u, its condition and known codes to fixed addresses, and replays the record for all rows, all chunks of a large batch, and all later calls. A level keeps its last four records. **`method="auto"` takes cached, on a GPU as well**, until graph has been measured on one. On a machine with a GPU, `pixelprior benchmark` measures graph beside the other methods, in float32 and bf16, for batches from 1 to 256: its figure shows where the lines cross.

# %% [markdown]
# ## 06.9 bf16: half the bits
#
# *Further · 4 minutes*
#
# **bf16** is a number format of 16 bits in place of 32. **Does it halve the time?** The figure has the kept result of `pixelprior benchmark`, from a processor with bf16 units. Compare *cached* and *cached bf16*.

# %%
from statistics import median

from pixelprior.benchmark import report

results = steps.benchmark()
figures.show(report.figure(results), "benchmark")
for batch in (1, 256):
    gain = median(report.ratio(results, batch, "cached", "cached bf16"))
    print(f"cached ÷ cached in bf16, {batch:3} images: {gain:.2f}")

# %% [markdown]
# With one image it takes twice the time, and with 256 less than half. The reason is the fixed cost of an operation. In float32, the product of one image is a small loop over a matrix. In bf16, a library sets up each product anew, for units that multiply many rows at a time, and one image is one row. With 256 images the set-up hardly counts, and each number has half as many bytes. **What does a single product take on your processor?**

# %% tags=["nbval-ignore-output"]
from pixelprior.benchmark.timing import seconds

for n in (1, 256):  # images
    for dtype in (torch.float32, torch.bfloat16):
        a, b = torch.ones(n, 128).to(dtype), torch.ones(128, 128).to(dtype)
        taken = seconds(lambda a=a, b=b: a @ b, at_least=0.05)
        print(f"{n:3} images, {dtype}: {1e6 * taken:.0f} µs")
        assert taken > 0

# %% [markdown]
# (A processor without bf16 units is slower with any number of images, often many times.) The rounding changes codes: with another shipped prior, a share of 0.27<!--= benchmark bf16_effect.top.share_that_differs --> of the top codes was different. They were as good: by the float32 prior they cost 1.85<!--= benchmark bf16_effect.top.bfloat16 --> nats per code, like those drawn in float32, 1.85<!--= benchmark bf16_effect.top.float32 -->. [The page on performance](../docs/performance.md) has all numbers.

# %% [markdown]
# ## 06.10 Exercises
#
# *Further · 12 minutes*
#
# Replace the `None` in a cell with your answer and run the cell, which then tries the answer out.

# %% [markdown] tags=["about-solutions"]
# Each task has a [solution](#Solutions) at the end of the notebook.

# %% [markdown]
# ### Exercise 1: from how many rows does capture pay?
#
# *Difficulty 2 of 5 · importance 3 of 5 · 5 minutes · after 06.8*
#
# On a card, a row takes `launched` milliseconds without a graph, and `replayed` milliseconds as one, which is less. To capture it takes `to_capture` milliseconds, once. **Write a function that returns the fewest rows for which capture and replays together take less time than the rows by themselves.** The check tries the numbers of three cards that we made up.
#
# <details><summary>Hint 1</summary>
#
# With n rows, one way takes n · `launched`. What does the other take? Ask when it is *less*, for whole numbers n.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# It is less if n is above `to_capture / (launched - replayed)`. If that is a whole number, both take the same time there.
#
# </details>


# %% tags=["exercise"]
def my_rows_that_pay(launched, replayed, to_capture):
    return None  # your turn: a whole number


check.rows_that_pay(my_rows_that_pay)

# %% [markdown] tags=["about-solutions"]
# [To solution 1](#Solution-1)

# %% [markdown]
# ### Exercise 2: which block is stuck?
#
# *Difficulty 3 of 5 · importance 5 of 5 · 7 minutes · after 06.5*
#
# The map shows which codes are wrong when block 4 does not roll. `found` was drawn from the same u, with another block stuck. **Which one?** Find it by a program, because nothing in the codes names the block. (Look at block 0 with the slider: why does it do no harm?)
#
# <details><summary>Hint 1</summary>
#
# `not_rolled(n)` draws with block n stuck. From the same u, the same mistake gives the same codes.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Try all nine blocks, and compare with `torch.equal`.
#
# </details>


# %%
def differences(block):
    count = (not_rolled(block) != right).sum(dim=0)  # [8, 8]
    unit = {"unit": "images of 10 that differ", "limits": (0, 10)}
    name = f"block {block} does not roll"
    return figures.heatmaps({name: count}, **unit, numbers="{:.0f}")


explore(differences, "where_codes_differ", block=[4, 0, 1, 2, 3, 5, 6, 7, 8])

# %%
found = steps.with_stuck(top, u, condition)  # [10, 8, 8]
print((found != right).sum().item(), "of 640 codes differ from naive's")

# %% tags=["exercise"]
my_block = None  # your turn: a number from 0 to 8

check.stuck_block(my_block, found, top, u, condition)

# %% [markdown] tags=["about-solutions"]
# [To solution 2](#Solution-2)

# %% [markdown]
# ## What you can do now
#
# - Say what a PixelCNN has to keep while it draws, and write the loop that computes each feature once.
# - Count the work of a sampler, and say why its time gains another factor.
# - Notice a mistake in a cache: compare codes drawn from the same random numbers.
#
# **In papers**, the cache of a transformer is a **key-value cache**, and naive is **decoding without a cache**.
#
# **To take away.** What would a block have to keep if its kernel looked at every row above? How could one image be drawn in fewer steps, and what would it cost? ([Answers](ANSWERS.md#06--sampling-fast))
#
# **Sources.** A cache for PixelCNN: Ramachandran and others 2017, [arXiv 1704.06001](https://arxiv.org/abs/1704.06001), section 2.
#
# ← [05 · The bottom prior](05_bottom_prior.ipynb) · [the course](../README.md#the-course) · [words and symbols](GLOSSARY.md) · next: [07 · Generate and judge](07_generate_and_judge.ipynb) →

# %% [markdown] tags=["solution"]
# ## Solutions
#
# A solution is one answer of several: the checks judge what an answer does, not how it is written.

# %% [markdown] tags=["solution"]
# ### Solution A
#
# [Back to your turn A](#Your-turn-A:-roll-the-rows)


# %% tags=["solution"]
# The oldest row goes to the last place, where the new row overwrites it.
def the_roll(rows):  # [B, C, n, W]
    return torch.roll(rows, -1, dims=2)


check.roll(the_roll)

# %% [markdown] tags=["solution"]
# ### Solution B
#
# [Back to your turn B](#Your-turn-B:-the-loop-of-cached)


# %% tags=["solution"]
def the_cached(cache, u, condition):  # u [B, H, W]
    codes = torch.zeros(u.shape, dtype=torch.long)  # [B, H, W]
    for y in range(u.shape[1]):
        cache.row_step(condition[:, :, y : y + 1])
        for x in range(u.shape[2]):
            logits = cache.code_step(x)  # [B, K]
            codes[:, y, x] = steps.draw(logits, u[:, y, x])  # [B]
            cache.keep_code(codes[:, y, x])
        cache.keep_row(codes[:, y])  # [B, W]
    return codes


check.cached(the_cached)

# %% [markdown] tags=["solution"]
# ### Solution 1
#
# [Back to exercise 1](#Exercise-1:-from-how-many-rows-does-capture-pay?)


# %% tags=["solution"]
# n · row > capture + n · replay, so n > capture / (row - replay).
def rows_that_pay(launched, replayed, to_capture):
    return int(to_capture / (launched - replayed)) + 1


check.rows_that_pay(rows_that_pay)

# %% [markdown] tags=["solution"]
# ### Solution 2
#
# [Back to exercise 2](#Exercise-2:-which-block-is-stuck?)

# %% tags=["solution"]
# The same mistake, from the same random numbers, gives the same codes.
same_codes = [torch.equal(not_rolled(n), found) for n in range(9)]

check.stuck_block(same_codes.index(True), found, top, u, condition)

# %% [markdown] tags=["solution"]
# Block 0 does no harm because it has mask A: its kernel covers a single row, the one above, so it has nothing to roll.
