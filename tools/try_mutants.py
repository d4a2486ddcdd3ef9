"""Change the package in one place at a time, and see whether the tests notice it.

Run `python tools/try_mutants.py FILE.json` on Linux or macOS; it takes hours, and goes
on where FILE.json ends: a module that is there with the same source is not tried again.
Cosmic Ray (`pip install cosmic-ray`) knows the changes: a number one higher or lower,
`<` in place of `<=`, no `not`, no loop, and so on. A change that no test notices, a
survivor, is either a gap of the tests or no change of what the module does; FILE.json
has each with its lines, and what was judged about it is kept when the command is run
again.

Left out are changes that say nothing about the tests: of annotations, of an arithmetic
operator into one for bits, powers or remainders (most are type errors), of `==` into
`is`, and what is not Python. Cosmic Ray's own command would start Python anew for each
change, which takes longer than most tests; here a process that has imported the
libraries is forked.
"""

import argparse
import ast
import contextlib
import hashlib
import importlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

from pixelprior.files import write_texts

ROOT = Path(__file__).parents[1]
# The tests that a change of each module has to pass, those that notice most first.
TESTS = {
    "layers": "layers pixelcnn depth extremes guidance sampling",
    "cache": "sampling extremes guidance distribution editing",
    "pixelcnn": "pixelcnn layers guidance depth extremes sampling checkpoints",
    "conditional": "pixelcnn layers depth guidance sampling checkpoints",
    "prior": "pixelcnn guidance drawing sampling distribution editing checkpoints",
    "drawing": "drawing sampling guidance distribution editing tokenizers",
    "sampling": "sampling guidance extremes distribution editing",
    "quantizer": "vqvae2",
    "vqvae2": "vqvae2 checkpoints tokenizers",
    "checkpoints": "checkpoints vqvae2 training",
    "editing": "editing guidance",
    "training": "modes training",
    "training_run": "training",
}
IDENTITY = "Eq_Is", "Eq_IsNot"  # of NotEq too; `is` compares small numbers like `==`
ARITHMETIC = {"Add", "Sub", "Mul", "Div", "FloorDiv"}
SECONDS_AT_LEAST = 60  # for the tests of one change; more where they take long


@dataclass(frozen=True)
class Mutant:
    """A module with one change.

    Attributes:
        name: operator of Cosmic Ray and its occurrence in the module.
        line: number of the line that is changed.
        definition: the function or class around it.
        source: the whole module, changed.
    """

    name: str
    line: int
    definition: str
    source: str


def annotations(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """First and last position (line, column) of each annotation."""
    found = []
    for node in ast.walk(ast.parse(source)):
        for each in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if isinstance(each, ast.expr):
                start = each.lineno, each.col_offset
                found.append((start, (each.end_lineno, each.end_col_offset)))
    return found


def stars(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Where a `*` alone divides parameters; Cosmic Ray takes it for a product."""
    return [
        ((number, line.index("*")), (number, line.index("*") + 1))
        for number, line in enumerate(source.splitlines(), 1)
        if line.strip() == "*," or "(*, " in line or ", *, " in line
    ]


def is_worth_a_try(operator: str) -> bool:
    """Whether a change by this operator can say something about the tests."""
    if "ReplaceBinaryOperator" not in operator:
        return not operator.endswith(("NoOp", *IDENTITY))
    _, old, new = operator.rsplit("_", 2)
    if {old, new} <= {"BitOr", "BitAnd"}:
        return True
    return new in ARITHMETIC and old not in {"BitOr", "BitAnd", "BitXor"}


def mutants(source: str) -> Iterator[Mutant]:
    """All changes of a module that are worth a try, each once."""
    left_out, seen = annotations(source) + stars(source), {source}
    nodes = list(ast_nodes(get_ast(source)))
    for name in filter(is_worth_a_try, operator_names()):
        operator_class = get_operator(name)
        if operator_class.arguments():
            continue
        operator = operator_class()
        places = [start for n in nodes for start, _ in operator.mutation_positions(n)]
        for occurrence, place in enumerate(places):
            if any(first <= place < last for first, last in left_out):
                continue
            changed = mutate_code(source, operator, occurrence)
            if changed is None or changed in seen or not is_python(changed):
                continue
            seen.add(changed)
            definition = definition_at(source, place[0])
            short = f"{name.split('/')[-1]} {occurrence}"
            yield Mutant(short, place[0], definition, changed)


def is_python(source: str) -> bool:
    try:
        ast.parse(source)
    except SyntaxError:
        return False
    return True


def definition_at(source: str, line: int) -> str:
    """Dotted name of the innermost function or class around a line."""
    around = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and node.lineno <= line <= node.end_lineno
    ]
    return ".".join(node.name for node in sorted(around, key=lambda n: n.lineno))


class Workplace:
    """A copy of the checkout in which the tests of one change after another run."""

    def __init__(self, folder: Path):
        self.folder = folder
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        )
        for name in listed.stdout.decode().split("\0"):
            if name and (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, folder / name)
        os.chdir(folder)
        os.environ["PYTHONPATH"] = str(folder)
        sys.path[:0] = [str(folder), str(folder / "tools")]
        for name in ("pixelprior.cli", "pixelprior.assets", "pytest", "hypothesis"):
            importlib.import_module(name)
        # The libraries stay; the package itself is read anew in each process.
        for name in [
            name for name in sys.modules if name.split(".")[0] == "pixelprior"
        ]:
            del sys.modules[name]

    def passes(self, module: str, source: str, seconds: float) -> bool:
        """Whether the tests of a module pass with this source in its place."""
        path = self.folder / "pixelprior" / f"{module}.py"
        whole = path.read_text(encoding="utf-8")
        path.write_text(source, encoding="utf-8")
        for compiled in path.parent.glob(f"__pycache__/{module}.*.pyc"):
            compiled.unlink()
        try:
            child = os.fork()
            if child == 0:
                self.run_tests(module)
            return waited_for(child, seconds) == 0
        finally:
            path.write_text(whole, encoding="utf-8")

    def run_tests(self, module: str) -> None:
        """Run the tests in this process, quietly, and end it with their outcome."""
        os.setsid()
        quiet = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(quiet, stream)
        code = 1
        try:
            import pytest

            files = [f"tests/test_{name}.py" for name in TESTS[module].split()]
            plugins = [f for name in ("nbval", "xdist") for f in ("-p", f"no:{name}")]
            only = ["-p", "no:cacheprovider", "-o", "addopts=", "-x", "-q"]
            code = int(pytest.main([*only, *plugins, *files]))
        finally:
            os._exit(code)


def waited_for(child: int, seconds: float) -> int:
    """The exit code of a process, which is killed with all it started in the end."""
    until = time.monotonic() + seconds
    code = None
    while code is None and time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
        else:
            time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if code is None:
        os.waitpid(child, 0)
    return 1 if code is None else code


def prepare(folder: str) -> None:
    global PLACE
    PLACE = Workplace(Path(tempfile.mkdtemp(dir=folder)))


def survives(task: tuple[str, str, float]) -> bool:
    return PLACE.passes(*task)


def changed_lines(source: str, changed: str) -> dict[str, str]:
    """The lines before and after a change, without what they share."""
    old, new = source.splitlines(), changed.splitlines()
    while old and new and old[-1] == new[-1]:
        old, new = old[:-1], new[:-1]
    while old and new and old[0] == new[0]:
        old, new = old[1:], new[1:]
    return {"was": "\n".join(old).strip(), "became": "\n".join(new).strip()}


def judgements(results: dict) -> dict[tuple, str]:
    """What was judged about survivors, by the module, the place and the change."""
    return {
        (module, each["definition"], each["was"], each["became"]): each["judged"]
        for module, found in results["modules"].items()
        for each in found["survivors"]
        if each["judged"]
    }


def try_module(module: str, pool, share: int) -> dict:
    """Try every change of a module, or each `share`-th; what was found about it."""
    source = (ROOT / "pixelprior" / f"{module}.py").read_text(encoding="utf-8")
    started = time.monotonic()
    if not pool.apply(survives, ((module, source, 3600.0),)):
        raise SystemExit(
            f"the tests of {module} fail without a change, or no process could run "
            f"them; run them: pytest {TESTS[module]}"
        )
    seconds = max(SECONDS_AT_LEAST, 4 * (time.monotonic() - started))
    tried = list(mutants(source))[::share]
    tasks = [(module, mutant.source, seconds) for mutant in tried]
    survivors = [
        {"name": mutant.name, "line": mutant.line, "definition": mutant.definition}
        | changed_lines(source, mutant.source)
        | {"judged": ""}
        for mutant, survived in zip(tried, pool.imap(survives, tasks), strict=True)
        if survived
    ]
    return {
        "sha256": hashlib.sha256(source.encode()).hexdigest(),
        "share": share,
        "mutants": len(tried),
        "killed": len(tried) - len(survivors),
        "minutes": round((time.monotonic() - started) / 60, 1),
        "survivors": survivors,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--modules", nargs="*", default=list(TESTS), choices=TESTS)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--share", type=int, default=1, help="try each N-th change")
    flags = parser.parse_args()
    results: dict = {"modules": {}}
    if flags.file.is_file():
        results = json.loads(flags.file.read_text(encoding="utf-8"))
    judged = judgements(results)
    os.environ |= {
        "OMP_NUM_THREADS": "1",
        "PYTEST_XDIST_WORKER_COUNT": str(flags.workers),
        "CUDA_VISIBLE_DEVICES": "",
    }
    with (
        tempfile.TemporaryDirectory() as folder,
        multiprocessing.get_context("spawn").Pool(
            flags.workers, prepare, (folder,)
        ) as pool,
    ):
        for module in flags.modules:
            source = (ROOT / "pixelprior" / f"{module}.py").read_bytes()
            same = {"sha256": hashlib.sha256(source).hexdigest(), "share": flags.share}
            before = results["modules"].get(module, {})
            if same.items() <= before.items():
                print(f"{module}: kept from before", flush=True)
                continue
            found = try_module(module, pool, flags.share)
            for each in found["survivors"]:
                key = module, each["definition"], each["was"], each["became"]
                each["judged"] = judged.get(key, "")
            results["modules"][module] = found
            write_texts(
                flags.file.parent, {flags.file.name: json.dumps(results, indent=1)}
            )
            print(
                f"{module}: {found['killed']} of {found['mutants']} changes noticed, "
                f"{found['minutes']} minutes",
                flush=True,
            )
        pool.close()
        pool.join()


if __name__ == "__main__":
    main()
