"""The files that the `try_*.py` wrote, as the tables in docs/."""

import math
import statistics

from pixelprior.benchmark.report import markdown_table
from pixelprior.evaluation.detectors import detection_table, plus_minus


def tried_table(tried: dict) -> str:
    """What was tried to lower the loss, in Markdown, best first by the mean difference
    to the base from the same seeds.

    Args:
        tried: what `tools/try_options.py` wrote.

    Raises:
        ValueError: an option has a seed that the base has not.
    """
    of = _by_option(tried)

    def mean(name: str, figure: str) -> float:
        return statistics.fmean(run[figure] for run in of[name])

    by_seed = {run["seed"]: run["nats_per_image"] for run in of["base"]}

    def against_base(name: str) -> float:
        missing = {run["seed"] for run in of[name]} - by_seed.keys()
        if missing:
            raise ValueError(
                f"the option {name!r} was tried with seeds {sorted(missing)}, but the "
                "base was not; try the base with them too"
            )
        return statistics.fmean(
            run["nats_per_image"] - by_seed[run["seed"]] for run in of[name]
        )

    lines = [
        "| changed | nats per image | by seed | against the base | top | bottom | "
        "steps |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name in sorted(of, key=against_base):
        words = "nothing: the base" if name == "base" else name
        nats = mean(name, "nats_per_image")
        each = ", ".join(f"{run['nats_per_image']:.1f}" for run in of[name])
        lines.append(
            f"| {words} | {nats:.1f} | {each} | {against_base(name):+.1f} | "
            f"{mean(name, 'top'):.3f} | {mean(name, 'bottom'):.3f} | "
            f"{of[name][0]['steps']:,} |"
        )
    return "\n".join(lines)


def codes_table(tried: dict) -> str:
    """What images lose in other codes, and what these cost, fewest nats first.

    Args:
        tried: what `tools/try_codes.py` wrote.
    """
    lines = [
        "| changed | nats per image, by seed | mean squared error, by seed | Fréchet "
        "distance of reconstructions | top: nats per code, unigram | bottom: nats per "
        "code, unigram | codes in use, % | steps |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]

    def nats(runs: list[dict]) -> float:
        return statistics.fmean(run["nats_per_image"] for run in runs)

    of = _by_option(tried)
    for name in sorted(of, key=lambda name: nats(of[name])):
        runs = of[name]
        distances = [run["frechet_of_reconstructions"] for run in runs]
        used = min(use["share_in_use"] for run in runs for use in run["codes"].values())
        cells = [
            "nothing: the base" if name == "base" else name,
            ", ".join(f"{run['nats_per_image']:.1f}" for run in runs),
            ", ".join(f"{run['mean_squared_error']:.5f}" for run in runs),
            "" if None in distances else ", ".join(f"{each:.2f}" for each in distances),
        ]
        for level in ("top", "bottom"):
            per_code = statistics.fmean(run[level] for run in runs)
            unigram = statistics.fmean(_unigram(run, level) for run in runs)
            cells.append(f"{per_code:.2f}, {unigram:.2f}")
        cells += [f"{100 * used:.0f}", f"{runs[0]['steps']:,}"]
        lines.append("".join(f"| {cell} " if cell else "| " for cell in cells) + "|")
    return "\n".join(lines)


def tokenizers_table(tried: dict) -> str:
    """What a small prior draws over the codes of several tokenizers, in Markdown.

    Args:
        tried: of each tokenizer, what `tools/try_options.py --samples` wrote.
    """
    lines = [
        "| tokenizer | mean squared error | Fréchet distance: reconstructions | "
        "samples | guided samples | of another class, %: reconstructions | samples | "
        "guided samples | nats per image |",
        "|---" + "|---:" * 8 + "|",
    ]
    sets = ("reconstructions", "samples", "guided_samples")
    for name, runs in _by_option(tried).items():
        cells = [[f"{run['mean_squared_error']:.5f}" for run in runs]]
        cells += [[f"{run[each]['frechet']:.2f}" for run in runs] for each in sets]
        for each in sets:
            shares = [100 * run[each]["of_another_class"] for run in runs]
            cells.append([f"{share:.1f}" for share in shares])
        cells.append([f"{run['nats_per_image']:.0f}" for run in runs])
        lines.append(f"| {name} | {' | '.join(', '.join(each) for each in cells)} |")
    return "\n".join(lines)


def one_class_table(results: dict, suffix: str = "") -> str:
    """The area under the ROC curve by the class that is normal, and the mean over those
    that were measured, in Markdown.

    Args:
        results: what `tools/try_anomalies.py` wrote. suffix: of the keys of a data set.
    """
    means = results["mean_roc_auc" + suffix]
    rows = {
        each["class"]: [each["methods"][name]["roc_auc"]["value"] for name in means]
        for each in results["one_class" + suffix]
    }
    rows["mean"] = list(means.values())
    lines = [f"| normal | {' | '.join(means)} |", "|---" + "|---:" * len(means) + "|"]
    for name, areas in rows.items():
        lines.append(f"| {name} | {' | '.join(f'{area:.3f}' for area in areas)} |")
    return "\n".join(lines)


def defects_markdown(results: dict) -> str:
    """What `evaluate_defects` of `try_anomalies.py` returns, in Markdown."""
    many, lines = results["false_alarms_over_divisions"], [detection_table(results)]
    for rate, each in results["false_alarms"].items():
        share = plus_minus(each, 1, unit=100)
        lines.append(f"- false alarms at a rate of {100 * float(rate):g} %: {share} %")
    for rate, each in many["rates"].items():
        lines.append(
            f"- over {many['divisions']} divisions of the images to calibrate on, on "
            f"{many['images']:,} normal images, the mean of the false alarms at a rate "
            f"of {100 * float(rate):g} %: {plus_minus(each, 2, unit=100)} %; 95 % of "
            f"the divisions have {100 * each['lowest']:.1f} to "
            f"{100 * each['highest']:.1f} %"
        )
    lines.append(
        f"- calibrated on {results['images']['calibration']:,} normal images in "
        f"{results['seconds_of_calibration']:.0f} s; "
        f"{results['milliseconds_per_image']:.0f} ms per image, with "
        f"{results['draws']} restorations\n"
    )
    columns = ["kind of defect (ROC by image, by pixel)", *results["methods"]]
    rows = [
        [
            kind,
            *(", ".join(f"{area:.3f}" for area in of.values()) for of in each.values()),
        ]
        for kind, each in results["by_kind"].items()
    ]
    return "\n".join([*lines, markdown_table(columns, rows)])


def _by_option(tried: dict) -> dict[str, list[dict]]:
    """The trainings of each option, in the order in which they were tried."""
    of: dict[str, list[dict]] = {}
    for run in tried["tried"]:
        of.setdefault(run["option"], []).append(run)
    return of


def _unigram(run: dict, level: str) -> float:
    """The unigram entropy of held-out codes, in nats per code."""
    return math.log(run["codes"][level]["perplexity"])
