"""Measure by what margins the notebooks' verdicts hold: `python notebooks/margins.py`.

Every number that comes from a live training run or a comparison of speeds is compared
in an `assert`, in the cell that prints it. This program runs each notebook under
several arithmetics (`arithmetic.py`) and with several seeds. The seed of a run is added
to every seed that a cell passes to `torch.manual_seed`. For each comparison `a < b`,
the program keeps the margin b - a and its share of the larger of |a| and |b|, from the
time when this share was smallest. For each cell whose output is compared, it keeps
whether the cell prints what the committed notebook has. `margins.json` holds all of
this with the processor of each run. Runs that are already in the file are not repeated.

    python notebooks/margins.py                        # all kinds, seeds 0 to 4
    python notebooks/margins.py 04 07 --kinds avx2     # two notebooks, one kind
    python notebooks/margins.py --table                # the table, from the file
"""

import argparse
import ast
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import arithmetic
import build
import nbformat

FOLDER = Path(__file__).resolve().parent
MARGINS = FOLDER / "margins.json"
SMALLER, LARGER = (ast.Lt, ast.LtE), (ast.Gt, ast.GtE)


class Recorded(ast.NodeTransformer):
    """Replaces each `assert` by calls of `_claim` with the numbers that it compares."""

    def visit_Assert(self, node: ast.Assert):
        test = node.test
        tests = (
            test.values
            if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And)
            else [test]
        )
        calls = [ast.Expr(self._claim(each)) for each in tests]
        for call in calls:
            ast.copy_location(call, node)
            ast.fix_missing_locations(call)
        return calls

    @staticmethod
    def _claim(test: ast.expr) -> ast.Call:
        operands, signs = [test], []
        if isinstance(test, ast.Compare):
            kinds = [
                1
                if isinstance(op, SMALLER)
                else -1
                if isinstance(op, LARGER)
                else 0
                for op in test.ops
            ]
            if all(kinds):
                operands, signs = [test.left, *test.comparators], kinds
        return ast.Call(
            ast.Name("_claim", ast.Load()),
            [
                ast.Constant(ast.unparse(test)),
                ast.Tuple(operands, ast.Load()),
                ast.Constant(tuple(signs)),
            ],
            [],
        )


class Claims(dict):
    """By cell and text, the run of a comparison that came closest to failing."""

    cell = ""

    def add(self, text: str, operands: tuple, signs: tuple) -> None:
        """Record one run of an `assert`; `signs` has 1 for each <, -1 for each >, and
        is empty for anything else."""
        if not signs:
            found = {"holds": bool(operands[0])}
        else:
            margins = []
            for left, right, sign in zip(
                operands, operands[1:], signs, strict=False
            ):
                left, right = float(left), float(right)
                margin, larger = (
                    sign * (right - left),
                    max(abs(left), abs(right)),
                )
                margins.append(
                    (margin / larger if larger else margin, margin)
                )
            share, margin = min(margins)
            found = {"holds": margin > 0}
            if math.isfinite(share):  # it is not if a limit is infinite
                found |= {"margin": margin, "share": share}
        key, kept = f"{self.cell}: {text}", self.get(f"{self.cell}: {text}")
        if kept is None:
            self[key] = found
        elif "share" in found and "share" in kept:
            self[key] = min(kept, found, key=lambda each: each["share"])
        elif not found["holds"]:
            self[key] = found


def run_one(source: Path, seed: int) -> dict:
    """Run a notebook in this process.

    Returns:
        Its claims, the cells that print something else than the committed notebook, and
        the error of each cell that fails.
    """
    import torch
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output

    from pixelprior.course import figures, widgets
    from pixelprior.devices import machine

    # Pictures are not compared, and take time. That each has an alt text is tested
    # with the notebooks.
    for module in (figures, widgets):
        module.show = lambda *given: None
    original = torch.manual_seed
    torch.manual_seed = lambda number: original(number + seed)
    shell, claims = InteractiveShell.instance(), Claims()
    shell.user_ns["_claim"] = claims.add
    shell.ast_transformers.append(Recorded())
    for part in (
        "write_output_prompt",
        "write_format_data",
        "finish_displayhook",
    ):
        setattr(
            shell.displayhook, part, lambda *given: None
        )  # `ran.result` has it
    notebook = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    committed = {cell.id: cell for cell in notebook.cells}
    differ, errors = [], {}
    for cell in build.unexecuted(source).cells:
        if cell.cell_type != "code":
            continue
        claims.cell = cell.id
        with capture_output() as captured:
            ran = shell.run_cell(cell.source)
        if ran.error_in_exec or ran.error_before_exec:
            errors[cell.id] = repr(ran.error_in_exec or ran.error_before_exec)
        elif "nbval-ignore-output" not in cell.metadata.get("tags", []):
            shown = [output.data for output in captured.outputs]
            if ran.result is not None:
                shown.append({"text/plain": repr(ran.result)})
            if _words(captured.stdout, shown) != _committed_words(
                committed[cell.id]
            ):
                differ.append(cell.id)
    return {
        "processor": machine("cpu")["processor"],
        "claims": claims,
        "prints_otherwise": differ,
        "errors": errors,
    }


def _words(printed: str, shown: list[dict]) -> str:
    texts = [
        data.get("text/plain", "")
        for data in shown
        if "image/png" not in data
    ]
    return "\n".join([printed, *texts]).strip()


def _committed_words(cell) -> str:
    printed = "".join(each.text for each in cell.outputs if "text" in each)
    return _words(
        printed, [each.data for each in cell.outputs if "data" in each]
    )


def start(source: Path, kind: str, seed: int) -> subprocess.Popen:
    """Start one run, in its own process and its own empty folder."""
    command = [sys.executable, __file__, source.stem, "--one", str(seed)]
    environment = arithmetic.environment(kind) | {"PIXELPRIOR_WIDGETS": "off"}
    return subprocess.Popen(
        command,
        env=environment,
        cwd=tempfile.mkdtemp(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def measure(sources: list[Path], kinds: list[str], seeds: int) -> None:
    """Run what is not in margins.json yet, as many runs side by side as there are cores
    for their threads, and write it there."""
    found = json.loads(MARGINS.read_text()) if MARGINS.exists() else {}
    waiting = [
        (source, kind, seed)
        for kind in kinds
        for seed in range(seeds)
        for source in sources
        if str(seed) not in found.get(source.stem, {}).get(kind, {})
    ]
    for kind in {kind for _, kind, _ in waiting}:
        if problems := arithmetic.not_active(kind, arithmetic.active(kind)):
            sys.exit("; ".join(problems))
    running: dict[tuple, subprocess.Popen] = {}
    while waiting or running:
        while waiting and len(running) < arithmetic.processes(waiting[0][1]):
            run = waiting.pop(0)
            running[run] = start(*run)
        time.sleep(0.5)
        for key in [
            key for key, run in running.items() if run.poll() is not None
        ]:
            source, kind, seed = key
            printed, said = running.pop(key).communicate()
            try:
                run = json.loads(printed.splitlines()[-1])
            except (IndexError, ValueError):
                sys.exit(
                    f"{source.stem} under {kind}, seed {seed} failed: {said}"
                )
            found.setdefault(source.stem, {}).setdefault(kind, {})[
                str(seed)
            ] = run
            text = json.dumps(found, indent=1, sort_keys=True) + "\n"
            build.write(MARGINS, text.encode())
            failed = [
                k for k, claim in run["claims"].items() if not claim["holds"]
            ]
            print(
                f"{source.stem}, {kind}, seed {seed}: {len(run['claims'])} claims,"
            )
            for name, each in (
                ("do not hold", failed),
                ("printed otherwise", run["prints_otherwise"]),
                ("errors", run["errors"]),
            ):
                print(f"  {name}: {each or 'none'}", flush=True)


def table(found: dict) -> str:
    """For each comparison, its smallest margin over all runs, as a Markdown table."""
    lines = ["| cell | claim | runs | smallest margin | as a share | where |"]
    lines.append("|---|---|---:|---:|---:|---|")
    for kinds in found.values():
        runs = {
            (kind, seed): run
            for kind, by_seed in kinds.items()
            for seed, run in by_seed.items()
        }
        for key in dict.fromkeys(
            k for run in runs.values() for k in run["claims"]
        ):
            having = {
                w: r["claims"][key]
                for w, r in runs.items()
                if key in r["claims"]
            }
            if not all("share" in claim for claim in having.values()):
                continue
            where, least = min(
                having.items(), key=lambda item: item[1]["share"]
            )
            cell, text = key.split(": ", 1)
            lines.append(
                f"| {cell} | `{text.replace('|', '∣')}` | {len(having)} | "
                f"{least['margin']:.3g} | {least['share']:.1%} | "
                f"{where[0]}, seed {where[1]}, {runs[where]['processor']} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Measure the margins, or print their table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "names", nargs="*", help="notebooks, such as 02; all without"
    )
    parser.add_argument(
        "--kinds",
        nargs="+",
        choices=arithmetic.KINDS,
        default=list(arithmetic.KINDS),
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--table", action="store_true", help="of what is in the file"
    )
    parser.add_argument(
        "--one", type=int, metavar="SEED", help="one run, as JSON"
    )
    arguments = parser.parse_args()
    chosen = [
        source
        for source in build.sources()
        if not arguments.names
        or source.name.startswith(tuple(arguments.names))
    ]
    if arguments.table:
        print(table(json.loads(MARGINS.read_text())))
    elif arguments.one is not None:
        print(json.dumps(run_one(chosen[0], arguments.one)))
    else:
        measure(chosen, arguments.kinds, arguments.seeds)


if __name__ == "__main__":
    main()
