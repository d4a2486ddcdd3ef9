"""The clock runs what it times, once at least and as often as it is told."""

import pytest

from pixelprior.benchmark import timing


@pytest.fixture
def clock(monkeypatch):
    """A clock that moves in `run` alone, by the next number of seconds."""

    class Clock:
        now, steps, runs = 0.0, [], 0

        def run(self):
            self.now += self.steps[self.runs]
            self.runs += 1

    clock = Clock()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock.now)
    return clock


def test_runs_are_repeated_until_they_fill_the_time(clock):
    clock.steps = [2.0, 1.0, 3.0, 9.0]
    assert timing.seconds(clock.run, at_least=5.0) == 2.0
    assert timing.seconds(clock.run) == 9.0


def test_neither_the_first_run_nor_a_slow_one_changes_the_median(clock):
    clock.steps = [100.0, 2.0, 50.0, 1.0]
    assert timing.median_seconds(clock.run) == 2.0
    assert clock.runs == 4
