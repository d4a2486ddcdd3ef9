"""How the results of `sampling.py` are shown: as ratios, in a table and in a plot.

A ratio is taken within a round, for both levels together. Its median over the rounds is
given, with the lowest and the highest ratio beside it.
"""

import statistics

from matplotlib.figure import Figure

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
    if any(name not in level for level in levels.values() for name in (one, other)):
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
    head = "|".join(["", first, *["---:"] * (len(columns) - 1), ""])
    lines = [columns, *rows]
    bodies = [
        "".join(f"| {cell} " if cell else "| " for cell in each) for each in lines
    ]
    return "\n".join([bodies[0] + "|", head, *(body + "|" for body in bodies[1:])])


def markdown(results: dict) -> str:
    """All results in words, as in `benchmark.md` and `docs/performance.md`."""
    return "\n".join([table(results), "", *(f"- {line}" for line in summary(results))])


def table(results: dict) -> str:
    """The ratios in Markdown, one line per batch size: median (lowest to highest)."""
    batch_sizes = results["sizes"]["batch_sizes"]
    columns = {
        "naive ÷ cached": ("naive", "cached"),
        "rows ÷ cached": ("rows", "cached"),
        "cached ÷ one forward pass": ("cached", "forward"),
        "cached ÷ cached in bf16": ("cached", "cached bf16"),
        "cached ÷ graph": ("cached", "graph"),
    }
    columns = {
        name: pair
        for name, pair in columns.items()
        if ratio(results, batch_sizes[0], *pair) is not None
    }
    rows = []
    for size in batch_sizes:
        cells = [
            rounds_in_words(ratio(results, size, *pair)) for pair in columns.values()
        ]
        an_image = _milliseconds(results, size, "cached")
        rows.append([str(size), *cells, f"{an_image:.1f}"])
    names = ["batch size", *columns, "cached, ms per image"]
    return markdown_table(names, rows, first="---:")


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
    batch_sizes = results["sizes"]["batch_sizes"]
    drawing = Figure(figsize=(9, 4.4), layout="constrained")
    in_passes, in_time = drawing.subplots(1, 2)
    for number, (method, name) in enumerate(METHODS.items()):
        rounds = [ratio(results, size, method, "forward") for size in batch_sizes]
        if None in rounds:
            continue
        look = {"color": f"C{number}", "marker": "o", "markersize": 4}
        medians = [statistics.median(each) for each in rounds]
        in_passes.plot(batch_sizes, medians, label=name, **look)
        low, high = ([of(each) for each in rounds] for of in (min, max))
        band = {"color": look["color"], "alpha": 0.2, "linewidth": 0}
        in_passes.fill_between(batch_sizes, low, high, **band)
        an_image = [_milliseconds(results, size, method) for size in batch_sizes]
        in_time.plot(batch_sizes, an_image, **look)
    an_image = [_milliseconds(results, size, "forward") for size in batch_sizes]
    floor = {"color": INK, "linestyle": "--", "linewidth": 1}
    in_passes.axhline(1, label="one forward pass", **floor)
    in_time.plot(batch_sizes, an_image, **floor)
    in_passes.set_ylabel("time of a batch ÷ one forward pass of it")
    in_time.set_ylabel("milliseconds per image")
    for axis in (in_passes, in_time):
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.set_xticks(batch_sizes, map(str, batch_sizes))
        axis.set_xlabel("batch size")
        axis.grid(alpha=0.3)
    sizes, machine = results["sizes"], results["machine"]
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
