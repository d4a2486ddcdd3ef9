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


def ratio(results: dict, batch_size: int, one: str, other: str) -> dict | None:
    """How many times as long `one` takes as `other`, for both levels together.

    Returns:
        {"median", "low", "high"} over the rounds; None if a method was not run.
    """
    levels = results["seconds"][str(batch_size)]
    if any(name not in level for level in levels.values() for name in (one, other)):
        return None
    totals = zip(_totals(levels, one), _totals(levels, other), strict=True)
    return _spread([a / b for a, b in totals])


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
    lines = [
        "| batch size | " + " | ".join(columns) + " | cached, ms per image |",
        "|---:" * (len(columns) + 2) + "|",
    ]
    for batch_size in batch_sizes:
        cells = [str(batch_size)]
        for one, other in columns.values():
            cells.append(_cell(ratio(results, batch_size, one, other)))
        an_image = 1000 * _median(results, batch_size, "cached") / batch_size
        cells.append(f"{an_image:.1f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


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
    for batch_size, seconds in results["shares"].items():
        whole = sum(seconds.values())
        parts = (f"{name} {100 * part / whole:.0f} %" for name, part in seconds.items())
        lines.append(
            f"where cached spends its time, batch {batch_size}: " + ", ".join(parts)
        )
    for level, size in results["cache_bytes"].items():
        lines.append(
            f"caches of the {level} level at batch {size['batch_size']}: "
            f"{size['cache'] / 2**20:.1f} MiB, "
            f"{size['cache'] / size['row_of_activations']:.2f} × one row of both "
            "stacks of every layer"
        )
    if not machine["gpu"]:
        lines.append("graph: not run, since it needs a CUDA device")
    full = results["naive_in_full"]
    if full is not None:
        lines.append(
            f"naive in full, {full['batch_size']} image(s): {full['whole']:.2f} s, "
            f"{full['whole'] / full['from_passes']:.2f} × what its passes say"
        )
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
        spread = _spread([step / forward for step, forward in pairs])
        lines.append(
            f"training {name}, {training['batch_size']} images: {_cell(spread)} × one "
            "forward pass in float32"
        )
    return lines


def figure(results: dict) -> Figure:
    """Two plots over the batch size, with log axes: in forward passes, and in time."""
    batch_sizes = results["sizes"]["batch_sizes"]
    drawing = Figure(figsize=(9, 4.4), layout="constrained")
    in_passes, in_time = drawing.subplots(1, 2)
    for number, (method, name) in enumerate(METHODS.items()):
        spreads = [ratio(results, size, method, "forward") for size in batch_sizes]
        if None in spreads:
            continue
        look = {"color": f"C{number}", "marker": "o", "markersize": 4}
        medians = [spread["median"] for spread in spreads]
        in_passes.plot(batch_sizes, medians, label=name, **look)
        in_passes.fill_between(
            batch_sizes,
            [spread["low"] for spread in spreads],
            [spread["high"] for spread in spreads],
            color=look["color"],
            alpha=0.2,
            linewidth=0,
        )
        an_image = [1000 * _median(results, s, method) / s for s in batch_sizes]
        in_time.plot(batch_sizes, an_image, **look)
    an_image = [1000 * _median(results, s, "forward") / s for s in batch_sizes]
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


def _median(results: dict, batch_size: int, method: str) -> float:
    """Median of the seconds of both levels together."""
    return statistics.median(_totals(results["seconds"][str(batch_size)], method))


def _totals(levels: dict, method: str) -> list[float]:
    """Seconds of both levels together, one number per round."""
    rounds = zip(*(level[method] for level in levels.values()), strict=True)
    return [sum(of_levels) for of_levels in rounds]


def _spread(values: list[float]) -> dict[str, float]:
    return {
        "median": statistics.median(values),
        "low": min(values),
        "high": max(values),
    }


def _cell(spread: dict) -> str:
    digits = 0 if spread["median"] >= 10 else 2
    median, low, high = (
        f"{spread[name]:.{digits}f}" for name in ("median", "low", "high")
    )
    return f"{median} ({low} to {high})"
