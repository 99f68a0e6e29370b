"""The sweeps of the page on ready-made networks run as they stand there, and are verified."""

import re

import pytest

from memsweep.check.verification import EXACT, verify
from memsweep.results.storage.store import Store
from memsweep.run import plan
from memsweep.spec.options import FAMILIES
from tests.pages import ROOT
from tests.training import train

pytestmark = pytest.mark.launches

PAGE = (ROOT / "docs/how-to/networks.md").read_text()
SWEEPS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("block", SWEEPS, ids=lambda block: re.search(r'"(\w+)"', block)[1])
def test_sweeps_run(block, tmp_path):
    names = {}
    exec(block, names)
    sweep, store = names["SWEEP"], Store(tmp_path / "results", create=True)
    assert plan.check(sweep.trials) == []
    rows = train(sweep, store).trials(["status", "cause"]).to_pylist()
    assert [row["status"] for row in rows] == ["finished"] * len(sweep), rows
    assert {verdict.outcome for verdict in verify(store, sample=len(sweep))} == {EXACT}


def test_the_page_names_every_family():
    assert set(FAMILIES) == set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
