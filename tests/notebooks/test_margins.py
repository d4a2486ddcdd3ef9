"""The table of margins: what is recorded of an `assert`, and under which name."""

import ast
import json
import sys

import pytest
from parts import ROOT, code_cells, of_the_course, statements

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
    claims = claims_of(
        "for x in (2, 3, 2.5): assert 1 < x < 4 and not []\nassert 5 > 6"
    )
    assert claims == {
        "07-001: 1 < x < 4": {"holds": True, "margin": 1, "share": 0.25},
        "07-001: not []": {"holds": True},
        "07-001: 5 > 6": {"holds": False, "margin": -1, "share": -1 / 6},
    }


def test_the_documents_have_the_table_of_margins():
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    assert margins.table(KEPT) in page
    assert list(KEPT) == [source.stem for source in margins.build.sources()]


def claims_in(source):
    """Every claim that the cells of a notebook make, as `margins.json` names them."""
    found = set()
    for cell in code_cells(margins.build.unexecuted(source)):
        for node in statements(cell):
            if isinstance(node, ast.Assert):
                both = isinstance(getattr(node.test, "op", None), ast.And)
                parts = node.test.values if both else [node.test]
                found |= {f"{cell.id}: {ast.unparse(part)}" for part in parts}
    return found


@pytest.mark.parametrize("source", margins.build.sources(), ids=lambda path: path.stem)
def test_every_verdict_of_a_notebook_held_under_each_arithmetic(source):
    kept, claims = KEPT[source.stem], claims_in(source) - ON_A_GPU
    assert kept.keys() == margins.arithmetic.KINDS.keys()
    for kind, runs in kept.items():
        assert set("01234") <= runs.keys(), kind
        for seed, run in runs.items():
            assert set(run["claims"]) == claims, (kind, seed)
            failed = [key for key, claim in run["claims"].items() if not claim["holds"]]
            assert not failed and not run["errors"], (kind, seed)
            assert seed != "0" or not run["prints_otherwise"], kind
