"""The clock of the benchmarks and of the course: how long a computation takes."""

import statistics
import time
from collections.abc import Callable

import torch


def seconds(run: Callable[[], object], device="cpu", at_least: float = 0.0) -> float:
    """Mean seconds of one run or more, as many as together take `at_least` seconds; the
    work that a run leaves to a GPU counts as well."""
    count, passed = 0, 0.0
    while count == 0 or passed < at_least:
        _wait_for(device)
        started = time.perf_counter()
        run()
        _wait_for(device)
        passed += time.perf_counter() - started
        count += 1
    return passed / count


def median_seconds(run: Callable[[], object], device="cpu") -> float:
    """Median seconds of three runs, after one that is not timed: a first run requests
    memory and prepares libraries."""
    run()
    return statistics.median(seconds(run, device) for _ in range(3))


def _wait_for(device) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
