"""What the benchmark counts and keeps, and that the documents show what it wrote."""

import json
import statistics
from pathlib import Path

import pytest

from pixelprior import HierarchicalPixelCNN, cli
from pixelprior.benchmark import sampling, timing
from pixelprior.benchmark.report import markdown, ratio, summary, table
from pixelprior.benchmark.sampling import counted
from pixelprior.benchmark.sizes import Sizes
from pixelprior.benchmark.training import measure_training, training_markdown

ROOT = Path(__file__).parents[2]


def kept(*name: str) -> dict:
    path = ROOT.joinpath("pixelprior", "assets", *name)
    return json.loads(path.read_text(encoding="utf-8"))


def test_cached_multiplies_as_often_as_one_pass_and_naive_once_a_code():
    untrained = HierarchicalPixelCNN(512, 64).eval()
    counts = counted(untrained, Sizes(top_size=6, bottom_size=9))
    assert counts["cached"] == counts["forward"]
    assert counts["naive"] / counts["forward"] == pytest.approx(81, rel=0.2)
    assert 0.5 < counts["rows"] / counts["naive"] < 0.6


def test_the_command_writes_a_table_a_plot_and_json(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sampling, "SECONDS", 0.01)
    flags = "--num_embeddings 16 --embedding_dim 4 --hidden_channels 8 --num_layers 2 "
    flags += "--top_size 3 --bottom_size 5 --batch_sizes 1 3 --repeats 2"
    cli.main(["benchmark", *flags.split(), "--output_dir", str(tmp_path)])
    printed = capsys.readouterr().out
    results = json.loads((tmp_path / "benchmark.json").read_text(encoding="utf-8"))
    written = (tmp_path / "benchmark.md").read_text(encoding="utf-8")
    assert written == markdown(results) + "\n" and written in printed
    assert (tmp_path / "benchmark.png").stat().st_size > 10_000
    for level in results["seconds"]["3"].values():
        assert {"forward", "naive", "rows", "cached"} <= set(level)
        assert all(len(rounds) == 2 for rounds in level.values())
    assert len(results["training"]["step"]) == len(results["training"]["forward"]) == 2


def test_the_documents_show_what_the_benchmark_wrote():
    results, loops = kept("benchmark.json"), kept("results", "training.json")["loops"]
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert table(results) in page
    assert all(f"- {line}\n" in page for line in summary(results))
    said = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())

    def median(one: str, other: str) -> float:
        return statistics.median(ratio(results, 256, one, other))

    for method in ("naive", "rows"):
        assert f"{median(method, 'cached'):.0f} times as fast as `{method}`" in said
    assert f"{median('cached', 'forward'):.2f} forward passes" in said
    plain, ours = (
        statistics.median(loops[name]["steps_per_second"]) for name in ("plain", "fit")
    )
    assert f"{ours / plain:.1f} times the steps per second" in said
    assert results["sizes"] == json.loads(json.dumps(Sizes().__dict__))


def test_more_images_than_there_are_end_in_one_line(tmp_path, capsys):
    flags = "--training --training_batch_size 2000 --training_steps 32 --output_dir"
    with pytest.raises(SystemExit):
        cli.main(["benchmark", *flags.split(), str(tmp_path / "new")])
    error = capsys.readouterr().err
    assert "6,000 embedded" in error and error.count("\n") == 1


@pytest.mark.slow
def test_all_training_loops_are_timed_and_learn_alike():
    sizes = {"batch_size": 8, "epochs": 2, "steps": 4, "repeats": 1}
    results = measure_training(sizes | {"hidden_channels": 8, "num_layers": 2})
    loops = results["loops"]
    plain = loops["plain"]["losses"]
    assert plain[1] < plain[0]
    assert loops["fit"]["losses"] == pytest.approx(plain, rel=0.01)
    assert loops["plain, another seed"]["losses"] != plain
    assert "| plain loop, float32 | 1.00 (1.00 to 1.00) |" in training_markdown(results)


def test_a_time_is_a_mean_of_enough_runs_or_a_median_after_a_first_one(monkeypatch):
    now, steps = [0.0], iter([2.0, 1, 3, 9, 100, 2, 50, 1])
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])

    def run():
        now[0] += next(steps)

    assert timing.seconds(run, at_least=5.0) == 2
    assert timing.seconds(run) == 9
    assert timing.median_seconds(run) == 2
