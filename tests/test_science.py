"""docs/science.md shows the stored verdicts, of every paper."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from memsweep.analysis.claims import designs, document, verdicts

ROOT = Path(__file__).parent.parent
SCIENCE, STORED = ROOT / document.DOCUMENT, ROOT / document.STORED


def test_the_document_holds_the_stored_verdicts():
    text = SCIENCE.read_text()
    assert document.filled(text, pd.read_csv(STORED)) == text


def test_every_claim_of_every_paper_has_a_verdict_and_a_reason():
    table = pd.read_csv(STORED)
    known = [(paper.key, claim.number, claim.statement) for paper in verdicts.papers() for claim in paper.claims]
    assert list(zip(table["paper"], table["claim"], table["statement"], strict=True)) == known
    assert set(table["verdict"]) <= set(verdicts.Verdict) and table["reason"].notna().all()
    text = SCIENCE.read_text()
    assert all(f"<!-- verdicts: {paper.key} -->" in text for paper in verdicts.papers())


def test_a_verdict_of_a_former_test_is_marked():
    """By the text of the test, and by the rate of wrong verdicts, which is smaller after a new design."""
    claim = verdicts.papers()[0].claims[0]
    row = pd.DataFrame(
        [{"paper": "arpit2017", "claim": 1, "verdict": "reproduced", "test": claim.test, "level": np.nan}]
    )
    rate = designs.level(claim)
    assert rate < designs.ALPHA and document.is_former(row).all()
    assert not document.is_former(row.assign(level=rate)).any()
    assert document.is_former(row.assign(level=rate, test="another")).all()
    assert not document.is_former(row.assign(verdict="not run")).any()


def test_findings_and_checks_are_counted_apart():
    row = dict.fromkeys(verdicts.COLUMNS, float("nan")) | {"paper": "p", "test": "t", "verdict": "reproduced"}
    rows = pd.DataFrame([row | {"claim": 1, "kind": "finding"}, row | {"claim": 2, "kind": "check"}])
    text = document.filled("<!-- counts -->\nold\n\nAfter.\n", rows)
    assert text.startswith("<!-- counts -->\n1 finding: 1 reproduced; 1 check: 1 holds.\n\nAfter.")


def test_tables_are_replaced_and_prose_is_kept():
    row = dict.fromkeys(verdicts.COLUMNS, float("nan")) | {
        **{"paper": "p", "claim": 1, "verdict": "reproduced", "statement": "a | b", "basis": "confirmed"},
        **{"measured": "share", "estimate": 0.25, "low": 0.1, "high": 0.5, "above": 0.0, "replicates": 12},
        **{"reason": "p = 0.01 after Holm's correction", "by_chance": 0.015, "kind": "finding"},
    }
    old = "Before.\n<!-- verdicts: p -->\n| old |\n\nAfter.\n"
    new = document.filled(old, pd.DataFrame([row]))
    assert new.startswith("Before.\n<!-- verdicts: p -->\n| |") and new.endswith("|\n\nAfter.\n") and "old" not in new
    assert "| 1 | reproduced | a / b (confirmed) | share: 0.25 (0.1 to 0.5), above 0? p = 0.01" in new and "1.5%" in new
    assert document.filled(new, pd.DataFrame([row])) == new


@pytest.mark.parametrize("paper", ["gu2019", "choi2018"])
def test_a_claim_without_result_tells_its_reason_alone(paper):
    row = dict.fromkeys(verdicts.COLUMNS, float("nan")) | {
        **{"paper": paper, "claim": 1, "verdict": "not run", "reason": "no trial", "replicates": 0},
    }
    assert "| no trial | 0 |  |" in document.filled(f"<!-- verdicts: {paper} -->\n", pd.DataFrame([row]))
