"""MLflow's page of an experiment: its columns, order and charts. This file does not import MLflow."""

from __future__ import annotations

import json
from typing import Any

from memsweep.results.mlflow import projection
from memsweep.results.mlflow.projection import Plan
from memsweep.results.notes import Remarks

TRIALS = "mlflow.sharedViewState.memsweep-trials"
"""Tag of the view of trials; its last part is the view's key in addresses."""
SETTINGS = "mlflow.sharedViewState.memsweep-settings"


def views(plan: Plan) -> dict[str, str]:
    """Returns tag -> view of the experiment's page in MLflow: all trials, and means over seeds by setting.

    Runs are ordered by setting, because the page loads a hundred runs at a time and groups only loaded runs. (Unless
    ordered by time, the page shows trials outside their parent, so the parent is left out.) Charts of curves come
    first; the page adds charts of metrics with one value per run.
    """
    columns = [
        *(f"params.`{name}`" for name in (*plan.varying, "seed")),
        *(f"metrics.`{name}`" for name in projection.shares_of(plan)),
        "tags.`status`",
    ]
    table = {
        "selectedColumns": columns,
        "orderByKey": "tags.`setting`",
        "orderByAsc": True,
        "searchFilter": "tags.role = 'trial'",
        "compareRunSections": [
            {"uuid": name.lower(), "name": name, "display": True, "isReordered": False, "isGenerated": True}
            for name in ("Curves", "Model metrics")
        ],
        "compareRunCharts": [_chart(name) for name in projection.CURVES if name in projection.shares_of(plan)],
    }
    by_setting = {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": "setting"}]}
    contents = {TRIALS: ("Trials", table), SETTINGS: ("Settings", {**table, "groupBy": by_setting})}
    return {
        tag: json.dumps({"name": name, "createdAt": 1, "updatedAt": 1, "state": json.dumps(state)})
        for tag, (name, state) in contents.items()
    }


def remarks(remarks: Remarks) -> dict[str, str]:
    """Returns tag -> text of the experiment's page for notes, which it shows as its description, and tags."""
    return {"mlflow.note.content": "\n\n".join(text for _, text in remarks.notes), "tags": ", ".join(remarks.tags)}


def _chart(name: str) -> dict[str, Any]:
    """Returns a chart with a line per run, in the format of MLflow's experiment page."""
    place = {"uuid": f"curve-{name}", "metricSectionId": "curves", "deleted": False, "isGenerated": True}
    what = {"type": "LINE", "metricKey": name, "displayName": name, "runsCountToCompare": 10}
    axes = {"xAxisKey": "step", "xAxisScaleType": "linear", "scaleType": "linear", "yAxisKey": "metric"}
    return {
        **place, **what, **axes, "range": {}, "lineSmoothness": 0, "selectedXAxisMetricKey": "",
        "yAxisExpressions": [], "ignoreOutliers": False, "useGlobalXaxisKey": True, "useGlobalLineSmoothing": True,
    }  # fmt: skip
