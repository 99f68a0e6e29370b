"""What Tune is told, for as many workers as a cluster may have."""

import os
from types import SimpleNamespace

import pytest

from memsweep.launch import tune
from memsweep.launch.packing import Pack
from memsweep.results.store import Store
from memsweep.sweep import load_sweep


@pytest.fixture
def told(monkeypatch, tmp_path):
    """What Tune is told when so many workers are launched."""
    monkeypatch.setenv("TUNE_MAX_PENDING_TRIALS_PG", "16")
    asked = {}

    class Tuner:
        def __init__(self, trainable, *, tune_config, run_config):
            asked["config"] = tune_config

        def fit(self):
            asked["starting"] = os.environ["TUNE_MAX_PENDING_TRIALS_PG"]

    monkeypatch.setattr(tune.tune, "Tuner", Tuner)

    def run(workers):
        packs = [Pack(load_sweep("smoke").trials, 4)]
        driver = SimpleNamespace(reached=lambda packs: [0 for _ in packs])
        tune.run(packs, Store(tmp_path, create=True), "cpu", workers, None, tune.Care(30, 600), driver)
        return asked

    return run


def test_all_workers_of_a_cluster_start_at_once(told):
    """Else each pack that ends keeps one of the few that are starting from ever doing so."""
    asked = told(200)
    assert asked["starting"] == "200" and asked["config"].max_concurrent_trials == 200


@pytest.mark.parametrize("workers, seconds", [(1, 1.0), (50, 1.0), (200, 4.0), (1000, 20.0)])
def test_the_driver_is_told_fifty_times_a_second_at_most(told, workers, seconds):
    assert told(workers)["config"].search_alg.settings["report_seconds"] == seconds
