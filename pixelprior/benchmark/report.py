"""How the results of `sampling.py` are shown: as ratios, in a table and in a plot.

A ratio is taken within a round, for both levels together. Its median over the rounds is
given, with the lowest and the highest ratio beside it.
"""

import json
import statistics
from pathlib import Path

from matplotlib.figure import Figure

from pixelprior.files import write_texts
from pixelprior.plotting import INK

METHODS = {
    "naive": "naive: the network for each code",
    "rows": "rows: on the rows so far",
    "cached": "cached: only what is new, in each layer",
    "graph": "graph: cached, as a CUDA graph",
    "cached bf16": "cached, in bf16",
}


def ratio(results: dict, batch_size: int, one: str, other: str) -> list[float] | None:
    """How many times as long `one` takes as `other` in each round, for both levels
    together; None if a method was not run."""
    levels = results["seconds"][str(batch_size)]
    if not {one, other} <= set(levels["top"]):
        return None
    totals = zip(_totals(levels, one), _totals(levels, other), strict=True)
    return [a / b for a, b in totals]


def rounds_in_words(values: list[float]) -> str:
    """The median of some rounds, with the lowest and the highest."""
    median = statistics.median(values)
    digits = 0 if median >= 10 else 2
    low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return f"{median:.{digits}f} ({low} to {high})"


def markdown_table(columns: list[str], rows, first: str = "---") -> str:
    """Rows of texts as a table in Markdown, all columns but the first on the right."""

    def line(cells) -> str:
        return "".join(f"| {cell} " if cell else "| " for cell in cells) + "|"

    under = "|".join(["", first, *["---:"] * (len(columns) - 1), ""])
    return "\n".join([line(columns), under, *map(line, rows)])


def write_results(folder: Path, name: str, results: dict, words: str) -> None:
    """Write results as JSON and in words, and print the words."""
    texts = {f"{name}.json": json.dumps(results, indent=1), f"{name}.md": words}
    write_texts(folder, texts)
    print(words)


def markdown(results: dict) -> str:
    """All results in words, as in `benchmark.md` and `docs/performance.md`."""
    return "\n".join([table(results), "", *(f"- {line}" for line in summary(results))])


def table(results: dict) -> str:
    """The ratios in Markdown, one line per batch size: median (lowest to highest)."""
    batch_sizes = results["sizes"]["batch_sizes"]
    columns = {"batch size": batch_sizes}
    for name, *pair in (
        ("naive ÷ cached", "naive", "cached"),
        ("rows ÷ cached", "rows", "cached"),
        ("cached ÷ one forward pass", "cached", "forward"),
        ("cached ÷ cached in bf16", "cached", "cached bf16"),
        ("cached ÷ graph", "cached", "graph"),
    ):
        ratios = [ratio(results, size, *pair) for size in batch_sizes]
        if None not in ratios:
            columns[name] = [rounds_in_words(each) for each in ratios]
    columns["cached, ms per image"] = [
        f"{_milliseconds(results, size, 'cached'):.1f}" for size in batch_sizes
    ]
    rows = zip(*columns.values(), strict=True)
    return markdown_table(list(columns), rows, first="---:")


def summary(results: dict) -> list[str]:
    """The other results in words, one line per result."""
    machine, counted = results["machine"], results["multiply_adds"]
    lines = [
        f"machine: {machine['processor']}, {machine['threads']} threads, "
        f"{machine['gpu'] or 'no GPU'}; torch {machine['torch']}",
        f"multiply-adds of a whole draw by cached: {counted['cached'] / 1e9:.2f} "
        f"billion per image, {counted['cached'] / counted['forward']:.3f} × those of "
        f"one forward pass; by rows {counted['rows'] / counted['forward']:.0f} ×, by "
        f"naive {counted['naive'] / counted['forward']:.0f} ×",
    ]
    if not machine["gpu"]:
        lines.append("graph: not run, since it needs a CUDA device")
    for level, effect in results.get("bf16_effect", {}).items():
        lines.append(
            f"shipped weights, {level} codes sampled in bf16: "
            f"{100 * effect['share_that_differs']:.0f} % differ from float32's; "
            f"{effect['bfloat16']:.3f} nats per code under the float32 prior, "
            f"float32's own {effect['float32']:.3f}"
        )
    training = results["training"]
    for name in [name for name in training if name.startswith("step")]:
        pairs = zip(training[name], training["forward"], strict=True)
        words = rounds_in_words([step / forward for step, forward in pairs])
        lines.append(
            f"training {name}, {training['batch_size']} images: {words} × one forward "
            "pass in float32"
        )
    return lines


def figure(results: dict) -> Figure:
    """Two plots over the batch size, with log axes: in forward passes, and in time."""
    sizes, machine = results["sizes"], results["machine"]
    batch_sizes = sizes["batch_sizes"]
    drawing = Figure(figsize=(9, 4.4), layout="constrained")
    in_passes, in_time = drawing.subplots(1, 2)
    for number, (method, name) in enumerate(METHODS.items()):
        rounds = [ratio(results, size, method, "forward") for size in batch_sizes]
        if None in rounds:
            continue
        colour, marks = f"C{number}", {"marker": "osD^v"[number % 5], "markersize": 4}
        medians = list(map(statistics.median, rounds))
        in_passes.plot(batch_sizes, medians, label=name, color=colour, **marks)
        low, high = list(map(min, rounds)), list(map(max, rounds))
        in_passes.fill_between(batch_sizes, low, high, color=colour, alpha=0.2, lw=0)
        an_image = [_milliseconds(results, size, method) for size in batch_sizes]
        in_time.plot(batch_sizes, an_image, color=colour, **marks)
    an_image = [_milliseconds(results, size, "forward") for size in batch_sizes]
    floor = {"color": INK, "linestyle": "--", "linewidth": 1}
    in_passes.axhline(1, label="one forward pass", **floor)
    in_time.plot(batch_sizes, an_image, **floor)
    for axis, words in (
        (in_passes, "time of a batch ÷ one forward pass of it"),
        (in_time, "milliseconds per image"),
    ):
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.set_xticks(batch_sizes, map(str, batch_sizes))
        axis.set(xlabel="batch size", ylabel=words)
        axis.grid(alpha=0.3)
    without = "" if machine["gpu"] else "\nnot measured: graph, which needs a GPU"
    lines = in_passes.get_legend_handles_labels()
    drawing.legend(*lines, loc="outside lower center", ncols=3, frameon=False)
    drawing.suptitle(
        f"Drawing grids of {sizes['top_size']}×{sizes['top_size']} and "
        f"{sizes['bottom_size']}×{sizes['bottom_size']} codes: "
        f"{sizes['hidden_channels']} channels, {sizes['num_layers']} blocks per level; "
        f"{machine['gpu'] or machine['processor']}, {machine['threads']} threads"
        f"{without}",
        fontsize=10,
    )
    return drawing


def _milliseconds(results: dict, batch_size: int, method: str) -> float:
    """Median per image, of both levels together."""
    totals = _totals(results["seconds"][str(batch_size)], method)
    return 1000 * statistics.median(totals) / batch_size


def _totals(levels: dict, method: str) -> list[float]:
    """Seconds of both levels together, one number per round."""
    rounds = zip(*(level[method] for level in levels.values()), strict=True)
    return [sum(of_levels) for of_levels in rounds]
