"""Content of MLflow's runs, computed from rows of the tables: a run per trial, and a parent run per sweep.

This file does not import MLflow.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import pyarrow as pa

from memsweep.results.trial_state import FAILED, NOT_STORED, RETRIED, SETTLED, end_of, is_failed, state
from memsweep.results.wanted import records
from memsweep.spec.config import RECORDED, TrialConfig
from memsweep.spec.numerals import texts
from memsweep.spec.options import SHARES, SHARES_AT_END
from memsweep.spec.schema import Status, cell, error_line

CURVE_POINTS = 100
"""Most points of a curve; a longer curve is thinned and keeps its last point: a trial must fit one call of MLflow."""
MOST_POINTS = 980
"""Most points of all curves of a trial: MLflow takes 1,000 values per call, including values at the end."""
MOST_OWN_CURVES = 200
"""Most curves of the user's metrics of a trial."""
LONGEST_NAME = 250
"""Most characters of a run's name that every database of MLflow can hold."""
LONGEST_TAG = 5000
"""Most characters of a tag that every MLflow server accepts."""
ONLY_SETTING = "the only setting"

CURVES = (*SHARES, "gradient_norm")
"""Metrics that have a value at every measurement."""
NUMBERS_AT_END = ("fitted_step", "solved_step")
AT_END = 0
"""Step of metrics with one value per run: MLflow draws a bar at step 0, and a dot at any other step."""

SHORT = {
    "data.noise_fraction": "noise",
    "data.examples": "n",
    "data.sequence_length": "T",
    "model.width": "w",
    "model.depth": "d",
    "optimizer.learning_rate": "lr",
    "optimizer.batch_size": "bs",
    "optimizer.epochs": "ep",
    "regularization.weight_decay": "wd",
    "regularization.penalty_strength": "pen",
}
"""Field -> abbreviation in names of runs, of which pages show about twenty characters. Default: the field's leaf."""

_ENDS = {status: "FINISHED" for status in SETTLED} | {status: "FAILED" for status in RETRIED}
RUN_STATUS = {status.value: _ENDS.get(status, "KILLED") for status in Status}
"""Status of a trial -> MLflow's status of its run."""


class Point(NamedTuple):
    """One value of a metric."""

    key: str
    value: float
    milliseconds: int  # since 1970; computed from the tables only, so that writing it again changes nothing
    step: int


class Curve(NamedTuple):
    """The values of one metric of a run, in lists of equal length; none is empty."""

    values: list[float]
    milliseconds: list[int]
    steps: list[int]


class Wanted(NamedTuple):
    """A trial as its sweep wants it."""

    trial_id: str
    setting_id: str
    seed: int | None
    setting: str  # fields that distinguish it from the sweep's other settings, for people
    short: str  # the setting, abbreviated
    parameters: dict[str, str]
    records: frozenset[str] = frozenset()  # what it must record beside its measurements

    @property
    def name(self) -> str:
        """Returns the name of the run: abbreviated setting and seed."""
        return f"{self.short} s{self.seed}".strip()[-LONGEST_NAME:]


@dataclass(frozen=True)
class Plan:
    """The trials and parameters that a sweep wants."""

    sweep: str
    trials: dict[str, Wanted]  # by trial_id
    varying: tuple[str, ...]  # fields that distinguish settings
    shared: dict[str, str]  # every other field, in full

    @cached_property
    def csv(self) -> str:
        """Returns CSV text with the columns trial_id, setting and seed, a line per trial."""
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\n")
        lines.writerow(["trial_id", "setting", "seed"])
        lines.writerows([trial.trial_id, trial.setting, trial.seed] for trial in self.trials.values())
        return text.getvalue()

    @cached_property
    def digest(self) -> str:
        """Returns the hash of the plan's content."""
        return digest(json.dumps([self.csv, self.varying, self.shared]).encode())

    def counts(self, ends: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
        """Returns the numbers of wanted, finished (settled), failed and missing trials.  ends: trial_id -> its row."""
        stored = {trial: end_of(ends[trial]) for trial in self.trials if trial in ends}
        states = Counter(state(stored.get(id_, NOT_STORED), trial.records) for id_, trial in self.trials.items())
        finished, failed, wanted = sum(states[status] for status in SETTLED), states[FAILED], len(self.trials)
        return {
            "wanted_count": wanted,
            "finished_count": finished,
            "failed_count": failed,
            "missing_count": wanted - finished - failed,
        }


@dataclass(frozen=True)
class TrialRun:
    """Everything that MLflow holds of a trial."""

    name: str
    started: int  # milliseconds since 1970
    ended: int
    status: str  # MLflow's
    tags: dict[str, str]
    parameters: dict[str, str]
    curves: dict[str, Curve]  # by key

    @property
    def points(self) -> list[Point]:
        """Returns all values of all metrics."""
        return [Point(key, *point) for key, curve in self.curves.items() for point in zip(*curve, strict=True)]


def shares_of(plan: Plan) -> list[str]:
    """Returns the metrics that trials of a sweep have; metrics of targets only if the sweep has sequences."""
    reads_steps = plan.shared.get("data.sequence_length") != "0"
    names = [*CURVES, *SHARES_AT_END]
    return [name for name in names if reads_steps or not ("target" in name or "squared" in name)]


def plans(wanted: pa.Table) -> list[Plan]:
    """Returns one plan per sweep, from the rows of `wanted`."""
    sweeps: dict[str, list[dict[str, Any]]] = {}
    for row in wanted.to_pylist():
        sweeps.setdefault(row["sweep"], []).append(row)
    return [_plan(sweep, rows) for sweep, rows in sorted(sweeps.items())]


def trial_run(sweep: str, wanted: Wanted, trial: Mapping[str, Any], curves: Mapping[str, Curve]) -> TrialRun:
    """Returns the run of a trial, from its row of `trials` and the curves of its measurements."""
    ended = milliseconds(trial)
    status = trial["status"]
    tags = {
        "trial_id": wanted.trial_id,
        "attempt_id": trial["attempt_id"],
        "setting_id": wanted.setting_id,
        "setting": wanted.setting,
        "status": status,
        "sweep": sweep,
        "pack_id": trial["pack_id"],
        "cause": error_line(trial["cause"]) if is_failed(status) else None,
        "host": trial["host"],
        "code_fingerprint": trial["code_fingerprint"],
        "code_commit": trial["code_commit"],
        "mlflow.source.name": sweep,
        "mlflow.source.type": "LOCAL",
    }
    return TrialRun(
        name=wanted.name,
        started=started(trial),
        ended=ended,
        status=RUN_STATUS[status],
        tags={name: value[:LONGEST_TAG] for name, value in tags.items() if value},
        parameters={**wanted.parameters, **_size(trial)},
        curves={**curves, **_at_end(trial, ended)},
    )


def parent_status(counts: Mapping[str, int], live: bool) -> str:
    """Returns MLflow's status of a sweep's run.  live: whether its trials are in training."""
    if counts["missing_count"]:
        return "RUNNING" if live else "KILLED"
    return "FAILED" if counts["failed_count"] else "FINISHED"


def milliseconds(trial: Mapping[str, Any]) -> int:
    """Returns when a trial ended, in milliseconds since 1970; 1 if its row has no time."""
    return max(1, round(trial["finished_at"].timestamp() * 1000)) if trial["finished_at"] else 1


def started(trial: Mapping[str, Any]) -> int:
    """Returns when a trial began, in milliseconds since 1970; 1 if its row has no time."""
    return max(1, milliseconds(trial) - round((trial["wall_seconds"] or 0.0) * 1000))


def digest(content: bytes) -> str:
    """Returns 16 hexadecimal digits that identify these bytes."""
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def thinned(steps: Sequence[int], count: int = CURVE_POINTS) -> list[int]:
    """Returns at most `count` of these steps, evenly chosen, including the first and the last."""
    if len(steps) <= count:
        return list(steps)
    return [steps[round(i * (len(steps) - 1) / (count - 1))] for i in range(count)]


def _plan(sweep: str, rows: list[dict[str, Any]]) -> Plan:
    rows.sort(key=lambda row: (row["position"] or 0, row["trial_id"]))
    fields = [{name: _text(value) for name, value in json.loads(row["configuration"] or "{}").items()} for row in rows]
    values: dict[str, set[str]] = {}
    for configuration in fields:
        for name, value in configuration.items():
            values.setdefault(name, set()).add(value)
    several = (name for name, texts_of_field in values.items() if len(texts_of_field) > 1 and not _is_seed(name))
    varying = tuple(name for name in several if name != "protocol")  # the protocol follows from other fields
    leaves = _unique_names({name: name.rpartition(".")[2] for name in varying})
    brief = _unique_names({name: SHORT.get(name, name.rpartition(".")[2]) for name in varying})
    written = {name: _written(values[name]) for name in varying}
    trials = {}
    for row, configuration in zip(rows, fields, strict=True):
        fields_of_trial = [(name, configuration[name]) for name in varying if name in configuration]
        trials[row["trial_id"]] = Wanted(
            row["trial_id"],
            row["setting_id"] or "",
            row["seed"],
            " ".join(f"{leaves[name]}={value}" for name, value in fields_of_trial) or ONLY_SETTING,
            " ".join(f"{brief[name]}{written[name][value]}" for name, value in fields_of_trial),
            _parameters(configuration, varying, row["seed"]),
            records(row),
        )
    shared = {
        name: texts_of_field.copy().pop()
        for name, texts_of_field in values.items()
        if len(texts_of_field) == 1 and not _is_seed(name)
    }
    return Plan(sweep, trials, varying, {name: value for name, value in shared.items() if value})


def _unique_names(names: Mapping[str, str]) -> dict[str, str]:
    """Returns full name -> short name, or the full name where the short name is not unique."""
    counts = Counter(names.values())
    return {field: name if counts[name] == 1 else field for field, name in names.items()}


def _written(values: Iterable[str]) -> dict[str, str]:
    """Returns value of a field (as `_text`) -> its text after the field in a run's name: 0.001, 1e-6, =mlp."""
    given = sorted(values)
    try:
        numbers = [text.replace("e-0", "e-").replace("e+0", "e") for text in texts(map(float, given))]
        return dict(zip(given, numbers, strict=True))
    except ValueError:  # not all are numbers
        leaves = _unique_names({value: value.rpartition(":")[2] for value in given})
        return {value: f"={leaf}" for value, leaf in leaves.items()}


def _parameters(configuration: Mapping[str, str], varying: tuple[str, ...], seed: int | None) -> dict[str, str]:
    """Returns varying fields, fields that differ from their defaults, and seeds; the sweep's run has all others."""
    parameters = {
        name: value
        for name, value in configuration.items()
        if not _is_seed(name) and value and (name in varying or value != _DEFAULTS.get(name, ""))
    }
    streams = {name: value for name, value in configuration.items() if name.startswith("seeds.") and value != str(seed)}
    return {**parameters, "seed": str(seed), **streams}


def _size(trial: Mapping[str, Any]) -> dict[str, str]:
    """Returns the number of trained parameters, if stored; a parameter in MLflow, because it is not a curve."""
    count = trial["parameter_count"]
    return {} if count is None else {"parameter_count": str(count)}


def _is_seed(name: str) -> bool:
    """Returns whether a field is a seed or selects what is recorded, which does not distinguish settings."""
    return name.startswith("seed") or name in RECORDED


def _text(value: Any) -> str:
    """Returns a field's value for people: 0.45, 1e-06, 0.9,0.999."""
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return str(cell(tuple(value) if isinstance(value, list) else value))


_DEFAULTS = {name: _text(value) for name, value in TrialConfig().flat().items()}


def _at_end(trial: Mapping[str, Any], ended: int) -> dict[str, Curve]:
    """Returns the metrics with one value per run.  ended: milliseconds since 1970."""
    values = {name: share(trial, *columns) for name, columns in SHARES_AT_END.items()}
    values |= {name: trial[name] for name in NUMBERS_AT_END}
    points = [point for name, value in values.items() for point in _point(name, value, ended, AT_END)]
    return {point.key: Curve(*([number] for number in point[1:])) for point in points}


def points_of(row: Mapping[str, Any], step: int, when: int) -> list[Point]:
    """Returns the metrics of a measurement.  row: of `live`.  when: milliseconds since 1970."""
    values = {name: share(row, *columns) for name, columns in SHARES.items()}
    values["gradient_norm"] = row.get("gradient_norm")
    return [point for name, value in values.items() for point in _point(name, value, when, step)]


def _point(name: str, value: float | None, when: int, step: int) -> list[Point]:
    """Returns a list with one point, or [] without a finite value."""
    return [Point(name, float(value), when, step)] if value is not None and math.isfinite(value) else []


def share(row: Mapping[str, Any], total: str, count: str) -> float | None:
    """Returns a sum of a row divided by a count; None if either is absent, or the count is 0."""
    return row[total] / row[count] if row[total] is not None and row[count] else None
