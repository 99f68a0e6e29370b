"""Every claim is decided either way by made-up trials that bear it out or speak against it, and by neither if mixed."""

import numpy as np
import pytest

from memsweep.analysis.claims import claim as claim_module
from memsweep.analysis.claims import controls, designs
from memsweep.analysis.claims.verdicts import Verdict, papers
from tests import (
    test_claims_arpit2017,
    test_claims_background,
    test_claims_chaibub2018,
    test_claims_choi2018,
    test_claims_feldman2020,
    test_claims_grokking,
    test_claims_gu2019,
    test_claims_mallinar2022,
    test_claims_morris2025,
    test_claims_mup,
    test_claims_nakkiran2019,
    test_claims_recall,
    test_claims_yun2019,
    test_exposure,
)
from tests.claims import judged, mixed

TABLES = {
    "arpit2017": test_claims_arpit2017.TABLES,
    "background": test_claims_background.TABLES,
    "carlini2019": test_exposure.TABLES,
    "chaibub2018": test_claims_chaibub2018.TABLES,
    "choi2018": test_claims_choi2018.TABLES,
    "feldman2020": test_claims_feldman2020.TABLES,
    "grokking": test_claims_grokking.TABLES,
    "gu2019": test_claims_gu2019.TABLES,
    "mallinar2022": test_claims_mallinar2022.TABLES,
    "morris2025": test_claims_morris2025.TABLES,
    "mup": test_claims_mup.TABLES,
    "nakkiran2019": test_claims_nakkiran2019.TABLES,
    "recall": test_claims_recall.TABLES,
    "yun2019": test_claims_yun2019.TABLES,
}
"""Paper -> number of a finding -> function of a side -> rows: True, False, or None where seeds can't be mixed."""
PAPERS = {paper.key: paper for paper in papers()}
NOT_RUN = {("background", 11), ("background", 12)}
"""Claims that no sweep measures: no trials decide them."""
FINDINGS = [
    (key, claim.number)
    for key, paper in PAPERS.items()
    for claim in paper.claims
    if not claim.is_check and (key, claim.number) not in NOT_RUN
]


@pytest.mark.parametrize(("key", "number"), FINDINGS)
def test_a_finding_can_be_reproduced_contradicted_and_undecided(key, number):
    table = TABLES[key][number]
    sides = {side: table(side) for side in (True, False)}
    undecided = table(None)
    if undecided is None:
        undecided = mixed(sides[True], sides[False], pairs=key == "gu2019")
    cases = {Verdict.REPRODUCED: sides[True], Verdict.CONTRADICTED: sides[False], Verdict.UNDECIDED: undecided}
    for verdict, rows in cases.items():
        row = judged(PAPERS[key], number, rows)
        assert row["verdict"] == verdict, (row["measured"], row["estimate"], row["reason"])
        assert bool(PAPERS[key].claims[number - 1].untrained) == (row["p_untrained"] == row["p_untrained"])


def test_a_claim_of_two_sweeps_has_the_rate_of_that_with_more_designs():
    claim = PAPERS["arpit2017"].claims[15]
    assert sorted(designs.DESIGNS[sweep] for sweep in claim.sweeps) == [2, 3]
    assert designs.level(claim) == designs.ALPHA / 3


def test_checks_are_those_claims_whose_evidence_knows_no_chance():
    checks = {(key, claim.number) for key, paper in PAPERS.items() for claim in paper.claims if claim.is_check}
    of_sweeps = {("background", 15), ("choi2018", 1), ("yun2019", 1), ("yun2019", 2)}
    assert checks == {("background", 1), ("background", 2), *of_sweeps}


@pytest.mark.parametrize(("key", "number"), FINDINGS)
def test_every_finding_has_a_control_of_its_power(key, number):
    """An effect can be injected: in the evidence, or by the claim where a part has a test of its own."""
    claim = PAPERS[key].claims[number - 1]
    if claim.injected is None:
        evidence = claim.measure(TABLES[key][number](True))
        assert not any(isinstance(part, claim_module.Tested) for part in evidence)


INJECTED = {
    **{("gu2019", number): test_claims_gu2019.alike for number in (1, 3, 7)},
    ("gu2019", 8): lambda: test_claims_gu2019.examples(lambda share: 0.8),
    ("arpit2017", 1): lambda: test_claims_arpit2017.runs(0),
    ("chaibub2018", 3): test_claims_chaibub2018.trials,
}
"""Findings whose evidence has a test of its own -> rows without an effect, in which they make one."""


@pytest.mark.parametrize(("key", "number"), INJECTED)
def test_an_effect_that_a_claim_injects_is_seen(key, number, monkeypatch):
    monkeypatch.setattr("memsweep.analysis.claims.gu2019_evidence.EXCHANGES", 999)
    claim, rows = PAPERS[key].claims[number - 1], INJECTED[key, number]().assign(sweep="s")
    assert claim.injected and controls.power(claim, rows, np.random.default_rng(0), 3) == 1
