"""Own hyperparameters: fields `own.<name>` of a trial, their columns, and what a user's code reads as `own`."""

import inspect
import json
import math
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

import memsweep
from memsweep import Sweep, TrialConfig
from memsweep.check.inspection import damaged
from memsweep.check.verification import EXACT, verify
from memsweep.data import tasks
from memsweep.engine.nn import models
from memsweep.engine.train import compilation, plain, trainer
from memsweep.engine.train.comparison import alone, weights_fingerprint
from memsweep.results import own_types
from memsweep.results.compaction import compact
from memsweep.results.mlflow import projection
from memsweep.results.query import QueryError
from memsweep.results.storage.store import Store
from memsweep.run.packing import Pack, by_program, make_packs
from memsweep.run.rounds.definition import write_wanted
from memsweep.run.rounds.replay import Replay
from memsweep.run.worker import sources
from memsweep.run.worker.execution import run_pack
from memsweep.run.worker.writer import PackWriter
from memsweep.spec.config import ConfigError, trial_id_of
from memsweep.spec.fields.own import bound
from memsweep.spec.overrides import parse_overrides
from memsweep.spec.schema import SCHEMAS, Status
from memsweep.spec.search import BestSearch, Range
from memsweep.spec.sweep import SweepError
from memsweep.spec.sweep_files import load_sweep
from tests.test_launch import memsweep_

FIRST_IDS = {
    "smoke": "4d1eaeac9dfdeeff",
    "generalization": "fff4bc5d356d71d0",
    "capacity": "b61007e4b329b83f",
}


def settled(store, *trials):
    """Stores these trials as finished, without training."""
    writer = PackWriter(store, "pack")
    for trial in trials:
        writer.enter(trial)
        writer.settle(trial, Status.FINISHED, {"cause": None})
    writer.flush()


# Identity


@pytest.mark.parametrize(("sweep", "trial_id"), FIRST_IDS.items())
def test_trials_without_own_fields_keep_their_ids(sweep, trial_id):
    assert load_sweep(sweep).trials[0].trial_id == trial_id


def test_own_fields_are_part_of_the_identity():
    plain, one, other = (TrialConfig.of(fields) for fields in ({}, {"own.x": 1}, {"own.x": 2}))
    assert len({plain.trial_id, one.trial_id, other.trial_id}) == 3
    assert len({plain.setting_id, one.setting_id, other.setting_id}) == 3
    assert one.trial_id == TrialConfig(own={"x": 1}).trial_id == other.with_fields({"own.x": np.int64(1)}).trial_id
    assert trial_id_of(json.loads(json.dumps(one.flat()))) == one.trial_id
    both = {"own.a": "text", "own.b": None}
    assert TrialConfig.of(both).trial_id == TrialConfig.of(dict(reversed(both.items()))).trial_id
    assert TrialConfig.of({"own.x": -0.0}).trial_id == TrialConfig.of({"own.x": 0.0}).trial_id


def test_values_of_different_types_are_different_trials():
    trials = [TrialConfig.of({"own.x": value}) for value in (1, 1.0, True, "1", None)]
    assert len({trial.trial_id for trial in trials}) == len(set(trials)) == len(trials)


def test_own_is_read_by_attribute_and_by_name():
    own = TrialConfig.of({"own.temperature": 0.5, "own.items": "abc"}).own
    assert (own.temperature, own["temperature"], own.items, list(own)) == (0.5, 0.5, "abc", ["items", "temperature"])
    with pytest.raises(AttributeError, match=r"own.heads: .* it is given own.items, own.temperature. Set own.heads"):
        _ = own.heads
    with pytest.raises(AttributeError, match="can't be changed"):
        own.temperature = 1


@pytest.mark.parametrize(
    "name", ["own.2x", "own.", "own.a.b", "own.class", "own._x", "own.a-b", "own.é", "own." + "a" * 101]
)
def test_a_name_that_is_no_identifier_is_refused(name):
    with pytest.raises(ConfigError, match=r"an own field is named by a Python identifier"):
        TrialConfig.of({name: 1})


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e300, 2**63, 10**400, [1], {"a": 1}, "a" * 501, "\ud800", 1j])
def test_a_value_that_no_column_holds_is_refused(value):
    with pytest.raises(ConfigError, match=r"^own\.x = .*: own hyperparameter; must be "):
        TrialConfig.of({"own.x": value})


# Sweeps


def test_own_fields_stand_in_base_axes_and_zips():
    axes = {"own.x": (0, 0.5, 1), ("own.flag", "own.name"): ((True, None), (False, "q"))}
    sweep = Sweep("own", {"own.heads": 2}, axes=axes)
    assert [vars(trial.own) for trial in sweep][:2] == [
        {"flag": True, "heads": 2, "name": None, "x": 0.0},
        {"flag": False, "heads": 2, "name": "q", "x": 0.0},
    ]
    assert [type(trial.own.x) for trial in sweep] == [float] * 6  # one axis has one type of number
    assert {trial.own.x for trial in sweep.with_axes({"own.x": (1, 2)})} == {1.0, 2.0}
    assert all(isinstance(trial.own.x, float) for trial in sweep.with_axes({"own.x": (1, 2)}))


def test_numbers_of_an_own_axis_that_differ_by_rounding_are_refused():
    with pytest.raises(SweepError, match="equal up to rounding"):
        Sweep("own", axes={"own.x": (0.3, 0.1 + 0.2)})


@pytest.mark.parametrize("values", [(1, "a"), (True, 1), ("a", False)])
def test_values_of_several_types_are_refused_with_both_places(values):
    with pytest.raises(SweepError, match=r"own\.x = .* \(axis 'own.x'\) is .* \(axis 'own.x'\) is .* have one type"):
        Sweep("own", axes={"own.x": values})


def test_names_that_differ_in_case_alone_are_refused():
    with pytest.raises(SweepError, match=r"own.X \(base\) and own.x \(axis 'own.x'\): SQL does not distinguish"):
        Sweep("own", {"own.X": 1}, axes={"own.x": (1, 2)})


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1,2", (1, 2)),
        ("0.5,1e-3", (0.5, 0.001)),
        ("relu,tanh", ("relu", "tanh")),
        ("true,False,none", (True, False, None)),
        ("'1'", ("1",)),
        ("linspace(0,1,3)", (0.0, 0.5, 1.0)),
        ("0:3", (0, 1, 2)),
    ],
)
def test_set_takes_values_of_every_type(text, values):
    (parsed,) = parse_overrides([f"own.x={text}"]).values()
    assert [(type(value), value) for value in parsed] == [(type(value), value) for value in values]


def test_a_search_proposes_own_fields():
    from memsweep.run.rounds import search

    space = {"own.heads": Range(1, 4), "own.rate": Range(0.1, 1, log=True), "own.kind": ("a", "b", None)}
    sweep = Sweep("own", search=BestSearch(space, configurations=6, at_a_time=6))
    trials = next(search.rounds(sweep.search, sweep, lambda content: None)).trials
    assert {type(trial.own.heads) for trial in trials} == {int} and {type(trial.own.rate) for trial in trials} == {
        float
    }
    assert {trial.own.kind for trial in trials} <= {"a", "b", None} and len({trial.own.rate for trial in trials}) == 6


@pytest.mark.parametrize(
    ("values", "words"), [((1, "a"), "have one type"), (Range(0, math.inf), "finite"), ((math.nan,), "finite")]
)
def test_a_search_refuses_wrong_own_values(values, words):
    with pytest.raises(SweepError, match=words):
        Sweep("own", search=BestSearch({"own.x": values}))


# Packs


def test_a_changed_value_splits_packs():
    sweep = Sweep("own", axes={"own.x": (1, 2), "optimizer.learning_rate": (0.1, 0.2)})
    assert [len(trials) for trials in by_program(sweep).values()] == [2, 2]
    assert by_program([TrialConfig()]).keys() == {"mlp 32 2 none relu 0 64 10 sgd 100 float32"}


def test_packs_keep_own_fields():
    trials = tuple(TrialConfig.of({"own.x": value, "own.name": "a b"}) for value in (1, 1.0, 2))
    again = Pack.from_json(Pack(trials, 2).to_json())
    assert [trial.trial_id for trial in again.trials] == [trial.trial_id for trial in trials]


# Tables


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results", create=True)


def of(**own):
    return TrialConfig(own=own)


def test_own_fields_are_typed_columns_of_trials(store):
    settled(store, of(x=1, name="a", flag=True, nothing=None))
    rows = store.trials()
    assert rows.column_names == [*SCHEMAS["trials"].names, "own_flag", "own_name", "own_nothing", "own_x"]
    assert rows.select(["own_flag", "own_name", "own_nothing", "own_x"]).to_pylist() == [
        {"own_flag": True, "own_name": "a", "own_nothing": None, "own_x": 1}
    ]
    assert [str(rows.schema.field(f"own_{name}").type) for name in ("flag", "name", "x")] == ["bool", "string", "int64"]
    answer = memsweep.sql("select own_x, own_name from trials where own_flag and own_nothing is null", store.results)
    assert answer.to_dict("records") == [{"own_x": 1, "own_name": "a"}]
    assert damaged(store) == []


def test_whole_numbers_widen_to_real_numbers(store):
    settled(store, of(x=1))
    assert str(store.trials(["own_x"]).schema.field("own_x").type) == "int64"
    settled(store, of(x=0.5))
    settled(store, of(y="a"), TrialConfig())
    compact(store)
    rows = store.trials(["own_x", "own_y", "own_absent"])
    assert [str(field.type) for field in rows.schema] == ["double", "string", "null"]
    assert sorted(rows["own_x"].to_pylist(), key=str) == [0.5, 1.0, None, None]
    assert len(store.parts("trials")) == 1 and len(store.trials()) == 4


def test_a_column_of_nothing_takes_the_type_of_later_values(store):
    settled(store, of(x=None))
    compact(store)
    settled(store, of(x=2))
    assert sorted(map(str, store.trials(["own_x"])["own_x"].to_pylist())) == ["2", "None"]
    assert memsweep.sql("select sum(own_x) as n from trials", store.results)["n"].tolist() == [2]


def test_merged_folders_with_other_columns_are_read(store, tmp_path):
    other = Store(tmp_path / "other", create=True)
    settled(store, of(x=1, a=2))
    settled(other, of(x="text", b=True))
    for part in other.parts("trials"):
        shutil.copy(part, store.results / "trials")
    rows = sorted(store.trials(["own_a", "own_b", "own_x"]).to_pylist(), key=str)
    assert rows == [{"own_a": 2, "own_b": None, "own_x": "1"}, {"own_a": None, "own_b": True, "own_x": "text"}]
    compact(store)
    assert sorted(store.trials(["own_a", "own_b", "own_x"]).to_pylist(), key=str) == rows


def test_a_type_that_conflicts_with_stored_trials_is_refused(store):
    trial = of(x=1)
    settled(store, trial)
    words = rf"own.x = 'a' \(next: axis 'own.x'\) is a text, and own.x = 1 \(trial {trial.trial_id} in .*\) is a number"
    sweep = Sweep("next", axes={"own.x": ("a", "b")})
    with pytest.raises(SweepError, match=words):
        Replay(sweep, store)
    own_types.check([Sweep("next", axes={"own.x": (0.5, None)})], store)  # numbers widen, and None fits every type
    with pytest.raises(SweepError, match=r"own.y = 1 \(two: base\) is a number, and own.y = 'a' \(one: base\)"):
        own_types.check([Sweep("one", {"own.y": "a"}), Sweep("two", {"own.y": 1})], None)
    with pytest.raises(SweepError, match="upper and lower case"):
        own_types.check([Sweep("next", {"own.X": 1})], store)


def test_numbers_of_stored_trials_are_kept_for_numbers_equal_up_to_rounding(store):

    sweep = Sweep("own", axes={"own.x": (0.3, 0.5)})
    settled(store, *sweep)
    write_wanted(sweep, sweep.trials, store)
    replay = Replay(Sweep("own", axes={"own.x": (0.1 + 0.2, 0.5)}), store)
    assert [trial.trial_id for trial in replay.trials] == [trial.trial_id for trial in sweep] and replay.missing() == []
    assert replay.remarks == ["own: own.x = 0.30000000000000004 is replaced by 0.3, the value of its stored trials."]


def test_an_unknown_own_column_is_told_with_the_nearest(store):
    settled(store, of(temperature=1))
    with pytest.raises(QueryError, match=r"no column 'own.temperature'. Did you mean 'own_temperature'"):
        memsweep.sql("select own.temperature from trials", store.results)


def test_parts_of_trials_without_own_fields_are_as_before(store):
    settled(store, TrialConfig())
    (part,) = store.parts("trials")
    assert pq.read_schema(part).names == SCHEMAS["trials"].names == store.trials().column_names


# Analysis


def test_own_fields_vary_in_figures(store):
    from memsweep.analysis.core import frames

    sweep = Sweep("own", {"own.heads": 2}, axes={"own.drop_rate": (0.5, None), "own.kind": ("a", "b")})
    settled(store, *sweep.trials[:3])
    write_wanted(sweep, sweep.trials, store)
    rows = frames.read(frames.TRIALS, "own", store)
    assert frames.varying(rows) == ["own_drop_rate", "own_kind"]
    assert rows["own_heads"].tolist() == [2] * 4 and rows["status"].tolist() == ["finished"] * 3 + ["missing"]
    assert frames.labels(rows, frames.varying(rows)).iloc[0] == "drop rate 0.5, kind a"
    assert rows["own_kind"].tolist() == ["a", "b", "a", "b"]


# A user's code


class Scaled(nn.Module):
    """A network whose outputs are scaled by own.scale."""

    def __init__(self, model, input_dim, classes, own):
        super().__init__()
        self.layer, self.scale = nn.Linear(input_dim, classes), own.scale

    def forward(self, inputs):
        return self.scale * self.layer(inputs)


def power(parameters, inputs, logits, own):
    return sum(value.abs().pow(own.power).sum() for value in parameters.values())


def squares(parameters, inputs, logits):
    return sum(value.abs().pow(2.0).sum() for value in parameters.values())


def shifted(config, rng, own):
    inputs = rng.standard_normal((200, 4)) + own.shift
    return inputs, (inputs[:, 0] > own.shift).astype(int)


TINY = {
    "data.task": "tests.test_own:shifted",
    "data.examples": 64,
    "data.validation_examples": 32,
    "optimizer.batch_size": 16,
    "optimizer.epochs": 2,
    "own.shift": 0.5,
}
NET = {"model.family": "tests.test_own:Scaled", "own.scale": 2.0}
PENALIZED = {
    "regularization.penalty": "tests.test_own:power",
    "regularization.penalty_strength": 0.01,
    "own.power": 2.0,
}


@pytest.mark.parametrize(
    ("mode", "compiled"),
    [("fused", False), ("serial", False), pytest.param("fused", True, marks=pytest.mark.slow)],
)
def test_network_and_penalty_read_own_fields(mode, compiled):
    trial = TrialConfig.of({**TINY, **NET, **PENALIZED, "compute.dtype": "float64"})
    program = trainer.compose([trial], mode=mode, compiled=compiled)
    run = alone(trial, program)
    if compiled:
        assert compilation.is_compiled(program)  # torch could compile hooks that read own
    model, _ = plain.train(trial, int(run.state.step[0]))
    for name, value in model.named_parameters():
        torch.testing.assert_close(run.state.parameters[name][0], value, rtol=0, atol=1e-12 if compiled else 0)
    same = alone(trial.with_fields({"regularization.penalty": "tests.test_own:squares"}), program)
    assert weights_fingerprint(run.state, 0) == weights_fingerprint(same.state, 0)  # of power 2, by another function
    others = [trial.with_fields({name: 1.5}) for name in ("own.scale", "own.power")]
    runs = [alone(other, trainer.compose([other], mode=mode, compiled=compiled)) for other in others]
    assert len({weights_fingerprint(one.state, 0) for one in (run, *runs)}) == 3


def test_programs_with_other_values_are_not_taken_for_each_other():
    one, two, same = (trainer.compose([TrialConfig.of({**TINY, **NET, "own.scale": x})]) for x in (1.0, 2.0, 1.0))
    assert one.key == same.key != two.key


def test_a_task_reads_own_fields():
    one, other, same = (
        TrialConfig.of({**TINY, "own.shift": shift, "own.unread": n}) for n, shift in enumerate((0.5, 3.0, 0.5))
    )
    assert tasks.load(other).inputs.mean() - tasks.load(one).inputs.mean() == pytest.approx(2.5, abs=1e-6)
    assert tasks.load(one).fingerprint == tasks.load(same).fingerprint
    assert tasks.split_name(one) != tasks.split_name(other)
    assert tasks.check(one) == [] and tasks.repeat_problems([one, other]) == []


def test_a_hook_that_takes_no_own_is_called_as_before():
    trial = TrialConfig.of({"own.x": 1, "model.family": "tests.cases:HalfFrozen"})
    assert isinstance(models.build(trial, 4, 2), nn.Module)
    assert bound(squares, trial.own) is squares
    assert tasks.split_name(trial) == tasks.split_name(TrialConfig())


def test_a_missing_field_ends_with_its_name(store):
    trial = TrialConfig.of({**TINY, "model.family": "tests.test_own:Scaled"})
    with pytest.raises(AttributeError, match=r"own.scale: .* it is given own.shift. Set own.scale in the sweep"):
        models.build(trial, 4, 2)


def test_a_changed_task_is_noticed_by_the_trials_with_its_own_values(store, monkeypatch):
    trials = [TrialConfig.of({**TINY, "own.shift": shift}) for shift in (0.5, 3.0)]
    writer = PackWriter(store, "pack")
    for trial in trials:
        writer.enter(trial)
        writer.settle(trial, Status.FINISHED, {"cause": None, "data_fingerprint": tasks.load(trial).fingerprint})
    writer.flush()
    assert sources.changed(trials, store) == []


def test_a_pack_with_own_fields_is_stored_and_verified(store):
    sweep = Sweep("own", {**TINY, **NET, **PENALIZED}, axes={"own.power": (1.0, 2.0)}, seeds=(0, 1))
    trials = Replay(sweep, store).missing()
    write_wanted(sweep, trials, store)
    for pack in make_packs(trials, 1, 2):
        list(run_pack(pack, store))
    rows = store.trials(["own_power", "status", "cause"]).to_pylist()
    assert [row["status"] for row in rows] == ["finished"] * 4, rows
    assert sorted(row["own_power"] for row in rows) == [1.0, 1.0, 2.0, 2.0]
    assert {verdict.outcome for verdict in verify(store, sample=4, own_code=True)} == {EXACT}
    assert Replay(sweep, store).missing() == []


# MLflow and the command line


def test_own_fields_are_parameters_in_mlflow(store):
    sweep = Sweep("own", {"own.heads": 2}, axes={"own.drop_rate": (0.5, None)})
    write_wanted(sweep, sweep.trials, store)
    (made,) = projection.plans(store.current("wanted"))
    assert made.varying == ("own.drop_rate",) and made.shared["own.heads"] == "2"
    parameters = [wanted.parameters for wanted in made.trials.values()]
    assert [(one["own.drop_rate"], one["own.heads"]) for one in parameters] == [("0.5", "2"), ("None", "2")]


LAB = f"from torch import nn\n\n{inspect.getsource(Scaled)}"
SWEEP = """
from memsweep import Sweep
BASE = {"model.family": "my_own_lab:Scaled", "own.kind": "plain", "data.examples": 100, "optimizer.epochs": 2}
SWEEP = Sweep("scales", BASE, axes={"own.scale": (1, 0.5)}, seeds=(0, 1))
"""


def test_a_launch_trains_each_value_and_refuses_another_type(tmp_path, monkeypatch):
    (tmp_path / "my_own_lab.py").write_text(LAB)
    (tmp_path / "scales.py").write_text(SWEEP)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    sweep, where = tmp_path / "scales.py", ("--results", tmp_path / "results")
    done = memsweep_("launch", sweep, *where, "--tracking-uri", "none")
    assert done.returncode == 0, done.stderr
    assert "4 of 4 trials finished, 4 of them run now" in done.stderr
    statement = (
        "select own_scale, own_kind, count(*) as n from trials where status = 'finished' group by all order by 1"
    )
    rows = memsweep_("query", statement, *where, "--format", "jsonl").stdout.splitlines()
    assert list(map(json.loads, rows)) == [{"own_scale": scale, "own_kind": "plain", "n": 2} for scale in (0.5, 1.0)]
    checked = memsweep_("verify", "--own-code", *where)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    missing = memsweep_("missing", sweep, *where, "--set", "own.scale=0.5,1,2", "--format", "jsonl").stdout.splitlines()
    assert len(missing) == 2  # of the new value
    refused = memsweep_("launch", sweep, *where, "--set", "own.scale=large")
    assert refused.returncode == 2 and "own.scale = 'large' (scales: axis 'own.scale') is a text" in refused.stderr
    assert memsweep_("compact", *where).returncode == 0
    assert len(memsweep.table("trials", tmp_path / "results")) == 4
