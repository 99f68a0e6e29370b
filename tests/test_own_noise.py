"""Noise of a user's: on training examples alone, stored per example as it really changed them."""

import random

import numpy as np
import pytest

from memsweep.check.verification import EXACT, verify
from memsweep.data import tasks
from memsweep.data.texts import DataError
from memsweep.results.storage.store import Store
from memsweep.run import plan
from memsweep.run.packing import Pack, program_key
from memsweep.run.rounds.definition import write_wanted
from memsweep.run.worker.execution import run_pack
from memsweep.spec.config import ConfigError
from memsweep.spec.sweep import Sweep, SweepError
from tests.cases import trial


def flip(inputs, labels, fraction, rng, own):
    """The next class of some examples of one class, and darker inputs of the first three examples."""
    chosen = (rng.random(len(labels)) < fraction) & (labels == own.flipped)
    inputs[:3] *= 0.5
    return inputs, np.where(chosen, (labels + 1) % 10, labels)


def same(inputs, labels, fraction, rng):
    return inputs, labels


def short(inputs, labels, fraction, rng):
    return inputs[:5], labels


def undefined(inputs, labels, fraction, rng):
    return inputs * np.nan, labels


def eleventh(inputs, labels, fraction, rng):
    return inputs, labels + 10


def real(inputs, labels, fraction, rng):
    return inputs, labels + 0.5


def alone(inputs, labels, fraction, rng):
    return inputs


def unseeded(inputs, labels, fraction, rng):
    return inputs + random.random(), labels


def here(function):
    return f"tests.test_own_noise:{function.__name__}"


def of(function, **fields):
    return trial(**{"data__noise_kind": here(function), "data__noise_fraction": 0.5, "own__flipped": 3} | fields)


def test_only_training_examples_change_and_what_changed_is_marked():
    clean, noisy = (tasks.load(t) for t in (of(flip, data__noise_fraction=0.0), of(flip)))
    other_labels, other_inputs = noisy.labels != clean.labels, (noisy.inputs != clean.inputs).any(1)
    assert other_inputs[:3].all() and not other_inputs[3:].any()
    assert 0 < other_labels.sum() < (clean.labels == 3).sum() and (clean.labels[other_labels] == 3).all()
    assert (noisy.corrupted == (other_labels | other_inputs)).all() and (noisy.true_labels == clean.labels).all()
    assert not clean.corrupted.any()
    for part in ("held_out_inputs", "held_out_labels"):
        assert np.array_equal(getattr(noisy, part), getattr(clean, part))
    assert noisy.fingerprint != clean.fingerprint and noisy.input_range == clean.input_range


def test_the_stream_and_own_fields_decide():
    one = tasks.load(of(flip))
    same_stream = tasks.load(of(flip, seeds__init=7))
    assert same_stream.fingerprint == one.fingerprint
    assert tasks.load(of(flip, seeds__noise=7)).fingerprint != one.fingerprint
    assert tasks.load(of(flip, own__flipped=4)).fingerprint != one.fingerprint
    assert tasks.load(of(same, own__flipped=4)) is not None and not tasks.load(of(same)).corrupted.any()
    assert of(flip).imports == (here(flip),) and of(flip).trial_id != of(same).trial_id
    assert program_key(of(same)) == program_key(trial(own__flipped=3))  # data is a vector over members


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (short, "returns inputs float32 (5, 64); must return finite numbers of shape (90, 64)"),
        (undefined, "must return finite numbers of shape (90, 64)"),
        (eleventh, "returns labels int64 (90,); must return whole numbers from 0 to 9"),
        (real, "returns labels float64 (90,); must return whole numbers from 0 to 9"),
        (alone, "ValueError: too many values to unpack"),
        (unseeded, "two calls with the same rng return different data"),
    ],
)
def test_noise_that_returns_something_else_is_refused(function, words):
    with pytest.raises(SweepError) as caught:
        plan.check([of(function), trial()])
    (problem,) = caught.value.problems
    assert problem.startswith(f"data.noise_kind = {here(function)!r}: ") and words in problem
    assert plan.check([of(flip), of(same)]) == []


def test_noise_of_tasks_with_targets_is_refused():
    with pytest.raises(ConfigError, match="the task has targets, no labels"):
        trial("gru, adding, truncated", data__noise_kind=here(same), data__noise_fraction=0.5)


def test_noise_that_raises_ends_its_own_trials_alone(tmp_path):
    trials = [of(alone, seed=0), of(flip, seed=1), of(alone, seed=2)]
    store = Store(tmp_path / "results", create=True)
    list(run_pack(Pack(tuple(trials), 3), store))
    rows = store.trial_rows([t.trial_id for t in trials])
    assert [rows[t.trial_id]["status"] for t in trials] == ["failed", "finished", "failed"]
    assert "DataError: data.noise_kind = " in rows[trials[0].trial_id]["cause"]
    with pytest.raises(DataError, match="ValueError: too many"):
        tasks.load(trials[0])


def test_a_pack_is_stored_per_example_and_verified(tmp_path):
    store, sweep = Store(tmp_path / "results", create=True), Sweep("s", of(flip, probes=("examples",)), seeds=range(2))
    write_wanted(sweep, sweep.trials, store)
    list(run_pack(Pack(tuple(sweep.trials), 2), store))
    for one in sweep:
        data = tasks.load(one)
        rows = sorted(
            (r for r in store.current("examples").to_pylist() if r["trial_id"] == one.trial_id),
            key=lambda r: r["example"],
        )
        assert [row["corrupted"] for row in rows] == data.corrupted.tolist()
        assert [row["given_label"] for row in rows] == data.labels.tolist()
        (end,) = store.trial_rows([one.trial_id]).values()
        assert (end["corrupted_count"], end["label_changed_count"]) == (
            data.corrupted.sum(),
            (data.labels != data.true_labels).sum(),
        )
    assert [verdict.outcome for verdict in verify(store, own_code=True)] == [EXACT] * 2
