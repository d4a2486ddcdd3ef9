"""Change the package in one place at a time, and see whether the tests notice it.

Run `python tools/try_mutants.py FILE.json` on Linux; it takes hours, and goes on where
FILE.json ends. A module that is there with the same source is not tried again; if its
tests have changed since, only changes are tried again that no test had noticed and that
nobody has judged to be no gap.

The tests of a module run without a change first, to see which of them run which lines
(`watched_tests.py`). Then, for each change, the tests that run its line are run, quick
ones first, and among the others those that have noticed most changes; if all of them
pass, the other tests of the module are run. A change that makes a test hang or crash
counts as noticed.
Cosmic Ray (`pip install -e ".[dev]"`) knows the changes: a number one higher or lower,
`<` in place of `<=`, no `not`, no loop, and so on. A change that no test notices, a
survivor, is either a gap of the tests or no change of what the module promises;
FILE.json has each with its lines. "judged" in FILE.json is for people to write in: why
a survivor is no gap, under its key. What stands there is never removed.

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
import math
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names
from watched_tests import (
    SECONDS_AT_LEAST,
    Chosen,
    Noted,
    Others,
    Watch,
    quick_first,
    tests_for,
    useful_first,
)

from pixelprior.files import writable_folder, write_texts

ROOT = Path(__file__).parents[1]
# The files with the tests of each module.
TESTS = {
    "layers": "layers pixelcnn depth extremes guidance sampling",
    "cache": "layers sampling extremes guidance distribution editing",
    "pixelcnn": "pixelcnn layers guidance depth extremes sampling checkpoints",
    "conditional": "pixelcnn layers depth guidance sampling checkpoints",
    "prior": "pixelcnn guidance drawing sampling distribution editing checkpoints",
    "drawing": "drawing sampling guidance distribution editing tokenizers",
    "sampling": "sampling guidance extremes distribution editing",
    "quantizer": "vqvae2",
    "vqvae2": "vqvae2 checkpoints tokenizers",
    "checkpoints": "checkpoints vqvae2 training",
    "editing": "editing guidance",
    "training": "modes training_run training",
    "training_run": "training_run training",
}
IDENTITY = "Eq_Is", "Eq_IsNot"  # of NotEq too; `is` compares small numbers like `==`
ARITHMETIC = {"Add", "Sub", "Mul", "Div", "FloorDiv"}
BYTES = 8 * 2**30  # that the tests of one change may take
KEPT_EVERY = 20  # changes, after which what was found is written
# Exit codes of pytest: tests pass, there are none, one fails or cannot be collected.
PASSED, NOTICED, FAILED_ITSELF = (0, 5), (1, 2, 4), 3


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

    def key(self, module: str, source: str) -> str:
        """What it is judged under: its place by name, and the lines that differ."""
        where = ".".join(filter(None, (module, self.definition)))
        return f"{where}: {' -> '.join(changed_lines(source, self.source))}"


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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            compile(source, "mutant", "exec")
        except SyntaxError:
            return False
    return True


def definition_at(source: str, line: int) -> str:
    """Dotted name of the innermost function or class around a line; decorators are
    part of what they decorate."""
    around = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and min(n.lineno for n in (node, *node.decorator_list)) <= line
        and line <= node.end_lineno
    ]
    return ".".join(node.name for node in sorted(around, key=lambda n: n.lineno))


class Workplace:
    """A copy of the checkout in which the tests of one change after another run.

    Attributes:
        noticed: by the name of a test, how many changes it has noticed here.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.noticed: Counter[str] = Counter()
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

    def outcome(
        self,
        module: str,
        source: str,
        seconds: float,
        groups: list[list[str]],
        took: dict[str, float],
    ) -> str:
        """What the tests of a module say to this source in its place.

        Args:
            seconds: the time that those of each turn may take.
            groups: names of the tests of the first turn, one group after the other; the
                second turn has all others.
            took: by the name of a test, its seconds without a change.

        Returns:
            "survived": they pass. "noticed": a test fails. "timed out": they were
            stopped after `seconds`, or a single test at its limit (`Limited`).
            "crashed": by another signal, or pytest itself failed.
        """
        path = self.path(module)
        whole = path.read_text(encoding="utf-8")
        first = [
            name for group in groups for name in useful_first(group, self.noticed, took)
        ]
        files = list(dict.fromkeys(name.split("::")[0] for name in first))
        turns = [(files, partial(Chosen, first, took))] if first else []
        turns.append((test_files(module), partial(Others, first, took)))
        self.write(path, source)
        (self.folder / "noted").unlink(missing_ok=True)
        try:
            for some, plugin in turns:
                outcome = self.outcome_of_tests(some, seconds, plugin)
                if outcome != "survived":
                    break
        finally:
            self.write(path, whole)
        if outcome == "noticed":
            self.noticed[self.noted()] += 1
        return outcome

    def noted(self) -> str:
        """The name of the first test that failed; "" if none was run to its end."""
        noted = self.folder / "noted"
        return noted.read_text(encoding="utf-8") if noted.is_file() else ""

    def outcome_of_tests(
        self, files: list[str], seconds: float, plugin: Callable[[], object]
    ) -> str:
        """What tests say to the package as it is; as in `outcome`.

        Args:
            plugin: makes a plugin of pytest, in the process that runs the tests.
        """
        child = os.fork()
        if child == 0:
            self.run_tests(files, seconds, plugin)
        code = waited_for(child, seconds)
        if code is None or code == -signal.SIGALRM:  # `Limited` ends it so
            return "timed out"
        if code in PASSED:
            return "survived"
        return "noticed" if code in NOTICED else "crashed"

    def watched(self, module: str, seconds: float = 3600.0) -> dict | None:
        """What `Watch` keeps of the tests of a module; None if they do not pass.

        Raises:
            RuntimeError: no test runs a line of the module.
        """
        path, report = self.path(module), self.folder / "watched.json"
        self.write(path, path.read_text(encoding="utf-8"))
        watch = partial(Watch, path, report)
        outcome = self.outcome_of_tests(test_files(module), seconds, watch)
        if outcome != "survived":
            return None
        seen = json.loads(report.read_text(encoding="utf-8"))
        if not seen["lines"]:
            raise RuntimeError(f"no test in {test_files(module)} runs a line of {path}")
        return seen

    def path(self, module: str) -> Path:
        return self.folder / "pixelprior" / f"{module}.py"

    def write(self, path: Path, source: str) -> None:
        """Write a module; what was compiled from an earlier one is removed."""
        path.write_text(source, encoding="utf-8")
        for compiled in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
            compiled.unlink()

    def run_tests(
        self, files: list[str], seconds: float, plugin: Callable[[], object]
    ) -> None:
        """Run tests in this process, quietly, and end it with their outcome."""
        import resource  # Windows has none

        os.setsid()
        signal.alarm(math.ceil(seconds) + 10)  # should nobody wait any longer
        resource.setrlimit(resource.RLIMIT_DATA, (BYTES, BYTES))
        quiet = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(quiet, stream)
        code = FAILED_ITSELF
        try:
            import pytest

            plugins = [f for name in ("nbval", "xdist") for f in ("-p", f"no:{name}")]
            only = ["-p", "no:cacheprovider", "-o", "addopts=", "-x", "-q"]
            only.append(f"--basetemp={self.folder / 'basetemp'}")
            with_ours = [plugin(), Noted(self.folder / "noted")]
            code = int(pytest.main([*only, *plugins, *files], plugins=with_ours))
        finally:
            os._exit(code)


def test_files(module: str) -> list[str]:
    return [f"tests/test_{name}.py" for name in TESTS[module].split()]


def waited_for(child: int, seconds: float) -> int | None:
    """The exit code of a process, minus the number of a signal, or None if it took
    longer. What it has started is killed, except for what it started in its last second
    in another session."""
    until, look = time.monotonic() + seconds, 0.0
    code, started = None, set()
    try:
        while code is None and time.monotonic() < until:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                code = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > look:
                started.update(psutil.Process(child).children(recursive=True))
                look = time.monotonic() + 1
            else:
                time.sleep(0.02)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        for each in started:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
    if code is None:
        os.waitpid(child, 0)
    return code


def prepare(folder: str) -> None:
    global PLACE
    PLACE = Workplace(Path(tempfile.mkdtemp(dir=folder)))


def outcome_of(task: tuple[str, str, float, list[list[str]], dict]) -> str:
    return PLACE.outcome(*task)


def watched_of(module: str) -> dict | None:
    return PLACE.watched(module)


def changed_lines(source: str, changed: str) -> tuple[str, str]:
    """The lines before and after a change, without what they share."""
    old, new = source.splitlines(), changed.splitlines()
    while old and new and old[-1] == new[-1]:
        old, new = old[:-1], new[:-1]
    while old and new and old[0] == new[0]:
        old, new = old[1:], new[1:]
    return "\n".join(old).strip(), "\n".join(new).strip()


def digest(texts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


class Trial:
    """All that is read from the checkout, at the start.

    Args:
        modules: names of the modules to change.
        share: each `share`-th change is tried.
        workers: how many run at once.
    """

    def __init__(self, modules: list[str], share: int, workers: int):
        def text(name: str) -> str:
            return (ROOT / name).read_text(encoding="utf-8")

        self.share, self.workers = share, workers
        self.sources = {name: text(f"pixelprior/{name}.py") for name in modules}
        self.tests = {
            name: digest(
                text(file) for file in ["tests/conftest.py", *test_files(name)]
            )
            for name in modules
        }

    def module(
        self,
        module: str,
        before: dict,
        judged: dict[str, str],
        pool: Executor,
        keep: Callable[[dict], None],
    ) -> dict:
        """Try the changes of a module; what was found, together with what was before.

        Args:
            before: what the file has of the module.
            judged: by the key of a survivor, why it is no gap; "" for those to try.
            keep: is given what was found so far, again and again. What is found while
                survivors are tried again is kept at the end alone.

        Raises:
            SystemExit: the tests fail without a change.
        """
        source, started = self.sources[module], time.monotonic()
        same = {"sha256": digest([source]), "share": self.share}
        now = same | {"tests_sha256": self.tests[module]}
        outcomes: dict[str, str] = {}
        again = same.items() <= before.items() and "survivors" in before
        if again and now.items() <= before.items():
            return before
        if same.items() <= before.items():
            outcomes |= {
                name: outcome
                for name, outcome in before.get("outcomes", {}).items()
                if outcome != "survived" or now.items() <= before.items()
            }
        tried = list(mutants(source))[:: self.share]
        found = {"mutants": len(tried), "noticed": 0, "timed out": 0, "crashed": 0}
        if again:
            whys = {
                each["name"]: judged.get(each["key"]) for each in before["survivors"]
            }
            tried = [mutant for mutant in tried if mutant.name in whys]
            outcomes |= {name: "survived" for name, why in whys.items() if why}
            found = {name: before[name] for name in found}
        left = [mutant for mutant in tried if mutant.name not in outcomes]
        tasks = self.tasks(module, left, pool) if left else []
        ended = zip(left, pool.map(outcome_of, tasks), strict=True)
        for count, (mutant, outcome) in enumerate(ended, 1):
            outcomes[mutant.name] = outcome
            if count % KEPT_EVERY == 0 and not again:
                keep(now | {"outcomes": outcomes})
        found |= Counter(found) + Counter(outcomes[each.name] for each in tried)
        found.pop("survived", None)
        survivors = [
            {
                "name": mutant.name,
                "line": mutant.line,
                "key": mutant.key(module, source),
            }
            for mutant in tried
            if outcomes[mutant.name] == "survived"
        ]
        minutes = round((time.monotonic() - started) / 60, 1)
        return now | found | {"minutes": minutes, "survivors": survivors}

    def tasks(self, module: str, left: list[Mutant], pool: Executor) -> list[tuple]:
        """What `Workplace.outcome` is given for each change; raises as `unchanged`."""
        source = self.sources[module]
        seen, seconds = self.unchanged(module, pool)
        return [
            (
                module,
                each.source,
                seconds,
                tests_for(each.line, source, seen),
                seen["seconds"],
            )
            for each in left
        ]

    def unchanged(self, module: str, pool: Executor) -> tuple[dict, float]:
        """Run the tests of a module without a change, on all workers at once.

        Returns:
            What `Watch` has seen, and the seconds that a change is given.

        Raises:
            SystemExit: they fail, in their own order or with quick tests first.
        """
        source, started = self.sources[module], time.monotonic()
        seen, *others = pool.map(watched_of, [module] * self.workers)
        if seen is not None and None not in others:
            seconds = max(SECONDS_AT_LEAST, 5 * (time.monotonic() - started))
            took = seen["seconds"]
            groups = [quick_first(took, seen)]
            tasks = [(module, source, seconds, groups, took)] * self.workers
            if set(pool.map(outcome_of, tasks)) == {"survived"}:
                return seen, seconds
        raise SystemExit(
            f"the tests of {module} fail without a change; run them: "
            f"pytest {' '.join(test_files(module))}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--modules", nargs="*", default=list(TESTS), choices=TESTS)
    processors = len(os.sched_getaffinity(0))
    parser.add_argument("--workers", type=int, default=processors)
    parser.add_argument("--share", type=int, default=1, help="try each N-th change")
    flags = parser.parse_args()
    folder = writable_folder(flags.file.parent)
    results: dict = {"judged": {}, "modules": {}}
    if flags.file.is_file():
        results = json.loads(flags.file.read_text(encoding="utf-8"))
    trial = Trial(flags.modules, flags.share, flags.workers)
    os.environ |= {
        "OMP_NUM_THREADS": "1",
        "PYTEST_XDIST_WORKER_COUNT": str(flags.workers),
        "CUDA_VISIBLE_DEVICES": "",
    }
    context = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as work,
        ProcessPoolExecutor(flags.workers, context, prepare, (work,)) as pool,
    ):
        for module in flags.modules:
            before = results["modules"].get(module, {})

            def keep(found: dict, module: str = module) -> None:
                results["modules"][module] = found
                for each in found.get("survivors", ()):
                    results["judged"].setdefault(each["key"], "")
                text = json.dumps(results, indent=1)
                write_texts(folder, {flags.file.name: text})

            found = trial.module(module, before, results["judged"], pool, keep)
            keep(found)
            left = len(found["survivors"])
            print(
                f"{module}: {found['mutants'] - left} of {found['mutants']} changes "
                f"noticed, {found['minutes']} minutes",
                flush=True,
            )


if __name__ == "__main__":
    main()
