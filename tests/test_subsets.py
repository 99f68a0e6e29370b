"""Subsets of a shared pool, and the probe `memorization`: what trials share, and whose answers the table holds."""

import numpy as np
import pandas as pd
import pytest

from memsweep import TrialConfig
from memsweep.analysis.claims import feldman2020
from memsweep.analysis.core import catalog, frames
from memsweep.analysis.questions import memorization
from memsweep.data import tasks
from memsweep.results.storage.store import Store
from memsweep.run.packing import Pack
from memsweep.run.worker.execution import run_pack
from memsweep.spec.config import ConfigError
from tests.test_report import wanted

FIELDS = {
    "data.examples": 70,
    "data.subset_fraction": 0.7,
    "data.validation_examples": 30,
    "data.test_examples": 40,
    "data.noise_kind": "wrong_labels",
    "data.noise_fraction": 0.3,
    "model.width": 32,
    "model.depth": 1,
    "optimizer.batch_size": 10,
    "optimizer.momentum": 0.9,
    "optimizer.epochs": 40,
    "stop.measure_steps": 280,
    "seeds.inputs": 0,
    "seeds.noise": 0,
    "probes": ("memorization",),
}


def trial(seed, **fields):
    return TrialConfig.of({**FIELDS, "seed": seed, **{name.replace("__", "."): v for name, v in fields.items()}})


def test_subsets_share_a_pool_with_its_noise_and_its_held_out_examples():
    one, other = tasks.load(trial(0)), tasks.load(trial(1))
    pool = one.pool
    assert pool.inputs is other.pool.inputs and one.held_out_inputs is other.held_out_inputs
    assert np.array_equal(pool.labels, other.pool.labels)
    assert len(pool.labels) == 100 and len(one.labels) == len(other.labels) == 70
    assert 40 < len(np.intersect1d(one.places, other.places)) < 60 and one.fingerprint != other.fingerprint
    for data in (one, other):
        for name in ("inputs", "labels", "true_labels", "corrupted", "source_index"):
            assert np.array_equal(getattr(data, name), getattr(pool, name)[data.places])
    assert 10 < pool.corrupted.sum() < 50 and np.array_equal(pool.corrupted, pool.labels != pool.true_labels)
    all_of_it = tasks.load(trial(0, data__examples=100, data__subset_fraction=1.0, probes=()))
    assert np.array_equal(all_of_it.labels, pool.labels) and np.array_equal(all_of_it.inputs, pool.inputs)
    assert trial(0, data__subset_fraction=1.0, probes=()).trial_id != trial(0, probes=()).trial_id


def test_answers_in_and_out_of_subsets_sum_to_the_counts_of_their_trials(tmp_path):
    """Pools of two noises and of two sizes, in one pack."""
    store = Store(tmp_path, create=True)
    trials = [
        trial(seed, **more) for seed in (0, 1) for more in ({}, {"seeds__noise": 1}, {"data__subset_fraction": 0.5})
    ]
    for _ in run_pack(Pack(tuple(trials), 4), store):
        pass
    counts = {row["trial_id"]: row for row in store.trials().to_pylist()}
    answers = store.current("memorization").to_pandas()
    for config in trials:
        rows, ends = answers[answers["trial_id"] == config.trial_id], counts[config.trial_id]
        pool, data = rows[rows["part"] == "pool"].sort_values("example"), tasks.load(config)
        assert np.flatnonzero(pool["is_trained"]).tolist() == data.places.tolist()
        assert pool["source_index"].tolist() == data.pool.source_index.tolist()
        assert pool["given_label"].tolist() == data.pool.labels.tolist()
        assert pool.loc[pool["is_trained"], "is_right"].sum() == ends["train_correct_count"] > 50
        for part in ("validation", "test"):
            of_part = rows[rows["part"] == part]
            assert len(of_part) == ends[f"{part}_count"] and of_part["source_index"].isna().all()
            assert of_part["is_right"].sum() == ends[f"{part}_correct_count"]
    pool = answers[(answers["part"] == "pool") & answers["corrupted"]]
    assert pool.loc[pool["is_trained"], "is_right"].mean() > pool.loc[~pool["is_trained"], "is_right"].mean() + 0.3


def test_scores_of_a_sweep_are_read_from_its_subsets(tmp_path):
    """The queries of the figures and of the claims, against the same shares taken from the table."""
    store, trials = Store(tmp_path, create=True), [trial(seed) for seed in range(48)]
    for _ in run_pack(Pack(tuple(trials), 48), store):
        pass
    store.write("wanted", [wanted("mine", i, one) | {"probes": "memorization"} for i, one in enumerate(trials)])
    assert "mine-memorization-" in catalog.modules_of("mine", store)
    answers = store.current("memorization").to_pandas()
    pool = answers[answers["part"] == "pool"]
    shares = pool.groupby(["example", "is_trained"])["is_right"].mean().unstack()
    kinds = pool.groupby("example")["corrupted"].first()
    expected = (shares[True] - shares[False]).groupby(kinds).mean()
    summary = memorization.summarize(frames.read(memorization.QUERY, "mine", store))
    means = summary[summary["quantity"] == memorization.SCORE].set_index("group")
    assert means.loc[memorization.WRONG, "estimate"] == pytest.approx(expected[True]) and expected[True] > 0.3
    assert means.loc[memorization.TRUE, "estimate"] == pytest.approx(expected[False])
    assert means["seeds"].tolist() == [48, 48] and (means["low"] < means["estimate"]).all()
    rows = frames.read(feldman2020.ROWS, "mine", store)
    assert rows["seed"].tolist() == list(range(feldman2020.BLOCKS)) and rows["trial_id"].is_unique
    halves = []
    for half in (0, 1):  # of the first of 12 blocks: every 24th subset
        of_half = pool[pool["trial_id"].isin([trials[half].trial_id, trials[half + 24].trial_id])]
        shares = of_half.pivot_table(index="example", columns="is_trained", values="is_right")
        halves.append(shares[True] - shares[False])
    of_block = pd.concat(halves, axis=1).mean(axis=1).groupby(kinds).mean()
    assert rows["wrong_score"].iloc[0] == pytest.approx(of_block[True])
    assert rows["true_score"].iloc[0] == pytest.approx(of_block[False])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"data.subset_fraction": 1.0}, "set data.subset_fraction below 1"),
        ({"data.subset_fraction": 0.0}, "must lie in (0, 1]"),
        ({"data.repeats": (3,)}, "set data.repeats to ()"),
        ({"data.label_scheme": "unique", "data.validation_examples": 0, "data.test_examples": 0}, "lacks classes"),
    ],
)
def test_a_subset_that_can_not_be_is_refused(fields, message):
    with pytest.raises(ConfigError, match="subset_fraction") as caught:
        TrialConfig.of({**FIELDS, **fields})
    assert message in str(caught.value)


def flipped(inputs, labels, fraction, rng):
    return inputs, np.where(rng.random(len(labels)) < fraction, (labels + 1) % 10, labels)


def test_a_users_noise_is_tried_on_the_whole_pool():
    """As it is called when the trial's data is loaded."""
    noisy = trial(0, data__noise_kind="tests.test_subsets:flipped", data__label_scheme="random")
    assert tasks.repeat_problems([noisy]) == []


def test_a_pool_larger_than_the_task_is_refused():
    (problem, remark) = tasks.check(trial(0, data__subset_fraction=0.01))
    assert "7070 examples in all" in problem and "data.subset_fraction = 0.01" in remark
