"""The table of margins: what is recorded of an `assert`, and under which name."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
import rules

pytestmark = pytest.mark.slow

sys.path.insert(0, str(rules.ROOT / "notebooks"))  # margins.py imports from there
margins = rules.of_the_course("margins")


def claims_of(source):
    """The claims that `source` makes when it is run as a cell."""
    claims = margins.Claims()
    claims.cell = "07-001"
    tree = ast.fix_missing_locations(margins.Recorded().visit(ast.parse(source)))
    exec(compile(tree, "cell", "exec"), {"_claim": claims.add})
    return claims


def test_a_comparison_becomes_its_smallest_margin_and_does_not_stop_the_cell():
    claims = claims_of("assert 1 < 3 < 4\nassert 5 > 6")
    assert claims["07-001: 1 < 3 < 4"] == {"holds": True, "margin": 1, "share": 0.25}
    assert not claims["07-001: 5 > 6"]["holds"]
    assert claims["07-001: 5 > 6"]["margin"] == -1


def test_each_part_of_an_and_is_a_claim_and_others_hold_or_do_not():
    claims = claims_of("assert 1 < 2 and not []\nassert 'a' in 'b'")
    assert set(claims) == {"07-001: 1 < 2", "07-001: not []", "07-001: 'a' in 'b'"}
    assert claims["07-001: not []"] == {"holds": True}
    assert claims["07-001: 'a' in 'b'"] == {"holds": False}


def test_the_closest_of_several_runs_of_an_assert_is_kept():
    claims = claims_of("for x in (9, 7, 8):\n    assert x < 10")
    assert claims["07-001: x < 10"]["margin"] == 1
    claims = claims_of("for x in (9, 12, 11, 8):\n    assert x < 10 and x in (8, 9)")
    assert claims["07-001: x < 10"]["margin"] == -2
    assert claims["07-001: x in (8, 9)"] == {"holds": False}


def test_each_run_is_kept_under_its_own_name_and_none_runs_twice(
    tmp_path, monkeypatch, capsys
):
    started = []

    def start(source, kind, seed):
        started.append((source.stem, kind, seed))
        claims = {f"{source.stem} {kind} {seed}: 1 < 2": {"holds": True}}
        run = {"claims": claims, "prints_otherwise": [], "errors": {}}
        command = [sys.executable, "-c", f"print({json.dumps(run)!r})"]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    monkeypatch.setattr(margins, "start", start)
    monkeypatch.setattr(margins, "MARGINS", tmp_path / "margins.json")
    monkeypatch.setattr(margins.arithmetic, "active", lambda kind: {})
    monkeypatch.setattr(margins.arithmetic, "not_active", lambda kind, answers: [])
    sources = [Path("00_a.py"), Path("01_b.py")]
    margins.measure(sources, ["native", "avx2"], 2)
    found = json.loads(margins.MARGINS.read_text())
    assert len(started) == 8
    for name, kinds in found.items():
        for kind, by_seed in kinds.items():
            for seed, run in by_seed.items():
                assert list(run["claims"]) == [f"{name} {kind} {seed}: 1 < 2"]
    margins.measure(sources, ["native", "avx2"], 3)
    assert len(started) == 12


def test_a_run_that_fails_is_named(tmp_path, monkeypatch):
    def start(source, kind, seed):
        command = [sys.executable, "-c", "raise SystemExit('no memory')"]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    monkeypatch.setattr(margins, "start", start)
    monkeypatch.setattr(margins, "MARGINS", tmp_path / "margins.json")
    with pytest.raises(SystemExit, match="00_a under native, seed 0 failed: no memory"):
        margins.measure([Path("00_a.py")], ["native"], 1)


def test_the_table_names_the_closest_run():
    close = {"holds": True, "margin": 0.1, "share": 0.05}
    far = {"holds": True, "margin": 1.0, "share": 0.5}
    runs = {
        kind: {"3": {"claims": {"02-010: a | b < 1": claim}, "processor": kind + " 9"}}
        for kind, claim in (("native", far), ("avx2", close))
    }
    row = margins.table({"02_some": runs}).splitlines()[2]
    assert row == "| 02-010 | `a ∣ b < 1` | 2 | 0.1 | 5.0% | avx2, seed 3, avx2 9 |"


def claims_in(source):
    """Every claim that the cells of a notebook make, as `margins.json` names them."""
    found = set()
    for cell in margins.build.unexecuted(source).cells:
        if cell.cell_type != "code":
            continue
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.Assert):
                both = isinstance(node.test, ast.BoolOp)
                both = both and isinstance(node.test.op, ast.And)
                parts = node.test.values if both else [node.test]
                found |= {f"{cell.id}: {ast.unparse(part)}" for part in parts}
    return found


KEPT = json.loads(margins.MARGINS.read_text(encoding="utf-8"))
ON_A_GPU = {"06-072: torch.equal(one, other.cpu())"}


@pytest.mark.parametrize("name", sorted(KEPT))
def test_every_kept_margin_is_of_the_notebook_as_it_is_and_holds(name):
    (source,) = (each for each in margins.build.sources() if each.stem == name)
    claims = claims_in(source) - ON_A_GPU
    for kind, runs in KEPT[name].items():
        for seed, run in runs.items():
            where = f"{name}, {kind}, seed {seed}"
            assert set(run["claims"]) == claims, where
            failed = [key for key, claim in run["claims"].items() if not claim["holds"]]
            assert not failed and not run["errors"], f"{where}: {failed}"
            assert seed != "0" or not run["prints_otherwise"], where


def test_every_notebook_was_run_under_every_arithmetic_from_five_seeds():
    assert set(KEPT) == {source.stem for source in margins.build.sources()}
    for name, runs in KEPT.items():
        seeds = {kind: sorted(by_seed) for kind, by_seed in runs.items()}
        assert seeds == {kind: list("01234") for kind in margins.arithmetic.KINDS}, name


def test_the_documents_have_the_table_of_margins():
    page = (rules.ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    assert margins.table(KEPT) in page
