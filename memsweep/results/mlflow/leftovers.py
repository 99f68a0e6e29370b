"""Deletes from MLflow what it holds of sweeps that were forgotten. This file does not import MLflow."""

from __future__ import annotations

from typing import Any

from memsweep.results.storage.store import Store


def delete(client: Any, store: Store) -> int:
    """Deletes the runs of forgotten sweeps, and their experiments unless another folder has runs there.

    client: an MlflowClient.  Returns the number of deleted runs.
    """
    if not store.parts("forgotten"):
        return 0
    now = set(store.current("wanted", ["sweep"])["sweep"].to_pylist())
    count = 0
    for sweep in sorted(set(store.read("forgotten", ["sweep"])["sweep"].to_pylist()) - now):
        experiment = client.get_experiment_by_name(sweep)
        if experiment is None or experiment.lifecycle_stage == "deleted":
            continue
        ours = f"tags.results = '{store.identity()}'"
        while runs := client.search_runs([experiment.experiment_id], ours):
            for run in runs:
                client.delete_run(run.info.run_id)
            count += len(runs)
        if not client.search_runs([experiment.experiment_id], max_results=1):
            client.delete_experiment(experiment.experiment_id)
    return count
