"""What a pack stores on `--device` is what its members in turn store on a CPU: training, measuring and every probe."""

import math

import pytest

from memsweep.engine.probes import critical_samples
from memsweep.results.storage.store import Store
from memsweep.run.packing import Pack
from memsweep.run.worker.execution import run_pack
from memsweep.spec.options import PROBES
from memsweep.spec.schema import Status
from tests.cases import trial

FINAL = ("examples", "loss_sensitivity", "class_sensitivity")
REPEATED = ("critical_samples", "permutations", "representations")
ASKED = {
    "sgd": (*FINAL, *REPEATED),
    "cnn": ("examples", *REPEATED),
    "lstm, copy": ("examples", "positions", "readouts"),
    "attention, strings": ("positions",),
}
"""Case -> probes that it can be asked."""
ELSEWHERE = {"attempt_id", "pack_id"}
RANKED = {"permutations": 0.01}
"""Areas under the curve count ranks, in which a rounding error moves an example; all other numbers agree to 1e-6."""


@pytest.fixture(autouse=True)
def few_iterations(monkeypatch):
    monkeypatch.setattr(critical_samples, "ITERATIONS", 6)


def stored(folder, trials, device, mode):
    """Table -> its rows, in an order of their own."""
    store = Store(folder, create=True)
    for _ in run_pack(Pack(tuple(trials), 2, mode=mode), store, device):  # one of three waits for a slot
        pass
    assert {(r["status"], r["cause"]) for r in store.trials().to_pylist()} == {(Status.FINISHED, None)}
    (pack,) = store.read("packs").to_pylist()
    assert pack["device"] == device and pack["cause"] is None and pack["peak_memory_bytes"] > 0
    return {table: sorted(store.current(table).to_pylist(), key=place) for table in ("steps", *PROBES)}


def place(row):
    """What a row is about: its words and, of the numbers, those that say where."""
    named = {"step", "example", "output_class", "input_class", "position", "item", "fitted_step", "applied_step"}
    named |= {"layer", "radius_multiple", "rho"}
    return [
        (name, str(value))
        for name, value in row.items()
        if name in named or (isinstance(value, str) and name not in ELSEWHERE)
    ]


def assert_alike(table, mine, theirs):
    for name, value in mine.items():
        for a, b in zip(numbers(value), numbers(theirs[name]), strict=True):
            if isinstance(a, float):
                tolerance = RANKED.get(table, 1e-6)
                assert math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance), (table, name, a, b)
            else:
                assert a == b or name in ELSEWHERE, (table, name, a, b)


def numbers(value):
    return value if isinstance(value, list) else [value]


@pytest.mark.parametrize("mode", ["fused", "serial"])
@pytest.mark.parametrize("case", ASKED)
def test_a_pack_stores_on_the_device_what_it_stores_in_turn_on_a_cpu(case, mode, device, tmp_path):
    if (device, mode) == ("cpu", "serial"):
        pytest.skip("is what the others are compared with")
    steps = {"probe_steps": (0, 7)} if set(ASKED[case]) & set(REPEATED) else {}
    trials = [trial(case, seed=seed, probes=ASKED[case], compute__dtype="float64", **steps) for seed in range(3)]
    mine = stored(tmp_path / "device", trials, device, mode)
    theirs = stored(tmp_path / "cpu", trials, "cpu", "serial")
    assert {table for table, rows in mine.items() if rows} == {"steps", *ASKED[case]}
    for table, rows in mine.items():
        assert [place(row) for row in rows] == [place(row) for row in theirs[table]]
        for own, other in zip(rows, theirs[table], strict=True):
            assert_alike(table, own, other)
