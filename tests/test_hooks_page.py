"""The examples of the page on a user's functions run as they stand there, and are verified."""

import importlib
import re
import sys

import pytest

from memsweep.check.verification import EXACT, verify
from memsweep.results.storage.store import Store
from memsweep.run import plan
from tests.pages import ROOT
from tests.training import train

pytestmark = pytest.mark.launches

PAGE = (ROOT / "docs/how-to/hooks.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
MODULES = [block for block in BLOCKS if block.startswith("# my_lab.py")]
SWEEPS = [block for block in BLOCKS if "SWEEP = " in block]


@pytest.fixture
def my_lab(tmp_path, monkeypatch):
    (tmp_path / "my_lab.py").write_text("\n\n".join(MODULES))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_lab", raising=False)
    importlib.invalidate_caches()
    yield
    sys.modules.pop("my_lab", None)


def test_each_function_has_a_sweep():
    assert len(SWEEPS) == len(MODULES) > 0


@pytest.mark.parametrize("block", SWEEPS, ids=lambda block: re.search(r'"(\w+)"', block)[1])
def test_examples_run(block, my_lab, tmp_path):
    names = {}
    exec(block, names)
    sweep, store = names["SWEEP"], Store(tmp_path / "results", create=True)
    assert plan.check(sweep.trials) == []
    rows = train(sweep, store).trials(["status", "cause"]).to_pylist()
    assert [row["status"] for row in rows] == ["finished"] * len(sweep), rows
    assert {verdict.outcome for verdict in verify(store, own_code=True)} == {EXACT}
    assert plan.work(sweep.trials, store).missing == ()
