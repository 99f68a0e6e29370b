"""Addresses of sweeps on an MLflow server."""

from __future__ import annotations

from mlflow import MlflowClient

from memsweep.results.mlflow import views


def pages(uri: str) -> dict[str, str]:
    """Returns sweep -> path of its page on an MLflow server, with memsweep's view of the runs."""
    paths = {}
    for experiment in MlflowClient(uri).search_experiments(order_by=["last_update_time DESC"]):
        if views.TRIALS in experiment.tags:
            key = views.TRIALS.removeprefix("mlflow.sharedViewState.")
            place = (
                f"/#/experiments/{experiment.experiment_id}/runs"  # without /runs, MLflow opens a page on generative AI
            )
            paths[experiment.name] = f"{place}?workflowType=machine_learning&viewStateShareKey={key}"
    return paths
