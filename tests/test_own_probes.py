"""Probes of a user's: own rows in an own table with declared columns, of each trained member alone."""

import pytest
import torch

from memsweep import Sweep, TrialConfig
from memsweep.check.inspection import damaged, incomplete, inspect
from memsweep.data import tasks
from memsweep.engine.door import problems
from memsweep.engine.train import plain
from memsweep.engine.train.record import Record
from memsweep.results import own_types, query
from memsweep.results.compaction import compact
from memsweep.results.export import export
from memsweep.results.storage.snapshot import Snapshot
from memsweep.results.storage.store import Store
from memsweep.run import plan
from memsweep.run.packing import Pack
from memsweep.run.rounds.definition import write_wanted
from memsweep.run.worker.execution import run_pack
from memsweep.run.worker.writer import PackWriter
from memsweep.spec.config import ConfigError
from memsweep.spec.schema import Status
from tests.cases import trial
from tests.test_launch import memsweep_


def spectrum_of(model, inputs, labels):
    """Singular values of the first weights, and the gradient of the loss by the inputs."""
    inputs = inputs.requires_grad_()
    loss = torch.nn.functional.cross_entropy(model(inputs), labels)
    (gradient,) = torch.autograd.grad(loss, inputs)
    weights = next(weight for weight in model.parameters() if weight.dim() == 2)
    values = torch.linalg.svdvals(weights)[:3]
    return {"rank": [1, 2, 3], "singular": values, "gradient_l1": gradient.abs().sum(), "name": "first"}


COLUMNS = {"rank": "int64", "singular": "float64: singular value", "gradient_l1": "float64", "name": "string"}
spectrum = (spectrum_of, COLUMNS)
drawn = (lambda model, inputs, labels: {"number": torch.rand(2)}, {"number": "float64"})
failing = (lambda model, inputs, labels, own: {"number": {"right": 0.0}[own.kind]}, {"number": "float64"})


def here(name):
    return f"tests.test_own_probes:{name}"


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results", create=True)


def run(store, *trials, slots=8, **pack):
    for _ in run_pack(Pack(tuple(trials), slots, **pack), store):
        pass


def rows(store, table="own_spectrum", **columns):
    return [row for row in store.current(table).to_pylist() if columns.items() <= row.items()]


@pytest.mark.parametrize("mode", ["fused", "serial"])
def test_rows_are_those_of_the_member_alone_whatever_its_company(store, mode):
    probed = trial(probes=(here("spectrum"), here("drawn"), "examples"), probe_steps=(0, 2))
    trials = [probed, trial(seed=1), trial(seed=2, probes=(here("spectrum"),), data__validation_examples=0)]
    run(store, *trials, mode=mode)
    alone = Store(store.results.parent / "alone", create=True)
    run(alone, probed, mode=mode)
    for table in ("own_spectrum", "own_drawn"):
        packed, single = (
            [{**row, "attempt_id": ""} for row in rows(s, table, trial_id=probed.trial_id)] for s in (store, alone)
        )
        assert packed == single
    data, (model, _) = tasks.load(probed), plain.train(probed, probed.budget)
    expected = spectrum_of(model.eval(), torch.tensor(data.inputs), torch.tensor(data.labels))
    end = rows(store, trial_id=probed.trial_id, step=probed.budget, part="train")
    assert [row["singular"] for row in end] == expected["singular"].tolist()
    assert [row["gradient_l1"] for row in end] == [expected["gradient_l1"].item()] * 3
    assert [(row["row"], row["rank"], row["name"]) for row in end] == [(i, i + 1, "first") for i in range(3)]
    assert {row["step"] for row in rows(store, trial_id=probed.trial_id)} == {0, 2, probed.budget}
    assert {row["part"] for row in rows(store, trial_id=trials[2].trial_id)} == {"train"}
    numbers = {row["number"] for row in rows(store, "own_drawn")}
    assert len(numbers) == 3 * 2  # each step draws its own numbers, the same for both parts


def test_own_tables_are_read_merged_and_inspected_like_ours(store, tmp_path):
    sweep = Sweep("s", trial(), seeds=range(2))
    more = Sweep("s", trial(probes=(here("spectrum"),)), seeds=range(2))
    write_wanted(sweep, sweep.trials, store)
    run(store, *sweep.trials)
    before = store.trial_rows([t.trial_id for t in sweep])
    assert more.trials[0].trial_id == sweep.trials[0].trial_id and more.trials[0].imports == (here("spectrum"),)
    assert len(plan.work(more.trials, store).missing) == 2
    write_wanted(more, more.trials, store)
    assert here("spectrum") in incomplete(store)[0]
    for seed in (0, 1):
        run(store, more.trials[seed])
    assert plan.work(more.trials, store).missing == () and incomplete(store) == [] and damaged(store) == []
    after = store.trial_rows([t.trial_id for t in sweep])
    assert all(after[key]["weights_fingerprint"] == row["weights_fingerprint"] for key, row in before.items())
    held, parts = query.table("own_spectrum", store, "s"), len(store.parts("own_spectrum"))
    assert list(held) == ["trial_id", "attempt_id", "step", "part", "row", *COLUMNS] and len(held) == 2 * 2 * 3
    assert {result.table: result.parts for result in compact(store)}["own_spectrum"] == 1 < parts
    assert query.table("own_spectrum", store, "s").equals(held) and list(inspect(store)) == []
    assert store.schema("own_spectrum").field("singular").metadata[b"meaning"] == b"singular value"
    answer = query.sql(
        "select count(*) as n, max(singular) as top from own_spectrum join trials using (trial_id)", store
    )
    assert answer.n[0] == 12 and answer.top[0] == held.singular.max()
    assert len(query.sql("select * from own_spectrum_of_other_code", Snapshot(store.results))) == 0
    assert export(store, "s", tmp_path / "rows.csv", "own_spectrum") == 12
    with pytest.raises(query.QueryError, match="Did you mean 'own_spectrum'"):
        query.table("own_spectrm", store)
    path = store.parts("own_spectrum")[0]
    path.write_bytes(path.read_bytes()[:-8])
    assert [place for place, _ in damaged(Store(store.results))] == [path]


def test_columns_of_merged_folders_are_joined(store, tmp_path, monkeypatch):
    probed, other = trial(probes=(here("spectrum"),)), trial(seed=1, probes=(here("spectrum"),))
    run(store, probed)
    another = {**{name: kind for name, kind in COLUMNS.items() if name != "name"}, "rank": "string", "more": "bool"}
    values = {"rank": "one", "singular": 0.5, "gradient_l1": float("nan"), "more": True}
    monkeypatch.setattr("tests.test_own_probes.spectrum", (lambda model, inputs, labels: values, another))
    assert "column rank is declared as string, and is int64 in" in own_types.table_problems([other], store)[0]
    run(store, other)
    found = rows(store, trial_id=other.trial_id)
    assert [(row["rank"], row["more"], row["name"], row["gradient_l1"]) for row in found] == [
        ("one", True, None, None)
    ] * 2
    assert {row["rank"] for row in rows(store, trial_id=probed.trial_id)} == {"1", "2", "3"}
    compact(store)
    assert len(rows(store)) == 6 + 2


def test_a_probe_that_raises_ends_its_own_trials_alone(store):
    good, bad = (trial(seed=s, probes=(here("failing"),), own__kind=kind) for s, kind in enumerate(("right", "wrong")))
    run(store, good, bad, trial(seed=2))
    ends = {row["trial_id"]: (row["status"], row["cause"]) for row in store.trials().to_pylist()}
    assert ends[good.trial_id][0] == "finished" and len(rows(store, "own_failing")) == 2
    assert ends[bad.trial_id][0] == "failed" and "KeyError: 'wrong'" in ends[bad.trial_id][1]
    diverged = trial(seed=3, probes=(here("failing"),), own__kind="wrong", optimizer__learning_rate=1e18)
    run(store, diverged)
    assert store.trial_rows([diverged.trial_id])[diverged.trial_id]["status"] == "diverged"


def test_rows_in_a_checkpoint_of_a_probe_that_is_no_longer_wanted_are_left_out(store):
    writer = PackWriter(store, "pack")
    writer.enter(
        trial(), Record([], {"own_spectrum": [{"trial_id": trial().trial_id, "step": 0, "row": 0, "rank": 1}]})
    )
    writer.settle(trial(), Status.INTERRUPTED, {"cause": None})
    writer.flush()
    assert len(store.trials()) == 1 and "own_spectrum" not in store.tables()


def test_folders_with_other_names_are_no_tables(store):
    for name in ("own_(", "own_Spectrum", "own_x_of_other_code", "owned"):
        (store.results / name).mkdir()
    assert not [name for name in store.tables() if name.startswith("own")]
    assert len(query.sql("select * from trials", store)) == 0


WRONG = {
    "is function": spectrum_of,
    "declares no column": (spectrum_of, {}),
    "column 'order': is a word of SQL": (spectrum_of, {"order": "int64"}),
    "column 'Rank': must be at most 60 lower-case": (spectrum_of, {"Rank": "int64"}),
    "column 'step': trial_id, attempt_id, step": (spectrum_of, {"step": "int64"}),
    "'rank' = 'int': must be one of int64, float64, string, bool": (spectrum_of, {"rank": "int"}),
    "returns the columns rank, singular, gradient_l1, name; must return a dict of the columns rank": (
        spectrum_of,
        {"rank": "int64"},
    ),
    "returns columns of a 2, b 3 values": (lambda *_: {"a": [1, 2], "b": [1, 2, 3]}, {"a": "int64", "b": "int64"}),
    "column a has the value 0.5; must be int64": (lambda *_: {"a": 0.5}, {"a": "int64"}),
    "returns different rows": (lambda *_: {"a": next(COUNTER)}, {"a": "int64"}),
}
COUNTER = iter(range(100))


@pytest.mark.parametrize("sentence", WRONG)
def test_what_is_no_probe_is_refused(sentence, monkeypatch):
    monkeypatch.setattr("tests.test_own_probes.spectrum", WRONG[sentence])
    assert [text for text in problems(trial(probes=(here("spectrum"),))) if sentence in text]


def test_names_that_tables_cannot_have_are_refused():
    for wrong in (("entropy",), (here("Spectrum"),), (here("x_of_other_code"),), ("a:x", "b:x")):
        with pytest.raises(ConfigError, match="or import paths such as my_lab:entropy, whose names"):
            TrialConfig.of({"probes": wrong})
    assert TrialConfig.of({"probes": ("a:x",), "probe_steps": (1,)}).imports == ("a:x",)


MODULE = 'entropy = (lambda model, inputs, labels: {"count": len(inputs)}, {"count": "int64"})\n'
SWEEP = """
from memsweep import Sweep

SIZES = {{"optimizer.epochs": 1, "data.examples": 64, "data.validation_examples": 20}}
SWEEP = Sweep("s", base={{"probes": ("{module}:entropy",), **SIZES}}, seeds=range(2))
"""


def test_launches_refuse_a_table_of_another_probe(tmp_path, importable, ray_address, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(importable))
    for module in ("probe_lab", "other_probe_lab"):
        (importable / f"{module}.py").write_text(MODULE)
    sweep, results = tmp_path / "s.py", ("--results", tmp_path / "results")
    sweep.write_text(SWEEP.format(module="probe_lab"))
    launched = memsweep_("launch", sweep, *results, "--address", ray_address, "--workers", "1")
    assert launched.returncode == 0, launched.stderr
    statement = 'select distinct "count" as n, part from own_entropy order by all'
    answer = memsweep_("query", statement, *results, "--format", "csv")
    assert answer.stdout.splitlines()[1:] == ['20,"validation"', '64,"train"'], answer
    sweep.write_text(SWEEP.format(module="other_probe_lab"))
    refused = memsweep_("launch", sweep, *results, "--address", ray_address, "--changed", "keep")
    assert refused.returncode == 2 and "own_entropy holds rows of 'probe_lab:entropy'" in refused.stderr
