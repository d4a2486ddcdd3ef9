"""What the benchmark counts and keeps, and that the documents show what it wrote."""

import json
import statistics
from pathlib import Path

import pytest
import torch

from pixelprior import VQVAE2, HierarchicalPixelCNN, cli
from pixelprior.benchmark import sampling
from pixelprior.benchmark.report import markdown, ratio, rounds_in_words, summary, table
from pixelprior.benchmark.sampling import bfloat16_effect, counted
from pixelprior.benchmark.sizes import Sizes
from pixelprior.benchmark.training import measure_training, training_markdown
from pixelprior.cache import PixelCNNCache

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SMALL = {"num_embeddings": 16, "embedding_dim": 4, "hidden_channels": 8}
SMALL |= {"num_layers": 2, "top_size": 3, "bottom_size": 5}


@pytest.fixture(scope="module")
def untrained():
    return HierarchicalPixelCNN(512, 64).eval()


def test_cached_multiplies_as_often_as_one_pass_and_naive_once_a_code(untrained):
    counts = counted(untrained, Sizes(top_size=6, bottom_size=9))
    assert counts["cached"] == counts["forward"]
    assert counts["naive"] / counts["forward"] == pytest.approx(81, rel=0.2)
    assert 0.5 < counts["rows"] / counts["naive"] < 0.6


def test_caches_at_batch_64_are_under_three_rows_of_activations(untrained):
    for level, side in ((untrained.prior_top, 8), (untrained.prior_bottom, 16)):
        row = 2 * 64 * 128 * side * 15 * 4  # bytes of both stacks of every layer
        assert 0 < PixelCNNCache(level, 64, (side, side)).nbytes < 3 * row


def test_the_command_writes_a_table_a_plot_and_json(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sampling, "SECONDS", 0.01)
    flags = [word for item in SMALL.items() for word in (f"--{item[0]}", str(item[1]))]
    cli.main(
        ["benchmark", *flags, "--batch_sizes", "1", "3", "--repeats", "2"]
        + ["--output_dir", str(tmp_path)]
    )
    printed = capsys.readouterr().out
    results = json.loads((tmp_path / "benchmark.json").read_text(encoding="utf-8"))
    written = (tmp_path / "benchmark.md").read_text(encoding="utf-8")
    assert written == markdown(results) + "\n" and written in printed
    assert (tmp_path / "benchmark.png").stat().st_size > 10_000
    assert len(table(results).splitlines()) == 4
    for level in results["seconds"]["3"].values():
        assert {"forward", "naive", "rows", "cached"} <= set(level)
        assert all(len(rounds) == 2 for rounds in level.values())
    assert len(results["training"]["step"]) == len(results["training"]["forward"]) == 2
    if not torch.cuda.is_available():
        assert "graph: not run, since it needs a CUDA device" in printed


def test_the_effect_of_bfloat16_is_measured_on_rectangular_images_too():
    torch.manual_seed(0)
    vqvae2 = VQVAE2(1, (16, 32), 8, 4, 16).eval()
    prior = HierarchicalPixelCNN(16, 4, 8, 2).eval()
    for effect in bfloat16_effect(vqvae2, prior, count=2).values():
        assert 0 <= effect["share_that_differs"] <= 1 and effect["float32"] > 0


def test_a_ratio_is_taken_round_by_round_of_both_levels_together():
    top = {"naive": [10.0, 20.0, 30.0], "cached": [1.0, 1.0, 2.0]}
    bottom = {"naive": [30.0, 20.0, 30.0], "cached": [1.0, 4.0, 2.0]}
    results = {"seconds": {"8": {"top": top, "bottom": bottom}}}
    assert ratio(results, 8, "naive", "cached") == [20.0, 8.0, 15.0]
    assert rounds_in_words([20.0, 8.0, 15.0]) == "15 (8 to 20)"
    assert ratio(results, 8, "graph", "cached") is None


def test_the_documents_show_what_the_benchmark_wrote():
    written = ROOT / "pixelprior" / "assets" / "benchmark.json"
    results = json.loads(written.read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert table(results) in page
    assert all(f"- {line}\n" in page for line in summary(results))
    said = " ".join(README.split())

    def median(one: str, other: str) -> float:
        return statistics.median(ratio(results, 256, one, other))

    for method in ("naive", "rows"):
        assert f"{median(method, 'cached'):.0f} times as fast as `{method}`" in said
    assert f"{median('cached', 'forward'):.2f} forward passes" in said
    kept = ROOT / "pixelprior" / "assets" / "results" / "training.json"
    loops = json.loads(kept.read_text(encoding="utf-8"))["loops"]
    plain, ours = (
        statistics.median(loops[name]["steps_per_second"]) for name in ("plain", "fit")
    )
    assert f"{ours / plain:.1f} times the steps per second" in said
    assert results["sizes"] == json.loads(json.dumps(Sizes().__dict__))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--batch_sizes 4 0", "batch_size is 0"),
        ("--top_size 0", "top_size is 0"),
        ("--device nonsense", "device 'nonsense'"),
        ("--training --training_batch_size 2000 --training_steps 32", "6,000 embedded"),
    ],
)
def test_bad_flags_end_in_one_line(tmp_path, capsys, flags, words):
    with pytest.raises(SystemExit) as stop:
        cli.main(["benchmark", "--output_dir", str(tmp_path / "new"), *flags.split()])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and words in error and error.count("\n") == 1


@pytest.mark.slow
def test_all_training_loops_are_timed_and_learn_alike():
    sizes = {"batch_size": 8, "epochs": 2, "steps": 4, "repeats": 1}
    results = measure_training(sizes | {"hidden_channels": 8, "num_layers": 2})
    loops = results["loops"]
    plain = loops["plain"]["losses"]
    assert plain[1] < plain[0]
    assert loops["fit"]["losses"] == pytest.approx(plain, rel=0.01)
    assert loops["plain, another seed"]["losses"] != plain
    for name, found in loops.items():
        assert all(speed > 0 for speed in found["steps_per_second"]), name
    words = training_markdown(results)
    assert "| plain loop, float32 | 1.00 (1.00 to 1.00) |" in words
