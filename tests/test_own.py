"""Own hyperparameters: fields `own.<name>` of a trial, their columns, and what a user's code reads as `own`."""

import json
import math
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

import memsweep
from memsweep import Sweep, TrialConfig
from memsweep.results import own_types
from memsweep.results.compaction import compact
from memsweep.results.query import QueryError
from memsweep.results.storage.store import Store
from memsweep.run.packing import Pack, by_program
from memsweep.run.rounds.replay import Replay
from memsweep.run.worker.writer import PackWriter
from memsweep.spec.config import ConfigError, trial_id_of
from memsweep.spec.overrides import parse_overrides
from memsweep.spec.schema import SCHEMAS, Status
from memsweep.spec.search import BestSearch, Range
from memsweep.spec.sweep import SweepError
from memsweep.spec.sweep_files import load_sweep

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
    assert store.damaged() == []


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
    from memsweep.run.rounds.definition import write_wanted

    sweep = Sweep("own", axes={"own.x": (0.3, 0.5)})
    settled(store, *sweep)
    write_wanted(sweep, sweep.trials, store)
    replay = Replay(Sweep("own", axes={"own.x": (0.1 + 0.2, 0.5)}), store)
    assert replay.trials.keys() == {trial.trial_id for trial in sweep} and replay.missing() == []
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
    from memsweep.run.rounds.definition import write_wanted

    sweep = Sweep("own", {"own.heads": 2}, axes={"own.drop_rate": (0.5, None), "own.kind": ("a", "b")})
    settled(store, *sweep.trials[:3])
    write_wanted(sweep, sweep.trials, store)
    rows = frames.read(frames.TRIALS, "own", store)
    assert frames.varying(rows) == ["own_drop_rate", "own_kind"]
    assert rows["own_heads"].tolist() == [2] * 4 and rows["status"].tolist() == ["finished"] * 3 + ["missing"]
    assert frames.labels(rows, frames.varying(rows)).iloc[0] == "drop rate 0.5, kind a"
    assert rows["own_kind"].tolist() == ["a", "b", "a", "b"]
