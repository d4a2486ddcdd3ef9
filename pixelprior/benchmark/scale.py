"""What `tools/try_scale.py` measured, in words, as in `docs/performance.md`."""

import statistics

GIB, GB = 2**30, 1e9
STAGES = {"vqvae2": "VQ-VAE-2", "prior": "prior"}
# Of each parameter: weights, gradients, two moments, averaged and best weights; on disk
# `last` with its state, and `best`.
BYTES_IN_MEMORY, BYTES_ON_DISK = 24, 20


def scale_markdown(results: dict) -> str:
    """A table of training in memory and beyond it, and a line for each other part."""
    inside, beyond = results["without_limit"], results["under_the_limit"]
    kinds = [
        "in memory" if each["in_memory"] else "as a stream" for each in (inside, beyond)
    ]
    limit = f"{results['limit_bytes'] / GIB:.1f} GiB"
    lines = [
        f"|  | {kinds[0]}, no limit | {kinds[1]}, limit {limit} |",
        "|---|---:|---:|",
    ]
    rows = []
    for stage, words in STAGES.items():
        one, other = inside[stage], beyond[stage]
        speeds = [each["steps_per_second"] for each in (one, other)]
        share = statistics.median(speeds[1]) / statistics.median(speeds[0])
        cells = [
            f"{statistics.median(each):.2f} ({min(each):.2f} to {max(each):.2f})"
            for each in speeds
        ]
        rows.append((f"{words}: steps per second", cells[0], cells[1]))
        rows.append((f"{words}: share of the speed", "", f"{100 * share:.1f} %"))
        rows.append(
            (
                f"{words}: mean loss of all steps",
                f"{one['train_total_loss']:.7f}",
                f"{other['train_total_loss']:.7f}",
            )
        )
    for name, words in (
        ("seconds_to_load", "seconds to decode all images once"),
        ("seconds_to_extract", "seconds to extract all codes"),
    ):
        rows.append((words, f"{inside[name]:.0f}", f"{beyond[name]:.0f}"))
    highest = "highest_resident_bytes"
    rows.append(
        (
            "highest resident memory, GiB",
            f"{inside[highest] / GIB:.2f}",
            f"{beyond[highest] / GIB:.2f}",
        )
    )
    same = inside["codes_sha256"] == beyond["codes_sha256"]
    rows.append(("the file of codes", "", "the same bytes" if same else "other bytes"))
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, "", *(f"- {line}" for line in _others(results))])


def _others(results: dict) -> list[str]:
    inside, machine = results["without_limit"], results["machine"]
    killed, alone, two = (
        results[name] for name in ("killed_extraction", "one_process", "two_processes")
    )
    same = killed["codes_sha256"] == results["under_the_limit"]["codes_sha256"]
    large = results["large_images"]
    cached, forward = (statistics.median(large[name]) for name in ("cached", "forward"))
    (top, _), (bottom, _) = large["grids"]
    grown = large["highest_resident_bytes"] - large["resident_bytes_before"]
    return [
        f"{inside['images']:,} JPEG images of {results['side']}×{results['side']}, "
        f"{inside['bytes_decoded'] / GIB:.1f} GiB when decoded; "
        f"{results['steps']} steps of each training, the same images in the same order",
        f"machine: {machine['processor']}, {machine['threads']} threads, "
        f"{machine['gpu'] or 'no GPU'}; torch {machine['torch']}",
        f"extraction killed {killed['kills']} times at random, with "
        f"{', '.join(map(str, killed['parts_done_after_each']))} parts done: it ended "
        f"with {'the same' if same else 'other'} bytes",
        f"two processes (threads in each: {two['threads_per_process']}) against one "
        f"(threads: {alone['threads_per_process']}), 32 images per step: held-out loss "
        f"{two['heldout_total_loss']:.6f} against "
        f"{alone['heldout_total_loss']:.6f}, "
        f"{two['highest_resident_bytes'] / alone['highest_resident_bytes']:.2f} × the "
        f"memory per process, "
        f"{two['steps_per_second'] / alone['steps_per_second']:.2f} × the steps per "
        "second",
        f"{large['batch_size']} images of grids {top}×{top} and {bottom}×{bottom} "
        f"({large['hidden_channels']} channels, {large['num_layers']} blocks): cached "
        f"takes {cached / forward:.2f} forward passes of the batch, {cached:.0f} s; "
        f"naive, by the passes that it would need, {large['naive'] / cached:,.0f} "
        f"times as long; cached adds {grown / GIB:.2f} GiB to the process's memory",
        _steps(results["memory_of_a_step"]),
    ]


def _steps(found: list[dict]) -> str:
    words = ", ".join(
        f"{each['bytes_per_image'] / 1e6:.3g} MB ({STAGES[each['stage']]}, "
        f"{each['side']}×{each['side']})"
        for each in found
    )
    return f"a training step in float32, per image of its batch: {words}"


def needs_markdown(results: dict) -> str:
    """What two runs with models of the default size need, as in `docs/scale.md`.

    The first is of 50,000 images of 32×32 in one process, with grids of 8×8 and 16×16;
    the second of a million images of 256×256 on eight GPUs, of which each has a process
    of its own, with grids of 32×32 and 64×64.
    """
    found, large = results["memory_of_a_step"], results["large_images"]
    steps = {(each["stage"], each["side"]): each for each in found}
    # Side of the images, how many, codes of each, and the batches of both stages.
    runs = [
        {"side": 32, "count": 50_000, "codes": 320, "vqvae2": 128, "prior": 128},
        {"side": 256, "count": 1_000_000, "codes": 5120, "vqvae2": 16, "prior": 32},
    ]
    images = 3 * runs[0]["side"] ** 2 * runs[0]["count"] / GB
    rows = [["memory: images (computed)", f"{images:.2f} GB", "a stream"]]
    kept = [0.0, 0.0]  # on disk, for each of the two runs
    for stage, words in STAGES.items():
        models = [steps[stage, run["side"]] for run in runs]
        counts = [f"{each['parameters'] / 1e6:.1f}" for each in models]
        million = " and ".join(dict.fromkeys(counts))
        weights = [BYTES_IN_MEMORY * each["parameters"] / GB for each in models]
        batches = [
            f"{run[stage]} images: {run[stage] * each['bytes_per_image'] / GB:.1f} GB"
            for run, each in zip(runs, models, strict=True)
        ]
        about = f"memory: {words}, {million} million parameters (computed)"
        rows.append([about, *(f"{each:.2f} GB" for each in weights)])
        rows.append(
            ["memory: a batch of its training (from a measured slope)", *batches]
        )
        for number, each in enumerate(models):
            kept[number] += BYTES_ON_DISK * each["parameters"] / GB
    drawn = large["highest_resident_bytes"] - large["resident_bytes_before"]
    drawn *= 256 / large["batch_size"] / GB
    codes = [2 * run["count"] * run["codes"] / GB for run in runs]
    rows += [
        [
            "memory: drawing codes (from a measured batch)",
            "",
            f"256 images: {drawn:.1f} GB",
        ],
        ["disk: codes (computed)", *(f"{each:.2f} GB" for each in codes)],
        [
            "disk: `last` and `best` of both (computed)",
            *(f"{each:.2f} GB" for each in kept),
        ],
    ]
    lines = [
        "|  | 50,000 of 32×32, one process | 1,000,000 of 256×256, each of 8 GPUs |",
        "|---|---:|---:|",
    ]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])
