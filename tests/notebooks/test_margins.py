"""The table of margins: what is recorded of an `assert`, and under which name."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from parts import ROOT, of_the_course

pytestmark = pytest.mark.slow

sys.path.insert(0, str(ROOT / "notebooks"))  # margins.py imports from there
margins = of_the_course("margins")
KEPT = json.loads(margins.MARGINS.read_text(encoding="utf-8"))
ON_A_GPU = {"06-072: torch.equal(one, other.cpu())"}


def claims_of(source):
    """The claims that `source` makes when it is run as a cell."""
    claims = margins.Claims()
    claims.cell = "07-001"
    tree = ast.fix_missing_locations(margins.Recorded().visit(ast.parse(source)))
    exec(compile(tree, "cell", "exec"), {"_claim": claims.add})
    return claims


def test_each_part_of_an_and_is_a_claim_that_keeps_its_smallest_margin():
    claims = claims_of("assert 1 < 3 < 4 and not []\nassert 5 > 6\nassert 'a' in 'b'")
    assert claims == {
        "07-001: 1 < 3 < 4": {"holds": True, "margin": 1, "share": 0.25},
        "07-001: not []": {"holds": True},
        "07-001: 5 > 6": {"holds": False, "margin": -1, "share": -1 / 6},
        "07-001: 'a' in 'b'": {"holds": False},
    }


def test_the_closest_of_several_runs_of_an_assert_is_kept():
    claims = claims_of("for x in (9, 12, 11, 8):\n    assert x < 10 and x in (8, 9)")
    assert claims["07-001: x < 10"]["margin"] == -2
    assert claims["07-001: x in (8, 9)"] == {"holds": False}


@pytest.fixture
def started(tmp_path, monkeypatch):
    """The runs that `measure` starts, each a process that prints what it is."""
    runs = []

    def start(source, kind, seed):
        runs.append((source.stem, kind, seed))
        claims = {f"{source.stem} {kind} {seed}: 1 < 2": {"holds": True}}
        run = json.dumps({"claims": claims, "prints_otherwise": [], "errors": {}})
        ends = f"print({run!r})" if seed < 3 else "raise SystemExit('no memory')"
        command = [sys.executable, "-c", ends]
        return subprocess.Popen(command, stdout=-1, stderr=-1, text=True)

    monkeypatch.setattr(margins, "start", start)
    monkeypatch.setattr(margins, "MARGINS", tmp_path / "margins.json")
    monkeypatch.setattr(margins.arithmetic, "active", lambda kind: {})
    monkeypatch.setattr(margins.arithmetic, "not_active", lambda kind, answers: [])
    return runs


def test_each_run_is_kept_under_its_own_name_and_none_runs_twice(started):
    sources, kinds = [Path("00_a.py"), Path("01_b.py")], ["native", "avx2"]
    margins.measure(sources, kinds, 1)
    margins.measure(sources, kinds, 2)
    assert len(started) == len(set(started)) == 8
    found = json.loads(margins.MARGINS.read_text())
    for name, kind, seed in started:
        (claim,) = found[name][kind][str(seed)]["claims"]
        assert claim == f"{name} {kind} {seed}: 1 < 2"
    with pytest.raises(SystemExit, match=r"under native, seed 3 failed: no memory"):
        margins.measure(sources[:1], ["native"], 4)


def test_the_table_names_the_closest_run():
    close = {"holds": True, "margin": 0.1, "share": 0.05}
    far = {"holds": True, "margin": 1.0, "share": 0.5}
    runs = {
        kind: {"3": {"claims": {"02-010: a | b < 1": claim}, "processor": kind + " 9"}}
        for kind, claim in (("native", far), ("avx2", close))
    }
    row = margins.table({"02_some": runs}).splitlines()[2]
    assert row == "| 02-010 | `a ∣ b < 1` | 2 | 0.1 | 5.0% | avx2, seed 3, avx2 9 |"


def test_the_documents_have_the_table_of_margins():
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    assert margins.table(KEPT) in page
    assert list(KEPT) == [source.stem for source in margins.build.sources()]


def claims_in(source):
    """Every claim that the cells of a notebook make, as `margins.json` names them."""
    found = set()
    for cell in margins.build.unexecuted(source).cells:
        if cell.cell_type == "code":
            for node in ast.walk(ast.parse(cell.source)):
                if isinstance(node, ast.Assert):
                    both = isinstance(getattr(node.test, "op", None), ast.And)
                    parts = node.test.values if both else [node.test]
                    found |= {f"{cell.id}: {ast.unparse(part)}" for part in parts}
    return found


@pytest.mark.parametrize("source", margins.build.sources(), ids=lambda path: path.stem)
def test_every_verdict_of_a_notebook_held_under_each_arithmetic_from_two_seeds(source):
    kept, claims = KEPT[source.stem], claims_in(source) - ON_A_GPU
    assert kept.keys() == margins.arithmetic.KINDS.keys()
    for kind, runs in kept.items():
        assert {"0", "1"} <= runs.keys()
        for seed, run in runs.items():
            assert set(run["claims"]) == claims, (kind, seed)
            failed = [key for key, claim in run["claims"].items() if not claim["holds"]]
            assert not failed and not run["errors"], (kind, seed)
            assert seed != "0" or not run["prints_otherwise"], kind
