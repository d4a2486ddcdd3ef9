"""What was tried, as tables in Markdown: the files that the scripts in tools/ wrote."""

import math
import statistics
from difflib import SequenceMatcher


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


def hostile_table(results: dict) -> str:
    """How files that are damaged or made to harm were read, kind by kind.

    Args:
        results: what `tools/try_hostile.py` wrote.
    """
    lines = [
        "| what | inputs | loaded | clear error | failed |",
        "|---|---:|---:|---:|---:|",
    ]
    outcomes = ("loaded", "clear error", "FAILED")
    for kind in results["kinds"].values():
        counts = [kind[outcome] for outcome in outcomes]
        cells = [kind["what"], *(f"{each:,}" for each in (sum(counts), *counts))]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def overview_table(results: dict[str, dict]) -> str:
    """What was tried against faults, how often, and what came of it, in Markdown.

    Args:
        results: "faults", "hostile", "soak" and "mutants", each what the script
            tools/try_*.py of this name wrote.
    """
    jobs, disks = (results["faults"][name].values() for name in ("jobs", "disks"))
    hostile, soak = results["hostile"], results["soak"]
    modules = results["mutants"]["modules"].values()
    grown = [
        job["growth"] > soak["flat"]
        or job["descriptors"][1] > job["descriptors"][0]
        or bool(job["files"])
        for job in soak["jobs"].values()
    ]

    def total(some, figure: str) -> int:
        return sum(each[figure] for each in some)

    killed = total(jobs, "kills"), total(jobs, "lost_times")
    failing = total(disks, "faults"), total(disks, "lost_times")
    read = hostile["inputs"], total(hostile["kinds"].values(), "FAILED")
    left = sum(len(each["survivors"]) for each in modules)
    changed = "the package is changed in one place, and the tests should notice"
    rows = [
        ("work is killed (SIGKILL)", *killed, "faults"),
        ("a disk is full, or turns read-only", *failing, "faults"),
        ("a file is read that may be damaged or made to harm", *read, "hostile"),
        ("a kind of work goes on for long", len(grown), sum(grown), "soak"),
        (changed, total(modules, "mutants"), left, "mutants"),
    ]
    lines = [
        "| what happens | times | ended as it should | did not | command |",
        "|---|---:|---:|---:|---|",
    ]
    for what, times, lost, name in rows:
        lines.append(
            f"| {what} | {times:,} | {times - lost:,} | {lost:,} | "
            f"`python tools/try_{name}.py {name}.json` |"
        )
    return "\n".join(lines)


def faults_table(results: dict) -> str:
    """What was lost when each kind of work was killed or had its disk taken away.

    Args:
        results: what `tools/try_faults.py` wrote.
    """
    lines = [
        "| what | fault | times | went on to the same files | lost |",
        "|---|---|---:|---:|---:|",
    ]
    rows = [
        (
            job,
            "kills",
            f"killed, {job['at_a_step']} of them at a step that opens or changes files",
        )
        for job in results["jobs"].values()
    ]
    for job in results["disks"].values():
        rows.append((job, "faults", f"a disk that {job['fault']}"))
    for job, count, fault in rows:
        cells = job[count], job[count] - job["lost_times"], job["lost_times"]
        lines.append(f"| {job['what']} | {fault} | {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def soak_table(results: dict) -> str:
    """What an hour of each kind of work keeps, in Markdown.

    Args:
        results: what `tools/try_soak.py` wrote.
    """
    lines = [
        "| what | minutes | times | memory in the second quarter, MB | in the last "
        "| change | open descriptors | files too many or missing |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for job in results["jobs"].values():
        early, late = job["megabytes"]
        cells = [
            job["what"],
            f"{job['seconds'] / 60:.0f}",
            f"{job['times']:,}",
            f"{early:,.0f}",
            f"{late:,.0f}",
            f"{100 * job['growth']:+.1f} %",
            ", ".join(f"{each:g}" for each in job["descriptors"]),
            f"{len(job['files'])}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def mutants_table(results: dict) -> str:
    """How many changes of each module the tests notice, in Markdown.

    Args:
        results: what `tools/try_mutants.py` wrote.
    """
    lines = [
        "| module | changes | noticed | share | not noticed | of these judged |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    modules = results["modules"]
    counts = {
        f"`{name}.py`": (
            found["mutants"],
            len(found["survivors"]),
            _judged(results, name),
        )
        for name, found in modules.items()
        if "survivors" in found  # all of its changes were tried
    }
    counts["all"] = tuple(map(sum, zip((0, 0, 0), *counts.values(), strict=True)))
    for name, (tried, left, judged) in counts.items():
        # Rounded down: 100 % is all of them.
        share = math.floor(1000 * (tried - left) / max(tried, 1)) / 10
        noticed = f"{tried:,} | {tried - left:,} | {share:.1f} %"
        lines.append(f"| {name} | {noticed} | {left} | {judged} |")
    return "\n".join(lines)


def survivors_table(results: dict) -> str:
    """Each change that no test notices, and why it is no gap of the tests, in Markdown.

    Args:
        results: what `tools/try_mutants.py` wrote.
    """
    lines = [
        "| where | the line | becomes | why no test notices it |",
        "|---|---|---|---|",
    ]
    for found in results["modules"].values():
        for each in sorted(found.get("survivors", ()), key=lambda each: each["line"]):
            where, change = each["key"].split(": ", 1)
            # The line before and after, each with as many arrows of its own.
            parts = change.split(" -> ")
            half = len(parts) // 2
            line, changed = (
                " -> ".join(p).split() for p in (parts[:half], parts[half:])
            )
            cells = " ".join(line), " ".join(_words_that_differ(line, changed))
            code = " | ".join(_as_code(cell) if cell else "removed" for cell in cells)
            why = results["judged"][each["key"]]
            lines.append(f"| `{where}` | {code} | {why} |")
    return "\n".join(lines)


def _as_code(text: str) -> str:
    """Text as code in a cell of a table."""
    fence, space = ("``", " ") if "`" in text else ("`", "")
    return f"{fence}{space}{text}{space}{fence}".replace("|", r"\|")


def _words_that_differ(line: list[str], changed: list[str]) -> list[str]:
    """The words of the changed line from the first to the last that differ, and one on
    each side."""
    parts = SequenceMatcher(None, line, changed, autojunk=False).get_opcodes()
    places = [
        at for kind, *_, start, end in parts if kind != "equal" for at in (start, end)
    ]
    return changed[max(0, min(places) - 1) : max(places) + 1]


def one_class_table(results: dict) -> str:
    """The area under the ROC curve by the class that is normal, and the mean over those
    that were measured, in Markdown.

    Args:
        results: what `tools/try_anomalies.py` wrote.
    """
    means = results["mean_roc_auc"]
    rows = {
        each["class"]: [each["methods"][name]["roc_auc"]["value"] for name in means]
        for each in results["one_class"]
    }
    rows["mean"] = list(means.values())
    lines = [f"| normal | {' | '.join(means)} |", "|---" + "|---:" * len(means) + "|"]
    for name, areas in rows.items():
        lines.append(f"| {name} | {' | '.join(f'{area:.3f}' for area in areas)} |")
    return "\n".join(lines)


def _judged(results: dict, module: str) -> int:
    """How many survivors of a module have a reason why they are no gap."""
    return sum(
        bool(results["judged"][each["key"]])
        for each in results["modules"][module]["survivors"]
    )


def _by_option(tried: dict) -> dict[str, list[dict]]:
    """The trainings of each option, in the order in which they were tried."""
    of: dict[str, list[dict]] = {}
    for run in tried["tried"]:
        of.setdefault(run["option"], []).append(run)
    return of


def _unigram(run: dict, level: str) -> float:
    """The unigram entropy of held-out codes, in nats per code."""
    return math.log(run["codes"][level]["perplexity"])


def seeds_table(seeds: dict) -> str:
    """Whether small priors learn from every seed, in Markdown.

    Args:
        seeds: what `tools/try_seeds.py` wrote.
    """
    lines = [
        "| channels | blocks | design | seeds | stuck | "
        "top: worst seed, unigram | bottom: worst seed, unigram |",
        "|---:|---:|---|---:|---:|---:|---:|",
    ]
    rows = sorted(
        seeds["rows"],
        key=lambda row: (row["channels"], row["blocks"], not row["first_design"]),
    )
    for row in rows:
        worst = (
            f"{max(row['nats_per_code'][level]):.2f}, {unigram:.2f}"
            for level, unigram in seeds["unigram_entropy"].items()
        )
        design = "the first" if row["first_design"] else "today's"
        lines.append(
            f"| {row['channels']} | {row['blocks']} | {design} | "
            f"{len(row['nats_per_code']['top'])} | {sum(row['stuck'].values())} | "
            f"{' | '.join(worst)} |"
        )
    return "\n".join(lines)
